/* SPDX-License-Identifier: Apache-2.0 */
/* test_quota.c - how many mappings a process, a user, and all together may have. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "agentd/quota.h"

static struct quota q;

static void test_of_one_process(void **state)
{
	(void)state;
	quota_init(&q);
	for (unsigned i = 0; i < FAMILIES_PID_MAX; i++)
		assert_int_equal(quota_take(&q, 7, 1000), 0);
	assert_int_equal(quota_take(&q, 7, 1000), -EUSERS);
	assert_int_equal(quota_take(&q, 7, 0), 0); /* nobody can take what another user's process may have */
	quota_give(&q, 7, 0);
	assert_int_equal(quota_take(&q, 8, 1000), 0);
	quota_give(&q, 7, 1001); /* not its */
	assert_int_equal(quota_take(&q, 7, 1000), -EUSERS);
	quota_give(&q, 7, 1000);
	assert_int_equal(quota_take(&q, 7, 1000), 0);
	assert_int_equal(q.n, FAMILIES_PID_MAX + 1);
}

static void test_of_one_user(void **state)
{
	pid_t pid = 1;

	(void)state;
	quota_init(&q);
	for (; (unsigned)pid <= FAMILIES_UID_MAX; pid++)
		assert_int_equal(quota_take(&q, pid, 1000), 0);
	assert_int_equal(quota_take(&q, pid, 1000), -EDQUOT);
	assert_int_equal(quota_take(&q, pid, 1001), 0);
	quota_give(&q, 1, 1000);
	assert_int_equal(quota_take(&q, pid, 1000), 0);
}

static void test_of_all(void **state)
{
	(void)state;
	quota_init(&q);
	for (pid_t pid = 1; (unsigned)pid <= FAMILIES_MAX; pid++) /* root may have them all */
		assert_int_equal(quota_take(&q, pid, 0), 0);
	assert_int_equal(quota_take(&q, 1000000, 0), -ENOSPC);
	assert_int_equal(quota_adopt(&q, 1000000, 0), -ENOSPC);
	quota_give(&q, 5, 0);
	assert_int_equal(quota_adopt(&q, 1000000, 0), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_of_one_process),
		cmocka_unit_test(test_of_one_user),
		cmocka_unit_test(test_of_all),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
