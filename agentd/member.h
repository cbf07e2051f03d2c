/* SPDX-License-Identifier: Apache-2.0 */
/* member.h - a process that writes into a family's mapping: whose it is, and whether it lives. */
#ifndef TLSTAP_MEMBER_H
#define TLSTAP_MEMBER_H

#include <ev.h>
#include <stdbool.h>
#include <stdint.h>

#include "helper.h"

#define FAMILY_MEMBERS_MAX 1024u /* processes of a family that are watched; more share what these are told */

struct family;
struct lane;

/* A process. */
struct member {
	struct family *family;
	struct helper_pid p;
	int32_t ns_pid;	     /* as it calls itself */
	int pidfd;	     /* -1: it has died */
	uint64_t dead_sweep; /* the family's sweep in which that was seen; 0: alive */
	ev_io io;
	char exe[128]; /* printable; "" not known yet */
	bool attached; /* it asked for the mapping */
	bool uids_known;
	uint32_t uid, fsuid;
	uint64_t asked_rules;  /* lane->rules when it was asked about ... */
	uint64_t judged_rules; /* ... and when it was judged last; 0: never */
	bool denied;
};

/* Make process @p a member: *@ret, NULL if it is one that is not watched. @pidfd, taken if there is a member, is of it;
 * -1: it is opened by its number. Returns 0, -ENOMEM, or -errno of pidfd_open(2): then it may well be alive. */
int member_add(struct family *f, const struct helper_pid *p, int32_t ns_pid, int pidfd, struct member **ret);
void member_free(struct member *m);

/* It writes into another family's mapping from now on, or has died. */
void member_left(struct member *m);

/* Watch process @p, which maps the family's file. Returns it, or NULL. */
struct member *family_member(struct family *f, const struct helper_pid *p, int32_t ns_pid);

/* Have it looked up again whose its processes are: f->uids_asked is 0 when all is answered. */
void family_ask_uids(struct family *f);

/* An answer about a process came. */
void family_on_proc(struct lane *l, const struct helper_event *e);

/* Does what @m has speak for the family? Whoever attached does; of those that map its memory as well, root's family
 * believes all, for these may have been root's children before they became somebody else; any other believes its own
 * user's only, for a stranger can be made to map what it is sent. */
enum family_trust {
	FAMILY_STRANGER,
	FAMILY_UNKNOWN,
	FAMILY_TRUSTED
} family_trust(const struct family *f, const struct member *m);

/* Is @uid one of the family's users: those of its processes, or who attached as long as these are not known? */
bool family_has_uid(const struct family *f, uint32_t uid);

/* Is root its only user? */
bool family_is_root(const struct family *f);

#endif
