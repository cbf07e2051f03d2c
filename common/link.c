/* SPDX-License-Identifier: Apache-2.0 */
/* link.c - the Ethernet header that a packet of another link type would have had. */
#include "link.h"

#include <string.h>

#include "cur.h"

/* Numbers of pcap_datalink(); 12 and 14 are RAW on some systems, 101 is RAW in files. */
enum {
	EN_NULL = 0,
	EN_10MB = 1,
	RAW_12 = 12,
	RAW_14 = 14,
	RAW_FILE = 101,
	LOOP = 108,
	COOKED = 113,
	COOKED2 = 276,
};

#define ETHERTYPE_MIN 0x600 /* less is an 802.3 length, or one of Linux' own numbers in a cooked packet */
#define TYPE_IPV4 0x0800
#define TYPE_IPV6 0x86dd
#define LINUX_802_2 4 /* in a cooked packet: an LLC header follows */
#define HATYPE_NETLINK 824

static bool head(struct link_frame *f, const uint8_t *from, size_t from_len, uint16_t proto, size_t strip)
{
	if (proto < ETHERTYPE_MIN)
		return false;
	memset(f->head, 0, sizeof(f->head));
	if (from_len == 6)
		memcpy(f->head + 6, from, 6);
	f->head[12] = (uint8_t)(proto >> 8);
	f->head[13] = (uint8_t)proto;
	f->head_len = LINK_ETHER;
	f->strip = strip;
	f->proto = proto;
	return true;
}

/* 802.2 with the SNAP header of an EtherType. */
static bool snap(struct cur *c, uint16_t *ret_proto)
{
	static const uint8_t begin[6] = {0xaa, 0xaa, 0x03, 0, 0, 0};
	const uint8_t *p;

	return cur_bytes(c, sizeof(begin), &p) && memcmp(p, begin, sizeof(begin)) == 0 && cur_be16(c, ret_proto);
}

static bool cooked(struct cur c, const uint8_t *p, struct link_frame *f)
{
	const uint8_t *addr;
	uint16_t hatype, halen, proto;

	if (!cur_be16(&c, &f->to) || !cur_be16(&c, &hatype) || !cur_be16(&c, &halen) || !cur_bytes(&c, 8, &addr) ||
	    !cur_be16(&c, &proto) || hatype == HATYPE_NETLINK)
		return false;
	if (proto == LINUX_802_2 && !snap(&c, &proto))
		return false;
	return head(f, addr, halen, proto, (size_t)(c.p - p));
}

static bool cooked2(struct cur c, const uint8_t *p, struct link_frame *f)
{
	const uint8_t *addr;
	uint16_t hatype, proto;
	uint32_t ifindex;
	uint8_t halen, to;

	if (!cur_be16(&c, &proto) || !cur_skip(&c, 2) || !cur_be32(&c, &ifindex) || !cur_be16(&c, &hatype) ||
	    !cur_u8(&c, &to) || !cur_u8(&c, &halen) || !cur_bytes(&c, 8, &addr) || hatype == HATYPE_NETLINK)
		return false;
	if (proto == LINUX_802_2 && !snap(&c, &proto))
		return false;
	f->ifindex = ifindex;
	f->to = to;
	return head(f, addr, halen, proto, (size_t)(c.p - p));
}

static bool raw(struct cur c, struct link_frame *f)
{
	uint8_t first;

	if (!cur_u8(&c, &first) || (first >> 4 != 4 && first >> 4 != 6))
		return false;
	return head(f, NULL, 0, first >> 4 == 4 ? TYPE_IPV4 : TYPE_IPV6, 0);
}

/* The numbers for IPv6 are those of NetBSD and OpenBSD, FreeBSD, Darwin and Linux. */
static bool family(struct cur c, bool be, struct link_frame *f)
{
	uint32_t af;

	if (!cur_order_u32(&c, be, &af))
		return false;
	if (af == 2)
		return head(f, NULL, 0, TYPE_IPV4, 4);
	return (af == 24 || af == 28 || af == 30 || af == 10) && head(f, NULL, 0, TYPE_IPV6, 4);
}

bool link_to_ethernet(int linktype, const uint8_t *p, size_t len, struct link_frame *ret)
{
	struct cur c = cur_over(p, len, true);
	struct link_frame f = {0};
	bool ok = false;

	switch (linktype) {
	case EN_10MB:
		ok = cur_skip(&c, 12) && cur_be16(&c, &f.proto);
		break;
	case COOKED:
		ok = cooked(c, p, &f);
		break;
	case COOKED2:
		ok = cooked2(c, p, &f);
		break;
	case RAW_12:
	case RAW_14:
	case RAW_FILE:
		ok = raw(c, &f);
		break;
	case EN_NULL:
		ok = family(c, cur_host_be(), &f);
		break;
	case LOOP:
		ok = family(c, true, &f);
		break;
	}
	if (ok)
		*ret = f;
	return ok;
}
