/* SPDX-License-Identifier: Apache-2.0 */
/* log.c - one line per message on stderr. */
#include "log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define LINE_MAX_ 2048 /* bytes of a line; what is longer is cut */

static const char *program_name = "tlstap";
static enum log_level max_level = LOG_L_INFO;
static bool journal; /* stderr goes to systemd's journal */

static const char *const level_name[] = {
	[LOG_L_ERROR] = "error: ",
	[LOG_L_WARN] = "warning: ",
	[LOG_L_INFO] = "",
	[LOG_L_DEBUG] = "debug: ",
};
static const char level_syslog[] = {[LOG_L_ERROR] = '3', [LOG_L_WARN] = '4', [LOG_L_INFO] = '6', [LOG_L_DEBUG] = '7'};

/* $JOURNAL_STREAM is "device:inode" of the stream that systemd connected; a redirected stderr is another file. */
static bool stderr_is_journal(void)
{
	const char *s = getenv("JOURNAL_STREAM");
	unsigned long long dev, ino;
	struct stat st;

	return s && sscanf(s, "%llu:%llu", &dev, &ino) == 2 && fstat(STDERR_FILENO, &st) == 0 && st.st_dev == dev &&
	       st.st_ino == ino;
}

void log_init(const char *program, enum log_level level)
{
	program_name = program;
	max_level = level;
	journal = stderr_is_journal();
}

void log_set_level(enum log_level level)
{
	__atomic_store_n(&max_level, level, __ATOMIC_RELAXED);
}

/* Append @text to @line at @len, escaping all but printable ASCII. Returns the new length. */
static size_t put_escaped(char *line, size_t len, const char *text)
{
	for (; *text; text++) {
		unsigned char c = (unsigned char)*text;

		if (len + 5 > LINE_MAX_)
			break;
		if (c >= ' ' && c < 0x7f)
			line[len++] = (char)c;
		else
			len += (size_t)sprintf(line + len, "\\x%02x", c);
	}
	return len;
}

static size_t put_head(char *line, enum log_level level, const char *component)
{
	struct timespec now;
	struct tm tm;
	size_t len;

	if (journal)
		return (size_t)snprintf(line, LINE_MAX_ / 2, "<%c>%s: %s%s: ", level_syslog[level], program_name,
					level_name[level], component);
	clock_gettime(CLOCK_REALTIME, &now);
	localtime_r(&now.tv_sec, &tm);
	len = strftime(line, LINE_MAX_ / 2, "%Y-%m-%d %H:%M:%S", &tm);
	return len + (size_t)snprintf(line + len, LINE_MAX_ / 2, ".%03ld %s: %s%s: ", now.tv_nsec / 1000000,
				      program_name, level_name[level], component);
}

static void put(enum log_level level, int err, const char *component, const char *fmt, va_list ap)
{
	char text[LINE_MAX_], line[LINE_MAX_ + 1], why[128];
	int saved = errno;
	size_t len;

	if (level > __atomic_load_n(&max_level, __ATOMIC_RELAXED))
		return;
	vsnprintf(text, sizeof(text), fmt, ap);
	len = put_escaped(line, put_head(line, level, component), text);
	if (err) {
		len = put_escaped(line, len, ": ");
		len = put_escaped(line, len, strerror_r(err < 0 ? -err : err, why, sizeof(why)));
	}
	line[len++] = '\n';
	/* Nobody can be told that the log does not work. */
	if (write(STDERR_FILENO, line, len) == -1)
		errno = saved;
	errno = saved;
}

#define LOG_BODY(level, err)                         \
	do {                                         \
		va_list ap;                          \
		va_start(ap, fmt);                   \
		put(level, err, component, fmt, ap); \
		va_end(ap);                          \
	} while (0)

void log_error(const char *component, const char *fmt, ...)
{
	LOG_BODY(LOG_L_ERROR, 0);
}

void log_warn(const char *component, const char *fmt, ...)
{
	LOG_BODY(LOG_L_WARN, 0);
}

void log_info(const char *component, const char *fmt, ...)
{
	LOG_BODY(LOG_L_INFO, 0);
}

void log_debug(const char *component, const char *fmt, ...)
{
	LOG_BODY(LOG_L_DEBUG, 0);
}

void log_error_errno(const char *component, int err, const char *fmt, ...)
{
	LOG_BODY(LOG_L_ERROR, err);
}

void log_warn_errno(const char *component, int err, const char *fmt, ...)
{
	LOG_BODY(LOG_L_WARN, err);
}
