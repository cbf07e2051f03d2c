/* SPDX-License-Identifier: Apache-2.0 */
/* test_tap_notes.c - what was noted of a handle: kept until it was told, never another's, no room is no note. */
#include "libtlstap/notes.c"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

static const void *handle(uintptr_t i)
{
	return (const void *)(0x10000 + i * 16);
}

static void test_kept_until_dropped(void **state)
{
	struct note n, *w = note_write(handle(1));

	(void)state;
	assert_non_null(w);
	assert_int_equal(w->fd, -1);
	w->fd = 7;
	w->has_client = true;
	memset(w->client_random, 9, 32);
	assert_ptr_equal(note_write(handle(1)), w);
	assert_true(note_read(handle(1), &n));
	assert_true(n.fd == 7 && n.has_client && !n.has_server && n.client_random[31] == 9);
	assert_false(note_read(handle(2), &n));
	note_told(handle(1));
	assert_true(note_read(handle(1), &n)); /* nobody has needed its place */
	assert_ptr_equal(note_write(handle(1)), w);
	assert_int_equal(w->fd, 7);
	note_drop(handle(1));
	assert_false(note_read(handle(1), &n));
	w = note_write(handle(1));
	assert_true(w->fd == -1 && !w->has_client); /* a handle of the same address is another one */
	note_told(handle(1));
	note_drop(handle(1));
	assert_false(note_read(handle(1), &n));
}

/* The library has taken bytes and not reported them: forgotten, they would be counted again. */
static void test_bytes_that_wait(void **state)
{
	struct note n, *w = note_write(handle(1));

	(void)state;
	w->pending = 5;
	note_told(handle(1)); /* the record that opens the connection is made now */
	for (uintptr_t i = 2; i < 4 * PLACES; i++) {
		(void)note_write(handle(i));
		note_told(handle(i));
	}
	assert_true(note_read(handle(1), &n));
	assert_int_equal(n.pending, 5);
	w->pending = 0;
	note_told(handle(1));
	for (uintptr_t i = 2; i < 4 * PLACES; i++)
		(void)note_write(handle(i));
	assert_false(note_read(handle(1), &n));
	for (uintptr_t i = 1; i < 4 * PLACES; i++)
		note_drop(handle(i));
}

static void test_of_nobody(void **state)
{
	struct note n;

	(void)state;
	assert_null(note_write(NULL));
	assert_null(note_write((const void *)0x10001)); /* no handle has an odd address */
	assert_false(note_read(NULL, &n));
	note_told(NULL);
	note_drop(NULL);
	note_told(handle(3));
	note_drop(handle(3));
}

/* All places are taken: there is no note. One that was told makes room. */
static void test_full(void **state)
{
	uintptr_t refused = 0, n = 0;
	struct note note;

	(void)state;
	for (uintptr_t i = 0; i < 4 * PLACES; i++) {
		struct note *w = note_write(handle(i));

		if (w)
			w->fd = (int)i;
		n += w != NULL;
		refused = w || refused ? refused : i;
	}
	assert_true(refused > PLACES / 4 && n > PLACES / 2 && n <= PLACES);
	assert_null(note_write(handle(refused)));
	for (uintptr_t i = 0; i < refused; i++) { /* nobody took anything away */
		assert_true(note_read(handle(i), &note));
		assert_int_equal(note.fd, (int)i);
		note_told(handle(i));
	}
	assert_non_null(note_write(handle(refused)));
	for (uintptr_t i = 0; i < 4 * PLACES; i++)
		note_drop(handle(i));
	for (unsigned i = 0; i < PLACES; i++)
		assert_int_equal(place[i].key, 0);
}

#if defined(__SANITIZE_THREAD__)
#define UNDER_TSAN 1
#else
#define UNDER_TSAN 0
#endif

static _Atomic unsigned wrong;

/* Handles of its own, more than there is room for, written and read again. */
static void *worker(void *arg)
{
	uintptr_t base = (uintptr_t)arg * 100000;

	for (unsigned round = 0; round < 20; round++) {
		for (uintptr_t i = 0; i < 1000; i++) {
			const void *h = handle(base + i);
			struct note n, *w = note_write(h);

			if (!w)
				continue;
			memset(w->client_random, (int)(base / 100000), 32);
			w->fd = (int)(base + i);
			note_told(h);
			if (note_read(h, &n) && (n.fd != (int)(base + i) || n.client_random[31] != base / 100000))
				wrong++;
			if (i % 3 == 0)
				note_drop(h);
		}
	}
	return NULL;
}

static void test_threads(void **state)
{
	pthread_t t[4];

	(void)state;
	if (UNDER_TSAN) /* a note that is taken over while it is read is thrown away: a race, and harmless */
		skip();
	for (uintptr_t i = 0; i < 4; i++)
		assert_int_equal(pthread_create(&t[i], NULL, worker, (void *)(i + 1)), 0);
	for (unsigned i = 0; i < 4; i++)
		pthread_join(t[i], NULL);
	assert_int_equal(wrong, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_kept_until_dropped),
		cmocka_unit_test(test_bytes_that_wait),
		cmocka_unit_test(test_of_nobody),
		cmocka_unit_test(test_full),
		cmocka_unit_test(test_threads),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
