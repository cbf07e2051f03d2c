/* SPDX-License-Identifier: Apache-2.0 */
/* forge.c - Ethernet, IP and TCP headers around a piece of cleartext. */
#include "forge.h"

#include <arpa/inet.h>
#include <string.h>

#include "csum.h"

#define IPPROTO_OF_TCP 6
#define HOPS 64

/* The sums are of the values that are written, not of the bytes: reading back what was just stored in
 * pieces would wait for the stores. */

static void put32(uint8_t *p, uint32_t v, uint64_t *sum)
{
	v = htonl(v);
	memcpy(p, &v, 4);
	*sum += v;
}

/* Write ~@sum, which is in memory order. */
static void put_csum(uint8_t *p, uint32_t sum)
{
	uint16_t v = (uint16_t)~sum;

	memcpy(p, &v, 2);
}

/* Write the IPv4 header at @p, whose addresses sum up to @addr_sum; return its length. */
static size_t put_ipv4(const struct forge_seg *s, uint8_t *p, size_t tcp_len, uint64_t addr_sum)
{
	uint64_t sum = addr_sum;

	put32(p, 0x45000000 | (uint32_t)(20 + tcp_len), &sum);
	put32(p + 4, (uint32_t)s->ip_id << 16 | 0x4000, &sum);
	put32(p + 8, HOPS << 24 | IPPROTO_OF_TCP << 16, &sum);
	memcpy(p + 12, s->t->addr[s->side], 4);
	memcpy(p + 16, s->t->addr[!s->side], 4);
	put_csum(p + 10, csum_fold(sum));
	return 20;
}

static size_t put_ipv6(const struct forge_seg *s, uint8_t *p, size_t tcp_len)
{
	uint64_t sum = 0; /* IPv6 has none */

	put32(p, 0x60000000, &sum);
	put32(p + 4, (uint32_t)tcp_len << 16 | IPPROTO_OF_TCP << 8 | HOPS, &sum);
	memcpy(p + 8, s->t->addr[s->side], 16);
	memcpy(p + 24, s->t->addr[!s->side], 16);
	return 40;
}

/* Write the TCP header at @p with a zero checksum. */
static void put_tcp(const struct forge_seg *s, uint8_t *p, size_t len, uint64_t *sum)
{
	put32(p, (uint32_t)s->t->port[s->side] << 16 | s->t->port[!s->side], sum);
	put32(p + 4, s->seq, sum);
	put32(p + 8, s->flags & FORGE_ACK ? s->ack : 0, sum);
	put32(p + 12, (uint32_t)len << 26 | (uint32_t)s->flags << 16 | s->window, sum);
	put32(p + 16, 0, sum);
	if (s->flags & FORGE_SYN) {
		put32(p + 20, 2 << 24 | 4 << 16 | (uint32_t)forge_mss(s->t->ver, s->mtu), sum); /* MSS */
		put32(p + 24, 1 << 24 | 3 << 16 | 3 << 8 | FORGE_WSCALE, sum);			/* NOP, window scale */
	}
}

size_t forge_frame(const struct forge_seg *s, uint8_t *ret_frame)
{
	size_t alen = s->t->ver == 6 ? 16 : 4;
	size_t tcp_head = s->flags & FORGE_SYN ? 28 : 20;
	size_t tcp_len = tcp_head + s->len;
	uint64_t sum = csum_add(s->t->addr[0], alen) + csum_add(s->t->addr[1], alen);
	uint16_t type = htons(s->t->ver == 6 ? 0x86dd : 0x0800);
	uint8_t *ip = ret_frame + FORGE_ETH;
	uint8_t *tcp;

	memcpy(ret_frame, s->dmac, 6);
	memcpy(ret_frame + 6, s->smac, 6);
	memcpy(ret_frame + 12, &type, 2);
	tcp = ip + (s->t->ver == 6 ? put_ipv6(s, ip, tcp_len) : put_ipv4(s, ip, tcp_len, sum));
	/* Pseudo header: addresses, protocol, length; then header and data. */
	sum += htons(IPPROTO_OF_TCP) + htons((uint16_t)tcp_len);
	put_tcp(s, tcp, tcp_head, &sum);
	if (s->len)
		sum += csum_copy(tcp + tcp_head, s->data, s->len);
	put_csum(tcp + 16, csum_fold(sum));
	return (size_t)(tcp - ret_frame) + tcp_len;
}
