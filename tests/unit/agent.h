/* SPDX-License-Identifier: Apache-2.0 */
/* agent.h - a lane of agentd without processes, network and clock: what test_order.c and test_torture.c drive.
 *
 * lane.c and conn.c are the real ones with a clock of ours and an ear at flow_data(); tap.c, family.c, pair.c are
 * linked. The helper stands here and answers as it is told; the sink takes batches while it has credit. */
#ifndef TLSTAP_TEST_AGENT_H
#define TLSTAP_TEST_AGENT_H

#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <sys/eventfd.h>
#include <time.h>

#include <cmocka.h>

#include "agentd/conn.h"
#include "agentd/family.h"
#include "agentd/pair.h"
#include "pattern.h"

/* --- clock --------------------------------------------------------------------------------------- */

static uint64_t agent_now = 1000000000000ull;

static int agent_clock(clockid_t clock, struct timespec *ret)
{
	uint64_t now = agent_now + (clock == CLOCK_REALTIME ? 1700000000000000000ull : 0);

	ret->tv_sec = (time_t)(now / 1000000000u);
	ret->tv_nsec = (long)(now % 1000000000u);
	return 0;
}

/* --- what becomes of the bytes --------------------------------------------------------------------- */

#define STREAMS 65536u

/* By client random: connection n has n in its first 8 bytes. */
static struct {
	uint64_t end[2];   /* by side: offset up to which was forged or lost */
	uint64_t bytes[2]; /* forged into the flow */
	unsigned pieces;
} stream[STREAMS];
static uint64_t overlaps, corrupt; /* bytes */
static void (*on_forge)(const struct conn *c, enum side side, uint64_t off, size_t len);

static ssize_t agent_flow_data(struct flow *f, const struct flow_conf *conf, enum side side, const uint8_t *data,
			       size_t len, bool cont, uint64_t ts_ns, struct batch *b)
{
	struct conn *c = (struct conn *)((uint8_t *)f - offsetof(struct conn, flow));
	uint64_t off = c->off[side], id = c->random8 % STREAMS;

	if (memcmp(data, pattern(id, side, off), len) != 0)
		corrupt += len;
	if (off < stream[id].end[side])
		overlaps += len;
	stream[id].end[side] = off + len;
	stream[id].bytes[side] += len;
	stream[id].pieces++;
	if (on_forge)
		on_forge(c, side, off, len);
	return flow_data(f, conf, side, data, len, cont, ts_ns, b);
}

#define clock_gettime agent_clock
#define on_timer lane_on_timer
#include "agentd/lane.c"
#undef on_timer
#undef clock_gettime
#define flow_data agent_flow_data
#include "agentd/conn.c"
#undef flow_data
#include "common/shm.c"

/* --- sink ------------------------------------------------------------------------------------------ */

static bool sink_has_credit = true;
static int sink_batches = -1; /* credit for so many; -1: any number */

static bool sink_credit(struct sink *s)
{
	(void)s;
	return sink_has_credit && sink_batches != 0;
}

static void sink_put(struct sink *s, const struct batch *b)
{
	assert_true(sink_credit(s)); /* nothing is forged without */
	if (sink_batches > 0)
		sink_batches--;
	s->n.put += b->payload;
	s->n.acked += b->payload;
	s->n.frames += b->n;
}

static void sink_describe(struct sink *s, char *ret, size_t size)
{
	(void)s;
	snprintf(ret, size, "a test's");
}

static const struct sink_ops sink_ops = {.name = "test",
					 .credit = sink_credit,
					 .put = sink_put,
					 .describe = sink_describe};

/* --- helper ---------------------------------------------------------------------------------------- */

#define ASKED_MAX 1024u

static struct helper_event asked[ASKED_MAX];
static unsigned asked_n;
static bool scan_asked;
static enum helper_result verdict_is = HELPER_R_LIVE, exists_is = HELPER_R_LIVE;
static uint64_t exists_cookie = 1; /* the socket that has these addresses now */
static int32_t sock_pid_is;	   /* who has the socket, by VERIFY's answer; 0: we */
static bool helper_is_slow;	   /* answers wait for answer() */

int helper_verify(struct helper *h, uint64_t cookie, const struct helper_pid *p, size_t n, int fd_hint,
		  const struct endpoint *e)
{
	(void)h;
	(void)p;
	(void)n;
	(void)fd_hint;
	if (asked_n == ASKED_MAX)
		return -EAGAIN;
	asked[asked_n++] = (struct helper_event){.type = HELPER_VERIFY,
						 .cookie = cookie,
						 .e = *e,
						 .sock_pid = sock_pid_is ? sock_pid_is : getpid(),
						 .fd = -1};
	return 0;
}

int helper_verify_child(struct helper *h, uint64_t cookie, const struct helper_id *file, const struct helper_pid *p,
			size_t n, int fd_hint, const struct endpoint *e)
{
	(void)file;
	return helper_verify(h, cookie, p, n, fd_hint, e);
}

/* What nobody waits for needs no answer. */
int helper_exists(struct helper *h, uint64_t cookie, const struct endpoint *e)
{
	(void)h;
	if (cookie == 0)
		return 0;
	if (asked_n == ASKED_MAX)
		return -EAGAIN;
	asked[asked_n++] = (struct helper_event){.type = HELPER_EXISTS, .cookie = cookie, .e = *e, .fd = -1};
	return 0;
}

int helper_proc(struct helper *h, uint64_t cookie, const struct helper_pid *p)
{
	(void)h;
	(void)cookie;
	(void)p;
	return 0;
}

int helper_brief(struct helper *h, uint64_t cookie, const struct helper_pid *p)
{
	return helper_proc(h, cookie, p);
}

int helper_look(struct helper *h, uint64_t cookie, const struct helper_pid *p)
{
	return helper_proc(h, cookie, p);
}

int helper_peer(struct helper *h, uint64_t cookie, const struct helper_pid *p, size_t n, const struct endpoint *e)
{
	(void)h;
	(void)cookie;
	(void)p;
	(void)n;
	(void)e;
	return -EAGAIN;
}

int helper_whose(struct helper *h, uint64_t cookie, const struct endpoint *e)
{
	(void)h;
	(void)cookie;
	(void)e;
	return -EAGAIN;
}

int helper_netns_pid(struct helper *h, uint64_t cookie, int32_t pid)
{
	(void)h;
	(void)cookie;
	(void)pid;
	return -EAGAIN;
}

int helper_netns_name(struct helper *h, uint64_t cookie, const char *name)
{
	(void)h;
	(void)cookie;
	(void)name;
	return -EAGAIN;
}

int helper_netns_close(struct helper *h, uint64_t netns)
{
	(void)h;
	(void)netns;
	return 0;
}

int helper_family(struct helper *h, uint64_t cookie, const struct helper_id *id, size_t n)
{
	(void)h;
	(void)cookie;
	(void)id;
	(void)n;
	scan_asked = true;
	return 0;
}

int helper_flush(struct helper *h)
{
	(void)h;
	return 0;
}

int helper_poll(struct helper *h, unsigned max, helper_cb cb, void *arg)
{
	(void)h;
	(void)max;
	(void)cb;
	(void)arg;
	return 0;
}

/* --- lane ------------------------------------------------------------------------------------------ */

static struct lane lane;
static struct wire wire; /* silent: it shows nothing */
static struct sink sink = {.ops = &sink_ops, .mtu = 1500};
static struct helper fake_helper;
static char on_any[] = "any", test_socket[] = "/test";
static struct conf conf = {.interface = on_any,
			   .port_shift = 4,
			   .rotate = 800000,
			   .keepalive = 100,
			   .socket = test_socket};
static struct ev_loop *loop;

static void agent_start(void)
{
	loop = loop ? loop : ev_loop_new(EVFLAG_AUTO);
	assert_non_null(loop);
	fake_helper.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	memset(&sink.n, 0, sizeof(sink.n));
	memset(stream, 0, sizeof(stream));
	overlaps = corrupt = asked_n = 0;
	sink_has_credit = true;
	sink_batches = -1;
	verdict_is = exists_is = HELPER_R_LIVE;
	exists_cookie = 1;
	helper_is_slow = scan_asked = false;
	on_forge = NULL;
	assert_int_equal(lane_init(&lane, loop, &conf, &sink, &fake_helper), 0);
	memset(&wire, 0, sizeof(wire));
	wire.lane = &lane;
	pthread_mutex_init(&wire.lock, NULL);
	lane.wire = &wire;
}

/* Process @pid got a mapping of @chunks chunks. */
static __attribute__((unused)) struct family *new_family(uint32_t chunks, pid_t pid)
{
	struct newcomer *n = calloc(1, sizeof(*n));

	assert_non_null(n);
	n->pid = pid;
	n->pidfd = -1;
	n->id = ++lane.family_id;
	n->rules = lane.rules;
	assert_int_equal(quota_take(&lane.quota, pid, 0), 0);
	assert_int_equal(shm_create(&n->r, chunks, n->id, lane.instance), 0);
	assert_int_equal(family_new(&lane, n), 0);
	return lane.families;
}

/* Dies as by SIGKILL: what it knew is gone, the mappings' files stay with whom has them. */
static void agent_kill(void)
{
	for (unsigned i = 0; i < BUCKETS; i++)
		while (lane.conns[i]) {
			struct conn *c = lane.conns[i];

			lane.conns[i] = c->next;
			ev_timer_stop(loop, &c->timer);
			free(c);
		}
	while (lane.families) {
		struct family *f = lane.families;

		lane.families = f->next;
		for (uint32_t i = 0; i < f->taps_n; i++)
			if (f->taps[i])
				tap_free(f->taps[i]);
		while (f->member_n) {
			struct member *m = f->member[--f->member_n];

			if (m->pidfd != -1) {
				ev_io_stop(loop, &m->io);
				close(m->pidfd);
			}
			free(m);
		}
		free(f->member);
		free(f->taps);
		shm_reader_fini(&f->r);
		free(f);
	}
	ev_io_stop(loop, &lane.timer_io);
	ev_io_stop(loop, &lane.helper_io);
	close(lane.timer_fd);
	close(fake_helper.fd);
	free(lane.copy);
	free(lane.conns);
	free(lane.shown);
	free(lane.by_end);
	batch_fini(&lane.batch);
}

/* Give the helper's answers. A look through all processes finds nobody. */
static void answer(void)
{
	unsigned n = asked_n;
	struct helper_event *e = malloc(sizeof(asked));

	memcpy(e, asked, n * sizeof(*e));
	asked_n = 0;
	for (unsigned i = 0; i < n; i++) {
		const struct family *f = family_find(&lane, family_of_cookie(e[i].cookie));
		bool exists = e[i].type == HELPER_EXISTS;

		e[i].result = exists ? exists_is : verdict_is;
		e[i].sock_cookie = exists ? exists_cookie : 1;
		e[i].e.netns = f ? f->netns : 0;
		pair_on_answer(&lane, &e[i]);
	}
	free(e);
	if (scan_asked) {
		struct helper_event done = {.type = HELPER_FAMILY, .result = HELPER_R_OK, .last = true, .fd = -1};

		scan_asked = false;
		family_on_answer(&lane, &done);
	}
}

/* The equations of account.h. @rest: nothing may be on its way. */
static void balanced(bool rest)
{
	const struct account *a = &lane.sum;
	uint64_t decided =
		a->taken + a->pool_full + a->stripes_busy + a->no_slot + a->died + a->sendfile + a->predecessor;
	uint64_t reported = lane.ended_reported;

	for (struct family *f = lane.families; f; f = f->next)
		reported += family_reported(f);
	if (reported < decided || (rest && reported != decided))
		fail_msg("reported %" PRIu64 ", decided %" PRIu64 ": taken %" PRIu64 " full %" PRIu64 " busy %" PRIu64
			 " died %" PRIu64 " sendfile %" PRIu64 " predecessor %" PRIu64,
			 reported, decided, a->taken, a->pool_full, a->stripes_busy, a->died, a->sendfile,
			 a->predecessor);
	assert_int_equal(a->taken, a->forged_in + a->held + a->duplicate + a->unpaired + a->no_room + a->unverified +
					   a->not_tcp + a->collision + a->denied + a->early_rejected);
	assert_int_equal(a->forged_in, a->forged + a->resync + a->queued);
	assert_int_equal(a->forged, sink.n.put + lane.batch.payload);
	if (rest)
		assert_true(a->held == 0 && a->queued == 0 && lane.batch.payload == 0);
	assert_int_equal(corrupt, 0);
	assert_int_equal(overlaps, 0);
}

/* One turn of the lane's loop. */
static void turn(void)
{
	agent_now += 200000;
	sweep(&lane);
	if (!helper_is_slow)
		answer();
	balanced(false);
}

static __attribute__((unused)) void turns(unsigned n)
{
	while (n--)
		turn();
}

/* Let @ms pass, and what was to happen meanwhile happen. */
static __attribute__((unused)) void pass(uint64_t ms)
{
	turns(2);
	agent_now += ms * MS;
	lane_clock(&lane);
	for (unsigned i = 0; i < BUCKETS; i++)
		for (struct conn *c = lane.conns[i], *next; c; c = next) {
			next = c->next;
			if (!c->armed || ((!c->end_ns || c->end_ns > agent_now) && c->flow.due_ns > agent_now))
				continue;
			ev_timer_stop(loop, &c->timer);
			ev_invoke(loop, &c->timer, EV_TIMER);
		}
	turns(4);
}

#endif
