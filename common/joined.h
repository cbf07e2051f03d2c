/* SPDX-License-Identifier: Apache-2.0 */
/* joined.h - the interfaces of a host on which a frame is seen that leaves out of one of them.
 *
 *   out of a veth: into its other end             out of a VLAN or macvlan: out of the interface below it
 *   out of a bridge or bond: out of its ports     into a port: into its bridge or bond, a bridge's other ports
 *   into an interface: into the VLANs and macvlans above it
 *
 * Devices that pack frames into packets of their own (VXLAN) end it: what is below them carries other traffic too.
 * Pure. */
#ifndef TLSTAP_JOINED_H
#define TLSTAP_JOINED_H

#include <stdint.h>

#define JOINED_LINKS_MAX 4096 /* interfaces of a host that are looked at */

enum joined_kind {
	JOINED_OTHER,
	JOINED_VETH,
	JOINED_ABOVE, /* a VLAN, macvlan: above another one */
	JOINED_BRIDGE,
	JOINED_TUNNEL, /* packs frames into packets */
};

struct joined_link {
	uint32_t index;
	uint32_t master; /* the bridge or bond it is a port of; 0: none */
	uint32_t link;	 /* a veth's other end, or what is below; 0: none, or in another network namespace */
	uint8_t kind;	 /* enum joined_kind */
	uint8_t seen;	 /* private */
};

/* Write to @ret[0..max) those of @links where what leaves out of @index is seen, @index itself first, even if it is not
 * among them. Returns how many there are, maybe more than @max. */
unsigned joined_find(struct joined_link *links, unsigned n, uint32_t index, uint32_t *ret, unsigned max);

#endif
