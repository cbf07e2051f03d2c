/* SPDX-License-Identifier: Apache-2.0 */
/* test_own.c - the lines about tlstap's own traffic: several processes, dead ones, files that are not what they should
 * be, more of everything than there is room for. */
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/wait.h>

#include <net/if.h>

#include <cmocka.h>

#include "common/own.c"

#define SECOND 1000000000ull

static char folder[] = "/tmp/test_own.XXXXXX";
static char path[64];

static int set_up(void **state)
{
	(void)state;
	assert_non_null(mkdtemp(folder));
	(void)snprintf(path, sizeof(path), "%s/d/own", folder);
	(void)mkdir(folder, 0755);
	*strrchr(path, '/') = '\0';
	assert_int_equal(mkdir(path, 0755), 0);
	path[strlen(path)] = '/';
	return 0;
}

static int tear_down(void **state)
{
	char cmd[128];

	(void)state;
	(void)snprintf(cmd, sizeof(cmd), "rm -r %s", folder);
	return system(cmd);
}

static int fresh(void **state)
{
	(void)state;
	(void)unlink(path);
	return 0;
}

static struct own *open_shared(void)
{
	struct own *o;
	bool shared;
	int err;

	assert_int_equal(own_open(&o, path, &shared, &err), 0);
	assert_true(shared);
	assert_int_equal(err, 0);
	return o;
}

static struct tuple tuple(uint8_t ver, uint16_t a, uint16_t b)
{
	struct tuple t = {.ver = ver, .port = {a, b}};

	memset(t.addr[0], 1, ver == 4 ? 4 : 16);
	memset(t.addr[1], 2, ver == 4 ? 4 : 16);
	return t;
}

static bool is_tunnel(const struct own *o, uint8_t ver, uint16_t a, uint16_t b)
{
	struct tuple t = tuple(ver, a, b), back = t;

	memcpy(back.addr[0], t.addr[1], 16);
	memcpy(back.addr[1], t.addr[0], 16);
	back.port[0] = b;
	back.port[1] = a;
	assert_int_equal(own_is_tunnel(o, &t), own_is_tunnel(o, &back));
	return own_is_tunnel(o, &t);
}

static void test_what_one_says_the_other_knows_at_once(void **state)
{
	struct own *a = open_shared(), *b = open_shared();
	struct tuple t = tuple(4, 40000, 3005), six = tuple(6, 40001, 3005);
	struct tuple everywhere = {.port = {0, 3006}}, here = tuple(4, 0, 3007);
	struct tuple local = {.ver = 4, .addr = {{9, 9, 9, 9}, {127, 0, 0, 1}}, .port = {3006, 5}};
	uint64_t at = now();

	(void)state;
	own_refresh(b, at);
	assert_false(is_tunnel(b, 4, 40000, 3005));
	own_tunnel(a, 0, &t);
	own_tunnel(a, 1, &six);
	own_listen(a, 0, &everywhere);
	own_listen(a, 1, &here);
	assert_false(is_tunnel(b, 4, 40000, 3005)); /* its copy is what it was */
	own_refresh(b, at + 1);
	own_refresh(a, at + 1);
	for (int i = 0; i < 2; i++) {
		struct own *o = i ? a : b;

		assert_true(is_tunnel(o, 4, 40000, 3005));
		assert_true(is_tunnel(o, 6, 40001, 3005));
		assert_false(is_tunnel(o, 6, 40000, 3005));
		assert_false(is_tunnel(o, 4, 40001, 3005));
		assert_false(is_tunnel(o, 4, 1, 3006) || is_tunnel(o, 6, 3006, 2)); /* of other hosts */
		assert_true(is_tunnel(o, 4, 1, 3007));
		assert_false(is_tunnel(o, 4, 3007, 1) || is_tunnel(o, 6, 1, 3007)); /* the other end, another address */
		local.port[0] = 3006;
		local.port[1] = 5;
		assert_false(own_is_tunnel(o, &local)); /* from that port to this host */
		local.port[0] = 5;
		local.port[1] = 3006;
		assert_true(own_is_tunnel(o, &local));
		assert_false(is_tunnel(o, 4, 1, 3005));
		assert_false(own_is_replay(o, 1));
		assert_false(own_is_replay(o, 0));
	}
	own_tunnel_over(a, 0);
	own_refresh(b, at + 2);
	assert_true(is_tunnel(b, 4, 40000, 3005));
	own_tunnel(a, 0, NULL);
	own_refresh(b, at + 2);
	assert_false(is_tunnel(b, 4, 40000, 3005));
	assert_true(is_tunnel(b, 6, 40001, 3005));
	own_close(&a);
	own_refresh(b, at + 3);
	assert_false(is_tunnel(b, 6, 40001, 3005));
	assert_false(is_tunnel(b, 4, 1, 3007));
	own_close(&b);
	own_close(&b);
}

/* Where NAT on this host has changed one end, the other one tells. */
static void test_nat(void **state)
{
	struct tuple t = tuple(4, 40000, 3005), seen[] = {t, t, t, t, t, t}, six = t;
	static const bool live[] = {true, true, true, false, false, false};
	struct own *o = open_shared();

	(void)state;
	seen[1].port[1] = 443; /* DNAT: another receiver */
	seen[1].addr[1][0]++;
	seen[2].addr[0][0]++; /* SNAT */
	seen[3].addr[0][0]++; /* somebody else's */
	seen[3].addr[1][0]++;
	seen[4].port[0]++;	 /* another connection to the receiver */
	seen[5].port[1] = 40000; /* to a port that is no tunnel's, there */
	seen[5].port[0] = 3005;
	six.ver = 6;
	own_tunnel(o, 0, &t);
	own_refresh(o, now());
	for (unsigned i = 0; i < 6; i++)
		assert_int_equal(own_is_tunnel(o, &seen[i]), live[i]);
	assert_false(own_is_tunnel(o, &six));
	own_tunnel_over(o, 0);
	own_tunnel_over(o, OWN_TUNNELS);
	own_tunnel_over(NULL, 0);
	own_refresh(o, now());
	for (unsigned i = 0; i < 6; i++)
		assert_int_equal(own_is_tunnel(o, &seen[i]), i == 0);
	own_close(&o);
}

static void test_a_dead_one_counts_for_a_while(void **state)
{
	struct own *o = open_shared();
	struct tuple t = tuple(4, 50000, 3005);
	uint64_t at;
	pid_t pid;

	(void)state;
	pid = fork();
	assert_int_not_equal(pid, -1);
	if (pid == 0) {
		struct own *mine = open_shared();

		own_tunnel(mine, 3, &t);
		_exit(0);
	}
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	at = now();
	own_beat(o, at);
	own_refresh(o, at);
	assert_true(is_tunnel(o, 4, 50000, 3005));
	own_refresh(o, at + OWN_STALE_NS + 2 * SECOND);
	assert_false(is_tunnel(o, 4, 50000, 3005));
	own_close(&o);
}

static void test_limits(void **state)
{
	struct own *all[OWN_LINES], *extra, *reader;
	struct tuple t = tuple(4, 41000, 3005);
	uint64_t at = now(), later;
	bool shared;
	int err;

	(void)state;
	for (unsigned i = 0; i < OWN_LINES; i++) {
		all[i] = open_shared();
		for (unsigned k = 0; k < OWN_TUNNELS; k++) {
			t.port[0] = (uint16_t)(1000 + i * OWN_TUNNELS + k);
			own_tunnel(all[i], k, &t);
		}
		own_tunnel(all[i], OWN_TUNNELS, &t); /* these have no place */
		own_listen(all[i], OWN_LISTENS, &t);
	}
	assert_int_equal(own_open(&extra, path, &shared, &err), 0);
	assert_false(shared);
	assert_int_equal(err, ENOSPC);
	t.port[0] = 999;
	own_tunnel(extra, 0, &t);
	own_refresh(extra, at + SECOND);
	for (unsigned p = 999; p < 1000 + OWN_LINES * OWN_TUNNELS; p++)
		assert_true(is_tunnel(extra, 4, (uint16_t)p, 3005));
	own_refresh(all[0], at + SECOND);
	assert_false(is_tunnel(all[0], 4, 999, 3005)); /* told to nobody */
	assert_true(is_tunnel(all[0], 4, 1000 + OWN_TUNNELS, 3005));
	/* one that was stopped for long loses its line, and finds that out */
	later = at + OWN_STALE_NS + 2 * SECOND;
	for (unsigned i = 1; i < OWN_LINES; i++)
		own_beat(all[i], later);
	own_beat(extra, later);
	assert_ptr_equal(extra->line->owner == extra->id ? extra->line : NULL, &extra->file->line[0]);
	reader = all[1];
	own_refresh(reader, later);
	assert_true(is_tunnel(reader, 4, 999, 3005));
	t.port[0] = 998;
	own_tunnel(all[0], 0, &t); /* not over the other one's line */
	own_refresh(reader, later);
	assert_true(is_tunnel(reader, 4, 999, 3005) && !is_tunnel(reader, 4, 998, 3005));
	own_beat(all[0], later);
	own_refresh(reader, later);
	assert_false(is_tunnel(reader, 4, 998, 3005)); /* no line free */
	own_close(&all[2]);
	own_beat(all[0], later);
	own_refresh(reader, later);
	assert_true(is_tunnel(reader, 4, 998, 3005));
	for (unsigned i = 0; i < OWN_LINES; i++)
		own_close(&all[i]);
	own_close(&extra);
}

static void test_torn_and_nonsense(void **state)
{
	struct own *o = open_shared(), *other = open_shared();
	struct tuple t = tuple(6, 42000, 3005);
	uint64_t at = now(), seed = 1;
	struct line *l = other->line;

	(void)state;
	own_tunnel(other, 0, &t);
	own_refresh(o, at);
	assert_true(is_tunnel(o, 6, 42000, 3005));
	l->seq++; /* dies in the middle of writing */
	own_refresh(o, at + SECOND);
	assert_false(is_tunnel(o, 6, 42000, 3005));
	t.port[0]++;
	own_tunnel(other, 0, &t); /* and another goes on there */
	own_refresh(o, at + SECOND);
	assert_true(is_tunnel(o, 6, 42001, 3005) && !(l->seq & 1));
	l->beat_ns = at + 1000 * SECOND;
	own_refresh(o, at + 2 * SECOND);
	assert_false(is_tunnel(o, 6, 42001, 3005));
	for (int round = 0; round < 300; round++) {
		uint64_t *word = (uint64_t *)o->file;

		for (size_t i = 2; i < sizeof(*o->file) / 8; i++) {
			seed = seed * 6364136223846793005u + 1442695040888963407u;
			word[i] = round % 2 ? seed : seed >> 63;
		}
		for (unsigned i = 0; i < OWN_LINES; i++) {
			o->file->line[i].owner |= 1;
			o->file->line[i].beat_ns = at + 3 * SECOND;
			o->file->line[i].seq &= ~1ull;
			if (i % 2) /* as if of this namespace */
				o->file->line[i].word[0] = o->body.netns;
		}
		o->file->changes = seed;
		own_refresh(o, at + 3 * SECOND);
		(void)is_tunnel(o, 4, (uint16_t)seed, 1);
		own_beat(o, at + 3 * SECOND);
	}
	own_close(&o);
	own_close(&other);
}

static void not_shared(int expect)
{
	struct tuple t = tuple(4, 43000, 3005);
	struct own *o;
	bool shared;
	int err;

	assert_int_equal(own_open(&o, path, &shared, &err), 0);
	assert_false(shared);
	assert_int_equal(err, expect);
	own_tunnel(o, 0, &t);
	own_refresh(o, now());
	assert_true(is_tunnel(o, 4, 43000, 3005)); /* its own lines it knows */
	own_beat(o, now());
	own_close(&o);
}

static void write_file(const char *name, size_t size, mode_t mode)
{
	int fd = open(name, O_WRONLY | O_CREAT | O_TRUNC, mode);

	assert_int_not_equal(fd, -1);
	for (size_t i = 0; i < size; i++)
		assert_int_equal(write(fd, "x", 1), 1);
	assert_int_equal(fchmod(fd, mode), 0);
	close(fd);
}

static void test_files_that_are_not_ours(void **state)
{
	char other[80], bare[80];
	struct own *o;
	struct stat st;

	(void)state;
	(void)snprintf(other, sizeof(other), "%s/other", folder);
	/* another layout, another size, readable by all, a link, a pipe: replaced */
	write_file(path, sizeof(struct file), 0600);
	o = open_shared();
	own_close(&o);
	write_file(path, 100, 0600);
	o = open_shared();
	own_close(&o);
	(void)unlink(path);
	write_file(path, 0, 0644);
	o = open_shared();
	own_close(&o);
	(void)unlink(path);
	write_file(other, 10, 0600);
	assert_int_equal(symlink(other, path), 0);
	o = open_shared();
	own_close(&o);
	assert_true(stat(other, &st) == 0 && st.st_size == 10);
	(void)unlink(path);
	write_file(other, 0, 0600);
	assert_int_equal(link(other, path), 0);
	o = open_shared();
	own_close(&o);
	assert_true(stat(other, &st) == 0 && st.st_size == 0);
	(void)unlink(path);
	assert_int_equal(mkfifo(path, 0600), 0);
	o = open_shared();
	own_close(&o);
	assert_true(lstat(path, &st) == 0 && S_ISREG(st.st_mode) && (st.st_mode & 07777) == 0600);
	/* a folder in its place, a folder that others write to: nothing is shared */
	(void)unlink(path);
	assert_int_equal(mkdir(path, 0700), 0);
	not_shared(EISDIR);
	assert_int_equal(rmdir(path), 0);
	(void)snprintf(bare, sizeof(bare), "%s/d", folder);
	assert_int_equal(chmod(bare, 0775), 0);
	not_shared(EPERM);
	assert_int_equal(chmod(bare, 0755), 0);
}

static void test_somebody_holds_the_lock(void **state)
{
	char bare[80];
	struct own *o;
	int fd;

	(void)state;
	(void)snprintf(bare, sizeof(bare), "%s/d", folder);
	fd = open(bare, O_RDONLY | O_DIRECTORY);
	assert_int_equal(flock(fd, LOCK_EX), 0);
	o = open_shared(); /* after a while */
	own_close(&o);
	close(fd);
}

static void test_folder_is_made(void **state)
{
	char was[64], made[80];
	struct stat st;
	struct own *o;
	mode_t mask;

	(void)state;
	if (geteuid() != 0)
		skip();
	(void)snprintf(was, sizeof(was), "%s", path);
	(void)snprintf(path, sizeof(path), "%s/new/own", folder);
	mask = umask(077);
	o = open_shared();
	umask(mask);
	(void)snprintf(made, sizeof(made), "%s/new", folder);
	assert_true(stat(made, &st) == 0 && (st.st_mode & 07777) == 0755);
	own_close(&o);
	(void)snprintf(path, sizeof(path), "%s", was);
}

static void test_readers_see_whole_lines(void **state)
{
	struct own *o = open_shared();
	unsigned seen[2] = {0, 0};
	uint64_t at = now();
	pid_t pid;

	(void)state;
	pid = fork();
	assert_int_not_equal(pid, -1);
	if (pid == 0) {
		struct own *mine = open_shared();

		for (unsigned i = 0;; i++) {
			struct tuple t = tuple(4, (uint16_t)(1000 + i % 2), (uint16_t)(2000 + i % 2));

			t.addr[0][3] = t.addr[1][3] = (uint8_t)(10 + i % 2);
			own_tunnel(mine, 0, &t);
		}
	}
	for (unsigned i = 0; (i < 20000 || !seen[0] || !seen[1]) && now() < at + 10 * SECOND; i++) {
		own_refresh(o, at);
		assert_true(o->tunnels <= 1);
		for (unsigned k = 0; k < o->tunnels; k++) {
			unsigned odd = o->tunnel[k].port[0] & 1;

			assert_int_equal(o->tunnel[k].port[1] & 1, odd);
			assert_int_equal(o->tunnel[k].addr[0][3], 10 + odd);
			assert_int_equal(o->tunnel[k].addr[1][3], 10 + odd);
			seen[odd]++;
		}
	}
	assert_int_equal(kill(pid, SIGKILL), 0);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	assert_true(seen[0] && seen[1]);
	own_close(&o);
}

static bool ip(const char *args)
{
	char cmd[256];

	(void)snprintf(cmd, sizeof(cmd), "ip %s >/dev/null 2>&1", args);
	return system(cmd) == 0;
}

static void test_namespaces_and_pairs(void **state)
{
	struct own *before = open_shared(), *o;
	struct tuple t = tuple(4, 44000, 3005);
	uint32_t a, b, c, seen[3];

	(void)state;
	own_tunnel(before, 0, &t);
	if (unshare(CLONE_NEWNET) == -1 || !ip("link add va type veth peer name vb") ||
	    !ip("link add vc type veth peer name vd")) {
		own_close(&before);
		skip();
	}
	o = open_shared();
	own_refresh(o, now());
	assert_false(is_tunnel(o, 4, 44000, 3005)); /* of another namespace */
	a = if_nametoindex("va");
	b = if_nametoindex("vb");
	c = if_nametoindex("vc");
	(void)own_replay(o, a);
	own_refresh(o, now());
	assert_true(own_is_replay(o, a) && own_is_replay(o, b) && !own_is_replay(o, c));
	assert_int_equal(own_replays(o, seen, 3), 2);
	assert_true(seen[0] == a && seen[1] == b);
	(void)own_replay(o, c);
	own_refresh(o, now());
	assert_true(!own_is_replay(o, a) && !own_is_replay(o, b) && own_is_replay(o, c));
	(void)own_replay(o, 0);
	own_refresh(o, now());
	assert_false(own_is_replay(o, c));
	(void)own_replay(o, 12345); /* there is none */
	own_refresh(o, now());
	assert_true(own_is_replay(o, 12345));
	own_close(&o);
	own_close(&before);
}

static void test_without(void **state)
{
	struct tuple t = tuple(4, 1, 2);
	struct own *none = NULL;

	(void)state;
	own_tunnel(NULL, 0, &t);
	assert_int_equal(own_replay(NULL, 1), 0);
	assert_int_equal(own_replays(NULL, NULL, 1), 0);
	own_listen(NULL, 0, &t);
	own_beat(NULL, 1);
	own_refresh(NULL, 1);
	assert_false(own_is_tunnel(NULL, &t) || own_is_replay(NULL, 1));
	own_close(&none);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_what_one_says_the_other_knows_at_once, fresh),
		cmocka_unit_test_setup(test_nat, fresh),
		cmocka_unit_test_setup(test_a_dead_one_counts_for_a_while, fresh),
		cmocka_unit_test_setup(test_limits, fresh),
		cmocka_unit_test_setup(test_torn_and_nonsense, fresh),
		cmocka_unit_test_setup(test_files_that_are_not_ours, fresh),
		cmocka_unit_test_setup(test_somebody_holds_the_lock, fresh),
		cmocka_unit_test_setup(test_folder_is_made, fresh),
		cmocka_unit_test_setup(test_readers_see_whole_lines, fresh),
		cmocka_unit_test_setup(test_namespaces_and_pairs, fresh),
		cmocka_unit_test(test_without),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
