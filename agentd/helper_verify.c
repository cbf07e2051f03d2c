/* SPDX-License-Identifier: Apache-2.0 */
/* VERIFY: compare what sock_diag says of a connection with the descriptors of its supposed processes. */
#include "helper_verify.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

int verify_init(struct verify *v, int diag, uint64_t seed)
{
	int self = proc_open(getpid()), err;

	if (self < 0)
		return self;
	err = proc_netns(self, &v->netns);
	close(self);
	v->diag = diag;
	v->log = destroylog_new(HELPER_DESTROY_LOG, seed);
	v->listeners = listeners_new(diag);
	return err != 0 ? err : v->log == NULL || v->listeners == NULL ? -ENOMEM : 0;
}

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
		.type = HELPER_VERIFY,
		.result = result,
		.cookie = s->req.cookie,
		.err = err,
		.last = true,
		.e = s->req.e,
		.was_destroyed = s->destroyed,
		.sock_fd = -1,
		.fd = -1,
	};

	release(s);
	helper_reply(q, &ev, NULL);
}

/* Found: descriptor @fd of process number @i. */
static void found(struct verify *v, struct scan *s, struct helper_queue *q, size_t i, int fd)
{
	struct helper_event ev = {
		.type = HELPER_VERIFY,
		.result = s->state == SCAN_SOCKET ? HELPER_R_LIVE : HELPER_R_LISTENER,
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
	} else {
		size_t h = ((uint32_t)s->pid[i] * 31u + s->req.e.local_port) % VERIFY_HINTS;

		v->hint[h].pid = s->pid[i];
		v->hint[h].fd = fd;
		v->hint[h].port = s->req.e.local_port;
	}
	release(s);
	helper_reply(q, &ev, NULL);
}

/* --- the steps --- */

static bool wanted(const struct scan *s, uint64_t inode)
{
	for (size_t i = 0; i < s->n_want; i++) {
		if (inode == s->want[i])
			return true;
	}
	return false;
}

/* Look where it probably is. Returns true if it was there: answered. */
static bool look_first(struct verify *v, struct scan *s, struct helper_queue *q)
{
	for (size_t i = 0; i < s->n_proc; i++) {
		size_t h = ((uint32_t)s->pid[i] * 31u + s->req.e.local_port) % VERIFY_HINTS;
		int fd = s->req.fd_hint;

		if (s->state == SCAN_LISTENER)
			fd = v->hint[h].pid == s->pid[i] && v->hint[h].port == s->req.e.local_port ? v->hint[h].fd : -1;
		if (fd >= 0 && wanted(s, proc_socket(s->proc[i], fd))) {
			found(v, s, q, i, fd);
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
	listeners_renew(v->listeners, now_ms);
	s->n_want = listeners_find(v->listeners, &s->req.e, at_ms, s->want, HELPER_LISTENERS_MAX);
	if (s->n_want == 0) {
		answer(s, q, HELPER_R_GONE, 0);
		return;
	}
	s->state = SCAN_LISTENER;
	if (!look_first(v, s, q))
		scan_from(s, 0);
}

/* No such socket any more: it may have been, if the log says so. */
static void gone(struct verify *v, struct scan *s, struct helper_queue *q, uint64_t now_ms)
{
	uint64_t at_ms;

	s->destroyed = destroylog_find(v->log, &s->req.e, &at_ms) && at_ms + HELPER_DESTROY_LOG_S * 1000u >= now_ms;
	if (s->destroyed) {
		ended(v, s, q, at_ms, now_ms);
	} else if (s->due_ms == 0) { /* once: the event may be on its way */
		s->state = SCAN_WAIT;
		s->due_ms = now_ms + HELPER_WAIT_MS;
	} else if (now_ms >= s->due_ms) {
		answer(s, q, HELPER_R_GONE, 0);
	} /* else: still waiting */
}

/* Ask the kernel and decide what to look for. */
static void decide(struct verify *v, struct scan *s, struct helper_queue *q, uint64_t now_ms)
{
	uint64_t netns = 0;
	int err = sockdiag_find(v->diag, &s->req.e, &s->info);

	if (err == 0 && s->info.inode != 0) {
		s->want[0] = s->info.inode;
		s->n_want = 1;
		s->state = SCAN_SOCKET;
		if (look_first(v, s, q))
			return;
	}
	/* A descriptor of the process with an inode of ours would have proved that it is ours. What was not
	 * found may be in the process's own network namespace, about which we know nothing. */
	if (proc_netns(s->proc[0], &netns) == 0 && netns != v->netns)
		answer(s, q, HELPER_R_OTHER_NETNS, 0);
	else if (err == -ENOENT)
		gone(v, s, q, now_ms);
	else if (err != 0)
		answer(s, q, HELPER_R_ERROR, -err);
	else if (s->info.inode == 0) /* closing: it exists, so it needs no entry in the log */
		ended(v, s, q, now_ms, now_ms);
	else
		scan_from(s, 0);
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
	s->destroyed = false;
	s->due_ms = 0;
	s->n_proc = 0;
	s->fds.fd = -1;
	if (!endpoint_normalise(&s->req.e)) {
		answer(s, q, HELPER_R_ERROR, EINVAL);
		return true;
	}
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
	if (s->n_proc == 0)
		answer(s, q, HELPER_R_NO_PROCESS, 0);
	else
		decide(v, s, q, now_ms);
	return true;
}

/* All descriptors seen, nothing found. */
static void exhausted(struct verify *v, struct scan *s, struct helper_queue *q, uint64_t now_ms)
{
	struct sockdiag_info again;
	int err;

	if (s->state == SCAN_LISTENER) {
		answer(s, q, HELPER_R_GONE, 0);
		return;
	}
	/* it may have been closed while we were looking: that is not "somebody else's" */
	err = sockdiag_find(v->diag, &s->req.e, &again);
	if (err == 0 && again.inode == s->info.inode)
		answer(s, q, HELPER_R_FOREIGN, 0);
	else if (err == 0 && again.inode == 0)
		ended(v, s, q, now_ms, now_ms);
	else if (err == 0) /* the same addresses, yet another socket: this request came too late */
		answer(s, q, HELPER_R_GONE, 0);
	else if (err == -ENOENT)
		gone(v, s, q, now_ms);
	else
		answer(s, q, HELPER_R_ERROR, -err);
}

static void scan_step(struct verify *v, struct scan *s, struct helper_queue *q, uint64_t now_ms)
{
	for (unsigned i = 0; i < HELPER_SCAN_STEP; i++) {
		int fd;

		if (s->looked++ < HELPER_SCAN_FDS && proc_dir_next(&s->fds, &fd)) {
			if (wanted(s, proc_socket(s->proc[s->at], fd))) {
				found(v, s, q, s->at, fd);
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

		if (s->state == SCAN_SOCKET || s->state == SCAN_LISTENER)
			return 0;
		if (s->state == SCAN_WAIT) {
			int left = s->due_ms > now_ms ? (int)(s->due_ms - now_ms) : 0;

			if (wait == -1 || left < wait)
				wait = left;
		}
	}
	return wait;
}
