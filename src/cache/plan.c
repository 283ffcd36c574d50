// SPDX-License-Identifier: Apache-2.0
/*
 * How room is made: which entries must leave, where they go, and when the room is really there.
 *
 * A plan is made in one go under the lock. Each tier keeps two sums: used (bytes that are there, and promises) and outgoing (the
 * part of it whose deletion is decided). committed = used - outgoing is what the tier will hold when everything planned so far is
 * done, and it is what the thresholds look at. So a victim that one plan took is room for the next one too, and two plans never
 * evict twice for the same bytes.
 *
 * But then a plan may be promised bytes that another one has still to free. A tier therefore counts, since the start, the bytes it
 * promised and the bytes it got back. A promise has the number of its last byte as its ticket:
 *
 *	promised:  |---------- kept ----------|-- plan 7 --|-- plan 8 --|
 *	free up to:                      limit + freed ^        ^ ticket of 8
 *
 * It is good when ticket <= limit + freed: plan 7 may copy or write, 8 waits on level->claims. Nobody overtakes, the bytes there
 * never exceed the limit, and there is no circle: a promise waits for deletions decided before it, those wait for copies into a
 * deeper tier, and deletions at the bottom wait for nothing. A promise is only given back after it was good, or else a later one
 * would be counted as free room for an earlier one.
 *
 * The last tier and its FIFO. A plan that finds no room in any tier waits for the last one, and only for that: the upper tiers were
 * passed over when it came. While a plan waits nobody else is promised bytes there: a newcomer may go into an upper tier if that
 * needs no demotion into the last one, and queues otherwise. The head is tried at each release; whether it can be placed is a
 * comparison of sums, since every entry on the last LRU list may be deleted.
 */
#include "cache/internal.h"

static uint64_t level_committed(const struct level *l)
{
	return l->used - l->outgoing;
}

bool level_fits(const struct cache *c, const struct level *l, uint64_t committed, uint64_t bytes)
{
	if (committed + bytes > l->tier.limit_bytes)
		return false;
	return l == &c->level[c->level_count - 1] || committed + bytes <= l->target_bytes ||
	       committed < l->near_empty_bytes;
}

static bool level_is_barred(const struct cache *c, const struct cache_plan *plan)
{
	return !list_empty(&c->fifo) && c->fifo.next != &plan->node;
}

/* Can evicting make room at all? Not when pinned bytes leave too little, nor when a large entry
 * would empty a nearly empty tier. */
static bool level_may_make_room(const struct cache *c, const struct level *l, uint64_t bytes)
{
	uint64_t committed = level_committed(l);
	if (!level_fits(c, l, committed - l->lru_bytes, bytes))
		return false;
	return l == &c->level[c->level_count - 1] || committed >= l->bail_used_bytes ||
	       bytes <= l->bail_required_bytes;
}

/* Where a victim of tier @t goes: the next tier that takes entries of its size. */
static unsigned victim_destination(const struct cache *c, unsigned t, const struct entry *e)
{
	do
		t++;
	while (t + 1 < c->level_count &&
	       footprint(&c->level[t], e->payload_bytes) > c->level[t].large_bytes);
	return t;
}

static void victim_take(struct cache *c, struct cache_plan *plan, struct entry *e, int to)
{
	struct level *l = &c->level[e->tier];
	struct cache_claim *claim = &plan->claim[e->tier];

	lru_remove(c, e);
	l->outgoing += footprint(l, e->payload_bytes);
	e->state = to < 0 ? ENTRY_DOOMED : ENTRY_QUEUED;
	e->other = (uint8_t)(to < 0 ? 0 : to);
	e->plan = plan;
	e->prev = claim->tail;
	e->next = NO_ENTRY;
	if (claim->tail == NO_ENTRY)
		claim->head = entry_number(c, e);
	else
		entry_at(c, claim->tail)->next = entry_number(c, e);
	claim->tail = entry_number(c, e);
	claim->count++;
}

static bool make_room(struct cache *c, struct cache_plan *plan, unsigned t, uint64_t bytes);

static bool evict_one(struct cache *c, struct cache_plan *plan, unsigned t)
{
	struct entry *e = lru_oldest(c, &c->level[t]);
	if (!e)
		return false;
	if (t + 1 == c->level_count) {
		victim_take(c, plan, e, -1);
		return true;
	}
	if (plan->claim[t].count == CACHE_VICTIMS_MAX)
		return false;
	unsigned to = victim_destination(c, t, e);
	if (!make_room(c, plan, to, footprint(&c->level[to], e->payload_bytes)))
		return false;
	victim_take(c, plan, e, (int)to);
	return true;
}

static bool make_room(struct cache *c, struct cache_plan *plan, unsigned t, uint64_t bytes)
{
	struct level *l = &c->level[t];
	bool is_last = t + 1 == c->level_count;

	if (is_last ? level_is_barred(c, plan) : bytes > l->large_bytes)
		return false;
	if (!level_fits(c, l, level_committed(l), bytes)) {
		if (!level_may_make_room(c, l, bytes))
			return false;
		do {
			if (!evict_one(c, plan, t))
				return false;
		} while (!level_fits(c, l, level_committed(l), bytes));
	}
	l->used += bytes;
	plan->claim[t].is_reserved = true;
	return true;
}

/* Undo: the victims return to the heads of their lists, last taken first, so that the order is the
 * old one. */
static void plan_roll_back(struct cache *c, struct cache_plan *plan)
{
	for (unsigned t = 0; t < c->level_count; t++) {
		struct cache_claim *claim = &plan->claim[t];
		struct level *l = &c->level[t];
		while (claim->tail != NO_ENTRY) {
			struct entry *e = entry_at(c, claim->tail);
			claim->tail = e->prev;
			if (e->state == ENTRY_QUEUED) {
				struct level *to = &c->level[e->other];
				to->used -= footprint(to, e->payload_bytes);
			}
			l->outgoing -= footprint(l, e->payload_bytes);
			e->state = ENTRY_RESIDENT;
			e->plan = NULL;
			lru_push_oldest(c, e);
		}
		claim->head = NO_ENTRY;
		claim->count = 0;
		claim->is_reserved = false;
	}
}

/* Deleted victims leave the index now: a read after this misses, a write of the key is a new entry.
 */
static void plan_unindex_victims(struct cache *c, const struct cache_plan *plan)
{
	unsigned last = c->level_count - 1;
	for (uint32_t i = plan->claim[last].head; i != NO_ENTRY; i = entry_at(c, i)->next)
		index_remove(c, entry_at(c, i));
	c->level[last].entries -= plan->claim[last].count;
}

static void plan_take_tickets(struct cache *c, struct cache_plan *plan)
{
	for (unsigned t = 0; t < c->level_count; t++) {
		struct level *l = &c->level[t];
		plan->pending += plan->claim[t].count;
		if (!plan->claim[t].is_reserved || l->used <= l->tier.limit_bytes)
			continue;
		plan->claim[t].ticket = l->freed + l->used;
		list_push_back(&l->claims, &plan->claim[t].node);
	}
}

bool plan_place(struct cache *c, struct cache_plan *plan, unsigned t)
{
	struct entry *e = entry_at(c, plan->target.entry);

	if (!make_room(c, plan, t, footprint(&c->level[t], e->payload_bytes))) {
		plan_roll_back(c, plan);
		return false;
	}
	plan_unindex_victims(c, plan);
	plan_take_tickets(c, plan);
	e->state = ENTRY_WRITING;
	e->tier = (uint8_t)t;
	entry_ref(c, e, &plan->target);
	plan->outcome = CACHE_WRITE_PLANNED;
	return true;
}

void plan_retry_waiting(struct cache *c)
{
	while (!list_empty(&c->fifo)) {
		struct cache_plan *plan = list_entry(c->fifo.next, struct cache_plan, node);
		if (!plan_place(c, plan, c->level_count - 1))
			return;
		list_remove(&plan->node);
		plan->wake(plan);
	}
}

/* Is the promised room of every tier from @t down free? */
static bool plan_has_room(const struct cache *c, const struct cache_plan *plan, unsigned t)
{
	for (; t < c->level_count; t++)
		if (list_linked(&plan->claim[t].node))
			return false;
	return true;
}

bool plan_can_advance(const struct cache *c, const struct cache_plan *plan)
{
	for (unsigned t = c->level_count; t-- > 0;)
		if (plan->claim[t].head != NO_ENTRY)
			return plan_has_room(c, plan, t + 1);
	return !plan->pending && plan_has_room(c, plan, 0);
}

static void plan_wake_if_due(struct cache *c, struct cache_plan *plan)
{
	if (!plan->is_asleep || !plan_can_advance(c, plan))
		return;
	plan->is_asleep = false;
	plan->wake(plan);
}

void plan_victim_gone(struct cache *c, struct entry *e)
{
	struct cache_plan *plan = e->plan;
	if (!plan)
		return;
	e->plan = NULL;
	plan->pending--;
	plan_wake_if_due(c, plan);
}

void level_release(struct cache *c, unsigned t, uint64_t bytes)
{
	struct level *l = &c->level[t];

	l->used -= bytes;
	l->freed += bytes;
	while (!list_empty(&l->claims)) {
		struct cache_claim *claim = list_entry(l->claims.next, struct cache_claim, node);
		if (claim->ticket > l->tier.limit_bytes + l->freed)
			return;
		list_remove(&claim->node);
		plan_wake_if_due(c, list_entry(claim - t, struct cache_plan, claim[0]));
	}
}

/* The first victim still to be handed out, deepest tier first; NULL: none, or its destination has
 * no room yet. */
static struct entry *plan_pop_victim(struct cache *c, struct cache_plan *plan)
{
	for (unsigned t = c->level_count; t-- > 0;) {
		struct cache_claim *claim = &plan->claim[t];
		if (claim->head == NO_ENTRY)
			continue;
		if (!plan_has_room(c, plan, t + 1))
			return NULL;
		struct entry *e = entry_at(c, claim->head);
		claim->head = e->next;
		return e;
	}
	return NULL;
}

/* A victim that was dropped before its move began: not moved, only deleted, by its last reader if
 * there is one. */
static bool victim_move_is_void(struct cache *c, struct entry *e)
{
	if (e->state != ENTRY_QUEUED || !e->is_dead)
		return false;
	e->state = ENTRY_DYING;
	e->is_dead = false;
	level_release(c, e->other, footprint(&c->level[e->other], e->payload_bytes));
	return e->pins > 0;
}

static void victim_hand_out(struct cache *c, struct entry *e, struct cache_step *ret)
{
	entry_ref(c, e, &ret->source);
	ret->to = -1;
	if (e->state != ENTRY_QUEUED)
		return;
	e->state = ENTRY_COPYING;
	ret->to = e->other;
	ret->target = ret->source;
	ret->target.tier = e->other;
	ret->target.location = 0;
}

enum cache_progress cache_plan_next(struct cache *c, struct cache_plan *plan,
				    struct cache_step *ret)
{
	enum cache_progress progress = CACHE_STEP;

	cache_lock(c);
	plan->is_asleep = false;
	struct entry *e = plan_pop_victim(c, plan);
	while (e && victim_move_is_void(c, e))
		e = plan_pop_victim(c, plan);
	if (e)
		victim_hand_out(c, e, ret);
	else if (plan_can_advance(c, plan))
		progress = CACHE_READY;
	else
		progress = CACHE_STEP_WAIT;
	plan->is_asleep = progress == CACHE_STEP_WAIT;
	plan_retry_waiting(c);
	cache_unlock(c);
	return progress;
}
