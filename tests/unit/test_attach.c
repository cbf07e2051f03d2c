/* SPDX-License-Identifier: Apache-2.0 */
/* test_attach.c - attach.c: places for those who have not asked yet, mappings per process and per user. */
#include <signal.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>

#include "agent.h"
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wshadow" /* agent.h's lane and loop */
static int netns_pid(struct helper *h, uint64_t cookie, int32_t pid);
static int brief(struct helper *h, uint64_t cookie, const struct helper_pid *p);
#define helper_netns_pid netns_pid
#define helper_brief brief
#include "agentd/guest.c"
#include "agentd/attach.c"
#undef helper_netns_pid
#undef helper_brief
#pragma GCC diagnostic pop

static unsigned netns_asked;
static uint64_t netns_cookie; /* of the last one */
static bool netns_full;

static int netns_pid(struct helper *h, uint64_t cookie, int32_t pid)
{
	(void)h;
	if (netns_full)
		return -EAGAIN;
	assert_true(pid > 0 && cookie & 1ull << 63);
	netns_asked++;
	netns_cookie = cookie;
	return 0;
}

static unsigned looks;
static uint64_t look_cookie; /* of the last one */
static bool look_full;

static int brief(struct helper *h, uint64_t cookie, const struct helper_pid *p)
{
	(void)h;
	if (look_full)
		return -EAGAIN;
	assert_true(p->pid > 0 && cookie & ATTACH_COOKIE);
	looks++;
	look_cookie = cookie;
	return 0;
}

static struct attach at;
static int end[ATTACH_GUESTS_MAX * 2]; /* the clients' ends */
static unsigned ends;

static void begin(void)
{
	agent_start();
	memset(&at, 0, sizeof(at));
	at.fd = -1;
	at.lane = &lane;
	at.loop = loop; /* here the lane's too: no thread */
	at.helper = &fake_helper;
	at.come_end = &at.come;
	realtime_lock_init(&at.lock);
	ev_async_init(&at.news, on_news);
	at.news.data = at.wake.data = &at;
	ev_async_start(loop, &at.news);
	at.chunks = SHM_CHUNKS_MIN;
	at.guest = calloc(ATTACH_GUESTS_MAX, sizeof(*at.guest));
	assert_non_null(at.guest);
	for (unsigned i = 0; i < ATTACH_GUESTS_MAX; i++)
		at.guest[i].fd = -1;
	ends = netns_asked = looks = 0;
	look_full = false;
	netns_full = false;
}

static void finish(void)
{
	for (unsigned i = 0; i < ATTACH_GUESTS_MAX; i++)
		if (at.guest[i].fd != -1)
			guest_dismiss(&at.guest[i]);
	assert_int_equal(at.guests, 0);
	free(at.guest);
	while (ends)
		close(end[--ends]);
	attach_settle(&at);
	ev_async_stop(loop, &at.news);
	agent_kill();
}

/* Process @pid of @uid connects, and asks if @asks. Returns its end. */
static int come(pid_t pid, uid_t uid, bool asks)
{
	struct attach_request req = {.magic = ATTACH_MAGIC, .abi = ATTACH_ABI, .pid = pid};
	int s[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, s), 0);
	if (asks)
		assert_int_equal(send(s[0], &req, sizeof(req), 0), sizeof(req));
	let_in(&at, s[1], (int)syscall(SYS_pidfd_open, pid, 0), pid, uid);
	end[ends++] = s[0];
	attach_settle(&at);
	on_wake(loop, &at.wake, 0);
	attach_settle(&at);
	return s[0];
}

/* 1: a mapping, 0: none, -1: no answer yet, -2: turned away */
static int answer_to(int fd)
{
	struct attach_reply reply;
	int passed = -1;
	ssize_t n = sock_recv_fd(fd, &reply, sizeof(reply), &passed);

	if (passed != -1)
		close(passed);
	if (n == -EAGAIN)
		return -1;
	return n != sizeof(reply) ? -2 : reply.size && passed != -1;
}

static void test_silent_guests_lock_nobody_out(void **state)
{
	int first, asks;

	(void)state;
	begin();
	first = come(getpid(), 1000, false);
	for (unsigned i = 0; i < 2 * ATTACH_GUESTS_UID_MAX; i++)
		(void)come(getpid(), 1000, false);
	assert_true(at.guests == ATTACH_GUESTS_UID_MAX && at.dismissed == ATTACH_GUESTS_UID_MAX + 1);
	assert_int_equal(answer_to(first), -2);
	assert_int_equal(answer_to(come(getpid(), 1000, true)), 1);
	assert_int_equal(answer_to(come(getpid(), 1001, true)), 1);
	for (unsigned uid = 1001; at.guests < ATTACH_GUESTS_MAX; uid++)
		for (unsigned i = 0; i < ATTACH_GUESTS_UID_MAX && at.guests < ATTACH_GUESTS_MAX; i++)
			(void)come(getpid(), uid, false);
	asks = come(getpid(), 2000, false);
	assert_int_equal(answer_to(asks), -1); /* has a place; it was one of another user's */
	assert_true(at.guests == ATTACH_GUESTS_MAX && guests_of(&at, 2000) == 1);
	assert_int_equal(answer_to(come(getpid(), 0, true)), 1);
	finish();
}

/* Whose place is needed is heard first. */
static void test_guest_that_has_asked_is_served(void **state)
{
	struct attach_request req = {.magic = ATTACH_MAGIC, .abi = ATTACH_ABI};
	int first;

	(void)state;
	begin();
	first = come(getpid(), 1000, false);
	assert_int_equal(send(first, &req, sizeof(req), 0), sizeof(req));
	for (unsigned i = 0; i < ATTACH_GUESTS_UID_MAX; i++)
		(void)come(getpid(), 1000, false);
	assert_int_equal(answer_to(first), 1);
	assert_true(at.dismissed == 0 && at.attached == 1);
	finish();
}

static void test_mappings_of_one_process_and_user(void **state)
{
	pid_t child = fork(), other = child ? fork() : 0;
	unsigned got = 0;

	(void)state;
	if (!child || !other) {
		pause();
		_exit(0);
	}
	begin();
	for (unsigned i = 0; i < FAMILIES_PID_MAX + 5; i++)
		got += answer_to(come(child, 1000, true)) == 1;
	assert_true(got == FAMILIES_PID_MAX && at.limited == 5 && at.refused == 5);
	assert_int_equal(answer_to(come(other, 1000, true)), 1);
	for (struct family *f = lane.families; f; f = f->next) /* it lives in the last one only */
		if (f->member[0]->p.pid == child)
			got -= f->member[0]->pidfd == -1;
	assert_int_equal(got, 1);
	finish();
	kill(child, SIGKILL);
	kill(other, SIGKILL);
	waitpid(child, NULL, 0);
	waitpid(other, NULL, 0);
}

static void test_process_that_died_meanwhile(void **state)
{
	struct attach_request req = {.magic = ATTACH_MAGIC, .abi = ATTACH_ABI};
	pid_t child = fork();
	int fd;

	(void)state;
	if (!child) {
		pause();
		_exit(0);
	}
	begin();
	fd = come(child, 1000, false);
	kill(child, SIGKILL);
	waitpid(child, NULL, 0);
	assert_int_equal(send(fd, &req, sizeof(req), 0), sizeof(req));
	assert_true(serve(&at.guest[0]));
	assert_int_equal(answer_to(fd), 0);
	assert_true(at.attached == 0 && !lane.families);
	finish();
}

static void test_refusals_are_told_once(void **state)
{
	struct guest g = {.attach = &at, .pid = 1};

	(void)state;
	begin();
	for (unsigned round = 0; round < 3; round++)
		for (g.uid = 0; g.uid < 5; g.uid++)
			warn_refused(&at, &g, -EUSERS);
	for (g.uid = 0; g.uid < 5; g.uid++) {
		unsigned known = 0;

		for (unsigned i = 0; i < ATTACH_WARNED; i++)
			known += at.warned[i].until > 0 && at.warned[i].uid == g.uid && at.warned[i].count == 2;
		assert_int_equal(known, 1);
	}
	finish();
}

/* As lane.c hands on what the helper says. */
static void netns_answer(uint64_t cookie, enum helper_result result, bool last)
{
	struct helper_event e = {.type = HELPER_NETNS, .result = result, .cookie = cookie, .last = last, .fd = -1};

	attach_on_netns(&at, &e);
	on_wake(loop, &at.wake, 0);
	attach_settle(&at);
}

static void test_namespace_is_opened_first(void **state)
{
	pid_t child = fork();
	int fd, other;

	(void)state;
	if (!child) {
		pause();
		_exit(0);
	}
	begin();
	at.netns_all = true;
	fd = come(child, 1000, true);
	other = come(getpid(), 1000, true);
	assert_true(answer_to(fd) == -1 && netns_asked == 2);
	netns_answer(ATTACH_COOKIE | 0, HELPER_R_OK, false); /* the first descriptor */
	netns_answer(0, HELPER_R_OK, true);		     /* asked by somebody else */
	netns_answer(0, HELPER_R_GONE, true);		     /* an event */
	assert_int_equal(answer_to(fd), -1);
	netns_answer(ATTACH_COOKIE | 0, HELPER_R_OK, true); /* the first guest's */
	assert_true(answer_to(fd) == 1 && answer_to(other) == -1);
	netns_answer(netns_cookie, HELPER_R_ERROR, true); /* it cannot be had: that is no reason to refuse */
	assert_int_equal(answer_to(other), 1);
	netns_answer(netns_cookie, HELPER_R_LIVE, true); /* nobody waits any more */
	assert_true(at.attached == 2 && at.hasty == 0 && at.guests == 0);
	finish();
	kill(child, SIGKILL);
	waitpid(child, NULL, 0);
}

static void test_namespace_is_not_waited_for_long(void **state)
{
	int fd, busy;

	(void)state;
	begin();
	at.netns_all = true;
	fd = come(getpid(), 1000, true);
	for (unsigned i = 0; i < 100 && at.guests; i++)
		ev_run(loop, EVRUN_ONCE);
	attach_settle(&at);
	assert_true(answer_to(fd) == 1 && at.hasty == 1);
	netns_full = true; /* the helper has too much to do: not a moment is waited */
	busy = come(getpid(), 1000, true);
	assert_true(answer_to(busy) == 1 && at.hasty == 2);
	finish();
}

/* Who waits for its namespace takes a place like others, and has its mapping when another one needs that. */
static void test_guests_that_wait_are_bounded(void **state)
{
	int first;

	(void)state;
	begin();
	at.netns_all = true;
	first = come(getpid(), 1000, true);
	for (unsigned i = 0; i < ATTACH_GUESTS_UID_MAX; i++) /* a silent one goes first */
		(void)come(getpid(), 1000, false);
	assert_true(answer_to(first) == -1 && at.hasty == 0 && at.dismissed == 1);
	for (unsigned i = 0; i < ATTACH_GUESTS_UID_MAX; i++)
		(void)come(getpid(), 1000, true);
	assert_int_equal(answer_to(first), 1);
	assert_true(at.guests == ATTACH_GUESTS_UID_MAX && at.hasty == 1 && at.dismissed == ATTACH_GUESTS_UID_MAX);
	finish();
}

static struct policy policy;

static void begin_with(const char *deny)
{
	char *item[] = {(char *)deny}, err[POLICY_ERR];
	struct opt_list list[POLICY_LISTS] = {[POLICY_DENY] = {.item = item, .n = 1}, [POLICY_ISOLATE] = {.n = 0}};

	assert_int_equal(policy_load(&policy, list, err), 0);
	begin();
	lane.policy = &policy;
}

static void look_answer(uint64_t cookie, enum helper_result result, const char *exe)
{
	struct helper_event e = {.type = HELPER_PROC,
				 .result = result,
				 .cookie = cookie,
				 .last = true,
				 .fd = -1,
				 .exe = exe,
				 .cgroup = "/"};

	on_look(&at, &e);
	attach_settle(&at);
}

/* 0: refused, and says so */
static void test_is_looked_at_first(void **state)
{
	int denied, allowed, by_uid, gone;
	uint64_t first;

	(void)state;
	begin_with("exe:/bin/no");
	denied = come(getpid(), 1000, true);
	first = look_cookie;
	allowed = come(getpid(), 1000, true);
	assert_true(looks == 2 && first != look_cookie && answer_to(denied) == -1);
	look_answer(look_cookie, HELPER_R_OK, "/bin/yes");
	assert_true(answer_to(allowed) == 1 && answer_to(denied) == -1);
	look_answer(look_cookie, HELPER_R_OK, "/bin/yes"); /* nobody waits for it any more */
	look_answer(first, HELPER_R_OK, "/bin/no");
	assert_true(answer_to(denied) == 0 && at.denied == 1 && at.attached == 1 && at.refused == 0);
	gone = come(getpid(), 1000, true);
	look_answer(look_cookie, HELPER_R_NO_PROCESS, NULL);
	assert_true(answer_to(gone) == 0 && at.unseen == 1);
	by_uid = come(getpid(), 1000, true);
	look_answer(look_cookie, HELPER_R_OK, ""); /* its program cannot be read */
	assert_true(answer_to(by_uid) == 0 && at.denied == 2);
	finish();
}

static void test_who_cannot_be_looked_at_is_let_go(void **state)
{
	int late, busy;

	(void)state;
	begin_with("uid:7");
	late = come(getpid(), 1000, true);
	for (unsigned i = 0; i < 100 && at.guests; i++)
		ev_run(loop, EVRUN_ONCE);
	attach_settle(&at);
	assert_true(answer_to(late) == 0 && at.unseen == 1 && at.refused == 1);
	look_answer(look_cookie, HELPER_R_OK, "/bin/yes"); /* too late */
	look_full = true;
	busy = come(getpid(), 1000, true);
	assert_true(answer_to(busy) == 0 && at.unseen == 2);
	assert_int_equal(at.attached, 0);
	finish();
}

/* However many of one user come, no more of them are being looked at, and those are. */
static void test_looks_are_not_thrown_away(void **state)
{
	int first, last = -1;
	uint64_t look;

	(void)state;
	begin_with("uid:7");
	first = come(getpid(), 1000, true);
	look = look_cookie;
	for (unsigned i = 0; i < 2 * ATTACH_GUESTS_UID_MAX; i++)
		last = come(getpid(), 1000, true);
	assert_true(looks == ATTACH_GUESTS_UID_MAX && at.guests == ATTACH_GUESTS_UID_MAX);
	assert_true(answer_to(first) == -1 && answer_to(last) == -2 && at.unseen == ATTACH_GUESTS_UID_MAX + 1);
	look_answer(look, HELPER_R_OK, "/bin/yes");
	assert_int_equal(answer_to(first), 1);
	last = come(getpid(), 1000, true); /* in its place */
	assert_int_equal(answer_to(last), -1);
	last = come(getpid(), 1001, true); /* others have theirs */
	look_answer(look_cookie, HELPER_R_OK, "/bin/yes");
	assert_int_equal(answer_to(last), 1);
	finish();
}

static void test_look_and_namespace(void **state)
{
	int fd;

	(void)state;
	begin_with("uid:7");
	at.netns_all = true;
	fd = come(getpid(), 1000, true);
	netns_answer(look_cookie, HELPER_R_OK, true);
	assert_int_equal(answer_to(fd), -1);
	look_answer(look_cookie, HELPER_R_OK, "/bin/yes");
	assert_int_equal(answer_to(fd), 1);
	fd = come(getpid(), 7, true);
	look_answer(look_cookie, HELPER_R_OK, "/bin/yes"); /* denied, whether the namespace is open or not */
	assert_true(answer_to(fd) == 0 && at.denied == 1);
	finish();
}

static void test_nobody_is_served_who_has_left(void **state)
{
	(void)state;
	begin_with("uid:7");
	close(come(getpid(), 1000, true));
	end[--ends] = -1;
	look_answer(look_cookie, HELPER_R_OK, "/bin/yes");
	assert_true(at.left == 1 && at.attached == 0 && at.guests == 0 && !lane.families);
	finish();
}

static void test_switched_off(void **state)
{
	(void)state;
	begin_with("uid:7");
	at.off = true;
	assert_int_equal(answer_to(come(getpid(), 1000, true)), 0);
	assert_true(at.denied == 1 && looks == 0);
	finish();
	policy_free(&policy);
}

/* Met again by its number, as the holder of a socket: it is no stranger, dead as it is, whether it was waited for or not. */
static void test_a_dead_process_is_met_again(void **state)
{
	struct helper_pid p = {.pid = fork()};
	struct family *f;

	(void)state;
	if (!p.pid) {
		pause();
		_exit(0);
	}
	begin();
	assert_int_equal(answer_to(come(p.pid, 1000, true)), 1);
	f = lane.families;
	kill(p.pid, SIGKILL);
	for (unsigned i = 0; i < 100 && !f->member[0]->dead_sweep; i++)
		ev_run(loop, EVRUN_ONCE);
	for (unsigned reaped = 0; reaped < 2; reaped++) {
		assert_ptr_equal(family_member(f, &p, p.pid), f->member[0]);
		assert_int_equal(f->member_n, 1);
		waitpid(p.pid, NULL, 0);
	}
	p.pid = getppid(); /* somebody else, who lives */
	assert_ptr_not_equal(family_member(f, &p, p.pid), f->member[0]);
	assert_int_equal(f->member_n, 2);
	finish();
}

/* Clients that ask through the real socket while the lane does what it does. */
#define CROWD 8
#define ROUNDS 20

static char crowd_socket[128];
static _Atomic unsigned crowd_got, crowd_done;

static void *ask_often(void *arg)
{
	struct attach_request req = {.magic = ATTACH_MAGIC, .abi = ATTACH_ABI, .pid = getpid()};

	for (unsigned i = 0; i < ROUNDS; i++) {
		int s = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
		struct sockaddr_un to = {.sun_family = AF_UNIX};
		struct pollfd wait = {.fd = s, .events = POLLIN};

		memcpy(to.sun_path, crowd_socket, strlen(crowd_socket) + 1);
		if (connect(s, (struct sockaddr *)&to, sizeof(to)) == 0 &&
		    send(s, &req, sizeof(req), MSG_NOSIGNAL) == sizeof(req) && poll(&wait, 1, 10000) == 1)
			crowd_got += answer_to(s) == 1;
		close(s);
	}
	crowd_done++;
	return arg;
}

static void test_a_thread_of_its_own(void **state)
{
	static struct attach own;
	char dir[] = "/tmp/attachXXXXXX", err[ATTACH_ERR], page[160];
	pthread_t thread[CROWD];

	(void)state;
	agent_start();
	assert_non_null(mkdtemp(dir));
	snprintf(crowd_socket, sizeof(crowd_socket), "%s/socket", dir);
	snprintf(page, sizeof(page), "%s/%s", dir, ATTACH_PAGE);
	assert_int_equal(attach_init(&own, crowd_socket, err), 0);
	assert_int_equal(attach_start(&own, &lane, &fake_helper, SHM_CHUNKS_MIN * SHM_CHUNK), 0);
	crowd_got = crowd_done = 0;
	for (unsigned i = 0; i < CROWD; i++)
		assert_int_equal(pthread_create(&thread[i], NULL, ask_often, NULL), 0);
	while (crowd_done < CROWD) {
		ev_run(loop, EVRUN_NOWAIT);
		attach_lock(&own); /* as after SIGHUP */
		lane.rules++;
		attach_unlock(&own);
	}
	for (unsigned i = 0; i < CROWD; i++)
		pthread_join(thread[i], NULL);
	assert_true(crowd_got == FAMILIES_PID_MAX && own.attached == crowd_got); /* all are one process */
	assert_int_equal(own.attached + own.limited, CROWD * ROUNDS);
	attach_switch(&own, true);
	assert_true(own.presence.page->off == 1 && own.presence.page->beat_ns > 0);
	attach_stop(&own);
	assert_int_equal(own.presence.page->beat_ns, 0);
	assert_true(lane.families_n == FAMILIES_PID_MAX && lane.quota.n == lane.families_n);
	unlink(page);
	unlink(crowd_socket);
	rmdir(dir);
	agent_kill();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_silent_guests_lock_nobody_out),
		cmocka_unit_test(test_guest_that_has_asked_is_served),
		cmocka_unit_test(test_mappings_of_one_process_and_user),
		cmocka_unit_test(test_process_that_died_meanwhile),
		cmocka_unit_test(test_refusals_are_told_once),
		cmocka_unit_test(test_namespace_is_opened_first),
		cmocka_unit_test(test_namespace_is_not_waited_for_long),
		cmocka_unit_test(test_guests_that_wait_are_bounded),
		cmocka_unit_test(test_is_looked_at_first),
		cmocka_unit_test(test_who_cannot_be_looked_at_is_let_go),
		cmocka_unit_test(test_looks_are_not_thrown_away),
		cmocka_unit_test(test_look_and_namespace),
		cmocka_unit_test(test_nobody_is_served_who_has_left),
		cmocka_unit_test(test_switched_off),
		cmocka_unit_test(test_a_dead_process_is_met_again),
		cmocka_unit_test(test_a_thread_of_its_own),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
