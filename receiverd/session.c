/* SPDX-License-Identifier: Apache-2.0 */
/* session.c - one connection of an agent (see session.h). */
#include "session.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "common/log.h"
#include "common/tls.h"
#include "complain.h"
#include "lane.h"
#include "receiver.h"

#define HANDSHAKE_S 5.0
#define HELLO_S 5.0
#define SILENCE_S 60.0	       /* an agent of ours says something at least every 10 s */
#define END_S 5.0	       /* for the injector to become ready, at the end */
#define ACK_S 0.05	       /* between two ACKs at the end of bursts */
#define HEARTBEAT 10	       /* ticks */
#define READ_BYTES (64 * 1024) /* cleartext taken in one go: stays in the cache until it is injected */
#define READ_ROUNDS 4	       /* before other sessions have their turn */
#define HELLO_MTU 1500	       /* what agents are told to forge, if the interface takes that */

static void set_deadline(struct session *s, double after_s)
{
	ev_timer_stop(s->lane->loop, &s->deadline);
	ev_timer_set(&s->deadline, after_s, 0);
	ev_timer_start(s->lane->loop, &s->deadline);
}

static void watch(struct session *s, int events)
{
	if (ev_is_active(&s->io) && s->io.events == events)
		return;
	ev_io_stop(s->lane->loop, &s->io);
	ev_io_set(&s->io, s->fd, events);
	if (events != 0)
		ev_io_start(s->lane->loop, &s->io);
}

/* Watch for what the state needs. */
static void watch_run(struct session *s)
{
	watch(s, (s->paused ? 0 : EV_READ) | (tls_unsent(s->tls) > 0 ? EV_WRITE : 0));
}

/* --- what the agent is told --- */

/* False: it was not said. */
static bool say(struct session *s, const struct local_msg *m, bool begin)
{
	uint8_t buf[PCAPNG_HEAD + LOCAL_BLOCK_MAX];
	size_t len = 0, n;

	if (begin) {
		pcapng_head(buf);
		len = PCAPNG_HEAD;
	}
	len += local_write(m, buf + len);
	/* An agent that does not read gets nothing more: whole blocks or none, and no memory beyond TLS's buffer. */
	if (TLS_OUT_MAX / 2 < tls_unsent(s->tls))
		return false;
	(void)tls_write(s->tls, buf, len, &n);
	(void)tls_flush(s->tls); /* an error shows at the next read */
	return true;
}

static void say_hello(struct session *s)
{
	struct local_msg m = {.kind = BLOCK_HELLO, .hello = {.proto = LOCAL_PROTO, .version = TLSTAP_VERSION}};
	uint32_t mtu = s->lane->inject.mtu;

	if (getrandom(m.hello.nonce, sizeof(m.hello.nonce), 0) != sizeof(m.hello.nonce) ||
	    gethostname(m.hello.host, sizeof(m.hello.host) - 1) == -1)
		m.hello.host[0] = '\0';
	m.hello.mtu = mtu < HELLO_MTU || s->lane->receiver->conf.mtu != 0 ? mtu : HELLO_MTU;
	if (s->stream.hello.proto != LOCAL_PROTO)
		(void)snprintf(m.hello.refusal, sizeof(m.hello.refusal),
			       "this receiver speaks version %d of the protocol, not %u", LOCAL_PROTO,
			       s->stream.hello.proto);
	(void)say(s, &m, true);
}

static void say_ack(struct session *s)
{
	struct local_msg m = {.kind = BLOCK_ACK, .ack = s->stream.decided};

	if (!s->stream.has_hello || s->acked == s->stream.decided)
		return;
	if (!say(s, &m, false))
		return;
	s->acked = s->stream.decided;
	s->acked_at = ev_now(s->lane->loop);
	s->ticks = 0;
}

/* Decide on what was read, as stream_run(). */
static int decide(struct session *s)
{
	size_t held = s->stream.len;
	int r = stream_run(&s->stream);

	s->lane->held -= held - s->stream.len;
	return r;
}

/* --- the end --- */

/* Go on ending: undecided frames, then the flows, then the socket. */
static void finish(struct session *s)
{
	int r = 0;

	if (!s->bad) {
		r = decide(s);
		s->bad = r != 0 && r != -EAGAIN;
	}
	if (r != -EAGAIN)
		r = stream_end(&s->stream);
	if (r == -EAGAIN)
		return; /* session_resume() or the deadline */
	say_ack(s);
	inject_settle(&s->lane->inject);
	lane_release(s->lane, s);
}

static void end(struct session *s)
{
	if (s->state == SESSION_END)
		return;
	lane_state(s->lane, s, SESSION_END);
	ev_io_stop(s->lane->loop, &s->io);
	ev_idle_stop(s->lane->loop, &s->more);
	set_deadline(s, END_S);
	finish(s);
}

/* The agent has misbehaved: say so, seldom; end. */
static void LOG_FMT(2, 3) bad(struct session *s, const char *fmt, ...)
{
	char text[256];
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	(void)complain(&s->sa, ev_now(s->lane->loop), "%s", text);
	s->lane->count.bad++;
	end(s);
}

/* The connection has ended, or broke. */
static void gone(struct session *s, enum tls_ret r)
{
	if (r == TLS_FAILED) {
		bad(s, "%s", tls_error(s->tls));
		return;
	}
	if (s->state == SESSION_RUN)
		(void)remark(&s->sa, ev_now(s->lane->loop), "has ended after %llu frames",
			     (unsigned long long)s->stream.n.received.frames);
	if (s->stream.len > 0 && !s->lane->inject.busy)
		bad(s, "ended in the middle of a block");
	else if (s->state != SESSION_RUN)
		bad(s, "closed before it sent anything");
	else
		end(s);
}

void session_end(struct session *s)
{
	end(s);
}

bool session_silent(const struct session *s)
{
	const struct stream *m = &s->stream;

	return (s->state == SESSION_HELLO && m->len == 0 && m->decided == 0) ||
	       (s->state == SESSION_RUN && !m->has_hello && m->n.received.frames == 0);
}

/* --- bytes in --- */

static void greet(struct session *s)
{
	const struct local_hello *h = &s->stream.hello;

	lane_state(s->lane, s, SESSION_RUN);
	s->heard_at = ev_now(s->lane->loop);
	s->greeted = s->stream.has_hello;
	if (!s->stream.has_hello) {
		ev_timer_stop(s->lane->loop, &s->deadline);
		(void)remark(&s->sa, s->heard_at, "a native agent");
		return;
	}
	set_deadline(s, SILENCE_S);
	say_hello(s);
	if (h->proto != LOCAL_PROTO) {
		bad(s, "speaks version %u of the protocol", h->proto);
		return;
	}
	(void)remark(&s->sa, s->heard_at, "agent %s (%s)", h->host, h->version);
}

static bool over(const struct session *s)
{
	return s->state == SESSION_END || s->state == SESSION_FREE;
}

/* Decide on what was read. False: the session is over, or busy. */
static bool run(struct session *s)
{
	int r = decide(s);

	if (r != 0 && r != -EAGAIN) {
		s->bad = true;
		bad(s, "%s", s->stream.why);
		return false;
	}
	if (s->stream.begun && (s->state == SESSION_HELLO || (s->stream.has_hello && !s->greeted)))
		greet(s);
	return !over(s) && r == 0;
}

static bool may_read(const struct session *s)
{
	return stream_room(&s->stream) > 0 && (!s->lane->inject.busy || s->lane->held < s->lane->receiver->conf.queue);
}

/* Read for a bounded time. */
static void take(struct session *s)
{
	enum tls_ret r = TLS_OK;

	for (int i = 0; i < READ_ROUNDS && r == TLS_OK && may_read(s); i++) {
		size_t n, room = stream_room(&s->stream);

		r = tls_read(s->tls, s->stream.buf + s->stream.len, room < READ_BYTES ? room : READ_BYTES, &n);
		if (n == 0)
			break;
		if (session_silent(s) && s->state == SESSION_HELLO)
			set_deadline(s, HELLO_S);
		s->stream.len += n;
		s->lane->held += n;
		s->heard_at = ev_now(s->lane->loop);
		(void)run(s);
		if (over(s))
			return;
	}
	s->paused = !may_read(s);
	if (r == TLS_CLOSED || r == TLS_FAILED) {
		gone(s, r);
		return;
	}
	if (r == TLS_WANT_READ) {
		inject_settle(&s->lane->inject);
		if (ev_now(s->lane->loop) - s->acked_at >= ACK_S)
			say_ack(s);
	}
	/* What TLS has read ahead wakes nobody: come back on our own. */
	if (r == TLS_OK && !s->paused)
		ev_idle_start(s->lane->loop, &s->more);
	else
		ev_idle_stop(s->lane->loop, &s->more);
	watch_run(s);
}

static void shake(struct session *s)
{
	enum tls_ret r = tls_handshake(s->tls);

	switch (r) {
	case TLS_WANT_READ:
		watch(s, EV_READ);
		break;
	case TLS_WANT_WRITE:
		watch(s, EV_READ | EV_WRITE);
		break;
	case TLS_OK:
		lane_state(s->lane, s, SESSION_HELLO);
		set_deadline(s, HELLO_S);
		watch(s, EV_READ);
		take(s);
		break;
	default:
		s->lane->count.handshakes_failed++;
		bad(s, "TLS handshake: %s", tls_error(s->tls));
		break;
	}
}

static void on_io(struct ev_loop *loop, ev_io *w, int events)
{
	struct session *s = w->data;

	(void)loop;
	switch (s->state) {
	case SESSION_HANDSHAKE:
		shake(s);
		break;
	case SESSION_HELLO:
	case SESSION_RUN:
		if (events & EV_WRITE)
			(void)tls_flush(s->tls);
		if (events & EV_READ)
			take(s);
		else
			watch_run(s);
		break;
	case SESSION_END:
	case SESSION_FREE:
		break;
	}
}

static void on_more(struct ev_loop *loop, ev_idle *w, int events)
{
	(void)loop;
	(void)events;
	take(w->data);
}

static void on_deadline(struct ev_loop *loop, ev_timer *w, int events)
{
	struct session *s = w->data;

	(void)events;
	switch (s->state) {
	case SESSION_HANDSHAKE:
		s->lane->count.handshakes_failed++;
		bad(s, "no TLS handshake within %.0f s", HANDSHAKE_S);
		break;
	case SESSION_HELLO:
		if (session_silent(s))
			break; /* tcpdump says nothing at all before its first packet, which may take any time */
		if (s->stream.ng.n_if > 0 || s->stream.pcap.begun)
			greet(s); /* a native agent on a quiet network */
		else
			bad(s, "no hello and no packet within %.0f s", HELLO_S);
		break;
	case SESSION_RUN: {
		double quiet = ev_now(loop) - s->heard_at;

		if (s->paused || quiet < SILENCE_S)
			set_deadline(s, s->paused ? SILENCE_S : SILENCE_S - quiet);
		else
			bad(s, "silent for %.0f s", SILENCE_S);
		break;
	}
	case SESSION_END: /* the interface did not come back: what is left is refused, what is open stays open */
		s->lane->held -= s->stream.len;
		stream_discard(&s->stream);
		stream_abandon(&s->stream);
		lane_release(s->lane, s);
		break;
	case SESSION_FREE:
		break;
	}
}

void session_resume(struct session *s)
{
	switch (s->state) {
	case SESSION_HELLO:
	case SESSION_RUN:
		s->paused = false;
		if (s->stream.len > 0 && !run(s))
			return;
		take(s);
		break;
	case SESSION_END:
		finish(s);
		break;
	default:
		break;
	}
}

void session_tick(struct session *s)
{
	uint64_t now = s->stream.n.received.bytes;

	s->rate = (double)(now - s->rate_bytes);
	s->rate_bytes = now;
	if (s->state != SESSION_RUN || !s->stream.has_hello)
		return;
	say_ack(s);
	if (++s->ticks >= HEARTBEAT) {
		(void)say(s, &(struct local_msg){.kind = BLOCK_HEARTBEAT}, false);
		s->ticks = 0;
	}
	watch_run(s);
}

static void set_options(int fd)
{
	const int on = 1, idle = 30, interval = 10, probes = 3;

	(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	(void)setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
	(void)setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof(idle));
	(void)setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &interval, sizeof(interval));
	(void)setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &probes, sizeof(probes));
}

void session_begin(struct session *s, struct lane *lane, int fd, const struct sockaddr_storage *sa, socklen_t len)
{
	s->fd = fd;
	s->sa = *sa;
	s->since = s->heard_at = ev_now(lane->loop);
	(void)sock_str((const struct sockaddr *)sa, len, s->peer);
	ev_init(&s->io, on_io);
	ev_init(&s->deadline, on_deadline);
	ev_idle_init(&s->more, on_more);
	ev_set_priority(&s->more, EV_MAXPRI); /* not only when nobody else has anything to do */
	s->io.data = s->deadline.data = s->more.data = s;
	set_options(fd);
	if (tls_new(&s->tls, lane->receiver->tls, fd, NULL) != 0) {
		lane_release(lane, s);
		return;
	}
	set_deadline(s, HANDSHAKE_S);
	shake(s);
}
