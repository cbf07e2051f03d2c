/* SPDX-License-Identifier: Apache-2.0 */
/* hooks.h - the table: one line per interposed function, and per function we ask the library.
 *
 *   HOOK(result, name, (parameters), what the call returns when no TLS library can be found)
 *
 * The prototypes are those of SSL_read(3), SSL_write(3), SSL_shutdown(3), SSL_free(3), SSL_clear(3), BIO_read(3) of
 * OpenSSL 1.1.1 and 3.x; BoringSSL and LibreSSL have the same ones; and of gnutls_record_send(3) and its
 * neighbours since GnuTLS 3.4. We include no header of theirs: one binary serves them all. */
#ifndef TLSTAP_HOOKS_H
#define TLSTAP_HOOKS_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "facts.h"
#include "hooks_embedded.h"

typedef struct ssl_st SSL;
typedef struct bio_st BIO;
typedef struct bio_method_st BIO_METHOD;

struct gnutls_session_int;
struct mbuffer_st;
typedef struct gnutls_session_int *gnutls_session_t;
typedef struct mbuffer_st *gnutls_packet_t;
struct gnutls_datum {
	unsigned char *data;
	unsigned int size;
};
#define GNUTLS_E_INTERNAL_ERROR (-59)

/* A layer of a descriptor (prio.h); lower is NULL for the last one. */
typedef struct PRFileDesc {
	const void *methods;
	void *secret;
	struct PRFileDesc *lower, *higher;
	void (*dtor)(struct PRFileDesc *fd);
	int identity;
} PRFileDesc;
struct nspr_vec {
	char *base;
	int len;
};

#define OPENSSL_HOOKS(HOOK)                                                                                    \
	HOOK(int, SSL_read, (SSL * ssl, void *buf, int num), -1)                                               \
	HOOK(int, SSL_read_ex, (SSL * ssl, void *buf, size_t num, size_t *readbytes), 0)                       \
	HOOK(int, SSL_write, (SSL * ssl, const void *buf, int num), -1)                                        \
	HOOK(int, SSL_write_ex, (SSL * ssl, const void *buf, size_t num, size_t *written), 0)                  \
	HOOK(int, SSL_write_ex2, (SSL * ssl, const void *buf, size_t num, uint64_t flags, size_t *written), 0) \
	HOOK(int, SSL_write_early_data, (SSL * ssl, const void *buf, size_t num, size_t *written), 0)          \
	HOOK(int, SSL_read_early_data, (SSL * ssl, void *buf, size_t num, size_t *readbytes), 0)               \
	HOOK(ssize_t, SSL_sendfile, (SSL * ssl, int fd, off_t offset, size_t size, int flags), -1)             \
	HOOK(int, SSL_do_handshake, (SSL * ssl), -1)                                                           \
	HOOK(int, SSL_connect, (SSL * ssl), -1)                                                                \
	HOOK(int, SSL_accept, (SSL * ssl), -1)                                                                 \
	HOOK(int, SSL_shutdown, (SSL * ssl), -1)                                                               \
	HOOK(void, SSL_free, (SSL * ssl), )                                                                    \
	HOOK(int, SSL_clear, (SSL * ssl), 0)

/* Of libcrypto. Without BIO_gets() and BIO_puts(): a filter's gets and an SSL BIO's puts call these. */
#define BIO_HOOKS(HOOK)                                                                  \
	HOOK(int, BIO_read, (BIO * bio, void *buf, int num), -1)                         \
	HOOK(int, BIO_read_ex, (BIO * bio, void *buf, size_t num, size_t *readbytes), 0) \
	HOOK(int, BIO_write, (BIO * bio, const void *buf, int num), -1)                  \
	HOOK(int, BIO_write_ex, (BIO * bio, const void *buf, size_t num, size_t *written), 0)

/* What we ask of the library that owns a handle. None of these touches the error queue with the
 * arguments we give; any of them may be missing (NULL). */
#define OPENSSL_ASKS(ASK)                                                                                  \
	ASK(size_t, SSL_get_client_random, (const SSL *ssl, unsigned char *out, size_t outlen))            \
	ASK(size_t, SSL_get_server_random, (const SSL *ssl, unsigned char *out, size_t outlen))            \
	ASK(int, SSL_is_init_finished, (const SSL *ssl))                                                   \
	ASK(int, SSL_state, (const SSL *ssl))                                                              \
	ASK(int, SSL_is_server, (const SSL *ssl))                                                          \
	ASK(int, SSL_is_dtls, (const SSL *ssl))                                                            \
	ASK(int, SSL_is_quic, (const SSL *ssl))                                                            \
	ASK(int, SSL_version, (const SSL *ssl))                                                            \
	ASK(int, SSL_get_early_data_status, (const SSL *ssl))                                              \
	ASK(int, SSL_in_early_data, (const SSL *ssl))                                                      \
	ASK(int, SSL_early_data_accepted, (const SSL *ssl))                                                \
	ASK(const char *, SSL_get_servername, (const SSL *ssl, int type))                                  \
	ASK(void, SSL_get0_alpn_selected, (const SSL *ssl, const unsigned char **data, unsigned int *len)) \
	ASK(BIO *, SSL_get_rbio, (const SSL *ssl))                                                         \
	ASK(int, SSL_get_rfd, (const SSL *ssl))                                                            \
	ASK(BIO *, BIO_find_type, (BIO * bio, int type))                                                   \
	ASK(void *, BIO_get_callback, (const BIO *bio))                                                    \
	ASK(void *, BIO_get_callback_ex, (const BIO *bio))                                                 \
	ASK(const BIO_METHOD *, BIO_f_ssl, (void))                                                         \
	ASK(void *, BIO_get_data, (BIO * bio))

/* Without gnutls_record_send_early_data(): gnutls_handshake() calls gnutls_record_send() for what that was given. */
#define GNUTLS_HOOKS(HOOK)                                                                                             \
	HOOK(ssize_t, gnutls_record_send, (gnutls_session_t s, const void *data, size_t size),                         \
	     GNUTLS_E_INTERNAL_ERROR)                                                                                  \
	HOOK(ssize_t, gnutls_record_send2,                                                                             \
	     (gnutls_session_t s, const void *data, size_t size, size_t pad, unsigned flags), GNUTLS_E_INTERNAL_ERROR) \
	HOOK(ssize_t, gnutls_record_send_range,                                                                        \
	     (gnutls_session_t s, const void *data, size_t size, const void *range), GNUTLS_E_INTERNAL_ERROR)          \
	HOOK(ssize_t, gnutls_record_send_file, (gnutls_session_t s, int fd, off_t *offset, size_t count),              \
	     GNUTLS_E_INTERNAL_ERROR)                                                                                  \
	HOOK(int, gnutls_record_uncork, (gnutls_session_t s, unsigned flags), GNUTLS_E_INTERNAL_ERROR)                 \
	HOOK(ssize_t, gnutls_record_recv, (gnutls_session_t s, void *data, size_t size), GNUTLS_E_INTERNAL_ERROR)      \
	HOOK(ssize_t, gnutls_record_recv_seq, (gnutls_session_t s, void *data, size_t size, unsigned char *seq),       \
	     GNUTLS_E_INTERNAL_ERROR)                                                                                  \
	HOOK(ssize_t, gnutls_record_recv_packet, (gnutls_session_t s, gnutls_packet_t * packet),                       \
	     GNUTLS_E_INTERNAL_ERROR)                                                                                  \
	HOOK(ssize_t, gnutls_record_recv_early_data, (gnutls_session_t s, void *data, size_t size),                    \
	     GNUTLS_E_INTERNAL_ERROR)                                                                                  \
	HOOK(int, gnutls_handshake, (gnutls_session_t s), GNUTLS_E_INTERNAL_ERROR)                                     \
	HOOK(int, gnutls_bye, (gnutls_session_t s, int how), GNUTLS_E_INTERNAL_ERROR)                                  \
	HOOK(void, gnutls_deinit, (gnutls_session_t s), )

/* These have no error state; with debug messages of level 3 switched on, GnuTLS logs that there is no SNI or ALPN. */
#define GNUTLS_ASKS(ASK)                                                                                            \
	ASK(void, gnutls_session_get_random,                                                                        \
	    (const void *s, struct gnutls_datum *client, struct gnutls_datum *server))                              \
	ASK(unsigned, gnutls_session_get_flags, (const void *s))                                                    \
	ASK(int, gnutls_protocol_get_version, (const void *s))                                                      \
	ASK(int, gnutls_server_name_get, (const void *s, void *data, size_t *size, unsigned *type, unsigned index)) \
	ASK(int, gnutls_alpn_get_selected_protocol, (const void *s, struct gnutls_datum *protocol))                 \
	ASK(void, gnutls_transport_get_ptr2, (const void *s, void **ret_recv, void **ret_send))                     \
	ASK(void, gnutls_packet_get, (gnutls_packet_t packet, struct gnutls_datum * data, unsigned char *seq))

/* Of prio.h of NSPR 4, in libnspr4, which knows nothing of TLS; and two of libssl3. */
#define NSPR_HOOKS(HOOK)                                                                                        \
	HOOK(int, PR_Read, (PRFileDesc * fd, void *buf, int num), -1)                                           \
	HOOK(int, PR_Write, (PRFileDesc * fd, const void *buf, int num), -1)                                    \
	HOOK(int, PR_Recv, (PRFileDesc * fd, void *buf, int num, int flags, unsigned timeout), -1)              \
	HOOK(int, PR_Send, (PRFileDesc * fd, const void *buf, int num, int flags, unsigned timeout), -1)        \
	HOOK(int, PR_Writev, (PRFileDesc * fd, const struct nspr_vec *vec, int num, unsigned timeout), -1)      \
	HOOK(int, PR_TransmitFile,                                                                              \
	     (PRFileDesc * fd, PRFileDesc * file, const void *head, int num, int flags, unsigned timeout), -1)  \
	HOOK(int, PR_SendFile, (PRFileDesc * fd, void *data, int flags, unsigned timeout), -1)                  \
	HOOK(int, PR_AcceptRead,                                                                                \
	     (PRFileDesc * listener, PRFileDesc * *ret, void **addr, void *buf, int num, unsigned timeout), -1) \
	HOOK(PRFileDesc *, PR_Accept, (PRFileDesc * listener, void *addr, unsigned timeout), NULL)              \
	HOOK(int, PR_Shutdown, (PRFileDesc * fd, int how), -1)                                                  \
	HOOK(int, PR_Close, (PRFileDesc * fd), -1)                                                              \
	HOOK(PRFileDesc *, SSL_ImportFD, (PRFileDesc * model, PRFileDesc * fd), NULL)                           \
	HOOK(int, SSL_ResetHandshake, (PRFileDesc * fd, int server), -1)

/* Of libssl3 and libnspr4; with these arguments they succeed, and leave PR_GetError() alone. */
#define NSS_ASKS(ASK)                                                                                      \
	ASK(int, SSL_GetChannelInfo, (PRFileDesc * fd, void *ret, unsigned size))                          \
	ASK(int, SSL_GetPreliminaryChannelInfo, (PRFileDesc * fd, void *ret, unsigned size))               \
	ASK(int, SSL_GetNextProto, (PRFileDesc * fd, int *state, void *ret, unsigned *len, unsigned size)) \
	ASK(const void *, PR_GetTCPMethods, (void))                                                        \
	ASK(const void *, PR_GetUDPMethods, (void))                                                        \
	ASK(int, PR_FileDesc2NativeHandle, (PRFileDesc * fd))                                              \
	ASK(int, PR_GetError, (void))                                                                      \
	ASK(int, PR_GetOSError, (void))                                                                    \
	ASK(void, PR_SetError, (int code, int os_error))

#define PROTOTYPE(ret, name, args, fail) __attribute__((visibility("default"))) ret name args;
OPENSSL_HOOKS(PROTOTYPE)
BIO_HOOKS(PROTOTYPE)
GNUTLS_HOOKS(PROTOTYPE)
NSPR_HOOKS(PROTOTYPE)
MBEDTLS_HOOKS(PROTOTYPE)
WOLFSSL_HOOKS(PROTOTYPE)
#undef PROTOTYPE

/* The functions of one TLS library object, or of a libcrypto; a libssl has those of its libcrypto, too. */
struct tls_lib {
	uintptr_t lo, hi;	       /* where it is mapped */
	const struct tls_facts *facts; /* what kind it is; NULL: none that we know */
	const char *soname;	       /* what modules call it that need it; NULL: it has no name */
#define HOOK_MEMBER(ret, name, args, fail) ret(*name) args;
#define ASK_MEMBER(ret, name, args) ret(*name) args;
	OPENSSL_HOOKS(HOOK_MEMBER)
	BIO_HOOKS(HOOK_MEMBER)
	OPENSSL_ASKS(ASK_MEMBER)
	GNUTLS_HOOKS(HOOK_MEMBER)
	GNUTLS_ASKS(ASK_MEMBER)
	NSPR_HOOKS(HOOK_MEMBER)
	NSS_ASKS(ASK_MEMBER)
	MBEDTLS_HOOKS(HOOK_MEMBER)
	MBEDTLS_ASKS(ASK_MEMBER)
	WOLFSSL_HOOKS(HOOK_MEMBER)
	WOLFSSL_ASKS(ASK_MEMBER)
#undef HOOK_MEMBER
#undef ASK_MEMBER
};

#endif
