/* SPDX-License-Identifier: Apache-2.0 */
/* hostaddr.c - addresses of this host by getifaddrs(3). */
#include "hostaddr.h"

#include <ifaddrs.h>
#include <netinet/in.h>
#include <string.h>

void hostaddr_read(struct hostaddr *h)
{
	struct ifaddrs *all;

	h->n = 0;
	h->any = getifaddrs(&all) == -1;
	if (h->any)
		return;
	for (const struct ifaddrs *a = all; a != NULL; a = a->ifa_next) {
		const void *sa = a->ifa_addr;
		bool four = sa != NULL && a->ifa_addr->sa_family == AF_INET;

		if (sa == NULL || (!four && a->ifa_addr->sa_family != AF_INET6))
			continue;
		if (h->n == HOSTADDR_MAX) {
			h->any = true;
			break;
		}
		memset(&h->address[h->n], 0, sizeof(h->address[0]));
		h->address[h->n].ver = four ? 4 : 6;
		if (four)
			memcpy(h->address[h->n].addr, &((const struct sockaddr_in *)sa)->sin_addr, 4);
		else
			memcpy(h->address[h->n].addr, &((const struct sockaddr_in6 *)sa)->sin6_addr, 16);
		h->n++;
	}
	freeifaddrs(all);
}

bool hostaddr_has(const struct hostaddr *h, uint8_t ver, const uint8_t addr[16])
{
	if (h->any || (ver == 4 && addr[0] == 127))
		return true;
	for (unsigned i = 0; i < h->n; i++)
		if (h->address[i].ver == ver && memcmp(h->address[i].addr, addr, 16) == 0)
			return true;
	return false;
}
