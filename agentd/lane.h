/* SPDX-License-Identifier: Apache-2.0 */
/* lane.h - one thread, one loop: its process families, connections, flows and sink.
 *
 * A lane sweeps its mappings: every 0.2 ms while data come, 2 ms within a second, 25 ms when idle. It asks the
 * sink for credit first; without it the data stay where they are, in the shared memory. */
#ifndef TLSTAP_LANE_H
#define TLSTAP_LANE_H

#include <ev.h>
#include <stdbool.h>
#include <stdint.h>

#include "account.h"
#include "common/batch.h"
#include "common/flow.h"
#include "conf.h"
#include "helper.h"
#include "quota.h"
#include "sink.h"

#define LANE_HELD_MAX (64u << 20)	    /* agentd's own memory for records that wait */
#define FAMILY_HELD_MAX (LANE_HELD_MAX / 4) /* one family's part of it */
#define LANE_CONNS_MAX 262144u		    /* connections */

struct attach;
struct capture;
struct conn;
struct family;
struct policy;
struct status;
struct tap;
struct wire;

struct lane {
	struct ev_loop *loop;
	const struct conf *conf;
	struct flow_conf flow;
	struct sink *sink;
	uint32_t epoch;		     /* of the sink, as the flows know it */
	struct helper *helper;	     /* NULL: nothing is tapped, packets are mirrored only */
	struct wire *wire;	     /* NULL likewise */
	struct capture *capture;     /* NULL: no packets are mirrored */
	struct attach *attach;	     /* NULL likewise; told of namespaces that were opened */
	struct status *status;	     /* NULL: nobody asks about processes */
	const struct policy *policy; /* NULL: everybody may be tapped */
	uint64_t rules;		     /* counts the policy's changes, from 1 */
	bool off;		     /* all taps are switched off */
	struct batch batch;
	uint8_t *copy; /* one record's payload, private */
	struct account sum;
	uint64_t now_ns; /* monotonic, of this sweep */
	uint64_t ts_ns;	 /* since the epoch, of this sweep */
	bool stalled;	 /* the sink gave no credit: the sweep was cut short */

	struct family *families; /* list */
	unsigned families_n;
	struct quota quota;	    /* of the mappings of these, and of those that are being handed out */
	_Atomic uint64_t family_id; /* last one given out */

	struct conn **shown;	       /* hash of connections, by the tuple that the IDS sees */
	struct conn **conns;	       /* hash of connections, by client random and addresses */
	unsigned taps;		       /* of all families */
	unsigned conns_n, conns_ended; /* all; of these those that are only remembered */
	uint64_t conns_total, conns_refused;
	struct tap **by_end;  /* hash of paired taps, by their endpoint */
	struct conn *touched; /* forged to in this sweep */
	struct tap *untold;   /* decided more than their slots say */
	uint64_t held_mem;    /* memory of records that wait */
	uint64_t instance;    /* of this agentd, by its socket's path */
	uint64_t hash_seed;

	uint64_t by[4];			   /* connections, by enum evidence of their addresses */
	uint64_t unverified_n, unpaired_n; /* connections without */
	uint64_t ended_reported;	   /* by families that are gone */
	uint64_t shed;			   /* families of dead processes given up because the sink gave no credit */
	uint64_t corrupt;		   /* families that wrote nonsense */
	uint64_t late;			   /* records for bytes that were decided before */

	ev_io timer_io;
	int timer_fd;
	uint64_t data_ns; /* when data were last seen */
	uint64_t due_ns;  /* when the next sweep is */
	uint64_t sweeps;
	ev_io helper_io;
	bool scanning; /* the helper is looking through all processes: one such request at a time */
	uint64_t scan_orphans_ns;
	uint64_t scan_ns; /* when the next look for a family's processes may be */
	bool failed;	  /* cannot go on: the helper has died */
	bool recheck;	  /* destroy events were lost: ask about every connection */
};

/* Start the lane; @sink and @helper are borrowed. Returns 0 or -errno. */
int lane_init(struct lane *l, struct ev_loop *loop, const struct conf *conf, struct sink *sink, struct helper *helper);

/* Sweep now, and often for a while: somebody attached, a connection ended. */
void lane_wake(struct lane *l);

/* Likewise, but not before a millisecond has passed: many attach at once, and a sweep looks at all of them. */
void lane_soon(struct lane *l);

/* Room for @frames of @bytes in all in the batch, emptied into the sink if need be. false: no credit. */
bool lane_room(struct lane *l, size_t bytes, size_t frames);

/* Give the batch to the sink. */
void lane_put(struct lane *l);

/* Set the lane's times to now. */
void lane_clock(struct lane *l);

/* Does nothing wait for its turn or its pairing? */
bool lane_quiet(const struct lane *l);

/* Last sweep, all flows closed, everything given to the sink. */
void lane_stop(struct lane *l);

#endif
