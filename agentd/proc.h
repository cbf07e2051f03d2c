/* SPDX-License-Identifier: Apache-2.0 */
/* proc.h - read what /proc says of other processes, bounded and without believing any name.
 *
 * Everything goes through a descriptor of the directory /proc/PID: it stays with the process that it
 * was opened for, so a pid that is used again gives errors, never another process's data. Used by
 * the helper (helper_*.c). Names in the results are the process's choice. */
#ifndef TLSTAP_PROC_H
#define TLSTAP_PROC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define PROC_BYTES_MAX (64u << 20) /* of one file under /proc that are read at most */
#define PROC_LINE_MAX 4096	   /* longer lines are cut, not split */

/* Open /proc/@pid. Returns a descriptor (O_PATH), or -errno (-ENOENT: no such process). */
int proc_open(pid_t pid);

/* Field 22 of stat, clock ticks since boot. Returns 0, -ESRCH when the process is gone, else -errno. */
int proc_start_time(int proc, uint64_t *ret);

/* Inode number of the process's network namespace (and 0), or -errno. */
int proc_netns(int proc, uint64_t *ret);

/* Inode of the socket that is descriptor @fd of the process; 0: none, or no socket. */
uint64_t proc_socket(int proc, int fd);

struct proc_status {
	uint32_t uid;	/* real */
	uint32_t fsuid; /* of the file system: whose the sockets are that it makes */
	int32_t ns_pid; /* in its innermost pid namespace */
	int seccomp;	/* -1: not told */
};
int proc_status(int proc, struct proc_status *ret);

/* Target of the exe link, NUL terminated, cut if longer than @size - 1. Returns 0 or -errno. */
int proc_exe(int proc, char *ret, size_t size);

/* Path of its control group: in the unified hierarchy, or systemd's own where all processes are in the root of that one.
 * Returns 0, -ENAMETOOLONG, -ENOENT: it tells none, or another -errno. */
int proc_cgroup(int proc, char *ret, size_t size);

/* ELFCLASS32 or ELFCLASS64 of the program that it runs; 0: not known. */
int proc_elf_class(int proc);

/* The numbers among the names in a directory: pids of /proc, descriptors of /proc/PID/fd. */
struct proc_dir {
	int fd; /* -1: closed */
	uint32_t pos, len;
	char buf[4096] __attribute__((aligned(8)));
};
/* Open @name below @proc (AT_FDCWD and "/proc" for the pids). Returns 0 or -errno. */
int proc_dir_open(struct proc_dir *d, int proc, const char *name);
/* Returns true and the next number; false at the end or on an error. */
bool proc_dir_next(struct proc_dir *d, int *ret);
/* May be called twice. */
void proc_dir_close(struct proc_dir *d);

/* Lines of a file under /proc. */
struct proc_lines {
	int fd; /* -1: closed */
	uint32_t pos, len;
	uint64_t total;
	bool skip; /* the rest of a line that was cut */
	char buf[2 * PROC_LINE_MAX];
};
int proc_lines_open(struct proc_lines *l, int proc, const char *name);
/* The next line without its newline, NUL terminated, valid until the next call; NULL at the end, after
 * PROC_BYTES_MAX, or on an error. */
char *proc_lines_next(struct proc_lines *l, size_t *ret_len);
void proc_lines_close(struct proc_lines *l);

/* One line of maps. */
struct proc_map {
	uint64_t start, end;
	uint64_t dev; /* as in struct stat */
	uint64_t inode;
	bool shared;
	const char *name; /* in the line; "" if it has none. Newlines in it are escaped by the kernel */
};
/* Returns false if @line is no line of maps. */
bool proc_parse_map(const char *line, struct proc_map *ret);

/* Find field 22 in the text of a stat file: what follows the LAST ')' is numbers, what stands before it
 * is the process's choice. Returns false if malformed. */
bool proc_parse_stat(const char *buf, size_t len, uint64_t *ret_start);

/* Take what one line of status says into @s. */
void proc_parse_status(const char *line, struct proc_status *s);

/* A line of cgroup: the path in it if it is of the unified hierarchy or of systemd's own, else NULL. */
const char *proc_parse_cgroup(const char *line, bool *ret_unified);

/* "socket:[N]" -> N, else 0. */
uint64_t proc_parse_socket(const char *link, size_t len);

#endif
