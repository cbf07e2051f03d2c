/* SPDX-License-Identifier: Apache-2.0 */
/* sockdiag.h - ask the kernel about TCP sockets (NETLINK_SOCK_DIAG), and be told when one ends.
 *
 * Used by the helper process only (helper.c); struct endpoint is also what agentd hands to it. All
 * answers concern the network namespace in which the descriptor was opened. The parsers take foreign
 * bytes and are fuzzed; nothing here allocates. */
#ifndef TLSTAP_SOCKDIAG_H
#define TLSTAP_SOCKDIAG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

/* One TCP connection as one of its ends sees it. Addresses in network byte order, IPv4 in the first
 * 4 bytes and the rest zero; ports in host byte order. IPv4-mapped addresses are IPv4 here. Two are
 * the same connection if endpoint_same() says so (ifindex is only a hint).
 *
 * Two namespaces may use the same addresses, so the namespace is part of what a connection is. What the helper
 * answers and tells always names it. What is asked need not; compare that with an answer by endpoint_same_addrs(). */
struct endpoint {
	uint8_t local[16];
	uint8_t remote[16];
	uint16_t local_port;
	uint16_t remote_port;
	uint8_t ver; /* 4 or 6 */
	uint8_t pad[3];
	uint32_t ifindex; /* scope id of a link-local address, or 0 */
	uint64_t netns;	  /* inode of its network namespace; 0: not said */
};

/* Fill @ret from what getsockname() and getpeername() said.
 * Returns 0, or -EAFNOSUPPORT: not both IPv4 or both IPv6 (@ret is unchanged). */
int endpoint_set(struct endpoint *ret, const struct sockaddr *local, const struct sockaddr *remote);

/* Make IPv4-mapped IPv6 addresses IPv4. Returns false if @e can be no TCP connection: unknown
 * version, only one address mapped, a port of 0. */
bool endpoint_normalise(struct endpoint *e);

/* Same addresses, same namespace (0 is only the same as 0). */
bool endpoint_same(const struct endpoint *a, const struct endpoint *b);
/* Same addresses, in whatever namespaces. */
bool endpoint_same_addrs(const struct endpoint *a, const struct endpoint *b);
/* Of addresses and namespace. @seed is random, so that nobody can choose addresses that collide. */
uint64_t endpoint_hash(const struct endpoint *e, uint64_t seed);

struct sockdiag_info {
	uint64_t cookie; /* the kernel's own name of the socket, never used twice */
	uint64_t inode;	 /* 0: no descriptor anywhere any more (closing, TIME_WAIT) */
	uint32_t uid;
	uint8_t state; /* TCP_ESTABLISHED ... of <netinet/tcp.h> */
};

/* Open a descriptor for sockdiag_find() and sockdiag_listeners(). Needs no privilege.
 * Returns it, or -errno. */
int sockdiag_open(void);

/* Look one connection up by its exact addresses.
 * Returns 0; -ENOENT there is none (a listening socket of that port does not count); else -errno. */
int sockdiag_find(int fd, const struct endpoint *e, struct sockdiag_info *ret);

struct sockdiag_listener {
	uint64_t inode;
	uint8_t addr[16]; /* as in struct endpoint; all zero: any */
	uint16_t port;
	uint8_t ver; /* 4 or 6 */
	bool v6only;
};

/* List the sockets that listen.
 * Returns how many are in @ret (at most @max, further ones are left out), or -errno. */
int sockdiag_listeners(int fd, struct sockdiag_listener *ret, size_t max);

/* Does @l accept connections to @e's local end? */
bool sockdiag_covers(const struct sockdiag_listener *l, const struct endpoint *e);

/* A connection that shares one end with the one asked for. */
struct sockdiag_peer {
	struct endpoint e; /* .netns 0 */
	uint64_t cookie;
	uint64_t inode; /* 0: closed, but still sending or waiting for the other end */
	bool near;	/* has the address or the port of the other end too: NAT seldom changes both */
};

/* List the connections whose remote (@remote), else whose local, address and port are those of @e. Without sockets
 * that listen or are still connecting.
 * Returns how many are in @ret (at most @max; of further ones only those that are near take a place), or -errno. */
int sockdiag_peers(int fd, const struct endpoint *e, bool remote, struct sockdiag_peer *ret, size_t max);

/* Open a descriptor on which the kernel reports every TCP socket of this network namespace that it
 * destroys. Non-blocking.
 * @rcvbuf  bytes of receive buffer to ask for (forced where privileged)
 * Returns it, or -errno (-EPERM on kernels that ask for CAP_NET_ADMIN). */
int sockdiag_destroy_open(int rcvbuf);

struct sockdiag_destroyed {
	struct endpoint e;
	uint64_t cookie;
};

/* Read one datagram of events.
 * Returns how many are in @ret (at most @max; 0 if it held none of TCP), -EAGAIN nothing there,
 * -ENOBUFS the kernel had to drop events, else -errno. */
int sockdiag_destroy_read(int fd, struct sockdiag_destroyed *ret, size_t max);

/* The parsers behind the above, for their tests: @buf is one datagram of @len bytes. Messages that
 * are malformed or of no interest are passed over.
 * Returns 0, or as sockdiag_find() (-EBADMSG: not one complete message) */
int sockdiag_find_parse(const void *buf, size_t len, const struct endpoint *e, struct sockdiag_info *ret);
/* Adds to @ret from @n on; returns the new number, or -errno; sets @ret_done at the end of the list. */
int sockdiag_listeners_parse(const void *buf, size_t len, struct sockdiag_listener *ret, size_t n, size_t max,
			     bool *ret_done);
/* Likewise. */
int sockdiag_peers_parse(const void *buf, size_t len, const struct endpoint *e, bool remote, struct sockdiag_peer *ret,
			 size_t n, size_t max, bool *ret_done);
int sockdiag_destroy_parse(const void *buf, size_t len, struct sockdiag_destroyed *ret, size_t max);

#endif
