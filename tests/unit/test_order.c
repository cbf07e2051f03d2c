/* SPDX-License-Identifier: Apache-2.0 */
/* test_order.c - tap.c, conn.c, family.c: causal order, losses, and where every byte is counted. */
#include "app.h"

static uint64_t seed;

/* --- order ----------------------------------------------------------------------------------------- */

static void test_one_connection(void **state)
{
	struct app a;

	(void)state;
	begin_family();
	a = opened(7, false);
	for (unsigned i = 0; i < 20; i++) {
		now(call(&a, DIR_TX, 100 + i, 0));
		now(call(&a, DIR_RX, 3000 + i, 0));
		turn();
	}
	turn();
	app_free(&a);
	turn();
	assert_true(lane.conns_n == 1 && forged(7) == 20 * 3100 + 2 * 190 && lane.by[EVIDENCE_SOCKET] == 1);
	pass(30);
	assert_int_equal(lane.conns_ended, 1);
	pass(3000);
	assert_int_equal(lane.conns_n, 0);
	end_family();
}

/* A record may be in any stripe, and be read one sweep before what came before it. */
static void test_any_order_over_stripes_and_sweeps(void **state)
{
	struct rnd g = {seed};

	(void)state;
	for (unsigned round = 0; round < 30; round++) {
		struct letter late[8];
		unsigned n = 0;
		struct app a;

		begin_family();
		a = app_new(5, round & 1);
		late[n++] = open_of(&a, 0);
		for (unsigned i = 0; i < 200; i++) {
			struct letter l = call(&a, (enum dir)rnd_below(&g, 2), rnd_size(&g, 30000), 0);

			if (n < 8 && rnd_below(&g, 3) == 0)
				late[n++] = l;
			else
				post(&l, rnd_below(&g, SHM_STRIPES));
			if (rnd_below(&g, 4) == 0) {
				turn();
				while (n) /* the next sweep has it at last */
					post(&late[--n], rnd_below(&g, SHM_STRIPES));
			}
		}
		while (n)
			post(&late[--n], rnd_below(&g, SHM_STRIPES));
		app_free(&a);
		turns(5);
		assert_int_equal(forged(5), load(&a.s->rep[0]) + load(&a.s->rep[1]));
		assert_true(lane.sum.pool_full == 0 && lane.late == 0);
		end_family();
	}
}

static void test_gap_is_judged_after_one_more_sweep(void **state)
{
	struct letter first, second;
	struct app a;

	(void)state;
	begin_family();
	a = opened(5, false);
	turns(2);
	first = call(&a, DIR_TX, 1000, 0);
	now(call(&a, DIR_TX, 500, 0));
	turn();
	assert_true(forged(5) == 0 && lane.sum.pool_full == 0 && lane.sum.held == 500);
	post(&first, 9);
	turn();
	assert_int_equal(forged(5), 1500);
	first = call(&a, DIR_TX, 1000, 0);
	second = call(&a, DIR_TX, 500, 0);
	post(&second, 3);
	turns(2);
	assert_int_equal(lane.sum.pool_full, 0);
	turns(3);
	assert_true(lane.sum.pool_full == 1000 && lane.sum.held == 0);
	post(&first, 3); /* from one that slept: too late, and never twice */
	turns(3);
	assert_true(lane.late == 1 && stream[5].end[0] >= 3000);
	end_family();
}

static uint64_t write_done_when_read; /* where TX was when the RX piece was forged */

static void note_order(const struct conn *c, enum side side, uint64_t off, size_t len)
{
	(void)off;
	(void)len;
	if (side == SIDE_SERVER)
		write_done_when_read = c->off[SIDE_CLIENT];
}

static void test_read_waits_for_the_write_in_flight(void **state)
{
	struct letter write, read;
	struct app a;

	(void)state;
	for (unsigned lost = 0; lost < 2; lost++) {
		begin_family();
		on_forge = note_order;
		a = opened(5, false);
		now(call(&a, DIR_TX, 10, 0));
		turns(2);
		/* the write is inside the library; the answer to it is read by another thread */
		read = call(&a, DIR_RX, 700, REC_F_IN_FLIGHT);
		store(&a.s->begin[DIR_TX], 2);
		read.r.begin = 2;
		post(&read, 1);
		turns(20); /* 4 ms */
		assert_int_equal(stream[5].bytes[SIDE_SERVER], 0);
		if (!lost) {
			write = call(&a, DIR_TX, 90, 0);
			write.r.other = 0; /* as it was when the write began */
			store(&a.s->begin[DIR_TX], 2);
			post(&write, 2);
			turns(3);
			assert_int_equal(write_done_when_read, 100);
		}
		pass(11);
		assert_int_equal(stream[5].bytes[SIDE_SERVER], 700);
		assert_int_equal(forged(5), lost ? 710 : 800);
		assert_int_equal(lane.sum.pool_full, 0);
		end_family();
	}
}

/* --- two taps, children, handles ------------------------------------------------------------------- */

static void test_two_taps_are_one_flow(void **state)
{
	struct rnd g = {seed};

	(void)state;
	for (unsigned round = 0; round < 20; round++) {
		struct app c, s;
		uint64_t all = 0, holes = 0;

		begin_family();
		c = opened(5, false);
		s = opened(5, true);
		for (unsigned i = 0; i < 100; i++) {
			bool up = rnd_below(&g, 2);
			size_t len = rnd_size(&g, 20000);
			struct letter w = call(up ? &c : &s, DIR_TX, len, 0), r = call(up ? &s : &c, DIR_RX, len, 0);
			/* one of the two ends: the other fills the hole. (If both lose at once, each may have what
			 * the other waits for behind what it waits for itself; that ends with TAP_BEHIND_NS.) */
			bool lose = rnd_below(&g, 5) == 0, client = round & 1;

			all += len;
			holes += lose ? len : 0;
			lose &&up == client ? never(&w) : post(&w, rnd_below(&g, 4));
			if (rnd_below(&g, 2))
				turns(rnd_below(&g, 3));
			lose &&up != client ? never(&r) : post(&r, rnd_below(&g, 4));
		}
		app_free(&c);
		app_free(&s);
		pass(250);
		turns(5);
		assert_int_equal(forged(5), all);
		assert_int_equal(lane.sum.pool_full, holes);
		assert_int_equal(lane.sum.duplicate, all - holes);
		assert_int_equal(lane.conns_total, 1);
		end_family();
	}
}

static void test_late_tap_finds_the_ended_connection(void **state)
{
	struct app c, s;

	(void)state;
	begin_family();
	c = opened(5, false);
	now(call(&c, DIR_TX, 1000, 0));
	now(call(&c, DIR_RX, 2000, 0));
	app_free(&c);
	turns(3);
	pass(100);
	assert_int_equal(lane.conns_ended, 1);
	s = opened(5, true);
	now(call(&s, DIR_RX, 1000, 0));
	now(call(&s, DIR_TX, 2000, 0));
	turns(3);
	assert_true(lane.sum.duplicate == 3000 && forged(5) == 3000 && lane.conns_n == 1);
	app_free(&s);
	pass(30);
	pass(3000);
	assert_int_equal(lane.conns_n, 0);
	end_family();
}

static void test_child_goes_on_where_its_parent_was(void **state)
{
	struct app a, child;

	(void)state;
	begin_family();
	a = opened(5, true);
	now(call(&a, DIR_RX, 300, 0));
	now(call(&a, DIR_TX, 400, 0));
	turn();
	child = a;
	child.producer = 2;
	child.s = shm_insert(&fam->r.v, 2, a.handle);
	assert_true(child.s && child.s != a.s);
	store(&child.s->random8, 5);
	for (unsigned d = 0; d < 2; d++)
		store(&child.s->start[d], load(&a.s->rep[d]) - load(&a.s->base[d]));
	now(open_of(&child, REC_OPEN_CHILD));
	now(call(&child, DIR_RX, 500, 0));
	now(call(&child, DIR_TX, 600, 0));
	app_free(&a); /* the parent's: the flow goes on */
	turns(3);
	pass(100);
	assert_true(lane.conns_n == 1 && lane.conns_ended == 0);
	now(call(&child, DIR_TX, 100, 0));
	turns(2);
	assert_true(forged(5) == 1900 && lane.sum.duplicate == 0 && lane.conns_total == 1);
	assert_true(stream[5].end[SIDE_CLIENT] == 800 && stream[5].end[SIDE_SERVER] == 1100);
	app_free(&child);
	pass(30);
	assert_int_equal(lane.conns_ended, 1);
	end_family();
}

static void test_handle_lives_on_after_its_free(void **state)
{
	struct app a;

	(void)state;
	begin_family();
	for (unsigned n = 0; n < 3; n++) {
		a = app_new(5, false); /* the same slot or another one, offsets from 0 */
		if (n)
			for (unsigned d = 0; d < 2; d++) /* the bytes go on, whatever the slot says */
				a.base[d] = stream[5].end[side_of(&a, (enum dir)d)];
		now(open_of(&a, 0));
		for (unsigned i = 0; i < 3; i++) {
			struct letter l = call(&a, DIR_TX, 1000, 0);

			memcpy(l.data, pattern(5, SIDE_CLIENT, n * 3000 + i * 1000), 1000);
			now(l);
		}
		app_free(&a);
		turns(3);
		pass(n ? 100 : 5); /* before and after the FIN was forged */
	}
	assert_true(forged(5) == 9000 && lane.sum.duplicate == 0 && lane.conns_total == 1);
	end_family();
}

static void test_renegotiation_goes_on(void **state)
{
	struct app a;

	(void)state;
	begin_family();
	a = opened(5, false);
	now(call(&a, DIR_TX, 1000, 0));
	now(call(&a, DIR_RX, 1000, 0));
	turns(2);
	/* libtlstap saw another random: a new use of the slot on the same socket */
	for (unsigned d = 0; d < 2; d++)
		store(&a.s->base[d], load(&a.s->rep[d]));
	store(&a.s->gen, 2);
	{
		struct letter o = open_of(&a, 0);
		uint64_t other_random = 6;
		uint16_t port = (uint16_t)(1024 + 5);

		memcpy(o.data + offsetof(struct rec_open, client_random), &other_random, 8);
		memcpy(o.data + offsetof(struct rec_open, local_port), &port, 2);
		now(o);
	}
	for (unsigned i = 0; i < 2; i++) {
		struct letter l = call(&a, (enum dir)i, 500, 0);

		memcpy(l.data, pattern(5, side_of(&a, (enum dir)i), 1000), 500);
		now(l);
	}
	turns(3);
	assert_true(forged(5) == 3000 && lane.conns_total == 1);
	end_family();
}

static void test_slot_is_used_again(void **state)
{
	struct letter late, next;
	struct app a;

	(void)state;
	begin_family();
	for (uint64_t id = 10; id < 20; id++) {
		a = opened(id, false);
		now(call(&a, DIR_TX, 1000, 0));
		now(call(&a, DIR_RX, 5000, 0));
		app_free(&a);
		if (id % 3 == 0)
			turn();
	}
	turns(3);
	for (uint64_t id = 10; id < 20; id++)
		assert_int_equal(forged(id), 6000);
	/* what comes from an earlier use does not end the present one */
	a = opened(20, false);
	late = call(&a, DIR_TX, 100, 0);
	store(&a.s->rep[DIR_TX], late.r.off);
	now(call(&a, DIR_TX, 100, 0));
	turns(2);
	late.r.gen--;
	late.r.off += 100;
	next = call(&a, DIR_TX, 100, 0); /* so much has been reported */
	post(&late, 7);
	turns(5);
	now(next);
	turns(3);
	assert_true(lane.late == 1 && forged(20) == 200);
	end_family();
}

/* --- early data, holes ----------------------------------------------------------------------------- */

static void test_early_data_wait_for_their_verdict(void **state)
{
	(void)state;
	for (unsigned how = 0; how < 5; how++) { /* accepted; rejected; none; verdict seen before OPEN; end unseen */
		struct letter early, again, o, v;
		struct app a;

		begin_family();
		a = app_new(5, false);
		o = open_of(&a, 0);
		if (how != 3)
			post(&o, 1);
		early = call(&a, DIR_TX, 1000, REC_F_EARLY);
		if (how != 3) {
			post(&early, 1);
			turns(4);
		}
		assert_true(forged(5) == 0);
		if (how != 2) {
			v = verdict_of(&a, how == 1);
			post(&v, 2);
		}
		turn();
		if (how ==
		    3) { /* a sweep may read the stripe of OPEN just before, and that of the verdict just after */
			post(&o, 1);
			post(&early, 1);
		}
		again = call(&a, DIR_TX, 1000, 0); /* the same bytes when rejected, else the next ones */
		memcpy(again.data, pattern(5, SIDE_CLIENT, how == 1 || how == 2 ? 0 : 1000), 1000);
		if (how != 2)
			post(&again, 1);
		turns(4);
		if (how == 2) {
			assert_int_equal(forged(5), 0);
			post(&again, 1);
			if (lane.sum.held)
				app_free(&a);
			turns(4);
		}
		assert_int_equal(forged(5), how == 1 || how == 2 ? 1000 : 2000);
		assert_int_equal(lane.sum.early_rejected, how == 1 || how == 2 ? 1000 : 0);
		assert_true(lane.sum.pool_full == 0);
		end_family();
	}
}

static void test_sendfile_is_a_hole(void **state)
{
	struct letter hole;
	struct app a;

	(void)state;
	begin_family();
	a = opened(5, true);
	now(call(&a, DIR_RX, 100, 0));
	now(call(&a, DIR_TX, 200, 0));
	hole = call(&a, DIR_TX, 60000, 0);
	hole.r.type = REC_HOLE;
	now(hole);
	now(call(&a, DIR_TX, 300, 0));
	now(call(&a, DIR_RX, 50, 0));
	turns(4);
	assert_true(lane.sum.sendfile == 60000 && lane.sum.pool_full == 0);
	assert_true(forged(5) == 650 && stream[5].end[SIDE_SERVER] == 60500);
	end_family();
}

/* --- losses ---------------------------------------------------------------------------------------- */

static void destroy(const struct app *a)
{
	const struct tap *t = fam->taps[a->s - fam->r.v.slot];

	conn_destroyed(&lane, &t->e, 0);
}

static void test_close_is_lost(void **state)
{
	struct letter tail;
	struct app a;

	(void)state;
	for (unsigned how = 0; how < 2; how++) {
		begin_family();
		a = opened(5, false);
		now(call(&a, DIR_TX, 1000, 0));
		turns(2);
		tail = call(&a, DIR_TX, 500, 0); /* it and the CLOSE find no room */
		never(&tail);
		atomic_fetch_add(&fam->r.v.h->lost_full, 500);
		if (how) { /* settled while the connection still lives */
			turns(300);
			assert_int_equal(lane.sum.pool_full, 500);
		}
		shm_remove(&fam->r.v, 1, a.handle);
		destroy(&a);
		turns(300);
		assert_int_equal(lane.sum.pool_full, 500);
		pass(30);
		assert_int_equal(lane.conns_ended, 1);
		end_family();
	}
}

static void test_open_is_lost_and_said_again(void **state)
{
	struct letter l;
	struct app a;

	(void)state;
	begin_family();
	a = app_new(5, false);
	for (unsigned i = 0; i < 5; i++) { /* no OPEN, so no data either */
		l = call(&a, DIR_TX, 100, 0);
		never(&l);
		atomic_fetch_add(&fam->r.v.h->lost_full, 100);
		turns(2);
	}
	now(open_of(&a, 0));
	now(call(&a, DIR_TX, 1000, 0));
	turns(5);
	assert_true(lane.sum.pool_full == 500 && forged(5) == 1000 && stream[5].end[SIDE_CLIENT] == 1500);
	end_family();
}

static void test_reasons_of_losses(void **state)
{
	struct letter l;
	struct app a;

	(void)state;
	begin_family();
	a = opened(5, false);
	turns(2);
	l = call(&a, DIR_TX, 700, 0);
	never(&l);
	atomic_fetch_add(&fam->r.v.h->lost_busy, 700);
	l = call(&a, DIR_TX, 300, 0);
	never(&l);
	atomic_fetch_add(&fam->r.v.h->lost_full, 300);
	now(call(&a, DIR_TX, 10, 0));
	turns(5);
	assert_true(lane.sum.stripes_busy == 700 && lane.sum.pool_full == 300 && lane.sum.died == 0);
	end_family();
}

static void test_process_dies(void **state)
{
	uint16_t producer, child;
	struct member *m;
	struct letter l;
	struct app a, b;

	(void)state;
	begin_family();
	m = a_process(PID, &producer);
	(void)a_process(PID + 1, &child);
	a = opened(5, false);
	b = app_new(6, false);
	store(&b.s->producer, 2); /* the child's */
	now(open_of(&b, 0));
	now(call(&a, DIR_TX, 1000, 0));
	now(call(&b, DIR_TX, 1000, 0));
	turns(2);
	l = call(&a, DIR_TX, 400, 0); /* counted, and then it was killed */
	never(&l);
	l = call(&b, DIR_TX, 400, 0); /* the child lives: its record will come */
	store(&fam->r.v.stripe[11].lock, producer);
	m->dead_sweep = fam->sweep + 2;
	turns(6);
	assert_true(lane.sum.died == 400 && lane.sum.pool_full == 0);
	assert_int_equal(load(&fam->r.v.stripe[11].lock), 0);
	post(&l, 4);
	turns(3);
	assert_int_equal(forged(6), 1400);
	pass(30);
	assert_int_equal(lane.conns_ended, 1);
	/* the child goes too: nobody maps the memory any more */
	fam->member[0]->dead_sweep = fam->sweep + 2;
	for (unsigned i = 0; i < 20 && lane.families; i++)
		pass(100);
	assert_true(!lane.families);
	end_family();
}

static void test_refused_bytes_are_counted_by_reason(void **state)
{
	static char nowhere[] = "nowhere";
	static const struct {
		enum helper_result is;
		uint16_t flags;
		char *on;
		size_t at;
	} why[] = {
		{HELPER_R_OTHER_NETNS, 0, on_any, offsetof(struct account, unverified)},
		{HELPER_R_FOREIGN, 0, on_any, offsetof(struct account, unverified)},
		{HELPER_R_GONE, 0, on_any, offsetof(struct account, unverified)},
		{HELPER_R_LIVE, REC_OPEN_NOT_TCP, on_any, offsetof(struct account, not_tcp)},
		{HELPER_R_LIVE, 0, nowhere, offsetof(struct account, denied)},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(why) / sizeof(why[0]); i++) {
		struct app a;

		begin_family();
		verdict_is = why[i].is;
		conf.interface = why[i].on;
		a = app_new(5, false);
		now(open_of(&a, why[i].flags));
		now(call(&a, DIR_TX, 1000, 0));
		for (unsigned k = 0; k < 5; k++)
			pass(300);
		now(call(&a, DIR_RX, 500, 0));
		app_free(&a);
		turns(4);
		assert_int_equal(*(uint64_t *)((uint8_t *)&lane.sum + why[i].at), 1500);
		assert_int_equal(forged(5), 0);
		end_family();
		conf.interface = on_any;
	}
	/* nobody answers: held for a while, then lost as unpaired */
	{
		struct app a;

		begin_family();
		helper_is_slow = true;
		a = opened(5, false);
		now(call(&a, DIR_TX, 1000, 0));
		pass(5000);
		assert_int_equal(lane.sum.held, 1000);
		pass(6000);
		assert_true(lane.sum.held == 0 && lane.sum.unpaired == 1000);
		end_family();
	}
}

/* --- time ------------------------------------------------------------------------------------------- */

static void test_echo_is_in_time_in_every_exchange(void **state)
{
	struct app a;

	(void)state;
	begin_family();
	a = opened(5, false);
	for (unsigned i = 0; i < 4; i++) {
		struct conn *c;

		now(call(&a, DIR_TX, 100, 0));
		turns(2);
		now(call(&a, DIR_RX, 200, 0));
		turns(2);
		c = fam->taps[a.s - fam->r.v.slot]->conn;
		assert_true(c && c->flow.due_ns <= agent_now + lane.flow.echo_ns);
		assert_true(ev_timer_remaining(loop, &c->timer) < 0.01);
		pass(2000);
		assert_true(c->flow.due_ns > agent_now + lane.flow.echo_ns);
	}
	end_family();
}

/* --- bounds ---------------------------------------------------------------------------------------- */

static void test_no_credit_loses_nothing(void **state)
{
	struct rnd g = {seed};
	uint64_t all = 0;
	struct app a;

	(void)state;
	begin_family();
	a = opened(5, false);
	for (unsigned i = 0; i < 300; i++) {
		enum dir d = (enum dir)rnd_below(&g, 2);
		size_t len = rnd_size(&g, 30000);
		struct letter l = call(&a, d, len, 0);

		all += len;
		post(&l, rnd_below(&g, 8));
		if (i % 3 == 0) {
			sink_batches = (int)rnd_below(&g, 2);
			turn();
		}
	}
	sink_batches = 0;
	turns(20);
	assert_true(forged(5) < all);
	while (forged(5) < all) { /* one batch at a time */
		sink_batches = 1;
		turn();
	}
	sink_batches = -1;
	turns(3);
	assert_true(forged(5) == all && lane.sum.pool_full == 0 && lane.late == 0);
	end_family();
}

static uint64_t most_held;

static void test_memory_is_bounded(void **state)
{
	(void)state;
	for (unsigned how = 0; how < 3; how++) { /* no answer; no verdict; a hole that the other end may fill */
		struct app a, s;

		begin_family();
		most_held = 0;
		helper_is_slow = how == 0;
		a = opened(5, false);
		if (how == 2) {
			struct letter l;

			s = opened(5, true);
			turns(3);
			l = call(&a, DIR_TX, 100, 0);
			never(&l);
			(void)s;
		}
		if (how == 1)
			now(call(&a, DIR_TX, 1000, REC_F_EARLY));
		for (unsigned i = 0; i < 1000; i++) {
			struct letter l = call(&a, DIR_TX, 60000, 0);

			if (how == 1) /* the early data will not count */
				memcpy(l.data, pattern(5, SIDE_CLIENT, i * 60000), 60000);
			now(l);
			if (i % 100 == 99) {
				agent_now -= 199000; /* all this within the blink of an eye */
				turn();
			}
			most_held = lane.sum.held > most_held ? lane.sum.held : most_held;
		}
		assert_true(most_held > 0 && most_held <= TAP_HELD_MAX + 200 * 60000);
		helper_is_slow = false;
		app_free(&a);
		pass(12000);
		turns(3);
		end_family();
	}
}

static void test_small_records_cost_memory_too(void **state)
{
	struct app a[3];
	uint64_t most = 0;

	(void)state;
	begin_family();
	helper_is_slow = true;
	a[0] = opened(5, false);
	for (unsigned i = 0; i < 250000; i++) {
		now(call(&a[0], DIR_TX, 1, 0));
		if (i % 50000 == 49999)
			turns(20);
		most = lane.held_mem > most ? lane.held_mem : most;
	}
	assert_true(most > TAP_HELD_MAX / 2 && most <= TAP_HELD_MAX + (1u << 20));
	end_family();

	begin_family(); /* what no tap's limit stops is stopped by the family's */
	helper_is_slow = true;
	most = 0;
	for (unsigned i = 0; i < 3; i++)
		a[i] = opened(5 + i, false);
	for (unsigned i = 0; i < 600; i++) {
		now(call(&a[i % 3], DIR_TX, 60000, 0));
		if (i % 100 == 99)
			turns(2);
		most = lane.held_mem > most ? lane.held_mem : most;
	}
	assert_true(most > FAMILY_HELD_MAX / 2 && most <= FAMILY_HELD_MAX + (1u << 20));
	assert_true(lane.sum.no_room > 0);
	pass(12000);
	assert_int_equal(lane.held_mem, 0);
	end_family();
}

static void test_one_end_has_few_taps(void **state)
{
	(void)state;
	begin_family();
	for (unsigned i = 0; i < CONN_END_TAPS_MAX + 4; i++) {
		struct app a = app_new(5 + i * 60000, false);

		a.id = 5; /* the same connection, another handle */
		now(open_of(&a, 0));
	}
	pass(100);
	assert_true(lane.conns_n == 1 && lane.conns_refused == 4);
	end_family();
}

/* The same addresses and ports, another random: two flows that look the same would destroy each other. */
static void test_two_connections_are_not_shown_as_one(void **state)
{
	struct app a, b;

	(void)state;
	begin_family();
	a = opened(5, false);
	now(call(&a, DIR_TX, 100, 0));
	turns(3);
	b = opened(5 + 60000, false);
	now(call(&b, DIR_TX, 700, 0));
	pass(100);
	assert_true(lane.conns_n == 1 && lane.sum.collision == 700 && forged(5) == 100);
	app_free(&b);
	app_free(&a);
	turns(3);
	assert_int_equal(lane.conns_ended, 0); /* it lingers, for a handle may live on: its successor does not wait */
	b = opened(5 + 60000, false);
	now(call(&b, DIR_TX, 900, 0));
	turns(3);
	assert_true(lane.conns_ended == 1 && lane.conns_n == 2 && lane.sum.forged == 1000);
	app_free(&b);
	end_family();
}

/* A child goes on with a handle that its parent frees at once: nothing tells it where the parent was, but the parent's CLOSE,
 * which may be read later. The other end, tapped or not, changes nothing. */
static void test_a_handle_that_is_handed_over(void **state)
{
	(void)state;
	for (unsigned both = 0; both < 2; both++) {
		struct app a, b, s;
		struct letter end;

		begin_family();
		a = opened(5, false);
		if (both)
			s = opened(5, true);
		now(call(&a, DIR_TX, 1000, 0));
		now(call(&a, DIR_RX, 2000, 0));
		end = closing(&a, REC_F_FREE);
		b = app_new(60005, false);
		b.id = 5;
		now(open_of(&b, REC_OPEN_MIDWAY));
		store(&b.s->start[DIR_TX], 1000); /* for the pattern: it does not know */
		store(&b.s->start[DIR_RX], 2000);
		now(call(&b, DIR_TX, 300, 0));
		now(call(&b, DIR_RX, 400, 0));
		pass(100);
		assert_int_equal(forged(5), 3000);
		post(&end, 3);
		pass(200);
		assert_true(forged(5) == 3700 && lane.sum.duplicate == 0);
		app_free(&b);
		if (both)
			app_free(&s);
		end_family();
	}
}

/* What was said before is not known, and the other end counts from the beginning: they cannot be one. */
static void test_joined_in_mid_life(void **state)
{
	struct app a, s;

	(void)state;
	begin_family();
	s = opened(5, true);
	turns(3);
	now(call(&s, DIR_RX, 1000, 0));
	a = app_new(5, false);
	now(open_of(&a, REC_OPEN_MIDWAY));
	now(call(&a, DIR_TX, 700, 0));
	for (unsigned i = 0; i < 4; i++)
		pass(500);
	assert_true(forged(5) == 1000 && lane.sum.duplicate == 700);
	app_free(&a);
	app_free(&s);
	end_family();
}

/* Offsets that the slot never reported, or near the end of all numbers, would be believed in every sum. */
static void test_offsets_beyond_what_was_reported(void **state)
{
	(void)state;
	for (unsigned how = 0; how < 8; how++) {
		struct letter l;
		struct app a;

		begin_family();
		a = opened(5, false);
		now(call(&a, DIR_TX, 1000, 0));
		turns(2);
		l = how < 5 ? call(&a, DIR_TX, 100, 0) : how < 7 ? closing(&a, REC_F_FREE) : open_of(&a, 0);
		if (how < 2)
			l.r.off = how ? (uint64_t)-10 : 1ull << 47;
		else if (how < 4)
			l.r.other = how & 1 ? (uint64_t)-1 : 1;
		else if (how == 4)
			l.r.off++;
		else if (how < 7)
			*(how == 5 ? &l.r.off : &l.r.other) += 1ull << 40;
		else
			((struct rec_open *)(void *)l.data)->base[DIR_RX] = 1;
		post(&l, 3);
		turns(5);
		assert_int_equal(lane.corrupt, 1);
		assert_true(lane.sum.taken == 1000 && lane.sum.forged == 1000 && lane.sum.pool_full == 0);
		end_family();
	}
}

static void test_nonsense_is_not_read_any_more(void **state)
{
	struct letter l;
	struct app a;

	(void)state;
	begin_family();
	a = opened(5, false);
	now(call(&a, DIR_TX, 1000, 0));
	turns(2);
	l = call(&a, DIR_TX, 1000, 0);
	never(&l);
	now(call(&a, DIR_TX, 1000, 0)); /* waits for the one before */
	turn();
	store(&fam->r.v.chunk[load(&fam->r.v.stripe[0].cur) - 1].tail, SHM_CHUNK);
	turns(3);
	assert_true(lane.corrupt == 1 && load(&fam->r.v.h->off) == 1);
	assert_int_equal(lane.sum.held, 0);
	end_family();
}

/* --- restart --------------------------------------------------------------------------------------- */

static void test_successor_counts_what_its_predecessor_took(void **state)
{
	struct helper_event e = {.p = {.pid = getppid()}};
	struct rnd g = {seed};
	uint64_t predecessor = 0;

	(void)state;
	for (unsigned round = 0; round < 30; round++) {
		uint64_t all, first, before[2];
		struct helper_id file;
		struct letter gap;
		struct app a;
		int fd;

		begin_family();
		a = opened(5, round & 1);
		for (unsigned i = 0; i < 50; i++) {
			struct letter l = call(&a, (enum dir)rnd_below(&g, 2), rnd_size(&g, 9000), 0);

			post(&l, rnd_below(&g, 5));
			if (rnd_below(&g, 5) == 0)
				turn();
		}
		turns(2);
		gap = call(&a, DIR_TX, 50, 0); /* so that something has been taken and is held when it dies */
		for (unsigned i = 0; i < rnd_below(&g, 5); i++)
			now(call(&a, DIR_TX, 1000, 0));
		turn();
		for (unsigned i = 0; i < rnd_below(&g, 5); i++)
			now(call(&a, DIR_TX, 1000, 0));
		first = lane.sum.forged_in;
		fd = dup(fam->r.fd);
		file = fam->file;
		for (unsigned d = 0; d < 2; d++)
			before[d] = stream[5].end[d];
		agent_kill();
		agent_start();
		for (unsigned d = 0; d < 2; d++)
			stream[5].end[d] = before[d]; /* nothing twice */
		assert_int_equal(family_adopt(&lane, fd, &file, &e), 0);
		fam = lane.families;
		a.f = gap.f = fam;
		a.s = &fam->r.v.slot[gap.r.slot];
		if (round % 3 == 0)
			post(&gap, 2);
		else
			never(&gap);
		now(call(&a, DIR_TX, 3000, 0));
		now(call(&a, DIR_RX, 3000, 0));
		turns(6);
		all = load(&a.s->rep[0]) + load(&a.s->rep[1]);
		assert_int_equal(first + lane.sum.forged_in + lane.sum.pool_full + lane.sum.predecessor, all);
		assert_int_equal(family_reported(fam), all - first);
		assert_true(lane.sum.pool_full <= 50);
		predecessor += lane.sum.predecessor;
		assert_true(forged(5) >= 6000);
		end_family();
	}
	assert_true(predecessor > 0);
}

/* What the closed end's tap had forged, the other end's is not to forge again. */
static void test_successor_knows_what_the_other_end_showed(void **state)
{
	struct helper_event e = {.p = {.pid = getppid()}};
	struct helper_id file;
	struct app a, s;
	uint32_t slot;
	int fd;

	(void)state;
	begin_family();
	a = opened(5, false);
	s = opened(5, true);
	turns(3);
	now(call(&a, DIR_TX, 1000, 0));
	turns(3);
	app_free(&a);
	turns(5);
	assert_int_equal(forged(5), 1000);
	fd = dup(fam->r.fd);
	file = fam->file;
	slot = (uint32_t)(s.s - fam->r.v.slot);
	agent_kill();
	agent_start();
	stream[5].end[SIDE_CLIENT] = 1000;
	assert_int_equal(family_adopt(&lane, fd, &file, &e), 0);
	fam = s.f = lane.families;
	s.s = &fam->r.v.slot[slot];
	turns(3);
	now(call(&s, DIR_RX, 1500, 0));
	turns(3);
	assert_true(lane.sum.duplicate == 1000 && lane.sum.forged_in == 500);
	end_family();
}

/* --- everything at once ---------------------------------------------------------------------------- */

#define APPS 24
#define LATE 64

/* Programs open, talk, fork off, lose, close; agentd has credit or not; what must come out is known. */
static void test_random_operations(void **state)
{
	struct rnd g = {seed};
	struct letter late[LATE];
	unsigned late_n = 0;
	uint64_t lost = 0, data = 0, next_id = 100, first_of_lost = 0;
	struct {
		struct app a;
		bool live;
	} app[APPS] = {0};

	(void)state;
	begin_family();
	for (unsigned step = 0; step < 60000; step++) {
		unsigned i = rnd_below(&g, APPS), what = rnd_below(&g, 100);
		struct app *a = &app[i].a;
		struct letter l;

		if (!app[i].live) {
			*a = app_new(next_id++, rnd_below(&g, 2));
			app[i].live = true;
			l = open_of(a, 0);
		} else if (what < 85) {
			size_t len = rnd_size(&g, 8000);

			l = call(a, (enum dir)rnd_below(&g, 2), len, 0);
			if (what < 5 || (first_of_lost && what < 20)) {
				never(&l);
				lost += len;
				atomic_fetch_add(&fam->r.v.h->lost_full, len);
				first_of_lost = rnd_below(&g, 8);
				continue;
			}
			data += len;
		} else if (what < 88) {
			l = closing(a, REC_F_FREE);
			shm_remove(&fam->r.v, 1, a->handle);
			app[i].live = false;
			if (what == 85) { /* it finds no room */
				never(&l);
				continue;
			}
		} else {
			if (what == 88)
				sink_batches = rnd_below(&g, 2) ? (int)rnd_below(&g, 2) : -1;
			if (what < 92) {
				turn();
				while (late_n)
					post(&late[--late_n], rnd_below(&g, SHM_STRIPES));
			}
			if (what == 99 && rnd_below(&g, 10) == 0) {
				sink_batches = -1;
				while (late_n)
					post(&late[--late_n], rnd_below(&g, SHM_STRIPES));
				pass(rnd_below(&g, 100));
			}
			continue;
		}
		if (late_n < LATE && rnd_below(&g, 4) == 0 && sink_batches < 0)
			late[late_n++] = l;
		else
			post(&l, rnd_below(&g, SHM_STRIPES));
		if (atomic_load(&fam->r.v.h->used) && step % 64 == 0) {
			turn();
			while (late_n)
				post(&late[--late_n], rnd_below(&g, SHM_STRIPES));
		}
	}
	sink_batches = -1;
	while (late_n)
		post(&late[--late_n], rnd_below(&g, SHM_STRIPES));
	for (unsigned i = 0; i < APPS; i++)
		if (app[i].live)
			app_free(&app[i].a);
	turns(300);
	balanced(true);
	printf("%" PRIu64 " bytes of data, %" PRIu64 " lost, %" PRIu64 " connections, %" PRIu64 " late\n", data, lost,
	       next_id - 100, lane.late);
	assert_int_equal(lane.sum.forged_in, data);
	assert_int_equal(lane.sum.pool_full, lost);
	assert_true(lane.late == 0 && lane.sum.unpaired == 0 && lane.sum.died == 0 && lane.sum.duplicate == 0);
	end_family();
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_one_connection),
		cmocka_unit_test(test_any_order_over_stripes_and_sweeps),
		cmocka_unit_test(test_gap_is_judged_after_one_more_sweep),
		cmocka_unit_test(test_read_waits_for_the_write_in_flight),
		cmocka_unit_test(test_two_taps_are_one_flow),
		cmocka_unit_test(test_late_tap_finds_the_ended_connection),
		cmocka_unit_test(test_child_goes_on_where_its_parent_was),
		cmocka_unit_test(test_handle_lives_on_after_its_free),
		cmocka_unit_test(test_renegotiation_goes_on),
		cmocka_unit_test(test_slot_is_used_again),
		cmocka_unit_test(test_early_data_wait_for_their_verdict),
		cmocka_unit_test(test_sendfile_is_a_hole),
		cmocka_unit_test(test_close_is_lost),
		cmocka_unit_test(test_open_is_lost_and_said_again),
		cmocka_unit_test(test_reasons_of_losses),
		cmocka_unit_test(test_process_dies),
		cmocka_unit_test(test_refused_bytes_are_counted_by_reason),
		cmocka_unit_test(test_echo_is_in_time_in_every_exchange),
		cmocka_unit_test(test_no_credit_loses_nothing),
		cmocka_unit_test(test_memory_is_bounded),
		cmocka_unit_test(test_small_records_cost_memory_too),
		cmocka_unit_test(test_one_end_has_few_taps),
		cmocka_unit_test(test_two_connections_are_not_shown_as_one),
		cmocka_unit_test(test_a_handle_that_is_handed_over),
		cmocka_unit_test(test_joined_in_mid_life),
		cmocka_unit_test(test_offsets_beyond_what_was_reported),
		cmocka_unit_test(test_nonsense_is_not_read_any_more),
		cmocka_unit_test(test_successor_counts_what_its_predecessor_took),
		cmocka_unit_test(test_successor_knows_what_the_other_end_showed),
		cmocka_unit_test(test_random_operations),
	};

	pattern_init();
	seed = seed_of(argc, argv);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
