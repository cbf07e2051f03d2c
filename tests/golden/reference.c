/* SPDX-License-Identifier: Apache-2.0 */
/* reference.c - captures that two engines gave full marks: what we forge of the same cleartext looks the same.
 *
 * pcaps/NAME.pcap were made by hand. Two comparisons:
 *   - each frame, taken apart and built again by forge.c, is the same byte by byte (MAC addresses and VLAN tags apart);
 *   - the cleartext, record by record, through flow.c gives the same frames: side, flags, numbers, lengths. Windows and
 *     MAC addresses are what our rules say (seen.h looks at them).
 * What we forged is written to $TLSTAP_SCRATCH/reference_NAME.pcap. */
#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <pcap/pcap.h>

#include "../unit/seen.h"

#define FRAMES_MAX 1024
#define FRAME_MAX 10000
#define VLAN 0x8100

struct reference {
	struct tuple t;
	size_t n;
	uint32_t isn[2];
	uint32_t inc;
	size_t seg_max; /* bytes of the largest segment */
	struct packet {
		uint64_t ts_ns;
		enum side side;
		uint8_t flags;
		uint16_t window, ip_id, mss;
		uint32_t seq, ack; /* as they are */
		uint32_t rel_seq, rel_ack, inc;
		size_t len, frame_len;
		const uint8_t *data;
		uint8_t frame[FRAME_MAX]; /* without VLAN tag */
	} p[FRAMES_MAX];
};

static struct reference ref;
static const uint8_t smac[6] = FLOW_SRC_MAC, dmac[6] = FLOW_DST_MAC;

static void take_ip(struct packet *p, size_t *ret_head, const uint8_t **ret_src)
{
	const uint8_t *ip = p->frame + 14;

	ref.t.ver = ip[0] >> 4;
	*ret_head = 14 + (ref.t.ver == 6 ? 40 : 20);
	*ret_src = ip + (ref.t.ver == 6 ? 8 : 12);
	p->ip_id = ref.t.ver == 6 ? 0 : seen_u16(ip + 4);
}

/* Take one frame apart. */
static void take(const uint8_t *frame, size_t len, uint64_t ts_ns)
{
	struct packet *p = &ref.p[ref.n];
	size_t tag = seen_u16(frame + 12) == VLAN ? 4 : 0, head, alen;
	const uint8_t *src, *tcp;

	assert_true(ref.n++ < FRAMES_MAX && len <= FRAME_MAX);
	memcpy(p->frame, frame, 12);
	memcpy(p->frame + 12, frame + 12 + tag, len - 12 - tag);
	p->frame_len = len - tag;
	p->ts_ns = ts_ns;
	take_ip(p, &head, &src);
	alen = ref.t.ver == 6 ? 16 : 4;
	tcp = p->frame + head;
	p->flags = tcp[13];
	if (ref.n == 1) { /* the SYN says who is who */
		assert_int_equal(p->flags, FORGE_SYN);
		memcpy(ref.t.addr[0], src, alen);
		memcpy(ref.t.addr[1], src + alen, alen);
		ref.t.port[0] = seen_u16(tcp);
		ref.t.port[1] = seen_u16(tcp + 2);
	}
	p->side = seen_u16(tcp) == ref.t.port[0] ? SIDE_CLIENT : SIDE_SERVER;
	assert_memory_equal(src, ref.t.addr[p->side], alen);
	p->seq = seen_u32(tcp + 4);
	p->ack = seen_u32(tcp + 8);
	p->window = seen_u16(tcp + 14);
	if (p->flags & FORGE_SYN) {
		p->mss = seen_u16(tcp + 22);
		ref.inc += p->flags == FORGE_SYN && ref.n > 1;
		ref.isn[p->side] = p->seq;
	}
	p->rel_seq = p->seq - ref.isn[p->side];
	p->rel_ack = p->flags & FORGE_ACK ? p->ack - ref.isn[!p->side] : 0;
	p->inc = ref.inc;
	p->data = tcp + (tcp[12] >> 4) * 4;
	p->len = p->frame_len - (size_t)(p->data - p->frame);
	if (p->len > ref.seg_max)
		ref.seg_max = p->len;
}

static void load(const char *path)
{
	char err[PCAP_ERRBUF_SIZE];
	pcap_t *pcap = pcap_open_offline_with_tstamp_precision(path, PCAP_TSTAMP_PRECISION_NANO, err);
	struct pcap_pkthdr *h;
	const uint8_t *data;

	if (!pcap)
		fail_msg("%s", err);
	memset(&ref, 0, sizeof ref);
	while (pcap_next_ex(pcap, &h, &data) == 1)
		take(data, h->caplen, (uint64_t)h->ts.tv_sec * 1000000000 + (uint64_t)h->ts.tv_usec);
	pcap_close(pcap);
	assert_true(ref.n > 0);
}

static void build_again(void)
{
	static uint8_t frame[FRAME_MAX];

	for (size_t i = 0; i < ref.n; i++) {
		const struct packet *p = &ref.p[i];
		struct forge_seg s = {
			.t = &ref.t,
			.smac = smac,
			.dmac = dmac,
			.data = p->data,
			.len = p->len,
			.side = p->side,
			.seq = p->seq,
			.ack = p->ack,
			.mtu = p->mss + (ref.t.ver == 6 ? 60u : 40u),
			.window = p->window,
			.ip_id = p->ip_id,
			.flags = p->flags,
		};

		assert_int_equal(forge_frame(&s, frame), p->frame_len);
		assert_memory_equal(frame + 12, p->frame + 12, p->frame_len - 12);
	}
}

/* One record: the segments of a side up to the one with PSH. Returns the index behind it. */
static size_t record(size_t i, uint8_t *buf, size_t *ret_len)
{
	enum side side = ref.p[i].side;

	*ret_len = 0;
	do {
		memcpy(buf + *ret_len, ref.p[i].data, ref.p[i].len);
		*ret_len += ref.p[i].len;
	} while (!(ref.p[i++].flags & FORGE_PSH) && i < ref.n && ref.p[i].len && ref.p[i].side == side);
	return i;
}

static void speak(struct flow *f, struct flow_conf *c, struct batch *b, struct seen *seen)
{
	static uint8_t buf[65536];
	uint64_t now = 1;

	for (size_t i = 0; i < ref.n;) {
		const struct packet *p = &ref.p[i];
		size_t len;

		if (p->len) {
			i = record(i, buf, &len);
			assert_int_equal(flow_data(f, c, p->side, buf, len, false, p->ts_ns, b), len);
			assert_int_equal(flow_settle(f, c, p->ts_ns, b), 0);
			assert_int_equal(flow_tick(f, c, now, p->ts_ns, b), 0);
			assert_int_equal(flow_tick(f, c, now += c->echo_ns, p->ts_ns, b), 0);
		} else {
			if (p->flags & FORGE_FIN && f->state == FLOW_OPEN) {
				if (http1_outstanding(&f->http)) /* bytes were lost here */
					assert_int_equal(flow_lost(f, c, SIDE_SERVER, 0, p->ts_ns, b), 0);
				else
					assert_int_equal(flow_end(f, c, p->side, p->ts_ns, b), 0);
			} else if (i && p->ts_ns - ref.p[i - 1].ts_ns > 10000000000 && !(p->flags & FORGE_SYN)) {
				assert_int_equal(flow_tick(f, c, now += c->keepalive_ns, p->ts_ns, b), 0);
			}
			i++;
		}
		seen_batch(seen, b);
	}
}

static void forge_again(const char *name)
{
	struct flow_conf c = seen_conf();
	struct flow f;
	struct batch b;
	struct seen seen;
	char file[128];

	/* The hand-made segments are 12 bytes shorter than they could be. */
	if (ref.seg_max == 1448 || ref.seg_max == 8948)
		c.mtu = (uint32_t)ref.seg_max + (ref.t.ver == 6 ? 60 : 40);
	c.keepalive_ns = 60000000000;
	flow_init(&f, &ref.t, 1, 0);
	seen_init(&seen, &f, &c);
	(void)snprintf(file, sizeof file, "reference_%.*s", (int)strcspn(name, "."), name);
	seen_pcap(&seen, file);
	batch_init(&b);
	speak(&f, &c, &b, &seen);
	for (size_t i = 0; i < ref.n && i < seen.n_frames; i++) {
		const struct packet *p = &ref.p[i];
		const struct seen_frame *got = &seen.frame[i];

		if (got->side != p->side || got->flags != p->flags || got->seq != p->rel_seq ||
		    got->ack != p->rel_ack || got->len != p->len || got->inc != p->inc)
			fail_msg(
				"%s: frame %zu: side %d flags %02x seq %u ack %u len %u inc %u, reference: %d %02x %u %u %zu %u",
				name, i + 1, got->side, got->flags, got->seq, got->ack, got->len, got->inc, p->side,
				p->flags, p->rel_seq, p->rel_ack, p->len, p->inc);
	}
	if (seen.n_frames != ref.n)
		fail_msg("%s: %zu frames, reference: %zu", name, seen.n_frames, ref.n);
	batch_fini(&b);
	seen_fini(&seen);
}

static void each(void (*fn)(const char *name))
{
	const char *dir = TEST_DIR "/golden/pcaps";
	DIR *d = opendir(dir);
	struct dirent *e;
	char path[512];
	int n = 0;

	assert_non_null(d);
	while ((e = readdir(d))) {
		if (!strstr(e->d_name, ".pcap"))
			continue;
		(void)snprintf(path, sizeof path, "%s/%s", dir, e->d_name);
		load(path);
		fn(e->d_name);
		n++;
	}
	(void)closedir(d);
	assert_true(n > 0);
}

static void each_frame(const char *name)
{
	(void)name;
	build_again();
}

static void test_each_frame_is_built_again(void **state)
{
	(void)state;
	each(each_frame);
}

static void test_each_conversation_is_forged_again(void **state)
{
	(void)state;
	each(forge_again);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_each_frame_is_built_again),
		cmocka_unit_test(test_each_conversation_is_forged_again),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
