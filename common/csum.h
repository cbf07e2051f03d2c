/* SPDX-License-Identifier: Apache-2.0 */
/* csum.h - copy bytes and sum them for the internet checksum in one pass.
 *
 * The inner loop of forging: every byte of cleartext goes through csum_copy() once. Any thread. */
#ifndef TLSTAP_CSUM_H
#define TLSTAP_CSUM_H

#include <stddef.h>
#include <stdint.h>

/* Copy @src[0..len) to @dst (no overlap) and return the ones' complement sum of its 16-bit words as
 * they lie in memory, folded to 16 bits, not inverted; an odd last byte counts as if a zero followed.
 * A sum that continues another's must begin at an even offset. RFC 1071. */
uint32_t csum_copy(void *restrict dst, const void *restrict src, size_t len);

/* The same sum without the copy, for headers. */
uint32_t csum_add(const void *src, size_t len);

/* Fold a sum of 16-bit words, or of 32-bit words, to 16 bits. */
static inline uint32_t csum_fold(uint64_t sum)
{
	sum = (sum & 0xffffffffu) + (sum >> 32);
	sum = (sum & 0xffff) + ((sum >> 16) & 0xffff) + (sum >> 32);
	sum = (sum & 0xffff) + (sum >> 16);
	return (uint32_t)((sum & 0xffff) + (sum >> 16));
}

/* The implementations, for tests and benches. csum_copy() uses the last one that the processor has. */
enum csum_impl { CSUM_SCALAR, CSUM_AVX2, CSUM_AVX512, CSUM_IMPLS };

typedef uint32_t (*csum_fn)(void *restrict dst, const void *restrict src, size_t len);

/* Returns the implementation, or NULL if this processor or build has not got it. */
csum_fn csum_find(enum csum_impl impl);
const char *csum_name(enum csum_impl impl);

#endif
