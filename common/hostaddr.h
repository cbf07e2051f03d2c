/* SPDX-License-Identifier: Apache-2.0 */
/* hostaddr.h - the addresses of this host, in this network namespace. One thread at a time. */
#ifndef TLSTAP_HOSTADDR_H
#define TLSTAP_HOSTADDR_H

#include <stdbool.h>
#include <stdint.h>

#define HOSTADDR_MAX 512

struct hostaddr {
	unsigned n;
	bool any; /* there are more, or they cannot be had: each address may be one */
	struct {
		uint8_t ver, addr[16];
	} address[HOSTADDR_MAX];
};

/* Ask the kernel; no privilege is needed. */
void hostaddr_read(struct hostaddr *h);
/* Is this one of them, or loopback's? As in struct tuple. */
bool hostaddr_has(const struct hostaddr *h, uint8_t ver, const uint8_t addr[16]);

#endif
