/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_policy.c - any text as a rule, and a process with any names judged by it: "RULE\nEXE\nCGROUP". */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "agentd/policy.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct policy p = {.of_user = false};
	struct policy_answer a;
	char *text = strndup((const char *)data, len), *rest = text, *rule, *exe, *cgroup, err[POLICY_ERR] = "";

	if (!text)
		abort();
	rule = strsep(&rest, "\n");
	exe = strsep(&rest, "\n");
	cgroup = rest;
	for (unsigned list = 0; list < POLICY_LISTS; list++) {
		struct opt_list lists[POLICY_LISTS] = {[0] = {.n = 0}};

		lists[list] = (struct opt_list){.item = &rule, .n = 1};
		if (policy_load(&p, lists, err) != 0) {
			if (!*err || p.n[list])
				abort();
			break;
		}
		policy_judge(&p, &(struct policy_subject){.pid = 2, .uid = 0, .exe = exe, .cgroup = cgroup}, &a);
		if (!memchr(a.why, '\0', sizeof(a.why)) || !*a.why || (a.isolate && !a.tap))
			abort();
		if (list == POLICY_ALLOW && a.tap && strncmp(a.why, "allow = ", 8) != 0)
			abort();
	}
	policy_free(&p);
	free(text);
	return 0;
}
