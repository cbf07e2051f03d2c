/* SPDX-License-Identifier: Apache-2.0 */
/* status.c - the control socket (see status.h). */
#include "status.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/sock.h"

#define ASKERS 8 /* at a time */
#define PATIENCE_S 5.0
#define LINE_MAX_LEN 64
#define WAIT_MS 5000
#define PAUSE_S 0.25 /* when there is no descriptor left for one more */

struct asker {
	int fd; /* -1: free */
	ev_io io;
	ev_timer deadline;
	char line[LINE_MAX_LEN];
	size_t got;
	char *answer; /* NULL: the question is not complete */
	size_t len, off;
};

struct status {
	struct receiver *receiver;
	ev_io io;
	ev_timer pause;
	struct asker asker[ASKERS];
};

static void hang_up(struct asker *a, struct ev_loop *loop)
{
	ev_io_stop(loop, &a->io);
	ev_timer_stop(loop, &a->deadline);
	close(a->fd);
	free(a->answer);
	a->answer = NULL;
	a->fd = -1;
}

static void answer(const struct receiver *r, struct asker *a)
{
	FILE *f = open_memstream(&a->answer, &a->len);

	if (f == NULL)
		return;
	if (strcmp(a->line, "status json") == 0)
		status_json(r, f);
	else if (strcmp(a->line, "status") == 0)
		status_text(r, f);
	else
		(void)fprintf(f, "unknown command\n");
	if (fclose(f) == EOF) {
		free(a->answer);
		a->answer = NULL;
	}
}

/* False: hang up. */
static bool read_line(struct receiver *r, struct asker *a)
{
	ssize_t n = recv(a->fd, a->line + a->got, sizeof(a->line) - 1 - a->got, 0);
	char *end;

	if (n <= 0)
		return n == -1 && (errno == EAGAIN || errno == EINTR);
	a->got += (size_t)n;
	a->line[a->got] = '\0';
	end = strchr(a->line, '\n');
	if (end == NULL)
		return a->got < sizeof(a->line) - 1;
	*end = '\0';
	answer(r, a);
	return a->answer != NULL;
}

static bool write_answer(struct asker *a)
{
	ssize_t n = send(a->fd, a->answer + a->off, a->len - a->off, MSG_NOSIGNAL);

	if (n == -1)
		return errno == EAGAIN || errno == EINTR;
	a->off += (size_t)n;
	return a->off < a->len;
}

static void on_asker(struct ev_loop *loop, ev_io *w, int events)
{
	struct asker *a = w->data;
	struct receiver *r = ev_userdata(loop);

	(void)events;
	if (!(a->answer == NULL ? read_line(r, a) : write_answer(a))) {
		hang_up(a, loop);
		return;
	}
	if (a->answer != NULL && !(w->events & EV_WRITE)) {
		ev_io_stop(loop, w);
		ev_io_set(w, a->fd, EV_WRITE);
		ev_io_start(loop, w);
	}
}

static void on_deadline(struct ev_loop *loop, ev_timer *w, int events)
{
	(void)events;
	hang_up(w->data, loop);
}

static void on_pause_over(struct ev_loop *loop, ev_timer *w, int events)
{
	struct status *s = w->data;

	(void)events;
	ev_io_start(loop, &s->io);
}

static void on_connection(struct ev_loop *loop, ev_io *w, int events)
{
	struct status *s = w->data;
	int fd = sock_accept(w->fd, NULL, NULL);
	struct asker *a = NULL;
	uid_t uid;
	gid_t gid;
	pid_t pid;

	(void)events;
	if (fd == -EMFILE || fd == -ENFILE || fd == -ENOBUFS || fd == -ENOMEM) {
		ev_io_stop(loop, w); /* else it would wake us again at once */
		ev_timer_set(&s->pause, PAUSE_S, 0);
		ev_timer_start(loop, &s->pause);
	}
	if (fd < 0)
		return;
	for (int i = 0; i < ASKERS && a == NULL; i++)
		if (s->asker[i].fd == -1)
			a = &s->asker[i];
	if (a == NULL || sock_peer(fd, &pid, &uid, &gid) != 0 || (uid != 0 && uid != geteuid())) {
		close(fd);
		return;
	}
	*a = (struct asker){.fd = fd};
	ev_io_init(&a->io, on_asker, fd, EV_READ);
	ev_timer_init(&a->deadline, on_deadline, PATIENCE_S, 0);
	a->io.data = a->deadline.data = a;
	ev_io_start(loop, &a->io);
	ev_timer_start(loop, &a->deadline);
}

/* The directory of @path, if there is none yet. */
static void make_dir(const char *path)
{
	char dir[256];
	char *slash;

	(void)snprintf(dir, sizeof(dir), "%s", path);
	slash = strrchr(dir, '/');
	if (slash == NULL || slash == dir)
		return;
	*slash = '\0';
	(void)mkdir(dir, 0755);
}

int status_new(struct status **ret, struct receiver *r, char err[static STATUS_ERR])
{
	struct status *s = calloc(1, sizeof(*s));
	int fd;

	if (s == NULL) {
		(void)snprintf(err, STATUS_ERR, "out of memory");
		return -ENOMEM;
	}
	make_dir(r->conf.socket);
	fd = sock_unix_listen(r->conf.socket, SOCK_STREAM, 0600);
	if (fd < 0) {
		free(s);
		(void)snprintf(err, STATUS_ERR, "control socket %.150s: %s", r->conf.socket,
			       fd == -EADDRINUSE ? "another receiverd answers there (--socket)" : strerror(-fd));
		return fd;
	}
	s->receiver = r;
	for (int i = 0; i < ASKERS; i++)
		s->asker[i].fd = -1;
	ev_set_userdata(r->loop, r);
	ev_io_init(&s->io, on_connection, fd, EV_READ);
	ev_init(&s->pause, on_pause_over);
	s->io.data = s->pause.data = s;
	ev_io_start(r->loop, &s->io);
	*ret = s;
	return 0;
}

void status_free(struct status **sp)
{
	struct status *s = *sp;

	if (s == NULL)
		return;
	for (int i = 0; i < ASKERS; i++)
		if (s->asker[i].fd != -1)
			hang_up(&s->asker[i], s->receiver->loop);
	ev_io_stop(s->receiver->loop, &s->io);
	ev_timer_stop(s->receiver->loop, &s->pause);
	close(s->io.fd);
	(void)unlink(s->receiver->conf.socket);
	free(s);
	*sp = NULL;
}

/* Copy what comes until the other end hangs up. Returns bytes or -errno. */
static ssize_t copy_answer(int fd)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};
	ssize_t total = 0, n;
	char buf[4096];

	for (;;) {
		if (poll(&p, 1, WAIT_MS) == 0)
			return -ETIMEDOUT;
		n = recv(fd, buf, sizeof(buf), 0);
		if (n == -1 && (errno == EAGAIN || errno == EINTR))
			continue;
		if (n == -1)
			return -errno;
		if (n == 0)
			return total;
		(void)fwrite(buf, 1, (size_t)n, stdout);
		total += n;
	}
}

int status_ask(const char *path, const char *mode, char err[static STATUS_ERR])
{
	const char *line = mode[0] == '\0' ? "status\n" : "status json\n";
	int fd = sock_unix_connect(path, SOCK_STREAM);
	ssize_t n = fd;

	if (fd < 0) {
		(void)snprintf(err, STATUS_ERR, "no receiverd answers at %.150s: %s", path, strerror(-fd));
		return fd;
	}
	n = send(fd, line, strlen(line), MSG_NOSIGNAL);
	n = n == -1 ? -errno : copy_answer(fd);
	close(fd);
	if (n > 0)
		return 0;
	n = n == 0 || n == -ECONNRESET || n == -EPIPE ? -EPERM : n;
	(void)snprintf(err, STATUS_ERR, "receiverd at %.150s: %s", path,
		       n == -EPERM ? "only root may ask" : strerror((int)-n));
	return (int)n;
}
