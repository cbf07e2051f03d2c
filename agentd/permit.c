/* SPDX-License-Identifier: Apache-2.0 */
/* permit.c - mappings are switched off and on. */
#include "permit.h"

#include <errno.h>
#include <string.h>
#include <time.h>

#include "policy.h"
#include "tap.h"
#include "wire.h"

#define SETTLE_SWEEPS 3u /* all that was written before has been read by then */

#define load(p) atomic_load_explicit((p), memory_order_relaxed)
#define load_acq(p) atomic_load_explicit((p), memory_order_acquire)

static void refuse(struct tap *t)
{
	tap_close(t);
	tap_refuse(t, &t->family->lane->sum.denied);
}

/* --- processes --------------------------------------------------------------------------------------- */

/* What it has under way is not shown any more. */
static void refuse_all_of(const struct member *m)
{
	struct family *f = m->family;

	for (uint32_t i = 0; i < f->taps_n; i++) {
		struct tap *t = f->taps[i];

		if (t && (t->state == TAP_PAIRED || t->state == TAP_ASKING) && t->open.pid == m->ns_pid)
			refuse(t);
	}
}

void permit_judge(struct member *m, const struct helper_event *e)
{
	struct family *f = m->family;
	struct policy_answer a = {.tap = false};
	bool was = m->denied, judged = m->judged_rules || m->attached;

	if (!f->lane->policy)
		return;
	m->asked_rules = m->judged_rules = f->lane->rules;
	if (e->result == HELPER_R_OK && e->exe && *e->exe)
		policy_judge_event(f->lane->policy, e, &a);
	else if (judged)
		return; /* it has died, and a zombie has no program: it is what it was */
	else if (!f->adopted && !policy_tells_children(f->lane->policy)) {
		m->judged_rules = 0; /* likewise, and it ran the program of who attached: his verdict counts */
		return;
	}
	m->denied = !a.tap;
	if (a.isolate)
		atomic_store(&f->r.v.h->isolate, 1);
	if (m->denied && !was)
		refuse_all_of(m);
	permit_switch(f);
}

/* Whose verdict counts for a connection of who calls himself @pid: his, the living one's if a dead one did so, too. If
 * no rule tells children from their parent, anybody's: they all run the same program. */
static struct member *who_counts(const struct family *f, int32_t pid, bool children)
{
	struct member *best = NULL;

	for (unsigned i = 0; i < f->member_n; i++) {
		struct member *m = f->member[i];
		bool counts = children ? m->ns_pid == pid : !best || !best->judged_rules || best->denied;

		if (counts && (!best || m->pidfd != -1))
			best = m;
	}
	return best;
}

/* Have it looked at what @m is now. Returns 0 or -EAGAIN. */
static int look_again(struct member *m)
{
	struct family *f = m->family;

	if (m->pidfd == -1 || !m->asked_rules)
		return 0; /* it is what it was; or it is being looked at */
	if (helper_proc(f->lane->helper, family_cookie(f, 0, 0xfffff), &m->p) != 0)
		return -EAGAIN;
	m->asked_rules = 0;
	f->uids_asked++;
	return 0;
}

int permit_allows(struct family *f, int32_t pid, bool *looked)
{
	bool children = f->lane->policy && policy_tells_children(f->lane->policy);
	struct member *m = who_counts(f, pid, children);

	if (!f->lane->policy)
		return 1;
	if (!children && m && m->judged_rules)
		return !m->denied;
	if (!children && !f->adopted) /* else by the rules of now it was allowed when it attached */
		return 1;
	if (!m && f->member_n >= FAMILY_MEMBERS_MAX)
		return 0; /* nobody will ever know */
	if (!m) {
		f->scanned = false; /* look for it */
		return -EAGAIN;
	}
	if (looked && !*looked && !(*looked = look_again(m) == 0))
		return -EAGAIN;
	return m->judged_rules && m->asked_rules ? !m->denied : -EAGAIN;
}

/* Have all processes looked at again. What the helper is too busy for is asked after the next sweep. */
static void ask_again(struct family *f)
{
	uint64_t rules = f->lane->rules;

	for (unsigned i = 0; i < f->member_n; i++) {
		struct member *m = f->member[i];

		if (m->pidfd == -1 || m->asked_rules == rules)
			continue;
		if (helper_proc(f->lane->helper, family_cookie(f, 0, 0xfffff), &m->p) != 0)
			return;
		m->asked_rules = rules;
		f->uids_asked++;
	}
	f->judged_rules = rules;
}

/* --- mappings ---------------------------------------------------------------------------------------- */

static uint64_t now_ns(void)
{
	struct timespec ts;

	(void)clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static void set_on_ns(struct family *f, uint64_t ns)
{
	f->on_ns = ns;
	atomic_store(&f->r.v.h->on_ns, ns);
}

/* Handles that are freed while the mapping is off say nothing: let go of all slots, but for those in which a call is
 * or may be. Whoever goes on takes a new one. */
static void let_go(struct family *f)
{
	const struct shm *v = &f->r.v;

	for (uint32_t i = 0; i < f->taps_n && i < f->r.limit; i++) {
		struct shm_slot *s = &v->slot[i];
		uint64_t key = load_acq(&v->bucket[i]);
		bool idle = load(&s->state) & SHM_SLOT_OPENED;

		for (unsigned d = 0; d < 2; d++)
			idle &= load_acq(&s->begin[d]) == load_acq(&s->end[d]);
		if (f->taps[i] && key && idle)
			(void)atomic_compare_exchange_strong(&v->bucket[i], &key, 0);
	}
}

static void end_all(struct family *f)
{
	for (uint32_t i = 0; i < f->taps_n; i++)
		if (f->taps[i] && f->taps[i]->state != TAP_CLOSED)
			refuse(f->taps[i]);
	let_go(f);
	f->off_done = true;
}

static bool all_denied(const struct family *f)
{
	bool alive = false;

	for (unsigned i = 0; i < f->member_n; i++) {
		if (f->member[i]->pidfd == -1)
			continue;
		if (!f->member[i]->denied)
			return false;
		alive = true;
	}
	return alive;
}

static void off(struct family *f)
{
	f->off = true;
	f->off_done = false;
	f->off_sweep = f->sweep + SETTLE_SWEEPS;
	atomic_store(&f->r.v.h->off, SHM_OFF_FOR_NOW);
	set_on_ns(f, UINT64_MAX);
	lane_wake(f->lane);
}

static void on(struct family *f)
{
	let_go(f);
	f->off = false;
	atomic_store(&f->r.v.h->off, 0);
	set_on_ns(f, now_ns()); /* afterwards: what begins from now on is told from its beginning */
}

void permit_switch(struct family *f)
{
	bool want;

	f->denied = all_denied(f);
	want = f->lane->off || f->denied;
	if (f->broken || want == f->off)
		return;
	if (want)
		off(f);
	else if (f->off_done) /* else as soon as it is */
		on(f);
}

void permit_adopt(struct family *f)
{
	f->on_ns = atomic_load(&f->r.v.h->on_ns);
	if (atomic_load(&f->r.v.h->off) == SHM_OFF_FOR_NOW)
		off(f);
	permit_switch(f);
}

void permit_tend(struct family *f)
{
	if (f->lane->policy && f->judged_rules != f->lane->rules)
		ask_again(f);
	if (!f->off || f->broken)
		return;
	if (!f->off_done && f->sweep >= f->off_sweep)
		end_all(f);
	permit_switch(f);
}

bool permit_missed(const struct family *f, const struct rec_open *o)
{
	struct wire *w = f->lane->wire;
	const uint8_t *server = o->flags & REC_OPEN_SERVER_RANDOM ? o->server_random : NULL;
	enum side local = o->flags & REC_OPEN_SERVER ? SIDE_SERVER : SIDE_CLIENT;
	struct hellos_seen seen[WIRE_FOUND];
	size_t n;
	bool own;

	if (!f->on_ns || f->on_ns == UINT64_MAX)
		return f->on_ns != 0;
	if (memcmp(o->client_random, &(uint8_t[32]){0}, 32) ==
	    0) /* its library tells none, and the wire did not either */
		return true;
	n = wire_find(w, o->client_random, server, local, seen, &own);
	if (!n) {
		wire_read(w);
		n = wire_find(w, o->client_random, server, local, seen, &own);
	}
	for (size_t i = 0; i < n; i++)
		if (seen[i].first_ns >= f->on_ns + PERMIT_RESUME_NS)
			return false;
	return true;
}
