/* SPDX-License-Identifier: Apache-2.0 */
/* conf.c - agentd's options. */
#include "conf.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/attach.h"
#include "common/forge.h"
#include "common/shm.h"

#define AT(field) offsetof(struct conf, field)

const struct opt conf_table[] = {
	{OPT_HEAD, 0, 0, "What to show", NULL, 0, 0, 0, NULL, NULL},
	{OPT_STRING, 0, 'i', "mirror", "IFACE|any", AT(mirror), 0, 0, NULL,
	 "mirror every packet seen on IFACE, tap nothing"},
	{OPT_STRING, 0, 'I', "interface", "IFACE|any", AT(interface), 0, 0, NULL,
	 "mirror IFACE, and forge packets for the tapped TLS sessions of its traffic (any: of all)"},
	{OPT_FLAG, 0, 'D', "only-forged", NULL, AT(only_forged), 0, 0, NULL,
	 "with -I: send only the forged cleartext packets, none of the captured ones"},
	{OPT_STRING, 0, 'p', "filter", "EXPR", AT(filter), 0, 0, NULL,
	 "of the captured packets, send only those that EXPR (pcap-filter(7)) lets through"},
	{OPT_SIZE, 0, 0, "buffer-size", "BYTES", AT(buffer_size), 1u << 20, 2047u << 20, "64M",
	 "memory for captured packets that wait in the kernel"},
	{OPT_LIST, 0, 'H', "effectiveness", "NETS", AT(effectiveness), 0, 0, NULL,
	 "report which share of the TLS sessions to and from these networks is seen in the clear"},
	{OPT_LIST, 0, 0, "netns", "NAME|PID|all", AT(netns), 0, 0, NULL,
	 "also see handshakes in this network namespace (all: in those of tapped processes)"},
	{OPT_UINT, 0, 0, "port-shift", "N", AT(port_shift), 0, 65535, "4",
	 "add N to the server's port in forged packets"},
	{OPT_LIST, 0, 0, "port-map", "A=B[,..]", AT(port_map), 0, 0, NULL,
	 "show server port A as B instead of shifting it"},
	{OPT_SIZE, 0, 0, "rotate", "BYTES", AT(rotate), 0, UINT64_MAX, "800000",
	 "re-open a forged HTTP connection at the first message border after BYTES in a direction (0: never)"},
	{OPT_UINT, 0, 0, "keepalive", "SECONDS", AT(keepalive), 0, 86400, "120",
	 "idle time after which a forged connection gets an ACK in each direction (0: never)"},
	{OPT_HEAD, 0, 0, "Which processes", NULL, 0, 0, 0, NULL, NULL},
	{OPT_LIST, 0, 0, "deny", "RULE", AT(rules[POLICY_DENY]), 0, 0, NULL,
	 "never tap what RULE matches: exe:GLOB, uid:N, user:NAME, unit:GLOB, cgroup:GLOB"},
	{OPT_LIST, 0, 0, "allow", "RULE", AT(rules[POLICY_ALLOW]), 0, 0, NULL,
	 "tap only what one of these rules matches (and none of --deny)"},
	{OPT_LIST, 0, 0, "isolate", "RULE", AT(rules[POLICY_ISOLATE]), 0, 0, NULL,
	 "do not tap the forked children of what RULE matches"},
	{OPT_STRING, 0, 0, "disable-file", "PATH", AT(disable_file), 0, 0, TLSTAP_SYSCONFDIR "/disable",
	 "as long as this file exists, all taps are switched off"},
	{OPT_HEAD, 0, 0, "Where to", NULL, 0, 0, 0, NULL, NULL},
	{OPT_STRING, 0, 't', "tunnel", "HOST[:PORT]", AT(tunnel), 0, 0, NULL, "send to a receiver (default port 3005)"},
	{OPT_STRING, 0, 'o', "output", "IFACE", AT(output), 0, 0, NULL, "replay to IFACE"},
	{OPT_FLAG, 0, 0, "force-output", NULL, AT(force_output), 0, 0, NULL,
	 "replay to IFACE although it has addresses or carries the default route"},
	{OPT_STRING, 0, 'w', "write", "FILE", AT(write), 0, 0, NULL, "write a pcapng file (-: standard output)"},
	{OPT_UINT, 0, 'm', "mtu", "MTU", AT(mtu), FORGE_MTU_MIN, FORGE_MTU_MAX, NULL,
	 "force the MTU of what is sent (default: the receiver's or interface's, else 1500)"},
	{OPT_SIZE, 0, 0, "queue", "BYTES", AT(queue), 4u << 20, 16ull << 30, "64M", "what may wait for the tunnel"},
	{OPT_HEAD, 0, 0, "The rest", NULL, 0, 0, 0, NULL, NULL},
	{OPT_SIZE, 0, 0, "pool-size", "BYTES", AT(pool_size), (uint64_t)SHM_CHUNKS_MIN *SHM_CHUNK,
	 (uint64_t)SHM_CHUNKS_MAX *SHM_CHUNK, "16M", "shared memory of one tapped process and its children"},
	{OPT_STRING, 0, 0, "socket", "PATH", AT(socket), 0, 0, ATTACH_SOCKET, "where tapped processes meet agentd"},
	{OPT_STRING, 0, 0, "user", "NAME", AT(user), 0, 0, NULL,
	 "user to become after the start (default: tlstap if it exists, else nobody)"},
	{OPT_STRING, OPT_ARGV_ONLY, 0, "config", "FILE", AT(config), 0, 0, NULL,
	 "read options from FILE (default " TLSTAP_SYSCONFDIR "/agentd.conf)"},
	{OPT_MODE, OPT_ARGV_ONLY, 0, "status", "json|doctor|why:PID", AT(status), 0, 0, NULL,
	 "show what a running agentd does, and exit"},
	{OPT_FLAG, 0, 'v', "verbose", NULL, AT(verbose), 0, 0, NULL, "log more"},
	{OPT_FLAG, OPT_ARGV_ONLY, 'V', "version", NULL, AT(version), 0, 0, NULL, "show the version, and exit"},
	{OPT_FLAG, OPT_ARGV_ONLY, 'h', "help", NULL, AT(help), 0, 0, NULL, "show this, and exit"},
	{OPT_HEAD, 0, 0, NULL, NULL, 0, 0, 0, NULL, NULL},
};

static bool port_number(const char *s, char end, uint16_t *ret, const char **ret_end)
{
	char *stop;
	unsigned long n = strtoul(s, &stop, 10);

	if (stop == s || *stop != end || n < 1 || n > 65535)
		return false;
	*ret = (uint16_t)n;
	*ret_end = stop + 1;
	return true;
}

static int port_map(struct conf *c, char err[static OPT_ERR])
{
	for (size_t i = 0; i < c->port_map.n; i++) {
		const char *p = c->port_map.item[i];

		if (c->ports == CONF_PORTS_MAX) {
			snprintf(err, OPT_ERR, "--port-map: more than %u ports", CONF_PORTS_MAX);
			return -EINVAL;
		}
		if (!port_number(p, '=', &c->port[c->ports].from, &p) ||
		    !port_number(p, '\0', &c->port[c->ports].to, &p)) {
			snprintf(err, OPT_ERR, "--port-map: \"%s\" is not A=B with two ports from 1 to 65535",
				 c->port_map.item[i]);
			return -EINVAL;
		}
		c->ports++;
	}
	return 0;
}

const char *conf_captured(const struct conf *c)
{
	return c->mirror ? c->mirror : c->only_forged ? NULL : c->interface;
}

/* What is wrong with the choice of traffic? NULL: nothing. */
static const char *wrong_traffic(const struct conf *c)
{
	if (c->mirror && c->interface)
		return "-i and -I exclude each other: -I mirrors its interface too, unless -D is given";
	if (c->only_forged && !c->interface)
		return "-D needs -I: which sessions are to be forged? Say -I any, or -I IFACE";
	if (!c->mirror && !c->interface)
		return "which traffic? Say -I any or -I IFACE (with -D for forged packets only), or -i IFACE";
	if (c->filter && !conf_captured(c))
		return "-p filters captured packets, and -D sends none of them: leave one of the two out";
	if (c->effectiveness.n && !c->interface)
		return "-H needs -I: without a tap nothing is seen in the clear";
	if ((c->rules[POLICY_DENY].n || c->rules[POLICY_ALLOW].n || c->rules[POLICY_ISOLATE].n) && !c->interface)
		return "--deny, --allow and --isolate need -I: nothing is tapped without";
	if (c->netns.n && !c->interface)
		return "--netns needs -I: it is for pairing tapped sessions";
	return NULL;
}

static const char *wrong_sink(const struct conf *c)
{
	if (!!c->tunnel + !!c->output + !!c->write != 1)
		return "where to? Say exactly one of -t HOST[:PORT], -o IFACE and -w FILE";
	if (c->output && conf_captured(c) && strcmp(c->output, conf_captured(c)) == 0)
		return "-o names the interface that is captured: what is replayed there would be captured again";
	if (c->socket[0] != '/')
		return "--socket must be an absolute path";
	if (c->disable_file[0] != '/')
		return "--disable-file must be an absolute path";
	return NULL;
}

/* why:PID */
static bool status_why(const char *s)
{
	return strncmp(s, "why:", 4) == 0 && s[4] && strlen(s) < 4 + 11 && s[4 + strspn(s + 4, "0123456789")] == '\0';
}

static int check(struct conf *c, int rest, int argc, char **argv, char err[static OPT_ERR])
{
	const char *wrong = NULL;

	if (rest < argc) {
		snprintf(err, OPT_ERR, "\"%s\": agentd takes options only, see --help", argv[rest]);
		return -EINVAL;
	}
	if (c->help || c->version)
		return 0;
	if (c->status) {
		if (!*c->status || strcmp(c->status, "json") == 0 || strcmp(c->status, "doctor") == 0 ||
		    status_why(c->status))
			return 0;
		wrong = "--status takes nothing, =json, =doctor or =why:PID";
	} else {
		wrong = wrong_traffic(c);
	}
	if (!wrong)
		wrong = wrong_sink(c);
	if (wrong) {
		snprintf(err, OPT_ERR, "%s", wrong);
		return -EINVAL;
	}
	for (size_t i = 0; i < c->netns.n; i++)
		c->netns_all |= strcmp(c->netns.item[i], "all") == 0;
	return port_map(c, err);
}

int conf_load(struct conf *c, int argc, char **argv, char err[static OPT_ERR])
{
	int rest = argc, ret;

	memset(c, 0, sizeof(*c));
	ret = opt_load(conf_table, c, "config", TLSTAP_SYSCONFDIR "/agentd.conf", argc, argv, &rest, err);
	return ret ? ret : check(c, rest, argc, argv, err);
}

void conf_free(struct conf *c)
{
	opt_free(conf_table, c);
}

uint16_t conf_port(const struct conf *c, uint16_t port)
{
	for (unsigned i = 0; i < c->ports; i++)
		if (c->port[i].from == port)
			return c->port[i].to;
	port = (uint16_t)(port + c->port_shift);
	return port ? port : 1;
}
