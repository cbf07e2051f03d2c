/* SPDX-License-Identifier: Apache-2.0 */
/* csum.c - fused copy and internet checksum: scalar, AVX2, AVX-512, chosen at start. */
#include "csum.h"

#include <stdbool.h>
#include <string.h>

#if defined(__x86_64__)
#define CSUM_X86 1
#include <immintrin.h>
#endif

/* All sums are of 32-bit words into 64-bit lanes: no lane can overflow below 2^32 words, and
 * 2^32 = 1 modulo 2^16 - 1, so folding at the end gives the sum of 16-bit words. */

static uint64_t copy_tail(uint8_t *d, const uint8_t *s, size_t len)
{
	uint64_t sum = 0;
	uint32_t w;

	while (len >= 4) {
		memcpy(&w, s, 4);
		memcpy(d, &w, 4);
		sum += w;
		s += 4;
		d += 4;
		len -= 4;
	}
	if (len) {
		w = 0;
		memcpy(&w, s, len);
		memcpy(d, &w, len);
		sum += w;
	}
	return sum;
}

static uint32_t copy_scalar(void *restrict dst, const void *restrict src, size_t len)
{
	const uint8_t *s = src;
	uint8_t *d = dst;
	uint64_t a = 0, b = 0, c = 0, e = 0;

	while (len >= 32) {
		uint64_t w[4];

		memcpy(w, s, 32);
		memcpy(d, w, 32);
		a += (uint32_t)w[0];
		b += w[0] >> 32;
		c += (uint32_t)w[1];
		e += w[1] >> 32;
		a += (uint32_t)w[2];
		b += w[2] >> 32;
		c += (uint32_t)w[3];
		e += w[3] >> 32;
		s += 32;
		d += 32;
		len -= 32;
	}
	return csum_fold((uint64_t)csum_fold(a) + csum_fold(b) + csum_fold(c) + csum_fold(e) +
			 csum_fold(copy_tail(d, s, len)));
}

#ifdef CSUM_X86
__attribute__((target("avx2"))) static uint32_t copy_avx2(void *restrict dst, const void *restrict src, size_t len)
{
	const __m256i low = _mm256_set1_epi64x(0xffffffff);
	__m256i a = _mm256_setzero_si256(), b = a, c = a, e = a;
	const uint8_t *s = src;
	uint8_t *d = dst;
	uint64_t lane[4];

	while (len >= 64) {
		__m256i v = _mm256_loadu_si256((const void *)s);
		__m256i w = _mm256_loadu_si256((const void *)(s + 32));

		_mm256_storeu_si256((void *)d, v);
		_mm256_storeu_si256((void *)(d + 32), w);
		a = _mm256_add_epi64(a, _mm256_and_si256(v, low));
		b = _mm256_add_epi64(b, _mm256_srli_epi64(v, 32));
		c = _mm256_add_epi64(c, _mm256_and_si256(w, low));
		e = _mm256_add_epi64(e, _mm256_srli_epi64(w, 32));
		s += 64;
		d += 64;
		len -= 64;
	}
	if (len >= 32) {
		__m256i v = _mm256_loadu_si256((const void *)s);

		_mm256_storeu_si256((void *)d, v);
		a = _mm256_add_epi64(a, _mm256_and_si256(v, low));
		b = _mm256_add_epi64(b, _mm256_srli_epi64(v, 32));
		s += 32;
		d += 32;
		len -= 32;
	}
	a = _mm256_add_epi64(_mm256_add_epi64(a, b), _mm256_add_epi64(c, e));
	_mm256_storeu_si256((void *)lane, a);
	return csum_fold((uint64_t)csum_fold(lane[0]) + csum_fold(lane[1]) + csum_fold(lane[2]) + csum_fold(lane[3]) +
			 csum_fold(copy_tail(d, s, len)));
}

__attribute__((target("avx512f,avx512bw"))) static uint32_t copy_avx512(void *restrict dst, const void *restrict src,
									size_t len)
{
	const __m512i low = _mm512_set1_epi64(0xffffffff);
	__m512i a = _mm512_setzero_si512(), b = a, c = a, e = a;
	const uint8_t *s = src;
	uint8_t *d = dst;

	while (len >= 128) {
		__m512i v = _mm512_loadu_si512(s);
		__m512i w = _mm512_loadu_si512(s + 64);

		_mm512_storeu_si512(d, v);
		_mm512_storeu_si512(d + 64, w);
		a = _mm512_add_epi64(a, _mm512_and_si512(v, low));
		b = _mm512_add_epi64(b, _mm512_srli_epi64(v, 32));
		c = _mm512_add_epi64(c, _mm512_and_si512(w, low));
		e = _mm512_add_epi64(e, _mm512_srli_epi64(w, 32));
		s += 128;
		d += 128;
		len -= 128;
	}
	while (len) { /* twice at most; bytes beyond the end are neither read nor written */
		size_t n = len < 64 ? len : 64;
		__mmask64 m = ~0ull >> (64 - n);
		__m512i v = _mm512_maskz_loadu_epi8(m, s);

		_mm512_mask_storeu_epi8(d, m, v);
		a = _mm512_add_epi64(a, _mm512_and_si512(v, low));
		b = _mm512_add_epi64(b, _mm512_srli_epi64(v, 32));
		s += n;
		d += n;
		len -= n;
	}
	a = _mm512_add_epi64(_mm512_add_epi64(a, b), _mm512_add_epi64(c, e));
	/* Lanes stay below 2^42 for anything that fits in memory here: their sum does not overflow. */
	return csum_fold((uint64_t)_mm512_reduce_add_epi64(a));
}
#endif

csum_fn csum_find(enum csum_impl impl)
{
	switch (impl) {
	case CSUM_SCALAR:
		return copy_scalar;
#ifdef CSUM_X86
	case CSUM_AVX2:
		return __builtin_cpu_supports("avx2") ? copy_avx2 : NULL;
	case CSUM_AVX512:
		return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") ? copy_avx512 : NULL;
#endif
	default:
		return NULL;
	}
}

const char *csum_name(enum csum_impl impl)
{
	static const char *const name[CSUM_IMPLS] = {"scalar", "avx2", "avx512"};

	return impl < CSUM_IMPLS ? name[impl] : "?";
}

static csum_fn best = copy_scalar;

/* Before main, so that no thread ever sees the choice change. */
__attribute__((constructor)) static void choose(void)
{
#ifdef CSUM_X86
	__builtin_cpu_init();
#endif
	for (int i = CSUM_SCALAR; i < CSUM_IMPLS; i++)
		if (csum_find((enum csum_impl)i))
			best = csum_find((enum csum_impl)i);
}

uint32_t csum_copy(void *restrict dst, const void *restrict src, size_t len)
{
	return best(dst, src, len);
}

uint32_t csum_add(const void *src, size_t len)
{
	const uint8_t *s = src;
	uint64_t sum = 0;
	uint32_t w;

	for (; len >= 4; s += 4, len -= 4) {
		memcpy(&w, s, 4);
		sum += w;
	}
	if (len) {
		w = 0;
		memcpy(&w, s, len);
		sum += w;
	}
	return csum_fold(sum);
}
