/* SPDX-License-Identifier: Apache-2.0 */
/* pcap.h - classic pcap streams, as native agents (tcpdump) send them: read only.
 *
 * draft-ietf-opsawg-pcap: four magics (microseconds and nanoseconds, either byte order), and the two of the
 * "modified" format with eight more bytes per packet. Pure; what is returned points into the caller's
 * buffer. One thread at a time per reader. */
#ifndef TLSTAP_PCAP_H
#define TLSTAP_PCAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "cur.h"
#include "packet.h"

#define PCAP_PACKET_MAX (127 * 1024) /* bytes of a captured packet; longer ones are refused */

struct pcap_stream {
	bool begun; /* the file header was read */
	bool be;
	bool ns;       /* fractions of a second are nanoseconds, else microseconds */
	uint8_t extra; /* bytes after each packet's header */
	uint16_t link;
};

/* Can @buf[0..4) begin a pcap stream? */
bool pcap_magic(const uint8_t buf[static 4]);

/* Read the file header (first; *@ret_packet is false then) or the next packet at @buf[0..len).
 * Returns the bytes used, or
 *   -EAGAIN   there is less than that in @buf
 *   -EBADMSG  unknown magic or version
 *   -E2BIG    a packet longer than PCAP_PACKET_MAX */
CUR_MUST ssize_t pcap_next_packet(struct pcap_stream *p, const uint8_t *buf, size_t len, bool *ret_packet,
				  struct packet *ret);

#endif
