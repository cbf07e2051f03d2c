/* SPDX-License-Identifier: Apache-2.0 */
/* filter.h - a pcap filter expression on a capture, and where in it a mistake is.
 *
 * libpcap says what is wrong with an expression, not where: the place is the first word with which no right
 * expression can begin, found by compiling beginnings of it. Start only: names in it are looked up (DNS). */
#ifndef TLSTAP_FILTER_H
#define TLSTAP_FILTER_H

#include <pcap/pcap.h>
#include <stddef.h>

#define FILTER_ERR 480

/* Let only packets through @p that @expr (pcap-filter(7)) matches. @p is activated.
 * Returns 0, or -EINVAL with one line in @err: libpcap's message, and the place. */
int filter_set(pcap_t *p, const char *expr, char err[static FILTER_ERR]);

/* Find the place of the mistake in @expr. Returns the offset of its first wrong word in bytes, and its length; all of
 * @expr is right as far as it goes: its length, and 0. */
size_t filter_place(pcap_t *p, const char *expr, size_t *ret_len);

#endif
