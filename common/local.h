/* SPDX-License-Identifier: Apache-2.0 */
/* local.h - what the two ends of a tunnel say to each other, in pcapng blocks of our own.
 *
 *   | type 0x80544C54 | total length | kind u16 | version u16 | TLVs | total length |
 *   TLV:  | type u16 | length u16 | value, padded to 4 |
 *
 * docs/wire.md has the kinds, their TLVs and limits. TLVs of unknown types are skipped, so that either end
 * may learn new ones. The FLOW block is written by batch.h. Pure; no allocation. */
#ifndef TLSTAP_LOCAL_H
#define TLSTAP_LOCAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "block.h"
#include "cur.h"
#include "tuple.h"

#define LOCAL_PROTO 1	     /* of the tunnel: what HELLO states */
#define LOCAL_BLOCK_MAX 1024 /* bytes of any block written here */
#define LOCAL_NONCE 16
#define LOCAL_TEXT 128 /* bytes of a text, its NUL included; longer ones are cut */

/* Each side's first block of its own. */
struct local_hello {
	uint32_t proto;
	uint8_t nonce[LOCAL_NONCE];
	char version[LOCAL_TEXT]; /* of the program */
	char host[LOCAL_TEXT];	  /* its host's name, as it says itself */
	uint32_t mtu;		  /* receiver: bytes of IP packet it takes; 0: not stated */
	char refusal[LOCAL_TEXT]; /* receiver: why it will not have this agent; "": it will */
};

/* Which flow the next SYN of this tuple opens. */
struct local_flow {
	uint64_t id;
	uint32_t stream;
	uint32_t inc;
	struct tuple t;
};

/* An agent's own account, in bytes of cleartext. */
struct local_statistics {
	uint64_t put;		/* forged and given to the tunnel, since the agent started */
	uint64_t unknown;	/* of that: lost with broken tunnels */
	uint64_t reconnects;	/* broken tunnels */
	uint64_t captured;	/* packets of the mirror */
	uint64_t capture_drops; /* packets of the mirror that the agent's kernel had no room for */
	uint64_t hello_drops;	/* handshake packets likewise: their connections may be missing */
};

struct local_msg {
	uint16_t kind; /* BLOCK_...; 0: a kind or version we do not know */
	union {
		struct local_hello hello;
		struct local_flow flow;
		struct local_statistics statistics;
		uint64_t ack; /* bytes of the agent's stream that the receiver has decided on */
	};
};

/* Read the body of a local block.
 * Returns 0, or -EBADMSG: cut short, a TLV of wrong length, or one missing that its kind needs. */
CUR_MUST int local_parse(struct cur body, struct local_msg *ret);

/* Write a whole block (HELLO, STATISTICS, ACK, HEARTBEAT) in the host's byte order.
 * Returns its length in bytes. */
size_t local_write(const struct local_msg *m, uint8_t ret[static LOCAL_BLOCK_MAX]);

#endif
