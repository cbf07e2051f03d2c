/* SPDX-License-Identifier: Apache-2.0 */
/* OpenSSL and GnuTLS in one process, as in psql: lines over one connection of each, in turn, through one function
 * pointer, so that one call site reaches both libraries. ARGs: rounds (50) */
#include <stdlib.h>
#include <string.h>

#include <openssl/evp.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>

#include "lib/gsnip.h"

typedef long (*reader)(void *handle, void *buf, size_t n);
typedef long (*writer)(void *handle, const void *buf, size_t n);

/* int and ssize_t come back in the same register, and a negative int is not looked at. */
static const struct {
	const char *name;
	reader read;
	writer write;
} kinds[] = {
	{"openssl", (reader)(void (*)(void))SSL_read, (writer)(void (*)(void))SSL_write},
	{"gnutls", (reader)(void (*)(void))gnutls_record_recv, (writer)(void (*)(void))gnutls_record_send},
};

static SSL *begin_openssl(SSL_CTX *ctx, int fd)
{
	SSL *ssl;

	if (gsnip_server) {
		EVP_PKEY *key = EVP_EC_gen("P-256");
		X509 *x = X509_new();

		ASN1_INTEGER_set(X509_get_serialNumber(x), 1);
		X509_gmtime_adj(X509_getm_notBefore(x), -3600);
		X509_gmtime_adj(X509_getm_notAfter(x), 86400);
		X509_set_pubkey(x, key);
		X509_sign(x, key, EVP_sha256());
		SSL_CTX_use_certificate(ctx, x);
		SSL_CTX_use_PrivateKey(ctx, key);
		X509_free(x);
		EVP_PKEY_free(key);
	}
	ssl = SSL_new(ctx);
	SSL_set_fd(ssl, fd);
	if ((gsnip_server ? SSL_accept(ssl) : SSL_connect(ssl)) != 1)
		gsnip_die("openssl", 0);
	return ssl;
}

static void hear(unsigned kind, void *handle, const char *want)
{
	char buf[64] = "";
	long n;

	do
		n = (int)kinds[kind].read(handle, buf, sizeof(buf) - 1);
	while (kind && n == GNUTLS_E_AGAIN);
	if (n != (long)strlen(want) || memcmp(buf, want, strlen(want)) != 0)
		gsnip_die(kinds[kind].name, n);
}

static void say(unsigned kind, void *handle, const char *what)
{
	long n = (int)kinds[kind].write(handle, what, strlen(what));

	if (n != (long)strlen(what))
		gsnip_die(kinds[kind].name, n);
}

static void exchange(unsigned kind, void *handle, int i)
{
	char asks[64], answers[64];

	snprintf(asks, sizeof(asks), "%s asks %d\n", kinds[kind].name, i);
	snprintf(answers, sizeof(answers), "%s answers %d\n", kinds[kind].name, i);
	if (!gsnip_server)
		say(kind, handle, asks);
	hear(kind, handle, gsnip_server ? asks : answers);
	if (gsnip_server)
		say(kind, handle, answers);
}

int main(int argc, char **argv)
{
	struct gsnip g;
	SSL_CTX *ctx;
	SSL *ssl;
	int rounds, fd;

	gsnip_init(argc, argv);
	rounds = gsnip_argc ? atoi(gsnip_argv[0]) : 50;
	ctx = SSL_CTX_new(gsnip_server ? TLS_server_method() : TLS_client_method());
	fd = gsnip_tcp();
	ssl = begin_openssl(ctx, fd);
	gsnip_new(&g, gsnip_tcp(), 0);
	gsnip_handshake(&g);
	for (int i = 0; i < rounds; i++) {
		exchange(0, ssl, i);
		exchange(1, g.s, i);
	}
	printf("%d rounds\n", rounds);
	gnutls_bye(g.s, GNUTLS_SHUT_WR);
	SSL_shutdown(ssl);
	SSL_free(ssl);
	gsnip_free(&g);
	g = (struct gsnip){.fd = fd};
	gsnip_free(&g);
	SSL_CTX_free(ctx);
	return gsnip_done();
}
