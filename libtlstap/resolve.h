/* SPDX-License-Identifier: Apache-2.0 */
/* resolve.h - the real functions behind a call: which TLS library would the caller have reached?
 *
 * RTLD_NEXT alone does not tell: it is NULL for users that loaded their library RTLD_LOCAL, and wrong
 * for one of them when a process holds two. We repeat what the dynamic linker did for the caller: global
 * scope first, with the symbol version that the caller's module asks for, then the caller's own
 * libraries (ld.so(8), dlsym(3), dlvsym(3)). The answer is remembered per call site.
 *
 * Any thread. The first call of a call site takes the dynamic linker's lock, as dlsym() does. */
#ifndef TLSTAP_RESOLVE_H
#define TLSTAP_RESOLVE_H

#include <stdbool.h>
#include <stdint.h>

#include "hooks.h"

/* What a call site reaches. */
struct site {
	const struct tls_lib *lib; /* NULL: only the function is known, or not even that */
	void *real;		   /* the function, where lib is NULL; NULL: there is none */
	bool internal;		   /* the caller is the TLS library or libtlstap: maybe a call within a call */
};

/* @ra    return address of the hook
 * @name  the hooked function's name */
struct site resolve(const void *ra, const char *name);

/* As resolve(), but past what is remembered: for the first call on a handle, when a plugin may have been
 * unloaded and another stands in its place. */
struct site resolve_again(const void *ra, const char *name);

/* Is an object mapped whose file name says that it is a TLS library we stand in front of? */
bool resolve_has_tls(void);

#endif
