/* SPDX-License-Identifier: Apache-2.0 */
/* Addresses, and the parsers of what sock_diag(7) says: pure, the bytes are checked as anybody's would be. */
#include "sockdiag.h"

#include <errno.h>
#include <string.h>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>

#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>

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

bool endpoint_same_addrs(const struct endpoint *a, const struct endpoint *b)
{
	return a->ver == b->ver && a->local_port == b->local_port && a->remote_port == b->remote_port &&
	       memcmp(a->local, b->local, 16) == 0 && memcmp(a->remote, b->remote, 16) == 0;
}

bool endpoint_same(const struct endpoint *a, const struct endpoint *b)
{
	return a->netns == b->netns && endpoint_same_addrs(a, b);
}

uint64_t endpoint_hash(const struct endpoint *e, uint64_t seed)
{
	uint64_t w[6], h = seed;

	memcpy(w, e->local, 16);
	memcpy(w + 2, e->remote, 16);
	w[4] = (uint64_t)e->local_port << 32 | (uint64_t)e->remote_port << 8 | e->ver;
	w[5] = e->netns;
	for (size_t i = 0; i < 6; i++) {
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
		if (m.idiag_state == TCP_LISTEN || !endpoint_normalise(&got) || !endpoint_same_addrs(&got, e))
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

/* Does the connection @got have the same remote, or the same local, address and port as @e? */
static bool shares_end(const struct endpoint *got, const struct endpoint *e, bool remote)
{
	if (got->ver != e->ver)
		return false;
	return remote ? got->remote_port == e->remote_port && memcmp(got->remote, e->remote, 16) == 0
		      : got->local_port == e->local_port && memcmp(got->local, e->local, 16) == 0;
}

static bool is_near(const struct endpoint *got, const struct endpoint *e, bool remote)
{
	return remote ? got->local_port == e->local_port || memcmp(got->local, e->local, 16) == 0
		      : got->remote_port == e->remote_port || memcmp(got->remote, e->remote, 16) == 0;
}

/* Where one more of @n may stand: at the end; or, for a near one, in place of one that is not. NULL: nowhere. */
static struct sockdiag_peer *place_for(struct sockdiag_peer *ret, size_t n, size_t max, bool near)
{
	if (n < max)
		return &ret[n];
	for (size_t i = 0; near && i < max; i++) {
		if (!ret[i].near)
			return &ret[i];
	}
	return NULL;
}

int sockdiag_peers_parse(const void *buf, size_t len, const struct endpoint *e, bool remote, struct sockdiag_peer *ret,
			 size_t n, size_t max, bool *ret_done)
{
	struct msgs ms = {.p = buf, .left = len};
	const uint8_t *body;
	struct nlmsghdr h;
	size_t blen;

	*ret_done = false;
	while (next_msg(&ms, &h, &body, &blen)) {
		struct sockdiag_peer p, *to;
		struct inet_diag_msg m;

		if (h.nlmsg_type == NLMSG_ERROR && error_of(body, blen) != 0)
			return error_of(body, blen);
		if (h.nlmsg_type == NLMSG_DONE) {
			*ret_done = true;
			break;
		}
		if (h.nlmsg_type != SOCK_DIAG_BY_FAMILY || !diag_of(body, blen, &m, &p.e))
			continue;
		/* The kernel's filter let it through: look all the same. */
		if (m.idiag_state == TCP_LISTEN || !endpoint_normalise(&p.e) || !shares_end(&p.e, e, remote))
			continue;
		p.cookie = cookie_of(&m);
		p.inode = m.idiag_inode;
		p.near = is_near(&p.e, e, remote);
		to = place_for(ret, n, max, p.near);
		if (to != NULL) {
			*to = p;
			n += n < max;
		}
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
