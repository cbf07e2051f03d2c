/* SPDX-License-Identifier: Apache-2.0 */
/* Netlink requests of sock_diag(7), and the multicast of destroyed sockets. What they say: sockdiag_parse.c. */
#include "sockdiag.h"

#include <assert.h>
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/uio.h>

#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>

/* A reply to one lookup is below 1 KiB; parts of a dump and multicasts fit a page or two. */
#define DATAGRAM_MAX 32768
#define DUMP_DATAGRAMS_MAX 256

int sockdiag_open(void)
{
	struct timeval patience = {.tv_sec = 1};
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_SOCK_DIAG);

	if (fd == -1)
		return -errno;
	(void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	return fd;
}

/* @filter: an attribute with @filter_len bytes of bytecode, or NULL. */
static int ask(int fd, const struct inet_diag_req_v2 *r, uint16_t flags, uint32_t seq, const void *filter,
	       size_t filter_len)
{
	struct {
		struct nlmsghdr h;
		struct inet_diag_req_v2 r;
	} m = {
		.h =
			{
				.nlmsg_len = (uint32_t)(sizeof(m) + filter_len),
				.nlmsg_type = SOCK_DIAG_BY_FAMILY,
				.nlmsg_flags = NLM_F_REQUEST | flags,
				.nlmsg_seq = seq,
			},
		.r = *r,
	};
	struct sockaddr_nl to = {.nl_family = AF_NETLINK};
	struct iovec iov[2] = {
		{.iov_base = &m, .iov_len = sizeof(m)},
		{.iov_base = (void *)(uintptr_t)filter, .iov_len = filter_len},
	};
	struct msghdr msg = {.msg_name = &to, .msg_namelen = sizeof(to), .msg_iov = iov, .msg_iovlen = 2};

	return sendmsg(fd, &msg, 0) == -1 ? -errno : 0;
}

/* Receive one datagram of the kernel's into @buf. Returns its length or -errno. */
static ssize_t receive(int fd, void *buf, size_t size, int flags)
{
	struct sockaddr_nl from = {.nl_pid = 0};
	socklen_t flen = sizeof(from);
	ssize_t n;

	do {
		flen = sizeof(from);
		n = recvfrom(fd, buf, size, flags | MSG_TRUNC, (void *)&from, &flen);
	} while (n == -1 && errno == EINTR);
	if (n == -1)
		return -errno;
	if ((size_t)n > size)
		return -EBADMSG;
	return flen >= sizeof(from) && from.nl_pid == 0 ? n : 0;
}

/* As receive(), but pass over what is left of an earlier question that was given up. */
static ssize_t receive_seq(int fd, void *buf, size_t size, uint32_t seq)
{
	for (unsigned i = 0; i < DUMP_DATAGRAMS_MAX; i++) {
		ssize_t n = receive(fd, buf, size, 0);
		struct nlmsghdr h;

		if (n < 0)
			return n;
		if ((size_t)n < sizeof(h))
			continue;
		memcpy(&h, buf, sizeof(h));
		if (h.nlmsg_seq == seq)
			return n;
	}
	return -EBADMSG;
}

static uint32_t next_seq(void)
{
	static uint32_t seq;

	return ++seq;
}

static void request_of(const struct endpoint *e, struct inet_diag_req_v2 *ret)
{
	*ret = (struct inet_diag_req_v2){
		.sdiag_family = e->ver == 4 ? AF_INET : AF_INET6,
		.sdiag_protocol = IPPROTO_TCP,
		.idiag_states = ~0u,
		.id =
			{
				.idiag_sport = htons(e->local_port),
				.idiag_dport = htons(e->remote_port),
				.idiag_if = e->ifindex,
				.idiag_cookie = {INET_DIAG_NOCOOKIE, INET_DIAG_NOCOOKIE},
			},
	};
	memcpy(ret->id.idiag_src, e->local, 16);
	memcpy(ret->id.idiag_dst, e->remote, 16);
}

int sockdiag_find(int fd, const struct endpoint *e, struct sockdiag_info *ret)
{
	struct inet_diag_req_v2 r;
	uint8_t buf[2048];
	uint32_t seq = next_seq();
	ssize_t n;
	int err;

	request_of(e, &r);
	err = ask(fd, &r, 0, seq, NULL, 0);
	if (err != 0)
		return err;
	n = receive_seq(fd, buf, sizeof(buf), seq);
	return n < 0 ? (int)n : sockdiag_find_parse(buf, (size_t)n, e, ret);
}

/* --- lists --- */

/* What a list is made of, and what for. */
struct list {
	struct inet_diag_req_v2 r;
	const void *filter;
	size_t filter_len;
	const struct endpoint *e; /* peers; NULL: listeners */
	bool remote;
	void *ret;
	size_t max;
};

/* Add one family's sockets to those @got that are there. Returns how many there are then, or -errno. */
static int list(int fd, const struct list *l, size_t got)
{
	static uint8_t buf[DATAGRAM_MAX];
	uint32_t seq = next_seq();
	bool done = false;
	int err = ask(fd, &l->r, NLM_F_DUMP, seq, l->filter, l->filter_len);

	/* to the end, even if @ret is full: else it would be in the way of the next question */
	for (unsigned i = 0; err >= 0 && !done && i < DUMP_DATAGRAMS_MAX; i++) {
		ssize_t n = receive_seq(fd, buf, sizeof(buf), seq);

		if (n < 0)
			err = (int)n;
		else if (l->e != NULL)
			err = sockdiag_peers_parse(buf, (size_t)n, l->e, l->remote, l->ret, got, l->max, &done);
		else
			err = sockdiag_listeners_parse(buf, (size_t)n, l->ret, got, l->max, &done);
		if (err >= 0)
			got = (size_t)err;
	}
	return err < 0 ? err : (int)got;
}

int sockdiag_listeners(int fd, struct sockdiag_listener *ret, size_t max)
{
	int got = 0;

	for (unsigned v6 = 0; v6 < 2 && got >= 0; v6++) {
		struct list l = {
			.r =
				{
					.sdiag_family = v6 ? AF_INET6 : AF_INET,
					.sdiag_protocol = IPPROTO_TCP,
					.idiag_states = 1u << TCP_LISTEN,
				},
			.ret = ret,
			.max = max,
		};

		got = list(fd, &l, (size_t)got);
	}
	return got;
}

/* The kernel's filter for one end: an attribute of one comparison. */
struct one_end {
	struct nlattr at;
	struct inet_diag_bc_op op;
	uint8_t cond[sizeof(struct inet_diag_hostcond) + 16]; /* with its address */
};

/* Returns its length in bytes. */
static size_t filter_of(const struct endpoint *e, bool remote, struct one_end *ret)
{
	struct inet_diag_hostcond cond = {
		.family = e->ver == 4 ? AF_INET : AF_INET6, /* AF_INET also finds mapped ones */
		.prefix_len = e->ver == 4 ? 32 : 128,
		.port = remote ? e->remote_port : e->local_port,
	};
	size_t addr = e->ver == 4 ? 4 : 16, code = sizeof(ret->op) + sizeof(cond) + addr;

	static_assert(offsetof(struct one_end, cond) == 8, "the kernel reads it without gaps");
	*ret = (struct one_end){
		.at = {.nla_len = (uint16_t)(sizeof(ret->at) + code), .nla_type = INET_DIAG_REQ_BYTECODE},
		.op =
			{
				.code = remote ? INET_DIAG_BC_D_COND : INET_DIAG_BC_S_COND,
				.yes = (uint8_t)code,			  /* the end: take it */
				.no = (uint16_t)(code + sizeof(ret->op)), /* beyond: not this one */
			},
	};
	memcpy(ret->cond, &cond, sizeof(cond));
	memcpy(ret->cond + sizeof(cond), remote ? e->remote : e->local, addr);
	return ret->at.nla_len;
}

int sockdiag_peers(int fd, const struct endpoint *e, bool remote, struct sockdiag_peer *ret, size_t max)
{
	struct one_end f;
	struct list l = {
		.r =
			{
				.sdiag_protocol = IPPROTO_TCP,
				.idiag_states = 1u << TCP_ESTABLISHED | 1u << TCP_FIN_WAIT1 | 1u << TCP_FIN_WAIT2 |
						1u << TCP_CLOSE_WAIT | 1u << TCP_LAST_ACK | 1u << TCP_CLOSING,
			},
		.filter = &f,
		.filter_len = filter_of(e, remote, &f),
		.e = e,
		.remote = remote,
		.ret = ret,
		.max = max,
	};
	int got = 0;

	if (e->ver == 4) {
		l.r.sdiag_family = AF_INET;
		got = list(fd, &l, 0);
	}
	if (got < 0)
		return got;
	l.r.sdiag_family = AF_INET6; /* of version 4: sockets with mapped addresses */
	return list(fd, &l, (size_t)got);
}

/* --- ends --- */

int sockdiag_destroy_open(int rcvbuf)
{
	struct sockaddr_nl a = {
		.nl_family = AF_NETLINK,
		.nl_groups = 1u << (SKNLGRP_INET_TCP_DESTROY - 1) | 1u << (SKNLGRP_INET6_TCP_DESTROY - 1),
	};
	int err, fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_SOCK_DIAG);

	if (fd == -1)
		return -errno;
	if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &rcvbuf, sizeof(rcvbuf)) == -1)
		(void)setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &rcvbuf, sizeof(rcvbuf));
	if (bind(fd, (void *)&a, sizeof(a)) == -1) {
		err = errno;
		close(fd);
		return -err;
	}
	return fd;
}

int sockdiag_destroy_read(int fd, struct sockdiag_destroyed *ret, size_t max)
{
	uint8_t buf[4096];
	ssize_t n = receive(fd, buf, sizeof(buf), MSG_DONTWAIT);

	return n < 0 ? (int)n : sockdiag_destroy_parse(buf, (size_t)n, ret, max);
}
