/* SPDX-License-Identifier: Apache-2.0 */
/* bio.c - wrappers of OpenSSL's BIO functions: what passes an SSL BIO is what SSL_read() and SSL_write() would say.
 *
 * libssl's SSL BIO reads and writes by functions of libssl that nobody can interpose. So the calls on that very BIO are
 * the ones that count, those of a filter above it among them: libcrypto calls itself through its PLT (not where it was
 * linked with -Bsymbolic). Calls on any other BIO, by far the most, go on at once. */
#include <limits.h>

#include "conn.h"
#include "hooks.h"
#include "resolve.h"

const struct tls_facts crypto_facts = {.lib = REC_LIB_OPENSSL}; /* asked for nothing */

/* The SSL that moves the bytes of @bio; NULL: it is no SSL BIO, or has none yet. BIO_get_ssl(3) would call a callback
 * of the application. */
static void *ssl_of(const struct tls_lib *lib, BIO *bio)
{
	const void *const *word = (const void *)bio;
	const void *method;
	void **data;

	if (!lib || lib->facts != &openssl_facts || !bio || !lib->BIO_f_ssl || !lib->BIO_get_data)
		return NULL;
	method = lib->BIO_f_ssl();
	if (word[0] != method && word[1] != method)
		return NULL;
	data = lib->BIO_get_data(bio);
	if (!data || resolve_owner(data)) /* BoringSSL's data is the SSL, the others' begins with a pointer to it */
		return data;
	return *data && resolve_owner(*data) == lib ? *data : NULL;
}

/* The libcrypto that the last plain BIO belonged to: most processes have no other. */
static const struct tls_lib *_Atomic usual;

/* Its real functions for @bio at once, or NULL: look closer. */
static inline const struct tls_lib *plain(const BIO *bio)
{
	const struct tls_lib *lib = atomic_load_explicit(&usual, memory_order_acquire);
	uintptr_t method = bio ? ((const uintptr_t *)bio)[1] : 0; /* since OpenSSL 3.0 */

	return __builtin_expect(lib && method >= lib->lo && method < lib->hi, 1) ? lib : NULL;
}

struct bio_call {
	struct call c;
	struct site site;
	bool tapped;
};

static __attribute__((noinline)) void begin(struct bio_call *b, BIO *bio, enum dir dir, const void *ra,
					    const char *name)
{
	const struct tls_lib *lib;
	void *ssl;

	b->site = resolve_bio(ra, name, bio);
	lib = b->site.lib;
	ssl = ssl_of(lib, bio);
	b->tapped = ssl != NULL;
	if (ssl) /* a call by libcrypto is one of the library, too */
		tap_begin(&b->c, (struct site){.lib = lib, .internal = resolve_inside(ra)}, ssl, dir);
	else if (lib && lib->facts == &crypto_facts && atomic_load_explicit(&usual, memory_order_relaxed) != lib)
		atomic_store_explicit(&usual, lib, memory_order_release);
}

static void end(struct bio_call *b, const void *buf, size_t n, size_t max)
{
	if (b->tapped) /* a callback may have changed it, and of 0 bytes it is left undefined */
		tap_leave(&b->c, buf, n <= max ? n : 0, 0);
}

#define REAL_BIO(b, name) ((b).site.lib ? (b).site.lib->name : (__typeof(&name))(b).site.real)

static __attribute__((noinline)) int read_closely(BIO *bio, void *buf, int num, const void *ra)
{
	struct bio_call b;
	int n;

	begin(&b, bio, DIR_RX, ra, "BIO_read");
	n = REAL_BIO(b, BIO_read) ? REAL_BIO(b, BIO_read)(bio, buf, num) : -1;
	end(&b, buf, n > 0 ? (size_t)n : 0, (size_t)num);
	return n;
}

int BIO_read(BIO *bio, void *buf, int num)
{
	const struct tls_lib *lib = plain(bio);

	return lib ? lib->BIO_read(bio, buf, num) : read_closely(bio, buf, num, HERE);
}

/* A program may find our BIO_read_ex() where its library has none (see openssl.c): these do what BIO_read() and
 * BIO_write() do. */
static int read_classic(const struct tls_lib *lib, BIO *bio, void *buf, size_t num, size_t *ret)
{
	int n = lib && lib->BIO_read ? lib->BIO_read(bio, buf, num < INT_MAX ? (int)num : INT_MAX) : 0;

	if (ret)
		*ret = n > 0 ? (size_t)n : 0;
	return n > 0;
}

static int write_classic(const struct tls_lib *lib, BIO *bio, const void *buf, size_t num, size_t *ret)
{
	int n = lib && lib->BIO_write ? lib->BIO_write(bio, buf, num < INT_MAX ? (int)num : INT_MAX) : 0;

	if (ret)
		*ret = n > 0 ? (size_t)n : 0;
	return n > 0;
}

static __attribute__((noinline)) int read_ex_closely(BIO *bio, void *buf, size_t num, size_t *readbytes, const void *ra)
{
	struct bio_call b;
	int ok;

	begin(&b, bio, DIR_RX, ra, "BIO_read_ex");
	ok = REAL_BIO(b, BIO_read_ex) ? REAL_BIO(b, BIO_read_ex)(bio, buf, num, readbytes)
				      : read_classic(b.site.lib, bio, buf, num, readbytes);
	end(&b, buf, ok == 1 && readbytes ? *readbytes : 0, num);
	return ok;
}

int BIO_read_ex(BIO *bio, void *buf, size_t num, size_t *readbytes)
{
	const struct tls_lib *lib = plain(bio);

	return lib && lib->BIO_read_ex ? lib->BIO_read_ex(bio, buf, num, readbytes)
				       : read_ex_closely(bio, buf, num, readbytes, HERE);
}

static __attribute__((noinline)) int write_closely(BIO *bio, const void *buf, int num, const void *ra)
{
	struct bio_call b;
	int n;

	begin(&b, bio, DIR_TX, ra, "BIO_write");
	n = REAL_BIO(b, BIO_write) ? REAL_BIO(b, BIO_write)(bio, buf, num) : -1;
	end(&b, buf, n > 0 ? (size_t)n : 0, (size_t)num);
	return n;
}

int BIO_write(BIO *bio, const void *buf, int num)
{
	const struct tls_lib *lib = plain(bio);

	return lib ? lib->BIO_write(bio, buf, num) : write_closely(bio, buf, num, HERE);
}

static __attribute__((noinline)) int write_ex_closely(BIO *bio, const void *buf, size_t num, size_t *written,
						      const void *ra)
{
	struct bio_call b;
	size_t n = 0; /* the application may not want to know */
	int ok;

	begin(&b, bio, DIR_TX, ra, "BIO_write_ex");
	if (b.tapped && !written)
		written = &n;
	ok = REAL_BIO(b, BIO_write_ex) ? REAL_BIO(b, BIO_write_ex)(bio, buf, num, written)
				       : write_classic(b.site.lib, bio, buf, num, written);
	end(&b, buf, ok == 1 && b.tapped ? *written : 0, num);
	return ok;
}

int BIO_write_ex(BIO *bio, const void *buf, size_t num, size_t *written)
{
	const struct tls_lib *lib = plain(bio);

	return lib && lib->BIO_write_ex ? lib->BIO_write_ex(bio, buf, num, written)
					: write_ex_closely(bio, buf, num, written, HERE);
}
