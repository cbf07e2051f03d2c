/* SPDX-License-Identifier: Apache-2.0 */
/* Every call of wolfSSL that moves data or makes a connection. Started as other.h says.
 * ARG: fd; sendrecv (wolfSSL_send(), wolfSSL_recv()); writev; nonblock; peek; implicit (handshake); negotiate;
 *      half (one side is silent early); own (functions of the program move the bytes, and never wait);
 *      clear (five connections of one WOLFSSL); dtls (two lines); silly (arguments that make no sense) */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <sys/socket.h>
#include <sys/uio.h>

#include <wolfssl/options.h>
#include <wolfssl/ssl.h>

#include "other.h"

#define CONNECTIONS 5

static WOLFSSL_CTX *ctx;
static int tcp;

static bool again(WOLFSSL *ssl, int ret)
{
	int err = wolfSSL_get_error(ssl, ret);

	if (err != WOLFSSL_ERROR_WANT_READ && err != WOLFSSL_ERROR_WANT_WRITE)
		return false;
	other_wait(tcp, err == WOLFSSL_ERROR_WANT_WRITE);
	return true;
}

static long call_read(void *ssl, void *buf, size_t size)
{
	char first;
	int n;

	if (other_is("peek"))
		other_must(wolfSSL_peek(ssl, &first, 1) == 1, "peek");
	do
		n = other_is("sendrecv") ? wolfSSL_recv(ssl, buf, (int)size, 0) : wolfSSL_read(ssl, buf, (int)size);
	while (n <= 0 && again(ssl, n));
	if (n <= 0)
		other_die("read", wolfSSL_get_error(ssl, n));
	if (other_is("peek"))
		other_must(first == *(char *)buf, "what was peeked at");
	return n;
}

static int write_pieces(WOLFSSL *ssl, const void *buf, size_t size)
{
	struct iovec v[3];
	size_t done = 0;

	for (int i = 0; i < 3; i++) {
		size_t piece = i == 2 ? size - done : size / 3;

		v[i] = (struct iovec){.iov_base = (char *)buf + done, .iov_len = piece};
		done += piece;
	}
	return wolfSSL_writev(ssl, v, 3);
}

static long call_write(void *ssl, const void *buf, size_t size)
{
	int n;

	do
		n = other_is("writev")	   ? write_pieces(ssl, buf, size)
		    : other_is("sendrecv") ? wolfSSL_send(ssl, buf, (int)size, 0)
					   : wolfSSL_write(ssl, buf, (int)size);
	while (n <= 0 && again(ssl, n));
	if (n <= 0)
		other_die("write", wolfSSL_get_error(ssl, n));
	return n;
}

static const struct other_calls calls = {call_read, call_write};

static int own_recv(WOLFSSL *ssl, char *buf, int size, void *arg)
{
	ssize_t n = recv(tcp, buf, (size_t)size, MSG_DONTWAIT);

	(void)ssl;
	(void)arg;
	if (n < 0)
		return errno == EAGAIN ? WOLFSSL_CBIO_ERR_WANT_READ : WOLFSSL_CBIO_ERR_GENERAL;
	return n == 0 ? WOLFSSL_CBIO_ERR_CONN_CLOSE : (int)n;
}

static int own_send(WOLFSSL *ssl, char *buf, int size, void *arg)
{
	ssize_t n = send(tcp, buf, (size_t)size, MSG_DONTWAIT);

	(void)ssl;
	(void)arg;
	if (n < 0)
		return errno == EAGAIN ? WOLFSSL_CBIO_ERR_WANT_WRITE : WOLFSSL_CBIO_ERR_GENERAL;
	return (int)n;
}

static void init(void)
{
	other_must(wolfSSL_Init() == WOLFSSL_SUCCESS, "init");
	if (other_is("dtls"))
		ctx = wolfSSL_CTX_new(other_server ? wolfDTLSv1_2_server_method() : wolfDTLSv1_2_client_method());
	else
		ctx = wolfSSL_CTX_new(other_server ? wolfSSLv23_server_method() : wolfSSLv23_client_method());
	other_must(ctx != NULL, "context");
	if (getenv("SNIP_TLS") && strcmp(getenv("SNIP_TLS"), "1.2") == 0)
		wolfSSL_CTX_set_options(ctx, WOLFSSL_OP_NO_TLSv1_3);
	wolfSSL_CTX_set_verify(ctx, WOLFSSL_VERIFY_NONE, NULL);
	if (other_is("own")) {
		wolfSSL_CTX_SetIORecv(ctx, own_recv);
		wolfSSL_CTX_SetIOSend(ctx, own_send);
	}
	if (other_server)
		other_must(wolfSSL_CTX_use_certificate_file(ctx, other_file("SNIP_CERT"), WOLFSSL_FILETYPE_PEM) == 1 &&
				   wolfSSL_CTX_use_PrivateKey_file(ctx, other_file("SNIP_KEY"), WOLFSSL_FILETYPE_PEM) ==
					   1,
			   "certificate");
}

static void shake_hands(WOLFSSL *ssl)
{
	int ret;

	if (other_is("implicit"))
		return;
	do
		ret = other_is("negotiate") ? wolfSSL_negotiate(ssl)
		      : other_server	    ? wolfSSL_accept(ssl)
					    : wolfSSL_connect(ssl);
	while (ret != WOLFSSL_SUCCESS && again(ssl, ret));
	if (ret != WOLFSSL_SUCCESS)
		other_die("handshake", wolfSSL_get_error(ssl, ret));
}

static void half(WOLFSSL *ssl)
{
	char buf[16];
	int n;

	other_line(&calls, ssl, 0);
	if (!other_server) {
		(void)wolfSSL_shutdown(ssl);
		n = wolfSSL_read(ssl, buf, 4);
		printf("after shutdown %d\n", n);
		if (n > 0)
			other_save(false, buf, (size_t)n);
		return;
	}
	printf("end %d\n", wolfSSL_read(ssl, buf, sizeof(buf)) <= 0);
}

static void silly(WOLFSSL *ssl)
{
	char buf[16];

	printf("silly %d %d %d %d %d %d\n", wolfSSL_read(NULL, buf, 1), wolfSSL_write(NULL, buf, 1),
	       wolfSSL_connect(NULL), wolfSSL_shutdown(NULL), wolfSSL_read(ssl, NULL, 1), wolfSSL_write(ssl, NULL, 1));
	printf("silly %d %d %d\n", wolfSSL_read(ssl, buf, -1), wolfSSL_write(ssl, buf, -1), wolfSSL_accept(NULL));
	wolfSSL_free(NULL);
	printf("queue %lu\n", wolfSSL_ERR_peek_error());
	other_line(&calls, ssl, 0);
}

static void one(WOLFSSL *ssl)
{
	other_begin();
	tcp = other_is("dtls") ? other_udp() : other_tcp();
	if (other_is("nonblock"))
		other_nonblock(tcp);
	if (!other_is("own"))
		other_must(wolfSSL_set_fd(ssl, tcp) == WOLFSSL_SUCCESS, "set_fd");
	shake_hands(ssl);
	if (other_is("half"))
		half(ssl);
	else if (other_is("silly"))
		silly(ssl);
	else if (other_is("dtls"))
		other_line(&calls, ssl, 0);
	else
		other_talk(&calls, ssl);
	printf("queue %lu\n", wolfSSL_ERR_peek_error());
	(void)wolfSSL_shutdown(ssl);
	if (other_is("dtls"))
		close(tcp);
	else
		other_close(tcp);
}

int main(int argc, char **argv)
{
	int n = 1;
	WOLFSSL *ssl;

	other_init(argc, argv);
	init();
	if (other_is("clear"))
		n = CONNECTIONS;
	ssl = wolfSSL_new(ctx);
	other_must(ssl != NULL, "new");
	for (int i = 0; i < n; i++) {
		one(ssl);
		if (i + 1 < n)
			other_must(wolfSSL_clear(ssl) == WOLFSSL_SUCCESS, "clear");
	}
	wolfSSL_free(ssl);
	wolfSSL_CTX_free(ctx);
	wolfSSL_Cleanup();
	return other_done();
}
