/* SPDX-License-Identifier: Apache-2.0 */
/* lane.c - one thread's share of the work (see lane.h). */
#include "lane.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "common/own.h"
#include "common/tls.h"
#include "complain.h"
#include "receiver.h"

static bool is_new(enum session_state s)
{
	return s == SESSION_HANDSHAKE || s == SESSION_HELLO;
}

static uint64_t now_ns(void)
{
	struct timespec ts;

	(void)clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static void check_end(struct lane *l)
{
	if (l->inject.failed) {
		l->receiver->exit_code = 1;
		l->receiver->ending = true;
	}
	if (l->receiver->ending && l->n == 0)
		ev_break(l->loop, EVBREAK_ALL);
}

/* The injector takes frames again: sessions that waited go on, in turn, as long as it does. */
static void on_ready(void *arg)
{
	struct lane *l = arg;

	for (unsigned left = l->n; left > 0 && !l->inject.busy; left--) {
		struct session *s = l->turn != NULL ? l->turn : l->first;

		if (s == NULL)
			break;
		l->turn = s->next;
		session_resume(s);
	}
	check_end(l);
}

static void on_tick(struct ev_loop *loop, ev_timer *w, int events)
{
	struct lane *l = w->data;

	(void)loop;
	(void)events;
	for (struct session *s = l->first; s != NULL; s = s->next)
		session_tick(s);
	inject_settle(&l->inject);
	(void)own_replay(l->receiver->own, l->inject.none ? 0 : (uint32_t)l->inject.nif.index);
	own_beat(l->receiver->own, now_ns());
	check_end(l);
	if (l->inject.failed)
		lane_end(l);
}

int lane_new(struct lane **ret, struct receiver *r, struct ev_loop *loop, char err[static INJECT_ERR])
{
	const struct conf *c = &r->conf;
	struct lane *l = calloc(1, sizeof(*l));
	int e = -ENOMEM;

	if (l == NULL)
		goto memory;
	l->receiver = r;
	l->loop = loop;
	l->inject.file = l->inject.nif.fd = -1;
	l->session = calloc(LANE_SESSIONS, sizeof(*l->session));
	l->spare = calloc(LANE_SESSIONS, sizeof(*l->spare));
	l->buffers = mmap(NULL, (size_t)LANE_SESSIONS * STREAM_BUF, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (l->buffers == MAP_FAILED)
		l->buffers = NULL;
	if (l->session == NULL || l->spare == NULL || l->buffers == NULL || flows_init(&l->flows, FLOWS_MAX) != 0)
		goto memory;
	for (unsigned i = 0; i < LANE_SESSIONS; i++)
		l->spare[l->n_spare++] = LANE_SESSIONS - 1 - i;
	e = inject_init(&l->inject, loop, c->iface, c->file, (uint32_t)c->mtu, c->force, on_ready, l, err);
	if (e != 0)
		goto fail;
	ev_timer_init(&l->tick, on_tick, 1.0, 1.0);
	l->tick.data = l;
	ev_timer_start(loop, &l->tick);
	*ret = l;
	return 0;
memory:
	(void)snprintf(err, INJECT_ERR, "out of memory");
fail:
	lane_free(&l);
	return e;
}

void lane_free(struct lane **lp)
{
	struct lane *l = *lp;

	if (l == NULL)
		return;
	while (l->first != NULL)
		lane_release(l, l->first);
	if (l->tick.data != NULL)
		ev_timer_stop(l->loop, &l->tick);
	inject_fini(&l->inject);
	flows_fini(&l->flows);
	if (l->buffers != NULL)
		munmap(l->buffers, (size_t)LANE_SESSIONS * STREAM_BUF);
	free(l->spare);
	free(l->session);
	free(l);
	*lp = NULL;
}

/* Make room for a connection from @sa, or from anybody (NULL), by ending the oldest one that has sent neither hello nor
 * packet since its handshake: native agents may be silent for long, but not at the cost of those who speak. */
static bool make_room(struct lane *l, const struct sockaddr_storage *sa)
{
	struct session *oldest = NULL;

	for (struct session *s = l->first; s != NULL; s = s->next)
		if (session_silent(s) && ev_now(l->loop) - s->since > LANE_SILENT_S &&
		    (sa == NULL || complain_same(&s->sa, sa)))
			oldest = s;
	if (oldest != NULL)
		session_end(oldest);
	return oldest != NULL;
}

/* Why a connection from @sa cannot be taken, or NULL. */
static const char *no_room(struct lane *l, const struct sockaddr_storage *sa)
{
	unsigned n = 0, n_new = 0;

	for (const struct session *s = l->first; s != NULL; s = s->next)
		if (complain_same(&s->sa, sa)) {
			n++;
			n_new += is_new(s->state);
		}
	if (n_new >= LANE_NEW_PER_ADDR && !make_room(l, sa))
		return "too many connections without a hello from this address";
	if (n >= LANE_PER_ADDR && !make_room(l, sa))
		return "too many sessions from this address";
	if (l->n_new >= LANE_NEW && !make_room(l, NULL))
		return "too many connections without a hello";
	if (l->n_spare == 0 && !make_room(l, NULL))
		return "too many sessions";
	return NULL;
}

void lane_accept(struct lane *l, int fd, const struct sockaddr_storage *sa, socklen_t len)
{
	const char *why = no_room(l, sa);
	struct session *s;
	unsigned i;

	l->count.accepted++;
	if (why != NULL) {
		l->count.refused++;
		(void)complain(sa, ev_now(l->loop), "%s", why);
		close(fd);
		return;
	}
	i = l->spare[--l->n_spare];
	s = &l->session[i];
	*s = (struct session){.lane = l, .fd = -1, .next = l->first};
	if (l->first != NULL)
		l->first->prev = s;
	l->first = s;
	l->n++;
	lane_state(l, s, SESSION_HANDSHAKE);
	stream_init(&s->stream, &l->inject, &l->flows, l->buffers + (size_t)i * STREAM_BUF);
	session_begin(s, l, fd, sa, len);
}

void lane_state(struct lane *l, struct session *s, enum session_state state)
{
	l->n_new += is_new(state);
	l->n_new -= is_new(s->state);
	s->state = state;
}

void lane_release(struct lane *l, struct session *s)
{
	unsigned i = (unsigned)(s - l->session);

	stream_abandon(&s->stream);
	lane_state(l, s, SESSION_FREE);
	ev_io_stop(l->loop, &s->io);
	ev_timer_stop(l->loop, &s->deadline);
	ev_idle_stop(l->loop, &s->more);
	tls_free(&s->tls);
	close(s->fd);
	tally_add(&l->ended, &s->stream.n);
	l->held -= s->stream.len;
	*(s->prev != NULL ? &s->prev->next : &l->first) = s->next;
	if (s->next != NULL)
		s->next->prev = s->prev;
	if (l->turn == s)
		l->turn = s->next;
	(void)madvise(s->stream.buf, STREAM_BUF, MADV_DONTNEED);
	l->spare[l->n_spare++] = i;
	l->n--;
	check_end(l);
}

void lane_end(struct lane *l)
{
	struct session *next;

	for (struct session *s = l->first; s != NULL; s = next) {
		next = s->next;
		session_end(s);
	}
	check_end(l);
}

void lane_tally(const struct lane *l, struct tally *ret)
{
	*ret = l->ended;
	for (const struct session *s = l->first; s != NULL; s = s->next)
		tally_add(ret, &s->stream.n);
}
