/* SPDX-License-Identifier: Apache-2.0 */
/* Many short connections, one after the other: handles at addresses used before, and one handle used again
 * after SSL_clear. ARGs: connections (200), clear | new | mixed (mixed) */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/snip.h"

static void side(struct snip *s)
{
	long n = snip_arg(s, 0, 200);
	const char *how = s->argc > 1 ? s->argv[1] : "mixed";
	SSL_CTX *ctx = snip_ctx(s);
	SSL *kept = NULL;

	for (long i = 0; i < n; i++) {
		bool keep = strcmp(how, "clear") == 0 || (strcmp(how, "mixed") == 0 && i % 2 == 1);
		int fd = snip_tcp(s), len;
		char text[128];
		SSL *ssl;

		if (keep && kept != NULL) {
			ssl = kept;
			if (SSL_clear(ssl) != 1 || SSL_set_fd(ssl, fd) != 1)
				snip_die("SSL_clear");
			snip_again(s, ssl);
			snip_handshake(s, ssl);
		} else {
			ssl = snip_ssl(s, ctx, fd);
		}
		len = snprintf(text, sizeof(text), "GET /%ld HTTP/1.0\r\n\r\n", i);
		if (s->listener == -1) {
			char got[128];

			if (snip_write(ssl, text, (size_t)len) != len || snip_read(ssl, got, sizeof(got)) <= 0)
				snip_die("exchange");
		} else {
			char got[128];

			if (snip_read(ssl, got, sizeof(got)) != len || memcmp(got, text, (size_t)len) != 0)
				snip_die("request");
			len = snprintf(text, sizeof(text), "HTTP/1.0 200 OK\r\nContent-Length: 6\r\n\r\n%05ld\n", i);
			if (snip_write(ssl, text, (size_t)len) != len)
				snip_die("answer");
		}
		usleep(5000); /* a client's socket is proven while it exists */
		if (keep) {
			(void)SSL_shutdown(ssl);
			ERR_clear_error();
			snip_close(fd);
			kept = ssl;
		} else {
			snip_end(ssl);
		}
	}
	SSL_free(kept);
	SSL_CTX_free(ctx);
}

int main(int argc, char **argv)
{
	snip_results = false;
	return snip_run(argc, argv, side, side);
}
