/* SPDX-License-Identifier: Apache-2.0 */
/* TLS by SSL BIOs: never SSL_read() nor SSL_write(). Lines and blocks go both ways.
 * ARGs: plain | ex | buffer (BIO_f_buffer above) | below (BIO_f_buffer between it and the socket) | implicit (handshake) |
 * nested (a second TLS session through the first one's BIO) | mixed (the client also calls SSL_write() and SSL_read()) |
 * watched (a callback hears what is asked of the socket's BIO) | bytes (it renegotiates by itself after so many) |
 * popped (the filter above goes, and another one comes) | swapped (the BIO is given another SSL, of another connection) |
 * reset (and connected again) */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/snip.h"

#define LINES 50
#define BLOCK 40000

static _Thread_local struct snip *me;
static _Thread_local SSL *ssl; /* whose BIO it is */
static _Thread_local bool ex;
static _Thread_local long heard[16]; /* calls of the callback of "watched", by what was done */

static void must(bool ok, const char *what)
{
	if (!ok)
		snip_die(what);
}

static void say(BIO *b, const void *buf, size_t n)
{
	size_t got = 0;

	if (ex)
		must(BIO_write_ex(b, buf, n, n % 2 ? &got : NULL) == 1 && (n % 2 == 0 || got == n), "BIO_write_ex");
	else if (n % 3 == 0 && memchr(buf, '\0', n + 1) == (const char *)buf + n)
		must(BIO_puts(b, buf) == (int)n, "BIO_puts");
	else
		must(BIO_write(b, buf, (int)n) == (int)n, "BIO_write");
	snip_save(ssl, true, buf, n);
}

static void hear(BIO *b, void *buf, size_t n)
{
	uint8_t *p = buf;

	for (size_t in = 0, got = 0; in < n; in += got) {
		if (ex) {
			must(BIO_read_ex(b, p + in, n - in, &got) == 1, "BIO_read_ex");
		} else {
			int r = BIO_read(b, p + in, (int)(n - in));

			must(r > 0, "BIO_read");
			got = (size_t)r;
		}
	}
	snip_save(ssl, false, buf, n);
}

/* Lines of many lengths, as who asks and answers. */
static void lines(BIO *b, bool ask, bool gets)
{
	char line[512], want[512];

	for (int i = 0; i < LINES; i++) {
		for (int half = 0; half < 2; half++) {
			bool mine = ask == (half == 0);
			int n = snprintf(want, sizeof(want), "%s %d %*d\n", half ? "answer" : "ask", i, i * 7 + 1, i);

			if (mine) {
				if (gets && i % 5 == 0) {
					must(BIO_printf(b, "%s", want) == n, "BIO_printf");
					snip_save(ssl, true, want, (size_t)n);
				} else {
					say(b, want, (size_t)n);
				}
				must(BIO_flush(b) == 1, "BIO_flush");
			} else if (gets) {
				must(BIO_gets(b, line, sizeof(line)) == n, "BIO_gets");
				must(strcmp(line, want) == 0, line);
				snip_save(ssl, false, line, (size_t)n);
			} else {
				hear(b, line, (size_t)n);
				must(memcmp(line, want, (size_t)n) == 0, "line");
			}
		}
	}
}

static void blocks(BIO *b, bool ask)
{
	uint8_t *tx = snip_bytes(ask, BLOCK), *want = snip_bytes(!ask, BLOCK), *rx = malloc(BLOCK);

	for (int half = 0; half < 2; half++) {
		if (ask == (half == 0)) {
			say(b, tx, BLOCK);
			must(BIO_flush(b) == 1, "BIO_flush");
		} else {
			hear(b, rx, BLOCK);
			must(memcmp(rx, want, BLOCK) == 0, "block");
		}
	}
	free(tx);
	free(want);
	free(rx);
}

/* An SSL BIO over @below. */
static BIO *over(SSL_CTX *ctx, BIO *below)
{
	BIO *b = BIO_new_ssl(ctx, me->listener == -1);

	must(b != NULL && BIO_get_ssl(b, &ssl) == 1, "BIO_new_ssl");
	snip_again(me, ssl);
	return BIO_push(b, below);
}

static void mixed(BIO *b, bool ask)
{
	char buf[64];

	if (!ask) {
		hear(b, buf, 10);
		say(b, "0123456789", 10);
		return;
	}
	must(snip_write_all(ssl, "abcdefghij", 10) && snip_read_all(ssl, buf, 4), "mixed");
	hear(b, buf, 6);
}

static long hear_of(BIO *b, int oper, const char *argp, size_t len, int argi, long argl, int ret, size_t *processed)
{
	(void)b, (void)argp, (void)len, (void)argi, (void)argl, (void)processed;
	heard[oper & 15]++;
	return ret;
}

static void renegotiate(SSL_CTX *ctx, BIO *b, bool ask)
{
	SSL_CTX_set_options(ctx, SSL_OP_ALLOW_CLIENT_RENEGOTIATION);
	SSL_set_options(ssl, SSL_OP_ALLOW_CLIENT_RENEGOTIATION);
	SSL_set_max_proto_version(ssl, TLS1_2_VERSION);
	if (ask)
		BIO_set_ssl_renegotiate_bytes(b, 512);
}

/* One filter goes, another one comes. */
static BIO *change_filter(BIO *b, bool ask)
{
	BIO *below = BIO_next(b);

	must(BIO_pop(b) == below && BIO_free(b) == 1, "BIO_pop");
	lines(below, ask, false);
	b = BIO_push(BIO_new(BIO_f_buffer()), below);
	lines(b, ask, true);
	return b;
}

/* The same BIO for another connection. */
static void change_ssl(SSL_CTX *ctx, BIO *b, bool ask)
{
	SSL *old = ssl, *other = SSL_new(ctx);

	usleep(20000); /* a client's socket is proven while it exists */
	must(SSL_set_fd(other, snip_tcp(me)) == 1, "SSL_set_fd");
	(ask ? SSL_set_connect_state : SSL_set_accept_state)(other);
	must(SSL_up_ref(old) == 1 && BIO_set_ssl(b, other, BIO_CLOSE) == 1, "BIO_set_ssl");
	ssl = other;
	snip_again(me, ssl);
	lines(b, ask, false);
	snip_close(SSL_get_fd(old));
	SSL_free(old);
}

/* The same SSL, too: the BIO below closes one socket and opens another. */
static void again(BIO *b, bool ask)
{
	usleep(20000);
	if (ask) {
		(void)BIO_reset(b); /* says 0 for a socket */
	} else {
		char c;

		must(BIO_read(b, &c, 1) <= 0, "end");
		(void)BIO_reset(b);
		BIO_free(BIO_pop(b));
		BIO_push(b, BIO_new_socket(snip_tcp(me), BIO_CLOSE));
	}
	snip_again(me, ssl);
	lines(b, ask, false);
}

static BIO *bottom(const char *how)
{
	char where[64];
	BIO *b;

	if (strcmp(how, "reset") != 0 || me->listener != -1) {
		b = BIO_new_socket(snip_tcp(me), BIO_CLOSE);
	} else {
		snip_close(snip_tcp(me)); /* is it there? */
		snprintf(where, sizeof(where), "%s:%d", me->addr, me->port);
		b = BIO_new_connect(where);
	}
	if (strcmp(how, "watched") == 0)
		BIO_set_callback_ex(b, hear_of);
	return strcmp(how, "below") == 0 ? BIO_push(BIO_new(BIO_f_buffer()), b) : b;
}

static void more(const char *how, SSL_CTX *ctx, BIO **b, bool ask)
{
	if (strcmp(how, "mixed") == 0)
		mixed(*b, ask);
	else if (strcmp(how, "popped") == 0)
		*b = change_filter(*b, ask);
	else if (strcmp(how, "swapped") == 0)
		change_ssl(ctx, *b, ask);
	else if (strcmp(how, "reset") == 0)
		again(*b, ask);
	else if (ask && strcmp(how, "bytes") == 0 && SSL_total_renegotiations(ssl) == 0)
		snip_die("renegotiation");
}

static void side(struct snip *s)
{
	const char *how = s->argc > 0 ? s->argv[0] : "plain";
	bool ask = s->listener == -1, buffer = strcmp(how, "buffer") == 0 || strcmp(how, "popped") == 0;
	SSL_CTX *ctx = snip_ctx(s);
	BIO *b;

	me = s;
	ex = strcmp(how, "ex") == 0;
	if (!ask && strcmp(how, "reset") == 0)
		snip_close(snip_tcp(s));
	b = over(ctx, bottom(how));
	if (strcmp(how, "bytes") == 0)
		renegotiate(ctx, b, ask);
	if (strcmp(how, "nested") == 0) {
		must(BIO_do_handshake(b) == 1, "BIO_do_handshake");
		b = over(ctx, b);
	}
	if (buffer)
		b = BIO_push(BIO_new(BIO_f_buffer()), b);
	if (strcmp(how, "implicit") != 0)
		must(BIO_do_handshake(b) == 1, "BIO_do_handshake");
	lines(b, ask, buffer);
	blocks(b, ask);
	more(how, ctx, &b, ask);
	if (strcmp(how, "watched") == 0)
		snip_say(s, "heard of %ld writes, %ld reads, %ld other things", heard[BIO_CB_WRITE], heard[BIO_CB_READ],
			 heard[BIO_CB_CTRL]);
	usleep(20000); /* a client's socket is proven while it exists */
	BIO_free_all(b);
	SSL_CTX_free(ctx);
}

int main(int argc, char **argv)
{
	return snip_run(argc, argv, side, side);
}
