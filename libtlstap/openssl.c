/* SPDX-License-Identifier: Apache-2.0 */
/* openssl.c - wrappers of OpenSSL's functions, and of those libraries that have the same: nothing else. */
#include "conn.h"
#include "hooks.h"
#include "resolve.h"

#define HERE __builtin_return_address(0)
/* The real function of call @c, by the type of hook @name. */
#define REAL(c, name) ((c).lib ? (c).lib->name : (__typeof(&name))(c).real)

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
	ok = REAL(c, SSL_read_ex) ? REAL(c, SSL_read_ex)(ssl, buf, num, readbytes) : 0;
	tap_leave(&c, buf, ok == 1 && readbytes ? *readbytes : 0, 0);
	return ok;
}

int SSL_write(SSL *ssl, const void *buf, int num)
{
	struct call c;
	int n;

	tap_enter(&c, ssl, DIR_TX, HERE, __func__);
	n = REAL(c, SSL_write) ? REAL(c, SSL_write)(ssl, buf, num) : -1;
	tap_leave(&c, buf, n > 0 ? (size_t)n : 0, 0);
	return n;
}

int SSL_write_ex(SSL *ssl, const void *buf, size_t num, size_t *written)
{
	struct call c;
	int ok;

	tap_enter(&c, ssl, DIR_TX, HERE, __func__);
	ok = REAL(c, SSL_write_ex) ? REAL(c, SSL_write_ex)(ssl, buf, num, written) : 0;
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
		  c.ssl && c.lib->SSL_is_server && c.lib->SSL_is_server(ssl) ? 0 : REC_F_EARLY);
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
HANDSHAKE(SSL_accept)

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
