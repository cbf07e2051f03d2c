/* SPDX-License-Identifier: Apache-2.0 */
/* hellos_file.h - the file under the pairing table: made, checked, locked, mapped.
 *
 * It is used again only if it is what we left: a regular file of one name, our user's and closed to all others, of the
 * same size, which begins with the same head. Anything else under that name is removed and made anew, a symbolic
 * link without being followed. What is behind the head is the caller's to check. One thread. */
#ifndef TLSTAP_HELLOS_FILE_H
#define TLSTAP_HELLOS_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define HELLOS_FILE_ERR 256

struct hellos_file {
	uint8_t *map;
	size_t size;
	size_t backed; /* bytes from the start that have memory behind them */
	int fd;	       /* -1: anonymous memory */
};

/* Map @path (NULL: memory without a file), @size bytes, sparse. It begins with @head afterwards and is as it was left
 * behind that, or zero.
 * Returns 0, -EBUSY another process uses it, or -errno, with one line in @err. */
int hellos_file_open(struct hellos_file *f, const char *path, size_t size, const void *head, size_t head_len,
		     char err[static HELLOS_FILE_ERR]);

/* Make sure that the first @bytes of the mapping can be touched: a full file system would end the process there. */
bool hellos_file_back(struct hellos_file *f, size_t bytes);

/* May be called twice, and for one that was not opened (zeroed). The file stays. */
void hellos_file_close(struct hellos_file *f);

#endif
