/* SPDX-License-Identifier: Apache-2.0 */
/*
 * base/heap.h - a 4-ary min-heap of (key, tie, value), fixed capacity: O(log n), no allocation after init.
 *
 * Receives: 64-bit keys (times).  Gives: the smallest.  Must not know: what a value stands for.
 * Equal keys leave in the order of their tie, so runs repeat exactly. Not thread-safe.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct heap_item {
	uint64_t key;
	uint64_t tie;
	uint64_t value;
};

struct heap {
	struct heap_item *v;
	uint32_t count;
	uint32_t cap;
};

/** heap_init() - room for @cap items. Return: 0 or -ENOMEM. heap_release() after. */
int heap_init(struct heap *h, uint32_t cap);
void heap_release(struct heap *h);
/** heap_push() - add; asserts that there is room. */
void heap_push(struct heap *h, struct heap_item item);
/** heap_pop() - remove and return the smallest; asserts that there is one. */
struct heap_item heap_pop(struct heap *h);

/** heap_min_key() - key of the smallest, UINT64_MAX when empty. */
static inline uint64_t heap_min_key(const struct heap *h)
{
	return h->count ? h->v[0].key : UINT64_MAX;
}
