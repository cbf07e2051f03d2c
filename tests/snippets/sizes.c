/* SPDX-License-Identifier: Apache-2.0 */
/* Writes of given sizes, each in one SSL_write, both ways.
 * ARGs: sizes in bytes (1, 16384, 1048576, 104857600) */
#include <stdlib.h>

#include "lib/snip.h"

static const long sizes[] = {1, 16384, 1048576, 104857600};

static size_t n_sizes(const struct snip *s)
{
	return s->argc > 0 ? (size_t)s->argc : sizeof(sizes) / sizeof(sizes[0]);
}

static void write_all(const struct snip *s, SSL *ssl, uint64_t seed)
{
	for (size_t i = 0; i < n_sizes(s); i++) {
		size_t n = (size_t)snip_arg(s, (int)i, sizes[i % 4]);
		uint8_t *b = snip_bytes(seed + i, n);

		if (snip_write(ssl, b, n) != (int)n)
			snip_die("SSL_write");
		free(b);
	}
}

static void read_all(const struct snip *s, SSL *ssl, uint64_t seed)
{
	for (size_t i = 0; i < n_sizes(s); i++) {
		if (!snip_expect(ssl, seed + i, (size_t)snip_arg(s, (int)i, sizes[i % 4])))
			snip_die("differs");
	}
}

static void server(struct snip *s)
{
	SSL_CTX *ctx = snip_ctx(s);
	SSL *ssl = snip_ssl(s, ctx, snip_tcp(s));

	read_all(s, ssl, 1);
	write_all(s, ssl, 100);
	snip_end(ssl);
	SSL_CTX_free(ctx);
}

static void client(struct snip *s)
{
	SSL_CTX *ctx = snip_ctx(s);
	SSL *ssl = snip_ssl(s, ctx, snip_tcp(s));

	write_all(s, ssl, 1);
	read_all(s, ssl, 100);
	snip_end(ssl);
	SSL_CTX_free(ctx);
}

int main(int argc, char **argv)
{
	return snip_run(argc, argv, server, client);
}
