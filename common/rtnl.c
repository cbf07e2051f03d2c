/* SPDX-License-Identifier: Apache-2.0 */
/* rtnl.c - rtnetlink requests (see rtnl.h). */
#include "common/rtnl.h"

#include <errno.h>
#include <linux/if_link.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#define WAIT_S 2

struct request {
	struct nlmsghdr h;
	union {
		struct ifinfomsg link;
		struct ifaddrmsg addr;
		struct rtmsg route;
	};
	uint8_t attrs[256];
};

/* Called for each message of the answer; a result other than 0 ends the walk's evaluation and is returned. */
typedef int each_fn(const struct nlmsghdr *h, void *arg);

static void begin(struct request *q, uint16_t type, uint16_t flags, size_t payload)
{
	memset(q, 0, sizeof(*q));
	q->h.nlmsg_len = (uint32_t)NLMSG_LENGTH(payload);
	q->h.nlmsg_type = type;
	q->h.nlmsg_flags = NLM_F_REQUEST | flags;
	q->h.nlmsg_seq = 1;
}

/* Append an attribute; our own ones always fit. Returns it, for nesting. */
static struct rtattr *add(struct request *q, unsigned short type, const void *data, size_t len)
{
	struct rtattr *a = (struct rtattr *)((uint8_t *)q + NLMSG_ALIGN(q->h.nlmsg_len));

	a->rta_type = type;
	a->rta_len = (unsigned short)RTA_LENGTH(len);
	if (len > 0)
		memcpy(RTA_DATA(a), data, len);
	q->h.nlmsg_len = (uint32_t)(NLMSG_ALIGN(q->h.nlmsg_len) + RTA_ALIGN(a->rta_len));
	return a;
}

static int answer(int fd, each_fn *each, void *arg)
{
	_Alignas(struct nlmsghdr) uint8_t buf[32768];
	int ret = 0;

	for (;;) {
		ssize_t n = recv(fd, buf, sizeof(buf), 0);
		size_t left = (size_t)n;

		if (n == -1 && errno == EINTR)
			continue;
		if (n <= 0)
			return n == 0 ? -EIO : -errno;
		for (struct nlmsghdr *h = (struct nlmsghdr *)buf; NLMSG_OK(h, left); h = NLMSG_NEXT(h, left)) {
			if (h->nlmsg_type == NLMSG_DONE)
				return ret;
			if (h->nlmsg_type == NLMSG_ERROR) {
				const struct nlmsgerr *e = NLMSG_DATA(h);

				return e->error != 0 ? e->error : ret;
			}
			if (ret == 0 && each != NULL)
				ret = each(h, arg);
			if (!(h->nlmsg_flags & NLM_F_MULTI) && each != NULL)
				return ret;
		}
	}
}

static int ask(struct request *q, each_fn *each, void *arg)
{
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
	struct timeval wait = {.tv_sec = WAIT_S};
	int r;

	if (fd == -1)
		return -errno;
	(void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof(wait));
	if (send(fd, q, q->h.nlmsg_len, 0) == -1)
		r = -errno;
	else
		r = answer(fd, each, arg);
	close(fd);
	return r;
}

static enum joined_kind kind_of(const struct rtattr *info)
{
	static const struct {
		const char *name;
		enum joined_kind kind;
	} known[] = {
		{"veth", JOINED_VETH},	      {"bridge", JOINED_BRIDGE},    {"vlan", JOINED_ABOVE},
		{"macvlan", JOINED_ABOVE},    {"macvtap", JOINED_ABOVE},    {"ipvlan", JOINED_ABOVE},
		{"macsec", JOINED_ABOVE},     {"vxlan", JOINED_TUNNEL},	    {"geneve", JOINED_TUNNEL},
		{"gretap", JOINED_TUNNEL},    {"ip6gretap", JOINED_TUNNEL}, {"erspan", JOINED_TUNNEL},
		{"ip6erspan", JOINED_TUNNEL},
	};
	int left = (int)RTA_PAYLOAD(info);

	for (const struct rtattr *a = RTA_DATA(info); RTA_OK(a, left); a = RTA_NEXT(a, left))
		for (size_t i = 0; a->rta_type == IFLA_INFO_KIND && i < sizeof(known) / sizeof(known[0]); i++) {
			size_t len = strlen(known[i].name);

			/* with or without a NUL */
			if (RTA_PAYLOAD(a) >= len && RTA_PAYLOAD(a) <= len + 1 &&
			    memcmp(RTA_DATA(a), known[i].name, len) == 0)
				return known[i].kind;
		}
	return JOINED_OTHER;
}

static int on_link(const struct nlmsghdr *h, void *arg)
{
	const struct ifinfomsg *i = NLMSG_DATA(h);
	struct rtnl_link *l = arg;
	int left = (int)IFLA_PAYLOAD(h);

	if (h->nlmsg_type != RTM_NEWLINK)
		return 0;
	*l = (struct rtnl_link){.index = i->ifi_index, .flags = i->ifi_flags, .type = i->ifi_type};
	for (const struct rtattr *a = IFLA_RTA(i); RTA_OK(a, left); a = RTA_NEXT(a, left)) {
		if (a->rta_type == IFLA_MTU && RTA_PAYLOAD(a) == sizeof(l->mtu))
			memcpy(&l->mtu, RTA_DATA(a), sizeof(l->mtu));
		if (a->rta_type == IFLA_MASTER && RTA_PAYLOAD(a) == sizeof(l->master))
			memcpy(&l->master, RTA_DATA(a), sizeof(l->master));
		if ((a->rta_type & NLA_TYPE_MASK) == IFLA_LINKINFO)
			l->kind = kind_of(a);
	}
	return 0;
}

int rtnl_link(const char *name, struct rtnl_link *ret)
{
	struct rtnl_link l = {0};
	struct request q;
	int r;

	if (strlen(name) >= IFNAMSIZ)
		return -ENODEV;
	begin(&q, RTM_GETLINK, 0, sizeof(q.link));
	(void)add(&q, IFLA_IFNAME, name, strlen(name) + 1);
	r = ask(&q, on_link, &l);
	if (r == 0 && l.index == 0)
		r = -ENODEV;
	if (r == 0)
		*ret = l;
	return r;
}

int rtnl_make_dummy(const char *name)
{
	struct request q;
	struct rtattr *info;

	begin(&q, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL | NLM_F_ACK, sizeof(q.link));
	q.link.ifi_flags = IFF_NOARP;
	q.link.ifi_change = IFF_NOARP;
	(void)add(&q, IFLA_IFNAME, name, strlen(name) + 1);
	info = add(&q, IFLA_LINKINFO, NULL, 0);
	(void)add(&q, IFLA_INFO_KIND, "dummy", 5);
	info->rta_len = (unsigned short)((uint8_t *)&q + q.h.nlmsg_len - (uint8_t *)info);
	return ask(&q, NULL, NULL);
}

int rtnl_up(int index)
{
	struct request q;

	begin(&q, RTM_NEWLINK, NLM_F_ACK, sizeof(q.link));
	q.link.ifi_index = index;
	q.link.ifi_flags = IFF_UP;
	q.link.ifi_change = IFF_UP;
	return ask(&q, NULL, NULL);
}

static int on_address(const struct nlmsghdr *h, void *arg)
{
	const struct ifaddrmsg *a = NLMSG_DATA(h);

	if (h->nlmsg_type != RTM_NEWADDR || (int)a->ifa_index != *(const int *)arg)
		return 0;
	return a->ifa_family == AF_INET || (a->ifa_family == AF_INET6 && a->ifa_scope != RT_SCOPE_LINK);
}

int rtnl_has_address(int index)
{
	struct request q;

	begin(&q, RTM_GETADDR, NLM_F_DUMP, sizeof(q.addr));
	return ask(&q, on_address, &index);
}

static bool multipath_has(const struct rtattr *a, int index)
{
	int left = (int)RTA_PAYLOAD(a);

	for (const struct rtnexthop *n = RTA_DATA(a); RTNH_OK(n, left); n = RTNH_NEXT(n)) {
		if (n->rtnh_ifindex == index)
			return true;
		left -= RTNH_ALIGN(n->rtnh_len);
	}
	return false;
}

static int on_route(const struct nlmsghdr *h, void *arg)
{
	const struct rtmsg *m = NLMSG_DATA(h);
	int left = (int)RTM_PAYLOAD(h), index = *(const int *)arg, oif;

	if (h->nlmsg_type != RTM_NEWROUTE || m->rtm_dst_len != 0 || m->rtm_type != RTN_UNICAST)
		return 0;
	for (const struct rtattr *a = RTM_RTA(m); RTA_OK(a, left); a = RTA_NEXT(a, left)) {
		if (a->rta_type == RTA_OIF && RTA_PAYLOAD(a) == sizeof(oif)) {
			memcpy(&oif, RTA_DATA(a), sizeof(oif));
			if (oif == index)
				return 1;
		}
		if (a->rta_type == RTA_MULTIPATH && multipath_has(a, index))
			return 1;
	}
	return 0;
}

int rtnl_has_default_route(int index)
{
	struct request q;

	begin(&q, RTM_GETROUTE, NLM_F_DUMP, sizeof(q.route));
	return ask(&q, on_route, &index);
}

struct links {
	struct joined_link *link;
	unsigned n, max;
};

static int on_each_link(const struct nlmsghdr *h, void *arg)
{
	const struct ifinfomsg *i = NLMSG_DATA(h);
	int left = (int)IFLA_PAYLOAD(h);
	struct links *all = arg;
	struct joined_link l = {.index = (uint32_t)i->ifi_index};
	bool elsewhere = false;

	if (h->nlmsg_type != RTM_NEWLINK || all->n == all->max)
		return 0;
	for (const struct rtattr *a = IFLA_RTA(i); RTA_OK(a, left); a = RTA_NEXT(a, left)) {
		if (a->rta_type == IFLA_LINK && RTA_PAYLOAD(a) == sizeof(l.link))
			memcpy(&l.link, RTA_DATA(a), sizeof(l.link));
		if (a->rta_type == IFLA_MASTER && RTA_PAYLOAD(a) == sizeof(l.master))
			memcpy(&l.master, RTA_DATA(a), sizeof(l.master));
		elsewhere = elsewhere || a->rta_type == IFLA_LINK_NETNSID;
		if ((a->rta_type & NLA_TYPE_MASK) == IFLA_LINKINFO)
			l.kind = (uint8_t)kind_of(a);
	}
	if (elsewhere)
		l.link = 0;
	all->link[all->n++] = l;
	return 0;
}

int rtnl_links(struct joined_link *ret, unsigned max)
{
	struct links all = {.link = ret, .max = max};
	const uint32_t no_counters = RTEXT_FILTER_SKIP_STATS;
	struct request q;
	int r;

	begin(&q, RTM_GETLINK, NLM_F_DUMP, sizeof(q.link));
	(void)add(&q, IFLA_EXT_MASK, &no_counters, sizeof(no_counters));
	r = ask(&q, on_each_link, &all);
	return r != 0 ? r : (int)all.n;
}
