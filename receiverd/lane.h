/* SPDX-License-Identifier: Apache-2.0 */
/* lane.h - one thread's share of the work: a loop, its sessions, their flows, an injector.
 *
 * There is one lane now, on the main loop. Nothing in it is shared, so that there can be more, each with its own
 * listening socket (SO_REUSEPORT). */
#ifndef TLSTAP_RECEIVERD_LANE_H
#define TLSTAP_RECEIVERD_LANE_H

#include <ev.h>
#include <stdbool.h>
#include <stdint.h>

#include "flows.h"
#include "inject.h"
#include "session.h"

#define LANE_SESSIONS 1024   /* connections at a time */
#define LANE_NEW 256	     /* of these: without a hello or packet yet */
#define LANE_NEW_PER_ADDR 32 /* of these: from one address (/64 of IPv6) */
#define LANE_PER_ADDR 256    /* connections from one address, whatever they have said */
#define LANE_SILENT_S 5.0    /* age from which one that has said nothing makes room for another */

struct receiver;

struct lane_count {
	uint64_t accepted;	    /* connections */
	uint64_t refused;	    /* of these: closed at once, because of the limits above */
	uint64_t handshakes_failed; /* of these: no TLS */
	uint64_t bad;		    /* sessions ended for what their agent did, failed handshakes included */
};

struct lane {
	struct receiver *receiver;
	struct ev_loop *loop;
	struct inject inject;
	struct flows flows;
	struct session *session; /* LANE_SESSIONS */
	struct session *first;	 /* of those in use, newest first */
	struct session *turn;	 /* the one to go on first when the injector is ready; NULL: first */
	unsigned n, n_new;
	uint64_t held; /* bytes read and not decided on, all sessions */
	struct lane_count count;
	struct tally ended; /* of sessions that are over */
	/* private */
	uint8_t *buffers; /* STREAM_BUF each; touched as they are used */
	unsigned *spare;
	unsigned n_spare;
	ev_timer tick;
};

/* Returns 0, or -errno with one line in @err. Opens the interface and the file of the configuration. */
int lane_new(struct lane **ret, struct receiver *r, struct ev_loop *loop, char err[static INJECT_ERR]);
void lane_free(struct lane **l);

/* A connection: takes @fd. */
void lane_accept(struct lane *l, int fd, const struct sockaddr_storage *sa, socklen_t len);

/* End all sessions; the loop is broken off when none is left. */
void lane_end(struct lane *l);

/* Everything, sessions that are over and those that are not. */
void lane_tally(const struct lane *l, struct tally *ret);

/* For session.c: a state begins; a session is over and all it had is to be freed. */
void lane_state(struct lane *l, struct session *s, enum session_state state);
void lane_release(struct lane *l, struct session *s);

#endif
