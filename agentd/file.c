/* SPDX-License-Identifier: Apache-2.0 */
/* file.c - the sink that writes a pcapng file, or standard output (sink.h).
 *
 * A file is written at once. A pipe or a socket may be full: the rest of a batch then waits here, and there is no
 * credit until it is gone. What a file holds always ends with a whole block. */
#include "sink.h"

#include <errno.h>
#include <ev.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/forge.h"
#include "common/log.h"
#include "common/pcapng.h"

#define COMPONENT "file"
#define DEFAULT_MTU 1500

struct file {
	struct sink s; /* first: a sink is a file */
	struct ev_loop *loop;
	char path[256]; /* for messages */
	int fd;
	bool regular;
	ev_io io;	 /* waits for room in a pipe */
	off_t good;	 /* regular file: its length up to the last whole batch */
	size_t off, len; /* rest[off..len) is not written yet */
	uint8_t rest[BATCH_BYTES];
};

static struct file *of(struct sink *s)
{
	return (struct file *)s;
}

/* It cannot be written any more: cut a half block off, count what was not written, say so once. */
static void give_up(struct file *f, int err)
{
	log_error_errno(COMPONENT, err, "cannot write %s", f->path);
	if (f->regular)
		(void)!ftruncate(f->fd, f->good);
	ev_io_stop(f->loop, &f->io);
	f->s.n.unknown += f->s.n.backlog;
	f->s.n.backlog = 0;
	f->off = f->len = 0;
	f->s.failed = true;
	f->s.drained = true;
}

/* Write as much as goes at once. Returns bytes written; f->s.failed tells of errors. */
static size_t write_some(struct file *f, const uint8_t *p, size_t len)
{
	size_t done = 0;

	while (done < len) {
		ssize_t n = write(f->fd, p + done, len - done);

		if (n == -1 && errno == EINTR)
			continue;
		if (n == -1 && errno == EAGAIN)
			break;
		if (n <= 0) {
			give_up(f, n == 0 ? ENOSPC : errno);
			break;
		}
		done += (size_t)n;
	}
	return done;
}

/* All that was put is written. */
static void settle(struct file *f)
{
	f->s.n.acked += f->s.n.backlog;
	f->s.n.backlog = 0;
	f->off = f->len = 0;
	ev_io_stop(f->loop, &f->io);
}

static void on_writable(struct ev_loop *loop, ev_io *w, int events)
{
	struct file *f = w->data;

	(void)loop;
	(void)events;
	f->off += write_some(f, f->rest + f->off, f->len - f->off);
	if (f->s.failed)
		return;
	if (f->off == f->len) {
		settle(f);
		f->s.drained = true; /* means something only after drain() */
	}
}

static bool file_credit(struct sink *s)
{
	return !s->failed && of(s)->len == 0;
}

static void file_put(struct sink *s, const struct batch *b)
{
	struct file *f = of(s);
	size_t n;

	s->n.put += b->payload;
	s->n.frames += b->n;
	for (unsigned i = 0; i < b->n; i++)
		s->n.bytes += b->frame[i].len;
	if (s->failed ||
	    b->len > BATCH_BYTES - (f->len - f->off)) { /* broken, or put without credit: nothing may be torn */
		s->n.unknown += b->payload;
		return;
	}
	s->n.backlog += b->payload;
	n = f->len > 0 ? 0 : write_some(f, b->buf, b->len);
	if (s->failed)
		return;
	if (n == b->len) {
		f->good += (off_t)n;
		settle(f);
		return;
	}
	memmove(f->rest, f->rest + f->off, f->len - f->off);
	f->len -= f->off;
	f->off = 0;
	memcpy(f->rest + f->len, b->buf + n, b->len - n);
	f->len += b->len - n;
	s->drained = false;
	ev_io_start(f->loop, &f->io);
}

static void file_describe(struct sink *s, char *ret, size_t size)
{
	const struct file *f = of(s);

	(void)snprintf(ret, size, "%s %s%s", s->failed ? "cannot write" : "writing to", f->path,
		       f->len > 0 ? ", which is full at the moment" : "");
}

static void file_drain(struct sink *s)
{
	s->drained = of(s)->len == 0;
}

static void file_free(struct sink *s)
{
	struct file *f = of(s);

	ev_io_stop(f->loop, &f->io);
	if (f->fd != -1)
		close(f->fd);
	free(f);
}

static const struct sink_ops ops = {
	.name = "file",
	.credit = file_credit,
	.put = file_put,
	.describe = file_describe,
	.drain = file_drain,
	.free = file_free,
};

/* Standard output as a descriptor of our own: for a pipe a new opening of it, so that its being non-blocking does not
 * change the pipe for everybody who shares it. */
static int open_stdout(void)
{
	struct stat st;
	int fd = -1;

	if (fstat(STDOUT_FILENO, &st) == -1)
		return -errno;
	if (S_ISFIFO(st.st_mode))
		fd = open("/proc/self/fd/1", O_WRONLY | O_NONBLOCK | O_CLOEXEC);
	if (fd == -1)
		fd = fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 3);
	return fd == -1 ? -errno : fd;
}

static int open_path(const char *path)
{
	/* O_NONBLOCK for named pipes: none is opened before it has a reader */
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NONBLOCK | O_NOCTTY, 0600);

	return fd == -1 ? -errno : fd;
}

struct sink *sink_file(struct ev_loop *loop, const char *path, uint32_t mtu, char err[static SINK_ERR])
{
	bool out = strcmp(path, "-") == 0;
	struct file *f = calloc(1, sizeof(*f));
	uint8_t head[PCAPNG_HEAD];
	struct stat st;

	if (f == NULL) {
		(void)snprintf(err, SINK_ERR, "out of memory");
		return NULL;
	}
	(void)snprintf(f->path, sizeof(f->path), "%s", out ? "standard output" : path);
	f->loop = loop;
	f->s.ops = &ops;
	f->s.mtu = mtu != 0 ? mtu : DEFAULT_MTU;
	ev_init(&f->io, on_writable);
	f->io.data = f;
	f->fd = -1;
	if (f->s.mtu < FORGE_MTU_MIN || f->s.mtu > FORGE_MTU_MAX) {
		(void)snprintf(err, SINK_ERR, "MTU %u: expected %u to %u", mtu, FORGE_MTU_MIN, FORGE_MTU_MAX);
		goto fail;
	}
	f->fd = out ? open_stdout() : open_path(path);
	if (f->fd < 0 || fstat(f->fd, &st) == -1) {
		(void)snprintf(err, SINK_ERR, "cannot write %.150s: %s", f->path, strerror(f->fd < 0 ? -f->fd : errno));
		goto fail;
	}
	f->regular = S_ISREG(st.st_mode);
	ev_io_set(&f->io, f->fd, EV_WRITE);
	pcapng_head(head);
	f->good = f->regular ? lseek(f->fd, 0, SEEK_CUR) + PCAPNG_HEAD : 0;
	if (write(f->fd, head, sizeof(head)) != sizeof(head)) {
		(void)snprintf(err, SINK_ERR, "cannot write %.150s: %s", f->path, strerror(errno));
		goto fail;
	}
	return &f->s;
fail:
	if (f->fd < 0)
		f->fd = -1;
	file_free(&f->s);
	return NULL;
}
