/* SPDX-License-Identifier: Apache-2.0 */
/* resolve.c - name look-ups in a thread (see resolve.h). */
#include "resolve.h"

#include <errno.h>
#include <netdb.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "common/sock.h"

struct resolve {
	atomic_int refs;  /* the owner and the thread: the last one frees */
	atomic_bool done; /* released by the thread after the fields below, acquired by resolve_result() */
	int fd;
	int gai; /* of getaddrinfo(3) */
	int n;
	struct resolve_addr addr[RESOLVE_MAX];
	char host[SOCK_HOST_MAX];
	char port[8];
};

static void drop(struct resolve *r)
{
	if (atomic_fetch_sub_explicit(&r->refs, 1, memory_order_acq_rel) != 1)
		return;
	close(r->fd);
	free(r);
}

static void ask(struct resolve *r, int flags)
{
	struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV | flags};
	struct addrinfo *list = NULL;

	r->gai = getaddrinfo(r->host, r->port, &hints, &list);
	for (const struct addrinfo *a = list; r->gai == 0 && a != NULL && r->n < RESOLVE_MAX; a = a->ai_next) {
		if (a->ai_addrlen > sizeof(r->addr[0].sa))
			continue;
		memcpy(&r->addr[r->n].sa, a->ai_addr, a->ai_addrlen);
		r->addr[r->n++].len = a->ai_addrlen;
	}
	if (list != NULL)
		freeaddrinfo(list);
}

static void finish(struct resolve *r)
{
	atomic_store_explicit(&r->done, true, memory_order_release);
	(void)eventfd_write(r->fd, 1);
}

static void *run(void *arg)
{
	struct resolve *r = arg;

	ask(r, AI_ADDRCONFIG);
	finish(r);
	drop(r);
	return NULL;
}

static int start_thread(struct resolve *r)
{
	sigset_t all, old;
	pthread_t thread;
	int err;

	atomic_fetch_add(&r->refs, 1);
	sigfillset(&all); /* signals are for the loop */
	pthread_sigmask(SIG_SETMASK, &all, &old);
	err = pthread_create(&thread, NULL, run, r);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (err != 0) {
		atomic_fetch_sub(&r->refs, 1);
		return -err;
	}
	pthread_detach(thread);
	return 0;
}

int resolve_start(struct resolve **ret, const char *host, uint16_t port)
{
	struct resolve *r = calloc(1, sizeof(*r));
	int err = 0;

	if (r == NULL)
		return -ENOMEM;
	atomic_init(&r->refs, 1);
	r->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (r->fd == -1) {
		err = -errno;
		free(r);
		return err;
	}
	(void)snprintf(r->host, sizeof(r->host), "%s", host);
	(void)snprintf(r->port, sizeof(r->port), "%u", port);
	ask(r, AI_NUMERICHOST);
	if (r->gai == EAI_NONAME)
		err = start_thread(r);
	else
		finish(r);
	if (err != 0)
		drop(r);
	else
		*ret = r;
	return err;
}

int resolve_fd(const struct resolve *r)
{
	return r->fd;
}

int resolve_result(struct resolve *r, struct resolve_addr ret[static RESOLVE_MAX], const char **ret_why)
{
	if (!atomic_load_explicit(&r->done, memory_order_acquire))
		return -EAGAIN;
	if (r->gai != 0 || r->n == 0) {
		*ret_why = r->gai != 0 ? gai_strerror(r->gai) : "no address";
		return -ENOENT;
	}
	memcpy(ret, r->addr, sizeof(r->addr));
	return r->n;
}

void resolve_free(struct resolve **r)
{
	if (*r != NULL)
		drop(*r);
	*r = NULL;
}
