/* SPDX-License-Identifier: Apache-2.0 */
/* Netlink requests and answers of sock_diag(7), and the multicast of destroyed sockets. */
#include "sockdiag.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>

#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>

/* A reply to one lookup is below 1 KiB; parts of a dump and multicasts fit a page or two. */
#define DATAGRAM_MAX 32768
#define DUMP_DATAGRAMS_MAX 256

static const uint8_t mapped_prefix[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};

/* --- addresses --- */

static bool is_mapped(const uint8_t a[static 16])
{
	return memcmp(a, mapped_prefix, sizeof(mapped_prefix)) == 0;
}

static void unmap(uint8_t a[static 16])
{
	memmove(a, a + 12, 4);
	memset(a + 4, 0, 12);
}

bool endpoint_normalise(struct endpoint *e)
{
	memset(e->pad, 0, sizeof(e->pad));
	if (e->local_port == 0 || e->remote_port == 0)
		return false;
	if (e->ver == 4) {
		memset(e->local + 4, 0, 12);
		memset(e->remote + 4, 0, 12);
		e->ifindex = 0;
		return true;
	}
	if (e->ver != 6 || is_mapped(e->local) != is_mapped(e->remote))
		return false;
	if (is_mapped(e->local)) {
		unmap(e->local);
		unmap(e->remote);
		e->ver = 4;
		e->ifindex = 0;
	}
	return true;
}

int endpoint_set(struct endpoint *ret, const struct sockaddr *local, const struct sockaddr *remote)
{
	struct endpoint e = {.ver = 0};

	if (local->sa_family != remote->sa_family)
		return -EAFNOSUPPORT;
	if (local->sa_family == AF_INET) {
		const struct sockaddr_in *l = (const void *)local, *r = (const void *)remote;

		e.ver = 4;
		memcpy(e.local, &l->sin_addr, 4);
		memcpy(e.remote, &r->sin_addr, 4);
		e.local_port = ntohs(l->sin_port);
		e.remote_port = ntohs(r->sin_port);
	} else if (local->sa_family == AF_INET6) {
		const struct sockaddr_in6 *l = (const void *)local, *r = (const void *)remote;

		e.ver = 6;
		memcpy(e.local, &l->sin6_addr, 16);
		memcpy(e.remote, &r->sin6_addr, 16);
		e.local_port = ntohs(l->sin6_port);
		e.remote_port = ntohs(r->sin6_port);
		e.ifindex = l->sin6_scope_id;
	}
	if (!endpoint_normalise(&e))
		return -EAFNOSUPPORT;
	*ret = e;
	return 0;
}

bool endpoint_same(const struct endpoint *a, const struct endpoint *b)
{
	return a->ver == b->ver && a->local_port == b->local_port && a->remote_port == b->remote_port &&
	       memcmp(a->local, b->local, 16) == 0 && memcmp(a->remote, b->remote, 16) == 0;
}

uint64_t endpoint_hash(const struct endpoint *e, uint64_t seed)
{
	uint64_t w[5], h = seed;

	memcpy(w, e->local, 16);
	memcpy(w + 2, e->remote, 16);
	w[4] = (uint64_t)e->local_port << 32 | (uint64_t)e->remote_port << 8 | e->ver;
	for (size_t i = 0; i < 5; i++) {
		h ^= w[i];
		h *= 0x9e3779b97f4a7c15u;
		h ^= h >> 29;
		h += seed;
	}
	h *= 0xd6e8feb86659fd93u;
	return h ^ h >> 32;
}

/* --- messages --- */

struct msgs {
	const uint8_t *p;
	size_t left;
};

/* Take the next message off @m. Returns false at the end, or when the rest is no whole message. */
static bool next_msg(struct msgs *m, struct nlmsghdr *ret_h, const uint8_t **ret_body, size_t *ret_len)
{
	size_t step;

	if (m->left < sizeof(*ret_h))
		return false;
	memcpy(ret_h, m->p, sizeof(*ret_h));
	if (ret_h->nlmsg_len < sizeof(*ret_h) || ret_h->nlmsg_len > m->left)
		return false;
	*ret_body = m->p + sizeof(*ret_h);
	*ret_len = ret_h->nlmsg_len - sizeof(*ret_h);
	step = NLMSG_ALIGN((size_t)ret_h->nlmsg_len);
	if (step > m->left)
		step = m->left;
	m->p += step;
	m->left -= step;
	return true;
}

/* What NLMSG_ERROR says: 0 or -errno; a positive number or a short message is -EBADMSG. */
static int error_of(const uint8_t *body, size_t len)
{
	int32_t err;

	if (len < sizeof(err))
		return -EBADMSG;
	memcpy(&err, body, sizeof(err));
	return err > 0 || err < -4095 ? -EBADMSG : err;
}

/* One struct inet_diag_msg. The socket may have no remote end (it listens). */
static bool diag_of(const uint8_t *body, size_t len, struct inet_diag_msg *ret_m, struct endpoint *ret_e)
{
	struct inet_diag_msg m;
	struct endpoint e = {.ver = 0};

	if (len < sizeof(m))
		return false;
	memcpy(&m, body, sizeof(m));
	if (m.idiag_family != AF_INET && m.idiag_family != AF_INET6)
		return false;
	e.ver = m.idiag_family == AF_INET ? 4 : 6;
	memcpy(e.local, m.id.idiag_src, e.ver == 4 ? 4 : 16);
	memcpy(e.remote, m.id.idiag_dst, e.ver == 4 ? 4 : 16);
	e.local_port = ntohs(m.id.idiag_sport);
	e.remote_port = ntohs(m.id.idiag_dport);
	e.ifindex = e.ver == 6 ? m.id.idiag_if : 0;
	*ret_m = m;
	*ret_e = e;
	return true;
}

static uint64_t cookie_of(const struct inet_diag_msg *m)
{
	return (uint64_t)m->id.idiag_cookie[1] << 32 | m->id.idiag_cookie[0];
}

int sockdiag_find_parse(const void *buf, size_t len, const struct endpoint *e, struct sockdiag_info *ret)
{
	struct msgs ms = {.p = buf, .left = len};
	const uint8_t *body;
	struct nlmsghdr h;
	size_t n;

	while (next_msg(&ms, &h, &body, &n)) {
		struct inet_diag_msg m;
		struct endpoint got;

		if (h.nlmsg_type == NLMSG_ERROR)
			return error_of(body, n) == 0 ? -EBADMSG : error_of(body, n);
		if (h.nlmsg_type != SOCK_DIAG_BY_FAMILY || !diag_of(body, n, &m, &got))
			continue;
		/* The kernel's lookup falls back to the listening socket of the port. */
		if (m.idiag_state == TCP_LISTEN || !endpoint_normalise(&got) || !endpoint_same(&got, e))
			return -ENOENT;
		*ret = (struct sockdiag_info){
			.cookie = cookie_of(&m),
			.inode = m.idiag_inode,
			.uid = m.idiag_uid,
			.state = m.idiag_state,
		};
		return 0;
	}
	return -EBADMSG;
}

bool sockdiag_covers(const struct sockdiag_listener *l, const struct endpoint *e)
{
	static const uint8_t any[16];

	if (l->port != e->local_port)
		return false;
	if (memcmp(l->addr, any, 16) == 0)
		return l->ver == e->ver || (l->ver == 6 && !l->v6only);
	return l->ver == e->ver && memcmp(l->addr, e->local, 16) == 0;
}

/* INET_DIAG_SKV6ONLY among the attributes of one message. Without it, or malformed: yes. */
static bool v6only_of(const uint8_t *a, size_t len)
{
	while (len >= sizeof(struct nlattr)) {
		struct nlattr at;
		size_t step;

		memcpy(&at, a, sizeof(at));
		if (at.nla_len < sizeof(at) || at.nla_len > len)
			return true;
		if ((at.nla_type & NLA_TYPE_MASK) == INET_DIAG_SKV6ONLY && at.nla_len > sizeof(at))
			return a[sizeof(at)] != 0;
		step = NLA_ALIGN((size_t)at.nla_len);
		if (step > len)
			break;
		a += step;
		len -= step;
	}
	return true;
}

int sockdiag_listeners_parse(const void *buf, size_t len, struct sockdiag_listener *ret, size_t n, size_t max,
			     bool *ret_done)
{
	struct msgs ms = {.p = buf, .left = len};
	const uint8_t *body;
	struct nlmsghdr h;
	size_t blen;

	*ret_done = false;
	while (next_msg(&ms, &h, &body, &blen)) {
		struct inet_diag_msg m;
		struct endpoint e;

		if (h.nlmsg_type == NLMSG_ERROR && error_of(body, blen) != 0)
			return error_of(body, blen);
		if (h.nlmsg_type == NLMSG_DONE) {
			*ret_done = true;
			break;
		}
		if (h.nlmsg_type != SOCK_DIAG_BY_FAMILY || !diag_of(body, blen, &m, &e))
			continue;
		if (m.idiag_state != TCP_LISTEN || m.idiag_inode == 0 || n == max)
			continue;
		ret[n] = (struct sockdiag_listener){.inode = m.idiag_inode, .port = e.local_port, .ver = e.ver};
		if (e.ver == 6)
			ret[n].v6only = v6only_of(body + sizeof(m), blen - sizeof(m));
		if (e.ver == 6 && is_mapped(e.local)) {
			unmap(e.local);
			ret[n].ver = 4;
		}
		memcpy(ret[n].addr, e.local, 16);
		n++;
	}
	return (int)n;
}

int sockdiag_destroy_parse(const void *buf, size_t len, struct sockdiag_destroyed *ret, size_t max)
{
	struct msgs ms = {.p = buf, .left = len};
	const uint8_t *body;
	struct nlmsghdr h;
	size_t n = 0, blen;

	while (n < max && next_msg(&ms, &h, &body, &blen)) {
		struct inet_diag_msg m;
		struct endpoint e;

		if (h.nlmsg_type != SOCK_DIAG_BY_FAMILY || !diag_of(body, blen, &m, &e))
			continue;
		if (!endpoint_normalise(&e)) /* it listened, or never got as far as a connection */
			continue;
		ret[n++] = (struct sockdiag_destroyed){.e = e, .cookie = cookie_of(&m)};
	}
	return (int)n;
}

/* --- sockets --- */

int sockdiag_open(void)
{
	struct timeval patience = {.tv_sec = 1};
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_SOCK_DIAG);

	if (fd == -1)
		return -errno;
	(void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	return fd;
}

static int ask(int fd, const struct inet_diag_req_v2 *r, uint16_t flags, uint32_t seq)
{
	struct {
		struct nlmsghdr h;
		struct inet_diag_req_v2 r;
	} m = {
		.h =
			{
				.nlmsg_len = sizeof(m),
				.nlmsg_type = SOCK_DIAG_BY_FAMILY,
				.nlmsg_flags = NLM_F_REQUEST | flags,
				.nlmsg_seq = seq,
			},
		.r = *r,
	};
	struct sockaddr_nl to = {.nl_family = AF_NETLINK};

	if (sendto(fd, &m, sizeof(m), 0, (void *)&to, sizeof(to)) == -1)
		return -errno;
	return 0;
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
	err = ask(fd, &r, 0, seq);
	if (err != 0)
		return err;
	n = receive_seq(fd, buf, sizeof(buf), seq);
	return n < 0 ? (int)n : sockdiag_find_parse(buf, (size_t)n, e, ret);
}

int sockdiag_listeners(int fd, struct sockdiag_listener *ret, size_t max)
{
	static uint8_t buf[DATAGRAM_MAX];
	size_t got = 0;

	for (unsigned v6 = 0; v6 < 2; v6++) {
		struct inet_diag_req_v2 r = {
			.sdiag_family = v6 ? AF_INET6 : AF_INET,
			.sdiag_protocol = IPPROTO_TCP,
			.idiag_states = 1u << TCP_LISTEN,
		};
		uint32_t seq = next_seq();
		bool done = false;
		int err = ask(fd, &r, NLM_F_DUMP, seq);

		for (unsigned i = 0; err >= 0 && !done && i < DUMP_DATAGRAMS_MAX; i++) {
			ssize_t n = receive_seq(fd, buf, sizeof(buf), seq);

			err = n < 0 ? (int)n : sockdiag_listeners_parse(buf, (size_t)n, ret, got, max, &done);
			if (err >= 0)
				got = (size_t)err;
		}
		if (err < 0)
			return err;
	}
	return (int)got;
}

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
