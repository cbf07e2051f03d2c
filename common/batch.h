/* SPDX-License-Identifier: Apache-2.0 */
/* batch.h - forged frames on their way from flow.c to a sink.
 *
 * A batch is one flat buffer that already is a piece of a pcapng stream: every Ethernet frame stands
 * inside an Enhanced Packet Block, so that the tunnel and the file write the buffer as it is, and the
 * interface picks the frames out by the index. Nothing is copied again. One thread at a time.
 *
 *   buf:   | EPB header 28 B | frame ... | pad to 4 | total length 4 B | next block ...
 *                            ^ frame[i].off, frame[i].len
 *
 * draft-ietf-opsawg-pcapng, section 4.3; byte order is the host's, timestamps are nanoseconds since
 * the epoch (if_tsresol 9), the interface is number 0. */
#ifndef TLSTAP_BATCH_H
#define TLSTAP_BATCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tuple.h"

#define BATCH_FRAMES 1024	 /* frames in a batch at most */
#define BATCH_BYTES (512 * 1024) /* bytes of a batch's buffer */
#define BATCH_EPB_HEAD 28	 /* bytes before a frame */
#define BATCH_EPB_MAX 36	 /* bytes added to a frame at most: head, padding, trailer */

struct batch_frame {
	uint32_t off; /* of the frame in buf */
	uint32_t len; /* of the frame, bytes */
};

struct batch {
	uint8_t *buf;	  /* BATCH_BYTES, the batch's own */
	size_t len;	  /* bytes used */
	uint64_t payload; /* bytes of cleartext in the frames */
	unsigned n;	  /* frames */
	struct batch_frame frame[BATCH_FRAMES];
};

/* Allocate the buffer; the process exits if there is no memory (start only). */
void batch_init(struct batch *b);
void batch_fini(struct batch *b);

/* Forget what is in it. */
void batch_reset(struct batch *b);

/* Where to build a frame of at most @max bytes, or NULL if the batch has no room for it.
 * Nothing is added until batch_commit(). */
uint8_t *batch_reserve(struct batch *b, size_t max);

/* Add the frame built at the last batch_reserve().
 * @len      bytes of the frame, at most the reserved @max
 * @payload  bytes of cleartext in it
 * @ts_ns    its time, nanoseconds since the epoch */
void batch_commit(struct batch *b, size_t len, size_t payload, uint64_t ts_ns);

/* Add a pcapng block of our own that says which flow the next SYN opens (docs/wire.md, kind FLOW):
 * its id, stream, incarnation and tuple. Returns false if there is no room; nothing is added then.
 * An interface sink never sees it. BATCH_FLOW_BYTES is its size at most. */
#define BATCH_FLOW_BYTES 128
bool batch_flow(struct batch *b, uint64_t id, uint32_t stream, uint32_t inc, const struct tuple *t);

#endif
