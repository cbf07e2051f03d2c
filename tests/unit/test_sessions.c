/* SPDX-License-Identifier: Apache-2.0 */
/* test_sessions.c - every session is counted once, as what it is; whose the missed ones are. Time is made up. */
#include <arpa/inet.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "agentd/servers.c"
#include "agentd/sessions.c"
#include "common/log.h"

#define S 1000000000ull
#define MS 1000000ull
#define OWN 0 /* the own namespace */
#define OTHER 77

/* --- what stands in for the helper --- */

static struct helper helper;
static struct endpoint asked[64];
static uint64_t cookie[64];
static unsigned asked_n;
static int whose_ret;

int helper_whose(struct helper *h, uint64_t c, const struct endpoint *e)
{
	assert_ptr_equal(h, &helper);
	if (whose_ret)
		return whose_ret;
	if (asked_n < 64) {
		asked[asked_n] = *e;
		cookie[asked_n] = c;
	}
	asked_n++;
	return 0;
}

static struct sessions *start(const char *net, struct helper *h)
{
	char copy[64], *nets[1] = {copy}, err[SESSIONS_ERR];
	struct sessions *s = NULL;

	snprintf(copy, sizeof(copy), "%s", net ? net : "");
	asked_n = 0;
	whose_ret = 0;
	assert_int_equal(sessions_new(&s, nets, net ? 1 : 0, h, err), 0);
	return s;
}

/* @client and @server: addresses as text */
static struct hello hello(const char *client, uint16_t cport, const char *server, uint16_t sport, uint64_t random,
			  const char *sni)
{
	struct hello h = {.t.ver = strchr(client, ':') ? 6 : 4, .t.port = {cport, sport}, .random_len = 32};
	int family = h.t.ver == 6 ? AF_INET6 : AF_INET;

	assert_int_equal(inet_pton(family, client, h.t.addr[SIDE_CLIENT]), 1);
	assert_int_equal(inet_pton(family, server, h.t.addr[SIDE_SERVER]), 1);
	memset(h.random, 0xaa, sizeof(h.random));
	memcpy(h.random, &random, sizeof(random));
	h.sni_len = (uint8_t)snprintf(h.sni, sizeof(h.sni), "%s", sni);
	return h;
}

static void answer(struct sessions *s, const struct hello *h, uint64_t netns, uint64_t now)
{
	struct hello a = {.t = h->t, .server = true, .random_len = 32};

	sessions_hello(s, &a, netns, now);
}

static void both(struct sessions *s, const struct hello *h, uint64_t netns, uint64_t now)
{
	sessions_hello(s, h, netns, now);
	answer(s, h, netns, now);
}

static void is(const struct sessions *s, uint64_t seen, uint64_t delivered, uint64_t missed)
{
	assert_int_equal(s->seen, seen);
	assert_int_equal(s->delivered, delivered);
	assert_int_equal(s->missed, missed);
	assert_int_equal(missed, s->coverage.missed[0] + s->coverage.missed[1] + s->coverage.missed[2]);
}

static void of_nets(const struct sessions *s, uint64_t seen, uint64_t delivered, uint64_t missed)
{
	struct servers_count c;

	servers_total(s->servers, s->now_ns, &c);
	assert_int_equal(c.seen, seen);
	assert_int_equal(c.delivered, delivered);
	assert_int_equal(c.missed, missed);
}

/* What @show prints. The caller frees it. */
static char *shown(const struct sessions *s, void (*show)(const struct sessions *, FILE *))
{
	char *text = NULL;
	size_t len;
	FILE *to = open_memstream(&text, &len);

	show(s, to);
	fclose(to);
	return text;
}

static void shows(const struct sessions *s, void (*show)(const struct sessions *, FILE *), const char *what, bool yes)
{
	char *text = shown(s, show);

	if (!strstr(text, what) == yes)
		fail_msg("%s \"%s\" in:\n%s", yes ? "no" : "unexpected", what, text);
	free(text);
}

/* --- counting --- */

static void test_a_session_is_a_hello_that_was_answered(void **state)
{
	struct sessions *s = start(NULL, NULL);
	struct hello h = hello("203.0.113.1", 1000, "203.0.113.2", 443, 1, "a.example"), retry = h;

	(void)state;
	sessions_hello(s, &h, OWN, 1 * S);
	is(s, 0, 0, 0);
	retry.server = retry.retry = true; /* HelloRetryRequest, and the hello again */
	sessions_hello(s, &retry, OWN, 1 * S);
	sessions_hello(s, &h, OWN, 1 * S);
	is(s, 0, 0, 0);
	answer(s, &h, OWN, 1 * S);
	answer(s, &h, OWN, 1 * S); /* sent again */
	sessions_hello(s, &h, OWN, 1 * S);
	is(s, 1, 0, 0);
	sessions_delivered(s, h.random, 1 * S);
	sessions_delivered(s, h.random, 1 * S);
	is(s, 1, 1, 0);

	h = hello("203.0.113.1", 1001, "203.0.113.2", 443, 2, "a.example");
	sessions_hello(s, &h, OWN, 2 * S); /* never answered */
	h.t.port[SIDE_CLIENT]++;
	answer(s, &h, OWN, 2 * S); /* never asked */
	sessions_tick(s, 30 * S);
	is(s, 1, 1, 0);
	assert_int_equal(s->unanswered, 1);
	assert_int_equal(s->unasked, 1);
	sessions_free(&s);
	assert_null(s);
	sessions_free(&s);
}

static void test_delivered_before_the_answer_was_seen(void **state)
{
	struct sessions *s = start("203.0.113.2", NULL);
	struct hello h = hello("203.0.113.1", 1000, "203.0.113.2", 443, 1, "");

	(void)state;
	sessions_hello(s, &h, OWN, 1 * S);
	sessions_delivered(s, h.random, 1 * S);
	answer(s, &h, OWN, 1 * S);
	is(s, 1, 1, 0);
	h = hello("203.0.113.1", 1001, "203.0.113.2", 443, 2, "");
	sessions_hello(s, &h, OWN, 1 * S);
	sessions_delivered(s, h.random, 1 * S); /* the answer is never seen, but there was one */
	sessions_tick(s, 12 * S);
	is(s, 2, 2, 0);
	of_nets(s, 2, 2, 0);
	h = hello("203.0.113.1", 1002, "203.0.113.2", 443, 3, "");
	sessions_delivered(s, h.random, 20 * S); /* even before the hello is read */
	is(s, 2, 2, 0);
	both(s, &h, OWN, 20 * S);
	is(s, 3, 3, 0);
	h = hello("203.0.113.1", 1002, "203.0.113.2", 443, 4, "");
	sessions_delivered(s, h.random, 30 * S); /* one that began before we did */
	sessions_tick(s, 50 * S);
	is(s, 3, 3, 0);
	assert_int_equal(s->unanswered, 0);
	sessions_free(&s);
}

static void test_open_then_missed_then_delivered_after_all(void **state)
{
	struct sessions *s = start("203.0.113.0/24", NULL);
	struct hello h = hello("203.0.113.1", 1000, "203.0.113.2", 443, 1, "a.example");

	(void)state;
	both(s, &h, OWN, 1 * S);
	sessions_tick(s, 10 * S);
	is(s, 1, 0, 0);
	of_nets(s, 1, 0, 0);
	sessions_tick(s, 11 * S);
	is(s, 1, 0, 1);
	of_nets(s, 1, 0, 1);
	sessions_delivered(s, h.random, 500 * S);
	is(s, 1, 1, 0);
	of_nets(s, 1, 1, 0);
	sessions_free(&s);
}

static void test_the_end_settles_after_a_grace(void **state)
{
	struct sessions *s = start(NULL, NULL);
	struct hello h = hello("203.0.113.1", 1000, "203.0.113.2", 443, 1, "");

	(void)state;
	both(s, &h, OWN, 1 * S);
	sessions_ended(s, &h.t, OWN, 1 * S + 5 * MS);
	sessions_tick(s, 1 * S + 900 * MS);
	is(s, 1, 0, 0);
	sessions_tick(s, 2 * S + 5 * MS);
	is(s, 1, 0, 1);
	sessions_delivered(s, h.random, 3 * S);
	is(s, 1, 1, 0);
	sessions_tick(s, 60 * S); /* and nothing is kept for long */
	assert_int_equal(s->t.list[SESSION_FREE].n, s->t.touched);

	/* the end overtakes the answer */
	sessions_hello(s, &h, OWN, 70 * S);
	sessions_ended(s, &h.t, OWN, 70 * S);
	answer(s, &h, OWN, 70 * S);
	is(s, 2, 1, 0);
	sessions_tick(s, 71 * S);
	is(s, 2, 1, 1);
	sessions_free(&s);
}

static void test_ports_are_used_again(void **state)
{
	struct sessions *s = start(NULL, NULL);

	(void)state;
	for (uint64_t i = 0; i < 1000; i++) {
		struct hello h = hello("203.0.113.1", 1000, "203.0.113.2", 443, i + 1, "");

		both(s, &h, OWN, S + i * 20 * MS);
		if (i % 2)
			sessions_delivered(s, h.random, S);
		sessions_tick(s, S + i * 20 * MS);
	}
	sessions_tick(s, 100 * S);
	is(s, 1000, 500, 500);
	sessions_free(&s);
}

static void test_one_session_at_many_places(void **state)
{
	struct sessions *s = start("10.0.0.0/8", NULL);
	struct hello outer = hello("203.0.113.1", 1000, "203.0.113.9", 443, 1, "a.example");
	struct hello inner = hello("203.0.113.1", 1000, "10.1.2.3", 8443, 1, "a.example");

	(void)state;
	sessions_hello(s, &outer, OWN, 1 * S);
	sessions_hello(s, &outer, OWN, 1 * S); /* another interface */
	sessions_hello(s, &inner, OWN, 1 * S);
	sessions_hello(s, &inner, OTHER, 1 * S);
	answer(s, &inner, OTHER, 1 * S);
	answer(s, &inner, OWN, 1 * S);
	answer(s, &outer, OWN, 1 * S);
	is(s, 1, 0, 0);
	of_nets(s, 1, 0, 0);
	shows(s, sessions_text, "8443 to 10.1.2.3 (a.example): 1 sessions seen, 0 in the clear", true);
	/* the same addresses in another namespace are another connection */
	outer = hello("203.0.113.1", 1000, "203.0.113.9", 443, 2, "a.example");
	both(s, &outer, OTHER, 1 * S);
	is(s, 2, 0, 0);
	/* there is no room for a fifth */
	for (uint16_t port = 2000; port < 2005; port++) {
		inner = hello("203.0.113.1", port, "10.1.2.3", 8443, 3, "");
		both(s, &inner, OWN, 1 * S);
	}
	is(s, 3, 0, 0);
	assert_int_equal(s->crowded, 1);
	sessions_free(&s);
}

static void test_networks_by_any_tuple(void **state)
{
	struct sessions *s = start("2001:db8:1::/48", NULL);
	struct hello a = hello("2001:db8:1::5", 1, "2001:db8:2::1", 443, 1, "");
	struct hello b = hello("2001:db8:2::5", 1, "2001:db8:1::1", 443, 2, "");
	struct hello c = hello("2001:db8:2::5", 2, "2001:db8:2::1", 443, 3, "");
	struct hello c2 = hello("2001:db8:1::5", 2, "2001:db8:2::1", 443, 3, "");

	(void)state;
	both(s, &a, OWN, 1 * S);
	both(s, &b, OWN, 1 * S);
	both(s, &c, OWN, 1 * S);
	of_nets(s, 2, 0, 0);
	sessions_ended(s, &c.t, OWN, 2 * S);
	sessions_tick(s, 4 * S);
	is(s, 3, 0, 1);
	sessions_delivered(s, c.random, 5 * S);
	c2.t.port[SIDE_CLIENT] = 3;
	sessions_hello(s, &c2, OWN, 6 * S);
	answer(s, &c2, OWN, 6 * S); /* this side is in the network */
	sessions_tick(s, 11 * S);
	is(s, 3, 1, 2);
	of_nets(s, 3, 1, 2);
	sessions_free(&s);
}

static void test_a_cut_random(void **state)
{
	struct sessions *s = start(NULL, NULL);
	struct hello h = hello("203.0.113.1", 1000, "203.0.113.2", 443, 1, "");
	uint8_t other[32];

	(void)state;
	h.random_len = 20;
	both(s, &h, OWN, 1 * S);
	memcpy(other, h.random, 32);
	other[10] ^= 1;
	sessions_delivered(s, other, 1 * S);
	is(s, 1, 0, 0);
	other[10] ^= 1;
	other[31] ^= 1; /* not shown */
	sessions_delivered(s, other, 1 * S);
	is(s, 1, 1, 0);
	sessions_free(&s);
}

static void test_a_random_that_never_changes(void **state)
{
	struct sessions *s = start(NULL, NULL);

	(void)state;
	for (uint16_t i = 0; i < 200; i++) { /* a broken generator, one connection in 15 s */
		struct hello h = hello("203.0.113.1", (uint16_t)(1000 + i), "203.0.113.2", 443, 9, "");

		both(s, &h, OWN, i * 15 * S + S);
		sessions_delivered(s, h.random, i * 15 * S + S);
		sessions_tick(s, i * 15 * S + S);
	}
	is(s, 200, 200, 0);
	for (uint16_t i = 0; i < 10; i++) { /* and one that always uses the same port */
		struct hello h = hello("203.0.113.1", 7, "203.0.113.2", 443, 10, "");

		both(s, &h, OWN, 4000 * S + i * 15 * S);
		sessions_ended(s, &h.t, OWN, 4001 * S + i * 15 * S);
	}
	sessions_tick(s, 5000 * S);
	is(s, 210, 200, 10);
	sessions_free(&s);
}

static void test_the_last_minute(void **state)
{
	struct sessions *s = start("203.0.113.0/24", NULL);
	struct servers_count c;

	(void)state;
	for (unsigned i = 0; i < 100; i++) { /* one per second, every second one delivered */
		struct hello h = hello("203.0.113.1", (uint16_t)(1000 + i), "203.0.113.2", 443, i + 1, "");

		both(s, &h, OWN, (1000 + i) * S);
		if (i % 2)
			sessions_delivered(s, h.random, (1000 + i) * S);
	}
	sessions_tick(s, 1099 * S);
	servers_total(s->servers, s->now_ns, &c);
	assert_int_equal(c.seen, 100);
	assert_in_range(c.minute_seen, 55, 60);
	assert_int_equal(c.minute_delivered, c.minute_seen / 2);
	sessions_tick(s, 1300 * S);
	servers_total(s->servers, s->now_ns, &c);
	assert_int_equal(c.minute_seen, 0);
	sessions_free(&s);
}

/* --- limits --- */

static void test_more_servers_than_fit_are_others(void **state)
{
	struct sessions *s = start("0.0.0.0/0", NULL);
	char name[32];

	(void)state;
	for (unsigned i = 0; i < SESSIONS_SERVERS_MAX + 10; i++) {
		struct hello h;

		snprintf(name, sizeof(name), "host%u.example", i);
		h = hello("203.0.113.1", (uint16_t)(1 + i), "203.0.113.2", 443, i + 1, name);
		both(s, &h, OWN, 1 * S);
		sessions_delivered(s, h.random, 1 * S);
	}
	of_nets(s, SESSIONS_SERVERS_MAX + 10, SESSIONS_SERVERS_MAX + 10, 0);
	shows(s, sessions_json, "\"others\": {\"seen\": 10, \"delivered\": 10, \"missed\": 0, \"open\": 0,", true);
	shows(s, sessions_text, "others: 10 sessions seen, 10 in the clear", true);
	shows(s, sessions_text, "and 4032 more servers", true);
	sessions_free(&s);
}

static void test_the_table_is_bounded_and_says_so(void **state)
{
	struct sessions *s = start(NULL, NULL);
	struct hello h;
	uint64_t n = SESSIONS_MAX + 5000;

	(void)state;
	for (uint64_t i = 0; i < n; i++) {
		h = hello("203.0.113.1", (uint16_t)(i % 60000 + 1), i / 60000 ? "203.0.113.2" : "203.0.113.3", 443,
			  i + 1, "");
		both(s, &h, OWN, 1 * S);
	}
	is(s, n, 0, 5000); /* what had to make room is settled */
	assert_int_equal(s->evicted, 5000);
	assert_int_equal(s->t.touched, SESSIONS_MAX);
	sessions_tick(s, 11 * S);
	is(s, n, 0, n);
	sessions_free(&s);
}

static const uint32_t *random_chain_of(const struct sessions *s, const uint8_t *random)
{
	return &s->t.by_random[session_hash(random, HELLO_RANDOM_MIN, s->t.seed) & s->t.mask];
}

static void test_hellos_alone_do_not_displace_sessions(void **state)
{
	struct sessions *s = start(NULL, NULL);
	struct hello real = hello("203.0.113.1", 1, "203.0.113.2", 443, 1, ""), h;
	unsigned chain = 0;

	(void)state;
	both(s, &real, OWN, 1 * S);
	for (uint64_t i = 0; i < 200000; i++) { /* all with randoms that begin alike */
		h = hello("203.0.113.9", (uint16_t)(i % 60000 + 1), i % 3 ? "203.0.113.2" : "203.0.113.3", 443, 2, "");
		memcpy(h.random + 8, &i, sizeof(i));
		sessions_hello(s, &h, OWN, 1 * S);
	}
	assert_in_range(s->t.touched, 1, SESSIONS_MAX / 4 + 1);
	for (uint32_t i = *random_chain_of(s, h.random); i; i = s->t.s[i - 1].next_random)
		chain++;
	assert_in_range(chain, 1, SESSION_CHAIN);
	sessions_delivered(s, real.random, 1 * S);
	is(s, 1, 1, 0);
	sessions_free(&s);
}

/* --- whose is it? --- */

/* A session of this host: 127.0.0.1 is here, 203.0.113.2 is not. */
static struct hello local_client(uint64_t random, const char *sni)
{
	return hello("127.0.0.1", (uint16_t)(1000 + random), "203.0.113.2", 443, random, sni);
}

static struct helper_event whose(uint64_t c, enum helper_result result, unsigned what, const char *exe)
{
	return (struct helper_event){.type = HELPER_WHOSE,
				     .result = result,
				     .cookie = c,
				     .last = true,
				     .fd = -1,
				     .p = {.pid = 4711, .start_time = UINT64_MAX},
				     .uid = 33,
				     .what = what,
				     .exe = exe};
}

static void test_only_ends_that_may_be_here_are_asked_for(void **state)
{
	struct sessions *s = start(NULL, &helper);
	struct hello out = local_client(1, ""), in = hello("203.0.113.1", 5, "127.0.0.1", 443, 2, "");
	struct hello inside = hello("127.0.0.1", 6, "127.0.0.1", 444, 3, "");
	struct hello foreign = hello("203.0.113.1", 7, "203.0.113.2", 443, 4, "");
	struct hello netns = hello("203.0.113.1", 8, "203.0.113.2", 443, 5, "");

	(void)state;
	both(s, &out, OWN, 1 * S);
	assert_int_equal(asked_n, 1);
	assert_memory_equal(asked[0].local, out.t.addr[SIDE_CLIENT], 16);
	assert_int_equal(asked[0].local_port, 1001);
	assert_int_equal(asked[0].remote_port, 443);
	assert_int_equal(asked[0].netns, 0);
	assert_int_equal(cookie[0] & COVERAGE_COOKIE_MASK, COVERAGE_COOKIE);
	both(s, &in, OWN, 1 * S);
	assert_int_equal(asked_n, 2);
	assert_int_equal(asked[1].local_port, 443);
	both(s, &inside, OWN, 1 * S);
	assert_int_equal(asked_n, 4);
	both(s, &foreign, OWN, 1 * S);
	assert_int_equal(asked_n, 4);
	both(s, &netns, OTHER, 1 * S); /* where the addresses of other namespaces are, we cannot know */
	assert_int_equal(asked_n, 6);
	assert_int_equal(asked[4].netns, OTHER);
	sessions_tick(s, 11 * S);
	is(s, 5, 0, 5);
	assert_int_equal(s->coverage.missed[COVERAGE_ELSEWHERE], 1);
	assert_int_equal(s->coverage.missed[COVERAGE_UNNAMED], 4);
	sessions_free(&s);
}

static void test_reasons(void **state)
{
	static const struct {
		unsigned what;
		bool older;
		enum helper_result result;
		const char *name;
	} c[] = {
		{HELPER_WHOSE_TLS, false, HELPER_R_OK, "not_loaded"},
		{HELPER_WHOSE_TLS, true, HELPER_R_OK, "not_loaded"},
		{0, false, HELPER_R_OK, "own_tls"},
		{HELPER_WHOSE_TAP, true, HELPER_R_OK, "own_tls"},
		{HELPER_WHOSE_TAP | HELPER_WHOSE_TLS, true, HELPER_R_OK, "before"},
		{HELPER_WHOSE_TAP | HELPER_WHOSE_TLS, false, HELPER_R_OK, "detached"},
		{HELPER_WHOSE_TAP | HELPER_WHOSE_TLS | HELPER_WHOSE_ATTACHED, true, HELPER_R_OK, "past_tap"},
		{HELPER_WHOSE_32BIT, false, HELPER_R_OK, "32bit"},
		{HELPER_WHOSE_UNREADABLE, false, HELPER_R_OK, "unreadable"},
		{HELPER_WHOSE_UNREADABLE, false, HELPER_R_NO_PROCESS, "unreadable"},
		{0, false, HELPER_R_OTHER_NETNS, "netns"},
	};

	(void)state;
	for (unsigned i = 0; i < sizeof(c) / sizeof(c[0]); i++) {
		struct sessions *s = start(NULL, &helper);
		struct hello h = local_client(1, "api.example");
		struct helper_event e;
		char text[64];

		both(s, &h, OWN, 1 * S);
		e = whose(cookie[0], c[i].result, c[i].what, "/usr/bin/curl");
		if (c[i].older)
			e.p.start_time = 1;
		sessions_on_answer(s, &e);
		shows(s, sessions_doctor, "/usr/bin/curl", false); /* it may still be delivered */
		sessions_tick(s, 11 * S);
		snprintf(text, sizeof(text), "\"why\": \"%s\"", c[i].name);
		shows(s, sessions_json, text, true);
		shows(s, sessions_doctor, "/usr/bin/curl as TLS client, user 33, last seen as process 4711: 1 session,",
		      true);
		shows(s, sessions_doctor, "such as:    127.0.0.1:1001 -> 203.0.113.2:443 (api.example)\n", true);
		shows(s, sessions_doctor, SESSIONS_FINE, false);
		sessions_delivered(s, h.random, 12 * S); /* late, but seen */
		shows(s, sessions_doctor, SESSIONS_FINE ": of 1 TLS sessions on the wire, 1 were seen in the clear\n",
		      true);
		shows(s, sessions_json, "\"coverage\": []", true);
		sessions_free(&s);
	}
}

static void test_missed_ones_that_were_not_looked_up_are_like_those_that_were(void **state)
{
	struct sessions *s = start(NULL, &helper);
	struct helper_event e;

	(void)state;
	for (unsigned i = 1; i <= 10; i++) {
		struct hello h = local_client(i, "api.example");

		both(s, &h, OWN, 1 * S + i * MS);
		sessions_ended(s, &h.t, OWN, 1 * S + i * MS);
		assert_int_equal(asked_n, 1); /* one of a kind */
	}
	e = whose(cookie[0], HELPER_R_OK, HELPER_WHOSE_TLS, "/usr/bin/curl");
	sessions_on_answer(s, &e);
	sessions_on_answer(s, &e); /* nobody waits for it any more */
	assert_int_equal(s->coverage.answered, 1);
	sessions_tick(s, 3 * S);
	is(s, 10, 0, 10);
	assert_int_equal(s->coverage.missed[COVERAGE_NAMED], 10);
	shows(s, sessions_doctor, ": 1 session and 9 more like it", true);
	sessions_delivered(s, local_client(5, "").random, 4 * S);
	shows(s, sessions_doctor, ": 1 session and 8 more like it", true);
	sessions_delivered(s, local_client(1, "").random, 4 * S);
	shows(s, sessions_doctor, ": 0 sessions and 8 more like them", true);
	is(s, 10, 2, 8);
	sessions_free(&s);
}

static void test_an_answer_after_the_end(void **state)
{
	struct sessions *s = start(NULL, &helper);
	struct hello h = local_client(1, "");
	struct helper_event e;

	(void)state;
	both(s, &h, OWN, 1 * S);
	sessions_ended(s, &h.t, OWN, 1 * S);
	sessions_tick(s, 2 * S);
	shows(s, sessions_doctor, "1 session of this host was missed, but had ended", true);
	e = whose(cookie[0], HELPER_R_OK, HELPER_WHOSE_TLS, "/usr/bin/curl");
	sessions_on_answer(s, &e);
	shows(s, sessions_doctor, "had ended", false);
	shows(s, sessions_doctor, "/usr/bin/curl as TLS client", true);
	is(s, 1, 0, 1);
	/* and one for a session that is not watched any more */
	h = local_client(2, "x");
	both(s, &h, OWN, 3 * S);
	sessions_ended(s, &h.t, OWN, 3 * S);
	for (uint64_t at = 4; at < 60; at++)
		sessions_tick(s, at * S);
	e = whose(cookie[1], HELPER_R_OK, HELPER_WHOSE_TLS, "/usr/bin/other");
	sessions_on_answer(s, &e);
	e.cookie = UINT64_MAX;
	sessions_on_answer(s, &e);
	e.cookie = 0;
	sessions_on_answer(s, &e);
	shows(s, sessions_doctor, "/usr/bin/other", false);
	sessions_free(&s);
}

static void test_nobody_found_is_asked_for_again(void **state)
{
	struct sessions *s = start(NULL, &helper);
	struct helper_event e;

	(void)state;
	/* The first was over before anybody looked. Then one in a second is tried, until one is found. */
	for (unsigned i = 1; i <= 5; i++) {
		struct hello h = local_client(i, "api.example");

		both(s, &h, OWN, i * 2 * S);
		assert_int_equal(asked_n, i);
		e = whose(cookie[i - 1], i < 5 ? HELPER_R_GONE : HELPER_R_OK, HELPER_WHOSE_TLS, "/usr/bin/curl");
		sessions_on_answer(s, &e);
		sessions_ended(s, &h.t, OWN, i * 2 * S);
		sessions_tick(s, i * 2 * S + S);
	}
	assert_int_equal(s->coverage.missed[COVERAGE_UNNAMED], 4);
	assert_int_equal(s->coverage.missed[COVERAGE_NAMED], 1);
	for (unsigned i = 6; i < 20; i++) {
		struct hello h = local_client(i, "api.example");

		both(s, &h, OWN, i * 2 * S);
	}
	assert_int_equal(asked_n, 5);
	sessions_free(&s);
}

static void test_nobody_found_does_not_wait_for_the_end(void **state)
{
	struct sessions *s = start(NULL, &helper);

	(void)state;
	for (unsigned i = 1; i <= 20; i++) { /* 100 ms each, none of them settled yet */
		struct hello h = local_client(i, "api.example");
		struct helper_event e;

		both(s, &h, OWN, 1 * S + i * 100 * MS);
		if (asked_n > 1)
			assert_int_equal(asked_n, (i + 1) / 2);
		e = whose(cookie[asked_n - 1], HELPER_R_GONE, 0, "");
		sessions_on_answer(s, &e);
	}
	assert_int_equal(asked_n, 10);
	sessions_free(&s);
}

static void test_long_sessions_are_asked_for_when_they_stay_dark(void **state)
{
	struct sessions *s = start(NULL, &helper);
	struct hello tapped = local_client(1, "api.example"), dark = local_client(2, "api.example");
	struct helper_event e;

	(void)state;
	both(s, &tapped, OWN, 1 * S);
	e = whose(cookie[0], HELPER_R_OK, HELPER_WHOSE_TLS | HELPER_WHOSE_TAP | HELPER_WHOSE_ATTACHED, "/usr/bin/curl");
	sessions_on_answer(s, &e);
	sessions_delivered(s, tapped.random, 1 * S);
	both(s, &dark, OWN, 2 * S);
	assert_int_equal(asked_n, 1);
	sessions_tick(s, 3 * S);
	assert_int_equal(asked_n, 2);
	e = whose(cookie[1], HELPER_R_OK, HELPER_WHOSE_TLS, "/usr/bin/python3.11");
	sessions_on_answer(s, &e);
	sessions_tick(s, 12 * S);
	shows(s, sessions_doctor, "/usr/bin/python3.11 as TLS client", true);
	shows(s, sessions_doctor, "/usr/bin/curl", false);
	sessions_free(&s);
}

static void test_look_ups_are_limited(void **state)
{
	struct sessions *s = start(NULL, &helper);
	char sni[32];

	(void)state;
	for (unsigned i = 1; i <= 5000; i++) { /* 500 a second, each of its own kind */
		struct hello h;

		snprintf(sni, sizeof(sni), "%u", i);
		h = local_client(i, sni);
		both(s, &h, OWN, 1 * S + i * 2 * MS);
	}
	assert_in_range(asked_n, 10 * COVERAGE_PER_S - 1, 10 * COVERAGE_PER_S + COVERAGE_BURST + 1);
	assert_int_equal(s->coverage.limited, 5000 - asked_n);
	/* a helper that has no room, or is gone */
	whose_ret = -EAGAIN;
	for (unsigned i = 1; i <= 100; i++) {
		struct hello h = local_client(10000 + i, "");

		both(s, &h, OWN, 100 * S + i * S);
		sessions_tick(s, 100 * S + i * S);
	}
	sessions_tick(s, 300 * S);
	is(s, 5100, 0, 5100);
	sessions_free(&s);
}

static void test_more_kinds_of_programs_than_fit(void **state)
{
	struct sessions *s = start(NULL, &helper);
	struct helper_event e;
	char exe[64], sni[32];

	(void)state;
	for (unsigned i = 0; i < SESSIONS_MISSES_MAX + 10; i++) {
		uint64_t now = (uint64_t)(i + 1) * 20 * S;
		struct hello h;

		snprintf(sni, sizeof(sni), "%u", i);
		snprintf(exe, sizeof(exe), "/bin/%u", i);
		h = local_client(i, sni);
		asked_n = 0;
		both(s, &h, OWN, now);
		assert_int_equal(asked_n, 1);
		e = whose(cookie[0], HELPER_R_OK, HELPER_WHOSE_TLS, exe);
		sessions_on_answer(s, &e);
		sessions_tick(s, now + S);
		sessions_tick(s, now + 15 * S);
	}
	assert_int_equal(misses_count(s->coverage.misses), SESSIONS_MISSES_MAX);
	assert_int_equal(misses_evicted(s->coverage.misses), 10);
	shows(s, sessions_doctor, "/bin/9 ", false); /* the oldest made room */
	shows(s, sessions_doctor, "/bin/10 ", true);
	sessions_delivered(s, local_client(9, "").random, 0); /* whose kind is gone */
	is(s, SESSIONS_MISSES_MAX + 10, 1, SESSIONS_MISSES_MAX + 9);
	sessions_free(&s);
}

/* --- what is shown --- */

/* Printable ASCII, brackets that match outside of strings, strings that end. */
static void assert_json(const char *text)
{
	int depth = 0;
	bool in = false;

	for (const char *p = text; *p; p++) {
		assert_true(*p >= ' ' && *p <= '~');
		if (in && *p == '\\') {
			p++;
			assert_true(*p == '"' || *p == '\\');
		} else if (*p == '"') {
			in = !in;
		} else if (!in && strchr("{[", *p)) {
			depth++;
		} else if (!in && strchr("]}", *p)) {
			depth--;
		}
		assert_true(depth >= 0);
	}
	assert_true(!in && depth == 0);
}

static void test_hostile_names(void **state)
{
	static const char name[] = "a\"b\\c\nd\033[2J\xff, \"x\": [";
	struct sessions *s = start("0.0.0.0/0", &helper);
	struct hello h = local_client(1, name);
	struct helper_event e;
	char *text;

	(void)state;
	both(s, &h, OWN, 1 * S);
	e = whose(cookie[0], HELPER_R_OK, HELPER_WHOSE_TLS, name);
	sessions_on_answer(s, &e);
	sessions_tick(s, 11 * S);
	text = shown(s, sessions_json);
	assert_json(text);
	assert_non_null(strstr(text, "\"exe\": \"a\\\"b\\\\c\\\\x0ad\\\\x1b[2J\\\\xff, \\\"x\\\": [\""));
	free(text);
	shows(s, sessions_doctor, "\033", false);
	shows(s, sessions_doctor, "a\"b\\c\\x0ad\\x1b[2J\\xff", true);
	shows(s, sessions_text, "\033", false);
	sessions_free(&s);
}

static void test_the_log_names_what_is_missing(void **state)
{
	static char log[8192];
	struct sessions *s = start("10.0.0.0/8", NULL);
	char file[] = "/tmp/test_sessions.XXXXXX";
	int fd = mkstemp(file), old = dup(STDERR_FILENO);
	ssize_t n;

	(void)state;
	assert_true(fd != -1 && old != -1);
	sessions_tick(s, 1 * S);
	for (unsigned i = 0; i < 120; i++) {
		struct hello h = hello("203.0.113.1", (uint16_t)(1 + i), "10.1.2.3", 443, i + 1, "api.example");
		struct hello good = hello("203.0.113.1", (uint16_t)(1 + i), "10.1.2.4", 443, i + 1000, "good.example");

		both(s, &h, OWN, 2 * S);
		both(s, &good, OWN, 2 * S);
		sessions_delivered(s, good.random, 2 * S);
	}
	dup2(fd, STDERR_FILENO);
	for (uint64_t at = 2; at <= 700; at++)
		sessions_tick(s, at * S);
	dup2(old, STDERR_FILENO);
	n = pread(fd, log, sizeof(log) - 1, 0);
	assert_true(n > 0);
	log[n] = '\0';
	assert_non_null(strstr(log, "sessions: 240 sessions seen, 120 in the clear (last minute: 0, 0); missing: "
				    "443 to 10.1.2.3 (api.example): 120 sessions seen, 0 in the clear\n"));
	assert_null(strstr(log, "good.example"));
	n = 0;
	for (const char *p = log; (p = strchr(p, '\n')); p++)
		n++;
	assert_int_equal(n, 2); /* every five minutes */
	close(fd);
	close(old);
	unlink(file);
	sessions_free(&s);
}

static void test_without_nets(void **state)
{
	struct sessions *s = start(NULL, NULL);

	(void)state;
	shows(s, sessions_json, "\"effectiveness\": null, \"coverage\": []", true);
	shows(s, sessions_text, "effectiveness", false);
	shows(s, sessions_doctor, SESSIONS_FINE, true);
	sessions_free(&s);
}

/* --- networks --- */

static void test_networks(void **state)
{
	static const struct {
		const char *net, *shown;
		int ret;
	} c[] = {
		{"10.0.0.0/8", "10.0.0.0/8", 0},
		{"203.0.113.7", "203.0.113.7/32", 0},
		{"0.0.0.0/0", "0.0.0.0/0", 0},
		{"2001:db8::/32", "2001:db8::/32", 0},
		{"::1", "::1/128", 0},
		{"::ffff:10.0.0.0/104", "10.0.0.0/8", 0},
		{"10.1.2.3/8", "10.0.0.0/8", -ERANGE},
		{"203.0.113.128/24", "203.0.113.0/24", -ERANGE},
		{"203.0.113.128/25", "203.0.113.128/25", 0},
		{"2001:db8::1/32", "2001:db8::/32", -ERANGE},
		{"", NULL, -EINVAL},
		{"/8", NULL, -EINVAL},
		{"10.0.0.0/", NULL, -EINVAL},
		{"10.0.0.0/33", NULL, -EINVAL},
		{"10.0.0.0/-1", NULL, -EINVAL},
		{"10.0.0.0/8x", NULL, -EINVAL},
		{"10.0.0/8", NULL, -EINVAL},
		{"2001:db8::/129", NULL, -EINVAL},
		{"::/99999999999999999999", NULL, -EINVAL},
		{"api.example", NULL, -EINVAL},
		{"10.0.0.0/8 ", NULL, -EINVAL},
		{"1111:2222:3333:4444:5555:6666:7777:8888:9999:aaaa:bbbb:cccc/8", NULL, -EINVAL},
	};
	char text[NETS_STRLEN];
	struct net n;

	(void)state;
	for (unsigned i = 0; i < sizeof(c) / sizeof(c[0]); i++) {
		assert_int_equal(net_parse(c[i].net, &n), c[i].ret);
		if (c[i].shown)
			assert_string_equal(net_str(&n, text), c[i].shown);
	}
}

static void test_what_lies_in_a_network(void **state)
{
	uint8_t a[16] = {10, 1, 127, 255}, b[16] = {10, 1, 128, 0}, any[16] = {0};
	struct net n;

	(void)state;
	assert_int_equal(net_parse("10.1.0.0/17", &n), 0);
	assert_true(net_has(&n, 4, a));
	assert_false(net_has(&n, 4, b));
	assert_false(net_has(&n, 6, a));
	assert_int_equal(net_parse("0.0.0.0/0", &n), 0);
	assert_true(net_has(&n, 4, b) && net_has(&n, 4, any));
	assert_int_equal(net_parse("10.1.127.255", &n), 0);
	assert_true(net_has(&n, 4, a));
	assert_false(net_has(&n, 4, b));
}

static void test_bad_networks_are_named(void **state)
{
	char good[] = "10.0.0.0/8", bad[] = "10.0.0/8", host[] = "10.1.2.3/8", err[SESSIONS_ERR];
	char *nets[SESSIONS_NETS_MAX + 1] = {good, bad};
	struct sessions *s = NULL;

	(void)state;
	assert_int_equal(sessions_new(&s, nets, 2, NULL, err), -EINVAL);
	assert_null(s);
	assert_string_equal(err, "-H: \"10.0.0/8\" is no network, such as 10.0.0.0/8 or 2001:db8::/32");
	nets[1] = host;
	assert_int_equal(sessions_new(&s, nets, 2, NULL, err), -EINVAL);
	assert_string_equal(err, "-H: \"10.1.2.3/8\" has bits of a host in it: is 10.0.0.0/8 meant?");
	for (unsigned i = 0; i <= SESSIONS_NETS_MAX; i++)
		nets[i] = good;
	assert_int_equal(sessions_new(&s, nets, SESSIONS_NETS_MAX + 1, NULL, err), -EINVAL);
	assert_string_equal(err, "-H: more than 64 networks");
	assert_int_equal(sessions_new(&s, nets, SESSIONS_NETS_MAX, NULL, err), 0);
	sessions_free(&s);
}

/* --- anything, in any order --- */

static void check_sums(struct sessions *s)
{
	struct sum sum = s->servers->others;
	uint32_t listed = 0;

	for (uint32_t i = 0; i < s->servers->n; i++) {
		const struct sum *v = &s->servers->server[i].sum;

		assert_true(v->delivered + v->missed <= v->seen);
		sum.seen += v->seen;
		sum.delivered += v->delivered;
		sum.missed += v->missed;
	}
	assert_true(sum.seen == s->servers->total.seen && sum.delivered == s->servers->total.delivered &&
		    sum.missed == s->servers->total.missed);
	assert_true(s->servers->total.seen <= s->seen && s->delivered + s->missed <= s->seen);
	assert_int_equal(s->missed, s->coverage.missed[0] + s->coverage.missed[1] + s->coverage.missed[2]);
	for (unsigned i = 0; i < SESSION_LISTS; i++)
		listed += s->t.list[i].n;
	assert_int_equal(listed, s->t.touched);
}

static void test_random_events(void **state)
{
	struct sessions *s = start("203.0.113.0/25", &helper);
	uint64_t now = 1 * S;
	unsigned seed = 1;

	(void)state;
	log_init("test_sessions", LOG_L_WARN);
	for (unsigned i = 0; i < 300000; i++) {
		unsigned r = (unsigned)rand_r(&seed), what = (unsigned)rand_r(&seed) % 16;
		struct hello h = hello("127.0.0.1", (uint16_t)(1 + r % 300), r & 1024 ? "203.0.113.2" : "203.0.113.200",
				       443, r / 16 % 400, r & 2048 ? "a" : "b");
		uint64_t netns = r & 4096 ? OWN : OTHER;
		struct helper_event e = whose(cookie[r % 64] ^ (r % 50 == 0), r & 1 ? HELPER_R_OK : HELPER_R_GONE,
					      r >> 8, r & 2 ? "/bin/a" : "/bin/b");

		now += r % 20 * MS;
		if (r % 97 == 0)
			h.random_len = 8;
		if (what < 5)
			sessions_hello(s, &h, netns, now);
		else if (what < 9)
			answer(s, &h, netns, now);
		else if (what < 11)
			sessions_delivered(s, h.random, now);
		else if (what < 13)
			sessions_ended(s, &h.t, netns, now);
		else if (what < 15)
			sessions_on_answer(s, &e);
		else
			sessions_tick(s, now);
		if (asked_n >= 64)
			asked_n = 0;
		if (i % 1000 == 0)
			check_sums(s);
	}
	check_sums(s);
	assert_true(s->seen > 1000 && s->delivered > 100 && s->missed > 100);
	free(shown(s, sessions_json));
	sessions_free(&s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_session_is_a_hello_that_was_answered),
		cmocka_unit_test(test_delivered_before_the_answer_was_seen),
		cmocka_unit_test(test_open_then_missed_then_delivered_after_all),
		cmocka_unit_test(test_the_end_settles_after_a_grace),
		cmocka_unit_test(test_ports_are_used_again),
		cmocka_unit_test(test_one_session_at_many_places),
		cmocka_unit_test(test_networks_by_any_tuple),
		cmocka_unit_test(test_a_cut_random),
		cmocka_unit_test(test_a_random_that_never_changes),
		cmocka_unit_test(test_the_last_minute),
		cmocka_unit_test(test_more_servers_than_fit_are_others),
		cmocka_unit_test(test_the_table_is_bounded_and_says_so),
		cmocka_unit_test(test_hellos_alone_do_not_displace_sessions),
		cmocka_unit_test(test_only_ends_that_may_be_here_are_asked_for),
		cmocka_unit_test(test_reasons),
		cmocka_unit_test(test_missed_ones_that_were_not_looked_up_are_like_those_that_were),
		cmocka_unit_test(test_an_answer_after_the_end),
		cmocka_unit_test(test_nobody_found_is_asked_for_again),
		cmocka_unit_test(test_nobody_found_does_not_wait_for_the_end),
		cmocka_unit_test(test_long_sessions_are_asked_for_when_they_stay_dark),
		cmocka_unit_test(test_look_ups_are_limited),
		cmocka_unit_test(test_more_kinds_of_programs_than_fit),
		cmocka_unit_test(test_hostile_names),
		cmocka_unit_test(test_the_log_names_what_is_missing),
		cmocka_unit_test(test_without_nets),
		cmocka_unit_test(test_networks),
		cmocka_unit_test(test_what_lies_in_a_network),
		cmocka_unit_test(test_bad_networks_are_named),
		cmocka_unit_test(test_random_events),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
