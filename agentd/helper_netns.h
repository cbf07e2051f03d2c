/* SPDX-License-Identifier: Apache-2.0 */
/* helper_netns.h - the network namespaces into which the helper looks. Part of the helper process (helper_serve.c).
 *
 * The own one is there from the start and stays. Others are opened when agentd asks for them and keep alive what
 * belongs to them, so they are closed when agentd says so, or when the name by which they were opened is gone. Nobody
 * keeps a pointer to one over a turn: by its inode it is found, or found to be closed. */
#ifndef TLSTAP_HELPER_NETNS_H
#define TLSTAP_HELPER_NETNS_H

#include "destroylog.h"
#include "helper_wire.h"
#include "listeners.h"

#define HELPER_NETNS_DIR "/run/netns"
#define HELPER_NETNS_LOOK_MS 1000	    /* how often the names are looked at */
#define HELPER_EVENT_BUFFER (8 << 20)	    /* bytes of destroy events that may wait in the kernel, own namespace */
#define HELPER_EVENT_BUFFER_OTHER (1 << 20) /* in each of the others */
#define HELPER_DESTROY_LOG_OTHER 4096	    /* destroyed tuples of each of the others that are remembered */

struct netns {
	uint64_t inode;
	int diag;
	int destroy; /* -1: no events */
	struct destroylog *log;
	struct listeners *listeners;
	char name[HELPER_NAME_MAX + 1]; /* by which it was opened; "": by a process */
};

struct netns_set {
	struct netns *ns[HELPER_NETNS_MAX + 1]; /* the first is the own one */
	unsigned n;
	int home; /* the way back; -1: others cannot be opened */
	uint64_t seed;
	uint64_t look_ms; /* when the names are looked at next */
};

/* Once, before privileges are dropped. Takes @diag and @destroy.
 * @others  other namespaces may be opened */
int netns_init(struct netns_set *s, int diag, int destroy, uint64_t seed, bool others);

static inline struct netns *netns_own(const struct netns_set *s)
{
	return s->ns[0];
}
/* @inode 0: the own one. NULL: not open. */
struct netns *netns_find(const struct netns_set *s, uint64_t inode);

/* Renew what is known of who listens there, if it is old. */
void netns_renew(const struct netns_set *s, struct netns *ns, uint64_t now_ms);

/* Answer a request of type HELPER_NETNS: two answers at most. */
void netns_answer(struct netns_set *s, const struct helper_req *r, struct helper_queue *q, uint64_t now_ms);

/* Close those whose name is gone, and say so. Those for which @q has no room have to wait for the next look. */
void netns_look(struct netns_set *s, struct helper_queue *q, uint64_t now_ms);
/* How long poll() may sleep for the names' sake: ms, -1 for ever. */
int netns_wait(const struct netns_set *s, uint64_t now_ms);

#endif
