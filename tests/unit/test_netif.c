/* SPDX-License-Identifier: Apache-2.0 */
/* test_netif.c - frames out of an interface, in a network namespace of the test's own (root; else skipped). */
#include <arpa/inet.h>
#include <errno.h>
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
#include <unistd.h>

#include <cmocka.h>

#include "common/netif.h"
#include "common/rtnl.h"

static bool can;
static char err[NETIF_ERR];

static bool ip(const char *args)
{
	char cmd[256];

	(void)snprintf(cmd, sizeof(cmd), "ip %s >/dev/null 2>&1", args);
	return system(cmd) == 0;
}

static int set_up(void **state)
{
	(void)state;
	can = unshare(CLONE_NEWNET) == 0 && ip("link add va type veth peer name vb");
	return 0;
}

static int need(void **state)
{
	(void)state;
	if (can)
		(void)(ip("link set va down") && ip("addr flush dev va") && ip("link set va nomaster") &&
		       ip("link set va mtu 1500 up") && ip("link set vb mtu 1500 up"));
	return 0;
}

static int listen_on(const char *name)
{
	struct sockaddr_ll sa = {.sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL)};
	int fd = socket(AF_PACKET, SOCK_RAW | SOCK_NONBLOCK, htons(ETH_P_ALL));

	sa.sll_ifindex = (int)if_nametoindex(name);
	assert_int_equal(bind(fd, (struct sockaddr *)&sa, sizeof(sa)), 0);
	return fd;
}

static void test_batches_arrive_as_they_were(void **state)
{
	static uint8_t data[NETIF_BATCH][200];
	struct iovec frame[NETIF_BATCH];
	struct netif n;
	unsigned got = 0;
	int fd;

	(void)state;
	if (!can)
		skip();
	assert_int_equal(netif_open(&n, "va", 0, err), 0);
	assert_int_equal(n.mtu, 1500);
	fd = listen_on("vb");
	for (unsigned i = 0; i < NETIF_BATCH; i++) {
		memset(data[i], (int)i, sizeof(data[i]));
		memcpy(data[i], "\6\x11\x22\x33\x44\x56\6\x11\x22\x33\x44\x55\x88\xb5", 14);
		frame[i] = (struct iovec){.iov_base = data[i], .iov_len = 60 + i};
	}
	assert_int_equal(netif_send(&n, frame, NETIF_BATCH), NETIF_BATCH);
	for (int tries = 0; got < NETIF_BATCH && tries < 1000; tries++) {
		uint8_t in[2048];
		ssize_t len = recv(fd, in, sizeof(in), 0);

		if (len == -1) {
			usleep(1000);
			continue;
		}
		if (in[12] != 0x88 || in[13] != 0xb5) /* the interface's own */
			continue;
		assert_int_equal(len, 60 + got);
		assert_memory_equal(in, data[got], (size_t)len);
		got++;
	}
	assert_int_equal(got, NETIF_BATCH);
	assert_int_equal(n.n.frames, NETIF_BATCH);
	close(fd);
	netif_close(&n);
}

static void test_too_long_is_refused_and_the_rest_goes_on(void **state)
{
	static uint8_t data[4000];
	struct iovec frame[3] = {{data, 60}, {data, 1519}, {data, 1514}};
	struct netif n;

	(void)state;
	if (!can)
		skip();
	assert_int_equal(netif_open(&n, "va", 0, err), 0);
	assert_int_equal(netif_send(&n, frame, 3), 1);
	assert_int_equal(netif_send(&n, frame + 1, 2), -EMSGSIZE);
	assert_int_equal(netif_send(&n, frame + 2, 1), 1);
	assert_true(n.n.frames == 2 && n.n.toolong == 1);
	netif_close(&n);
}

static void test_interfaces_in_use_are_refused(void **state)
{
	struct netif n;

	(void)state;
	if (!can)
		skip();
	assert_true(ip("addr add 192.0.2.1/24 dev va"));
	assert_int_equal(netif_open(&n, "va", 0, err), -EBUSY);
	assert_non_null(strstr(err, "va"));
	assert_int_equal(netif_open(&n, "va", NETIF_FORCE, err), 0);
	netif_close(&n);
	assert_true(ip("addr flush dev va"));
	assert_true(ip("route add default dev va"));
	assert_int_equal(netif_open(&n, "va", 0, err), -EBUSY);
	assert_non_null(strstr(err, "route"));
	assert_true(ip("route del default dev va"));
	assert_true(ip("-6 addr add 2001:db8::1/64 dev va nodad"));
	assert_int_equal(netif_open(&n, "va", 0, err), -EBUSY);
	assert_true(ip("addr flush dev va"));
	if (ip("link add br0 type bridge") && ip("link set va master br0")) {
		assert_int_equal(netif_open(&n, "va", 0, err), -EBUSY);
		assert_non_null(strstr(err, "bridge"));
		assert_true(ip("link del br0"));
	}
	assert_int_equal(netif_open(&n, "va", 0, err), 0);
	netif_close(&n);
}

static void test_what_is_not_there_is_one_line(void **state)
{
	struct netif n;

	(void)state;
	if (!can)
		skip();
	assert_int_equal(netif_open(&n, "nosuchif0", 0, err), -ENODEV);
	assert_non_null(strstr(err, "nosuchif0"));
	assert_int_equal(netif_open(&n, "a-name-that-is-far-too-long", NETIF_MAKE, err), -ENODEV);
	assert_int_equal(netif_open(&n, "", NETIF_MAKE, err), -ENODEV);
	assert_true(ip("link set va down"));
	assert_int_equal(netif_open(&n, "va", 0, err), -ENETDOWN);
	assert_int_equal(netif_open(&n, "va", NETIF_MAKE, err), 0); /* brings it up */
	netif_close(&n);
	assert_true(ip("link set va mtu 300"));
	assert_int_equal(netif_open(&n, "va", 0, err), -EINVAL);
}

static void test_dummy_is_made_or_said_why_not(void **state)
{
	struct netif n;
	int r;

	(void)state;
	if (!can)
		skip();
	r = netif_open(&n, "dummytest0", NETIF_MAKE, err);
	if (r == 0) {
		struct rtnl_link l;

		assert_int_equal(rtnl_link("dummytest0", &l), 0);
		assert_true(l.flags & IFF_UP && l.flags & IFF_NOARP);
		netif_close(&n);
	} else { /* a kernel without the driver */
		assert_int_equal(r, -ENODEV);
		assert_non_null(strstr(err, "dummy"));
	}
}

static void test_an_interface_that_goes_and_comes_back(void **state)
{
	static uint8_t data[100];
	struct iovec frame = {data, 60};
	struct netif n;

	(void)state;
	if (!can)
		skip();
	assert_int_equal(netif_open(&n, "va", 0, err), 0);
	assert_true(ip("link set va down"));
	assert_int_equal(netif_send(&n, &frame, 1), -ENETDOWN);
	assert_true(n.lost);
	assert_int_equal(netif_check(&n, err), -ENETDOWN);
	assert_true(ip("link set va up"));
	assert_int_equal(netif_check(&n, err), 0);
	assert_int_equal(netif_send(&n, &frame, 1), 1);
	assert_true(ip("link del va"));
	assert_int_equal(netif_send(&n, &frame, 1), -ENETDOWN);
	assert_int_equal(netif_check(&n, err), -ENODEV);
	assert_true(ip("link add va type veth peer name vb") && ip("link set vb up") && ip("link set va up"));
	assert_int_equal(netif_check(&n, err), 0);
	assert_int_equal(netif_send(&n, &frame, 1), 1);
	assert_int_equal(n.n.down, 2);
	netif_close(&n);
}

int main(void)
{
#define TEST(t) cmocka_unit_test_setup(t, need)
	const struct CMUnitTest tests[] = {
		TEST(test_batches_arrive_as_they_were),	  TEST(test_too_long_is_refused_and_the_rest_goes_on),
		TEST(test_interfaces_in_use_are_refused), TEST(test_what_is_not_there_is_one_line),
		TEST(test_dummy_is_made_or_said_why_not), TEST(test_an_interface_that_goes_and_comes_back),
	};

	return cmocka_run_group_tests(tests, set_up, NULL);
}
