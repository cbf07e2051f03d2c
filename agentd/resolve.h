/* SPDX-License-Identifier: Apache-2.0 */
/* resolve.h - look up a host name without making the loop wait.
 *
 * An address is understood at once; for a name a thread of its own asks the system's resolver, ends with the answer
 * and touches nothing else. Whoever gives up early just frees the look-up. */
#ifndef TLSTAP_AGENTD_RESOLVE_H
#define TLSTAP_AGENTD_RESOLVE_H

#include <stdint.h>
#include <sys/socket.h>

#define RESOLVE_MAX 8 /* addresses taken of one name */

struct resolve;

struct resolve_addr {
	struct sockaddr_storage sa;
	socklen_t len;
};

/* Begin. Returns 0, -ENOMEM, or -errno if no thread can be had. */
int resolve_start(struct resolve **ret, const char *host, uint16_t port);

/* Becomes readable when the answer is there. */
int resolve_fd(const struct resolve *r);

/* The answer: addresses in the order to try them in.
 * Returns their number (1 .. RESOLVE_MAX), -EAGAIN (not yet), or -ENOENT with *@ret_why saying why there is none. */
int resolve_result(struct resolve *r, struct resolve_addr ret[static RESOLVE_MAX], const char **ret_why);

void resolve_free(struct resolve **r);

#endif
