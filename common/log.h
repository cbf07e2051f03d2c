/* SPDX-License-Identifier: Apache-2.0 */
/* log.h - one line per message on stderr, component first: "agentd: tunnel: connected to ...".
 *
 * Under systemd ($JOURNAL_STREAM names our stderr) each line begins with its level as "<6>"
 * (sd-daemon(3)), else with the time. Bytes that are not printable are shown escaped, so that names
 * which a process or a peer chose cannot forge lines. Any thread. A line is one write(2). */
#ifndef TLSTAP_LOG_H
#define TLSTAP_LOG_H

enum log_level { LOG_L_ERROR, LOG_L_WARN, LOG_L_INFO, LOG_L_DEBUG };

/* @program is borrowed for good. Messages above @level are not written. */
void log_init(const char *program, enum log_level level);
void log_set_level(enum log_level level);

#define LOG_FMT(a, b) __attribute__((format(printf, a, b)))
void log_error(const char *component, const char *fmt, ...) LOG_FMT(2, 3);
void log_warn(const char *component, const char *fmt, ...) LOG_FMT(2, 3);
void log_info(const char *component, const char *fmt, ...) LOG_FMT(2, 3);
void log_debug(const char *component, const char *fmt, ...) LOG_FMT(2, 3);
/* As above, and ": " and the text of @err (an errno value) at the end. */
void log_error_errno(const char *component, int err, const char *fmt, ...) LOG_FMT(3, 4);
void log_warn_errno(const char *component, int err, const char *fmt, ...) LOG_FMT(3, 4);

#endif
