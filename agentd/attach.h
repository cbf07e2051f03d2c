/* SPDX-License-Identifier: Apache-2.0 */
/* attach.h - the presence page and the socket where processes ask for a mapping. */
#ifndef TLSTAP_AGENT_ATTACH_H
#define TLSTAP_AGENT_ATTACH_H

#include <ev.h>
#include <stdint.h>

#include "common/attach.h"
#include "lane.h"

#define ATTACH_GUESTS_MAX 256 /* processes that have connected and not yet asked */
#define ATTACH_GUEST_S 0.2    /* how long one may take to ask */
#define ATTACH_ERR 512

struct guest;

struct attach {
	struct lane *lane;
	struct attach_page *page;
	int fd;
	uint32_t chunks;
	ev_io io;
	ev_timer beat;
	struct guest *guest; /* ATTACH_GUESTS_MAX of them */
	unsigned guests;
	uint64_t attached, refused, garbage;
};

/* Make the page and the socket at @socket. Returns 0, or -errno with one line in @err. */
int attach_init(struct attach *a, const char *socket, char err[static ATTACH_ERR]);

/* Serve: give processes mappings of @pool bytes in @lane. */
void attach_start(struct attach *a, struct lane *lane, uint64_t pool);

/* Nobody is here any more. */
void attach_stop(struct attach *a);

#endif
