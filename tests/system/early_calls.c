/* SPDX-License-Identifier: Apache-2.0 */
/* early_calls.c - with -DLIBRARY: a library whose constructor speaks TLS, before a preloaded one has been set up; else the
 * program that needs it. With -DPROBE: a program without a TLS library that looks for one by name, and calls it. */
#include <stdio.h>
#include <string.h>

#ifdef PROBE
#include <dlfcn.h>

int SSL_read(void *ssl, void *buf, int n) __attribute__((weak));

int main(void)
{
	char c;

	if (SSL_read == NULL)
		puts("no SSL_read");
	else
		printf("SSL_read says %d\n", SSL_read(NULL, &c, 1));
	return dlsym(RTLD_DEFAULT, "SSL_new") != NULL;
}
#else
#include "../snippets/lib/loop.h"

#ifdef LIBRARY
static __attribute__((constructor)) void on_load(void)
{
	char *argv[] = {"early", "mode", "0", NULL};

	loop_begin(3, argv);
	loop_once(1);
}

void early_again(void);
void early_again(void)
{
	loop_once(2);
}
#else
void early_again(void);

int main(void)
{
	early_again();
	puts("early and late");
	return 0;
}
#endif
#endif
