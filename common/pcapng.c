/* SPDX-License-Identifier: Apache-2.0 */
/* pcapng.c - pcapng streams (see pcapng.h). */
#include "common/pcapng.h"

#include <assert.h>
#include <errno.h>

#include "common/block.h"

#define MAGIC 0x1A2B3C4Du
#define OPT_END 0
#define OPT_TSRESOL 9
#define TSRESOL_US 6 /* what holds without the option */
#define NS_PER_S 1000000000u

static uint32_t min_u32(uint32_t a, uint32_t b)
{
	return a < b ? a : b;
}

/* Timestamp units of an interface -> ns. Wraps like the sender's clock would. */
static uint64_t to_ns(uint64_t ts, uint8_t tsresol)
{
	unsigned e = tsresol & 0x7f;
	uint64_t f = 1;

	if (tsresol & 0x80) {
		if (e > 63)
			return 0;
		uint64_t frac = ts & (((uint64_t)1 << e) - 1);

		return (ts >> e) * NS_PER_S + (uint64_t)(((unsigned __int128)frac * NS_PER_S) >> e);
	}
	if (e > 19)
		return 0;
	for (unsigned i = e < 9 ? e : 9; i < (e < 9 ? 9 : e); i++)
		f *= 10;
	return e <= 9 ? ts * f : ts / f;
}

void pcapng_init(struct pcapng *p)
{
	*p = (struct pcapng){0};
}

bool pcapng_magic(const uint8_t buf[static 4])
{
	return memcmp(buf, "\x0a\x0d\x0d\x0a", 4) == 0;
}

bool pcapng_at_packet(const struct pcapng *p, const uint8_t *buf, size_t len)
{
	struct cur c = cur_over(buf, len, p->be);
	uint32_t type;

	return cur_u32(&c, &type) && (type == PCAPNG_EPB || type == PCAPNG_SPB);
}

/* The block type of a Section Header reads the same in both orders; its magic tells the order of all the rest. */
static int order(struct pcapng *p, const uint8_t *buf, size_t len)
{
	struct cur c = cur_over(buf, len, false);
	uint32_t magic;

	if (!cur_skip(&c, 8) || !cur_u32(&c, &magic))
		return -EAGAIN;
	if (magic != MAGIC && magic != __builtin_bswap32(MAGIC))
		return -EBADMSG;
	p->be = magic != MAGIC;
	return 0;
}

static int section(struct pcapng *p, struct cur *c)
{
	uint16_t major;

	if (!cur_skip(c, 4) || !cur_u16(c, &major) || !cur_skip(c, 2 + 8) || major != 1)
		return -EBADMSG;
	p->section = true;
	p->n_if = 0;
	return 0;
}

static int interface(struct pcapng *p, struct cur *c)
{
	struct pcapng_if i = {.tsresol = TSRESOL_US};
	uint16_t code, len;

	if (!cur_u16(c, &i.link) || !cur_skip(c, 2) || !cur_u32(c, &i.snaplen))
		return -EBADMSG;
	while (c->left > 0) {
		if (!cur_u16(c, &code) || !cur_u16(c, &len))
			return -EBADMSG;
		if (code == OPT_END)
			break;
		if (code == OPT_TSRESOL && len == 1 && c->left > 0)
			i.tsresol = c->p[0];
		if (!cur_skip(c, ((size_t)len + 3) & ~(size_t)3))
			return -EBADMSG;
	}
	if (p->n_if == PCAPNG_IFS_MAX)
		return -E2BIG;
	p->ifs[p->n_if++] = i;
	return 0;
}

static int enhanced(const struct pcapng *p, struct cur *c, struct packet *ret)
{
	struct packet k = {0};
	uint32_t n, hi, lo;

	if (!cur_u32(c, &n) || !cur_u32(c, &hi) || !cur_u32(c, &lo) || !cur_u32(c, &k.len) || !cur_u32(c, &k.orig) ||
	    !cur_bytes(c, k.len, &k.data) || n >= p->n_if)
		return -EBADMSG;
	k.link = p->ifs[n].link;
	k.ts_ns = to_ns((uint64_t)hi << 32 | lo, p->ifs[n].tsresol);
	*ret = k;
	return 0;
}

static int simple(const struct pcapng *p, struct cur *c, struct packet *ret)
{
	struct packet k = {0};

	if (p->n_if == 0 || !cur_u32(c, &k.orig))
		return -EBADMSG;
	k.len = k.orig;
	if (p->ifs[0].snaplen != 0)
		k.len = min_u32(k.len, p->ifs[0].snaplen);
	if (!cur_bytes(c, k.len, &k.data))
		return -EBADMSG;
	k.link = p->ifs[0].link;
	*ret = k;
	return 0;
}

static int body(struct pcapng *p, struct cur *c, struct pcapng_block *b)
{
	switch (b->type) {
	case PCAPNG_SHB:
		return section(p, c);
	case PCAPNG_IDB:
		return interface(p, c);
	case PCAPNG_EPB:
		b->kind = PCAPNG_PACKET;
		return enhanced(p, c, &b->pkt);
	case PCAPNG_SPB:
		b->kind = PCAPNG_PACKET;
		return simple(p, c, &b->pkt);
	case BLOCK_TYPE:
		b->kind = PCAPNG_LOCAL;
		b->body = *c;
		return 0;
	default:
		p->skipped++;
		return 0;
	}
}

ssize_t pcapng_next(struct pcapng *p, const uint8_t *buf, size_t len, struct pcapng_block *ret)
{
	struct pcapng_block b = {.kind = PCAPNG_OTHER};
	struct cur c = cur_over(buf, len, p->be);
	uint32_t total, again;
	int r;

	if (!cur_u32(&c, &b.type))
		return -EAGAIN;
	if (b.type == PCAPNG_SHB) {
		r = order(p, buf, len);
		if (r != 0)
			return r;
		c.be = p->be;
	} else if (!p->section) {
		return -EBADMSG;
	}
	if (!cur_u32(&c, &total))
		return -EAGAIN;
	if (total < 12 || total % 4 != 0)
		return -EBADMSG;
	if (total > PCAPNG_BLOCK_MAX)
		return -E2BIG;
	if (len < total)
		return -EAGAIN;

	struct cur trailer = cur_over(buf + total - 4, 4, p->be);

	if (!cur_u32(&trailer, &again) || again != total)
		return -EBADMSG;
	c.left = total - 12;
	r = body(p, &c, &b);
	if (r != 0)
		return r;
	*ret = b;
	return (ssize_t)total;
}

void pcapng_head(uint8_t ret[static PCAPNG_HEAD])
{
	struct wcur w = wcur_over(ret, PCAPNG_HEAD, cur_host_be());
	bool ok;

	/* Section Header, 28 bytes: its own length is not known (-1) */
	ok = wcur_u32(&w, PCAPNG_SHB) && wcur_u32(&w, 28) && wcur_u32(&w, MAGIC) && wcur_u16(&w, 1) &&
	     wcur_u16(&w, 0) && wcur_u64(&w, UINT64_MAX) && wcur_u32(&w, 28);
	/* Interface Description, 32 bytes: snap length 0 is none; if_tsresol 9, end of options */
	ok = ok && wcur_u32(&w, PCAPNG_IDB) && wcur_u32(&w, 32) && wcur_u16(&w, LINK_ETHERNET) && wcur_u16(&w, 0) &&
	     wcur_u32(&w, 0) && wcur_u16(&w, OPT_TSRESOL) && wcur_u16(&w, 1) && wcur_bytes(&w, "\x09\0\0\0", 4) &&
	     wcur_u32(&w, OPT_END) && wcur_u32(&w, 32);
	assert(ok && w.left == 0);
}
