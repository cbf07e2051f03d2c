/* SPDX-License-Identifier: Apache-2.0 */
/* tuple.c - the two ends of a TCP connection, from socket addresses and as text. */
#include "tuple.h"

#include <arpa/inet.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

char *tuple_str(const struct tuple *t, char ret[static TUPLE_STRLEN])
{
	const char *form = t->ver == 6 ? "[%s]:%u -> [%s]:%u" : "%s:%u -> %s:%u";
	int family = t->ver == 6 ? AF_INET6 : AF_INET;
	char a[2][INET6_ADDRSTRLEN];

	for (int i = 0; i < 2; i++)
		if (!inet_ntop(family, t->addr[i], a[i], sizeof a[i]))
			a[i][0] = 0;
	(void)snprintf(ret, TUPLE_STRLEN, form, a[0], (unsigned)t->port[0], a[1], (unsigned)t->port[1]);
	return ret;
}

void tuple_end(struct tuple *t, enum side side, const struct sockaddr *sa)
{
	const struct sockaddr_in6 *six = (const struct sockaddr_in6 *)sa;
	const struct sockaddr_in *four = (const struct sockaddr_in *)sa;

	if (sa->sa_family == AF_INET) {
		t->ver = 4;
		memcpy(t->addr[side], &four->sin_addr, 4);
		t->port[side] = ntohs(four->sin_port);
	} else if (sa->sa_family == AF_INET6) {
		bool mapped = IN6_IS_ADDR_V4MAPPED(&six->sin6_addr);

		t->ver = mapped ? 4 : 6;
		memcpy(t->addr[side], six->sin6_addr.s6_addr + (mapped ? 12 : 0), mapped ? 4 : 16);
		t->port[side] = ntohs(six->sin6_port);
	}
}
