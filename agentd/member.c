/* SPDX-License-Identifier: Apache-2.0 */
/* member.c - the processes of a family: watched until they die, and whose they are. */
#include "member.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "family.h"
#include "permit.h"

void member_free(struct member *m)
{
	if (m->pidfd != -1) {
		ev_io_stop(m->family->lane->loop, &m->io);
		close(m->pidfd);
	}
	free(m);
}

/* What it wrote last is read before it counts as dead. */
void member_left(struct member *m)
{
	ev_io_stop(m->family->lane->loop, &m->io);
	close(m->pidfd);
	m->pidfd = -1;
	m->dead_sweep = m->family->sweep + 2;
	lane_wake(m->family->lane);
}

static void on_death(struct ev_loop *loop, ev_io *w, int events)
{
	struct member *m = w->data;

	(void)events;
	(void)loop;
	member_left(m);
}

/* Printable, for people and for JSON. */
static void put_name(char *to, size_t size, const char *from)
{
	size_t n = 0;

	for (; from[n] && n < size - 1; n++)
		to[n] = from[n] >= ' ' && from[n] <= '~' && from[n] != '"' && from[n] != '\\' ? from[n] : '?';
	to[n] = '\0';
}

/* What the helper says of it. */
static void know(struct member *m, const struct helper_event *e)
{
	struct family *f = m->family;

	if (e->result == HELPER_R_OK) {
		m->p.start_time = e->p.start_time;
		m->ns_pid = e->ns_pid;
		m->uids_known = true;
		m->uid = e->uid;
		m->fsuid = e->fsuid;
		f->own_pidns = e->ns_pid == e->p.pid;
		if (e->netns) /* a process that has just died has none, and no name */
			f->netns = e->netns;
		if (e->exe && *e->exe)
			put_name(m->exe, sizeof(m->exe), e->exe);
	}
	permit_judge(m, e);
}

/* Is nobody called @pid, or a zombie only? */
static bool has_died(pid_t pid)
{
	struct pollfd p = {.fd = (int)syscall(SYS_pidfd_open, pid, 0), .events = POLLIN};
	bool died = p.fd == -1 ? errno == ESRCH : poll(&p, 1, 0) == 1;

	if (p.fd != -1)
		close(p.fd);
	return died;
}

int member_add(struct family *f, const struct helper_pid *p, int32_t ns_pid, int pidfd, struct member **ret)
{
	struct member *m;
	int err = 0;

	*ret = NULL;
	for (unsigned i = 0; i < f->member_n; i++)
		if (f->member[i]->p.pid == p->pid && (!f->member[i]->dead_sweep || has_died(p->pid))) {
			*ret = f->member[i];
			return 0;
		}
	if (f->member_n == FAMILY_MEMBERS_MAX || p->pid == getpid())
		return 0;
	if (f->member_n == f->member_cap) {
		unsigned cap = f->member_cap ? f->member_cap * 2 : 4;
		struct member **to = realloc(f->member, cap * sizeof(*to));

		if (!to)
			return -ENOMEM;
		f->member = to;
		f->member_cap = cap;
	}
	m = calloc(1, sizeof(*m));
	if (!m)
		return -ENOMEM;
	m->family = f;
	m->p = *p;
	m->ns_pid = ns_pid;
	m->pidfd = pidfd != -1 ? pidfd : (int)syscall(SYS_pidfd_open, p->pid, 0);
	if (m->pidfd == -1 && errno != ESRCH) { /* no descriptor was free: that says nothing of the process */
		err = -errno;
		free(m);
		return err;
	}
	if (m->pidfd == -1) {
		m->dead_sweep = f->sweep + 2;
	} else {
		ev_io_init(&m->io, on_death, m->pidfd, EV_READ);
		m->io.data = m;
		ev_io_start(f->lane->loop, &m->io);
	}
	f->member[f->member_n++] = m;
	f->orphan = false;
	m->asked_rules = f->lane->rules;
	if (helper_proc(f->lane->helper, family_cookie(f, 0, 0xfffff), &m->p) == 0) /* its name; whose it is */
		f->uids_asked++;
	*ret = m;
	return 0;
}

struct member *family_member(struct family *f, const struct helper_pid *p, int32_t ns_pid)
{
	struct member *m;

	if (member_add(f, p, ns_pid, -1, &m) != 0)
		f->scanned = false; /* look for it again */
	return m;
}

#define UIDS_MAX 16u /* processes that are asked about at once */

void family_ask_uids(struct family *f)
{
	for (unsigned i = 0; i < f->member_n && f->uids_asked < UIDS_MAX; i++)
		if (f->member[i]->pidfd != -1 &&
		    helper_proc(f->lane->helper, family_cookie(f, 0, 0xfffff), &f->member[i]->p) == 0)
			f->uids_asked++;
}

void family_on_proc(struct lane *l, const struct helper_event *e)
{
	struct family *f = family_find(l, family_of_cookie(e->cookie));

	if (!f)
		return;
	f->uids_asked -= f->uids_asked > 0;
	for (unsigned i = 0; i < f->member_n; i++)
		if (f->member[i]->p.pid == e->p.pid)
			know(f->member[i], e);
}

enum family_trust family_trust(const struct family *f, const struct member *m)
{
	if (f->uid == 0 || m->attached || (m->uids_known && m->uid == f->uid))
		return FAMILY_TRUSTED;
	return m->uids_known ? FAMILY_STRANGER : FAMILY_UNKNOWN;
}

bool family_has_uid(const struct family *f, uint32_t uid)
{
	bool known = false;

	for (unsigned i = 0; i < f->member_n; i++) {
		const struct member *m = f->member[i];

		if (!m->uids_known || family_trust(f, m) != FAMILY_TRUSTED)
			continue;
		known = true;
		if (m->uid == uid || m->fsuid == uid)
			return true;
	}
	return !known && f->uid == uid;
}

bool family_is_root(const struct family *f)
{
	for (unsigned i = 0; i < f->member_n; i++)
		if (f->member[i]->uids_known && (f->member[i]->uid || f->member[i]->fsuid))
			return false;
	return f->uid == 0;
}
