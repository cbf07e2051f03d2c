/* SPDX-License-Identifier: Apache-2.0 */
/* segment.c - TCP segments and IP fragments out of frames that are larger than the wire's. */
#include "segment.h"

#include <arpa/inet.h>
#include <errno.h>
#include <string.h>

#include "csum.h"
#include "frame.h"

#define MTU_MAX 65535 /* IP lengths have 16 bits */
#define FRAGMENT_HEAD 8

enum { FIN = 0x01, SYN = 0x02, RST = 0x04, PSH = 0x08, URG = 0x20, CWR = 0x80 };

/* What each piece begins with, and what in it does not change. */
struct head {
	uint8_t b[FRAME_LINK_MAX + SEGMENT_HEAD_MAX];
	size_t len, l3;
	uint64_t sum; /* of the IPv4 header but for length, id, offset */
	uint8_t ver;
};

static void put16(uint8_t *p, uint32_t v)
{
	p[0] = (uint8_t)(v >> 8);
	p[1] = (uint8_t)v;
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

/* UDP's 0 means that there is none, RFC 768. */
static uint32_t completed(const struct frame *in, uint32_t sum)
{
	return in->proto == FRAME_PROTO_UDP && sum == 0xffff ? 0 : sum;
}

static int put_as_is(struct batch *b, const struct frame *in, size_t len, uint64_t ts_ns, bool complete,
		     struct segment_count *n)
{
	uint8_t *f = batch_reserve(b, len);
	size_t at, size;

	if (!f)
		return -ENOBUFS;
	if (!complete && frame_partial(in, &at, &size)) {
		memcpy(f, in->p, in->l4);
		put_csum(f + at, completed(in, csum_copy(f + in->l4, in->p + in->l4, size)));
		memcpy(f + in->l4 + size, in->p + in->l4 + size, len - in->l4 - size);
		n->completed++;
	} else {
		memcpy(f, in->p, len);
	}
	batch_commit(b, len, 0, ts_ns);
	return 1;
}

/* Sum up the parts of an IPv4 header that pieces share. */
static void sum_head(struct head *h)
{
	uint8_t *ip = h->b + h->l3;

	if (h->ver != 4)
		return;
	memset(ip + 2, 0, 6);
	memset(ip + 10, 0, 2);
	h->sum = csum_add(ip, (ip[0] & 15u) * 4);
}

/* The first @len bytes of the frame, without a jumbo payload option. */
static void make_head(struct head *h, const struct frame *in, size_t len)
{
	size_t skip = in->jumbo ? FRAME_JUMBO : 0, ext = in->l3 + FRAME_IPV6;

	h->l3 = in->l3;
	h->ver = in->ver;
	h->len = len - skip;
	if (skip) {
		memcpy(h->b, in->p, ext);
		memcpy(h->b + ext, in->p + ext + skip, len - ext - skip);
		h->b[in->l3 + 6] = in->p[ext];
	} else {
		memcpy(h->b, in->p, len);
	}
	sum_head(h);
}

/* Write the IP header of a piece with @data bytes behind @h; @off is IPv4's, with its flags. */
static void put_ip(const struct head *h, uint8_t *ip, size_t data, uint16_t id, uint16_t off)
{
	uint16_t len = (uint16_t)(h->len - h->l3 + data);

	if (h->ver == 6) {
		put16(ip + 4, len - FRAME_IPV6);
		return;
	}
	put16(ip + 2, len);
	put16(ip + 4, id);
	put16(ip + 6, off);
	put_csum(ip + 10, csum_fold(h->sum + htons(len) + htons(id) + htons(off)));
}

/* Flags and urgent pointer of the segment @off bytes into the data. */
static void tcp_flags(const uint8_t *tcp, size_t off, bool last, uint8_t *ret_flags, uint16_t *ret_urgent)
{
	uint16_t urgent = frame_be16(tcp + 18);
	uint8_t flags = tcp[13];

	if (off > 0)
		flags &= (uint8_t) ~(CWR | SYN);
	if (!last)
		flags &= (uint8_t) ~(FIN | PSH | RST);
	if (flags & URG && urgent <= off && off > 0) {
		flags &= (uint8_t)~URG;
		urgent = 0;
	} else if (flags & URG) {
		urgent = (uint16_t)(urgent - off);
	}
	*ret_flags = flags;
	*ret_urgent = urgent;
}

/* A checksum that was complete and wrong: its receiver will drop the packet, and nobody is to be shown a good one. What
 * is returned makes a checksum wrong, or leaves it (0). */
static uint16_t spoil(const struct frame *in, bool complete)
{
	size_t len = in->end - in->l4;

	if (!complete || !in->whole ||
	    csum_fold(frame_pseudo(in) + htons((uint16_t)len) + csum_add(in->p + in->l4, len)) == 0xffff)
		return 0;
	return 0x0101;
}

static int cut_tcp(struct batch *b, const struct frame *in, size_t mtu, uint64_t ts_ns, bool complete)
{
	const uint8_t *tcp = in->p + in->l4;
	size_t data = in->l4, mss, tcp_head, at;
	const uint16_t wrong = spoil(in, complete);
	uint64_t sum = frame_pseudo(in);
	struct head h;
	int n = 0;

	if (in->end < in->l4 + FRAME_TCP)
		return -EMSGSIZE;
	tcp_head = (tcp[12] >> 4) * 4u;
	data += tcp_head;
	if (tcp_head < FRAME_TCP || data >= in->end || data - in->l3 > SEGMENT_HEAD_MAX)
		return -EMSGSIZE;
	make_head(&h, in, data);
	at = h.len - tcp_head;
	memset(h.b + at + 4, 0, 4);  /* sequence number */
	h.b[at + 13] = 0;	     /* flags */
	memset(h.b + at + 16, 0, 4); /* checksum, urgent pointer */
	sum += csum_add(h.b + at, tcp_head);
	mss = mtu - (h.len - h.l3);

	for (size_t off = 0, len; off < in->end - data; off += len, n++) {
		/* A SYN takes a number, so that what follows it in later segments is one further. */
		uint32_t seq = frame_be32(tcp + 4) + (uint32_t)off + (off > 0 && tcp[13] & SYN);
		uint8_t *f, *t, flags;
		uint16_t urgent;
		uint64_t s;

		len = in->end - data - off < mss ? in->end - data - off : mss;
		f = batch_reserve(b, h.len + len);
		if (!f)
			return -ENOBUFS;
		t = f + at;
		memcpy(f, h.b, h.len);
		put_ip(&h, f + h.l3, len, (uint16_t)(frame_be16(in->p + in->l3 + 4) + n),
		       frame_be16(in->p + in->l3 + 6));
		tcp_flags(tcp, off, off + len == in->end - data, &flags, &urgent);
		put32(t + 4, seq);
		t[13] = flags;
		put16(t + 18, urgent);
		s = sum + htonl(seq) + htons(flags) + htons(urgent) + htons((uint16_t)(tcp_head + len)) +
		    csum_copy(f + h.len, in->p + data + off, len);
		put_csum(t + 16, csum_fold(s) ^ wrong);
		batch_commit(b, h.len + len, 0, ts_ns);
	}
	return n;
}

/* An id for the fragments of a packet that has none: whatever differs between packets is in it. */
static uint32_t make_id(const struct frame *in, uint64_t ts_ns)
{
	size_t end = in->end < in->l4 + 16 ? in->end : in->l4 + 16;
	uint64_t h = 0xcbf29ce484222325ull ^ ts_ns;

	for (size_t i = in->l3; i < end; i++)
		h = (h ^ in->p[i]) * 0x100000001b3ull;
	h ^= h >> 32;
	return (uint32_t)(h ^ h >> 16);
}

/* Options of IPv4 that only the first fragment has become no-operations in the others. RFC 791 3.1 */
static void drop_options(struct head *h)
{
	uint8_t *o = h->b + h->l3 + 20, *end = h->b + h->len;

	while (o < end && *o != 0) {
		size_t len = *o == 1 ? 1 : end - o < 2 ? 0 : o[1];

		if (len == 0 || (*o != 1 && len < 2) || len > (size_t)(end - o))
			break; /* malformed: as it was */
		if (!(*o & 0x80))
			memset(o, 1, len);
		o += len;
	}
	sum_head(h);
}

/* The part of the packet that all fragments begin with, and where in the packet this fragment's data stood. */
static void fragment_head(struct head *h, const struct frame *in, uint64_t ts_ns, uint32_t *ret_id, size_t *ret_off,
			  bool *ret_more)
{
	uint16_t word = frame_be16(in->p + in->l3 + 6);

	if (in->ver == 4) {
		make_head(h, in, in->l4);
		*ret_off = (word & 0x1fffu) * 8;
		*ret_more = word & FRAME_MF;
		*ret_id = frame_be16(in->p + in->l3 + 4);
		if (*ret_id == 0 && word & FRAME_DF) /* of no use to a sender that forbids fragments, RFC 6864 */
			*ret_id = make_id(in, ts_ns) & 0xffff;
		return;
	}
	if (in->frag) {
		make_head(h, in, in->frag + FRAGMENT_HEAD);
		word = frame_be16(in->p + in->frag + 2);
		*ret_off = word & 0xfff8u;
		*ret_more = word & 1;
		*ret_id = frame_be32(in->p + in->frag + 4);
		return;
	}
	make_head(h, in, in->part);
	h->b[h->len] = in->p[in->part_nh];
	h->b[h->len + 1] = 0;
	h->b[in->part_nh] = FRAME_PROTO_FRAGMENT;
	h->len += FRAGMENT_HEAD;
	*ret_off = 0;
	*ret_more = false;
	*ret_id = make_id(in, ts_ns);
}

static int cut_ip(struct batch *b, const struct frame *in, size_t mtu, uint64_t ts_ns, bool complete)
{
	size_t data = in->ver == 4 ? in->l4 : in->frag ? in->frag + FRAGMENT_HEAD : in->part;
	size_t total = in->end - data, base, room, check, size;
	bool more, open = !complete && frame_partial(in, &check, &size);
	struct head h;
	uint32_t id;
	int n = 0;

	if (data + FRAGMENT_HEAD - in->l3 > SEGMENT_HEAD_MAX)
		return -EMSGSIZE;
	fragment_head(&h, in, ts_ns, &id, &base, &more);
	if (base + total > 65535)
		return -EMSGSIZE; /* no offset for its end */
	room = mtu - (h.len - h.l3);

	for (size_t at = 0, len; at < total; at += len, n++) {
		bool last = total - at <= room;
		uint8_t *f;

		len = last ? total - at : room & ~(size_t)7;
		f = batch_reserve(b, h.len + len);
		if (!f)
			return -ENOBUFS;
		memcpy(f, h.b, h.len);
		put_ip(&h, f + h.l3, len, (uint16_t)id, (uint16_t)((base + at) / 8 | (last && !more ? 0 : FRAME_MF)));
		if (in->ver == 6) {
			put16(f + h.len - 6, (uint32_t)(base + at) | !(last && !more));
			put32(f + h.len - 4, id);
		}
		memcpy(f + h.len, in->p + data + at, len);
		if (n == 0 && open) /* all headers are in the first piece: SEGMENT_HEAD_MAX */
			put_csum(f + h.len + check - data, completed(in, csum_add(in->p + in->l4, size)));
		if (n == 0 && in->ver == 4)
			drop_options(&h);
		batch_commit(b, h.len + len, 0, ts_ns);
	}
	return n;
}

void segment_room(size_t len, uint32_t mtu, size_t *ret_bytes, size_t *ret_frames)
{
	enum { LEAST = SEGMENT_MTU_MIN - SEGMENT_HEAD_MAX - 8 };

	_Static_assert(SEGMENT_FRAME_MAX / LEAST + 1 <= BATCH_FRAMES, "an empty batch has room");
	_Static_assert(SEGMENT_FRAME_MAX + (SEGMENT_FRAME_MAX / LEAST + 1) *
						   (FRAME_LINK_MAX + SEGMENT_HEAD_MAX + BATCH_EPB_MAX) <=
			       BATCH_BYTES,
		       "an empty batch has room");
	*ret_bytes = *ret_frames = 0;
	if (mtu > MTU_MAX)
		mtu = MTU_MAX;
	if (len < FRAME_ETH || len > SEGMENT_FRAME_MAX)
		return;
	*ret_frames = 1;
	*ret_bytes = len + BATCH_EPB_MAX;
	if (len <= mtu + (size_t)FRAME_ETH || mtu < SEGMENT_MTU_MIN)
		return;
	/* Pieces are full but for the last one, and rounded down to 8 in fragments. */
	*ret_frames = len / (mtu - SEGMENT_HEAD_MAX - 8) + 1;
	*ret_bytes = len + *ret_frames * (FRAME_LINK_MAX + SEGMENT_HEAD_MAX + BATCH_EPB_MAX);
}

/* Larger than @mtu: cut. */
static int cut(struct batch *b, const struct frame *in, size_t mtu, uint64_t ts_ns, bool complete,
	       struct segment_count *n)
{
	unsigned frames = b->n;
	size_t bytes = b->len;
	bool tcp, df;
	int r;

	if (in->ver == 0 || in->end > in->len || mtu < SEGMENT_MTU_MIN)
		return -EMSGSIZE;
	tcp = in->proto == FRAME_PROTO_TCP && !in->fragment;
	if (in->unsized && !tcp)
		return -EMSGSIZE;
	df = !tcp && (in->ver == 4 ? in->p[in->l3 + 6] & FRAME_DF >> 8 : !in->frag);
	r = tcp ? cut_tcp(b, in, mtu, ts_ns, complete) : cut_ip(b, in, mtu, ts_ns, complete);
	if (r < 0) { /* what was added so far goes again */
		b->n = frames;
		b->len = bytes;
		return r;
	}
	n->cut++;
	n->df += df;
	return r;
}

int segment_put(struct batch *b, const uint8_t *p, size_t len, uint32_t mtu, uint64_t ts_ns, bool complete,
		struct segment_count *n)
{
	struct frame in;

	if (len < FRAME_ETH || len > SEGMENT_FRAME_MAX)
		return -EMSGSIZE;
	if (mtu > MTU_MAX)
		mtu = MTU_MAX;
	frame_parse(&in, p, len);
	if (len - in.l3 <= mtu)
		return put_as_is(b, &in, len, ts_ns, complete, n);
	if (in.whole && in.ver && in.end - in.l3 <= mtu) /* what is too much is padding, or a trailer */
		return put_as_is(b, &in, in.end, ts_ns, complete, n);
	return cut(b, &in, mtu, ts_ns, complete, n);
}
