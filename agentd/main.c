/* SPDX-License-Identifier: Apache-2.0 */
/* main.c - agentd: the order in which things start and stop. */
#include <errno.h>
#include <net/if.h>
#include <pwd.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "attach.h"
#include "common/log.h"
#include "common/priv.h"
#include "capture.h"
#include "common/own.h"
#include "common/rtnl.h"
#include "conf.h"
#include "helper.h"
#include "lane.h"
#include "offswitch.h"
#include "policy.h"
#include "realtime.h"
#include "sessions.h"
#include "sink.h"
#include "status.h"
#include "wire.h"

#define SETTLE_S 2.0	  /* how long SIGTERM waits for connections that are being paired */
#define DRAIN_S 5.0	  /* and then for the sink */
#define READER_NICE (-10) /* of the thread that reads handshakes: it inherits what we are when it starts */
#define BEAT_S 1.0	  /* how often other daemons of this host are told what is ours */

struct agent {
	struct conf conf;
	struct policy policy;
	int argc;
	char **argv;
	struct ev_loop *loop;
	struct helper helper;
	struct helper doorman; /* looks at who attaches */
	struct sink *sink;
	struct own *own;
	struct sessions *sessions; /* NULL without a tap */
	struct wire wire;
	struct capture *capture; /* NULL: no packets are mirrored */
	struct lane lane;
	struct attach attach;
	struct offswitch offswitch;
	struct status status;
	ev_signal term, intr, hup;
	ev_timer watch;
	bool stopping, draining;
	int nice;	     /* as we were started */
	uint64_t settled_at; /* sweeps after which all that was written has been read */
	double stop_at, beat_at;
};

static int usage(FILE *to, int code)
{
	fputs("Usage: agentd (-I IFACE [-D] | -i IFACE) (-t HOST[:PORT] | -o IFACE | -w FILE) [OPTION]...\n"
	      "Mirror an interface, and forge packets from the cleartext of tapped TLS sessions, for an IDS.\n",
	      to);
	opt_help(conf_table, to);
	return code;
}

static struct sink *open_sink(struct agent *a, char err[static SINK_ERR])
{
	const struct conf *c = &a->conf;

	if (c->tunnel)
		return sink_tunnel(a->loop, c->tunnel, (uint32_t)c->mtu, c->queue, a->own, err);
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
	log_info("main", "stopping");
	a->stopping = true;
	a->settled_at = a->lane.sweeps + 4;
	a->stop_at = ev_now(a->loop) + SETTLE_S;
	if (a->conf.interface) {
		offswitch_stop(&a->offswitch);
		attach_stop(&a->attach);
	}
	if (a->capture)
		capture_end(a->capture);
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
	stop(w->data);
}

/* All processes are judged anew. Who attaches meanwhile does not wait until the new rules are made. */
static int reload_rules(struct agent *a, const struct conf *conf, char err[static POLICY_ERR])
{
	struct policy old, fresh;
	int ret = policy_make(&fresh, &a->policy, conf->rules, err);

	if (ret)
		return ret;
	if (a->conf.interface)
		attach_lock(&a->attach);
	old = a->policy;
	a->policy = fresh;
	a->lane.rules++;
	if (a->conf.interface)
		attach_unlock(&a->attach);
	policy_free(&old);
	return 0;
}

/* What can change without a restart: how new connections are shown, and which processes are tapped. */
static void on_hup(struct ev_loop *loop, ev_signal *w, int events)
{
	struct agent *a = w->data;
	char err[OPT_ERR > POLICY_ERR ? OPT_ERR : POLICY_ERR];
	struct conf fresh;

	(void)loop;
	(void)events;
	if (conf_load(&fresh, a->argc, a->argv, err) || reload_rules(a, &fresh, err)) {
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
	log_info("main", "reloaded --deny, --allow, --isolate, ports, --rotate, --keepalive and --verbose; all else "
			 "needs a restart");
	conf_free(&fresh);
}

/* What the receiver is to know of our losses before the sink. */
static void tell_drops(struct agent *a)
{
	struct capture_count n;

	a->sink->hello_drops = a->wire.drops;
	if (!a->capture)
		return;
	capture_count(a->capture, &n);
	a->sink->captured = n.seen;
	a->sink->capture_drops = n.kernel_drops;
}

static bool settled(const struct agent *a)
{
	return a->lane.sweeps >= a->settled_at && lane_quiet(&a->lane) && (!a->capture || capture_ended(a->capture));
}

static void on_watch(struct ev_loop *loop, ev_timer *w, int events)
{
	struct agent *a = w->data;

	(void)events;
	if (ev_now(loop) >= a->beat_at) {
		a->beat_at = ev_now(loop) + BEAT_S;
		lane_clock(&a->lane);
		own_beat(a->own, a->lane.now_ns);
		own_refresh(a->own, a->lane.now_ns);
		if (a->conf.output) /* it may have been made anew */
			(void)own_replay(a->own, if_nametoindex(a->conf.output));
		tell_drops(a);
	}
	if (a->stopping && !a->draining && (settled(a) || ev_now(loop) >= a->stop_at))
		drain(a);
	if (a->attach.failed && !a->lane.failed) {
		log_error("helper", "a helper process has died: agentd ends, start it again");
		a->lane.failed = true;
	}
	if (a->sink->failed || a->lane.failed || (a->draining && (a->sink->drained || ev_now(loop) >= a->stop_at)))
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

/* What the thread that reads handshakes inherits (wire.c): it is started without privileges, and these need some. */
static void hurry(void)
{
	const struct sched_param real_time = {.sched_priority = 1};
	const struct rlimit again = {.rlim_cur = 1, .rlim_max = 1};

	(void)setpriority(PRIO_PROCESS, 0, READER_NICE);
	(void)setrlimit(RLIMIT_RTPRIO, &again);
	(void)sched_setscheduler(0, SCHED_FIFO, &real_time);
}

/* Who looks up what a process says of its sockets must have its turn while they exist. */
static void no_hurry(int nice_was)
{
	(void)realtime_leave(nice_was);
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

/* What other agents of this host must not mirror, and what we must not. */
static int open_own(struct agent *a)
{
	bool shared;
	int why, ret = own_open(&a->own, OWN_PATH, &shared, &why);

	if (!ret && !shared)
		log_warn_errno("own", why, "%s: other agents of this host will not know our traffic from theirs",
			       OWN_PATH);
	return ret;
}

/* The interface that we replay to, and those that are joined to it, must not be what is captured. */
static int know_output(struct agent *a, char err[static WIRE_ERR])
{
	const char *captured = conf_captured(&a->conf), *output = a->conf.output;
	unsigned found = own_replay(a->own, if_nametoindex(output)), n;
	char name[IF_NAMESIZE], list[200] = "";
	uint32_t seen[OWN_INTERFACES];
	struct rtnl_link l;

	if (!captured)
		return 0;
	if (!a->conf.filter && rtnl_link(output, &l) == 0 && l.kind == JOINED_TUNNEL) {
		snprintf(err, WIRE_ERR,
			 "-o %s is a tunnel: its packets would be captured and replayed again; leave them out with -p",
			 output);
		return -ELOOP;
	}
	n = own_replays(a->own, seen, OWN_INTERFACES);
	for (unsigned i = 1; i < n; i++) {
		if (!if_indextoname(seen[i], name))
			continue;
		if (strcmp(name, captured) == 0) {
			snprintf(err, WIRE_ERR,
				 "-o %s: what is replayed there is seen on %s too, and would be captured again", output,
				 name);
			return -ELOOP;
		}
		if (strlen(list) + strlen(name) + 2 < sizeof(list))
			strcat(strcat(list, " "), name);
	}
	if (*list && strcmp(captured, "any") == 0)
		log_info("main", "what is replayed to %s is also seen on%s%s: nothing is mirrored of these", output,
			 list, found > n ? " and more, of which we know nothing" : "");
	return 0;
}

/* What sees handshakes: the helper first, for it must hold no descriptor of ours. */
static int open_tap(struct agent *a, char err[static WIRE_ERR])
{
	struct conf *c = &a->conf;
	int ret;

	if (strcmp(c->interface, "any") != 0 && !if_nametoindex(c->interface)) {
		snprintf(err, WIRE_ERR, "-I %.64s: there is no such interface", c->interface);
		return -ENODEV;
	}
	ret = helper_start(&a->helper, user_of(c), c->netns.n > 0);
	if (!ret) {
		hurry(); /* it inherits that */
		ret = helper_start_brief(&a->doorman, user_of(c));
		no_hurry(a->nice);
	}
	if (ret) {
		snprintf(err, WIRE_ERR, "the helper process cannot start: %s", strerror(-ret));
		return ret;
	}
	ret = attach_init(&a->attach, c->socket, err); /* is another one running? Then nothing of its is touched */
	a->attach.netns_all = c->netns_all;
	if (!ret)
		ret = sessions_new(&a->sessions, c->effectiveness.item, c->effectiveness.n, &a->helper, err);
	if (!ret)
		ret = wire_open(&a->wire, c->socket, a->sessions, a->own, err);
	if (!ret)
		ret = wire_open_netns(&a->wire, &a->helper, &c->netns, err);
	return ret;
}

/* All that needs root. */
static int open_all(struct agent *a, char err[static WIRE_ERR])
{
	const struct conf *c = &a->conf;
	int ret = open_own(a);

	if (ret) {
		snprintf(err, WIRE_ERR, "out of memory");
		return ret;
	}
	if (c->interface && (ret = open_tap(a, err)) != 0)
		return ret;
	if (conf_captured(c) &&
	    (ret = capture_open(&a->capture, conf_captured(c), c->filter, c->buffer_size, a->own, err)) != 0)
		return ret;
	a->loop = ev_default_loop(EVFLAG_AUTO);
	if (!a->loop) {
		snprintf(err, WIRE_ERR, "no event loop");
		return -ENOMEM;
	}
	a->sink = open_sink(a, err);
	if (!a->sink)
		return -EINVAL;
	if (c->output && (ret = know_output(a, err)) != 0)
		return ret;
	return status_init(&a->status, c->socket, err);
}

static int start(struct agent *a)
{
	struct lane *l = &a->lane;
	int ret;

	watch(a);
	if (a->conf.interface) {
		l->wire = &a->wire;
		l->attach = &a->attach;
		l->policy = &a->policy;
		l->rules = 1;
		/* the mappings of a predecessor before new processes come */
		(void)helper_adopt(&a->helper, 0);
		(void)helper_flush(&a->helper);
		offswitch_start(&a->offswitch, a->conf.disable_file, l, &a->attach);
		ret = wire_start(&a->wire, l);
		if (!ret)
			ret = attach_start(&a->attach, l, &a->doorman, a->conf.pool_size);
		no_hurry(a->nice);
		if (ret)
			return ret;
	}
	if (a->capture) {
		l->capture = a->capture;
		capture_start(a->capture, l);
	}
	l->status = &a->status;
	status_start(&a->status, l, a->conf.interface ? &a->attach : NULL);
	return 0;
}

static int run(struct agent *a)
{
	char err[WIRE_ERR > ATTACH_ERR ? WIRE_ERR : ATTACH_ERR] = "";
	int ret;

	a->nice = getpriority(PRIO_PROCESS, 0);
	no_hurry(a->nice);
	many_descriptors();
	if (open_all(a, err)) {
		log_error("main", "%s", err);
		return 1;
	}
	if (a->conf.interface)
		hurry();
	ret = priv_drop(user_of(&a->conf), NULL, 0);
	if (ret) {
		log_error_errno("main", -ret, "cannot become user %s (see --user)", user_of(&a->conf));
		return 1;
	}
	ret = a->conf.interface ? offswitch_check(a->conf.disable_file) : 0;
	if (ret) { /* a switch that cannot be seen is none */
		log_error_errno("main", -ret, "--disable-file %s cannot be looked for by user %u (see --user)",
				a->conf.disable_file, (unsigned)geteuid());
		return 1;
	}
	ret = lane_init(&a->lane, a->loop, &a->conf, a->sink, a->conf.interface ? &a->helper : NULL);
	if (ret) {
		log_error_errno("lane", -ret, "cannot start");
		return 1;
	}
	ret = start(a);
	if (ret) {
		log_error_errno("main", -ret, "cannot start a thread");
		return 1;
	}
	log_info("main", "agentd %s serves %s", TLSTAP_VERSION, a->conf.socket);
	ev_run(a->loop, 0);
	status_stop(&a->status);
	ret = a->sink->failed || a->lane.failed;
	a->sink->ops->free(a->sink);
	capture_close(&a->capture);
	if (a->conf.interface) {
		wire_close(&a->wire);
		sessions_free(&a->sessions);
		helper_stop(&a->helper);
		helper_stop(&a->doorman);
	}
	own_close(&a->own);
	policy_free(&a->policy);
	return ret;
}

int main(int argc, char **argv)
{
	static struct agent agent;
	char err[OPT_ERR > POLICY_ERR ? OPT_ERR : POLICY_ERR];

	agent.argc = argc;
	agent.argv = argv;
	if (conf_load(&agent.conf, argc, argv, err) || policy_load(&agent.policy, agent.conf.rules, err)) {
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
		return status_show(agent.conf.socket, agent.conf.status);
	log_init("agentd", agent.conf.verbose ? LOG_L_DEBUG : LOG_L_INFO);
	return run(&agent);
}
