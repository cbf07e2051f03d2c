/* SPDX-License-Identifier: Apache-2.0 */
/* policy.h - which processes may be tapped: the built-in list, --deny, --allow, --isolate.
 *
 * attach.c asks before it hands out a mapping, family.c again when the rules have changed or a child was met.
 * The order: the built-in list, then --deny, then --allow (if there is any such rule, only what one of them matches is
 * tapped). Deny always wins, and nothing overrides the built-in list. What is not known of a process, and would be
 * needed to decide, counts against tapping it.
 *
 * A rule is one of
 *   exe:GLOB     the path of its program, as /proc/PID/exe has it (in a container: as the container sees it). '*' also
 *                matches '/'. Symbolic links are followed, once, when the rules are read: exe:/usr/bin/python3; with a
 *                wildcard those in the directories before it: exe:/bin/python3*
 *   uid:N, user:NAME   its real user
 *   unit:GLOB    a component of its control group's path: unit:nginx.service
 *   cgroup:GLOB  that path as a whole: cgroup:/user.slice/ and what follows
 *
 * Path and control group are in part the process's own choice (a user may start what he likes, in a namespace of his
 * own): the rules keep the tap away from programs, they do not force it upon somebody. Pure but for policy_load() and
 * policy_make(). */
#ifndef TLSTAP_POLICY_H
#define TLSTAP_POLICY_H

#include <stdbool.h>
#include <stdint.h>

#include "common/opt.h"
#include "helper.h"

#define POLICY_RULES_MAX 1024 /* of all lists together */
#define POLICY_RULE_MAX 512   /* bytes of one */
#define POLICY_ERR 512

enum policy_list { POLICY_DENY, POLICY_ALLOW, POLICY_ISOLATE, POLICY_LISTS };

struct policy_rule {
	enum { POLICY_EXE, POLICY_UID, POLICY_UNIT, POLICY_CGROUP } kind;
	char *text; /* as it was written */
	char *path; /* EXE: the same with symbolic links followed, NULL: there was nothing */
	uint32_t uid;
};

struct policy {
	struct policy_rule *rule[POLICY_LISTS];
	unsigned n[POLICY_LISTS];
	bool of_user, of_cgroup;   /* some rule asks for it */
	char own[HELPER_PATH_MAX]; /* our own program, whatever it is called */
};

/* What is known of a process. */
struct policy_subject {
	int32_t pid;
	uint32_t uid;
	const char *exe;    /* HELPER_PATH_MAX - 1 bytes: it was cut, so it is not known; NULL, "": likewise */
	const char *cgroup; /* NULL, "": not known */
};

struct policy_answer {
	bool tap;
	bool isolate;			/* its children are not */
	char why[POLICY_RULE_MAX + 64]; /* ends the sentence "it is (not) tapped: ..." */
};

/* Make *@ret of the three lists of rules; what @old, which it may replace, found where we may not look any more, counts.
 * This may take long: it asks for users and follows links. Returns 0, -EINVAL, -E2BIG, or why a path cannot be looked
 * up, with one line in @err; *@ret is empty then. */
int policy_make(struct policy *ret, const struct policy *old, const struct opt_list list[static POLICY_LISTS],
		char err[static POLICY_ERR]);

/* Make @p of the three lists of rules. Returns 0, or -EINVAL, -E2BIG, or why a path cannot be looked up, with one line
 * in @err; @p is then as it was. What it held before is freed on success: zeroed at first. */
int policy_load(struct policy *p, const struct opt_list list[static POLICY_LISTS], char err[static POLICY_ERR]);
void policy_free(struct policy *p);

void policy_judge(const struct policy *p, const struct policy_subject *s, struct policy_answer *ret);

/* What an answer of helper_proc() says. */
void policy_judge_event(const struct policy *p, const struct helper_event *e, struct policy_answer *ret);

/* Can a forked child, which runs the same program, be judged otherwise than its parent? */
static inline bool policy_tells_children(const struct policy *p)
{
	return p->of_user || p->of_cgroup;
}

#endif
