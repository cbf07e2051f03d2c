/* SPDX-License-Identifier: Apache-2.0 */
/* receiver.h - the whole state of receiverd.
 *
 *   accept.c --sockets--> session.c --cleartext--> stream.c --frames--> inject.c
 *
 * main.c starts and ends it; everything that handles packets belongs to a lane (lane.h), which shares nothing with
 * other lanes. */
#ifndef TLSTAP_RECEIVERD_RECEIVER_H
#define TLSTAP_RECEIVERD_RECEIVER_H

#include <ev.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/opt.h"

#define DEFAULT_CONFIG "/etc/tlstap/receiverd.conf"
#define DEFAULT_STATE_DIR "/var/lib/tlstap"
#define DEFAULT_SOCKET "/run/tlstap/receiverd.sock"
#define DEFAULT_LISTEN "3005"

struct own;
struct tls_ctx;
struct lane;
struct accept;
struct status;

struct conf {
	bool agents; /* -c */
	struct opt_list listen;
	char *iface;
	char *file;
	uint64_t mtu; /* 0: the interface's */
	uint64_t queue;
	bool force;
	char *state_dir;
	char *socket;
	char *log_level;
	char *config;
	char *status; /* NULL: be the daemon; "", "json": ask the one that runs */
	bool version, help;
};

struct receiver {
	struct conf conf;
	struct ev_loop *loop;
	struct tls_ctx *tls; /* replaced by a reload; sessions keep the one they began with */
	struct lane *lane;   /* one for now */
	struct accept *accept;
	struct status *status;
	struct own *own; /* what agents of this host are not to mirror; NULL in tests */
	int argc;	 /* of main(), for a reload */
	char **argv;
	bool ending; /* SIGTERM: lanes drain */
	int exit_code;
};

/* The table of options (options.c), for main.c and the manual's test. */
extern const struct opt receiver_options[];

#endif
