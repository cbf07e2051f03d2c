/* SPDX-License-Identifier: Apache-2.0 */
/* main.c - agentd: the order in which things start and stop. */
#include <errno.h>
#include <net/if.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "attach.h"
#include "common/log.h"
#include "common/priv.h"
#include "conf.h"
#include "helper.h"
#include "lane.h"
#include "sink.h"
#include "status.h"

#define SETTLE_S 2.0 /* how long SIGTERM waits for connections that are being paired */
#define DRAIN_S 5.0  /* and then for the sink */

struct agent {
	struct conf conf;
	int argc;
	char **argv;
	struct ev_loop *loop;
	struct helper helper;
	struct sink *sink;
	struct lane lane;
	struct attach attach;
	struct status status;
	ev_signal term, intr, hup;
	ev_timer watch;
	bool stopping, draining;
	uint64_t settled_at; /* sweeps after which all that was written has been read */
	double stop_at;
};

static int usage(FILE *to, int code)
{
	fputs("Usage: agentd -I any -D (-t HOST[:PORT] | -o IFACE | -w FILE) [OPTION]...\n"
	      "Forge packets from the cleartext of tapped TLS sessions and carry them to an IDS.\n",
	      to);
	opt_help(conf_table, to);
	return code;
}

static struct sink *open_sink(struct agent *a, char err[static SINK_ERR])
{
	const struct conf *c = &a->conf;

	if (c->tunnel)
		return sink_tunnel(a->loop, c->tunnel, (uint32_t)c->mtu, c->queue, err);
	if (c->output)
		return sink_iface(a->loop, c->output, (uint32_t)c->mtu, c->force_output, err);
	return sink_file(a->loop, c->write, (uint32_t)c->mtu, err);
}

static const char *user_of(const struct conf *c)
{
	if (geteuid() != 0)
		return NULL;
	if (c->user)
		return c->user;
	return getpwnam("tlstap") ? "tlstap" : "nobody";
}

/* The end in three steps: nobody new; what is there is read, paired and forged; the sink gets rid of it. */
static void stop(struct agent *a)
{
	if (a->stopping)
		return;
	a->stopping = true;
	a->settled_at = a->lane.sweeps + 4;
	a->stop_at = ev_now(a->loop) + SETTLE_S;
	attach_stop(&a->attach);
	lane_wake(&a->lane);
}

static void drain(struct agent *a)
{
	a->draining = true;
	a->stop_at = ev_now(a->loop) + DRAIN_S;
	lane_stop(&a->lane);
	a->sink->ops->drain(a->sink);
}

static void on_term(struct ev_loop *loop, ev_signal *w, int events)
{
	(void)loop;
	(void)events;
	log_info("main", "stopping");
	stop(w->data);
}

/* What can change without a restart: how new connections are shown. */
static void on_hup(struct ev_loop *loop, ev_signal *w, int events)
{
	struct agent *a = w->data;
	char err[OPT_ERR];
	struct conf fresh;

	(void)loop;
	(void)events;
	if (conf_load(&fresh, a->argc, a->argv, err)) {
		log_error("main", "not reloaded, all stays as it was: %s", err);
		conf_free(&fresh);
		return;
	}
	a->conf.port_shift = fresh.port_shift;
	memcpy(a->conf.port, fresh.port, sizeof(fresh.port));
	a->conf.ports = fresh.ports;
	a->lane.flow.rotate = a->conf.rotate = fresh.rotate;
	a->lane.flow.keepalive_ns = fresh.keepalive * 1000000000ull;
	log_set_level(fresh.verbose ? LOG_L_DEBUG : LOG_L_INFO);
	log_info("main", "reloaded ports, --rotate, --keepalive and --verbose; all else needs a restart");
	conf_free(&fresh);
}

static void on_watch(struct ev_loop *loop, ev_timer *w, int events)
{
	struct agent *a = w->data;

	(void)events;
	if (a->stopping && !a->draining &&
	    ((a->lane.sweeps >= a->settled_at && lane_quiet(&a->lane)) || ev_now(loop) >= a->stop_at))
		drain(a);
	if (a->sink->failed || (a->draining && (a->sink->drained || ev_now(loop) >= a->stop_at)))
		ev_break(loop, EVBREAK_ALL);
}

static void watch(struct agent *a)
{
	signal(SIGPIPE, SIG_IGN);
	ev_signal_init(&a->term, on_term, SIGTERM);
	ev_signal_init(&a->intr, on_term, SIGINT);
	ev_signal_init(&a->hup, on_hup, SIGHUP);
	ev_timer_init(&a->watch, on_watch, 0.05, 0.05);
	a->term.data = a->intr.data = a->hup.data = a->watch.data = a;
	ev_signal_start(a->loop, &a->term);
	ev_signal_start(a->loop, &a->intr);
	ev_signal_start(a->loop, &a->hup);
	ev_timer_start(a->loop, &a->watch);
}

/* A short slice gets us onto a core soon, without a larger share of it (sched_setattr(2), Linux 6.12): what a process
 * says of its sockets must be looked up while they exist. */
static void be_prompt(void)
{
	struct {
		uint32_t size, policy;
		uint64_t flags;
		int32_t nice;
		uint32_t priority;
		uint64_t runtime, deadline, period;
	} attr = {.size = sizeof(attr), .runtime = 100000};

	(void)syscall(SYS_sched_setattr, 0, &attr, 0);
}

/* Each process costs two descriptors: as many as we may have. */
static void many_descriptors(void)
{
	struct rlimit files;

	if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
		files.rlim_cur = files.rlim_max;
		(void)setrlimit(RLIMIT_NOFILE, &files);
	}
}

static int fail(const char *what)
{
	log_error("main", "%s", what);
	return 1;
}

static int run(struct agent *a)
{
	char err[SINK_ERR > ATTACH_ERR ? SINK_ERR : ATTACH_ERR] = "";
	int ret;

	if (strcmp(a->conf.interface, "any") != 0 && !if_nametoindex(a->conf.interface)) {
		log_error("main", "-I %s: there is no such interface", a->conf.interface);
		return 1;
	}
	be_prompt();
	many_descriptors();
	/* the helper first: it must hold no descriptor of ours */
	ret = helper_start(&a->helper, user_of(&a->conf), false);
	if (ret) {
		log_error_errno("helper", -ret, "cannot start");
		return 1;
	}
	a->loop = ev_default_loop(EVFLAG_AUTO);
	if (!a->loop)
		return fail("no event loop");
	a->sink = open_sink(a, err);
	if (!a->sink)
		return fail(err);
	if (attach_init(&a->attach, a->conf.socket, err) || status_init(&a->status, a->conf.socket, err))
		return fail(err);
	ret = priv_drop(user_of(&a->conf), NULL, 0);
	if (ret) {
		log_error_errno("main", -ret, "cannot become user %s (see --user)", user_of(&a->conf));
		return 1;
	}
	ret = lane_init(&a->lane, a->loop, &a->conf, a->sink, &a->helper);
	if (ret) {
		log_error_errno("lane", -ret, "cannot start");
		return 1;
	}
	watch(a);
	/* the mappings of a predecessor before new processes come */
	(void)helper_adopt(&a->helper, 0);
	(void)helper_flush(&a->helper);
	attach_start(&a->attach, &a->lane, a->conf.pool_size);
	status_start(&a->status, &a->lane, &a->attach);
	log_info("main", "agentd %s serves %s", TLSTAP_VERSION, a->conf.socket);
	ev_run(a->loop, 0);
	status_stop(&a->status);
	ret = a->sink->failed || a->lane.failed;
	a->sink->ops->free(a->sink);
	helper_stop(&a->helper);
	return ret;
}

int main(int argc, char **argv)
{
	static struct agent agent;
	char err[OPT_ERR];

	agent.argc = argc;
	agent.argv = argv;
	if (conf_load(&agent.conf, argc, argv, err)) {
		fprintf(stderr, "agentd: %s\n", err);
		return 2;
	}
	if (agent.conf.help)
		return usage(stdout, 0);
	if (agent.conf.version) {
		printf("agentd %s\n", TLSTAP_VERSION);
		return 0;
	}
	if (agent.conf.status)
		return status_show(agent.conf.socket, *agent.conf.status);
	log_init("agentd", agent.conf.verbose ? LOG_L_DEBUG : LOG_L_INFO);
	return run(&agent);
}
