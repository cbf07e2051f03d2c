/* SPDX-License-Identifier: Apache-2.0 */
/* pcap.c - classic pcap streams (see pcap.h). */
#include "common/pcap.h"

#include <errno.h>

#define MAGIC_US 0xA1B2C3D4u
#define MAGIC_NS 0xA1B23C4Du
#define MAGIC_MODIFIED 0xA1B2CD34u
#define HEAD 24
#define PACKET_HEAD 16
#define MODIFIED_EXTRA 8

static bool known(uint32_t magic)
{
	return magic == MAGIC_US || magic == MAGIC_NS || magic == MAGIC_MODIFIED;
}

static bool read_magic(const uint8_t *buf, bool be, uint32_t *ret)
{
	struct cur c = cur_over(buf, 4, be);

	return cur_u32(&c, ret) && known(*ret);
}

bool pcap_magic(const uint8_t buf[static 4])
{
	uint32_t magic;

	return read_magic(buf, false, &magic) || read_magic(buf, true, &magic);
}

static ssize_t head(struct pcap_stream *p, const uint8_t *buf, size_t len)
{
	struct cur c;
	uint16_t major;
	uint32_t magic, link;

	if (len < HEAD)
		return len >= 4 && !pcap_magic(buf) ? -EBADMSG : -EAGAIN;
	p->be = !read_magic(buf, false, &magic);
	if (p->be && !read_magic(buf, true, &magic))
		return -EBADMSG;
	c = cur_over(buf, len, p->be);
	if (!cur_skip(&c, 4) || !cur_u16(&c, &major) || !cur_skip(&c, 2 + 4 + 4 + 4) || !cur_u32(&c, &link) ||
	    major != 2)
		return -EBADMSG;
	p->ns = magic == MAGIC_NS;
	p->extra = magic == MAGIC_MODIFIED ? MODIFIED_EXTRA : 0;
	p->link = (uint16_t)link; /* the upper half says how long the FCS is */
	p->begun = true;
	return HEAD;
}

ssize_t pcap_next_packet(struct pcap_stream *p, const uint8_t *buf, size_t len, bool *ret_packet, struct packet *ret)
{
	struct cur c = cur_over(buf, len, p->be);
	struct packet k = {.link = p->link};
	uint32_t sec, frac;

	*ret_packet = false;
	if (!p->begun)
		return head(p, buf, len);
	if (!cur_u32(&c, &sec) || !cur_u32(&c, &frac) || !cur_u32(&c, &k.len) || !cur_u32(&c, &k.orig))
		return -EAGAIN;
	if (k.len > PCAP_PACKET_MAX)
		return -E2BIG;
	if (!cur_skip(&c, p->extra) || !cur_bytes(&c, k.len, &k.data))
		return -EAGAIN;
	k.ts_ns = (uint64_t)sec * 1000000000u + (uint64_t)frac * (p->ns ? 1 : 1000);
	*ret = k;
	*ret_packet = true;
	return PACKET_HEAD + p->extra + (ssize_t)k.len;
}
