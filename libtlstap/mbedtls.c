/* SPDX-License-Identifier: Apache-2.0 */
/* mbedtls.c - wrappers of mbedTLS's functions; what a context says of itself, and what passes us by.
 *
 * A context has no function that tells its socket or its randoms, and its layout changes from release to release: it is
 * never looked into. But the program hands the socket over, with mbedTLS's own functions to read and write it, which
 * take the address of an int; and the library hands each random that it sent or got to its debug function, wanted or
 * not. A program with functions of its own, on a library without debugging, stays unpaired. */
#define _GNU_SOURCE
#include <string.h>

#include "conn.h"
#include "hooks.h"
#include "notes.h"
#include "resolve.h"

#define RECORD_MAX 16384
#define RANDOM_LEVEL 3 /* of the messages that show randoms */

int mbedtls_ssl_read(struct mbedtls_ssl_context *ssl, unsigned char *buf, size_t len)
{
	struct call c;
	int n;

	tap_begin(&c, resolve_mute(HERE, __func__), ssl, DIR_RX);
	n = REAL(c, mbedtls_ssl_read) ? REAL(c, mbedtls_ssl_read)(ssl, buf, len) : MBEDTLS_E_INTERNAL_ERROR;
	tap_leave(&c, buf, n > 0 ? (size_t)n : 0, 0);
	return n;
}

static bool ready(const struct tls_lib *lib, const void *ssl);

/* The most that the library takes at once. */
static size_t payload_max(const struct tls_lib *lib, const void *ssl)
{
	int max = lib->mbedtls_ssl_get_max_out_record_payload ? lib->mbedtls_ssl_get_max_out_record_payload(ssl) : 0;

	return max > 0 ? (size_t)max : RECORD_MAX;
}

/* A call with @len bytes at @buf said WANT_WRITE: the library has made a record of them, and will report them when that
 * is sent, to a call that may be given no data any more. So they count now. */
static void write_waits(struct call *c, const void *ssl, const unsigned char *buf, size_t len, size_t pending)
{
	size_t n = 0, max;
	struct note *note;

	if (buf && len && !pending && c->handle && ready(c->lib, ssl) && (note = note_write(ssl))) {
		max = payload_max(c->lib, ssl);
		n = len < max ? len : max;
		note->pending = (uint32_t)n;
	}
	tap_leave(c, buf, n, 0);
}

/* It reported @n bytes, of which @pending were counted. */
static void write_over(struct call *c, const void *ssl, const unsigned char *buf, size_t n, size_t pending)
{
	struct note *note = pending ? note_write(ssl) : NULL;
	size_t more = n > pending ? n - pending : 0;

	if (note) {
		note->pending = 0;
		note_told(ssl);
	}
	if (more && !buf)
		tap_hole(c, more);
	else
		tap_leave(c, more ? buf + pending : NULL, more, 0);
}

int mbedtls_ssl_write(struct mbedtls_ssl_context *ssl, const unsigned char *buf, size_t len)
{
	struct call c;
	struct note seen;
	size_t pending;
	int n;

	tap_begin(&c, resolve_mute(HERE, __func__), ssl, DIR_TX);
	n = REAL(c, mbedtls_ssl_write) ? REAL(c, mbedtls_ssl_write)(ssl, buf, len) : MBEDTLS_E_INTERNAL_ERROR;
	pending = note_read(ssl, &seen) ? seen.pending : 0;
	if (n == MBEDTLS_E_WANT_WRITE)
		write_waits(&c, ssl, buf, len, pending);
	else
		write_over(&c, ssl, buf, n > 0 ? (size_t)n : 0, n > 0 ? pending : 0);
	return n;
}

/* The library is about to use the socket, so the int is there to be read. */
static void note_socket(const struct tls_lib *lib, struct mbedtls_ssl_context *ssl)
{
	struct note seen, *n;

	if (note_read(ssl, &seen) && seen.socket && seen.fd == -1 && (n = note_write(ssl)))
		n->fd = *n->socket;
	tap_socket(lib, ssl);
}

/* A handshake is no data: agentd learns which socket it is about to see. */
#define HANDSHAKE(name)                                                              \
	int name(struct mbedtls_ssl_context *ssl)                                    \
	{                                                                            \
		struct site s = resolve_mute(HERE, __func__);                        \
		__typeof(&name) real = s.lib ? s.lib->name : (__typeof(real))s.real; \
                                                                                     \
		note_socket(s.lib, ssl);                                             \
		return real ? real(ssl) : MBEDTLS_E_INTERNAL_ERROR;                  \
	}
HANDSHAKE(mbedtls_ssl_handshake)
HANDSHAKE(mbedtls_ssl_handshake_step)

int mbedtls_ssl_close_notify(struct mbedtls_ssl_context *ssl)
{
	struct site s = resolve_mute(HERE, __func__);
	__typeof(&mbedtls_ssl_close_notify) real = s.lib ? s.lib->mbedtls_ssl_close_notify : (__typeof(real))s.real;
	int ret = real ? real(ssl) : MBEDTLS_E_INTERNAL_ERROR;

	tap_close(s.lib, ssl, false);
	return ret;
}

/* Whatever the context was, it is that no more. */
static void forget(const struct tls_lib *lib, struct mbedtls_ssl_context *ssl)
{
	tap_close(lib, ssl, true);
	note_drop(ssl);
}

/* The socket that it was given it keeps. */
int mbedtls_ssl_session_reset(struct mbedtls_ssl_context *ssl)
{
	struct site s = resolve_mute(HERE, __func__);
	__typeof(&mbedtls_ssl_session_reset) real = s.lib ? s.lib->mbedtls_ssl_session_reset : (__typeof(real))s.real;
	struct note seen, *n;
	const int *socket = note_read(ssl, &seen) ? seen.socket : NULL;

	forget(s.lib, ssl);
	if (socket && (n = note_write(ssl)))
		n->socket = socket;
	return real ? real(ssl) : MBEDTLS_E_INTERNAL_ERROR;
}

int mbedtls_ssl_setup(struct mbedtls_ssl_context *ssl, const struct mbedtls_ssl_config *conf)
{
	struct site s = resolve_mute(HERE, __func__);
	__typeof(&mbedtls_ssl_setup) real = s.lib ? s.lib->mbedtls_ssl_setup : (__typeof(real))s.real;

	forget(s.lib, ssl); /* one that nobody freed was at that address */
	return real ? real(ssl, conf) : MBEDTLS_E_INTERNAL_ERROR;
}

void mbedtls_ssl_free(struct mbedtls_ssl_context *ssl)
{
	struct site s = resolve_mute(HERE, __func__);
	__typeof(&mbedtls_ssl_free) real = s.lib ? s.lib->mbedtls_ssl_free : (__typeof(real))s.real;

	forget(s.lib, ssl); /* before its address can be somebody else's */
	if (real)
		real(ssl);
}

void mbedtls_ssl_set_bio(struct mbedtls_ssl_context *ssl, void *bio, mbedtls_send_f *send, mbedtls_recv_f *recv,
			 mbedtls_recv_timeout_f *recv_timeout)
{
	struct site s = resolve_mute(HERE, __func__);
	__typeof(&mbedtls_ssl_set_bio) real = s.lib ? s.lib->mbedtls_ssl_set_bio : (__typeof(real))s.real;
	bool own = s.lib && bio && send && send == s.lib->mbedtls_net_send &&
		   (!recv || recv == s.lib->mbedtls_net_recv) &&
		   (!recv_timeout || recv_timeout == s.lib->mbedtls_net_recv_timeout);
	struct note seen, *n;

	if (ssl && (own || note_read(ssl, &seen)) && (n = note_write(ssl))) {
		n->socket = own ? bio : NULL;
		n->fd = -1;
	}
	if (real)
		real(ssl, bio, send, recv, recv_timeout);
}

/* Does a file of the server's half of the library speak? ssl_srv.c, ssl_tls12_server.c, ssl_tls13_server.c. */
static bool is_servers(const char *file)
{
	const char *slash = strrchr(file, '/'), *name = slash ? slash + 1 : file;

	return strstr(name, "srv") || strstr(name, "server");
}

static __attribute__((noinline)) void note_random(struct mbedtls_ssl_context *ssl, const char *file, const char *text,
						  const unsigned char *random)
{
	bool client = strcmp(text, "client hello, random bytes") == 0;
	struct note *n;

	if ((!client && strcmp(text, "server hello, random bytes") != 0) || !(n = note_write(ssl)))
		return;
	memcpy(client ? n->client_random : n->server_random, random, 32);
	if (client) { /* the beginning of a handshake */
		n->server = is_servers(file);
		n->has_server = false;
		n->has_client = true;
	} else {
		n->has_server = true;
	}
}

void mbedtls_debug_print_buf(const struct mbedtls_ssl_context *ssl, int level, const char *file, int line,
			     const char *text, const unsigned char *buf, size_t len)
{
	struct site s = resolve_mute(HERE, __func__);
	__typeof(&mbedtls_debug_print_buf) real = s.lib ? s.lib->mbedtls_debug_print_buf : (__typeof(real))s.real;

	if (s.internal && level == RANDOM_LEVEL && len == 32 && ssl && file && text && buf)
		note_random((struct mbedtls_ssl_context *)ssl, file, text, buf);
	if (real)
		real(ssl, level, file, line, text, buf, len);
}

/* --- facts ----------------------------------------------------------------------------------------- */

static uint64_t random8(const struct tls_lib *lib, const void *ssl)
{
	uint64_t r8 = 0;
	struct note n;

	(void)lib;
	if (note_read(ssl, &n) && n.has_client)
		memcpy(&r8, n.client_random, 8);
	return r8;
}

/* There is a session, and with it a cipher suite, once the handshake is over. */
static bool ready(const struct tls_lib *lib, const void *ssl)
{
	return lib->mbedtls_ssl_get_ciphersuite && lib->mbedtls_ssl_get_ciphersuite(ssl);
}

static enum tls_early early(const struct tls_lib *lib, const void *ssl)
{
	(void)lib;
	(void)ssl;
	return TLS_EARLY_UNKNOWN;
}

static int fd_of(const struct tls_lib *lib, const void *ssl)
{
	struct note n;

	(void)lib;
	return note_read(ssl, &n) ? n.fd : -1;
}

static size_t put_alpn(const struct tls_lib *lib, const void *ssl, struct rec_open *o, uint8_t *to)
{
	const char *alpn = lib->mbedtls_ssl_get_alpn_protocol ? lib->mbedtls_ssl_get_alpn_protocol(ssl) : NULL;
	size_t n = alpn ? strnlen(alpn, REC_NAME_MAX) : 0;

	o->alpn_len = (uint8_t)n;
	if (n)
		memcpy(to, alpn, n);
	return n;
}

static size_t describe(const struct tls_lib *lib, const void *ssl, struct rec_open *o, uint8_t *ret_names)
{
	static const char *const names[] = {"TLSv1.0", "TLSv1.1", "TLSv1.2", "TLSv1.3"};
	const char *version = lib->mbedtls_ssl_get_version ? lib->mbedtls_ssl_get_version(ssl) : "";
	struct note n;

	if (note_read(ssl, &n)) {
		if (n.has_client)
			memcpy(o->client_random, n.client_random, 32);
		if (n.has_client && n.has_server) {
			memcpy(o->server_random, n.server_random, 32);
			o->flags |= REC_OPEN_SERVER_RANDOM;
		}
		if (n.has_client && n.server)
			o->flags |= REC_OPEN_SERVER;
		note_told(ssl);
	}
	if (strstr(version, "DTLS"))
		o->flags |= REC_OPEN_NOT_TCP;
	for (unsigned i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (strcmp(version, names[i]) == 0)
			o->tls_version = (uint16_t)(0x0301 + i);
	return put_alpn(lib, ssl, o, ret_names);
}

const struct tls_facts mbedtls_facts = {
	.lib = REC_LIB_MBEDTLS,
	.random8 = random8,
	.ready = ready,
	.early = early,
	.fd = fd_of,
	.describe = describe,
};
