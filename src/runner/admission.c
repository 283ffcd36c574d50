// SPDX-License-Identifier: Apache-2.0
/*
 * Who is served next. The queue holds users, not requests: a user's stream can be replayed from a cursor, so an overload of any
 * length costs no memory. Each user is in one place: in the timers (its next request is not due), in the ready heap of its
 * level (it is), or nowhere (closed loop, being served). Arrivals behind the first unserved one are only ever counted.
 */
#include "runner/internal.h"

#include <assert.h>
#include <stdlib.h>

/* All rows of a trace are of one level. */
#define QOS_OF_TRACE QOS_INTERACTIVE

static void user_schedule(struct admission *a, uint32_t user, uint64_t now_ns)
{
	uint64_t at = a->users[user].next_arrival_ns;
	struct heap *h = at <= now_ns ? &a->ready[workload_qos(a->workload, user)] : &a->timers;
	heap_push(h, (struct heap_item){.key = at, .tie = user, .value = user});
}

static int admission_init_users(struct admission *a)
{
	a->users = calloc(a->user_count, sizeof(*a->users));
	if (!a->users)
		return -ENOMEM;
	uint32_t per_level[QOS_COUNT] = {0};
	for (uint32_t u = 0; u < a->user_count; u++)
		per_level[workload_qos(a->workload, u)]++;
	int rc = heap_init(&a->timers, a->user_count);
	for (int q = 0; q < QOS_COUNT && !rc; q++)
		rc = heap_init(&a->ready[q], per_level[q]);
	if (rc)
		return rc;
	for (uint32_t u = 0; u < a->user_count; u++) {
		uint64_t first = workload_gap_ns(a->workload, u, 0);
		a->users[u].next_arrival_ns = first;
		user_schedule(a, u, 0);
	}
	return 0;
}

int admission_init(struct admission *a, const struct runner_setup *setup)
{
	*a = (struct admission){
		.workload = setup->workload,
		.cfg = setup->cfg,
		.in_service_max = setup->in_service_max,
		.is_trace = workload_is_trace(setup->workload),
		.is_closed_loop = setup->cfg->workload.arrival == ARRIVAL_CLOSED,
		.user_count = workload_streams(setup->workload),
	};
	lock_init(&a->lock);
	if (!a->is_trace)
		return admission_init_users(a); /* due_ns is 0: the first take looks */
	a->users = calloc(1, sizeof(*a->users));
	return a->users ? 0 : -ENOMEM;
}

/* What is due when stays in the same order: the heaps only move as a whole. */
static void heap_shift(struct heap *h, uint64_t by)
{
	for (uint32_t i = 0; i < h->count; i++)
		h->v[i].key += by;
}

void admission_start(struct admission *a, uint64_t start_ns, uint64_t window_begin_ns)
{
	pthread_mutex_lock(&a->lock);
	a->start_ns = start_ns;
	a->window_begin_ns = window_begin_ns;
	heap_shift(&a->timers, start_ns);
	for (int q = 0; q < QOS_COUNT; q++)
		heap_shift(&a->ready[q], start_ns);
	for (uint32_t u = 0; u < a->user_count && !a->is_trace; u++)
		a->users[u].next_arrival_ns += start_ns;
	pthread_mutex_unlock(&a->lock);
}

void admission_release(struct admission *a)
{
	if (!a->workload)
		return;
	heap_release(&a->timers);
	for (int q = 0; q < QOS_COUNT; q++)
		heap_release(&a->ready[q]);
	request_release(&a->head);
	free(a->users);
	pthread_mutex_destroy(&a->lock);
	*a = (struct admission){0};
}

/* "As fast as service allows" has none: a request arrives when it is taken. */
static bool trace_has_schedule(const struct admission *a)
{
	return a->cfg->opt.trace_speedup > 0;
}

/* Read ahead to the first usable row; bad ones are counted and passed over. */
static void trace_fill_head(struct admission *a)
{
	while (!a->has_head && !a->is_exhausted) {
		int rc = workload_next(a->workload, 0, &a->users[0].served, &a->head);
		if (rc == 0) {
			a->has_head = true;
			a->head_arrival_ns = a->start_ns + a->users[0].served.gap_sum_ns;
		} else if (rc == -EINVAL) {
			a->bad_rows++;
		} else {
			a->is_exhausted = true;
			if (rc != -ENODATA)
				a->bad_rows++;
		}
	}
}

static bool trace_take(struct admission *a, uint64_t now_ns, struct request *r,
		       uint64_t *ret_arrival_ns)
{
	trace_fill_head(a);
	if (!a->has_head || a->head_arrival_ns > now_ns)
		return false;
	struct request old = *r; /* swap, so that both keep a block buffer */
	*r = a->head;
	a->head = old;
	a->has_head = false;
	*ret_arrival_ns = trace_has_schedule(a) ? a->head_arrival_ns : now_ns;
	return true;
}

static void timers_expire(struct admission *a, uint64_t now_ns)
{
	while (heap_min_key(&a->timers) <= now_ns)
		user_schedule(a, (uint32_t)heap_pop(&a->timers).value, now_ns);
}

/* Strict priority, or, as an option of the workload, the level whose head has waited longest for its target. */
static int level_pick(const struct admission *a, uint64_t now_ns)
{
	const struct config_workload *w = &a->cfg->workload;
	int best = -1;
	double best_rank = 0;
	for (int q = 0; q < QOS_COUNT; q++) {
		/* Another worker, whose clock was read later, may have found it due already. */
		if (!a->ready[q].count || heap_min_key(&a->ready[q]) > now_ns)
			continue;
		double age_ms = (double)(now_ns - heap_min_key(&a->ready[q])) / 1e6;
		double rank = w->priority_aging ? age_ms / w->qos[q].target_p95_ms
						: (double)w->qos[q].priority;
		if (best < 0 || rank > best_rank) {
			best = q;
			best_rank = rank;
		}
	}
	return best;
}

static bool user_take(struct admission *a, uint64_t now_ns, struct request *r,
		      uint64_t *ret_arrival_ns)
{
	timers_expire(a, now_ns);
	int level = level_pick(a, now_ns);
	if (level < 0)
		return false;
	uint32_t u = (uint32_t)heap_pop(&a->ready[level]).value;
	struct admission_user *user = &a->users[u];
	int rc = workload_next(a->workload, u, &user->served, r);
	assert(rc == 0);
	(void)rc;
	*ret_arrival_ns = user->next_arrival_ns;
	if (a->is_closed_loop) {
		user->next_arrival_ns = UINT64_MAX; /* not known before this request ends */
	} else {
		user->next_arrival_ns += workload_gap_ns(a->workload, u, user->served.sequence);
		user_schedule(a, u, now_ns);
	}
	return true;
}

/* With the lock held, after anything that could change it. */
static void due_update(struct admission *a)
{
	uint64_t due;
	if (a->in_service >= a->in_service_max) {
		due = UINT64_MAX;
	} else if (a->is_trace) {
		trace_fill_head(a);
		due = a->has_head ? a->head_arrival_ns : UINT64_MAX;
	} else {
		due = heap_min_key(&a->timers);
		for (int q = 0; q < QOS_COUNT; q++)
			if (a->ready[q].count)
				due = 0;
	}
	if (atomic_load_explicit(&a->due_ns, memory_order_relaxed) != due)
		atomic_store_explicit(&a->due_ns, due, memory_order_relaxed);
}

bool admission_take(struct admission *a, uint64_t now_ns, struct request *r,
		    uint64_t *ret_arrival_ns)
{
	if (admission_deadline(a) > now_ns)
		return false;
	pthread_mutex_lock(&a->lock);
	bool taken = a->in_service < a->in_service_max &&
		     (a->is_trace ? trace_take(a, now_ns, r, ret_arrival_ns)
				  : user_take(a, now_ns, r, ret_arrival_ns));
	if (taken) {
		a->in_service++;
		a->admitted[r->qos]++;
		a->due_before[r->qos] += *ret_arrival_ns < a->window_begin_ns;
	}
	due_update(a);
	pthread_mutex_unlock(&a->lock);
	return taken;
}

void admission_done(struct admission *a, const struct request *r, uint64_t now_ns)
{
	pthread_mutex_lock(&a->lock);
	a->in_service--;
	if (a->is_closed_loop && !a->is_trace) {
		struct admission_user *user = &a->users[r->user];
		user->next_arrival_ns =
			now_ns + workload_gap_ns(a->workload, r->user, user->served.sequence);
		user_schedule(a, r->user, now_ns);
	}
	due_update(a);
	pthread_mutex_unlock(&a->lock);
}

uint64_t admission_deadline(struct admission *a)
{
	return atomic_load_explicit(&a->due_ns, memory_order_relaxed);
}

bool admission_is_over(struct admission *a)
{
	if (!a->is_trace)
		return false;
	pthread_mutex_lock(&a->lock);
	bool over = a->is_exhausted && !a->has_head && !a->in_service;
	pthread_mutex_unlock(&a->lock);
	return over;
}

uint32_t admission_waiting(struct admission *a)
{
	pthread_mutex_lock(&a->lock);
	uint32_t n = a->has_head;
	for (int q = 0; q < QOS_COUNT; q++)
		n += a->ready[q].count;
	pthread_mutex_unlock(&a->lock);
	return n;
}

/* What was due before @end_ns and nobody took: how many, how many of them before the window, and the age of the first. */
struct leftover {
	uint64_t count, before_window, oldest_age_ns;
};

static void leftover_add(const struct admission *a, struct leftover *l, uint64_t due_ns, uint64_t end_ns)
{
	l->count++;
	l->before_window += due_ns < a->window_begin_ns;
	l->oldest_age_ns = MAX(l->oldest_age_ns, end_ns - due_ns);
}

/* Open loop: arrivals behind the first are walked over here, once in a run, by their gaps alone. */
static void user_left_over(const struct admission *a, uint32_t u, uint64_t end_ns, struct leftover *l)
{
	uint64_t due = a->users[u].next_arrival_ns;
	for (uint64_t n = a->users[u].served.sequence; due < end_ns;) {
		leftover_add(a, l, due, end_ns);
		if (a->is_closed_loop)
			return;
		due += workload_gap_ns(a->workload, u, ++n);
	}
}

/* A trace's rows that were due and never taken: read on to the end of the window. */
static void trace_left_over(struct admission *a, uint64_t end_ns, struct leftover *l)
{
	trace_fill_head(a);
	while (trace_has_schedule(a) && a->has_head && a->head_arrival_ns < end_ns) {
		leftover_add(a, l, a->head_arrival_ns, end_ns);
		a->has_head = false;
		trace_fill_head(a);
	}
}

void admission_count(struct admission *a, uint64_t end_ns, struct metrics *m)
{
	struct leftover left[QOS_COUNT] = {0};
	pthread_mutex_lock(&a->lock);
	if (a->is_trace)
		trace_left_over(a, end_ns, &left[QOS_OF_TRACE]);
	for (uint32_t u = 0; u < a->user_count && !a->is_trace; u++)
		user_left_over(a, u, end_ns, &left[workload_qos(a->workload, u)]);
	for (int q = 0; q < QOS_COUNT; q++) {
		a->due_before[q] += left[q].before_window;
		/* Ended in the warm-up: there was no window to offer anything in. */
		if (end_ns > a->window_begin_ns)
			m->count[COUNT_QOS(q, QOS_OFFERED)] +=
				a->admitted[q] + left[q].count - a->due_before[q];
		m->count[COUNT_QOS(q, QOS_QUEUED_AT_END)] += left[q].count;
		m->oldest_age_ns[q] = MAX(m->oldest_age_ns[q], left[q].oldest_age_ns);
	}
	m->count[COUNT_TRACE_ROWS_UNUSABLE] += a->bad_rows;
	pthread_mutex_unlock(&a->lock);
}
