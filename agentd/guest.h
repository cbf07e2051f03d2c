/* SPDX-License-Identifier: Apache-2.0 */
/* guest.h - a process at attach.c's socket, from its connect to its answer: a moment. All of attach.c's thread. */
#ifndef TLSTAP_GUEST_H
#define TLSTAP_GUEST_H

#include "attach.h"

struct guest {
	struct attach *attach;
	int fd;	   /* -1: free */
	int pidfd; /* of who connected */
	pid_t pid;
	uid_t uid;
	unsigned awaits; /* has asked; answers of the helper that are to come */
	uint64_t number; /* in the order in which they came */
	bool isolate;
	uint64_t rules; /* lane.rules when it was judged */
	ev_io io;
	ev_timer deadline;
};

/* Let in all who wait at the socket, and hear what they ask for. */
void guest_accept(struct attach *a);

/* Take what the helper has said of them so far. */
void guest_hear(struct attach *a);

/* The namespace of the guest with this cookie is open, or cannot be. He may have left. */
void guest_netns_open(struct attach *a, uint64_t cookie);

/* He leaves. */
void guest_dismiss(struct guest *g);

#endif
