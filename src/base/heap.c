// SPDX-License-Identifier: Apache-2.0
/* A 4-ary heap: half the levels of a binary one, and four children share a cache line and a half. */
#include "base/heap.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

int heap_init(struct heap *h, uint32_t cap)
{
	*h = (struct heap){.cap = cap ? cap : 1};
	h->v = calloc(h->cap, sizeof(*h->v));
	return h->v ? 0 : -ENOMEM;
}

void heap_release(struct heap *h)
{
	free(h->v);
	*h = (struct heap){0};
}

static bool heap_less(const struct heap_item *a, const struct heap_item *b)
{
	return a->key != b->key ? a->key < b->key : a->tie < b->tie;
}

void heap_push(struct heap *h, struct heap_item item)
{
	assert(h->count < h->cap);
	uint32_t i = h->count++;
	while (i > 0) {
		uint32_t parent = (i - 1) / 4;
		if (!heap_less(&item, &h->v[parent]))
			break;
		h->v[i] = h->v[parent];
		i = parent;
	}
	h->v[i] = item;
}

struct heap_item heap_pop(struct heap *h)
{
	assert(h->count > 0);
	struct heap_item top = h->v[0];
	struct heap_item last = h->v[--h->count];
	uint32_t i = 0;
	for (;;) {
		uint32_t first = 4 * i + 1;
		if (first >= h->count)
			break;
		uint32_t end = first + 4 < h->count ? first + 4 : h->count;
		uint32_t best = first;
		for (uint32_t c = first + 1; c < end; c++)
			if (heap_less(&h->v[c], &h->v[best]))
				best = c;
		if (!heap_less(&h->v[best], &last))
			break;
		h->v[i] = h->v[best];
		i = best;
	}
	h->v[i] = last;
	return top;
}
