// SPDX-License-Identifier: Apache-2.0
/*
 * The index: key -> entry, chained buckets that grow by one at a time (linear hashing).
 *
 * A table that doubles would stop every worker for as long as it copies; a table of the final size
 * would touch all of its memory with the first few entries. Here one insertion splits at most
 * INDEX_BUCKETS_PER_ENTRY buckets, in order:
 *
 *	0 ............ split ............ 2^k ............ count
 *	already split | still for two   | split off from the first part
 *
 * so that the array is used from its start, and pages beyond bucket_count are never touched.
 */
#include "base/rng.h"
#include "cache/internal.h"

static uint32_t *index_bucket(const struct cache *c, uint64_t key)
{
	uint64_t b = rng_mix(key) & c->bucket_mask;
	if (b >= c->bucket_count)
		b &= c->bucket_mask >> 1;
	return &c->buckets[b];
}

void index_prefetch(const struct cache *c, uint64_t key)
{
	__builtin_prefetch(index_bucket(c, key), 1);
}

struct entry *index_prefetch_entry(const struct cache *c, uint64_t key)
{
	uint32_t i = *index_bucket(c, key);
	if (!i)
		return NULL;
	__builtin_prefetch(entry_at(c, i - 1), 1);
	return entry_at(c, i - 1);
}

struct entry *index_find(const struct cache *c, uint64_t key)
{
	for (uint32_t i = *index_bucket(c, key); i;) {
		struct entry *e = entry_at(c, i - 1);
		if (e->key == key)
			return e;
		i = e->chain;
	}
	return NULL;
}

static void index_push(struct cache *c, uint32_t *bucket, struct entry *e)
{
	e->chain = *bucket;
	*bucket = entry_number(c, e) + 1;
}

static void index_split(struct cache *c)
{
	uint32_t *old = &c->buckets[c->bucket_count & (c->bucket_mask >> 1)];
	uint32_t i = *old;
	*old = 0;
	c->bucket_count++;
	while (i) {
		struct entry *e = entry_at(c, i - 1);
		i = e->chain;
		index_push(c, index_bucket(c, e->key), e);
	}
	if (c->bucket_count > c->bucket_mask)
		c->bucket_mask = c->bucket_mask * 2 + 1;
}

void index_insert(struct cache *c, struct entry *e)
{
	index_push(c, index_bucket(c, e->key), e);
	c->indexed++;
	while (c->bucket_count < (uint64_t)c->indexed * INDEX_BUCKETS_PER_ENTRY &&
	       c->bucket_count < c->bucket_max)
		index_split(c);
}

void index_remove(struct cache *c, struct entry *e)
{
	uint32_t wanted = entry_number(c, e) + 1;
	uint32_t *link = index_bucket(c, e->key);
	while (*link != wanted)
		link = &entry_at(c, *link - 1)->chain;
	*link = e->chain;
	c->indexed--;
}
