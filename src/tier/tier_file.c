// SPDX-License-Identifier: Apache-2.0
/*
 * Entries as .npy files in one directory.
 *
 *   0              4096                          4096 + stored bytes
 *   | npy header   | payload, padded to 4096      |
 *
 * Every operation is a program of at most two steps, each one io_op; tier_file_poll() runs the end
 * of a step and the begin of the next. The header page travels in front of the first chunk in the
 * same write, so it costs no I/O of its own.
 */
#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "tier/tier.h"
#include "workload/key.h"

enum { HEADER_BYTES = 4096, STEPS_MAX = 2, REAP_MAX = 64, PAGES_SAMPLED = 8 };

struct tier_file {
	struct tier tier;
	int dirfd; /* borrowed */
	char *path;
	const struct config *cfg;
	int open_flags; /* O_DIRECT or 0 */
};

/* Each kind of tier has its own. */
struct tier_worker {
	const struct tier_file *tier;
	struct io *io;
	size_t page_count;
	char *pages; /* page_count header pages */
	void **free_pages;
	size_t free_count;
};

/** One io_op of a program. */
struct step {
	/* Fill op->io. Return: false when there is nothing to do. */
	bool (*begin)(struct tier_worker *w, struct tier_op *op);
	/* Return: 0, or -errno, which ends the operation. NULL: an error of the io_op is one. */
	int (*end)(struct tier_worker *w, struct tier_op *op, int64_t result);
};

static struct tier_file *file_of(struct tier *t)
{
	return container_of(t, struct tier_file, tier);
}

/* ---- the header ---- */

static void add_shape(const struct model *m, uint64_t tokens, uint32_t tensor_parallel, char *buf,
		      size_t size)
{
	uint64_t dims[MODEL_SHAPE_DIMS_MAX];
	unsigned count = model_shape(m, tokens, tensor_parallel, dims);
	size_t len = 0;
	for (unsigned i = 0; i < count; i++)
		len += (size_t)snprintf(buf + len, size - len, i ? ", %llu" : "%llu",
					(unsigned long long)dims[i]);
	/* A Python tuple of one keeps its comma. */
	snprintf(buf + len, size - len, "%s", count == 1 ? "," : "");
}

/*
 * NumPy's format 1.0: magic, version, length of the dictionary as 16 bits, the dictionary padded by
 * blanks to a newline. An entry stores floor(bytes_per_token x tokens / tensor_parallel) bytes;
 * rounding up undoes that.
 */
static void write_header(const struct config *cfg, uint64_t payload_bytes, char *page)
{
	static const char magic[10] = "\x93NUMPY\x01\x00\xf6\x0f";
	uint64_t parts = (uint64_t)cfg->opt.tensor_parallel;
	uint64_t tokens = (payload_bytes * parts + cfg->bytes_per_token - 1) / cfg->bytes_per_token;
	char shape[MODEL_SHAPE_DIMS_MAX * 24];
	_Static_assert(HEADER_BYTES - sizeof(magic) == 0x0ff6, "length field of the header");

	add_shape(&cfg->model, tokens, (uint32_t)parts, shape, sizeof(shape));
	memset(page, ' ', HEADER_BYTES);
	memcpy(page, magic, sizeof(magic));
	char *dict = page + sizeof(magic);
	int len = snprintf(dict, HEADER_BYTES - sizeof(magic),
			   "{'descr': '%s', 'fortran_order': False, 'shape': (%s), }",
			   model_numpy_descr(&cfg->model), shape);
	dict[len] = ' ';
	page[HEADER_BYTES - 1] = '\n';
}

static void take_header(struct tier_worker *w, struct tier_object *obj)
{
	assert(w->free_count);
	obj->header = w->free_pages[--w->free_count];
	write_header(w->tier->cfg, obj->payload_bytes, obj->header);
}

static void give_header(struct tier_worker *w, struct tier_object *obj)
{
	w->free_pages[w->free_count++] = obj->header;
	obj->header = NULL;
}

/* ---- steps ---- */

static void set_fd_op(struct tier_op *op, enum io_kind kind)
{
	op->io = (struct io_op){.kind = kind, .fd = op->obj->fd};
}

static void set_name_op(struct tier_worker *w, struct tier_op *op, enum io_kind kind, int flags)
{
	struct tier_object *obj = op->obj;
	_Static_assert(sizeof(obj->name) >= KEY_NAME_SIZE, "a name must fit");
	key_file_name(obj->key, obj->generation, obj->name);
	op->io = (struct io_op){
		.kind = kind, .fd = w->tier->dirfd, .name = obj->name, .flags = flags};
}

static bool begin_open_new(struct tier_worker *w, struct tier_op *op)
{
	op->obj->fd = -1;
	set_name_op(w, op, IO_OPEN, O_CREAT | O_EXCL | O_WRONLY | w->tier->open_flags);
	return true;
}

static bool begin_open(struct tier_worker *w, struct tier_op *op)
{
	op->obj->fd = -1;
	set_name_op(w, op, IO_OPEN, O_RDONLY | w->tier->open_flags);
	return true;
}

static int end_open(struct tier_worker *w, struct tier_op *op, int64_t result)
{
	(void)w;
	if (result < 0)
		return (int)result;
	op->obj->fd = (int)result;
	return 0;
}

/* The whole file at once: a direct write that extends its file would have to wait for the others.
 */
static bool begin_allocate(struct tier_worker *w, struct tier_op *op)
{
	(void)w;
	set_fd_op(op, IO_FALLOCATE);
	op->io.length = HEADER_BYTES + tier_stored_bytes(op->obj->payload_bytes);
	return true;
}

static bool begin_drop(struct tier_worker *w, struct tier_op *op)
{
	if (w->tier->open_flags & O_DIRECT)
		return false;
	set_fd_op(op, IO_DROP);
	return true;
}

static bool begin_read(struct tier_worker *w, struct tier_op *op)
{
	(void)w;
	set_fd_op(op, IO_READ);
	op->io.offset = HEADER_BYTES + op->offset;
	op->io.iov[0] = (struct iovec){op->buf, op->len};
	op->io.iov_count = 1;
	op->io.buffer_index = op->buffer_index;
	return true;
}

static bool begin_write(struct tier_worker *w, struct tier_op *op)
{
	begin_read(w, op);
	op->io.kind = IO_WRITE;
	if (op->offset)
		return true;
	take_header(w, op->obj);
	op->io.offset = 0;
	op->io.iov[1] = op->io.iov[0];
	op->io.iov[0] = (struct iovec){op->obj->header, HEADER_BYTES};
	op->io.iov_count = 2;
	op->io.buffer_index = -1;
	return true;
}

static int end_write(struct tier_worker *w, struct tier_op *op, int64_t result)
{
	if (op->offset == 0)
		give_header(w, op->obj);
	return result < 0 ? (int)result : 0;
}

static bool begin_flush(struct tier_worker *w, struct tier_op *op)
{
	(void)w;
	set_fd_op(op, IO_FDATASYNC);
	op->io_ns = clock_mono_ns();
	return true;
}

static bool begin_sync(struct tier_worker *w, struct tier_op *op)
{
	if (w->tier->cfg->opt.sync == SYNC_NONE)
		return false;
	begin_flush(w, op);
	if (w->tier->cfg->opt.sync == SYNC_FSYNC)
		op->io.kind = IO_FSYNC;
	return true;
}

static int end_sync(struct tier_worker *w, struct tier_op *op, int64_t result)
{
	(void)w;
	op->sync_ns = MAX(clock_mono_ns() - op->io_ns, 1); /* 0 says that there was none */
	return result < 0 ? (int)result : 0;
}

static bool begin_close(struct tier_worker *w, struct tier_op *op)
{
	(void)w;
	if (op->obj->fd < 0)
		return false;
	set_fd_op(op, IO_CLOSE);
	op->obj->fd = -1;
	return true;
}

/* Closing a file that goes away, dropping pages: a regular file refuses neither, and nothing is
 * lost if one did. */
static int end_anyway(struct tier_worker *w, struct tier_op *op, int64_t result)
{
	(void)w, (void)op, (void)result;
	return 0;
}

/* Dropped, or so the kernel says: pages that somebody maps, reads or has not written back stay. */
static int end_drop(struct tier_worker *w, struct tier_op *op, int64_t result)
{
	unsigned sampled = 0;
	(void)w, (void)result;
	int resident = io_sample_resident(op->obj->fd, HEADER_BYTES + tier_stored_bytes(op->obj->payload_bytes),
					  PAGES_SAMPLED, &sampled);
	if (resident >= 0) {
		op->pages_sampled = sampled;
		op->pages_resident = (uint32_t)resident;
	}
	return 0;
}

static bool begin_remove(struct tier_worker *w, struct tier_op *op)
{
	set_name_op(w, op, IO_UNLINK, 0);
	return true;
}

/* A CREATE that failed may have left a file (open with O_DIRECT refused) or not. */
static int end_remove_if_there(struct tier_worker *w, struct tier_op *op, int64_t result)
{
	(void)w, (void)op;
	return result < 0 && result != -ENOENT ? (int)result : 0;
}

static const struct step programs[][STEPS_MAX] = {
	[TIER_CREATE] = {{begin_open_new, end_open}, {begin_allocate}},
	[TIER_WRITE] = {{begin_write, end_write}},
	[TIER_SYNC] = {{begin_flush, end_sync}},
	[TIER_COMMIT] = {{begin_sync, end_sync}, {begin_close}},
	[TIER_ABORT] = {{begin_close, end_anyway}, {begin_remove, end_remove_if_there}},
	[TIER_OPEN] = {{begin_open, end_open}, {begin_drop, end_drop}},
	[TIER_READ] = {{begin_read}},
	[TIER_CLOSE] = {{begin_close}},
	[TIER_DELETE] = {{begin_remove}},
};

/* ---- the program of an operation ---- */

/* Begin the next step that has something to do. Return: false when there is none. */
static bool begin_next(struct tier_worker *w, struct tier_op *op)
{
	for (; op->state < STEPS_MAX; op->state++) {
		const struct step *s = &programs[op->kind][op->state];
		if (!s->begin || !s->begin(w, op))
			continue;
		op->io.fault = op->fault;
		op->fault = (struct io_fault){0};
		io_submit(w->io, &op->io);
		return true;
	}
	return false;
}

static int end_step(struct tier_worker *w, struct tier_op *op)
{
	const struct step *s = &programs[op->kind][op->state++];
	op->retries += op->io.retries;
	if (s->end)
		return s->end(w, op, op->io.result);
	return op->io.result < 0 ? (int)op->io.result : 0;
}

static void tier_file_submit(struct tier_worker *w, struct tier_op *op, uint64_t now_ns)
{
	(void)now_ns;
	op->result = 0;
	op->retries = 0;
	op->sync_ns = 0;
	op->begin_ns = op->end_ns = 0;
	op->state = 0;
	bool is_begun = begin_next(w, op);
	assert(is_begun);
	(void)is_begun;
}

static unsigned tier_file_poll(struct tier_worker *w, uint64_t now_ns, struct tier_op **ret,
			       unsigned max)
{
	struct io_op *done[REAP_MAX];
	unsigned count = 0;
	(void)now_ns;
	unsigned n = io_reap(w->io, done, MIN(max, REAP_MAX));
	for (unsigned i = 0; i < n; i++) {
		struct tier_op *op = container_of(done[i], struct tier_op, io);
		op->result = end_step(w, op);
		if (!op->result && begin_next(w, op))
			continue;
		if (!op->result && op->kind == TIER_COMMIT)
			op->obj->location = op->obj->generation;
		ret[count++] = op;
	}
	return count;
}

/* ---- life of the tier ---- */

static void tier_file_worker_close(struct tier_worker *w)
{
	if (!w)
		return;
	free(w->pages);
	free(w->free_pages);
	free(w);
}

static int tier_file_worker_open(struct tier *t, struct io *io, uint32_t ops_max,
				 struct tier_worker **ret)
{
	struct tier_worker *w = calloc(1, sizeof(*w));
	if (!w)
		return -ENOMEM;
	w->tier = file_of(t);
	w->io = io;
	w->page_count = ops_max;
	w->pages = aligned_alloc(HEADER_BYTES, w->page_count * HEADER_BYTES);
	w->free_pages = calloc(w->page_count, sizeof(*w->free_pages));
	if (!w->pages || !w->free_pages) {
		tier_file_worker_close(w);
		return -ENOMEM;
	}
	for (; w->free_count < w->page_count; w->free_count++)
		w->free_pages[w->free_count] = w->pages + w->free_count * HEADER_BYTES;
	*ret = w;
	return 0;
}

static void tier_file_cancel(struct tier_worker *w)
{
	io_cancel(w->io);
}

static void tier_file_describe(const struct tier *t, const struct tier_op *op, char *buf,
			       size_t size)
{
	static const char *const kinds[] = {
		[TIER_CREATE] = "create", [TIER_WRITE] = "write", [TIER_SYNC] = "sync",
		[TIER_COMMIT] = "commit", [TIER_ABORT] = "abort", [TIER_OPEN] = "open",
		[TIER_READ] = "read",     [TIER_CLOSE] = "close", [TIER_DELETE] = "delete",
	};
	const struct tier_file *f = container_of(t, const struct tier_file, tier);
	char name[KEY_NAME_SIZE];
	key_file_name(op->obj->key, op->obj->generation, name);
	int len = snprintf(buf, size, "%s %s: %s/%s", config_tier_name(t->class), kinds[op->kind],
			   f->path, name);
	bool has_offset = op->kind == TIER_READ || op->kind == TIER_WRITE;
	if (has_offset && len > 0 && (size_t)len < size)
		snprintf(buf + len, size - (size_t)len, " offset %llu",
			 (unsigned long long)(HEADER_BYTES + op->offset));
}

static void tier_file_free(struct tier *t)
{
	struct tier_file *f = file_of(t);
	free(f->path);
	free(f);
}

static const struct tier_ops tier_file_ops = {
	.kind = "file",
	.worker_open = tier_file_worker_open,
	.worker_close = tier_file_worker_close,
	.submit = tier_file_submit,
	.poll = tier_file_poll,
	.cancel = tier_file_cancel,
	.describe = tier_file_describe,
	.free = tier_file_free,
};

static unsigned caps_of(const struct tier_file_setup *setup)
{
	if (setup->is_direct)
		return TIER_CAP_FILES;
	if (setup->cfg->opt.sync == SYNC_NONE)
		return TIER_CAP_FILES | TIER_CAP_PAGE_CACHE;
	return TIER_CAP_FILES | TIER_CAP_PAGE_CACHE | TIER_CAP_COMMIT_COUNTS;
}

int tier_file_new(const struct tier_file_setup *setup, struct tier **ret)
{
	struct tier_file *f = calloc(1, sizeof(*f));
	if (!f)
		return -ENOMEM;
	f->tier = (struct tier){
		.ops = &tier_file_ops,
		.class = TIER_STORAGE,
		.caps = caps_of(setup),
		.limit_bytes = setup->limit_bytes,
		.header_bytes = HEADER_BYTES,
		.granule_bytes = TIER_PAYLOAD_ALIGN,
	};
	f->dirfd = setup->dirfd;
	f->cfg = setup->cfg;
	f->open_flags = setup->is_direct ? O_DIRECT : 0;
	f->path = strdup(setup->path);
	if (!f->path) {
		tier_file_free(&f->tier);
		return -ENOMEM;
	}
	*ret = &f->tier;
	return 0;
}

int tier_file_clean(int dirfd, uint64_t *removed)
{
	int fd = openat(dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	CLEANUP_CLOSEDIR DIR *dir = fdopendir(fd);
	if (!dir) {
		int rc = -errno;
		close(fd);
		return rc;
	}
	uint64_t count = 0;
	int rc = 0;
	struct dirent *e;
	for (errno = 0; (e = readdir(dir)); errno = 0) {
		struct stat st;
		if (!key_is_own_file(e->d_name) || fstatat(dirfd, e->d_name, &st, AT_SYMLINK_NOFOLLOW) ||
		    !S_ISREG(st.st_mode))
			continue; /* a directory or a link of such a name was made by somebody else */
		if (!unlinkat(dirfd, e->d_name, 0))
			count++;
		else if (!rc)
			rc = -errno;
	}
	if (errno && !rc)
		rc = -errno;
	if (removed)
		*removed = count;
	return rc;
}
