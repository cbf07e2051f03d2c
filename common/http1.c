/* SPDX-License-Identifier: Apache-2.0 */
/* http1.c - message borders of HTTP/1.x, found without changing or keeping what is said. */
#include "http1.h"

#include <string.h>

enum part { PART_METHOD, PART_TARGET, PART_VERSION };

/* What of a request's method decides how its response is framed. */
enum method { METHOD_OTHER, METHOD_HEAD, METHOD_CONNECT, METHOD_UNSURE };

#define LENGTH_MAX (UINT64_MAX >> 2)

static bool is_method_char(uint8_t c)
{
	return (c >= 'A' && c <= 'Z') || c == '-' || c == '_';
}

static bool is_target_char(uint8_t c)
{
	return c > 0x20 && c != 0x7f;
}

static uint8_t lower(uint8_t c)
{
	return c >= 'A' && c <= 'Z' ? (uint8_t)(c | 0x20) : c;
}

/* Is @s[0..n) the lower-case @word, in any case? */
static bool same_word(const uint8_t *s, size_t n, const char *word)
{
	if (n != strlen(word))
		return false;
	for (size_t i = 0; i < n; i++)
		if (lower(s[i]) != (uint8_t)word[i])
			return false;
	return true;
}

static void method_set(struct http1 *h, uint32_t i, enum method m)
{
	uint8_t *p = &h->method[i % HTTP1_QUEUE / 4];
	unsigned shift = i % 4 * 2;

	*p = (uint8_t)((*p & ~(3u << shift)) | (unsigned)m << shift);
}

static enum method method_get(const struct http1 *h, uint32_t i)
{
	return (enum method)(h->method[i % HTTP1_QUEUE / 4] >> i % 4 * 2 & 3);
}

void http1_init(struct http1 *h)
{
	memset(h, 0, sizeof *h);
}

static void give_up(struct http1 *h)
{
	h->is = h->is == HTTP1_YES ? HTTP1_BROKEN : HTTP1_NO;
}

uint32_t http1_outstanding(const struct http1 *h)
{
	return h->started - h->done;
}

/* Has the final response to the oldest request begun for certain? */
static bool response_begun(const struct http1 *h)
{
	const struct http1_side *s = &h->s[SIDE_SERVER];

	return s->phase != HTTP1_BORDER && s->phase != HTTP1_LINE && s->phase != HTTP1_LOST && s->status >= 200 &&
	       s->solicited;
}

uint32_t http1_unbegun(const struct http1 *h)
{
	return http1_outstanding(h) - response_begun(h);
}

bool http1_begins(const struct http1 *h, enum side side, uint8_t byte)
{
	if (h->s[side].phase != HTTP1_BORDER)
		return false;
	return h->is == HTTP1_UNKNOWN || (h->is == HTTP1_YES && byte != '\r' && byte != '\n');
}

bool http1_at_border(const struct http1 *h, enum side side)
{
	return h->is <= HTTP1_YES && h->s[side].phase == HTTP1_BORDER;
}

bool http1_in_header(const struct http1 *h, enum side side)
{
	const struct http1_side *s = &h->s[side];

	return h->is <= HTTP1_YES && (s->phase == HTTP1_LINE || s->phase == HTTP1_HEAD) && s->head < HTTP1_HOLD;
}

bool http1_lost(const struct http1 *h, enum side side)
{
	return h->s[side].phase == HTTP1_LOST;
}

static void line_reset(struct http1_side *s)
{
	s->kept = 0;
	s->cut = false;
}

static void line_keep(struct http1_side *s, const uint8_t *p, size_t n)
{
	size_t room = sizeof s->line - s->kept;

	if (n > room) {
		n = room;
		s->cut = true;
	}
	memcpy(s->line + s->kept, p, n);
	s->kept = (uint8_t)(s->kept + n);
}

/* Take bytes up to a line end and keep the first of them.
 * @ret_line, @ret_n  the line without its end, if it is whole
 * Returns the bytes taken; *ret_line is NULL if the line goes on behind @data. */
static size_t take_line(struct http1_side *s, const uint8_t *data, size_t len, const uint8_t **ret_line, size_t *ret_n)
{
	const uint8_t *end = memchr(data, '\n', len);
	const uint8_t *line = data;
	size_t n = end ? (size_t)(end - data) : len;

	*ret_line = NULL;
	if (!end || s->kept || s->cut) {
		line_keep(s, data, n);
		if (!end)
			return len;
		line = (const uint8_t *)s->line;
		*ret_n = s->kept;
	} else {
		*ret_n = n;
	}
	if (*ret_n && line[*ret_n - 1] == '\r' && !s->cut)
		--*ret_n;
	*ret_line = line;
	return n + 1;
}

/* A message of @side begins. */
static void begin(struct http1 *h, enum side side)
{
	struct http1_side *s = &h->s[side];

	*s = (struct http1_side){.phase = HTTP1_LINE};
	if (side == SIDE_SERVER) {
		s->solicited = http1_outstanding(h) > 0;
		return;
	}
	if (http1_outstanding(h) >= HTTP1_QUEUE) {
		give_up(h);
		return;
	}
	method_set(h, h->started, METHOD_UNSURE);
	h->started++;
}

static unsigned end_message(struct http1 *h, enum side side)
{
	struct http1_side *s = &h->s[side];

	s->phase = HTTP1_BORDER;
	if (side == SIDE_SERVER && s->status >= 200 && s->solicited && http1_outstanding(h))
		h->done++;
	return HTTP1_MSG_END;
}

static bool version_ok(const char *p, size_t n)
{
	if (n && p[n - 1] == '\r')
		n--;
	return n == 8 && !memcmp(p, "HTTP/1.", 7) && (p[7] == '0' || p[7] == '1');
}

static enum method method_of(const char *p, size_t n)
{
	if (n == 4 && !memcmp(p, "HEAD", 4))
		return METHOD_HEAD;
	return n == 7 && !memcmp(p, "CONNECT", 7) ? METHOD_CONNECT : METHOD_OTHER;
}

/* Follow a request line; its method and its version are kept, its target is not. */
static size_t feed_request_line(struct http1 *h, const uint8_t *data, size_t len)
{
	struct http1_side *s = &h->s[SIDE_CLIENT];
	size_t i;

	for (i = 0; i < len; i++) {
		uint8_t c = data[i];

		switch ((enum part)s->part) {
		case PART_METHOD:
			if (c == ' ' && s->kept) {
				method_set(h, h->started - 1, method_of(s->line, s->kept));
				s->part = PART_TARGET;
				s->cut = false; /* here: no byte of the target yet */
				s->kept = 0;
			} else if (is_method_char(c) && s->kept < HTTP1_METHOD_MAX) {
				s->line[s->kept++] = (char)c;
			} else {
				goto malformed;
			}
			break;
		case PART_TARGET:
			if (c == ' ' && s->cut)
				s->part = PART_VERSION;
			else if (is_target_char(c))
				s->cut = true;
			else
				goto malformed;
			break;
		case PART_VERSION:
			if (c == '\n') {
				if (!version_ok(s->line, s->kept))
					goto malformed;
				line_reset(s);
				s->phase = HTTP1_HEAD;
				h->is = HTTP1_YES;
				return i + 1;
			}
			if (s->kept >= 9)
				goto malformed;
			s->line[s->kept++] = (char)c;
			break;
		}
	}
	return len;

malformed:
	give_up(h);
	return len;
}

static size_t feed_status_line(struct http1 *h, const uint8_t *data, size_t len)
{
	struct http1_side *s = &h->s[SIDE_SERVER];
	const uint8_t *line;
	size_t n, used = take_line(s, data, len, &line, &n);

	if (!http1_like_status(line ? line : (const uint8_t *)s->line, line ? n : s->kept) || (line && n < 12)) {
		give_up(h);
		return len;
	}
	if (!line)
		return used;
	s->status = (uint16_t)((line[9] - '0') * 100 + (line[10] - '0') * 10 + (line[11] - '0'));
	if (s->status < 100) {
		give_up(h);
		return len;
	}
	line_reset(s);
	s->phase = HTTP1_HEAD;
	return used;
}

static bool take_length(struct http1_side *s, const uint8_t *p, size_t n)
{
	uint64_t v = 0;

	if (!n)
		return false;
	for (size_t i = 0; i < n; i++) {
		if (p[i] < '0' || p[i] > '9' || v > LENGTH_MAX / 10 - 1)
			return false;
		v = v * 10 + (p[i] - '0');
	}
	if (s->has_length && s->length != v)
		return false;
	s->has_length = true;
	s->length = v;
	return true;
}

static bool is_blank(uint8_t c)
{
	return c == ' ' || c == '\t';
}

/* A list of transfer codings: "chunked" must be the last of all. */
static bool take_codings(struct http1_side *s, const uint8_t *p, size_t n)
{
	while (n) {
		const uint8_t *comma = memchr(p, ',', n);
		size_t item = comma ? (size_t)(comma - p) : n;
		const uint8_t *w = p;
		size_t wn = item;

		while (wn && is_blank(*w)) {
			w++;
			wn--;
		}
		while (wn && is_blank(w[wn - 1]))
			wn--;
		if (wn && s->chunked)
			return false;
		if (same_word(w, wn, "chunked"))
			s->chunked = true;
		if (wn && !same_word(w, wn, "identity"))
			s->has_te = true;
		item += comma != NULL;
		p += item;
		n -= item;
	}
	return true;
}

/* One header field without its line end. Returns false if it is malformed in a way that leaves the
 * length of the message in doubt. */
static bool take_field(struct http1_side *s, const uint8_t *p, size_t n)
{
	static const char *const word[2] = {"content-length", "transfer-encoding"};

	if (is_blank(p[0])) /* goes on with the field before it, RFC 9112 5.2 */
		return !s->framing;
	s->framing = false;
	for (int i = 0; i < 2; i++) {
		size_t w = strlen(word[i]);

		if (n <= w || !same_word(p, w, word[i]) || (p[w] != ':' && !is_blank(p[w])))
			continue;
		if (p[w] != ':' || s->cut)
			return false;
		s->framing = true;
		p += w + 1;
		n -= w + 1;
		while (n && is_blank(*p)) {
			p++;
			n--;
		}
		while (n && is_blank(p[n - 1]))
			n--;
		return i ? take_codings(s, p, n) : take_length(s, p, n);
	}
	return true;
}

/* A header block has ended: how does the body end? RFC 9112 6.3. */
static unsigned end_header(struct http1 *h, enum side side)
{
	struct http1_side *s = &h->s[side];
	bool client = side == SIDE_CLIENT;
	enum method m = METHOD_OTHER;

	line_reset(s);
	if (!client && s->solicited && http1_outstanding(h))
		m = method_get(h, h->done);
	else if (!client && http1_lost(h, SIDE_CLIENT))
		m = METHOD_UNSURE;
	if (client && s->has_te && !s->chunked) {
		give_up(h);
		return 0;
	}
	if (!client && (s->status == 101 || (m == METHOD_CONNECT && s->status / 100 == 2))) {
		h->is = HTTP1_NO;
		return HTTP1_HEAD_END;
	}
	if (!client && (s->status < 200 || s->status == 204 || s->status == 304 || m == METHOD_HEAD))
		return HTTP1_HEAD_END | end_message(h, side);
	if (s->has_te ? false : s->has_length ? !s->length : client)
		return HTTP1_HEAD_END | end_message(h, side);
	/* There is a body, unless the request that nobody saw was a HEAD. */
	if (m == METHOD_UNSURE)
		s->phase = HTTP1_LOST;
	else if (s->chunked)
		s->phase = HTTP1_CHUNK_LINE;
	else if (s->has_te || !s->has_length)
		s->phase = HTTP1_REST;
	else
		s->phase = HTTP1_BODY;
	s->left = s->length;
	s->head = 0;
	return HTTP1_HEAD_END;
}

/* Header and trailer fields. */
static size_t feed_fields(struct http1 *h, enum side side, const uint8_t *data, size_t len, unsigned *ret_ev)
{
	struct http1_side *s = &h->s[side];
	size_t pos = 0;

	while (pos < len) {
		const uint8_t *line;
		size_t n;

		pos += take_line(s, data + pos, len - pos, &line, &n);
		if (!line)
			break;
		if (!n && !s->cut) {
			*ret_ev = s->phase == HTTP1_HEAD ? end_header(h, side) : end_message(h, side);
			return pos;
		}
		if (s->phase == HTTP1_HEAD && !take_field(s, line, n)) {
			give_up(h);
			return len;
		}
		line_reset(s);
	}
	return pos;
}

static int hex(uint8_t c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c = lower(c);
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static size_t feed_chunk_line(struct http1 *h, enum side side, const uint8_t *data, size_t len)
{
	struct http1_side *s = &h->s[side];
	const uint8_t *line;
	size_t n, i, used = take_line(s, data, len, &line, &n);
	uint64_t v = 0;

	s->head += (uint32_t)(used < HTTP1_LINE_MAX ? used : HTTP1_LINE_MAX);
	if (s->head >= HTTP1_LINE_MAX)
		goto malformed;
	if (!line)
		return used;
	for (i = 0; i < n && hex(line[i]) >= 0; i++) {
		if (v > LENGTH_MAX / 16 - 1)
			goto malformed;
		v = v * 16 + (uint64_t)hex(line[i]);
	}
	if (!i || (i < n && line[i] != ';' && !is_blank(line[i])))
		goto malformed;
	line_reset(s);
	s->head = 0;
	s->left = v;
	s->phase = v ? HTTP1_CHUNK : HTTP1_TRAILER;
	return used;

malformed:
	give_up(h);
	return len;
}

static size_t feed_body(struct http1 *h, enum side side, size_t len, unsigned *ret_ev)
{
	struct http1_side *s = &h->s[side];

	if (len > s->left)
		len = (size_t)s->left;
	s->left -= len;
	if (s->left)
		return len;
	if (s->phase == HTTP1_BODY)
		*ret_ev = end_message(h, side);
	else
		s->phase = HTTP1_CHUNK_END;
	return len;
}

static size_t feed_chunk_end(struct http1 *h, enum side side, const uint8_t *data, size_t len)
{
	struct http1_side *s = &h->s[side];
	const uint8_t *line;
	size_t n, used = take_line(s, data, len, &line, &n);

	if (line ? n || s->cut : s->kept > 1 || s->line[0] != '\r') {
		give_up(h);
		return len;
	}
	if (line) {
		line_reset(s);
		s->phase = HTTP1_CHUNK_LINE;
	}
	return used;
}

static size_t feed_start(struct http1 *h, enum side side, const uint8_t *data, size_t len)
{
	size_t n = 0;

	if (!http1_begins(h, side, data[0])) { /* line ends between two messages */
		while (n < len && (data[n] == '\r' || data[n] == '\n'))
			n++;
		return n;
	}
	if (h->is == HTTP1_UNKNOWN && side == SIDE_SERVER) {
		h->is = HTTP1_NO;
		return len;
	}
	begin(h, side);
	return 0;
}

/* One step in one phase. Returns the bytes taken, which may be 0 if the phase has changed. */
static size_t step(struct http1 *h, enum side side, const uint8_t *data, size_t len, unsigned *ret_ev)
{
	switch (h->s[side].phase) {
	case HTTP1_BORDER:
		return feed_start(h, side, data, len);
	case HTTP1_LINE:
		return side == SIDE_CLIENT ? feed_request_line(h, data, len) : feed_status_line(h, data, len);
	case HTTP1_HEAD:
	case HTTP1_TRAILER:
		return feed_fields(h, side, data, len, ret_ev);
	case HTTP1_BODY:
	case HTTP1_CHUNK:
		return feed_body(h, side, len, ret_ev);
	case HTTP1_CHUNK_LINE:
		return feed_chunk_line(h, side, data, len);
	case HTTP1_CHUNK_END:
		return feed_chunk_end(h, side, data, len);
	case HTTP1_REST:
	case HTTP1_LOST:
		break;
	}
	return len;
}

size_t http1_feed(struct http1 *h, enum side side, const uint8_t *data, size_t len, unsigned *ret_ev)
{
	struct http1_side *s = &h->s[side];
	size_t pos = 0;

	*ret_ev = 0;
	while (pos < len) {
		bool header = s->phase == HTTP1_LINE || s->phase == HTTP1_HEAD || s->phase == HTTP1_TRAILER;
		size_t n = len - pos;

		if (h->is > HTTP1_YES)
			return len;
		if (header && s->head < HTTP1_HOLD && n > HTTP1_HOLD - s->head)
			n = HTTP1_HOLD - s->head;
		if (s->phase == HTTP1_BORDER && pos)
			return pos; /* line ends were taken; what begins now is a message of its own */
		n = step(h, side, data + pos, n, ret_ev);
		pos += n;
		if (*ret_ev || h->is > HTTP1_YES)
			break;
		if (header) {
			s->head += (uint32_t)n;
			if (s->head > HTTP1_HEADER_MAX)
				give_up(h);
			if (s->head == HTTP1_HOLD && n)
				*ret_ev = HTTP1_HEAD_LONG;
			if (*ret_ev)
				break;
		}
	}
	return h->is > HTTP1_YES && !*ret_ev ? len : pos;
}

bool http1_skip(struct http1 *h, enum side side, uint64_t len)
{
	struct http1_side *s = &h->s[side];

	if (s->phase == HTTP1_REST)
		return true;
	if (len && (s->phase == HTTP1_BODY || s->phase == HTTP1_CHUNK) && len <= s->left) {
		s->left -= len;
		if (!s->left && s->phase == HTTP1_BODY)
			(void)end_message(h, side);
		else if (!s->left)
			s->phase = HTTP1_CHUNK_END;
		return true;
	}
	s->phase = HTTP1_LOST;
	return false;
}

void http1_sync(struct http1 *h, enum side side)
{
	h->s[side] = (struct http1_side){.phase = HTTP1_BORDER};
}

void http1_forget(struct http1 *h)
{
	h->done = h->started;
	h->s[SIDE_SERVER].solicited = false;
}

bool http1_like_request(const uint8_t *data, size_t len)
{
	size_t i = 0, n = 0, target;

	while (i < len && is_method_char(data[i]))
		i++;
	if (!i || i > HTTP1_METHOD_MAX)
		return false;
	if (i == len)
		return true;
	if (data[i++] != ' ')
		return false;
	target = i;
	while (i < len && is_target_char(data[i]))
		i++;
	if (i == len)
		return true;
	if (i == target || data[i++] != ' ')
		return false;
	while (i + n < len && data[i + n] != '\n' && n < 10)
		n++;
	if (i + n < len)
		return version_ok((const char *)data + i, n);
	return !memcmp(data + i, "HTTP/1.", n < 7 ? n : 7);
}

bool http1_like_status(const uint8_t *data, size_t len)
{
	static const char form[] = "HTTP/1.x ddd";

	for (size_t i = 0; i < len && i < 12; i++) {
		if (i < 7 || i == 8) {
			if (data[i] != (uint8_t)form[i])
				return false;
		} else if (i == 7) {
			if (data[i] != '0' && data[i] != '1')
				return false;
		} else if (data[i] < '0' || data[i] > '9') {
			return false;
		}
	}
	return true;
}
