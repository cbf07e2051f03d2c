/* SPDX-License-Identifier: Apache-2.0 */
/* gsnip.h - what the small programs on GnuTLS share. Started like those of snip.h, but for "both":
 *
 *   NAME server ADDR PORT [ARG]...     NAME client ADDR PORT [ARG]...
 *
 * What they print is the same in every run, tapped or not. SNIP_SAVE and SNIP_TLS are those of snip.h. */
#ifndef GSNIP_H
#define GSNIP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <gnutls/gnutls.h>

extern bool gsnip_server;
extern const char *gsnip_mode; /* the first ARG */
extern char **gsnip_argv;      /* the ARGs */
extern int gsnip_argc;

/* One session and what it said. */
struct gsnip {
	gnutls_session_t s;
	int fd;
	FILE *tx, *rx;
};

/* Reads the command line; a server listens then. */
void gsnip_init(int argc, char **argv);
/* How many descriptors and threads there are. Returns the exit code. */
int gsnip_done(void);

int gsnip_tcp(void); /* connect or accept one */
/* A session over @fd: priorities by SNIP_TLS, certificate, host name, files to save to. */
void gsnip_new(struct gsnip *g, int fd, unsigned flags);
void gsnip_handshake(struct gsnip *g);
void gsnip_free(struct gsnip *g); /* and its descriptor, without an RST */
void gsnip_save(struct gsnip *g, bool tx, const void *buf, size_t n);
void gsnip_die(const char *what, long code) __attribute__((noreturn));

/* Byte @i of what that side says. */
static inline uint8_t gsnip_byte(bool server, uint64_t i)
{
	return (uint8_t)((i * 2654435761u + (server ? 77u : 0u)) >> 13);
}

#endif
