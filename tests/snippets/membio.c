/* SPDX-License-Identifier: Apache-2.0 */
/* TLS through memory BIOs; the program itself moves the records between them and the socket.
 * ARGs: bytes each way (100000) */
#include <stdlib.h>
#include <string.h>

#include <sys/socket.h>

#include "lib/snip.h"

static void send_out(SSL *ssl, int fd)
{
	char *p;
	long n = BIO_get_mem_data(SSL_get_wbio(ssl), &p);

	for (long off = 0; off < n;) {
		ssize_t r = send(fd, p + off, (size_t)(n - off), 0);

		if (r <= 0)
			snip_die("send");
		off += r;
	}
	(void)BIO_reset(SSL_get_wbio(ssl));
}

static bool take_in(SSL *ssl, int fd)
{
	char buf[16384];
	ssize_t r = recv(fd, buf, sizeof(buf), 0);

	return r > 0 && BIO_write(SSL_get_rbio(ssl), buf, (int)r) == (int)r;
}

static void side(struct snip *s)
{
	size_t n = (size_t)snip_arg(s, 0, 100000), in = 0;
	bool is_server = s->listener != -1;
	uint8_t *tx = snip_bytes(is_server, n), *want = snip_bytes(!is_server, n), *rx = malloc(n + 1);
	SSL_CTX *ctx = snip_ctx(s);
	int fd = snip_tcp(s), r;
	SSL *ssl = snip_new(s, ctx, fd);

	SSL_set_bio(ssl, BIO_new(BIO_s_mem()), BIO_new(BIO_s_mem()));
	while ((r = SSL_do_handshake(ssl)) != 1) {
		if (SSL_get_error(ssl, r) != SSL_ERROR_WANT_READ)
			snip_die("handshake");
		send_out(ssl, fd);
		if (!take_in(ssl, fd))
			snip_die("recv");
	}
	if (snip_write(ssl, tx, n) != (int)n)
		snip_die("SSL_write");
	send_out(ssl, fd);
	while (in < n) {
		r = snip_read(ssl, rx + in, n - in);
		if (r > 0)
			in += (size_t)r;
		else if (SSL_get_error(ssl, r) != SSL_ERROR_WANT_READ || !take_in(ssl, fd))
			snip_die("SSL_read");
	}
	if (memcmp(rx, want, n) != 0)
		snip_die("differs");
	snip_end(ssl);
	snip_close(fd);
	SSL_CTX_free(ctx);
	free(tx);
	free(rx);
	free(want);
}

int main(int argc, char **argv)
{
	snip_counts = snip_results = false;
	return snip_run(argc, argv, side, side);
}
