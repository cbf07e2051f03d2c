/* SPDX-License-Identifier: Apache-2.0 */
/* sock.c - sockets as the daemons want them. */
#include "sock.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>
#include <unistd.h>

#define BACKLOG 512
#define BORN (SOCK_NONBLOCK | SOCK_CLOEXEC)

/* close(2) that leaves errno alone; @fd is what failed. Returns -errno. */
static int fail(int fd)
{
	int err = errno;

	if (fd != -1)
		(void)close(fd);
	return -err;
}

static int parse_port(const char *text, uint16_t *ret)
{
	unsigned long v = 0;

	if (!*text)
		return -EINVAL;
	for (; *text; text++) {
		if (*text < '0' || *text > '9')
			return -EINVAL;
		v = v * 10 + (unsigned long)(*text - '0');
		if (v > 65535)
			return -EINVAL;
	}
	if (v == 0)
		return -EINVAL;
	*ret = (uint16_t)v;
	return 0;
}

static bool is_ipv6(const char *host)
{
	struct in6_addr a;
	char plain[SOCK_HOST_MAX];

	/* inet_pton(3) knows no scope: fe80::1%eth0 */
	snprintf(plain, sizeof(plain), "%.*s", (int)strcspn(host, "%"), host);
	return inet_pton(AF_INET6, plain, &a) == 1;
}

int sock_parse(const char *text, uint16_t def_port, char ret_host[static SOCK_HOST_MAX], uint16_t *ret_port)
{
	const char *host = text, *end, *port = NULL;
	bool brackets = *text == '[';
	char buf[SOCK_HOST_MAX];
	uint16_t p = def_port;
	size_t len;

	if (brackets) {
		host = text + 1;
		end = strchr(host, ']');
		if (!end || (end[1] != '\0' && end[1] != ':'))
			return -EINVAL;
		if (end[1] == ':')
			port = end + 2;
	} else {
		end = strchr(text, ':');
		if (end && strchr(end + 1, ':')) /* a bare IPv6 address has no place for a port */
			end = NULL;
		if (end)
			port = end + 1;
		else
			end = text + strlen(text);
	}
	len = (size_t)(end - host);
	if (len == 0 || len >= sizeof(buf))
		return -EINVAL;
	memcpy(buf, host, len);
	buf[len] = '\0';
	for (size_t i = 0; i < len; i++) {
		if ((unsigned char)buf[i] <= ' ' || buf[i] == 0x7f || buf[i] == '[' || buf[i] == ']')
			return -EINVAL;
	}
	if ((brackets || strchr(buf, ':')) && !is_ipv6(buf))
		return -EINVAL;
	if (port ? parse_port(port, &p) != 0 : p == 0)
		return -EINVAL;
	memcpy(ret_host, buf, len + 1);
	*ret_port = p;
	return 0;
}

char *sock_str(const struct sockaddr *sa, socklen_t len, char ret[static SOCK_STRLEN])
{
	char a[INET6_ADDRSTRLEN];

	if (sa->sa_family == AF_INET && len >= sizeof(struct sockaddr_in)) {
		const struct sockaddr_in *in = (const void *)sa;

		inet_ntop(AF_INET, &in->sin_addr, a, sizeof(a));
		snprintf(ret, SOCK_STRLEN, "%s:%u", a, ntohs(in->sin_port));
	} else if (sa->sa_family == AF_INET6 && len >= sizeof(struct sockaddr_in6)) {
		const struct sockaddr_in6 *in6 = (const void *)sa;
		bool mapped = IN6_IS_ADDR_V4MAPPED(&in6->sin6_addr);

		if (mapped)
			inet_ntop(AF_INET, in6->sin6_addr.s6_addr + 12, a, sizeof(a));
		else
			inet_ntop(AF_INET6, &in6->sin6_addr, a, sizeof(a));
		snprintf(ret, SOCK_STRLEN, mapped ? "%s:%u" : "[%s]:%u", a, ntohs(in6->sin6_port));
	} else {
		snprintf(ret, SOCK_STRLEN, sa->sa_family == AF_UNIX ? "unix" : "?");
	}
	return ret;
}

static int unix_addr(const char *path, struct sockaddr_un *ret)
{
	size_t len = strlen(path);

	if (len == 0)
		return -EINVAL;
	if (len >= sizeof(ret->sun_path))
		return -ENAMETOOLONG;
	memset(ret, 0, sizeof(*ret));
	ret->sun_family = AF_UNIX;
	memcpy(ret->sun_path, path, len + 1);
	return 0;
}

/* Remove the socket file that a dead daemon left at @sun. 0, or -EADDRINUSE, -EEXIST, -errno. */
static int remove_stale(const struct sockaddr_un *sun, int type)
{
	struct stat st;
	int fd;

	if (lstat(sun->sun_path, &st) == -1)
		return errno == ENOENT ? 0 : -errno;
	if (!S_ISSOCK(st.st_mode))
		return -EEXIST;
	fd = sock_unix_connect(sun->sun_path, type);
	if (fd >= 0)
		(void)close(fd);
	if (fd != -ECONNREFUSED) /* a full queue, another type: somebody is there */
		return -EADDRINUSE;
	return unlink(sun->sun_path) == -1 && errno != ENOENT ? -errno : 0;
}

int sock_unix_listen(const char *path, int type, mode_t mode)
{
	struct sockaddr_un sun;
	int err = unix_addr(path, &sun), fd;

	if (err)
		return err;
	err = remove_stale(&sun, type);
	if (err)
		return err;
	fd = socket(AF_UNIX, type | BORN, 0);
	if (fd == -1)
		return -errno;
	/* The mode of the socket is the mode of its file: bind(2) applies the umask to it, and a umask of the whole
	 * process is not ours to change when threads run. */
	if (fchmod(fd, mode) == -1 || bind(fd, (struct sockaddr *)&sun, sizeof(sun)) == -1)
		return fail(fd);
	/* until listen(2) nobody gets in, whatever the mode */
	if (chmod(path, mode) == -1 || listen(fd, BACKLOG) == -1)
		return fail(fd);
	return fd;
}

int sock_unix_connect(const char *path, int type)
{
	struct sockaddr_un sun;
	int err = unix_addr(path, &sun), fd;

	if (err)
		return err;
	fd = socket(AF_UNIX, type | BORN, 0);
	if (fd == -1)
		return -errno;
	if (connect(fd, (struct sockaddr *)&sun, sizeof(sun)) == -1)
		return fail(fd);
	return fd;
}

int sock_peer(int fd, pid_t *ret_pid, uid_t *ret_uid, gid_t *ret_gid)
{
	struct ucred c;
	socklen_t len = sizeof(c);

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &c, &len) == -1)
		return -errno;
	*ret_pid = c.pid;
	*ret_uid = c.uid;
	*ret_gid = c.gid;
	return 0;
}

int sock_tcp_listen(const char *host, uint16_t port, bool reuse_port)
{
	struct sockaddr_in6 in6 = {.sin6_family = AF_INET6, .sin6_port = htons(port), .sin6_addr = in6addr_any};
	struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons(port)};
	bool v4 = host && inet_pton(AF_INET, host, &in.sin_addr) == 1;
	int one = 1, zero = 0, fd;

	if (host && !v4 && inet_pton(AF_INET6, host, &in6.sin6_addr) != 1)
		return -EINVAL;
	fd = socket(v4 ? AF_INET : AF_INET6, SOCK_STREAM | BORN, 0);
	if (fd == -1 && errno == EAFNOSUPPORT && !host) { /* a kernel without IPv6 */
		v4 = true;
		fd = socket(AF_INET, SOCK_STREAM | BORN, 0);
	}
	if (fd == -1)
		return -errno;
	if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) == -1)
		return fail(fd);
	if (reuse_port && setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &one, sizeof(one)) == -1)
		return fail(fd);
	if (!v4 && setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, host ? &one : &zero, sizeof(int)) == -1)
		return fail(fd);
	if (bind(fd, v4 ? (void *)&in : (void *)&in6, v4 ? sizeof(in) : sizeof(in6)) == -1 || listen(fd, BACKLOG) == -1)
		return fail(fd);
	return fd;
}

int sock_tcp_connect(const struct sockaddr *sa, socklen_t len)
{
	struct sockaddr_storage any = {.ss_family = sa->sa_family};
	int one = 1, fd = socket(sa->sa_family, SOCK_STREAM | BORN, 0);

	if (fd == -1)
		return -errno;
	(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	(void)bind(fd, (const struct sockaddr *)&any, len <= sizeof(any) ? len : sizeof(any));
	if (connect(fd, sa, len) == -1 && errno != EINPROGRESS)
		return fail(fd);
	return fd;
}

int sock_error(int fd)
{
	int err = 0;
	socklen_t len = sizeof(err);

	if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &err, &len) == -1)
		return -errno;
	return -err;
}

int sock_accept(int fd, struct sockaddr_storage *ret_sa, socklen_t *ret_len)
{
	struct sockaddr_storage sa;
	socklen_t len = sizeof(sa);
	int n = accept4(fd, (struct sockaddr *)&sa, &len, BORN);

	if (n == -1)
		return -errno;
	if (ret_sa)
		*ret_sa = sa;
	if (ret_len)
		*ret_len = len;
	return n;
}

int sock_send_fd(int fd, const void *data, size_t len, int pass)
{
	struct iovec iov = {.iov_base = (void *)(uintptr_t)data, .iov_len = len};
	union {
		struct cmsghdr h;
		char buf[CMSG_SPACE(sizeof(int))];
	} ctl = {0};
	struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1};
	ssize_t n;

	if (pass != -1) {
		m.msg_control = ctl.buf;
		m.msg_controllen = sizeof(ctl.buf);
		ctl.h.cmsg_level = SOL_SOCKET;
		ctl.h.cmsg_type = SCM_RIGHTS;
		ctl.h.cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(&ctl.h), &pass, sizeof(int));
	}
	do {
		n = sendmsg(fd, &m, MSG_NOSIGNAL);
	} while (n == -1 && errno == EINTR);
	if (n == -1)
		return -errno;
	return (size_t)n == len ? 0 : -EAGAIN;
}

/* Close the descriptors in @c except the first one there is, if *@passed is still -1. True if any was too many. */
static bool take_fds(struct cmsghdr *c, int *passed)
{
	size_t n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
	bool many = false;

	for (size_t i = 0; i < n; i++) {
		int got;

		memcpy(&got, CMSG_DATA(c) + i * sizeof(int), sizeof(int));
		if (*passed == -1) {
			*passed = got;
		} else {
			(void)close(got);
			many = true;
		}
	}
	return many;
}

ssize_t sock_recv_fd(int fd, void *data, size_t size, int *ret_passed)
{
	struct iovec iov = {.iov_base = data, .iov_len = size};
	union {
		struct cmsghdr h;
		char buf[CMSG_SPACE(4 * sizeof(int))];
	} ctl;
	struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = ctl.buf, .msg_controllen = sizeof(ctl.buf)};
	int passed = -1;
	bool bad;
	ssize_t n;

	do {
		n = recvmsg(fd, &m, MSG_CMSG_CLOEXEC);
	} while (n == -1 && errno == EINTR);
	if (n == -1)
		return -errno;
	bad = m.msg_flags & (MSG_TRUNC | MSG_CTRUNC);
	for (struct cmsghdr *c = CMSG_FIRSTHDR(&m); c; c = CMSG_NXTHDR(&m, c)) {
		if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS)
			bad |= take_fds(c, &passed);
	}
	if (bad) {
		if (passed != -1)
			(void)close(passed);
		return -EBADMSG;
	}
	*ret_passed = passed;
	return n;
}
