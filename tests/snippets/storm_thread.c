/* SPDX-License-Identifier: Apache-2.0 */
/* Calls that are interrupted, or left without returning.
 * MODE: cancel (deferred), async (asynchronous), profile (SIGPROF 10,000 times a second, whose handler speaks TLS, on a
 * small stack of its own), jump (longjmp out of the callbacks of a handshake, of SSL_write, SSL_read, SSL_shutdown),
 * alarm (siglongjmp out of a signal handler) */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <sys/auxv.h>
#include <sys/syscall.h>

#include <openssl/crypto.h>
#include <openssl/err.h>

#include "lib/loop.h"

#ifndef AT_MINSIGSTKSZ
#define AT_MINSIGSTKSZ 51
#endif
#define PROFILED 2 /* threads */
#define INTERVAL_NS 100000
#define STACK 16384 /* and what the kernel itself stores there */
#define BATCH 20

static volatile bool never;

/* --- malloc --- */

/* The TLS library allocates even to write, and malloc must neither be entered twice by one thread nor be left in the
 * middle: so there no signal handler does anything, and nobody is cancelled. */
static __thread volatile bool allocating;

static int enter_malloc(void)
{
	int old;

	(void)pthread_setcanceltype(PTHREAD_CANCEL_DEFERRED, &old);
	allocating = true;
	return old;
}

static void leave_malloc(int old)
{
	allocating = false;
	(void)pthread_setcanceltype(old, &old);
}

static void *allocate(size_t n, const char *file, int line)
{
	int old = enter_malloc();
	void *p = malloc(n);

	(void)file, (void)line;
	leave_malloc(old);
	return p;
}

static void *reallocate(void *p, size_t n, const char *file, int line)
{
	int old = enter_malloc();

	(void)file, (void)line;
	p = realloc(p, n);
	leave_malloc(old);
	return p;
}

static void release(void *p, const char *file, int line)
{
	int old = enter_malloc();

	(void)file, (void)line;
	free(p);
	leave_malloc(old);
}

/* --- cancellation --- */

static void *talk_for_ever(void *arg)
{
	struct loop *l = arg;

	for (uint64_t i = 0;; i++) {
		loop_talk(l, i, 1 + i % LOOP_MAX);
		pthread_testcancel();
	}
	return NULL;
}

/* Only while it is inside a TLS call: all else would be the program's own fault. */
static void *write_for_ever(void *arg)
{
	struct loop *l = arg;
	char c[100] = "";
	int old;

	/* a thread's first call of libcrypto makes it known there, under a lock that every thread takes at its end */
	ERR_clear_error();
	for (;;) {
		(void)pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, &old);
		(void)SSL_write(l->ssl[0], c, sizeof(c));
		(void)SSL_read(l->ssl[1], c, sizeof(c));
		(void)pthread_setcanceltype(old, &old);
		pthread_testcancel();
	}
	return NULL;
}

static void cancel_some(void *(*f)(void *), bool tidy)
{
	for (unsigned i = 0; i < BATCH; i++) {
		struct loop *l = malloc(sizeof(*l));
		pthread_t t;
		void *r;

		loop_connect(l);
		if (pthread_create(&t, NULL, f, l) != 0)
			loop_die("thread");
		usleep(100 + i * 77 % 500);
		pthread_cancel(t);
		if (pthread_join(t, &r) != 0 || r != PTHREAD_CANCELED)
			loop_die("not cancelled");
		if (tidy) /* else whatever the handle was doing, it is left as it is */
			loop_abandon(l);
		loop_once(i);
	}
}

static void cancel_deferred(void)
{
	cancel_some(talk_for_ever, true);
}

static void cancel_at_once(void)
{
	cancel_some(write_for_ever, false);
}

/* --- SIGPROF --- */

static __thread struct loop *handlers; /* its own connection */
static __thread bool inside;
static _Atomic uint64_t ticks;

static void on_tick(int sig)
{
	int err = errno;

	(void)sig;
	if (handlers != NULL && !inside && !allocating) {
		inside = true;
		loop_talk(handlers, atomic_fetch_add(&ticks, 1), 200);
		inside = false;
	}
	errno = err;
}

static void set_timer(timer_t *t, bool on)
{
	struct itimerspec s = {.it_interval.tv_nsec = on ? INTERVAL_NS : 0, .it_value.tv_nsec = on ? INTERVAL_NS : 0};

	if (timer_settime(*t, 0, &s, NULL) != 0)
		loop_die("timer");
}

static void *profiled(void *arg)
{
	struct sigevent ev = {.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = SIGPROF};
	size_t size = STACK + getauxval(AT_MINSIGSTKSZ);
	stack_t stack = {.ss_size = size, .ss_sp = malloc(size)};
	struct loop *mine = malloc(sizeof(*mine));
	timer_t t;

	ev._sigev_un._tid = (pid_t)syscall(SYS_gettid);
	if (sigaltstack(&stack, NULL) != 0 || timer_create(CLOCK_MONOTONIC, &ev, &t) != 0)
		loop_die("timer");
	loop_connect(mine);
	for (unsigned i = 0; i < 10; i++)
		loop_talk(mine, i, 200);
	handlers = mine;
	set_timer(&t, true);
	for (uint64_t i = (uintptr_t)arg << 32; !loop_over; i += 10)
		loop_once(i);
	set_timer(&t, false);
	handlers = NULL;
	loop_end(mine);
	timer_delete(t);
	free(mine);
	stack.ss_flags = SS_DISABLE;
	(void)sigaltstack(&stack, NULL);
	return NULL;
}

static void profile(void)
{
	struct sigaction a = {.sa_handler = on_tick, .sa_flags = SA_RESTART | SA_ONSTACK};
	pthread_t t[PROFILED];

	sigaction(SIGPROF, &a, NULL);
	for (uintptr_t i = 0; i < PROFILED; i++)
		if (pthread_create(&t[i], NULL, profiled, (void *)(i + 1)) != 0)
			loop_die("thread");
	for (unsigned i = 0; i < PROFILED; i++)
		pthread_join(t[i], NULL);
	if (ticks < 20)
		loop_die("hardly any tick");
}

/* --- longjmp --- */

static jmp_buf back;
static int countdown; /* the callback that reaches 0 jumps */

static void maybe_jump(void)
{
	if (countdown > 0 && --countdown == 0)
		longjmp(back, 1);
}

static void on_info(const SSL *ssl, int where, int ret)
{
	(void)ssl, (void)where, (void)ret;
	maybe_jump();
}

static void on_message(int write_p, int version, int type, const void *buf, size_t len, SSL *ssl, void *arg)
{
	(void)write_p, (void)version, (void)type, (void)buf, (void)len, (void)ssl, (void)arg;
	maybe_jump();
}

static int on_verify(int ok, X509_STORE_CTX *store)
{
	(void)ok, (void)store;
	maybe_jump();
	return 1;
}

/* Out of the handshake, at its @n-th callback; then there is another connection. */
static void jump_out_of_handshake(int n, int callback)
{
	struct loop *volatile l = malloc(sizeof(*l));

	loop_prepare(l);
	for (int i = 0; i < 2; i++) {
		if (callback == 0)
			SSL_set_info_callback(l->ssl[i], on_info);
		else if (callback == 1)
			SSL_set_msg_callback(l->ssl[i], on_message);
		else
			SSL_set_verify(l->ssl[i], SSL_VERIFY_PEER, on_verify);
	}
	if (setjmp(back) == 0) {
		countdown = n;
		if (!loop_handshake(l))
			loop_die("handshake");
		countdown = 0;
	}
	loop_once((uint64_t)n); /* the handle that was left is still there */
	loop_abandon(l);
	free(l);
}

/* Out of a call on an open connection. */
static void jump_out_of_call(int n)
{
	struct loop *volatile l = malloc(sizeof(*l));
	char c[100] = "";

	loop_connect(l);
	for (int i = 0; i < 2; i++)
		SSL_set_msg_callback(l->ssl[i], on_message);
	if (setjmp(back) == 0) {
		countdown = 1 + n / 3;
		if (n % 3 == 0)
			(void)SSL_write(l->ssl[0], c, sizeof(c));
		else if (n % 3 == 1)
			(void)SSL_read(l->ssl[0], c, sizeof(c));
		else
			(void)SSL_shutdown(l->ssl[0]);
		countdown = 0;
	}
	countdown = 0;
	loop_once((uint64_t)n);
	loop_abandon(l);
	free(l);
}

static void jumps(void)
{
	for (int n = 1; n <= 12; n++)
		jump_out_of_handshake(n, n % 2);
	jump_out_of_handshake(1, 2);
	for (int n = 0; n < 6; n++)
		jump_out_of_call(n);
}

/* --- siglongjmp out of a handler: how old programs limit the time of a call --- */

static sigjmp_buf out;
static volatile sig_atomic_t armed;
static timer_t timer;

static void on_alarm(int sig)
{
	static const struct itimerspec soon = {.it_value.tv_nsec = 20000};

	(void)sig;
	if (armed && allocating) {
		(void)timer_settime(timer, 0, &soon, NULL);
	} else if (armed) {
		armed = 0;
		siglongjmp(out, 1);
	}
}

static void alarms(void)
{
	struct sigaction a = {.sa_handler = on_alarm};
	struct sigevent ev = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1};
	struct loop *volatile l = NULL;
	struct itimerspec s = {.it_value.tv_nsec = 0};
	char c[1000] = "";

	sigaction(SIGUSR1, &a, NULL);
	if (timer_create(CLOCK_MONOTONIC, &ev, &timer) != 0)
		loop_die("timer");
	for (volatile unsigned i = 0; i < BATCH; i++) {
		l = malloc(sizeof(*l));
		loop_connect(l);
		if (sigsetjmp(out, 1) == 0) {
			s.it_value.tv_nsec = 100000 + i * 37000;
			armed = 1;
			(void)timer_settime(timer, 0, &s, NULL);
			while (!never) {
				(void)SSL_write(l->ssl[0], c, sizeof(c));
				(void)SSL_read(l->ssl[1], c, sizeof(c));
			}
		}
		loop_once(i); /* the interrupted one is left as it is */
	}
	timer_delete(timer);
}

int main(int argc, char **argv)
{
	static const struct {
		const char *name;
		void (*batch)(void);
	} modes[] = {{"cancel", cancel_deferred}, {"async", cancel_at_once}, {"jump", jumps}, {"alarm", alarms}};
	void (*batch)(void) = NULL;
	const char *mode;

	if (CRYPTO_set_mem_functions(allocate, reallocate, release) != 1)
		loop_die("memory functions");
	mode = loop_begin(argc, argv);
	for (size_t i = 0; i < sizeof(modes) / sizeof(modes[0]); i++)
		if (strcmp(mode, modes[i].name) == 0)
			batch = modes[i].batch;
	/* in children, for what is left by a call that never returned is never freed */
	if (batch != NULL) {
		loop_once(0); /* attached, before the first child */
		while (!loop_over)
			loop_in_child(batch);
	} else {
		profile();
	}
	printf("%s: went on as if nothing had been\n", mode);
	return 0;
}
