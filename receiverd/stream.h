/* SPDX-License-Identifier: Apache-2.0 */
/* stream.h - one agent's bytes in: blocks -> checks -> injector.
 *
 *   session.c --cleartext of its tunnel--> stream_room(), stream_run() --frames--> inject.h
 *
 * No socket and no clock but for the times of closing frames, so that it can be fuzzed and tested as it is. A frame
 * is decided on when it was injected or is counted under the reason why not; the offset of the stream up to which all
 * is decided is what the agent is told (ACK). Conservation, in frames and in bytes, whenever a call returns:
 *   received = injected + policy + duplicate + oversize + inject_error + queued */
#ifndef TLSTAP_RECEIVERD_STREAM_H
#define TLSTAP_RECEIVERD_STREAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/local.h"
#include "common/pcap.h"
#include "common/pcapng.h"
#include "flows.h"
#include "inject.h"

#define STREAM_BUF (256 * 1024) /* two blocks of the longest kind */

struct count {
	uint64_t frames, bytes;
};

enum verdict {
	VERDICT_INJECTED,
	VERDICT_POLICY,	   /* shorter than an Ethernet header, cut by a snap length, not Ethernet */
	VERDICT_DUPLICATE, /* of a flow that another session owns */
	VERDICT_OVERSIZE,  /* longer than the MTU */
	VERDICT_ERROR,	   /* refused by the interface */
	VERDICTS,
};

struct tally {
	struct count received;
	struct count by[VERDICTS];
	struct count queued;   /* whole frames that wait for the interface */
	struct count closing;  /* frames of our own, that close flows of ended sessions */
	uint64_t stream;       /* bytes of streams */
	uint64_t flows_closed; /* flows closed for their session */
};

enum stream_format {
	STREAM_UNKNOWN, /* fewer than four bytes came */
	STREAM_PCAPNG,
	STREAM_PCAP,
};

struct stream {
	struct inject *inject;	/* the lane's */
	struct flows *flows;	/* the lane's */
	struct flows_list list; /* this session's flows */
	struct tally n;
	enum stream_format format;
	struct pcapng ng;
	struct pcap_stream pcap;
	bool begun;	/* HELLO or a packet came */
	bool has_hello; /* HELLO came: hello is valid; else a native agent */
	struct local_hello hello;
	bool has_statistics;
	struct local_statistics statistics;
	uint64_t decided; /* offset in the stream up to which all is decided */
	uint64_t seen;	  /* offset up to which frames are counted as received */
	bool discarding;  /* its frames are refused: the injector will not be ready in time */
	const char *why;  /* after an error: what was wrong with the stream */
	uint8_t *buf;	  /* STREAM_BUF bytes, the session's */
	size_t len;	  /* bytes in it, the first of them at offset decided */
};

/* Begin: @buf of STREAM_BUF bytes stays the caller's. */
void stream_init(struct stream *s, struct inject *inject, struct flows *flows, uint8_t *buf);

/* Room behind the bytes that are there: fill it, add to s->len, call stream_run(). */
static inline size_t stream_room(const struct stream *s)
{
	return STREAM_BUF - s->len;
}

/* Decide on all whole blocks.
 * Returns 0; -EAGAIN: the injector is busy, call again when it is ready; or the session must end, s->why says why:
 * -EBADMSG malformed, -E2BIG over a limit, -EPROTO a block in the wrong place. */
CUR_MUST int stream_run(struct stream *s);

/* The session has ended: close the flows that it had open.
 * Returns 0: all are closed and forgotten; -EAGAIN: call again when the injector is ready. */
CUR_MUST int stream_end(struct stream *s);

/* Forget all flows without closing them: the injector will not be ready in time. */
void stream_abandon(struct stream *s);

/* Give up what was read and not decided on: count its frames as refused. */
void stream_discard(struct stream *s);

/* @to += @t. */
void tally_add(struct tally *to, const struct tally *t);

#endif
