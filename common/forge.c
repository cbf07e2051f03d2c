/* SPDX-License-Identifier: Apache-2.0 */
/* forge.c - Ethernet, IP and TCP headers around a piece of cleartext. */
#include "forge.h"

#include <arpa/inet.h>
#include <string.h>

#include "csum.h"

#define IPPROTO_OF_TCP 6
#define HOPS 64

static void put16(uint8_t *p, uint16_t v)
{
	v = htons(v);
	memcpy(p, &v, 2);
}

static void put32(uint8_t *p, uint32_t v)
{
	v = htonl(v);
	memcpy(p, &v, 4);
}

/* Write ~@sum, which is in memory order. */
static void put_csum(uint8_t *p, uint32_t sum)
{
	uint16_t v = (uint16_t)~sum;

	memcpy(p, &v, 2);
}

/* Write the IPv4 header at @p; return its length. */
static size_t put_ipv4(const struct forge_seg *s, uint8_t *p, size_t tcp_len)
{
	p[0] = 0x45;
	p[1] = 0;
	put16(p + 2, (uint16_t)(20 + tcp_len));
	put16(p + 4, s->ip_id);
	put16(p + 6, 0x4000);
	p[8] = HOPS;
	p[9] = IPPROTO_OF_TCP;
	put16(p + 10, 0);
	memcpy(p + 12, s->t->addr[s->side], 4);
	memcpy(p + 16, s->t->addr[!s->side], 4);
	put_csum(p + 10, csum_add(p, 20));
	return 20;
}

static size_t put_ipv6(const struct forge_seg *s, uint8_t *p, size_t tcp_len)
{
	put32(p, 0x60000000);
	put16(p + 4, (uint16_t)tcp_len);
	p[6] = IPPROTO_OF_TCP;
	p[7] = HOPS;
	memcpy(p + 8, s->t->addr[s->side], 16);
	memcpy(p + 24, s->t->addr[!s->side], 16);
	return 40;
}

/* Write the TCP header at @p with a zero checksum; return its length. */
static size_t put_tcp(const struct forge_seg *s, uint8_t *p)
{
	size_t len = s->flags & FORGE_SYN ? 28 : 20;

	put16(p, s->t->port[s->side]);
	put16(p + 2, s->t->port[!s->side]);
	put32(p + 4, s->seq);
	put32(p + 8, s->flags & FORGE_ACK ? s->ack : 0);
	p[12] = (uint8_t)(len / 4 << 4);
	p[13] = s->flags;
	put16(p + 14, s->window);
	put32(p + 16, 0);
	if (s->flags & FORGE_SYN) {
		p[20] = 2; /* MSS */
		p[21] = 4;
		put16(p + 22, (uint16_t)forge_mss(s->t->ver, s->mtu));
		p[24] = 1; /* NOP */
		p[25] = 3; /* window scale */
		p[26] = 3;
		p[27] = FORGE_WSCALE;
	}
	return len;
}

size_t forge_frame(const struct forge_seg *s, uint8_t *ret_frame)
{
	size_t alen = s->t->ver == 6 ? 16 : 4;
	size_t tcp_head = s->flags & FORGE_SYN ? 28 : 20;
	size_t tcp_len = tcp_head + s->len;
	uint8_t *ip = ret_frame + FORGE_ETH;
	uint8_t *tcp;
	uint64_t sum;

	memcpy(ret_frame, s->dmac, 6);
	memcpy(ret_frame + 6, s->smac, 6);
	put16(ret_frame + 12, s->t->ver == 6 ? 0x86dd : 0x0800);
	tcp = ip + (s->t->ver == 6 ? put_ipv6(s, ip, tcp_len) : put_ipv4(s, ip, tcp_len));
	(void)put_tcp(s, tcp);
	/* Pseudo header: addresses, protocol, length; then header and data. */
	sum = csum_add(s->t->addr[0], alen) + csum_add(s->t->addr[1], alen);
	sum += htons(IPPROTO_OF_TCP) + htons((uint16_t)tcp_len);
	sum += csum_add(tcp, tcp_head);
	if (s->len)
		sum += csum_copy(tcp + tcp_head, s->data, s->len);
	put_csum(tcp + 16, csum_fold(sum));
	return (size_t)(tcp - ret_frame) + tcp_len;
}
