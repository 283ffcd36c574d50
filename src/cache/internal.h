/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cache/internal.h - what the files of this room share: the entry, the tier's books, the index.
 *
 * Receives: nothing.  Gives: structs and small helpers.  Must not know: anything the public header does not.
 * Everything here is guarded by cache->lock.
 */
#pragma once

#include <pthread.h>
#include <stddef.h>

#include "base/attr.h"
#include "base/mem.h"
#include "cache/cache.h"

#define NO_ENTRY UINT32_MAX
#define NO_CHUNK UINT32_MAX

/* What an entry is. Bytes exist (or are reserved) at entry->tier; while it moves also at entry->other. */
enum entry_state {
	ENTRY_FREE,	/* unused slot */
	ENTRY_WAITING,	/* its plan is in the FIFO; no bytes anywhere */
	ENTRY_WRITING,	/* reserved, not readable */
	ENTRY_RESIDENT, /* readable; on its tier's LRU list unless pinned */
	ENTRY_QUEUED,	/* victim to be moved to other; in its plan's list */
	ENTRY_COPYING,	/* the move was handed out */
	ENTRY_LEAVING,	/* copied: lives at tier; the source at other waits for its readers and its deletion */
	ENTRY_DOOMED,	/* victim to be deleted; in its plan's list, then handed out */
	ENTRY_DYING,	/* dropped: waits for its readers and its deletion */
	ENTRY_STATES,
};

/* One entry, one cache line. */
struct entry {
	uint64_t key;
	uint64_t payload_bytes;
	uint64_t location;
	struct cache_plan *plan; /* waiting, writing: the writer; victims: who made them leave; else NULL */
	union {
		struct {
			uint32_t chunk, slot; /* on an LRU list: its place */
		};
		struct {
			uint32_t prev, next; /* among a plan's victims */
		};
	};
	uint32_t chain;		 /* index bucket, or free slots */
	uint32_t generation;
	uint32_t pins;	      /* readers at tier */
	uint32_t source_pins; /* leaving: readers at other */
	uint8_t state;	      /* enum entry_state */
	uint8_t tier;
	uint8_t other; /* queued, copying: destination; leaving: source */
	bool is_dead;  /* queued, copying, leaving: dropped meanwhile, out of the index */
} ATTR_CACHE_ALIGNED;

_Static_assert(sizeof(struct entry) == 64, "an entry is one cache line");

enum { LRU_CHUNK_ENTRIES = 13 };

/* Neighbours on an LRU list, one cache line. One that is on a list has a live slot. */
struct lru_chunk {
	uint32_t prev, next;
	uint32_t live; /* bit per slot: the entry there is on the list */
	uint32_t entry[LRU_CHUNK_ENTRIES]; /* oldest first */
} ATTR_CACHE_ALIGNED;

_Static_assert(sizeof(struct lru_chunk) == 64, "a chunk is one cache line");

/* The books of one tier. */
struct level {
	struct cache_tier tier;
	uint64_t target_bytes; /* thresholds, from setup */
	uint64_t large_bytes;
	uint64_t near_empty_bytes;
	uint64_t bail_used_bytes;
	uint64_t bail_required_bytes;

	uint64_t used;	    /* footprints of bytes that are there and of promised room */
	uint64_t outgoing;  /* part of used whose deletion is decided */
	uint64_t freed;	    /* given back since the start; freed + used = promised since the start */
	uint64_t lru_bytes; /* footprints on the list */
	uint64_t entries;   /* readable ones */
	uint32_t head, tail; /* LRU list, chunks; tail: most recent */
	struct list claims;  /* promises whose room is not free yet, oldest first */
};

struct cache {
	pthread_mutex_t lock;
	bool is_private; /* one thread only: no lock is taken */
	struct level level[TIER_CLASSES];
	unsigned level_count;
	struct list fifo; /* plans that wait for the last tier */

	struct entry *entries;
	uint32_t entries_max;
	uint32_t high_water; /* slots from here on were never used */
	uint32_t free_slots; /* chain of used ones */
	uint32_t generation;

	struct lru_chunk *chunks;
	uint32_t chunks_max;
	uint32_t chunks_high_water; /* from here on they were never used */
	uint32_t free_chunks;	    /* next of used ones */
	uint32_t chunks_used;	    /* on some list */
	uint32_t sweep;		    /* the chunk that is packed next; NO_CHUNK: the next list's first */
	unsigned sweep_level;

	uint32_t *buckets; /* entry + 1, 0: empty */
	uint64_t bucket_count, bucket_mask, bucket_max;
	uint32_t indexed; /* entries in the index */
};

static inline struct entry *entry_at(const struct cache *c, uint32_t i)
{
	return &c->entries[i];
}

static inline uint32_t entry_number(const struct cache *c, const struct entry *e)
{
	return (uint32_t)(e - c->entries);
}

static inline struct level *level_last(struct cache *c)
{
	return &c->level[c->level_count - 1];
}

static inline uint64_t footprint(const struct level *l, uint64_t payload_bytes)
{
	return l->tier.header_bytes + ALIGN_UP(payload_bytes, l->tier.granule_bytes);
}

/*
 * entry_ref() - where the bytes of @e are
 * Fields are stored one by one: a struct built on the stack and then copied in wider pieces has to wait until every earlier
 * store, those to entries far away included, has left the processor's store buffer.
 */
static inline void entry_ref(const struct cache *c, const struct entry *e, struct cache_ref *ret)
{
	ret->entry = entry_number(c, e);
	ret->generation = e->generation;
	ret->key = e->key;
	ret->payload_bytes = e->payload_bytes;
	ret->location = e->location;
	ret->tier = e->tier;
	ret->is_shared = false;
}

/* ---- lru.c: LRU lists ---- */

/* Chunks that are kept for so many entries: one in LRU_ENTRIES_PER_CHUNK, and some for lists that are nearly empty. */
enum { LRU_ENTRIES_PER_CHUNK = 3, LRU_CHUNKS_SPARE = 8 };

/** lru_push_recent() - @e is the last to be a victim of its tier now. */
void lru_push_recent(struct cache *c, struct entry *e);
/** lru_push_oldest() - @e is the next victim again. */
void lru_push_oldest(struct cache *c, struct entry *e);
void lru_remove(struct cache *c, struct entry *e);
/** lru_oldest() - the next victim; NULL: none. */
struct entry *lru_oldest(const struct cache *c, const struct level *l);
/** lru_victims() - the next victims of a tier, oldest first, @max at most; they stay on the list. Return: how many. O(max). */
unsigned lru_victims(const struct cache *c, const struct level *l, struct entry **ret, unsigned max);
/** lru_prefetch() - @e will be taken off its list soon; it should be near. */
void lru_prefetch(const struct cache *c, const struct entry *e);
/** lru_prefetch_victims() - one write will evict from @l soon, and more will follow. */
void lru_prefetch_victims(const struct cache *c, const struct level *l);

/* ---- index.c: linear hashing ---- */

enum { INDEX_BUCKETS_MIN = 1024, INDEX_BUCKETS_PER_ENTRY = 4 };

/* With fewer, index and entries fit the processor's own cache, and asking ahead costs more than it saves. */
enum { PREFETCH_FROM_ENTRIES = 16384 };

/** index_find() - NULL when absent. */
struct entry *index_find(const struct cache *c, uint64_t key);
/** index_prefetch() - @key will be looked for soon. */
void index_prefetch(const struct cache *c, uint64_t key);
/** index_prefetch_entry() - the entry a search for @key meets first is wanted soon; its bucket should be near. NULL: none. */
struct entry *index_prefetch_entry(const struct cache *c, uint64_t key);
void index_insert(struct cache *c, struct entry *e);
void index_remove(struct cache *c, struct entry *e);

/* ---- plan.c: making room ---- */

/** plan_place() - make the plan for tier @t: victims, promises, target. All or nothing. */
bool plan_place(struct cache *c, struct cache_plan *plan, unsigned t);
/** plan_retry_waiting() - plan the FIFO's head, and the next, as long as there is room. */
void plan_retry_waiting(struct cache *c);
/** plan_can_advance() - would cache_plan_next() hand out something else than CACHE_STEP_WAIT? */
bool plan_can_advance(const struct cache *c, const struct cache_plan *plan);
/** plan_victim_gone() - the source of @e is free. */
void plan_victim_gone(struct cache *c, struct entry *e);
/** level_release() - @bytes of tier @t are free; wakes the plans they were promised to. */
void level_release(struct cache *c, unsigned t, uint64_t bytes);
/** level_fits() - may @bytes be promised when @committed are kept? */
bool level_fits(const struct cache *c, const struct level *l, uint64_t committed, uint64_t bytes);

static inline void cache_lock(struct cache *c)
{
	if (!c->is_private)
		pthread_mutex_lock(&c->lock);
}

static inline void cache_unlock(struct cache *c)
{
	if (!c->is_private)
		pthread_mutex_unlock(&c->lock);
}
