/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cluster/host.h - what machine this is: processors, memory, and the file system and disk below a
 * path.
 *
 * Receives: /proc, /sys, /etc/os-release, statvfs().  Gives: facts, as of now.
 * Must not know: what they are judged by.
 *
 * Files are read below @root, "" on a real machine: a test gives a directory that looks like one.
 * Nothing here is for the I/O path: every call opens and reads files.   Threads: any.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

enum { HOST_TEXT_MAX = 256 };

/** This machine. A text that cannot be found out is empty. */
struct host_facts {
	char hostname[HOST_TEXT_MAX];
	char kernel[HOST_TEXT_MAX];    /* release, as in "6.1.0-18-amd64" */
	char os_name[HOST_TEXT_MAX];   /* PRETTY_NAME of os-release */
	char cpu_model[HOST_TEXT_MAX]; /* of the first processor */
	uint32_t cores_logical;        /* >= 1 */
	uint32_t cores_physical;       /* >= 1; the logical ones where the kernel does not say */
	uint64_t mem_total_bytes;
	uint64_t mem_available_bytes;  /* as host_mem_available() */
};

/**
 * host_facts_read() - fill @ret
 * Return: 0; -ENOENT or another -errno when /proc/meminfo cannot be read (nothing else is fatal).
 */
int host_facts_read(const char *root, struct host_facts *ret);

/** host_cgroup_available() - bytes that the control groups of this process still allow; UINT64_MAX where none sets a limit. */
uint64_t host_cgroup_available(const char *root);

/** host_mem_available() - MemAvailable in bytes, or what the control groups allow where that is less. Return: 0; -errno; -EINVAL
 * when the line is not there. */
int host_mem_available(const char *root, uint64_t *ret);

/** The file system a path is (or would be) on. A text that cannot be found out is empty. */
struct fs_facts {
	char type[HOST_TEXT_MAX];        /* "ext4", "xfs", "tmpfs" */
	char source[HOST_TEXT_MAX];      /* "/dev/nvme0n1p1", "server:/export", "tmpfs" */
	char mount_point[HOST_TEXT_MAX]; /* cut where longer */
	uint32_t dev_major, dev_minor;   /* st_dev */
	uint64_t total_bytes;
	uint64_t available_bytes; /* to a user without privileges */
	bool is_memory;           /* tmpfs or ramfs: there is no device, and it takes RAM */
	bool has_block_device;    /* the four below are set; the texts may still be empty */
	uint32_t block_major, block_minor;
	char block_name[HOST_TEXT_MAX];  /* "nvme0n1p1" */
	char block_model[HOST_TEXT_MAX]; /* of the whole disk */
};

/**
 * fs_facts_read() - facts about @path or, where it does not exist yet, its nearest existing parent
 * Return: 0; -errno of stat() or statvfs(); -ENOMEM. @ret is written only on success.
 */
int fs_facts_read(const char *root, const char *path, struct fs_facts *ret);

/** What a block device has done since it appeared. */
struct disk_counters {
	uint64_t read_bytes;
	uint64_t write_bytes;
};

/**
 * host_disk_counters() - counters of a block device or partition
 * @major, @minor: fs_facts.block_major and .block_minor, when has_block_device
 * Return: 0; -ENOENT no such device; -EINVAL unreadable text. @ret is written only on success.
 */
int host_disk_counters(const char *root, uint32_t major, uint32_t minor, struct disk_counters *ret);
