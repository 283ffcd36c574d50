// SPDX-License-Identifier: Apache-2.0
/* Facts of this machine, read from the kernel's text files so that they cost no library. */
#include "cluster/host.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/sysmacros.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "base/attr.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/str.h"

enum { HOST_FILE_MAX = 64 << 20, HOST_SECTOR_BYTES = 512 };

/* A kernel text file below @root, by a path relative to it. */
static int host_read_file(const char *root, const char *name, struct str *ret)
{
	CLEANUP_STR struct str path = {0};
	str_addf(&path, "%s%s", root, name);
	if (path.rc)
		return path.rc;
	return file_read(str_text(&path), HOST_FILE_MAX, ret);
}

/* Copy a line's text from @s to its end, without blanks around it. */
static void host_copy_line(char *buf, size_t size, const char *s)
{
	s += strspn(s, " \t");
	size_t len = strcspn(s, "\n");
	while (len && (s[len - 1] == ' ' || s[len - 1] == '\t'))
		len--;
	snprintf(buf, size, "%.*s", (int)len, s);
}

/* Where the value of "key : value" starts in [@text, @end), NULL when there is no such line. */
static const char *host_find_key(const char *text, const char *end, const char *key)
{
	size_t len = strlen(key);
	while (text && text < end) {
		if (!strncmp(text, key, len)) {
			const char *p = text + len + strspn(text + len, " \t");
			if (*p == ':')
				return p + 1;
		}
		text = strchr(text, '\n');
		if (text)
			text++;
	}
	return NULL;
}

/* The first line of a small file; empty when there is none. */
static void host_read_line(const char *root, const char *name, char *buf, size_t size)
{
	CLEANUP_STR struct str text = {0};
	buf[0] = '\0';
	if (!host_read_file(root, name, &text))
		host_copy_line(buf, size, str_text(&text));
}

static int host_meminfo_bytes(const struct str *text, const char *key, uint64_t *ret)
{
	const char *s = host_find_key(str_text(text), str_text(text) + text->len, key);
	uint64_t kib;
	if (!s || sscanf(s, "%" SCNu64, &kib) != 1)
		return -EINVAL;
	*ret = kib * 1024;
	return 0;
}

int host_mem_available(const char *root, uint64_t *ret)
{
	CLEANUP_STR struct str text = {0};
	int rc = host_read_file(root, "/proc/meminfo", &text);
	if (!rc)
		rc = host_meminfo_bytes(&text, "MemAvailable", ret);
	uint64_t allowed = host_cgroup_available(root);
	if (!rc)
		*ret = MIN(*ret, allowed);
	return rc;
}

static void host_read_os_name(const char *root, char *buf, size_t size)
{
	CLEANUP_STR struct str text = {0};
	buf[0] = '\0';
	if (host_read_file(root, "/etc/os-release", &text))
		return;
	static const char key[] = "PRETTY_NAME=";
	const char *s = str_text(&text);
	while (s && strncmp(s, key, strlen(key)) != 0) {
		s = strchr(s, '\n');
		if (s)
			s++;
	}
	if (!s)
		return;
	host_copy_line(buf, size, s + strlen(key));
	size_t len = strlen(buf);
	if (len >= 2 && (buf[0] == '"' || buf[0] == '\'') && buf[len - 1] == buf[0]) {
		memmove(buf, buf + 1, len - 2);
		buf[len - 2] = '\0';
	}
}

static int host_compare_u64(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a;
	uint64_t y = *(const uint64_t *)b;
	return (x > y) - (x < y);
}

static uint32_t host_count_distinct(uint64_t *v, uint32_t count)
{
	uint32_t distinct = count ? 1 : 0;
	qsort(v, count, sizeof(*v), host_compare_u64);
	for (uint32_t i = 1; i < count; i++)
		distinct += v[i] != v[i - 1];
	return distinct;
}

static bool host_block_u32(const char *text, const char *end, const char *key, uint32_t *ret)
{
	const char *s = host_find_key(text, end, key);
	return s && sscanf(s, "%" SCNu32, ret) == 1;
}

/* One block of lines per logical processor; a core is a distinct (physical id, core id). */
static void host_parse_cpuinfo(const struct str *text, struct host_facts *ret)
{
	uint32_t logical = 0;
	uint32_t placed = 0;
	CLEANUP_FREE uint64_t *cores = NULL;
	for (const char *s = str_text(text); s && *s;) {
		const char *end = strstr(s, "\n\n");
		const char *stop = end ? end + 1 : s + strlen(s);
		uint32_t package;
		uint32_t core;
		uint64_t *grown = reallocarray(cores, placed + 1, sizeof(*cores));
		if (!grown)
			break;
		cores = grown;
		logical += host_find_key(s, stop, "processor") != NULL;
		if (host_block_u32(s, stop, "physical id", &package) &&
		    host_block_u32(s, stop, "core id", &core))
			cores[placed++] = (uint64_t)package << 32 | core;
		const char *model = host_find_key(s, stop, "model name");
		if (model && !ret->cpu_model[0])
			host_copy_line(ret->cpu_model, sizeof(ret->cpu_model), model);
		s = end ? end + 2 : NULL;
	}
	ret->cores_logical = logical;
	ret->cores_physical = cores ? host_count_distinct(cores, placed) : 0;
}

int host_facts_read(const char *root, struct host_facts *ret)
{
	struct host_facts facts = {0};
	CLEANUP_STR struct str text = {0};
	int rc = host_read_file(root, "/proc/meminfo", &text);
	if (rc)
		return rc;
	host_meminfo_bytes(&text, "MemTotal", &facts.mem_total_bytes);
	host_meminfo_bytes(&text, "MemAvailable", &facts.mem_available_bytes);
	uint64_t allowed = host_cgroup_available(root);
	facts.mem_available_bytes = MIN(facts.mem_available_bytes, allowed);
	if (!host_read_file(root, "/proc/cpuinfo", &text))
		host_parse_cpuinfo(&text, &facts);
	if (!facts.cores_logical) {
		long online = sysconf(_SC_NPROCESSORS_ONLN);
		facts.cores_logical = online > 0 ? (uint32_t)online : 1;
	}
	if (!facts.cores_physical)
		facts.cores_physical = facts.cores_logical;
	host_read_os_name(root, facts.os_name, sizeof(facts.os_name));
	gethostname(facts.hostname, sizeof(facts.hostname) - 1);
	struct utsname uts;
	if (!uname(&uts))
		snprintf(facts.kernel, sizeof(facts.kernel), "%s", uts.release);
	*ret = facts;
	return 0;
}

/* mountinfo writes blanks and backslashes of a path as three octal digits. */
static void host_unescape(char *s)
{
	char *to = s;
	for (; *s; s++) {
		if (s[0] == '\\' && strspn(s + 1, "01234567") >= 3) {
			*to++ = (char)((s[1] - '0') << 6 | (s[2] - '0') << 3 | (s[3] - '0'));
			s += 3;
		} else {
			*to++ = *s;
		}
	}
	*to = '\0';
}

/* One line of mountinfo: "id parent M:m root point options [tags] - type source ...". */
struct host_mount {
	char *point;
	char *type;
	char *source;
};

static bool host_parse_mount(char *line, struct host_mount *ret)
{
	char *dash = strstr(line, " - ");
	if (!dash)
		return false;
	*dash = '\0';
	char *save = NULL;
	char *word = strtok_r(line, " ", &save);
	for (int i = 0; word && i < 4; i++)
		word = strtok_r(NULL, " ", &save);
	ret->point = word;
	ret->type = strtok_r(dash + 3, " ", &save);
	ret->source = strtok_r(NULL, " ", &save);
	if (!ret->point || !ret->type || !ret->source)
		return false;
	host_unescape(ret->point);
	host_unescape(ret->source);
	return true;
}

/* The mount whose point is the longest leading part of @path; of equal ones the last covers the
 * others. */
static void fs_find_mount(struct str *mountinfo, const char *path, struct fs_facts *ret)
{
	size_t best = 0;
	char *save = NULL;
	char *line = mountinfo->s ? strtok_r(mountinfo->s, "\n", &save) : NULL;
	for (; line; line = strtok_r(NULL, "\n", &save)) {
		struct host_mount m;
		if (!host_parse_mount(line, &m) || !path_within(path, m.point))
			continue;
		size_t len = strlen(m.point);
		if (len < best)
			continue;
		best = len;
		snprintf(ret->mount_point, sizeof(ret->mount_point), "%s", m.point);
		snprintf(ret->type, sizeof(ret->type), "%s", m.type);
		snprintf(ret->source, sizeof(ret->source), "%s", m.source);
	}
}

/* Where /sys describes block device @major:@minor; NULL when it does not. Freed by the caller. */
static char *fs_block_dir(const char *root, uint32_t major, uint32_t minor)
{
	CLEANUP_STR struct str link = {0};
	str_addf(&link, "%s/sys/dev/block/%u:%u", root, major, minor);
	return link.rc ? NULL : realpath(str_text(&link), NULL);
}

/* A partition has no model of its own: its disk is the directory above. */
static void fs_read_model(const char *dir, struct fs_facts *ret)
{
	host_read_line(dir, "/device/model", ret->block_model, sizeof(ret->block_model));
	if (!ret->block_model[0])
		host_read_line(dir, "/../device/model", ret->block_model, sizeof(ret->block_model));
}

/* st_dev names the device, except where a file system has numbers of its own (btrfs): then its
 * source. */
static void fs_find_block(const char *root, struct fs_facts *ret)
{
	uint32_t major = ret->dev_major;
	uint32_t minor = ret->dev_minor;
	CLEANUP_FREE char *dir = fs_block_dir(root, major, minor);
	struct stat st;
	if (!dir && !strncmp(ret->source, "/dev/", 5) && !stat(ret->source, &st) &&
	    S_ISBLK(st.st_mode)) {
		major = major(st.st_rdev);
		minor = minor(st.st_rdev);
		dir = fs_block_dir(root, major, minor);
	}
	if (!dir)
		return;
	ret->has_block_device = true;
	ret->block_major = major;
	ret->block_minor = minor;
	snprintf(ret->block_name, sizeof(ret->block_name), "%s", strrchr(dir, '/') + 1);
	fs_read_model(dir, ret);
}

/* Shorten @path to its longest part that exists. */
static int fs_nearest(char *path, struct stat *st)
{
	while (stat(path, st)) {
		char *slash = strrchr(path, '/');
		if ((errno != ENOENT && errno != ENOTDIR) || !slash || !path[1])
			return -errno;
		slash[slash == path] = '\0';
	}
	return 0;
}

int fs_facts_read(const char *root, const char *path, struct fs_facts *ret)
{
	struct fs_facts facts = {0};
	struct stat st;
	struct statvfs vfs;
	CLEANUP_FREE char *real = path_resolve(path);
	if (!real)
		return -ENOMEM;
	int rc = fs_nearest(real, &st);
	if (rc)
		return rc;
	if (statvfs(real, &vfs))
		return -errno;
	facts.dev_major = major(st.st_dev);
	facts.dev_minor = minor(st.st_dev);
	facts.total_bytes = (uint64_t)vfs.f_blocks * vfs.f_frsize;
	facts.available_bytes = (uint64_t)vfs.f_bavail * vfs.f_frsize;
	CLEANUP_STR struct str mountinfo = {0};
	if (!host_read_file(root, "/proc/self/mountinfo", &mountinfo))
		fs_find_mount(&mountinfo, real, &facts);
	facts.is_memory = !strcmp(facts.type, "tmpfs") || !strcmp(facts.type, "ramfs");
	fs_find_block(root, &facts);
	*ret = facts;
	return 0;
}

int host_disk_counters(const char *root, uint32_t major, uint32_t minor, struct disk_counters *ret)
{
	CLEANUP_FREE char *dir = fs_block_dir(root, major, minor);
	if (!dir)
		return -ENOENT;
	CLEANUP_STR struct str text = {0};
	int rc = host_read_file(dir, "/stat", &text);
	if (rc)
		return rc;
	uint64_t read_sectors;
	uint64_t write_sectors;
	if (sscanf(str_text(&text), "%*u %*u %" SCNu64 " %*u %*u %*u %" SCNu64, &read_sectors,
		   &write_sectors) != 2)
		return -EINVAL;
	ret->read_bytes = read_sectors * HOST_SECTOR_BYTES;
	ret->write_bytes = write_sectors * HOST_SECTOR_BYTES;
	return 0;
}
