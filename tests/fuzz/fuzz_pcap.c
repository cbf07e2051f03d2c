/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_pcap.c - any bytes as a classic pcap stream. */
#include <errno.h>
#include <stdlib.h>

#include "common/pcap.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct pcap_stream p = {0};
	volatile uint8_t seen;
	struct packet k;
	size_t off = 0;
	bool packet;
	ssize_t n;

	while ((n = pcap_next_packet(&p, data + off, len - off, &packet, &k)) > 0) {
		if ((size_t)n > len - off)
			abort();
		if (packet && (k.data < data + off || k.data + k.len > data + off + n))
			abort();
		if (packet && k.len > 0)
			seen = (uint8_t)(k.data[0] ^ k.data[k.len - 1]);
		off += (size_t)n;
	}
	(void)seen;
	if (n != -EAGAIN && n != -EBADMSG && n != -E2BIG)
		abort();
	return 0;
}
