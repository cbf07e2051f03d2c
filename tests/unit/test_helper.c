/* SPDX-License-Identifier: Apache-2.0 */
/* The helper process asked over its socket, about real connections, processes and mappings. */
#include "helped.h"

static void test_live_by_hint_and_by_scan(void **state)
{
	static const int families[] = {AF_INET, AF_INET6};

	(void)state;
	for (size_t i = 0; i < 2; i++) {
		const struct helper_event *e;
		struct helper_pid p = self();
		struct conn c;
		struct stat st;

		conn_make(&c, families[i]);
		fstat(c.server, &st);
		assert_int_equal(helper_verify(&h, 10 * i + 1, &p, 1, c.server, &c.se), 0);
		assert_int_equal(helper_verify(&h, 10 * i + 2, &p, 1, -1, &c.se), 0);
		assert_int_equal(helper_verify(&h, 10 * i + 3, &p, 1, c.client, &c.se), 0); /* a wrong hint */
		for (uint64_t k = 1; k <= 3; k++) {
			e = await(10 * i + k);
			assert_int_equal(e->result, HELPER_R_LIVE);
			assert_int_equal(e->sock_fd, c.server);
			assert_int_equal(e->sock_pid, getpid());
			assert_true(e->sock_inode == st.st_ino && e->sock_cookie != 0 && !e->was_destroyed);
			assert_true(endpoint_same_addrs(&e->e, &c.se) && e->e.netns == netns_of(getpid()));
		}
		close_conn(&c);
	}
	assert_int_equal(h.outstanding, 0);
}

static void test_another_process_owns_it(void **state)
{
	const struct helper_event *e;
	struct helper_pid p[2];
	struct conn c;
	pid_t pid;

	(void)state;
	conn_make(&c, AF_INET);
	pid = child(close_conn, &c);
	p[0] = pid_only(pid);
	p[1] = self();
	helper_verify(&h, 1, p, 1, c.server, &c.se);
	e = await(1);
	assert_int_equal(e->result, HELPER_R_FOREIGN);
	helper_verify(&h, 2, p, 2, c.server, &c.se); /* but a sibling in the family has it */
	e = await(2);
	assert_int_equal(e->result, HELPER_R_LIVE);
	assert_int_equal(e->sock_pid, getpid());
	p[0].start_time = 1; /* another process had that pid */
	helper_verify(&h, 3, p, 1, c.server, &c.se);
	assert_int_equal(await(3)->result, HELPER_R_NO_PROCESS);
	reap(pid);
	helper_verify(&h, 4, &p[0], 1, c.server, &c.se);
	assert_int_equal(await(4)->result, HELPER_R_NO_PROCESS);
	close_conn(&c);
}

static void test_closed_connection_of_a_listener(void **state)
{
	const struct helper_event *e;
	struct helper_pid p = self(), other;
	struct conn c;
	pid_t pid;

	(void)state;
	conn_make(&c, AF_INET);
	pid = child(close_conn, &c); /* holds nothing of it */
	other = pid_only(pid);
	close(c.server);
	close(c.client);
	helper_verify(&h, 1, &p, 1, c.server, &c.se);
	helper_verify(&h, 2, &other, 1, c.server, &c.se);
	helper_verify(&h, 3, &p, 1, c.client, &c.ce); /* the client's end: nothing proves whose it was */
	e = await(1);
	assert_int_equal(e->result, HELPER_R_LISTENER);
	assert_int_equal(e->sock_fd, c.listener);
	assert_int_equal(await(2)->result, HELPER_R_GONE);
	e = await(3);
	assert_int_equal(e->result, HELPER_R_GONE);
	assert_true(e->was_destroyed || c.ce.ver == 4);
	close(c.listener);
	helper_verify(&h, 4, &p, 1, -1, &c.se);
	assert_int_equal(await(4)->result, HELPER_R_GONE);
	reap(pid);
}

static void test_listener_must_have_been_there_before_the_end(void **state)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	struct helper_pid p = self();
	int on = 1, thief;
	struct conn c;

	(void)state;
	conn_make(&c, AF_INET);
	a.sin_port = htons(c.se.local_port);
	close(c.listener);
	close(c.client);
	usleep(1000);
	close(c.server);
	usleep(100000); /* the helper has heard of the end */
	thief = socket(AF_INET, SOCK_STREAM, 0);
	setsockopt(thief, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	assert_int_equal(bind(thief, (void *)&a, sizeof(a)), 0);
	assert_int_equal(listen(thief, 1), 0);
	helper_verify(&h, 1, &p, 1, -1, &c.se);
	assert_int_equal(await(1)->result, HELPER_R_GONE);
	assert_true(await(1)->was_destroyed);
	close(thief);
}

static void test_never_existed_and_malformed(void **state)
{
	struct endpoint e = {.ver = 4,
			     .local_port = 1,
			     .remote_port = 2,
			     .local = {127, 0, 0, 1},
			     .remote = {127, 9, 9, 9}};
	struct helper_pid p = self();

	(void)state;
	helper_verify(&h, 1, &p, 1, 5, &e);
	helper_exists(&h, 2, &e);
	e.ver = 9;
	helper_verify(&h, 3, &p, 1, 5, &e);
	helper_exists(&h, 4, &e);
	helper_verify(&h, 5, &p, 0, 5, &e);
	assert_int_equal(await(1)->result, HELPER_R_GONE);
	assert_false(await(1)->was_destroyed);
	assert_int_equal(await(2)->result, HELPER_R_GONE);
	assert_int_equal(await(3)->result, HELPER_R_ERROR);
	assert_int_equal(await(3)->err, EINVAL);
	assert_int_equal(await(4)->result, HELPER_R_ERROR);
	assert_int_equal(await(5)->result, HELPER_R_ERROR);
}

static void test_exists_until_closed(void **state)
{
	struct conn c;

	(void)state;
	conn_make(&c, AF_INET6);
	helper_exists(&h, 1, &c.ce);
	assert_int_equal(await(1)->result, HELPER_R_LIVE);
	close(c.client); /* the server's end lives on; the client's waits for its FIN */
	helper_exists(&h, 2, &c.ce);
	helper_exists(&h, 3, &c.se);
	assert_int_equal(await(2)->result, HELPER_R_GONE);
	assert_int_equal(await(3)->result, HELPER_R_LIVE);
	close(c.server);
	close(c.listener);
}

static void test_destroy_events_arrive_with_the_cookie_of_live(void **state)
{
	struct helper_pid p = self();
	uint64_t cookie;
	unsigned seen = 0;
	struct conn c;

	(void)state;
	conn_make(&c, AF_INET);
	helper_verify(&h, 1, &p, 1, c.server, &c.se);
	cookie = await(1)->sock_cookie;
	close_conn(&c);
	for (unsigned i = 0; i < 100 && seen == 0; i++) {
		struct pollfd pf = {.fd = helper_fd(&h), .events = POLLIN};

		(void)poll(&pf, 1, 20);
		assert_true(helper_poll(&h, 64, keep, NULL) >= 0);
		for (size_t k = 0; k < n_got; k++)
			seen += got[k].type == HELPER_DESTROYED && got[k].sock_cookie == cookie &&
				endpoint_same_addrs(&got[k].e, &c.se) && got[k].e.netns == netns_of(getpid());
	}
	assert_int_equal(seen, 1);
	assert_true(h.destroyed >= 1);
}

static void test_outstanding_is_bounded(void **state)
{
	struct helper_pid p = self();
	unsigned taken = 0, answered = 0;
	struct conn c;
	int err;

	(void)state;
	conn_make(&c, AF_INET);
	kill(h.pid, SIGSTOP);
	while ((err = helper_verify(&h, 100 + taken, &p, 1, c.server, &c.se)) == 0)
		taken++;
	assert_int_equal(err, -EAGAIN);
	assert_int_equal(taken, HELPER_OUTSTANDING_MAX);
	assert_int_equal(h.refused, 1);
	kill(h.pid, SIGCONT);
	for (unsigned i = 0; i < taken; i++)
		answered += await(100 + i)->result == HELPER_R_LIVE;
	assert_int_equal(answered, taken);
	assert_int_equal(h.outstanding, 0);
	assert_int_equal(helper_verify(&h, 1, &p, 1, c.server, &c.se), 0);
	assert_int_equal(await(1)->result, HELPER_R_LIVE);
	close_conn(&c);
}

/* More events than there is room for, while agentd does not read: they are lost, and that is told. */
static void test_overrun_when_agentd_does_not_read(void **state)
{
	struct helper_pid p = self();
	struct conn c;

	(void)state;
	for (unsigned i = 0; i < 6000; i++) {
		conn_make(&c, AF_INET);
		close(c.client);
		close(c.server);
		close(c.listener);
	}
	conn_make(&c, AF_INET);
	helper_verify(&h, 1, &p, 1, c.server, &c.se);
	assert_int_equal(await(1)->result, HELPER_R_LIVE);
	for (unsigned i = 0; i < 20; i++) {
		usleep(10000);
		n_got = 0;
		assert_true(helper_poll(&h, 1000, keep, NULL) >= 0);
	}
	assert_true(h.overruns >= 1);
	assert_true(h.destroyed > 100 && h.destroyed < 12000);
	close_conn(&c);
}

static int memfd_make(const char *name, size_t size, unsigned seals)
{
	int fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, (off_t)size), 0);
	assert_int_equal(fcntl(fd, F_ADD_SEALS, seals), 0);
	return fd;
}

static void *map(int fd)
{
	void *m = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	assert_true(m != MAP_FAILED);
	close(fd);
	return m;
}

static bool user_can_adopt(void)
{
	return geteuid() == 0;
}

static void nothing(void *arg)
{
	(void)arg;
}

static void test_family_finds_every_process_of_a_mapping(void **state)
{
	int fd = memfd_make("tlstap-test", 8192, F_SEAL_SHRINK | F_SEAL_GROW);
	struct helper_id id[2];
	struct stat st;
	unsigned parent = 0, kid = 0, others = 0;
	pid_t pid;
	void *m;

	(void)state;
	fstat(fd, &st);
	id[0] = (struct helper_id){.dev = st.st_dev, .inode = st.st_ino};
	id[1] = (struct helper_id){.dev = st.st_dev, .inode = 1};
	m = map(fd);
	pid = child(nothing, NULL);
	helper_family(&h, 7, id, 2);
	assert_int_equal(await(7)->result, HELPER_R_OK);
	for (size_t i = 0; i < n_got; i++) {
		if (got[i].type != HELPER_FAMILY || got[i].last)
			continue;
		assert_true(got[i].id.inode == st.st_ino && got[i].p.start_time != 0);
		parent += got[i].p.pid == getpid() && got[i].ns_pid == getpid();
		kid += got[i].p.pid == pid;
		others += got[i].p.pid != pid && got[i].p.pid != getpid();
	}
	assert_true(parent == 1 && kid == 1 && others == 0);
	reap(pid);
	munmap(m, 8192);
}

static void test_adopt_takes_only_sealed_memfds_of_root(void **state)
{
	int fd, again = -1, unsealed, named;
	unsigned count = 0, bad = 0;
	uint64_t bad_inode[3] = {0};
	struct stat st, st2;
	uint32_t *m;
	void *m2, *m3;
	pid_t pid;

	(void)state;
	if (!user_can_adopt())
		skip();
	fd = memfd_make("tlstap-test", 8192, F_SEAL_SHRINK | F_SEAL_GROW);
	fstat(fd, &st);
	m = map(fd);
	unsealed = memfd_make("tlstap-unsealed", 8192, 0);
	fstat(unsealed, &st2);
	bad_inode[0] = st2.st_ino;
	m2 = map(unsealed);
	named = memfd_make("other", 8192, F_SEAL_SHRINK | F_SEAL_GROW);
	fstat(named, &st2);
	bad_inode[1] = st2.st_ino;
	m3 = map(named);
	fd = memfd_make("tlstap-theirs", 8192, F_SEAL_SHRINK | F_SEAL_GROW);
	assert_int_equal(fchown(fd, OTHER_UID, OTHER_UID), 0);
	fstat(fd, &st2);
	bad_inode[2] = st2.st_ino;
	munmap(map(fd), 8192);
	fd = memfd_make("tlstap-theirs", 8192, F_SEAL_SHRINK | F_SEAL_GROW);
	assert_int_equal(fchown(fd, OTHER_UID, OTHER_UID), 0);
	fstat(fd, &st2);
	bad_inode[2] = st2.st_ino;
	(void)map(fd);
	pid = child(become_nobody, NULL); /* the same mappings in another user's process, no descriptor left */
	munmap(m, 8192);		  /* and now only there */
	munmap(m2, 8192);
	munmap(m3, 8192);
	helper_adopt(&h, 9);
	assert_int_equal(await(9)->result, HELPER_R_OK);
	for (size_t i = 0; i < n_got; i++) {
		if (got[i].type != HELPER_ADOPT || got[i].last)
			continue;
		assert_true(got[i].fd >= 0);
		for (size_t k = 0; k < 3; k++)
			bad += got[i].id.inode == bad_inode[k];
		if (got[i].id.inode == st.st_ino) {
			count++;
			again = got[i].fd;
			assert_true(got[i].p.pid == pid && got[i].uid == OTHER_UID && got[i].size == 8192);
		} else {
			close(got[i].fd);
		}
	}
	assert_int_equal(bad, 0);
	assert_int_equal(count, 1);
	m = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, again, 0); /* read-write */
	assert_true(m != MAP_FAILED);
	m[0] = 1;
	munmap(m, 8192);
	close(again);
	reap(pid);
}

static void test_proc_answers(void **state)
{
	struct helper_pid p = self();
	const struct helper_event *e;
	char exe[HELPER_PATH_MAX];
	ssize_t n;

	(void)state;
	helper_proc(&h, 1, &p);
	e = await(1);
	n = readlink("/proc/self/exe", exe, sizeof(exe) - 1);
	exe[n] = '\0';
	assert_int_equal(e->result, HELPER_R_OK);
	assert_string_equal(got_exe, exe);
	assert_true(e->p.start_time == p.start_time && e->uid == getuid() && e->fsuid == geteuid() && e->own_netns &&
		    e->seccomp >= 0);
	p.start_time++;
	helper_proc(&h, 2, &p);
	assert_int_equal(await(2)->result, HELPER_R_NO_PROCESS);
	p = pid_only(1 << 30);
	helper_proc(&h, 3, &p);
	assert_int_equal(await(3)->result, HELPER_R_NO_PROCESS);
}

static void other_netns(void *arg)
{
	(void)arg;
	if (unshare(CLONE_NEWNET) != 0)
		_exit(1);
}

static void test_other_network_namespace(void **state)
{
	struct endpoint e = {.ver = 4,
			     .local_port = 1,
			     .remote_port = 2,
			     .local = {127, 0, 0, 1},
			     .remote = {127, 0, 0, 1}};
	struct helper_pid p;
	pid_t pid;

	(void)state;
	if (geteuid() != 0)
		skip();
	pid = child(other_netns, NULL);
	p = pid_only(pid);
	helper_verify(&h, 1, &p, 1, -1, &e);
	helper_proc(&h, 2, &p);
	assert_int_equal(await(1)->result, HELPER_R_OTHER_NETNS);
	assert_false(await(2)->own_netns);
	reap(pid);
}

/* The short question is answered with as little, the long one also says what is mapped. */
static void test_brief_and_long_look(void **state)
{
	struct helper_pid p, none = {.pid = 4194303};
	int fd = memfd_make("tlstap-look", 8192, F_SEAL_SHRINK | F_SEAL_GROW);
	pid_t pid;
	void *m;

	(void)state;
	m = map(fd);
	pid = child(nothing, NULL);
	p = pid_only(pid);
	helper_brief(&h, 1, &p);
	assert_true(await(1)->result == HELPER_R_OK && await(1)->type == HELPER_PROC && await(1)->p.pid == pid);
	assert_true(got_exe[0] == '/');
	helper_look(&h, 2, &p);
	assert_true(await(2)->result == HELPER_R_OK && await(2)->what & HELPER_WHOSE_ATTACHED && await(2)->ns_pid > 0);
	helper_proc(&h, 3, &p);
	assert_true(await(3)->result == HELPER_R_OK && await(3)->what == 0);
	helper_brief(&h, 4, &none);
	helper_look(&h, 5, &none);
	assert_true(await(4)->result == HELPER_R_NO_PROCESS && await(5)->result == HELPER_R_NO_PROCESS);
	/* the first of them: other tests leave some mapped */
	assert_true(await(2)->id.inode != 0 && await(3)->id.inode == 0);
	reap(pid);
	munmap(m, 8192);
}

/* Run as another user with the three capabilities, it still sees processes of a third one. */
static void test_capabilities_suffice_without_root(void **state)
{
	struct helper_pid p;
	struct conn c;
	pid_t pid;

	(void)state;
	if (geteuid() != 0)
		skip();
	helper_stop(&h);
	assert_int_equal(helper_start(&h, "nobody", false), 0);
	conn_make(&c, AF_INET);
	p = self(); /* root's */
	helper_verify(&h, 1, &p, 1, -1, &c.se);
	assert_int_equal(await(1)->result, HELPER_R_LIVE);
	helper_proc(&h, 2, &p);
	assert_int_equal(await(2)->result, HELPER_R_OK);
	assert_true(got_exe[0] == '/' && await(2)->own_netns);
	close_conn(&c);
	(void)map(memfd_make("tlstap-test2", 8192, F_SEAL_SHRINK | F_SEAL_GROW));
	pid = child(nothing, NULL);
	helper_adopt(&h, 3);
	assert_int_equal(await(3)->result, HELPER_R_OK);
	assert_true(n_got >= 4 && got[n_got - 2].type == HELPER_ADOPT && got[n_got - 2].fd >= 0);
	reap(pid);
}

static void test_many_descriptors_do_not_delay_others(void **state)
{
	struct rlimit r, old;
	struct helper_pid p = self();
	const struct helper_event *a, *b;
	struct conn c, d;
	unsigned n;

	(void)state;
	getrlimit(RLIMIT_NOFILE, &old);
	r = old;
	r.rlim_cur = r.rlim_max < 30000 ? r.rlim_max : 30000;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &r), 0);
	conn_make(&d, AF_INET);
	for (n = 0; dup(0) != -1 && n < 25000; n++)
		;
	close(3000 < n ? 3000 : 100);
	close(3001 < n ? 3001 : 101);
	close(3002 < n ? 3002 : 102);
	conn_make(&c, AF_INET); /* late in the directory */
	assert_int_equal(helper_verify(&h, 1, &p, 1, -1, &c.se), 0);
	assert_int_equal(helper_verify(&h, 2, &p, 1, d.server, &d.se), 0);
	b = await(2);
	a = await(1);
	assert_int_equal(a->result, HELPER_R_LIVE);
	assert_int_equal(b->result, HELPER_R_LIVE);
	assert_true(b < a); /* the second was answered first */
	for (int fd = 20; fd < 30000; fd++)
		close(fd);
	setrlimit(RLIMIT_NOFILE, &old);
}

static void test_ends_when_its_socket_closes(void **state)
{
	pid_t pid = h.pid;

	(void)state;
	close(h.fd);
	h.fd = -1;
	for (unsigned i = 0; i < 100 && waitpid(pid, NULL, WNOHANG) == 0; i++)
		usleep(10000);
	assert_int_equal(kill(pid, 0), -1);
	h.pid = 0;
}

static void test_death_of_the_helper_is_told(void **state)
{
	struct helper_pid p = self();
	int err;

	(void)state;
	kill(h.pid, SIGKILL);
	usleep(50000);
	do
		err = helper_poll(&h, 10, keep, NULL);
	while (err > 0);
	assert_int_equal(err, -EPIPE);
	helper_proc(&h, 1, &p);
	assert_int_equal(helper_flush(&h), -EPIPE);
}

/* What has to wait for something before it is begun when that is done, though nothing else happens. */
static void test_waiting_for_each_other(void **state)
{
	static const struct helper_id any;
	struct helper_pid me = self();
	struct conn c;

	(void)state;
	conn_make(&c, AF_INET);
	for (uint64_t i = 1; i <= 4; i++)
		assert_int_equal(helper_family(&h, i, &any, 0), 0);
	for (uint64_t i = 5; i < 200; i++)
		assert_int_equal(helper_verify(&h, i, &me, 1, -1, &c.ce), 0);
	for (uint64_t i = 1; i < 200; i++)
		(void)await(i);
	close_conn(&c);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, start, stop)
	const struct CMUnitTest tests[] = {
		T(test_live_by_hint_and_by_scan),
		T(test_another_process_owns_it),
		T(test_closed_connection_of_a_listener),
		T(test_listener_must_have_been_there_before_the_end),
		T(test_never_existed_and_malformed),
		T(test_exists_until_closed),
		T(test_destroy_events_arrive_with_the_cookie_of_live),
		T(test_outstanding_is_bounded),
		T(test_overrun_when_agentd_does_not_read),
		T(test_family_finds_every_process_of_a_mapping),
		T(test_waiting_for_each_other),
		T(test_adopt_takes_only_sealed_memfds_of_root),
		T(test_proc_answers),
		T(test_other_network_namespace),
		T(test_brief_and_long_look),
		T(test_capabilities_suffice_without_root),
		T(test_ends_when_its_socket_closes),
		T(test_death_of_the_helper_is_told),
		T(test_many_descriptors_do_not_delay_others),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
