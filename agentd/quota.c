/* SPDX-License-Identifier: Apache-2.0 */
/* quota.c - a list of who has mappings. */
#include "quota.h"

#include <errno.h>

#include "realtime.h"

void quota_init(struct quota *q)
{
	realtime_lock_init(&q->lock);
	q->n = 0;
}

static int add(struct quota *q, pid_t pid, uid_t uid)
{
	if (q->n == FAMILIES_MAX)
		return -ENOSPC;
	q->of[q->n].pid = pid;
	q->of[q->n++].uid = uid;
	return 0;
}

static int may(const struct quota *q, pid_t pid, uid_t uid)
{
	unsigned of_pid = 0, of_uid = 0;

	for (unsigned i = 0; i < q->n; i++) {
		if (q->of[i].uid != uid)
			continue;
		of_uid++;
		of_pid += q->of[i].pid == pid; /* others' are of who had this number before, and left children */
	}
	if (of_pid >= FAMILIES_PID_MAX)
		return -EUSERS;
	return uid && of_uid >= FAMILIES_UID_MAX ? -EDQUOT : 0;
}

int quota_take(struct quota *q, pid_t pid, uid_t uid)
{
	int err;

	pthread_mutex_lock(&q->lock);
	err = may(q, pid, uid);
	if (!err)
		err = add(q, pid, uid);
	pthread_mutex_unlock(&q->lock);
	return err;
}

int quota_adopt(struct quota *q, pid_t pid, uid_t uid)
{
	int err;

	pthread_mutex_lock(&q->lock);
	err = add(q, pid, uid);
	pthread_mutex_unlock(&q->lock);
	return err;
}

void quota_give(struct quota *q, pid_t pid, uid_t uid)
{
	pthread_mutex_lock(&q->lock);
	for (unsigned i = 0; i < q->n; i++)
		if (q->of[i].pid == pid && q->of[i].uid == uid) {
			q->of[i] = q->of[--q->n];
			break;
		}
	pthread_mutex_unlock(&q->lock);
}
