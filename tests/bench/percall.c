/* SPDX-License-Identifier: Apache-2.0 */
/* What one hooked SSL_write or SSL_read costs: in one process, on one connection, batches of calls through
 * the hook and batches of calls straight into libssl take turns, and the CPU time of this thread is
 * compared. Not preloaded, both are the same, which shows the noise.
 *
 *   percall SIZE CALLS [ROUNDS]    prints "read DIRECT ADDED", "write DIRECT ADDED", "memcpy NS":
 *                                  nanoseconds per call, medians over ROUNDS (31) pairs of batches
 *
 * Records are written into a BIO that swallows them, and read through a buffer of 1 MiB from a TCP
 * connection whose other end is a process without the tap, so that what is left is libssl's own work. */
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include <openssl/ssl.h>
#include <openssl/x509.h>

#define ROUNDS_MAX 1001
#define BUFFER (1 << 20)

static void die(const char *what)
{
	perror(what);
	_exit(1);
}

static void make_certificate(SSL_CTX *ctx)
{
	EVP_PKEY *key = EVP_EC_gen("P-256");
	X509 *x = X509_new();

	ASN1_INTEGER_set(X509_get_serialNumber(x), 1);
	X509_gmtime_adj(X509_getm_notBefore(x), -3600);
	X509_gmtime_adj(X509_getm_notAfter(x), 86400);
	X509_set_pubkey(x, key);
	X509_NAME_add_entry_by_txt(X509_get_subject_name(x), "CN", MBSTRING_ASC, (const uint8_t *)"bench.test", -1, -1,
				   0);
	X509_set_issuer_name(x, X509_get_subject_name(x));
	if (X509_sign(x, key, EVP_sha256()) == 0 || SSL_CTX_use_certificate(ctx, x) != 1 ||
	    SSL_CTX_use_PrivateKey(ctx, key) != 1)
		die("certificate");
	X509_free(x);
	EVP_PKEY_free(key);
}

/* A TLS end over @fd, its records buffered, so that few system calls are made. */
static SSL *tls(int fd, int server)
{
	SSL_CTX *ctx = SSL_CTX_new(server ? TLS_server_method() : TLS_client_method());
	BIO *buffer = BIO_new(BIO_f_buffer());
	SSL *ssl;
	int on = 1;

	(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	SSL_CTX_set_ciphersuites(ctx, "TLS_AES_128_GCM_SHA256");
	SSL_CTX_set_num_tickets(ctx, 0);
	if (server)
		make_certificate(ctx);
	ssl = SSL_new(ctx);
	BIO_set_buffer_size(buffer, BUFFER);
	BIO_push(buffer, BIO_new_socket(fd, BIO_NOCLOSE));
	SSL_set_bio(ssl, buffer, buffer);
	if ((server ? SSL_accept(ssl) : SSL_connect(ssl)) != 1)
		die("handshake");
	return ssl;
}

/* The other end: writes records of @size for ever. */
static int peer(int port, int size)
{
	struct sockaddr_in a = {.sin_family = AF_INET,
				.sin_port = htons((uint16_t)port),
				.sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	char *b = calloc(1, (size_t)size);
	SSL *ssl;

	if (connect(fd, (void *)&a, sizeof(a)) == -1)
		die("connect");
	ssl = tls(fd, 0);
	while (SSL_write(ssl, b, size) == size)
		;
	return 0;
}

static uint64_t cpu_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

typedef int (*read_fn)(SSL *, void *, int);
typedef int (*write_fn)(SSL *, const void *, int);

static double write_batch(write_fn f, SSL *ssl, const char *b, int size, long calls)
{
	uint64_t t = cpu_ns();

	for (long i = 0; i < calls; i++) {
		if (f(ssl, b, size) != size)
			die("SSL_write");
	}
	return (double)(cpu_ns() - t) / (double)calls;
}

static double read_batch(read_fn f, SSL *ssl, char *b, int size, long calls)
{
	uint64_t t = cpu_ns();

	for (long i = 0; i < calls; i++) {
		if (f(ssl, b, size) != size)
			die("SSL_read");
	}
	return (double)(cpu_ns() - t) / (double)calls;
}

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static double median(double *v, int n)
{
	qsort(v, (size_t)n, sizeof(v[0]), by_value);
	return v[n / 2];
}

/* Medians of the direct calls, and of the differences of pairs: noise that lasts falls on both of a pair. */
static void print(const char *what, double hooked[], double direct[], int rounds)
{
	double diff[ROUNDS_MAX];

	for (int i = 0; i < rounds; i++)
		diff[i] = hooked[i] - direct[i];
	printf("%s %.1f %.1f\n", what, median(direct, rounds), median(diff, rounds));
}

static double memcpy_ns(const char *from, int size)
{
	char *to = malloc(1 << 20);
	uint64_t t;
	long n = 20000;

	memset(to, 1, 1 << 20);
	t = cpu_ns();
	for (long i = 0; i < n; i++) {
		memcpy(to + i * size % ((1 << 20) - size), from, (size_t)size);
		__asm__ volatile("" ::: "memory");
	}
	free(to);
	return (double)(cpu_ns() - t) / (double)n;
}

static int spawn_peer(char **argv, int port, const char *size)
{
	pid_t pid = fork();
	char text[16];

	if (pid != 0)
		return pid;
	snprintf(text, sizeof(text), "%d", port);
	unsetenv("LD_PRELOAD");
	execl("/proc/self/exe", argv[0], "peer", text, size, (char *)NULL);
	_exit(1);
}

int main(int argc, char **argv)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t n = sizeof(a);
	void *libssl = dlopen("libssl.so.3", RTLD_NOW | RTLD_NOLOAD);
	int l = socket(AF_INET, SOCK_STREAM, 0), size, rounds;
	double hooked[ROUNDS_MAX], direct[ROUNDS_MAX];
	read_fn direct_read;
	write_fn direct_write;
	long calls;
	char *b;
	SSL *ssl;

	if (argc == 4 && strcmp(argv[1], "peer") == 0)
		return peer(atoi(argv[2]), atoi(argv[3]));
	if (argc < 3 || libssl == NULL) {
		fprintf(stderr, "usage: %s SIZE CALLS [ROUNDS]\n", argv[0]);
		return 2;
	}
	size = atoi(argv[1]);
	calls = atol(argv[2]);
	rounds = argc > 3 ? atoi(argv[3]) : 31;
	if (rounds < 1 || rounds > ROUNDS_MAX || size < 1 || size > 16384)
		return 2;
	direct_read = (read_fn)(uintptr_t)dlsym(libssl, "SSL_read");
	direct_write = (write_fn)(uintptr_t)dlsym(libssl, "SSL_write");
	b = malloc((size_t)size);
	memset(b, 'b', (size_t)size);
	if (bind(l, (void *)&a, n) == -1 || listen(l, 1) == -1 || getsockname(l, (void *)&a, &n) == -1)
		die("listen");
	(void)spawn_peer(argv, ntohs(a.sin_port), argv[1]);
	ssl = tls(accept(l, NULL, NULL), 1);

	for (int i = -2; i < rounds; i++) { /* the first ones warm up */
		int k = i < 0 ? 0 : i;

		hooked[k] = read_batch(SSL_read, ssl, b, size, calls);
		direct[k] = read_batch(direct_read, ssl, b, size, calls);
	}
	print("read", hooked, direct, rounds);
	SSL_set0_wbio(ssl, BIO_new(BIO_s_null()));
	for (int i = -2; i < rounds; i++) {
		int k = i < 0 ? 0 : i;

		hooked[k] = write_batch(SSL_write, ssl, b, size, calls);
		direct[k] = write_batch(direct_write, ssl, b, size, calls);
	}
	print("write", hooked, direct, rounds);
	printf("memcpy %.1f\n", memcpy_ns(b, size));
	fflush(stdout);
	usleep(300000); /* let agentd read the rest before the process is gone */
	_exit(0);
}
