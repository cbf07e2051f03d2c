/* SPDX-License-Identifier: Apache-2.0 */
/* million.c - N times SSL_write and SSL_read of one byte between two handles of one process, with no system call of its
 * own in between. Usage: million N [socket]
 *
 * Without "socket" the two ends are a BIO pair; with it, a TCP connection over the loopback. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define CHECK(x)                                                        \
	do {                                                            \
		if (!(x)) {                                             \
			fprintf(stderr, "line %d: %s\n", __LINE__, #x); \
			exit(1);                                        \
		}                                                       \
	} while (0)

/* A key and certificate of this moment. */
static void identity(SSL_CTX *ctx)
{
	EVP_PKEY *key = EVP_EC_gen("P-256");
	X509 *x = X509_new();

	X509_gmtime_adj(X509_getm_notBefore(x), 0);
	X509_gmtime_adj(X509_getm_notAfter(x), 3600);
	X509_set_pubkey(x, key);
	CHECK(X509_sign(x, key, EVP_sha256()));
	CHECK(SSL_CTX_use_certificate(ctx, x) == 1 && SSL_CTX_use_PrivateKey(ctx, key) == 1);
}

static void tcp(int fd[2])
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof(a);
	int l = socket(AF_INET, SOCK_STREAM, 0);

	CHECK(bind(l, (void *)&a, len) == 0 && listen(l, 1) == 0 && getsockname(l, (void *)&a, &len) == 0);
	fd[0] = socket(AF_INET, SOCK_STREAM, 0);
	CHECK(connect(fd[0], (void *)&a, len) == 0);
	fd[1] = accept(l, NULL, NULL);
	CHECK(fd[1] != -1 && close(l) == 0);
	for (int i = 0; i < 2; i++)
		CHECK(fcntl(fd[i], F_SETFL, O_NONBLOCK) == 0);
}

int main(int argc, char **argv)
{
	long n = argc > 1 ? atol(argv[1]) : 1000;
	unsigned long seen = 0;
	SSL_CTX *ctx[2] = {SSL_CTX_new(TLS_client_method()), SSL_CTX_new(TLS_server_method())};
	SSL *ssl[2];
	int fd[2];

	identity(ctx[1]);
	for (int i = 0; i < 2; i++)
		ssl[i] = SSL_new(ctx[i]);
	if (argc > 2) {
		tcp(fd);
		for (int i = 0; i < 2; i++)
			CHECK(SSL_set_fd(ssl[i], fd[i]) == 1);
	} else {
		BIO *b[2];

		CHECK(BIO_new_bio_pair(&b[0], 1 << 16, &b[1], 1 << 16) == 1);
		for (int i = 0; i < 2; i++)
			SSL_set_bio(ssl[i], b[i], b[i]);
	}
	SSL_set_connect_state(ssl[0]);
	SSL_set_accept_state(ssl[1]);
	while (!SSL_is_init_finished(ssl[0]) || !SSL_is_init_finished(ssl[1])) {
		(void)SSL_do_handshake(ssl[0]);
		(void)SSL_do_handshake(ssl[1]);
		ERR_clear_error();
	}
	/* What each call leaves in errno and in the error queue is part of what is printed: a tap must not be seen
	 * there. */
	for (long i = 0; i < n; i++) {
		char c = (char)i, got = 0;
		int r;

		errno = 1234;
		r = SSL_write(ssl[0], &c, 1);
		seen = seen * 31 + (unsigned long)errno + ERR_peek_error();
		CHECK(r == 1);
		do {
			errno = 1234;
			r = SSL_read(ssl[1], &got, 1);
			/* over a socket it depends on the moment how often nothing is there yet */
			if (r == 1 || argc <= 2)
				seen = seen * 31 + (unsigned long)errno + ERR_peek_error();
		} while (r != 1 && SSL_get_error(ssl[1], r) == SSL_ERROR_WANT_READ);
		CHECK(r == 1 && got == c);
	}
	printf("%ld bytes, %lx\n", n, seen);
	return 0;
}
