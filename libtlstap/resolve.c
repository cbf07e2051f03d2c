/* SPDX-License-Identifier: Apache-2.0 */
/* resolve.c - find the TLS library that a caller would have reached without us. */
#define _GNU_SOURCE
#include "resolve.h"

#include <dlfcn.h>
#include <elf.h>
#include <errno.h>
#include <link.h>
#include <stdatomic.h>
#include <string.h>

/* These stand in libdl before glibc 2.34 and in libc since. Asked for by their oldest version and
 * weakly, they are found in both, and where a process has no libdl there is no TLS library either. */
#if defined(__x86_64__)
#define OLDEST "GLIBC_2.2.5"
#elif defined(__aarch64__)
#define OLDEST "GLIBC_2.17"
#else
#error "which is the oldest symbol version of this architecture's glibc?"
#endif
extern __typeof(dlopen) old_dlopen __attribute__((weak));
extern __typeof(dlsym) old_dlsym __attribute__((weak));
extern __typeof(dlvsym) old_dlvsym __attribute__((weak));
extern __typeof(dlclose) old_dlclose __attribute__((weak));
__asm__(".symver old_dlopen, dlopen@" OLDEST);
__asm__(".symver old_dlsym, dlsym@" OLDEST);
__asm__(".symver old_dlvsym, dlvsym@" OLDEST);
__asm__(".symver old_dlclose, dlclose@" OLDEST);

#define LIBS 32u /* TLS library objects in one process */
/* Words of a handle that may point into its library: to the method table the 1st in BoringSSL, the 2nd in OpenSSL 1.1
 * to 3.1 and LibreSSL, the 3rd and 4th since OpenSSL 3.2; to the cipher suite the 3rd and 4th since GnuTLS 3.6,
 * once the peer's hello is known. */
#define WORDS 4u
#define NAMES_MAX 48u /* functions of one kind of library */
#define SITES 256u    /* call sites remembered; a power of two */
#define WAYS 4u	      /* places for each; a power of two */

static struct tls_lib libs[LIBS]; /* two threads that meet one library at once may each add it: harmless */
static _Atomic uint32_t libs_n;	  /* entries given out */
static _Atomic bool libs_ready[LIBS];

static uintptr_t self_lo, self_hi; /* where libtlstap is mapped; set in the constructor */

/* Call sites whose handles do not tell their owner: return address << 8 | library + 1, one word, never torn. */
static _Atomic uint64_t sites[SITES];

/* --- objects ------------------------------------------------------------------------------------- */

struct object {
	uintptr_t at; /* in: an address; out: nothing */
	uintptr_t base, lo, hi;
	const char *name; /* borrowed from the dynamic linker while the object is loaded; "": the program */
	const ElfW(Dyn) * dyn;
	bool found;
};

static bool extent(const struct dl_phdr_info *info, struct object *o)
{
	bool inside = false;

	o->lo = UINTPTR_MAX;
	o->hi = 0;
	o->dyn = NULL;
	for (unsigned i = 0; i < info->dlpi_phnum; i++) {
		const ElfW(Phdr) *p = &info->dlpi_phdr[i];
		uintptr_t lo = info->dlpi_addr + p->p_vaddr;

		if (p->p_type == PT_DYNAMIC)
			o->dyn = (const void *)lo;
		if (p->p_type != PT_LOAD)
			continue;
		if (lo < o->lo)
			o->lo = lo;
		if (lo + p->p_memsz > o->hi)
			o->hi = lo + p->p_memsz;
		inside |= o->at >= lo && o->at < lo + p->p_memsz;
	}
	return inside;
}

static int on_object(struct dl_phdr_info *info, size_t size, void *arg)
{
	struct object *o = arg;

	(void)size;
	if (!extent(info, o))
		return 0;
	o->base = info->dlpi_addr;
	o->name = info->dlpi_name ? info->dlpi_name : "";
	o->found = true;
	return 1;
}

static struct object object_at(const void *addr)
{
	struct object o = {.at = (uintptr_t)addr};

	(void)dl_iterate_phdr(on_object, &o);
	return o;
}

static bool is_tls_name(const char *path)
{
	const char *slash = path ? strrchr(path, '/') : NULL;
	const char *name = slash ? slash + 1 : path;

	return name && (strncmp(name, "libssl", 6) == 0 || strncmp(name, "libcrypto", 9) == 0 ||
			strncmp(name, "libgnutls", 9) == 0 || strncmp(name, "libnspr4", 8) == 0 ||
			strncmp(name, "libnss3", 7) == 0 || strncmp(name, "libmbedtls", 10) == 0 ||
			strncmp(name, "libwolfssl", 10) == 0);
}

/* --- the version that a module asks for ------------------------------------------------------------ */

/* Where a dynamic entry points: glibc relocates some in place, others not. */
static uintptr_t dyn_ptr(const struct object *o, uintptr_t p)
{
	p = p < o->lo ? p + o->base : p;
	return p >= o->lo && p < o->hi ? p : 0; /* nowhere else */
}

struct dynamic {
	const ElfW(Sym) * sym;
	const char *str;
	const ElfW(Half) * versym;
	const ElfW(Verneed) * need;
	size_t need_n;
	size_t undefined; /* how many symbols to look at: undefined ones come first */
};

static bool dynamic_of(const struct object *o, struct dynamic *ret)
{
	memset(ret, 0, sizeof(*ret));
	for (const ElfW(Dyn) *d = o->dyn; d && d->d_tag != DT_NULL; d++) {
		uintptr_t p = dyn_ptr(o, d->d_un.d_ptr);

		switch (d->d_tag) {
		case DT_SYMTAB:
			ret->sym = (const void *)p;
			break;
		case DT_STRTAB:
			ret->str = (const void *)p;
			break;
		case DT_VERSYM:
			ret->versym = (const void *)p;
			break;
		case DT_VERNEED:
			ret->need = (const void *)p;
			break;
		case DT_VERNEEDNUM:
			ret->need_n = d->d_un.d_val;
			break;
		case DT_HASH: /* nbucket, nchain: nchain is the number of symbols */
			if (p)
				ret->undefined = ((const uint32_t *)p)[1];
			break;
		case DT_GNU_HASH: /* nbuckets, symoffset: what is before it is undefined */
			if (p && !ret->undefined)
				ret->undefined = ((const uint32_t *)p)[1];
			break;
		default:
			break;
		}
	}
	/* where nothing is exported the hash says 1; the strings usually stand behind the symbols */
	if (ret->undefined <= 1 && ret->str > (const char *)ret->sym)
		ret->undefined = (size_t)(ret->str - (const char *)ret->sym) / sizeof(*ret->sym);
	return ret->sym && ret->str && ret->versym && ret->need && ret->undefined;
}

/* What the module of @o wants when it says @name. */
struct wanted {
	const char *version; /* NULL: any, or the module does not want @name at all */
	const char *file;    /* and whose, by the soname known when the module was linked */
	bool imported;	     /* it does want it */
};

static struct wanted wanted_by(const struct object *o, const char *name)
{
	struct wanted ret = {.version = NULL};
	struct dynamic d;
	unsigned index = 0;

	if (!o->found || !dynamic_of(o, &d))
		return ret;
	for (size_t i = 1; i < d.undefined && !ret.imported; i++) {
		ret.imported = d.sym[i].st_shndx == SHN_UNDEF && strcmp(d.str + d.sym[i].st_name, name) == 0;
		index = d.versym[i] & 0x7fff;
	}
	if (!ret.imported || index < 2)
		return ret;
	for (const char *p = (const char *)d.need; d.need_n--;) {
		const ElfW(Verneed) *need = (const void *)p;
		const char *q = p + need->vn_aux;

		for (unsigned k = 0; k < need->vn_cnt; k++) {
			const ElfW(Vernaux) *aux = (const void *)q;

			if ((aux->vna_other & 0x7fff) == index) {
				ret.version = d.str + aux->vna_name;
				ret.file = d.str + need->vn_file;
				return ret;
			}
			q += aux->vna_next;
		}
		if (!need->vn_next)
			break;
		p += need->vn_next;
	}
	return ret;
}

/* Was the module of @o linked with a library of that soname? */
static bool needs(const struct object *o, const char *soname)
{
	const char *str = NULL;

	for (const ElfW(Dyn) *d = o->dyn; d && d->d_tag != DT_NULL && !str; d++)
		if (d->d_tag == DT_STRTAB)
			str = (const char *)dyn_ptr(o, d->d_un.d_ptr);
	for (const ElfW(Dyn) *d = o->dyn; str && d->d_tag != DT_NULL; d++)
		if (d->d_tag == DT_NEEDED && strcmp(str + d->d_un.d_val, soname) == 0)
			return true;
	return false;
}

static const char *soname_of(const struct object *o)
{
	const ElfW(Dyn) *name = NULL;
	const char *str = NULL;

	for (const ElfW(Dyn) *d = o->dyn; d && d->d_tag != DT_NULL; d++) {
		if (d->d_tag == DT_STRTAB)
			str = (const char *)dyn_ptr(o, d->d_un.d_ptr);
		if (d->d_tag == DT_SONAME)
			name = d;
	}
	return str && name ? str + name->d_un.d_val : NULL;
}

/* --- libraries ------------------------------------------------------------------------------------- */

static inline bool is_self(uintptr_t p)
{
	return p >= self_lo && p < self_hi;
}

/* The real @name for a caller in @from, as the dynamic linker would have bound it. */
static void *bind(const struct object *from, const char *name, const char *version)
{
	void *sym, *h;

	sym = version ? old_dlvsym(RTLD_NEXT, name, version) : old_dlsym(RTLD_NEXT, name);
	if (sym)
		return sym;
	if (from->found && *from->name && !is_self(from->lo)) {
		h = old_dlopen(from->name, RTLD_LAZY | RTLD_NOLOAD);
		if (h && version)
			sym = old_dlvsym(h, name, version);
		if (h && !sym)
			sym = old_dlsym(h, name);
		if (h)
			(void)old_dlclose(h);
	}
	if (!sym)
		sym = old_dlsym(RTLD_NEXT, name);
	return sym;
}

static inline bool has(const struct object *o, const void *p)
{
	return (uintptr_t)p >= o->lo && (uintptr_t)p < o->hi;
}

static inline bool inside(const struct tls_lib *lib, uintptr_t p)
{
	return p >= lib->lo && p < lib->hi;
}

/* What hooks of that name belong to. */
static const struct tls_facts *kind_of(const char *hook)
{
	if (hook[0] == 'P')
		return &nspr_facts;
	if (strcmp(hook, "SSL_ImportFD") == 0 || strcmp(hook, "SSL_ResetHandshake") == 0)
		return &nss_facts;
	if (hook[0] == 'm')
		return &mbedtls_facts;
	if (hook[0] == 'w')
		return &wolfssl_facts;
	return hook[0] == 'g' ? &gnutls_facts : hook[0] == 'B' ? &crypto_facts : &openssl_facts;
}

/* Can @lib be what a hook of that kind belongs to? */
static bool serves(const struct tls_lib *lib, const struct tls_facts *kind)
{
	return lib->facts == kind || (kind == &crypto_facts && lib->BIO_read) || (kind == &nspr_facts && lib->PR_Read);
}

/* The names of each kind: hooks, and what is asked. A libssl has those of its libcrypto, a libssl3 of its libnspr4. */
#define OPENSSL_NAMES(HOOK, ASK) OPENSSL_HOOKS(HOOK) BIO_HOOKS(HOOK) OPENSSL_ASKS(ASK)
#define CRYPTO_NAMES(HOOK, ASK) BIO_HOOKS(HOOK)
#define GNUTLS_NAMES(HOOK, ASK) GNUTLS_HOOKS(HOOK) GNUTLS_ASKS(ASK)
#define NSS_NAMES(HOOK, ASK) NSPR_HOOKS(HOOK) NSS_ASKS(ASK)
#define NSPR_NAMES(HOOK, ASK) NSPR_HOOKS(HOOK)
#define MBEDTLS_NAMES(HOOK, ASK) MBEDTLS_HOOKS(HOOK) MBEDTLS_ASKS(ASK)
#define WOLFSSL_NAMES(HOOK, ASK) WOLFSSL_HOOKS(HOOK) WOLFSSL_ASKS(ASK)

/* An object is of the first kind whose sign is a function of its own. By its handle those of libraries that it needs are
 * found, too: libgnutls-openssl has SSL_read() of its own, libgnutls-dane has nothing. */
#define KINDS(KIND)                                          \
	KIND(gnutls_facts, gnutls_record_send, GNUTLS_NAMES) \
	KIND(nss_facts, SSL_ImportFD, NSS_NAMES)             \
	KIND(nspr_facts, PR_Read, NSPR_NAMES)                \
	KIND(openssl_facts, SSL_read, OPENSSL_NAMES)         \
	KIND(mbedtls_facts, mbedtls_ssl_read, MBEDTLS_NAMES) \
	KIND(wolfssl_facts, wolfSSL_read, WOLFSSL_NAMES)     \
	KIND(crypto_facts, BIO_read, CRYPTO_NAMES)

/* What was found of an object, until there is an entry for it: much smaller than one. */
struct findings {
	const struct tls_facts *facts;
	void *names[NAMES_MAX]; /* in the order of the kind's names */
};

static void look_up(const struct object *o, void *h, struct findings *f)
{
	unsigned n = 0;

#define LOOK_HOOK(ret, name, args, fail) f->names[n++] = old_dlsym(h, #name);
#define LOOK_ASK(ret, name, args) f->names[n++] = old_dlsym(h, #name);
#define HOOK_ONE(ret, name, args, fail) +1
#define ASK_ONE(ret, name, args) +1
#define LOOK(kind, sign, names_of)                                                                 \
	_Static_assert(0 names_of(HOOK_ONE, ASK_ONE) <= NAMES_MAX, "there is room for all names"); \
	if (!f->facts && has(o, old_dlsym(h, #sign))) {                                            \
		f->facts = &kind;                                                                  \
		names_of(LOOK_HOOK, LOOK_ASK)                                                      \
	}
	KINDS(LOOK)
#undef LOOK
#undef ASK_ONE
#undef HOOK_ONE
#undef LOOK_ASK
#undef LOOK_HOOK
}

static void fill(struct tls_lib *lib, const struct findings *f)
{
	unsigned n = 0;

	lib->facts = f->facts;
#define FILL_HOOK(ret, name, args, fail) lib->name = (ret(*) args)f->names[n++];
#define FILL_ASK(ret, name, args) lib->name = (ret(*) args)f->names[n++];
#define FILL(kind, sign, names_of)            \
	if (f->facts == &kind) {              \
		names_of(FILL_HOOK, FILL_ASK) \
	}
	KINDS(FILL)
#undef FILL
#undef FILL_ASK
#undef FILL_HOOK
}

static const struct tls_lib *known(uintptr_t lo)
{
	for (uint32_t i = 0; i < LIBS; i++)
		if (atomic_load_explicit(&libs_ready[i], memory_order_acquire) && libs[i].lo == lo)
			return &libs[i];
	return NULL;
}

/* The entry of library object @o, made if it is new. The object is never unloaded again: its functions may be called
 * from what we remember. NULL: no room, or the program itself. */
static const struct tls_lib *lib_of(const struct object *o)
{
	const struct tls_lib *lib = o->found ? known(o->lo) : NULL;
	struct findings found = {.facts = NULL};
	uint32_t n;
	void *h;

	if (lib || !o->found || !*o->name || is_self(o->lo))
		return lib;
	h = old_dlopen(o->name, RTLD_LAZY | RTLD_NOLOAD | RTLD_NODELETE);
	if (!h)
		return NULL;
	look_up(o, h, &found);
	lib = known(o->lo); /* another thread may have been quicker */
	if (lib || atomic_load_explicit(&libs_n, memory_order_relaxed) >= LIBS)
		return lib;
	n = atomic_fetch_add_explicit(&libs_n, 1, memory_order_relaxed);
	if (n >= LIBS)
		return NULL;
	fill(&libs[n], &found);
	libs[n].lo = o->lo;
	libs[n].hi = found.facts ? o->hi : o->lo; /* known, but nothing is inside */
	libs[n].soname = soname_of(o);		  /* valid for ever, as the object is */
	atomic_store_explicit(&libs_ready[n], true, memory_order_release);
	return &libs[n];
}

/* --- learning -------------------------------------------------------------------------------------- */

struct nth {
	unsigned n;
	char name[256]; /* a copy: the linker's own may go with its object */
	struct object o;
};

/* No call of the linker in here: it holds a lock that dlopen() takes after another one. */
static int on_nth_tls(struct dl_phdr_info *info, size_t size, void *arg)
{
	struct nth *nth = arg;

	(void)size;
	if (!is_tls_name(info->dlpi_name) || strlen(info->dlpi_name) >= sizeof(nth->name) || nth->n-- > 0)
		return 0;
	(void)extent(info, &nth->o);
	nth->o.base = info->dlpi_addr;
	nth->o.found = true;
	strcpy(nth->name, info->dlpi_name);
	return 1;
}

static __attribute__((noinline)) bool learn_nth(unsigned n)
{
	struct nth nth = {.n = n};

	if (!dl_iterate_phdr(on_nth_tls, &nth))
		return false;
	nth.o.name = nth.name;
	(void)lib_of(&nth.o);
	return true;
}

static void learn_self(void)
{
	if (!self_lo) {
		struct object self = object_at((const void *)resolve);

		self_hi = self.hi;
		self_lo = self.lo;
	}
}

bool resolve_learn(void)
{
	unsigned n = 0;

	learn_self();
	if (!old_dlsym || !old_dlopen || !old_dlvsym || !old_dlclose)
		return false;
	while (n < LIBS && learn_nth(n))
		n++;
	for (uint32_t i = 0; i < LIBS && atomic_load_explicit(&libs_ready[i], memory_order_acquire); i++)
		if (libs[i].facts && libs[i].facts != &crypto_facts && libs[i].facts != &nspr_facts)
			return true;
	return false;
}

/* --- lookups by name ------------------------------------------------------------------------------- */

/* Has @o what each TLS library of a kind has? Something else, with one function of such a name, is left alone: it can
 * still be unloaded. */
static bool looks_whole(const struct object *o)
{
	static const char *const names[][3] = {{"SSL_write", "SSL_accept", "SSL_free"},
					       {"gnutls_record_recv", "gnutls_handshake", "gnutls_deinit"}};
	void *h = o->found && *o->name ? old_dlopen(o->name, RTLD_LAZY | RTLD_NOLOAD) : NULL;
	bool whole = false;

	for (unsigned kind = 0; h && kind < 2; kind++) {
		bool all = true;

		for (unsigned i = 0; i < 3; i++) {
			uintptr_t p = (uintptr_t)old_dlsym(h, names[kind][i]);

			all &= p >= o->lo && p < o->hi;
		}
		whole |= all;
	}
	if (h)
		(void)old_dlclose(h);
	return whole;
}

/* The same of one that was met, be it for its file's name. */
static bool is_whole(const struct tls_lib *lib)
{
	if (lib->facts == &gnutls_facts)
		return inside(lib, (uintptr_t)lib->gnutls_record_recv) &&
		       inside(lib, (uintptr_t)lib->gnutls_handshake) && inside(lib, (uintptr_t)lib->gnutls_deinit);
	return inside(lib, (uintptr_t)lib->SSL_write) && inside(lib, (uintptr_t)lib->SSL_accept) &&
	       inside(lib, (uintptr_t)lib->SSL_free);
}

const struct tls_lib *resolve_meet(const void *found, const void *ra)
{
	struct object o;

	learn_self();
	if (resolve_inside(ra)) /* what is learned below is asked of dlsym() itself */
		return NULL;
	for (uint32_t i = 0; i < LIBS && atomic_load_explicit(&libs_ready[i], memory_order_acquire); i++)
		if (inside(&libs[i], (uintptr_t)found))
			return &libs[i];
	(void)resolve_learn();
	if (resolve_inside(ra) || !old_dlopen || !old_dlsym || !old_dlclose)
		return NULL;
	o = object_at(found);
	return looks_whole(&o) ? lib_of(&o) : NULL;
}

/* The libraries whose functions were given out, of OpenSSL's kind and of GnuTLS's. */
static const struct tls_lib *_Atomic given[2];

static const struct tls_lib *_Atomic *given_of(const struct tls_facts *kind)
{
	return kind == &openssl_facts ? &given[0] : kind == &gnutls_facts ? &given[1] : NULL;
}

bool resolve_give(const struct tls_lib *lib)
{
	const struct tls_lib *_Atomic *slot = given_of(lib->facts);
	const struct tls_lib *none = NULL;

	return slot && is_whole(lib) && (atomic_compare_exchange_strong(slot, &none, lib) || none->lo == lib->lo);
}

/* --- calls ----------------------------------------------------------------------------------------- */

/* The library that made @handle, of those we know. */
static inline const struct tls_lib *owner(const void *handle)
{
	const uintptr_t *word = handle;

	for (uint32_t i = 0; i < LIBS && atomic_load_explicit(&libs_ready[i], memory_order_acquire); i++)
		for (unsigned k = 0; k < WORDS; k++)
			if (inside(&libs[i], word[k]) && libs[i].facts != &crypto_facts)
				return &libs[i];
	return NULL;
}

const struct tls_lib *resolve_owner(const void *handle)
{
	return owner(handle);
}

const struct tls_lib *resolve_at(const void *p, const struct tls_facts *kind)
{
	for (uint32_t i = 0; i < LIBS && atomic_load_explicit(&libs_ready[i], memory_order_acquire); i++)
		if (inside(&libs[i], (uintptr_t)p) && libs[i].facts == kind)
			return &libs[i];
	return NULL;
}

bool resolve_inside(const void *ra)
{
	uintptr_t p = (uintptr_t)ra;

	for (uint32_t i = 0; i < LIBS && atomic_load_explicit(&libs_ready[i], memory_order_acquire); i++)
		if (inside(&libs[i], p))
			return true;
	return is_self(p);
}

/* The library whose BIO functions @bio wants. Its method is the 2nd word since OpenSSL 3.0, else the 1st. */
static inline const struct tls_lib *bio_owner(const uintptr_t *bio, const void *ra)
{
	const struct tls_lib *old = NULL, *caller = NULL;

	for (uint32_t i = 0; i < LIBS && atomic_load_explicit(&libs_ready[i], memory_order_acquire); i++) {
		const struct tls_lib *lib = &libs[i];

		if (!lib->BIO_read)
			continue;
		if (inside(lib, bio[1]))
			return lib;
		if (inside(lib, bio[0]))
			old = lib;
		if (inside(lib, (uintptr_t)ra))
			caller = lib;
	}
	return old ? old : caller;
}

/* The only library of that kind, as far as we know; NULL: there is none, or more than one. */
static const struct tls_lib *only(const struct tls_facts *kind)
{
	const struct tls_lib *found = NULL;

	for (uint32_t i = 0; i < LIBS && atomic_load_explicit(&libs_ready[i], memory_order_acquire); i++) {
		if (libs[i].facts != kind)
			continue;
		if (found && found->lo != libs[i].lo)
			return NULL;
		found = &libs[i];
	}
	return found;
}

static inline struct site reaches(const struct tls_lib *lib, const void *ra)
{
	uintptr_t p = (uintptr_t)ra;

	return (struct site){.lib = lib, .internal = inside(lib, p) || is_self(p)};
}

/* The places where call site @ra may be remembered. */
static _Atomic uint64_t *site_of(uintptr_t ra)
{
	return &sites[(ra ^ ra >> 8 ^ ra >> 16) & (SITES - WAYS)];
}

static void remember(const struct tls_lib *lib, const void *ra)
{
	uint64_t word = (uint64_t)(uintptr_t)ra << 8 | (uint64_t)(lib - libs + 1);
	_Atomic uint64_t *site = site_of((uintptr_t)ra);
	unsigned way = (unsigned)((uintptr_t)ra >> 5) & (WAYS - 1); /* if all are taken */

	for (unsigned i = 0; i < WAYS; i++) {
		uint64_t was = atomic_load_explicit(&site[i], memory_order_relaxed);

		if (!was || was >> 8 == word >> 8) {
			way = i;
			break;
		}
	}
	atomic_store_explicit(&site[way], word, memory_order_release);
}

/* Handles of that kind never tell their owner. */
static bool is_mute(const struct tls_facts *kind)
{
	return kind == &mbedtls_facts || kind == &wolfssl_facts;
}

/* A session of GnuTLS says nothing before its handshake. But if the only libgnutls is the one that the caller was
 * linked with, the dynamic linker need not be asked, which may be busy. Libraries without versions of symbols are the
 * caller's if it needs them by name. */
static const struct tls_lib *obvious(const struct tls_facts *kind, const struct object *from, const struct wanted *w)
{
	const struct tls_lib *lib = kind == &gnutls_facts || is_mute(kind) ? only(kind) : NULL;

	if (!lib || !lib->soname)
		return NULL;
	if (is_mute(kind))
		return from->found && needs(from, lib->soname) ? lib : NULL;
	return w->file && strcmp(lib->soname, w->file) == 0 ? lib : NULL;
}

/* A caller in @from that does not import @name has looked it up; if it is not the library, which calls itself. */
static const struct tls_lib *looked_up(const struct object *from, const char *name, const struct tls_facts *kind)
{
	bool may = from->found && *from->name && !is_self(from->lo) && old_dlopen;
	void *h = may ? old_dlopen(from->name, RTLD_LAZY | RTLD_NOLOAD) : NULL;
	uintptr_t own = h ? (uintptr_t)old_dlsym(h, name) : 0;

	if (h)
		(void)old_dlclose(h);
	if (own && own >= from->lo && own < from->hi)
		return lib_of(from);
	return atomic_load_explicit(given_of(kind), memory_order_acquire);
}

/* Look again at what is mapped; ask the dynamic linker. */
static __attribute__((noinline)) struct site find(const void *ra, const char *name, const void *handle)
{
	struct site ret = {.lib = NULL};
	const struct tls_facts *kind = kind_of(name);
	const struct tls_lib *lib;
	struct object from, at;
	struct wanted want;
	void *member;
	int err = errno;

	(void)resolve_learn();
	if (is_mute(kind))
		lib = resolve_at(ra, kind);
	else
		lib = !handle ? only(kind) : kind == &crypto_facts ? bio_owner(handle, ra) : owner(handle);
	if (!lib) {
		from = object_at(ra);
		want = wanted_by(&from, name);
		lib = obvious(kind, &from, &want);
		if (!lib && !want.imported && given_of(kind))
			lib = looked_up(&from, name, kind);
		if (!lib && old_dlsym && old_dlopen && old_dlvsym && old_dlclose) {
			ret.real = bind(&from, name, want.version);
			member = ret.real;
			if (!member && kind == &openssl_facts) /* its library has none; this one all have */
				member = bind(&from, "SSL_free", NULL);
			at = object_at(member);
			lib = member ? lib_of(&at) : only(kind);
		}
		if (lib && serves(lib, kind))
			remember(lib, ra);
	}
	if (lib && serves(lib, kind))
		ret = reaches(lib, ra);
	errno = err;
	return ret;
}

/* What was remembered of a call site; NULL: nothing. */
static const struct tls_lib *recall(const void *ra, const char *name)
{
	const _Atomic uint64_t *site = site_of((uintptr_t)ra);

	for (unsigned i = 0; i < WAYS; i++) {
		uint64_t word = atomic_load_explicit(&site[i], memory_order_acquire);
		const struct tls_lib *lib = (word & 0xff) ? &libs[(word & 0xff) - 1] : NULL;

		if (lib && word >> 8 == ((uint64_t)(uintptr_t)ra & 0xffffffffffffffull))
			return serves(lib, kind_of(name)) ? lib : NULL; /* it may call several by a pointer */
	}
	return NULL;
}

/* The last handle of this thread that did not tell its owner, and who that was. */
static __thread const void *silent;
static __thread const struct tls_lib *silent_lib;

struct site resolve(const void *ra, const char *name, const void *handle)
{
	const struct tls_lib *lib = handle ? owner(handle) : only(kind_of(name));
	struct site ret;

	if (__builtin_expect(lib != NULL, 1))
		return reaches(lib, ra);
	if (!is_self((uintptr_t)ra))
		lib = recall(ra, name);
	else if (silent == handle && silent_lib && serves(silent_lib, kind_of(name)))
		lib = silent_lib; /* it jumped from the function that our hook has called to another one */
	ret = lib ? reaches(lib, ra) : find(ra, name, handle);
	silent = handle;
	silent_lib = ret.lib;
	return ret;
}

struct site resolve_mute(const void *ra, const char *name)
{
	const struct tls_lib *lib = resolve_at(ra, kind_of(name));

	if (!lib)
		lib = recall(ra, name);
	return lib ? reaches(lib, ra) : find(ra, name, NULL);
}

struct site resolve_bio(const void *ra, const char *name, const void *bio)
{
	const struct tls_lib *lib = bio ? bio_owner(bio, ra) : only(&crypto_facts);

	if (!lib)
		lib = recall(ra, name);
	return lib ? reaches(lib, ra) : find(ra, name, bio);
}
