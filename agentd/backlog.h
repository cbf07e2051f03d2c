/* SPDX-License-Identifier: Apache-2.0 */
/* backlog.h - bytes that wait for the tunnel: a bounded first-in-first-out queue.
 *
 * Made of chunks that are reused last-in-first-out, so that a shallow queue stays in the cache however large its limit
 * is; a chunk's memory is touched when it is first used and given back when a deep queue has drained. One thread. */
#ifndef TLSTAP_AGENTD_BACKLOG_H
#define TLSTAP_AGENTD_BACKLOG_H

#include <stddef.h>
#include <stdint.h>

#define BACKLOG_CHUNK (256 * 1024)
#define BACKLOG_KEEP 8 /* chunks that stay resident */

struct backlog {
	size_t len; /* bytes in it */
	/* private */
	uint8_t *mem;
	uint32_t n_chunks;
	uint32_t *spare; /* stack of free chunks */
	uint32_t n_spare;
	uint32_t *used; /* ring of n_chunks: chunks in the order of their bytes */
	uint32_t first, n_used;
	size_t head_off;  /* bytes consumed of the first used chunk */
	size_t tail_len;  /* bytes in the last */
	uint32_t deepest; /* n_used at most since memory was given back */
};

/* @size  bytes it holds at most, rounded up to whole chunks. Returns 0 or -ENOMEM. */
int backlog_init(struct backlog *b, uint64_t size);
void backlog_fini(struct backlog *b);

/* Bytes that can be appended now. */
size_t backlog_room(const struct backlog *b);

/* Append @len bytes, at most backlog_room(). */
void backlog_append(struct backlog *b, const void *data, size_t len);

/* The oldest bytes that lie in one piece (*@ret_len > 0 unless the queue is empty), valid until the next call. */
const uint8_t *backlog_head(const struct backlog *b, size_t *ret_len);

/* Forget the @n oldest bytes, at most what backlog_head() returned. */
void backlog_consume(struct backlog *b, size_t n);

/* Forget everything. */
void backlog_clear(struct backlog *b);

#endif
