/* SPDX-License-Identifier: Apache-2.0 */
/*
 * io/io_internal.h - what the files of this room share: the table of an engine, and when an
 * operation is over.
 *
 * Receives: results of single attempts.  Gives: the next attempt, or the final result.
 * Must not know: how an engine talks to the kernel.
 */
#pragma once

#include "io/io.h"

/** What an engine implements; called on the owner's thread, but for wake. */
struct io_engine {
	const char *name;
	void (*free)(struct io *io);
	void (*submit)(struct io *io, struct io_op *op); /* after io_begin() */
	void (*flush)(struct io *io);
	unsigned (*reap)(struct io *io, struct io_op **ret, unsigned max);
	void (*wait)(struct io *io, uint64_t timeout_ns);
	void (*wake)(struct io *io); /* any thread */
	void (*cancel)(struct io *io);
};

/** Common head of every engine; worker-owned, but for the constant @engine. */
struct io {
	const struct io_engine *engine;
	uint32_t depth;
	uint32_t outstanding;
	unsigned features; /* enum io_feature */
	bool is_cancelled; /* io_cancel() was called */
};

/**
 * io_uring_new(), io_threads_new() - one engine each
 * Return: 0; -errno and @err filled. @ret is written only on success.
 */
int io_uring_new(const struct io_setup *setup, struct io **ret, struct strlist *notices,
		 struct error *err);
int io_threads_new(const struct io_setup *setup, struct io **ret, struct error *err);

/** io_begin() - reset the results before the first attempt. */
void io_begin(struct io_op *op);

/**
 * io_remaining() - point op->cursor at the part of the buffers that is still to be moved
 * It belongs at file position op->offset + op->done_bytes. Asked once for each attempt: op->fault may leave a part of it out.
 * Return: vectors in use, 1 or 2.
 */
unsigned io_remaining(struct io_op *op);

/** io_refuse() - the result of an attempt that is not to be made, by op->fault: -errno; 0: make it. Asked once before each attempt. */
static inline int io_refuse(struct io_op *op)
{
	if (!op->fault.attempts || !op->fault.error || op->kind == IO_CLOSE)
		return 0;
	op->fault.attempts--;
	return op->fault.error;
}

/**
 * io_continue() - what one attempt came to
 * @res: bytes, descriptor, 0 or -errno, as the kernel gave it
 * A short transfer of an operation that is aligned to 512 bytes continues at the last 512-byte
 * boundary, so that O_DIRECT accepts the rest. Return: true: make another attempt, counted in
 * op->retries; false: op->result is final. Threads: whoever runs the attempts of @op.
 */
bool io_continue(struct io_op *op, int64_t res);

/**
 * io_probe_by_reading() - the second half of io_probe_direct(): does an O_DIRECT read of this file
 * leave nothing in memory?
 * @name: a file below @dirfd of IO_PROBE_BYTES, already on the medium   @ret: [out] filled
 */
void io_probe_by_reading(int dirfd, const char *name, struct io_direct *ret);

enum { IO_PROBE_BYTES = 64 << 10 };
