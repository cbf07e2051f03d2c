/* SPDX-License-Identifier: Apache-2.0 */
/* Every call of GnuTLS that moves data. Client and server say SIZES to each other in turn, one session after the other
 * for each way to receive, then say good-bye.
 * ARGs: how to send: send send2 range cork corknb file again push nothing; or
 *       duplex (two threads on one session), renegotiate, silly (arguments that make no sense) */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "lib/gsnip.h"

static const size_t SIZES[] = {1, 100, 16384, 16385, 70000};

enum receive { BY_RECV, BY_SEQ, BY_PACKET, WAYS };

static long errors; /* sum of what errno was after calls that succeeded */

static bool mode(const char *name)
{
	return strcmp(gsnip_mode, name) == 0;
}

static uint8_t *words(bool server, size_t n)
{
	uint8_t *b = malloc(n);

	for (size_t i = 0; b && i < n; i++)
		b[i] = gsnip_byte(server, i);
	if (!b)
		gsnip_die("memory", 0);
	return b;
}

static void wait_for(const struct gsnip *g)
{
	struct pollfd p = {.fd = g->fd, .events = gnutls_record_get_direction(g->s) ? POLLOUT : POLLIN};

	(void)poll(&p, 1, 10000);
}

static ssize_t send_some(struct gsnip *g, const uint8_t *b, size_t n)
{
	gnutls_range_st range = {.low = n, .high = n + 64};
	ssize_t r;

	errno = 0;
	if (mode("send2"))
		r = gnutls_record_send2(g->s, b, n < 10000 ? n : 10000, 32, 0);
	else if (mode("range") && gnutls_record_can_use_length_hiding(g->s))
		r = gnutls_record_send_range(g->s, b, n, &range);
	else
		r = gnutls_record_send(g->s, b, n);
	if (r >= 0)
		errors += errno;
	return r;
}

static void send_file(struct gsnip *g, const uint8_t *b, size_t n)
{
	int fd = memfd_create("what", 0);
	off_t at = 3;
	ssize_t r;

	if (write(fd, "...", 3) != 3 || write(fd, b, n) != (ssize_t)n || lseek(fd, 0, SEEK_SET) != 0)
		gsnip_die("file", 0);
	r = gnutls_record_send_file(g->s, fd, &at, n);
	if (r != (ssize_t)n)
		gsnip_die("send_file", r);
	gsnip_save(g, true, b, n);
	close(fd);
}

static void uncork(struct gsnip *g)
{
	int r = gnutls_record_uncork(g->s, mode("cork") ? GNUTLS_RECORD_WAIT : 0);

	while (r < 0 && !gnutls_error_is_fatal(r)) {
		wait_for(g);
		r = gnutls_record_uncork(g->s, 0);
	}
	if (r < 0)
		gsnip_die("uncork", r);
}

static void say(struct gsnip *g, const uint8_t *b, size_t n)
{
	size_t done = 0;

	if (mode("file")) {
		send_file(g, b, n);
		return;
	}
	if (mode("cork") || mode("corknb"))
		gnutls_record_cork(g->s);
	while (done < n) {
		ssize_t r = send_some(g, b + done, n - done);

		while (mode("nothing") && r == GNUTLS_E_AGAIN) { /* the library has the data already */
			wait_for(g);
			r = gnutls_record_send(g->s, NULL, 0);
		}
		if (r == GNUTLS_E_AGAIN || r == GNUTLS_E_INTERRUPTED) {
			wait_for(g);
			continue;
		}
		if (r <= 0)
			gsnip_die("send", r);
		gsnip_save(g, true, b + done, (size_t)r);
		done += (size_t)r;
	}
	if (mode("cork") || mode("corknb"))
		uncork(g);
}

static ssize_t receive_some(struct gsnip *g, uint8_t *b, size_t n, enum receive way)
{
	gnutls_packet_t packet = NULL;
	gnutls_datum_t d = {NULL, 0};
	unsigned char seq[8];
	ssize_t r;

	switch (way) {
	case BY_SEQ:
		return gnutls_record_recv_seq(g->s, b, n, seq);
	case BY_PACKET:
		r = gnutls_record_recv_packet(g->s, &packet);
		if (r > 0) {
			gnutls_packet_get(packet, &d, seq);
			if (d.size != (size_t)r || d.size > n)
				gsnip_die("packet", d.size);
			memcpy(b, d.data, d.size);
		}
		gnutls_packet_deinit(packet);
		return r;
	default:
		return gnutls_record_recv(g->s, b, n);
	}
}

/* The next @n bytes, which the other side says from its @at-th on. */
static void hear(struct gsnip *g, size_t n, enum receive way)
{
	static _Thread_local uint8_t b[100000];
	size_t done = 0;

	while (done < n) {
		ssize_t r = receive_some(g, b, way == BY_PACKET || n - done > sizeof(b) ? sizeof(b) : n - done, way);

		if (r == GNUTLS_E_REHANDSHAKE) {
			gsnip_handshake(g);
			continue;
		}
		if (r == GNUTLS_E_AGAIN || r == GNUTLS_E_INTERRUPTED) {
			wait_for(g);
			continue;
		}
		if (r <= 0)
			gsnip_die("receive", r);
		for (ssize_t i = 0; i < r; i++)
			if (b[i] != gsnip_byte(!gsnip_server, done + (size_t)i))
				gsnip_die("differs", (long)done + i);
		gsnip_save(g, false, b, (size_t)r);
		done += (size_t)r;
	}
}

static void talk(struct gsnip *g, enum receive way)
{
	uint8_t *b = words(gsnip_server, 70000);

	for (unsigned i = 0; i < sizeof(SIZES) / sizeof(SIZES[0]); i++) {
		if (!gsnip_server)
			say(g, b, SIZES[i]);
		hear(g, SIZES[i], way);
		if (gsnip_server)
			say(g, b, SIZES[i]);
	}
	free(b);
}

/* --- transports -------------------------------------------------------------------------------------- */

static ssize_t push(gnutls_transport_ptr_t p, const void *b, size_t n)
{
	return send(((struct gsnip *)p)->fd, b, n, MSG_NOSIGNAL);
}

static ssize_t pull(gnutls_transport_ptr_t p, void *b, size_t n)
{
	return recv(((struct gsnip *)p)->fd, b, n, 0);
}

static int pull_timeout(gnutls_transport_ptr_t p, unsigned ms)
{
	struct pollfd f = {.fd = ((struct gsnip *)p)->fd, .events = POLLIN};

	return poll(&f, 1, ms == GNUTLS_INDEFINITE_TIMEOUT ? -1 : (int)ms);
}

static void begin(struct gsnip *g)
{
	int small = 4096, fd = gsnip_tcp();

	bool nonblocking = mode("again") || mode("nothing") || mode("corknb");

	if (nonblocking) {
		(void)setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &small, sizeof(small));
		(void)fcntl(fd, F_SETFL, O_NONBLOCK);
	}
	gsnip_new(g, fd, nonblocking ? GNUTLS_NONBLOCK : 0);
	if (mode("push")) {
		gnutls_transport_set_ptr(g->s, g);
		gnutls_transport_set_push_function(g->s, push);
		gnutls_transport_set_pull_function(g->s, pull);
		gnutls_transport_set_pull_timeout_function(g->s, pull_timeout);
	}
	gsnip_handshake(g);
}

/* The client first: one way, then the other. */
static void end(struct gsnip *g)
{
	char c;
	ssize_t r;
	int bye;

	(void)fcntl(g->fd, F_SETFL, 0);
	if (!gsnip_server)
		printf("bye %d\n", gnutls_bye(g->s, GNUTLS_SHUT_WR));
	do
		r = gnutls_record_recv(g->s, &c, 1);
	while (r == GNUTLS_E_AGAIN || r == GNUTLS_E_INTERRUPTED);
	if (gsnip_server && (r != 0 || gnutls_record_send(g->s, "after your bye", 14) != 14))
		gsnip_die("end", r);
	if (gsnip_server)
		gsnip_save(g, true, "after your bye", 14);
	while (!gsnip_server && r > 0) {
		gsnip_save(g, false, &c, 1);
		r = gnutls_record_recv(g->s, &c, 1);
	}
	bye = gnutls_bye(g->s, gsnip_server ? GNUTLS_SHUT_WR : GNUTLS_SHUT_RDWR);
	printf("end %zd, bye %d\n", r, bye);
	usleep(100000); /* whoever wants to look the socket up has time to */
	gsnip_free(g);
}

/* --- more -------------------------------------------------------------------------------------------- */

static void *read_on(void *g)
{
	for (unsigned i = 0; i < 40; i++)
		hear(g, 70000, BY_RECV);
	return NULL;
}

static void duplex(struct gsnip *g)
{
	uint8_t *b = words(gsnip_server, 70000);
	pthread_t t;

	if (pthread_create(&t, NULL, read_on, g) != 0)
		gsnip_die("thread", 0);
	for (unsigned i = 0; i < 40; i++)
		say(g, b, 70000);
	pthread_join(t, NULL);
	free(b);
}

static void renegotiate(struct gsnip *g)
{
	uint8_t *b = words(gsnip_server, 100);

	talk(g, BY_RECV);
	if (gsnip_server) {
		int r = gnutls_rehandshake(g->s);

		if (r < 0)
			gsnip_die("rehandshake", r);
		gsnip_handshake(g);
		say(g, b, 100);
	} else {
		hear(g, 100, BY_RECV);
	}
	talk(g, BY_RECV);
	free(b);
}

/* Nothing of this moves data, and the results are the library's. */
static void silly(struct gsnip *g)
{
	gnutls_session_t fresh;
	gnutls_packet_t packet = NULL;
	unsigned char b[16] = "", seq[8];
	off_t at = 0;

	printf("send nothing %zd\n", gnutls_record_send(g->s, b, 0));
	printf("send2 nothing %zd\n", gnutls_record_send2(g->s, b, 0, 0, 0));
	printf("uncork what is not corked %d\n", gnutls_record_uncork(g->s, 0));
	printf("late early data %zd\n", gnutls_record_send_early_data(g->s, b, 0));
	printf("no early data %zd\n", gnutls_record_recv_early_data(g->s, b, sizeof(b)));
	printf("no such file %zd\n", gnutls_record_send_file(g->s, -1, &at, 10));
	gnutls_init(&fresh, gsnip_server ? GNUTLS_SERVER : GNUTLS_CLIENT);
	gnutls_transport_set_int(fresh, -1);
	printf("fresh send %zd\n", gnutls_record_send(fresh, b, 1));
	printf("fresh recv %zd\n", gnutls_record_recv(fresh, b, 1));
	printf("fresh recv_seq %zd\n", gnutls_record_recv_seq(fresh, b, 1, seq));
	printf("fresh recv_packet %zd\n", gnutls_record_recv_packet(fresh, &packet));
	printf("fresh handshake %d\n", gnutls_handshake(fresh));
	gnutls_deinit(fresh);
	gnutls_deinit(NULL);
	talk(g, BY_RECV);
}

int main(int argc, char **argv)
{
	bool once = true;

	gsnip_init(argc, argv);
	for (unsigned way = 0; way < WAYS; way++) {
		struct gsnip g;

		begin(&g);
		if (mode("duplex"))
			duplex(&g);
		else if (mode("renegotiate"))
			renegotiate(&g);
		else if (mode("silly"))
			silly(&g);
		else
			talk(&g, (enum receive)way), once = false;
		end(&g);
		if (once)
			break;
	}
	if (!mode("again") && !mode("nothing") && !mode("corknb") && !mode("duplex"))
		printf("errno %ld\n", errors);
	return gsnip_done();
}
