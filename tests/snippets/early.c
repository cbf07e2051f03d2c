/* SPDX-License-Identifier: Apache-2.0 */
/* Early data: a first connection for the ticket, then one whose early data the server takes (and answers
 * before the handshake is complete), then one whose early data it rejects, so that they are sent again. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/snip.h"

static SSL_SESSION *session;

static int on_session(SSL *ssl, SSL_SESSION *got)
{
	(void)ssl;
	SSL_SESSION_free(session);
	session = got;
	return 1;
}

static void write_early(const struct snip *s, SSL *ssl, const char *text)
{
	size_t n = 0;
	int r;

	snip_before();
	r = SSL_write_early_data(ssl, text, strlen(text), &n);
	snip_after("SSL_write_early_data", r, ssl);
	if (r == 1)
		snip_save(ssl, true, text, n);
	snip_say(s, "SSL_write_early_data %d %zu", r, n);
}

static void read_early(const struct snip *s, SSL *ssl)
{
	char buf[256];

	for (;;) {
		size_t n = 0;
		int r;

		snip_before();
		r = SSL_read_early_data(ssl, buf, sizeof(buf), &n);
		snip_after("SSL_read_early_data", r, ssl);
		snip_say(s, "SSL_read_early_data %d %zu", r, n);
		if (r == SSL_READ_EARLY_DATA_ERROR)
			snip_die("SSL_read_early_data");
		if (n > 0)
			snip_save(ssl, false, buf, n);
		if (r == SSL_READ_EARLY_DATA_FINISH)
			break;
		if (n > 0)
			write_early(s, ssl, "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nearly\n");
	}
}

static void request(SSL *ssl, const char *what)
{
	char text[128];
	int n = snprintf(text, sizeof(text), "GET /%s HTTP/1.1\r\nHost: snippet.test\r\n\r\n", what);

	if (snip_write(ssl, text, (size_t)n) != n)
		snip_die("request");
}

static void answer(SSL *ssl)
{
	static const char text[] = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nafter\n";
	char buf[256];

	if (snip_read(ssl, buf, sizeof(buf)) <= 0 || snip_write(ssl, text, sizeof(text) - 1) <= 0)
		snip_die("answer");
}

static void server(struct snip *s)
{
	SSL_CTX *ctx = snip_ctx(s);

	SSL_CTX_set_max_early_data(ctx, 16384);
	for (int i = 0; i < 3; i++) {
		SSL *ssl = snip_new(s, ctx, snip_tcp(s));

		if (i < 2) /* the third time nobody reads early data: the library skips them */
			read_early(s, ssl);
		snip_handshake(s, ssl);
		snip_say(s, "early data status %d", SSL_get_early_data_status(ssl));
		answer(ssl);
		snip_end(ssl);
	}
	SSL_CTX_free(ctx);
}

static void client(struct snip *s)
{
	SSL_CTX *ctx = snip_ctx(s);
	char buf[512];

	SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
	SSL_CTX_sess_set_new_cb(ctx, on_session);
	for (int i = 0; i < 3; i++) {
		SSL *ssl = snip_new(s, ctx, snip_tcp(s));

		if (i > 0) {
			SSL_set_session(ssl, session);
			write_early(s, ssl, "GET /early HTTP/1.1\r\nHost: snippet.test\r\n\r\n");
		}
		snip_handshake(s, ssl);
		snip_say(s, "early data status %d", SSL_get_early_data_status(ssl));
		if (i == 2 && SSL_get_early_data_status(ssl) == SSL_EARLY_DATA_REJECTED)
			request(ssl, "early");
		else
			request(ssl, "after");
		while (snip_read(ssl, buf, sizeof(buf)) > 0)
			;
		usleep(50000); /* whoever wants to look the socket up has time to */
		snip_end(ssl);
	}
	SSL_SESSION_free(session);
	SSL_CTX_free(ctx);
}

int main(int argc, char **argv)
{
	return snip_run(argc, argv, server, client);
}
