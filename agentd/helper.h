/* SPDX-License-Identifier: Apache-2.0 */
/* helper.h - the small privileged process beside agentd, and how agentd asks it.
 *
 * agentd forks it before it drops its privileges, then talks to it over a SOCK_SEQPACKET pair:
 * requests and answers of fixed size, each with a cookie that the asker chooses, many in flight. So
 * a lane never blocks on /proc or on netlink. The helper answers questions and hands over descriptors
 * of tlstap's own mappings; it changes nothing. It keeps CAP_SYS_PTRACE, CAP_DAC_READ_SEARCH and
 * CAP_CHECKPOINT_RESTORE (measured: without any of them it does not do its work; destroy events need
 * no capability, CAP_NET_ADMIN only for a larger buffer, set before the fork); where it is to look into
 * other network namespaces, also CAP_SYS_ADMIN, CAP_NET_RAW and CAP_NET_ADMIN. It ends when its socket
 * closes.
 *
 * struct helper belongs to one thread. Several threads: one helper each. Requests are collected and
 * leave with helper_flush() (or when enough of them wait); call it at the end of a sweep. Answers
 * come in any order, but what concerns one tuple comes in the order in which it was seen: LIVE before
 * the DESTROYED of that same socket.
 *
 * All functions that ask return 0, -EAGAIN (too many requests wait for an answer: counted in
 * h->refused, ask again later) or -EPIPE (the helper is gone). */
#ifndef TLSTAP_HELPER_H
#define TLSTAP_HELPER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "sockdiag.h"

#define HELPER_OUTSTANDING_MAX 512 /* requests without their (last) answer */
#define HELPER_PIDS_MAX 8	   /* processes of one family in a request */
#define HELPER_IDS_MAX 16	   /* mappings in one helper_family() */
#define HELPER_PATH_MAX 512	   /* bytes of an exe path that are kept */
#define HELPER_DESTROY_LOG 65536   /* destroyed tuples remembered ... */
#define HELPER_DESTROY_LOG_S 60	   /* ... for so long */

enum helper_type {
	HELPER_VERIFY, /* answer of helper_verify() */
	HELPER_EXISTS, /* answer of helper_exists() */
	HELPER_FAMILY, /* answers of helper_family(): any number, then one with .last */
	HELPER_ADOPT,  /* answers of helper_adopt(): any number, then one with .last */
	HELPER_PROC,   /* answer of helper_proc() */
	HELPER_PEER,   /* answer of helper_peer() */
	HELPER_WHOSE,  /* answer of helper_whose() */
	HELPER_NETNS,  /* answers of helper_netns_pid(), _name(): two with descriptors, or one without. Or an event */
	HELPER_DESTROYED, /* event: the kernel destroyed the TCP socket .e (.sock_cookie) */
	HELPER_OVERRUN,	  /* event: DESTROYED events were lost; ask helper_exists() about live tuples */
};

enum helper_result {
	HELPER_R_ERROR, /* could not find out; .err says why (errno) */
	HELPER_R_LIVE,	/* VERIFY: the socket exists and is a descriptor of one of the processes. EXISTS: it exists */
	HELPER_R_LISTENER, /* VERIFY, PEER: existed, is closed (or closing); one of the processes listens on its port */
	HELPER_R_FOREIGN,  /* VERIFY: the socket exists, but is no descriptor of these processes */
	HELPER_R_GONE,	   /* VERIFY, EXISTS: there is no such socket (any more) and nothing proves whose it was */
	HELPER_R_OTHER_NETNS, /* the network namespace of the process (VERIFY), or asked about, is not open */
	HELPER_R_NO_PROCESS,  /* VERIFY, PROC: no such process, or its start time is another: the pid was used again */
	HELPER_R_OK,	      /* FAMILY, ADOPT, PROC, WHOSE, NETNS */
};

/* A process, safe against a reused pid. start_time: field 22 of /proc/PID/stat; 0 = do not compare. */
struct helper_pid {
	uint64_t start_time;
	int32_t pid;
	uint32_t pad;
};

/* A shared mapping's file. */
struct helper_id {
	uint64_t dev;
	uint64_t inode;
};

struct helper_event {
	enum helper_type type;
	enum helper_result result;
	uint64_t cookie; /* the asker's */
	int err;	 /* errno value when HELPER_R_ERROR */
	bool last;	 /* no further answer for this request (always true but for FAMILY, ADOPT items) */

	/* VERIFY, EXISTS, WHOSE: as asked (normalised). PEER LIVE, LISTENER, DESTROYED: as the kernel's socket has it.
	 * Always with its .netns: VERIFY: that of the first process, or, LIVE, where the socket is */
	struct endpoint e;
	/* VERIFY, EXISTS, PEER LIVE; DESTROYED: one and the same socket has one and the same; else 0 */
	uint64_t sock_cookie;
	uint64_t sock_inode; /* VERIFY, EXISTS, PEER LIVE, WHOSE OK */
	int32_t sock_pid;    /* VERIFY LIVE, LISTENER, PEER LIVE, WHOSE OK: which process holds it ... */
	int32_t sock_fd;     /* ... under which number */
	bool was_destroyed;  /* VERIFY LISTENER, GONE: its destruction is in the log */

	struct helper_id id; /* FAMILY, ADOPT; HELPER_WHOSE_ATTACHED: the first mapping of ours */
	struct helper_pid p; /* FAMILY, ADOPT, PROC, WHOSE: global pid and start time */
	int32_t ns_pid;	     /* FAMILY, ADOPT, PROC, WHOSE: its pid in its innermost pid namespace */
	int fd; /* ADOPT: the mapping's file, read-write; NETNS OK: a socket. CLOEXEC; the callback takes it. Else -1 */
	uint64_t size; /* ADOPT: of the file; sealed against shrinking and growing, owned by root or agentd's user */

	uint32_t uid;	    /* ADOPT, PROC, WHOSE: real uid of the process; WHOSE NO_PROCESS: of the socket */
	uint32_t fsuid;	    /* PROC, WHOSE: its file system uid: that of the sockets it makes and accepts */
	uint64_t netns;	    /* PROC, WHOSE, NETNS: inode of its network namespace */
	unsigned what;	    /* WHOSE, PROC of helper_look(): HELPER_WHOSE_* */
	bool own_netns;	    /* PROC, WHOSE: it is the helper's */
	int seccomp;	    /* PROC, WHOSE: "Seccomp:" of its status, 0..2; -1 unknown */
	const char *exe;    /* PROC, WHOSE: /proc/PID/exe, cut at HELPER_PATH_MAX - 1, NOT escaped; "" unknown */
	const char *cgroup; /* likewise: path of its control group, "" unknown or too long */
};

/* What helper_whose() or helper_look() found out about the process .p (.exe, .uid, .netns, .own_netns, .ns_pid,
 * .seccomp as in PROC). */
#define HELPER_WHOSE_TAP (1u << 0)	/* libtlstap is mapped */
#define HELPER_WHOSE_ATTACHED (1u << 1) /* so is a mapping of ours */
#define HELPER_WHOSE_TLS (1u << 2)   /* a TLS library that can be tapped is mapped (libssl, libgnutls, libssl3 ...) */
#define HELPER_WHOSE_32BIT (1u << 3) /* a 32-bit program */
#define HELPER_WHOSE_UNREADABLE (1u << 4) /* its /proc entries may not be read: no rights */

struct helper_req;

struct helper {
	int fd;			/* private */
	pid_t pid;		/* private */
	uint32_t outstanding;	/* requests that wait for their last answer */
	uint32_t n_req;		/* private: collected, not yet sent */
	struct helper_req *req; /* private */
	uint8_t *buf;		/* private */
	uint64_t asked;		/* requests taken */
	uint64_t refused;	/* requests refused with -EAGAIN */
	uint64_t destroyed;	/* DESTROYED events received */
	uint64_t overruns;	/* OVERRUN events received */
};

/* Fork the helper. Call as root, before threads, before privileges are dropped; where not root, the
 * helper sees only what the own user may see.
 * @keep_user  user that the helper runs as (with its capabilities); NULL: stay as we are
 * @netns      it must be able to open other network namespaces: keeps three capabilities more
 * Descriptors above 2 are closed in the child. Returns 0 or -errno. */
int helper_start(struct helper *h, const char *keep_user, bool netns);

/* The same, for helper_brief() alone: sees no sockets, and their ends neither. */
int helper_start_brief(struct helper *h, const char *keep_user);

/* Close the socket, wait for the process. Outstanding requests get no answer. May be called twice. */
void helper_stop(struct helper *h);

/* Readable: call helper_poll(). */
static inline int helper_fd(const struct helper *h)
{
	return h->fd;
}

/* Does this connection belong to one of these processes? In the process's own words it does.
 * @p, @n      1 .. HELPER_PIDS_MAX processes of its family (all in one network namespace: the first one's counts)
 * @fd_hint    descriptor number to look at first; -1: none. All descriptors (65536 at most) are looked at then */
int helper_verify(struct helper *h, uint64_t cookie, const struct helper_pid *p, size_t n, int fd_hint,
		  const struct endpoint *e);

/* As helper_verify(), where @p[0] only says of itself that it belongs to the family: it counts if it maps the family's
 * file @file (a forked child that was not met before). Reads its /proc/PID/maps. HELPER_R_NO_PROCESS if nobody is
 * left. */
int helper_verify_child(struct helper *h, uint64_t cookie, const struct helper_id *file, const struct helper_pid *p,
			size_t n, int fd_hint, const struct endpoint *e);

/* Does the kernel still have this connection, in the network namespace @e->netns (0: the own one)? TIME_WAIT and
 * orphans (closed, still sending) count as gone. HELPER_R_OTHER_NETNS: that namespace is not open. */
int helper_exists(struct helper *h, uint64_t cookie, const struct endpoint *e);

/* Which live processes map these files (names in their maps begin with "/memfd:tlstap")? Reads all of
 * /proc/PID/maps: seldom, please.
 * @n  0 .. HELPER_IDS_MAX; 0: any such file */
int helper_family(struct helper *h, uint64_t cookie, const struct helper_id *id, size_t n);

/* Find the mappings of a predecessor: one answer with a descriptor for each distinct file that is a
 * sealed memfd, named tlstap..., owned by root or the helper's user, and still mapped. */
int helper_adopt(struct helper *h, uint64_t cookie);

/* What process is this? p->start_time is compared if not 0. */
int helper_proc(struct helper *h, uint64_t cookie, const struct helper_pid *p);

/* As helper_proc(), but only .exe and .cgroup are told: for a process that waits. Does not wait for what was
 * asked before. */
int helper_brief(struct helper *h, uint64_t cookie, const struct helper_pid *p);

/* As helper_proc(), and .what does it map? Reads all of /proc/PID/maps: seldom, please. Answer: HELPER_PROC. */
int helper_look(struct helper *h, uint64_t cookie, const struct helper_pid *p);

/* A connection @e (of .netns, 0: the own one) was seen on the wire with the process's own random, but no socket has
 * exactly these addresses: REDIRECT, SNAT or DNAT has changed one end. Has one of the processes a socket that shares
 * one end with it? The same peer: an open socket, or one that is closed and came through a port on which one of them
 * listens, as after helper_verify(); or else the same local address and port.
 * Answer: HELPER_R_LIVE or HELPER_R_LISTENER (.e: that socket's own addresses; .sock_pid; LIVE: .sock_cookie,
 * .sock_inode). LIVE with .sock_cookie 0 and .e as asked: several of theirs share that end (a client's connections to
 * one server, behind SNAT), and nothing says which of them it is: its end will not be told. HELPER_R_GONE,
 * HELPER_R_NO_PROCESS, HELPER_R_OTHER_NETNS (that namespace is not open) or HELPER_R_ERROR. */
int helper_peer(struct helper *h, uint64_t cookie, const struct helper_pid *p, size_t n, const struct endpoint *e);

/* Which process has the socket with these addresses? Looks through the descriptors of all processes, a few at a time:
 * seldom, please. One pass answers all that were asked before it began; others are not delayed by it.
 * Answer: HELPER_R_OK and .p, .exe, .what, ...; HELPER_R_GONE: no such socket; HELPER_R_NO_PROCESS: nobody has it, or,
 * with .what HELPER_WHOSE_UNREADABLE, a process of .uid may have it that may not be looked into;
 * HELPER_R_OTHER_NETNS: that namespace is not open; HELPER_R_ERROR, EBUSY: 64 wait already. */
int helper_whose(struct helper *h, uint64_t cookie, const struct endpoint *e);

/* Open the network namespace in which process @pid lives, or which is called @name (below /run/netns; HELPER_NAME_MAX
 * bytes). From then on VERIFY, EXISTS, PEER and WHOSE know it, and DESTROYED events come from it (.e.netns).
 * Needs helper_start() with @netns true.
 * Answers: two of HELPER_R_OK with .netns and a descriptor each that the callback takes: first hello_sock_open()'s,
 * then, .last, sockdiag_open()'s. Or one of HELPER_R_ERROR (.err: EINVAL no name or no namespace, ENOENT no such name,
 * EPERM, ENOSPC: HELPER_NETNS_MAX are open), HELPER_R_NO_PROCESS; or HELPER_R_LIVE and .netns: it is open already,
 * or the helper's own.
 * One that was opened by its name is looked after each second: when the name is gone, or another's, the helper
 * closes it and tells so by an event of HELPER_NETNS, HELPER_R_GONE with .netns (cookie 0; no answer, though .last):
 * close what you have of it too. Processes may go on in it: helper_netns_pid() opens it again. */
#define HELPER_NETNS_MAX 256
#define HELPER_NAME_MAX 63
int helper_netns_pid(struct helper *h, uint64_t cookie, int32_t pid);
int helper_netns_name(struct helper *h, uint64_t cookie, const char *name);
/* Let go of a namespace: nothing of ours may keep it alive. No answer is delivered. -EAGAIN: it stays open. */
int helper_netns_close(struct helper *h, uint64_t netns);

/* Send what was collected. Never blocks; what does not fit into the socket goes with the next call.
 * Returns 0 or -EPIPE. */
int helper_flush(struct helper *h);

/* Receive what is there and call @cb for each answer and event, at most @max datagrams.
 * @e is valid during the call; e->fd is the callback's.
 * Returns how many answers and events, 0 if there were none, -EPIPE if the helper is gone. */
typedef void (*helper_cb)(void *arg, const struct helper_event *e);
int helper_poll(struct helper *h, unsigned max, helper_cb cb, void *arg);

#endif
