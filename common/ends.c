/* SPDX-License-Identifier: Apache-2.0 */
/* ends.c - look for a TCP header, through other headers (see ends.h). */
#include "ends.h"

#include <linux/if_ether.h>
#include <netinet/in.h>
#include <string.h>

#include "cur.h"

#define GENEVE_PORT 6081
#define MPLS_BOTTOM 0x100
#define ROUTE 0x4000 /* flags of GRE, RFC 2784 and 2890 */
#define CHECKSUM 0x8000
#define KEY 0x2000
#define SEQUENCE 0x1000
#define VERSION 7

enum { PPP_IP = 0x21, PPP_IPV6 = 0x57 };
enum found { NOTHING, MORE, TCP };

static bool ethernet(struct cur *c, uint16_t *proto)
{
	return cur_skip(c, 12) && cur_be16(c, proto);
}

static bool pppoe(struct cur *c, uint16_t *proto)
{
	uint16_t ppp;

	if (!cur_skip(c, 6) || !cur_be16(c, &ppp))
		return false;
	*proto = ppp == PPP_IP ? ETH_P_IP : ETH_P_IPV6;
	return ppp == PPP_IP || ppp == PPP_IPV6;
}

static bool mpls(struct cur *c, uint16_t *proto)
{
	uint32_t label = 0;

	while (!(label & MPLS_BOTTOM))
		if (!cur_be32(c, &label))
			return false;
	*proto = c->left > 0 && c->p[0] >> 4 == 4 ? ETH_P_IP : ETH_P_IPV6; /* whose parser looks at the version too */
	return true;
}

static bool gre(struct cur *c, uint16_t *proto)
{
	uint16_t flags;

	return cur_be16(c, &flags) && cur_be16(c, proto) && !(flags & (ROUTE | VERSION)) &&
	       (!(flags & CHECKSUM) || cur_skip(c, 4)) && (!(flags & KEY) || cur_skip(c, 4)) &&
	       (!(flags & SEQUENCE) || cur_skip(c, 4));
}

/* VXLAN, by its looks, for it is found on many ports; Geneve. */
static bool udp(struct cur *c, uint16_t *proto)
{
	const uint8_t *h;
	uint16_t port;

	if (!cur_skip(c, 2) || !cur_be16(c, &port) || !cur_skip(c, 4) || !cur_bytes(c, 8, &h))
		return false;
	if (port == GENEVE_PORT) {
		*proto = (uint16_t)(h[2] << 8 | h[3]);
		return h[0] >> 6 == 0 && cur_skip(c, (h[0] & 63u) * 4);
	}
	*proto = ETH_P_TEB;
	return (h[0] & 0x7f) == 8 && h[7] == 0;
}

/* Behind an IP header. */
static enum found upper(uint8_t next, struct cur *c, uint16_t *proto, struct tuple *t)
{
	switch (next) {
	case IPPROTO_TCP:
		return cur_be16(c, &t->port[0]) && cur_be16(c, &t->port[1]) ? TCP : NOTHING;
	case IPPROTO_IPIP:
		*proto = ETH_P_IP;
		return MORE;
	case IPPROTO_IPV6:
		*proto = ETH_P_IPV6;
		return MORE;
	case IPPROTO_GRE:
		return gre(c, proto) ? MORE : NOTHING;
	case IPPROTO_UDP:
		return udp(c, proto) ? MORE : NOTHING;
	default:
		return NOTHING;
	}
}

static enum found ipv4(struct cur *c, uint16_t *proto, struct tuple *t)
{
	const uint8_t *ip;

	if (!cur_bytes(c, 20, &ip) || ip[0] >> 4 != 4 || (ip[0] & 15) < 5 || (ip[6] & 0x1f) | ip[7] ||
	    !cur_skip(c, (ip[0] & 15u) * 4 - 20))
		return NOTHING; /* a later fragment has no ports */
	*t = (struct tuple){.ver = 4};
	memcpy(t->addr[0], ip + 12, 4);
	memcpy(t->addr[1], ip + 16, 4);
	return upper(ip[9], c, proto, t);
}

static enum found ipv6(struct cur *c, uint16_t *proto, struct tuple *t)
{
	const uint8_t *ip, *ext;
	uint8_t next;

	if (!cur_bytes(c, 40, &ip) || ip[0] >> 4 != 6)
		return NOTHING;
	*t = (struct tuple){.ver = 6};
	memcpy(t->addr[0], ip + 8, 16);
	memcpy(t->addr[1], ip + 24, 16);
	next = ip[6];
	for (int n = 0; n < 4 && (next == IPPROTO_HOPOPTS || next == IPPROTO_ROUTING || next == IPPROTO_DSTOPTS); n++) {
		if (!cur_bytes(c, 8, &ext) || !cur_skip(c, ext[1] * 8u))
			return NOTHING;
		next = ext[0];
	}
	return upper(next, c, proto, t);
}

static enum found layer(struct cur *c, uint16_t *proto, struct tuple *t)
{
	switch (*proto) {
	case ETH_P_IP:
		return ipv4(c, proto, t);
	case ETH_P_IPV6:
		return ipv6(c, proto, t);
	case ETH_P_8021Q:
	case ETH_P_8021AD:
		return cur_skip(c, 2) && cur_be16(c, proto) ? MORE : NOTHING;
	case ETH_P_TEB:
		return ethernet(c, proto) ? MORE : NOTHING;
	case ETH_P_PPP_SES:
		return pppoe(c, proto) ? MORE : NOTHING;
	case ETH_P_MPLS_UC:
		return mpls(c, proto) ? MORE : NOTHING;
	default:
		return NOTHING;
	}
}

bool ends_find(uint16_t proto, const uint8_t *p, size_t len, struct tuple *ret)
{
	struct cur c = cur_over(p, len, true);
	enum found found = MORE;
	struct tuple t = {0};

	for (int n = 0; n < ENDS_LAYERS && found == MORE; n++)
		found = layer(&c, &proto, &t);
	if (found == TCP)
		*ret = t;
	return found == TCP;
}
