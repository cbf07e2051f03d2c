/* SPDX-License-Identifier: Apache-2.0 */
/* local.c - blocks of our own (see local.h). */
#include "common/local.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>

#define PAD(n) (((n) + 3) & ~(size_t)3)

enum { HELLO_PROTO = 1, HELLO_NONCE, HELLO_VERSION, HELLO_HOST, HELLO_MTU, HELLO_REFUSAL };
enum { STAT_PUT = 1, STAT_UNKNOWN, STAT_RECONNECTS, STAT_CAPTURED, STAT_CAPTURE_DROPS, STAT_HELLO_DROPS };
enum { ACK_BYTES = 1 };

/* A text ends at its first NUL or at its length; what is too long is cut. */
static bool text(struct cur *v, char ret[static LOCAL_TEXT])
{
	size_t n = v->left < LOCAL_TEXT ? v->left : LOCAL_TEXT - 1;

	memset(ret, 0, LOCAL_TEXT);
	if (n > 0)
		memcpy(ret, v->p, n);
	return cur_skip(v, v->left);
}

static bool hello_tlv(struct local_hello *h, uint16_t type, struct cur *v)
{
	switch (type) {
	case HELLO_PROTO:
		return cur_u32(v, &h->proto);
	case HELLO_NONCE:
		return cur_copy(v, h->nonce, LOCAL_NONCE);
	case HELLO_VERSION:
		return text(v, h->version);
	case HELLO_HOST:
		return text(v, h->host);
	case HELLO_MTU:
		return cur_u32(v, &h->mtu);
	case HELLO_REFUSAL:
		return text(v, h->refusal);
	default:
		return cur_skip(v, v->left);
	}
}

static bool flow_tuple(struct tuple *t, struct cur *v)
{
	struct tuple r = {0};
	size_t n;

	if (!cur_u8(v, &r.ver) || !cur_skip(v, 3) || !cur_u16(v, &r.port[SIDE_CLIENT]) ||
	    !cur_u16(v, &r.port[SIDE_SERVER]) || (r.ver != 4 && r.ver != 6))
		return false;
	n = r.ver == 4 ? 4 : 16;
	for (int s = SIDE_CLIENT; s <= SIDE_SERVER; s++)
		if (!cur_copy(v, r.addr[s], n) || !cur_skip(v, 16 - n))
			return false;
	*t = r;
	return true;
}

static bool flow_tlv(struct local_flow *f, uint16_t type, struct cur *v)
{
	switch (type) {
	case BLOCK_FLOW_ID:
		return cur_u64(v, &f->id);
	case BLOCK_FLOW_STREAM:
		return cur_u32(v, &f->stream);
	case BLOCK_FLOW_INCARNATION:
		return cur_u32(v, &f->inc);
	case BLOCK_FLOW_TUPLE:
		return flow_tuple(&f->t, v);
	default:
		return cur_skip(v, v->left);
	}
}

static bool statistics_tlv(struct local_statistics *s, uint16_t type, struct cur *v)
{
	switch (type) {
	case STAT_PUT:
		return cur_u64(v, &s->put);
	case STAT_UNKNOWN:
		return cur_u64(v, &s->unknown);
	case STAT_RECONNECTS:
		return cur_u64(v, &s->reconnects);
	case STAT_CAPTURED:
		return cur_u64(v, &s->captured);
	case STAT_CAPTURE_DROPS:
		return cur_u64(v, &s->capture_drops);
	case STAT_HELLO_DROPS:
		return cur_u64(v, &s->hello_drops);
	default:
		return cur_skip(v, v->left);
	}
}

static bool tlv(struct local_msg *m, uint16_t type, struct cur *v)
{
	switch (m->kind) {
	case BLOCK_HELLO:
		return hello_tlv(&m->hello, type, v);
	case BLOCK_FLOW:
		return flow_tlv(&m->flow, type, v);
	case BLOCK_STATISTICS:
		return statistics_tlv(&m->statistics, type, v);
	case BLOCK_ACK:
		return type == ACK_BYTES ? cur_u64(v, &m->ack) : cur_skip(v, v->left);
	default:
		return cur_skip(v, v->left);
	}
}

/* TLVs that a kind cannot do without: bit n stands for type n. */
static uint32_t needed(uint16_t kind)
{
	switch (kind) {
	case BLOCK_HELLO:
		return 1u << HELLO_PROTO | 1u << HELLO_NONCE;
	case BLOCK_FLOW:
		return 1u << BLOCK_FLOW_ID | 1u << BLOCK_FLOW_TUPLE;
	case BLOCK_ACK:
		return 1u << ACK_BYTES;
	default:
		return 0;
	}
}

int local_parse(struct cur body, struct local_msg *ret)
{
	struct local_msg m = {0};
	uint16_t version, type, len;
	uint32_t seen = 0;

	if (!cur_u16(&body, &m.kind) || !cur_u16(&body, &version))
		return -EBADMSG;
	if (version != BLOCK_VERSION || m.kind < BLOCK_HELLO || m.kind > BLOCK_HEARTBEAT) {
		ret->kind = 0;
		return 0;
	}
	while (body.left > 0) {
		const uint8_t *p;

		if (!cur_u16(&body, &type) || !cur_u16(&body, &len) || !cur_bytes(&body, PAD(len), &p))
			return -EBADMSG;

		struct cur v = cur_over(p, len, body.be);

		if (!tlv(&m, type, &v) || v.left != 0)
			return -EBADMSG;
		if (type < 32)
			seen |= 1u << type;
	}
	if ((seen & needed(m.kind)) != needed(m.kind))
		return -EBADMSG;
	*ret = m;
	return 0;
}

static bool put_tlv(struct wcur *w, uint16_t type, const void *v, size_t len)
{
	return wcur_u16(w, type) && wcur_u16(w, (uint16_t)len) && wcur_bytes(w, v, len) && wcur_zero(w, PAD(len) - len);
}

/* A text that is empty is left out. */
static bool put_text(struct wcur *w, uint16_t type, const char *s)
{
	return s[0] == '\0' || put_tlv(w, type, s, strnlen(s, LOCAL_TEXT - 1));
}

static bool put_hello(struct wcur *w, const struct local_hello *h)
{
	return put_tlv(w, HELLO_PROTO, &h->proto, 4) && put_tlv(w, HELLO_NONCE, h->nonce, LOCAL_NONCE) &&
	       put_text(w, HELLO_VERSION, h->version) && put_text(w, HELLO_HOST, h->host) &&
	       (h->mtu == 0 || put_tlv(w, HELLO_MTU, &h->mtu, 4)) && put_text(w, HELLO_REFUSAL, h->refusal);
}

size_t local_write(const struct local_msg *m, uint8_t ret[static LOCAL_BLOCK_MAX])
{
	struct wcur w = wcur_over(ret, LOCAL_BLOCK_MAX, cur_host_be());
	struct wcur total;
	bool ok = wcur_u32(&w, BLOCK_TYPE);

	total = w;
	ok = ok && wcur_u32(&w, 0) && wcur_u16(&w, m->kind) && wcur_u16(&w, BLOCK_VERSION);
	switch (m->kind) {
	case BLOCK_HELLO:
		ok = ok && put_hello(&w, &m->hello);
		break;
	case BLOCK_STATISTICS:
		ok = ok && put_tlv(&w, STAT_PUT, &m->statistics.put, 8) &&
		     put_tlv(&w, STAT_UNKNOWN, &m->statistics.unknown, 8) &&
		     put_tlv(&w, STAT_RECONNECTS, &m->statistics.reconnects, 8) &&
		     put_tlv(&w, STAT_CAPTURED, &m->statistics.captured, 8) &&
		     put_tlv(&w, STAT_CAPTURE_DROPS, &m->statistics.capture_drops, 8) &&
		     put_tlv(&w, STAT_HELLO_DROPS, &m->statistics.hello_drops, 8);
		break;
	case BLOCK_ACK:
		ok = ok && put_tlv(&w, ACK_BYTES, &m->ack, 8);
		break;
	default:
		break;
	}

	size_t len = LOCAL_BLOCK_MAX - w.left + 4;

	ok = ok && wcur_u32(&w, (uint32_t)len) && wcur_u32(&total, (uint32_t)len);
	assert(ok);
	return len;
}
