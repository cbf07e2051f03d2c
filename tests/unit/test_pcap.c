/* SPDX-License-Identifier: Apache-2.0 */
/* test_pcap.c - classic pcap streams: all magics, both byte orders, limits, and any cut. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/pcap.h"

static uint8_t buf[256];
static size_t len;

static void stream(uint32_t magic, bool be, uint16_t major, size_t extra, uint32_t caplen)
{
	struct wcur w = wcur_over(buf, sizeof(buf), be);

	assert_true(wcur_u32(&w, magic) && wcur_u16(&w, major) && wcur_u16(&w, 4) && wcur_zero(&w, 8) &&
		    wcur_u32(&w, 262144) && wcur_u32(&w, LINK_ETHERNET) && wcur_u32(&w, 1700000000) &&
		    wcur_u32(&w, 123456) && wcur_u32(&w, caplen) && wcur_u32(&w, 1500) && wcur_zero(&w, extra) &&
		    wcur_bytes(&w, "0123456789abcdef", 16));
	len = sizeof(buf) - w.left;
}

/* The first packet; every byte is handed over on its own. */
static ssize_t read_one(struct packet *k)
{
	struct pcap_stream p = {0};
	bool packet = false;
	size_t off = 0, end = 0;
	ssize_t n;

	while (!packet) {
		uint8_t *copy = malloc(end - off + 1);

		memcpy(copy, buf + off, end - off);
		n = pcap_next_packet(&p, copy, end - off, &packet, k);
		if (packet)
			k->data = buf + off + (k->data - copy);
		free(copy);
		if (n == -EAGAIN && end < len)
			end++;
		else if (n < 0)
			return n;
		else
			off += (size_t)n;
	}
	return (ssize_t)off;
}

static void test_all_magics(void **state)
{
	static const struct {
		uint32_t magic;
		size_t extra;
		uint64_t ns;
	} t[] = {{0xA1B2C3D4, 0, 123456000}, {0xA1B23C4D, 0, 123456}, {0xA1B2CD34, 8, 123456000}};
	struct packet k;

	(void)state;
	for (size_t i = 0; i < 6; i++) {
		stream(t[i / 2].magic, i % 2, 2, t[i / 2].extra, 16);
		assert_true(pcap_magic(buf));
		assert_int_equal(read_one(&k), len);
		assert_true(k.len == 16 && k.orig == 1500 && k.link == LINK_ETHERNET &&
			    memcmp(k.data, "0123456789abcdef", 16) == 0);
		assert_true(k.ts_ns == 1700000000000000000 + t[i / 2].ns);
	}
}

static void test_what_is_no_pcap_is_refused(void **state)
{
	struct packet k;

	(void)state;
	stream(0x0A0D0D0A, false, 2, 0, 16);
	assert_false(pcap_magic(buf));
	assert_int_equal(read_one(&k), -EBADMSG);
	stream(0xA1B2C3D4, false, 1, 0, 16);
	assert_int_equal(read_one(&k), -EBADMSG);
	stream(0xA1B2C3D4, false, 2, 0, PCAP_PACKET_MAX + 1);
	assert_int_equal(read_one(&k), -E2BIG);
	stream(0xA1B2C3D4, true, 2, 0, UINT32_MAX);
	assert_int_equal(read_one(&k), -E2BIG);
	stream(0xA1B2C3D4, true, 2, 0, 17);
	assert_int_equal(read_one(&k), -EAGAIN);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_all_magics),
		cmocka_unit_test(test_what_is_no_pcap_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
