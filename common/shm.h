/* SPDX-License-Identifier: Apache-2.0 */
/* shm.h - the mapping that a process family and agentd share: slots, stripes, chunk pool.
 *
 *   libtlstap (many threads, several processes) --records--> here --records--> agentd (one thread)
 *
 * One sealed sparse memfd; each region begins on a page:
 *
 *   | header 4 KiB | pids 4 B each | buckets 8 B each | slots 192 B each | facts 160 B each | stripes | FIFOs | free list |
 *   | chunks 64 KiB each |
 *
 * - A *bucket* is a cache line of 8 keys; the key in place i of bucket b belongs to slot 8b+i.
 *   key = TLS handle ^ producer << 48; CAS in, stored 0 before the real free. The table grows by
 *   raising header.limit.
 * - A *slot* counts what the TLS library reported for one connection, and whether a call is inside it.
 * - A *stripe* is a FIFO of chunks behind a try-lock. A writer tries SHM_TRIES stripes from a place of
 *   its thread's own; in the stripe's last chunk it copies its record and publishes it by a
 *   release store of the chunk's tail.
 * - Free *chunks* lie on two last-in-first-out stacks: SHM_HOT chunks that stay in the cache while
 *   agentd keeps up, and the rest, touched only when it lags.
 *
 * Nothing is free, or all stripes busy: the bytes are lost, the difference of offsets says so, and the
 * writer returns. Nobody ever waits. A stripe whose holder died is taken over by agentd.
 *
 * Neither side trusts the other, nor a sibling: every number is read once into private memory, bounded,
 * and then used. Layout constants live in private memory from the start (struct shm).
 *
 * Producer functions: any thread of any process of the family; no system call, no lock that waits,
 * no heap. Consumer functions: one thread of agentd per mapping. docs/shared-memory.md tells the whole
 * story. */
#ifndef TLSTAP_SHM_H
#define TLSTAP_SHM_H

#include <assert.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "rec.h"

#define SHM_MAGIC 0x70617473u /* "stap" */
#define SHM_ABI 2u

#define SHM_CHUNK 65536u
#define SHM_CHUNK_DATA (SHM_CHUNK - 64u) /* bytes of records in a chunk */
#define SHM_STRIPES 64u
#define SHM_TRIES 8u /* stripes a writer tries */
#define SHM_POPS 16u /* times it tries to take a chunk off a stack */
#define SHM_HOT 16u  /* chunks of the hot stack: 1 MiB */
#define SHM_CHUNKS_MIN 4u
#define SHM_CHUNKS_MAX 65536u
#define SHM_PLACES_MIN 4096u
#define SHM_PLACES_MAX 65536u
#define SHM_CONSUMER 0xffffu  /* lock word: agentd holds the stripe */
#define SHM_PRODUCERS 0xfff0u /* producer numbers are 1 .. this; those of the dead are given out again */
#define SHM_RECYCLE 4096u     /* of them are looked at to find a dead one */
#define SHM_NAME "tlstap"     /* memfd name: /proc/PID/maps shows "/memfd:tlstap" */

struct shm_header {
	uint32_t magic, abi;
	uint64_t size;	   /* of the whole mapping */
	uint32_t chunks;   /* in the pool */
	uint32_t places;   /* slots that there is room for, a power of two */
	uint64_t family;   /* agentd's name for the mapping; survives its restart */
	uint64_t instance; /* of agentd, by its socket's path: several may run on one host */
	/* agentd's; it may change them, but seldom does */
	_Atomic uint64_t on_ns;	  /* monotonic: on again since then; 0: it never was off */
	_Atomic uint32_t isolate; /* 1: children that are forked from now on pass through */
	uint8_t pad0[12];
	/* one line that both sides write now and then */
	_Atomic uint32_t limit;	     /* slots in use: hash & (limit / 8 - 1) is the bucket; agentd raises it */
	_Atomic uint32_t producers;  /* numbers given out so far */
	_Atomic uint64_t used;	     /* bit per stripe: has a chunk */
	_Atomic uint32_t table_full; /* connections that found no slot */
	_Atomic uint32_t off;	     /* agentd: SHM_OFF_*; not 0: pass through */
	uint8_t pad1[40];
	/* free stacks: tag << 32 | (chunk + 1); 0 = empty */
	_Atomic uint64_t free_hot;
	uint8_t pad2[56];
	_Atomic uint64_t free_cold;
	uint8_t pad3[56];
	/* losses, bytes */
	_Atomic uint64_t lost_full;   /* no chunk was free */
	_Atomic uint64_t lost_busy;   /* no stripe was free */
	_Atomic uint64_t lost_slot;   /* of connections that found no slot: no slot counts these */
	_Atomic uint32_t no_producer; /* children that found no number: they pass through */
	uint8_t pad4[36];
};
#define SHM_OFF_FOR_GOOD 1u /* it wrote nonsense, or was given up */
#define SHM_OFF_FOR_NOW 2u  /* denied, or all taps are switched off */
static_assert(offsetof(struct shm_header, on_ns) == 40, "layout");
static_assert(offsetof(struct shm_header, limit) == 64, "layout");
static_assert(offsetof(struct shm_header, free_hot) == 128, "layout");
static_assert(offsetof(struct shm_header, lost_full) == 256, "layout");
static_assert(sizeof(struct shm_header) <= 4096, "layout");

struct shm_slot {
	/* the writer's line */
	_Atomic uint64_t rep[2];  /* by enum dir: bytes reported, all uses of the slot; stored after the real call */
	_Atomic uint64_t done[2]; /* rep as of the last call that is over: its record is out, or lost */
	_Atomic uint32_t begin[2], end[2]; /* a call is inside the TLS library, or not yet over, while they differ */
	_Atomic uint64_t random8;	   /* first 8 bytes of the client random, 0: not known yet */
	_Atomic uint32_t gen;		   /* counts the uses */
	_Atomic uint16_t producer;
	_Atomic uint16_t state; /* SHM_SLOT_* */
	/* agentd's line: what its successor must know */
	_Atomic uint64_t taken[2];     /* slot offset up to which it has taken or given up */
	_Atomic uint64_t accounted[2]; /* of those: forged, dropped, lost: decided for good */
	_Atomic uint64_t shown[2];     /* connection offset that was forged, from whichever end's tap */
	_Atomic uint32_t seq[2];       /* sequence numbers at the IDS, by enum side; valid while flow_open */
	_Atomic uint32_t inc;	       /* incarnation last opened */
	_Atomic uint32_t flow_open;
	/* the writer's again, but seldom used */
	_Atomic uint64_t base[2];  /* rep when this use began */
	_Atomic uint64_t start[2]; /* connection offset where this use began: of a parent's connection, or 0 */
	_Atomic uint64_t
		inner[2]; /* bytes of this use that the library reported to itself: its outer call has them, too */
	uint8_t pad[16];
};
static_assert(sizeof(struct shm_slot) == 192, "layout");
static_assert(offsetof(struct shm_slot, taken) == 64, "layout");
static_assert(offsetof(struct shm_slot, base) == 128, "layout");

/* What agentd knows of the slot's present connection, for its successor. Written by agentd only; since
 * any process of the family could write it too, the successor verifies it anew. */
struct shm_fact {
	_Atomic uint32_t gen; /* of the slot use that it is about; 0: none */
	uint32_t pad;
	struct rec_open open;
};
static_assert(sizeof(struct shm_fact) == 160, "layout");

#define SHM_FLOW_OPEN 1u /* slot.flow_open: a SYN was forged, a FIN was not */

#define SHM_SLOT_OPENED 1u  /* the OPEN record was published */
#define SHM_SLOT_EARLY 2u   /* early data were written, their verdict is not yet out */
#define SHM_SLOT_CHILD 4u   /* continues a connection of the parent process */
#define SHM_SLOT_SHUT 8u    /* a tentative CLOSE was published */
#define SHM_SLOT_TOLD 16u   /* the SOCKET record was published */
#define SHM_SLOT_MIDWAY 32u /* made when the handshake was over */
#define SHM_SLOT_SERVER 64u /* it is the server's end, by what the program did */

struct shm_stripe {
	_Atomic uint32_t lock; /* 0, a producer number, or SHM_CONSUMER */
	_Atomic uint32_t cur;  /* last chunk of the FIFO + 1; 0: none; the lock holder's */
	_Atomic uint32_t tail; /* entries ever put into the FIFO */
	uint8_t pad0[52];
	/* agentd: entries ever taken out << 32 | bytes read of the chunk at the head. One word, and stored before
	 * a chunk is given back: a successor finds it right wherever its predecessor was killed */
	_Atomic uint64_t at;
	uint8_t pad1[56];
};
static_assert(sizeof(struct shm_stripe) == 128, "layout");

struct shm_chunk {
	_Atomic uint32_t tail;	 /* bytes published in data */
	_Atomic uint32_t closed; /* nothing will follow */
	uint8_t pad[56];
	uint8_t data[SHM_CHUNK_DATA];
};
static_assert(sizeof(struct shm_chunk) == SHM_CHUNK, "layout");

/* One side's private view of a mapping. Plain pointers into it; constants copied once. */
struct shm {
	uint8_t *base;
	size_t size;
	uint32_t chunks, places, fifo_mask;
	struct shm_header *h;
	_Atomic int32_t *pid;	   /* SHM_PRODUCERS: as the process sees itself; < 0: agentd found it dead; 0: free */
	_Atomic uint64_t *bucket;  /* places keys */
	struct shm_slot *slot;	   /* places */
	struct shm_fact *fact;	   /* places */
	struct shm_stripe *stripe; /* SHM_STRIPES */
	_Atomic uint32_t *fifo;	   /* SHM_STRIPES rows of fifo_mask + 1 chunk numbers */
	_Atomic uint32_t *next;	   /* chunks: next on the free stack + 1 */
	struct shm_chunk *chunk;
};

/* Bytes of a mapping with @chunks and @places; 0 if either is out of bounds. */
size_t shm_size(uint32_t chunks, uint32_t places);

/* Make @v a view of the mapping at @base. Returns 0, or -EPROTO: magic, ABI or sizes do not fit. */
int shm_view(struct shm *v, void *base, size_t size);

/* Number of buckets in use, as the mapping says it now, bounded. */
uint32_t shm_buckets(const struct shm *v);

/* Take a chunk off a free stack: its number, or UINT32_MAX: empty, or lost SHM_POPS races. */
uint32_t shm_pop(const struct shm *v, _Atomic uint64_t *stack);

/* --- producer ------------------------------------------------------------------------------------ */

enum shm_why { SHM_FULL, SHM_BUSY };

/* Take a producer number and leave @pid with it. Returns 0 if there is none left (counted in the header). */
uint16_t shm_producer(const struct shm *v, int32_t pid);

/* Find the slot of @handle, or NULL. */
struct shm_slot *shm_find(const struct shm *v, uint16_t producer, const void *handle);

/* Give @handle a slot, which begins at the offsets where its last use ended. NULL: none is free
 * (counted in header.table_full). The caller knows that shm_find() found none. */
struct shm_slot *shm_insert(const struct shm *v, uint16_t producer, const void *handle);

/* Is @s still @handle's? It is not after another thread has freed the handle. */
bool shm_holds(const struct shm *v, const struct shm_slot *s, uint16_t producer, const void *handle);

/* The handle is about to be freed: let go of its slot. */
void shm_remove(const struct shm *v, uint16_t producer, const void *handle);

/* Append @r with r->len bytes at @data (HOLE: none); DATA may be cut into pieces.
 * @hint  anything that differs between threads
 * Returns true if all of it was published. Otherwise *@ret_why says what was missing, and
 * *@ret_done how many bytes of a DATA record were published before. */
bool shm_append(const struct shm *v, uint16_t producer, uintptr_t hint, const struct rec *r, const void *data,
		enum shm_why *ret_why, size_t *ret_done);

/* --- consumer ------------------------------------------------------------------------------------ */

struct shm_reader {
	struct shm v;
	int fd;		/* the memfd: punching holes, passing it on; -1: neither */
	uint32_t limit; /* private copy of header.limit */
	struct {
		uint32_t head, read; /* private copies: what the mapping says is never read back */
		uint32_t chunk;	     /* at head; UINT32_MAX: none looked at yet */
		uint32_t step;	     /* bytes that shm_next() offered */
		uint32_t quiet;	     /* sweeps without a record */
	} s[SHM_STRIPES];
	uint8_t *touched;     /* per chunk: has pages */
	bool wipe;	      /* zero what was read: more than one process can see it */
	uint64_t pushed_back; /* chunks that could not be put back (a hostile process spins on the stack) */
};

/* Create a mapping: memfd, sealed (SHRINK, GROW, SEAL), all chunks free, the first ones allocated.
 * Returns 0 or -errno. On success @r owns descriptor and mapping. */
int shm_create(struct shm_reader *r, uint32_t chunks, uint64_t family, uint64_t instance);

/* Take over the mapping of a predecessor from @fd (taken on success), where it stopped reading. Stripes that it
 * held are let go; call shm_leaks() for the chunks that it had in hand.
 * -EPROTO: not one of ours, not sealed, or damaged; -EXDEV: another instance's. */
int shm_adopt(struct shm_reader *r, int fd, uint64_t instance);

void shm_reader_fini(struct shm_reader *r);

/* Offer the next record of @stripe: *@ret is its header, copied; *@ret_data its payload in the shared
 * mapping: copy it once before it is looked at. Valid until shm_done() or the next shm_next() of the stripe.
 * Returns 1, or 0: nothing there, or -EBADMSG: the family wrote nonsense; read it no more. */
__attribute__((warn_unused_result)) int shm_next(struct shm_reader *r, unsigned stripe, struct rec *ret,
						 const uint8_t **ret_data);

/* The record last offered has been used. */
void shm_done(struct shm_reader *r, unsigned stripe);

/* Take an idle stripe's chunk back. @dead: the lock holder is that producer, which has died
 * (0: nobody's). Returns true if the stripe has no chunk any more. */
bool shm_retire(struct shm_reader *r, unsigned stripe, uint16_t dead);

/* Find chunks that a dead process took off a stack and did not put anywhere. Call when no holder is
 * alive in a call, i.e. after shm_retire(..., dead); returns chunks found, or -EAGAIN: somebody
 * writes right now. */
int shm_leaks(struct shm_reader *r);

/* Give memory back that only a burst needed: punch out drained cold chunks. */
void shm_trim(struct shm_reader *r);

#endif
