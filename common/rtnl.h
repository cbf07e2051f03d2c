/* SPDX-License-Identifier: Apache-2.0 */
/* rtnl.h - the few questions and orders about interfaces that netif.c has for the kernel (rtnetlink(7)).
 * Each call opens its own socket and waits for the kernel's answer, which comes at once. Any thread. */
#ifndef TLSTAP_RTNL_H
#define TLSTAP_RTNL_H

#include <stdbool.h>
#include <stdint.h>

#include "joined.h"

struct rtnl_link {
	int index;
	unsigned flags; /* IFF_UP ... */
	unsigned type;	/* ARPHRD_ETHER ... */
	uint32_t mtu;
	int master; /* index of the bridge or bond it belongs to; 0: none */
	enum joined_kind kind;
};

/* Describe the interface @name. Returns 0, -ENODEV or another errno. */
int rtnl_link(const char *name, struct rtnl_link *ret);

/* Make the dummy device @name, ARP off. Returns 0, -EOPNOTSUPP (the kernel has no dummy devices), -EPERM,
 * -EEXIST ... */
int rtnl_make_dummy(const char *name);

/* Bring interface @index up. Returns 0 or -errno. */
int rtnl_up(int index);

/* Does interface @index have an address other than a link-local IPv6 one? Returns 0, 1 or -errno. */
int rtnl_has_address(int index);

/* Does a default route (any table) lead out of interface @index? Returns 0, 1 or -errno. */
int rtnl_has_default_route(int index);

/* How the interfaces of this network namespace are joined, of at most @max of them. Returns how many, or -errno. */
int rtnl_links(struct joined_link *ret, unsigned max);

#endif
