// SPDX-License-Identifier: Apache-2.0
/*
 * The io_uring engine: one ring per worker, entered by its owner only.
 *
 * Where the kernel grants it, completions are run when the owner asks for them (DEFER_TASKRUN)
 * instead of interrupting it. The ring then raises a flag in shared memory (TASKRUN_FLAG) while
 * there is something to ask for, so that a reap with nothing to submit and nothing to collect costs
 * one memory read and no system call.
 *
 * A file that sees many transfers is registered after the first few: each later one saves a look-up and a reference count, while
 * an entry of few chunks is spared two system calls. Its place in the ring's table is its descriptor.
 *
 * Others wake the owner through an eventfd that is polled by the ring itself. The flag wake_pending
 * says that a wake has not yet been seen by io_wait(): it survives an io_reap() in between, and it
 * spares the second of two wakes its system call.
 */
#include <assert.h>
#include <errno.h>
#include <liburing.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "io/io_internal.h"

enum { IOWQ_WORKERS_MAX = 64, FILES_MAX = 4096, REGISTER_AT = 16, REGISTERED = 255, NEVER = 254 };
#define CANCEL_WAIT_NS (100 * NS_PER_MS)

struct uring {
	struct io io;
	struct io_uring ring;
	int wake_fd;
	bool has_ring;
	unsigned file_count;	  /* places in the table of registered files; 0: it was refused */
	uint8_t files[FILES_MAX]; /* by descriptor: transfers so far, or REGISTERED, or NEVER */
	atomic_bool wake_pending; /* any thread; pairs release in wake with acquire in wait */
};

/* Newest kernel first (6.1, 5.19, any): what one refuses with EINVAL, the next does without. */
static const unsigned setup_flags[] = {
	IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_COOP_TASKRUN |
		IORING_SETUP_TASKRUN_FLAG | IORING_SETUP_SUBMIT_ALL,
	IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG | IORING_SETUP_SUBMIT_ALL,
	0,
};

static const struct {
	unsigned flag;
	enum io_feature feature;
} flag_features[] = {
	{IORING_SETUP_SINGLE_ISSUER, IO_SINGLE_ISSUER},
	{IORING_SETUP_DEFER_TASKRUN, IO_DEFER_TASKRUN},
	{IORING_SETUP_COOP_TASKRUN, IO_COOP_TASKRUN},
};

static const struct {
	int opcode;
	const char *name;
} needed_opcodes[] = {
	{IORING_OP_READV, "READV"},           {IORING_OP_WRITEV, "WRITEV"},
	{IORING_OP_READ_FIXED, "READ_FIXED"}, {IORING_OP_WRITE_FIXED, "WRITE_FIXED"},
	{IORING_OP_FSYNC, "FSYNC"},           {IORING_OP_FALLOCATE, "FALLOCATE"},
	{IORING_OP_OPENAT, "OPENAT"},         {IORING_OP_CLOSE, "CLOSE"},
	{IORING_OP_UNLINKAT, "UNLINKAT"},     {IORING_OP_FADVISE, "FADVISE"},
	{IORING_OP_POLL_ADD, "POLL_ADD"},
};

static struct uring *uring_of(struct io *io)
{
	return container_of(io, struct uring, io);
}

/* The ring has an entry for each of the depth operations and one for the wake poll, so there always
 * is one. */
static struct io_uring_sqe *take_sqe(struct uring *u)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&u->ring);
	assert(sqe);
	return sqe;
}

static void arm_wake(struct uring *u)
{
	struct io_uring_sqe *sqe = take_sqe(u);
	io_uring_prep_poll_add(sqe, u->wake_fd, POLLIN);
	io_uring_sqe_set_data(sqe, NULL);
}

/* ---- registered files ---- */

static bool file_is_registered(const struct uring *u, int fd)
{
	return fd >= 0 && (unsigned)fd < u->file_count && u->files[fd] == REGISTERED;
}

/* A transfer of @fd is about to be submitted. */
static void file_count_use(struct uring *u, int fd)
{
	if (fd < 0 || (unsigned)fd >= u->file_count || u->files[fd] >= NEVER)
		return;
	if (++u->files[fd] < REGISTER_AT)
		return;
	int rc = io_uring_register_files_update(&u->ring, (unsigned)fd, &fd, 1);
	u->files[fd] = rc == 1 ? REGISTERED : NEVER;
}

/* @fd is about to be closed. */
static void file_forget(struct uring *u, int fd)
{
	int none = -1;
	if (fd < 0 || (unsigned)fd >= u->file_count)
		return;
	if (u->files[fd] == REGISTERED)
		(void)io_uring_register_files_update(&u->ring, (unsigned)fd, &none, 1);
	u->files[fd] = 0;
}

/* ---- submission ---- */

static void prep_transfer(struct uring *u, struct io_uring_sqe *sqe, struct io_op *op)
{
	unsigned n = io_remaining(op);
	const struct iovec *v = op->cursor;
	uint64_t offset = op->offset + op->done_bytes;
	bool is_fixed = u->io.features & IO_REGISTERED_BUFFERS && op->buffer_index >= 0 && op->iov_count == 1;

	if (op->kind == IO_READ && is_fixed)
		io_uring_prep_read_fixed(sqe, op->fd, v->iov_base, (unsigned)v->iov_len, offset,
					 op->buffer_index);
	else if (op->kind == IO_READ)
		io_uring_prep_readv(sqe, op->fd, v, n, offset);
	else if (is_fixed)
		io_uring_prep_write_fixed(sqe, op->fd, v->iov_base, (unsigned)v->iov_len, offset,
					  op->buffer_index);
	else
		io_uring_prep_writev(sqe, op->fd, v, n, offset);
	file_count_use(u, op->fd);
	if (file_is_registered(u, op->fd))
		sqe->flags |= IOSQE_FIXED_FILE;
}

static void uring_submit(struct io *io, struct io_op *op)
{
	struct uring *u = uring_of(io);
	struct io_uring_sqe *sqe = take_sqe(u);
	op->refusal = io_refuse(op);
	if (op->refusal) {
		io_uring_prep_nop(sqe); /* comes back like any other */
		io_uring_sqe_set_data(sqe, op);
		return;
	}
	switch (op->kind) {
	case IO_READ:
	case IO_WRITE:
		prep_transfer(u, sqe, op);
		break;
	case IO_OPEN:
		io_uring_prep_openat(sqe, op->fd, op->name, op->flags | O_CLOEXEC, 0644);
		break;
	case IO_CLOSE:
		file_forget(u, op->fd); /* the table holds the file, too */
		io_uring_prep_close(sqe, op->fd);
		break;
	case IO_FSYNC:
		io_uring_prep_fsync(sqe, op->fd, 0);
		break;
	case IO_FDATASYNC:
		io_uring_prep_fsync(sqe, op->fd, IORING_FSYNC_DATASYNC);
		break;
	case IO_FALLOCATE:
		io_uring_prep_fallocate(sqe, op->fd, 0, 0, (off_t)op->length);
		break;
	case IO_UNLINK:
		io_uring_prep_unlinkat(sqe, op->fd, op->name, 0);
		break;
	case IO_DROP:
		io_uring_prep_fadvise(sqe, op->fd, 0, 0, POSIX_FADV_DONTNEED);
		break;
	}
	io_uring_sqe_set_data(sqe, op);
}

/* What the kernel does not take now (EAGAIN, EBUSY) stays in the ring for the next turn. */
static void uring_flush(struct io *io)
{
	struct uring *u = uring_of(io);
	if (!io_uring_sq_ready(&u->ring))
		return;
	int rc = io_uring_submit_and_get_events(&u->ring);
	assert(rc >= 0 || rc == -EAGAIN || rc == -EBUSY || rc == -EINTR);
	(void)rc;
}

static void take_wake(struct uring *u)
{
	eventfd_t count;
	(void)eventfd_read(u->wake_fd, &count);
	arm_wake(u);
}

static unsigned uring_reap(struct io *io, struct io_op **ret, unsigned max)
{
	struct uring *u = uring_of(io);
	struct io_uring_cqe *cqes[64];
	unsigned n = 0;

	uring_flush(io);
	unsigned ready = io_uring_peek_batch_cqe(&u->ring, cqes, MIN(max, ARRAY_LEN(cqes)));
	for (unsigned i = 0; i < ready; i++) {
		struct io_op *op = io_uring_cqe_get_data(cqes[i]);
		if (!op) {
			take_wake(u);
			continue;
		}
		int res = op->refusal ? op->refusal : cqes[i]->res;
		if (io_continue(op, io->is_cancelled && res == -EINTR ? -ECANCELED : res))
			uring_submit(io, op);
		else
			ret[n++] = op;
	}
	io_uring_cq_advance(&u->ring, ready);
	return n;
}

static bool wake_seen(struct uring *u)
{
	return atomic_exchange_explicit(&u->wake_pending, false, memory_order_acquire);
}

static void uring_wait(struct io *io, uint64_t timeout_ns)
{
	struct uring *u = uring_of(io);
	if (timeout_ns == 0 || wake_seen(u)) {
		uring_flush(io);
		return;
	}
	struct __kernel_timespec ts = {.tv_sec = (long long)(timeout_ns / NS_PER_S),
				       .tv_nsec = (long long)(timeout_ns % NS_PER_S)};
	struct io_uring_cqe *cqe;
	(void)io_uring_submit_and_wait_timeout(&u->ring, &cqe, 1,
					       timeout_ns == UINT64_MAX ? NULL : &ts, NULL);
	(void)wake_seen(u);
}

static void uring_wake(struct io *io)
{
	struct uring *u = uring_of(io);
	if (!atomic_exchange_explicit(&u->wake_pending, true, memory_order_acq_rel))
		(void)eventfd_write(u->wake_fd, 1);
}

/* Kernels before 6.0 refuse, and take back nothing. */
static void uring_cancel(struct io *io)
{
	struct io_uring_sync_cancel_reg all = {
		.fd = -1,
		.flags = IORING_ASYNC_CANCEL_ANY | IORING_ASYNC_CANCEL_ALL,
		.timeout = {.tv_nsec = (long)CANCEL_WAIT_NS},
	};
	uring_flush(io);
	(void)io_uring_register_sync_cancel(&uring_of(io)->ring, &all);
}

static void uring_free(struct io *io)
{
	struct uring *u = uring_of(io);
	/*
	 * Closing a ring gives back what it holds some time later. The next one may need the same locked memory now, and whoever waits
	 * for the end of the process may want to unmount the file system of the files.
	 */
	if (u->io.features & IO_REGISTERED_BUFFERS)
		(void)io_uring_unregister_buffers(&u->ring);
	if (u->io.features & IO_REGISTERED_FILES)
		(void)io_uring_unregister_files(&u->ring);
	if (u->has_ring)
		io_uring_queue_exit(&u->ring);
	if (u->wake_fd >= 0)
		close(u->wake_fd);
	free(u);
}

static const struct io_engine uring_engine = {
	.name = "uring",
	.free = uring_free,
	.submit = uring_submit,
	.flush = uring_flush,
	.reap = uring_reap,
	.wait = uring_wait,
	.wake = uring_wake,
	.cancel = uring_cancel,
};

static int open_ring(struct uring *u, struct error *err)
{
	int rc = -EINVAL;
	for (size_t i = 0; rc == -EINVAL && i < ARRAY_LEN(setup_flags); i++) {
		struct io_uring_params params = {.flags = setup_flags[i]};
		rc = io_uring_queue_init_params(u->io.depth + 1, &u->ring, &params);
	}
	for (size_t i = 0; !rc && i < ARRAY_LEN(flag_features); i++)
		if (u->ring.flags & flag_features[i].flag)
			u->io.features |= flag_features[i].feature;
	if (rc == -ENOSYS)
		return error_set(err, rc, ERR_UNSUPPORTED, "this kernel has no io_uring");
	if (rc == -EPERM)
		return error_set(err, rc, ERR_FS_PERMISSION,
				 "io_uring is not permitted here (kernel.io_uring_disabled or a "
				 "container's seccomp profile)");
	if (rc)
		return error_set(err, rc, ERR_FS_FULL, "io_uring cannot be set up: %s",
				 strerror(-rc));
	u->has_ring = true;
	return 0;
}

static int check_opcodes(struct uring *u, struct error *err)
{
	struct io_uring_probe *probe = io_uring_get_probe_ring(&u->ring);
	const char *missing = NULL;
	if (!probe)
		return error_set(err, -EPERM, ERR_FS_PERMISSION,
				 "io_uring is not permitted to say what it can do (a container's "
				 "seccomp profile?)");
	for (size_t i = 0; !missing && i < ARRAY_LEN(needed_opcodes); i++)
		if (!io_uring_opcode_supported(probe, needed_opcodes[i].opcode))
			missing = needed_opcodes[i].name;
	io_uring_free_probe(probe);
	if (!missing)
		return 0;
	return error_set(err, -EOPNOTSUPP, ERR_UNSUPPORTED,
			 "this kernel's io_uring lacks the operation %s", missing);
}

static int register_buffers(struct uring *u, const struct io_setup *setup, struct strlist *notices)
{
	if (!setup->buffer_count)
		return 0;
	CLEANUP_FREE struct iovec *v = calloc(setup->buffer_count, sizeof(*v));
	if (!v)
		return -ENOMEM;
	for (uint32_t i = 0; i < setup->buffer_count; i++) {
		v[i].iov_base = (char *)setup->buffers + i * setup->buffer_bytes;
		v[i].iov_len = setup->buffer_bytes;
	}
	int rc = io_uring_register_buffers(&u->ring, v, setup->buffer_count);
	if (!rc) {
		u->io.features |= IO_REGISTERED_BUFFERS;
		return 0;
	}
	char size[32];
	fmt_bytes(size, sizeof(size), setup->buffer_count * (uint64_t)setup->buffer_bytes);
	return strlist_addf(
		notices, "I/O buffers (%s per worker) are not registered with io_uring: %s%s", size,
		strerror(-rc), rc == -ENOMEM || rc == -EPERM ? " (see 'ulimit -l')" : "");
}

static int register_files(struct uring *u, struct strlist *notices)
{
	struct rlimit limit = {.rlim_cur = FILES_MAX};
	(void)getrlimit(RLIMIT_NOFILE, &limit);
	unsigned count = (unsigned)MIN(limit.rlim_cur, (rlim_t)FILES_MAX);
	int rc = io_uring_register_files_sparse(&u->ring, count);
	if (rc)
		return strlist_addf(notices, "files are not registered with io_uring: %s", strerror(-rc));
	u->file_count = count;
	u->io.features |= IO_REGISTERED_FILES;
	return 0;
}

static int set_up(struct uring *u, const struct io_setup *setup, struct strlist *notices,
		  struct error *err)
{
	u->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (u->wake_fd < 0)
		return error_set(err, -errno, ERR_FS_FULL, "eventfd: %s", strerror(errno));
	int rc = open_ring(u, err);
	if (!rc)
		rc = check_opcodes(u, err);
	if (rc)
		return rc;
	rc = register_buffers(u, setup, notices);
	if (!rc)
		rc = register_files(u, notices);
	if (rc)
		return error_set(err, rc, ERR_FS_FULL, "out of memory");
	/* The kernel's default (4 per core) would run fewer fsyncs at once than were asked for. A
	 * refusal changes only that. */
	unsigned workers[2] = {MIN(setup->depth, IOWQ_WORKERS_MAX), 0};
	(void)io_uring_register_iowq_max_workers(&u->ring, workers);
	arm_wake(u);
	return 0;
}

int io_uring_new(const struct io_setup *setup, struct io **ret, struct strlist *notices,
		 struct error *err)
{
	struct uring *u = calloc(1, sizeof(*u));
	if (!u)
		return error_set(err, -ENOMEM, ERR_FS_FULL, "out of memory");
	u->io.engine = &uring_engine;
	u->io.depth = setup->depth;
	u->wake_fd = -1;
	int rc = set_up(u, setup, notices, err);
	if (rc) {
		uring_free(&u->io);
		return rc;
	}
	*ret = &u->io;
	return 0;
}
