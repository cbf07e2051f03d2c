/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_link.c - any bytes as a packet of every link type. */
#include <stdlib.h>

#include "common/link.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	static const int types[] = {0, 1, 12, 14, 101, 108, 113, 276, 9};

	for (size_t i = 0; i < sizeof(types) / sizeof(*types); i++) {
		struct link_frame f;

		if (!link_to_ethernet(types[i], data, len, &f))
			continue;
		if (f.strip > len || (f.head_len != 0 && f.head_len != LINK_ETHER))
			abort();
		if (f.head_len && (f.head[12] << 8 | f.head[13]) != f.proto)
			abort();
		if (f.head_len == 0 && (f.strip != 0 || len < LINK_ETHER))
			abort();
	}
	return 0;
}
