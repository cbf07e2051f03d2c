/* SPDX-License-Identifier: Apache-2.0 */
/* standin.h - what libtlstap.so tells libtlstap-dlsym.so: which wrapper stands in for a function that was looked up.
 *
 * Any thread, before any constructor has run. Leaves errno alone; asks the dynamic linker and so changes what dlerror(3)
 * says. */
#ifndef TLSTAP_STANDIN_H
#define TLSTAP_STANDIN_H

/* @name   that it was looked up by
 * @found  what dlsym(3) found
 * @ra     who looked: a return address
 * Returns our function of that name, or NULL: @found is to be used itself. That is so if it is no function of a TLS
 * library, if the caller is such a library or libtlstap, and for all but the first library of its kind that functions
 * are looked up in: of calls that do not tell their library there must be no doubt. */
__attribute__((visibility("default"))) void *tlstap_stand_in(const char *name, void *found, const void *ra);

#endif
