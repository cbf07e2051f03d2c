/* SPDX-License-Identifier: Apache-2.0 */
/* test_flow.c - which frames a conversation becomes. seen.h checks each of them besides. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <errno.h>

#include "seen.h"

#define MS 1000000ull
#define SEC (1000 * MS)
#define START (1700000000 * SEC)
#define HANDSHAKE "c S, s SA, c A, s A, "

static struct {
	struct flow f;
	struct flow_conf c;
	struct batch b;
	struct seen seen;
	uint64_t ts;
} w;

static int setup_ver(int ver)
{
	struct tuple t = seen_tuple(ver);

	w.c = seen_conf();
	w.ts = START;
	flow_init(&w.f, &t, 0x1234567890abcdef, 0);
	seen_init(&w.seen, &w.f, &w.c);
	batch_init(&w.b);
	return 0;
}

static int setup(void **state)
{
	(void)state;
	return setup_ver(4);
}

static int teardown(void **state)
{
	(void)state;
	batch_fini(&w.b);
	seen_fini(&w.seen);
	return 0;
}

static size_t give(enum side side, const void *data, size_t len, bool cont)
{
	size_t frames = flow_frames(&w.c, len), room = flow_room(&w.c, len);
	ssize_t n;

	w.ts += MS;
	n = flow_data(&w.f, &w.c, side, data, len, cont, w.ts, &w.b);
	assert_true(n >= 0);
	assert_true(w.b.n <= frames && w.b.len <= room);
	seen_batch(&w.seen, &w.b);
	return (size_t)n;
}

static size_t say(enum side side, const char *text)
{
	return give(side, text, strlen(text), false);
}

static void settle(void)
{
	assert_int_equal(flow_settle(&w.f, &w.c, w.ts, &w.b), 0);
	seen_batch(&w.seen, &w.b);
}

static void tick(uint64_t later_ns)
{
	w.ts += later_ns;
	assert_int_equal(flow_tick(&w.f, &w.c, w.ts, w.ts, &w.b), 0);
	assert_true(w.b.n <= FLOW_FRAMES_CLOSE && w.b.len <= FLOW_ROOM_CLOSE);
	seen_batch(&w.seen, &w.b);
}

static void lost(enum side side, uint64_t len)
{
	assert_int_equal(flow_lost(&w.f, &w.c, side, len, w.ts, &w.b), 0);
	assert_true(w.b.n <= FLOW_FRAMES_CLOSE && w.b.len <= FLOW_ROOM_CLOSE);
	seen_batch(&w.seen, &w.b);
}

static void end(enum side first)
{
	assert_int_equal(flow_end(&w.f, &w.c, first, w.ts, &w.b), 0);
	seen_batch(&w.seen, &w.b);
}

/* What was seen since the last call, as "c PA5, s A, ...": side, flags, bytes. */
static const char *frames(void)
{
	static char text[65536];
	static const char letter[] = "FSRPA";
	size_t len = 0;

	text[0] = 0;
	for (size_t i = 0; i < w.seen.n_frames && len < sizeof text - 32; i++) {
		const struct seen_frame *f = &w.seen.frame[i];

		len += (size_t)sprintf(text + len, "%c ", f->side ? 's' : 'c');
		for (int bit = 0; bit < 5; bit++)
			if (f->flags & 1 << bit)
				text[len++] = letter[bit];
		len += (size_t)sprintf(text + len, f->len ? "%u, " : ", ", f->len);
	}
	w.seen.n_frames = 0;
	free(w.seen.frame);
	w.seen.frame = NULL;
	return text;
}

#define GET "GET / HTTP/1.1\r\n\r\n"			     /* 18 bytes */
#define OK2 "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok" /* 40 bytes */

static void test_exchange_is_data_ack_echo(void **state)
{
	(void)state;
	assert_int_equal(say(SIDE_CLIENT, GET), 18);
	assert_string_equal(frames(), HANDSHAKE "c PA18, ");
	settle();
	assert_string_equal(frames(), "s A, ");
	assert_int_equal(w.f.due_ns, 0);
	tick(0);
	assert_string_equal(frames(), "");
	tick(w.c.echo_ns);
	assert_string_equal(frames(), "c A, ");
	say(SIDE_SERVER, OK2);
	settle();
	tick(0);
	tick(w.c.echo_ns);
	assert_string_equal(frames(), "s PA40, c A, s A, ");
	end(SIDE_CLIENT);
	assert_string_equal(frames(), "c FA, s FA, c A, ");
	assert_true(w.f.due_ns == UINT64_MAX);
}

static void test_exchange_in_one_sweep_takes_four_frames(void **state)
{
	(void)state;
	for (int i = 0; i < 3; i++) {
		say(SIDE_CLIENT, GET);
		say(SIDE_SERVER, OK2);
		settle();
		assert_string_equal(frames(), i ? "c PA18, s PA40, c A, " : HANDSHAKE "c PA18, s PA40, c A, ");
		tick(0);
	}
	tick(w.c.echo_ns);
	assert_string_equal(frames(), "s A, ");
	end(SIDE_SERVER);
	assert_string_equal(frames(), "s FA, c FA, s A, ");
}

static void test_large_data_is_acknowledged_every_16k(void **state)
{
	static uint8_t body[300000];
	char head[100];

	(void)state;
	say(SIDE_CLIENT, GET);
	(void)snprintf(head, sizeof head, "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\n\r\n", sizeof body);
	say(SIDE_SERVER, head);
	for (size_t pos = 0; pos < sizeof body; pos += 60000)
		assert_int_equal(give(SIDE_SERVER, body + pos, 60000, pos % 120000 > 0), 60000);
	settle();
	assert_int_equal(w.seen.inc[0].s[SIDE_SERVER].unacked_max, FLOW_ACK_MAX);
	assert_int_equal(http1_outstanding(&w.f.http), 0);
	end(SIDE_SERVER);
}

static void test_no_ack_inside_a_header_block(void **state)
{
	static char text[90000];
	size_t len;

	(void)state;
	memset(text, 'a', sizeof text);
	memcpy(text, "GET / HTTP/1.1\r\nX: ", 19);
	memcpy(text + 40000, "\r\n\r\n", 4);
	give(SIDE_CLIENT, text, 15000, false);
	settle();
	give(SIDE_CLIENT, text + 15000, 25004 - 10, true);
	settle();
	assert_int_equal(w.f.s[SIDE_CLIENT].acked, w.seen.inc[0].s[0].isn + 1);
	give(SIDE_CLIENT, text + 39994, 10, false);
	settle();
	assert_int_equal(w.f.s[SIDE_CLIENT].acked, w.f.s[SIDE_CLIENT].seq);
	for (size_t i = 4; i < w.seen.n_frames; i++)
		if (w.seen.frame[i].side == SIDE_SERVER)
			assert_true(w.seen.frame[i].ack == 1 || w.seen.frame[i].ack == 40005);
	/* A response header may come with its body: one ACK at its end, then every 16 KiB. */
	frames();
	len = (size_t)sprintf(text, "HTTP/1.1 200 OK\r\nContent-Length: 50000\r\nX: ");
	memset(text + len, 'b', 20000);
	memcpy(text + len + 20000, "\r\n\r\n", 4);
	memset(text + len + 20004, 'c', 40000);
	give(SIDE_SERVER, text, len + 60004, false);
	settle();
	for (size_t i = 0; i < w.seen.n_frames; i++)
		if (w.seen.frame[i].side == SIDE_CLIENT) {
			assert_int_equal(w.seen.frame[i].ack, 1 + len + 20004);
			break;
		}
	assert_int_equal(w.seen.inc[0].s[SIDE_SERVER].unacked_max, len + 20004);
	/* More than 64 KiB: ACKs all the same. */
	memset(text, 'a', sizeof text);
	give(SIDE_SERVER, text, 10000, false);
	memcpy(text, "GET / HTTP/1.1\r\nX: ", 19);
	give(SIDE_CLIENT, text, sizeof text, false);
	settle();
	assert_int_equal(w.f.s[SIDE_CLIENT].acked, w.f.s[SIDE_CLIENT].seq);
	end(SIDE_CLIENT);
}

static void test_pipelined_requests_get_an_ack_each(void **state)
{
	(void)state;
	say(SIDE_CLIENT, GET GET GET);
	say(SIDE_SERVER, OK2 OK2 OK2);
	settle();
	assert_string_equal(frames(),
			    HANDSHAKE "c PA18, s A, c PA18, s A, c PA18, s PA40, c A, s PA40, c A, s PA40, c A, ");
}

static void test_tiny_messages_stay_within_the_batch(void **state)
{
	static char text[65536];
	size_t len = 0;

	(void)state;
	w.c.mtu = 576;
	while (len + 18 <= sizeof text && len < 18 * 500)
		len += (size_t)sprintf(text + len, GET);
	assert_int_equal(give(SIDE_CLIENT, text, len, false), len);
	assert_true(flow_frames(&w.c, 65536) < BATCH_FRAMES && flow_room(&w.c, 65536) < BATCH_BYTES);
}

static void test_a_record_of_another_protocol_gets_an_ack(void **state)
{
	(void)state;
	say(SIDE_SERVER, "220 mail ESMTP\r\n");
	assert_string_equal(frames(), HANDSHAKE "s PA16, ");
	say(SIDE_CLIENT, "EHLO a\r\n");
	say(SIDE_CLIENT, "MAIL FROM:<a@b>\r\n");
	settle();
	assert_string_equal(frames(), "c PA8, s A, c PA17, s A, ");
	assert_int_equal(w.f.http.is, HTTP1_NO);
}

static void test_keepalive_goes_each_way_when_idle(void **state)
{
	uint64_t idle = 0;

	(void)state;
	say(SIDE_CLIENT, GET);
	say(SIDE_SERVER, OK2);
	settle();
	tick(1);
	tick(w.c.echo_ns);
	frames();
	for (int i = 0; i < 3; i++) {
		assert_in_range(w.f.due_ns, w.ts + w.c.keepalive_ns * 3 / 4, w.ts + w.c.keepalive_ns);
		idle = w.f.due_ns - w.ts;
		tick(idle - 1);
		assert_string_equal(frames(), "");
		tick(1);
		assert_string_equal(frames(), "c A, s A, ");
	}
	say(SIDE_CLIENT, GET);
	settle();
	tick(1);
	frames();
	tick(idle / 2);
	assert_string_equal(frames(), "c A, ");
	w.c.keepalive_ns = 0;
	tick(10 * SEC);
	assert_true(w.f.due_ns == UINT64_MAX);
}

static void test_rotation_at_a_border(void **state)
{
	static char body[100000];
	char head[100];
	int n;

	(void)state;
	n = snprintf(head, sizeof head, "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\n\r\n", sizeof body);
	for (int i = 0; i < 30; i++) {
		char q[40];

		(void)snprintf(q, sizeof q, "GET /%d HTTP/1.1\r\n\r\n", i);
		assert_int_equal(say(SIDE_CLIENT, q), strlen(q));
		assert_int_equal(say(SIDE_SERVER, head), n);
		assert_int_equal(give(SIDE_SERVER, body, 50000, false), 50000);
		settle();
		assert_int_equal(give(SIDE_SERVER, body, 50000, false), 50000);
		settle();
	}
	assert_int_equal(w.f.rotations, 3);
	assert_int_equal(w.f.inc, 3);
	assert_int_equal(w.seen.n_inc, 4);
	assert_int_equal(w.f.breaks, 0);
	for (size_t i = 0; i < 4; i++) {
		assert_in_range(w.seen.inc[i].s[SIDE_SERVER].len, 1, w.c.rotate + sizeof body + 100);
		assert_memory_equal(w.seen.inc[i].s[SIDE_CLIENT].data, "GET /", 5);
		if (i)
			assert_true(w.seen.inc[i].s[0].isn != w.seen.inc[i - 1].s[0].isn);
	}
}

static void test_loss_closes_and_the_next_request_opens(void **state)
{
	(void)state;
	say(SIDE_CLIENT, "GET /1 HTTP/1.1\r\n\r\n");
	say(SIDE_SERVER, "HTTP/1.1 200 1\r\nContent-Length: 100\r\n\r\nabc");
	frames();
	lost(SIDE_SERVER, 50);
	assert_string_equal(frames(), "c FA, s FA, c A, ");
	assert_int_equal(say(SIDE_SERVER, "the rest of it"), 0);
	assert_int_equal(w.f.s[SIDE_SERVER].resync, 14);
	/* In the middle of a record: where the next message begins is known, for the hole was in a body. */
	assert_int_equal(say(SIDE_CLIENT, "GET /2 HTTP/1.1\r\n\r\n"), 19);
	assert_int_equal(say(SIDE_SERVER,
			     "abcdefghijklmnopqrstuvwxyz1234567HTTP/1.1 200 2\r\nContent-Length: 0\r\n\r\n"),
			 37);
	assert_string_equal(frames(), HANDSHAKE "c PA19, s PA37, ");
	assert_int_equal(w.f.breaks, 1);
	assert_int_equal(w.f.inc, 1);
}

static void test_loss_with_requests_outstanding_drops_their_responses(void **state)
{
	(void)state;
	say(SIDE_CLIENT, "POST /1 HTTP/1.1\r\nContent-Length: 100\r\n\r\nabc");
	lost(SIDE_CLIENT, 97);
	assert_int_equal(say(SIDE_CLIENT, "GET /2 HTTP/1.1\r\n\r\n" GET), 37);
	assert_int_equal(say(SIDE_SERVER, OK2), 0);
	assert_int_equal(say(SIDE_SERVER, OK2 OK2), 80);
	assert_int_equal(w.seen.n_inc, 2);
}

static void test_whole_response_lost(void **state)
{
	(void)state;
	say(SIDE_CLIENT, GET);
	lost(SIDE_SERVER, 40);
	assert_int_equal(say(SIDE_CLIENT, GET), 18);
	assert_int_equal(say(SIDE_SERVER, OK2), 40);
	assert_int_equal(say(SIDE_CLIENT, GET), 18);
	assert_int_equal(w.seen.n_inc, 2);
}

static void test_whole_request_lost(void **state)
{
	(void)state;
	say(SIDE_CLIENT, GET);
	say(SIDE_SERVER, OK2);
	lost(SIDE_CLIENT, 18);
	assert_int_equal(say(SIDE_SERVER, OK2), 0);
	assert_int_equal(say(SIDE_CLIENT, GET), 18);
	assert_int_equal(say(SIDE_SERVER, OK2), 40);
}

static void test_a_wrong_presumption_breaks_again(void **state)
{
	(void)state;
	say(SIDE_CLIENT, GET);
	lost(SIDE_SERVER, 10);
	assert_int_equal(say(SIDE_CLIENT, GET), 18);
	assert_int_equal(w.f.state, FLOW_OPEN);
	assert_int_equal(say(SIDE_SERVER, "the end of the first response"), 0);
	assert_int_equal(w.f.state, FLOW_CLOSED);
	assert_int_equal(w.f.breaks, 2);
	w.ts += FLOW_QUIET_NS;
	assert_int_equal(say(SIDE_CLIENT, GET), 18);
	assert_int_equal(say(SIDE_SERVER, OK2), 40);
}

static void test_loss_in_another_protocol_goes_on_with_the_next_record(void **state)
{
	(void)state;
	say(SIDE_SERVER, "220 mail\r\n");
	say(SIDE_CLIENT, "EHLO a\r\n");
	frames();
	lost(SIDE_SERVER, 100);
	assert_int_equal(give(SIDE_SERVER, "the same record", 15, true), 0);
	assert_int_equal(say(SIDE_SERVER, "250 ok\r\n"), 8);
	assert_string_equal(frames(), "c FA, s FA, c A, " HANDSHAKE "s PA8, ");
}

static void test_a_connection_joined_midway(void **state)
{
	struct tuple t = seen_tuple(4);

	(void)state;
	flow_init(&w.f, &t, 7, 5);
	assert_int_equal(say(SIDE_SERVER, "the middle of a body"), 0);
	assert_int_equal(say(SIDE_CLIENT, GET), 18);
	assert_int_equal(w.f.inc, 5);
	assert_int_equal(say(SIDE_SERVER, OK2), 40);
	end(SIDE_CLIENT);
	/* Something else: two turns of the client show it. */
	flow_init(&w.f, &t, 7, 6);
	assert_int_equal(say(SIDE_CLIENT, "\x82\x05hello"), 0);
	assert_int_equal(say(SIDE_SERVER, "\x82\x05hello"), 0);
	assert_int_equal(say(SIDE_CLIENT, "\x82\x05hello"), 7);
	assert_int_equal(say(SIDE_SERVER, "\x82\x05hello"), 7);
}

static void test_cut_and_forget(void **state)
{
	(void)state;
	say(SIDE_CLIENT, GET);
	say(SIDE_SERVER, OK2);
	frames();
	assert_int_equal(flow_cut(&w.f, &w.c, w.ts, &w.b), 0);
	seen_batch(&w.seen, &w.b);
	assert_string_equal(frames(), "c FA, s FA, c A, ");
	assert_int_equal(say(SIDE_CLIENT, GET), 18); /* at a border: nothing is missing */
	assert_string_equal(frames(), HANDSHAKE "c PA18, ");
	assert_int_equal(flow_cut(&w.f, &w.c, w.ts, &w.b), 0);
	seen_batch(&w.seen, &w.b);
	assert_int_equal(say(SIDE_SERVER, OK2), 0);
	assert_int_equal(say(SIDE_CLIENT, GET), 18);
	assert_int_equal(say(SIDE_SERVER, OK2), 40);
	frames();
	flow_forget(&w.f);
	w.seen.inc[w.seen.n_inc - 1].s[0].fin = w.seen.inc[w.seen.n_inc - 1].s[1].fin = true; /* closed by others */
	assert_int_equal(w.f.state, FLOW_CLOSED);
	assert_int_equal(say(SIDE_CLIENT, GET), 18);
	assert_string_equal(frames(), HANDSHAKE "c PA18, ");
	assert_int_equal(w.f.inc, 3);
	assert_int_equal(w.f.breaks, 3);
}

static void test_a_response_that_nobody_asked_for_is_forged(void **state)
{
	(void)state;
	say(SIDE_CLIENT, GET);
	say(SIDE_SERVER, OK2);
	assert_int_equal(say(SIDE_SERVER, "HTTP/1.1 408 Timeout\r\nContent-Length: 0\r\n\r\n"), 43);
	assert_int_equal(w.f.breaks, 0);
}

static void test_a_full_batch_changes_nothing(void **state)
{
	struct flow before;

	(void)state;
	say(SIDE_CLIENT, GET);
	while (batch_reserve(&w.b, 60))
		batch_commit(&w.b, 60, 0, 0);
	memcpy(&before, &w.f, sizeof before);
	assert_int_equal(flow_data(&w.f, &w.c, SIDE_CLIENT, (const uint8_t *)GET, 18, false, w.ts, &w.b), -ENOBUFS);
	assert_int_equal(flow_lost(&w.f, &w.c, SIDE_CLIENT, 1, w.ts, &w.b), -ENOBUFS);
	assert_int_equal(flow_cut(&w.f, &w.c, w.ts, &w.b), -ENOBUFS);
	assert_int_equal(flow_settle(&w.f, &w.c, w.ts, &w.b), -ENOBUFS);
	assert_int_equal(flow_tick(&w.f, &w.c, w.ts, w.ts, &w.b), -ENOBUFS);
	assert_int_equal(flow_end(&w.f, &w.c, SIDE_CLIENT, w.ts, &w.b), -ENOBUFS);
	assert_memory_equal(&before, &w.f, sizeof before);
	batch_reset(&w.b);
}

static void test_times_never_go_back(void **state)
{
	(void)state;
	say(SIDE_CLIENT, GET);
	w.ts -= 10 * SEC;
	say(SIDE_SERVER, OK2); /* seen.h checks */
	settle();
	end(SIDE_CLIENT);
}

static void test_all_sizes_and_both_ip_versions(void **state)
{
	static const uint32_t mtu[] = {576, 1280, 1500, 9000, 65521};
	static uint8_t data[200000];

	for (int ver = 4; ver <= 6; ver += 2)
		for (size_t i = 0; i < sizeof mtu / sizeof *mtu; i++) {
			teardown(state);
			setup_ver(ver);
			w.c.mtu = mtu[i];
			for (size_t len = 1; len < 65536; len = len * 3 + 1) {
				assert_int_equal(give(SIDE_CLIENT, data, len, false), len);
				assert_int_equal(give(SIDE_SERVER, data, len, false), len);
				settle();
			}
			end(SIDE_SERVER);
			assert_int_equal(w.seen.inc[0].s[0].len, w.f.s[0].forged);
		}
}

static void test_isns_differ_by_everything(void **state)
{
	struct tuple t = seen_tuple(4);
	uint32_t isn[6];

	(void)state;
	for (int i = 0; i < 5; i++) {
		teardown(state);
		setup(state);
		flow_init(&w.f, &t, i == 1 ? 8 : 7, i == 2);
		w.f.stream = i == 3;
		w.c.isn_key[3] = (uint8_t)(i == 4 ? 1 : 2);
		say(SIDE_CLIENT, GET);
		isn[i] = w.seen.inc[0].s[SIDE_CLIENT].isn;
		if (!i)
			isn[5] = w.seen.inc[0].s[SIDE_SERVER].isn;
	}
	for (int i = 0; i < 6; i++)
		for (int j = 0; j < i; j++)
			assert_true(isn[i] != isn[j]);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_exchange_is_data_ack_echo),
		T(test_exchange_in_one_sweep_takes_four_frames),
		T(test_large_data_is_acknowledged_every_16k),
		T(test_no_ack_inside_a_header_block),
		T(test_pipelined_requests_get_an_ack_each),
		T(test_tiny_messages_stay_within_the_batch),
		T(test_a_record_of_another_protocol_gets_an_ack),
		T(test_keepalive_goes_each_way_when_idle),
		T(test_rotation_at_a_border),
		T(test_loss_closes_and_the_next_request_opens),
		T(test_loss_with_requests_outstanding_drops_their_responses),
		T(test_whole_response_lost),
		T(test_whole_request_lost),
		T(test_a_wrong_presumption_breaks_again),
		T(test_loss_in_another_protocol_goes_on_with_the_next_record),
		T(test_a_connection_joined_midway),
		T(test_cut_and_forget),
		T(test_a_response_that_nobody_asked_for_is_forged),
		T(test_a_full_batch_changes_nothing),
		T(test_times_never_go_back),
		T(test_all_sizes_and_both_ip_versions),
		T(test_isns_differ_by_everything),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
