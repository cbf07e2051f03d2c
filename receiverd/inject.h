/* SPDX-License-Identifier: Apache-2.0 */
/* inject.h - frames out on the replay interface, and into the file of -w.
 *
 *   session --frames--> inject_send() --> interface (common/netif.h), or nothing with -o none
 *                                     \-> pcapng file, what was or would be injected
 *
 * When the interface is full or gone, the injector is busy: it takes nothing, waits, and calls ready() when to go on.
 * So nothing is dropped for a full queue; sessions stop reading and TCP holds their agents back. One a lane. */
#ifndef TLSTAP_RECEIVERD_INJECT_H
#define TLSTAP_RECEIVERD_INJECT_H

#include <ev.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

#include "common/batch.h"
#include "common/netif.h"

#define INJECT_ERR 256

struct inject {
	bool none;    /* -o none: inject nothing */
	bool busy;    /* until ready() is called */
	bool failed;  /* the file cannot be written, and there is nothing else to do */
	uint32_t mtu; /* bytes of IP packet that pass */
	struct netif nif;
	/* private */
	struct ev_loop *loop;
	void (*ready)(void *arg);
	void *arg;
	ev_io io;
	ev_timer retry;
	double said_at;
	int file; /* -1: none */
	char path[256];
	struct batch out; /* for the file */
	size_t out_off;	  /* bytes of it that are written */
	off_t good;	  /* bytes of the file that are whole blocks */
	bool regular;	  /* it can be cut */
};

/* @loop   borrowed for good; NULL (tests): then nothing can wait
 * @iface  name, or "none"
 * @file   pcapng file to write too, or NULL; "-" is standard output
 * @mtu    0: the interface's, 1500 with "none"
 * @force  take an interface that is in use otherwise
 * @ready  called after busy, from the loop
 * Returns 0, or -errno with one line in @err. */
int inject_init(struct inject *i, struct ev_loop *loop, const char *iface, const char *file, uint32_t mtu, bool force,
		void (*ready)(void *arg), void *arg, char err[static INJECT_ERR]);

/* Write the file's rest; close everything. */
void inject_fini(struct inject *i);

/* Inject frame[0..n) with their times (ns since the epoch; for the file).
 * Returns how many were, 1 .. @n; -EAGAIN: busy, nothing was; or another -errno: frame[0] can never be injected (-EIO:
 * nothing can any more, see failed). */
ssize_t inject_send(struct inject *i, struct iovec *frame, const uint64_t *ts_ns, unsigned n);

/* Nothing came for a moment: write to the file what is gathered. */
void inject_settle(struct inject *i);

#endif
