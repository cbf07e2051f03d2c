/* SPDX-License-Identifier: Apache-2.0 */
/* SSL_sendfile of a temporary file. Without kernel TLS: "unsupported", and SSL_write instead.
 * ARGs: bytes (65536) */
#include <stdlib.h>
#include <unistd.h>

#include "lib/snip.h"

static void server(struct snip *s)
{
	size_t n = (size_t)snip_arg(s, 0, 65536), done = 0;
	SSL_CTX *ctx = snip_ctx(s);
	uint8_t *b = snip_bytes(3, n);
	FILE *f = tmpfile();
	int fd = f != NULL ? fileno(f) : -1;
	SSL *ssl;

	SSL_CTX_set_options(ctx, SSL_OP_ENABLE_KTLS);
	ssl = snip_ssl(s, ctx, snip_tcp(s));
	if (pwrite(fd, b, n, 0) != (ssize_t)n || !snip_write_all(ssl, "begin", 5))
		snip_die("begin");
	while (done < n) {
		ossl_ssize_t r;

		snip_before();
		r = SSL_sendfile(ssl, fd, (off_t)done, n - done, 0);
		snip_after("SSL_sendfile", r, ssl);
		if (r <= 0)
			break;
		done += (size_t)r;
	}
	snip_say(s, "%s", done == n ? "sent" : "unsupported");
	if (done < n && !snip_write_all(ssl, b + done, n - done))
		snip_die("SSL_write");
	snip_end(ssl);
	SSL_CTX_free(ctx);
	free(b);
	fclose(f);
}

static void client(struct snip *s)
{
	size_t n = (size_t)snip_arg(s, 0, 65536) + 5, got = 0;
	SSL_CTX *ctx = snip_ctx(s);
	char buf[16384];
	SSL *ssl;
	int r;

	ssl = snip_ssl(s, ctx, snip_tcp(s));
	while ((r = snip_read(ssl, buf, sizeof(buf))) > 0)
		got += (size_t)r;
	snip_say(s, "%s", got == n ? "all" : "not all");
	snip_end(ssl);
	SSL_CTX_free(ctx);
}

int main(int argc, char **argv)
{
	return snip_run(argc, argv, server, client);
}
