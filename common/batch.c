/* SPDX-License-Identifier: Apache-2.0 */
/* batch.c - forged frames inside Enhanced Packet Blocks, and the blocks that announce flows. */
#include "batch.h"

#include <stdlib.h>
#include <string.h>

#include "block.h"

#define EPB_TYPE 6u
#define EPB_TAIL 4

static size_t pad4(size_t len)
{
	return (len + 3) & ~(size_t)3;
}

static void put16(uint8_t **p, uint16_t v)
{
	memcpy(*p, &v, 2);
	*p += 2;
}

static void put32(uint8_t **p, uint32_t v)
{
	memcpy(*p, &v, 4);
	*p += 4;
}

void batch_init(struct batch *b)
{
	memset(b, 0, sizeof *b);
	b->buf = aligned_alloc(4096, BATCH_BYTES);
	if (!b->buf)
		abort();
	memset(b->buf, 0, BATCH_BYTES); /* touched now, not in the first burst */
}

void batch_fini(struct batch *b)
{
	free(b->buf);
	memset(b, 0, sizeof *b);
}

void batch_reset(struct batch *b)
{
	b->len = 0;
	b->payload = 0;
	b->n = 0;
}

uint8_t *batch_reserve(struct batch *b, size_t max)
{
	if (b->n >= BATCH_FRAMES || max > BATCH_BYTES || b->len + BATCH_EPB_MAX + max > BATCH_BYTES)
		return NULL;
	return b->buf + b->len + BATCH_EPB_HEAD;
}

void batch_commit(struct batch *b, size_t len, size_t payload, uint64_t ts_ns)
{
	uint32_t total = (uint32_t)(BATCH_EPB_HEAD + pad4(len) + EPB_TAIL);
	uint8_t *p = b->buf + b->len;

	put32(&p, EPB_TYPE);
	put32(&p, total);
	put32(&p, 0); /* interface */
	put32(&p, (uint32_t)(ts_ns >> 32));
	put32(&p, (uint32_t)ts_ns);
	put32(&p, (uint32_t)len);
	put32(&p, (uint32_t)len);
	memset(p + len, 0, 4); /* the padding; what of it goes beyond is written over */
	p += pad4(len);
	put32(&p, total);
	b->frame[b->n].off = (uint32_t)(b->len + BATCH_EPB_HEAD);
	b->frame[b->n].len = (uint32_t)len;
	b->n++;
	b->len += total;
	b->payload += payload;
}

static void put_tlv(uint8_t **p, uint16_t type, uint16_t len)
{
	put16(p, type);
	put16(p, len);
}

bool batch_flow(struct batch *b, uint64_t id, uint32_t stream, uint32_t inc, const struct tuple *t)
{
	const uint32_t total = BLOCK_HEAD + 4 * BLOCK_TLV_HEAD + 8 + 4 + 4 + BLOCK_TUPLE_LEN + 4;
	uint8_t *p = b->buf + b->len;

	_Static_assert(BLOCK_HEAD + 4 * BLOCK_TLV_HEAD + 16 + BLOCK_TUPLE_LEN + 4 <= BATCH_FLOW_BYTES, "FLOW block");
	if (b->len + BATCH_FLOW_BYTES > BATCH_BYTES)
		return false;
	put32(&p, BLOCK_TYPE);
	put32(&p, total);
	put16(&p, BLOCK_FLOW);
	put16(&p, BLOCK_VERSION);
	put_tlv(&p, BLOCK_FLOW_ID, 8);
	memcpy(p, &id, 8);
	p += 8;
	put_tlv(&p, BLOCK_FLOW_STREAM, 4);
	put32(&p, stream);
	put_tlv(&p, BLOCK_FLOW_INCARNATION, 4);
	put32(&p, inc);
	put_tlv(&p, BLOCK_FLOW_TUPLE, BLOCK_TUPLE_LEN);
	put32(&p, 0);
	p[-4] = t->ver;
	put16(&p, t->port[SIDE_CLIENT]);
	put16(&p, t->port[SIDE_SERVER]);
	memcpy(p, t->addr[SIDE_CLIENT], 16);
	memcpy(p + 16, t->addr[SIDE_SERVER], 16);
	p += 32;
	put32(&p, total);
	b->len += total;
	return true;
}
