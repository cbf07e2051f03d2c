/* SPDX-License-Identifier: Apache-2.0 */
/* hellos_file.c - a mapping of a file that nobody else can open (see hellos_file.h). */
#include "hellos_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define STEP (512u << 10) /* bytes that are backed at once */

static int why(char err[static HELLOS_FILE_ERR], const char *path, int r, const char *what)
{
	(void)snprintf(err, HELLOS_FILE_ERR, "%s: %s: %s", path ? path : "pairing table", what, strerror(-r));
	return r;
}

static int lock(int fd)
{
	return flock(fd, LOCK_EX | LOCK_NB) == 0 ? 0 : errno == EWOULDBLOCK ? -EBUSY : -errno;
}

/* Is this what we left? */
static bool is_ours(int fd, size_t size, const void *head, size_t head_len)
{
	struct stat st;
	uint8_t buf[256];

	return fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_uid == geteuid() && (st.st_mode & 077) == 0 &&
	       st.st_nlink == 1 && (uintmax_t)st.st_size == size && head_len <= sizeof(buf) &&
	       pread(fd, buf, head_len, 0) == (ssize_t)head_len && memcmp(buf, head, head_len) == 0;
}

static int make(const char *path, size_t size, const void *head, size_t head_len, int *ret_fd)
{
	int fd, r;

	if (unlink(path) == -1 && errno != ENOENT)
		return -errno;
	fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd == -1)
		return -errno;
	r = lock(fd);
	if (r == 0 && (fchmod(fd, 0600) == -1 || ftruncate(fd, (off_t)size) == -1))
		r = -errno;
	if (r == 0 && pwrite(fd, head, head_len, 0) != (ssize_t)head_len)
		r = -ENOSPC;
	if (r < 0) {
		(void)unlink(path);
		close(fd);
		return r;
	}
	*ret_fd = fd;
	return 0;
}

/* O_NONBLOCK: a pipe under that name must not stop us. Of a stranger's file we do not even want the lock. */
static int open_or_make(const char *path, size_t size, const void *head, size_t head_len, int *ret_fd)
{
	int fd = open(path, O_RDWR | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);

	if (fd != -1 && is_ours(fd, size, head, head_len)) {
		int r = lock(fd);

		if (r == 0)
			*ret_fd = fd;
		else
			close(fd);
		return r;
	}
	if (fd != -1)
		close(fd);
	return make(path, size, head, head_len, ret_fd);
}

int hellos_file_open(struct hellos_file *f, const char *path, size_t size, const void *head, size_t head_len,
		     char err[static HELLOS_FILE_ERR])
{
	void *map;
	int r = 0;

	*f = (struct hellos_file){.fd = -1, .size = size};
	if (path != NULL)
		r = open_or_make(path, size, head, head_len, &f->fd);
	if (r < 0)
		return why(err, path, r, r == -EBUSY ? "another agentd uses it" : "cannot be made");
	map = mmap(NULL, size, PROT_READ | PROT_WRITE,
		   path != NULL ? MAP_SHARED : MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, f->fd, 0);
	if (map == MAP_FAILED) {
		r = why(err, path, -errno, "cannot be mapped");
		hellos_file_close(f);
		return r;
	}
	f->map = map;
	if (!hellos_file_back(f, head_len)) {
		hellos_file_close(f);
		return why(err, path, -ENOSPC, "no memory behind it");
	}
	if (path == NULL)
		memcpy(f->map, head, head_len);
	return 0;
}

bool hellos_file_back(struct hellos_file *f, size_t bytes)
{
	size_t to = (bytes + STEP - 1) / STEP * STEP;

	if (bytes <= f->backed)
		return true;
	if (to > f->size)
		to = f->size;
	if (bytes > to || (f->fd != -1 && posix_fallocate(f->fd, (off_t)f->backed, (off_t)(to - f->backed)) != 0))
		return false;
	f->backed = to;
	return true;
}

void hellos_file_close(struct hellos_file *f)
{
	if (f->map != NULL)
		(void)munmap(f->map, f->size);
	if (f->size != 0 && f->fd != -1)
		close(f->fd);
	*f = (struct hellos_file){.fd = -1};
}
