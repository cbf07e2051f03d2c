/* SPDX-License-Identifier: Apache-2.0 */
/* helper_verify.h - VERIFY and PEER: is it their connection? Part of the helper process (helper_serve.c).
 *
 * The proof is always the same: an inode that the kernel gives for exactly these addresses is found among
 * the process's descriptors. A connection that has ended leaves no inode; then it must be known to have
 * existed, and the proof is the listening socket that it came through. A user id proves nothing.
 *
 * Where two namespaces use the same addresses, the process's own is the one that counts. A socket of the helper's own
 * that was handed into another namespace is found too: its inode is proof enough.
 *
 * What that second proof does not cover: two users whose sockets share one local port because both set
 * SO_REUSEADDR (say, one user's stopped server still has a connection, another's server listens there
 * now): once the first one's connection has ended, the second could claim it. */
#ifndef TLSTAP_HELPER_VERIFY_H
#define TLSTAP_HELPER_VERIFY_H

#include "helper_netns.h"

enum scan_state {
	SCAN_FREE,
	SCAN_WAIT,     /* the socket is gone, the word of its destruction not yet here: until due_ms */
	SCAN_SOCKET,   /* looking for the socket's inode among descriptors */
	SCAN_LISTENER, /* looking for one of the listening sockets' */
	SCAN_PEER,     /* looking for one of the sockets that share an end */
};

struct scan {
	enum scan_state state;
	struct helper_req req;
	uint64_t netns; /* where the connection is looked for */
	struct sockdiag_info info;
	bool destroyed; /* its end is in the log */
	uint64_t due_ms;
	size_t n_want, n_proc, at; /* at: process being scanned */
	uint32_t looked;	   /* descriptors of that process looked at */
	struct proc_dir fds;
	int proc[HELPER_PIDS_MAX]; /* directories of the processes that live; the first n_proc */
	int32_t pid[HELPER_PIDS_MAX];
	uint64_t want[HELPER_LISTENERS_MAX];
	bool remote;				     /* PEER: it is the remote end that is shared */
	int hit_fd, hit, hit_at;		     /* PEER: the first of several that was found; fd -1: none yet */
	struct endpoint closing;		     /* PEER: one that shares it and is closed; ver 0: none */
	struct sockdiag_peer peer[HELPER_PEERS_MAX]; /* PEER: whose inodes those in want are */
};

#define VERIFY_HINTS 256

struct verify {
	struct netns_set *nets;
	struct scan scan[HELPER_SCANS_MAX];
	struct { /* where a process's listening socket was found last: look there first */
		int32_t pid, fd;
		uint16_t port;
	} hint[VERIFY_HINTS];
};

/* Answer @r (VERIFY, PEER), or begin a scan for it. Returns false if there is no place for a scan now. */
bool verify_begin(struct verify *v, const struct helper_req *r, struct helper_queue *q, uint64_t now_ms);
/* Go on with all scans for a bounded time. */
void verify_step(struct verify *v, struct helper_queue *q, uint64_t now_ms);
/* How long poll() may sleep for the scans' sake: ms, 0 there is work, -1 for ever. */
int verify_wait(const struct verify *v, uint64_t now_ms);

#endif
