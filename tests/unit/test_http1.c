/* SPDX-License-Identifier: Apache-2.0 */
/* test_http1.c - message borders, however the bytes are cut. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "common/http1.h"

/* Feed a text in pieces of @step bytes; write where messages end to @ret_end. Returns their number. */
static size_t feed(struct http1 *h, enum side side, const char *text, size_t len, size_t step, size_t *ret_end,
		   size_t max)
{
	size_t n = 0, pos = 0;

	while (pos < len) {
		size_t want = len - pos < step ? len - pos : step;
		unsigned ev;
		size_t got = http1_feed(h, side, (const uint8_t *)text + pos, want, &ev);

		assert_in_range(got, 1, want);
		pos += got;
		if (ev & HTTP1_MSG_END) {
			assert_true(http1_at_border(h, side));
			if (n < max)
				ret_end[n] = pos;
			n++;
		}
	}
	return n;
}

static void say(struct http1 *h, enum side side, const char *text)
{
	(void)feed(h, side, text, strlen(text), SIZE_MAX, NULL, 0);
}

/* Each message of @c and @s ends where a '|' stands, for all ways to cut them. */
static void borders(const char *c, const char *s)
{
	const char *marked[2] = {c, s};

	for (size_t step = 1; step < 40; step += step < 8 ? 1 : 9) {
		struct http1 h;

		http1_init(&h);
		for (int side = 0; side < 2; side++) {
			char text[4096];
			size_t want[16], end[16], n = 0, len = 0;

			for (const char *p = marked[side]; *p; p++) {
				if (*p == '|')
					want[n++] = len;
				else
					text[len++] = *p;
			}
			assert_int_equal(feed(&h, (enum side)side, text, len, step, end, 16), n);
			for (size_t i = 0; i < n; i++)
				assert_int_equal(end[i], want[i]);
		}
		assert_int_equal(h.is, HTTP1_YES);
	}
}

#define GET "GET / HTTP/1.1\r\nHost: a\r\n\r\n|"
#define OK0 "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n|"

static void test_lengths(void **state)
{
	(void)state;
	borders(GET "POST /a HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello|" GET,
		OK0 "HTTP/1.1 200 OK\r\ncontent-LENGTH:\t 3 \r\n\r\nabc|" OK0);
	borders("GET / HTTP/1.0\n\n|", "HTTP/1.0 200\nContent-Length: 1\n\nx|");
	borders(GET, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nab|");
}

static void test_chunks(void **state)
{
	(void)state;
	borders("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nA;x=y\r\n0123456789\r\n0\r\n\r\n|" GET,
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip,  Chunked\r\n\r\n1\r\nx\r\n000\r\nSum: 1\r\nB: c\r\n\r\n|" OK0);
	borders(GET, "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n"
		     "Content-Length: 99\r\n\r\n0\r\n\r\n|" OK0);
}

static void test_responses_without_body(void **state)
{
	(void)state;
	borders("HEAD / HTTP/1.1\r\n\r\n|" GET GET GET,
		"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n|HTTP/1.1 204 No\r\n\r\n|HTTP/1.1 100 Continue\r\n\r\n|"
		"HTTP/1.1 103 Hints\r\nLink: a\r\n\r\n|HTTP/1.1 304 Not\r\nContent-Length: 7\r\n\r\n|" OK0);
}

static void test_line_ends_between_messages(void **state)
{
	(void)state;
	borders("POST / HTTP/1.1\r\nContent-Length: 1\r\n\r\nx|\r\n" GET "\r\n\r\n" GET, OK0 "\r\n" OK0);
}

static void test_a_response_without_length_ends_with_the_connection(void **state)
{
	struct http1 h;

	(void)state;
	http1_init(&h);
	say(&h, SIDE_CLIENT, "GET / HTTP/1.1\r\n\r\n");
	say(&h, SIDE_SERVER, "HTTP/1.1 200 OK\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
	assert_int_equal(h.is, HTTP1_YES);
	assert_int_equal(http1_outstanding(&h), 1);
	assert_false(http1_at_border(&h, SIDE_SERVER));
}

static void test_tunnels_have_no_borders(void **state)
{
	struct http1 h;

	(void)state;
	http1_init(&h);
	say(&h, SIDE_CLIENT, "CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n");
	say(&h, SIDE_SERVER, "HTTP/1.1 407 Auth\r\nContent-Length: 2\r\n\r\nno");
	assert_int_equal(h.is, HTTP1_YES);
	assert_int_equal(http1_outstanding(&h), 0);
	say(&h, SIDE_CLIENT, "CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n");
	say(&h, SIDE_SERVER, "HTTP/1.1 200 OK\r\n\r\n\x16\x03\x01");
	assert_int_equal(h.is, HTTP1_NO);

	http1_init(&h);
	say(&h, SIDE_CLIENT, "GET /chat HTTP/1.1\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n");
	say(&h, SIDE_SERVER, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n\x81\x02hi");
	assert_int_equal(h.is, HTTP1_NO);
}

static void test_what_is_not_http(void **state)
{
	static const char *const text[] = {
		"\x16\x03\x01\x02",
		"EHLO a\r\n",
		"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
		"GET /\r\n",
		"get / HTTP/1.1\r\n",
		" GET / HTTP/1.1\r\n",
		"GET  / HTTP/1.1\r\n",
		"GET / HTTP/1.1 x\r\n",
		"GET / HTTP/1.2\r\n",
		"\r\n",
		"ABCDEFGHIJKLMNOPQRSTUVWXYZABCDEFG / HTTP/1.1\r\n",
		"GET /\001 HTTP/1.1\r\n",
	};
	struct http1 h;

	(void)state;
	for (size_t i = 0; i < sizeof text / sizeof *text; i++) {
		for (size_t step = 1; step < 100; step += 98) {
			http1_init(&h);
			(void)feed(&h, SIDE_CLIENT, text[i], strlen(text[i]), step, NULL, 0);
			assert_int_equal(h.is, HTTP1_NO);
			assert_false(http1_in_header(&h, SIDE_CLIENT));
		}
		if (text[i][0] != '\r')
			assert_false(http1_like_request((const uint8_t *)text[i], strlen(text[i])));
	}
	http1_init(&h);
	say(&h, SIDE_SERVER, "220 mail ESMTP\r\n");
	assert_int_equal(h.is, HTTP1_NO);
}

static void test_what_breaks_http(void **state)
{
	static const char *const request[] = {
		"POST / HTTP/1.1\r\nContent-Length: 1x\r\n\r\n",
		"POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
		"POST / HTTP/1.1\r\nContent-Length:\r\n\r\n",
		"POST / HTTP/1.1\r\nContent-Length : 1\r\n\r\n",
		"POST / HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\n",
		"POST / HTTP/1.1\r\nContent-Length: 1\r\n 2\r\n\r\n",
		"POST / HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\n",
		"POST / HTTP/1.1\r\nTransfer-Encoding: chunked, gzip\r\n\r\n",
		"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
		"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab\r\n",
		"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n",
		"GET / HTTP/1.1\r\n\r\nhello\r\n",
	};
	static const char *const response[] = {
		"HTTP/2 200 OK\r\n",   "hello",
		"HTTP/1.1 2x0 OK\r\n", "HTTP/1.1 20\r\n",
		"HTTP/1.1 099 x\r\n",  "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
	};
	struct http1 h;

	(void)state;
	for (size_t step = 1; step < 100; step += 98) {
		for (size_t i = 0; i < sizeof request / sizeof *request; i++) {
			http1_init(&h);
			(void)feed(&h, SIDE_CLIENT, request[i], strlen(request[i]), step, NULL, 0);
			assert_int_equal(h.is, HTTP1_BROKEN);
		}
		for (size_t i = 0; i < sizeof response / sizeof *response; i++) {
			http1_init(&h);
			say(&h, SIDE_CLIENT, "GET / HTTP/1.1\r\n\r\n");
			(void)feed(&h, SIDE_SERVER, response[i], strlen(response[i]), step, NULL, 0);
			assert_int_equal(h.is, HTTP1_BROKEN);
		}
	}
}

static void test_limits(void **state)
{
	struct http1 h;
	char *big = malloc(HTTP1_HEADER_MAX + 1000);
	size_t done = 0;
	unsigned ev = 0;

	(void)state;
	assert_non_null(big);
	http1_init(&h);
	for (int i = 0; i < HTTP1_QUEUE; i++)
		say(&h, SIDE_CLIENT, "GET / HTTP/1.1\r\n\r\n");
	assert_int_equal(h.is, HTTP1_YES);
	assert_int_equal(http1_outstanding(&h), HTTP1_QUEUE);
	say(&h, SIDE_CLIENT, "GET / HTTP/1.1\r\n\r\n");
	assert_int_equal(h.is, HTTP1_BROKEN);

	http1_init(&h);
	say(&h, SIDE_CLIENT, "GET / HTTP/1.1\r\nX: ");
	memset(big, 'a', HTTP1_HEADER_MAX + 1000);
	while (!(ev & HTTP1_HEAD_LONG)) {
		assert_true(http1_in_header(&h, SIDE_CLIENT));
		done += http1_feed(&h, SIDE_CLIENT, (uint8_t *)big + done, 5000, &ev);
	}
	assert_int_equal(done + strlen("GET / HTTP/1.1\r\nX: "), HTTP1_HOLD);
	assert_false(http1_in_header(&h, SIDE_CLIENT));
	assert_int_equal(h.is, HTTP1_YES);
	(void)feed(&h, SIDE_CLIENT, big, HTTP1_HEADER_MAX + 1000, 10000, NULL, 0);
	assert_int_equal(h.is, HTTP1_BROKEN);

	http1_init(&h);
	say(&h, SIDE_CLIENT, "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1;");
	(void)feed(&h, SIDE_CLIENT, big, HTTP1_LINE_MAX, 100, NULL, 0);
	assert_int_equal(h.is, HTTP1_BROKEN);
	free(big);
}

static void test_holes(void **state)
{
	struct http1 h;

	(void)state;
	http1_init(&h);
	say(&h, SIDE_CLIENT, "POST / HTTP/1.1\r\nContent-Length: 100\r\n\r\nabc");
	assert_true(http1_skip(&h, SIDE_CLIENT, 90));
	assert_false(http1_at_border(&h, SIDE_CLIENT));
	assert_true(http1_skip(&h, SIDE_CLIENT, 7));
	assert_true(http1_at_border(&h, SIDE_CLIENT));
	assert_int_equal(http1_unbegun(&h), 1);
	say(&h, SIDE_SERVER, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n10\r\nab");
	assert_int_equal(http1_unbegun(&h), 0);
	assert_true(http1_skip(&h, SIDE_SERVER, 14));
	say(&h, SIDE_SERVER, "\r\n0\r\n\r\n");
	assert_true(http1_at_border(&h, SIDE_SERVER));
	assert_int_equal(http1_outstanding(&h), 0);
	assert_false(http1_skip(&h, SIDE_SERVER, 1));
	assert_true(http1_lost(&h, SIDE_SERVER));
	http1_sync(&h, SIDE_SERVER);
	say(&h, SIDE_CLIENT, "GET / HTTP/1.1\r\n\r\nHEA");
	assert_false(http1_skip(&h, SIDE_CLIENT, 20));
	/* The first response is that of the GET; whether the second has a body nobody can tell. */
	say(&h, SIDE_SERVER, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
	assert_true(http1_at_border(&h, SIDE_SERVER));
	say(&h, SIDE_SERVER, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n");
	assert_true(http1_lost(&h, SIDE_SERVER));
}

static void test_what_looks_like_a_message(void **state)
{
	const char *request = "VERSION-CONTROL /a?b=\xc3\xa4 HTTP/1.0\r\n", *status = "HTTP/1.1 404 Not Found\r\n";

	(void)state;
	for (size_t i = 1; i <= strlen(request); i++)
		assert_true(http1_like_request((const uint8_t *)request, i));
	for (size_t i = 1; i <= strlen(status); i++)
		assert_true(http1_like_status((const uint8_t *)status, i));
	assert_false(http1_like_request((const uint8_t *)"AB CD\nEF", 8));
	assert_false(http1_like_request((const uint8_t *)"AB CD HTTQ", 10));
	assert_false(http1_like_status((const uint8_t *)"HTTP/2.0 200", 12));
	assert_true(sizeof(struct http1) < 500);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_lengths),
		cmocka_unit_test(test_chunks),
		cmocka_unit_test(test_responses_without_body),
		cmocka_unit_test(test_line_ends_between_messages),
		cmocka_unit_test(test_a_response_without_length_ends_with_the_connection),
		cmocka_unit_test(test_tunnels_have_no_borders),
		cmocka_unit_test(test_what_is_not_http),
		cmocka_unit_test(test_what_breaks_http),
		cmocka_unit_test(test_limits),
		cmocka_unit_test(test_holes),
		cmocka_unit_test(test_what_looks_like_a_message),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
