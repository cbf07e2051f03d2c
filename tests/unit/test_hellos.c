/* SPDX-License-Identifier: Apache-2.0 */
/* test_hellos.c - the pairing table: what it remembers, how long, what makes room, and what it takes from a file. */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "agentd/hellos.h"

#define S 1000000000ull
#define NS 4026531840u
#define ENTRIES 64

static struct hellos *h;
static struct hellos_seen got[2 * HELLOS_TUPLES];
static char dir[64], path[80], err[HELLOS_ERR];
static uint64_t now;

static void open_table(const char *file, size_t entries)
{
	assert_int_equal(hellos_open(&h, file, entries, err), 0);
}

static int set_up(void **state)
{
	(void)state;
	(void)unlink(path);
	now = 1000;
	open_table(NULL, ENTRIES);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	hellos_close(&h);
	assert_null(h);
	return 0;
}

static int make_dir(void **state)
{
	(void)state;
	snprintf(dir, sizeof(dir), "/tmp/test-hellos.XXXXXX");
	assert_non_null(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/hellos", dir);
	return 0;
}

static int remove_dir(void **state)
{
	(void)state;
	(void)unlink(path);
	return rmdir(dir);
}

static struct hello make(bool server, unsigned random, unsigned tuple)
{
	struct hello r = {.server = server, .random_len = 32, .t = {.ver = 4, .port = {0, 443}}};

	r.t.port[SIDE_CLIENT] = (uint16_t)(tuple & 0xffff);
	r.t.addr[SIDE_CLIENT][0] = 10;
	r.t.addr[SIDE_CLIENT][1] = (uint8_t)(tuple >> 16);
	r.t.addr[SIDE_SERVER][0] = 192;
	for (size_t i = 0; i < 32; i++)
		r.random[i] = (uint8_t)(random >> i % 4 * 8) ^ (uint8_t)(i * 17);
	return r;
}

static struct hellos_seen *add(bool server, unsigned random, unsigned tuple)
{
	struct hello e = make(server, random, tuple);

	return hellos_add(h, &e, NS, 2, ++now);
}

static struct hellos_seen *add_piece(unsigned random, unsigned tuple, unsigned len)
{
	struct hello e = make(false, random, tuple);

	e.random_len = (uint8_t)len;
	memset(e.random + len, 0, sizeof(e.random) - len);
	return hellos_add(h, &e, NS, 2, ++now);
}

static void end(unsigned tuple)
{
	struct hello e = make(false, 0, tuple);

	hellos_end(h, &e.t, NS, ++now);
}

static size_t find(bool server, unsigned random)
{
	struct hello e = make(server, random, 0);

	return hellos_find(h, server ? NULL : e.random, server ? e.random : NULL, got);
}

static struct hellos_count count(void)
{
	struct hellos_count c;

	hellos_count(h, &c);
	return c;
}

/* One tuple, this one. */
static void found(bool server, unsigned random, unsigned tuple)
{
	struct hello e = make(server, random, tuple);

	assert_int_equal(find(server, random), 1);
	assert_memory_equal(&got[0].t, &e.t, sizeof(e.t));
}

static void test_both_randoms_lead_to_the_tuple(void **state)
{
	struct hello c = make(false, 1, 100), s = make(true, 2, 100);
	struct hellos_seen *seen;

	(void)state;
	seen = add(false, 1, 100);
	assert_true(seen->netns == NS && seen->ifindex == 2 && !seen->ended && seen->first_ns == now);
	assert_true(seen->owner[0] == HELLOS_UNKNOWN && seen->owner[1] == HELLOS_UNKNOWN);
	seen->owner[SIDE_CLIENT] = HELLOS_LOCAL;
	seen->uid[SIDE_CLIENT] = 33;
	assert_non_null(add(true, 2, 100));
	found(false, 1, 100);
	assert_true(got[0].owner[SIDE_CLIENT] == HELLOS_LOCAL && got[0].uid[SIDE_CLIENT] == 33);
	found(true, 2, 100);
	assert_int_equal(find(true, 1), 0); /* a client's is no server's */
	assert_int_equal(find(false, 2), 0);
	assert_int_equal(hellos_find(h, c.random, s.random, got), 1); /* once */
	assert_true(got[0].owner[SIDE_CLIENT] == HELLOS_LOCAL);
	assert_int_equal(hellos_find(h, NULL, NULL, got), 0);
	assert_true(count().added == 2 && count().used == 2 && count().refreshed == 0);
}

static void test_first_seen_is_first(void **state)
{
	struct hello c = make(false, 1, 0), s = make(true, 2, 0);

	(void)state;
	(void)add(true, 2, 200);
	(void)add(false, 1, 100);
	(void)add(false, 1, 101);
	(void)add(true, 2, 100);
	(void)add(false, 1, 100); /* again */
	assert_int_equal(hellos_find(h, c.random, s.random, got), 3);
	assert_true(got[0].t.port[0] == 100 && got[1].t.port[0] == 101 && got[2].t.port[0] == 200);
	assert_true(got[0].first_ns < got[1].first_ns && got[0].last_ns == now);
	assert_int_equal(count().refreshed, 1);
}

static void test_namespaces_are_told_apart(void **state)
{
	struct hello e = make(false, 1, 100);

	(void)state;
	assert_non_null(hellos_add(h, &e, 1, 2, ++now));
	assert_non_null(hellos_add(h, &e, 2, 3, ++now));
	assert_int_equal(find(false, 1), 2);
	hellos_end(h, &e.t, 1, ++now);
	assert_int_equal(find(false, 1), 2);
	assert_true(got[0].netns == 1 && got[0].ended && got[1].netns == 2 && !got[1].ended);
}

static void test_fifth_tuple_is_crowded(void **state)
{
	(void)state;
	for (unsigned t = 100; t < 100 + HELLOS_TUPLES; t++)
		assert_non_null(add(false, 1, t));
	assert_null(add(false, 1, 200));
	assert_int_equal(count().crowded, 1);
	assert_non_null(add(false, 1, 101));
	assert_int_equal(find(false, 1), HELLOS_TUPLES);
	for (unsigned i = 0; i < HELLOS_TUPLES; i++)
		assert_int_equal(got[i].t.port[0], 100 + i); /* the first ones stay */
}

static void test_retry_is_no_entry(void **state)
{
	struct hello e = make(true, 1, 100);

	(void)state;
	e.retry = true;
	assert_null(hellos_add(h, &e, NS, 2, ++now));
	assert_int_equal(count().used, 0);
	assert_non_null(add(false, 2, 100)); /* the second ClientHello of a retry has the same random */
	assert_non_null(add(false, 2, 100));
	assert_true(count().used == 1 && count().refreshed == 1);
}

static void test_ended_is_found_for_a_while(void **state)
{
	(void)state;
	(void)add(false, 1, 100);
	(void)add(true, 2, 100);
	(void)add(false, 3, 101);
	end(100);
	found(false, 1, 100);
	assert_true(got[0].ended && got[0].last_ns == now);
	now += HELLOS_GRACE_NS - 2;
	(void)add(false, 3, 101);
	assert_int_equal(find(true, 2), 1);
	(void)add(false, 3, 101);
	assert_int_equal(find(true, 2), 0);
	assert_int_equal(find(false, 1), 0);
	assert_int_equal(count().used, 1);
	now += 1000 * HELLOS_GRACE_NS; /* an idle connection */
	(void)add(false, 4, 102);
	found(false, 3, 101);
	assert_int_equal(count().evicted, 0);
}

static void test_entry_lives_as_long_as_one_of_its_tuples(void **state)
{
	(void)state;
	(void)add(false, 1, 100);
	(void)add(false, 1, 101);
	end(100);
	now += HELLOS_GRACE_NS;
	(void)add(false, 2, 102);
	found(false, 1, 101);
	end(101);
	now += HELLOS_GRACE_NS;
	(void)add(false, 2, 102);
	assert_int_equal(find(false, 1), 0);
}

static void test_used_again(void **state)
{
	struct hellos_seen *s;
	uint64_t first;

	(void)state;
	s = add(false, 1, 100);
	first = s->first_ns;
	s->owner[0] = HELLOS_LOCAL;
	end(100);
	s = add(false, 1, 100);
	assert_true(!s->ended && s->first_ns == first && s->owner[0] == HELLOS_UNKNOWN);
	now += 2 * HELLOS_GRACE_NS;
	(void)add(false, 2, 101);
	found(false, 1, 100);
	end(101);
	(void)add(false, 3, 101); /* the next connection with that port: both are known for a while */
	found(false, 2, 101);
	assert_true(got[0].ended);
	found(false, 3, 101);
	assert_false(got[0].ended);
}

static void test_cut_randoms(void **state)
{
	(void)state;
	assert_non_null(add_piece(1, 100, 8));
	found(false, 1, 100);
	assert_non_null(add_piece(1, 100, 20)); /* retransmitted, more of it */
	assert_non_null(add_piece(1, 100, 10));
	assert_int_equal(count().used, 1);
	assert_int_equal(count().refreshed, 2);
	found(false, 1, 100);
	assert_non_null(add_piece(1, 101, 9)); /* another connection's: which one is it? */
	assert_int_equal(count().used, 2);
	assert_int_equal(find(false, 1), 0);
	assert_non_null(add(false, 1, 101)); /* whole */
	assert_int_equal(count().used, 2);
	found(false, 1, 101);
	assert_non_null(add_piece(2, 102, 31));
	found(false, 2, 102);
}

static void test_cut_random_must_fit(void **state)
{
	struct hello e = make(false, 1, 100);

	(void)state;
	assert_non_null(add_piece(1, 100, 20));
	e.random[19] ^= 1;
	assert_int_equal(hellos_find(h, e.random, NULL, got), 0);
	e.random[19] ^= 1;
	e.random[20] ^= 1;
	assert_int_equal(hellos_find(h, e.random, NULL, got), 1);
}

/* Somebody who has seen a random makes others that begin like it: the first one stays. */
static void test_alike_randoms_are_limited(void **state)
{
	struct hello e = make(false, 1, 200);
	unsigned refused = 0;

	(void)state;
	(void)add(false, 1, 100);
	for (unsigned i = 0; i < 1000; i++) {
		e.random[8 + i % 24] += 1 + i % 3;
		e.t.port[0]++;
		refused += hellos_add(h, &e, NS, 2, ++now) == NULL;
	}
	assert_int_equal(refused, 1000 - (HELLOS_ALIKE - 1));
	assert_int_equal(count().crowded, refused);
	assert_int_equal(count().used, HELLOS_ALIKE);
	found(false, 1, 100);
}

/* One connection that sends hello after hello: only its own oldest ones go. */
static void test_one_tuple_cannot_fill_the_table(void **state)
{
	(void)state;
	(void)add(false, 1, 100);
	for (unsigned i = 0; i < 10000; i++)
		assert_non_null(add(false, 1000 + i, 200));
	found(false, 1, 100);
	assert_int_equal(count().used, 1 + HELLOS_PER_TUPLE);
	assert_int_equal(count().evicted, 10000 - HELLOS_PER_TUPLE);
	found(false, 1000 + 9999, 200);
	assert_int_equal(find(false, 1000), 0);
	(void)add(false, 1, 200); /* also where the entry was there */
	assert_int_equal(count().used, HELLOS_PER_TUPLE);
	assert_int_equal(find(false, 1), 2);
}

static void test_full_table_takes_the_ended_then_the_oldest(void **state)
{
	(void)state;
	for (unsigned i = 0; i < ENTRIES; i++)
		(void)add(false, i, i);
	end(50);
	end(40);
	now += HELLOS_LATE_NS;
	(void)add(false, 0, 0); /* was the oldest */
	(void)add(false, 1000, 1000);
	assert_int_equal(find(false, 50), 0);
	assert_int_equal(find(false, 40), 1);
	(void)add(false, 1001, 1001);
	assert_int_equal(find(false, 40), 0);
	assert_int_equal(count().evicted, 0);
	(void)add(false, 1002, 1002);
	assert_int_equal(find(false, 1), 0);
	assert_int_equal(find(false, 0), 1);
	(void)add(false, 1003, 1003);
	assert_int_equal(find(false, 2), 0);
	assert_int_equal(count().evicted, 2);
	assert_int_equal(count().used, ENTRIES);
}

/* Anybody can send hellos of connections that do not exist: those of local sockets stay, also for a while after their
 * end. */
static void test_flood_does_not_push_out_local_sockets(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 8; i++)
		add(i & 1, i, i)->owner[i & 1 ? SIDE_SERVER : SIDE_CLIENT] = HELLOS_LOCAL;
	end(7);
	for (unsigned i = 0; i < 10 * ENTRIES; i++)
		(void)add(false, 1000 + i, 1000 + i);
	for (unsigned i = 0; i < 8; i++)
		found(i & 1, i, i);
	assert_int_equal(count().used, ENTRIES);
	assert_int_equal(count().evicted, 9 * ENTRIES + 8);
	now += HELLOS_LATE_NS;
	(void)add(false, 900, 900);
	assert_int_equal(find(true, 7), 0);
	/* nothing but local sockets: the oldest of them goes */
	for (unsigned i = 0; i < 2 * ENTRIES; i++)
		add(false, 10000 + i, 10000 + i)->owner[SIDE_CLIENT] = HELLOS_LOCAL;
	assert_int_equal(find(false, 0), 0);
	assert_int_equal(find(false, 10000 + 2 * ENTRIES - 1), 1);
}

/* --- against a simple one --- */

static struct simple {
	unsigned random, tuple[HELLOS_TUPLES], n;
	bool server, used, ended[HELLOS_TUPLES];
	uint64_t last[HELLOS_TUPLES];
} model[ENTRIES];

static uint64_t model_last(const struct simple *m, bool *ret_over)
{
	uint64_t last = 0;

	*ret_over = true;
	for (unsigned i = 0; i < m->n; i++) {
		last = m->last[i] > last ? m->last[i] : last;
		*ret_over &= m->ended[i];
	}
	return last;
}

static void model_expire(void)
{
	for (struct simple *m = model; m < model + ENTRIES; m++) {
		bool over;

		if (m->used && model_last(m, &over) + HELLOS_GRACE_NS <= now && over)
			m->used = false;
	}
}

static struct simple *model_room(void)
{
	struct simple *best = NULL;
	unsigned best_rank = 0;

	for (struct simple *m = model; m < model + ENTRIES; m++) {
		bool over;
		unsigned rank;
		uint64_t last;

		if (!m->used)
			return m;
		last = model_last(m, &over);
		rank = !over ? 1 : now - last >= HELLOS_LATE_NS ? 2 : 0;
		if (!best || rank > best_rank || (rank == best_rank && last < model_last(best, &over))) {
			best = m;
			best_rank = rank;
		}
	}
	return best;
}

static struct simple *model_find(bool server, unsigned random)
{
	for (struct simple *m = model; m < model + ENTRIES; m++)
		if (m->used && m->server == server && m->random == random)
			return m;
	return NULL;
}

static void model_add(bool server, unsigned random, unsigned tuple)
{
	struct simple *m = model_find(server, random);
	unsigned i = 0;

	if (!m) {
		m = model_room();
		*m = (struct simple){.server = server, .random = random, .used = true};
	}
	while (i < m->n && m->tuple[i] != tuple)
		i++;
	if (i == HELLOS_TUPLES)
		return;
	m->n = i == m->n ? m->n + 1 : m->n;
	m->tuple[i] = tuple;
	m->ended[i] = false;
	m->last[i] = now;
}

static void model_end(unsigned tuple)
{
	for (struct simple *m = model; m < model + ENTRIES; m++)
		for (unsigned i = 0; m->used && i < m->n; i++)
			if (m->tuple[i] == tuple && !m->ended[i]) {
				m->ended[i] = true;
				m->last[i] = now;
			}
}

static void model_check(bool server, unsigned random)
{
	const struct simple *m = model_find(server, random);
	size_t n = find(server, random), k = 0;

	for (unsigned i = 0; m && i < m->n; i++) {
		if (m->ended[i] && m->last[i] + HELLOS_GRACE_NS <= now)
			continue;
		assert_true(k < n);
		assert_int_equal(got[k].t.port[0], m->tuple[i]);
		assert_int_equal(got[k].ended, m->ended[i]);
		assert_int_equal(got[k].last_ns, m->last[i]);
		k++;
	}
	assert_int_equal(n, k);
}

static void test_random_operations_against_a_model(void **state)
{
	unsigned seed = (unsigned)time(NULL);

	(void)state;
	print_message("seed %u\n", seed);
	srandom(seed);
	hellos_close(&h);
	open_table(path, ENTRIES);
	for (unsigned i = 0; i < 200000; i++) {
		/* Tuples of one entry only: with two that end at once either may be the older one. */
		unsigned random_no = (unsigned)random() % 50, tuple;
		bool server = random() % 2;

		tuple = (2 * random_no + server) * 6 + (unsigned)random() % 6;

		if (random() % 1000 == 0) {
			hellos_close(&h);
			open_table(path, ENTRIES);
			end(60000); /* tells it the time */
			model_expire();
		}
		now += (uint64_t)random() % 10;
		if (random() % 200 == 0) {
			now += HELLOS_GRACE_NS / 3;
			for (unsigned n = 0; n < ENTRIES; n++) /* a call frees only a few, the model all */
				end(60000);
		}
		if (random() % 3) {
			(void)add(server, random_no, tuple);
			model_expire();
			model_add(server, random_no, tuple);
		} else {
			end(tuple);
			model_expire();
			model_end(tuple);
		}
		model_check(random() % 2, (unsigned)random() % 50);
	}
}

/* --- the file --- */

static void reopen(void)
{
	hellos_close(&h);
	open_table(path, ENTRIES);
}

static void use_file(void)
{
	hellos_close(&h);
	(void)unlink(path);
	open_table(path, ENTRIES);
	for (unsigned i = 0; i < 10; i++)
		add(false, i, 100 + i)->owner[1] = HELLOS_LOCAL;
	end(103);
}

static void test_restart_finds_what_was_there(void **state)
{
	struct stat st;

	(void)state;
	use_file();
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
	reopen();
	assert_int_equal(count().used, 10);
	for (unsigned i = 0; i < 10; i++) {
		found(false, i, 100 + i);
		assert_true(got[0].owner[1] == HELLOS_LOCAL && got[0].ended == (i == 3) && got[0].ifindex == 2);
	}
	(void)add(false, 0, 100); /* no longer the oldest */
	for (unsigned i = 0; i < ENTRIES - 10 + 2; i++)
		(void)add(false, 1000 + i, 1000 + i);
	for (unsigned i = 0; i < 10; i++) /* local sockets */
		assert_int_equal(find(false, i), 1);
	assert_true(find(false, 1000) == 0 && find(false, 1001) == 0 && find(false, 1002) == 1);
	reopen();
	assert_int_equal(count().used, ENTRIES);
	end(100);
	now += HELLOS_GRACE_NS;
	end(100);
	assert_int_equal(count().used, ENTRIES - 2);
}

static void test_one_process_at_a_time(void **state)
{
	struct hellos *second = NULL;

	(void)state;
	use_file();
	assert_int_equal(hellos_open(&second, path, ENTRIES, err), -EBUSY);
	assert_null(second);
	assert_non_null(strstr(err, path));
	assert_int_equal(find(false, 1), 1);
	hellos_close(&h);
	open_table(path, ENTRIES);
}

static void test_other_sizes_are_made_anew(void **state)
{
	(void)state;
	use_file();
	hellos_close(&h);
	open_table(path, ENTRIES + 1);
	assert_int_equal(count().used, 0);
}

static void overwrite(off_t at, const void *p, size_t n)
{
	int fd = open(path, O_WRONLY);

	assert_int_equal(pwrite(fd, p, n, at), n);
	close(fd);
}

static void test_files_that_are_not_ours_are_made_anew(void **state)
{
	char other[100];
	struct stat st;
	int fd;

	(void)state;
	snprintf(other, sizeof(other), "%s/other", dir);
	for (int what = 0; what < 9; what++) {
		use_file();
		hellos_close(&h);
		switch (what) {
		case 0: /* cut */
			assert_int_equal(truncate(path, 1000), 0);
			break;
		case 1:
			assert_int_equal(truncate(path, 0), 0);
			break;
		case 2: /* readable by others */
			assert_int_equal(chmod(path, 0640), 0);
			break;
		case 3: /* has another name */
			assert_int_equal(link(path, other), 0);
			break;
		case 4: /* is a link */
			assert_int_equal(rename(path, other), 0);
			assert_int_equal(symlink(other, path), 0);
			break;
		case 5:
			assert_int_equal(unlink(path), 0);
			assert_int_equal(mkfifo(path, 0600), 0);
			break;
		case 6: /* another user's */
			if (geteuid() != 0)
				continue;
			assert_int_equal(chown(path, 12345, 0), 0);
			break;
		case 7: /* another version */
			overwrite(8, "\xff", 1);
			break;
		default: /* another boot */
			overwrite(24, "00000000", 8);
		}
		open_table(path, ENTRIES);
		assert_int_equal(count().used, 0);
		assert_int_equal(lstat(path, &st), 0);
		assert_true(S_ISREG(st.st_mode) && (st.st_mode & 07777) == 0600 && st.st_nlink == 1 &&
			    st.st_uid == geteuid());
		if (what == 3 || what == 4) { /* what was there before is as it was */
			fd = open(other, O_RDONLY);
			assert_true(fd != -1 && fstat(fd, &st) == 0 && st.st_size > 1000);
			close(fd);
			assert_int_equal(unlink(other), 0);
		}
		assert_non_null(add(false, 1, 1));
		reopen();
		assert_int_equal(count().used, 1);
	}
}

static void test_places_where_no_file_can_be(void **state)
{
	struct hellos *bad = NULL;
	char no[100];

	(void)state;
	snprintf(no, sizeof(no), "%s/none/hellos", dir);
	assert_int_equal(hellos_open(&bad, no, ENTRIES, err), -ENOENT);
	assert_non_null(strstr(err, no));
	assert_null(strchr(err, '\n'));
	assert_true(hellos_open(&bad, dir, ENTRIES, err) < 0);
	assert_int_equal(hellos_open(&bad, NULL, 0, err), -EINVAL);
	assert_int_equal(hellos_open(&bad, NULL, SIZE_MAX, err), -EINVAL);
	assert_null(bad);
}

/* Whatever is in it: no crash, and still a table. */
static void test_garbage_behind_a_good_head(void **state)
{
	static const uint64_t high[] = {0, 1, ENTRIES, ENTRIES + 1, UINT32_MAX, UINT64_MAX};
	struct stat st;

	(void)state;
	srandom(1);
	for (unsigned round = 0; round < 300; round++) {
		uint8_t junk[64];

		use_file();
		for (unsigned i = 10; i < (round % 2 ? ENTRIES : 12); i++)
			(void)add(i % 2, i, 100 + i / 2);
		hellos_close(&h);
		assert_int_equal(stat(path, &st), 0);
		overwrite(64, &high[round % 6], sizeof(high[0]));
		for (unsigned n = 0; n < 1 + round % 40; n++) {
			size_t len = 1 + (unsigned)random() % (round % 3 ? 4 : sizeof(junk));

			for (size_t i = 0; i < len; i++)
				junk[i] = round % 4 ? (uint8_t)random() : 0xff;
			overwrite(72 + random() % (st.st_size - 72 - (off_t)sizeof(junk)), junk, len);
		}
		open_table(path, ENTRIES);
		for (unsigned i = 0; i < 100; i++) {
			(void)find(i % 2, i);
			(void)add(i % 2, i, 100 + i);
			end(100 + i / 2);
		}
		now += HELLOS_GRACE_NS;
		for (unsigned i = 0; i < 2 * ENTRIES; i++)
			assert_non_null(add(true, 5000 + i, 5000 + i));
		assert_int_equal(count().used, ENTRIES);
		found(true, 5000 + 2 * ENTRIES - 1, 5000 + 2 * ENTRIES - 1);
		now -= HELLOS_GRACE_NS;
	}
}

/* A file system that is full: the table stays as large as it is. */
static void test_no_space_behind_the_file(void **state)
{
	char cmd[300], file[100];

	(void)state;
	snprintf(cmd, sizeof(cmd),
		 "mount --make-rprivate / && mkdir %s/m && mount -t tmpfs -o size=1500k none %s/m 2>/dev/null", dir,
		 dir);
	if (geteuid() != 0 || unshare(CLONE_NEWNS) == -1 || system(cmd) != 0) {
		snprintf(cmd, sizeof(cmd), "%s/m", dir);
		(void)rmdir(cmd);
		skip();
	}
	hellos_close(&h);
	snprintf(file, sizeof(file), "%s/m/hellos", dir);
	open_table(file, 100000);
	for (unsigned i = 0; i < 20000; i++)
		assert_non_null(add(false, i, i));
	assert_true(count().used > 2000 && count().used < 5000);
	assert_int_equal(count().evicted, 20000 - count().used);
	found(false, 19999, 19999);
	hellos_close(&h);
	snprintf(cmd, sizeof(cmd), "umount %s/m && rmdir %s/m", dir, dir);
	assert_int_equal(system(cmd), 0);
}

static void test_speed(void **state)
{
	struct timespec a, b;
	double ns;

	(void)state;
	hellos_close(&h);
	open_table(path, HELLOS_ENTRIES);
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &a);
	for (unsigned i = 0; i < 400000; i++) {
		(void)add(i & 1, i, i / 2);
		if (i % 4 == 3)
			end(i / 2);
	}
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &b);
	ns = ((double)(b.tv_sec - a.tv_sec) * 1e9 + (double)(b.tv_nsec - a.tv_nsec)) / 400000;
	print_message("%.0f ns per hello, table %s\n", ns, count().used == HELLOS_ENTRIES ? "full" : "not full");
	assert_true(ns < 20000); /* 10,000 a second are a fifth of a core at worst */
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &a);
	hellos_close(&h);
	open_table(path, HELLOS_ENTRIES);
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &b);
	print_message("%.1f ms to open %llu entries again\n",
		      (double)(b.tv_sec - a.tv_sec) * 1e3 + (double)(b.tv_nsec - a.tv_nsec) / 1e6,
		      (unsigned long long)count().used);
}

int main(void)
{
#define TEST(t) cmocka_unit_test_setup_teardown(t, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		TEST(test_both_randoms_lead_to_the_tuple),
		TEST(test_first_seen_is_first),
		TEST(test_namespaces_are_told_apart),
		TEST(test_fifth_tuple_is_crowded),
		TEST(test_retry_is_no_entry),
		TEST(test_ended_is_found_for_a_while),
		TEST(test_entry_lives_as_long_as_one_of_its_tuples),
		TEST(test_used_again),
		TEST(test_cut_randoms),
		TEST(test_cut_random_must_fit),
		TEST(test_alike_randoms_are_limited),
		TEST(test_one_tuple_cannot_fill_the_table),
		TEST(test_flood_does_not_push_out_local_sockets),
		TEST(test_full_table_takes_the_ended_then_the_oldest),
		TEST(test_random_operations_against_a_model),
		TEST(test_restart_finds_what_was_there),
		TEST(test_one_process_at_a_time),
		TEST(test_other_sizes_are_made_anew),
		TEST(test_files_that_are_not_ours_are_made_anew),
		TEST(test_places_where_no_file_can_be),
		TEST(test_garbage_behind_a_good_head),
		TEST(test_no_space_behind_the_file),
		TEST(test_speed),
	};

	return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
