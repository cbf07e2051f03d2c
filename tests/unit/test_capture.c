/* SPDX-License-Identifier: Apache-2.0 */
/* test_capture.c - packets of an interface into a batch, in a network namespace of the test's own (root; else skipped):
 * all of them and in order, whatever the sink's credit and the interface do; none of tlstap's own. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "agentd/capture.h"
#include "agentd/filter.h"
#include "agentd/lane.h"
#include "common/flow.h"
#include "common/own.h"

#define BUFFER (64u << 20) /* bytes of the ring */
#define WAIT_MS 5000
#define FRAMES_MAX 40000u

static struct lane lane;
static int credit; /* batches the sink takes; -1: any number */
static struct own *own;
static struct capture *c;
static char err[CAPTURE_ERR];
static bool can;
static uint64_t start_ns, last_ns;

/* What came out: the frames' numbers (the last two bytes of each), and the last frame. */
static uint16_t number[FRAMES_MAX];
static unsigned got;
static uint8_t last[65600];
static size_t last_len;

/* --- a lane --- */

static bool sink_credit(struct sink *s)
{
	(void)s;
	return credit != 0;
}

static void sink_put(struct sink *s, const struct batch *b)
{
	(void)s;
	assert_true(credit != 0);
	if (credit > 0)
		credit--;
	for (unsigned i = 0; i < b->n; i++) {
		const uint8_t *f = b->buf + b->frame[i].off;

		assert_true(got < FRAMES_MAX && b->frame[i].len >= 14 && b->frame[i].len <= sizeof(last));
		last_len = b->frame[i].len;
		memcpy(last, f, last_len);
		memcpy(&number[got++], f + last_len - 2, 2);
	}
}

static const struct sink_ops ops = {.name = "test", .credit = sink_credit, .put = sink_put};
static struct sink sink = {.ops = &ops, .mtu = 1500};

static uint64_t clock_ns(clockid_t clock)
{
	struct timespec ts;

	(void)clock_gettime(clock, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

void lane_clock(struct lane *l)
{
	l->now_ns = clock_ns(CLOCK_MONOTONIC);
	l->ts_ns = clock_ns(CLOCK_REALTIME);
}

void lane_put(struct lane *l)
{
	if (!l->batch.len)
		return;
	/* every frame's time, in its block: high and low word */
	for (unsigned i = 0; i < l->batch.n; i++) {
		uint32_t w[2];

		memcpy(w, l->batch.buf + l->batch.frame[i].off - BATCH_EPB_HEAD + 12, sizeof(w));
		assert_true(((uint64_t)w[0] << 32 | w[1]) >= last_ns);
		last_ns = (uint64_t)w[0] << 32 | w[1];
		assert_true(last_ns >= start_ns && last_ns <= clock_ns(CLOCK_REALTIME));
	}
	l->sink->ops->put(l->sink, &l->batch);
	batch_reset(&l->batch);
}

bool lane_room(struct lane *l, size_t bytes, size_t frames)
{
	if (l->batch.len + bytes <= BATCH_BYTES && l->batch.n + frames <= BATCH_FRAMES &&
	    (l->batch.len || l->sink->ops->credit(l->sink)))
		return true;
	lane_put(l);
	return l->sink->ops->credit(l->sink);
}

/* --- a network --- */

static bool ip(const char *args)
{
	char cmd[256];

	(void)snprintf(cmd, sizeof(cmd), "ip %s >/dev/null 2>&1", args);
	return system(cmd) == 0;
}

static bool make_pair(void)
{
	return ip("link add va type veth peer name vb") && ip("link set va up") && ip("link set vb up");
}

static int set_up(void **state)
{
	int fd;
	bool shared;
	int why;

	(void)state;
	can = unshare(CLONE_NEWNET) == 0;
	fd = can ? open("/proc/sys/net/ipv6/conf/default/disable_ipv6", O_WRONLY) : -1;
	if (fd != -1) {
		(void)!write(fd, "1", 1);
		close(fd);
	}
	can = can && make_pair() && ip("link set lo up");
	lane.loop = ev_default_loop(0);
	lane.sink = &sink;
	batch_init(&lane.batch);
	return own_open(&own, "none", &shared, &why);
}

static int fresh(void **state)
{
	(void)state;
	got = 0;
	credit = -1;
	start_ns = clock_ns(CLOCK_REALTIME);
	last_ns = 0;
	lane_clock(&lane);
	return 0;
}

static int done(void **state)
{
	(void)state;
	capture_close(&c);
	own_tunnel(own, 0, NULL);
	(void)own_replay(own, 0);
	batch_reset(&lane.batch);
	return 0;
}

static void start(const char *iface, const char *filter, uint64_t buffer)
{
	if (!can)
		skip();
	if (capture_open(&c, iface, filter, buffer, own, err) != 0)
		fail_msg("%s", err);
	capture_start(c, &lane);
}

static int sender(const char *iface)
{
	struct sockaddr_ll sa = {.sll_family = AF_PACKET, .sll_ifindex = (int)if_nametoindex(iface)};
	int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);

	assert_int_not_equal(fd, -1);
	assert_int_equal(bind(fd, (const struct sockaddr *)&sa, sizeof(sa)), 0);
	return fd;
}

static size_t be16(uint8_t *p, uint16_t v)
{
	p[0] = (uint8_t)(v >> 8);
	p[1] = (uint8_t)v;
	return 2;
}

enum kind {
	UDP4 = 1,
	TCP4 = 2,
	TCP6 = 4,
	TAG = 8,
	QINQ = 16,
	OPTIONS = 32,
	OUR_SOURCE = 64,
	OUR_DEST = 128,
	ODD = 256,
	BACK = 512
};

/* One frame of @kind with @pad bytes of data, ending in the number @n. Addresses 10.9.0.1 and .2 (fd::1 and ::2), ports
 * 40000 and 3005. */
static size_t frame(uint8_t *p, unsigned kind, uint16_t n, size_t pad)
{
	static const uint8_t from[6] = FLOW_SRC_MAC, to[6] = FLOW_DST_MAC;
	uint8_t *at = p, *l3;
	bool back = kind & BACK;
	size_t head = kind & OPTIONS ? 24 : 20;

	memset(p, 0, 200);
	p[0] = p[6] = 2;
	p[5] = 2;
	p[11] = 1;
	if (kind & OUR_SOURCE)
		memcpy(p + 6, from, 6);
	if (kind & OUR_DEST)
		memcpy(p, to, 6);
	at += 12;
	if (kind & QINQ) {
		at += be16(at, ETH_P_8021AD);
		at += be16(at, 0x0064);
	}
	if (kind & TAG) {
		at += be16(at, ETH_P_8021Q);
		at += be16(at, 0x2007);
	}
	at += be16(at, kind & ODD ? 0x88b5 : kind & TCP6 ? ETH_P_IPV6 : ETH_P_IP);
	l3 = at;
	if (kind & TCP6) {
		l3[0] = 0x60;
		be16(l3 + 4, (uint16_t)(20 + pad + 2));
		l3[6] = 6;
		l3[8] = l3[24] = 0xfd;
		l3[23] = back ? 2 : 1;
		l3[39] = back ? 1 : 2;
		at += 40;
	} else if (!(kind & ODD)) {
		l3[0] = (uint8_t)(0x40 | head / 4);
		be16(l3 + 2, (uint16_t)(head + (kind & TCP4 ? 20 : 8) + pad + 2));
		l3[8] = 64;
		l3[9] = kind & TCP4 ? 6 : 17;
		l3[12] = l3[16] = 10;
		l3[13] = l3[17] = 9;
		l3[15] = back ? 2 : 1;
		l3[19] = back ? 1 : 2;
		if (kind & OPTIONS)
			memset(l3 + 20, 1, 4);
		at += head;
	}
	if (kind & (TCP4 | TCP6 | UDP4)) {
		be16(at, back ? 3005 : 40000);
		be16(at + 2, back ? 40000 : 3005);
		if (kind & UDP4)
			be16(at + 4, (uint16_t)(8 + pad + 2));
		else
			at[12] = 0x50;
		at += kind & UDP4 ? 8 : 20;
	}
	memset(at, 'x', pad);
	at += pad;
	memcpy(at, &n, 2);
	return (size_t)(at + 2 - p);
}

static void send_frame(int fd, unsigned kind, uint16_t n, size_t pad)
{
	uint8_t p[70000];
	size_t len = frame(p, kind, n, pad);

	assert_int_equal(send(fd, p, len, 0), len);
}

static void pump_ms(unsigned ms)
{
	uint64_t end = clock_ns(CLOCK_MONOTONIC) + ms * 1000000ull;

	do {
		lane_clock(&lane);
		/* as after the daemon has dropped its privileges */
		assert_int_equal(seteuid(65534), 0);
		capture_sweep(c);
		assert_int_equal(seteuid(0), 0);
		(void)usleep(1000);
	} while (lane.now_ns < end);
}

static struct capture_count count(void)
{
	struct capture_count n;

	capture_count(c, &n);
	assert_int_equal(n.seen, n.sent + n.own + n.replayed + n.malformed + n.waiting);
	return n;
}

/* Sweep until @n frames came. */
static void wait_for(unsigned n)
{
	for (unsigned ms = 0; got < n && ms < WAIT_MS; ms += 5)
		pump_ms(5);
	(void)count();
	assert_int_equal(got, n);
}

static void wait_seen(uint64_t n)
{
	for (unsigned ms = 0; count().seen < n && ms < WAIT_MS; ms += 5)
		pump_ms(5);
	assert_int_equal(count().seen, n);
}

static void in_order(unsigned n, unsigned first)
{
	for (unsigned i = 0; i < n; i++)
		assert_int_equal(number[i], (uint16_t)(first + i));
}

/* --- tests --- */

static void test_all_comes_out_as_it_was(void **state)
{
	static const unsigned kinds[] = {UDP4,		 TCP4, TCP6,	  TCP4 | TAG,	    TCP6 | TAG,
					 TCP4 | OPTIONS, ODD,  ODD | TAG, UDP4 | TAG | QINQ};
	uint8_t p[2000];
	int fd;

	(void)state;
	start("vb", NULL, BUFFER);
	fd = sender("va");
	for (uint16_t i = 0; i < 9; i++) {
		size_t pad = i * 150u, len = frame(p, kinds[i], i, pad);

		send_frame(fd, kinds[i], i, pad);
		wait_for(i + 1u);
		assert_int_equal(last_len, len);
		assert_memory_equal(last, p, len);
	}
	for (uint16_t i = 9; i < 3000; i++)
		send_frame(fd, UDP4, i, i % 1400u);
	wait_for(3000);
	in_order(3000, 0);
	close(fd);
	assert_int_equal(count().sent, 3000);
	assert_int_equal(count().frames, 3000);
	assert_int_equal(count().kernel_drops, 0);
}

static void test_what_is_ours_stays_out(void **state)
{
	struct tuple t = {.addr = {{10, 9, 0, 1}, {10, 9, 0, 2}}, .port = {40000, 3005}, .ver = 4};
	struct tuple six = {.addr = {{[0] = 0xfd, [15] = 1}, {[0] = 0xfd, [15] = 2}}, .port = {40000, 3005}, .ver = 6};
	static const unsigned tunnel[] = {TCP4,	      TCP4 | BACK,	 TCP6,		 TCP6 | BACK,
					  TCP4 | TAG, TCP6 | TAG | BACK, TCP4 | OPTIONS, TCP4 | TAG | QINQ};
	int fd;

	(void)state;
	start("vb", NULL, BUFFER);
	fd = sender("va");
	for (unsigned i = 0; i < 8; i++)
		send_frame(fd, tunnel[i], 1, 10);
	wait_for(8);
	own_tunnel(own, 0, &t);
	own_tunnel(own, 1, &six);
	for (unsigned i = 0; i < 8; i++)
		send_frame(fd, tunnel[i], 1, 10);
	send_frame(fd, UDP4, 2, 10); /* the same ends, but no TCP */
	wait_for(9);
	assert_int_equal(count().own, 8);
	own_tunnel(own, 1, NULL);
	send_frame(fd, UDP4 | OUR_SOURCE | OUR_DEST, 3, 10);
	send_frame(fd, TCP6 | OUR_SOURCE | OUR_DEST, 3, 10);
	send_frame(fd, UDP4 | OUR_SOURCE, 3, 10); /* somebody who would like to be taken for us */
	send_frame(fd, TCP6 | OUR_DEST, 4, 10);
	wait_for(11);
	assert_int_equal(count().replayed, 2);
	(void)own_replay(own, if_nametoindex("va")); /* the other end */
	send_frame(fd, UDP4, 5, 10);
	wait_seen(22);
	assert_int_equal(got, 11);
	assert_int_equal(count().replayed, 3);
	close(fd);
}

static void test_without_credit_nothing_is_lost(void **state)
{
	unsigned had;
	int fd;

	(void)state;
	start("vb", NULL, BUFFER);
	fd = sender("va");
	credit = 0;
	for (uint16_t i = 0; i < 5000; i++)
		send_frame(fd, UDP4, i, 1000);
	pump_ms(50);
	assert_int_equal(got, 0);
	assert_int_equal(count().seen, 1); /* in hand */
	assert_int_equal(count().waiting, 1);
	for (unsigned k = 0; k < 3; k++) {
		had = got;
		credit = 1;
		pump_ms(20);
		assert_true(got > had && got < 5000);
		assert_int_equal(count().seen, got + 1u);
	}
	credit = -1;
	wait_for(5000);
	in_order(5000, 0);
	assert_int_equal(count().kernel_drops, 0);
	close(fd);
}

static void test_what_the_kernel_dropped_is_counted(void **state)
{
	int fd;

	(void)state;
	start("vb", NULL, 1 << 20);
	fd = sender("va");
	credit = 0;
	for (unsigned i = 0; i < 10000; i++)
		send_frame(fd, UDP4, (uint16_t)i, 1000);
	pump_ms(50);
	assert_true(count().kernel_drops > 5000);
	credit = -1;
	for (unsigned ms = 0; count().seen + count().kernel_drops < 10000 && ms < WAIT_MS; ms += 20)
		pump_ms(20);
	assert_int_equal(count().seen + count().kernel_drops, 10000);
	assert_true(got > 100);
	in_order(got, 0);
	close(fd);
}

static void test_large_frames_are_cut(void **state)
{
	int fd;

	(void)state;
	start("lo", NULL, BUFFER); /* takes them */
	fd = sender("lo");
	send_frame(fd, TCP4, 7, 20000);
	wait_for(14);
	assert_int_equal(count().sent, 1);
	assert_int_equal(count().frames, 14);
	send_frame(fd, ODD, 8, 20000);
	wait_seen(2);
	assert_int_equal(count().malformed, 1);
	assert_int_equal(got, 14);
	close(fd);
}

static void test_any_keeps_tags_and_knows_interfaces(void **state)
{
	uint8_t p[300];
	size_t len;
	int fd;

	(void)state;
	start("any", NULL, BUFFER);
	fd = sender("va");
	send_frame(fd, TCP4 | TAG, 1, 50);
	wait_for(2); /* at both ends */
	len = frame(p, TCP4 | TAG, 1, 50);
	memset(p, 0, 6); /* cooked packets have the sender's address only */
	assert_int_equal(last_len, len);
	assert_memory_equal(last, p, len);
	send_frame(fd, UDP4, 2, 50);
	wait_for(4);
	len = frame(p, UDP4, 2, 50);
	memset(p, 0, 6);
	assert_int_equal(last_len, len);
	assert_memory_equal(last, p, len);
	send_frame(fd, UDP4 | OUR_SOURCE | OUR_DEST, 3, 50);
	(void)own_replay(own, if_nametoindex("va"));
	send_frame(fd, UDP4, 4, 50);
	wait_seen(8);
	assert_int_equal(got, 4);
	assert_int_equal(count().replayed, 4);
	close(fd);
}

static void test_down_and_up(void **state)
{
	char text[100];
	int fd;

	(void)state;
	start("vb", NULL, BUFFER);
	fd = sender("va");
	send_frame(fd, UDP4, 1, 0);
	wait_for(1);
	assert_true(ip("link set vb down"));
	pump_ms(600);
	capture_describe(c, text, sizeof(text));
	assert_string_equal(text, "vb, which is down");
	assert_int_equal(count().away, 1);
	assert_true(ip("link set vb up"));
	pump_ms(600);
	send_frame(fd, UDP4, 2, 0);
	wait_for(2);
	capture_describe(c, text, sizeof(text));
	assert_string_equal(text, "vb");
	assert_int_equal(count().away, 1);
	close(fd);
}

static void test_gone_and_back(void **state)
{
	char text[100];
	int fd;

	(void)state;
	start("vb", "udp", BUFFER);
	for (unsigned round = 0; round < 2; round++) {
		assert_true(ip("link del vb"));
		pump_ms(600);
		capture_describe(c, text, sizeof(text));
		assert_string_equal(text, "vb, which is gone");
		assert_int_equal(count().away, round + 1);
		assert_true(make_pair());
		pump_ms(600);
		capture_describe(c, text, sizeof(text));
		assert_string_equal(text, "vb");
		fd = sender("va");
		send_frame(fd, TCP4, 1, 0); /* the filter is still there */
		send_frame(fd, UDP4, 1, 0);
		wait_for(round + 1);
		close(fd);
	}
	/* so fast that nobody saw it gone */
	assert_true(ip("link del vb") && make_pair());
	pump_ms(600);
	assert_int_equal(count().away, 3);
	fd = sender("va");
	send_frame(fd, UDP4, 1, 0);
	wait_for(3);
	close(fd);
}

static void test_renamed(void **state)
{
	char text[100];
	int fd;

	(void)state;
	start("vb", NULL, BUFFER);
	fd = sender("va");
	assert_true(ip("link set vb down") && ip("link set vb name vx") && ip("link set vx up"));
	pump_ms(600);
	for (uint16_t i = 0; i < 100; i++) {
		send_frame(fd, UDP4, i, 0);
		pump_ms(1);
	}
	wait_for(100);
	in_order(100, 0);
	capture_describe(c, text, sizeof(text));
	assert_string_equal(text, "vx (was vb)");
	close(fd);
	assert_true(ip("link del vx"));
	pump_ms(600);
	assert_true(make_pair());
	pump_ms(600);
	capture_describe(c, text, sizeof(text));
	assert_string_equal(text, "vb");
	fd = sender("va");
	send_frame(fd, UDP4, 1, 0);
	wait_for(101);
	close(fd);
}

static void test_another_kind_does_not_come_back(void **state)
{
	char text[100];

	(void)state;
	start("vb", NULL, BUFFER);
	assert_true(ip("link del vb") && ip("tuntap add mode tun name vb"));
	if (!ip("link set vb up"))
		skip();
	pump_ms(600);
	capture_describe(c, text, sizeof(text));
	assert_string_equal(text, "vb, which is gone");
	assert_true(ip("tuntap del mode tun name vb") && make_pair());
	pump_ms(600);
	capture_describe(c, text, sizeof(text));
	assert_string_equal(text, "vb");
}

static void test_the_end(void **state)
{
	int fd;

	(void)state;
	start("vb", NULL, BUFFER);
	fd = sender("va");
	for (uint16_t i = 0; i < 1000; i++)
		send_frame(fd, UDP4, i, 100);
	capture_end(c);
	for (unsigned ms = 0; !capture_ended(c) && ms < WAIT_MS; ms++)
		pump_ms(1);
	assert_true(capture_ended(c));
	assert_int_equal(got, 1000);
	send_frame(fd, UDP4, 1, 0);
	pump_ms(30);
	assert_int_equal(got, 1000);
	capture_close(&c);
	/* and while packets come without end */
	start("vb", NULL, BUFFER);
	capture_end(c);
	for (unsigned ms = 0; !capture_ended(c) && ms < WAIT_MS; ms++) {
		send_frame(fd, UDP4, 1, 100);
		pump_ms(1);
	}
	assert_true(capture_ended(c));
	close(fd);
}

static int opens(const char *iface, const char *filter)
{
	struct capture *one = NULL;
	int r = capture_open(&one, iface, filter, BUFFER, own, err);

	assert_true(r == 0 ? one != NULL : one == NULL && strchr(err, '\n') == NULL);
	capture_close(&one);
	return r;
}

static void test_what_cannot_be_opened(void **state)
{
	pid_t pid;
	int status;

	(void)state;
	if (!can)
		skip();
	assert_int_equal(opens("nosuch0", NULL), -ENODEV);
	assert_string_equal(err, "interface nosuch0: there is no such interface");
	assert_int_equal(opens("", NULL), -ENODEV);
	assert_int_equal(opens("a-name-that-is-much-too-long-for-an-interface", NULL), -ENODEV);
	assert_int_equal(opens("nflog", NULL), -ENODEV);
	assert_true(ip("link set vb down"));
	assert_int_equal(opens("vb", NULL), -ENETDOWN);
	assert_string_equal(err, "interface vb: it is down; bring it up (ip link set vb up)");
	assert_true(ip("link set vb up"));
	assert_int_equal(opens("vb", "tcp prot 80"), -EINVAL);
	assert_non_null(strstr(err, "at character 5 near \"prot\": \"tcp prot 80\""));
	assert_int_equal(opens("any", "vlan 7"), -EINVAL);
	assert_non_null(strstr(err, "name an interface"));
	assert_int_equal(opens("any", "ip6 or portrange 80-90"), 0);
	assert_int_equal(opens("vb", ""), 0);
	pid = fork();
	if (pid == 0) {
		if (setresuid(65534, 65534, 65534) != 0)
			_exit(9);
		_exit(opens("vb", NULL) == -EPERM && strstr(err, "no permission") ? 0 : 1);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

static void test_places_in_filters(void **state)
{
	static const struct {
		const char *expr;
		const char *word; /* NULL: at the end */
		size_t at;
	} wrong[] = {
		{"tcp prot 80", "prot", 4},
		{"tcp port 80 and", NULL, 15},
		{"tcp port 80 xand udp", "xand", 12},
		{"(tcp or udp", NULL, 11},
		{"tcp or udp)", ")", 10},
		{"((tcp)) and ((udp) or (ip6 and prot 5))", "prot", 31},
		{"port 80 and port 70000", "70000", 17},
		{"host 1.2.3.4 or host 1.2.3.400", "1.2.3.400", 21},
		{"tcp[13] & 2 != 0 and tcp[13 = 4", "=", 28},
		{"tcp[13] & 2 !=", NULL, 14},
		{"tcp[tcpflags] & (tcp-syn|tcp-ack) == 0 und ip", "und", 39},
		{"net 10.0.0.0/8 and net 10.1.2.3/8", "10.1.2.3/8", 23},
		{"vlan 7 and vlan 5000", "5000", 16},
		{"  \tfoo.invalid.-", "foo.invalid.-", 3},
		{"ether host 00:11:22:33:44:zz", "00:11:22:33:44:zz", 11},
		{"ip proto 6 $", "$", 11},
		{"udp and portrange 80-", "80-", 18},
		{"not not not", NULL, 11},
		{"len > ", NULL, 6},
	};
	char e[PCAP_ERRBUF_SIZE];
	pcap_t *p;

	(void)state;
	if (!can)
		skip();
	p = pcap_create("vb", e);
	assert_non_null(p);
	assert_true(pcap_activate(p) >= 0);
	for (unsigned i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		size_t len, at = filter_place(p, wrong[i].expr, &len);

		if (at != wrong[i].at || len != (wrong[i].word ? strlen(wrong[i].word) : 0))
			fail_msg("\"%s\": found at %zu (%.*s)", wrong[i].expr, at, (int)len, wrong[i].expr + at);
		assert_int_equal(filter_set(p, wrong[i].expr, err), -EINVAL);
		assert_non_null(strstr(err, pcap_geterr(p)) ? err : strstr(err, "-p: "));
	}
	pcap_close(p);
}

static void test_filters_let_through(void **state)
{
	static const struct {
		const char *expr;
		unsigned expect; /* bits of kinds below */
	} filter[] = {
		{"vlan 7 and tcp", 1 << 2 | 1 << 3},
		{"vlan and (ip6 or port 3005)", 1 << 2 | 1 << 3},
		{"ip6", 1 << 1 | 1 << 3} /* the kernel keeps tags aside */,
		{"udp portrange 40000-40010", 1 << 0},
		{"portrange 3000-3010 or vlan", 1 << 0 | 1 << 1 | 1 << 2 | 1 << 3},
		{"ip6 or (vlan and ip6)", 1 << 1 | 1 << 3},
	};
	static const unsigned kinds[] = {UDP4, TCP6, TCP4 | TAG, TCP6 | TAG};
	int fd;

	(void)state;
	if (!can)
		skip();
	fd = sender("va");
	for (unsigned i = 0; i < sizeof(filter) / sizeof(filter[0]); i++) {
		unsigned seen = 0;

		got = 0;
		start("vb", filter[i].expr, BUFFER);
		for (uint16_t k = 0; k < 4; k++)
			send_frame(fd, kinds[k], k, 20);
		pump_ms(40);
		for (unsigned k = 0; k < got; k++)
			seen |= 1u << number[k];
		if (seen != filter[i].expect)
			fail_msg("%s: %#x", filter[i].expr, seen);
		capture_close(&c);
	}
	close(fd);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, fresh, done)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_all_comes_out_as_it_was),
		TEST(test_what_is_ours_stays_out),
		TEST(test_without_credit_nothing_is_lost),
		TEST(test_what_the_kernel_dropped_is_counted),
		TEST(test_large_frames_are_cut),
		TEST(test_any_keeps_tags_and_knows_interfaces),
		TEST(test_down_and_up),
		TEST(test_gone_and_back),
		TEST(test_renamed),
		TEST(test_another_kind_does_not_come_back),
		TEST(test_the_end),
		TEST(test_what_cannot_be_opened),
		TEST(test_places_in_filters),
		TEST(test_filters_let_through),
	};

	return cmocka_run_group_tests(tests, set_up, NULL);
}
