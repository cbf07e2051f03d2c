/* SPDX-License-Identifier: Apache-2.0 */
/* presence.h - the page by which every process of the host sees that agentd is alive, or that taps are off.
 * Its layout is in common/attach.h. The lane's: a lane that is stuck is soon seen as nobody. */
#ifndef TLSTAP_PRESENCE_H
#define TLSTAP_PRESENCE_H

#include <ev.h>
#include <stdbool.h>

#include "common/attach.h"

struct presence {
	struct attach_page *page; /* NULL: none */
	struct ev_loop *loop;	  /* NULL: does not beat */
	ev_timer beat;
};

/* Make the page at @path. Zeroed @p at first. Returns 0 or -errno. */
int presence_init(struct presence *p, const char *path);

/* From now on we are here. */
void presence_start(struct presence *p, struct ev_loop *loop);

/* Tell processes that all taps are switched off, or on again. */
void presence_switch(struct presence *p, bool off);

/* Nobody is here any more. */
void presence_stop(struct presence *p);

#endif
