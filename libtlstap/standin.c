/* SPDX-License-Identifier: Apache-2.0 */
/* standin.c - which function of ours stands in for one that was looked up by name.
 *
 * Those of libcrypto and NSPR do not: they are many calls on memory, files and sockets, and programs that look up those
 * which move TLS data are not known. */
#include "standin.h"

#include <stddef.h>
#include <string.h>

#include "hooks.h"
#include "resolve.h"

static const struct {
	const char *name;
	void *ours;
	size_t real; /* where in struct tls_lib */
} table[] = {
#define ENTRY(ret, name, args, fail) {#name, (void *)name, offsetof(struct tls_lib, name)},
	OPENSSL_HOOKS(ENTRY) GNUTLS_HOOKS(ENTRY)
#undef ENTRY
};

void *tlstap_stand_in(const char *name, void *found, const void *ra)
{
	const struct tls_lib *lib;

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		void *real;

		if (strcmp(table[i].name, name) != 0)
			continue;
		lib = resolve_meet(found, ra);
		if (!lib)
			return NULL;
		memcpy(&real, (const char *)lib + table[i].real, sizeof(real));
		return real == found && resolve_give(lib) ? table[i].ours : NULL;
	}
	return NULL;
}
