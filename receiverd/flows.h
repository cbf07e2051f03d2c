/* SPDX-License-Identifier: Apache-2.0 */
/* flows.h - the forged flows that sessions have open: who owns them, and how to close them.
 *
 *   session's FLOW block --> flows_announce()      session's frames --> flows_find(), flows_sent()
 *
 * A flow is known by what its agent announced (docs/wire.md, FLOW) and by the frames of it that were injected: from
 * them the table learns sequence numbers, so that it can close the flow (FIN, FIN, ACK) when the session ends. The
 * first session that announces a flow id owns it; what another sends of it is a duplicate, until the owner has ended.
 * Frames of flows that nobody announced (native agents) are not followed. One table a lane; one thread. */
#ifndef TLSTAP_RECEIVERD_FLOWS_H
#define TLSTAP_RECEIVERD_FLOWS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/local.h"
#include "common/tuple.h"

#define FLOWS_MAX 65536	      /* flows in a table */
#define FLOWS_SHARE 8	      /* a session with more than max / FLOWS_SHARE makes room itself */
#define FLOWS_CLOSE_BYTES 128 /* of a closing frame at most */

enum flow_phase {
	FLOW_ANNOUNCED, /* by a FLOW block; no frame of it was injected */
	FLOW_LIVE,	/* its SYN was */
	FLOW_OVER,	/* FIN, FIN, ACK were, or a RST; the next incarnation will find the entry again */
};

struct rflow {
	struct tuple t;
	uint64_t id;
	uint32_t stream;
	uint32_t next[2]; /* sequence number that each side sends next; by enum side */
	enum flow_phase phase;
	uint8_t fin;	   /* 1 << side: it has sent its FIN */
	bool server_known; /* its SYN-ACK was seen */
	bool duplicate;	   /* somebody else owns its id */
	uint16_t window;
	uint8_t mac[12]; /* of the client's SYN: destination, source */
	/* private: links of pool or hash chains (by id: owners only), of the session by last use */
	struct flows_list *of;
	struct rflow *tuple_next, *id_next, *id_prev;
	struct rflow *older, *newer;
};

/* What one session has in the table. All zero at first. */
struct flows_list {
	struct rflow *oldest, *newest; /* by last use */
	struct rflow *last_found;
	unsigned n;
};

struct flows {
	unsigned n, max;
	uint64_t evicted; /* flows closed because the table was full */
	/* private */
	struct rflow *pool, *spare;
	unsigned n_used; /* entries of the pool that were ever used */
	struct rflow **by_tuple, **by_id;
	uint32_t mask;
	uint64_t seed;
	struct flows_list *largest; /* a session with many flows; NULL: look for one */
};

/* What flows_find() saw in a frame and flows_sent() needs. */
struct flows_frame {
	struct rflow *flow; /* NULL: of no flow that was announced */
	enum side side;
	uint32_t seq_end; /* sequence number behind the frame */
	uint8_t flags;	  /* of TCP, forge.h */
};

/* @max  flows, 1 .. FLOWS_MAX. Returns 0 or -ENOMEM. */
int flows_init(struct flows *f, unsigned max);
void flows_fini(struct flows *f);

/* Is there no room for one more flow? Then flows_victim() must be closed and dropped first. */
bool flows_full(const struct flows *f);

/* Which flow makes room for one more of @of, when the table is full: @of's own that was not used for longest, if it has
 * more than an FLOWS_SHAREth of the table; else one of a session that has at least as many. So nobody loses a flow to
 * a session with more flows, or to one over its share. */
struct rflow *flows_victim(struct flows *f, struct flows_list *of);

/* @of announces the flow @a; a new incarnation of one that it has is the same entry. Needs room. */
struct rflow *flows_announce(struct flows *f, struct flows_list *of, const struct local_flow *a);

/* To which flow of @of does the Ethernet frame @p[0..len) belong? */
struct flows_frame flows_find(struct flows *f, struct flows_list *of, const uint8_t *p, size_t len);

/* The frame @p, found as @x, was injected. */
void flows_sent(const struct flows_frame *x, const uint8_t *p);

/* Build the next frame that closes @r. When it is injected, tell it to flows_sent() with @ret_x and ask again: five
 * frames at most.
 * Returns its length, or 0: nothing is left to do. */
size_t flows_close_frame(struct rflow *r, uint8_t ret[static FLOWS_CLOSE_BYTES], struct flows_frame *ret_x);

/* Forget @r. */
void flows_drop(struct flows *f, struct rflow *r);

#endif
