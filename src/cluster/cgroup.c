// SPDX-License-Identifier: Apache-2.0
/* What a container or a service may take of the machine's memory. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/attr.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/str.h"
#include "cluster/host.h"

enum { CGROUP_FILE_MAX = 1 << 20 };

/* Where the two generations of control groups keep what, and the text that stands before the group's path in /proc/self/cgroup. */
static const struct hierarchy {
	const char *mount;
	const char *limit;
	const char *usage;
	const char *reclaimable; /* key of memory.stat: page cache that goes when the memory is wanted */
	bool is_unified;
} hierarchies[] = {
	{"/sys/fs/cgroup", "memory.max", "memory.current", "inactive_file ", true},
	{"/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file ", false},
};

/* Return: 0; -ENOENT; -EINVAL: no number, as in "max". */
static int read_number(const char *root, const char *mount, const char *group, const char *name, const char *key,
		       uint64_t *ret)
{
	CLEANUP_STR struct str path = {0}, text = {0};
	str_addf(&path, "%s%s%s/%s", root, mount, group, name);
	int rc = path.rc ? path.rc : file_read(str_text(&path), CGROUP_FILE_MAX, &text);
	if (rc)
		return rc;
	const char *s = str_text(&text);
	while (s && strncmp(s, key, strlen(key)) != 0) {
		s = strchr(s, '\n');
		s = s ? s + 1 : NULL;
	}
	return s && sscanf(s + strlen(key), "%" SCNu64, ret) == 1 ? 0 : -EINVAL;
}

/* What one group leaves; UINT64_MAX where it sets no limit. */
static uint64_t group_available(const char *root, const struct hierarchy *h, const char *group)
{
	uint64_t limit, usage, reclaimable = 0;
	if (read_number(root, h->mount, group, h->limit, "", &limit) ||
	    read_number(root, h->mount, group, h->usage, "", &usage))
		return UINT64_MAX;
	if (limit > INT64_MAX / 2) /* the old generation's "none" */
		return UINT64_MAX;
	(void)read_number(root, h->mount, group, "memory.stat", h->reclaimable, &reclaimable);
	usage -= MIN(usage, reclaimable);
	return limit - MIN(limit, usage);
}

/* Every group above has a say. A path that is not there belongs to a namespace of its own: its root is what we see. */
static uint64_t tree_available(const char *root, const struct hierarchy *h, char *group)
{
	uint64_t least = UINT64_MAX;
	for (;;) {
		uint64_t available = group_available(root, h, group);
		least = MIN(least, available);
		char *slash = strrchr(group, '/');
		if (!slash)
			return least;
		*slash = '\0';
	}
}

/* The path in a line "0::/a/b" or "4:cpu,memory:/a/b" where it belongs to the hierarchy; else NULL. */
static char *group_of(char *line, const struct hierarchy *h)
{
	char *controllers = strchr(line, ':');
	char *path = controllers ? strchr(controllers + 1, ':') : NULL;
	if (!path)
		return NULL;
	*path++ = '\0';
	if (h->is_unified)
		return controllers[1] ? NULL : path;
	char *save = NULL;
	for (char *word = strtok_r(controllers + 1, ",", &save); word; word = strtok_r(NULL, ",", &save))
		if (!strcmp(word, "memory"))
			return path;
	return NULL;
}

uint64_t host_cgroup_available(const char *root)
{
	uint64_t least = UINT64_MAX;
	CLEANUP_STR struct str path = {0};
	str_addf(&path, "%s/proc/self/cgroup", root);
	for (size_t i = 0; !path.rc && i < ARRAY_LEN(hierarchies); i++) {
		CLEANUP_STR struct str text = {0};
		if (file_read(str_text(&path), CGROUP_FILE_MAX, &text) || !text.s)
			return UINT64_MAX;
		char *save = NULL;
		for (char *line = strtok_r(text.s, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
			char *group = group_of(line, &hierarchies[i]);
			uint64_t available = group ? tree_available(root, &hierarchies[i], group) : UINT64_MAX;
			least = MIN(least, available);
		}
	}
	return least;
}
