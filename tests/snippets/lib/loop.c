/* SPDX-License-Identifier: Apache-2.0 */
/* Both ends of a connection, in one thread, over TCP. */
#include "loop.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include <openssl/err.h>
#include <openssl/x509.h>

#define HANGS_S 60

volatile bool loop_over;
static _Atomic uint64_t own_count;
static _Atomic uint64_t *reported = &own_count;
static _Atomic uint32_t port_number;

void loop_die(const char *what)
{
	fprintf(stderr, "%s: errno %d\n", what, errno);
	ERR_print_errors_fp(stderr);
	_exit(9);
}

static EVP_PKEY *key; /* made once: it takes longer than all the rest */
static X509 *cert;

static void make_certificate(void)
{
	key = EVP_EC_gen("P-256");
	cert = X509_new();
	X509_gmtime_adj(X509_getm_notBefore(cert), -3600);
	X509_gmtime_adj(X509_getm_notAfter(cert), 86400);
	X509_set_pubkey(cert, key);
	if (X509_sign(cert, key, EVP_sha256()) == 0)
		loop_die("certificate");
}

/* Another destination each time: there are not so many ports, and the kernel keeps them for a minute. */
static void dial(int fd[2])
{
	uint32_t n = atomic_fetch_add(&port_number, 1) + (uint32_t)getpid() * 977u;
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(0x7f010001u + n % 0xfe0000u)};
	socklen_t len = sizeof(a);
	int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1;

	if (bind(listener, (void *)&a, len) == -1 || listen(listener, 1) == -1 ||
	    getsockname(listener, (void *)&a, &len) == -1)
		loop_die("listen");
	fd[0] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (connect(fd[0], (void *)&a, len) == -1)
		loop_die("connect");
	fd[1] = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	if (fd[1] == -1)
		loop_die("accept");
	close(listener);
	for (int i = 0; i < 2; i++) {
		(void)setsockopt(fd[i], IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
		if (fcntl(fd[i], F_SETFL, O_NONBLOCK) == -1)
			loop_die("fcntl");
	}
}

void loop_prepare(struct loop *l)
{
	dial(l->fd);
	for (int i = 0; i < 2; i++) {
		l->ctx[i] = SSL_CTX_new(i == 0 ? TLS_client_method() : TLS_server_method());
		if (i == 1 &&
		    (SSL_CTX_use_certificate(l->ctx[1], cert) != 1 || SSL_CTX_use_PrivateKey(l->ctx[1], key) != 1))
			loop_die("context");
		l->ssl[i] = SSL_new(l->ctx[i]);
		if (l->ssl[i] == NULL || SSL_set_fd(l->ssl[i], l->fd[i]) != 1)
			loop_die("SSL_new");
	}
	SSL_set_connect_state(l->ssl[0]);
	SSL_set_accept_state(l->ssl[1]);
}

static void patience(const struct loop *l, int i)
{
	struct pollfd p = {.fd = l->fd[i], .events = POLLIN};

	(void)poll(&p, 1, 10);
}

bool loop_handshake(struct loop *l)
{
	for (int k = 0; k < 100000; k++) {
		int i = k % 2, r;

		if (SSL_is_init_finished(l->ssl[0]) && SSL_is_init_finished(l->ssl[1]))
			return true;
		ERR_clear_error();
		r = SSL_do_handshake(l->ssl[i]);
		if (r == 1)
			continue;
		if (SSL_get_error(l->ssl[i], r) != SSL_ERROR_WANT_READ)
			return false;
		if (k > 8)
			patience(l, i);
	}
	return false;
}

void loop_connect(struct loop *l)
{
	loop_prepare(l);
	if (!loop_handshake(l))
		loop_die("handshake");
	loop_talk(l, 0, 64); /* the tickets, too, are read now */
}

static void fill(uint8_t *b, uint64_t seed, size_t n)
{
	uint64_t x = (seed + 1) * 0x9e3779b97f4a7c15u;

	for (size_t i = 0; i < n; i++) {
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		b[i] = (uint8_t)x;
	}
}

static void one_way(struct loop *l, int from, uint64_t seed, size_t n)
{
	size_t got = 0;
	int r;

	fill(l->out, seed, n);
	r = SSL_write(l->ssl[from], l->out, (int)n);
	if (r != (int)n)
		loop_die("SSL_write");
	atomic_fetch_add(reported, n);
	for (int k = 0; got < n; k++) {
		r = SSL_read(l->ssl[!from], l->in + got, (int)(n - got));
		if (r > 0) {
			got += (size_t)r;
			atomic_fetch_add(reported, (uint64_t)r);
			continue;
		}
		if (SSL_get_error(l->ssl[!from], r) != SSL_ERROR_WANT_READ || k > 6000)
			loop_die("SSL_read");
		patience(l, !from);
	}
	if (memcmp(l->in, l->out, n) != 0)
		loop_die("what was read is not what was written");
}

void loop_talk(struct loop *l, uint64_t seed, size_t n)
{
	one_way(l, 0, seed * 2, n);
	one_way(l, 1, seed * 2 + 1, n);
}

static void let_go(struct loop *l)
{
	for (int i = 0; i < 2; i++) {
		SSL_free(l->ssl[i]);
		SSL_CTX_free(l->ctx[i]);
		close(l->fd[i]);
	}
}

void loop_end(struct loop *l)
{
	for (int i = 0; i < 2; i++)
		(void)SSL_shutdown(l->ssl[i]);
	ERR_clear_error();
	let_go(l);
}

void loop_abandon(struct loop *l)
{
	for (int i = 0; i < 2; i++)
		SSL_set_quiet_shutdown(l->ssl[i], 1);
	let_go(l);
}

void loop_once(uint64_t seed)
{
	struct loop l;

	loop_connect(&l);
	for (uint64_t i = 1; i <= 3; i++)
		loop_talk(&l, seed + i, 1000 * i);
	loop_end(&l);
}

/* --- the program --- */

static void *watch(void *arg)
{
	long ms = *(long *)arg;
	struct timespec end;

	clock_gettime(CLOCK_MONOTONIC, &end);
	end.tv_nsec += ms % 1000 * 1000000;
	end.tv_sec += ms / 1000 + end.tv_nsec / 1000000000;
	end.tv_nsec %= 1000000000;
	while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &end, NULL) == EINTR)
		;
	loop_over = true;
	return NULL;
}

/* No descriptor is kept, and no system call is needed to count. */
static void share_count(const char *path)
{
	int fd = open(path, O_RDWR | O_CLOEXEC);
	void *p = mmap(NULL, sizeof(*reported), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	if (p == MAP_FAILED)
		loop_die(path);
	close(fd);
	reported = p;
}

const char *loop_begin(int argc, char **argv)
{
	static long ms;
	const char *count = getenv("STORM_COUNT");
	sigset_t all, old;
	pthread_t t;

	if (argc < 3) {
		fprintf(stderr, "usage: %s MODE SECONDS [ARG]...\n", argv[0]);
		exit(2);
	}
	signal(SIGPIPE, SIG_IGN);
	(void)poll(NULL, 0, 0); /* who measures what system calls there are finds this one in any case */
	if (count != NULL)
		share_count(count);
	make_certificate();
	ms = (long)(strtod(argv[2], NULL) * 1000);
	if (ms > 0) {
		sigfillset(&all);
		pthread_sigmask(SIG_SETMASK, &all, &old);
		if (pthread_create(&t, NULL, watch, &ms) != 0 || pthread_detach(t) != 0)
			loop_die("thread");
		pthread_sigmask(SIG_SETMASK, &old, NULL);
	}
	return argv[1];
}

void loop_child(void)
{
	const char *patience_s = getenv("STORM_PATIENCE");

	alarm(patience_s != NULL ? (unsigned)atoi(patience_s) : HANGS_S);
}

void loop_reap(int pid, int code)
{
	int status = 0;

	while (waitpid(pid, &status, 0) != pid)
		if (errno != EINTR)
			loop_die("waitpid");
	if (!WIFEXITED(status) || WEXITSTATUS(status) != code) {
		fprintf(stderr, "a child ended with status %#x\n", (unsigned)status);
		_exit(9);
	}
}

void loop_in_child(void (*f)(void))
{
	pid_t pid = fork();

	if (pid == -1)
		loop_die("fork");
	if (pid == 0) {
		loop_child();
		f();
		_exit(0);
	}
	loop_reap(pid, 0);
}
