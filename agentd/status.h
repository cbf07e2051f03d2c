/* SPDX-License-Identifier: Apache-2.0 */
/* status.h - what agentd does, over its control socket, for people and for programs.
 *
 * The control socket stands beside the attach socket ("control.sock", root's, 0600). A client connects, sends "text\n"
 * or "json\n" or "doctor\n" or "why PID\n", and reads the answer up to the end. */
#ifndef TLSTAP_STATUS_H
#define TLSTAP_STATUS_H

#include "attach.h"
#include "lane.h"

#define STATUS_SOCKET "control.sock"
#define STATUS_COOKIE (1ull << 62) /* | number of the question: cookies of what is asked here */

struct status {
	struct lane *lane;
	struct attach *attach;
	int fd;
	ev_io io;
	uint64_t since_ns;
};

/* Listen beside @socket. Returns 0, or -errno with one line in @err. */
int status_init(struct status *s, const char *socket, char err[static ATTACH_ERR]);
/* @attach  NULL: packets are mirrored only */
void status_start(struct status *s, struct lane *lane, struct attach *attach);
void status_stop(struct status *s);

/* An answer of HELPER_PROC with STATUS_COOKIE came. */
void status_on_proc(struct status *s, const struct helper_event *e);

/* agentd --status[=@what]: ask the one that runs at @socket and print its answer. @what: "", "json", "doctor" or
 * "why:PID".
 * Returns an exit code. */
int status_show(const char *socket, const char *what);

#endif
