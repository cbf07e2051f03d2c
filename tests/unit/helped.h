/* SPDX-License-Identifier: Apache-2.0 */
/* helped.h - a helper that is asked for real: what test_helper*.c share. */
#ifndef TLSTAP_TEST_HELPED_H
#define TLSTAP_TEST_HELPED_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "agentd/helper.h"
#include "agentd/proc.h"

/* not every test uses all */
#pragma GCC diagnostic ignored "-Wunused-function"

#define EVENTS_MAX 4096
#define OTHER_UID 65534

static struct helper h;
static struct helper_event got[EVENTS_MAX];
static char got_exe[HELPER_PATH_MAX];
static size_t n_got;

static void keep(void *arg, const struct helper_event *e)
{
	(void)arg;
	if (e->exe != NULL)
		memcpy(got_exe, e->exe, strlen(e->exe) + 1);
	if (n_got < EVENTS_MAX)
		got[n_got++] = *e;
}

static int start(void **state)
{
	(void)state;
	n_got = 0;
	return helper_start(&h, NULL, false);
}

static int stop(void **state)
{
	(void)state;
	helper_stop(&h);
	helper_stop(&h);
	return 0;
}

/* Poll until the last answer to @cookie is there; returns it. */
static const struct helper_event *await(uint64_t cookie)
{
	assert_int_equal(helper_flush(&h), 0);
	for (unsigned i = 0; i < 500; i++) {
		struct pollfd p = {.fd = helper_fd(&h), .events = POLLIN};

		for (size_t k = 0; k < n_got; k++) {
			if (got[k].type < HELPER_DESTROYED && got[k].cookie == cookie && got[k].last)
				return &got[k];
		}
		(void)poll(&p, 1, 20);
		assert_true(helper_poll(&h, 64, keep, NULL) >= 0);
	}
	fail_msg("no answer to %llu", (unsigned long long)cookie);
	return NULL;
}

struct conn {
	int listener, client, server;
	struct endpoint ce, se;
};

static void ends_of(int fd, struct endpoint *ret)
{
	struct sockaddr_storage l, r;
	socklen_t n = sizeof(l);

	assert_int_equal(getsockname(fd, (void *)&l, &n), 0);
	n = sizeof(r);
	assert_int_equal(getpeername(fd, (void *)&r, &n), 0);
	assert_int_equal(endpoint_set(ret, (void *)&l, (void *)&r), 0);
}

static void conn_make(struct conn *c, int family)
{
	struct sockaddr_in6 a6 = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
	struct sockaddr_in a4 = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	struct sockaddr *a = family == AF_INET ? (void *)&a4 : (void *)&a6;
	socklen_t n = family == AF_INET ? sizeof(a4) : sizeof(a6);

	c->listener = socket(family, SOCK_STREAM, 0);
	assert_int_equal(bind(c->listener, a, n), 0);
	assert_int_equal(listen(c->listener, 8), 0);
	assert_int_equal(getsockname(c->listener, a, &n), 0);
	c->client = socket(family, SOCK_STREAM, 0);
	assert_int_equal(connect(c->client, a, n), 0);
	c->server = accept(c->listener, NULL, NULL);
	assert_true(c->server >= 0);
	ends_of(c->client, &c->ce);
	ends_of(c->server, &c->se);
}

static struct helper_pid self(void)
{
	struct helper_pid p = {.pid = getpid()};
	int proc = proc_open(p.pid);

	assert_int_equal(proc_start_time(proc, &p.start_time), 0);
	close(proc);
	return p;
}

static uint64_t netns_of(pid_t pid)
{
	int proc = proc_open(pid);
	uint64_t netns = 0;

	assert_int_equal(proc_netns(proc, &netns), 0);
	close(proc);
	return netns;
}

static struct helper_pid pid_only(pid_t pid)
{
	return (struct helper_pid){.pid = pid};
}

/* A child in state @wait: runs @f, says ready, then waits to be killed. */
static pid_t child(void (*f)(void *), void *arg)
{
	int p[2];
	char c;
	pid_t pid;

	assert_int_equal(pipe(p), 0);
	pid = fork();
	if (pid == 0) {
		(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
		close(h.fd); /* else the helper lives as long as this one */
		f(arg);
		(void)!write(p[1], "", 1);
		pause();
		_exit(0);
	}
	close(p[1]);
	assert_int_equal(read(p[0], &c, 1), 1);
	close(p[0]);
	return pid;
}

static void reap(pid_t pid)
{
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
}

static void close_conn(void *arg)
{
	struct conn *c = arg;

	close(c->listener);
	close(c->client);
	close(c->server);
}

static void become_nobody(void *arg)
{
	(void)arg;
	if (setresgid(OTHER_UID, OTHER_UID, OTHER_UID) != 0 || setresuid(OTHER_UID, OTHER_UID, OTHER_UID) != 0)
		_exit(1);
	(void)prctl(PR_SET_PDEATHSIG, SIGKILL); /* cleared by the change of user */
}

#endif
