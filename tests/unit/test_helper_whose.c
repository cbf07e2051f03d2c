/* SPDX-License-Identifier: Apache-2.0 */
/* WHOSE: from a socket to its process, and what that process maps. */
#include "helped.h"

#include <stdio.h>

#include "agentd/helper_whose.h"
#include "common/sock.h"

static void test_names_of_mappings(void **state)
{
	static const struct {
		const char *name;
		unsigned what;
	} is[] = {
		{"/usr/lib/x86_64-linux-gnu/libssl.so.3", HELPER_WHOSE_TLS},
		{"/usr/lib/libssl.so.1.1 (deleted)", HELPER_WHOSE_TLS},
		{"/opt/app/libssl-3f2a1b.so.3", HELPER_WHOSE_TLS},
		{"/usr/lib/libssl3.so", HELPER_WHOSE_TLS}, /* of NSS; others use libnss3 without its TLS */
		{"/usr/lib/libnss3.so", 0},
		{"/usr/lib/libgnutls.so.30", HELPER_WHOSE_TLS},
		{"/usr/lib/x86_64-linux-gnu/android/libssl.so.0", HELPER_WHOSE_TLS},
		{"/usr/lib/libmbedtls.so.2.28.3", HELPER_WHOSE_TLS},
		{"/usr/lib/libmbedcrypto.so.7", 0},
		{"/opt/app/libwolfssl-9d1c.so.35", HELPER_WHOSE_TLS},
		{"/usr/local/lib/libtlstap.so.1", HELPER_WHOSE_TAP},
		{"/libtlstap.so", HELPER_WHOSE_TAP},
		{"/memfd:tlstap (deleted)", HELPER_WHOSE_ATTACHED},
		{"/home/x/memfd:tlstap", 0},
		{"/usr/lib/libcrypto.so.3", 0},
		{"/tmp/libssl.so.d/other", 0},
		{"/usr/lib/libssl", 0},
		{"libssl.so.3", 0},
		{"[heap]", 0},
		{"/", 0},
		{"", 0},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(is) / sizeof(is[0]); i++)
		assert_int_equal(whose_mapping(is[i].name), is[i].what);
}

/* Another program with our descriptors. */
static pid_t sleeper(void)
{
	pid_t pid = fork();

	if (pid == 0) {
		(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
		close(h.fd);
		execlp("sleep", "sleep", "1000", NULL);
		_exit(1);
	}
	for (unsigned i = 0; i < 500; i++) { /* until it is that program */
		char path[32], exe[64];
		ssize_t n;

		snprintf(path, sizeof(path), "/proc/%d/exe", (int)pid);
		n = readlink(path, exe, sizeof(exe) - 1);
		exe[n > 0 ? n : 0] = '\0';
		if (strstr(exe, "sleep") != NULL || strstr(exe, "coreutils") != NULL || strstr(exe, "busybox") != NULL)
			break;
		usleep(10000);
	}
	return pid;
}

static void test_untapped_program(void **state)
{
	const struct helper_event *e;
	struct conn c;
	pid_t pid;

	(void)state;
	conn_make(&c, AF_INET);
	pid = sleeper();
	close_conn(&c);
	helper_whose(&h, 1, &c.se);
	e = await(1);
	assert_true(e->result == HELPER_R_OK && e->p.pid == pid && e->p.start_time != 0 && e->what == 0);
	assert_true(e->uid == getuid() && e->fsuid == geteuid() && e->ns_pid == pid && e->own_netns &&
		    e->netns == netns_of(pid) && e->e.netns == e->netns && endpoint_same_addrs(&e->e, &c.se));
	assert_true(got_exe[0] == '/');
	reap(pid);
	helper_whose(&h, 2, &c.se);
	assert_int_equal(await(2)->result, HELPER_R_GONE);
	c.se.ver = 1;
	helper_whose(&h, 3, &c.se);
	assert_true(await(3)->result == HELPER_R_ERROR && await(3)->err == EINVAL);
	c.se.ver = 4;
	c.se.netns = 12345;
	helper_whose(&h, 4, &c.se);
	assert_int_equal(await(4)->result, HELPER_R_OTHER_NETNS);
}

struct tapped {
	struct conn *c;
	char lib[128];
};

static void map_file(int fd)
{
	if (fd == -1 || mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 0) == MAP_FAILED)
		_exit(1);
	close(fd);
}

/* Maps what a tapped program maps; the connection is its alone. */
static void be_tapped(void *arg)
{
	struct tapped *t = arg;
	int memfd = memfd_create("tlstap", MFD_CLOEXEC);

	if (memfd == -1 || ftruncate(memfd, 4096) == -1)
		_exit(1);
	map_file(memfd);
	map_file(open(t->lib, O_RDONLY));
}

static void test_tapped_program(void **state)
{
	const unsigned want = HELPER_WHOSE_TAP | HELPER_WHOSE_ATTACHED;
	char dir[] = "/tmp/test_whose.XXXXXX";
	const struct helper_event *e;
	struct tapped t;
	struct conn c;
	pid_t pid;
	int fd;

	(void)state;
	assert_non_null(mkdtemp(dir));
	snprintf(t.lib, sizeof(t.lib), "%s/libtlstap.so.0", dir);
	fd = open(t.lib, O_CREAT | O_RDWR, 0600);
	assert_int_equal(ftruncate(fd, 4096), 0);
	close(fd);
	conn_make(&c, AF_INET6);
	t.c = &c;
	pid = child(be_tapped, &t);
	close_conn(&c);
	helper_whose(&h, 1, &c.ce);
	e = await(1);
	assert_true(e->result == HELPER_R_OK && e->p.pid == pid && (e->what & want) == want);
	assert_false(e->what & (HELPER_WHOSE_32BIT | HELPER_WHOSE_UNREADABLE));
	reap(pid);
	unlink(t.lib);
	rmdir(dir);
}

/* A socket that is in no process's hands but on its way to one. */
static void test_socket_of_nobody(void **state)
{
	struct conn c;
	int sv[2];

	(void)state;
	conn_make(&c, AF_INET);
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sv), 0);
	assert_int_equal(sock_send_fd(sv[0], "x", 1, c.server), 0);
	close(c.server);
	helper_whose(&h, 1, &c.se);
	assert_true(await(1)->result == HELPER_R_NO_PROCESS && await(1)->uid == getuid());
	assert_false(await(1)->what & HELPER_WHOSE_UNREADABLE);
	close(sv[0]);
	close(sv[1]);
	close(c.client);
	close(c.listener);
}

/* Without any rights the process of another user stays unknown, and that is said. */
static void test_without_rights(void **state)
{
	struct conn c;
	int status;
	pid_t pid;

	(void)state;
	if (geteuid() != 0)
		skip();
	conn_make(&c, AF_INET);
	pid = fork();
	if (pid == 0) {
		const struct helper_event *e;

		become_nobody(NULL);
		close_conn(&c);
		helper_stop(&h);
		if (helper_start(&h, NULL, false) != 0)
			_exit(1);
		helper_whose(&h, 1, &c.se);
		e = await(1);
		status = e->result == HELPER_R_NO_PROCESS && e->uid == 0 && (e->what & HELPER_WHOSE_UNREADABLE) ? 0 : 2;
		helper_stop(&h);
		_exit(status);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
	close_conn(&c);
}

static void test_one_pass_for_many_but_not_for_all(void **state)
{
	unsigned ok = 0, busy = 0;
	struct conn c;

	(void)state;
	conn_make(&c, AF_INET);
	kill(h.pid, SIGSTOP);
	for (unsigned i = 0; i < HELPER_WHOSE_MAX + 36; i++)
		assert_int_equal(helper_whose(&h, 1 + i, i % 2 ? &c.se : &c.ce), 0);
	assert_int_equal(helper_flush(&h), 0);
	kill(h.pid, SIGCONT);
	for (unsigned i = 0; i < HELPER_WHOSE_MAX + 36; i++) {
		const struct helper_event *e = await(1 + i);

		ok += e->result == HELPER_R_OK && e->p.pid == getpid() && e->sock_fd == (i % 2 ? c.server : c.client);
		busy += e->result == HELPER_R_ERROR && e->err == EBUSY;
	}
	assert_true(ok >= HELPER_WHOSE_MAX && busy > 0 && ok + busy == HELPER_WHOSE_MAX + 36);
	assert_int_equal(h.outstanding, 0);
	close_conn(&c);
}

static void many_descriptors(void *arg)
{
	const struct conn *c = arg;

	close(c->client);
	while (dup(0) != -1)
		;
}

/* A pass takes its time; a VERIFY that comes later does not wait for its end. */
static void test_verify_is_not_delayed(void **state)
{
	struct helper_pid p = self();
	const struct helper_event *a, *b;
	struct rlimit r, old;
	struct conn c, d;
	pid_t pid[4], last;

	(void)state;
	getrlimit(RLIMIT_NOFILE, &old);
	r = old;
	r.rlim_cur = r.rlim_max < 20000 ? r.rlim_max : 20000;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &r), 0);
	conn_make(&c, AF_INET);
	conn_make(&d, AF_INET);
	for (unsigned i = 0; i < 4; i++)
		pid[i] = child(many_descriptors, &c);
	last = sleeper(); /* the last process of all has it */
	close(c.client);
	close(c.server);
	assert_int_equal(helper_whose(&h, 1, &c.ce), 0);
	assert_int_equal(helper_verify(&h, 2, &p, 1, d.server, &d.se), 0);
	b = await(2);
	a = await(1);
	assert_int_equal(b->result, HELPER_R_LIVE);
	assert_true(b < a); /* the second was answered first */
	for (unsigned i = 0; i < 4; i++)
		reap(pid[i]);
	reap(last);
	close(c.listener);
	close_conn(&d);
	setrlimit(RLIMIT_NOFILE, &old);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, start, stop)
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_names_of_mappings),
		T(test_untapped_program),
		T(test_tapped_program),
		T(test_socket_of_nobody),
		T(test_without_rights),
		T(test_one_pass_for_many_but_not_for_all),
		T(test_verify_is_not_delayed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
