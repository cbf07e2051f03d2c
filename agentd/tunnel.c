/* SPDX-License-Identifier: Apache-2.0 */
/* tunnel.c - the sink that sends batches to a receiver through TLS (sink.h, docs/wire.md).
 *
 *   RESOLVING -> CONNECTING -> HANDSHAKE -> HELLO -> UP       any trouble -> IDLE, and again after a back-off
 *
 * Only UP takes batches. What is handed over goes straight to TLS while nothing waits, else behind the backlog. */
#include "sink.h"

#include <assert.h>
#include <errno.h>
#include <ev.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/random.h>
#include <unistd.h>

#include "backlog.h"
#include "common/forge.h"
#include "common/local.h"
#include "common/log.h"
#include "common/own.h"
#include "common/pcapng.h"
#include "common/sock.h"
#include "common/tls.h"
#include "ledger.h"
#include "resolve.h"

#define COMPONENT "tunnel"
#define DEFAULT_PORT 3005
#define DEFAULT_MTU 1500
#define CONNECT_S 5.0 /* for one address; also for the TLS handshake */
#define HELLO_S 1.0   /* after which a receiver that says nothing is taken for a native one */
#define BACKOFF_MIN_S 0.2
#define BACKOFF_MAX_S 5.0
#define STEADY_S 5.0	/* a tunnel that was up so long starts over with the shortest back-off */
#define MESSAGE_S 30.0	/* between two lines about the same trouble */
#define STATISTICS_S 10 /* ticks of a second */
#define SILENCE_S 45	/* a receiver of ours says something at least every 10 s */
#define DRAIN_S 5.0
#define IN_SIZE 8192	 /* bytes of the longest block a receiver may send */
#define IN_READS 16	 /* so often in one go is there more from a receiver than it has to say */
#define UNACKED_MS 60000 /* a native receiver's TCP acknowledges or takes something in this time */

enum state {
	IDLE,	    /* waits for the back-off to end */
	RESOLVING,  /* a thread looks the name up */
	CONNECTING, /* TCP */
	HANDSHAKE,  /* TLS */
	HELLO,	    /* ours is sent, the receiver's awaited */
	UP,
};

struct tunnel {
	struct sink s; /* first: a sink is a tunnel */
	struct ev_loop *loop;
	char host[SOCK_HOST_MAX];
	uint16_t port;
	uint32_t want_mtu; /* 0: as the receiver says */
	enum state state;
	struct tls_ctx *ctx;
	struct tls *tls;
	int fd;
	struct own *own;
	unsigned attempts; /* connections so far */
	struct resolve *resolve;
	struct resolve_addr addr[RESOLVE_MAX];
	int n_addr, i_addr;
	char peer[SOCK_STRLEN];
	ev_io io;
	ev_timer deadline; /* of a state; in IDLE the back-off */
	ev_timer tick;	   /* every second while HELLO or UP */
	double backoff_s;
	double up_at, said_at, heard_at; /* ev_now(); said_at 0: nothing said since the last success */
	bool native; /* a receiver that never says hello: TCP's word has to do for its acknowledgement */
	bool deaf;   /* native, and what it sends is no pcapng: not read any further */
	bool draining;
	unsigned ticks;
	char trouble[TLS_ERR];
	char receiver[2 * LOCAL_TEXT + 8]; /* "host (version)" as its hello says */
	/* the stream to the receiver */
	struct backlog backlog;
	struct ledger ledger;
	uint64_t put_off;	      /* bytes of the stream handed over: sent or in the backlog */
	uint64_t mark_off, mark_wire; /* native: where stream and socket stood at the last mark */
	/* the receiver's stream */
	struct pcapng in_ng;
	size_t in_len;
	uint8_t in[IN_SIZE];
};

static void step(struct tunnel *t);
static void stop(struct tunnel *t, const char *fmt, ...) LOG_FMT(2, 3);

static struct tunnel *of(struct sink *s)
{
	return (struct tunnel *)s;
}

static void count(struct tunnel *t)
{
	t->s.n.in_flight = t->ledger.in_flight;
	t->s.n.backlog = t->ledger.backlog;
}

static void watch(struct tunnel *t, int events)
{
	if (t->io.events == events && ev_is_active(&t->io))
		return;
	ev_io_stop(t->loop, &t->io);
	ev_io_set(&t->io, t->fd, events);
	if (events != 0)
		ev_io_start(t->loop, &t->io);
}

static void set_deadline(struct tunnel *t, double after_s)
{
	ev_timer_stop(t->loop, &t->deadline);
	if (after_s < 0)
		return;
	/* libev counts from when the loop last woke, which may be a while ago */
	ev_now_update(t->loop);
	ev_timer_set(&t->deadline, after_s, 0);
	ev_timer_start(t->loop, &t->deadline);
}

/* The one place where a state begins. */
static void become(struct tunnel *t, enum state state)
{
	t->state = state;
	switch (state) {
	case IDLE:
		set_deadline(t, t->backoff_s);
		t->backoff_s = t->backoff_s * 2 < BACKOFF_MAX_S ? t->backoff_s * 2 : BACKOFF_MAX_S;
		break;
	case RESOLVING:
		set_deadline(t, -1);
		break;
	case CONNECTING:
	case HANDSHAKE:
		set_deadline(t, CONNECT_S);
		break;
	case HELLO:
		set_deadline(t, HELLO_S);
		ev_timer_again(t->loop, &t->tick);
		break;
	case UP:
		set_deadline(t, -1);
		t->up_at = t->heard_at = ev_now(t->loop);
		t->said_at = 0;
		t->trouble[0] = '\0';
		break;
	}
}

static void hang_up(struct tunnel *t)
{
	if (t->fd == -1)
		return;
	own_tunnel_over(t->own, t->attempts % OWN_TUNNELS);
	close(t->fd);
	t->fd = -1;
}

/* Undo whatever the state had. May be called in any state, twice too. */
static void release(struct tunnel *t)
{
	ev_timer_stop(t->loop, &t->deadline);
	ev_timer_stop(t->loop, &t->tick);
	ev_io_stop(t->loop, &t->io);
	tls_free(&t->tls);
	hang_up(t);
	resolve_free(&t->resolve);
	backlog_clear(&t->backlog);
	t->s.n.unknown += ledger_break(&t->ledger);
	count(t);
}

/* Give this attempt, or this tunnel, up; say why at most every half minute; try again later. */
static void stop(struct tunnel *t, const char *fmt, ...)
{
	bool was_up = t->state == UP;
	double now = ev_now(t->loop);
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(t->trouble, sizeof(t->trouble), fmt, ap);
	va_end(ap);
	if (was_up) {
		log_warn(COMPONENT, "lost the receiver %s: %s", t->peer, t->trouble);
		t->said_at = now;
		t->s.n.reconnects++;
		t->s.epoch++;
		if (now - t->up_at >= STEADY_S)
			t->backoff_s = BACKOFF_MIN_S;
	} else if (t->said_at == 0 || now - t->said_at >= MESSAGE_S) {
		log_warn(COMPONENT, "cannot reach the receiver %s port %u: %s; trying again", t->host, t->port,
			 t->trouble);
		t->said_at = now;
	}
	release(t);
	if (t->draining)
		t->s.drained = true;
	become(t, IDLE);
}

/* --- the stream out --- */

static bool tls_broke(struct tunnel *t, enum tls_ret r)
{
	if (r != TLS_FAILED && r != TLS_CLOSED)
		return false;
	stop(t, "%s", tls_error(t->tls)[0] != '\0' ? tls_error(t->tls) : "closed by the receiver");
	return true;
}

/* Move the backlog into TLS, TLS into the socket. False: the tunnel is gone. */
static bool push(struct tunnel *t)
{
	enum tls_ret r = TLS_OK;
	const uint8_t *p;
	size_t len, n;

	while (r == TLS_OK && (p = backlog_head(&t->backlog, &len)) != NULL) {
		r = tls_write(t->tls, p, len, &n);
		backlog_consume(&t->backlog, n);
	}
	if (r == TLS_OK)
		r = tls_flush(t->tls);
	if (tls_broke(t, r))
		return false;
	ledger_sent(&t->ledger, t->put_off - t->backlog.len);
	count(t);
	watch(t, (t->deaf ? 0 : EV_READ) | (tls_unsent(t->tls) > 0 || t->backlog.len > 0 ? EV_WRITE : 0));
	return true;
}

/* Hand over bytes of the stream, whole blocks. Needs room in the backlog. False: the tunnel is gone. */
static bool hand(struct tunnel *t, const void *data, size_t len, uint64_t payload)
{
	size_t n = 0;

	if (t->backlog.len == 0 && tls_broke(t, tls_write(t->tls, data, len, &n)))
		return false;
	backlog_append(&t->backlog, (const uint8_t *)data + n, len - n);
	t->put_off += len;
	ledger_put(&t->ledger, t->put_off, payload);
	return push(t);
}

static bool hand_local(struct tunnel *t, const struct local_msg *m)
{
	uint8_t buf[LOCAL_BLOCK_MAX];
	size_t len = local_write(m, buf);

	if (backlog_room(&t->backlog) < len)
		return true;
	return hand(t, buf, len, 0);
}

static bool hand_hello(struct tunnel *t)
{
	struct local_msg m = {.kind = BLOCK_HELLO, .hello = {.proto = LOCAL_PROTO, .version = TLSTAP_VERSION}};
	uint8_t buf[PCAPNG_HEAD + LOCAL_BLOCK_MAX];

	if (getrandom(m.hello.nonce, sizeof(m.hello.nonce), 0) != sizeof(m.hello.nonce) ||
	    gethostname(m.hello.host, sizeof(m.hello.host) - 1) == -1)
		m.hello.host[0] = '\0';
	pcapng_head(buf);
	t->put_off = 0;
	return hand(t, buf, PCAPNG_HEAD + local_write(&m, buf + PCAPNG_HEAD), 0);
}

/* --- the receiver's stream --- */

static uint32_t choose_mtu(const struct tunnel *t, uint32_t receiver)
{
	uint32_t mtu = t->want_mtu != 0 ? t->want_mtu : DEFAULT_MTU;

	if (receiver != 0 && mtu > receiver)
		mtu = receiver;
	return mtu < FORGE_MTU_MIN ? FORGE_MTU_MIN : mtu;
}

static void up(struct tunnel *t, uint32_t receiver_mtu)
{
	uint32_t mtu = choose_mtu(t, receiver_mtu);
	char tls[64], print[TLS_PRINT];

	if (mtu !=
	    t->s.mtu) /* whoever forges looks at it when the epoch changes; nothing is open yet at this receiver */
		t->s.epoch++;
	t->s.mtu = mtu;
	if (receiver_mtu != 0 && t->want_mtu > receiver_mtu)
		log_warn(COMPONENT, "the receiver takes an MTU of %u at most, not %u", receiver_mtu, t->want_mtu);
	tls_peer_print(t->tls, print);
	log_info(COMPONENT, "connected to %s, %s, %s, MTU %u, certificate SHA-256 %s", t->peer, t->receiver,
		 tls_describe(t->tls, tls, sizeof(tls)), t->s.mtu, print);
	become(t, UP);
}

/* A hello that came after we had taken the receiver for a native one: forge for its MTU from now on. */
static void late_hello(struct tunnel *t, uint32_t receiver_mtu)
{
	uint32_t mtu = choose_mtu(t, receiver_mtu);

	log_info(COMPONENT, "%s is %s after all, MTU %u", t->peer, t->receiver, mtu);
	if (mtu == t->s.mtu)
		return;
	t->s.mtu = mtu;
	t->s.epoch++;
}

/* False: the tunnel is gone. */
static bool on_hello(struct tunnel *t, const struct local_hello *h)
{
	const unsigned for_ever = 0;

	if (h->refusal[0] != '\0') {
		t->backoff_s = BACKOFF_MAX_S;
		stop(t, "it refuses us: %s", h->refusal);
		return false;
	}
	if (t->state == UP && !t->native) {
		stop(t, "it said hello twice");
		return false;
	}
	(void)snprintf(t->receiver, sizeof(t->receiver), "%.100s (receiverd %.40s)", h->host, h->version);
	t->native = false;
	/* It may hold us back for as long as its interface is gone; that it is alive is told by what it says
	 * (SILENCE_S). */
	(void)setsockopt(t->fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &for_ever, sizeof(for_ever));
	if (t->state == HELLO)
		up(t, h->mtu);
	else
		late_hello(t, h->mtu);
	return true;
}

static bool on_local(struct tunnel *t, struct cur body)
{
	struct local_msg m;

	t->heard_at = ev_now(t->loop);
	if (local_parse(body, &m) != 0) {
		stop(t, "it sent a malformed block");
		return false;
	}
	if (m.kind == BLOCK_HELLO)
		return on_hello(t, &m.hello);
	if (m.kind == BLOCK_ACK) {
		t->s.n.acked += ledger_acked(&t->ledger, m.ack);
		count(t);
	}
	return true;
}

/* Take the blocks out of t->in. False: the tunnel is gone. */
static bool take_blocks(struct tunnel *t)
{
	struct pcapng_block b;
	size_t off = 0;
	ssize_t n = 0;

	if (!t->in_ng.section && t->in_len >= 4 && !pcapng_magic(t->in)) {
		t->deaf = true; /* a native receiver that talks: nothing of ours can follow */
		t->in_len = 0;
		watch(t, t->io.events & ~EV_READ);
		return true;
	}
	while (off < t->in_len && (n = pcapng_next(&t->in_ng, t->in + off, t->in_len - off, &b)) > 0) {
		off += (size_t)n;
		if (b.kind == PCAPNG_LOCAL && !on_local(t, b.body))
			return false;
	}
	memmove(t->in, t->in + off, t->in_len - off);
	t->in_len -= off;
	if ((n < 0 && n != -EAGAIN) || t->in_len == IN_SIZE) {
		stop(t, "it sent something that is no pcapng stream");
		return false;
	}
	return true;
}

/* Take what the receiver says. False: the tunnel is gone. */
static bool pull(struct tunnel *t)
{
	unsigned reads = 0;
	enum tls_ret r;
	size_t n;

	do {
		if (reads++ == IN_READS) {
			stop(t, "it sends too much");
			return false;
		}
		r = tls_read(t->tls, t->in + t->in_len, IN_SIZE - t->in_len, &n);
		t->in_len += n;
		if (n > 0 && !take_blocks(t))
			return false;
	} while (r == TLS_OK && !t->deaf);
	return !tls_broke(t, r);
}

/* --- getting there --- */

/* Say that this connection is ours, so that no agent mirrors it. */
static void tell_own(struct tunnel *t, const struct sockaddr *to)
{
	struct sockaddr_storage sa = {0};
	socklen_t len = sizeof(sa);
	struct tuple ends = {0};

	if (getsockname(t->fd, (struct sockaddr *)&sa, &len) == -1)
		return;
	tuple_end(&ends, SIDE_CLIENT, (const struct sockaddr *)&sa);
	/* the peer's own word for what was named 0.0.0.0, if it has answered already */
	len = sizeof(sa);
	tuple_end(&ends, SIDE_SERVER,
		  getpeername(t->fd, (struct sockaddr *)&sa, &len) == 0 ? (const struct sockaddr *)&sa : to);
	own_tunnel(t->own, ++t->attempts % OWN_TUNNELS, &ends);
}

static void connect_next(struct tunnel *t)
{
	int fd = -EHOSTUNREACH;

	while (t->i_addr < t->n_addr) {
		const struct resolve_addr *a = &t->addr[t->i_addr++];

		fd = sock_tcp_connect((const struct sockaddr *)&a->sa, a->len);

		(void)sock_str((const struct sockaddr *)&a->sa, a->len, t->peer);
		if (fd >= 0) {
			t->fd = fd;
			tell_own(t, (const struct sockaddr *)&a->sa);
			become(t, CONNECTING);
			watch(t, EV_WRITE);
			return;
		}
	}
	stop(t, "%s", strerror(-fd));
}

/* This address did not do: the name's next one, if there is one. */
static void try_next(struct tunnel *t, const char *why)
{
	if (t->i_addr >= t->n_addr) {
		stop(t, "%s", why);
		return;
	}
	ev_io_stop(t->loop, &t->io);
	tls_free(&t->tls);
	hang_up(t);
	connect_next(t);
}

static void set_options(int fd)
{
	const int on = 1, idle = 10, interval = 5, probes = 4;
	const unsigned timeout_ms = UNACKED_MS;

	(void)setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
	(void)setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof(idle));
	(void)setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &interval, sizeof(interval));
	(void)setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &probes, sizeof(probes));
	(void)setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &timeout_ms, sizeof(timeout_ms));
}

static void on_connected(struct tunnel *t)
{
	int r = sock_error(t->fd);

	if (r != 0) {
		try_next(t, strerror(-r));
		return;
	}
	set_options(t->fd);
	if (tls_new(&t->tls, t->ctx, t->fd, t->host) != 0) {
		stop(t, "out of memory");
		return;
	}
	become(t, HANDSHAKE);
	step(t);
}

static void on_handshake(struct tunnel *t)
{
	enum tls_ret r = tls_handshake(t->tls);
	char why[TLS_ERR];

	switch (r) {
	case TLS_WANT_READ:
		watch(t, EV_READ);
		return;
	case TLS_WANT_WRITE:
		watch(t, EV_READ | EV_WRITE);
		return;
	case TLS_OK:
		break;
	default:
		(void)snprintf(why, sizeof(why), "TLS handshake: %.200s", tls_error(t->tls));
		try_next(t, why);
		return;
	}
	t->in_len = 0;
	t->native = t->deaf = false;
	t->ticks = 0;
	t->mark_off = t->mark_wire = 0;
	pcapng_init(&t->in_ng);
	(void)snprintf(t->receiver, sizeof(t->receiver), "a native receiver");
	become(t, HELLO);
	(void)hand_hello(t);
}

static void on_resolved(struct tunnel *t)
{
	const char *why;
	int n = resolve_result(t->resolve, t->addr, &why);

	if (n == -EAGAIN)
		return;
	ev_io_stop(t->loop, &t->io);
	resolve_free(&t->resolve);
	t->n_addr = n > 0 ? n : 0;
	t->i_addr = 0;
	if (n < 0)
		stop(t, "the name does not resolve (%s)", why);
	else
		connect_next(t);
}

static void begin(struct tunnel *t)
{
	int r = resolve_start(&t->resolve, t->host, t->port);

	(void)snprintf(t->peer, sizeof(t->peer), "%.40s:%u", t->host, t->port);
	if (r != 0) {
		stop(t, "the name cannot be looked up (%s)", strerror(-r));
		return;
	}
	become(t, RESOLVING);
	ev_io_set(&t->io, resolve_fd(t->resolve), EV_READ);
	ev_io_start(t->loop, &t->io);
	on_resolved(t);
}

static void step(struct tunnel *t)
{
	switch (t->state) {
	case IDLE:
		begin(t);
		break;
	case RESOLVING:
		on_resolved(t);
		break;
	case CONNECTING:
		on_connected(t);
		break;
	case HANDSHAKE:
		on_handshake(t);
		break;
	case HELLO:
	case UP:
		if (t->deaf || pull(t))
			(void)push(t);
		break;
	}
}

static void check_drained(struct tunnel *t)
{
	if (t->draining && t->s.n.backlog == 0 && t->s.n.in_flight == 0 && tls_unsent(t->tls) == 0)
		t->s.drained = true;
}

static void on_io(struct ev_loop *loop, ev_io *w, int events)
{
	struct tunnel *t = w->data;

	(void)loop;
	(void)events;
	step(t);
	if (t->state == UP)
		check_drained(t);
}

static void on_deadline(struct ev_loop *loop, ev_timer *w, int events)
{
	struct tunnel *t = w->data;

	(void)loop;
	(void)events;
	switch (t->state) {
	case IDLE:
		if (!t->draining)
			begin(t);
		break;
	case CONNECTING:
		try_next(t, "no answer");
		break;
	case HANDSHAKE:
		try_next(t, "TLS handshake: no answer");
		break;
	case HELLO:
		t->native = true;
		up(t, 0);
		break;
	case RESOLVING:
		break;
	case UP: /* draining took too long */
		t->s.drained = true;
		break;
	}
}

/* A native receiver acknowledges nothing: what its TCP has acknowledged has to do. Once a second: was all that had
 * been written to the socket at the last mark acknowledged? Then so was the stream up to there. */
static void native_acks(struct tunnel *t)
{
	uint64_t sent = tls_sent(t->tls);
	int unacked = 0;

	if (ioctl(t->fd, TIOCOUTQ, &unacked) == -1 || unacked < 0)
		return;
	if (sent - (uint64_t)unacked >= t->mark_wire) {
		t->s.n.acked += ledger_acked(&t->ledger, t->mark_off);
		count(t);
		/* What TLS still gathers is not written: then the mark is where it was all written, next time. */
		if (tls_unsent(t->tls) == 0 && t->backlog.len == 0) {
			t->mark_off = t->put_off;
			t->mark_wire = sent;
		} else {
			t->mark_off = t->put_off - t->backlog.len;
			t->mark_wire = sent + tls_unsent(t->tls);
		}
	}
	check_drained(t);
}

static void on_tick(struct ev_loop *loop, ev_timer *w, int events)
{
	struct tunnel *t = w->data;

	(void)events;
	if (t->state != UP)
		return;
	if (t->native) {
		native_acks(t);
		return;
	}
	if (ev_now(loop) - t->heard_at > SILENCE_S) {
		stop(t, "silent for %d s", SILENCE_S);
		return;
	}
	if (++t->ticks % STATISTICS_S == 0) {
		struct local_msg m = {.kind = BLOCK_STATISTICS,
				      .statistics = {.put = t->s.n.put,
						     .unknown = t->s.n.unknown,
						     .reconnects = t->s.n.reconnects,
						     .captured = t->s.captured,
						     .capture_drops = t->s.capture_drops,
						     .hello_drops = t->s.hello_drops}};

		(void)hand_local(t, &m);
	}
}

/* --- the sink --- */

static bool tunnel_credit(struct sink *s)
{
	struct tunnel *t = of(s);

	return t->state == UP && !t->draining && ledger_room(&t->ledger) &&
	       backlog_room(&t->backlog) >= BATCH_BYTES + LOCAL_BLOCK_MAX;
}

static void tunnel_put(struct sink *s, const struct batch *b)
{
	struct tunnel *t = of(s);

	if (b->len == 0)
		return;
	s->n.put += b->payload;
	s->n.frames += b->n;
	for (unsigned i = 0; i < b->n; i++)
		s->n.bytes += b->frame[i].len;
	if (t->state == UP && (backlog_room(&t->backlog) < b->len || t->ledger.end - t->ledger.first >= LEDGER_MAX))
		stop(t, "the queue is full"); /* put without credit: a hole in the stream would be worse */
	if (t->state != UP) {
		s->n.unknown += b->payload;
		return;
	}
	/* If the tunnel breaks in there, this batch is unknown too, whether the ledger has it already or not. */
	if (!hand(t, b->buf, b->len, b->payload))
		s->n.unknown = s->n.put - s->n.acked;
}

static void tunnel_describe(struct sink *s, char *ret, size_t size)
{
	static const char *const doing[] = {
		[IDLE] = "waiting to try again", [RESOLVING] = "looking up its name", [CONNECTING] = "connecting",
		[HANDSHAKE] = "TLS handshake",	 [HELLO] = "awaiting its hello",
	};
	struct tunnel *t = of(s);

	if (t->state == UP)
		(void)snprintf(ret, size, "connected to %s, %s, MTU %u", t->peer, t->receiver, s->mtu);
	else
		(void)snprintf(ret, size, "not connected to %s:%u (%s)%s%s", t->host, t->port, doing[t->state],
			       t->trouble[0] != '\0' ? ": " : "", t->trouble);
}

static void tunnel_drain(struct sink *s)
{
	struct tunnel *t = of(s);

	if (t->draining)
		return;
	t->draining = true;
	if (t->state != UP) {
		s->drained = true;
		return;
	}
	set_deadline(t, DRAIN_S);
	if (push(t))
		check_drained(t);
}

static void tunnel_free(struct sink *s)
{
	struct tunnel *t = of(s);

	release(t);
	tls_ctx_free(&t->ctx);
	backlog_fini(&t->backlog);
	free(t);
}

static const struct sink_ops ops = {
	.name = "tunnel",
	.credit = tunnel_credit,
	.put = tunnel_put,
	.describe = tunnel_describe,
	.drain = tunnel_drain,
	.free = tunnel_free,
};

struct sink *sink_tunnel(struct ev_loop *loop, const char *host_port, uint32_t mtu, uint64_t queue, struct own *own,
			 char err[static SINK_ERR])
{
	struct tunnel *t = calloc(1, sizeof(*t));

	if (t == NULL) {
		(void)snprintf(err, SINK_ERR, "out of memory");
		return NULL;
	}
	t->s.ops = &ops;
	t->s.mtu = mtu != 0 ? mtu : DEFAULT_MTU;
	t->loop = loop;
	t->own = own;
	t->want_mtu = mtu;
	t->fd = -1;
	t->backoff_s = BACKOFF_MIN_S;
	ev_init(&t->io, on_io);
	ev_init(&t->deadline, on_deadline);
	ev_init(&t->tick, on_tick);
	t->tick.repeat = 1.0;
	t->io.data = t->deadline.data = t->tick.data = t;
	if (sock_parse(host_port, DEFAULT_PORT, t->host, &t->port) != 0) {
		(void)snprintf(err, SINK_ERR, "receiver \"%.100s\": expected HOST[:PORT]", host_port);
		goto fail;
	}
	if (mtu != 0 && (mtu < FORGE_MTU_MIN || mtu > FORGE_MTU_MAX)) {
		(void)snprintf(err, SINK_ERR, "MTU %u: expected %u to %u", mtu, FORGE_MTU_MIN, FORGE_MTU_MAX);
		goto fail;
	}
	if (backlog_init(&t->backlog, queue < 4 * BATCH_BYTES ? 4 * BATCH_BYTES : queue) != 0) {
		(void)snprintf(err, SINK_ERR, "no memory for a queue of %llu bytes", (unsigned long long)queue);
		goto fail;
	}
	if (tls_ctx_client(&t->ctx, err) != 0)
		goto fail;
	begin(t);
	return &t->s;
fail:
	release(t);
	tls_ctx_free(&t->ctx);
	backlog_fini(&t->backlog);
	free(t);
	return NULL;
}
