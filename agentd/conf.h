/* SPDX-License-Identifier: Apache-2.0 */
/* conf.h - what agentd was told: the option table, checked. */
#ifndef TLSTAP_CONF_H
#define TLSTAP_CONF_H

#include <stdbool.h>
#include <stdint.h>

#include "common/opt.h"
#include "policy.h"

#define CONF_PORTS_MAX 64

struct conf {
	char *mirror;	 /* -i, or NULL */
	char *interface; /* -I, or NULL */
	bool only_forged;
	char *filter;		       /* of captured packets, or NULL */
	uint64_t buffer_size;	       /* of the capture, bytes */
	struct opt_list effectiveness; /* networks */
	struct opt_list netns;	       /* names, process numbers */
	bool netns_all;		       /* "all" is among them */
	char *tunnel, *output, *write;
	bool force_output;
	uint64_t mtu;	/* 0: choose */
	uint64_t queue; /* bytes */
	uint64_t port_shift;
	struct opt_list port_map;
	uint64_t rotate;    /* bytes, 0: never */
	uint64_t keepalive; /* seconds */
	uint64_t pool_size; /* bytes */
	struct opt_list rules[POLICY_LISTS];
	char *disable_file;
	char *user;
	char *socket;
	char *config;
	char *status;
	bool verbose, version, help;
	/* made of port_map */
	struct {
		uint16_t from, to;
	} port[CONF_PORTS_MAX];
	unsigned ports;
};

extern const struct opt conf_table[];

/* Fill @c from argv and the configuration file. Returns 0, or -EINVAL with one line in @err. */
int conf_load(struct conf *c, int argc, char **argv, char err[static OPT_ERR]);
void conf_free(struct conf *c);

/* The interface whose packets are captured, "any", or NULL: none is. */
const char *conf_captured(const struct conf *c);

/* The port under which a server's @port is shown. */
uint16_t conf_port(const struct conf *c, uint16_t port);

#endif
