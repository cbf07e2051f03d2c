/* SPDX-License-Identifier: Apache-2.0 */
/* test_tunnel.c - the sinks of agentd, on a loop of their own: the tunnel against a receiver that does as it is told
 * (in a thread), the file against pipes and full disks. After every step put = acked + in_flight + backlog +
 * unknown. */
#include <arpa/inet.h>
#include <errno.h>
#include <ev.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "agentd/sink.h"
#include "common/identity.h"
#include "common/local.h"
#include "common/pcapng.h"
#include "common/tls.h"

#define WAIT_S 10.0

/* --- a receiver --- */

enum manner {
	KIND,	 /* hello, ACK of all that came */
	NATIVE,	 /* reads, says nothing */
	LAZY,	 /* hello, reads, acknowledges nothing */
	DEAF,	 /* hello, then reads nothing */
	REFUSES, /* hello with a refusal */
	RUDE,	 /* garbage instead of a hello */
	LATE,	 /* as KIND, after more than the second that an agent waits */
	FLOODS,	 /* hello, then heartbeats without end */
};

static struct {
	pthread_t thread;
	int listener;
	char at[32];
	_Atomic enum manner manner;
	uint32_t mtu;
	atomic_bool stop;      /* hang up on the one that is connected */
	atomic_ullong frames;  /* read */
	atomic_uint connected; /* connections that got through TLS */
	atomic_uint hellos;
	struct tls_ctx *ctx;
} rx;

static void say(struct tls *t, const struct local_msg *m, bool begin)
{
	uint8_t buf[PCAPNG_HEAD + LOCAL_BLOCK_MAX];
	size_t len = 0, n;

	if (begin)
		pcapng_head(buf);
	len = (begin ? PCAPNG_HEAD : 0) + local_write(m, buf + (begin ? PCAPNG_HEAD : 0));
	(void)tls_write(t, buf, len, &n);
	(void)tls_flush(t);
}

static void greet(struct tls *t)
{
	struct local_msg m = {.kind = BLOCK_HELLO, .hello = {.proto = 1, .version = "t", .host = "rx", .mtu = rx.mtu}};
	size_t n;

	atomic_fetch_add(&rx.hellos, 1);
	if (rx.manner == NATIVE)
		return;
	if (rx.manner == RUDE) {
		(void)tls_write(t, "\x0a\x0d\x0d\x0a\xff\xff\xff\xff\xff\xff\xff\xff", 12, &n);
		(void)tls_flush(t);
		return;
	}
	if (rx.manner == LATE)
		(void)usleep(1300000);
	if (rx.manner == REFUSES)
		(void)snprintf(m.hello.refusal, sizeof(m.hello.refusal), "we do not like you");
	say(t, &m, true);
}

static void flood(struct tls *t)
{
	static uint8_t buf[60000];
	size_t len = 0, n;
	enum tls_ret r = TLS_OK;

	while (len + LOCAL_BLOCK_MAX <= sizeof(buf))
		len += local_write(&(struct local_msg){.kind = BLOCK_HEARTBEAT}, buf + len);
	for (size_t off = 0; !atomic_load(&rx.stop) && (r == TLS_OK || r == TLS_WANT_WRITE); off = (off + n) % len)
		r = tls_write(t, buf + off, len - off, &n);
}

static void serve(struct tls *t, int fd)
{
	static uint8_t buf[300000];
	struct pcapng p = {0};
	struct pcapng_block b;
	uint64_t done = 0;
	bool greeted = false; /* a receiver never speaks first */
	size_t len = 0, off, n;
	enum tls_ret r = TLS_WANT_READ;

	while (!atomic_load(&rx.stop) && r != TLS_CLOSED && r != TLS_FAILED) {
		struct pollfd w = {.fd = fd, .events = POLLIN};
		ssize_t k;

		(void)poll(&w, 1, 5);
		if (rx.manner == DEAF && atomic_load(&rx.hellos) > 0)
			continue;
		r = tls_read(t, buf + len, sizeof(buf) - len, &n);
		len += n;
		for (off = 0; (k = pcapng_next(&p, buf + off, len - off, &b)) > 0; off += (size_t)k) {
			struct local_msg m = {0};

			if (b.kind == PCAPNG_PACKET)
				atomic_fetch_add(&rx.frames, 1);
			if (b.kind == PCAPNG_LOCAL && local_parse(b.body, &m) == 0 && m.kind == BLOCK_HELLO) {
				greet(t);
				greeted = true;
				if (rx.manner == FLOODS)
					flood(t);
			}
		}
		memmove(buf, buf + off, len - off);
		len -= off;
		done += off;
		if ((rx.manner == KIND || rx.manner == LATE) && off > 0 && greeted)
			say(t, &(struct local_msg){.kind = BLOCK_ACK, .ack = done}, false);
	}
}

static void *receiver(void *arg)
{
	int fd;

	(void)arg;
	while ((fd = accept4(rx.listener, NULL, NULL, SOCK_NONBLOCK)) != -1) {
		struct pollfd w = {.fd = fd, .events = POLLIN};
		struct tls *t = NULL;
		enum tls_ret r;

		atomic_store(&rx.stop, false);
		if (tls_new(&t, rx.ctx, fd, NULL) == 0) {
			while ((r = tls_handshake(t)) == TLS_WANT_READ)
				(void)poll(&w, 1, 1000);
			if (r == TLS_OK) {
				atomic_fetch_add(&rx.connected, 1);
				serve(t, fd);
			}
		}
		tls_free(&t);
		close(fd);
	}
	return NULL;
}

static void start_receiver(enum manner manner, uint16_t port)
{
	struct sockaddr_in sa = {.sin_family = AF_INET, .sin_port = htons(port)};
	socklen_t len = sizeof(sa);
	int on = 1;

	sa.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	rx.manner = manner;
	rx.mtu = 1400;
	atomic_store(&rx.frames, 0);
	atomic_store(&rx.connected, 0);
	atomic_store(&rx.hellos, 0);
	rx.listener = socket(AF_INET, SOCK_STREAM, 0);
	(void)setsockopt(rx.listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	assert_int_equal(bind(rx.listener, (struct sockaddr *)&sa, sizeof(sa)), 0);
	assert_int_equal(listen(rx.listener, 5), 0);
	assert_int_equal(getsockname(rx.listener, (struct sockaddr *)&sa, &len), 0);
	(void)snprintf(rx.at, sizeof(rx.at), "127.0.0.1:%u", ntohs(sa.sin_port));
	assert_int_equal(pthread_create(&rx.thread, NULL, receiver, NULL), 0);
}

static void stop_receiver(void)
{
	atomic_store(&rx.stop, true);
	(void)shutdown(rx.listener, SHUT_RDWR);
	pthread_join(rx.thread, NULL);
	close(rx.listener);
}

/* --- the agent's side --- */

static struct ev_loop *loop;
static struct sink *s;
static struct batch b;
static char err[SINK_ERR], dir[] = "test_tunnel.XXXXXX";

static void balanced(void)
{
	assert_true(s->n.put == s->n.acked + s->n.in_flight + s->n.backlog + s->n.unknown);
}

static void on_step(struct ev_loop *l, ev_timer *w, int events)
{
	(void)events;
	(void)w;
	ev_break(l, EVBREAK_ONE);
}

/* Let the loop run until @what or for WAIT_S. */
static bool wait_for(bool (*what)(void))
{
	ev_timer t;
	ev_tstamp end = ev_time() + WAIT_S;
	bool ok;

	ev_timer_init(&t, on_step, 0.005, 0.005);
	ev_timer_start(loop, &t);
	while (!(ok = what()) && ev_time() < end) {
		ev_run(loop, 0);
		balanced();
	}
	ev_timer_stop(loop, &t);
	return ok;
}

static bool has_credit(void)
{
	return s->ops->credit(s);
}

static bool is_quiet(void)
{
	return s->n.in_flight == 0 && s->n.backlog == 0;
}

static bool is_drained(void)
{
	return s->drained;
}

static bool is_stuck(void)
{
	return !s->ops->credit(s);
}

static bool tried_thrice(void)
{
	return atomic_load(&rx.connected) >= 3;
}

static bool reconnected(void)
{
	return s->n.reconnects > 0;
}

static unsigned epoch_before;

static bool epoch_changed(void)
{
	return s->epoch != epoch_before;
}

static void put(unsigned frames, size_t len)
{
	batch_reset(&b);
	for (unsigned i = 0; i < frames; i++) {
		uint8_t *p = batch_reserve(&b, len);

		if (p == NULL)
			break;
		memset(p, (int)i, len);
		batch_commit(&b, len, len - 54, 1);
	}
	s->ops->put(s, &b);
	balanced();
}

static void begin(void)
{
	s = sink_tunnel(loop, rx.at, 0, 1 << 22, NULL, err);
	assert_non_null(s);
}

static void end(void)
{
	s->ops->free(s);
	stop_receiver();
}

static int set_up(void **state)
{
	(void)state;
	(void)signal(SIGPIPE, SIG_IGN);
	loop = ev_default_loop(0);
	batch_init(&b);
	return mkdtemp(dir) == NULL || tls_ctx_server(&rx.ctx, dir, err) != 0;
}

static int tear_down(void **state)
{
	char path[64];

	(void)state;
	tls_ctx_free(&rx.ctx);
	batch_fini(&b);
	(void)snprintf(path, sizeof(path), "%s/%s", dir, IDENTITY_FILE);
	(void)unlink(path);
	return rmdir(dir);
}

static void test_all_is_acknowledged(void **state)
{
	(void)state;
	start_receiver(KIND, 0);
	begin();
	assert_false(s->ops->credit(s)); /* nothing before it is connected */
	assert_true(wait_for(has_credit));
	assert_int_equal(s->mtu, 1400); /* the receiver's */
	for (unsigned i = 0; i < 200; i++) {
		assert_true(wait_for(has_credit));
		put(i % 5 == 0 ? 300 : 1, 1000);
	}
	assert_true(wait_for(is_quiet));
	assert_true(s->n.acked == s->n.put && s->n.unknown == 0);
	assert_int_equal(atomic_load(&rx.frames), s->n.frames);
	s->ops->drain(s);
	assert_true(wait_for(is_drained));
	end();
}

static void test_a_native_receiver_is_taken_after_a_second(void **state)
{
	ev_tstamp t0 = ev_time();
	char text[256];

	(void)state;
	start_receiver(NATIVE, 0);
	begin();
	assert_true(wait_for(has_credit));
	assert_true(ev_time() - t0 > 0.9);
	assert_int_equal(s->mtu, 1500);
	put(100, 1000);
	assert_true(wait_for(is_quiet)); /* by its TCP */
	assert_true(s->n.acked == s->n.put);
	s->ops->describe(s, text, sizeof(text));
	assert_non_null(strstr(text, "native"));
	end();
}

static void test_a_broken_tunnel_is_unknown_and_comes_back(void **state)
{
	(void)state;
	start_receiver(LAZY, 0);
	begin();
	assert_true(wait_for(has_credit));
	epoch_before = s->epoch;
	put(100, 1000);
	assert_true(s->n.in_flight + s->n.backlog == s->n.put);
	atomic_store(&rx.stop, true);
	assert_true(wait_for(epoch_changed));
	assert_true(s->n.unknown == s->n.put && s->n.reconnects == 1);
	assert_true(wait_for(has_credit)); /* again */
	rx.manner = KIND;
	put(100, 1000);
	assert_true(s->n.unknown < s->n.put);
	end();
}

static void test_no_credit_when_the_queue_is_full(void **state)
{
	uint64_t n = 0;

	(void)state;
	start_receiver(DEAF, 0);
	begin();
	assert_true(wait_for(has_credit));
	while (s->ops->credit(s)) {
		put(300, 1400);
		ev_run(loop, EVRUN_NOWAIT);
		assert_true(++n < 10000);
	}
	assert_true(s->n.backlog > 2 << 20 && s->n.unknown == 0);
	epoch_before = s->epoch;
	put(300, 1400); /* without credit: taken, and the tunnel is broken off rather than torn */
	while (!epoch_changed())
		put(300, 1400);
	assert_true(s->n.unknown == s->n.put);
	end();
}

static void test_refusals_and_garbage_end_the_attempt(void **state)
{
	char text[256];

	(void)state;
	start_receiver(REFUSES, 0);
	begin();
	assert_false(wait_for(has_credit)); /* WAIT_S long */
	s->ops->describe(s, text, sizeof(text));
	assert_non_null(strstr(text, "we do not like you"));
	end();
	start_receiver(RUDE, 0);
	begin();
	assert_true(wait_for(tried_thrice));
	assert_false(s->ops->credit(s));
	end();
}

static void test_a_late_hello_counts(void **state)
{
	(void)state;
	start_receiver(LATE, 0);
	begin();
	assert_true(wait_for(has_credit));
	assert_int_equal(s->mtu, 1500); /* as for a native one */
	epoch_before = s->epoch;
	put(10, 1000);
	assert_true(wait_for(epoch_changed));
	assert_int_equal(s->mtu, 1400);
	assert_true(s->n.reconnects == 0);
	put(10, 1000);
	assert_true(wait_for(is_quiet));
	assert_true(s->n.acked == s->n.put);
	end();
}

static void test_a_receiver_that_floods_is_left(void **state)
{
	(void)state;
	start_receiver(FLOODS, 0);
	begin();
	assert_true(wait_for(reconnected));
	end();
}

static void test_nobody_there(void **state)
{
	char text[256];

	(void)state;
	start_receiver(KIND, 0);
	stop_receiver();
	begin();
	s->ops->drain(s); /* nothing to wait for */
	assert_true(s->drained);
	s->ops->free(s);
	s = sink_tunnel(loop, "no-such-host.invalid:3005", 0, 1 << 22, NULL, err);
	assert_non_null(s);
	put(1, 100); /* is always taken */
	assert_true(s->n.unknown == s->n.put);
	s->ops->describe(s, text, sizeof(text));
	assert_non_null(strstr(text, "no-such-host.invalid"));
	s->ops->free(s);
	assert_null(sink_tunnel(loop, "host:port:what", 0, 1 << 22, NULL, err));
	assert_null(sink_tunnel(loop, "host", 10, 1 << 22, NULL, err));
}

static void test_file_is_whole(void **state)
{
	char path[64];
	struct stat st;
	off_t size;

	(void)state;
	(void)snprintf(path, sizeof(path), "%s/out", dir);
	s = sink_file(loop, path, 0, err);
	assert_non_null(s);
	size = PCAPNG_HEAD;
	for (int i = 0; i < 10; i++) {
		put(10, 100);
		size += (off_t)b.len;
		assert_true(s->n.acked == s->n.put);
	}
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_size, size);
	s->ops->drain(s);
	assert_true(s->drained);
	s->ops->free(s);
	(void)unlink(path);
	assert_null(sink_file(loop, "/nonexistent/dir/file", 0, err));
	assert_non_null(strstr(err, "/nonexistent/dir/file"));
}

static void test_a_full_disk_ends_the_file_with_a_whole_block(void **state)
{
	(void)state;
	s = sink_file(loop, "/dev/full", 0, err);
	assert_null(s); /* not even its beginning */
	assert_non_null(strstr(err, "/dev/full"));
}

static void test_a_full_pipe_holds_credit_back(void **state)
{
	char path[64];
	static uint8_t sinkhole[1 << 16];
	uint64_t n = 0;
	int fd;

	(void)state;
	(void)snprintf(path, sizeof(path), "%s/pipe", dir);
	assert_int_equal(mkfifo(path, 0600), 0);
	assert_null(sink_file(loop, path, 0, err)); /* nobody reads */
	fd = open(path, O_RDONLY | O_NONBLOCK);
	s = sink_file(loop, path, 0, err);
	assert_non_null(s);
	put(300, 1400);
	assert_true(is_stuck() && s->n.backlog == s->n.put);
	put(1, 100); /* without credit: it is kept in order, there is room */
	while (!has_credit() && ++n < 100000) {
		while (read(fd, sinkhole, sizeof(sinkhole)) > 0)
			;
		ev_run(loop, EVRUN_NOWAIT);
		balanced();
	}
	assert_true(s->n.acked == s->n.put);
	close(fd);
	put(1, 100); /* nobody reads any more */
	assert_true(s->failed && s->n.unknown == 46 && !has_credit());
	s->ops->free(s);
	(void)unlink(path);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_all_is_acknowledged),
		cmocka_unit_test(test_a_native_receiver_is_taken_after_a_second),
		cmocka_unit_test(test_a_broken_tunnel_is_unknown_and_comes_back),
		cmocka_unit_test(test_no_credit_when_the_queue_is_full),
		cmocka_unit_test(test_refusals_and_garbage_end_the_attempt),
		cmocka_unit_test(test_a_late_hello_counts),
		cmocka_unit_test(test_a_receiver_that_floods_is_left),
		cmocka_unit_test(test_nobody_there),
		cmocka_unit_test(test_file_is_whole),
		cmocka_unit_test(test_a_full_disk_ends_the_file_with_a_whole_block),
		cmocka_unit_test(test_a_full_pipe_holds_credit_back),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
