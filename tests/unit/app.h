/* SPDX-License-Identifier: Apache-2.0 */
/* app.h - a process that uses TLS, record by record: what test_order.c and test_pair.c write into a mapping. */
#ifndef TLSTAP_TEST_APP_H
#define TLSTAP_TEST_APP_H

#include "agent.h"

static struct family *fam;

/* --- a process that uses TLS, record by record ------------------------------------------------------ */

#define PID 4242

struct app {
	struct family *f;
	struct shm_slot *s;
	const void *handle;
	uint16_t producer;
	uint64_t id; /* of the connection: client random, port */
	bool server;
	uint64_t base[2];
};

static __attribute__((unused)) uintptr_t hint_of(unsigned stripe)
{
	static uintptr_t hints[SHM_STRIPES];

	for (uintptr_t h = 1; !hints[stripe]; h++)
		if (hash_of(h) % SHM_STRIPES == stripe)
			hints[stripe] = h;
	return hints[stripe];
}

static __attribute__((unused)) void begin_family(void)
{
	agent_start();
	fam = new_family(256, getpid());
	fam->netns = 1;
}

/* A process of the family that can die. */
static __attribute__((unused)) struct member *a_process(int32_t pid, uint16_t *ret_producer)
{
	struct member *m = calloc(1, sizeof(*m)), **to = realloc(fam->member, (fam->member_n + 1) * sizeof(*to));

	m->family = fam;
	m->ns_pid = m->p.pid = pid;
	m->pidfd = -1;
	to[fam->member_n++] = m;
	fam->member = to;
	fam->member_cap = fam->member_n;
	*ret_producer = shm_producer(&fam->r.v, pid);
	return m;
}

static __attribute__((unused)) void end_family(void)
{
	turns(5);
	balanced(true);
	agent_kill();
}

static __attribute__((unused)) struct app app_new(uint64_t id, bool server)
{
	struct app a = {.f = fam, .id = id, .server = server, .producer = 1};

	a.handle = (const void *)(0x7000000000u + id * 256 + server * 16);
	a.s = shm_insert(&fam->r.v, 1, a.handle);
	assert_non_null(a.s);
	store(&a.s->random8, id);
	for (unsigned d = 0; d < 2; d++)
		a.base[d] = load(&a.s->rep[d]);
	return a;
}

static __attribute__((unused)) struct rec rec_of(const struct app *a, enum rec_type type, uint16_t flags)
{
	return (struct rec){.type = (uint16_t)type,
			    .flags = flags,
			    .slot = (uint32_t)(a->s - a->f->r.v.slot),
			    .gen = load(&a->s->gen),
			    .producer = a->producer};
}

/* A record that was made and is published when the test says so: into a stripe of its choice, or never. Until then
 * its call is inside the TLS library. */
struct letter {
	struct family *f;
	struct rec r;
	uint8_t *data;
};

static __attribute__((unused)) void done_with(struct letter *l)
{
	struct shm_slot *s = &l->f->r.v.slot[l->r.slot];
	enum dir d = l->r.flags & REC_F_RX ? DIR_RX : DIR_TX;

	if ((l->r.type == REC_DATA || l->r.type == REC_HOLE) && l->r.gen == load(&s->gen))
		store_rel(&s->end[d], load(&s->end[d]) + 1);
	free(l->data);
	l->data = NULL;
}

static __attribute__((unused)) void post(struct letter *l, unsigned stripe)
{
	enum shm_why why;
	size_t done;

	assert_true(shm_append(&l->f->r.v, (uint16_t)l->r.producer, hint_of(stripe), &l->r, l->data, &why, &done));
	done_with(l);
}

static __attribute__((unused)) void never(struct letter *l)
{
	done_with(l);
}

static __attribute__((unused)) void now(struct letter l)
{
	post(&l, 0);
}

static __attribute__((unused)) struct letter letter(const struct app *a, struct rec r, const void *data, size_t len)
{
	struct letter l = {.f = a->f, .r = r, .data = malloc(len + 1)};

	l.r.len = (uint32_t)len;
	memcpy(l.data, data, len);
	return l;
}

static __attribute__((unused)) struct letter open_of(const struct app *a, uint16_t flags)
{
	struct rec_open o = {.lib = REC_LIB_OPENSSL, .ver = 4, .fd = 5, .pid = PID};
	uint16_t port = (uint16_t)(1024 + a->id % 60000);

	for (unsigned d = 0; d < 2; d++) {
		o.base[d] = load(&a->s->base[d]);
		o.start[d] = load(&a->s->start[d]);
	}
	memcpy(o.client_random, &a->id, 8);
	o.flags = flags | REC_OPEN_ADDRS | (a->server ? REC_OPEN_SERVER : 0);
	memcpy(o.local, a->server ? "\x0a\0\0\2" : "\x0a\0\0\1", 4);
	memcpy(o.remote, a->server ? "\x0a\0\0\1" : "\x0a\0\0\2", 4);
	o.local_port = a->server ? 443 : port;
	o.remote_port = a->server ? port : 443;
	return letter(a, rec_of(a, REC_OPEN, 0), &o, sizeof(o));
}

static __attribute__((unused)) enum side side_of(const struct app *a, enum dir d)
{
	return (d == DIR_TX) == a->server ? SIDE_SERVER : SIDE_CLIENT;
}

/* The TLS library reports @len bytes: counted; its record is returned. */
static __attribute__((unused)) struct letter call(struct app *a, enum dir d, size_t len, uint16_t flags)
{
	struct rec r = rec_of(a, REC_DATA, flags | (d == DIR_RX ? REC_F_RX : 0));
	uint64_t off = load(&a->s->rep[d]) - load(&a->s->base[d]) + load(&a->s->start[d]);

	store_rel(&a->s->begin[d], load(&a->s->begin[d]) + 1);
	r.off = load(&a->s->rep[d]);
	r.other = load(&a->s->rep[!d]);
	store(&a->s->rep[d], r.off + len);
	return letter(a, r, pattern(a->id, side_of(a, d), off), len);
}

static __attribute__((unused)) struct letter closing(const struct app *a, uint16_t flags)
{
	struct rec r = rec_of(a, REC_CLOSE, flags);

	r.off = load(&a->s->rep[DIR_TX]);
	r.other = load(&a->s->rep[DIR_RX]);
	return letter(a, r, "", 0);
}

static __attribute__((unused)) struct letter verdict_of(const struct app *a, bool rejected)
{
	return letter(a, rec_of(a, REC_VERDICT, rejected ? REC_F_REJECTED : 0), "", 0);
}

static __attribute__((unused)) void app_free(struct app *a)
{
	now(closing(a, REC_F_FREE));
	shm_remove(&a->f->r.v, a->producer, a->handle);
}

static __attribute__((unused)) struct app opened(uint64_t id, bool server)
{
	struct app a = app_new(id, server);

	now(open_of(&a, 0));
	return a;
}

static __attribute__((unused)) uint64_t forged(uint64_t id)
{
	return stream[id].bytes[0] + stream[id].bytes[1];
}

#endif
