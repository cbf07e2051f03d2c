/* SPDX-License-Identifier: Apache-2.0 */
/* test_csum.c - every implementation copies and sums like the plain definition. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "common/csum.h"

#define LEN_MAX 4000
#define ALIGN_MAX 64

static uint8_t from[LEN_MAX + ALIGN_MAX], to[LEN_MAX + 3 * ALIGN_MAX];

/* RFC 1071, word for word, in memory order. */
static uint32_t plain(const uint8_t *p, size_t len)
{
	uint64_t sum = 0;

	for (size_t i = 0; i < len; i += 2) {
		uint16_t w = 0;

		memcpy(&w, p + i, len - i < 2 ? 1 : 2);
		sum += w;
	}
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return (uint32_t)sum;
}

/* 0 and 0xffff are the same number in ones' complement. */
static uint32_t one_zero(uint32_t sum)
{
	assert_true(sum <= 0xffff);
	return sum == 0xffff ? 0 : sum;
}

static void fill(unsigned kind)
{
	srand(kind);
	for (size_t i = 0; i < sizeof from; i++)
		from[i] = kind == 0 ? 0xff : (uint8_t)(rand() >> 7);
}

static void check(csum_fn fn, size_t len, size_t align_from, size_t align_to)
{
	uint8_t *d = to + ALIGN_MAX + align_to;
	uint32_t sum;

	memset(to, 0xa5, sizeof to);
	sum = fn(d, from + align_from, len);
	assert_int_equal(one_zero(sum), one_zero(plain(from + align_from, len)));
	assert_memory_equal(d, from + align_from, len);
	assert_int_equal(d[-1], 0xa5);
	assert_int_equal(d[len], 0xa5);
}

static void test_each_implementation_agrees(void **state)
{
	(void)state;
	for (int i = 0; i < CSUM_IMPLS; i++) {
		csum_fn fn = csum_find((enum csum_impl)i);

		if (!fn) {
			print_message("%s: not on this processor\n", csum_name((enum csum_impl)i));
			continue;
		}
		for (unsigned kind = 0; kind < 2; kind++) {
			fill(kind);
			for (size_t len = 0; len <= LEN_MAX; len++)
				check(fn, len, len * 7 % ALIGN_MAX, len * 13 % ALIGN_MAX);
			for (size_t a = 0; a < ALIGN_MAX; a++)
				for (size_t len = 0; len < 300; len++)
					check(fn, len, a, (a * 5 + len) % ALIGN_MAX);
		}
	}
}

static void test_the_chosen_one_and_csum_add_agree(void **state)
{
	(void)state;
	fill(3);
	for (size_t len = 0; len <= LEN_MAX; len++) {
		check(csum_copy, len, len % ALIGN_MAX, 0);
		assert_int_equal(one_zero(csum_add(from + len % ALIGN_MAX, len)),
				 one_zero(plain(from + len % ALIGN_MAX, len)));
	}
}

static void test_large_sums_do_not_overflow(void **state)
{
	size_t len = 32 << 20;
	uint8_t *a = malloc(len), *b = malloc(len);

	(void)state;
	assert_true(a && b);
	memset(a, 0xff, len);
	a[len - 1] = 0x12;
	for (int i = 0; i < CSUM_IMPLS; i++) {
		csum_fn fn = csum_find((enum csum_impl)i);

		if (fn)
			assert_int_equal(one_zero(fn(b, a, len)), one_zero(plain(a, len)));
	}
	free(a);
	free(b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_each_implementation_agrees),
		cmocka_unit_test(test_the_chosen_one_and_csum_add_agree),
		cmocka_unit_test(test_large_sums_do_not_overflow),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
