/* SPDX-License-Identifier: Apache-2.0 */
/* snip.h - what the small TLS programs of this folder share.
 *
 * Each is started as   NAME server ADDR PORT [ARG]...   and   NAME client ADDR PORT [ARG]...
 * (two processes, either or both under the tap), or as   NAME both ADDR PORT [ARG]...   (the server in a
 * thread). A client waits for its server up to 10 s. The certificate is made on the spot.
 *
 * What they print is the same in every run, tapped or not: which results, errno values and OpenSSL errors
 * the calls gave (and how often, where that does not depend on timing), digests of what was received,
 * and how many descriptors and threads there are at the end.
 *
 * SNIP_SAVE=DIR  what the TLS library reported as written and read goes to DIR/ROLE.PID.N.tx and .rx
 *                (N: number of the connection within the process, from 0)
 * SNIP_TLS=1.2   at most that version */
#ifndef SNIP_H
#define SNIP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <openssl/err.h>
#include <openssl/ssl.h>

struct snip {
	const char *role; /* "server", "client" */
	int listener;	  /* server */
	const char *addr;
	int port;
	int argc; /* of the ARGs */
	char **argv;
};

/* Run the program. @server and @client do their side and return; NULL: there is no such side. */
int snip_run(int argc, char **argv, void (*server)(struct snip *), void (*client)(struct snip *));
/* Print a line at the end, the client's before the server's. */
void snip_say(const struct snip *s, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Argument @i as a number, or @def. */
long snip_arg(const struct snip *s, int i, long def);

/* All of these end the program with a message when they fail. */
SSL_CTX *snip_ctx(const struct snip *s);
int snip_tcp(const struct snip *s);			   /* connect or accept one */
SSL *snip_ssl(const struct snip *s, SSL_CTX *ctx, int fd); /* handshake done; fd belongs to it */
SSL *snip_new(const struct snip *s, SSL_CTX *ctx, int fd); /* without a handshake */
void snip_again(const struct snip *s, SSL *ssl);	   /* the handle begins another connection: save it apart */
void snip_handshake(const struct snip *s, SSL *ssl);
void snip_end(SSL *ssl); /* SSL_shutdown, SSL_free, close */
void snip_close(int fd); /* shutdown, read to the end, close */
void snip_die(const char *what) __attribute__((noreturn));

/* SSL_write() and SSL_read() once, tallied and saved. */
int snip_write(SSL *ssl, const void *buf, size_t n);
int snip_read(SSL *ssl, void *buf, size_t n);
/* ... until all @n bytes are through; false at the end of the stream or on an error. */
bool snip_write_all(SSL *ssl, const void *buf, size_t n);
bool snip_read_all(SSL *ssl, void *buf, size_t n);
/* Read @n bytes and compare them with the pattern of @seed. Prints nothing; false if they differ. */
bool snip_expect(SSL *ssl, uint64_t seed, size_t n);

/* @n bytes that depend on @seed only. */
void snip_pattern(uint8_t *buf, uint64_t seed, size_t n);
uint8_t *snip_bytes(uint64_t seed, size_t n); /* allocated */

/* Note what @call gave: its result, errno and the first error of the queue, as they are right now. Call
 * snip_before() before it. */
void snip_before(void);
void snip_after(const char *call, long result, SSL *ssl);
void snip_save(SSL *ssl, bool tx, const void *buf, size_t n);
extern bool snip_counts;    /* print how often (default); off where it depends on timing */
extern bool snip_processes; /* "both" means two processes: for programs that fork */
extern bool snip_results;   /* print exact results (default); else only ok, 0 or failed */

#endif
