// SPDX-License-Identifier: Apache-2.0
/* What both engines share: choosing one, and deciding when an operation is really over. */
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "io/io_internal.h"

enum { SECTOR_BYTES = 512, DIRECT_BYTES = 4096 };

int io_new(const struct io_setup *setup, struct io **ret, struct strlist *notices,
	   struct error *err)
{
	if (setup->engine == IO_ENGINE_THREADS)
		return io_threads_new(setup, ret, err);

	struct error refusal = {0};
	int rc = io_uring_new(setup, ret, notices, &refusal);
	if (!rc)
		return 0;
	if (setup->engine == IO_ENGINE_URING) {
		if (err)
			*err = refusal;
		return rc;
	}
	rc = strlist_addf(notices, "I/O engine 'threads' instead of 'uring': %s", refusal.message);
	if (rc)
		return error_set(err, rc, ERR_FS_FULL, "out of memory");
	return io_threads_new(setup, ret, err);
}

void io_free(struct io *io)
{
	if (!io)
		return;
	assert(io->outstanding == 0);
	io->engine->free(io);
}

const char *io_name(const struct io *io)
{
	return io->engine->name;
}

unsigned io_features(const struct io *io)
{
	return io->features;
}

const char *io_features_text(char *buf, unsigned features)
{
	/* in the order of enum io_feature */
	static const char *const names[] = {"single_issuer", "defer_taskrun", "coop_taskrun", "registered_buffers",
					    "registered_files"};
	size_t len = 0;
	buf[0] = '\0';
	for (size_t i = 0; i < ARRAY_LEN(names); i++)
		if (features & 1U << i)
			len += (size_t)snprintf(buf + len, IO_FEATURES_SIZE - len, "%s%s", len ? " " : "", names[i]);
	return buf;
}

uint32_t io_outstanding(const struct io *io)
{
	return io->outstanding;
}

void io_submit(struct io *io, struct io_op *op)
{
	assert(io->outstanding < io->depth);
	io->outstanding++;
	io_begin(op);
	io->engine->submit(io, op);
}

void io_flush(struct io *io)
{
	io->engine->flush(io);
}

unsigned io_reap(struct io *io, struct io_op **ret, unsigned max)
{
	unsigned n = io->engine->reap(io, ret, max);
	io->outstanding -= n;
	return n;
}

void io_wait(struct io *io, uint64_t timeout_ns)
{
	io->engine->wait(io, timeout_ns);
}

void io_cancel(struct io *io)
{
	if (!io->is_cancelled)
		io->engine->cancel(io);
	io->is_cancelled = true;
}

void io_wake(struct io *io)
{
	io->engine->wake(io);
}

/* ---- when is an operation over? ---- */

static bool is_transfer(const struct io_op *op)
{
	return op->kind == IO_READ || op->kind == IO_WRITE;
}

static uint64_t transfer_bytes(const struct io_op *op)
{
	return op->iov[0].iov_len + (op->iov_count == 2 ? op->iov[1].iov_len : 0);
}

static bool is_sector_aligned(const struct io_op *op)
{
	return (op->offset | transfer_bytes(op)) % SECTOR_BYTES == 0 &&
	       op->iov[0].iov_len % SECTOR_BYTES == 0;
}

void io_begin(struct io_op *op)
{
	assert(!is_transfer(op) || op->iov_count == 1 || op->iov_count == 2);
	op->result = 0;
	op->retries = 0;
	op->done_bytes = 0;
	op->stalls = 0;
}

/* Half of what is left, in pieces that direct I/O takes; all of it where there is only one. */
static unsigned cut_short(struct io_op *op, unsigned n)
{
	uint64_t left = op->cursor[0].iov_len + (n == 2 ? op->cursor[1].iov_len : 0);
	uint64_t half = left / 2 - left / 2 % DIRECT_BYTES;
	if (!half)
		return n;
	op->fault.attempts--;
	if (half <= op->cursor[0].iov_len) {
		op->cursor[0].iov_len = half;
		return 1;
	}
	op->cursor[1].iov_len = half - op->cursor[0].iov_len;
	return n;
}

unsigned io_remaining(struct io_op *op)
{
	uint64_t skip = op->done_bytes;
	unsigned n = 0;
	for (unsigned i = 0; i < op->iov_count; i++) {
		uint64_t part = MIN(skip, op->iov[i].iov_len);
		skip -= part;
		if (part == op->iov[i].iov_len)
			continue;
		op->cursor[n].iov_base = (char *)op->iov[i].iov_base + part;
		op->cursor[n].iov_len = op->iov[i].iov_len - part;
		n++;
	}
	return op->fault.attempts && !op->fault.error ? cut_short(op, n) : n;
}

static bool finish(struct io_op *op, int64_t result)
{
	op->result = result;
	return false;
}

static bool stall(struct io_op *op, int error)
{
	if (++op->stalls == IO_ATTEMPTS_MAX)
		return finish(op, error);
	op->retries++;
	return true;
}

static bool continue_transfer(struct io_op *op, uint64_t moved)
{
	bool is_read = op->kind == IO_READ;
	if (moved == 0)
		return is_read ? finish(op, -ENODATA) : stall(op, -EIO);
	uint64_t done = op->done_bytes + moved;
	if (done >= transfer_bytes(op))
		return finish(op, (int64_t)done);
	if (is_sector_aligned(op))
		done -= done % SECTOR_BYTES;
	/* Less than a sector: for a read that is where the file ends. */
	if (done == op->done_bytes)
		return stall(op, is_read ? -ENODATA : -EIO);
	op->done_bytes = done;
	op->stalls = 0;
	op->retries++;
	return true;
}

bool io_continue(struct io_op *op, int64_t res)
{
	/*
	 * No ring operation truncates in the kernels we support. Setting a size is one quick inode
	 * change, and only file systems without fallocate come here, so the owner makes the call
	 * itself.
	 */
	if (op->kind == IO_FALLOCATE && res == -EOPNOTSUPP)
		res = err_from_errno(ftruncate(op->fd, (off_t)op->length));
	/* Linux has given the descriptor back even then; a second close could hit somebody else's.
	 */
	if (op->kind == IO_CLOSE && res == -EINTR)
		res = 0;
	if (res == -EINTR || res == -EAGAIN)
		return stall(op, (int)res);
	if (res < 0 || !is_transfer(op))
		return finish(op, res);
	return continue_transfer(op, (uint64_t)res);
}
