/* SPDX-License-Identifier: Apache-2.0 */
/* hooks_embedded.h - the part of hooks.h for mbedTLS and wolfSSL.
 *
 * The prototypes are those of mbedTLS 2.16 to 3.6 (ssl.h, net_sockets.h, debug.h) and of wolfSSL 4 and 5 (ssl.h). None
 * of their handles says whose it is, and mbedTLS's says next to nothing: see mbedtls.c. */
#ifndef TLSTAP_HOOKS_EMBEDDED_H
#define TLSTAP_HOOKS_EMBEDDED_H

#include <stddef.h>
#include <sys/uio.h>

struct mbedtls_ssl_context;
struct mbedtls_ssl_config;
typedef int mbedtls_send_f(void *ctx, const unsigned char *buf, size_t len);
typedef int mbedtls_recv_f(void *ctx, unsigned char *buf, size_t len);
typedef int mbedtls_recv_timeout_f(void *ctx, unsigned char *buf, size_t len, uint32_t timeout);
#define MBEDTLS_E_INTERNAL_ERROR (-0x6C00)
#define MBEDTLS_E_WANT_WRITE (-0x6880)

typedef struct WOLFSSL WOLFSSL;
#define WOLFSSL_E_FATAL (-1)

#define MBEDTLS_HOOKS(HOOK)                                                                                     \
	HOOK(int, mbedtls_ssl_read, (struct mbedtls_ssl_context * ssl, unsigned char *buf, size_t len),         \
	     MBEDTLS_E_INTERNAL_ERROR)                                                                          \
	HOOK(int, mbedtls_ssl_write, (struct mbedtls_ssl_context * ssl, const unsigned char *buf, size_t len),  \
	     MBEDTLS_E_INTERNAL_ERROR)                                                                          \
	HOOK(int, mbedtls_ssl_handshake, (struct mbedtls_ssl_context * ssl), MBEDTLS_E_INTERNAL_ERROR)          \
	HOOK(int, mbedtls_ssl_handshake_step, (struct mbedtls_ssl_context * ssl), MBEDTLS_E_INTERNAL_ERROR)     \
	HOOK(int, mbedtls_ssl_close_notify, (struct mbedtls_ssl_context * ssl), MBEDTLS_E_INTERNAL_ERROR)       \
	HOOK(int, mbedtls_ssl_session_reset, (struct mbedtls_ssl_context * ssl), MBEDTLS_E_INTERNAL_ERROR)      \
	HOOK(int, mbedtls_ssl_setup, (struct mbedtls_ssl_context * ssl, const struct mbedtls_ssl_config *conf), \
	     MBEDTLS_E_INTERNAL_ERROR)                                                                          \
	HOOK(void, mbedtls_ssl_free, (struct mbedtls_ssl_context * ssl), )                                      \
	HOOK(void, mbedtls_ssl_set_bio,                                                                         \
	     (struct mbedtls_ssl_context * ssl, void *bio, mbedtls_send_f *send, mbedtls_recv_f *recv,          \
	      mbedtls_recv_timeout_f *recv_timeout), )                                                          \
	HOOK(void, mbedtls_debug_print_buf,                                                                     \
	     (const struct mbedtls_ssl_context *ssl, int level, const char *file, int line, const char *text,   \
	      const unsigned char *buf, size_t len), )

#define MBEDTLS_ASKS(ASK)                                                             \
	ASK(const char *, mbedtls_ssl_get_ciphersuite, (const void *ssl))             \
	ASK(int, mbedtls_ssl_get_max_out_record_payload, (const void *ssl))           \
	ASK(const char *, mbedtls_ssl_get_version, (const void *ssl))                 \
	ASK(const char *, mbedtls_ssl_get_alpn_protocol, (const void *ssl))           \
	ASK(int, mbedtls_net_send, (void *ctx, const unsigned char *buf, size_t len)) \
	ASK(int, mbedtls_net_recv, (void *ctx, unsigned char *buf, size_t len))       \
	ASK(int, mbedtls_net_recv_timeout, (void *ctx, unsigned char *buf, size_t len, uint32_t timeout))

#define WOLFSSL_HOOKS(HOOK)                                                                            \
	HOOK(int, wolfSSL_read, (WOLFSSL * ssl, void *buf, int len), WOLFSSL_E_FATAL)                  \
	HOOK(int, wolfSSL_recv, (WOLFSSL * ssl, void *buf, int len, int flags), WOLFSSL_E_FATAL)       \
	HOOK(int, wolfSSL_write, (WOLFSSL * ssl, const void *buf, int len), WOLFSSL_E_FATAL)           \
	HOOK(int, wolfSSL_send, (WOLFSSL * ssl, const void *buf, int len, int flags), WOLFSSL_E_FATAL) \
	HOOK(int, wolfSSL_writev, (WOLFSSL * ssl, const struct iovec *vec, int n), WOLFSSL_E_FATAL)    \
	HOOK(int, wolfSSL_negotiate, (WOLFSSL * ssl), WOLFSSL_E_FATAL)                                 \
	HOOK(int, wolfSSL_connect, (WOLFSSL * ssl), WOLFSSL_E_FATAL)                                   \
	HOOK(int, wolfSSL_accept, (WOLFSSL * ssl), WOLFSSL_E_FATAL)                                    \
	HOOK(int, wolfSSL_connect_TLSv13, (WOLFSSL * ssl), WOLFSSL_E_FATAL)                            \
	HOOK(int, wolfSSL_accept_TLSv13, (WOLFSSL * ssl), WOLFSSL_E_FATAL)                             \
	HOOK(int, wolfSSL_shutdown, (WOLFSSL * ssl), WOLFSSL_E_FATAL)                                  \
	HOOK(void, wolfSSL_free, (WOLFSSL * ssl), )                                                    \
	HOOK(int, wolfSSL_clear, (WOLFSSL * ssl), 0)

/* Some builds lack the ones, some the others. With these arguments none touches the error queue. */
#define WOLFSSL_ASKS(ASK)                                                                          \
	ASK(size_t, wolfSSL_get_client_random, (const void *ssl, unsigned char *out, size_t size)) \
	ASK(size_t, wolfSSL_get_server_random, (const void *ssl, unsigned char *out, size_t size)) \
	ASK(int, wolfSSL_get_fd, (const void *ssl))                                                \
	ASK(int, wolfSSL_is_init_finished, (const void *ssl))                                      \
	ASK(int, wolfSSL_GetSide, (const void *ssl))                                               \
	ASK(int, wolfSSL_is_server, (const void *ssl))                                             \
	ASK(int, wolfSSL_dtls, (const void *ssl))                                                  \
	ASK(int, wolfSSL_version, (const void *ssl))                                               \
	ASK(const char *, wolfSSL_get_servername, (const void *ssl, unsigned char type))

#endif
