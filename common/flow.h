/* SPDX-License-Identifier: Apache-2.0 */
/* flow.h - one forged TCP conversation: incarnations, sequence numbers, ACKs, echo, keep-alive.
 *
 *   conn.c --cleartext in causal order--> flow.c --frames--> batch.h --> sink
 *
 * A flow is a series of incarnations on one 5-tuple, each with a handshake, data, and FIN, FIN, ACK.
 * Whatever breaks continuity (loss, rotation, a restart, a new tunnel) closes the incarnation; the
 * next one opens at the next message border (HTTP/1) or record (anything else). So an IDS sees
 * neither a hole nor a flow without its beginning. The rules are those of docs/architecture.md.
 *
 * ACKs. Every frame of a side acknowledges what the other side has said so far, except for a header
 * block that is not yet whole. So the next data of the peer carries the ACK; where none comes,
 * flow_settle() forges it. Between two ACKs lie at most FLOW_ACK_MAX bytes outside of a header block,
 * one message (HTTP/1) or one record (else). Then the sender owes an echo: one more packet, at which
 * an engine looks at the data; any packet of that side will do, else flow_tick() forges it.
 *
 * Pairing after a break. An IDS pairs the n-th request of an incarnation with its n-th response, so
 * the first response forged must be that of the first request forged. Where the parser still knows
 * both sides (the hole lay in a body of known length) it counts: responses to requests of before are
 * dropped. Else the next request is taken only when the server was heard last, which means that
 * nothing is outstanding if this client never pipelined or was seen to wait for all responses of
 * its bursts; for any other client the connection must also have been silent for FLOW_QUIET_NS. Its
 * response must begin with a status line at the begin of a record. What contradicts the presumption
 * breaks the incarnation again. Dropping more is fine, a wrong pair is not.
 *
 * Pure: no I/O, no clock, no allocation. One thread at a time per flow. */
#ifndef TLSTAP_FLOW_H
#define TLSTAP_FLOW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "batch.h"
#include "http1.h"
#include "tuple.h"

#define FLOW_ACK_MAX 16384	    /* bytes of a side between two ACKs at most, outside of header blocks */
#define FLOW_STOPS 128		    /* messages in one piece of data that get an ACK of their own */
#define FLOW_QUIET_NS 2000000000ull /* a silence so long means that nothing is outstanding */

/* The MAC addresses of all forged frames, in both directions. */
#define FLOW_SRC_MAC                               \
	{                                          \
		0x06, 0x11, 0x22, 0x33, 0x44, 0x55 \
	}
#define FLOW_DST_MAC                               \
	{                                          \
		0x06, 0x11, 0x22, 0x33, 0x44, 0x56 \
	}

/* What all flows of a daemon share. */
struct flow_conf {
	uint8_t isn_key[16];   /* drawn at start: ISNs of one daemon differ from its predecessor's */
	uint32_t mtu;	       /* bytes of IP packet, 576 .. 65521 */
	uint64_t rotate;       /* bytes per direction after which an HTTP flow is re-opened at a border; 0: never */
	uint64_t keepalive_ns; /* idle time after which an ACK goes each way, a quarter less at most (0: never) */
	uint64_t echo_ns;      /* how long an echo may wait for a packet that carries it */
	uint8_t smac[6], dmac[6];
};

enum flow_state {
	FLOW_CLOSED, /* nothing of it is at the IDS: at birth; after a close */
	FLOW_OPEN,   /* SYN was forged, FIN was not */
};

enum flow_sync {
	SYNC_OK,   /* the next byte belongs to the incarnation that is open, or opens the next */
	SYNC_SEEK, /* after a break: bytes are dropped (resync) up to the next border */
};

struct flow_side {
	uint32_t seq;	 /* of its next byte */
	uint32_t acked;	 /* what the other side has acknowledged of it */
	uint64_t bytes;	 /* payload of this side in this incarnation */
	uint64_t forged; /* bytes that became payload, all incarnations */
	uint64_t resync; /* bytes dropped between a break and a border */
	/* private to flow.c from here on */
	uint32_t edge; /* what the other side may acknowledge: seq, or where the header block began */
	uint16_t wnd;  /* last window sent, so that no two ACKs are alike */
	uint16_t ip_id;
	bool owes_echo; /* must send one more packet so that an engine looks at its own data */
};

struct flow {
	struct tuple t;	 /* as forged: the server port is already the shifted one */
	uint64_t id;	 /* first 8 bytes of SHA-256(client random | server random), host order */
	uint32_t stream; /* 0, or which split-off part of the connection this is */
	uint32_t inc;	 /* number of the incarnation that is open, or of the next */
	enum flow_state state;
	enum flow_sync sync;
	struct flow_side s[2]; /* by enum side */
	uint64_t due_ns;       /* call flow_tick() when its clock says so; 0: at once; UINT64_MAX: never */
	uint64_t breaks;       /* incarnations closed for loss or by flow_cut(), flow_forget() */
	uint64_t rotations;    /* incarnations closed by rotation */
	struct http1 http;     /* finds message borders, changes nothing */
	/* private to flow.c from here on */
	uint64_t last_ns;    /* time of the last frame */
	uint64_t heard_ns;   /* time of the last data or hole */
	uint64_t echo_at_ns; /* by flow_tick()'s clock; 0: not yet set */
	uint64_t idle_at_ns; /* the same */
	uint32_t pair_from;  /* the first request of this incarnation: responses to those before it are dropped */
	uint32_t unbegun;    /* while the server's side is lost: responses that may not have begun, at most */
	uint8_t waits;	     /* bursts of requests after which the client waited for all responses */
	uint8_t misses;	     /* client records that could have been requests and were not */
	bool turn;	     /* the server was heard last */
	bool pipelines;	     /* this client sends a request before the response to the one before */
	bool burst;	     /* it has just done so */
	bool doubt;	     /* it may have sent a request while a response was under way, or that was lost */
	bool overlap;	     /* it does not wait: it sends requests while responses are under way */
	bool presumed;	     /* the incarnation began on the presumption that nothing was outstanding */
	bool await;	     /* server bytes are dropped until a record begins with a status line */
};

/* Begin a flow that nobody has seen yet. @inc is 0, or for an adopted connection one more than the
 * predecessor's: then flow_join() is included. */
void flow_init(struct flow *f, const struct tuple *t, uint64_t id, uint32_t inc);

/* The begin of the connection was not seen: what comes may be the middle of a message. Call it
 * between flow_init() and the first data. */
void flow_join(struct flow *f);

/* Bytes of batch and frames that flow_data() of @len bytes may need at most, closing and re-opening
 * included: reserve so much before the call. @len up to 64 KiB always fits into an empty batch. */
size_t flow_room(const struct flow_conf *c, size_t len);
size_t flow_frames(const struct flow_conf *c, size_t len);

/* One piece of cleartext, in causal order.
 * @cont  it continues the record before it (one SSL_write longer than 64 KiB comes in pieces)
 * @ts_ns its time; frames never go back in time within a flow
 * Returns the bytes forged, 0 .. @len; the rest was dropped up to the next border (counted in
 * resync); or -ENOBUFS, nothing done: the batch has less room than flow_room()/flow_frames(). */
ssize_t flow_data(struct flow *f, const struct flow_conf *c, enum side side, const uint8_t *data, size_t len, bool cont,
		  uint64_t ts_ns, struct batch *b);

/* @len bytes of @side are lost here (0: nobody knows how many): close the incarnation, go on at the
 * next border. If both sides lost bytes at the same place, state the client's hole first.
 * Needs FLOW_ROOM_CLOSE bytes and FLOW_FRAMES_CLOSE frames; returns 0 or -ENOBUFS. */
#define FLOW_FRAMES_CLOSE 8
#define FLOW_ROOM_CLOSE (FLOW_FRAMES_CLOSE * 128)
int flow_lost(struct flow *f, const struct flow_conf *c, enum side side, uint64_t len, uint64_t ts_ns, struct batch *b);

/* Close the incarnation for a reason that loses no byte (agentd told to, an interface came back):
 * the next byte opens the next incarnation if it is at a border, else it seeks one. */
int flow_cut(struct flow *f, const struct flow_conf *c, uint64_t ts_ns, struct batch *b);

/* The IDS behind the sink is another one, or was told to close the flow by somebody else (a new
 * tunnel): as flow_cut(), but no frame is forged for the close. */
void flow_forget(struct flow *f);

/* A part of the records at hand ends (end of a sweep): forge the ACKs that no data has carried. At
 * most FLOW_FRAMES_CLOSE frames. Returns 0 or -ENOBUFS. */
int flow_settle(struct flow *f, const struct flow_conf *c, uint64_t ts_ns, struct batch *b);

/* Time passed: echo, keep-alive. Call when @now_ns >= f->due_ns. The same bounds as flow_settle().
 * @now_ns  any clock that only goes forward (not 0); echo_ns and keepalive_ns are counted in it from
 *          the first tick after the frame in question: hence due_ns is 0 after each forged frame */
int flow_tick(struct flow *f, const struct flow_conf *c, uint64_t now_ns, uint64_t ts_ns, struct batch *b);

/* The connection has ended: FIN, FIN, ACK, in the order in which the ends closed.
 * @first  who closed first */
int flow_end(struct flow *f, const struct flow_conf *c, enum side first, uint64_t ts_ns, struct batch *b);

#endif
