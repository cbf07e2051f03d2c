/* SPDX-License-Identifier: Apache-2.0 */
/* realtime.c - real-time within a budget. */
#include "realtime.h"

#include <errno.h>
#include <sched.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define WINDOW_NS 100000000ull
#define BUDGET_NS 25000000ull  /* of a window */
#define PAUSE_NS 1000000000ull /* as an ordinary thread */

static uint64_t clock_of(clockid_t clock)
{
	struct timespec ts;

	(void)clock_gettime(clock, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

int realtime_leave(int nice)
{
	struct {
		uint32_t size, policy;
		uint64_t flags;
		int32_t nice;
		uint32_t priority;
		uint64_t runtime, deadline, period;
	} attr = {.size = sizeof(attr), .policy = SCHED_OTHER, .nice = nice, .runtime = 100000};

	return syscall(SYS_sched_setattr, 0, &attr, 0) == -1 ? -errno : 0;
}

/* Flooded, it has no larger share than others: not by its niceness either, which does not count while it is on. */
static int leave(void)
{
	int nice = getpriority(PRIO_PROCESS, 0);

	return realtime_leave(nice > 0 ? nice : 0);
}

static void turn(struct realtime *r, bool on)
{
	const struct sched_param lowest = {.sched_priority = 1};

	if (r->on != on && (on ? pthread_setschedparam(pthread_self(), SCHED_FIFO, &lowest) : leave()) == 0)
		r->on = on;
}

void realtime_begin(struct realtime *r)
{
	bool is = sched_getscheduler(0) == SCHED_FIFO;

	*r = (struct realtime){.may = is, .on = is};
}

void realtime_spend(struct realtime *r)
{
	uint64_t now = r->may ? clock_of(CLOCK_MONOTONIC) : 0, passed = now - r->window_ns, used;

	if (!r->may || r->pause_ns > now || passed < WINDOW_NS / 10)
		return;
	used = clock_of(CLOCK_THREAD_CPUTIME_ID);
	/* after a pause, or when idle, a window is longer, and so much more may be used in it */
	if (used - r->cpu_ns > (passed > WINDOW_NS ? passed / (WINDOW_NS / BUDGET_NS) : BUDGET_NS)) {
		turn(r, false);
		r->pause_ns = now + PAUSE_NS;
	} else {
		turn(r, true);
	}
	if (passed >= WINDOW_NS || r->pause_ns > now) {
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
