// SPDX-License-Identifier: Apache-2.0
/*
 * What the cache's bookkeeping costs: cycles of (place a new entry, touch a random one, evict the
 * oldest) in a full tier, on one thread, with few entries (processor caches) and with many (main
 * memory).
 *
 * Prints a line per size and the ratio. Three operations are counted per cycle; the processor time of the best round is taken,
 * since a busy machine can only make it longer.
 */
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/rng.h"
#include "cache/cache.h"

enum { ENTRY_BYTES = 4096, OPERATIONS_PER_CYCLE = 3, CYCLES = 1000000, ROUNDS = 8 };

struct bench {
	struct cache *cache;
	uint64_t entries;
	uint64_t written; /* keys are 0, 1, 2, ... */
	struct rng rng;
};

static void wake(struct cache_plan *plan)
{
	(void)plan;
	abort(); /* one thread that ends every step at once never waits */
}

static void place(struct bench *b)
{
	struct cache_plan plan = {.wake = wake};
	struct cache_step step;
	struct cache_ref ref;

	if (cache_write_begin(b->cache, b->written++, ENTRY_BYTES, &plan) != CACHE_WRITE_PLANNED)
		abort();
	while (cache_plan_next(b->cache, &plan, &step) == CACHE_STEP)
		if (cache_freed(b->cache, &step.source, &ref) != CACHE_NONE)
			abort();
	cache_write_done(b->cache, &plan, 0, true);
}

/* The younger half of the writes is always there: an entry is evicted by as many newer writes and
 * touches as there are entries. */
static void touch(struct bench *b)
{
	struct cache_ref ref;
	uint64_t key = b->written - 1 - rng_below(&b->rng, b->entries / 2);

	if (cache_read_begin(b->cache, key, &ref) != CACHE_HIT)
		abort();
	cache_read_end(b->cache, &ref, true, &ref);
}

static void run_cycles(struct bench *b, uint64_t count)
{
	for (uint64_t i = 0; i < count; i++) {
		place(b);
		touch(b);
	}
}

static double best_round_s(struct bench *b)
{
	uint64_t best_ns = UINT64_MAX;

	for (unsigned i = 0; i < ROUNDS; i++) {
		uint64_t begin_ns = clock_thread_cpu_ns();
		run_cycles(b, CYCLES);
		best_ns = MIN(best_ns, clock_thread_cpu_ns() - begin_ns);
	}
	return (double)best_ns / (double)NS_PER_S;
}

static double measure(uint64_t entries)
{
	struct cache_setup setup = {
		.tier[0] = {.limit_bytes = entries * ENTRY_BYTES, .granule_bytes = ENTRY_BYTES},
		.tier_count = 1,
		.entries_max = entries + 1,
	};
	struct bench b = {.entries = entries, .rng = rng_stream(1)};
	const char *why;

	if (cache_new(&setup, &b.cache))
		abort();
	while (b.written < entries)
		place(&b);
	run_cycles(&b, entries); /* so that neighbours on the list are strangers in memory */

	double seconds = best_round_s(&b);
	if (cache_check(b.cache, &why)) {
		fprintf(stderr, "cache_bench: %s\n", why);
		exit(EXIT_FAILURE);
	}
	cache_free(b.cache);
	double per_s = (double)CYCLES * OPERATIONS_PER_CYCLE / seconds;
	printf("%10lu entries  %6.2f million operations/s  %7.1f ns/cycle\n",
	       (unsigned long)entries, per_s / 1e6, 1e9 * seconds / CYCLES);
	return per_s;
}

int main(void)
{
	double few = measure(10000);
	double many = measure(10000000);

	printf("cost at 10 million entries / at 10 thousand: %.2f\n", few / many);
	return EXIT_SUCCESS;
}
