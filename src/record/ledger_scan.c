// SPDX-License-Identifier: Apache-2.0
/* Which run directories there are. */
#include <ctype.h>
#include <string.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "base/file.h"
#include "record/record_internal.h"

enum { SCAN_DEPTH = 4 }; /* <benchmark>/<model>/<command>/<stamp> */

bool ledger_is_stamp(const char *name)
{
	if (strlen(name) != CLOCK_STAMP_SIZE - 1)
		return false;
	for (size_t i = 0; name[i]; i++)
		if (i == 8 ? name[i] != '_' : !isdigit((unsigned char)name[i]))
			return false;
	return true;
}

/* Symbolic links are not followed: they may lead round in a circle, or out of the tree. */
static bool is_directory(const char *path)
{
	struct stat st;
	return !lstat(path, &st) && S_ISDIR(st.st_mode);
}

static int scan_below(const char *root, const char *below, int depth, struct strlist *ret)
{
	CLEANUP_FREE char *path = path_join(root, below);
	if (!path)
		return -ENOMEM;
	CLEANUP_CLOSEDIR DIR *dir = opendir(path);
	if (!dir)
		return errno == ENOENT || errno == EACCES ? 0 : -errno;
	int rc = 0;
	for (struct dirent *e; !rc && (e = readdir(dir));) {
		if (e->d_name[0] == '.')
			continue;
		CLEANUP_FREE char *name = *below ? path_join(below, e->d_name) : strdup(e->d_name);
		CLEANUP_FREE char *full = path_join(path, e->d_name);
		if (!name || !full)
			return -ENOMEM;
		if (!is_directory(full))
			continue;
		if (ledger_is_stamp(e->d_name))
			rc = strlist_add(ret, name);
		else if (depth > 1)
			rc = scan_below(root, name, depth - 1, ret);
	}
	return rc;
}

int ledger_scan(const char *root, struct strlist *ret)
{
	return scan_below(root, "", SCAN_DEPTH, ret);
}
