/* SPDX-License-Identifier: Apache-2.0 */
/* reach_client.c - a client that is linked with no TLS library: it loads one and looks all of its functions up by name.
 *
 *   reach_client ADDRESS PORT threads|fork|gnutls
 *   reach_client ADDRESS PORT two LIBSSL LIBGNUTLS    second ones of both
 *
 * Asks tests/lib/aio.py for tokens. */
#include <arpa/inet.h>
#include <dlfcn.h>
#include <gnutls/gnutls.h>
#include <openssl/ssl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define THREADS 4
#define EACH 3
#define BODY 200 /* how often the answer repeats the token */

#define CALL(lib, name) ((__typeof__(&name))find(lib, #name))

static struct sockaddr_in to = {.sin_family = AF_INET};

static void die(const char *what)
{
	fprintf(stderr, "%s\n", what);
	_exit(9);
}

static void *find(void *lib, const char *name)
{
	void *p = dlsym(lib, name);

	if (!p)
		die(dlerror());
	return p;
}

static void *load(const char *file)
{
	void *lib = dlopen(file, RTLD_NOW | RTLD_LOCAL);

	if (!lib)
		die(dlerror());
	return lib;
}

static int tcp(void)
{
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	if (connect(fd, (struct sockaddr *)&to, sizeof(to)) == -1)
		die("connect");
	return fd;
}

/* Either kind of session. */
struct tls {
	void *lib;
	SSL *ssl;
	gnutls_session_t s;
	gnutls_certificate_credentials_t cred;
	int fd;
};

static void begin(struct tls *t)
{
	t->fd = tcp();
	if (!t->s) {
		SSL_CTX *ctx = CALL(t->lib, SSL_CTX_new)(CALL(t->lib, TLS_client_method)());

		t->ssl = CALL(t->lib, SSL_new)(ctx);
		CALL(t->lib, SSL_set_fd)(t->ssl, t->fd);
		if (CALL(t->lib, SSL_connect)(t->ssl) != 1)
			die("SSL_connect");
		CALL(t->lib, SSL_CTX_free)(ctx);
		return;
	}
	CALL(t->lib, gnutls_set_default_priority)(t->s);
	CALL(t->lib, gnutls_certificate_allocate_credentials)(&t->cred);
	CALL(t->lib, gnutls_credentials_set)(t->s, GNUTLS_CRD_CERTIFICATE, t->cred);
	CALL(t->lib, gnutls_transport_set_int2)(t->s, t->fd, t->fd);
	if (CALL(t->lib, gnutls_handshake)(t->s) != 0)
		die("gnutls_handshake");
}

static void ask(struct tls *t, const char *token)
{
	char buf[16384], line[64];
	int n = snprintf(buf, sizeof(buf), "GET /%s HTTP/1.1\r\nHost: x\r\n\r\n", token), size, got = 0;

	if ((t->s ? CALL(t->lib, gnutls_record_send)(t->s, buf, (size_t)n) : CALL(t->lib, SSL_write)(t->ssl, buf, n)) !=
	    n)
		die("write");
	size = snprintf(line, sizeof(line), "%s\n", token) * BODY;
	for (char *body = NULL; !body || buf + got - body < size;) {
		size_t room = sizeof(buf) - 1 - (size_t)got;

		n = t->s ? (int)CALL(t->lib, gnutls_record_recv)(t->s, buf + got, room)
			 : CALL(t->lib, SSL_read)(t->ssl, buf + got, (int)room);
		if (t->s && (n == GNUTLS_E_AGAIN || n == GNUTLS_E_INTERRUPTED)) /* a session ticket */
			continue;
		if (n <= 0)
			die("read");
		got += n;
		buf[got] = '\0';
		body = strstr(buf, "\r\n\r\n");
		body = body ? body + 4 : NULL;
		if (body && strncmp(body, line, strlen(line)) != 0 && buf + got - body >= (long)strlen(line))
			die("another answer");
	}
}

static void end(struct tls *t)
{
	if (t->s) {
		CALL(t->lib, gnutls_bye)(t->s, GNUTLS_SHUT_WR);
		CALL(t->lib, gnutls_deinit)(t->s);
		CALL(t->lib, gnutls_certificate_free_credentials)(t->cred);
	} else {
		CALL(t->lib, SSL_shutdown)(t->ssl);
		CALL(t->lib, SSL_free)(t->ssl);
	}
	close(t->fd);
}

static void once(void *lib, bool gnutls, const char *token)
{
	struct tls t = {.lib = lib};

	if (gnutls)
		CALL(lib, gnutls_init)(&t.s, GNUTLS_CLIENT);
	begin(&t);
	ask(&t, token);
	end(&t);
}

static void *ssl;

static void *some(void *arg)
{
	char token[32];

	for (int i = 0; i < EACH; i++) {
		snprintf(token, sizeof(token), "t%d-%d", (int)(intptr_t)arg, i);
		once(ssl, false, token);
	}
	return NULL;
}

static void threads(void)
{
	pthread_t t[THREADS];

	once(ssl, false, "first"); /* while it attaches, the others would not be tapped */
	for (intptr_t i = 0; i < THREADS; i++)
		pthread_create(&t[i], NULL, some, (void *)i);
	for (int i = 0; i < THREADS; i++)
		pthread_join(t[i], NULL);
}

/* The parent begins, a child goes on. */
static void forks(void)
{
	struct tls t = {.lib = ssl};
	int status;
	pid_t pid;

	begin(&t);
	ask(&t, "parent");
	pid = fork();
	if (pid == 0) {
		ask(&t, "child");
		end(&t);
		_exit(0);
	}
	if (waitpid(pid, &status, 0) != pid || status != 0)
		die("the child");
}

int main(int argc, char **argv)
{
	if (argc < 4 || inet_pton(AF_INET, argv[1], &to.sin_addr) != 1)
		return 2;
	to.sin_port = htons((uint16_t)atoi(argv[2]));
	ssl = load("libssl.so.3");
	if (strcmp(argv[3], "threads") == 0) {
		threads();
	} else if (strcmp(argv[3], "fork") == 0) {
		forks();
	} else if (strcmp(argv[3], "gnutls") == 0) {
		once(load("libgnutls.so.30"), true, "gnutls");
	} else if (argc == 6) {
		void *gnutls = load("libgnutls.so.30"), *other = load(argv[4]), *gother = load(argv[5]);

		once(ssl, false, "openssl-1");
		once(other, false, "openssl-2");
		once(gnutls, true, "gnutls-1");
		once(gother, true, "gnutls-2");
	}
	puts("all right");
	return 0;
}
