/* SPDX-License-Identifier: Apache-2.0 */
/* block.h - numbers of our own pcapng block, shared by who writes and who reads it.
 *
 * All our blocks use one local block type; a kind and a version follow, then TLV fields (docs/wire.md):
 *
 *   0        4        8     10    12                                     n-4      n
 *   +--------+--------+-----+-----+-----+-----+---------------+--- ... ---+--------+
 *   | type   | length | kind| ver.| TLV | len | value, pad 4  | TLV ...   | length |
 *   +--------+--------+-----+-----+-----+-----+---------------+--- ... ---+--------+
 *
 * Byte order is the section's, that is the writer's. draft-ietf-opsawg-pcapng, section 3.1. */
#ifndef TLSTAP_BLOCK_H
#define TLSTAP_BLOCK_H

#define BLOCK_TYPE 0x80544C54u /* local use (top bit), "TLT" */
#define BLOCK_VERSION 1
#define BLOCK_HEAD 12	 /* type, length, kind, version */
#define BLOCK_TLV_HEAD 4 /* type, length of the value without padding */
#define BLOCK_MAX 65532	 /* bytes of one of our blocks at most */

enum block_kind {
	BLOCK_HELLO = 1,
	BLOCK_FLOW = 2,
	BLOCK_STATISTICS = 3,
	BLOCK_ACK = 4,
	BLOCK_HEARTBEAT = 5,
};

/* Fields of BLOCK_FLOW, which precedes the SYN of every incarnation. */
enum block_flow_tlv {
	BLOCK_FLOW_ID = 1,	    /* u64 */
	BLOCK_FLOW_STREAM = 2,	    /* u32 */
	BLOCK_FLOW_INCARNATION = 3, /* u32 */
	BLOCK_FLOW_TUPLE = 4,	    /* BLOCK_TUPLE_LEN bytes, below */
};

/* u8 version (4, 6), 3 zero bytes, u16 client port, u16 server port, client address, server address
 * (16 bytes each, network order, IPv4 in the first 4 and the rest zero). */
#define BLOCK_TUPLE_LEN 40

#endif
