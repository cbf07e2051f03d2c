/* SPDX-License-Identifier: Apache-2.0 */
/* test_segment.c - pieces of large frames put together again are the frame, and every checksum is right.
 *
 *   test_segment [-s SEED] */
#include <arpa/inet.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <errno.h>
#include <cmocka.h>

#include "common/csum.h"
#include "common/frame.h"
#include "common/segment.h"
#include "pattern.h"
#include "wire.h"

#define TS 1700000000123456789ull

static struct batch batch;
static bool complete;	     /* does the kernel say that checksums were left open? Else that is not known */
static struct wire in, want; /* the frame, and it with its checksum completed */
static uint8_t joined[WIRE_MAX];
static bool had[WIRE_MAX];
static uint64_t seed;
static const uint32_t mtus[] = {576, 1280, 1500, 9000, 65521};

/* The batch is a chain of blocks, in each a frame; nothing else. */
static void check_blocks(const struct batch *b)
{
	size_t at = 0;

	for (unsigned i = 0; i < b->n; i++) {
		uint32_t total, tail, caplen;

		memcpy(&total, b->buf + at + 4, 4);
		memcpy(&caplen, b->buf + at + 20, 4);
		memcpy(&tail, b->buf + at + total - 4, 4);
		assert_int_equal(total, tail);
		assert_int_equal(b->frame[i].off, at + BATCH_EPB_HEAD);
		assert_int_equal(b->frame[i].len, caplen);
		at += total;
	}
	assert_int_equal(at, b->len);
	assert_int_equal(b->payload, 0);
}

/* Put it into an empty batch; what comes out holds in any case. */
static int put(const uint8_t *p, size_t len, uint32_t mtu, struct segment_count *n)
{
	size_t bytes, frames;
	int r;

	batch_reset(&batch);
	segment_room(len, mtu, &bytes, &frames);
	assert_true(bytes <= BATCH_BYTES && frames <= BATCH_FRAMES);
	r = segment_put(&batch, p, len, mtu, TS, complete, n);
	assert_int_equal(r < 0 ? 0 : r, batch.n);
	assert_true(r > 0 || r == -EMSGSIZE);
	assert_true(batch.len <= bytes && batch.n <= frames);
	check_blocks(&batch);
	return r;
}

static const uint8_t *frame(unsigned i)
{
	return batch.buf + batch.frame[i].off;
}

static void check_ipv4(const uint8_t *f, size_t len, size_t l3)
{
	size_t head = (f[l3] & 15u) * 4;

	assert_int_equal(wire_get16(f + l3 + 2), len - l3);
	assert_int_equal(wire_sum(0, f + l3, head), 0xffff);
}

static void check_segment(const struct wire_spec *s, unsigned i, size_t *off)
{
	const uint8_t *f = frame(i), *t = f + in.l4, *o = in.b + in.l4;
	size_t len = batch.frame[i].len, data = len - in.data;
	bool last = *off + data == s->data;
	uint8_t flags = s->flags;

	assert_true(len > in.data || s->data == 0);
	if (s->ver == 4) {
		check_ipv4(f, len, in.l3);
		assert_int_equal(wire_get16(f + in.l3 + 4), (s->id + i) & 0xffff);
		assert_memory_equal(f + in.l3 + 6, in.b + in.l3 + 6, 4);
		assert_memory_equal(f + in.l3 + 12, in.b + in.l3 + 12, in.l4 - in.l3 - 12);
	} else {
		assert_int_equal(wire_get16(f + in.l3 + 4), len - in.l3 - 40);
		assert_memory_equal(f + in.l3 + 6, in.b + in.l3 + 6, in.l4 - in.l3 - 6);
	}
	assert_int_equal(wire_sum(wire_pseudo(&in, 6, len - in.l4), t, len - in.l4), 0xffff);
	assert_memory_equal(t, o, 4);
	assert_int_equal(wire_get32(t + 4), (uint32_t)(s->seq + *off + (i > 0 && s->flags & W_SYN)));
	assert_memory_equal(t + 8, o + 8, 5);
	assert_memory_equal(t + 14, o + 14, 2);
	assert_memory_equal(t + 20, o + 20, s->tcp_opts);
	if (i > 0)
		flags &= (uint8_t) ~(W_CWR | W_SYN);
	if (!last)
		flags &= (uint8_t) ~(W_FIN | W_PSH | W_RST);
	if (flags & W_URG && i > 0 && s->urgent <= *off)
		flags &= (uint8_t)~W_URG;
	assert_int_equal(t[13], flags);
	if (flags & W_URG) /* it points at the same byte from everywhere */
		assert_int_equal(wire_get16(t + 18) + *off, s->urgent);
	assert_memory_equal(f + in.data, in.b + in.data + *off, data);
	*off += data;
}

/* What the chain of IPv6 headers says is at @at. */
static int header_at(const uint8_t *f, size_t at)
{
	size_t h = in.l3 + 40;
	int kind = f[in.l3 + 6];

	for (; h < at; h += 8u + f[h + 1] * 8u)
		kind = f[h];
	return h == at ? kind : -1;
}

/* Every fragment, into joined[]: no gap, no overlap, each but the last a multiple of 8. */
static void check_fragments(const struct wire_spec *s, const struct segment_count *n)
{
	size_t base = s->fragment ? s->frag_off : 0, from = s->ver == 4 ? in.l4 : in.part + (s->fragment ? 8 : 0),
	       total = 0;
	uint32_t id = 0;

	memset(had, 0, sizeof(had));
	for (unsigned i = 0; i < batch.n; i++) {
		const uint8_t *f = frame(i), *ip = f + in.l3;
		size_t len = batch.frame[i].len, head, off;
		bool more;

		if (s->ver == 4) {
			head = in.l4;
			check_ipv4(f, len, in.l3);
			assert_int_equal(ip[9], s->proto);
			assert_memory_equal(ip + 12, in.b + in.l3 + 12, 8);
			assert_false(ip[6] & 0x40);
			off = wire_get16(ip + 6) % 0x2000 * 8;
			more = ip[6] & 0x20;
			assert_true(i == 0 || id == wire_get16(ip + 4));
			id = wire_get16(ip + 4);
			if (!s->df || s->id)
				assert_int_equal(id, s->id);
			if (s->ip_opts) {
				assert_memory_equal(ip + 20,
						    i ? "\x94\x04\x00\x00\x01\x01\x01\x01\x01\x01\x01\x00"
						      : "\x94\x04\x00\x00\x07\x07\x04\x00\x00\x00\x00\x00",
						    12);
			}
		} else {
			const uint8_t *h = f + in.part;

			head = in.part + 8;
			assert_int_equal(wire_get16(ip + 4), len - in.l3 - 40);
			assert_memory_equal(ip + 7, in.b + in.l3 + 7, 33);
			assert_int_equal(header_at(f, in.part), 44);
			assert_int_equal(h[1] | (h[3] & 6), 0);
			assert_int_equal(h[0], s->ext & EXT_DEST && !s->fragment ? 60 : s->proto);
			off = wire_get16(h + 2) & 0xfff8;
			more = h[3] & 1;
			assert_true(i == 0 || id == wire_get32(h + 4));
			id = wire_get32(h + 4);
			if (s->fragment)
				assert_int_equal(id, 0xabcd0000u | s->id);
		}
		assert_true(off >= base && len > head);
		assert_int_equal(more, i + 1 < batch.n || (s->fragment && s->more));
		assert_true(i + 1 == batch.n || (len - head) % 8 == 0);
		for (size_t k = 0; k < len - head; k++) {
			assert_false(had[off - base + k]);
			had[off - base + k] = true;
			joined[off - base + k] = f[head + k];
		}
		total += len - head;
	}
	assert_int_equal(total, want.end - from);
	assert_memory_equal(joined, want.b + from, total);
	assert_int_equal(n->df, s->ver == 4 ? s->df : !s->fragment);
}

/* What must come of @s at @mtu. */
static void check(const struct wire_spec *s, uint32_t mtu)
{
	bool fits, left, hands_off = s->fragment || (s->proto != 6 && s->proto != 17),
			 tcp = s->proto == 6 && !s->fragment;
	struct segment_count n = {0};
	struct wire_spec whole = *s;
	size_t off = 0;
	int r;

	whole.partial = false;
	wire_build(&in, s, (unsigned)seed);
	wire_build(&want, &whole, (unsigned)seed);
	fits = in.end - in.l3 <= mtu;
	r = put(in.b, in.len, mtu, &n);
	assert_true(r > 0);
	assert_int_equal(n.cut, !fits);
	/* now and then a true checksum is the pseudo header's sum */
	left = wire_get16(in.b + in.l4 + (s->proto == 6 ? 16 : 6)) == wire_pseudo(&in, s->proto, in.end - in.l4);
	assert_true(hands_off || left || !s->partial);
	assert_int_equal(n.completed, fits && left && !hands_off);
	assert_true(fits ? r == 1 : r > 1);
	for (unsigned i = 0; i < batch.n; i++) {
		assert_true(batch.frame[i].len <= in.l3 + mtu);
		assert_memory_equal(frame(i), in.b, in.l3);
	}
	if (fits) {
		size_t len = in.len - in.l3 <= mtu ? in.len : in.end;

		assert_int_equal(batch.frame[0].len, len);
		assert_memory_equal(frame(0), want.b, len);
	} else if (tcp) {
		for (unsigned i = 0; i < batch.n; i++)
			check_segment(s, i, &off);
		assert_int_equal(off, s->data);
		assert_int_equal(n.df, 0);
	} else {
		check_fragments(s, &n);
	}
}

static void test_all_flags_at_all_mtus(void **state)
{
	(void)state;
	for (size_t m = 0; m < sizeof(mtus) / sizeof(*mtus); m++)
		for (unsigned flags = 0; flags < 256; flags++) {
			struct wire_spec s = {.ver = flags % 2 ? 6 : 4,
					      .proto = 6,
					      .tcp_opts = 12,
					      .flags = (uint8_t)flags,
					      .partial = true,
					      .seq = 0xfffffff0u,
					      .id = 0xfffe,
					      .urgent = 700};

			s.data = mtus[m] > 9000 ? mtus[m] - 54 : 3 * mtus[m];
			check(&s, mtus[m]);
			s.ver = 10 - s.ver;
			s.urgent = (uint16_t)(mtus[m] - (s.ver == 4 ? 52 : 72)); /* where the first segment ends */
			check(&s, mtus[m]);
		}
}

/* Every size around where one piece becomes two, two become three. */
static void test_sizes_around_the_edges(void **state)
{
	static const uint8_t protos[] = {6, 17, 1, 58, 132};

	(void)state;
	for (unsigned k = 0; k < 2 * sizeof(protos); k++)
		for (size_t pieces = 1; pieces <= 3; pieces++)
			for (size_t d = 0; d < 130; d++) {
				struct wire_spec s = {.ver = k % 2 ? 6 : 4,
						      .proto = protos[k / 2],
						      .flags = W_ACK,
						      .partial = d % 2,
						      .df = d % 3,
						      .id = 5};

				s.data = pieces * 1480 - 120 + d;
				check(&s, 1500);
			}
}

static void draw(struct rnd *r, struct wire_spec *s)
{
	static const uint8_t protos[] = {6, 6, 6, 17, 17, 1, 58, 50, 132, 59};
	size_t room;

	*s = (struct wire_spec){
		.ver = rnd_below(r, 2) ? 4 : 6,
		.proto = protos[rnd_below(r, sizeof(protos))],
		.tags = rnd_below(r, 3),
		.ip_opts = rnd_below(r, 3)   ? 0
			   : rnd_below(r, 2) ? 12
					     : 40,
		.ext = rnd_below(r, 2) ? 0 : rnd_below(r, 8),
		.tcp_opts = 4 * rnd_below(r, 11),
		.flags = (uint8_t)rnd(r),
		.urgent = (uint16_t)rnd(r),
		.id = rnd_below(r, 4) ? (uint16_t)rnd(r) : 0,
		.seq = (uint32_t)rnd(r),
		.data = 1 + rnd_size(r, 65000),
		.pad = rnd_below(r, 3) ? 0 : rnd_below(r, 60),
		.partial = rnd_below(r, 2),
		.none = rnd_below(r, 4) == 0,
		.df = rnd_below(r, 2),
		.fragment = rnd_below(r, 6) == 0,
		.more = rnd_below(r, 2),
	};
	if (s->ver == 6)
		s->none = false;
	s->partial = s->partial && !s->none;
	room = s->ver == 4 ? 65535 - 140 : 65535 - 200;
	if (s->data > room)
		s->data = room;
	if (s->fragment) {
		if (rnd_below(r, 3))
			s->frag_off = (uint16_t)(rnd_below(r, (uint32_t)(65535 - 8 - s->data)) & ~7u);
		if (s->more)
			s->data = (s->data + 7) & ~(size_t)7;
		/* a fragment that says 0 and no more is, in IPv4, a packet */
		s->more = s->more || s->frag_off == 0;
	}
}

static void test_random_frames_come_together_again(void **state)
{
	struct rnd r = {seed};

	(void)state;
	for (int i = 0; i < 6000; i++) {
		struct wire_spec s;

		draw(&r, &s);
		check(&s, mtus[rnd_below(&r, 5)]);
		check(&s, SEGMENT_MTU_MIN + rnd_below(&r, 9000));
	}
}

/* Whatever is in a frame: the bounds hold (put() checks), no piece is too large. */
static void test_damaged_frames_keep_the_bounds(void **state)
{
	struct rnd r = {seed + 1};
	int refused = 0, cut = 0;

	(void)state;
	for (int i = 0; i < 20000; i++) {
		uint32_t mtu = SEGMENT_MTU_MIN + (rnd_below(&r, 2) ? 0 : rnd_below(&r, 9000));
		struct segment_count n = {0};
		struct wire_spec s;
		size_t len;

		draw(&r, &s);
		wire_build(&in, &s, (unsigned)i);
		for (unsigned k = 1 + rnd_below(&r, 6); k; k--)
			in.b[12 + rnd_below(&r, (uint32_t)(in.data - 12 + 8))] = (uint8_t)rnd(&r);
		len = rnd_below(&r, 3) ? in.len : rnd_below(&r, (uint32_t)in.len + 1);
		if (put(in.b, len, mtu, &n) < 0)
			refused++;
		cut += (int)n.cut;
		for (unsigned k = 0; k < batch.n; k++)
			assert_true(batch.frame[k].len <= 14 + 8 + mtu);
	}
	assert_true(refused > 100 && cut > 100);
}

/* 600 zeros from 10.0.0.1:1 to 10.0.0.2:2 at an MTU of 576, added up by hand:
 *   addresses 0a00+0001+0a00+0002 = 1403
 *   first:  IP  4500+0240+0001+0000+4006+1403 = 9b4a -> 64b5    TCP 1403+0006+022c+0003+0000+5010 = 6648 -> 99b7
 *   second: IP  4500+0068+0002+0000+4006+1403 = 9973 -> 668c    TCP 1403+0006+0054+0003+0218+5018 = 6690 -> 996f */
static void test_golden(void **state)
{
	static const uint8_t whole[54] =
		{2,    0, 0,	0,    0, 1, 2, 0, 0,  0, 0,    2,    8,	   0, /* Ethernet */
		 0x45, 0, 0x02, 0x80, 0, 1, 0, 0, 64, 6, 0x77, 0x77, 10,   0,	 0, 1, 10,   0,	   0, 2,
		 0,    1, 0,	2,    0, 0, 0, 0, 0,  0, 0,    0,    0x50, 0x18, 0, 0, 0x66, 0x66, 0, 0};
	static const uint8_t first[54] = {2,	0, 0,	 0,    0,    1,	   2, 0, 0,    0,    0,	   2,	 8,  0,
					  0x45, 0, 0x02, 0x40, 0,    1,	   0, 0, 64,   6,    0x64, 0xb5, 10, 0,
					  0,	1, 10,	 0,    0,    2,	   0, 1, 0,    2,    0,	   0,	 0,  0,
					  0,	0, 0,	 0,    0x50, 0x10, 0, 0, 0x99, 0xb7, 0,	   0};
	static const uint8_t second[54] = {2,	 0, 0,	  0,	0,    1,    2, 0, 0,	0,    0,    2,	  8,	0,
					   0x45, 0, 0x00, 0x68, 0,    2,    0, 0, 64,	6,    0x66, 0x8c, 10,	0,
					   0,	 1, 10,	  0,	0,    2,    0, 1, 0,	2,    0,    0,	  0x02, 0x18,
					   0,	 0, 0,	  0,	0x50, 0x18, 0, 0, 0x99, 0x6f, 0,    0};
	struct segment_count n = {0};

	(void)state;
	memset(in.b, 0, 54 + 600);
	memcpy(in.b, whole, 54);
	assert_int_equal(put(in.b, 54 + 600, 576, &n), 2);
	assert_int_equal(batch.frame[0].len, 54 + 536);
	assert_int_equal(batch.frame[1].len, 54 + 64);
	assert_memory_equal(frame(0), first, 54);
	assert_memory_equal(frame(1), second, 54);
}

static void test_padding_and_trailers_are_no_data(void **state)
{
	struct wire_spec s = {.ver = 4, .proto = 6, .flags = W_ACK, .data = 3, .pad = 3, .partial = true};

	(void)state;
	check(&s, 1500); /* 60 bytes, as they are */
	s.data = 1460;
	s.pad = 4; /* a trailer: the packet fits, the frame does not */
	check(&s, 1500);
	assert_int_equal(batch.frame[0].len, 1514);
	s.data = 4000;
	s.pad = 60;
	check(&s, 1500);
}

static void test_what_cannot_be_cut_is_refused(void **state)
{
	struct wire_spec s = {.ver = 4, .proto = 6, .flags = W_ACK, .data = 3000, .partial = true};
	struct segment_count n = {0};

	(void)state;
	wire_build(&in, &s, 0);
	assert_int_equal(put(in.b, in.len - 1, 1500, &n), -EMSGSIZE); /* captured short */
	assert_int_equal(put(in.b, 1400, 1500, &n), 1);		      /* ... but that fits */
	assert_memory_equal(frame(0), in.b, 1400);
	in.b[12] = 0x09; /* not IP */
	assert_int_equal(put(in.b, in.len, 1500, &n), -EMSGSIZE);
	in.b[12] = 0x08;
	in.b[in.l4 + 12] = 0x40; /* a TCP header of 16 bytes */
	assert_int_equal(put(in.b, in.len, 1500, &n), -EMSGSIZE);
	in.b[in.l4 + 12] = 0x50;
	assert_int_equal(put(in.b, in.len, 575, &n), -EMSGSIZE);
	assert_int_equal(put(in.b, 13, 1500, &n), -EMSGSIZE);
	assert_int_equal(put(in.b, SEGMENT_FRAME_MAX + 1, 1500, &n), -EMSGSIZE);
	s.proto = 17;
	wire_build(&in, &s, 0);
	wire_16(in.b + in.l3 + 2, 0); /* without a length, and no TCP */
	assert_int_equal(put(in.b, in.len, 1500, &n), -EMSGSIZE);
	s.fragment = true;
	s.frag_off = 65528; /* reaches beyond what an offset can say */
	wire_build(&in, &s, 0);
	assert_int_equal(put(in.b, in.len, 1500, &n), -EMSGSIZE);
	s = (struct wire_spec){.ver = 6, .proto = 17, .data = 3000};
	wire_build(&in, &s, 0);
	in.b[in.l3 + 6] = 60; /* an extension of 1,024 bytes */
	in.b[in.l4 + 1] = 127;
	assert_int_equal(put(in.b, in.len, 1500, &n), -EMSGSIZE);
	assert_true(n.cut == 0 && n.df == 0 && n.completed == 0);
}

/* IPv4 and IPv6 with a length of 0, IPv6 with a jumbo payload option, which the segments do without. */
static void test_more_than_64_kib(void **state)
{
	struct wire_spec s = {.ver = 4, .proto = 6, .flags = W_ACK | W_PSH, .tcp_opts = 12, .data = 200000};
	struct segment_count n = {0};
	size_t off = 0;

	(void)state;
	for (int ver = 4; ver <= 6; ver += 2) {
		s.ver = (uint8_t)ver;
		wire_build(&in, &s, 1);
		assert_true(put(in.b, in.len, 1500, &n) > 130);
		for (unsigned i = 0; i < batch.n; i++)
			check_segment(&s, i, &off);
		assert_int_equal(off, 200000);
		off = 0;
	}
	memmove(in.b + in.l4 + 8, in.b + in.l4, in.end - in.l4);
	memcpy(in.b + in.l4, "\x06\x00\xc2\x04", 4);
	wire_32(in.b + in.l4 + 4, (uint32_t)(in.end - in.l4 + 8));
	in.b[in.l3 + 6] = 0;
	assert_int_equal(put(in.b, in.len + 7, 1500, &n), -EMSGSIZE); /* captured short */
	assert_true(put(in.b, in.len + 8, 1500, &n) > 130);
	wire_build(&in, &s, 1);
	for (unsigned i = 0; i < batch.n; i++)
		check_segment(&s, i, &off);
	assert_int_equal(off, 200000);
	s.proto = 17;
	wire_build(&in, &s, 1);
	assert_int_equal(put(in.b, in.len, 1500, &n), -EMSGSIZE);
	assert_int_equal(n.cut, 3);
}

static void test_the_largest_frame_has_room_at_every_mtu(void **state)
{
	(void)state;
	for (uint32_t mtu = 0; mtu < 70000; mtu += 7) {
		size_t bytes, frames;

		segment_room(SEGMENT_FRAME_MAX, mtu, &bytes, &frames);
		assert_true(frames > 0 && frames <= BATCH_FRAMES && bytes <= BATCH_BYTES);
		segment_room(SEGMENT_FRAME_MAX + 1, mtu, &bytes, &frames);
		assert_true(frames == 0 && bytes == 0);
	}
}

/* A full batch takes nothing of a frame rather than a part of it. */
static void test_nothing_is_added_without_room(void **state)
{
	struct wire_spec s = {.ver = 4, .proto = 6, .flags = W_ACK, .data = 60000};
	struct segment_count n = {0};
	size_t bytes, frames;
	int r = 0, puts = 0;

	(void)state;
	for (int kind = 0; kind < 3; kind++) {
		s.proto = kind == 1 ? 17 : 6;
		s.data = kind == 2 ? 10 : 60000;
		wire_build(&in, &s, 3);
		batch_reset(&batch);
		for (puts = 0;; puts++) {
			struct batch was = batch;
			struct segment_count n_was = n;

			segment_room(in.len, 1500, &bytes, &frames);
			r = segment_put(&batch, in.b, in.len, 1500, TS, complete, &n);
			if (r > 0)
				continue;
			assert_int_equal(r, -ENOBUFS);
			assert_true(batch.n == was.n && batch.len == was.len);
			assert_memory_equal(&n, &n_was, sizeof(n));
			assert_true(was.n + frames > BATCH_FRAMES || was.len + bytes > BATCH_BYTES);
			break;
		}
		assert_true(puts >= 5);
		check_blocks(&batch);
	}
	assert_int_equal(puts, BATCH_FRAMES);
}

/* Fragments of one packet have one id, of the next another, although the sender gave none. */
static void test_ids_are_made_up_where_there_are_none(void **state)
{
	struct segment_count n = {0};
	uint32_t last = 0;

	(void)state;
	for (int i = 0; i < 20; i++) {
		struct wire_spec s = {.ver = i % 2 ? 6 : 4, .proto = 17, .df = true, .data = 3000};
		uint32_t id;

		wire_build(&in, &s, (unsigned)i);
		assert_true(put(in.b, in.len, 1500, &n) == 3);
		id = i % 2 ? wire_get32(frame(0) + 14 + 40 + 4) : wire_get16(frame(0) + 18);
		assert_true(id != last);
		last = id;
	}
}

/* What has the sum of its pseudo header by right keeps it; what has another wrong one keeps that too. */
static void test_other_checksums_are_left_alone(void **state)
{
	struct wire_spec s = {.ver = 4, .proto = 17, .data = 100};
	struct segment_count n = {0};

	(void)state;
	wire_build(&in, &s, 9);
	wire_16(in.b + in.l4 + 6, 0x1234);
	assert_int_equal(put(in.b, in.len, 1500, &n), 1);
	assert_memory_equal(frame(0), in.b, in.len);
	s.none = true;
	wire_build(&in, &s, 9);
	assert_int_equal(put(in.b, in.len, 1500, &n), 1);
	assert_memory_equal(frame(0), in.b, in.len);
	s.none = false;
	s.partial = true;
	wire_build(&in, &s, 9);
	in.b[in.l4 + 5] += 1; /* a length beyond the packet, with a checksum for that */
	wire_16(in.b + in.l4 + 6, wire_pseudo(&in, 17, 109));
	assert_int_equal(put(in.b, in.len, 1500, &n), 1);
	assert_memory_equal(frame(0), in.b, in.len);
	assert_int_equal(n.completed, 0);
}

/* What the kernel says is complete is not completed, and a wrong checksum stays wrong in each segment. */
static void test_what_is_wrong_stays_wrong(void **state)
{
	struct wire_spec s = {.ver = 4, .proto = 6, .data = 100, .partial = true};
	struct segment_count n = {0};

	(void)state;
	for (int ver = 4; ver <= 6; ver += 2) {
		complete = true;
		s = (struct wire_spec){.ver = (uint8_t)ver, .proto = 6, .data = 100, .partial = true};
		wire_build(&in, &s, 9);
		assert_int_equal(put(in.b, in.len, 1500, &n), 1);
		assert_memory_equal(frame(0), in.b, in.len);
		for (int wrong = 0; wrong < 2; wrong++) {
			s.data = 5000;
			s.partial = false;
			wire_build(&in, &s, 9);
			in.b[in.l4 + 16] ^= (uint8_t)(wrong * 0x40);
			assert_int_equal(put(in.b, in.len, 1500, &n), 4);
			for (unsigned i = 0; i < 4; i++) {
				struct frame f;

				frame_parse(&f, frame(i), batch.frame[i].len);
				assert_int_equal(csum_fold(frame_pseudo(&f) + htons((uint16_t)(f.end - f.l4)) +
							   csum_add(f.p + f.l4, f.end - f.l4)) == 0xffff,
						 !wrong);
			}
		}
		complete = false;
	}
	assert_int_equal(n.completed, 0);
}

/* RFC 768: a sum that comes out as 0 is sent as all ones. */
static void test_a_udp_checksum_is_never_zero(void **state)
{
	struct wire_spec s = {.ver = 4, .proto = 17, .data = 3000};
	struct segment_count n = {0};

	(void)state;
	for (int pieces = 1; pieces <= 3; pieces += 2) {
		s.data = pieces == 1 ? 100 : 3000;
		wire_build(&in, &s, 9);
		/* adding the checksum to the data makes it 0 */
		wire_16(in.b + in.data, wire_sum(wire_get16(in.b + in.l4 + 6), in.b + in.data, 2));
		wire_16(in.b + in.l4 + 6, wire_pseudo(&in, 17, in.end - in.l4));
		assert_int_equal(put(in.b, in.len, 1500, &n), pieces);
		assert_int_equal(wire_get16(frame(0) + in.l4 + 6), 0xffff);
	}
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_golden),
		cmocka_unit_test(test_all_flags_at_all_mtus),
		cmocka_unit_test(test_sizes_around_the_edges),
		cmocka_unit_test(test_random_frames_come_together_again),
		cmocka_unit_test(test_damaged_frames_keep_the_bounds),
		cmocka_unit_test(test_padding_and_trailers_are_no_data),
		cmocka_unit_test(test_what_cannot_be_cut_is_refused),
		cmocka_unit_test(test_more_than_64_kib),
		cmocka_unit_test(test_the_largest_frame_has_room_at_every_mtu),
		cmocka_unit_test(test_nothing_is_added_without_room),
		cmocka_unit_test(test_ids_are_made_up_where_there_are_none),
		cmocka_unit_test(test_other_checksums_are_left_alone),
		cmocka_unit_test(test_what_is_wrong_stays_wrong),
		cmocka_unit_test(test_a_udp_checksum_is_never_zero),
	};
	int failed;

	seed = seed_of(argc, argv);
	batch_init(&batch);
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	batch_fini(&batch);
	return failed;
}
