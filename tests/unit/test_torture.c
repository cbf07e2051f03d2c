/* SPDX-License-Identifier: Apache-2.0 */
/* test_torture.c - processes with threads that are killed and stopped at random in the middle of everything, all in one
 * family, and agentd's own lane, family, taps and connections behind them. No byte may be wrong or come twice, and
 * the books must balance to the byte. TORTURE_SECONDS=N makes it longer (6 for each part). */
#include "agent.h"

#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>

#define CHILDREN 6
#define THREADS 2

static uint64_t seed;
static struct family *fam;

/* What the children see of their parent's plans. */
struct plan {
	_Atomic uint32_t next_id;
	_Atomic bool end;
	_Atomic uint64_t calls;
	unsigned nap; /* one call of so many is followed by a rest */
};
static struct plan *plan;

/* --- a child: libtlstap's order of stores, without a TLS library ------------------------------------- */

struct worker {
	struct rnd g;
	uint16_t producer;
	unsigned no;
};

static bool append(struct rec *r, uintptr_t hint, const void *data)
{
	const struct shm *v = &fam->r.v;
	enum shm_why why;
	size_t done;

	if (shm_append(v, (uint16_t)r->producer, hint, r, data, &why, &done))
		return true;
	if (r->type == REC_DATA)
		atomic_fetch_add(why == SHM_FULL ? &v->h->lost_full : &v->h->lost_busy, r->len - done);
	return false;
}

static struct rec rec_of(const struct shm_slot *s, enum rec_type type)
{
	return (struct rec){.type = (uint16_t)type,
			    .slot = (uint32_t)(s - fam->r.v.slot),
			    .gen = load(&s->gen),
			    .producer = load(&s->producer)};
}

static bool say_open(struct shm_slot *s, uint64_t id, uintptr_t hint)
{
	struct rec_open o = {.ver = 4, .fd = 5, .pid = getpid(), .flags = REC_OPEN_ADDRS};
	struct rec r = rec_of(s, REC_OPEN);

	o.base[0] = load(&s->base[0]);
	o.base[1] = load(&s->base[1]);
	memcpy(o.client_random, &id, 8);
	memcpy(o.local, "\x0a\x01", 2);
	memcpy(o.local + 2, &id, 2);
	memcpy(o.remote, "\x0a\0\0\2", 4);
	o.local_port = 30000;
	o.remote_port = 443;
	r.len = sizeof(o);
	return append(&r, hint, &o);
}

static void one_call(struct worker *w, struct shm_slot *s, uint64_t id, enum dir d, size_t len, uintptr_t hint)
{
	struct rec r = rec_of(s, REC_DATA);
	uint64_t other = load(&s->rep[!d]);

	store_rel(&s->begin[d], load(&s->end[d]) + 1);
	if (rnd_below(&w->g, 64) == 0)
		sched_yield(); /* inside the TLS library */
	r.len = (uint32_t)len;
	r.off = load(&s->rep[d]);
	r.other = other;
	r.flags = d == DIR_RX ? REC_F_RX : 0;
	store_rel(&s->rep[d], r.off + len);
	if (!(load(&s->state) & SHM_SLOT_OPENED) && say_open(s, id, hint))
		store(&s->state, SHM_SLOT_OPENED);
	if (load(&s->state) & SHM_SLOT_OPENED)
		(void)append(&r, hint, pattern(id, d == DIR_TX ? SIDE_CLIENT : SIDE_SERVER, r.off - load(&s->base[d])));
	else
		atomic_fetch_add(&fam->r.v.h->lost_full, len);
	store_rel(&s->end[d], load(&s->begin[d]));
	atomic_fetch_add_explicit(&plan->calls, 1, memory_order_relaxed);
}

static void *work(void *arg)
{
	struct worker *w = arg;
	const struct shm *v = &fam->r.v;
	uintptr_t hint = (uintptr_t)&w;

	while (!atomic_load(&plan->end)) {
		uint32_t id = atomic_fetch_add(&plan->next_id, 1), calls = 20 + rnd_below(&w->g, 1500);
		const void *handle = (const void *)((uintptr_t)w + rnd_below(&w->g, 8));
		struct shm_slot *s;
		struct rec r;

		if (id >= STREAMS)
			break;
		s = shm_insert(v, w->producer, handle);
		if (!s)
			continue;
		store(&s->random8, id);
		for (uint32_t i = 0; i < calls && !atomic_load(&plan->end); i++) {
			one_call(w, s, id, (enum dir)rnd_below(&w->g, 2), rnd_size(&w->g, 70000), hint);
			if (rnd_below(&w->g, plan->nap) == 0)
				usleep(200);
		}
		r = rec_of(s, REC_CLOSE);
		r.off = load(&s->rep[DIR_TX]);
		r.other = load(&s->rep[DIR_RX]);
		r.flags = REC_F_FREE;
		(void)append(&r, hint, NULL);
		shm_remove(v, w->producer, handle);
	}
	return NULL;
}

static void __attribute__((noreturn)) child(uint64_t child_seed)
{
	static struct worker w[THREADS];
	pthread_t t[THREADS];
	uint16_t producer = shm_producer(&fam->r.v, getpid());

	for (unsigned i = 0; i < THREADS; i++) {
		w[i] = (struct worker){.g = {child_seed + i}, .producer = producer, .no = i};
		if (!producer || pthread_create(&t[i], NULL, work, &w[i]) != 0)
			_exit(1);
	}
	for (unsigned i = 0; i < THREADS; i++)
		pthread_join(t[i], NULL);
	_exit(0);
}

/* --- the parent: executioner and agentd --------------------------------------------------------------- */

static uint64_t real_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static struct {
	unsigned kills, stops, died_inside;
} count;

struct prey {
	pid_t pid;
	bool stopped;
};

static void spawn(struct prey *p, uint64_t child_seed)
{
	p->stopped = false;
	p->pid = fork();
	assert_int_not_equal(p->pid, -1);
	if (p->pid == 0)
		child(child_seed);
	/* the helper's news of a new member, as soon as it has opened its first connection */
	assert_non_null(family_member(fam, &(struct helper_pid){.pid = p->pid}, p->pid));
}

static void reap(struct prey *p)
{
	assert_int_equal(waitpid(p->pid, NULL, 0), p->pid);
	for (unsigned i = 0; i < SHM_STRIPES; i++) { /* did it hold a stripe? */
		uint32_t holder = load(&fam->r.v.stripe[i].lock);

		count.died_inside += holder && holder <= SHM_PRODUCERS && load(&fam->r.v.pid[holder - 1]) == p->pid;
	}
}

static void disturb(struct prey *prey, struct rnd *g)
{
	struct prey *p = &prey[rnd_below(g, CHILDREN)];
	unsigned what = rnd_below(g, 10);

	if (what < 7) {
		kill(p->pid, SIGKILL);
		reap(p);
		count.kills++;
		spawn(p, rnd(g));
	} else if (!p->stopped) {
		kill(p->pid, SIGSTOP);
		p->stopped = true;
		count.stops++;
	} else {
		kill(p->pid, SIGCONT);
		p->stopped = false;
	}
}

static void look(void)
{
	agent_now = real_ns();
	ev_run(loop, EVRUN_NOWAIT);
	sweep(&lane);
	answer();
	balanced(false);
}

/* Every chunk is free or in one FIFO, once; but for those of the last dead, which are not looked for any more.
 * Returns those that are nowhere. */
static unsigned chunks_astray(const struct shm *v)
{
	uint8_t *seen = calloc(v->chunks, 1);
	_Atomic uint64_t *stack[] = {&v->h->free_hot, &v->h->free_cold};
	unsigned astray = 0;

	for (unsigned i = 0; i < 2; i++)
		for (uint32_t at = (uint32_t)load(stack[i]), n = 0; at && n <= v->chunks;
		     n++, at = load(&v->next[at - 1]))
			seen[at - 1]++;
	for (unsigned i = 0; i < SHM_STRIPES; i++)
		for (uint32_t k = (uint32_t)(load(&v->stripe[i].at) >> 32); k != load(&v->stripe[i].tail); k++)
			seen[load(&v->fifo[(size_t)i * (v->fifo_mask + 1) + (k & v->fifo_mask)])]++;
	for (uint32_t i = 0; i < v->chunks; i++) {
		assert_true(seen[i] <= 1);
		astray += !seen[i];
	}
	free(seen);
	return astray;
}

static void torture(uint32_t chunks, unsigned nap, unsigned pause_us)
{
	const char *s = getenv("TORTURE_SECONDS");
	uint64_t until, next = 0, said = 0, pieces = 0;
	struct prey prey[CHILDREN];
	struct rnd g = {seed};
	struct shm v;
	void *base;

	memset(&count, 0, sizeof(count));
	atomic_store(&plan->next_id, 1);
	atomic_store(&plan->end, false);
	atomic_store(&plan->calls, 0);
	plan->nap = nap;
	agent_now = real_ns();
	agent_start();
	fam = new_family(chunks, getpid());
	base = mmap(NULL, fam->r.v.size, PROT_READ | PROT_WRITE, MAP_SHARED, fam->r.fd, 0);
	assert_int_equal(shm_view(&v, base, fam->r.v.size), 0);
	for (unsigned i = 0; i < CHILDREN; i++)
		spawn(&prey[i], rnd(&g));
	until = real_ns() + (s ? strtoull(s, NULL, 10) : 6) * 1000000000u;
	while (real_ns() < until) {
		look();
		if (real_ns() >= next) {
			next = real_ns() + 2000000;
			disturb(prey, &g);
		}
		usleep(pause_us);
	}
	atomic_store(&plan->end, true);
	for (unsigned i = 0; i < CHILDREN; i++) {
		kill(prey[i].pid, SIGCONT);
		if (i % 2)
			kill(prey[i].pid, SIGKILL);
		reap(&prey[i]);
	}
	for (until = real_ns() + 20000000000u; lane.families && real_ns() < until; usleep(200))
		look();
	assert_null(lane.families);
	balanced(true);
	for (uint32_t i = 0; i < v.places; i++)
		said += load(&v.slot[i].rep[0]) + load(&v.slot[i].rep[1]);
	for (unsigned i = 0; i < STREAMS; i++)
		pieces += stream[i].pieces;
	printf("%u chunks: %u kills (%u while holding a stripe), %u stops, %" PRIu64 " calls, %u connections\n"
	       "  %" PRIu64 " bytes reported = taken %" PRIu64 " + pool_full %" PRIu64 " + stripes_busy %" PRIu64
	       " + died %" PRIu64 "; late %" PRIu64 ", %" PRIu64 " pieces forged\n",
	       chunks, count.kills, count.died_inside, count.stops, load(&plan->calls), load(&plan->next_id),
	       lane.ended_reported, lane.sum.taken, lane.sum.pool_full, lane.sum.stripes_busy, lane.sum.died, lane.late,
	       pieces);
	assert_int_equal(lane.ended_reported, said);
	assert_true(count.kills > 30 && pieces > 100 && lane.corrupt == 0);
	assert_true(chunks_astray(&v) <= count.died_inside);
	munmap(base, v.size);
	agent_kill();
}

static void test_kills_and_stops(void **state)
{
	(void)state;
	torture(1024, 1, 50);
}

static void test_kills_and_stops_under_overload(void **state)
{
	(void)state;
	torture(8, 100, 3000);
	assert_true(lane.sum.pool_full > lane.sum.taken);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_kills_and_stops),
		cmocka_unit_test(test_kills_and_stops_under_overload),
	};

	plan = mmap(NULL, sizeof(*plan), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	pattern_init();
	seed = seed_of(argc, argv);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
