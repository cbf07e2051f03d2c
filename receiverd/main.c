/* SPDX-License-Identifier: Apache-2.0 */
/* main.c - receiverd: agents' tunnels in, packets out on an interface. Start order and signals, nothing else. */
#include <linux/capability.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "accept.h"
#include "common/log.h"
#include "common/own.h"
#include "common/priv.h"
#include "common/tls.h"
#include "lane.h"
#include "receiver.h"
#include "status.h"

#define COMPONENT "main"
#define EXIT_USAGE 2

static const char *const levels[] =
	{[LOG_L_ERROR] = "error", [LOG_L_WARN] = "warn", [LOG_L_INFO] = "info", [LOG_L_DEBUG] = "debug"};

static int level_of(const char *name)
{
	for (int i = LOG_L_ERROR; i <= LOG_L_DEBUG; i++)
		if (strcmp(levels[i], name) == 0)
			return i;
	return -1;
}

static int usage(const char *why)
{
	(void)fprintf(stderr, "receiverd: %s (see receiverd --help)\n", why);
	return EXIT_USAGE;
}

/* What the table of options cannot say. */
static const char *check(const struct conf *c)
{
	if (level_of(c->log_level) == -1)
		return "option --log-level: expected error, warn, info or debug";
	if (c->status != NULL && c->status[0] != '\0' && strcmp(c->status, "json") != 0)
		return "option --status: expected nothing or json";
	if (c->status == NULL && !c->agents)
		return "nothing to receive: give -c to listen for agents";
	return NULL;
}

static int fail(const char *err)
{
	log_error(COMPONENT, "%s", err);
	return EXIT_FAILURE;
}

static void on_term(struct ev_loop *loop, ev_signal *w, int events)
{
	struct receiver *r = w->data;

	(void)events;
	if (r->ending) { /* asked twice: at once */
		ev_break(loop, EVBREAK_ALL);
		return;
	}
	log_info(COMPONENT, "ending");
	r->ending = true;
	accept_free(&r->accept);
	lane_end(r->lane);
}

/* Read configuration and certificate again; what is wrong with either leaves the old in place. */
static void on_hup(struct ev_loop *loop, ev_signal *w, int events)
{
	struct receiver *r = w->data;
	struct conf c = {0};
	struct tls_ctx *tls;
	char err[OPT_ERR];
	int rest;

	(void)loop;
	(void)events;
	if (opt_load(receiver_options, &c, "config", DEFAULT_CONFIG, r->argc, r->argv, &rest, err) != 0) {
		log_error(COMPONENT, "not reloaded: %s", err);
	} else if (check(&c) != NULL) {
		log_error(COMPONENT, "not reloaded: %s", check(&c));
	} else if (tls_ctx_server(&tls, r->conf.state_dir, err) != 0) {
		log_error(COMPONENT, "not reloaded: %s", err);
	} else {
		tls_ctx_free(&r->tls);
		r->tls = tls;
		log_set_level((enum log_level)level_of(c.log_level));
		log_info(COMPONENT, "reloaded log level and certificate (SHA-256 %s)", tls_ctx_print(tls));
	}
	opt_free(receiver_options, &c);
}

static void watch_signals(struct receiver *r, ev_signal w[static 3])
{
	static const int signals[] = {SIGTERM, SIGINT, SIGHUP};

	(void)signal(SIGPIPE, SIG_IGN);
	for (int i = 0; i < 3; i++) {
		ev_signal_init(&w[i], signals[i] == SIGHUP ? on_hup : on_term, signals[i]);
		w[i].data = r;
		ev_signal_start(r->loop, &w[i]);
	}
}

/* LANE_SESSIONS and what else is open are more than the 1024 descriptors of most systems' soft limit. */
static void raise_limits(void)
{
	struct rlimit l;

	if (getrlimit(RLIMIT_NOFILE, &l) == 0) {
		l.rlim_cur = l.rlim_max;
		(void)setrlimit(RLIMIT_NOFILE, &l);
	}
}

/* Agents of this host are not to mirror what comes in from agents, nor what goes out to the IDS. */
static int be_known(struct receiver *r)
{
	bool shared;
	int why, ret = own_open(&r->own, OWN_PATH, &shared, &why);

	if (ret == 0 && !shared)
		log_warn_errno(COMPONENT, why, "agents of this host are not told of this receiver (%s)", OWN_PATH);
	return ret;
}

static int serve(struct receiver *r)
{
	const int caps[] = {CAP_NET_RAW,
			    CAP_NET_ADMIN}; /* an interface that comes back is opened and brought up again */
	char err[OPT_ERR];
	ev_signal signals[3];

	raise_limits();
	r->loop = ev_default_loop(EVFLAG_AUTO);
	/* the key, the interface, the ports: what needs root, in the order in which mistakes are likely */
	if (r->loop == NULL)
		return fail("cannot make an event loop");
	if (be_known(r) != 0)
		return fail("out of memory");
	if (lane_new(&r->lane, r, r->loop, err) != 0 || tls_ctx_server(&r->tls, r->conf.state_dir, err) != 0 ||
	    accept_new(&r->accept, r, err) != 0 || status_new(&r->status, r, err) != 0)
		return fail(err);
	(void)own_replay(r->own, r->lane->inject.none ? 0 : (uint32_t)r->lane->inject.nif.index);
	if (priv_drop(NULL, caps, sizeof(caps) / sizeof(caps[0])) != 0)
		return fail("cannot drop privileges");
	watch_signals(r, signals);
	log_info(COMPONENT, "receiverd %s replays to %s, MTU %u, certificate SHA-256 %s", TLSTAP_VERSION,
		 r->lane->inject.none ? "nothing" : r->conf.iface, r->lane->inject.mtu, tls_ctx_print(r->tls));
	ev_run(r->loop, 0);
	return r->exit_code;
}

static void clean_up(struct receiver *r)
{
	status_free(&r->status);
	own_close(&r->own);
	accept_free(&r->accept);
	lane_free(&r->lane);
	tls_ctx_free(&r->tls);
	opt_free(receiver_options, &r->conf);
}

int main(int argc, char **argv)
{
	struct receiver r = {.argc = argc, .argv = argv};
	char err[OPT_ERR];
	const char *wrong;
	int rest, ret;

	log_init("receiverd", LOG_L_INFO);
	if (opt_load(receiver_options, &r.conf, "config", DEFAULT_CONFIG, argc, argv, &rest, err) != 0) {
		ret = usage(err);
	} else if (r.conf.help) {
		(void)printf("Usage: receiverd -c [-o IFACE] [OPTION...]\n"
			     "Take the tunnels of agents and replay their packets for an IDS.\n\n");
		opt_help(receiver_options, stdout);
		ret = EXIT_SUCCESS;
	} else if (r.conf.version) {
		(void)printf("receiverd %s\n", TLSTAP_VERSION);
		ret = EXIT_SUCCESS;
	} else if (rest < argc) {
		(void)snprintf(err, sizeof(err), "argument \"%.100s\": there are only options", argv[rest]);
		ret = usage(err);
	} else if ((wrong = check(&r.conf)) != NULL) {
		ret = usage(wrong);
	} else if (r.conf.status != NULL) {
		ret = status_ask(r.conf.socket, r.conf.status, err) == 0 ? EXIT_SUCCESS : fail(err);
	} else {
		log_set_level((enum log_level)level_of(r.conf.log_level));
		ret = serve(&r);
	}
	clean_up(&r);
	return ret;
}
