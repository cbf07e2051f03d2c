/* SPDX-License-Identifier: Apache-2.0 */
/* conf.c - agentd's options. */
#include "conf.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/attach.h"
#include "common/shm.h"

#define AT(field) offsetof(struct conf, field)

const struct opt conf_table[] = {
	{OPT_HEAD, 0, 0, "What to show", NULL, 0, 0, 0, NULL, NULL},
	{OPT_STRING, 0, 'I', "interface", "IFACE|any", AT(interface), 0, 0, NULL,
	 "forge packets for the tapped TLS sessions whose local address is on IFACE (any: all)"},
	{OPT_FLAG, 0, 'D', "only-forged", NULL, AT(only_forged), 0, 0, NULL,
	 "with -I: send only the forged cleartext packets, none of the captured ones"},
	{OPT_UINT, 0, 0, "port-shift", "N", AT(port_shift), 0, 65535, "4",
	 "add N to the server's port in forged packets"},
	{OPT_LIST, 0, 0, "port-map", "A=B[,..]", AT(port_map), 0, 0, NULL,
	 "show server port A as B instead of shifting it"},
	{OPT_SIZE, 0, 0, "rotate", "BYTES", AT(rotate), 0, UINT64_MAX, "800000",
	 "re-open a forged HTTP connection at the first message border after BYTES in a direction (0: never)"},
	{OPT_UINT, 0, 0, "keepalive", "SECONDS", AT(keepalive), 0, 86400, "120",
	 "idle time after which a forged connection gets an ACK in each direction (0: never)"},
	{OPT_HEAD, 0, 0, "Where to", NULL, 0, 0, 0, NULL, NULL},
	{OPT_STRING, 0, 't', "tunnel", "HOST[:PORT]", AT(tunnel), 0, 0, NULL, "send to a receiver (default port 3005)"},
	{OPT_STRING, 0, 'o', "output", "IFACE", AT(output), 0, 0, NULL, "replay to IFACE"},
	{OPT_FLAG, 0, 0, "force-output", NULL, AT(force_output), 0, 0, NULL,
	 "replay to IFACE although it has addresses or carries the default route"},
	{OPT_STRING, 0, 'w', "write", "FILE", AT(write), 0, 0, NULL, "write a pcapng file (-: standard output)"},
	{OPT_UINT, 0, 'm', "mtu", "MTU", AT(mtu), 576, 65521, NULL,
	 "force the MTU of forged packets (default: the receiver's or interface's, else 1500)"},
	{OPT_SIZE, 0, 0, "queue", "BYTES", AT(queue), 4u << 20, 16ull << 30, "64M", "what may wait for the tunnel"},
	{OPT_HEAD, 0, 0, "The rest", NULL, 0, 0, 0, NULL, NULL},
	{OPT_SIZE, 0, 0, "pool-size", "BYTES", AT(pool_size), (uint64_t)SHM_CHUNKS_MIN *SHM_CHUNK,
	 (uint64_t)SHM_CHUNKS_MAX *SHM_CHUNK, "16M", "shared memory of one tapped process and its children"},
	{OPT_STRING, 0, 0, "socket", "PATH", AT(socket), 0, 0, ATTACH_SOCKET, "where tapped processes meet agentd"},
	{OPT_STRING, 0, 0, "user", "NAME", AT(user), 0, 0, NULL,
	 "user to become after the start (default: tlstap if it exists, else nobody)"},
	{OPT_STRING, OPT_ARGV_ONLY, 0, "config", "FILE", AT(config), 0, 0, NULL,
	 "read options from FILE (default " TLSTAP_SYSCONFDIR "/agentd.conf)"},
	{OPT_MODE, OPT_ARGV_ONLY, 0, "status", "json", AT(status), 0, 0, NULL,
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
		if (!*c->status || strcmp(c->status, "json") == 0)
			return 0;
		wrong = "--status takes nothing, or =json";
	} else if (!c->interface) {
		wrong = "which sessions? Say -I any, or -I IFACE for those of one interface";
	} else if (!c->only_forged) {
		wrong = "-I without -D would also send captured packets, which this version cannot do yet: add -D";
	} else if (!!c->tunnel + !!c->output + !!c->write != 1) {
		wrong = "where to? Say exactly one of -t HOST[:PORT], -o IFACE and -w FILE";
	} else if (c->socket[0] != '/') {
		wrong = "--socket must be an absolute path";
	}
	if (wrong) {
		snprintf(err, OPT_ERR, "%s", wrong);
		return -EINVAL;
	}
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
