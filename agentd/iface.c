/* SPDX-License-Identifier: Apache-2.0 */
/* iface.c - the sink that sends frames out of an interface of this host (sink.h, common/netif.h).
 *
 * Frames go out at once. What the interface does not take, because it is full or gone, waits here, and there is no
 * credit until it is sent. A frame that can never be sent is counted and left out. */
#include "sink.h"

#include <errno.h>
#include <ev.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/cur.h"
#include "common/forge.h"
#include "common/log.h"
#include "common/netif.h"

#define COMPONENT "interface"
#define DEFAULT_MTU 1500
#define BUSY_S 0.001 /* after the interface's queue was full */
#define LOST_S 0.25  /* between two looks for an interface that is gone */
#define MESSAGE_S 30.0

struct iface {
	struct sink s; /* first: a sink is an iface */
	struct ev_loop *loop;
	struct netif nif;
	ev_io io;
	ev_timer retry;
	bool draining;
	double said_at;	   /* ev_now() of the last line about a lost interface; 0: it is there */
	double refused_at; /* of the last line about a refused frame */
	unsigned n, next;  /* frames rest: rest[next..n) */
	struct iovec frame[BATCH_FRAMES];
	uint8_t buf[BATCH_BYTES];
};

static struct iface *of(struct sink *s)
{
	return (struct iface *)s;
}

/* Bytes of cleartext in a frame that flow.c forged: Ethernet, IPv4 or IPv6, TCP. */
static uint64_t payload_of(const struct iovec *f)
{
	struct cur c = cur_over(f->iov_base, f->iov_len, true);
	uint16_t type, total;
	uint8_t vhl, proto, off;
	size_t ip;

	if (!cur_skip(&c, 12) || !cur_u16(&c, &type) || c.left < 40)
		return 0;
	if (type == 0x0800) {
		vhl = c.p[0];
		ip = (size_t)(vhl & 15) * 4;
		proto = c.p[9];
		if (!cur_skip(&c, 2) || !cur_u16(&c, &total) || ip < 20 || !cur_skip(&c, ip - 4) || total < ip)
			return 0;
		total = (uint16_t)(total - ip);
	} else {
		proto = c.p[6];
		if (type != 0x86DD || !cur_skip(&c, 4) || !cur_u16(&c, &total) || !cur_skip(&c, 34))
			return 0;
	}
	if (proto != IPPROTO_TCP || c.left < 20)
		return 0;
	off = (uint8_t)((c.p[12] >> 4) * 4);
	return total > off ? total - off : 0;
}

static void refused(struct iface *f, const struct iovec *frame, int err)
{
	uint64_t n = payload_of(frame);

	f->s.n.errors++;
	f->s.n.backlog -= n;
	f->s.n.unknown += n;
	if (f->refused_at == 0 || ev_now(f->loop) - f->refused_at >= MESSAGE_S) {
		log_warn(COMPONENT, "%s refused a frame of %zu bytes: %s", f->nif.name, frame->iov_len, netif_why(err));
		f->refused_at = ev_now(f->loop);
	}
}

static void wait_writable(struct iface *f)
{
	ev_io_stop(f->loop, &f->io);
	ev_io_set(&f->io, f->nif.fd, EV_WRITE);
	ev_io_start(f->loop, &f->io);
}

static void wait_time(struct iface *f, double after_s)
{
	ev_timer_stop(f->loop, &f->retry);
	ev_timer_set(&f->retry, after_s, 0);
	ev_timer_start(f->loop, &f->retry);
}

/* Send frame[0..n) as far as it goes; then wait for what is needed to go on. Returns frames done with. */
static unsigned send_some(struct iface *f, struct iovec *frame, unsigned n)
{
	unsigned done = 0;

	while (done < n) {
		ssize_t r = netif_send(&f->nif, frame + done, n - done);

		if (r > 0) {
			done += (unsigned)r;
		} else if (r == -EAGAIN) {
			wait_writable(f);
			break;
		} else if (r == -ENOBUFS) {
			wait_time(f, BUSY_S);
			break;
		} else if (r == -ENETDOWN) {
			wait_time(f, LOST_S);
			break;
		} else {
			refused(f, frame + done, (int)-r);
			done++;
		}
	}
	return done;
}

static void settle(struct iface *f)
{
	f->s.n.acked += f->s.n.backlog;
	f->s.n.backlog = 0;
	f->n = f->next = 0;
	if (f->draining)
		f->s.drained = true;
}

static void go_on(struct iface *f)
{
	f->next += send_some(f, f->frame + f->next, f->n - f->next);
	if (f->next == f->n)
		settle(f);
}

static void on_writable(struct ev_loop *loop, ev_io *w, int events)
{
	struct iface *f = w->data;

	(void)events;
	ev_io_stop(loop, w);
	go_on(f);
}

static void on_retry(struct ev_loop *loop, ev_timer *w, int events)
{
	struct iface *f = w->data;
	char err[NETIF_ERR];

	(void)events;
	if (f->nif.lost && netif_check(&f->nif, err) != 0) {
		if (f->said_at == 0 || ev_now(loop) - f->said_at >= MESSAGE_S) {
			log_warn(COMPONENT, "%s; waiting for it", err);
			f->said_at = ev_now(loop);
		}
		wait_time(f, LOST_S);
		return;
	}
	if (f->said_at != 0)
		log_info(COMPONENT, "interface %s is back", f->nif.name);
	f->said_at = 0;
	if (f->nif.mtu < f->s.mtu)
		log_warn(COMPONENT, "interface %s came back with MTU %u, below our %u", f->nif.name, f->nif.mtu,
			 f->s.mtu);
	go_on(f);
}

static bool iface_credit(struct sink *s)
{
	return of(s)->n == 0;
}

/* Keep the frames that the interface did not take. Returns how many had room. */
static unsigned keep(struct iface *f, const struct iovec *frame, unsigned n)
{
	size_t used =
		f->n == 0 ? 0 : (size_t)((uint8_t *)f->frame[f->n - 1].iov_base - f->buf) + f->frame[f->n - 1].iov_len;
	unsigned i;

	for (i = 0; i < n && f->n < BATCH_FRAMES && frame[i].iov_len <= BATCH_BYTES - used; i++) {
		memcpy(f->buf + used, frame[i].iov_base, frame[i].iov_len);
		f->frame[f->n++] = (struct iovec){.iov_base = f->buf + used, .iov_len = frame[i].iov_len};
		used += frame[i].iov_len;
	}
	return i;
}

static void iface_put(struct sink *s, const struct batch *b)
{
	struct iface *f = of(s);
	struct iovec frame[BATCH_FRAMES];
	unsigned done = 0;

	for (unsigned i = 0; i < b->n; i++) {
		frame[i] = (struct iovec){.iov_base = b->buf + b->frame[i].off, .iov_len = b->frame[i].len};
		s->n.bytes += b->frame[i].len;
	}
	s->n.put += b->payload;
	s->n.frames += b->n;
	s->n.backlog += b->payload;
	if (f->n == 0) {
		done = send_some(f, frame, b->n);
		if (done == b->n) {
			settle(f);
			return;
		}
	}
	done += keep(f, frame + done, b->n - done);
	while (done < b->n) /* put without credit and without room */
		refused(f, &frame[done++], ENOBUFS);
}

static void iface_describe(struct sink *s, char *ret, size_t size)
{
	const struct iface *f = of(s);

	(void)snprintf(ret, size, "replaying to %s, MTU %u%s", f->nif.name, s->mtu,
		       f->nif.lost ? ", which is gone or down" : "");
}

static void iface_drain(struct sink *s)
{
	struct iface *f = of(s);

	f->draining = true;
	s->drained = f->n == 0 || f->nif.lost; /* nobody can say when it comes back */
}

static void iface_free(struct sink *s)
{
	struct iface *f = of(s);

	ev_io_stop(f->loop, &f->io);
	ev_timer_stop(f->loop, &f->retry);
	netif_close(&f->nif);
	free(f);
}

static const struct sink_ops ops = {
	.name = "interface",
	.credit = iface_credit,
	.put = iface_put,
	.describe = iface_describe,
	.drain = iface_drain,
	.free = iface_free,
};

struct sink *sink_iface(struct ev_loop *loop, const char *iface, uint32_t mtu, bool force, char err[static SINK_ERR])
{
	struct iface *f = calloc(1, sizeof(*f));

	if (f == NULL) {
		(void)snprintf(err, SINK_ERR, "out of memory");
		return NULL;
	}
	f->loop = loop;
	f->s.ops = &ops;
	ev_init(&f->io, on_writable);
	ev_init(&f->retry, on_retry);
	f->io.data = f->retry.data = f;
	f->nif.fd = -1;
	if (netif_open(&f->nif, iface, force ? NETIF_FORCE : 0, err) != 0)
		goto fail;
	if (mtu != 0 && (mtu < FORGE_MTU_MIN || mtu > FORGE_MTU_MAX || mtu > f->nif.mtu)) {
		(void)snprintf(err, SINK_ERR, "MTU %u: expected %u to %u (MTU of interface %s)", mtu, FORGE_MTU_MIN,
			       f->nif.mtu < FORGE_MTU_MAX ? f->nif.mtu : FORGE_MTU_MAX, f->nif.name);
		goto fail;
	}
	f->s.mtu = mtu != 0 ? mtu : f->nif.mtu < DEFAULT_MTU ? f->nif.mtu : DEFAULT_MTU;
	return &f->s;
fail:
	iface_free(&f->s);
	return NULL;
}
