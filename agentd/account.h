/* SPDX-License-Identifier: Apache-2.0 */
/* account.h - every byte of cleartext that the TLS libraries reported, by what became of it.
 *
 *   reported  = decided + pending
 *   decided   = taken + pool_full + stripes_busy + no_slot + died + sendfile + predecessor
 *   taken     = forged_in + held + duplicate + unpaired + no_room + unverified + not_tcp + collision +
 *               denied + early_rejected
 *   forged_in = forged + resync + queued
 *
 * reported is what the slots say; all others are counted here, each byte once, when its fate is decided. What a
 * killed predecessor had taken is decided as predecessor, beside taken. From forged on, sink.h counts. */
#ifndef TLSTAP_ACCOUNT_H
#define TLSTAP_ACCOUNT_H

#include <stdint.h>

#define ACCOUNT_FIELDS(X)                                                                             \
	X(taken)                                                                                      \
	X(pool_full)	  /* no chunk was free: agentd did not keep up, or its sink gave no credit */ \
	X(stripes_busy)	  /* no stripe was free */                                                    \
	X(no_slot)	  /* their connection found no place in the table */                          \
	X(died)		  /* reported by a process that was killed before the record was out */       \
	X(sendfile)	  /* sent from a file: the application never held it */                       \
	X(predecessor)	  /* taken by an agentd that was killed before it forged them */              \
	X(forged_in)	  /* given to a flow */                                                       \
	X(held)		  /* copied, waiting for its turn or its pairing */                           \
	X(duplicate)	  /* the connection's other end is tapped too and was quicker */              \
	X(unpaired)	  /* no addresses are known */                                                \
	X(no_room)	  /* too much was held while it waited for its addresses */                   \
	X(unverified)	  /* the addresses stated are not the process's own */                        \
	X(not_tcp)	  /* DTLS, QUIC, unix sockets */                                              \
	X(collision)	  /* another live connection is shown with the same addresses and ports */    \
	X(denied)	  /* not on the interface that was asked for */                               \
	X(early_rejected) /* early data that the server refused: the application sent them again */   \
	X(forged)	  /* payload of frames given to the sink */                                   \
	X(resync)	  /* between a break and the next message border */                           \
	X(queued)	  /* in a flow, not yet in a frame */

struct account {
#define ACCOUNT_FIELD(name) uint64_t name;
	ACCOUNT_FIELDS(ACCOUNT_FIELD)
#undef ACCOUNT_FIELD
};

#endif
