/* SPDX-License-Identifier: Apache-2.0 */
/* presence.c - a page, and its heartbeat. */
#include "presence.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define PAGE 4096

/* The page is made under another name and renamed: nobody sees it half done, and nobody's file or link is followed. */
int presence_init(struct presence *p, const char *path)
{
	struct attach_page empty = {.magic = ATTACH_MAGIC, .abi = ATTACH_ABI};
	char temp[256];
	void *page;
	int fd, err = 0;

	if ((size_t)snprintf(temp, sizeof(temp), "%s.new", path) >= sizeof(temp))
		return -ENAMETOOLONG;
	(void)unlink(temp);
	fd = open(temp, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0644);
	if (fd == -1)
		return -errno;
	if (fchmod(fd, 0644) == -1 || ftruncate(fd, PAGE) == -1 ||
	    pwrite(fd, &empty, sizeof(empty), 0) != (ssize_t)sizeof(empty) || rename(temp, path) == -1)
		err = -errno;
	if (!err) {
		page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
		if (page == MAP_FAILED)
			err = -errno;
		else
			p->page = page;
	}
	close(fd);
	if (err)
		(void)unlink(temp);
	return err;
}

static void beat(struct presence *p)
{
	struct timespec ts;

	(void)clock_gettime(CLOCK_MONOTONIC, &ts);
	atomic_store(&p->page->beat_ns, (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec);
}

static void on_beat(struct ev_loop *loop, ev_timer *w, int events)
{
	(void)loop;
	(void)events;
	beat(w->data);
}

void presence_start(struct presence *p, struct ev_loop *loop)
{
	p->loop = loop;
	ev_timer_init(&p->beat, on_beat, 0, (double)ATTACH_BEAT_NS / 1e9);
	p->beat.data = p;
	ev_timer_start(loop, &p->beat);
	beat(p);
}

void presence_switch(struct presence *p, bool off)
{
	if (p->page)
		atomic_store(&p->page->off, off);
}

void presence_stop(struct presence *p)
{
	if (p->loop)
		ev_timer_stop(p->loop, &p->beat);
	if (p->page)
		atomic_store(&p->page->beat_ns, 0);
}
