/* SPDX-License-Identifier: Apache-2.0 */
/* offswitch.c - is the file there? */
#include "offswitch.h"

#include <errno.h>
#include <sys/stat.h>

#include "common/log.h"
#include "family.h"
#include "permit.h"

/* 1: it is there, 0: it is not, -errno: who knows. */
static int look(const char *path)
{
	struct stat st;

	if (lstat(path, &st) == 0)
		return 1;
	return errno == ENOENT || errno == ENOTDIR ? 0 : -errno;
}

int offswitch_check(const char *path)
{
	int there = look(path);

	return there < 0 ? there : 0;
}

static void look_now(struct offswitch *s)
{
	int there = look(s->path);
	bool off = there != 0; /* in doubt we let go */

	if (there < 0 && there != s->err)
		log_warn_errno("offswitch", -there, "%s cannot be looked for: all taps are switched off", s->path);
	s->err = there < 0 ? there : 0;
	if (off == s->lane->off)
		return;
	s->lane->off = off;
	if (there >= 0)
		log_warn("offswitch", off ? "%s exists: all taps are switched off" : "%s is gone: taps are on again",
			 s->path);
	attach_switch(s->attach, off);
	for (struct family *f = s->lane->families; f; f = f->next)
		permit_switch(f);
}

static void on_timer(struct ev_loop *loop, ev_timer *w, int events)
{
	(void)loop;
	(void)events;
	look_now(w->data);
}

void offswitch_start(struct offswitch *s, const char *path, struct lane *lane, struct attach *attach)
{
	s->lane = lane;
	s->attach = attach;
	s->path = path;
	s->err = 0;
	look_now(s);
	ev_timer_init(&s->timer, on_timer, OFFSWITCH_S, OFFSWITCH_S);
	s->timer.data = s;
	ev_timer_start(lane->loop, &s->timer);
}

void offswitch_stop(struct offswitch *s)
{
	if (s->lane)
		ev_timer_stop(s->lane->loop, &s->timer);
}
