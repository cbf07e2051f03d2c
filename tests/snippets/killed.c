/* SPDX-License-Identifier: Apache-2.0 */
/* Workers that write all the time and are killed at random moments, by the hundred; the rest end by
 * themselves. The server drains what comes and does not mind.
 * ARGs: workers (300), at once (6), seed (1) */
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#include <sys/wait.h>

#include "lib/snip.h"

static void *drain(void *arg)
{
	SSL *ssl = arg;
	int fd = SSL_get_fd(ssl);
	char buf[16384];

	if (SSL_do_handshake(ssl) == 1) {
		while (SSL_read(ssl, buf, sizeof(buf)) > 0)
			;
	}
	ERR_clear_error();
	SSL_free(ssl);
	close(fd);
	return NULL;
}

static void server(struct snip *s)
{
	long n = snip_arg(s, 0, 300);
	SSL_CTX *ctx = snip_ctx(s);
	pthread_t *t = calloc((size_t)n, sizeof(*t));

	for (long i = 0; i < n; i++)
		pthread_create(&t[i], NULL, drain, snip_new(s, ctx, snip_tcp(s)));
	for (long i = 0; i < n; i++)
		pthread_join(t[i], NULL);
	snip_say(s, "%ld connections", n);
	free(t);
	SSL_CTX_free(ctx);
}

static void __attribute__((noreturn)) work(const struct snip *s, SSL_CTX *ctx, int fd, long rounds, unsigned seed)
{
	SSL *ssl = snip_ssl(s, ctx, fd);
	uint8_t *b = snip_bytes(seed, 70000);

	for (long i = 0; i < rounds; i++) {
		if (SSL_write(ssl, b, 1 + (int)((seed + (unsigned)i * 7919u) % 70000u)) <= 0)
			_exit(1);
	}
	snip_end(ssl);
	_exit(0);
}

static void client(struct snip *s)
{
	long left = snip_arg(s, 0, 300), at_once = snip_arg(s, 1, 6), killed = 0, ended = 0;
	unsigned seed = (unsigned)snip_arg(s, 2, 1);
	SSL_CTX *ctx = snip_ctx(s);

	while (left > 0) {
		pid_t pid[64];
		long n = left < at_once ? left : at_once < 64 ? at_once : 64;

		for (long i = 0; i < n; i++) {
			int fd = snip_tcp(s);

			pid[i] = fork();
			if (pid[i] == 0)
				work(s, ctx, fd, i == 0 ? 5 : 1 << 30, seed + (unsigned)i);
			close(fd);
		}
		for (long i = n - 1; i >= 0; i--) {
			int status;

			usleep((unsigned)rand_r(&seed) % 4000u);
			if (i > 0)
				kill(pid[i], SIGKILL);
			waitpid(pid[i], &status, 0);
			killed += WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
			ended += WIFEXITED(status) && WEXITSTATUS(status) == 0;
		}
		left -= n;
	}
	snip_say(s, "%ld killed, %ld ended", killed, ended);
	SSL_CTX_free(ctx);
}

int main(int argc, char **argv)
{
	snip_processes = true;
	snip_counts = snip_results = false;
	return snip_run(argc, argv, server, client);
}
