/* SPDX-License-Identifier: Apache-2.0 */
/* backlog.c - bytes that wait for the tunnel (see backlog.h). */
#include "backlog.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

int backlog_init(struct backlog *b, uint64_t size)
{
	uint64_t n = (size + BACKLOG_CHUNK - 1) / BACKLOG_CHUNK;

	*b = (struct backlog){0};
	if (n == 0 || n > UINT32_MAX)
		return -ENOMEM;
	b->n_chunks = (uint32_t)n;
	b->spare = calloc(n, sizeof(*b->spare));
	b->used = calloc(n, sizeof(*b->used));
	b->mem = mmap(NULL, n * BACKLOG_CHUNK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1,
		      0);
	if (b->mem == MAP_FAILED)
		b->mem = NULL;
	if (b->spare == NULL || b->used == NULL || b->mem == NULL) {
		backlog_fini(b);
		return -ENOMEM;
	}
	for (uint32_t i = 0; i < n; i++)
		b->spare[b->n_spare++] = (uint32_t)n - 1 - i;
	return 0;
}

void backlog_fini(struct backlog *b)
{
	if (b->mem != NULL)
		munmap(b->mem, (size_t)b->n_chunks * BACKLOG_CHUNK);
	free(b->spare);
	free(b->used);
	*b = (struct backlog){0};
}

size_t backlog_room(const struct backlog *b)
{
	return (size_t)b->n_spare * BACKLOG_CHUNK + (b->n_used > 0 ? BACKLOG_CHUNK - b->tail_len : 0);
}

static uint8_t *chunk(const struct backlog *b, uint32_t i)
{
	return b->mem + (size_t)b->used[(b->first + i) % b->n_chunks] * BACKLOG_CHUNK;
}

void backlog_append(struct backlog *b, const void *data, size_t len)
{
	const uint8_t *p = data;

	assert(len <= backlog_room(b));
	b->len += len;
	while (len > 0) {
		size_t n;

		if (b->n_used == 0 || b->tail_len == BACKLOG_CHUNK) {
			b->used[(b->first + b->n_used++) % b->n_chunks] = b->spare[--b->n_spare];
			b->tail_len = 0;
			if (b->n_used > b->deepest)
				b->deepest = b->n_used;
		}
		n = len < BACKLOG_CHUNK - b->tail_len ? len : BACKLOG_CHUNK - b->tail_len;
		memcpy(chunk(b, b->n_used - 1) + b->tail_len, p, n);
		b->tail_len += n;
		p += n;
		len -= n;
	}
}

const uint8_t *backlog_head(const struct backlog *b, size_t *ret_len)
{
	*ret_len = 0;
	if (b->n_used == 0)
		return NULL;
	*ret_len = (b->n_used == 1 ? b->tail_len : BACKLOG_CHUNK) - b->head_off;
	return chunk(b, 0) + b->head_off;
}

static void drop_first(struct backlog *b)
{
	b->spare[b->n_spare++] = b->used[b->first];
	b->first = (b->first + 1) % b->n_chunks;
	b->n_used--;
	b->head_off = 0;
	if (b->n_used > 0 || b->deepest <= BACKLOG_KEEP)
		return;
	/* It has drained after having been deep: give the memory back, and order the stack from the bottom again. */
	(void)madvise(b->mem + (size_t)BACKLOG_KEEP * BACKLOG_CHUNK,
		      (size_t)(b->n_chunks - BACKLOG_KEEP) * BACKLOG_CHUNK, MADV_DONTNEED);
	for (uint32_t i = 0; i < b->n_chunks; i++)
		b->spare[i] = b->n_chunks - 1 - i;
	b->deepest = 0;
}

void backlog_consume(struct backlog *b, size_t n)
{
	size_t have;

	(void)backlog_head(b, &have);
	assert(n <= have);
	b->len -= n;
	b->head_off += n;
	if (b->n_used > 0 && n == have)
		drop_first(b);
}

void backlog_clear(struct backlog *b)
{
	size_t n;

	while (backlog_head(b, &n) != NULL)
		backlog_consume(b, n);
}
