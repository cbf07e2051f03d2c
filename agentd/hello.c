/* SPDX-License-Identifier: Apache-2.0 */
/* hello.c - ClientHello and ServerHello out of a packet or out of cleartext (see hello.h). */
#include "hello.h"

#include <string.h>

#include "common/cur.h"

#define VLAN_MAX 4	 /* tags in a row */
#define EXTENSIONS_MAX 8 /* IPv6 extension headers in a row */
#define PROXY1_MAX 107	 /* bytes of a PROXY header of version 1, with its CRLF */
#define RECORD_MAX (16384 + 256)

enum { ETH_IPV4 = 0x0800, ETH_IPV6 = 0x86dd, ETH_VLAN = 0x8100, ETH_QINQ = 0x88a8, ETH_QINQ_OLD = 0x9100 };
enum { IP_HOPOPTS = 0, IP_TCP = 6, IP_ROUTING = 43, IP_FRAGMENT = 44, IP_AH = 51, IP_DSTOPTS = 60 };
enum { TLS_HANDSHAKE = 22, TLS_CLIENT_HELLO = 1, TLS_SERVER_HELLO = 2, TLS_EXT_SERVER_NAME = 0 };

/* RFC 8446 4.1.3: SHA-256 of "HelloRetryRequest" */
static const uint8_t retry_random[32] = {
	0xcf, 0x21, 0xad, 0x74, 0xe5, 0x9a, 0x61, 0x11, 0xbe, 0x1d, 0x8c, 0x02, 0x1e, 0x65, 0xb8, 0x91,
	0xc2, 0xa2, 0x11, 0x16, 0x7a, 0xbb, 0x8c, 0x5e, 0x07, 0x9e, 0x09, 0xe2, 0xc8, 0xa8, 0x33, 0x9c,
};

/* Leave only the first @n bytes, if there are more (Ethernet pads short packets). */
static void limit(struct cur *c, size_t n)
{
	if (n < c->left)
		c->left = n;
}

/* --- TLS --- */

/* Returns false if a PROXY header begins, but does not end here. */
static bool skip_proxy(struct cur *c)
{
	static const uint8_t magic2[12] = {'\r', '\n', '\r', '\n', 0, '\r', '\n', 'Q', 'U', 'I', 'T', '\n'};
	uint16_t len;

	if (c->left > sizeof(magic2) && memcmp(c->p, magic2, sizeof(magic2)) == 0)
		return cur_skip(c, sizeof(magic2) + 2) && cur_be16(c, &len) && cur_skip(c, len);
	if (c->left > 6 && memcmp(c->p, "PROXY ", 6) == 0) {
		size_t max = c->left < PROXY1_MAX ? c->left : PROXY1_MAX;
		const uint8_t *lf = memchr(c->p, '\n', max);

		return lf != NULL && lf[-1] == '\r' && cur_skip(c, (size_t)(lf - c->p) + 1);
	}
	return true;
}

/* Enter the next record of the handshake: *@ret is what is here of it, not nothing. */
static bool next_record(struct cur *c, struct cur *ret)
{
	uint16_t version, len;
	uint8_t type;

	if (!cur_u8(c, &type) || type != TLS_HANDSHAKE || !cur_be16(c, &version) || version >> 8 != 3 ||
	    !cur_be16(c, &len) || len == 0 || len > RECORD_MAX || c->left == 0)
		return false;
	*ret = *c;
	limit(ret, len);
	return cur_skip(c, ret->left);
}

/* The first handshake message. It is in one record but for senders that cut it small to hide the name in it: then its
 * pieces are put together in @buf. */
static bool handshake(struct cur c, uint8_t buf[static HELLO_BYTES_MAX], uint8_t *ret_type, struct cur *ret)
{
	struct wcur w = wcur_over(buf, HELLO_BYTES_MAX, true);
	struct cur rec, m;
	uint32_t head;
	size_t len;

	if (!next_record(&c, &rec))
		return false;
	m = rec;
	if (!cur_be32(&m, &head) || (m.left < (head & 0xffffff) && c.left > 0)) {
		do {
			limit(&rec, w.left);
			if (!wcur_bytes(&w, rec.p, rec.left))
				return false;
		} while (w.left > 0 && next_record(&c, &rec));
		m = cur_over(buf, HELLO_BYTES_MAX - w.left, true);
		if (!cur_be32(&m, &head))
			return false;
	}
	*ret_type = (uint8_t)(head >> 24);
	len = head & 0xffffff;
	if (len < 2 + 32) /* no hello is that short */
		return false;
	limit(&m, len);
	*ret = m;
	return true;
}

static void set_name(const uint8_t *p, size_t len, struct hello *ret)
{
	if (len > HELLO_NAME_MAX)
		return;
	for (size_t i = 0; i < len; i++)
		ret->sni[i] = p[i] > ' ' && p[i] < 0x7f ? (char)p[i] : '?';
	ret->sni[len] = '\0';
	ret->sni_len = (uint8_t)len;
}

/* RFC 6066 3: a list with one host name. */
static void server_name(struct cur c, struct hello *ret)
{
	const uint8_t *name;
	uint16_t len;
	uint8_t type;

	if (cur_be16(&c, &len) && cur_u8(&c, &type) && type == 0 && cur_be16(&c, &len) && cur_bytes(&c, len, &name))
		set_name(name, len, ret);
}

/* Look for the server's name behind the random: session id, cipher suites, compressions, extensions. */
static void extensions(struct cur c, struct hello *ret)
{
	uint16_t len, type;
	const uint8_t *ext;
	uint8_t len8;

	if (!cur_u8(&c, &len8) || !cur_skip(&c, len8) || !cur_be16(&c, &len) || !cur_skip(&c, len) ||
	    !cur_u8(&c, &len8) || !cur_skip(&c, len8) || !cur_be16(&c, &len))
		return;
	limit(&c, len);
	while (cur_be16(&c, &type) && cur_be16(&c, &len) && cur_bytes(&c, len, &ext)) {
		if (type == TLS_EXT_SERVER_NAME) {
			server_name(cur_over(ext, len, true), ret);
			return;
		}
	}
}

bool hello_parse_tls(const uint8_t *p, size_t len, struct hello *ret)
{
	struct cur c = cur_over(p, len, true);
	uint8_t buf[HELLO_BYTES_MAX], type;
	uint16_t version;
	size_t n;

	if (!skip_proxy(&c) || !handshake(c, buf, &type, &c) ||
	    (type != TLS_CLIENT_HELLO && type != TLS_SERVER_HELLO) || !cur_be16(&c, &version) || version >> 8 != 3)
		return false;
	n = c.left < sizeof(ret->random) ? c.left : sizeof(ret->random);
	memset(ret->random, 0, sizeof(ret->random));
	if (n < HELLO_RANDOM_MIN || !cur_copy(&c, ret->random, n))
		return false;
	ret->server = type == TLS_SERVER_HELLO;
	ret->sent = false;
	ret->random_len = (uint8_t)n;
	ret->retry = ret->server && memcmp(ret->random, retry_random, n) == 0;
	ret->sni_len = 0;
	ret->sni[0] = '\0';
	if (!ret->server)
		extensions(c, ret);
	return true;
}

/* --- the packet around it --- */

/* The two ends of a packet, sender first. */
struct ends {
	uint8_t addr[2][16];
	uint16_t port[2];
	uint8_t ver;
};

/* IPv4, RFC 791 3.1: @c is left at what it carries, *@ret_proto says what that is. */
static bool enter_ipv4(struct cur *c, struct ends *e, uint8_t *ret_proto)
{
	uint16_t total, frag;
	uint8_t first;
	size_t head;

	if (!cur_u8(c, &first) || first >> 4 != 4 || !cur_skip(c, 1) || !cur_be16(c, &total))
		return false;
	head = (first & 0xfu) * 4;
	if (head < 20 || (total != 0 && total < head))
		return false;
	if (total != 0) /* more than 64 KiB, not yet cut into segments, has no length */
		limit(c, total - 4u);
	e->ver = 4;
	return cur_skip(c, 2) && cur_be16(c, &frag) && (frag & 0x1fff) == 0 && cur_skip(c, 1) && cur_u8(c, ret_proto) &&
	       cur_skip(c, 2) && cur_copy(c, e->addr[0], 4) && cur_copy(c, e->addr[1], 4) && cur_skip(c, head - 20);
}

/* IPv6's extension headers, RFC 8200 4 and RFC 4302 2. */
static bool enter_extensions(struct cur *c, uint8_t *proto)
{
	for (int n = 0; n < EXTENSIONS_MAX; n++) {
		uint8_t type = *proto, len;
		uint16_t frag;

		switch (type) {
		case IP_HOPOPTS:
		case IP_ROUTING:
		case IP_DSTOPTS:
			if (!cur_u8(c, proto) || !cur_u8(c, &len) || !cur_skip(c, len * 8u + 6))
				return false;
			break;
		case IP_AH:
			if (!cur_u8(c, proto) || !cur_u8(c, &len) || !cur_skip(c, len * 4u + 6))
				return false;
			break;
		case IP_FRAGMENT:
			if (!cur_u8(c, proto) || !cur_skip(c, 1) || !cur_be16(c, &frag) || frag >> 3 != 0 ||
			    !cur_skip(c, 4))
				return false;
			break;
		default:
			return true;
		}
	}
	return false;
}

/* Both ends written as IPv4 in IPv6 are IPv4; one alone is nonsense. */
static bool unmap(struct ends *e)
{
	static const uint8_t prefix[12] = {[10] = 0xff, [11] = 0xff};
	bool mapped = memcmp(e->addr[0], prefix, sizeof(prefix)) == 0;

	if (mapped != (memcmp(e->addr[1], prefix, sizeof(prefix)) == 0))
		return false;
	for (int i = 0; mapped && i < 2; i++) {
		memcpy(e->addr[i], e->addr[i] + 12, 4);
		memset(e->addr[i] + 4, 0, 12);
	}
	e->ver = mapped ? 4 : 6;
	return true;
}

static bool enter_ipv6(struct cur *c, struct ends *e, uint8_t *ret_proto)
{
	uint32_t first;
	uint16_t len;

	if (!cur_be32(c, &first) || first >> 28 != 6 || !cur_be16(c, &len) || !cur_u8(c, ret_proto) ||
	    !cur_skip(c, 1) || !cur_copy(c, e->addr[0], 16) || !cur_copy(c, e->addr[1], 16) || !unmap(e))
		return false;
	if (len != 0) /* see enter_ipv4() */
		limit(c, len);
	return enter_extensions(c, ret_proto);
}

/* RFC 9293 3.1 */
static bool enter_tcp(struct cur *c, struct ends *e)
{
	uint8_t off;

	if (!cur_be16(c, &e->port[0]) || !cur_be16(c, &e->port[1]) || e->port[0] == 0 || e->port[1] == 0 ||
	    !cur_skip(c, 8) || !cur_u8(c, &off) || off >> 4 < 5)
		return false;
	return cur_skip(c, 7) && cur_skip(c, (off >> 4) * 4u - 20);
}

static bool enter_ip(struct cur *c, uint16_t proto, struct ends *e)
{
	uint8_t transport;

	for (int n = 0; n < VLAN_MAX && (proto == ETH_VLAN || proto == ETH_QINQ || proto == ETH_QINQ_OLD); n++)
		if (!cur_skip(c, 2) || !cur_be16(c, &proto))
			return false;
	if (proto == ETH_IPV4)
		return enter_ipv4(c, e, &transport) && transport == IP_TCP;
	return proto == ETH_IPV6 && enter_ipv6(c, e, &transport) && transport == IP_TCP;
}

bool hello_parse_packet(const uint8_t *p, size_t len, uint16_t proto, struct hello *ret)
{
	struct cur c = cur_over(p, len, true);
	struct ends e = {.ver = 0};

	if (!enter_ip(&c, proto, &e) || !enter_tcp(&c, &e) || !hello_parse_tls(c.p, c.left, ret))
		return false;
	memset(&ret->t, 0, sizeof(ret->t));
	ret->t.ver = e.ver;
	for (int i = 0; i < 2; i++) {
		int s = i ^ ret->server; /* the sender of a ServerHello is the server */

		memcpy(ret->t.addr[s], e.addr[i], 16);
		ret->t.port[s] = e.port[i];
	}
	return true;
}
