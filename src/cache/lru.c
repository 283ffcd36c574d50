// SPDX-License-Identifier: Apache-2.0
/*
 * The LRU lists, unrolled: a list of chunks, each one cache line that names up to LRU_CHUNK_ENTRIES entries.
 *
 *	head                                            tail
 *	[. . c d . f]  <->  [g . . j k l]  <->  [m n o . . .]
 *	     oldest           holes: were used again   the most recent, then room
 *
 * Long lists do not fit the processor's caches, and neighbours on a list are strangers in memory. Linked entry by entry, taking one
 * out writes to two entries that nobody had asked for, and each victim must arrive before the next one is known. Here it clears one
 * bit in one line, and the next dozen victims are known while they are still far away.
 *
 * Entries that are used again and again leave holes behind them. While chunks hold few entries on the average, each new chunk pays
 * for some steps of a sweep that goes round all lists and packs two neighbours into one where they fit. After a whole round any two
 * neighbours hold more than one chunk could, so the lists need no more than two chunks for LRU_CHUNK_ENTRIES + 1 entries; and in the
 * time of a round LRU_SWEEP_STEPS times fewer chunks are taken than are in use.
 */
#include "cache/internal.h"

enum { LRU_SPARSE = 4 /* sweep when a chunk holds fewer on the average */, LRU_SWEEP_STEPS = 8 };

static struct lru_chunk *chunk_at(const struct cache *c, uint32_t i)
{
	return &c->chunks[i];
}

static unsigned chunk_live(const struct lru_chunk *chunk)
{
	return (unsigned)__builtin_popcount(chunk->live);
}

static void chunk_put(struct cache *c, uint32_t i, unsigned slot, struct entry *e)
{
	struct lru_chunk *chunk = chunk_at(c, i);

	chunk->entry[slot] = entry_number(c, e);
	chunk->live |= 1U << slot;
	e->chunk = i;
	e->slot = slot;
}

/* Make @prev and @next neighbours; NO_CHUNK: an end of the list. */
static void chunk_join(struct cache *c, struct level *l, uint32_t prev, uint32_t next)
{
	*(prev == NO_CHUNK ? &l->head : &chunk_at(c, prev)->next) = next;
	*(next == NO_CHUNK ? &l->tail : &chunk_at(c, next)->prev) = prev;
}

static void chunk_free(struct cache *c, struct level *l, uint32_t i)
{
	struct lru_chunk *chunk = chunk_at(c, i);

	chunk_join(c, l, chunk->prev, chunk->next);
	if (c->sweep == i)
		c->sweep = chunk->next;
	chunk->next = c->free_chunks;
	c->free_chunks = i;
	c->chunks_used--;
}

/* The entries of two neighbours, in their order, into the first of them. */
static void chunk_merge(struct cache *c, struct level *l, uint32_t first, uint32_t second)
{
	struct lru_chunk from[2] = {*chunk_at(c, first), *chunk_at(c, second)};
	unsigned slot = 0;

	chunk_at(c, first)->live = 0;
	for (unsigned k = 0; k < 2; k++)
		for (uint32_t live = from[k].live; live; live &= live - 1)
			chunk_put(c, first, slot++, entry_at(c, from[k].entry[__builtin_ctz(live)]));
	chunk_free(c, l, second);
}

/* Pack one chunk with its neighbour, or go on to that. */
static void sweep_step(struct cache *c)
{
	if (c->sweep == NO_CHUNK) {
		c->sweep_level = (c->sweep_level + 1) % c->level_count;
		c->sweep = c->level[c->sweep_level].head;
		return;
	}
	const struct lru_chunk *chunk = chunk_at(c, c->sweep);
	uint32_t next = chunk->next;
	if (next != NO_CHUNK &&
	    chunk_live(chunk) + chunk_live(chunk_at(c, next)) <= LRU_CHUNK_ENTRIES)
		chunk_merge(c, &c->level[c->sweep_level], c->sweep, next);
	else
		c->sweep = next;
}

static bool chunks_are_sparse(const struct cache *c)
{
	uint64_t entries = 0;

	for (unsigned t = 0; t < c->level_count; t++)
		entries += c->level[t].entries;
	return c->chunks_used > entries / LRU_SPARSE + LRU_CHUNKS_SPARE / 2;
}

static bool chunk_is_to_be_had(const struct cache *c)
{
	return c->free_chunks != NO_CHUNK || c->chunks_high_water < c->chunks_max;
}

/*
 * An unused chunk. It may pack others, so look at heads and tails afterwards only. The steps in advance are meant to suffice; should
 * they not, packing goes on until there is one.
 */
static uint32_t chunk_take(struct cache *c)
{
	unsigned steps = chunks_are_sparse(c) ? LRU_SWEEP_STEPS : 0;
	for (; steps || !chunk_is_to_be_had(c); steps -= steps > 0)
		sweep_step(c);

	uint32_t i = c->free_chunks;
	if (i != NO_CHUNK)
		c->free_chunks = chunk_at(c, i)->next;
	else
		i = c->chunks_high_water++;
	c->chunks_used++;
	return i;
}

/* A new chunk between two neighbours, or at an end. */
static void chunk_link(struct cache *c, struct level *l, uint32_t i, uint32_t prev, uint32_t next)
{
	struct lru_chunk *chunk = chunk_at(c, i);

	chunk->prev = prev;
	chunk->next = next;
	chunk->live = 0;
	chunk_join(c, l, prev, i);
	chunk_join(c, l, i, next);
}

/* The slots above the highest live one are free, and so are those below the lowest. */
static unsigned slot_after(const struct lru_chunk *chunk)
{
	return 32 - (unsigned)__builtin_clz(chunk->live);
}

static unsigned slots_before(const struct lru_chunk *chunk)
{
	return (unsigned)__builtin_ctz(chunk->live);
}

void lru_push_recent(struct cache *c, struct entry *e)
{
	struct level *l = &c->level[e->tier];
	unsigned slot = l->tail == NO_CHUNK ? LRU_CHUNK_ENTRIES : slot_after(chunk_at(c, l->tail));

	if (slot == LRU_CHUNK_ENTRIES) {
		uint32_t i = chunk_take(c);
		chunk_link(c, l, i, l->tail, NO_CHUNK);
		slot = 0;
	}
	chunk_put(c, l->tail, slot, e);
	l->lru_bytes += footprint(l, e->payload_bytes);
}

void lru_push_oldest(struct cache *c, struct entry *e)
{
	struct level *l = &c->level[e->tier];
	unsigned slots = l->head == NO_CHUNK ? 0 : slots_before(chunk_at(c, l->head));

	if (!slots) {
		uint32_t i = chunk_take(c);
		chunk_link(c, l, i, NO_CHUNK, l->head);
		slots = LRU_CHUNK_ENTRIES;
	}
	chunk_put(c, l->head, slots - 1, e);
	l->lru_bytes += footprint(l, e->payload_bytes);
}

void lru_remove(struct cache *c, struct entry *e)
{
	struct level *l = &c->level[e->tier];
	struct lru_chunk *chunk = chunk_at(c, e->chunk);

	chunk->live &= ~(1U << e->slot);
	if (!chunk->live)
		chunk_free(c, l, e->chunk);
	l->lru_bytes -= footprint(l, e->payload_bytes);
}

struct entry *lru_oldest(const struct cache *c, const struct level *l)
{
	if (l->head == NO_CHUNK)
		return NULL;
	const struct lru_chunk *chunk = chunk_at(c, l->head);
	return entry_at(c, chunk->entry[slots_before(chunk)]);
}

unsigned lru_victims(const struct cache *c, const struct level *l, struct entry **ret, unsigned max)
{
	unsigned count = 0;

	for (uint32_t i = l->head; i != NO_CHUNK && count < max; i = chunk_at(c, i)->next)
		for (uint32_t live = chunk_at(c, i)->live; live && count < max; live &= live - 1)
			ret[count++] = entry_at(c, chunk_at(c, i)->entry[__builtin_ctz(live)]);
	return count;
}

void lru_prefetch(const struct cache *c, const struct entry *e)
{
	if (e->state == ENTRY_RESIDENT && !e->pins)
		__builtin_prefetch(chunk_at(c, e->chunk), 1);
}

/*
 * Most writes evict in the end. Of the next three victims the first is in the processor's caches, with its bucket, when the writes
 * before this one asked for them; ask for the bucket of the second and for the third itself. Those of one chunk will do.
 */
void lru_prefetch_victims(const struct cache *c, const struct level *l)
{
	if (l->head == NO_CHUNK)
		return;
	const struct lru_chunk *chunk = chunk_at(c, l->head);
	uint32_t live = chunk->live & (chunk->live - 1);
	if (!live)
		return;
	index_prefetch(c, entry_at(c, chunk->entry[__builtin_ctz(live)])->key);
	live &= live - 1;
	if (live)
		__builtin_prefetch(entry_at(c, chunk->entry[__builtin_ctz(live)]), 1);
}
