/* SPDX-License-Identifier: Apache-2.0 */
/* test_random_frames.c - ten million random frames through all that looks into packets: link.c, hello.c, ends.c and
 * segment.c.
 *
 * Most are frames that mean something with a few bytes changed, cut anywhere; the others are noise. Each ends where
 * memory ends, so that reading one byte further is fatal in every build. */
#include <errno.h>
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <cmocka.h>
#include <pcap/dlt.h>

#include "agentd/hello.h"
#include "common/ends.h"
#include "common/link.h"
#include "common/segment.h"

#define FRAMES 10000000u
#define FRAME_MAX 1400u
#define KINDS 8u
#define MTU 576u

static struct {
	int linktype;
	size_t len;
	uint8_t b[FRAME_MAX];
} kind[KINDS];

static uint64_t state = 0x9e3779b97f4a7c15u;

static uint64_t rnd(void)
{
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return state;
}

static size_t put(uint8_t *to, const void *p, size_t len)
{
	memcpy(to, p, len);
	return len;
}

static size_t hello(uint8_t *p, bool server)
{
	static const uint8_t name[] = {0,   0,	 0,   16,  0,	14,  0,	  0,   11,  'a',
				       'p', 'i', '.', 'e', 'x', 'a', 'm', 'p', 'l', 'e'};
	size_t n = 0, ext = server ? 0 : sizeof(name), body = 2 + 32 + 1 + (server ? 3 : 4 + 2) + 2 + ext;

	n += put(p + n, (uint8_t[]){22, 3, 1, 0, (uint8_t)(body + 4), server ? 2 : 1, 0, 0, (uint8_t)body, 3, 3}, 11);
	memset(p + n, 0x77, 32);
	n += 32;
	n += server ? put(p + n, "\0\x13\1\0", 4) : put(p + n, "\0\0\2\x13\1\1\0", 7);
	n += put(p + n, (uint8_t[]){0, (uint8_t)ext}, 2);
	return n + put(p + n, name, ext);
}

/* TCP from port 40000 to 443, or back, and its data. */
static size_t tcp(uint8_t *p, bool back, size_t more)
{
	static const uint8_t ports[2][4] = {{0x9c, 0x40, 1, 0xbb}, {1, 0xbb, 0x9c, 0x40}};
	size_t n = put(p, ports[back], 4);

	n += put(p + n, "\0\0\0\1\0\0\0\1\x50\x18\xff\xff\0\0\0\0", 16);
	n += hello(p + n, back);
	memset(p + n, 0x5a, more);
	return n + more;
}

static size_t ipv4(uint8_t *p, bool back, size_t more)
{
	size_t n = 20 + tcp(p + 20, back, more);

	(void)put(p, "\x45\0\0\0\0\1\0\0\x40\6\0\0\xc0\0\2\1\xc0\0\2\2", 20);
	p[2] = (uint8_t)(n >> 8);
	p[3] = (uint8_t)n;
	return n;
}

static size_t ipv6(uint8_t *p, size_t more)
{
	size_t n;

	memset(p, 1, 48);
	(void)put(p, "\x60\0\0\0\0\0\0\x40", 8);
	(void)put(p + 40, "\6\0\1\4\0\0\0\0", 8); /* hop-by-hop options */
	n = 8 + tcp(p + 48, false, more);
	p[4] = (uint8_t)(n >> 8);
	p[5] = (uint8_t)n;
	return 40 + n;
}

static void make_kinds(void)
{
	static const char macs[] = "\2\0\0\0\0\1\2\0\0\0\0\2";
	static const char *const ether[] = {"\x08\0", "\x86\xdd", "\x81\0\0\7\x08\0", "\x88\xa8\0\1\x81\0\0\7\x86\xdd"};
	static const size_t ether_len[] = {2, 2, 6, 10};

	for (unsigned i = 0; i < KINDS; i++) {
		uint8_t *p = kind[i].b;
		size_t n = 0, more = i < 4 ? 900 : 0;

		kind[i].linktype = i < 5 ? DLT_EN10MB : i == 5 ? DLT_LINUX_SLL2 : i == 6 ? DLT_LINUX_SLL : DLT_RAW;
		if (i < 5) {
			n += put(p, macs, 12);
			n += put(p + n, ether[i % 4], ether_len[i % 4]);
		} else if (i == 5) {
			n += put(p, "\x08\0\0\0\0\0\0\2\0\1\0\6\2\0\0\0\0\1\0\0", 20);
		} else if (i == 6) {
			n += put(p, "\0\0\0\1\0\6\2\0\0\0\0\1\0\0\x86\xdd", 16);
		}
		if (i == 4) /* inside of GRE */
			n += put(p + n, "\x45\0\0\x80\0\1\0\0\x40\x2f\0\0\xc0\0\2\1\xc0\0\2\3\0\0\x08\0", 24);
		n += i == 1 || i == 3 || i == 6 ? ipv6(p + n, more) : ipv4(p + n, i & 1, more);
		kind[i].len = n;
	}
}

/* A random frame that ends at @end. Returns its first byte. */
static uint8_t *draw(uint8_t *end, int *ret_linktype)
{
	static const int types[] = {DLT_EN10MB, DLT_LINUX_SLL, DLT_LINUX_SLL2, DLT_RAW, DLT_NULL, DLT_LOOP};
	uint64_t r = rnd();
	unsigned k = r % KINDS;
	uint8_t *p;
	size_t len;

	if ((r >> 8) % 16 == 0) {
		len = (r >> 16) % 128;
		p = end - len;
		for (size_t i = 0; i < len; i++)
			p[i] = (uint8_t)rnd();
		*ret_linktype = types[(r >> 32) % (sizeof(types) / sizeof(types[0]))];
		return p;
	}
	len = kind[k].len;
	if ((r >> 8) % 4 == 1)
		len = (r >> 16) % (len + 1);
	p = end - len;
	memcpy(p, kind[k].b, len);
	for (unsigned n = (r >> 40) % 5; n > 0 && len > 0; n--) {
		uint64_t where = rnd();

		/* headers are more interesting than data */
		p[(where & 1 ? where >> 16 : (where >> 16) % 160) % len] = (uint8_t)(where >> 8);
	}
	*ret_linktype = kind[k].linktype;
	return p;
}

static void test_ten_million(void **unused)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	uint8_t *memory = mmap(NULL, 3 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	uint8_t *end = memory + 2 * page;
	uint64_t links = 0, hellos = 0, ends = 0, cut = 0, refused = 0;
	struct batch b;

	(void)unused;
	assert_true(memory != MAP_FAILED);
	assert_int_equal(mprotect(end, page, PROT_NONE), 0);
	make_kinds();
	batch_init(&b);
	for (uint32_t i = 0; i < FRAMES; i++) {
		struct segment_count n = {0};
		struct link_frame f;
		struct hello h;
		struct tuple t;
		size_t len, ip, bytes, frames;
		int type, r;
		uint8_t *p = draw(end, &type);

		len = (size_t)(end - p);
		if (!link_to_ethernet(type, p, len, &f))
			continue;
		links++;
		ip = f.head_len ? f.strip : LINK_ETHER;
		if (ip > len)
			fail_msg("frame %u: %zu of %zu bytes stripped", i, ip, len);
		if (hello_parse_packet(p + ip, len - ip, f.proto, &h)) {
			hellos++;
			if (h.random_len < HELLO_RANDOM_MIN || h.random_len > 32 || (h.t.ver != 4 && h.t.ver != 6) ||
			    h.sni[h.sni_len] != '\0')
				fail_msg("frame %u: a hello that cannot be", i);
		}
		ends += ends_find(f.proto, p + ip, len - ip, &t);
		if (f.head_len)
			continue;
		batch_reset(&b);
		segment_room(len, MTU, &bytes, &frames);
		r = segment_put(&b, p, len, MTU, i, i & 1, &n);
		cut += n.cut;
		refused += r < 0;
		if (r < 0 ? r != -EMSGSIZE || b.n != 0 : (unsigned)r != b.n || b.n > frames || b.len > bytes)
			fail_msg("frame %u: %d, %u frames in %zu bytes", i, r, b.n, b.len);
	}
	print_message("%lu frames, %lu hellos, %lu with ends, %lu cut, %lu refused\n", links, hellos, ends, cut,
		      refused);
	assert_true(links > FRAMES / 2 && hellos > FRAMES / 8 && ends > FRAMES / 4 && cut > FRAMES / 20 && refused > 0);
	batch_fini(&b);
	assert_int_equal(munmap(memory, 3 * page), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_ten_million),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
