/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_flow.c - any conversation: records, holes, cuts, time, ends. Every frame is judged by seen.h; no byte of
 * cleartext appears or vanishes.
 *
 * Input: one byte of settings, then steps of one head byte and data: see step(). */
#include "../unit/seen.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static struct {
	struct flow flow;
	struct flow_conf conf;
	struct batch batch;
	struct seen seen;
	uint64_t ts_ns, fed[2];
} w;

/* Forge what the fuzzer says, or a message made of it, so that the deeper states are reached. */
static void say(enum side side, const uint8_t *p, size_t n, unsigned kind)
{
	static uint8_t text[65536];
	static const char *const form[2][4] = {
		{"GET /%u HTTP/1.1\r\n\r\n", "POST / HTTP/1.1\r\nContent-Length: %u\r\n\r\n",
		 "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n", "HEAD /%u HTTP/1.0\r\n\r\n"},
		{"HTTP/1.1 200 OK\r\nX: %u\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: %u\r\n\r\n",
		 "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n", "HTTP/1.1 304 N\r\nX: %u\r\n\r\n"},
	};
	unsigned number = n ? p[0] * 64u : 0;
	size_t len = 0;
	ssize_t got;

	if (kind & 4) {
		len = (size_t)snprintf((char *)text, sizeof text, form[side][kind & 3], number);
		if (kind & 8) { /* with its body, or filler */
			memset(text + len, 'a', number);
			len += number;
		}
	}
	if (n > sizeof text - len)
		n = sizeof text - len;
	memcpy(text + len, p, n);
	len += n;
	SEEN_CHECK(w.batch.n == 0 && w.batch.len == 0);
	got = flow_data(&w.flow, &w.conf, side, text, len, kind & 16, w.ts_ns, &w.batch);
	SEEN_CHECK(got >= 0 && (size_t)got <= len);
	SEEN_CHECK(w.batch.n <= flow_frames(&w.conf, len) && w.batch.len <= flow_room(&w.conf, len));
	w.fed[side] += len;
}

static void step(unsigned op, unsigned arg, const uint8_t *p, size_t n)
{
	enum side side = op & 0x80 ? SIDE_SERVER : SIDE_CLIENT;
	int r = 0;

	switch (op & 0x60) {
	case 0x00:
		say(side, p, n, op & 0x1f);
		break;
	case 0x20:
		r = flow_lost(&w.flow, &w.conf, side, arg & 1 ? arg * 16u : arg, w.ts_ns, &w.batch);
		break;
	case 0x40:
		r = flow_settle(&w.flow, &w.conf, w.ts_ns, &w.batch);
		if (w.flow.state == FLOW_OPEN)
			SEEN_CHECK(w.flow.s[0].acked == w.flow.s[0].edge && w.flow.s[1].acked == w.flow.s[1].edge);
		break;
	case 0x60:
		if (op & 1) {
			w.ts_ns += arg * 100000000ull;
			r = flow_tick(&w.flow, &w.conf, w.ts_ns, w.ts_ns, &w.batch);
		} else if (op & 2) {
			r = flow_cut(&w.flow, &w.conf, w.ts_ns, &w.batch);
		} else if (op & 4) {
			r = flow_end(&w.flow, &w.conf, side, w.ts_ns, &w.batch);
		} else if (op & 8) {
			if (w.flow.state == FLOW_OPEN) {
				w.seen.inc[w.seen.n_inc - 1].s[0].fin = true; /* somebody else closes it */
				w.seen.inc[w.seen.n_inc - 1].s[1].fin = true;
			}
			flow_forget(&w.flow);
		}
		break;
	}
	SEEN_CHECK(!r);
	seen_batch(&w.seen, &w.batch);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	static const uint32_t mtu[4] = {576, 1500, 9000, 65521};
	struct tuple t = seen_tuple(len && data[0] & 1 ? 6 : 4);

	if (!w.batch.buf)
		batch_init(&w.batch);
	batch_reset(&w.batch);
	w.conf = seen_conf();
	w.conf.rotate = 5000;
	w.conf.mtu = mtu[len ? data[0] >> 1 & 3 : 0];
	w.ts_ns = 1700000000000000000;
	w.fed[0] = w.fed[1] = 0;
	flow_init(&w.flow, &t, 42, len && data[0] & 8);
	seen_init(&w.seen, &w.flow, &w.conf);
	if (len)
		len--;
	data++;
	while (len >= 2) {
		size_t n = data[1];

		if (n > len - 2)
			n = len - 2;
		if (data[0] & 0x60)
			n = 0;
		w.ts_ns += 1000;
		step(data[0], data[1], data + 2, n);
		data += 2 + n;
		len -= 2 + n;
	}
	step(0x64, 0, NULL, 0);
	for (int i = 0; i < 2; i++)
		SEEN_CHECK(w.flow.s[i].forged + w.flow.s[i].resync == w.fed[i]);
	SEEN_CHECK(w.seen.payload == w.flow.s[0].forged + w.flow.s[1].forged);
	SEEN_CHECK(w.flow.state == FLOW_CLOSED && w.seen.n_inc >= w.flow.breaks + w.flow.rotations);
	seen_fini(&w.seen);
	return 0;
}
