/* SPDX-License-Identifier: Apache-2.0 */
/* offswitch.h - a file whose existence switches all taps off (--disable-file, "tlstap disable"), and on again.
 *
 * Off: no process gets a mapping, those that have one pass through from their next call on. Nothing is restarted. What
 * becomes of connections: permit.h. A process that starts meanwhile meets nobody and is not tapped until it is
 * started again. */
#ifndef TLSTAP_OFFSWITCH_H
#define TLSTAP_OFFSWITCH_H

#include "attach.h"
#include "lane.h"

#define OFFSWITCH_S 0.2 /* how often the file is looked for */

struct offswitch {
	struct lane *lane;
	struct attach *attach;
	const char *path;
	int err; /* of the last look, told once */
	ev_timer timer;
};

/* May we look for @path? Call without privileges. Returns 0 or -errno. */
int offswitch_check(const char *path);

/* Look for @path (borrowed) now and from now on. */
void offswitch_start(struct offswitch *s, const char *path, struct lane *lane, struct attach *attach);
void offswitch_stop(struct offswitch *s);

#endif
