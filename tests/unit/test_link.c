/* SPDX-License-Identifier: Apache-2.0 */
/* test_link.c - every link type becomes the Ethernet frame that it stands for, and nothing else does. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include <pcap/dlt.h>

#include "common/link.h"

/* Link header and the first bytes behind it. The copy has just its size, so that reading further is seen. */
static bool make(int linktype, const void *p, size_t len, struct link_frame *ret)
{
	uint8_t *copy = malloc(len ? len : 1);
	bool ok;

	assert_non_null(copy);
	memcpy(copy, p, len);
	ok = link_to_ethernet(linktype, copy, len, ret);
	free(copy);
	return ok;
}

/* @p of @len bytes makes a frame with this head and @strip; one byte less of link header makes none. */
static void makes(int linktype, const void *p, size_t len, const char *head, size_t strip, uint16_t proto)
{
	struct link_frame f;

	assert_true(make(linktype, p, len, &f));
	assert_int_equal(f.head_len, head ? LINK_ETHER : 0);
	assert_int_equal(f.strip, strip);
	assert_int_equal(f.proto, proto);
	if (head)
		assert_memory_equal(f.head, head, LINK_ETHER);
	for (size_t n = 0; n < (head ? strip : LINK_ETHER); n++)
		assert_false(make(linktype, p, n, &f));
}

static void refuses(int linktype, const void *p, size_t len)
{
	struct link_frame f;

	memset(&f, 0x5a, sizeof(f));
	assert_false(make(linktype, p, len, &f));
	for (size_t i = 0; i < sizeof(f); i++)
		assert_int_equal(((uint8_t *)&f)[i], 0x5a);
}

static void test_ethernet_stays(void **state)
{
	(void)state;
	makes(DLT_EN10MB, "\1\2\3\4\5\6\7\10\11\12\13\14\x08\x00\x45", 15, NULL, 0, 0x0800);
	makes(DLT_EN10MB, "\1\2\3\4\5\6\7\10\11\12\13\14\x81\x00\x45", 14, NULL, 0, 0x8100);
	makes(DLT_EN10MB, "\1\x80\xc2\0\0\0\7\10\11\12\13\14\x00\x26\x42\x42\x03", 17, NULL, 0,
	      0x26); /* spanning tree */
}

static void test_cooked(void **state)
{
	static const char zero[] = "\0\0\0\0\0\0\0\0\0\0\0\0\x08\0";

	(void)state;
	makes(DLT_LINUX_SLL, "\0\4\0\1\0\6\2\0\0\0\0\x9\xaa\xbb\x08\x00\x45", 17, "\0\0\0\0\0\0\2\0\0\0\0\x9\x08\0", 16,
	      0x0800);
	/* a tunnel: its address has 4 bytes; loopback: 6 zeros */
	makes(DLT_LINUX_SLL, "\0\4\3\x08\0\4\xc0\0\2\1\0\0\0\0\x08\x00\x45", 17, zero, 16, 0x0800);
	makes(DLT_LINUX_SLL, "\0\0\3\4\0\6\0\0\0\0\0\0\0\0\x08\x00", 16, zero, 16, 0x0800);
	/* a tag that libpcap put back: TCI and inner type follow the 16 bytes, as they follow the 14 of Ethernet */
	makes(DLT_LINUX_SLL, "\0\0\0\1\0\6\2\0\0\0\0\7\0\0\x81\x00\x20\x05\x08\x00\x45", 21,
	      "\0\0\0\0\0\0\2\0\0\0\0\7\x81\0", 16, 0x8100);
	/* 802.2 with an EtherType, and without */
	makes(DLT_LINUX_SLL, "\0\0\0\1\0\6\2\0\0\0\0\7\0\0\0\4\xaa\xaa\3\0\0\0\x86\xdd\x60", 25,
	      "\0\0\0\0\0\0\2\0\0\0\0\7\x86\xdd", 24, 0x86dd);
	refuses(DLT_LINUX_SLL, "\0\0\0\1\0\6\2\0\0\0\0\7\0\0\0\4\x42\x42\3\0\0\0\0\0\0\0", 26);
	refuses(DLT_LINUX_SLL, "\0\0\0\1\0\6\2\0\0\0\0\7\0\0\0\1\xff\xff\0\x22\0\0\0\0\0\0", 26);
	refuses(DLT_LINUX_SLL, "\0\4\3\x38\0\0\0\0\0\0\0\0\0\0\x08\x00\x45\0\0\0", 20); /* netlink */
	refuses(DLT_LINUX_SLL, "\0\4\1\x18\0\0\0\0\0\0\0\0\0\0\0\x0c\0\0\0\0", 20);	/* CAN */
}

static void test_cooked_2(void **state)
{
	static const char two[] = "\x86\xdd\0\0\0\1\2\3\0\1\4\6\2\0\0\0\0\7\0\0\x60";
	struct link_frame f;

	(void)state;
	makes(DLT_LINUX_SLL2, two, 21, "\0\0\0\0\0\0\2\0\0\0\0\7\x86\xdd", 20, 0x86dd);
	assert_true(make(DLT_LINUX_SLL2, two, 21, &f));
	assert_int_equal(f.ifindex, 0x10203);
	makes(DLT_LINUX_SLL2, "\0\4\0\0\0\0\0\2\0\1\0\6\2\0\0\0\0\7\0\0\xaa\xaa\3\0\0\0\x08\x00\x45", 29,
	      "\0\0\0\0\0\0\2\0\0\0\0\7\x08\0", 28, 0x0800);
	refuses(DLT_LINUX_SLL2, "\0\4\0\0\0\0\0\2\0\1\0\6\2\0\0\0\0\7\0\0\x42\x42\3\0\0\0\0\0", 28);
	refuses(DLT_LINUX_SLL2, "\x08\0\0\0\0\0\0\2\3\x38\0\0\0\0\0\0\0\0\0\0\x45\0", 22); /* netlink */
}

static void test_raw(void **state)
{
	static const int types[] = {12, 14, 101};

	(void)state;
	for (int i = 0; i < 3; i++) {
		struct link_frame f;

		makes(types[i], "\x45\0", 2, "\0\0\0\0\0\0\0\0\0\0\0\0\x08\0", 0, 0x0800);
		makes(types[i], "\x6f\0", 2, "\0\0\0\0\0\0\0\0\0\0\0\0\x86\xdd", 0, 0x86dd);
		refuses(types[i], "\x50\0", 2);
		assert_false(make(types[i], "", 0, &f));
	}
}

static void test_null_and_loop(void **state)
{
	static const uint32_t six[] = {10, 24, 28, 30};
	static const char head4[] = "\0\0\0\0\0\0\0\0\0\0\0\0\x08\0", head6[] = "\0\0\0\0\0\0\0\0\0\0\0\0\x86\xdd";
	uint32_t af = 2;

	(void)state;
	makes(DLT_NULL, &af, 4, head4, 4, 0x0800);
	makes(DLT_LOOP, "\0\0\0\2", 4, head4, 4, 0x0800);
	for (int i = 0; i < 4; i++) {
		uint8_t be[4] = {0, 0, 0, (uint8_t)six[i]};

		makes(DLT_NULL, &six[i], 4, head6, 4, 0x86dd);
		makes(DLT_LOOP, be, 4, head6, 4, 0x86dd);
	}
	af = 7;
	refuses(DLT_NULL, &af, 4);
	refuses(DLT_LOOP, "\2\0\0\0", 4);
}

static void test_other_types_are_refused(void **state)
{
	(void)state;
	for (int type = -2; type < 400; type++)
		if (type != DLT_NULL && type != DLT_EN10MB && type != 12 && type != 14 && type != 101 &&
		    type != DLT_LOOP && type != DLT_LINUX_SLL && type != DLT_LINUX_SLL2)
			refuses(type, "\x45\0\0\2\0\0\0\2\0\0\0\2\x08\x00\x08\x00\x08\x00\x08\x00\x08\x00", 22);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_ethernet_stays), cmocka_unit_test(test_cooked),
		cmocka_unit_test(test_cooked_2),       cmocka_unit_test(test_raw),
		cmocka_unit_test(test_null_and_loop),  cmocka_unit_test(test_other_types_are_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
