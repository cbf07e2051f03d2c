/* SPDX-License-Identifier: Apache-2.0 */
/* family.h - one shared mapping and the processes that write into it.
 *
 * A family is the process that attached and its forked children. It ends when no process maps the mapping any
 * more. Belongs to its lane. */
#ifndef TLSTAP_FAMILY_H
#define TLSTAP_FAMILY_H

#include <ev.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/shm.h"
#include "helper.h"
#include "lane.h"
#include "member.h"

#define FAMILIES_DEAD_MAX 64u /* mappings of dead processes that wait for a sink without credit */

struct tap;

/* A process that was given a mapping (attach.c), on its way to the lane. */
struct newcomer {
	struct newcomer *next;
	struct shm_reader r;
	uint64_t id; /* the mapping's */
	pid_t pid;
	uid_t uid;
	int pidfd;
	uint64_t netns; /* 0: not known */
	uint64_t rules; /* lane.rules by which it was judged, and allowed */
};

struct family {
	struct family *next;
	struct lane *lane;
	struct shm_reader r;
	uint64_t id;
	pid_t pid; /* who attached */
	uid_t uid; /* of who attached */
	struct helper_id file;
	uint64_t sweep; /* complete sweeps so far: all that was published before one began was read before it ended */
	bool sweeping;	/* one is under way: a stripe may be too full to be read in one go */
	uint64_t left;	/* stripes that it has not done with */
	uint32_t mark[SHM_STRIPES];	      /* it is done with one when all that was in its FIFO then has been read */
	bool leaks;			      /* chunks may be in nobody's hands */
	uint64_t leaks_sweep;		      /* when to look for them (again) */
	uint64_t netns;			      /* inode of its network namespace; 0: not known yet */
	unsigned uids_asked;		      /* answers to come that say whose its processes are */
	uint64_t unpaired_n, unverified_n;    /* connections */
	bool own_pidns;			      /* its processes call themselves what we call them */
	uint64_t children_ns, children_sweep; /* when to look for dead children again */
	uint64_t no_slot;		      /* of header.lost_slot: told to the lane */
	bool unverified_told;
	uint64_t judged_rules; /* lane->rules when all its processes were asked about */
	/* see permit.h */
	bool off;		 /* header.off was set, for now: denied, or all taps are switched off */
	bool denied;		 /* all its living processes are */
	uint64_t off_sweep;	 /* when all that was written before has been read: then its connections end ... */
	bool off_done;		 /* ... as they have */
	uint64_t on_ns;		 /* on again since then; 0: never was off, UINT64_MAX: is off */
	bool broken;		 /* wrote nonsense: is not read any more */
	bool adopted;		 /* a predecessor's */
	bool scanned;		 /* its processes were looked for since the last change */
	bool scan_asked;	 /* and the answer is not here yet */
	uint32_t producers_seen; /* header.producers when they were last looked for */
	bool orphan;		 /* all known processes have died */
	bool gone;		 /* nobody maps it any more: ends after its last sweep */
	uint64_t gone_sweep;	 /* the sweep after which it ends */
	bool scan_asked_done;	 /* its answer has just ended */
	uint32_t table_full_told;
	uint64_t losses_seen, audit_sweep; /* when the slots are settled next because of losses */
	bool unsettled;			   /* or because a connection ended and its slot says that more was reported */
	unsigned alive;			   /* answers of the running look-around that name a process */

	struct tap **taps; /* by slot; taps_n of them */
	uint32_t taps_n;
	uint32_t taps_used;  /* slots that were ever in use */
	struct tap *waiting; /* taps with records that could not be used yet */
	uint64_t held_mem;   /* memory of these */
	unsigned steps;	     /* of this sweep, to find places for them */

	struct member **member; /* member_n of them */
	unsigned member_n, member_cap;
	uint64_t busy_told, full_told; /* of the mapping's loss counters: already found as gaps */
	uint64_t before;	       /* bytes that a predecessor had decided */
};

/* The family of @n, which has got its mapping. Takes @n, which was malloc()ed, and all in it; gives its place in
 * lane.quota back when the family ends. Returns 0, -ENOMEM, or -errno of fstat(2): then the mapping is off for good. */
int family_new(struct lane *l, struct newcomer *n);

/* Take over a predecessor's mapping from @fd (taken in any case). Returns 0 or -errno. */
int family_adopt(struct lane *l, int fd, const struct helper_id *file, const struct helper_event *e);

/* Read what is there. Returns records used; sets lane->stalled if the sink gave no more credit. */
unsigned family_sweep(struct family *f);

/* What must be done now and then, after a sweep: dead processes, idle stripes, the end. Returns false if the family
 * has ended and was freed. */
bool family_tend(struct family *f);

/* The processes that map these files: ask for those families that need to know. */
void family_scan(struct lane *l);
void family_on_answer(struct lane *l, const struct helper_event *e);

/* While the sink gives no credit: give up the oldest mapping of dead processes if there are too many. */
void family_shed(struct lane *l);

/* What the helper's answers about a family's connections say: which family, which slot, in which use (8 bits of it). */
static inline uint64_t family_cookie(const struct family *f, uint32_t gen, uint32_t slot)
{
	return f->id << 28 | (uint64_t)(gen & 0xff) << 20 | (slot & 0xfffff);
}

static inline uint64_t family_of_cookie(uint64_t cookie)
{
	return cookie >> 28;
}

static inline uint32_t family_slot_of_cookie(uint64_t cookie)
{
	return (uint32_t)(cookie & 0xfffff);
}

struct family *family_find(struct lane *l, uint64_t id);

/* Sum of what the slots say was reported, at least what was decided. */
uint64_t family_reported(struct family *f);

#endif
