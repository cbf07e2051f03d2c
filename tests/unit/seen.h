/* SPDX-License-Identifier: Apache-2.0 */
/* seen.h - what a strict observer makes of a batch: checks every rule that holds for all forged
 * flows, and puts the streams of each incarnation together. For test programs; whatever is wrong
 * ends the program. One flow per struct seen. */
#ifndef TLSTAP_SEEN_H
#define TLSTAP_SEEN_H

#include <arpa/inet.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/batch.h"
#include "common/block.h"
#include "common/flow.h"
#include "common/forge.h"

#define SEEN_CHECK(cond)                                                                     \
	do {                                                                                 \
		if (!(cond)) {                                                               \
			fprintf(stderr, "%s:%d: not true: %s\n", __FILE__, __LINE__, #cond); \
			abort();                                                             \
		}                                                                            \
	} while (0)

struct seen_frame {
	enum side side;
	uint8_t flags;
	uint16_t window;
	uint32_t seq, ack; /* relative to the ISNs */
	uint32_t len;
	uint32_t inc;
	uint64_t ts_ns;
};

struct seen_stream {
	uint32_t isn, next, acked;
	bool syn, fin;
	uint16_t last_window;
	uint8_t *data;
	size_t len;
	uint32_t unacked_max;
};

struct seen_inc {
	struct seen_stream s[2];
};

struct seen {
	const struct flow *flow; /* for its tuple and id */
	const struct flow_conf *conf;
	FILE *pcap; /* a copy of all frames, or NULL */
	struct seen_inc *inc;
	size_t n_inc;
	bool announced; /* a FLOW block was seen and no SYN yet */
	uint64_t last_ns;
	struct seen_frame *frame;
	size_t n_frames;
	uint64_t payload;
};

static inline void *seen_grow(void *p, size_t n, size_t size)
{
	if (n & (n - 1)) /* room for the next power of two is there */
		return p;
	p = realloc(p, (n ? 2 * n : 1) * size);
	SEEN_CHECK(p);
	return p;
}

static inline uint16_t seen_u16(const uint8_t *p)
{
	return (uint16_t)(p[0] << 8 | p[1]);
}

static inline uint32_t seen_u32(const uint8_t *p)
{
	return (uint32_t)seen_u16(p) << 16 | seen_u16(p + 2);
}

static inline uint32_t seen_host32(const uint8_t *p)
{
	uint32_t v;

	memcpy(&v, p, 4);
	return v;
}

/* The checksum as RFC 1071 defines it, word for word. */
static inline uint32_t seen_sum(const uint8_t *p, size_t len, uint32_t sum)
{
	for (size_t i = 0; i + 1 < len; i += 2)
		sum += seen_u16(p + i);
	if (len & 1)
		sum += (uint32_t)p[len - 1] << 8;
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return sum;
}

static inline void seen_flow_block(struct seen *o, const uint8_t *p, uint32_t total)
{
	uint8_t addr[32];
	uint64_t id;

	SEEN_CHECK(total == 88 && p[8] == BLOCK_FLOW && p[10] == BLOCK_VERSION && !o->announced);
	memcpy(&id, p + 16, 8);
	SEEN_CHECK(id == o->flow->id && seen_host32(p + 28) == o->flow->stream);
	SEEN_CHECK(p[12] == BLOCK_FLOW_ID && p[14] == 8 && p[24] == BLOCK_FLOW_STREAM &&
		   p[32] == BLOCK_FLOW_INCARNATION);
	SEEN_CHECK(p[40] == BLOCK_FLOW_TUPLE && p[42] == BLOCK_TUPLE_LEN && p[44] == o->flow->t.ver);
	memcpy(addr, o->flow->t.addr, 32);
	SEEN_CHECK(!memcmp(p + 52, addr, 32) && !memcmp(p + 48, o->flow->t.port, 4));
	o->announced = true;
}

/* A SYN or SYN-ACK. */
static inline void seen_syn(struct seen *o, const uint8_t *tcp, enum side side)
{
	struct seen_stream *s;

	if (side == SIDE_CLIENT) {
		SEEN_CHECK(o->announced);
		o->announced = false;
		if (o->n_inc) /* the one before must be closed */
			SEEN_CHECK(o->inc[o->n_inc - 1].s[0].fin && o->inc[o->n_inc - 1].s[1].fin);
		o->inc = seen_grow(o->inc, o->n_inc, sizeof *o->inc);
		o->inc[o->n_inc++] = (struct seen_inc){0};
		SEEN_CHECK(tcp[13] == FORGE_SYN && !seen_u32(tcp + 8));
	} else {
		SEEN_CHECK(tcp[13] == (FORGE_SYN | FORGE_ACK));
	}
	s = &o->inc[o->n_inc - 1].s[side];
	SEEN_CHECK(!s->syn && tcp[12] == 0x70 && seen_u16(tcp + 14) == 65535);
	SEEN_CHECK(tcp[20] == 2 && tcp[21] == 4 && seen_u16(tcp + 22) == forge_mss(o->flow->t.ver, o->conf->mtu));
	SEEN_CHECK(tcp[24] == 1 && tcp[25] == 3 && tcp[26] == 3 && tcp[27] == 14);
	s->syn = true;
	s->isn = s->next = seen_u32(tcp + 4);
}

static inline void seen_tcp(struct seen *o, const uint8_t *tcp, size_t tcp_len, enum side side, uint64_t ts_ns)
{
	unsigned flags = tcp[13];
	size_t head = (size_t)(tcp[12] >> 4) * 4, len = tcp_len - head;
	uint32_t seq = seen_u32(tcp + 4), ack = seen_u32(tcp + 8);
	uint16_t window = seen_u16(tcp + 14);
	struct seen_stream *me, *peer;

	SEEN_CHECK(head <= tcp_len && tcp[18] == 0 && tcp[19] == 0);
	if (flags & FORGE_SYN)
		seen_syn(o, tcp, side);
	SEEN_CHECK(o->n_inc);
	me = &o->inc[o->n_inc - 1].s[side];
	peer = &o->inc[o->n_inc - 1].s[!side];
	SEEN_CHECK(!(flags & ~(FORGE_FIN | FORGE_SYN | FORGE_PSH | FORGE_ACK)));
	SEEN_CHECK(flags & FORGE_SYN || (head == 20 && flags & FORGE_ACK && window >= 30000));
	SEEN_CHECK(me->syn && seq == me->next && (!me->fin || (!len && !(flags & FORGE_FIN))));
	if (flags & FORGE_ACK) {
		SEEN_CHECK(peer->syn && (int32_t)(ack - peer->next) <= 0 && (int32_t)(ack - peer->acked) >= 0);
		peer->acked = ack;
	} else {
		me->acked = seq;
	}
	if (flags & FORGE_SYN)
		me->acked = seq;
	if (!len && !(flags & (FORGE_SYN | FORGE_FIN)))
		SEEN_CHECK(window != me->last_window);
	me->last_window = window;
	if (len) {
		SEEN_CHECK(!(flags & (FORGE_SYN | FORGE_FIN)));
		me->data = realloc(me->data, me->len + len);
		SEEN_CHECK(me->data);
		memcpy(me->data + me->len, tcp + head, len);
		me->len += len;
		o->payload += len;
	}
	me->next += (uint32_t)len + !!(flags & (FORGE_SYN | FORGE_FIN));
	me->fin |= !!(flags & FORGE_FIN);
	if (me->next - me->acked > me->unacked_max)
		me->unacked_max = me->next - me->acked;
	o->frame = seen_grow(o->frame, o->n_frames, sizeof *o->frame);
	o->frame[o->n_frames++] = (struct seen_frame){
		.side = side,
		.flags = (uint8_t)flags,
		.window = window,
		.seq = seq - me->isn,
		.ack = flags & FORGE_ACK ? ack - peer->isn : 0,
		.len = (uint32_t)len,
		.inc = (uint32_t)o->n_inc - 1,
		.ts_ns = ts_ns,
	};
}

static inline void seen_frame(struct seen *o, const uint8_t *p, size_t len, uint64_t ts_ns)
{
	const struct tuple *t = &o->flow->t;
	const uint8_t *ip = p + 14;
	size_t alen = t->ver == 6 ? 16 : 4, ip_head = t->ver == 6 ? 40 : 20, tcp_len;
	const uint8_t *src = ip + (t->ver == 6 ? 8 : 12), *tcp = ip + ip_head;
	enum side side;

	SEEN_CHECK(len >= 14 + ip_head + 20 && len <= o->conf->mtu + 14);
	SEEN_CHECK(!memcmp(p, o->conf->dmac, 6) && !memcmp(p + 6, o->conf->smac, 6));
	SEEN_CHECK(seen_u16(p + 12) == (t->ver == 6 ? 0x86dd : 0x0800));
	if (t->ver == 6) {
		SEEN_CHECK(ip[0] == 0x60 && ip[6] == 6 && ip[7] == 64);
		tcp_len = seen_u16(ip + 4);
	} else {
		SEEN_CHECK(ip[0] == 0x45 && ip[6] == 0x40 && !ip[7] && ip[8] == 64 && ip[9] == 6);
		SEEN_CHECK(seen_sum(ip, 20, 0) == 0xffff);
		tcp_len = seen_u16(ip + 2) - 20u;
	}
	SEEN_CHECK(14 + ip_head + tcp_len == len);
	SEEN_CHECK(seen_sum(tcp, tcp_len, seen_sum(src, 2 * alen, 6 + (uint32_t)tcp_len)) == 0xffff);
	side = seen_u16(tcp) == t->port[SIDE_CLIENT] ? SIDE_CLIENT : SIDE_SERVER;
	SEEN_CHECK(seen_u16(tcp) == t->port[side] && seen_u16(tcp + 2) == t->port[!side]);
	SEEN_CHECK(!memcmp(src, t->addr[side], alen) && !memcmp(src + alen, t->addr[!side], alen));
	SEEN_CHECK(ts_ns >= o->last_ns);
	o->last_ns = ts_ns;
	seen_tcp(o, tcp, tcp_len, side, ts_ns);
	if (o->pcap) {
		uint32_t rec[4] = {(uint32_t)(ts_ns / 1000000000), (uint32_t)(ts_ns % 1000000000), (uint32_t)len,
				   (uint32_t)len};

		SEEN_CHECK(fwrite(rec, 16, 1, o->pcap) == 1 && fwrite(p, len, 1, o->pcap) == 1);
	}
}

/* Look at all of @b, which is one piece of a pcapng stream, and reset it. */
static inline void seen_batch(struct seen *o, struct batch *b)
{
	uint64_t payload = o->payload;
	size_t pos = 0;
	unsigned n = 0;

	while (pos < b->len) {
		const uint8_t *p = b->buf + pos;
		uint32_t type, total, len;

		SEEN_CHECK(b->len - pos >= 12);
		type = seen_host32(p);
		total = seen_host32(p + 4);
		SEEN_CHECK(total >= 12 && total % 4 == 0 && total <= b->len - pos &&
			   seen_host32(p + total - 4) == total);
		pos += total;
		if (type == BLOCK_TYPE) {
			seen_flow_block(o, p, total);
			SEEN_CHECK(seen_host32(p + 36) >= o->n_inc);
			continue;
		}
		SEEN_CHECK(type == 6 && total >= 32 && !seen_host32(p + 8));
		len = seen_host32(p + 20);
		SEEN_CHECK(len == seen_host32(p + 24) && ((len + 3) & ~3u) + 32 == total);
		SEEN_CHECK(n < b->n && b->frame[n].off == (size_t)(p + 28 - b->buf) && b->frame[n].len == len);
		n++;
		seen_frame(o, p + 28, len, (uint64_t)seen_host32(p + 12) << 32 | seen_host32(p + 16));
	}
	SEEN_CHECK(n == b->n && o->payload - payload == b->payload);
	batch_reset(b);
}

static inline void seen_init(struct seen *o, const struct flow *f, const struct flow_conf *c)
{
	*o = (struct seen){.flow = f, .conf = c};
}

/* Also write all frames to @name.pcap in the directory $TLSTAP_SCRATCH, if it is set. */
static inline void seen_pcap(struct seen *o, const char *name)
{
	const uint32_t head[6] = {0xa1b23c4d, 4u << 16 | 2, 0, 0, 262144, 1};
	const char *dir = getenv("TLSTAP_SCRATCH");
	char path[512];

	if (!dir)
		return;
	(void)snprintf(path, sizeof path, "%s/%s.pcap", dir, name);
	o->pcap = fopen(path, "wb");
	SEEN_CHECK(o->pcap && fwrite(head, sizeof head, 1, o->pcap) == 1);
}

static inline void seen_fini(struct seen *o)
{
	for (size_t i = 0; i < o->n_inc; i++) {
		free(o->inc[i].s[0].data);
		free(o->inc[i].s[1].data);
	}
	free(o->inc);
	free(o->frame);
	if (o->pcap)
		SEEN_CHECK(!fclose(o->pcap));
	memset(o, 0, sizeof *o);
}

/* A usual tuple and configuration. */
static inline struct tuple seen_tuple(int ver)
{
	struct tuple t = {.ver = (uint8_t)ver, .port = {40000, 447}};

	SEEN_CHECK(inet_pton(ver == 6 ? AF_INET6 : AF_INET, ver == 6 ? "2001:db8::1" : "10.1.1.1", t.addr[0]) == 1);
	SEEN_CHECK(inet_pton(ver == 6 ? AF_INET6 : AF_INET, ver == 6 ? "2001:db8::2" : "10.2.2.2", t.addr[1]) == 1);
	return t;
}

static inline struct flow_conf seen_conf(void)
{
	return (struct flow_conf){
		.isn_key = "0123456789abcde",
		.mtu = 1500,
		.rotate = 800000,
		.keepalive_ns = 100000000000,
		.echo_ns = 5000000,
		.smac = FLOW_SRC_MAC,
		.dmac = FLOW_DST_MAC,
	};
}

#endif
