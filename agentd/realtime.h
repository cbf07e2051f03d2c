/* SPDX-License-Identifier: Apache-2.0 */
/* realtime.h - a thread that must have its turn at once, and must not have all of them.
 *
 * A handshake is over in a millisecond, a process waits for its mapping for a few; on a busy machine an ordinary
 * thread waits longer for its turn. So these threads are real-time ones (sched(7), SCHED_FIFO, the lowest priority), as
 * long as they use no more than a quarter of a core, and a little more at once: who floods us gets an ordinary thread.
 * They inherit that from the thread (a helper: the process) that makes them, and may go back and forth by
 * RLIMIT_RTPRIO; who was made an ordinary one stays that. */
#ifndef TLSTAP_REALTIME_H
#define TLSTAP_REALTIME_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

struct realtime {
	bool may; /* was made a real-time one */
	bool on;
	uint64_t at_ns, cpu_ns; /* when it was looked at last, and what the thread had used then */
	uint64_t credit_ns;	/* what it may use */
};

/* In the thread, at its start. */
void realtime_begin(struct realtime *r);

/* In the thread, each time round its loop. */
void realtime_spend(struct realtime *r);

/* The calling thread is an ordinary one from now on: a short slice gets it onto a core soon, without a larger share of
 * it (sched_setattr(2), Linux 6.12). Returns 0 or -errno. */
int realtime_leave(int nice);

/* A lock between such a thread and an ordinary one: who holds it lends its rank. */
void realtime_lock_init(pthread_mutex_t *lock);

#endif
