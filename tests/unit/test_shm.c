/* SPDX-License-Identifier: Apache-2.0 */
/* test_shm.c - the shared mapping: layout, slots, records, pool, dead holders, successors, hostile writers. */
#include "common/shm.c"
#include "common/shm_reader.c"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <time.h>

#include <cmocka.h>

#include "pattern.h"

#if defined(__SANITIZE_THREAD__)
#define UNDER_TSAN 1
#else
#define UNDER_TSAN 0
#endif

static uint64_t seed;
static struct shm_reader r;
static struct shm w; /* the producers' view, a mapping of its own */

static void start(uint32_t chunks)
{
	void *base;

	assert_int_equal(shm_create(&r, chunks, 7, 9), 0);
	base = mmap(NULL, r.v.size, PROT_READ | PROT_WRITE, MAP_SHARED, r.fd, 0);
	assert_ptr_not_equal(base, MAP_FAILED);
	assert_int_equal(shm_view(&w, base, r.v.size), 0);
}

static void stop(void)
{
	munmap(w.base, w.size);
	shm_reader_fini(&r);
}

static uint32_t on_stack(_Atomic uint64_t *stack)
{
	uint32_t n = 0;

	for (uint32_t at = (uint32_t)load(stack); at && n <= w.chunks; at = load(&w.next[at - 1]))
		n++;
	return n;
}

static uint32_t free_chunks(void)
{
	return on_stack(&w.h->free_hot) + on_stack(&w.h->free_cold);
}

/* --- layout -------------------------------------------------------------------------------------- */

#define AT(type, member, at)                                         \
	{                                                            \
#type "." #member, offsetof(struct type, member), at \
	}
#define SIZE(type, at)                                   \
	{                                                \
		"sizeof " #type, sizeof(struct type), at \
	}

/* If one of these changes, SHM_ABI must: a library and an agentd of different versions meet. */
static void test_layout_is_pinned(void **state)
{
	static const struct {
		const char *name;
		size_t is, must;
	} pin[] = {
		AT(shm_header, magic, 0),
		AT(shm_header, abi, 4),
		AT(shm_header, size, 8),
		AT(shm_header, chunks, 16),
		AT(shm_header, places, 20),
		AT(shm_header, family, 24),
		AT(shm_header, instance, 32),
		AT(shm_header, on_ns, 40),
		AT(shm_header, isolate, 48),
		AT(shm_header, limit, 64),
		AT(shm_header, producers, 68),
		AT(shm_header, used, 72),
		AT(shm_header, table_full, 80),
		AT(shm_header, off, 84),
		AT(shm_header, free_hot, 128),
		AT(shm_header, free_cold, 192),
		AT(shm_header, lost_full, 256),
		AT(shm_header, lost_busy, 264),
		AT(shm_header, lost_slot, 272),
		AT(shm_header, no_producer, 280),
		SIZE(shm_header, 320),
		AT(shm_slot, rep, 0),
		AT(shm_slot, done, 16),
		AT(shm_slot, begin, 32),
		AT(shm_slot, end, 40),
		AT(shm_slot, random8, 48),
		AT(shm_slot, gen, 56),
		AT(shm_slot, producer, 60),
		AT(shm_slot, state, 62),
		AT(shm_slot, taken, 64),
		AT(shm_slot, accounted, 80),
		AT(shm_slot, shown, 96),
		AT(shm_slot, seq, 112),
		AT(shm_slot, inc, 120),
		AT(shm_slot, flow_open, 124),
		AT(shm_slot, base, 128),
		AT(shm_slot, start, 144),
		SIZE(shm_slot, 192),
		AT(shm_fact, gen, 0),
		AT(shm_fact, open, 8),
		SIZE(shm_fact, 160),
		AT(shm_stripe, lock, 0),
		AT(shm_stripe, cur, 4),
		AT(shm_stripe, tail, 8),
		AT(shm_stripe, at, 64),
		SIZE(shm_stripe, 128),
		AT(shm_chunk, tail, 0),
		AT(shm_chunk, closed, 4),
		AT(shm_chunk, data, 64),
		SIZE(shm_chunk, 65536),
		AT(rec, len, 0),
		AT(rec, type, 4),
		AT(rec, flags, 6),
		AT(rec, slot, 8),
		AT(rec, gen, 12),
		AT(rec, off, 16),
		AT(rec, other, 24),
		AT(rec, begin, 32),
		AT(rec, producer, 36),
		AT(rec, pad, 40),
		SIZE(rec, 48),
		AT(rec_open, base, 0),
		AT(rec_open, start, 16),
		AT(rec_open, client_random, 32),
		AT(rec_open, server_random, 64),
		AT(rec_open, local, 96),
		AT(rec_open, remote, 112),
		AT(rec_open, local_port, 128),
		AT(rec_open, remote_port, 130),
		AT(rec_open, ver, 132),
		AT(rec_open, lib, 133),
		AT(rec_open, flags, 134),
		AT(rec_open, tls_version, 136),
		AT(rec_open, sni_len, 138),
		AT(rec_open, alpn_len, 139),
		AT(rec_open, fd, 140),
		AT(rec_open, pid, 144),
		SIZE(rec_open, 152),
	};
	struct layout l = layout(256, 4096);

	(void)state;
	for (size_t i = 0; i < sizeof(pin) / sizeof(pin[0]); i++) {
		printf("%-28s %5zu\n", pin[i].name, pin[i].is);
		assert_int_equal(pin[i].is, pin[i].must);
	}
	assert_true(SHM_MAGIC == 0x70617473u && SHM_ABI == 2 && SHM_STRIPES == 64 && SHM_CHUNK == 65536);
	assert_true(l.pid == 4096 && l.bucket == 266240 && l.slot == 299008 && l.fact == 1085440 &&
		    l.stripe == 1740800);
	assert_true(l.fifo == 1748992 && l.next == 1814528 && l.chunk == 1818624 && l.fifo_entries == 256);
	assert_int_equal(l.end, 1818624 + 256 * 65536);
	assert_int_equal(shm_size(256, 4096), l.end);
}

static void test_sizes_out_of_bounds_are_none(void **state)
{
	(void)state;
	assert_true(shm_size(SHM_CHUNKS_MIN, SHM_PLACES_MIN) && shm_size(SHM_CHUNKS_MAX, SHM_PLACES_MAX));
	assert_true(!shm_size(SHM_CHUNKS_MIN - 1, SHM_PLACES_MIN) && !shm_size(SHM_CHUNKS_MAX + 1, SHM_PLACES_MIN));
	assert_true(!shm_size(64, SHM_PLACES_MIN / 2) && !shm_size(64, SHM_PLACES_MAX * 2) && !shm_size(64, 5000));
	assert_int_equal(shm_create(&r, SHM_CHUNKS_MIN - 1, 1, 9), -EINVAL);
	assert_int_equal(shm_create(&r, SHM_CHUNKS_MAX + 1, 1, 9), -EINVAL);
	for (uint32_t n = 5; n < 70; n++) /* the FIFO of a stripe has room for every chunk there is */
		assert_true(layout(n, SHM_PLACES_MIN).fifo_entries >= n);
}

static void test_view_refuses_what_does_not_fit(void **state)
{
	struct shm v;

	(void)state;
	start(8);
	assert_int_equal(shm_view(&v, w.base, w.size - 4096), -EPROTO);
	assert_int_equal(shm_view(&v, w.base, 100), -EPROTO);
	w.h->magic++;
	assert_int_equal(shm_view(&v, w.base, w.size), -EPROTO);
	w.h->magic--;
	w.h->abi++;
	assert_int_equal(shm_view(&v, w.base, w.size), -EPROTO);
	w.h->abi--;
	w.h->chunks = 9;
	assert_int_equal(shm_view(&v, w.base, w.size), -EPROTO);
	w.h->chunks = 0xffffffff;
	assert_int_equal(shm_view(&v, w.base, w.size), -EPROTO);
	w.h->chunks = 8;
	w.h->places /= 2;
	assert_int_equal(shm_view(&v, w.base, w.size), -EPROTO);
	w.h->places *= 2;
	assert_int_equal(shm_view(&v, w.base, w.size), 0);
	stop();
}

static void test_mapping_is_sealed(void **state)
{
	const int seals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL;
	int fd;

	(void)state;
	start(8);
	assert_int_equal(fcntl(r.fd, F_GET_SEALS) & seals, seals);
	assert_int_equal(ftruncate(r.fd, 0), -1);
	assert_int_equal(ftruncate(r.fd, (off_t)r.v.size * 2), -1);
	assert_true(fcntl(r.fd, F_GETFD) & FD_CLOEXEC);
	stop();
	/* what is not sealed is not adopted: it could be cut off under our feet */
	fd = memfd_create(SHM_NAME, MFD_CLOEXEC | MFD_ALLOW_SEALING);
	assert_int_equal(ftruncate(fd, (off_t)shm_size(8, SHM_PLACES_MAX)), 0);
	assert_int_equal(shm_adopt(&r, fd, 9), -EPROTO);
	assert_int_equal(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW), 0);
	assert_int_equal(shm_adopt(&r, fd, 9), -EPROTO); /* nor what is empty */
	close(fd);
}

/* --- slots --------------------------------------------------------------------------------------- */

static const void *handle(uintptr_t i)
{
	return (const void *)(0x550000000000u + i * 16);
}

static void test_slots_are_found_until_removed(void **state)
{
	struct shm_slot *s, *other;

	(void)state;
	start(8);
	assert_null(shm_find(&w, 1, handle(1)));
	s = shm_insert(&w, 1, handle(1));
	assert_non_null(s);
	assert_ptr_equal(shm_find(&w, 1, handle(1)), s);
	assert_null(shm_find(&w, 2, handle(1))); /* the child's slots are its own */
	other = shm_insert(&w, 2, handle(1));
	assert_true(other && other != s);
	assert_int_equal(load(&s->gen), 1);
	assert_int_equal(load(&s->producer), 1);
	/* the next use goes on counting where the last one ended */
	store(&s->rep[0], 100);
	store(&s->rep[1], 50);
	store(&s->state, SHM_SLOT_OPENED);
	store(&s->start[0], 9);
	store(&s->begin[0], 3);
	shm_remove(&w, 1, handle(1));
	assert_null(shm_find(&w, 1, handle(1)));
	assert_ptr_equal(shm_find(&w, 2, handle(1)), other);
	assert_ptr_equal(shm_insert(&w, 1, handle(1)), s);
	assert_true(load(&s->gen) == 2 && load(&s->base[0]) == 100 && load(&s->base[1]) == 50);
	assert_true(load(&s->rep[0]) == 100 && !load(&s->state) && !load(&s->start[0]) && !load(&s->begin[0]));
	shm_remove(&w, 3, handle(1)); /* nobody's: nothing happens */
	stop();
}

static void test_table_grows_and_says_when_it_is_full(void **state)
{
	uint32_t full = 0, in = 0, n = 6000, out = 0;
	bool *has = calloc(n, 1);

	(void)state;
	start(8);
	for (uint32_t i = 0; i < n; i++) {
		has[i] = shm_insert(&w, 1, handle(i)) != NULL;
		in += has[i];
		full += !has[i];
	}
	assert_true(full >= n - SHM_PLACES_MIN && in > SHM_PLACES_MIN * 9 / 10);
	assert_int_equal(load(&w.h->table_full), full);
	/* what went in before stays where it is and is found under every larger limit; what found no place then
	 * finds one, but where its bucket is one of the crowded ones */
	for (uint32_t limit = SHM_PLACES_MIN * 2; limit <= SHM_PLACES_MAX; limit *= 2) {
		store(&w.h->limit, limit);
		out = 0;
		for (uint32_t i = 0; i < n; i++) {
			assert_true((shm_find(&w, 1, handle(i)) != NULL) == has[i]);
			if (!has[i])
				has[i] = shm_insert(&w, 1, handle(i)) != NULL;
			out += !has[i];
		}
	}
	assert_true(out < n / 10);
	/* a word that others can write is never believed */
	store(&w.h->limit, 12345);
	assert_int_equal(shm_buckets(&w), SHM_PLACES_MIN / 8);
	store(&w.h->limit, SHM_PLACES_MAX * 2);
	assert_int_equal(shm_buckets(&w), SHM_PLACES_MIN / 8);
	stop();
	free(has);
}

static void test_producer_numbers_end(void **state)
{
	(void)state;
	start(8);
	assert_int_equal(shm_producer(&w, 100), 1);
	assert_int_equal(shm_producer(&w, 101), 2);
	assert_true(load(&w.pid[0]) == 100 && load(&w.pid[1]) == 101);
	store(&w.h->producers, SHM_PRODUCERS - 1);
	for (unsigned i = 2; i < SHM_PRODUCERS; i++)
		store(&w.pid[i], 7);
	assert_int_equal(shm_producer(&w, 104), SHM_PRODUCERS);
	assert_int_equal(shm_producer(&w, 105), 0); /* all are alive, as far as is known */
	assert_int_equal(load(&w.h->no_producer), 1);
	for (unsigned i = 999; i < SHM_PRODUCERS; i += 1000)
		store(&w.pid[i], 0); /* agentd buried these */
	assert_int_equal(shm_producer(&w, 106) % 1000, 0);
	assert_int_equal(load(&w.h->no_producer), 1);
	stop();
}

/* --- records ------------------------------------------------------------------------------------- */

struct stream {
	uint64_t sent, got, lost, pieces;
};

/* Append @len bytes of the stream. Returns true if all went in; what did not is counted as lost. */
static bool put_on(struct stream *s, uintptr_t hint, size_t len)
{
	struct rec rec = {.len = (uint32_t)len, .type = REC_DATA, .off = s->sent, .producer = 1};
	enum shm_why why = SHM_BUSY;
	size_t done = 99;
	bool ok = shm_append(&w, 1, hint, &rec, pattern(1, 0, s->sent), &why, &done);

	assert_true(ok ? done == len : done < len || !len);
	s->sent += len;
	s->lost += len - done;
	return ok;
}

/* Read a stripe to its end. Every byte must be the one that belongs to its offset. */
static void drain(struct stream *s, unsigned stripe)
{
	const uint8_t *data;
	struct rec rec;
	int got;

	while ((got = shm_next(&r, stripe, &rec, &data)) == 1) {
		assert_int_equal(rec.type, REC_DATA);
		assert_memory_equal(data, pattern(1, 0, rec.off), rec.len);
		s->got += rec.len;
		s->pieces++;
		shm_done(&r, stripe);
	}
	assert_int_equal(got, 0);
}

static void drain_all(struct stream *s)
{
	for (unsigned i = 0; i < SHM_STRIPES; i++)
		drain(s, i);
}

static void test_every_record_size(void **state)
{
	struct stream s = {0};

	(void)state;
	start(8);
	for (size_t len = 0; len <= 70000; len += len < 3000 || (len > 64000 && len < 67000) ? 1 : 7) {
		uint64_t before = s.got;

		assert_true(put_on(&s, 1, len));
		drain_all(&s);
		assert_int_equal(s.got - before, len);
	}
	assert_int_equal(s.lost, 0);
	stop();
}

static void test_pieces_follow_each_other(void **state)
{
	size_t len = 200000, done;
	uint8_t *data = malloc(len);
	struct rec rec = {.len = (uint32_t)len, .type = REC_DATA, .off = 5, .other = 77, .flags = REC_F_RX};
	uint64_t at = 5;
	unsigned n = 0, stripe = hash_of(3) % SHM_STRIPES;
	const uint8_t *got;
	enum shm_why why;

	(void)state;
	for (size_t i = 0; i < len; i++)
		data[i] = (uint8_t)rnd_mix(i);
	start(8);
	assert_true(shm_append(&w, 1, 3, &rec, data, &why, &done) && done == len);
	while (shm_next(&r, stripe, &rec, &got) == 1) {
		assert_true(rec.off == at && rec.other == 77 && (rec.flags & REC_F_RX));
		assert_int_equal(!!(rec.flags & REC_F_CONT), n > 0);
		assert_memory_equal(got, data + (at - 5), rec.len);
		assert_true(rec.len >= PIECE_MIN || at + rec.len == 5 + len);
		at += rec.len;
		n++;
		shm_done(&r, stripe);
	}
	assert_int_equal(at, 5 + len);
	assert_int_equal(n, 4); /* three whole chunks and a rest */
	stop();
	free(data);
}

/* What is not data stays whole: it moves into the next chunk. */
static void test_other_records_are_never_cut(void **state)
{
	uint8_t open[sizeof(struct rec_open) + 2 * REC_NAME_MAX] = {0};
	unsigned stripe = hash_of(1) % SHM_STRIPES;
	const uint8_t *got;
	enum shm_why why;
	size_t done;

	(void)state;
	start(8);
	for (size_t rest = 0; rest < 1000; rest += 8) {
		struct rec fill = {.type = REC_DATA, .len = (uint32_t)(SHM_CHUNK_DATA - REC_HEAD - rest)};
		struct rec rec = {.type = REC_OPEN, .len = sizeof(open)};
		struct rec hole = {.type = REC_HOLE, .len = 0xfffffff0};

		assert_true(shm_append(&w, 1, 1, &fill, pattern(1, 0, 0), &why, &done));
		assert_true(shm_append(&w, 1, 1, &hole, NULL, &why, &done));
		assert_true(shm_append(&w, 1, 1, &rec, open, &why, &done));
		for (unsigned i = 0; i < 3; i++) {
			struct rec back;

			assert_int_equal(shm_next(&r, stripe, &back, &got), 1);
			assert_int_equal(back.type, i == 0 ? REC_DATA : i == 1 ? REC_HOLE : REC_OPEN);
			assert_int_equal(back.len, i == 0 ? fill.len : i == 1 ? hole.len : rec.len);
			shm_done(&r, stripe);
		}
		assert_int_equal(shm_next(&r, stripe, &fill, &got), 0);
		assert_true(shm_retire(&r, stripe, 0));
	}
	assert_int_equal(free_chunks(), 8);
	stop();
}

static void test_full_pool_loses_and_counts_exactly(void **state)
{
	struct rec rec = {.type = REC_DATA, .len = 70000};
	struct stream s = {0};
	struct rnd g = {seed};
	enum shm_why why;
	size_t done;

	(void)state;
	start(4);
	for (int round = 0; round < 200; round++) {
		for (int i = 0; i < 100; i++)
			(void)put_on(&s, rnd_below(&g, 3), rnd_size(&g, 70000));
		if (round == 0)
			assert_true(s.lost > 0);
		drain_all(&s);
		assert_int_equal(s.sent, s.got + s.lost);
	}
	while (shm_append(&w, 1, 1, &rec, pattern(1, 0, 0), &why, &done))
		;
	assert_int_equal(why, SHM_FULL);
	for (unsigned i = 0; i < SHM_STRIPES; i++)
		drain(&s, i);
	for (unsigned i = 0; i < SHM_STRIPES; i++)
		assert_true(shm_retire(&r, i, 0));
	assert_int_equal(free_chunks(), 4);
	stop();
}

static void test_busy_stripes_are_told(void **state)
{
	struct stream s = {0};
	struct rec rec = {.type = REC_DATA, .len = 10};
	enum shm_why why = SHM_FULL;
	size_t done = 1;
	unsigned at = hash_of(5) % SHM_STRIPES;

	(void)state;
	start(8);
	for (unsigned i = 0; i < SHM_TRIES - 1; i++)
		store(&w.stripe[(at + i) % SHM_STRIPES].lock, 2);
	assert_true(put_on(&s, 5, 10)); /* one of eight is left */
	assert_int_equal(load(&w.stripe[(at + SHM_TRIES - 1) % SHM_STRIPES].lock), 0);
	store(&w.stripe[(at + SHM_TRIES - 1) % SHM_STRIPES].lock, 2);
	assert_false(shm_append(&w, 1, 5, &rec, pattern(1, 0, 0), &why, &done));
	assert_true(why == SHM_BUSY && done == 0);
	assert_true(put_on(&s, 6 + SHM_STRIPES, 10)); /* others are not disturbed */
	drain_all(&s);
	assert_int_equal(s.got, 20);
	stop();
}

/* While the reader keeps up, a handful of chunks goes round and the rest of the pool is never touched. */
static void test_chunks_stay_hot(void **state)
{
	struct stream s = {0};
	bool used[256] = {false};
	unsigned n = 0;

	(void)state;
	start(256);
	for (int i = 0; i < 5000; i++) {
		unsigned stripe = hash_of((uintptr_t)i % 4) % SHM_STRIPES;

		assert_true(put_on(&s, (uintptr_t)i % 4, 16000));
		used[load(&w.stripe[stripe].cur) - 1] = true;
		drain_all(&s);
	}
	for (unsigned i = 0; i < 256; i++)
		n += used[i];
	assert_true(n <= 6);
	assert_int_equal(on_stack(&w.h->free_cold), 256 - SHM_HOT);
	stop();
}

static void test_wipe_leaves_no_cleartext(void **state)
{
	struct stream s = {0};
	unsigned stripe = hash_of(1) % SHM_STRIPES;
	struct shm_chunk *c;

	(void)state;
	start(8);
	r.wipe = true;
	assert_true(put_on(&s, 1, 5000));
	c = &w.chunk[load(&w.stripe[stripe].cur) - 1];
	drain_all(&s);
	for (unsigned i = 0; i < 6000; i++)
		assert_int_equal(c->data[i], 0);
	stop();
}

/* --- idle stripes, dead holders ------------------------------------------------------------------- */

static void test_idle_stripe_gives_its_chunk_back(void **state)
{
	struct stream s = {0};
	unsigned stripe = hash_of(1) % SHM_STRIPES;

	(void)state;
	start(8);
	assert_true(put_on(&s, 1, 100));
	assert_true(load(&w.h->used) == 1ull << stripe);
	assert_false(shm_retire(&r, stripe, 0)); /* a record waits */
	assert_true(put_on(&s, 1, 100));	 /* and the stripe is still of use */
	drain_all(&s);
	assert_int_equal(s.got, 200);
	store(&w.stripe[stripe].lock, 1); /* a call is under way */
	assert_false(shm_retire(&r, stripe, 0));
	store(&w.stripe[stripe].lock, 0);
	assert_true(shm_retire(&r, stripe, 0));
	assert_true(load(&w.h->used) == 0 && free_chunks() == 8);
	assert_true(put_on(&s, 1, 100));
	drain_all(&s);
	assert_int_equal(s.got, 300);
	stop();
}

/* Where a writer can be killed, in the order of the code. */
enum half { LOCKED, POPPED, IN_FIFO_WORD, IN_CUR, TAIL_RAISED, OLD_CLOSED, COPIED, PUBLISHED, HALVES };

static void die_at(enum half half, unsigned stripe, struct stream *s)
{
	struct shm_stripe *st = &w.stripe[stripe];
	struct shm_chunk *old = stripe_chunk(&w, st), *c = old;
	uint32_t got, tail = load(&st->tail);
	struct rec rec = {.type = REC_DATA, .len = 64, .off = s->sent};

	store(&st->lock, 9);
	if (half >= POPPED && half <= OLD_CLOSED) {
		got = pop(&w);
		assert_int_not_equal(got, UINT32_MAX);
		c = &w.chunk[got];
		store(&c->tail, 0);
		store(&c->closed, 0);
		if (half >= IN_FIFO_WORD)
			store(&w.fifo[(size_t)stripe * (w.fifo_mask + 1) + (tail & w.fifo_mask)], got);
		if (half >= IN_CUR)
			store(&st->cur, got + 1);
		if (half >= TAIL_RAISED)
			store_rel(&st->tail, tail + 1);
		if (half >= OLD_CLOSED && old)
			store_rel(&old->closed, 1);
	}
	if (half >= COPIED && c) {
		uint32_t at = load(&c->tail);

		memcpy(c->data + at, &rec, REC_HEAD);
		memcpy(c->data + at + REC_HEAD, pattern(1, 0, s->sent), 64);
		if (half >= PUBLISHED) {
			store_rel(&c->tail, at + REC_HEAD + 64);
			s->sent += 64;
		}
	}
}

static void test_dead_holders_are_relieved(void **state)
{
	(void)state;
	for (int fresh = 0; fresh < 2; fresh++)
		for (enum half half = LOCKED; half < HALVES; half++) {
			struct stream s = {0};
			unsigned stripe = hash_of(1) % SHM_STRIPES;
			uint32_t lost;

			start(8);
			if (!fresh)
				assert_true(put_on(&s, 1, 1000));
			die_at(half, stripe, &s);
			lost = 8 - free_chunks();
			assert_false(shm_retire(&r, stripe, 8)); /* somebody else has died */
			if (!fresh) {
				assert_false(shm_retire(&r, stripe, 9)); /* not yet: it holds records */
				assert_int_equal(load(&w.stripe[stripe].lock), 9);
			}
			assert_int_equal(shm_leaks(&r), -EAGAIN);
			drain_all(&s);
			assert_true(shm_retire(&r, stripe, 9));
			assert_int_equal(load(&w.stripe[stripe].lock), 0);
			assert_true(shm_leaks(&r) <= (int)lost);
			assert_int_equal(shm_leaks(&r), 0); /* nothing twice */
			assert_int_equal(free_chunks(), 8);
			assert_true(put_on(&s, 1, 70000));
			drain_all(&s);
			assert_int_equal(s.got, s.sent);
			stop();
		}
}

static void test_leaks_are_not_looked_for_while_somebody_writes(void **state)
{
	struct stream s = {0};

	(void)state;
	start(8);
	store(&w.stripe[40].lock, 3);
	(void)pop(&w);
	assert_int_equal(shm_leaks(&r), -EAGAIN);
	for (unsigned i = 0; i < SHM_STRIPES; i++)
		assert_int_equal(load(&w.stripe[i].lock), i == 40 ? 3 : 0);
	store(&w.stripe[40].lock, 0);
	assert_int_equal(shm_leaks(&r), 1);
	assert_int_equal(free_chunks(), 8);
	assert_true(put_on(&s, 1, 100));
	stop();
}

/* --- successors ---------------------------------------------------------------------------------- */

/* agentd is killed: its private memory is gone, the file is not. */
static void succeed(void)
{
	int fd = dup(r.fd);

	shm_reader_fini(&r);
	assert_int_equal(shm_adopt(&r, fd, 8), -EXDEV);
	assert_int_equal(shm_adopt(&r, fd, 9), 0);
}

static void test_successor_goes_on_where_the_other_stopped(void **state)
{
	struct stream s = {0};
	struct rnd g = {seed};

	(void)state;
	start(16);
	for (int round = 0; round < 300; round++) {
		for (int i = 0; i < 8; i++)
			(void)put_on(&s, rnd_below(&g, 4), rnd_size(&g, 70000));
		for (int i = 0; i < 30; i++) { /* some of them, one record of any stripe at a time */
			unsigned stripe = hash_of(rnd_below(&g, 4)) % SHM_STRIPES;
			const uint8_t *data;
			struct rec rec;

			if (shm_next(&r, stripe, &rec, &data) != 1)
				continue;
			assert_memory_equal(data, pattern(1, 0, rec.off), rec.len);
			s.got += rec.len;
			shm_done(&r, stripe);
		}
		succeed();
		if (round % 7 == 0)
			drain_all(&s);
	}
	drain_all(&s);
	assert_int_equal(s.sent, s.got + s.lost);
	assert_int_equal(shm_leaks(&r), 0);
	stop();
}

/* It is killed with stripes in its hands, and while a chunk is in nobody's: each step of shm_retire(). */
static void test_successor_of_one_that_died_inside(void **state)
{
	(void)state;
	for (int step = 0; step < 4; step++) {
		struct stream s = {0};
		unsigned stripe = hash_of(1) % SHM_STRIPES;
		struct shm_stripe *st;

		start(8);
		assert_true(put_on(&s, 1, 100));
		drain_all(&s);
		st = &w.stripe[stripe];
		store(&st->lock, SHM_CONSUMER);
		store(&w.stripe[(stripe + 3) % SHM_STRIPES].lock, SHM_CONSUMER); /* as in shm_leaks() */
		if (step >= 1)
			store(&st->at, (uint64_t)load(&st->tail) << 32);
		if (step >= 2)
			store(&st->cur, 0);
		if (step >= 3)
			atomic_fetch_and(&w.h->used, ~(1ull << stripe));
		succeed();
		for (unsigned i = 0; i < SHM_STRIPES; i++)
			assert_int_equal(load(&w.stripe[i].lock), 0);
		assert_true(put_on(&s, 1, 100));
		drain_all(&s);
		assert_int_equal(s.got, s.sent);
		assert_int_equal(shm_leaks(&r), step >= 1);
		assert_true(shm_retire(&r, stripe, 0));
		assert_int_equal(free_chunks(), 8);
		stop();
	}
}

static void test_successor_finds_what_was_being_trimmed(void **state)
{
	(void)state;
	start(64);
	for (int i = 0; i < 20; i++)
		assert_int_not_equal(shm_pop(&r.v, &r.v.h->free_cold), UINT32_MAX);
	succeed();
	assert_int_equal(shm_leaks(&r), 20);
	assert_int_equal(free_chunks(), 64);
	stop();
}

/* --- giving memory back --------------------------------------------------------------------------- */

static off_t allocated(void)
{
	struct stat st;

	assert_int_equal(fstat(r.fd, &st), 0);
	return st.st_blocks * 512;
}

static void test_trim_takes_only_what_is_free(void **state)
{
	struct stream s = {0};
	off_t before, burst;

	(void)state;
	start(200);
	before = allocated();
	for (int i = 0; i < 150; i++)
		assert_true(put_on(&s, 1, 65000));
	burst = allocated();
	assert_true(burst - before >= 130 * 65536);
	shm_trim(&r); /* nothing of it is free */
	assert_true(allocated() >= burst - 65536);
	for (int i = 0; i < 60; i++) {
		const uint8_t *data;
		struct rec rec;

		assert_int_equal(shm_next(&r, hash_of(1) % SHM_STRIPES, &rec, &data), 1);
		assert_memory_equal(data, pattern(1, 0, rec.off), rec.len);
		s.got += rec.len;
		shm_done(&r, hash_of(1) % SHM_STRIPES);
	}
	shm_trim(&r);
	assert_true(allocated() < burst - 30 * 65536 && allocated() > before + 80 * 65536);
	assert_true(put_on(&s, 1, 65000));
	drain_all(&s); /* what was not free is whole */
	assert_int_equal(s.got, s.sent);
	shm_trim(&r);
	assert_true(allocated() <= before + (off_t)(SHM_HOT + 3) * 65536);
	assert_int_equal(free_chunks(), 199);
	stop();
}

/* --- hostile writers ------------------------------------------------------------------------------ */

struct hostile {
	_Atomic bool end;
	uint64_t seed, flips;
};

static void *flip(void *arg)
{
	struct hostile *h = arg;
	struct rnd g = {h->seed};
	/* everything but the chunks' payloads, and of these the first lines: headers of chunks and records */
	size_t words = (size_t)((uint8_t *)w.chunk - w.base) / 4;
	_Atomic uint32_t *word = (void *)w.base;

	while (!atomic_load(&h->end)) {
		uint32_t v = rnd_below(&g, 2) ? (uint32_t)rnd(&g) : rnd_below(&g, 70) * (rnd_below(&g, 2) ? 8 : 1);
		size_t at;

		switch (rnd_below(&g, 4)) {
		case 0:
			at = rnd_below(&g, 1024);
			break;
		case 1: /* stripes, FIFOs, free list */
			at = (size_t)((uint8_t *)w.stripe - w.base) / 4 +
			     rnd_below(&g, (uint32_t)(words - (size_t)((uint8_t *)w.stripe - w.base) / 4));
			break;
		case 2:
			at = words + (size_t)rnd_below(&g, w.chunks) * (SHM_CHUNK / 4) + rnd_below(&g, 200);
			break;
		default:
			at = rnd_below(&g, (uint32_t)words);
		}
		if (rnd_below(&g, 3))
			store(&word[at], v);
		else
			atomic_fetch_xor(&word[at], 1u << rnd_below(&g, 32));
		h->flips++;
	}
	return NULL;
}

static uint64_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

/* Whatever the family writes, and whenever: the reader stays inside the mapping, and each call ends. */
static void test_hostile_mapping_does_no_harm(void **state)
{
	struct hostile h = {.seed = seed};
	uint64_t until = now_ms() + 2000, nonsense = 0, records = 0, slowest = 0, rounds;
	struct rnd g = {seed + 1};
	uint8_t *copy;
	pthread_t t;

	(void)state;
	if (UNDER_TSAN)
		skip(); /* the races are the test */
	copy = malloc(SHM_CHUNK);
	start(16);
	assert_int_equal(pthread_create(&t, NULL, flip, &h), 0);
	for (rounds = 0; now_ms() < until; rounds++) {
		uint64_t began = now_ms();

		for (unsigned i = 0; i < SHM_STRIPES; i++) {
			const uint8_t *data;
			struct rec rec;
			int got = 1;

			for (unsigned k = 0; k < 10000 && (got = shm_next(&r, i, &rec, &data)) == 1; k++) {
				size_t len = rec.type == REC_HOLE ? 0 : rec.len;

				assert_true(data >= (uint8_t *)r.v.chunk && data + len <= r.v.base + r.v.size);
				assert_true(len < SHM_CHUNK);
				memcpy(copy, data, len);
				shm_done(&r, i);
				records++;
			}
			nonsense += got < 0;
			if (got < 0) { /* agentd would read it no more; we begin anew with what is there */
				r.s[i].chunk = UINT32_MAX;
				r.s[i].head = load(&r.v.stripe[i].tail) - rnd_below(&g, 3);
				r.s[i].read = 0;
			}
			(void)shm_retire(&r, i, (uint16_t)rnd_below(&g, 3));
		}
		(void)shm_leaks(&r);
		if (rounds % 16 == 0)
			shm_trim(&r);
		(void)shm_buckets(&r.v);
		if (now_ms() - began > slowest)
			slowest = now_ms() - began;
		/* a producer of the same family must not be harmed either */
		for (unsigned i = 0; i < 10; i++) {
			struct rec rec = {.type = REC_DATA, .len = 1 + rnd_below(&g, 70000)};
			struct shm_slot *s = shm_find(&w, 1, handle(i));
			enum shm_why why;
			size_t done;

			(void)shm_append(&w, 1, rnd(&g), &rec, pattern(1, 0, 0), &why, &done);
			s = s ? s : shm_insert(&w, 1, handle(i));
			assert_true(!s || (s >= w.slot && s < w.slot + w.places));
			if (i % 2)
				shm_remove(&w, 1, handle(i));
		}
		for (unsigned i = 0; i < SHM_STRIPES; i++) /* or the spinner's own locks end the test too early */
			if (rnd_below(&g, 2))
				store(&w.stripe[i].lock, 0);
	}
	atomic_store(&h.end, true);
	pthread_join(t, NULL);
	printf("%llu flips, %llu rounds, %llu records, %llu times nonsense, slowest round %llu ms\n",
	       (unsigned long long)h.flips, (unsigned long long)rounds, (unsigned long long)records,
	       (unsigned long long)nonsense, (unsigned long long)slowest);
	assert_true(rounds > 20 && records > 0 && nonsense > 0);
	stop();
	free(copy);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_layout_is_pinned),
		cmocka_unit_test(test_sizes_out_of_bounds_are_none),
		cmocka_unit_test(test_view_refuses_what_does_not_fit),
		cmocka_unit_test(test_mapping_is_sealed),
		cmocka_unit_test(test_slots_are_found_until_removed),
		cmocka_unit_test(test_table_grows_and_says_when_it_is_full),
		cmocka_unit_test(test_producer_numbers_end),
		cmocka_unit_test(test_every_record_size),
		cmocka_unit_test(test_pieces_follow_each_other),
		cmocka_unit_test(test_other_records_are_never_cut),
		cmocka_unit_test(test_full_pool_loses_and_counts_exactly),
		cmocka_unit_test(test_busy_stripes_are_told),
		cmocka_unit_test(test_chunks_stay_hot),
		cmocka_unit_test(test_wipe_leaves_no_cleartext),
		cmocka_unit_test(test_idle_stripe_gives_its_chunk_back),
		cmocka_unit_test(test_dead_holders_are_relieved),
		cmocka_unit_test(test_leaks_are_not_looked_for_while_somebody_writes),
		cmocka_unit_test(test_successor_goes_on_where_the_other_stopped),
		cmocka_unit_test(test_successor_of_one_that_died_inside),
		cmocka_unit_test(test_successor_finds_what_was_being_trimmed),
		cmocka_unit_test(test_trim_takes_only_what_is_free),
		cmocka_unit_test(test_hostile_mapping_does_no_harm),
	};

	pattern_init();
	seed = seed_of(argc, argv);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
