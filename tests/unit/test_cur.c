/* SPDX-License-Identifier: Apache-2.0 */
/* test_cur.c - cursors read what is there, in either byte order, and never a byte more. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "common/cur.h"

static const uint8_t bytes[] = {1, 2, 3, 4, 5, 6, 7, 8};

static void test_both_byte_orders(void **state)
{
	struct cur le = cur_over(bytes, sizeof(bytes), false), be = cur_over(bytes, sizeof(bytes), true);
	uint16_t a = 0;
	uint32_t b = 0;
	uint64_t c = 0;

	(void)state;
	assert_true(cur_u16(&le, &a) && cur_u32(&le, &b));
	assert_int_equal(a, 0x0201);
	assert_int_equal(b, 0x06050403);
	assert_true(cur_u64(&be, &c));
	assert_true(c == 0x0102030405060708);
	le = cur_over(bytes, sizeof(bytes), false);
	assert_true(cur_be16(&le, &a) && cur_be32(&le, &b));
	assert_int_equal(a, 0x0102);
	assert_int_equal(b, 0x03040506);
}

static void test_short_reads_change_nothing(void **state)
{
	struct cur c = cur_over(bytes, 3, true);
	const uint8_t *p = NULL;
	uint64_t v64 = 7;
	uint32_t v32 = 7;
	uint16_t v16 = 7;
	uint8_t v8 = 7;

	(void)state;
	assert_false(cur_u32(&c, &v32) || cur_u64(&c, &v64) || cur_bytes(&c, 4, &p) || cur_skip(&c, SIZE_MAX));
	assert_true(v32 == 7 && v64 == 7 && p == NULL && c.left == 3 && c.p == bytes);
	assert_true(cur_skip(&c, 3));
	assert_false(cur_u8(&c, &v8) || cur_u16(&c, &v16) || cur_skip(&c, 1));
	assert_true(v8 == 7 && v16 == 7 && cur_skip(&c, 0));
}

static void test_writer(void **state)
{
	uint8_t buf[17], back[17];
	struct wcur w = wcur_over(buf, 15, true);
	struct cur c = cur_over(buf, 15, true);
	uint64_t d;
	uint32_t b;
	uint16_t a;

	(void)state;
	memset(buf, 0xee, sizeof(buf));
	assert_true(wcur_u16(&w, 0x1234) && wcur_u32(&w, 0x56789abc) && wcur_u64(&w, 0x0102030405060708));
	assert_false(wcur_u16(&w, 1) || wcur_bytes(&w, bytes, 2) || wcur_zero(&w, 2));
	assert_true(wcur_zero(&w, 1) && !wcur_zero(&w, 1) && wcur_bytes(&w, NULL, 0));
	assert_true(buf[0] == 0x12 && buf[14] == 0 && buf[15] == 0xee);
	assert_true(cur_u16(&c, &a) && cur_u32(&c, &b) && cur_u64(&c, &d) && cur_copy(&c, back, 1));
	assert_true(a == 0x1234 && b == 0x56789abc && d == 0x0102030405060708 && back[0] == 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_both_byte_orders),
		cmocka_unit_test(test_short_reads_change_nothing),
		cmocka_unit_test(test_writer),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
