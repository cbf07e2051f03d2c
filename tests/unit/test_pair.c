/* SPDX-License-Identifier: Apache-2.0 */
/* test_pair.c - pair.c: which 5-tuple is whose, by what the process states, what the wire shows and what the kernel
 * says. */
#include <net/if.h>

#include "app.h"

#define OWN_NETNS 1
#define MINE 1000u   /* the process's user */
#define THEIRS 1001u /* somebody else's */

/* Process @pid of user @uid maps the family's memory. */
static void maps_the_memory(int32_t pid, uint32_t uid)
{
	uint16_t ignored;
	struct member *m = a_process(pid, &ignored);

	m->uids_known = true;
	m->uid = m->fsuid = uid;
}

static void begin_wire(void)
{
	char err[HELLOS_ERR];

	begin_family();
	fam->uid = MINE;
	maps_the_memory(PID, MINE);
	sock_pid_is = PID;
	assert_int_equal(hellos_open(&wire.table, NULL, 1024, err), 0);
	assert_int_equal(hellos_open(&wire.inner, NULL, 64, err), 0);
	wire.own_netns = OWN_NETNS;
}

static void end_wire(void)
{
	hellos_close(&wire.table);
	hellos_close(&wire.inner);
	sock_pid_is = 0;
	end_family();
}

static struct tuple ends(uint8_t client, uint16_t client_port, uint8_t server, uint16_t server_port)
{
	struct tuple t = {.ver = 4, .port = {client_port, server_port}};

	t.addr[SIDE_CLIENT][0] = t.addr[SIDE_SERVER][0] = 10;
	t.addr[SIDE_CLIENT][3] = client;
	t.addr[SIDE_SERVER][3] = server;
	return t;
}

/* A hello with random @id passed by, one millisecond after the one before it. NULL: no room. */
static struct hellos_seen *passed(uint64_t id, bool server, bool sent, struct tuple t, uint64_t netns, uint32_t ifindex)
{
	static uint64_t after;
	struct hello h = {.t = t, .server = server, .sent = sent, .random_len = 32};

	memcpy(h.random, &id, 8);
	after += 1000000;
	return hellos_add(wire.table, &h, netns, ifindex, lane.now_ns + after);
}

static void belongs(struct hellos_seen *s, enum side side, enum hellos_owner owner, uint32_t uid)
{
	s->owner[side] = owner;
	s->uid[side] = uid;
	s->cookie[side] = owner == HELLOS_LOCAL;
}

/* The ClientHello of connection @id passed by between these ends; @owner of the end @side is the kernel's word. */
static void shown(uint64_t id, struct tuple t, uint64_t netns, uint32_t ifindex, enum side side,
		  enum hellos_owner owner, uint32_t uid)
{
	struct hellos_seen *seen = passed(id, false, side == SIDE_CLIENT && owner == HELLOS_LOCAL, t, netns, ifindex);

	if (seen)
		belongs(seen, side, owner, uid);
}

/* OPEN of a program that hides its socket from its TLS library. */
static struct app hidden_with(uint64_t id, uint64_t server_random, bool server, uint16_t version)
{
	struct app a = app_new(id, server);
	struct letter l = open_of(&a, 0);
	struct rec_open o;

	memcpy(&o, l.data, sizeof(o));
	o.flags &= (uint16_t)~REC_OPEN_ADDRS;
	o.fd = -1;
	o.ver = 0;
	o.tls_version = version;
	if (server_random) {
		o.flags |= REC_OPEN_SERVER_RANDOM;
		memcpy(o.server_random, &server_random, 8);
	}
	memset(o.local, 0, sizeof(o.local));
	memset(o.remote, 0, sizeof(o.remote));
	o.local_port = o.remote_port = 0;
	memcpy(l.data, &o, sizeof(o));
	now(l);
	return a;
}

static struct app hidden(uint64_t id, bool server, uint16_t version)
{
	return hidden_with(id, 0, server, version);
}

static const struct conn *conn_of(const struct app *a)
{
	return fam->taps[a->s - fam->r.v.slot]->conn;
}

static void talk(struct app *a)
{
	now(call(a, DIR_TX, 1000, 0));
	now(call(a, DIR_RX, 500, 0));
	turns(4);
}

static bool is_shown_as(const struct app *a, struct tuple t, uint16_t port)
{
	const struct conn *c = conn_of(a);

	return c && memcmp(&c->real, &t, sizeof(t)) == 0 && c->flow.t.port[SIDE_SERVER] == port;
}

static void test_the_wire_alone_pairs(void **state)
{
	(void)state;
	for (unsigned server = 0; server < 2; server++) {
		struct tuple t = ends(1, 5005, 2, 443);
		struct app a;

		begin_wire();
		shown(5, t, OWN_NETNS, 2, server ? SIDE_SERVER : SIDE_CLIENT, HELLOS_LOCAL, MINE);
		a = hidden(5, server, 0x0304);
		talk(&a);
		assert_true(is_shown_as(&a, t, 447));
		assert_int_equal(forged(5), 1500);
		assert_int_equal(lane.by[EVIDENCE_WIRE], 1);
		app_free(&a);
		end_wire();
	}
}

static void test_what_was_not_on_the_wire_waits_and_is_unpaired(void **state)
{
	struct app a;

	(void)state;
	begin_wire();
	a = hidden(5, false, 0x0304);
	talk(&a);
	assert_int_equal(lane.sum.held, 1500);
	pass(11000);
	assert_true(lane.sum.unpaired == 1500 && lane.sum.held == 0 && lane.unpaired_n == 1 && fam->unpaired_n == 1);
	app_free(&a);
	end_wire();
	/* it may come late */
	begin_wire();
	a = hidden(5, false, 0x0304);
	talk(&a);
	shown(5, ends(1, 5005, 2, 443), OWN_NETNS, 2, SIDE_CLIENT, HELLOS_LOCAL, MINE);
	pass(1000);
	assert_int_equal(forged(5), 1500);
	app_free(&a);
	end_wire();
}

/* One after the other in one slot: they have all waited when the first one has; who comes then has its own time. */
static void test_those_in_one_slot_do_not_wait_in_turn(void **state)
{
	const struct shm_slot *slot = NULL;
	struct app a;

	(void)state;
	begin_wire();
	for (unsigned i = 0; i < 20; i++) {
		a = hidden(5, false, 0x0304);
		assert_true(!slot || slot == a.s);
		slot = a.s;
		talk(&a);
		app_free(&a);
	}
	pass(9000);
	assert_int_equal(lane.sum.held, 20 * 1500);
	pass(2000);
	turns(100);
	assert_true(lane.sum.unpaired == 20 * 1500 && lane.sum.held == 0 && lane.unpaired_n == 20);
	a = hidden(5, false, 0x0304);
	talk(&a);
	pass(9000);
	shown(5, ends(1, 5005, 2, 443), OWN_NETNS, 2, SIDE_CLIENT, HELLOS_LOCAL, MINE);
	pass(200);
	assert_int_equal(forged(5), 1500);
	app_free(&a);
	end_wire();
}

static void test_too_much_that_waits_has_a_name(void **state)
{
	struct app a;

	(void)state;
	begin_wire();
	a = hidden(5, false, 0x0304);
	for (unsigned i = 0; i < 400; i++) {
		now(call(&a, DIR_TX, 60000, 0));
		if (i % 20 == 19)
			turn();
	}
	turns(3);
	assert_true(lane.sum.no_room == 400 * 60000 && lane.sum.held == 0);
	app_free(&a);
	end_wire();
}

/* A process says the random of a connection that is another user's. */
static void test_somebody_elses_random_gives_nothing(void **state)
{
	(void)state;
	for (unsigned stated = 0; stated < 2; stated++) {
		struct app a;

		begin_wire();
		verdict_is = HELPER_R_FOREIGN;
		shown(5, ends(1, 5005, 2, 443), OWN_NETNS, 2, SIDE_CLIENT, HELLOS_LOCAL, THEIRS);
		a = stated ? opened(5, false) : hidden(5, false, 0x0304);
		talk(&a);
		pass(500);
		pass(500);
		pass(500);
		assert_int_equal(forged(5), 0);
		assert_int_equal(lane.sum.unverified, 1500);
		assert_true(lane.unverified_n == 1 && fam->unverified_n == 1);
		app_free(&a);
		end_wire();
	}
}

/* Root's sockets are not everybody's; the kernel may say that it is ours all the same. */
static void test_a_socket_of_root_is_proven_by_its_descriptor(void **state)
{
	struct app a;

	(void)state;
	begin_wire();
	shown(5, ends(1, 5005, 2, 443), OWN_NETNS, 2, SIDE_CLIENT, HELLOS_LOCAL, 0);
	a = hidden(5, false, 0x0304);
	talk(&a);
	assert_true(forged(5) == 1500 && lane.by[EVIDENCE_WIRE] == 1);
	app_free(&a);
	end_wire();
}

/* A server of another user was made to map the family's memory: what it has is not the family's. */
static void test_a_stranger_does_not_speak_for_the_family(void **state)
{
	(void)state;
	for (unsigned stated = 0; stated < 2; stated++) {
		struct app a;

		begin_wire();
		maps_the_memory(77, 0);
		sock_pid_is = 77;
		shown(5, ends(1, 1029, 2, 443), OWN_NETNS, 2, SIDE_CLIENT, HELLOS_LOCAL, 0);
		a = stated ? opened(5, false) : hidden(5, false, 0x0304);
		talk(&a);
		for (unsigned i = 0; i < 5; i++)
			pass(500);
		assert_int_equal(forged(5), 0);
		assert_int_equal(lane.sum.unverified, 1500);
		app_free(&a);
		end_wire();
	}
}

/* Root's short connection, over before anybody could be asked: nobody else's, as far as is known. */
static void test_root_is_believed(void **state)
{
	(void)state;
	for (unsigned root = 0; root < 2; root++) {
		struct app a;

		begin_wire();
		verdict_is = HELPER_R_GONE;
		fam->uid = fam->member[0]->uid = fam->member[0]->fsuid = root ? 0 : MINE;
		shown(5, ends(1, 5005, 2, 443), OWN_NETNS, 2, SIDE_CLIENT, HELLOS_NONE, 0);
		a = hidden(5, false, 0x0304);
		talk(&a);
		for (unsigned i = 0; i < 5; i++)
			pass(500);
		assert_int_equal(forged(5), root ? 1500 : 0);
		assert_int_equal(lane.sum.unverified, root ? 0 : 1500);
		app_free(&a);
		end_wire();
	}
}

/* Forged hellos with the same random come later: the pairing stays, and before it the process's own tuple wins. */
static void test_later_hellos_steal_nothing(void **state)
{
	(void)state;
	for (unsigned before = 0; before < 2; before++) {
		struct tuple t = ends(1, 5005, 2, 443);
		struct hellos_count n;
		struct app a;

		begin_wire();
		shown(5, t, OWN_NETNS, 2, SIDE_CLIENT, HELLOS_LOCAL, MINE);
		if (!before) {
			a = hidden(5, false, 0x0304);
			talk(&a);
		}
		for (uint16_t i = 0; i < 10; i++)
			shown(5, ends(9, (uint16_t)(100 + i), 2, 443), OWN_NETNS, 2, SIDE_CLIENT,
			      i & 1 ? HELLOS_NONE : HELLOS_LOCAL, THEIRS);
		if (before) {
			a = hidden(5, false, 0x0304);
			talk(&a);
		}
		talk(&a);
		assert_true(is_shown_as(&a, t, 447));
		assert_int_equal(forged(5), 3000);
		hellos_count(wire.table, &n);
		assert_int_equal(n.crowded, 10 - (HELLOS_TUPLES - 1));
		app_free(&a);
		end_wire();
	}
}

static void test_namespaces_with_the_same_addresses(void **state)
{
	struct tuple t = ends(1, 5005, 2, 443);
	struct app a;

	(void)state;
	begin_wire();
	verdict_is = HELPER_R_OTHER_NETNS;
	shown(5, t, 77, 2, SIDE_CLIENT, HELLOS_LOCAL, MINE); /* not where the process lives */
	a = hidden(5, false, 0x0304);
	talk(&a);
	pass(500);
	pass(500);
	assert_true(forged(5) == 0 && lane.sum.unverified == 1500);
	app_free(&a);
	end_wire();
	begin_wire();
	fam->netns = 77;
	shown(5, t, OWN_NETNS, 2, SIDE_CLIENT, HELLOS_NONE, 0); /* the host's end of its veth pair */
	shown(5, t, 77, 2, SIDE_CLIENT, HELLOS_LOCAL, MINE);
	a = hidden(5, false, 0x0304);
	talk(&a);
	assert_true(is_shown_as(&a, t, 447));
	app_free(&a);
	end_wire();
}

/* The socket says :8443, the wire only ever :443. */
static void test_redirect_shows_the_wires_tuple(void **state)
{
	struct tuple t = ends(1, 1029, 2, 8080);
	struct app a;

	(void)state;
	begin_wire();
	shown(5, t, OWN_NETNS, 2, SIDE_SERVER, HELLOS_NONE, 0);
	a = opened(5, true); /* 10.0.0.2:443 <- 10.0.0.1:1029 */
	talk(&a);
	assert_true(is_shown_as(&a, t, 8084));
	assert_int_equal(lane.by[EVIDENCE_SOCKET], 1);
	app_free(&a);
	end_wire();
	/* nothing in common: the random is not this socket's */
	begin_wire();
	shown(5, ends(7, 7, 8, 8), OWN_NETNS, 2, SIDE_SERVER, HELLOS_NONE, 0);
	a = opened(5, true);
	talk(&a);
	assert_true(forged(5) == 0 && lane.sum.unverified == 1500);
	app_free(&a);
	end_wire();
}

/* One user's proxy and server: both tuples end in a socket of that user. The descriptors tell. */
static void test_proxy_of_the_same_user(void **state)
{
	struct tuple outside = ends(1, 5005, 2, 443), inside = ends(2, 6006, 3, 8443);
	struct app a;

	(void)state;
	begin_wire();
	shown(5, outside, OWN_NETNS, 2, SIDE_SERVER, HELLOS_LOCAL, MINE);
	shown(5, inside, OWN_NETNS, 3, SIDE_SERVER, HELLOS_LOCAL, MINE);
	a = hidden(5, true, 0x0304);
	talk(&a); /* a server is the last in the row */
	assert_true(is_shown_as(&a, inside, 8447));
	app_free(&a);
	end_wire();
}

/* A short connection, closed before anybody could look: its user was known when its hello passed by. */
static void test_closed_but_seen_with_its_user(void **state)
{
	struct app a;

	(void)state;
	begin_wire();
	verdict_is = HELPER_R_GONE;
	shown(5, ends(1, 1029, 2, 443), OWN_NETNS, 2, SIDE_CLIENT, HELLOS_LOCAL, MINE);
	a = opened(5, false);
	talk(&a);
	assert_true(forged(5) == 1500 && lane.by[EVIDENCE_WIRE] == 1);
	app_free(&a);
	end_wire();
}

static void inside(const struct app *outer, const uint8_t *p, size_t len)
{
	wire_cleartext(&wire, p, len, &conn_of(outer)->real, fam->id, 1, 0);
}

/* The outer session's cleartext holds the inner one's hellos. */
static void test_session_inside_a_session(void **state)
{
	static const uint8_t head[] = {0x16, 3, 1, 0, 0x80, 1, 0, 0, 0x7c, 3, 3};
	struct tuple t = ends(1, 5005, 2, 3128);
	uint8_t hello[128] = {0};
	uint64_t id = 6;
	struct app outer, a;

	(void)state;
	begin_wire();
	shown(5, t, OWN_NETNS, 2, SIDE_CLIENT, HELLOS_LOCAL, MINE);
	outer = hidden(5, false, 0x0304);
	talk(&outer);
	a = hidden(6, false, 0x0304);
	talk(&a);
	assert_int_equal(forged(6), 0);
	memcpy(hello, head, sizeof(head));
	memcpy(hello + sizeof(head), &id, 8);
	hello[sizeof(head) + 32 + 2] = 2; /* one cipher suite */
	inside(&outer, hello, sizeof(hello));
	pass(200);
	assert_int_equal(forged(6), 1500);
	assert_true(is_shown_as(&a, t, 3136) && is_shown_as(&outer, t, 3132));
	assert_int_equal(lane.by[EVIDENCE_INNER], 1);
	app_free(&a);
	app_free(&outer);
	end_wire();
}

static void test_renegotiation_without_addresses(void **state)
{
	(void)state;
	for (unsigned version = 0x0303; version <= 0x0304; version++) {
		struct app a;
		struct letter l;
		uint64_t other = 4711;

		begin_wire();
		shown(5, ends(1, 5005, 2, 443), OWN_NETNS, 2, SIDE_CLIENT, HELLOS_LOCAL, MINE);
		a = hidden(5, false, (uint16_t)version);
		talk(&a);
		for (unsigned d = 0; d < 2; d++)
			store(&a.s->base[d], load(&a.s->rep[d]));
		store_rel(&a.s->gen, load(&a.s->gen) + 1);
		l = open_of(&a, 0);
		{
			struct rec_open o;

			memcpy(&o, l.data, sizeof(o));
			o.flags &= (uint16_t)~REC_OPEN_ADDRS;
			o.tls_version = (uint16_t)version;
			memcpy(o.client_random, &other, 8);
			memcpy(l.data, &o, sizeof(o));
		}
		now(l);
		turns(3);
		assert_true(version == 0x0303 ? conn_of(&a) && conn_of(&a)->random8 == 5 : !conn_of(&a));
		app_free(&a);
		end_wire();
	}
}

/* -I IFACE: what it saw is shown, if it can be a leg of this very connection. @first: it was there before the process's
 * own hello: then it is somebody else's whose random the process says again. */
static void test_an_interface_shows_its_leg_of_the_connection(void **state)
{
	static char lo[] = "lo";
	struct tuple mine = ends(1, 1029, 2, 443), theirs = ends(9, 7777, 8, 443);

	(void)state;
	for (unsigned first = 0; first < 2; first++)
		for (unsigned stated = 0; stated < 2; stated++) {
			struct app a;

			begin_wire();
			conf.interface = lo;
			if (first)
				shown(5, theirs, OWN_NETNS, if_nametoindex(lo), SIDE_CLIENT, HELLOS_LOCAL, THEIRS);
			shown(5, mine, OWN_NETNS, 77, SIDE_CLIENT, HELLOS_LOCAL, MINE);
			if (!first)
				shown(5, theirs, OWN_NETNS, if_nametoindex(lo), SIDE_CLIENT, HELLOS_LOCAL, THEIRS);
			a = stated ? opened(5, false) : hidden(5, false, 0x0304);
			talk(&a);
			if (first)
				assert_true(forged(5) == 0 && lane.sum.denied == 1500);
			else
				assert_true(is_shown_as(&a, theirs, 447));
			conf.interface = on_any;
			app_free(&a);
			end_wire();
		}
}

/* A client sends the same hello on several connections: each server's random is one connection's only. */
static void test_a_client_that_says_its_random_twice(void **state)
{
	struct tuple t = ends(1, 5005, 2, 443);

	(void)state;
	for (unsigned n = 1; n <= HELLOS_TUPLES; n++) {
		struct app a;

		begin_wire();
		if (n < HELLOS_TUPLES)
			shown(5, t, OWN_NETNS, 2, SIDE_SERVER, HELLOS_LOCAL, MINE);
		for (uint16_t i = 0; i < n; i++) {
			struct tuple other = ends(1, (uint16_t)(6000 + i), 2, 443);

			shown(5, other, OWN_NETNS, 2, SIDE_SERVER, HELLOS_LOCAL, MINE);
			belongs(passed(100 + i, true, true, other, OWN_NETNS, 2), SIDE_SERVER, HELLOS_LOCAL, MINE);
		}
		belongs(passed(77, true, true, t, OWN_NETNS, 2), SIDE_SERVER, HELLOS_LOCAL, MINE);
		a = hidden_with(5, 77, true, 0x0304);
		talk(&a);
		assert_true(is_shown_as(&a, t, 447));
		app_free(&a);
		end_wire();
	}
}

/* A connection that is only passed on here, or is in another namespace, and whose server is in league with a process
 * that has a connection to it too, or only says so. */
static void test_what_is_passed_on_is_nobodys(void **state)
{
	struct tuple in = ends(7, 7, 2, 443), out = ends(3, 3, 2, 443);

	(void)state;
	for (unsigned how = 0; how < 3; how++) {
		struct app a;

		begin_wire();
		if (how < 2) {
			shown(5, in, OWN_NETNS, 2, SIDE_CLIENT, HELLOS_NONE, 0);
			belongs(passed(5, false, true, out, OWN_NETNS, 3), SIDE_CLIENT, HELLOS_NONE, 0);
		} else {
			belongs(passed(5, false, true, in, 77, 3), SIDE_CLIENT, HELLOS_NONE, 0);
		}
		if (how == 1)
			shown(5, ends(1, 1029, 2, 443), OWN_NETNS, 3, SIDE_CLIENT, HELLOS_LOCAL, MINE);
		a = opened(5, false);
		talk(&a);
		if (how == 1)
			assert_true(is_shown_as(&a, ends(1, 1029, 2, 443), 447));
		else
			assert_true(forged(5) == 0 && lane.sum.unverified == 1500);
		app_free(&a);
		end_wire();
	}
}

/* What was proven some time ago: the addresses may be another socket's by now. */
static void test_addresses_that_another_socket_has_now(void **state)
{
	(void)state;
	for (unsigned how = 0; how < 4; how++) {
		struct app a;

		begin_wire();
		if (how & 1) {
			shown(5, ends(1, 1029, 2, 443), OWN_NETNS, 2, SIDE_CLIENT, HELLOS_LOCAL, MINE);
			exists_cookie = how & 2 ? 1 : 2;
			verdict_is = HELPER_R_GONE;
			a = hidden(5, false, 0x0304);
		} else {
			struct letter l;

			a = app_new(5, false);
			l = open_of(&a, 0);
			l.r.type = REC_SOCKET;
			now(l);
			turns(2);
			exists_cookie = how & 2 ? 1 : 2;
			verdict_is = HELPER_R_FOREIGN;
			now(open_of(&a, REC_OPEN_TOLD));
		}
		talk(&a);
		pass(500);
		pass(500);
		assert_int_equal(forged(5), how & 2 ? 1500 : 0);
		assert_int_equal(lane.sum.unverified, how & 2 ? 0 : 1500);
		app_free(&a);
		end_wire();
	}
}

/* The outer session ended long ago: what was said in it is no claim to its addresses. */
static void test_an_outer_session_that_is_over(void **state)
{
	static const uint8_t head[] = {0x16, 3, 1, 0, 0x80, 1, 0, 0, 0x7c, 3, 3};
	uint8_t hello[128] = {0};
	uint64_t id = 6;

	(void)state;
	for (unsigned same = 0; same < 2; same++) {
		struct app outer, a;

		begin_wire();
		shown(5, ends(1, 5005, 2, 3128), OWN_NETNS, 2, SIDE_CLIENT, HELLOS_LOCAL, MINE);
		outer = hidden(5, false, 0x0304);
		talk(&outer);
		memcpy(hello, head, sizeof(head));
		memcpy(hello + sizeof(head), &id, 8);
		hello[sizeof(head) + 32 + 2] = 2;
		inside(&outer, hello, sizeof(hello));
		app_free(&outer);
		turns(5);
		exists_cookie = same ? 1 : 2;
		verdict_is = HELPER_R_GONE;
		a = hidden(6, false, 0x0304);
		talk(&a);
		pass(11000);
		assert_int_equal(forged(6), same ? 1500 : 0);
		app_free(&a);
		end_wire();
	}
}

/* OPEN of a library that tells no random, and perhaps not whose end it has. */
static struct app silent(uint64_t id, bool server, bool says_so)
{
	struct app a = app_new(id, server);
	struct letter l = open_of(&a, 0);
	struct rec_open o;

	memcpy(&o, l.data, sizeof(o));
	memset(o.client_random, 0, sizeof(o.client_random));
	if (!says_so)
		o.flags &= (uint16_t)~REC_OPEN_SERVER;
	memcpy(l.data, &o, sizeof(o));
	now(l);
	return a;
}

static void test_the_wire_tells_a_sockets_random(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 4; i++) {
		struct tuple t = ends(1, 1029, 2, 443);
		struct app a;

		begin_wire();
		shown(4, t, 77, 2, SIDE_CLIENT, HELLOS_LOCAL, MINE);				/* elsewhere */
		shown(3, ends(1, 1030, 2, 443), OWN_NETNS, 2, SIDE_CLIENT, HELLOS_LOCAL, MINE); /* of others */
		shown(0, t, OWN_NETNS, 2, SIDE_CLIENT, HELLOS_LOCAL, MINE);
		pass(1);
		shown(5, t, OWN_NETNS, 2, SIDE_CLIENT, HELLOS_LOCAL, MINE);
		a = silent(5, i & 1, i & 2);
		talk(&a);
		assert_true(is_shown_as(&a, t, 447));
		assert_int_equal(forged(5), 1500);
		assert_int_equal(lane.by[EVIDENCE_SOCKET], 1);
		app_free(&a);
		end_wire();
	}
}

/* A handshake that was not seen: the socket alone says enough, and both ends meet. */
static void test_a_socket_without_any_random(void **state)
{
	struct app a, b;

	(void)state;
	begin_wire();
	a = silent(0, false, true);
	b = silent(0, true, true);
	talk(&a);
	assert_true(conn_of(&a) && conn_of(&a) == conn_of(&b));
	assert_int_equal(forged(0), 1500);
	app_free(&b);
	app_free(&a);
	turns(5);
	/* the same ports at once again are another connection */
	a = silent(0, false, true);
	turns(5);
	assert_true(conn_of(&a) && conn_of(&a)->off[0] == 0);
	assert_int_equal(lane.conns_total, 2);
	app_free(&a);
	end_wire();
}

/* Another session on the socket of one, of the same process or of another one, or the next one on the same ports: whose
 * bytes it has cannot be told, but they are never shown among the first one's. */
static void test_two_sessions_without_any_random_on_one_socket(void **state)
{
	(void)state;
	for (unsigned how = 0; how < 8; how++) {
		bool seen = how & 1, first_is_over = how & 2, server = how & 4;
		uint64_t id = seen ? 5 : 0;
		struct app a, b;

		if (!seen && first_is_over)
			continue; /* that is another connection: see above */
		begin_wire();
		if (seen)
			shown(5, ends(1, 1029, 2, 443), OWN_NETNS, 2, server ? SIDE_SERVER : SIDE_CLIENT, HELLOS_LOCAL,
			      MINE);
		a = silent(id, server, true);
		talk(&a);
		assert_int_equal(forged(id), 1500);
		if (first_is_over)
			app_free(&a);
		turns(4);
		b = silent(id + 60000, server, true); /* the same ports */
		talk(&b);
		pass(100);
		assert_true(!conn_of(&b) && lane.sum.unpaired == 1500 && lane.unpaired_n == 1);
		if (!first_is_over) {
			talk(&a);
			assert_int_equal(forged(id), 3000);
			app_free(&a);
		}
		app_free(&b);
		end_wire();
	}
}

/* Closed before anybody could look: the wire had looked. But what is somebody else's socket is proven by nothing. */
static void test_gone_without_any_random(void **state)
{
	static const struct {
		enum helper_result verdict;
		uint32_t uid;
		bool forged;
	} c[] = {{HELPER_R_GONE, MINE, true},	     {HELPER_R_NO_PROCESS, MINE, true},
		 {HELPER_R_GONE, THEIRS, false},     {HELPER_R_NO_PROCESS, THEIRS, false},
		 {HELPER_R_FOREIGN, MINE, false},    {HELPER_R_ERROR, MINE, false},
		 {HELPER_R_OTHER_NETNS, MINE, false}};

	(void)state;
	for (unsigned i = 0; i < sizeof(c) / sizeof(c[0]); i++) {
		struct app a;

		begin_wire();
		verdict_is = c[i].verdict;
		shown(5, ends(1, 1029, 2, 443), OWN_NETNS, 2, SIDE_CLIENT, HELLOS_LOCAL, c[i].uid);
		a = silent(5, false, true);
		talk(&a);
		pass(500);
		pass(500);
		assert_int_equal(forged(5), c[i].forged ? 1500 : 0);
		assert_int_equal(lane.sum.unverified, c[i].forged ? 0 : 1500);
		app_free(&a);
		end_wire();
	}
}

/* Neither socket nor random: reported by name at once, and a random of zeroes on the wire leads nowhere. */
static void test_nothing_to_pair_by(void **state)
{
	struct app a;

	(void)state;
	begin_wire();
	shown(0, ends(1, 5005, 2, 443), OWN_NETNS, 2, SIDE_CLIENT, HELLOS_LOCAL, MINE);
	a = hidden(0, false, 0x0304);
	talk(&a);
	pass(100);
	assert_true(!conn_of(&a) && lane.sum.unpaired == 1500 && lane.unpaired_n == 1);
	app_free(&a);
	end_wire();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_the_wire_alone_pairs),
		cmocka_unit_test(test_what_was_not_on_the_wire_waits_and_is_unpaired),
		cmocka_unit_test(test_those_in_one_slot_do_not_wait_in_turn),
		cmocka_unit_test(test_too_much_that_waits_has_a_name),
		cmocka_unit_test(test_somebody_elses_random_gives_nothing),
		cmocka_unit_test(test_a_socket_of_root_is_proven_by_its_descriptor),
		cmocka_unit_test(test_a_stranger_does_not_speak_for_the_family),
		cmocka_unit_test(test_root_is_believed),
		cmocka_unit_test(test_later_hellos_steal_nothing),
		cmocka_unit_test(test_namespaces_with_the_same_addresses),
		cmocka_unit_test(test_redirect_shows_the_wires_tuple),
		cmocka_unit_test(test_proxy_of_the_same_user),
		cmocka_unit_test(test_closed_but_seen_with_its_user),
		cmocka_unit_test(test_session_inside_a_session),
		cmocka_unit_test(test_renegotiation_without_addresses),
		cmocka_unit_test(test_an_interface_shows_its_leg_of_the_connection),
		cmocka_unit_test(test_a_client_that_says_its_random_twice),
		cmocka_unit_test(test_what_is_passed_on_is_nobodys),
		cmocka_unit_test(test_addresses_that_another_socket_has_now),
		cmocka_unit_test(test_an_outer_session_that_is_over),
		cmocka_unit_test(test_the_wire_tells_a_sockets_random),
		cmocka_unit_test(test_a_socket_without_any_random),
		cmocka_unit_test(test_two_sessions_without_any_random_on_one_socket),
		cmocka_unit_test(test_gone_without_any_random),
		cmocka_unit_test(test_nothing_to_pair_by),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
