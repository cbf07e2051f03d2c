/* SPDX-License-Identifier: Apache-2.0 */
/* helper_whose.h - WHOSE and PROC: which process has this socket, and what kind of process is it? Part of the helper
 * process (helper_serve.c).
 *
 * The socket is looked up at once, while it exists. Then all processes' descriptors are gone through, in small steps;
 * one pass answers all requests that were there when it began. */
#ifndef TLSTAP_HELPER_WHOSE_H
#define TLSTAP_HELPER_WHOSE_H

#include "helper_netns.h"

/* A socket whose owner is wanted. */
struct whose_want {
	uint64_t cookie;
	struct endpoint e; /* with its namespace */
	uint64_t inode;
	uint32_t uid;	 /* the socket's */
	bool now;	 /* in the pass under way, not the next one */
	bool unreadable; /* a process of that user could not be looked into */
};

struct whose {
	const struct netns_set *nets;
	struct whose_want want[HELPER_WHOSE_MAX];
	unsigned n;
	bool passing;
	struct proc_dir pids, fds;
	int proc; /* -1: none is being looked at */
	int32_t pid;
	uint32_t looked;	 /* descriptors of it */
	struct proc_lines lines; /* scratch */
};

void whose_init(struct whose *w, const struct netns_set *nets);

/* Answer @r, or take it up. */
void whose_begin(struct whose *w, const struct helper_req *r, struct helper_queue *q);
static inline bool whose_active(const struct whose *w)
{
	return w->n > 0;
}
/* Go on for a bounded time. @q has room for HELPER_WHOSE_MAX answers, or nothing is done. */
void whose_step(struct whose *w, struct helper_queue *q);

/* Answer a PROC. */
void whose_proc(struct whose *w, const struct helper_req *r, struct helper_queue *q);

/* HELPER_WHOSE_* that a mapping of this name stands for; 0: none. */
unsigned whose_mapping(const char *name);

#endif
