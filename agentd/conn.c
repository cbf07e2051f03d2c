/* SPDX-License-Identifier: Apache-2.0 */
/* conn.c - taps of one connection -> one flow. */
#include "conn.h"

#include <openssl/sha.h>
#include <stdlib.h>
#include <string.h>

#include "common/log.h"
#include "wire.h"

#define BUCKETS 65536u
#define CREDIT_NS 5000000ull /* without credit, what is due waits so long */

static uint64_t mix(uint64_t h)
{
	h ^= h >> 33;
	h *= 0xff51afd7ed558ccdull;
	h ^= h >> 33;
	return h;
}

static struct conn **bucket(struct lane *l, uint64_t random8)
{
	return &l->conns[mix(random8 ^ l->hash_seed) & (BUCKETS - 1)];
}

static struct conn **shown_bucket(struct lane *l, const struct tuple *t)
{
	uint64_t h = l->hash_seed, word;

	for (size_t i = 0; i + sizeof(word) <= sizeof(*t); i += sizeof(word)) {
		memcpy(&word, (const uint8_t *)t + i, sizeof(word));
		h = mix(h ^ word);
	}
	return &l->shown[h & (BUCKETS - 1)];
}

static struct tap **end_bucket(struct lane *l, const struct endpoint *e)
{
	return &l->by_end[endpoint_hash(e, l->hash_seed) & (BUCKETS - 1)];
}

static void touch(struct conn *c)
{
	if (c->touched)
		return;
	c->touched = true;
	c->touched_next = c->lane->touched;
	c->lane->touched = c;
}

static uint64_t flow_id(const struct rec_open *o)
{
	uint8_t in[64], out[SHA256_DIGEST_LENGTH];
	uint64_t id = 0;

	memcpy(in, o->client_random, 32);
	memcpy(in + 32, o->server_random, 32); /* zero if it was not known yet: an id all the same */
	SHA256(in, sizeof(in), out);
	for (unsigned i = 0; i < 8; i++)
		id = id << 8 | out[i];
	return id;
}

/* --- timer ----------------------------------------------------------------------------------------- */

static void free_conn(struct conn *c)
{
	struct conn **at = bucket(c->lane, c->random8);

	while (*at && *at != c)
		at = &(*at)->next;
	if (*at)
		*at = c->next;
	for (at = shown_bucket(c->lane, &c->flow.t); *at && *at != c; at = &(*at)->shown_next)
		;
	if (*at)
		*at = c->shown_next;
	ev_timer_stop(c->lane->loop, &c->timer);
	c->lane->conns_n--;
	c->lane->conns_ended -= c->ended;
	free(c);
}

static void arm(struct conn *c)
{
	uint64_t at = c->flow.due_ns, now = c->lane->now_ns;

	if (c->end_ns && c->end_ns < at)
		at = c->end_ns;
	if (at == UINT64_MAX || (c->armed && c->armed_ns <= at))
		return;
	/* an echo is due long before the keep-alive that the timer may be set to */
	ev_timer_stop(c->lane->loop, &c->timer);
	c->armed = true;
	c->armed_ns = at;
	ev_timer_set(&c->timer, at > now ? (double)(at - now) / 1e9 : 0, 0);
	ev_timer_start(c->lane->loop, &c->timer);
}

static void end_flow(struct conn *c)
{
	struct lane *l = c->lane;

	(void)flow_end(&c->flow, &l->flow, c->first, l->ts_ns, &l->batch);
	c->ended = true;
	l->conns_ended++;
	c->end_ns = l->now_ns + CONN_KEEP_NS;
}

/* What is due. false: no credit. */
static bool tick(struct conn *c)
{
	struct lane *l = c->lane;

	if (c->flow.due_ns <= l->now_ns) {
		if (!lane_room(l, FLOW_ROOM_CLOSE, FLOW_FRAMES_CLOSE))
			return false;
		(void)flow_tick(&c->flow, &l->flow, l->now_ns, l->ts_ns, &l->batch);
	}
	if (c->end_ns && c->end_ns <= l->now_ns && !c->taps && !c->ended) {
		if (!lane_room(l, FLOW_ROOM_CLOSE, FLOW_FRAMES_CLOSE))
			return false;
		end_flow(c);
	}
	return true;
}

static void on_timer(struct ev_loop *loop, ev_timer *w, int events)
{
	struct conn *c = w->data;

	(void)loop;
	(void)events;
	c->armed = false;
	lane_clock(c->lane);
	if (c->ended && !c->taps && !c->touched && c->end_ns && c->end_ns <= c->lane->now_ns) {
		free_conn(c);
		return;
	}
	if (tick(c)) {
		lane_put(c->lane);
		arm(c);
		return;
	}
	c->armed = true; /* no credit: soon again */
	c->armed_ns = c->lane->now_ns + CREDIT_NS;
	ev_timer_set(w, CREDIT_NS / 1e9, 0);
	ev_timer_start(c->lane->loop, w);
}

/* --- joining and leaving --------------------------------------------------------------------------- */

static struct conn *find(struct lane *l, uint64_t random8, const struct tuple *t)
{
	for (struct conn *c = *bucket(l, random8); c; c = c->next)
		if (c->random8 == random8 && memcmp(&c->real, t, sizeof(*t)) == 0)
			return c;
	return NULL;
}

/* Go on where a predecessor was. An IDS behind an interface is the same one and still waits for the end of what
 * it saw; a receiver has closed it, and a file is a new one. */
static void resume(struct conn *c, const struct tap *t)
{
	const struct shm_slot *s = &t->family->r.v.slot[t->slot];
	struct lane *l = c->lane;
	uint32_t inc = atomic_load_explicit(&s->inc, memory_order_relaxed);
	struct tuple shown = c->flow.t;
	uint64_t id = c->flow.id;

	if ((atomic_load_explicit(&s->flow_open, memory_order_relaxed) & SHM_FLOW_OPEN) &&
	    strcmp(l->sink->ops->name, "interface") == 0 && lane_room(l, FLOW_ROOM_CLOSE, FLOW_FRAMES_CLOSE)) {
		c->flow.inc = inc;
		c->flow.state = FLOW_OPEN;
		for (unsigned i = 0; i < 2; i++)
			c->flow.s[i].seq = c->flow.s[i].acked = c->flow.s[i].edge =
				atomic_load_explicit(&s->seq[i], memory_order_relaxed);
		(void)flow_cut(&c->flow, &l->flow, l->ts_ns, &l->batch);
	}
	flow_init(&c->flow, &shown, id, inc + 1);
}

/* A session inside another one has the same ends; each level is shown one --port-shift further. */
static uint16_t shown_port(const struct conf *conf, uint16_t port, uint32_t depth)
{
	uint16_t shift = (uint16_t)(conf->port_shift ? conf->port_shift : 4);

	port = conf_port(conf, port);
	while (depth--)
		port = (uint16_t)(port + shift ? port + shift : 1);
	return port;
}

/* Is this tuple free to be shown? One that only lingers ends now, before the SYN of its successor. */
static bool may_show(struct lane *l, const struct tuple *shown)
{
	for (struct conn *c = *shown_bucket(l, shown); c; c = c->shown_next) {
		if (c->ended || memcmp(&c->flow.t, shown, sizeof(*shown)) != 0)
			continue;
		if (c->taps || !lane_room(l, FLOW_ROOM_CLOSE, FLOW_FRAMES_CLOSE))
			return false;
		end_flow(c);
	}
	return true;
}

static struct conn *make(struct tap *t, const struct tuple *real, const struct tuple *as)
{
	struct lane *l = t->family->lane;
	struct tuple shown = *as;
	struct conn *c = l->conns_n < LANE_CONNS_MAX ? calloc(1, sizeof(*c)) : NULL;

	if (!c)
		return NULL;
	c->lane = l;
	c->random8 = t->random8;
	c->real = *real;
	c->epoch = l->epoch;
	flow_init(&c->flow, &shown, flow_id(&t->open), 0);
	for (unsigned d = 0; d < 2; d++) {
		uint64_t *off = &c->off[tap_side(t, (enum dir)d)], was = 0;

		if (t->adopted) /* the predecessor may have forged more, from the other end's tap */
			was = atomic_load_explicit(&t->family->r.v.slot[t->slot].shown[d], memory_order_relaxed);
		*off = tap_conn_off(t, (enum dir)d, t->next[d]);
		if (was > *off && !(was >> REC_OFF_BITS))
			*off = was;
	}
	if (t->adopted)
		resume(c, t);
	else if (c->off[0] || c->off[1])
		flow_join(&c->flow);
	ev_init(&c->timer, on_timer);
	c->timer.data = c;
	c->next = *bucket(l, c->random8);
	*bucket(l, c->random8) = c;
	c->shown_next = *shown_bucket(l, &shown);
	*shown_bucket(l, &shown) = c;
	l->conns_n++;
	l->conns_total++;
	return c;
}

/* May one more tap of @t's family claim @t's end? A process that says OPEN of the same socket again and again would
 * make everybody else's way through its bucket long. */
static bool end_has_place(const struct tap *t)
{
	unsigned n = 0;

	for (const struct tap *o = *end_bucket(t->family->lane, &t->e); o && n < CONN_END_TAPS_MAX; o = o->end_next)
		n += o->family == t->family && endpoint_same(&o->e, &t->e);
	return n < CONN_END_TAPS_MAX;
}

static enum side end_of(const struct tap *t)
{
	return t->server ? SIDE_SERVER : SIDE_CLIENT;
}

/* Is the other end of @t's connection tapped? */
static bool other_end(const struct conn *c, const struct tap *t)
{
	for (const struct tap *o = c->taps; o; o = o->conn_next)
		if (end_of(o) != end_of(t))
			return true;
	return false;
}

bool conn_has_predecessor(const struct tap *t)
{
	const struct conn *c = find(t->family->lane, t->random8, &t->real);

	for (const struct tap *o = c ? c->taps : NULL; o; o = o->conn_next)
		if (o->family == t->family && end_of(o) == end_of(t))
			return false;
	return c && c->left[end_of(t)].family == t->family->id;
}

/* The library of @t tells no random. Is @c then its connection? Somebody was at its end before, and nothing tells @t
 * from a session inside his, or from the next one on the same ports. */
static bool ambiguous(const struct conn *c, const struct tap *t)
{
	enum side end = end_of(t);

	if ((t->random8 && !t->recalled) || (t->open.flags & (REC_OPEN_CHILD | REC_OPEN_MIDWAY)) || t->adopted)
		return false;
	for (const struct tap *o = c->taps; o; o = o->conn_next)
		if (end_of(o) == end)
			return true;
	return c->left[end].off[0] || c->left[end].off[1];
}

uint64_t *conn_join(struct tap *t)
{
	struct lane *l = t->family->lane;
	struct tuple real, shown;
	struct conn *c;
	bool back;

	if (!end_has_place(t)) {
		l->conns_refused++;
		return &l->sum.denied;
	}
	real = t->real;
	c = find(l, t->random8, &real);
	if (c && !t->random8 && !c->taps && ambiguous(c, t))
		c = NULL; /* all have left: it is the next one */
	if (c && ambiguous(c, t)) {
		l->unpaired_n++;
		t->family->unpaired_n++;
		return &l->sum.unpaired;
	}
	back = c && c->left[end_of(t)].family == t->family->id;
	if (c && back && !(t->open.flags & REC_OPEN_CHILD) && !t->adopted)
		for (unsigned d = 0; d < 2; d++) /* the handle lived on after SSL_free */
			t->start[d] = c->left[end_of(t)].off[d];
	else if (c && ((t->open.flags & REC_OPEN_MIDWAY) || c->midway) && other_end(c, t))
		return &l->sum.duplicate; /* whose first byte is which of theirs is not known */
	tap_tell_start(t);
	if (!c) {
		shown = real;
		shown.port[SIDE_SERVER] = shown_port(l->conf, real.port[SIDE_SERVER], t->depth);
		if (!may_show(l, &shown)) {
			l->conns_refused++;
			return &l->sum.collision;
		}
		c = make(t, &real, &shown);
	}
	if (!c) {
		l->conns_refused++;
		return &l->sum.denied;
	}
	c->midway |= !c->taps && (t->open.flags & REC_OPEN_MIDWAY) && c->left[end_of(t)].family != t->family->id;
	t->conn = c;
	t->conn_next = c->taps;
	c->taps = t;
	c->end_ns = 0;
	l->conns_ended -= c->ended;
	c->ended = false;
	t->end_next = *end_bucket(l, &t->e);
	*end_bucket(l, &t->e) = t;
	touch(c); /* to be published in this tap's slot too */
	return NULL;
}

static const struct tap *sibling(const struct tap *t)
{
	for (const struct tap *o = *end_bucket(t->family->lane, &t->e); o; o = o->end_next)
		if (o->family == t->family && o != t && !o->destroyed && endpoint_same(&o->e, &t->e))
			return o;
	return NULL;
}

bool conn_knows(const struct tap *t)
{
	return sibling(t);
}

bool conn_continues(struct tap *t)
{
	const struct tap *parent;

	t->e.netns = t->family->netns;
	parent = t->stated ? sibling(t) : NULL;
	if (!parent)
		return false;
	t->real = parent->real;
	t->depth = parent->depth;
	t->evidence = parent->evidence;
	t->sock_cookie = parent->sock_cookie;
	return true;
}

void conn_leave(struct tap *t)
{
	struct conn *c = t->conn;
	struct lane *l = c->lane;
	struct tap **at;

	for (at = &c->taps; *at && *at != t; at = &(*at)->conn_next)
		;
	if (*at)
		*at = t->conn_next;
	for (at = end_bucket(l, &t->e); *at && *at != t; at = &(*at)->end_next)
		;
	if (*at)
		*at = t->end_next;
	c->left[end_of(t)].family = t->family->id;
	for (unsigned d = 0; d < 2; d++)
		c->left[end_of(t)].off[d] = tap_conn_off(t, (enum dir)d, t->next[d]);
	if (t->shut)
		c->first = end_of(t);
	t->conn = NULL;
	if (c->taps)
		return;
	c->end_ns = l->now_ns + CONN_LINGER_NS;
	ev_timer_stop(l->loop, &c->timer);
	c->armed = false;
	arm(c);
}

static void destroyed(struct tap *t)
{
	t->destroyed = true;
	t->end_sweep = t->family->sweep + 2; /* what was written before is there by then */
	tap_watch(t);
}

void conn_destroyed(struct lane *l, const struct endpoint *e, uint64_t sock_cookie)
{
	for (struct tap *t = *end_bucket(l, e); t; t = t->end_next)
		if (endpoint_same(&t->e, e) && (!sock_cookie || !t->sock_cookie || sock_cookie == t->sock_cookie))
			destroyed(t);
}

void conn_replaced(struct lane *l, const struct endpoint *e, uint64_t sock_cookie)
{
	for (struct tap *t = *end_bucket(l, e); t; t = t->end_next)
		if (endpoint_same(&t->e, e) && sock_cookie && t->sock_cookie && sock_cookie != t->sock_cookie &&
		    !t->destroyed)
			destroyed(t);
}

/* --- cleartext ------------------------------------------------------------------------------------- */

/* Can the other end's tap still bring what is missing before @off? */
static bool other_may_fill(struct tap *t, enum side side)
{
	struct conn *c = t->conn;
	struct lane *l = c->lane;

	for (struct tap *o = c->taps; o; o = o->conn_next) {
		enum dir d = tap_side(o, DIR_TX) == side ? DIR_TX : DIR_RX;

		if (o == t || tap_conn_off(o, d, o->next[d]) > c->off[side])
			continue;
		if (!t->behind_ns)
			t->behind_ns = l->now_ns;
		return l->now_ns - t->behind_ns < TAP_BEHIND_NS && !o->destroyed && t->held_mem <= TAP_HELD_MAX;
	}
	return false;
}

/* Bring the flow to connection offset @off. false: later. */
static bool advance(struct tap *t, enum side side, uint64_t off)
{
	struct conn *c = t->conn;
	struct lane *l = c->lane;

	if (off <= c->off[side])
		return true;
	if (other_may_fill(t, side) || !lane_room(l, FLOW_ROOM_CLOSE, FLOW_FRAMES_CLOSE))
		return false;
	(void)flow_lost(&c->flow, &l->flow, side, off - c->off[side], l->ts_ns, &l->batch);
	c->off[side] = off;
	t->behind_ns = 0;
	touch(c);
	return true;
}

bool conn_data(struct tap *t, enum side side, uint64_t off, const uint8_t *data, size_t len, bool cont)
{
	struct conn *c = t->conn;
	struct lane *l = c->lane;
	uint64_t twice;
	ssize_t n;

	if (!advance(t, side, off))
		return false;
	t->behind_ns = 0;
	twice = c->off[side] - off < len ? c->off[side] - off : len;
	if (twice < len && !lane_room(l, flow_room(&l->flow, len - twice), flow_frames(&l->flow, len - twice)))
		return false;
	l->sum.duplicate += twice;
	if (twice == len)
		return true;
	data += twice;
	len -= twice;
	n = flow_data(&c->flow, &l->flow, side, data, len, cont && !twice, l->ts_ns, &l->batch);
	if (n < 0) {
		log_error("conn", "a batch had less room than was asked for: data given up");
		n = 0;
	}
	if (!c->delivered && l->wire->sessions) {
		c->delivered = true;
		sessions_delivered(l->wire->sessions, t->open.client_random, l->now_ns);
	}
	l->sum.forged_in += len;
	l->sum.forged += (uint64_t)n;
	l->sum.resync += len - (uint64_t)n;
	c->off[side] += len;
	touch(c);
	return true;
}

bool conn_reach(struct tap *t, enum side side, uint64_t off)
{
	if (t->conn->taps->conn_next)
		return true; /* the other end's tap may bring it: the hole is told when its side goes on */
	return advance(t, side, off);
}

bool conn_hole(struct tap *t, enum side side, uint64_t off, uint64_t len)
{
	struct conn *c = t->conn;

	if (!advance(t, side, off))
		return false;
	if (off + len <= c->off[side])
		return true;
	return advance(t, side, off + len);
}

/* --- end of a sweep -------------------------------------------------------------------------------- */

/* What a successor must know, once it is out of our hands. */
static void publish(const struct conn *c)
{
	uint32_t state = c->flow.state == FLOW_OPEN ? SHM_FLOW_OPEN : 0;

	for (const struct tap *t = c->taps; t; t = t->conn_next) {
		struct shm_slot *s = &t->family->r.v.slot[t->slot];

		for (unsigned i = 0; i < 2; i++) {
			atomic_store_explicit(&s->shown[i], c->off[tap_side(t, (enum dir)i)], memory_order_relaxed);
			atomic_store_explicit(&s->seq[i], c->flow.s[i].seq, memory_order_relaxed);
		}
		atomic_store_explicit(&s->inc, c->flow.inc, memory_order_relaxed);
		atomic_store_explicit(&s->flow_open, state, memory_order_relaxed);
	}
}

bool conn_settle(struct lane *l)
{
	bool credit = true;

	for (struct conn *c = l->touched; c && credit; c = c->touched_next) {
		credit = lane_room(l, FLOW_ROOM_CLOSE, FLOW_FRAMES_CLOSE);
		if (!credit)
			break;
		(void)flow_settle(&c->flow, &l->flow, l->ts_ns, &l->batch);
		if (!c->flow.due_ns && lane_room(l, FLOW_ROOM_CLOSE, FLOW_FRAMES_CLOSE))
			(void)flow_tick(&c->flow, &l->flow, l->now_ns, l->ts_ns, &l->batch); /* sets its clock */
	}
	if (!credit)
		return false;
	lane_put(l);
	tap_tell(l);
	while (l->touched) {
		struct conn *c = l->touched;

		l->touched = c->touched_next;
		c->touched = false;
		publish(c);
		arm(c);
	}
	return true;
}

void conn_new_epoch(struct lane *l)
{
	for (unsigned i = 0; i < BUCKETS; i++)
		for (struct conn *c = l->conns[i]; c; c = c->next)
			flow_forget(&c->flow);
}

void conn_stop(struct lane *l)
{
	for (unsigned i = 0; i < BUCKETS; i++)
		for (struct conn *c = l->conns[i]; c; c = c->next)
			if (!c->ended && lane_room(l, FLOW_ROOM_CLOSE, FLOW_FRAMES_CLOSE)) {
				(void)flow_end(&c->flow, &l->flow, c->first, l->ts_ns, &l->batch);
				c->ended = true;
				publish(c);
			}
	lane_put(l);
}
