/* SPDX-License-Identifier: Apache-2.0 */
/* test_local.c - blocks of our own: what is written is read back, what is malformed is refused. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "common/batch.h"
#include "common/local.h"
#include "common/pcapng.h"

/* Through a whole pcapng stream, as on the wire. */
static int over_the_wire(const uint8_t *block, size_t len, struct local_msg *ret)
{
	uint8_t buf[PCAPNG_HEAD + 2048];
	struct pcapng p = {0};
	struct pcapng_block b;
	size_t off = 0;

	pcapng_head(buf);
	memcpy(buf + PCAPNG_HEAD, block, len);
	for (int i = 0; i < 3; i++) {
		ssize_t n = pcapng_next(&p, buf + off, PCAPNG_HEAD + len - off, &b);

		assert_true(n > 0);
		off += (size_t)n;
	}
	assert_int_equal(off, PCAPNG_HEAD + len);
	assert_int_equal(b.kind, PCAPNG_LOCAL);
	return local_parse(b.body, ret);
}

static int there_and_back(const struct local_msg *m, struct local_msg *ret)
{
	uint8_t buf[LOCAL_BLOCK_MAX];

	return over_the_wire(buf, local_write(m, buf), ret);
}

static void test_hello(void **state)
{
	struct local_msg m = {.kind = BLOCK_HELLO,
			      .hello = {.proto = 1, .version = "1.2.3", .host = "web-1", .mtu = 9000, .refusal = "no"}};
	struct local_msg r = {0};

	(void)state;
	memcpy(m.hello.nonce, "0123456789abcdef", LOCAL_NONCE);
	assert_int_equal(there_and_back(&m, &r), 0);
	assert_int_equal(r.kind, BLOCK_HELLO);
	assert_memory_equal(&r.hello, &m.hello, sizeof(m.hello));
	memset(m.hello.host, 'x', sizeof(m.hello.host) - 1); /* as long as it may be */
	memset(m.hello.version, 'y', sizeof(m.hello.version) - 1);
	memset(m.hello.refusal, 'z', sizeof(m.hello.refusal) - 1);
	assert_int_equal(there_and_back(&m, &r), 0);
	assert_memory_equal(&r.hello, &m.hello, sizeof(m.hello));
}

static void test_the_others(void **state)
{
	struct local_msg m = {.kind = BLOCK_STATISTICS,
			      .statistics = {.put = 1ull << 40,
					     .unknown = 2,
					     .reconnects = 3,
					     .captured = 4,
					     .capture_drops = 5,
					     .hello_drops = 6}};
	struct local_msg r = {0};

	(void)state;
	assert_int_equal(there_and_back(&m, &r), 0);
	assert_memory_equal(&r.statistics, &m.statistics, sizeof(m.statistics));
	m = (struct local_msg){.kind = BLOCK_ACK, .ack = UINT64_MAX - 1};
	assert_int_equal(there_and_back(&m, &r), 0);
	assert_true(r.kind == BLOCK_ACK && r.ack == UINT64_MAX - 1);
	m = (struct local_msg){.kind = BLOCK_HEARTBEAT};
	assert_int_equal(there_and_back(&m, &r), 0);
	assert_int_equal(r.kind, BLOCK_HEARTBEAT);
}

static void test_flow_as_batches_write_it(void **state)
{
	struct tuple t = {.ver = 6, .port = {40000, 447}};
	struct local_msg r = {0};
	struct batch b;

	(void)state;
	batch_init(&b);
	for (int v = 0; v < 2; v++) {
		t.ver = v == 0 ? 6 : 4;
		memset(t.addr, 0, sizeof(t.addr));
		memset(t.addr[0], 0x11, v == 0 ? 16 : 4);
		memset(t.addr[1], 0x22, v == 0 ? 16 : 4);
		batch_reset(&b);
		assert_true(batch_flow(&b, 0x0123456789abcdef, 5, 7, &t));
		assert_int_equal(over_the_wire(b.buf, b.len, &r), 0);
		assert_true(r.kind == BLOCK_FLOW && r.flow.id == 0x0123456789abcdef && r.flow.stream == 5 &&
			    r.flow.inc == 7);
		assert_memory_equal(&r.flow.t, &t, sizeof(t));
	}
	batch_fini(&b);
}

static int parse(const void *body, size_t len, struct local_msg *r)
{
	return local_parse(cur_over(body, len, true), r);
}

static void test_unknown_kinds_versions_and_fields_are_skipped(void **state)
{
	struct local_msg r = {.kind = 9};

	(void)state;
	assert_int_equal(parse("\0\x63\0\1", 4, &r), 0);
	assert_int_equal(r.kind, 0);
	assert_int_equal(parse("\0\4\0\2", 4, &r), 0);
	assert_int_equal(r.kind, 0);
	assert_int_equal(parse("\0\4\0\1\x7f\x01\0\3abc\0\0\1\0\x8\0\0\0\0\0\0\0\5", 24, &r), 0);
	assert_true(r.kind == BLOCK_ACK && r.ack == 5);
}

static void test_malformed_is_refused(void **state)
{
	struct local_msg r;
	uint8_t flow[4 + 12 + 44] = "\0\2\0\1\0\1\0\x8\0\0\0\0\0\0\0\1\0\4\0\x28\5";

	(void)state;
	assert_int_equal(parse("\0\4\0", 3, &r), -EBADMSG);
	assert_int_equal(parse("\0\4\0\1", 4, &r), -EBADMSG);		       /* what it needs is missing */
	assert_int_equal(parse("\0\4\0\1\0\1\0\4\0\0\0\0", 12, &r), -EBADMSG); /* too short a value */
	assert_int_equal(parse("\0\4\0\1\0\1\0\xc\0\0\0\0\0\0\0\0\0\0\0\0", 20, &r), -EBADMSG); /* too long */
	assert_int_equal(parse("\0\5\0\1\0\1\xff\xff", 8, &r), -EBADMSG);			/* beyond its block */
	assert_int_equal(parse("\0\5\0\1\0\1\0\1a", 9, &r), -EBADMSG);				/* not padded */
	assert_int_equal(parse(flow, sizeof(flow), &r), -EBADMSG);				/* IP version 5 */
	flow[20] = 4;
	assert_int_equal(parse(flow, sizeof(flow), &r), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_hello),
		cmocka_unit_test(test_the_others),
		cmocka_unit_test(test_flow_as_batches_write_it),
		cmocka_unit_test(test_unknown_kinds_versions_and_fields_are_skipped),
		cmocka_unit_test(test_malformed_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
