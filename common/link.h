/* SPDX-License-Identifier: Apache-2.0 */
/* link.h - any link type -> Ethernet. Pure.
 *
 * DLT_EN10MB, DLT_LINUX_SLL, DLT_LINUX_SLL2, DLT_RAW (12, 14, 101), DLT_NULL, DLT_LOOP
 * (https://www.tcpdump.org/linktypes.html). Cooked packets have the sender's address only; the other one, and both of
 * RAW, are zero. */
#ifndef TLSTAP_LINK_H
#define TLSTAP_LINK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define LINK_ETHER 14

struct link_frame {
	uint8_t head[LINK_ETHER]; /* put this before ... */
	size_t strip;		  /* ... what follows the first strip bytes; 0: it is Ethernet already, no head */
	uint32_t ifindex;	  /* LINUX_SLL2: which interface; else 0 */
	uint16_t proto;		  /* its EtherType, host byte order; VLAN tags are not looked through */
};

/* Returns false: another link type, too short, or what it carries has no EtherType (802.3 without SNAP, netlink). */
bool link_to_ethernet(int linktype, const uint8_t *p, size_t len, struct link_frame *ret);

#endif
