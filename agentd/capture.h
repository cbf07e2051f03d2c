/* SPDX-License-Identifier: Apache-2.0 */
/* capture.h - the plain mirror: packets of an interface, as they are, into the sink (-i, and -I without -D).
 *
 *   libpcap (TPACKET_V3) --packet--> link.c: Ethernet --> own.c: is it ours? --> segment.c: at most the MTU --> batch
 *
 * Belongs to a lane; called from its thread only. Without credit nothing is read: then packets wait in the kernel's
 * ring, and what that cannot hold is counted by the kernel. An interface that goes down, goes away or is renamed is
 * waited for: a line in the log, another when it is back, and counted.
 *
 *   seen (by libpcap) = sent + own + replayed + malformed + waiting
 */
#ifndef TLSTAP_CAPTURE_H
#define TLSTAP_CAPTURE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/segment.h"

#define CAPTURE_ERR 512
#define CAPTURE_SNAPLEN 262144

struct lane;
struct own;
struct capture;

struct capture_count {
	uint64_t seen, bytes;  /* packets from the kernel, and their bytes */
	uint64_t kernel_drops; /* packets that found the ring full */
	uint64_t sent, frames; /* packets that went on, and the frames they became */
	uint64_t own;	       /* tlstap's own traffic: tunnels, receivers */
	uint64_t replayed;     /* forged frames by their MAC addresses, or on a replay interface */
	uint64_t waiting;      /* read, and without credit: one at most */
	uint64_t malformed;    /* could be made no Ethernet frame, or not be cut */
	uint64_t cut_short;    /* of sent: the kernel had cut them to the snap length */
	uint64_t df;	       /* of sent: cut although "don't fragment" was set */
	uint64_t away;	       /* times the interface was gone or down */
};

/* Open the capture of @iface ("any": all interfaces).
 * @filter  pcap filter expression, or NULL
 * @buffer  bytes of the kernel's ring
 * @own     borrowed: what not to capture (NULL: nothing); re-read with each sweep
 * Needs CAP_NET_RAW, before privileges are dropped; never again: an interface that comes back, even as another one of
 * the same name, is found by binding the same socket anew.
 * Returns 0, or -errno with one line in @err that says what is wrong and what to do: no such interface, down, not
 * allowed, a bad expression (libpcap's message, and where in it). */
int capture_open(struct capture **ret, const char *iface, const char *filter, uint64_t buffer, struct own *own,
		 char err[static CAPTURE_ERR]);

/* Give packets to @l's sink from now on. */
void capture_start(struct capture *c, struct lane *l);

/* Read what is there while there is credit: before forged packets of the same sweep, so that the stream is in order. */
void capture_sweep(struct capture *c);

/* What the interface shows from now on is not wanted any more: but sweep on until capture_ended(), which is within some
 * 25 ms if there is credit. What was seen before is then with the sink. */
void capture_end(struct capture *c);
bool capture_ended(const struct capture *c);

void capture_count(struct capture *c, struct capture_count *ret);
/* One short line: "eth0", "eth0, which is down". */
void capture_describe(const struct capture *c, char *ret, size_t size);
void capture_close(struct capture **c);

#endif
