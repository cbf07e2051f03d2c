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
	ev_io io;
	ev_timer deadline;
};

static void dismiss(struct guest *g)
{
	ev_io_stop(g->attach->lane->loop, &g->io);
	ev_timer_stop(g->attach->lane->loop, &g->deadline);
	close(g->fd);
	close(g->pidfd);
	g->fd = -1;
	g->attach->guests--;
}

/* One line per user and minute: who is refused can try again as often as he likes. */
static void warn_refused(struct attach *a, const struct guest *g, int err)
{
	double now = ev_now(a->lane->loop);
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

static bool has_died(const struct guest *g)
{
	struct pollfd p = {.fd = g->pidfd, .events = POLLIN};

	return poll(&p, 1, 0) != 0;
}

#ifndef SO_NETNS_COOKIE
#define SO_NETNS_COOKIE 71 /* Linux 5.14 */
#endif

/* The kernel's name of the network namespace where the socket @fd, or the other end of it, was made; 0: it does not
 * say. */
static uint64_t peer_netns(int fd)
{
	uint64_t cookie = 0;
	socklen_t len = sizeof(cookie);

	return getsockopt(fd, SOL_SOCKET, SO_NETNS_COOKIE, &cookie, &len) == 0 ? cookie : 0;
}

/* The namespace of the process at the other end of @fd, if it is one whose handshakes are seen; else 0. */
static uint64_t netns_of(const struct attach *a, int fd)
{
	uint64_t cookie = peer_netns(fd);
	const struct wire *w = a->lane->wire;

	for (unsigned i = 0; w && cookie && i < w->ns_n; i++)
		if (peer_netns(w->ns[i]->sock.fd) == cookie)
			return w->ns[i]->sock.netns;
	return 0;
}

static int make_family(struct guest *g, struct family **ret)
{
	struct attach *a = g->attach;
	int err = family_may(a->lane, g->pid, g->uid);

	if (err) {
		a->limited++;
		return err;
	}
	err = family_new(a->lane, a->chunks, g->pid, ret);
	if (err)
		return err;
	(*ret)->uid = g->uid;
	if (g->isolate)
		atomic_store(&(*ret)->r.v.h->isolate, 1); /* before it can fork */
	(*ret)->netns = netns_of(a, g->fd); /* known even if the process is gone before it is looked at */
	if (!has_died(g)) /* then the family's descriptor, opened later by number, is of the same process */
		return 0;
	family_drop(*ret);
	return -ESRCH;
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

static void grant(struct guest *g)
{
	struct attach *a = g->attach;
	struct attach_reply reply = {.magic = ATTACH_MAGIC, .abi = ATTACH_ABI};
	struct family *f;
	int err;

	if (has_left(g))
		return;
	err = make_family(g, &f);
	if (err) {
		a->refused++;
		warn_refused(a, g, err);
		say_no(g);
		return;
	}
	reply.size = f->r.v.size;
	err = sock_send_fd(g->fd, &reply, sizeof(reply), f->r.fd);
	if (err) { /* it did not wait */
		a->refused++;
		family_drop(f);
		return;
	}
	family_moved(f, g->pid);
	a->attached++;
	log_debug("attach", "process %d", (int)g->pid);
	lane_soon(a->lane);
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
		lane_hear(g->attach->lane); /* it may be us who are late */
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

/* Have @g looked at, and its namespace opened. Returns false if the helper is too busy for the former. */
static bool ask_about(struct guest *g)
{
	struct attach *a = g->attach;
	struct helper *h = a->lane->helper;
	struct helper_pid p = {.pid = g->pid};

	if (a->lane->policy) {
		if (helper_brief(h, cookie_of(g), &p) != 0)
			return false;
		g->awaits |= AWAITS_LOOK;
	}
	if (a->netns_all && helper_netns_pid(h, cookie_of(g), g->pid) == 0)
		g->awaits |= AWAITS_NETNS;
	else if (a->netns_all)
		a->hasty++;
	return true;
}

static void wait_for_helper(struct guest *g)
{
	struct ev_loop *loop = g->attach->lane->loop;

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

void attach_on_netns(struct attach *a, const struct helper_event *e)
{
	struct guest *g = e->last && (e->cookie & ATTACH_COOKIE) ? guest_of(a, e->cookie) : NULL;

	if (g && g->awaits & AWAITS_NETNS)
		answered(g, AWAITS_NETNS);
}

static void deny(struct guest *g, const char *why)
{
	g->attach->denied++;
	log_debug("attach", "process %d is not tapped: %s", (int)g->pid, why);
	say_no(g);
	dismiss(g);
}

void attach_on_proc(struct attach *a, const struct helper_event *e)
{
	struct guest *g = guest_of(a, e->cookie);
	struct policy_answer answer;

	if (!g || !(g->awaits & AWAITS_LOOK))
		return;
	if (e->result != HELPER_R_OK) {
		give_up_waiting(g);
		dismiss(g);
		return;
	}
	policy_judge(a->lane->policy,
		     &(struct policy_subject){.pid = g->pid, .uid = g->uid, .exe = e->exe, .cgroup = e->cgroup},
		     &answer);
	if (!answer.tap) {
		deny(g, answer.why);
		return;
	}
	g->isolate = answer.isolate;
	answered(g, AWAITS_LOOK);
}

/* @g asks for a mapping. Returns false if it has to wait; else it has left. */
static bool ask(struct guest *g)
{
	if (g->attach->lane->off) {
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
	if (n == (ssize_t)sizeof(req) && passed == -1 && req.magic == ATTACH_MAGIC && req.abi == ATTACH_ABI) {
		return ask(g);
	}
	if (n != 0)
		g->attach->garbage++;
	dismiss(g);
	return true;
}

static void on_guest(struct ev_loop *loop, ev_io *w, int events)
{
	struct guest *g = w->data;
	struct lane *l = g->attach->lane;

	(void)loop;
	(void)events;
	(void)serve(g);
	(void)helper_flush(l->helper);
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
	struct ev_loop *loop = a->lane->loop;

	g->attach = a;
	g->fd = fd;
	g->pidfd = pidfd;
	g->pid = pid;
	g->uid = uid;
	g->awaits = 0;
	g->isolate = false;
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
	(void)helper_flush(a->lane->helper);
}

static void beat(struct attach *a)
{
	struct timespec ts;

	(void)clock_gettime(CLOCK_MONOTONIC, &ts);
	atomic_store(&a->page->beat_ns, (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec);
}

static void on_beat(struct ev_loop *loop, ev_timer *w, int events)
{
	(void)loop;
	(void)events;
	beat(w->data);
}

/* The page is made under another name and renamed: nobody sees it half done, and nobody's file or link is followed. */
static int make_page(struct attach *a, const char *path)
{
	struct attach_page empty = {.magic = ATTACH_MAGIC, .abi = ATTACH_ABI};
	char temp[256];
	int fd, err = 0;

	if ((size_t)snprintf(temp, sizeof(temp), "%s.new", path) >= sizeof(temp))
		return -ENAMETOOLONG;
	(void)unlink(temp);
	fd = open(temp, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0644);
	if (fd == -1)
		return -errno;
	if (fchmod(fd, 0644) == -1 || ftruncate(fd, 4096) == -1 ||
	    pwrite(fd, &empty, sizeof(empty), 0) != (ssize_t)sizeof(empty) || rename(temp, path) == -1)
		err = -errno;
	if (!err) {
		a->page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
		if (a->page == MAP_FAILED)
			err = -errno;
	}
	close(fd);
	if (err)
		(void)unlink(temp);
	return err;
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
	a->page = MAP_FAILED;
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
	ret = make_page(a, page);
	if (ret)
		snprintf(err, ATTACH_ERR, "%s: %s", page, strerror(-ret));
	return ret;
}

void attach_start(struct attach *a, struct lane *lane, uint64_t pool)
{
	a->lane = lane;
	a->chunks = (uint32_t)(pool / SHM_CHUNK);
	a->guest = calloc(ATTACH_GUESTS_MAX, sizeof(*a->guest));
	if (!a->guest)
		abort(); /* at start, with nothing to lose */
	for (unsigned i = 0; i < ATTACH_GUESTS_MAX; i++)
		a->guest[i].fd = -1;
	ev_io_init(&a->io, on_connect, a->fd, EV_READ);
	a->io.data = a;
	ev_io_start(lane->loop, &a->io);
	ev_timer_init(&a->pause, on_pause, ATTACH_PAUSE_S, 0);
	a->pause.data = a;
	ev_timer_init(&a->beat, on_beat, 0, (double)ATTACH_BEAT_NS / 1e9);
	a->beat.data = a;
	ev_timer_start(lane->loop, &a->beat);
	beat(a);
}

void attach_switch(struct attach *a, bool off)
{
	atomic_store(&a->page->off, off);
}

void attach_stop(struct attach *a)
{
	if (a->page != MAP_FAILED)
		atomic_store(&a->page->beat_ns, 0);
	if (a->lane) {
		ev_io_stop(a->lane->loop, &a->io);
		ev_timer_stop(a->lane->loop, &a->beat);
		ev_timer_stop(a->lane->loop, &a->pause);
		for (unsigned i = 0; i < ATTACH_GUESTS_MAX; i++)
			if (a->guest[i].fd != -1)
				dismiss(&a->guest[i]);
	}
	if (a->fd >= 0)
		close(a->fd);
	a->fd = -1;
}
