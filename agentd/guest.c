/* SPDX-License-Identifier: Apache-2.0 */
/* guest.c - a process connects, asks, gets its mapping; nobody else gets anything. */
#include "guest.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common/log.h"
#include "common/sock.h"
#include "policy.h"
#include "wire.h"

#ifndef SO_PEERPIDFD
#define SO_PEERPIDFD 77 /* Linux 6.5 */
#endif

#define AWAITS_LOOK 1u
#define AWAITS_NETNS 2u

void guest_dismiss(struct guest *g)
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

static void tell_lane(struct attach *a)
{
	ev_async_send(a->lane->loop, &a->news);
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
	pthread_mutex_lock(&a->lock); /* who finds its mapping in /proc finds it in the list, too */
	err = sock_send_fd(g->fd, &reply, sizeof(reply), n->r.fd);
	if (!err) {
		n->pidfd = g->pidfd;
		g->pidfd = -1;
		*a->come_end = n;
		a->come_end = &n->next;
	}
	pthread_mutex_unlock(&a->lock);
	if (err) { /* it did not wait */
		a->refused++;
		drop_mapping(a->lane, n);
		return;
	}
	a->attached++;
	log_debug("attach", "process %d", (int)g->pid);
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
		guest_hear(g->attach); /* it may be us who are late */
		if (g->fd == -1 || g->number != number)
			return;
		give_up_waiting(g);
	}
	guest_dismiss(g);
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
	guest_dismiss(g);
}

static void deny(struct guest *g, const char *why)
{
	g->attach->denied++;
	log_debug("attach", "process %d is not tapped: %s", (int)g->pid, why);
	say_no(g);
	guest_dismiss(g);
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
		guest_dismiss(g);
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
void guest_hear(struct attach *a)
{
	if (helper_poll(a->helper, 256, on_look, a) != -EPIPE)
		return;
	ev_io_stop(a->loop, &a->helper_io);
	a->failed = true; /* from now on nobody can be looked at */
}

/* @g asks for a mapping. Returns false if it has to wait; else it has left. */
static bool ask(struct guest *g)
{
	if (g->attach->off) {
		deny(g, "all taps are switched off");
		return true;
	}
	if (has_left(g)) {
		guest_dismiss(g);
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
	guest_dismiss(g);
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
	guest_dismiss(g);
	return true;
}

static void on_guest(struct ev_loop *loop, ev_io *w, int events)
{
	struct guest *g = w->data;
	struct attach *a = g->attach;

	(void)loop;
	(void)events;
	(void)serve(g);
	(void)helper_flush(a->helper);
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

/* The oldest guest of @uid who awaits nothing else: 0: who has not asked. NULL: there is none. */
static struct guest *oldest_of(struct attach *a, uid_t uid, unsigned awaits)
{
	struct guest *oldest = NULL;

	for (unsigned i = 0; i < ATTACH_GUESTS_MAX; i++) {
		struct guest *g = &a->guest[i];

		if (g->fd != -1 && g->uid == uid && g->awaits == awaits && (!oldest || g->number < oldest->number))
			oldest = g;
	}
	return oldest;
}

/* Whoever asks does so at once: the oldest silent one goes, or has its mapping now if that is all it waits for. Not
 * who is being looked at: he will have his answer sooner than a newcomer, and many of one user would have each
 * other's looks thrown away, while others wait for these. */
static struct guest *make_place(struct attach *a, uid_t uid)
{
	struct guest *g;

	while ((g = oldest_of(a, uid, 0))) {
		if (serve(g)) /* it has asked meanwhile */
			return g;
		if (g->awaits)
			continue;
		a->refused++;
		a->dismissed++;
		guest_dismiss(g);
		return g;
	}
	g = oldest_of(a, uid, AWAITS_NETNS);
	if (g) {
		give_up_waiting(g);
		guest_dismiss(g);
	}
	return g;
}

/* A place for a guest of @uid, or NULL. One of @uid's own if these are many; if all are taken, of the user who has
 * most. */
static struct guest *place_for(struct attach *a, uid_t uid)
{
	struct guest *g = free_place(a);
	unsigned most = 0;

	if (uid && guests_of(a, uid) >= ATTACH_GUESTS_UID_MAX)
		return make_place(a, uid);
	if (g)
		return g;
	for (unsigned i = 0; i < ATTACH_GUESTS_MAX; i++) {
		unsigned n = guests_of(a, a->guest[i].uid);

		if (n > most) {
			most = n;
			uid = a->guest[i].uid;
		}
	}
	return make_place(a, uid);
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

static void let_in(struct attach *a, int fd, int pidfd, pid_t pid, uid_t uid)
{
	struct guest *g = place_for(a, uid);
	struct ev_loop *loop = a->loop;

	if (!g) {
		a->refused++;
		a->unseen++;
		close(fd);
		close(pidfd);
		return;
	}
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

void guest_accept(struct attach *a)
{
	for (unsigned i = 0; i < ACCEPT_MAX; i++) {
		int fd = sock_accept(a->fd, NULL, NULL), pidfd = -1;
		pid_t pid;
		uid_t uid;
		gid_t gid;

		if (fd == -EMFILE || fd == -ENFILE || fd == -ENOMEM || fd == -ENOBUFS) {
			ev_io_stop(a->loop, &a->io); /* who waits there keeps it readable: do not spin */
			ev_timer_set(&a->pause, ATTACH_PAUSE_S, 0);
			ev_timer_start(a->loop, &a->pause);
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

void guest_netns_open(struct attach *a, uint64_t cookie)
{
	struct guest *g = guest_of(a, cookie);

	if (g && g->awaits & AWAITS_NETNS)
		answered(g, AWAITS_NETNS);
}
