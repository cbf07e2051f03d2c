/* SPDX-License-Identifier: Apache-2.0 */
/* wolfssl.c - wrappers of wolfSSL's functions; what a WOLFSSL says of itself. */
#define _GNU_SOURCE
#include <string.h>

#include "conn.h"
#include "hooks.h"
#include "notes.h"
#include "resolve.h"

int wolfSSL_read(WOLFSSL *ssl, void *buf, int len)
{
	struct call c;
	int n;

	tap_begin(&c, resolve_mute(HERE, __func__), ssl, DIR_RX);
	n = REAL(c, wolfSSL_read) ? REAL(c, wolfSSL_read)(ssl, buf, len) : WOLFSSL_E_FATAL;
	tap_leave(&c, buf, n > 0 ? (size_t)n : 0, 0);
	return n;
}

int wolfSSL_recv(WOLFSSL *ssl, void *buf, int len, int flags)
{
	struct call c;
	int n;

	tap_begin(&c, resolve_mute(HERE, __func__), ssl, DIR_RX);
	n = REAL(c, wolfSSL_recv) ? REAL(c, wolfSSL_recv)(ssl, buf, len, flags) : WOLFSSL_E_FATAL;
	tap_leave(&c, buf, n > 0 ? (size_t)n : 0, 0);
	return n;
}

int wolfSSL_write(WOLFSSL *ssl, const void *buf, int len)
{
	struct call c;
	int n;

	tap_begin(&c, resolve_mute(HERE, __func__), ssl, DIR_TX);
	n = REAL(c, wolfSSL_write) ? REAL(c, wolfSSL_write)(ssl, buf, len) : WOLFSSL_E_FATAL;
	tap_leave(&c, buf, n > 0 ? (size_t)n : 0, 0);
	return n;
}

int wolfSSL_send(WOLFSSL *ssl, const void *buf, int len, int flags)
{
	struct call c;
	int n;

	tap_begin(&c, resolve_mute(HERE, __func__), ssl, DIR_TX);
	n = REAL(c, wolfSSL_send) ? REAL(c, wolfSSL_send)(ssl, buf, len, flags) : WOLFSSL_E_FATAL;
	tap_leave(&c, buf, n > 0 ? (size_t)n : 0, 0);
	return n;
}

/* The library copies the pieces together and calls wolfSSL_write(): a call within this one. */
int wolfSSL_writev(WOLFSSL *ssl, const struct iovec *vec, int count)
{
	struct call c;
	size_t left;
	int n;

	tap_begin(&c, resolve_mute(HERE, __func__), ssl, DIR_TX);
	n = REAL(c, wolfSSL_writev) ? REAL(c, wolfSSL_writev)(ssl, vec, count) : WOLFSSL_E_FATAL;
	left = n > 0 ? (size_t)n : 0;
	for (int i = 0; i < count && left; i++) {
		size_t piece = vec[i].iov_len < left ? vec[i].iov_len : left;

		if (piece)
			tap_piece(&c, vec[i].iov_base, piece, 0);
		left -= piece;
	}
	tap_leave(&c, NULL, 0, 0);
	return n;
}

/* The randoms are forgotten when the handshake ends: what is there before a step of it is noted. */
static void note_randoms(const struct tls_lib *lib, WOLFSSL *ssl)
{
	uint8_t client[32], server[32];
	struct note *n;

	if (!lib || !ssl || !lib->wolfSSL_get_client_random || lib->wolfSSL_get_client_random(ssl, client, 32) != 32 ||
	    memcmp(client, &(uint8_t[32]){0}, 32) == 0 || !(n = note_write(ssl)))
		return;
	memcpy(n->client_random, client, 32);
	n->has_client = true;
	n->has_server = lib->wolfSSL_get_server_random && lib->wolfSSL_get_server_random(ssl, server, 32) == 32 &&
			memcmp(server, &(uint8_t[32]){0}, 32) != 0;
	if (n->has_server)
		memcpy(n->server_random, server, 32);
}

/* A handshake is no data: agentd learns which socket it is about to see. */
#define HANDSHAKE(name)                                                              \
	int name(WOLFSSL *ssl)                                                       \
	{                                                                            \
		struct site s = resolve_mute(HERE, __func__);                        \
		__typeof(&name) real = s.lib ? s.lib->name : (__typeof(real))s.real; \
                                                                                     \
		tap_socket(s.lib, ssl);                                              \
		note_randoms(s.lib, ssl);                                            \
		return real ? real(ssl) : WOLFSSL_E_FATAL;                           \
	}
HANDSHAKE(wolfSSL_negotiate)
HANDSHAKE(wolfSSL_connect)
HANDSHAKE(wolfSSL_accept)
HANDSHAKE(wolfSSL_connect_TLSv13)
HANDSHAKE(wolfSSL_accept_TLSv13)

int wolfSSL_shutdown(WOLFSSL *ssl)
{
	struct site s = resolve_mute(HERE, __func__);
	__typeof(&wolfSSL_shutdown) real = s.lib ? s.lib->wolfSSL_shutdown : (__typeof(real))s.real;
	int ret = real ? real(ssl) : WOLFSSL_E_FATAL;

	tap_close(s.lib, ssl, false);
	return ret;
}

static void forget(const struct tls_lib *lib, WOLFSSL *ssl)
{
	tap_close(lib, ssl, true);
	note_drop(ssl);
}

void wolfSSL_free(WOLFSSL *ssl)
{
	struct site s = resolve_mute(HERE, __func__);
	__typeof(&wolfSSL_free) real = s.lib ? s.lib->wolfSSL_free : (__typeof(real))s.real;

	forget(s.lib, ssl); /* before its address can be somebody else's */
	if (real)
		real(ssl);
}

int wolfSSL_clear(WOLFSSL *ssl)
{
	struct site s = resolve_mute(HERE, __func__);
	__typeof(&wolfSSL_clear) real = s.lib ? s.lib->wolfSSL_clear : (__typeof(real))s.real;

	forget(s.lib, ssl);
	return real ? real(ssl) : 0;
}

/* --- facts ----------------------------------------------------------------------------------------- */

/* What the library still knows, else what was noted. */
static bool random_of(const struct tls_lib *lib, const void *ssl, uint8_t ret[static 32])
{
	struct note n;

	if (lib->wolfSSL_get_client_random && lib->wolfSSL_get_client_random(ssl, ret, 32) == 32 &&
	    memcmp(ret, &(uint8_t[32]){0}, 32) != 0)
		return true;
	if (!note_read(ssl, &n) || !n.has_client)
		return false;
	memcpy(ret, n.client_random, 32);
	return true;
}

static uint64_t random8(const struct tls_lib *lib, const void *ssl)
{
	uint8_t random[32];
	uint64_t r8 = 0;

	if (random_of(lib, ssl, random))
		memcpy(&r8, random, 8);
	return r8;
}

static bool ready(const struct tls_lib *lib, const void *ssl)
{
	return lib->wolfSSL_is_init_finished && lib->wolfSSL_is_init_finished(ssl);
}

static enum tls_early early(const struct tls_lib *lib, const void *ssl)
{
	(void)lib;
	(void)ssl;
	return TLS_EARLY_UNKNOWN;
}

static int fd_of(const struct tls_lib *lib, const void *ssl)
{
	return lib->wolfSSL_get_fd ? lib->wolfSSL_get_fd(ssl) : -1;
}

static void put_random(const struct tls_lib *lib, const void *ssl, struct rec_open *o)
{
	struct note n;

	if (!random_of(lib, ssl, o->client_random))
		memset(o->client_random, 0, 32);
	if (lib->wolfSSL_get_server_random && lib->wolfSSL_get_server_random(ssl, o->server_random, 32) == 32 &&
	    memcmp(o->server_random, &(uint8_t[32]){0}, 32) != 0) {
		o->flags |= REC_OPEN_SERVER_RANDOM;
	} else if (note_read(ssl, &n) && n.has_server) {
		memcpy(o->server_random, n.server_random, 32);
		o->flags |= REC_OPEN_SERVER_RANDOM;
	}
	note_told(ssl);
}

static bool is_server(const struct tls_lib *lib, const void *ssl)
{
	if (lib->wolfSSL_is_server)
		return lib->wolfSSL_is_server(ssl);
	return lib->wolfSSL_GetSide && lib->wolfSSL_GetSide(ssl) == 0; /* WOLFSSL_SERVER_END */
}

/* Without ALPN: where there is none, asking for it leaves an entry in the error queue. */
static size_t put_sni(const struct tls_lib *lib, const void *ssl, struct rec_open *o, uint8_t *to)
{
	const char *sni = lib->wolfSSL_get_servername ? lib->wolfSSL_get_servername(ssl, 0) : NULL;
	size_t n = sni ? strnlen(sni, REC_NAME_MAX) : 0;

	o->sni_len = (uint8_t)n;
	if (n)
		memcpy(to, sni, n);
	return n;
}

static size_t describe(const struct tls_lib *lib, const void *ssl, struct rec_open *o, uint8_t *ret_names)
{
	put_random(lib, ssl, o);
	if (is_server(lib, ssl))
		o->flags |= REC_OPEN_SERVER;
	if (lib->wolfSSL_dtls && lib->wolfSSL_dtls(ssl))
		o->flags |= REC_OPEN_NOT_TCP;
	o->tls_version = lib->wolfSSL_version ? (uint16_t)lib->wolfSSL_version(ssl) : 0;
	return put_sni(lib, ssl, o, ret_names);
}

const struct tls_facts wolfssl_facts = {
	.lib = REC_LIB_WOLFSSL,
	.random8 = random8,
	.ready = ready,
	.early = early,
	.fd = fd_of,
	.describe = describe,
};
