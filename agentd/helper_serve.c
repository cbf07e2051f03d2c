/* SPDX-License-Identifier: Apache-2.0 */
/* The helper process: takes requests, looks, answers; passes on what the kernel destroys. */
#include "helper_wire.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <netinet/tcp.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/random.h>

#include <linux/capability.h>

#include "common/priv.h"
#include "helper_verify.h"
#include "helper_whose.h"
#include "realtime.h"

#ifndef CAP_CHECKPOINT_RESTORE
#define CAP_CHECKPOINT_RESTORE 40
#endif

#define DESCRIPTORS 4096 /* that may be open */

struct serve {
	int sock;
	struct netns_set nets;
	struct verify v;
	struct whose whose;
	struct helper_walk walk;
	struct helper_queue out;
	bool overrun; /* to be told as soon as there is room */
	bool blocked; /* the first request waits for an earlier one to be done */
	size_t head, n_req;
	struct helper_req req[HELPER_OUTSTANDING_MAX];
	struct helper_req in[HELPER_BATCH + 1];
};

static uint64_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

/* --- answers --- */

void helper_reply(struct helper_queue *q, const struct helper_event *ev, const struct helper_paths *paths)
{
	struct helper_out *o = &q->out[(q->head + q->n) % HELPER_OUT_MAX];

	assert(q->n < HELPER_OUT_MAX);
	q->n++;
	o->ev = *ev;
	o->ev.exe = o->ev.cgroup = NULL;
	if (paths != NULL)
		o->paths = *paths;
	else
		memset(&o->paths, 0, sizeof(o->paths));
}

/* Send the datagram that begins with the first answer of @q. Returns how many answers it held, or -errno. */
static int send_some(struct helper_queue *q)
{
	struct iovec iov[HELPER_BATCH];
	union {
		struct cmsghdr align;
		char buf[CMSG_SPACE(sizeof(int))];
	} control;
	struct msghdr m = {.msg_iov = iov};
	struct helper_out *first = &q->out[q->head];
	size_t n = 0;

	while (n < q->n && n < HELPER_BATCH) {
		struct helper_out *o = &q->out[(q->head + n) % HELPER_OUT_MAX];
		bool alone = o->ev.fd != -1 || helper_has_path(o->ev.type);

		if (alone && n > 0)
			break;
		iov[n++] = (struct iovec){.iov_base = &o->ev, .iov_len = sizeof(o->ev)};
		if (alone)
			break;
	}
	m.msg_iovlen = n;
	if (helper_has_path(first->ev.type))
		iov[m.msg_iovlen++] = (struct iovec){.iov_base = &first->paths, .iov_len = sizeof(first->paths)};
	if (first->ev.fd != -1) {
		m.msg_control = &control;
		m.msg_controllen = sizeof(control);
		memset(&control, 0, sizeof(control));
		control.align = (struct cmsghdr){
			.cmsg_level = SOL_SOCKET,
			.cmsg_type = SCM_RIGHTS,
			.cmsg_len = CMSG_LEN(sizeof(int)),
		};
		memcpy(CMSG_DATA(&control.align), &first->ev.fd, sizeof(int));
	}
	if (sendmsg(q->sock, &m, MSG_DONTWAIT | MSG_NOSIGNAL) == -1)
		return -errno;
	if (first->ev.fd != -1)
		close(first->ev.fd);
	return (int)n;
}

static void flush(struct helper_queue *q)
{
	while (q->n > 0) {
		int n = send_some(q);

		if (n == -EINTR)
			continue;
		if (n == -EAGAIN || n == -ENOBUFS)
			return;
		if (n < 0)
			_exit(0); /* agentd is gone */
		q->head = (q->head + (size_t)n) % HELPER_OUT_MAX;
		q->n -= (size_t)n;
	}
}

/* --- events --- */

/* before the log knows of the end: who listened then? */
static void destroyed(struct serve *s, struct netns *ns, const struct sockdiag_destroyed *d, uint64_t now)
{
	struct helper_event ev = {
		.type = HELPER_DESTROYED,
		.result = HELPER_R_OK,
		.last = true,
		.e = d->e,
		.sock_cookie = d->cookie,
		.fd = -1,
	};

	ev.e.netns = ns->inode;
	netns_renew(&s->nets, ns, now);
	destroylog_add(ns->log, &ev.e, now);
	if (s->out.n < HELPER_OUT_EVENTS)
		helper_reply(&s->out, &ev, NULL);
	else
		s->overrun = true;
}

static void read_destroyed(struct serve *s, struct netns *ns)
{
	for (unsigned i = 0; i < 256; i++) {
		struct sockdiag_destroyed d[8];
		int n = sockdiag_destroy_read(ns->destroy, d, 8);
		uint64_t now = now_ms();

		if (n == -EAGAIN)
			break;
		if (n == -ENOBUFS) {
			s->overrun = true;
			continue;
		}
		if (n < 0 && n != -EBADMSG) { /* for good: say so once, agentd asks EXISTS from then on */
			s->overrun = true;
			close(ns->destroy);
			ns->destroy = -1;
			break;
		}
		for (int k = 0; k < n; k++)
			destroyed(s, ns, &d[k], now);
	}
}

static void tell_overrun(struct serve *s)
{
	struct helper_event ev = {.type = HELPER_OVERRUN, .result = HELPER_R_OK, .last = true, .fd = -1};

	if (!s->overrun || s->out.n >= HELPER_OUT_EVENTS)
		return;
	s->overrun = false;
	helper_reply(&s->out, &ev, NULL);
}

/* --- requests --- */

static void answer_exists(struct serve *s, const struct helper_req *r)
{
	struct helper_event ev = {.type = HELPER_EXISTS, .cookie = r->cookie, .last = true, .e = r->e, .fd = -1};
	const struct netns *ns = netns_find(&s->nets, r->e.netns);
	struct sockdiag_info info;
	int err = !endpoint_normalise(&ev.e) ? -EINVAL : ns == NULL ? -ENONET : sockdiag_find(ns->diag, &ev.e, &info);

	if (ns != NULL)
		ev.e.netns = ns->inode;
	if (err == 0 && info.inode != 0) {
		ev.result = HELPER_R_LIVE;
		ev.sock_cookie = info.cookie;
		ev.sock_inode = info.inode;
	} else if (err == 0 || err == -ENOENT) {
		ev.result = HELPER_R_GONE;
	} else if (err == -ENONET) {
		ev.result = HELPER_R_OTHER_NETNS;
	} else {
		ev.result = HELPER_R_ERROR;
		ev.err = -err;
	}
	helper_reply(&s->out, &ev, NULL);
}

/* Room for whatever one turn may answer: all scans, and a request. */
static bool has_room(const struct serve *s)
{
	return helper_room(&s->out, HELPER_SCANS_MAX + 16);
}

/* Begin what can be begun, in order. A request that has to wait makes those behind it wait. */
static void begin(struct serve *s)
{
	unsigned procs = 0;

	s->blocked = false;
	while (s->n_req > 0 && has_room(s) && procs < HELPER_PROC_STEP) {
		struct helper_req *r = &s->req[s->head];

		switch (r->type) {
		case HELPER_VERIFY:
		case HELPER_PEER:
			s->blocked = !verify_begin(&s->v, r, &s->out, now_ms());
			if (s->blocked)
				return;
			break;
		case HELPER_EXISTS:
			answer_exists(s, r);
			break;
		case HELPER_PROC:
			whose_proc(&s->whose, r, &s->out);
			procs++;
			break;
		case HELPER_WHOSE:
			whose_begin(&s->whose, r, &s->out);
			break;
		case HELPER_NETNS:
			netns_answer(&s->nets, r, &s->out, now_ms());
			break;
		case HELPER_FAMILY:
		case HELPER_ADOPT:
			s->blocked = s->walk.active;
			if (s->blocked)
				return;
			helper_walk_begin(&s->walk, r, &s->out);
			break;
		default:
			_exit(1); /* not our agentd */
		}
		s->head = (s->head + 1) % HELPER_OUTSTANDING_MAX;
		s->n_req--;
	}
}

static void read_requests(struct serve *s)
{
	while (s->n_req + HELPER_BATCH <= HELPER_OUTSTANDING_MAX) {
		ssize_t n = recv(s->sock, s->in, sizeof(s->in), MSG_DONTWAIT);

		if (n == -1 && (errno == EAGAIN || errno == EINTR))
			return;
		if (n <= 0 || (size_t)n % sizeof(s->in[0]) != 0 || (size_t)n > HELPER_BATCH * sizeof(s->in[0]))
			_exit(n == 0 ? 0 : 1);
		for (size_t i = 0; i < (size_t)n / sizeof(s->in[0]); i++) {
			/* who asks this has a process waiting, and for milliseconds only */
			if (s->in[i].type == HELPER_PROC && s->in[i].op == HELPER_OP_BRIEF && has_room(s))
				whose_proc(&s->whose, &s->in[i], &s->out);
			else
				s->req[(s->head + s->n_req++) % HELPER_OUTSTANDING_MAX] = s->in[i];
		}
	}
}

/* --- the process --- */

static int patience(const struct serve *s)
{
	uint64_t now = now_ms();
	int scans, names;

	if (!has_room(s))
		return -1; /* agentd has to read first: POLLOUT */
	if (s->walk.active || (whose_active(&s->whose) && helper_room(&s->out, HELPER_WHOSE_MAX)) ||
	    (s->n_req > 0 && !s->blocked) || (s->overrun && s->out.n < HELPER_OUT_EVENTS))
		return 0;
	scans = verify_wait(&s->v, now);
	names = netns_wait(&s->nets, now);
	return scans == -1 || (names != -1 && names < scans) ? names : scans;
}

/* Wait for agentd or the kernel, then read what the kernel has destroyed. Returns what is with agentd's socket. */
static short await(struct serve *s)
{
	struct pollfd p[1 + HELPER_NETNS_MAX + 1];
	bool wants = s->n_req + HELPER_BATCH <= HELPER_OUTSTANDING_MAX;

	p[0] = (struct pollfd){.fd = s->sock, .events = (short)((wants ? POLLIN : 0) | (s->out.n > 0 ? POLLOUT : 0))};
	for (unsigned i = 0; i < s->nets.n; i++)
		p[1 + i] = (struct pollfd){.fd = s->nets.ns[i]->destroy, .events = POLLIN};
	if (poll(p, 1 + s->nets.n, patience(s)) == -1) {
		if (errno != EINTR)
			_exit(1);
		return 0;
	}
	for (unsigned i = 0; i < s->nets.n; i++) {
		if (p[1 + i].revents != 0)
			read_destroyed(s, s->nets.ns[i]);
	}
	return p[0].revents;
}

static void __attribute__((noreturn)) loop(struct serve *s)
{
	struct realtime rank;

	realtime_begin(&rank);
	for (;;) {
		short revents = await(s);

		realtime_spend(&rank);
		if (revents & POLLIN) {
			read_requests(s);
			flush(&s->out); /* before anything that takes time */
		} else if (revents & (POLLHUP | POLLERR)) {
			_exit(0);
		}
		begin(s);
		if (has_room(s))
			verify_step(&s->v, &s->out, now_ms());
		if (s->walk.active)
			helper_walk_step(&s->walk, &s->out);
		whose_step(&s->whose, &s->out);
		if (s->blocked)
			begin(s); /* what it waited for may be done, and nothing else wakes us */
		netns_look(&s->nets, &s->out, now_ms());
		tell_overrun(s);
		flush(&s->out);
	}
}

/* Other namespaces take more descriptors than a session is allowed by default. */
static void allow_descriptors(void)
{
	struct rlimit r;

	if (getrlimit(RLIMIT_NOFILE, &r) == 0 && r.rlim_cur < DESCRIPTORS) {
		r.rlim_cur = r.rlim_max < DESCRIPTORS ? r.rlim_max : DESCRIPTORS;
		(void)setrlimit(RLIMIT_NOFILE, &r);
	}
}

void helper_serve(int sock, int diag, int destroy, const char *keep_user, bool netns)
{
	/* Why each: common/priv.h drops the rest. PTRACE: links below /proc/PID. DAC: the directories fd and
	 * map_files are their owner's. CHECKPOINT_RESTORE: opening what lies in map_files.
	 * Then for other namespaces. SYS_ADMIN: going there. NET_RAW: the packet socket. NET_ADMIN: its buffer may be
	 * large; with the small default one, handshakes are lost as soon as there are many. */
	static const int caps[] = {CAP_SYS_PTRACE, CAP_DAC_READ_SEARCH, CAP_CHECKPOINT_RESTORE,
				   CAP_SYS_ADMIN,  CAP_NET_RAW,		CAP_NET_ADMIN};
	struct serve *s = calloc(1, sizeof(*s));
	uint64_t seed = 0;

	if (s == NULL || diag < 0 || getrandom(&seed, sizeof(seed), GRND_NONBLOCK) < 0)
		_exit(1);
	s->sock = s->out.sock = sock;
	s->overrun = destroy < 0; /* no events at all: agentd has to ask */
	(void)prctl(PR_SET_NAME, "agentd-helper");
	/* Ctrl-C goes to the whole foreground group; ours to end is when agentd closes the socket. */
	(void)signal(SIGINT, SIG_IGN);
	(void)signal(SIGTERM, SIG_IGN);
	(void)signal(SIGHUP, SIG_IGN);
	/* Little to do, but at once: a socket must be looked up while it exists. */
	(void)setpriority(PRIO_PROCESS, 0, -10);
	allow_descriptors();
	s->v.nets = &s->nets;
	whose_init(&s->whose, &s->nets);
	if (netns_init(&s->nets, diag, destroy, seed, netns) != 0 || helper_walk_init(&s->walk) != 0 ||
	    priv_drop(keep_user, caps, netns ? 6 : 3) != 0)
		_exit(1);
	(void)prctl(PR_SET_PDEATHSIG, SIGKILL); /* after the drop, which would clear it */
	loop(s);
}
