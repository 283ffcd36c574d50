// SPDX-License-Identifier: Apache-2.0
/* Holds back a line until it ends, and forgets it when it is erased. A line too long to hold is kept as it is. */
#include "launch/erase.h"

#include <string.h>

#include "base/file.h"

static const char clear_line[] = "\r\033[K";

enum { CLEAR_LEN = sizeof(clear_line) - 1 };

/* Write the first @n bytes. */
static int flush(struct erase *e, int fd, size_t n)
{
	int rc = file_write_all(fd, e->text, n);
	memmove(e->text, e->text + n, e->len - n);
	e->len -= n;
	e->done = 0;
	return rc;
}

static bool ends_in_clear(const struct erase *e)
{
	return e->len >= e->done + CLEAR_LEN && !memcmp(e->text + e->len - CLEAR_LEN, clear_line, CLEAR_LEN);
}

static int add(struct erase *e, int fd, char c)
{
	e->text[e->len++] = c;
	if (c == '\n') {
		e->done = e->len;
		e->is_long = false;
	} else if (ends_in_clear(e) && !e->is_long) {
		e->len = e->done;
	}
	if (e->len < ERASE_MAX)
		return 0;
	e->is_long = e->is_long || !e->done;
	return flush(e, fd, e->done ? e->done : e->len);
}

int erase_write(struct erase *e, int fd, const char *data, size_t len)
{
	int rc = 0;
	for (size_t i = 0; !rc && i < len; i++)
		rc = add(e, fd, data[i]);
	return rc || !e->done ? rc : flush(e, fd, e->done);
}

int erase_end(struct erase *e, int fd)
{
	return e->len ? flush(e, fd, e->len) : 0;
}
