/* SPDX-License-Identifier: Apache-2.0 */
/* shm.c - the shared mapping: layout and producer half. The protocol is told in shm.h.
 * Also compiled into libtlstap, so: libc of GLIBC_2.17, no heap, no system call. */
#include "shm.h"

#include <errno.h>
#include <string.h>

#define PAGE 4096u

/* What a stripe has published is released by the chunk's tail, a chunk by the FIFO's tail, a stripe
 * by its lock word: these acquire what the other side released. All else is relaxed. */
#define load(p) atomic_load_explicit((p), memory_order_relaxed)
#define load_acq(p) atomic_load_explicit((p), memory_order_acquire)
#define store(p, v) atomic_store_explicit((p), (v), memory_order_relaxed)
#define store_rel(p, v) atomic_store_explicit((p), (v), memory_order_release)

/* --- layout -------------------------------------------------------------------------------------- */

struct layout {
	size_t pid, bucket, slot, fact, stripe, fifo, next, chunk, end;
	uint32_t fifo_entries;
};

static size_t page_up(size_t n)
{
	return (n + PAGE - 1) & ~(size_t)(PAGE - 1);
}

static bool sane(uint32_t chunks, uint32_t places)
{
	return chunks >= SHM_CHUNKS_MIN && chunks <= SHM_CHUNKS_MAX && places >= SHM_PLACES_MIN &&
	       places <= SHM_PLACES_MAX && (places & (places - 1)) == 0;
}

static struct layout layout(uint32_t chunks, uint32_t places)
{
	struct layout l = {.fifo_entries = 1};

	while (l.fifo_entries < chunks)
		l.fifo_entries *= 2;
	l.pid = PAGE;
	l.bucket = l.pid + page_up(SHM_PRODUCERS * sizeof(int32_t));
	l.slot = l.bucket + page_up((size_t)places * sizeof(uint64_t));
	l.fact = l.slot + page_up((size_t)places * sizeof(struct shm_slot));
	l.stripe = l.fact + page_up((size_t)places * sizeof(struct shm_fact));
	l.fifo = l.stripe + page_up(SHM_STRIPES * sizeof(struct shm_stripe));
	l.next = l.fifo + page_up((size_t)SHM_STRIPES * l.fifo_entries * sizeof(uint32_t));
	l.chunk = l.next + page_up((size_t)chunks * sizeof(uint32_t));
	l.end = l.chunk + (size_t)chunks * SHM_CHUNK;
	return l;
}

size_t shm_size(uint32_t chunks, uint32_t places)
{
	return sane(chunks, places) ? layout(chunks, places).end : 0;
}

int shm_view(struct shm *v, void *base, size_t size)
{
	struct shm_header *h = base;
	struct layout l;
	uint32_t chunks, places;

	if (size < PAGE || h->magic != SHM_MAGIC || h->abi != SHM_ABI)
		return -EPROTO;
	chunks = h->chunks;
	places = h->places;
	if (!sane(chunks, places))
		return -EPROTO;
	l = layout(chunks, places);
	if (l.end != size)
		return -EPROTO;
	v->base = base;
	v->size = size;
	v->chunks = chunks;
	v->places = places;
	v->fifo_mask = l.fifo_entries - 1;
	v->h = h;
	v->pid = (void *)(v->base + l.pid);
	v->bucket = (void *)(v->base + l.bucket);
	v->slot = (void *)(v->base + l.slot);
	v->fact = (void *)(v->base + l.fact);
	v->stripe = (void *)(v->base + l.stripe);
	v->fifo = (void *)(v->base + l.fifo);
	v->next = (void *)(v->base + l.next);
	v->chunk = (void *)(v->base + l.chunk);
	return 0;
}

/* --- free stacks --------------------------------------------------------------------------------- */

/* Returns a chunk or UINT32_MAX. The tag in the upper half makes a head that came back different. */
uint32_t shm_pop(const struct shm *v, _Atomic uint64_t *stack)
{
	uint64_t head = load_acq(stack);

	for (unsigned i = 0; i < SHM_POPS; i++) {
		uint32_t chunk = (uint32_t)head - 1;
		uint64_t to;

		if (chunk >= v->chunks)
			return UINT32_MAX; /* empty, or nonsense */
		to = ((head >> 32) + 1) << 32 | load(&v->next[chunk]);
		if (atomic_compare_exchange_weak_explicit(stack, &head, to, memory_order_acquire, memory_order_acquire))
			return chunk;
	}
	return UINT32_MAX;
}

static uint32_t pop(const struct shm *v)
{
	uint32_t chunk = shm_pop(v, &v->h->free_hot);

	return chunk != UINT32_MAX ? chunk : shm_pop(v, &v->h->free_cold);
}

/* --- producer: slots ----------------------------------------------------------------------------- */

static uint64_t key_of(uint16_t producer, const void *handle)
{
	return (uint64_t)(uintptr_t)handle ^ (uint64_t)producer << 48;
}

static uint32_t hash_of(uint64_t key)
{
	key ^= key >> 32; /* the producer, too, chooses the bucket: forked children use the same addresses */
	return (uint32_t)((key * 0x9e3779b97f4a7c15ull) >> 32);
}

/* Number of buckets in use, from a word that others can write. */
uint32_t shm_buckets(const struct shm *v)
{
	uint32_t limit = load(&v->h->limit);

	if (limit < SHM_PLACES_MIN || limit > v->places || (limit & (limit - 1)))
		limit = SHM_PLACES_MIN;
	return limit / 8;
}

/* The key's place under a table of @n buckets: its own bucket, or the one beside it. */
static struct shm_slot *find_in(const struct shm *v, uint64_t key, uint32_t n)
{
	uint32_t b = hash_of(key) & (n - 1);

	for (unsigned k = 0; k < 2; k++, b ^= 1)
		for (unsigned i = 0; i < 8; i++)
			if (atomic_load_explicit(&v->bucket[b * 8 + i], memory_order_seq_cst) == key)
				return &v->slot[b * 8 + i];
	return NULL;
}

struct shm_slot *shm_find(const struct shm *v, uint16_t producer, const void *handle)
{
	uint64_t key = key_of(producer, handle);
	struct shm_slot *s;

	/* what went in before the table grew lies under a smaller mask */
	for (uint32_t n = shm_buckets(v); n >= SHM_PLACES_MIN / 8; n /= 2) {
		s = find_in(v, key, n);
		if (s)
			return s;
	}
	return NULL;
}

/* Begin the place's next use. */
static void slot_begin(struct shm_slot *s, uint16_t producer)
{
	for (unsigned d = 0; d < 2; d++) {
		store(&s->base[d], load(&s->rep[d]));
		store(&s->done[d], load(&s->rep[d]));
		store(&s->start[d], 0);
		store(&s->inner[d], 0);
		store(&s->begin[d], 0);
		store(&s->end[d], 0);
	}
	store(&s->random8, 0);
	store(&s->producer, producer);
	store(&s->state, 0);
	store_rel(&s->gen, load(&s->gen) + 1);
}

struct shm_slot *shm_insert(const struct shm *v, uint16_t producer, const void *handle)
{
	uint64_t key = key_of(producer, handle);
	uint32_t n = shm_buckets(v), b = hash_of(key) & (n - 1);

	for (unsigned k = 0; k < 2; k++, b ^= 1)
		for (unsigned i = 0; i < 8; i++) {
			_Atomic uint64_t *place = &v->bucket[b * 8 + i];
			struct shm_slot *s = &v->slot[b * 8 + i], *first;
			uint64_t none = 0;

			if (load(place) ||
			    !atomic_compare_exchange_strong_explicit(place, &none, key, memory_order_seq_cst,
								     memory_order_relaxed))
				continue;
			/* two threads may meet a new handle at once: of two places with one key the first counts */
			first = find_in(v, key, n);
			if (first && first != s) {
				store_rel(place, 0);
				return first;
			}
			slot_begin(s, producer);
			return s;
		}
	atomic_fetch_add_explicit(&v->h->table_full, 1, memory_order_relaxed);
	return NULL;
}

bool shm_holds(const struct shm *v, const struct shm_slot *s, uint16_t producer, const void *handle)
{
	return load_acq(&v->bucket[s - v->slot]) == key_of(producer, handle);
}

void shm_remove(const struct shm *v, uint16_t producer, const void *handle)
{
	struct shm_slot *s;

	for (unsigned i = 0; i < 2 && (s = shm_find(v, producer, handle)) != NULL; i++)
		store_rel(&v->bucket[s - v->slot], 0);
}

uint16_t shm_producer(const struct shm *v, int32_t pid)
{
	uint32_t n = load(&v->h->producers);

	while (n < SHM_PRODUCERS)
		if (atomic_compare_exchange_weak_explicit(&v->h->producers, &n, n + 1, memory_order_relaxed,
							  memory_order_relaxed)) {
			store_rel(&v->pid[n], pid);
			return (uint16_t)(n + 1);
		}
	n = hash_of((uint32_t)pid) % SHM_PRODUCERS;
	for (unsigned i = 0; i < SHM_RECYCLE; i++, n = (n + 1) % SHM_PRODUCERS) {
		int32_t none = 0;

		if (load(&v->pid[n]) == 0 &&
		    atomic_compare_exchange_strong_explicit(&v->pid[n], &none, pid, memory_order_acq_rel,
							    memory_order_relaxed))
			return (uint16_t)(n + 1);
	}
	atomic_fetch_add_explicit(&v->h->no_producer, 1, memory_order_relaxed);
	return 0;
}

/* --- producer: records --------------------------------------------------------------------------- */

/* Lock one of SHM_TRIES stripes. Returns its number or SHM_STRIPES. */
static unsigned stripe_lock(const struct shm *v, uint16_t producer, uintptr_t hint)
{
	unsigned at = hash_of(hint);

	for (unsigned i = 0; i < SHM_TRIES; i++) {
		struct shm_stripe *s = &v->stripe[(at + i) % SHM_STRIPES];
		uint32_t none = 0;

		if (load(&s->lock) == 0 &&
		    atomic_compare_exchange_strong_explicit(&s->lock, &none, producer, memory_order_acquire,
							    memory_order_relaxed))
			return (at + i) % SHM_STRIPES;
	}
	return SHM_STRIPES;
}

/* The stripe's last chunk, or NULL. The word may be anybody's nonsense. */
static struct shm_chunk *stripe_chunk(const struct shm *v, const struct shm_stripe *s)
{
	uint32_t cur = load(&s->cur) - 1;

	return cur < v->chunks ? &v->chunk[cur] : NULL;
}

/* Put a fresh chunk at the end of the stripe's FIFO. NULL: none is free. */
static struct shm_chunk *stripe_grow(const struct shm *v, unsigned stripe, struct shm_chunk *old)
{
	struct shm_stripe *s = &v->stripe[stripe];
	uint32_t tail = load(&s->tail);
	uint32_t got = pop(v);
	struct shm_chunk *c;

	if (got == UINT32_MAX)
		return NULL;
	c = &v->chunk[got];
	store(&c->tail, 0);
	store(&c->closed, 0);
	store(&v->fifo[(size_t)stripe * (v->fifo_mask + 1) + (tail & v->fifo_mask)], got);
	store(&s->cur, got + 1);
	store_rel(&s->tail, tail + 1); /* meets the reader's acquire in shm_next() */
	if (old)
		store_rel(&old->closed, 1);
	else
		atomic_fetch_or_explicit(&v->h->used, 1ull << stripe, memory_order_release);
	return c;
}

/* A piece shorter than this does not go into the rest of a chunk. */
#define PIECE_MIN 512u

bool shm_append(const struct shm *v, uint16_t producer, uintptr_t hint, const struct rec *r, const void *data,
		enum shm_why *ret_why, size_t *ret_done)
{
	bool whole = r->type != REC_DATA;
	size_t left = r->type == REC_HOLE ? 0 : r->len, done = 0;
	unsigned stripe = stripe_lock(v, producer, hint);
	struct rec piece = *r;
	struct shm_chunk *c;

	*ret_done = 0;
	if (stripe == SHM_STRIPES) {
		*ret_why = SHM_BUSY;
		return false;
	}
	c = stripe_chunk(v, &v->stripe[stripe]);
	do {
		uint32_t at = c ? load(&c->tail) : SHM_CHUNK_DATA;
		size_t room = at < SHM_CHUNK_DATA && at % 8 == 0 ? SHM_CHUNK_DATA - at : 0;
		size_t want = REC_HEAD + REC_ALIGN(whole || left < PIECE_MIN ? left : PIECE_MIN);
		size_t n;

		if (room < want) {
			c = stripe_grow(v, stripe, c);
			if (!c)
				break;
			at = 0;
			room = SHM_CHUNK_DATA;
		}
		n = left < room - REC_HEAD ? left : room - REC_HEAD;
		if (r->type != REC_HOLE)
			piece.len = (uint32_t)n;
		memcpy(c->data + at, &piece, REC_HEAD);
		if (n)
			memcpy(c->data + at + REC_HEAD, (const uint8_t *)data + done, n);
		store_rel(&c->tail, (uint32_t)(at + REC_HEAD + REC_ALIGN(n))); /* publishes the record */
		done += n;
		left -= n;
		piece.off += n;
		piece.flags |= REC_F_CONT;
	} while (left);
	store_rel(&v->stripe[stripe].lock, 0);
	*ret_done = done;
	*ret_why = SHM_FULL;
	return c && !left;
}
