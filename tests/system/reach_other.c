/* SPDX-License-Identifier: Apache-2.0 */
/* reach_other.c - another library that interposes dlsym(), to be preloaded. Names that begin with SSL_ are said on
 * standard error. With OTHER_EXIT, a lookup of SSL_read ends the thread. */
#include <dlfcn.h>
#include <execinfo.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#if defined(__aarch64__)
#define OLDEST "GLIBC_2.17"
#else
#define OLDEST "GLIBC_2.2.5"
#endif

void *dlsym(void *handle, const char *name)
{
	static void *(*real)(void *, const char *);
	void *frames[64];

	if (!real)
		real = (void *(*)(void *, const char *))dlvsym(RTLD_NEXT, "dlsym", OLDEST);
	if (strcmp(name, "SSL_read") == 0 && getenv("OTHER_EXIT"))
		pthread_exit(NULL);
	if (strncmp(name, "SSL_", 4) == 0)
		fprintf(stderr, "other: %s, %d frames\n", name, backtrace(frames, 64));
	return real(handle, name);
}
