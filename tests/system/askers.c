/* SPDX-License-Identifier: Apache-2.0 */
/* askers.c - processes that ask agentd for a mapping, as libtlstap does: askers SOCKET PROCESSES ROUNDS.
 * In each round all ask at once. Prints a line for each: microseconds, and 1 for a mapping, 0 for a refusal, 2 for no
 * answer within ATTACH_WAIT_MS. */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "common/attach.h"

struct result {
	unsigned us, what;
};

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

static unsigned ask(const char *path)
{
	struct attach_request req = {.magic = ATTACH_MAGIC, .abi = ATTACH_ABI, .pid = getpid()};
	struct attach_reply reply = {.magic = 0};
	struct sockaddr_un to = {.sun_family = AF_UNIX};
	char control[CMSG_SPACE(sizeof(int))];
	struct iovec iov = {.iov_base = &reply, .iov_len = sizeof(reply)};
	struct msghdr msg = {.msg_iov = &iov,
			     .msg_iovlen = 1,
			     .msg_control = control,
			     .msg_controllen = sizeof(control)};
	int s = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0);
	struct pollfd wait = {.fd = s, .events = POLLIN};

	strncpy(to.sun_path, path, sizeof(to.sun_path) - 1);
	if (connect(s, (struct sockaddr *)&to, sizeof(to)) == -1 || send(s, &req, sizeof(req), MSG_NOSIGNAL) == -1 ||
	    poll(&wait, 1, ATTACH_WAIT_MS) != 1 || recvmsg(s, &msg, MSG_DONTWAIT) != sizeof(reply))
		return 2;
	return reply.size && CMSG_FIRSTHDR(&msg);
}

static void round_of(const char *path, unsigned n, struct result *result)
{
	int go[2];
	char c;

	if (pipe(go) == -1)
		exit(2);
	for (unsigned i = 0; i < n; i++) {
		if (fork() == 0) {
			double begin;

			close(go[1]);
			(void)!read(go[0], &c, 1); /* until all are there */
			begin = now();
			result[i].what = ask(path);
			result[i].us = (unsigned)(now() - begin);
			_exit(0);
		}
	}
	usleep(200000);
	close(go[1]);
	while (wait(NULL) > 0)
		;
	close(go[0]);
	for (unsigned i = 0; i < n; i++)
		printf("%u %u\n", result[i].us, result[i].what);
}

int main(int argc, char **argv)
{
	unsigned n = argc == 4 ? (unsigned)atoi(argv[2]) : 0;
	struct result *result;

	if (!n)
		return 2;
	setvbuf(stdout, NULL, _IOFBF, 1 << 20);
	result = mmap(NULL, n * sizeof(*result), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (result == MAP_FAILED)
		return 2;
	for (int i = atoi(argv[3]); i > 0; i--) {
		round_of(argv[1], n, result);
		fflush(stdout);
	}
	return 0;
}
