// SPDX-License-Identifier: Apache-2.0
/*
 * The chunk loop: every transfer of data is cut into chunks of --io-size, and the transfers of a worker take turns with them, one
 * chunk each. Depth, fairness, window accounting and faults of data live here.
 */
#include "base/rng.h"
#include "runner/internal.h"

#include <assert.h>

/*
 * Filling a buffer costs more than all the rest of a write. But noise that is there from an earlier write is as good as new once
 * it has new stamps, unless a compressor sees it twice in its window. So a large entry takes buffers with noise that its own file
 * has not had within RUNNER_NOISE_APART_BYTES, and noise is thrown away after NOISE_USES_MAX uses. Small entries are filled anew:
 * many of them lie in one window.
 */
enum { RESTAMP_ENTRY_MIN = 16 << 20, NOISE_LOOKS = 16 };

static bool is_near(uint64_t a, uint64_t b)
{
	return (a > b ? a - b : b - a) <= RUNNER_NOISE_APART_BYTES;
}

/* A key in short. Two that look alike only cost a use. */
static uint32_t name_of(const struct transfer *x)
{
	return (uint32_t)rng_mix(x->target.key);
}

/* May the next chunk of @x, whose name is this, use this noise? */
static bool is_noise_fit(const struct noise *n, const struct transfer *x, uint32_t name, uint64_t len)
{
	if (n->bytes < len || n->uses == NOISE_USES_MAX)
		return false;
	for (uint32_t i = 0; i < n->uses; i++)
		if (n->used[i].name == name && is_near(n->used[i].block * (uint64_t)PAYLOAD_BLOCK, x->next_offset))
			return false;
	return true;
}

static struct chunk *chunk_at(struct list *node)
{
	return list_entry(node, struct chunk, node);
}

/* The buffer with fit noise that was longest unused, NULL: none at hand. */
static struct chunk *chunk_with_noise(struct worker *w, const struct transfer *x, uint64_t len)
{
	unsigned looks = 0;
	uint32_t name = name_of(x);
	list_for_each(node, &w->chunks_noise) {
		if (looks++ == NOISE_LOOKS)
			break;
		if (!is_noise_fit(&chunk_at(node)->noise, x, name, len))
			continue;
		list_remove(node);
		return chunk_at(node);
	}
	return NULL;
}

/* A buffer whose content is of no use, or else the noise that was longest unused. */
static struct chunk *chunk_blank(struct worker *w)
{
	struct list *node = list_pop_front(&w->chunks_free);
	struct chunk *c = chunk_at(node ? node : list_pop_front(&w->chunks_noise));
	c->noise.bytes = 0;
	c->noise.uses = 0;
	return c;
}

static void chunk_free(struct worker *w, struct chunk *c)
{
	w->chunks_busy--;
	c->transfer = NULL;
	if (c->noise.uses && c->noise.uses < NOISE_USES_MAX)
		list_push_back(&w->chunks_noise, &c->node);
	else
		list_push_front(&w->chunks_free, &c->node);
}

static bool is_large(const struct transfer *x)
{
	return x->stored_bytes >= RESTAMP_ENTRY_MIN;
}

/* What a short chunk leaves of the buffer gets noise of its own, or no chunk of full length could use the buffer again. */
static void noise_make(const struct worker *w, struct chunk *c, struct payload_id id)
{
	uint64_t rest = is_large(c->transfer) ? w->run->chunk_bytes - c->op.len : 0;
	payload_fill(w->run->setup.payload, &id, c->op.offset, c->buf, c->op.len);
	id.key = ~id.key;
	payload_fill(w->run->setup.payload, &id, c->op.offset + c->op.len, (char *)c->buf + c->op.len, rest);
	c->noise.bytes = c->op.len + rest;
}

static void chunk_fill(struct worker *w, struct chunk *c)
{
	const struct transfer *x = c->transfer;
	struct noise *n = &c->noise;
	struct payload_id id = {x->target.key, x->target.generation, w->run->setup.rank};
	if (n->uses)
		payload_restamp(w->run->setup.payload, &id, c->op.offset, c->buf, c->op.len);
	else
		noise_make(w, c, id);
	n->used[n->uses].name = name_of(x);
	n->used[n->uses++].block = (uint32_t)(c->op.offset / PAYLOAD_BLOCK);
}

/* A buffer for the next chunk of @x. */
static struct chunk *chunk_take(struct worker *w, const struct transfer *x, uint64_t len)
{
	struct chunk *c = NULL;
	if (x->kind == TRANSFER_WRITE && is_large(x))
		c = chunk_with_noise(w, x, len);
	w->chunks_busy++;
	assert(w->chunks_busy <= w->chunk_count);
	return c ? c : chunk_blank(w);
}

/* The operation that moves these bytes between the buffer and what the chunk reads or writes. */
static void chunk_op(struct chunk *c, uint64_t offset, uint64_t len)
{
	struct transfer *x = c->transfer;
	tier_op_init(&c->op, c->is_write ? TIER_WRITE : TIER_READ, c->is_write ? &x->target : &x->source, c);
	c->op.offset = offset;
	c->op.len = len;
	c->op.buf = c->buf;
	c->op.buffer_index = c->index;
}

static bool is_copying(const struct worker *w, unsigned tier)
{
	return tier_of(w, tier)->caps & TIER_CAP_COPIES;
}

/* Hand a chunk, filled if it is a write, to its tier. */
static void chunk_issue(struct worker *w, struct chunk *c, unsigned tier)
{
	struct transfer *x = c->transfer;
	if (c->is_write && tier_of(w, tier)->caps & TIER_CAP_COMMIT_COUNTS) {
		x->dirty_bytes += c->op.len;
		w->dirty_bytes += c->op.len;
	}
	w->chunks_copying += is_copying(w, tier);
	transfer_submit(w, tier, &c->op);
}

/*
 * The payload of a file begins behind a header. An entry's first chunk is shorter by as much, so that the later ones lie on the grid of
 * --io-size in the file: storage that is striped serves each from one stripe. An entry that fits into one chunk stays whole.
 */
static uint64_t next_len(const struct worker *w, const struct transfer *x)
{
	/* A move reads what the target will have in one piece. */
	unsigned tier = x->kind == TRANSFER_READ ? transfer_source_tier(x) : transfer_target_tier(x);
	uint64_t chunk = w->run->chunk_bytes, left = x->stored_bytes - x->next_offset;
	bool is_first_of_many = !x->next_offset && left > chunk;
	return is_first_of_many ? chunk - tier_of(w, tier)->header_bytes % chunk : MIN(chunk, left);
}

static void chunk_submit(struct worker *w, struct transfer *x)
{
	bool is_write = x->kind == TRANSFER_WRITE;
	uint64_t len = next_len(w, x);
	struct chunk *c = chunk_take(w, x, len);
	unsigned tier = is_write ? transfer_target_tier(x) : transfer_source_tier(x);
	c->transfer = x;
	c->is_write = is_write;
	chunk_op(c, x->next_offset, len);
	x->next_offset += c->op.len;
	x->chunks++;
	if (is_write)
		chunk_fill(w, c);
	if (!x->has_submitted) {
		x->has_submitted = true;
		x->submit_ns = run_now(w);
	}
	chunk_issue(w, c, tier);
}

/* A moved chunk was read: write it out of the same buffer. */
static void chunk_forward(struct worker *w, struct chunk *c)
{
	struct transfer *x = c->transfer;
	c->is_write = true;
	chunk_op(c, c->op.offset, c->op.len);
	chunk_issue(w, c, transfer_target_tier(x));
}

/* The payload's share of a chunk: padding moves, but is nobody's cache. */
static uint64_t chunk_payload(const struct transfer *x, const struct tier_op *op)
{
	uint64_t end = MIN(op->offset + op->len, x->payload_bytes);
	return end > op->offset ? end - op->offset : 0;
}

static void chunk_account(struct worker *w, struct chunk *c, unsigned tier)
{
	struct transfer *x = c->transfer;
	uint64_t payload = chunk_payload(x, &c->op);
	if (c->is_write && tier_of(w, tier)->caps & TIER_CAP_COMMIT_COUNTS) {
		x->payload_uncounted += payload;
	} else if (in_window(w, w->now_ns)) {
		count_tier_bytes(w, tier, c->is_write ? DIR_WRITE : DIR_READ, payload);
		count_add(w, COUNT_NOT_COLD_BYTES, x->is_not_cold && !c->is_write ? payload : 0);
	}
}

static void chunk_verify(struct worker *w, struct chunk *c)
{
	struct transfer *x = c->transfer;
	struct payload_id id = {x->source.key, x->source.generation, w->run->setup.rank};
	struct payload_mismatch mismatch;
	long n = payload_verify(w->run->setup.payload, &id, c->op.offset, c->buf, c->op.len, &mismatch);
	if (n < 0)
		transfer_fail(x, transfer_source_tier(x), &c->op, &mismatch);
	else if (in_window(w, c->arrived_ns))
		count_add(w, COUNT_VERIFIED_BLOCKS, (uint64_t)n);
}

/* The chunk is through, or failed: on with its transfer. */
static void chunk_finish(struct worker *w, struct chunk *c)
{
	struct transfer *x = c->transfer;
	bool is_moving = x->kind == TRANSFER_MOVE && !tier_is_whole(w, transfer_target_tier(x));
	if (!c->is_write && !x->error)
		chunk_verify(w, c);
	if (is_moving && !c->is_write && !x->error) {
		chunk_forward(w, c);
		return;
	}
	if (!x->error)
		x->done_bytes += c->op.len;
	x->chunks--;
	chunk_free(w, c);
	if (x->error && list_linked(&x->node) && x->state == TRANSFER_DATA)
		list_remove(&x->node); /* submit no more */
	transfer_continue(x);
}

/*
 * What another processor has just copied into a buffer is still in that processor's own cache. Taking lines out of there slows down
 * the check, and the copies that follow even more: where one kernel thread copies all the data (a loop device, some network file
 * systems) an eighth of its speed was lost. So a chunk is checked when some more have come; for a device that writes to memory by
 * itself that makes no difference. Few may wait, an eighth of what is in use, so those of a shallow queue are checked at once and
 * a request waits little for its check beside what it waited for its data. The latency of the data ends when they are there.
 * Those that wait have buffers of their own, so that the device has as much to do as --io-depth says; but no more than these, since
 * every buffer takes its part of the caches that the processors share.
 */
enum { BUSY_PER_UNCHECKED = 8 };

static bool may_wait(const struct worker *w, const struct chunk *c, unsigned tier)
{
	return !c->is_write && w->unchecked_max && !w->is_draining && !is_copying(w, tier);
}

static void chunk_check_oldest(struct worker *w)
{
	struct chunk *c = chunk_at(list_pop_front(&w->chunks_unchecked));
	w->unchecked--;
	chunk_finish(w, c);
}

uint64_t chunks_deadline(const struct worker *w)
{
	if (list_empty(&w->chunks_unchecked))
		return UINT64_MAX;
	return chunk_at(w->chunks_unchecked.next)->arrived_ns + CHUNK_UNCHECKED_MAX_NS;
}

bool chunks_check(struct worker *w)
{
	bool any = false;
	while (w->unchecked > MIN(w->unchecked_max, w->chunks_busy / BUSY_PER_UNCHECKED) ||
	       chunks_deadline(w) <= w->now_ns) {
		chunk_check_oldest(w);
		any = true;
	}
	return any;
}

void chunks_check_all(struct worker *w)
{
	while (w->unchecked)
		chunk_check_oldest(w);
}

void chunk_ended(struct worker *w, struct chunk *c, unsigned tier)
{
	struct transfer *x = c->transfer;
	w->chunks_copying -= is_copying(w, tier);
	c->arrived_ns = w->now_ns;
	x->end_ns = w->now_ns;
	if (in_window(w, w->now_ns))
		count_add(w, COUNT_RETRIES, c->op.retries);
	if (c->op.result < 0)
		transfer_fail(x, tier, &c->op, NULL);
	if (!x->error)
		chunk_account(w, c, tier);
	if (!x->error && may_wait(w, c, tier)) {
		list_push_back(&w->chunks_unchecked, &c->node);
		w->unchecked++;
		return;
	}
	chunk_finish(w, c);
}

/* Dirty pages are bounded: a buffered write that meets the bound flushes its own before it goes on. */
static bool is_dirty_blocked(const struct worker *w, const struct transfer *x)
{
	bool writes_later = x->kind == TRANSFER_READ ||
			    !(tier_of(w, transfer_target_tier(x))->caps & TIER_CAP_COMMIT_COUNTS);
	return !writes_later && w->dirty_bytes >= w->dirty_max_bytes;
}

/* A tier that copies on the worker's own thread gains nothing from many chunks in flight, but loses the processor's cache. */
static bool is_copy_blocked(const struct worker *w, const struct transfer *x)
{
	unsigned tier = x->kind == TRANSFER_WRITE ? transfer_target_tier(x) : transfer_source_tier(x);
	return is_copying(w, tier) && w->chunks_copying >= w->run->batch;
}

bool chunks_pump(struct worker *w)
{
	uint32_t submitted = 0;
	struct list blocked;
	list_init(&blocked);
	while (submitted < w->run->batch && w->chunks_busy - w->unchecked < w->chunks_max && !list_empty(&w->active)) {
		struct transfer *x = list_entry(list_pop_front(&w->active), struct transfer, node);
		if (is_dirty_blocked(w, x)) {
			if (x->dirty_bytes) {
				x->wants_sync = true;
				transfer_continue(x);
			} else {
				list_push_back(&blocked, &x->node);
			}
			continue;
		}
		if (is_copy_blocked(w, x)) {
			list_push_back(&blocked, &x->node);
			continue;
		}
		chunk_submit(w, x);
		submitted++;
		if (x->next_offset < x->stored_bytes)
			list_push_back(&w->active, &x->node);
	}
	list_splice_back(&blocked, &w->active);
	list_splice_back(&w->active, &blocked);
	return submitted;
}
