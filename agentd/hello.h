/* SPDX-License-Identifier: Apache-2.0 */
/* hello.h - the start of a TLS handshake: in a packet on the wire, or in cleartext (TLS inside TLS).
 *
 *   hello_sock.c --packets--> hello.c --struct hello--> hellos.c (pairing), sessions.c (coverage)
 *
 * Pure: no I/O, no clock, no allocation. The bytes are any sender's: every length is checked. RFC 8446 4.1.2, 4.1.3,
 * 5.1; RFC 6066 3 (SNI); the PROXY protocol, versions 1 and 2, may stand before the hello. */
#ifndef TLSTAP_HELLO_H
#define TLSTAP_HELLO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/tuple.h"

#define HELLO_RANDOM_MIN 8 /* bytes of a random that a cut hello must show */
#define HELLO_NAME_MAX 255
#define HELLO_BYTES_MAX 4096 /* of a packet that are looked at; the filter passes no more */

struct hello {
	struct tuple t;	    /* SIDE_CLIENT has sent, or will get, the ClientHello */
	bool server;	    /* it is a ServerHello */
	bool retry;	    /* a ServerHello that is a HelloRetryRequest: its random is none */
	bool sent;	    /* its packet was leaving; false: it came in. Only hello_sock.c knows */
	uint8_t random_len; /* 32; HELLO_RANDOM_MIN .. 31: the segment ended there */
	uint8_t random[32];
	uint8_t sni_len;	      /* 0: none, or cut off */
	char sni[HELLO_NAME_MAX + 1]; /* ClientHello: NUL terminated, printable ASCII, other bytes shown as '?' */
};

/* Look for a hello at the start of @p[0..len), the payload of a TCP segment or a TLS library's cleartext.
 * All of @ret but .t is written. Returns false, @ret in any state: there is none, or less than HELLO_RANDOM_MIN bytes
 * of its random. */
bool hello_parse_tls(const uint8_t *p, size_t len, struct hello *ret);

/* Look for a hello in an IP packet.
 * @proto  its EtherType, host byte order: IPv4, IPv6, or VLAN tags (802.1Q, 802.1ad) before these
 * The packet may be cut. Fragments but the first are none. IPv4-mapped addresses become IPv4.
 * Returns as hello_parse_tls(). */
bool hello_parse_packet(const uint8_t *p, size_t len, uint16_t proto, struct hello *ret);

#endif
