/* SPDX-License-Identifier: Apache-2.0 */
/* own.c - the shared lines about tlstap's own traffic (see own.h).
 *
 * Owners are told apart by a number drawn at start, not by pid: two of them may be in pid namespaces of their own. A
 * process that was stopped for so long that its line went to another notices by that number and takes a new one. */
#include "own.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "hostaddr.h"
#include "rtnl.h"

#define MAGIC 0x336e776f534c54ull /* "TLSown3": another layout gets another one */
#define LIVE 1
#define REFRESH_NS 1000000000ull
#define TRIES 100	 /* to read a line while its owner writes it */
#define PATH_LONGEST 256 /* bytes */
#define LOCK_TRIES 20
#define LOCK_WAIT_US 10000

struct body {
	uint64_t netns;			  /* inode of its network namespace */
	struct tuple tunnel[OWN_TUNNELS]; /* pad[0]: LIVE or not */
	uint32_t ifindex[OWN_INTERFACES];
	struct tuple listen[OWN_LISTENS]; /* where the server is; port 0: nowhere */
};

#define WORDS (sizeof(struct body) / 8)
_Static_assert(sizeof(struct body) % 8 == 0, "the body is copied by words");

struct line {
	_Atomic uint64_t owner; /* 0: free */
	_Atomic uint64_t beat_ns;
	_Atomic uint64_t seq; /* odd: being written */
	_Atomic uint64_t word[WORDS];
};

struct file {
	_Atomic uint64_t magic;
	_Atomic uint64_t changes;
	struct line line[OWN_LINES];
};

struct own {
	struct file *file; /* NULL: not shared */
	struct line *line; /* ours; NULL: all were taken, or not shared */
	uint64_t id;
	struct body body;
	/* the copy that questions are answered from */
	uint64_t changes, read_ns;
	unsigned tunnels, interfaces;
	struct tuple tunnel[(OWN_LINES + 1) * OWN_TUNNELS]; /* we may be without a line among them */
	uint32_t interface[(OWN_LINES + 1) * OWN_INTERFACES];
	unsigned listens;
	struct tuple listen[(OWN_LINES + 1) * OWN_LISTENS];
	uint64_t listened[65536 / 64]; /* ports of receivers */
	uint64_t tunneled[65536 / 64]; /* local ports of tunnels: most packets need no look at the lists */
	struct hostaddr host;	       /* if anybody listens */
};

static uint64_t now(void)
{
	struct timespec ts;

	(void)clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static bool has(const uint64_t map[static 65536 / 64], uint16_t port)
{
	return map[port / 64] >> (port % 64) & 1;
}

static void put(uint64_t map[static 65536 / 64], uint16_t port)
{
	map[port / 64] |= 1ull << (port % 64);
}

/* --- the file --- */

/* Open the folder of @path, which nobody else may write to. Returns a descriptor or -errno. */
static int open_folder(const char *path, const char **ret_name)
{
	const char *slash = strrchr(path, '/');
	char folder[PATH_LONGEST];
	struct stat st;
	int fd;

	if (slash == NULL || slash == path || (size_t)(slash - path) >= sizeof(folder))
		return -EINVAL;
	memcpy(folder, path, (size_t)(slash - path));
	folder[slash - path] = '\0';
	*ret_name = slash + 1;
	if (geteuid() == 0 && mkdir(folder, 0755) == 0)
		(void)chmod(folder, 0755); /* whatever the umask */
	fd = open(folder, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd == -1)
		return -errno;
	if (fstat(fd, &st) == -1 || st.st_uid != geteuid() || st.st_mode & 022) {
		close(fd);
		return -EPERM;
	}
	return fd;
}

/* Map the file behind @fd if it is ours and of our layout. Returns 0, -ESTALE (to be replaced) or -errno. */
static int map_file(int fd, struct file **ret)
{
	uint64_t none = 0;
	struct stat st;
	struct file *f;

	if (fstat(fd, &st) == -1)
		return -errno;
	if (!S_ISREG(st.st_mode) || st.st_uid != geteuid() || st.st_mode & 077 || st.st_nlink != 1 ||
	    (st.st_size != 0 && st.st_size != sizeof(*f)))
		return -ESTALE;
	if (st.st_size == 0 && ftruncate(fd, sizeof(*f)) == -1)
		return -errno;
	f = mmap(NULL, sizeof(*f), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (f == MAP_FAILED)
		return -errno;
	if (!atomic_compare_exchange_strong(&f->magic, &none, MAGIC) && none != MAGIC) {
		(void)munmap(f, sizeof(*f));
		return -ESTALE;
	}
	*ret = f;
	return 0;
}

static int open_file(const char *path, struct file **ret)
{
	const char *name = NULL;
	int dir = open_folder(path, &name), r = dir < 0 ? dir : -ESTALE;

	/* One at a time, so that nobody removes another's new file. Anybody can hold that lock: do not wait for
	 * ever. */
	for (int i = 0; dir >= 0 && i < LOCK_TRIES && flock(dir, LOCK_EX | LOCK_NB) == -1; i++)
		(void)usleep(LOCK_WAIT_US);
	for (int i = 0; i < 3 && r == -ESTALE; i++) {
		int fd = openat(dir, name, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK, 0600);

		if (fd != -1)
			r = map_file(fd, ret);
		else if (errno != ELOOP && errno != EISDIR && errno != ENXIO)
			r = -errno;
		if (r == -ESTALE && unlinkat(dir, name, 0) == -1 && errno != ENOENT)
			r = -errno;
		if (fd != -1)
			close(fd);
	}
	if (dir >= 0)
		close(dir);
	return r;
}

/* --- our line --- */

/* Is nobody heard of this line any more? A beat from the future is nonsense. */
static bool stale(const struct line *l, uint64_t now_ns)
{
	uint64_t beat = atomic_load_explicit(&l->beat_ns, memory_order_relaxed);

	return beat > now_ns ? beat - now_ns > OWN_STALE_NS : now_ns - beat > OWN_STALE_NS;
}

static void claim(struct own *o, uint64_t now_ns)
{
	o->line = NULL;
	for (unsigned i = 0; o->file != NULL && i < OWN_LINES; i++) {
		struct line *l = &o->file->line[i];
		uint64_t owner = atomic_load(&l->owner);

		if (owner != 0 && !stale(l, now_ns))
			continue;
		/* the beat first: nobody else is to find a stale line of a living owner */
		atomic_store(&l->beat_ns, now_ns);
		if (atomic_compare_exchange_strong(&l->owner, &owner, o->id)) {
			o->line = l;
			return;
		}
	}
}

static void publish(struct own *o)
{
	struct line *l = o->line;
	uint64_t word[WORDS], seq;

	o->read_ns = 0; /* our own copy too */
	if (l == NULL || atomic_load(&l->owner) != o->id)
		return; /* own_beat() sees to it */
	memcpy(word, &o->body, sizeof(word));
	seq = atomic_load(&l->seq) | 1; /* odd: ours now, or left so by one that died */
	atomic_store_explicit(&l->seq, seq, memory_order_relaxed);
	for (unsigned i = 0; i < WORDS; i++)
		atomic_store_explicit(&l->word[i], word[i], memory_order_release);
	atomic_store_explicit(&l->seq, seq + 1, memory_order_release);
	atomic_fetch_add(&o->file->changes, 1);
}

int own_open(struct own **ret, const char *path, bool *ret_shared, int *ret_err)
{
	struct own *o = calloc(1, sizeof(*o));
	struct stat st;
	int r;

	*ret_shared = false;
	*ret_err = 0;
	if (o == NULL)
		return -ENOMEM;
	if (stat("/proc/self/ns/net", &st) == 0)
		o->body.netns = st.st_ino;
	while (o->id == 0)
		if (getrandom(&o->id, sizeof(o->id), 0) != sizeof(o->id))
			o->id = now() | 1;
	r = open_file(path, &o->file);
	if (r == 0) {
		claim(o, now());
		publish(o);
	}
	*ret_shared = o->line != NULL;
	*ret_err = r != 0 ? -r : o->line == NULL ? ENOSPC : 0;
	own_refresh(o, now());
	*ret = o;
	return 0;
}

void own_close(struct own **op)
{
	struct own *o = *op;
	uint64_t id;

	if (o == NULL)
		return;
	id = o->id;
	if (o->line != NULL && atomic_compare_exchange_strong(&o->line->owner, &id, 0))
		atomic_fetch_add(&o->file->changes, 1);
	if (o->file != NULL)
		(void)munmap(o->file, sizeof(*o->file));
	free(o);
	*op = NULL;
}

void own_tunnel(struct own *o, unsigned which, const struct tuple *t)
{
	struct tuple ends = {0};

	if (o == NULL || which >= OWN_TUNNELS)
		return;
	if (t != NULL) {
		ends = *t;
		ends.pad[0] = LIVE;
	}
	if (memcmp(&ends, &o->body.tunnel[which], sizeof(ends)) == 0)
		return;
	o->body.tunnel[which] = ends;
	publish(o);
}

void own_tunnel_over(struct own *o, unsigned which)
{
	if (o == NULL || which >= OWN_TUNNELS || o->body.tunnel[which].pad[0] != LIVE)
		return;
	o->body.tunnel[which].pad[0] = 0;
	publish(o);
}

unsigned own_replay(struct own *o, uint32_t ifindex)
{
	uint32_t seen[OWN_INTERFACES] = {ifindex};
	struct joined_link *links;
	unsigned found = ifindex != 0;
	int n;

	if (o == NULL)
		return 0;
	links = ifindex != 0 ? calloc(JOINED_LINKS_MAX, sizeof(*links)) : NULL;
	if (links != NULL) {
		n = rtnl_links(links, JOINED_LINKS_MAX);
		found = joined_find(links, n > 0 ? (unsigned)n : 0, ifindex, seen, OWN_INTERFACES);
		free(links);
	}
	if (memcmp(seen, o->body.ifindex, sizeof(seen)) == 0)
		return found;
	memcpy(o->body.ifindex, seen, sizeof(seen));
	publish(o);
	return found;
}

unsigned own_replays(const struct own *o, uint32_t *ret, unsigned max)
{
	unsigned n = 0;

	for (; o != NULL && n < max && n < OWN_INTERFACES && o->body.ifindex[n] != 0; n++)
		ret[n] = o->body.ifindex[n];
	return n;
}

void own_listen(struct own *o, unsigned which, const struct tuple *at)
{
	if (o == NULL || which >= OWN_LISTENS || memcmp(at, &o->body.listen[which], sizeof(*at)) == 0)
		return;
	o->body.listen[which] = *at;
	publish(o);
}

void own_beat(struct own *o, uint64_t now_ns)
{
	if (o == NULL || o->file == NULL)
		return;
	if (o->line != NULL && atomic_load(&o->line->owner) == o->id) {
		atomic_store_explicit(&o->line->beat_ns, now_ns, memory_order_relaxed);
		return;
	}
	claim(o, now_ns);
	publish(o);
}

/* --- everybody's lines --- */

static bool read_line(const struct line *l, struct body *ret)
{
	uint64_t word[WORDS];

	for (int tries = 0; tries < TRIES; tries++) {
		uint64_t seq = atomic_load_explicit(&l->seq, memory_order_acquire);

		for (unsigned i = 0; i < WORDS; i++)
			word[i] = atomic_load_explicit(&l->word[i], memory_order_acquire);
		if (!(seq & 1) && atomic_load_explicit(&l->seq, memory_order_relaxed) == seq) {
			memcpy(ret, word, sizeof(word));
			return true;
		}
	}
	return false;
}

static void add(struct own *o, const struct body *b)
{
	for (unsigned i = 0; i < OWN_TUNNELS; i++) {
		if (b->tunnel[i].ver != 4 && b->tunnel[i].ver != 6)
			continue;
		o->tunnel[o->tunnels++] = b->tunnel[i];
		put(o->tunneled, b->tunnel[i].port[SIDE_CLIENT]);
	}
	for (unsigned i = 0; i < OWN_INTERFACES; i++)
		if (b->ifindex[i] != 0)
			o->interface[o->interfaces++] = b->ifindex[i];
	for (unsigned i = 0; i < OWN_LISTENS; i++)
		if (b->listen[i].port[SIDE_SERVER] != 0) {
			o->listen[o->listens++] = b->listen[i];
			put(o->listened, b->listen[i].port[SIDE_SERVER]);
		}
}

void own_refresh(struct own *o, uint64_t now_ns)
{
	uint64_t changes;
	struct body b;

	if (o == NULL)
		return;
	changes = o->file != NULL ? atomic_load_explicit(&o->file->changes, memory_order_acquire) : 0;
	if (o->read_ns != 0 && changes == o->changes && now_ns - o->read_ns < REFRESH_NS)
		return;
	o->changes = changes;
	o->read_ns = now_ns;
	o->tunnels = o->interfaces = o->listens = 0;
	memset(o->listened, 0, sizeof(o->listened));
	memset(o->tunneled, 0, sizeof(o->tunneled));
	add(o, &o->body);
	for (unsigned i = 0; o->file != NULL && i < OWN_LINES; i++) {
		const struct line *l = &o->file->line[i];
		uint64_t owner = atomic_load_explicit(&l->owner, memory_order_relaxed);

		if (owner != 0 && l != o->line && !stale(l, now_ns) && read_line(l, &b) && b.netns == o->body.netns)
			add(o, &b);
	}
	if (o->listens > 0)
		hostaddr_read(&o->host);
}

static bool same_end(const struct tuple *a, unsigned i, const struct tuple *b, unsigned k)
{
	return a->port[i] == b->port[k] && memcmp(a->addr[i], b->addr[k], sizeof(a->addr[i])) == 0;
}

/* Does a receiver of this host listen at end @i? */
static bool is_listened(const struct own *o, const struct tuple *t, unsigned i)
{
	if (!has(o->listened, t->port[i]))
		return false;
	for (unsigned n = 0; n < o->listens; n++) {
		const struct tuple *at = &o->listen[n];

		if (at->ver == 0 ? at->port[SIDE_SERVER] == t->port[i] && hostaddr_has(&o->host, t->ver, t->addr[i])
				 : at->ver == t->ver && same_end(t, i, at, SIDE_SERVER))
			return true;
	}
	return false;
}

bool own_is_tunnel(const struct own *o, const struct tuple *t)
{
	if (o == NULL)
		return false;
	if (is_listened(o, t, 0) || is_listened(o, t, 1))
		return true;
	if (!has(o->tunneled, t->port[0]) && !has(o->tunneled, t->port[1]))
		return false;
	for (unsigned n = 0; n < o->tunnels; n++)
		for (unsigned i = 0; i < 2; i++) {
			const struct tuple *own = &o->tunnel[n];
			bool local = same_end(t, i, own, SIDE_CLIENT), remote = same_end(t, !i, own, SIDE_SERVER);

			if (t->ver != own->ver || t->port[i] != own->port[SIDE_CLIENT])
				continue;
			if (own->pad[0] == LIVE ? local || remote : local && remote)
				return true;
		}
	return false;
}

bool own_is_replay(const struct own *o, uint32_t ifindex)
{
	if (o == NULL || ifindex == 0)
		return false;
	for (unsigned i = 0; i < o->interfaces; i++)
		if (o->interface[i] == ifindex)
			return true;
	return false;
}
