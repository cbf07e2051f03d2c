/* SPDX-License-Identifier: Apache-2.0 */
/* A pseudo-random sequence of TLS calls, sane and silly, between two handles of this process, and a line for each: what
 * it returned, SSL_get_error(), errno, the error queue, a digest of the buffer. Untapped and tapped it prints the same.
 *   differ FIRST_SEED SEEDS CALLS
 * Nothing in it depends on time or on random numbers: sizes of handshakes are always the same, keys do not show. Each seed
 * has a process of its own, and so have calls that may end a program. */
#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include <openssl/err.h>
#include <openssl/ssl.h>

#define BUF 65536
#define ERRNO_BEFORE 77

static uint64_t state;
static SSL_CTX *ctx[2]; /* client, server */
static uint8_t in[BUF], out[BUF];

/* One end. */
static struct end {
	SSL *ssl;
	BIO *bio, *buffered; /* SSL BIO of it; a filter above a second one */
	int fd;		     /* -1: memory */
} end[2];
static BIO *mem, *base64, *own, *empty; /* other BIOs; an SSL BIO without SSL */

static uint32_t rnd(uint32_t n)
{
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return (uint32_t)(state >> 11) % n;
}

static uint32_t digest(const void *p, size_t n)
{
	const uint8_t *b = p;
	uint32_t h = 2166136261u;

	while (n--)
		h = (h ^ *b++) * 16777619u;
	return h;
}

/* --- the log --- */

static void before(void)
{
	ERR_clear_error();
	memset(in, 0xa5, 256);
	errno = ERRNO_BEFORE;
}

static void after(const char *call, const SSL *ssl, long ret, long n, const void *buf)
{
	int err = errno, flags, code = 0;
	const char *data;
	unsigned long e;

	if (ssl && SSL_get_rbio(ssl) && SSL_get_wbio(ssl)) /* else it may end the program */
		code = SSL_get_error(ssl, ret > 0 ? 1 : (int)ret);
	printf("%s = %ld n %ld ssl %d errno %d digest %08x", call, ret, n, code, err,
	       digest(buf, buf != NULL && n > 0 && n <= BUF ? (size_t)n
			   : buf == in			    ? 256
							    : 0));
	while ((e = ERR_get_error_all(NULL, NULL, NULL, &data, &flags)) != 0)
		printf(" queue %lx %s", e, flags & ERR_TXT_STRING ? data : "");
	putchar('\n');
}

/* --- ends --- */

static long own_ctrl(BIO *b, int cmd, long num, void *ptr)
{
	(void)b, (void)num, (void)ptr;
	return cmd == BIO_CTRL_FLUSH;
}

static int own_read(BIO *b, char *buf, int n)
{
	(void)b;
	n = n > 100 ? 100 : n;
	if (n > 0)
		memset(buf, 'o', (size_t)n);
	errno = 5;
	return n;
}

static int own_write(BIO *b, const char *buf, int n)
{
	(void)buf;
	BIO_set_retry_write(b);
	return n > 1000 ? -1 : n;
}

static BIO *own_bio(void)
{
	static BIO_METHOD *m;

	if (m == NULL) {
		m = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "own");
		BIO_meth_set_ctrl(m, own_ctrl);
		BIO_meth_set_read(m, own_read);
		BIO_meth_set_write(m, own_write);
	}
	own = BIO_new(m);
	BIO_set_init(own, 1);
	return own;
}

static void drop(struct end *e)
{
	BIO_free_all(e->buffered);
	BIO_free(e->bio);
	SSL_free(e->ssl);
	if (e->fd != -1)
		close(e->fd);
	*e = (struct end){.fd = -1};
}

/* A fresh transport, of memory or sockets: what is still in an old one was made with other keys. */
static void wire(void)
{
	static const size_t room[] = {700, 5000, 17000, 60000};
	BIO *pair[2];
	int fd[2];

	for (int i = 0; i < 2; i++) {
		if (end[i].fd != -1)
			close(end[i].fd);
		end[i].fd = -1;
	}
	if (rnd(2)) {
		size_t n = room[rnd(4)];

		BIO_new_bio_pair(&pair[0], n, &pair[1], n);
		for (int i = 0; i < 2; i++)
			SSL_set_bio(end[i].ssl, pair[i], pair[i]);
	} else if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fd) == 0) {
		for (int i = 0; i < 2; i++)
			SSL_set_fd(end[i].ssl, end[i].fd = fd[i]);
	}
}

static void connect_ends(void)
{
	drop(&end[0]);
	drop(&end[1]);
	for (int i = 0; i < 2; i++) {
		end[i].ssl = SSL_new(ctx[i]);
		(i ? SSL_set_accept_state : SSL_set_connect_state)(end[i].ssl);
	}
	wire();
	for (int i = 0; i < 2; i++) {
		BIO *b = BIO_new(BIO_f_ssl());

		end[i].bio = BIO_new(BIO_f_ssl());
		BIO_set_ssl(end[i].bio, end[i].ssl, BIO_NOCLOSE);
		BIO_set_ssl(b, end[i].ssl, BIO_NOCLOSE);
		end[i].buffered = BIO_push(BIO_new(BIO_f_buffer()), b);
	}
}

static void handshake(void)
{
	for (int i = 0; i < 12; i++) {
		struct end *e = &end[i % 2];
		int r;

		before();
		r = SSL_do_handshake(e->ssl);
		after("SSL_do_handshake", e->ssl, r, 0, NULL);
	}
}

/* --- calls --- */

static size_t length(void)
{
	static const size_t lengths[] = {0, 1, 10, 100, 1000, 16384, 16385, 40000};

	return lengths[rnd(8)];
}

static void read_call(SSL *ssl, unsigned which, void *buf, size_t n, size_t *got)
{
	long r = 0;

	*got = 4242;
	before();
	switch (which) {
	case 0:
		r = SSL_read(ssl, buf, (int)n);
		after("SSL_read", ssl, r, r, in);
		break;
	case 1:
		r = SSL_read_ex(ssl, buf, n, got);
		after("SSL_read_ex", ssl, r, r == 1 ? (long)*got : 0, in);
		break;
	case 2:
		r = SSL_peek(ssl, buf, (int)n);
		after("SSL_peek", ssl, r, r, in);
		break;
	default:
		r = SSL_read_early_data(ssl, buf, n, got);
		after("SSL_read_early_data", ssl, r, r == 1 ? (long)*got : 0, in);
	}
	printf("got %zu\n", *got);
}

static void write_call(SSL *ssl, unsigned which, const void *buf, size_t n, size_t *put)
{
	long r = 0;

	*put = 4242;
	before();
	switch (which) {
	case 0:
		r = SSL_write(ssl, buf, (int)n);
		after("SSL_write", ssl, r, r, out);
		break;
	case 1:
		r = SSL_write_ex(ssl, buf, n, put);
		after("SSL_write_ex", ssl, r, 0, NULL);
		break;
	case 2:
		r = SSL_sendfile(ssl, 0, 0, n, 0);
		after("SSL_sendfile", ssl, r, 0, NULL);
		break;
	default:
		r = SSL_write_early_data(ssl, buf, n, put);
		after("SSL_write_early_data", ssl, r, 0, NULL);
	}
	printf("put %zu\n", *put);
}

static void bio_call(BIO *b, unsigned which, size_t n, bool silly)
{
	size_t done = 4242, *ret = silly && rnd(2) ? NULL : &done;
	void *buf = silly ? NULL : in;
	long r;

	before();
	switch (which) {
	case 0:
		r = BIO_read(b, buf, silly ? -1 : (int)n);
		after("BIO_read", NULL, r, r, in);
		break;
	case 1:
		r = BIO_read_ex(b, in, n, &done);
		after("BIO_read_ex", NULL, r, r == 1 ? (long)done : 0, in);
		break;
	case 2:
		r = BIO_write(b, silly ? NULL : out, (int)n);
		after("BIO_write", NULL, r, r, out);
		break;
	case 3:
		r = BIO_write_ex(b, silly ? NULL : out, n, ret);
		after("BIO_write_ex", NULL, r, 0, NULL);
		break;
	case 4:
		r = BIO_gets(b, (char *)in, (int)(n < 2 ? 2 : n));
		after("BIO_gets", NULL, r, r, in);
		break;
	case 5:
		r = BIO_puts(b, "one line\n");
		after("BIO_puts", NULL, r, r, NULL);
		break;
	default:
		r = b ? BIO_flush(b) : 0;
		after("BIO_flush", NULL, r, r, NULL);
	}
	printf("done %zu retry %d\n", r > 0 && n > 0 ? done : 0, b ? BIO_test_flags(b, 15) : 0);
}

static BIO *any_bio(struct end *e)
{
	BIO *const bio[] = {e->bio, e->bio, e->bio, e->buffered, e->buffered, mem, base64, own, empty, NULL};

	return bio[rnd(10)];
}

static void handle_call(struct end *e)
{
	unsigned which = rnd(12);
	long r = 0;

	before();
	switch (which) {
	case 0:
		r = SSL_shutdown(e->ssl);
		break;
	case 1:
		r = SSL_clear(end[0].ssl) + SSL_clear(end[1].ssl);
		if (r == 2)
			wire();
		else /* not in the middle of a renegotiation */
			connect_ends();
		break;
	case 2:
		SSL_free(NULL);
		break;
	case 3:
		r = SSL_key_update(e->ssl, rnd(2) ? SSL_KEY_UPDATE_REQUESTED : SSL_KEY_UPDATE_NOT_REQUESTED);
		break;
	case 4:
		r = SSL_renegotiate(e->ssl);
		break;
	case 5:
		r = SSL_connect(e->ssl);
		break;
	case 6:
		r = SSL_accept(e->ssl);
		break;
	case 7:
		r = SSL_do_handshake(e->ssl);
		break;
	case 8: { /* the same handle, or a copy */
		SSL *copy = SSL_dup(e->ssl);

		r = copy == NULL ? 0 : copy == e->ssl ? 1 : 2;
		SSL_free(copy);
		break;
	}
	case 9: /* the peer is gone */
		if (rnd(4) == 0)
			r = e->fd != -1 ? shutdown(e->fd, SHUT_RDWR) : BIO_shutdown_wr(SSL_get_wbio(e->ssl));
		break;
	case 10: /* its BIO is freed */
		if (rnd(8) == 0)
			SSL_set_bio(e->ssl, NULL, NULL);
		break;
	default:
		r = SSL_pending(e->ssl) + SSL_get_shutdown(e->ssl);
	}
	printf("%u ", which);
	after("handle", which == 2 || which > 7 ? NULL : e->ssl, r, 0, NULL);
}

static pid_t child(void)
{
	fflush(stdout);
	return fork();
}

static void await(pid_t pid, const char *what, unsigned n)
{
	int status = 0;

	(void)waitpid(pid, &status, 0);
	printf("%s %u: %s %d\n", what, n, WIFSIGNALED(status) ? "signal" : "exit",
	       WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
}

/* What no program should do: how it ends is all that counts. */
static void deadly_call(struct end *e)
{
	unsigned which = rnd(10);
	size_t n = length();
	pid_t pid = child();

	if (pid == 0) {
		if (which < 4)
			read_call(which % 2 ? e->ssl : NULL, which / 2, NULL, SIZE_MAX - n, &n);
		else if (which < 8)
			write_call(which % 2 ? e->ssl : NULL, which / 2 % 2, which % 2 ? out : NULL, SIZE_MAX - n, &n);
		else if (which == 8)
			(n % 2 ? SSL_shutdown : SSL_clear)(NULL);
		else
			BIO_write_ex(e->bio, out, (size_t)INT_MAX + n, NULL);
		_exit(0);
	}
	await(pid, "deadly", which);
}

static void one_call(void)
{
	struct end *e = &end[rnd(2)];
	bool silly = rnd(12) == 0;
	unsigned what = rnd(100);
	size_t n = length(), done;

	if (what < 30)
		read_call(e->ssl, rnd(30) ? rnd(3) : 3, n || !silly ? in : NULL, silly ? n - 1 : n, &done);
	else if (what < 55)
		write_call(e->ssl, rnd(30) ? rnd(2) : 2 + rnd(2), n || !silly ? out : NULL, n, &done);
	else if (what < 85)
		bio_call(any_bio(e), rnd(7), n, silly);
	else if (what < 97)
		handle_call(e);
	else if (what < 99 && rnd(6) == 0)
		connect_ends();
	else if (e->fd == -1 && rnd(4) == 0)
		deadly_call(e);
	else if (rnd(3) == 0)
		handshake();
}

/* --- the program --- */

/* Ed25519: all signatures are of one length. */
static void make_contexts(void)
{
	EVP_PKEY *key = EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
	X509 *x = X509_new();

	X509_set_version(x, 2);
	ASN1_INTEGER_set(X509_get_serialNumber(x), 1);
	X509_gmtime_adj(X509_getm_notBefore(x), -3600);
	X509_gmtime_adj(X509_getm_notAfter(x), 86400);
	X509_set_pubkey(x, key);
	for (int i = 0; i < 2; i++) {
		ctx[i] = SSL_CTX_new(TLS_method());
		SSL_CTX_set_options(ctx[i], SSL_OP_ALLOW_CLIENT_RENEGOTIATION);
		SSL_CTX_set_max_early_data(ctx[i], 1000);
		SSL_CTX_set_mode(ctx[i], SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
	}
	if (X509_sign(x, key, NULL) == 0 || SSL_CTX_use_certificate(ctx[1], x) != 1 ||
	    SSL_CTX_use_PrivateKey(ctx[1], key) != 1)
		abort();
	X509_free(x);
	EVP_PKEY_free(key);
}

static void run(uint64_t seed, long calls)
{
	state = seed * 0x9e3779b97f4a7c15u + 1;
	printf("seed %lu\n", (unsigned long)seed);
	for (int i = 0; i < 2; i++) {
		SSL_CTX_set_max_proto_version(ctx[i], seed % 2 ? TLS1_2_VERSION : TLS1_3_VERSION);
		SSL_CTX_clear_mode(ctx[i], SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_AUTO_RETRY);
		SSL_CTX_set_mode(ctx[i],
				 (seed % 3 ? SSL_MODE_ENABLE_PARTIAL_WRITE : 0) | (seed % 5 ? 0 : SSL_MODE_AUTO_RETRY));
	}
	mem = BIO_new(BIO_s_mem());
	base64 = BIO_push(BIO_new(BIO_f_base64()), BIO_new(BIO_s_mem()));
	own_bio();
	empty = BIO_new(BIO_f_ssl());
	connect_ends();
	if (seed % 7)
		handshake();
	while (calls--)
		one_call();
	drop(&end[0]);
	drop(&end[1]);
	BIO_free(mem);
	BIO_free_all(base64);
	BIO_free(own);
	BIO_free(empty);
}

int main(int argc, char **argv)
{
	uint64_t first = argc > 1 ? strtoull(argv[1], NULL, 10) : 1, n = argc > 2 ? strtoull(argv[2], NULL, 10) : 1;
	long calls = argc > 3 ? atol(argv[3]) : 300;

	signal(SIGPIPE, SIG_IGN);
	for (size_t i = 0; i < BUF; i++)
		out[i] = (uint8_t)(i * 2654435761u >> 13);
	end[0].fd = end[1].fd = -1;
	make_contexts();
	setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
	setvbuf(stdout, NULL, _IOLBF, 0);
	for (uint64_t seed = first; seed < first + n; seed++) {
		pid_t pid = child();

		if (pid == 0) {
			run(seed, calls);
			fflush(stdout);
			_exit(0);
		}
		await(pid, "seed", (unsigned)seed);
	}
	SSL_CTX_free(ctx[0]);
	SSL_CTX_free(ctx[1]);
	return ferror(stdout) || fflush(stdout) != 0 ? 1 : 0;
}
