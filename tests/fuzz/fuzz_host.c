// SPDX-License-Identifier: Apache-2.0
/* Fuzz entry: the input, cut at form feeds, as the files in which a machine describes itself. */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/str.h"
#include "cluster/host.h"
#include "cmd/validate.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char *const names[] = {
	"/proc/meminfo",
	"/proc/self/cgroup",
	"/proc/cpuinfo",
	"/etc/os-release",
	"/proc/self/mountinfo",
	"/sys/fs/cgroup/memory.max",
	"/sys/fs/cgroup/memory.current",
	"/sys/fs/cgroup/memory.stat",
};

static char root[] = "/dev/shm/fuzz_host.XXXXXX";

static void remove_root(void)
{
	char command[64];
	snprintf(command, sizeof(command), "rm -rf %s", root);
	if (system(command))
		fputs("fuzz_host: its directory stays\n", stderr);
}

static void make_root(void)
{
	static const char *const dirs[] = {"/proc/self", "/etc", "/sys/fs/cgroup"};
	if (!mkdtemp(root))
		abort();
	atexit(remove_root);
	for (size_t i = 0; i < ARRAY_LEN(dirs); i++) {
		CLEANUP_STR struct str path = {0};
		str_addf(&path, "%s%s", root, dirs[i]);
		if (dir_make(str_text(&path)))
			abort();
	}
}

static void put(const char *name, const char *text, size_t len)
{
	CLEANUP_STR struct str path = {0};
	str_addf(&path, "%s%s", root, name);
	int fd = open(str_text(&path), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (fd < 0 || file_write_all(fd, text, len))
		abort();
	close(fd);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static bool is_made;
	struct host_facts host;
	struct fs_facts fs;
	CLEANUP_STR struct str text = {0}, hint = {0};
	if (!is_made)
		make_root();
	is_made = true;
	str_add_mem(&text, (const char *)data, size);
	size_t at = 0;
	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		const char *part = at < text.len ? text.s + at : "";
		size_t len = strcspn(part, "\f");
		put(names[i], part, len);
		cmd_install_hint(ERR_MPI_MISSING, part, &hint);
		at += len + 1;
	}
	if (!host_facts_read(root, &host) && (!host.cores_logical || !host.cores_physical))
		abort();
	if (fs_facts_read(root, "/tmp", &fs))
		abort();
	return 0;
}
