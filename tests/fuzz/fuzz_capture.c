/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_capture.c - any packet of any link type through the mirror: is it ours, Ethernet, at most the MTU?
 *
 *   | link type | bits: credit, cut short, replay interface | length that it had | the packet ... */
#include "agentd/capture.c"

#include <assert.h>

static bool credit;
static struct sink sink = {.mtu = 1500};
static struct lane lane = {.sink = &sink};

void lane_clock(struct lane *l)
{
	l->now_ns++;
}

void lane_put(struct lane *l)
{
	for (unsigned i = 0; i < l->batch.n; i++)
		assert(l->batch.frame[i].len <= sink.mtu + LINK_ETHER + 2 * TAG + 46); /* padding stays */
	batch_reset(&l->batch);
}

bool lane_room(struct lane *l, size_t bytes, size_t frames)
{
	assert(bytes <= BATCH_BYTES && frames <= BATCH_FRAMES);
	if (credit && (l->batch.len + bytes > BATCH_BYTES || l->batch.n + frames > BATCH_FRAMES))
		lane_put(l);
	return credit;
}

static struct capture *start(void)
{
	static const struct tuple t = {.ver = 4, .addr = {{10, 0, 0, 1}, {10, 0, 0, 2}}, .port = {40000, 3005}};
	struct capture *c = calloc(1, sizeof(*c));
	bool shared;
	int err;

	assert(c != NULL && own_open(&c->own, "none", &shared, &err) == 0);
	own_tunnel(c->own, 0, &t);
	own_listen(c->own, 0, &(struct tuple){.port = {0, 3006}});
	(void)own_replay(c->own, 7);
	own_refresh(c->own, 1);
	c->pcap = pcap_open_dead(DLT_EN10MB, CAPTURE_SNAPLEN);
	assert(c->pcap != NULL);
	c->l = &lane;
	batch_init(&lane.batch);
	return c;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const int links[] = {DLT_EN10MB, DLT_LINUX_SLL, DLT_LINUX_SLL2, DLT_RAW, DLT_NULL, DLT_LOOP, 101, 999};
	static struct capture *c;
	struct pcap_pkthdr h = {.ts = {.tv_sec = 1, .tv_usec = 1}};
	uint8_t *ring;

	if (size < 4)
		return 0;
	if (c == NULL)
		c = start();
	c->link = links[data[0] % (sizeof(links) / sizeof(links[0]))];
	credit = data[1] & 1;
	c->ifindex = data[1] & 4 ? 7 : 0;
	h.caplen = (bpf_u_int32)(size - 4);
	h.len = h.caplen + (data[1] & 2 ? data[2] << 8 | data[3] : 0);
	/* the ring has a header before each packet */
	ring = malloc(256 + h.caplen);
	assert(ring != NULL);
	memset(ring, data[2], 256);
	memcpy(ring + 256, data + 4, h.caplen);
	on_packet((u_char *)c, &h, ring + 256);
	free(ring);
	assert(c->n.seen == c->n.sent + c->n.own + c->n.replayed + c->n.malformed + c->n.waiting);
	if (c->n.waiting) {
		credit = true;
		assert(add(c, c->frame, c->len, c->ts_ns, c->cut_short, c->complete));
		c->n.waiting = 0;
	}
	lane_put(&lane);
	return 0;
}
