/* SPDX-License-Identifier: Apache-2.0 */
/* why.c - one process against the rules, its mappings and our table. */
#include "why.h"

#include <inttypes.h>
#include <string.h>
#include <unistd.h>

#include "family.h"
#include "policy.h"
#include "tap.h"
#include "wire.h"

bool why_told(const struct lane *l, const struct attach *a, int32_t pid, FILE *to)
{
	if (!a)
		fprintf(to, WHY_NO
			"this agentd mirrors packets (-i) and taps nothing. Start it with -I to see cleartext.\n");
	else if (pid <= 0)
		fprintf(to, WHY_NO "that is no process's number.\n");
	else if (pid == getpid() || pid == l->helper->pid)
		fprintf(to, WHY_NO "process %d is agentd itself.\n", (int)pid);
	else
		return false;
	return true;
}

/* Its family, by the mapping that it has. */
static struct family *family_of(struct lane *l, const struct helper_event *e)
{
	struct family *f = e->what & HELPER_WHOSE_ATTACHED ? l->families : NULL;

	while (f && (f->file.inode != e->id.inode || f->file.dev != e->id.dev))
		f = f->next;
	return f;
}

static void printable(FILE *to, const char *s)
{
	for (; s && *s; s++)
		fputc(*s >= ' ' && *s <= '~' ? *s : '?', to);
}

static void subject(const struct helper_event *e, FILE *to)
{
	fprintf(to, "process %d (", (int)e->p.pid);
	printable(to, e->exe && *e->exe ? e->exe : "program not known");
	fprintf(to, ", user %u", (unsigned)e->uid);
	if (e->cgroup && *e->cgroup) {
		fputs(", ", to);
		printable(to, e->cgroup);
	}
	fputs(") ", to);
}

static unsigned open_connections(const struct family *f)
{
	unsigned n = 0;

	for (uint32_t i = 0; i < f->taps_n; i++)
		n += f->taps[i] && f->taps[i]->state == TAP_PAIRED;
	return n;
}

static bool netns_open(const struct lane *l, uint64_t netns)
{
	bool open = false;

	pthread_mutex_lock(&l->wire->lock);
	for (unsigned i = 0; i < l->wire->ns_n; i++)
		open |= l->wire->ns[i]->sock.netns == netns;
	pthread_mutex_unlock(&l->wire->lock);
	return open;
}

/* It has a mapping. */
static void tell_attached(struct lane *l, struct family *f, const struct helper_event *e,
			  const struct policy_answer *rule, FILE *to)
{
	/* the first producer is who attached */
	bool isolated = atomic_load(&f->r.v.h->isolate) && atomic_load(&f->r.v.pid[0]) != e->ns_pid;

	if (f->broken) {
		fputs(WHY_NO, to);
		subject(e, to);
		fputs("or one of its relatives wrote nonsense into the shared memory, which is not read any more. "
		      "Restart it.\n",
		      to);
		return;
	}
	fputs(isolated ? WHY_NO : WHY_YES, to);
	subject(e, to);
	if (isolated) {
		fputs("is the child of a process whose children pass through (isolate).\n", to);
		return;
	}
	fprintf(to, "is attached, and allowed: %s. ", rule->why);
	fprintf(to,
		"Its family of %u process%s has %u open connection%s that are shown and has reported %" PRIu64
		" bytes.",
		f->member_n, f->member_n == 1 ? "" : "es", open_connections(f), open_connections(f) == 1 ? "" : "s",
		family_reported(f));
	if (f->unpaired_n || f->unverified_n)
		fprintf(to,
			" Of %" PRIu64 " connections no addresses are known, those of %" PRIu64 " could not be proven.",
			f->unpaired_n, f->unverified_n);
	if (atomic_load(&f->r.v.h->isolate))
		fputs(" Its children pass through (isolate).", to);
	if (f->on_ns)
		fputs(" It was switched off for a time: connections that are older than that are not shown.", to);
	if (e->netns && !netns_open(l, e->netns))
		fputs(" But it lives in another network namespace: start agentd with --netns.", to);
	fputc('\n', to);
}

/* It may be tapped and has no mapping. */
static void tell_missing(const struct helper_event *e, FILE *to)
{
	fputs(WHY_NO, to);
	subject(e, to);
	if (e->what & HELPER_WHOSE_32BIT)
		fputs("is a 32-bit program. Use a 64-bit build.\n", to);
	else if (!(e->what & HELPER_WHOSE_TAP))
		fputs("was started without libtlstap. Start it with \"tlstap run\", or with LD_PRELOAD set to "
		      "libtlstap.so.\n",
		      to);
	else if (e->what & HELPER_WHOSE_ATTACHED)
		fputs("has a mapping that this agentd knows nothing of: another agentd's, or one that it gave up.\n",
		      to);
	else if (e->seccomp > 0)
		fputs("confines itself by a system call filter (seccomp), and libtlstap does not attach where one is in "
		      "force. No rule denies it.\n",
		      to);
	else if (!(e->what & HELPER_WHOSE_TLS))
		fputs("has libtlstap, but no TLS library that is known: it attaches at its first TLS call. No rule denies "
		      "it.\n",
		      to);
	else
		fputs("has libtlstap, but has not attached: it was started before agentd, or while taps were switched off or "
		      "it was denied, or agentd could not answer in time; or it makes no TLS call, or past the tap. "
		      "Restart it. No rule denies it.\n",
		      to);
}

void why_tell(struct lane *l, const struct helper_event *e, FILE *to)
{
	struct policy_answer rule = {.tap = true, .why = "there are no rules"};
	struct family *f;

	if (e->result != HELPER_R_OK) {
		fprintf(to, WHY_NO "%s process %d.\n",
			e->result == HELPER_R_NO_PROCESS ? "there is no" : "/proc cannot be read of", (int)e->p.pid);
		return;
	}
	if (l->policy)
		policy_judge_event(l->policy, e, &rule);
	f = family_of(l, e);
	if (rule.tap && !l->off && f) {
		tell_attached(l, f, e, &rule, to);
		return;
	}
	if (rule.tap && !l->off) {
		tell_missing(e, to);
		return;
	}
	fputs(WHY_NO, to);
	subject(e, to);
	if (e->what & HELPER_WHOSE_UNREADABLE && e->p.pid != 1)
		fputs("may not be looked into: agentd must be started as root.\n", to);
	else if (!*e->exe && e->p.pid != 1)
		fputs("has no program: it has ended, or is a thread of the kernel.\n", to);
	else if (rule.tap)
		fprintf(to, "is allowed, but all taps are switched off: %s exists (\"tlstap enable\" removes it).\n",
			l->conf->disable_file);
	else
		fprintf(to, "is denied: %s. See --deny and --allow in agentd(8).\n", rule.why);
}
