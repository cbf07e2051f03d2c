/* SPDX-License-Identifier: Apache-2.0 */
/* session.c - the table of watched sessions: two hashes and the lists. */
#include "session.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#define KEY_LEN (sizeof(struct tuple) + sizeof(uint64_t))

_Static_assert(offsetof(struct session_seen, netns) == sizeof(struct tuple), "tuple and namespace are hashed as one");

uint64_t session_hash(const void *p, size_t len, uint64_t seed)
{
	uint64_t h = seed ^ len * 0x9e3779b97f4a7c15u, w;

	for (const uint8_t *at = p; len; at += sizeof(w)) {
		size_t n = len < sizeof(w) ? len : sizeof(w);

		w = 0;
		memcpy(&w, at, n);
		h ^= w;
		h *= 0x9e3779b97f4a7c15u;
		h ^= h >> 29;
		h += seed;
		len -= n;
	}
	h *= 0xd6e8feb86659fd93u;
	return h ^ h >> 32;
}

int session_table_init(struct session_table *t, uint32_t max)
{
	memset(t, 0, sizeof(*t));
	assert(max && (max & (max - 1)) == 0);
	t->max = max;
	t->mask = 2 * max - 1;
	t->s = calloc(max, sizeof(t->s[0]));
	t->by_random = calloc(2 * max, sizeof(t->by_random[0]));
	t->by_tuple = calloc(2 * max, sizeof(t->by_tuple[0]));
	(void)!getrandom(&t->seed, sizeof(t->seed), 0);
	if (t->s && t->by_random && t->by_tuple)
		return 0;
	session_table_fini(t);
	return -ENOMEM;
}

void session_table_fini(struct session_table *t)
{
	free(t->s);
	free(t->by_random);
	free(t->by_tuple);
	memset(t, 0, sizeof(*t));
}

static uint32_t number(const struct session_table *t, const struct session *x)
{
	return (uint32_t)(x - t->s) + 1;
}

/* --- lists --- */

static void leave(struct session_table *t, struct session *x)
{
	if (x->prev)
		t->s[x->prev - 1].next = x->next;
	else
		t->list[x->list].first = x->next;
	if (x->next)
		t->s[x->next - 1].prev = x->prev;
	else
		t->list[x->list].last = x->prev;
	t->list[x->list].n--;
}

static void enter(struct session_table *t, struct session *x, enum session_list list)
{
	uint32_t me = number(t, x);

	x->list = (uint8_t)list;
	x->next = 0;
	x->prev = t->list[list].last;
	if (x->prev)
		t->s[x->prev - 1].next = me;
	else
		t->list[list].first = me;
	t->list[list].last = me;
	t->list[list].n++;
}

void session_move(struct session_table *t, struct session *x, enum session_list list)
{
	leave(t, x);
	enter(t, x, list);
}

/* --- by random: the bytes that every hello shows choose the chain --- */

static uint32_t *random_chain(const struct session_table *t, const uint8_t *random)
{
	return &t->by_random[session_hash(random, HELLO_RANDOM_MIN, t->seed) & t->mask];
}

struct session *session_find_random(struct session_table *t, const uint8_t *random, size_t len)
{
	uint32_t i = *random_chain(t, random);

	while (i) {
		struct session *x = &t->s[i - 1];

		if (memcmp(x->random, random, len < x->random_len ? len : x->random_len) == 0)
			return x;
		i = x->next_random;
	}
	return NULL;
}

/* A sender may choose randoms that all begin alike: the oldest of a long chain is not found by its random any more. */
static void cut_chain(struct session_table *t, uint32_t *head)
{
	uint32_t *at = head;

	for (unsigned n = 0; *at && n < SESSION_CHAIN - 1; n++)
		at = &t->s[*at - 1].next_random;
	*at = 0;
}

struct session *session_new(struct session_table *t, const uint8_t *random, size_t len)
{
	uint32_t i = t->list[SESSION_FREE].last, *head = random_chain(t, random), gen;
	struct session *x;

	if (i) {
		x = &t->s[i - 1];
		leave(t, x);
	} else if (t->touched < t->max) {
		x = &t->s[t->touched++];
	} else {
		return NULL;
	}
	gen = x->gen;
	memset(x, 0, sizeof(*x));
	x->gen = gen + 1;
	x->random_len = (uint8_t)len;
	memcpy(x->random, random, len);
	cut_chain(t, head);
	x->next_random = *head;
	*head = number(t, x);
	enter(t, x, SESSION_FRESH);
	return x;
}

/* --- by tuple --- */

static uint32_t *tuple_chain(const struct session_table *t, const struct session_seen *seen)
{
	return &t->by_tuple[session_hash(seen, KEY_LEN, t->seed) & t->mask];
}

static struct session_seen *seen_at(const struct session_table *t, uint32_t i)
{
	return &t->s[(i - 1) / SESSION_TUPLES].seen[(i - 1) % SESSION_TUPLES];
}

struct session *session_find_tuple(struct session_table *t, const struct tuple *tuple, uint64_t netns, unsigned *ret_i)
{
	struct session_seen key = {.t = *tuple, .netns = netns};

	for (uint32_t i = *tuple_chain(t, &key); i; i = seen_at(t, i)->next)
		if (memcmp(seen_at(t, i), &key, KEY_LEN) == 0) {
			*ret_i = (i - 1) % SESSION_TUPLES;
			return &t->s[(i - 1) / SESSION_TUPLES];
		}
	return NULL;
}

bool session_link(struct session_table *t, struct session *x, const struct tuple *tuple, uint64_t netns)
{
	struct session_seen *seen = &x->seen[x->seen_n];
	uint32_t *head;

	if (x->seen_n == SESSION_TUPLES)
		return false;
	*seen = (struct session_seen){.t = *tuple, .netns = netns, .linked = true};
	head = tuple_chain(t, seen);
	seen->next = *head;
	*head = (number(t, x) - 1) * SESSION_TUPLES + x->seen_n + 1;
	x->seen_n++;
	return true;
}

void session_unlink(struct session_table *t, struct session *x, unsigned i)
{
	uint32_t me = (number(t, x) - 1) * SESSION_TUPLES + i + 1, *at = tuple_chain(t, &x->seen[i]);

	while (*at && *at != me)
		at = &seen_at(t, *at)->next;
	if (*at)
		*at = x->seen[i].next;
	x->seen[i].linked = false;
}

void session_drop(struct session_table *t, struct session *x)
{
	uint32_t me = number(t, x), *at = random_chain(t, x->random);

	while (*at && *at != me)
		at = &t->s[*at - 1].next_random;
	if (*at)
		*at = x->next_random;
	for (unsigned i = 0; i < x->seen_n; i++)
		if (x->seen[i].linked)
			session_unlink(t, x, i);
	session_move(t, x, SESSION_FREE);
	x->gen++;
}
