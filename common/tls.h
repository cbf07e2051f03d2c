/* SPDX-License-Identifier: Apache-2.0 */
/* tls.h - TLS over a non-blocking socket, behind five results.
 *
 * TLS 1.3, or 1.2 with extended master secret; no renegotiation, compression, session tickets or early
 * data. Cleartext is encrypted in full 16 KiB records into a buffer of TLS_OUT_MAX bytes, which goes to
 * the socket in one write(2) when it is full or tls_flush() says so.
 *
 * The functions of libssl are called by the addresses in the library itself, so that a preloaded
 * libtlstap never sees the cleartext of our own tunnels.
 *
 * A context may be used by several threads once made, a connection by one. */
#ifndef TLSTAP_TLS_H
#define TLSTAP_TLS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TLS_OUT_MAX (256 * 1024) /* bytes of ciphertext gathered for one write(2) */
#define TLS_ERR 256
#define TLS_PRINT 65 /* SHA-256 of a certificate in hex, with its NUL */

enum tls_ret {
	TLS_OK,		/* done, at least in part: see the call */
	TLS_WANT_READ,	/* call again when the socket is readable */
	TLS_WANT_WRITE, /* call again when it is writable */
	TLS_CLOSED,	/* the peer has ended the connection, in good order or not */
	TLS_FAILED,	/* broken; tls_error() says why */
};

struct tls_ctx;
struct tls;

/* A server with the self-made identity in @dir, file receiver.pem (EC P-256 key and certificate, 0600). It is made
 * there, and @dir too, when there is none; an existing one is used as it is.
 * Returns 0, or -errno (-EBADMSG: the file holds no usable key and certificate) with one line in @err. */
int tls_ctx_server(struct tls_ctx **ret, const char *dir, char err[static TLS_ERR]);

/* A client that takes any certificate; tls_peer_print() tells which. Errors as above. */
int tls_ctx_client(struct tls_ctx **ret, char err[static TLS_ERR]);

void tls_ctx_free(struct tls_ctx **c);

/* SHA-256 of the server's own certificate, "" for a client. */
const char *tls_ctx_print(const struct tls_ctx *c);

/* A connection over the socket @fd (the caller's; it must outlive the connection).
 * @name  for a client: the server's name for SNI, or NULL
 * Returns 0 or -ENOMEM. */
int tls_new(struct tls **ret, struct tls_ctx *c, int fd, const char *name);

/* Free it; says close_notify if that can be done at once. Accepts NULL behind the pointer. */
void tls_free(struct tls **t);

/* TLS_OK: established. */
enum tls_ret tls_handshake(struct tls *t);

/* Encrypt from @buf; write to the socket whenever the buffer is full.
 * @ret_n  bytes taken, 0 .. @len, always written
 * TLS_OK: all of it; TLS_WANT_WRITE: the rest has no room before the socket is writable. */
enum tls_ret tls_write(struct tls *t, const void *buf, size_t len, size_t *ret_n);

/* Write what is gathered. TLS_OK: nothing is left. */
enum tls_ret tls_flush(struct tls *t);

/* Read what there is, up to @len bytes.
 * @ret_n  bytes read, always written
 * TLS_OK: at least one byte, and there may be more at once; TLS_WANT_READ: no more before the
 * socket is readable, which it may be already (@ret_n may be > 0). A call takes a bounded time whatever the peer
 * sends. */
enum tls_ret tls_read(struct tls *t, void *buf, size_t len, size_t *ret_n);

/* Bytes of ciphertext not yet written to the socket; written since the start. */
size_t tls_unsent(const struct tls *t);
uint64_t tls_sent(const struct tls *t);

/* One line about why TLS_FAILED; valid until tls_free(). */
const char *tls_error(const struct tls *t);

/* "TLSv1.3 TLS_AES_128_GCM_SHA256"; valid until the next call. */
const char *tls_describe(const struct tls *t, char *ret, size_t size);

/* SHA-256 of the peer's certificate; "" if it sent none. */
void tls_peer_print(const struct tls *t, char ret[static TLS_PRINT]);

#endif
