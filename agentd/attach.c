/* SPDX-License-Identifier: Apache-2.0 */
/* attach.c - a process connects, asks, gets its mapping; nobody else gets anything. */
#include "attach.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "common/log.h"
#include "common/sock.h"
#include "family.h"
#include "policy.h"
#include "wire.h"

#ifndef SO_PEERPIDFD
#define SO_PEERPIDFD 77 /* Linux 6.5 */
#endif

#define AWAITS_LOOK 1u
#define AWAITS_NETNS 2u

struct guest {
	struct attach *attach;
	int fd;	   /* -1: free */
	int pidfd; /* of who connected */
	pid_t pid;
	uid_t uid;
	unsigned awaits; /* has asked; answers of the helper that are to come */
	uint64_t number; /* in the order in which they came */
	bool isolate;
	uint64_t rules; /* lane.rules when it was judged */
	ev_io io;
	ev_timer deadline;
};

static void dismiss(struct guest *g)
{
	ev_io_stop(g->attach->loop, &g->io);
	ev_timer_stop(g->attach->loop, &g->deadline);
	close(g->fd);
	if (g->pidfd != -1)
		close(g->pidfd);
	g->fd = -1;
	g->attach->guests--;
}

/* One line per user and minute: who is refused can try again as often as he likes. */
static void warn_refused(struct attach *a, const struct guest *g, int err)
{
	double now = ev_now(a->loop);
	struct warned *w = &a->warned[0];

	for (unsigned i = 0; i < ATTACH_WARNED && w->uid != g->uid; i++)
		if (a->warned[i].uid == g->uid || a->warned[i].until < w->until)
			w = &a->warned[i];
	if (w->uid == g->uid && now < w->until) {
		w->count++;
		return;
	}
	if (w->uid != g->uid)
		*w = (struct warned){.uid = g->uid};
	log_warn("attach", "no mapping for process %d of user %u: %s (%" PRIu64 " more since the last line)",
		 (int)g->pid, (unsigned)g->uid,
		 err == -EUSERS	  ? "it has too many"
		 : err == -EDQUOT ? "the user has too many"
				  : strerror(-err),
		 w->count);
	w->until = now + ATTACH_WARN_S;
	w->count = 0;
}

static void hear(struct attach *a);

static void tell_lane(struct attach *a)
{
	ev_async_send(a->lane->loop, &a->news);
}

static void flush(struct attach *a)
{
	if (a->helper)
		(void)helper_flush(a->helper);
}

static bool has_died(const struct guest *g)
{
	struct pollfd p = {.fd = g->pidfd, .events = POLLIN};

	return poll(&p, 1, 0) != 0;
}

/* Has it stopped waiting? A mapping costs too much to be made for nobody while others wait. */
static bool has_left(struct guest *g)
{
	struct pollfd p = {.fd = g->fd, .events = POLLRDHUP};

	if (poll(&p, 1, 0) != 1 || !(p.revents & (POLLHUP | POLLRDHUP | POLLERR)))
		return false;
	g->attach->refused++;
	g->attach->left++;
	return true;
}

static void say_no(const struct guest *g)
{
	const struct attach_reply no = {.magic = ATTACH_MAGIC, .abi = ATTACH_ABI};

	(void)sock_send_fd(g->fd, &no, sizeof(no), -1);
}

static void drop_mapping(struct lane *l, struct newcomer *n)
{
	quota_give(&l->quota, n->pid, n->uid);
	shm_reader_fini(&n->r);
	free(n);
}

/* A mapping for @g, not yet handed to it. */
static int make_mapping(const struct guest *g, struct newcomer **ret)
{
	struct attach *a = g->attach;
	struct lane *l = a->lane;
	struct newcomer *n;
	int err = quota_take(&l->quota, g->pid, g->uid);

	if (err) {
		a->limited++;
		return err;
	}
	n = calloc(1, sizeof(*n));
	if (!n) {
		quota_give(&l->quota, g->pid, g->uid);
		return -ENOMEM;
	}
	n->pid = g->pid;
	n->uid = g->uid;
	n->pidfd = -1;
	n->rules = g->rules;
	n->id = ++l->family_id;
	err = shm_create(&n->r, a->chunks, n->id, l->instance);
	if (!err && has_died(g))
		err = -ESRCH;
	if (err) {
		drop_mapping(l, n);
		return err;
	}
	if (g->isolate)
		atomic_store(&n->r.v.h->isolate, 1);		/* before it can fork */
	n->netns = l->wire ? wire_netns_of(l->wire, g->fd) : 0; /* known even if it is gone before it is looked at */
	*ret = n;
	return 0;
}

static void grant(struct guest *g)
{
	struct attach *a = g->attach;
	struct attach_reply reply = {.magic = ATTACH_MAGIC, .abi = ATTACH_ABI};
	struct newcomer *n;
	int err;

	if (has_left(g))
		return;
	err = make_mapping(g, &n);
	if (err) {
		a->refused++;
		warn_refused(a, g, err);
		say_no(g);
		return;
	}
	reply.size = n->r.v.size;
	err = sock_send_fd(g->fd, &reply, sizeof(reply), n->r.fd);
	if (err) { /* it did not wait */
		a->refused++;
		drop_mapping(a->lane, n);
		return;
	}
	n->pidfd = g->pidfd;
	g->pidfd = -1;
	a->attached++;
	log_debug("attach", "process %d", (int)g->pid);
	pthread_mutex_lock(&a->lock);
	*a->come_end = n;
	a->come_end = &n->next;
	pthread_mutex_unlock(&a->lock);
	tell_lane(a);
}

/* It has waited long enough. What we know nothing of is not tapped. */
static void give_up_waiting(struct guest *g)
{
	if (g->awaits & AWAITS_LOOK) {
		g->attach->refused++;
		g->attach->unseen++;
		say_no(g);
		return;
	}
	g->attach->hasty++;
	grant(g);
}

static void on_deadline(struct ev_loop *loop, ev_timer *w, int events)
{
	struct guest *g = w->data;
	uint64_t number = g->number;

	(void)loop;
	(void)events;
	if (g->awaits) {
		hear(g->attach); /* it may be us who are late */
		if (g->fd == -1 || g->number != number)
			return;
		give_up_waiting(g);
	}
	dismiss(g);
}

static uint64_t cookie_of(const struct guest *g)
{
	return ATTACH_COOKIE | g->number;
}

static struct guest *guest_of(struct attach *a, uint64_t cookie)
{
	for (unsigned i = 0; i < ATTACH_GUESTS_MAX; i++)
		if (a->guest[i].fd != -1 && a->guest[i].awaits && cookie_of(&a->guest[i]) == cookie)
			return &a->guest[i];
	return NULL;
}

/* Have the namespace of @g opened by the lane, if handshakes are not seen there yet. Returns whether it will answer. */
static bool wish_netns(struct guest *g)
{
	struct attach *a = g->attach;
	bool room;

	if (!a->netns_all || (a->lane->wire && wire_netns_of(a->lane->wire, g->fd)))
		return false;
	pthread_mutex_lock(&a->lock);
	room = a->wishes < ATTACH_GUESTS_MAX;
	if (room)
		a->wish[a->wishes++] = (struct attach_wish){.number = g->number, .pid = g->pid};
	pthread_mutex_unlock(&a->lock);
	if (room)
		tell_lane(a);
	else
		a->hasty++;
	return room;
}

/* Have @g looked at, and its namespace opened. Returns false if the helper is too busy for the former. */
static bool ask_about(struct guest *g)
{
	struct attach *a = g->attach;
	struct helper_pid p = {.pid = g->pid};

	if (a->lane->policy) {
		if (helper_brief(a->helper, cookie_of(g), &p) != 0)
			return false;
		g->awaits |= AWAITS_LOOK;
	}
	if (wish_netns(g))
		g->awaits |= AWAITS_NETNS;
	return true;
}

static void wait_for_helper(struct guest *g)
{
	struct ev_loop *loop = g->attach->loop;

	ev_io_stop(loop, &g->io);
	ev_timer_stop(loop, &g->deadline);
	ev_timer_set(&g->deadline, ATTACH_LOOK_S, 0);
	ev_timer_start(loop, &g->deadline);
}

/* One answer for @g is here. */
static void answered(struct guest *g, unsigned which)
{
	g->awaits &= ~which;
	if (g->awaits)
		return;
	grant(g);
	dismiss(g);
}

static void deny(struct guest *g, const char *why)
{
	g->attach->denied++;
	log_debug("attach", "process %d is not tapped: %s", (int)g->pid, why);
	say_no(g);
	dismiss(g);
}

static void on_look(void *arg, const struct helper_event *e)
{
	struct attach *a = arg;
	struct guest *g = guest_of(a, e->cookie);
	struct policy_answer answer;

	if (!g || !(g->awaits & AWAITS_LOOK))
		return;
	if (e->result != HELPER_R_OK) {
		give_up_waiting(g);
		dismiss(g);
		return;
	}
	pthread_mutex_lock(&a->lock);
	g->rules = a->lane->rules;
	policy_judge(a->lane->policy,
		     &(struct policy_subject){.pid = g->pid, .uid = g->uid, .exe = e->exe, .cgroup = e->cgroup},
		     &answer);
	pthread_mutex_unlock(&a->lock);
	if (!answer.tap) {
		deny(g, answer.why);
		return;
	}
	g->isolate = answer.isolate;
	answered(g, AWAITS_LOOK);
}

/* What the helper has said so far. */
static void hear(struct attach *a)
{
	if (!a->helper || helper_poll(a->helper, 256, on_look, a) != -EPIPE)
		return;
	ev_io_stop(a->loop, &a->helper_io);
	a->failed = true; /* from now on nobody can be looked at */
}

static void on_helper_fd(struct ev_loop *loop, ev_io *w, int events)
{
	(void)loop;
	(void)events;
	hear(w->data);
}

/* @g asks for a mapping. Returns false if it has to wait; else it has left. */
static bool ask(struct guest *g)
{
	if (g->attach->off) {
		deny(g, "all taps are switched off");
		return true;
	}
	if (has_left(g)) {
		dismiss(g);
		return true;
	}
	if (!ask_about(g)) {
		g->awaits = AWAITS_LOOK;
		give_up_waiting(g);
	} else if (g->awaits) {
		wait_for_helper(g);
		return false;
	} else {
		grant(g);
	}
	dismiss(g);
	return true;
}

/* Hear what @g asks for. Returns false if it has said nothing yet, or has to wait; else it has left. */
static bool serve(struct guest *g)
{
	struct attach_request req;
	int passed = -1;
	ssize_t n = sock_recv_fd(g->fd, &req, sizeof(req), &passed);

	if (n == -EAGAIN || n == -EINTR)
		return false;
	if (passed != -1)
		close(passed); /* nobody has reason to send one */
	if (n == (ssize_t)sizeof(req) && passed == -1 && req.magic == ATTACH_MAGIC && req.abi == ATTACH_ABI)
		return ask(g);
	if (n != 0)
		g->attach->garbage++;
	dismiss(g);
	return true;
}

static void on_guest(struct ev_loop *loop, ev_io *w, int events)
{
	struct guest *g = w->data;
	struct attach *a = g->attach;

	(void)loop;
	(void)events;
	(void)serve(g);
	flush(a);
}

static unsigned guests_of(const struct attach *a, uid_t uid)
{
	unsigned n = 0;

	for (unsigned i = 0; i < ATTACH_GUESTS_MAX; i++)
		n += a->guest[i].fd != -1 && a->guest[i].uid == uid;
	return n;
}

static struct guest *free_place(struct attach *a)
{
	for (unsigned i = 0; i < ATTACH_GUESTS_MAX; i++)
		if (a->guest[i].fd == -1)
			return &a->guest[i];
	return NULL;
}

/* A place for a guest of @uid. Whoever asks does so at once, so that the oldest silent one goes: of @uid itself if
 * these are many; if all places are taken, of the user who has most. */
static struct guest *place_for(struct attach *a, uid_t uid)
{
	struct guest *g = free_place(a), *oldest = NULL;
	unsigned most = 0;

	if (uid && guests_of(a, uid) >= ATTACH_GUESTS_UID_MAX)
		g = NULL;
	else if (!g)
		for (unsigned i = 0; i < ATTACH_GUESTS_MAX; i++) {
			unsigned n = guests_of(a, a->guest[i].uid);

			if (n > most) {
				most = n;
				uid = a->guest[i].uid;
			}
		}
	if (g)
		return g;
	for (unsigned i = 0; i < ATTACH_GUESTS_MAX; i++)
		if (a->guest[i].fd != -1 && a->guest[i].uid == uid && (!oldest || a->guest[i].number < oldest->number))
			oldest = &a->guest[i];
	if (!oldest->awaits && serve(oldest)) /* it may have asked meanwhile */
		return oldest;
	if (oldest->awaits) {
		give_up_waiting(oldest);
	} else {
		a->refused++;
		a->dismissed++;
	}
	dismiss(oldest);
	return oldest;
}

/* Who connected: the kernel's own descriptor of it, or, before Linux 6.5, of who has its number now. */
static int pidfd_of(int fd, pid_t pid)
{
	int pidfd;
	socklen_t len = sizeof(pidfd);

	if (getsockopt(fd, SOL_SOCKET, SO_PEERPIDFD, &pidfd, &len) == 0)
		return pidfd;
	return errno == ENOPROTOOPT ? (int)syscall(SYS_pidfd_open, pid, 0) : -1;
}

static void on_pause(struct ev_loop *loop, ev_timer *w, int events)
{
	struct attach *a = w->data;

	(void)events;
	ev_io_start(loop, &a->io);
}

static void let_in(struct attach *a, int fd, int pidfd, pid_t pid, uid_t uid)
{
	struct guest *g = place_for(a, uid);
	struct ev_loop *loop = a->loop;

	g->attach = a;
	g->fd = fd;
	g->pidfd = pidfd;
	g->pid = pid;
	g->uid = uid;
	g->awaits = 0;
	g->isolate = false;
	g->rules = 0;
	g->number = a->guests_ever++;
	a->guests++;
	ev_io_init(&g->io, on_guest, fd, EV_READ);
	g->io.data = g;
	ev_io_start(loop, &g->io);
	ev_timer_init(&g->deadline, on_deadline, ATTACH_GUEST_S, 0);
	g->deadline.data = g;
	ev_timer_start(loop, &g->deadline);
	(void)serve(g); /* it may have asked already */
}

#define ACCEPT_MAX 64u /* before others have their turn */

static void accept_all(struct attach *a, struct ev_loop *loop)
{
	for (unsigned i = 0; i < ACCEPT_MAX; i++) {
		int fd = sock_accept(a->fd, NULL, NULL), pidfd = -1;
		pid_t pid;
		uid_t uid;
		gid_t gid;

		if (fd == -EMFILE || fd == -ENFILE || fd == -ENOMEM || fd == -ENOBUFS) {
			ev_io_stop(loop, &a->io); /* who waits there keeps it readable: do not spin */
			ev_timer_set(&a->pause, ATTACH_PAUSE_S, 0);
			ev_timer_start(loop, &a->pause);
		}
		if (fd < 0)
			return;
		if (sock_peer(fd, &pid, &uid, &gid) != 0 || pid <= 0 || (pidfd = pidfd_of(fd, pid)) == -1) {
			a->refused++;
			close(fd);
			continue;
		}
		let_in(a, fd, pidfd, pid, uid);
	}
}

static void on_connect(struct ev_loop *loop, ev_io *w, int events)
{
	struct attach *a = w->data;

	(void)events;
	accept_all(a, loop);
	flush(a);
}

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
	for (unsigned i = 0; i < n; i++) {
		struct guest *g = guest_of(a, open[i]);

		if (g && g->awaits & AWAITS_NETNS)
			answered(g, AWAITS_NETNS);
	}
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
			dismiss(&a->guest[i]);
	return NULL;
}

static void watch(struct attach *a)
{
	ev_io_init(&a->io, on_connect, a->fd, EV_READ);
	ev_timer_init(&a->pause, on_pause, ATTACH_PAUSE_S, 0);
	ev_async_init(&a->wake, on_wake);
	ev_prepare_init(&a->turn, on_turn);
	ev_io_init(&a->helper_io, on_helper_fd, helper_fd(a->helper), EV_READ);
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

static void settle(struct attach *a)
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
	settle(w->data);
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
		settle(a); /* who came last */
		ev_async_stop(a->lane->loop, &a->news);
		ev_loop_destroy(a->loop);
		a->loop = NULL;
	}
	if (a->fd >= 0)
		close(a->fd);
	a->fd = -1;
}
