/* SPDX-License-Identifier: Apache-2.0 */
/* cur.h - checked cursors: the only way to read or write bytes that crossed a boundary.
 *
 * A reader (struct cur) and a writer (struct wcur) walk over memory that somebody else owns. Each call
 * returns false when there are too few bytes left, and then neither moves nor touches its output; so a
 * chain "a && b && c" needs one check. Integers are in the order the cursor was made with; the be calls
 * are network order whatever the cursor's order. Pure. */
#ifndef TLSTAP_CUR_H
#define TLSTAP_CUR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct cur {
	const uint8_t *p; /* next byte */
	size_t left;	  /* bytes from there on */
	bool be;	  /* big endian */
};

struct wcur {
	uint8_t *p;  /* next byte to write */
	size_t left; /* room from there on */
	bool be;
};

#define CUR_MUST __attribute__((warn_unused_result))

static inline struct cur cur_over(const void *p, size_t len, bool be)
{
	return (struct cur){.p = p, .left = len, .be = be};
}

static inline struct wcur wcur_over(void *p, size_t len, bool be)
{
	return (struct wcur){.p = p, .left = len, .be = be};
}

/* Is this machine big endian? For streams written in the host's order. */
static inline bool cur_host_be(void)
{
	return __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__;
}

/* Skip @n bytes; *@ret points at the first of them, valid as long as the memory is. */
static inline CUR_MUST bool cur_bytes(struct cur *c, size_t n, const uint8_t **ret)
{
	if (c->left < n)
		return false;
	*ret = c->p;
	c->p += n;
	c->left -= n;
	return true;
}

static inline CUR_MUST bool cur_skip(struct cur *c, size_t n)
{
	const uint8_t *unused;

	return cur_bytes(c, n, &unused);
}

static inline CUR_MUST bool cur_copy(struct cur *c, void *ret, size_t n)
{
	const uint8_t *p;

	if (!cur_bytes(c, n, &p))
		return false;
	memcpy(ret, p, n);
	return true;
}

static inline CUR_MUST bool cur_u8(struct cur *c, uint8_t *ret)
{
	return cur_copy(c, ret, 1);
}

/* The three sizes differ in nothing but their type and swap. */
#define CUR_INT(bits)                                                                              \
	static inline CUR_MUST bool cur_order_u##bits(struct cur *c, bool be, uint##bits##_t *ret) \
	{                                                                                          \
		uint##bits##_t v;                                                                  \
                                                                                                   \
		if (!cur_copy(c, &v, sizeof(v)))                                                   \
			return false;                                                              \
		*ret = be == cur_host_be() ? v : __builtin_bswap##bits(v);                         \
		return true;                                                                       \
	}                                                                                          \
	static inline CUR_MUST bool cur_u##bits(struct cur *c, uint##bits##_t *ret)                \
	{                                                                                          \
		return cur_order_u##bits(c, c->be, ret);                                           \
	}                                                                                          \
	static inline CUR_MUST bool cur_be##bits(struct cur *c, uint##bits##_t *ret)               \
	{                                                                                          \
		return cur_order_u##bits(c, true, ret);                                            \
	}                                                                                          \
	static inline CUR_MUST bool wcur_u##bits(struct wcur *c, uint##bits##_t v)                 \
	{                                                                                          \
		if (c->left < sizeof(v))                                                           \
			return false;                                                              \
		v = c->be == cur_host_be() ? v : __builtin_bswap##bits(v);                         \
		memcpy(c->p, &v, sizeof(v));                                                       \
		c->p += sizeof(v);                                                                 \
		c->left -= sizeof(v);                                                              \
		return true;                                                                       \
	}
CUR_INT(16)
CUR_INT(32)
CUR_INT(64)
#undef CUR_INT

static inline CUR_MUST bool wcur_bytes(struct wcur *c, const void *p, size_t n)
{
	if (c->left < n)
		return false;
	if (n > 0)
		memcpy(c->p, p, n);
	c->p += n;
	c->left -= n;
	return true;
}

static inline CUR_MUST bool wcur_zero(struct wcur *c, size_t n)
{
	if (c->left < n)
		return false;
	memset(c->p, 0, n);
	c->p += n;
	c->left -= n;
	return true;
}

#endif
