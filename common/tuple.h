/* SPDX-License-Identifier: Apache-2.0 */
/* tuple.h - the two ends of one TCP connection, and the names of its directions.
 *
 * Up to agentd's conn.c a direction is seen from the application (enum dir); from flow.c on it is
 * seen from the network (enum side). conn.c translates once, by the role of the TLS handle. */
#ifndef TLSTAP_TUPLE_H
#define TLSTAP_TUPLE_H

#include <stdint.h>

enum dir {
	DIR_TX = 0, /* the application wrote it */
	DIR_RX = 1, /* the application read it */
};

enum side {
	SIDE_CLIENT = 0, /* who sent the SYN */
	SIDE_SERVER = 1,
};

/* Addresses are in network byte order, IPv4 in the first 4 bytes and the rest zero; ports are in
 * host byte order. IPv4-mapped IPv6 addresses never get here: they are IPv4. Two tuples are the
 * same if memcmp() says so: always start from a zeroed struct. */
struct sockaddr;

struct tuple {
	uint8_t addr[2][16]; /* by enum side */
	uint16_t port[2];    /* by enum side */
	uint8_t ver;	     /* 4 or 6 */
	uint8_t pad[3];	     /* zero */
};

#define TUPLE_STRLEN 112 /* "[ipv6]:port -> [ipv6]:port", with its NUL */

/* Set one end, and ver, from an IPv4 or IPv6 address. */
void tuple_end(struct tuple *t, enum side side, const struct sockaddr *sa);

/* Write "a:p -> b:p" into @ret. Returns @ret. */
char *tuple_str(const struct tuple *t, char ret[static TUPLE_STRLEN]);

#endif
