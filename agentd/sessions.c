/* SPDX-License-Identifier: Apache-2.0 */
/* sessions.c - what becomes of the sessions seen on the wire. */
#include "sessions.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "coverage.h"
#include "nets.h"
#include "servers.h"
#include "session.h"

#define FRESH_MAX (SESSIONS_MAX / 4) /* hellos without an answer cost nothing to send: they do not displace sessions */
#define YOUNG_NS 1000000000ull
#define SERVERS_SHOWN 64

struct sessions {
	struct session_table t;
	struct servers *servers; /* NULL: no -H */
	struct coverage coverage;
	struct net net[SESSIONS_NETS_MAX];
	unsigned nets;
	uint64_t now_ns, logged_ns;
	uint64_t seen, delivered, missed;
	uint64_t unanswered; /* ClientHellos that no ServerHello followed */
	uint64_t unasked;    /* ServerHellos on a tuple that showed no ClientHello */
	uint64_t evicted;    /* sessions that made room while they were still watched */
	uint64_t crowded;    /* tuples for which their session had no room */
};

static int parse_nets(struct sessions *s, char *const *nets, size_t n, char err[static SESSIONS_ERR])
{
	char text[NETS_STRLEN];

	if (n > SESSIONS_NETS_MAX) {
		snprintf(err, SESSIONS_ERR, "-H: more than %u networks", SESSIONS_NETS_MAX);
		return -EINVAL;
	}
	for (size_t i = 0; i < n; i++) {
		int ret = net_parse(nets[i], &s->net[i]);

		if (ret == -ERANGE)
			snprintf(err, SESSIONS_ERR, "-H: \"%.64s\" has bits of a host in it: is %s meant?", nets[i],
				 net_str(&s->net[i], text));
		else if (ret)
			snprintf(err, SESSIONS_ERR, "-H: \"%.64s\" is no network, such as 10.0.0.0/8 or 2001:db8::/32",
				 nets[i]);
		if (ret)
			return -EINVAL;
		s->nets++;
	}
	return 0;
}

int sessions_new(struct sessions **ret, char *const *nets, size_t n_nets, struct helper *helper,
		 char err[static SESSIONS_ERR])
{
	struct sessions *s = calloc(1, sizeof(*s));
	int r = s ? parse_nets(s, nets, n_nets, err) : -ENOMEM;

	if (!r && n_nets)
		s->servers = servers_new(SESSIONS_SERVERS_MAX);
	if (!r && n_nets && !s->servers)
		r = -ENOMEM;
	if (!r)
		r = session_table_init(&s->t, SESSIONS_MAX);
	if (!r)
		r = coverage_init(&s->coverage, helper, SESSIONS_MISSES_MAX);
	if (r == -ENOMEM)
		snprintf(err, SESSIONS_ERR, "out of memory");
	if (r)
		sessions_free(&s);
	else
		*ret = s;
	return r;
}

void sessions_free(struct sessions **s)
{
	if (*s) {
		session_table_fini(&(*s)->t);
		servers_free(&(*s)->servers);
		coverage_fini(&(*s)->coverage);
		free(*s);
	}
	*s = NULL;
}

/* Hellos carry the time at which they were read, which may be a little before what was heard of since. */
static uint64_t later(struct sessions *s, uint64_t now_ns)
{
	if (now_ns > s->now_ns)
		s->now_ns = now_ns;
	return s->now_ns;
}

static uint32_t number(const struct sessions *s, const struct session *x)
{
	return (uint32_t)(x - s->t.s);
}

/* --- what a session counts as --- */

static bool in_nets(const struct sessions *s, const struct tuple *t)
{
	for (unsigned i = 0; i < s->nets; i++)
		if (net_has(&s->net[i], t->ver, t->addr[SIDE_CLIENT]) ||
		    net_has(&s->net[i], t->ver, t->addr[SIDE_SERVER]))
			return true;
	return false;
}

/* It was answered on tuple @i: does it belong to a server of -H now? */
static void assign(struct sessions *s, struct session *x, unsigned i, uint64_t now_ns)
{
	if (x->server != SERVERS_NONE || !in_nets(s, &x->seen[i].t))
		return;
	x->server = servers_find(s->servers, &x->seen[i].t, x->sni);
	servers_seen(s->servers, x->server, now_ns);
	x->counted_ns = now_ns;
	if (x->delivered)
		servers_delivered(s->servers, x->server, now_ns);
	else if (x->missed)
		servers_missed(s->servers, x->server, 1);
}

static void count(struct sessions *s, struct session *x, unsigned i, uint64_t now_ns)
{
	x->counted = true;
	x->counted_ns = now_ns;
	s->seen++;
	s->delivered += x->delivered;
	assign(s, x, i, now_ns);
}

static void settle(struct sessions *s, struct session *x, uint64_t now_ns)
{
	if (!x->counted || x->delivered || x->missed)
		return;
	x->missed = true;
	s->missed++;
	if (x->server != SERVERS_NONE)
		servers_missed(s->servers, x->server, 1);
	coverage_missed(&s->coverage, x, now_ns);
}

/* Nobody waits for its answer any more. What was delivered has been answered, whether we saw that or not. */
static void settle_fresh(struct sessions *s, struct session *x, uint64_t now_ns)
{
	if (x->counted)
		return;
	if (x->delivered && x->seen_n)
		count(s, x, 0, now_ns);
	else if (!x->delivered)
		s->unanswered++;
}

static void forget(struct sessions *s, struct session *x, uint64_t now_ns)
{
	settle_fresh(s, x, now_ns);
	settle(s, x, now_ns);
	session_drop(&s->t, x);
}

static void end(struct sessions *s, struct session *x, uint64_t now_ns)
{
	if (x->ended_ns)
		return;
	x->ended_ns = now_ns ? now_ns : 1;
	session_move(&s->t, x, SESSION_CLOSING);
}

/* --- hellos --- */

static void make_room(struct sessions *s, uint64_t now_ns)
{
	static const enum session_list order[] = {SESSION_GONE,	   SESSION_DONE, SESSION_FRESH,
						  SESSION_CLOSING, SESSION_OLD,	 SESSION_YOUNG};
	struct session *x = NULL;

	if (s->t.list[SESSION_FRESH].n >= FRESH_MAX)
		x = session_first(&s->t, SESSION_FRESH);
	else if (s->t.touched < s->t.max || s->t.list[SESSION_FREE].n)
		return;
	for (unsigned i = 0; !x && i < sizeof(order) / sizeof(order[0]); i++)
		x = session_first(&s->t, order[i]);
	s->evicted += x->list != SESSION_GONE;
	forget(s, x, now_ns);
}

static struct session *begin(struct sessions *s, const uint8_t *random, size_t len, uint64_t now_ns)
{
	struct session *x;

	make_room(s, now_ns);
	x = session_new(&s->t, random, len);
	x->born_ns = now_ns;
	x->server = SERVERS_NONE;
	return x;
}

static bool same_random(const struct session *x, const struct hello *h)
{
	return memcmp(x->random, h->random, x->random_len < h->random_len ? x->random_len : h->random_len) == 0;
}

/* A hello sent again may show more. */
static void learn(struct session *x, const struct hello *h)
{
	if (h->random_len > x->random_len) {
		memcpy(x->random, h->random, h->random_len);
		x->random_len = h->random_len;
	}
	if (h->sni_len && !x->sni[0])
		snprintf(x->sni, sizeof(x->sni), "%s", h->sni);
}

static void client_hello(struct sessions *s, const struct hello *h, uint64_t netns, uint64_t now_ns)
{
	unsigned i = 0;
	struct session *x = session_find_tuple(&s->t, &h->t, netns, &i);

	if (x && same_random(x, h) && (!x->ended_ns || now_ns - x->ended_ns < SESSIONS_GRACE_NS)) {
		learn(x, h);
		return;
	}
	if (x) { /* these addresses are used again */
		session_unlink(&s->t, x, i);
		end(s, x, now_ns);
	}
	x = session_find_random(&s->t, h->random, h->random_len);
	if (x && now_ns - x->born_ns < SESSIONS_SAME_NS) {
		s->crowded += !session_link(&s->t, x, &h->t, netns);
		learn(x, h);
		return;
	}
	x = begin(s, h->random, h->random_len, now_ns);
	learn(x, h);
	(void)session_link(&s->t, x, &h->t, netns);
}

static void server_hello(struct sessions *s, const struct hello *h, uint64_t netns, uint64_t now_ns)
{
	unsigned i = 0;
	struct session *x = session_find_tuple(&s->t, &h->t, netns, &i);

	if (!x) {
		s->unasked++;
		return;
	}
	if (x->counted) {
		assign(s, x, i, now_ns);
		return;
	}
	count(s, x, i, now_ns);
	if (x->ended_ns)
		return;
	session_move(&s->t, x, x->delivered ? SESSION_DONE : SESSION_YOUNG);
	if (!x->delivered)
		coverage_look(&s->coverage, x, number(s, x), true, now_ns);
}

void sessions_hello(struct sessions *s, const struct hello *h, uint64_t netns, uint64_t now_ns)
{
	now_ns = later(s, now_ns);
	if (!netns)
		netns = s->coverage.own_netns;
	if (h->server && !h->retry)
		server_hello(s, h, netns, now_ns);
	else if (!h->server && h->random_len >= HELLO_RANDOM_MIN)
		client_hello(s, h, netns, now_ns);
}

/* --- what happens to them --- */

void sessions_delivered(struct sessions *s, const uint8_t client_random[32], uint64_t now_ns)
{
	struct session *x = session_find_random(&s->t, client_random, 32);

	now_ns = later(s, now_ns);
	if (x && x->delivered)
		return;
	if (!x) /* its hello is still to be read; or there is none: it was before us, or inside another session */
		x = begin(s, client_random, 32, now_ns);
	x->delivered = true;
	if (!x->counted)
		return;
	s->delivered++;
	if (x->server != SERVERS_NONE)
		servers_delivered(s->servers, x->server, x->counted_ns);
	if (x->missed) {
		x->missed = false;
		s->missed--;
		if (x->server != SERVERS_NONE)
			servers_missed(s->servers, x->server, -1);
		coverage_withdraw(&s->coverage, x);
	}
	if (x->list == SESSION_YOUNG || x->list == SESSION_OLD)
		session_move(&s->t, x, SESSION_DONE);
}

void sessions_ended(struct sessions *s, const struct tuple *t, uint64_t netns, uint64_t now_ns)
{
	unsigned i;
	struct session *x = session_find_tuple(&s->t, t, netns ? netns : s->coverage.own_netns, &i);

	if (x)
		end(s, x, later(s, now_ns));
}

/* The oldest of @list, if it has been there since @ns or longer. */
static struct session *due(struct sessions *s, enum session_list list, uint64_t wait_ns)
{
	struct session *x = session_first(&s->t, list);
	uint64_t since;

	if (!x)
		return NULL;
	since = x->ended_ns ? x->ended_ns : x->counted ? x->counted_ns : x->born_ns;
	return s->now_ns >= since + wait_ns ? x : NULL;
}

void sessions_tick(struct sessions *s, uint64_t now_ns)
{
	struct session *x;

	now_ns = later(s, now_ns);
	while ((x = due(s, SESSION_YOUNG, YOUNG_NS))) {
		coverage_look(&s->coverage, x, number(s, x), false, now_ns);
		session_move(&s->t, x, SESSION_OLD);
	}
	while ((x = due(s, SESSION_OLD, SESSIONS_OPEN_NS))) {
		settle(s, x, now_ns);
		session_move(&s->t, x, SESSION_DONE);
	}
	while ((x = due(s, SESSION_FRESH, SESSIONS_OPEN_NS))) {
		settle_fresh(s, x, now_ns);
		if (x->counted)
			session_move(&s->t, x, SESSION_DONE);
		else
			session_drop(&s->t, x);
	}
	while ((x = due(s, SESSION_GONE, SESSIONS_GONE_NS)))
		session_drop(&s->t, x);
	while ((x = due(s, SESSION_CLOSING, SESSIONS_GRACE_NS))) {
		settle_fresh(s, x, now_ns);
		settle(s, x, now_ns);
		if (x->counted)
			session_move(&s->t, x, SESSION_GONE);
		else
			session_drop(&s->t, x);
	}
	if (!s->logged_ns)
		s->logged_ns = now_ns;
	if (s->servers && now_ns - s->logged_ns >= SESSIONS_LOG_NS) {
		s->logged_ns = now_ns;
		servers_log(s->servers, now_ns);
	}
}

void sessions_on_answer(struct sessions *s, const struct helper_event *e)
{
	uint32_t i, gen;

	if (e->type != HELPER_WHOSE || !coverage_cookie(e->cookie, &i, &gen) || i >= s->t.touched ||
	    s->t.s[i].gen != gen || s->t.s[i].list == SESSION_FREE)
		return;
	coverage_answer(&s->coverage, &s->t.s[i], e, s->now_ns);
}

/* --- what is shown --- */

void sessions_json(const struct sessions *s, FILE *to)
{
	const struct coverage *c = &s->coverage;
	char text[NETS_STRLEN];

	fprintf(to,
		"\"sessions\": {\"seen\": %" PRIu64 ", \"delivered\": %" PRIu64 ", \"missed\": %" PRIu64
		", \"open\": %" PRIu64 ", \"named\": %" PRIu64 ", \"unnamed\": %" PRIu64 ", \"elsewhere\": %" PRIu64,
		s->seen, s->delivered, s->missed, s->seen - s->delivered - s->missed, c->missed[COVERAGE_NAMED],
		c->missed[COVERAGE_UNNAMED], c->missed[COVERAGE_ELSEWHERE]);
	fprintf(to,
		", \"watched\": %u, \"unanswered\": %" PRIu64 ", \"unasked\": %" PRIu64 ", \"evicted\": %" PRIu64
		", \"crowded\": %" PRIu64 ", \"look_ups\": %" PRIu64 ", \"answers\": %" PRIu64 ", \"limited\": %" PRIu64
		", \"kinds_evicted\": %" PRIu64 "}, \"effectiveness\": ",
		s->t.touched - s->t.list[SESSION_FREE].n, s->unanswered, s->unasked, s->evicted, s->crowded, c->asked,
		c->answered, c->limited, misses_evicted(c->misses));
	if (s->servers) {
		fputs("{\"nets\": [", to);
		for (unsigned i = 0; i < s->nets; i++)
			fprintf(to, "%s\"%s\"", i ? ", " : "", net_str(&s->net[i], text));
		fputs("], ", to);
		servers_json(s->servers, s->now_ns, to);
		fputc('}', to);
	} else {
		fputs("null", to);
	}
	fputs(", \"coverage\": ", to);
	misses_json(c->misses, s->now_ns, to);
}

void sessions_text(const struct sessions *s, FILE *to)
{
	char text[NETS_STRLEN];
	struct servers_count c;

	fprintf(to,
		"TLS sessions on the wire: %" PRIu64 " seen, %" PRIu64 " in the clear, %" PRIu64 " missed, %" PRIu64
		" open\n",
		s->seen, s->delivered, s->missed, s->seen - s->delivered - s->missed);
	if (s->servers) {
		servers_total(s->servers, s->now_ns, &c);
		fputs("effectiveness for", to);
		for (unsigned i = 0; i < s->nets; i++)
			fprintf(to, "%s%s", i ? ", " : " ", net_str(&s->net[i], text));
		fprintf(to,
			": %" PRIu64 " sessions seen, %" PRIu64 " in the clear; last minute: %" PRIu64 ", %" PRIu64
			"\n",
			c.seen, c.delivered, c.minute_seen, c.minute_delivered);
		servers_text(s->servers, s->now_ns, SERVERS_SHOWN, to);
	}
	if (misses_count(s->coverage.misses))
		fprintf(to, "%u kinds of local programs are missed: see \"tlstap doctor\"\n",
			misses_count(s->coverage.misses));
}

void sessions_doctor(const struct sessions *s, FILE *to)
{
	const struct coverage *c = &s->coverage;
	uint64_t unnamed = c->missed[COVERAGE_UNNAMED], elsewhere = c->missed[COVERAGE_ELSEWHERE];

	misses_doctor(c->misses, s->now_ns, to);
	if (unnamed)
		fprintf(to,
			"%" PRIu64 " session%s of this host %s missed, but had ended before the process was found\n",
			unnamed, unnamed == 1 ? "" : "s", unnamed == 1 ? "was" : "were");
	if (!unnamed && !c->missed[COVERAGE_NAMED])
		fprintf(to,
			SESSIONS_FINE ": of %" PRIu64 " TLS sessions on the wire, %" PRIu64 " were seen in the clear\n",
			s->seen, s->delivered);
	if (elsewhere)
		fprintf(to,
			"(%" PRIu64
			" session%s passed by that %s no end on this host, or in a network namespace that is "
			"not watched: see --netns in agentd(8))\n",
			elsewhere, elsewhere == 1 ? "" : "s", elsewhere == 1 ? "has" : "have");
}
