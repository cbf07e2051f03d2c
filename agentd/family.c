/* SPDX-License-Identifier: Apache-2.0 */
/* family.c - sweep one mapping; see its end. */
#include "family.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common/log.h"
#include "permit.h"
#include "tap.h"

#define DISCARD_MAX (1u << 22)	 /* records of one stripe that are given up: more than any pool holds */
#define RECORDS_MAX 4096u	 /* of one stripe in one sweep ... */
#define BYTES_MAX (16u << 20)	 /* ... with so many bytes, or the whole pool's */
#define STEPS_MAX (1u << 18)	 /* of one family in one sweep, to put records that wait into order */
#define QUIET_SWEEPS 4096u	 /* without a record: a stripe gives its chunk back */
#define NO_SLOT_MAX (1ull << 36) /* bytes in one sweep: more is nonsense */
#define TRIM_SWEEPS 32768u	 /* how often memory is given back */

/* Process @pid writes into @f from now on: it has left all others, by exec or of its own will. */
static void moved(struct family *f, pid_t pid)
{
	for (struct family *o = f->lane->families; o; o = o->next)
		for (unsigned i = 0; i < o->member_n && o != f; i++)
			if (o->member[i]->p.pid == pid && o->member[i]->pidfd != -1)
				member_left(o->member[i]);
}

/* --- birth and end --------------------------------------------------------------------------------- */

static int add(struct lane *l, struct family *f)
{
	struct stat st;

	if (fstat(f->r.fd, &st) == -1)
		return -errno;
	f->file.dev = st.st_dev;
	f->file.inode = st.st_ino;
	f->lane = l;
	f->next = l->families;
	l->families = f;
	l->families_n++;
	return 0;
}

int family_new(struct lane *l, struct newcomer *n)
{
	struct family *f = calloc(1, sizeof(*f));
	struct helper_pid p = {.pid = n->pid};
	struct member *m = NULL;
	int err = -ENOMEM;

	if (f) {
		f->r = n->r;
		f->id = n->id;
		f->pid = n->pid;
		f->uid = n->uid;
		f->netns = n->netns;
		f->judged_rules = n->rules;
		err = add(l, f);
	}
	if (err) {
		atomic_store(&n->r.v.h->off, SHM_OFF_FOR_GOOD); /* nobody will read it */
		quota_give(&l->quota, n->pid, n->uid);
		shm_reader_fini(&n->r);
		if (n->pidfd != -1)
			close(n->pidfd);
		free(f);
		free(n);
		return err;
	}
	if (member_add(f, &p, n->pid, n->pidfd, &m) != 0 || !m) {
		f->scanned = false; /* look for it again */
		if (n->pidfd != -1)
			close(n->pidfd);
	}
	if (m) {
		m->attached = true;
		m->judged_rules = n->rules;
	}
	moved(f, n->pid);
	permit_switch(f);
	free(n);
	return 0;
}

int family_adopt(struct lane *l, int fd, const struct helper_id *file, const struct helper_event *e)
{
	struct family *f;
	int err;

	for (f = l->families; f; f = f->next)
		if (f->file.dev == file->dev && f->file.inode == file->inode) {
			(void)family_member(f, &e->p, e->ns_pid);
			close(fd);
			return 0;
		}
	f = calloc(1, sizeof(*f));
	err = f ? quota_adopt(&l->quota, e->p.pid, e->uid) : -ENOMEM;
	if (err) {
		close(fd);
		free(f);
		return err;
	}
	err = shm_adopt(&f->r, fd, l->instance);
	if (err) {
		quota_give(&l->quota, e->p.pid, e->uid);
		close(fd);
		free(f);
		return err;
	}
	f->id = ++l->family_id;
	f->pid = e->p.pid;
	f->uid = e->uid;
	f->adopted = f->leaks = true;
	err = add(l, f);
	if (err) {
		quota_give(&l->quota, f->pid, f->uid);
		shm_reader_fini(&f->r);
		free(f);
		return err;
	}
	permit_adopt(f);
	(void)family_member(f, &e->p, e->ns_pid);
	for (uint32_t i = 0; i < f->r.limit; i++) {
		const struct shm_slot *s = &f->r.v.slot[i];

		if (atomic_load_explicit(&s->gen, memory_order_relaxed)) {
			struct tap *t = tap_get(f, i);

			if (t)
				tap_adopt(t);
		}
	}
	return 0;
}

/* Can this producer still write? Not if its process is known to be dead. */
static bool producer_dead(const struct family *f, uint16_t producer)
{
	int32_t pid = producer && producer <= SHM_PRODUCERS ? atomic_load(&f->r.v.pid[producer - 1]) : 0;
	bool dead = pid < 0;

	for (unsigned i = 0; i < f->member_n && pid > 0; i++)
		if (f->member[i]->ns_pid == pid) {
			if (!f->member[i]->dead_sweep || f->member[i]->dead_sweep > f->sweep)
				return false;
			dead = true;
		}
	return dead || f->gone;
}

/* Does the slot of @t say more than what was decided? What nobody is about to write any more is lost: no call was in
 * the TLS library, and all that was published then has been read. @over: its handle is freed. */
static bool idle_differs(struct family *f, struct tap *t, bool over)
{
	const struct shm_slot *s = &f->r.v.slot[t->slot];
	uint64_t rep = 0, calls = 0;
	bool idle = true;

	for (unsigned d = 0; d < 2; d++) {
		uint32_t begin = atomic_load_explicit(&s->begin[d], memory_order_acquire);

		idle &= begin == atomic_load_explicit(&s->end[d], memory_order_acquire);
		calls += begin;
		rep += atomic_load_explicit(&s->rep[d], memory_order_relaxed);
	}
	if (rep == t->next[0] + t->next[1])
		return false;
	f->unsettled = true;
	if (t->audit_rep != rep || t->audit_calls != calls || !(idle || over)) {
		t->audit_rep = rep;
		t->audit_calls = calls;
		t->audit_sweep = f->sweep + 2;
		return true;
	}
	if (f->sweep < t->audit_sweep)
		return true;
	if (over)
		tap_over(t);
	else
		tap_lose_rest(t);
	return false;
}

/* Settle one slot: what a dead process, or a connection that is over, reported and never wrote is lost. Returns false
 * if records of it still wait. */
static bool audit_slot(struct family *f, uint32_t i)
{
	const struct shm *v = &f->r.v;
	uint64_t key = atomic_load_explicit(&v->bucket[i], memory_order_relaxed);
	bool dead =
		f->gone || (key && producer_dead(f, atomic_load_explicit(&v->slot[i].producer, memory_order_relaxed)));
	struct tap *t;

	if (!atomic_load_explicit(&v->slot[i].gen, memory_order_relaxed))
		return true;
	t = tap_get(f, i);
	if (!t)
		return true;
	if (t->first)
		return false;
	if (dead) {
		tap_died(t);
		atomic_store_explicit(&v->bucket[i], 0, memory_order_relaxed);
		return true;
	}
	return !idle_differs(f, t, !key) || key;
}

/* Settle all slots; only those pages of the table that exist are looked at (lseek(2), SEEK_DATA). */
static bool audit(struct family *f)
{
	off_t base = (uint8_t *)f->r.v.slot - f->r.v.base,
	      end = base + (off_t)f->r.limit * (off_t)sizeof(struct shm_slot);
	off_t from = base, to;
	bool whole = true;

	while (from < end && (from = lseek(f->r.fd, from, SEEK_DATA)) != -1 && from < end) {
		to = lseek(f->r.fd, from, SEEK_HOLE);
		if (to == -1 || to > end)
			to = end;
		for (off_t at = from; at < to; at += (off_t)sizeof(struct shm_slot))
			whole &= audit_slot(f, (uint32_t)((at - base) / (off_t)sizeof(struct shm_slot)));
		from = to;
	}
	return whole;
}

/* Slots that nobody ever read a record of. */
static void audit_unread(struct family *f)
{
	f->gone = true;
	(void)audit(f);
}

/* Dead holders let go of their stripes. Returns false if one of these still holds records. */
static bool free_stripes(struct family *f)
{
	bool all = true;

	for (unsigned i = 0; i < SHM_STRIPES; i++) {
		uint32_t holder = atomic_load_explicit(&f->r.v.stripe[i].lock, memory_order_acquire);

		if (!holder || holder >= SHM_CONSUMER || !producer_dead(f, (uint16_t)holder))
			continue;
		all &= shm_retire(&f->r, i, (uint16_t)holder);
		f->leaks = true;
	}
	return all;
}

/* What dead processes left. Returns false if some of it still waits to be read. */
static bool settle(struct family *f)
{
	bool stripes = free_stripes(f);

	return audit(f) && stripes;
}

#define CHILDREN_NS 1000000000ull /* how often children are looked at that nobody introduced */

/* Children that died before they were met: in one round they are marked, in the next, when all that they wrote has
 * been read, they are buried, and their number is free. Pids mean something to us only in our own pid namespace. */
static void look_at_children(struct family *f)
{
	uint32_t n = f->producers_seen < SHM_PRODUCERS ? f->producers_seen : SHM_PRODUCERS;
	bool marked = false;

	if (f->broken || n <= 1 || f->lane->now_ns < f->children_ns || f->sweep < f->children_sweep)
		return;
	f->children_ns = f->lane->now_ns + CHILDREN_NS;
	f->children_sweep = f->sweep + 2;
	for (uint32_t i = 0; i < n && !marked; i++)
		marked = atomic_load_explicit(&f->r.v.pid[i], memory_order_relaxed) < 0;
	if (marked && !settle(f))
		return;
	for (uint32_t i = 0; i < n; i++) {
		int32_t pid = atomic_load_explicit(&f->r.v.pid[i], memory_order_relaxed);

		if (pid < 0)
			atomic_store(&f->r.v.pid[i], 0);
		else if (pid > 0 && f->own_pidns && kill(pid, 0) == -1 && errno == ESRCH)
			atomic_store(&f->r.v.pid[i], -pid);
	}
}

#define LEAKS_SWEEPS 64u /* looking for leaks holds up writers for some microseconds, and may have to be tried again */

/* Chunks that a dead process had in hand come back. */
static void find_leaks(struct family *f)
{
	if (!f->leaks || f->sweep < f->leaks_sweep)
		return;
	f->leaks = shm_leaks(&f->r) == -EAGAIN;
	f->leaks_sweep = f->sweep + LEAKS_SWEEPS;
}

uint64_t family_reported(struct family *f)
{
	uint64_t n = 0;

	for (uint32_t i = 0; i < f->taps_n; i++) {
		const struct tap *t = f->taps[i];

		for (unsigned d = 0; t && d < 2; d++) {
			uint64_t rep = atomic_load_explicit(&f->r.v.slot[i].rep[d], memory_order_acquire);

			n += !f->broken && rep > t->next[d] && rep - t->next[d] < 1ull << 48 ? rep : t->next[d];
		}
	}
	return n - f->before + f->no_slot;
}

static void end(struct family *f)
{
	struct lane *l = f->lane;
	struct family **at;

	for (uint32_t i = 0; i < f->taps_n; i++)
		if (f->taps[i])
			tap_close(f->taps[i]);
	l->ended_reported += family_reported(f);
	tap_untell(f);
	for (uint32_t i = 0; i < f->taps_n; i++)
		if (f->taps[i])
			tap_free(f->taps[i]);
	for (at = &l->families; *at != f; at = &(*at)->next)
		;
	*at = f->next;
	l->families_n--;
	while (f->member_n)
		member_free(f->member[--f->member_n]);
	free(f->member);
	free(f->taps);
	shm_reader_fini(&f->r);
	quota_give(&l->quota, f->pid, f->uid);
	free(f);
}

struct family *family_find(struct lane *l, uint64_t id)
{
	struct family *f = l->families;

	while (f && f->id != id)
		f = f->next;
	return f;
}

/* --- sweeping -------------------------------------------------------------------------------------- */

/* A process of the family wrote what no libtlstap writes. What it reported beyond this is its own affair. */
static void distrust(struct family *f)
{
	log_warn("family", "process %d (%s) wrote nonsense into its shared memory: not read any more",
		 f->member_n ? (int)f->member[0]->p.pid : 0, f->member_n ? f->member[0]->exe : "");
	f->lane->corrupt++;
	f->broken = true;
	atomic_store(&f->r.v.h->off, SHM_OFF_FOR_GOOD);
	for (uint32_t i = 0; i < f->taps_n; i++)
		if (f->taps[i]) {
			tap_close(f->taps[i]);
			tap_forget(f->taps[i]);
		}
}

/* Returns records used; *@ret_whole is false if the stripe was not read to its end. */
static unsigned sweep_stripe(struct family *f, unsigned stripe, bool *ret_whole)
{
	struct lane *l = f->lane;
	uint64_t pool = (uint64_t)f->r.v.chunks * SHM_CHUNK, bytes = 0;
	unsigned n;
	int got = 1; /* until it says that it has no more */

	for (n = 0; n < RECORDS_MAX && bytes < BYTES_MAX && bytes < pool && f->steps < STEPS_MAX; n++) {
		struct rec r;
		const uint8_t *data;
		struct tap *t;

		if (l->stalled || !lane_room(l, flow_room(&l->flow, SHM_CHUNK), flow_frames(&l->flow, SHM_CHUNK)))
			break;
		got = shm_next(&f->r, stripe, &r, &data);
		if (got != 1)
			break;
		t = r.slot < f->r.limit ? tap_get(f, r.slot) : NULL; /* we raise the limit before anybody uses it */
		if (!t) {
			got = -EBADMSG;
			break;
		}
		bytes += REC_HEAD;
		if (r.type != REC_HOLE) {
			memcpy(l->copy, data, r.len); /* once: from here on nobody else can change it */
			bytes += r.len;
		}
		shm_done(&f->r, stripe);
		if (!tap_record(t, &r, l->copy)) {
			got = -EBADMSG;
			break;
		}
	}
	if (got < 0)
		distrust(f);
	*ret_whole = got == 0;
	return n;
}

/* Returns false if there is no credit. */
static bool run_waiting(struct family *f)
{
	struct tap *t = f->waiting;

	f->waiting = NULL;
	while (t) {
		struct tap *next = t->waiting_next;

		t->waiting = false;
		if (!f->lane->stalled)
			(void)tap_run(t);
		if (t->first || t->end_sweep || t->state == TAP_ASKING)
			tap_watch(t);
		t = next;
	}
	return !f->lane->stalled;
}

unsigned family_sweep(struct family *f)
{
	uint64_t used = atomic_load_explicit(&f->r.v.h->used, memory_order_acquire);
	unsigned n = 0;

	if (!f->sweeping) {
		f->sweeping = true;
		f->left = used;
		for (unsigned i = 0; i < SHM_STRIPES; i++)
			f->mark[i] = atomic_load_explicit(&f->r.v.stripe[i].tail, memory_order_relaxed);
	}
	f->steps = 0;
	f->left &= used; /* a stripe without a chunk has nothing to say */
	for (unsigned i = 0; i < SHM_STRIPES && !f->broken; i++) {
		unsigned got;
		bool to_end;

		if (!(used >> i & 1))
			continue;
		got = sweep_stripe(f, i, &to_end);
		if (to_end || (int32_t)(f->r.s[i].head - f->mark[i]) >= 0)
			f->left &= ~(1ull << i);
		n += got;
		f->r.s[i].quiet = got ? 0 : f->r.s[i].quiet + 1;
		if (f->r.s[i].quiet > QUIET_SWEEPS && !f->broken) {
			f->r.s[i].quiet = 0;
			(void)shm_retire(&f->r, i, 0);
		}
	}
	if (run_waiting(f) && (!f->left || f->broken)) {
		f->sweep++;
		f->sweeping = false;
	}
	return n;
}

/* Raise the table's limit before it gets crowded: two buckets of a quarter-full table are hardly ever both full. */
static void grow(struct family *f)
{
	uint32_t limit = f->r.limit, full = atomic_load_explicit(&f->r.v.h->table_full, memory_order_relaxed);

	if (limit >= f->r.v.places || f->lane->taps >= LANE_CONNS_MAX ||
	    (full == f->table_full_told && f->taps_used < limit / 4))
		return;
	f->table_full_told = full;
	f->r.limit = limit * 2;
	atomic_store_explicit(&f->r.v.h->limit, f->r.limit, memory_order_release);
}

bool family_tend(struct family *f)
{
	bool died = false;
	uint64_t losses, no_slot;
	uint32_t producers = atomic_load_explicit(&f->r.v.h->producers, memory_order_relaxed);

	if (producers != f->producers_seen) {
		f->producers_seen = producers;
		f->r.wipe = producers > 1;
	}
	permit_tend(f);
	grow(f);
	find_leaks(f);
	look_at_children(f);
	no_slot = atomic_load_explicit(&f->r.v.h->lost_slot, memory_order_relaxed);
	if (!f->broken && no_slot > f->no_slot && no_slot - f->no_slot < NO_SLOT_MAX) {
		f->lane->sum.no_slot += no_slot - f->no_slot;
		f->no_slot = no_slot;
	}
	if (f->sweep % TRIM_SWEEPS == TRIM_SWEEPS - 1)
		shm_trim(&f->r);
	if (f->gone && f->sweep >= f->gone_sweep && (f->broken || audit(f))) {
		end(f);
		return false;
	}
	losses = atomic_load_explicit(&f->r.v.h->lost_full, memory_order_relaxed) +
		 atomic_load_explicit(&f->r.v.h->lost_busy, memory_order_relaxed);
	if ((losses != f->losses_seen || f->unsettled) && !f->broken && f->sweep >= f->audit_sweep) {
		f->audit_sweep = f->sweep + 100;
		f->unsettled = false;
		if (audit(f))
			f->losses_seen = losses;
	}
	for (unsigned i = 0; i < f->member_n; i++)
		died |= f->member[i]->dead_sweep && f->member[i]->dead_sweep <= f->sweep;
	if (!died || f->orphan)
		return true;
	if (!f->broken && !settle(f))
		return true; /* records wait: again after the next sweep */
	for (unsigned i = 0; i < f->member_n;) {
		struct member *m = f->member[i];

		if (m->dead_sweep && m->dead_sweep <= f->sweep && f->member_n > 1) {
			member_free(m);
			f->member[i] = f->member[--f->member_n];
		} else {
			i++;
		}
	}
	f->orphan = f->member_n == 1 && f->member[0]->dead_sweep && f->member[0]->dead_sweep <= f->sweep;
	f->scanned &= !f->orphan; /* does a child go on that never used TLS? */
	return true;
}

/* The sink takes nothing, and the processes that wrote this are dead: it cannot be kept for ever. */
static void discard(struct family *f)
{
	const uint8_t *data;
	struct rec r;

	atomic_store(&f->r.v.h->off, SHM_OFF_FOR_GOOD); /* a child that we do not know passes through from now on */
	for (unsigned i = 0; i < SHM_STRIPES; i++)
		for (unsigned n = 0; n < DISCARD_MAX && shm_next(&f->r, i, &r, &data) == 1; n++)
			shm_done(&f->r, i);
	for (uint32_t i = 0; i < f->taps_n; i++)
		if (f->taps[i])
			tap_discard(f->taps[i]);
	audit_unread(f);
	end(f);
}

void family_shed(struct lane *l)
{
	struct family *f, *oldest = NULL;
	unsigned dead = 0;

	for (f = l->families; f; f = f->next) {
		bool alive = false;

		for (unsigned i = 0; i < f->member_n && !alive; i++)
			alive = f->member[i]->pidfd != -1;
		if (alive)
			continue;
		dead++;
		oldest = f; /* new ones are put in front */
	}
	if (dead > FAMILIES_DEAD_MAX) {
		l->shed++;
		discard(oldest);
	}
}

/* --- looking for processes ------------------------------------------------------------------------- */

/* Between two looks through all of /proc: for the socket of a child that we do not know, and for children that may have
 * outlived the last process we know. The helper looks up sockets meanwhile, and these do not wait. */
#define SCAN_NS 20000000ull
#define SCAN_ORPHANS_NS 500000000ull

void family_scan(struct lane *l)
{
	struct helper_id id[HELPER_IDS_MAX];
	struct family *asked[HELPER_IDS_MAX];
	bool orphans = l->now_ns >= l->scan_orphans_ns;
	unsigned n = 0;

	if (l->now_ns < l->scan_ns)
		return;
	for (struct family *f = l->families; f && n < HELPER_IDS_MAX; f = f->next)
		if (!f->scanned && !f->scan_asked && !f->gone && (orphans || !f->orphan)) {
			asked[n] = f;
			id[n++] = f->file;
		}
	if (!n || l->scanning || helper_family(l->helper, 0, id, n) != 0)
		return;
	l->scanning = true;
	l->scan_ns = l->now_ns + SCAN_NS;
	if (orphans)
		l->scan_orphans_ns = l->now_ns + SCAN_ORPHANS_NS;
	while (n--) {
		asked[n]->scan_asked = asked[n]->scanned = true;
		asked[n]->alive = 0;
	}
}

void family_on_answer(struct lane *l, const struct helper_event *e)
{
	for (struct family *f = l->families; f; f = f->next) {
		if (e->last) {
			f->scan_asked_done = f->scan_asked;
		} else if (f->scan_asked && f->file.dev == e->id.dev && f->file.inode == e->id.inode) {
			f->alive += e->p.pid != getpid();
			(void)family_member(f, &e->p, e->ns_pid);
		}
	}
	if (!e->last)
		return;
	l->scanning = false;
	for (struct family *f = l->families; f; f = f->next) {
		if (!f->scan_asked_done)
			continue;
		f->scan_asked = f->scan_asked_done = false;
		if (e->result == HELPER_R_OK && !f->alive && f->orphan) {
			f->gone = true;
			f->gone_sweep = f->sweep + 2;
		} else if (f->orphan) {
			f->scanned = false;
		}
	}
	lane_wake(l);
}
