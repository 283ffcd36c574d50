// SPDX-License-Identifier: Apache-2.0
/* Both I/O engines on the real disk, buffered and direct, and the rule that says when an operation
 * is over. */
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/io_uring.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/rng.h"
#include "disk.h"
#include "io/io_internal.h"

enum { DEPTH = 32, BUFFER_BYTES = 64 << 10 };

static int set_up(void **state)
{
	static struct disk d;
	*state = &d;
	return disk_open(&d, "test_io", (size_t)DEPTH * BUFFER_BYTES);
}

static int tear_down(void **state)
{
	return disk_close(*state);
}

static struct io_setup setup_of(const struct disk *d, enum config_io_engine engine)
{
	return (struct io_setup){.engine = engine,
				 .depth = DEPTH,
				 .buffers = d->buffers,
				 .buffer_count = DEPTH,
				 .buffer_bytes = BUFFER_BYTES};
}

/* NULL: this machine has no io_uring. */
static struct io *open_io(const struct disk *d, enum config_io_engine engine)
{
	struct io_setup setup = setup_of(d, engine);
	struct strlist notices = {0};
	struct error err = {0};
	struct io *io = NULL;
	int rc = io_new(&setup, &io, &notices, &err);
	strlist_release(&notices);
	if (rc && engine == IO_ENGINE_URING) {
		print_message("skipped: %s\n", err.message);
		return NULL;
	}
	assert_int_equal(rc, 0);
	assert_string_equal(io_name(io), engine == IO_ENGINE_URING ? "uring" : "threads");
	return io;
}

static struct io_op *next_done(struct io *io)
{
	struct io_op *op;
	while (!io_reap(io, &op, 1))
		io_wait(io, UINT64_MAX);
	return op;
}

static int64_t run(struct io *io, struct io_op op)
{
	io_submit(io, &op);
	assert_int_equal(io_outstanding(io), 1);
	assert_ptr_equal(next_done(io), &op);
	assert_int_equal(io_outstanding(io), 0);
	return op.result;
}

#define RUN(io, ...) run(io, (struct io_op){.buffer_index = -1, __VA_ARGS__})

static struct io_op transfer(enum io_kind kind, int fd, uint64_t offset, void *buf, size_t len)
{
	return (struct io_op){.kind = kind,
			      .fd = fd,
			      .offset = offset,
			      .iov = {{buf, len}},
			      .iov_count = 1,
			      .buffer_index = -1};
}

/* ---- when an operation is over ---- */

static void test_short_transfer(void **state)
{
	(void)state;
	char a[4096], b[8192];
	struct io_op op = {.kind = IO_WRITE,
			   .offset = 4096,
			   .iov = {{a, sizeof(a)}, {b, sizeof(b)}},
			   .iov_count = 2};
	io_begin(&op);
	assert_int_equal(io_remaining(&op), 2);
	/* not a multiple of 512: the rest starts at the last boundary */
	assert_true(io_continue(&op, 1000));
	assert_int_equal(op.done_bytes, 512);
	assert_int_equal(io_remaining(&op), 2);
	assert_ptr_equal(op.cursor[0].iov_base, a + 512);
	assert_int_equal(op.cursor[0].iov_len, 4096 - 512);
	assert_int_equal(op.cursor[1].iov_len, 8192);
	/* up to the end of the first vector, then into the second */
	assert_true(io_continue(&op, 4096 - 512));
	assert_int_equal(io_remaining(&op), 1);
	assert_ptr_equal(op.cursor[0].iov_base, b);
	assert_true(io_continue(&op, 1024));
	assert_int_equal(io_remaining(&op), 1);
	assert_ptr_equal(op.cursor[0].iov_base, b + 1024);
	assert_int_equal(op.cursor[0].iov_len, 8192 - 1024);
	assert_false(io_continue(&op, 8192 - 1024));
	assert_int_equal(op.result, 4096 + 8192);
	assert_int_equal(op.retries, 3);

	/* an operation that is not aligned continues at the byte */
	op = transfer(IO_READ, 0, 7, a, 100);
	io_begin(&op);
	assert_true(io_continue(&op, 33));
	assert_int_equal(io_remaining(&op), 1);
	assert_ptr_equal(op.cursor[0].iov_base, a + 33);
	assert_false(io_continue(&op, 67));
	assert_int_equal(op.result, 100);
}

/* Feed the same result until the operation is over. Return: attempts made. */
static unsigned repeat(struct io_op *op, int64_t res)
{
	unsigned n = 1;
	io_begin(op);
	while (io_continue(op, res))
		n++;
	assert_int_equal(op->retries, n - 1);
	return n;
}

static void test_no_progress(void **state)
{
	(void)state;
	char buf[4096];
	struct io_op op = transfer(IO_READ, 0, 0, buf, sizeof(buf));
	assert_int_equal(repeat(&op, -EINTR), IO_ATTEMPTS_MAX);
	assert_int_equal(op.result, -EINTR);
	assert_int_equal(repeat(&op, -EAGAIN), IO_ATTEMPTS_MAX);
	assert_int_equal(op.result, -EAGAIN);
	assert_int_equal(repeat(&op, 100), IO_ATTEMPTS_MAX);
	assert_int_equal(op.result, -ENODATA);
	assert_int_equal(repeat(&op, 0), 1);
	assert_int_equal(op.result, -ENODATA);
	assert_int_equal(repeat(&op, -EIO), 1);
	assert_int_equal(op.result, -EIO);
	op.kind = IO_WRITE;
	assert_int_equal(repeat(&op, 0), IO_ATTEMPTS_MAX);
	assert_int_equal(op.result, -EIO);
	op.kind = IO_OPEN;
	assert_int_equal(repeat(&op, -EINTR), IO_ATTEMPTS_MAX);

	/* progress starts the count again */
	op.kind = IO_WRITE;
	io_begin(&op);
	for (unsigned i = 1; i < IO_ATTEMPTS_MAX; i++)
		assert_true(io_continue(&op, -EAGAIN));
	assert_true(io_continue(&op, 512));
	for (unsigned i = 1; i < IO_ATTEMPTS_MAX; i++)
		assert_true(io_continue(&op, -EAGAIN));
	assert_false(io_continue(&op, 4096 - 512));
	assert_int_equal(op.result, 4096);

	/* a close that was interrupted is a close */
	op.kind = IO_CLOSE;
	assert_int_equal(repeat(&op, -EINTR), 1);
	assert_int_equal(op.result, 0);
}

static void test_no_fallocate(void **state)
{
	struct disk *d = *state;
	int fd = openat(d->dirfd, "grow", O_CREAT | O_RDWR, 0600);
	struct io_op op = {.kind = IO_FALLOCATE, .fd = fd, .length = 12345};
	assert_int_equal(repeat(&op, -EOPNOTSUPP), 1);
	assert_int_equal(op.result, 0);
	struct stat st;
	assert_int_equal(fstat(fd, &st), 0);
	assert_int_equal(st.st_size, 12345);
	close(fd);
	assert_int_equal(repeat(&op, -EOPNOTSUPP), 1);
	assert_int_equal(op.result, -EBADF);
	assert_int_equal(unlinkat(d->dirfd, "grow", 0), 0);
}

/* ---- the engines ---- */

static const enum config_io_engine engines[] = {IO_ENGINE_URING, IO_ENGINE_THREADS};

/* @check: with a queue and the open(2) flag of each mode the machine has. */
static void on_every_engine(const struct disk *d,
			    void (*check)(const struct disk *d, struct io *io, int open_flag))
{
	for (size_t e = 0; e < ARRAY_LEN(engines); e++) {
		for (int is_direct = 0; is_direct <= (int)d->has_direct; is_direct++) {
			struct io *io = open_io(d, engines[e]);
			if (!io)
				continue;
			check(d, io, is_direct ? O_DIRECT : 0);
			io_free(io);
			assert_int_equal(files_in(d->dirfd), 0);
		}
	}
}

static int create(const struct disk *d, struct io *io, const char *name, int flags)
{
	int64_t fd = RUN(io, .kind = IO_OPEN, .fd = d->dirfd, .name = name,
			 .flags = O_CREAT | O_EXCL | O_RDWR | flags);
	assert_true(fd >= 0);
	assert_true(fcntl((int)fd, F_GETFD) & FD_CLOEXEC);
	return (int)fd;
}

static void close_and_remove(const struct disk *d, struct io *io, int fd, const char *name)
{
	assert_int_equal(RUN(io, .kind = IO_CLOSE, .fd = fd), 0);
	assert_int_equal(RUN(io, .kind = IO_UNLINK, .fd = d->dirfd, .name = name), 0);
}

static void check_round_trip(const struct disk *d, struct io *io, int flag)
{
	char *header = d->buffers + BUFFER_BYTES, *out = d->buffers + 2 * BUFFER_BYTES;
	char *in = d->buffers + 3 * BUFFER_BYTES;
	int fd = create(d, io, "file", flag);

	assert_int_equal(RUN(io, .kind = IO_FALLOCATE, .fd = fd, .length = 3 * BUFFER_BYTES), 0);
	struct stat st;
	assert_int_equal(fstat(fd, &st), 0);
	assert_int_equal(st.st_size, 3 * BUFFER_BYTES);

	memset(header, 'h', 4096);
	for (size_t i = 0; i < BUFFER_BYTES; i++)
		out[i] = (char)(i * 7 + i / 509);
	/* two vectors, then a registered buffer */
	struct io_op op = transfer(IO_WRITE, fd, 0, header, 4096);
	op.iov[1] = (struct iovec){out, BUFFER_BYTES};
	op.iov_count = 2;
	assert_int_equal(run(io, op), 4096 + BUFFER_BYTES);
	op = transfer(IO_WRITE, fd, 4096 + BUFFER_BYTES, out, BUFFER_BYTES);
	op.buffer_index = 2;
	assert_int_equal(run(io, op), BUFFER_BYTES);
	assert_int_equal(RUN(io, .kind = IO_FDATASYNC, .fd = fd), 0);
	assert_int_equal(RUN(io, .kind = IO_FSYNC, .fd = fd), 0);
	assert_int_equal(RUN(io, .kind = IO_DROP, .fd = fd), 0);

	for (int32_t index = -1; index <= 3; index += 4) {
		memset(in, 0, BUFFER_BYTES);
		op = transfer(IO_READ, fd, 4096, in, BUFFER_BYTES);
		op.buffer_index = index;
		assert_int_equal(run(io, op), BUFFER_BYTES);
		assert_memory_equal(in, out, BUFFER_BYTES);
		memset(in, 0, BUFFER_BYTES);
		op.offset = 4096 + BUFFER_BYTES;
		assert_int_equal(run(io, op), BUFFER_BYTES);
		assert_memory_equal(in, out, BUFFER_BYTES);
	}
	memset(in, 0, 4096);
	assert_int_equal(run(io, transfer(IO_READ, fd, 0, in, 4096)), 4096);
	assert_memory_equal(in, header, 4096);
	close_and_remove(d, io, fd, "file");
}

static void test_round_trip(void **state)
{
	on_every_engine(*state, check_round_trip);
}

enum { BLOCKS = 256 };

static void fill(char *buf, uint32_t block)
{
	for (uint32_t i = 0; i < BUFFER_BYTES / 4; i++)
		((uint32_t *)(void *)buf)[i] = block * 1000003 + i;
}

/* One of DEPTH operations that are kept in flight. */
struct slot {
	struct io_op op;
	uint32_t block;
};

static void start(struct io *io, struct slot *slot, const struct io_op *op, uint32_t block)
{
	char *buf = op->iov[0].iov_base;
	slot->block = block;
	slot->op = *op;
	slot->op.offset = (uint64_t)block * BUFFER_BYTES;
	slot->op.owner = slot;
	if (op->kind == IO_WRITE)
		fill(buf, block);
	else
		memset(buf, 0, BUFFER_BYTES);
	io_submit(io, &slot->op);
}

static void finish(struct slot *slot, bool *seen)
{
	static char expected[BUFFER_BYTES];
	assert_int_equal(slot->op.result, BUFFER_BYTES);
	assert_false(seen[slot->block]);
	seen[slot->block] = true;
	fill(expected, slot->block);
	assert_memory_equal(slot->op.iov[0].iov_base, expected, BUFFER_BYTES);
}

/* Every block once, in the order given; whichever operation is back first takes the next. */
static void move_blocks(const struct disk *d, struct io *io, int fd, enum io_kind kind,
			const uint32_t *order)
{
	struct slot slots[DEPTH];
	struct io_op *done[7];
	bool seen[BLOCKS] = {false};
	uint32_t next = 0;

	for (int32_t i = 0; i < DEPTH; i++) {
		struct io_op op =
			transfer(kind, fd, 0, d->buffers + (size_t)i * BUFFER_BYTES, BUFFER_BYTES);
		op.buffer_index = i % 2 ? i : -1;
		start(io, &slots[i], &op, order[next++]);
	}
	while (io_outstanding(io)) {
		unsigned n = io_reap(io, done, ARRAY_LEN(done));
		if (!n)
			io_wait(io, UINT64_MAX);
		for (unsigned i = 0; i < n; i++) {
			struct slot *slot = done[i]->owner;
			finish(slot, seen);
			struct io_op again = slot->op;
			if (next < BLOCKS)
				start(io, slot, &again, order[next++]);
		}
	}
	for (uint32_t i = 0; i < BLOCKS; i++)
		assert_true(seen[i]);
}

static void check_many_in_flight(const struct disk *d, struct io *io, int flag)
{
	uint32_t order[BLOCKS];
	struct rng rng = rng_stream(1);
	for (uint32_t i = 0; i < BLOCKS; i++) {
		uint32_t j = (uint32_t)rng_below(&rng, i + 1);
		order[i] = order[j];
		order[j] = i;
	}
	int fd = create(d, io, "many", flag);
	assert_int_equal(RUN(io, .kind = IO_FALLOCATE, .fd = fd, .length = BLOCKS * BUFFER_BYTES),
			 0);
	move_blocks(d, io, fd, IO_WRITE, order);
	assert_int_equal(RUN(io, .kind = IO_FDATASYNC, .fd = fd), 0);
	move_blocks(d, io, fd, IO_READ, order);
	close_and_remove(d, io, fd, "many");
}

/* A file that was in use long enough to be registered is given up when it is closed: nobody else holds it, says a lease. */
static void check_registered_file(const struct disk *d, struct io *io, int flag)
{
	for (int round = 0; round < 2; round++) { /* the second is in the place of the first */
		int fd = create(d, io, "file", flag);
		for (unsigned i = 0; i < 40; i++) {
			struct io_op op = transfer(IO_WRITE, fd, i * BUFFER_BYTES, d->buffers, BUFFER_BYTES);
			fill(d->buffers, i);
			assert_int_equal(run(io, op), BUFFER_BYTES);
		}
		assert_int_equal(RUN(io, .kind = IO_FSYNC, .fd = fd), 0);
		assert_int_equal(RUN(io, .kind = IO_CLOSE, .fd = fd), 0);
		int again = openat(d->dirfd, "file", O_RDWR | flag);
		assert_true(again >= 0);
		if (fcntl(again, F_SETLEASE, F_WRLCK))
			assert_int_not_equal(errno, EAGAIN); /* where there are no leases, nothing is known */
		for (unsigned i = 0; i < 40; i++) {
			static char expected[BUFFER_BYTES];
			struct io_op op = transfer(IO_READ, again, i * BUFFER_BYTES, d->buffers, BUFFER_BYTES);
			fill(expected, i);
			assert_int_equal(run(io, op), BUFFER_BYTES);
			assert_memory_equal(d->buffers, expected, BUFFER_BYTES);
		}
		close_and_remove(d, io, again, "file");
	}
}

static void test_registered_file(void **state)
{
	on_every_engine(*state, check_registered_file);
}

static void test_many_in_flight(void **state)
{
	on_every_engine(*state, check_many_in_flight);
}

static void check_errors(const struct disk *d, struct io *io, int flag)
{
	assert_int_equal(RUN(io, .kind = IO_OPEN, .fd = d->dirfd, .name = "absent",
			     .flags = O_RDONLY | flag),
			 -ENOENT);
	assert_int_equal(RUN(io, .kind = IO_UNLINK, .fd = d->dirfd, .name = "absent"), -ENOENT);
	assert_int_equal(RUN(io, .kind = IO_CLOSE, .fd = 1 << 20), -EBADF);
	assert_int_equal(RUN(io, .kind = IO_FSYNC, .fd = 1 << 20), -EBADF);
	int fd = create(d, io, "short", flag);
	assert_int_equal(RUN(io, .kind = IO_OPEN, .fd = d->dirfd, .name = "short",
			     .flags = O_CREAT | O_EXCL | O_RDWR),
			 -EEXIST);
	/* the file ends inside what is read: at once, after a part, and inside a sector */
	assert_int_equal(run(io, transfer(IO_READ, fd, 0, d->buffers, 8192)), -ENODATA);
	assert_int_equal(ftruncate(fd, 4096), 0);
	assert_int_equal(run(io, transfer(IO_READ, fd, 0, d->buffers, 8192)), -ENODATA);
	assert_int_equal(ftruncate(fd, 4096 + 700), 0);
	assert_int_equal(run(io, transfer(IO_READ, fd, 0, d->buffers, 8192)), -ENODATA);
	assert_int_equal(run(io, transfer(IO_READ, fd, 0, d->buffers, 4096)), 4096);
	close_and_remove(d, io, fd, "short");
}

static void test_errors(void **state)
{
	on_every_engine(*state, check_errors);
}

/* The engine's own way through attempts that come to nothing: 15 in a row are continued, the 16th is the end. */
static void check_faults(const struct disk *d, struct io *io, int flag)
{
	static const int errors[] = {-EAGAIN, -EINTR};
	char *out = d->buffers, *in = d->buffers + BUFFER_BYTES;
	for (size_t i = 0; i < BUFFER_BYTES; i++)
		out[i] = (char)(i * 5 + i / 511);
	int fd = create(d, io, "file", flag);
	for (size_t i = 0; i < ARRAY_LEN(errors); i++) {
		for (uint32_t attempts = 1; attempts <= IO_ATTEMPTS_MAX; attempts++) {
			const struct io_fault fault = {errors[i], attempts};
			bool is_over = attempts == IO_ATTEMPTS_MAX;
			struct io_op op = transfer(IO_WRITE, fd, 0, out, BUFFER_BYTES);
			op.fault = fault;
			io_submit(io, &op);
			assert_ptr_equal(next_done(io), &op);
			assert_int_equal(op.result, is_over ? errors[i] : BUFFER_BYTES);
			assert_int_equal(op.retries, attempts - is_over);
			assert_int_equal(RUN(io, .kind = IO_FSYNC, .fd = fd, .fault = fault),
					 is_over ? errors[i] : 0);
			int64_t other = RUN(io, .kind = IO_OPEN, .fd = d->dirfd, .name = "file", .flags = O_RDONLY,
					    .fault = fault);
			assert_int_equal(other < 0, is_over);
			/* a closing happens, whatever is asked for */
			if (other >= 0) {
				assert_int_equal(RUN(io, .kind = IO_CLOSE, .fd = (int)other, .fault = fault), 0);
				assert_int_equal(fcntl((int)other, F_GETFD), -1);
			}
		}
	}
	/* halves of what is left: 32 KiB, 16 KiB, ... 4 KiB, and what remains then in one piece */
	for (uint32_t attempts = 1; attempts <= 6; attempts++) {
		for (int kind = IO_READ; kind <= IO_WRITE; kind++) {
			struct io_op op = transfer(kind, fd, 0, kind == IO_READ ? in : out, BUFFER_BYTES);
			op.buffer_index = kind == IO_READ ? 1 : -1;
			op.fault.attempts = attempts;
			memset(in, 0, BUFFER_BYTES);
			io_submit(io, &op);
			assert_ptr_equal(next_done(io), &op);
			assert_int_equal(op.result, BUFFER_BYTES);
			assert_int_equal(op.retries, MIN(attempts, 4));
			if (kind == IO_READ)
				assert_memory_equal(in, out, BUFFER_BYTES);
		}
	}
	close_and_remove(d, io, fd, "file");
}

static void test_faults(void **state)
{
	on_every_engine(*state, check_faults);
}

/* What nobody answers is given back by io_uring: here a read of an empty pipe. */
static void test_cancel_uring(void **state)
{
	const struct disk *d = *state;
	struct io *io = open_io(d, IO_ENGINE_URING);
	int ends[2];
	if (!io)
		skip();
	assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
	struct io_op op = transfer(IO_READ, ends[0], 0, d->buffers, 16), *done;
	io_submit(io, &op);
	io_wait(io, 10 * NS_PER_MS);
	assert_int_equal(io_reap(io, &done, 1), 0);
	io_cancel(io);
	io_cancel(io); /* once is enough */
	assert_ptr_equal(next_done(io), &op);
	assert_true(op.result == -ECANCELED || op.result == -EINTR);
	/* and the ring goes on */
	close_and_remove(d, io, create(d, io, "after", 0), "after");
	io_free(io);
	close(ends[0]);
	close(ends[1]);
}

/* The pool gives back what no thread has begun; a system call that has, stays. */
static void test_cancel_threads(void **state)
{
	enum { THREADS = 64, MORE = 10 };
	const struct disk *d = *state;
	struct io_setup setup = {.engine = IO_ENGINE_THREADS, .depth = THREADS + MORE};
	struct io *io;
	struct error err = {0};
	static struct io_op ops[THREADS + MORE];
	assert_int_equal(io_new(&setup, &io, NULL, &err), 0);
	assert_int_equal(mkfifoat(d->dirfd, "fifo", 0600), 0);
	for (int i = 0; i < THREADS + MORE; i++) {
		ops[i] = (struct io_op){.kind = IO_OPEN, .fd = d->dirfd, .name = "fifo", .flags = O_RDONLY};
		io_submit(io, &ops[i]);
	}
	io_wait(io, 50 * NS_PER_MS);
	io_cancel(io);
	int cancelled = 0;
	for (struct io_op *op; io_reap(io, &op, 1);)
		cancelled += op->result == -ECANCELED;
	assert_true(cancelled >= MORE); /* more where a thread had not come to its work yet */
	assert_int_equal(io_outstanding(io), THREADS + MORE - cancelled);
	int writer = openat(d->dirfd, "fifo", O_RDWR | O_CLOEXEC);
	while (io_outstanding(io)) {
		struct io_op *op = next_done(io);
		assert_true(op->result >= 0);
		close((int)op->result);
	}
	close(writer);
	assert_int_equal(unlinkat(d->dirfd, "fifo", 0), 0);
	io_free(io);
}

static void *wake_soon(void *io)
{
	usleep(20 * 1000);
	io_wake(io);
	return NULL;
}

static void check_wake(const struct disk *d, struct io *io, int flag)
{
	(void)d, (void)flag;
	struct io_op *op;
	for (int i = 0; i < 3; i++) {
		pthread_t thread;
		uint64_t begin = clock_mono_ns();
		assert_int_equal(pthread_create(&thread, NULL, wake_soon, io), 0);
		/* a wake may also be returned by one wait too many */
		while (clock_mono_ns() - begin < 20 * NS_PER_MS)
			io_wait(io, 60 * NS_PER_S);
		assert_true(clock_mono_ns() - begin < 30 * NS_PER_S);
		pthread_join(thread, NULL);
		assert_int_equal(io_reap(io, &op, 1), 0);
	}
	/* before the wait, and with a reap in between */
	for (int i = 0; i < 3; i++) {
		uint64_t begin = clock_mono_ns();
		io_wake(io);
		io_wake(io);
		for (int k = 0; k < 3; k++)
			assert_int_equal(io_reap(io, &op, 1), 0);
		io_wait(io, 60 * NS_PER_S);
		assert_true(clock_mono_ns() - begin < 30 * NS_PER_S);
	}
	/* nobody wakes: all of the time, at last */
	uint64_t begin = clock_mono_ns();
	for (int i = 0; i < 8 && clock_mono_ns() - begin < 30 * NS_PER_MS; i++) {
		io_wait(io, 30 * NS_PER_MS);
		assert_int_equal(io_reap(io, &op, 1), 0);
	}
	assert_true(clock_mono_ns() - begin >= 30 * NS_PER_MS);
}

static void test_wake(void **state)
{
	on_every_engine(*state, check_wake);
}

static void test_full_disk(void **state)
{
	const struct disk small = small_disk_open(*state);
	for (size_t e = 0; e < ARRAY_LEN(engines); e++) {
		struct io *io = open_io(&small, engines[e]);
		if (!io)
			continue;
		int fd = create(&small, io, "big", 0);
		assert_int_equal(RUN(io, .kind = IO_FALLOCATE, .fd = fd, .length = 1 << 20),
				 -ENOSPC);
		/* a part of it fits */
		struct io_op op = transfer(IO_WRITE, fd, 96 << 10, small.buffers, BUFFER_BYTES);
		assert_int_equal(run(io, op), BUFFER_BYTES);
		op.offset = 0;
		op.iov[0].iov_len = 2 * BUFFER_BYTES;
		assert_int_equal(run(io, op), -ENOSPC);
		close_and_remove(&small, io, fd, "big");
		io_free(io);
	}
	small_disk_close(&small);
}

/* ---- what a machine may refuse: tried in a child, whose exit status is the answer ---- */

enum { CHILD_OK = 0, CHILD_SKIP = 77 };

static void in_child(const struct disk *d, int (*check)(const struct disk *d))
{
	pid_t pid = fork();
	assert_true(pid >= 0);
	if (!pid)
		_exit(check(d));
	int status;
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	if (WEXITSTATUS(status) == CHILD_SKIP) {
		print_message("skipped: this machine does not let us try\n");
		skip();
	}
	assert_int_equal(WEXITSTATUS(status), CHILD_OK);
}

/* From here on this system call fails with EPERM, as in many containers. */
static bool forbid(unsigned number)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, number, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = {.len = ARRAY_LEN(code), .filter = code};
	return !prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) &&
	       !prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program);
}

/* From here on rings are as of kernels that do not know this kind of registration. */
static bool forbid_registration(unsigned what)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_io_uring_register, 0, 3),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[1])),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, what, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EINVAL),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = {.len = ARRAY_LEN(code), .filter = code};
	return !prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) &&
	       !prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program);
}

static int uring_refused(const struct disk *d)
{
	struct io_setup setup = {.engine = IO_ENGINE_URING, .depth = 2};
	struct strlist notices = {0};
	struct error err = {0};
	struct io *io = NULL;
	(void)d;
	if (!forbid(__NR_io_uring_setup))
		return CHILD_SKIP;
	if (io_new(&setup, &io, &notices, &err) != -EPERM || !strstr(err.message, "not permitted"))
		return 1;
	setup.engine = IO_ENGINE_AUTO;
	if (io || notices.count || io_new(&setup, &io, &notices, &err))
		return 2;
	if (strcmp(io_name(io), "threads") || io_features(io))
		return 3;
	if (notices.count != 1 || !strstr(notices.v[0], "not permitted"))
		return 4;
	io_free(io);
	return CHILD_OK;
}

static void test_uring_refused(void **state)
{
	in_child(*state, uring_refused);
}

static int register_refused(const struct disk *d)
{
	struct io_setup setup = {.engine = IO_ENGINE_AUTO, .depth = 2};
	struct strlist notices = {0};
	struct io *io = NULL;
	(void)d;
	if (!forbid(__NR_io_uring_register))
		return CHILD_SKIP;
	if (io_new(&setup, &io, &notices, NULL) || strcmp(io_name(io), "threads"))
		return 1;
	if (notices.count != 1 || !strstr(notices.v[0], "not permitted") || io_features(io))
		return 2;
	io_free(io);
	return CHILD_OK;
}

static void test_register_refused(void **state)
{
	in_child(*state, register_refused);
}

/* Reads into the first registered buffer, often enough for the file to be registered. Without cmocka's assertions: in a child. */
static bool can_read(struct io *io, char *buf)
{
	bool is_good = true;
	CLEANUP_CLOSE int fd = open("/proc/self/exe", O_RDONLY);
	for (int i = 0; i < 40 && is_good; i++) {
		struct io_op op = transfer(IO_READ, fd, 0, buf, 4);
		op.buffer_index = 0;
		memset(buf, 0, 4);
		io_submit(io, &op);
		is_good = next_done(io) == &op && op.result == 4 && !memcmp(buf, "\177ELF", 4);
	}
	return is_good;
}

/* One kind of registration is refused: a notice, the others are there, and files can be read as before. */
static int half_refused(const struct disk *d, unsigned what, const char *notice, unsigned absent, unsigned present)
{
	struct io_setup setup = setup_of(d, IO_ENGINE_URING);
	struct strlist notices = {0};
	struct io *io = NULL;
	if (!forbid_registration(what) || io_new(&setup, &io, &notices, NULL))
		return CHILD_SKIP;
	if (notices.count != 1 || !strstr(notices.v[0], notice) || !strstr(notices.v[0], "Invalid argument"))
		return 1;
	if (io_features(io) & absent || !(io_features(io) & present))
		return 2;
	if (!can_read(io, d->buffers))
		return 3;
	io_free(io);
	return CHILD_OK;
}

static int files_refused(const struct disk *d)
{
	return half_refused(d, IORING_REGISTER_FILES2, "files are not registered", IO_REGISTERED_FILES,
			    IO_REGISTERED_BUFFERS);
}

static int buffers_refused(const struct disk *d)
{
	return half_refused(d, IORING_REGISTER_BUFFERS, "buffers", IO_REGISTERED_BUFFERS, IO_REGISTERED_FILES);
}

static void test_files_refused(void **state)
{
	in_child(*state, files_refused);
}

static void test_buffers_refused(void **state)
{
	in_child(*state, buffers_refused);
}

static int memory_not_locked(const struct disk *d)
{
	struct io_setup setup = setup_of(d, IO_ENGINE_URING);
	/* enough for a ring, which newer kernels count too, but not for the buffers */
	struct rlimit little = {.rlim_cur = 512 << 10, .rlim_max = 512 << 10};
	struct strlist notices = {0};
	struct io *io = NULL;
	/* root may lock any amount */
	if (setrlimit(RLIMIT_MEMLOCK, &little) || (!geteuid() && setresuid(65534, 65534, 65534)) ||
	    io_new(&setup, &io, &notices, NULL))
		return CHILD_SKIP;
	if (io_features(io) & IO_REGISTERED_BUFFERS)
		return 1;
	if (notices.count != 1 || !strstr(notices.v[0], "not registered"))
		return 2;
	if (!can_read(io, d->buffers))
		return 3;
	io_free(io);
	return CHILD_OK;
}

static void test_memory_not_locked(void **state)
{
	in_child(*state, memory_not_locked);
}

/* ---- what a directory can do ---- */

static void test_direct_in_memory(void **state)
{
	struct disk *d = *state;
	char path[] = "/dev/shm/test_io.XXXXXX";
	if (!mkdtemp(path))
		skip();
	int dirfd = open(path, O_RDONLY | O_DIRECTORY);
	struct io_direct direct = {.is_direct = true};
	assert_int_equal(io_probe_direct(dirfd, "probe", &direct, NULL), 0);
	assert_false(direct.is_direct);
	assert_string_equal(direct.why, "tmpfs lives in memory");
	assert_int_equal(files_in(dirfd), 0);

	/* and if its name were not known, reading would tell */
	int fd = openat(dirfd, "probe", O_CREAT | O_RDWR, 0600);
	assert_int_equal(write(fd, d->buffers, IO_PROBE_BYTES), IO_PROBE_BYTES);
	close(fd);
	direct.is_direct = true;
	io_probe_by_reading(dirfd, "probe", &direct);
	assert_false(direct.is_direct);
	assert_int_equal(unlinkat(dirfd, "probe", 0), 0);
	close(dirfd);
	assert_int_equal(rmdir(path), 0);
}

static void test_direct_on_disk(void **state)
{
	struct disk *d = *state;
	struct io_direct direct;
	/* one that a killed run has left is no obstacle */
	close(openat(d->dirfd, "probe", O_CREAT | O_RDWR, 0600));
	assert_int_equal(io_probe_direct(d->dirfd, "probe", &direct, NULL), 0);
	assert_int_equal(files_in(d->dirfd), 0);
	if (!direct.is_direct) {
		print_message("skipped: no direct I/O in %s (%s)\n", d->path, direct.why);
		skip();
	}
	assert_true(direct.align_bytes >= 512 && direct.memory_align_bytes >= 1);

	/* the second way finds the same */
	int fd = openat(d->dirfd, "probe", O_CREAT | O_RDWR, 0600);
	memset(d->buffers, 1, IO_PROBE_BYTES);
	assert_int_equal(write(fd, d->buffers, IO_PROBE_BYTES), IO_PROBE_BYTES);
	assert_int_equal(fsync(fd), 0);
	direct.is_direct = false;
	io_probe_by_reading(d->dirfd, "probe", &direct);
	assert_true(direct.is_direct);
	assert_int_equal(direct.align_bytes, 4096);
	close(fd);
	assert_int_equal(unlinkat(d->dirfd, "probe", 0), 0);
}

static void test_direct_unwritable(void **state)
{
	(void)state;
	int dirfd = open("/proc/self", O_RDONLY | O_DIRECTORY);
	struct io_direct direct;
	struct error err = {0};
	assert_true(io_probe_direct(dirfd, "probe", &direct, &err) < 0);
	assert_non_null(strstr(err.message, "'probe'"));
	close(dirfd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		/* children first: a sanitizer wants no threads before a fork */
		cmocka_unit_test(test_uring_refused),
		cmocka_unit_test(test_memory_not_locked),
		cmocka_unit_test(test_register_refused),
		cmocka_unit_test(test_files_refused),
		cmocka_unit_test(test_buffers_refused),
		cmocka_unit_test(test_short_transfer),
		cmocka_unit_test(test_no_progress),
		cmocka_unit_test(test_no_fallocate),
		cmocka_unit_test(test_round_trip),
		cmocka_unit_test(test_many_in_flight),
		cmocka_unit_test(test_registered_file),
		cmocka_unit_test(test_errors),
		cmocka_unit_test(test_faults),
		cmocka_unit_test(test_cancel_uring),
		cmocka_unit_test(test_cancel_threads),
		cmocka_unit_test(test_wake),
		cmocka_unit_test(test_full_disk),
		cmocka_unit_test(test_direct_in_memory),
		cmocka_unit_test(test_direct_on_disk),
		cmocka_unit_test(test_direct_unwritable),
	};
	return cmocka_run_group_tests(tests, set_up, tear_down);
}
