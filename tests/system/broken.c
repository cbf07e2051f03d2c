/* SPDX-License-Identifier: Apache-2.0 */
/* broken.c - what a careless tap does, one fault per build (-DFAULT=n), to prove that the tests of no harm notice:
 *   LOCK    a mutex is held while the real call runs, and while the tap's own work is done
 *   KEEP    it keeps a descriptor, and writes into whatever has its number
 *   CALL    a system call of its own per call
 *   THREAD  it starts a thread in each process
 *   STACK   it needs a lot of stack
 *   GROW    it maps memory and writes a file while it works
 *   LOAD    it cannot be loaded into programs without a TLS library */
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <sys/mman.h>

enum fault { LOCK, KEEP, CALL, THREAD, STACK, GROW, LOAD };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int kept = -1;

static void *sleep_for_ever(void *arg)
{
	(void)arg;
	for (;;)
		pause();
	return NULL;
}

static void start_thread(void)
{
	static pid_t where;
	pthread_t t;

	if (where != getpid()) {
		where = getpid();
		pthread_create(&t, NULL, sleep_for_ever, NULL);
	}
}

static __attribute__((constructor)) void on_load(void)
{
	if (FAULT == KEEP)
		kept = open("/dev/null", O_WRONLY);
	if (FAULT == LOAD && dlsym(RTLD_DEFAULT, "SSL_new") == NULL)
		_exit(1);
}

static __attribute__((noinline)) void deep(void)
{
	volatile char frame[256 << 10];

	for (size_t i = 0; i < sizeof(frame); i += 512)
		frame[i] = 0;
}

static void grow(void)
{
	char name[] = "/tmp/broken.XXXXXX";
	void *p = mmap(NULL, 64 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int fd = mkostemp(name, O_CLOEXEC);

	if (p == MAP_FAILED || fd == -1)
		abort();
	(void)unlink(name);
	if (write(fd, p, 100) != 100)
		abort();
	close(fd);
	munmap(p, 64 << 20);
}

int SSL_write(void *ssl, const void *buf, int n)
{
	static int (*real)(void *, const void *, int);
	int r;

	if (real == NULL)
		*(void **)&real = dlsym(RTLD_NEXT, "SSL_write");
	if (FAULT == LOCK)
		pthread_mutex_lock(&lock);
	r = real(ssl, buf, n);
	if (FAULT == LOCK)
		pthread_mutex_unlock(&lock);
	if (FAULT == KEEP && r > 0 && write(kept, "x", 1) != 1)
		r = -1;
	if (FAULT == CALL)
		(void)getpgrp();
	if (FAULT == THREAD)
		start_thread();
	if (FAULT == STACK)
		deep();
	if (FAULT == GROW)
		grow();
	return r;
}
