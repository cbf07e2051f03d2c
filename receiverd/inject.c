/* SPDX-License-Identifier: Apache-2.0 */
/* inject.c - frames out on the replay interface (see inject.h). */
#include "inject.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/log.h"
#include "common/pcapng.h"

#define COMPONENT "inject"
#define DEFAULT_MTU 1500
#define BUSY_S 0.001 /* after the interface's queue was full */
#define LOST_S 0.25  /* between two looks for an interface that is gone */
#define MESSAGE_S 30.0
#define END_MS 2000 /* for a pipe to take the rest */

static void go_on(struct inject *i)
{
	i->busy = false;
	i->ready(i->arg);
}

static void on_writable(struct ev_loop *loop, ev_io *w, int events)
{
	struct inject *i = w->data;

	(void)events;
	ev_io_stop(loop, w);
	go_on(i);
}

static void wait_time(struct inject *i, double after_s)
{
	ev_timer_stop(i->loop, &i->retry);
	ev_timer_set(&i->retry, after_s, 0);
	ev_timer_start(i->loop, &i->retry);
}

static void on_retry(struct ev_loop *loop, ev_timer *w, int events)
{
	struct inject *i = w->data;
	char err[NETIF_ERR];

	(void)events;
	if (i->nif.lost && netif_check(&i->nif, err) != 0) {
		if (i->said_at == 0 || ev_now(loop) - i->said_at >= MESSAGE_S) {
			log_warn(COMPONENT, "%s; waiting for it", err);
			i->said_at = ev_now(loop);
		}
		wait_time(i, LOST_S);
		return;
	}
	if (i->said_at != 0)
		log_info(COMPONENT, "interface %s is back", i->nif.name);
	i->said_at = 0;
	go_on(i);
}

/* It cannot be written any more: cut a half block off. With an interface, injecting goes on without the file. */
static void file_failed(struct inject *i, int err)
{
	log_error_errno(COMPONENT, err, "cannot write %s, up to %u frames are not in it%s", i->path, i->out.n,
			i->none ? "" : "; going on without it");
	if (i->regular)
		(void)!ftruncate(i->file, i->good);
	if (ev_is_active(&i->io) && i->io.fd == i->file) { /* what was to end the waiting */
		ev_io_stop(i->loop, &i->io);
		wait_time(i, BUSY_S);
	}
	close(i->file);
	i->file = -1;
	i->failed = i->none;
}

/* Write what is gathered, as far as the file takes it. A pipe may be full. */
static void file_flush(struct inject *i)
{
	while (i->file != -1 && i->out_off < i->out.len) {
		ssize_t n = write(i->file, i->out.buf + i->out_off, i->out.len - i->out_off);

		if (n == -1 && errno == EINTR)
			continue;
		if (n == -1 && errno == EAGAIN)
			return;
		if (n <= 0)
			file_failed(i, n == 0 ? ENOSPC : errno);
		else
			i->out_off += (size_t)n;
	}
	if (i->file != -1)
		i->good += (off_t)i->out_off;
	i->out_off = 0;
	batch_reset(&i->out);
}

void inject_settle(struct inject *i)
{
	if (i->file != -1)
		file_flush(i);
}

/* How many of frame[0..n) the file can take, once what is gathered is written. */
static unsigned file_room(struct inject *i, const struct iovec *frame, unsigned n)
{
	for (int again = 0; again < 2; again++) {
		size_t room = BATCH_BYTES - i->out.len;
		unsigned k = 0;

		while (k < n && i->out.n + k < BATCH_FRAMES && frame[k].iov_len + BATCH_EPB_MAX <= room)
			room -= frame[k++].iov_len + BATCH_EPB_MAX;
		if (k > 0)
			return k;
		file_flush(i);
		if (i->file == -1)
			return n;
	}
	return 0;
}

static void file_add(struct inject *i, const struct iovec *frame, uint64_t ts_ns)
{
	uint8_t *p = batch_reserve(&i->out, frame->iov_len);

	if (p == NULL) /* cannot be: file_room() */
		return;
	memcpy(p, frame->iov_base, frame->iov_len);
	batch_commit(&i->out, frame->iov_len, 0, ts_ns);
}

/* Standard output as a descriptor of our own: for a pipe a new opening of it, so that its being non-blocking does not
 * change the pipe for everybody who shares it. */
static int open_stdout(void)
{
	struct stat st;
	int fd = -1;

	if (fstat(STDOUT_FILENO, &st) == 0 && S_ISFIFO(st.st_mode))
		fd = open("/proc/self/fd/1", O_WRONLY | O_NONBLOCK | O_CLOEXEC);
	return fd != -1 ? fd : fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 3);
}

static int file_open(struct inject *i, const char *path, char err[static INJECT_ERR])
{
	bool out = strcmp(path, "-") == 0;
	uint8_t head[PCAPNG_HEAD];
	struct stat st;
	int r;

	(void)snprintf(i->path, sizeof(i->path), "%s", out ? "standard output" : path);
	i->file = out ? open_stdout()
		      : open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NONBLOCK | O_NOCTTY, 0600);
	pcapng_head(head);
	if (i->file == -1 || write(i->file, head, sizeof(head)) != sizeof(head)) {
		r = -errno;
		(void)snprintf(err, INJECT_ERR, "cannot write %.150s: %s", i->path, strerror(-r));
		return r;
	}
	i->regular = fstat(i->file, &st) == 0 && S_ISREG(st.st_mode);
	i->good = i->regular ? lseek(i->file, 0, SEEK_CUR) : 0;
	batch_init(&i->out);
	return 0;
}

int inject_init(struct inject *i, struct ev_loop *loop, const char *iface, const char *file, uint32_t mtu, bool force,
		void (*ready)(void *arg), void *arg, char err[static INJECT_ERR])
{
	int r;

	*i = (struct inject){.loop = loop, .ready = ready, .arg = arg, .file = -1, .mtu = mtu};
	i->nif.fd = -1;
	i->none = strcmp(iface, "none") == 0;
	ev_init(&i->io, on_writable);
	ev_init(&i->retry, on_retry);
	i->io.data = i->retry.data = i;
	if (!i->none) {
		r = netif_open(&i->nif, iface, NETIF_MAKE | (force ? NETIF_FORCE : 0), err);
		if (r != 0)
			return r;
		if (mtu > i->nif.mtu) {
			(void)snprintf(err, INJECT_ERR,
				       "MTU %u is above the %u of interface %s (ip link set NAME mtu N)", mtu,
				       i->nif.mtu, iface);
			return -EINVAL;
		}
	}
	if (i->mtu == 0)
		i->mtu = i->none ? DEFAULT_MTU : i->nif.mtu;
	return file == NULL ? 0 : file_open(i, file, err);
}

void inject_fini(struct inject *i)
{
	struct pollfd p = {.fd = i->file, .events = POLLOUT};

	inject_settle(i);
	while (i->file != -1 && i->out.len > 0 && poll(&p, 1, END_MS) == 1) /* a pipe whose reader is slow */
		inject_settle(i);
	if (i->loop != NULL) {
		ev_io_stop(i->loop, &i->io);
		ev_timer_stop(i->loop, &i->retry);
	}
	if (i->out.buf != NULL)
		batch_fini(&i->out);
	if (i->file != -1)
		close(i->file);
	i->file = -1;
	netif_close(&i->nif);
}

static void wait_writable(struct inject *i, int fd)
{
	i->busy = true;
	ev_io_stop(i->loop, &i->io);
	ev_io_set(&i->io, fd, EV_WRITE);
	ev_io_start(i->loop, &i->io);
}

ssize_t inject_send(struct inject *i, struct iovec *frame, const uint64_t *ts_ns, unsigned n)
{
	ssize_t r;

	if (i->failed)
		return -EIO;
	if (i->busy)
		return -EAGAIN;
	if (i->file != -1) {
		n = file_room(i, frame, n);
		if (i->failed)
			return -EIO;
		if (n == 0) {
			wait_writable(i, i->file);
			return -EAGAIN;
		}
	}
	r = i->none ? (ssize_t)n : netif_send(&i->nif, frame, n);
	for (ssize_t k = 0; i->file != -1 && k < r; k++)
		file_add(i, &frame[k], ts_ns[k]);
	switch (r) {
	case -EAGAIN:
		wait_writable(i, i->nif.fd);
		return -EAGAIN;
	case -ENOBUFS:
	case -ENETDOWN:
		i->busy = true;
		wait_time(i, r == -ENOBUFS ? BUSY_S : LOST_S);
		return -EAGAIN;
	default:
		return r;
	}
}
