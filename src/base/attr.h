/* SPDX-License-Identifier: Apache-2.0 */
/*
 * base/attr.h - compiler attributes and scope-owned resources, spelled once.
 *
 * Receives: nothing.  Gives: macros.  Must not know: anything above base.
 * clang 14 rejects C23 [[attributes]] in gnu17, hence the GNU form here.
 */
#pragma once

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define ATTR_PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))
#define ATTR_CACHE_ALIGNED     __attribute__((aligned(64)))

#define ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))
#define container_of(ptr, type, member) ((type *)(void *)((char *)(ptr)-offsetof(type, member)))

/* Scope-owned resources: released when the variable goes out of scope; "empty" values are skipped. */
static inline void cleanup_free_(void *p)
{
	free(*(void **)p);
}
static inline void cleanup_close_(int *fd)
{
	if (*fd >= 0)
		close(*fd);
}
static inline void cleanup_fclose_(FILE **f)
{
	if (*f)
		fclose(*f);
}
static inline void cleanup_closedir_(DIR **d)
{
	if (*d)
		closedir(*d);
}

#define CLEANUP_FREE     __attribute__((cleanup(cleanup_free_)))
#define CLEANUP_CLOSE    __attribute__((cleanup(cleanup_close_)))
#define CLEANUP_FCLOSE   __attribute__((cleanup(cleanup_fclose_)))
#define CLEANUP_CLOSEDIR __attribute__((cleanup(cleanup_closedir_)))
