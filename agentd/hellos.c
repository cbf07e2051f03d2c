/* SPDX-License-Identifier: Apache-2.0 */
/* hellos.c - the pairing table (see hellos.h). The file holds entries and nothing that points to them: the ways to find
 * them are in memory of our own, and made anew from what is good in the file. */
#include "hellos.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "hellos_file.h"

#define MAGIC "tlsHello"
#define VERSION 2
#define SPARED_MAX 64 /* entries of local sockets that are passed over in the search for one that makes room */
#define EXPIRE_MAX 4  /* entries freed by one call, which makes one at most */

_Static_assert(HELLOS_ERR >= HELLOS_FILE_ERR, "its lines fit");

struct entry {
	uint8_t random[32];
	uint8_t random_len; /* 0: free */
	uint8_t server;
	uint8_t n;
	uint8_t pad[5];
	struct hellos_seen seen[HELLOS_TUPLES];
};

struct head {
	char magic[8];
	uint32_t version, entry_size;
	uint64_t count;
	char boot[40];
};

struct table {
	struct head head;
	uint64_t high; /* entries from there on were never used */
	struct entry entry[];
};

/* Entries by age. */
struct queue {
	uint32_t first, last;
};

struct link {
	uint32_t prev, next;
};

/* Entries are numbered from 1, the tuples in them from id * HELLOS_TUPLES; 0 is none. */
struct hellos {
	struct hellos_file file;
	struct table *table;
	uint64_t seed, now_ns;
	uint32_t random_mask, tuple_mask;
	uint32_t *by_random, *by_tuple;	    /* hash: the first one */
	uint32_t *next_random, *next_tuple; /* the next one with that hash, or free entry */
	struct link *link;
	struct queue live, over; /* longest unseen first; longest over first */
	uint32_t free;
	struct hellos_count n;
};

/* --- finding -------------------------------------------------------------------------------------- */

static struct entry *entry(const struct hellos *h, uint32_t id)
{
	return &h->table->entry[id - 1];
}

static struct hellos_seen *seen_at(const struct hellos *h, uint32_t at)
{
	return &entry(h, at / HELLOS_TUPLES)->seen[at % HELLOS_TUPLES];
}

/* Keyed, so that nobody can choose what collides. */
static uint64_t mix(uint64_t sum, uint64_t word, uint64_t seed)
{
	sum = (sum ^ word) * 0x9e3779b97f4a7c15u;
	return (sum ^ sum >> 29) + seed;
}

static uint32_t *random_chain(const struct hellos *h, const uint8_t random[static HELLO_RANDOM_MIN])
{
	uint64_t w, sum;

	memcpy(&w, random, sizeof(w));
	sum = mix(mix(h->seed, w, h->seed), 0, h->seed);
	return &h->by_random[(uint32_t)(sum >> 32) & h->random_mask];
}

static uint32_t *tuple_chain(const struct hellos *h, const struct tuple *t, uint64_t netns)
{
	uint64_t w[sizeof(*t) / 8], sum = mix(h->seed, netns, h->seed);

	_Static_assert(sizeof(w) == sizeof(*t), "whole words");
	memcpy(w, t, sizeof(w));
	for (size_t i = 0; i < sizeof(w) / sizeof(w[0]); i++)
		sum = mix(sum, w[i], h->seed);
	return &h->by_tuple[(uint32_t)(sum >> 32) & h->tuple_mask];
}

static bool same(const struct hellos_seen *s, const struct tuple *t, uint64_t netns)
{
	return s->netns == netns && memcmp(&s->t, t, sizeof(*t)) == 0;
}

static struct hellos_seen *find_seen(struct entry *e, const struct tuple *t, uint64_t netns)
{
	for (unsigned i = 0; i < e->n; i++)
		if (same(&e->seen[i], t, netns))
			return &e->seen[i];
	return NULL;
}

/* --- linking -------------------------------------------------------------------------------------- */

static void unchain(uint32_t *chain, uint32_t *next, uint32_t id)
{
	while (*chain != id)
		chain = &next[*chain];
	*chain = next[id];
}

static void chain_tuple(struct hellos *h, uint32_t id, unsigned i)
{
	const struct hellos_seen *s = &entry(h, id)->seen[i];
	uint32_t *chain = tuple_chain(h, &s->t, s->netns), at = id * HELLOS_TUPLES + i;

	h->next_tuple[at] = *chain;
	*chain = at;
}

static void chain_random(struct hellos *h, uint32_t id)
{
	uint32_t *chain = random_chain(h, entry(h, id)->random);

	h->next_random[id] = *chain;
	*chain = id;
}

static bool is_over(const struct entry *e)
{
	for (unsigned i = 0; i < e->n; i++)
		if (!e->seen[i].ended)
			return false;
	return true;
}

static uint64_t last_ns(const struct entry *e)
{
	uint64_t last = 0;

	for (unsigned i = 0; i < e->n; i++)
		if (e->seen[i].last_ns > last)
			last = e->seen[i].last_ns;
	return last;
}

static void enqueue(struct hellos *h, uint32_t id)
{
	struct queue *q = is_over(entry(h, id)) ? &h->over : &h->live;

	h->link[id] = (struct link){.prev = q->last};
	*(q->last ? &h->link[q->last].next : &q->first) = id;
	q->last = id;
}

/* Before it changes: which queue it is in depends on that. */
static void dequeue(struct hellos *h, uint32_t id)
{
	struct queue *q = is_over(entry(h, id)) ? &h->over : &h->live;
	const struct link *l = &h->link[id];

	*(l->prev ? &h->link[l->prev].next : &q->first) = l->next;
	*(l->next ? &h->link[l->next].prev : &q->last) = l->prev;
}

/* --- room ----------------------------------------------------------------------------------------- */

static void set_free(struct hellos *h, uint32_t id)
{
	entry(h, id)->random_len = 0;
	h->next_random[id] = h->free;
	h->free = id;
}

static void release(struct hellos *h, uint32_t id)
{
	struct entry *e = entry(h, id);

	dequeue(h, id);
	unchain(random_chain(h, e->random), h->next_random, id);
	for (unsigned i = 0; i < e->n; i++)
		unchain(tuple_chain(h, &e->seen[i].t, e->seen[i].netns), h->next_tuple, id * HELLOS_TUPLES + i);
	set_free(h, id);
	h->n.used--;
}

static void evict(struct hellos *h, uint32_t id)
{
	if (!is_over(entry(h, id)))
		h->n.evicted++;
	release(h, id);
}

static bool is_past(const struct hellos *h, uint64_t ended_ns)
{
	return h->now_ns >= ended_ns && h->now_ns - ended_ns >= HELLOS_GRACE_NS;
}

static void set_now(struct hellos *h, uint64_t now_ns)
{
	if (now_ns > h->now_ns)
		h->now_ns = now_ns;
	for (unsigned i = 0; i < EXPIRE_MAX && h->over.first && is_past(h, last_ns(entry(h, h->over.first))); i++)
		release(h, h->over.first);
}

static bool is_local(const struct entry *e)
{
	for (unsigned i = 0; i < e->n; i++)
		if (e->seen[i].owner[SIDE_CLIENT] == HELLOS_LOCAL || e->seen[i].owner[SIDE_SERVER] == HELLOS_LOCAL)
			return true;
	return false;
}

/* Who makes room? Those that ended long ago; then those that concern no socket of this host, which anybody can send as
 * many of as he likes; then what must. 0: the table is empty. */
static uint32_t victim(struct hellos *h)
{
	uint32_t over = h->over.first;

	if (over && h->now_ns - last_ns(entry(h, over)) >= HELLOS_LATE_NS)
		return over;
	for (unsigned i = 0; i < SPARED_MAX && h->live.first; i++) {
		uint32_t id = h->live.first;

		if (!is_local(entry(h, id)))
			return id;
		dequeue(h, id);
		enqueue(h, id);
	}
	return over ? over : h->live.first;
}

/* Returns 0 if there is no memory for a single entry. */
static uint32_t take_free(struct hellos *h)
{
	struct table *t = h->table;
	uint32_t id = h->free;

	if (!id && t->high < t->head.count &&
	    hellos_file_back(&h->file, sizeof(*t) + (t->high + 1) * sizeof(t->entry[0]))) {
		id = (uint32_t)++t->high;
		set_free(h, id);
	}
	if (!id) {
		uint32_t out = victim(h);

		if (out)
			evict(h, out);
	}
	id = h->free;
	if (id)
		h->free = h->next_random[id];
	return id;
}

/* One connection that shows random after random must not fill the table, nor make its own chain long. */
static void limit_tuple(struct hellos *h, const struct tuple *t, uint64_t netns)
{
	uint32_t at = *tuple_chain(h, t, netns), oldest = 0;
	unsigned n = 0;

	for (; at; at = h->next_tuple[at]) {
		const struct hellos_seen *s = seen_at(h, at);

		if (!same(s, t, netns))
			continue;
		n++;
		if (!oldest || s->last_ns < seen_at(h, oldest)->last_ns)
			oldest = at;
	}
	if (n >= HELLOS_PER_TUPLE)
		evict(h, oldest / HELLOS_TUPLES);
}

/* --- adding --------------------------------------------------------------------------------------- */

/* The entry of this random: the very same, or one that a longer or shorter piece of the same hello has made. */
static uint32_t find_entry(const struct hellos *h, const struct hello *hello, uint64_t netns, unsigned *ret_alike)
{
	uint32_t id = *random_chain(h, hello->random), piece = 0;

	*ret_alike = 0;
	for (; id; id = h->next_random[id]) {
		struct entry *e = entry(h, id);
		size_t n = e->random_len < hello->random_len ? e->random_len : hello->random_len;

		if (e->server != hello->server || memcmp(e->random, hello->random, HELLO_RANDOM_MIN) != 0)
			continue;
		++*ret_alike;
		if (memcmp(e->random, hello->random, n) != 0)
			continue;
		if (e->random_len == hello->random_len)
			return id;
		if (find_seen(e, &hello->t, netns))
			piece = id;
	}
	return piece;
}

/* A process that ends in here leaves no entry, or a good one, in the file. */
static void set_entry(struct entry *e, const struct hello *hello)
{
	memset(e, 0, sizeof(*e));
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
	memcpy(e->random, hello->random, hello->random_len);
	e->server = hello->server;
	e->random_len = hello->random_len;
}

static struct hellos_seen *add_tuple(struct hellos *h, uint32_t id, const struct hello *hello, uint64_t netns,
				     uint32_t ifindex)
{
	struct entry *e = entry(h, id);

	e->seen[e->n] = (struct hellos_seen){.t = hello->t,
					     .netns = netns,
					     .ifindex = ifindex,
					     .sent = hello->sent,
					     .received = !hello->sent,
					     .first_ns = h->now_ns,
					     .last_ns = h->now_ns};
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
	chain_tuple(h, id, e->n);
	return &e->seen[e->n++];
}

static struct hellos_seen *add_entry(struct hellos *h, const struct hello *hello, uint64_t netns, uint32_t ifindex)
{
	struct hellos_seen *s;
	uint32_t id;

	limit_tuple(h, &hello->t, netns);
	id = take_free(h);
	if (!id)
		return NULL;
	set_entry(entry(h, id), hello);
	s = add_tuple(h, id, hello, netns, ifindex);
	chain_random(h, id);
	enqueue(h, id);
	h->n.used++;
	h->n.added++;
	return s;
}

static void refresh(struct hellos *h, struct hellos_seen *s, bool sent)
{
	s->sent |= sent;
	s->received |= !sent;
	s->last_ns = h->now_ns;
	if (s->ended) { /* another socket has this tuple now */
		s->ended = false;
		memset(s->owner, 0, sizeof(s->owner));
		memset(s->cookie, 0, sizeof(s->cookie));
	}
	h->n.refreshed++;
}

struct hellos_seen *hellos_add(struct hellos *h, const struct hello *hello, uint64_t netns, uint32_t ifindex,
			       uint64_t now_ns)
{
	struct hellos_seen *s;
	unsigned alike;
	struct entry *e;
	uint32_t id;

	set_now(h, now_ns);
	if (hello->retry)
		return NULL;
	id = find_entry(h, hello, netns, &alike);
	if (!id && alike < HELLOS_ALIKE)
		return add_entry(h, hello, netns, ifindex);
	e = id ? entry(h, id) : NULL;
	s = e ? find_seen(e, &hello->t, netns) : NULL;
	if (!s && (!e || e->n == HELLOS_TUPLES)) {
		h->n.crowded++;
		return NULL;
	}
	dequeue(h, id);
	if (s) {
		refresh(h, s, hello->sent);
	} else {
		limit_tuple(h, &hello->t, netns);
		s = add_tuple(h, id, hello, netns, ifindex);
		h->n.added++;
	}
	if (hello->random_len > e->random_len) {
		memcpy(e->random, hello->random, hello->random_len);
		e->random_len = hello->random_len;
	}
	enqueue(h, id);
	return s;
}

bool hellos_random(const struct hellos *h, const struct tuple *t, uint64_t netns, uint8_t ret_client[32])
{
	const struct hellos_seen *best = NULL;

	for (uint32_t at = *tuple_chain(h, t, netns); at; at = h->next_tuple[at]) {
		const struct hellos_seen *s = seen_at(h, at);
		const struct entry *e = entry(h, at / HELLOS_TUPLES);

		if (e->server || e->random_len != 32 || !same(s, t, netns) || (best && best->first_ns >= s->first_ns))
			continue;
		best = s;
		memcpy(ret_client, e->random, 32);
	}
	return best;
}

void hellos_end(struct hellos *h, const struct tuple *t, uint64_t netns, uint64_t now_ns)
{
	uint32_t at;

	set_now(h, now_ns);
	for (at = *tuple_chain(h, t, netns); at; at = h->next_tuple[at]) {
		struct hellos_seen *s = seen_at(h, at);

		if (s->ended || !same(s, t, netns))
			continue;
		dequeue(h, at / HELLOS_TUPLES);
		s->ended = true;
		s->last_ns = h->now_ns;
		enqueue(h, at / HELLOS_TUPLES);
	}
}

/* --- asking --------------------------------------------------------------------------------------- */

/* The entry that showed this random whole, or the only one that showed a piece of it. */
static const struct entry *lookup(const struct hellos *h, const uint8_t random[32], bool server)
{
	const struct entry *piece = NULL;
	unsigned pieces = 0;

	for (uint32_t id = *random_chain(h, random); id; id = h->next_random[id]) {
		const struct entry *e = entry(h, id);

		if (e->server != server || memcmp(e->random, random, e->random_len) != 0)
			continue;
		if (e->random_len == 32)
			return e;
		piece = e;
		pieces++;
	}
	return pieces == 1 ? piece : NULL;
}

static size_t add_found(const struct hellos *h, const struct entry *e, struct hellos_seen *ret, size_t n)
{
	for (unsigned i = 0; e && i < e->n; i++) {
		const struct hellos_seen *s = &e->seen[i];
		size_t k = 0;

		if (s->ended && is_past(h, s->last_ns))
			continue;
		while (k < n && !same(&ret[k], &s->t, s->netns))
			k++;
		if (k == n)
			ret[n++] = *s;
	}
	return n;
}

size_t hellos_find(const struct hellos *h, const uint8_t client[32], const uint8_t server[32],
		   struct hellos_seen ret[static 2 * HELLOS_TUPLES])
{
	size_t n = 0;

	if (client)
		n = add_found(h, lookup(h, client, false), ret, n);
	if (server)
		n = add_found(h, lookup(h, server, true), ret, n);
	return n;
}

void hellos_count(const struct hellos *h, struct hellos_count *ret)
{
	*ret = h->n;
}

/* --- opening -------------------------------------------------------------------------------------- */

/* What another process has written, perhaps half of it. */
static bool is_good(const struct entry *e)
{
	if (e->random_len < HELLO_RANDOM_MIN || e->random_len > 32 || e->server > 1 || e->n == 0 ||
	    e->n > HELLOS_TUPLES)
		return false;
	for (unsigned i = 0; i < e->n; i++) {
		const struct hellos_seen *s = &e->seen[i];

		if (*(const uint8_t *)&s->ended > 1 || *(const uint8_t *)&s->sent > 1 ||
		    *(const uint8_t *)&s->received > 1 || (s->t.ver != 4 && s->t.ver != 6) ||
		    s->first_ns > s->last_ns || s->owner[0] > HELLOS_NONE || s->owner[1] > HELLOS_NONE)
			return false;
	}
	return true;
}

static int by_age(const void *a, const void *b, void *hellos)
{
	uint64_t x = last_ns(entry(hellos, *(const uint32_t *)a)), y = last_ns(entry(hellos, *(const uint32_t *)b));

	return (x > y) - (x < y);
}

/* Take over what the file holds. Entries of which two are the same, which we never write, do no harm. */
static int adopt(struct hellos *h)
{
	struct table *t = h->table;
	uint32_t *ids, n = 0;

	if (t->high > t->head.count || !hellos_file_back(&h->file, sizeof(*t) + t->high * sizeof(t->entry[0])))
		t->high = 0;
	if (t->high == 0)
		return 0;
	ids = calloc(t->high, sizeof(*ids));
	if (ids == NULL)
		return -ENOMEM;
	for (uint32_t id = 1; id <= t->high; id++)
		if (is_good(entry(h, id)))
			ids[n++] = id;
		else
			set_free(h, id);
	qsort_r(ids, n, sizeof(*ids), by_age, h);
	for (uint32_t i = 0; i < n; i++) {
		chain_random(h, ids[i]);
		for (unsigned k = 0; k < entry(h, ids[i])->n; k++)
			chain_tuple(h, ids[i], k);
		enqueue(h, ids[i]);
	}
	h->n.used = n;
	free(ids);
	return 0;
}

static int read_boot(char ret[static 40])
{
	int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC), r = 0;
	ssize_t n;

	if (fd == -1)
		return -errno;
	n = read(fd, ret, 36);
	if (n != 36)
		r = n == -1 ? -errno : -EIO;
	close(fd);
	return r;
}

static int new_index(struct hellos *h, size_t entries)
{
	size_t randoms = 64, tuples;

	while (randoms < entries)
		randoms *= 2;
	tuples = 2 * randoms;
	h->random_mask = (uint32_t)randoms - 1;
	h->tuple_mask = (uint32_t)tuples - 1;
	h->by_random = calloc(randoms, sizeof(h->by_random[0]));
	h->by_tuple = calloc(tuples, sizeof(h->by_tuple[0]));
	h->next_random = calloc(entries + 1, sizeof(h->next_random[0]));
	h->next_tuple = calloc((entries + 1) * HELLOS_TUPLES, sizeof(h->next_tuple[0]));
	h->link = calloc(entries + 1, sizeof(h->link[0]));
	if (!h->by_random || !h->by_tuple || !h->next_random || !h->next_tuple || !h->link)
		return -ENOMEM;
	return getrandom(&h->seed, sizeof(h->seed), 0) == sizeof(h->seed) ? 0 : -EIO;
}

int hellos_open(struct hellos **ret, const char *path, size_t entries, char err[static HELLOS_ERR])
{
	struct head head = {.magic = MAGIC, .version = VERSION, .entry_size = sizeof(struct entry), .count = entries};
	struct hellos *h;
	int r;

	if (entries == 0 || entries > UINT32_MAX / HELLOS_TUPLES / 2) {
		(void)snprintf(err, HELLOS_ERR, "pairing table: %zu entries are not possible", entries);
		return -EINVAL;
	}
	h = calloc(1, sizeof(*h));
	r = h == NULL ? -ENOMEM : new_index(h, entries);
	if (r == 0)
		r = read_boot(head.boot);
	if (r < 0)
		(void)snprintf(err, HELLOS_ERR, "pairing table: %s", strerror(-r));
	if (r == 0)
		r = hellos_file_open(&h->file, path, sizeof(struct table) + entries * sizeof(struct entry), &head,
				     sizeof(head), err);
	if (r == 0) {
		h->table = (struct table *)h->file.map;
		r = adopt(h);
		if (r < 0)
			(void)snprintf(err, HELLOS_ERR, "pairing table: %s", strerror(-r));
	}
	if (r < 0)
		hellos_close(&h);
	else
		*ret = h;
	return r;
}

void hellos_close(struct hellos **h)
{
	if (*h == NULL)
		return;
	hellos_file_close(&(*h)->file);
	free((*h)->by_random);
	free((*h)->by_tuple);
	free((*h)->next_random);
	free((*h)->next_tuple);
	free((*h)->link);
	free(*h);
	*h = NULL;
}
