/* SPDX-License-Identifier: Apache-2.0 */
/* ledger.h - where in the tunnel the bytes of cleartext are: backlog, in flight, acknowledged.
 *
 * The receiver acknowledges bytes of the stream. The ledger keeps, for each batch, where in the stream it ends and how
 * much cleartext it carries, and so turns an acknowledged offset into cleartext. A batch counts as sent or
 * acknowledged when all of it is. Always: put = acknowledged + in_flight + backlog + broken. One thread. */
#ifndef TLSTAP_AGENTD_LEDGER_H
#define TLSTAP_AGENTD_LEDGER_H

#include <stdbool.h>
#include <stdint.h>

#define LEDGER_MAX 8192 /* batches on their way; when it is full, neighbours are counted as one */

struct ledger {
	uint64_t in_flight; /* bytes of cleartext sent and not acknowledged */
	uint64_t backlog;   /* not yet sent */
	/* private */
	uint64_t first, sent, end; /* free-running: [first, sent) in flight, [sent, end) backlog */
	struct {
		uint64_t off; /* in the stream, behind the batch */
		uint64_t payload;
	} e[LEDGER_MAX];
};

/* Is there room for one more batch, whatever its state? */
bool ledger_room(const struct ledger *l);

/* A batch of @payload bytes of cleartext ends at offset @off of the stream. Needs ledger_room(). */
void ledger_put(struct ledger *l, uint64_t off, uint64_t payload);

/* The stream is sent up to @off. */
void ledger_sent(struct ledger *l, uint64_t off);

/* The stream is acknowledged up to @off, which counts only as far as it was sent. Returns the bytes of cleartext that
 * this acknowledges now. */
uint64_t ledger_acked(struct ledger *l, uint64_t off);

/* The tunnel broke: forget all. Returns the bytes of cleartext whose fate is unknown. */
uint64_t ledger_break(struct ledger *l);

#endif
