/* SPDX-License-Identifier: Apache-2.0 */
/* pair.c - have the kernel prove the addresses that a process states. */
#include "pair.h"

#include <arpa/inet.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <string.h>

#include "common/log.h"

static uint64_t cookie_of(const struct tap *t)
{
	return t->family->id << 20 | t->slot;
}

/* The processes that may hold the socket: first the one that calls itself @pid. A child that we have not met is taken at
 * its word if it maps the family's memory; that fails where its pid is one of another namespace, and then all
 * processes are looked through. false: ask again later. */
static bool ask(struct tap *t, int32_t pid, int fd, const struct endpoint *e)
{
	struct helper_pid p[HELPER_PIDS_MAX];
	struct family *f = t->family;
	bool known = false;
	size_t n = 1;

	for (unsigned i = 0; i < f->member_n; i++) {
		if (f->member[i]->ns_pid == pid && !known) {
			known = true;
			p[0] = f->member[i]->p;
		} else if (n < HELPER_PIDS_MAX) {
			p[n++] = f->member[i]->p;
		}
	}
	if (known)
		return helper_verify(f->lane->helper, cookie_of(t), p, n, fd, e) == 0;
	if (f->scan_asked)
		return false;
	p[0] = (struct helper_pid){.pid = pid};
	return helper_verify_child(f->lane->helper, cookie_of(t), &f->file, p, n, fd, e) == 0;
}

static void refuse(struct tap *t, enum helper_result why);

void pair_ask(struct tap *t)
{
	struct lane *l = t->family->lane;

	if (t->cookie || t->state != TAP_ASKING || l->now_ns < t->ask_ns)
		return;
	if (!pair_wanted(l, &t->e)) {
		tap_refuse(t, &l->sum.denied);
		return;
	}
	if (t->open.pid <= 0) { /* nobody calls himself that: what it says is not to wait in our memory */
		refuse(t, HELPER_R_NO_PROCESS);
		return;
	}
	if (ask(t, t->open.pid, t->open.fd, &t->e))
		t->cookie = cookie_of(t);
}

void pair_ask_told(struct tap *t, struct told *told)
{
	if (told->pid > 0 && pair_wanted(t->family->lane, &told->e))
		told->asked = ask(t, told->pid, told->fd, &told->e);
}

void pair_tend(struct tap *t)
{
	struct lane *l = t->family->lane;

	if (l->now_ns - t->asked_ns > TAP_PAIR_NS) {
		l->unpaired_n++;
		tap_refuse(t, &l->sum.unpaired);
		return;
	}
	pair_ask(t);
}

static void refuse(struct tap *t, enum helper_result why)
{
	static const char *const text[] = {
		[HELPER_R_ERROR] = "the kernel could not be asked",
		[HELPER_R_FOREIGN] = "the socket is not one of the process's descriptors",
		[HELPER_R_GONE] = "there is no such socket (any more)",
		[HELPER_R_OTHER_NETNS] = "the process lives in another network namespace",
		[HELPER_R_NO_PROCESS] = "the process has gone",
	};
	struct family *f = t->family;
	char addr[TUPLE_STRLEN];
	struct tuple tuple;

	f->lane->unverified_n++;
	tap_refuse(t, &f->lane->sum.unverified);
	if (f->unverified_told)
		return;
	f->unverified_told = true; /* once per process */
	pair_tuple(t, &tuple);
	log_warn("pair", "process %d (%s): connection %s is unverified, its data are not forged: %s",
		 f->member_n ? (int)f->member[0]->p.pid : 0, f->member_n ? f->member[0]->exe : "",
		 tuple_str(&tuple, addr), why < sizeof(text) / sizeof(text[0]) && text[why] ? text[why] : "no proof");
}

/* It holds a socket, and it maps the family's memory: one of the family. */
static void meet(struct family *f, int32_t pid)
{
	const struct helper_pid p = {.pid = pid};

	for (unsigned i = 0; i < f->member_n; i++)
		if (f->member[i]->p.pid == pid)
			return;
	(void)family_member(f, &p, pid);
}

void pair_on_answer(struct lane *l, const struct helper_event *e)
{
	struct family *f = family_find(l, e->cookie >> 20);
	uint32_t slot = (uint32_t)(e->cookie & 0xfffff);
	struct tap *t = f && slot < f->taps_n ? f->taps[slot] : NULL;

	if (!t)
		return;
	if (e->result == HELPER_R_LIVE || e->result == HELPER_R_LISTENER)
		meet(f, e->sock_pid);
	for (unsigned i = 0; i < TAP_TOLD && e->result == HELPER_R_LIVE; i++) {
		struct told *told = &t->told[i];

		if (!told->asked || told->live || !endpoint_same(&e->e, &told->e))
			continue;
		told->live = true;
		told->sock_cookie = e->sock_cookie;
	}
	if (t->cookie != e->cookie)
		return;
	t->cookie = 0;
	if (t->state != TAP_ASKING)
		return;
	if (!endpoint_same(&e->e, &t->e)) {
		pair_ask(t); /* the slot has gone on to another connection */
		return;
	}
	switch (e->result) {
	case HELPER_R_LIVE:
	case HELPER_R_LISTENER:
		tap_verified(t, e->sock_cookie, e->result == HELPER_R_LISTENER);
		break;
	case HELPER_R_FOREIGN:
	case HELPER_R_NO_PROCESS:
	case HELPER_R_ERROR:
		/* handed to a child since the family was last looked at? */
		if (t->asked_again++ < 2) {
			f->scanned = false;
			break;
		}
		refuse(t, e->result);
		break;
	case HELPER_R_GONE:
		/* the word of a server's socket's end may still be on its way from the kernel; a client's proves nothing */
		if (t->server && t->asked_again++ < 3) {
			t->ask_ns = l->now_ns + (30000000ull << t->asked_again);
			break;
		}
		/* fall through */
	default:
		refuse(t, e->result);
	}
}

void pair_tuple(const struct tap *t, struct tuple *ret)
{
	memset(ret, 0, sizeof(*ret));
	ret->ver = t->e.ver;
	memcpy(ret->addr[t->server ? SIDE_SERVER : SIDE_CLIENT], t->e.local, 16);
	memcpy(ret->addr[t->server ? SIDE_CLIENT : SIDE_SERVER], t->e.remote, 16);
	ret->port[t->server ? SIDE_SERVER : SIDE_CLIENT] = t->e.local_port;
	ret->port[t->server ? SIDE_CLIENT : SIDE_SERVER] = t->e.remote_port;
}

bool pair_wanted(struct lane *l, const struct endpoint *e)
{
	struct ifaddrs *all, *a;
	bool yes = false;

	if (strcmp(l->conf->interface, "any") == 0)
		return true;
	if (getifaddrs(&all) == -1)
		return false;
	for (a = all; a && !yes; a = a->ifa_next) {
		if (!a->ifa_addr || strcmp(a->ifa_name, l->conf->interface) != 0)
			continue;
		if (a->ifa_addr->sa_family == AF_INET && e->ver == 4)
			yes = memcmp(&((struct sockaddr_in *)(void *)a->ifa_addr)->sin_addr, e->local, 4) == 0;
		else if (a->ifa_addr->sa_family == AF_INET6 && e->ver == 6)
			yes = memcmp(&((struct sockaddr_in6 *)(void *)a->ifa_addr)->sin6_addr, e->local, 16) == 0;
	}
	freeifaddrs(all);
	return yes;
}
