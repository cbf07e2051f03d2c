/* SPDX-License-Identifier: Apache-2.0 */
/* shm_reader.c - the shared mapping: consumer half, agentd's. The protocol is told in shm.h. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "shm.h"

#define PAGE 4096u

/* What a stripe has published is released by the chunk's tail, a chunk by the FIFO's tail, a stripe
 * by its lock word: these acquire what the other side released. All else is relaxed. */
#define load(p) atomic_load_explicit((p), memory_order_relaxed)
#define load_acq(p) atomic_load_explicit((p), memory_order_acquire)
#define store(p, v) atomic_store_explicit((p), (v), memory_order_relaxed)
#define store_rel(p, v) atomic_store_explicit((p), (v), memory_order_release)

static _Atomic uint64_t *stack_of(const struct shm *v, uint32_t chunk)
{
	return chunk < SHM_HOT ? &v->h->free_hot : &v->h->free_cold;
}

/* Bounded: a process that spins on the head keeps its own chunk from coming back. */
static bool push(const struct shm *v, uint32_t chunk)
{
	_Atomic uint64_t *stack = stack_of(v, chunk);
	uint64_t head = load(stack);

	for (unsigned i = 0; i < 1000; i++) {
		store(&v->next[chunk], (uint32_t)head);
		if (atomic_compare_exchange_weak_explicit(stack, &head, ((head >> 32) + 1) << 32 | (chunk + 1),
							  memory_order_release, memory_order_relaxed))
			return true;
	}
	return false;
}

static void reader_init(struct shm_reader *r)
{
	memset(r, 0, sizeof(*r));
	r->fd = -1;
	for (unsigned i = 0; i < SHM_STRIPES; i++)
		r->s[i].chunk = UINT32_MAX;
}

static int reader_map(struct shm_reader *r, int fd, size_t size)
{
	void *base = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	if (base == MAP_FAILED)
		return -errno;
	r->v.base = base;
	r->v.size = size;
	r->fd = fd;
	return 0;
}

int shm_create(struct shm_reader *r, uint32_t chunks, uint64_t family, uint64_t instance)
{
	size_t size = shm_size(chunks, SHM_PLACES_MAX);
	struct shm_header *h;
	int fd, err;

	if (!size)
		return -EINVAL;
	reader_init(r);
	fd = memfd_create(SHM_NAME, MFD_CLOEXEC | MFD_ALLOW_SEALING | 0x0008u /* MFD_NOEXEC_SEAL, Linux 6.3 */);
	if (fd == -1 && errno == EINVAL)
		fd = memfd_create(SHM_NAME, MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (fd == -1)
		return -errno;
	if (ftruncate(fd, (off_t)size) == -1 ||
	    fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) == -1) {
		err = -errno;
		close(fd);
		return err;
	}
	err = reader_map(r, fd, size);
	if (err) {
		close(fd);
		return err;
	}
	h = (struct shm_header *)r->v.base;
	h->magic = SHM_MAGIC;
	h->abi = SHM_ABI;
	h->size = size;
	h->chunks = chunks;
	h->places = SHM_PLACES_MAX;
	h->family = family;
	h->instance = instance;
	r->limit = SHM_PLACES_MIN;
	store(&h->limit, r->limit);
	r->touched = calloc(chunks, 1);
	if (!r->touched || shm_view(&r->v, r->v.base, r->v.size)) {
		shm_reader_fini(r);
		return -ENOMEM;
	}
	/* what every process needs is charged to us, not to its control group */
	(void)fallocate(fd, 0, (uint8_t *)r->v.stripe - r->v.base, SHM_STRIPES * sizeof(struct shm_stripe));
	(void)fallocate(fd, 0, (uint8_t *)r->v.chunk - r->v.base, 2 * SHM_CHUNK);
	for (uint32_t i = chunks; i-- > 0;)
		(void)push(&r->v, i);
	return 0;
}

/* Where we are, for a successor. */
static void say_at(const struct shm_reader *r, unsigned stripe)
{
	store_rel(&r->v.stripe[stripe].at, (uint64_t)r->s[stripe].head << 32 | r->s[stripe].read);
}

/* A predecessor was killed in shm_retire() or shm_leaks(). */
static void let_go(const struct shm_reader *r, unsigned stripe)
{
	struct shm_stripe *s = &r->v.stripe[stripe];

	if (load_acq(&s->lock) != SHM_CONSUMER)
		return;
	if (r->s[stripe].head == load(&s->tail)) { /* its chunk was taken out */
		store(&s->cur, 0);
		atomic_fetch_and_explicit(&r->v.h->used, ~(1ull << stripe), memory_order_relaxed);
	}
	store_rel(&s->lock, 0);
}

int shm_adopt(struct shm_reader *r, int fd, uint64_t instance)
{
	struct stat st;
	int seals = fcntl(fd, F_GET_SEALS);
	int err;

	if (seals == -1 || (seals & (F_SEAL_SHRINK | F_SEAL_GROW)) != (F_SEAL_SHRINK | F_SEAL_GROW) ||
	    fstat(fd, &st) == -1 || st.st_size < (off_t)PAGE ||
	    st.st_size > (off_t)shm_size(SHM_CHUNKS_MAX, SHM_PLACES_MAX))
		return -EPROTO;
	reader_init(r);
	err = reader_map(r, fd, (size_t)st.st_size);
	if (err)
		return err;
	err = shm_view(&r->v, r->v.base, r->v.size);
	if (!err && r->v.h->instance != instance)
		err = -EXDEV;
	if (!err)
		r->touched = malloc(r->v.chunks);
	if (err || !r->touched) {
		r->fd = -1; /* stays the caller's */
		shm_reader_fini(r);
		return err ? err : -ENOMEM;
	}
	memset(r->touched, 1, r->v.chunks);
	r->limit = shm_buckets(&r->v) * 8;
	for (unsigned i = 0; i < SHM_STRIPES; i++) {
		uint64_t at = load(&r->v.stripe[i].at);

		r->s[i].head = (uint32_t)(at >> 32);
		r->s[i].read = (uint32_t)at;
		let_go(r, i);
	}
	return 0;
}

void shm_reader_fini(struct shm_reader *r)
{
	if (r->v.base)
		munmap(r->v.base, r->v.size);
	if (r->fd != -1)
		close(r->fd);
	free(r->touched);
	reader_init(r);
}

static void give_back(struct shm_reader *r, uint32_t chunk)
{
	r->touched[chunk] = 1;
	if (!push(&r->v, chunk))
		r->pushed_back++;
}

int shm_next(struct shm_reader *r, unsigned stripe, struct rec *ret, const uint8_t **ret_data)
{
	const struct shm *v = &r->v;
	struct shm_stripe *s = &v->stripe[stripe];

	/* at most once around the pool: a FIFO of closed empty chunks is nonsense */
	for (uint32_t turns = 0; turns <= v->chunks; turns++) {
		uint32_t tail = load_acq(&s->tail), closed, end;
		struct shm_chunk *c;

		if (r->s[stripe].head == tail)
			return 0;
		if (tail - r->s[stripe].head > v->fifo_mask + 1)
			return -EBADMSG;
		if (r->s[stripe].chunk == UINT32_MAX) {
			uint32_t n = load(
				&v->fifo[(size_t)stripe * (v->fifo_mask + 1) + (r->s[stripe].head & v->fifo_mask)]);

			if (n >= v->chunks)
				return -EBADMSG;
			r->s[stripe].chunk = n;
		}
		c = &v->chunk[r->s[stripe].chunk];
		closed = load_acq(&c->closed); /* before tail: what is closed has its last tail */
		end = load_acq(&c->tail);
		if (end > SHM_CHUNK_DATA || end < r->s[stripe].read || r->s[stripe].read % 8)
			return -EBADMSG;
		if (end > r->s[stripe].read) {
			size_t room = end - r->s[stripe].read, need;

			if (room < REC_HEAD)
				return -EBADMSG;
			memcpy(ret, c->data + r->s[stripe].read, REC_HEAD);
			need = REC_HEAD + (ret->type == REC_HOLE ? 0 : REC_ALIGN((size_t)ret->len));
			if (ret->len > UINT32_MAX - 8 || need > room)
				return -EBADMSG;
			*ret_data = c->data + r->s[stripe].read + REC_HEAD;
			r->s[stripe].step = (uint32_t)need;
			return 1;
		}
		if (!closed)
			return 0;
		r->s[stripe].head++;
		r->s[stripe].read = 0;
		say_at(r, stripe);
		give_back(r, r->s[stripe].chunk);
		r->s[stripe].chunk = UINT32_MAX;
	}
	return -EBADMSG;
}

void shm_done(struct shm_reader *r, unsigned stripe)
{
	uint8_t *at = r->v.chunk[r->s[stripe].chunk].data + r->s[stripe].read;

	if (r->wipe)
		memset(at, 0, r->s[stripe].step);
	r->s[stripe].read += r->s[stripe].step;
	r->s[stripe].step = 0;
	say_at(r, stripe);
}

bool shm_retire(struct shm_reader *r, unsigned stripe, uint16_t dead)
{
	const struct shm *v = &r->v;
	struct shm_stripe *s = &v->stripe[stripe];
	uint32_t holder = dead, chunk;
	struct rec rec;
	const uint8_t *data;

	if (!atomic_compare_exchange_strong_explicit(&s->lock, &holder, SHM_CONSUMER, memory_order_acquire,
						     memory_order_relaxed))
		return false;
	/* nobody can append now; only an empty stripe is taken down */
	if (shm_next(r, stripe, &rec, &data) == 0) {
		chunk = r->s[stripe].head != load(&s->tail) ? r->s[stripe].chunk : UINT32_MAX;
		r->s[stripe].head = load(&s->tail);
		r->s[stripe].read = 0;
		r->s[stripe].chunk = UINT32_MAX;
		say_at(r, stripe);
		if (chunk != UINT32_MAX)
			give_back(r, chunk);
		store(&s->cur, 0);
		atomic_fetch_and_explicit(&v->h->used, ~(1ull << stripe), memory_order_relaxed);
		store_rel(&s->lock, 0);
		return true;
	}
	store_rel(&s->lock, dead); /* a dead holder may have left it half changed: drain it, then come again */
	return false;
}

/* Mark what the stack at @head holds. */
static void mark_stack(const struct shm *v, uint64_t head, uint8_t *seen)
{
	uint32_t at = (uint32_t)head;

	for (uint32_t i = 0; i < v->chunks && at - 1 < v->chunks; i++) {
		seen[at - 1] = 1;
		at = load(&v->next[at - 1]);
	}
}

int shm_leaks(struct shm_reader *r)
{
	const struct shm *v = &r->v;
	uint8_t *seen = calloc(v->chunks, 1);
	unsigned held;
	int found = seen ? 0 : -ENOMEM;

	/* with every stripe in our hands nobody can take a chunk off a stack */
	for (held = 0; seen && held < SHM_STRIPES; held++) {
		uint32_t none = 0;

		if (!atomic_compare_exchange_strong_explicit(&v->stripe[held].lock, &none, SHM_CONSUMER,
							     memory_order_acquire, memory_order_relaxed)) {
			found = -EAGAIN;
			break;
		}
	}
	if (found == 0) {
		mark_stack(v, load(&v->h->free_hot), seen);
		mark_stack(v, load(&v->h->free_cold), seen);
		for (unsigned i = 0; i < SHM_STRIPES; i++) {
			uint32_t tail = load(&v->stripe[i].tail);

			for (uint32_t k = r->s[i].head; k != tail && k - r->s[i].head <= v->fifo_mask; k++) {
				uint32_t n = load(&v->fifo[(size_t)i * (v->fifo_mask + 1) + (k & v->fifo_mask)]);

				if (n < v->chunks)
					seen[n] = 1;
			}
		}
		for (uint32_t i = 0; i < v->chunks; i++)
			if (!seen[i] && push(v, i))
				found++;
	}
	while (held-- > 0)
		store_rel(&v->stripe[held].lock, 0);
	free(seen);
	return found;
}

void shm_trim(struct shm_reader *r)
{
	const struct shm *v = &r->v;
	off_t base = (uint8_t *)v->chunk - v->base;
	uint32_t *mine = malloc(v->chunks * sizeof(*mine)), n = 0;

	if (!mine || r->fd == -1) {
		free(mine);
		return;
	}
	while (n < v->chunks && (mine[n] = shm_pop(v, &v->h->free_cold)) != UINT32_MAX)
		n++;
	/* at once back what costs no system call: writers must not find the stack empty */
	for (uint32_t i = n; i-- > 0;)
		if (!r->touched[mine[i]] && !push(v, mine[i]))
			r->pushed_back++;
	for (uint32_t i = 0; i < n; i++) {
		if (!r->touched[mine[i]])
			continue;
		if (fallocate(r->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, base + (off_t)mine[i] * SHM_CHUNK,
			      SHM_CHUNK) == 0)
			r->touched[mine[i]] = 0;
		if (!push(v, mine[i]))
			r->pushed_back++;
	}
	free(mine);
}
