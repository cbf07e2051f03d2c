/* SPDX-License-Identifier: Apache-2.0 */
/* liar.c - to be preloaded: getsockname() and getpeername() state the addresses of somebody else's connection,
 * LIAR="ADDRESS PORT ADDRESS PORT" (own end, other end; IPv4). */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#pragma GCC diagnostic ignored "-Wmissing-prototypes"

static int lie(int which, struct sockaddr *sa, socklen_t *len)
{
	char a[2][64];
	unsigned p[2];
	struct sockaddr_in in = {.sin_family = AF_INET};

	if (!getenv("LIAR") || sscanf(getenv("LIAR"), "%63s %u %63s %u", a[0], &p[0], a[1], &p[1]) != 4)
		abort();
	inet_pton(AF_INET, a[which], &in.sin_addr);
	in.sin_port = htons((uint16_t)p[which]);
	memcpy(sa, &in, *len < sizeof(in) ? *len : sizeof(in));
	*len = sizeof(in);
	return 0;
}

int getsockname(int fd, struct sockaddr *restrict sa, socklen_t *restrict len)
{
	(void)fd;
	return lie(0, sa, len);
}

int getpeername(int fd, struct sockaddr *restrict sa, socklen_t *restrict len)
{
	(void)fd;
	return lie(1, sa, len);
}
