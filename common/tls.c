/* SPDX-License-Identifier: Apache-2.0 */
/* tls.c - non-blocking TLS (see tls.h). */
#include "common/tls.h"

#include <dlfcn.h>
#include <errno.h>
#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/identity.h"

#define RECORD 16384		   /* cleartext in a record at most */
#define RECORD_ROOM (RECORD + 512) /* what a record may need in the out buffer */
#define OUT_SIZE (TLS_OUT_MAX + 64 * 1024)
#define READ_AHEAD (128 * 1024)
#define READS 4	      /* from the socket in one call: records without data may follow each other without end */
#define LATE_MAX 1000 /* handshake messages after the handshake: key updates, tickets */

struct tls_ctx {
	SSL_CTX *ctx;
	char print[TLS_PRINT];
};

struct tls {
	SSL *ssl;
	int fd;
	bool client;
	bool dead; /* failed: OpenSSL must not be asked to shut down */
	bool eof;
	bool shaken;	/* the handshake is done */
	unsigned reads; /* from the socket in this call */
	unsigned late;	/* handshake messages that came after the handshake */
	int io_errno;	/* of the last socket call that failed for good */
	uint64_t sent;
	size_t off, len; /* out[off..len) waits for the socket */
	char err[TLS_ERR];
	uint8_t out[OUT_SIZE];
};

/* The library's own functions, not what a preloaded library puts in front of them. */
static struct {
	int (*read)(SSL *, void *, int);
	int (*write)(SSL *, const void *, int);
	int (*shutdown)(SSL *);
	void (*free)(SSL *);
} real;

static BIO_METHOD *method;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void find(void *lib, const char *name, void *ret_fn)
{
	void *p = lib == NULL ? NULL : dlsym(lib, name);

	if (p != NULL)
		memcpy(ret_fn, &p, sizeof(p));
}

static int bio_write(BIO *b, const char *p, int n)
{
	struct tls *t = BIO_get_data(b);

	BIO_clear_retry_flags(b);
	if (n <= 0)
		return 0;
	if (OUT_SIZE - t->len < (size_t)n) {
		BIO_set_retry_write(b);
		return -1;
	}
	memcpy(t->out + t->len, p, (size_t)n);
	t->len += (size_t)n;
	return n;
}

static int bio_read(BIO *b, char *p, int n)
{
	struct tls *t = BIO_get_data(b);
	ssize_t r;

	BIO_clear_retry_flags(b);
	if (t->reads++ >= READS) { /* the socket stays readable */
		BIO_set_retry_read(b);
		return -1;
	}
	do
		r = recv(t->fd, p, (size_t)n, MSG_DONTWAIT);
	while (r == -1 && errno == EINTR);
	if (r > 0)
		return (int)r;
	if (r == -1 && errno == EAGAIN) {
		BIO_set_retry_read(b);
		return -1;
	}
	if (r == -1)
		t->io_errno = errno;
	t->eof = true;
	return (int)r;
}

static long bio_ctrl(BIO *b, int cmd, long num, void *ptr)
{
	const struct tls *t = BIO_get_data(b);

	(void)num;
	(void)ptr;
	switch (cmd) {
	case BIO_CTRL_FLUSH: /* tls_flush() does it */
		return 1;
	case BIO_CTRL_EOF:
		return t->eof;
	default:
		return 0;
	}
}

/* OpenSSL tells of each message and header that it has read or written. */
static void on_message(int out, int version, int type, const void *p, size_t len, SSL *ssl, void *arg)
{
	struct tls *t = arg;

	(void)version;
	(void)p;
	(void)len;
	(void)ssl;
	if (!out && type == SSL3_RT_HANDSHAKE && t->shaken)
		t->late++;
}

static void set_up(void)
{
	Dl_info in;
	void *lib = NULL;

	real.read = SSL_read;
	real.write = SSL_write;
	real.shutdown = SSL_shutdown;
	real.free = SSL_free;
	if (dladdr((void *)(uintptr_t)SSL_CTX_new, &in) != 0 && in.dli_fname != NULL)
		lib = dlopen(in.dli_fname, RTLD_LAZY | RTLD_NOLOAD);
	find(lib, "SSL_read", &real.read);
	find(lib, "SSL_write", &real.write);
	find(lib, "SSL_shutdown", &real.shutdown);
	find(lib, "SSL_free", &real.free);

	method = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "tlstap");
	if (method == NULL || BIO_meth_set_write(method, bio_write) != 1 || BIO_meth_set_read(method, bio_read) != 1 ||
	    BIO_meth_set_ctrl(method, bio_ctrl) != 1)
		method = NULL;
}

/* The oldest reason in OpenSSL's queue, which is then emptied. */
static const char *reason(void)
{
	unsigned long e = ERR_get_error();
	const char *s = e == 0 ? NULL : ERR_reason_error_string(e);

	ERR_clear_error();
	return s == NULL ? "unknown TLS error" : s;
}

static int ctx_new(struct tls_ctx **ret, const SSL_METHOD *m, char err[static TLS_ERR])
{
	struct tls_ctx *c = calloc(1, sizeof(*c));

	pthread_once(&once, set_up);
	if (c == NULL || method == NULL)
		goto fail;
	c->ctx = SSL_CTX_new(m);
	if (c->ctx == NULL || SSL_CTX_set_min_proto_version(c->ctx, TLS1_2_VERSION) != 1 ||
	    /* AES-128 first: what the tunnel costs is AES, and its strength is not what limits us */
	    SSL_CTX_set_ciphersuites(c->ctx, "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:"
					     "TLS_CHACHA20_POLY1305_SHA256") != 1 ||
	    SSL_CTX_set_cipher_list(c->ctx, "ECDHE+AESGCM:ECDHE+CHACHA20:!aNULL") != 1)
		goto fail;
	SSL_CTX_set_options(c->ctx, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION | SSL_OP_NO_TICKET |
					    SSL_OP_CIPHER_SERVER_PREFERENCE);
	SSL_CTX_set_session_cache_mode(c->ctx, SSL_SESS_CACHE_OFF);
	SSL_CTX_set_num_tickets(c->ctx, 0);
	SSL_CTX_set_max_early_data(c->ctx, 0);
	SSL_CTX_set_mode(c->ctx, SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER | SSL_MODE_AUTO_RETRY);
	SSL_CTX_set_read_ahead(c->ctx, 1);
	SSL_CTX_set_default_read_buffer_len(c->ctx, READ_AHEAD);
	*ret = c;
	return 0;
fail:
	(void)snprintf(err, TLS_ERR, "OpenSSL cannot be set up: %s", reason());
	tls_ctx_free(&c);
	return -EIO;
}

static void print_of(const X509 *x, char ret[static TLS_PRINT])
{
	unsigned char md[32];
	unsigned n = 0;

	ret[0] = '\0';
	if (x == NULL || X509_digest(x, EVP_sha256(), md, &n) != 1)
		return;
	for (unsigned i = 0; i < n && i < sizeof(md); i++)
		(void)snprintf(ret + 2 * i, 3, "%02x", md[i]);
}

int tls_ctx_server(struct tls_ctx **ret, const char *dir, char err[static TLS_ERR])
{
	struct tls_ctx *c = NULL;
	int r = ctx_new(&c, TLS_server_method(), err);

	if (r != 0)
		return r;
	r = identity_load(c->ctx, dir, err);
	if (r != 0) {
		tls_ctx_free(&c);
		return r;
	}
	print_of(SSL_CTX_get0_certificate(c->ctx), c->print);
	*ret = c;
	return 0;
}

int tls_ctx_client(struct tls_ctx **ret, char err[static TLS_ERR])
{
	return ctx_new(ret, TLS_client_method(), err);
}

void tls_ctx_free(struct tls_ctx **c)
{
	if (*c == NULL)
		return;
	SSL_CTX_free((*c)->ctx);
	free(*c);
	*c = NULL;
}

const char *tls_ctx_print(const struct tls_ctx *c)
{
	return c->print;
}

static bool is_address(const char *s)
{
	return strchr(s, ':') != NULL || s[strspn(s, "0123456789.")] == '\0';
}

int tls_new(struct tls **ret, struct tls_ctx *c, int fd, const char *name)
{
	struct tls *t = malloc(sizeof(*t)); /* not cleared: the out buffer is touched as far as it is used */
	BIO *b = BIO_new(method);

	if (t == NULL || b == NULL)
		goto fail;
	memset(t, 0, offsetof(struct tls, out));
	t->fd = fd;
	t->ssl = SSL_new(c->ctx);
	if (t->ssl == NULL)
		goto fail;
	t->client = SSL_is_server(t->ssl) == 0;
	BIO_set_data(b, t);
	BIO_set_init(b, 1);
	SSL_set_bio(t->ssl, b, b);
	SSL_set_msg_callback(t->ssl, on_message);
	SSL_set_msg_callback_arg(t->ssl, t);
	if (t->client)
		SSL_set_connect_state(t->ssl);
	else
		SSL_set_accept_state(t->ssl);
	if (name != NULL && !is_address(name))
		(void)SSL_set_tlsext_host_name(t->ssl, name);
	ERR_clear_error();
	*ret = t;
	return 0;
fail:
	BIO_free(b);
	free(t);
	ERR_clear_error();
	return -ENOMEM;
}

void tls_free(struct tls **t)
{
	struct tls *o = *t;

	if (o == NULL)
		return;
	if (!o->dead && !o->eof && SSL_is_init_finished(o->ssl)) {
		(void)real.shutdown(o->ssl);
		(void)tls_flush(o);
	}
	real.free(o->ssl);
	ERR_clear_error();
	free(o);
	*t = NULL;
}

static enum tls_ret fail(struct tls *t, const char *why)
{
	(void)snprintf(t->err, sizeof(t->err), "%s", why);
	t->dead = true;
	return TLS_FAILED;
}

/* What a call of OpenSSL that returned @r <= 0 means. */
static enum tls_ret result(struct tls *t, int r)
{
	switch (SSL_get_error(t->ssl, r)) {
	case SSL_ERROR_WANT_READ:
		return TLS_WANT_READ;
	case SSL_ERROR_WANT_WRITE:
		return TLS_WANT_WRITE;
	case SSL_ERROR_ZERO_RETURN:
		return TLS_CLOSED;
	default:
		break;
	}
	if (t->eof) {
		ERR_clear_error();
		(void)snprintf(t->err, sizeof(t->err), "%s",
			       t->io_errno != 0 ? strerror(t->io_errno) : "connection closed");
		t->dead = true;
		return TLS_CLOSED;
	}
	return fail(t, reason());
}

enum tls_ret tls_handshake(struct tls *t)
{
	enum tls_ret want, sent;
	int r;

	ERR_clear_error();
	t->reads = 0;
	r = SSL_do_handshake(t->ssl);
	want = r == 1 ? TLS_OK : result(t, r);
	if (want == TLS_OK && SSL_version(t->ssl) < TLS1_3_VERSION && SSL_get_extms_support(t->ssl) != 1)
		return fail(t, "the peer speaks TLS 1.2 without extended master secret");
	t->shaken = want == TLS_OK;
	sent = tls_flush(t); /* alerts too */
	if (want == TLS_CLOSED || want == TLS_FAILED)
		return want;
	if (sent == TLS_FAILED || sent == TLS_CLOSED)
		return sent;
	if (want == TLS_WANT_READ && sent == TLS_WANT_WRITE)
		return TLS_WANT_WRITE;
	return want;
}

enum tls_ret tls_flush(struct tls *t)
{
	while (t->off < t->len) {
		ssize_t n = send(t->fd, t->out + t->off, t->len - t->off, MSG_NOSIGNAL | MSG_DONTWAIT);

		if (n == -1 && errno == EINTR)
			continue;
		if (n == -1 && errno == EAGAIN)
			return TLS_WANT_WRITE;
		if (n == -1) {
			t->io_errno = errno;
			(void)fail(t, strerror(errno));
			return errno == EPIPE || errno == ECONNRESET ? TLS_CLOSED : TLS_FAILED;
		}
		t->off += (size_t)n;
		t->sent += (uint64_t)n;
	}
	t->off = t->len = 0;
	return TLS_OK;
}

enum tls_ret tls_write(struct tls *t, const void *buf, size_t len, size_t *ret_n)
{
	const uint8_t *p = buf;
	size_t n = 0;

	*ret_n = 0;
	while (n < len) {
		size_t part = len - n < RECORD ? len - n : RECORD;

		if (t->len + RECORD_ROOM > TLS_OUT_MAX) {
			enum tls_ret r = tls_flush(t);

			if (r == TLS_FAILED || r == TLS_CLOSED ||
			    (r == TLS_WANT_WRITE && t->len + RECORD_ROOM > TLS_OUT_MAX))
				return r;
		}
		ERR_clear_error();

		int r = real.write(t->ssl, p + n, (int)part);

		if (r <= 0)
			return result(t, r);
		n += (size_t)r;
		*ret_n = n;
	}
	return TLS_OK;
}

enum tls_ret tls_read(struct tls *t, void *buf, size_t len, size_t *ret_n)
{
	uint8_t *p = buf;
	size_t n = 0;

	*ret_n = 0;
	t->reads = 0;
	while (n < len) {
		ERR_clear_error();

		int r = real.read(t->ssl, p + n, (int)(len - n < RECORD ? len - n : RECORD));

		if (t->late > LATE_MAX)
			return fail(t, "too many handshake messages after the handshake");
		if (r <= 0)
			return result(t, r);
		n += (size_t)r;
		*ret_n = n;
	}
	return TLS_OK;
}

size_t tls_unsent(const struct tls *t)
{
	return t->len - t->off;
}

uint64_t tls_sent(const struct tls *t)
{
	return t->sent;
}

const char *tls_error(const struct tls *t)
{
	return t->err;
}

const char *tls_describe(const struct tls *t, char *ret, size_t size)
{
	(void)snprintf(ret, size, "%s %s", SSL_get_version(t->ssl), SSL_get_cipher_name(t->ssl));
	return ret;
}

void tls_peer_print(const struct tls *t, char ret[static TLS_PRINT])
{
	X509 *x = SSL_get_peer_certificate(t->ssl);

	print_of(x, ret);
	X509_free(x);
}
