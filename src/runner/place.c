// SPDX-License-Identifier: Apache-2.0
/*
 * Where an entry is written: the cache's plan, the moves and deletions that make its room, and the waits on the way. No thread
 * waits: a transfer that cannot go on is left alone until mail comes for it.
 */
#include "runner/internal.h"

#include <string.h>

static bool room_has_slot(const struct worker *w)
{
	return w->room_active < w->room_max && w->transfers_free_count > 0;
}

static void step_start(struct worker *w, const struct cache_step *step)
{
	struct transfer *x = transfer_new(w, step->to < 0 ? TRANSFER_DELETE : TRANSFER_MOVE, NULL,
					  FOR_ROOM);
	x->key = step->source.key;
	x->payload_bytes = step->source.payload_bytes;
	x->stored_bytes = tier_stored_bytes(x->payload_bytes);
	w->room_active++;
	if (step->to < 0) {
		x->is_eviction = true;
		transfer_remove(x, &step->source);
		return;
	}
	x->step = *step;
	transfer_object(&x->source, &step->source);
	transfer_ready(x);
}

static void plan_pump(struct transfer *x)
{
	struct worker *w = x->worker;
	for (;;) {
		if (!room_has_slot(w)) {
			if (!list_linked(&x->node))
				list_push_back(&w->planning, &x->node);
			return;
		}
		struct cache_step step;
		switch (cache_plan_next(w->run->setup.cache, &x->plan, &step)) {
		case CACHE_STEP:
			step_start(w, &step);
			break;
		case CACHE_STEP_WAIT:
			return;
		case CACHE_READY:
			/* Room-making has its own latencies; the write's begins here. */
			x->issue_ns = w->now_ns;
			transfer_ready(x);
			return;
		}
	}
}

static void write_planned(struct transfer *x)
{
	if (x->plan.passed_over && in_window(x->worker, x->worker->now_ns))
		count_add(x->worker, COUNT_PASSED_OVER, x->plan.passed_over);
	x->state = TRANSFER_STEPS;
	plan_pump(x);
}

/* Place the entry. Return: does the transfer go on (now or after a wait)? If not, it is the caller's to free. */
static bool write_place(struct transfer *x)
{
	struct worker *w = x->worker;
	memset(&x->plan, 0, sizeof(x->plan));
	x->plan.wake = transfer_wake;
	x->plan.owner = x;
	if (x->purpose == FOR_FILL)
		x->plan.first_tier = w->run->fill.first_tier;
	bool is_counted = in_window(w, w->now_ns);
	x->state = TRANSFER_PLACE_WAIT;
	switch (cache_write_begin(w->run->setup.cache, x->key, x->payload_bytes, &x->plan)) {
	case CACHE_WRITE_PLANNED:
		write_planned(x);
		return true;
	case CACHE_WRITE_JOINED:
		if (is_counted)
			count_add(w, COUNT_JOINED_WRITES, 1);
		return true;
	case CACHE_WRITE_WAITING:
		return true;
	case CACHE_WRITE_RESIDENT:
		if (is_counted)
			count_add(w, COUNT_RESIDENT_WRITES, 1);
		return false;
	case CACHE_WRITE_TOO_LARGE:
		if (is_counted)
			count_add(w, COUNT_REFUSED_TOO_LARGE, 1);
		return false;
	case CACHE_WRITE_FULL:
		error_log_add(w->run->setup.errors, "cache index: full",
			      "more live entries than were reserved for: the entry was not stored");
		x->task->has_failed = true;
		return false;
	case CACHE_WRITE_EMPTY:
	case CACHE_WRITE_FAILED:
		return false;
	}
	return false;
}

enum start_outcome transfer_write(struct worker *w, struct task *t, uint64_t key,
				  uint64_t payload_bytes, enum transfer_purpose purpose)
{
	struct transfer *x = transfer_new(w, TRANSFER_WRITE, t, purpose);
	x->key = key;
	x->payload_bytes = payload_bytes;
	x->stored_bytes = tier_stored_bytes(payload_bytes);
	x->state = TRANSFER_PERMIT;
	if (!permit_take(x))
		return START_ISSUED;
	if (write_place(x))
		return START_ISSUED;
	permit_give(x);
	transfer_free(x);
	return START_NONE;
}

void transfer_wake(struct cache_plan *plan)
{
	worker_post(plan->owner);
}

void transfer_poke(struct transfer *x)
{
	if (x->state == TRANSFER_PERMIT) {
		if (!write_place(x))
			transfer_leave(x, false);
	} else if (x->state == TRANSFER_STEPS) {
		if (!list_linked(&x->node))
			plan_pump(x);
	} else if (x->state == TRANSFER_PLACE_WAIT) {
		if (x->plan.outcome == CACHE_WRITE_PLANNED)
			write_planned(x);
		else
			transfer_leave(x, false); /* the writer it joined is done */
	}
}

bool places_pump(struct worker *w)
{
	bool moved = false;
	while (!list_empty(&w->planning) && room_has_slot(w)) {
		plan_pump(list_entry(list_pop_front(&w->planning), struct transfer, node));
		moved = true;
	}
	return moved;
}
