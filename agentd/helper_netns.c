/* SPDX-License-Identifier: Apache-2.0 */
/* Going into another network namespace for as long as it takes to open the sockets, and back. */
#include "helper_netns.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include <linux/magic.h>
#include <linux/nsfs.h>

#include "hello_sock.h"

static struct netns *new_netns(uint64_t inode, int diag, int destroy, size_t log, uint64_t seed)
{
	struct netns *ns = calloc(1, sizeof(*ns));

	if (ns == NULL)
		return NULL;
	ns->inode = inode;
	ns->diag = diag;
	ns->destroy = destroy;
	ns->log = destroylog_new(log, seed);
	ns->listeners = listeners_new(diag);
	if (ns->log != NULL && ns->listeners != NULL)
		return ns;
	destroylog_free(&ns->log);
	listeners_free(&ns->listeners);
	free(ns);
	return NULL;
}

int netns_init(struct netns_set *s, int diag, int destroy, uint64_t seed, bool others)
{
	int self = proc_open(getpid()), err;
	uint64_t inode;

	if (self < 0)
		return self;
	err = proc_netns(self, &inode);
	s->home = -1;
	if (err == 0 && others) {
		s->home = openat(self, "ns/net", O_RDONLY | O_CLOEXEC);
		err = s->home == -1 ? -errno : 0;
	}
	close(self);
	if (err != 0)
		return err;
	s->seed = seed;
	s->ns[0] = new_netns(inode, diag, destroy, HELPER_DESTROY_LOG, seed);
	s->n = 1;
	return s->ns[0] == NULL ? -ENOMEM : 0;
}

struct netns *netns_find(const struct netns_set *s, uint64_t inode)
{
	if (inode == 0)
		return s->ns[0];
	for (unsigned i = 0; i < s->n; i++) {
		if (s->ns[i]->inode == inode)
			return s->ns[i];
	}
	return NULL;
}

void netns_renew(const struct netns_set *s, struct netns *ns, uint64_t now_ms)
{
	listeners_renew(ns->listeners, now_ms, s->n);
}

/* --- open --- */

struct opened {
	int hello, diag; /* for agentd */
	int own_diag, destroy;
};

static void close_opened(struct opened *o)
{
	const int fd[] = {o->hello, o->diag, o->own_diag, o->destroy};

	for (size_t i = 0; i < sizeof(fd) / sizeof(fd[0]); i++) {
		if (fd[i] >= 0)
			close(fd[i]);
	}
}

/* Descriptors belong to the namespace in which they are opened. Returns 0 or -errno, and then there are none. */
static int open_in(const struct netns_set *s, int target, struct opened *o)
{
	int err;

	*o = (struct opened){-1, -1, -1, -1};
	if (setns(target, CLONE_NEWNET) == -1)
		return -errno;
	o->hello = err = hello_sock_open();
	if (err >= 0)
		o->diag = err = sockdiag_open();
	if (err >= 0)
		o->own_diag = err = sockdiag_open();
	if (err >= 0)
		o->destroy = err = sockdiag_destroy_open(HELPER_EVENT_BUFFER_OTHER);
	if (setns(s->home, CLONE_NEWNET) == -1)
		_exit(1); /* all that it said from here on would be of the wrong namespace */
	if (err >= 0)
		return 0;
	close_opened(o);
	return err;
}

static int open_by_pid(int32_t pid)
{
	int proc = proc_open(pid), fd, err;

	if (proc < 0)
		return proc;
	fd = openat(proc, "ns/net", O_RDONLY | O_CLOEXEC);
	err = errno;
	close(proc);
	return fd == -1 ? -err : fd;
}

static bool is_name(const char name[static HELPER_NAME_MAX + 1])
{
	return memchr(name, '\0', HELPER_NAME_MAX + 1) != NULL && name[0] != '\0' && strchr(name, '/') == NULL &&
	       strcmp(name, ".") != 0 && strcmp(name, "..") != 0;
}

static int open_by_name(const char name[static HELPER_NAME_MAX + 1])
{
	char path[sizeof(HELPER_NETNS_DIR) + 1 + HELPER_NAME_MAX];
	struct statfs fs;
	int fd;

	if (!is_name(name))
		return -EINVAL;
	snprintf(path, sizeof(path), HELPER_NETNS_DIR "/%s", name);
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	if (fd == -1)
		return -errno;
	/* an empty file there is one whose namespace is gone, or not mounted yet */
	if (fstatfs(fd, &fs) == 0 && fs.f_type == NSFS_MAGIC && ioctl(fd, NS_GET_NSTYPE) == CLONE_NEWNET)
		return fd;
	close(fd);
	return -EINVAL;
}

static void tell(struct helper_queue *q, const struct helper_req *r, enum helper_result result, uint64_t inode, int fd,
		 bool last, int err)
{
	struct helper_event ev = {
		.type = HELPER_NETNS,
		.result = result,
		.cookie = r->cookie,
		.err = err,
		.last = last,
		.netns = inode,
		.fd = fd,
	};

	helper_reply(q, &ev, NULL);
}

/* Open the namespace that is @target. */
static void add(struct netns_set *s, const struct helper_req *r, int target, struct helper_queue *q, uint64_t now_ms)
{
	struct netns *ns = NULL;
	struct opened o;
	struct stat st;
	int err = fstat(target, &st) == -1 ? -errno : 0;

	if (err == 0 && netns_find(s, st.st_ino) != NULL) {
		tell(q, r, HELPER_R_LIVE, st.st_ino, -1, true, 0);
		return;
	}
	if (err == 0 && s->n == HELPER_NETNS_MAX + 1)
		err = -ENOSPC;
	if (err == 0)
		err = open_in(s, target, &o);
	if (err == 0) {
		ns = new_netns(st.st_ino, o.own_diag, o.destroy, HELPER_DESTROY_LOG_OTHER, s->seed);
		if (ns == NULL) {
			close_opened(&o);
			err = -ENOMEM;
		}
	}
	if (err != 0) {
		tell(q, r, HELPER_R_ERROR, 0, -1, true, -err);
		return;
	}
	if (r->op == HELPER_OP_NAME)
		memcpy(ns->name, r->name, sizeof(ns->name));
	s->ns[s->n++] = ns;
	netns_renew(s, ns, now_ms); /* whoever listens already does so from now on at the latest */
	tell(q, r, HELPER_R_OK, ns->inode, o.hello, false, 0);
	tell(q, r, HELPER_R_OK, ns->inode, o.diag, true, 0);
}

/* --- close --- */

/* Not the own one. */
static void close_netns(struct netns_set *s, unsigned i)
{
	struct netns *ns = s->ns[i];

	s->ns[i] = s->ns[--s->n];
	close(ns->diag);
	if (ns->destroy >= 0)
		close(ns->destroy);
	destroylog_free(&ns->log);
	listeners_free(&ns->listeners);
	free(ns);
}

void netns_answer(struct netns_set *s, const struct helper_req *r, struct helper_queue *q, uint64_t now_ms)
{
	int target;

	if (r->op == HELPER_OP_CLOSE) {
		for (unsigned i = 1; i < s->n; i++) {
			if (s->ns[i]->inode == r->e.netns) {
				close_netns(s, i);
				break;
			}
		}
		helper_reply(q, &(struct helper_event){.type = HELPER_CLOSED, .last = true, .fd = -1}, NULL);
		return;
	}
	if (s->home == -1) {
		tell(q, r, HELPER_R_ERROR, 0, -1, true, EPERM);
		return;
	}
	target = r->op == HELPER_OP_PID ? open_by_pid(r->p[0].pid) : open_by_name(r->name);
	if (target >= 0) {
		add(s, r, target, q, now_ms);
		close(target);
	} else if (r->op == HELPER_OP_PID && (target == -ENOENT || target == -ESRCH)) {
		tell(q, r, HELPER_R_NO_PROCESS, 0, -1, true, 0);
	} else {
		tell(q, r, HELPER_R_ERROR, 0, -1, true, -target);
	}
}

static bool name_is_gone(const struct netns *ns)
{
	char path[sizeof(HELPER_NETNS_DIR) + 1 + HELPER_NAME_MAX];
	struct stat st;

	snprintf(path, sizeof(path), HELPER_NETNS_DIR "/%s", ns->name);
	return stat(path, &st) == -1 || st.st_ino != ns->inode;
}

void netns_look(struct netns_set *s, struct helper_queue *q, uint64_t now_ms)
{
	if (now_ms < s->look_ms)
		return;
	for (unsigned i = s->n; i-- > 1 && helper_room(q, 1);) {
		struct helper_event ev = {.type = HELPER_NETNS,
					  .result = HELPER_R_GONE,
					  .last = true,
					  .netns = s->ns[i]->inode,
					  .fd = -1};

		if (s->ns[i]->name[0] == '\0' || !name_is_gone(s->ns[i]))
			continue;
		close_netns(s, i);
		helper_reply(q, &ev, NULL);
	}
	s->look_ms = now_ms + HELPER_NETNS_LOOK_MS;
}

int netns_wait(const struct netns_set *s, uint64_t now_ms)
{
	bool named = false;

	for (unsigned i = 1; i < s->n; i++)
		named = named || s->ns[i]->name[0] != '\0';
	if (!named)
		return -1;
	return s->look_ms > now_ms ? (int)(s->look_ms - now_ms) : 0;
}
