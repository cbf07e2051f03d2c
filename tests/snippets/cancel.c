/* SPDX-License-Identifier: Apache-2.0 */
/* Threads cancelled inside SSL_write and SSL_read; the process then goes on with other connections.
 * The server answers whatever comes. ARGs: rounds (20), threads per round (4) */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/snip.h"

static void *echo(void *arg)
{
	SSL *ssl = arg;
	char buf[4096];
	int r;

	while ((r = SSL_read(ssl, buf, sizeof(buf))) > 0) {
		if (SSL_write(ssl, buf, r) <= 0)
			break;
	}
	snip_end(ssl);
	return NULL;
}

static void server(struct snip *s)
{
	long n = snip_arg(s, 0, 20) * snip_arg(s, 1, 4) + 1;
	SSL_CTX *ctx = snip_ctx(s);
	pthread_t *t = calloc((size_t)n, sizeof(*t));

	for (long i = 0; i < n; i++)
		pthread_create(&t[i], NULL, echo, snip_ssl(s, ctx, snip_tcp(s)));
	for (long i = 0; i < n; i++)
		pthread_join(t[i], NULL);
	snip_say(s, "%ld connections", n);
	free(t);
	SSL_CTX_free(ctx);
}

static void *storm(void *arg)
{
	SSL *ssl = arg;
	char buf[1000];

	memset(buf, 'x', sizeof(buf));
	for (;;) {
		if (SSL_write(ssl, buf, sizeof(buf)) <= 0 || SSL_read(ssl, buf, sizeof(buf)) <= 0)
			return NULL;
	}
}

static void client(struct snip *s)
{
	long rounds = snip_arg(s, 0, 20), n = snip_arg(s, 1, 4), cancelled = 0;
	SSL_CTX *ctx = snip_ctx(s);
	SSL **ssl = calloc((size_t)n, sizeof(SSL *));
	pthread_t *t = calloc((size_t)n, sizeof(*t));
	char buf[6] = "after";

	for (long k = 0; k < rounds; k++) {
		for (long i = 0; i < n; i++) {
			ssl[i] = snip_ssl(s, ctx, snip_tcp(s));
			pthread_create(&t[i], NULL, storm, ssl[i]);
		}
		usleep(500 * (unsigned)(k % 7));
		for (long i = 0; i < n; i++) {
			void *r;

			pthread_cancel(t[i]);
			pthread_join(t[i], &r);
			cancelled += r == PTHREAD_CANCELED;
			close(SSL_get_fd(ssl[i])); /* the handle may be in any state: it is left as it is */
		}
	}
	snip_say(s, "%ld cancelled", cancelled);
	ssl[0] = snip_ssl(s, ctx, snip_tcp(s));
	if (!snip_write_all(ssl[0], buf, 5) || !snip_read_all(ssl[0], buf, 5))
		snip_die("afterwards");
	snip_end(ssl[0]);
	free(ssl);
	free(t);
}

int main(int argc, char **argv)
{
	snip_counts = snip_results = false;
	return snip_run(argc, argv, server, client);
}
