/* SPDX-License-Identifier: Apache-2.0 */
/*
 * io/io.h - one queue of file operations per worker: io_uring, or a pool of threads where it is refused.
 *
 * Receives: struct io_op.  Gives: the same struct back, complete or failed.
 * Must not know: entries, tiers, requests.
 *
 * An io belongs to one worker; only io_wake() may be called from elsewhere. Nothing completes inline: io_submit() queues,
 * io_reap() hands back. EINTR, EAGAIN and short transfers are continued inside and counted in op->retries; after IO_ATTEMPTS_MAX
 * attempts in a row without progress the last error is the result; a read that meets the end of the file is -ENODATA.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "base/err.h"
#include "base/list.h"
#include "base/str.h"
#include "config/config.h"

enum { IO_ATTEMPTS_MAX = 16, IO_FEATURES_SIZE = 96 };

/** What makes I/O cheaper where the kernel grants it. */
enum io_feature {
	IO_SINGLE_ISSUER = 1 << 0,
	IO_DEFER_TASKRUN = 1 << 1,
	IO_COOP_TASKRUN = 1 << 2,
	IO_REGISTERED_BUFFERS = 1 << 3,
	IO_REGISTERED_FILES = 1 << 4,
};

enum io_kind {
	IO_READ,      /* fd, offset, iov */
	IO_WRITE,     /* fd, offset, iov */
	IO_OPEN,      /* fd = directory, name, flags; result = new fd */
	IO_CLOSE,     /* fd */
	IO_FSYNC,     /* fd */
	IO_FDATASYNC, /* fd */
	IO_FALLOCATE, /* fd, length: extend to length bytes; falls back to ftruncate where the file system has no fallocate */
	IO_UNLINK,    /* fd = directory, name */
	IO_DROP,      /* fd: drop the file's clean pages from the page cache (POSIX_FADV_DONTNEED) */
};

/** What the next attempts of an operation come to, for tests of what a kernel seldom does. All zero: what the kernel says. */
struct io_fault {
	int error;	   /* -errno: no attempt is made, this is its result (never of a close: that must happen). 0: half is moved */
	uint32_t attempts; /* how many of them */
};

/** One operation. The caller owns it and keeps it, its name and its buffers alive and untouched from io_submit() until io_reap(). */
struct io_op {
	enum io_kind kind;
	int fd;
	int flags;	  /* IO_OPEN: open(2) flags; mode is 0644 */
	const char *name; /* relative to fd */
	uint64_t offset;
	uint64_t length;  /* IO_FALLOCATE */
	struct iovec iov[2];
	uint32_t iov_count;   /* 1 or 2 */
	int32_t buffer_index; /* iov[0] lies in this registered buffer, -1: in none (or iov_count is 2) */
	struct io_fault fault; /* used up */
	/* results */
	int64_t result; /* bytes, fd, 0, or -errno */
	uint32_t retries;
	/* the engine's */
	struct list node;
	uint64_t done_bytes;
	uint32_t stalls; /* attempts in a row without progress */
	struct iovec cursor[2];
	int refusal; /* of the attempt under way; 0: it was made */
	/* the caller's */
	void *owner;
};

struct io;

/** How to set up one worker's queue. */
struct io_setup {
	enum config_io_engine engine;
	uint32_t depth;	      /* operations in flight at most (chunks + namespace calls) */
	void *buffers;	      /* @buffer_count x @buffer_bytes, page-aligned, contiguous; registered when the kernel allows */
	uint32_t buffer_count;
	size_t buffer_bytes;
};

/**
 * io_new() - open a queue
 * AUTO takes io_uring when it can be set up and threads otherwise, saying so in @notices (EPERM: seccomp or sysctl; ENOSYS; ENOMEM).
 * Refused registration of buffers (memlock) or files is a notice, not an error.
 * Return: 0; -errno with @err filled when the engine asked for cannot be had.   io_free() after.
 * Threads: the caller's thread becomes the owner; call it on the worker's own thread (single-issuer rings).
 */
int io_new(const struct io_setup *setup, struct io **ret, struct strlist *notices, struct error *err);
/** io_free() - closes; the caller has reaped everything it submitted. */
void io_free(struct io *io);
const char *io_name(const struct io *io); /* "uring" or "threads" */
/** io_features() - what the kernel granted: a set of enum io_feature. */
unsigned io_features(const struct io *io);
/** io_features_text() - the names of a set, with blanks between them; "" is nothing. Return: @buf, of IO_FEATURES_SIZE. */
const char *io_features_text(char *buf, unsigned features);

/** io_submit() - queue one operation; at most setup.depth are outstanding (assert). Reaches the kernel at io_flush(), io_reap() or io_wait(). */
void io_submit(struct io *io, struct io_op *op);
/** io_flush() - hand queued operations to the kernel now. */
void io_flush(struct io *io);
/** io_reap() - take up to @max finished operations without blocking. Return: how many. */
unsigned io_reap(struct io *io, struct io_op **ret, unsigned max);
/** io_wait() - block until something can be reaped, io_wake() was called, or @timeout_ns passed (UINT64_MAX: no limit). Spurious returns are fine. */
void io_wait(struct io *io, uint64_t timeout_ns);
/** io_wake() - make a present or the next io_wait() return. Threads: any; not from a signal handler. */
void io_wake(struct io *io);
/**
 * io_cancel() - the end: ask for everything outstanding back, as far as it can be had
 * What the kernel gives up comes from io_reap() with -ECANCELED or as it happened to end; what a device holds stays outstanding.
 * An attempt that was given up is not repeated. New operations may be submitted: to close and remove what is left.
 */
void io_cancel(struct io *io);
uint32_t io_outstanding(const struct io *io);

/**
 * io_sample_resident() - are pages of @fd in the page cache?
 * Asks (mincore) about @count pages at most, spread evenly over the first @bytes; reads nothing and waits for no device.
 * Return: how many of them are, with their number in @ret_sampled; -errno.
 */
int io_sample_resident(int fd, uint64_t bytes, unsigned count, unsigned *ret_sampled);

/* ---- what a directory can do ---- */

/** What direct I/O means in a directory. */
struct io_direct {
	bool is_direct;		/* O_DIRECT transfers bypass the page cache here */
	uint32_t align_bytes;	/* offsets and lengths; at least 512 when is_direct */
	uint32_t memory_align_bytes;
	char why[160];		/* how we know, or why not: "STATX_DIOALIGN: 512", "tmpfs lives in memory", ... */
};

/**
 * io_probe_direct() - ask the file system behind @dirfd
 * statx(STATX_DIOALIGN) decides; where it cannot say, a file system in memory (tmpfs, ramfs) is not direct, and any other one is when an O_DIRECT
 * read of a probe file (@probe_name, made and removed here) works and leaves no resident page.
 * Return: 0 and @ret (also for "not direct"); -errno when the directory cannot be written (message in @err).
 */
int io_probe_direct(int dirfd, const char *probe_name, struct io_direct *ret, struct error *err);
