/* SPDX-License-Identifier: Apache-2.0 */
/* realtime.h - a thread that must have its turn at once, and must not have all of them.
 *
 * A handshake is over in a millisecond, a process waits for its mapping for a few; on a busy machine an ordinary
 * thread waits longer for its turn. So these threads are real-time ones (sched(7), SCHED_FIFO, the lowest priority), as
 * long as they use little: who floods us gets an ordinary thread for a while. They inherit that from the thread that
 * makes them, and may go back and forth by RLIMIT_RTPRIO; without the rights for it they are ordinary ones. */
#ifndef TLSTAP_REALTIME_H
#define TLSTAP_REALTIME_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

struct realtime {
	bool on;
	uint64_t window_ns, cpu_ns; /* when it began, and what the thread had used then */
	uint64_t pause_ns;	    /* an ordinary thread until then; 0: is none */
};

/* In the thread, at its start. */
void realtime_begin(struct realtime *r);

/* In the thread, each time round its loop. */
void realtime_spend(struct realtime *r);

/* A lock between such a thread and an ordinary one: who holds it lends its rank. */
void realtime_lock_init(pthread_mutex_t *lock);

#endif
