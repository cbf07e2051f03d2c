/* SPDX-License-Identifier: Apache-2.0 */
/* attach.h - the presence page and the socket where processes ask for a mapping.
 *
 * Whoever asks is looked at first: its program, user and control group, by the helper, for we may not. If the rules
 * (policy.h) deny it, or that is not known within ATTACH_LOOK_S, it gets none, for it waits, and in doubt it is let go.
 * With netns_all it also gets its mapping only when its network namespace is open, so that its very first handshake is
 * seen; or after the same time. */
#ifndef TLSTAP_AGENT_ATTACH_H
#define TLSTAP_AGENT_ATTACH_H

#include <ev.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/attach.h"
#include "lane.h"

#define ATTACH_GUESTS_MAX 256			      /* processes that have connected and not yet asked */
#define ATTACH_GUESTS_UID_MAX (ATTACH_GUESTS_MAX / 8) /* of one user but root */
#define ATTACH_GUEST_S 0.2			      /* how long one may take to ask */
#define ATTACH_LOOK_S 0.01			      /* how long one waits for what the helper has to do */
#define ATTACH_COOKIE (1ull << 63)		      /* | number of the guest: cookies of what is asked here */
#define ATTACH_PAUSE_S 0.1			      /* no descriptor is free: nobody is let in for so long */
#define ATTACH_WARN_S 60.0			      /* a user's refused processes are told of once in so long */
#define ATTACH_WARNED 16			      /* users whose last time is remembered */
#define ATTACH_ERR 512

struct guest;

/* A user whose processes were refused. */
struct warned {
	uid_t uid;
	double until;	/* no line before this */
	uint64_t count; /* that no line told of */
};

struct attach {
	struct lane *lane;
	struct attach_page *page;
	int fd;
	uint32_t chunks;
	bool netns_all; /* set before attach_start(): open the network namespaces of those who ask */
	ev_io io;
	ev_timer beat, pause;
	struct guest *guest; /* ATTACH_GUESTS_MAX of them */
	unsigned guests;
	uint64_t guests_ever;
	uint64_t attached, refused, garbage;
	uint64_t dismissed; /* of refused: silent ones whose place another one needed */
	uint64_t limited;   /* of refused: had too many mappings already */
	uint64_t hasty;	    /* of attached: served before it was known that their namespace is open */
	uint64_t denied;    /* by the rules, or because all taps are switched off */
	uint64_t unseen;    /* of refused: could not be looked at in time */
	uint64_t left;	    /* of refused: did not wait any more */
	struct warned warned[ATTACH_WARNED];
};

/* Make the page and the socket at @socket. Returns 0, or -errno with one line in @err. */
int attach_init(struct attach *a, const char *socket, char err[static ATTACH_ERR]);

/* Serve: give processes mappings of @pool bytes in @lane. */
void attach_start(struct attach *a, struct lane *lane, uint64_t pool);

/* An answer or event of HELPER_NETNS came, and its descriptors are taken: who waits for it is served. Others' are
 * passed over. */
void attach_on_netns(struct attach *a, const struct helper_event *e);

/* An answer of HELPER_PROC with ATTACH_COOKIE came: who waits for it is served, or refused. */
void attach_on_proc(struct attach *a, const struct helper_event *e);

/* Tell processes that all taps are switched off, or on again. */
void attach_switch(struct attach *a, bool off);

/* Nobody is here any more. */
void attach_stop(struct attach *a);

#endif
