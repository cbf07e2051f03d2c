/* SPDX-License-Identifier: Apache-2.0 */
/* http1.h - where the messages of an HTTP/1.x connection begin and end.
 *
 *   flow.c --bytes of one side--> http1.c --events--> flow.c
 *
 * It never changes a byte and keeps none but the begin of a line that is not yet whole. Bodies are
 * skipped by their length; only header blocks and chunk lines are looked at. RFC 9112.
 *
 * The parser starts at the first byte of a connection. It is HTTP/1.x if the client speaks first and
 * its first line is a request line. What violates the grammar ends the parsing of that connection:
 * HTTP1_BROKEN. A side of which bytes were lost can be passed over (http1_skip) if the hole lies
 * inside a body of known length; else that side is lost until http1_sync() says that its next byte
 * begins a message.
 *
 * Pure: no I/O, no clock, no allocation. One thread at a time. */
#ifndef TLSTAP_HTTP1_H
#define TLSTAP_HTTP1_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tuple.h"

#define HTTP1_QUEUE 512		       /* requests without response at most (Suricata's limit too); power of two */
#define HTTP1_HOLD (64 * 1024)	       /* a longer header block is no longer told from a body (http1_in_header) */
#define HTTP1_HEADER_MAX (1024 * 1024) /* bytes of one header block at most */
#define HTTP1_LINE_MAX 4096	       /* bytes of one chunk line at most */
#define HTTP1_METHOD_MAX 32	       /* bytes of a method at most */
#define HTTP1_KEEP 80		       /* bytes kept of a line that arrives in pieces */

enum http1_is {
	HTTP1_UNKNOWN, /* at birth; until the client's first line is whole */
	HTTP1_YES,     /* a request line was seen */
	HTTP1_BROKEN,  /* it was HTTP, then something else: no borders are known */
	HTTP1_NO,      /* it never was, or it has become a tunnel (CONNECT, Upgrade) */
};

enum http1_phase {
	HTTP1_BORDER,	  /* the next byte begins a message */
	HTTP1_LINE,	  /* inside a request line or status line */
	HTTP1_HEAD,	  /* inside the header fields */
	HTTP1_BODY,	  /* inside a body, left bytes of it to come */
	HTTP1_CHUNK_LINE, /* inside a chunk's first line */
	HTTP1_CHUNK,	  /* inside a chunk, left bytes of it to come */
	HTTP1_CHUNK_END,  /* at the line end behind a chunk */
	HTTP1_TRAILER,	  /* inside the trailer fields */
	HTTP1_REST,	  /* inside a response that ends with the connection */
	HTTP1_LOST,	  /* bytes are missing: nobody knows */
};

/* Events at the end of the bytes that http1_feed() took. */
#define HTTP1_HEAD_END 1u  /* a header block ends */
#define HTTP1_MSG_END 2u   /* a message ends */
#define HTTP1_HEAD_LONG 4u /* a header block has just reached HTTP1_HOLD bytes */

struct http1_side {
	enum http1_phase phase;
	uint32_t head;	 /* bytes of this header block, or of this chunk line */
	uint64_t left;	 /* bytes of body or chunk to come */
	uint64_t length; /* Content-Length, if has_length */
	uint16_t status; /* response: its code */
	uint8_t part;	 /* of the request line: method, target, version */
	uint8_t kept;	 /* bytes in line */
	bool cut;	 /* the line is longer than what was kept of it */
	bool has_length, has_te, chunked;
	bool framing;	/* the last field was one of the two that frame the body */
	bool solicited; /* response: a request waits for it */
	char line[HTTP1_KEEP];
};

struct http1 {
	enum http1_is is;
	struct http1_side s[2];		 /* by enum side */
	uint32_t started;		 /* requests whose first byte was seen */
	uint32_t done;			 /* requests whose final response has ended */
	uint8_t method[HTTP1_QUEUE / 4]; /* what matters of their methods, 2 bits each */
};

void http1_init(struct http1 *h);

/* Follow @data[0..len), len > 0, of @side up to the next event.
 * @ret_ev  HTTP1_* events at the end of the bytes taken, or 0
 * Returns the bytes taken, 1 .. @len; less than @len only at an event or between two messages. */
size_t http1_feed(struct http1 *h, enum side side, const uint8_t *data, size_t len, unsigned *ret_ev);

/* @len bytes of @side are missing here (0: nobody knows how many). Returns true if the place behind
 * them is known all the same; else the side is lost. */
bool http1_skip(struct http1 *h, enum side side, uint64_t len);

/* The next byte of @side begins a message. */
void http1_sync(struct http1 *h, enum side side);

/* Forget the requests that wait for a response. */
void http1_forget(struct http1 *h);

/* Does @byte as the next of @side begin a message? (Line ends between messages do not.) */
bool http1_begins(const struct http1 *h, enum side side, uint8_t byte);

/* Is the side between two messages? false where borders are not known. */
bool http1_at_border(const struct http1 *h, enum side side);

/* Is the side inside a header block of less than HTTP1_HOLD bytes so far? */
bool http1_in_header(const struct http1 *h, enum side side);

bool http1_lost(const struct http1 *h, enum side side);

/* Requests that have begun and whose final response has not ended. */
uint32_t http1_outstanding(const struct http1 *h);

/* Of those, how many responses may not have begun yet. */
uint32_t http1_unbegun(const struct http1 *h);

/* May @data[0..len) be the begin of a message? What is there of the first line is judged. */
bool http1_like_request(const uint8_t *data, size_t len);
bool http1_like_status(const uint8_t *data, size_t len);

#endif
