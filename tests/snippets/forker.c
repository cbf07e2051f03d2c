/* SPDX-License-Identifier: Apache-2.0 */
/* Fork after the first TLS call; the child goes on with the parent's connection.
 * ARGs: fork | clone (the raw system call) | own (the child makes a connection of its own besides) */
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <sys/syscall.h>
#include <sys/wait.h>

#include "lib/snip.h"

#define SIZE 5000

/* One exchange: the client begins. */
static void exchange(const struct snip *s, SSL *ssl, uint64_t seed)
{
	uint8_t *b = snip_bytes(s->listener != -1 ? seed + 1 : seed, SIZE);

	if (s->listener == -1 && !snip_write_all(ssl, b, SIZE))
		snip_die("request");
	if (!snip_expect(ssl, s->listener != -1 ? seed : seed + 1, SIZE))
		snip_die("differs");
	if (s->listener != -1 && !snip_write_all(ssl, b, SIZE))
		snip_die("answer");
	free(b);
}

static pid_t make_child(const char *how)
{
	fflush(NULL);
	if (strcmp(how, "clone") == 0)
		return (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
	return fork();
}

static void side(struct snip *s)
{
	const char *how = s->argc > 0 ? s->argv[0] : "fork";
	SSL_CTX *ctx = snip_ctx(s);
	int fd = snip_tcp(s), status = 0;
	SSL *ssl = snip_ssl(s, ctx, fd);
	pid_t pid;

	exchange(s, ssl, 1);
	exchange(s, ssl, 3);
	pid = make_child(how);
	if (pid == 0) {
		exchange(s, ssl, 5);
		if (strcmp(how, "own") == 0) {
			SSL *mine = snip_ssl(s, ctx, snip_tcp(s));

			exchange(s, mine, 7);
			snip_end(mine);
		}
		exchange(s, ssl, 9);
		usleep(50000); /* whoever wants to look the socket up has time to */
		snip_end(ssl);
		_exit(0);
	}
	/* The parent's handle goes at once and silently: the connection is the child's now. */
	SSL_set_quiet_shutdown(ssl, 1);
	SSL_free(ssl);
	close(fd);
	if (waitpid(pid, &status, 0) != pid)
		snip_die("waitpid");
	snip_say(s, "child's status %d", status);
	/* and makes another one */
	ssl = snip_ssl(s, ctx, snip_tcp(s));
	exchange(s, ssl, 11);
	snip_end(ssl);
	SSL_CTX_free(ctx);
}

int main(int argc, char **argv)
{
	snip_processes = true;
	return snip_run(argc, argv, side, side);
}
