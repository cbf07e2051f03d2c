/* SPDX-License-Identifier: Apache-2.0 */
/* From a socket to its process, by way of everybody's descriptors; and what a process is. */
#include "helper_whose.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#define PROCESS_COST 16 /* a process more takes as long as so many descriptors */

void whose_init(struct whose *w, const struct netns_set *nets)
{
	w->nets = nets;
	w->pids.fd = w->fds.fd = w->lines.fd = w->proc = -1;
}

/* --- what a process is --- */

static void paths_of(int proc, struct helper_paths *paths)
{
	if (proc_exe(proc, paths->exe, sizeof(paths->exe)) != 0)
		paths->exe[0] = '\0';
	if (proc_cgroup(proc, paths->cgroup, sizeof(paths->cgroup)) != 0)
		paths->cgroup[0] = '\0';
}

/* Returns 0 or -errno: -ENOENT, -ESRCH it is gone. */
static int describe(const struct netns_set *nets, int proc, struct helper_event *ev, struct helper_paths *paths)
{
	struct proc_status st;
	int err = proc_start_time(proc, &ev->p.start_time);

	if (err == 0)
		err = proc_status(proc, &st);
	if (err != 0)
		return err;
	ev->uid = st.uid;
	ev->fsuid = st.fsuid;
	ev->ns_pid = st.ns_pid;
	ev->seccomp = st.seccomp;
	if (proc_netns(proc, &ev->netns) != 0)
		ev->netns = 0;
	ev->own_netns = ev->netns != 0 && ev->netns == netns_own(nets)->inode;
	paths_of(proc, paths);
	return 0;
}

unsigned whose_mapping(const char *name)
{
	/* with the names that wheels and other bundles give them: libssl-3f2a….so.3 */
	static const char *const tls[] = {"libssl.so",	 "libssl-",	  "libgnutls.so", "libgnutls-", "libmbedtls.so",
					  "libmbedtls-", "libwolfssl.so", "libwolfssl-",  "libssl3.so"};
	const char *slash = strrchr(name, '/'), *base = slash == NULL ? name : slash + 1;

	if (strncmp(name, HELPER_MAP_NAME, strlen(HELPER_MAP_NAME)) == 0)
		return HELPER_WHOSE_ATTACHED;
	if (slash == NULL)
		return 0;
	if (strncmp(base, "libtlstap.so", 12) == 0)
		return HELPER_WHOSE_TAP;
	for (size_t i = 0; i < sizeof(tls) / sizeof(tls[0]); i++) {
		if (strncmp(base, tls[i], strlen(tls[i])) == 0)
			return HELPER_WHOSE_TLS;
	}
	return 0;
}

static unsigned take_map(const struct proc_map *m, unsigned before, struct helper_id *ret_id)
{
	unsigned what = whose_mapping(m->name);

	if (what & ~before & HELPER_WHOSE_ATTACHED)
		*ret_id = (struct helper_id){.dev = m->dev, .inode = m->inode};
	return what;
}

/* *@ret_id: the first mapping of ours, if there is one. */
static unsigned what_is(struct whose *w, int proc, struct helper_id *ret_id)
{
	int err = proc_lines_open(&w->lines, proc, "maps");
	unsigned what = err == -EACCES || err == -EPERM ? HELPER_WHOSE_UNREADABLE : 0;
	struct proc_map m;
	size_t len;
	char *line;

	while (err == 0 && (line = proc_lines_next(&w->lines, &len)) != NULL) {
		/* most lines are none of these: look before parsing */
		if ((strstr(line, "/lib") != NULL || strstr(line, HELPER_MAP_NAME) != NULL) && proc_parse_map(line, &m))
			what |= take_map(&m, what, ret_id);
	}
	proc_lines_close(&w->lines);
	if (proc_elf_class(proc) == ELFCLASS32)
		what |= HELPER_WHOSE_32BIT;
	return what;
}

/* --- requests --- */

void whose_proc(struct whose *w, const struct helper_req *r, struct helper_queue *q)
{
	struct helper_event ev = {
		.type = HELPER_PROC,
		.result = HELPER_R_OK,
		.cookie = r->cookie,
		.last = true,
		.p = r->p[0],
		.fd = -1,
	};
	struct helper_paths paths = {.exe = ""};
	int proc = proc_open(r->p[0].pid), err = proc < 0 ? proc : 0;

	if (err == 0 && r->op == HELPER_OP_BRIEF)
		paths_of(proc, &paths);
	else if (err == 0)
		err = describe(w->nets, proc, &ev, &paths);
	if (err == 0 && r->op != HELPER_OP_BRIEF && r->p[0].start_time != 0 && r->p[0].start_time != ev.p.start_time)
		err = -ESRCH;
	if (err == 0 && r->op == HELPER_OP_MAPS)
		ev.what = what_is(w, proc, &ev.id);
	if (err != 0) {
		ev.result = err == -ENOENT || err == -ESRCH ? HELPER_R_NO_PROCESS : HELPER_R_ERROR;
		ev.err = ev.result == HELPER_R_ERROR ? -err : 0;
		ev.p = r->p[0];
		paths.exe[0] = paths.cgroup[0] = '\0';
	}
	if (proc >= 0)
		close(proc);
	helper_reply(q, &ev, &paths);
}

static void reply(struct helper_queue *q, const struct whose_want *want, enum helper_result result, int err)
{
	struct helper_event ev = {
		.type = HELPER_WHOSE,
		.result = result,
		.cookie = want->cookie,
		.err = err,
		.last = true,
		.e = want->e,
		.uid = want->uid,
		.what = want->unreadable ? HELPER_WHOSE_UNREADABLE : 0,
		.sock_fd = -1,
		.fd = -1,
	};

	helper_reply(q, &ev, NULL);
}

void whose_begin(struct whose *w, const struct helper_req *r, struct helper_queue *q)
{
	struct whose_want want = {.cookie = r->cookie, .e = r->e};
	const struct netns *ns = netns_find(w->nets, r->e.netns);
	struct sockdiag_info info;
	int err;

	if (ns == NULL) {
		reply(q, &want, HELPER_R_OTHER_NETNS, 0);
		return;
	}
	want.e.netns = ns->inode;
	err = endpoint_normalise(&want.e) ? sockdiag_find(ns->diag, &want.e, &info) : -EINVAL;
	if (err == 0 && info.inode == 0)
		err = -ENOENT;
	if (err == 0 && w->n == HELPER_WHOSE_MAX)
		err = -EBUSY;
	if (err != 0) {
		reply(q, &want, err == -ENOENT ? HELPER_R_GONE : HELPER_R_ERROR, err == -ENOENT ? 0 : -err);
		return;
	}
	want.inode = info.inode;
	want.uid = info.uid;
	w->want[w->n++] = want;
}

/* --- a pass through all processes --- */

static void next_process(struct whose *w)
{
	proc_dir_close(&w->fds);
	if (w->proc != -1)
		close(w->proc);
	w->proc = -1;
}

static void drop(struct whose *w, unsigned i)
{
	w->want[i] = w->want[--w->n];
}

/* The pass is over. What it did not find nobody has; or it has been closed meanwhile. */
static void end_pass(struct whose *w, struct helper_queue *q)
{
	next_process(w);
	proc_dir_close(&w->pids);
	w->passing = false;
	for (unsigned i = w->n; i-- > 0;) {
		const struct whose_want *want = &w->want[i];
		const struct netns *ns = netns_find(w->nets, want->e.netns);
		struct sockdiag_info info;
		bool there;

		if (!want->now)
			continue;
		there = ns != NULL && sockdiag_find(ns->diag, &want->e, &info) == 0 && info.inode == want->inode;
		reply(q, want, there ? HELPER_R_NO_PROCESS : HELPER_R_GONE, 0);
		drop(w, i);
	}
}

static void begin_pass(struct whose *w)
{
	w->passing = proc_dir_open(&w->pids, AT_FDCWD, "/proc") == 0;
	for (unsigned i = 0; i < w->n; i++)
		w->want[i].now = true;
}

/* Nobody may look into it: remember whose it is. */
static void unreadable(struct whose *w)
{
	struct proc_status st;

	if (proc_status(w->proc, &st) != 0)
		return;
	for (unsigned i = 0; i < w->n; i++) {
		if (w->want[i].uid == st.uid || w->want[i].uid == st.fsuid)
			w->want[i].unreadable = true;
	}
}

/* Descriptor @fd is wanted number @i. */
static void found(struct whose *w, struct helper_queue *q, unsigned i, int fd)
{
	struct helper_event ev = {
		.type = HELPER_WHOSE,
		.result = HELPER_R_OK,
		.cookie = w->want[i].cookie,
		.last = true,
		.e = w->want[i].e,
		.sock_inode = w->want[i].inode,
		.sock_pid = w->pid,
		.sock_fd = fd,
		.p = {.pid = w->pid},
		.fd = -1,
	};
	struct helper_paths paths = {.exe = ""};

	if (describe(w->nets, w->proc, &ev, &paths) != 0)
		return; /* it is ending: perhaps another one has it too */
	ev.what = what_is(w, w->proc, &ev.id);
	helper_reply(q, &ev, &paths);
	drop(w, i);
}

static void look_at(struct whose *w, struct helper_queue *q, int fd)
{
	uint64_t inode = proc_socket(w->proc, fd);

	for (unsigned i = w->n; inode != 0 && i-- > 0;) {
		if (w->want[i].now && w->want[i].inode == inode)
			found(w, q, i, fd);
	}
}

static bool anything_now(const struct whose *w)
{
	for (unsigned i = 0; i < w->n; i++) {
		if (w->want[i].now)
			return true;
	}
	return false;
}

void whose_step(struct whose *w, struct helper_queue *q)
{
	int fd, err;

	if (w->n == 0 || !helper_room(q, HELPER_WHOSE_MAX))
		return;
	if (!w->passing)
		begin_pass(w);
	for (int budget = HELPER_SCAN_STEP; budget > 0; budget--) {
		if (w->proc != -1 && w->looked++ < HELPER_SCAN_FDS && proc_dir_next(&w->fds, &fd)) {
			look_at(w, q, fd);
			continue;
		}
		next_process(w);
		if (!w->passing || !anything_now(w) || !proc_dir_next(&w->pids, &w->pid)) {
			end_pass(w, q);
			return;
		}
		budget -= PROCESS_COST;
		w->looked = 0;
		w->proc = proc_open(w->pid);
		if (w->proc < 0) {
			w->proc = -1;
			continue;
		}
		err = proc_dir_open(&w->fds, w->proc, "fd");
		if (err == -EACCES || err == -EPERM)
			unreadable(w);
	}
}
