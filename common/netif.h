/* SPDX-License-Identifier: Apache-2.0 */
/* netif.h - frames out of an interface: agentd's interface sink and receiverd's injector.
 *
 * An AF_PACKET socket bound to one interface that belongs to nobody else: frames leave by sendmmsg(2), through
 * the ordinary path, so that a sniffer on the same interface sees them (with PACKET_QDISC_BYPASS it would not,
 * on dummy and ifb devices). Interfaces are asked and made through rtnetlink. One thread at a time. */
#ifndef TLSTAP_NETIF_H
#define TLSTAP_NETIF_H

#include <net/if.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <sys/uio.h>

#define NETIF_BATCH 128	  /* frames in one sendmmsg(2) at most */
#define NETIF_MTU_MIN 576 /* an interface below it is refused */
#define NETIF_ERR 256

#define NETIF_FORCE (1u << 0) /* do not refuse an interface that is in use otherwise */
#define NETIF_MAKE (1u << 1)  /* make it, as a dummy device, if there is none of this name, and bring it up */

struct netif_count {
	uint64_t frames;  /* sent */
	uint64_t bytes;	  /* of these */
	uint64_t toolong; /* refused for their length (EMSGSIZE) */
	uint64_t refused; /* refused for another reason that will not pass */
	uint64_t busy;	  /* times the interface or its queue was full */
	uint64_t down;	  /* times it was found gone or down */
};

struct netif {
	char name[IFNAMSIZ];
	int fd; /* -1: closed */
	int index;
	uint32_t mtu; /* bytes of IP packet */
	unsigned flags;
	bool lost;	/* gone or down: netif_check() */
	int last_errno; /* of the last frame refused for good */
	struct netif_count n;
	struct mmsghdr msg[NETIF_BATCH];
};

/* Open @name for sending. Needs CAP_NET_RAW (NETIF_MAKE: CAP_NET_ADMIN too, if there is something to make).
 * Returns 0, or with one line in @err that says what is wrong and what to do:
 *   -ENODEV    no such interface, and it could not be made
 *   -ENETDOWN  it is down
 *   -EBUSY     it has an address (link-local IPv6 does not count), carries a default route or belongs to a bridge or
 *              bond: what is sent there would mix with real traffic (not with NETIF_FORCE)
 *   -EINVAL    its MTU is below NETIF_MTU_MIN; or it is no Ethernet device
 *   or another errno of socket(2), bind(2). */
int netif_open(struct netif *n, const char *name, unsigned flags, char err[static NETIF_ERR]);
void netif_close(struct netif *n);

/* Send frame[0..cnt), Ethernet header first.
 * Returns how many were sent (1 .. @cnt), or for the first of them:
 *   -EAGAIN    the socket is full: wait until netif->fd is writable
 *   -ENOBUFS   the interface's queue is full: try again in a millisecond
 *   -ENETDOWN  the interface is gone or down: try again after netif_check()
 *   any other  this frame can never be sent (-EMSGSIZE: too long); go on behind it */
ssize_t netif_send(struct netif *n, struct iovec *frame, unsigned cnt);

/* Look again for an interface that was lost (same checks, same flags). Returns 0 when it can be sent to, else as
 * netif_open(). Call it a few times a second while n->lost. */
int netif_check(struct netif *n, char err[static NETIF_ERR]);

/* One word or two about why a frame was refused, from an errno. */
const char *netif_why(int err);

#endif
