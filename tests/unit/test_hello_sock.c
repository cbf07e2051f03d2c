/* SPDX-License-Identifier: Apache-2.0 */
/* test_hello_sock.c - which packets the kernel hands over, on every kind of link, in a network namespace of the test's
 * own (root; else skipped). */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "agentd/hello_sock.h"
#include "agentd/hellos.h"
#include "hellopkt.h"

#define SEEN_MAX 64
#define LOAD 20000
#define LOAD_STEP 10 /* hellos a millisecond */

static const uint8_t mac_a[6] = {2, 0, 0, 0, 0, 1}, mac_b[6] = {2, 0, 0, 0, 0, 2};
static const uint8_t A4[4] = {192, 0, 2, 1}, B4[4] = {192, 0, 2, 2};
static const uint8_t A6[16] = {0x20, 1, 0xd, 0xb8, [15] = 1}, B6[16] = {0x20, 1, 0xd, 0xb8, [15] = 2};
static const uint8_t plain[] = {6};
static uint8_t rnd[32] = {1, 2, 3, 4, 5, 6, 7, 8, 9};
static struct hello_sock s;
static struct pkt k;
static bool can;

/* What the last read saw. */
static struct {
	struct hello h;
	uint32_t ifindex;
} seen[SEEN_MAX];
static unsigned seen_n;

static bool ip(const char *args)
{
	char cmd[256];

	(void)snprintf(cmd, sizeof(cmd), "ip %s >/dev/null 2>&1", args);
	return system(cmd) == 0;
}

static int make_net(void **state)
{
	(void)state;
	can = unshare(CLONE_NEWNET) == 0 && ip("link set lo up") && ip("link add va type veth peer name vb") &&
	      ip("link set va up") && ip("link set vb up");
	if (!can)
		print_message("not root: the tests that need a network namespace are skipped\n");
	return 0;
}

static int set_up(void **state)
{
	(void)state;
	memset(&s, 0, sizeof(s));
	s.fd = can ? hello_sock_open() : -1;
	seen_n = 0;
	return can && s.fd < 0 ? -1 : 0;
}

static int tear_down(void **state)
{
	(void)state;
	if (s.fd >= 0)
		close(s.fd);
	return 0;
}

static void on_hello(void *arg, const struct hello_sock *from, const struct hello *h, uint32_t ifindex)
{
	assert_ptr_equal(arg, &seen_n);
	assert_ptr_equal(from, &s);
	if (seen_n < SEEN_MAX) {
		seen[seen_n].h = *h;
		seen[seen_n].ifindex = ifindex;
	}
	seen_n++;
}

static void pause_us(unsigned us)
{
	(void)usleep(us);
}

static void send_on(const char *name)
{
	struct sockaddr_ll to = {.sll_family = AF_PACKET, .sll_ifindex = (int)if_nametoindex(name)};
	int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);

	memcpy(&to.sll_protocol, k.p + 12, 2);
	assert_int_equal(sendto(fd, k.p, k.len, 0, (struct sockaddr *)&to, sizeof(to)), k.len);
	close(fd);
}

/* --- the frames --- */

enum what {
	NOTHING,
	OTHER, /* passes the filter, but is none */
	HELLO,
};

static uint16_t finish4(unsigned ip_opts, unsigned tcp_opts, unsigned frag, uint8_t flags)
{
	pkt_tcp(&k, 40000, 443, tcp_opts, flags);
	pkt_ip4(&k, A4, B4, ip_opts, frag);
	return ETH_P_IP;
}

static uint16_t finish6(const uint8_t *chain)
{
	pkt_tcp(&k, 40000, 443, 12, 0x18);
	pkt_ip6(&k, A6, B6, chain);
	return ETH_P_IPV6;
}

static uint16_t bytes4(const void *p, size_t n)
{
	pkt_put(&k, p, n);
	return finish4(0, 12, 0, 0x18);
}

static void client(void)
{
	pkt_client_hello(&k, rnd, "a.example", 0);
}

/* Build frame @i without its Ethernet header; returns its EtherType, 0 after the last. */
static uint16_t build(unsigned i, enum what *ret)
{
	static const uint8_t hop[] = {0, 6}, routing[] = {43, 6}, dest[] = {60, 6}, frag[] = {44, 6},
			     chain[] = {0, 60, 43, 44, 6};
	uint16_t proto;

	pkt_begin(&k);
	*ret = HELLO;
	switch (i) {
	case 0:
		client();
		return finish4(0, 0, 0, 0x18);
	case 1:
		client();
		return finish4(40, 40, 0x4000, 0x18);
	case 2:
		client();
		return finish6(plain);
	case 3:
		client();
		return finish6(hop);
	case 4:
		client();
		return finish6(routing);
	case 5:
		client();
		return finish6(dest);
	case 6:
		client();
		return finish6(frag);
	case 7:
		client();
		return finish6(chain);
	case 8: /* VLAN */
		client();
		pkt_vlan(&k, 5, finish4(4, 12, 0, 0x18));
		return ETH_P_8021Q;
	case 9: /* QinQ */
		client();
		pkt_vlan(&k, 5, finish6(dest));
		pkt_vlan(&k, 6, ETH_P_8021Q);
		return ETH_P_8021AD;
	case 10: /* the same in the old way */
		client();
		pkt_vlan(&k, 5, finish4(0, 0, 0, 0x18));
		pkt_vlan(&k, 6, ETH_P_8021Q);
		return ETH_P_8021Q;
	case 11: /* TCP Fast Open */
		client();
		return finish4(0, 20, 0, 0x02);
	case 12:
		pkt_server_hello(&k, rnd);
		return finish4(0, 12, 0, 0x18);
	case 13: /* first fragment */
		client();
		return finish4(0, 0, 0x2000, 0x18);
	case 14:
		pkt_put(&k, "PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n", 36);
		client();
		return finish4(0, 12, 0, 0x18);
	case 15:
		pkt_put(&k, "\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c", 16);
		pkt_put(&k, NULL, 12);
		client();
		return finish6(plain);
	case 16: /* cut in its random */
		client();
		k.len = 11 + 20;
		return finish4(0, 12, 0, 0x18);
	case 17: /* post-quantum */
		pkt_client_hello(&k, rnd, "a.example", 1200);
		return finish4(0, 12, 0, 0x18);
	default:
		break;
	}
	*ret = OTHER;
	switch (i) {
	case 18:
		return bytes4("PROXY UNKNOWN\r\n", 15);
	case 19:
		return bytes4("\x16\x03\x01", 3);
	case 20:
		return bytes4("\x16\x03\x01\2\0\1\0\1\xfc\3\3abc", 14);
	case 21: /* UDP */
		client();
		(void)pkt_push(&k, 8);
		pkt_ip4(&k, A4, B4, 0, 0);
		k.p[9] = 17;
		return ETH_P_IP;
	default:
		break;
	}
	*ret = NOTHING;
	switch (i) {
	case 22:
		return finish4(0, 12, 0, 0x10); /* no payload */
	case 23:
		return bytes4("\x17\x03\x03\0\x20\1\0\0\x1c\3\3abcdefghijklmnop", 27);
	case 24: /* Certificate, NewSessionTicket, KeyUpdate ... */
		return bytes4("\x16\x03\x03\0\x20\x0b\0\0\x1c\3\3abcdefghijklmnop", 27);
	case 25:
		return bytes4("GET / HTTP/1.1\r\n\r\n", 18);
	case 26: /* SSL 2 */
		return bytes4("\x80\x2e\1\0\2\0\x15\0\0\0\x10", 11);
	case 27: /* a data offset behind the end */
		pkt_put(&k, "\x16\x03\x01\0\x20\1", 6);
		proto = finish4(0, 0, 0, 0x18);
		k.p[32] = 0xf0;
		return proto;
	case 28: /* ARP */
		pkt_put(&k, "\0\1\x08\0\6\4\0\1", 8);
		pkt_put(&k, NULL, 20);
		return ETH_P_ARP;
	case 29:
		return bytes4("\x15", 1);
	default:
		return 0;
	}
}

/* What the last reads saw on @ifindex of the connections under test. */
static unsigned seen_on(uint32_t ifindex)
{
	unsigned n = 0;

	for (unsigned i = 0; i < seen_n; i++) {
		const struct hello *h = &seen[i].h;

		if (seen[i].ifindex != ifindex || strcmp(h->sni, "end.example") == 0)
			continue;
		assert_int_equal(h->t.port[h->server], 40000);
		assert_int_equal(h->t.port[!h->server], 443);
		assert_memory_equal(h->random, rnd, h->random_len);
		n++;
	}
	return n;
}

/* Send frame @i, then one that is surely seen: what came before it is all that @i has caused. Each is seen twice, as it
 * leaves @on and as it comes in at @to; but those with a tag, when it is not a device that has put it on, are seen as
 * they leave only by luck: kernels differ in where they say that the packet begins. */
static void try_frame(unsigned i, uint16_t proto, enum what what, const char *on, const char *to)
{
	bool tagged = proto == ETH_P_8021Q || proto == ETH_P_8021AD;
	uint64_t frames = what == NOTHING ? 2 : 4, hellos = what == HELLO ? 4 : 2;
	unsigned tries = 0, ends = 0;

	pkt_ether(&k, mac_b, mac_a, proto);
	s.frames = s.hellos = s.others = seen_n = 0;
	send_on(on);
	pkt_begin(&k);
	pkt_client_hello(&k, rnd, "end.example", 0);
	pkt_ether(&k, mac_b, mac_a, finish4(0, 0, 0, 0x18));
	send_on(on);
	for (; ends < 2 && tries < 10000; tries++) {
		unsigned n = seen_n;

		assert_true(hello_sock_read(&s, 1, on_hello, &seen_n) >= 0);
		if (seen_n > n)
			ends += strcmp(seen[n].h.sni, "end.example") == 0;
		else
			pause_us(10);
	}
	if (tagged && s.frames < frames)
		frames = hellos = 3;
	if (s.frames != frames || s.hellos != hellos || s.others != frames - hellos)
		fail_msg("frame %u on %s: %llu frames, %llu hellos; expected %llu, %llu", i, on,
			 (unsigned long long)s.frames, (unsigned long long)s.hellos, (unsigned long long)frames,
			 (unsigned long long)hellos);
	assert_true(seen_on(if_nametoindex(to)) >= (what == HELLO));
}

static void all_frames(const char *on, const char *to)
{
	enum what what;
	uint16_t proto;
	unsigned i;

	for (i = 0; (proto = build(i, &what)) != 0; i++)
		try_frame(i, proto, what, on, to);
	assert_int_equal(i, 30);
	hello_sock_count(&s);
	assert_int_equal(s.drops, 0);
}

static void test_frames_on_veth(void **state)
{
	(void)state;
	if (!can)
		skip();
	all_frames("va", "vb");
}

static void test_frames_on_loopback(void **state)
{
	(void)state;
	if (!can)
		skip();
	all_frames("lo", "lo");
}

/* Packets without a link header. */
static void test_frames_on_tun(void **state)
{
	struct ifreq r = {.ifr_name = "tun7", .ifr_flags = IFF_TUN | IFF_NO_PI};
	int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC);
	unsigned sent = 0, hellos = 0;
	enum what what;
	uint16_t proto;

	(void)state;
	if (!can || fd == -1 || ioctl(fd, TUNSETIFF, &r) == -1) {
		if (can)
			print_message("no tun devices here\n");
		if (fd != -1)
			close(fd);
		skip();
	}
	assert_true(ip("link set tun7 up"));
	for (unsigned i = 0; (proto = build(i, &what)) != 0; i++) {
		if (proto != ETH_P_IP && proto != ETH_P_IPV6)
			continue;
		assert_int_equal(write(fd, k.p, k.len), k.len);
		sent += what != NOTHING;
		hellos += what == HELLO;
	}
	for (unsigned tries = 0; s.frames < sent && tries < 1000; tries++) {
		assert_true(hello_sock_read(&s, 100, on_hello, &seen_n) >= 0);
		pause_us(100);
	}
	pause_us(10000);
	assert_true(hello_sock_read(&s, 100, on_hello, &seen_n) >= 0);
	assert_int_equal(s.frames, sent);
	assert_int_equal(s.hellos, hellos);
	assert_int_equal(seen[0].ifindex, if_nametoindex("tun7"));
	close(fd);
}

static void wait_frames(unsigned n)
{
	for (unsigned tries = 0; s.frames < n && tries < 1000; tries++) {
		assert_true(hello_sock_read(&s, 100, on_hello, &seen_n) >= 0);
		pause_us(100);
	}
}

static void test_forged_frames_are_none(void **state)
{
	static const uint8_t smac[6] = {6, 0x11, 0x22, 0x33, 0x44, 0x55}, dmac[6] = {6, 0x11, 0x22, 0x33, 0x44, 0x56};
	struct ifreq vb = {.ifr_name = "vb"};
	enum what what;

	(void)state;
	if (!can)
		skip();
	pkt_ether(&k, dmac, smac, build(0, &what));
	send_on("va");
	wait_frames(2); /* it leaves, and it comes in */
	assert_true(s.frames == 2 && s.others == 2 && s.hellos == 0 && seen_n == 0);
	/* a neighbour with this address speaks to somebody who exists: that is seen when it comes in */
	assert_int_equal(ioctl(s.fd, SIOCGIFHWADDR, &vb), 0);
	pkt_ether(&k, (const uint8_t *)vb.ifr_hwaddr.sa_data, smac, build(0, &what));
	send_on("va");
	wait_frames(4);
	assert_true(s.frames == 4 && s.hellos == 1 && seen_n == 1);
}

/* --- connections --- */

static void exchange(int family)
{
	struct sockaddr_in6 a6 = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
	struct sockaddr_in a4 = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	struct sockaddr *a = family == AF_INET ? (struct sockaddr *)&a4 : (struct sockaddr *)&a6;
	socklen_t len = family == AF_INET ? sizeof(a4) : sizeof(a6);
	int l = socket(family, SOCK_STREAM, 0), c = socket(family, SOCK_STREAM, 0), d;
	uint16_t port[2];
	uint8_t buf[2000];
	ssize_t n;

	assert_int_equal(bind(l, a, len), 0);
	assert_int_equal(listen(l, 1), 0);
	assert_int_equal(getsockname(l, a, &len), 0);
	port[SIDE_SERVER] = ntohs(family == AF_INET ? a4.sin_port : a6.sin6_port);
	assert_int_equal(connect(c, a, len), 0);
	assert_int_equal(getsockname(c, a, &len), 0);
	port[SIDE_CLIENT] = ntohs(family == AF_INET ? a4.sin_port : a6.sin6_port);
	d = accept(l, NULL, NULL);
	for (int side = 0; side < 2; side++) {
		pkt_begin(&k);
		if (side == SIDE_CLIENT)
			pkt_client_hello(&k, rnd, "tcp.example", 0);
		else
			pkt_server_hello(&k, rnd);
		assert_int_equal(send(side ? d : c, k.p, k.len, 0), k.len);
		n = recv(side ? c : d, buf, sizeof(buf), 0);
		assert_int_equal(n, k.len);
		/* What a program has received was here before. */
		seen_n = 0;
		assert_true(hello_sock_read(&s, 100, on_hello, &seen_n) >= 1);
		assert_true(seen_n >= 1);
		assert_int_equal(seen[0].h.server, side);
		assert_memory_equal(seen[0].h.t.port, port, sizeof(port));
		assert_int_equal(seen[0].h.t.ver, family == AF_INET ? 4 : 6);
		assert_int_equal(seen[0].ifindex, if_nametoindex("lo"));
	}
	close(c);
	close(d);
	close(l);
}

static void test_connections_on_loopback(void **state)
{
	(void)state;
	if (!can)
		skip();
	for (int i = 0; i < 50; i++) {
		exchange(AF_INET);
		exchange(AF_INET6);
	}
	assert_int_equal(s.others, 0);
}

static void test_the_socket_is_closed_to_changes(void **state)
{
	int off = 0;

	(void)state;
	if (!can)
		skip();
	assert_int_equal(setsockopt(s.fd, SOL_SOCKET, SO_DETACH_FILTER, &off, sizeof(off)), -1);
	assert_true(fcntl(s.fd, F_GETFL) & O_NONBLOCK);
	assert_true(fcntl(s.fd, F_GETFD) & FD_CLOEXEC);
	assert_int_equal(hello_sock_read(&s, 100, on_hello, &seen_n), 0);
	assert_int_equal(hello_sock_read(&s, 0, on_hello, &seen_n), 0);
	close(s.fd);
	s.fd = -1;
	assert_int_equal(hello_sock_read(&s, 100, on_hello, &seen_n), -EBADF);
}

static void test_at_most_as_many_as_asked_for(void **state)
{
	enum what what;

	(void)state;
	if (!can)
		skip();
	for (unsigned i = 0; i < 50; i++) {
		uint16_t proto = build(0, &what);

		pkt_ether(&k, mac_b, mac_a, proto);
		send_on("va");
	}
	pause_us(20000);
	assert_int_equal(hello_sock_read(&s, 1, on_hello, &seen_n), 1);
	assert_int_equal(hello_sock_read(&s, 40, on_hello, &seen_n), 40);
	assert_int_equal(hello_sock_read(&s, 1000, on_hello, &seen_n), 59);
	assert_int_equal(s.hellos, 100);
}

static void test_drops_are_counted(void **state)
{
	int small = 8192;
	enum what what;

	(void)state;
	if (!can)
		skip();
	assert_int_equal(setsockopt(s.fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof(small)), 0);
	for (unsigned i = 0; i < 200; i++) {
		uint16_t proto = build(0, &what);

		pkt_ether(&k, mac_b, mac_a, proto);
		send_on("va");
	}
	pause_us(20000);
	assert_true(hello_sock_read(&s, 1000, on_hello, &seen_n) > 0);
	hello_sock_count(&s);
	assert_true(s.drops > 0);
	assert_int_equal(s.drops + s.frames, 400);
	hello_sock_count(&s); /* not twice */
	assert_int_equal(s.drops + s.frames, 400);
}

/* --- load --- */

static void number(unsigned i, uint8_t random[static 32])
{
	memset(random, 0x5a, 32);
	memcpy(random, &i, sizeof(i));
}

static uint64_t clock_ns(clockid_t which)
{
	struct timespec ts;

	clock_gettime(which, &ts);
	return (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
}

/* LOAD_STEP different hellos each millisecond, each of a connection of its own. */
static void *send_load(void *arg)
{
	struct sockaddr_ll to = {.sll_family = AF_PACKET,
				 .sll_protocol = htons(ETH_P_IP),
				 .sll_ifindex = (int)if_nametoindex("va")};
	int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
	static struct pkt p[LOAD_STEP];
	struct mmsghdr m[LOAD_STEP];
	struct iovec iov[LOAD_STEP];
	uint64_t next = clock_ns(CLOCK_MONOTONIC);

	for (unsigned i = 0; i < LOAD; i += LOAD_STEP) {
		memset(m, 0, sizeof(m));
		for (unsigned n = 0; n < LOAD_STEP; n++) {
			uint8_t random[32];

			number(i + n, random);
			pkt_begin(&p[n]);
			pkt_client_hello(&p[n], random, "load.example", 250);
			pkt_tcp(&p[n], (uint16_t)(1024 + i + n), 443, 12, 0x18);
			pkt_ip4(&p[n], A4, B4, 0, 0x4000);
			pkt_ether(&p[n], mac_b, mac_a, ETH_P_IP);
			iov[n] = (struct iovec){p[n].p, p[n].len};
			m[n].msg_hdr = (struct msghdr){.msg_name = &to,
						       .msg_namelen = sizeof(to),
						       .msg_iov = &iov[n],
						       .msg_iovlen = 1};
		}
		if (sendmmsg(fd, m, LOAD_STEP, 0) != LOAD_STEP)
			*(bool *)arg = false;
		next += 1000000;
		while (clock_ns(CLOCK_MONOTONIC) < next)
			pause_us(200);
	}
	close(fd);
	return NULL;
}

static void into_table(void *table, const struct hello_sock *from, const struct hello *h, uint32_t ifindex)
{
	(void)hellos_add(table, h, from->netns, ifindex, clock_ns(CLOCK_MONOTONIC));
}

static void test_load(void **state)
{
	struct hellos_seen got[2 * HELLOS_TUPLES];
	char err[HELLOS_ERR];
	struct hellos *table;
	struct hellos_count n;
	uint64_t spent = 0;
	bool sent = true;
	pthread_t sender;

	(void)state;
	if (!can)
		skip();
	s.netns = 1;
	assert_int_equal(hellos_open(&table, NULL, HELLOS_ENTRIES, err), 0);
	assert_int_equal(pthread_create(&sender, NULL, send_load, &sent), 0);
	for (unsigned tries = 0; s.frames < 2 * LOAD && tries < 2000; tries++) {
		uint64_t start = clock_ns(CLOCK_THREAD_CPUTIME_ID);

		assert_true(hello_sock_read(&s, 2 * LOAD, into_table, table) >= 0);
		spent += clock_ns(CLOCK_THREAD_CPUTIME_ID) - start;
		pause_us(25000);
	}
	assert_int_equal(pthread_join(sender, NULL), 0);
	hello_sock_count(&s);
	assert_true(sent);
	assert_int_equal(s.drops, 0);
	assert_int_equal(s.frames, 2 * LOAD);
	assert_int_equal(s.hellos, 2 * LOAD);
	hellos_count(table, &n);
	assert_true(n.added == LOAD && n.refreshed == LOAD && n.crowded == 0 && n.evicted == 0);
	for (unsigned i = 0; i < LOAD; i++) {
		uint8_t random[32];

		number(i, random);
		assert_int_equal(hellos_find(table, random, NULL, got), 1);
		assert_int_equal(got[0].t.port[SIDE_CLIENT], (uint16_t)(1024 + i));
	}
	print_message("%.0f ns to read and keep a hello\n", (double)spent / (2 * LOAD));
	hellos_close(&table);
}

static void test_cost(void **state)
{
	struct hellos *table;
	char err[HELLOS_ERR];
	enum what what;
	uint64_t start;

	(void)state;
	assert_int_equal(hellos_open(&table, NULL, HELLOS_ENTRIES, err), 0);
	assert_int_equal(build(17, &what), ETH_P_IP);
	start = clock_ns(CLOCK_THREAD_CPUTIME_ID);
	for (unsigned i = 0; i < 200000; i++) {
		struct hello h;

		number(i, k.p + 20 + 32 + 11);
		pkt_be16(k.p + 20, 1 + i % 60000);
		assert_true(hello_parse_packet(k.p, k.len, ETH_P_IP, &h));
		assert_non_null(hellos_add(table, &h, 1, 2, start + i));
	}
	print_message("%.0f ns to parse and add a hello\n",
		      (double)(clock_ns(CLOCK_THREAD_CPUTIME_ID) - start) / 200000);
	hellos_close(&table);
	if (!can)
		return;
	start = clock_ns(CLOCK_THREAD_CPUTIME_ID);
	for (unsigned i = 0; i < 100000; i++)
		assert_int_equal(hello_sock_read(&s, 1000, on_hello, &seen_n), 0);
	print_message("%.0f ns to find that there is none\n",
		      (double)(clock_ns(CLOCK_THREAD_CPUTIME_ID) - start) / 100000);
}

int main(void)
{
#define TEST(t) cmocka_unit_test_setup_teardown(t, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		TEST(test_frames_on_veth),
		TEST(test_frames_on_loopback),
		TEST(test_frames_on_tun),
		TEST(test_forged_frames_are_none),
		TEST(test_connections_on_loopback),
		TEST(test_the_socket_is_closed_to_changes),
		TEST(test_at_most_as_many_as_asked_for),
		TEST(test_drops_are_counted),
		TEST(test_load),
		TEST(test_cost),
	};

	return cmocka_run_group_tests(tests, make_net, NULL);
}
