/* SPDX-License-Identifier: Apache-2.0 */
/* conn.h - one call on one TLS handle, from its entry to its record in the shared mapping.
 *
 * A wrapper is three lines: tap_enter(), the real function, tap_leave(). What the library
 * reported is counted in the handle's slot first and copied second; if the copy finds no room, the
 * count stays, and the difference is the loss. Any thread; several at once on one handle. Leaves
 * errno, the OpenSSL error queue and every argument as they were. */
#ifndef TLSTAP_CONN_H
#define TLSTAP_CONN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/shm.h"
#include "common/tuple.h"
#include "hooks.h"
#include "resolve.h"

#define HERE __builtin_return_address(0)
/* The real function of call @c, by the type of hook @name. */
#define REAL(c, name) ((c).lib ? (c).lib->name : (__typeof(&name))(c).real)

/* On the wrapper's stack. */
struct call {
	const struct tls_lib *lib;
	void *real;   /* used when lib is NULL */
	void *handle; /* NULL: nothing to tap */
	struct shm_slot *slot;
	uint64_t other; /* a write: offset of RX at its entry */
	uint64_t inner; /* the slot's, at the entry */
	enum dir dir;
	bool internal; /* the caller is the TLS library itself, or libtlstap */
	uint16_t producer, parent;
	/* the call that this one stands in, if any */
	const void *outer;
	uintptr_t outer_frame;
};

/* A call of hook @name on @handle begins. @ra is the hook's return address. */
void tap_enter(struct call *c, void *handle, enum dir dir, const void *ra, const char *name);

/* The same for a call that was resolved already. */
void tap_begin(struct call *c, struct site site, void *handle, enum dir dir);

/* Of what the library reported, @n bytes of @buf; the call is not over yet. */
void tap_piece(struct call *c, const void *buf, size_t n, uint16_t flags);

/* It is over: the library reported @n bytes of @buf (0: none). @flags: REC_F_EARLY or 0. */
void tap_leave(struct call *c, const void *buf, size_t n, uint16_t flags);

/* As tap_leave() for @n bytes that were sent from a file: counted, not copied. */
void tap_hole(struct call *c, size_t n);

/* A call begins that moves none of the application's bytes itself, but may call functions of its own library that do:
 * what these report is not counted. Ends with tap_leave() of 0 bytes. */
void tap_aside(struct call *c, void *handle);

/* Bytes of @dir that were counted for @handle so far; 0 if it is not tapped. */
uint64_t tap_counted(const void *handle, enum dir dir);

/* The library does not say whose end @handle is: it is the @server's. */
void tap_server(const struct tls_lib *lib, void *handle, bool server);

/* A handshake of @handle begins or goes on: state its socket, once. */
void tap_socket(const struct tls_lib *lib, void *handle);

/* @handle was shut down by this side, or is about to be freed or cleared (@gone). */
void tap_close(const struct tls_lib *lib, void *handle, bool gone);

#endif
