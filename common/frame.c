/* SPDX-License-Identifier: Apache-2.0 */
/* frame.c - find the IP packet, its ends and its upper header in a captured frame. */
#include "frame.h"

#include <arpa/inet.h>
#include <string.h>

#include "csum.h"

#define UDP_HEAD 8
#define FRAGMENT_SIZE 8
#define JUMBO_OPTION 0xc2 /* RFC 2675 */

enum { HOP_BY_HOP = 0, ROUTING = 43, DESTINATION = 60 };

static bool parse_ipv4(struct frame *f)
{
	const uint8_t *ip = f->p + f->l3;
	size_t left = f->len - f->l3, head, total;

	if (left < 20 || ip[0] >> 4 != 4)
		return false;
	head = (ip[0] & 15u) * 4;
	total = frame_be16(ip + 2);
	f->unsized = total == 0;
	if (f->unsized)
		total = left;
	if (head < 20 || head > left || head > total)
		return false;
	f->l4 = f->l3 + head;
	f->end = f->l3 + total;
	f->whole = !f->unsized && total <= left;
	f->proto = ip[9];
	f->fragment = frame_be16(ip + 6) & (FRAME_MF | FRAME_OFF);
	return true;
}

/* Whose address is in the pseudo header if a routing header at @at of @size bytes has addresses left. */
static void routed(struct frame *f, size_t at, size_t size)
{
	const uint8_t *r = f->p + at;

	if (r[3] == 0 || size < 24)
		return;
	if (r[2] == 4) /* segment routing lists the last one first, RFC 8754 */
		f->dst = at + 8;
	else if (r[2] == 0 || r[2] == 2)
		f->dst = at + size - 16;
}

/* Walk the extension headers; false: cut off, or more than anybody repeats. */
static bool parse_extensions(struct frame *f)
{
	size_t end = f->end < f->len ? f->end : f->len, at = f->l3 + FRAME_IPV6, nh = f->l3 + 6;
	uint8_t kind = f->p[nh];

	f->part = at;
	f->part_nh = nh;
	while (kind == HOP_BY_HOP || kind == ROUTING || kind == DESTINATION || kind == FRAME_PROTO_FRAGMENT) {
		size_t size;

		if (end < at + 8)
			return false;
		size = kind == FRAME_PROTO_FRAGMENT ? FRAGMENT_SIZE : (f->p[at + 1] + 1u) * 8;
		if (end < at + size || at + size - f->l3 > FRAME_EXT_MAX)
			return false;
		if (kind == ROUTING)
			routed(f, at, size);
		nh = at;
		if (kind == FRAME_PROTO_FRAGMENT)
			f->frag = at;
		at += size;
		if (kind == HOP_BY_HOP || kind == ROUTING) {
			f->part = at;
			f->part_nh = nh;
		}
		kind = f->p[nh];
		if (f->frag)
			break; /* what follows is of a fragment; it is not looked at */
	}
	f->l4 = at;
	f->proto = kind;
	f->fragment = f->frag != 0;
	return true;
}

static bool parse_ipv6(struct frame *f)
{
	const uint8_t *ip = f->p + f->l3;
	size_t left = f->len - f->l3, size;

	if (left < FRAME_IPV6 || ip[0] >> 4 != 6)
		return false;
	size = frame_be16(ip + 4);
	f->unsized = size == 0;
	if (size == 0)
		size = left - FRAME_IPV6;
	if (f->unsized && ip[6] == HOP_BY_HOP && left >= FRAME_IPV6 + FRAME_JUMBO && ip[41] == 0 &&
	    ip[42] == JUMBO_OPTION && ip[43] == 4) {
		f->jumbo = true;
		size = frame_be32(ip + 44);
	}
	f->end = f->l3 + FRAME_IPV6 + size;
	f->whole = !f->unsized && f->end <= f->len;
	f->dst = f->l3 + 24;
	return parse_extensions(f);
}

void frame_parse(struct frame *f, const uint8_t *p, size_t len)
{
	uint16_t type = frame_be16(p + 12);
	bool ok = false;

	*f = (struct frame){.p = p, .len = len, .l3 = FRAME_ETH};
	while ((type == 0x8100 || type == 0x88a8) && f->l3 < FRAME_LINK_MAX && len >= f->l3 + 4) {
		type = frame_be16(p + f->l3 + 2);
		f->l3 += 4;
	}
	if (type == 0x0800)
		ok = parse_ipv4(f);
	else if (type == 0x86dd)
		ok = parse_ipv6(f);
	if (ok)
		f->ver = type == 0x0800 ? 4 : 6;
}

uint64_t frame_pseudo(const struct frame *f)
{
	uint64_t sum = htons(f->proto);

	if (f->ver == 4)
		return sum + csum_add(f->p + f->l3 + 12, 8);
	return sum + csum_add(f->p + f->l3 + 8, 16) + csum_add(f->p + f->dst, 16);
}

bool frame_partial(const struct frame *f, size_t *ret_at, size_t *ret_len)
{
	size_t len = f->end - f->l4, at;
	uint16_t field;

	if (f->ver == 0 || !f->whole || f->fragment)
		return false;
	if (f->proto == FRAME_PROTO_TCP && len >= FRAME_TCP) {
		at = f->l4 + 16;
	} else if (f->proto == FRAME_PROTO_UDP && len >= UDP_HEAD) {
		if (frame_be16(f->p + f->l4 + 4) > len || frame_be16(f->p + f->l4 + 4) < UDP_HEAD)
			return false;
		len = frame_be16(f->p + f->l4 + 4);
		at = f->l4 + 6;
	} else {
		return false;
	}
	memcpy(&field, f->p + at, 2);
	*ret_at = at;
	*ret_len = len;
	return field == csum_fold(frame_pseudo(f) + htons((uint16_t)len));
}
