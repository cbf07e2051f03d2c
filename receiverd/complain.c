/* SPDX-License-Identifier: Apache-2.0 */
/* complain.c - lines about peers, within limits (see complain.h). */
#include "complain.h"

#include <netinet/in.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "common/sock.h"

#define SLOTS 256
#define PERIOD_S 60.0

struct slot {
	uint8_t key[8];
	double at;	/* the period began */
	unsigned lines; /* in it; 0: not used */
	unsigned long kept_back;
};

struct kind {
	unsigned per_addr;    /* lines about one address in a period */
	double burst, rate_s; /* lines that may come at once, all addresses together; and then in a second */
	double spent;	      /* of the burst, at spent_at */
	double spent_at;
	struct slot slot[SLOTS];
};

static struct kind complaints = {.per_addr = 1, .burst = 30, .rate_s = 1};
static struct kind remarks = {.per_addr = 20, .burst = 200, .rate_s = 10};

static void key_of(const struct sockaddr_storage *sa, uint8_t ret[static 8])
{
	memset(ret, 0, 8);
	if (sa->ss_family == AF_INET) {
		memcpy(ret, &((const struct sockaddr_in *)sa)->sin_addr, 4);
	} else if (sa->ss_family == AF_INET6) {
		const struct in6_addr *a = &((const struct sockaddr_in6 *)sa)->sin6_addr;

		if (IN6_IS_ADDR_V4MAPPED(a))
			memcpy(ret, a->s6_addr + 12, 4);
		else
			memcpy(ret, a->s6_addr, 8);
	}
}

bool complain_same(const struct sockaddr_storage *a, const struct sockaddr_storage *b)
{
	uint8_t x[8], y[8];

	key_of(a, x);
	key_of(b, y);
	return memcmp(x, y, sizeof(x)) == 0;
}

/* May one more line of kind @k about @sa be written? @ret_kept_back: how many were not. */
static bool may(struct kind *k, const struct sockaddr_storage *sa, double now, unsigned long *ret_kept_back)
{
	uint8_t key[8];
	struct slot *s;
	unsigned h = 0;
	bool same;

	key_of(sa, key);
	for (size_t i = 0; i < sizeof(key); i++)
		h = h * 31 + key[i];
	s = &k->slot[h % SLOTS];
	same = s->lines > 0 && memcmp(s->key, key, sizeof(key)) == 0;
	if (same && now - s->at < PERIOD_S && s->lines >= k->per_addr) {
		s->kept_back++;
		return false;
	}
	k->spent -= (now - k->spent_at) * k->rate_s;
	k->spent = k->spent < 0 ? 0 : k->spent;
	k->spent_at = now;
	if (k->spent > k->burst - 1)
		return false;
	k->spent++;
	*ret_kept_back = same ? s->kept_back : 0;
	if (!same || now - s->at >= PERIOD_S)
		*s = (struct slot){.at = now};
	s->kept_back = 0;
	s->lines++;
	memcpy(s->key, key, sizeof(key));
	return true;
}

/* "ADDRESS: TEXT (and N like it before)" */
static void write_line(enum log_level level, const struct sockaddr_storage *sa, unsigned long kept_back,
		       const char *fmt, va_list ap)
{
	char text[512], more[48] = "", peer[SOCK_STRLEN];

	(void)vsnprintf(text, sizeof(text), fmt, ap);
	if (kept_back > 0)
		(void)snprintf(more, sizeof(more), " (and %lu like it before)", kept_back);
	(void)sock_str((const struct sockaddr *)sa,
		       sa->ss_family == AF_INET ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6), peer);
	if (level == LOG_L_WARN)
		log_warn("session", "%s: %s%s", peer, text, more);
	else
		log_info("session", "%s: %s%s", peer, text, more);
}

bool complain(const struct sockaddr_storage *sa, double now, const char *fmt, ...)
{
	unsigned long kept_back;
	va_list ap;

	if (!may(&complaints, sa, now, &kept_back))
		return false;
	va_start(ap, fmt);
	write_line(LOG_L_WARN, sa, kept_back, fmt, ap);
	va_end(ap);
	return true;
}

bool remark(const struct sockaddr_storage *sa, double now, const char *fmt, ...)
{
	unsigned long kept_back;
	va_list ap;

	if (!may(&remarks, sa, now, &kept_back))
		return false;
	va_start(ap, fmt);
	write_line(LOG_L_INFO, sa, kept_back, fmt, ap);
	va_end(ap);
	return true;
}
