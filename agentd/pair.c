/* SPDX-License-Identifier: Apache-2.0 */
/* pair.c - what a process states, and what the wire shows, is proven by the kernel, or not used. */
#include "pair.h"

#include <errno.h>
#include <net/if.h>
#include <string.h>

#include "common/log.h"
#include "conn.h"
#include "ifaddr.h"
#include "permit.h"
#include "wire.h"

#define AGAIN_MIN_NS 1000000ull	  /* who waits for an answer of nobody looks again after so long, then seldomer ... */
#define AGAIN_MAX_NS 100000000ull /* ... up to this */

static uint64_t cookie_of(const struct tap *t, uint32_t gen)
{
	return family_cookie(t->family, gen, t->slot);
}

static enum side local_side(const struct tap *t)
{
	return t->server ? SIDE_SERVER : SIDE_CLIENT;
}

static void tuple_of(const struct tap *t, const struct endpoint *e, struct tuple *ret)
{
	enum side local = local_side(t);

	memset(ret, 0, sizeof(*ret));
	ret->ver = e->ver;
	memcpy(ret->addr[local], e->local, 16);
	memcpy(ret->addr[!local], e->remote, 16);
	ret->port[local] = e->local_port;
	ret->port[!local] = e->remote_port;
}

static void endpoint_of(const struct tap *t, const struct hellos_seen *s, struct endpoint *ret)
{
	enum side local = local_side(t);

	memset(ret, 0, sizeof(*ret));
	ret->ver = s->t.ver;
	memcpy(ret->local, s->t.addr[local], 16);
	memcpy(ret->remote, s->t.addr[!local], 16);
	ret->local_port = s->t.port[local];
	ret->remote_port = s->t.port[!local];
	ret->netns = s->netns;
}

static const uint8_t *server_random(const struct rec_open *o)
{
	return o->flags & REC_OPEN_SERVER_RANDOM ? o->server_random : NULL;
}

/* --- the end --------------------------------------------------------------------------------------- */

static const char *why_text(unsigned why)
{
	static const char *const text[] = {
		[HELPER_R_ERROR] = "the kernel could not be asked",
		[HELPER_R_FOREIGN] = "the socket is not one of the process's descriptors",
		[HELPER_R_GONE] = "there is no such socket (any more)",
		[HELPER_R_OTHER_NETNS] = "the process lives in another network namespace, see --netns",
		[HELPER_R_NO_PROCESS] = "the process has gone",
		[HELPER_R_OK] = "the wire shows its random on connections of others only",
	};

	return why < sizeof(text) / sizeof(text[0]) && text[why] ? text[why] : "no proof";
}

static void refuse(struct tap *t, unsigned why)
{
	struct family *f = t->family;
	char addr[TUPLE_STRLEN] = "without addresses";
	struct tuple tuple;

	f->lane->unverified_n++;
	f->unverified_n++;
	tap_refuse(t, &f->lane->sum.unverified);
	if (f->unverified_told)
		return;
	f->unverified_told = true; /* once per process */
	if (t->stated) {
		tuple_of(t, &t->e, &tuple);
		tuple_str(&tuple, addr);
	}
	log_warn("pair", "process %d (%s): connection %s is unverified, its data are not forged: %s",
		 f->member_n ? (int)f->member[0]->p.pid : 0, f->member_n ? f->member[0]->exe : "", addr, why_text(why));
}

/* For who wants to know why. */
static void explain(const struct tap *t, const struct hellos_seen *s, size_t n)
{
	static const char *const owner[] = {"unknown", "a local socket", "no local socket"};
	char addr[TUPLE_STRLEN];

	for (size_t i = 0; i < n; i++)
		log_debug("pair",
			  "seen: %s, namespace %llu%s, client %s of %u, server %s of %u; the process is in %llu",
			  tuple_str(&s[i].t, addr), (unsigned long long)s[i].netns, s[i].ended ? ", ended" : "",
			  owner[s[i].owner[SIDE_CLIENT] % 3], s[i].uid[SIDE_CLIENT], owner[s[i].owner[SIDE_SERVER] % 3],
			  s[i].uid[SIDE_SERVER], (unsigned long long)t->family->netns);
}

static void unpaired(struct tap *t)
{
	t->family->lane->unpaired_n++;
	t->family->unpaired_n++;
	tap_refuse(t, &t->family->lane->sum.unpaired);
}

static bool any_interface(const struct lane *l)
{
	return !l->conf->interface || strcmp(l->conf->interface, "any") == 0;
}

/* Was @s seen on the interface that was asked for? */
static bool seen_there(struct lane *l, const struct hellos_seen *s)
{
	return !any_interface(l) && s->netns == l->wire->own_netns && s->ifindex &&
	       s->ifindex == if_nametoindex(l->conf->interface);
}

static void later(struct tap *t)
{
	uint64_t waited = t->family->lane->now_ns - t->asked_ns;
	uint64_t more = waited / 4;

	more = more < AGAIN_MIN_NS ? AGAIN_MIN_NS : more > AGAIN_MAX_NS ? AGAIN_MAX_NS : more;
	t->ask_ns = t->family->lane->now_ns + more;
}

/* @t is proven, but may its process be shown? false: that is not known yet. */
static bool permitted(struct tap *t)
{
	int may = permit_allows(t->family, t->open.pid);

	if (may == -EAGAIN) {
		later(t);
		return false;
	}
	t->proven = false;
	if (may && !permit_missed(t->family, &t->open))
		tap_paired(t, t->sock_cookie, t->proven_ended);
	else
		tap_refuse(t, &t->family->lane->sum.denied);
	return true;
}

/* @t is proven: show it as @real, or as what was seen on the interface that was asked for. */
static void paired(struct tap *t, enum evidence by, const struct tuple *real, const struct hellos_seen *seen, size_t n)
{
	struct lane *l = t->family->lane;
	bool wanted = any_interface(l) || ifaddr_is_on(l->conf->interface, t->e.ver, t->e.local, l->now_ns);

	t->real = *real;
	for (size_t i = 0; i < n; i++)
		if (seen_there(l, &seen[i])) {
			t->real = seen[i].t;
			wanted = true;
			break;
		}
	if (!wanted) {
		tap_refuse(t, &l->sum.denied);
		return;
	}
	t->evidence = by;
	t->proven = true;
	t->proven_ended = by == EVIDENCE_LISTENER;
	(void)permitted(t);
}

/* --- the socket that the process states ------------------------------------------------------------ */

/* The processes that may hold the socket: first the one that calls itself @pid. A child that we have not met is taken at
 * its word if it maps the family's memory; that fails where its pid is one of another namespace, and then all
 * processes are looked through. false: ask again later. */
static bool ask(struct tap *t, uint32_t gen, int32_t pid, int fd, const struct endpoint *e)
{
	struct helper_pid p[HELPER_PIDS_MAX];
	struct family *f = t->family;
	bool known = false;
	size_t n = 1;

	for (unsigned i = 0; i < f->member_n; i++) {
		if (f->member[i]->ns_pid == pid && !known) {
			known = true;
			p[0] = f->member[i]->p;
		} else if (n < HELPER_PIDS_MAX) {
			p[n++] = f->member[i]->p;
		}
	}
	if (known)
		return helper_verify(f->lane->helper, cookie_of(t, gen), p, n, fd, e) == 0;
	if (f->scan_asked)
		return false;
	p[0] = (struct helper_pid){.pid = pid};
	return helper_verify_child(f->lane->helper, cookie_of(t, gen), &f->file, p, n, fd, e) == 0;
}

static bool ask_peer(struct tap *t, const struct endpoint *e)
{
	struct helper_pid p[HELPER_PIDS_MAX];
	struct family *f = t->family;
	size_t n = 0;

	for (unsigned i = 0; i < f->member_n && n < HELPER_PIDS_MAX; i++)
		p[n++] = f->member[i]->p;
	return n && helper_peer(f->lane->helper, cookie_of(t, t->gen), p, n, e) == 0;
}

void pair_ask_told(struct tap *t, struct told *told)
{
	if (told->pid > 0)
		told->asked = ask(t, told->gen, told->pid, told->fd, &told->e);
}

/* --- the wire -------------------------------------------------------------------------------------- */

/* NSS tells its randoms to nobody. Zeroes, which anybody may send, are not looked for. */
static bool has_random(const struct tap *t)
{
	return memcmp(t->open.client_random, &(uint8_t[32]){0}, 32) != 0;
}

/* @t has no random, but a socket: the wire knows what was said there, and by whom first. Returns whether it does. */
static bool recall(struct tap *t)
{
	struct lane *l = t->family->lane;
	uint64_t netns = t->e.netns ? t->e.netns : t->family->netns;
	struct tuple mine;

	wire_read(l->wire);
	for (unsigned i = 0; i < 2; i++) {
		tuple_of(t, &t->e, &mine);
		if (wire_random(l->wire, &mine, netns, t->open.client_random)) {
			t->open.flags &= (uint16_t)~REC_OPEN_SERVER;
			t->open.flags |= t->server ? REC_OPEN_SERVER : 0;
			memcpy(&t->random8, t->open.client_random, 8);
			memcpy(&t->family->r.v.fact[t->slot].open, &t->open, sizeof(t->open));
			return true;
		}
		t->server = !t->server;
	}
	return false;
}

/* The same for a socket that was gone before the kernel could be asked whose it is, alone or with its process: as it was
 * seen, its user was asked for. One that is there, but somebody else's, proves nothing. */
static bool recall_gone(struct tap *t)
{
	return t->stated && t->proof == PROOF_NOT &&
	       (t->why_not == HELPER_R_GONE || t->why_not == HELPER_R_NO_PROCESS) && recall(t);
}

/* Who showed the randoms of @t? If nobody did, there may be hellos that are not read yet. */
static size_t find(struct tap *t, struct hellos_seen ret[static WIRE_FOUND])
{
	struct wire *w = t->family->lane->wire;
	const struct rec_open *o = &t->open;
	size_t n = has_random(t) ? wire_find(w, o->client_random, server_random(o), ret) : 0;

	if (n || !has_random(t))
		return n;
	wire_read(w);
	return wire_find(w, o->client_random, server_random(o), ret);
}

static bool inner(struct tap *t)
{
	const struct rec_open *o = &t->open;
	struct tuple real;
	uint32_t depth;

	if (!has_random(t) ||
	    !wire_find_inner(t->family->lane->wire, o->client_random, server_random(o), t->family->id, &real, &depth))
		return false;
	if (!t->stated) {
		struct hellos_seen s = {.t = real, .netns = t->family->netns};

		endpoint_of(t, &s, &t->e);
	}
	t->depth = depth;
	paired(t, EVIDENCE_INNER, &real, NULL, 0);
	return true;
}

/* Do they share an end? */
static bool near(const struct tuple *a, const struct tuple *b)
{
	for (unsigned i = 0; i < 2; i++)
		if (a->ver == b->ver && a->port[i] == b->port[i] && memcmp(a->addr[i], b->addr[i], 16) == 0)
			return true;
	return false;
}

/* Is this end of @s the socket of somebody else? */
static bool others(const struct tap *t, const struct hellos_seen *s)
{
	enum side local = local_side(t);

	return s->owner[local] == HELLOS_LOCAL && !family_has_uid(t->family, s->uid[local]);
}

/* The process has the socket t->e. The wire may show it otherwise (REDIRECT, NAT), or be silent: a session inside
 * another one, a handshake before our time. */
static void by_socket(struct tap *t)
{
	struct lane *l = t->family->lane;
	struct hellos_seen seen[WIRE_FOUND];
	const struct hellos_seen *shares = NULL;
	enum evidence by = t->proof == PROOF_LIVE ? EVIDENCE_SOCKET : EVIDENCE_LISTENER;
	struct tuple mine;
	size_t n;

	if (!has_random(t))
		(void)recall(t);
	n = find(t, seen);
	tuple_of(t, &t->e, &mine);
	if (!n) {
		if (inner(t))
			return;
		if (has_random(t) && conn_knows(t) && l->now_ns - t->asked_ns < TAP_INNER_NS)
			later(t); /* two sessions on one socket: the outer one's records may be under way */
		else
			paired(t, by, &mine, NULL, 0);
		return;
	}
	for (size_t i = 0; i < n; i++) {
		if (memcmp(&seen[i].t, &mine, sizeof(mine)) == 0) {
			paired(t, by, &mine, seen, n);
			return;
		}
		if (!shares && near(&seen[i].t, &mine) && !others(t, &seen[i]))
			shares = &seen[i];
	}
	if (shares)
		paired(t, by, &shares->t, seen, n);
	else
		refuse(t, HELPER_R_OK);
}

/* Those tuples that the process's own namespace saw, the likeliest first: the one that it states; for a client in the
 * order of the handshake, for a server against it (what lies between them are proxies). Returns how many. */
static size_t sort(const struct tap *t, struct hellos_seen *s, size_t n)
{
	struct tuple stated;
	size_t k = 0;

	for (size_t i = 0; i < n; i++)
		if (s[i].netns == t->family->netns)
			s[k++] = s[i];
	for (size_t i = 0; t->server && i < k / 2; i++) {
		struct hellos_seen swap = s[i];

		s[i] = s[k - 1 - i];
		s[k - 1 - i] = swap;
	}
	tuple_of(t, &t->e, &stated);
	for (size_t i = 1; t->stated && i < k; i++)
		if (memcmp(&s[i].t, &stated, sizeof(stated)) == 0) {
			struct hellos_seen first = s[i];

			memmove(s + 1, s, i * sizeof(*s));
			s[0] = first;
			break;
		}
	return k;
}

static void accept_seen(struct tap *t, const struct hellos_seen *s, const struct hellos_seen *all, size_t n)
{
	endpoint_of(t, s, &t->e);
	paired(t, EVIDENCE_WIRE, &s->t, all, n);
	/* its end may have been told before it was known here */
	if (t->state == TAP_PAIRED)
		(void)helper_exists(t->family->lane->helper, 0, &t->e);
}

/* The only tuple whose end here is of one of the family's users; NULL: none, or several. */
static const struct hellos_seen *only_own(const struct tap *t, const struct hellos_seen *s, size_t n)
{
	const struct hellos_seen *own = NULL;
	enum side local = local_side(t);

	for (size_t i = 0; i < n; i++) {
		if (s[i].owner[local] != HELLOS_LOCAL || !family_has_uid(t->family, s[i].uid[local]))
			continue;
		if (own)
			return NULL;
		own = &s[i];
	}
	return own;
}

/* No socket of the process is proven, but the wire may know its random. */
static void by_wire(struct tap *t)
{
	struct family *f = t->family;
	struct hellos_seen seen[WIRE_FOUND], all[WIRE_FOUND];
	size_t n_all = find(t, all), n;
	const struct hellos_seen *own;

	memcpy(seen, all, n_all * sizeof(all[0]));
	n = sort(t, seen, n_all);
	own = only_own(t, seen, n);
	if (own) {
		accept_seen(t, own, all, n_all);
	} else if (t->uids_asked) {
		if (f->uids_asked || f->scan_asked || !f->scanned) {
			later(t);
			return;
		}
		explain(t, all, n_all);
		refuse(t, n ? HELPER_R_OK : t->proof == PROOF_NOT ? t->why_not : HELPER_R_OTHER_NETNS);
	} else if (!n_all) {
		if (inner(t))
			return;
		if (t->proof == PROOF_NOT)
			refuse(t, t->why_not);
		else
			later(t);
	} else if (t->at < n) {
		bool nat = seen[t->at].owner[local_side(t)] == HELLOS_NONE;

		endpoint_of(t, &seen[t->at], &t->asked);
		if (nat ? ask_peer(t, &t->asked) : ask(t, t->gen, t->open.pid, -1, &t->asked))
			t->cookie = cookie_of(t, t->gen);
		else
			later(t);
	} else { /* whose are its processes really? They may have changed their user, or be children that were not met */
		t->uids_asked = true;
		f->scanned = false;
		family_ask_uids(f);
		later(t);
	}
}

/* --- the order ------------------------------------------------------------------------------------- */

static void decide(struct tap *t)
{
	struct family *f = t->family;

	if (t->state != TAP_ASKING || t->cookie || f->lane->now_ns < t->ask_ns)
		return;
	if (t->proven) {
		/* its end may have been told while it waited */
		if (permitted(t) && t->state == TAP_PAIRED)
			(void)helper_exists(f->lane->helper, 0, &t->e);
	} else if (t->open.pid <= 0) { /* nobody calls himself that: what it says is not to wait in our memory */
		refuse(t, HELPER_R_NO_PROCESS);
	} else if (t->stated && t->proof == PROOF_NONE) {
		t->asked = t->e;
		if (ask(t, t->gen, t->open.pid, t->open.fd, &t->e))
			t->cookie = cookie_of(t, t->gen);
	} else if (t->proof == PROOF_LIVE || t->proof == PROOF_LISTENER) {
		by_socket(t);
	} else if (!f->netns) {
		later(t); /* it is being asked for */
	} else if (has_random(t) || recall_gone(t)) {
		by_wire(t);
	} else if (t->proof == PROOF_NOT) {
		refuse(t, t->why_not);
	} else {
		unpaired(t);
	}
}

void pair_open(struct tap *t, const struct told *told)
{
	t->proof = PROOF_NONE;
	t->at = t->depth = 0;
	t->uids_asked = t->proven = false;
	t->sock_cookie = 0;
	t->asked_ns = t->family->lane->now_ns;
	if (told) {
		t->proof = PROOF_LIVE;
		t->e = told->e;
		t->sock_cookie = told->sock_cookie;
		/* its end may have been told before it was known */
		(void)helper_exists(t->family->lane->helper, 0, &t->e);
	}
	decide(t);
}

void pair_tend(struct tap *t)
{
	if (t->family->lane->now_ns - t->asked_ns > TAP_PAIR_NS)
		unpaired(t);
	else
		decide(t);
}

bool pair_renegotiated(struct tap *t, const struct rec_open *o)
{
	struct wire *w = t->family->lane->wire;
	struct hellos_seen seen[WIRE_FOUND];

	wire_read(w);
	return o->tls_version && o->tls_version < 0x0304 && !wire_find(w, o->client_random, server_random(o), seen);
}

/* It holds a socket, and it maps the family's memory: one of the family. */
static void meet(struct family *f, int32_t pid)
{
	const struct helper_pid p = {.pid = pid};

	for (unsigned i = 0; i < f->member_n; i++)
		if (f->member[i]->p.pid == pid)
			return;
	(void)family_member(f, &p, pid);
}

#define RETRIES 3
#define RETRY_NS 30000000ull /* doubled each time */

/* The socket that the process states is not proven. Worth asking again? Perhaps it was handed to a child since the family
 * was last looked at; or the word of a server's socket's end is still on its way from the kernel. */
static bool again(struct tap *t, enum helper_result why)
{
	bool child = why == HELPER_R_FOREIGN || why == HELPER_R_NO_PROCESS || why == HELPER_R_ERROR;

	if ((!child && !(why == HELPER_R_GONE && t->server)) || t->asked_again++ >= RETRIES)
		return false;
	if (child)
		t->family->scanned = false;
	else
		t->ask_ns = t->family->lane->now_ns + (RETRY_NS << t->asked_again);
	return true;
}

static void on_stated(struct tap *t, const struct helper_event *e)
{
	struct hellos_seen seen[WIRE_FOUND], all[WIRE_FOUND];
	const struct hellos_seen *own;
	size_t n_all, n;

	if (e->result == HELPER_R_LIVE || e->result == HELPER_R_LISTENER) {
		t->proof = e->result == HELPER_R_LIVE ? PROOF_LIVE : PROOF_LISTENER;
		t->e = e->e;
		t->sock_cookie = e->sock_cookie;
		return;
	}
	n_all = t->family->netns ? find(t, all) : 0;
	memcpy(seen, all, n_all * sizeof(all[0]));
	n = sort(t, seen, n_all);
	own = only_own(t, seen, n);
	if (own) {
		accept_seen(t, own, all, n_all);
	} else if (!again(t, e->result)) {
		t->proof = PROOF_NOT;
		t->why_not = (uint8_t)e->result;
	}
}

/* What the kernel says of a tuple that the wire showed. */
static void on_seen(struct tap *t, const struct helper_event *e)
{
	struct hellos_seen all[WIRE_FOUND];
	struct tuple real;

	if (e->result != HELPER_R_LIVE && e->result != HELPER_R_LISTENER) {
		t->at++;
		return;
	}
	tuple_of(t, &t->asked, &real);
	t->e = e->e;
	t->sock_cookie = e->sock_cookie;
	paired(t, EVIDENCE_WIRE, &real, all, find(t, all));
	if (t->state == TAP_PAIRED && e->result == HELPER_R_LISTENER)
		conn_destroyed(t->family->lane, &t->e, 0);
}

/* The socket of a handshake to come. */
static void on_told(struct tap *t, const struct helper_event *e)
{
	for (unsigned i = 0; i < TAP_TOLD && e->result == HELPER_R_LIVE; i++) {
		struct told *told = &t->told[i];

		if (!told->asked || told->live || e->cookie != cookie_of(t, told->gen) ||
		    !endpoint_same_addrs(&e->e, &told->e))
			continue;
		told->live = true;
		told->e = e->e;
		told->sock_cookie = e->sock_cookie;
	}
}

void pair_on_answer(struct lane *l, const struct helper_event *e)
{
	struct family *f = family_find(l, family_of_cookie(e->cookie));
	uint32_t slot = family_slot_of_cookie(e->cookie);
	struct tap *t = f && slot < f->taps_n ? f->taps[slot] : NULL;

	if (!t)
		return;
	if (e->type == HELPER_VERIFY) {
		if (e->result == HELPER_R_LIVE || e->result == HELPER_R_LISTENER)
			meet(f, e->sock_pid);
		on_told(t, e);
		if (!endpoint_same_addrs(&e->e, &t->asked))
			return; /* to an earlier question */
	}
	if (!t->cookie || t->cookie != e->cookie)
		return;
	t->cookie = 0;
	if (t->state != TAP_ASKING)
		return;
	if (t->stated && t->proof == PROOF_NONE)
		on_stated(t, e);
	else
		on_seen(t, e);
	decide(t);
}
