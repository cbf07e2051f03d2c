/* SPDX-License-Identifier: Apache-2.0 */
/* tap.c - order, losses and fate of what one slot reported. */
#include "tap.h"

#include <stdlib.h>
#include <string.h>

#include "conn.h"
#include "common/log.h"
#include "pair.h"
#include "permit.h"
#include "wire.h"

struct held {
	struct held *next;
	uint64_t pos;	/* sum of both offsets: never less in what comes later */
	uint64_t sweep; /* complete sweeps when it came */
	uint64_t over;	/* IN_FLIGHT: when the write's record has been read, if there is one; 0: not known yet */
	uint64_t ns;
	struct rec r;
	uint8_t data[];
};

static struct shm_slot *slot_of(const struct tap *t)
{
	return &t->family->r.v.slot[t->slot];
}

static struct account *sum(const struct tap *t)
{
	return &t->family->lane->sum;
}

static enum dir dir_of(const struct rec *r)
{
	return r->flags & REC_F_RX ? DIR_RX : DIR_TX;
}

struct tap *tap_get(struct family *f, uint32_t slot)
{
	struct tap *t;

	if (slot >= f->taps_n) {
		uint32_t n = f->taps_n ? f->taps_n : 1024;
		struct tap **to;

		while (n <= slot)
			n *= 2;
		to = realloc(f->taps, n * sizeof(*to));
		if (!to)
			return NULL;
		memset(to + f->taps_n, 0, (n - f->taps_n) * sizeof(*to));
		f->taps = to;
		f->taps_n = n;
	}
	t = f->taps[slot];
	if (t)
		return t;
	t = calloc(1, sizeof(*t));
	if (!t)
		return NULL;
	t->family = f;
	t->slot = slot;
	t->refused = &f->lane->sum.unpaired;
	f->taps[slot] = t;
	f->taps_used++;
	f->lane->taps++;
	return t;
}

/* What the slot says is decided must wait until the sink has it. */
static void tell(struct tap *t)
{
	if (t->untold)
		return;
	t->untold = true;
	t->untold_next = t->family->lane->untold;
	t->family->lane->untold = t;
}

void tap_tell(struct lane *l)
{
	for (struct tap *t = l->untold; t; t = t->untold_next) {
		for (unsigned d = 0; d < 2; d++)
			atomic_store_explicit(&slot_of(t)->accounted[d], t->next[d], memory_order_relaxed);
		t->untold = false;
	}
	l->untold = NULL;
}

void tap_untell(struct family *f)
{
	for (struct tap **at = &f->lane->untold; *at;)
		if ((*at)->family == f)
			*at = (*at)->untold_next;
		else
			at = &(*at)->untold_next;
}

void tap_tell_start(const struct tap *t)
{
	memcpy(t->family->r.v.fact[t->slot].open.start, t->start, sizeof(t->start));
}

/* --- losses ---------------------------------------------------------------------------------------- */

static uint64_t take(uint64_t *n, uint64_t most)
{
	uint64_t m = *n < most ? *n : most;

	*n -= m;
	return m;
}

/* The next @n bytes of direction @d will not come. @died: their process has, so what no counter of the mapping explains
 * was never written. The counters are the whole mapping's and are raised after the gap can be seen; a living process
 * loses bytes to nothing but these two, so what is not busy is full, even if that counter does not say so yet. */
static void lost(struct tap *t, enum dir d, uint64_t n, bool died)
{
	struct family *f = t->family;
	struct account *s = sum(t);
	uint64_t busy = atomic_load_explicit(&f->r.v.h->lost_busy, memory_order_relaxed);
	uint64_t full = atomic_load_explicit(&f->r.v.h->lost_full, memory_order_relaxed);
	uint64_t m;

	tell(t);
	if (t->pred[d] > t->next[d]) {
		m = t->pred[d] - t->next[d];
		t->next[d] += m = take(&n, m);
		s->predecessor += m;
	}
	t->next[d] += n;
	m = take(&n, busy > f->busy_told ? busy - f->busy_told : 0);
	f->busy_told += m;
	s->stripes_busy += m;
	m = take(&n, !died ? n : full > f->full_told ? full - f->full_told : 0);
	f->full_told += m;
	s->pool_full += m;
	s->died += n;
}

/* --- waiting --------------------------------------------------------------------------------------- */

void tap_watch(struct tap *t)
{
	if (t->waiting)
		return;
	t->waiting = true;
	t->waiting_next = t->family->waiting;
	t->family->waiting = t;
}

static int order_of(const struct rec *r)
{
	switch (r->type) {
	case REC_OPEN:
		return 0;
	case REC_CLOSE:
		return 3;
	default:
		return r->flags & REC_F_RX ? 2 : 1;
	}
}

static bool before(const struct held *a, const struct held *b)
{
	if (a->r.gen != b->r.gen)
		return (int32_t)(a->r.gen - b->r.gen) < 0;
	if (a->pos != b->pos)
		return a->pos < b->pos;
	return order_of(&a->r) < order_of(&b->r);
}

static uint64_t position(const struct rec *r, const uint8_t *data)
{
	struct rec_open o;

	if (r->type != REC_OPEN || r->len < sizeof(o))
		return r->off + r->other;
	memcpy(&o, data, sizeof(o));
	return o.base[0] + o.base[1];
}

/* What a record that waits costs: small ones cost more than their payload. */
static uint64_t cost(const struct rec *r)
{
	return sizeof(struct held) + (r->type == REC_HOLE ? 0 : r->len);
}

/* Put a copy into the sorted list. false: no memory. */
static bool hold(struct tap *t, const struct rec *r, const uint8_t *data)
{
	struct family *f = t->family;
	size_t len = r->type == REC_HOLE ? 0 : r->len;
	struct held *h = malloc(sizeof(*h) + len), **at = &t->first;

	if (!h)
		return false;
	h->r = *r;
	h->pos = position(r, data);
	h->sweep = f->sweep;
	h->over = 0;
	h->ns = f->lane->now_ns;
	if (len)
		memcpy(h->data, data, len);
	if (t->last && !before(h, t->last))
		at = &t->last->next; /* the usual case */
	else if (t->near && !before(h, t->near))
		at = &t->near->next; /* one stripe after the other */
	for (; *at && !before(h, *at); at = &(*at)->next)
		f->steps++;
	h->next = *at;
	*at = t->near = h;
	if (!h->next)
		t->last = h;
	if (r->type == REC_DATA)
		sum(t)->held += len;
	t->held_mem += cost(r);
	f->held_mem += cost(r);
	f->lane->held_mem += cost(r);
	tap_watch(t);
	return true;
}

static void drop_first(struct tap *t)
{
	struct held *h = t->first;

	t->first = h->next;
	if (!t->first)
		t->last = NULL;
	if (t->near == h)
		t->near = NULL;
	if (h->r.type == REC_DATA)
		sum(t)->held -= h->r.len;
	t->held_mem -= cost(&h->r);
	t->family->held_mem -= cost(&h->r);
	t->family->lane->held_mem -= cost(&h->r);
	free(h);
}

/* --- using records --------------------------------------------------------------------------------- */

static void take_verdict(struct tap *t, const struct rec *r)
{
	t->early_known = true;
	t->early_ok = !(r->flags & REC_F_REJECTED);
}

static void get_endpoint(const struct rec_open *o, struct endpoint *ret)
{
	memset(ret, 0, sizeof(*ret));
	memcpy(ret->local, o->local, 16);
	memcpy(ret->remote, o->remote, 16);
	ret->local_port = o->local_port;
	ret->remote_port = o->remote_port;
	ret->ver = o->ver;
}

static void put_endpoint(struct rec_open *o, const struct endpoint *e)
{
	memcpy(o->local, e->local, 16);
	memcpy(o->remote, e->remote, 16);
	o->local_port = e->local_port;
	o->remote_port = e->remote_port;
	o->ver = e->ver;
	o->flags |= REC_OPEN_ADDRS;
}

/* A handshake begins: have its socket looked up while it lasts. */
static void take_socket(struct tap *t, const struct rec *r, const uint8_t *data)
{
	struct told *told = &t->told[r->gen % TAP_TOLD];
	struct rec_open o;

	if (r->len < sizeof(o) || r->gen == t->gen)
		return;
	memcpy(&o, data, sizeof(o));
	memset(told, 0, sizeof(*told));
	get_endpoint(&o, &told->e);
	if (!endpoint_normalise(&told->e))
		return;
	told->gen = r->gen;
	told->fd = o.fd;
	told->pid = o.pid;
	pair_ask_told(t, told);
}

/* Is this OPEN a renegotiation of the session that @t is? The same ends say so, while the socket lives; the wire does,
 * if it does not know the random. */
static bool goes_on(struct tap *t, const struct rec_open *o, const struct endpoint *e)
{
	bool stated = o->flags & REC_OPEN_ADDRS;

	if (t->state != TAP_PAIRED || !(o->flags & REC_OPEN_SERVER) != !t->server)
		return false;
	if (stated ? !endpoint_same_addrs(e, &t->e) : t->stated)
		return false;
	return (stated && !t->destroyed) || pair_renegotiated(t, o);
}

static void use_open(struct tap *t, const struct rec *r, const uint8_t *data, uint64_t came_ns)
{
	struct rec_open o;
	struct endpoint e = {.ver = 0};
	const struct told *told = &t->told[r->gen % TAP_TOLD];
	bool again;

	if (r->len < sizeof(o))
		return;
	memcpy(&o, data, sizeof(o));
	if ((o.flags & REC_OPEN_TOLD) && told->gen == r->gen) {
		put_endpoint(&o, &told->e);
		o.fd = told->fd;
		o.pid = told->pid;
	}
	get_endpoint(&o, &e);
	again = goes_on(t, &o, &e);
	if (!again && t->state != TAP_CLOSED)
		tap_close(t);
	for (unsigned d = 0; d < 2; d++) {
		if (o.base[d] > t->next[d])
			lost(t, (enum dir)d, o.base[d] - t->next[d], false);
		if (again) /* the connection's bytes are counted on */
			o.start[d] = tap_conn_off(t, (enum dir)d, o.base[d]);
		t->start[d] = o.start[d];
		t->base[d] = o.base[d];
	}
	t->gen = r->gen;
	t->open = o;
	memcpy(&t->family->r.v.fact[t->slot].open, &o, sizeof(o));
	atomic_store_explicit(&t->family->r.v.fact[t->slot].gen, r->gen, memory_order_release);
	if (again)
		return;
	t->server = o.flags & REC_OPEN_SERVER;
	t->came_ns = came_ns;
	t->e = e;
	memcpy(&t->random8, o.client_random, 8);
	t->early_known = t->destroyed = t->shut = t->adopted = false;
	t->end_sweep = t->behind_ns = t->asked_again = t->ask_ns = 0;
	for (struct held *h = t->first; h; h = h->next)
		if (h->r.type == REC_VERDICT && h->r.gen == t->gen)
			take_verdict(t, &h->r);
	if (o.flags & REC_OPEN_NOT_TCP) {
		tap_refuse(t, &sum(t)->not_tcp);
	} else {
		t->state = TAP_ASKING;
		t->stated = (o.flags & REC_OPEN_ADDRS) && endpoint_normalise(&t->e);
		if ((o.flags & REC_OPEN_CHILD) && permit_allows(t->family, o.pid, NULL) == 1 &&
		    !permit_missed(t->family, &o) && conn_continues(t))
			tap_paired(t, t->sock_cookie, false); /* a child may be gone before it is asked about */
		else
			pair_open(t, told->gen == t->gen && told->live && endpoint_same_addrs(&told->e, &t->e) ? told
													       : NULL);
	}
	tap_watch(t);
}

/* Bytes of a connection that goes nowhere. */
static void refuse_bytes(struct tap *t, enum dir d, const struct rec *r)
{
	*(t->state == TAP_REFUSED ? t->refused : &sum(t)->unpaired) += r->len;
	t->next[d] = r->off + r->len;
}

static bool use_data(struct tap *t, const struct rec *r, const uint8_t *data)
{
	enum dir d = dir_of(r);

	tell(t);
	if (t->state != TAP_PAIRED) {
		if (r->type == REC_DATA)
			refuse_bytes(t, d, r);
		else
			t->next[d] += r->len, sum(t)->sendfile += r->len;
		return true;
	}
	if (!conn_reach(t, tap_side(t, !d), tap_conn_off(t, !d, t->next[!d] < r->other ? t->next[!d] : r->other)))
		return false;
	if (r->type == REC_HOLE) {
		if (!conn_hole(t, tap_side(t, d), tap_conn_off(t, d, r->off), r->len))
			return false;
		sum(t)->sendfile += r->len;
	} else if ((r->flags & REC_F_EARLY) && !(t->early_known && t->early_ok)) {
		sum(t)->early_rejected += r->len;
		t->start[d] -= r->len; /* the peer never counted them */
		tap_tell_start(t);
	} else if (!conn_data(t, tap_side(t, d), tap_conn_off(t, d, r->off), data, r->len, r->flags & REC_F_CONT)) {
		return false;
	} else {
		wire_cleartext(t->family->lane->wire, data, r->len, &t->real, t->family->id, t->sock_cookie, t->depth);
	}
	t->next[d] = r->off + r->len;
	return true;
}

enum verdict { USE, WAIT, DROP };

/* Does what waits cost more memory than it may? The lane's limit is for those only who hold more than their share of
 * it. */
static bool too_much(const struct tap *t)
{
	const struct family *f = t->family;

	return t->held_mem > TAP_HELD_MAX || f->held_mem > FAMILY_HELD_MAX ||
	       (f->lane->held_mem > LANE_HELD_MAX && f->held_mem > LANE_HELD_MAX / f->lane->families_n);
}

/* A read that ended while a write was inside the library: the write goes first. */
static bool waits_for_write(const struct tap *t, const struct rec *r, uint64_t since_ns, bool ripe)
{
	struct held *h = t->first; /* holds @r if @ripe */
	uint32_t end;

	if (!(r->flags & REC_F_IN_FLIGHT) || t->next[DIR_TX] > r->other)
		return false;
	if (t->family->lane->now_ns - since_ns > TAP_IN_FLIGHT_NS || (ripe && too_much(t)))
		return false;
	end = atomic_load_explicit(&slot_of(t)->end[DIR_TX], memory_order_acquire);
	if (!ripe || (int32_t)(end - r->begin) < 0)
		return true;
	if (!h->over) /* its record is out, but perhaps not read */
		h->over = t->family->sweep + 2;
	return t->family->sweep < h->over;
}

static bool older(const struct tap *t, const struct rec *r)
{
	return (int32_t)(r->gen - t->gen) < 0;
}

/* Early data whose verdict is still to come. */
static bool waits_for_verdict(const struct tap *t, const struct rec *r)
{
	if (!(r->flags & REC_F_EARLY) || t->early_known || t->state != TAP_PAIRED || too_much(t))
		return false;
	for (const struct held *h = t->first; h; h = h->next) /* nothing but the end can follow without a verdict */
		if (h->r.type == REC_CLOSE && h->r.gen == t->gen)
			return false;
	return true;
}

static enum verdict judge_data(struct tap *t, const struct rec *r, uint64_t since_ns, bool ripe, bool last)
{
	enum dir d = dir_of(r);

	if (older(t, r)) { /* its connection is over, and what it reported is decided */
		t->family->lane->late++;
		return DROP;
	}
	if (r->gen != t->gen) {
		if (!ripe)
			return WAIT;
		tap_close(t); /* no OPEN came: never, unless the process plays games */
		t->gen = r->gen;
	}
	if (r->off < t->next[d]) {
		t->family->lane->late++;
		return DROP;
	}
	if (t->state == TAP_ASKING)
		return WAIT;
	if (r->off > t->next[d]) {
		if (!ripe)
			return WAIT;
		lost(t, d, r->off - t->next[d], false);
	}
	if (r->other > t->next[!d]) {
		if (!ripe || (!last && waits_for_write(t, r, since_ns, ripe)))
			return WAIT;
		lost(t, !d, r->other - t->next[!d], false);
	}
	if (last)
		return USE;
	return waits_for_write(t, r, since_ns, ripe) || waits_for_verdict(t, r) ? WAIT : USE;
}

/* May @r be used now? @ripe: all that could be before it has been read. */
static enum verdict judge(struct tap *t, const struct rec *r, const uint8_t *data, uint64_t since_ns, bool ripe,
			  bool last)
{
	uint64_t tx = r->off, rx = r->other;
	struct rec_open o;

	switch (r->type) {
	case REC_DATA:
	case REC_HOLE:
		return judge_data(t, r, since_ns, ripe, last);
	case REC_OPEN:
		if (r->len < sizeof(o) || (int32_t)(r->gen - t->gen) <= 0)
			return DROP;
		memcpy(&o, data, sizeof(o));
		if ((o.flags & REC_OPEN_TOLD) && t->told[r->gen % TAP_TOLD].gen != r->gen && !ripe)
			return WAIT;
		tx = o.base[DIR_TX];
		rx = o.base[DIR_RX];
		break;
	case REC_CLOSE:
		if (r->gen != t->gen)
			return ripe ? DROP : WAIT;
		if (t->state == TAP_ASKING)
			return WAIT;
		break;
	case REC_VERDICT: /* its OPEN may still come */
		return r->gen == t->gen ? USE : ripe ? DROP : WAIT;
	default:
		return DROP;
	}
	return ripe || (tx <= t->next[DIR_TX] && rx <= t->next[DIR_RX]) ? USE : WAIT;
}

static bool use(struct tap *t, const struct rec *r, const uint8_t *data, uint64_t came_ns)
{
	switch (r->type) {
	case REC_DATA:
	case REC_HOLE:
		return use_data(t, r, data);
	case REC_OPEN:
		use_open(t, r, data, came_ns);
		return true;
	case REC_CLOSE:
		if (!(r->flags & REC_F_FREE)) {
			t->shut = true;
			return true;
		}
		if (r->off > t->next[DIR_TX])
			lost(t, DIR_TX, r->off - t->next[DIR_TX], false);
		if (r->other > t->next[DIR_RX])
			lost(t, DIR_RX, r->other - t->next[DIR_RX], false);
		tap_close(t);
		return true;
	case REC_VERDICT:
		take_verdict(t, r);
		return true;
	default:
		return true;
	}
}

/* Could libtlstap have written this? It counts before it copies: nothing is beyond what its slot reported. */
static bool plausible(const struct tap *t, const struct rec *r, const uint8_t *data)
{
	enum dir d = dir_of(r);
	uint64_t rep[2];
	struct rec_open o;

	if (r->off >> REC_OFF_BITS || r->other >> REC_OFF_BITS)
		return false;
	for (unsigned i = 0; i < 2; i++)
		rep[i] = atomic_load_explicit(&slot_of(t)->rep[i], memory_order_acquire);
	switch (r->type) {
	case REC_DATA:
	case REC_HOLE:
		return r->off + r->len <= rep[d] && r->other <= rep[!d];
	case REC_CLOSE:
		return r->off <= rep[DIR_TX] && r->other <= rep[DIR_RX];
	case REC_OPEN:
		if (r->len < sizeof(o))
			return false;
		memcpy(&o, data, sizeof(o));
		return o.base[0] <= rep[0] && o.base[1] <= rep[1] &&
		       !((o.base[0] | o.base[1] | o.start[0] | o.start[1]) >> REC_OFF_BITS);
	default:
		return true;
	}
}

bool tap_record(struct tap *t, const struct rec *r, const uint8_t *data)
{
	struct family *f = t->family;

	if (!plausible(t, r, data))
		return false;
	if (r->type == REC_DATA) {
		enum dir d = dir_of(r);

		if (older(t, r) || (r->gen == t->gen && r->off < t->next[d])) {
			f->lane->late++;
			return true;
		}
		sum(t)->taken += r->len;
		if (r->off + r->len > t->taken[d]) {
			t->taken[d] = r->off + r->len;
			atomic_store_explicit(&slot_of(t)->taken[d], t->taken[d], memory_order_relaxed);
		}
	}
	if (r->type == REC_SOCKET) {
		take_socket(t, r, data);
		return true;
	}
	if (r->type == REC_VERDICT) {
		if (r->gen == t->gen)
			take_verdict(t, r);
		else
			(void)hold(t, r, data);
		return true;
	}
	if (!t->first && judge(t, r, data, f->lane->now_ns, false, false) == USE && use(t, r, data, f->lane->now_ns))
		return true;
	if (hold(t, r, data)) {
		if (too_much(t))
			(void)tap_run(t); /* not only at the end of a sweep, which may be long */
	} else if (r->type == REC_DATA) { /* no memory: given up, and said so */
		enum dir d = dir_of(r);

		if (r->off > t->next[d])
			lost(t, d, r->off - t->next[d], false);
		sum(t)->unpaired += r->len;
		t->next[d] = r->off + r->len;
		tell(t);
	}
	return true;
}

bool tap_run(struct tap *t)
{
	struct family *f = t->family;
	bool last = t->end_sweep && f->sweep >= t->end_sweep;

	if (t->state == TAP_ASKING) {
		pair_tend(t);
		if (t->state == TAP_ASKING && too_much(t))
			tap_refuse(t, &sum(t)->no_room);
	}
	while (t->first) {
		struct held *h = t->first;
		bool ripe = last || f->sweep >= h->sweep + 2 || too_much(t);
		enum verdict v = judge(t, &h->r, h->data, h->ns, ripe, last);

		if (v == WAIT || (v == USE && !use(t, &h->r, h->data, h->ns)))
			break;
		if (v == DROP && h->r.type == REC_DATA)
			sum(t)->taken -= h->r.len; /* decided before, under another name */
		drop_first(t);
	}
	if (last && !t->first && t->state != TAP_CLOSED) {
		f->unsettled = true; /* no CLOSE told what it had reported */
		tap_close(t);
	}
	return !f->lane->stalled;
}

void tap_refuse(struct tap *t, uint64_t *why)
{
	t->state = TAP_REFUSED;
	t->refused = why;
}

void tap_paired(struct tap *t, uint64_t sock_cookie, bool ended)
{
	uint64_t *no;

	if (ended) {
		t->destroyed = true; /* its last records are here, or will be after one more sweep */
		t->end_sweep = t->family->sweep + 2;
	}
	t->family->lane->by[t->evidence]++;
	t->sock_cookie = sock_cookie;
	no = conn_join(t);
	if (no)
		tap_refuse(t, no);
	else
		t->state = TAP_PAIRED;
}

void tap_close(struct tap *t)
{
	if (t->state == TAP_PAIRED)
		conn_leave(t);
	t->state = TAP_CLOSED;
	t->cookie = 0;
	t->end_sweep = 0;
	atomic_store_explicit(&t->family->r.v.fact[t->slot].gen, 0, memory_order_relaxed);
	atomic_store_explicit(&slot_of(t)->flow_open, 0, memory_order_relaxed);
	for (unsigned d = 0; d < 2; d++)
		atomic_store_explicit(&slot_of(t)->shown[d], 0, memory_order_relaxed);
}

static void lose_rest(struct tap *t, bool died)
{
	for (unsigned d = 0; d < 2; d++) {
		uint64_t rep = atomic_load_explicit(&slot_of(t)->rep[d], memory_order_relaxed);

		if (rep > t->next[d] && rep - t->next[d] < 1ull << 48)
			lost(t, (enum dir)d, rep - t->next[d], died);
	}
}

void tap_died(struct tap *t)
{
	lose_rest(t, true);
	tap_close(t);
}

void tap_lose_rest(struct tap *t)
{
	lose_rest(t, false);
}

void tap_over(struct tap *t)
{
	lose_rest(t, false);
	tap_close(t);
}

void tap_discard(struct tap *t)
{
	while (t->first) {
		if (t->first->r.type == REC_DATA)
			sum(t)->taken -= t->first->r.len; /* it is among what lose_rest() finds */
		drop_first(t);
	}
	tap_over(t);
}

void tap_adopt(struct tap *t)
{
	const struct shm_slot *s = slot_of(t);
	struct shm_fact *fact = &t->family->r.v.fact[t->slot];
	uint32_t gen = atomic_load_explicit(&fact->gen, memory_order_acquire);
	struct {
		struct rec_open o;
	} open;
	struct rec r = {.type = REC_OPEN, .gen = gen, .len = sizeof(open.o)};

	for (unsigned d = 0; d < 2; d++) {
		uint64_t done = atomic_load_explicit(&s->accounted[d], memory_order_relaxed);
		uint64_t had = atomic_load_explicit(&s->taken[d], memory_order_relaxed);
		uint64_t rep = atomic_load_explicit(&s->rep[d], memory_order_relaxed);

		if (had > rep)
			had = rep; /* somebody else's words */
		if (done > had)
			done = had;
		t->next[d] = done;
		t->pred[d] = had;
		t->family->before += done;
		if (had > done)
			lost(t, (enum dir)d, had - done, false);
		t->taken[d] = had;
	}
	if (!gen)
		return;
	memcpy(&open.o, &fact->open, sizeof(open.o));
	for (unsigned d = 0; d < 2; d++) {
		if (open.o.base[d] > t->next[d] || (t->next[d] - open.o.base[d] + open.o.start[d]) >> REC_OFF_BITS)
			return;
	}
	t->gen = gen - 1;
	use_open(t, &r, (const uint8_t *)&open.o, t->family->lane->now_ns);
	t->adopted = true;
}

void tap_forget(struct tap *t)
{
	while (t->first) {
		if (t->first->r.type == REC_DATA)
			sum(t)->taken -= t->first->r.len;
		drop_first(t);
	}
}

void tap_free(struct tap *t)
{
	tap_forget(t);
	t->family->lane->taps--;
	free(t);
}
