/* SPDX-License-Identifier: Apache-2.0 */
/* misses.c - the kinds of programs that are missed. */
#include "misses.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "escape.h"
#include "hello.h"

struct miss {
	uint32_t gen; /* 0: free */
	uint32_t uid;
	uint8_t side, why;
	bool no_user; /* nothing is known of the process */
	int32_t pid;
	uint64_t looked_up, like; /* sessions */
	uint64_t last_ns;
	struct tuple t;
	char sni[HELLO_NAME_MAX + 1];
	char exe[HELPER_PATH_MAX];
};

struct misses {
	uint32_t max, gen;
	uint64_t evicted;
	struct miss miss[];
};

static const struct {
	const char *name, *because, *advice;
} reason[MISSES_WHYS] = {
	[MISSES_UNREADABLE] = {"unreadable", "agentd may not read what /proc says of it",
			       "start agentd as root; it keeps CAP_SYS_PTRACE for this"},
	[MISSES_NETNS] = {"netns", "it lives in another network namespace",
			  "start agentd with --netns, which see in agentd(8)"},
	[MISSES_32BIT] = {"32bit", "it is a 32-bit program", "use a 64-bit build of it"},
	[MISSES_OWN_TLS] = {"own_tls",
			    "its TLS library cannot be interposed: linked statically, or its own "
			    "(no library that can be tapped is mapped)",
			    "use a build of it that links OpenSSL, GnuTLS, NSS, mbedTLS or wolfSSL dynamically"},
	[MISSES_NOT_LOADED] = {"not_loaded", "libtlstap is not loaded into it",
			       "start it with \"tlstap run\", or with LD_PRELOAD set to libtlstap.so"},
	[MISSES_BEFORE] = {"before", "it was started before agentd", "restart it"},
	[MISSES_DETACHED] = {"detached",
			     "libtlstap is loaded into it, but has not attached: it calls its TLS library past the tap "
			     "(RTLD_DEEPBIND or dlsym), confines itself, or has another TLSTAP_SOCKET",
			     "if by dlsym, preload libtlstap-dlsym.so, too; else see libtlstap(7)"},
	[MISSES_PAST_TAP] = {"past_tap",
			     "it is tapped, but agentd got no cleartext of it: it calls its TLS library past the tap "
			     "(RTLD_DEEPBIND or dlsym), or its sessions ended with the handshake",
			     "see the program's own log for handshakes that fail; "
			     "if by dlsym, preload libtlstap-dlsym.so, too; else see libtlstap(7)"},
};

struct misses *misses_new(uint32_t max)
{
	struct misses *m = calloc(1, sizeof(*m) + max * sizeof(m->miss[0]));

	if (m)
		m->max = max;
	return m;
}

void misses_free(struct misses **m)
{
	free(*m);
	*m = NULL;
}

enum misses_why misses_why(const struct helper_event *e, uint64_t agent_start)
{
	if (e->result == HELPER_R_OTHER_NETNS)
		return MISSES_NETNS;
	if (e->what & HELPER_WHOSE_UNREADABLE)
		return MISSES_UNREADABLE;
	if (e->what & HELPER_WHOSE_32BIT)
		return MISSES_32BIT;
	if (!(e->what & HELPER_WHOSE_TLS))
		return MISSES_OWN_TLS;
	if (!(e->what & HELPER_WHOSE_TAP))
		return MISSES_NOT_LOADED;
	if (e->what & HELPER_WHOSE_ATTACHED)
		return MISSES_PAST_TAP;
	return e->p.start_time && e->p.start_time < agent_start ? MISSES_BEFORE : MISSES_DETACHED;
}

static uint64_t sessions_of(const struct miss *k)
{
	return k->looked_up + k->like;
}

static bool shown(const struct miss *k)
{
	return k->gen && sessions_of(k);
}

/* Does @a make room before @b? Free ones, then those that miss nothing, then those that missed longest ago. */
static bool rather(const struct miss *a, const struct miss *b)
{
	if (!a->gen != !b->gen)
		return !a->gen;
	if (!sessions_of(a) != !sessions_of(b))
		return !sessions_of(a);
	return a->last_ns < b->last_ns;
}

struct miss_ref misses_find(struct misses *m, const struct helper_event *e, enum side side, enum misses_why why,
			    uint64_t now_ns)
{
	const char *exe = e->exe ? e->exe : "";
	struct miss *k, *to = &m->miss[0];

	for (uint32_t i = 0; i < m->max; i++) {
		k = &m->miss[i];
		if (k->gen && k->uid == e->uid && k->side == side && k->why == why &&
		    strncmp(k->exe, exe, sizeof(k->exe) - 1) == 0)
			return (struct miss_ref){i, k->gen};
		if (rather(k, to))
			to = k;
	}
	m->evicted += shown(to);
	if (++m->gen == 0)
		m->gen = 1;
	*to = (struct miss){.gen = m->gen,
			    .uid = e->uid,
			    .side = (uint8_t)side,
			    .why = (uint8_t)why,
			    .no_user = !*exe && !e->p.pid && e->result != HELPER_R_NO_PROCESS,
			    .last_ns = now_ns};
	(void)snprintf(to->exe, sizeof(to->exe), "%s", exe);
	return (struct miss_ref){(uint32_t)(to - m->miss), m->gen};
}

bool misses_known(const struct misses *m, struct miss_ref r)
{
	return r.gen && r.i < m->max && m->miss[r.i].gen == r.gen;
}

void misses_add(struct misses *m, struct miss_ref r, int32_t pid, const struct tuple *t, const char *sni,
		uint64_t now_ns)
{
	struct miss *k = misses_known(m, r) ? &m->miss[r.i] : NULL;

	if (!k)
		return;
	k->last_ns = now_ns;
	if (!pid) {
		k->like++;
		return;
	}
	k->looked_up++;
	k->pid = pid;
	k->t = *t;
	(void)snprintf(k->sni, sizeof(k->sni), "%s", sni);
}

void misses_sub(struct misses *m, struct miss_ref r, bool looked_up)
{
	struct miss *k = misses_known(m, r) ? &m->miss[r.i] : NULL;

	if (k && looked_up && k->looked_up)
		k->looked_up--;
	else if (k && !looked_up && k->like)
		k->like--;
}

uint32_t misses_count(const struct misses *m)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < m->max; i++)
		n += shown(&m->miss[i]);
	return n;
}

uint64_t misses_evicted(const struct misses *m)
{
	return m->evicted;
}

static uint64_t ago_s(const struct miss *k, uint64_t now_ns)
{
	return now_ns > k->last_ns ? (now_ns - k->last_ns) / 1000000000 : 0;
}

static const char *const role[] = {[SIDE_CLIENT] = "client", [SIDE_SERVER] = "server"};

void misses_json(const struct misses *m, uint64_t now_ns, FILE *to)
{
	const char *comma = "";
	char text[TUPLE_STRLEN];

	fputc('[', to);
	for (uint32_t i = 0; i < m->max; i++) {
		const struct miss *k = &m->miss[i];

		if (!shown(k))
			continue;
		fprintf(to, "%s{\"exe\": ", comma);
		escape_json(to, k->exe);
		fprintf(to, ", \"uid\": %" PRId64 ", \"pid\": %d, \"role\": \"%s\", \"why\": \"%s\", \"because\": ",
			k->no_user ? -1 : (int64_t)k->uid, (int)k->pid, role[k->side], reason[k->why].name);
		escape_json(to, reason[k->why].because);
		fputs(", \"to_do\": ", to);
		escape_json(to, reason[k->why].advice);
		fprintf(to,
			", \"sessions\": %" PRIu64 ", \"like\": %" PRIu64 ", \"last_s\": %" PRIu64 ", \"tuple\": \"%s\""
			", \"sni\": ",
			k->looked_up, k->like, ago_s(k, now_ns), k->t.ver ? tuple_str(&k->t, text) : "");
		escape_json(to, k->sni);
		fputc('}', to);
		comma = ", ";
	}
	fputc(']', to);
}

static int by_sessions(const void *a, const void *b)
{
	uint64_t x = sessions_of(*(const struct miss *const *)a), y = sessions_of(*(const struct miss *const *)b);

	return (x < y) - (x > y);
}

static void doctor_line(const struct miss *k, uint64_t now_ns, FILE *to)
{
	char text[TUPLE_STRLEN];

	if (k->exe[0])
		escape_text(to, k->exe);
	else
		fputs("a process", to);
	fprintf(to, " as TLS %s", role[k->side]);
	if (!k->no_user)
		fprintf(to, ", user %u", k->uid);
	if (k->pid > 0)
		fprintf(to, ", last seen as process %d", (int)k->pid);
	fprintf(to, ": %" PRIu64 " session%s", k->looked_up, k->looked_up == 1 ? "" : "s");
	if (k->like)
		fprintf(to, " and %" PRIu64 " more like %s", k->like, k->looked_up == 1 ? "it" : "them");
	fprintf(to, ", the last one %" PRIu64 " s ago\n", ago_s(k, now_ns));
	if (k->t.ver) {
		fprintf(to, "  such as:    %s", tuple_str(&k->t, text));
		if (k->sni[0]) {
			fputs(" (", to);
			escape_text(to, k->sni);
			fputc(')', to);
		}
		fputc('\n', to);
	}
	fprintf(to, "  why:        %s\n  what to do: %s\n", reason[k->why].because, reason[k->why].advice);
}

void misses_doctor(const struct misses *m, uint64_t now_ns, FILE *to)
{
	const struct miss **order = calloc(m->max, sizeof(*order));
	uint32_t n = 0;

	for (uint32_t i = 0; order && i < m->max; i++)
		if (shown(&m->miss[i]))
			order[n++] = &m->miss[i];
	if (n)
		qsort(order, n, sizeof(*order), by_sessions);
	for (uint32_t i = 0; i < n; i++)
		doctor_line(order[i], now_ns, to);
	free(order);
}
