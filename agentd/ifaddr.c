/* SPDX-License-Identifier: Apache-2.0 */
/* ifaddr.c - the addresses of one interface, getifaddrs(3) once a second. */
#include "ifaddr.h"

#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <string.h>

struct address {
	uint8_t ver, addr[16];
};

static struct {
	char iface[IFNAMSIZ];
	uint64_t at_ns; /* 0: never asked */
	unsigned n;
	struct address address[IFADDR_MAX];
} known;

static void renew(const char *iface, uint64_t now_ns)
{
	struct ifaddrs *all;

	strncpy(known.iface, iface, sizeof(known.iface) - 1);
	known.at_ns = now_ns;
	known.n = 0;
	if (getifaddrs(&all) == -1)
		return;
	for (const struct ifaddrs *a = all; a && known.n < IFADDR_MAX; a = a->ifa_next) {
		struct address *to = &known.address[known.n];

		if (!a->ifa_addr || strcmp(a->ifa_name, iface) != 0)
			continue;
		memset(to, 0, sizeof(*to));
		if (a->ifa_addr->sa_family == AF_INET) {
			to->ver = 4;
			memcpy(to->addr, &((const struct sockaddr_in *)(const void *)a->ifa_addr)->sin_addr, 4);
		} else if (a->ifa_addr->sa_family == AF_INET6) {
			to->ver = 6;
			memcpy(to->addr, &((const struct sockaddr_in6 *)(const void *)a->ifa_addr)->sin6_addr, 16);
		}
		known.n += to->ver != 0;
	}
	freeifaddrs(all);
}

bool ifaddr_is_on(const char *iface, uint8_t ver, const uint8_t addr[16], uint64_t now_ns)
{
	if (!known.at_ns || now_ns - known.at_ns >= IFADDR_AGE_NS || strcmp(known.iface, iface) != 0)
		renew(iface, now_ns);
	for (unsigned i = 0; i < known.n; i++)
		if (known.address[i].ver == ver && memcmp(known.address[i].addr, addr, 16) == 0)
			return true;
	return false;
}
