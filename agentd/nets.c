/* SPDX-License-Identifier: Apache-2.0 */
/* nets.c - networks, and what lies in them. */
#include "nets.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool parse_bits(const char *s, unsigned max, unsigned *ret)
{
	char *end;
	unsigned long n = strtoul(s, &end, 10);

	*ret = (unsigned)n;
	return *s >= '0' && *s <= '9' && !*end && n <= max;
}

/* Clear what stands behind the network's bits. Returns true if there was something. */
static bool clear_host(struct net *n)
{
	unsigned len = n->ver == 4 ? 4 : 16;
	bool any = false;

	for (unsigned i = 0; i < len; i++) {
		unsigned keep = n->bits > i * 8 ? n->bits - i * 8 : 0;
		uint8_t mask = keep >= 8 ? 0xff : (uint8_t)(0xff00u >> keep);

		any |= (n->addr[i] & ~mask) != 0;
		n->addr[i] &= mask;
	}
	return any;
}

int net_parse(const char *s, struct net *ret)
{
	static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
	const char *slash = strchr(s, '/');
	char addr[INET6_ADDRSTRLEN];
	struct net n = {.ver = 4};
	unsigned bits;
	size_t len = slash ? (size_t)(slash - s) : strlen(s);

	if (len >= sizeof(addr))
		return -EINVAL;
	memcpy(addr, s, len);
	addr[len] = '\0';
	if (inet_pton(AF_INET, addr, n.addr) != 1) {
		if (inet_pton(AF_INET6, addr, n.addr) != 1)
			return -EINVAL;
		n.ver = 6;
	}
	bits = n.ver == 4 ? 32 : 128;
	if (slash && !parse_bits(slash + 1, bits, &bits))
		return -EINVAL;
	if (n.ver == 6 && bits >= 96 && memcmp(n.addr, mapped, sizeof(mapped)) == 0) {
		memmove(n.addr, n.addr + 12, 4);
		memset(n.addr + 4, 0, 12);
		n.ver = 4;
		bits -= 96;
	}
	n.bits = (uint8_t)bits;
	bits = clear_host(&n);
	*ret = n;
	return bits ? -ERANGE : 0;
}

bool net_has(const struct net *n, uint8_t ver, const uint8_t addr[16])
{
	unsigned bytes = n->bits / 8, rest = n->bits % 8;

	return ver == n->ver && memcmp(addr, n->addr, bytes) == 0 &&
	       (!rest || ((addr[bytes] ^ n->addr[bytes]) & (0xff00u >> rest) & 0xff) == 0);
}

char *net_str(const struct net *n, char ret[static NETS_STRLEN])
{
	char addr[INET6_ADDRSTRLEN];

	(void)inet_ntop(n->ver == 6 ? AF_INET6 : AF_INET, n->addr, addr, sizeof(addr));
	(void)snprintf(ret, NETS_STRLEN, "%s/%u", addr, n->bits);
	return ret;
}
