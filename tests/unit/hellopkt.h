/* SPDX-License-Identifier: Apache-2.0 */
/* hellopkt.h - packets with handshake starts in them, built from the inside out: payload first, headers before it. */
#ifndef TLSTAP_TEST_HELLOPKT_H
#define TLSTAP_TEST_HELLOPKT_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#define PKT_HEAD 1024
#define PKT_MAX 16384

struct pkt {
	uint8_t buf[PKT_HEAD + PKT_MAX];
	uint8_t *p; /* first byte */
	size_t len;
};

static inline void pkt_begin(struct pkt *k)
{
	k->p = k->buf + PKT_HEAD;
	k->len = 0;
}

/* Append @n bytes; NULL: zeros. */
static inline void pkt_put(struct pkt *k, const void *p, size_t n)
{
	if (p)
		memcpy(k->p + k->len, p, n);
	else
		memset(k->p + k->len, 0, n);
	k->len += n;
}

/* Append the @n low bytes of @v in network order. */
static inline void pkt_int(struct pkt *k, uint64_t v, unsigned n)
{
	while (n--)
		k->p[k->len++] = (uint8_t)(v >> 8 * n);
}

/* Make room for a header of @n zeroed bytes in front. */
static inline uint8_t *pkt_push(struct pkt *k, size_t n)
{
	k->p -= n;
	k->len += n;
	memset(k->p, 0, n);
	return k->p;
}

static inline void pkt_be16(uint8_t *p, unsigned v)
{
	p[0] = (uint8_t)(v >> 8);
	p[1] = (uint8_t)v;
}

/* Append a ClientHello record. @fill: bytes of an extension before the name (a post-quantum key share, a ticket). */
static inline void pkt_client_hello(struct pkt *k, const uint8_t random[static 32], const char *sni, size_t fill)
{
	size_t name = sni ? strlen(sni) : 0, exts = (fill ? fill + 4 : 0) + (sni ? name + 9 : 0);
	size_t body = 2 + 32 + 1 + 32 + 2 + 4 + 2 + 2 + exts;

	pkt_put(k, "\x16\x03\x01", 3);
	pkt_int(k, body + 4, 2);
	pkt_int(k, 1, 1);
	pkt_int(k, body, 3);
	pkt_put(k, "\x03\x03", 2);
	pkt_put(k, random, 32);
	pkt_int(k, 32, 1);
	pkt_put(k, NULL, 32);
	pkt_put(k, "\0\x04\x13\x01\x13\x02\x01", 8); /* two suites, one compression: null */
	pkt_int(k, exts, 2);
	if (fill) {
		pkt_int(k, 51, 2);
		pkt_int(k, fill, 2);
		pkt_put(k, NULL, fill);
	}
	if (sni) {
		pkt_int(k, 0, 2);
		pkt_int(k, name + 5, 2);
		pkt_int(k, name + 3, 2);
		pkt_int(k, 0, 1);
		pkt_int(k, name, 2);
		pkt_put(k, sni, name);
	}
}

static inline void pkt_server_hello(struct pkt *k, const uint8_t random[static 32])
{
	pkt_put(k, "\x16\x03\x03", 3);
	pkt_int(k, 76, 2);
	pkt_int(k, 2, 1);
	pkt_int(k, 72, 3);
	pkt_put(k, "\x03\x03", 2);
	pkt_put(k, random, 32);
	pkt_int(k, 32, 1);
	pkt_put(k, NULL, 32);
	pkt_put(k, "\x13\x01\0\0\0", 5);
}

/* Headers in front. @opts: bytes of options, a multiple of 4. */
static inline void pkt_tcp(struct pkt *k, uint16_t from, uint16_t to, unsigned opts, uint8_t flags)
{
	uint8_t *h = pkt_push(k, 20 + opts);

	pkt_be16(h, from);
	pkt_be16(h + 2, to);
	h[12] = (uint8_t)((20 + opts) / 4 << 4);
	h[13] = flags;
	memset(h + 20, 1, opts); /* no-operation */
}

static inline void pkt_ip4(struct pkt *k, const uint8_t from[4], const uint8_t to[4], unsigned opts, unsigned frag)
{
	uint8_t *h = pkt_push(k, 20 + opts);

	h[0] = (uint8_t)(0x40 | (20 + opts) / 4);
	pkt_be16(h + 2, (unsigned)k->len);
	pkt_be16(h + 6, frag);
	h[8] = 64;
	h[9] = 6;
	memcpy(h + 12, from, 4);
	memcpy(h + 16, to, 4);
	memset(h + 20, 1, opts);
}

/* @chain: types of extension headers, ending with 6 */
static inline void pkt_ip6(struct pkt *k, const uint8_t from[16], const uint8_t to[16], const uint8_t *chain)
{
	size_t n = 0, len;
	uint8_t *h;

	while (chain[n] != 6)
		n++;
	while (n--) {
		h = pkt_push(k, chain[n] == 51 ? 24 : 8);
		h[0] = chain[n + 1];
		h[1] = chain[n] == 51 ? 4 : 0;
	}
	len = k->len;
	h = pkt_push(k, 40);
	h[0] = 0x60;
	pkt_be16(h + 4, (unsigned)len);
	h[6] = chain[0];
	h[7] = 64;
	memcpy(h + 8, from, 16);
	memcpy(h + 24, to, 16);
}

/* What follows this tag has EtherType @proto. */
static inline void pkt_vlan(struct pkt *k, uint16_t id, uint16_t proto)
{
	uint8_t *h = pkt_push(k, 4);

	pkt_be16(h, id);
	pkt_be16(h + 2, proto);
}

static inline void pkt_ether(struct pkt *k, const uint8_t to[6], const uint8_t from[6], uint16_t proto)
{
	uint8_t *h = pkt_push(k, 14);

	memcpy(h, to, 6);
	memcpy(h + 6, from, 6);
	pkt_be16(h + 12, proto);
}

#endif
