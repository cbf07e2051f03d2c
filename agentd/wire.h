/* SPDX-License-Identifier: Apache-2.0 */
/* wire.h - what the wire tells of TLS connections: which 5-tuple showed which random, and whose its ends are.
 *
 *   hello_sock.c (one per network namespace) --hello--> wire.c --> hellos.c (the table)
 *                                                         |  +---> sessions.c (effectiveness)
 *                                                         +------> sock_diag: is an end a socket here, and whose?
 *   pair.c --"who showed this random?"--> wire_find()
 *
 * A hello is in its socket before the TLS library has it; so who reads these sockets first, and then finds no entry,
 * knows that there was none.
 *
 * A thread of its own reads them as they come, because whose a socket is can be asked only while it lasts, and a lane
 * may be busy for milliseconds; all it touches is behind one lock. All functions here are called by the lane's
 * thread. */
#ifndef TLSTAP_WIRE_H
#define TLSTAP_WIRE_H

#include <ev.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/opt.h"
#include "hello_sock.h"
#include "hellos.h"
#include "helper.h"
#include "sessions.h"

#define WIRE_ERR 512
#define WIRE_NETNS_MAX (HELPER_NETNS_MAX + 1) /* the own one is the first */
#define WIRE_INNER 4096			      /* randoms of sessions inside sessions */
#define WIRE_FOUND (4 * HELLOS_TUPLES)	      /* tuples that wire_find() may return */

struct own;
struct lane;

/* One network namespace. */
struct wire_ns {
	struct wire *wire;
	struct hello_sock sock;
	uint64_t cookie;   /* the kernel's name of it; 0: not known */
	int diag;	   /* sockdiag_open() there */
	bool asked_for;	   /* --netns NAME or PID: stays as long as that is there */
	int pidfd;	   /* of that PID; -1: none */
	uint64_t since_ns; /* when it was opened */
};

/* Hellos on their way to the sessions, which belong to the lane. */
#define WIRE_QUEUE 8192u
struct wire_news {
	struct hello hello;
	uint64_t netns, now_ns;
	uint32_t ifindex;
};

struct wire {
	struct lane *lane;
	pthread_mutex_t lock; /* table, ns, news, hellos; held for microseconds, for the reader is in a hurry */
	pthread_cond_t drained;
	_Atomic uint64_t passes; /* through all sockets, begun ... */
	_Atomic uint64_t passed; /* ... and done */
	pthread_t reader;
	int wake;			      /* eventfd: the reader is to look at ns and stop again */
	bool running;			      /* there is a reader */
	uint64_t patience_ns, patience_at_ns; /* how long the lane may still wait for it, as of then */
	bool stop;
	struct wire_news *news, *news_read; /* NULL without sessions; the one being filled, the one being read */
	_Atomic uint32_t news_n;
	uint64_t news_lost;   /* hellos that the sessions were not told of */
	struct hellos *table; /* NULL: handshakes cannot be seen */
	struct hellos *inner; /* seen in cleartext: netns is the family's id, ifindex the depth, cookie[0] the socket */
	struct sessions *sessions; /* NULL: not counted */
	const struct own *own;
	struct wire_ns *ns[WIRE_NETNS_MAX];
	unsigned ns_n;
	uint64_t own_netns;
	uint64_t hellos; /* ever seen, in all namespaces, also those that are closed */
	uint64_t forged; /* of these, came in from an end whose socket is here: passed over */
	uint64_t drops, of_closed_drops;
	uint64_t netns_failed; /* namespaces of tapped processes that could not be opened, --netns all */
	uint64_t netns_told_ns;
	uint64_t drops_told;
	uint64_t told_ns;
	uint64_t told_lane_ns;
	ev_async hurry; /* somebody's handshake: whose it is must be asked while it lasts */
	ev_timer second;
};

/* Open the hello socket of the own namespace, and the table beside @socket. As root.
 * @sessions  borrowed, or NULL
 * @own       borrowed: handshakes of our own tunnels are no sessions
 * Returns 0, or -errno with one line in @err. */
int wire_open(struct wire *w, const char *socket, struct sessions *sessions, const struct own *own,
	      char err[static WIRE_ERR]);

/* Open the namespaces of --netns. Waits for the helper's answers.
 * Returns 0, or -errno with one line in @err that names the one that cannot be had. */
int wire_open_netns(struct wire *w, struct helper *h, const struct opt_list *names, char err[static WIRE_ERR]);

/* From now on hellos are read as they come. Returns 0, or -errno of pthread_create(3). */
int wire_start(struct wire *w, struct lane *l);

/* Read all hellos that are there: what came before this call is known after it, unless there are so many that the lane
 * would wait for too long. */
void wire_read(struct wire *w);

/* An answer to HELPER_NETNS came: takes its descriptor. */
void wire_on_netns(struct wire *w, const struct helper_event *e);

/* The namespace of the process at the other end of the socket @fd, if handshakes are seen there; else 0. Any thread. */
uint64_t wire_netns_of(struct wire *w, int fd);

/* The kernel has destroyed this socket. */
void wire_ended(struct wire *w, const struct endpoint *e);

/* Cleartext of a tapped connection between the ends @t, of family @family, on socket @sock_cookie, at @depth (0: on TCP
 * itself): a session inside it may begin here. */
void wire_cleartext(struct wire *w, const uint8_t *p, size_t len, const struct tuple *t, uint64_t family,
		    uint64_t sock_cookie, uint32_t depth);

/* The tuples that showed the random which the end @local has chosen; if there are none, those that showed the other
 * one. Nobody but that end can know its random before it has said it; the other one is in its peer's hands. Oldest
 * first; owners are filled in as far as they can be known.
 * @server   NULL: not known
 * @ret_own  it is the random that @local has chosen */
size_t wire_find(struct wire *w, const uint8_t client[32], const uint8_t server[32], enum side local,
		 struct hellos_seen ret[static WIRE_FOUND], bool *ret_own);

/* The client's random of the connection @t, as namespace @netns saw it. Returns false: it did not. */
bool wire_random(struct wire *w, const struct tuple *t, uint64_t netns, uint8_t ret_client[32]);

/* The connection inside which @family spoke this handshake. Returns false: none.
 * *@ret_depth   1 on TLS, 2 on TLS on TLS ...
 * *@ret_cookie  its socket's, 0 if it is not known */
bool wire_find_inner(struct wire *w, const uint8_t client[32], const uint8_t server[32], uint64_t family,
		     struct tuple *ret, uint64_t *ret_cookie, uint32_t *ret_depth);

/* What is in the table. */
void wire_count(struct wire *w, struct hellos_count *ret);

void wire_close(struct wire *w);

#endif
