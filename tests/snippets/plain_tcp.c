/* SPDX-License-Identifier: Apache-2.0 */
/* A program without any TLS library: a tap must leave nothing in it but its own mapped file.
 *   plain_tcp     talks to itself over the loopback interface, then says what it holds */
#include <dirent.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

static unsigned count_entries(const char *dir)
{
	DIR *d = opendir(dir);
	unsigned n = 0;

	while (d != NULL && readdir(d) != NULL)
		n++;
	if (d != NULL)
		closedir(d);
	return n;
}

int main(void)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t n = sizeof(a);
	int l = socket(AF_INET, SOCK_STREAM, 0), c = socket(AF_INET, SOCK_STREAM, 0), s;
	char buf[16] = "";
	FILE *maps;
	char line[4096];
	unsigned shared = 0;

	if (bind(l, (void *)&a, n) != 0 || listen(l, 1) != 0 || getsockname(l, (void *)&a, &n) != 0 ||
	    connect(c, (void *)&a, n) != 0 || (s = accept(l, NULL, NULL)) == -1)
		return 1;
	for (int i = 0; i < 1000; i++) {
		if (write(c, "hello", 5) != 5 || read(s, buf, sizeof(buf)) != 5)
			return 1;
	}
	close(c);
	close(s);
	close(l);
	maps = fopen("/proc/self/maps", "r");
	while (maps != NULL && fgets(line, sizeof(line), maps) != NULL)
		shared += strstr(line, "memfd:") != NULL;
	if (maps != NULL)
		fclose(maps);
	printf("%s descriptors %u threads %u shared mappings %u\n", buf, count_entries("/proc/self/fd") - 3,
	       count_entries("/proc/self/task") - 2, shared);
	return 0;
}
