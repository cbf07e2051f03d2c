/* SPDX-License-Identifier: Apache-2.0 */
/* A plugin that brings its own libssl: exchanges some data in either role. See twolibs.c. */
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <openssl/ssl.h>
#include <openssl/x509.h>

int plugin_run(int fd, int is_server, int rounds, const char *name, char *ret, size_t size);

static void make_certificate(SSL_CTX *ctx)
{
	EVP_PKEY *key = EVP_EC_gen("P-256");
	X509 *x = X509_new();

	ASN1_INTEGER_set(X509_get_serialNumber(x), 1);
	X509_gmtime_adj(X509_getm_notBefore(x), -3600);
	X509_gmtime_adj(X509_getm_notAfter(x), 86400);
	X509_set_pubkey(x, key);
	X509_NAME_add_entry_by_txt(X509_get_subject_name(x), "CN", MBSTRING_ASC, (const uint8_t *)"plugin.test", -1, -1,
				   0);
	X509_set_issuer_name(x, X509_get_subject_name(x));
	X509_sign(x, key, EVP_sha256());
	SSL_CTX_use_certificate(ctx, x);
	SSL_CTX_use_PrivateKey(ctx, key);
	X509_free(x);
	EVP_PKEY_free(key);
}

/* Exchange @rounds lines that name the plugin over the connected socket @fd. Writes a line about it, and
 * where its SSL_write lives, into @ret. Returns 0 or a number that says what failed. */
int plugin_run(int fd, int is_server, int rounds, const char *name, char *ret, size_t size)
{
	SSL_CTX *ctx = SSL_CTX_new(is_server ? TLS_server_method() : TLS_client_method());
	SSL *ssl;
	int n, err = 0;

	if (ctx == NULL)
		return 1;
	if (is_server)
		make_certificate(ctx);
	ssl = SSL_new(ctx);
	SSL_set_fd(ssl, fd);
	if ((is_server ? SSL_accept(ssl) : SSL_connect(ssl)) != 1)
		err = 2;
	for (int i = 0; err == 0 && i < rounds; i++) {
		char text[64], got[64];

		n = snprintf(text, sizeof(text), "%s %s %d\n", name, is_server ? "answers" : "asks", i);
		if (!is_server && SSL_write(ssl, text, n) != n)
			err = 3;
		if (err == 0 && (SSL_read(ssl, got, sizeof(got)) <= 0 || memcmp(got, name, strlen(name)) != 0))
			err = 4;
		if (is_server && err == 0 && SSL_write(ssl, text, n) != n)
			err = 5;
	}
	SSL_shutdown(ssl);
	SSL_free(ssl);
	SSL_CTX_free(ctx);
	snprintf(ret, size, "%s %s %d rounds: %d", name, is_server ? "server" : "client", rounds, err);
	return err;
}
