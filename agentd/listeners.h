/* SPDX-License-Identifier: Apache-2.0 */
/* listeners.h - which sockets listen, and since when at the latest.
 *
 * A snapshot that is renewed when it is asked for, but seldom: a renewals cost at most one part in
 * fifty of the time. Why "since when": a connection that has ended may be ascribed to the owner of a
 * listening socket only if that socket was there before the end, else anybody could bind a port that
 * has become free and claim what was said on it. Used by the helper only. */
#ifndef TLSTAP_LISTENERS_H
#define TLSTAP_LISTENERS_H

#include <stddef.h>
#include <stdint.h>

#include "sockdiag.h"

#define LISTENERS_MAX 8192    /* further ones are not known */
#define LISTENERS_FRESH_MS 20 /* a snapshot is renewed when older than this */

struct listeners;

/* @diag: sockdiag_open(), borrowed. NULL: no memory. */
struct listeners *listeners_new(int diag);
void listeners_free(struct listeners **l);

/* Renew the snapshot if it is old. @shares: how many of these, for as many namespaces, share the time. */
void listeners_renew(struct listeners *l, uint64_t now_ms, unsigned shares);

/* Inodes of the sockets that accept connections to @e's local end and have done so at @at_ms.
 * Returns how many are in @ret, at most @max. */
size_t listeners_find(const struct listeners *l, const struct endpoint *e, uint64_t at_ms, uint64_t *ret, size_t max);

#endif
