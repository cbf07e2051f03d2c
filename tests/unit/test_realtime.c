/* SPDX-License-Identifier: Apache-2.0 */
/* test_realtime.c - realtime.c: who uses much is an ordinary thread for a while; so is the helper that inherits a rank. */
#include <errno.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "agentd/helper.h"
#include "agentd/realtime.h"

static uint64_t clock_ms(clockid_t clock)
{
	struct timespec ts;

	(void)clock_gettime(clock, &ts);
	return (uint64_t)ts.tv_sec * 1000u + (uint64_t)ts.tv_nsec / 1000000u;
}

static bool become(int policy)
{
	const struct sched_param p = {.sched_priority = policy == SCHED_FIFO};

	return sched_setscheduler(0, policy, &p) == 0;
}

/* Each returns 0, or the number of what is wrong. In a process of its own: rank and niceness do not come back. */

static int flooded(void)
{
	struct realtime r;
	uint64_t end;

	(void)setpriority(PRIO_PROCESS, 0, -10);
	realtime_begin(&r);
	if (!r.may || !r.on)
		return 1;
	for (end = clock_ms(CLOCK_THREAD_CPUTIME_ID) + 10; clock_ms(CLOCK_THREAD_CPUTIME_ID) < end;)
		realtime_spend(&r);
	if (sched_getscheduler(0) != SCHED_FIFO)
		return 2; /* that was little */
	for (end = clock_ms(CLOCK_THREAD_CPUTIME_ID) + 150; clock_ms(CLOCK_THREAD_CPUTIME_ID) < end;)
		realtime_spend(&r);
	if (sched_getscheduler(0) != SCHED_OTHER)
		return 3;
	if (getpriority(PRIO_PROCESS, 0) < 0)
		return 4;
	/* not much, all the time: the rank comes back */
	for (end = clock_ms(CLOCK_MONOTONIC) + 30000; clock_ms(CLOCK_MONOTONIC) < end && !r.on;) {
		uint64_t some = clock_ms(CLOCK_THREAD_CPUTIME_ID) + 2;

		while (clock_ms(CLOCK_THREAD_CPUTIME_ID) < some)
			;
		usleep(30000);
		realtime_spend(&r);
	}
	return sched_getscheduler(0) == SCHED_FIFO ? 0 : 5;
}

static int ordinary(void)
{
	struct realtime r;

	if (!become(SCHED_OTHER))
		return 1;
	realtime_begin(&r);
	for (unsigned i = 0; i < 5; i++) {
		usleep(20000);
		realtime_spend(&r);
	}
	return sched_getscheduler(0) == SCHED_OTHER ? 0 : 2;
}

static void heard(void *arg, const struct helper_event *e)
{
	(void)e;
	++*(unsigned *)arg;
}

static int helper(void)
{
	struct helper_pid p = {.pid = getpid()};
	struct helper h;
	unsigned n = 0;
	uint64_t end = clock_ms(CLOCK_MONOTONIC) + 20000;
	int was;

	if (helper_start_brief(&h, NULL) != 0)
		return 1;
	was = sched_getscheduler(h.pid);
	(void)become(SCHED_OTHER);
	while (clock_ms(CLOCK_MONOTONIC) < end && sched_getscheduler(h.pid) == SCHED_FIFO) {
		while (helper_brief(&h, 1, &p) == 0)
			;
		(void)helper_flush(&h);
		if (helper_poll(&h, 256, heard, &n) < 0)
			return 2;
	}
	if (was != SCHED_FIFO || n < 100)
		return 3;
	if (sched_getscheduler(h.pid) != SCHED_OTHER)
		return 4;
	helper_stop(&h);
	return 0;
}

static void in_child(int (*what)(void))
{
	pid_t child = fork();
	int status;

	if (!child)
		_exit(become(SCHED_FIFO) ? what() : 99);
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status));
	if (WEXITSTATUS(status) == 99)
		skip(); /* no right to a real-time rank */
	assert_int_equal(WEXITSTATUS(status), 0);
}

static void test_who_floods_is_ordinary_for_a_while(void **state)
{
	(void)state;
	in_child(flooded);
}

static void test_who_was_ordinary_stays_that(void **state)
{
	(void)state;
	in_child(ordinary);
}

static void test_helper_has_a_budget_too(void **state)
{
	(void)state;
	in_child(helper);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_who_floods_is_ordinary_for_a_while),
		cmocka_unit_test(test_who_was_ordinary_stays_that),
		cmocka_unit_test(test_helper_has_a_budget_too),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
