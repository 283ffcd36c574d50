/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cache/cache.h - which entry is in which tier: index, LRU lists, placement plans. Pure bookkeeping.
 *
 * Receives: keys and sizes.  Gives: where to read; plans that make room.  Must not know: I/O, time, requests.
 *
 * One lock inside, held for O(1) (plans: O(victims)); no I/O, no allocation after cache_new(). An entry is writing, resident,
 * moving or gone. A pin is one read in flight. Writing, moving and pinned entries are on no LRU list, so the head of a list is
 * always a victim. See docs/ARCHITECTURE.md, "The cache's rules". Thresholds: those of the reference.
 *
 * Room is promised before it is there: a plan is made as soon as the bytes that are free, or that some plan will have freed, hold
 * it. cache_plan_next() then lets it copy or write only when the bytes are really free, so a tier never holds more than its
 * limit. Promises are kept in the order they were given.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/list.h"
#include "config/config.h"

/* The waterfall's named constants; their values are the reference's. */
#define CACHE_TARGET_USAGE	   0.80 /* an upper tier is filled to this share */
#define CACHE_LARGE_ENTRY_LIMIT	   0.95 /* entries above this share of an upper tier pass it over */
#define CACHE_NEAR_EMPTY	   0.05 /* below this share in use, an upper tier takes any entry that passed the limit above */
#define CACHE_BAIL_USED		   0.20 /* less than this in use ... */
#define CACHE_BAIL_REQUIRED	   0.50 /* ... and more than this share of the target required: pass over, evicting cannot help */
enum { CACHE_VICTIMS_MAX = 5000 };	/* victims of one plan in an upper tier; the last tier has no such limit */

/** One tier as the cache sees it, from the top of the waterfall down. Footprint of a payload: header + payload rounded up to granule. */
struct cache_tier {
	enum tier_class class;
	uint64_t limit_bytes;
	uint64_t header_bytes;
	uint64_t granule_bytes; /* a power of two */
};

struct cache_setup {
	struct cache_tier tier[TIER_CLASSES];
	unsigned tier_count; /* >= 1; the last is the bottom of the waterfall */
	double target_usage_ratio, large_entry_limit_ratio; /* the two a YAML file may change */
	uint64_t entries_max; /* live entries at most, those being written or deleted counted; address space is reserved for them */
	bool is_private; /* only one thread at a time will call: no lock is taken (the virtual clock, where locks were a quarter of the time) */
};

struct cache;

/** A place where an entry's bytes are (or were): filled by the cache, plain data. */
struct cache_ref {
	uint32_t entry;	     /* index inside the cache */
	uint32_t generation; /* of the write */
	uint64_t key;
	uint64_t payload_bytes;
	uint64_t location; /* what the writer passed to cache_write_done() or cache_step_done(): the tier's own handle */
	unsigned tier;	   /* index into setup.tier[] */
	bool is_shared;	   /* cache_read_begin(): another reader of these bytes, or the move that copies them, is in flight */
};

enum cache_lookup { CACHE_HIT, CACHE_MISS, CACHE_MISS_IN_FLIGHT };

enum cache_write {
	CACHE_WRITE_PLANNED,   /* run the plan's steps, then write */
	CACHE_WRITE_RESIDENT,  /* the key is held already: nothing to do */
	CACHE_WRITE_JOINED,    /* the key is being written: wake() comes when that ended (plan->outcome: RESIDENT or FAILED) */
	CACHE_WRITE_WAITING,   /* the last tier has no room now: wake() comes when plan->outcome is PLANNED */
	CACHE_WRITE_TOO_LARGE, /* larger than the last tier: can never be kept */
	CACHE_WRITE_EMPTY,     /* zero bytes: not stored */
	CACHE_WRITE_FULL,      /* entries_max entries are live: not stored */
	CACHE_WRITE_FAILED,    /* the write this one joined failed, or cache_cancel() withdrew it */
};

/** One plan's business with one tier; the cache's own. */
struct cache_claim {
	struct list node;    /* on the tier's list while the promised room is not free yet */
	uint64_t ticket;     /* bytes promised in this tier up to and with this plan, since the start */
	uint32_t head, tail; /* victims in this tier that were not handed out yet, linked by the entries' own nodes */
	uint32_t count;	     /* victims taken from this tier */
	bool is_reserved;    /* the plan brings bytes into this tier */
};

/**
 * One write and the moves and deletions that make room for it. The caller's storage, zeroed, with wake and owner set, alive until
 * cache_write_done() (or an outcome without a write). Results may be read after cache_write_begin() returned PLANNED, or after wake().
 */
struct cache_plan {
	/* the caller's */
	void (*wake)(struct cache_plan *plan); /* called under the cache's lock, any thread: only post to a mailbox */
	void *owner;
	unsigned first_tier; /* tiers above are not considered; 0: all are */
	/* results */
	enum cache_write outcome;
	struct cache_ref target;  /* where the entry will live; location is not set yet */
	unsigned passed_over;	  /* upper tiers that had no room */
	/* the cache's */
	struct cache_claim claim[TIER_CLASSES];
	uint32_t pending;    /* victims whose source is not freed yet */
	bool is_asleep;	     /* CACHE_STEP_WAIT was returned, wake() is due */
	struct list node;    /* FIFO of waiting plans, or the joiners of another plan */
	struct list joiners; /* plans that write the same key */
};

/** One step of a plan: move @source to tier @to, or delete it (to < 0). */
struct cache_step {
	struct cache_ref source;
	struct cache_ref target; /* moves: where it goes; location is the mover's to set */
	int to;			 /* tier index, -1: delete */
};

enum cache_progress {
	CACHE_STEP,	 /* *ret is to be run now */
	CACHE_STEP_WAIT, /* nothing to hand out until bytes are freed, by this plan's steps or another's: wake() comes once */
	CACHE_READY,	 /* all room is made: write now */
};

/** What the caller must do after giving something back. */
enum cache_duty {
	CACHE_NONE,
	CACHE_DELETE, /* delete the bytes at *ret in their tier, then call cache_freed() with it */
};

/** cache_new() - reserve everything. Return: 0, -EINVAL (no tier or entry, a granule that is no power of two), -ENOMEM. */
int cache_new(const struct cache_setup *setup, struct cache **ret);
void cache_free(struct cache *c);

enum { CACHE_PREFETCH_MAX = 32 };

/**
 * cache_prefetch() - @keys will be looked up or written soon: begin to fetch their bookkeeping from memory, all at once
 * Only a hint: it changes nothing and may come too early, too late or for keys that are not held. Keys beyond
 * CACHE_PREFETCH_MAX are left out. O(count).
 */
void cache_prefetch(struct cache *c, const uint64_t *keys, unsigned count);

/** cache_read_begin() - find @key and pin it where its bytes are (a moving entry: its source). HIT fills @ret; end with cache_read_end(). O(1). */
enum cache_lookup cache_read_begin(struct cache *c, uint64_t key, struct cache_ref *ret);

/**
 * cache_read_end() - unpin
 * @is_ok: false: the bytes were wrong or unreadable; the entry is dropped (once) and its bytes deleted when the last reader leaves
 * Return: CACHE_DELETE when this was the last reader of bytes that must go: @ret says which.
 */
enum cache_duty cache_read_end(struct cache *c, const struct cache_ref *ref, bool is_ok,
			       struct cache_ref *ret);

/**
 * cache_write_begin() - place a new entry. plan->wake and ->owner are set; the rest is zero. Return: also in plan->outcome.
 * Use the returned value: when it is WAITING or JOINED, plan->outcome may be changing already.
 */
enum cache_write cache_write_begin(struct cache *c, uint64_t key, uint64_t payload_bytes,
				   struct cache_plan *plan);

/**
 * cache_plan_next() - the plan's next step, deepest source tier first; a move is handed out when its destination has room
 * After CACHE_STEP_WAIT, call it again when wake() came. Steps handed out may run in parallel. CACHE_READY comes when every step
 * of the plan has ended.
 */
enum cache_progress cache_plan_next(struct cache *c, struct cache_plan *plan, struct cache_step *ret);

/**
 * cache_step_done() - a move has copied its bytes (or failed)
 * Only for moves: a deletion ends with cache_freed(). Failed: the destination's bytes are gone already; the victim is dropped.
 * @location: of the copy
 * Return: CACHE_DELETE: the source has no reader left, delete it and call cache_freed(); CACHE_NONE: its last reader will.
 */
enum cache_duty cache_step_done(struct cache *c, const struct cache_step *step, uint64_t location,
				bool is_ok, struct cache_ref *ret);

/**
 * cache_freed() - the bytes at @ref (from a CACHE_DELETE duty or a delete step) are gone: give the space back, wake whom it helps
 * Return: CACHE_DELETE: the bytes at @ret must go too (the copy of an entry that was dropped while it moved). @ret may be @ref.
 */
enum cache_duty cache_freed(struct cache *c, const struct cache_ref *ref, struct cache_ref *ret);

/**
 * cache_write_done() - the write of a plan that is CACHE_READY ended (or was given up: not @is_ok). Failed: its bytes are gone
 * already. Wakes joiners. @location as above.
 */
void cache_write_done(struct cache *c, struct cache_plan *plan, uint64_t location, bool is_ok);

/**
 * cache_cancel() - withdraw a plan that waits or has joined; plans that joined it fail
 * Return: true: withdrawn, no wake() came or comes. False: too late, wake() was called: look at plan->outcome and go on as usual.
 */
bool cache_cancel(struct cache *c, struct cache_plan *plan);

struct cache_usage {
	uint64_t entries;    /* readable entries whose home is this tier */
	uint64_t used_bytes; /* footprints: entries, bytes not yet freed, room promised: the last may bring it above the limit */
	uint64_t limit_bytes;
};
struct cache_usage cache_usage(struct cache *c, unsigned tier);

/** cache_footprint() - bytes an entry of @payload_bytes takes in a tier. */
uint64_t cache_footprint(const struct cache *c, unsigned tier, uint64_t payload_bytes);

/** cache_check() - walk everything and compare with the counters (conservation). O(entries). Return: 0; -EINVAL and *why names the first violation. */
int cache_check(struct cache *c, const char **why);

/** What is held in a cache and must have an owner outside. */
struct cache_held {
	uint64_t pins;	  /* reads in flight */
	uint64_t writing; /* entries placed or waiting for a place, not yet readable */
	uint64_t going;	  /* entries moving or being deleted; not those that wait for a reader, whose pin they are */
};
/** cache_held() - count it. O(entries); for tests of who forgot to give something back. */
struct cache_held cache_held(struct cache *c);

/** cache_index_bytes() - RAM that @entries live entries cost: for the memory prediction. */
uint64_t cache_index_bytes(uint64_t entries);
