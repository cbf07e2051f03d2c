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

static void later(struct tap *t)
{
	uint64_t waited = t->family->lane->now_ns - t->asked_ns;
	uint64_t more = waited / 4;

	more = more < AGAIN_MIN_NS ? AGAIN_MIN_NS : more > AGAIN_MAX_NS ? AGAIN_MAX_NS : more;
	t->ask_ns = t->family->lane->now_ns + more;
}

static bool any_interface(const struct lane *l)
{
	return !l->conf->interface || strcmp(l->conf->interface, "any") == 0;
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

/* Was @s seen on the interface that was asked for? */
static bool seen_there(struct lane *l, const struct hellos_seen *s)
{
	return !any_interface(l) && s->netns == l->wire->own_netns && s->ifindex &&
	       s->ifindex == if_nametoindex(l->conf->interface);
}

/* What the wire knows of a random. */
struct found {
	size_t n;
	bool own; /* it is the random that our end has chosen */
	struct hellos_seen seen[WIRE_FOUND];
};

/* One namespace's hellos are read in their order, those of two in any. */
#define NETNS_LATER_NS 100000000ull

/* Can @s be another leg of the connection whose own one is @real? Nobody knows a random before it has been said: what
 * our end says is nowhere before it is at our own end. So who says somebody else's random again comes after it. */
static bool same_connection(const struct tap *t, const struct found *f, const struct tuple *real,
			    const struct hellos_seen *s)
{
	if (!f->own)
		return near(&s->t, real) && !others(t, s);
	for (size_t i = 0; i < f->n; i++)
		if (f->seen[i].netns == t->e.netns && memcmp(&f->seen[i].t, real, sizeof(*real)) == 0)
			return s->first_ns + (s->netns == f->seen[i].netns ? 0 : NETNS_LATER_NS) >= f->seen[i].first_ns;
	return false;
}

/* @t is proven, but cannot be shown yet: decide again, and prove again what may have changed by then. */
static void not_yet(struct tap *t)
{
	t->early = t->proof == PROOF_LIVE;
	t->confirmed = false;
	later(t);
}

/* @t is proven: show it as @real, or as what was seen on the interface that was asked for. @f: NULL: nothing was. */
static void paired(struct tap *t, enum evidence by, const struct tuple *real, const struct found *f)
{
	struct lane *l = t->family->lane;
	bool wanted = any_interface(l) || ifaddr_is_on(l->conf->interface, t->e.ver, t->e.local, l->now_ns);
	int may = permit_allows(t->family, t->open.pid, &t->looked);

	t->real = *real;
	for (size_t i = 0; f && i < f->n; i++)
		if (seen_there(l, &f->seen[i]) && same_connection(t, f, real, &f->seen[i])) {
			t->real = f->seen[i].t;
			wanted = true;
			break;
		}
	if (may == -EAGAIN && l->now_ns - t->asked_ns < PERMIT_LOOK_NS) { /* its process is being looked at */
		not_yet(t);
		return;
	}
	if (!wanted || may != 1 || permit_missed(t->family, &t->open)) {
		tap_refuse(t, &l->sum.denied);
		return;
	}
	if ((t->open.flags & REC_OPEN_MIDWAY) && !t->adopted && !conn_has_predecessor(t) &&
	    l->now_ns - t->asked_ns < TAP_HANDOVER_NS) {
		not_yet(t); /* it was handed over, and who had it is not through */
		return;
	}
	t->evidence = by;
	tap_paired(t, t->sock_cookie, t->over || by == EVIDENCE_LISTENER);
}

/* --- the socket that the process states ------------------------------------------------------------ */

/* The processes that may hold the socket: first the one that calls itself @pid. A child that we have not met is taken
 * at its word if it maps the family's memory; that fails where its pid is one of another namespace, and then all
 * processes are looked through. false: ask again later. */
static bool ask(struct tap *t, uint32_t gen, int32_t pid, int fd, const struct endpoint *e)
{
	struct helper_pid p[HELPER_PIDS_MAX];
	struct family *f = t->family;
	bool known = false;
	size_t n = 1;

	for (unsigned i = 0; i < f->member_n; i++) {
		const struct member *m = f->member[i];
		enum family_trust trust = family_trust(f, m);

		if (m->ns_pid == pid && trust == FAMILY_UNKNOWN)
			return false; /* it is being asked about */
		if (trust != FAMILY_TRUSTED)
			continue;
		if (m->ns_pid == pid && !known) {
			known = true;
			p[0] = m->p;
		} else if (n < HELPER_PIDS_MAX) {
			p[n++] = m->p;
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
		if (family_trust(f, f->member[i]) == FAMILY_TRUSTED)
			p[n++] = f->member[i]->p;
	return n && helper_peer(f->lane->helper, cookie_of(t, t->gen), p, n, e) == 0;
}

/* That socket @sock_cookie has the addresses @e was proven before this connection was told of. Has it still? What has
 * closed it had it to the end; another one may be anybody's. Returns true: t->e is proven; false: it is being asked. */
static bool confirmed(struct tap *t, const struct endpoint *e, uint64_t sock_cookie)
{
	if (t->confirmed && endpoint_same(&t->asked, e)) {
		t->e = *e;
		return true;
	}
	t->confirmed = t->over = false;
	t->asked = *e;
	t->sock_cookie = sock_cookie;
	if (helper_exists(t->family->lane->helper, cookie_of(t, t->gen), e) == 0)
		t->cookie = cookie_of(t, t->gen);
	else
		later(t);
	return false;
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
			t->recalled = true;
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

/* The same for a socket that was gone before the kernel could be asked whose it is, alone or with its process: as it
 * was seen, its user was asked for. One that is there, but somebody else's, proves nothing. */
static bool recall_gone(struct tap *t)
{
	return t->stated && t->proof == PROOF_NOT &&
	       (t->why_not == HELPER_R_GONE || t->why_not == HELPER_R_NO_PROCESS) && recall(t);
}

/* Who showed the randoms of @t? If nobody showed its own, there may be hellos that are not read yet. */
static void find(struct tap *t, struct found *ret)
{
	struct wire *w = t->family->lane->wire;
	const struct rec_open *o = &t->open;

	ret->n = 0;
	ret->own = false;
	if (!has_random(t))
		return;
	ret->n = wire_find(w, o->client_random, server_random(o), local_side(t), ret->seen, &ret->own);
	if (ret->n && (ret->own || (t->server && !server_random(o))))
		return;
	wire_read(w);
	ret->n = wire_find(w, o->client_random, server_random(o), local_side(t), ret->seen, &ret->own);
}

static bool inner(struct tap *t)
{
	const struct rec_open *o = &t->open;
	struct tuple real;
	struct hellos_seen seen;
	struct endpoint e;
	uint64_t outer;
	uint32_t depth;

	if (!has_random(t) || !wire_find_inner(t->family->lane->wire, o->client_random, server_random(o), t->family->id,
					       &real, &outer, &depth))
		return false;
	seen = (struct hellos_seen){.t = real, .netns = t->family->netns};
	endpoint_of(t, &seen, &e);
	if ((t->proof != PROOF_LIVE || !endpoint_same_addrs(&t->e, &e)) && !confirmed(t, &e, outer))
		return true;
	t->depth = depth;
	paired(t, EVIDENCE_INNER, &real, NULL);
	return true;
}

/* Is @s the leg of a socket of the process's, though NAT has changed an address of it? What our end says is seen there
 * first, and leaves; what it is told is seen there last, and comes in. All else is of a connection that is only passed
 * on here. */
static bool own_leg(const struct found *f, const struct hellos_seen *s, uint64_t netns)
{
	if (s->netns != netns || !(f->own ? s->sent : s->received))
		return false;
	for (size_t i = 0; i < f->n; i++)
		if (f->seen[i].netns == netns &&
		    (f->own ? f->seen[i].first_ns < s->first_ns : f->seen[i].first_ns > s->first_ns))
			return false;
	return true;
}

/* The process has the socket t->e. The wire may show it otherwise (REDIRECT, NAT), or be silent: a session inside
 * another one, a handshake before our time. */
static void by_socket(struct tap *t)
{
	struct lane *l = t->family->lane;
	const struct hellos_seen *shares = NULL;
	enum evidence by = t->proof == PROOF_LIVE ? EVIDENCE_SOCKET : EVIDENCE_LISTENER;
	struct tuple mine;
	struct found f;

	if (!has_random(t))
		(void)recall(t);
	find(t, &f);
	tuple_of(t, &t->e, &mine);
	if (!f.n) {
		if (inner(t))
			return;
		if (has_random(t) && conn_knows(t) && l->now_ns - t->asked_ns < TAP_INNER_NS)
			later(t); /* two sessions on one socket: the outer one's records may be under way */
		else
			paired(t, by, &mine, NULL);
		return;
	}
	for (size_t i = 0; i < f.n; i++) {
		if (memcmp(&f.seen[i].t, &mine, sizeof(mine)) == 0) {
			paired(t, by, &mine, &f);
			return;
		}
		if (near(&f.seen[i].t, &mine) && !others(t, &f.seen[i]) && own_leg(&f, &f.seen[i], t->e.netns))
			shares = &f.seen[i];
	}
	if (shares)
		paired(t, by, &shares->t, &f);
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

static void accept_seen(struct tap *t, const struct hellos_seen *s, const struct found *all)
{
	struct endpoint e;

	endpoint_of(t, s, &e);
	if (confirmed(t, &e, s->cookie[local_side(t)]))
		paired(t, EVIDENCE_WIRE, &s->t, all);
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

/* Has one of the processes the socket at this end of @s? */
static void ask_about(struct tap *t, const struct hellos_seen *s, const struct found *all)
{
	bool nat = s->owner[local_side(t)] == HELLOS_NONE;

	if (nat && !own_leg(all, s, t->family->netns)) {
		t->at++;
		later(t);
		return;
	}
	endpoint_of(t, s, &t->asked);
	if (nat ? ask_peer(t, &t->asked) : ask(t, t->gen, t->open.pid, -1, &t->asked))
		t->cookie = cookie_of(t, t->gen);
	else
		later(t);
}

/* Its socket is gone, and whose it was could not be asked in time; it was nobody else's, as far as is known. Root is
 * believed: it could show what it likes to the IDS anyway. */
static void by_root(struct tap *t, const struct hellos_seen *s, const struct found *all)
{
	endpoint_of(t, s, &t->e);
	t->sock_cookie = 0;
	t->over = true;
	paired(t, EVIDENCE_WIRE, &s->t, all);
}

/* No socket of the process is proven, but the wire may know its random. */
static void by_wire(struct tap *t)
{
	struct family *f = t->family;
	struct hellos_seen seen[WIRE_FOUND];
	const struct hellos_seen *own;
	struct found all;
	size_t n;

	find(t, &all);
	memcpy(seen, all.seen, all.n * sizeof(seen[0]));
	n = sort(t, seen, all.n);
	own = only_own(t, seen, n);
	if (own) {
		accept_seen(t, own, &all);
	} else if (t->uids_asked) {
		if (f->uids_asked || f->scan_asked || !f->scanned) {
			later(t);
			return;
		}
		if (n == 1 && family_is_root(f) && !others(t, &seen[0])) {
			by_root(t, &seen[0], &all);
			return;
		}
		explain(t, all.seen, all.n);
		refuse(t, n ? HELPER_R_OK : t->proof == PROOF_NOT ? t->why_not : HELPER_R_OTHER_NETNS);
	} else if (!all.n) {
		if (inner(t))
			return;
		if (t->proof == PROOF_NOT)
			refuse(t, t->why_not);
		else
			later(t);
	} else if (t->at < n) {
		ask_about(t, &seen[t->at], &all);
	} else { /* whose are its processes really? They may have changed their user, or be children not met */
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
	if (t->open.pid <= 0) { /* nobody calls himself that: what it says is not to wait in our memory */
		refuse(t, HELPER_R_NO_PROCESS);
	} else if (t->stated && t->proof == PROOF_NONE) {
		t->asked = t->e;
		if (ask(t, t->gen, t->open.pid, t->open.fd, &t->e))
			t->cookie = cookie_of(t, t->gen);
	} else if (t->proof == PROOF_LIVE || t->proof == PROOF_LISTENER) {
		if (t->early && !confirmed(t, &t->e, t->sock_cookie))
			return;
		t->early = false;
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
	t->uids_asked = t->confirmed = t->over = t->looked = t->recalled = false;
	t->early = told;
	t->sock_cookie = 0;
	t->asked_ns = t->family->lane->now_ns;
	if (told) {
		t->proof = PROOF_LIVE;
		t->e = told->e;
		t->sock_cookie = told->sock_cookie;
	}
	decide(t);
}

void pair_tend(struct tap *t)
{
	uint64_t now_ns = t->family->lane->now_ns;
	bool asking = t->stated || t->cookie; /* else only the wire could tell, and it has */

	if (now_ns - t->came_ns > TAP_PAIR_NS && (!asking || now_ns - t->asked_ns > TAP_PAIR_MIN_NS))
		unpaired(t);
	else
		decide(t);
}

bool pair_renegotiated(struct tap *t, const struct rec_open *o)
{
	struct wire *w = t->family->lane->wire;
	struct hellos_seen seen[WIRE_FOUND];
	bool own;

	wire_read(w);
	return o->tls_version && o->tls_version < 0x0304 &&
	       !wire_find(w, o->client_random, server_random(o), local_side(t), seen, &own);
}

/* It holds a socket, and it maps the family's memory: one of the family? */
static enum family_trust meet(struct family *f, int32_t pid)
{
	const struct helper_pid p = {.pid = pid};
	const struct member *m = NULL;

	for (unsigned i = 0; i < f->member_n && !m; i++)
		if (f->member[i]->p.pid == pid)
			m = f->member[i];
	if (!m)
		m = family_member(f, &p, pid);
	return m ? family_trust(f, m) : f->uid == 0 ? FAMILY_TRUSTED : FAMILY_UNKNOWN;
}

#define RETRIES 3
#define RETRY_NS 30000000ull /* doubled each time */

/* The socket that the process states is not proven. Worth asking again? Perhaps it was handed to a child since the
 * family was last looked at; or the word of a server's socket's end is still on its way from the kernel. */
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
	struct found f = {.n = 0};

	if (e->result == HELPER_R_LIVE || e->result == HELPER_R_LISTENER) {
		t->proof = e->result == HELPER_R_LIVE ? PROOF_LIVE : PROOF_LISTENER;
		t->e = e->e;
		t->sock_cookie = e->sock_cookie;
		return;
	}
	if (t->family->netns)
		find(t, &f);
	if (only_own(t, f.seen, sort(t, f.seen, f.n)) || !again(t, e->result)) {
		t->proof = PROOF_NOT;
		t->why_not = (uint8_t)e->result;
	}
}

/* What the kernel says of a tuple that the wire showed. */
static void on_seen(struct tap *t, const struct helper_event *e)
{
	struct tuple real;
	struct found all;

	if (e->result != HELPER_R_LIVE && e->result != HELPER_R_LISTENER) {
		t->at++;
		return;
	}
	tuple_of(t, &t->asked, &real);
	t->e = e->e;
	t->sock_cookie = e->sock_cookie;
	t->over = false;
	find(t, &all);
	paired(t, EVIDENCE_WIRE, &real, &all);
	if (t->state == TAP_PAIRED && e->result == HELPER_R_LISTENER)
		conn_destroyed(t->family->lane, &t->e, 0);
}

/* Is what was proven before still so? */
static void on_confirm(struct tap *t, const struct helper_event *e)
{
	t->over = e->result == HELPER_R_GONE;
	t->confirmed = t->over || (e->result == HELPER_R_LIVE && e->sock_cookie == t->sock_cookie);
	if (t->confirmed)
		return;
	if (t->early) { /* as if it had never been told */
		t->early = false;
		t->proof = PROOF_NONE;
		t->sock_cookie = 0;
	} else {
		refuse(t, e->result == HELPER_R_LIVE ? HELPER_R_GONE : e->result);
	}
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

/* The answer to what is being asked of @t. */
static void on_answer(struct tap *t, const struct helper_event *e, enum family_trust trust)
{
	t->cookie = 0;
	if (t->state != TAP_ASKING)
		return;
	if (trust == FAMILY_UNKNOWN) { /* whose the process is that has it is being asked */
		later(t);
		return;
	}
	if (e->type == HELPER_EXISTS)
		on_confirm(t, e);
	else if (t->stated && t->proof == PROOF_NONE)
		on_stated(t, e);
	else
		on_seen(t, e);
	decide(t);
}

void pair_on_answer(struct lane *l, const struct helper_event *answer)
{
	struct family *f = family_find(l, family_of_cookie(answer->cookie));
	uint32_t slot = family_slot_of_cookie(answer->cookie);
	struct tap *t = f && slot < f->taps_n ? f->taps[slot] : NULL;
	enum family_trust trust = FAMILY_TRUSTED;
	struct helper_event e = *answer;

	if (!t)
		return;
	if (e.type != HELPER_EXISTS && (e.result == HELPER_R_LIVE || e.result == HELPER_R_LISTENER)) {
		trust = meet(f, e.sock_pid);
		if (trust != FAMILY_TRUSTED)
			e.result = HELPER_R_FOREIGN;
	}
	if (e.type == HELPER_VERIFY) {
		on_told(t, &e);
		if (!endpoint_same_addrs(&e.e, &t->asked))
			return; /* to an earlier question */
	}
	if (t->cookie && t->cookie == e.cookie)
		on_answer(t, &e, trust);
}
