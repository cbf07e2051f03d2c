/* SPDX-License-Identifier: Apache-2.0 */
/* gnutls.c - wrappers of GnuTLS's functions; what a session says of itself. */
#define _GNU_SOURCE
#include <string.h>

#include "conn.h"
#include "hooks.h"
#include "resolve.h"

#define E_INVALID_REQUEST (-50)
#define SFLAGS_EARLY_DATA (1u << 10)
#define NAME_DNS 1u
#define SSL3 1
#define DTLS 200	/* this and more: a version of DTLS */
#define FD_MAX 0x100000 /* a transport pointer below is a descriptor, as gnutls_transport_set_int(3) puts it there */

/* A call with @size bytes at @data is over and reported @n. After GNUTLS_E_AGAIN a send goes on with what the library
 * has taken, whatever it is given then: NULL and 0, or in a wrong program less than it reports. Such bytes are not ours
 * to read: counted, not copied. */
static void moved(struct call *c, const void *data, size_t size, ssize_t n, uint16_t flags)
{
	if (n > 0 && (!data || (size_t)n > size))
		tap_hole(c, (size_t)n);
	else
		tap_leave(c, data, n > 0 ? (size_t)n : 0, flags);
}

static bool is_zero(const uint8_t random[static 32])
{
	return memcmp(random, &(uint8_t[32]){0}, 32) == 0;
}

static void randoms(const struct tls_lib *lib, const void *s, uint8_t client[static 32], uint8_t server[static 32])
{
	struct gnutls_datum c = {.data = NULL}, v = {.data = NULL};

	if (lib->gnutls_session_get_random)
		lib->gnutls_session_get_random(s, &c, &v);
	memset(client, 0, 32);
	memset(server, 0, 32);
	if (c.data && c.size == 32)
		memcpy(client, c.data, 32);
	if (v.data && v.size == 32)
		memcpy(server, v.data, 32);
}

/* Data that the library sends in the midst of a handshake, before the server's hello, are early data, which it was
 * given before. */
static bool is_early(const struct call *c)
{
	uint8_t client[32], server[32];

	if (!c->internal || !c->handle)
		return false;
	randoms(c->lib, c->handle, client, server);
	return is_zero(server);
}

/* Corked, the library takes the data and sends them later: they count now. */
ssize_t gnutls_record_send(gnutls_session_t s, const void *data, size_t size)
{
	struct call c;
	ssize_t n;

	tap_enter(&c, s, DIR_TX, HERE, __func__);
	n = REAL(c, gnutls_record_send) ? REAL(c, gnutls_record_send)(s, data, size) : GNUTLS_E_INTERNAL_ERROR;
	moved(&c, data, size, n, is_early(&c) ? REC_F_EARLY : 0);
	return n;
}

ssize_t gnutls_record_send2(gnutls_session_t s, const void *data, size_t size, size_t pad, unsigned flags)
{
	struct call c;
	ssize_t n;

	tap_enter(&c, s, DIR_TX, HERE, __func__);
	n = REAL(c, gnutls_record_send2) ? REAL(c, gnutls_record_send2)(s, data, size, pad, flags)
					 : GNUTLS_E_INTERNAL_ERROR;
	moved(&c, data, size, n, 0);
	return n;
}

ssize_t gnutls_record_send_range(gnutls_session_t s, const void *data, size_t size, const void *range)
{
	struct call c;
	ssize_t n;

	tap_enter(&c, s, DIR_TX, HERE, __func__);
	n = REAL(c, gnutls_record_send_range) ? REAL(c, gnutls_record_send_range)(s, data, size, range)
					      : GNUTLS_E_INTERNAL_ERROR;
	moved(&c, data, size, n, 0);
	return n;
}

/* The library reads the file and calls gnutls_record_send(), which is seen; or the kernel sends it (kTLS), and it is
 * not. */
ssize_t gnutls_record_send_file(gnutls_session_t s, int fd, off_t *offset, size_t count)
{
	struct site site = resolve(HERE, __func__, s);
	__typeof(&gnutls_record_send_file) real =
		site.lib ? site.lib->gnutls_record_send_file : (__typeof(real))site.real;
	uint64_t before = tap_counted(s, DIR_TX), seen;
	ssize_t n = real ? real(s, fd, offset, count) : GNUTLS_E_INTERNAL_ERROR;
	struct call c;

	seen = tap_counted(s, DIR_TX) - before;
	if (n > 0 && (uint64_t)n > seen) {
		tap_enter(&c, s, DIR_TX, HERE, __func__);
		tap_hole(&c, (size_t)n - (size_t)seen);
	}
	return n;
}

/* What it sends was counted when it was taken. */
int gnutls_record_uncork(gnutls_session_t s, unsigned flags)
{
	struct site site = resolve(HERE, __func__, s);
	__typeof(&gnutls_record_uncork) real = site.lib ? site.lib->gnutls_record_uncork : (__typeof(real))site.real;
	struct call c;
	int ret;

	tap_aside(&c, s);
	ret = real ? real(s, flags) : GNUTLS_E_INTERNAL_ERROR;
	tap_leave(&c, NULL, 0, 0);
	return ret;
}

ssize_t gnutls_record_recv(gnutls_session_t s, void *data, size_t size)
{
	struct call c;
	ssize_t n;

	tap_enter(&c, s, DIR_RX, HERE, __func__);
	n = REAL(c, gnutls_record_recv) ? REAL(c, gnutls_record_recv)(s, data, size) : GNUTLS_E_INTERNAL_ERROR;
	moved(&c, data, size, n, 0);
	return n;
}

ssize_t gnutls_record_recv_seq(gnutls_session_t s, void *data, size_t size, unsigned char *seq)
{
	struct call c;
	ssize_t n;

	tap_enter(&c, s, DIR_RX, HERE, __func__);
	n = REAL(c, gnutls_record_recv_seq) ? REAL(c, gnutls_record_recv_seq)(s, data, size, seq)
					    : GNUTLS_E_INTERNAL_ERROR;
	moved(&c, data, size, n, 0);
	return n;
}

ssize_t gnutls_record_recv_packet(gnutls_session_t s, gnutls_packet_t *packet)
{
	struct gnutls_datum d = {.data = NULL};
	struct call c;
	ssize_t n;

	tap_enter(&c, s, DIR_RX, HERE, __func__);
	n = REAL(c, gnutls_record_recv_packet) ? REAL(c, gnutls_record_recv_packet)(s, packet)
					       : GNUTLS_E_INTERNAL_ERROR;
	if (n > 0 && packet && *packet && c.handle && c.lib->gnutls_packet_get)
		c.lib->gnutls_packet_get(*packet, &d, NULL);
	moved(&c, d.data, d.size, n, 0);
	return n;
}

ssize_t gnutls_record_recv_early_data(gnutls_session_t s, void *data, size_t size)
{
	struct call c;
	ssize_t n;

	tap_enter(&c, s, DIR_RX, HERE, __func__);
	n = REAL(c, gnutls_record_recv_early_data) ? REAL(c, gnutls_record_recv_early_data)(s, data, size)
						   : GNUTLS_E_INTERNAL_ERROR;
	moved(&c, data, size, n, 0);
	return n;
}

/* A handshake is no data: agentd learns which socket it is about to see. */
int gnutls_handshake(gnutls_session_t s)
{
	struct site site = resolve(HERE, __func__, s);
	__typeof(&gnutls_handshake) real = site.lib ? site.lib->gnutls_handshake : (__typeof(real))site.real;

	tap_socket(site.lib, s);
	return real ? real(s) : GNUTLS_E_INTERNAL_ERROR;
}

int gnutls_bye(gnutls_session_t s, int how)
{
	struct site site = resolve(HERE, __func__, s);
	__typeof(&gnutls_bye) real = site.lib ? site.lib->gnutls_bye : (__typeof(real))site.real;
	int ret = real ? real(s, how) : GNUTLS_E_INTERNAL_ERROR;

	tap_close(site.lib, s, false);
	return ret;
}

void gnutls_deinit(gnutls_session_t s)
{
	struct site site = resolve(HERE, __func__, s);
	__typeof(&gnutls_deinit) real = site.lib ? site.lib->gnutls_deinit : (__typeof(real))site.real;

	tap_close(site.lib, s, true); /* before its address can be somebody else's */
	if (real)
		real(s);
}

/* --- facts ----------------------------------------------------------------------------------------- */

static uint64_t random8(const struct tls_lib *lib, const void *s)
{
	struct gnutls_datum c = {.data = NULL}, v;
	uint64_t r8 = 0;

	if (lib->gnutls_session_get_random)
		lib->gnutls_session_get_random(s, &c, &v);
	if (c.data && c.size == 32)
		memcpy(&r8, c.data, 8);
	return r8;
}

/* Before the ClientHello the random is zero, and until the handshake is over no call reports data, but for early ones:
 * whoever asks in between asks too early by nothing that matters. */
static bool ready(const struct tls_lib *lib, const void *s)
{
	return random8(lib, s) != 0;
}

static enum tls_early early(const struct tls_lib *lib, const void *s)
{
	uint8_t client[32], server[32];

	randoms(lib, s, client, server);
	if (!lib->gnutls_session_get_flags || is_zero(server))
		return TLS_EARLY_UNKNOWN;
	return lib->gnutls_session_get_flags(s) & SFLAGS_EARLY_DATA ? TLS_EARLY_ACCEPTED : TLS_EARLY_REJECTED;
}

/* Programs with push and pull functions of their own put pointers there: these are never looked into. */
static int fd_of(const struct tls_lib *lib, const void *s)
{
	void *in = (void *)-1, *out = (void *)-1;

	if (lib->gnutls_transport_get_ptr2)
		lib->gnutls_transport_get_ptr2(s, &in, &out);
	if ((uintptr_t)in < FD_MAX)
		return (int)(uintptr_t)in;
	return (uintptr_t)out < FD_MAX ? (int)(uintptr_t)out : -1;
}

/* The name that a client sent; only a server may ask for it, and so tells its role. */
static size_t put_sni(const struct tls_lib *lib, const void *s, struct rec_open *o, uint8_t *to)
{
	size_t n = REC_NAME_MAX + 1; /* with a final NUL */
	unsigned type = 0;
	int ret = lib->gnutls_server_name_get ? lib->gnutls_server_name_get(s, to, &n, &type, 0) : E_INVALID_REQUEST;

	if (ret != E_INVALID_REQUEST)
		o->flags |= REC_OPEN_SERVER;
	o->sni_len = ret == 0 && type == NAME_DNS && n <= REC_NAME_MAX ? (uint8_t)n : 0;
	return o->sni_len;
}

static size_t describe(const struct tls_lib *lib, const void *s, struct rec_open *o, uint8_t *ret_names)
{
	struct gnutls_datum alpn = {.data = NULL};
	int version = lib->gnutls_protocol_get_version ? lib->gnutls_protocol_get_version(s) : 0;
	size_t n = put_sni(lib, s, o, ret_names);

	randoms(lib, s, o->client_random, o->server_random);
	if (!is_zero(o->server_random))
		o->flags |= REC_OPEN_SERVER_RANDOM;
	if (version >= DTLS)
		o->flags |= REC_OPEN_NOT_TCP;
	else if (version >= SSL3)
		o->tls_version = (uint16_t)(0x0300 + version - SSL3);
	if (lib->gnutls_alpn_get_selected_protocol && lib->gnutls_alpn_get_selected_protocol(s, &alpn) == 0 &&
	    alpn.data && alpn.size && alpn.size <= TLS_NAMES_MAX - n && alpn.size <= REC_NAME_MAX) {
		memcpy(ret_names + n, alpn.data, alpn.size);
		o->alpn_len = (uint8_t)alpn.size;
		n += alpn.size;
	}
	return n;
}

const struct tls_facts gnutls_facts = {
	.lib = REC_LIB_GNUTLS,
	.random8 = random8,
	.ready = ready,
	.early = early,
	.fd = fd_of,
	.describe = describe,
};
