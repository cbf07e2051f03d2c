/* SPDX-License-Identifier: Apache-2.0 */
/* nspr.c - wrappers of NSPR's functions, for descriptors with a TLS layer of NSS; what that layer says of itself.
 *
 * A descriptor is a stack of layers, and NSPR's functions only call the method of the one that they are given. TLS is
 * the layer whose methods lie in NSS's libssl3; who has none goes through unseen. The handle of a connection is that
 * layer's secret, which stays what it is when the program pushes a layer on top, as the layer's address does not. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdatomic.h>
#include <string.h>

#include "attach.h"
#include "conn.h"
#include "hooks.h"
#include "resolve.h"

#define LAYERS_MAX 64u /* of one stack that are looked at */
#define MSG_PEEK_NSPR 2
#define SHUTDOWN_SEND 1
#define SHUTDOWN_BOTH 2

/* The call that this thread is in, with a descriptor that has TLS. Layers of programs call NSPR's functions for the
 * layer below, and so do those that send a file or accept for their own descriptor: then what the innermost reports is
 * what was said. A callback that speaks on the descriptor whose handshake it hears of is none of these. */
struct around {
	const void *handle;   /* NULL: any */
	const PRFileDesc *fd; /* NULL: calls for the same descriptor count, too */
	enum dir dir;
	unsigned calls[2]; /* such calls within it, on that handle, by direction ... */
	size_t bytes;	   /* ... and what those of its own direction counted */
};
static __thread struct around around;

/* The layer of the handle that facts are asked of: there is no way back from one to the other. */
static __thread PRFileDesc *asked;

/* --- layers ---------------------------------------------------------------------------------------- */

#define SET 256u /* a power of two */
#define WAYS 4u	 /* likewise; places that an address may have */

/* Addresses that something is known of. One that finds no place takes another one's: that is then found out again. */
struct set {
	_Atomic uintptr_t at[SET];
};

static _Atomic uintptr_t *place(struct set *s, uintptr_t p)
{
	return &s->at[(p >> 4 ^ p >> 12) & (SET - WAYS)];
}

static bool set_has(struct set *s, uintptr_t p)
{
	const _Atomic uintptr_t *at = place(s, p);

	for (unsigned i = 0; i < WAYS; i++)
		if (atomic_load_explicit(&at[i], memory_order_relaxed) == p)
			return true;
	return false;
}

static void set_add(struct set *s, uintptr_t p)
{
	_Atomic uintptr_t *at = place(s, p);
	unsigned i = 0;

	if (set_has(s, p))
		return;
	while (i < WAYS - 1 && atomic_load_explicit(&at[i], memory_order_relaxed))
		i++;
	atomic_store_explicit(&at[i], p, memory_order_relaxed);
}

/* Method tables of layers that are no library's that we know. Whoever is new here may be NSS, just loaded. */
static struct set judged;

static __attribute__((noinline)) const struct tls_lib *judge(const void *methods)
{
	int err = errno;

	if (set_has(&judged, (uintptr_t)methods))
		return NULL;
	(void)resolve_learn();
	set_add(&judged, (uintptr_t)methods);
	errno = err;
	return resolve_at(methods, &nss_facts);
}

/* The TLS layer of @fd, and whose it is; NULL: it has none. */
static inline PRFileDesc *tls_layer(PRFileDesc *fd, const struct tls_lib **ret)
{
	for (unsigned i = 0; fd && i < LAYERS_MAX; i++, fd = fd->lower) {
		*ret = resolve_at(fd->methods, &nss_facts);
		if (!*ret && fd->lower)
			*ret = judge(fd->methods);
		if (*ret)
			return fd->secret ? fd : NULL;
	}
	return NULL;
}

/* The beginning of struct PRIOMethods of prio.h. */
struct methods {
	int type;
	void *close, *read, *write, *available[2], *sync, *seek[2], *info[2], *writev;
	void *connect, *accept, *bind, *listen, *shutdown, *recv, *send;
};
#define METHOD(name) offsetof(struct methods, name)

/* The program's layers above TLS that a call passes, as one number: those whose @method is their own, for NSPR's pass it
 * on as it is. 0: none. */
static uintptr_t layers_of(const PRFileDesc *fd, const PRFileDesc *layer, size_t method)
{
	uintptr_t layers = 0;

	for (; fd && fd != layer; fd = fd->lower) {
		void *f;

		memcpy(&f, (const char *)fd->methods + method, sizeof(f));
		if (!resolve_at(f, &nspr_facts))
			layers = layers * 31 + (uintptr_t)fd->methods;
	}
	return layers;
}

/* Of such layers, by direction, those that call NSPR's functions for the layer below: what these report has passed TLS,
 * not what the upper ones say, which may buffer. The others call the methods of the layer below, and report what these
 * did. */
static struct set callers;

static uintptr_t caller(uintptr_t layers, enum dir dir)
{
	return layers << 1 | dir;
}

/* The real function at @member of a library's table. */
static void *real_at(const void *ra, const char *name, const void *fd, size_t member)
{
	struct site s = resolve(ra, name, fd);
	void *f = s.real;

	if (s.lib)
		memcpy(&f, (const char *)s.lib + member, sizeof(f));
	if (!f && fd) /* one of its words pointed elsewhere by chance */
		return real_at(ra, name, NULL, member);
	return f;
}
#define REAL_AT(name, fd) ((__typeof(&(name)))real_at(HERE, #name, fd, offsetof(struct tls_lib, name)))

/* The one that call @n, which may have TLS, is to reach. */
#define REAL_OF(name, n, fd) ((n).layer && (n).c.lib->name ? (n).c.lib->name : REAL_AT(name, fd))

/* --- calls ----------------------------------------------------------------------------------------- */

struct nspr_call {
	struct call c;
	PRFileDesc *fd;
	PRFileDesc *layer; /* its TLS layer; NULL: nothing to tap */
	uintptr_t own;	   /* the program's layers that the call passes above it; 0: none */
	bool told;	   /* its handshake was over when the call began */
	struct around outer;
};

static bool has(const struct nspr_call *n, unsigned state)
{
	return n->c.slot && atomic_load_explicit(&n->c.slot->state, memory_order_relaxed) & state;
}

static __attribute__((noinline)) void begin(struct nspr_call *n, const struct tls_lib *lib, PRFileDesc *fd,
					    enum dir dir, size_t method)
{
	int err = errno;

	n->fd = fd;
	n->own = layers_of(fd, n->layer, method);
	n->outer = around;
	around = (struct around){.handle = n->layer->secret, .fd = fd, .dir = dir};
	asked = n->layer;
	tap_socket(lib, n->layer->secret);
	tap_begin(&n->c, (struct site){.lib = lib}, n->layer->secret, dir);
	n->told = has(n, SHM_SLOT_OPENED);
	errno = err;
}

static inline bool enter(struct nspr_call *n, PRFileDesc *fd, enum dir dir, size_t method)
{
	const struct tls_lib *lib;

	n->layer = tls_layer(fd, &lib);
	if (__builtin_expect(n->layer != NULL, 0))
		begin(n, lib, fd, dir, method);
	return n->layer;
}

/* Has the layer begun a handshake? Else it was told to pass everything through as it is. */
static bool speaks_tls(const struct nspr_call *n)
{
	struct {
		uint32_t length, values;
	} info = {.length = 0};

	return n->c.lib->SSL_GetPreliminaryChannelInfo &&
	       n->c.lib->SSL_GetPreliminaryChannelInfo(asked, &info, sizeof(info)) == 0 && info.values;
}

/* What do the program's layers do? They may flush when they are to read; a handshake's callbacks speak for themselves. */
static void learn(const struct nspr_call *n, const struct around *in)
{
	for (unsigned d = 0; d < 2 && n->own; d++)
		if (in->calls[d] && (d == in->dir || n->told))
			set_add(&callers, caller(n->own, d));
}

/* Of @bytes that a call reported, those that are to be counted with it; *@ret_flags: as what. */
static size_t share(const struct nspr_call *n, size_t bytes, uint16_t *ret_flags)
{
	bool told = has(n, SHM_SLOT_OPENED) && !has(n, SHM_SLOT_EARLY);

	*ret_flags = 0;
	if (!n->c.handle || !bytes || (n->own && set_has(&callers, caller(n->own, n->c.dir))))
		return 0;
	if (told || nss_facts.ready(n->c.lib, n->c.handle))
		return bytes;
	if (n->c.dir == DIR_TX)
		*ret_flags = REC_F_EARLY;
	return speaks_tls(n) ? bytes : 0;
}

/* Back in the call around this one. Returns what happened within. */
static struct around out(struct nspr_call *n)
{
	struct around in = around;

	around = n->outer;
	asked = n->layer;
	return in;
}

static void count(const struct nspr_call *n, const struct around *in, size_t bytes)
{
	if ((around.handle && around.handle != in->handle) || around.fd == n->fd)
		return;
	around.calls[in->dir]++;
	if (around.dir == in->dir)
		around.bytes += in->bytes + bytes;
}

/* The call is over and reported @num; its bytes are in these pieces, one after the other. */
static __attribute__((noinline)) void done(struct nspr_call *n, const struct nspr_vec *vec, int vecs, int num)
{
	struct around in = out(n);
	uint16_t flags;
	int err = errno;
	size_t bytes, rest;

	learn(n, &in);
	bytes = rest = share(n, num > 0 ? (size_t)num : 0, &flags);
	for (int i = 0; i < vecs && rest; i++) {
		size_t len = vec[i].len > 0 ? (size_t)vec[i].len : 0;

		len = len < rest ? len : rest;
		tap_piece(&n->c, vec[i].base, len, flags);
		rest -= len;
	}
	tap_leave(&n->c, NULL, 0, 0);
	count(n, &in, bytes);
	errno = err;
}

static void done_one(struct nspr_call *n, const void *buf, int num)
{
	const struct nspr_vec vec = {.base = (char *)(uintptr_t)buf, .len = num};

	done(n, &vec, 1, num);
}

int PR_Read(PRFileDesc *fd, void *buf, int num)
{
	struct nspr_call n;
	bool ours = enter(&n, fd, DIR_RX, METHOD(read));
	__typeof(&PR_Read) real = REAL_OF(PR_Read, n, fd);
	int ret = real ? real(fd, buf, num) : -1;

	if (ours)
		done_one(&n, buf, ret);
	return ret;
}

int PR_Write(PRFileDesc *fd, const void *buf, int num)
{
	struct nspr_call n;
	bool ours = enter(&n, fd, DIR_TX, METHOD(write));
	__typeof(&PR_Write) real = REAL_OF(PR_Write, n, fd);
	int ret = real ? real(fd, buf, num) : -1;

	if (ours)
		done_one(&n, buf, ret);
	return ret;
}

/* What is only looked at will be read. */
int PR_Recv(PRFileDesc *fd, void *buf, int num, int flags, unsigned timeout)
{
	struct nspr_call n;
	bool ours = !(flags & MSG_PEEK_NSPR) && enter(&n, fd, DIR_RX, METHOD(recv));
	__typeof(&PR_Recv) real = ours ? REAL_OF(PR_Recv, n, fd) : REAL_AT(PR_Recv, fd);
	int ret = real ? real(fd, buf, num, flags, timeout) : -1;

	if (ours)
		done_one(&n, buf, ret);
	return ret;
}

int PR_Send(PRFileDesc *fd, const void *buf, int num, int flags, unsigned timeout)
{
	struct nspr_call n;
	bool ours = enter(&n, fd, DIR_TX, METHOD(send));
	__typeof(&PR_Send) real = REAL_OF(PR_Send, n, fd);
	int ret = real ? real(fd, buf, num, flags, timeout) : -1;

	if (ours)
		done_one(&n, buf, ret);
	return ret;
}

int PR_Writev(PRFileDesc *fd, const struct nspr_vec *vec, int num, unsigned timeout)
{
	struct nspr_call n;
	bool ours = enter(&n, fd, DIR_TX, METHOD(writev));
	__typeof(&PR_Writev) real = REAL_OF(PR_Writev, n, fd);
	int ret = real ? real(fd, vec, num, timeout) : -1;

	if (ours)
		done(&n, vec, num, ret);
	return ret;
}

/* A file went out: NSPR reads it and calls PR_Send(), which is seen; what a layer sent by other ways is not. */
static void done_file(struct nspr_call *n, int num)
{
	struct around in = out(n);
	int err = errno;
	size_t bytes = num > 0 && (size_t)num > in.bytes ? (size_t)num - in.bytes : 0;

	if (bytes && has(n, SHM_SLOT_OPENED) && shm_holds(&attach_shm, n->c.slot, n->c.producer, n->c.handle))
		tap_hole(&n->c, bytes);
	else /* or it was told to close the descriptor, too */
		tap_leave(&n->c, NULL, bytes = 0, 0);
	count(n, &in, bytes);
	errno = err;
}

int PR_TransmitFile(PRFileDesc *fd, PRFileDesc *file, const void *head, int num, int flags, unsigned timeout)
{
	struct nspr_call n;
	bool ours = enter(&n, fd, DIR_TX, METHOD(send));
	__typeof(&PR_TransmitFile) real = REAL_OF(PR_TransmitFile, n, fd);
	int ret;

	if (ours)
		around.fd = NULL;
	ret = real ? real(fd, file, head, num, flags, timeout) : -1;
	if (ours)
		done_file(&n, ret);
	return ret;
}

int PR_SendFile(PRFileDesc *fd, void *data, int flags, unsigned timeout)
{
	struct nspr_call n;
	bool ours = enter(&n, fd, DIR_TX, METHOD(send));
	__typeof(&PR_SendFile) real = REAL_OF(PR_SendFile, n, fd);
	int ret;

	if (ours)
		around.fd = NULL;
	ret = real ? real(fd, data, flags, timeout) : -1;
	if (ours)
		done_file(&n, ret);
	return ret;
}

/* A TLS layer was made. If its handle was another one's, that is over, though nobody called PR_Close(). */
static void made(PRFileDesc *fd, bool server)
{
	const struct tls_lib *lib;
	PRFileDesc *layer = tls_layer(fd, &lib);
	int err = errno;

	if (!layer)
		return;
	asked = layer;
	tap_close(lib, layer->secret, true);
	if (server)
		tap_server(lib, layer->secret, true);
	errno = err;
}

PRFileDesc *SSL_ImportFD(PRFileDesc *model, PRFileDesc *fd)
{
	__typeof(&SSL_ImportFD) real = REAL_AT(SSL_ImportFD, NULL);
	PRFileDesc *ret = real ? real(model, fd) : NULL;

	made(ret, false);
	return ret;
}

PRFileDesc *PR_Accept(PRFileDesc *listener, void *addr, unsigned timeout)
{
	__typeof(&PR_Accept) real = REAL_AT(PR_Accept, listener);
	PRFileDesc *fd = real ? real(listener, addr, timeout) : NULL;

	made(fd, true); /* whoever accepts is the server */
	return fd;
}

/* NSPR calls PR_Accept() and PR_Recv(), which are seen. */
int PR_AcceptRead(PRFileDesc *listener, PRFileDesc **ret, void **addr, void *buf, int num, unsigned timeout)
{
	__typeof(&PR_AcceptRead) real = REAL_AT(PR_AcceptRead, listener);
	struct around outer = around, in;
	struct nspr_call n;
	int got;

	around = (struct around){.dir = DIR_RX};
	got = real ? real(listener, ret, addr, buf, num, timeout) : -1;
	in = around;
	around = outer;
	if (got <= 0 || !ret || in.calls[DIR_RX])
		return got;
	made(*ret, true);
	if (enter(&n, *ret, DIR_RX, METHOD(recv)))
		done_one(&n, buf, got);
	return got;
}

int PR_Shutdown(PRFileDesc *fd, int how)
{
	__typeof(&PR_Shutdown) real = REAL_AT(PR_Shutdown, fd);
	const struct tls_lib *lib;
	PRFileDesc *layer = how == SHUTDOWN_SEND || how == SHUTDOWN_BOTH ? tls_layer(fd, &lib) : NULL;
	int ret = real ? real(fd, how) : -1, err = errno;

	if (layer && ret == 0) {
		asked = layer;
		tap_close(lib, layer->secret, false);
		errno = err;
	}
	return ret;
}

int PR_Close(PRFileDesc *fd)
{
	__typeof(&PR_Close) real = REAL_AT(PR_Close, fd);
	const struct tls_lib *lib;
	PRFileDesc *layer = tls_layer(fd, &lib);
	int err = errno;

	if (layer) {
		asked = layer;
		tap_close(lib, layer->secret, true); /* before the address can be somebody else's */
		errno = err;
	}
	return real ? real(fd) : -1;
}

/* What a program calls that did not leave connect() or accept() to NSS: it says whose end it has. */
int SSL_ResetHandshake(PRFileDesc *fd, int server)
{
	const struct tls_lib *lib;
	PRFileDesc *layer = tls_layer(fd, &lib);
	__typeof(&SSL_ResetHandshake) real = layer ? lib->SSL_ResetHandshake : REAL_AT(SSL_ResetHandshake, NULL);
	int err = errno;

	if (layer) {
		asked = layer;
		tap_server(lib, layer->secret, server);
		errno = err;
	}
	return real ? real(fd, server) : -1;
}

/* --- facts ----------------------------------------------------------------------------------------- */

/* The beginning of struct SSLChannelInfo of sslt.h, since NSS 3.25. It is filled as far as it is long. */
struct channel {
	uint32_t length;
	uint16_t version, cipher;
	uint32_t bits[2], times[3];
	uint32_t id_len;
	uint8_t id[32];
	const char *compression_name;
	int compression;
	int extended_master_secret;
	int early_data_accepted;
};

/* Nothing is known before the handshake is over, or so far that data may be sent; .version is 0 then. */
static struct channel channel_of(const struct tls_lib *lib)
{
	struct channel ch = {.version = 0}, none = {.version = 0};
	int code = lib->PR_GetError ? lib->PR_GetError() : 0, os_error = lib->PR_GetOSError ? lib->PR_GetOSError() : 0;
	bool ok = lib->SSL_GetChannelInfo && lib->SSL_GetChannelInfo(asked, &ch, sizeof(ch)) == 0;

	if (!ok && lib->PR_GetError && lib->PR_SetError && lib->PR_GetError() != code)
		lib->PR_SetError(code, os_error);
	return ok && ch.length >= offsetof(struct channel, bits) ? ch : none;
}

/* NSS tells nobody its randoms: whoever asks learns only whether a child goes on with its parent's handle. */
static uint64_t random8(const struct tls_lib *lib, const void *handle)
{
	(void)lib;
	return (uint64_t)(uintptr_t)handle * 0x9e3779b97f4a7c15u | 1;
}

static bool ready(const struct tls_lib *lib, const void *handle)
{
	(void)handle;
	return channel_of(lib).version != 0;
}

static enum tls_early early(const struct tls_lib *lib, const void *handle)
{
	struct channel ch = channel_of(lib);

	(void)handle;
	if (!ch.version)
		return TLS_EARLY_UNKNOWN;
	return ch.length >= sizeof(ch) && ch.early_data_accepted ? TLS_EARLY_ACCEPTED : TLS_EARLY_REJECTED;
}

/* The last layer below TLS. NULL: there is another TLS layer, whose socket is not ours. */
static PRFileDesc *bottom(void)
{
	PRFileDesc *fd = asked->lower;
	const struct tls_lib *lib;

	if (!fd || tls_layer(fd, &lib))
		return NULL;
	for (unsigned i = 0; fd->lower && i < LAYERS_MAX; i++)
		fd = fd->lower;
	return fd;
}

/* A program's own last layer may look like NSPR's; but for these methods nobody knows where its descriptor is. */
static int fd_of(const struct tls_lib *lib, const void *handle)
{
	PRFileDesc *fd = bottom();

	(void)handle;
	if (!fd || !lib->PR_GetTCPMethods || !lib->PR_FileDesc2NativeHandle || fd->methods != lib->PR_GetTCPMethods())
		return -1;
	return lib->PR_FileDesc2NativeHandle(fd);
}

static size_t describe(const struct tls_lib *lib, const void *handle, struct rec_open *o, uint8_t *ret_names)
{
	const PRFileDesc *fd = bottom();
	unsigned alpn_len = 0;
	int state;

	(void)handle;
	o->tls_version = channel_of(lib).version;
	if (fd && lib->PR_GetUDPMethods && fd->methods == lib->PR_GetUDPMethods())
		o->flags |= REC_OPEN_NOT_TCP;
	if (o->tls_version && lib->SSL_GetNextProto &&
	    lib->SSL_GetNextProto(asked, &state, ret_names, &alpn_len, REC_NAME_MAX) == 0 && alpn_len <= REC_NAME_MAX)
		o->alpn_len = (uint8_t)alpn_len;
	return o->alpn_len;
}

const struct tls_facts nss_facts = {
	.lib = REC_LIB_NSS,
	.random8 = random8,
	.ready = ready,
	.early = early,
	.fd = fd_of,
	.describe = describe,
};

const struct tls_facts nspr_facts = {.lib = REC_LIB_NSS};
