/* SPDX-License-Identifier: Apache-2.0 */
/* wire.h - frames as a kernel leaves them for a card with offloads, and a receiver that puts pieces together again.
 *
 * Written apart from common/segment.c and slowly on purpose: one byte at a time, from RFC 791, 768, 8200, 9293. */
#ifndef TLSTAP_TEST_WIRE_H
#define TLSTAP_TEST_WIRE_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#define WIRE_MAX 300000
#define WIRE_HEAD 400

enum { EXT_HOP = 1, EXT_ROUTE = 2, EXT_DEST = 4 };
enum { W_FIN = 1, W_SYN = 2, W_RST = 4, W_PSH = 8, W_ACK = 16, W_URG = 32, W_CWR = 128 };

struct wire_spec {
	uint8_t ver, proto; /* 4, 6; 6, 17, or any other */
	unsigned tags;	    /* 0..2 */
	unsigned ip_opts;   /* IPv4: bytes of options, 0, 12 or 40 */
	unsigned ext;	    /* IPv6: EXT_ */
	unsigned tcp_opts;  /* bytes, multiple of 4, 40 at most */
	uint8_t flags;
	uint16_t urgent, id;
	uint32_t seq;
	size_t data;  /* bytes behind the upper header */
	size_t pad;   /* bytes behind the packet */
	bool partial; /* the checksum is left to the card */
	bool none;    /* UDP without checksum */
	bool df;
	bool fragment; /* is one, at frag_off (a multiple of 8), with more to come or not */
	bool more;
	uint16_t frag_off;
};

struct wire {
	uint8_t b[WIRE_MAX];
	size_t len, l3, l4, data, end;
	size_t part;		  /* IPv6: begin of what is fragmented */
	uint8_t src[16], dst[16]; /* as checksums cover them */
	size_t alen;
};

static inline void wire_16(uint8_t *p, uint32_t v)
{
	p[0] = (uint8_t)(v >> 8);
	p[1] = (uint8_t)v;
}

static inline void wire_32(uint8_t *p, uint32_t v)
{
	wire_16(p, v >> 16);
	wire_16(p + 2, v);
}

static inline uint32_t wire_get16(const uint8_t *p)
{
	return (uint32_t)p[0] * 256 + p[1];
}

static inline uint32_t wire_get32(const uint8_t *p)
{
	return wire_get16(p) << 16 | wire_get16(p + 2);
}

static inline uint32_t wire_sum(uint32_t sum, const uint8_t *p, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		sum += i % 2 ? p[i] : (uint32_t)p[i] << 8;
		if (sum > 0xffff)
			sum = (sum & 0xffff) + 1;
	}
	return sum;
}

static inline uint32_t wire_pseudo(const struct wire *w, uint8_t proto, size_t len)
{
	uint8_t rest[4] = {0, proto, (uint8_t)(len >> 8), (uint8_t)len};
	uint32_t sum = wire_sum(0, w->src, w->alen);

	return wire_sum(wire_sum(sum, w->dst, w->alen), rest, 4);
}

static inline size_t wire_ext(struct wire *w, size_t at, size_t *nh, uint8_t kind, const uint8_t *p, size_t len)
{
	w->b[*nh] = kind;
	memcpy(w->b + at, p, len);
	w->b[at + 1] = (uint8_t)(len / 8 - 1);
	*nh = at;
	return at + len;
}

/* IPv6 header and extensions; the routing header names the true destination first. */
static inline void wire_ipv6(struct wire *w, const struct wire_spec *s)
{
	static const uint8_t hop[8] = {0, 0, 5, 2, 0, 0, 1, 0}, dest[16] = {0, 0, 1, 12};
	uint8_t *ip = w->b + w->l3, route[40] = {0, 4, 4, 1, 1};
	size_t at = w->l3 + 40, nh = w->l3 + 6;

	ip[0] = 0x60;
	ip[7] = 61;
	for (int i = 0; i < 16; i++) {
		w->src[i] = ip[8 + i] = (uint8_t)(0x20 + i);
		w->dst[i] = ip[24 + i] = (uint8_t)(0x90 + 3 * i);
	}
	w->alen = 16;
	if (s->ext & EXT_HOP)
		at = wire_ext(w, at, &nh, 0, hop, sizeof(hop));
	if (s->ext & EXT_ROUTE) {
		for (int i = 0; i < 16; i++)
			w->dst[i] = route[8 + i] = (uint8_t)(0xe0 - 5 * i);
		memcpy(route + 24, ip + 24, 16);
		at = wire_ext(w, at, &nh, 43, route, sizeof(route));
	}
	w->part = at;
	if (s->fragment) {
		w->b[nh] = 44;
		nh = at;
		memset(w->b + at, 0, 8);
		wire_16(w->b + at + 2, s->frag_off | s->more);
		wire_32(w->b + at + 4, 0xabcd0000u | s->id);
		at += 8;
	}
	if (s->ext & EXT_DEST && !s->fragment)
		at = wire_ext(w, at, &nh, 60, dest, sizeof(dest));
	w->b[nh] = s->proto;
	w->l4 = at;
}

static inline void wire_ipv4(struct wire *w, const struct wire_spec *s)
{
	uint8_t *ip = w->b + w->l3;

	ip[0] = (uint8_t)(0x45 + s->ip_opts / 4);
	ip[1] = 0x02;
	wire_16(ip + 4, s->id);
	wire_16(ip + 6,
		(s->df ? 0x4000u : 0) | (s->fragment && s->more ? 0x2000u : 0) | (s->fragment ? s->frag_off / 8u : 0));
	ip[8] = 61;
	ip[9] = s->proto;
	memcpy(ip + 12, "\xc0\x00\x02\x01\xc6\x33\x64\x09", 8);
	memcpy(w->src, ip + 12, 4);
	memcpy(w->dst, ip + 16, 4);
	w->alen = 4;
	if (s->ip_opts) { /* router alert (for all fragments), record route (for the first), end */
		memset(ip + 20, 0, s->ip_opts);
		memcpy(ip + 20, "\x94\x04\x00\x00\x07\x07\x04\x00\x00\x00\x00\x00", 12);
	}
	w->l4 = w->l3 + 20 + s->ip_opts;
}

static inline void wire_upper(struct wire *w, const struct wire_spec *s)
{
	uint8_t *u = w->b + w->l4;
	size_t len = w->end - w->l4, at = s->proto == 6 ? 16 : 6;
	uint32_t sum = wire_pseudo(w, s->proto, len);

	if (s->fragment || (s->proto != 6 && s->proto != 17))
		return;
	wire_16(u, 4433);
	wire_16(u + 2, 50123);
	if (s->proto == 6) {
		wire_32(u + 4, s->seq);
		wire_32(u + 8, 0x01020304);
		u[12] = (uint8_t)((20 + s->tcp_opts) / 4 << 4);
		u[13] = s->flags;
		wire_16(u + 14, 501);
		wire_16(u + 18, s->urgent);
		memset(u + 20, 1, s->tcp_opts);
		if (s->tcp_opts >= 12)
			memcpy(u + 22, "\x08\x0a\x11\x22\x33\x44\x55\x66\x77\x88", 10);
	} else {
		wire_16(u + 4, (uint32_t)len);
	}
	wire_16(u + at, 0);
	if (s->partial) {
		wire_16(u + at, sum);
	} else if (!s->none) {
		sum = 0xffff - wire_sum(sum, u, len);
		wire_16(u + at, sum == 0 && s->proto == 17 ? 0xffff : sum);
	}
}

/* Build the frame of @s; its data depend on @salt. IP lengths beyond 16 bits become 0, as in "BIG TCP". */
static inline void wire_build(struct wire *w, const struct wire_spec *s, unsigned salt)
{
	size_t upper = s->fragment ? 0 : s->proto == 6 ? 20 + s->tcp_opts : s->proto == 17 ? 8 : 0, total;

	memset(w->b, 0, WIRE_HEAD);
	memcpy(w->b, "\x02\x00\x00\x00\x00\x01\x02\x00\x00\x00\x00\x02", 12);
	w->l3 = 14 + 4 * s->tags;
	for (unsigned i = 0; i < s->tags; i++) {
		wire_16(w->b + 12 + 4 * i, s->tags == 2 && i == 0 ? 0x88a8 : 0x8100);
		wire_16(w->b + 14 + 4 * i, 0x2000 + 77 * i + 5);
	}
	wire_16(w->b + w->l3 - 2, s->ver == 4 ? 0x0800 : 0x86dd);
	if (s->ver == 4)
		wire_ipv4(w, s);
	else
		wire_ipv6(w, s);
	w->data = w->l4 + upper;
	w->end = w->data + s->data;
	w->len = w->end + s->pad;
	for (size_t i = 0; i < s->data; i++)
		w->b[w->data + i] = (uint8_t)((i * 7 + i / 251 + salt) ^ (i >> 11));
	memset(w->b + w->end, 0xee, s->pad);
	total = w->end - w->l3 - (s->ver == 4 ? 0 : 40);
	wire_16(w->b + w->l3 + (s->ver == 4 ? 2 : 4), total > 65535 ? 0 : (uint32_t)total);
	if (s->ver == 4)
		wire_16(w->b + w->l3 + 10, 0xffff - wire_sum(0, w->b + w->l3, w->l4 - w->l3));
	if (total <= 65535)
		wire_upper(w, s);
	else {
		struct wire_spec small = *s;

		small.partial = true; /* what is there is of no meaning */
		wire_upper(w, &small);
	}
}

#endif
