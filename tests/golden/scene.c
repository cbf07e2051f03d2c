/* SPDX-License-Identifier: Apache-2.0 */
/* scene.c - conversations written as text -> frames.
 *
 *   scene                        check each scenes/NAME.scene: the frames must be those written there
 *   scene FILE.pcap < TEXT       forge what the text says into a capture, for an engine to look at
 *   scene -                      the same, and print the frames in the form of the .scene files
 *
 * A line is one step; '#' begins a comment:
 *   ver 4|6, port CLIENT SERVER, mtu N, rotate N, time SECONDS, join      before the first data
 *   c "TEXT"  s "TEXT"     a record of client or server (\r \n \" \\ \xHH; "TEXT"*N repeats it)
 *   c+ "TEXT" s+ "TEXT"    the same record goes on
 *   lost c|s N             N bytes are missing here
 *   settle, tick MS, cut, end c|s
 *   > ...                  a frame that the steps above must have forged
 */
#include <dirent.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "../unit/seen.h"

#define LINE_MAX_BYTES (64u << 20)

struct scene {
	struct tuple t;
	struct flow_conf conf;
	struct flow flow;
	struct batch batch;
	struct seen seen;
	uint64_t ts_ns;
	bool started, join;
	size_t shown; /* frames compared or printed */
};

static void fail_at(const char *what, const char *line)
{
	fprintf(stderr, "scene: %s: %.100s\n", what, line);
	exit(1);
}

static void start(struct scene *s)
{
	if (s->started)
		return;
	s->started = true;
	flow_init(&s->flow, &s->t, 0x1122334455667788, 0);
	if (s->join)
		flow_join(&s->flow);
}

/* "c SA 0 ack 1 win 65535 len 0 inc 0": numbers relative to the ISNs. */
static void frame_text(const struct seen_frame *f, char *ret, size_t size)
{
	static const char letter[] = "FSRPA";
	char flags[6] = "";
	size_t n = 0;

	for (int bit = 0; bit < 5; bit++)
		if (f->flags & 1 << bit)
			flags[n++] = letter[bit];
	(void)snprintf(ret, size, "%c %s %u ack %u win %u len %u inc %u", f->side ? 's' : 'c', flags, f->seq, f->ack,
		       f->window, f->len, f->inc);
}

/* Turn the quoted text of @p into bytes, in place. Returns their number; *ret_times is what it is repeated. */
static size_t unquote(char *p, char **ret_start, unsigned long *ret_times)
{
	char *from = strchr(p, '"'), *to;

	if (!from)
		fail_at("no text", p);
	to = *ret_start = ++from;
	for (; *from != '"'; from++) {
		if (!*from)
			fail_at("the text has no end", p);
		if (*from != '\\') {
			*to++ = *from;
			continue;
		}
		switch (*++from) {
		case 'r':
			*to++ = '\r';
			break;
		case 'n':
			*to++ = '\n';
			break;
		case 'x': {
			char hex[3] = {from[1], from[1] ? from[2] : 0};

			*to++ = (char)strtoul(hex, NULL, 16);
			from += 2;
			break;
		}
		default:
			*to++ = *from;
		}
	}
	*ret_times = from[1] == '*' ? strtoul(from + 2, NULL, 10) : 1;
	return (size_t)(to - *ret_start);
}

/* As agentd does it: pieces of at most 64 KiB. */
static void data(struct scene *s, enum side side, bool cont, char *line)
{
	unsigned long times;
	char *text;
	size_t n = unquote(line, &text, &times), len = n * times;
	uint8_t *all = malloc(len + 1);

	SEEN_CHECK(all && len < LINE_MAX_BYTES);
	for (unsigned long i = 0; i < times; i++)
		memcpy(all + i * n, text, n);
	for (size_t pos = 0; pos < len; pos += 65536) {
		size_t piece = len - pos < 65536 ? len - pos : 65536;

		SEEN_CHECK(flow_data(&s->flow, &s->conf, side, all + pos, piece, cont || pos, s->ts_ns, &s->batch) >=
			   0);
		seen_batch(&s->seen, &s->batch);
	}
	free(all);
}

static enum side side_of(const char *word)
{
	if (*word != 'c' && *word != 's')
		fail_at("neither c nor s", word);
	return *word == 's' ? SIDE_SERVER : SIDE_CLIENT;
}

/* Before the flow exists. Returns false if @line is something else. */
static bool setting(struct scene *s, const char *line)
{
	unsigned long a = 0, b = 0;
	char word[16] = "";

	(void)sscanf(line, "%15s %lu %lu", word, &a, &b);
	if (!strcmp(word, "ver")) {
		uint16_t port[2] = {s->t.port[0], s->t.port[1]};

		s->t = seen_tuple((int)a);
		memcpy(s->t.port, port, sizeof port);
	} else if (!strcmp(word, "port")) {
		s->t.port[0] = (uint16_t)a;
		s->t.port[1] = (uint16_t)b;
	} else if (!strcmp(word, "mtu")) {
		s->conf.mtu = (uint32_t)a;
	} else if (!strcmp(word, "rotate")) {
		s->conf.rotate = a;
	} else if (!strcmp(word, "time")) {
		s->ts_ns = a * 1000000000ull;
	} else if (!strcmp(word, "join")) {
		s->join = true;
	} else {
		return false;
	}
	return true;
}

static void step(struct scene *s, char *line)
{
	unsigned long n = 0;
	char word[16] = "", side[4] = "c";
	int r = 0;

	if (!*line || *line == '#' || (!s->started && setting(s, line)))
		return;
	start(s);
	s->ts_ns += 100000;
	(void)sscanf(line, "%15s %3s %lu", word, side, &n);
	if (!strcmp(word, "c") || !strcmp(word, "s") || !strcmp(word, "c+") || !strcmp(word, "s+")) {
		data(s, side_of(word), word[1] == '+', line);
	} else if (!strcmp(word, "lost")) {
		r = flow_lost(&s->flow, &s->conf, side_of(side), n, s->ts_ns, &s->batch);
	} else if (!strcmp(word, "settle")) {
		r = flow_settle(&s->flow, &s->conf, s->ts_ns, &s->batch);
	} else if (!strcmp(word, "tick")) { /* twice: the first starts the clocks */
		r = flow_tick(&s->flow, &s->conf, s->ts_ns, s->ts_ns, &s->batch);
		s->ts_ns += strtoul(side, NULL, 10) * 1000000;
		r = r ? r : flow_tick(&s->flow, &s->conf, s->ts_ns, s->ts_ns, &s->batch);
	} else if (!strcmp(word, "cut")) {
		r = flow_cut(&s->flow, &s->conf, s->ts_ns, &s->batch);
	} else if (!strcmp(word, "end")) {
		r = flow_end(&s->flow, &s->conf, side_of(side), s->ts_ns, &s->batch);
	} else {
		fail_at("no such step", line);
	}
	SEEN_CHECK(!r);
	seen_batch(&s->seen, &s->batch);
}

static void scene_init(struct scene *s)
{
	memset(s, 0, sizeof *s);
	s->t = seen_tuple(4);
	s->conf = seen_conf();
	s->ts_ns = 1700000000000000000;
	batch_init(&s->batch);
	seen_init(&s->seen, &s->flow, &s->conf);
}

static void scene_fini(struct scene *s)
{
	batch_fini(&s->batch);
	seen_fini(&s->seen);
}

/* Compare with the frames written in @path. */
static void check_file(const char *dir, const char *name)
{
	char path[512], text[128], base[256];
	FILE *f;
	char *line = NULL;
	size_t size = 0;
	ssize_t len;
	unsigned no = 0;
	struct scene s;

	(void)snprintf(path, sizeof path, "%s/%s", dir, name);
	f = fopen(path, "r");
	assert_non_null(f);
	scene_init(&s);
	(void)snprintf(base, sizeof base, "scene_%.*s", (int)strcspn(name, "."), name);
	seen_pcap(&s.seen, base);
	while ((len = getline(&line, &size, f)) > 0) {
		no++;
		if (line[len - 1] == '\n')
			line[--len] = 0;
		if (line[0] != '>') {
			if (s.shown < s.seen.n_frames && *line && *line != '#')
				fail_msg("%s:%u: a frame is not written down before this line", name, no);
			step(&s, line);
			continue;
		}
		if (s.shown == s.seen.n_frames)
			fail_msg("%s:%u: no such frame was forged", name, no);
		frame_text(&s.seen.frame[s.shown++], text, sizeof text);
		if (strcmp(text, line + 2))
			fail_msg("%s:%u: forged was: %s", name, no, text);
	}
	if (s.shown < s.seen.n_frames)
		fail_msg("%s: more frames than written", name);
	free(line);
	(void)fclose(f);
	scene_fini(&s);
}

static void test_scenes(void **state)
{
	const char *dir = TEST_DIR "/golden/scenes";
	DIR *d = opendir(dir);
	struct dirent *e;
	unsigned n = 0;

	(void)state;
	assert_non_null(d);
	while ((e = readdir(d)))
		if (strstr(e->d_name, ".scene")) {
			check_file(dir, e->d_name);
			n++;
		}
	(void)closedir(d);
	assert_true(n > 0);
}

static void pcap_open(struct seen *o, const char *path)
{
	const uint32_t head[6] = {0xa1b23c4d, 4u << 16 | 2, 0, 0, 262144, 1};

	o->pcap = fopen(path, "wb");
	SEEN_CHECK(o->pcap && fwrite(head, sizeof head, 1, o->pcap) == 1);
}

static int forge_stdin(const char *path)
{
	bool print = !strcmp(path, "-");
	char *line = NULL, text[128];
	size_t size = 0;
	ssize_t len;
	struct scene s;

	scene_init(&s);
	if (!print)
		pcap_open(&s.seen, path);
	while ((len = getline(&line, &size, stdin)) > 0) {
		if (line[len - 1] == '\n')
			line[--len] = 0;
		if (*line == '>')
			continue;
		if (print)
			puts(line);
		step(&s, line);
		for (; print && s.shown < s.seen.n_frames; s.shown++) {
			frame_text(&s.seen.frame[s.shown], text, sizeof text);
			printf("> %s\n", text);
		}
	}
	free(line);
	if (!print)
		printf("forged %llu %llu resync %llu %llu breaks %llu rotations %llu incarnations %zu\n",
		       (unsigned long long)s.flow.s[0].forged, (unsigned long long)s.flow.s[1].forged,
		       (unsigned long long)s.flow.s[0].resync, (unsigned long long)s.flow.s[1].resync,
		       (unsigned long long)s.flow.breaks, (unsigned long long)s.flow.rotations, s.seen.n_inc);
	scene_fini(&s);
	return 0;
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_scenes)};

	if (argc > 1)
		return forge_stdin(argv[1]);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
