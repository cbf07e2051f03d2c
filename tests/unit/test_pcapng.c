/* SPDX-License-Identifier: Apache-2.0 */
/* test_pcapng.c - pcapng streams block by block: both byte orders, time units, limits, and any cut. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/batch.h"
#include "common/block.h"
#include "common/pcapng.h"

static uint8_t buf[400000];
static struct wcur w;

static void begin(bool be)
{
	w = wcur_over(buf, sizeof(buf), be);
}

static size_t len(void)
{
	return sizeof(buf) - w.left;
}

static void block(uint32_t type, const void *body, size_t n)
{
	uint32_t total = (uint32_t)(12 + n);

	assert_true(wcur_u32(&w, type) && wcur_u32(&w, total) && wcur_bytes(&w, body, n) && wcur_u32(&w, total));
}

static void shb(uint16_t major)
{
	assert_true(wcur_u32(&w, PCAPNG_SHB) && wcur_u32(&w, 28) && wcur_u32(&w, 0x1A2B3C4D) && wcur_u16(&w, major) &&
		    wcur_u16(&w, 0) && wcur_u64(&w, UINT64_MAX) && wcur_u32(&w, 28));
}

/* @tsresol 0: no such option */
static void idb(uint16_t link, uint32_t snaplen, uint8_t tsresol)
{
	uint32_t total = tsresol == 0 ? 20 : 32;

	assert_true(wcur_u32(&w, PCAPNG_IDB) && wcur_u32(&w, total) && wcur_u16(&w, link) && wcur_u16(&w, 0) &&
		    wcur_u32(&w, snaplen));
	if (tsresol != 0)
		assert_true(wcur_u16(&w, 9) && wcur_u16(&w, 1) && wcur_bytes(&w, &tsresol, 1) && wcur_zero(&w, 3) &&
			    wcur_u32(&w, 0));
	assert_true(wcur_u32(&w, total));
}

static void epb(uint32_t iface, uint64_t ts, uint32_t caplen, uint32_t orig, size_t data)
{
	uint32_t total = (uint32_t)(32 + ((data + 3) & ~(size_t)3));

	assert_true(wcur_u32(&w, PCAPNG_EPB) && wcur_u32(&w, total) && wcur_u32(&w, iface) &&
		    wcur_u32(&w, (uint32_t)(ts >> 32)) && wcur_u32(&w, (uint32_t)ts) && wcur_u32(&w, caplen) &&
		    wcur_u32(&w, orig));
	for (size_t i = 0; i < data; i++)
		assert_true(wcur_bytes(&w, &(uint8_t){(uint8_t)i}, 1));
	assert_true(wcur_zero(&w, (4 - data % 4) % 4) && wcur_u32(&w, total));
}

/* Read on from *off. */
static ssize_t next(struct pcapng *p, size_t *off, struct pcapng_block *b)
{
	ssize_t n = pcapng_next(p, buf + *off, len() - *off, b);

	if (n > 0)
		*off += (size_t)n;
	return n;
}

/* Read all. Returns the last result: -EAGAIN is a good end. */
static ssize_t all(struct pcapng_block *b)
{
	struct pcapng p = {0};
	size_t off = 0;
	ssize_t n;

	while ((n = next(&p, &off, b)) > 0)
		;
	assert_true(n != -EAGAIN || off == len());
	return n;
}

static void test_both_byte_orders(void **state)
{
	(void)state;
	for (int be = 0; be <= 1; be++) {
		struct pcapng_block b = {0};

		begin(be);
		shb(1);
		idb(LINK_ETHERNET, 0, 9);
		epb(0, 1700000000123456789, 61, 1500, 61);
		assert_int_equal(all(&b), -EAGAIN);
		assert_int_equal(b.kind, PCAPNG_PACKET);
		assert_true(b.pkt.len == 61 && b.pkt.orig == 1500 && b.pkt.link == LINK_ETHERNET &&
			    b.pkt.data[60] == 60);
		assert_true(b.pkt.ts_ns == 1700000000123456789);
	}
}

static void test_time_units(void **state)
{
	static const struct {
		uint8_t tsresol;
		uint64_t ts, ns;
	} t[] = {
		{0, 1700000000123456, 1700000000123456000},
		{6, 1700000000123456, 1700000000123456000},
		{3, 1700000000123, 1700000000123000000},
		{12, 5000000000000, 5000000000},
		{0x80 | 1, 3, 1500000000},
		{0x80 | 32, (uint64_t)7 << 32 | 1u << 31, 7500000000},
		{0x80 | 64, 1, 0},
		{127, 1, 0},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(t) / sizeof(t[0]); i++) {
		struct pcapng_block b = {0};

		begin(false);
		shb(1);
		idb(LINK_ETHERNET, 0, t[i].tsresol);
		epb(0, t[i].ts, 20, 20, 20);
		assert_int_equal(all(&b), -EAGAIN);
		assert_true(b.pkt.ts_ns == t[i].ns);
	}
}

static void test_simple_packet_is_cut_at_the_snap_length(void **state)
{
	struct pcapng_block b = {0};

	(void)state;
	begin(true);
	shb(1);
	idb(LINK_ETHERNET, 8, 0);
	block(PCAPNG_SPB,
	      "\0\0\0\x64"
	      "abcdefgh",
	      12);
	assert_int_equal(all(&b), -EAGAIN);
	assert_true(b.kind == PCAPNG_PACKET && b.pkt.len == 8 && b.pkt.orig == 100 &&
		    memcmp(b.pkt.data, "abcdefgh", 8) == 0);
}

static void test_unknown_blocks_are_skipped_and_ours_returned(void **state)
{
	struct pcapng p = {0};
	struct pcapng_block b;
	size_t off = 0;

	(void)state;
	begin(false);
	shb(1);
	block(5, "12345678", 8);
	block(0x40000BAD, "", 0);
	block(BLOCK_TYPE, "\5\0\1\0", 4);
	assert_true(next(&p, &off, &b) > 0 && next(&p, &off, &b) > 0 && next(&p, &off, &b) > 0);
	assert_int_equal(b.kind, PCAPNG_OTHER);
	assert_int_equal(p.skipped, 2);
	assert_true(next(&p, &off, &b) > 0);
	assert_true(b.kind == PCAPNG_LOCAL && b.body.left == 4);
	assert_int_equal(next(&p, &off, &b), -EAGAIN);
}

static void test_malformed_is_refused(void **state)
{
	struct pcapng_block b;

	(void)state;
	begin(false); /* no section */
	block(PCAPNG_EPB, "", 0);
	assert_int_equal(all(&b), -EBADMSG);
	begin(false); /* another version */
	shb(2);
	assert_int_equal(all(&b), -EBADMSG);
	begin(false); /* no interface */
	shb(1);
	epb(0, 0, 20, 20, 20);
	assert_int_equal(all(&b), -EBADMSG);
	begin(false);
	shb(1);
	block(PCAPNG_SPB, "\4\0\0\0abcd", 8);
	assert_int_equal(all(&b), -EBADMSG);
	begin(false); /* longer than its block */
	shb(1);
	idb(LINK_ETHERNET, 0, 9);
	epb(0, 0, 21, 21, 20);
	assert_int_equal(all(&b), -EBADMSG);
	begin(false);
	shb(1);
	idb(LINK_ETHERNET, 0, 9);
	epb(0, 0, UINT32_MAX, UINT32_MAX, 20);
	assert_int_equal(all(&b), -EBADMSG);
	begin(false); /* lengths: odd, small, different */
	shb(1);
	assert_true(wcur_bytes(&w, "\5\0\0\0\x0d\0\0\0\0\0\0\0\x0d\0\0\0", 16));
	assert_int_equal(all(&b), -EBADMSG);
	begin(false);
	shb(1);
	assert_true(wcur_bytes(&w, "\5\0\0\0\x08\0\0\0\0\0\0\0", 12));
	assert_int_equal(all(&b), -EBADMSG);
	begin(false);
	shb(1);
	assert_true(wcur_bytes(&w, "\5\0\0\0\x0c\0\0\0\x10\0\0\0", 12));
	assert_int_equal(all(&b), -EBADMSG);
	begin(false); /* an option longer than its block */
	shb(1);
	block(PCAPNG_IDB, "\1\0\0\0\0\0\0\0\2\0\xff\xff", 12);
	assert_int_equal(all(&b), -EBADMSG);
	begin(false); /* no magic */
	assert_true(wcur_u32(&w, PCAPNG_SHB) && wcur_u32(&w, 28) && wcur_u32(&w, 0x12345678));
	assert_int_equal(all(&b), -EBADMSG);
}

static void test_limits(void **state)
{
	static uint8_t big[PCAPNG_BLOCK_MAX];
	struct pcapng_block b;

	(void)state;
	begin(false);
	shb(1);
	block(5, big, PCAPNG_BLOCK_MAX - 12);
	assert_int_equal(all(&b), -EAGAIN);
	begin(false);
	shb(1);
	block(5, big, PCAPNG_BLOCK_MAX - 8);
	assert_int_equal(all(&b), -E2BIG);
	begin(false); /* refused by its head, long before it is there */
	shb(1);
	assert_true(wcur_u32(&w, 5) && wcur_u32(&w, 0xfffffffc));
	assert_int_equal(all(&b), -E2BIG);
	begin(false);
	shb(1);
	for (int i = 0; i < PCAPNG_IFS_MAX; i++)
		idb(LINK_ETHERNET, 0, 0);
	assert_int_equal(all(&b), -EAGAIN);
	idb(LINK_ETHERNET, 0, 0);
	assert_int_equal(all(&b), -E2BIG);
}

static void test_a_new_section_may_change_the_order(void **state)
{
	struct pcapng p = {0};
	struct pcapng_block b;
	size_t off = 0;

	(void)state;
	begin(true);
	shb(1);
	idb(LINK_ETHERNET, 0, 0);
	w.be = false;
	shb(1);
	idb(113, 0, 9);
	epb(0, 5, 16, 16, 16);
	for (int i = 0; i < 5; i++)
		assert_true(next(&p, &off, &b) > 0);
	assert_true(b.pkt.link == 113 && b.pkt.ts_ns == 5 && b.pkt.len == 16);
}

static void test_every_cut_asks_for_more(void **state)
{
	struct pcapng p = {0};
	struct pcapng_block b;
	size_t off = 0, total;

	(void)state;
	begin(true);
	shb(1);
	idb(LINK_ETHERNET, 0, 9);
	epb(0, 5, 17, 17, 17);
	total = len();
	while (off < total) {
		ssize_t n = -EAGAIN;
		size_t have;

		for (have = 0; n == -EAGAIN; have++) {
			uint8_t *copy = malloc(have ? have : 1); /* its own, so that a byte too many is seen */

			memcpy(copy, buf + off, have);
			n = pcapng_next(&p, copy, have, &b);
			free(copy);
		}
		assert_int_equal(n, have - 1);
		off += (size_t)n;
	}
	assert_int_equal(off, total);
}

static void test_what_batches_write_is_read_back(void **state)
{
	struct pcapng p;
	struct pcapng_block b;
	struct batch out;
	ssize_t n;

	(void)state;
	pcapng_init(&p);
	batch_init(&out);
	for (size_t size = 60; size < 70; size++) {
		uint8_t *f = batch_reserve(&out, size);

		memset(f, (int)size, size);
		batch_commit(&out, size, 1, 1700000000000000000 + size);
	}
	pcapng_head(buf);
	assert_true(pcapng_magic(buf));
	n = pcapng_next(&p, buf, PCAPNG_HEAD, &b);
	assert_int_equal(n + pcapng_next(&p, buf + n, PCAPNG_HEAD - (size_t)n, &b), PCAPNG_HEAD);
	for (size_t off = 0, size = 60; off < out.len; off += (size_t)n, size++) {
		assert_true(pcapng_at_packet(&p, out.buf + off, out.len - off));
		n = pcapng_next(&p, out.buf + off, out.len - off, &b);
		assert_true(n > 0);
		assert_true(b.pkt.len == size && b.pkt.orig == size && b.pkt.data[size - 1] == size);
		assert_true(b.pkt.ts_ns == 1700000000000000000 + size);
	}
	batch_fini(&out);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_both_byte_orders),
		cmocka_unit_test(test_time_units),
		cmocka_unit_test(test_simple_packet_is_cut_at_the_snap_length),
		cmocka_unit_test(test_unknown_blocks_are_skipped_and_ours_returned),
		cmocka_unit_test(test_malformed_is_refused),
		cmocka_unit_test(test_limits),
		cmocka_unit_test(test_a_new_section_may_change_the_order),
		cmocka_unit_test(test_every_cut_asks_for_more),
		cmocka_unit_test(test_what_batches_write_is_read_back),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
