/* SPDX-License-Identifier: Apache-2.0 */
/* test_opt.c - every way to say an option, and every message about a wrong one. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/opt.h"

struct conf {
	bool verbose, dry;
	char *name, *config, *status;
	struct opt_list to;
	uint64_t count, size;
};

#define F(f) offsetof(struct conf, f)
static const struct opt table[] = {
	{OPT_HEAD, 0, 0, "General", NULL, 0, 0, 0, NULL, NULL},
	{OPT_FLAG, 0, 'v', "verbose", NULL, F(verbose), 0, 0, NULL, "say more"},
	{OPT_FLAG, 0, 'd', "dry-run", NULL, F(dry), 0, 0, NULL, "do nothing"},
	{OPT_STRING, 0, 'n', "name", "NAME", F(name), 0, 0, "joe", "who"},
	{OPT_LIST, 0, 't', "to", "HOST[,..]", F(to), 0, 0, "here", "where"},
	{OPT_HEAD, 0, 0, "Numbers", NULL, 0, 0, 0, NULL, NULL},
	{OPT_UINT, 0, 'c', "count", "N", F(count), 1, 100, "7", "how often"},
	{OPT_SIZE, 0, 0, "size-of-the-largest-piece", "BYTES", F(size), 1024, 1ull << 40, "16M", "how much"},
	{OPT_STRING, OPT_ARGV_ONLY, 0, "config", "FILE", F(config), 0, 0, NULL, "read FILE"},
	{OPT_MODE, OPT_ARGV_ONLY, 0, "status", "json", F(status), 0, 0, NULL, "show"},
	{0},
};

static struct conf conf;
static char err[OPT_ERR];
static int rest;
static char file_name[] = "/tmp/test_opt.XXXXXX";

/* Load with the arguments in one string, separated by blanks, and with @file as configuration file. */
static int load(const char *args, const char *file)
{
	static char words[1024];
	char *argv[64] = {"prog"};
	int argc = 1;

	opt_free(table, &conf);
	memset(&conf, 0, sizeof(conf));
	memset(err, 0, sizeof(err));
	snprintf(words, sizeof(words), "%s", args);
	for (char *w = strtok(words, " "); w; w = strtok(NULL, " "))
		argv[argc++] = w;
	if (file) {
		FILE *f = fopen(file_name, "w");

		assert_non_null(f);
		fputs(file, f);
		fclose(f);
	}
	return opt_load(table, &conf, "config", file ? file_name : NULL, argc, argv, &rest, err);
}

static void good(const char *args, const char *file)
{
	int r = load(args, file);

	if (r)
		fail_msg("%s: %s", args, err);
}

static void bad(const char *args, const char *file, const char *message)
{
	char expected[OPT_ERR];

	assert_int_equal(load(args, file), -EINVAL);
	snprintf(expected, sizeof(expected), "%s%s", file ? file_name : "", message);
	assert_string_equal(err, expected);
	assert_null(strchr(err, '\n'));
}

static void test_defaults(void **state)
{
	(void)state;
	good("", NULL);
	assert_false(conf.verbose);
	assert_string_equal(conf.name, "joe");
	assert_int_equal(conf.to.n, 1);
	assert_string_equal(conf.to.item[0], "here");
	assert_int_equal(conf.count, 7);
	assert_int_equal(conf.size, 16 << 20);
	assert_null(conf.status);
	assert_int_equal(rest, 1);
}

static void test_argv(void **state)
{
	(void)state;
	good("-vd -n a -nb --name=c -t x,y --to z -c100 --size-of-the-largest-piece 2k rest -v", NULL);
	assert_true(conf.verbose && conf.dry);
	assert_string_equal(conf.name, "c");
	assert_int_equal(conf.to.n, 3);
	assert_string_equal(conf.to.item[2], "z");
	assert_int_equal(conf.count, 100);
	assert_int_equal(conf.size, 2048);
	assert_int_equal(rest, 13);

	good("-v -- -d", NULL);
	assert_int_equal(rest, 3);
	assert_false(conf.dry);
	good("-v -", NULL); /* a lone dash is an argument */
	assert_int_equal(rest, 2);
	good("-dc5", NULL);
	assert_int_equal(conf.count, 5);
	assert_true(conf.dry);
	good("-n -x", NULL);
	assert_string_equal(conf.name, "-x");
}

static void test_mode(void **state)
{
	(void)state;
	good("--status", NULL);
	assert_string_equal(conf.status, "");
	good("--status=json", NULL);
	assert_string_equal(conf.status, "json");
	good("--status json", NULL); /* not its value */
	assert_string_equal(conf.status, "");
	assert_int_equal(rest, 2);
}

static void test_file(void **state)
{
	(void)state;
	good("", "# comment\n\n  name = two words \nverbose=yes\ncount = 9 # nine\nto = a,b\nto = c#d\n"
		 "size-of-the-largest-piece = 1G");
	assert_string_equal(conf.name, "two words");
	assert_true(conf.verbose);
	assert_int_equal(conf.count, 9);
	assert_int_equal(conf.to.n, 3);
	assert_string_equal(conf.to.item[2], "c#d");
	assert_int_equal(conf.size, 1 << 30);
	good("", "verbose = yes\nverbose = no\n");
	assert_false(conf.verbose);
}

static void test_argv_wins_over_file(void **state)
{
	(void)state;
	good("-c 3 -t z", "count = 9\nto = a\nname = n\n");
	assert_int_equal(conf.count, 3);
	assert_int_equal(conf.to.n, 1);
	assert_string_equal(conf.to.item[0], "z");
	assert_string_equal(conf.name, "n");
}

static void test_config_option(void **state)
{
	char args[128];

	(void)state;
	good("", "count = 9\n");
	snprintf(args, sizeof(args), "--config %s", file_name);
	good(args, NULL);
	assert_int_equal(conf.count, 9);
	bad("--config /nonexistent/x", NULL, "cannot read /nonexistent/x: No such file or directory");
	bad("--config /", NULL, "cannot read /: Is a directory");
	unlink(file_name);
	opt_free(table, &conf);
	assert_int_equal(opt_load(table, &conf, "config", file_name, 0, NULL, &rest, err),
			 0); /* no default file: fine */
}

static void test_messages_argv(void **state)
{
	(void)state;
	bad("--nix", NULL, "--nix: no such option (see --help)");
	bad("--nix=3", NULL, "--nix: no such option (see --help)");
	bad("--General", NULL, "--General: no such option (see --help)");
	bad("-x", NULL, "-x: no such option (see --help)");
	bad("-vx", NULL, "-x: no such option (see --help)");
	bad("--verbose=yes", NULL, "--verbose: takes no value");
	bad("--name", NULL, "--name: a value is missing (NAME)");
	bad("--name=", NULL, "--name: a value is missing (NAME)");
	bad("-n", NULL, "-n: a value is missing (NAME)");
	bad("--status=", NULL, "--status=: a value is missing (json)");
	bad("-t a,,b", NULL, "-t: empty item in the list");
	bad("-t a,", NULL, "-t: empty item in the list");
	bad("-c 0", NULL, "-c: '0' is not a number from 1 to 100");
	bad("-c 101", NULL, "-c: '101' is not a number from 1 to 100");
	bad("-c -5", NULL, "-c: '-5' is not a number from 1 to 100");
	bad("-c 5k", NULL, "-c: '5k' is not a number from 1 to 100");
	bad("-c 0x10", NULL, "-c: '0x10' is not a number from 1 to 100");
	bad("-c 18446744073709551617", NULL, "-c: '18446744073709551617' is not a number from 1 to 100");
#define SIZE "--size-of-the-largest-piece"
#define NOT_SIZE " is not a number of bytes (with K, M or G) from 1K to 1024G"
	bad(SIZE " 1023", NULL, SIZE ": '1023'" NOT_SIZE);
	bad(SIZE " 5T", NULL, SIZE ": '5T'" NOT_SIZE);
	bad(SIZE " 5KB", NULL, SIZE ": '5KB'" NOT_SIZE);
	bad(SIZE " K", NULL, SIZE ": 'K'" NOT_SIZE);
	bad(SIZE " 18446744073709551615G", NULL, SIZE ": '18446744073709551615G'" NOT_SIZE);
}

static void test_messages_file(void **state)
{
	static char big[6000];

	(void)state;
	bad("", "\nnix = 3\n", ":2: nix: no such option");
	bad("", "verbose\n", ":1: 'verbose': expected name = value");
	bad("", "verbose = maybe\n", ":1: verbose: 'maybe' is neither yes nor no");
	bad("", "name =\n", ":1: name: a value is missing");
	bad("", "config = x\n", ":1: config: only on the command line");
	bad("", "count = x\n", ":1: count: 'x' is not a number from 1 to 100");
	bad("", "= x\n", ":1: : no such option");
	bad("", "n\033[31m = x\n", ":1: n?[31m: no such option");
	memset(big, 'a', sizeof(big) - 1);
	bad("", big, ":1: line or file is too long");
	assert_int_equal(load("-x", "nix = 3\n"), -EINVAL); /* the command line is complained of first */
	assert_string_equal(err, "-x: no such option (see --help)");
}

static void test_help(void **state)
{
	char *text = NULL;
	size_t len;
	FILE *f = open_memstream(&text, &len);

	(void)state;
	opt_help(table, f);
	fclose(f);
	assert_non_null(strstr(text, "General:\n  -v, --verbose                 say more\n"));
	assert_non_null(strstr(text, "\nNumbers:\n"));
	assert_non_null(strstr(text, "  -n, --name NAME               who (default: joe)\n"));
	assert_non_null(
		strstr(text, "      --size-of-the-largest-piece BYTES\n                                how much"));
	assert_non_null(strstr(text, "      --status[=json]"));
	free(text);
}

static int setup(void **state)
{
	int fd = mkstemp(file_name);

	(void)state;
	if (fd == -1)
		return -1;
	close(fd);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	opt_free(table, &conf);
	unlink(file_name);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_defaults),
		cmocka_unit_test(test_argv),
		cmocka_unit_test(test_mode),
		cmocka_unit_test(test_file),
		cmocka_unit_test(test_argv_wins_over_file),
		cmocka_unit_test(test_config_option),
		cmocka_unit_test(test_messages_argv),
		cmocka_unit_test(test_messages_file),
		cmocka_unit_test(test_help),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
