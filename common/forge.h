/* SPDX-License-Identifier: Apache-2.0 */
/* forge.h - one TCP segment -> the Ethernet frame that a sniffer would see.
 *
 *   flow.c --segment--> forge.c --frame--> batch.h
 *
 * Pure: no I/O, no clock, no allocation; same input, same bytes out. Any thread. */
#ifndef TLSTAP_FORGE_H
#define TLSTAP_FORGE_H

#include <stddef.h>
#include <stdint.h>

#include "tuple.h"

/* TCP flags, RFC 9293 section 3.1. */
#define FORGE_FIN 0x01u
#define FORGE_SYN 0x02u
#define FORGE_RST 0x04u
#define FORGE_PSH 0x08u
#define FORGE_ACK 0x10u

#define FORGE_ETH 14	  /* bytes of the Ethernet header */
#define FORGE_HEAD_MAX 82 /* all headers of a frame at most: Ethernet, IPv6, TCP of a SYN */
#define FORGE_MTU_MIN 576
#define FORGE_MTU_MAX 65521 /* of tap devices and Snort; also keeps IP lengths within 16 bits */
#define FORGE_WSCALE 14	    /* window scale in SYN and SYN-ACK, RFC 7323 */

struct forge_seg {
	const struct tuple *t;
	const uint8_t *smac, *dmac; /* 6 bytes each; the same in both directions */
	const uint8_t *data;	    /* len bytes; not with FORGE_SYN */
	size_t len;		    /* 0 .. forge_mss() */
	enum side side;		    /* who sends it */
	uint32_t seq, ack;	    /* ack is sent if flags has FORGE_ACK, else 0 */
	uint32_t mtu;		    /* stated as MSS in a SYN */
	uint16_t window;
	uint16_t ip_id; /* IPv4 only */
	uint8_t flags;
};

/* Bytes of data that fit into a frame of IP version @ver and @mtu: 40 or 60 less. */
static inline size_t forge_mss(uint8_t ver, uint32_t mtu)
{
	return mtu - (ver == 6 ? 60 : 40);
}

/* Build the frame of @s: Ethernet, IPv4 (DF, TTL 64) or IPv6 (hop limit 64), TCP; a SYN carries the
 * options MSS, NOP, window scale and nothing else. All checksums are complete.
 * @ret_frame  FORGE_HEAD_MAX + s->len bytes
 * Returns the frame's length in bytes.
 * RFC 791, 8200, 9293, 1071. */
size_t forge_frame(const struct forge_seg *s, uint8_t *ret_frame);

#endif
