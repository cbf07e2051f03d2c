/* SPDX-License-Identifier: Apache-2.0 */
/* TLS calls on threads whose stack is so small that what a tap needs of it shows.
 * ARGs: threads (8), bytes of stack beyond what threads need here anyhow (16384), exchanges (20) */
#include <limits.h>
#include <pthread.h>
#include <stdlib.h>

#include "lib/snip.h"

struct job {
	const struct snip *s;
	SSL *ssl;
	long rounds;
	uint8_t buf[16384];
};

static void *run(void *arg)
{
	struct job *j = arg;

	for (long i = 0; i < j->rounds; i++) {
		size_t n = sizeof(j->buf);

		if (j->s->listener == -1 && SSL_write(j->ssl, j->buf, (int)n) != (int)n)
			snip_die("SSL_write");
		for (size_t got = 0; got < n;) {
			int r = SSL_read(j->ssl, j->buf + got, (int)(n - got));

			if (r <= 0)
				snip_die("SSL_read");
			got += (size_t)r;
		}
		if (j->s->listener != -1 && SSL_write(j->ssl, j->buf, (int)n) != (int)n)
			snip_die("SSL_write");
	}
	return NULL;
}

static void side(struct snip *s)
{
	long threads = snip_arg(s, 0, 8), stack = snip_arg(s, 1, 16384);
	SSL_CTX *ctx = snip_ctx(s);
	struct job *j = calloc((size_t)threads, sizeof(*j));
	pthread_t *t = calloc((size_t)threads, sizeof(*t));
	pthread_attr_t a;

	pthread_attr_init(&a);
	if (pthread_attr_setstacksize(&a, (size_t)stack) != 0)
		snip_die("stack size");
	for (long i = 0; i < threads; i++) {
		j[i].s = s;
		j[i].rounds = snip_arg(s, 2, 20);
		j[i].ssl = snip_ssl(s, ctx, snip_tcp(s));
	}
	for (long i = 0; i < threads; i++) {
		if (pthread_create(&t[i], &a, run, &j[i]) != 0)
			snip_die("thread");
	}
	for (long i = 0; i < threads; i++) {
		pthread_join(t[i], NULL);
		snip_end(j[i].ssl);
	}
	snip_say(s, "%ld threads", threads);
	free(j);
	free(t);
	SSL_CTX_free(ctx);
}

int main(int argc, char **argv)
{
	return snip_run(argc, argv, side, side);
}
