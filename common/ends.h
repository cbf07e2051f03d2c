/* SPDX-License-Identifier: Apache-2.0 */
/* ends.h - the first TCP connection in a packet, also inside of what carries packets in the clear: VLAN tags, PPPoE,
 * MPLS, IP in IP, GRE, VXLAN, Geneve. Pure. */
#ifndef TLSTAP_ENDS_H
#define TLSTAP_ENDS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tuple.h"

#define ENDS_LAYERS 12 /* headers that are looked through */

/* @proto  EtherType of what @p[0..len) begins with
 * *@ret   SIDE_CLIENT is the packet's sender
 * Returns false: none, or not the first fragment of it. */
bool ends_find(uint16_t proto, const uint8_t *p, size_t len, struct tuple *ret);

#endif
