/* SPDX-License-Identifier: Apache-2.0 */
/* What OpenSSL can do to a handle or a session in the middle of its life; questions and answers before and after it.
 * ARGs: keyupdate | posthandshake (authentication of the client) | renegotiate (TLS 1.2) | newfd (SSL_set_fd()) |
 *       dup (SSL_dup() before and after the handshake) | upref (who frees it first is not the last) |
 *       clear (used again by one of two owners) | moved (a thread for each call) | resume (two connections) | dtls */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <openssl/rand.h>

#include "lib/snip.h"

static const char *how = "keyupdate";
static int rounds; /* said so far, in this process of one side */

static bool is(const char *name)
{
	return strcmp(how, name) == 0;
}

static void must(bool ok, const char *what)
{
	if (!ok)
		snip_die(what);
}

/* --- questions and answers --- */

struct call {
	SSL *ssl;
	char *buf;
	size_t n;
	bool write, ok;
};

static void *do_call(void *arg)
{
	struct call *c = arg;

	c->ok = c->write ? snip_write_all(c->ssl, c->buf, c->n) : snip_read_all(c->ssl, c->buf, c->n);
	return NULL;
}

static void io(SSL *ssl, char *buf, int n, bool write)
{
	struct call c = {.ssl = ssl, .buf = buf, .n = (size_t)n, .write = write};
	pthread_t t;

	if (!is("moved")) {
		do_call(&c);
	} else {
		must(pthread_create(&t, NULL, do_call, &c) == 0, "thread");
		pthread_join(t, NULL);
	}
	must(c.ok, write ? "write" : "read");
}

static void talk(const struct snip *s, SSL *ssl)
{
	char mine[64], got[64];

	for (int i = 0; i < 10; i++, rounds++) {
		int n = snprintf(mine, sizeof(mine), "ask    %04d\n", rounds);

		if (s->listener == -1)
			io(ssl, mine, n, true);
		else
			io(ssl, got, n, false);
		if (s->listener != -1) {
			must(memcmp(mine, got, (size_t)n) == 0, "question");
			memcpy(mine, "answer", 6);
			io(ssl, mine, n, true);
		} else {
			io(ssl, got, n, false);
			must(memcmp(got, "answer", 6) == 0, "answer");
		}
	}
}

/* --- events --- */

static int any_certificate(int ok, X509_STORE_CTX *x)
{
	(void)ok, (void)x;
	return 1;
}

/* TLS 1.3: what is asked for is done by the next calls. */
static void authenticate(const struct snip *s, SSL *ssl)
{
	if (s->listener == -1)
		return;
	SSL_set_verify(ssl, SSL_VERIFY_PEER, any_certificate);
	must(SSL_verify_client_post_handshake(ssl) == 1 && SSL_do_handshake(ssl) == 1, "post-handshake");
}

static void renegotiate(const struct snip *s, SSL *ssl)
{
	if (s->listener == -1)
		must(SSL_renegotiate(ssl) == 1 && SSL_do_handshake(ssl) == 1, "renegotiation");
}

static void new_fd(SSL *ssl)
{
	int old = SSL_get_fd(ssl), fd = dup(old);

	must(fd != -1 && SSL_set_fd(ssl, fd) == 1, "SSL_set_fd");
	close(old);
}

static void event(const struct snip *s, SSL *ssl)
{
	if (is("keyupdate"))
		must(SSL_key_update(ssl, SSL_KEY_UPDATE_REQUESTED) == 1, "SSL_key_update");
	else if (is("posthandshake"))
		authenticate(s, ssl);
	else if (is("renegotiate"))
		renegotiate(s, ssl);
	else if (is("newfd"))
		new_fd(ssl);
	else if (is("dup"))
		must(SSL_dup(ssl) == ssl, "SSL_dup");
	else if (is("upref"))
		must(SSL_up_ref(ssl) == 1, "SSL_up_ref");
	if (is("dup") || is("upref")) {
		SSL_free(ssl);
		usleep(60000); /* time to take the session for over */
	}
}

static void check(const struct snip *s, SSL *ssl)
{
	X509 *x = SSL_get1_peer_certificate(ssl);

	snip_say(s, "reused %d, certificate %d, renegotiated %ld", SSL_session_reused(ssl), x != NULL,
		 SSL_total_renegotiations(ssl));
	X509_free(x);
}

/* --- connections --- */

static void prepare(SSL_CTX *ctx, const struct snip *s)
{
	if (is("renegotiate")) {
		SSL_CTX_set_max_proto_version(ctx, TLS1_2_VERSION);
		SSL_CTX_set_options(ctx, SSL_OP_ALLOW_CLIENT_RENEGOTIATION);
	}
	if (s->listener == -1 && is("posthandshake")) { /* a client's certificate is made as a server's is */
		struct snip server = {.role = "server"};
		SSL_CTX *other = snip_ctx(&server);

		SSL_CTX_use_certificate(ctx, SSL_CTX_get0_certificate(other));
		SSL_CTX_use_PrivateKey(ctx, SSL_CTX_get0_privatekey(other));
		SSL_CTX_set_post_handshake_auth(ctx, 1);
		SSL_CTX_free(other);
	}
	SSL_CTX_set_session_id_context(ctx, (const uint8_t *)"calls", 5);
}

static SSL *begin(const struct snip *s, SSL_CTX *ctx)
{
	SSL *ssl = snip_new(s, ctx, snip_tcp(s)), *copy;

	if (is("dup")) { /* it has the settings, not the socket */
		copy = SSL_dup(ssl);
		must(copy != NULL && copy != ssl && SSL_set_fd(copy, SSL_get_fd(ssl)) == 1, "SSL_dup");
		SSL_free(ssl);
		ssl = copy;
	}
	if (is("upref") || is("clear"))
		must(SSL_up_ref(ssl) == 1, "SSL_up_ref");
	snip_handshake(s, ssl);
	return ssl;
}

static void again(const struct snip *s, SSL *ssl)
{
	int fd = SSL_get_fd(ssl);

	usleep(20000);
	(void)SSL_shutdown(ssl);
	ERR_clear_error();
	must(SSL_clear(ssl) == 1, "SSL_clear");
	snip_close(fd);
	SSL_free(ssl); /* the other owner's */
	must(SSL_set_fd(ssl, snip_tcp(s)) == 1, "SSL_set_fd");
	snip_again(s, ssl);
	snip_handshake(s, ssl);
	talk(s, ssl);
}

static void resume(const struct snip *s, SSL_CTX *ctx, SSL *first)
{
	SSL_SESSION *kept = SSL_get1_session(first);
	SSL *ssl;

	usleep(20000); /* a client's socket is proven while it exists */
	snip_end(first);
	ssl = snip_new(s, ctx, snip_tcp(s));
	if (s->listener == -1)
		must(SSL_set_session(ssl, kept) == 1, "SSL_set_session");
	snip_handshake(s, ssl);
	talk(s, ssl);
	check(s, ssl);
	usleep(20000);
	snip_end(ssl);
	SSL_SESSION_free(kept);
}

static void tls(struct snip *s)
{
	SSL_CTX *ctx = snip_ctx(s);
	SSL *ssl;

	prepare(ctx, s);
	ssl = begin(s, ctx);
	talk(s, ssl);
	if (is("clear"))
		again(s, ssl);
	for (int i = 0; i < 3 && !is("resume"); i++) {
		event(s, ssl);
		talk(s, ssl);
	}
	if (is("upref"))
		SSL_free(ssl); /* and it goes on */
	talk(s, ssl);
	check(s, ssl);
	usleep(20000);
	if (is("resume"))
		resume(s, ctx, ssl);
	else
		snip_end(ssl);
	SSL_CTX_free(ctx);
}

static int udp(const struct snip *s)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((uint16_t)s->port)}, peer;
	int fd = socket(AF_INET, SOCK_DGRAM, 0);
	socklen_t n = sizeof(peer);
	char c;

	must(inet_pton(AF_INET, s->addr, &a.sin_addr) == 1, "address");
	if (s->listener == -1) {
		must(connect(fd, (void *)&a, sizeof(a)) == 0, "connect");
		return fd;
	}
	must(bind(fd, (void *)&a, sizeof(a)) == 0, "bind");
	must(recvfrom(fd, &c, 1, MSG_PEEK, (void *)&peer, &n) == 1, "recvfrom");
	must(connect(fd, (void *)&peer, n) == 0, "connect");
	return fd;
}

/* Datagrams: the client may be there before the server is, so it says hello again. */
static void dtls(struct snip *s)
{
	SSL_CTX *ctx = snip_ctx(s), *dctx = SSL_CTX_new(DTLS_method());
	int fd = udp(s);
	BIO *b = BIO_new_dgram(fd, BIO_CLOSE);
	struct sockaddr_in peer;
	socklen_t n = sizeof(peer);
	SSL *ssl;

	if (s->listener != -1) {
		SSL_CTX_use_certificate(dctx, SSL_CTX_get0_certificate(ctx));
		SSL_CTX_use_PrivateKey(dctx, SSL_CTX_get0_privatekey(ctx));
	}
	must(getpeername(fd, (void *)&peer, &n) == 0, "getpeername");
	(void)BIO_ctrl(b, BIO_CTRL_DGRAM_SET_CONNECTED, 0, &peer);
	ssl = SSL_new(dctx);
	SSL_set_bio(ssl, b, b);
	snip_again(s, ssl);
	if (s->listener == -1)
		SSL_set_connect_state(ssl);
	else
		SSL_set_accept_state(ssl);
	while (SSL_do_handshake(ssl) != 1) { /* refused: not there yet */
		must(s->listener == -1 && rounds++ < 500, "handshake");
		ERR_clear_error();
		usleep(20000);
	}
	rounds = 0;
	talk(s, ssl);
	SSL_free(ssl);
	SSL_CTX_free(dctx);
	SSL_CTX_free(ctx);
}

static void side(struct snip *s)
{
	how = s->argc > 0 ? s->argv[0] : how;
	if (is("dtls"))
		dtls(s);
	else
		tls(s);
}

int main(int argc, char **argv)
{
	snip_processes = true;
	return snip_run(argc, argv, side, side);
}
