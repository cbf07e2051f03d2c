/* SPDX-License-Identifier: Apache-2.0 */
/* test_ends.c - TCP connections inside of whatever carries packets, cut at every byte. */
#include <linux/if_ether.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/ends.h"

static uint8_t packet[512];
static size_t len;

static void put(const void *p, size_t n)
{
	memcpy(packet + len, p, n);
	len += n;
}

#define PUT(...) put((const uint8_t[]){__VA_ARGS__}, sizeof((const uint8_t[]){__VA_ARGS__}))

static void zeros(size_t n)
{
	memset(packet + len, 0, n);
	len += n;
}

static void ipv4(uint8_t proto, unsigned options, uint8_t last)
{
	PUT((uint8_t)(0x45 + options), 0, 0, 0, 0, 0, 0x40, 0, 64, proto, 0, 0, 10, 0, 0, 1, 10, 0, 0, last);
	zeros(options * 4);
}

static void ipv6(uint8_t next, uint8_t last)
{
	PUT(0x60, 0, 0, 0, 0, 0, next, 64);
	PUT(0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1);
	PUT(0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last);
}

static void tcp(void)
{
	PUT(0x9c, 0x40, 0x0b, 0xbd); /* 40000 -> 3005 */
}

/* The connection is found, to the address that ends with @last, and with no byte less. */
static void found(uint16_t proto, uint8_t ver, uint8_t last)
{
	struct tuple t = {0};

	for (size_t n = 0; n < len; n++) {
		uint8_t *exact = malloc(n > 0 ? n : 1);

		memcpy(exact, packet, n);
		assert_false(ends_find(proto, exact, n, &t));
		free(exact);
	}
	assert_true(ends_find(proto, packet, len, &t));
	assert_int_equal(t.ver, ver);
	assert_int_equal(t.addr[1][ver == 4 ? 3 : 15], last);
	assert_int_equal(t.addr[0][ver == 4 ? 3 : 15], 1);
	assert_true(t.port[0] == 40000 && t.port[1] == 3005);
	len = 0;
}

static void test_plain(void **state)
{
	(void)state;
	ipv4(6, 0, 2), tcp(), found(ETH_P_IP, 4, 2);
	ipv4(6, 10, 3), tcp(), found(ETH_P_IP, 4, 3);
	ipv6(6, 4), tcp(), found(ETH_P_IPV6, 6, 4);
	ipv6(0, 5), PUT(60, 0), zeros(6), PUT(6, 1), zeros(14), tcp(), found(ETH_P_IPV6, 6, 5);
	PUT(0, 7, 8, 0), ipv4(6, 0, 2), tcp(), found(ETH_P_8021Q, 4, 2);
	PUT(0, 7, 0x81, 0, 0, 8, 0x86, 0xdd), ipv6(6, 2), tcp(), found(ETH_P_8021AD, 6, 2);
}

static void test_carried(void **state)
{
	(void)state;
	ipv4(4, 0, 9), ipv4(6, 0, 2), tcp(), found(ETH_P_IP, 4, 2);
	ipv4(41, 0, 9), ipv6(6, 3), tcp(), found(ETH_P_IP, 6, 3);
	ipv6(4, 9), ipv4(6, 0, 2), tcp(), found(ETH_P_IPV6, 4, 2);
	ipv4(47, 0, 9), PUT(0, 0, 8, 0), ipv4(6, 0, 2), tcp(), found(ETH_P_IP, 4, 2);
	ipv4(47, 0, 9), PUT(0xb0, 0, 0x65, 0x58), zeros(12 + 12), PUT(8, 0), ipv4(6, 0, 2), tcp(),
		found(ETH_P_IP, 4, 2);
	ipv4(17, 0, 9), zeros(2), PUT(0x12, 0xb5), zeros(4), PUT(8, 0, 0, 0, 0, 0, 5, 0), zeros(12), PUT(0x86, 0xdd),
		ipv6(6, 2), tcp(), found(ETH_P_IP, 6, 2);
	ipv6(17, 9), zeros(2), PUT(0x17, 0xc1), zeros(4), PUT(1, 0, 0x65, 0x58, 0, 0, 5, 0), zeros(4 + 12), PUT(8, 0),
		ipv4(6, 0, 2), tcp(), found(ETH_P_IPV6, 4, 2);
	PUT(0x11, 0, 0, 1, 0, 30, 0, 0x21), ipv4(6, 0, 2), tcp(), found(ETH_P_PPP_SES, 4, 2);
	PUT(0x11, 0, 0, 1, 0, 30, 0, 0x57), ipv6(6, 2), tcp(), found(ETH_P_PPP_SES, 6, 2);
	PUT(0, 1, 0, 64, 0, 2, 1, 64), ipv6(6, 2), tcp(), found(ETH_P_MPLS_UC, 6, 2);
}

static void none(uint16_t proto)
{
	struct tuple t;

	tcp();
	assert_false(ends_find(proto, packet, len, &t));
	len = 0;
}

static void test_what_is_none(void **state)
{
	(void)state;
	ipv4(17, 0, 2), none(ETH_P_IP);
	ipv4(6, 0, 2), packet[7] = 1, none(ETH_P_IP); /* a later fragment */
	ipv4(6, 0, 2), packet[0] = 0x44, none(ETH_P_IP);
	ipv4(6, 0, 2), none(ETH_P_IPV6);
	ipv6(44, 2), zeros(8), none(ETH_P_IPV6);
	ipv4(47, 0, 9), PUT(0, 1, 8, 0), ipv4(6, 0, 2), none(ETH_P_IP); /* GRE version 1 */
	ipv4(6, 0, 2), none(ETH_P_ARP);
	for (unsigned i = 0; i < ENDS_LAYERS; i++)
		PUT(0, 7, 0x81, 0);
	packet[len - 2] = 8;
	ipv4(6, 0, 2), none(ETH_P_8021Q);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_plain),
		cmocka_unit_test(test_carried),
		cmocka_unit_test(test_what_is_none),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
