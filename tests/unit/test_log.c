/* SPDX-License-Identifier: Apache-2.0 */
/* test_log.c - what a line looks like, to a terminal and to the journal, and what cannot get into it. */
#include <errno.h>
#include <fcntl.h>
#include <regex.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/log.h"

static int pipe_fd[2], saved_stderr;

/* What was written to stderr since the last call. */
static const char *written(void)
{
	static char buf[65536];
	ssize_t n;

	fflush(stderr);
	n = read(pipe_fd[0], buf, sizeof(buf) - 1);
	buf[n > 0 ? n : 0] = '\0';
	return buf;
}

static void matches(const char *text, const char *pattern)
{
	regex_t re;
	int r;

	assert_int_equal(regcomp(&re, pattern, REG_EXTENDED | REG_NOSUB), 0);
	r = regexec(&re, text, 0, NULL, 0);
	regfree(&re);
	if (r)
		fail_msg("'%s' does not match '%s'", text, pattern);
}

#define TIME "^[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9]{2}:[0-9]{2}:[0-9]{2}[.][0-9]{3} "

static void test_line(void **state)
{
	(void)state;
	log_info("tunnel", "connected to %s", "192.0.2.1");
	matches(written(), TIME "testd: tunnel: connected to 192.0.2.1\n$");
	log_error("tunnel", "no");
	matches(written(), TIME "testd: error: tunnel: no\n$");
	log_warn("x", "w");
	matches(written(), TIME "testd: warning: x: w\n$");
}

static void test_errno_text(void **state)
{
	(void)state;
	errno = 77;
	log_error_errno("file", ENOENT, "cannot open %s", "a");
	assert_int_equal(errno, 77);
	matches(written(), "cannot open a: No such file or directory\n$");
	log_warn_errno("file", EPIPE, "w");
	matches(written(), "warning: file: w: Broken pipe\n$");
}

static void test_level(void **state)
{
	(void)state;
	log_debug("x", "hidden");
	assert_string_equal(written(), "");
	log_set_level(LOG_L_DEBUG);
	log_debug("x", "seen");
	matches(written(), "debug: x: seen\n$");
	log_set_level(LOG_L_ERROR);
	log_warn("x", "hidden");
	assert_string_equal(written(), "");
	log_set_level(LOG_L_INFO);
}

/* A name chosen by somebody else cannot begin a line of its own or speak to the terminal. */
static void test_escapes(void **state)
{
	const char *s;

	(void)state;
	log_info("x", "name %s", "a\n2020-01-01 testd: error: faked\033[2J\xc3\xa4");
	s = written();
	matches(s, "name a\\\\x0a2020-01-01 testd: error: faked\\\\x1b\\[2J\\\\xc3\\\\xa4\n$");
	assert_ptr_equal(strchr(s, '\n'), s + strlen(s) - 1);
}

static void test_long_line_is_cut(void **state)
{
	static char big[10000];
	const char *s;

	(void)state;
	memset(big, 'a', sizeof(big) - 1);
	log_info("x", "%s", big);
	s = written();
	assert_true(strlen(s) > 1000 && strlen(s) <= 2049);
	assert_int_equal(s[strlen(s) - 1], '\n');
	memset(big, '\001', sizeof(big) - 1);
	log_error_errno("x", EPIPE, "%s", big);
	s = written();
	assert_true(strlen(s) <= 2049);
	assert_int_equal(s[strlen(s) - 1], '\n');
}

static void test_journal(void **state)
{
	struct stat st;
	char value[64];

	(void)state;
	assert_int_equal(fstat(STDERR_FILENO, &st), 0);
	snprintf(value, sizeof(value), "%llu:%llu", (unsigned long long)st.st_dev, (unsigned long long)st.st_ino);
	setenv("JOURNAL_STREAM", value, 1);
	log_init("testd", LOG_L_DEBUG);
	log_error("a", "b");
	assert_string_equal(written(), "<3>testd: error: a: b\n");
	log_warn("a", "b");
	assert_string_equal(written(), "<4>testd: warning: a: b\n");
	log_info("a", "b");
	assert_string_equal(written(), "<6>testd: a: b\n");
	log_debug("a", "b");
	assert_string_equal(written(), "<7>testd: debug: a: b\n");
	setenv("JOURNAL_STREAM", "1:2", 1); /* stderr was redirected */
	log_init("testd", LOG_L_INFO);
	log_info("a", "b");
	matches(written(), TIME "testd: a: b\n$");
	setenv("JOURNAL_STREAM", "garbage", 1);
	log_init("testd", LOG_L_INFO);
	log_info("a", "b");
	matches(written(), TIME);
}

static int setup(void **state)
{
	(void)state;
	unsetenv("JOURNAL_STREAM");
	if (pipe2(pipe_fd, O_NONBLOCK) == -1)
		return -1;
	saved_stderr = dup(STDERR_FILENO);
	dup2(pipe_fd[1], STDERR_FILENO);
	close(pipe_fd[1]);
	log_init("testd", LOG_L_INFO);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	dup2(saved_stderr, STDERR_FILENO);
	close(saved_stderr);
	close(pipe_fd[0]);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_line, setup, teardown),
		cmocka_unit_test_setup_teardown(test_errno_text, setup, teardown),
		cmocka_unit_test_setup_teardown(test_level, setup, teardown),
		cmocka_unit_test_setup_teardown(test_escapes, setup, teardown),
		cmocka_unit_test_setup_teardown(test_long_line_is_cut, setup, teardown),
		cmocka_unit_test_setup_teardown(test_journal, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
