/* SPDX-License-Identifier: Apache-2.0 */
/* attach.h - how libtlstap meets agentd: the presence page and the messages of the socket.
 *
 * The page is one file beside the socket, root's, world-readable: "state". A process looks at it first;
 * absent, stale, of another ABI or switched off: it passes through and nothing else happens.
 * Then one request and one reply on AF_UNIX SOCK_SEQPACKET; the reply carries the memfd of the
 * mapping (unix(7), SCM_RIGHTS). Both sides close everything at once. */
#ifndef TLSTAP_ATTACH_H
#define TLSTAP_ATTACH_H

#include <assert.h>
#include <stdatomic.h>
#include <stdint.h>

#define ATTACH_SOCKET "/run/tlstap/agentd.sock"
#define ATTACH_PAGE "state" /* in the socket's directory */
#define ATTACH_MAGIC 0x41544c54u
#define ATTACH_ABI 1u
#define ATTACH_WAIT_MS 20	      /* what an attach may cost an application, once */
#define ATTACH_STALE_NS 1000000000ull /* a heartbeat older than this: nobody is there */
#define ATTACH_BEAT_NS 200000000ull   /* how often agentd renews it */

struct attach_page {
	uint32_t magic, abi;
	_Atomic uint64_t beat_ns; /* CLOCK_MONOTONIC of agentd's last heartbeat; 0: it has stopped */
	_Atomic uint32_t off;	  /* 1: all taps are switched off */
	uint32_t pad;
};
static_assert(sizeof(struct attach_page) == 24, "layout");

struct attach_request {
	uint32_t magic, abi;
	int32_t pid; /* as the process sees itself */
	uint32_t pad;
};

struct attach_reply {
	uint32_t magic, abi;
	uint64_t size; /* of the mapping that comes with it; 0: not tapped */
};

#endif
