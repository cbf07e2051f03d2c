/* SPDX-License-Identifier: Apache-2.0 */
/* The client calls SSL_write very often: run it under `strace -f -c`, tapped and not.
 * ARGs: calls (1000000), bytes per call (64) */
#include <stdlib.h>

#include "lib/snip.h"

static void server(struct snip *s)
{
	SSL_CTX *ctx = snip_ctx(s);
	SSL *ssl = snip_ssl(s, ctx, snip_tcp(s));
	static char buf[1 << 16];
	long long total = 0;
	int r;

	while ((r = SSL_read(ssl, buf, sizeof(buf))) > 0)
		total += r;
	snip_say(s, "%lld bytes", total);
	snip_end(ssl);
	SSL_CTX_free(ctx);
}

static void client(struct snip *s)
{
	long n = snip_arg(s, 0, 1000000), len = snip_arg(s, 1, 64);
	SSL_CTX *ctx = snip_ctx(s);
	SSL *ssl = snip_ssl(s, ctx, snip_tcp(s));
	uint8_t *b = snip_bytes(1, (size_t)len);

	for (long i = 0; i < n; i++) {
		if (SSL_write(ssl, b, (int)len) != len)
			snip_die("SSL_write");
	}
	snip_say(s, "%ld calls", n);
	free(b);
	snip_end(ssl);
	SSL_CTX_free(ctx);
}

int main(int argc, char **argv)
{
	return snip_run(argc, argv, server, client);
}
