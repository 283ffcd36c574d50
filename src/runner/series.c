// SPDX-License-Identifier: Apache-2.0
/*
 * The run as a series over time: bytes per slot for the steady-state verdict, always, and --interval's metrics, when asked for.
 *
 * A worker records into w->m and nobody else looks at it. When the worker's clock passes the end of an interval, it hands that
 * struct over and goes on with an empty one, so that nothing is copied or locked where something is recorded, and the sum of all
 * intervals is the total because there is nothing else to add up. The clock is read before anything is recorded with its time,
 * and read through worker_clock(); so no event is recorded in an earlier interval than its own. (A read that ended just before
 * the end and is recorded after its file was closed counts in the next one.)
 *
 *	run:       | warm-up              | window                                   |
 *	intervals: | 0        | 1        | 2        | 3        | 4        | 5 (rest)  |
 *
 * A worker that finds no empty struct, because the reader is late, keeps its own: its share of that interval counts in the next.
 * On the virtual clock it waits instead, since there nobody can be late.
 */
#include "runner/internal.h"

#include <stdlib.h>

/* ---- where intervals and slots end ---- */

/* The first end of an interval after @ns; warm-up intervals start with the run, the others with the window. */
static uint64_t interval_end_after(const struct runner *r, uint64_t ns)
{
	uint64_t every = r->setup.interval_ns;
	bool is_warmup = ns < r->window_begin_ns;
	uint64_t origin = is_warmup ? r->start_ns : r->window_begin_ns;
	uint64_t end = origin + ((ns - origin) / every + 1) * every;

	return is_warmup ? MIN(end, r->window_begin_ns) : end;
}

static uint64_t slot_end(const struct worker *w)
{
	return w->run->window_begin_ns + (w->slots + 1) * w->run->slot_ns;
}

static void boundary_set(struct worker *w)
{
	w->boundary_ns = w->slots < RUNNER_SLOTS_MAX ? slot_end(w) : UINT64_MAX;
	if (w->run->setup.interval_ns)
		w->boundary_ns = MIN(w->boundary_ns, w->interval_end_ns);
}

/* ---- a worker's side ---- */

int series_init(struct worker *w)
{
	if (!w->run->setup.interval_ns)
		return 0;
	for (unsigned i = 0; i < SERIES_PIECES; i++)
		if (!(w->spare[w->spares++] = metrics_new()))
			return -ENOMEM;
	if (!w->run->setup.warmup_ns)
		return 0;
	w->window_m = w->m;
	w->m = w->spare[--w->spares];
	return 0;
}

void series_release(struct worker *w)
{
	while (w->spares)
		metrics_free(w->spare[--w->spares]);
	while (w->pieces)
		metrics_free(w->piece[--w->pieces].m);
	metrics_free(w->window_m);
}

void series_start(struct worker *w)
{
	const struct runner *r = w->run;
	bool counts_warmup = r->setup.interval_ns && r->setup.warmup_ns;

	w->counted_from_ns = counts_warmup ? r->start_ns : r->window_begin_ns;
	if (r->setup.interval_ns)
		w->interval_end_ns = interval_end_after(r, r->start_ns);
	boundary_set(w);
}

uint64_t series_count(const struct worker *w, enum metric_counter c)
{
	return w->handed_over[c] + w->m->count[c];
}

static void slot_close(struct worker *w)
{
	for (unsigned t = 0; t < TIER_CLASSES; t++) {
		uint64_t bytes = series_count(w, COUNT_TIER_BYTES(t, DIR_READ)) +
				 series_count(w, COUNT_TIER_BYTES(t, DIR_WRITE));
		/* Fewer than before: a transfer that had been counted failed. */
		w->slot_bytes[w->slots][t] = bytes > w->slot_base[t] ? bytes - w->slot_base[t] : 0;
		w->slot_base[t] = bytes;
	}
	w->slots++;
}

static struct runner_load load_of(struct worker *w)
{
	struct runner_load load = {.in_service = w->tasks_busy, .transfers = w->ops_active};

	for (unsigned i = 0; i < w->run->setup.tier_count; i++)
		load.tier_ops += w->tier_outstanding[i];
	if (!w->index) {
		load.waiting = admission_waiting(&w->run->admission);
		load.errors = error_log_total(w->run->setup.errors);
	}
	return load;
}

/* With the runner's lock held. The window's own metrics are kept for the window. */
static struct metrics *spare_take(struct worker *w)
{
	struct runner *r = w->run;

	if (w->window_m && w->interval_end_ns == r->window_begin_ns) {
		struct metrics *m = w->window_m;
		w->window_m = NULL;
		return m;
	}
	while (!w->spares && r->setup.is_virtual && !atomic_load(&r->is_quit))
		pthread_cond_wait(&r->cond, &r->lock);
	return w->spares ? w->spare[--w->spares] : NULL;
}

static void interval_close(struct worker *w)
{
	struct runner *r = w->run;
	struct runner_load load = load_of(w);
	bool is_window_next = w->interval_end_ns == r->window_begin_ns;

	pthread_mutex_lock(&r->lock);
	struct metrics *empty = spare_take(w);
	if (empty) {
		w->piece[w->pieces++] = (struct series_piece){w->m, w->intervals, load};
		if (!is_window_next)
			for (unsigned c = 0; c < METRIC_COUNTER_COUNT; c++)
				w->handed_over[c] += w->m->count[c];
		w->m = empty;
	}
	w->intervals++;
	pthread_cond_broadcast(&r->cond);
	pthread_mutex_unlock(&r->lock);
	if (is_window_next) {
		for (unsigned c = 0; c < METRIC_COUNTER_COUNT; c++)
			w->handed_over[c] = 0;
		transfers_count_from(w, r->window_begin_ns);
	}
	w->interval_end_ns = interval_end_after(r, w->interval_end_ns);
}

void series_cross(struct worker *w)
{
	uint64_t stop = atomic_load_explicit(&w->run->stop_ns, memory_order_relaxed);

	while (w->boundary_ns <= w->now_ns && w->boundary_ns < stop) {
		transfers_account_whole(w, w->boundary_ns);
		if (w->slots < RUNNER_SLOTS_MAX && w->boundary_ns == slot_end(w))
			slot_close(w);
		if (w->run->setup.interval_ns && w->boundary_ns == w->interval_end_ns)
			interval_close(w);
		boundary_set(w);
	}
}

void series_close(struct worker *w)
{
	uint64_t stop = atomic_load(&w->run->stop_ns);

	series_cross(w);
	transfers_account_whole(w, stop);
	if (w->slots < RUNNER_SLOTS_MAX && slot_end(w) <= stop)
		slot_close(w);
	/* The run ended in its warm-up: what was recorded counts as that, and the window stays empty. */
	if (w->window_m) {
		w->interval_end_ns = w->run->window_begin_ns;
		interval_close(w);
	}
	w->load = load_of(w);
}

/* ---- the reader's side ---- */

static void load_add(struct runner_load *to, const struct runner_load *from)
{
	to->in_service += from->in_service;
	to->waiting += from->waiting;
	to->transfers += from->transfers;
	to->tier_ops += from->tier_ops;
	to->errors += from->errors;
}

static int pieces_take(struct runner *r, struct worker *w, bool is_last, struct runner_interval *ret)
{
	int rc = 0;

	while (w->pieces && (is_last || w->piece[0].number <= ret->number)) {
		struct series_piece piece = w->piece[0];
		for (unsigned i = 1; i < w->pieces; i++)
			w->piece[i - 1] = w->piece[i];
		w->pieces--;
		pthread_mutex_unlock(&r->lock);
		rc = rc ? rc : metrics_merge(r->interval_m, piece.m);
		metrics_clear(piece.m);
		load_add(&ret->load, &piece.load);
		pthread_mutex_lock(&r->lock);
		w->spare[w->spares++] = piece.m;
	}
	pthread_cond_broadcast(&r->cond);
	return rc;
}

static bool interval_is_ready(const struct runner *r, uint64_t number)
{
	for (uint32_t i = 0; i < r->worker_count; i++)
		if (r->workers[i].intervals <= number)
			return false;
	return true;
}

static int interval_collect(struct runner *r, bool is_last, struct runner_interval *ret)
{
	int rc = 0;

	metrics_clear(r->interval_m);
	for (uint32_t i = 0; i < r->worker_count && !rc; i++) {
		struct worker *w = &r->workers[i];
		rc = pieces_take(r, w, is_last && !ret->is_warmup, ret);
		if (is_last && !ret->is_warmup) {
			rc = rc ? rc : metrics_merge(r->interval_m, w->m);
			load_add(&ret->load, &w->load);
		}
	}
	return rc || ret->is_warmup ? rc : metrics_merge(r->counted_m, r->interval_m);
}

int runner_next_interval(struct runner *r, struct runner_interval *ret)
{
	pthread_mutex_lock(&r->lock);
	uint64_t stop = atomic_load(&r->stop_ns);
	uint64_t begin = r->interval_begin_ns;
	bool is_over = r->finished_workers == r->worker_count;
	bool is_ready = r->has_started && r->setup.interval_ns && !r->has_last_interval &&
			(is_over || interval_is_ready(r, r->intervals));
	int rc = 0;

	if (is_ready) {
		uint64_t end = interval_end_after(r, begin);
		bool is_last = is_over && end >= stop;
		*ret = (struct runner_interval){
			.number = r->intervals++,
			.begin_ns = begin - r->start_ns,
			.end_ns = (is_last ? MAX(stop, begin) : end) - r->start_ns,
			.is_warmup = begin < r->window_begin_ns,
			.m = r->interval_m,
		};
		rc = interval_collect(r, is_last, ret);
		r->interval_begin_ns = end;
		r->has_last_interval = is_last;
	}
	pthread_mutex_unlock(&r->lock);
	return rc ? rc : is_ready;
}

int series_open(struct runner *r)
{
	/* A whole number of seconds, so that slots of runs of one length compare. */
	uint64_t slot_s = (r->setup.duration_ns / NS_PER_S + RUNNER_SLOTS_MAX - 1) / RUNNER_SLOTS_MAX;

	r->slot_ns = MAX(slot_s, 1) * NS_PER_S;
	if (!r->setup.interval_ns)
		return 0;
	r->interval_m = metrics_new();
	r->counted_m = metrics_new();
	return r->interval_m && r->counted_m ? 0 : -ENOMEM;
}

void series_free(struct runner *r)
{
	metrics_free(r->interval_m);
	metrics_free(r->counted_m);
}

int series_sum(const struct runner *r, struct metrics *ret, struct runner_outcome *outcome)
{
	outcome->slot_ns = r->slot_ns;
	outcome->slots = RUNNER_SLOTS_MAX;
	for (uint32_t i = 0; i < r->worker_count; i++) {
		const struct worker *w = &r->workers[i];
		outcome->slots = MIN(outcome->slots, w->slots);
		for (unsigned s = 0; s < w->slots; s++)
			for (unsigned t = 0; t < TIER_CLASSES; t++)
				outcome->slot_bytes[s][t] += w->slot_bytes[s][t];
	}
	if (r->has_last_interval)
		return metrics_merge(ret, r->counted_m);
	int rc = 0;
	for (uint32_t i = 0; i < r->worker_count && !rc; i++)
		rc = metrics_merge(ret, r->workers[i].m);
	return rc;
}
