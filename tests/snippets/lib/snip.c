/* SPDX-License-Identifier: Apache-2.0 */
/* Sockets, certificates, tallies for the small TLS programs. */
#include "snip.h"

#include <dirent.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include <openssl/x509.h>

#define TALLIES_MAX 256
#define NOTES_MAX 256

static struct tally {
	const char *role, *call;
	long result;
	int err, ssl;
	unsigned long queue, n;
} tally[TALLIES_MAX];
static size_t n_tally;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static char *note[2][NOTES_MAX]; /* client's, server's */
static size_t n_notes[2];
bool snip_counts = true, snip_results = true, snip_processes;

struct save {
	FILE *tx, *rx;
};
static int save_index, conn_number[2];

void snip_die(const char *what)
{
	fprintf(stderr, "%s: errno %d\n", what, errno);
	ERR_print_errors_fp(stderr);
	_exit(9);
}

/* --- TLS and TCP --- */

static void make_certificate(SSL_CTX *ctx)
{
	EVP_PKEY *key = EVP_EC_gen("P-256");
	X509 *x = X509_new();
	X509_NAME *name = X509_get_subject_name(x);

	X509_set_version(x, 2);
	ASN1_INTEGER_set(X509_get_serialNumber(x), 1);
	X509_gmtime_adj(X509_getm_notBefore(x), -3600);
	X509_gmtime_adj(X509_getm_notAfter(x), 86400);
	X509_set_pubkey(x, key);
	X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const uint8_t *)"snippet.test", -1, -1, 0);
	X509_set_issuer_name(x, name);
	if (X509_sign(x, key, EVP_sha256()) == 0 || SSL_CTX_use_certificate(ctx, x) != 1 ||
	    SSL_CTX_use_PrivateKey(ctx, key) != 1)
		snip_die("certificate");
	X509_free(x);
	EVP_PKEY_free(key);
}

SSL_CTX *snip_ctx(const struct snip *s)
{
	bool server = strcmp(s->role, "server") == 0;
	SSL_CTX *ctx = SSL_CTX_new(server ? TLS_server_method() : TLS_client_method());
	const char *tls = getenv("SNIP_TLS");

	if (ctx == NULL)
		snip_die("SSL_CTX_new");
	if (tls != NULL && strcmp(tls, "1.2") == 0)
		SSL_CTX_set_max_proto_version(ctx, TLS1_2_VERSION);
	if (server)
		make_certificate(ctx);
	return ctx;
}

static socklen_t address(const struct snip *s, struct sockaddr_storage *ret)
{
	struct sockaddr_in *a4 = (void *)ret;
	struct sockaddr_in6 *a6 = (void *)ret;

	memset(ret, 0, sizeof(*ret));
	if (inet_pton(AF_INET, s->addr, &a4->sin_addr) == 1) {
		a4->sin_family = AF_INET;
		a4->sin_port = htons((uint16_t)s->port);
		return sizeof(*a4);
	}
	if (inet_pton(AF_INET6, s->addr, &a6->sin6_addr) != 1)
		snip_die("address");
	a6->sin6_family = AF_INET6;
	a6->sin6_port = htons((uint16_t)s->port);
	return sizeof(*a6);
}

static void start_listening(struct snip *s)
{
	struct sockaddr_storage a;
	socklen_t n = address(s, &a);
	int on = 1;

	s->listener = socket(a.ss_family, SOCK_STREAM, 0);
	(void)setsockopt(s->listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	if (bind(s->listener, (void *)&a, n) == -1 || listen(s->listener, 512) == -1)
		snip_die("listen");
	n = sizeof(a);
	if (getsockname(s->listener, (void *)&a, &n) == -1)
		snip_die("getsockname");
	s->port = ntohs(((struct sockaddr_in *)&a)->sin_port); /* at the same place in both */
}

int snip_tcp(const struct snip *s)
{
	struct sockaddr_storage a;
	socklen_t n = address(s, &a);
	int on = 1, fd = -1;

	if (s->listener != -1) {
		fd = accept(s->listener, NULL, NULL);
		if (fd == -1)
			snip_die("accept");
	}
	for (unsigned i = 0; fd == -1; i++) {
		fd = socket(a.ss_family, SOCK_STREAM, 0);
		if (connect(fd, (void *)&a, n) == 0)
			break;
		if (i == 500)
			snip_die("connect");
		close(fd);
		fd = -1;
		usleep(20000);
	}
	(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	return fd;
}

static void open_saves(const struct snip *s, SSL *ssl)
{
	const char *dir = getenv("SNIP_SAVE");
	struct save *v;
	char path[512];
	int n;

	pthread_mutex_lock(&lock);
	if (save_index == 0) /* index 0 may be taken by the library, so a fresh one is never 0 */
		save_index = SSL_get_ex_new_index(0, NULL, NULL, NULL, NULL);
	n = conn_number[strcmp(s->role, "server") == 0]++;
	pthread_mutex_unlock(&lock);
	if (dir == NULL)
		return;
	v = calloc(1, sizeof(*v));
	snprintf(path, sizeof(path), "%s/%s.%d.%d.tx", dir, s->role, (int)getpid(), n);
	v->tx = fopen(path, "ae");
	snprintf(path, sizeof(path), "%s/%s.%d.%d.rx", dir, s->role, (int)getpid(), n);
	v->rx = fopen(path, "ae");
	if (v->tx == NULL || v->rx == NULL)
		snip_die(path);
	SSL_set_ex_data(ssl, save_index, v);
}

void snip_save(SSL *ssl, bool tx, const void *buf, size_t n)
{
	struct save *v = SSL_get_ex_data(ssl, save_index);

	if (v == NULL)
		return;
	fwrite(buf, 1, n, tx ? v->tx : v->rx);
	fflush(tx ? v->tx : v->rx); /* a fork must not write it twice */
}

static void close_saves(SSL *ssl)
{
	struct save *v = SSL_get_ex_data(ssl, save_index);

	if (v == NULL)
		return;
	fclose(v->tx);
	fclose(v->rx);
	free(v);
	SSL_set_ex_data(ssl, save_index, NULL);
}

void snip_again(const struct snip *s, SSL *ssl)
{
	close_saves(ssl);
	open_saves(s, ssl);
}

SSL *snip_new(const struct snip *s, SSL_CTX *ctx, int fd)
{
	SSL *ssl = SSL_new(ctx);

	if (ssl == NULL || SSL_set_fd(ssl, fd) != 1)
		snip_die("SSL_new");
	if (s->listener == -1) {
		SSL_set_tlsext_host_name(ssl, "snippet.test");
		SSL_set_connect_state(ssl);
	} else {
		SSL_set_accept_state(ssl);
	}
	open_saves(s, ssl);
	return ssl;
}

void snip_handshake(const struct snip *s, SSL *ssl)
{
	(void)s;
	if (SSL_do_handshake(ssl) != 1)
		snip_die("handshake");
}

SSL *snip_ssl(const struct snip *s, SSL_CTX *ctx, int fd)
{
	SSL *ssl = snip_new(s, ctx, fd);

	snip_handshake(s, ssl);
	return ssl;
}

/* Without an RST: what the peer still says is read. */
void snip_close(int fd)
{
	struct timeval patience = {.tv_sec = 5};
	char buf[4096];

	(void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	(void)shutdown(fd, SHUT_WR);
	while (recv(fd, buf, sizeof(buf), 0) > 0)
		;
	close(fd);
}

void snip_end(SSL *ssl)
{
	int fd = SSL_get_fd(ssl);

	(void)SSL_shutdown(ssl);
	ERR_clear_error();
	close_saves(ssl);
	SSL_free(ssl);
	if (fd != -1)
		snip_close(fd);
}

/* --- calls --- */

static _Thread_local const char *my_role = "-";

void snip_before(void)
{
	ERR_clear_error();
	errno = 0;
}

void snip_after(const char *call, long result, SSL *ssl)
{
	int err = errno;
	unsigned long queue = ERR_peek_error();
	int code = result > 0 || ssl == NULL ? 0 : SSL_get_error(ssl, (int)result);
	struct tally *t;
	size_t i;

	if (!snip_results)
		result = (result > 0) - (result < 0);
	pthread_mutex_lock(&lock);
	for (i = 0; i < n_tally; i++) {
		t = &tally[i];
		if (strcmp(t->role, my_role) == 0 && strcmp(t->call, call) == 0 && t->result == result &&
		    t->err == err && t->queue == queue && t->ssl == code)
			break;
	}
	if (i == n_tally && n_tally < TALLIES_MAX)
		tally[n_tally++] = (struct tally){my_role, call, result, err, code, queue, 0};
	if (i < n_tally)
		tally[i].n++;
	pthread_mutex_unlock(&lock);
	errno = err;
}

int snip_write(SSL *ssl, const void *buf, size_t n)
{
	int r;

	snip_before();
	r = SSL_write(ssl, buf, (int)n);
	snip_after("SSL_write", r, ssl);
	if (r > 0)
		snip_save(ssl, true, buf, (size_t)r);
	return r;
}

int snip_read(SSL *ssl, void *buf, size_t n)
{
	int r;

	snip_before();
	r = SSL_read(ssl, buf, (int)n);
	snip_after("SSL_read", r, ssl);
	if (r > 0)
		snip_save(ssl, false, buf, (size_t)r);
	return r;
}

bool snip_write_all(SSL *ssl, const void *buf, size_t n)
{
	const uint8_t *p = buf;

	while (n > 0) {
		int r = snip_write(ssl, p, n);

		if (r <= 0)
			return false;
		p += r;
		n -= (size_t)r;
	}
	return true;
}

bool snip_read_all(SSL *ssl, void *buf, size_t n)
{
	uint8_t *p = buf;

	while (n > 0) {
		int r = snip_read(ssl, p, n);

		if (r <= 0)
			return false;
		p += r;
		n -= (size_t)r;
	}
	return true;
}

void snip_pattern(uint8_t *buf, uint64_t seed, size_t n)
{
	uint64_t x = seed * 0x9e3779b97f4a7c15u + 1;

	for (size_t i = 0; i < n; i++) {
		if (i % 8 == 0) {
			x ^= x << 13;
			x ^= x >> 7;
			x ^= x << 17;
		}
		buf[i] = (uint8_t)(x >> i % 8 * 8);
	}
}

uint8_t *snip_bytes(uint64_t seed, size_t n)
{
	uint8_t *b = malloc(n + 1);

	if (b == NULL)
		snip_die("memory");
	snip_pattern(b, seed, n);
	return b;
}

bool snip_expect(SSL *ssl, uint64_t seed, size_t n)
{
	uint8_t *want = snip_bytes(seed, n), *have = malloc(n + 1);
	bool ok = snip_read_all(ssl, have, n) && memcmp(want, have, n) == 0;

	free(want);
	free(have);
	return ok;
}

/* --- the program --- */

static unsigned count_entries(const char *dir)
{
	DIR *d = opendir(dir);
	unsigned n = 0;

	while (d != NULL && readdir(d) != NULL)
		n++;
	if (d != NULL)
		closedir(d);
	return n;
}

static int by_text(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

void snip_say(const struct snip *s, const char *fmt, ...)
{
	bool server = strcmp(s->role, "server") == 0;
	va_list ap;

	if (n_notes[server] == NOTES_MAX)
		snip_die("too many notes");
	va_start(ap, fmt);
	if (vasprintf(&note[server][n_notes[server]++], fmt, ap) == -1)
		snip_die("memory");
	va_end(ap);
}

static void print_results(void)
{
	char *line[TALLIES_MAX];

	for (size_t k = 0; k < 2; k++) {
		for (size_t i = 0; i < n_notes[k]; i++) {
			printf("%s: %s\n", k ? "server" : "client", note[k][i]);
			free(note[k][i]);
		}
	}

	for (size_t i = 0; i < n_tally; i++) {
		const struct tally *t = &tally[i];
		char count[32] = "";

		if (snip_counts)
			snprintf(count, sizeof(count), " times %lu", t->n);
		if (asprintf(&line[i], "%s %s = %ld errno %d ssl %d queue %lx%s", t->role, t->call, t->result, t->err,
			     t->ssl, t->queue, count) == -1)
			abort();
	}
	qsort(line, n_tally, sizeof(line[0]), by_text);
	for (size_t i = 0; i < n_tally; i++) {
		puts(line[i]);
		free(line[i]);
	}
}

long snip_arg(const struct snip *s, int i, long def)
{
	return i < s->argc ? strtol(s->argv[i], NULL, 10) : def;
}

struct side {
	struct snip s;
	void (*f)(struct snip *);
};

static void *run_side(void *arg)
{
	struct side *x = arg;

	my_role = x->s.role;
	x->f(&x->s);
	return NULL;
}

int snip_run(int argc, char **argv, void (*server)(struct snip *), void (*client)(struct snip *))
{
	struct side sv = {.s = {.role = "server", .listener = -1}, .f = server}, cl = sv;
	bool both = argc > 1 && strcmp(argv[1], "both") == 0;
	pthread_t thread;
	pid_t pid = -1;

	if (argc < 4 || (!both && strcmp(argv[1], "server") != 0 && strcmp(argv[1], "client") != 0)) {
		fprintf(stderr, "usage: %s server|client|both ADDR PORT [ARG]...\n", argv[0]);
		return 2;
	}
	signal(SIGPIPE, SIG_IGN);
	sv.s.addr = cl.s.addr = argv[2];
	sv.s.port = cl.s.port = atoi(argv[3]);
	sv.s.argc = cl.s.argc = argc - 4;
	sv.s.argv = cl.s.argv = argv + 4;
	cl.s.role = "client";
	cl.f = client;
	if (both) {
		start_listening(&sv.s);
		cl.s.port = sv.s.port;
		if (snip_processes) {
			pid = fork();
		} else if (pthread_create(&thread, NULL, run_side, &sv) != 0) {
			snip_die("thread");
		}
		run_side(pid == 0 ? &sv : &cl);
		if (!snip_processes)
			pthread_join(thread, NULL);
		else if (pid > 0)
			(void)waitpid(pid, NULL, 0);
		close(sv.s.listener);
	} else if (strcmp(argv[1], "server") == 0) {
		start_listening(&sv.s);
		run_side(&sv);
		close(sv.s.listener);
	} else {
		run_side(&cl);
	}
	print_results();
	for (unsigned i = 0; i < 100 && count_entries("/proc/self/task") > 3; i++)
		usleep(1000); /* a joined thread may still be on its way out */
	printf("descriptors %u threads %u\n", count_entries("/proc/self/fd") - 3, count_entries("/proc/self/task") - 2);
	return ferror(stdout) || fflush(stdout) != 0 ? 1 : 0;
}
