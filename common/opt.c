/* SPDX-License-Identifier: Apache-2.0 */
/* opt.c - one table of options -> command line, configuration file, --help. */
#include "opt.h"

#include <assert.h>
#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#define OPT_MAX 64	    /* options of a table */
#define FILE_MAX_ (1 << 20) /* bytes of a configuration file */
#define LINE_MAX_ 4096	    /* bytes of one of its lines */

/* Where a value comes from, weakest first. */
enum source { FROM_NOWHERE, FROM_DEFAULT, FROM_FILE, FROM_ARGV };

/* Where each option's value came from, in the opt_load() under way. */
static enum source origin[OPT_MAX];

struct load {
	const struct opt *table;
	void *conf;
	char *err;
	const char *file; /* being read, or NULL: argv */
	unsigned line;
	enum source from;
};

static int complain(const struct load *l, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

static int complain(const struct load *l, const char *fmt, ...)
{
	int n = l->file ? snprintf(l->err, OPT_ERR, "%s:%u: ", l->file, l->line) : 0;
	va_list ap;

	if (n < 0 || n >= OPT_ERR)
		n = 0;
	va_start(ap, fmt);
	vsnprintf(l->err + n, OPT_ERR - (size_t)n, fmt, ap);
	va_end(ap);
	/* one line, whatever was typed */
	for (char *p = l->err; *p; p++) {
		if ((unsigned char)*p < ' ' || *p == 0x7f)
			*p = '?';
	}
	return -EINVAL;
}

static void *field(const struct load *l, const struct opt *o)
{
	return (char *)l->conf + o->offset;
}

/* Memory is missing at start only, and then there is nothing to go on with. */
static char *copy(const char *s, size_t n)
{
	char *r = strndup(s, n);

	if (!r)
		abort();
	return r;
}

static void list_clear(struct opt_list *list)
{
	for (size_t i = 0; i < list->n; i++)
		free(list->item[i]);
	free(list->item);
	*list = (struct opt_list){0};
}

static int list_add(const struct load *l, const char *name, struct opt_list *list, const char *value)
{
	for (;;) {
		size_t n = strcspn(value, ",");

		if (n == 0)
			return complain(l, "%s: empty item in the list", name);
		list->item = reallocarray(list->item, list->n + 1, sizeof(*list->item));
		if (!list->item)
			abort();
		list->item[list->n++] = copy(value, n);
		if (!value[n])
			return 0;
		value += n + 1;
	}
}

/* Digits, and for a size one of K M G. Returns false if @s is anything else or too large for 64 bits. */
static bool parse_number(const char *s, bool size, uint64_t *ret)
{
	uint64_t v = 0;
	unsigned shift = 0;

	if (!isdigit((unsigned char)*s))
		return false;
	for (; isdigit((unsigned char)*s); s++) {
		if (__builtin_mul_overflow(v, 10, &v) || __builtin_add_overflow(v, (uint64_t)(*s - '0'), &v))
			return false;
	}
	if (size && *s) {
		const char *at = strchr("KMGkmg", *s);

		shift = at ? 10 * (unsigned)((at - "KMGkmg") % 3 + 1) : 0;
		if (!shift || s[1])
			return false;
		s++;
	}
	if (*s || (shift && v >> (64 - shift)))
		return false;
	*ret = v << shift;
	return true;
}

/* "128M" for --help and messages. */
static const char *size_str(uint64_t v, bool size, char buf[static 32])
{
	static const char unit[] = {0, 'K', 'M', 'G'};
	unsigned u = 0;

	while (size && u < 3 && v && v % 1024 == 0) {
		v /= 1024;
		u++;
	}
	snprintf(buf, 32, u ? "%llu%c" : "%llu", (unsigned long long)v, unit[u]);
	return buf;
}

static int set_number(const struct load *l, const struct opt *o, const char *name, const char *value)
{
	bool size = o->type == OPT_SIZE;
	char lo[32], hi[32];
	uint64_t v;

	if (parse_number(value, size, &v) && v >= o->min && v <= o->max) {
		*(uint64_t *)field(l, o) = v;
		return 0;
	}
	return complain(l, "%s: '%s' is not %s from %s to %s", name, value,
			size ? "a number of bytes (with K, M or G)" : "a number", size_str(o->min, size, lo),
			size_str(o->max, size, hi));
}

static void set_string(const struct load *l, const struct opt *o, const char *value)
{
	char **p = field(l, o);

	free(*p);
	*p = copy(value, strlen(value));
}

/* Give @o the value @value (NULL: none was given). @name as the user wrote it. */
static int set(struct load *l, const struct opt *o, const char *name, const char *value)
{
	size_t i = (size_t)(o - l->table);
	enum source before = origin[i];
	int r = 0;

	switch (o->type) {
	case OPT_FLAG:
		*(bool *)field(l, o) = true;
		break;
	case OPT_STRING:
		if (!*value)
			return complain(l, "%s: a value is missing (%s)", name, o->arg);
		set_string(l, o, value);
		break;
	case OPT_MODE:
		set_string(l, o, value ? value : "");
		break;
	case OPT_LIST:
		/* a stronger source replaces the list of a weaker one; one source adds up */
		if (before != l->from)
			list_clear(field(l, o));
		r = list_add(l, name, field(l, o), value);
		break;
	case OPT_UINT:
	case OPT_SIZE:
		r = set_number(l, o, name, value);
		break;
	case OPT_HEAD:
		break;
	}
	origin[i] = l->from;
	return r;
}

static const struct opt *find(const struct opt *table, const char *name, size_t len, char letter)
{
	for (const struct opt *o = table; o->name; o++) {
		if (o->type == OPT_HEAD)
			continue;
		if (letter ? o->letter == letter : strlen(o->name) == len && memcmp(o->name, name, len) == 0)
			return o;
	}
	return NULL;
}

static bool takes_value(const struct opt *o)
{
	return o->type != OPT_FLAG && o->type != OPT_MODE;
}

/* argv[i] is "--name", "--name=value" or "--name value". Returns arguments used, or -EINVAL. */
static int long_option(struct load *l, char *const *argv)
{
	const char *text = argv[0] + 2;
	size_t len = strcspn(text, "=");
	const char *value = text[len] ? text + len + 1 : NULL;
	const struct opt *o = find(l->table, text, len, 0);
	char name[64];
	int used = 1;

	if (!o)
		return complain(l, "--%.*s: no such option (see --help)", (int)len, text);
	snprintf(name, sizeof(name), "--%s", o->name);
	if (o->type == OPT_FLAG && value)
		return complain(l, "%s: takes no value", name);
	if (takes_value(o) && !value) {
		value = argv[1];
		used = 2;
		if (!value)
			return complain(l, "%s: a value is missing (%s)", name, o->arg);
	}
	if (o->type == OPT_MODE && value && !*value)
		return complain(l, "%s=: a value is missing (%s)", name, o->arg);
	return set(l, o, name, value) ? -EINVAL : used;
}

/* argv[i] is "-x", "-xVALUE", "-x VALUE", or flags in one word, "-xyz". Returns arguments used, or -EINVAL. */
static int short_options(struct load *l, char *const *argv)
{
	for (const char *p = argv[0] + 1; *p; p++) {
		const struct opt *o = find(l->table, NULL, 0, *p);
		char name[3] = {'-', *p, '\0'};

		if (!o)
			return complain(l, "%s: no such option (see --help)", name);
		if (takes_value(o)) {
			const char *value = p[1] ? p + 1 : argv[1];

			if (!value)
				return complain(l, "%s: a value is missing (%s)", name, o->arg);
			return set(l, o, name, value) ? -EINVAL : 1 + !p[1];
		}
		if (set(l, o, name, NULL))
			return -EINVAL;
	}
	return 1;
}

static int read_argv(struct load *l, int argc, char **argv, int *ret_rest)
{
	int i = argc ? 1 : 0;

	l->file = NULL;
	l->from = FROM_ARGV;
	while (i < argc && argv[i][0] == '-' && argv[i][1]) {
		int used;

		if (strcmp(argv[i], "--") == 0) {
			i++;
			break;
		}
		used = argv[i][1] == '-' ? long_option(l, argv + i) : short_options(l, argv + i);
		if (used < 0)
			return used;
		i += used;
	}
	*ret_rest = i;
	return 0;
}

static char *strip(char *s)
{
	size_t n;

	while (isspace((unsigned char)*s))
		s++;
	n = strlen(s);
	while (n && isspace((unsigned char)s[n - 1]))
		s[--n] = '\0';
	return s;
}

/* '#' begins a comment at the start of a line or after a blank: a value may hold one. */
static void cut_comment(char *s)
{
	for (char *p = s; *p; p++) {
		if (*p == '#' && (p == s || isspace((unsigned char)p[-1]))) {
			*p = '\0';
			return;
		}
	}
}

static int flag_in_file(struct load *l, const struct opt *o, const char *value)
{
	if (strcmp(value, "yes") == 0)
		return set(l, o, o->name, NULL);
	if (strcmp(value, "no") != 0)
		return complain(l, "%s: '%s' is neither yes nor no", o->name, value);
	*(bool *)field(l, o) = false;
	origin[o - l->table] = l->from;
	return 0;
}

static int read_line(struct load *l, char *line)
{
	const struct opt *o;
	char *name, *value;

	cut_comment(line);
	name = strip(line);
	if (!*name)
		return 0;
	value = strchr(name, '=');
	if (!value)
		return complain(l, "'%s': expected name = value", name);
	*value++ = '\0';
	name = strip(name);
	value = strip(value);
	o = find(l->table, name, strlen(name), 0);
	if (!o)
		return complain(l, "%s: no such option", name);
	if (o->flags & OPT_ARGV_ONLY)
		return complain(l, "%s: only on the command line", name);
	if (!*value)
		return complain(l, "%s: a value is missing", name);
	if (o->type == OPT_FLAG)
		return flag_in_file(l, o, value);
	return set(l, o, name, value);
}

/* @must: it is an error that the file is not there */
static int read_file(struct load *l, const char *path, bool must)
{
	char line[LINE_MAX_];
	size_t total = 0;
	int r = 0, c;
	FILE *f = fopen(path, "re");

	l->file = NULL;
	if (!f)
		return must || errno != ENOENT ? complain(l, "cannot read %s: %s", path, strerror(errno)) : 0;
	l->file = path;
	l->line = 0;
	l->from = FROM_FILE;
	do {
		size_t n = 0;

		l->line++;
		while ((c = getc(f)) != EOF && c != '\n') {
			if (c == '\0' || n == sizeof(line) - 1 || ++total > FILE_MAX_) {
				r = complain(l, c ? "line or file is too long" : "not a text file");
				goto out;
			}
			line[n++] = (char)c;
		}
		line[n] = '\0';
		r = read_line(l, line);
	} while (c != EOF && r == 0);
	if (r == 0 && ferror(f)) {
		l->file = NULL;
		r = complain(l, "cannot read %s: %s", path, strerror(errno));
	}
out:
	fclose(f);
	return r;
}

static int defaults(struct load *l)
{
	l->file = NULL;
	l->from = FROM_DEFAULT;
	for (const struct opt *o = l->table; o->name; o++) {
		if (o->type != OPT_HEAD && o->def && set(l, o, o->name, o->def))
			return -EINVAL;
	}
	return 0;
}

int opt_load(const struct opt *table, void *conf, const char *file_opt, const char *default_file, int argc, char **argv,
	     int *ret_rest, char err[static OPT_ERR])
{
	struct load l = {.table = table, .conf = conf, .err = err};
	const struct opt *file = file_opt ? find(table, file_opt, strlen(file_opt), 0) : NULL;
	char *path;
	int r, rest;

	for (r = 0; table[r].name; r++)
		assert(r < OPT_MAX);
	memset(origin, 0, sizeof(origin));
	/* argv goes first, to learn the file's name and to report its mistakes first; then all once more in order */
	r = read_argv(&l, argc, argv, &rest);
	if (r)
		return r;
	path = file && *(char **)field(&l, file) ? strdup(*(char **)field(&l, file)) : NULL;
	opt_free(table, conf);
	memset(origin, 0, sizeof(origin));
	r = defaults(&l);
	if (r == 0 && (path || (file && default_file)))
		r = read_file(&l, path ? path : default_file, path != NULL);
	free(path);
	if (r == 0)
		r = read_argv(&l, argc, argv, &rest);
	if (r == 0)
		*ret_rest = rest;
	return r;
}

void opt_free(const struct opt *table, void *conf)
{
	struct load l = {.table = table, .conf = conf};

	for (const struct opt *o = table; o->name; o++) {
		switch (o->type) {
		case OPT_STRING:
		case OPT_MODE:
			free(*(char **)field(&l, o));
			*(char **)field(&l, o) = NULL;
			break;
		case OPT_LIST:
			list_clear(field(&l, o));
			break;
		case OPT_FLAG:
			*(bool *)field(&l, o) = false;
			break;
		case OPT_UINT:
		case OPT_SIZE:
			*(uint64_t *)field(&l, o) = 0;
			break;
		case OPT_HEAD:
			break;
		}
	}
}

void opt_help(const struct opt *table, FILE *to)
{
	for (const struct opt *o = table; o->name; o++) {
		char left[80];
		int n;

		if (o->type == OPT_HEAD) {
			fprintf(to, "%s%s:\n", o == table ? "" : "\n", o->name);
			continue;
		}
		n = o->letter ? snprintf(left, sizeof(left), "  -%c, --%s", o->letter, o->name)
			      : snprintf(left, sizeof(left), "      --%s", o->name);
		if (o->type == OPT_MODE)
			snprintf(left + n, sizeof(left) - (size_t)n, "[=%s]", o->arg);
		else if (o->arg)
			snprintf(left + n, sizeof(left) - (size_t)n, " %s", o->arg);
		if (strlen(left) > 30)
			fprintf(to, "%s\n%32s", left, "");
		else
			fprintf(to, "%-32s", left);
		fputs(o->help, to);
		if (o->def && o->type != OPT_FLAG)
			fprintf(to, " (default: %s)", o->def);
		fputc('\n', to);
	}
}
