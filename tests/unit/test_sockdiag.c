/* SPDX-License-Identifier: Apache-2.0 */
/* sock_diag against real sockets on the loopback interface, its parsers against broken messages. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/stat.h>

#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>

#include "agentd/destroylog.h"
#include "agentd/listeners.h"
#include "agentd/sockdiag.h"

struct conn {
	int listener, client, server;
	struct endpoint ce, se; /* as client and as server see it */
};

static void ends_of(int fd, struct endpoint *ret)
{
	struct sockaddr_storage l, r;
	socklen_t n = sizeof(l);

	assert_int_equal(getsockname(fd, (void *)&l, &n), 0);
	n = sizeof(r);
	assert_int_equal(getpeername(fd, (void *)&r, &n), 0);
	assert_int_equal(endpoint_set(ret, (void *)&l, (void *)&r), 0);
}

/* @listen_on, @connect_to: addresses. Returns false if there is no such address here. */
static bool conn_make(struct conn *c, const char *listen_on, const char *connect_to)
{
	struct sockaddr_storage a = {0}, to = {0};
	struct sockaddr_in6 *a6 = (void *)&a, *to6 = (void *)&to;
	struct sockaddr_in *a4 = (void *)&a, *to4 = (void *)&to;
	socklen_t n = sizeof(a);

	a.ss_family = strchr(listen_on, ':') ? AF_INET6 : AF_INET;
	to.ss_family = strchr(connect_to, ':') ? AF_INET6 : AF_INET;
	inet_pton(a.ss_family, listen_on, a.ss_family == AF_INET ? (void *)&a4->sin_addr : (void *)&a6->sin6_addr);
	inet_pton(to.ss_family, connect_to, to.ss_family == AF_INET ? (void *)&to4->sin_addr : (void *)&to6->sin6_addr);
	c->listener = socket(a.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (c->listener == -1 || bind(c->listener, (void *)&a, sizeof(a)) == -1) {
		close(c->listener);
		return false;
	}
	assert_int_equal(listen(c->listener, 8), 0);
	assert_int_equal(getsockname(c->listener, (void *)&a, &n), 0);
	to4->sin_port = a4->sin_port; /* at the same place in both */
	c->client = socket(to.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(connect(c->client, (void *)&to, sizeof(to)), 0);
	c->server = accept(c->listener, NULL, NULL);
	assert_true(c->server >= 0);
	ends_of(c->client, &c->ce);
	ends_of(c->server, &c->se);
	return true;
}

static uint64_t inode_of(int fd)
{
	struct stat st;

	assert_int_equal(fstat(fd, &st), 0);
	return st.st_ino;
}

static const char *const kinds[][2] = {{"127.0.0.1", "127.0.0.1"},
				       {"::1", "::1"},
				       {"::", "127.0.0.1"},
				       {"0.0.0.0", "127.0.0.2"}};

static void test_find_exact_addresses_only(void **state)
{
	int fd = sockdiag_open();

	(void)state;
	assert_true(fd >= 0);
	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		struct sockdiag_info a, b;
		struct endpoint e;
		struct conn c;

		if (!conn_make(&c, kinds[i][0], kinds[i][1]))
			continue;
		assert_int_equal(c.se.ver, strchr(kinds[i][1], ':') ? 6 : 4); /* mapped became IPv4 */
		assert_int_equal(sockdiag_find(fd, &c.ce, &a), 0);
		assert_int_equal(sockdiag_find(fd, &c.se, &b), 0);
		assert_true(a.inode == inode_of(c.client) && b.inode == inode_of(c.server));
		assert_true(a.cookie != b.cookie && a.state == TCP_ESTABLISHED && a.uid == getuid());
		e = c.se;
		e.remote_port ^= 1; /* the kernel would offer the listening socket */
		assert_int_equal(sockdiag_find(fd, &e, &a), -ENOENT);
		close(c.client);
		close(c.server);
		assert_true(sockdiag_find(fd, &c.se, &b) == -ENOENT || b.inode == 0);
		close(c.listener);
	}
	close(fd);
}

static void test_listeners(void **state)
{
	static struct sockdiag_listener l[LISTENERS_MAX];
	int fd = sockdiag_open();

	(void)state;
	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		struct endpoint other;
		struct conn c;
		int n, hits = 0, misses = 0;

		if (!conn_make(&c, kinds[i][0], kinds[i][1]))
			continue;
		n = sockdiag_listeners(fd, l, LISTENERS_MAX);
		assert_true(n > 0);
		other = c.se;
		other.local[3] ^= 0x40; /* another address of ours */
		for (int k = 0; k < n; k++) {
			if (l[k].inode != inode_of(c.listener))
				continue;
			hits += sockdiag_covers(&l[k], &c.se);
			misses += !sockdiag_covers(&l[k], &c.ce);
			/* a wildcard takes any address, the others only theirs */
			assert_int_equal(sockdiag_covers(&l[k], &other), i >= 2);
		}
		assert_int_equal(hits, 1);
		assert_int_equal(misses, 1);
		assert_int_equal(sockdiag_listeners(fd, l, 1), 1);
		close(c.client);
		close(c.server);
		close(c.listener);
	}
	close(fd);
}

static void test_v6only_listener_takes_no_ipv4(void **state)
{
	struct sockdiag_listener l = {.inode = 1, .port = 80, .ver = 6, .v6only = true};
	struct endpoint e = {.ver = 4, .local_port = 80};

	(void)state;
	assert_false(sockdiag_covers(&l, &e));
	l.v6only = false;
	assert_true(sockdiag_covers(&l, &e));
	l.addr[15] = 1;
	assert_false(sockdiag_covers(&l, &e));
}

static void test_listener_counts_only_since_it_was_seen(void **state)
{
	int fd = sockdiag_open();
	struct listeners *l = listeners_new(fd);
	uint64_t inode[4];
	struct conn c;

	(void)state;
	listeners_renew(l, 1000, 1);
	assert_true(conn_make(&c, "127.0.0.1", "127.0.0.1"));
	listeners_renew(l, 1000 + LISTENERS_FRESH_MS / 2, 1); /* too early: nothing happens */
	assert_int_equal(listeners_find(l, &c.se, UINT64_MAX, inode, 4), 0);
	listeners_renew(l, 10000, 1);
	assert_int_equal(listeners_find(l, &c.se, 9999, inode, 4), 0);
	assert_int_equal(listeners_find(l, &c.se, 10000, inode, 4), 1);
	assert_true(inode[0] == inode_of(c.listener));
	listeners_renew(l, 20000, 1);
	assert_int_equal(listeners_find(l, &c.se, 10000, inode, 4), 1); /* it keeps its time */
	close(c.listener);
	listeners_renew(l, 30000, 1);
	assert_int_equal(listeners_find(l, &c.se, 30000, inode, 4), 0);
	close(c.client);
	close(c.server);
	listeners_free(&l);
	assert_null(l);
	close(fd);
}

static void test_destroy_events_carry_tuple_and_cookie(void **state)
{
	int fd = sockdiag_open(), ev = sockdiag_destroy_open(1 << 20);

	(void)state;
	assert_true(ev >= 0);
	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		struct sockdiag_info a, b;
		unsigned seen = 0;
		struct conn c;

		if (!conn_make(&c, kinds[i][0], kinds[i][1]))
			continue;
		assert_int_equal(sockdiag_find(fd, &c.ce, &a), 0);
		assert_int_equal(sockdiag_find(fd, &c.se, &b), 0);
		close(c.client);
		close(c.server);
		close(c.listener); /* its event has no remote end and is passed over */
		for (int k = 0; k < 200 && seen != 3; k++) {
			struct pollfd p = {.fd = ev, .events = POLLIN};
			struct sockdiag_destroyed d[8];
			int n = poll(&p, 1, 20) == 1 ? sockdiag_destroy_read(ev, d, 8) : 0;

			for (int j = 0; j < n; j++) {
				seen |= endpoint_same(&d[j].e, &c.ce) && d[j].cookie == a.cookie ? 1 : 0;
				seen |= endpoint_same(&d[j].e, &c.se) && d[j].cookie == b.cookie ? 2 : 0;
			}
		}
		assert_int_equal(seen, 3);
	}
	close(ev);
	close(fd);
}

static void test_overrun_is_told(void **state)
{
	int ev = sockdiag_destroy_open(1), n = 0; /* the least the kernel grants; privileged or not */

	(void)state;
	for (unsigned i = 0; i < 200 && n != -ENOBUFS; i++) {
		struct sockdiag_destroyed d[8];
		struct conn c;

		assert_true(conn_make(&c, "127.0.0.1", "127.0.0.1"));
		close(c.client);
		close(c.server);
		close(c.listener);
		if (i % 50 != 49)
			continue;
		usleep(20000);
		while ((n = sockdiag_destroy_read(ev, d, 8)) >= 0)
			;
	}
	assert_int_equal(n, -ENOBUFS);
	close(ev);
}

static void test_peers_share_one_end(void **state)
{
	int fd = sockdiag_open();

	(void)state;
	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		struct sockdiag_peer p[8];
		struct endpoint e;
		struct conn c;

		if (!conn_make(&c, kinds[i][0], kinds[i][1]))
			continue;
		e = c.se;
		e.local[3] ^= 0x40; /* what a REDIRECT had changed */
		e.local_port ^= 1;
		assert_int_equal(sockdiag_peers(fd, &e, true, p, 8), 1);
		assert_true(p[0].inode == inode_of(c.server) && p[0].cookie != 0 && endpoint_same(&p[0].e, &c.se));
		assert_int_equal(sockdiag_peers(fd, &e, false, p, 8), 0);
		e = c.ce;
		e.remote[3] ^= 0x40; /* what a DNAT had changed */
		assert_int_equal(sockdiag_peers(fd, &e, false, p, 8), 1);
		assert_true(p[0].inode == inode_of(c.client) && endpoint_same(&p[0].e, &c.ce));
		assert_int_equal(sockdiag_peers(fd, &e, true, p, 8), 0);
		assert_int_equal(sockdiag_peers(fd, &c.ce, false, p, 0), 0);
		e = c.se;
		memcpy(e.remote, c.se.local, 16);
		e.remote_port = c.se.local_port; /* the listening socket has that local port, and no peer */
		assert_int_equal(sockdiag_peers(fd, &e, true, p, 8), 1);
		assert_true(p[0].inode == inode_of(c.client));
		close(c.client);
		close(c.server);
		close(c.listener);
	}
	close(fd);
}

static void test_peers_are_bounded(void **state)
{
	int fd = sockdiag_open(), out[300], in[300];
	struct sockdiag_peer p[64];
	struct sockdiag_info info;
	unsigned near = 0;
	struct conn c;

	(void)state;
	assert_true(conn_make(&c, "127.0.0.1", "127.0.0.1"));
	for (unsigned i = 0; i < 300; i++) {
		struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(c.se.local_port)};

		a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
		out[i] = socket(AF_INET, SOCK_STREAM, 0);
		assert_int_equal(connect(out[i], (void *)&a, sizeof(a)), 0);
		in[i] = accept(c.listener, NULL, NULL);
	}
	assert_int_equal(sockdiag_peers(fd, &c.ce, false, p, 64), 1);
	c.se.remote[3] ^= 1; /* all have that local end, one has that port at the other */
	assert_int_equal(sockdiag_peers(fd, &c.se, false, p, 64), 64);
	for (unsigned i = 0; i < 64; i++)
		near += p[i].near && p[i].inode == inode_of(c.server);
	assert_int_equal(near, 1);
	assert_int_equal(sockdiag_peers(fd, &c.ce, false, p, 64), 1); /* nothing of the first list is in the way */
	assert_int_equal(sockdiag_find(fd, &c.ce, &info), 0);
	for (unsigned i = 0; i < 300; i++) {
		close(out[i]);
		close(in[i]);
	}
	close(c.client);
	close(c.server);
	close(c.listener);
	close(fd);
}

static void test_namespace_is_part_of_an_endpoint(void **state)
{
	struct endpoint a = {.ver = 4, .local_port = 1, .remote_port = 2, .netns = 7}, b = a;
	struct destroylog *l = destroylog_new(64, 1);
	uint64_t at;

	(void)state;
	assert_true(endpoint_same(&a, &b) && endpoint_hash(&a, 3) == endpoint_hash(&b, 3));
	destroylog_add(l, &a, 5);
	b.netns = 8;
	assert_false(endpoint_same(&a, &b));
	assert_true(endpoint_same_addrs(&a, &b));
	assert_true(endpoint_hash(&a, 3) != endpoint_hash(&b, 3));
	assert_false(destroylog_find(l, &b, &at));
	assert_true(destroylog_find(l, &a, &at));
	assert_true(endpoint_normalise(&a) && a.netns == 7);
	destroylog_free(&l);
}

static void test_normalise(void **state)
{
	struct endpoint e = {.ver = 6, .local_port = 1, .remote_port = 2};
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = 1};
	struct sockaddr_in6 b = {.sin6_family = AF_INET6, .sin6_port = 1};
	struct endpoint out;

	(void)state;
	e.local[10] = e.local[11] = 0xff;
	assert_false(endpoint_normalise(&e)); /* one end mapped, the other not */
	e.remote[10] = e.remote[11] = 0xff;
	e.local[15] = 7;
	assert_true(endpoint_normalise(&e));
	assert_true(e.ver == 4 && e.local[3] == 7 && e.local[10] == 0 && e.local[15] == 0);
	e.remote_port = 0;
	assert_false(endpoint_normalise(&e));
	e.remote_port = 1;
	e.ver = 5;
	assert_false(endpoint_normalise(&e));
	assert_int_equal(endpoint_set(&out, (void *)&a, (void *)&b), -EAFNOSUPPORT);
	assert_int_equal(endpoint_set(&out, (void *)&a, (void *)&a), 0);
}

static void test_destroylog_forgets_the_oldest(void **state)
{
	struct destroylog *l = destroylog_new(64, 0x1234567);
	struct endpoint e = {.ver = 4, .local_port = 443};
	uint64_t at = 0, known = 0;

	(void)state;
	e.remote_port = 1;
	assert_false(destroylog_find(l, &e, &at));
	destroylog_add(l, &e, 5);
	destroylog_add(l, &e, 9);
	assert_true(destroylog_find(l, &e, &at) && at == 9);
	for (unsigned i = 2; i < 1000; i++) {
		e.remote_port = (uint16_t)i;
		destroylog_add(l, &e, 10 + i);
		assert_true(destroylog_find(l, &e, &at) && at == 10 + i); /* the newest is always there */
	}
	for (unsigned i = 1; i < 1000; i++) {
		e.remote_port = (uint16_t)i;
		known += destroylog_find(l, &e, &at);
	}
	assert_int_equal(known, 64);
	e.remote_port = 1;
	assert_false(destroylog_find(l, &e, &at));
	destroylog_free(&l);
	assert_null(l);
}

static void test_destroylog_by_remote_end(void **state)
{
	struct destroylog *l = destroylog_new(64, 0x1234567);
	struct endpoint e = {.ver = 4, .local_port = 8443, .remote_port = 5, .netns = 1}, wire = e, got;
	uint64_t at;

	(void)state;
	wire.local_port = 443;
	wire.local[0] = 9;
	assert_false(destroylog_find_remote(l, &wire, &got, &at));
	destroylog_add(l, &e, 7);
	assert_true(destroylog_find_remote(l, &wire, &got, &at) && at == 7 && endpoint_same(&got, &e));
	e.local_port = 8444; /* the same end of another one: the last one counts */
	destroylog_add(l, &e, 8);
	assert_true(destroylog_find_remote(l, &wire, &wire, &at) && at == 8 && endpoint_same(&wire, &e));
	wire.netns = 2;
	assert_false(destroylog_find_remote(l, &wire, &got, &at));
	for (unsigned i = 0; i < 1000; i++) { /* one busy remote end is one entry */
		e.local_port = (uint16_t)(1 + i);
		destroylog_add(l, &e, 10 + i);
	}
	e.remote_port = 6;
	destroylog_add(l, &e, 2000);
	e.remote_port = 5;
	assert_true(destroylog_find_remote(l, &e, &got, &at) && at == 1009 && got.local_port == 1000);
	destroylog_free(&l);
}

/* --- broken messages --- */

struct message {
	struct nlmsghdr h;
	struct inet_diag_msg m;
	struct nlattr a;
	uint8_t v6only, pad[3];
};

static struct message good(void)
{
	struct message g = {
		.h = {.nlmsg_len = sizeof(g), .nlmsg_type = SOCK_DIAG_BY_FAMILY},
		.m = {.idiag_family = AF_INET, .idiag_state = TCP_ESTABLISHED, .idiag_inode = 9},
		.a = {.nla_len = 5, .nla_type = INET_DIAG_SKV6ONLY},
	};

	g.m.id.idiag_sport = htons(1000);
	g.m.id.idiag_dport = htons(443);
	g.m.id.idiag_src[0] = g.m.id.idiag_dst[0] = htonl(0x7f000001);
	return g;
}

static void test_broken_messages(void **state)
{
	struct endpoint e = {.ver = 4,
			     .local_port = 1000,
			     .remote_port = 443,
			     .local = {127, 0, 0, 1},
			     .remote = {127, 0, 0, 1}};
	struct sockdiag_destroyed d[2];
	struct sockdiag_listener l[2];
	struct sockdiag_info info;
	struct sockdiag_peer p[2];
	struct message g = good();
	bool done;

	(void)state;
	assert_int_equal(sockdiag_find_parse(&g, sizeof(g), &e, &info), 0);
	assert_int_equal(info.inode, 9);
	assert_int_equal(sockdiag_destroy_parse(&g, sizeof(g), d, 2), 1);
	for (size_t cut = 0; cut < sizeof(g); cut++) {
		assert_int_equal(sockdiag_find_parse(&g, cut, &e, &info), -EBADMSG);
		assert_int_equal(sockdiag_destroy_parse(&g, cut, d, 2), 0);
		assert_int_equal(sockdiag_peers_parse(&g, cut, &e, true, p, 0, 2, &done), 0);
	}
	for (uint32_t len = 0; len < sizeof(g.h) + sizeof(g.m); len++) { /* the header lies */
		g.h.nlmsg_len = len;
		assert_int_equal(sockdiag_find_parse(&g, sizeof(g), &e, &info), -EBADMSG);
		assert_int_equal(sockdiag_destroy_parse(&g, sizeof(g), d, 2), 0);
		assert_int_equal(sockdiag_peers_parse(&g, sizeof(g), &e, true, p, 0, 2, &done), 0);
	}
	g.h.nlmsg_len = UINT32_MAX;
	assert_int_equal(sockdiag_find_parse(&g, sizeof(g), &e, &info), -EBADMSG);
	g = good();
	assert_int_equal(sockdiag_peers_parse(&g, sizeof(g), &e, true, p, 1, 2, &done), 2);
	assert_true(p[1].inode == 9 && endpoint_same(&p[1].e, &e) && !done);
	assert_int_equal(sockdiag_peers_parse(&g, sizeof(g), &e, false, p, 2, 2, &done), 2); /* full */
	g.m.id.idiag_dport = htons(444); /* the kernel's filter may not be believed */
	assert_int_equal(sockdiag_peers_parse(&g, sizeof(g), &e, true, p, 0, 2, &done), 0);
	assert_int_equal(sockdiag_peers_parse(&g, sizeof(g), &e, false, p, 0, 2, &done), 1);
	g.m.idiag_state = TCP_LISTEN;
	assert_int_equal(sockdiag_peers_parse(&g, sizeof(g), &e, false, p, 0, 2, &done), 0);
	g = good();
	g.m.idiag_family = 77;
	assert_int_equal(sockdiag_find_parse(&g, sizeof(g), &e, &info), -EBADMSG);
	g = good();
	g.m.idiag_state = TCP_LISTEN;
	assert_int_equal(sockdiag_find_parse(&g, sizeof(g), &e, &info), -ENOENT);
	for (unsigned len = 0; len < 12; len++) { /* attribute too short, too long: no crash, v6only where unknown */
		g.m.idiag_family = AF_INET6;
		g.a.nla_len = (uint16_t)len;
		assert_int_equal(sockdiag_listeners_parse(&g, sizeof(g), l, 0, 2, &done), 1);
		assert_int_equal(l[0].v6only, len < 5 || len > 8);
	}
	assert_int_equal(sockdiag_listeners_parse(&g, sizeof(g), l, 2, 2, &done), 2); /* full */
	g = good();
	g.h.nlmsg_type = NLMSG_ERROR;
	memset(&g.m, 0xff, sizeof(g.m)); /* -1: EPERM */
	assert_int_equal(sockdiag_find_parse(&g, sizeof(g), &e, &info), -EPERM);
	assert_int_equal(sockdiag_peers_parse(&g, sizeof(g), &e, true, p, 0, 2, &done), -EPERM);
	memset(&g.m, 0x7f, sizeof(g.m)); /* no errno */
	assert_int_equal(sockdiag_find_parse(&g, sizeof(g), &e, &info), -EBADMSG);
	memset(&g.m, 0, sizeof(g.m));
	assert_int_equal(sockdiag_find_parse(&g, sizeof(g), &e, &info), -EBADMSG); /* "no error" is no answer */
	g.h.nlmsg_type = NLMSG_DONE;
	assert_int_equal(sockdiag_peers_parse(&g, sizeof(g), &e, true, p, 1, 2, &done), 1);
	assert_true(done);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_find_exact_addresses_only),
		cmocka_unit_test(test_listeners),
		cmocka_unit_test(test_v6only_listener_takes_no_ipv4),
		cmocka_unit_test(test_listener_counts_only_since_it_was_seen),
		cmocka_unit_test(test_destroy_events_carry_tuple_and_cookie),
		cmocka_unit_test(test_overrun_is_told),
		cmocka_unit_test(test_peers_share_one_end),
		cmocka_unit_test(test_peers_are_bounded),
		cmocka_unit_test(test_namespace_is_part_of_an_endpoint),
		cmocka_unit_test(test_normalise),
		cmocka_unit_test(test_destroylog_forgets_the_oldest),
		cmocka_unit_test(test_destroylog_by_remote_end),
		cmocka_unit_test(test_broken_messages),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
