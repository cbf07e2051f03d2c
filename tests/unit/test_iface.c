/* SPDX-License-Identifier: Apache-2.0 */
/* test_iface.c - agentd's interface sink, in a network namespace of the test's own (root; else skipped): what it sends,
 * what it does while the interface is gone, what it says about frames that can never be sent. */
#include <ev.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "agentd/sink.h"
#include "common/forge.h"

#define WAIT_S 10.0

static struct ev_loop *loop;
static struct sink *s;
static struct batch b;
static char err[SINK_ERR];
static bool can;

static bool ip(const char *args)
{
	char cmd[256];

	(void)snprintf(cmd, sizeof(cmd), "ip %s >/dev/null 2>&1", args);
	return system(cmd) == 0;
}

static int set_up(void **state)
{
	(void)state;
	can = unshare(CLONE_NEWNET) == 0 && ip("link add va type veth peer name vb") && ip("link set va up") &&
	      ip("link set vb up");
	loop = ev_default_loop(0);
	batch_init(&b);
	return 0;
}

static void balanced(void)
{
	assert_true(s->n.put == s->n.acked + s->n.in_flight + s->n.backlog + s->n.unknown);
}

/* A data segment of IP version @ver. */
static void add(uint8_t ver, size_t len)
{
	static const uint8_t mac[6] = {6, 0x11, 0x22, 0x33, 0x44, 0x55}, data[3000];
	struct tuple t = {.ver = ver, .port = {40000, 447}};
	struct forge_seg g = {.t = &t, .smac = mac, .dmac = mac, .data = data, .len = len, .flags = FORGE_ACK};
	uint8_t *p = batch_reserve(&b, FORGE_HEAD_MAX + len);

	batch_commit(&b, forge_frame(&g, p), len, 1);
}

static void put(void)
{
	s->ops->put(s, &b);
	batch_reset(&b);
	balanced();
}

static void on_step(struct ev_loop *l, ev_timer *w, int events)
{
	(void)w;
	(void)events;
	ev_break(l, EVBREAK_ONE);
}

static bool wait_credit(void)
{
	ev_timer t;
	ev_tstamp end = ev_time() + WAIT_S;

	ev_timer_init(&t, on_step, 0.01, 0.01);
	ev_timer_start(loop, &t);
	while (!s->ops->credit(s) && ev_time() < end) {
		ev_run(loop, 0);
		balanced();
	}
	ev_timer_stop(loop, &t);
	return s->ops->credit(s);
}

static void test_all_that_fits_is_sent(void **state)
{
	(void)state;
	if (!can)
		skip();
	s = sink_iface(loop, "va", 0, false, err);
	assert_non_null(s);
	assert_int_equal(s->mtu, 1500);
	for (int i = 0; i < 500; i++)
		add(i % 2 ? 4 : 6, (size_t)i);
	put();
	assert_true(s->n.acked == 500 * 499 / 2 && s->n.frames == 500 && s->ops->credit(s));
	s->ops->drain(s);
	assert_true(s->drained);
	s->ops->free(s);
}

static void test_what_can_never_be_sent_is_unknown(void **state)
{
	(void)state;
	if (!can)
		skip();
	s = sink_iface(loop, "va", 0, false, err);
	assert_non_null(s);
	add(4, 100);
	add(4, 2000);
	add(6, 3000);
	add(6, 200);
	put();
	assert_true(s->n.acked == 300 && s->n.unknown == 5000 && s->n.errors == 2 && s->ops->credit(s));
	s->ops->free(s);
}

static void test_a_lost_interface_holds_credit_back(void **state)
{
	char text[128];

	(void)state;
	if (!can)
		skip();
	s = sink_iface(loop, "va", 0, false, err);
	assert_non_null(s);
	assert_true(ip("link del va"));
	for (int i = 0; i < 300; i++)
		add(4, 1000);
	put();
	assert_true(!s->ops->credit(s) && s->n.backlog == 300000);
	add(4, 7); /* without credit: kept in order, there is room */
	put();
	assert_true(s->n.backlog == 300007);
	for (int i = 0; i < 5; i++) { /* until there is none */
		for (int k = 0; k < 300; k++)
			add(4, 1400);
		put();
	}
	assert_true(s->n.unknown > 0 && s->n.errors > 0);
	s->ops->describe(s, text, sizeof(text));
	assert_non_null(strstr(text, "gone"));
	assert_true(ip("link add va type veth peer name vb") && ip("link set vb up") && ip("link set va up"));
	assert_true(wait_credit());
	assert_true(s->n.acked + s->n.unknown == s->n.put && s->n.acked >= 300007);
	s->ops->free(s);
}

static void test_bad_interfaces_are_one_line(void **state)
{
	(void)state;
	if (!can)
		skip();
	assert_null(sink_iface(loop, "nosuchif0", 0, false, err));
	assert_non_null(strstr(err, "nosuchif0"));
	assert_null(sink_iface(loop, "va", 9000, false, err));
	assert_non_null(strstr(err, "1500"));
	assert_null(sink_iface(loop, "va", 100, false, err));
	assert_null(sink_iface(loop, "lo", 0, false, err));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_all_that_fits_is_sent),
		cmocka_unit_test(test_what_can_never_be_sent_is_unknown),
		cmocka_unit_test(test_a_lost_interface_holds_credit_back),
		cmocka_unit_test(test_bad_interfaces_are_one_line),
	};

	return cmocka_run_group_tests(tests, set_up, NULL);
}
