/* SPDX-License-Identifier: Apache-2.0 */
/* A set-associative table of endpoints with the time of their end. */
#include "destroylog.h"

#include <stdlib.h>
#include <string.h>

#define WAYS 8

struct entry {
	struct endpoint e; /* ver 0: free */
	uint64_t at_ms;
};

struct destroylog {
	uint64_t seed;
	size_t mask; /* number of sets - 1 */
	struct entry entry[];
};

struct destroylog *destroylog_new(size_t n, uint64_t seed)
{
	struct destroylog *l;
	size_t sets = 1;

	while (sets * WAYS < n)
		sets *= 2;
	l = calloc(1, sizeof(*l) + sets * WAYS * sizeof(l->entry[0]));
	if (l == NULL)
		return NULL;
	l->seed = seed;
	l->mask = sets - 1;
	return l;
}

void destroylog_free(struct destroylog **l)
{
	free(*l);
	*l = NULL;
}

void destroylog_add(struct destroylog *l, const struct endpoint *e, uint64_t now_ms)
{
	struct entry *set = &l->entry[(endpoint_hash(e, l->seed) & l->mask) * WAYS], *to = set;

	for (size_t i = 0; i < WAYS; i++) {
		if (set[i].e.ver == 0 || endpoint_same(&set[i].e, e)) {
			to = &set[i];
			break;
		}
		if (set[i].at_ms < to->at_ms)
			to = &set[i];
	}
	to->e = *e;
	to->at_ms = now_ms;
}

bool destroylog_find(const struct destroylog *l, const struct endpoint *e, uint64_t *ret_ms)
{
	const struct entry *set = &l->entry[(endpoint_hash(e, l->seed) & l->mask) * WAYS];

	for (size_t i = 0; i < WAYS; i++) {
		if (set[i].e.ver != 0 && endpoint_same(&set[i].e, e)) {
			*ret_ms = set[i].at_ms;
			return true;
		}
	}
	return false;
}
