/* SPDX-License-Identifier: Apache-2.0 */
/* flows.c - forged flows that sessions have open (see flows.h). */
#include "flows.h"

#include <assert.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "common/cur.h"
#include "common/forge.h"

#define ETH_IPV4 0x0800
#define ETH_IPV6 0x86DD
#define CLOSE_MTU 1500 /* what a SYN-ACK of ours states */

static uint64_t mix(uint64_t h, uint64_t v)
{
	h = (h ^ v) * 0x9E3779B97F4A7C15u;
	return h ^ h >> 29;
}

static uint64_t hash_end(const struct flows *f, const struct tuple *t, int side)
{
	uint64_t a, b;

	memcpy(&a, t->addr[side], 8);
	memcpy(&b, t->addr[side] + 8, 8);
	return mix(mix(mix(f->seed, a), b), t->port[side]);
}

/* The same for both directions, and other for other sessions. */
static uint32_t hash_tuple(const struct flows *f, const struct flows_list *of, const struct tuple *t)
{
	uint64_t h = hash_end(f, t, 0) + hash_end(f, t, 1);

	return (uint32_t)(mix(h, (uintptr_t)of) >> 20) & f->mask;
}

static uint32_t hash_id(const struct flows *f, uint64_t id)
{
	return (uint32_t)(mix(f->seed, id) >> 20) & f->mask;
}

int flows_init(struct flows *f, unsigned max)
{
	uint32_t buckets = 1;

	*f = (struct flows){.max = max};
	while (buckets < max)
		buckets *= 2;
	f->mask = buckets - 1;
	f->pool = calloc(max, sizeof(*f->pool));
	f->by_tuple = calloc(buckets, sizeof(struct rflow *));
	f->by_id = calloc(buckets, sizeof(struct rflow *));
	if (f->pool == NULL || f->by_tuple == NULL || f->by_id == NULL ||
	    getrandom(&f->seed, sizeof(f->seed), 0) != sizeof(f->seed)) {
		flows_fini(f);
		return -ENOMEM;
	}
	return 0;
}

void flows_fini(struct flows *f)
{
	free(f->pool);
	free(f->by_tuple);
	free(f->by_id);
	*f = (struct flows){0};
}

bool flows_full(const struct flows *f)
{
	return f->n == f->max;
}

/* The session with the most flows. Slow: done once after the largest one has ended. */
static struct flows_list *find_largest(const struct flows *f)
{
	struct flows_list *largest = NULL;

	for (unsigned i = 0; i < f->n_used; i++) {
		struct flows_list *of = f->pool[i].of;

		if (of != NULL && (largest == NULL || of->n > largest->n))
			largest = of;
	}
	return largest;
}

struct rflow *flows_victim(struct flows *f, struct flows_list *of)
{
	if (f->largest == NULL)
		f->largest = find_largest(f);
	return of->n > f->max / FLOWS_SHARE || of->n >= f->largest->n ? of->oldest : f->largest->oldest;
}

static void age_out(struct rflow *r)
{
	*(r->older != NULL ? &r->older->newer : &r->of->oldest) = r->newer;
	*(r->newer != NULL ? &r->newer->older : &r->of->newest) = r->older;
}

static void age_in(struct rflow *r)
{
	r->older = r->of->newest;
	r->newer = NULL;
	*(r->older != NULL ? &r->older->newer : &r->of->oldest) = r;
	r->of->newest = r;
}

static void touch(struct rflow *r)
{
	if (r->of->newest == r)
		return;
	age_out(r);
	age_in(r);
}

static struct rflow *take(struct flows *f)
{
	struct rflow *r = f->spare;

	/* Entries that were never used follow each other in the pool, so that its memory is touched as it is needed. */
	if (r != NULL)
		f->spare = r->tuple_next;
	else
		r = &f->pool[f->n_used++];
	f->n++;
	*r = (struct rflow){0};
	return r;
}

/* All flows of an id in the chain belong to one session, its owner: the first decides. */
static bool owned_by_other(const struct flows *f, const struct flows_list *of, uint64_t id)
{
	for (const struct rflow *r = f->by_id[hash_id(f, id)]; r != NULL; r = r->id_next)
		if (r->id == id)
			return r->of != of;
	return false;
}

static void own(struct flows *f, struct rflow *r)
{
	struct rflow **b = &f->by_id[hash_id(f, r->id)];

	r->id_prev = NULL;
	r->id_next = *b;
	if (*b != NULL)
		(*b)->id_prev = r;
	*b = r;
}

static void disown(struct flows *f, struct rflow *r)
{
	*(r->id_prev != NULL ? &r->id_prev->id_next : &f->by_id[hash_id(f, r->id)]) = r->id_next;
	if (r->id_next != NULL)
		r->id_next->id_prev = r->id_prev;
}

static bool reversed(const struct tuple *a, const struct tuple *b)
{
	return a->ver == b->ver && a->port[0] == b->port[1] && a->port[1] == b->port[0] &&
	       memcmp(a->addr[0], b->addr[1], 16) == 0 && memcmp(a->addr[1], b->addr[0], 16) == 0;
}

static bool matches(const struct rflow *r, const struct tuple *t, enum side *ret_side)
{
	if (memcmp(&r->t, t, sizeof(*t)) == 0) {
		*ret_side = SIDE_CLIENT;
		return true;
	}
	*ret_side = SIDE_SERVER;
	return reversed(&r->t, t);
}

static struct rflow *find(struct flows *f, const struct flows_list *of, const struct tuple *t, enum side *ret_side)
{
	for (struct rflow *r = f->by_tuple[hash_tuple(f, of, t)]; r != NULL; r = r->tuple_next)
		if (r->of == of && matches(r, t, ret_side))
			return r;
	return NULL;
}

static void link_in(struct flows *f, struct rflow *r)
{
	struct rflow **b = &f->by_tuple[hash_tuple(f, r->of, &r->t)];

	r->tuple_next = *b;
	*b = r;
	age_in(r);
	r->of->n++;
	if (f->largest != NULL && r->of->n > f->largest->n)
		f->largest = r->of;
}

void flows_drop(struct flows *f, struct rflow *r)
{
	struct rflow **p = &f->by_tuple[hash_tuple(f, r->of, &r->t)];

	while (*p != r)
		p = &(*p)->tuple_next;
	*p = r->tuple_next;
	if (!r->duplicate)
		disown(f, r);
	age_out(r);
	r->of->n--;
	if (r->of->n == 0 && f->largest == r->of)
		f->largest = NULL;
	if (r->of->last_found == r)
		r->of->last_found = NULL;
	r->of = NULL;
	f->n--;
	r->tuple_next = f->spare;
	f->spare = r;
}

struct rflow *flows_announce(struct flows *f, struct flows_list *of, const struct local_flow *a)
{
	enum side side;
	struct rflow *r = find(f, of, &a->t, &side);

	if (r != NULL && (r->id != a->id || side != SIDE_CLIENT)) { /* another connection on the same 5-tuple */
		flows_drop(f, r);
		r = NULL;
	}
	if (r == NULL) {
		assert(!flows_full(f));
		r = take(f);
		r->t = a->t;
		r->id = a->id;
		r->of = of;
		r->duplicate = true; /* until it is known better */
		link_in(f, r);
	}
	r->stream = a->stream;
	r->phase = FLOW_ANNOUNCED;
	r->fin = 0;
	r->server_known = false;
	if (r->duplicate && !owned_by_other(f, of, a->id)) {
		r->duplicate = false;
		own(f, r);
	}
	touch(r);
	return r;
}

/* Addresses, as the sender's frame has them: its source is the tuple's client. */
static bool read_ip(struct cur *c, struct tuple *t)
{
	uint16_t type, total, frag;
	uint8_t vhl, proto;

	if (!cur_skip(c, 12) || !cur_be16(c, &type))
		return false;
	if (type == ETH_IPV6) {
		uint8_t next;

		t->ver = 6;
		if (!cur_skip(c, 4) || !cur_be16(c, &total) || !cur_u8(c, &next) || !cur_skip(c, 1) ||
		    !cur_copy(c, t->addr[0], 16) || !cur_copy(c, t->addr[1], 16) || next != IPPROTO_TCP ||
		    c->left < total)
			return false;
		c->left = total;
		return true;
	}
	t->ver = 4;
	if (type != ETH_IPV4 || !cur_u8(c, &vhl) || !cur_skip(c, 1) || !cur_be16(c, &total) || !cur_skip(c, 2) ||
	    !cur_be16(c, &frag) || !cur_skip(c, 1) || !cur_u8(c, &proto) || !cur_skip(c, 2) ||
	    !cur_copy(c, t->addr[0], 4) || !cur_copy(c, t->addr[1], 4))
		return false;

	size_t head = (size_t)(vhl & 15) * 4;

	if (head < 20 || total < head || proto != IPPROTO_TCP || (frag & 0x3fff) != 0 || !cur_skip(c, head - 20) ||
	    c->left < total - head)
		return false;
	c->left = total - head;
	return true;
}

struct flows_frame flows_find(struct flows *f, struct flows_list *of, const uint8_t *p, size_t len)
{
	struct flows_frame x = {0};
	struct cur c = cur_over(p, len, true);
	struct tuple t = {0};
	uint32_t seq;
	uint8_t off;

	if (of->n == 0 || !read_ip(&c, &t) || !cur_be16(&c, &t.port[0]) || !cur_be16(&c, &t.port[1]) ||
	    !cur_be32(&c, &seq) || !cur_skip(&c, 4) || !cur_u8(&c, &off) || !cur_u8(&c, &x.flags))
		return x;

	size_t head = (size_t)(off >> 4) * 4;

	if (head < 20 || !cur_skip(&c, head - 14))
		return x;
	x.seq_end = seq + (uint32_t)c.left + !!(x.flags & FORGE_SYN) + !!(x.flags & FORGE_FIN);
	if (of->last_found != NULL && matches(of->last_found, &t, &x.side))
		x.flow = of->last_found;
	else
		x.flow = find(f, of, &t, &x.side);
	of->last_found = x.flow;
	return x;
}

void flows_sent(const struct flows_frame *x, const uint8_t *p)
{
	struct rflow *r = x->flow;

	if (r == NULL || r->duplicate)
		return;
	if (x->side == SIDE_CLIENT && (x->flags & (FORGE_SYN | FORGE_ACK)) == FORGE_SYN) {
		r->phase = FLOW_LIVE;
		r->fin = 0;
		r->server_known = false;
		memcpy(r->mac, p, sizeof(r->mac));
	}
	if (r->phase != FLOW_LIVE)
		return;
	touch(r);
	if (x->flags & FORGE_RST) {
		r->phase = FLOW_OVER;
		return;
	}
	if (x->side == SIDE_SERVER && !r->server_known) {
		r->server_known = true;
		r->next[SIDE_SERVER] = x->seq_end;
	}
	/* the last ACK of a close: nothing but an ACK, after both FINs */
	if (r->fin == 3 && !(x->flags & FORGE_FIN))
		r->phase = FLOW_OVER;
	if (x->flags & FORGE_SYN || (int32_t)(x->seq_end - r->next[x->side]) > 0)
		r->next[x->side] = x->seq_end;
	if (x->flags & FORGE_FIN)
		r->fin |= (uint8_t)(1u << x->side);
}

size_t flows_close_frame(struct rflow *r, uint8_t ret[static FLOWS_CLOSE_BYTES], struct flows_frame *ret_x)
{
	struct forge_seg g = {.t = &r->t, .dmac = r->mac, .smac = r->mac + 6, .mtu = CLOSE_MTU, .window = 65535};

	if (r->phase != FLOW_LIVE || r->duplicate)
		return 0;
	g.flags = FORGE_ACK;
	if (!r->server_known) { /* cut within the handshake: finish it, so that the close is one */
		g.side = SIDE_SERVER;
		g.flags |= FORGE_SYN;
		g.seq = r->next[SIDE_CLIENT] ^ (uint32_t)r->id;
	} else if (!(r->fin & 1u << SIDE_CLIENT)) {
		g.side = SIDE_CLIENT;
		g.flags |= FORGE_FIN;
	} else if (!(r->fin & 1u << SIDE_SERVER)) {
		g.side = SIDE_SERVER;
		g.flags |= FORGE_FIN;
	} else {
		g.side = SIDE_CLIENT;
	}
	if (r->server_known)
		g.seq = r->next[g.side];
	g.ack = r->next[!g.side];
	*ret_x = (struct flows_frame){.flow = r, .side = g.side, .flags = g.flags};
	ret_x->seq_end = g.seq + !!(g.flags & (FORGE_SYN | FORGE_FIN));
	return forge_frame(&g, ret);
}
