/* SPDX-License-Identifier: Apache-2.0 */
/* rec.h - the records that libtlstap writes into the shared mapping and agentd reads.
 *
 * All fields are in the host's byte order: both ends are one machine. Records are 8-byte aligned; a
 * record's payload follows its header and is padded with up to 7 bytes of anything.
 *
 * Offsets are those of the slot: they count the bytes that the TLS library reported for this slot
 * since the mapping was made, in one direction, over all connections that used the slot, and never
 * go back. A connection's own offset is (off - base + start), see struct rec_open. So a lost record,
 * whatever it was, is always a visible difference of offsets and nothing else. */
#ifndef TLSTAP_REC_H
#define TLSTAP_REC_H

#include <assert.h>
#include <stdint.h>

enum rec_type {
	REC_DATA = 1,	 /* payload: cleartext */
	REC_OPEN = 2,	 /* payload: struct rec_open, SNI, ALPN; before the first DATA of a connection */
	REC_CLOSE = 3,	 /* no payload; off: final offset of TX, other: of RX */
	REC_HOLE = 4,	 /* no payload; len bytes from off were reported, but the application never held
			  * them (SSL_sendfile) */
	REC_VERDICT = 5, /* no payload; early data: REC_F_REJECTED or not; off: where they end in TX */
	REC_SOCKET = 6, /* payload: struct rec_open with addresses, descriptor and pid only; when a handshake begins, so
			  * that the socket can be looked up while it surely exists. OPEN then says REC_OPEN_TOLD */
};

#define REC_F_RX 0x0001u	/* DIR_RX; else DIR_TX */
#define REC_F_CONT 0x0002u	/* continues the record before it in this direction: one call, several pieces */
#define REC_F_IN_FLIGHT 0x0004u /* a read that ended while a write was inside the TLS library */
#define REC_F_EARLY 0x0008u	/* early data of a client: counts once accepted */
#define REC_F_REJECTED 0x0010u	/* VERDICT: the server refused the early data */
#define REC_F_FREE 0x0020u	/* CLOSE: the handle was freed or cleared; else only shut down by this side */

#define REC_OFF_BITS 48 /* offsets are smaller: 256 TiB */
#define REC_HEAD 48
#define REC_ALIGN(n) (((n) + 7u) & ~7u)

struct rec {
	uint32_t len;	/* bytes of payload; HOLE: bytes of the hole */
	uint16_t type;	/* enum rec_type */
	uint16_t flags; /* REC_F_* */
	uint32_t slot;	/* which connection slot */
	uint32_t gen;	/* and which use of it */
	uint64_t off;	/* of the first byte, in its direction */
	uint64_t other; /* offset reached in the other direction by calls that were over: when a read returned, when
			 * a write began */
	uint32_t begin; /* IN_FLIGHT: the slot's begin count of TX as the read saw it */
	uint32_t producer;
	uint64_t pad;
};
static_assert(sizeof(struct rec) == REC_HEAD, "record header");

/* Which library a handle belongs to: names for --status. */
enum rec_lib { REC_LIB_OPENSSL = 1, REC_LIB_GNUTLS = 2, REC_LIB_NSS = 3, REC_LIB_MBEDTLS = 4, REC_LIB_WOLFSSL = 5 };

#define REC_OPEN_SERVER 0x01u	     /* the handle is the server's end */
#define REC_OPEN_SERVER_RANDOM 0x02u /* server_random is valid */
#define REC_OPEN_ADDRS 0x04u	     /* local, remote, ports are valid: getsockname and getpeername said so */
#define REC_OPEN_NOT_TCP 0x08u	     /* DTLS, QUIC, or a socket that is not TCP over IP */
#define REC_OPEN_CHILD 0x10u	     /* continues a connection of the process that forked this one */
#define REC_OPEN_MIDWAY 0x40u /* the handshake was over before this slot was made: what was said before is unknown */
#define REC_OPEN_TOLD 0x20u   /* the addresses are those of the SOCKET record of this slot and gen */

#define REC_NAME_MAX 255

struct rec_open {
	uint64_t base[2];  /* by enum dir: slot offsets at which this connection began */
	uint64_t start[2]; /* by enum dir: the connection's own offsets there; 0 unless REC_OPEN_CHILD */
	uint8_t client_random[32];
	uint8_t server_random[32];
	uint8_t local[16], remote[16]; /* as struct tuple's addresses */
	uint16_t local_port, remote_port;
	uint8_t ver; /* 4 or 6 */
	uint8_t lib; /* enum rec_lib */
	uint16_t flags;
	uint16_t tls_version; /* RFC 8446 4.2.1, e.g. 0x0304 */
	uint8_t sni_len;      /* bytes of SNI behind this struct */
	uint8_t alpn_len;     /* bytes of ALPN behind the SNI */
	int32_t fd;	      /* the descriptor, -1: unknown */
	int32_t pid;	      /* of the producer, as it sees itself */
	uint32_t pad;
};
static_assert(sizeof(struct rec_open) == 152, "open record");

#endif
