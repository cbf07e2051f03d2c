/* SPDX-License-Identifier: Apache-2.0 */
/* Netlink answers and events of sock_diag. */
#include <assert.h>
#include <errno.h>

#include "agentd/sockdiag.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct endpoint e = {.ver = 4,
			     .local_port = 1000,
			     .remote_port = 443,
			     .local = {127, 0, 0, 1},
			     .remote = {127, 0, 0, 1}};
	struct sockdiag_destroyed d[4];
	struct sockdiag_listener l[4];
	struct sockdiag_info info;
	struct sockdiag_peer p[4] = {{.cookie = 0}}; /* the first one was there before */
	bool done;
	int n;

	n = sockdiag_find_parse(data, len, &e, &info);
	assert(n <= 0);
	n = sockdiag_destroy_parse(data, len, d, 4);
	assert(n >= 0 && n <= 4);
	for (int i = 0; i < n; i++) {
		struct endpoint again = d[i].e;

		assert(endpoint_normalise(&again) && endpoint_same(&again, &d[i].e));
		assert(endpoint_hash(&again, 1) == endpoint_hash(&d[i].e, 1));
	}
	n = sockdiag_listeners_parse(data, len, l, 1, 4, &done);
	assert(n <= 4);
	for (int i = 1; i < n; i++)
		(void)sockdiag_covers(&l[i], &e);
	for (unsigned remote = 0; remote < 2; remote++) {
		n = sockdiag_peers_parse(data, len, &e, remote, p, 1, 4, &done);
		assert(n <= 4 && n != 0);
		for (int i = 1; i < n; i++)
			assert(remote ? p[i].e.remote_port == 443 : p[i].e.local_port == 1000);
	}
	return 0;
}
