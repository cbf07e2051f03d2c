/* SPDX-License-Identifier: Apache-2.0 */
/* Both directions at once over non-blocking sockets with small buffers: WANT_READ and WANT_WRITE retries.
 * Nobody reads before its first WANT_WRITE, so that both see one.
 * ARGs: bytes each way (4 MiB), 1 = SSL_MODE_ENABLE_PARTIAL_WRITE (0), bytes per SSL_write (100000) */
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include <sys/socket.h>
#include <unistd.h>

#include "lib/snip.h"

static void side(struct snip *s)
{
	size_t total = (size_t)snip_arg(s, 0, 4 << 20), per = (size_t)snip_arg(s, 2, 100000), out = 0, in = 0;
	bool is_server = s->listener != -1, stuck = false;
	uint8_t *tx = snip_bytes(is_server, total), *want = snip_bytes(!is_server, total), *rx = malloc(total + 1);
	SSL_CTX *ctx = snip_ctx(s);
	int fd = snip_tcp(s), small = 100000, less_small = 200000;
	SSL *ssl = snip_ssl(s, ctx, fd);

	(void)setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &small, sizeof(small));
	(void)setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &less_small, sizeof(less_small));
	fcntl(fd, F_SETFL, O_NONBLOCK);
	if (snip_arg(s, 1, 0))
		SSL_set_mode(ssl, SSL_MODE_ENABLE_PARTIAL_WRITE);
	if (!is_server) { /* the server waits for the client's first bytes: both see WANT_READ */
		usleep(50000);
		if (snip_read(ssl, rx, total) > 0)
			snip_die("early answer");
	}
	while (out < total || in < total) {
		struct pollfd p = {.fd = fd};
		int r;

		if (out < total && (!is_server || in > 0)) {
			r = snip_write(ssl, tx + out, total - out < per ? total - out : per);
			if (r > 0)
				out += (size_t)r;
			else if (SSL_get_error(ssl, r) == SSL_ERROR_WANT_WRITE)
				p.events |= POLLOUT;
			else
				snip_die("SSL_write");
			if (r <= 0 && !stuck)
				usleep(is_server ? 200000
						 : 500000); /* nobody reads meanwhile: the other end gets stuck too */
			stuck |= r <= 0;
			if (r > 0 || !stuck)
				continue;
		}
		r = in < total ? snip_read(ssl, rx + in, total - in) : -1;
		if (r > 0) {
			in += (size_t)r;
			continue;
		}
		if (in < total)
			p.events |= POLLIN;
		(void)poll(&p, 1, 1000);
	}
	if (memcmp(rx, want, total) != 0)
		snip_die("differs");
	snip_say(s, "%zu out %zu in", out, in);
	fcntl(fd, F_SETFL, 0);
	snip_end(ssl);
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
