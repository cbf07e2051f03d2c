/* SPDX-License-Identifier: Apache-2.0 */
/* test_policy.c - policy.c: which rule decides. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agentd/policy.h"

static struct policy p;
static struct policy_answer a;

/* Load up to two rules of each list; NULL: none. Returns policy_load()'s result. */
static int rules(const char *deny, const char *deny2, const char *allow, const char *isolate)
{
	char *item[4] = {(char *)deny, (char *)deny2, (char *)allow, (char *)isolate};
	struct opt_list list[POLICY_LISTS] = {
		[POLICY_DENY] = {.item = item, .n = (size_t)(deny != NULL) + (deny2 != NULL)},
		[POLICY_ALLOW] = {.item = item + 2, .n = allow != NULL},
		[POLICY_ISOLATE] = {.item = item + 3, .n = isolate != NULL},
	};
	char err[POLICY_ERR] = "";
	int ret = policy_load(&p, list, err);

	assert_true((ret == 0) == (err[0] == '\0') && !strchr(err, '\n'));
	return ret;
}

static bool taps(const char *exe, uint32_t uid, const char *cgroup)
{
	policy_judge(&p, &(struct policy_subject){.pid = 4711, .uid = uid, .exe = exe, .cgroup = cgroup}, &a);
	assert_true(a.why[0] && strlen(a.why) < sizeof(a.why) - 1);
	return a.tap;
}

static void test_without_rules(void **state)
{
	(void)state;
	assert_int_equal(rules(NULL, NULL, NULL, NULL), 0);
	assert_true(taps("/usr/bin/curl", 0, "/"));
	assert_true(taps("/usr/bin/curl", 1000, NULL)); /* nobody asks for it */
	assert_string_equal(a.why, "no rule denies it");
	assert_false(policy_tells_children(&p) || a.isolate);
}

static void test_built_in(void **state)
{
	static const char *const never[] = {
		"/sbin/init",
		"/usr/lib/systemd/systemd",
		"/lib/systemd/systemd-journald",
		"/usr/sbin/sshd",
		"/usr/bin/sudo",
		"/usr/bin/dbus-daemon",
		"/opt/x/containerd-shim-runc-v2",
		"/agentd",
		"receiverd",
		"/usr/sbin/sshd (deleted)",
		"/usr/bin/udevadm",
		"/lib/systemd/systemd-udevd",
		"/usr/lib/systemd/system-generators/x",
		"/var/chroot/lib/udev/ata_id",
		"/usr/bin/sudo.ws",
		"/usr/sbin/sshd.old",
		"/usr/sbin/sshd.dpkg-tmp (deleted)",
		"/memfd:runc_cloned:/proc/self/exe (deleted)",
		"/memfd:crun_cloned:/proc/self/exe (deleted)",
		"/usr/bin/busybox",
		"/usr/lib/cargo/bin/sudo",
		"/usr/bin/sudo-rs",
	};
	static const char *const others[] = {"/usr/bin/ssh",	  "/usr/sbin/sshd/x", "/usr/bin/sudoku",
					     "/usr/bin/xsystemd", "/home/init.d/app", "/usr/bin/su2",
					     "/opt/lib/udevx/a"};

	char self[512] = "";

	(void)state;
	assert_int_equal(rules(NULL, NULL, "exe:*", NULL), 0); /* nothing overrides it */
	for (size_t i = 0; i < sizeof(never) / sizeof(never[0]); i++)
		assert_false(taps(never[i], 1000, "/"));
	for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++)
		assert_true(taps(others[i], 1000, "/"));
	policy_judge(&p, &(struct policy_subject){.pid = 1, .exe = "/bin/sh"}, &a);
	assert_false(a.tap);
	assert_true(readlink("/proc/self/exe", self, sizeof(self) - 1) > 0);
	assert_false(taps(self, 1000, "/")); /* who judges, whatever he is called */
	strcat(self, "x");
	assert_true(taps(self, 1000, "/"));
}

static void test_deny_wins(void **state)
{
	(void)state;
	assert_int_equal(rules("exe:/usr/bin/c*l", "uid:33", "exe:/usr/*", NULL), 0);
	assert_false(taps("/usr/bin/curl", 0, NULL));
	assert_string_equal(a.why, "deny = exe:/usr/bin/c*l");
	assert_true(taps("/usr/bin/wget", 0, NULL));
	assert_string_equal(a.why, "allow = exe:/usr/*");
	assert_false(taps("/usr/bin/wget", 33, NULL));
	assert_false(taps("/opt/wget", 0, NULL));
	assert_string_equal(a.why, "no allow rule matches it");
	assert_true(policy_tells_children(&p));
}

static void test_paths(void **state)
{
	char link[] = "/tmp/test_policy.XXXXXX", rule[64], real[PATH_MAX];
	int fd = mkstemp(link);

	(void)state;
	assert_true(fd != -1 && realpath("/bin/sh", real));
	close(fd);
	unlink(link);
	assert_int_equal(symlink(real, link), 0);
	snprintf(rule, sizeof(rule), "exe:%s", link);
	assert_int_equal(rules(rule, NULL, NULL, NULL), 0);
	assert_false(taps(real, 0, NULL));
	assert_false(taps(link, 0, NULL));
	assert_true(taps("/usr/bin/curl", 0, NULL));
	strcat(real, " (deleted)"); /* replaced while it runs: still that program */
	assert_false(taps(real, 0, NULL));
	unlink(link);
}

static void set_link(const char *link, const char *to)
{
	unlink(link);
	assert_int_equal(symlink(to, link), 0);
}

/* As /bin is one to /usr/bin today: what it leads to is what the kernel tells, also of what is not there yet. */
static void test_linked_directories(void **state)
{
	char dir[] = "/tmp/test_policy.XXXXXX", real[64], odd[64], link[64], path[96], rule[96];

	(void)state;
	assert_non_null(mkdtemp(dir));
	snprintf(real, sizeof(real), "%s/usr", dir);
	snprintf(odd, sizeof(odd), "%s/o[d]*d", dir);
	snprintf(link, sizeof(link), "%s/bin", dir);
	assert_true(mkdir(real, 0700) == 0 && mkdir(odd, 0700) == 0);
	for (unsigned i = 0; i < 2; i++) {
		set_link(link, i ? odd : real);
		for (unsigned k = 0; k < 3; k++) {
			snprintf(rule, sizeof(rule), "exe:%s/%s", link, k == 0 ? "python3" : k == 1 ? "py*3" : "*");
			assert_int_equal(rules(rule, NULL, NULL, NULL), 0);
			snprintf(path, sizeof(path), "%s/python3", i ? odd : real);
			assert_false(taps(path, 0, NULL));
			snprintf(path, sizeof(path), "%s/python3", link);
			assert_false(taps(path, 0, NULL));
			snprintf(path, sizeof(path), "%s/odd/python3", dir);
			assert_true(taps(path, 0, NULL));
		}
	}
	unlink(link);
	rmdir(odd);
	rmdir(real);
	rmdir(dir);
}

/* After the start agentd may see less: what it knew of a rule stays; a new one is refused. */
static void test_paths_that_cannot_be_seen(void **state)
{
	char link[48], self[64], rule[128], other[128];

	(void)state;
	snprintf(link, sizeof(link), "/tmp/test_policy.%d", (int)getpid());
	snprintf(self, sizeof(self), "%s.self", link);
	snprintf(rule, sizeof(rule), "exe:%s", link);
	snprintf(other, sizeof(other), "exe:%s", self);
	set_link(self, self); /* nobody can follow it, not even root */
	set_link(link, "/usr/bin/env");
	assert_int_equal(rules(rule, NULL, NULL, NULL), 0);
	assert_false(taps("/usr/bin/env", 0, NULL));
	set_link(link, self);
	assert_int_equal(rules("uid:5", other, NULL, NULL), -ELOOP);
	assert_int_equal(rules("uid:5", rule, NULL, NULL), 0);
	assert_false(taps("/usr/bin/env", 0, NULL));
	unlink(link);
	unlink(self);
}

/* What looks like a wildcard may be meant. */
static void test_names_with_wildcards(void **state)
{
	(void)state;
	assert_int_equal(rules("unit:a\\x2db.service", "cgroup:/x[1]", NULL, NULL), 0);
	assert_false(taps("/a", 0, "/system.slice/a\\x2db.service"));
	assert_false(taps("/a", 0, "/x[1]"));
	assert_false(taps("/a", 0, "/x1"));
	assert_int_equal(rules("exe:/opt/[x]/y", NULL, NULL, NULL), 0);
	assert_false(taps("/opt/[x]/y", 0, NULL));
	assert_true(taps("/opt/[y]/y", 0, NULL));
}

static void test_control_groups(void **state)
{
	(void)state;
	assert_int_equal(rules("unit:nginx*.service", "cgroup:/user.slice/user-33.slice/*", NULL,
			       "unit:vsftpd.service"),
			 0);
	assert_false(taps("/a", 0, "/system.slice/nginx.service"));
	assert_false(taps("/a", 0, "/system.slice/nginx@1.service/worker"));
	assert_true(taps("/a", 0, "/system.slice/xnginx.service"));
	assert_true(taps("/a", 0, "/system.slice/nginx.service.d"));
	assert_false(taps("/a", 0, "/user.slice/user-33.slice/session-1.scope"));
	assert_true(taps("/a", 0, "/user.slice/user-34.slice/session-1.scope"));
	assert_false(a.isolate);
	assert_true(taps("/a", 0, "/system.slice/vsftpd.service"));
	assert_true(a.isolate);
	assert_false(taps("/a", 0, NULL)); /* not known, and somebody asks for it */
	assert_false(taps("/a", 0, ""));
	assert_true(taps("/a", 0, "/") && policy_tells_children(&p));
}

static void test_what_is_not_known_is_not_tapped(void **state)
{
	char path[HELPER_PATH_MAX + 10];

	(void)state;
	assert_int_equal(rules(NULL, NULL, NULL, NULL), 0);
	assert_false(taps("", 0, "/"));
	assert_false(taps(NULL, 0, "/"));
	memset(path, 'x', sizeof(path));
	path[0] = '/';
	path[HELPER_PATH_MAX - 1] = '\0'; /* as the helper cuts it */
	assert_false(taps(path, 0, "/"));
	path[HELPER_PATH_MAX - 2] = '\0';
	assert_true(taps(path, 0, "/"));
}

static void test_users(void **state)
{
	(void)state;
	assert_int_equal(rules("user:root", "uid:4294967294", NULL, NULL), 0);
	assert_false(taps("/a", 0, NULL));
	assert_false(taps("/a", 4294967294u, NULL));
	assert_true(taps("/a", 1, NULL));
}

/* What was loaded before stays. */
static void test_wrong_rules(void **state)
{
	static const char *const wrong[] = {"",
					    "x",
					    "exe",
					    "exe:",
					    "exe:curl",
					    "uid:",
					    "uid:-1",
					    "uid:1x",
					    "uid:4294967295",
					    "user:",
					    "user:nosuchuser0",
					    "unit:a/b",
					    "cgroup:a",
					    "e:/a",
					    "exe/a",
					    "exes:/a"};
	char many[POLICY_RULE_MAX + 10] = "exe:/";

	(void)state;
	assert_int_equal(rules("uid:7", NULL, NULL, NULL), 0);
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
		assert_int_equal(rules("uid:8", wrong[i], NULL, NULL), -EINVAL);
	memset(many + 5, 'x', sizeof(many) - 6);
	assert_int_equal(rules(many, NULL, NULL, NULL), -EINVAL);
	assert_false(taps("/a", 7, NULL));
	assert_true(taps("/a", 8, NULL));
}

static void test_number_of_rules_is_limited(void **state)
{
	char *item[POLICY_RULES_MAX + 1], err[POLICY_ERR] = "";
	struct opt_list list[POLICY_LISTS] = {[POLICY_ALLOW] = {.item = item, .n = POLICY_RULES_MAX}};

	(void)state;
	for (size_t i = 0; i <= POLICY_RULES_MAX; i++)
		item[i] = (char *)"uid:5";
	assert_int_equal(policy_load(&p, list, err), 0);
	list[POLICY_DENY] = (struct opt_list){.item = item, .n = 1};
	assert_int_equal(policy_load(&p, list, err), -E2BIG);
	assert_true(strstr(err, "more than 1024") && taps("/a", 5, NULL) && !taps("/a", 6, NULL));
}

static int fini(void **state)
{
	(void)state;
	policy_free(&p);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_without_rules),
		cmocka_unit_test(test_built_in),
		cmocka_unit_test(test_deny_wins),
		cmocka_unit_test(test_paths),
		cmocka_unit_test(test_linked_directories),
		cmocka_unit_test(test_paths_that_cannot_be_seen),
		cmocka_unit_test(test_names_with_wildcards),
		cmocka_unit_test(test_control_groups),
		cmocka_unit_test(test_what_is_not_known_is_not_tapped),
		cmocka_unit_test(test_users),
		cmocka_unit_test(test_wrong_rules),
		cmocka_unit_test(test_number_of_rules_is_limited),
	};

	return cmocka_run_group_tests(tests, NULL, fini);
}
