/* SPDX-License-Identifier: Apache-2.0 */
/* The helper in several network namespaces that use the same addresses, and with NAT in one. As root; nothing of the
 * namespace of who runs it is changed. */
#include "helped.h"

#include <net/if.h>
#include <stdio.h>
#include <sys/ioctl.h>

#define NAMES "/run/netns"

static struct conn own; /* the connection that all have, each with its own sockets */

/* A process in a network namespace of its own: does what it is told by one byte, and answers with one. */
struct town {
	pid_t pid;
	int ask[2], tell[2];
};

static int start_netns(void **state)
{
	(void)state;
	n_got = 0;
	if (geteuid() != 0)
		return 0;
	conn_make(&own, AF_INET);
	return helper_start(&h, NULL, true);
}

static int stop_netns(void **state)
{
	if (geteuid() == 0)
		close_conn(&own);
	return stop(state);
}

static void lo_up(void)
{
	struct ifreq r = {.ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING};
	int fd = socket(AF_INET, SOCK_DGRAM, 0);

	if (ioctl(fd, SIOCSIFFLAGS, &r) == -1)
		_exit(10);
	close(fd);
}

/* As conn_make(), with the very addresses that @like has. */
static void conn_copy(struct conn *c, const struct conn *like)
{
	struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(like->se.local_port)}, from = to;
	int on = 1;

	to.sin_addr.s_addr = from.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	from.sin_port = htons(like->ce.local_port);
	c->listener = socket(AF_INET, SOCK_STREAM, 0);
	c->client = socket(AF_INET, SOCK_STREAM, 0);
	(void)setsockopt(c->client, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	if (bind(c->listener, (void *)&to, sizeof(to)) == -1 || listen(c->listener, 8) == -1 ||
	    bind(c->client, (void *)&from, sizeof(from)) == -1 || connect(c->client, (void *)&to, sizeof(to)) == -1)
		_exit(11);
	c->server = accept(c->listener, NULL, NULL);
}

static void __attribute__((noreturn)) live(struct town *t)
{
	struct conn c;
	char what;

	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	close(h.fd);
	close(own.listener);
	close(own.client); /* own.server stays: a descriptor from another namespace */
	if (unshare(CLONE_NEWNET) == -1)
		_exit(12);
	lo_up();
	conn_copy(&c, &own);
	what = '+';
	while (write(t->tell[1], &what, 1) == 1 && read(t->ask[0], &what, 1) == 1) {
		if (what == 'c') { /* close the connection, but go on listening */
			close(c.server);
			close(c.client);
			what = '+';
		} else { /* is there this interface? */
			what = if_nametoindex("town0") != 0 ? '1' : '0';
		}
	}
	_exit(0);
}

static char tell(struct town *t, char what)
{
	char c;

	assert_int_equal(write(t->ask[1], &what, 1), 1);
	assert_int_equal(read(t->tell[0], &c, 1), 1);
	return c;
}

static void found_town(struct town *t)
{
	char c;

	assert_int_equal(pipe(t->ask), 0);
	assert_int_equal(pipe(t->tell), 0);
	t->pid = fork();
	if (t->pid == 0)
		live(t);
	close(t->ask[0]);
	close(t->tell[1]);
	assert_int_equal(read(t->tell[0], &c, 1), 1);
}

static void end_town(struct town *t)
{
	reap(t->pid);
	close(t->ask[1]);
	close(t->tell[0]);
}

/* Open the namespace of @pid. Returns its inode; its two descriptors are in @ret_fd. */
static uint64_t open_pid(uint64_t cookie, pid_t pid, int ret_fd[2])
{
	const struct helper_event *e;
	unsigned n = 0;

	assert_int_equal(helper_netns_pid(&h, cookie, pid), 0);
	e = await(cookie);
	assert_int_equal(e->result, HELPER_R_OK);
	for (size_t i = 0; i < n_got; i++)
		if (got[i].type == HELPER_NETNS && got[i].cookie == cookie) {
			assert_true(n < 2 && got[i].fd != -1 && got[i].netns == netns_of(pid) &&
				    got[i].last == (n == 1));
			ret_fd[n++] = got[i].fd;
		}
	assert_int_equal(n, 2);
	return e->netns;
}

/* Wait for an event. NULL: it did not come within @ms. */
static const struct helper_event *event(enum helper_type type, uint64_t netns, unsigned ms)
{
	for (unsigned i = 0; i <= ms / 20; i++) {
		struct pollfd p = {.fd = helper_fd(&h), .events = POLLIN};

		for (size_t k = 0; k < n_got; k++)
			if (got[k].type == type && (got[k].netns == netns || got[k].e.netns == netns) &&
			    (type != HELPER_NETNS || got[k].result == HELPER_R_GONE))
				return &got[k];
		(void)poll(&p, 1, 20);
		assert_true(helper_poll(&h, 64, keep, NULL) >= 0);
	}
	return NULL;
}

static void test_same_addresses_in_three_namespaces(void **state)
{
	uint64_t cookie[3], netns[3] = {0};
	const struct helper_event *e;
	struct sockdiag_info info;
	struct helper_pid p[3];
	struct endpoint at = own.se;
	struct town t[2];
	int fd[2][2];

	(void)state;
	if (geteuid() != 0)
		skip();
	p[0] = self();
	for (unsigned i = 0; i < 2; i++) {
		found_town(&t[i]);
		p[1 + i] = pid_only(t[i].pid);
		helper_verify(&h, 1 + i, &p[1 + i], 1, -1, &own.se);
		e = await(1 + i); /* not "somebody else's", though here there is such a socket */
		assert_true(e->result == HELPER_R_OTHER_NETNS && e->e.netns == netns_of(t[i].pid));
		netns[1 + i] = open_pid(10 + i, t[i].pid, fd[i]);
	}
	netns[0] = netns_of(getpid());
	for (unsigned i = 0; i < 3; i++) {
		at.netns = i == 0 ? 0 : netns[i];
		helper_verify(&h, 20 + i, &p[i], 1, -1, &own.se);
		helper_exists(&h, 30 + i, &at);
		e = await(20 + i);
		cookie[i] = e->sock_cookie;
		assert_true(e->result == HELPER_R_LIVE && e->e.netns == netns[i] && cookie[i] != 0);
		e = await(30 + i);
		assert_true(e->result == HELPER_R_LIVE && e->e.netns == netns[i] && e->sock_cookie == cookie[i]);
	}
	assert_true(cookie[0] != cookie[1] && cookie[1] != cookie[2] && cookie[0] != cookie[2]);
	for (unsigned i = 0; i < 2; i++) { /* what was handed out looks into the right one */
		assert_int_equal(sockdiag_find(fd[i][1], &own.se, &info), 0);
		assert_true(info.cookie == cookie[1 + i]);
	}
	at.netns = 12345;
	helper_exists(&h, 40, &at);
	assert_int_equal(await(40)->result, HELPER_R_OTHER_NETNS);

	n_got = 0;
	assert_int_equal(tell(&t[0], 'c'), '+');
	e = event(HELPER_DESTROYED, netns[1], 5000);
	assert_non_null(e);
	for (size_t i = 0; i < n_got; i++)
		assert_true(got[i].e.netns == netns[1]);
	for (unsigned i = 0; i < 3; i++) {
		at.netns = netns[i];
		helper_exists(&h, 50 + i, &at);
		helper_verify(&h, 60 + i, &p[i], 1, -1, &own.se);
		assert_int_equal(await(50 + i)->result, i == 1 ? HELPER_R_GONE : HELPER_R_LIVE);
		e = await(60 + i);
		assert_true(e->result == (i == 1 ? HELPER_R_LISTENER : HELPER_R_LIVE) && e->e.netns == netns[i]);
	}
	for (unsigned i = 0; i < 2; i++) {
		close(fd[i][0]);
		close(fd[i][1]);
		end_town(&t[i]);
	}
	assert_int_equal(h.outstanding, 0);
}

/* A socket that was made here and handed there is proven by its inode, if the process says which one it is. */
static void test_socket_from_another_namespace(void **state)
{
	const struct helper_event *e;
	struct endpoint se;
	struct helper_pid p;
	struct town t;
	int fd[2], other;

	(void)state;
	if (geteuid() != 0)
		skip();
	found_town(&t);
	p = pid_only(t.pid);
	se = own.se;
	helper_verify(&h, 1, &p, 1, own.server, &se);
	e = await(1);
	assert_true(e->result == HELPER_R_LIVE && e->e.netns == netns_of(getpid()));
	(void)open_pid(2, t.pid, fd);
	helper_verify(&h, 3, &p, 1, own.server,
		      &se); /* there is one of its own with these addresses: that one counts */
	e = await(3);
	assert_true(e->result == HELPER_R_LIVE && e->e.netns == netns_of(t.pid) && e->sock_fd != own.server);
	assert_int_equal(tell(&t, 'c'), '+');
	helper_verify(&h, 4, &p, 1, own.server, &se);
	e = await(4);
	assert_true(e->result == HELPER_R_LIVE && e->e.netns == netns_of(getpid()) && e->sock_fd == own.server);
	other = own.client; /* not a descriptor of it: no proof */
	helper_verify(&h, 5, &p, 1, other, &own.ce);
	assert_int_not_equal(await(5)->result, HELPER_R_LIVE);
	close(fd[0]);
	close(fd[1]);
	end_town(&t);
}

static void test_open_twice_and_what_cannot_be_opened(void **state)
{
	struct town t;
	int fd[2];

	(void)state;
	if (geteuid() != 0)
		skip();
	found_town(&t);
	helper_netns_pid(&h, 1, getpid());
	assert_true(await(1)->result == HELPER_R_LIVE && await(1)->netns == netns_of(getpid()));
	helper_netns_pid(&h, 2, 1 << 30);
	assert_int_equal(await(2)->result, HELPER_R_NO_PROCESS);
	helper_netns_pid(&h, 3, -1);
	assert_int_equal(await(3)->result, HELPER_R_NO_PROCESS);
	(void)open_pid(4, t.pid, fd);
	helper_netns_pid(&h, 5, t.pid);
	assert_true(await(5)->result == HELPER_R_LIVE && await(5)->netns == netns_of(t.pid) && await(5)->fd == -1);
	assert_int_equal(helper_netns_close(&h, netns_of(t.pid)), 0);
	assert_int_equal(helper_netns_close(&h, netns_of(t.pid)), 0);	 /* again: nothing */
	assert_int_equal(helper_netns_close(&h, netns_of(getpid())), 0); /* the own one stays */
	close(fd[0]);
	close(fd[1]);
	(void)open_pid(6, t.pid, fd);
	close(fd[0]);
	close(fd[1]);
	helper_exists(&h, 7, &own.se);
	assert_int_equal(await(7)->result, HELPER_R_LIVE);
	assert_int_equal(h.outstanding, 0); /* those without an answer too */
	for (size_t i = 0; i < n_got; i++)
		assert_true(got[i].type <= HELPER_OVERRUN);
	helper_stop(&h);
	assert_int_equal(helper_start(&h, NULL, false), 0);
	helper_netns_pid(&h, 8, t.pid);
	assert_true(await(8)->result == HELPER_R_ERROR && await(8)->err == EPERM);
	helper_netns_name(&h, 9, "any");
	assert_true(await(9)->result == HELPER_R_ERROR && await(9)->err == EPERM);
	end_town(&t);
}

/* As another user, with capabilities only. */
static void test_capabilities_suffice_for_namespaces(void **state)
{
	const struct helper_event *e;
	struct helper_pid p;
	struct town t;
	int fd[2], size = 0;
	socklen_t len = sizeof(size);

	(void)state;
	if (geteuid() != 0)
		skip();
	helper_stop(&h);
	assert_int_equal(helper_start(&h, "nobody", true), 0);
	found_town(&t);
	(void)open_pid(1, t.pid, fd);
	p = pid_only(t.pid);
	helper_verify(&h, 2, &p, 1, -1, &own.se);
	e = await(2);
	assert_true(e->result == HELPER_R_LIVE && e->e.netns == netns_of(t.pid));
	assert_int_equal(getsockopt(fd[0], SOL_SOCKET, SO_RCVBUF, &size, &len), 0);
	assert_true(size > 4 << 20); /* more than anybody may ask for */
	close(fd[0]);
	close(fd[1]);
	end_town(&t);
}

static bool run(const char *command)
{
	return system(command) == 0;
}

/* The other end of a veth pair goes when its namespace does. */
static void test_closed_namespace_dies(void **state)
{
	struct town a, b;
	uint64_t netns;
	char cmd[128];
	int fd[2];

	(void)state;
	if (geteuid() != 0)
		skip();
	found_town(&a);
	found_town(&b);
	snprintf(cmd, sizeof(cmd), "ip link add town0 netns %d type veth peer name town1 netns %d", (int)b.pid,
		 (int)a.pid);
	if (!run(cmd))
		skip();
	netns = open_pid(1, a.pid, fd);
	close(fd[0]);
	close(fd[1]);
	assert_int_equal(tell(&b, '?'), '1');
	end_town(&a);
	usleep(300000);
	assert_int_equal(tell(&b, '?'), '1'); /* only the helper keeps it alive */
	assert_int_equal(helper_netns_close(&h, netns), 0);
	assert_int_equal(helper_flush(&h), 0);
	for (unsigned i = 0; i < 500 && tell(&b, '?') == '1'; i++)
		usleep(20000);
	assert_int_equal(tell(&b, '?'), '0');
	end_town(&b);
}

static void test_by_name_until_the_name_is_gone(void **state)
{
	static const char *const bad[] = {"",
					  ".",
					  "..",
					  "../netns/x",
					  "/proc/self/ns/net",
					  "0123456789012345678901234567890123456789012345678901234567890123"};
	char name[HELPER_NAME_MAX + 1], cmd[128], path[128];
	const struct helper_event *e;
	uint64_t netns;
	int fd;

	(void)state;
	if (geteuid() != 0)
		skip();
	for (uint64_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		helper_netns_name(&h, 100 + i, bad[i]);
		assert_true(await(100 + i)->result == HELPER_R_ERROR && await(100 + i)->err == EINVAL);
	}
	snprintf(name, sizeof(name), "tlstap-test-%d", (int)getpid());
	helper_netns_name(&h, 1, name);
	assert_true(await(1)->result == HELPER_R_ERROR && await(1)->err == ENOENT);
	snprintf(cmd, sizeof(cmd), "ip netns add %s", name);
	if (!run(cmd))
		skip();
	helper_netns_name(&h, 2, name);
	e = await(2);
	assert_int_equal(e->result, HELPER_R_OK);
	netns = e->netns;
	for (size_t i = 0; i < n_got; i++)
		if (got[i].type == HELPER_NETNS && got[i].fd != -1)
			close(got[i].fd);
	helper_netns_name(&h, 3, name);
	assert_true(await(3)->result == HELPER_R_LIVE && await(3)->netns == netns);
	assert_null(event(HELPER_NETNS, netns, 1500));
	snprintf(cmd, sizeof(cmd), "ip netns del %s", name);
	assert_true(run(cmd));
	e = event(HELPER_NETNS, netns, 10000);
	assert_non_null(e);
	assert_true(e->fd == -1 && h.outstanding == 0);
	snprintf(path, sizeof(path), NAMES "/%s", name); /* no namespace is behind it */
	fd = open(path, O_CREAT | O_EXCL | O_WRONLY, 0600);
	assert_true(fd >= 0);
	close(fd);
	helper_netns_name(&h, 4, name);
	assert_true(await(4)->result == HELPER_R_ERROR && await(4)->err == EINVAL);
	unlink(path);
}

/* One process goes from one namespace to the next; the helper stays in all. */
static void test_namespaces_are_bounded(void **state)
{
	uint64_t first = 0;
	int go[2], ready[2];
	pid_t pid;
	char c;

	(void)state;
	if (geteuid() != 0)
		skip();
	assert_int_equal(pipe(go), 0);
	assert_int_equal(pipe(ready), 0);
	pid = fork();
	if (pid == 0) {
		(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
		while (read(go[0], &c, 1) == 1 && unshare(CLONE_NEWNET) == 0 && write(ready[1], "", 1) == 1)
			;
		_exit(0);
	}
	for (unsigned i = 0; i < HELPER_NETNS_MAX; i++) {
		int fd[2];

		n_got = 0;
		assert_int_equal(write(go[1], "", 1), 1);
		assert_int_equal(read(ready[0], &c, 1), 1);
		first = open_pid(i, pid, fd);
		close(fd[0]);
		close(fd[1]);
	}
	assert_int_equal(write(go[1], "", 1), 1);
	assert_int_equal(read(ready[0], &c, 1), 1);
	helper_netns_pid(&h, 1000, pid);
	assert_true(await(1000)->result == HELPER_R_ERROR && await(1000)->err == ENOSPC);
	assert_int_equal(helper_netns_close(&h, first), 0);
	helper_netns_pid(&h, 1001, pid);
	assert_int_equal(await(1001)->result, HELPER_R_OK);
	for (size_t i = 0; i < n_got; i++)
		if (got[i].type == HELPER_NETNS && got[i].fd != -1)
			close(got[i].fd);
	helper_exists(&h, 1002, &own.se);
	assert_int_equal(await(1002)->result, HELPER_R_LIVE);
	reap(pid);
	close(go[0]);
	close(go[1]);
	close(ready[0]);
	close(ready[1]);
}

/* --- PEER ------------------------------------------------------------------------------------------ */

static void test_peer_shares_one_end(void **state)
{
	struct helper_pid me = self(), other;
	const struct helper_event *e;
	struct endpoint wire = own.se;
	struct conn c6;
	pid_t pid;

	(void)state;
	if (geteuid() != 0)
		skip();
	pid = child(close_conn, &own);
	other = pid_only(pid);
	wire.local_port ^= 1; /* as before a REDIRECT */
	helper_peer(&h, 1, &me, 1, &wire);
	e = await(1);
	assert_true(e->result == HELPER_R_LIVE && e->sock_fd == own.server && e->sock_cookie != 0 &&
		    e->sock_pid == getpid());
	assert_true(endpoint_same_addrs(&e->e, &own.se) && e->e.netns == netns_of(getpid()));
	helper_peer(&h, 2, &other, 1, &wire);
	assert_int_equal(await(2)->result, HELPER_R_GONE);
	wire = own.ce;
	wire.remote[3] ^= 0x10; /* as after a DNAT */
	helper_peer(&h, 3, &me, 1, &wire);
	e = await(3);
	assert_true(e->result == HELPER_R_LIVE && e->sock_fd == own.client && endpoint_same_addrs(&e->e, &own.ce));
	wire.local_port = wire.remote_port = 1;
	helper_peer(&h, 4, &me, 1, &wire);
	assert_int_equal(await(4)->result, HELPER_R_GONE);
	wire.netns = 12345;
	helper_peer(&h, 5, &me, 1, &wire);
	assert_int_equal(await(5)->result, HELPER_R_OTHER_NETNS);
	wire.ver = 0;
	helper_peer(&h, 6, &me, 1, &wire);
	assert_true(await(6)->result == HELPER_R_ERROR && await(6)->err == EINVAL);
	other.start_time = 1;
	helper_peer(&h, 7, &other, 1, &own.se);
	assert_int_equal(await(7)->result, HELPER_R_NO_PROCESS);
	conn_make(&c6, AF_INET6);
	wire = c6.se;
	wire.local_port ^= 1;
	helper_peer(&h, 8, &me, 1, &wire);
	e = await(8);
	assert_true(e->result == HELPER_R_LIVE && e->sock_fd == c6.server && endpoint_same_addrs(&e->e, &c6.se));
	close_conn(&c6);
	reap(pid);
}

static void close_all_but(void *arg)
{
	int keep_fd = *(int *)arg;

	for (int fd = own.listener; fd < 1000; fd++) {
		struct stat st;

		if (fd != keep_fd && fstat(fd, &st) == 0 && S_ISSOCK(st.st_mode))
			close(fd);
	}
}

static void test_peer_among_many(void **state)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(own.se.local_port)};
	struct helper_pid me = self(), other;
	struct endpoint wire = own.se, at;
	int out[200], in[200];
	pid_t pid;
	const struct helper_event *e;

	(void)state;
	if (geteuid() != 0)
		skip();
	a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	for (unsigned i = 0; i < 200; i++) {
		out[i] = socket(AF_INET, SOCK_STREAM, 0);
		assert_int_equal(connect(out[i], (void *)&a, sizeof(a)), 0);
		in[i] = accept(own.listener, NULL, NULL);
	}
	wire.local[3] ^= 0x10; /* the remote end is of one only */
	helper_peer(&h, 1, &me, 1, &wire);
	e = await(1);
	assert_true(e->result == HELPER_R_LIVE && e->sock_fd == own.server);
	wire = own.se;
	wire.remote[3] ^= 0x10; /* the local end of 201, the remote port of one */
	helper_peer(&h, 2, &me, 1, &wire);
	e = await(2);
	assert_true(e->result == HELPER_R_LIVE && e->sock_fd == own.server);
	wire.remote_port = 1; /* any of them may be it */
	helper_peer(&h, 4, &me, 1, &wire);
	e = await(4);
	assert_true(e->result == HELPER_R_LIVE && e->sock_cookie == 0 && endpoint_same_addrs(&e->e, &wire));
	pid = child(close_conn, &own); /* has them all but for that one */
	other = pid_only(pid);
	helper_peer(&h, 5, &other, 1, &wire);
	e = await(5);
	assert_true(e->result == HELPER_R_LIVE && e->sock_cookie == 0);
	reap(pid);
	pid = child(close_all_but, &in[150]); /* has only one of the many */
	other = pid_only(pid);
	wire = own.se;
	ends_of(in[150], &wire);
	at = wire;
	wire.remote[3] ^= 0x10;
	helper_peer(&h, 6, &other, 1, &wire);
	e = await(6);
	assert_true(e->result == HELPER_R_LIVE && e->sock_fd == in[150] && endpoint_same_addrs(&e->e, &at));
	reap(pid);
	helper_exists(&h, 3, &own.se); /* and what the kernel still had to say is not in the way */
	assert_int_equal(await(3)->result, HELPER_R_LIVE);
	for (unsigned i = 0; i < 200; i++) {
		close(out[i]);
		close(in[i]);
	}
}

static void close_both(void *arg)
{
	close_conn(arg);
	close_conn((struct conn *)arg + 1);
}

/* A server's connection behind REDIRECT that is over, or ending, when it is asked about. */
static void test_peer_that_is_closed(void **state)
{
	struct helper_pid me = self(), other;
	const struct helper_event *e;
	struct endpoint wire;
	struct conn c[2];
	pid_t pid;

	(void)state;
	if (geteuid() != 0)
		skip();
	for (unsigned i = 0; i < 2; i++)
		conn_make(&c[i], i == 0 ? AF_INET : AF_INET6);
	pid = child(close_both, c);
	other = pid_only(pid);
	close(c[0].client);
	close(c[0].server);
	close(c[1].server);
	close(c[1].client);
	close(c[1].listener);
	for (unsigned i = 0; i < 2; i++) {
		wire = c[i].se;
		wire.local_port ^= 1;
		helper_peer(&h, 10 * i + 1, &me, 1, &wire);
		helper_peer(&h, 10 * i + 2, &other, 1, &wire);
		e = await(10 * i + 1);
		if (i == 0) {
			assert_true(e->result == HELPER_R_LISTENER && e->sock_fd == c[i].listener);
			assert_true(endpoint_same_addrs(&e->e, &c[i].se) && e->e.netns == netns_of(getpid()));
		} else {
			assert_int_equal(e->result, HELPER_R_GONE); /* nobody listens there any more */
		}
		assert_int_equal(await(10 * i + 2)->result, HELPER_R_GONE);
	}
	reap(pid);
	close(c[0].listener);
	assert_true(send(own.server, got, sizeof(got), MSG_DONTWAIT) > 0); /* not read: it stays, and nobody has it */
	close(own.server);
	wire = own.se;
	wire.local_port ^= 1;
	helper_peer(&h, 31, &me, 1, &wire);
	e = await(31);
	assert_true(e->result == HELPER_R_LISTENER && endpoint_same_addrs(&e->e, &own.se));
}

/* A client that thinks it speaks to port 4443, and on the wire speaks to 5443. */
static void __attribute__((noreturn)) redirected(int to)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(5443)};
	int listener, client;
	struct endpoint e[2];

	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	if (unshare(CLONE_NEWNET) == -1)
		_exit(12);
	lo_up();
	memset(e, 0, sizeof(e));
	if (run("nft 'add table ip t; add chain ip t o { type nat hook output priority -100; };"
		" add rule ip t o tcp dport 4443 redirect to :5443' 2>/dev/null")) {
		listener = socket(AF_INET, SOCK_STREAM, 0);
		client = socket(AF_INET, SOCK_STREAM, 0);
		if (bind(listener, (void *)&a, sizeof(a)) == -1 || listen(listener, 8) == -1)
			_exit(13);
		a.sin_port = htons(4443);
		if (connect(client, (void *)&a, sizeof(a)) == -1)
			_exit(14);
		ends_of(client, &e[0]);
		ends_of(accept(listener, NULL, NULL), &e[1]);
	}
	(void)!write(to, e, sizeof(e));
	pause();
	_exit(0);
}

static void test_peer_of_a_redirected_connection(void **state)
{
	struct endpoint e[2], wire;
	const struct helper_event *ev;
	struct helper_pid p;
	uint64_t netns;
	int fd[2], from[2];
	pid_t pid;

	(void)state;
	if (geteuid() != 0)
		skip();
	assert_int_equal(pipe(from), 0);
	pid = fork();
	if (pid == 0)
		redirected(from[1]);
	close(from[1]);
	assert_int_equal(read(from[0], e, sizeof(e)), sizeof(e));
	close(from[0]);
	p = pid_only(pid);
	if (e[0].ver == 0) {
		reap(pid);
		skip(); /* no nft, or the kernel has no NAT */
	}
	assert_true(e[0].remote_port == 4443 && e[1].local_port == 5443);
	netns = open_pid(1, pid, fd);
	wire = e[0]; /* as seen on the wire, from the client's side */
	wire.remote_port = 5443;
	wire.netns = netns;
	helper_exists(&h, 2, &wire);
	assert_int_equal(await(2)->result, HELPER_R_GONE);
	helper_peer(&h, 3, &p, 1, &wire);
	ev = await(3);
	assert_true(ev->result == HELPER_R_LIVE && endpoint_same_addrs(&ev->e, &e[0]) && ev->e.netns == netns);
	close(fd[0]);
	close(fd[1]);
	reap(pid);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, start_netns, stop_netns)
	const struct CMUnitTest tests[] = {
		T(test_same_addresses_in_three_namespaces),
		T(test_socket_from_another_namespace),
		T(test_open_twice_and_what_cannot_be_opened),
		T(test_capabilities_suffice_for_namespaces),
		T(test_closed_namespace_dies),
		T(test_by_name_until_the_name_is_gone),
		T(test_namespaces_are_bounded),
		T(test_peer_shares_one_end),
		T(test_peer_among_many),
		T(test_peer_that_is_closed),
		T(test_peer_of_a_redirected_connection),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
