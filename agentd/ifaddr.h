/* SPDX-License-Identifier: Apache-2.0 */
/* ifaddr.h - is an address one of an interface's? Asked for every connection, so the answer may be a second old. */
#ifndef TLSTAP_IFADDR_H
#define TLSTAP_IFADDR_H

#include <stdbool.h>
#include <stdint.h>

#define IFADDR_MAX 1024 /* addresses of one interface that are known */
#define IFADDR_AGE_NS 1000000000ull

/* @ver  4 or 6; @addr in network byte order, IPv4 in the first 4 bytes */
bool ifaddr_is_on(const char *iface, uint8_t ver, const uint8_t addr[16], uint64_t now_ns);

#endif
