/* SPDX-License-Identifier: Apache-2.0 */
/* packet.h - one captured packet as the readers of pcap and pcapng streams return it. */
#ifndef TLSTAP_PACKET_H
#define TLSTAP_PACKET_H

#include <stdint.h>

#define LINK_ETHERNET 1

struct packet {
	const uint8_t *data; /* borrowed from the buffer that was read from */
	uint32_t len;	     /* bytes captured, all of them in data */
	uint32_t orig;	     /* bytes it had on the wire */
	uint64_t ts_ns;	     /* since the epoch; 0: none */
	uint16_t link;	     /* link type, LINK_ETHERNET or another LINKTYPE_ number */
};

#endif
