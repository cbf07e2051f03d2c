/* SPDX-License-Identifier: Apache-2.0 */
/* attach.c - the socket, the thread that serves it, and what the lane is told. */
#include "attach.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/log.h"
#include "common/sock.h"
#include "family.h"
#include "guest.h"

static int make_dir(const char *dir)
{
	struct stat st;

	if (mkdir(dir, 0755) == -1 && errno != EEXIST)
		return -errno;
	if (stat(dir, &st) == -1)
		return -errno;
	/* who can write here can put a socket of his own in our place */
	if (!S_ISDIR(st.st_mode) || (st.st_uid != 0 && st.st_uid != geteuid()) ||
	    ((st.st_mode & 022) && !(st.st_mode & S_ISVTX)))
		return -EPERM;
	return 0;
}

int attach_init(struct attach *a, const char *socket, char err[static ATTACH_ERR])
{
	const char *slash = strrchr(socket, '/');
	char dir[200], page[256];
	int ret;

	memset(a, 0, sizeof(*a));
	a->fd = -1;
	a->come_end = &a->come;
	realtime_lock_init(&a->lock);
	if (!slash || (size_t)(slash - socket) >= sizeof(dir)) {
		snprintf(err, ATTACH_ERR, "--socket %s: too long", socket);
		return -ENAMETOOLONG;
	}
	snprintf(dir, sizeof(dir), "%.*s", slash == socket ? 1 : (int)(slash - socket), socket);
	snprintf(page, sizeof(page), "%s/%s", dir, ATTACH_PAGE);
	ret = make_dir(dir);
	if (ret) {
		snprintf(err, ATTACH_ERR, "directory %s: %s", dir,
			 ret == -EPERM ? "must be root's, and writable by nobody else" : strerror(-ret));
		return ret;
	}
	a->fd = sock_unix_listen(socket, SOCK_SEQPACKET, 0666);
	if (a->fd < 0) {
		ret = a->fd;
		snprintf(err, ATTACH_ERR, ret == -EADDRINUSE ? "%s: another agentd is running there" : "%s: %s", socket,
			 strerror(-ret));
		return ret;
	}
	ret = presence_init(&a->presence, page);
	if (ret)
		snprintf(err, ATTACH_ERR, "%s: %s", page, strerror(-ret));
	return ret;
}

/* --- the thread ------------------------------------------------------------------------------------ */

static void on_connect(struct ev_loop *loop, ev_io *w, int events)
{
	struct attach *a = w->data;

	(void)loop;
	(void)events;
	guest_accept(a);
	(void)helper_flush(a->helper);
}

static void on_pause(struct ev_loop *loop, ev_timer *w, int events)
{
	struct attach *a = w->data;

	(void)events;
	ev_io_start(loop, &a->io);
}

static void on_answers(struct ev_loop *loop, ev_io *w, int events)
{
	(void)loop;
	(void)events;
	guest_hear(w->data);
}

/* What the lane has told. */
static void on_wake(struct ev_loop *loop, ev_async *w, int events)
{
	struct attach *a = w->data;
	uint64_t open[ATTACH_GUESTS_MAX];
	unsigned n;
	bool stop;

	(void)events;
	pthread_mutex_lock(&a->lock);
	n = a->opened;
	memcpy(open, a->open, n * sizeof(open[0]));
	a->opened = 0;
	stop = a->stop;
	pthread_mutex_unlock(&a->lock);
	for (unsigned i = 0; i < n; i++)
		guest_netns_open(a, open[i]);
	if (stop)
		ev_break(loop, EVBREAK_ALL);
}

static void on_turn(struct ev_loop *loop, ev_prepare *w, int events)
{
	struct attach *a = w->data;

	(void)loop;
	(void)events;
	realtime_spend(&a->rank);
}

static void *serve_all(void *arg)
{
	struct attach *a = arg;

	realtime_begin(&a->rank);
	ev_run(a->loop, 0);
	for (unsigned i = 0; i < ATTACH_GUESTS_MAX; i++)
		if (a->guest[i].fd != -1)
			guest_dismiss(&a->guest[i]);
	return NULL;
}

static void watch(struct attach *a)
{
	ev_io_init(&a->io, on_connect, a->fd, EV_READ);
	ev_timer_init(&a->pause, on_pause, ATTACH_PAUSE_S, 0);
	ev_async_init(&a->wake, on_wake);
	ev_prepare_init(&a->turn, on_turn);
	ev_io_init(&a->helper_io, on_answers, helper_fd(a->helper), EV_READ);
	a->io.data = a->pause.data = a->wake.data = a->turn.data = a->helper_io.data = a;
	ev_io_start(a->loop, &a->io);
	ev_async_start(a->loop, &a->wake);
	ev_prepare_start(a->loop, &a->turn);
	ev_io_start(a->loop, &a->helper_io);
}

/* --- the lane's side ------------------------------------------------------------------------------- */

static void opened(struct attach *a, uint64_t cookie)
{
	pthread_mutex_lock(&a->lock);
	if (a->opened < ATTACH_GUESTS_MAX) /* else it has waited long enough by now */
		a->open[a->opened++] = cookie;
	pthread_mutex_unlock(&a->lock);
	if (a->running)
		ev_async_send(a->loop, &a->wake);
}

void attach_on_netns(struct attach *a, const struct helper_event *e)
{
	if (e->last && e->cookie & ATTACH_COOKIE)
		opened(a, e->cookie);
}

/* The lane goes on with those who have got a mapping. */
static void welcome(struct attach *a, struct newcomer *n)
{
	pid_t pid = n->pid;
	int err = family_new(a->lane, n);

	if (err)
		log_warn_errno("attach", -err, "process %d is not tapped", (int)pid);
	else
		lane_soon(a->lane);
}

void attach_settle(struct attach *a)
{
	struct attach_wish wish[ATTACH_GUESTS_MAX];
	struct newcomer *n, *next;
	unsigned wishes;

	pthread_mutex_lock(&a->lock);
	n = a->come;
	a->come = NULL;
	a->come_end = &a->come;
	wishes = a->wishes;
	memcpy(wish, a->wish, wishes * sizeof(wish[0]));
	a->wishes = 0;
	pthread_mutex_unlock(&a->lock);
	for (; n; n = next) {
		next = n->next;
		welcome(a, n);
	}
	for (unsigned i = 0; i < wishes; i++)
		if (helper_netns_pid(a->lane->helper, ATTACH_COOKIE | wish[i].number, wish[i].pid) != 0) {
			a->hasty++;
			opened(a, ATTACH_COOKIE | wish[i].number);
		}
	if (a->lane->helper)
		(void)helper_flush(a->lane->helper);
}

static void on_news(struct ev_loop *loop, ev_async *w, int events)
{
	(void)loop;
	(void)events;
	attach_settle(w->data);
}

int attach_start(struct attach *a, struct lane *lane, struct helper *helper, uint64_t pool)
{
	int ret;

	a->lane = lane;
	a->helper = helper;
	a->chunks = (uint32_t)(pool / SHM_CHUNK);
	a->off = lane->off;
	a->loop = ev_loop_new(EVFLAG_AUTO);
	a->guest = calloc(ATTACH_GUESTS_MAX, sizeof(*a->guest));
	if (!a->guest || !a->loop)
		return -ENOMEM;
	for (unsigned i = 0; i < ATTACH_GUESTS_MAX; i++)
		a->guest[i].fd = -1;
	ev_async_init(&a->news, on_news);
	a->news.data = a;
	ev_async_start(lane->loop, &a->news);
	watch(a);
	ret = pthread_create(&a->thread, NULL, serve_all, a);
	if (ret)
		return -ret;
	a->running = true;
	presence_start(&a->presence, lane->loop);
	return 0;
}

void attach_lock(struct attach *a)
{
	pthread_mutex_lock(&a->lock);
}

void attach_unlock(struct attach *a)
{
	pthread_mutex_unlock(&a->lock);
}

void attach_switch(struct attach *a, bool off)
{
	a->off = off;
	presence_switch(&a->presence, off);
}

void attach_stop(struct attach *a)
{
	presence_stop(&a->presence);
	if (a->running) {
		pthread_mutex_lock(&a->lock);
		a->stop = true;
		pthread_mutex_unlock(&a->lock);
		ev_async_send(a->loop, &a->wake);
		pthread_join(a->thread, NULL);
		a->running = false;
		attach_settle(a); /* who came last */
		ev_async_stop(a->lane->loop, &a->news);
		ev_loop_destroy(a->loop);
		a->loop = NULL;
	}
	if (a->fd >= 0)
		close(a->fd);
	a->fd = -1;
}
