/* SPDX-License-Identifier: Apache-2.0 */
/* plugin.c with GnuTLS: a plugin that brings its own libgnutls. See twolibs.c. */
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include <gnutls/gnutls.h>
#include <gnutls/x509.h>

int plugin_run(int fd, int is_server, int rounds, const char *name, char *ret, size_t size);

static void make_certificate(gnutls_certificate_credentials_t cred)
{
	gnutls_x509_privkey_t key;
	gnutls_x509_crt_t crt;

	gnutls_x509_privkey_init(&key);
	gnutls_x509_privkey_generate(key, GNUTLS_PK_ECDSA, GNUTLS_CURVE_TO_BITS(GNUTLS_ECC_CURVE_SECP256R1), 0);
	gnutls_x509_crt_init(&crt);
	gnutls_x509_crt_set_version(crt, 3);
	gnutls_x509_crt_set_serial(crt, "\1", 1);
	gnutls_x509_crt_set_activation_time(crt, time(NULL) - 3600);
	gnutls_x509_crt_set_expiration_time(crt, time(NULL) + 86400);
	gnutls_x509_crt_set_dn_by_oid(crt, GNUTLS_OID_X520_COMMON_NAME, 0, "plugin.test", 11);
	gnutls_x509_crt_set_key(crt, key);
	gnutls_x509_crt_sign2(crt, crt, key, GNUTLS_DIG_SHA256, 0);
	gnutls_certificate_set_x509_key(cred, &crt, 1, key);
	gnutls_x509_crt_deinit(crt);
	gnutls_x509_privkey_deinit(key);
}

static long read_line(gnutls_session_t s, char *got, size_t size)
{
	long n;

	do
		n = gnutls_record_recv(s, got, size);
	while (n == GNUTLS_E_AGAIN || n == GNUTLS_E_INTERRUPTED);
	return n;
}

/* As plugin.c's. */
int plugin_run(int fd, int is_server, int rounds, const char *name, char *ret, size_t size)
{
	gnutls_certificate_credentials_t cred;
	gnutls_session_t s;
	int n, early, err = 0;

	gnutls_certificate_allocate_credentials(&cred);
	if (is_server)
		make_certificate(cred);
	gnutls_init(&s, is_server ? GNUTLS_SERVER : GNUTLS_CLIENT);
	gnutls_set_default_priority(s);
	gnutls_credentials_set(s, GNUTLS_CRD_CERTIFICATE, cred);
	gnutls_transport_set_int(s, fd);
	early = (int)gnutls_record_send(s, "too early", 9); /* it calls gnutls_record_send2() */
	do
		n = gnutls_handshake(s);
	while (n < 0 && !gnutls_error_is_fatal(n));
	if (n < 0)
		err = 2;
	for (int i = 0; err == 0 && i < rounds; i++) {
		char text[64], got[64];

		n = snprintf(text, sizeof(text), "%s %s %d\n", name, is_server ? "answers" : "asks", i);
		if (!is_server && gnutls_record_send(s, text, (size_t)n) != n)
			err = 3;
		if (err == 0 && (read_line(s, got, sizeof(got)) <= 0 || memcmp(got, name, strlen(name)) != 0))
			err = 4;
		if (is_server && err == 0 && gnutls_record_send(s, text, (size_t)n) != n)
			err = 5;
	}
	if (err == 0)
		gnutls_bye(s, GNUTLS_SHUT_WR);
	gnutls_deinit(s);
	gnutls_certificate_free_credentials(cred);
	snprintf(ret, size, "%s %s %d rounds: %d, too early: %d", name, is_server ? "server" : "client", rounds, err,
		 early);
	return err;
}
