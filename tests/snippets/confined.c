/* SPDX-License-Identifier: Apache-2.0 */
/* A program that confines itself: once it is connected, it installs a filter that kills whoever asks for a socket or
 * addresses. Then it does TLS. That the filter kills is tried in a child process.
 * ARGs: bytes of the exchange (100000) */
#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <unistd.h>

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <netinet/in.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "lib/snip.h"

#ifndef SECCOMP_RET_KILL_PROCESS
#define SECCOMP_RET_KILL_PROCESS 0x80000000u
#endif
#define KILL(number) \
	BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_##number, 0, 1), BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS)

static void confine(void)
{
	struct sock_filter filter[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		KILL(socket),
		KILL(connect),
		KILL(getsockname),
		KILL(getpeername),
		KILL(recvmsg),
		KILL(prctl),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog prog = {.len = sizeof(filter) / sizeof(filter[0]), .filter = filter};

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog) != 0)
		snip_die("filter");
}

static void prove(struct snip *s, int fd)
{
	struct sockaddr_storage a;
	socklen_t n = sizeof(a);
	int status = 0;
	pid_t pid = fork();

	if (pid == 0) {
		confine();
		(void)getsockname(fd, (struct sockaddr *)&a, &n);
		_exit(0);
	}
	if (pid == -1 || waitpid(pid, &status, 0) != pid || !WIFSIGNALED(status))
		snip_die("the filter does not kill");
	snip_say(s, "the filter kills by signal %d", WTERMSIG(status));
}

static void talk(struct snip *s)
{
	size_t n = (size_t)snip_arg(s, 0, 100000);
	uint8_t *b = snip_bytes(3, n);
	SSL_CTX *ctx = snip_ctx(s);
	int fd = snip_tcp(s);
	SSL *ssl;

	prove(s, fd);
	confine();
	ssl = snip_ssl(s, ctx, fd);
	if (s->listener == -1 && (!snip_write_all(ssl, b, n) || !snip_expect(ssl, 3, n)))
		snip_die("client");
	if (s->listener != -1 && (!snip_expect(ssl, 3, n) || !snip_write_all(ssl, b, n)))
		snip_die("server");
	snip_say(s, "exchanged %zu", n);
	snip_end(ssl);
	SSL_CTX_free(ctx);
	free(b);
}

int main(int argc, char **argv)
{
	return snip_run(argc, argv, talk, talk);
}
