/* SPDX-License-Identifier: Apache-2.0 */
/* accept.h - the listening sockets: connections of agents -> the lane. Main thread. */
#ifndef TLSTAP_RECEIVERD_ACCEPT_H
#define TLSTAP_RECEIVERD_ACCEPT_H

#include "receiver.h"

#define ACCEPT_MAX 8 /* listening sockets */
#define ACCEPT_ERR 256

/* Listen on all of conf.listen. Returns 0, or -errno with one line in @err. */
int accept_new(struct accept **ret, struct receiver *r, char err[static ACCEPT_ERR]);

/* Stop listening; connections that were accepted live on. */
void accept_free(struct accept **a);

#endif
