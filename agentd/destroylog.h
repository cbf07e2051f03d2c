/* SPDX-License-Identifier: Apache-2.0 */
/* destroylog.h - which TCP connections the kernel has destroyed lately.
 *
 * Bounded: sets of eight, the oldest of a set makes room. The seed is random, so nobody can aim
 * connections at one set. Used by the helper only. */
#ifndef TLSTAP_DESTROYLOG_H
#define TLSTAP_DESTROYLOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "sockdiag.h"

struct destroylog;

/* @n entries at least, rounded up to a power of two. NULL: no memory. */
struct destroylog *destroylog_new(size_t n, uint64_t seed);
void destroylog_free(struct destroylog **l);
void destroylog_add(struct destroylog *l, const struct endpoint *e, uint64_t now_ms);
/* When was @e destroyed last? false: not known. */
bool destroylog_find(const struct destroylog *l, const struct endpoint *e, uint64_t *ret_ms);
/* The last one that had @e's remote address and port, in its namespace. @ret: all its addresses; may be @e. */
bool destroylog_find_remote(const struct destroylog *l, const struct endpoint *e, struct endpoint *ret,
			    uint64_t *ret_ms);

#endif
