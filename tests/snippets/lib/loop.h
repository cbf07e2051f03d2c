/* SPDX-License-Identifier: Apache-2.0 */
/* loop.h - TLS connections both of whose ends are in one thread, for the storms: programs that torment a tap.
 *
 * A storm is started as   storm_NAME MODE SECONDS [ARG]...   It goes on for so long, checks every byte it reads, and prints
 * what is the same however often it went round. With STORM_COUNT=FILE it adds to the 8 bytes of that file how many bytes its
 * TLS calls reported, in whichever process: what a tap must have been told.
 *
 * Reading and writing allocate nothing once a connection has talked: a signal handler may do it, and a child that was
 * forked from among threads. */
#ifndef LOOP_H
#define LOOP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <openssl/ssl.h>

#define LOOP_MAX 4096 /* bytes in one direction at a time */

struct loop {
	SSL *ssl[2]; /* client, server */
	int fd[2];
	SSL_CTX *ctx[2];
	uint8_t in[LOOP_MAX], out[LOOP_MAX];
};

/* The storm's SECONDS are over. */
extern volatile bool loop_over;
/* A connection over the loopback; each has contexts of its own, so that threads share nothing. Ends the program when
 * that fails, as all of these do. */
void loop_connect(struct loop *l);
void loop_prepare(struct loop *l); /* without the handshake */
bool loop_handshake(struct loop *l);
/* Each end says @n bytes (at most LOOP_MAX) and hears what the other said. */
void loop_talk(struct loop *l, uint64_t seed, size_t n);
void loop_end(struct loop *l);	   /* with close_notify */
void loop_abandon(struct loop *l); /* without a word: another process has it now, or it is in no state to */
/* A connection, some talk, its end. */
void loop_once(uint64_t seed);

/* Begin: arguments, deadline, SIGPIPE. Returns the MODE. */
const char *loop_begin(int argc, char **argv);
/* In a child: if it hangs for 60 s, or STORM_PATIENCE, it is killed. */
void loop_child(void);
/* Run @f in a child, which must end well. */
void loop_in_child(void (*f)(void));
/* Wait for @pid, which must end with @code. */
void loop_reap(int pid, int code);
void loop_die(const char *what) __attribute__((noreturn));

#endif
