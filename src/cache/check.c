// SPDX-License-Identifier: Apache-2.0
/* Conservation: the sums that decisions are made from, computed again from every entry. */
#include <errno.h>

#include "cache/internal.h"

/* What an entry in a state is counted in; a dropped one (is_dead) is in no index, and after its
 * copy its home is outgoing. */
static const struct facts {
	bool is_indexed;
	bool is_readable;
	bool is_victim;
	bool has_home, is_home_outgoing;
	bool has_other, is_other_outgoing;
} facts_of[ENTRY_STATES] = {
	[ENTRY_WAITING] = {.is_indexed = true},
	[ENTRY_WRITING] = {.is_indexed = true, .has_home = true},
	[ENTRY_RESIDENT] = {.is_indexed = true, .is_readable = true, .has_home = true},
	[ENTRY_QUEUED] = {.is_indexed = true,
			  .is_readable = true,
			  .is_victim = true,
			  .has_home = true,
			  .is_home_outgoing = true,
			  .has_other = true},
	[ENTRY_COPYING] = {.is_indexed = true,
			   .is_readable = true,
			   .is_victim = true,
			   .has_home = true,
			   .is_home_outgoing = true,
			   .has_other = true},
	[ENTRY_LEAVING] = {.is_indexed = true,
			   .is_readable = true,
			   .is_victim = true,
			   .has_home = true,
			   .has_other = true,
			   .is_other_outgoing = true},
	[ENTRY_DOOMED] = {.is_victim = true, .has_home = true, .is_home_outgoing = true},
	[ENTRY_DYING] = {.has_home = true, .is_home_outgoing = true},
};

struct sums {
	struct {
		uint64_t used, outgoing, entries, lru_bytes;
		uint64_t lru_count;
	} level[TIER_CLASSES];
	uint64_t indexed, waiting, free;
	uint64_t chunks;      /* of all LRU lists */
	bool is_sweep_listed; /* the chunk to be packed next is on the list it should be on */
};

static void sum_bytes(const struct cache *c, struct sums *s, unsigned t, const struct entry *e,
		      bool is_outgoing)
{
	uint64_t bytes = footprint(&c->level[t], e->payload_bytes);

	s->level[t].used += bytes;
	s->level[t].outgoing += is_outgoing ? bytes : 0;
}

static void sum_entry(const struct cache *c, struct sums *s, const struct entry *e)
{
	const struct facts *f = &facts_of[e->state];
	bool is_gone = e->is_dead && e->state == ENTRY_LEAVING;

	if (f->has_home)
		sum_bytes(c, s, e->tier, e, f->is_home_outgoing || is_gone);
	if (f->has_other)
		sum_bytes(c, s, e->other, e, f->is_other_outgoing);
	if (f->is_readable && !e->is_dead)
		s->level[e->tier].entries++;
	if (e->state == ENTRY_RESIDENT && !e->pins) {
		s->level[e->tier].lru_count++;
		s->level[e->tier].lru_bytes += footprint(&c->level[e->tier], e->payload_bytes);
	}
	s->indexed += f->is_indexed && !e->is_dead;
	s->waiting += e->state == ENTRY_WAITING;
	s->free += e->state == ENTRY_FREE;
}

static const char *check_entries(const struct cache *c, struct sums *s)
{
	for (uint32_t i = 0; i < c->high_water; i++) {
		const struct entry *e = entry_at(c, i);
		const struct facts *f = &facts_of[e->state];
		sum_entry(c, s, e);
		if (f->is_indexed && !e->is_dead && index_find(c, e->key) != e)
			return "an entry is not found by its key";
		if (f->is_victim && (!e->plan || !e->plan->pending))
			return "a victim's plan does not wait for it";
		if (e->plan && e->plan->is_asleep && plan_can_advance(c, e->plan))
			return "a plan sleeps though it can go on";
		if (e->state == ENTRY_DOOMED && e->pins)
			return "a pinned entry is to be deleted";
		if (e->state == ENTRY_DYING && e->source_pins)
			return "a dropped entry has readers in two tiers";
	}
	return NULL;
}

static const char *check_slots(const struct cache *c, const struct sums *s)
{
	uint64_t free = 0;

	for (uint32_t i = c->free_slots; i != NO_ENTRY; i = entry_at(c, i)->chain)
		if (++free > s->free || entry_at(c, i)->state != ENTRY_FREE)
			return "a slot in use is on the free list";
	if (free != s->free)
		return "a free slot is lost";
	return s->indexed == c->indexed ? NULL : "the index counts other entries";
}

static const char *check_chunk(const struct cache *c, uint32_t i, unsigned t)
{
	const struct lru_chunk *chunk = &c->chunks[i];

	if (!chunk->live || chunk->live >> LRU_CHUNK_ENTRIES)
		return "an LRU list has an empty chunk, or one with too many slots";
	for (uint32_t live = chunk->live; live; live &= live - 1) {
		unsigned slot = (unsigned)__builtin_ctz(live);
		const struct entry *e = entry_at(c, chunk->entry[slot]);
		if (e->state != ENTRY_RESIDENT || e->pins || e->tier != t)
			return "an LRU list holds an entry that is no victim";
		if (e->chunk != i || e->slot != slot)
			return "an entry on an LRU list believes to be elsewhere";
	}
	return NULL;
}

static const char *check_lru(const struct cache *c, struct sums *s, unsigned t)
{
	const struct level *l = &c->level[t];
	uint32_t prev = NO_CHUNK;
	uint64_t count = 0;

	for (uint32_t i = l->head; i != NO_CHUNK; prev = i, i = c->chunks[i].next) {
		const char *why = check_chunk(c, i, t);
		if (why)
			return why;
		if (c->chunks[i].prev != prev || ++s->chunks > c->chunks_used)
			return "an LRU list has a circle";
		count += (unsigned)__builtin_popcount(c->chunks[i].live);
		s->is_sweep_listed |= i == c->sweep && t == c->sweep_level;
	}
	if (prev != l->tail || count != s->level[t].lru_count)
		return "an LRU list has lost an entry";
	return l->lru_bytes == s->level[t].lru_bytes ? NULL : "an LRU list has other bytes";
}

static const char *check_chunks(const struct cache *c, const struct sums *s)
{
	uint64_t free = 0;

	if (s->chunks != c->chunks_used)
		return "the LRU lists count other chunks";
	if (c->sweep != NO_CHUNK && !s->is_sweep_listed)
		return "a chunk is to be packed that is on no LRU list";
	for (uint32_t i = c->free_chunks; i != NO_CHUNK; i = c->chunks[i].next)
		if (++free > c->chunks_high_water)
			return "the free chunks have a circle";
	return free + s->chunks == c->chunks_high_water ? NULL : "a chunk is lost";
}

static const char *check_level(const struct cache *c, struct sums *s, unsigned t)
{
	const struct level *l = &c->level[t];
	uint64_t ticket = l->freed + l->tier.limit_bytes;

	if (l->used != s->level[t].used)
		return "used bytes are not the sum of entries and reservations";
	if (l->outgoing != s->level[t].outgoing)
		return "outgoing bytes are not the sum of those to be deleted";
	if (l->entries != s->level[t].entries)
		return "a tier counts other entries";
	if (l->used - l->outgoing > l->tier.limit_bytes)
		return "a tier has promised more than its limit";
	list_for_each (node, &l->claims) {
		const struct cache_claim *claim = list_entry(node, struct cache_claim, node);
		if (claim->ticket <= ticket)
			return "a promise is out of order, or good and not known to be";
		ticket = claim->ticket;
	}
	if (!list_empty(&l->claims) && ticket > l->freed + l->used)
		return "a promise is beyond what was promised";
	return check_lru(c, s, t);
}

static const char *check_fifo(const struct cache *c, const struct sums *s)
{
	const struct level *last = &c->level[c->level_count - 1];
	uint64_t count = 0;

	list_for_each (node, &c->fifo) {
		const struct cache_plan *plan = list_entry(node, struct cache_plan, node);
		const struct entry *e = entry_at(c, plan->target.entry);
		if (e->state != ENTRY_WAITING || e->plan != plan)
			return "a waiting plan has no waiting entry";
		if (!count++ && level_fits(c, last, last->used - last->outgoing - last->lru_bytes,
					   footprint(last, e->payload_bytes)))
			return "a plan waits though there is room";
	}
	return count == s->waiting ? NULL : "a waiting entry is in no queue";
}

static const char *check_all(const struct cache *c)
{
	struct sums s = {0};
	const char *why = check_entries(c, &s);

	if (!why)
		why = check_slots(c, &s);
	for (unsigned t = 0; !why && t < c->level_count; t++)
		why = check_level(c, &s, t);
	if (!why)
		why = check_chunks(c, &s);
	return why ? why : check_fifo(c, &s);
}

int cache_check(struct cache *c, const char **why)
{
	cache_lock(c);
	const char *violation = check_all(c);
	cache_unlock(c);
	if (!violation)
		return 0;
	*why = violation;
	return -EINVAL;
}

struct cache_held cache_held(struct cache *c)
{
	struct cache_held held = {0};
	cache_lock(c);
	for (uint32_t i = 0; i < c->high_water; i++) {
		const struct entry *e = entry_at(c, i);
		if (e->state == ENTRY_FREE)
			continue;
		held.pins += e->pins + e->source_pins;
		held.writing += e->state == ENTRY_WAITING || e->state == ENTRY_WRITING;
		bool waits_for_reader = (e->state == ENTRY_LEAVING && e->source_pins) ||
					(e->state == ENTRY_DYING && e->pins + e->source_pins);
		held.going += (facts_of[e->state].is_victim || e->state == ENTRY_DYING) && !waits_for_reader;
	}
	cache_unlock(c);
	return held;
}
