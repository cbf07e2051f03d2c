/* SPDX-License-Identifier: Apache-2.0 */
/* why.h - why is this process tapped, or why not, and what to do: one paragraph. */
#ifndef TLSTAP_WHY_H
#define TLSTAP_WHY_H

#include <stdio.h>

#include "attach.h"
#include "lane.h"

#define WHY_YES "Tapped: "    /* the paragraph begins so, ... */
#define WHY_NO "Not tapped: " /* ... or so */

/* What can be said without looking at the process. Returns false: helper_look() must be asked. */
bool why_told(const struct lane *l, const struct attach *a, int32_t pid, FILE *to);

/* @e: the answer of helper_look() about the process. */
void why_tell(struct lane *l, const struct helper_event *e, FILE *to);

#endif
