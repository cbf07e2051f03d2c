/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_http1.c - any bytes of both sides, in any pieces, with holes: borders do not depend on how the bytes are cut.
 *
 * Input: steps of one head byte and data. Bit 7: side; bit 6: a hole instead of data; bits 0-5: length. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/http1.h"

#define CHECK(cond)                                                             \
	do {                                                                    \
		if (!(cond)) {                                                  \
			fprintf(stderr, "%d: not true: %s\n", __LINE__, #cond); \
			abort();                                                \
		}                                                               \
	} while (0)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void feed(struct http1 *h, enum side side, const uint8_t *p, size_t len, size_t step)
{
	while (len) {
		size_t n = len < step ? len : step, got;
		unsigned ev;

		got = http1_feed(h, side, p, n, &ev);
		CHECK(got >= 1 && got <= n);
		CHECK(!(ev & HTTP1_MSG_END) || http1_at_border(h, side));
		CHECK(got == n || ev || http1_at_border(h, side));
		p += got;
		len -= got;
	}
	CHECK(http1_outstanding(h) <= HTTP1_QUEUE && http1_unbegun(h) <= http1_outstanding(h));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct http1 whole, cut;

	http1_init(&whole);
	http1_init(&cut);
	while (len > 1) {
		enum side side = data[0] & 0x80 ? SIDE_SERVER : SIDE_CLIENT;
		size_t n = data[0] & 0x3f;
		bool hole = data[0] & 0x40;

		data++;
		len--;
		if (n > len)
			n = len;
		if (hole) {
			uint64_t size = n ? data[0] : 0;

			CHECK(http1_skip(&whole, side, size) == http1_skip(&cut, side, size));
			if (size & 1) {
				http1_sync(&whole, side);
				http1_sync(&cut, side);
			}
			if (size & 2) {
				http1_forget(&whole);
				http1_forget(&cut);
			}
			continue;
		}
		(void)http1_like_request(data, n);
		(void)http1_like_status(data, n);
		feed(&whole, side, data, n, SIZE_MAX);
		feed(&cut, side, data, n, 1);
		data += n;
		len -= n;
		CHECK(whole.is == cut.is);
		if (whole.is > HTTP1_YES)
			return 0;
		for (int i = 0; i < 2; i++) {
			const struct http1_side *a = &whole.s[i], *b = &cut.s[i];

			CHECK(a->phase == b->phase && a->left == b->left);
			CHECK(http1_in_header(&whole, (enum side)i) == http1_in_header(&cut, (enum side)i));
		}
		CHECK(whole.started == cut.started && whole.done == cut.done);
	}
	return 0;
}
