/* SPDX-License-Identifier: Apache-2.0 */
/* netif.c - frames out of an interface (see netif.h). */
#include "common/netif.h"

#include <errno.h>
#include <linux/if_packet.h>
#include <net/if_arp.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/rtnl.h"

#define SNDBUF (4 * 1024 * 1024)

static int why(char err[static NETIF_ERR], int r, const char *name, const char *text)
{
	(void)snprintf(err, NETIF_ERR, "interface %s: %s", name, text);
	return r;
}

static int why_errno(char err[static NETIF_ERR], int r, const char *name, const char *text)
{
	(void)snprintf(err, NETIF_ERR, "interface %s: %s: %s", name, text, strerror(-r));
	return r;
}

static int make(const char *name, char err[static NETIF_ERR])
{
	int r = rtnl_make_dummy(name);

	if (r == 0 || r == -EEXIST)
		return 0;
	if (r == -EPERM)
		return why(err, r, name, "does not exist, and only root can make it (ip link add NAME type dummy)");
	if (r == -EOPNOTSUPP)
		return why(err, -ENODEV, name,
			   "does not exist, and this kernel cannot make dummy devices; name an existing one with -o");
	(void)snprintf(err, NETIF_ERR, "interface %s: does not exist and cannot be made: %s", name, strerror(-r));
	return -ENODEV;
}

/* Is the interface used for something that forged frames would disturb? */
static int in_use(const struct netif *n, const struct rtnl_link *l, char err[static NETIF_ERR])
{
	int r;

	if (n->flags & NETIF_FORCE)
		return 0;
	if (l->master != 0)
		return why(err, -EBUSY, n->name,
			   "belongs to a bridge or bond; replaying needs one of its own (or --force-output)");
	r = rtnl_has_default_route(l->index);
	if (r == 1)
		return why(err, -EBUSY, n->name,
			   "carries the default route; replaying needs one of its own (or --force-output)");
	if (r == 0)
		r = rtnl_has_address(l->index);
	if (r == 1)
		return why(err, -EBUSY, n->name, "has an address; replaying needs one without (or --force-output)");
	return r == 0 ? 0 : why_errno(err, r, n->name, "cannot ask the kernel about it");
}

static int check(struct netif *n, struct rtnl_link *ret, char err[static NETIF_ERR])
{
	struct rtnl_link l;
	int r = rtnl_link(n->name, &l);

	if (r == -ENODEV && (n->flags & NETIF_MAKE)) {
		r = make(n->name, err);
		if (r != 0)
			return r;
		r = rtnl_link(n->name, &l);
	}
	if (r == -ENODEV)
		return why(err, r, n->name, "does not exist");
	if (r != 0)
		return why_errno(err, r, n->name, "cannot ask the kernel about it");
	if (l.type != ARPHRD_ETHER && l.type != ARPHRD_LOOPBACK)
		return why(err, -EINVAL, n->name, "is no Ethernet device");
	if (!(l.flags & IFF_UP) && (n->flags & NETIF_MAKE) && rtnl_up(l.index) == 0)
		l.flags |= IFF_UP;
	if (!(l.flags & IFF_UP))
		return why(err, -ENETDOWN, n->name, "is down (ip link set NAME up)");
	if (l.mtu < NETIF_MTU_MIN)
		return why(err, -EINVAL, n->name, "has an MTU below 576");
	r = in_use(n, &l, err);
	if (r == 0)
		*ret = l;
	return r;
}

static int open_socket(struct netif *n, const struct rtnl_link *l, char err[static NETIF_ERR])
{
	/* protocol 0: the socket sends and never receives */
	struct sockaddr_ll sa = {.sll_family = AF_PACKET, .sll_ifindex = l->index};
	int fd = socket(AF_PACKET, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	int size = SNDBUF, r;

	if (fd == -1) {
		r = -errno;
		return r == -EPERM ? why(err, r, n->name, "sending needs root (CAP_NET_RAW)")
				   : why_errno(err, r, n->name, "cannot open a packet socket");
	}
	if (bind(fd, (struct sockaddr *)&sa, sizeof(sa)) == -1) {
		r = -errno;
		close(fd);
		return why_errno(err, r, n->name, "cannot bind to it");
	}
	if (setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof(size)) == -1)
		(void)setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
	n->fd = fd;
	n->index = l->index;
	n->mtu = l->mtu;
	n->lost = false;
	return 0;
}

int netif_open(struct netif *n, const char *name, unsigned flags, char err[static NETIF_ERR])
{
	struct rtnl_link l;
	int r;

	*n = (struct netif){.fd = -1, .flags = flags};
	if (name[0] == '\0' || strlen(name) >= sizeof(n->name))
		return why(err, -ENODEV, name, "is no name of an interface");
	memcpy(n->name, name, strlen(name) + 1);
	r = check(n, &l, err);
	return r == 0 ? open_socket(n, &l, err) : r;
}

void netif_close(struct netif *n)
{
	if (n->fd != -1)
		close(n->fd);
	n->fd = -1;
}

int netif_check(struct netif *n, char err[static NETIF_ERR])
{
	struct rtnl_link l;
	int r = check(n, &l, err);

	if (r != 0)
		return r;
	/* The socket of an interface that was removed stays unbound, also when one of its name comes back; and the
	 * error that told of it was already taken. A new socket is right in all cases. */
	netif_close(n);
	return open_socket(n, &l, err);
}

ssize_t netif_send(struct netif *n, struct iovec *frame, unsigned cnt)
{
	int r;

	if (n->lost)
		return -ENETDOWN;
	if (cnt > NETIF_BATCH)
		cnt = NETIF_BATCH;
	for (unsigned i = 0; i < cnt; i++) {
		n->msg[i].msg_hdr.msg_iov = &frame[i];
		n->msg[i].msg_hdr.msg_iovlen = 1;
	}
	do
		r = sendmmsg(n->fd, n->msg, cnt, 0);
	while (r == -1 && errno == EINTR);
	if (r > 0) {
		n->n.frames += (unsigned)r;
		for (int i = 0; i < r; i++)
			n->n.bytes += frame[i].iov_len;
		return r;
	}
	switch (errno) {
	case EAGAIN:
	case ENOBUFS:
	case ENOMEM:
		n->n.busy++;
		return errno == EAGAIN ? -EAGAIN : -ENOBUFS;
	case ENETDOWN:
	case ENXIO:
	case ENODEV:
		n->n.down++;
		n->lost = true;
		return -ENETDOWN;
	case EMSGSIZE:
		n->n.toolong++;
		break;
	default:
		n->n.refused++;
		break;
	}
	n->last_errno = errno;
	return -errno;
}

const char *netif_why(int err)
{
	switch (err) {
	case EMSGSIZE:
		return "longer than the interface's MTU";
	case ENOBUFS:
		return "the interface's queue is full";
	case ENETDOWN:
		return "the interface is down or gone";
	default:
		return strerror(err);
	}
}
