/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_pcapng.c - any bytes as a pcapng stream, and what it holds of our own blocks. */
#include <errno.h>
#include <stdlib.h>

#include "common/local.h"
#include "common/pcapng.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct pcapng p = {0};
	struct pcapng_block b;
	struct local_msg m;
	volatile uint8_t seen;
	size_t off = 0;
	ssize_t n;

	while ((n = pcapng_next(&p, data + off, len - off, &b)) > 0) {
		if (n < 12 || n > PCAPNG_BLOCK_MAX || n % 4 != 0 || (size_t)n > len - off)
			abort();
		if (b.kind == PCAPNG_PACKET) {
			if (b.pkt.data < data + off || b.pkt.data + b.pkt.len > data + off + n)
				abort();
			if (b.pkt.len > 0)
				seen = (uint8_t)(b.pkt.data[0] ^ b.pkt.data[b.pkt.len - 1]);
		}
		if (b.kind == PCAPNG_LOCAL && local_parse(b.body, &m) == 0 && m.kind == BLOCK_HELLO) {
			uint8_t buf[LOCAL_BLOCK_MAX];

			if (local_write(&m, buf) > sizeof(buf))
				abort();
		}
		off += (size_t)n;
	}
	(void)seen;
	if (n != -EAGAIN && n != -EBADMSG && n != -E2BIG)
		abort();
	return 0;
}
