/* SPDX-License-Identifier: Apache-2.0 */
/* The client says close_notify after its request and goes on reading; the server answers, then closes.
 * ARGs: bytes of the answer (300000) */
#include <stdlib.h>

#include "lib/snip.h"

static void shut(const struct snip *s, SSL *ssl)
{
	int r;

	snip_before();
	r = SSL_shutdown(ssl);
	snip_after("SSL_shutdown", r, NULL);
	snip_say(s, "SSL_shutdown %d state %d", r, SSL_get_shutdown(ssl));
}

static void server(struct snip *s)
{
	size_t n = (size_t)snip_arg(s, 0, 300000);
	uint8_t *b = snip_bytes(7, n);
	SSL_CTX *ctx = snip_ctx(s);
	SSL *ssl = snip_ssl(s, ctx, snip_tcp(s));
	char buf[100];
	int r;

	while ((r = snip_read(ssl, buf, sizeof(buf))) > 0)
		;
	snip_say(s, "end %d", SSL_get_error(ssl, r));
	if (!snip_write_all(ssl, b, n))
		snip_die("answer");
	shut(s, ssl);
	snip_end(ssl);
	SSL_CTX_free(ctx);
	free(b);
}

static void client(struct snip *s)
{
	size_t n = (size_t)snip_arg(s, 0, 300000);
	SSL_CTX *ctx = snip_ctx(s);
	SSL *ssl = snip_ssl(s, ctx, snip_tcp(s));
	char c;

	if (!snip_write_all(ssl, "a request without an end\n", 25))
		snip_die("request");
	shut(s, ssl);
	if (!snip_expect(ssl, 7, n))
		snip_die("differs");
	snip_say(s, "end %d", snip_read(ssl, &c, 1));
	shut(s, ssl);
	snip_end(ssl);
	SSL_CTX_free(ctx);
}

int main(int argc, char **argv)
{
	return snip_run(argc, argv, server, client);
}
