/* SPDX-License-Identifier: Apache-2.0 */
/* coverage.h - whose is a session that is not shown in the clear? A few of them are looked up while they live.
 *
 *   sessions.c --young, old, missed--> coverage.c --helper_whose()--> helper
 *                                          |   <------answer--------
 *                                          +--> misses.c
 *
 * After its end nobody can be found, and looking is dear (the helper walks through the descriptors of all processes).
 * So: one session of each kind - server port, name and local address for a client, address and port for a server -
 * is looked up at its start, once a minute, or five times a second as long as nobody is found or there are missed
 * sessions that nobody could be named for (most are over too soon, and that is a cheap answer); and every session that
 * has shown no cleartext for a second, once in five seconds where its kind is known. A session that was missed and not
 * looked up is counted as "like" the last one of its kind. One thread. */
#ifndef TLSTAP_COVERAGE_H
#define TLSTAP_COVERAGE_H

#include <stdbool.h>
#include <stdint.h>

#include "helper.h"
#include "misses.h"
#include "session.h"

#define COVERAGE_KINDS 2048	     /* that are remembered; older ones are looked up anew */
#define COVERAGE_ADDRESSES 1024	     /* whose answer "is it ours?" is remembered */
#define COVERAGE_PER_S 10	     /* look-ups in the long run ... */
#define COVERAGE_BURST 20	     /* ... and at once */
#define COVERAGE_COOKIE (2ull << 60) /* the top bits of our cookies */
#define COVERAGE_COOKIE_MASK (15ull << 60)

enum coverage_where {
	COVERAGE_NAMED,	    /* its process, or that of others like it, is known */
	COVERAGE_UNNAMED,   /* it has an end on this host, but nobody was found in time */
	COVERAGE_ELSEWHERE, /* both ends are on other hosts, or in network namespaces that are not watched */
	COVERAGE_WHERES,
};

struct coverage_kind {
	uint64_t key;	   /* 0: free */
	uint64_t asked_ns; /* 0: never */
	uint64_t used_ns;
	struct miss_ref miss; /* of the last one that was missed */
	bool unnamed;	      /* some were missed since, and nobody could be named */
};

struct coverage_address {
	uint64_t until_ns;
	uint8_t addr[16];
	uint8_t ver;
	bool own;
};

struct coverage {
	struct helper *helper; /* NULL: nobody is asked */
	struct misses *misses;
	struct coverage_kind *kinds;
	struct coverage_address *addresses;
	uint64_t own_netns, agent_start, seed;
	uint64_t next_ns;		   /* when the next look-up would be on time */
	uint64_t missed[COVERAGE_WHERES];  /* sessions */
	uint64_t asked, answered, limited; /* look-ups; limited: there had been too many */
};

/* @helper  borrowed. Returns 0 or -ENOMEM. */
int coverage_init(struct coverage *c, struct helper *helper, uint32_t misses_max);
void coverage_fini(struct coverage *c);

/* @x (number @i of its table) has shown no cleartext yet: perhaps ask whose it is.
 * @early  it has only begun */
void coverage_look(struct coverage *c, struct session *x, uint32_t i, bool early, uint64_t now_ns);

/* Is this cookie that of a question about a session? Which one? Returns false: no. */
bool coverage_cookie(uint64_t cookie, uint32_t *ret_i, uint32_t *ret_gen);
/* The answer about @x. */
void coverage_answer(struct coverage *c, struct session *x, const struct helper_event *e, uint64_t now_ns);

/* @x is missed; it is not missed after all. */
void coverage_missed(struct coverage *c, struct session *x, uint64_t now_ns);
void coverage_withdraw(struct coverage *c, struct session *x);

#endif
