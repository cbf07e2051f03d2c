/* SPDX-License-Identifier: Apache-2.0 */
/* openssl.c - wrappers of OpenSSL's functions, which other libraries have too; what an SSL says of itself. */
#define _GNU_SOURCE
#include <limits.h>
#include <string.h>

#include "conn.h"
#include "hooks.h"
#include "resolve.h"

#define ST_OK 3 /* what SSL_state() says when the handshake is over */

/* A program may find our SSL_read_ex() where its library has none, and believe that there is one. So these do what
 * SSL_read() and SSL_write() of that library do; of why they failed SSL_get_error(3) knows less. */
static int read_classic(const struct call *c, SSL *ssl, void *buf, size_t num, size_t *ret)
{
	int n = c->lib && c->lib->SSL_read && ret ? c->lib->SSL_read(ssl, buf, num < INT_MAX ? (int)num : INT_MAX) : 0;

	if (n > 0)
		*ret = (size_t)n;
	return n > 0;
}

static int write_classic(const struct call *c, SSL *ssl, const void *buf, size_t num, size_t *ret)
{
	int n = c->lib && c->lib->SSL_write && ret ? c->lib->SSL_write(ssl, buf, num < INT_MAX ? (int)num : INT_MAX)
						   : 0;

	if (n > 0)
		*ret = (size_t)n;
	return n > 0;
}

/* BoringSSL and AWS-LC: what a client writes while the server has not answered are early data. */
static uint16_t early_flag(const struct call *c, const SSL *ssl, size_t n)
{
	return n && c->handle && c->lib->SSL_in_early_data && c->lib->SSL_in_early_data(ssl) &&
			       !(c->lib->SSL_is_server && c->lib->SSL_is_server(ssl))
		       ? REC_F_EARLY
		       : 0;
}

int SSL_read(SSL *ssl, void *buf, int num)
{
	struct call c;
	int n;

	tap_enter(&c, ssl, DIR_RX, HERE, __func__);
	n = REAL(c, SSL_read) ? REAL(c, SSL_read)(ssl, buf, num) : -1;
	tap_leave(&c, buf, n > 0 ? (size_t)n : 0, 0);
	return n;
}

int SSL_read_ex(SSL *ssl, void *buf, size_t num, size_t *readbytes)
{
	struct call c;
	int ok;

	tap_enter(&c, ssl, DIR_RX, HERE, __func__);
	ok = REAL(c, SSL_read_ex) ? REAL(c, SSL_read_ex)(ssl, buf, num, readbytes)
				  : read_classic(&c, ssl, buf, num, readbytes);
	tap_leave(&c, buf, ok == 1 && readbytes ? *readbytes : 0, 0);
	return ok;
}

int SSL_write(SSL *ssl, const void *buf, int num)
{
	struct call c;
	size_t moved;
	int n;

	tap_enter(&c, ssl, DIR_TX, HERE, __func__);
	n = REAL(c, SSL_write) ? REAL(c, SSL_write)(ssl, buf, num) : -1;
	moved = n > 0 ? (size_t)n : 0;
	tap_leave(&c, buf, moved, early_flag(&c, ssl, moved));
	return n;
}

int SSL_write_ex(SSL *ssl, const void *buf, size_t num, size_t *written)
{
	struct call c;
	size_t moved;
	int ok;

	tap_enter(&c, ssl, DIR_TX, HERE, __func__);
	ok = REAL(c, SSL_write_ex) ? REAL(c, SSL_write_ex)(ssl, buf, num, written)
				   : write_classic(&c, ssl, buf, num, written);
	moved = ok == 1 && written ? *written : 0;
	tap_leave(&c, buf, moved, early_flag(&c, ssl, moved));
	return ok;
}

int SSL_write_ex2(SSL *ssl, const void *buf, size_t num, uint64_t flags, size_t *written)
{
	struct call c;
	int ok;

	tap_enter(&c, ssl, DIR_TX, HERE, __func__);
	ok = REAL(c, SSL_write_ex2) ? REAL(c, SSL_write_ex2)(ssl, buf, num, flags, written) : 0;
	tap_leave(&c, buf, ok == 1 && written ? *written : 0, 0);
	return ok;
}

int SSL_write_early_data(SSL *ssl, const void *buf, size_t num, size_t *written)
{
	struct call c;
	int ok;

	tap_enter(&c, ssl, DIR_TX, HERE, __func__);
	ok = REAL(c, SSL_write_early_data) ? REAL(c, SSL_write_early_data)(ssl, buf, num, written) : 0;
	/* a server may call it too, for data before the client's Finished: these need no verdict */
	tap_leave(&c, buf, ok == 1 && written ? *written : 0,
		  c.handle && c.lib->SSL_is_server && c.lib->SSL_is_server(ssl) ? 0 : REC_F_EARLY);
	return ok;
}

int SSL_read_early_data(SSL *ssl, void *buf, size_t num, size_t *readbytes)
{
	struct call c;
	int ret;

	tap_enter(&c, ssl, DIR_RX, HERE, __func__);
	ret = REAL(c, SSL_read_early_data) ? REAL(c, SSL_read_early_data)(ssl, buf, num, readbytes) : 0;
	/* 0: error, 1: SSL_READ_EARLY_DATA_SUCCESS, 2: SSL_READ_EARLY_DATA_FINISH */
	tap_leave(&c, buf, ret == 1 && readbytes ? *readbytes : 0, 0);
	return ret;
}

ssize_t SSL_sendfile(SSL *ssl, int fd, off_t offset, size_t size, int flags)
{
	struct call c;
	ssize_t n;

	tap_enter(&c, ssl, DIR_TX, HERE, __func__);
	n = REAL(c, SSL_sendfile) ? REAL(c, SSL_sendfile)(ssl, fd, offset, size, flags) : -1;
	tap_hole(&c, n > 0 ? (size_t)n : 0);
	return n;
}

/* A handshake is no data: agentd learns which socket it is about to see. */
#define HANDSHAKE(name)                                                            \
	int name(SSL *ssl)                                                         \
	{                                                                          \
		struct site s = resolve(HERE, __func__, ssl);                      \
		int (*real)(SSL *) = s.lib ? s.lib->name : (int (*)(SSL *))s.real; \
                                                                                   \
		tap_socket(s.lib, ssl);                                            \
		return real ? real(ssl) : -1;                                      \
	}
HANDSHAKE(SSL_do_handshake)
HANDSHAKE(SSL_connect)

int SSL_accept(SSL *ssl)
{
	struct site s = resolve(HERE, __func__, ssl);
	int (*real)(SSL *) = s.lib ? s.lib->SSL_accept : (int (*)(SSL *))s.real;

	tap_socket(s.lib, ssl);
	if (s.lib && !s.lib->SSL_is_server) /* OpenSSL 1.0.2 would not say it */
		tap_server(s.lib, ssl, true);
	return real ? real(ssl) : -1;
}

int SSL_shutdown(SSL *ssl)
{
	struct site s = resolve(HERE, __func__, ssl);
	int (*real)(SSL *) = s.lib ? s.lib->SSL_shutdown : (int (*)(SSL *))s.real;
	int ret = real ? real(ssl) : -1;

	tap_close(s.lib, ssl, false);
	return ret;
}

void SSL_free(SSL *ssl)
{
	struct site s = resolve(HERE, __func__, ssl);
	void (*real)(SSL *) = s.lib ? s.lib->SSL_free : (void (*)(SSL *))s.real;

	tap_close(s.lib, ssl, true); /* before its address can be somebody else's */
	if (real)
		real(ssl);
}

int SSL_clear(SSL *ssl)
{
	struct site s = resolve(HERE, __func__, ssl);
	int (*real)(SSL *) = s.lib ? s.lib->SSL_clear : (int (*)(SSL *))s.real;

	if (!s.internal) /* the library clears its handle when a first handshake begins */
		tap_close(s.lib, ssl, true);
	return real ? real(ssl) : 0;
}

/* --- facts ----------------------------------------------------------------------------------------- */

static uint64_t random8(const struct tls_lib *lib, const void *ssl)
{
	uint64_t r8 = 0;

	return lib->SSL_get_client_random && lib->SSL_get_client_random(ssl, (unsigned char *)&r8, 8) == 8 ? r8 : 0;
}

static bool ready(const struct tls_lib *lib, const void *ssl)
{
	if (lib->SSL_is_init_finished)
		return lib->SSL_is_init_finished(ssl);
	return lib->SSL_state && lib->SSL_state(ssl) == ST_OK; /* LibreSSL, OpenSSL 1.0.2 */
}

static enum tls_early early(const struct tls_lib *lib, const void *ssl)
{
	if (!ready(lib, ssl))
		return TLS_EARLY_UNKNOWN;
	if (lib->SSL_early_data_accepted) /* BoringSSL, AWS-LC */
		return lib->SSL_early_data_accepted(ssl) ? TLS_EARLY_ACCEPTED : TLS_EARLY_REJECTED;
	if (!lib->SSL_get_early_data_status)
		return TLS_EARLY_UNKNOWN;
	return lib->SSL_get_early_data_status(ssl) == 2 /* SSL_EARLY_DATA_ACCEPTED */ ? TLS_EARLY_ACCEPTED
										      : TLS_EARLY_REJECTED;
}

#define BIO_TYPE_DESCRIPTOR 0x100

/* Does the application hear of what its BIO is asked (BIO_set_callback(3))? It shall not hear of us. */
static bool is_watched(const struct tls_lib *lib, BIO *bio)
{
	BIO *b = lib->BIO_find_type ? lib->BIO_find_type(bio, BIO_TYPE_DESCRIPTOR) : NULL;

	return b && ((lib->BIO_get_callback_ex && lib->BIO_get_callback_ex(b)) ||
		     (lib->BIO_get_callback && lib->BIO_get_callback(b)));
}

/* Without a BIO SSL_get_rfd() would leave an entry in the error queue. */
static int fd_of(const struct tls_lib *lib, const void *ssl)
{
	BIO *bio = lib->SSL_get_rbio && lib->SSL_get_rfd ? lib->SSL_get_rbio(ssl) : NULL;

	return bio && !is_watched(lib, bio) ? lib->SSL_get_rfd(ssl) : -1;
}

static size_t put_names(const struct tls_lib *lib, const SSL *ssl, struct rec_open *o, uint8_t *to)
{
	const unsigned char *alpn = NULL;
	unsigned int alpn_len = 0;
	const char *sni = lib->SSL_get_servername ? lib->SSL_get_servername(ssl, 0) : NULL;
	size_t n = sni ? strnlen(sni, REC_NAME_MAX) : 0;

	o->sni_len = (uint8_t)n;
	if (n)
		memcpy(to, sni, n);
	if (lib->SSL_get0_alpn_selected)
		lib->SSL_get0_alpn_selected(ssl, &alpn, &alpn_len);
	if (alpn && alpn_len && alpn_len <= REC_NAME_MAX) {
		o->alpn_len = (uint8_t)alpn_len;
		memcpy(to + n, alpn, alpn_len);
		n += alpn_len;
	}
	return n;
}

static size_t describe(const struct tls_lib *lib, const void *ssl, struct rec_open *o, uint8_t *ret_names)
{
	if (lib->SSL_get_client_random)
		(void)lib->SSL_get_client_random(ssl, o->client_random, 32);
	if (lib->SSL_get_server_random && lib->SSL_get_server_random(ssl, o->server_random, 32) == 32 &&
	    memcmp(o->server_random, &(uint8_t[32]){0}, 32) != 0)
		o->flags |= REC_OPEN_SERVER_RANDOM;
	if (lib->SSL_is_server && lib->SSL_is_server(ssl))
		o->flags |= REC_OPEN_SERVER;
	if ((lib->SSL_is_dtls && lib->SSL_is_dtls(ssl)) || (lib->SSL_is_quic && lib->SSL_is_quic(ssl)))
		o->flags |= REC_OPEN_NOT_TCP;
	o->tls_version = lib->SSL_version ? (uint16_t)lib->SSL_version(ssl) : 0;
	return put_names(lib, ssl, o, ret_names);
}

const struct tls_facts openssl_facts = {
	.lib = REC_LIB_OPENSSL,
	.random8 = random8,
	.ready = ready,
	.early = early,
	.fd = fd_of,
	.describe = describe,
};
