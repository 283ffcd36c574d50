// SPDX-License-Identifier: Apache-2.0
/*
 * The engine for machines where io_uring is refused: a pool of threads that make the plain system
 * calls.
 *
 *   owner:  pending --flush--> queue (lock) --> a thread runs one operation to its end --> finished (lock) --reap--> owner
 */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "io/io_internal.h"

enum { THREADS_MAX = 64 };

struct pool {
	struct io io;
	struct list pending; /* owner's: submitted, not yet flushed */
	uint32_t pending_count;
	pthread_mutex_t lock;
	pthread_cond_t work; /* queue grew, or stop */
	pthread_cond_t done; /* finished grew, or woken */
	struct list queue;   /* guarded by lock, as are the next three */
	struct list finished;
	bool woken;
	bool stop;
	atomic_uint finished_count; /* written under lock; read without, to find an empty list
				       cheaply */
	unsigned thread_count;      /* set before use, then constant */
	pthread_t threads[THREADS_MAX];
};

static struct pool *pool_of(struct io *io)
{
	return container_of(io, struct pool, io);
}

static int64_t transfer(struct io_op *op)
{
	int n = (int)io_remaining(op);
	off_t offset = (off_t)(op->offset + op->done_bytes);
	return op->kind == IO_READ ? preadv(op->fd, op->cursor, n, offset)
				   : pwritev(op->fd, op->cursor, n, offset);
}

/* One system call. Return: its result, or -errno. */
static int64_t attempt(struct io_op *op)
{
	int refusal = io_refuse(op);
	if (refusal)
		return refusal;
	switch (op->kind) {
	case IO_READ:
	case IO_WRITE:
		return err_from_errno(transfer(op));
	case IO_OPEN:
		return err_from_errno(openat(op->fd, op->name, op->flags | O_CLOEXEC, 0644));
	case IO_CLOSE:
		return err_from_errno(close(op->fd));
	case IO_FSYNC:
		return err_from_errno(fsync(op->fd));
	case IO_FDATASYNC:
		return err_from_errno(fdatasync(op->fd));
	case IO_FALLOCATE:
		return err_from_errno(fallocate(op->fd, 0, 0, (off_t)op->length));
	case IO_UNLINK:
		return err_from_errno(unlinkat(op->fd, op->name, 0));
	case IO_DROP:
		return -posix_fadvise(op->fd, 0, 0, POSIX_FADV_DONTNEED);
	}
	return -EINVAL;
}

static void *pool_thread(void *arg)
{
	struct pool *p = arg;
	pthread_mutex_lock(&p->lock);
	for (;;) {
		while (list_empty(&p->queue) && !p->stop)
			pthread_cond_wait(&p->work, &p->lock);
		struct list *node = list_pop_front(&p->queue);
		if (!node)
			break;
		pthread_mutex_unlock(&p->lock);

		struct io_op *op = list_entry(node, struct io_op, node);
		while (io_continue(op, attempt(op)))
			;
		pthread_mutex_lock(&p->lock);
		list_push_back(&p->finished, &op->node);
		atomic_fetch_add_explicit(&p->finished_count, 1, memory_order_relaxed);
		pthread_cond_signal(&p->done);
	}
	pthread_mutex_unlock(&p->lock);
	return NULL;
}

static void threads_submit(struct io *io, struct io_op *op)
{
	struct pool *p = pool_of(io);
	list_push_back(&p->pending, &op->node);
	p->pending_count++;
}

static void threads_flush(struct io *io)
{
	struct pool *p = pool_of(io);
	if (!p->pending_count)
		return;
	pthread_mutex_lock(&p->lock);
	list_splice_back(&p->queue, &p->pending);
	for (; p->pending_count; p->pending_count--)
		pthread_cond_signal(&p->work);
	pthread_mutex_unlock(&p->lock);
}

static unsigned threads_reap(struct io *io, struct io_op **ret, unsigned max)
{
	struct pool *p = pool_of(io);
	unsigned n = 0;
	threads_flush(io);
	/* The lock orders what is taken; a count read a moment too early only means the next turn.
	 */
	if (!atomic_load_explicit(&p->finished_count, memory_order_relaxed))
		return 0;
	pthread_mutex_lock(&p->lock);
	for (; n < max && !list_empty(&p->finished); n++)
		ret[n] = list_entry(list_pop_front(&p->finished), struct io_op, node);
	atomic_fetch_sub_explicit(&p->finished_count, n, memory_order_relaxed);
	pthread_mutex_unlock(&p->lock);
	return n;
}

static struct timespec deadline_after(uint64_t timeout_ns)
{
	uint64_t ns = clock_mono_ns() + timeout_ns;
	return (struct timespec){.tv_sec = (time_t)(ns / NS_PER_S),
				 .tv_nsec = (long)(ns % NS_PER_S)};
}

static void threads_wait(struct io *io, uint64_t timeout_ns)
{
	struct pool *p = pool_of(io);
	threads_flush(io);
	struct timespec deadline;
	bool is_limited = timeout_ns < INT64_MAX; /* longer than the clock can count */
	if (is_limited)
		deadline = deadline_after(timeout_ns);
	int rc = 0;
	pthread_mutex_lock(&p->lock);
	while (list_empty(&p->finished) && !p->woken && rc != ETIMEDOUT)
		rc = is_limited ? pthread_cond_timedwait(&p->done, &p->lock, &deadline)
				: pthread_cond_wait(&p->done, &p->lock);
	p->woken = false;
	pthread_mutex_unlock(&p->lock);
}

static void threads_wake(struct io *io)
{
	struct pool *p = pool_of(io);
	pthread_mutex_lock(&p->lock);
	p->woken = true;
	pthread_cond_signal(&p->done);
	pthread_mutex_unlock(&p->lock);
}

/* A system call cannot be called back; what no thread has begun can. */
static void threads_cancel(struct io *io)
{
	struct pool *p = pool_of(io);
	struct list *node;
	threads_flush(io);
	pthread_mutex_lock(&p->lock);
	while ((node = list_pop_front(&p->queue))) {
		list_entry(node, struct io_op, node)->result = -ECANCELED;
		list_push_back(&p->finished, node);
		atomic_fetch_add_explicit(&p->finished_count, 1, memory_order_relaxed);
	}
	pthread_mutex_unlock(&p->lock);
}

static void threads_free(struct io *io)
{
	struct pool *p = pool_of(io);
	pthread_mutex_lock(&p->lock);
	p->stop = true;
	pthread_cond_broadcast(&p->work);
	pthread_mutex_unlock(&p->lock);
	for (unsigned i = 0; i < p->thread_count; i++)
		pthread_join(p->threads[i], NULL);
	pthread_cond_destroy(&p->done);
	pthread_cond_destroy(&p->work);
	pthread_mutex_destroy(&p->lock);
	free(p);
}

static const struct io_engine threads_engine = {
	.name = "threads",
	.free = threads_free,
	.submit = threads_submit,
	.flush = threads_flush,
	.reap = threads_reap,
	.wait = threads_wait,
	.wake = threads_wake,
	.cancel = threads_cancel,
};

static struct pool *pool_new(uint32_t depth)
{
	struct pool *p = calloc(1, sizeof(*p));
	if (!p)
		return NULL;
	p->io.engine = &threads_engine;
	p->io.depth = depth;
	list_init(&p->pending);
	list_init(&p->queue);
	list_init(&p->finished);
	pthread_condattr_t attr;
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&p->done, &attr);
	pthread_condattr_destroy(&attr);
	pthread_cond_init(&p->work, NULL);
	pthread_mutex_init(&p->lock, NULL);
	return p;
}

/* Signals belong to the program's own threads: the pool starts with all of them blocked. */
static int start_threads(struct pool *p)
{
	sigset_t all, before;
	unsigned wanted = MIN(p->io.depth, THREADS_MAX);
	int rc = 0;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	while (!rc && p->thread_count < wanted) {
		rc = pthread_create(&p->threads[p->thread_count], NULL, pool_thread, p);
		p->thread_count += !rc;
	}
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return -rc;
}

int io_threads_new(const struct io_setup *setup, struct io **ret, struct error *err)
{
	struct pool *p = pool_new(setup->depth);
	if (!p)
		return error_set(err, -ENOMEM, ERR_FS_FULL, "out of memory");
	int rc = start_threads(p);
	if (rc) {
		error_set(err, rc, ERR_FS_FULL, "cannot start I/O thread %u: %s",
			  p->thread_count + 1, strerror(-rc));
		threads_free(&p->io);
		return rc;
	}
	*ret = &p->io;
	return 0;
}
