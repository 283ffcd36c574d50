// SPDX-License-Identifier: Apache-2.0
/*
 * A request as a program of steps (those of the reference), each a list of entries:
 *
 *   synthetic   prefix - earlier turns - prefill write - decode probe - decode reads - generation
 *   trace       blocks of the cached prefix - the other blocks - generation
 *
 * task_advance() issues entries until enough are in flight and moves to the next step when the list is done. No thread waits.
 */
#include "runner/internal.h"

#include <assert.h>
#include <string.h>

#include "base/rng.h"

uint64_t entry_tokens(const struct worker *w, uint64_t payload_bytes)
{
	const struct config *cfg = w->run->setup.cfg;
	return payload_bytes * (uint64_t)cfg->opt.tensor_parallel / cfg->bytes_per_token;
}

static uint64_t entry_bytes(const struct task *t, uint64_t tokens)
{
	return config_entry_bytes(t->worker->run->setup.cfg, tokens);
}

static const struct config_workload *workload_of(const struct task *t)
{
	return &t->worker->run->setup.cfg->workload;
}

static bool is_counted(const struct task *t)
{
	return in_window(t->worker, t->worker->now_ns);
}

/* ---- steps: how many entries, and how each is issued ---- */

/* Roles: a prefill-only run only writes, a decode-only run only reads. */
static const struct config_options *options_of(const struct task *t)
{
	return &t->worker->run->setup.cfg->opt;
}

static bool is_whole_program(const struct task *t)
{
	return !options_of(t)->prefill_only && !options_of(t)->decode_only;
}

static uint32_t prefix_count(const struct task *t)
{
	return t->request.prefix >= 0 && is_whole_program(t);
}

static uint32_t turns_count(const struct task *t)
{
	uint32_t earlier = t->request.turn > 1 && is_whole_program(t) ? t->request.turn - 1 : 0;
	return workload_of(t)->multi_turn_last_only ? MIN(earlier, 1) : earlier;
}

static uint32_t one(const struct task *t)
{
	(void)t;
	return 1;
}

static uint32_t prefill_count(const struct task *t)
{
	return !options_of(t)->decode_only;
}

static bool has_decode(const struct task *t)
{
	return options_of(t)->decode_only ||
	       (t->request.phase == PHASE_BOTH && !options_of(t)->prefill_only);
}

static uint32_t probe_count(const struct task *t)
{
	return has_decode(t);
}

static uint32_t decode_count(const struct task *t)
{
	if (!has_decode(t) || t->has_decode_miss || workload_of(t)->decode_single_read)
		return 0;
	uint32_t batch = workload_of(t)->decode_batch_tokens;
	uint32_t reads = (t->request.generated_tokens + batch - 1) / batch;
	return MAX(reads, 1);
}

static uint32_t blocks_count(const struct task *t)
{
	return options_of(t)->prefill_only ? 0 : t->request.block_count;
}

static uint32_t blocks_left_count(const struct task *t)
{
	return t->request.block_count - t->blocks_hit;
}

/* Hits and misses are counted when they are looked up; a read that then fails is an error beside it. */
static void count_lookup(struct task *t, enum start_outcome found, enum metric_counter label)
{
	if (!is_counted(t))
		return;
	struct worker *w = t->worker;
	if (found == START_ISSUED) {
		count_add(w, COUNT_CACHE_HITS, 1);
		count_add(w, label, 1);
		return;
	}
	count_add(w, COUNT_CACHE_MISSES, 1);
	if (found == START_MISS_IN_FLIGHT)
		count_add(w, COUNT_MISSES_IN_FLIGHT, 1);
}

static bool prefix_issue(struct task *t, uint32_t index)
{
	(void)index;
	struct worker *w = t->worker;
	uint64_t key = key_prefix((uint32_t)t->request.prefix);
	uint64_t bytes = entry_bytes(t, workload_of(t)->prefix_words[t->request.prefix]);
	enum start_outcome found = transfer_read(w, t, key, FOR_PREFIX);
	count_lookup(t, found, COUNT_HITS_SYSTEM);
	if (is_counted(t)) {
		count_add(w, found == START_ISSUED ? COUNT_PREFIX_HITS : COUNT_PREFIX_MISSES, 1);
		if (found == START_ISSUED)
			count_add(w, COUNT_PREFIX_BYTES_SAVED, bytes);
	}
	if (found == START_ISSUED)
		return true;
	/* The reference never writes the prompt, so that it always misses; the honest way is an option. */
	return workload_of(t)->prefix_written &&
	       transfer_write(w, t, key, bytes, FOR_PREFIX_WRITE) == START_ISSUED;
}

static bool turns_issue(struct task *t, uint32_t index)
{
	const struct request *r = &t->request;
	uint32_t turn = workload_of(t)->multi_turn_last_only ? r->turn - 1 : index + 1;
	enum start_outcome found =
		transfer_read(t->worker, t, key_turn(r->user, r->conversation, turn), FOR_TURN);
	count_lookup(t, found, COUNT_HITS_MULTI_TURN);
	if (is_counted(t))
		count_add(t->worker,
			  found == START_ISSUED ? COUNT_MULTI_TURN_HITS : COUNT_MULTI_TURN_MISSES, 1);
	return found == START_ISSUED;
}

static bool prefill_issue(struct task *t, uint32_t index)
{
	(void)index;
	return transfer_write(t->worker, t, t->own_key, entry_bytes(t, t->request.context_tokens),
			      FOR_PREFILL) == START_ISSUED;
}

/* The reference labels the decode reads of a request with a system prompt "system"; the field keeps that meaning. */
static enum start_outcome decode_read(struct task *t)
{
	enum start_outcome found = transfer_read(t->worker, t, t->own_key, FOR_DECODE);
	count_lookup(t, found, t->request.prefix >= 0 ? COUNT_HITS_SYSTEM : COUNT_HITS_USER);
	return found;
}

static bool probe_issue(struct task *t, uint32_t index)
{
	(void)index;
	if (decode_read(t) == START_ISSUED)
		return true;
	t->has_decode_miss = true;
	if (options_of(t)->decode_only)
		return false;
	return transfer_write(t->worker, t, t->own_key, entry_bytes(t, t->request.context_tokens),
			      FOR_DECODE_WRITE) == START_ISSUED;
}

static bool decode_issue(struct task *t, uint32_t index)
{
	(void)index;
	return decode_read(t) == START_ISSUED;
}

/* The longest cached prefix ends at the first block that is not there: no later one is of use. */
static bool block_read_issue(struct task *t, uint32_t index)
{
	enum start_outcome found =
		transfer_read(t->worker, t, key_block(t->request.blocks[index]), FOR_TURN);
	if (found == START_ISSUED) {
		t->blocks_hit++;
		count_lookup(t, found, COUNT_HITS_USER);
		return true;
	}
	t->count = index + 1;
	if (is_counted(t)) {
		count_add(t->worker, COUNT_CACHE_MISSES, t->request.block_count - t->blocks_hit);
		if (found == START_MISS_IN_FLIGHT)
			count_add(t->worker, COUNT_MISSES_IN_FLIGHT, 1);
	}
	return false;
}

static bool block_write_issue(struct task *t, uint32_t index)
{
	uint32_t block = t->blocks_hit + index;
	uint64_t bytes = entry_bytes(t, workload_block_tokens(&t->request, block));
	return transfer_write(t->worker, t, key_block(t->request.blocks[block]), bytes, FOR_PREFILL) ==
	       START_ISSUED;
}

static bool generation_issue(struct task *t, uint32_t index)
{
	(void)index;
	struct worker *w = t->worker;
	t->generation_ns = t->request.generated_tokens * w->run->generation_ns_per_token;
	if (!t->generation_ns)
		return false;
	heap_push(&w->timers, (struct heap_item){.key = w->now_ns + t->generation_ns,
						 .tie = (uint64_t)(t - w->tasks),
						 .value = (uint64_t)(t - w->tasks)});
	return true;
}

static bool fill_issue(struct task *t, uint32_t index)
{
	(void)index;
	return transfer_write(t->worker, t, t->own_key, t->worker->run->fill.payload_bytes, FOR_FILL) ==
	       START_ISSUED;
}

/** One kind of step. issue() starts entry @index; false: there was nothing to wait for. */
static const struct {
	uint32_t (*count)(const struct task *t);
	bool (*issue)(struct task *t, uint32_t index);
	bool is_sequential; /* one entry at a time, whatever --request-parallel says */
	bool needs_transfer;
	enum task_step next;
} steps[] = {
	[STEP_PREFIX] = {prefix_count, prefix_issue, false, true, STEP_TURNS},
	[STEP_TURNS] = {turns_count, turns_issue, false, true, STEP_PREFILL},
	[STEP_PREFILL] = {prefill_count, prefill_issue, false, true, STEP_DECODE_PROBE},
	[STEP_DECODE_PROBE] = {probe_count, probe_issue, false, true, STEP_DECODE},
	/* A decode reads the entry it has just read: at the same time would be one read, not two. */
	[STEP_DECODE] = {decode_count, decode_issue, true, true, STEP_GENERATION},
	[STEP_BLOCKS_READ] = {blocks_count, block_read_issue, false, true, STEP_BLOCKS_WRITE},
	[STEP_BLOCKS_WRITE] = {blocks_left_count, block_write_issue, false, true, STEP_GENERATION},
	[STEP_GENERATION] = {one, generation_issue, false, false, STEP_END},
	[STEP_FILL] = {one, fill_issue, false, true, STEP_END},
};

/* ---- running ---- */

static void step_enter(struct task *t, enum task_step step)
{
	t->step = step;
	t->issued = 0;
	t->count = step == STEP_END ? 0 : steps[step].count(t);
}

/* A decode-only request reads one of the entries written for it: a pure function of who asks, like the rest of its content. */
static uint64_t prepared_key(const struct task *t)
{
	const struct runner_setup *s = &t->worker->run->setup;
	uint64_t user = rng_key(s->seed, t->request.user);
	struct rng r = rng_stream(rng_key(user, t->request.sequence));
	return key_prepared(rng_below(&r, s->prepared));
}

void task_begin_fill(struct task *t, uint64_t number)
{
	t->is_fill = true;
	t->own_key = t->worker->run->fill.key(number);
	step_enter(t, STEP_FILL);
	task_advance(t);
}

/* All that the request will look up is known: the cache may fetch its books of it in one go. */
static void task_prefetch(const struct task *t)
{
	const struct request *r = &t->request;
	uint64_t keys[CACHE_PREFETCH_MAX];
	unsigned n = 0;

	for (uint32_t i = 0; i < r->block_count && n < CACHE_PREFETCH_MAX; i++)
		keys[n++] = key_block(r->blocks[i]);
	if (!r->block_count)
		keys[n++] = t->own_key;
	if (prefix_count(t))
		keys[n++] = key_prefix((uint32_t)r->prefix);
	uint32_t turns = turns_count(t);
	for (uint32_t turn = r->turn - turns; turn < r->turn && n < CACHE_PREFETCH_MAX; turn++)
		keys[n++] = key_turn(r->user, r->conversation, turn);
	cache_prefetch(t->worker->run->setup.cache, keys, n);
}

void task_begin(struct task *t)
{
	const struct request *r = &t->request;
	if (options_of(t)->decode_only)
		t->own_key = prepared_key(t);
	else
		t->own_key = r->turn ? key_turn(r->user, r->conversation, r->turn)
				     : key_request(r->user, r->sequence);
	task_prefetch(t);
	step_enter(t, workload_is_trace(t->worker->run->setup.workload) ? STEP_BLOCKS_READ : STEP_PREFIX);
	task_advance(t);
}

static void sample(struct worker *w, enum metric_hist hist, enum metric_raw raw, uint64_t ns)
{
	hist_record(&w->m->hist[hist], ns);
	if (w->run->setup.cfg->opt.raw_samples)
		metrics_sample(w->m, raw, ns);
}

static void task_record(struct task *t)
{
	struct worker *w = t->worker;
	const struct request *r = &t->request;
	uint64_t now = w->now_ns;
	uint64_t response = now - t->arrival_ns;
	sample(w, HIST_RESPONSE, RAW_RESPONSE, response);
	sample(w, HIST_REQUEST_STORAGE, RAW_STORAGE, t->storage_ns);
	sample(w, HIST_GENERATION, RAW_GENERATION, t->generation_ns);
	if (t->has_prefilled)
		sample(w, HIST_PREFILL, RAW_PREFILL, t->prefill_ns);
	if (t->has_decoded)
		sample(w, HIST_DECODE, RAW_DECODE, t->decode_ns);
	hist_record(&w->m->hist[HIST_QUEUE_WAIT], t->start_ns - t->arrival_ns);
	hist_record(&w->m->hist[HIST_SERVICE], now - t->start_ns);
	hist_record(&w->m->hist[HIST_QOS(r->qos)], response);
	count_add(w, COUNT_REQUESTS_COMPLETED, 1);
	count_add(w, COUNT_TOKENS_GENERATED, r->generated_tokens);
	count_add(w, COUNT_QOS(r->qos, QOS_COMPLETED), 1);
	if ((double)response / 1e6 > w->run->setup.cfg->workload.qos[r->qos].target_p95_ms)
		count_add(w, COUNT_QOS(r->qos, QOS_VIOLATIONS), 1);
}

/* The last one freed is the next one used, as with transfers. */
static void task_free(struct task *t)
{
	t->worker->tasks_busy--;
	list_push_front(&t->worker->tasks_free, &t->node);
}

static void task_end(struct task *t)
{
	struct worker *w = t->worker;
	struct runner *run = w->run;
	if (t->is_fill) {
		task_free(t);
		atomic_fetch_add_explicit(&run->fill_done, 1, memory_order_relaxed);
		return;
	}
	if (is_counted(t)) {
		/* Its latencies are those of an error, not of the storage. */
		if (t->has_failed)
			count_add(w, COUNT_QOS(t->request.qos, QOS_FAILED), 1);
		else
			task_record(t);
		uint64_t limit = (uint64_t)run->setup.cfg->opt.max_requests;
		/* Real time: a moment ahead, so that every worker sees the end before it comes. */
		if (w->now_ns >= run->window_begin_ns &&
		    atomic_fetch_add_explicit(&run->completed, 1, memory_order_relaxed) + 1 == limit)
			run_stop_at(run, w->now_ns + (run->setup.is_virtual ? 0 : NS_PER_MS));
	} else if (w->now_ns >= atomic_load_explicit(&run->stop_ns, memory_order_relaxed)) {
		/* It ended, but after the window, and the worker has not looked at the time yet. */
		count_add(w, COUNT_QOS(t->request.qos, QOS_CANCELLED), 1);
	}
	task_free(t);
	admission_done(&run->admission, &t->request, w->now_ns);
}

/* Transfers are kept back for making room: without them no write could ever get its place. */
static bool transfer_is_free(const struct worker *w)
{
	uint32_t kept = w->room_max > w->room_active ? w->room_max - w->room_active : 0;
	return w->transfers_free_count > kept;
}

void task_advance(struct task *t)
{
	struct worker *w = t->worker;
	while (t->step != STEP_END) {
		uint32_t parallel = steps[t->step].is_sequential ? 1 : w->run->request_parallel;
		while (t->issued < t->count && t->in_flight < parallel) {
			if (steps[t->step].needs_transfer && !transfer_is_free(w)) {
				if (!t->is_hungry)
					list_push_back(&w->hungry, &t->node);
				t->is_hungry = true;
				return;
			}
			if (steps[t->step].issue(t, t->issued++))
				t->in_flight++;
		}
		if (t->in_flight)
			return;
		if (t->issued == t->count)
			step_enter(t, steps[t->step].next);
	}
	task_end(t);
}

void tasks_feed_hungry(struct worker *w)
{
	while (!list_empty(&w->hungry) && transfer_is_free(w)) {
		struct task *t = list_entry(list_pop_front(&w->hungry), struct task, node);
		t->is_hungry = false;
		task_advance(t);
	}
}

void task_generation_over(struct task *t)
{
	t->in_flight--;
	task_advance(t);
}

void task_transfer_ended(struct task *t, const struct transfer *x, uint64_t total_ns, bool is_ok)
{
	struct worker *w = t->worker;
	t->in_flight--;
	bool is_joined_to_failure = x->kind == TRANSFER_WRITE && x->plan.outcome == CACHE_WRITE_FAILED;
	t->has_failed |= x->error || is_joined_to_failure;
	if (is_ok) {
		t->storage_ns += total_ns;
		bool counted = in_window(w, x->end_ns);
		if (x->purpose == FOR_PREFILL || x->purpose == FOR_PREFIX_WRITE ||
		    x->purpose == FOR_DECODE_WRITE) {
			t->prefill_ns += total_ns;
			t->has_prefilled = true;
			if (counted)
				count_add(w, COUNT_PREFILL_WRITES, 1);
		} else if (x->purpose == FOR_DECODE) {
			t->decode_ns += total_ns;
			t->has_decoded = true;
			if (counted)
				count_add(w, COUNT_DECODE_READS, 1);
		}
	}
	if (!t->is_hungry)
		task_advance(t);
}
