/* SPDX-License-Identifier: Apache-2.0 */
/* Two set-associative tables of endpoints with the time of their end: by all addresses, and by the remote ones. */
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
	size_t mask;	      /* number of sets - 1 */
	struct entry entry[]; /* the sets of the one table, then those of the other */
};

struct destroylog *destroylog_new(size_t n, uint64_t seed)
{
	struct destroylog *l;
	size_t sets = 1;

	while (sets * WAYS < n)
		sets *= 2;
	l = calloc(1, sizeof(*l) + 2 * sets * WAYS * sizeof(l->entry[0]));
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

static bool same_remote(const struct endpoint *a, const struct endpoint *b)
{
	return a->ver == b->ver && a->netns == b->netns && a->remote_port == b->remote_port &&
	       memcmp(a->remote, b->remote, 16) == 0;
}

static size_t set_of(const struct destroylog *l, const struct endpoint *e)
{
	return (endpoint_hash(e, l->seed) & l->mask) * WAYS;
}

static size_t remote_set_of(const struct destroylog *l, const struct endpoint *e)
{
	struct endpoint r = *e;

	memset(r.local, 0, sizeof(r.local));
	r.local_port = 0;
	return (l->mask + 1) * WAYS + set_of(l, &r);
}

static void put(struct entry *set, bool (*same)(const struct endpoint *, const struct endpoint *),
		const struct endpoint *e, uint64_t now_ms)
{
	struct entry *to = set;

	for (size_t i = 0; i < WAYS; i++) {
		if (set[i].e.ver == 0 || same(&set[i].e, e)) {
			to = &set[i];
			break;
		}
		if (set[i].at_ms < to->at_ms)
			to = &set[i];
	}
	to->e = *e;
	to->at_ms = now_ms;
}

static const struct entry *get(const struct entry *set, bool (*same)(const struct endpoint *, const struct endpoint *),
			       const struct endpoint *e)
{
	for (size_t i = 0; i < WAYS; i++) {
		if (set[i].e.ver != 0 && same(&set[i].e, e))
			return &set[i];
	}
	return NULL;
}

void destroylog_add(struct destroylog *l, const struct endpoint *e, uint64_t now_ms)
{
	put(&l->entry[set_of(l, e)], endpoint_same, e, now_ms);
	put(&l->entry[remote_set_of(l, e)], same_remote, e, now_ms);
}

bool destroylog_find(const struct destroylog *l, const struct endpoint *e, uint64_t *ret_ms)
{
	const struct entry *x = get(&l->entry[set_of(l, e)], endpoint_same, e);

	if (x == NULL)
		return false;
	*ret_ms = x->at_ms;
	return true;
}

bool destroylog_find_remote(const struct destroylog *l, const struct endpoint *e, struct endpoint *ret,
			    uint64_t *ret_ms)
{
	const struct entry *x = get(&l->entry[remote_set_of(l, e)], same_remote, e);

	if (x == NULL)
		return false;
	*ret = x->e;
	*ret_ms = x->at_ms;
	return true;
}
