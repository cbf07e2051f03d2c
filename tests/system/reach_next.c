/* SPDX-License-Identifier: Apache-2.0 */
/* reach_next.c - a library to be preloaded, of the usual kind: malloc() and connect(), passed on to the next ones,
 * which are found by RTLD_NEXT. When the program ends, standard error says where they are. */
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

static void *(*next_malloc)(size_t);
static int (*next_connect)(int, const struct sockaddr *, socklen_t);

/* Called long before any constructor. */
void *malloc(size_t size)
{
	if (!next_malloc)
		next_malloc = (void *(*)(size_t))dlsym(RTLD_NEXT, "malloc");
	return next_malloc(size);
}

int connect(int fd, const struct sockaddr *to, socklen_t len)
{
	return next_connect(fd, to, len);
}

static const char *where(void *p)
{
	Dl_info info;

	return p && dladdr(p, &info) ? strrchr(info.dli_fname, '/') + 1 : "nowhere";
}

static __attribute__((constructor)) void on_load(void)
{
	next_connect = (int (*)(int, const struct sockaddr *, socklen_t))dlsym(RTLD_NEXT, "connect");
}

static __attribute__((destructor)) void on_end(void)
{
	fprintf(stderr, NAME ": malloc in %s, connect in %s, SSL_read %s\n", where((void *)next_malloc),
		where((void *)next_connect), where(dlsym(RTLD_NEXT, "SSL_read")));
}
