/* SPDX-License-Identifier: Apache-2.0 */
/* quota.h - how many mappings each process and each user has.
 *
 * One is taken by who hands out mappings (attach.c), and given back when its family has ended (family.c), in another
 * thread. */
#ifndef TLSTAP_QUOTA_H
#define TLSTAP_QUOTA_H

#include <pthread.h>
#include <sys/types.h>

#define FAMILIES_MAX 32768u
#define FAMILIES_PID_MAX 16u		     /* of one process: each exec makes a new one */
#define FAMILIES_UID_MAX (FAMILIES_MAX / 4u) /* of one user but root */

struct quota {
	pthread_mutex_t lock;
	unsigned n;
	struct {
		pid_t pid;
		uid_t uid;
	} of[FAMILIES_MAX];
};

void quota_init(struct quota *q);

/* May user @uid's process @pid have one more? Returns 0 and counts it, -EUSERS: FAMILIES_PID_MAX, -EDQUOT:
 * FAMILIES_UID_MAX, or -ENOSPC: FAMILIES_MAX. */
int quota_take(struct quota *q, pid_t pid, uid_t uid);

/* It has one already: counts it if there is room. Returns 0 or -ENOSPC. */
int quota_adopt(struct quota *q, pid_t pid, uid_t uid);

/* One that was taken or adopted is no more. */
void quota_give(struct quota *q, pid_t pid, uid_t uid);

#endif
