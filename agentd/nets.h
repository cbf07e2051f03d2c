/* SPDX-License-Identifier: Apache-2.0 */
/* nets.h - networks, "10.0.0.0/8" or "2001:db8::/32", and what lies in them. Pure. */
#ifndef TLSTAP_NETS_H
#define TLSTAP_NETS_H

#include <stdbool.h>
#include <stdint.h>

#define NETS_STRLEN 64 /* of a network as text, with its NUL */

struct net {
	uint8_t addr[16]; /* as in struct tuple: IPv4 in the first 4 bytes, the rest zero */
	uint8_t ver;	  /* 4 or 6 */
	uint8_t bits;	  /* 0 .. 32 or 128 */
};

/* Read @s: an address, or one with /BITS. IPv4-mapped IPv6 networks become IPv4.
 * Returns 0; -EINVAL: it is none; -ERANGE: it is one but for bits of the host behind /BITS, *@ret is the network. */
int net_parse(const char *s, struct net *ret);

bool net_has(const struct net *n, uint8_t ver, const uint8_t addr[16]);

/* Write @n as text into @ret. Returns @ret. */
char *net_str(const struct net *n, char ret[static NETS_STRLEN]);

#endif
