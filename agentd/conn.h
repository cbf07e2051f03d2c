/* SPDX-License-Identifier: Apache-2.0 */
/* conn.h - one TLS connection with known addresses: its taps (one end, or both), its flow.
 *
 *   tap.c --cleartext by offset--> conn.c --each byte once--> flow.c
 *
 * From here on directions are sides. If both ends of a connection are tapped, each offset is forged from
 * whichever tap has it first. */
#ifndef TLSTAP_CONN_H
#define TLSTAP_CONN_H

#include <ev.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/flow.h"
#include "lane.h"
#include "tap.h"

#define CONN_LINGER_NS 20000000ull /* a handle may live on after its SSL_free */
#define CONN_KEEP_NS 2000000000ull /* how long the other end's late tap still finds it */
#define CONN_END_TAPS_MAX 8u	   /* taps of one family at one end: a parent's, its children's */

struct conn {
	struct conn *next;	 /* hash by random */
	struct conn *shown_next; /* hash by the tuple that the IDS sees */
	struct conn *touched_next;
	struct lane *lane;
	uint64_t random8;
	struct tuple real; /* as the kernel has it */
	struct flow flow;  /* its tuple: as the IDS sees it */
	uint64_t off[2];   /* by enum side: next byte of the connection to forge */
	struct tap *taps;
	enum side first; /* who closed first */
	bool touched;
	bool delivered;	 /* the sessions know that it is shown */
	bool ended;	 /* FIN was forged */
	uint64_t end_ns; /* when to end it, then when to free it; 0: it lives */
	uint32_t epoch;	 /* of the sink, when it was last forged to */
	bool midway;	 /* the tap that made it began in mid-life: its offsets are not the connection's */
	/* where the tap of each end was that left: its handle may come back under another slot */
	struct {
		uint64_t family;
		uint64_t off[2]; /* of the connection, by the tap's enum dir */
	} left[2];		 /* by enum side */
	ev_timer timer;
	bool armed;
	uint64_t armed_ns; /* when the timer fires */
};

/* The connection of @t, whose addresses are proven: found, or made.
 * Returns NULL; or which of the lane's counters its bytes belong to: denied (LANE_CONNS_MAX, CONN_END_TAPS_MAX),
 * collision (another live connection is shown with the same addresses and ports: two namespaces may use the same), or
 * unpaired (its library tells no random, and what was said at this end before cannot be told from it). */
uint64_t *conn_join(struct tap *t);

/* Cleartext of @t: @len bytes from connection offset @off.
 * @cont  a piece of the record before
 * Returns false and does nothing if the sink has no credit, or if a hole before @off may still be filled by the other
 * end's tap. */
bool conn_data(struct tap *t, enum side side, uint64_t off, const uint8_t *data, size_t len, bool cont);

/* What follows builds on all of @side before connection offset @off: a hole there is told before it, not after. The
 * same result. */
bool conn_reach(struct tap *t, enum side side, uint64_t off);

/* Is the socket at this end known to be the family's, by another tap that has not seen its end? */
bool conn_knows(const struct tap *t);

/* Has a tap of the same family been at @t's end of the connection @t->real, and left, so that @t can go on from there? */
bool conn_has_predecessor(const struct tap *t);

/* Does @t, of a forked child, go on with a connection of its parent? Then it has that one's addresses and proof. */
bool conn_continues(struct tap *t);

/* @len bytes from @off exist on the wire but in nobody's memory. The same result. */
bool conn_hole(struct tap *t, enum side side, uint64_t off, uint64_t len);

/* @t is closed: the connection ends if it was the last one. */
void conn_leave(struct tap *t);

/* End of a sweep: ACKs, timers, what a successor must know. false: no credit, call again. */
bool conn_settle(struct lane *l);

/* The sink's IDS is another one now. */
void conn_new_epoch(struct lane *l);

/* Close all flows. */
void conn_stop(struct lane *l);

/* Paired taps of this endpoint: the kernel has destroyed their socket @sock_cookie. */
void conn_destroyed(struct lane *l, const struct endpoint *e, uint64_t sock_cookie);

/* This endpoint is socket @sock_cookie's now: those of others have been destroyed. */
void conn_replaced(struct lane *l, const struct endpoint *e, uint64_t sock_cookie);

#endif
