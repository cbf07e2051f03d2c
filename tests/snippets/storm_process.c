/* SPDX-License-Identifier: Apache-2.0 */
/* Processes made by the thousand from among threads that speak TLS.
 * MODE: fork, clone (the raw system call: no handler of fork runs), spawn (posix_spawn, vfork, system, popen), once
 * (one connection; what spawn starts) */
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <pthread.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "lib/loop.h"

#define THREADS 3
#define GENERATIONS 3
#define MARK 5

extern char **environ;
static bool raw;

static void *speak(void *arg)
{
	for (uint64_t i = (uintptr_t)arg << 32; !loop_over; i += 10)
		loop_once(i);
	return NULL;
}

/* --- fork, clone --- */

static pid_t make_child(void)
{
	return raw ? (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0) : fork();
}

/* The child goes on with its parent's connection, and so does its own child. It makes none: another thread may have
 * held a lock of the TLS library when it was forked. */
static void descend(struct loop *l, uint64_t seed, unsigned generations)
{
	pid_t pid = make_child();

	if (pid == -1)
		loop_die("no child");
	if (pid == 0) {
		loop_child();
		loop_talk(l, seed, 3000);
		if (generations > 1)
			descend(l, seed + 1, generations - 1);
		_exit(MARK);
	}
	loop_reap(pid, MARK);
}

static void forks(void)
{
	static struct loop l;

	for (uint64_t i = 0; !loop_over; i++) {
		loop_connect(&l);
		loop_talk(&l, i, 500);
		descend(&l, i + 1, i % 8 == 0 ? GENERATIONS : 1);
		loop_abandon(&l); /* its numbers went on in the child */
	}
}

/* --- spawn --- */

static void spawn(const char *self)
{
	char *argv[] = {(char *)self, "once", "0", NULL};
	posix_spawn_file_actions_t quiet;
	posix_spawnattr_t a;
	pid_t pid;

	posix_spawnattr_init(&a);
	(void)posix_spawnattr_setflags(&a, POSIX_SPAWN_SETSIGMASK);
	posix_spawn_file_actions_init(&quiet);
	(void)posix_spawn_file_actions_addopen(&quiet, STDOUT_FILENO, "/dev/null", O_WRONLY, 0);
	if (posix_spawn(&pid, self, &quiet, &a, argv, environ) != 0)
		loop_die("posix_spawn");
	loop_reap(pid, 0);
	posix_spawnattr_destroy(&a);
	posix_spawn_file_actions_destroy(&quiet);
}

static void spawn_by_vfork(void)
{
	pid_t pid = vfork();

	if (pid == 0) {
		execl("/bin/sh", "sh", "-c", "exit 6", (char *)NULL);
		_exit(1);
	}
	loop_reap(pid, 6);
	pid = vfork();
	if (pid == 0)
		_exit(8);
	loop_reap(pid, 8);
}

static void spawns(void)
{
	char self[512], line[64];
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
	FILE *p;
	int status;

	if (n == -1)
		loop_die("readlink");
	self[n] = '\0';
	for (uint64_t i = 0; !loop_over; i++) {
		spawn(self);
		spawn_by_vfork();
		status = system("exit 3");
		if (!WIFEXITED(status) || WEXITSTATUS(status) != 3)
			loop_die("system");
		p = popen("echo said", "re");
		if (p == NULL || fgets(line, sizeof(line), p) == NULL || strcmp(line, "said\n") != 0 || pclose(p) != 0)
			loop_die("popen");
		loop_once(i);
	}
}

int main(int argc, char **argv)
{
	const char *mode = loop_begin(argc, argv);
	pthread_t t[THREADS];

	raw = strcmp(mode, "clone") == 0;
	if (strcmp(mode, "once") == 0) {
		loop_once(1);
		printf("once\n");
		return 0;
	}
	for (uintptr_t i = 0; i < THREADS; i++)
		if (pthread_create(&t[i], NULL, speak, (void *)(i + 1)) != 0)
			loop_die("thread");
	if (strcmp(mode, "spawn") == 0)
		spawns();
	else
		forks();
	for (unsigned i = 0; i < THREADS; i++)
		pthread_join(t[i], NULL);
	printf("%s: all children ended as they should, all that was said was heard\n", mode);
	return 0;
}
