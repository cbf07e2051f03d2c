/* SPDX-License-Identifier: Apache-2.0 */
/* permit.h - what the rules mean for processes that have a mapping: off, on again, and which connections count then.
 *
 * A mapping is off while all its living processes are denied, or all taps are switched off (lane.off): its processes
 * then pass through, from their next call on. What they had reported before is read and forged; then their connections
 * end, and their slots are free. On again, a connection counts only if its handshake was seen after that: of an older
 * one bytes are missing that nobody reported, so what else it says is counted as denied. Of one whose handshake the
 * wire does not show, nobody can tell: denied too.
 *
 * A forked child may be denied where its parent is not, by its user or control group. It goes on to write into the
 * family's mapping, but its connections are refused; and as long as there are such rules, no connection is shown before
 * its process was looked at, once more for each. Nor is one of a predecessor's mapping: the rules may be others now.
 * All of the lane's thread. */
#ifndef TLSTAP_PERMIT_H
#define TLSTAP_PERMIT_H

#include "family.h"

#define PERMIT_RESUME_NS 100000000ull /* a handshake seen so soon after the mapping was on again may be older */
#define PERMIT_LOOK_NS 3000000000ull  /* how long a connection waits for its process to be looked at */

/* Judge process @m by what the helper says of it (HELPER_PROC). */
void permit_judge(struct member *m, const struct helper_event *e);

/* Switch @f's mapping off or on as lane->off and its processes say. */
void permit_switch(struct family *f);

/* Which mappings are off is up to a successor too: take over what @f's header says. */
void permit_adopt(struct family *f);

/* After each sweep: have processes judged anew if the rules have changed; end what is to end. */
void permit_tend(struct family *f);

/* May the connection that @o tells of have begun before the mapping was on (again)? */
bool permit_missed(const struct family *f, const struct rec_open *o);

/* May the process that calls itself @pid be shown? 1, 0, or -EAGAIN: it is being looked at. What it was before a
 * connection began may have changed by then: many a daemon gives up root after its start.
 * @looked  of this connection, false at first; NULL: the last look will do */
int permit_allows(struct family *f, int32_t pid, bool *looked);

#endif
