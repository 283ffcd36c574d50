// SPDX-License-Identifier: Apache-2.0
/* The cache's doorway: reads, writes and moves begin and end here, each under one short lock. */
#include "cache/cache.h"

#include <assert.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "base/lock.h"
#include "cache/internal.h"

#define HUGE_PAGES_FROM_BYTES (UINT64_C(32) << 20)

/* ---- set-up ---- */

static int setup_check(const struct cache_setup *s)
{
	if (s->tier_count < 1 || s->tier_count > TIER_CLASSES || !s->entries_max)
		return -EINVAL;
	for (unsigned t = 0; t < s->tier_count; t++) {
		uint64_t granule = s->tier[t].granule_bytes;
		if (!granule || (granule & (granule - 1)))
			return -EINVAL;
	}
	return 0;
}

static void level_init(struct level *l, const struct cache_setup *s, unsigned t)
{
	double limit = (double)s->tier[t].limit_bytes;

	*l = (struct level){
		.tier = s->tier[t],
		.target_bytes = (uint64_t)(s->target_usage_ratio * limit),
		.large_bytes = (uint64_t)(s->large_entry_limit_ratio * limit),
		.near_empty_bytes = (uint64_t)ceil(CACHE_NEAR_EMPTY * limit),
		.bail_used_bytes = (uint64_t)ceil(CACHE_BAIL_USED * limit),
		.bail_required_bytes =
			(uint64_t)(CACHE_BAIL_REQUIRED * s->target_usage_ratio * limit),
		.head = NO_CHUNK,
		.tail = NO_CHUNK,
	};
	list_init(&l->claims);
}

/*
 * Entries are met in random order: without huge pages each meeting costs a walk of the page table too. A small array is left to
 * small pages: it fits the processor's caches, and a run that uses a corner of it should not pay for 2 MiB.
 */
static void *reserve_huge(size_t bytes)
{
	void *p = mem_reserve(bytes);
	if (p && bytes >= HUGE_PAGES_FROM_BYTES)
		(void)madvise(p, bytes, MADV_HUGEPAGE);
	return p;
}

static size_t entries_size(const struct cache *c)
{
	return (size_t)c->entries_max * sizeof(struct entry);
}

static uint64_t chunks_for(uint64_t entries)
{
	return entries / LRU_ENTRIES_PER_CHUNK + LRU_CHUNKS_SPARE;
}

static size_t chunks_size(const struct cache *c)
{
	return (size_t)c->chunks_max * sizeof(struct lru_chunk);
}

static size_t buckets_size(const struct cache *c)
{
	return c->bucket_max * sizeof(*c->buckets);
}

int cache_new(const struct cache_setup *setup, struct cache **ret)
{
	int rc = setup_check(setup);
	if (rc)
		return rc;
	struct cache *c = calloc(1, sizeof(*c));
	if (!c)
		return -ENOMEM;

	lock_init(&c->lock);
	c->is_private = setup->is_private;
	list_init(&c->fifo);
	c->level_count = setup->tier_count;
	for (unsigned t = 0; t < setup->tier_count; t++)
		level_init(&c->level[t], setup, t);
	c->entries_max = (uint32_t)MIN(setup->entries_max, NO_ENTRY - 1);
	c->free_slots = NO_ENTRY;
	c->chunks_max = (uint32_t)chunks_for(c->entries_max);
	c->free_chunks = c->sweep = NO_CHUNK;
	c->bucket_count = INDEX_BUCKETS_MIN;
	c->bucket_mask = INDEX_BUCKETS_MIN * 2 - 1;
	c->bucket_max = MAX((uint64_t)c->entries_max * INDEX_BUCKETS_PER_ENTRY,
			    (uint64_t)INDEX_BUCKETS_MIN);
	c->entries = reserve_huge(entries_size(c));
	c->chunks = reserve_huge(chunks_size(c));
	c->buckets = reserve_huge(buckets_size(c));
	if (!c->entries || !c->chunks || !c->buckets) {
		cache_free(c);
		return -ENOMEM;
	}
	*ret = c;
	return 0;
}

void cache_free(struct cache *c)
{
	if (!c)
		return;
	mem_unreserve(c->entries, entries_size(c));
	mem_unreserve(c->chunks, chunks_size(c));
	mem_unreserve(c->buckets, buckets_size(c));
	pthread_mutex_destroy(&c->lock);
	free(c);
}

uint64_t cache_index_bytes(uint64_t entries)
{
	return sizeof(struct cache) + chunks_for(entries) * sizeof(struct lru_chunk) +
	       entries * (sizeof(struct entry) + INDEX_BUCKETS_PER_ENTRY * sizeof(uint32_t));
}

uint64_t cache_footprint(const struct cache *c, unsigned tier, uint64_t payload_bytes)
{
	return footprint(&c->level[tier], payload_bytes);
}

struct cache_usage cache_usage(struct cache *c, unsigned tier)
{
	const struct level *l = &c->level[tier];

	cache_lock(c);
	struct cache_usage usage = {l->entries, l->used, l->tier.limit_bytes};
	cache_unlock(c);
	return usage;
}

/* ---- slots ---- */

static struct entry *slot_take(struct cache *c)
{
	uint32_t i = c->free_slots;
	if (i != NO_ENTRY)
		c->free_slots = entry_at(c, i)->chain;
	else if (c->high_water < c->entries_max)
		i = c->high_water++;
	else
		return NULL;
	return entry_at(c, i);
}

static void slot_give(struct cache *c, struct entry *e)
{
	*e = (struct entry){.state = ENTRY_FREE, .chain = c->free_slots};
	c->free_slots = entry_number(c, e);
}

/* ---- ahead of use ---- */

/*
 * A cold lookup is a chain of three misses: bucket, entry, its chunk of the LRU list. A write evicts in the end, another chain:
 * victim, its bucket. Done for one key after the other they are waited for one by one; done in passes over all keys, those of a
 * pass are in flight together.
 */
void cache_prefetch(struct cache *c, const uint64_t *keys, unsigned count)
{
	struct entry *found[CACHE_PREFETCH_MAX], *victims[CACHE_PREFETCH_MAX];
	unsigned hits = 0;

	count = MIN(count, CACHE_PREFETCH_MAX);
	cache_lock(c);
	if (c->indexed >= PREFETCH_FROM_ENTRIES) {
		for (unsigned i = 0; i < count; i++)
			index_prefetch(c, keys[i]);
		for (unsigned i = 0; i < count; i++) {
			found[hits] = index_prefetch_entry(c, keys[i]);
			hits += found[hits] != NULL;
		}
		unsigned evictions = lru_victims(c, level_last(c), victims, count - hits);
		for (unsigned i = 0; i < evictions; i++)
			__builtin_prefetch(victims[i], 1);
		for (unsigned i = 0; i < hits; i++)
			lru_prefetch(c, found[i]);
		for (unsigned i = 0; i < evictions; i++)
			index_prefetch(c, victims[i]->key);
	}
	cache_unlock(c);
}

/* ---- reads ---- */

enum cache_lookup cache_read_begin(struct cache *c, uint64_t key, struct cache_ref *ret)
{
	enum cache_lookup found = CACHE_MISS;

	cache_lock(c);
	struct entry *e = index_find(c, key);
	if (e && (e->state == ENTRY_WAITING || e->state == ENTRY_WRITING)) {
		found = CACHE_MISS_IN_FLIGHT;
	} else if (e) {
		found = CACHE_HIT;
		if (e->state == ENTRY_RESIDENT && !e->pins)
			lru_remove(c, e);
		entry_ref(c, e, ret);
		ret->is_shared = e->pins || e->state == ENTRY_COPYING;
		e->pins++;
	}
	cache_unlock(c);
	return found;
}

/* Out of the index, once; the bytes go when nobody reads or copies them any more. */
static void entry_drop(struct cache *c, struct entry *e)
{
	struct level *l = &c->level[e->tier];

	if (e->is_dead || e->state == ENTRY_DYING)
		return;
	index_remove(c, e);
	l->entries--;
	if (e->state == ENTRY_RESIDENT || e->state == ENTRY_LEAVING)
		l->outgoing += footprint(l, e->payload_bytes);
	if (e->state == ENTRY_RESIDENT)
		e->state = ENTRY_DYING;
	else
		e->is_dead = true;
}

/* The reader of @ref leaves. Return: must its bytes be deleted now? */
static bool entry_unpin(struct cache *c, struct entry *e, const struct cache_ref *ref)
{
	if (e->state == ENTRY_LEAVING && ref->tier == e->other)
		return !--e->source_pins;
	if (--e->pins)
		return false;
	if (e->state == ENTRY_RESIDENT)
		lru_push_recent(c, e);
	return e->state == ENTRY_DYING;
}

enum cache_duty cache_read_end(struct cache *c, const struct cache_ref *ref, bool is_ok,
			       struct cache_ref *ret)
{
	enum cache_duty duty = CACHE_NONE;

	cache_lock(c);
	struct entry *e = entry_at(c, ref->entry);
	assert(e->generation == ref->generation);
	if (!is_ok)
		entry_drop(c, e);
	if (entry_unpin(c, e, ref)) {
		duty = CACHE_DELETE;
		*ret = *ref;
	}
	plan_retry_waiting(c);
	cache_unlock(c);
	return duty;
}

/* ---- writes ---- */

static void plan_init(struct cache *c, struct cache_plan *plan, struct entry *e)
{
	plan->target.entry = entry_number(c, e);
	list_init(&plan->joiners);
	for (unsigned t = 0; t < TIER_CLASSES; t++)
		plan->claim[t].head = plan->claim[t].tail = NO_ENTRY;
}

static struct entry *entry_new(struct cache *c, uint64_t key, uint64_t payload_bytes,
			       struct cache_plan *plan)
{
	struct entry *e = slot_take(c);
	if (!e)
		return NULL;
	*e = (struct entry){
		.key = key,
		.payload_bytes = payload_bytes,
		.plan = plan,
		.generation = ++c->generation,
		.state = ENTRY_WAITING,
	};
	index_insert(c, e);
	return e;
}

static enum cache_write write_begin(struct cache *c, uint64_t key, uint64_t payload_bytes,
				    struct cache_plan *plan)
{
	const struct level *last = level_last(c);

	if (!payload_bytes)
		return CACHE_WRITE_EMPTY;
	lru_prefetch_victims(c, last);
	struct entry *e = index_find(c, key);
	if (e && e->state != ENTRY_WAITING && e->state != ENTRY_WRITING)
		return CACHE_WRITE_RESIDENT;
	if (e) {
		list_push_back(&e->plan->joiners, &plan->node);
		return CACHE_WRITE_JOINED;
	}
	if (payload_bytes > last->tier.limit_bytes ||
	    footprint(last, payload_bytes) > last->tier.limit_bytes)
		return CACHE_WRITE_TOO_LARGE;
	e = entry_new(c, key, payload_bytes, plan);
	if (!e)
		return CACHE_WRITE_FULL;
	plan_init(c, plan, e);
	for (unsigned t = plan->first_tier; t < c->level_count; t++) {
		if (plan_place(c, plan, t))
			return CACHE_WRITE_PLANNED;
		plan->passed_over += t + 1 < c->level_count;
	}
	list_push_back(&c->fifo, &plan->node);
	return CACHE_WRITE_WAITING;
}

enum cache_write cache_write_begin(struct cache *c, uint64_t key, uint64_t payload_bytes,
				   struct cache_plan *plan)
{
	cache_lock(c);
	enum cache_write outcome = write_begin(c, key, payload_bytes, plan);
	plan->outcome = outcome;
	cache_unlock(c);
	return outcome;
}

static void plan_end_joiners(struct cache_plan *plan, enum cache_write outcome)
{
	struct list *node;

	while ((node = list_pop_front(&plan->joiners))) {
		struct cache_plan *joiner = list_entry(node, struct cache_plan, node);
		joiner->outcome = outcome;
		joiner->wake(joiner);
	}
}

static void entry_discard(struct cache *c, struct entry *e)
{
	index_remove(c, e);
	slot_give(c, e);
}

void cache_write_done(struct cache *c, struct cache_plan *plan, uint64_t location, bool is_ok)
{
	cache_lock(c);
	struct entry *e = entry_at(c, plan->target.entry);
	struct level *l = &c->level[e->tier];
	assert(e->state == ENTRY_WRITING && plan_can_advance(c, plan));
	if (is_ok) {
		e->state = ENTRY_RESIDENT;
		e->location = location;
		e->plan = NULL;
		l->entries++;
		lru_push_recent(c, e);
	} else {
		level_release(c, e->tier, footprint(l, e->payload_bytes));
		entry_discard(c, e);
	}
	plan_end_joiners(plan, is_ok ? CACHE_WRITE_RESIDENT : CACHE_WRITE_FAILED);
	plan_retry_waiting(c);
	cache_unlock(c);
}

bool cache_cancel(struct cache *c, struct cache_plan *plan)
{
	cache_lock(c);
	bool is_waiting = plan->outcome == CACHE_WRITE_WAITING;
	bool is_withdrawn = is_waiting || plan->outcome == CACHE_WRITE_JOINED;
	if (is_withdrawn) {
		plan->outcome = CACHE_WRITE_FAILED;
		list_remove(&plan->node);
	}
	if (is_waiting) {
		entry_discard(c, entry_at(c, plan->target.entry));
		plan_end_joiners(plan, CACHE_WRITE_FAILED);
		plan_retry_waiting(c);
	}
	cache_unlock(c);
	return is_withdrawn;
}

/* ---- moves and deletions ---- */

/* New readers find the copy; those of the source go on there. */
static void entry_copied(struct cache *c, struct entry *e, uint64_t location)
{
	struct level *from = &c->level[e->tier], *to = &c->level[e->other];
	uint8_t source = e->tier;

	e->state = ENTRY_LEAVING;
	e->tier = e->other;
	e->other = source;
	e->location = location;
	e->source_pins = e->pins;
	e->pins = 0;
	if (e->is_dead) {
		to->outgoing += footprint(to, e->payload_bytes);
	} else {
		from->entries--;
		to->entries++;
	}
}

static void entry_copy_failed(struct cache *c, struct entry *e)
{
	entry_drop(c, e);
	e->state = ENTRY_DYING;
	e->is_dead = false;
	level_release(c, e->other, footprint(&c->level[e->other], e->payload_bytes));
}

enum cache_duty cache_step_done(struct cache *c, const struct cache_step *step, uint64_t location,
				bool is_ok, struct cache_ref *ret)
{
	enum cache_duty duty = CACHE_NONE;

	cache_lock(c);
	struct entry *e = entry_at(c, step->source.entry);
	assert(e->state == ENTRY_COPYING && e->generation == step->source.generation);
	uint32_t readers = e->pins;
	if (is_ok)
		entry_copied(c, e, location);
	else
		entry_copy_failed(c, e);
	if (!readers) {
		duty = CACHE_DELETE;
		*ret = step->source;
	}
	plan_retry_waiting(c);
	cache_unlock(c);
	return duty;
}

/* The source of a move is gone: the entry is at home in its new tier, unless it was dropped
 * meanwhile. */
static bool entry_settle(struct cache *c, struct entry *e)
{
	bool is_dead = e->is_dead;

	e->is_dead = false;
	e->state = is_dead ? ENTRY_DYING : ENTRY_RESIDENT;
	if (!is_dead && !e->pins)
		lru_push_recent(c, e);
	return is_dead && !e->pins;
}

enum cache_duty cache_freed(struct cache *c, const struct cache_ref *ref, struct cache_ref *ret)
{
	enum cache_duty duty = CACHE_NONE;

	cache_lock(c);
	struct entry *e = entry_at(c, ref->entry);
	struct level *l = &c->level[ref->tier];
	uint64_t bytes = footprint(l, e->payload_bytes);
	assert(e->generation == ref->generation);
	l->outgoing -= bytes;
	level_release(c, ref->tier, bytes);
	plan_victim_gone(c, e);
	if (e->state != ENTRY_LEAVING) {
		slot_give(c, e);
	} else if (entry_settle(c, e)) {
		duty = CACHE_DELETE;
		entry_ref(c, e, ret);
	}
	plan_retry_waiting(c);
	cache_unlock(c);
	return duty;
}
