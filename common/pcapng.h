/* SPDX-License-Identifier: Apache-2.0 */
/* pcapng.h - pcapng streams: read block by block out of a buffer; write their beginning.
 *
 *   bytes of a tunnel or file --> pcapng_next() --> packets, blocks of our own (local.h)
 *
 * draft-ietf-opsawg-pcapng. Understood: Section Header (both byte orders), Interface Description with
 * if_tsresol, Enhanced and Simple Packet, and the one local block type of ours; any other block is
 * skipped. Packets of our own are written by batch.h. Pure: no I/O, no allocation; what is returned
 * points into the caller's buffer. One thread at a time per reader. */
#ifndef TLSTAP_PCAPNG_H
#define TLSTAP_PCAPNG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "cur.h"
#include "packet.h"

#define PCAPNG_SHB 0x0A0D0D0Au
#define PCAPNG_IDB 1u
#define PCAPNG_SPB 3u
#define PCAPNG_EPB 6u

#define PCAPNG_BLOCK_MAX (128 * 1024) /* bytes of a block, head and trailer included; longer ones are refused */
#define PCAPNG_IFS_MAX 16	      /* interfaces in a section */

enum pcapng_kind {
	PCAPNG_OTHER,  /* nothing to do: header blocks and blocks that are skipped */
	PCAPNG_PACKET, /* pkt is valid */
	PCAPNG_LOCAL,  /* body is valid: a block of our own */
};

struct pcapng_block {
	enum pcapng_kind kind;
	uint32_t type;	   /* as on the wire */
	struct packet pkt; /* PCAPNG_PACKET */
	struct cur body;   /* PCAPNG_LOCAL: the block's body, in the section's byte order */
};

struct pcapng_if {
	uint16_t link;
	uint8_t tsresol; /* as in the option: 10^-n, or with the top bit 2^-n */
	uint32_t snaplen;
};

struct pcapng {
	bool section; /* a Section Header was read */
	bool be;
	unsigned n_if;
	struct pcapng_if ifs[PCAPNG_IFS_MAX];
	uint64_t skipped; /* blocks of types that mean nothing to us */
};

/* Begin a stream: all zero is enough, this says it. */
void pcapng_init(struct pcapng *p);

/* Can @buf[0..4) begin a pcapng stream? */
bool pcapng_magic(const uint8_t buf[static 4]);

/* Does the block at @buf[0..len) begin like a packet? Reading one changes nothing in @p. */
bool pcapng_at_packet(const struct pcapng *p, const uint8_t *buf, size_t len);

/* Read the block at @buf[0..len).
 * @ret  valid as long as @buf
 * Returns its length in bytes (12 .. PCAPNG_BLOCK_MAX, a multiple of 4), or
 *   -EAGAIN   there is less than one block in @buf
 *   -EBADMSG  malformed: no Section Header first, two lengths that differ, a length that is no multiple of 4,
 *             a version other than 1, a body too short for its fields, a packet of an interface not described
 *   -E2BIG    longer than PCAPNG_BLOCK_MAX, or more than PCAPNG_IFS_MAX interfaces
 * After -EBADMSG and -E2BIG nothing that follows can be trusted. */
CUR_MUST ssize_t pcapng_next(struct pcapng *p, const uint8_t *buf, size_t len, struct pcapng_block *ret);

/* Write what our streams and files begin with: a Section Header and one Interface Description (Ethernet, no snap
 * length, nanoseconds), in the host's byte order. */
#define PCAPNG_HEAD 60
void pcapng_head(uint8_t ret[static PCAPNG_HEAD]);

#endif
