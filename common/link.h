/* SPDX-License-Identifier: Apache-2.0 */
/* link.h - any link type -> Ethernet. Pure.
 *
 * DLT_EN10MB, DLT_LINUX_SLL, DLT_LINUX_SLL2, DLT_RAW (12, 14, 101), DLT_NULL, DLT_LOOP
 * (https://www.tcpdump.org/linktypes.html). Cooked packets have the sender's address only; the other one, and both of
 * RAW, are zero. A VLAN tag that libpcap puts back into a cooked packet, between header and protocol, stays a tag. */
#ifndef TLSTAP_LINK_H
#define TLSTAP_LINK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define LINK_ETHER 14

/* The Ethernet frame is head[0..head_len), then what follows the first strip bytes of the packet. Both may be zero:
 * Ethernet needs neither, RAW strips nothing and needs a head. */
struct link_frame {
	uint8_t head[LINK_ETHER];
	size_t head_len; /* LINK_ETHER; 0: it is Ethernet already */
	size_t strip;
	uint32_t ifindex; /* LINUX_SLL2: which interface; else 0 */
	uint16_t to;	  /* cooked: PACKET_HOST, ... of packet(7) */
	uint16_t proto;	  /* its EtherType, host byte order; VLAN tags are not looked through; of EN10MB: or a length */
};

/* Returns false: another link type, too short, or nothing that can be had as Ethernet: a cooked packet without
 * EtherType (netlink, 802.3 without SNAP), RAW that is not IP. */
bool link_to_ethernet(int linktype, const uint8_t *p, size_t len, struct link_frame *ret);

#endif
