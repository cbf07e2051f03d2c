/* SPDX-License-Identifier: Apache-2.0 */
/* Handshake starts in packets and in cleartext. The first byte chooses which: cleartext, or an EtherType. */
#include <assert.h>
#include <string.h>

#include "agentd/hello.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void check(const struct hello *h)
{
	static const uint8_t zero[32];

	assert(h->random_len >= HELLO_RANDOM_MIN && h->random_len <= 32);
	assert(memcmp(h->random + h->random_len, zero, 32u - h->random_len) == 0);
	assert(strlen(h->sni) == h->sni_len);
	for (unsigned i = 0; i < h->sni_len; i++)
		assert(h->sni[i] > ' ' && h->sni[i] < 0x7f);
	assert(!h->retry || h->server);
	assert(!h->server || h->sni_len == 0);
}

static void check_tuple(const struct tuple *t)
{
	static const uint8_t zero[12];

	assert(t->ver == 4 || t->ver == 6);
	assert(t->port[0] != 0 && t->port[1] != 0);
	assert(memcmp(t->pad, zero, sizeof(t->pad)) == 0);
	for (int i = 0; i < 2 && t->ver == 4; i++)
		assert(memcmp(t->addr[i] + 4, zero, 12) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	static const uint16_t protos[] = {0, 0x0800, 0x86dd, 0x8100, 0x88a8, 0x9100, 0x0806};
	uint16_t proto;
	struct hello h;

	if (len == 0)
		return 0;
	proto = protos[data[0] % (sizeof(protos) / sizeof(protos[0]))];
	memset(&h, 0xee, sizeof(h));
	if (proto == 0) {
		if (hello_parse_tls(data + 1, len - 1, &h))
			check(&h);
	} else if (hello_parse_packet(data + 1, len - 1, proto, &h)) {
		check(&h);
		check_tuple(&h.t);
	}
	return 0;
}
