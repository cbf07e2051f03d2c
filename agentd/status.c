/* SPDX-License-Identifier: Apache-2.0 */
/* status.c - the equations, the processes, the sink: told to whoever may ask. */
#include "status.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/log.h"
#include "common/sock.h"
#include "capture.h"
#include "family.h"
#include "tap.h"
#include "why.h"
#include "wire.h"

#define FAMILIES_SHOWN 4096u

struct equations {
	uint64_t reported, decided, pending;
};

static struct equations equations_of(struct lane *l)
{
	struct equations e;

	e.decided = l->sum.taken + l->sum.pool_full + l->sum.stripes_busy + l->sum.no_slot + l->sum.died +
		    l->sum.sendfile + l->sum.predecessor;
	e.reported = l->ended_reported;
	for (struct family *f = l->families; f; f = f->next)
		e.reported += family_reported(f);
	e.pending = e.reported - e.decided;
	return e;
}

static unsigned connections(const struct family *f)
{
	unsigned n = 0;

	for (uint32_t i = 0; i < f->taps_n; i++)
		n += f->taps[i] && f->taps[i]->state != TAP_CLOSED;
	return n;
}

static void capture_json(struct lane *l, FILE *to)
{
	struct capture_count n;

	capture_count(l->capture, &n);
	fprintf(to,
		", \"capture\": {\"seen\": %" PRIu64 ", \"bytes\": %" PRIu64 ", \"kernel_drops\": %" PRIu64
		", \"sent\": %" PRIu64 ", \"frames\": %" PRIu64 ", \"own\": %" PRIu64 ", \"replayed\": %" PRIu64
		", \"malformed\": %" PRIu64 ", \"cut_short\": %" PRIu64 ", \"df\": %" PRIu64 ", \"away\": %" PRIu64
		", \"waiting\": %" PRIu64 "}",
		n.seen, n.bytes, n.kernel_drops, n.sent, n.frames, n.own, n.replayed, n.malformed, n.cut_short, n.df,
		n.away, n.waiting);
}

static void wire_json(struct lane *l, FILE *to)
{
	struct wire *w = l->wire;
	struct hellos_count n;

	wire_count(w, &n);
	fprintf(to,
		", \"wire\": {\"hellos\": %" PRIu64 ", \"drops\": %" PRIu64
		", \"namespaces\": %u, \"namespaces_failed\": %" PRIu64 ", \"randoms\": %" PRIu64
		", \"crowded\": %" PRIu64 ", \"evicted\": %" PRIu64 ", \"forged\": %" PRIu64 ", \"untold\": %" PRIu64
		"}",
		w->hellos, w->drops, w->ns_n, w->netns_failed, n.used, n.crowded, n.evicted, w->forged, w->news_lost);
	if (!w->sessions)
		return;
	fputs(", ", to);
	sessions_json(w->sessions, to);
}

static void capture_text(struct lane *l, FILE *to)
{
	struct capture_count n;
	char what[128];

	capture_count(l->capture, &n);
	capture_describe(l->capture, what, sizeof(what));
	fprintf(to,
		"\nmirror: %s: %" PRIu64 " packets seen, %" PRIu64 " sent as %" PRIu64 " frames; not sent: own %" PRIu64
		", replayed %" PRIu64 ", malformed %" PRIu64 "; dropped by the kernel %" PRIu64 "\n",
		what, n.seen, n.sent, n.frames, n.own, n.replayed, n.malformed, n.kernel_drops);
}

static void wire_text(struct lane *l, FILE *to)
{
	struct wire *w = l->wire;
	struct hellos_count n;

	wire_count(w, &n);
	fprintf(to,
		"handshakes: %" PRIu64 " hellos seen in %u namespace%s, %" PRIu64 " dropped by the kernel; %" PRIu64
		" randoms known, %" PRIu64 " crowded, %" PRIu64 " evicted, %" PRIu64 " forged by others\n",
		w->hellos, w->ns_n, w->ns_n == 1 ? "" : "s", w->drops, n.used, n.crowded, n.evicted, w->forged);
	if (w->netns_failed)
		fprintf(to, "namespaces of tapped processes that could not be opened: %" PRIu64 " times, see the log\n",
			w->netns_failed);
	if (w->sessions)
		sessions_text(w->sessions, to);
}

static void doctor(struct status *s, FILE *to)
{
	struct lane *l = s->lane;

	if (!s->attach) {
		fputs("this agentd mirrors packets (-i) and taps nothing: start it with -I to see cleartext\n", to);
		return;
	}
	if (l->off)
		fprintf(to, "all taps are switched off: %s exists (\"tlstap enable\" removes it)\n",
			l->conf->disable_file);
	if (l->wire->drops)
		fprintf(to,
			"%" PRIu64 " handshake packets were dropped by the kernel: their connections may be missing\n",
			l->wire->drops);
	sessions_doctor(l->wire->sessions, to);
}

static void json(struct status *s, FILE *to)
{
	struct lane *l = s->lane;
	struct equations e = equations_of(l);
	char sink[256] = "";
	unsigned shown = 0;

	l->sink->ops->describe(l->sink, sink, sizeof(sink));
	fprintf(to,
		"{\"version\": \"%s\", \"pid\": %d, \"reported\": %" PRIu64 ", \"decided\": %" PRIu64
		", \"pending\": %" PRIu64,
		TLSTAP_VERSION, (int)getpid(), e.reported, e.decided, e.pending);
#define FIELD(name) fprintf(to, ", \"" #name "\": %" PRIu64, l->sum.name);
	ACCOUNT_FIELDS(FIELD)
#undef FIELD
	fprintf(to, ", \"sink\": {\"kind\": \"%s\", \"state\": \"", l->sink->ops->name);
	for (const char *p = sink; *p; p++)
		fputc(*p >= ' ' && *p != '"' && *p != '\\' ? *p : '?', to);
	fprintf(to,
		"\", \"mtu\": %u, \"forged\": %" PRIu64 ", \"acked\": %" PRIu64 ", \"in_flight\": %" PRIu64
		", \"backlog\": %" PRIu64 ", \"unknown\": %" PRIu64 ", \"frames\": %" PRIu64 ", \"bytes\": %" PRIu64
		", \"errors\": %" PRIu64 ", \"reconnects\": %" PRIu64 "}",
		l->sink->mtu, l->sink->n.put, l->sink->n.acked, l->sink->n.in_flight, l->sink->n.backlog,
		l->sink->n.unknown, l->sink->n.frames, l->sink->n.bytes, l->sink->n.errors, l->sink->n.reconnects);
	if (l->capture)
		capture_json(l, to);
	if (!s->attach) {
		fprintf(to, ", \"sweeps\": %" PRIu64 "}\n", l->sweeps);
		return;
	}
	fprintf(to,
		", \"connections\": {\"open\": %u, \"total\": %" PRIu64 ", \"refused\": %" PRIu64
		", \"socket\": %" PRIu64 ", \"listener\": %" PRIu64 ", \"wire\": %" PRIu64 ", \"inner\": %" PRIu64
		", \"unverified\": %" PRIu64 ", \"unpaired\": %" PRIu64 "}",
		l->conns_n - l->conns_ended, l->conns_total, l->conns_refused, l->by[EVIDENCE_SOCKET],
		l->by[EVIDENCE_LISTENER], l->by[EVIDENCE_WIRE], l->by[EVIDENCE_INNER], l->unverified_n, l->unpaired_n);
	wire_json(l, to);
	fprintf(to,
		", \"attach\": {\"attached\": %" PRIu64 ", \"refused\": %" PRIu64 ", \"dismissed\": %" PRIu64
		", \"limited\": %" PRIu64 ", \"unseen\": %" PRIu64 ", \"left\": %" PRIu64 ", \"hasty\": %" PRIu64
		", \"denied\": %" PRIu64 ", \"garbage\": %" PRIu64 ", \"corrupt\": %" PRIu64 ", \"shed\": %" PRIu64 "}",
		s->attach->attached, s->attach->refused, s->attach->dismissed, s->attach->limited, s->attach->unseen,
		s->attach->left, s->attach->hasty, s->attach->denied, s->attach->garbage, l->corrupt, l->shed);
	fprintf(to, ", \"disabled\": %s", l->off ? "true" : "false");
	fprintf(to, ", \"sweeps\": %" PRIu64 ", \"late\": %" PRIu64 ", \"processes\": [", l->sweeps, l->late);
	for (struct family *f = l->families; f && shown < FAMILIES_SHOWN; f = f->next, shown++) {
		fprintf(to,
			"%s{\"family\": %" PRIu64
			", \"adopted\": %s, \"off\": %s, \"connections\": %u, \"reported\": %" PRIu64
			", \"unpaired\": %" PRIu64 ", \"unverified\": %" PRIu64 ", \"netns\": %" PRIu64
			", \"table_full\": %u, \"members\": [",
			shown ? ", " : "", f->id, f->adopted ? "true" : "false", f->off ? "true" : "false",
			connections(f), family_reported(f), f->unpaired_n, f->unverified_n, f->netns,
			atomic_load(&f->r.v.h->table_full));
		for (unsigned i = 0; i < f->member_n; i++)
			fprintf(to, "%s{\"pid\": %d, \"exe\": \"%s\"}", i ? ", " : "", (int)f->member[i]->p.pid,
				f->member[i]->exe);
		fputs("]}", to);
	}
	fputs("]}\n", to);
}

static void line(FILE *to, const char *name, uint64_t n, const char *what)
{
	fprintf(to, "  %-14s %16" PRIu64 "  %s\n", name, n, what);
}

/* The equations of account.h, line by line. */
static void account_text(struct lane *l, FILE *to)
{
	const struct account *a = &l->sum;
	struct equations e = equations_of(l);

	line(to, "reported", e.reported, "by the TLS libraries of tapped processes");
	line(to, "= decided", e.decided, "");
	line(to, "+ pending", e.pending, "in shared memory");
	fputc('\n', to);
	line(to, "decided", e.decided, "");
	line(to, "= taken", a->taken, "");
	line(to, "+ pool_full", a->pool_full, "lost: agentd did not keep up, or its sink gave no credit");
	line(to, "+ stripes_busy", a->stripes_busy, "lost: too many threads wrote at once");
	line(to, "+ no_slot", a->no_slot, "lost: too many connections in one process");
	line(to, "+ died", a->died, "lost: the process was killed before it was written");
	line(to, "+ sendfile", a->sendfile, "sent from files: the application never held it");
	line(to, "+ predecessor", a->predecessor, "lost: an agentd was killed");
	fputc('\n', to);
	line(to, "taken", a->taken, "");
	line(to, "= forged_in", a->forged_in, "");
	line(to, "+ held", a->held, "waiting for its turn or for its addresses");
	line(to, "+ duplicate", a->duplicate, "both ends are tapped");
	line(to, "+ unpaired", a->unpaired, "no addresses are known");
	line(to, "+ no_room", a->no_room, "too much waited for its addresses");
	line(to, "+ unverified", a->unverified, "the addresses stated could not be proven");
	line(to, "+ not_tcp", a->not_tcp, "no TLS over TCP: DTLS, QUIC, or a unix socket");
	line(to, "+ collision", a->collision, "another connection is shown with the same addresses");
	line(to, "+ denied", a->denied, "not on the interface that was asked for, by a rule, or cut by a time off");
	line(to, "+ early_rej.", a->early_rejected, "early data that were refused and sent again");
	fputc('\n', to);
	line(to, "forged_in", a->forged_in, "");
	line(to, "= forged", a->forged, "in frames");
	line(to, "+ resync", a->resync, "between a break and the next message");
	line(to, "+ queued", a->queued, "");
	fputc('\n', to);
	line(to, "forged", l->sink->n.put, "");
	line(to, "= acknowledged", l->sink->n.acked, "");
	line(to, "+ in flight", l->sink->n.in_flight, "");
	line(to, "+ backlog", l->sink->n.backlog, "");
	line(to, "+ unknown", l->sink->n.unknown, "under way when a tunnel broke");
}

static void text(struct status *s, FILE *to)
{
	struct lane *l = s->lane;
	char sink[256] = "";
	unsigned shown = 0;

	l->sink->ops->describe(l->sink, sink, sizeof(sink));
	fprintf(to, "agentd %s, process %d\n", TLSTAP_VERSION, (int)getpid());
	if (l->off)
		fprintf(to, "\nALL TAPS ARE SWITCHED OFF: %s exists\n", l->conf->disable_file);
	fprintf(to, "\nCleartext, in bytes\n");
	account_text(l, to);
	fprintf(to, "\n%s: %s, %" PRIu64 " frames\n", l->sink->ops->name, sink, l->sink->n.frames);
	if (l->capture)
		capture_text(l, to);
	if (!s->attach)
		return;
	fprintf(to,
		"connections: %u open, %" PRIu64 " in all; paired by live socket %" PRIu64 ", by listener %" PRIu64
		", by the wire %" PRIu64 ", inside others %" PRIu64 "; unverified %" PRIu64 ", unpaired %" PRIu64 "\n",
		l->conns_n - l->conns_ended, l->conns_total, l->by[EVIDENCE_SOCKET], l->by[EVIDENCE_LISTENER],
		l->by[EVIDENCE_WIRE], l->by[EVIDENCE_INNER], l->unverified_n, l->unpaired_n);
	fprintf(to,
		"processes: %" PRIu64 " attached, %" PRIu64 " denied, %" PRIu64 " refused, of these %" PRIu64
		" could not be looked at in time\n",
		s->attach->attached, s->attach->denied, s->attach->refused, s->attach->unseen);
	wire_text(l, to);
	for (struct family *f = l->families; f && shown < FAMILIES_SHOWN; f = f->next, shown++) {
		fprintf(to, "process");
		for (unsigned i = 0; i < f->member_n && i < 16; i++)
			fprintf(to, " %d", (int)f->member[i]->p.pid);
		fprintf(to, " %s: %u connections, %" PRIu64 " bytes", f->member_n ? f->member[0]->exe : "",
			connections(f), family_reported(f));
		if (f->unpaired_n || f->unverified_n)
			fprintf(to, "; %" PRIu64 " unpaired, %" PRIu64 " unverified", f->unpaired_n, f->unverified_n);
		fputc('\n', to);
	}
}

/* --- server ---------------------------------------------------------------------------------------- */

#define CLIENTS_MAX 16
#define CLIENT_S 5.0

struct client {
	struct status *status;
	int fd;	   /* -1: free */
	char *out; /* NULL: has not asked yet, or is being answered */
	size_t len, done;
	uint64_t asked; /* the helper, under this cookie; 0: nothing */
	ev_io io;
	ev_timer deadline;
};

static struct client client[CLIENTS_MAX];
static uint64_t questions;

static void goodbye(struct client *c)
{
	ev_io_stop(c->status->lane->loop, &c->io);
	ev_timer_stop(c->status->lane->loop, &c->deadline);
	close(c->fd);
	free(c->out);
	c->out = NULL;
	c->fd = -1;
}

static void on_client_deadline(struct ev_loop *loop, ev_timer *w, int events)
{
	(void)loop;
	(void)events;
	goodbye(w->data);
}

/* Its answer is in c->out. */
static void reply(struct client *c)
{
	struct ev_loop *loop = c->status->lane->loop;

	c->done = 0;
	ev_io_stop(loop, &c->io);
	ev_io_set(&c->io, c->fd, EV_WRITE);
	ev_io_start(loop, &c->io);
}

/* "why PID": the helper looks. What can be said at once is. Returns false if an answer is to come. */
static bool why(struct client *c, const char *pid, FILE *to)
{
	struct status *s = c->status;
	long n = strtol(pid, NULL, 10);
	struct helper_pid p = {.pid = n > 0 && n <= INT32_MAX ? (int32_t)n : 0};

	if (why_told(s->lane, s->attach, p.pid, to))
		return true;
	c->asked = STATUS_COOKIE | (++questions & (STATUS_COOKIE - 1));
	if (helper_look(s->lane->helper, c->asked, &p) == 0) {
		(void)helper_flush(s->lane->helper);
		return false;
	}
	c->asked = 0;
	fputs("agentd is too busy to look: ask again\n", to);
	return true;
}

void status_on_proc(struct status *s, const struct helper_event *e)
{
	for (unsigned i = 0; i < CLIENTS_MAX; i++) {
		struct client *c = &client[i];
		FILE *to;

		if (c->fd == -1 || !c->asked || c->asked != e->cookie)
			continue;
		c->asked = 0;
		to = open_memstream(&c->out, &c->len);
		if (!to) {
			goodbye(c);
			continue;
		}
		why_tell(s->lane, e, to);
		fclose(to);
		reply(c);
	}
}

/* What does it want to know? */
static void hear(struct client *c)
{
	char ask[32];
	ssize_t n = read(c->fd, ask, sizeof(ask) - 1);
	bool done = true;
	FILE *to = n > 0 && !c->asked ? open_memstream(&c->out, &c->len) : NULL;

	if (!to) {
		goodbye(c);
		return;
	}
	ask[n] = '\0';
	if (strncmp(ask, "why ", 4) == 0)
		done = why(c, ask + 4, to);
	else
		(n >= 4 && memcmp(ask, "json", 4) == 0	   ? json
		 : n >= 6 && memcmp(ask, "doctor", 6) == 0 ? doctor
							   : text)(c->status, to);
	fclose(to);
	if (done) {
		reply(c);
		return;
	}
	free(c->out);
	c->out = NULL;
}

static void on_client(struct ev_loop *loop, ev_io *w, int events)
{
	struct client *c = w->data;
	ssize_t n;

	(void)loop;
	(void)events;
	if (!c->out) {
		hear(c);
		return;
	}
	n = write(c->fd, c->out + c->done, c->len - c->done);
	if (n > 0)
		c->done += (size_t)n;
	if ((n == -1 && errno != EAGAIN && errno != EINTR) || c->done == c->len)
		goodbye(c);
}

static void on_connect(struct ev_loop *loop, ev_io *w, int events)
{
	struct status *s = w->data;
	int fd = sock_accept(s->fd, NULL, NULL);
	struct client *c = NULL;

	(void)events;
	if (fd < 0)
		return;
	for (unsigned i = 0; i < CLIENTS_MAX && !c; i++)
		if (client[i].fd == -1)
			c = &client[i];
	if (!c) {
		close(fd);
		return;
	}
	c->status = s;
	c->fd = fd;
	c->asked = 0;
	ev_io_init(&c->io, on_client, fd, EV_READ);
	c->io.data = c;
	ev_io_start(loop, &c->io);
	ev_timer_init(&c->deadline, on_client_deadline, CLIENT_S, 0);
	c->deadline.data = c;
	ev_timer_start(loop, &c->deadline);
}

static bool path_of(const char *socket, char *ret, size_t size)
{
	const char *slash = strrchr(socket, '/');

	return slash && (size_t)snprintf(ret, size, "%.*s/%s", (int)(slash - socket), socket, STATUS_SOCKET) < size;
}

int status_init(struct status *s, const char *socket, char err[static ATTACH_ERR])
{
	char path[256];

	memset(s, 0, sizeof(*s));
	if (path_of(socket, path, sizeof(path))) {
		char *slash = strrchr(path, '/');

		*slash = '\0';
		(void)mkdir(path, 0755);
	}
	s->fd = path_of(socket, path, sizeof(path)) ? sock_unix_listen(path, SOCK_STREAM, 0600) : -ENAMETOOLONG;
	if (s->fd < 0)
		snprintf(err, ATTACH_ERR, "control socket %.150s: %s", path, strerror(-s->fd));
	return s->fd < 0 ? s->fd : 0;
}

void status_start(struct status *s, struct lane *lane, struct attach *attach)
{
	s->lane = lane;
	s->attach = attach;
	for (unsigned i = 0; i < CLIENTS_MAX; i++)
		client[i].fd = -1;
	ev_io_init(&s->io, on_connect, s->fd, EV_READ);
	s->io.data = s;
	ev_io_start(lane->loop, &s->io);
}

void status_stop(struct status *s)
{
	ev_io_stop(s->lane->loop, &s->io);
	for (unsigned i = 0; i < CLIENTS_MAX; i++)
		if (client[i].fd != -1)
			goodbye(&client[i]);
	close(s->fd);
}

int status_show(const char *socket, const char *what)
{
	const char *ask = *what ? what : "text";
	char question[32];
	struct pollfd wait = {.events = POLLIN};
	char path[256], buf[65536];
	size_t all = 0;
	ssize_t n;

	if (strncmp(what, "why:", 4) == 0) {
		snprintf(question, sizeof(question), "why %s\n", what + 4);
		ask = question;
	}
	wait.fd = path_of(socket, path, sizeof(path)) ? sock_unix_connect(path, SOCK_STREAM) : -ENAMETOOLONG;
	if (wait.fd < 0) {
		fprintf(stderr, "agentd: %s: %s\n", path,
			wait.fd == -ENOENT || wait.fd == -ECONNREFUSED ? "no agentd is running there"
								       : strerror(-wait.fd));
		return 1;
	}
	if (write(wait.fd, ask, strlen(ask)) == (ssize_t)strlen(ask))
		while (poll(&wait, 1, 10000) == 1 && (n = read(wait.fd, buf, sizeof(buf))) > 0) {
			fwrite(buf, 1, (size_t)n, stdout);
			all += (size_t)n;
		}
	close(wait.fd);
	if (all && fflush(stdout) == 0)
		return 0;
	fprintf(stderr, "agentd: %s: no answer\n", path);
	return 1;
}
