// SPDX-License-Identifier: Apache-2.0
/* Machine facts: read from a directory made to look like a machine, and once from this one. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/file.h"
#include "base/str.h"
#include "cluster/host.h"

struct fixture {
	char root[64];
};

static void put(const char *root, const char *name, const char *text)
{
	CLEANUP_FREE char *path = path_join(root, name);
	char *slash = strrchr(path, '/');
	*slash = '\0';
	assert_int_equal(dir_make(path), 0);
	*slash = '/';
	assert_int_equal(file_write_atomic(path, text, strlen(text)), 0);
}

static int set_up(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	snprintf(f->root, sizeof(f->root), "/tmp/test_host.XXXXXX");
	if (!f || !mkdtemp(f->root))
		return -1;
	*state = f;
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *f = *state;
	char command[128];
	snprintf(command, sizeof(command), "rm -rf %s", f->root);
	int rc = system(command);
	free(f);
	return rc;
}

static const char meminfo[] = "MemTotal:       16000 kB\n"
			      "MemFree:         1000 kB\n"
			      "MemAvailable:    9000 kB\n";

static void test_facts(void **state)
{
	struct fixture *f = *state;
	put(f->root, "proc/meminfo", meminfo);
	put(f->root, "etc/os-release",
	    "NAME=\"Some Linux\"\nPRETTY_NAME=\"Some Linux 12 (word)\"\nID=some\n");
	/* two packages of two threads on one core each */
	put(f->root, "proc/cpuinfo",
	    "processor\t: 0\nmodel name\t: Fast CPU @ 3 GHz\nphysical id\t: 0\ncore id\t\t: 0\n\n"
	    "processor\t: 1\nmodel name\t: Fast CPU @ 3 GHz\nphysical id\t: 1\ncore id\t\t: 0\n\n"
	    "processor\t: 2\nmodel name\t: Fast CPU @ 3 GHz\nphysical id\t: 0\ncore id\t\t: 0\n\n"
	    "processor\t: 3\nmodel name\t: Fast CPU @ 3 GHz\nphysical id\t: 1\ncore id\t\t: 0\n\n");
	struct host_facts facts;
	assert_int_equal(host_facts_read(f->root, &facts), 0);
	assert_string_equal(facts.os_name, "Some Linux 12 (word)");
	assert_string_equal(facts.cpu_model, "Fast CPU @ 3 GHz");
	assert_int_equal(facts.cores_logical, 4);
	assert_int_equal(facts.cores_physical, 2);
	assert_int_equal(facts.mem_total_bytes, 16000 * 1024);
	assert_int_equal(facts.mem_available_bytes, 9000 * 1024);
	assert_true(facts.hostname[0] && facts.kernel[0]);
}

/* An ARM kernel names neither model nor topology: cores are then the logical ones. */
static void test_facts_without_topology(void **state)
{
	struct fixture *f = *state;
	put(f->root, "proc/meminfo", meminfo);
	put(f->root, "proc/cpuinfo",
	    "processor\t: 0\nBogoMIPS\t: 50\n\nprocessor\t: 1\nBogoMIPS\t: 50\n\n");
	struct host_facts facts;
	assert_int_equal(host_facts_read(f->root, &facts), 0);
	assert_int_equal(facts.cores_logical, 2);
	assert_int_equal(facts.cores_physical, 2);
	assert_string_equal(facts.cpu_model, "");
	assert_string_equal(facts.os_name, "");
}

static void test_mem_available(void **state)
{
	struct fixture *f = *state;
	uint64_t bytes = 7;
	assert_int_equal(host_mem_available(f->root, &bytes), -ENOENT);
	put(f->root, "proc/meminfo", "MemTotal: 5 kB\n");
	assert_int_equal(host_mem_available(f->root, &bytes), -EINVAL);
	assert_int_equal(bytes, 7);
	put(f->root, "proc/meminfo", meminfo);
	assert_int_equal(host_mem_available(f->root, &bytes), 0);
	assert_int_equal(bytes, 9000 * 1024);
}

/* Limits of every group above count; page cache that can be dropped is not in use; "max" is no limit. */
static void test_mem_cgroup_unified(void **state)
{
	struct fixture *f = *state;
	uint64_t available;
	put(f->root, "/proc/meminfo", meminfo);
	put(f->root, "/proc/self/cgroup", "0::/outer/inner\n");
	put(f->root, "/sys/fs/cgroup/outer/inner/memory.max", "max\n");
	put(f->root, "/sys/fs/cgroup/outer/inner/memory.current", "100\n");
	assert_int_equal(host_mem_available(f->root, &available), 0);
	assert_int_equal(available, 9000 * 1024);
	put(f->root, "/sys/fs/cgroup/outer/memory.max", "5000000\n");
	put(f->root, "/sys/fs/cgroup/outer/memory.current", "4000000\n");
	assert_int_equal(host_mem_available(f->root, &available), 0);
	assert_int_equal(available, 1000000);
	put(f->root, "/sys/fs/cgroup/outer/memory.stat", "anon 5\ninactive_file 3000000\n");
	assert_int_equal(host_mem_available(f->root, &available), 0);
	assert_int_equal(available, 4000000);
	put(f->root, "/sys/fs/cgroup/outer/inner/memory.max", "50\n");
	assert_int_equal(host_mem_available(f->root, &available), 0);
	assert_int_equal(available, 0);
	put(f->root, "/proc/self/cgroup", "nonsense\n0:x\n");
	assert_int_equal(host_mem_available(f->root, &available), 0);
	assert_int_equal(available, 9000 * 1024);
}

/* The old generation. In a container its path is that of the host, and only the root of it is to be seen. */
static void test_mem_cgroup_legacy(void **state)
{
	struct fixture *f = *state;
	struct host_facts facts;
	put(f->root, "/proc/meminfo", meminfo);
	put(f->root, "/proc/self/cgroup", "5:cpu:/\n4:hugetlb,memory:/not/here\n0::/\n");
	put(f->root, "/sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
	put(f->root, "/sys/fs/cgroup/memory/memory.usage_in_bytes", "1000\n");
	assert_int_equal(host_facts_read(f->root, &facts), 0);
	assert_int_equal(facts.mem_available_bytes, 9000 * 1024);
	put(f->root, "/sys/fs/cgroup/memory/memory.limit_in_bytes", "7000\n");
	put(f->root, "/sys/fs/cgroup/memory/memory.stat", "inactive_file 1\ntotal_inactive_file 400\n");
	assert_int_equal(host_facts_read(f->root, &facts), 0);
	assert_int_equal(facts.mem_available_bytes, 6400);
}

/* The longest mount point wins, the later of two equal ones covers the earlier, blanks are escaped.
 */
static void test_fs_mount(void **state)
{
	struct fixture *f = *state;
	CLEANUP_STR struct str text = {0};
	char real[4096];
	assert_non_null(realpath(f->root, real));
	str_add(&text, "20 1 8:1 / / rw - ext4 /dev/root rw\n");
	str_addf(&text, "21 20 8:2 / %s/a\\040b rw,relatime shared:1 master:2 - xfs /dev/old rw\n",
		 real);
	str_addf(&text, "22 21 0:44 / %s/a\\040b rw - tmpfs some\\134name rw\n", real);
	str_addf(&text, "23 20 0:45 / %s/a rw - nfs4 server:/x rw\n", real);
	put(f->root, "proc/self/mountinfo", str_text(&text));
	CLEANUP_FREE char *dir = path_join(f->root, "a b");
	CLEANUP_FREE char *file = path_join(dir, "not/yet/here");
	assert_int_equal(dir_make(dir), 0);
	struct fs_facts fs;
	assert_int_equal(fs_facts_read(f->root, file, &fs), 0);
	assert_string_equal(fs.type, "tmpfs");
	assert_string_equal(fs.source, "some\\name");
	assert_true(fs.is_memory);
	assert_false(fs.has_block_device);
	struct stat st;
	assert_int_equal(stat(f->root, &st), 0);
	assert_int_equal(fs.dev_major, major(st.st_dev));
	assert_int_equal(fs.dev_minor, minor(st.st_dev));
	assert_true(fs.total_bytes >= fs.available_bytes && fs.total_bytes > 0);
	assert_int_equal(fs_facts_read(f->root, f->root, &fs), 0);
	assert_string_equal(fs.type, "ext4");
	assert_string_equal(fs.mount_point, "/");
	assert_false(fs.is_memory);
}

static void test_block_device(void **state)
{
	struct fixture *f = *state;
	struct stat st;
	assert_int_equal(stat(f->root, &st), 0);
	put(f->root, "sys/devices/disk0/device/model", "Quick Disk 9000  \n");
	put(f->root, "sys/devices/disk0/disk0p1/stat",
	    "  11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27\n");
	CLEANUP_FREE char *blocks = path_join(f->root, "sys/dev/block");
	assert_int_equal(dir_make(blocks), 0);
	CLEANUP_STR struct str link = {0};
	str_addf(&link, "%s/%u:%u", blocks, major(st.st_dev), minor(st.st_dev));
	assert_int_equal(symlink("../../devices/disk0/disk0p1", str_text(&link)), 0);
	struct fs_facts fs;
	assert_int_equal(fs_facts_read(f->root, f->root, &fs), 0);
	assert_true(fs.has_block_device);
	assert_string_equal(fs.block_name, "disk0p1");
	assert_string_equal(fs.block_model, "Quick Disk 9000");
	struct disk_counters c = {0};
	assert_int_equal(host_disk_counters(f->root, fs.block_major, fs.block_minor, &c), 0);
	assert_int_equal(c.read_bytes, 13 * 512);
	assert_int_equal(c.write_bytes, 17 * 512);
	assert_int_equal(host_disk_counters(f->root, 4000, 1, &c), -ENOENT);
	put(f->root, "sys/devices/disk0/disk0p1/stat", "none\n");
	assert_int_equal(host_disk_counters(f->root, fs.block_major, fs.block_minor, &c), -EINVAL);
	assert_int_equal(c.read_bytes, 13 * 512);
}

static void test_this_machine(void **state)
{
	(void)state;
	struct host_facts facts;
	assert_int_equal(host_facts_read("", &facts), 0);
	assert_true(facts.cores_logical >= 1 && facts.cores_physical >= 1);
	assert_true(facts.mem_total_bytes >= facts.mem_available_bytes);
	assert_true(facts.mem_available_bytes > 0);
	struct fs_facts fs;
	assert_int_equal(fs_facts_read("", "/proc/self", &fs), 0);
	assert_string_equal(fs.type, "proc");
	assert_false(fs.has_block_device);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_facts, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_facts_without_topology, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_mem_available, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_mem_cgroup_unified, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_mem_cgroup_legacy, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_fs_mount, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_block_device, set_up, tear_down),
		cmocka_unit_test(test_this_machine),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
