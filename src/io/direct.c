// SPDX-License-Identifier: Apache-2.0
/*
 * Whether O_DIRECT means what it says in a directory. open() alone proves nothing: tmpfs accepts
 * the flag and copies from memory.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "base/mem.h"
#include "io/io_internal.h"

enum { DIRECT_ALIGN_MIN = 512, PROBE_ALIGN = 4096 };

static const struct {
	long magic;
	const char *name;
} memory_file_systems[] = {
	{TMPFS_MAGIC, "tmpfs"},
	{RAMFS_MAGIC, "ramfs"},
	{HUGETLBFS_MAGIC, "hugetlbfs"},
};

static void say_not_direct(struct io_direct *ret, const char *why)
{
	*ret = (struct io_direct){0};
	snprintf(ret->why, sizeof(ret->why), "%s", why);
}

/* NULL: not in memory, or not known. */
static const char *memory_file_system(int dirfd)
{
	struct statfs fs;
	if (fstatfs(dirfd, &fs))
		return NULL;
	for (size_t i = 0; i < ARRAY_LEN(memory_file_systems); i++)
		if ((long)fs.f_type == memory_file_systems[i].magic)
			return memory_file_systems[i].name;
	return NULL;
}

/* Return: the file system had an answer, now in @ret. */
static bool ask_statx(int fd, struct io_direct *ret)
{
#ifdef STATX_DIOALIGN
	struct statx stx;
	if (statx(fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &stx) || !(stx.stx_mask & STATX_DIOALIGN))
		return false;
	if (!stx.stx_dio_offset_align) {
		say_not_direct(ret, "STATX_DIOALIGN: no direct I/O on this file system");
		return true;
	}
	*ret = (struct io_direct){
		.is_direct = true,
		.align_bytes = MAX(stx.stx_dio_offset_align, DIRECT_ALIGN_MIN),
		.memory_align_bytes = MAX(stx.stx_dio_mem_align, 1),
	};
	snprintf(ret->why, sizeof(ret->why), "STATX_DIOALIGN: %u", stx.stx_dio_offset_align);
	return true;
#else
	(void)fd, (void)ret;
	return false;
#endif
}

int io_sample_resident(int fd, uint64_t bytes, unsigned count, unsigned *ret_sampled)
{
	uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE), pages = (bytes + page - 1) / page;
	int resident = 0;

	*ret_sampled = (unsigned)MIN(count, pages);
	if (!pages)
		return 0;
	char *map = mmap(NULL, bytes, PROT_READ, MAP_SHARED, fd, 0);
	if (map == MAP_FAILED)
		return -errno;
	for (unsigned i = 0; i < *ret_sampled && resident >= 0; i++) {
		unsigned char in_core = 0;
		uint64_t at = pages * (2 * i + 1) / (2 * (uint64_t)*ret_sampled);
		resident = mincore(map + at * page, page, &in_core) ? -errno : resident + (in_core & 1);
	}
	munmap(map, bytes);
	return resident;
}

/* Return: pages of the probe file in memory, or -errno. */
static int probe_resident(int fd)
{
	unsigned sampled;
	return io_sample_resident(fd, IO_PROBE_BYTES, UINT_MAX, &sampled);
}

static int read_directly(int dirfd, const char *name)
{
	CLEANUP_FREE void *buf = aligned_alloc(PROBE_ALIGN, IO_PROBE_BYTES);
	if (!buf)
		return -ENOMEM;
	CLEANUP_CLOSE int fd = openat(dirfd, name, O_RDONLY | O_DIRECT | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	long n = err_from_errno(pread(fd, buf, IO_PROBE_BYTES, 0));
	if (n < 0)
		return (int)n;
	return n == IO_PROBE_BYTES ? 0 : -EIO;
}

void io_probe_by_reading(int dirfd, const char *name, struct io_direct *ret)
{
	CLEANUP_CLOSE int fd = openat(dirfd, name, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED) || probe_resident(fd) != 0) {
		say_not_direct(ret, "the probe file's pages stay in memory");
		return;
	}
	int rc = read_directly(dirfd, name);
	if (rc) {
		say_not_direct(ret, "O_DIRECT is refused: ");
		strncat(ret->why, strerror(-rc), sizeof(ret->why) - strlen(ret->why) - 1);
		return;
	}
	if (probe_resident(fd) != 0) {
		say_not_direct(ret, "an O_DIRECT read went through the page cache");
		return;
	}
	*ret = (struct io_direct){.is_direct = true,
				  .align_bytes = PROBE_ALIGN,
				  .memory_align_bytes = PROBE_ALIGN,
				  .why = "an O_DIRECT read left no page in memory"};
}

static int write_probe(int fd)
{
	CLEANUP_FREE char *buf = calloc(1, IO_PROBE_BYTES);
	if (!buf)
		return -ENOMEM;
	long n = err_from_errno(pwrite(fd, buf, IO_PROBE_BYTES, 0));
	if (n < 0)
		return (int)n;
	if (n != IO_PROBE_BYTES)
		return -ENOSPC;
	return (int)err_from_errno(fsync(fd));
}

static int make_probe(int dirfd, const char *name, struct error *err)
{
	/* One left by a run that was killed. */
	(void)unlinkat(dirfd, name, 0);
	int fd = openat(dirfd, name, O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC, 0600);
	int rc = fd < 0 ? -errno : write_probe(fd);
	if (!rc)
		return fd;
	if (fd >= 0) {
		close(fd);
		(void)unlinkat(dirfd, name, 0);
	}
	return error_set(err, rc, err_fs_code(rc), "cannot write probe file '%s': %s", name, strerror(-rc));
}

int io_probe_direct(int dirfd, const char *probe_name, struct io_direct *ret, struct error *err)
{
	CLEANUP_CLOSE int fd = make_probe(dirfd, probe_name, err);
	if (fd < 0)
		return fd;
	const char *memory = memory_file_system(dirfd);
	if (memory) {
		*ret = (struct io_direct){0};
		snprintf(ret->why, sizeof(ret->why), "%s lives in memory", memory);
	} else if (!ask_statx(fd, ret)) {
		io_probe_by_reading(dirfd, probe_name, ret);
	}
	(void)unlinkat(dirfd, probe_name, 0);
	return 0;
}
