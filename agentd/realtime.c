/* SPDX-License-Identifier: Apache-2.0 */
/* realtime.c - real-time on credit. */
#include "realtime.h"

#include <errno.h>
#include <sched.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define LOOK_NS 10000000ull   /* how often is looked what it has used */
#define CREDIT_NS 50000000ull /* at most: some hundred processes at once */
#define EARN 4u		      /* a quarter of the time that passes */

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

/* Flooded, it has no larger share than others: not by its niceness either, which does not count while it is on. Only
 * where there is no way back (RLIMIT_RTPRIO could not be raised) it keeps that: it will not be more any more. */
static int leave(void)
{
	int nice = getpriority(PRIO_PROCESS, 0);
	struct rlimit again;
	bool back = geteuid() == 0 || (getrlimit(RLIMIT_RTPRIO, &again) == 0 && again.rlim_cur);

	return realtime_leave(nice > 0 || !back ? nice : 0);
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

	*r = (struct realtime){.may = is, .on = is, .credit_ns = CREDIT_NS};
	r->at_ns = clock_of(CLOCK_MONOTONIC);
	r->cpu_ns = clock_of(CLOCK_THREAD_CPUTIME_ID);
}

void realtime_spend(struct realtime *r)
{
	uint64_t now = r->may ? clock_of(CLOCK_MONOTONIC) : 0, has, used;

	if (!r->may || now - r->at_ns < LOOK_NS)
		return;
	used = clock_of(CLOCK_THREAD_CPUTIME_ID) - r->cpu_ns;
	has = r->credit_ns + (now - r->at_ns) / EARN;
	has = has > used ? has - used : 0;
	r->credit_ns = has < CREDIT_NS ? has : CREDIT_NS;
	r->at_ns = now;
	r->cpu_ns += used;
	if (!has)
		turn(r, false);
	else if (has >= CREDIT_NS)
		turn(r, true);
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
