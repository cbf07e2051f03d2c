/* SPDX-License-Identifier: Apache-2.0 */
/* The readers of /proc against hostile names, long lines, and processes that come and go. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "agentd/proc.h"

static bool stat_of(const char *text, uint64_t *ret)
{
	return proc_parse_stat(text, strlen(text), ret);
}

static void test_start_time_behind_hostile_names(void **state)
{
	uint64_t v = 0;

	(void)state;
#define REST " S 1 1 1 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 "
	assert_true(stat_of("1 (a)" REST "777 0 0\n", &v));
	assert_int_equal(v, 777);
	assert_true(stat_of("1 (a) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4)" REST "778 0", &v));
	assert_int_equal(v, 778);
	assert_true(stat_of("1 () (\n ) )" REST "18446744073709551615", &v));
	assert_true(v == UINT64_MAX);
	assert_false(stat_of("1 (a)" REST "18446744073709551616 0", &v)); /* overflow */
	assert_false(stat_of("1 (a)" REST "-1 0", &v));
	assert_false(stat_of("1 (a)" REST, &v)); /* cut */
	assert_false(stat_of("1 (a) S 1 1", &v));
	assert_false(stat_of("", &v));
	assert_false(stat_of("no bracket at all", &v));
	assert_false(stat_of(")", &v));
}

static void test_maps_lines(void **state)
{
	struct proc_map m;

	(void)state;
	assert_true(
		proc_parse_map("7f00-7f40 rw-s 00000000 00:01 1030                       /memfd:tlstap (deleted)", &m));
	assert_true(m.start == 0x7f00 && m.end == 0x7f40 && m.inode == 1030 && m.shared);
	assert_string_equal(m.name, "/memfd:tlstap (deleted)");
	assert_true(proc_parse_map("7f00-7f40 r-xp 00000000 fe:01 12 /a\\012b c", &m));
	assert_false(m.shared);
	assert_string_equal(m.name, "/a\\012b c");
	assert_true(proc_parse_map("7ffe00-7ffe40 rw-p 00000000 00:00 0 ", &m));
	assert_string_equal(m.name, "");
	assert_false(proc_parse_map("7f40-7f00 rw-s 0 00:01 1030 /x", &m)); /* ends before it begins */
	assert_false(proc_parse_map("7f00-11111111111111111 rw-s 0 00:01 1 /x", &m));
	assert_false(proc_parse_map("-7f00 rw-s 0 00:01 1 /x", &m));
	assert_false(proc_parse_map("7f00-7f40 rw", &m));
	assert_false(proc_parse_map("7f00-7f40 rw-s 0 100000000:01 1 /x", &m));
	assert_false(proc_parse_map("", &m));
}

static void test_status_lines(void **state)
{
	struct proc_status s = {.uid = 1, .ns_pid = 2, .seccomp = -1};

	(void)state;
	proc_parse_status("Uid:\t33\t34\t35\t36", &s);
	proc_parse_status("NSpid:\t4711\t17\t1", &s);
	proc_parse_status("Seccomp:\t2", &s);
	assert_true(s.uid == 33 && s.fsuid == 36 && s.ns_pid == 1 && s.seccomp == 2);
	proc_parse_status("Uid:\t1\t2\t3", &s); /* cut */
	proc_parse_status("Uid:\t1 2\t3\t4", &s);
	proc_parse_status("Uid:\t1\t2\t3\t4294967296", &s);
	proc_parse_status("Uid:\t", &s);
	proc_parse_status("Name:\tUid:\\n", &s);
	proc_parse_status("Uid:\t99999999999", &s);
	proc_parse_status("Seccomp:\t7", &s);
	proc_parse_status("Seccomp_filters:\t1", &s);
	proc_parse_status("NSpid:\t", &s);
	assert_true(s.uid == 33 && s.fsuid == 36 && s.ns_pid == 1 && s.seccomp == 2);
}

static void test_socket_links(void **state)
{
	(void)state;
	assert_int_equal(proc_parse_socket("socket:[123]", 12), 123);
	assert_int_equal(proc_parse_socket("socket:[123", 11), 0);
	assert_int_equal(proc_parse_socket("socket:[123]x", 13), 0);
	assert_int_equal(proc_parse_socket("socket:[]", 9), 0);
	assert_int_equal(proc_parse_socket("socket:[", 8), 0);
	assert_int_equal(proc_parse_socket("/socket:[1]", 11), 0);
	assert_int_equal(proc_parse_socket("pipe:[12345]", 12), 0);
	assert_int_equal(proc_parse_socket("", 0), 0);
}

/* A child that waits; with a name and arguments of its own choice. */
static pid_t spawn_named(const char *name)
{
	int p[2];
	char c;
	pid_t pid;

	assert_int_equal(pipe(p), 0);
	pid = fork();
	if (pid == 0) {
		(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
		(void)prctl(PR_SET_NAME, name);
		(void)!write(p[1], "", 1);
		pause();
		_exit(0);
	}
	assert_int_equal(read(p[0], &c, 1), 1);
	close(p[0]);
	close(p[1]);
	return pid;
}

static void reap(pid_t pid)
{
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
}

static void test_own_process(void **state)
{
	int self = proc_open(getpid()), sock = socket(AF_INET, SOCK_STREAM, 0);
	char exe[PATH_MAX], want[PATH_MAX], tiny[4];
	uint64_t start, netns;
	struct proc_status s;
	struct stat st;
	ssize_t n;

	(void)state;
	assert_true(self >= 0 && sock >= 0);
	assert_int_equal(proc_start_time(self, &start), 0);
	assert_true(start > 0);
	assert_int_equal(proc_status(self, &s), 0);
	assert_true(s.uid == getuid() && s.fsuid == geteuid() && s.ns_pid == getpid() && s.seccomp >= 0);
	assert_int_equal(proc_netns(self, &netns), 0);
	assert_int_equal(stat("/proc/self/ns/net", &st), 0);
	assert_true(netns == st.st_ino);
	assert_int_equal(proc_exe(self, exe, sizeof(exe)), 0);
	n = readlink("/proc/self/exe", want, sizeof(want) - 1);
	want[n] = '\0';
	assert_string_equal(exe, want);
	assert_int_equal(proc_exe(self, tiny, sizeof(tiny)), 0);
	assert_int_equal(strlen(tiny), 3);
	assert_int_equal(fstat(sock, &st), 0);
	assert_true(proc_socket(self, sock) == st.st_ino);
	assert_int_equal(proc_socket(self, self), 0);
	assert_int_equal(proc_socket(self, 100000), 0);
	close(sock);
	close(self);
	assert_int_equal(proc_open(0), -ENOENT);
	assert_int_equal(proc_open(-1), -ENOENT);
}

static void test_hostile_names_of_living_processes(void **state)
{
	static const char *const names[] = {") R 1 1 1", "a\nUid:\t77", "\xff\xfe\x1b[31m", " ", "S 1 2 3 4) S"};

	(void)state;
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		pid_t pid = spawn_named(names[i]);
		int proc = proc_open(pid), self = proc_open(getpid());
		uint64_t theirs = 0, ours = 0;
		struct proc_status s;

		assert_int_equal(proc_start_time(proc, &theirs), 0);
		assert_int_equal(proc_start_time(self, &ours), 0);
		assert_true(theirs >= ours && theirs < ours + 100000);
		assert_int_equal(proc_status(proc, &s), 0);
		assert_int_equal(s.uid, getuid());
		close(self);
		reap(pid);
		assert_int_not_equal(proc_start_time(proc, &theirs), 0); /* gone: never another's data */
		close(proc);
	}
}

static void test_directory_lists_all_numbers(void **state)
{
	static struct proc_dir d;
	int self = proc_open(getpid()), fds[600], n = 0, seen = 0, fd;

	(void)state;
	for (; n < 600; n++) {
		fds[n] = dup(0);
		if (fds[n] == -1)
			break;
	}
	assert_true(n > 500);
	assert_int_equal(proc_dir_open(&d, self, "fd"), 0);
	while (proc_dir_next(&d, &fd)) {
		for (int i = 0; i < n; i++)
			seen += fds[i] == fd;
	}
	assert_int_equal(seen, n);
	proc_dir_close(&d);
	proc_dir_close(&d);
	assert_false(proc_dir_next(&d, &fd));
	while (n > 0)
		close(fds[--n]);
	assert_int_equal(proc_dir_open(&d, AT_FDCWD, "/proc"), 0);
	seen = 0;
	while (proc_dir_next(&d, &fd))
		seen += fd == getpid();
	assert_int_equal(seen, 1);
	proc_dir_close(&d);
	close(self);
}

/* Lines of every length around the limits, in a file instead of /proc. */
static void test_long_lines_are_cut_not_split(void **state)
{
	static const size_t lens[] = {0,
				      1,
				      PROC_LINE_MAX - 1,
				      PROC_LINE_MAX,
				      PROC_LINE_MAX + 1,
				      2 * PROC_LINE_MAX - 2,
				      2 * PROC_LINE_MAX - 1,
				      2 * PROC_LINE_MAX,
				      2 * PROC_LINE_MAX + 1,
				      2u << 20,
				      5};
	char name[] = "/tmp/test_proc.XXXXXX";
	static struct proc_lines l;
	int fd = mkstemp(name);
	FILE *f = fdopen(fd, "w");
	size_t len;
	char *line;

	(void)state;
	for (size_t i = 0; i < sizeof(lens) / sizeof(lens[0]); i++) {
		for (size_t k = 0; k < lens[i]; k++)
			fputc('a' + (int)i, f);
		fputc('\n', f);
	}
	fputs("end without newline", f);
	fclose(f);
	assert_int_equal(proc_lines_open(&l, AT_FDCWD, name), 0);
	for (size_t i = 0; i < sizeof(lens) / sizeof(lens[0]); i++) {
		line = proc_lines_next(&l, &len);
		assert_non_null(line);
		assert_int_equal(strlen(line), len);
		assert_true(lens[i] < PROC_LINE_MAX ? len == lens[i] : len >= PROC_LINE_MAX && len <= lens[i]);
		assert_true(len == 0 || (line[0] == 'a' + (int)i && line[len - 1] == 'a' + (int)i));
	}
	line = proc_lines_next(&l, &len);
	assert_string_equal(line, "end without newline");
	assert_null(proc_lines_next(&l, &len));
	proc_lines_close(&l);
	proc_lines_close(&l);
	unlink(name);
}

/* /proc/PID/exe of programs of many kinds: a directory stands in for /proc/PID. */
static void test_elf_class(void **state)
{
	static const struct {
		char head[8];
		size_t len;
		int class;
	} exe[] = {{"\177ELF\1", 8, 1}, {"\177ELF\2", 8, 2}, {"\177ELF\3", 8, 0},
		   {"\177ELF\1", 4, 0}, {"#!/bin/", 8, 0},   {"", 0, 0}};
	char name[] = "/tmp/test_proc.XXXXXX";
	int self = proc_open(getpid()), dir, fd;

	(void)state;
	assert_int_equal(proc_elf_class(self), sizeof(void *) == 8 ? 2 : 1);
	close(self);
	assert_non_null(mkdtemp(name));
	dir = open(name, O_PATH | O_DIRECTORY);
	assert_int_equal(proc_elf_class(dir), 0);
	for (size_t i = 0; i < sizeof(exe) / sizeof(exe[0]); i++) {
		fd = openat(dir, "exe", O_WRONLY | O_CREAT | O_TRUNC, 0600);
		assert_int_equal(write(fd, exe[i].head, exe[i].len), exe[i].len);
		close(fd);
		assert_int_equal(proc_elf_class(dir), exe[i].class);
	}
	unlinkat(dir, "exe", 0);
	close(dir);
	rmdir(name);
}

static const char *cgroup_of(const char *line, bool unified)
{
	bool is;
	const char *path = proc_parse_cgroup(line, &is);

	assert_true(!path || is == unified);
	return path ? path : "";
}

static void test_cgroup_lines(void **state)
{
	char path[256];
	int proc = proc_open(getpid());

	(void)state;
	assert_string_equal(cgroup_of("0::/system.slice/a.service", true), "/system.slice/a.service");
	assert_string_equal(cgroup_of("0::/", true), "/");
	assert_string_equal(cgroup_of("1:name=systemd:/a:b/c d", false), "/a:b/c d");
	assert_string_equal(cgroup_of("4:memory:/x", false), "");
	assert_string_equal(cgroup_of("0::x", false), "");
	assert_string_equal(cgroup_of("0:/x", false), "");
	assert_string_equal(cgroup_of("0::", false), "");
	assert_string_equal(cgroup_of("::/x", false), "");
	assert_string_equal(cgroup_of("", false), "");
	assert_true(proc >= 0);
	if (proc_cgroup(proc, path, sizeof(path)) == 0) { /* else there are none here */
		assert_true(path[0] == '/');
		assert_int_equal(proc_cgroup(proc, path, 1), -ENAMETOOLONG);
	}
	close(proc);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_cgroup_lines),
		cmocka_unit_test(test_start_time_behind_hostile_names),
		cmocka_unit_test(test_maps_lines),
		cmocka_unit_test(test_status_lines),
		cmocka_unit_test(test_socket_links),
		cmocka_unit_test(test_own_process),
		cmocka_unit_test(test_hostile_names_of_living_processes),
		cmocka_unit_test(test_directory_lists_all_numbers),
		cmocka_unit_test(test_long_lines_are_cut_not_split),
		cmocka_unit_test(test_elf_class),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
