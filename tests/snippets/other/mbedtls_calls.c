/* SPDX-License-Identifier: Apache-2.0 */
/* Every call of mbedTLS that moves data or makes a connection. Started as other.h says.
 * ARG: how the library gets at the socket: net (its own functions), timeout (those with a timeout), late (it is told
 *      where the descriptor will be before there is one), own (functions of the program);
 *      or (by net) nonblock, again (as that, and a call that is repeated is given no data), step (by step), implicit
 *      (handshake), half (one side is silent early), renegotiate, reset (five connections of one context), abandon
 *      (likewise, but the context is made anew and never freed), debug (it hears the library's debug messages),
 *      dtls (two lines), silly (arguments that make no sense) */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <mbedtls/ctr_drbg.h>
#include <mbedtls/debug.h>
#include <mbedtls/entropy.h>
#include <mbedtls/error.h>
#include <mbedtls/net_sockets.h>
#include <mbedtls/pk.h>
#include <mbedtls/ssl.h>
#include <mbedtls/timing.h>
#include <mbedtls/version.h>
#include <mbedtls/x509_crt.h>

#include "other.h"

#define CONNECTIONS 5

static mbedtls_entropy_context entropy;
static mbedtls_ctr_drbg_context drbg;
static mbedtls_ssl_config conf;
static mbedtls_x509_crt cert;
static mbedtls_pk_context key;
static mbedtls_ssl_context context;
static mbedtls_net_context net;
static mbedtls_timing_delay_context timer;

static void must(int ret, const char *what)
{
	if (ret < 0)
		other_die(what, ret);
}

/* Messages of the randoms, and how many of them were not as they should be. */
static unsigned randoms, odd;

static void on_message(void *arg, int level, const char *file, int line, const char *text)
{
	if (!strstr(text, "hello, random bytes"))
		return;
	randoms++;
	odd += arg != &randoms || level != 3 || !strstr(file, "ssl_") || line <= 0;
}

static int parse_key(const char *file)
{
#if MBEDTLS_VERSION_MAJOR >= 3
	return mbedtls_pk_parse_keyfile(&key, file, NULL, mbedtls_ctr_drbg_random, &drbg);
#else
	return mbedtls_pk_parse_keyfile(&key, file, NULL);
#endif
}

static void init(void)
{
	mbedtls_entropy_init(&entropy);
	mbedtls_ctr_drbg_init(&drbg);
	mbedtls_ssl_config_init(&conf);
	mbedtls_x509_crt_init(&cert);
	mbedtls_pk_init(&key);
	mbedtls_ssl_init(&context);
	mbedtls_net_init(&net);
	must(mbedtls_ctr_drbg_seed(&drbg, mbedtls_entropy_func, &entropy, NULL, 0), "seed");
	must(mbedtls_ssl_config_defaults(&conf, other_server ? MBEDTLS_SSL_IS_SERVER : MBEDTLS_SSL_IS_CLIENT,
					 other_is("dtls") ? MBEDTLS_SSL_TRANSPORT_DATAGRAM
							  : MBEDTLS_SSL_TRANSPORT_STREAM,
					 MBEDTLS_SSL_PRESET_DEFAULT),
	     "defaults");
	mbedtls_ssl_conf_authmode(&conf, MBEDTLS_SSL_VERIFY_NONE);
	mbedtls_ssl_conf_rng(&conf, mbedtls_ctr_drbg_random, &drbg);
	mbedtls_ssl_conf_dtls_cookies(&conf, NULL, NULL, NULL);
	mbedtls_ssl_conf_renegotiation(&conf, MBEDTLS_SSL_RENEGOTIATION_ENABLED);
	if (other_is("debug")) {
		mbedtls_ssl_conf_dbg(&conf, on_message, &randoms);
		mbedtls_debug_set_threshold(3);
	}
	if (!other_server)
		return;
	must(mbedtls_x509_crt_parse_file(&cert, other_file("SNIP_CERT")), "certificate");
	must(parse_key(other_file("SNIP_KEY")), "key");
	must(mbedtls_ssl_conf_own_cert(&conf, &cert, &key), "own certificate");
}

/* --- one connection -------------------------------------------------------------------------------- */

static bool again(int ret)
{
	if (ret != MBEDTLS_ERR_SSL_WANT_READ && ret != MBEDTLS_ERR_SSL_WANT_WRITE)
		return false;
	other_wait(net.fd, ret == MBEDTLS_ERR_SSL_WANT_WRITE);
	return true;
}

static long call_read(void *ssl, void *buf, size_t size)
{
	int n;

	do {
		errno = 77;
		n = mbedtls_ssl_read(ssl, buf, size);
	} while (again(n));
	if (n <= 0)
		other_die("read", n);
	return n;
}

static long call_write(void *ssl, const void *buf, size_t size)
{
	int n;

	do {
		n = mbedtls_ssl_write(ssl, buf, size);
		if (n == MBEDTLS_ERR_SSL_WANT_WRITE && other_is("again"))
			buf = NULL;
	} while (again(n));
	if (n <= 0)
		other_die("write", n);
	return n;
}

static const struct other_calls calls = {call_read, call_write};

static int own_send(void *ctx, const unsigned char *buf, size_t len)
{
	ssize_t n = write(*(int *)ctx ^ 0x5555, buf, len);

	return n < 0 ? MBEDTLS_ERR_NET_SEND_FAILED : (int)n;
}

static int own_recv(void *ctx, unsigned char *buf, size_t len)
{
	ssize_t n = read(*(int *)ctx ^ 0x5555, buf, len);

	return n < 0 ? MBEDTLS_ERR_NET_RECV_FAILED : (int)n;
}

static void give_socket(mbedtls_ssl_context *ssl)
{
	static int disguised; /* looks like a descriptor, and is none */

	if (other_is("own")) {
		net.fd = other_tcp();
		disguised = net.fd ^ 0x5555;
		mbedtls_ssl_set_bio(ssl, &disguised, own_send, own_recv, NULL);
	} else if (other_is("late")) {
		mbedtls_ssl_set_bio(ssl, &net, mbedtls_net_send, mbedtls_net_recv, NULL);
		net.fd = other_tcp();
	} else if (other_is("dtls")) {
		net.fd = other_udp();
		mbedtls_ssl_set_bio(ssl, &net, mbedtls_net_send, mbedtls_net_recv, mbedtls_net_recv_timeout);
		mbedtls_ssl_set_timer_cb(ssl, &timer, mbedtls_timing_set_delay, mbedtls_timing_get_delay);
	} else if (other_is("timeout")) {
		net.fd = other_tcp();
		mbedtls_ssl_set_bio(ssl, &net, mbedtls_net_send, NULL, mbedtls_net_recv_timeout);
	} else {
		net.fd = other_tcp();
		if (other_is("nonblock") || other_is("again"))
			other_nonblock(net.fd);
		mbedtls_ssl_set_bio(ssl, &net, mbedtls_net_send, mbedtls_net_recv, NULL);
	}
}

static void shake_hands(mbedtls_ssl_context *ssl)
{
	int ret;

	if (other_is("implicit"))
		return;
	if (other_is("step")) { /* only the last step makes a session */
		while (mbedtls_ssl_get_ciphersuite(ssl) == NULL)
			must(mbedtls_ssl_handshake_step(ssl), "step");
		return;
	}
	while ((ret = mbedtls_ssl_handshake(ssl)) != 0)
		if (!again(ret))
			other_die("handshake", ret);
}

static void end(mbedtls_ssl_context *ssl)
{
	int ret;

	do
		ret = mbedtls_ssl_close_notify(ssl);
	while (again(ret));
	if (other_is("dtls"))
		close(net.fd);
	else
		other_close(net.fd);
}

/* Who has said that it is silent may still hear. */
static void half(mbedtls_ssl_context *ssl)
{
	unsigned char buf[16];

	other_line(&calls, ssl, 0);
	if (!other_server) {
		must(mbedtls_ssl_close_notify(ssl), "close_notify");
		call_read(ssl, buf, 4);
		other_save(false, buf, 4);
		other_close(net.fd);
		return;
	}
	printf("end %d\n", mbedtls_ssl_read(ssl, buf, sizeof(buf)) <= 0);
	call_write(ssl, "last", 4);
	other_save(true, "last", 4);
	end(ssl);
}

/* The client wants it; the server answers while it reads. */
static void renegotiate(mbedtls_ssl_context *ssl)
{
	other_line(&calls, ssl, 0);
	if (!other_server)
		must(mbedtls_ssl_renegotiate(ssl), "renegotiate");
	other_line(&calls, ssl, 1);
}

static void silly(mbedtls_ssl_context *ssl)
{
	unsigned char buf[16];
	mbedtls_ssl_context none;

	mbedtls_ssl_init(&none);
	printf("silly %x %x %x %x %x %x\n", -mbedtls_ssl_read(&none, buf, 1), -mbedtls_ssl_write(&none, buf, 1),
	       -mbedtls_ssl_handshake(&none), -mbedtls_ssl_close_notify(&none), -mbedtls_ssl_read(NULL, buf, 1),
	       -mbedtls_ssl_write(NULL, buf, 1));
	printf("silly %x %x %x\n", -mbedtls_ssl_handshake(NULL), -mbedtls_ssl_close_notify(NULL),
	       mbedtls_ssl_write(ssl, buf, 0));
	mbedtls_ssl_free(&none);
	mbedtls_ssl_free(NULL);
	other_line(&calls, ssl, 0);
}

static void one(mbedtls_ssl_context *ssl)
{
	other_begin();
	give_socket(ssl);
	shake_hands(ssl);
	if (other_is("half")) {
		half(ssl);
		return;
	}
	if (other_is("renegotiate"))
		renegotiate(ssl);
	else if (other_is("silly"))
		silly(ssl);
	else if (other_is("dtls"))
		other_line(&calls, ssl, 0);
	else
		other_talk(&calls, ssl);
	end(ssl);
}

int main(int argc, char **argv)
{
	int n = 1;

	other_init(argc, argv);
	init();
	if (other_is("reset") || other_is("abandon"))
		n = CONNECTIONS;
	must(mbedtls_ssl_setup(&context, &conf), "setup");
	for (int i = 0; i < n; i++) {
		one(&context);
		if (i + 1 < n && other_is("reset")) {
			must(mbedtls_ssl_session_reset(&context), "reset");
		} else if (i + 1 < n) {
			mbedtls_ssl_init(&context);
			must(mbedtls_ssl_setup(&context, &conf), "setup");
		}
	}
	if (other_is("debug"))
		printf("messages of randoms %u, odd %u\n", randoms, odd);
	mbedtls_ssl_free(&context);
	mbedtls_ssl_config_free(&conf);
	mbedtls_x509_crt_free(&cert);
	mbedtls_pk_free(&key);
	mbedtls_ctr_drbg_free(&drbg);
	mbedtls_entropy_free(&entropy);
	return other_done();
}
