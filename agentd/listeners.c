/* SPDX-License-Identifier: Apache-2.0 */
/* Snapshots of the listening sockets, merged so that each keeps the time when it was first seen. */
#include "listeners.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#define COST_PART 50 /* of the time may go into renewals: one part in so many */

struct listeners {
	int diag;
	size_t n;
	uint64_t next_ms;						   /* renew no earlier */
	struct sockdiag_listener cur[LISTENERS_MAX], fresh[LISTENERS_MAX]; /* cur: sorted by inode */
	uint64_t since_ms[LISTENERS_MAX], fresh_ms[LISTENERS_MAX];
};

struct listeners *listeners_new(int diag)
{
	struct listeners *l = calloc(1, sizeof(*l));

	if (l != NULL)
		l->diag = diag;
	return l;
}

void listeners_free(struct listeners **l)
{
	free(*l);
	*l = NULL;
}

static int by_inode(const void *a, const void *b)
{
	const struct sockdiag_listener *x = a, *y = b;

	return (x->inode > y->inode) - (x->inode < y->inode);
}

static uint64_t clock_us(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000 + (uint64_t)ts.tv_nsec / 1000;
}

void listeners_renew(struct listeners *l, uint64_t now_ms, unsigned shares)
{
	uint64_t start_us, cost_ms;
	size_t old = 0;
	int n;

	if (now_ms < l->next_ms)
		return;
	start_us = clock_us();
	n = sockdiag_listeners(l->diag, l->fresh, LISTENERS_MAX);
	if (n >= 0) {
		qsort(l->fresh, (size_t)n, sizeof(l->fresh[0]), by_inode);
		for (size_t i = 0; i < (size_t)n; i++) {
			const struct sockdiag_listener *f = &l->fresh[i];

			while (old < l->n && l->cur[old].inode < f->inode)
				old++;
			/* an inode number may be used again: the same address too, or it is another socket */
			l->fresh_ms[i] = now_ms;
			if (old < l->n && l->cur[old].inode == f->inode && l->cur[old].port == f->port &&
			    l->cur[old].ver == f->ver && memcmp(l->cur[old].addr, f->addr, 16) == 0)
				l->fresh_ms[i] = l->since_ms[old];
		}
		l->n = (size_t)n;
		memcpy(l->cur, l->fresh, l->n * sizeof(l->cur[0]));
		memcpy(l->since_ms, l->fresh_ms, l->n * sizeof(l->since_ms[0]));
	}
	cost_ms = (clock_us() - start_us) * COST_PART * shares / 1000;
	l->next_ms = now_ms + (cost_ms > LISTENERS_FRESH_MS ? cost_ms : LISTENERS_FRESH_MS);
}

size_t listeners_find(const struct listeners *l, const struct endpoint *e, uint64_t at_ms, uint64_t *ret, size_t max)
{
	size_t n = 0;

	for (size_t i = 0; i < l->n && n < max; i++) {
		if (l->since_ms[i] <= at_ms && sockdiag_covers(&l->cur[i], e))
			ret[n++] = l->cur[i].inode;
	}
	return n;
}
