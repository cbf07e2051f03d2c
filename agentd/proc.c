/* SPDX-License-Identifier: Apache-2.0 */
/* Bounded readers and parsers for /proc. */
#include "proc.h"

#include <assert.h>
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>

/* --- parsers --- */

/* Decimal or hexadecimal digits at *@p, at least one, no sign, no blanks, no overflow. */
static bool number(const char **p, const char *end, unsigned base, uint64_t *ret)
{
	const char *c = *p;
	uint64_t v = 0;

	for (; c < end; c++) {
		unsigned d;

		if (*c >= '0' && *c <= '9')
			d = (unsigned)(*c - '0');
		else if (base == 16 && *c >= 'a' && *c <= 'f')
			d = (unsigned)(*c - 'a') + 10;
		else
			break;
		if (v > (UINT64_MAX - d) / base)
			return false;
		v = v * base + d;
	}
	if (c == *p)
		return false;
	*p = c;
	*ret = v;
	return true;
}

static bool literal(const char **p, const char *end, char c)
{
	if (*p >= end || **p != c)
		return false;
	(*p)++;
	return true;
}

bool proc_parse_stat(const char *buf, size_t len, uint64_t *ret_start)
{
	const char *end = buf + len, *p = memrchr(buf, ')', len);

	if (p == NULL)
		return false;
	p++;
	for (unsigned field = 3; field < 22; field++) { /* the state is the third */
		if (!literal(&p, end, ' '))
			return false;
		while (p < end && *p != ' ')
			p++;
	}
	return literal(&p, end, ' ') && number(&p, end, 10, ret_start) && (p == end || *p == ' ' || *p == '\n');
}

void proc_parse_status(const char *line, struct proc_status *s)
{
	const char *end = line + strlen(line), *p;
	uint32_t id[4];
	uint64_t v;

	if (strncmp(line, "Uid:\t", 5) == 0) {
		for (unsigned i = 0; i < 4; i++) { /* real, effective, saved, file system's */
			p = i == 0 ? line + 5 : p + 1;
			if (p >= end || !number(&p, end, 10, &v) || v > UINT32_MAX)
				return;
			id[i] = (uint32_t)v;
			if (i < 3 && *p != '\t')
				return;
		}
		s->uid = id[0];
		s->fsuid = id[3];
	} else if (strncmp(line, "NSpid:\t", 7) == 0) {
		p = strrchr(line, '\t') + 1;
		if (number(&p, end, 10, &v) && v <= INT32_MAX)
			s->ns_pid = (int32_t)v;
	} else if (strncmp(line, "Seccomp:\t", 9) == 0) {
		p = line + 9;
		if (number(&p, end, 10, &v) && v <= 2)
			s->seccomp = (int)v;
	}
}

bool proc_parse_map(const char *line, struct proc_map *ret)
{
	const char *p = line, *end = line + strlen(line);
	struct proc_map m = {.name = ""};
	uint64_t maj, min, off;

	if (!number(&p, end, 16, &m.start) || !literal(&p, end, '-') || !number(&p, end, 16, &m.end) ||
	    !literal(&p, end, ' ') || end - p < 5 || m.end <= m.start)
		return false;
	m.shared = p[3] == 's';
	p += 4;
	if (!literal(&p, end, ' ') || !number(&p, end, 16, &off) || !literal(&p, end, ' ') ||
	    !number(&p, end, 16, &maj) || !literal(&p, end, ':') || !number(&p, end, 16, &min) ||
	    !literal(&p, end, ' ') || !number(&p, end, 10, &m.inode) || maj > UINT_MAX || min > UINT_MAX)
		return false;
	m.dev = makedev((unsigned)maj, (unsigned)min);
	while (literal(&p, end, ' '))
		;
	m.name = p;
	*ret = m;
	return true;
}

uint64_t proc_parse_socket(const char *link, size_t len)
{
	static const char head[] = "socket:[";
	const char *p = link + sizeof(head) - 1, *end = link + len;
	uint64_t inode;

	if (len < sizeof(head) || memcmp(link, head, sizeof(head) - 1) != 0)
		return 0;
	return number(&p, end, 10, &inode) && literal(&p, end, ']') && p == end ? inode : 0;
}

const char *proc_parse_cgroup(const char *line, bool *ret_unified)
{
	static const char systemd[] = ":name=systemd:";
	const char *p = line, *end = line + strlen(line), *path;
	uint64_t hierarchy;

	if (!number(&p, end, 10, &hierarchy))
		return NULL;
	*ret_unified = hierarchy == 0 && strncmp(p, "::", 2) == 0;
	if (*ret_unified)
		path = p + 2;
	else if (strncmp(p, systemd, sizeof(systemd) - 1) == 0)
		path = p + sizeof(systemd) - 1;
	else
		return NULL;
	return *path == '/' ? path : NULL;
}

/* --- one process --- */

int proc_open(pid_t pid)
{
	char path[32];
	int fd;

	if (pid <= 0)
		return -ENOENT;
	snprintf(path, sizeof(path), "/proc/%d", (int)pid);
	fd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	return fd == -1 ? -errno : fd;
}

static ssize_t read_small(int proc, const char *name, char *ret, size_t size)
{
	int fd = openat(proc, name, O_RDONLY | O_CLOEXEC);
	size_t n = 0;
	ssize_t got = 0;

	if (fd == -1)
		return -errno;
	while (n < size) {
		got = read(fd, ret + n, size - n);
		if (got == -1 && errno == EINTR)
			continue;
		if (got <= 0)
			break;
		n += (size_t)got;
	}
	if (got == -1)
		got = -errno;
	close(fd);
	return got < 0 ? got : (ssize_t)n;
}

int proc_start_time(int proc, uint64_t *ret)
{
	char buf[2048]; /* pid, 64 bytes of name at most, fifty numbers of 20 digits */
	ssize_t n = read_small(proc, "stat", buf, sizeof(buf));

	if (n < 0)
		return n == -ENOENT ? -ESRCH : (int)n;
	return proc_parse_stat(buf, (size_t)n, ret) ? 0 : -EBADMSG;
}

int proc_netns(int proc, uint64_t *ret)
{
	struct stat st;

	if (fstatat(proc, "ns/net", &st, 0) == -1)
		return -errno;
	*ret = st.st_ino;
	return 0;
}

uint64_t proc_socket(int proc, int fd)
{
	char name[24], link[64];
	ssize_t n;

	snprintf(name, sizeof(name), "fd/%d", fd);
	n = readlinkat(proc, name, link, sizeof(link));
	return n <= 0 ? 0 : proc_parse_socket(link, (size_t)n);
}

int proc_status(int proc, struct proc_status *ret)
{
	struct proc_status s = {.uid = UINT32_MAX, .fsuid = UINT32_MAX, .ns_pid = 0, .seccomp = -1};
	struct proc_lines l;
	const char *line;
	size_t len;
	int err = proc_lines_open(&l, proc, "status");

	if (err != 0)
		return err;
	while ((line = proc_lines_next(&l, &len)) != NULL)
		proc_parse_status(line, &s);
	proc_lines_close(&l);
	if (s.uid == UINT32_MAX)
		return -ESRCH;
	*ret = s;
	return 0;
}

int proc_exe(int proc, char *ret, size_t size)
{
	ssize_t n = readlinkat(proc, "exe", ret, size - 1);

	if (n == -1)
		return -errno;
	ret[n] = '\0';
	return 0;
}

int proc_cgroup(int proc, char *ret, size_t size)
{
	struct proc_lines l;
	const char *line;
	size_t len;
	int err = proc_lines_open(&l, proc, "cgroup"), found = -ENOENT;

	if (err != 0)
		return err;
	while ((line = proc_lines_next(&l, &len)) != NULL) {
		bool unified;
		const char *path = proc_parse_cgroup(line, &unified);
		bool root = path != NULL && path[1] == '\0';

		/* the root is taken for want of a better one */
		if (path == NULL || (root && found != -ENOENT) || (!root && !unified && found == 1))
			continue;
		if (len >= PROC_LINE_MAX || strlen(path) >= size) {
			found = -ENAMETOOLONG;
			break;
		}
		strcpy(ret, path);
		found = root ? 0 : 1;
	}
	proc_lines_close(&l);
	return found < 0 ? found : 0;
}

int proc_elf_class(int proc)
{
	uint8_t head[EI_CLASS + 1];
	ssize_t n = read_small(proc, "exe", (char *)head, sizeof(head));

	if (n != (ssize_t)sizeof(head) || memcmp(head, ELFMAG, SELFMAG) != 0 || head[EI_CLASS] >= ELFCLASSNUM)
		return 0;
	return head[EI_CLASS];
}

/* --- directories --- */

int proc_dir_open(struct proc_dir *d, int proc, const char *name)
{
	d->pos = d->len = 0;
	d->fd = openat(proc, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return d->fd == -1 ? -errno : 0;
}

bool proc_dir_next(struct proc_dir *d, int *ret)
{
	/* struct linux_dirent64 as getdents64(2) gives it: the name stands behind these 19 bytes */
	struct entry {
		uint64_t ino, off;
		uint16_t reclen;
		uint8_t type;
		char name[5];
	} e;

	static_assert(offsetof(struct entry, name) == 19, "layout of the kernel");
	for (;;) {
		const char *p, *end;
		uint64_t v;

		if (d->pos == d->len) {
			long n = d->fd == -1 ? -1 : syscall(SYS_getdents64, d->fd, d->buf, sizeof(d->buf));

			if (n <= 0)
				return false;
			d->pos = 0;
			d->len = (uint32_t)n;
		}
		if (d->len - d->pos < sizeof(e))
			return false;
		memcpy(&e, d->buf + d->pos, sizeof(e));
		if (e.reclen < sizeof(e) || e.reclen > d->len - d->pos)
			return false;
		p = d->buf + d->pos + offsetof(struct entry, name);
		end = memchr(p, '\0', d->buf + d->pos + e.reclen - p);
		d->pos += e.reclen;
		if (end != NULL && number(&p, end, 10, &v) && p == end && v <= INT_MAX) {
			*ret = (int)v;
			return true;
		}
	}
}

void proc_dir_close(struct proc_dir *d)
{
	if (d->fd != -1)
		close(d->fd);
	d->fd = -1;
}

/* --- lines --- */

int proc_lines_open(struct proc_lines *l, int proc, const char *name)
{
	l->pos = l->len = 0;
	l->total = 0;
	l->skip = false;
	l->fd = openat(proc, name, O_RDONLY | O_CLOEXEC);
	return l->fd == -1 ? -errno : 0;
}

/* Get more bytes behind those not yet used. Returns false at the end. */
static bool refill(struct proc_lines *l)
{
	ssize_t n;

	if (l->fd == -1 || l->total >= PROC_BYTES_MAX)
		return false;
	memmove(l->buf, l->buf + l->pos, l->len - l->pos);
	l->len -= l->pos;
	l->pos = 0;
	do
		n = read(l->fd, l->buf + l->len, sizeof(l->buf) - 1 - l->len);
	while (n == -1 && errno == EINTR);
	if (n <= 0)
		return false;
	l->len += (uint32_t)n;
	l->total += (uint64_t)n;
	return true;
}

char *proc_lines_next(struct proc_lines *l, size_t *ret_len)
{
	for (;;) {
		char *line = l->buf + l->pos, *nl = memchr(line, '\n', l->len - l->pos);
		size_t n = nl != NULL ? (size_t)(nl - line) : l->len - l->pos;
		bool skipped = l->skip, full = nl == NULL && n >= PROC_LINE_MAX;

		if (nl == NULL && !full) {
			if (refill(l))
				continue;
			if (n == 0)
				return NULL;
		}
		l->pos += (uint32_t)n + (nl != NULL);
		l->skip = full;
		if (skipped)
			continue;
		line[n] = '\0'; /* over the newline, or into the byte that refill() keeps free */
		*ret_len = n;
		return line;
	}
}

void proc_lines_close(struct proc_lines *l)
{
	if (l->fd != -1)
		close(l->fd);
	l->fd = -1;
}
