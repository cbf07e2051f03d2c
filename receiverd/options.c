/* SPDX-License-Identifier: Apache-2.0 */
/* options.c - receiverd's options, each stated once. */
#include <stddef.h>

#include "common/forge.h"
#include "receiver.h"

#define AT(field) offsetof(struct conf, field)

const struct opt receiver_options[] = {
	{OPT_HEAD, 0, 0, "What to receive", NULL, 0, 0, 0, NULL, NULL},
	{OPT_FLAG, 0, 'c', "agents", NULL, AT(agents), 0, 0, NULL,
	 "listen for agents, those of tlstap and native ones"},
	{OPT_LIST, 0, 0, "listen", "[ADDR:]PORT", AT(listen), 0, 0, DEFAULT_LISTEN,
	 "where to listen for agents; may be given several times"},
	{OPT_HEAD, 0, 0, "Where it goes", NULL, 0, 0, 0, NULL, NULL},
	{OPT_STRING, 0, 'o', "output", "IFACE", AT(iface), 0, 0, "dummy0",
	 "interface to replay to, made and brought up if it is missing; none: inject nothing"},
	{OPT_STRING, 0, 'w', "write", "FILE", AT(file), 0, 0, NULL,
	 "write what is or would be injected to a pcapng file too; -: standard output"},
	{OPT_UINT, 0, 'm', "mtu", "MTU", AT(mtu), FORGE_MTU_MIN, FORGE_MTU_MAX, NULL,
	 "longest IP packet that passes, in bytes; by default the interface's MTU"},
	{OPT_SIZE, 0, 0, "queue", "SIZE", AT(queue), 1 << 20, (uint64_t)1 << 40, "64M",
	 "bytes taken from agents while the interface is busy"},
	{OPT_FLAG, 0, 0, "force-output", NULL, AT(force), 0, 0, NULL,
	 "replay to an interface even if it has addresses, the default route or a master"},
	{OPT_HEAD, 0, 0, "Files", NULL, 0, 0, 0, NULL, NULL},
	{OPT_STRING, OPT_ARGV_ONLY, 0, "config", "FILE", AT(config), 0, 0, DEFAULT_CONFIG, "configuration file"},
	{OPT_STRING, 0, 0, "state-dir", "DIR", AT(state_dir), 0, 0, DEFAULT_STATE_DIR,
	 "where key and certificate are kept, made at the first start"},
	{OPT_STRING, 0, 0, "socket", "PATH", AT(socket), 0, 0, DEFAULT_SOCKET, "control socket, for --status"},
	{OPT_HEAD, 0, 0, "Others", NULL, 0, 0, 0, NULL, NULL},
	{OPT_STRING, 0, 0, "log-level", "LEVEL", AT(log_level), 0, 0, "info", "error, warn, info or debug"},
	{OPT_MODE, OPT_ARGV_ONLY, 0, "status", "json", AT(status), 0, 0, NULL,
	 "show agents, rates and counters of the receiverd that runs"},
	{OPT_FLAG, OPT_ARGV_ONLY, 0, "version", NULL, AT(version), 0, 0, NULL, "show the version"},
	{OPT_FLAG, OPT_ARGV_ONLY, 'h', "help", NULL, AT(help), 0, 0, NULL, "show this text"},
	{OPT_HEAD, 0, 0, NULL, NULL, 0, 0, 0, NULL, NULL},
};
