/* SPDX-License-Identifier: Apache-2.0 */
/* status.h - receiverd --status[=json]: the control socket, and who asks it.
 *
 * A unix stream socket that root may open. The asker writes "status\n" or "status json\n", is answered and hung up
 * on. Main thread. */
#ifndef TLSTAP_RECEIVERD_STATUS_H
#define TLSTAP_RECEIVERD_STATUS_H

#include <stdio.h>

#include "receiver.h"

#define STATUS_ERR 256

/* Answer at conf.socket. Returns 0, or -errno with one line in @err. */
int status_new(struct status **ret, struct receiver *r, char err[static STATUS_ERR]);
void status_free(struct status **s);

/* Write the state of @r as people or programs read it. */
void status_text(const struct receiver *r, FILE *to);
void status_json(const struct receiver *r, FILE *to);

/* Ask the receiverd that runs and copy its answer to stdout; waits 5 s at most.
 * @mode  "" or "json". Returns 0, or -errno with one line in @err. */
int status_ask(const char *path, const char *mode, char err[static STATUS_ERR]);

#endif
