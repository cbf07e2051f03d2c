/* SPDX-License-Identifier: Apache-2.0 */
/* complain.h - lines about peers that may come in any number: at most so many per address and minute, and so many in
 * all: complaints 1, 30 at once and one a second; remarks 20, 200 at once and ten a second. What was not said is
 * counted and told with the next line of its kind about that address. One thread. */
#ifndef TLSTAP_RECEIVERD_COMPLAIN_H
#define TLSTAP_RECEIVERD_COMPLAIN_H

#include <stdbool.h>
#include <sys/socket.h>

#include "common/log.h"

/* A /64 of IPv6 counts as one address. Are @a and @b one? */
bool complain_same(const struct sockaddr_storage *a, const struct sockaddr_storage *b);

/* About one that misbehaves; about one that comes and goes.
 * @now  seconds, monotonic. Returns whether the line was written. */
bool complain(const struct sockaddr_storage *sa, double now, const char *fmt, ...) LOG_FMT(3, 4);
bool remark(const struct sockaddr_storage *sa, double now, const char *fmt, ...) LOG_FMT(3, 4);

#endif
