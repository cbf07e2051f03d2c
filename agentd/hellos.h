/* SPDX-License-Identifier: Apache-2.0 */
/* hellos.h - the pairing table: random -> the 5-tuples that showed it.
 *
 * Client and server randoms are entries of their own, each with up to HELLOS_TUPLES true 5-tuples (NAT, REDIRECT and
 * proxies make several of one connection). The first ones stay: a later hello with the same random, forged or not,
 * never replaces a tuple, it is added while there is room and otherwise counted as crowded. An entry lives until all
 * its connections have ended (hellos_end), and then HELLOS_GRACE_NS more, for cleartext that is read late. When the
 * table is full, room is made by what ended HELLOS_LATE_NS ago, then by the oldest that concerns no socket of this host
 * (anybody can send those), then by the oldest.
 *
 * The table is a mapping of a file that only root can open, so that a restarted agentd still knows
 * connections whose handshake is long over; whatever it finds in that file is checked before it is used. One thread. */
#ifndef TLSTAP_HELLOS_H
#define TLSTAP_HELLOS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "hello.h"

#define HELLOS_TUPLES 4
#define HELLOS_ENTRIES 131072	     /* randoms; about 50 MiB, sparse: what is not used costs nothing */
#define HELLOS_LATE_NS 2000000000ull /* an ended connection's cleartext is read by then, as good as always */
#define HELLOS_GRACE_NS 30000000000ull
#define HELLOS_ALIKE 4	    /* entries of a kind whose randoms begin with the same HELLO_RANDOM_MIN bytes */
#define HELLOS_PER_TUPLE 32 /* entries that one 5-tuple is in; one more removes the one seen longest ago */
#define HELLOS_ERR 256

/* Is one end of a tuple a socket of the namespace that saw it? As sock_diag(7) said while the handshake was under
 * way. */
enum hellos_owner {
	HELLOS_UNKNOWN, /* not asked, or too late */
	HELLOS_LOCAL,	/* yes, of user .uid */
	HELLOS_NONE,	/* no: the other host's, or changed on its way by NAT */
};

struct hellos_seen {
	struct tuple t;
	uint64_t netns;		    /* inode of the network namespace that saw it */
	uint32_t ifindex;	    /* the interface that saw it first */
	bool ended;		    /* the connection is over, since .last_ns */
	bool sent, received;	    /* its packet was seen leaving; coming in. On the loopback both */
	uint64_t first_ns, last_ns; /* monotonic, since boot */
	enum hellos_owner owner[2]; /* by enum side; the caller's, not known at first */
	uint32_t uid[2];	    /* where it is HELLOS_LOCAL */
	uint64_t cookie[2];	    /* of that socket, sock_diag's: who has these addresses later has another */
};

struct hellos_count {
	uint64_t added, refreshed;
	uint64_t crowded; /* hellos that found their entry full, or HELLOS_ALIKE others */
	uint64_t evicted; /* entries that had not ended and made room */
	uint64_t used;	  /* entries now */
};

struct hellos;

/* @path  the file, made 0600 if it is not there; NULL: memory of our own
 * A file of another boot, size or version, or one that is not our user's alone, is made anew; entries in it that are
 * no good are passed over.
 * Returns 0, or -errno with one line in @err (-EBUSY: another process uses the file). */
int hellos_open(struct hellos **ret, const char *path, size_t entries, char err[static HELLOS_ERR]);
void hellos_close(struct hellos **h);

/* A hello was seen. Retries (h->retry) are passed over. A tuple that had ended lives again, its owners unknown; a cut
 * random grows when a longer piece of the same hello comes.
 * Returns its tuple in the table, new or seen before, whose .owner and .uid the caller may set, valid until the next
 * call; NULL: crowded, a retry, or no memory for a first entry. */
struct hellos_seen *hellos_add(struct hellos *h, const struct hello *hello, uint64_t netns, uint32_t ifindex,
			       uint64_t now_ns);

/* The 5-tuples of a connection, in the order in which they were seen first: those that showed @client, and those that
 * showed @server (either may be NULL), each once. A cut random counts if it is the only one that fits.
 * Returns how many are in @ret. */
size_t hellos_find(const struct hellos *h, const uint8_t client[32], const uint8_t server[32],
		   struct hellos_seen ret[static 2 * HELLOS_TUPLES]);

/* The other way: the client's random that @t showed in @netns, the latest one that is not cut. Returns false: none. */
bool hellos_random(const struct hellos *h, const struct tuple *t, uint64_t netns, uint8_t ret_client[32]);

/* The kernel has destroyed the connection @t of namespace @netns (from either end; sides are as in struct hello). What
 * was seen in other namespaces does not end. */
void hellos_end(struct hellos *h, const struct tuple *t, uint64_t netns, uint64_t now_ns);

void hellos_count(const struct hellos *h, struct hellos_count *ret);

#endif
