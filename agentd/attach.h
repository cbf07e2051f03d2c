/* SPDX-License-Identifier: Apache-2.0 */
/* attach.h - the socket where processes ask for a mapping.
 *
 * Who asks waits, for ATTACH_WAIT_MS at most, so this has a real-time thread of its own, and a helper of its own. Whoever
 * asks is looked at first: its program, user and control group, by the helper, for we may not. If the rules (policy.h)
 * deny it, or that is not known within ATTACH_LOOK_S, it gets none, for in doubt it is let go. With netns_all it also
 * gets its mapping only when its network namespace is open, so that its very first handshake is seen; or after the same
 * time. What was handed out, and which namespaces are to be opened, the lane is told. */
#ifndef TLSTAP_AGENT_ATTACH_H
#define TLSTAP_AGENT_ATTACH_H

#include <ev.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "family.h"
#include "lane.h"
#include "presence.h"
#include "realtime.h"

#define ATTACH_GUESTS_MAX 256			      /* processes that have connected and not yet asked */
#define ATTACH_GUESTS_UID_MAX (ATTACH_GUESTS_MAX / 8) /* of one user but root */
#define ATTACH_GUEST_S 0.2			      /* how long one may take to ask */
#define ATTACH_LOOK_S 0.015			      /* how long one waits for what the helper has to do */
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

/* A namespace that the lane is to have opened. */
struct attach_wish {
	uint64_t number; /* of the guest that waits */
	pid_t pid;
};

struct attach {
	struct lane *lane;
	struct presence presence;
	int fd;
	uint32_t chunks;
	bool netns_all;	     /* set before attach_start(): open the network namespaces of those who ask */
	_Atomic bool off;    /* all taps are switched off */
	_Atomic bool failed; /* the helper has died */

	/* between the lane and the thread */
	pthread_mutex_t lock; /* also of lane.policy and lane.rules, which the lane changes and the thread reads */
	struct newcomer *come, **come_end; /* who has got a mapping, in their order */
	struct attach_wish wish[ATTACH_GUESTS_MAX];
	unsigned wishes;
	uint64_t open[ATTACH_GUESTS_MAX]; /* cookies of those whose namespaces have been opened */
	unsigned opened;
	bool stop;
	ev_async news; /* in the lane's loop */
	ev_async wake; /* in the thread's */

	/* the thread's */
	pthread_t thread;
	bool running;
	struct realtime rank;
	struct ev_loop *loop;
	struct helper *helper;
	ev_io io, helper_io;
	ev_timer pause;
	ev_prepare turn;
	struct guest *guest; /* ATTACH_GUESTS_MAX of them */
	unsigned guests;
	uint64_t guests_ever;
	struct warned warned[ATTACH_WARNED];

	_Atomic uint64_t attached, refused, garbage;
	_Atomic uint64_t dismissed; /* of refused: silent ones whose place another one needed */
	_Atomic uint64_t limited;   /* of refused: had too many mappings already */
	_Atomic uint64_t hasty;	    /* of attached: served before it was known that their namespace is open */
	_Atomic uint64_t denied;    /* by the rules, or because all taps are switched off */
	_Atomic uint64_t unseen;    /* of refused: not looked at in time, or too many waited for it */
	_Atomic uint64_t left;	    /* of refused: did not wait any more */
};

/* Make the page and the socket at @socket. Returns 0, or -errno with one line in @err. */
int attach_init(struct attach *a, const char *socket, char err[static ATTACH_ERR]);

/* Serve, in a thread that inherits the rank of the caller's: give processes mappings of @pool bytes in @lane.
 * @helper  helper_start_brief()'s, borrowed. Returns 0 or -errno. */
int attach_start(struct attach *a, struct lane *lane, struct helper *helper, uint64_t pool);

/* An answer or event of HELPER_NETNS came, and its descriptors are taken: who waits for it is served. Others' are
 * passed over. */
void attach_on_netns(struct attach *a, const struct helper_event *e);

/* Make families of those who have a mapping by now. */
void attach_settle(struct attach *a);

/* Around a change of lane.policy and lane.rules: nobody is judged meanwhile. */
void attach_lock(struct attach *a);
void attach_unlock(struct attach *a);

/* Tell processes that all taps are switched off, or on again. */
void attach_switch(struct attach *a, bool off);

/* Nobody is here any more. */
void attach_stop(struct attach *a);

#endif
