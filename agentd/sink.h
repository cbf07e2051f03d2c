/* SPDX-License-Identifier: Apache-2.0 */
/* sink.h - where batches of forged frames leave agentd: tunnel.c, iface.c, file.c.
 *
 * A sink gives credit before anything is forged: a lane asks sink_credit() before it drains, and
 * what it then forges is always taken. So nothing is dropped after it was forged, but by a broken
 * tunnel, which says so (unknown). Belongs to one lane; called from that lane's thread only.
 *
 * Conservation, in bytes of cleartext, holds whenever a call returns:
 *   put = acked + in_flight + backlog + unknown */
#ifndef TLSTAP_SINK_H
#define TLSTAP_SINK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "../common/batch.h"

struct ev_loop;
struct own;
struct sink;

struct sink_count {
	uint64_t put;	    /* payload bytes taken by sink_put() */
	uint64_t acked;	    /* written to the file or interface; or acknowledged by the receiver */
	uint64_t in_flight; /* in the tunnel, not yet acknowledged */
	uint64_t backlog;   /* here, not yet in the tunnel */
	uint64_t unknown;   /* in flight or backlog when a tunnel broke */
	uint64_t frames;    /* frames put */
	uint64_t bytes;	    /* bytes of those frames */
	uint64_t errors;    /* frames an interface refused (they count as acked = 0, unknown) */
	uint64_t reconnects;
};

struct sink_ops {
	const char *name; /* "tunnel", "interface", "file" */
	/* Is there room for one whole batch? false: leave the data where it is and ask again later. */
	bool (*credit)(struct sink *s);
	/* Take the batch @b: all of it, always. The caller may reuse @b at once. */
	void (*put)(struct sink *s, const struct batch *b);
	/* One short line about its state for --status, e.g. "connected to 10.0.0.2:3005". */
	void (*describe)(struct sink *s, char *ret, size_t size);
	/* SIGTERM: try to get rid of the backlog; sets s->drained when done (or hopeless). */
	void (*drain)(struct sink *s);
	void (*free)(struct sink *s);
};

struct sink {
	const struct sink_ops *ops;
	struct sink_count n;
	uint32_t mtu;	/* bytes of IP packet that it takes at most; may change with the epoch */
	uint32_t epoch; /* counts up when the IDS behind it has lost all flows: live flows must be re-opened.
			 * The sink (its receiver) has closed them: forge no FIN. */
	uint64_t captured, capture_drops, hello_drops; /* of this host, to be told to the receiver; set by main.c */
	bool drained;
	bool failed; /* for good (a file that cannot be written any more): agentd ends, non-zero */
};

/* Each returns a sink, or NULL with one line about what is wrong and what to do in @err. They are
 * made before privileges are dropped and need none later.
 * @loop  the lane's loop, borrowed as long as the sink lives
 * @mtu   0: choose (1500, or less if interface or receiver say so)
 * @own   told of the tunnel's connections, so that nobody mirrors them; borrowed likewise; or NULL */
#define SINK_ERR 256
struct sink *sink_tunnel(struct ev_loop *loop, const char *host_port, uint32_t mtu, uint64_t queue, struct own *own,
			 char err[static SINK_ERR]);
struct sink *sink_iface(struct ev_loop *loop, const char *iface, uint32_t mtu, bool force, char err[static SINK_ERR]);
struct sink *sink_file(struct ev_loop *loop, const char *path, uint32_t mtu, char err[static SINK_ERR]);

#endif
