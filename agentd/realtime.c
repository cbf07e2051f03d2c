/* SPDX-License-Identifier: Apache-2.0 */
/* realtime.c - real-time within a budget. */
#include "realtime.h"

#include <sched.h>
#include <time.h>

#define WINDOW_NS 100000000ull
#define BUDGET_NS 25000000ull  /* of a window */
#define PAUSE_NS 1000000000ull /* as an ordinary thread */

static uint64_t clock_of(clockid_t clock)
{
	struct timespec ts;

	(void)clock_gettime(clock, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static void turn(struct realtime *r, bool on)
{
	struct sched_param p = {.sched_priority = on ? 1 : 0};

	if (r->on != on && pthread_setschedparam(pthread_self(), on ? SCHED_FIFO : SCHED_OTHER, &p) == 0)
		r->on = on;
}

void realtime_begin(struct realtime *r)
{
	*r = (struct realtime){.on = sched_getscheduler(0) == SCHED_FIFO};
}

void realtime_spend(struct realtime *r)
{
	uint64_t now = clock_of(CLOCK_MONOTONIC), used;

	if (r->pause_ns > now || now - r->window_ns < WINDOW_NS / 10)
		return;
	used = clock_of(CLOCK_THREAD_CPUTIME_ID);
	if (used - r->cpu_ns > BUDGET_NS) {
		turn(r, false);
		r->pause_ns = now + PAUSE_NS;
	} else {
		turn(r, true);
	}
	if (now - r->window_ns >= WINDOW_NS || r->pause_ns > now) {
		r->window_ns = now;
		r->cpu_ns = used;
	}
}

void realtime_lock_init(pthread_mutex_t *lock)
{
	pthread_mutexattr_t a;

	pthread_mutexattr_init(&a);
	(void)pthread_mutexattr_setprotocol(&a, PTHREAD_PRIO_INHERIT);
	if (pthread_mutex_init(lock, &a) != 0)
		pthread_mutex_init(lock, NULL);
	pthread_mutexattr_destroy(&a);
}
