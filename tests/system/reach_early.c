/* SPDX-License-Identifier: Apache-2.0 */
/* reach_early.c - a library that a program is linked with: it looks up before the constructor of any preloaded one. */
#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

int reach_early;

static __attribute__((constructor)) void on_load(void)
{
	void *h = dlopen("libssl.so.3", RTLD_NOW | RTLD_LOCAL), *p = h ? dlsym(h, "SSL_read") : NULL;
	Dl_info info;

	printf("early: %s\n", p && dladdr(p, &info) ? strrchr(info.dli_fname, '/') + 1 : "nothing");
	fflush(stdout);
}
