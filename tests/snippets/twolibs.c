/* SPDX-License-Identifier: Apache-2.0 */
/* Two different libssl, or libgnutls, in one process, each loaded by a plugin with RTLD_LOCAL; both talk at the same
 * time.
 *   twolibs server|client ADDR PORT [ROUNDS [gnutls]]     plugin A at PORT, plugin B at PORT + 1 */
#include <dlfcn.h>
#include <limits.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

typedef int (*plugin_fn)(int fd, int is_server, int rounds, const char *name, char *ret, size_t size);

struct job {
	const char *name, *addr;
	void *library;
	int port, is_server, rounds;
	char result[128];
};

static void die(const char *what)
{
	fprintf(stderr, "twolibs: %s\n", what);
	_exit(9);
}

static int tcp(const struct job *j)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((uint16_t)j->port)};
	int on = 1, fd, l;

	inet_pton(AF_INET, j->addr, &a.sin_addr);
	if (j->is_server) {
		l = socket(AF_INET, SOCK_STREAM, 0);
		setsockopt(l, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
		if (bind(l, (void *)&a, sizeof(a)) != 0 || listen(l, 1) != 0)
			die("listen");
		fd = accept(l, NULL, NULL);
		close(l);
		return fd;
	}
	for (int i = 0; i < 500; i++) {
		fd = socket(AF_INET, SOCK_STREAM, 0);
		if (connect(fd, (void *)&a, sizeof(a)) == 0)
			return fd;
		close(fd);
		usleep(20000);
	}
	die("connect");
	return -1;
}

static void *run(void *arg)
{
	struct job *j = arg;
	plugin_fn f = (plugin_fn)(uintptr_t)dlsym(j->library, "plugin_run");
	int fd = tcp(j);

	if (f == NULL)
		die("no plugin_run");
	f(fd, j->is_server, j->rounds, j->name, j->result, sizeof(j->result));
	close(fd);
	return NULL;
}

static void *load(const char *dir, const char *file)
{
	char path[PATH_MAX + 32];
	void *h;

	snprintf(path, sizeof(path), "%s/%s", dir, file);
	h = dlopen(path, RTLD_NOW | RTLD_LOCAL);
	if (h == NULL)
		die(dlerror());
	return h;
}

static unsigned count_libraries(const char *name)
{
	FILE *f = fopen("/proc/self/maps", "r");
	unsigned n = 0;
	char line[4096];

	while (f != NULL && fgets(line, sizeof(line), f) != NULL)
		n += strstr(line, name) != NULL && strstr(line, "r-xp") != NULL;
	if (f != NULL)
		fclose(f);
	return n;
}

int main(int argc, char **argv)
{
	struct job a = {.name = "A"}, b = {.name = "B"};
	char dir[PATH_MAX];
	bool gnutls = argc > 5 && strcmp(argv[5], "gnutls") == 0;
	pthread_t ta, tb;
	ssize_t n = readlink("/proc/self/exe", dir, sizeof(dir) - 1);

	if (argc < 4 || n <= 0) {
		fprintf(stderr, "usage: %s server|client ADDR PORT [ROUNDS [gnutls]]\n", argv[0]);
		return 2;
	}
	dir[n] = '\0';
	*strrchr(dir, '/') = '\0';
	a.is_server = b.is_server = strcmp(argv[1], "server") == 0;
	a.addr = b.addr = argv[2];
	a.port = atoi(argv[3]);
	b.port = a.port + 1;
	a.rounds = b.rounds = argc > 4 ? atoi(argv[4]) : 100;
	a.library = load(dir, gnutls ? "gplugin-a.so" : "plugin-a.so");
	b.library = load(dir, gnutls ? "gplugin-b.so" : "plugin-b.so");
	pthread_create(&ta, NULL, run, &a);
	pthread_create(&tb, NULL, run, &b);
	pthread_join(ta, NULL);
	pthread_join(tb, NULL);
	printf("%s\n%s\nlibraries %u\n", a.result, b.result, count_libraries(gnutls ? "/libgnutl" : "/libss"));
	return 0;
}
