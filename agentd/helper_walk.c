/* SPDX-License-Identifier: Apache-2.0 */
/* FAMILY and ADOPT: go through the maps of all processes for mappings of tlstap. */
#include "helper_wire.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <sys/mman.h>
#include <sys/stat.h>

#define PER_PROCESS_MAX 8 /* distinct mappings of tlstap in one process that are reported */

int helper_walk_init(struct helper_walk *w)
{
	struct stat st;
	int err = 0, fd = memfd_create("probe", MFD_CLOEXEC);

	if (fd == -1)
		return -errno;
	if (fstat(fd, &st) == -1)
		err = -errno;
	close(fd);
	w->memfd_dev = st.st_dev;
	w->owner[0] = 0;
	w->pids.fd = w->lines.fd = -1;
	return err;
}

static void finish(struct helper_walk *w, struct helper_queue *q, int err)
{
	struct helper_event ev = {
		.type = w->req.type,
		.result = err == 0 ? HELPER_R_OK : HELPER_R_ERROR,
		.cookie = w->req.cookie,
		.err = err,
		.last = true,
		.fd = -1,
	};

	proc_dir_close(&w->pids);
	w->active = false;
	helper_reply(q, &ev, NULL);
}

void helper_walk_begin(struct helper_walk *w, const struct helper_req *r, struct helper_queue *q)
{
	int err;

	w->req = *r;
	w->n_seen = 0;
	w->active = true;
	w->owner[1] = geteuid();
	err = proc_dir_open(&w->pids, AT_FDCWD, "/proc");
	if (err != 0)
		finish(w, q, -err);
}

static bool among(const struct helper_id *id, size_t n, const struct helper_id *x)
{
	for (size_t i = 0; i < n; i++) {
		if (id[i].dev == x->dev && id[i].inode == x->inode)
			return true;
	}
	return false;
}

/* Open the mapped file itself. The line of maps is only a hint of where to look: what was opened must be
 * a sealed memfd of that very inode, owned by whom agentd runs as. Returns a descriptor or -1. */
static int open_mapping(const struct helper_walk *w, int proc, const struct proc_map *m, uint64_t *ret_size)
{
	char path[64], link[64];
	struct stat st;
	ssize_t n;
	int fd, seals;

	snprintf(path, sizeof(path), "map_files/%" PRIx64 "-%" PRIx64, m->start, m->end);
	fd = openat(proc, path, O_RDWR | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	if (fd == -1)
		return -1;
	seals = fcntl(fd, F_GET_SEALS);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	n = readlink(path, link, sizeof(link));
	if (fstat(fd, &st) == -1 || !S_ISREG(st.st_mode) || st.st_dev != w->memfd_dev || st.st_ino != m->inode ||
	    st.st_size <= 0 || (st.st_uid != w->owner[0] && st.st_uid != w->owner[1]) || seals == -1 ||
	    (seals & (F_SEAL_SHRINK | F_SEAL_GROW)) != (F_SEAL_SHRINK | F_SEAL_GROW) ||
	    n < (ssize_t)strlen(HELPER_MAP_NAME) || memcmp(link, HELPER_MAP_NAME, strlen(HELPER_MAP_NAME)) != 0) {
		close(fd);
		return -1;
	}
	*ret_size = (uint64_t)st.st_size;
	return fd;
}

/* Fill in who the process is. Returns false if it is gone. */
static bool identify(int proc, int pid, struct helper_event *ev)
{
	struct proc_status s;

	if (proc_start_time(proc, &ev->p.start_time) != 0 || proc_status(proc, &s) != 0)
		return false;
	ev->p.pid = pid;
	ev->ns_pid = s.ns_pid;
	ev->uid = s.uid;
	return true;
}

static void report(struct helper_walk *w, struct helper_queue *q, int proc, int pid, const struct proc_map *m,
		   const struct helper_id *id)
{
	struct helper_event ev = {
		.type = w->req.type,
		.result = HELPER_R_OK,
		.cookie = w->req.cookie,
		.id = *id,
		.fd = -1,
	};

	if (w->req.type == HELPER_ADOPT) {
		if (w->n_seen == HELPER_ADOPT_MAX || !identify(proc, pid, &ev))
			return;
		ev.fd = open_mapping(w, proc, m, &ev.size);
		if (ev.fd == -1)
			return;
		w->seen[w->n_seen++] = *id;
	} else if (!identify(proc, pid, &ev)) {
		return;
	}
	helper_reply(q, &ev, NULL);
}

/* Most lines are something else: look for the name before anything is parsed. */
static bool is_mapping(char *line, uint64_t memfd_dev, struct proc_map *ret)
{
	return strstr(line, HELPER_MAP_NAME) != NULL && proc_parse_map(line, ret) && ret->shared &&
	       strncmp(ret->name, HELPER_MAP_NAME, strlen(HELPER_MAP_NAME)) == 0 && ret->dev == memfd_dev;
}

bool helper_maps(int proc, const struct helper_id *file, uint64_t memfd_dev)
{
	static struct proc_lines lines = {.fd = -1}; /* scratch: the helper has one thread */
	bool yes = false;
	size_t len;
	char *line;

	if (proc_lines_open(&lines, proc, "maps") != 0)
		return false;
	while (!yes && (line = proc_lines_next(&lines, &len)) != NULL) {
		struct proc_map m;

		yes = is_mapping(line, memfd_dev, &m) && m.dev == file->dev && m.inode == file->inode;
	}
	proc_lines_close(&lines);
	return yes;
}

static void look_at(struct helper_walk *w, struct helper_queue *q, int pid)
{
	struct helper_id here[PER_PROCESS_MAX];
	size_t n_here = 0, len;
	char *line;
	int proc = proc_open(pid);

	if (proc < 0)
		return;
	if (proc_lines_open(&w->lines, proc, "maps") != 0)
		goto out;
	while (n_here < PER_PROCESS_MAX && (line = proc_lines_next(&w->lines, &len)) != NULL) {
		struct proc_map m;
		struct helper_id id;

		if (!is_mapping(line, w->memfd_dev, &m))
			continue;
		id = (struct helper_id){.dev = m.dev, .inode = m.inode};
		if (among(here, n_here, &id))
			continue;
		here[n_here++] = id;
		if (w->req.type == HELPER_ADOPT ? among(w->seen, w->n_seen, &id)
						: w->req.n > 0 && !among(w->req.id, w->req.n, &id))
			continue;
		report(w, q, proc, pid, &m, &id);
	}
	proc_lines_close(&w->lines);
out:
	close(proc);
}

void helper_walk_step(struct helper_walk *w, struct helper_queue *q)
{
	for (unsigned i = 0; i < HELPER_WALK_STEP && helper_room(q, PER_PROCESS_MAX + 1); i++) {
		int pid;

		if (!proc_dir_next(&w->pids, &pid)) {
			finish(w, q, 0);
			return;
		}
		look_at(w, q, pid);
	}
}
