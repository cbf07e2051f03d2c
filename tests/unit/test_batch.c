/* SPDX-License-Identifier: Apache-2.0 */
/* test_batch.c - a batch is a piece of a pcapng stream, knows its frames, and refuses when full. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "common/batch.h"
#include "common/block.h"

static uint32_t u32(const uint8_t *p)
{
	uint32_t v;

	memcpy(&v, p, 4);
	return v;
}

static void test_frames_stand_in_packet_blocks(void **state)
{
	struct batch b;
	size_t pos = 0;

	(void)state;
	batch_init(&b);
	for (size_t len = 60; len < 68; len++) {
		uint8_t *p = batch_reserve(&b, 100);

		assert_non_null(p);
		memset(p, (int)len, 100);
		batch_commit(&b, len, len - 54, 0x123456789abcdef0 + len);
	}
	assert_int_equal(b.n, 8);
	assert_int_equal(b.payload, 6 + 7 + 8 + 9 + 10 + 11 + 12 + 13);
	for (unsigned i = 0; i < b.n; i++) {
		const uint8_t *p = b.buf + pos;
		uint32_t len = 60 + i, total = 32 + ((len + 3) & ~3u);

		assert_int_equal(u32(p), 6);
		assert_int_equal(u32(p + 4), total);
		assert_int_equal(u32(p + 8), 0);
		assert_int_equal((uint64_t)u32(p + 12) << 32 | u32(p + 16), 0x123456789abcdef0 + len);
		assert_int_equal(u32(p + 20), len);
		assert_int_equal(u32(p + 24), len);
		assert_int_equal(b.frame[i].off, pos + 28);
		assert_int_equal(b.frame[i].len, len);
		for (uint32_t j = 0; j < total - 32; j++)
			assert_int_equal(p[28 + j], j < len ? len : 0);
		assert_int_equal(u32(p + total - 4), total);
		pos += total;
	}
	assert_int_equal(b.len, pos);
	batch_reset(&b);
	assert_true(!b.n && !b.len && !b.payload);
	batch_fini(&b);
}

static void test_flow_block_as_documented(void **state)
{
	struct tuple t = {.ver = 4, .port = {40000, 447}, .addr = {{10, 0, 0, 1}, {10, 0, 0, 2}}};
	struct batch b;
	uint64_t id = 0x1122334455667788;
	uint16_t port[2] = {40000, 447};

	(void)state;
	batch_init(&b);
	assert_true(batch_flow(&b, id, 7, 9, &t));
	assert_int_equal(b.n, 0);
	assert_int_equal(b.len, 88);
	assert_true(b.len <= BATCH_FLOW_BYTES);
	assert_int_equal(u32(b.buf), BLOCK_TYPE);
	assert_int_equal(u32(b.buf + 4), 88);
	assert_int_equal(u32(b.buf + 8), BLOCK_FLOW | BLOCK_VERSION << 16);
	assert_int_equal(u32(b.buf + 12), BLOCK_FLOW_ID | 8 << 16);
	assert_memory_equal(b.buf + 16, &id, 8);
	assert_int_equal(u32(b.buf + 24), BLOCK_FLOW_STREAM | 4 << 16);
	assert_int_equal(u32(b.buf + 28), 7);
	assert_int_equal(u32(b.buf + 32), BLOCK_FLOW_INCARNATION | 4 << 16);
	assert_int_equal(u32(b.buf + 36), 9);
	assert_int_equal(u32(b.buf + 40), BLOCK_FLOW_TUPLE | BLOCK_TUPLE_LEN << 16);
	assert_int_equal(u32(b.buf + 44), 4);
	assert_memory_equal(b.buf + 48, port, 4);
	assert_memory_equal(b.buf + 52, t.addr, 32);
	assert_int_equal(u32(b.buf + 84), 88);
	batch_fini(&b);
}

static void test_a_full_batch_refuses(void **state)
{
	struct tuple t = {.ver = 4};
	struct batch b;

	(void)state;
	batch_init(&b);
	for (int i = 0; i < BATCH_FRAMES; i++) {
		assert_non_null(batch_reserve(&b, 60));
		batch_commit(&b, 60, 0, 0);
	}
	assert_null(batch_reserve(&b, 60));
	batch_reset(&b);
	assert_null(batch_reserve(&b, BATCH_BYTES - BATCH_EPB_MAX + 1));
	assert_null(batch_reserve(&b, SIZE_MAX));
	assert_non_null(batch_reserve(&b, BATCH_BYTES - BATCH_EPB_MAX));
	batch_commit(&b, BATCH_BYTES - BATCH_EPB_MAX, 0, 0);
	assert_true(b.len <= BATCH_BYTES);
	assert_false(batch_flow(&b, 0, 0, 0, &t));
	batch_fini(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_frames_stand_in_packet_blocks),
		cmocka_unit_test(test_flow_block_as_documented),
		cmocka_unit_test(test_a_full_batch_refuses),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
