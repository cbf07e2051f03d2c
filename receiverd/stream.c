/* SPDX-License-Identifier: Apache-2.0 */
/* stream.c - one agent's bytes in (see stream.h). */
#include "stream.h"

#include <errno.h>
#include <string.h>
#include <time.h>

#define ETH_HEAD 14
#define VLAN_TAG 4

/* Frames that are checked and go to the injector together. */
struct run {
	unsigned n;
	struct iovec frame[NETIF_BATCH];
	uint64_t ts_ns[NETIF_BATCH];
	size_t end[NETIF_BATCH]; /* in buf, behind the frame's block */
	struct flows_frame flow[NETIF_BATCH];
	size_t done; /* in buf, behind the last block decided on */
};

void stream_init(struct stream *s, struct inject *inject, struct flows *flows, uint8_t *buf)
{
	*s = (struct stream){.inject = inject, .flows = flows, .buf = buf};
}

static void count(struct count *c, size_t bytes)
{
	c->frames++;
	c->bytes += bytes;
}

static void uncount(struct count *c, size_t bytes)
{
	c->frames--;
	c->bytes -= bytes;
}

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_REALTIME, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static bool has_vlan(const struct packet *k)
{
	return k->len >= ETH_HEAD + VLAN_TAG &&
	       (memcmp(k->data + 12, "\x81\x00", 2) == 0 || memcmp(k->data + 12, "\x88\xa8", 2) == 0);
}

static enum verdict check(const struct stream *s, const struct packet *k)
{
	if (k->link != LINK_ETHERNET || k->len < ETH_HEAD || k->len != k->orig)
		return VERDICT_POLICY;
	if (k->len > s->inject->mtu + ETH_HEAD + (has_vlan(k) ? VLAN_TAG : 0))
		return VERDICT_OVERSIZE;
	return VERDICT_INJECTED;
}

/* Send the run. 0: all of it is decided on. */
static int flush(struct stream *s, struct run *r)
{
	unsigned i = 0;
	int err = 0;

	while (i < r->n) {
		ssize_t n = s->discarding ? -EIO : inject_send(s->inject, r->frame + i, r->ts_ns + i, r->n - i);
		enum verdict v = n > 0 ? VERDICT_INJECTED : VERDICT_ERROR;

		if (n == -EAGAIN) {
			err = -EAGAIN;
			break;
		}
		for (unsigned stop = i + (n > 0 ? (unsigned)n : 1); i < stop; i++) {
			uncount(&s->n.queued, r->frame[i].iov_len);
			count(&s->n.by[v], r->frame[i].iov_len);
			if (v == VERDICT_INJECTED && r->flow[i].flow != NULL)
				flows_sent(&r->flow[i], r->frame[i].iov_base);
			r->done = r->end[i];
		}
	}
	r->n = 0;
	return err;
}

/* @end  in buf, behind the packet's block */
static int take_packet(struct stream *s, struct run *r, const struct packet *k, size_t end)
{
	struct flows_frame x = {0};
	enum verdict v = check(s, k);
	int err;

	s->begun = true;
	if (s->decided + end > s->seen) { /* else it was counted before the injector became busy */
		s->seen = s->decided + end;
		count(&s->n.received, k->len);
		count(&s->n.queued, k->len);
	}
	if (v == VERDICT_INJECTED) {
		x = flows_find(s->flows, &s->list, k->data, k->len);
		if (x.flow != NULL && x.flow->duplicate)
			v = VERDICT_DUPLICATE;
	}
	if (v != VERDICT_INJECTED) {
		err = flush(s, r);
		if (err != 0)
			return err;
		uncount(&s->n.queued, k->len);
		count(&s->n.by[v], k->len);
		r->done = end;
		return 0;
	}
	r->frame[r->n] = (struct iovec){.iov_base = (void *)(uintptr_t)k->data, .iov_len = k->len};
	r->ts_ns[r->n] = k->ts_ns;
	r->end[r->n] = end;
	r->flow[r->n] = x;
	r->n++;
	return r->n == NETIF_BATCH ? flush(s, r) : 0;
}

/* Close one flow. 0: done. */
static int close_flow(struct stream *s, struct rflow *f)
{
	uint8_t buf[FLOWS_CLOSE_BYTES];
	struct flows_frame x;
	size_t len;

	while ((len = flows_close_frame(f, buf, &x)) > 0) {
		struct iovec frame = {.iov_base = buf, .iov_len = len};
		uint64_t ts = now_ns();
		ssize_t n = inject_send(s->inject, &frame, &ts, 1);

		if (n == -EAGAIN)
			return -EAGAIN;
		if (n > 0)
			count(&s->n.closing, len);
		flows_sent(&x, buf); /* refused or not: it is not tried twice */
		if (f->phase == FLOW_OVER)
			s->n.flows_closed++;
	}
	return 0;
}

static int announce(struct stream *s, const struct local_flow *a)
{
	if (!s->has_hello)
		return -EPROTO;
	if (s->discarding)
		return 0;
	if (flows_full(s->flows)) {
		struct rflow *old = flows_victim(s->flows, &s->list);
		int err = close_flow(s, old);

		if (err != 0)
			return err;
		flows_drop(s->flows, old);
		s->flows->evicted++;
	}
	(void)flows_announce(s->flows, &s->list, a);
	return 0;
}

static int take_local(struct stream *s, struct cur body)
{
	struct local_msg m;
	int err = local_parse(body, &m);

	if (err != 0)
		return err;
	switch (m.kind) {
	case BLOCK_HELLO:
		if (s->begun)
			return -EPROTO;
		s->begun = s->has_hello = true;
		s->hello = m.hello;
		return 0;
	case BLOCK_FLOW:
		return announce(s, &m.flow);
	case BLOCK_STATISTICS:
		s->has_statistics = true;
		s->statistics = m.statistics;
		return 0;
	default:
		return 0;
	}
}

static int begin(struct stream *s)
{
	if (s->len < 4)
		return -EAGAIN;
	if (pcapng_magic(s->buf))
		s->format = STREAM_PCAPNG;
	else if (pcap_magic(s->buf))
		s->format = STREAM_PCAP;
	else
		return -EBADMSG;
	return 0;
}

/* Take what stands at buf[*pos]. 0: go on; -EAGAIN with @ret_busy false: more bytes are needed. */
static int take_one(struct stream *s, struct run *r, size_t *pos, bool *ret_busy)
{
	const uint8_t *p = s->buf + *pos;
	size_t left = s->len - *pos;
	struct pcapng_block b;
	ssize_t n;
	int err;

	if (s->format == STREAM_PCAP) {
		bool packet;

		n = pcap_next_packet(&s->pcap, p, left, &packet, &b.pkt);
		b.kind = packet ? PCAPNG_PACKET : PCAPNG_OTHER;
	} else {
		/* Anything but a packet may change the reader or the flows: it is read once, with nothing undecided
		 * before it. */
		if (left >= 4 && !pcapng_at_packet(&s->ng, p, left)) {
			*ret_busy = true;
			err = flush(s, r);
			if (err != 0)
				return err;
			*ret_busy = false;
		}
		n = pcapng_next(&s->ng, p, left, &b);
	}
	if (n < 0)
		return (int)n;
	*ret_busy = true;
	if (b.kind == PCAPNG_PACKET)
		err = take_packet(s, r, &b.pkt, *pos + (size_t)n);
	else
		err = b.kind == PCAPNG_LOCAL ? take_local(s, b.body) : 0;
	*ret_busy = err == -EAGAIN;
	if (err != 0)
		return err;
	*pos += (size_t)n;
	if (r->n == 0)
		r->done = *pos;
	return 0;
}

static const char *reason(int err)
{
	switch (err) {
	case -E2BIG:
		return "a block over the limit";
	case -EPROTO:
		return "a block in the wrong place";
	default:
		return "no pcapng or pcap stream";
	}
}

int stream_run(struct stream *s)
{
	struct run r;
	size_t pos = 0;
	bool busy = false;
	int err = 0;

	r.n = 0;
	r.done = 0;
	if (s->format == STREAM_UNKNOWN)
		err = begin(s);
	while (err == 0)
		err = take_one(s, &r, &pos, &busy);
	if (!busy) { /* the bytes have ended, or are wrong from here on */
		int last = flush(s, &r);

		if (last != 0)
			err = last;
		else if (err == -EAGAIN)
			err = 0;
	}
	memmove(s->buf, s->buf + r.done, s->len - r.done);
	s->len -= r.done;
	s->decided += r.done;
	s->n.stream += r.done;
	if (err != 0 && err != -EAGAIN)
		s->why = reason(err);
	return err;
}

int stream_end(struct stream *s)
{
	struct rflow *f;

	while ((f = s->list.oldest) != NULL) {
		int err = close_flow(s, f);

		if (err != 0)
			return err;
		flows_drop(s->flows, f);
	}
	return 0;
}

void stream_abandon(struct stream *s)
{
	while (s->list.oldest != NULL)
		flows_drop(s->flows, s->list.oldest);
}

void stream_discard(struct stream *s)
{
	s->discarding = true;
	(void)!stream_run(s); /* what is wrong with it, if anything, was told already */
	s->len = 0;
}

static void add(struct count *to, const struct count *c)
{
	to->frames += c->frames;
	to->bytes += c->bytes;
}

void tally_add(struct tally *to, const struct tally *t)
{
	add(&to->received, &t->received);
	for (int v = 0; v < VERDICTS; v++)
		add(&to->by[v], &t->by[v]);
	add(&to->queued, &t->queued);
	add(&to->closing, &t->closing);
	to->stream += t->stream;
	to->flows_closed += t->flows_closed;
}
