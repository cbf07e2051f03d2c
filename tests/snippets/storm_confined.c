/* SPDX-License-Identifier: Apache-2.0 */
/* Processes that give things up once they are tapped: descriptors, limits, privileges, namespaces, system calls.
 * MODE: descriptors, limits, root, namespaces: each does all of it in children, over and over.
 * bare: tells in its exit code whether descriptors 0 to 2 are still closed.
 * filter [NUMBER]...: talks under a filter that kills at every system call but these; without any, there is no filter:
 * what is called after getppid() can be measured. filter_new: the same, with a handshake under the filter.
 * under [NUMBER]... -- PROGRAM [ARG]...: runs it under such a filter. */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <net/if.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "lib/loop.h"

#define FILES 24
#define NOBODY 65534
#ifndef SECCOMP_RET_KILL_PROCESS
#define SECCOMP_RET_KILL_PROCESS 0x80000000u
#endif
#ifndef CLONE_NEWTIME
#define CLONE_NEWTIME 0x80
#endif

static struct loop old; /* a connection from before */
static uint64_t seed;

static void must(bool ok, const char *what)
{
	if (!ok)
		loop_die(what);
}

/* --- descriptors --- */

static int file[FILES];

static void write_files(void)
{
	char name[] = "/tmp/storm.XXXXXX";

	for (int i = 0; i < FILES; i++) {
		strcpy(name + sizeof(name) - 7, "XXXXXX");
		file[i] = mkostemp(name, O_CLOEXEC);
		must(file[i] != -1 && unlink(name) == 0 && pwrite(file[i], &i, sizeof(i), 0) == sizeof(i), "file");
	}
}

/* Nobody else has written into a file, moved in it, or closed it. */
static void check_files(void)
{
	for (int i = 0; i < FILES; i++) {
		struct stat st;
		int have = -1;

		must(fstat(file[i], &st) == 0 && st.st_size == sizeof(i) && lseek(file[i], 0, SEEK_CUR) == 0 &&
			     pread(file[i], &have, sizeof(have), 0) == sizeof(have) && have == i,
		     "a file has changed");
	}
}

/* Files take the place of all that was open: then TLS again. @from is the lowest number that is closed. */
static void reuse(unsigned from, bool one_by_one)
{
	if (one_by_one)
		closefrom((int)from);
	else
		must(close_range(from, ~0u, 0) == 0, "close_range");
	write_files();
	must(file[0] == (int)from && file[FILES - 1] == (int)from + FILES - 1, "a number is taken");
	for (uint64_t i = 0; i < 5; i++)
		loop_once(i);
	check_files();
}

static void reuse_all(void)
{
	reuse(0, false);
}

static void reuse_most(void)
{
	reuse(3, true);
}

/* As daemon(3): in the background, then everything is closed. */
static void daemonize(void)
{
	pid_t pid = fork();

	must(pid != -1, "fork");
	if (pid == 0) {
		must(setsid() != -1 && chdir("/") == 0, "setsid");
		reuse(0, true);
		_exit(4);
	}
	loop_reap(pid, 4);
}

static void descriptors(void)
{
	loop_in_child(reuse_all);
	loop_in_child(reuse_most);
	loop_in_child(daemonize);
}

/* --- limits --- */

static void limit(int what, rlim_t n)
{
	struct rlimit r = {n, n};

	must(setrlimit((__rlimit_resource_t)what, &r) == 0, "setrlimit");
}

static rlim_t address_space(void)
{
	unsigned long pages = 0;
	FILE *f = fopen("/proc/self/statm", "re");

	must(f != NULL && fscanf(f, "%lu", &pages) == 1, "statm");
	fclose(f);
	return (rlim_t)pages * (rlim_t)getpagesize();
}

static void under_limits(void)
{
	limit(RLIMIT_FSIZE, 0);
	limit(RLIMIT_AS, address_space() + (4 << 20));
	limit(RLIMIT_NPROC, 0);
	limit(RLIMIT_MEMLOCK, 0);
	limit(RLIMIT_STACK, 128 << 10);
	loop_once(seed);
	limit(RLIMIT_NOFILE, 0);
	limit(RLIMIT_AS, 0);
	loop_talk(&old, seed, LOOP_MAX);
}

static void limits(void)
{
	loop_connect(&old);
	loop_in_child(under_limits);
	loop_abandon(&old);
}

/* --- root --- */

static char empty[PATH_MAX];

static void without_root(void)
{
	must(chdir(empty) == 0 && chroot(empty) == 0 && rmdir("/") != 0, "chroot");
	loop_once(seed);
	must(prctl(PR_SET_DUMPABLE, 0) == 0 && setgroups(0, NULL) == 0 && setresgid(NOBODY, NOBODY, NOBODY) == 0 &&
		     setresuid(NOBODY, NOBODY, NOBODY) == 0 && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0,
	     "nobody");
	loop_talk(&old, seed, LOOP_MAX);
	loop_once(seed + 100);
}

static void root(void)
{
	const char *tmp = getenv("TMPDIR");

	snprintf(empty, sizeof(empty), "%s/storm.XXXXXX", tmp != NULL ? tmp : "/tmp");
	must(mkdtemp(empty) != NULL, "mkdtemp");
	loop_connect(&old);
	loop_in_child(without_root);
	loop_abandon(&old);
	must(rmdir(empty) == 0, "rmdir"); /* the child is inside and cannot */
}

/* --- namespaces --- */

static int flags;

static void raise_loopback(void)
{
	struct ifreq r = {.ifr_flags = IFF_UP | IFF_RUNNING};
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	strcpy(r.ifr_name, "lo");
	must(ioctl(fd, SIOCSIFFLAGS, &r) == 0, "lo");
	close(fd);
}

static void first_process(void)
{
	loop_talk(&old, seed, 500);
	loop_once(seed);
}

/* unshare(2) of users and time fails in a process with a second thread. */
static void in_namespace(void)
{
	loop_talk(&old, seed, 1000);
	must(unshare(flags) == 0, "unshare");
	loop_talk(&old, seed + 1, 1000);
	if (flags & CLONE_NEWNET)
		raise_loopback();
	if (flags & CLONE_NEWNS)
		must(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 &&
			     mount("none", "/tmp", "tmpfs", 0, NULL) == 0 &&
			     mount("none", "/run", "tmpfs", 0, NULL) == 0,
		     "mount");
	loop_once(seed);
	if (flags & CLONE_NEWPID)
		loop_in_child(first_process);
}

static void namespaces(void)
{
	static const int kinds[] = {
		CLONE_NEWUSER, CLONE_NEWUSER | CLONE_NEWNET,
		CLONE_NEWNET,  CLONE_NEWNS,
		CLONE_NEWPID,  CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWCGROUP,
		CLONE_NEWTIME, CLONE_NEWUSER | CLONE_NEWNET | CLONE_NEWNS | CLONE_NEWPID,
	};

	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		flags = kinds[i];
		loop_connect(&old);
		loop_in_child(in_namespace);
		loop_abandon(&old);
	}
}

/* --- filter --- */

static void confine(int n, char **number)
{
	struct sock_filter f[300] = {BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr))};
	struct sock_fprog prog = {.filter = f};
	unsigned k = 1;

	must(n < 140, "too many numbers");
	for (int i = 0; i < n; i++) {
		f[k++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)atoi(number[i]), 0, 1);
		f[k++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
	}
	f[k++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS);
	prog.len = (unsigned short)k;
	must(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 && prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog) == 0,
	     "filter");
}

static void filter(int argc, char **argv)
{
	static struct loop other;

	loop_connect(&old);
	loop_prepare(&other); /* its handshake comes later */
	if (argc > 3)
		confine(argc - 3, argv + 3);
	else
		(void)syscall(SYS_getppid);
	(void)poll(NULL, 0, 0); /* on a busy machine the loopback makes us wait: that is no surprise */
	for (uint64_t i = 0; i < 200; i++)
		loop_talk(&old, i, 1 + i * 20);
	loop_end(&old);
	(void)!write(STDOUT_FILENO, "confined\n", 9);
	if (strcmp(argv[1], "filter_new") == 0) {
		must(loop_handshake(&other), "handshake");
		loop_talk(&other, 1, 1000);
		loop_end(&other);
	}
}

static void run_under(int argc, char **argv)
{
	int n = 3;

	while (n < argc && strcmp(argv[n], "--") != 0)
		n++;
	must(n + 1 < argc, "no program");
	confine(n - 3, argv + 3);
	execv(argv[n + 1], argv + n + 1);
	loop_die("exec");
}

/* --- the program --- */

static int bare(void)
{
	bool closed = true;

	for (int fd = 0; fd < 3; fd++)
		closed &= fcntl(fd, F_GETFD) == -1;
	loop_once(1);
	for (int fd = 0; fd < 3; fd++)
		closed &= fcntl(fd, F_GETFD) == -1;
	return closed ? 7 : 1;
}

int main(int argc, char **argv)
{
	static const struct {
		const char *name;
		void (*round)(void);
	} modes[] = {{"descriptors", descriptors}, {"limits", limits}, {"root", root}, {"namespaces", namespaces}};
	void (*round)(void) = NULL;
	const char *mode;

	mode = loop_begin(argc, argv);
	if (strcmp(mode, "bare") == 0)
		return bare();
	if (strcmp(mode, "under") == 0)
		run_under(argc, argv);
	if (strncmp(mode, "filter", 6) == 0) {
		filter(argc, argv);
		return 0;
	}
	for (size_t i = 0; i < sizeof(modes) / sizeof(modes[0]); i++)
		if (strcmp(mode, modes[i].name) == 0)
			round = modes[i].round;
	loop_once(0); /* attached, before the first child */
	while (round != NULL && !loop_over) {
		round();
		seed++;
	}
	printf("%s: done without\n", mode);
	return 0;
}
