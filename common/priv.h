/* SPDX-License-Identifier: Apache-2.0 */
/* priv.h - give up what a daemon started with: root, capabilities, core dumps.
 *
 * Call before threads are made: capabilities belong to a thread. */
#ifndef TLSTAP_PRIV_H
#define TLSTAP_PRIV_H

#include <stddef.h>

/* Become @user (its groups too) and keep only @caps of the capabilities that we have now; the
 * bounding set loses all others where that is allowed, no_new_privs is set, core dumps are off, and
 * other processes of that user cannot look into us.
 * @user  NULL: stay who we are
 * @caps  @n values of <linux/capability.h>; those that we do not have are left out silently
 * Returns 0; -ENOENT no such user; -EPERM not allowed to become @user; else -errno. Nothing may go on
 * after an error: the process is somewhere in between. */
int priv_drop(const char *user, const int *caps, size_t n);

#endif
