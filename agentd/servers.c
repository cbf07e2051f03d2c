/* SPDX-License-Identifier: Apache-2.0 */
/* servers.c - sessions per TLS server: since the start, and in the last minute. */
#include "servers.h"

#include <arpa/inet.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "common/log.h"
#include "escape.h"
#include "hello.h"
#include "session.h"

#define BUCKETS 12
#define BUCKET_NS 5000000000ull
#define NAMED_IN_LOG 4

struct bucket {
	uint64_t epoch;
	uint32_t seen, delivered;
};

struct sum {
	uint64_t seen, delivered, missed;
	struct bucket b[BUCKETS];
};

struct server {
	struct sum sum;
	uint8_t addr[16];
	uint16_t port;
	uint8_t ver;
	uint32_t next; /* in its chain: number + 1 */
	char sni[HELLO_NAME_MAX + 1];
};

struct servers {
	uint32_t n, max, mask;
	uint64_t seed;
	struct sum total, others;
	struct server *server;
	uint32_t *chain; /* number + 1 */
};

struct servers *servers_new(uint32_t max)
{
	struct servers *s = calloc(1, sizeof(*s));

	if (!s)
		return NULL;
	s->max = max;
	for (s->mask = 1; s->mask < max; s->mask *= 2)
		;
	s->mask--;
	s->server = calloc(max, sizeof(s->server[0]));
	s->chain = calloc(s->mask + 1, sizeof(s->chain[0]));
	(void)!getrandom(&s->seed, sizeof(s->seed), 0);
	if (!s->server || !s->chain)
		servers_free(&s);
	return s;
}

void servers_free(struct servers **s)
{
	if (*s) {
		free((*s)->server);
		free((*s)->chain);
		free(*s);
	}
	*s = NULL;
}

uint32_t servers_find(struct servers *s, const struct tuple *t, const char *sni)
{
	uint64_t h =
		session_hash(sni, strlen(sni), session_hash(t->addr[SIDE_SERVER], 16, s->seed + t->port[SIDE_SERVER]));
	uint32_t *head = &s->chain[h & s->mask], i;
	struct server *v;

	for (i = *head; i; i = v->next) {
		v = &s->server[i - 1];
		if (v->port == t->port[SIDE_SERVER] && v->ver == t->ver &&
		    memcmp(v->addr, t->addr[SIDE_SERVER], sizeof(v->addr)) == 0 && strcmp(v->sni, sni) == 0)
			return i - 1;
	}
	if (s->n == s->max)
		return s->max;
	v = &s->server[s->n++];
	memcpy(v->addr, t->addr[SIDE_SERVER], sizeof(v->addr));
	v->port = t->port[SIDE_SERVER];
	v->ver = t->ver;
	(void)snprintf(v->sni, sizeof(v->sni), "%s", sni);
	v->next = *head;
	*head = s->n;
	return s->n - 1;
}

static struct sum *sum_of(struct servers *s, uint32_t server)
{
	return server < s->n ? &s->server[server].sum : &s->others;
}

/* The bucket of time @ns; NULL: that time is over. */
static struct bucket *bucket_of(struct sum *sum, uint64_t ns)
{
	uint64_t epoch = ns / BUCKET_NS + 1; /* 0: never used */
	struct bucket *b = &sum->b[epoch % BUCKETS];

	if (b->epoch > epoch)
		return NULL;
	if (b->epoch < epoch)
		*b = (struct bucket){.epoch = epoch};
	return b;
}

static void add_seen(struct sum *sum, uint64_t ns)
{
	struct bucket *b = bucket_of(sum, ns);

	sum->seen++;
	if (b)
		b->seen++;
}

static void add_delivered(struct sum *sum, uint64_t seen_ns)
{
	struct bucket *b = bucket_of(sum, seen_ns);

	sum->delivered++;
	if (b)
		b->delivered++;
}

void servers_seen(struct servers *s, uint32_t server, uint64_t now_ns)
{
	add_seen(sum_of(s, server), now_ns);
	add_seen(&s->total, now_ns);
}

void servers_delivered(struct servers *s, uint32_t server, uint64_t seen_ns)
{
	add_delivered(sum_of(s, server), seen_ns);
	add_delivered(&s->total, seen_ns);
}

void servers_missed(struct servers *s, uint32_t server, int n)
{
	sum_of(s, server)->missed += (uint64_t)(int64_t)n;
	s->total.missed += (uint64_t)(int64_t)n;
}

static struct servers_count sum_count(const struct sum *sum, uint64_t now_ns)
{
	struct servers_count c = {.seen = sum->seen, .delivered = sum->delivered, .missed = sum->missed};
	uint64_t epoch = now_ns / BUCKET_NS + 1;

	for (unsigned i = 0; i < BUCKETS; i++)
		if (sum->b[i].epoch + BUCKETS > epoch) {
			c.minute_seen += sum->b[i].seen;
			c.minute_delivered += sum->b[i].delivered;
		}
	return c;
}

void servers_total(const struct servers *s, uint64_t now_ns, struct servers_count *ret)
{
	*ret = sum_count(&s->total, now_ns);
}

static void json_count(const struct sum *sum, uint64_t now_ns, FILE *to)
{
	struct servers_count c = sum_count(sum, now_ns);

	fprintf(to,
		"\"seen\": %" PRIu64 ", \"delivered\": %" PRIu64 ", \"missed\": %" PRIu64 ", \"open\": %" PRIu64
		", \"minute\": {\"seen\": %" PRIu64 ", \"delivered\": %" PRIu64 "}",
		c.seen, c.delivered, c.missed, c.seen - c.delivered - c.missed, c.minute_seen, c.minute_delivered);
}

static const char *address(const struct server *v, char ret[static INET6_ADDRSTRLEN])
{
	return inet_ntop(v->ver == 6 ? AF_INET6 : AF_INET, v->addr, ret, INET6_ADDRSTRLEN);
}

void servers_json(const struct servers *s, uint64_t now_ns, FILE *to)
{
	char text[INET6_ADDRSTRLEN];

	json_count(&s->total, now_ns, to);
	fputs(", \"servers\": [", to);
	for (uint32_t i = 0; i < s->n; i++) {
		const struct server *v = &s->server[i];

		fprintf(to, "%s{\"address\": \"%s\", \"port\": %u, \"sni\": ", i ? ", " : "", address(v, text),
			v->port);
		escape_json(to, v->sni);
		fputs(", ", to);
		json_count(&v->sum, now_ns, to);
		fputc('}', to);
	}
	fputs("], \"others\": {", to);
	json_count(&s->others, now_ns, to);
	fputc('}', to);
}

static int by_missed(const void *a, const void *b, void *arg)
{
	const struct servers *s = arg;
	const struct sum *x = &s->server[*(const uint32_t *)a].sum, *y = &s->server[*(const uint32_t *)b].sum;

	return x->missed != y->missed ? (x->missed < y->missed) - (x->missed > y->missed)
				      : (x->seen < y->seen) - (x->seen > y->seen);
}

/* The numbers of the servers, those that miss most first. NULL: no memory, or none. The caller frees it. */
static uint32_t *sorted(const struct servers *s)
{
	uint32_t *order = s->n ? calloc(s->n, sizeof(*order)) : NULL;

	for (uint32_t i = 0; order && i < s->n; i++)
		order[i] = i;
	if (order)
		qsort_r(order, s->n, sizeof(*order), by_missed, (void *)(uintptr_t)s);
	return order;
}

static void line(const struct server *v, FILE *to)
{
	char text[INET6_ADDRSTRLEN];

	fprintf(to, "%u to %s", v->port, address(v, text));
	if (v->sni[0]) {
		fputs(" (", to);
		escape_text(to, v->sni);
		fputc(')', to);
	}
	fprintf(to, ": %" PRIu64 " sessions seen, %" PRIu64 " in the clear", v->sum.seen, v->sum.delivered);
}

void servers_text(const struct servers *s, uint64_t now_ns, unsigned max, FILE *to)
{
	uint32_t *order = sorted(s);

	for (uint32_t i = 0; order && i < s->n && i < max; i++) {
		struct servers_count c = sum_count(&s->server[order[i]].sum, now_ns);

		fputs("  ", to);
		line(&s->server[order[i]], to);
		fprintf(to, "; last minute: %" PRIu64 ", %" PRIu64 "\n", c.minute_seen, c.minute_delivered);
	}
	if (s->n > max)
		fprintf(to, "  ... and %u more servers, see --status=json\n", s->n - max);
	if (s->others.seen)
		fprintf(to, "  others: %" PRIu64 " sessions seen, %" PRIu64 " in the clear\n", s->others.seen,
			s->others.delivered);
	free(order);
}

void servers_log(const struct servers *s, uint64_t now_ns)
{
	struct servers_count c = sum_count(&s->total, now_ns);
	uint32_t *order = sorted(s), named = 0, missing = 0;
	char *text = NULL;
	size_t len;
	FILE *to = open_memstream(&text, &len);

	for (uint32_t i = 0; order && to && i < s->n && s->server[order[i]].sum.missed; i++) {
		missing++;
		if (named == NAMED_IN_LOG)
			continue;
		fputs(named++ ? "; " : "; missing: ", to);
		line(&s->server[order[i]], to);
	}
	if (to && missing > named)
		fprintf(to, "; and %u servers more", missing - named);
	if (to)
		fclose(to);
	log_info("sessions",
		 "%" PRIu64 " sessions seen, %" PRIu64 " in the clear (last minute: %" PRIu64 ", %" PRIu64 ")%s",
		 c.seen, c.delivered, c.minute_seen, c.minute_delivered, text ? text : "");
	free(text);
	free(order);
}
