/* SPDX-License-Identifier: Apache-2.0 */
/* A program on a libssl of few names (standin.c). Started as other.h says.
 * ARG: fd; nonblock; clear (five connections of one SSL);
 *      probe (it looks for newer functions, and uses what it finds); found (it only says what it finds) */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "other.h"
#include "standin.h"

#define CONNECTIONS 5
#define WANT_READ 2
#define WANT_WRITE 3
#define PEM 1

static int tcp;

/* As programs do that were made for several libraries. */
extern int SSL_read_ex(SSL *ssl, void *buf, size_t num, size_t *readbytes) __attribute__((weak));
static int (*write_ex)(SSL *ssl, const void *buf, size_t num, size_t *written);

static bool again(SSL *ssl, int ret)
{
	int err = SSL_get_error(ssl, ret);

	if (err != WANT_READ && err != WANT_WRITE)
		return false;
	other_wait(tcp, err == WANT_WRITE);
	return true;
}

static long call_read(void *ssl, void *buf, size_t size)
{
	size_t k = 0;
	int n;

	if (other_is("probe") && SSL_read_ex) {
		other_must(SSL_read_ex(ssl, buf, size, &k) == 1, "SSL_read_ex");
		return (long)k;
	}
	do
		n = SSL_read(ssl, buf, (int)size);
	while (n <= 0 && again(ssl, n));
	other_must(n > 0, "read");
	return n;
}

static long call_write(void *ssl, const void *buf, size_t size)
{
	size_t k = 0;
	int n;

	if (other_is("probe") && write_ex) {
		other_must(write_ex(ssl, buf, size, &k) == 1, "SSL_write_ex");
		return (long)k;
	}
	do
		n = SSL_write(ssl, buf, (int)size);
	while (n <= 0 && again(ssl, n));
	other_must(n > 0, "write");
	return n;
}

static const struct other_calls calls = {call_read, call_write};

static void one(SSL *ssl)
{
	int ret;

	other_begin();
	tcp = other_tcp();
	if (other_is("nonblock"))
		other_nonblock(tcp);
	other_must(SSL_set_fd(ssl, tcp) == 1, "set_fd");
	do
		ret = other_server ? SSL_accept(ssl) : SSL_connect(ssl);
	while (ret != 1 && again(ssl, ret));
	other_must(ret == 1, "handshake");
	other_talk(&calls, ssl);
	(void)SSL_shutdown(ssl);
	other_close(tcp);
}

int main(int argc, char **argv)
{
	SSL_CTX *ctx;
	SSL *ssl;

	other_init(argc, argv);
	*(void **)&write_ex = dlsym(RTLD_DEFAULT, "SSL_write_ex");
	if (other_is("found")) {
		void *own = dlopen("libssl.so.53", RTLD_NOW | RTLD_NOLOAD);

		printf("weak %d default %d own %d\n", SSL_read_ex != NULL, write_ex != NULL,
		       dlsym(own, "SSL_write_ex") != NULL);
		return 0;
	}
	ctx = SSL_CTX_new(SSLv23_method());
	other_must(ctx != NULL, "context");
	if (other_server)
		other_must(SSL_CTX_use_certificate_file(ctx, other_file("SNIP_CERT"), PEM) == 1 &&
				   SSL_CTX_use_PrivateKey_file(ctx, other_file("SNIP_KEY"), PEM) == 1,
			   "certificate");
	ssl = SSL_new(ctx);
	for (int n = other_is("clear") ? CONNECTIONS : 1; n > 0; n--) {
		one(ssl);
		if (n > 1)
			other_must(SSL_clear(ssl) == 1, "clear");
	}
	SSL_free(ssl);
	SSL_CTX_free(ctx);
	return other_done();
}
