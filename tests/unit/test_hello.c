/* SPDX-License-Identifier: Apache-2.0 */
/* test_hello.c - finding the start of a handshake behind all headers there may be, and not seeing one elsewhere. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "agentd/hello.h"
#include "hellopkt.h"

#define IPV4 0x0800
#define IPV6 0x86dd
#define LONG "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"
#define V2 "\r\n\r\n\0\r\nQUIT\n"

static const uint8_t A4[16] = {192, 0, 2, 1}, B4[16] = {198, 51, 100, 2};
static const uint8_t A6[16] = {0x20, 1, 0xd, 0xb8, [15] = 1}, B6[16] = {0x20, 1, 0xd, 0xb8, [15] = 2};
static const uint8_t plain[] = {6};
static const uint8_t retry[32] = {0xcf, 0x21, 0xad, 0x74, 0xe5, 0x9a, 0x61, 0x11, 0xbe, 0x1d, 0x8c,
				  0x02, 0x1e, 0x65, 0xb8, 0x91, 0xc2, 0xa2, 0x11, 0x16, 0x7a, 0xbb,
				  0x8c, 0x5e, 0x07, 0x9e, 0x09, 0xe2, 0xc8, 0xa8, 0x33, 0x9c};
static uint8_t rnd[32];
static struct pkt k;
static struct hello h;

static int set_up(void **state)
{
	(void)state;
	for (unsigned i = 0; i < sizeof(rnd); i++)
		rnd[i] = (uint8_t)(0xa0 + i);
	pkt_begin(&k);
	memset(&h, 0xee, sizeof(h));
	return 0;
}

/* Parse a copy of its own size: a byte read too many is seen by AddressSanitizer. */
static bool parse(const uint8_t *p, size_t len, uint16_t proto)
{
	uint8_t *copy = malloc(len ? len : 1);
	bool r;

	memcpy(copy, p, len);
	r = proto ? hello_parse_packet(copy, len, proto, &h) : hello_parse_tls(copy, len, &h);
	free(copy);
	return r;
}

static bool tls(void)
{
	return parse(k.p, k.len, 0);
}

static bool packet(uint16_t proto)
{
	return parse(k.p, k.len, proto);
}

/* A packet with a ClientHello from port 40000 to 443. */
static void client4(unsigned ip_opts, unsigned tcp_opts, unsigned frag)
{
	pkt_begin(&k);
	pkt_client_hello(&k, rnd, "a.example", 0);
	pkt_tcp(&k, 40000, 443, tcp_opts, 0x18);
	pkt_ip4(&k, A4, B4, ip_opts, frag);
}

static void client6(const uint8_t *chain)
{
	pkt_begin(&k);
	pkt_client_hello(&k, rnd, "a.example", 0);
	pkt_tcp(&k, 40000, 443, 12, 0x18);
	pkt_ip6(&k, A6, B6, chain);
}

static void is_client(const uint8_t *a, const uint8_t *b, unsigned ver)
{
	struct tuple t = {.port = {40000, 443}, .ver = (uint8_t)ver};

	memcpy(t.addr[SIDE_CLIENT], a, 16);
	memcpy(t.addr[SIDE_SERVER], b, 16);
	assert_memory_equal(&h.t, &t, sizeof(t));
	assert_false(h.server || h.retry);
	assert_int_equal(h.random_len, 32);
	assert_memory_equal(h.random, rnd, 32);
	assert_string_equal(h.sni, "a.example");
	assert_int_equal(h.sni_len, 9);
}

static void test_client_hello(void **state)
{
	(void)state;
	pkt_client_hello(&k, rnd, "www.example", 0);
	assert_true(tls());
	assert_false(h.server || h.retry);
	assert_int_equal(h.random_len, 32);
	assert_memory_equal(h.random, rnd, 32);
	assert_string_equal(h.sni, "www.example");
	for (unsigned minor = 0; minor < 5; minor++) { /* any version of the record, and early data behind it */
		k.p[2] = (uint8_t)minor;
		assert_true(tls());
	}
	pkt_put(&k, "\x14\x03\x03\0\1\1\x17\x03\x03\0\x40", 11);
	assert_true(tls());
	assert_string_equal(h.sni, "www.example");
}

static void test_server_hello_and_retry(void **state)
{
	(void)state;
	pkt_server_hello(&k, rnd);
	assert_true(tls());
	assert_true(h.server && !h.retry && h.sni_len == 0 && h.random_len == 32);
	assert_memory_equal(h.random, rnd, 32);
	pkt_begin(&k);
	pkt_server_hello(&k, retry);
	assert_true(tls());
	assert_true(h.server && h.retry);
	assert_true(parse(k.p, 11 + 8, 0)); /* cut */
	assert_true(h.retry && h.random_len == 8);
	pkt_begin(&k);
	pkt_client_hello(&k, retry, NULL, 0); /* a client may say what it likes */
	assert_true(tls());
	assert_false(h.server || h.retry);
}

static void test_what_is_no_hello(void **state)
{
	static const struct {
		size_t at;
		uint8_t value;
	} wrong[] = {{0, 0x17}, {0, 0x15}, {1, 2},  {3, 0x60}, {5, 0},	{5, 4},
		     {5, 11},	{5, 16},   {9, 13}, {9, 2},    {9, 254}};

	(void)state;
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		pkt_begin(&k);
		pkt_client_hello(&k, rnd, NULL, 0);
		k.p[wrong[i].at] = wrong[i].value;
		if (wrong[i].value == 13) /* a length that no hello can have */
			k.p[7] = k.p[8] = 0, k.p[8] = 33;
		assert_false(tls());
	}
	pkt_begin(&k);
	pkt_client_hello(&k, rnd, NULL, 0);
	k.p[3] = k.p[4] = 0; /* empty record */
	assert_false(tls());
	assert_false(parse(k.p, 0, 0));
	assert_false(parse((const uint8_t *)"GET / HTTP/1.1\r\n\r\n", 18, 0));
}

static void test_cut_anywhere(void **state)
{
	static const char *const name = "cut.example";
	size_t need, len;

	(void)state;
	pkt_client_hello(&k, rnd, name, 0);
	need = k.len;
	for (len = 0; len < need; len++) {
		bool found = parse(k.p, len, 0);

		assert_int_equal(found, len >= 11 + HELLO_RANDOM_MIN);
		if (!found)
			continue;
		assert_int_equal(h.random_len, len < 11 + 32 ? len - 11 : 32);
		assert_memory_equal(h.random, rnd, h.random_len);
		assert_int_equal(h.sni_len, 0);
		assert_int_equal(h.sni[0], 0);
	}
	assert_true(tls());
	assert_string_equal(h.sni, name);
}

static void test_large_hellos(void **state)
{
	(void)state;
	pkt_client_hello(&k, rnd, "pq.example", 1700); /* a post-quantum key share before the name */
	assert_true(parse(k.p, 1448, 0));	       /* what the first segment holds */
	assert_true(h.random_len == 32 && h.sni_len == 0);
	assert_true(tls());
	assert_string_equal(h.sni, "pq.example");
	pkt_begin(&k);
	pkt_client_hello(&k, rnd, "far.example", 12000);
	assert_true(parse(k.p, HELLO_BYTES_MAX, 0));
	assert_int_equal(h.sni_len, 0);
	assert_true(tls());
	assert_string_equal(h.sni, "far.example");
}

static void test_names(void **state)
{
	char name[300];

	(void)state;
	memset(name, 'n', sizeof(name));
	name[HELLO_NAME_MAX + 1] = '\0';
	pkt_client_hello(&k, rnd, name, 0);
	assert_true(tls());
	assert_int_equal(h.sni_len, 0); /* no DNS name is that long */
	name[HELLO_NAME_MAX] = '\0';
	pkt_begin(&k);
	pkt_client_hello(&k, rnd, name, 0);
	assert_true(tls());
	assert_int_equal(h.sni_len, HELLO_NAME_MAX);
	assert_string_equal(h.sni, name);
	pkt_begin(&k);
	pkt_client_hello(&k, rnd, "a\n\x1b[2J\xff b", 0);
	assert_true(tls());
	assert_string_equal(h.sni, "a??[2J??b");
	pkt_begin(&k);
	pkt_client_hello(&k, rnd, "", 0);
	assert_true(tls());
	assert_int_equal(h.sni_len, 0);
}

/* Lengths of fields before the name that point too far: the name is not found, all else is. */
static void test_lying_lengths(void **state)
{
	static const size_t at[] = {43, 76, 77, 82, 88, 89, 93, 94};

	(void)state;
	for (size_t i = 0; i < sizeof(at) / sizeof(at[0]); i++) {
		pkt_begin(&k);
		pkt_client_hello(&k, rnd, "lie.example", 0);
		assert_memory_equal(k.p + 95, "lie", 3);
		k.p[at[i]] = 0xff;
		assert_true(tls());
		assert_int_equal(h.random_len, 32);
		assert_int_equal(h.sni_len, 0);
	}
	pkt_begin(&k);
	pkt_client_hello(&k, rnd, "a.example", 0);
	k.p[84] = 0xff; /* all extensions: the message ends them */
	assert_true(tls());
	assert_string_equal(h.sni, "a.example");
}

/* The same message in records of @size bytes. */
static void split(size_t size)
{
	struct pkt whole = k;

	whole.p = whole.buf + PKT_HEAD;
	pkt_begin(&k);
	for (size_t at = 5; at < whole.len; at += size) {
		size_t n = whole.len - at < size ? whole.len - at : size;

		pkt_put(&k, "\x16\x03\x01", 3);
		pkt_int(&k, n, 2);
		pkt_put(&k, whole.p + at, n);
	}
}

static void test_hello_in_many_records(void **state)
{
	(void)state;
	for (size_t size = 1; size < 200; size++) {
		pkt_begin(&k);
		pkt_client_hello(&k, rnd, "split.example", 0);
		split(size);
		assert_true(tls());
		assert_int_equal(h.random_len, 32);
		assert_memory_equal(h.random, rnd, 32);
		assert_string_equal(h.sni, "split.example");
	}
	pkt_begin(&k);
	pkt_client_hello(&k, rnd, NULL, 0);
	split(20);
	for (size_t len = 0; len < k.len; len++) { /* and cut */
		size_t got = len / 25 * 20 + (len % 25 > 5 ? len % 25 - 5 : 0);
		bool found = parse(k.p, len, 0);

		assert_int_equal(found, got >= 6 + 8);
		if (found)
			assert_int_equal(h.random_len, got >= 6 + 32 ? 32 : got - 6);
	}
	pkt_begin(&k);
	pkt_client_hello(&k, rnd, NULL, 9000); /* more than is put together */
	split(500);
	assert_true(tls());
	assert_int_equal(h.random_len, 32);
	k.p[505] = 0x17; /* another kind of record between them */
	assert_true(tls());
}

static void test_proxy_header(void **state)
{
	static const char *const good[] = {"PROXY TCP4 192.0.2.1 198.51.100.2 56324 443\r\n", "PROXY UNKNOWN\r\n",
					   "PROXY UNKNOWN " LONG " " LONG " 65535 65535\r\n"};
	static const char *const bad[] = {"PROXY TCP4 192.0.2.1 198.51.100.2 56324 443\n", "PROX\r\n", "PROXYX\r\n",
					  "PROXY UNKNOWN " LONG " " LONG " 65535 655355\r\n"};

	(void)state;
	for (size_t i = 0; i < 3; i++) {
		pkt_begin(&k);
		pkt_put(&k, good[i], strlen(good[i]));
		assert_false(tls()); /* alone, as haproxy sends it */
		pkt_client_hello(&k, rnd, "p.example", 0);
		assert_true(tls());
		assert_string_equal(h.sni, "p.example");
	}
	assert_int_equal(strlen(good[2]), 107);
	for (size_t i = 0; i < 4; i++) {
		pkt_begin(&k);
		pkt_put(&k, bad[i], strlen(bad[i]));
		pkt_client_hello(&k, rnd, NULL, 0);
		assert_false(tls());
	}
	for (unsigned len = 0; len < 300; len += 12) {
		pkt_begin(&k);
		pkt_put(&k, V2 "\x21\x11", 14);
		pkt_int(&k, len, 2);
		pkt_put(&k, NULL, len);
		assert_false(tls());
		pkt_client_hello(&k, rnd, "p.example", 0);
		assert_true(tls());
		assert_string_equal(h.sni, "p.example");
		k.p[14] = 0xff; /* longer than all */
		assert_false(tls());
	}
}

static void test_ipv4(void **state)
{
	(void)state;
	for (unsigned opts = 0; opts <= 40; opts += 4) {
		client4(opts, 40 - opts, 0x4000);
		assert_true(packet(IPV4));
		is_client(A4, B4, 4);
	}
	client4(0, 0, 0x2000); /* first fragment */
	assert_true(packet(IPV4));
	client4(0, 0, 0x2001); /* another one */
	assert_false(packet(IPV4));
	client4(0, 0, 0);
	pkt_be16(k.p + 2, 0); /* more than 64 KiB, before it is cut */
	assert_true(packet(IPV4));
	is_client(A4, B4, 4);
	k.p[9] = 17;
	assert_false(packet(IPV4));
}

static void test_sides(void **state)
{
	(void)state;
	pkt_server_hello(&k, rnd);
	pkt_tcp(&k, 443, 40000, 0, 0x18);
	pkt_ip4(&k, B4, A4, 0, 0);
	assert_true(packet(IPV4));
	assert_true(h.server);
	assert_int_equal(h.t.port[SIDE_CLIENT], 40000);
	assert_int_equal(h.t.port[SIDE_SERVER], 443);
	assert_memory_equal(h.t.addr[SIDE_CLIENT], A4, 16);
	assert_memory_equal(h.t.addr[SIDE_SERVER], B4, 16);
	client4(0, 0, 0); /* a connection of a host to itself */
	memcpy(k.p + 12, "\x7f\0\0\1\x7f\0\0\1", 8);
	assert_true(packet(IPV4));
	assert_memory_equal(h.t.addr[0], h.t.addr[1], 16);
}

static void test_tcp_fast_open(void **state)
{
	(void)state;
	pkt_client_hello(&k, rnd, "a.example", 0);
	pkt_tcp(&k, 40000, 443, 20, 0x02);
	pkt_ip4(&k, A4, B4, 0, 0);
	assert_true(packet(IPV4));
	is_client(A4, B4, 4);
}

static void test_padding_is_no_payload(void **state)
{
	(void)state;
	pkt_client_hello(&k, rnd, NULL, 0);
	k.len = 11 + 10; /* a piece with 10 bytes of the random, then what Ethernet adds */
	pkt_tcp(&k, 40000, 443, 0, 0x18);
	pkt_ip4(&k, A4, B4, 0, 0);
	pkt_put(&k, NULL, 30);
	assert_true(packet(IPV4));
	assert_int_equal(h.random_len, 10);
}

static void test_ipv6_and_its_extensions(void **state)
{
	static const uint8_t chains[][9] = {{6},
					    {0, 6},
					    {43, 6},
					    {60, 6},
					    {44, 6},
					    {51, 6},
					    {0, 60, 43, 6},
					    {0, 43, 44, 51, 60, 6},
					    {60, 60, 60, 60, 60, 60, 60, 6}};
	static const uint8_t many[] = {60, 60, 60, 60, 60, 60, 60, 60, 60, 6};

	(void)state;
	for (size_t i = 0; i < sizeof(chains) / sizeof(chains[0]); i++) {
		client6(chains[i]);
		assert_true(packet(IPV6));
		is_client(A6, B6, 6);
	}
	client6(many);
	assert_false(packet(IPV6));
	client6(chains[4]);
	pkt_be16(k.p + 42, 8 << 3); /* not the first fragment */
	assert_false(packet(IPV6));
	pkt_be16(k.p + 42, 1); /* the first of several */
	assert_true(packet(IPV6));
	client6(plain);
	pkt_be16(k.p + 4, 0); /* more than 64 KiB */
	assert_true(packet(IPV6));
	k.p[6] = 58;
	assert_false(packet(IPV6));
}

static void test_mapped_addresses_are_ipv4(void **state)
{
	uint8_t a[16] = {[10] = 0xff, 0xff, 192, 0, 2, 1}, b[16] = {[10] = 0xff, 0xff, 198, 51, 100, 2};

	(void)state;
	pkt_client_hello(&k, rnd, "a.example", 0);
	pkt_tcp(&k, 40000, 443, 0, 0x18);
	pkt_ip6(&k, a, b, plain);
	assert_true(packet(IPV6));
	is_client(A4, B4, 4);
	memcpy(k.p + 8, A6, 16); /* one of each is nothing */
	assert_false(packet(IPV6));
}

static void test_vlan_tags(void **state)
{
	static const uint16_t tag[] = {0x8100, 0x88a8, 0x9100};

	(void)state;
	for (size_t outer = 0; outer < 3; outer++) {
		client4(0, 12, 0);
		pkt_vlan(&k, 5, IPV4);
		assert_true(packet(tag[outer]));
		is_client(A4, B4, 4);
		client6(plain);
		pkt_vlan(&k, 5, IPV6);
		pkt_vlan(&k, 6, 0x8100);
		assert_true(packet(tag[outer]));
		is_client(A6, B6, 6);
	}
	client4(0, 0, 0);
	pkt_vlan(&k, 1, IPV4);
	for (int i = 0; i < 3; i++)
		pkt_vlan(&k, 1, 0x8100);
	assert_true(packet(0x8100));
	pkt_vlan(&k, 1, 0x8100);
	assert_false(packet(0x8100)); /* five of them */
	client4(0, 0, 0);
	assert_false(packet(0x0806));
	assert_false(packet(IPV6));
}

static void test_packets_cut_anywhere(void **state)
{
	(void)state;
	client4(8, 12, 0);
	for (size_t len = 0; len < k.len; len++)
		assert_int_equal(parse(k.p, len, IPV4), len >= 28 + 32 + 11 + 8);
	client6(plain);
	pkt_vlan(&k, 1, IPV6);
	for (size_t len = 0; len < k.len; len++)
		assert_int_equal(parse(k.p, len, 0x8100), len >= 4 + 40 + 32 + 11 + 8);
}

static void test_broken_headers(void **state)
{
	(void)state;
	for (unsigned b = 0; b < 256; b++) { /* version and length of the header */
		client4(0, 0, 0);
		k.p[0] = (uint8_t)b;
		assert_int_equal(packet(IPV4), b == 0x45);
		client6(plain);
		k.p[0] = (uint8_t)b;
		assert_int_equal(packet(IPV6), b >> 4 == 6);
	}
	for (unsigned words = 0; words < 16; words++) {
		client4(0, 0, 0);
		k.p[32] = (uint8_t)(words << 4);
		assert_int_equal(packet(IPV4), words == 5);
	}
	client4(0, 0, 0);
	pkt_be16(k.p + 2, 19); /* shorter than its header */
	assert_false(packet(IPV4));
	for (size_t at = 20; at <= 22; at += 2) { /* no port */
		client4(0, 0, 0);
		pkt_be16(k.p + at, 0);
		assert_false(packet(IPV4));
	}
}

int main(void)
{
#define TEST(t) cmocka_unit_test_setup(t, set_up)
	const struct CMUnitTest tests[] = {
		TEST(test_client_hello),
		TEST(test_server_hello_and_retry),
		TEST(test_what_is_no_hello),
		TEST(test_cut_anywhere),
		TEST(test_large_hellos),
		TEST(test_names),
		TEST(test_lying_lengths),
		TEST(test_hello_in_many_records),
		TEST(test_proxy_header),
		TEST(test_ipv4),
		TEST(test_sides),
		TEST(test_tcp_fast_open),
		TEST(test_padding_is_no_payload),
		TEST(test_ipv6_and_its_extensions),
		TEST(test_mapped_addresses_are_ipv4),
		TEST(test_vlan_tags),
		TEST(test_packets_cut_anywhere),
		TEST(test_broken_headers),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
