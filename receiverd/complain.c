/* SPDX-License-Identifier: Apache-2.0 */
/* complain.c - lines about peers that misbehave (see complain.h). */
#include "complain.h"

#include <netinet/in.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "common/sock.h"

#define SLOTS 256
#define PERIOD_S 60.0
#define BURST 30.0 /* lines that may come at once, all addresses together */

struct slot {
	uint8_t key[8];
	double at;
	unsigned long kept_back;
	bool used;
};

static struct slot slots[SLOTS];
static double credit = BURST, credit_at;

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

bool complain(const struct sockaddr_storage *sa, double now, const char *fmt, ...)
{
	uint8_t key[8];
	char text[256], more[48] = "", peer[SOCK_STRLEN];
	struct slot *s;
	unsigned h = 0;
	va_list ap;

	key_of(sa, key);
	for (size_t i = 0; i < sizeof(key); i++)
		h = h * 31 + key[i];
	s = &slots[h % SLOTS];
	if (s->used && memcmp(s->key, key, sizeof(key)) == 0 && now - s->at < PERIOD_S) {
		s->kept_back++;
		return false;
	}
	credit += now - credit_at;
	credit_at = now;
	credit = credit > BURST ? BURST : credit;
	if (credit < 1)
		return false;
	credit--;
	if (s->used && memcmp(s->key, key, sizeof(key)) == 0 && s->kept_back > 0)
		(void)snprintf(more, sizeof(more), " (and %lu like it before)", s->kept_back);
	*s = (struct slot){.at = now, .used = true};
	memcpy(s->key, key, sizeof(key));

	va_start(ap, fmt);
	(void)vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	log_warn("session", "%s: %s%s",
		 sock_str((const struct sockaddr *)sa,
			  sa->ss_family == AF_INET ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6), peer),
		 text, more);
	return true;
}
