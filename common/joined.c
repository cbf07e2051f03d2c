/* SPDX-License-Identifier: Apache-2.0 */
/* joined.c - follow a frame through the interfaces of a host (see joined.h). */
#include "joined.h"

#include <stdbool.h>

enum { OUT = 1, IN = 2 };

static bool mark(struct joined_link *l, uint8_t how)
{
	bool news = (l->seen & how) == 0;

	l->seen |= how;
	return news;
}

/* What a frame that passes @a does to @b. Returns true if that was not known. */
static bool follow(const struct joined_link *a, const struct joined_link *all, unsigned n, struct joined_link *b)
{
	bool news = false;

	if (a->seen & OUT && a->link == b->index && a->kind == JOINED_VETH)
		news |= mark(b, IN);
	if (a->seen & OUT && a->link == b->index && a->kind == JOINED_ABOVE)
		news |= mark(b, OUT);
	if (a->seen & OUT && b->master == a->index)
		news |= mark(b, OUT);
	if (a->seen & IN && a->master == b->index)
		news |= mark(b, IN);
	if (a->seen & IN && b->link == a->index && b->kind == JOINED_ABOVE)
		news |= mark(b, IN);
	if (a->seen & IN && a->master != 0 && a->master == b->master)
		for (unsigned i = 0; i < n; i++)
			if (all[i].index == a->master && all[i].kind == JOINED_BRIDGE)
				news |= mark(b, OUT);
	return news;
}

unsigned joined_find(struct joined_link *links, unsigned n, uint32_t index, uint32_t *ret, unsigned max)
{
	unsigned found = 0;
	bool news = true;

	for (unsigned i = 0; i < n; i++)
		links[i].seen = links[i].index == index ? OUT : 0;
	while (news) {
		news = false;
		for (unsigned a = 0; a < n; a++)
			for (unsigned b = 0; links[a].seen != 0 && b < n; b++)
				if (a != b && follow(&links[a], links, n, &links[b]))
					news = true;
	}
	if (found++ < max)
		ret[0] = index;
	for (unsigned i = 0; i < n; i++)
		if (links[i].seen != 0 && links[i].index != index && found++ < max)
			ret[found - 1] = links[i].index;
	return found;
}
