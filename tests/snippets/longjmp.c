/* SPDX-License-Identifier: Apache-2.0 */
/* longjmp out of a callback inside SSL_read and SSL_write, then go on with the same handle and another one,
 * on the same thread. ARGs: rounds (50) */
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>

#include "lib/snip.h"

#define SIZE 3000

static jmp_buf env;
static int armed; /* which BIO operation jumps: BIO_CB_READ, BIO_CB_WRITE; 0 none */
static int jumps;

static long on_bio(BIO *b, int oper, const char *argp, size_t len, int argi, long argl, int ret, size_t *done)
{
	(void)b, (void)argp, (void)len, (void)argi, (void)argl, (void)done;
	if (armed != 0 && oper == armed) { /* before anything was read or written */
		armed = 0;
		jumps++;
		longjmp(env, 1);
	}
	return ret;
}

static void server(struct snip *s)
{
	long rounds = snip_arg(s, 0, 50);
	SSL_CTX *ctx = snip_ctx(s);
	SSL *a = snip_ssl(s, ctx, snip_tcp(s)), *b = snip_ssl(s, ctx, snip_tcp(s));
	uint8_t *t = snip_bytes(9, SIZE);

	for (long i = 0; i < rounds; i++) {
		if (!snip_expect(a, 2 * (uint64_t)i, SIZE) || !snip_write_all(a, t, SIZE) ||
		    !snip_expect(b, 2 * (uint64_t)i + 1, SIZE) || !snip_write_all(b, t, SIZE))
			snip_die("exchange");
	}
	snip_end(a);
	snip_end(b);
	SSL_CTX_free(ctx);
	free(t);
}

static void client(struct snip *s)
{
	long rounds = snip_arg(s, 0, 50);
	SSL_CTX *ctx = snip_ctx(s);
	SSL *a = snip_ssl(s, ctx, snip_tcp(s)), *b = snip_ssl(s, ctx, snip_tcp(s));

	BIO_set_callback_ex(SSL_get_rbio(a), on_bio);
	for (volatile long i = 0; i < rounds; i++) {
		uint8_t *volatile t = snip_bytes(2 * (uint64_t)i, SIZE), *volatile u =
										 snip_bytes(2 * (uint64_t)i + 1, SIZE);
		char c;

		armed = BIO_CB_WRITE;
		if (setjmp(env) == 0)
			(void)SSL_write(a, t, SIZE); /* never returns; the record waits in the library */
		if (!snip_write_all(a, t, SIZE))
			snip_die("a: SSL_write");
		if (!snip_write_all(b, u, SIZE))
			snip_die("b: SSL_write");
		armed = BIO_CB_READ;
		if (setjmp(env) == 0)
			(void)SSL_read(a, &c, 1); /* likewise */
		if (!snip_expect(a, 9, SIZE) || !snip_expect(b, 9, SIZE))
			snip_die("differs");
		free(t);
		free(u);
	}
	snip_say(s, "%d jumps", jumps);
	snip_end(a);
	snip_end(b);
	SSL_CTX_free(ctx);
}

int main(int argc, char **argv)
{
	return snip_run(argc, argv, server, client);
}
