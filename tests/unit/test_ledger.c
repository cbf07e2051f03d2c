/* SPDX-License-Identifier: Apache-2.0 */
/* test_ledger.c - the tunnel's queue and its account, against simple models. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "agentd/backlog.h"
#include "agentd/ledger.h"

static struct ledger l;

static void test_batches_move_whole(void **state)
{
	(void)state;
	ledger_break(&l);
	ledger_put(&l, 100, 10);
	ledger_put(&l, 200, 20);
	ledger_put(&l, 250, 0); /* a handshake: nothing to account for */
	assert_true(l.backlog == 30 && l.in_flight == 0);
	ledger_sent(&l, 199);
	assert_true(l.backlog == 20 && l.in_flight == 10);
	assert_int_equal(ledger_acked(&l, 1000), 10); /* only as far as it was sent */
	ledger_sent(&l, 250);
	assert_int_equal(ledger_acked(&l, 199), 0);
	assert_true(l.backlog == 0 && l.in_flight == 20);
	assert_int_equal(ledger_break(&l), 20);
	assert_true(l.backlog == 0 && l.in_flight == 0);
}

static void test_sums_hold_when_full(void **state)
{
	uint64_t off = 0, put = 0, acked = 0, broken = 0;
	unsigned seed = 1;

	(void)state;
	ledger_break(&l);
	for (int i = 0; i < 400000; i++) {
		unsigned r = (unsigned)rand_r(&seed);

		if (r % 16 != 0 && ledger_room(&l)) {
			off += 10;
			put += r % 1000;
			ledger_put(&l, off, r % 1000);
			ledger_sent(&l, r % 3 == 0 ? off - 5 : off);
		} else if (r % 4096 == 0) {
			acked += ledger_acked(&l, off - r % 100000);
		} else if (r % 65536 == 1) {
			broken += ledger_break(&l);
		}
		assert_true(put == acked + broken + l.in_flight + l.backlog);
		assert_true(l.end - l.first <= LEDGER_MAX);
	}
	/* full of sent batches it goes on taking more */
	for (int i = 0; i < 3 * LEDGER_MAX; i++) {
		assert_true(ledger_room(&l));
		off += 10;
		put++;
		ledger_put(&l, off, 1);
		ledger_sent(&l, off);
	}
	acked += ledger_acked(&l, off);
	assert_true(put == acked + broken && l.in_flight == 0 && l.backlog == 0);
}

static void test_backlog_is_first_in_first_out(void **state)
{
	static uint8_t in[600000];
	struct backlog b;
	uint64_t wrote = 0, read = 0;
	unsigned seed = 2;

	(void)state;
	assert_int_equal(backlog_init(&b, 20 * BACKLOG_CHUNK), 0);
	assert_int_equal(backlog_room(&b), 20 * BACKLOG_CHUNK);
	for (int i = 0; i < 20000; i++) {
		unsigned r = (unsigned)rand_r(&seed);
		size_t n = r % sizeof(in), have;
		const uint8_t *p;

		if (r / sizeof(in) % 2 == 0) {
			if (n > backlog_room(&b))
				n = backlog_room(&b);
			for (size_t k = 0; k < n; k += 997) /* marks, so that the test is not all memset */
				in[k] = (uint8_t)((wrote + k) * 31);
			backlog_append(&b, in, n);
			wrote += n;
			memset(in, 0, sizeof(in));
		} else if ((p = backlog_head(&b, &have)) != NULL) {
			n = n < have ? n : have;
			backlog_consume(&b, n);
			read += n;
		}
		assert_true(b.len == wrote - read);
		/* what fits is the whole size but for the partly used chunk at each end */
		assert_true(backlog_room(&b) + b.len <= 20 * BACKLOG_CHUNK &&
			    backlog_room(&b) + b.len + BACKLOG_CHUNK >= 20 * BACKLOG_CHUNK);
	}
	backlog_clear(&b);
	assert_true(b.len == 0 && backlog_room(&b) == 20 * BACKLOG_CHUNK);
	backlog_fini(&b);
}

static void test_backlog_keeps_every_byte(void **state)
{
	struct backlog b;
	uint8_t in[7919], v = 0, expect = 0;

	(void)state;
	assert_int_equal(backlog_init(&b, 3 * BACKLOG_CHUNK), 0);
	for (int round = 0; round < 300; round++) {
		size_t have;
		const uint8_t *p;

		while (backlog_room(&b) >= sizeof(in)) {
			for (size_t k = 0; k < sizeof(in); k++)
				in[k] = v++;
			backlog_append(&b, in, sizeof(in));
		}
		for (int k = 0; k <= round % 3 && (p = backlog_head(&b, &have)) != NULL; k++) {
			have = have > 3 ? have - (size_t)round % 3 : have;
			for (size_t x = 0; x < have; x++)
				if (p[x] != expect++)
					fail();
			backlog_consume(&b, have);
		}
	}
	backlog_fini(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_batches_move_whole),
		cmocka_unit_test(test_sums_hold_when_full),
		cmocka_unit_test(test_backlog_is_first_in_first_out),
		cmocka_unit_test(test_backlog_keeps_every_byte),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
