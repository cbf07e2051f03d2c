/* SPDX-License-Identifier: Apache-2.0 */
/* One reader and one writer thread per connection: pipelined HTTP requests, each answer names its request.
 * ARGs: requests (2000), at most so many unanswered (8) */
#include <pthread.h>
#include <semaphore.h>
#include <stdlib.h>
#include <string.h>

#include "lib/snip.h"

struct job {
	SSL *ssl;
	long n;
	sem_t may_write; /* client: places in the window; server: requests read and not answered */
};

/* Read a message head up to its empty line. */
static void read_head(SSL *ssl, char *buf, size_t size)
{
	size_t n = 0;

	while (n < 4 || memcmp(buf + n - 4, "\r\n\r\n", 4) != 0) {
		if (n + 1 >= size || snip_read(ssl, buf + n, 1) != 1)
			snip_die("head");
		n++;
	}
	buf[n] = '\0';
}

static void *server_reader(void *arg)
{
	struct job *j = arg;
	char head[256];

	for (long i = 0; i < j->n; i++) {
		long id = -1;

		read_head(j->ssl, head, sizeof(head));
		if (sscanf(head, "GET /%ld ", &id) != 1 || id != i)
			snip_die("request");
		sem_post(&j->may_write);
	}
	return NULL;
}

static void *server_writer(void *arg)
{
	struct job *j = arg;
	char text[256];

	for (long i = 0; i < j->n; i++) {
		char body[32];
		int n;

		sem_wait(&j->may_write);
		n = snprintf(body, sizeof(body), "answer %ld\n", i);
		n = snprintf(text, sizeof(text),
			     "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n%s", n, body);
		if (snip_write(j->ssl, text, (size_t)n) != n)
			snip_die("SSL_write");
	}
	return NULL;
}

static void *client_reader(void *arg)
{
	struct job *j = arg;
	char head[256], body[64], want[32];

	for (long i = 0; i < j->n; i++) {
		int n = snprintf(want, sizeof(want), "answer %ld\n", i);

		read_head(j->ssl, head, sizeof(head));
		if (!snip_read_all(j->ssl, body, (size_t)n) || memcmp(body, want, (size_t)n) != 0)
			snip_die("answer");
		sem_post(&j->may_write);
	}
	return NULL;
}

static void *client_writer(void *arg)
{
	struct job *j = arg;
	char text[256];

	for (long i = 0; i < j->n; i++) {
		int n = snprintf(text, sizeof(text), "GET /%ld HTTP/1.1\r\nHost: snippet.test\r\n\r\n", i);

		sem_wait(&j->may_write);
		if (snip_write(j->ssl, text, (size_t)n) != n)
			snip_die("SSL_write");
	}
	return NULL;
}

static void side(struct snip *s)
{
	bool is_server = s->listener != -1;
	SSL_CTX *ctx = snip_ctx(s);
	struct job j = {.n = snip_arg(s, 0, 2000)};
	pthread_t r, w;

	SSL_CTX_set_num_tickets(
		ctx, 0); /* a ticket would make SSL_read change what SSL_write uses: nothing to do with a tap */
	j.ssl = snip_ssl(s, ctx, snip_tcp(s));
	sem_init(&j.may_write, 0, is_server ? 0 : (unsigned)snip_arg(s, 1, 8));
	pthread_create(&r, NULL, is_server ? server_reader : client_reader, &j);
	pthread_create(&w, NULL, is_server ? server_writer : client_writer, &j);
	pthread_join(r, NULL);
	pthread_join(w, NULL);
	snip_end(j.ssl);
	SSL_CTX_free(ctx);
}

int main(int argc, char **argv)
{
	snip_results = false;
	return snip_run(argc, argv, side, side);
}
