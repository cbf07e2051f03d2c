/* SPDX-License-Identifier: Apache-2.0 */
/* test_tap_shm.c - libtlstap's calls on many threads at once, one reader, and a model that knows by offsets alone
 * what must have come and what is lost. Runs under ThreadSanitizer too.
 * -s SEED replays what the threads do (not when). */
#include "libtlstap/conn.c"

#include "common/shm_reader.c"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#include "pattern.h"

#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
#define OPS 6000u
#else
#define OPS 60000u
#endif

static uint64_t seed;

/* --- a TLS library and a process, as far as conn.c asks --------------------------------------------- */

struct ssl_st {
	uint64_t random;
	struct shm_slot *seen[4]; /* slots that its calls met; by thread */
};

static uint64_t get_random8(const struct tls_lib *lib, const void *ssl)
{
	(void)lib;
	return ((const SSL *)ssl)->random;
}

static bool yes(const struct tls_lib *lib, const void *ssl)
{
	(void)lib;
	(void)ssl;
	return true;
}

static int no_fd(const struct tls_lib *lib, const void *ssl)
{
	(void)lib;
	(void)ssl;
	return -1;
}

static size_t put_random(const struct tls_lib *lib, const void *ssl, struct rec_open *o, uint8_t *ret_names)
{
	(void)lib;
	(void)ret_names;
	memcpy(o->client_random, &((const SSL *)ssl)->random, 8);
	return 0;
}

static const struct tls_facts fake_facts = {.random8 = get_random8, .ready = yes, .fd = no_fd, .describe = put_random};
static struct tls_lib fake_lib = {.facts = &fake_facts};

_Atomic int attach_state = ATTACH_DONE;
struct shm attach_shm;
bool attach_may_ask;
int32_t attach_pid = 1;

void attach_late(void) {}

uint16_t attach_producer(uint16_t *ret_parent)
{
	*ret_parent = 0;
	return 1;
}

struct site resolve(const void *ra, const char *name, const void *handle)
{
	(void)ra;
	(void)name;
	(void)handle;
	return (struct site){.lib = &fake_lib};
}

/* --- threads that write and read ------------------------------------------------------------------- */

struct talker {
	pthread_t thread;
	struct rnd g;
	SSL *ssl;
	enum dir only; /* of a duplex pair: this thread's direction */
	bool duplex;
	unsigned no, ops;
	uint64_t reported;
	pthread_barrier_t *together;
};

/* One call of the application. The bytes are those of the slot at its offset. */
static void one_call(struct talker *t, SSL *ssl, enum dir d, size_t len)
{
	struct call c;
	const uint8_t *bytes = pattern_table;

	tap_enter(&c, ssl, d, NULL, "SSL_write");
	if (c.slot) {
		bytes = pattern((uint64_t)(c.slot - attach_shm.slot), d, load(&c.slot->rep[d]));
		ssl->seen[t->duplex ? d : 0] = c.slot;
		t->reported += len;
	}
	tap_leave(&c, bytes, c.slot ? len : 0, 0);
}

static void *talk(void *arg)
{
	struct talker *t = arg;
	struct ssl_st own[8] = {{0}};

	for (unsigned i = 0; i < t->ops; i++) {
		SSL *ssl = t->ssl;
		unsigned k = rnd_below(&t->g, 8);

		if (rnd_below(&t->g, 128) == 0)
			usleep(50); /* programs wait now and then, and the reader is to see them in all states */
		if (t->duplex) {
			if (i % 200 == 0) { /* both meet a handle that is new to libtlstap */
				pthread_barrier_wait(t->together);
				if (t->only == DIR_TX) {
					if (i)
						tap_close(&fake_lib, ssl, true);
					ssl->random = rnd(&t->g) | 1;
				}
				pthread_barrier_wait(t->together);
			}
			one_call(t, ssl, t->only, rnd_size(&t->g, 70000));
			continue;
		}
		ssl = &own[k];
		if (!ssl->random)
			ssl->random = rnd(&t->g) | 1;
		if (rnd_below(&t->g, 100) == 0) { /* or its address is in use again without a free that we saw */
			if (rnd_below(&t->g, 4))
				tap_close(&fake_lib, ssl, true);
			ssl->random = 0;
			continue;
		}
		one_call(t, ssl, (enum dir)rnd_below(&t->g, 2), rnd_size(&t->g, 70000));
	}
	if (t->duplex) {
		pthread_barrier_wait(t->together);
		if (t->only == DIR_TX)
			tap_close(&fake_lib, t->ssl, true);
	}
	for (unsigned k = 0; k < 8 && !t->duplex; k++)
		if (own[k].random)
			tap_close(&fake_lib, &own[k], true);
	return NULL;
}

/* --- the model ------------------------------------------------------------------------------------- */

/* What one slot said in one direction. */
struct track {
	uint64_t next; /* all before is delivered or lost */
	struct ahead {
		uint64_t off, len, sweep;
	} * ahead; /* sorted: came before what is before them */
	unsigned n, cap;
};

static struct track *track[SHM_PLACES_MIN * 16][2];
static uint64_t delivered, gaps, overlaps, corrupt, records, held_most;

static void catch_up(struct track *t, uint64_t sweep)
{
	unsigned used = 0;

	while (used < t->n && (t->ahead[used].off == t->next || t->ahead[used].sweep + 2 <= sweep)) {
		gaps += t->ahead[used].off - t->next;
		t->next = t->ahead[used].off + t->ahead[used].len;
		used++;
	}
	t->n -= used;
	memmove(t->ahead, t->ahead + used, t->n * sizeof(t->ahead[0]));
}

static void on_data(const struct rec *rec, const uint8_t *data, uint64_t sweep)
{
	enum dir d = rec->flags & REC_F_RX ? DIR_RX : DIR_TX;
	struct track **at = &track[rec->slot][d], *t;
	unsigned i;

	if (!*at)
		*at = calloc(1, sizeof(**at));
	t = *at;
	assert_non_null(t);
	delivered += rec->len;
	if (memcmp(data, pattern(rec->slot, d, rec->off), rec->len) != 0)
		corrupt += rec->len;
	if (rec->off < t->next) {
		overlaps += rec->len;
		return;
	}
	if (t->n == t->cap) {
		t->cap = t->cap ? 2 * t->cap : 16;
		t->ahead = realloc(t->ahead, t->cap * sizeof(t->ahead[0]));
		assert_non_null(t->ahead);
	}
	for (i = t->n; i > 0 && t->ahead[i - 1].off > rec->off; i--)
		t->ahead[i] = t->ahead[i - 1];
	if (i > 0 && t->ahead[i - 1].off + t->ahead[i - 1].len > rec->off)
		overlaps += rec->len;
	t->ahead[i].off = rec->off;
	t->ahead[i].len = rec->len;
	t->ahead[i].sweep = sweep;
	t->n++;
	held_most = t->n > held_most ? t->n : held_most;
	catch_up(t, 0);
}

static void read_all(struct shm_reader *r, uint64_t sweep)
{
	static uint8_t copy[SHM_CHUNK];

	for (unsigned i = 0; i < SHM_STRIPES; i++) {
		const uint8_t *data;
		struct rec rec;
		int got;

		while ((got = shm_next(r, i, &rec, &data)) == 1) {
			assert_true(rec.slot < SHM_PLACES_MIN * 16 && rec.type <= REC_CLOSE);
			memcpy(copy, data, rec.len);
			shm_done(r, i);
			records++;
			if (rec.type == REC_DATA)
				on_data(&rec, copy, sweep);
		}
		assert_int_equal(got, 0);
	}
	for (unsigned i = 0; i < SHM_PLACES_MIN * 16; i++)
		for (unsigned d = 0; d < 2; d++)
			if (track[i][d] && track[i][d]->n)
				catch_up(track[i][d], sweep);
}

/* @crowded: only every eighth stripe is to be had, so that threads meet there. */
static void run(unsigned chunks, unsigned pause_us, unsigned threads, bool crowded)
{
	struct talker t[16] = {{0}};
	struct ssl_st shared[8] = {{0}};
	pthread_barrier_t pair[8];
	struct shm_reader r;
	uint64_t sweep = 0, reported = 0, said = 0, tail = 0, lost;
	unsigned left = threads;

	delivered = gaps = overlaps = corrupt = records = held_most = 0;
	memset(track, 0, sizeof(track));
	assert_int_equal(shm_create(&r, chunks, 1, 9), 0);
	assert_int_equal(shm_view(&attach_shm, r.v.base, r.v.size), 0);
	for (unsigned i = 0; i < SHM_STRIPES; i++)
		store(&r.v.stripe[i].lock, crowded && i % 8 ? 2 : 0);
	for (unsigned i = 0; i < threads; i++) {
		t[i] = (struct talker){.no = i, .ops = OPS, .g = {seed + i}, .duplex = i >= (threads / 2 & ~1u)};
		t[i].only = i % 2 ? DIR_RX : DIR_TX;
		t[i].ssl = &shared[i / 2];
		t[i].together = &pair[i / 2];
		if (i % 2 == 0)
			pthread_barrier_init(&pair[i / 2], NULL, 2);
	}
	for (unsigned i = 0; i < threads; i++)
		assert_int_equal(pthread_create(&t[i].thread, NULL, talk, &t[i]), 0);
	while (left) {
		read_all(&r, ++sweep);
		for (unsigned i = 0; i < SHM_STRIPES && sweep % 64 == 0; i++)
			(void)shm_retire(&r, i, 0);
		if (sweep % 512 == 0)
			shm_trim(&r);
		if (pause_us)
			usleep(pause_us);
		while (left && pthread_tryjoin_np(t[left - 1].thread, NULL) == 0)
			left--;
	}
	read_all(&r, ++sweep);
	read_all(&r, ++sweep);
	read_all(&r, ++sweep);
	for (uint32_t i = 0; i < SHM_PLACES_MIN * 16; i++)
		for (unsigned d = 0; d < 2; d++) {
			uint64_t rep = load(&r.v.slot[i].rep[d]);

			said += rep;
			assert_true(!track[i][d] || (track[i][d]->n == 0 && track[i][d]->next <= rep));
			tail += rep - (track[i][d] ? track[i][d]->next : 0);
			if (track[i][d])
				free(track[i][d]->ahead);
			free(track[i][d]);
		}
	for (unsigned i = 0; i < threads; i++)
		reported += t[i].reported;
	lost = load(&r.v.h->lost_full) + load(&r.v.h->lost_busy);
	printf("%u chunks: %llu bytes reported, %llu delivered in %llu records, gaps %llu, tails %llu, busy %llu, "
	       "%llu sweeps, at most %llu ahead\n",
	       chunks, (unsigned long long)reported, (unsigned long long)delivered, (unsigned long long)records,
	       (unsigned long long)gaps, (unsigned long long)tail, (unsigned long long)load(&r.v.h->lost_busy),
	       (unsigned long long)sweep, (unsigned long long)held_most);
	assert_int_equal(corrupt, 0);
	assert_int_equal(overlaps, 0);
	assert_int_equal(said, reported);
	assert_int_equal(reported, delivered + gaps + tail);
	assert_int_equal(lost, gaps + tail);
	for (uint32_t i = 0; i < r.v.places; i++) /* every handle that was freed has left the table */
		if (load(&r.v.bucket[i]))
			assert_true(load(&r.v.slot[i].random8) != 0);
	for (unsigned i = 0; i < SHM_STRIPES; i++)
		assert_true(shm_retire(&r, i, load(&r.v.stripe[i].lock) ? 2 : 0));
	assert_int_equal(shm_leaks(&r), 0);
	shm_reader_fini(&r);
	for (unsigned i = 0; i < threads; i += 2)
		pthread_barrier_destroy(&pair[i / 2]);
}

static void test_reader_keeps_up(void **state)
{
	(void)state;
	run(1024, 0, 4, false);
}

static void test_many_threads(void **state)
{
	(void)state;
	run(256, 200, 12, false);
}

static void test_crowded_stripes(void **state)
{
	(void)state;
	run(2048, 0, 16, true);
}

static void test_overload(void **state)
{
	(void)state;
	run(4, 2000, 6, false);
}

/* Both threads of a handle meet it for the first time: one slot, not two. */
static void test_one_slot_per_handle(void **state)
{
	struct ssl_st ssl = {0};
	pthread_barrier_t both;
	struct shm_reader r;

	(void)state;
	pthread_barrier_init(&both, NULL, 2);
	assert_int_equal(shm_create(&r, 1024, 1, 9), 0);
	assert_int_equal(shm_view(&attach_shm, r.v.base, r.v.size), 0);
	for (unsigned i = 0; i < 2000; i++) {
		struct talker t[2];
		unsigned keys = 0;

		ssl = (struct ssl_st){.random = i + 1};
		for (unsigned d = 0; d < 2; d++) {
			t[d] = (struct talker){.g = {seed + i * 2 + d}, .ssl = &ssl, .only = (enum dir)d};
			t[d].duplex = true;
			t[d].ops = 1;
			t[d].together = &both;
		}
		for (unsigned d = 0; d < 2; d++)
			assert_int_equal(pthread_create(&t[d].thread, NULL, talk, &t[d]), 0);
		for (unsigned d = 0; d < 2; d++)
			pthread_join(t[d].thread, NULL);
		for (unsigned d = 0; d < 2; d++)
			assert_non_null(ssl.seen[d]);
		assert_ptr_equal(ssl.seen[0], ssl.seen[1]);
		for (uint32_t k = 0; k < SHM_PLACES_MIN; k++)
			keys += load(&r.v.bucket[k]) != 0;
		assert_int_equal(keys, 0);
		for (unsigned k = 0; k < SHM_STRIPES; k++) {
			const uint8_t *data;
			struct rec rec;

			while (shm_next(&r, k, &rec, &data) == 1)
				shm_done(&r, k);
		}
	}
	shm_reader_fini(&r);
	pthread_barrier_destroy(&both);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_reader_keeps_up),	    cmocka_unit_test(test_many_threads),
		cmocka_unit_test(test_crowded_stripes),	    cmocka_unit_test(test_overload),
		cmocka_unit_test(test_one_slot_per_handle),
	};

	pattern_init();
	seed = seed_of(argc, argv);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
