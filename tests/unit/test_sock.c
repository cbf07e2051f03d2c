/* SPDX-License-Identifier: Apache-2.0 */
/* test_sock.c - addresses as people type them, unix sockets, passing descriptors. */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <arpa/inet.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/sock.h"

static char dir[] = "/tmp/test_sock.XXXXXX";
static char path[64];

static int open_fds(void)
{
	int n = 0;

	for (int fd = 0; fd < 256; fd++)
		n += fcntl(fd, F_GETFD) != -1;
	return n;
}

static void test_parse(void **state)
{
	static const struct {
		const char *text, *host;
		uint16_t def, port; /* port 0: refused */
	} t[] = {
		{"host", "host", 3005, 3005},
		{"host:1", "host", 3005, 1},
		{"192.0.2.1:65535", "192.0.2.1", 3005, 65535},
		{"2001:db8::1", "2001:db8::1", 3005, 3005},
		{"::", "::", 3005, 3005},
		{"[2001:db8::1]", "2001:db8::1", 3005, 3005},
		{"[2001:db8::1]:99", "2001:db8::1", 3005, 99},
		{"[fe80::1%eth0]:99", "fe80::1%eth0", 3005, 99},
		{"host:7", "host", 0, 7},
		{"host", "", 0, 0},
		{"", "", 3005, 0},
		{":80", "", 3005, 0},
		{"host:", "", 3005, 0},
		{"host:0", "", 3005, 0},
		{"host:65536", "", 3005, 0},
		{"host:99999999999999999999", "", 3005, 0},
		{"host:8a", "", 3005, 0},
		{"host:-1", "", 3005, 0},
		{"[host]:8", "", 3005, 0},
		{"[2001:db8::1", "", 3005, 0},
		{"[2001:db8::1]8", "", 3005, 0},
		{"[2001:db8::1]:", "", 3005, 0},
		{"[]:8", "", 3005, 0},
		{"a:b:c", "", 3005, 0},
		{"a b", "", 3005, 0},
		{"a\n", "", 3005, 0},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(t) / sizeof(t[0]); i++) {
		char host[SOCK_HOST_MAX] = "";
		uint16_t port = 0;
		int r = sock_parse(t[i].text, t[i].def, host, &port);

		if (r != (t[i].port ? 0 : -EINVAL) || port != t[i].port || strcmp(host, t[i].host) != 0)
			fail_msg("'%s': %d, '%s', %u", t[i].text, r, host, port);
	}
}

static void test_parse_long_host(void **state)
{
	char text[400], host[SOCK_HOST_MAX];
	uint16_t port;

	(void)state;
	memset(text, 'a', sizeof(text));
	text[SOCK_HOST_MAX] = '\0';
	assert_int_equal(sock_parse(text, 1, host, &port), -EINVAL);
	text[SOCK_HOST_MAX - 1] = '\0';
	assert_int_equal(sock_parse(text, 1, host, &port), 0);
}

static void test_str(void **state)
{
	struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons(80)};
	struct sockaddr_in6 in6 = {.sin6_family = AF_INET6, .sin6_port = htons(81)};
	struct sockaddr un = {.sa_family = AF_UNIX};
	char s[SOCK_STRLEN];

	(void)state;
	inet_pton(AF_INET, "192.0.2.7", &in.sin_addr);
	assert_string_equal(sock_str((void *)&in, sizeof(in), s), "192.0.2.7:80");
	assert_string_equal(sock_str((void *)&in, 4, s), "?");
	inet_pton(AF_INET6, "2001:db8::7", &in6.sin6_addr);
	assert_string_equal(sock_str((void *)&in6, sizeof(in6), s), "[2001:db8::7]:81");
	inet_pton(AF_INET6, "::ffff:192.0.2.8", &in6.sin6_addr);
	assert_string_equal(sock_str((void *)&in6, sizeof(in6), s), "192.0.2.8:81");
	assert_string_equal(sock_str(&un, sizeof(un), s), "unix");
}

static void test_unix_listen(void **state)
{
	struct stat st;
	int l, l2, c, a;
	pid_t pid;
	uid_t uid;
	gid_t gid;

	(void)state;
	assert_int_equal(sock_unix_connect(path, SOCK_SEQPACKET), -ENOENT);
	l = sock_unix_listen(path, SOCK_SEQPACKET, 0666);
	assert_true(l >= 0);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0666);
	assert_true(fcntl(l, F_GETFD) & FD_CLOEXEC);
	assert_true(fcntl(l, F_GETFL) & O_NONBLOCK);
	assert_int_equal(sock_accept(l, NULL, NULL), -EAGAIN);
	assert_int_equal(sock_unix_listen(path, SOCK_SEQPACKET, 0666), -EADDRINUSE);
	assert_int_equal(sock_unix_listen(path, SOCK_STREAM, 0666), -EADDRINUSE);
	while (sock_accept(l, NULL, NULL) >= 0)
		;
	c = sock_unix_connect(path, SOCK_SEQPACKET);
	assert_true(c >= 0);
	a = sock_accept(l, NULL, NULL);
	assert_true(a >= 0);
	assert_true(fcntl(a, F_GETFL) & O_NONBLOCK);
	assert_int_equal(sock_peer(a, &pid, &uid, &gid), 0);
	assert_int_equal(pid, getpid());
	assert_int_equal(uid, geteuid());
	close(l); /* dead, its file stays */
	l2 = sock_unix_listen(path, SOCK_SEQPACKET, 0600);
	assert_true(l2 >= 0);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
	close(l2);
	close(c);
	close(a);
	unlink(path);
}

static void test_unix_path(void **state)
{
	char long_path[200];
	FILE *f;

	(void)state;
	memset(long_path, 'x', sizeof(long_path) - 1);
	long_path[sizeof(long_path) - 1] = '\0';
	assert_int_equal(sock_unix_listen(long_path, SOCK_STREAM, 0600), -ENAMETOOLONG);
	assert_int_equal(sock_unix_connect(long_path, SOCK_STREAM), -ENAMETOOLONG);
	assert_int_equal(sock_unix_connect("", SOCK_STREAM), -EINVAL);
	assert_int_equal(sock_unix_listen("/nonexistent/x", SOCK_STREAM, 0600), -ENOENT);
	f = fopen(path, "w");
	assert_non_null(f);
	fclose(f);
	assert_int_equal(sock_unix_listen(path, SOCK_STREAM, 0600), -EEXIST); /* never removes what is no socket */
	unlink(path);
}

static void test_pass_descriptor(void **state)
{
	int sv[2], p[2], before = open_fds(), got = -2;
	char buf[16] = "";

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0, sv), 0);
	assert_int_equal(pipe(p), 0);
	assert_int_equal(sock_recv_fd(sv[1], buf, sizeof(buf), &got), -EAGAIN);
	assert_int_equal(sock_send_fd(sv[0], "abc", 3, p[1]), 0);
	assert_int_equal(sock_recv_fd(sv[1], buf, sizeof(buf), &got), 3);
	assert_memory_equal(buf, "abc", 3);
	assert_true(got >= 0 && got != p[1]);
	assert_true(fcntl(got, F_GETFD) & FD_CLOEXEC);
	assert_int_equal(write(got, "x", 1), 1);
	assert_int_equal(read(p[0], buf, 1), 1);
	close(got);
	assert_int_equal(sock_send_fd(sv[0], "d", 1, -1), 0);
	assert_int_equal(sock_recv_fd(sv[1], buf, sizeof(buf), &got), 1);
	assert_int_equal(got, -1);
	/* too long a message, with a descriptor: nothing stays open */
	assert_int_equal(sock_send_fd(sv[0], "0123456789abcdefgh", 18, p[1]), 0);
	assert_int_equal(sock_recv_fd(sv[1], buf, sizeof(buf), &got), -EBADMSG);
	close(sv[0]);
	assert_int_equal(sock_recv_fd(sv[1], buf, sizeof(buf), &got), 0);
	assert_int_equal(sock_send_fd(sv[1], "e", 1, -1), -EPIPE); /* and no SIGPIPE */
	close(sv[1]);
	close(p[0]);
	close(p[1]);
	assert_int_equal(open_fds(), before);
}

/* A peer that sends more descriptors than are asked for leaves none behind, be it 2 or 50. */
static void test_pass_too_many(void **state)
{
	static const size_t many[] = {2, 4, 5, 50};

	(void)state;
	for (size_t i = 0; i < 4; i++) {
		char ctl[CMSG_SPACE(50 * sizeof(int))] = {0}, data = 'x', buf[4];
		struct iovec iov = {&data, 1};
		struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = ctl};
		struct cmsghdr *c = (struct cmsghdr *)ctl;
		int sv[2], got, before = open_fds(), zero = 0;

		assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, sv), 0);
		m.msg_controllen = CMSG_SPACE(many[i] * sizeof(int));
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(many[i] * sizeof(int));
		for (size_t k = 0; k < many[i]; k++)
			memcpy(CMSG_DATA(c) + k * sizeof(int), &zero, sizeof(int));
		assert_int_equal(sendmsg(sv[0], &m, 0), 1);
		assert_int_equal(sock_recv_fd(sv[1], buf, sizeof(buf), &got), -EBADMSG);
		close(sv[0]);
		close(sv[1]);
		assert_int_equal(open_fds(), before);
	}
}

static uint16_t port_of(int fd)
{
	struct sockaddr_storage ss;
	socklen_t len = sizeof(ss);

	assert_int_equal(getsockname(fd, (void *)&ss, &len), 0);
	return ntohs(ss.ss_family == AF_INET ? ((struct sockaddr_in *)&ss)->sin_port
					     : ((struct sockaddr_in6 *)&ss)->sin6_port);
}

static void test_tcp(void **state)
{
	int l = sock_tcp_listen("127.0.0.1", 0, false), c, a;
	struct sockaddr_in to = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	struct sockaddr_storage from;
	socklen_t len;
	struct pollfd p;

	(void)state;
	assert_true(l >= 0);
	to.sin_port = htons(port_of(l));
	assert_int_equal(sock_tcp_listen("127.0.0.1", port_of(l), false), -EADDRINUSE);
	c = sock_tcp_connect((void *)&to, sizeof(to));
	assert_true(c >= 0);
	p = (struct pollfd){.fd = c, .events = POLLOUT};
	assert_int_equal(poll(&p, 1, 5000), 1);
	assert_int_equal(sock_error(c), 0);
	a = sock_accept(l, &from, &len);
	assert_true(a >= 0);
	assert_int_equal(ntohs(((struct sockaddr_in *)&from)->sin_port), port_of(c));
	close(a);
	close(c);
	close(l);
	c = sock_tcp_connect((void *)&to, sizeof(to)); /* nobody there any more */
	if (c >= 0) {
		p.fd = c;
		assert_int_equal(poll(&p, 1, 5000), 1);
		assert_int_equal(sock_error(c), -ECONNREFUSED);
		close(c);
	} else {
		assert_int_equal(c, -ECONNREFUSED);
	}
}

static void test_tcp_listen(void **state)
{
	int a, b;

	(void)state;
	assert_int_equal(sock_tcp_listen("localhost", 1, false), -EINVAL);
	a = sock_tcp_listen(NULL, 0, true);
	assert_true(a >= 0);
	b = sock_tcp_listen(NULL, port_of(a), true);
	assert_true(b >= 0);
	close(a);
	close(b);
	a = sock_tcp_listen("::1", 0, false);
	assert_true(a >= 0 || a == -EADDRNOTAVAIL || a == -EAFNOSUPPORT);
	if (a >= 0)
		close(a);
}

static int setup(void **state)
{
	(void)state;
	if (!mkdtemp(dir))
		return -1;
	snprintf(path, sizeof(path), "%s/s", dir);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	return rmdir(dir);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_parse),	      cmocka_unit_test(test_parse_long_host),
		cmocka_unit_test(test_str),	      cmocka_unit_test(test_unix_listen),
		cmocka_unit_test(test_unix_path),     cmocka_unit_test(test_pass_descriptor),
		cmocka_unit_test(test_pass_too_many), cmocka_unit_test(test_tcp),
		cmocka_unit_test(test_tcp_listen),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
