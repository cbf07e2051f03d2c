/* SPDX-License-Identifier: Apache-2.0 */
/* ledger.c - where in the tunnel the bytes of cleartext are (see ledger.h). */
#include "ledger.h"

#include <assert.h>

bool ledger_room(const struct ledger *l)
{
	/* Two spare entries: one for each state, so that a batch always finds a neighbour of its own state to join. */
	return l->end - l->first <= LEDGER_MAX - 2;
}

/* Count the last two entries as one, if they are of one state. */
static void join_last(struct ledger *l)
{
	uint64_t a = l->end - 2, b = l->end - 1;

	if (l->end - l->first < 2 || (a < l->sent) != (b < l->sent))
		return;
	l->e[a % LEDGER_MAX].off = l->e[b % LEDGER_MAX].off;
	l->e[a % LEDGER_MAX].payload += l->e[b % LEDGER_MAX].payload;
	if (l->sent == l->end)
		l->sent--;
	l->end--;
}

void ledger_put(struct ledger *l, uint64_t off, uint64_t payload)
{
	assert(l->end - l->first < LEDGER_MAX);
	if (payload == 0)
		return;
	l->e[l->end % LEDGER_MAX].off = off;
	l->e[l->end % LEDGER_MAX].payload = payload;
	l->end++;
	l->backlog += payload;
}

void ledger_sent(struct ledger *l, uint64_t off)
{
	while (l->sent < l->end && l->e[l->sent % LEDGER_MAX].off <= off) {
		l->backlog -= l->e[l->sent % LEDGER_MAX].payload;
		l->in_flight += l->e[l->sent % LEDGER_MAX].payload;
		l->sent++;
	}
	if (!ledger_room(l))
		join_last(l);
}

uint64_t ledger_acked(struct ledger *l, uint64_t off)
{
	uint64_t n = 0;

	while (l->first < l->sent && l->e[l->first % LEDGER_MAX].off <= off)
		n += l->e[l->first++ % LEDGER_MAX].payload;
	l->in_flight -= n;
	return n;
}

uint64_t ledger_break(struct ledger *l)
{
	uint64_t n = l->in_flight + l->backlog;

	l->first = l->sent = l->end = 0;
	l->in_flight = l->backlog = 0;
	return n;
}
