/* SPDX-License-Identifier: Apache-2.0 */
/* sessions.h - effectiveness and coverage: of the TLS sessions seen on the wire, which were shown in the clear?
 *
 *   hello_sock.c --every hello--> sessions.c <--what is forged-- conn.c
 *                                     |  whose is this one? --> helper (coverage of local processes)
 *                                     v
 *                         --status, the log, tlstap doctor
 *
 * A session is a ClientHello that was answered by a ServerHello, known by its client random: seen on two interfaces or
 * on both sides of a NAT it is one. It is settled when its connection has ended, or SESSIONS_OPEN_NS after
 * its start, whichever is first: delivered, if a byte of its cleartext had been given to a flow until then or is later;
 * missed otherwise. Bounded in everything; what finds no room is counted. One thread. */
#ifndef TLSTAP_SESSIONS_H
#define TLSTAP_SESSIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "hello.h"

#define SESSIONS_MAX 65536	  /* sessions that are watched at once */
#define SESSIONS_SERVERS_MAX 4096 /* address:port and SNI that are told apart; the rest is "others" */
#define SESSIONS_NETS_MAX 64	  /* networks of -H */
#define SESSIONS_MISSES_MAX 512	  /* kinds of local processes that are missed, for tlstap doctor */
#define SESSIONS_OPEN_NS \
	10000000000ull /* a session without cleartext for so long counts as missed, for the time being */
#define SESSIONS_GRACE_NS 1000000000ull
#define SESSIONS_SAME_NS 10000000000ull /* a hello whose random was first seen longer ago begins another session */
#define SESSIONS_GONE_NS 30000000000ull /* what has ended is known for so long */
#define SESSIONS_LOG_NS (300ull * 1000000000)
#define SESSIONS_ERR 256

struct sessions;
struct helper;
struct helper_event;

/* @nets, n_nets  -H: "10.0.0.0/8", "2001:db8::/32", "192.0.2.7"; none: no report of effectiveness, coverage only
 * @helper        borrowed; asked whose a missed session is. NULL: nobody is asked
 * Returns 0, or -EINVAL with one line in @err: which network is malformed. */
int sessions_new(struct sessions **ret, char *const *nets, size_t n_nets, struct helper *helper,
		 char err[static SESSIONS_ERR]);
void sessions_free(struct sessions **s);

/* A hello was seen in namespace @netns. */
void sessions_hello(struct sessions *s, const struct hello *h, uint64_t netns, uint64_t now_ns);

/* Cleartext of the session with this client random is being given to a flow. */
void sessions_delivered(struct sessions *s, const uint8_t client_random[32], uint64_t now_ns);

/* The kernel has destroyed this connection. */
void sessions_ended(struct sessions *s, const struct tuple *t, uint64_t netns, uint64_t now_ns);

/* About once a second: settle what is old, ask the helper, log every SESSIONS_LOG_NS. */
void sessions_tick(struct sessions *s, uint64_t now_ns);

/* The helper's answer to HELPER_WHOSE. */
void sessions_on_answer(struct sessions *s, const struct helper_event *e);

/* "sessions": {...}, "effectiveness": {...} (null without -H), "coverage": [...] without braces around; text for
 * --status; text for tlstap doctor, which holds a line that begins with SESSIONS_FINE if and only if no process of this
 * host is missed. */
#define SESSIONS_FINE "Nothing is missed"
void sessions_json(const struct sessions *s, FILE *to);
void sessions_text(const struct sessions *s, FILE *to);
void sessions_doctor(const struct sessions *s, FILE *to);

#endif
