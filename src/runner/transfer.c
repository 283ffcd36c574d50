// SPDX-License-Identifier: Apache-2.0
/*
 * One entry through the tiers. A transfer is a small state machine; only completions and mail move it:
 *
 *   read    READY - OPEN - DATA - CLOSE
 *   write   [PERMIT] - [PLACE_WAIT] - [STEPS] - READY - CREATE - DATA [- SYNC - DATA] - COMMIT
 *   move    READY - OPEN - CREATE - DATA - CLOSE - COMMIT [- REMOVE the source]
 *   delete  REMOVE
 *
 * A failure (or the end of the run) waits for the chunks in flight, then closes the source and aborts the target. Whole-entry
 * tiers have no chunks: a read is one operation in DATA, a write one in COMMIT.
 */
#include "runner/internal.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* ---- pool and lists ---- */

struct transfer *transfer_new(struct worker *w, enum transfer_kind kind, struct task *task,
				     enum transfer_purpose purpose)
{
	struct list *node = list_pop_front(&w->transfers_free);
	assert(node);
	w->transfers_free_count--;
	struct transfer *x = list_entry(node, struct transfer, node);
	memset(x, 0, offsetof(struct transfer, mail));
	x->worker = w;
	x->kind = kind;
	x->task = task;
	x->purpose = purpose;
	x->issue_ns = w->now_ns;
	return x;
}

/* The last one freed is the next one used: it is still in the processor's caches. */
void transfer_free(struct transfer *x)
{
	x->state = TRANSFER_FREE;
	list_push_front(&x->worker->transfers_free, &x->node);
	x->worker->transfers_free_count++;
}

void transfer_ready(struct transfer *x)
{
	x->state = TRANSFER_READY;
	list_push_back(&x->worker->ready, &x->node);
}

/* In place: an object built on the stack and copied would wait for its own stores, and this is done for every access. */
void transfer_object(struct tier_object *ret, const struct cache_ref *ref)
{
	*ret = (struct tier_object){
		.key = ref->key,
		.generation = ref->generation,
		.payload_bytes = ref->payload_bytes,
		.location = ref->location,
		.fd = -1,
	};
}

unsigned transfer_source_tier(const struct transfer *x)
{
	return x->kind == TRANSFER_MOVE ? x->step.source.tier : x->ref.tier;
}

unsigned transfer_target_tier(const struct transfer *x)
{
	return x->kind == TRANSFER_MOVE ? x->step.target.tier : x->plan.target.tier;
}

/* ---- operations on tiers ---- */

void transfer_submit(struct worker *w, unsigned tier, struct tier_op *op)
{
	w->tier_outstanding[tier]++;
	tier_of(w, tier)->ops->submit(w->tier[tier], op, w->now_ns);
}

static void control_submit(struct transfer *x, unsigned tier, enum tier_op_kind kind,
			   struct tier_object *obj, enum transfer_state state)
{
	x->state = state;
	tier_op_init(&x->control, kind, obj, NULL); /* no owner: a control operation; chunks have one */
	x->control.len = x->payload_bytes;
	x->whole_counted = 0;
	if (kind == TIER_READ || kind == TIER_WRITE) {
		x->has_submitted = true;
		x->submit_ns = x->worker->now_ns;
	}
	transfer_submit(x->worker, tier, &x->control);
}

static const char *op_name(enum tier_op_kind kind)
{
	static const char *const names[] = {
		[TIER_CREATE] = "create", [TIER_WRITE] = "write", [TIER_SYNC] = "sync",
		[TIER_COMMIT] = "commit", [TIER_ABORT] = "abort", [TIER_OPEN] = "open",
		[TIER_READ] = "read",	  [TIER_CLOSE] = "close", [TIER_DELETE] = "delete",
	};
	return names[kind];
}

/* Count an error of an operation: its class, and where and what it was in full. */
static void error_tell(struct worker *w, unsigned tier, const struct tier_op *op, const char *class,
		       const char *what)
{
	const struct tier *t = tier_of(w, tier);
	char name[48], where[ERROR_TEXT_MAX], text[ERROR_TEXT_MAX + 200];
	snprintf(name, sizeof(name), "%s %s: %s", config_tier_name(t->class), op_name(op->kind), class);
	t->ops->describe(t, op, where, sizeof(where));
	snprintf(text, sizeof(text), "%s: %s", where, what);
	error_log_add(w->run->setup.errors, name, text);
}

/* The first failure of a transfer is counted and told; what follows from it is not another error. */
void transfer_fail(struct transfer *x, unsigned tier, const struct tier_op *op,
		   const struct payload_mismatch *mismatch)
{
	int rc = mismatch ? -EILSEQ : op->result;
	if (x->error && x->error != -ECANCELED)
		return;
	x->error = rc;
	char what[160];
	if (mismatch) {
		struct tier_op block = *op;
		block.offset = mismatch->offset_bytes;
		payload_describe(mismatch, what, sizeof(what));
		error_tell(x->worker, tier, &block, "data mismatch", what);
		return;
	}
	const char *symbol = strerrorname_np(-rc);
	const char *text = strerrordesc_np(-rc);
	error_tell(x->worker, tier, op, symbol ? symbol : "unknown error", text ? text : "unknown error");
}

/* ---- accounting ---- */

#define MIB (UINT64_C(1) << 20)

void count_tier_bytes(struct worker *w, unsigned tier, enum metric_direction dir, uint64_t bytes)
{
	count_add(w, COUNT_TIER_BYTES(tier_of(w, tier)->class, dir), bytes);
}

/* How many bytes of @x, moved evenly over its operation's service time, fall into the window and before @until_ns. */
static uint64_t whole_share(const struct transfer *x, uint64_t until_ns)
{
	const struct worker *w = x->worker;
	const struct tier_op *op = &x->control;
	uint64_t from = MAX(op->begin_ns, w->counted_from_ns);
	uint64_t stop = atomic_load_explicit(&w->run->stop_ns, memory_order_relaxed);
	uint64_t to = MIN(MIN(op->end_ns, stop), until_ns);
	if (to <= from)
		return 0;
	return (uint64_t)((unsigned __int128)x->payload_bytes * (to - from) / (op->end_ns - op->begin_ns));
}

static enum metric_counter whole_counter(const struct transfer *x, unsigned tier)
{
	return COUNT_TIER_BYTES(tier_of(x->worker, tier)->class,
				x->control.kind == TIER_READ ? DIR_READ : DIR_WRITE);
}

/* A whole-entry operation counts as it goes, so that a slot of time has what moved in it; null tiers take no time at all. */
static void account_whole(struct transfer *x, unsigned tier, uint64_t until_ns)
{
	struct worker *w = x->worker;
	const struct tier_op *op = &x->control;
	uint64_t bytes = 0;
	if (op->end_ns > op->begin_ns)
		bytes = whole_share(x, until_ns);
	else if (in_window(w, w->now_ns))
		bytes = x->payload_bytes;
	if (bytes <= x->whole_counted)
		return;
	count_add(w, whole_counter(x, tier), bytes - x->whole_counted);
	x->whole_counted = bytes;
}

/* It failed in the end: nothing moved. */
static void unaccount_whole(struct transfer *x, unsigned tier)
{
	if (!x->whole_counted || x->worker->is_draining)
		return;
	uint64_t *count = &x->worker->m->count[whole_counter(x, tier)];
	*count -= MIN(*count, x->whole_counted);
	x->whole_counted = 0;
}

static void dirty_settle(struct transfer *x)
{
	if (in_window(x->worker, x->worker->now_ns))
		count_tier_bytes(x->worker, transfer_target_tier(x), DIR_WRITE, x->payload_uncounted);
	x->worker->dirty_bytes -= x->dirty_bytes;
	x->dirty_bytes = 0;
	x->payload_uncounted = 0;
}

static void record_latency(struct transfer *x, unsigned tier, enum metric_direction dir)
{
	struct worker *w = x->worker;
	enum tier_class class = tier_of(w, tier)->class;
	uint64_t total = x->end_ns - x->issue_ns;
	uint64_t device = x->end_ns - x->submit_ns;
	hist_record(&w->m->hist[HIST_TIER(class, dir, PART_TOTAL)], total);
	hist_record(&w->m->hist[HIST_TIER(class, dir, PART_DEVICE)], device);
	hist_record(&w->m->hist[HIST_TIER(class, dir, PART_HOST)], total - device);
	count_add(w, COUNT_TIER_OPS(class, dir), 1);
	count_add(w, dir == DIR_READ ? COUNT_READ_OPS : COUNT_WRITE_OPS, 1);
	count_add(w, dir == DIR_READ ? COUNT_READ_BYTES : COUNT_WRITE_BYTES, x->payload_bytes);
	if (class != TIER_STORAGE)
		return;
	count_add(w, COUNT_STORAGE_TOKENS, entry_tokens(w, x->payload_bytes));
	/* Tiers without time have no pace. */
	if (device)
		hist_record(&w->m->hist[HIST_PACE(dir, metric_size_class(x->payload_bytes))],
			    (uint64_t)((unsigned __int128)device * MIB / x->payload_bytes));
}

static void count_landing(struct transfer *x, unsigned tier)
{
	enum tier_class class = tier_of(x->worker, tier)->class;
	if (class == TIER_CPU)
		count_add(x->worker, COUNT_OFFLOADS_CPU, 1);
	else if (class == TIER_STORAGE)
		count_add(x->worker, COUNT_OFFLOADS_STORAGE, 1);
}

/* ---- ends ---- */

void transfer_leave(struct transfer *x, bool is_ok)
{
	permit_give(x);
	struct task *t = x->task;
	uint64_t total = is_ok ? x->end_ns - x->issue_ns : 0;
	if (!x->worker->is_draining)
		task_transfer_ended(t, x, total, is_ok);
	transfer_free(x);
}

static void read_finish(struct transfer *x)
{
	struct worker *w = x->worker;
	struct cache_ref dead;
	bool is_ok = !x->error;
	if (is_ok && in_window(w, x->end_ns))
		record_latency(x, x->ref.tier, DIR_READ);
	/* A read cut short by the end of the run says nothing about the entry. */
	enum cache_duty duty = cache_read_end(w->run->setup.cache, &x->ref,
					      is_ok || x->error == -ECANCELED, &dead);
	if (!w->is_draining)
		task_transfer_ended(x->task, x, x->end_ns - x->issue_ns, is_ok);
	if (duty == CACHE_DELETE) {
		w->room_active++;
		transfer_remove(x, &dead);
	} else {
		transfer_free(x);
	}
}

static void write_finish(struct transfer *x)
{
	struct worker *w = x->worker;
	bool is_ok = !x->error;
	if (is_ok && in_window(w, x->end_ns)) {
		record_latency(x, transfer_target_tier(x), DIR_WRITE);
		count_landing(x, transfer_target_tier(x));
	}
	cache_write_done(w->run->setup.cache, &x->plan, x->target.location, is_ok);
	transfer_leave(x, is_ok);
}

static void move_finish(struct transfer *x)
{
	struct worker *w = x->worker;
	struct cache_ref dead;
	bool is_ok = !x->error;
	if (is_ok && in_window(w, x->end_ns)) {
		hist_record(&w->m->hist[HIST_DEMOTE], x->end_ns - x->issue_ns);
		count_add(w, COUNT_DEMOTED_BYTES, x->payload_bytes);
		count_add(w, COUNT_EVICTIONS, 1);
		count_landing(x, transfer_target_tier(x));
		if (tier_of(w, transfer_target_tier(x))->class == TIER_STORAGE)
			count_add(w, COUNT_STORAGE_TOKENS, entry_tokens(w, x->payload_bytes));
	}
	if (cache_step_done(w->run->setup.cache, &x->step, x->target.location, is_ok, &dead) ==
	    CACHE_DELETE) {
		transfer_remove(x, &dead);
	} else {
		w->room_active--;
		transfer_free(x);
	}
}

static void transfer_finish(struct transfer *x)
{
	x->worker->ops_active--;
	if (x->kind == TRANSFER_READ)
		read_finish(x);
	else if (x->kind == TRANSFER_WRITE)
		write_finish(x);
	else
		move_finish(x);
}

static void remove_finish(struct transfer *x)
{
	struct worker *w = x->worker;
	if (x->is_eviction && in_window(w, w->now_ns)) {
		hist_record(&w->m->hist[HIST_DELETE], w->now_ns - x->issue_ns);
		count_add(w, COUNT_EVICTIONS, 1);
		count_add(w, COUNT_DELETED_BYTES, x->ref.payload_bytes);
	}
	/* The copy of an entry that was dropped while it moved has to go the same way. */
	struct cache_ref dead;
	if (cache_freed(w->run->setup.cache, &x->ref, &dead) == CACHE_DELETE) {
		x->is_eviction = false;
		transfer_remove(x, &dead);
		return;
	}
	w->room_active--;
	transfer_free(x);
}

void transfer_remove(struct transfer *x, const struct cache_ref *ref)
{
	x->kind = TRANSFER_DELETE;
	x->ref = *ref;
	transfer_object(&x->source, ref);
	if (tier_is_whole(x->worker, ref->tier))
		remove_finish(x);
	else
		control_submit(x, ref->tier, TIER_DELETE, &x->source, TRANSFER_REMOVE);
}

/* ---- data ---- */

static void whole_write(struct transfer *x)
{
	control_submit(x, transfer_target_tier(x), TIER_WRITE, &x->target, TRANSFER_COMMIT);
}

/* No chunk is in flight any more: give back what is open, last opened first. */
static void transfer_unwind(struct transfer *x)
{
	x->end_ns = x->worker->now_ns;
	if (x->is_source_open)
		control_submit(x, transfer_source_tier(x), TIER_CLOSE, &x->source, TRANSFER_CLOSE);
	else if (x->is_target_open)
		control_submit(x, transfer_target_tier(x), TIER_ABORT, &x->target, TRANSFER_ABORT);
	else
		transfer_finish(x);
}

static void target_create(struct transfer *x)
{
	if (x->kind == TRANSFER_WRITE)
		transfer_object(&x->target, &x->plan.target);
	else
		transfer_object(&x->target, &x->step.target);
	x->is_target_open = true; /* also when it fails: half a file must go */
	control_submit(x, transfer_target_tier(x), TIER_CREATE, &x->target, TRANSFER_CREATE);
}

static void data_begin(struct transfer *x)
{
	x->state = TRANSFER_DATA;
	list_push_back(&x->worker->active, &x->node);
}

static void data_end(struct transfer *x)
{
	if (x->is_source_open)
		control_submit(x, transfer_source_tier(x), TIER_CLOSE, &x->source, TRANSFER_CLOSE);
	else
		control_submit(x, transfer_target_tier(x), TIER_COMMIT, &x->target, TRANSFER_COMMIT);
}

/* The source gave everything: a read is over, a move goes on to its target. */
static void source_end(struct transfer *x)
{
	if (x->kind == TRANSFER_READ) {
		transfer_finish(x);
	} else if (tier_is_whole(x->worker, transfer_target_tier(x))) {
		transfer_object(&x->target, &x->step.target);
		whole_write(x);
	} else {
		control_submit(x, transfer_target_tier(x), TIER_COMMIT, &x->target, TRANSFER_COMMIT);
	}
}

/* After a chunk ended: what now? */
void transfer_continue(struct transfer *x)
{
	if (x->chunks)
		return;
	if (x->error)
		transfer_unwind(x);
	else if (x->done_bytes == x->stored_bytes)
		data_end(x);
	else if (x->wants_sync)
		control_submit(x, transfer_target_tier(x), TIER_SYNC, &x->target, TRANSFER_SYNC);
}

/* ---- control completions ---- */

static void opened(struct transfer *x)
{
	if (in_window(x->worker, x->worker->now_ns)) {
		count_add(x->worker, COUNT_PAGES_SAMPLED, x->control.pages_sampled);
		count_add(x->worker, COUNT_PAGES_RESIDENT, x->control.pages_resident);
	}
	x->is_source_open = !x->control.result;
	if (x->error)
		transfer_unwind(x);
	else if (x->kind == TRANSFER_MOVE && !tier_is_whole(x->worker, transfer_target_tier(x)))
		target_create(x);
	else
		data_begin(x);
}

static void created(struct transfer *x)
{
	if (x->error)
		transfer_unwind(x);
	else
		data_begin(x);
}

static void synced(struct transfer *x)
{
	x->wants_sync = false;
	if (x->control.sync_ns && in_window(x->worker, x->worker->now_ns))
		hist_record(&x->worker->m->hist[HIST_FSYNC], x->control.sync_ns);
	if (x->error) {
		transfer_unwind(x);
		return;
	}
	dirty_settle(x);
	data_begin(x);
}

static void closed(struct transfer *x)
{
	x->is_source_open = false;
	if (x->error)
		transfer_unwind(x);
	else
		source_end(x);
}

static void committed(struct transfer *x)
{
	struct worker *w = x->worker;
	if (x->control.sync_ns && in_window(w, w->now_ns))
		hist_record(&w->m->hist[HIST_FSYNC], x->control.sync_ns);
	if (x->error) {
		unaccount_whole(x, transfer_target_tier(x));
		transfer_unwind(x);
		return;
	}
	x->is_target_open = false;
	x->end_ns = w->now_ns;
	if (x->control.kind == TIER_WRITE && !w->is_draining)
		account_whole(x, transfer_target_tier(x), x->end_ns);
	dirty_settle(x);
	transfer_finish(x);
}

static void aborted(struct transfer *x)
{
	x->is_target_open = false;
	x->worker->dirty_bytes -= x->dirty_bytes;
	x->dirty_bytes = 0;
	transfer_finish(x);
}

static void whole_read_done(struct transfer *x)
{
	x->end_ns = x->worker->now_ns;
	if (x->error) {
		unaccount_whole(x, transfer_source_tier(x));
		transfer_unwind(x);
		return;
	}
	if (!x->worker->is_draining)
		account_whole(x, transfer_source_tier(x), x->end_ns);
	source_end(x);
}

static void control_done(struct transfer *x, unsigned tier)
{
	if (in_window(x->worker, x->worker->now_ns))
		count_add(x->worker, COUNT_RETRIES, x->control.retries);
	if (x->control.result < 0)
		transfer_fail(x, tier, &x->control, NULL);
	switch (x->state) {
	case TRANSFER_OPEN:
		opened(x);
		break;
	case TRANSFER_CREATE:
		created(x);
		break;
	case TRANSFER_DATA:
		whole_read_done(x);
		break;
	case TRANSFER_SYNC:
		synced(x);
		break;
	case TRANSFER_CLOSE:
		closed(x);
		break;
	case TRANSFER_COMMIT:
		committed(x);
		break;
	case TRANSFER_ABORT:
		aborted(x);
		break;
	case TRANSFER_REMOVE:
		remove_finish(x);
		break;
	default:
		assert(!"a control operation ended in a state that has none");
	}
}

/* ---- starting ---- */

enum start_outcome transfer_read(struct worker *w, struct task *t, uint64_t key,
				 enum transfer_purpose purpose)
{
	struct cache_ref ref;
	enum cache_lookup found = cache_read_begin(w->run->setup.cache, key, &ref);
	if (found != CACHE_HIT)
		return found == CACHE_MISS ? START_MISS : START_MISS_IN_FLIGHT;
	struct transfer *x = transfer_new(w, TRANSFER_READ, t, purpose);
	x->ref = ref;
	x->key = key;
	x->payload_bytes = ref.payload_bytes;
	x->stored_bytes = tier_stored_bytes(ref.payload_bytes);
	transfer_object(&x->source, &ref);
	x->is_not_cold = ref.is_shared && tier_of(w, ref.tier)->caps & TIER_CAP_PAGE_CACHE;
	if (x->is_not_cold && in_window(w, w->now_ns))
		count_add(w, COUNT_NOT_COLD_READS, 1);
	transfer_ready(x);
	return START_ISSUED;
}

static void transfer_activate(struct worker *w, struct transfer *x)
{
	w->ops_active++;
	if (x->kind == TRANSFER_WRITE) {
		if (tier_is_whole(w, transfer_target_tier(x))) {
			transfer_object(&x->target, &x->plan.target);
			whole_write(x);
		} else {
			target_create(x);
		}
	} else if (tier_is_whole(w, transfer_source_tier(x))) {
		control_submit(x, transfer_source_tier(x), TIER_READ, &x->source, TRANSFER_DATA);
	} else {
		control_submit(x, transfer_source_tier(x), TIER_OPEN, &x->source, TRANSFER_OPEN);
	}
}

/* ---- the loop's two halves ---- */

bool transfers_pump(struct worker *w)
{
	bool checked = chunks_check(w);
	bool moved = places_pump(w);
	while (w->ops_active < w->ops_max && !list_empty(&w->ready)) {
		transfer_activate(w, list_entry(list_pop_front(&w->ready), struct transfer, node));
		moved = true;
	}
	moved |= chunks_pump(w);
	if (moved && w->io)
		io_flush(w->io);
	return moved || checked;
}

bool transfers_poll(struct worker *w)
{
	bool any = false;
	struct tier_op *done[WORKER_BATCH];
	for (unsigned tier = 0; tier < w->run->setup.tier_count; tier++) {
		if (!w->tier_outstanding[tier])
			continue;
		/* What was copied in this call is bounded by the tier; what a device did is taken in small
		 * portions, so that it gets new work before all of it is looked at. */
		bool is_device = !(tier_of(w, tier)->caps & (TIER_CAP_WHOLE | TIER_CAP_COPIES));
		unsigned max = is_device ? w->run->batch : WORKER_BATCH;
		unsigned n = tier_of(w, tier)->ops->poll(w->tier[tier], w->now_ns, done, max);
		if (!n)
			continue;
		any = true;
		worker_clock(w);
		w->tier_outstanding[tier] -= n;
		for (unsigned i = 0; i < n; i++) {
			if (done[i]->owner)
				chunk_ended(w, done[i]->owner, tier);
			else
				control_done(container_of(done[i], struct transfer, control), tier);
		}
	}
	return any;
}

/* ---- the end of the run ---- */

static bool is_whole_in_flight(const struct transfer *x)
{
	const struct worker *w = x->worker;
	if (x->state == TRANSFER_DATA)
		return x->kind != TRANSFER_WRITE && tier_is_whole(w, transfer_source_tier(x));
	return x->state == TRANSFER_COMMIT && x->control.kind == TIER_WRITE;
}

static bool is_whole_moving(const struct transfer *x)
{
	return is_whole_in_flight(x) && x->control.end_ns > x->control.begin_ns;
}

void transfers_account_whole(struct worker *w, uint64_t until_ns)
{
	for (uint32_t i = 0; i < w->transfer_count; i++) {
		struct transfer *x = &w->transfers[i];
		if (is_whole_moving(x))
			account_whole(x,
				      x->state == TRANSFER_DATA ? transfer_source_tier(x)
								: transfer_target_tier(x),
				      until_ns);
	}
}

void transfers_count_from(struct worker *w, uint64_t from_ns)
{
	w->counted_from_ns = from_ns;
	for (uint32_t i = 0; i < w->transfer_count; i++)
		if (is_whole_moving(&w->transfers[i]))
			w->transfers[i].whole_counted = 0;
}

/* What is only waiting stays where it is; what is nearly done (closing, committing, removing) may finish. */
static void transfer_cancel(struct transfer *x)
{
	if (x->state == TRANSFER_PLACE_WAIT)
		cache_cancel(x->worker->run->setup.cache, &x->plan);
	bool is_cut = x->state == TRANSFER_OPEN || x->state == TRANSFER_CREATE ||
		      x->state == TRANSFER_DATA || x->state == TRANSFER_SYNC;
	if (!is_cut || is_whole_in_flight(x))
		return;
	if (!x->error)
		x->error = -ECANCELED;
	if (x->state != TRANSFER_DATA)
		return;
	if (list_linked(&x->node))
		list_remove(&x->node);
	if (!x->chunks)
		transfer_unwind(x);
}

void transfers_cancel(struct worker *w)
{
	chunks_check_all(w);
	w->is_draining = true;
	for (uint32_t i = 0; i < w->transfer_count; i++)
		transfer_cancel(&w->transfers[i]);
}

/* What comes of it later follows from this and is no error of its own. */
static void op_abandon(struct transfer *x, unsigned tier, const struct tier_op *op)
{
	char what[96];
	snprintf(what, sizeof(what), "no completion within %g s",
		 (double)x->worker->run->setup.drain_ns / 1e9);
	error_tell(x->worker, tier, op, "no completion", what);
	if (!x->error || x->error == -ECANCELED)
		x->error = -ETIMEDOUT;
}

/* Is an operation of @x itself, not of one of its chunks, with a tier? Nobody waits for whole entries, so only those count that never end. */
static bool is_control_abandoned(const struct transfer *x)
{
	if (is_whole_in_flight(x))
		return x->control.end_ns == UINT64_MAX;
	switch (x->state) {
	case TRANSFER_OPEN:
	case TRANSFER_CREATE:
	case TRANSFER_SYNC:
	case TRANSFER_CLOSE:
	case TRANSFER_COMMIT:
	case TRANSFER_ABORT:
	case TRANSFER_REMOVE:
		return true;
	default:
		return false;
	}
}

static unsigned control_tier(const struct transfer *x)
{
	bool is_of_source = x->control.obj == &x->source;
	return is_of_source ? transfer_source_tier(x) : transfer_target_tier(x);
}

void transfers_abandon(struct worker *w)
{
	for (uint32_t i = 0; i < w->chunk_count; i++) {
		struct chunk *c = &w->chunks[i];
		struct transfer *x = c->transfer;
		if (x)
			op_abandon(x, c->is_write ? transfer_target_tier(x) : transfer_source_tier(x), &c->op);
	}
	for (uint32_t i = 0; i < w->transfer_count; i++) {
		struct transfer *x = &w->transfers[i];
		if (is_control_abandoned(x))
			op_abandon(x, control_tier(x), &x->control);
	}
}

bool transfers_idle(const struct worker *w)
{
	for (unsigned tier = 0; tier < w->run->setup.tier_count; tier++)
		if (w->tier_outstanding[tier] && !tier_is_whole(w, tier))
			return false;
	return true;
}
