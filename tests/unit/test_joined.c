/* SPDX-License-Identifier: Apache-2.0 */
/* test_joined.c - where a frame is seen that leaves out of an interface. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "common/joined.h"

#define N(a) (sizeof(a) / sizeof((a)[0]))

static struct joined_link host[] = {
	{.index = 1}, /* lo */
	/* eth2, and a VLAN on it */
	{.index = 2},
	{.index = 3, .link = 2, .kind = JOINED_ABOVE},
	{.index = 4, .link = 2, .kind = JOINED_ABOVE},
	/* a pair; the second end is a port of bridge 12, as are one end of another pair and eth13 */
	{.index = 10, .link = 11, .kind = JOINED_VETH},
	{.index = 11, .link = 10, .master = 12, .kind = JOINED_VETH},
	{.index = 12, .kind = JOINED_BRIDGE},
	{.index = 13, .master = 12},
	{.index = 14, .link = 15, .master = 12, .kind = JOINED_VETH},
	{.index = 15, .link = 14, .kind = JOINED_VETH},
	{.index = 16, .link = 12, .kind = JOINED_ABOVE},
	{.index = 17, .link = 15, .kind = JOINED_ABOVE},
	/* a bond with two ports */
	{.index = 20},
	{.index = 21, .master = 20},
	{.index = 22, .master = 20},
	{.index = 23, .link = 20, .kind = JOINED_ABOVE},
	/* VXLAN over eth2; a pair whose other end is elsewhere */
	{.index = 30, .link = 2, .kind = JOINED_TUNNEL},
	{.index = 31, .kind = JOINED_VETH},
};

static void check(uint32_t index, const uint32_t *want, unsigned n)
{
	uint32_t got[N(host)];

	memset(got, 0, sizeof(got));
	assert_int_equal(joined_find(host, N(host), index, got, N(got)), n);
	assert_memory_equal(got, want, n * sizeof(*want));
}

#define CHECK(index, ...) \
	check(index, (const uint32_t[]){index, __VA_ARGS__}, N(((const uint32_t[]){index, __VA_ARGS__})))

static void test_where_frames_go(void **state)
{
	(void)state;
	check(1, (const uint32_t[]){1}, 1);
	check(2, (const uint32_t[]){2}, 1); /* what leaves is not seen above */
	CHECK(3, 2);
	CHECK(10, 11, 12, 13, 14, 15, 16, 17);
	CHECK(12, 10, 11, 13, 14, 15, 17);
	CHECK(15, 10, 11, 12, 13, 14, 16); /* into 14, into the bridge, out of 11, into 10 */
	CHECK(20, 21, 22);
	check(21, (const uint32_t[]){21}, 1); /* out of one port only */
	CHECK(23, 20, 21, 22);
	check(30, (const uint32_t[]){30}, 1);
	check(31, (const uint32_t[]){31}, 1);
	check(99, (const uint32_t[]){99}, 1);
}

static void test_circles_and_limits(void **state)
{
	struct joined_link circle[] = {
		{.index = 1, .link = 2, .kind = JOINED_ABOVE},
		{.index = 2, .link = 1, .kind = JOINED_ABOVE},
		{.index = 3, .link = 3, .master = 3, .kind = JOINED_BRIDGE},
	};
	uint32_t got[3] = {0};

	(void)state;
	assert_int_equal(joined_find(circle, 3, 1, got, 3), 2);
	assert_int_equal(joined_find(circle, 3, 3, got, 3), 1);
	assert_int_equal(joined_find(NULL, 0, 7, got, 3), 1);
	assert_int_equal(got[0], 7);
	got[2] = 0;
	assert_int_equal(joined_find(host, N(host), 10, got, 2), 8); /* says so, and writes no further */
	assert_true(got[0] == 10 && got[1] == 11 && got[2] == 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_where_frames_go),
		cmocka_unit_test(test_circles_and_limits),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
