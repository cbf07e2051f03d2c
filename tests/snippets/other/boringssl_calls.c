/* SPDX-License-Identifier: Apache-2.0 */
/* The calls of BoringSSL that move data or make a connection. Started as other.h says.
 * ARG: fd; nonblock; peek; implicit (handshake); half (one side is silent early); memory (BIOs: the library never sees
 *      the socket); sslbio (BIO_read() and BIO_write() of an SSL BIO); clear (five connections of one SSL);
 *      early (four connections: without early data, with, with rejected ones, without); silly (arguments that make no
 *      sense); probe (looks for functions that BoringSSL has not, and uses what it finds) */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <sys/socket.h>

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/ssl.h>

#include "other.h"

#define CONNECTIONS 5
#define EARLY "GET /early HTTP/1.1\r\nHost: snippet.test\r\n\r\n"

static SSL_CTX *ctx;
static SSL_SESSION *session;
static int tcp;
static BIO *in, *out;

/* As a program that was made for several libraries asks whether there is one. */
extern int SSL_read_ex(SSL *ssl, void *buf, size_t num, size_t *readbytes) __attribute__((weak));
static int (*write_ex)(SSL *ssl, const void *buf, size_t num, size_t *written);

static void must(int ret, const char *what)
{
	if (ret <= 0) {
		ERR_print_errors_fp(stderr);
		other_die(what, ret);
	}
}

/* --- memory BIOs ----------------------------------------------------------------------------------- */

static void flush(void)
{
	char buf[20000];
	int n;

	while ((n = BIO_read(out, buf, sizeof(buf))) > 0)
		for (int done = 0; done < n;) {
			ssize_t k = write(tcp, buf + done, (size_t)(n - done));

			other_must(k > 0, "write to socket");
			done += (int)k;
		}
}

static void fetch(void)
{
	char buf[20000];
	ssize_t n = read(tcp, buf, sizeof(buf));

	other_must(n > 0 && BIO_write(in, buf, (int)n) == (int)n, "read from socket");
}

static bool again(SSL *ssl, int ret)
{
	int err = SSL_get_error(ssl, ret);

	if (err != SSL_ERROR_WANT_READ && err != SSL_ERROR_WANT_WRITE)
		return false;
	if (other_is("memory")) {
		flush();
		if (err == SSL_ERROR_WANT_READ)
			fetch();
	} else {
		other_wait(tcp, err == SSL_ERROR_WANT_WRITE);
	}
	return true;
}

/* --- calls ----------------------------------------------------------------------------------------- */

static long call_read(void *ssl, void *buf, size_t size)
{
	char first;
	size_t k;
	int n;

	if (other_is("probe") && SSL_read_ex)
		return SSL_read_ex(ssl, buf, size, &k) == 1 ? (long)k : 0;
	if (other_is("peek"))
		must(SSL_peek(ssl, &first, 1), "peek");
	do
		n = SSL_read(ssl, buf, (int)size);
	while (n <= 0 && again(ssl, n));
	must(n, "read");
	if (other_is("peek"))
		other_must(first == *(char *)buf, "what was peeked at");
	return n;
}

static long call_write(void *ssl, const void *buf, size_t size)
{
	size_t k;
	int n;

	if (other_is("probe") && write_ex)
		return write_ex(ssl, buf, size, &k) == 1 ? (long)k : 0;
	do
		n = SSL_write(ssl, buf, (int)size);
	while (n <= 0 && again(ssl, n));
	must(n, "write");
	if (other_is("memory"))
		flush();
	return n;
}

static long bio_read(void *bio, void *buf, size_t size)
{
	int n = BIO_read(bio, buf, (int)size);

	must(n, "BIO_read");
	return n;
}

static long bio_write(void *bio, const void *buf, size_t size)
{
	int n = BIO_write(bio, buf, (int)size);

	must(n, "BIO_write");
	return n;
}

static const struct other_calls calls = {call_read, call_write}, bio_calls = {bio_read, bio_write};

/* --- connections ----------------------------------------------------------------------------------- */

static int keep(SSL *ssl, SSL_SESSION *s)
{
	(void)ssl;
	SSL_SESSION_free(session);
	session = s;
	return 1;
}

static void init(void)
{
	ctx = SSL_CTX_new(TLS_method());
	other_must(ctx != NULL, "context");
	if (getenv("SNIP_TLS") && strcmp(getenv("SNIP_TLS"), "1.2") == 0)
		SSL_CTX_set_max_proto_version(ctx, TLS1_2_VERSION);
	SSL_CTX_set_mode(ctx, SSL_MODE_ENABLE_PARTIAL_WRITE);
	if (other_is("early")) {
		SSL_CTX_set_early_data_enabled(ctx, 1);
		SSL_CTX_set_session_cache_mode(ctx, other_server ? SSL_SESS_CACHE_SERVER
								 : SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
		SSL_CTX_sess_set_new_cb(ctx, other_server ? NULL : keep);
	}
	if (!other_server)
		return;
	must(SSL_CTX_use_certificate_file(ctx, other_file("SNIP_CERT"), SSL_FILETYPE_PEM), "certificate");
	must(SSL_CTX_use_PrivateKey_file(ctx, other_file("SNIP_KEY"), SSL_FILETYPE_PEM), "key");
}

static void shake_hands(SSL *ssl)
{
	int ret;

	if (other_is("implicit"))
		return;
	do
		ret = other_server ? SSL_accept(ssl) : SSL_connect(ssl);
	while (ret != 1 && again(ssl, ret));
	must(ret, "handshake");
	if (other_is("memory"))
		flush();
}

static void half(SSL *ssl)
{
	char buf[16];

	other_line(&calls, ssl, 0);
	if (!other_server) {
		(void)SSL_shutdown(ssl);
		other_save(false, buf, (size_t)call_read(ssl, buf, 4));
		return;
	}
	printf("end %d\n", SSL_read(ssl, buf, sizeof(buf)));
	other_save(true, "last", (size_t)call_write(ssl, "last", 4));
}

static void silly(SSL *ssl)
{
	char buf[16] = "";

	SSL *none = SSL_new(ctx);

	printf("silly %d %d %d\n", SSL_read(none, buf, 1), SSL_write(none, buf, 1), SSL_shutdown(none));
	printf("queue %x %x\n", (unsigned)ERR_get_error(), (unsigned)ERR_get_error());
	ERR_clear_error();
	printf("silly %d %d\n", SSL_write(ssl, buf, -1), SSL_write(ssl, buf, 0));
	printf("queue %x\n", (unsigned)ERR_get_error());
	ERR_clear_error();
	SSL_free(none);
	SSL_free(NULL);
	other_line(&calls, ssl, 0);
}

/* An SSL BIO of a session that has a socket already. */
static void through_bio(SSL *ssl)
{
	BIO *bio = BIO_new(BIO_f_ssl());

	other_must(bio != NULL && BIO_set_ssl(bio, ssl, BIO_NOCLOSE) == 1, "BIO_set_ssl");
	other_talk(&bio_calls, bio);
	BIO_free(bio);
}

static void give_socket(SSL *ssl)
{
	tcp = other_tcp();
	if (other_is("nonblock"))
		other_nonblock(tcp);
	if (other_is("memory")) {
		in = BIO_new(BIO_s_mem());
		out = BIO_new(BIO_s_mem());
		SSL_set_bio(ssl, in, out);
	} else {
		must(SSL_set_fd(ssl, tcp), "set_fd");
	}
	if (other_server)
		SSL_set_accept_state(ssl);
	else
		SSL_set_connect_state(ssl);
}

static void end(SSL *ssl)
{
	(void)SSL_shutdown(ssl);
	if (other_is("memory"))
		flush();
	printf("queue %x\n", (unsigned)ERR_peek_error());
	other_close(tcp);
}

static void one(SSL *ssl)
{
	other_begin();
	give_socket(ssl);
	shake_hands(ssl);
	if (other_is("half"))
		half(ssl);
	else if (other_is("silly"))
		silly(ssl);
	else if (other_is("sslbio"))
		through_bio(ssl);
	else
		other_talk(&calls, ssl);
	end(ssl);
}

/* --- early data ------------------------------------------------------------------------------------ */

/* The server refuses those of the third connection; then the client says them again. */
static void early_server(SSL *ssl)
{
	char buf[sizeof(EARLY)];

	for (size_t n = 0; n < sizeof(EARLY) - 1;) {
		long k = call_read(ssl, buf, sizeof(EARLY) - 1 - n);

		other_save(false, buf, (size_t)k);
		n += (size_t)k;
	}
	other_save(true, "answer", (size_t)call_write(ssl, "answer", 6));
}

static void early_client(SSL *ssl, int i)
{
	char buf[16];
	long n;
	int ret = SSL_connect(ssl); /* returns before the server has answered, if there is a session for it */

	must(ret, "connect");
	printf("%d: early %d\n", i, SSL_in_early_data(ssl));
	n = call_write(ssl, EARLY, sizeof(EARLY) - 1);
	other_must(n == sizeof(EARLY) - 1, "early data");
	n = SSL_read(ssl, buf, 6);
	if (n < 0 && SSL_get_error(ssl, (int)n) == SSL_ERROR_EARLY_DATA_REJECTED) {
		ERR_clear_error();
		SSL_reset_early_data_reject(ssl);
		must(SSL_do_handshake(ssl), "handshake");
		call_write(ssl, EARLY, sizeof(EARLY) - 1);
		n = call_read(ssl, buf, 6);
	}
	other_must(n == 6, "answer");
	other_save(true, EARLY, sizeof(EARLY) - 1);
	other_save(false, buf, 6);
	printf("%d: accepted %d, resumed %d\n", i, SSL_early_data_accepted(ssl), SSL_session_reused(ssl));
}

static void early(void)
{
	for (int i = 0; i < 4; i++) {
		SSL *ssl = SSL_new(ctx);

		other_begin();
		give_socket(ssl);
		if (other_server) {
			SSL_set_early_data_enabled(ssl, i != 2);
			must(SSL_accept(ssl), "accept");
			early_server(ssl);
		} else {
			if (session)
				SSL_set_session(ssl, session);
			early_client(ssl, i);
		}
		end(ssl);
		SSL_free(ssl);
	}
	SSL_SESSION_free(session);
}

int main(int argc, char **argv)
{
	int n = 1;
	SSL *ssl;

	other_init(argc, argv);
	init();
	if (other_is("early")) {
		early();
		SSL_CTX_free(ctx);
		return other_done();
	}
	if (other_is("clear"))
		n = CONNECTIONS;
	*(void **)&write_ex = dlsym(RTLD_DEFAULT, "SSL_write_ex");
	ssl = SSL_new(ctx);
	other_must(ssl != NULL, "new");
	for (int i = 0; i < n; i++) {
		one(ssl);
		if (i + 1 < n)
			must(SSL_clear(ssl), "clear");
	}
	SSL_free(ssl);
	SSL_CTX_free(ctx);
	return other_done();
}
