/* SPDX-License-Identifier: Apache-2.0 */
/* facts.h - what a TLS handle says of itself, whichever library made it.
 *
 * One table per kind of library (openssl.c, gnutls.c ...), used by conn.c. The functions only ask the library that owns the
 * handle; any of what they ask may be missing there. They leave errno and the OpenSSL error queue as they were. */
#ifndef TLSTAP_FACTS_H
#define TLSTAP_FACTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/rec.h"

struct tls_lib;

#define TLS_NAMES_MAX (2 * REC_NAME_MAX)

enum tls_early {
	TLS_EARLY_UNKNOWN, /* the handshake is not over */
	TLS_EARLY_ACCEPTED,
	TLS_EARLY_REJECTED,
};

struct tls_facts {
	enum rec_lib lib;
	/* First 8 bytes of the client random as they lie in memory; 0: not known yet. */
	uint64_t (*random8)(const struct tls_lib *lib, const void *handle);
	/* Is the handshake so far that the client random is the one on the wire? */
	bool (*ready)(const struct tls_lib *lib, const void *handle);
	/* What became of the early data that a client sent. */
	enum tls_early (*early)(const struct tls_lib *lib, const void *handle);
	/* The socket as far as the library knows one, -1: it does not. Never a system call. */
	int (*fd)(const struct tls_lib *lib, const void *handle);
	/* Put randoms, role, versions and the lengths of the names into @o, and the names, SNI first, to @ret_names
	 * (TLS_NAMES_MAX bytes). Returns bytes of names. */
	size_t (*describe)(const struct tls_lib *lib, const void *handle, struct rec_open *o, uint8_t *ret_names);
};

extern const struct tls_facts openssl_facts, gnutls_facts, nss_facts, mbedtls_facts, wolfssl_facts;
extern const struct tls_facts nspr_facts;   /* none: a libnspr4, whose descriptors know nothing of TLS (nspr.c) */
extern const struct tls_facts crypto_facts; /* none: a libcrypto, whose handles are BIOs (bio.c) */

#endif
