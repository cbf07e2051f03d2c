/* SPDX-License-Identifier: Apache-2.0 */
/* flowseg.h - the TCP half of flow.c: numbers, ACKs, handshake and close of one incarnation.
 *
 *   flow.c --which bytes, when to open and close--> flowseg.c --segments--> forge.c, batch.h
 *
 * Private to flow.c, which has checked that the batch has room for what it asks. */
#ifndef TLSTAP_FLOWSEG_H
#define TLSTAP_FLOWSEG_H

#include "flow.h"

/* One call's way out. */
struct flow_out {
	struct flow *f;
	const struct flow_conf *c;
	struct batch *b;
	uint64_t ts_ns;
};

/* Let the peer acknowledge all of a side that is not inside a header block. */
void flowseg_edges(struct flow *f);

/* FLOW block, SYN, SYN-ACK, ACK, ACK. */
void flowseg_open(const struct flow_out *o);

/* FIN of @first, FIN, ACK; whatever is not yet acknowledged is so by these. */
void flowseg_close(const struct flow_out *o, enum side first);

/* A segment of @side without data. */
void flowseg_ack(const struct flow_out *o, enum side side);

/* Data of @side, in segments; PSH on the last.
 * @hold  no ACK in between (a header block) */
void flowseg_data(const struct flow_out *o, enum side side, const uint8_t *data, size_t len, bool hold);

/* No longer open: the next incarnation has the next number. */
void flowseg_closed(struct flow *f);

#endif
