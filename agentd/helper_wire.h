/* SPDX-License-Identifier: Apache-2.0 */
/* helper_wire.h - what agentd's side (helper.c) and the helper process (helper_serve.c, helper_walk.c)
 * share: the requests, and the helper's queue of answers. Private to these files.
 *
 * A datagram to the helper holds 1 .. HELPER_BATCH struct helper_req. One to agentd holds
 * 1 .. HELPER_BATCH struct helper_event without descriptor or path; or one of ADOPT or NETNS with its
 * descriptor; or one of PROC or WHOSE followed by a struct helper_paths. Both ends are one program, so
 * the structs travel as they are. */
#ifndef TLSTAP_HELPER_WIRE_H
#define TLSTAP_HELPER_WIRE_H

#include "helper.h"
#include "proc.h"

#define HELPER_BATCH 32
#define HELPER_OUT_MAX 512	/* answers and events that wait for agentd to read */
#define HELPER_OUT_EVENTS 384	/* DESTROYED events only while fewer wait: answers come first */
#define HELPER_SCAN_FDS 65536	/* descriptors of a process that are looked at */
#define HELPER_SCANS_MAX 32	/* VERIFY requests whose descriptors are being looked at, or that wait */
#define HELPER_SCAN_STEP 256	/* descriptors per turn: then other requests have theirs */
#define HELPER_PROC_STEP 4	/* PROC requests per turn: a process may be waiting for a BRIEF one behind them */
#define HELPER_WALK_STEP 1	/* processes per turn of a walk through /proc: a VERIFY waits no longer than that */
#define HELPER_ADOPT_MAX 4096	/* distinct mappings that a predecessor may have left */
#define HELPER_LISTENERS_MAX 64 /* listening sockets of one port that are compared */
#define HELPER_PEERS_MAX 64	/* connections that share an end with one that was seen on the wire */
#define HELPER_WHOSE_MAX 64	/* WHOSE requests that wait for a pass through all processes, or are in it */
#define HELPER_WAIT_MS 10	/* a socket just gone: how long to wait for the word of its destruction */
#define HELPER_MAP_NAME "/memfd:tlstap"

/* What a request of type HELPER_NETNS wants; BRIEF, MAPS: of type HELPER_PROC. */
enum helper_op { HELPER_OP_PID = 1, HELPER_OP_NAME, HELPER_OP_CLOSE, HELPER_OP_BRIEF, HELPER_OP_MAPS };

struct helper_req {
	uint64_t cookie;
	uint32_t type; /* enum helper_type */
	uint32_t n;    /* of p or id */
	int32_t fd_hint;
	uint32_t op; /* NETNS, PROC: enum helper_op */
	struct endpoint e;
	struct helper_id file; /* VERIFY: p[0] must map it; inode 0: it is known to */
	union {
		struct helper_pid p[HELPER_PIDS_MAX];
		struct helper_id id[HELPER_IDS_MAX];
		char name[HELPER_NAME_MAX + 1];
	};
};

/* Answer to HELPER_OP_CLOSE: helper.c counts it and keeps it to itself. */
#define HELPER_CLOSED ((enum helper_type)(HELPER_OVERRUN + 1))

/* Does an answer of this type bring a path? */
static inline bool helper_has_path(enum helper_type t)
{
	return t == HELPER_PROC || t == HELPER_WHOSE;
}

/* Of a process; NUL terminated. */
struct helper_paths {
	char exe[HELPER_PATH_MAX], cgroup[HELPER_PATH_MAX];
};

/* An answer that waits to be sent. */
struct helper_out {
	struct helper_event ev; /* ev.fd is ours and closed when sent */
	struct helper_paths paths;
};

struct helper_queue {
	int sock;
	size_t head, n;
	struct helper_out out[HELPER_OUT_MAX];
};

/* Room for @n more answers? */
static inline bool helper_room(const struct helper_queue *q, size_t n)
{
	return HELPER_OUT_MAX - q->n >= n;
}
/* Append an answer; the caller has seen to it that there is room. Takes ev->fd. @paths may be NULL. */
void helper_reply(struct helper_queue *q, const struct helper_event *ev, const struct helper_paths *paths);

/* A FAMILY or ADOPT request in progress: one pass through all processes. */
struct helper_walk {
	bool active;
	struct helper_req req;
	struct proc_dir pids;
	uint32_t n_seen;
	struct helper_id seen[HELPER_ADOPT_MAX]; /* ADOPT: handed over already */
	uint64_t memfd_dev;			 /* every memfd of this kernel is on this device */
	uint32_t owner[2];			 /* who may own a mapping's file */
	struct proc_lines lines;		 /* scratch */
};

/* Once, before privileges are dropped. */
int helper_walk_init(struct helper_walk *w);
void helper_walk_begin(struct helper_walk *w, const struct helper_req *r, struct helper_queue *q);
/* Does the process whose directory is @proc map @file? @memfd_dev: the device of all memfds. */
bool helper_maps(int proc, const struct helper_id *file, uint64_t memfd_dev);
/* Go on for a bounded time. Stops early when @q is full. */
void helper_walk_step(struct helper_walk *w, struct helper_queue *q);

/* The helper process: serve @sock until it closes. @destroy: sockdiag_destroy_open() or -1. @netns: as in
 * helper_start(). */
void helper_serve(int sock, int diag, int destroy, const char *keep_user, bool netns) __attribute__((noreturn));

#endif
