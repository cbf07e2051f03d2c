/* SPDX-License-Identifier: Apache-2.0 */
/* conn.c - TLS handle -> slot; what was reported -> records. */
#define _GNU_SOURCE
#include "conn.h"

#include <errno.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>

#include "attach.h"
#include "resolve.h"

#define load(p) atomic_load_explicit((p), memory_order_relaxed)
#define load_acq(p) atomic_load_explicit((p), memory_order_acquire)
#define store(p, v) atomic_store_explicit((p), (v), memory_order_relaxed)
#define store_rel(p, v) atomic_store_explicit((p), (v), memory_order_release)

/* The innermost call of this thread: with it a call of the library on itself, through its PLT, is told
 * from a call of the application. Left over after a longjmp it does no harm: only callers inside
 * the TLS library are compared with it. */
static __thread const void *in_handle;
static __thread uintptr_t in_frame;

static uintptr_t hint(void)
{
	return (uintptr_t)&in_handle; /* differs from thread to thread */
}

/* --- addresses ------------------------------------------------------------------------------------- */

static bool put_address(const struct sockaddr_storage *ss, uint8_t addr[16], uint16_t *port, uint8_t *ver)
{
	static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};

	if (ss->ss_family == AF_INET) {
		const struct sockaddr_in *a = (const void *)ss;

		memcpy(addr, &a->sin_addr, 4);
		*port = ntohs(a->sin_port);
		*ver = 4;
		return true;
	}
	if (ss->ss_family == AF_INET6) {
		const struct sockaddr_in6 *a = (const void *)ss;

		*port = ntohs(a->sin6_port);
		if (memcmp(&a->sin6_addr, mapped, 12) == 0) {
			memcpy(addr, (const uint8_t *)&a->sin6_addr + 12, 4);
			*ver = 4;
		} else {
			memcpy(addr, &a->sin6_addr, 16);
			*ver = 6;
		}
		return true;
	}
	return false;
}

/* The two system calls that a connection costs, once. */
static void ask_addresses(struct rec_open *o)
{
	struct sockaddr_storage ss;
	socklen_t len = sizeof(ss);
	uint8_t ver = 0;

	memset(&ss, 0, sizeof(ss));
	if (getsockname(o->fd, (struct sockaddr *)&ss, &len) != 0)
		return;
	if (!put_address(&ss, o->local, &o->local_port, &ver)) {
		o->flags |= REC_OPEN_NOT_TCP;
		return;
	}
	len = sizeof(ss);
	memset(&ss, 0, sizeof(ss));
	if (getpeername(o->fd, (struct sockaddr *)&ss, &len) != 0 ||
	    !put_address(&ss, o->remote, &o->remote_port, &o->ver) || o->ver != ver)
		return;
	o->flags |= REC_OPEN_ADDRS;
}

/* --- slots ----------------------------------------------------------------------------------------- */

static void init_rec(struct rec *r, const struct shm_slot *s, enum rec_type type)
{
	memset(r, 0, sizeof(*r));
	r->type = (uint16_t)type;
	r->slot = (uint32_t)(s - attach_shm.slot);
	r->gen = load(&s->gen);
	r->producer = load(&s->producer);
}

static void count_lost(enum shm_why why, uint64_t n)
{
	atomic_fetch_add_explicit(why == SHM_FULL ? &attach_shm.h->lost_full : &attach_shm.h->lost_busy, n,
				  memory_order_relaxed);
}

static bool append(const struct rec *r, const void *data)
{
	enum shm_why why;
	size_t done;

	if (shm_append(&attach_shm, (uint16_t)r->producer, hint(), r, data, &why, &done))
		return true;
	if (r->type == REC_DATA || r->type == REC_HOLE)
		count_lost(why, r->len - done);
	return false;
}

/* Say what the connection is. Again with every record until it was published. */
static __attribute__((noinline)) void say_open(const struct call *c, struct shm_slot *s)
{
	struct {
		struct rec_open o;
		uint8_t names[TLS_NAMES_MAX];
	} msg;
	const struct tls_lib *lib = c->lib;
	struct rec r;
	int err = errno;

	if (!load(&s->random8))
		store(&s->random8, lib->facts->random8(lib, c->handle));
	memset(&msg.o, 0, sizeof(msg.o));
	for (unsigned d = 0; d < 2; d++) {
		msg.o.base[d] = load(&s->base[d]);
		msg.o.start[d] = load(&s->start[d]);
	}
	if (load(&s->state) & SHM_SLOT_CHILD)
		msg.o.flags |= REC_OPEN_CHILD;
	else if (load(&s->state) & SHM_SLOT_MIDWAY)
		msg.o.flags |= REC_OPEN_MIDWAY;
	msg.o.lib = lib->facts->lib;
	msg.o.pid = attach_pid;
	msg.o.fd = lib->facts->fd(lib, c->handle);
	if (load(&s->state) & SHM_SLOT_TOLD)
		msg.o.flags |= REC_OPEN_TOLD;
	else if (msg.o.fd >= 0 && attach_may_ask)
		ask_addresses(&msg.o);
	init_rec(&r, s, REC_OPEN);
	r.len = (uint32_t)(sizeof(msg.o) + lib->facts->describe(lib, c->handle, &msg.o, msg.names));
	if (load(&s->state) & SHM_SLOT_SERVER)
		msg.o.flags |= REC_OPEN_SERVER;
	if (append(&r, &msg))
		store(&s->state, load(&s->state) | SHM_SLOT_OPENED);
	errno = err;
}

/* A child goes on in a connection that its parent began: where the parent was. */
static void inherit(const struct call *c, struct shm_slot *s)
{
	const struct shm_slot *p = c->parent ? shm_find(&attach_shm, c->parent, c->handle) : NULL;

	if (!p || !load(&p->random8) || load(&p->random8) != load(&s->random8))
		return;
	for (unsigned d = 0; d < 2; d++)
		store(&s->start[d], load(&p->start[d]) + load(&p->rep[d]) - load(&p->base[d]));
	store(&s->state, load(&s->state) | SHM_SLOT_CHILD);
}

static __attribute__((noinline)) struct shm_slot *make_slot(const struct call *c)
{
	struct shm_slot *s = shm_insert(&attach_shm, c->producer, c->handle);

	if (!s)
		return NULL;
	store(&s->random8, c->lib->facts->random8(c->lib, c->handle));
	inherit(c, s);
	return s;
}

/* The handle's address is in use again, or its session renegotiated: agentd finds out which. */
static __attribute__((noinline)) struct shm_slot *renew_slot(const struct call *c, struct shm_slot *s, uint64_t r8)
{
	for (unsigned d = 0; d < 2; d++) {
		store(&s->base[d], load(&s->rep[d]));
		store(&s->start[d], 0);
	}
	store(&s->random8, r8);
	store(&s->state, 0);
	store_rel(&s->gen, load(&s->gen) + 1);
	say_open(c, s);
	return s;
}

/* Early data of a client were accepted or not, once the handshake is over. */
static __attribute__((noinline)) void say_verdict(const struct call *c, struct shm_slot *s)
{
	enum tls_early early = c->lib->facts->early(c->lib, c->handle);
	struct rec r;

	if (early == TLS_EARLY_UNKNOWN)
		return;
	init_rec(&r, s, REC_VERDICT);
	r.off = load(&s->rep[DIR_TX]);
	r.other = load(&s->rep[DIR_RX]);
	if (early == TLS_EARLY_REJECTED)
		r.flags = REC_F_REJECTED;
	if (append(&r, NULL))
		store(&s->state, load(&s->state) & (uint16_t)~SHM_SLOT_EARLY);
}

/* --- calls ----------------------------------------------------------------------------------------- */

static bool ready(const struct call *c)
{
	return c->lib->facts->ready(c->lib, c->handle);
}

static bool nested(const struct call *c, uintptr_t frame)
{
	return in_handle == c->handle && in_handle && frame < in_frame;
}

void tap_enter(struct call *c, void *handle, enum dir dir, const void *ra, const char *name)
{
	tap_begin(c, resolve(ra, name, handle), handle, dir);
}

void tap_begin(struct call *c, struct site site, void *handle, enum dir dir)
{
	uintptr_t frame = (uintptr_t)c;

	if (atomic_load_explicit(&attach_state, memory_order_relaxed) < ATTACH_DONE)
		attach_late();
	c->lib = site.lib;
	c->real = site.real;
	c->handle = handle;
	c->dir = dir;
	c->slot = NULL;
	c->inner = 0;
	c->internal = site.internal;
	if (!attach_on() || !site.lib || !handle || (site.internal && nested(c, frame)) ||
	    !(c->producer = attach_producer(&c->parent))) {
		c->handle = NULL;
		return;
	}
	c->outer = in_handle;
	c->outer_frame = in_frame;
	in_handle = handle;
	in_frame = frame;
	c->slot = shm_find(&attach_shm, c->producer, handle);
	if (!c->slot) {
		/* before the first byte: agentd has the whole exchange to look the socket up */
		if (ready(c) && (c->slot = make_slot(c))) {
			store(&c->slot->state, load(&c->slot->state) | SHM_SLOT_MIDWAY);
			say_open(c, c->slot);
		}
	} else if (load(&c->slot->state) & SHM_SLOT_EARLY) {
		say_verdict(c, c->slot);
	} else if (!(load(&c->slot->state) & SHM_SLOT_OPENED) && ready(c)) {
		say_open(c, c->slot);
	}
	if (c->slot) {
		c->other = load_acq(&c->slot->done[!dir]);
		c->inner = load(&c->slot->inner[dir]);
		store_rel(&c->slot->begin[dir], load(&c->slot->end[dir]) + 1);
	}
}

/* Everything of a call that reported bytes but the records. Returns the slot or NULL. */
static struct shm_slot *count(struct call *c, struct rec *r, size_t n, uint16_t flags)
{
	struct shm_slot *s = c->slot;
	enum dir dir = c->dir;
	uint64_t r8;

	if (s && !shm_holds(&attach_shm, s, c->producer, c->handle))
		s = c->slot = NULL; /* another thread let go of the handle while we were inside */
	if (!s)
		s = shm_find(&attach_shm, c->producer, c->handle);
	if (!s)
		s = make_slot(c);
	else if ((r8 = c->lib->facts->random8(c->lib, c->handle)) && r8 != load(&s->random8)) {
		if (load(&s->random8))
			s = renew_slot(c, s, r8);
		else
			store(&s->random8, r8);
	}
	if (!s) {
		atomic_fetch_add_explicit(&attach_shm.h->lost_slot, n, memory_order_relaxed);
		return NULL;
	}
	init_rec(r, s, REC_DATA);
	r->off = load(&s->rep[dir]);
	r->flags = flags;
	if (dir == DIR_RX) {
		uint32_t begin = load_acq(&s->begin[DIR_TX]);

		r->flags |= REC_F_RX;
		if (begin != load_acq(&s->end[DIR_TX])) {
			r->flags |= REC_F_IN_FLIGHT;
			r->begin = begin;
		}
		r->other = load_acq(&s->done[DIR_TX]);
	} else {
		r->other = c->slot ? c->other : load_acq(&s->done[DIR_RX]);
	}
	if (!c->slot) { /* made here: another piece may follow */
		c->other = r->other;
		c->slot = s;
	}
	store_rel(&s->rep[dir], r->off + n); /* first the count, then the copy */
	if (c->internal)
		store(&s->inner[dir], load(&s->inner[dir]) + n);
	if (flags & REC_F_EARLY)
		store(&s->state, load(&s->state) | SHM_SLOT_EARLY);
	else if (load(&s->state) & SHM_SLOT_EARLY)
		say_verdict(c, s);
	if (!(load(&s->state) & SHM_SLOT_OPENED))
		say_open(c, s);
	return s;
}

static void leave(struct call *c, struct shm_slot *s)
{
	if (s && shm_holds(&attach_shm, s, c->producer, c->handle)) {
		store_rel(&s->done[c->dir], load(&s->rep[c->dir]));
		store_rel(&s->end[c->dir], load(&s->begin[c->dir]));
	}
	in_handle = c->outer;
	in_frame = c->outer_frame;
}

#define PIECE_MAX (1u << 30) /* a record's length is a 32-bit number, and a call's may be larger */

/* The records of @n bytes at r->off; @buf NULL: they were never in memory. */
static void write_records(const struct shm_slot *s, struct rec *r, const void *buf, size_t n)
{
	bool opened = load(&s->state) & SHM_SLOT_OPENED;

	while (n) {
		r->len = (uint32_t)(n < PIECE_MAX ? n : PIECE_MAX);
		if (opened)
			(void)append(r, buf);
		else
			count_lost(SHM_FULL, r->len);
		n -= r->len;
		r->off += r->len;
		r->flags |= REC_F_CONT;
		buf = buf ? (const uint8_t *)buf + r->len : NULL;
	}
}

/* Of @n bytes that a call reported, those that calls within it have counted. tap_begin() knows them, but not where a
 * program has switched stacks in between: then another call is this thread's innermost. */
static size_t counted_within(const struct call *c, size_t n)
{
	const struct shm_slot *s = c->slot ? c->slot : shm_find(&attach_shm, c->producer, c->handle);
	uint64_t inner = s && !c->internal ? load(&s->inner[c->dir]) : 0;

	inner = inner > c->inner ? inner - c->inner : 0;
	return inner < n ? (size_t)inner : n;
}

static struct shm_slot *put(struct call *c, enum rec_type type, const void *buf, size_t n, uint16_t flags)
{
	struct rec r;
	struct shm_slot *s;
	size_t within;

	if (!attach_on()) /* switched off while we were inside: nothing is taken any more */
		n = 0;
	within = n ? counted_within(c, n) : 0;
	n -= within;
	buf = buf ? (const uint8_t *)buf + within : NULL;
	s = n ? count(c, &r, n, flags) : c->slot;
	if (n && s) {
		r.type = (uint16_t)type;
		write_records(s, &r, buf, n);
	}
	return s;
}

/* Not inlined: a program that switches stacks inside the real call may come back on another thread. */
static __attribute__((noinline)) void finish(struct call *c, enum rec_type type, const void *buf, size_t n,
					     uint16_t flags)
{
	if (c->handle)
		leave(c, put(c, type, buf, n, flags));
}

__attribute__((noinline)) void tap_piece(struct call *c, const void *buf, size_t n, uint16_t flags)
{
	if (c->handle)
		(void)put(c, REC_DATA, buf, n, flags);
}

void tap_leave(struct call *c, const void *buf, size_t n, uint16_t flags)
{
	finish(c, REC_DATA, buf, n, flags);
}

void tap_hole(struct call *c, size_t n)
{
	finish(c, REC_HOLE, NULL, n, 0);
}

void tap_aside(struct call *c, void *handle)
{
	c->handle = attach_on() ? handle : NULL;
	c->slot = NULL;
	if (!c->handle)
		return;
	c->outer = in_handle;
	c->outer_frame = in_frame;
	in_handle = handle;
	in_frame = (uintptr_t)c;
}

uint64_t tap_counted(const void *handle, enum dir dir)
{
	uint16_t producer, parent;
	const struct shm_slot *s = NULL;

	if (handle && attach_on() && (producer = attach_producer(&parent)))
		s = shm_find(&attach_shm, producer, handle);
	return s ? load(&s->rep[dir]) : 0;
}

void tap_server(const struct tls_lib *lib, void *handle, bool server)
{
	struct call c = {.lib = lib, .handle = handle};
	struct shm_slot *s;

	if (atomic_load_explicit(&attach_state, memory_order_relaxed) < ATTACH_DONE)
		attach_late();
	if (!lib || !handle || !attach_on() || !(c.producer = attach_producer(&c.parent)))
		return;
	s = shm_find(&attach_shm, c.producer, handle);
	if (server && (s || (s = make_slot(&c))))
		store(&s->state, load(&s->state) | SHM_SLOT_SERVER);
	else if (s)
		store(&s->state, load(&s->state) & (uint16_t)~SHM_SLOT_SERVER);
}

__attribute__((noinline)) void tap_socket(const struct tls_lib *lib, void *handle)
{
	struct call c = {.lib = lib, .handle = handle};
	struct rec_open o;
	struct shm_slot *s;
	struct rec r;
	int err = errno;

	if (atomic_load_explicit(&attach_state, memory_order_relaxed) < ATTACH_DONE)
		attach_late();
	if (!lib || !handle || !attach_on() || !(c.producer = attach_producer(&c.parent)))
		return;
	s = shm_find(&attach_shm, c.producer, handle);
	if (s && (load(&s->state) & (SHM_SLOT_TOLD | SHM_SLOT_OPENED)))
		return;
	/* made here, before a reader and a writer can meet the handle at once */
	if (!s && !(s = make_slot(&c)))
		return;
	memset(&o, 0, sizeof(o));
	o.fd = lib->facts->fd(lib, handle);
	o.pid = attach_pid;
	if (o.fd >= 0 && attach_may_ask)
		ask_addresses(&o);
	errno = err;
	store(&s->random8, 0); /* before the handshake is over it is not the one that is sent */
	if (!(o.flags & REC_OPEN_ADDRS))
		return;
	init_rec(&r, s, REC_SOCKET);
	r.len = sizeof(o);
	if (append(&r, &o))
		store(&s->state, load(&s->state) | SHM_SLOT_TOLD);
}

__attribute__((noinline)) void tap_close(const struct tls_lib *lib, void *handle, bool gone)
{
	struct call c = {.lib = lib, .handle = handle};
	uint16_t producer, parent;
	struct shm_slot *s;
	struct rec r;

	if (!handle || !attach_on() || !(producer = attach_producer(&parent)))
		return;
	s = shm_find(&attach_shm, producer, handle);
	if (!s || (!gone && (load(&s->state) & SHM_SLOT_SHUT)))
		return;
	if (lib && (load(&s->state) & SHM_SLOT_EARLY))
		say_verdict(&c, s);
	if (!(load(&s->state) & SHM_SLOT_OPENED) && load(&s->rep[0]) == load(&s->base[0]) &&
	    load(&s->rep[1]) == load(&s->base[1])) {
		if (gone) /* a handshake that came to nothing */
			shm_remove(&attach_shm, producer, handle);
		return;
	}
	init_rec(&r, s, REC_CLOSE);
	r.off = load(&s->rep[DIR_TX]);
	r.other = load(&s->rep[DIR_RX]);
	r.flags = gone ? REC_F_FREE : 0;
	(void)append(&r, NULL);
	if (gone)
		shm_remove(&attach_shm, producer, handle);
	else
		store(&s->state, load(&s->state) | SHM_SLOT_SHUT);
}
