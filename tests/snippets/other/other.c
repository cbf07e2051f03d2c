/* SPDX-License-Identifier: Apache-2.0 */
/* Sockets, files and what is said, for the small programs on other libraries. */
#include "other.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

static const size_t SIZES[] = {1, 100, 16384, 16385, 70000, 300000};
#define ROUNDS (sizeof(SIZES) / sizeof(SIZES[0]))
#define SMALL 4096 /* bytes that a socket which shall not wait may hold for sending */

bool other_server;
const char *other_mode = "";

static struct sockaddr_in address = {.sin_family = AF_INET};
static int listener = -1, connections;
static FILE *tx, *rx;

bool other_is(const char *mode)
{
	return strcmp(other_mode, mode) == 0;
}

void other_die(const char *what, long code)
{
	fprintf(stderr, "%s: %s: %ld (%lx), errno %d\n", other_server ? "server" : "client", what, code,
		code < 0 ? -(unsigned long)code : (unsigned long)code, errno);
	_exit(9);
}

void other_must(bool ok, const char *what)
{
	if (!ok)
		other_die(what, 0);
}

const char *other_file(const char *variable)
{
	const char *file = getenv(variable);

	other_must(file != NULL, variable);
	return file;
}

void other_init(int argc, char **argv)
{
	int on = 1;

	if (argc < 4 || (strcmp(argv[1], "server") != 0 && strcmp(argv[1], "client") != 0)) {
		fprintf(stderr, "usage: %s server|client ADDR PORT [ARG]\n", argv[0]);
		exit(2);
	}
	signal(SIGPIPE, SIG_IGN);
	other_server = strcmp(argv[1], "server") == 0;
	other_mode = argc > 4 ? argv[4] : "";
	address.sin_port = htons((uint16_t)atoi(argv[3]));
	other_must(inet_pton(AF_INET, argv[2], &address.sin_addr) == 1, "address");
	if (!other_server)
		return;
	listener = socket(AF_INET, SOCK_STREAM, 0);
	(void)setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	other_must(bind(listener, (void *)&address, sizeof(address)) == 0 && listen(listener, 64) == 0, "listen");
}

int other_tcp(void)
{
	int fd = -1, on = 1;

	if (other_server) {
		fd = accept(listener, NULL, NULL);
		other_must(fd != -1, "accept");
	}
	for (unsigned i = 0; fd == -1; i++) {
		fd = socket(AF_INET, SOCK_STREAM, 0);
		if (connect(fd, (void *)&address, sizeof(address)) == 0)
			break;
		other_must(i < 500, "connect");
		close(fd);
		fd = -1;
		usleep(20000);
	}
	(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	return fd;
}

int other_udp(void)
{
	struct sockaddr_in mine = address, peer = {.sin_family = AF_INET};
	socklen_t len = sizeof(peer);
	int fd = socket(AF_INET, SOCK_DGRAM, 0), tcp;
	char first;

	if (!other_server) {
		other_must(connect(fd, (void *)&address, sizeof(address)) == 0, "connect");
		tcp = other_tcp(); /* which the server ends when it has bound its socket */
		other_must(read(tcp, &first, 1) == 0, "read");
		close(tcp);
		return fd;
	}
	other_must(bind(fd, (void *)&mine, sizeof(mine)) == 0, "bind");
	close(other_tcp());
	other_must(recvfrom(fd, &first, 1, MSG_PEEK, (void *)&peer, &len) == 1, "recvfrom");
	other_must(connect(fd, (void *)&peer, len) == 0, "connect");
	return fd;
}

void other_nonblock(int fd)
{
	int size = SMALL;

	(void)setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
	other_must(fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK) == 0, "fcntl");
}

void other_wait(int fd, bool write)
{
	struct pollfd p = {.fd = fd, .events = write ? POLLOUT : POLLIN};

	other_must(poll(&p, 1, 20000) == 1, "poll");
}

void other_close(int fd)
{
	struct timeval patience = {.tv_sec = 5};
	char buf[4096];

	(void)fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) & ~O_NONBLOCK);
	(void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	(void)shutdown(fd, SHUT_WR);
	while (recv(fd, buf, sizeof(buf), 0) > 0)
		;
	close(fd);
}

static FILE *open_save(const char *kind)
{
	const char *dir = getenv("SNIP_SAVE");
	char path[512];
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s.%d.%d.%s", dir ? dir : "", other_server ? "server" : "client",
		 (int)getpid(), connections, kind);
	f = dir ? fopen(path, "we") : NULL;
	other_must(f || !dir, path);
	return f;
}

static void end_saves(void)
{
	if (tx)
		fclose(tx);
	if (rx)
		fclose(rx);
	tx = rx = NULL;
}

void other_begin(void)
{
	end_saves();
	tx = open_save("tx");
	rx = open_save("rx");
	connections++;
}

void other_save(bool write, const void *buf, size_t n)
{
	FILE *f = write ? tx : rx;

	if (f)
		fwrite(buf, 1, n, f);
}

static uint8_t *words(bool of_server, size_t n)
{
	uint8_t *b = malloc(n + 1);

	other_must(b != NULL, "memory");
	for (size_t i = 0; i < n; i++)
		b[i] = (uint8_t)(((unsigned)i * 2654435761u + (of_server ? 77u : 0u)) >> 13);
	return b;
}

static void say(const struct other_calls *calls, void *handle, const void *buf, size_t n)
{
	for (size_t done = 0; done < n;) {
		long k = calls->write(handle, (const uint8_t *)buf + done, n - done);

		other_save(true, (const uint8_t *)buf + done, (size_t)k);
		done += (size_t)k;
	}
}

static void hear(const struct other_calls *calls, void *handle, void *buf, size_t n)
{
	for (size_t done = 0; done < n;) {
		long k = calls->read(handle, (uint8_t *)buf + done, n - done);

		other_save(false, (uint8_t *)buf + done, (size_t)k);
		done += (size_t)k;
	}
}

void other_talk(const struct other_calls *calls, void *handle)
{
	for (size_t i = 0; i < 2 * ROUNDS; i++) {
		bool of_server = i % 2;
		size_t n = SIZES[i / 2];
		uint8_t *want = words(of_server, n), *got = malloc(n + 1);

		if (of_server == other_server) {
			say(calls, handle, want, n);
		} else {
			hear(calls, handle, got, n);
			other_must(memcmp(got, want, n) == 0, "what was heard");
		}
		free(want);
		free(got);
	}
}

void other_line(const struct other_calls *calls, void *handle, int hello)
{
	char line[64], want[64];

	for (int of_server = 0; of_server < 2; of_server++) {
		int n = snprintf(want, sizeof(want), "%s %d\n", of_server ? "answer" : "ask", hello);

		if (of_server == other_server) {
			say(calls, handle, want, (size_t)n);
		} else {
			hear(calls, handle, line, (size_t)n);
			other_must(memcmp(line, want, (size_t)n) == 0, "line");
		}
	}
}

static unsigned count_entries(const char *dir)
{
	DIR *d = opendir(dir);
	unsigned n = 0;

	while (d && readdir(d))
		n++;
	if (d)
		closedir(d);
	return n;
}

int other_done(void)
{
	const char *stay = getenv("SNIP_STAY");

	end_saves();
	for (unsigned i = 0; stay && access(stay, F_OK) == 0 && i < 3000; i++)
		usleep(10000);
	if (listener != -1)
		close(listener);
	printf("descriptors %u threads %u\n", count_entries("/proc/self/fd") - 3, count_entries("/proc/self/task") - 2);
	return fflush(stdout) != 0;
}
