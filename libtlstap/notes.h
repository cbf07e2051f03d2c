/* SPDX-License-Identifier: Apache-2.0 */
/* notes.h - what was seen of a handle before its connection could be told of.
 *
 * For libraries that say it only in passing. A note is needed from the handshake to the OPEN record; after that its
 * place may be anybody's. Where all places near a handle's are taken there is none: what it would have said is unknown.
 *
 * A handle is in one thread at a time, many handles in many. No lock, no heap; a forked child has its own copies. */
#ifndef TLSTAP_NOTES_H
#define TLSTAP_NOTES_H

#include <stdbool.h>
#include <stdint.h>

struct note {
	const int *socket; /* where the descriptor will be; NULL: nobody knows */
	int fd;		   /* -1: none yet */
	uint32_t pending;  /* bytes that were counted when the library took them, before it reported them */
	bool has_client, has_server, server;
	uint8_t client_random[32], server_random[32];
};

/* The note of @handle for writing, made if need be; NULL: no room. */
struct note *note_write(const void *handle);
/* It was told: should @handle not write again, it may be forgotten, unless bytes are pending. */
void note_told(const void *handle);
/* Copy the note of @handle to @ret. false: there is none. */
bool note_read(const void *handle, struct note *ret);
/* @handle is gone, or begins another connection. */
void note_drop(const void *handle);

#endif
