/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_receiverd.c - any bytes as what two agents send: everything behind TLS, up to the interface.
 *
 * The first byte says into what pieces the input is cut, and when the other agent has its turn. After every piece the
 * equation of stream.h must hold; at the end no flow may be left. */
#include <stdlib.h>
#include <string.h>

#include "common/netif.h"
#include "receiverd/stream.h"

#define FLOWS 8

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void nobody(void *arg)
{
	(void)arg;
}

static void check(const struct stream *s)
{
	uint64_t frames = s->n.queued.frames, bytes = s->n.queued.bytes;

	for (int v = 0; v < VERDICTS; v++) {
		frames += s->n.by[v].frames;
		bytes += s->n.by[v].bytes;
	}
	if (frames != s->n.received.frames || bytes != s->n.received.bytes || s->n.queued.frames != 0)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	static uint8_t *buf[2];
	struct inject inject;
	struct stream s[2];
	struct flows flows;
	char err[INJECT_ERR];
	bool over[2] = {false, false};
	size_t piece, who = 0;

	if (len == 0)
		return 0;
	for (int i = 0; i < 2; i++)
		buf[i] = buf[i] != NULL ? buf[i] : malloc(STREAM_BUF);
	if (inject_init(&inject, NULL, "none", NULL, 1500, false, nobody, NULL, err) != 0 ||
	    flows_init(&flows, FLOWS) != 0)
		abort();
	stream_init(&s[0], &inject, &flows, buf[0]);
	stream_init(&s[1], &inject, &flows, buf[1]);
	piece = data[0] == 0 ? len : (size_t)data[0] * 4;
	for (size_t off = 1; off < len; off += piece, who ^= data[0] & 1) {
		size_t n = len - off < piece ? len - off : piece;

		if (over[who])
			continue;
		if (n > stream_room(&s[who])) /* a block that never ends was refused before it could fill the buffer */
			n = stream_room(&s[who]);
		memcpy(s[who].buf + s[who].len, data + off, n);
		s[who].len += n;
		over[who] = stream_run(&s[who]) != 0;
		check(&s[who]);
		if (!over[who] && stream_room(&s[who]) < STREAM_BUF / 4)
			abort(); /* whole blocks were left undecided */
	}
	for (int i = 0; i < 2; i++)
		if (stream_end(&s[i]) != 0)
			abort();
	if (flows.n != 0)
		abort();
	flows_fini(&flows);
	inject_fini(&inject);
	return 0;
}
