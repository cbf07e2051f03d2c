/* SPDX-License-Identifier: Apache-2.0 */
/* hello_sock.c - the packet socket of handshake starts (see hello_sock.h). */
#include "hello_sock.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/filter.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/flow.h"

#define BATCH 32 /* packets in one call of the kernel */

/* A = where the payload begins behind all headers. The offset counts from the network header, as all does on
 * a SOCK_DGRAM socket. A load behind the packet's end drops it. */
#define LD_WORD(k) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (k))
#define PASS 17
#define DROP 18
#define JUMP_EQ(at, k, yes, no) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (k), (yes) - (at)-1, (no) - (at)-1)
static const struct sock_filter filter[] = {
	LD_WORD((uint32_t)(SKF_AD_OFF + SKF_AD_PAY_OFFSET)),
	JUMP_EQ(1, 0, DROP, 2), /* nothing that has one */
	BPF_STMT(BPF_MISC | BPF_TAX, 0),
	BPF_STMT(BPF_LD | BPF_W | BPF_LEN, 0),
	BPF_STMT(BPF_ALU | BPF_SUB | BPF_X, 0),
	JUMP_EQ(5, 0, DROP, 6), /* no payload */
	BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, 6, 2, 0),
	BPF_STMT(BPF_LD | BPF_B | BPF_IND, 0),
	JUMP_EQ(8, 0x16, PASS, DROP), /* a few bytes of a handshake */
	BPF_STMT(BPF_LD | BPF_W | BPF_IND, 0),
	JUMP_EQ(10, 0x50524f58, PASS, 11), /* PROX(Y) */
	JUMP_EQ(11, 0x0d0a0d0a, PASS, 12), /* its version 2 */
	BPF_STMT(BPF_ALU | BPF_RSH | BPF_K, 16),
	JUMP_EQ(13, 0x1603, 14, DROP),
	BPF_STMT(BPF_LD | BPF_B | BPF_IND, 5),
	JUMP_EQ(15, 1, PASS, 16),   /* ClientHello */
	JUMP_EQ(16, 2, PASS, DROP), /* ServerHello */
	BPF_STMT(BPF_RET | BPF_K, HELLO_BYTES_MAX),
	BPF_STMT(BPF_RET | BPF_K, 0),
};
_Static_assert(sizeof(filter) / sizeof(filter[0]) == DROP + 1, "the jumps' targets");

static void set_rcvbuf(int fd)
{
	int bytes = HELLO_SOCK_RCVBUF;

	if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &bytes, sizeof(bytes)) == -1)
		(void)setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &bytes, sizeof(bytes)); /* as much as we may */
}

int hello_sock_open(void)
{
	const struct sock_fprog prog = {.len = DROP + 1, .filter = (struct sock_filter *)(uintptr_t)filter};
	const struct sockaddr_ll all = {.sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL)};
	int fd = socket(AF_PACKET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0); /* protocol 0: deaf until bind */
	int on = 1, r;

	if (fd == -1)
		return -errno;
	set_rcvbuf(fd);
	if (setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &prog, sizeof(prog)) == -1 ||
	    setsockopt(fd, SOL_SOCKET, SO_LOCK_FILTER, &on, sizeof(on)) == -1 ||
	    bind(fd, (const struct sockaddr *)&all, sizeof(all)) == -1) {
		r = -errno;
		close(fd);
		return r;
	}
	return fd;
}

/* A frame that was forged by one of us and is replayed here: from our address, to one that nobody has. A host that has
 * made our address its own, and speaks to this one, is not hidden by it. */
static bool is_forged(const struct sockaddr_ll *from)
{
	static const uint8_t smac[6] = FLOW_SRC_MAC;

	return from->sll_halen == sizeof(smac) && memcmp(from->sll_addr, smac, sizeof(smac)) == 0 &&
	       (from->sll_pkttype == PACKET_OUTGOING || from->sll_pkttype == PACKET_OTHERHOST);
}

/* Kernels since 6.11 tell the protocol behind all tags, also where tags are in the packet (double ones). */
static bool parse(const uint8_t *p, size_t len, uint16_t proto, struct hello *ret)
{
	return hello_parse_packet(p, len, proto, ret) ||
	       ((proto == ETH_P_IP || proto == ETH_P_IPV6) && hello_parse_packet(p, len, ETH_P_8021Q, ret));
}

static void look(struct hello_sock *s, const uint8_t *p, size_t len, const struct sockaddr_ll *from, hello_cb cb,
		 void *arg)
{
	struct hello h;

	s->frames++;
	if (is_forged(from) || !parse(p, len, ntohs(from->sll_protocol), &h)) {
		s->others++;
		return;
	}
	h.sent = from->sll_pkttype == PACKET_OUTGOING;
	s->hellos++;
	cb(arg, s, &h, (uint32_t)from->sll_ifindex);
}

/* Returns packets read, 0 when there are none, or -errno. */
static int read_batch(struct hello_sock *s, unsigned max, hello_cb cb, void *arg)
{
	uint8_t buf[BATCH][HELLO_BYTES_MAX];
	struct sockaddr_ll from[BATCH];
	struct mmsghdr m[BATCH];
	struct iovec iov[BATCH];
	int n;

	memset(m, 0, sizeof(m));
	for (unsigned i = 0; i < max; i++) {
		iov[i] = (struct iovec){.iov_base = buf[i], .iov_len = sizeof(buf[i])};
		m[i].msg_hdr = (struct msghdr){.msg_name = &from[i],
					       .msg_namelen = sizeof(from[i]),
					       .msg_iov = &iov[i],
					       .msg_iovlen = 1};
	}
	n = recvmmsg(s->fd, m, max, MSG_DONTWAIT, NULL);
	if (n == -1)
		return errno == EAGAIN || errno == EINTR || errno == ENETDOWN ? 0 : -errno;
	for (int i = 0; i < n; i++)
		look(s, buf[i], m[i].msg_len, &from[i], cb, arg);
	return n;
}

int hello_sock_read(struct hello_sock *s, unsigned max, hello_cb cb, void *arg)
{
	unsigned done = 0;

	while (done < max) {
		unsigned want = max - done < BATCH ? max - done : BATCH;
		int n = read_batch(s, want, cb, arg);

		if (n < 0)
			return n;
		done += (unsigned)n;
		if ((unsigned)n < want)
			break;
	}
	return (int)done;
}

void hello_sock_count(struct hello_sock *s)
{
	struct tpacket_stats st;
	socklen_t len = sizeof(st);

	if (getsockopt(s->fd, SOL_PACKET, PACKET_STATISTICS, &st, &len) == 0)
		s->drops += st.tp_drops;
}
