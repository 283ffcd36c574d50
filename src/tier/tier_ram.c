// SPDX-License-Identifier: Apache-2.0
/*
 * Entries in memory: an arena of 64 KiB pages, chained by number.
 *
 *   free -> 7 -> 8 -> 9 -> ...          entry A: 3 -> 4 -> 5          entry B: 1 -> 2 -> 6
 *
 * A chain is named by its first and last page, so that giving one back is one splice, whatever its
 * length. An entry's own links are constant from CREATE to DELETE and are walked without the lock;
 * the free chain is under it.
 *
 * Copies happen in poll(), at most POLL_COPY_MAX bytes per call, so that a worker gets back to its
 * other work.
 */
#include <assert.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "tier/internal.h"

enum { PAGE_BYTES = 64 << 10, POLL_COPY_MAX = 1 << 20 };

/* Pages are numbered from 1; 0 is "no page". */
struct tier_ram {
	struct tier tier;
	char *arena;
	uint64_t arena_bytes;
	uint32_t *next; /* by page number; of an entry's page: the entry's, of a free one: under
			   lock */
	pthread_mutex_t lock;
	uint32_t free_head;  /* guarded by lock */
	uint32_t free_count; /* guarded by lock */
};

struct tier_worker {
	struct tier_ram *ram;
	struct list queue; /* submitted, oldest first */
};

static int tier_ram_worker_open(struct tier *t, struct io *io, uint32_t ops_max,
				struct tier_worker **ret)
{
	(void)io, (void)ops_max;
	struct tier_worker *w = malloc(sizeof(*w));
	if (!w)
		return -ENOMEM;
	w->ram = container_of(t, struct tier_ram, tier);
	list_init(&w->queue);
	*ret = w;
	return 0;
}

static void tier_ram_worker_close(struct tier_worker *w)
{
	free(w);
}

/* ---- chains of pages: head and tail in one word, 0 is no chain ---- */

static uint64_t chain_of(uint32_t head, uint32_t tail)
{
	return (uint64_t)tail << 32 | head;
}

static uint32_t chain_head(uint64_t chain)
{
	return (uint32_t)chain;
}

static uint32_t chain_tail(uint64_t chain)
{
	return (uint32_t)(chain >> 32);
}

static uint32_t pages_for(uint64_t payload_bytes)
{
	uint64_t pages = (tier_stored_bytes(payload_bytes) + PAGE_BYTES - 1) / PAGE_BYTES;
	return (uint32_t)MIN(pages, (uint64_t)UINT32_MAX);
}

static uint64_t pages_take(struct tier_ram *ram, uint32_t count)
{
	assert(count > 0);
	uint64_t chain = 0;

	pthread_mutex_lock(&ram->lock);
	if (count <= ram->free_count) {
		uint32_t head = ram->free_head;
		uint32_t tail = head;
		for (uint32_t i = 1; i < count; i++)
			tail = ram->next[tail];
		ram->free_head = ram->next[tail];
		ram->free_count -= count;
		chain = chain_of(head, tail);
	}
	pthread_mutex_unlock(&ram->lock);
	return chain;
}

static void pages_give(struct tier_ram *ram, uint64_t chain, uint32_t count)
{
	pthread_mutex_lock(&ram->lock);
	ram->next[chain_tail(chain)] = ram->free_head;
	ram->free_head = chain_head(chain);
	ram->free_count += count;
	pthread_mutex_unlock(&ram->lock);
}

/* ---- operations ---- */

static void cursor_rewind(struct tier_object *obj)
{
	obj->cursor = chain_head(obj->chain);
	obj->cursor_offset = 0;
}

static int tier_ram_create(struct tier_ram *ram, struct tier_object *obj)
{
	obj->chain = pages_take(ram, pages_for(obj->payload_bytes));
	if (!obj->chain)
		return -ENOSPC;
	cursor_rewind(obj);
	return 0;
}

static int tier_ram_give_back(struct tier_ram *ram, struct tier_object *obj, uint64_t chain)
{
	if (chain)
		pages_give(ram, chain, pages_for(obj->payload_bytes));
	obj->chain = 0;
	return 0;
}

static int tier_ram_open(struct tier_object *obj)
{
	obj->chain = obj->location;
	cursor_rewind(obj);
	return 0;
}

/* Everything but copying. */
static int tier_ram_step(struct tier_ram *ram, enum tier_op_kind kind, struct tier_object *obj)
{
	switch (kind) {
	case TIER_CREATE:
		return tier_ram_create(ram, obj);
	case TIER_COMMIT:
		obj->location = obj->chain;
		return 0;
	case TIER_ABORT:
		return tier_ram_give_back(ram, obj, obj->chain);
	case TIER_OPEN:
		return tier_ram_open(obj);
	case TIER_DELETE:
		return tier_ram_give_back(ram, obj, obj->location);
	default: /* SYNC and CLOSE have nothing to do in memory */
		return 0;
	}
}

/* Page that holds @offset of the entry; chunks come in ascending order, so the walk goes on where
 * it stopped. */
static char *page_at(struct tier_ram *ram, struct tier_object *obj, uint64_t offset)
{
	if (offset < obj->cursor_offset)
		cursor_rewind(obj);
	while (offset >= obj->cursor_offset + PAGE_BYTES) {
		obj->cursor = ram->next[obj->cursor];
		obj->cursor_offset += PAGE_BYTES;
	}
	return ram->arena + (obj->cursor - 1) * PAGE_BYTES;
}

/* Copy up to @max bytes more of a READ or WRITE. Return: bytes copied. */
static uint64_t tier_ram_copy(struct tier_ram *ram, struct tier_op *op, uint64_t max)
{
	assert(op->offset + op->len <= tier_stored_bytes(op->obj->payload_bytes));
	uint64_t length = MIN(op->len - op->io.done_bytes, max);
	for (uint64_t copied = 0; copied < length;) {
		uint64_t offset = op->offset + op->io.done_bytes;
		uint64_t in_page = offset % PAGE_BYTES;
		uint64_t step = MIN(length - copied, PAGE_BYTES - in_page);
		char *stored = page_at(ram, op->obj, offset) + in_page;
		char *buf = (char *)op->buf + op->io.done_bytes;
		if (op->kind == TIER_READ)
			memcpy(buf, stored, step);
		else
			memcpy(stored, buf, step);
		op->io.done_bytes += step;
		copied += step;
	}
	return length;
}

static void tier_ram_submit(struct tier_worker *w, struct tier_op *op, uint64_t now_ns)
{
	(void)now_ns;
	op->result = 0;
	op->retries = 0;
	op->begin_ns = op->end_ns = op->sync_ns = 0;
	op->io.done_bytes = 0;
	list_push_back(&w->queue, &op->node);
}

static unsigned tier_ram_poll(struct tier_worker *w, uint64_t now_ns, struct tier_op **ret,
			      unsigned max)
{
	(void)now_ns;
	uint64_t budget = POLL_COPY_MAX;
	unsigned count = 0;
	while (count < max && !list_empty(&w->queue)) {
		struct tier_op *op = list_entry(w->queue.next, struct tier_op, node);
		if (op->kind == TIER_READ || op->kind == TIER_WRITE) {
			if (!budget)
				break;
			budget -= tier_ram_copy(w->ram, op, budget);
			if (op->io.done_bytes < op->len)
				break;
		} else {
			op->result = tier_ram_step(w->ram, op->kind, op->obj);
		}
		list_remove(&op->node);
		ret[count++] = op;
	}
	return count;
}

static uint64_t tier_ram_deadline(const struct tier_worker *w)
{
	return list_empty(&w->queue) ? UINT64_MAX : 0;
}

static void tier_ram_free(struct tier *t)
{
	struct tier_ram *ram = container_of(t, struct tier_ram, tier);
	mem_unreserve(ram->arena, ram->arena_bytes);
	pthread_mutex_destroy(&ram->lock);
	free(ram->next);
	free(ram);
}

static const struct tier_ops tier_ram_ops = {
	.kind = "ram",
	.worker_open = tier_ram_worker_open,
	.worker_close = tier_ram_worker_close,
	.submit = tier_ram_submit,
	.poll = tier_ram_poll,
	.deadline = tier_ram_deadline,
	.describe = tier_describe_memory,
	.free = tier_ram_free,
};

/* The arena with every page free and present. */
static int tier_ram_fill_free(struct tier_ram *ram, uint64_t pages)
{
	if (pages >= UINT32_MAX)
		return -ENOMEM;
	ram->next = reallocarray(NULL, pages + 1, sizeof(*ram->next));
	ram->arena = mem_reserve(ram->arena_bytes);
	if (!ram->next || !ram->arena)
		return -ENOMEM;
	for (uint32_t i = 0; i < pages; i++)
		ram->next[i] = i + 1;
	ram->next[pages] = 0;
	ram->free_head = ram->next[0];
	ram->free_count = (uint32_t)pages;
	return mem_populate(ram->arena, ram->arena_bytes);
}

int tier_ram_new(enum tier_class class, uint64_t limit_bytes, struct tier **ret, struct error *err)
{
	struct tier_ram *ram = malloc(sizeof(*ram));
	if (!ram)
		return error_set(err, -ENOMEM, ERR_FS_FULL, "out of memory");
	*ram = (struct tier_ram){
		.tier =
			{
				.ops = &tier_ram_ops,
				.class = class,
				.caps = TIER_CAP_COPIES,
				.limit_bytes = limit_bytes,
				.granule_bytes = PAGE_BYTES,
			},
		.arena_bytes = limit_bytes - limit_bytes % PAGE_BYTES,
		.lock = PTHREAD_MUTEX_INITIALIZER,
	};
	int rc = tier_ram_fill_free(ram, limit_bytes / PAGE_BYTES);
	if (rc < 0) {
		char text[32];
		tier_ram_free(&ram->tier);
		error_set(err, rc, ERR_FS_FULL, "cannot get %s of memory for the %s tier",
			  fmt_bytes(text, sizeof(text), limit_bytes), config_tier_name(class));
		error_hint(err, "ask for a smaller tier");
		return rc;
	}
	*ret = &ram->tier;
	return 0;
}
