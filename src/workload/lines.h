/* SPDX-License-Identifier: Apache-2.0 */
/*
 * workload/lines.h - the lines of a plain, .gz or .zst text file in constant memory, private to
 * this room.
 *
 * Receives: a path.  Gives: lines and their numbers.  Must not know: what the lines say.
 * The kind of file is told by its first bytes, not by its name. One thread at a time.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

enum { LINES_MAX_BYTES = 1 << 20 }; /* of one line, without its end */

struct lines;

/**
 * lines_open() - open a regular file
 * Return: 0; -ENOMEM; -EISDIR, -EINVAL not a regular file; what open() and read() say.
 * lines_close() after.
 */
int lines_open(const char *path, struct lines **ret, struct error *err);
void lines_close(struct lines *l);
void lines_rewind(struct lines *l);

/**
 * lines_next() - the next line, without LF or CRLF; the last one may lack its end
 * @text: [out] borrowed until the next call, not NUL-terminated
 * Return: 0; -ENODATA at the end; -EMSGSIZE a line longer than LINES_MAX_BYTES (skipped); -EIO the
 * file cannot be read or decompressed (lines_reason() says why; every later call fails the same
 * way).
 */
int lines_next(struct lines *l, const char **text, size_t *len);
/** lines_number() - number of the line lines_next() gave last, from 1. */
uint64_t lines_number(const struct lines *l);
/** lines_reason() - why -EIO. */
const char *lines_reason(const struct lines *l);
