/* SPDX-License-Identifier: Apache-2.0 */
/* session.h - one connection of an agent, from accept to its end.
 *
 *   HANDSHAKE -> HELLO -> RUN -> END -> free       whatever goes wrong leads to END, and harms nobody else
 *
 * Sessions live in the lane's fixed table and belong to its thread. */
#ifndef TLSTAP_RECEIVERD_SESSION_H
#define TLSTAP_RECEIVERD_SESSION_H

#include <ev.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

#include "common/sock.h"
#include "stream.h"

struct lane;
struct tls;

enum session_state {
	SESSION_FREE,
	SESSION_HANDSHAKE, /* TLS, 5 s */
	SESSION_HELLO,	   /* its first bytes; from then on its hello or a packet, 5 s */
	SESSION_RUN,	   /* blocks come */
	SESSION_END,	   /* nothing more is read; what was read is decided on, its flows are closed */
};

struct session {
	enum session_state state;
	struct lane *lane;
	struct session *prev, *next; /* in the lane's list */
	int fd;
	struct tls *tls;
	struct sockaddr_storage sa;
	char peer[SOCK_STRLEN];
	ev_io io;
	ev_timer deadline; /* of a state; in RUN: its agent is silent */
	ev_idle more;	   /* TLS holds more than was taken in one go */
	bool paused;	   /* not read while the injector is busy */
	bool greeted;	   /* answered its hello */
	bool bad;	   /* the stream cannot be read on */
	struct stream stream;
	uint64_t acked;	 /* what the agent was told last */
	double acked_at; /* ev_now() */
	double since;
	double heard_at;
	uint64_t rate_bytes; /* of frames, at the last second */
	double rate;	     /* bytes of frames per second */
	unsigned ticks;
};

/* Take over the connection @fd from @sa. */
void session_begin(struct session *s, struct lane *lane, int fd, const struct sockaddr_storage *sa, socklen_t len);

/* Has it sent nothing since its TLS handshake; or is it a native agent that has sent no packet? */
bool session_silent(const struct session *s);

/* The injector is ready again. */
void session_resume(struct session *s);

/* A second has passed. */
void session_tick(struct session *s);

/* End it from our side: decide, close flows, acknowledge, close. May be called in any state, twice too. */
void session_end(struct session *s);

#endif
