/* SPDX-License-Identifier: Apache-2.0 */
/* own.h - what tlstap itself sends on this host, so that no agent mirrors it: tunnels, receivers, replay interfaces.
 *
 * A small shared mapping of a file that only root can open (OWN_PATH); every agentd and receiverd of the host that was
 * started as root maps it before it drops its privileges and writes one line of it, every agentd reads all. A
 * line counts while its owner renews it (own_beat, once a second); a line of a dead process is free again after
 * OWN_STALE_NS. Where the file cannot be had (not root) a process still knows its own lines. Lines of other network
 * namespaces do not count. Nobody is locked out: readers retry, a torn line is no line.
 *
 *   | head: magic, count of changes | line 0 | line 1 | ...           line: owner, beat, sequence, body
 *
 * All functions but own_open() take NULL and do nothing. One thread at a time. */
#ifndef TLSTAP_OWN_H
#define TLSTAP_OWN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tuple.h"

#define OWN_PATH "/run/tlstap/own.3" /* by layout: daemons of two versions do not take the file from each other */
#define OWN_LINES 128		     /* processes */
#define OWN_TUNNELS 8		     /* connections of one process */
#define OWN_INTERFACES 64	     /* on which what one process replays is seen: joined.h */
#define OWN_LISTENS 8		     /* places where one process listens for agents */
#define OWN_STALE_NS 5000000000ull

struct own;

/* @path  OWN_PATH, or another one for tests; its folder is made if need be, and must be ours alone to write. A file of
 *        another layout is replaced. Never fails for want of the file: 0; -ENOMEM.
 * *@ret_shared  false: only this process's lines are known (say why with the errno in *@ret_err). */
int own_open(struct own **ret, const char *path, bool *ret_shared, int *ret_err);
void own_close(struct own **o);

/* Connection @which (0 .. OWN_TUNNELS-1) of this process: its tunnel. NULL: it has none now.
 * @t  SIDE_CLIENT is the end on this host, and its port that connection's alone (sock_tcp_connect() sees to it): NAT
 *     on this host may show packets of the tunnel with another address there, or with another other end */
void own_tunnel(struct own *o, unsigned which, const struct tuple *t);
/* That connection is over. Its packets may still wait to be captured, so it stays known, by both ends now: replace it
 * by a new one only. */
void own_tunnel_over(struct own *o, unsigned which);
/* This process replays to interface @ifindex (0: it does not); those that are joined to it are found and meant too.
 * Call it again once a second: interfaces come and go. Returns on how many what is replayed is seen; of more than
 * OWN_INTERFACES the rest is forgotten. */
unsigned own_replay(struct own *o, uint32_t ifindex);
/* The interfaces of the last own_replay(), that one first; at most @max. Returns how many. */
unsigned own_replays(const struct own *o, uint32_t *ret, unsigned max);
/* This process takes agents' connections where @at's server is: ver 0 means on that port of each address of this host.
 * (A port alone would hide everybody who connects from it.) */
void own_listen(struct own *o, unsigned which, const struct tuple *at);

/* Renew this process's line: about once a second. @now_ns is CLOCK_MONOTONIC's, here and below. */
void own_beat(struct own *o, uint64_t now_ns);

/* Re-read the others' lines if one has changed or a second has passed; the questions below are answered from that
 * copy. Costs one load otherwise. */
void own_refresh(struct own *o, uint64_t now_ns);
/* Does a packet between these ends belong to a tunnel, or to a receiver of this host? */
bool own_is_tunnel(const struct own *o, const struct tuple *t);
bool own_is_replay(const struct own *o, uint32_t ifindex);

#endif
