/* SPDX-License-Identifier: Apache-2.0 */
/* misses.h - which programs of this host speak TLS that is not shown in the clear, why, and what to do about it.
 *
 * A kind is an executable, a user, a role and a reason. Bounded: the kind that was missed longest ago makes room, and
 * is counted. Names of executables are anybody's choice: they are escaped when shown. One thread; used by
 * coverage.c. */
#ifndef TLSTAP_MISSES_H
#define TLSTAP_MISSES_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "common/tuple.h"
#include "helper.h"

/* The first that fits is the reason. */
enum misses_why {
	MISSES_UNREADABLE, /* agentd may not read its /proc */
	MISSES_NETNS,	   /* it lives in a network namespace that is not open */
	MISSES_32BIT,
	MISSES_OWN_TLS,	   /* no TLS library that can be tapped is mapped */
	MISSES_NOT_LOADED, /* libtlstap is not loaded into it */
	MISSES_BEFORE,	   /* it has not attached and is older than agentd */
	MISSES_DETACHED,   /* it has not attached although it could have */
	MISSES_PAST_TAP,   /* it is attached, and yet nothing was heard of the session */
	MISSES_WHYS,
};

struct misses;

/* Names a kind. It stays harmless when the kind has made room. */
struct miss_ref {
	uint32_t i, gen; /* gen 0: none */
};

/* @max  kinds. Returns NULL: no memory. */
struct misses *misses_new(uint32_t max);
void misses_free(struct misses **m);

/* What the answer @e to HELPER_WHOSE (HELPER_R_OK or HELPER_R_OTHER_NETNS) says of a process whose session is missed.
 * @agent_start  start time of agentd, clock ticks since boot */
enum misses_why misses_why(const struct helper_event *e, uint64_t agent_start);

/* The kind of the process in @e. */
struct miss_ref misses_find(struct misses *m, const struct helper_event *e, enum side side, enum misses_why why,
			    uint64_t now_ns);
bool misses_known(const struct misses *m, struct miss_ref r);

/* A session of this kind was missed.
 * @pid  its process; 0: not looked up, but another one like it was
 * @sni  "" unknown */
void misses_add(struct misses *m, struct miss_ref r, int32_t pid, const struct tuple *t, const char *sni,
		uint64_t now_ns);
/* One that was added is not missed after all. @looked_up: as it was added. */
void misses_sub(struct misses *m, struct miss_ref r, bool looked_up);

/* How many kinds have missed sessions. */
uint32_t misses_count(const struct misses *m);
/* Kinds that made room for others. */
uint64_t misses_evicted(const struct misses *m);

/* [...]; for people: the kinds with most sessions first. */
void misses_json(const struct misses *m, uint64_t now_ns, FILE *to);
void misses_doctor(const struct misses *m, uint64_t now_ns, FILE *to);

#endif
