/* SPDX-License-Identifier: Apache-2.0 */
/* test_tls.c - TLS over a socket pair: handshake, bulk both ways, full sockets, ends good and bad. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>
#include <openssl/ssl.h>

#include "common/identity.h"
#include "common/tls.h"

static char dir[64];
static struct tls_ctx *server_ctx, *client_ctx;
static struct tls *server, *client;
static int fd[2];

static int set_up(void **state)
{
	char err[TLS_ERR];

	(void)state;
	(void)snprintf(dir, sizeof(dir), "test_tls.XXXXXX");
	if (mkdtemp(dir) == NULL || rmdir(dir) == -1) /* the state directory is made by the first start */
		return -1;
	return tls_ctx_server(&server_ctx, dir, err) != 0 || tls_ctx_client(&client_ctx, err) != 0;
}

static int tear_down(void **state)
{
	char path[128];

	(void)state;
	tls_ctx_free(&server_ctx);
	tls_ctx_free(&client_ctx);
	(void)snprintf(path, sizeof(path), "%s/%s", dir, IDENTITY_FILE);
	(void)unlink(path);
	return rmdir(dir);
}

static void connect_pair(void)
{
	enum tls_ret a = TLS_WANT_READ, b = TLS_WANT_READ;

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fd), 0);
	assert_int_equal(tls_new(&client, client_ctx, fd[0], "receiver.example"), 0);
	assert_int_equal(tls_new(&server, server_ctx, fd[1], NULL), 0);
	for (int i = 0; i < 20 && (a != TLS_OK || b != TLS_OK); i++) {
		a = tls_handshake(client);
		b = tls_handshake(server);
	}
	assert_true(a == TLS_OK && b == TLS_OK);
}

static void hang_up(void)
{
	tls_free(&client);
	tls_free(&server);
	close(fd[0]);
	close(fd[1]);
}

static void test_handshake_is_1_3_and_shows_the_certificate(void **state)
{
	char text[64], print[TLS_PRINT];

	(void)state;
	connect_pair();
	assert_string_equal(tls_describe(client, text, sizeof(text)), "TLSv1.3 TLS_AES_128_GCM_SHA256");
	tls_peer_print(client, print);
	assert_int_equal(strlen(print), 64);
	assert_string_equal(print, tls_ctx_print(server_ctx));
	hang_up();
}

static void test_identity_is_kept_and_private(void **state)
{
	struct tls_ctx *again;
	char err[TLS_ERR], path[128];
	struct stat st;

	(void)state;
	assert_int_equal(tls_ctx_server(&again, dir, err), 0);
	assert_string_equal(tls_ctx_print(again), tls_ctx_print(server_ctx));
	tls_ctx_free(&again);
	(void)snprintf(path, sizeof(path), "%s/%s", dir, IDENTITY_FILE);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
}

static void test_bad_identity_is_one_line(void **state)
{
	char err[TLS_ERR] = "", path[128], bad[80];
	struct tls_ctx *c = NULL;
	FILE *f;

	(void)state;
	(void)snprintf(bad, sizeof(bad), "%s-bad", dir);
	(void)snprintf(path, sizeof(path), "%s/%s", bad, IDENTITY_FILE);
	assert_int_equal(mkdir(bad, 0700), 0);
	f = fopen(path, "w");
	assert_non_null(f);
	(void)fputs("no key\n", f);
	(void)fclose(f);
	assert_int_equal(tls_ctx_server(&c, bad, err), -EBADMSG);
	assert_non_null(strstr(err, path));
	assert_null(strchr(err, '\n'));
	assert_null(c);
	(void)unlink(path);
	(void)rmdir(bad);
	assert_true(tls_ctx_server(&c, "/proc/nix", err) < 0);
	assert_non_null(strstr(err, "/proc/nix"));
}

/* Bytes whose place in the stream can be told. */
static uint8_t at(size_t off)
{
	return (uint8_t)(off ^ off >> 8 ^ off >> 16);
}

static void test_bulk_with_full_sockets(void **state)
{
	const size_t total = 8 << 20;
	uint8_t *in = malloc(total), *out = malloc(total);
	size_t sent = 0, got = 0, n;
	unsigned seed = 3;

	(void)state;
	connect_pair();
	for (size_t i = 0; i < total; i++)
		in[i] = at(i);
	while (got < total) {
		size_t want = (size_t)rand_r(&seed) % 300000;
		enum tls_ret r = TLS_OK;

		if (sent < total) {
			r = tls_write(client, in + sent, want < total - sent ? want : total - sent, &n);
			assert_true(r == TLS_OK || r == TLS_WANT_WRITE);
			sent += n;
		}
		assert_true(tls_unsent(client) <= TLS_OUT_MAX);
		r = tls_flush(client);
		assert_true(r == TLS_OK || r == TLS_WANT_WRITE);
		r = tls_read(server, out + got, total - got, &n);
		assert_true(r == TLS_OK || r == TLS_WANT_READ);
		got += n;
	}
	assert_memory_equal(in, out, total);
	assert_true(tls_sent(client) > total);
	hang_up();
	free(in);
	free(out);
}

static void test_close_notify_and_a_cut_are_closed(void **state)
{
	uint8_t buf[16];
	size_t n;

	(void)state;
	connect_pair();
	assert_int_equal(tls_write(client, "hello", 5, &n), TLS_OK);
	tls_free(&client); /* flushes and says goodbye */
	assert_int_equal(tls_read(server, buf, sizeof(buf), &n), TLS_CLOSED);
	assert_int_equal(n, 5);
	hang_up();

	connect_pair();
	(void)shutdown(fd[0], SHUT_RDWR);
	assert_int_equal(tls_read(server, buf, sizeof(buf), &n), TLS_CLOSED);
	assert_int_equal(n, 0);
	hang_up();
}

static void test_garbage_fails(void **state)
{
	uint8_t buf[64];
	size_t n;

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fd), 0);
	assert_int_equal(tls_new(&server, server_ctx, fd[1], NULL), 0);
	assert_int_equal(tls_handshake(server), TLS_WANT_READ);
	assert_int_equal(write(fd[0], "GET / HTTP/1.1\r\n\r\n", 18), 18);
	assert_int_equal(tls_handshake(server), TLS_FAILED);
	assert_true(strlen(tls_error(server)) > 0);
	hang_up();

	connect_pair(); /* garbage after the handshake */
	memset(buf, 0x17, sizeof(buf));
	assert_int_equal(write(fd[0], buf, sizeof(buf)), sizeof(buf));
	assert_int_equal(tls_read(server, buf, sizeof(buf), &n), TLS_FAILED);
	hang_up();
}

static void test_key_updates_without_end_fail(void **state)
{
	SSL_CTX *c = SSL_CTX_new(TLS_client_method());
	SSL *evil = SSL_new(c);
	enum tls_ret r = TLS_WANT_READ;
	uint8_t buf[64];
	size_t n;

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fd), 0);
	assert_int_equal(tls_new(&server, server_ctx, fd[1], NULL), 0);
	assert_int_equal(SSL_set_fd(evil, fd[0]), 1);
	for (int i = 0; i < 20 && r != TLS_OK; i++) {
		(void)SSL_connect(evil);
		r = tls_handshake(server);
	}
	assert_int_equal(r, TLS_OK);
	assert_int_equal(SSL_key_update(evil, SSL_KEY_UPDATE_NOT_REQUESTED), 1); /* one is fine */
	assert_int_equal(SSL_do_handshake(evil), 1);
	assert_int_equal(SSL_write(evil, "x", 1), 1);
	assert_int_equal(tls_read(server, buf, sizeof(buf), &n), TLS_WANT_READ);
	assert_int_equal(n, 1);
	for (int i = 0; i < 100 && r != TLS_FAILED; i++) {
		for (int k = 0; k < 100; k++) {
			(void)SSL_key_update(evil, SSL_KEY_UPDATE_NOT_REQUESTED);
			(void)SSL_do_handshake(evil);
		}
		r = tls_read(server, buf, sizeof(buf), &n);
		assert_int_equal(n, 0);
	}
	assert_int_equal(r, TLS_FAILED);
	assert_non_null(strstr(tls_error(server), "too many"));
	SSL_free(evil);
	SSL_CTX_free(c);
	hang_up();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_handshake_is_1_3_and_shows_the_certificate),
		cmocka_unit_test(test_identity_is_kept_and_private),
		cmocka_unit_test(test_bad_identity_is_one_line),
		cmocka_unit_test(test_bulk_with_full_sockets),
		cmocka_unit_test(test_close_notify_and_a_cut_are_closed),
		cmocka_unit_test(test_garbage_fails),
		cmocka_unit_test(test_key_updates_without_end_fail),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
