/* SPDX-License-Identifier: Apache-2.0 */
/* accept.c - the listening sockets (see accept.h). */
#include "accept.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/log.h"
#include "common/own.h"
#include "common/sock.h"
#include "lane.h"

#define COMPONENT "accept"
#define AT_ONCE 16   /* connections taken before other events have their turn */
#define PAUSE_S 0.25 /* when there is no descriptor left for one more */

struct accept {
	struct receiver *receiver;
	unsigned n;
	ev_io io[ACCEPT_MAX];
	ev_timer pause;
};

static void start(struct accept *a)
{
	for (unsigned i = 0; i < a->n; i++)
		ev_io_start(a->receiver->loop, &a->io[i]);
}

static void on_pause_over(struct ev_loop *loop, ev_timer *w, int events)
{
	(void)loop;
	(void)events;
	start(w->data);
}

static void on_connection(struct ev_loop *loop, ev_io *w, int events)
{
	struct accept *a = w->data;

	(void)events;
	for (int i = 0; i < AT_ONCE; i++) {
		struct sockaddr_storage sa = {0};
		socklen_t len = sizeof(sa);
		int fd = sock_accept(w->fd, &sa, &len);

		if (fd >= 0) {
			lane_accept(a->receiver->lane, fd, &sa, len);
			continue;
		}
		if (fd == -EMFILE || fd == -ENFILE || fd == -ENOBUFS || fd == -ENOMEM) {
			log_warn_errno(COMPONENT, -fd, "cannot take a connection");
			for (unsigned k = 0; k < a->n; k++)
				ev_io_stop(loop, &a->io[k]);
			ev_timer_set(&a->pause, PAUSE_S, 0);
			ev_timer_start(loop, &a->pause);
		}
		if (fd != -ECONNABORTED && fd != -EINTR)
			return;
	}
}

/* "[ADDR:]PORT" -> socket. */
static int listen_on(const char *text, char err[static ACCEPT_ERR])
{
	char host[SOCK_HOST_MAX], *end;
	uint16_t port = 0;
	bool any = text[0] != '\0' && text[strspn(text, "0123456789")] == '\0';
	unsigned long n = any ? strtoul(text, &end, 10) : 0;
	int fd;

	if (any ? n == 0 || n > UINT16_MAX : sock_parse(text, 0, host, &port) != 0) {
		(void)snprintf(err, ACCEPT_ERR, "option --listen: \"%.100s\": expected [ADDR:]PORT", text);
		return -EINVAL;
	}
	fd = sock_tcp_listen(any ? NULL : host, any ? (uint16_t)n : port, false);
	if (fd == -EINVAL)
		(void)snprintf(err, ACCEPT_ERR, "option --listen: \"%.100s\": expected an address, not a name", text);
	else if (fd < 0)
		(void)snprintf(err, ACCEPT_ERR, "cannot listen on %s%.100s: %s", any ? "port " : "", text,
			       strerror(-fd));
	return fd;
}

/* So that no agent of this host mirrors what comes there. */
static void tell_own(struct own *own, unsigned which, int fd)
{
	struct sockaddr_storage sa = {0};
	socklen_t len = sizeof(sa);
	struct tuple at = {0};

	(void)getsockname(fd, (struct sockaddr *)&sa, &len);
	tuple_end(&at, SIDE_SERVER, (const struct sockaddr *)&sa);
	if (memcmp(at.addr[SIDE_SERVER], (const uint8_t[16]){0}, 16) == 0)
		at.ver = 0;
	own_listen(own, which, &at);
}

int accept_new(struct accept **ret, struct receiver *r, char err[static ACCEPT_ERR])
{
	const struct opt_list *l = &r->conf.listen;
	struct accept *a = calloc(1, sizeof(*a));

	if (a == NULL || l->n > ACCEPT_MAX) {
		(void)snprintf(err, ACCEPT_ERR, a == NULL ? "out of memory" : "option --listen: more than 8 addresses");
		free(a);
		return a == NULL ? -ENOMEM : -EINVAL;
	}
	a->receiver = r;
	ev_init(&a->pause, on_pause_over);
	a->pause.data = a;
	for (size_t i = 0; i < l->n; i++) {
		int fd = listen_on(l->item[i], err);

		if (fd < 0) {
			accept_free(&a);
			return fd;
		}
		tell_own(r->own, (unsigned)i, fd);
		ev_io_init(&a->io[a->n], on_connection, fd, EV_READ);
		a->io[a->n++].data = a;
	}
	start(a);
	*ret = a;
	return 0;
}

void accept_free(struct accept **ap)
{
	struct accept *a = *ap;

	if (a == NULL)
		return;
	ev_timer_stop(a->receiver->loop, &a->pause);
	for (unsigned i = 0; i < a->n; i++) {
		ev_io_stop(a->receiver->loop, &a->io[i]);
		close(a->io[i].fd);
	}
	free(a);
	*ap = NULL;
}
