/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_conf.c - any bytes as a configuration file: loaded or refused with one line, nothing leaked. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common/opt.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

struct conf {
	bool flag;
	char *string, *config;
	struct opt_list list;
	uint64_t n, size;
};

#define F(f) offsetof(struct conf, f)
static const struct opt table[] = {
	{OPT_FLAG, 0, 'f', "flag", NULL, F(flag), 0, 0, NULL, "flag"},
	{OPT_STRING, 0, 's', "string", "S", F(string), 0, 0, "x", "string"},
	{OPT_LIST, 0, 'l', "list", "L", F(list), 0, 0, "a,b", "list"},
	{OPT_UINT, 0, 'n', "number", "N", F(n), 1, 1000, "5", "number"},
	{OPT_SIZE, 0, 0, "size", "BYTES", F(size), 1, UINT64_MAX, "5K", "size"},
	{OPT_STRING, OPT_ARGV_ONLY, 'c', "config", "FILE", F(config), 0, 0, NULL, "file"},
	{0},
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	static int fd = -1;
	static char name[32];
	char *argv[] = {"x", NULL}, err[OPT_ERR] = "";
	struct conf conf = {0};
	int rest;

	if (fd == -1) {
		fd = memfd_create("conf", 0);
		snprintf(name, sizeof(name), "/proc/self/fd/%d", fd);
	}
	if (ftruncate(fd, 0) == -1 || pwrite(fd, data, len, 0) != (ssize_t)len)
		abort();
	if (opt_load(table, &conf, "config", name, 1, argv, &rest, err) != 0) {
		size_t n = strlen(err);

		if (n == 0 || n >= OPT_ERR || strpbrk(err, "\r\n\033"))
			abort();
	} else if (!conf.string || conf.n < 1 || conf.n > 1000 || conf.list.n < 1 || conf.size < 1) {
		abort();
	}
	opt_free(table, &conf);
	return 0;
}
