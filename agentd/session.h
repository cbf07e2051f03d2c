/* SPDX-License-Identifier: Apache-2.0 */
/* session.h - the TLS sessions that are watched, found by their client random and by their 5-tuples.
 *
 * The table knows no rules: sessions.c says what becomes of a session and when, coverage.c asks whose it is. Memory is
 * reserved for SESSIONS_MAX of them, but only what is used is ever touched. One thread. */
#ifndef TLSTAP_SESSION_H
#define TLSTAP_SESSION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "hello.h"
#include "misses.h"

#define SESSION_TUPLES 4 /* as many as NAT and namespaces usually make of one connection */
#define SESSION_CHAIN 64 /* sessions whose randoms begin alike that are looked at: nobody can make the table slow */

struct session_seen {
	struct tuple t;
	uint64_t netns;
	uint32_t next; /* private */
	bool linked;   /* it can be found by this tuple */
};

/* What is known of the process at one end. */
struct session_end {
	struct miss_ref miss; /* the kind of process; .gen 0: not known */
	int32_t pid;
	uint8_t waiting; /* for so many answers */
	bool asked;
	bool found; /* it is this one's own answer */
	bool like;  /* no answer, but others like it had one */
};

/* A session is in exactly one list, which says what it waits for; oldest first. */
enum session_list {
	SESSION_FREE,
	SESSION_FRESH,	 /* a ClientHello, no answer yet */
	SESSION_YOUNG,	 /* answered, no cleartext yet */
	SESSION_OLD,	 /* likewise, and its process was asked for */
	SESSION_DONE,	 /* delivered or missed; its connection goes on */
	SESSION_CLOSING, /* its connection has just ended; cleartext may still be read */
	SESSION_GONE,	 /* ended, delivered or missed; kept for late hellos, answers and cleartext */
	SESSION_LISTS,
};

struct session {
	uint64_t born_ns, counted_ns, ended_ns; /* ended_ns 0: it goes on */
	uint32_t gen;				/* changes with each use of this place */
	uint32_t server;			/* of servers.c; SERVERS_NONE: in none of the networks of -H */
	uint32_t prev, next, next_random;	/* private */
	uint8_t list;
	uint8_t random_len;
	uint8_t seen_n;
	uint8_t where; /* enum coverage_where while it is missed */
	bool counted;  /* it was answered */
	bool delivered;
	bool missed;
	uint8_t random[32];
	struct session_end end[2]; /* by enum side */
	struct session_seen seen[SESSION_TUPLES];
	char sni[HELLO_NAME_MAX + 1];
};

struct session_table {
	struct session *s;
	uint32_t max, touched, mask; /* max: a power of two */
	uint64_t seed;
	uint32_t *by_random, *by_tuple; /* number + 1 */
	struct {
		uint32_t first, last, n; /* number + 1 */
	} list[SESSION_LISTS];
};

/* Not for secrets: only nobody can choose what collides who does not know @seed. */
uint64_t session_hash(const void *p, size_t len, uint64_t seed);

/* Returns 0 or -ENOMEM. */
int session_table_init(struct session_table *t, uint32_t max);
void session_table_fini(struct session_table *t);

/* The newest session with this random; of two cut ones the shorter length counts. NULL: none. */
struct session *session_find_random(struct session_table *t, const uint8_t *random, size_t len);
/* NULL: none. *@ret_i: which of its tuples. */
struct session *session_find_tuple(struct session_table *t, const struct tuple *tuple, uint64_t netns, unsigned *ret_i);

/* A new one, in SESSION_FRESH. NULL: the table is full. */
struct session *session_new(struct session_table *t, const uint8_t *random, size_t len);
/* Let it be found by this tuple too, by which no other can be found. Returns false: it has no room for it. */
bool session_link(struct session_table *t, struct session *x, const struct tuple *tuple, uint64_t netns);
void session_unlink(struct session_table *t, struct session *x, unsigned i);
/* To the end of @list. */
void session_move(struct session_table *t, struct session *x, enum session_list list);
void session_drop(struct session_table *t, struct session *x);

static inline struct session *session_first(struct session_table *t, enum session_list list)
{
	return t->list[list].first ? &t->s[t->list[list].first - 1] : NULL;
}

#endif
