/* SPDX-License-Identifier: Apache-2.0 */
/* sock.h - sockets as the daemons want them: born non-blocking and close-on-exec.
 *
 * Unix sockets (agentd.sock, the control sockets), TCP ends (the tunnel), descriptors passed along a
 * unix socket, and HOST[:PORT] as people type it. Functions that make a socket return it, or -errno;
 * the caller closes it. Any thread. */
#ifndef TLSTAP_SOCK_H
#define TLSTAP_SOCK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/types.h>

#define SOCK_HOST_MAX 256 /* a host name or address, with its NUL */
#define SOCK_STRLEN 64	  /* "[ipv6%scope]:port", with its NUL */

/* Split HOST, HOST:PORT, ADDR4:PORT, ADDR6, [ADDR6] or [ADDR6]:PORT.
 * @def_port  the port if @text has none; 0: then there must be one
 * @ret_host  the host, without brackets
 * Returns 0, or -EINVAL: no host, a host that is too long or holds blanks, a port that is no number from 1 to
 * 65535. Looks nothing up. */
int sock_parse(const char *text, uint16_t def_port, char ret_host[static SOCK_HOST_MAX], uint16_t *ret_port);

/* Write "192.0.2.1:443", "[2001:db8::1]:443" or "unix" into @ret. IPv4-mapped addresses are shown as IPv4.
 * Returns @ret. */
char *sock_str(const struct sockaddr *sa, socklen_t len, char ret[static SOCK_STRLEN]);

/* Listen on the unix socket @path.
 * @type  SOCK_SEQPACKET or SOCK_STREAM
 * @mode  permissions of the file, from its first moment on
 * A socket file that nobody listens on any more is replaced. Returns the socket, or -EADDRINUSE: somebody
 * listens there; -EEXIST: the file is no socket; -ENAMETOOLONG; or another errno of bind(2). */
int sock_unix_listen(const char *path, int type, mode_t mode);

/* Connect to the unix socket @path. Non-blocking from the start, but a unix connect is done when the call
 * returns: -EAGAIN says that the listener's queue is full. Returns the socket or -errno. */
int sock_unix_connect(const char *path, int type);

/* Who is at the other end of a unix socket, as the kernel saw it at connect(2). Returns 0 or -errno. */
int sock_peer(int fd, pid_t *ret_pid, uid_t *ret_uid, gid_t *ret_gid);

/* Listen on TCP @host (NULL: all addresses, IPv6 and IPv4 on one socket) and @port.
 * @reuse_port  several sockets of ours may share the port (lanes)
 * @host must be an address. Returns the socket, -EINVAL if @host is none, or an errno of bind(2). */
int sock_tcp_listen(const char *host, uint16_t port, bool reuse_port);

/* Begin to connect to @sa; writable when done (then ask sock_error()). Sets TCP_NODELAY. The local port is no other
 * socket's, whatever its peer: connect(2) alone would share one among connections to different peers. Returns the
 * socket or -errno; EINPROGRESS is no error. */
int sock_tcp_connect(const struct sockaddr *sa, socklen_t len);

/* The pending error of @fd (SO_ERROR) as 0 or -errno. */
int sock_error(int fd);

/* accept(2) on @fd. @ret_sa and @ret_len may be NULL. Returns the new socket or -errno. */
int sock_accept(int fd, struct sockaddr_storage *ret_sa, socklen_t *ret_len);

/* Send one message with a descriptor along it (@pass -1: none; @len at least 1). On a stream all of @len or an
 * error. Never raises SIGPIPE. Returns 0 or -errno; @pass stays the caller's. */
int sock_send_fd(int fd, const void *data, size_t len, int pass);

/* Receive one message and at most one descriptor (close-on-exec; -1: none came). More of them, or a message longer
 * than @size: everything is closed and -EBADMSG returned. Returns bytes (0: the end), or -errno. */
ssize_t sock_recv_fd(int fd, void *data, size_t size, int *ret_passed);

#endif
