/* SPDX-License-Identifier: Apache-2.0 */
/* other.h - what the small programs on BoringSSL, mbedTLS and wolfSSL share.
 *
 * Started as   NAME server|client ADDR PORT [ARG]   ; SNIP_SAVE is that of snip.h, SNIP_CERT and SNIP_KEY are files for
 * the server; SNIP_STAY is a file that keeps a program from ending while it exists. A connection: both sides say blocks
 * of many sizes to each other in turn. */
#ifndef OTHER_H
#define OTHER_H

#include <stdbool.h>
#include <stddef.h>

extern bool other_server;
extern const char *other_mode;

/* One call of the library. They return what it reported, at least 1; or they end the program. */
struct other_calls {
	long (*read)(void *handle, void *buf, size_t size);
	long (*write)(void *handle, const void *buf, size_t size);
};

void other_init(int argc, char **argv);
bool other_is(const char *mode);
void other_die(const char *what, long code) __attribute__((noreturn));
void other_must(bool ok, const char *what);
const char *other_file(const char *variable); /* SNIP_CERT, SNIP_KEY */

int other_tcp(void);	     /* connect or accept one */
int other_udp(void);	     /* a socket of datagrams, connected to the other end */
void other_nonblock(int fd); /* it shall not wait any more, and hold little */
void other_wait(int fd, bool write);
void other_close(int fd); /* shutdown, read to the end, close */

/* What is said from now on is another connection. */
void other_begin(void);
/* What the library reported outside of other_talk(). */
void other_save(bool write, const void *buf, size_t n);
/* Say and hear everything. */
void other_talk(const struct other_calls *calls, void *handle);
/* Or one line each, of client and server; @hello says which. */
void other_line(const struct other_calls *calls, void *handle, int hello);

int other_done(void); /* print descriptors and threads; the exit status */

#endif
