/* SPDX-License-Identifier: Apache-2.0 */
/* opt.h - one table of options -> command line, configuration file, --help.
 *
 * A program states each option once; what it means to the three sources follows from the table.
 * Configuration files hold one "name = value" a line with the long names (flags: "name = yes|no"),
 * '#' begins a comment; the command line wins over the file, the file over the default. */
#ifndef TLSTAP_OPT_H
#define TLSTAP_OPT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

enum opt_type {
	OPT_FLAG,   /* bool */
	OPT_STRING, /* char *, allocated; freed by opt_free() */
	OPT_LIST,   /* struct opt_list: may be given several times; commas separate too */
	OPT_UINT,   /* uint64_t, decimal, min..max */
	OPT_SIZE,   /* uint64_t bytes, suffixes K M G (1024), min..max */
	OPT_MODE,   /* like OPT_STRING, but the value is optional (--status[=json]): "" without */
	OPT_HEAD,   /* no option: a heading in --help */
};

#define OPT_ARGV_ONLY 1u /* not in the configuration file (--config, --help, --status ...) */

struct opt_list {
	char **item; /* n strings, allocated */
	size_t n;
};

/* The table ends with an entry whose name is NULL. */
struct opt {
	enum opt_type type;
	unsigned flags;
	char letter;	   /* 0: none */
	const char *name;  /* long name, or the heading's text */
	const char *arg;   /* what --help calls its value, e.g. "HOST[:PORT]" */
	size_t offset;	   /* of its field in the program's configuration struct */
	uint64_t min, max; /* OPT_UINT, OPT_SIZE */
	const char *def;   /* default as one would type it, shown by --help; NULL: none */
	const char *help;  /* one sentence, no full stop */
};

#define OPT_ERR 512

/* Fill @conf (zeroed by the caller) from defaults, then the file, then argv.
 * @file_opt     name of the option that names the file ("config"), or NULL: no file
 * @default_file read if that option is not given and the file exists
 * @ret_rest     index of the first argument that is no option
 * Returns 0, or -EINVAL with one line in @err that names the option (and for a file its name and
 * line) and what was expected. @conf then holds what opt_free() can free. */
int opt_load(const struct opt *table, void *conf, const char *file_opt, const char *default_file, int argc, char **argv,
	     int *ret_rest, char err[static OPT_ERR]);

void opt_free(const struct opt *table, void *conf);

/* Print the options as --help shows them. */
void opt_help(const struct opt *table, FILE *to);

#endif
