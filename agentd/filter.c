/* SPDX-License-Identifier: Apache-2.0 */
/* filter.c - pcap filter expressions (see filter.h). */
#include "filter.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DEPTH_MAX 16 /* open parentheses; deeper ones are not told apart */
#define SHOWN 160    /* characters of an expression in a message */

/* What may follow a beginning that is right, so that all of it is an expression. Between the two go the brackets and
 * parentheses that are open. */
static const char *const first[] = {"",	      " 1",    " tcp",	 " 1.2.3.4", " 1-2", " 1:2:3:4:5:6",
				    " net 1", " eth0", " \\tcp", " ::1",     " mgt", " data"};
static const char *const then[] = {"", " = 1"};

#define N(a) (sizeof(a) / sizeof((a)[0]))

static bool compiles(pcap_t *p, const char *expr)
{
	struct bpf_program f;

	if (pcap_compile(p, &f, expr, 1, PCAP_NETMASK_UNKNOWN) != 0) /* "tcp and udp" may go on with "or" */
		return strstr(pcap_geterr(p), "rejects all") != NULL;
	pcap_freecode(&f);
	return true;
}

/* A word of letters, digits and what holds addresses together; or an operator; or one other character. */
static size_t word_len(const char *s)
{
	static const char in[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.:-/\\";
	size_t n = strspn(s, in);

	if (n == 0)
		n = strspn(s, "!=<>&|");
	return n > 0 ? n : *s != '\0';
}

/* Does an expression that begins with @expr[0..len) exist? */
static bool can_go_on(pcap_t *p, const char *expr, size_t len)
{
	unsigned parens = 0, brackets = 0;
	char *buf = malloc(len + 2 * DEPTH_MAX + 32);
	bool ok = false, syntax = true;

	if (buf == NULL)
		return true;
	for (size_t i = 0; i < len; i++) {
		parens += expr[i] == '(';
		parens -= expr[i] == ')' && parens > 0;
		brackets += expr[i] == '[';
		brackets -= expr[i] == ']' && brackets > 0;
	}
	if (parens > DEPTH_MAX)
		parens = DEPTH_MAX;
	memcpy(buf, expr, len);
	for (size_t a = 0; a < N(first) && !ok && syntax; a++)
		for (unsigned inner = 0; inner <= parens && !ok; inner++)
			for (size_t b = 0; b < N(then) && !ok; b++) {
				(void)sprintf(buf + len, "%s%s%.*s%s%.*s", first[a], brackets > 0 ? "]" : "",
					      (int)inner, "))))))))))))))))", then[b], (int)(parens - inner),
					      "))))))))))))))))");
				ok = compiles(p, buf);
				/* what the words mean is wrong: no word behind them helps */
				if (!ok && a == 0 && b == 0 && strstr(pcap_geterr(p), "syntax error") == NULL)
					syntax = false;
			}
	free(buf);
	return ok;
}

size_t filter_place(pcap_t *p, const char *expr, size_t *ret_len)
{
	size_t n = 0, low = 0, high, at = strlen(expr), len = strlen(expr);
	size_t *end = calloc(len + 1, sizeof(*end)); /* of each word */

	*ret_len = 0;
	if (end == NULL)
		return at;
	for (size_t i = strspn(expr, " \t\r\n"); i < len; i += strspn(expr + i, " \t\r\n")) {
		i += word_len(expr + i);
		end[n++] = i;
	}
	/* each beginning of a right beginning is right: the first wrong word can be searched for by halves */
	for (high = n; low < high;) {
		size_t middle = (low + high) / 2;

		if (can_go_on(p, expr, end[middle]))
			low = middle + 1;
		else
			high = middle;
	}
	if (low < n) {
		at = low > 0 ? end[low - 1] : 0;
		at += strspn(expr + at, " \t\r\n");
		*ret_len = end[low] - at;
	}
	free(end);
	return at;
}

int filter_set(pcap_t *p, const char *expr, char err[static FILTER_ERR])
{
	char why[PCAP_ERRBUF_SIZE], near[72] = "its end";
	struct bpf_program f;
	size_t at, len;
	int r;

	if (pcap_compile(p, &f, expr, 1, PCAP_NETMASK_UNKNOWN) == 0) {
		r = pcap_setfilter(p, &f);
		pcap_freecode(&f);
		if (r == 0)
			return 0;
		(void)snprintf(err, FILTER_ERR, "-p: the filter cannot be set: %.200s", pcap_geterr(p));
		return -EINVAL;
	}
	(void)snprintf(why, sizeof(why), "%s", pcap_geterr(p));
	at = filter_place(p, expr, &len);
	if (len > 0)
		(void)snprintf(near, sizeof(near), "\"%.*s\"", (int)(len < 60 ? len : 60), expr + at);
	(void)snprintf(err, FILTER_ERR, "-p: %.100s, at character %zu near %s: \"%.*s\"%s", why, at + 1, near, SHOWN,
		       expr,
		       strstr(why, "VLAN") != NULL && pcap_datalink(p) == DLT_LINUX_SLL2
			       ? "; VLAN tags cannot be filtered on \"any\": name an interface"
			       : "");
	for (char *c = err; *c != '\0'; c++)
		if ((unsigned char)*c < ' ' || *c == 0x7f)
			*c = ' ';
	return -EINVAL;
}
