/* SPDX-License-Identifier: Apache-2.0 */
/* tap.h - one slot of a family: the process's own view of one connection after the other.
 *
 *   family.c --records in any order--> tap.c --in causal order, losses told--> conn.c
 *
 * Records of one connection come from several stripes, so they can be ahead of each other. A record waits here until
 * what it builds on is there, or until one more complete sweep has ended: then that is lost. */
#ifndef TLSTAP_TAP_H
#define TLSTAP_TAP_H

#include <stdbool.h>
#include <stdint.h>

#include "common/rec.h"
#include "common/tuple.h"
#include "family.h"
#include "sockdiag.h"

#define TAP_HELD_MAX (16u << 20)	 /* memory of what waits for one tap */
#define TAP_PAIR_NS (10ull * 1000000000) /* how long a connection may wait for its pairing, since its OPEN came ... */
#define TAP_PAIR_MIN_NS 200000000ull	 /* ... and since the one before it in its slot was done with */
#define TAP_IN_FLIGHT_NS 10000000ull	 /* how long a read waits for the write that was under way */
#define TAP_INNER_NS 50000000ull	 /* how long a second session on one socket waits for its hello in the first */
#define TAP_HANDOVER_NS 1000000000ull /* how long one that began in mid-life waits for the end of the one before it */
#define TAP_TOLD 16		      /* sockets of handshakes to come; a power of two */
#define TAP_BEHIND_NS 200000000ull    /* how long a hole waits for the other end's tap to fill it */

enum tap_state {
	TAP_CLOSED,  /* no connection: at birth; after CLOSE, the socket's destruction, the process's death */
	TAP_ASKING,  /* OPEN came; the addresses are being verified */
	TAP_PAIRED,  /* conn is set */
	TAP_REFUSED, /* its bytes are counted under refused */
};

/* What proves the addresses of a connection (pair.h). */
enum evidence { EVIDENCE_SOCKET, EVIDENCE_LISTENER, EVIDENCE_WIRE, EVIDENCE_INNER, EVIDENCE_N };

/* What the kernel says of the addresses that a process states. */
enum proof { PROOF_NONE, PROOF_LIVE, PROOF_LISTENER, PROOF_NOT };

struct held; /* a record that waits */

/* A socket that was stated when a handshake began. */
struct told {
	uint32_t gen; /* use of the slot that it is about; 0: none */
	int32_t fd, pid;
	bool asked, live;
	struct endpoint e;
	uint64_t sock_cookie;
};

struct tap {
	struct family *family;
	uint32_t slot, gen;
	enum tap_state state;
	uint64_t *refused; /* the lane's counter for its bytes */
	bool server;	   /* this end is the server's */
	bool early_known, early_ok;
	bool destroyed;		    /* the kernel has destroyed the socket */
	bool shut;		    /* this side shut down first */
	uint64_t end_sweep;	    /* ends when the family's sweeps have reached this; 0: not yet */
	uint64_t next[2];	    /* by enum dir: slot offset up to which all is decided */
	uint64_t taken[2];	    /* slot offset up to which was read */
	uint64_t pred[2];	    /* slot offset up to which a predecessor had read */
	uint64_t base[2], start[2]; /* as in struct rec_open */
	uint64_t behind_ns;	    /* since when a hole waits for the other end; 0: none does */

	struct endpoint e;	/* its socket: as stated, or as found */
	struct tuple real;	/* PAIRED: the connection, as the wire has it */
	uint32_t depth;		/* PAIRED: TLS sessions around this one */
	enum evidence evidence; /* PAIRED */
	uint64_t sock_cookie;
	uint64_t rechecked; /* after which overrun of destroy events the kernel was asked about it */
	uint64_t random8;
	uint64_t audit_rep, audit_calls; /* what a slot had reported, in how many calls ... */
	uint64_t audit_sweep;		 /* ... and when to believe that no record of it will come */
	uint64_t came_ns;		 /* when its OPEN was read */
	uint64_t asked_ns;		 /* when verification began */
	uint64_t asked_again;		 /* attempts */
	uint64_t ask_ns;		 /* not again before this */
	uint64_t cookie;		 /* of the request under way; 0: none */
	bool stated;			 /* e holds addresses that the process stated */
	enum proof proof;		 /* of these */
	uint8_t why_not;		 /* PROOF_NOT: enum helper_result */
	bool uids_asked;		 /* whose the family's processes are was looked up again */
	bool looked;			 /* its process was, for this connection (permit.h) */
	bool recalled;			 /* its random is what the wire showed on its socket */
	bool early;			 /* the proof is older than OPEN: to be confirmed */
	bool confirmed, over;		 /* asked is still sock_cookie's; it has closed it */
	unsigned at;			 /* which of the wire's tuples is being asked about */
	struct endpoint asked;		 /* its end here */
	struct told told[TAP_TOLD]; /* sockets stated when handshakes began, by gen: a slot may be a few uses ahead */
	struct rec_open open;
	uint64_t flow_id;

	struct conn *conn;
	struct tap *conn_next; /* the connection's other taps */
	struct tap *end_next;  /* hash by endpoint */

	bool adopted;		   /* joined midway: a predecessor showed what was before */
	struct held *first, *last; /* sorted */
	struct held *near;	   /* where the last one was put: the next one's place is often behind it */
	uint64_t held_mem;	   /* memory of them */
	bool waiting;		   /* in the family's list */
	struct tap *waiting_next;
	bool untold; /* in the lane's list */
	struct tap *untold_next;
};

static inline enum side tap_side(const struct tap *t, enum dir d)
{
	return (d == DIR_TX) == t->server ? SIDE_SERVER : SIDE_CLIENT;
}

/* The connection's own offset of slot offset @off. */
static inline uint64_t tap_conn_off(const struct tap *t, enum dir d, uint64_t off)
{
	return off - t->base[d] + t->start[d];
}

/* The tap of slot @slot, made if it is new. NULL: no memory. */
struct tap *tap_get(struct family *f, uint32_t slot);

/* Record @r with its payload, copied, at @data. What cannot be used now waits. Returns false if no libtlstap wrote
 * it. */
__attribute__((warn_unused_result)) bool tap_record(struct tap *t, const struct rec *r, const uint8_t *data);

/* Use what has become usable. Returns false if the sink gave no credit. */
bool tap_run(struct tap *t);

/* The sink has been given all: let the mappings say how far their slots are decided. */
void tap_tell(struct lane *l);

/* @t->start has changed: a successor must know. */
void tap_tell_start(const struct tap *t);

/* The taps of @f are about to be freed. */
void tap_untell(struct family *f);

/* A successor goes on with the connection that slot and fact describe. */
void tap_adopt(struct tap *t);

/* Its socket e, connection real and depth are known, by t->evidence. @ended: the socket is closed already. */
void tap_paired(struct tap *t, uint64_t sock_cookie, bool ended);

/* Count what the tap still waits for or holds as refused under @why, from now on. */
void tap_refuse(struct tap *t, uint64_t *why);

/* Look at @t again after the next sweep, even if no record comes. */
void tap_watch(struct tap *t);

/* The connection is over for this tap. */
void tap_close(struct tap *t);

/* The process died: what it reported and did not write is lost. */
void tap_died(struct tap *t);

/* What it reported and did not write is lost, but it goes on. */
void tap_lose_rest(struct tap *t);

/* The connection is over, its CLOSE was lost, and so is what did not come. */
void tap_over(struct tap *t);

/* Nothing of what the tap holds or has not read will be forged. */
void tap_discard(struct tap *t);

/* What waits is not believed any more: as if it had never come. */
void tap_forget(struct tap *t);

void tap_free(struct tap *t);

#endif
