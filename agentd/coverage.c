/* SPDX-License-Identifier: Apache-2.0 */
/* coverage.c - whose is a session that is not shown in the clear? */
#include "coverage.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "proc.h"

#define WAYS 8 /* places where a kind may stand */
#define ADDRESS_NS 10000000000ull
#define EARLY_NS 60000000000ull
#define EARLY_UNNAMED_NS 200000000ull
#define LATE_KNOWN_NS 5000000000ull
#define INTERVAL_NS (1000000000ull / COVERAGE_PER_S)

/* cookie: COVERAGE_COOKIE | generation (32 bits) << 17 | side << 16 | number of the session */
#define COOKIE_SIDE 16
#define COOKIE_GEN 17

int coverage_init(struct coverage *c, struct helper *helper, uint32_t misses_max)
{
	int self = proc_open(getpid());
	struct stat st;

	memset(c, 0, sizeof(*c));
	c->helper = helper;
	c->misses = misses_new(misses_max);
	c->kinds = calloc(COVERAGE_KINDS, sizeof(c->kinds[0]));
	c->addresses = calloc(COVERAGE_ADDRESSES, sizeof(c->addresses[0]));
	(void)!getrandom(&c->seed, sizeof(c->seed), 0);
	if (stat("/proc/self/ns/net", &st) == 0)
		c->own_netns = st.st_ino;
	if (self >= 0) {
		(void)proc_start_time(self, &c->agent_start);
		close(self);
	}
	if (c->misses && c->kinds && c->addresses)
		return 0;
	coverage_fini(c);
	return -ENOMEM;
}

void coverage_fini(struct coverage *c)
{
	misses_free(&c->misses);
	free(c->kinds);
	free(c->addresses);
	c->kinds = NULL;
	c->addresses = NULL;
}

/* Is this an address of this host? Whoever may bind to it has it. */
static bool ask_own(uint8_t ver, const uint8_t addr[16])
{
	struct sockaddr_in6 a6 = {.sin6_family = AF_INET6};
	struct sockaddr_in a4 = {.sin_family = AF_INET};
	int fd, ret;

	if (ver == 6 && addr[0] == 0xfe && (addr[1] & 0xc0) == 0x80)
		return true; /* link-local: whose, only the interface knows */
	fd = socket(ver == 6 ? AF_INET6 : AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd == -1)
		return true; /* then the helper shall say */
	memcpy(&a6.sin6_addr, addr, 16);
	memcpy(&a4.sin_addr, addr, 4);
	ret = ver == 6 ? bind(fd, (struct sockaddr *)&a6, sizeof(a6)) : bind(fd, (struct sockaddr *)&a4, sizeof(a4));
	if (ret == -1)
		ret = -errno;
	close(fd);
	return ret != -EADDRNOTAVAIL;
}

static bool own_address(const struct coverage *c, uint8_t ver, const uint8_t addr[16], uint64_t now_ns)
{
	struct coverage_address *a = &c->addresses[session_hash(addr, 16, c->seed + ver) % COVERAGE_ADDRESSES];

	if (a->until_ns <= now_ns || a->ver != ver || memcmp(a->addr, addr, 16) != 0) {
		a->until_ns = now_ns + ADDRESS_NS;
		a->ver = ver;
		memcpy(a->addr, addr, 16);
		a->own = ask_own(ver, addr);
	}
	return a->own;
}

/* May @x have a socket of this host at this end? @i: by this one of its tuples. Another namespace is watched for its
 * processes' sake, so we do not ask where its addresses are. */
static bool may_be_here(const struct coverage *c, const struct session *x, enum side side, unsigned i, uint64_t now_ns)
{
	const struct session_seen *seen = &x->seen[i];

	return seen->netns != c->own_netns || own_address(c, seen->t.ver, seen->t.addr[side], now_ns);
}

/* Which of its tuples is the first that may have a socket of this host at this end? -1: none. */
static int here(const struct coverage *c, const struct session *x, enum side side, uint64_t now_ns)
{
	for (unsigned i = 0; i < x->seen_n; i++)
		if (may_be_here(c, x, side, i, now_ns))
			return (int)i;
	return -1;
}

/* --- kinds --- */

static uint64_t key_of(const struct coverage *c, const struct session *x, enum side side, unsigned i)
{
	const struct session_seen *seen = &x->seen[i];
	uint64_t h = session_hash(seen->t.addr[side], 16, c->seed + side);

	h = session_hash(&seen->netns, sizeof(seen->netns), h + seen->t.port[SIDE_SERVER]);
	if (side == SIDE_CLIENT) /* a server's process does not depend on the name, which is any client's choice */
		h = session_hash(x->sni, strlen(x->sni), h);
	return h ? h : 1;
}

static struct coverage_kind *kind_of(struct coverage *c, uint64_t key, uint64_t now_ns)
{
	struct coverage_kind *set = &c->kinds[key % (COVERAGE_KINDS / WAYS) * WAYS], *to = set;

	for (unsigned i = 0; i < WAYS; i++) {
		if (set[i].key == key) {
			set[i].used_ns = now_ns;
			return &set[i];
		}
		if (set[i].used_ns < to->used_ns)
			to = &set[i];
	}
	*to = (struct coverage_kind){.key = key, .used_ns = now_ns};
	return to;
}

static bool worth_asking(const struct coverage *c, const struct coverage_kind *k, bool early, uint64_t now_ns)
{
	uint64_t since = now_ns - k->asked_ns;

	if (!k->asked_ns)
		return true;
	if (early)
		return since >= (k->unnamed ? EARLY_UNNAMED_NS : EARLY_NS);
	return !misses_known(c->misses, k->miss) || since >= LATE_KNOWN_NS;
}

/* --- look-ups --- */

static bool within_limit(struct coverage *c, uint64_t now_ns)
{
	uint64_t burst_ns = (COVERAGE_BURST - 1) * INTERVAL_NS;

	if (c->next_ns > now_ns + burst_ns) {
		c->limited++;
		return false;
	}
	c->next_ns = (c->next_ns > now_ns ? c->next_ns : now_ns) + INTERVAL_NS;
	return true;
}

static bool ask(struct coverage *c, const struct session *x, uint32_t number, enum side side, unsigned i,
		uint64_t now_ns)
{
	const struct session_seen *seen = &x->seen[i];
	struct endpoint e = {.ver = seen->t.ver,
			     .local_port = seen->t.port[side],
			     .remote_port = seen->t.port[!side],
			     .netns = seen->netns == c->own_netns ? 0 : seen->netns};
	uint64_t cookie = COVERAGE_COOKIE | (uint64_t)x->gen << COOKIE_GEN | (uint64_t)side << COOKIE_SIDE | number;

	memcpy(e.local, seen->t.addr[side], 16);
	memcpy(e.remote, seen->t.addr[!side], 16);
	if (!within_limit(c, now_ns) || helper_whose(c->helper, cookie, &e) != 0)
		return false;
	c->asked++;
	return true;
}

static void look_at(struct coverage *c, struct session *x, uint32_t number, enum side side, bool early, uint64_t now_ns)
{
	struct session_end *end = &x->end[side];
	struct coverage_kind *k;
	int first = end->asked ? -1 : here(c, x, side, now_ns);

	if (first < 0)
		return;
	k = kind_of(c, key_of(c, x, side, (unsigned)first), now_ns);
	if (!worth_asking(c, k, early, now_ns))
		return;
	for (unsigned i = (unsigned)first; i < x->seen_n; i++)
		if (may_be_here(c, x, side, i, now_ns) && ask(c, x, number, side, i, now_ns)) {
			end->asked = true;
			end->waiting++;
		}
	if (end->asked) {
		k->asked_ns = now_ns;
		k->unnamed = false;
	}
}

void coverage_look(struct coverage *c, struct session *x, uint32_t i, bool early, uint64_t now_ns)
{
	if (!c->helper)
		return;
	look_at(c, x, i, SIDE_SERVER, early, now_ns);
	look_at(c, x, i, SIDE_CLIENT, early, now_ns);
}

bool coverage_cookie(uint64_t cookie, uint32_t *ret_i, uint32_t *ret_gen)
{
	*ret_i = (uint32_t)(cookie & ((1u << COOKIE_SIDE) - 1));
	*ret_gen = (uint32_t)(cookie >> COOKIE_GEN);
	return (cookie & COVERAGE_COOKIE_MASK) == COVERAGE_COOKIE;
}

static void take(struct coverage *c, struct session_end *end, enum side side, const struct helper_event *e,
		 uint64_t now_ns)
{
	struct helper_event of = *e;

	if (e->result == HELPER_R_ERROR) {
		if (e->err != EACCES && e->err != EPERM) {
			end->asked = end->waiting > 0; /* may be asked again */
			return;
		}
		of.what = HELPER_WHOSE_UNREADABLE;
		of.exe = "";
	} else if (e->result != HELPER_R_OK && e->result != HELPER_R_OTHER_NETNS &&
		   !(e->result == HELPER_R_NO_PROCESS && e->what & HELPER_WHOSE_UNREADABLE)) {
		return; /* no such socket here, or it is nobody's */
	}
	if (end->found)
		return;
	end->found = true;
	end->pid = of.p.pid ? of.p.pid : -1;
	end->miss = misses_find(c->misses, &of, side, misses_why(&of, c->agent_start), now_ns);
}

/* Nobody was found: it was over too soon, most likely. The next of its kind may be a little longer. */
static void try_again(struct coverage *c, const struct session *x, enum side side, uint64_t now_ns)
{
	int first = here(c, x, side, now_ns);

	if (first >= 0)
		kind_of(c, key_of(c, x, side, (unsigned)first), now_ns)->unnamed = true;
}

void coverage_answer(struct coverage *c, struct session *x, const struct helper_event *e, uint64_t now_ns)
{
	enum side side = e->cookie >> COOKIE_SIDE & 1 ? SIDE_SERVER : SIDE_CLIENT;
	struct session_end *end = &x->end[side];

	if (!end->waiting)
		return;
	c->answered++;
	end->waiting--;
	if (x->missed)
		coverage_withdraw(c, x);
	take(c, end, side, e, now_ns);
	if (!end->found && !end->waiting)
		try_again(c, x, side, now_ns);
	if (x->missed)
		coverage_missed(c, x, now_ns);
}

/* --- what was missed --- */

/* Count @x with the kind of process at this end. Returns false: that is not known. */
static bool name(struct coverage *c, struct session *x, enum side side, uint64_t now_ns)
{
	struct session_end *end = &x->end[side];
	const struct tuple *t = &x->seen[0].t;
	struct coverage_kind *k;
	int first = here(c, x, side, now_ns);

	if (first < 0 && !end->found)
		return false;
	k = first < 0 ? NULL : kind_of(c, key_of(c, x, side, (unsigned)first), now_ns);
	if (end->found) {
		misses_add(c->misses, end->miss, end->pid, t, x->sni, now_ns);
		if (k) {
			k->miss = end->miss;
			k->unnamed = false;
		}
		return true;
	}
	end->like = misses_known(c->misses, k->miss);
	if (end->like) {
		end->miss = k->miss;
		misses_add(c->misses, end->miss, 0, t, x->sni, now_ns);
	} else {
		k->unnamed = true;
	}
	return end->like;
}

void coverage_missed(struct coverage *c, struct session *x, uint64_t now_ns)
{
	bool client = name(c, x, SIDE_CLIENT, now_ns), server = name(c, x, SIDE_SERVER, now_ns);

	if (client || server)
		x->where = COVERAGE_NAMED;
	else if (here(c, x, SIDE_CLIENT, now_ns) >= 0 || here(c, x, SIDE_SERVER, now_ns) >= 0)
		x->where = COVERAGE_UNNAMED;
	else
		x->where = COVERAGE_ELSEWHERE;
	c->missed[x->where]++;
}

void coverage_withdraw(struct coverage *c, struct session *x)
{
	for (unsigned side = 0; side < 2; side++) {
		struct session_end *end = &x->end[side];

		if (end->found || end->like)
			misses_sub(c->misses, end->miss, end->found);
		end->like = false;
	}
	c->missed[x->where]--;
}
