/* SPDX-License-Identifier: Apache-2.0 */
/* pair.h - connection -> 5-tuple: what the process states is proven by the kernel, or not used.
 *
 * Evidence: the TCP socket exists and is one of the family's descriptors (live); or it is closed already, and the
 * process listens on its local port (listener). Everything else is unverified. */
#ifndef TLSTAP_PAIR_H
#define TLSTAP_PAIR_H

#include "helper.h"
#include "tap.h"

/* Ask for the proof of @t's addresses (again). */
void pair_ask(struct tap *t);

/* Ask for the socket that was stated when a handshake began. */
void pair_ask_told(struct tap *t, struct told *told);

/* Ask again for those that could not be asked, give up those that wait too long. */
void pair_tend(struct tap *t);

/* An answer came. */
void pair_on_answer(struct lane *l, const struct helper_event *e);

/* The tuple of a verified tap, as the kernel has it. */
void pair_tuple(const struct tap *t, struct tuple *ret);

/* Is the local address one of the interface that was asked for? */
bool pair_wanted(struct lane *l, const struct endpoint *e);

#endif
