/* SPDX-License-Identifier: Apache-2.0 */
/* test_stream.c - an agent's bytes in: what is injected, what is counted, who owns a flow, how flows are closed.
 * What is injected is read back from the file that receiverd -o none -w writes. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/batch.h"
#include "common/forge.h"
#include "receiverd/stream.h"

#define MTU 1500

static struct inject inject;
static struct flows flows;
static uint8_t *buf_a, *buf_b, *file;
static struct stream a, b;
static struct batch out; /* what an agent sends */
static char path[64];
static size_t n_file;

static void nobody(void *arg)
{
	(void)arg;
}

static int set_up_sized(unsigned max)
{
	char err[INJECT_ERR];

	(void)snprintf(path, sizeof(path), "test_stream.%d.pcapng", (int)getpid());
	batch_init(&out);
	buf_a = malloc(STREAM_BUF);
	buf_b = malloc(STREAM_BUF);
	file = malloc(1 << 22);
	if (flows_init(&flows, max) != 0 ||
	    inject_init(&inject, NULL, "none", path, MTU, false, nobody, NULL, err) != 0)
		return -1;
	stream_init(&a, &inject, &flows, buf_a);
	stream_init(&b, &inject, &flows, buf_b);
	return 0;
}

static int set_up(void **state)
{
	(void)state;
	return set_up_sized(FLOWS_MAX);
}

static int tear_down(void **state)
{
	(void)state;
	inject_fini(&inject);
	flows_fini(&flows);
	batch_fini(&out);
	free(buf_a);
	free(buf_b);
	free(file);
	return unlink(path);
}

static bool holds(const struct stream *s)
{
	uint64_t f = s->n.queued.frames, y = s->n.queued.bytes;

	for (int v = 0; v < VERDICTS; v++) {
		f += s->n.by[v].frames;
		y += s->n.by[v].bytes;
	}
	return f == s->n.received.frames && y == s->n.received.bytes;
}

static int feed(struct stream *s, const void *p, size_t len)
{
	const uint8_t *q = p;
	int r = 0;

	while (r == 0 && len > 0) {
		size_t n = len < stream_room(s) ? len : stream_room(s);

		memcpy(s->buf + s->len, q, n);
		s->len += n;
		q += n;
		len -= n;
		r = stream_run(s);
		assert_true(holds(s));
	}
	return r;
}

static void hello(struct stream *s)
{
	struct local_msg m = {.kind = BLOCK_HELLO, .hello = {.proto = LOCAL_PROTO, .host = "h"}};
	uint8_t buf[PCAPNG_HEAD + LOCAL_BLOCK_MAX];

	pcapng_head(buf);
	assert_int_equal(feed(s, buf, PCAPNG_HEAD + local_write(&m, buf + PCAPNG_HEAD)), 0);
	assert_true(s->has_hello);
}

static struct tuple tuple(uint16_t port)
{
	struct tuple t = {.ver = 4, .port = {port, 447}};

	memcpy(t.addr[0], "\x0a\0\0\1", 4);
	memcpy(t.addr[1], "\x0a\0\0\2", 4);
	return t;
}

static void segment(uint16_t port, enum side side, uint8_t flags, uint32_t seq, uint32_t ack, size_t len)
{
	static const uint8_t mac[2][6] = {{6, 0x11, 0x22, 0x33, 0x44, 0x55}, {6, 0x11, 0x22, 0x33, 0x44, 0x56}};
	static uint8_t data[MTU];
	struct tuple t = tuple(port);
	struct forge_seg g = {.t = &t,
			      .smac = mac[0],
			      .dmac = mac[1],
			      .data = data,
			      .len = len,
			      .side = side,
			      .seq = seq,
			      .ack = ack,
			      .mtu = MTU,
			      .window = 40000,
			      .flags = flags};
	uint8_t *p = batch_reserve(&out, FORGE_HEAD_MAX + len);

	batch_commit(&out, forge_frame(&g, p), len, 1000);
}

static void handshake(uint64_t id, uint16_t port)
{
	struct tuple t = tuple(port);

	assert_true(batch_flow(&out, id, 0, 0, &t));
	segment(port, SIDE_CLIENT, FORGE_SYN, 100, 0, 0);
	segment(port, SIDE_SERVER, FORGE_SYN | FORGE_ACK, 900, 101, 0);
	segment(port, SIDE_CLIENT, FORGE_ACK, 101, 901, 0);
}

static int send_out(struct stream *s)
{
	int r = feed(s, out.buf, out.len);

	batch_reset(&out);
	return r;
}

/* Injected frame number @i. */
static struct packet injected(unsigned i)
{
	struct pcapng p = {0};
	struct pcapng_block k = {0};
	size_t off = 0;
	FILE *f;

	inject_settle(&inject);
	f = fopen(path, "r");
	assert_non_null(f);
	n_file = fread(file, 1, 1 << 22, f);
	(void)fclose(f);
	for (unsigned n = 0; off < n_file;) {
		ssize_t r = pcapng_next(&p, file + off, n_file - off, &k);

		assert_true(r > 0);
		off += (size_t)r;
		if (k.kind == PCAPNG_PACKET && n++ == i)
			return k.pkt;
	}
	return (struct packet){0};
}

/* Is injected frame @i a segment of @side of the flow at @port with these numbers? */
static void is_segment(unsigned i, uint16_t port, enum side side, uint8_t flags, uint32_t seq, uint32_t ack)
{
	struct packet k = injected(i);
	struct cur c = cur_over(k.data, k.len, true);
	uint16_t from = 0, to = 0;
	uint32_t s = 0, y = 0;
	uint8_t off, f = 0;

	assert_true(k.len >= 54);
	assert_true(cur_skip(&c, 34) && cur_u16(&c, &from) && cur_u16(&c, &to) && cur_u32(&c, &s) && cur_u32(&c, &y) &&
		    cur_u8(&c, &off) && cur_u8(&c, &f));
	assert_int_equal(side == SIDE_CLIENT ? from : to, port);
	assert_int_equal(f, flags);
	assert_int_equal(s, seq);
	assert_int_equal(y, ack);
}

static void test_frames_are_injected_as_they_are(void **state)
{
	struct packet k;

	(void)state;
	hello(&a);
	for (size_t n = 60; n < 600; n++) {
		uint8_t *p = batch_reserve(&out, n);

		memset(p, (int)n, n);
		batch_commit(&out, n, 0, n);
	}
	assert_int_equal(send_out(&a), 0);
	assert_int_equal(a.n.by[VERDICT_INJECTED].frames, 540);
	assert_int_equal(a.len, 0);
	for (unsigned i = 0; i < 540; i += 77) {
		k = injected(i);
		assert_true(k.len == 60 + i && k.ts_ns == 60 + i);
		for (size_t x = 0; x < k.len; x++)
			assert_int_equal(k.data[x], (uint8_t)(60 + i));
	}
	assert_int_equal(injected(540).len, 0);
}

static void frame(size_t len, uint16_t type)
{
	uint8_t *p = batch_reserve(&out, len);

	memset(p, 0, len);
	if (len >= 14) {
		p[12] = (uint8_t)(type >> 8);
		p[13] = (uint8_t)type;
	}
	batch_commit(&out, len, 0, 0);
}

static void test_lengths_are_checked(void **state)
{
	(void)state;
	hello(&a);
	frame(0, 0);
	frame(13, 0);
	assert_int_equal(send_out(&a), 0);
	assert_int_equal(a.n.by[VERDICT_POLICY].frames, 2);
	frame(14, 0x0800);
	frame(MTU + 14, 0x0800);
	frame(MTU + 18, 0x8100);
	frame(MTU + 18, 0x88a8);
	assert_int_equal(send_out(&a), 0);
	assert_int_equal(a.n.by[VERDICT_INJECTED].frames, 4);
	frame(MTU + 15, 0x0800);
	frame(MTU + 19, 0x8100);
	frame(65549, 0x0800);
	frame(60, 0x0800);
	assert_int_equal(send_out(&a), 0);
	assert_int_equal(a.n.by[VERDICT_OVERSIZE].frames, 3);
	assert_int_equal(a.n.by[VERDICT_INJECTED].frames, 5);
	assert_int_equal(a.n.received.frames, 10);
}

static void test_cut_frames_and_other_links_are_not_injected(void **state)
{
	uint8_t buf[256];
	struct wcur w = wcur_over(buf, sizeof(buf), cur_host_be());

	(void)state;
	hello(&a);
	assert_true(wcur_u32(&w, PCAPNG_EPB) && wcur_u32(&w, 92) && wcur_zero(&w, 12) && wcur_u32(&w, 60) &&
		    wcur_u32(&w, 61) && wcur_zero(&w, 60) && wcur_u32(&w, 92)); /* cut */
	assert_true(wcur_u32(&w, PCAPNG_IDB) && wcur_u32(&w, 20) && wcur_u16(&w, 101) && wcur_zero(&w, 6) &&
		    wcur_u32(&w, 20));
	assert_true(wcur_u32(&w, PCAPNG_EPB) && wcur_u32(&w, 92) && wcur_u32(&w, 1) && wcur_zero(&w, 8) &&
		    wcur_u32(&w, 60) && wcur_u32(&w, 60) && wcur_zero(&w, 60) && wcur_u32(&w, 92)); /* raw IP */
	assert_int_equal(feed(&a, buf, sizeof(buf) - w.left), 0);
	assert_int_equal(a.n.by[VERDICT_POLICY].frames, 2);
	assert_int_equal(a.n.by[VERDICT_POLICY].bytes, 120);
}

static void test_any_cut_of_the_stream_is_the_same(void **state)
{
	uint64_t frames;

	(void)state;
	hello(&a);
	hello(&b);
	for (uint16_t i = 0; i < 50; i++)
		handshake(i, 1000 + i);
	frame(MTU + 15, 0);
	frame(3, 0);
	assert_int_equal(feed(&a, out.buf, out.len), 0);
	frames = a.n.by[VERDICT_INJECTED].frames;
	assert_int_equal(frames, 150);
	assert_int_equal(stream_end(&a), 0);
	for (size_t i = 0; i < out.len; i++)
		assert_int_equal(feed(&b, out.buf + i, 1), 0);
	assert_int_equal(b.n.by[VERDICT_INJECTED].frames, frames);
	assert_int_equal(b.decided, a.decided);
	assert_int_equal(b.n.by[VERDICT_DUPLICATE].frames, 0);
	assert_int_equal(stream_end(&b), 0);
}

static void test_open_flows_are_closed_at_the_end(void **state)
{
	(void)state;
	hello(&a);
	handshake(1, 4001);
	segment(4001, SIDE_CLIENT, FORGE_ACK | FORGE_PSH, 101, 901, 50);
	segment(4001, SIDE_SERVER, FORGE_ACK | FORGE_PSH, 901, 151, 1000);
	segment(4001, SIDE_CLIENT, FORGE_ACK, 151, 1901, 0);
	assert_int_equal(send_out(&a), 0);
	assert_int_equal(a.list.n, 1);
	assert_int_equal(stream_end(&a), 0);
	is_segment(6, 4001, SIDE_CLIENT, FORGE_FIN | FORGE_ACK, 151, 1901);
	is_segment(7, 4001, SIDE_SERVER, FORGE_FIN | FORGE_ACK, 1901, 152);
	is_segment(8, 4001, SIDE_CLIENT, FORGE_ACK, 152, 1902);
	assert_int_equal(injected(9).len, 0);
	assert_memory_equal(injected(6).data, "\6\x11\x22\x33\x44\x56\6\x11\x22\x33\x44\x55", 12);
	assert_true(a.n.flows_closed == 1 && a.n.closing.frames == 3 && flows.n == 0);
}

static void test_only_what_is_missing_is_closed(void **state)
{
	(void)state;
	hello(&a);
	handshake(1, 4001); /* closed by the server, half */
	segment(4001, SIDE_SERVER, FORGE_FIN | FORGE_ACK, 901, 101, 0);
	handshake(2, 4002); /* closed, but for the last ACK */
	segment(4002, SIDE_SERVER, FORGE_FIN | FORGE_ACK, 901, 101, 0);
	segment(4002, SIDE_CLIENT, FORGE_FIN | FORGE_ACK, 101, 902, 0);
	handshake(3, 4003); /* closed */
	segment(4003, SIDE_CLIENT, FORGE_FIN | FORGE_ACK, 101, 901, 0);
	segment(4003, SIDE_SERVER, FORGE_FIN | FORGE_ACK, 901, 102, 0);
	segment(4003, SIDE_CLIENT, FORGE_ACK, 102, 902, 0);
	handshake(4, 4004); /* reset */
	segment(4004, SIDE_CLIENT, FORGE_RST, 101, 0, 0);
	assert_int_equal(send_out(&a), 0);
	assert_int_equal(a.n.by[VERDICT_INJECTED].frames, 19);
	assert_int_equal(stream_end(&a), 0);
	/* what was not used for longest first */
	is_segment(19, 4001, SIDE_CLIENT, FORGE_FIN | FORGE_ACK, 101, 902);
	is_segment(20, 4001, SIDE_CLIENT, FORGE_ACK, 102, 902);
	is_segment(21, 4002, SIDE_CLIENT, FORGE_ACK, 102, 902);
	assert_int_equal(injected(22).len, 0);
	assert_int_equal(a.n.flows_closed, 2);
}

static void test_a_cut_handshake_is_finished_then_closed(void **state)
{
	struct tuple t = tuple(4001);
	uint32_t isn = 100 + 1;

	(void)state;
	hello(&a);
	assert_true(batch_flow(&out, 0, 0, 0, &t));
	segment(4001, SIDE_CLIENT, FORGE_SYN, 100, 0, 0);
	assert_int_equal(send_out(&a), 0);
	assert_int_equal(stream_end(&a), 0);
	is_segment(1, 4001, SIDE_SERVER, FORGE_SYN | FORGE_ACK, isn, 101);
	is_segment(2, 4001, SIDE_CLIENT, FORGE_FIN | FORGE_ACK, 101, isn + 1);
	is_segment(3, 4001, SIDE_SERVER, FORGE_FIN | FORGE_ACK, isn + 1, 102);
	is_segment(4, 4001, SIDE_CLIENT, FORGE_ACK, 102, isn + 2);
	assert_int_equal(injected(5).len, 0);
}

static void test_native_agents_flows_are_left_alone(void **state)
{
	uint8_t head[PCAPNG_HEAD];

	(void)state;
	pcapng_head(head);
	assert_int_equal(feed(&a, head, sizeof(head)), 0);
	segment(4001, SIDE_CLIENT, FORGE_SYN, 100, 0, 0);
	segment(4001, SIDE_SERVER, FORGE_SYN | FORGE_ACK, 900, 101, 0);
	assert_int_equal(send_out(&a), 0);
	assert_int_equal(stream_end(&a), 0);
	assert_int_equal(a.n.by[VERDICT_INJECTED].frames, 2);
	assert_int_equal(injected(2).len, 0);
	handshake(1, 4001); /* FLOW is for those who said hello */
	assert_int_equal(send_out(&a), -EPROTO);
}

static void test_one_owner_per_flow_id(void **state)
{
	(void)state;
	hello(&a);
	hello(&b);
	handshake(7, 4001);
	assert_int_equal(send_out(&a), 0);
	handshake(7, 4001);
	segment(4001, SIDE_CLIENT, FORGE_ACK, 101, 901, 10);
	handshake(7, 5001); /* the same connection behind a translated address */
	handshake(8, 5002);
	assert_int_equal(send_out(&b), 0);
	assert_int_equal(b.n.by[VERDICT_DUPLICATE].frames, 7);
	assert_int_equal(b.n.by[VERDICT_INJECTED].frames, 3);
	/* the owner goes: the other's next incarnation is shown */
	assert_int_equal(stream_end(&a), 0);
	segment(4001, SIDE_CLIENT, FORGE_ACK, 111, 901, 10);
	assert_int_equal(send_out(&b), 0);
	assert_int_equal(b.n.by[VERDICT_DUPLICATE].frames, 8);
	handshake(7, 4001);
	assert_int_equal(send_out(&b), 0);
	assert_int_equal(b.n.by[VERDICT_DUPLICATE].frames, 8);
	assert_int_equal(b.n.by[VERDICT_INJECTED].frames, 6);
	assert_int_equal(stream_end(&b), 0);
	assert_int_equal(b.n.flows_closed, 2);
	assert_int_equal(flows.n, 0);
}

static void test_a_reused_tuple_is_another_flow(void **state)
{
	(void)state;
	hello(&a);
	handshake(1, 4001);
	handshake(2, 4001);
	assert_int_equal(send_out(&a), 0);
	assert_int_equal(a.list.n, 1);
	assert_int_equal(a.n.by[VERDICT_INJECTED].frames, 6);
	assert_int_equal(stream_end(&a), 0);
}

static int set_up_small(void **state)
{
	(void)state;
	return set_up_sized(4);
}

static void test_a_full_table_closes_the_oldest(void **state)
{
	(void)state;
	hello(&a);
	for (uint16_t i = 0; i < 4; i++)
		handshake(i, 4000 + i);
	segment(4000, SIDE_CLIENT, FORGE_ACK, 101, 901, 10); /* used again: 4001 is the oldest */
	handshake(4, 4004);
	assert_int_equal(send_out(&a), 0);
	assert_true(flows.n == 4 && flows.evicted == 1 && a.n.flows_closed == 1);
	is_segment(13, 4001, SIDE_CLIENT, FORGE_FIN | FORGE_ACK, 101, 901);
	is_segment(14, 4001, SIDE_SERVER, FORGE_FIN | FORGE_ACK, 901, 102);
	is_segment(15, 4001, SIDE_CLIENT, FORGE_ACK, 102, 902);
	is_segment(16, 4004, SIDE_CLIENT, FORGE_SYN, 100, 0);
	for (uint32_t i = 0; i < 20000; i++) {
		handshake(100 + i, (uint16_t)(1 + i));
		if (out.n > 500)
			assert_int_equal(send_out(&a), 0);
	}
	assert_int_equal(send_out(&a), 0);
	assert_int_equal(stream_end(&a), 0);
	assert_int_equal(flows.n, 0);
	assert_int_equal(flows.evicted, 20001);
}

static int set_up_16(void **state)
{
	(void)state;
	return set_up_sized(16);
}

static void test_who_has_many_flows_makes_room(void **state)
{
	(void)state;
	hello(&a);
	hello(&b);
	handshake(1, 4001);
	assert_int_equal(send_out(&a), 0);
	for (uint16_t i = 0; i < 100; i++)
		handshake(100 + i, 5000 + i);
	assert_int_equal(send_out(&b), 0);
	assert_true(a.list.n == 1 && b.list.n == 15 && flows.evicted == 85); /* b is larger: its own */
	handshake(2, 4002);
	assert_int_equal(send_out(&a), 0);
	assert_true(a.list.n == 2 && b.list.n == 14 && flows.evicted == 86); /* a is smaller: b's */
	assert_int_equal(stream_end(&b), 0);
	hello((stream_init(&b, &inject, &flows, buf_b), &b));
	for (uint16_t i = 0; i < 20; i++)
		handshake(200 + i, 6000 + i);
	assert_int_equal(send_out(&b), 0);
	assert_true(a.list.n == 2 && b.list.n == 14 && flows.evicted == 92);
	assert_int_equal(stream_end(&a), 0);
	assert_int_equal(stream_end(&b), 0);
	assert_int_equal(flows.n, 0);
}

static void test_one_id_many_times_costs_no_more(void **state)
{
	clock_t t0 = clock();

	(void)state;
	hello(&a);
	hello(&b);
	for (struct stream *s = &a;; s = &b) {
		for (uint32_t i = 0; i < 60000; i++) {
			struct tuple t = tuple((uint16_t)(i + 1));

			if (!batch_flow(&out, 7, i, 0, &t)) {
				assert_int_equal(send_out(s), 0);
				assert_true(batch_flow(&out, 7, i, 0, &t));
			}
		}
		assert_int_equal(send_out(s), 0);
		if (s == &b)
			break;
	}
	assert_int_equal(stream_end(&a), 0);
	handshake(7, 4001);
	assert_int_equal(send_out(&b), 0); /* now it owns the id */
	assert_int_equal(b.n.by[VERDICT_INJECTED].frames, 3);
	assert_int_equal(stream_end(&b), 0);
	assert_int_equal(flows.n, 0);
	assert_true(clock() - t0 < 2 * CLOCKS_PER_SEC); /* a tenth of it */
}

static void test_what_is_given_up_is_counted(void **state)
{
	(void)state;
	hello(&a);
	for (int i = 0; i < 1000; i++)
		frame(60, 0x88b5);
	inject.busy = true;
	assert_int_equal(send_out(&a), -EAGAIN);
	assert_true(a.n.received.frames < 1000); /* the rest is not even looked at */
	stream_discard(&a);
	assert_true(holds(&a) && a.len == 0);
	assert_int_equal(a.n.received.frames, 1000);
	assert_int_equal(a.n.by[VERDICT_ERROR].frames, 1000);
	assert_int_equal(a.n.queued.frames, 0);
	inject.busy = false;
}

static void test_nothing_is_injected_into_a_full_disk(void **state)
{
	int full = open("/dev/full", O_WRONLY);

	(void)state;
	hello(&a);
	frame(60, 0x88b5);
	assert_int_equal(send_out(&a), 0);
	assert_int_equal(dup2(full, inject.file), inject.file);
	inject.regular = false;
	for (int i = 0; i < 900; i++)
		frame(60, 0x88b5);
	assert_int_equal(send_out(&a), 0);
	inject_settle(&inject);
	assert_true(inject.failed);
	frame(60, 0x88b5);
	assert_int_equal(send_out(&a), 0);
	assert_true(a.n.by[VERDICT_ERROR].frames >= 1 && holds(&a));
	close(full);
}

static void test_a_flow_with_two_equal_ends_harms_nobody(void **state)
{
	struct tuple t = {.ver = 4, .port = {5, 5}};

	(void)state;
	hello(&a);
	assert_true(batch_flow(&out, 1, 0, 0, &t));
	t = tuple(447);
	memcpy(t.addr[1], t.addr[0], 4);
	assert_true(batch_flow(&out, 2, 0, 0, &t));
	segment(447, SIDE_CLIENT, FORGE_SYN, 100, 0, 0);
	assert_int_equal(send_out(&a), 0);
	assert_int_equal(stream_end(&a), 0);
	assert_int_equal(flows.n, 0);
}

static void test_what_is_no_stream_ends_it(void **state)
{
	struct local_msg m = {.kind = BLOCK_HELLO, .hello = {.proto = 1}};
	uint8_t buf[LOCAL_BLOCK_MAX];

	(void)state;
	assert_int_equal(feed(&a, "GET", 3), 0);
	assert_int_equal(feed(&a, " / HTTP/1.1", 11), -EBADMSG);
	assert_string_equal(a.why, "no pcapng or pcap stream");
	hello(&b);
	assert_int_equal(feed(&b, buf, local_write(&m, buf)), -EPROTO); /* hello twice */
}

int main(void)
{
#define TEST(t) cmocka_unit_test_setup_teardown(t, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		TEST(test_frames_are_injected_as_they_are),
		TEST(test_lengths_are_checked),
		TEST(test_cut_frames_and_other_links_are_not_injected),
		TEST(test_any_cut_of_the_stream_is_the_same),
		TEST(test_open_flows_are_closed_at_the_end),
		TEST(test_only_what_is_missing_is_closed),
		TEST(test_a_cut_handshake_is_finished_then_closed),
		TEST(test_native_agents_flows_are_left_alone),
		TEST(test_one_owner_per_flow_id),
		TEST(test_a_reused_tuple_is_another_flow),
		cmocka_unit_test_setup_teardown(test_a_full_table_closes_the_oldest, set_up_small, tear_down),
		cmocka_unit_test_setup_teardown(test_who_has_many_flows_makes_room, set_up_16, tear_down),
		TEST(test_one_id_many_times_costs_no_more),
		TEST(test_what_is_given_up_is_counted),
		TEST(test_nothing_is_injected_into_a_full_disk),
		TEST(test_a_flow_with_two_equal_ends_harms_nobody),
		TEST(test_what_is_no_stream_ends_it),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
