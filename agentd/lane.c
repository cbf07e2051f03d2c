/* SPDX-License-Identifier: Apache-2.0 */
/* lane.c - when to sweep, what to do between sweeps. */
#include "lane.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "common/log.h"
#include "attach.h"
#include "capture.h"
#include "conn.h"
#include "family.h"
#include "pair.h"
#include "status.h"
#include "tap.h"
#include "wire.h"

#define BUCKETS 65536u
#define MS 1000000ull

static uint64_t clock_ns(clockid_t clock)
{
	struct timespec ts;

	(void)clock_gettime(clock, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

void lane_clock(struct lane *l)
{
	l->now_ns = clock_ns(CLOCK_MONOTONIC);
	l->ts_ns = clock_ns(CLOCK_REALTIME);
}

static void set_timer(struct lane *l, uint64_t after_ns)
{
	struct itimerspec t = {
		.it_value = {.tv_sec = (time_t)(after_ns / 1000000000u), .tv_nsec = (long)(after_ns % 1000000000u)}};

	l->due_ns = clock_ns(CLOCK_MONOTONIC) + after_ns;
	(void)timerfd_settime(l->timer_fd, 0, &t, NULL);
}

void lane_put(struct lane *l)
{
	if (!l->batch.len)
		return;
	l->sink->ops->put(l->sink, &l->batch);
	batch_reset(&l->batch);
}

bool lane_room(struct lane *l, size_t bytes, size_t frames)
{
	if (l->batch.len + bytes <= BATCH_BYTES && l->batch.n + frames <= BATCH_FRAMES &&
	    (l->batch.len || l->sink->ops->credit(l->sink)))
		return true;
	lane_put(l);
	if (l->sink->ops->credit(l->sink))
		return true;
	l->stalled = true;
	return false;
}

static void on_helper_event(void *arg, const struct helper_event *e)
{
	struct lane *l = arg;

	switch (e->type) {
	case HELPER_VERIFY:
	case HELPER_PEER:
		pair_on_answer(l, e);
		break;
	case HELPER_WHOSE:
		if (l->wire->sessions)
			sessions_on_answer(l->wire->sessions, e);
		break;
	case HELPER_NETNS:
		wire_on_netns(l->wire, e);
		if (l->attach)
			attach_on_netns(l->attach, e);
		break;
	case HELPER_FAMILY:
		family_on_answer(l, e);
		break;
	case HELPER_ADOPT:
		if (l->attach)
			attach_settle(l->attach); /* the walk may have met a mapping of ours */
		if (e->fd != -1) {
			int err = family_adopt(l, e->fd, &e->id, e);

			if (err && err != -EXDEV)
				log_warn_errno("family", -err, "the mapping of process %d cannot be taken over",
					       (int)e->p.pid);
			else if (!err)
				log_info("family", "goes on with process %d", (int)e->p.pid);
		}
		break;
	case HELPER_PROC:
		if (e->cookie & STATUS_COOKIE)
			status_on_proc(l->status, e);
		else
			family_on_proc(l, e);
		break;
	case HELPER_DESTROYED:
		conn_destroyed(l, &e->e, e->sock_cookie);
		wire_ended(l->wire, &e->e);
		lane_wake(l);
		break;
	case HELPER_OVERRUN:
		l->recheck = true;
		break;
	case HELPER_EXISTS:
		if (e->cookie)
			pair_on_answer(l, e);
		if (e->result == HELPER_R_GONE)
			conn_destroyed(l, &e->e, 0);
		else if (e->result == HELPER_R_LIVE) /* perhaps another one, after a proof that came early */
			conn_replaced(l, &e->e, e->sock_cookie);
		break;
	}
}

static void on_helper(struct ev_loop *loop, ev_io *w, int events)
{
	struct lane *l = w->data;

	(void)events;
	lane_clock(l);
	if (helper_poll(l->helper, 256, on_helper_event, l) == -EPIPE) {
		log_error("helper", "the helper process has died: agentd ends, start it again");
		ev_io_stop(loop, w);
		l->failed = true;
		ev_break(loop, EVBREAK_ALL);
		return;
	}
	(void)helper_flush(l->helper);
}

/* After lost destroy events: does the kernel still have our connections? */
static void recheck(struct lane *l)
{
	for (unsigned i = 0; l->recheck && i < BUCKETS; i++)
		for (struct tap *t = l->by_end[i]; t; t = t->end_next)
			if (t->rechecked != l->helper->overruns &&
			    t->sock_cookie) { /* else it is not known which socket */
				if (helper_exists(l->helper, 0, &t->e) != 0)
					return; /* the rest with the next sweep */
				t->rechecked = l->helper->overruns;
			}
	l->recheck = false;
}

static uint64_t interval(const struct lane *l)
{
	uint64_t quiet = l->now_ns - l->data_ns;

	if (l->stalled)
		return 2 * MS;
	return quiet < 10 * MS ? MS / 5 : quiet < 1000 * MS ? 2 * MS : 25 * MS;
}

static void sweep(struct lane *l)
{
	unsigned n = 0;

	lane_clock(l);
	if (l->sink->epoch != l->epoch) {
		l->epoch = l->sink->epoch;
		l->flow.mtu = l->sink->mtu;
		conn_new_epoch(l);
	}
	if (l->capture)
		capture_sweep(l->capture);
	if (l->wire)
		wire_read(l->wire);
	l->stalled = !l->sink->ops->credit(l->sink);
	for (struct family *f = l->families; f && !l->stalled; f = f->next)
		n += family_sweep(f);
	if (!conn_settle(l))
		l->stalled = true;
	if (l->stalled)
		family_shed(l);
	for (struct family *f = l->families, *next; f; f = next) {
		next = f->next;
		(void)family_tend(f);
	}
	if (l->helper) {
		family_scan(l);
		recheck(l);
		(void)helper_flush(l->helper);
	}
	if (n)
		l->data_ns = l->now_ns;
	l->sweeps++;
}

static void on_timer(struct ev_loop *loop, ev_io *w, int events)
{
	struct lane *l = w->data;
	uint64_t expired;

	(void)loop;
	(void)events;
	if (read(l->timer_fd, &expired, sizeof(expired)) == sizeof(expired)) {
		sweep(l);
		set_timer(l, interval(l));
	}
}

void lane_wake(struct lane *l)
{
	l->data_ns = clock_ns(CLOCK_MONOTONIC);
	set_timer(l, 1000);
}

void lane_soon(struct lane *l)
{
	l->data_ns = clock_ns(CLOCK_MONOTONIC);
	if (l->due_ns > l->data_ns + MS)
		set_timer(l, MS);
}

/* FNV-1a of the socket's path. */
static uint64_t instance_of(const char *path)
{
	uint64_t h = 0xcbf29ce484222325ull;

	for (; *path; path++)
		h = (h ^ (uint8_t)*path) * 0x100000001b3ull;
	return h;
}

int lane_init(struct lane *l, struct ev_loop *loop, const struct conf *conf, struct sink *sink, struct helper *helper)
{
	memset(l, 0, sizeof(*l));
	quota_init(&l->quota);
	l->loop = loop;
	l->conf = conf;
	l->instance = instance_of(conf->socket);
	l->sink = sink;
	l->epoch = sink->epoch;
	l->helper = helper;
	l->flow = (struct flow_conf){
		.mtu = sink->mtu,
		.rotate = conf->rotate,
		.keepalive_ns = conf->keepalive * 1000000000ull,
		.echo_ns = 5 * MS,
		.smac = {0x06, 0x11, 0x22, 0x33, 0x44, 0x55},
		.dmac = {0x06, 0x11, 0x22, 0x33, 0x44, 0x56},
	};
	if (getrandom(l->flow.isn_key, sizeof(l->flow.isn_key), 0) != sizeof(l->flow.isn_key) ||
	    getrandom(&l->hash_seed, sizeof(l->hash_seed), 0) != sizeof(l->hash_seed))
		return -EIO;
	l->copy = malloc(SHM_CHUNK);
	l->conns = calloc(BUCKETS, sizeof(struct conn *));
	l->shown = calloc(BUCKETS, sizeof(struct conn *));
	l->by_end = calloc(BUCKETS, sizeof(struct tap *));
	l->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	if (!l->copy || !l->conns || !l->shown || !l->by_end || l->timer_fd == -1)
		return -ENOMEM;
	batch_init(&l->batch);
	lane_clock(l);
	ev_io_init(&l->timer_io, on_timer, l->timer_fd, EV_READ);
	l->timer_io.data = l;
	ev_io_start(loop, &l->timer_io);
	if (helper) {
		ev_io_init(&l->helper_io, on_helper, helper_fd(helper), EV_READ);
		l->helper_io.data = l;
		ev_io_start(loop, &l->helper_io);
	}
	set_timer(l, MS);
	return 0;
}

bool lane_quiet(const struct lane *l)
{
	for (const struct family *f = l->families; f; f = f->next)
		if (f->waiting)
			return false;
	return true;
}

void lane_stop(struct lane *l)
{
	for (unsigned i = 0; i < 3; i++)
		sweep(l);
	conn_stop(l);
	ev_io_stop(l->loop, &l->timer_io);
	if (l->helper)
		ev_io_stop(l->loop, &l->helper_io);
}
