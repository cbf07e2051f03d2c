/* SPDX-License-Identifier: Apache-2.0 */
/* flowseg.c - sequence numbers, ACKs, handshake and close of one incarnation of a flow. */
#include "flowseg.h"

#include <assert.h>
#include <string.h>

#include "forge.h"

#define WINDOW_SYN 65535
#define WINDOW_MIN 30000 /* scaled by 2^14: 490 MB */
#define WINDOW_MAX 60000

static uint64_t rotl(uint64_t v, int n)
{
	return v << n | v >> (64 - n);
}

static void sip_rounds(uint64_t v[static 4], int n)
{
	while (n--) {
		v[0] += v[1];
		v[2] += v[3];
		v[1] = rotl(v[1], 13) ^ v[0];
		v[3] = rotl(v[3], 16) ^ v[2];
		v[0] = rotl(v[0], 32);
		v[2] += v[1];
		v[0] += v[3];
		v[1] = rotl(v[1], 17) ^ v[2];
		v[3] = rotl(v[3], 21) ^ v[0];
		v[2] = rotl(v[2], 32);
	}
}

/* SipHash-2-4 of whole words (J.-P. Aumasson, D. J. Bernstein, 2012). */
static uint64_t sip_hash(const uint8_t key[static 16], const uint64_t *word, size_t n)
{
	uint64_t k[2], v[4], last = (uint64_t)n * 8 << 56;

	memcpy(k, key, 16);
	v[0] = k[0] ^ 0x736f6d6570736575;
	v[1] = k[1] ^ 0x646f72616e646f6d;
	v[2] = k[0] ^ 0x6c7967656e657261;
	v[3] = k[1] ^ 0x7465646279746573;
	for (size_t i = 0; i <= n; i++) {
		uint64_t m = i < n ? word[i] : last;

		v[3] ^= m;
		sip_rounds(v, 2);
		v[0] ^= m;
	}
	v[2] ^= 0xff;
	sip_rounds(v, 4);
	return v[0] ^ v[1] ^ v[2] ^ v[3];
}

static uint32_t isn(const struct flow *f, const struct flow_conf *c, enum side side)
{
	const uint64_t word[3] = {f->id, (uint64_t)f->stream << 32 | f->inc, (uint64_t)side};

	return (uint32_t)sip_hash(c->isn_key, word, 3);
}

void flowseg_edges(struct flow *f)
{
	for (int i = 0; i < 2; i++)
		if (!http1_in_header(&f->http, (enum side)i))
			f->s[i].edge = f->s[i].seq;
}

/* One segment; the numbers follow. */
static void put(const struct flow_out *o, enum side side, unsigned flags, const uint8_t *data, size_t len)
{
	struct flow *f = o->f;
	struct flow_side *me = &f->s[side], *peer = &f->s[!side];
	uint8_t *frame = batch_reserve(o->b, FORGE_HEAD_MAX + len);
	struct forge_seg seg = {
		.t = &f->t,
		.smac = o->c->smac,
		.dmac = o->c->dmac,
		.data = data,
		.len = len,
		.side = side,
		.seq = me->seq,
		.ack = peer->edge,
		.mtu = o->c->mtu,
		.ip_id = ++me->ip_id,
		.flags = (uint8_t)flags,
	};

	assert(frame); /* flow.c has looked */
	if (me->wnd < WINDOW_MIN || (!len && !(flags & (FORGE_SYN | FORGE_FIN))))
		me->wnd = me->wnd < WINDOW_MIN || me->wnd >= WINDOW_MAX ? WINDOW_MIN : (uint16_t)(me->wnd + 1);
	seg.window = flags & FORGE_SYN ? WINDOW_SYN : me->wnd;
	f->last_ns = o->ts_ns > f->last_ns ? o->ts_ns : f->last_ns + 1;
	batch_commit(o->b, forge_frame(&seg, frame), len, f->last_ns);

	me->owes_echo = false;
	if (flags & FORGE_ACK && peer->acked != peer->edge) {
		peer->acked = peer->edge;
		peer->owes_echo = true;
	}
	me->seq += (uint32_t)len;
	if (flags & (FORGE_SYN | FORGE_FIN))
		me->edge = ++me->seq;
	if (!me->owes_echo && !peer->owes_echo)
		f->echo_at_ns = 0;
	f->idle_at_ns = 0;
	f->due_ns = 0;
}

void flowseg_ack(const struct flow_out *o, enum side side)
{
	put(o, side, FORGE_ACK, NULL, 0);
}

void flowseg_open(const struct flow_out *o)
{
	struct flow *f = o->f;
	bool said = batch_flow(o->b, f->id, f->stream, f->inc, &f->t);

	assert(said);
	(void)said;
	f->state = FLOW_OPEN;
	for (int i = 0; i < 2; i++) {
		struct flow_side *s = &f->s[i];

		s->seq = s->edge = s->acked = isn(f, o->c, (enum side)i);
		s->bytes = 0;
		s->wnd = WINDOW_MIN;
		s->owes_echo = false;
	}
	put(o, SIDE_CLIENT, FORGE_SYN, NULL, 0);
	put(o, SIDE_SERVER, FORGE_SYN | FORGE_ACK, NULL, 0);
	flowseg_ack(o, SIDE_CLIENT);
	flowseg_ack(o, SIDE_SERVER);
	f->s[SIDE_CLIENT].owes_echo = f->s[SIDE_SERVER].owes_echo = false;
}

void flowseg_closed(struct flow *f)
{
	f->state = FLOW_CLOSED;
	f->inc++;
	f->s[SIDE_CLIENT].owes_echo = f->s[SIDE_SERVER].owes_echo = false;
	f->s[SIDE_CLIENT].bytes = f->s[SIDE_SERVER].bytes = 0;
	f->due_ns = UINT64_MAX;
}

void flowseg_close(const struct flow_out *o, enum side first)
{
	struct flow *f = o->f;

	f->s[SIDE_CLIENT].edge = f->s[SIDE_CLIENT].seq;
	f->s[SIDE_SERVER].edge = f->s[SIDE_SERVER].seq;
	put(o, first, FORGE_FIN | FORGE_ACK, NULL, 0);
	put(o, !first, FORGE_FIN | FORGE_ACK, NULL, 0);
	flowseg_ack(o, first);
	flowseg_closed(f);
}

void flowseg_data(const struct flow_out *o, enum side side, const uint8_t *data, size_t len, bool hold)
{
	struct flow *f = o->f;
	struct flow_side *s = &f->s[side];
	size_t mss = forge_mss(f->t.ver, o->c->mtu);

	while (len) {
		uint32_t unacked = s->seq - s->acked;
		size_t n = len < mss ? len : mss;

		if (!hold && unacked >= FLOW_ACK_MAX) {
			s->edge = s->seq;
			flowseg_ack(o, !side);
			continue;
		}
		if (!hold && n > FLOW_ACK_MAX - unacked)
			n = FLOW_ACK_MAX - unacked;
		put(o, side, n == len ? FORGE_ACK | FORGE_PSH : FORGE_ACK, data, n);
		s->bytes += n;
		s->forged += n;
		data += n;
		len -= n;
	}
}
