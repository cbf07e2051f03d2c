/* SPDX-License-Identifier: Apache-2.0 */
/* pair.h - connection -> 5-tuple, by proof only.
 *
 * Evidence, in this order:
 *   socket    the addresses that the process states are those of a socket among its descriptors
 *   listener  that socket is closed already, but came through a port on which the process listens
 *   wire      the connection's random was seen there, and one end of that 5-tuple is, or was when it was seen, a
 *             socket of the process or its user; or NAT changed an end of it, and the process has the socket of the
 *             other end
 *   inner     the handshake was spoken inside another TLS session of the same process
 * A library that tells no random (NSS) leaves the socket alone; what the wire showed there is then the session's random.
 * Where a socket and the wire are both known, the socket's 5-tuple is shown if the wire has it, else the one of the
 * wire that shares an end with it (REDIRECT, NAT); if none does, the connection is unverified. With -I IFACE the
 * 5-tuple that was seen there is shown before all others. */
#ifndef TLSTAP_PAIR_H
#define TLSTAP_PAIR_H

#include "helper.h"
#include "tap.h"

/* OPEN of @t came: begin. t->stated: its addresses are in t->e. @told: the kernel has proven them already (its .live),
 * or NULL. */
void pair_open(struct tap *t, const struct told *told);

/* Ask for the socket that was stated when a handshake began. */
void pair_ask_told(struct tap *t, struct told *told);

/* Go on with those that wait for an answer of nobody, give up those that wait too long. */
void pair_tend(struct tap *t);

/* An answer to VERIFY, PEER or, with a cookie, EXISTS came. */
void pair_on_answer(struct lane *l, const struct helper_event *e);

/* Is the wire silent about this OPEN's random, so that it can only be a renegotiation of the session that @t is? */
bool pair_renegotiated(struct tap *t, const struct rec_open *o);

#endif
