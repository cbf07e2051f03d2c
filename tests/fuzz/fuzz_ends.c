/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_ends.c - any bytes as any layer. */
#include <stddef.h>
#include <stdint.h>

#include "common/ends.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct tuple t;

	if (size >= 2 && ends_find((uint16_t)(data[0] << 8 | data[1]), data + 2, size - 2, &t) && t.ver != 4 &&
	    t.ver != 6)
		__builtin_trap();
	return 0;
}
