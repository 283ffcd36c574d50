/* SPDX-License-Identifier: Apache-2.0 */
/*
 * base/file.h - whole small files and directories, safely; not the measured I/O path.
 *
 * Receives: paths.  Gives: contents, or -errno and a message that names the path.
 * Must not know: what the files are for.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/str.h"

/**
 * file_read() - whole file into @ret (replaced)
 * @max: refuse larger files (-EFBIG)
 * Return: 0, -ENOENT, -EACCES, -EFBIG, -ENOMEM, or what read() said.
 */
int file_read(const char *path, size_t max, struct str *ret);

/** file_write_all() - continue until everything is written. Return: 0 or -errno. */
int file_write_all(int fd, const char *data, size_t len);

/**
 * file_write_atomic() - replace @path by @data: written to a temporary name beside it, fsynced, renamed
 * Return: 0; -EISDIR or -EINVAL when something that is no regular file is there; or -errno. On failure the old file is
 * untouched and no temporary one stays.
 */
int file_write_atomic(const char *path, const char *data, size_t len);

/** file_write_below() - file_write_atomic() to @path with directory @subdir, made where it is missing, put in before its name. */
int file_write_below(const char *path, const char *subdir, const char *data, size_t len);

/**
 * file_check_target() - could file_write_atomic() put a file there? Nothing is created.
 * Return: 0; -EISDIR, -EINVAL, -ENOENT, -ENOTDIR, -EACCES with a message that names the path, or -ENOMEM.
 */
int file_check_target(const char *path, struct error *err);

/**
 * file_flush_stdout() - did everything that was printed arrive? To be asked once, before the program ends.
 * Return: 0; -ENOSPC, -EPIPE ...; -EIO when an earlier write failed for a reason that is lost.
 */
int file_flush_stdout(void);

/** dir_make() - mkdir -p. Return: 0, -ENOTDIR when a component is no directory, or -errno. */
int dir_make(const char *path);

/** path_join() - "a" + "b" -> "a/b" (freed by the caller), NULL when out of memory. */
char *path_join(const char *dir, const char *name);

/**
 * path_resolve() - absolute, symbolic links resolved as far as the path exists, "." and ".." folded.
 * Works for paths that do not exist yet. Return: text to free, NULL when out of memory.
 */
char *path_resolve(const char *path);

/** path_within() - is @path equal to @dir or below it, compared by component ("/devices" is not in "/dev")? */
bool path_within(const char *path, const char *dir);
