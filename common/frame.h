/* SPDX-License-Identifier: Apache-2.0 */
/* frame.h - where things are in a captured Ethernet frame: VLAN tags, IP, its extensions, the upper header.
 *
 * Also the question whether a checksum in it was left to a network card. For segment.c. Pure. */
#ifndef TLSTAP_FRAME_H
#define TLSTAP_FRAME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define FRAME_ETH 14
#define FRAME_LINK_MAX (FRAME_ETH + 2 * 4) /* with two VLAN tags */
#define FRAME_IPV6 40
#define FRAME_TCP 20
#define FRAME_JUMBO 8	  /* bytes of a hop-by-hop header with nothing but a jumbo payload option */
#define FRAME_EXT_MAX 240 /* bytes of an IPv6 header with its extensions; more is not looked through */
#define FRAME_DF 0x4000	  /* don't fragment, beside IPv4's offset */
#define FRAME_MF 0x2000	  /* more fragments */
#define FRAME_OFF 0x1fff

enum { FRAME_PROTO_TCP = 6, FRAME_PROTO_UDP = 17, FRAME_PROTO_FRAGMENT = 44 };

/* Offsets are from the first byte of the frame. */
struct frame {
	const uint8_t *p;
	size_t len;	/* as captured */
	size_t l3;	/* what follows Ethernet header and VLAN tags */
	uint8_t ver;	/* 4, 6; 0: not IP or malformed, and nothing below is set */
	uint8_t proto;	/* what is at l4 */
	size_t l4;	/* behind the IP header and its extensions, or behind the IPv6 fragment header */
	size_t end;	/* of the IP packet, maybe beyond len; what follows it is padding */
	size_t part;	/* IPv6: what a fragmenting sender repeats ends here, RFC 8200 4.5 */
	size_t part_nh; /* IPv6: the byte that says what begins there */
	size_t frag;	/* IPv6: fragment header; 0: none */
	size_t dst;	/* IPv6: the address that checksums cover, RFC 8200 8.1 */
	bool jumbo;	/* IPv6: the first extension is FRAME_JUMBO, and end is what it says */
	bool fragment;	/* it is one already */
	bool whole;	/* has a length, and was captured up to it */
	bool unsized;	/* has no length of 16 bits: end is a jumbo payload's, or a guess: as captured */
};

/* @len  FRAME_ETH at least */
void frame_parse(struct frame *f, const uint8_t *p, size_t len);

/* Sum of the pseudo header's addresses and protocol, in memory order; the length is to be added. */
uint64_t frame_pseudo(const struct frame *f);

/* Was the checksum of this packet left to the card? Then it is the sum of the pseudo header, and adding up everything
 * from l4 on, the field too, gives what belongs there. (Where that sum is the true checksum by chance, it comes out
 * again.) Not of fragments, nor of what was captured short.
 * *@ret_at: offset of the field; *@ret_len: bytes from l4 on that are summed. */
bool frame_partial(const struct frame *f, size_t *ret_at, size_t *ret_len);

static inline uint16_t frame_be16(const uint8_t *p)
{
	return (uint16_t)(p[0] << 8 | p[1]);
}

static inline uint32_t frame_be32(const uint8_t *p)
{
	return (uint32_t)frame_be16(p) << 16 | frame_be16(p + 2);
}

#endif
