/* SPDX-License-Identifier: Apache-2.0 */
/* test_permit.c - permit.c: whose verdict counts, and when it is asked for again. */
#include "app.h"

#include "agentd/permit.h"
#include "agentd/policy.h"

static struct policy policy;

/* Rules with one that tells children from their parent, or none. */
static void begin(bool children)
{
	char *item = (char *)"uid:7", err[POLICY_ERR] = "";
	struct opt_list list[POLICY_LISTS] = {[POLICY_DENY] = {.item = &item, .n = children}};

	begin_family();
	assert_int_equal(policy_load(&policy, list, err), 0);
	lane.policy = &policy;
	lane.rules = 1;
}

static void end(void)
{
	lane.policy = NULL;
	end_family();
	policy_free(&policy);
}

static struct member *child(int32_t pid)
{
	uint16_t ignored;

	return a_process(pid, &ignored);
}

static void answer_is(struct member *m, enum helper_result result, const char *exe, uint32_t uid)
{
	struct helper_event e =
		{.type = HELPER_PROC, .result = result, .p.pid = m->p.pid, .exe = exe, .cgroup = "/", .uid = uid};

	permit_judge(m, &e);
}

static void test_each_child_is_judged(void **state)
{
	struct member *m;
	bool looked = false;

	(void)state;
	begin(true);
	m = child(PID);
	fam->scanned = true;
	assert_int_equal(permit_allows(fam, PID, NULL), -EAGAIN);
	answer_is(m, HELPER_R_OK, "/bin/a", 8);
	assert_int_equal(permit_allows(fam, PID, NULL), 1);
	assert_true(fam->scanned);
	assert_int_equal(permit_allows(fam, PID + 1, NULL), -EAGAIN); /* not met: it is looked for */
	assert_false(fam->scanned);
	m->pidfd = dup(0); /* it lives: looked at once more for each connection */
	assert_int_equal(permit_allows(fam, PID, &looked), -EAGAIN);
	assert_true(looked && m->asked_rules == 0);
	assert_int_equal(permit_allows(fam, PID, &looked), -EAGAIN);
	answer_is(m, HELPER_R_OK, "/bin/a", 7);
	assert_int_equal(permit_allows(fam, PID, &looked), 0);
	answer_is(m, HELPER_R_NO_PROCESS, "", 0); /* it is what it was */
	assert_int_equal(permit_allows(fam, PID, &looked), 0);
	answer_is(m, HELPER_R_OK, "/bin/a", 8);
	answer_is(m, HELPER_R_OK, "", 7); /* a zombie */
	assert_int_equal(permit_allows(fam, PID, &looked), 1);
	close(m->pidfd);
	m->pidfd = -1;
	end();
}

static void test_who_was_never_seen_is_denied_by_such_rules(void **state)
{
	(void)state;
	for (unsigned children = 0; children < 2; children++) {
		begin(children);
		answer_is(child(PID), HELPER_R_NO_PROCESS, "", 0);
		assert_int_equal(permit_allows(fam, PID, NULL), !children);
		end();
	}
}

/* More processes than are watched: the others cannot be known, and are not looked for again and again. */
static void test_too_many_children(void **state)
{
	(void)state;
	begin(true);
	for (int32_t i = 0; fam->member_n < FAMILY_MEMBERS_MAX; i++)
		(void)child(PID + i);
	fam->scanned = true;
	assert_int_equal(permit_allows(fam, PID + (int32_t)FAMILY_MEMBERS_MAX + 5, NULL), 0);
	assert_true(fam->scanned);
	end();
}

/* A predecessor's mapping: nothing is shown before a process of it was judged by the rules of now. */
static void test_a_mapping_that_was_taken_over(void **state)
{
	struct member *m;

	(void)state;
	begin(false);
	assert_int_equal(permit_allows(fam, PID, NULL), 1);
	fam->adopted = true;
	while (fam->member_n)
		free(fam->member[--fam->member_n]);
	assert_int_equal(permit_allows(fam, PID, NULL), -EAGAIN);
	m = child(PID);
	assert_int_equal(permit_allows(fam, PID, NULL), -EAGAIN);
	answer_is(m, HELPER_R_OK, "/usr/sbin/sshd", 7);
	assert_int_equal(permit_allows(fam, PID, NULL), 0);
	answer_is(m, HELPER_R_OK, "/bin/a", 7);
	assert_int_equal(permit_allows(fam, PID, NULL), 1);
	end();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_each_child_is_judged),
		cmocka_unit_test(test_who_was_never_seen_is_denied_by_such_rules),
		cmocka_unit_test(test_too_many_children),
		cmocka_unit_test(test_a_mapping_that_was_taken_over),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
