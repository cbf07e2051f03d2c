/* SPDX-License-Identifier: Apache-2.0 */
/* tuple.c - the two ends of a TCP connection as text. */
#include "tuple.h"

#include <arpa/inet.h>
#include <stdio.h>

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
