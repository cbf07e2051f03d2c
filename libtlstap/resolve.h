/* SPDX-License-Identifier: Apache-2.0 */
/* resolve.h - the real functions behind a call: those of the TLS library that owns the handle.
 *
 * A handle names its owner itself: one of its first words points to its method table, or to its cipher suite, which
 * lies inside the library that made it. So a call needs no dynamic linker, whose locks a plugin's constructor, a
 * dlopen() in another thread or a fork at the wrong moment may hold. Only a handle of a library that we have not met
 * asks it, once: for all TLS libraries that are mapped by now, and, should none of them own it (a layout unknown to
 * us), for what the dynamic linker would have bound for this caller (ld.so(8), dlvsym(3)); that is remembered per call
 * site. A session of GnuTLS that has no cipher suite yet belongs to the only libgnutls there is, if that is the one its
 * caller was linked with; else the linker is asked.
 *
 * Any thread. Leaves errno alone. */
#ifndef TLSTAP_RESOLVE_H
#define TLSTAP_RESOLVE_H

#include <stdbool.h>
#include <stdint.h>

#include "hooks.h"

/* What a call reaches. */
struct site {
	const struct tls_lib *lib; /* NULL: only the function is known, or not even that */
	void *real;		   /* the function, where lib is NULL; NULL: there is none */
	bool internal;		   /* the caller is the TLS library or libtlstap: maybe a call within a call */
};

/* @ra      return address of the hook
 * @name    the hooked function's name
 * @handle  the handle; NULL: any library of the function's kind will do */
struct site resolve(const void *ra, const char *name, const void *handle);

/* The same for a library whose handles tell nothing of their owner: that of the caller. It is the library that the call
 * comes from, or the only one of its kind that is mapped, if its caller was linked with it; else the linker is asked. */
struct site resolve_mute(const void *ra, const char *name);

/* The same for BIO @bio, whose owner is the library that its method lies in: of the program's own methods, the libcrypto
 * that calls, or whose libssl calls. @lib is a libssl (SSL BIOs) or a libcrypto. */
struct site resolve_bio(const void *ra, const char *name, const void *bio);

/* The library of that kind that @p points into, of those met. */
const struct tls_lib *resolve_at(const void *p, const struct tls_facts *kind);

/* Is @ra inside a library that was met, or libtlstap? */
bool resolve_inside(const void *ra);

/* The library that @found lies in, met now if it is new, for a caller at @ra; NULL: there is none, or the caller is a TLS
 * library or libtlstap. */
const struct tls_lib *resolve_meet(const void *found, const void *ra);

/* May wrappers be given to those who look the functions of @lib up by name? Yes for the first library of its kind that has
 * more than one function of such a name, of those kinds for which resolve() finds it without a handle that tells it or a
 * caller that is linked with it. */
bool resolve_give(const struct tls_lib *lib);

/* The library that made @handle, of those met; NULL: it is none of theirs. */
const struct tls_lib *resolve_owner(const void *handle);

/* Learn the TLS libraries that are mapped now, by their file names, and libcrypto. Returns whether there is one of the
 * former. */
bool resolve_learn(void);

#endif
