/* SPDX-License-Identifier: Apache-2.0 */
/* wire.c - handshakes on the wire -> who showed which random, and whose its ends are. */
#include "wire.h"

#include <errno.h>
#include <net/if.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "common/log.h"
#include "common/own.h"
#include "family.h"
#include "lane.h"
#include "realtime.h"

#define TABLE_FILE "hellos"
#define LOOPBACK 1u
#define READ_STEP 32u	      /* packets between two chances for the lane */
#define READ_MAX 4096u	      /* packets of one socket in one pass */
#define PATIENCE_NS 20000000u /* how long the lane waits for the reader at most ... */
#define PATIENCE_SHARE 8      /* ... and which part of its time: who floods us cannot hold it up for more */
#define HURRY_NS 2000000ull   /* the lane is waked for handshakes that nobody else may see at most once in so long */
#define NETNS_WAIT_MS 3000    /* for the helper, at the start */
#define NETNS_IDLE_NS 5000000000ull /* a namespace without a tapped process is let go after so long */
#define DROPS_LOG_NS 30000000000ull /* between two lines about lost hellos */
#define NETNS_LOG_NS 30000000000ull /* ... about namespaces that cannot be opened */

static uint64_t clock_of(clockid_t clock)
{
	struct timespec ts;

	(void)clock_gettime(clock, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static void endpoint_of(const struct tuple *t, enum side local, uint64_t netns, struct endpoint *ret)
{
	memset(ret, 0, sizeof(*ret));
	memcpy(ret->local, t->addr[local], 16);
	memcpy(ret->remote, t->addr[!local], 16);
	ret->local_port = t->port[local];
	ret->remote_port = t->port[!local];
	ret->ver = t->ver;
	ret->netns = netns;
}

/* --- whose is it? ---------------------------------------------------------------------------------- */

/* Ask the kernel about one end of @seen. A socket without an inode is not accepted yet, or closed already. */
static void look_up(const struct wire_ns *ns, struct hellos_seen *seen, enum side side, bool certain)
{
	struct sockdiag_info info;
	struct endpoint e;
	int err;

	if (ns->diag == -1 || seen->owner[side] != HELLOS_UNKNOWN)
		return;
	endpoint_of(&seen->t, side, seen->netns, &e);
	err = sockdiag_find(ns->diag, &e, &info);
	if (err == 0 && info.inode) {
		seen->owner[side] = HELLOS_LOCAL;
		seen->uid[side] = info.uid;
		seen->cookie[side] = info.cookie;
	} else if (err == -ENOENT && certain) {
		seen->owner[side] = HELLOS_NONE;
	}
}

static struct wire_ns *find_ns(const struct wire *w, uint64_t netns)
{
	for (unsigned i = 0; i < w->ns_n; i++)
		if (w->ns[i]->sock.netns == netns)
			return w->ns[i];
	return NULL;
}

static void tell_sessions(struct wire *w, const struct hello *h, uint64_t netns, uint32_t ifindex, uint64_t now_ns)
{
	struct wire_news *to;

	if (!w->news || h->retry)
		return;
	if (w->news_n == WIRE_QUEUE) {
		w->news_lost++;
		return;
	}
	to = &w->news[w->news_n++];
	to->hello = *h;
	to->netns = netns;
	to->now_ns = now_ns;
	to->ifindex = ifindex;
}

/* Does it say that it comes from a socket of this host, and comes in all the same? Then somebody else has made it. On
 * the loopback, always interface 1, everything leaves and comes in. */
static bool is_forged(const struct wire_ns *ns, const struct hello *h, uint32_t ifindex)
{
	struct hellos_seen from = {.t = h->t, .netns = ns->sock.netns};
	enum side sender = h->server ? SIDE_SERVER : SIDE_CLIENT;

	if (h->sent || ifindex == LOOPBACK)
		return false;
	look_up(ns, &from, sender, false);
	return from.owner[sender] == HELLOS_LOCAL;
}

/* The client has a socket when its hello is out, the server when it has answered: a look for it comes in time but for
 * connections that are over in less than our delay. */
static void on_hello(void *arg, const struct hello_sock *s, const struct hello *h, uint32_t ifindex)
{
	struct wire_ns *ns = arg;
	struct wire *w = ns->wire;
	uint64_t now = clock_of(CLOCK_MONOTONIC);
	struct hellos_seen *seen;

	w->hellos++;
	if (is_forged(ns, h, ifindex)) {
		w->forged++;
		return;
	}
	tell_sessions(w, h, s->netns, ifindex, now);
	seen = hellos_add(w->table, h, s->netns, ifindex, now);
	if (!seen)
		return;
	look_up(ns, seen, h->server ? SIDE_SERVER : SIDE_CLIENT, true);
}

/* One pass through all sockets, until each has been empty or has given READ_MAX packets. */
static void pass(struct wire *w)
{
	uint64_t number;

	pthread_mutex_lock(&w->lock);
	number = ++w->passes;
	for (unsigned i = 0; i < w->ns_n; i++)
		for (unsigned n = 0; n < READ_MAX && i < w->ns_n; n += READ_STEP) {
			bool empty = hello_sock_read(&w->ns[i]->sock, READ_STEP, on_hello, w->ns[i]) < (int)READ_STEP;

			if (empty)
				break;
			pthread_mutex_unlock(&w->lock); /* the lane may have a question */
			pthread_mutex_lock(&w->lock);
		}
	w->passed = number;
	pthread_cond_broadcast(&w->drained);
	if (w->news_n && clock_of(CLOCK_MONOTONIC) - w->told_lane_ns > HURRY_NS) {
		w->told_lane_ns = clock_of(CLOCK_MONOTONIC);
		ev_async_send(w->lane->loop, &w->hurry);
	}
	pthread_mutex_unlock(&w->lock);
}

/* Without the lock: only the lane's thread changes w->ns. */
static bool something_waits(const struct wire *w)
{
	struct pollfd p[WIRE_NETNS_MAX];

	for (unsigned i = 0; i < w->ns_n; i++)
		p[i] = (struct pollfd){.fd = w->ns[i]->sock.fd, .events = POLLIN};
	return w->ns_n && poll(p, w->ns_n, 0) > 0;
}

/* What waits in the sockets is the reader's: it is woken already, and sooner than we would be done. */
static void wait_for_reader(struct wire *w)
{
	uint64_t wanted = w->passes + (something_waits(w) ? 1 : 0), now, until_ns, spent;
	struct timespec until;

	if (w->passed >= wanted)
		return;
	now = clock_of(CLOCK_MONOTONIC);
	w->patience_ns += (now - w->patience_at_ns) / PATIENCE_SHARE;
	if (w->patience_ns > PATIENCE_NS)
		w->patience_ns = PATIENCE_NS;
	w->patience_at_ns = now;
	if (!w->patience_ns)
		return;
	until_ns = clock_of(CLOCK_REALTIME) + w->patience_ns;
	until = (struct timespec){.tv_sec = (time_t)(until_ns / 1000000000), .tv_nsec = (long)(until_ns % 1000000000)};
	pthread_mutex_lock(&w->lock);
	while (w->passed < wanted && pthread_cond_timedwait(&w->drained, &w->lock, &until) == 0)
		;
	pthread_mutex_unlock(&w->lock);
	w->patience_at_ns = clock_of(CLOCK_MONOTONIC);
	spent = w->patience_at_ns - now;
	w->patience_ns -= spent < w->patience_ns ? spent : w->patience_ns;
}

/* Is it a session that is to be shown in the clear? Not our own tunnel; of one interface, if one was asked for. */
static bool counts(const struct wire *w, const struct wire_news *n)
{
	const char *iface = w->lane->conf->interface;

	if (w->own && own_is_tunnel(w->own, &n->hello.t))
		return false;
	return strcmp(iface, "any") == 0 || (n->netns == w->own_netns && n->ifindex == if_nametoindex(iface));
}

void wire_read(struct wire *w)
{
	struct wire_news *news;
	uint32_t n;

	if (w->running)
		wait_for_reader(w);
	if (!w->news_n)
		return;
	pthread_mutex_lock(&w->lock);
	news = w->news;
	n = w->news_n;
	w->news = w->news_read;
	w->news_read = news;
	w->news_n = 0;
	pthread_mutex_unlock(&w->lock);
	for (uint32_t i = 0; i < n; i++)
		if (counts(w, &news[i]))
			sessions_hello(w->sessions, &news[i].hello, news[i].netns, news[i].now_ns);
}

/* --- the reader ------------------------------------------------------------------------------------ */

/* Everything that waits, as soon as it is there. */
static void *reader(void *arg)
{
	struct wire *w = arg;
	struct pollfd p[1 + WIRE_NETNS_MAX];
	struct realtime rank;
	uint64_t waked;
	bool stop;

	realtime_begin(&rank);
	for (;;) {
		nfds_t n = 0;

		realtime_spend(&rank);
		pass(w);
		pthread_mutex_lock(&w->lock);
		p[n++] = (struct pollfd){.fd = w->wake, .events = POLLIN};
		for (unsigned i = 0; i < w->ns_n; i++)
			p[n++] = (struct pollfd){.fd = w->ns[i]->sock.fd, .events = POLLIN};
		stop = w->stop;
		pthread_mutex_unlock(&w->lock);
		if (stop)
			return NULL;
		if (poll(p, n, -1) > 0 && p[0].revents)
			(void)!read(w->wake, &waked, sizeof(waked));
	}
}

static void wake_reader(struct wire *w)
{
	(void)!write(w->wake, &(uint64_t){1}, sizeof(uint64_t));
}

/* --- namespaces ------------------------------------------------------------------------------------ */

#ifndef SO_NETNS_COOKIE
#define SO_NETNS_COOKIE 71 /* Linux 5.14 */
#endif

/* The kernel's name of the network namespace where the socket @fd, or the other end of it, was made; 0: it does not
 * say. */
static uint64_t netns_cookie(int fd)
{
	uint64_t cookie = 0;
	socklen_t len = sizeof(cookie);

	return getsockopt(fd, SOL_SOCKET, SO_NETNS_COOKIE, &cookie, &len) == 0 ? cookie : 0;
}

uint64_t wire_netns_of(struct wire *w, int fd)
{
	uint64_t cookie = netns_cookie(fd), netns = 0;

	pthread_mutex_lock(&w->lock);
	for (unsigned i = 0; cookie && i < w->ns_n && !netns; i++)
		if (w->ns[i]->cookie == cookie)
			netns = w->ns[i]->sock.netns;
	pthread_mutex_unlock(&w->lock);
	return netns;
}

static struct wire_ns *add_ns(struct wire *w, uint64_t netns, int fd)
{
	struct wire_ns *ns = w->ns_n < WIRE_NETNS_MAX ? calloc(1, sizeof(*ns)) : NULL;

	if (!ns)
		return NULL;
	ns->wire = w;
	ns->sock.fd = fd;
	ns->cookie = netns_cookie(fd);
	ns->sock.netns = netns;
	ns->diag = ns->pidfd = -1;
	ns->since_ns = clock_of(CLOCK_MONOTONIC);
	pthread_mutex_lock(&w->lock);
	w->ns[w->ns_n++] = ns;
	pthread_mutex_unlock(&w->lock);
	wake_reader(w);
	return ns;
}

static void drop_ns(struct wire *w, unsigned i)
{
	struct wire_ns *ns = w->ns[i];

	pthread_mutex_lock(&w->lock);
	w->ns[i] = w->ns[--w->ns_n];
	pthread_mutex_unlock(&w->lock);
	wake_reader(w);
	w->of_closed_drops += ns->sock.drops;
	close(ns->sock.fd);
	if (ns->diag != -1)
		close(ns->diag);
	if (ns->pidfd != -1)
		close(ns->pidfd);
	free(ns);
}

static const char *why_no_netns(int err)
{
	switch (err) {
	case EPERM:
		return "not allowed: agentd needs CAP_SYS_ADMIN for it, from its start";
	case ENOSPC:
		return "too many are open";
	case ENOENT:
		return "there is no such network namespace below /run/netns, see ip-netns(8)";
	default:
		return strerror(err);
	}
}

void wire_on_netns(struct wire *w, const struct helper_event *e)
{
	struct wire_ns *ns = find_ns(w, e->netns);

	if (e->result == HELPER_R_ERROR) {
		w->netns_failed++;
		if (w->netns_failed == 1 || w->lane->now_ns - w->netns_told_ns > NETNS_LOG_NS) {
			log_warn("wire", "cannot see the handshakes of a tapped process's network namespace: %s",
				 why_no_netns(e->err));
			w->netns_told_ns = w->lane->now_ns;
		}
	}
	if (e->result == HELPER_R_GONE) { /* its name is gone, and the helper has let go of it */
		for (unsigned i = 1; ns && i < w->ns_n; i++)
			if (w->ns[i] == ns) {
				drop_ns(w, i);
				log_info("wire", "network namespace %llu is gone", (unsigned long long)e->netns);
				break;
			}
		return;
	}
	if (e->fd == -1)
		return;
	if (!e->last && !ns && add_ns(w, e->netns, e->fd)) {
		log_info("wire", "sees handshakes of network namespace %llu", (unsigned long long)e->netns);
		return;
	}
	if (e->last && ns && ns->diag == -1) {
		pthread_mutex_lock(&w->lock);
		ns->diag = e->fd;
		pthread_mutex_unlock(&w->lock);
		return;
	}
	close(e->fd);
}

/* The process by whose number a namespace was asked for has died. */
static void forget_pid(struct wire_ns *ns)
{
	struct pollfd p = {.fd = ns->pidfd, .events = POLLIN};

	if (ns->pidfd == -1 || poll(&p, 1, 0) <= 0)
		return;
	close(ns->pidfd);
	ns->pidfd = -1;
	ns->asked_for = false;
}

/* Namespaces that were opened for tapped processes of which none is left: they are not kept alive. */
static void let_go(struct wire *w)
{
	for (unsigned i = 1; i < w->ns_n;) {
		struct wire_ns *ns = w->ns[i];
		bool used;

		forget_pid(ns);
		used = ns->asked_for || w->lane->now_ns - ns->since_ns < NETNS_IDLE_NS;

		for (const struct family *f = w->lane->families; f && !used; f = f->next)
			used = f->netns == ns->sock.netns || !f->netns;
		if (used || helper_netns_close(w->lane->helper, ns->sock.netns) != 0) {
			i++;
			continue;
		}
		log_info("wire", "network namespace %llu has no tapped process any more",
			 (unsigned long long)ns->sock.netns);
		drop_ns(w, i);
	}
}

struct opening {
	struct wire *wire;
	uint64_t cookie;
	bool done;
	enum helper_result result;
	int err;
	uint64_t netns;
};

static void on_opened(void *arg, const struct helper_event *e)
{
	struct opening *o = arg;

	if (e->type != HELPER_NETNS) {
		if (e->fd != -1)
			close(e->fd);
		return;
	}
	if (e->result == HELPER_R_OK)
		wire_on_netns(o->wire, e);
	if (!e->last || e->cookie != o->cookie)
		return;
	o->done = true;
	o->result = e->result;
	o->err = e->err;
	o->netns = e->netns;
}

static bool is_pid(const char *s, int32_t *ret)
{
	char *end;
	long n = strtol(s, &end, 10);

	*ret = (int32_t)n;
	return *s >= '0' && *s <= '9' && !*end && n > 0 && n <= INT32_MAX;
}

static int open_one(struct wire *w, struct helper *h, const char *name, uint64_t cookie, char err[static WIRE_ERR])
{
	struct opening o = {.wire = w, .cookie = cookie};
	struct pollfd p = {.fd = helper_fd(h), .events = POLLIN};
	struct wire_ns *ns;
	int32_t pid;
	int ret = is_pid(name, &pid) ? helper_netns_pid(h, cookie, pid) : helper_netns_name(h, cookie, name);

	while (!ret && !o.done) {
		(void)helper_flush(h);
		if (poll(&p, 1, NETNS_WAIT_MS) != 1 || helper_poll(h, 16, on_opened, &o) < 0)
			ret = -EPIPE;
	}
	if (!ret && o.result == HELPER_R_NO_PROCESS)
		ret = -ESRCH;
	else if (!ret && o.result == HELPER_R_ERROR)
		ret = o.err ? -o.err : -EINVAL;
	if (ret) {
		snprintf(err, WIRE_ERR, "--netns %.64s: %s", name,
			 ret == -ESRCH ? "there is no such process" : why_no_netns(-ret));
		return ret;
	}
	ns = find_ns(w, o.netns);
	if (ns && ns->pidfd == -1 && is_pid(name, &pid) && !ns->asked_for)
		ns->pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
	if (ns)
		ns->asked_for = true;
	return 0;
}

int wire_open_netns(struct wire *w, struct helper *h, const struct opt_list *names, char err[static WIRE_ERR])
{
	for (size_t i = 0; i < names->n; i++) {
		int ret = strcmp(names->item[i], "all") == 0 ? 0 : open_one(w, h, names->item[i], i + 1, err);

		if (ret)
			return ret;
	}
	return 0;
}

/* --- start and end --------------------------------------------------------------------------------- */

static void on_second(struct ev_loop *loop, ev_timer *t, int events)
{
	struct wire *w = t->data;
	struct lane *l = w->lane;

	(void)loop;
	(void)events;
	lane_clock(l);
	pthread_mutex_lock(&w->lock);
	w->drops = w->of_closed_drops;
	for (unsigned i = 0; i < w->ns_n; i++) {
		hello_sock_count(&w->ns[i]->sock);
		w->drops += w->ns[i]->sock.drops;
	}
	pthread_mutex_unlock(&w->lock);
	if (w->drops != w->drops_told && l->now_ns - w->told_ns > DROPS_LOG_NS) {
		log_warn("wire",
			 "the kernel had no room for %llu handshake packets: some connections may stay unpaired",
			 (unsigned long long)(w->drops - w->drops_told));
		w->drops_told = w->drops;
		w->told_ns = l->now_ns;
	}
	let_go(w);
	if (w->sessions)
		sessions_tick(w->sessions, l->now_ns);
}

static int open_own(struct wire *w, char err[static WIRE_ERR])
{
	struct stat st;
	struct wire_ns *ns;
	int fd;

	fd = stat("/proc/self/ns/net", &st) == -1 ? -errno : hello_sock_open();
	if (fd < 0) {
		snprintf(err, WIRE_ERR, "cannot see handshakes on the wire: %s",
			 fd == -EPERM || fd == -EACCES ? "not allowed: start agentd as root (CAP_NET_RAW)"
						       : strerror(-fd));
		return fd;
	}
	w->own_netns = st.st_ino;
	ns = add_ns(w, st.st_ino, fd);
	if (!ns) {
		close(fd);
		snprintf(err, WIRE_ERR, "out of memory");
		return -ENOMEM;
	}
	ns->asked_for = true;
	ns->diag = sockdiag_open();
	if (ns->diag < 0) {
		snprintf(err, WIRE_ERR, "cannot ask the kernel about sockets: %s", strerror(-ns->diag));
		fd = ns->diag;
		ns->diag = -1;
		return fd;
	}
	return 0;
}

int wire_open(struct wire *w, const char *socket, struct sessions *sessions, const struct own *own,
	      char err[static WIRE_ERR])
{
	const char *slash = strrchr(socket, '/');
	char path[256];
	int ret;

	memset(w, 0, sizeof(*w));
	realtime_lock_init(&w->lock);
	pthread_cond_init(&w->drained, NULL);
	w->sessions = sessions;
	w->own = own;
	w->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (sessions) {
		w->news = calloc(WIRE_QUEUE, sizeof(*w->news));
		w->news_read = calloc(WIRE_QUEUE, sizeof(*w->news));
	}
	if (w->wake == -1 || (sessions && (!w->news || !w->news_read))) {
		snprintf(err, WIRE_ERR, "out of memory");
		return -ENOMEM;
	}
	if (!slash || (size_t)snprintf(path, sizeof(path), "%.*s/%s", (int)(slash - socket), socket, TABLE_FILE) >=
			      sizeof(path)) {
		snprintf(err, WIRE_ERR, "--socket: the path is too long");
		return -ENAMETOOLONG;
	}
	ret = open_own(w, err);
	if (!ret)
		ret = hellos_open(&w->table, path, HELLOS_ENTRIES, err);
	if (!ret)
		ret = hellos_open(&w->inner, NULL, WIRE_INNER, err);
	return ret;
}

static void on_hurry(struct ev_loop *loop, ev_async *a, int events)
{
	struct wire *w = a->data;

	(void)loop;
	(void)events;
	lane_clock(w->lane);
	wire_read(w);
	(void)helper_flush(w->lane->helper);
}

int wire_start(struct wire *w, struct lane *l)
{
	int ret;

	w->lane = l;
	ev_async_init(&w->hurry, on_hurry);
	w->hurry.data = w;
	ev_async_start(l->loop, &w->hurry);
	ret = pthread_create(&w->reader, NULL, reader, w);
	if (ret)
		return -ret;
	w->running = true;
	ev_timer_init(&w->second, on_second, 1, 1);
	w->second.data = w;
	ev_timer_start(l->loop, &w->second);
	return 0;
}

void wire_close(struct wire *w)
{
	if (w->running) {
		pthread_mutex_lock(&w->lock);
		w->stop = true;
		pthread_mutex_unlock(&w->lock);
		wake_reader(w);
		pthread_join(w->reader, NULL);
		ev_timer_stop(w->lane->loop, &w->second);
		ev_async_stop(w->lane->loop, &w->hurry);
	}
	while (w->ns_n)
		drop_ns(w, w->ns_n - 1);
	if (w->wake > 0)
		close(w->wake);
	free(w->news);
	free(w->news_read);
	hellos_close(&w->table);
	hellos_close(&w->inner);
}

/* --- questions ------------------------------------------------------------------------------------- */

void wire_ended(struct wire *w, const struct endpoint *e)
{
	struct tuple t = {.ver = e->ver};

	for (unsigned local = 0; local < 2 && w->table; local++) { /* it does not say whose role it had */
		memcpy(t.addr[local], e->local, 16);
		memcpy(t.addr[!local], e->remote, 16);
		t.port[local] = e->local_port;
		t.port[!local] = e->remote_port;
		pthread_mutex_lock(&w->lock);
		hellos_end(w->table, &t, e->netns, w->lane->now_ns);
		pthread_mutex_unlock(&w->lock);
		if (w->sessions)
			sessions_ended(w->sessions, &t, e->netns, w->lane->now_ns);
	}
}

void wire_cleartext(struct wire *w, const uint8_t *p, size_t len, const struct tuple *t, uint64_t family,
		    uint64_t sock_cookie, uint32_t depth)
{
	struct hellos_seen *seen;
	struct hello h;

	if (len < 6 || p[0] != 0x16 || p[1] != 0x03 || !w->inner || !hello_parse_tls(p, len, &h))
		return;
	h.t = *t;
	seen = hellos_add(w->inner, &h, family, depth + 1, w->lane->now_ns);
	if (seen)
		seen->cookie[0] = sock_cookie;
}

/* @add: also if it is not among them yet. */
static void add_found(struct hellos_seen *ret, size_t *n, const struct hellos_seen *s, bool add)
{
	for (size_t i = 0; i < *n; i++) {
		if (memcmp(&ret[i].t, &s->t, sizeof(s->t)) != 0 || ret[i].netns != s->netns)
			continue;
		for (unsigned side = 0; side < 2; side++)
			if (s->owner[side] == HELLOS_LOCAL || ret[i].owner[side] == HELLOS_UNKNOWN) {
				ret[i].owner[side] = s->owner[side];
				ret[i].uid[side] = s->uid[side];
				ret[i].cookie[side] = s->cookie[side];
			}
		return;
	}
	if (add)
		ret[(*n)++] = *s;
}

size_t wire_find(struct wire *w, const uint8_t client[32], const uint8_t server[32], enum side local,
		 struct hellos_seen ret[static WIRE_FOUND], bool *ret_own)
{
	struct hellos_seen s[2 * HELLOS_TUPLES];
	size_t n = 0;

	*ret_own = false;
	if (!w->table)
		return 0;
	pthread_mutex_lock(&w->lock);
	for (unsigned i = 0; i < 2; i++) {
		bool of_server = (local == SIDE_SERVER) == (i == 0);
		size_t k = hellos_find(w->table, of_server ? NULL : client, of_server ? server : NULL, s);

		for (size_t j = 0; j < k; j++)
			add_found(ret, &n, &s[j], !*ret_own);
		*ret_own |= i == 0 && k;
	}
	for (size_t i = 0; i < n; i++) {
		const struct wire_ns *ns = find_ns(w, ret[i].netns);

		for (unsigned side = 0; ns && side < 2; side++) /* accepted only after its hello was here */
			look_up(ns, &ret[i], (enum side)side, false);
	}
	pthread_mutex_unlock(&w->lock);
	return n;
}

bool wire_random(struct wire *w, const struct tuple *t, uint64_t netns, uint8_t ret_client[32])
{
	bool found;

	if (!w->table)
		return false;
	pthread_mutex_lock(&w->lock);
	found = hellos_random(w->table, t, netns, ret_client);
	pthread_mutex_unlock(&w->lock);
	return found;
}

bool wire_find_inner(struct wire *w, const uint8_t client[32], const uint8_t server[32], uint64_t family,
		     struct tuple *ret, uint64_t *ret_cookie, uint32_t *ret_depth)
{
	struct hellos_seen s[2 * HELLOS_TUPLES];
	size_t n = w->inner ? hellos_find(w->inner, client, server, s) : 0;

	for (size_t i = 0; i < n; i++)
		if (s[i].netns == family) {
			*ret = s[i].t;
			*ret_cookie = s[i].cookie[0];
			*ret_depth = s[i].ifindex;
			return true;
		}
	return false;
}

void wire_count(struct wire *w, struct hellos_count *ret)
{
	pthread_mutex_lock(&w->lock);
	hellos_count(w->table, ret);
	pthread_mutex_unlock(&w->lock);
}
