/* SPDX-License-Identifier: Apache-2.0 */
/* attach.c - presence page, socket, mapping; runs in the constructor or at the first TLS call. */
#define _GNU_SOURCE
#include "attach.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "common/attach.h"
#include "resolve.h"

#ifndef MADV_WIPEONFORK
#define MADV_WIPEONFORK 18
#endif

_Atomic int attach_state;
struct shm attach_shm;
bool attach_may_ask = true;
int32_t attach_pid;

/* A page of this process alone: a child, however it was made, finds zeroes here (madvise(2)). */
#define NO_PRODUCER 0x80000000u /* in it: there was no number for this child */
static _Atomic uint32_t *own_page;
static int busy_fd[2] = {-1, -1}; /* what an attach holds right now */
static pid_t busy_pid;
static uint16_t last_producer; /* what the process that attached, or a parent, had: copied by fork */

/* Programs that install a system call filter of their own after their start, most of them one that kills on surprise,
 * or whose ways we have not proven: never attach late, never ask for addresses. http and https are methods of apt.
 * Whoever is missing here is named by TLSTAP_CONFINED=1. */
static const char *const confined[] = {
	"sshd",	  "sshd-session", "ssh",	   "vsftpd", "tor",   "chronyd",
	"ntpd",	  "ocserv",	  "ocserv-worker", "http",   "https", "QtWebEngineProcess",
	"chrome", "chromium",
};

/* Of these only the children, but it is the parent that speaks TLS. */
static const char *const mozilla[] = {"firefox", "firefox-esr", "firefox-bin", "thunderbird", "thunderbird-bin"};
#define MOZILLA_CHILD "-contentproc" /* an argument of theirs */
static bool mozilla_child;

static bool is_one_of(const char *name, const char *const *list, size_t n)
{
	for (size_t i = 0; name && i < n; i++)
		if (strcmp(name, list[i]) == 0)
			return true;
	return false;
}

static bool is_confined(void)
{
	const char *exe = (const char *)getauxval(AT_EXECFN);
	const char *name = exe ? strrchr(exe, '/') : NULL;
	const char *told = secure_getenv("TLSTAP_CONFINED");

	if (told && *told && strcmp(told, "0") != 0)
		return true;
	name = name ? name + 1 : exe;
	return is_one_of(name, confined, sizeof(confined) / sizeof(confined[0])) ||
	       (mozilla_child && is_one_of(name, mozilla, sizeof(mozilla) / sizeof(mozilla[0])));
}

/* Is a seccomp filter in force, or memory locked (our mapping would be, too)? Unknown counts as yes. */
static __attribute__((noinline)) bool is_restricted(void)
{
	char buf[512];
	bool free_of_filter = false, unlocked = false;
	int fd = open("/proc/self/status", O_RDONLY | O_CLOEXEC);
	ssize_t n;
	size_t have = 0;

	if (fd == -1)
		return true;
	/* the lines stand in different blocks: keep the end of what was read */
	while ((n = read(fd, buf + have, sizeof(buf) - 1 - have)) > 0) {
		have += (size_t)n;
		buf[have] = '\0';
		free_of_filter |= strstr(buf, "\nSeccomp:\t0\n") != NULL;
		unlocked |= strstr(buf, "\nVmLck:\t       0 kB\n") != NULL;
		if (have > 64) {
			memmove(buf, buf + have - 64, 64);
			have = 64;
		}
	}
	(void)close(fd);
	return !free_of_filter || !unlocked;
}

/* The mapping must not take what little address space the program has been given. */
static bool is_cramped(void)
{
	struct rlimit r;

	return getrlimit(RLIMIT_AS, &r) == 0 && r.rlim_cur != RLIM_INFINITY;
}

/* Paths of the socket and of the presence page beside it. */
static bool paths(struct sockaddr_un *sock, char *page, size_t size)
{
	const char *path = secure_getenv("TLSTAP_SOCKET");
	const char *slash;
	size_t dir;

	if (!path || !*path)
		path = ATTACH_SOCKET;
	slash = strrchr(path, '/');
	dir = slash ? (size_t)(slash - path) + 1 : 0;
	if (strlen(path) >= sizeof(sock->sun_path) || dir + sizeof(ATTACH_PAGE) > size)
		return false;
	memset(sock, 0, sizeof(*sock));
	sock->sun_family = AF_UNIX;
	strcpy(sock->sun_path, path);
	memcpy(page, path, dir);
	memcpy(page + dir, ATTACH_PAGE, sizeof(ATTACH_PAGE));
	return true;
}

/* fstat(2) by number: its libc name has changed its version too often. */
static bool owner_of(int fd, uid_t *ret)
{
	struct stat st;

	if (syscall(SYS_fstat, fd, &st) != 0 || !S_ISREG(st.st_mode))
		return false;
	*ret = st.st_uid;
	return true;
}

static bool trusted(uid_t uid)
{
	return uid == 0 || uid == getuid();
}

/* Does the page, whose descriptor is taken, say that an agentd of ours is alive? The kernel's clock, not one that
 * libfaketime shows. */
static bool present(int fd)
{
	struct attach_page *page;
	struct timespec now;
	uint64_t beat, now_ns;
	bool yes = false;
	uid_t uid;

	page = owner_of(fd, &uid) && trusted(uid) && lseek(fd, 0, SEEK_END) >= (off_t)sizeof(*page)
		       ? mmap(NULL, sizeof(*page), PROT_READ, MAP_SHARED, fd, 0)
		       : MAP_FAILED;
	(void)close(fd);
	if (page == MAP_FAILED)
		return false;
	if (page->magic == ATTACH_MAGIC && page->abi == ATTACH_ABI && !atomic_load(&page->off) &&
	    syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &now) == 0) {
		now_ns = (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
		beat = atomic_load(&page->beat_ns);
		yes = beat && beat <= now_ns && now_ns - beat < ATTACH_STALE_NS;
	}
	(void)munmap(page, sizeof(*page));
	return yes;
}

/* A descriptor of ours must never be one that the program takes for its standard ones. */
static int above_standard(int fd)
{
	int high;

	if (fd == -1 || fd > 2)
		return fd;
	high = fcntl(fd, F_DUPFD_CLOEXEC, 3);
	(void)close(fd);
	return high;
}

/* The reply's descriptor, or -1. Any other that came is closed. */
static int take_fd(struct msghdr *msg)
{
	int fd = -1;

	for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c; c = CMSG_NXTHDR(msg, c)) {
		size_t n = c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS
				   ? (c->cmsg_len - CMSG_LEN(0)) / sizeof(int)
				   : 0;

		for (size_t i = 0; i < n; i++) {
			int got;

			memcpy(&got, CMSG_DATA(c) + i * sizeof(int), sizeof(got));
			if (fd == -1)
				fd = got;
			else
				(void)close(got);
		}
	}
	return fd;
}

/* Ask for a mapping, for @ms. Returns the memfd, or -1. */
static int request(int s, int ms, uint64_t *ret_size)
{
	struct attach_request req = {.magic = ATTACH_MAGIC, .abi = ATTACH_ABI, .pid = getpid()};
	struct attach_reply reply = {.magic = 0};
	union {
		struct cmsghdr align;
		char buf[CMSG_SPACE(4 * sizeof(int))];
	} control;
	struct iovec iov = {.iov_base = &reply, .iov_len = sizeof(reply)};
	struct msghdr msg = {.msg_iov = &iov,
			     .msg_iovlen = 1,
			     .msg_control = &control,
			     .msg_controllen = sizeof(control)};
	struct pollfd wait = {.fd = s, .events = POLLIN};
	struct ucred peer;
	socklen_t len = sizeof(peer);
	int fd;

	if (getsockopt(s, SOL_SOCKET, SO_PEERCRED, &peer, &len) != 0 || !trusted(peer.uid))
		return -1;
	if (send(s, &req, sizeof(req), MSG_NOSIGNAL | MSG_DONTWAIT) != (ssize_t)sizeof(req) || poll(&wait, 1, ms) != 1)
		return -1;
	if (recvmsg(s, &msg, MSG_CMSG_CLOEXEC | MSG_DONTWAIT) == -1)
		return -1;
	fd = above_standard(take_fd(&msg));
	if (reply.magic != ATTACH_MAGIC || reply.abi != ATTACH_ABI || !reply.size) {
		if (fd != -1)
			(void)close(fd);
		return -1;
	}
	*ret_size = reply.size;
	return fd;
}

#define SEALS (F_SEAL_SHRINK | F_SEAL_GROW)

/* Map what agentd gave. Nobody can make it shorter under our feet: it is sealed (fcntl(2)). */
static bool map(int fd, uint64_t size)
{
	int seals = fcntl(fd, F_GET_SEALS);
	void *base;

	if (seals == -1 || (seals & SEALS) != SEALS || lseek(fd, 0, SEEK_END) != (off_t)size)
		return false;
	base = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd, 0);
	if (base == MAP_FAILED)
		return false;
	(void)madvise(base, size, MADV_DONTDUMP);
	if (shm_view(&attach_shm, base, size) == 0)
		return true;
	(void)munmap(base, size);
	return false;
}

/* The page, if there is one and no filter: where a filter is in force, every other call may be the last one. */
static __attribute__((noinline)) int open_page(struct sockaddr_un *addr)
{
	char path[sizeof(addr->sun_path) + sizeof(ATTACH_PAGE)];
	int fd = paths(addr, path, sizeof(path)) ? open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK) : -1;

	if (fd == -1 || !is_restricted())
		return fd;
	(void)close(fd);
	return -1;
}

static uint64_t now_ms(void)
{
	struct timespec now;

	if (syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &now) != 0)
		return 0;
	return (uint64_t)now.tv_sec * 1000u + (uint64_t)now.tv_nsec / 1000000u;
}

/* Others may have filled the queue: who waits in it gets his turn, but who does not wait would not get in at all as
 * long as somebody fills it up again. Returns how many ms may still be waited, 0: not connected. */
static int reach(int s, const struct sockaddr_un *addr)
{
	const struct timeval soon = {.tv_usec = ATTACH_WAIT_MS / 2 * 1000};
	uint64_t begun = now_ms(), waited;

	if (setsockopt(s, SOL_SOCKET, SO_SNDTIMEO, &soon, sizeof(soon)) != 0 ||
	    connect(s, (const struct sockaddr *)addr, sizeof(*addr)) != 0)
		return 0;
	waited = now_ms() - begun;
	return waited < ATTACH_WAIT_MS ? ATTACH_WAIT_MS - (int)waited : 1;
}

static __attribute__((noinline)) bool attach_now(const struct sockaddr_un *addr, int page)
{
	uint64_t size = 0;
	void *own;
	int s, ms, fd = -1;
	bool ok;

	if (!present(page) || is_cramped())
		return false;
	own = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (own == MAP_FAILED)
		return false;
	ok = madvise(own, 4096, MADV_WIPEONFORK) == 0; /* Linux 4.14 */
	s = ok ? above_standard(socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0)) : -1;
	if (s != -1) {
		busy_fd[0] = s;
		ms = reach(s, addr);
		if (ms)
			fd = busy_fd[1] = request(s, ms, &size);
		busy_fd[0] = -1;
		(void)close(s);
	}
	ok = fd != -1 && map(fd, size);
	busy_fd[1] = -1;
	if (fd != -1)
		(void)close(fd);
	if (!ok) {
		(void)munmap(own, 4096);
		return false;
	}
	own_page = own;
	attach_pid = getpid();
	last_producer = shm_producer(&attach_shm, attach_pid);
	atomic_store_explicit(own_page, last_producer, memory_order_release);
	return last_producer != 0;
}

static void attach(void)
{
	int untried = ATTACH_UNTRIED, err = errno, old_cancel;
	struct sockaddr_un addr;
	sigset_t all, old;
	int page;

	if (!atomic_compare_exchange_strong(&attach_state, &untried, ATTACH_BUSY))
		return;
	(void)pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &old_cancel);
	page = open_page(&addr);
	if (page == -1) {
		atomic_store(&attach_state, ATTACH_OFF);
	} else {
		busy_pid = getpid();
		(void)sigfillset(&all);
		(void)sigprocmask(SIG_SETMASK, &all, &old);
		atomic_store_explicit(&attach_state, attach_now(&addr, page) ? ATTACH_DONE : ATTACH_OFF,
				      memory_order_release);
		(void)sigprocmask(SIG_SETMASK, &old, NULL);
	}
	(void)pthread_setcancelstate(old_cancel, NULL);
	errno = err;
}

/* We are the child of a process that was forked in the middle of its attach. */
static void give_up_inherited(void)
{
	for (unsigned i = 0; i < 2; i++)
		if (busy_fd[i] != -1)
			(void)close(busy_fd[i]);
	atomic_store(&attach_state, ATTACH_OFF);
}

void attach_late(void)
{
	int state = atomic_load_explicit(&attach_state, memory_order_relaxed);

	if (state == ATTACH_BUSY && busy_pid && busy_pid != getpid())
		give_up_inherited();
	if (state != ATTACH_UNTRIED)
		return;
	if (getauxval(AT_SECURE) || is_confined())
		atomic_store(&attach_state, ATTACH_OFF);
	else
		attach();
}

/* glibc hands a constructor what main() will get. */
static __attribute__((constructor)) void on_load(int argc, char **argv)
{
	bool tls = resolve_learn();

	for (int i = 1; i < argc && argv && argv[i]; i++)
		mozilla_child |= strcmp(argv[i], MOZILLA_CHILD) == 0;
	if (getauxval(AT_SECURE)) {
		atomic_store(&attach_state, ATTACH_OFF);
		return;
	}
	attach_may_ask = !is_confined();
	if (tls)
		attach();
}

uint16_t attach_producer(uint16_t *ret_parent)
{
	uint32_t n = atomic_load_explicit(own_page, memory_order_acquire), none = 0;

	*ret_parent = (uint16_t)(n >> 16);
	if (__builtin_expect(n != 0, 1))
		return n == NO_PRODUCER ? 0 : (uint16_t)n;
	/* a child's first call; its parent's number came with the copied memory */
	if (atomic_load_explicit(&attach_shm.h->isolate, memory_order_relaxed)) {
		atomic_store(own_page, NO_PRODUCER);
		return 0;
	}
	attach_pid = getpid();
	n = shm_producer(&attach_shm, attach_pid);
	if (!n) { /* said once: no system call per call for ever */
		atomic_store(own_page, NO_PRODUCER);
		return 0;
	}
	n |= (uint32_t)last_producer << 16;
	if (!atomic_compare_exchange_strong(own_page, &none, n))
		n = none; /* another thread of ours was quicker */
	if (n == NO_PRODUCER)
		return 0;
	*ret_parent = (uint16_t)(n >> 16);
	last_producer = (uint16_t)n;
	return (uint16_t)n;
}
