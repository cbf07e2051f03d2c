/* SPDX-License-Identifier: Apache-2.0 */
/* attach.h - meet agentd, map, close everything; know that we are a forked child.
 *
 * States only go forward: untried -> (attached | off for life). One thread tries, once; the others pass
 * through meanwhile. Costs an application ATTACH_WAIT_MS at most, and nothing where no agentd runs
 * but one open(2) that fails. */
#ifndef TLSTAP_ATTACH_LIB_H
#define TLSTAP_ATTACH_LIB_H

#include <stdbool.h>
#include <stdint.h>

#include "common/shm.h"

enum attach_state { ATTACH_UNTRIED, ATTACH_BUSY, ATTACH_DONE, ATTACH_OFF };

extern _Atomic int attach_state;

/* The family's mapping; valid once attach_state is ATTACH_DONE. */
extern struct shm attach_shm;

/* May this process be asked for its sockets' addresses (getsockname(2))? */
extern bool attach_may_ask;

/* This process as it sees itself; valid after attach_producer(). */
extern int32_t attach_pid;

/* Try to attach from inside a TLS call: only where no filter can be expected that kills us. */
void attach_late(void);

/* This process's producer number, a new one after fork; 0: pass through. @ret_parent: the number
 * that its parent had, 0: it is no child. One load if nothing has changed; else getpid(2). */
uint16_t attach_producer(uint16_t *ret_parent);

/* Attached, and not switched off? */
static inline bool attach_on(void)
{
	return atomic_load_explicit(&attach_state, memory_order_acquire) == ATTACH_DONE &&
	       !atomic_load_explicit(&attach_shm.h->off, memory_order_relaxed);
}

#endif
