/* SPDX-License-Identifier: Apache-2.0 */
/* VERIFY and PEER: compare what sock_diag says of a connection with the descriptors of its supposed processes. */
#include "helper_verify.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

/* --- the end of a scan --- */

static void release(struct scan *s)
{
	proc_dir_close(&s->fds);
	for (size_t i = 0; i < s->n_proc; i++)
		close(s->proc[i]);
	s->n_proc = 0;
	s->state = SCAN_FREE;
}

static void answer(struct scan *s, struct helper_queue *q, enum helper_result result, int err)
{
	struct helper_event ev = {
		.type = (enum helper_type)s->req.type,
		.result = result,
		.cookie = s->req.cookie,
		.err = err,
		.last = true,
		.e = s->req.e,
		.was_destroyed = s->destroyed,
		.sock_fd = -1,
		.fd = -1,
	};

	ev.e.netns = s->netns;
	release(s);
	helper_reply(q, &ev, NULL);
}

/* Found: descriptor @fd of process number @i is wanted number @k. */
static void found(struct verify *v, struct scan *s, struct helper_queue *q, size_t i, int fd, int k)
{
	struct helper_event ev = {
		.type = (enum helper_type)s->req.type,
		.result = s->state == SCAN_LISTENER ? HELPER_R_LISTENER : HELPER_R_LIVE,
		.cookie = s->req.cookie,
		.last = true,
		.e = s->req.e,
		.sock_pid = s->pid[i],
		.sock_fd = fd,
		.was_destroyed = s->destroyed,
		.fd = -1,
	};

	if (s->state == SCAN_SOCKET) {
		ev.sock_cookie = s->info.cookie;
		ev.sock_inode = s->info.inode;
	} else if (s->state == SCAN_PEER) {
		ev.e = s->peer[k].e;
		ev.sock_cookie = s->peer[k].cookie;
		ev.sock_inode = s->peer[k].inode;
	} else {
		size_t h = ((uint32_t)s->pid[i] * 31u + s->req.e.local_port) % VERIFY_HINTS;

		v->hint[h].pid = s->pid[i];
		v->hint[h].fd = fd;
		v->hint[h].port = s->req.e.local_port;
	}
	ev.e.netns = s->netns;
	release(s);
	helper_reply(q, &ev, NULL);
}

/* --- the steps --- */

/* Which of the wanted sockets is descriptor @fd of process number @i? -1: none. */
static int wanted(const struct scan *s, size_t i, int fd)
{
	uint64_t inode = proc_socket(s->proc[i], fd);

	for (size_t k = 0; k < s->n_want; k++) {
		if (inode == s->want[k])
			return (int)k;
	}
	return -1;
}

/* Look where it probably is. Returns true if it was there: answered. */
static bool look_first(struct verify *v, struct scan *s, struct helper_queue *q)
{
	for (size_t i = 0; i < s->n_proc; i++) {
		size_t h = ((uint32_t)s->pid[i] * 31u + s->req.e.local_port) % VERIFY_HINTS;
		int fd = s->req.fd_hint, k;

		if (s->state == SCAN_LISTENER)
			fd = v->hint[h].pid == s->pid[i] && v->hint[h].port == s->req.e.local_port ? v->hint[h].fd : -1;
		if (fd >= 0 && (k = wanted(s, i, fd)) != -1) {
			found(v, s, q, i, fd, k);
			return true;
		}
	}
	return false;
}

static void scan_from(struct scan *s, size_t i)
{
	s->at = i;
	s->looked = 0;
	proc_dir_close(&s->fds);
	if (i < s->n_proc)
		(void)proc_dir_open(&s->fds, s->proc[i], "fd"); /* not allowed or gone: it is an empty one */
}

/* The connection has ended, and at @at_ms it had not: who listens there? */
static void ended(struct verify *v, struct scan *s, struct helper_queue *q, uint64_t at_ms, uint64_t now_ms)
{
	struct netns *ns = netns_find(v->nets, s->netns);

	if (ns == NULL) {
		answer(s, q, HELPER_R_OTHER_NETNS, 0);
		return;
	}
	netns_renew(v->nets, ns, now_ms);
	s->n_want = listeners_find(ns->listeners, &s->req.e, at_ms, s->want, HELPER_LISTENERS_MAX);
	if (s->n_want == 0) {
		answer(s, q, HELPER_R_GONE, 0);
		return;
	}
	s->state = SCAN_LISTENER;
	if (!look_first(v, s, q))
		scan_from(s, 0);
}

/* The end of what was asked about; with PEER that of the socket with the same remote end: its addresses count then. */
static bool in_log(const struct netns *ns, struct scan *s, uint64_t *ret_ms)
{
	struct endpoint e = s->req.e;

	e.netns = s->netns;
	if (s->req.type == HELPER_PEER)
		return destroylog_find_remote(ns->log, &e, &s->req.e, ret_ms);
	return destroylog_find(ns->log, &e, ret_ms);
}

/* No such socket any more: it may have been, if the log says so. */
static void gone(struct verify *v, struct scan *s, struct helper_queue *q, uint64_t now_ms)
{
	const struct netns *ns = netns_find(v->nets, s->netns);
	uint64_t at_ms;

	if (ns == NULL) { /* closed meanwhile */
		answer(s, q, HELPER_R_OTHER_NETNS, 0);
		return;
	}
	s->destroyed = in_log(ns, s, &at_ms) && at_ms + HELPER_DESTROY_LOG_S * 1000u >= now_ms;
	if (s->destroyed) {
		ended(v, s, q, at_ms, now_ms);
	} else if (s->due_ms == 0) { /* once: the event may be on its way */
		s->state = SCAN_WAIT;
		s->due_ms = now_ms + HELPER_WAIT_MS;
	} else if (now_ms >= s->due_ms) {
		answer(s, q, HELPER_R_GONE, 0);
	} /* else: still waiting */
}

static void look_for_socket(struct scan *s)
{
	s->want[0] = s->info.inode;
	s->n_want = 1;
	s->state = SCAN_SOCKET;
}

/* A socket of the own namespace that was handed into another one? Only where the process says that it has it. */
static bool handed_over(struct verify *v, struct scan *s, struct helper_queue *q)
{
	const struct netns *own = netns_own(v->nets);
	uint64_t theirs = s->netns;

	if (theirs == own->inode || sockdiag_find(own->diag, &s->req.e, &s->info) != 0 || s->info.inode == 0)
		return false;
	look_for_socket(s);
	s->netns = own->inode;
	if (look_first(v, s, q))
		return true;
	s->netns = theirs;
	return false;
}

/* Ask the kernel, where the process lives, and decide what to look for. */
static void decide(struct verify *v, struct scan *s, struct helper_queue *q, uint64_t now_ms)
{
	const struct netns *ns = netns_find(v->nets, s->netns);
	int err = ns == NULL ? -ENONET : sockdiag_find(ns->diag, &s->req.e, &s->info);
	bool alive = err == 0 && s->info.inode != 0;

	if ((err == -ENONET || err == -ENOENT || err == 0) && !alive && handed_over(v, s, q))
		return;
	if (err == -ENONET) {
		answer(s, q, HELPER_R_OTHER_NETNS, 0);
	} else if (err == -ENOENT) {
		gone(v, s, q, now_ms);
	} else if (err != 0) {
		answer(s, q, HELPER_R_ERROR, -err);
	} else if (!alive) { /* closing: it exists, so it needs no entry in the log */
		ended(v, s, q, now_ms, now_ms);
	} else {
		look_for_socket(s);
		if (!look_first(v, s, q))
			scan_from(s, 0);
	}
}

/* Leave those of @n sockets that are near, if any are. Returns how many are left. */
static size_t narrow(struct sockdiag_peer *p, size_t n)
{
	size_t kept = 0;

	for (size_t i = 0; i < n; i++) {
		if (p[i].near)
			p[kept++] = p[i];
	}
	return kept > 0 ? kept : n;
}

/* Take the open ones of the @n sockets as those that are wanted. */
static void want_open(struct scan *s, size_t n)
{
	s->n_want = 0;
	for (size_t i = 0; i < n; i++) {
		if (s->peer[i].inode == 0) {
			if (s->remote)
				s->closing = s->peer[i].e;
			continue;
		}
		s->peer[s->n_want] = s->peer[i];
		s->want[s->n_want++] = s->peer[i].inode;
	}
}

static void not_that_peer(struct verify *v, struct scan *s, struct helper_queue *q, uint64_t now_ms);

/* PEER: look for an open socket that shares the remote end; else for one that shares the local end; else for a closed
 * one with that remote end, as after VERIFY. */
static void seek_peer(struct verify *v, struct scan *s, struct helper_queue *q, bool remote, uint64_t now_ms)
{
	const struct netns *ns = netns_find(v->nets, s->netns);
	int n = ns == NULL ? -ENONET : sockdiag_peers(ns->diag, &s->req.e, remote, s->peer, HELPER_PEERS_MAX);

	if (n < 0) {
		answer(s, q, n == -ENONET ? HELPER_R_OTHER_NETNS : HELPER_R_ERROR, n == -ENONET ? 0 : -n);
		return;
	}
	s->remote = remote;
	want_open(s, narrow(s->peer, (size_t)n));
	if (s->n_want > 0) {
		s->state = SCAN_PEER;
		s->hit_fd = -1;
		scan_from(s, 0);
	} else {
		not_that_peer(v, s, q, now_ms);
	}
}

/* PEER: descriptor @fd of the process being scanned is wanted number @k. Returns true if that settles it: a second one
 * proves as much, but then nobody knows which of them it is. */
static bool peer_hit(struct verify *v, struct scan *s, struct helper_queue *q, int fd, int k)
{
	if (s->n_want == 1) {
		found(v, s, q, s->at, fd, k);
		return true;
	}
	if (s->hit_fd == -1) {
		s->hit_fd = fd;
		s->hit_at = (int)s->at;
		s->hit = k;
	} else if (s->hit != k) {
		answer(s, q, HELPER_R_LIVE, 0);
		return true;
	}
	return false;
}

/* None of those that were wanted is a descriptor of theirs. */
static void not_that_peer(struct verify *v, struct scan *s, struct helper_queue *q, uint64_t now_ms)
{
	if (s->remote) {
		seek_peer(v, s, q, false, now_ms);
	} else if (s->closing.ver != 0) {
		s->req.e = s->closing;
		ended(v, s, q, now_ms, now_ms);
	} else {
		gone(v, s, q, now_ms);
	}
}

/* Open those of @r's processes that live and are who they are said to be. */
static void open_processes(struct scan *s, const struct helper_req *r)
{
	for (size_t i = 0; i < r->n; i++) {
		int proc = proc_open(r->p[i].pid);
		uint64_t start;

		if (proc < 0)
			continue;
		if (r->p[i].start_time != 0 && (proc_start_time(proc, &start) != 0 || start != r->p[i].start_time)) {
			close(proc);
			continue;
		}
		if (i == 0 && r->file.inode != 0 && !helper_maps(proc, &r->file, r->file.dev)) {
			close(proc); /* it is no child of the family */
			continue;
		}
		s->proc[s->n_proc] = proc;
		s->pid[s->n_proc++] = r->p[i].pid;
	}
}

bool verify_begin(struct verify *v, const struct helper_req *r, struct helper_queue *q, uint64_t now_ms)
{
	struct scan *s = NULL;

	for (size_t i = 0; i < HELPER_SCANS_MAX && s == NULL; i++) {
		if (v->scan[i].state == SCAN_FREE)
			s = &v->scan[i];
	}
	if (s == NULL)
		return false;
	s->req = *r;
	s->netns = netns_own(v->nets)->inode;
	s->destroyed = false;
	s->due_ms = 0;
	s->closing.ver = 0;
	s->n_proc = 0;
	s->fds.fd = -1;
	if (!endpoint_normalise(&s->req.e)) {
		answer(s, q, HELPER_R_ERROR, EINVAL);
		return true;
	}
	open_processes(s, r);
	if (s->n_proc == 0) {
		answer(s, q, HELPER_R_NO_PROCESS, 0);
	} else if (r->type == HELPER_PEER) {
		if (r->e.netns != 0)
			s->netns = r->e.netns;
		seek_peer(v, s, q, true, now_ms);
	} else {
		(void)proc_netns(s->proc[0], &s->netns); /* not allowed to know: taken for the own one */
		decide(v, s, q, now_ms);
	}
	return true;
}

/* All descriptors seen, nothing found. */
static void exhausted(struct verify *v, struct scan *s, struct helper_queue *q, uint64_t now_ms)
{
	const struct netns *ns = netns_find(v->nets, s->netns);
	struct sockdiag_info again;
	int err;

	if (s->state == SCAN_PEER) {
		if (s->hit_fd != -1)
			found(v, s, q, (size_t)s->hit_at, s->hit_fd, s->hit);
		else
			not_that_peer(v, s, q, now_ms);
		return;
	}
	if (s->state == SCAN_LISTENER) {
		answer(s, q, HELPER_R_GONE, 0);
		return;
	}
	/* it may have been closed while we were looking: that is not "somebody else's" */
	err = ns == NULL ? -ENONET : sockdiag_find(ns->diag, &s->req.e, &again);
	if (err == 0 && again.inode == s->info.inode)
		answer(s, q, HELPER_R_FOREIGN, 0);
	else if (err == 0 && again.inode == 0)
		ended(v, s, q, now_ms, now_ms);
	else if (err == 0) /* the same addresses, yet another socket: this request came too late */
		answer(s, q, HELPER_R_GONE, 0);
	else if (err == -ENOENT)
		gone(v, s, q, now_ms);
	else if (err == -ENONET)
		answer(s, q, HELPER_R_OTHER_NETNS, 0);
	else
		answer(s, q, HELPER_R_ERROR, -err);
}

static void scan_step(struct verify *v, struct scan *s, struct helper_queue *q, uint64_t now_ms)
{
	for (unsigned i = 0; i < HELPER_SCAN_STEP; i++) {
		int fd, k;

		if (s->looked++ < HELPER_SCAN_FDS && proc_dir_next(&s->fds, &fd)) {
			k = wanted(s, s->at, fd);
			if (k != -1 && s->state == SCAN_PEER) {
				if (peer_hit(v, s, q, fd, k))
					return;
			} else if (k != -1) {
				found(v, s, q, s->at, fd, k);
				return;
			}
		} else if (s->at + 1 < s->n_proc) {
			scan_from(s, s->at + 1);
		} else {
			exhausted(v, s, q, now_ms);
			return;
		}
	}
}

void verify_step(struct verify *v, struct helper_queue *q, uint64_t now_ms)
{
	for (size_t i = 0; i < HELPER_SCANS_MAX; i++) {
		struct scan *s = &v->scan[i];

		if (s->state == SCAN_WAIT)
			gone(v, s, q, now_ms);
		else if (s->state != SCAN_FREE)
			scan_step(v, s, q, now_ms);
	}
}

int verify_wait(const struct verify *v, uint64_t now_ms)
{
	int wait = -1;

	for (size_t i = 0; i < HELPER_SCANS_MAX; i++) {
		const struct scan *s = &v->scan[i];

		if (s->state != SCAN_FREE && s->state != SCAN_WAIT)
			return 0;
		if (s->state == SCAN_WAIT) {
			int left = s->due_ms > now_ms ? (int)(s->due_ms - now_ms) : 0;

			if (wait == -1 || left < wait)
				wait = left;
		}
	}
	return wait;
}
