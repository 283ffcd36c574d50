// SPDX-License-Identifier: Apache-2.0
/* The file tier on the real disk: whole lives of entries, what a file looks like to NumPy, and what
 * is left behind. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/mem.h"
#include "disk.h"
#include "tier/tier.h"
#include "workload/key.h"

enum { OPS_MAX = 32, CHUNK_BYTES = 64 << 10, HEADER_BYTES = 4096 };

struct fixture {
	struct disk disk; /* with buffers for OPS_MAX chunks */
	/* one tier at a time */
	struct config cfg;
	struct io *io;
	struct tier *tier;
	struct tier_worker *worker;
};

static int set_up(void **state)
{
	static struct fixture f;
	*state = &f;
	return disk_open(&f.disk, "test_tier_file", (size_t)OPS_MAX * CHUNK_BYTES);
}

static int tear_down(void **state)
{
	struct fixture *f = *state;
	return disk_close(&f->disk);
}

static unsigned open_descriptors(void)
{
	int fd = open("/proc/self/fd", O_RDONLY | O_DIRECTORY);
	unsigned n = files_in(fd);
	close(fd);
	return n;
}

struct variant {
	enum config_io_engine engine;
	bool is_direct;
	enum config_sync sync;
};

static const struct variant variants[] = {
	{IO_ENGINE_URING, true, SYNC_FSYNC},      {IO_ENGINE_URING, true, SYNC_NONE},
	{IO_ENGINE_URING, false, SYNC_FDATASYNC}, {IO_ENGINE_URING, false, SYNC_NONE},
	{IO_ENGINE_THREADS, true, SYNC_FSYNC},    {IO_ENGINE_THREADS, false, SYNC_FDATASYNC},
};

static void use_model(struct fixture *f, const char *key, uint32_t tensor_parallel)
{
	f->cfg.model = *model_find(key);
	f->cfg.bytes_per_token = model_bytes_per_token(&f->cfg.model);
	f->cfg.opt.tensor_parallel = tensor_parallel;
}

/* Return: false when this machine lacks what the variant needs. */
static bool open_tier(struct fixture *f, const struct variant *v)
{
	if (v->is_direct && !f->disk.has_direct) {
		print_message("skipped: no direct I/O in %s\n", f->disk.path);
		return false;
	}
	struct io_setup io = {.engine = v->engine,
			      .depth = OPS_MAX,
			      .buffers = f->disk.buffers,
			      .buffer_count = OPS_MAX,
			      .buffer_bytes = CHUNK_BYTES};
	struct strlist notices = {0};
	struct error err = {0};
	int rc = io_new(&io, &f->io, &notices, &err);
	strlist_release(&notices);
	if (rc && v->engine == IO_ENGINE_URING) {
		print_message("skipped: %s\n", err.message);
		return false;
	}
	assert_int_equal(rc, 0);
	f->cfg.opt.sync = (int)v->sync;
	struct tier_file_setup setup = {.dirfd = f->disk.dirfd,
					.path = f->disk.path,
					.limit_bytes = 1 << 30,
					.cfg = &f->cfg,
					.is_direct = v->is_direct};
	assert_int_equal(tier_file_new(&setup, &f->tier), 0);
	assert_int_equal(f->tier->ops->worker_open(f->tier, f->io, OPS_MAX, &f->worker), 0);
	return true;
}

static void close_tier(struct fixture *f)
{
	f->tier->ops->worker_close(f->worker);
	tier_free(f->tier);
	io_free(f->io);
}

static void submit(struct fixture *f, struct tier_op *op)
{
	f->tier->ops->submit(f->worker, op, clock_mono_ns());
}

static unsigned poll_some(struct fixture *f, struct tier_op **ret, unsigned max)
{
	unsigned n = f->tier->ops->poll(f->worker, clock_mono_ns(), ret, max);
	if (!n)
		io_wait(f->io, NS_PER_S);
	return n;
}

static int finish(struct fixture *f, struct tier_op *op)
{
	struct tier_op *done;
	while (!poll_some(f, &done, 1))
		;
	assert_ptr_equal(done, op);
	assert_int_equal(io_outstanding(f->io), 0);
	return op->result;
}

static int run(struct fixture *f, struct tier_op *op)
{
	submit(f, op);
	return finish(f, op);
}

static int run_kind(struct fixture *f, enum tier_op_kind kind, struct tier_object *obj)
{
	struct tier_op op = {.kind = kind, .obj = obj};
	return run(f, &op);
}

static char byte_at(uint64_t offset, uint64_t key)
{
	return (char)(offset * 31 + offset / 4093 + key);
}

/* Chunks of one entry, as many in flight as there are buffers; completions in any order. */
static int move_chunks(struct fixture *f, enum tier_op_kind kind, struct tier_object *obj)
{
	struct tier_op ops[OPS_MAX], *done[5];
	uint64_t stored = tier_stored_bytes(obj->payload_bytes), next = 0;
	uint32_t in_flight = 0, slot = 0;
	int rc = 0;

	while (next < stored || in_flight) {
		if (next < stored && slot < OPS_MAX) {
			char *buf = f->disk.buffers + (size_t)slot * CHUNK_BYTES;
			uint64_t len = MIN(stored - next, CHUNK_BYTES);
			for (uint64_t i = 0; i < len; i++)
				buf[i] = kind == TIER_WRITE ? byte_at(next + i, obj->key) : 0;
			ops[slot] = (struct tier_op){.kind = kind,
						     .obj = obj,
						     .offset = next,
						     .len = len,
						     .buf = buf,
						     .buffer_index = (int32_t)slot};
			submit(f, &ops[slot++]);
			next += len;
			in_flight++;
			continue;
		}
		unsigned n = poll_some(f, done, ARRAY_LEN(done));
		in_flight -= n;
		for (unsigned i = 0; i < n; i++) {
			char *buf = done[i]->buf;
			rc = rc ? rc : done[i]->result;
			for (uint64_t k = 0; !rc && k < done[i]->len; k++)
				if (buf[k] != byte_at(done[i]->offset + k, obj->key))
					fail_msg("byte %llu of the entry is wrong",
						 (unsigned long long)(done[i]->offset + k));
		}
		if (!in_flight)
			slot = 0;
	}
	return rc;
}

static int store(struct fixture *f, struct tier_object *obj)
{
	int rc = run_kind(f, TIER_CREATE, obj);
	if (!rc)
		rc = move_chunks(f, TIER_WRITE, obj);
	return rc ? rc : run_kind(f, TIER_COMMIT, obj);
}

static int load(struct fixture *f, struct tier_object *obj)
{
	int rc = run_kind(f, TIER_OPEN, obj);
	if (rc)
		return rc;
	rc = move_chunks(f, TIER_READ, obj);
	assert_int_equal(run_kind(f, TIER_CLOSE, obj), 0);
	return rc;
}

static struct tier_object entry(const struct fixture *f, uint64_t key, uint64_t tokens)
{
	uint64_t bytes = f->cfg.bytes_per_token * tokens / (uint64_t)f->cfg.opt.tensor_parallel;
	return (struct tier_object){.key = key, .generation = 1, .payload_bytes = bytes};
}

static void test_life(void **state)
{
	struct fixture *f = *state;
	use_model(f, "tiny-1b", 1);
	for (size_t i = 0; i < ARRAY_LEN(variants); i++) {
		if (!open_tier(f, &variants[i]))
			continue;
		unsigned descriptors = open_descriptors();
		/* less than a chunk, some chunks, and more than can be in flight */
		static const uint64_t tokens[] = {1, 100, 101, 333};
		for (size_t k = 0; k < ARRAY_LEN(tokens); k++) {
			struct tier_object obj = entry(f, key_request(7, k), tokens[k]);
			assert_int_equal(store(f, &obj), 0);
			struct tier_object again = entry(f, key_request(7, k), tokens[k]);
			again.location = obj.location;
			assert_int_equal(load(f, &again), 0);
			struct stat st;
			assert_int_equal(fstatat(f->disk.dirfd, again.name, &st, 0), 0);
			assert_int_equal(st.st_size,
					 HEADER_BYTES + tier_stored_bytes(obj.payload_bytes));
			again = entry(f, key_request(7, k), tokens[k]);
			assert_int_equal(run_kind(f, TIER_DELETE, &again), 0);
			assert_int_equal(files_in(f->disk.dirfd), 0);
		}
		assert_int_equal(open_descriptors(), descriptors);
		close_tier(f);
	}
}

/* Many entries at once through one worker: their operations and chunks interleave. */
static void test_many_at_once(void **state)
{
	struct fixture *f = *state;
	use_model(f, "tiny-1b", 1);
	for (size_t v = 0; v < ARRAY_LEN(variants); v++) {
		if (!open_tier(f, &variants[v]))
			continue;
		static const enum tier_op_kind life[] = {TIER_CREATE, TIER_WRITE, TIER_COMMIT,
							 TIER_OPEN,   TIER_READ,  TIER_CLOSE,
							 TIER_DELETE};
		struct tier_object objects[OPS_MAX];
		struct tier_op ops[OPS_MAX], *done[OPS_MAX];
		size_t stage[OPS_MAX] = {0};
		for (unsigned i = 0; i < OPS_MAX; i++) {
			objects[i] = entry(f, key_block(i), 1);
			ops[i] = (struct tier_op){.kind = life[0], .obj = &objects[i]};
			submit(f, &ops[i]);
		}
		for (unsigned finished = 0; finished < OPS_MAX;) {
			unsigned n = poll_some(f, done, ARRAY_LEN(done));
			for (unsigned k = 0; k < n; k++) {
				struct tier_op *op = done[k];
				size_t i = (size_t)(op - ops);
				char *buf = f->disk.buffers + i * CHUNK_BYTES;
				assert_int_equal(op->result, 0);
				if (life[stage[i]] == TIER_READ)
					for (size_t b = 0; b < op->len; b++)
						assert_int_equal(buf[b], byte_at(b, i));
				if (++stage[i] == ARRAY_LEN(life)) {
					finished++;
					continue;
				}
				*op = (struct tier_op){.kind = life[stage[i]],
						       .obj = &objects[i],
						       .buf = buf,
						       .buffer_index = (int32_t)i};
				op->len = tier_stored_bytes(objects[i].payload_bytes);
				for (size_t b = 0; op->kind == TIER_WRITE && b < op->len; b++)
					buf[b] = byte_at(b, i);
				submit(f, op);
			}
		}
		assert_int_equal(files_in(f->disk.dirfd), 0);
		close_tier(f);
	}
}

/* A commit does what --sync says, and both it and a sync say how long that took. */
static void test_sync(void **state)
{
	static const enum io_kind first[] = {[SYNC_FSYNC] = IO_FSYNC, [SYNC_FDATASYNC] = IO_FDATASYNC, [SYNC_NONE] = IO_CLOSE};
	struct fixture *f = *state;
	use_model(f, "tiny-1b", 1);
	for (size_t i = 0; i < ARRAY_LEN(variants); i++) {
		if (!open_tier(f, &variants[i]))
			continue;
		struct tier_object obj = entry(f, key_prefix(1), 3);
		assert_int_equal(run_kind(f, TIER_CREATE, &obj), 0);
		assert_int_equal(move_chunks(f, TIER_WRITE, &obj), 0);
		uint64_t begin = clock_mono_ns();
		struct tier_op op = {.kind = TIER_SYNC, .obj = &obj};
		assert_int_equal(run(f, &op), 0);
		assert_in_range(op.sync_ns, 1, clock_mono_ns() - begin);
		op = (struct tier_op){.kind = TIER_COMMIT, .obj = &obj};
		submit(f, &op);
		assert_int_equal(op.io.kind, first[variants[i].sync]);
		assert_int_equal(finish(f, &op), 0);
		assert_int_equal(op.sync_ns != 0, variants[i].sync != SYNC_NONE);
		assert_int_equal(run_kind(f, TIER_DELETE, &obj), 0);
		close_tier(f);
	}
}

static void test_caps(void **state)
{
	struct fixture *f = *state;
	use_model(f, "tiny-1b", 1);
	for (size_t i = 0; i < ARRAY_LEN(variants); i++) {
		const struct variant *v = &variants[i];
		if (!open_tier(f, v))
			continue;
		unsigned buffered =
			TIER_CAP_PAGE_CACHE | (v->sync == SYNC_NONE ? 0 : TIER_CAP_COMMIT_COUNTS);
		assert_int_equal(f->tier->caps, TIER_CAP_FILES | (v->is_direct ? 0 : buffered));
		assert_int_equal(f->tier->header_bytes, 4096);
		assert_int_equal(f->tier->granule_bytes, 4096);
		close_tier(f);
	}
}

static struct tier_op opened_again(struct fixture *f, struct tier_object *obj)
{
	struct tier_op op = {.kind = TIER_OPEN, .obj = obj};
	assert_int_equal(run(f, &op), 0);
	assert_int_equal(run_kind(f, TIER_CLOSE, obj), 0);
	return op;
}

/* Pages that another process maps cannot be dropped: a read of them is not cold, and is found out. */
static void test_resident_pages(void **state)
{
	struct fixture *f = *state;
	use_model(f, "tiny-1b", 1);
	for (size_t i = 0; i < ARRAY_LEN(variants); i++) {
		const struct variant *v = &variants[i];
		if (v->sync == SYNC_NONE || !open_tier(f, v))
			continue;
		struct tier_object obj = entry(f, key_block(7), 100);
		assert_int_equal(store(f, &obj), 0);
		size_t bytes = HEADER_BYTES + tier_stored_bytes(obj.payload_bytes);
		int fd = openat(f->disk.dirfd, obj.name, O_RDONLY);
		void *map = mmap(NULL, bytes, PROT_READ, MAP_SHARED | MAP_POPULATE, fd, 0);
		assert_ptr_not_equal(map, MAP_FAILED);
		struct tier_op op = opened_again(f, &obj);
		assert_int_equal(op.pages_sampled, v->is_direct ? 0 : 8);
		assert_int_equal(op.pages_resident, op.pages_sampled);
		munmap(map, bytes);
		close(fd);
		op = opened_again(f, &obj);
		assert_int_equal(op.pages_sampled, v->is_direct ? 0 : 8);
		if (f->disk.has_direct) /* not a file system in memory */
			assert_int_equal(op.pages_resident, 0);
		assert_int_equal(run_kind(f, TIER_DELETE, &obj), 0);
		close_tier(f);
	}
}

static void test_abort(void **state)
{
	struct fixture *f = *state;
	use_model(f, "tiny-1b", 1);
	for (size_t i = 0; i < ARRAY_LEN(variants); i++) {
		if (!open_tier(f, &variants[i]))
			continue;
		unsigned descriptors = open_descriptors();
		struct tier_object obj = entry(f, key_turn(1, 2, 3), 10);
		assert_int_equal(run_kind(f, TIER_CREATE, &obj), 0);
		assert_int_equal(run_kind(f, TIER_ABORT, &obj), 0);
		assert_int_equal(files_in(f->disk.dirfd), 0);

		obj = entry(f, key_turn(1, 2, 3), 10);
		assert_int_equal(run_kind(f, TIER_CREATE, &obj), 0);
		assert_int_equal(move_chunks(f, TIER_WRITE, &obj), 0);
		assert_int_equal(run_kind(f, TIER_ABORT, &obj), 0);
		assert_int_equal(files_in(f->disk.dirfd), 0);
		assert_int_equal(open_descriptors(), descriptors);
		close_tier(f);
	}
}

static void test_errors(void **state)
{
	struct fixture *f = *state;
	use_model(f, "tiny-1b", 1);
	for (size_t i = 0; i < ARRAY_LEN(variants); i++) {
		if (!open_tier(f, &variants[i]))
			continue;
		char text[512], expected[512];
		struct tier_object obj = entry(f, key_block(46), 10);
		assert_int_equal(run_kind(f, TIER_OPEN, &obj), -ENOENT);
		assert_int_equal(run_kind(f, TIER_DELETE, &obj), -ENOENT);

		/* a file that was cut short: which file, and where in it */
		assert_int_equal(store(f, &obj), 0);
		int fd = openat(f->disk.dirfd, obj.name, O_WRONLY);
		assert_int_equal(ftruncate(fd, HEADER_BYTES + 8192), 0);
		close(fd);
		assert_int_equal(run_kind(f, TIER_OPEN, &obj), 0);
		struct tier_op op = {.kind = TIER_READ,
				     .obj = &obj,
				     .offset = 8192,
				     .len = 4096,
				     .buf = f->disk.buffers,
				     .buffer_index = 0};
		assert_int_equal(run(f, &op), -ENODATA);
		f->tier->ops->describe(f->tier, &op, text, sizeof(text));
		snprintf(expected, sizeof(expected), "storage read: %s/kvc-b46-g1.npy offset 12288",
			 f->disk.path);
		assert_string_equal(text, expected);
		assert_int_equal(run_kind(f, TIER_CLOSE, &obj), 0);

		/* a second writer of the same name is refused before anything is overwritten */
		struct tier_object other = obj;
		op = (struct tier_op){.kind = TIER_CREATE, .obj = &other};
		assert_int_equal(run(f, &op), -EEXIST);
		f->tier->ops->describe(f->tier, &op, text, sizeof(text));
		snprintf(expected, sizeof(expected), "storage create: %s/kvc-b46-g1.npy", f->disk.path);
		assert_string_equal(text, expected);
		assert_int_equal(run_kind(f, TIER_DELETE, &obj), 0);
		close_tier(f);
	}
}

static void test_full_disk(void **state)
{
	struct fixture f = **(struct fixture **)state;
	f.disk = small_disk_open(&f.disk);
	use_model(&f, "tiny-1b", 1);
	for (size_t i = 0; i < ARRAY_LEN(variants); i++) {
		if (variants[i].is_direct || !open_tier(&f, &variants[i]))
			continue;
		unsigned descriptors = open_descriptors();
		struct tier_object obj = entry(&f, key_block(1), 10);
		assert_int_equal(run_kind(&f, TIER_CREATE, &obj), -ENOSPC);
		assert_int_equal(run_kind(&f, TIER_ABORT, &obj), 0);
		assert_int_equal(files_in(f.disk.dirfd), 0);
		assert_int_equal(open_descriptors(), descriptors);
		close_tier(&f);
	}
	small_disk_close(&f.disk);
}

static void touch(const struct fixture *f, const char *name)
{
	int fd = openat(f->disk.dirfd, name, O_CREAT | O_EXCL | O_WRONLY, 0600);
	assert_true(fd >= 0);
	close(fd);
}

static void test_clean(void **state)
{
	struct fixture *f = *state;
	static const char *const foreign[] = {"notes.npy", "kvc-b1.npy", "kvc-b1-g1.npy.bak",
					      "x-kvc-b1-g1.npy"};
	use_model(f, "tiny-1b", 1);
	const struct variant v = {IO_ENGINE_THREADS, false, SYNC_NONE};
	assert_true(open_tier(f, &v));
	for (size_t i = 0; i < ARRAY_LEN(foreign); i++)
		touch(f, foreign[i]);
	for (uint32_t i = 0; i < 3; i++) {
		struct tier_object obj = entry(f, key_turn(i, 1, 1), 1);
		assert_int_equal(store(f, &obj), 0);
	}
	/* Names like ours, but made by somebody else: we make regular files only. */
	assert_int_equal(mkdirat(f->disk.dirfd, "kvc-b7-g1.npy", 0700), 0);
	assert_int_equal(symlinkat("nowhere", f->disk.dirfd, "kvc-b8-g1.npy"), 0);
	assert_int_equal(tier_file_clean(f->disk.dirfd, NULL), 0);
	assert_int_equal(unlinkat(f->disk.dirfd, "kvc-b7-g1.npy", AT_REMOVEDIR), 0);
	assert_int_equal(unlinkat(f->disk.dirfd, "kvc-b8-g1.npy", 0), 0);
	assert_int_equal(files_in(f->disk.dirfd), ARRAY_LEN(foreign));
	touch(f, "kvc-b1-g1.npy");
	uint64_t removed = 0;
	assert_int_equal(tier_file_clean(f->disk.dirfd, &removed), 0);
	assert_int_equal(removed, 1);
	for (size_t i = 0; i < ARRAY_LEN(foreign); i++)
		assert_int_equal(unlinkat(f->disk.dirfd, foreign[i], 0), 0);
	assert_int_equal(tier_file_clean(-1, NULL), -EBADF);
	close_tier(f);
}

/* ---- what is in the file ---- */

struct array_case {
	const char *model;
	uint32_t tensor_parallel;
	uint64_t tokens;
	const char *dict;  /* as it must stand in the file */
	const char *numpy; /* (shape, item size) as NumPy sees it */
};

static const struct array_case array_cases[] = {
	{"llama3.1-8b", 1, 10,
	 "{'descr': '<f2', 'fortran_order': False, 'shape': (32, 2, 10, 8, 128), }",
	 "(32, 2, 10, 8, 128) 2"},
	{"llama3.1-8b", 8, 10, "{'descr': '<f2', 'fortran_order': False, 'shape': (81920,), }",
	 "(81920,) 2"},
	{"deepseek-v3", 1, 1, "{'descr': '<f2', 'fortran_order': False, 'shape': (61, 1, 576), }",
	 "(61, 1, 576) 2"},
	{"int8", 1, 3, "{'descr': '|i1', 'fortran_order': False, 'shape': (2, 2, 3, 2, 64), }",
	 "(2, 2, 3, 2, 64) 1"},
	/* 1,536 bytes of 3 tokens over 5: the shape is of what is stored */
	{"int8", 5, 3, "{'descr': '|i1', 'fortran_order': False, 'shape': (307,), }", "(307,) 1"},
};

static void use_array_case(struct fixture *f, const struct array_case *c)
{
	if (strcmp(c->model, "int8")) {
		use_model(f, c->model, c->tensor_parallel);
		return;
	}
	f->cfg.model = (struct model){.dtype = "int8",
				      .attention = MODEL_GQA,
				      .layers = 2,
				      .hidden_dim = 256,
				      .heads = 4,
				      .kv_heads = 2};
	f->cfg.bytes_per_token = model_bytes_per_token(&f->cfg.model);
	f->cfg.opt.tensor_parallel = c->tensor_parallel;
}

static void check_header(const struct fixture *f, const char *name, const char *dict)
{
	unsigned char page[HEADER_BYTES];
	int fd = openat(f->disk.dirfd, name, O_RDONLY);
	assert_int_equal(read(fd, page, sizeof(page)), HEADER_BYTES);
	close(fd);
	assert_memory_equal(page, "\x93NUMPY\x01\x00", 8);
	assert_int_equal(10 + (page[8] | page[9] << 8), HEADER_BYTES);
	const char *text = (const char *)page + 10;
	assert_memory_equal(text, dict, strlen(dict));
	assert_int_equal(strspn(text + strlen(dict), " "), HEADER_BYTES - 10 - strlen(dict) - 1);
	assert_int_equal(page[HEADER_BYTES - 1], '\n');
}

/* NULL: none on this machine. */
static const char *python_with_numpy(void)
{
	static const char *const names[] = {"python3", "/usr/bin/python3"};
	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		char command[128];
		snprintf(command, sizeof(command), "%s -c 'import numpy' 2>/dev/null", names[i]);
		if (system(command) == 0)
			return names[i];
	}
	return NULL;
}

/* Shape, item size and each byte of the payload, as NumPy sees them. */
static void check_numpy(const struct fixture *f, const char *python, const struct tier_object *obj,
			const char *expected)
{
	char command[1024], line[128] = "";
	snprintf(command, sizeof(command),
		 "%s -c \"import numpy\n"
		 "a = numpy.load('%s/%s')\n"
		 "b = numpy.frombuffer(a.tobytes(), dtype='u1')\n"
		 "i = numpy.arange(len(b))\n"
		 "assert ((i * 31 + i // 4093 + %llu) %% 256 == b).all()\n"
		 "assert len(b) == %llu, len(b)\n"
		 "print(a.shape, a.itemsize)\"",
		 python, f->disk.path, obj->name, (unsigned long long)(obj->key % 256),
		 (unsigned long long)obj->payload_bytes);
	FILE *pipe = popen(command, "r");
	assert_non_null(fgets(line, sizeof(line), pipe));
	assert_int_equal(pclose(pipe), 0);
	line[strcspn(line, "\n")] = '\0';
	assert_string_equal(line, expected);
}

static void test_numpy(void **state)
{
	struct fixture *f = *state;
	const char *python = python_with_numpy();
	for (size_t i = 0; i < ARRAY_LEN(array_cases); i++) {
		const struct array_case *c = &array_cases[i];
		const struct variant v = {IO_ENGINE_THREADS, f->disk.has_direct, SYNC_NONE};
		use_array_case(f, c);
		assert_true(open_tier(f, &v));
		struct tier_object obj = entry(f, key_turn(42, 3, 2), c->tokens);
		assert_int_equal(store(f, &obj), 0);
		check_header(f, obj.name, c->dict);
		if (python)
			check_numpy(f, python, &obj, c->numpy);
		assert_int_equal(run_kind(f, TIER_DELETE, &obj), 0);
		close_tier(f);
	}
	if (!python)
		print_message("skipped: no python3 with numpy here to load the files\n");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_life),      cmocka_unit_test(test_many_at_once),
		cmocka_unit_test(test_resident_pages), cmocka_unit_test(test_sync), cmocka_unit_test(test_caps),
		cmocka_unit_test(test_abort),     cmocka_unit_test(test_errors),
		cmocka_unit_test(test_full_disk), cmocka_unit_test(test_clean),
		cmocka_unit_test(test_numpy),
	};
	return cmocka_run_group_tests(tests, set_up, tear_down);
}
