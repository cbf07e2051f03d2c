/* SPDX-License-Identifier: Apache-2.0 */
/* Several connections on one thread, each on a stack of its own; what reads and writes for TLS goes on with another one.
 * So calls on many handles are under way at once and end in any order. The second round has early data, for which
 * libssl calls itself. */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <ucontext.h>
#include <unistd.h>

#include "lib/snip.h"

#define N 4
#define STACK 262144
#define EARLY "early data part\n"

static struct routine {
	ucontext_t at;
	SSL *ssl;
	SSL_SESSION *session;
	bool over;
	char stack[STACK];
} routine[N];
static ucontext_t back;
static struct routine *now; /* NULL: none of them */
static const struct snip *me;

static void must(bool ok, const char *what)
{
	if (!ok)
		snip_die(what);
}

static void yield(void)
{
	if (now != NULL)
		swapcontext(&now->at, &back);
}

/* --- the BIO --- */

static int fd_of(BIO *b)
{
	return (int)(intptr_t)BIO_get_data(b);
}

static int read_some(BIO *b, char *buf, int n)
{
	for (;;) {
		ssize_t r = recv(fd_of(b), buf, (size_t)n, now != NULL ? MSG_DONTWAIT : 0);

		if (r >= 0)
			errno = 0; /* whatever others have left there */
		if (r >= 0 || errno != EAGAIN)
			return (int)r;
		yield();
	}
}

static int write_all(BIO *b, const char *buf, int n)
{
	yield();
	errno = 0;
	return (int)send(fd_of(b), buf, (size_t)n, MSG_NOSIGNAL);
}

static long control(BIO *b, int cmd, long num, void *ptr)
{
	(void)num;
	if (cmd != BIO_C_GET_FD)
		return cmd == BIO_CTRL_FLUSH;
	if (ptr != NULL)
		*(int *)ptr = fd_of(b);
	return fd_of(b);
}

static SSL *over(SSL_CTX *ctx, int fd)
{
	static BIO_METHOD *method;
	SSL *ssl = snip_new(me, ctx, fd);
	BIO *b;

	if (method == NULL) {
		method = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK | BIO_TYPE_DESCRIPTOR, "coroutine");
		BIO_meth_set_read(method, read_some);
		BIO_meth_set_write(method, write_all);
		BIO_meth_set_ctrl(method, control);
	}
	b = BIO_new(method);
	BIO_set_init(b, 1);
	BIO_set_data(b, (void *)(intptr_t)fd);
	SSL_set_bio(ssl, b, b);
	return ssl;
}

/* --- the two sides --- */

static void ask(struct routine *r)
{
	char line[32], got[32];
	size_t n;

	for (int i = 0; i < 5 && r->session != NULL; i++) {
		must(i > 0 || SSL_set_session(r->ssl, r->session) == 1, "SSL_set_session");
		must(SSL_write_early_data(r->ssl, EARLY, strlen(EARLY), &n) == 1, "SSL_write_early_data");
		snip_save(r->ssl, true, EARLY, n);
	}
	must(SSL_connect(r->ssl) == 1, "SSL_connect");
	for (int i = 0; i < 20; i++) {
		int len = snprintf(line, sizeof(line), "ask %d %02d\n", (int)(r - routine), i);

		must(snip_write_all(r->ssl, line, (size_t)len) && snip_read_all(r->ssl, got, (size_t)len), "line");
		must(memcmp(line, got, (size_t)len) == 0, "answer");
	}
	r->session = r->session != NULL ? r->session : SSL_get1_session(r->ssl);
}

static void answer(struct routine *r)
{
	char buf[32];
	size_t n;
	int ret;

	while ((ret = SSL_read_early_data(r->ssl, buf, 7, &n)) == SSL_READ_EARLY_DATA_SUCCESS)
		snip_save(r->ssl, false, buf, n);
	must(ret == SSL_READ_EARLY_DATA_FINISH && SSL_accept(r->ssl) == 1, "SSL_accept");
	for (int i = 0; i < 20; i++)
		must(snip_read_all(r->ssl, buf, 9) && snip_write_all(r->ssl, buf, 9), "line");
}

static void run(int i)
{
	(me->listener == -1 ? ask : answer)(&routine[i]);
	routine[i].over = true;
	yield();
}

static void side(struct snip *s)
{
	SSL_CTX *ctx = snip_ctx(s);
	unsigned at = 0;

	me = s;
	snip_counts = snip_results = false;
	SSL_CTX_set_max_early_data(ctx, 16384);
	SSL_CTX_set_options(ctx, SSL_OP_NO_ANTI_REPLAY);
	for (int round = 0; round < 2; round++) {
		for (int i = 0; i < N; i++) {
			struct routine *r = &routine[i];

			r->ssl = over(ctx, snip_tcp(s));
			r->over = false;
			getcontext(&r->at);
			r->at.uc_stack.ss_sp = r->stack;
			r->at.uc_stack.ss_size = STACK;
			makecontext(&r->at, (void (*)(void))run, 1, i);
		}
		for (int left = N; left > 0; at = at * 1103515245 + 12345) {
			now = &routine[(at >> 16) % N];
			if (!now->over) {
				swapcontext(&back, &now->at);
				left -= now->over;
			}
		}
		now = NULL;
		usleep(20000); /* a client's socket is proven while it exists */
		for (int i = 0; i < N; i++)
			snip_end(routine[i].ssl);
	}
	SSL_CTX_free(ctx);
}

int main(int argc, char **argv)
{
	snip_processes = true;
	return snip_run(argc, argv, side, side);
}
