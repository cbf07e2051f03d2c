/* SPDX-License-Identifier: Apache-2.0 */
/* test_wire.c - wire.c: which hellos count, and how long the lane waits for those that are not read yet. */
#include <arpa/inet.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <sys/socket.h>

#include <cmocka.h>

#include "agentd/wire.c"

static struct wire w;
static struct wire_ns ns = {.wire = &w};

static void begin(void)
{
	char err[HELLOS_ERR];

	memset(&w, 0, sizeof(w));
	realtime_lock_init(&w.lock);
	pthread_cond_init(&w.drained, NULL);
	assert_int_equal(hellos_open(&w.table, NULL, 64, err), 0);
	ns.diag = sockdiag_open();
	ns.sock.netns = 1;
	w.ns[w.ns_n++] = &ns;
}

static void end(void)
{
	close(ns.diag);
	hellos_close(&w.table);
}

/* More hellos than the reader can read: here it reads none. Many connections ask for theirs all the same. */
static void test_a_flood_does_not_hold_up_the_lane(void **state)
{
	uint64_t before, took;
	int fd[2];

	(void)state;
	begin();
	assert_int_equal(pipe(fd), 0);
	assert_int_equal(write(fd[1], "", 1), 1);
	ns.sock.fd = fd[0];
	w.running = true;
	before = clock_of(CLOCK_MONOTONIC);
	for (unsigned i = 0; i < 200; i++)
		wire_read(&w);
	took = clock_of(CLOCK_MONOTONIC) - before;
	assert_in_range(took, PATIENCE_NS / 2, 1000000000); /* 200 times 20 ms are 4 s */
	close(fd[0]);
	close(fd[1]);
	end();
}

/* A connection between two sockets of ours: its ends in ret. */
static void connect_pair(int fd[static 3], struct tuple *ret)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof(a);

	fd[0] = socket(AF_INET, SOCK_STREAM, 0);
	assert_int_equal(bind(fd[0], (struct sockaddr *)&a, sizeof(a)), 0);
	assert_int_equal(listen(fd[0], 1), 0);
	assert_int_equal(getsockname(fd[0], (struct sockaddr *)&a, &len), 0);
	memset(ret, 0, sizeof(*ret));
	ret->ver = 4;
	ret->port[SIDE_SERVER] = ntohs(a.sin_port);
	memcpy(ret->addr[SIDE_SERVER], &a.sin_addr, 4);
	memcpy(ret->addr[SIDE_CLIENT], &a.sin_addr, 4);
	fd[1] = socket(AF_INET, SOCK_STREAM, 0);
	assert_int_equal(connect(fd[1], (struct sockaddr *)&a, sizeof(a)), 0);
	fd[2] = accept(fd[0], NULL, NULL);
	assert_int_equal(getsockname(fd[1], (struct sockaddr *)&a, &len), 0);
	ret->port[SIDE_CLIENT] = ntohs(a.sin_port);
}

static void test_a_hello_that_comes_in_from_our_own_socket_is_forged(void **state)
{
	struct hello h = {.random_len = 32};
	struct hellos_seen seen[WIRE_FOUND];
	bool own;
	int fd[3];

	(void)state;
	begin();
	connect_pair(fd, &h.t);
	for (unsigned server = 0; server < 2; server++) {
		h.server = server;
		h.random[0] = (uint8_t)(1 + server);
		h.sent = false;
		on_hello(&ns, &ns.sock, &h, LOOPBACK + 1);
		assert_true(w.forged == server + 1 && w.hellos == 2 * server + 1);
		assert_int_equal(wire_find(&w, h.random, h.random, (enum side)server, seen, &own), 0);
		h.sent = true;
		on_hello(&ns, &ns.sock, &h, LOOPBACK + 1);
		assert_int_equal(wire_find(&w, h.random, h.random, (enum side)server, seen, &own), 1);
		assert_true(own && seen[0].sent && !seen[0].received && seen[0].cookie[server]);
		assert_true(seen[0].owner[server] == HELLOS_LOCAL && seen[0].uid[server] == getuid());
	}
	for (unsigned i = 0; i < 3; i++)
		close(fd[i]);
	h.sent = false; /* gone: it may be anybody's */
	h.t.port[SIDE_CLIENT] = 9;
	on_hello(&ns, &ns.sock, &h, LOOPBACK + 1);
	assert_int_equal(w.forged, 2);
	end();
}

static void test_a_namespace_that_cannot_be_opened_is_told(void **state)
{
	struct helper_event e = {.type = HELPER_NETNS, .result = HELPER_R_ERROR, .err = EPERM, .fd = -1, .last = true};
	char log[1000] = "", file[] = "/tmp/test_wire.XXXXXX";
	int fd = mkstemp(file), old = dup(STDERR_FILENO);
	static struct lane lane;

	(void)state;
	assert_true(fd != -1 && old != -1);
	begin();
	w.lane = &lane;
	dup2(fd, STDERR_FILENO);
	for (unsigned second = 0; second < 40; second++) {
		lane.now_ns = second * 1000000000ull;
		wire_on_netns(&w, &e);
	}
	dup2(old, STDERR_FILENO);
	assert_int_equal(w.netns_failed, 40);
	assert_true(pread(fd, log, sizeof(log) - 1, 0) > 0);
	assert_non_null(strstr(log, "CAP_SYS_ADMIN"));
	assert_ptr_equal(strchr(strchr(log, '\n') + 1, '\n') + 1, log + strlen(log)); /* twice in 40 seconds */
	close(fd);
	close(old);
	unlink(file);
	end();
}

/* The lane stands still: what the sessions are not told of is counted. */
static void test_what_the_sessions_are_not_told_of_is_counted(void **state)
{
	struct hello h = {.random_len = 32}, retry = {.random_len = 32, .server = true, .retry = true};

	(void)state;
	begin();
	w.news = calloc(WIRE_QUEUE, sizeof(*w.news));
	assert_non_null(w.news);
	for (unsigned i = 0; i < WIRE_QUEUE + 3; i++) {
		tell_sessions(&w, &h, 1, 2, i);
		tell_sessions(&w, &retry, 1, 2, i);
	}
	assert_true(w.news_n == WIRE_QUEUE && w.news_lost == 3);
	assert_true(w.news[WIRE_QUEUE - 1].now_ns == WIRE_QUEUE - 1);
	free(w.news);
	end();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_flood_does_not_hold_up_the_lane),
		cmocka_unit_test(test_a_hello_that_comes_in_from_our_own_socket_is_forged),
		cmocka_unit_test(test_a_namespace_that_cannot_be_opened_is_told),
		cmocka_unit_test(test_what_the_sessions_are_not_told_of_is_counted),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
