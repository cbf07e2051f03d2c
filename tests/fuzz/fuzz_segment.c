/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_segment.c - any frame, at any MTU.
 *
 * The first four bytes say the MTU and how much the frame is stretched, so that short inputs make long frames; the
 * last of them has a bit that lets the IP length grow along. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/segment.h"

#define LINK_MAX 22

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static struct batch batch;
static uint8_t frame[SEGMENT_FRAME_MAX + 300];

static void grow_ip(size_t len)
{
	size_t at = 12, total;

	while (at < 20 && ((frame[at] == 0x81 && frame[at + 1] == 0) || (frame[at] == 0x88 && frame[at + 1] == 0xa8)))
		at += 4;
	if (len < at + 8)
		return;
	total = len - at - 2;
	if (frame[at] == 0x08) {
		frame[at + 4] = (uint8_t)(total >> 8);
		frame[at + 5] = (uint8_t)total;
	} else if (frame[at] == 0x86 && total >= 40) {
		frame[at + 6] = (uint8_t)((total - 40) >> 8);
		frame[at + 7] = (uint8_t)(total - 40);
	}
}

/* In memory of just its size. */
static void put(size_t len, uint32_t mtu)
{
	struct segment_count n = {0};
	size_t bytes, frames;
	uint8_t *p = malloc(len ? len : 1);
	int r;

	if (!p)
		abort();
	memcpy(p, frame, len);
	batch_reset(&batch);
	segment_room(len, mtu, &bytes, &frames);
	r = segment_put(&batch, p, len, mtu, 1, len & 1, &n);
	free(p);
	if (r < 0 ? r != -EMSGSIZE || batch.n || batch.len || n.cut || n.completed : (unsigned)r != batch.n || r == 0)
		abort();
	if (batch.len > bytes || batch.n > frames)
		abort();
	for (unsigned i = 0; i < batch.n; i++)
		if (batch.frame[i].len > LINK_MAX + mtu || (n.cut && batch.frame[i].len > len))
			abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	size_t stretch;
	uint32_t mtu;

	if (!batch.buf)
		batch_init(&batch);
	if (len < 4 || len - 4 > SEGMENT_FRAME_MAX)
		return 0;
	mtu = (uint32_t)(data[0] << 8 | data[1]);
	stretch = (size_t)(data[2] << 8 | data[3]) * 2;
	data += 4;
	len -= 4;
	memcpy(frame, data, len);
	memset(frame + len, 0, 64);
	put(len, mtu);
	if (len + stretch > sizeof(frame) || len == 0)
		return 0;
	memset(frame + len, 0x5a, stretch);
	len += stretch;
	put(len, mtu);
	grow_ip(len);
	put(len, mtu);
	return 0;
}
