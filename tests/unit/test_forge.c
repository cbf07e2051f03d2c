/* SPDX-License-Identifier: Apache-2.0 */
/* test_forge.c - frames byte by byte, and checksums of all sizes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "seen.h"

static const uint8_t smac[6] = FLOW_SRC_MAC, dmac[6] = FLOW_DST_MAC;

/* IP 10.1.1.1.40000 > 10.2.2.2.447: Flags [S], seq 1000000, win 65535, options [mss 1460,nop,wscale 14], length 0;
 * checksums as tshark computed them for the same packet */
static void test_syn_byte_by_byte(void **state)
{
	static const uint8_t want[] = {
		0x06, 0x11, 0x22, 0x33, 0x44, 0x56, 0x06, 0x11, 0x22, 0x33, 0x44, 0x55, 0x08, 0x00, /* Ethernet */
		0x45, 0x00, 0x00, 0x30, 0x00, 0x01, 0x40, 0x00, 0x40, 0x06, 0x23, 0xc2, /* IPv4, DF, TTL 64 */
		0x0a, 0x01, 0x01, 0x01, 0x0a, 0x02, 0x02, 0x02, 0x9c, 0x40, 0x01, 0xbf, /* addresses, ports */
		0x00, 0x0f, 0x42, 0x40, 0x00, 0x00, 0x00, 0x00, 0x70, 0x02, 0xff, 0xff, 0x8c, 0xbd,
		0x00, 0x00,					/* TCP */
		0x02, 0x04, 0x05, 0xb4, 0x01, 0x03, 0x03, 0x0e, /* MSS, NOP, WS */
	};
	struct tuple t = seen_tuple(4);
	struct forge_seg s = {
		.t = &t,
		.smac = smac,
		.dmac = dmac,
		.mtu = 1500,
		.seq = 1000000,
		.window = 65535,
		.ip_id = 1,
		.flags = FORGE_SYN,
	};
	uint8_t frame[FORGE_HEAD_MAX];

	(void)state;
	assert_int_equal(forge_frame(&s, frame), sizeof want);
	assert_memory_equal(frame, want, sizeof want);
}

static void test_every_length_has_valid_checksums(void **state)
{
	static uint8_t data[9000], frame[9000 + FORGE_HEAD_MAX];

	(void)state;
	for (size_t i = 0; i < sizeof data; i++)
		data[i] = (uint8_t)(i * 31 + (i >> 8));
	for (int ver = 4; ver <= 6; ver += 2) {
		struct tuple t = seen_tuple(ver);
		size_t ip_head = ver == 6 ? 40 : 20, alen = ver == 6 ? 16 : 4;

		for (size_t len = 0; len <= forge_mss((uint8_t)ver, 9000); len++) {
			struct forge_seg s = {
				.t = &t,
				.smac = smac,
				.dmac = dmac,
				.data = data,
				.len = len,
				.mtu = 9000,
				.side = len & 1 ? SIDE_SERVER : SIDE_CLIENT,
				.seq = 0xfffffff0u,
				.ack = 0x80000001u,
				.window = 30000,
				.flags = FORGE_ACK | FORGE_PSH,
			};
			const uint8_t *ip = frame + 14, *src = ip + ip_head - 2 * alen;

			assert_int_equal(forge_frame(&s, frame), 14 + ip_head + 20 + len);
			if (ver == 4)
				assert_int_equal(seen_sum(ip, 20, 0), 0xffff);
			assert_int_equal(seen_sum(ip + ip_head, 20 + len,
						  seen_sum(src, 2 * alen, (uint32_t)(26 + len))),
					 0xffff);
			assert_memory_equal(src, t.addr[s.side], alen);
			assert_memory_equal(frame + 14 + ip_head + 20, data, len);
		}
	}
}

static void test_the_largest_frame_fits(void **state)
{
	struct tuple t = seen_tuple(4);
	size_t len = forge_mss(4, FORGE_MTU_MAX);
	uint8_t *data = calloc(1, len), *frame = malloc(FORGE_HEAD_MAX + len);
	struct forge_seg s = {
		.t = &t,
		.smac = smac,
		.dmac = dmac,
		.data = data,
		.len = len,
		.mtu = FORGE_MTU_MAX,
		.flags = FORGE_ACK,
	};

	(void)state;
	assert_true(data && frame);
	assert_int_equal(forge_frame(&s, frame), 14 + FORGE_MTU_MAX);
	assert_int_equal(seen_u16(frame + 16), FORGE_MTU_MAX);
	free(data);
	free(frame);
}

static void test_tuples_as_text(void **state)
{
	struct tuple t4 = seen_tuple(4), t6 = seen_tuple(6);
	char text[TUPLE_STRLEN];

	(void)state;
	assert_string_equal(tuple_str(&t4, text), "10.1.1.1:40000 -> 10.2.2.2:447");
	assert_string_equal(tuple_str(&t6, text), "[2001:db8::1]:40000 -> [2001:db8::2]:447");
	memset(t6.addr, 0xff, sizeof t6.addr);
	t6.port[0] = t6.port[1] = 65535;
	assert_string_equal(tuple_str(&t6, text), "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535 -> "
						  "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_syn_byte_by_byte),
		cmocka_unit_test(test_every_length_has_valid_checksums),
		cmocka_unit_test(test_the_largest_frame_fits),
		cmocka_unit_test(test_tuples_as_text),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
