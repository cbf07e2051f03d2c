/* SPDX-License-Identifier: Apache-2.0 */
/* keylog.c - to be preloaded into a client: OpenSSL writes its keys to $SSLKEYLOGFILE, as GnuTLS does by itself. */
#include <dlfcn.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#include <openssl/ssl.h>

static void write_line(const SSL *ssl, const char *line)
{
	struct iovec v[2] = {{(void *)line, strlen(line)}, {"\n", 1}};
	int fd = open(getenv("SSLKEYLOGFILE"), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);

	(void)ssl;
	if (fd == -1 || writev(fd, v, 2) == -1)
		abort();
	close(fd);
}

/* Where libssl was loaded for one module only (RTLD_LOCAL), it is not behind us in the search order. */
static void *real(const char *name)
{
	void *lib = dlopen("libssl.so.3", RTLD_NOLOAD | RTLD_LAZY);

	return lib ? dlsym(lib, name) : NULL;
}

SSL_CTX *SSL_CTX_new(const SSL_METHOD *method)
{
	SSL_CTX *(*new)(const SSL_METHOD *) = real("SSL_CTX_new");
	void (*set)(SSL_CTX *, SSL_CTX_keylog_cb_func) = real("SSL_CTX_set_keylog_callback");
	SSL_CTX *ctx = new ? new (method) : NULL;

	if (ctx && set && getenv("SSLKEYLOGFILE"))
		set(ctx, write_line);
	return ctx;
}
