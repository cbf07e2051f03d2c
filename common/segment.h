/* SPDX-License-Identifier: Apache-2.0 */
/* segment.h - make frames fit: what a network card does with a frame that the kernel left too large for the wire.
 *
 *   | Ethernet 14 B | VLAN tags 0..2 | IP header, its extensions | TCP header | data ... | padding |
 *                                    |<------------ mtu: of this at most in each frame -->|
 *
 * TCP over IPv4 or IPv6 is cut into segments with right sequence numbers, flags, lengths and checksums (RFC 9293 3.1;
 * CWR only in the first, FIN and PSH only in the last segment); every other IPv4 packet is fragmented (RFC 791), every
 * other IPv6 packet too (RFC 8200 4.5). Checksums that a card would have completed are completed: in every segment, and
 * in frames and datagrams whose TCP or UDP checksum is the bare pseudo-header sum, unless the kernel says that they are
 * complete: then nothing is completed, and what is wrong stays wrong in every segment. VLAN tags (0x8100, 0x88a8) stay.
 * An IP packet of more than 64 KiB (a jumbogram, or a length of 0: "BIG TCP") is cut if it is TCP. Pure. */
#ifndef TLSTAP_SEGMENT_H
#define TLSTAP_SEGMENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "batch.h"

#define SEGMENT_FRAME_MAX 262144 /* bytes of a frame that is taken */
#define SEGMENT_HEAD_MAX 240	 /* bytes of IP and TCP header that can be repeated in each piece */
#define SEGMENT_MTU_MIN 576	 /* less is too small to cut for */

struct segment_count {
	uint64_t cut; /* frames that were cut or fragmented */
	uint64_t df;  /* of these: fragmented without leave: IPv4 with DF, IPv6 that its sender did not fragment */
	uint64_t completed; /* checksums completed in frames that were not cut */
};

/* Room that @len bytes of frame may need in a batch at @mtu: an upper bound, which an empty batch always has. 0 frames:
 * none, segment_put() will refuse it. */
void segment_room(size_t len, uint32_t mtu, size_t *ret_bytes, size_t *ret_frames);

/* Add the Ethernet frame @p[0..len) to @b in frames of at most @mtu bytes behind the Ethernet header and VLAN tags.
 * One that fits is added as it is, with its padding, be it malformed or captured short.
 * @ts_ns     the time of all of them
 * @complete  the kernel says that no checksum in it was left open, nor found right by a card
 * Returns how many frames were added; -EMSGSIZE: larger than @mtu and cannot be cut (not IP, malformed, captured
 * short), or no Ethernet header; -ENOBUFS: no room in the batch (see segment_room()). Nothing is added then. */
int segment_put(struct batch *b, const uint8_t *p, size_t len, uint32_t mtu, uint64_t ts_ns, bool complete,
		struct segment_count *n);

#endif
