/* SPDX-License-Identifier: Apache-2.0 */
/* A libssl with no more names than the old ones, which LibreSSL and OpenSSL 1.0 share: it is the system's own behind a
 * handle of another layout. SSL_read_ex(), SSL_get_client_random(), SSL_is_server() and many more do not exist.
 * With BLIND no word of a handle points into the library that made it. */
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>

#include "standin.h"

struct ssl_st {
	int version;
	const void *method;
	void *real, *more[8];
};

#ifdef BLIND
#define METHOD NULL
#else
static const int method_table[16];
#define METHOD method_table
#endif
static void *libssl;

static void *real(const char *name)
{
	void *f;

	/* with a scope of its own: what it calls is not what others put in front of it */
	if (!libssl)
		libssl = dlopen("libssl.so.3", RTLD_NOW | RTLD_LOCAL | RTLD_DEEPBIND);
	f = libssl ? dlsym(libssl, name) : NULL;
	if (!f) {
		fprintf(stderr, "%s: %s\n", name, dlerror());
		abort();
	}
	return f;
}

#define REAL(ret, name, ...) (((ret(*)(__VA_ARGS__))real(name)))

const void *SSLv23_method(void)
{
	return REAL(const void *, "TLS_method", void)();
}

SSL_CTX *SSL_CTX_new(const void *method)
{
	return REAL(SSL_CTX *, "SSL_CTX_new", const void *)(method);
}

void SSL_CTX_free(SSL_CTX *ctx)
{
	REAL(void, "SSL_CTX_free", SSL_CTX *)(ctx);
}

int SSL_CTX_use_certificate_file(SSL_CTX *ctx, const char *file, int type)
{
	return REAL(int, "SSL_CTX_use_certificate_file", SSL_CTX *, const char *, int)(ctx, file, type);
}

int SSL_CTX_use_PrivateKey_file(SSL_CTX *ctx, const char *file, int type)
{
	return REAL(int, "SSL_CTX_use_PrivateKey_file", SSL_CTX *, const char *, int)(ctx, file, type);
}

SSL *SSL_new(SSL_CTX *ctx)
{
	SSL *ssl = calloc(1, sizeof(*ssl));

	ssl->version = 0x0303;
	ssl->method = METHOD;
	ssl->real = REAL(void *, "SSL_new", SSL_CTX *)(ctx);
	return ssl;
}

void SSL_free(SSL *ssl)
{
	if (!ssl)
		return;
	REAL(void, "SSL_free", void *)(ssl->real);
	free(ssl);
}

int SSL_clear(SSL *ssl)
{
	return REAL(int, "SSL_clear", void *)(ssl->real);
}

int SSL_set_fd(SSL *ssl, int fd)
{
	return REAL(int, "SSL_set_fd", void *, int)(ssl->real, fd);
}

int SSL_get_rfd(const SSL *ssl)
{
	return REAL(int, "SSL_get_rfd", void *)(ssl->real);
}

void *SSL_get_rbio(const SSL *ssl)
{
	return REAL(void *, "SSL_get_rbio", void *)(ssl->real);
}

int SSL_connect(SSL *ssl)
{
	return REAL(int, "SSL_connect", void *)(ssl->real);
}

int SSL_accept(SSL *ssl)
{
	return REAL(int, "SSL_accept", void *)(ssl->real);
}

int SSL_read(SSL *ssl, void *buf, int num)
{
	return REAL(int, "SSL_read", void *, void *, int)(ssl->real, buf, num);
}

int SSL_write(SSL *ssl, const void *buf, int num)
{
	return REAL(int, "SSL_write", void *, const void *, int)(ssl->real, buf, num);
}

int SSL_peek(SSL *ssl, void *buf, int num)
{
	return REAL(int, "SSL_peek", void *, void *, int)(ssl->real, buf, num);
}

int SSL_get_error(const SSL *ssl, int ret)
{
	return REAL(int, "SSL_get_error", void *, int)(ssl->real, ret);
}

int SSL_shutdown(SSL *ssl)
{
	return REAL(int, "SSL_shutdown", void *)(ssl->real);
}

int SSL_state(const SSL *ssl)
{
	return REAL(int, "SSL_is_init_finished", void *)(ssl->real) ? 3 : 0x1000;
}

int SSL_version(const SSL *ssl)
{
	return REAL(int, "SSL_version", void *)(ssl->real);
}
