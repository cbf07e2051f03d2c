/* SPDX-License-Identifier: Apache-2.0 */
/* report.c - what --status shows: text for people, JSON for programs (see status.h). */
#include <inttypes.h>
#include <string.h>

#include "lane.h"
#include "status.h"

static const char *const verdict_name[VERDICTS] = {
	[VERDICT_INJECTED] = "injected", [VERDICT_POLICY] = "policy",	   [VERDICT_DUPLICATE] = "duplicate",
	[VERDICT_OVERSIZE] = "oversize", [VERDICT_ERROR] = "inject_error",
};

static bool holds(const struct tally *t)
{
	uint64_t frames = t->queued.frames, bytes = t->queued.bytes;

	for (int v = 0; v < VERDICTS; v++) {
		frames += t->by[v].frames;
		bytes += t->by[v].bytes;
	}
	return frames == t->received.frames && bytes == t->received.bytes;
}

static bool shown(const struct session *s)
{
	return s->state == SESSION_RUN || s->state == SESSION_END;
}

/* A peer's text: bytes that are not printable ASCII as '?'. */
static void print_text(FILE *to, const char *s)
{
	for (; *s != '\0'; s++)
		(void)fputc(*s >= ' ' && *s <= '~' ? *s : '?', to);
}

static void print_json(FILE *to, const char *s)
{
	(void)fputc('"', to);
	for (; *s != '\0'; s++) {
		unsigned char c = (unsigned char)*s;

		if (c == '"' || c == '\\')
			(void)fprintf(to, "\\%c", c);
		else if (c < ' ' || c > '~') /* byte by byte: a peer's name need not be UTF-8 */
			(void)fprintf(to, "\\u%04x", c);
		else
			(void)fputc(c, to);
	}
	(void)fputc('"', to);
}

static void text_equation(const char *what, const struct tally *t, bool bytes, FILE *to)
{
	const struct count *c = &t->received;

	(void)fprintf(to, "  %-7s received %" PRIu64 " =", what, bytes ? c->bytes : c->frames);
	for (int v = 0; v < VERDICTS; v++)
		(void)fprintf(to, " %s %" PRIu64 " +", verdict_name[v], bytes ? t->by[v].bytes : t->by[v].frames);
	(void)fprintf(to, " queued %" PRIu64 "%s\n", bytes ? t->queued.bytes : t->queued.frames,
		      holds(t) ? "" : "   DOES NOT HOLD");
}

static void text_agents(const struct lane *l, FILE *to)
{
	double now = ev_now(l->loop);

	(void)fprintf(to, "agents\n");
	for (const struct session *s = l->first; s != NULL; s = s->next) {
		if (!shown(s))
			continue;
		(void)fprintf(to, "  %s  ", s->peer);
		if (s->stream.has_hello) {
			print_text(to, s->stream.hello.host);
			(void)fprintf(to, " (agentd ");
			print_text(to, s->stream.hello.version);
			(void)fprintf(to, ")");
		} else {
			(void)fprintf(to, "native");
		}
		(void)fprintf(to, "  %.3f Mbit/s  %" PRIu64 " frames  %" PRIu64 " bytes  %u flows  %.0f s%s\n",
			      s->rate * 8 / 1e6, s->stream.n.received.frames, s->stream.n.received.bytes,
			      s->stream.list.n, now - s->since, s->state == SESSION_END ? "  ending" : "");
	}
}

void status_text(const struct receiver *r, FILE *to)
{
	const struct lane *l = r->lane;
	const struct inject *i = &l->inject;
	struct tally t;

	lane_tally(l, &t);
	(void)fprintf(to, "receiverd %s\n", TLSTAP_VERSION);
	(void)fprintf(to, "interface %s, MTU %u%s%s%s\n", i->none ? "none" : i->nif.name, i->mtu,
		      i->busy ? i->nif.lost ? ", gone or down" : ", busy" : "", i->file != -1 ? ", file " : "",
		      i->file != -1 ? i->path : "");
	(void)fprintf(to, "equation\n");
	text_equation("frames", &t, false, to);
	text_equation("bytes", &t, true, to);
	(void)fprintf(to, "  closed for ended sessions: %" PRIu64 " flows by %" PRIu64 " frames\n", t.flows_closed,
		      t.closing.frames);
	(void)fprintf(to,
		      "connections\n  accepted %" PRIu64 ", open %u, without hello %u, refused %" PRIu64
		      ", handshakes failed %" PRIu64 ", ended for bad input %" PRIu64 "\n",
		      l->count.accepted, l->n, l->n_new, l->count.refused, l->count.handshakes_failed, l->count.bad);
	(void)fprintf(to, "flows\n  open %u, closed because the table was full %" PRIu64 "\n", l->flows.n,
		      l->flows.evicted);
	text_agents(l, to);
}

static void json_count(const char *name, const struct count *c, FILE *to)
{
	(void)fprintf(to, "\"%s\":{\"frames\":%" PRIu64 ",\"bytes\":%" PRIu64 "}", name, c->frames, c->bytes);
}

static void json_tally(const struct tally *t, FILE *to)
{
	(void)fputc('{', to);
	json_count("received", &t->received, to);
	for (int v = 0; v < VERDICTS; v++) {
		(void)fputc(',', to);
		json_count(verdict_name[v], &t->by[v], to);
	}
	(void)fputc(',', to);
	json_count("queued", &t->queued, to);
	(void)fprintf(to, ",\"holds\":%s}", holds(t) ? "true" : "false");
}

static void json_agent(const struct session *s, double now, FILE *to)
{
	const struct stream *m = &s->stream;
	char addr[SOCK_STRLEN];
	char *colon;

	(void)snprintf(addr, sizeof(addr), "%s", s->peer);
	colon = strrchr(addr, ':');
	if (colon != NULL)
		*colon++ = '\0';
	(void)fprintf(to, "{\"address\":");
	print_json(to, addr);
	(void)fprintf(to, ",\"port\":%s,\"native\":%s,\"host\":", colon != NULL ? colon : "0",
		      m->has_hello ? "false" : "true");
	print_json(to, m->hello.host);
	(void)fprintf(to, ",\"version\":");
	print_json(to, m->hello.version);
	(void)fprintf(to, ",\"since_s\":%.0f,\"rate_bps\":%.0f,\"flows\":%u,\"stream_bytes\":%" PRIu64 ",\"tally\":",
		      now - s->since, s->rate * 8, m->list.n, m->n.stream);
	json_tally(&m->n, to);
	if (m->has_statistics)
		(void)fprintf(to,
			      ",\"agent\":{\"put\":%" PRIu64 ",\"unknown\":%" PRIu64 ",\"reconnects\":%" PRIu64
			      ",\"captured\":%" PRIu64 ",\"capture_drops\":%" PRIu64 ",\"hello_drops\":%" PRIu64 "}",
			      m->statistics.put, m->statistics.unknown, m->statistics.reconnects,
			      m->statistics.captured, m->statistics.capture_drops, m->statistics.hello_drops);
	(void)fputc('}', to);
}

void status_json(const struct receiver *r, FILE *to)
{
	const struct lane *l = r->lane;
	const char *comma = "";
	struct tally t;

	lane_tally(l, &t);
	(void)fprintf(to, "{\"version\":\"%s\",\"interface\":", TLSTAP_VERSION);
	print_json(to, l->inject.none ? "none" : l->inject.nif.name);
	(void)fprintf(to, ",\"mtu\":%u,\"busy\":%s,\"equation\":", l->inject.mtu, l->inject.busy ? "true" : "false");
	json_tally(&t, to);
	(void)fprintf(to, ",\"stream_bytes\":%" PRIu64 ",\"held\":%" PRIu64 ",\"flows_closed\":%" PRIu64 ",", t.stream,
		      l->held, t.flows_closed);
	json_count("closing", &t.closing, to);
	(void)fprintf(to,
		      ",\"flows\":{\"open\":%u,\"evicted\":%" PRIu64 "},\"connections\":{\"accepted\":%" PRIu64
		      ",\"open\":%u,\"without_hello\":%u,\"refused\":%" PRIu64 ",\"handshakes_failed\":%" PRIu64
		      ",\"bad\":%" PRIu64 "},\"agents\":[",
		      l->flows.n, l->flows.evicted, l->count.accepted, l->n, l->n_new, l->count.refused,
		      l->count.handshakes_failed, l->count.bad);
	for (const struct session *s = l->first; s != NULL; s = s->next) {
		if (!shown(s))
			continue;
		(void)fputs(comma, to);
		json_agent(s, ev_now(l->loop), to);
		comma = ",";
	}
	(void)fprintf(to, "]}\n");
}
