/* SPDX-License-Identifier: Apache-2.0 */
/* Lines and files of /proc whose content a process chose. The first byte says which. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "agentd/helper_whose.h"
#include "agentd/proc.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct proc_status s = {.uid = 0, .ns_pid = 0, .seccomp = -1};
	struct proc_map m;
	uint64_t start;
	const char *path;
	bool unified;
	char *line;

	if (len == 0)
		return 0;
	line = malloc(len); /* its exact size: reading beyond it is seen */
	memcpy(line, data + 1, len - 1);
	line[len - 1] = '\0';
	switch (data[0] % 5) {
	case 0:
		(void)proc_parse_stat(line, len - 1, &start);
		break;
	case 1:
		if (proc_parse_map(line, &m)) {
			assert(m.start < m.end && m.name >= line && m.name <= line + strlen(line));
			assert(whose_mapping(m.name) <= HELPER_WHOSE_TLS);
		}
		break;
	case 2:
		proc_parse_status(line, &s);
		assert(s.seccomp >= -1 && s.seccomp <= 2 && s.ns_pid >= 0);
		break;
	case 3:
		path = proc_parse_cgroup(line, &unified);
		assert(!path || (*path == '/' && path >= line && path <= line + strlen(line)));
		break;
	default:
		(void)proc_parse_socket(line, len - 1);
		break;
	}
	free(line);
	return 0;
}
