/* SPDX-License-Identifier: Apache-2.0 */
/* hello_sock.h - the packet socket that sees handshake starts of one network namespace, and nothing else.
 *
 * AF_PACKET, SOCK_DGRAM, all interfaces, immediate mode. A filter of classic BPF on SKF_AD_PAY_OFFSET, which is the
 * same for every link type and looks behind VLAN tags and extension headers, passes ClientHello, ServerHello and what
 * begins with a PROXY header (packet(7), bpf_load ancillary data in linux/filter.h). So what the kernel has delivered
 * to a TLS library was delivered here before: who reads this socket first never misses a hello, unless the kernel
 * dropped it, which is counted. The kernel looks behind an IPv6 fragment header for TCP only, and not behind an AH. */
#ifndef TLSTAP_HELLO_SOCK_H
#define TLSTAP_HELLO_SOCK_H

#include "hello.h"

#define HELLO_SOCK_RCVBUF (16 << 20) /* bytes asked for, forced where privileged */

struct hello_sock {
	int fd;				 /* -1: closed */
	uint64_t netns;			 /* inode of its network namespace */
	uint64_t frames, hellos, others; /* others: passed the filter, but are none */
	uint64_t drops;			 /* by the kernel: the buffer was full */
};

/* Open one in the network namespace of the calling thread. Needs CAP_NET_RAW.
 * Returns a descriptor (non-blocking, CLOEXEC), or -errno (-EPERM). */
int hello_sock_open(void);

/* Read what is there, at most @max packets, and call @cb for each hello.
 * @ifindex  the interface that saw it
 * Returns packets read, or -errno (-ENETDOWN passes by itself). */
typedef void (*hello_cb)(void *arg, const struct hello_sock *s, const struct hello *h, uint32_t ifindex);
int hello_sock_read(struct hello_sock *s, unsigned max, hello_cb cb, void *arg);

/* Add the kernel's drops since the last call to s->drops: about once a second. */
void hello_sock_count(struct hello_sock *s);

#endif
