// SPDX-License-Identifier: Apache-2.0
/* The processes that a launcher started on this machine. */
#include <ctype.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "launch/internal.h"

enum { ROUNDS_MAX = 10 }; /* a process may fork while we look */

struct process {
	pid_t pid, parent, session;
	char state;
	bool is_ours;
};

struct table {
	struct process *list;
	size_t count;
};

/* "123 (name) S 1 123 123 ...": the name may hold anything, brackets too. */
static bool read_process(const char *pid, struct process *ret)
{
	char path[64], text[1024];
	snprintf(path, sizeof(path), "/proc/%.20s/stat", pid);
	CLEANUP_FCLOSE FILE *f = fopen(path, "re");
	if (!f || !fgets(text, sizeof(text), f))
		return false;
	const char *rest = strrchr(text, ')');
	int group;
	ret->pid = (pid_t)strtol(pid, NULL, 10);
	ret->is_ours = false;
	return rest && sscanf(rest, ") %c %d %d %d", &ret->state, &ret->parent, &group, &ret->session) == 4;
}

static bool table_read(struct table *t)
{
	CLEANUP_CLOSEDIR DIR *dir = opendir("/proc");
	const struct dirent *entry;
	t->count = 0;
	while (dir && (entry = readdir(dir))) {
		struct process p;
		if (!isdigit((unsigned char)entry->d_name[0]) || !read_process(entry->d_name, &p))
			continue;
		struct process *list = reallocarray(t->list, t->count + 1, sizeof(*list));
		if (!list)
			return false;
		t->list = list;
		list[t->count++] = p;
	}
	return t->count > 0;
}

static bool parent_is_ours(const struct table *t, pid_t root, pid_t parent)
{
	for (size_t i = 0; i < t->count; i++)
		if (t->list[i].pid == parent && t->list[i].is_ours)
			return true;
	return parent == root;
}

/* Mark until nothing changes: a child may stand before its parent in the table. */
static void table_mark(struct table *t, pid_t root)
{
	bool has_changed = true;
	while (has_changed) {
		has_changed = false;
		for (size_t i = 0; i < t->count; i++) {
			struct process *p = &t->list[i];
			if (p->is_ours || p->pid == root ||
			    (p->session != root && !parent_is_ours(t, root, p->parent)))
				continue;
			p->is_ours = true;
			has_changed = true;
		}
	}
}

void launch_tree_kill(pid_t root)
{
	struct table t = {0};
	size_t alive = 1;
	for (int round = 0; alive && round < ROUNDS_MAX && table_read(&t); round++) {
		alive = 0;
		table_mark(&t, root);
		for (size_t i = 0; i < t.count; i++) {
			if (!t.list[i].is_ours || t.list[i].state == 'Z')
				continue;
			kill(t.list[i].pid, SIGKILL);
			alive++;
		}
	}
	free(t.list);
}
