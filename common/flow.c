/* SPDX-License-Identifier: Apache-2.0 */
/* flow.c - which bytes of a connection are forged, and where its incarnations begin and end. */
#include "flow.h"

#include <errno.h>
#include <string.h>

#include "flowseg.h"
#include "forge.h"

#define MISSES_MAX 2   /* so many turns of a client that are no requests: it is not HTTP */
#define WAITS_ENOUGH 2 /* so many bursts that were waited for: this client always waits */
#define MESSAGE_MIN 14 /* bytes of the shortest request, about */
#define FRAME_COST (FORGE_HEAD_MAX + BATCH_EPB_MAX)
#define FRAMES_FIXED 32 /* rotation, two breaks, handshake, ACKs before and behind, with some to spare */

/* One call of flow_data() on its way. */
struct piece {
	struct flow_out out;
	enum side side;
	const uint8_t *data;
	size_t len;
	size_t pos;  /* bytes looked at */
	size_t pend; /* the last of those, not yet forged */
	size_t forged;
	unsigned stops;
	bool cont;
	bool fresh; /* a message or record begins: what was said before gets its ACK first */
};

void flow_init(struct flow *f, const struct tuple *t, uint64_t id, uint32_t inc)
{
	*f = (struct flow){.t = *t, .id = id, .inc = inc, .due_ns = UINT64_MAX};
	http1_init(&f->http);
	if (inc)
		flow_join(f);
}

void flow_join(struct flow *f)
{
	f->sync = SYNC_SEEK;
	(void)http1_skip(&f->http, SIDE_CLIENT, 0);
	(void)http1_skip(&f->http, SIDE_SERVER, 0);
	f->turn = true;
}

size_t flow_frames(const struct flow_conf *c, size_t len)
{
	size_t stops = len / MESSAGE_MIN < FLOW_STOPS ? len / MESSAGE_MIN : FLOW_STOPS;

	return len / forge_mss(6, c->mtu) + 2 * stops + 4 * (len / FLOW_ACK_MAX) + FRAMES_FIXED;
}

size_t flow_room(const struct flow_conf *c, size_t len)
{
	return len + flow_frames(c, len) * FRAME_COST + BATCH_FLOW_BYTES;
}

static bool has_room(const struct batch *b, size_t bytes, size_t frames)
{
	return b->len + bytes <= BATCH_BYTES && b->n + frames <= BATCH_FRAMES;
}

static void hear(struct flow *f, enum side side, uint64_t ts_ns)
{
	f->turn = side == SIDE_SERVER;
	if (f->turn)
		f->doubt = false;
	f->heard_ns = ts_ns;
}

/* From now on bytes are dropped up to the next border. */
static void seek(struct flow *f)
{
	if (http1_lost(&f->http, SIDE_SERVER) && f->sync == SYNC_OK)
		f->unbegun = http1_outstanding(&f->http);
	f->sync = SYNC_SEEK;
	f->presumed = f->await = false;
}

/* It was HTTP and has become something else: look for the next request all the same. */
static void revive(struct flow *f)
{
	f->http.is = HTTP1_YES;
	(void)http1_skip(&f->http, SIDE_CLIENT, 0);
	(void)http1_skip(&f->http, SIDE_SERVER, 0);
	f->http.s[SIDE_CLIENT].phase = f->http.s[SIDE_SERVER].phase = HTTP1_LOST;
	f->unbegun = http1_outstanding(&f->http);
}

static void close_broken(const struct flow_out *o)
{
	if (o->f->state != FLOW_OPEN)
		return;
	flowseg_close(o, SIDE_CLIENT);
	o->f->breaks++;
}

/* What was presumed at the begin of this incarnation has turned out to be wrong. */
static void again(struct piece *p)
{
	struct flow *f = p->out.f;

	close_broken(&p->out);
	f->overlap = true;
	if (f->http.is == HTTP1_BROKEN)
		revive(f);
	else
		(void)http1_skip(&f->http, SIDE_SERVER, 0);
	seek(f);
	f->unbegun = http1_outstanding(&f->http) + 2; /* the one too many, and at least one that is not known */
}

static void drop(struct piece *p, size_t n)
{
	p->out.f->s[p->side].resync += n;
	p->pos += n;
}

/* Forge what is pending. */
static void flush(struct piece *p, bool hold)
{
	struct flow *f = p->out.f;
	struct flow_side *s = &f->s[p->side];

	if (!p->pend)
		return;
	if (p->fresh && s->acked != s->edge)
		flowseg_ack(&p->out, !p->side);
	p->fresh = false;
	flowseg_data(&p->out, p->side, p->data + p->pos - p->pend, p->pend, hold || p->stops >= FLOW_STOPS);
	p->forged += p->pend;
	p->pend = 0;
	flowseg_edges(f);
}

/* A request begins, and the parser knows both sides: learn how this client takes its turns. */
static void learn_manner(struct piece *p)
{
	struct flow *f = p->out.f;
	bool turn = f->turn && !p->pos;

	if (!http1_outstanding(&f->http)) {
		f->waits = (uint8_t)(f->waits + (f->burst && f->waits < WAITS_ENOUGH));
		f->burst = false;
	} else if (turn) {
		f->doubt = true;
	} else {
		f->burst = f->pipelines = true;
	}
}

/* A request begins when the server was heard last, and nobody has counted: is nothing outstanding? */
static bool presume_drained(const struct piece *p)
{
	const struct flow *f = p->out.f;

	if (!f->turn || p->pos || p->cont)
		return false;
	return (!f->overlap && (!f->pipelines || f->waits >= WAITS_ENOUGH)) ||
	       p->out.ts_ns >= f->heard_ns + FLOW_QUIET_NS;
}

static void rotate_if_due(struct piece *p)
{
	struct flow *f = p->out.f;
	uint64_t limit = p->out.c->rotate;

	if (f->state != FLOW_OPEN || !limit || f->http.is != HTTP1_YES || http1_outstanding(&f->http) ||
	    !http1_at_border(&f->http, SIDE_SERVER))
		return;
	if (f->s[SIDE_CLIENT].bytes < limit && f->s[SIDE_SERVER].bytes < limit)
		return;
	flush(p, false);
	flowseg_close(&p->out, SIDE_CLIENT);
	f->rotations++;
}

/* A client record that may be a request, of a client of whose bytes some are lost. */
static bool resume_lost_client(struct piece *p)
{
	struct flow *f = p->out.f;
	bool server_lost = http1_lost(&f->http, SIDE_SERVER);

	if (p->pos || p->cont || !f->turn)
		return false;
	if (!http1_like_request(p->data, p->len)) {
		if (f->http.is == HTTP1_UNKNOWN && ++f->misses >= MISSES_MAX)
			f->http.is = HTTP1_NO;
		return false;
	}
	if (!server_lost && (!http1_at_border(&f->http, SIDE_SERVER) || http1_outstanding(&f->http))) {
		f->overlap = true;
		return false;
	}
	if (!presume_drained(p))
		return false;
	http1_sync(&f->http, SIDE_CLIENT);
	http1_forget(&f->http);
	f->presumed = true;
	f->await = server_lost;
	return true;
}

/* While bytes are dropped: does the client's next byte open the next incarnation? */
static bool resume(struct piece *p)
{
	struct flow *f = p->out.f;
	if (http1_lost(&f->http, SIDE_CLIENT))
		return resume_lost_client(p);
	if (!http1_begins(&f->http, SIDE_CLIENT, p->data[p->pos]))
		return false;
	if (!http1_lost(&f->http, SIDE_SERVER)) { /* both sides are known: count */
		learn_manner(p);
		f->presumed = f->await = false;
		return true;
	}
	if (f->unbegun && !presume_drained(p)) {
		f->unbegun++;
		return false;
	}
	http1_forget(&f->http);
	f->presumed = f->unbegun > 0;
	f->await = true;
	return true;
}

/* Does a server record begin with the whole status line of a final response? */
static bool is_final(const struct piece *p)
{
	return !p->pos && !p->cont && p->len > 12 && http1_like_status(p->data, p->len) && p->data[9] >= '2';
}

/* Bytes between a break and the next border. */
static void step_seek(struct piece *p)
{
	struct flow *f = p->out.f;
	struct http1 *h = &f->http;
	unsigned ev;

	if (h->is <= HTTP1_YES && p->side == SIDE_CLIENT && resume(p)) {
		f->sync = SYNC_OK;
		f->misses = 0;
		f->pair_from = h->started;
		return;
	}
	if (h->is == HTTP1_UNKNOWN && p->side == SIDE_SERVER) {
		if (http1_lost(h, SIDE_CLIENT))
			(void)http1_skip(h, SIDE_SERVER, 0); /* who knows in the middle of what */
		else
			h->is = HTTP1_NO; /* the server speaks first */
	}
	if (h->is == HTTP1_NO) {
		if (!p->pos && !p->cont) {
			f->sync = SYNC_OK;
			f->presumed = f->await = false;
		} else {
			drop(p, p->len - p->pos);
		}
		return;
	}
	if (p->side == SIDE_SERVER && http1_lost(h, SIDE_SERVER) && is_final(p) && f->unbegun)
		f->unbegun--;
	if (http1_lost(h, p->side))
		drop(p, p->len - p->pos);
	else
		drop(p, http1_feed(h, p->side, p->data + p->pos, p->len - p->pos, &ev));
	if (h->is == HTTP1_BROKEN)
		revive(f);
}

/* Server bytes that belong to no request of this incarnation are dropped. Returns true if the next
 * ones were. */
static bool step_unpaired(struct piece *p)
{
	struct flow *f = p->out.f;
	struct http1 *h = &f->http;
	unsigned ev;

	if (p->side != SIDE_SERVER || h->is > HTTP1_YES || f->state != FLOW_OPEN)
		return false;
	if (f->await) {
		if (!p->pos && !p->cont && http1_like_status(p->data, p->len)) {
			http1_sync(h, SIDE_SERVER);
			f->await = false;
			return false;
		}
		if (f->presumed)
			again(p);
		drop(p, p->len - p->pos);
		return true;
	}
	if (f->presumed && !http1_outstanding(h) && http1_begins(h, SIDE_SERVER, p->data[p->pos])) {
		flush(p, false);
		again(p); /* a response too many: the pairs were wrong */
		return true;
	}
	if ((int32_t)(h->done - f->pair_from) >= 0)
		return false;
	drop(p, http1_feed(h, SIDE_SERVER, p->data + p->pos, p->len - p->pos, &ev));
	if (h->is > HTTP1_YES)
		again(p);
	return true;
}

/* Bytes that are forged. */
static void step_forge(struct piece *p)
{
	struct flow *f = p->out.f;
	struct http1 *h = &f->http;
	struct flow_side *s = &f->s[p->side];
	unsigned ev;
	size_t n;

	if (h->is <= HTTP1_YES ? http1_begins(h, p->side, p->data[p->pos]) : !p->pos && !p->cont) {
		if (p->side == SIDE_CLIENT && h->is == HTTP1_YES) {
			learn_manner(p);
			rotate_if_due(p);
		}
		p->fresh = !p->pend;
	}
	if (f->state != FLOW_OPEN)
		flowseg_open(&p->out);
	n = http1_feed(h, p->side, p->data + p->pos, p->len - p->pos, &ev);
	if (f->presumed && h->is == HTTP1_BROKEN) {
		flush(p, false);
		again(p);
		drop(p, n);
		return;
	}
	p->pos += n;
	p->pend += n;
	if (ev & (HTTP1_HEAD_END | HTTP1_HEAD_LONG) && s->seq - s->acked + p->pend > FLOW_ACK_MAX)
		flush(p, true);
	if (ev & HTTP1_MSG_END && p->stops < FLOW_STOPS) {
		p->stops++;
		flush(p, false);
	}
	flowseg_edges(f); /* what was taken for a header may be none */
}

ssize_t flow_data(struct flow *f, const struct flow_conf *c, enum side side, const uint8_t *data, size_t len, bool cont,
		  uint64_t ts_ns, struct batch *b)
{
	struct piece p = {
		.out = {.f = f, .c = c, .b = b, .ts_ns = ts_ns},
		.side = side,
		.data = data,
		.len = len,
		.cont = cont,
	};

	if (!len)
		return 0;
	if (!has_room(b, flow_room(c, len), flow_frames(c, len)))
		return -ENOBUFS;
	if (side == SIDE_SERVER && f->doubt) /* the response was under way indeed, its end was not lost */
		f->overlap = true;
	while (p.pos < len) {
		if (f->sync == SYNC_SEEK)
			step_seek(&p);
		else if (!step_unpaired(&p))
			step_forge(&p);
	}
	flush(&p, http1_in_header(&f->http, side));
	hear(f, side, ts_ns);
	return (ssize_t)p.forged;
}

int flow_lost(struct flow *f, const struct flow_conf *c, enum side side, uint64_t len, uint64_t ts_ns, struct batch *b)
{
	struct flow_out o = {.f = f, .c = c, .b = b, .ts_ns = ts_ns};
	bool was_lost = http1_lost(&f->http, SIDE_SERVER);
	uint32_t unbegun = http1_unbegun(&f->http);

	if (!has_room(b, FLOW_ROOM_CLOSE, FLOW_FRAMES_CLOSE))
		return -ENOBUFS;
	close_broken(&o);
	seek(f);
	hear(f, side, ts_ns);
	if (f->http.is == HTTP1_NO)
		return 0;
	if (f->http.is == HTTP1_BROKEN)
		revive(f);
	else if (!http1_skip(&f->http, side, len) && side == SIDE_SERVER && !was_lost)
		f->unbegun = unbegun;
	return 0;
}

/* The next byte opens an incarnation only if nothing is under way. */
static void seek_unless_at_border(struct flow *f)
{
	const struct http1 *h = &f->http;

	if (f->sync == SYNC_OK && http1_at_border(h, SIDE_CLIENT) && http1_at_border(h, SIDE_SERVER) &&
	    !http1_outstanding(h)) {
		f->presumed = false;
		return;
	}
	seek(f);
	if (h->is == HTTP1_BROKEN)
		revive(f);
}

int flow_cut(struct flow *f, const struct flow_conf *c, uint64_t ts_ns, struct batch *b)
{
	struct flow_out o = {.f = f, .c = c, .b = b, .ts_ns = ts_ns};

	if (!has_room(b, FLOW_ROOM_CLOSE, FLOW_FRAMES_CLOSE))
		return -ENOBUFS;
	close_broken(&o);
	seek_unless_at_border(f);
	return 0;
}

void flow_forget(struct flow *f)
{
	if (f->state == FLOW_OPEN) {
		flowseg_closed(f);
		f->breaks++;
	}
	seek_unless_at_border(f);
}

int flow_settle(struct flow *f, const struct flow_conf *c, uint64_t ts_ns, struct batch *b)
{
	struct flow_out o = {.f = f, .c = c, .b = b, .ts_ns = ts_ns};

	if (f->state != FLOW_OPEN)
		return 0;
	if (f->s[SIDE_CLIENT].acked == f->s[SIDE_CLIENT].edge && f->s[SIDE_SERVER].acked == f->s[SIDE_SERVER].edge)
		return 0;
	if (!has_room(b, FLOW_ROOM_CLOSE, FLOW_FRAMES_CLOSE))
		return -ENOBUFS;
	for (int i = 0; i < 2; i++)
		if (f->s[i].acked != f->s[i].edge)
			flowseg_ack(&o, (enum side) !i);
	return 0;
}

/* Flows that fell silent together do not speak again together. */
static uint64_t idle_ns(const struct flow *f, const struct flow_conf *c)
{
	uint64_t mix = f->id * 0x9e3779b97f4a7c15u >> 32;

	return c->keepalive_ns - (c->keepalive_ns / 4) * (mix & 1023) / 1024;
}

int flow_tick(struct flow *f, const struct flow_conf *c, uint64_t now_ns, uint64_t ts_ns, struct batch *b)
{
	struct flow_out o = {.f = f, .c = c, .b = b, .ts_ns = ts_ns};

	if (f->state != FLOW_OPEN) {
		f->due_ns = UINT64_MAX;
		return 0;
	}
	if (!has_room(b, FLOW_ROOM_CLOSE, FLOW_FRAMES_CLOSE))
		return -ENOBUFS;
	if ((f->s[SIDE_CLIENT].owes_echo || f->s[SIDE_SERVER].owes_echo) && !f->echo_at_ns)
		f->echo_at_ns = now_ns + c->echo_ns;
	if (f->echo_at_ns && now_ns >= f->echo_at_ns) {
		for (int i = 0; i < 2; i++)
			if (f->s[i].owes_echo)
				flowseg_ack(&o, (enum side)i);
		f->echo_at_ns = 0;
	}
	if (!f->idle_at_ns)
		f->idle_at_ns = now_ns + idle_ns(f, c);
	if (c->keepalive_ns && now_ns >= f->idle_at_ns) {
		flowseg_ack(&o, SIDE_CLIENT);
		flowseg_ack(&o, SIDE_SERVER);
		f->idle_at_ns = now_ns + idle_ns(f, c);
	}
	f->due_ns = c->keepalive_ns ? f->idle_at_ns : UINT64_MAX;
	if (f->echo_at_ns && f->echo_at_ns < f->due_ns)
		f->due_ns = f->echo_at_ns;
	return 0;
}

int flow_end(struct flow *f, const struct flow_conf *c, enum side first, uint64_t ts_ns, struct batch *b)
{
	struct flow_out o = {.f = f, .c = c, .b = b, .ts_ns = ts_ns};

	if (f->state != FLOW_OPEN)
		return 0;
	if (!has_room(b, FLOW_ROOM_CLOSE, FLOW_FRAMES_CLOSE))
		return -ENOBUFS;
	flowseg_close(&o, first);
	return 0;
}
