/* SPDX-License-Identifier: Apache-2.0 */
/* agentd's side of the helper: start it, collect requests, hand out answers. */
#include "helper.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "helper_netns.h"
#include "helper_wire.h"

#define DATAGRAM_MAX (HELPER_BATCH * sizeof(struct helper_event) + sizeof(struct helper_paths))
#define REQ_MAX HELPER_OUTSTANDING_MAX

/* Close everything above standard error but @keep (n ascending numbers). */
static void close_others(const int *keep, size_t n)
{
	unsigned from = 3;

	for (size_t i = 0; i <= n; i++) {
		unsigned to = i < n ? (unsigned)keep[i] - 1 : ~0u;

		if (from <= to && syscall(SYS_close_range, from, to, 0) == -1) { /* Linux before 5.9 */
			long max = sysconf(_SC_OPEN_MAX);

			for (unsigned fd = from; fd <= to && fd < (unsigned long)max; fd++)
				close((int)fd);
		}
		if (i < n)
			from = (unsigned)keep[i] + 1;
	}
}

static int by_number(const void *a, const void *b)
{
	return *(const int *)a - *(const int *)b;
}

/* In the child: keep only what serves. */
static void __attribute__((noreturn)) run(int sock, int diag, int destroy, const char *keep_user, bool netns)
{
	int keep[3], n = 0;

	keep[n++] = sock;
	keep[n++] = diag;
	if (destroy >= 0)
		keep[n++] = destroy;
	qsort(keep, (size_t)n, sizeof(keep[0]), by_number);
	close_others(keep, (size_t)n);
	helper_serve(sock, diag, destroy, keep_user, netns);
}

static int start(struct helper *h, const char *keep_user, bool netns, bool ends)
{
	int sv[2] = {-1, -1}, diag = -1, destroy = -1, err = -ENOMEM;

	*h = (struct helper){.fd = -1};
	h->req = calloc(REQ_MAX, sizeof(h->req[0]));
	h->buf = malloc(DATAGRAM_MAX);
	if (h->req == NULL || h->buf == NULL)
		goto out;
	err = diag = sockdiag_open();
	if (diag < 0)
		goto out;
	if (ends)
		destroy =
			sockdiag_destroy_open(HELPER_EVENT_BUFFER); /* before the fork: from now on no end is missed */
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, sv) == -1 ||
	    (h->pid = fork()) == -1) {
		err = -errno;
		h->pid = 0;
		goto out;
	}
	if (h->pid == 0)
		run(sv[1], diag, destroy, keep_user, netns);
	h->fd = sv[0];
	sv[0] = -1;
	err = 0;
out:
	for (size_t i = 0; i < 2; i++) {
		if (sv[i] != -1)
			close(sv[i]);
	}
	if (diag >= 0)
		close(diag);
	if (destroy >= 0)
		close(destroy);
	if (err != 0)
		helper_stop(h);
	return err;
}

int helper_start(struct helper *h, const char *keep_user, bool netns)
{
	return start(h, keep_user, netns, true);
}

int helper_start_brief(struct helper *h, const char *keep_user)
{
	return start(h, keep_user, false, false);
}

void helper_stop(struct helper *h)
{
	if (h->fd != -1)
		close(h->fd);
	h->fd = -1;
	if (h->pid > 0) {
		while (waitpid(h->pid, NULL, 0) == -1 && errno == EINTR)
			;
	}
	h->pid = 0;
	free(h->req);
	free(h->buf);
	h->req = NULL;
	h->buf = NULL;
}

int helper_flush(struct helper *h)
{
	uint32_t sent = 0;

	if (h->fd == -1)
		return -EPIPE;
	while (sent < h->n_req) {
		uint32_t n = h->n_req - sent < HELPER_BATCH ? h->n_req - sent : HELPER_BATCH;

		if (send(h->fd, h->req + sent, n * sizeof(h->req[0]), MSG_NOSIGNAL | MSG_DONTWAIT) == -1) {
			if (errno == EINTR)
				continue;
			if (errno != EAGAIN && errno != ENOBUFS)
				return -EPIPE;
			break;
		}
		sent += n;
	}
	h->n_req -= sent;
	memmove(h->req, h->req + sent, h->n_req * sizeof(h->req[0]));
	return 0;
}

/* Take a place for one request; *ret is zeroed but for type and cookie. */
static int take(struct helper *h, enum helper_type type, uint64_t cookie, struct helper_req **ret)
{
	if (h->fd == -1)
		return -EPIPE;
	if (h->outstanding == HELPER_OUTSTANDING_MAX) {
		h->refused++;
		return -EAGAIN;
	}
	h->outstanding++;
	h->asked++;
	*ret = &h->req[h->n_req++];
	**ret = (struct helper_req){.type = type, .cookie = cookie, .fd_hint = -1};
	return 0;
}

static int taken(struct helper *h)
{
	return h->n_req >= HELPER_BATCH ? helper_flush(h) : 0;
}

int helper_verify_child(struct helper *h, uint64_t cookie, const struct helper_id *file, const struct helper_pid *p,
			size_t n, int fd_hint, const struct endpoint *e)
{
	struct helper_req *r;
	int err = take(h, HELPER_VERIFY, cookie, &r);

	if (err != 0)
		return err;
	r->n = n < HELPER_PIDS_MAX ? (uint32_t)n : HELPER_PIDS_MAX;
	memcpy(r->p, p, r->n * sizeof(r->p[0]));
	r->fd_hint = fd_hint;
	r->e = *e;
	r->file = *file;
	return taken(h);
}

int helper_verify(struct helper *h, uint64_t cookie, const struct helper_pid *p, size_t n, int fd_hint,
		  const struct endpoint *e)
{
	static const struct helper_id known;

	return helper_verify_child(h, cookie, &known, p, n, fd_hint, e);
}

int helper_exists(struct helper *h, uint64_t cookie, const struct endpoint *e)
{
	struct helper_req *r;
	int err = take(h, HELPER_EXISTS, cookie, &r);

	if (err != 0)
		return err;
	r->e = *e;
	return taken(h);
}

int helper_family(struct helper *h, uint64_t cookie, const struct helper_id *id, size_t n)
{
	struct helper_req *r;
	int err = take(h, HELPER_FAMILY, cookie, &r);

	if (err != 0)
		return err;
	r->n = n < HELPER_IDS_MAX ? (uint32_t)n : HELPER_IDS_MAX;
	memcpy(r->id, id, r->n * sizeof(r->id[0]));
	return taken(h);
}

int helper_adopt(struct helper *h, uint64_t cookie)
{
	struct helper_req *r;
	int err = take(h, HELPER_ADOPT, cookie, &r);

	return err != 0 ? err : taken(h);
}

static int ask_proc(struct helper *h, uint64_t cookie, const struct helper_pid *p, uint32_t op)
{
	struct helper_req *r;
	int err = take(h, HELPER_PROC, cookie, &r);

	if (err != 0)
		return err;
	r->op = op;
	r->n = 1;
	r->p[0] = *p;
	return taken(h);
}

int helper_proc(struct helper *h, uint64_t cookie, const struct helper_pid *p)
{
	return ask_proc(h, cookie, p, 0);
}

int helper_brief(struct helper *h, uint64_t cookie, const struct helper_pid *p)
{
	return ask_proc(h, cookie, p, HELPER_OP_BRIEF);
}

int helper_look(struct helper *h, uint64_t cookie, const struct helper_pid *p)
{
	return ask_proc(h, cookie, p, HELPER_OP_MAPS);
}

int helper_peer(struct helper *h, uint64_t cookie, const struct helper_pid *p, size_t n, const struct endpoint *e)
{
	struct helper_req *r;
	int err = take(h, HELPER_PEER, cookie, &r);

	if (err != 0)
		return err;
	r->n = n < HELPER_PIDS_MAX ? (uint32_t)n : HELPER_PIDS_MAX;
	memcpy(r->p, p, r->n * sizeof(r->p[0]));
	r->e = *e;
	return taken(h);
}

int helper_whose(struct helper *h, uint64_t cookie, const struct endpoint *e)
{
	struct helper_req *r;
	int err = take(h, HELPER_WHOSE, cookie, &r);

	if (err != 0)
		return err;
	r->e = *e;
	return taken(h);
}

int helper_netns_pid(struct helper *h, uint64_t cookie, int32_t pid)
{
	struct helper_req *r;
	int err = take(h, HELPER_NETNS, cookie, &r);

	if (err != 0)
		return err;
	r->op = HELPER_OP_PID;
	r->p[0].pid = pid;
	return taken(h);
}

int helper_netns_name(struct helper *h, uint64_t cookie, const char *name)
{
	struct helper_req *r;
	int err = take(h, HELPER_NETNS, cookie, &r);

	if (err != 0)
		return err;
	r->op = HELPER_OP_NAME;
	if (strlen(name) <= HELPER_NAME_MAX) /* else it stays empty, and is refused as such */
		memcpy(r->name, name, strlen(name));
	return taken(h);
}

int helper_netns_close(struct helper *h, uint64_t netns)
{
	struct helper_req *r;
	int err = take(h, HELPER_NETNS, 0, &r);

	if (err != 0)
		return err;
	r->op = HELPER_OP_CLOSE;
	r->e.netns = netns;
	return taken(h);
}

/* No answer to anything that was asked? */
static bool is_event(const struct helper_event *ev)
{
	return ev->type == HELPER_DESTROYED || ev->type == HELPER_OVERRUN ||
	       (ev->type == HELPER_NETNS && ev->result == HELPER_R_GONE);
}

static void deliver(struct helper *h, struct helper_event *ev, int fd, const struct helper_paths *paths, helper_cb cb,
		    void *arg)
{
	ev->fd = fd;
	ev->exe = paths != NULL ? paths->exe : NULL;
	ev->cgroup = paths != NULL ? paths->cgroup : NULL;
	if (ev->type == HELPER_DESTROYED)
		h->destroyed++;
	else if (ev->type == HELPER_OVERRUN)
		h->overruns++;
	else if (!is_event(ev) && ev->last && h->outstanding > 0)
		h->outstanding--;
	if (ev->type == HELPER_CLOSED)
		return;
	if (ev->type == HELPER_NETNS && ev->result == HELPER_R_OK && fd == -1) { /* no number was free for it */
		ev->result = HELPER_R_ERROR;
		ev->err = EMFILE;
	}
	cb(arg, ev);
}

/* Receive one datagram. Returns its length, 0 nothing there, -EPIPE closed. */
static ssize_t receive(struct helper *h, int *ret_fd)
{
	union {
		struct cmsghdr align;
		char buf[CMSG_SPACE(sizeof(int))];
	} control;
	struct iovec iov = {.iov_base = h->buf, .iov_len = DATAGRAM_MAX};
	struct msghdr m = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = sizeof(control),
	};
	struct cmsghdr *c;
	ssize_t n;

	do
		n = recvmsg(h->fd, &m, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	while (n == -1 && errno == EINTR);
	if (n == -1)
		return errno == EAGAIN ? 0 : -EPIPE;
	*ret_fd = -1;
	c = CMSG_FIRSTHDR(&m);
	if (c != NULL && c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS &&
	    c->cmsg_len == CMSG_LEN(sizeof(int)))
		memcpy(ret_fd, CMSG_DATA(c), sizeof(int));
	return n == 0 ? -EPIPE : n;
}

int helper_poll(struct helper *h, unsigned max, helper_cb cb, void *arg)
{
	int total = 0;

	if (h->fd == -1)
		return -EPIPE;
	for (unsigned i = 0; i < max; i++) {
		struct helper_event ev;
		size_t n = sizeof(ev);
		int fd = -1;
		ssize_t len = receive(h, &fd);

		if (len < 0)
			return total > 0 ? total : -EPIPE; /* the next call says so again */
		if (len == 0)
			break;
		if ((size_t)len < n)
			continue;
		memcpy(&ev, h->buf, n);
		if (helper_has_path(ev.type) && (size_t)len == n + sizeof(struct helper_paths)) {
			struct helper_paths paths;

			memcpy(&paths, h->buf + n, sizeof(paths));
			paths.exe[HELPER_PATH_MAX - 1] = paths.cgroup[HELPER_PATH_MAX - 1] = '\0';
			deliver(h, &ev, -1, &paths, cb, arg);
			total++;
			continue;
		}
		for (size_t off = 0; (size_t)len - off >= n && h->fd != -1; off += n, fd = -1) {
			memcpy(&ev, h->buf + off, n);
			deliver(h, &ev, fd, NULL, cb, arg);
			total++;
		}
	}
	(void)helper_flush(h);
	return total;
}
