// SPDX-License-Identifier: Apache-2.0
/*
 * The chunk loop: every transfer of data is cut into chunks of --io-size, and the transfers of a worker take turns with them, one
 * chunk each. Depth, fairness, window accounting and faults of data live here.
 */
#include "runner/internal.h"

static void chunk_submit(struct worker *w, struct transfer *x)
{
	struct chunk *c = list_entry(list_pop_front(&w->chunks_free), struct chunk, node);
	bool is_write = x->kind == TRANSFER_WRITE;
	unsigned tier = is_write ? transfer_target_tier(x) : transfer_source_tier(x);
	c->transfer = x;
	c->is_write = is_write;
	tier_op_init(&c->op, is_write ? TIER_WRITE : TIER_READ, is_write ? &x->target : &x->source, c);
	c->op.offset = x->next_offset;
	c->op.len = MIN(w->run->chunk_bytes, x->stored_bytes - x->next_offset);
	c->op.buf = c->buf;
	c->op.buffer_index = c->index;
	x->next_offset += c->op.len;
	x->chunks++;
	if (is_write) {
		struct payload_id id = {x->target.key, x->target.generation, w->run->setup.rank};
		payload_fill(w->run->setup.payload, &id, c->op.offset, c->buf, c->op.len);
		if (tier_of(w, tier)->caps & TIER_CAP_COMMIT_COUNTS) {
			x->dirty_bytes += c->op.len;
			w->dirty_bytes += c->op.len;
		}
	}
	if (!x->has_submitted) {
		x->has_submitted = true;
		x->submit_ns = run_now(w);
	}
	transfer_submit(w, tier, &c->op);
}

/* A moved chunk was read: write it out of the same buffer. */
static void chunk_forward(struct worker *w, struct chunk *c)
{
	struct transfer *x = c->transfer;
	uint64_t offset = c->op.offset;
	uint64_t len = c->op.len;
	c->is_write = true;
	tier_op_init(&c->op, TIER_WRITE, &x->target, c);
	c->op.offset = offset;
	c->op.len = len;
	c->op.buf = c->buf;
	c->op.buffer_index = c->index;
	if (tier_of(w, transfer_target_tier(x))->caps & TIER_CAP_COMMIT_COUNTS) {
		x->dirty_bytes += len;
		w->dirty_bytes += len;
	}
	transfer_submit(w, transfer_target_tier(x), &c->op);
}

static bool chunk_verify(struct worker *w, struct chunk *c, unsigned tier)
{
	struct transfer *x = c->transfer;
	struct payload_id id = {x->source.key, x->source.generation, w->run->setup.rank};
	struct payload_mismatch mismatch;
	long n = payload_verify(w->run->setup.payload, &id, c->op.offset, c->buf, c->op.len, &mismatch);
	if (n < 0) {
		transfer_fail(x, tier, &c->op, &mismatch);
		return false;
	}
	if (in_window(w, w->now_ns))
		count_add(w, COUNT_VERIFIED_BLOCKS, (uint64_t)n);
	return true;
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
	if (c->is_write && tier_of(w, tier)->caps & TIER_CAP_COMMIT_COUNTS)
		x->payload_uncounted += payload;
	else if (in_window(w, w->now_ns))
		count_tier_bytes(w, tier, c->is_write ? DIR_WRITE : DIR_READ, payload);
}

void chunk_ended(struct worker *w, struct chunk *c, unsigned tier)
{
	struct transfer *x = c->transfer;
	count_add(w, COUNT_RETRIES, c->op.retries);
	if (c->op.result < 0)
		transfer_fail(x, tier, &c->op, NULL);
	else if (!x->error && (c->is_write || chunk_verify(w, c, tier)))
		chunk_account(w, c, tier);
	bool has_chunked_target =
		x->kind == TRANSFER_MOVE && !tier_is_whole(w, transfer_target_tier(x));
	if (!x->error && !c->is_write && has_chunked_target) {
		chunk_forward(w, c);
		return;
	}
	if (!x->error)
		x->done_bytes += c->op.len;
	x->chunks--;
	c->transfer = NULL;
	list_push_back(&w->chunks_free, &c->node);
	if (x->error && list_linked(&x->node) && x->state == TRANSFER_DATA)
		list_remove(&x->node); /* submit no more */
	transfer_continue(x);
}

/* Dirty pages are bounded: a buffered write that meets the bound flushes its own before it goes on. */
static bool is_dirty_blocked(const struct worker *w, const struct transfer *x)
{
	bool writes_later = x->kind == TRANSFER_READ ||
			    !(tier_of(w, transfer_target_tier(x))->caps & TIER_CAP_COMMIT_COUNTS);
	return !writes_later && w->dirty_bytes >= w->dirty_max_bytes;
}

bool chunks_pump(struct worker *w)
{
	bool moved = false;
	struct list blocked;
	list_init(&blocked);
	while (!list_empty(&w->chunks_free) && !list_empty(&w->active)) {
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
		chunk_submit(w, x);
		moved = true;
		if (x->next_offset < x->stored_bytes)
			list_push_back(&w->active, &x->node);
	}
	list_splice_back(&w->active, &blocked);
	return moved;
}
