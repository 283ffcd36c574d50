/* SPDX-License-Identifier: Apache-2.0 */
/* The disk below TMPDIR for tests of I/O: a directory of their own, buffers, and a small file system that is soon full. */
#pragma once

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/mem.h"
#include "io/io.h"

struct disk {
	char path[256];
	int dirfd;
	bool has_direct; /* here O_DIRECT is */
	char *buffers;
	size_t buffers_bytes;
};

/* For a group's set-up and tear-down: 0 or -1. */
static int disk_open(struct disk *d, const char *name, size_t buffers_bytes)
{
	const char *tmp = getenv("TMPDIR");
	struct io_direct direct;
	snprintf(d->path, sizeof(d->path), "%s/%s.XXXXXX", tmp ? tmp : "/tmp", name);
	if (!mkdtemp(d->path))
		return -1;
	d->dirfd = open(d->path, O_RDONLY | O_DIRECTORY);
	d->buffers = mem_reserve(buffers_bytes);
	d->buffers_bytes = buffers_bytes;
	if (d->dirfd < 0 || !d->buffers || io_probe_direct(d->dirfd, "probe", &direct, NULL))
		return -1;
	d->has_direct = direct.is_direct;
	return 0;
}

static int disk_close(struct disk *d)
{
	close(d->dirfd);
	mem_unreserve(d->buffers, d->buffers_bytes);
	return rmdir(d->path); /* also says that every test has cleaned up */
}

static unsigned files_in(int dirfd)
{
	DIR *dir = fdopendir(openat(dirfd, ".", O_RDONLY | O_DIRECTORY));
	assert_non_null(dir);
	unsigned n = 0;
	for (struct dirent *e; (e = readdir(dir));)
		n += e->d_name[0] != '.';
	closedir(dir);
	return n;
}

/* A file system of 128 KiB in the directory, as a disk whose directory it is; a skipped test where there can be none. */
static struct disk small_disk_open(const struct disk *d)
{
	struct disk small = *d;
	snprintf(small.path, sizeof(small.path), "%.*s/small", (int)sizeof(small.path) - 8, d->path);
	assert_int_equal(mkdir(small.path, 0700), 0);
	if (mount("tmpfs", small.path, "tmpfs", 0, "size=128k")) {
		rmdir(small.path);
		print_message("skipped: cannot mount a small file system: %s\n", strerror(errno));
		skip();
	}
	small.dirfd = open(small.path, O_RDONLY | O_DIRECTORY);
	return small;
}

static void small_disk_close(const struct disk *small)
{
	close(small->dirfd);
	/* The kernel lets go of the files of a closed ring a moment later. */
	int rc = -1;
	for (int i = 0; rc && i < 200; i++)
		if ((rc = umount(small->path)))
			usleep(10000);
	assert_int_equal(rc, 0);
	assert_int_equal(rmdir(small->path), 0);
}
