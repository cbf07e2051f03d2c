/* SPDX-License-Identifier: Apache-2.0 */
/* Early data of GnuTLS: a first connection for the ticket; one whose early data the server takes, in two pieces; one
 * whose server does not take any, so that they are sent again; one that ends with early data alone. */
#include <string.h>
#include <unistd.h>

#include "lib/gsnip.h"

#define EARLY "GET /early HTTP/1.1\r\nHost: snippet.test\r\n\r\n"
#define AFTER "GET /after HTTP/1.1\r\nHost: snippet.test\r\n\r\n"
#define ANSWER "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nafter\n"

static gnutls_datum_t ticket;
static gnutls_anti_replay_t replay;

static int remember(void *arg, time_t end, const gnutls_datum_t *key, const gnutls_datum_t *data)
{
	(void)arg;
	(void)end;
	(void)key;
	(void)data;
	return 0; /* it is all ours */
}

static void send_all(struct gsnip *g, const char *text)
{
	ssize_t r = gnutls_record_send(g->s, text, strlen(text));

	if (r != (ssize_t)strlen(text))
		gsnip_die("send", r);
	gsnip_save(g, true, text, strlen(text));
}

static void receive_all(struct gsnip *g, size_t n)
{
	char b[512];

	while (n > 0) {
		ssize_t r = gnutls_record_recv(g->s, b, n < sizeof(b) ? n : sizeof(b));

		if (r == GNUTLS_E_AGAIN) /* a ticket came */
			continue;
		if (r <= 0)
			gsnip_die("receive", r);
		gsnip_save(g, false, b, (size_t)r);
		n -= (size_t)r;
	}
}

static void server(int i)
{
	struct gsnip g;
	char b[256];
	ssize_t r;

	gsnip_new(&g, gsnip_tcp(), i == 2 ? 0 : GNUTLS_ENABLE_EARLY_DATA);
	if (i != 2) /* a server that does not read them: the library skips them */
		gnutls_anti_replay_enable(g.s, replay);
	gnutls_record_set_max_early_data_size(g.s, 16384);
	gsnip_handshake(&g);
	while ((r = gnutls_record_recv_early_data(g.s, b, sizeof(b))) > 0)
		gsnip_save(&g, false, b, (size_t)r);
	printf("%d: early data ended with %zd, resumed %d\n", i, r, gnutls_session_is_resumed(g.s) != 0);
	if (i != 3) {
		receive_all(&g, strlen(AFTER));
		send_all(&g, ANSWER);
	}
	receive_all(&g, i == 2 ? strlen(EARLY) : 0);
	gnutls_bye(g.s, GNUTLS_SHUT_WR);
	usleep(50000);
	gsnip_free(&g);
}

static void client(int i)
{
	struct gsnip g;
	ssize_t r;
	bool taken;
	char c;

	gsnip_new(&g, gsnip_tcp(), i == 0 ? 0 : GNUTLS_ENABLE_EARLY_DATA);
	if (i > 0) {
		gnutls_session_set_data(g.s, ticket.data, ticket.size);
		r = gnutls_record_send_early_data(g.s, EARLY, 10);
		if (r >= 0)
			r = gnutls_record_send_early_data(g.s, &EARLY[10], strlen(EARLY) - 10);
		printf("%d: early data %zd\n", i, r);
	}
	gsnip_handshake(&g);
	taken = gnutls_session_get_flags(g.s) & GNUTLS_SFLAGS_EARLY_DATA;
	printf("%d: taken %d, resumed %d\n", i, taken, gnutls_session_is_resumed(g.s) != 0);
	if (i > 0 && taken)
		gsnip_save(&g, true, EARLY, strlen(EARLY));
	if (i != 3) {
		send_all(&g, AFTER);
		receive_all(&g, strlen(ANSWER));
	}
	if (i == 2)
		send_all(&g, EARLY);
	if (i == 0) {
		r = gnutls_session_get_data2(g.s, &ticket);
		if (r < 0)
			gsnip_die("ticket", r);
	}
	do
		r = gnutls_record_recv(g.s, &c, 1);
	while (r > 0 || r == GNUTLS_E_AGAIN);
	usleep(50000); /* whoever wants to look the socket up has time to */
	gnutls_bye(g.s, GNUTLS_SHUT_WR);
	gsnip_free(&g);
}

int main(int argc, char **argv)
{
	gsnip_init(argc, argv);
	if (gsnip_server) {
		gnutls_anti_replay_init(&replay);
		gnutls_anti_replay_set_add_function(replay, remember);
	}
	for (int i = 0; i < 4; i++)
		(gsnip_server ? server : client)(i);
	gnutls_free(ticket.data);
	if (gsnip_server)
		gnutls_anti_replay_deinit(replay);
	return gsnip_done();
}
