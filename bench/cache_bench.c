// SPDX-License-Identifier: Apache-2.0
/*
 * What the cache's bookkeeping costs: cycles of (place a new entry, touch a random one, evict the
 * oldest) in a full tier, on one thread, with few entries (processor caches) and with many (main
 * memory).
 *
 * A request knows the keys of all its lookups before the first, and so does a batch of cycles here: cache_prefetch() gets them as
 * the runner would call it. The same without that hint, and with the lock that several workers need, stand beside it.
 * Three operations are counted per cycle; the processor time of the best round is taken, since a busy machine can only make it
 * longer.
 */
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/rng.h"
#include "cache/cache.h"

enum { ENTRY_BYTES = 4096, OPERATIONS_PER_CYCLE = 3, CYCLES = 1000000, ROUNDS = 8, BATCH = 8 };

struct bench {
	struct cache *cache;
	uint64_t entries;
	bool has_hints;
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
static uint64_t random_key(struct bench *b)
{
	return b->written - 1 - rng_below(&b->rng, b->entries / 2);
}

static void touch(struct bench *b, uint64_t key)
{
	struct cache_ref ref;

	if (cache_read_begin(b->cache, key, &ref) != CACHE_HIT)
		abort();
	cache_read_end(b->cache, &ref, true, &ref);
}

static void run_batch(struct bench *b)
{
	uint64_t keys[2 * BATCH];

	for (unsigned i = 0; i < BATCH; i++) {
		keys[i] = random_key(b);
		keys[BATCH + i] = b->written + i;
	}
	if (b->has_hints)
		cache_prefetch(b->cache, keys, 2 * BATCH);
	for (unsigned i = 0; i < BATCH; i++) {
		place(b);
		touch(b, keys[i]);
	}
}

static void run_cycles(struct bench *b, uint64_t count)
{
	for (uint64_t i = 0; i < count; i += BATCH)
		run_batch(b);
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

static double measure(struct bench *b, const char *what)
{
	double seconds = best_round_s(b);
	double per_s = (double)CYCLES * OPERATIONS_PER_CYCLE / seconds;

	printf("%10lu entries, %-12s %6.2f million operations/s  %7.1f ns/cycle\n",
	       (unsigned long)b->entries, what, per_s / 1e6, 1e9 * seconds / CYCLES);
	return per_s;
}

static void bench_fill(struct bench *b, uint64_t entries, bool is_private)
{
	struct cache_setup setup = {
		.tier[0] = {.limit_bytes = entries * ENTRY_BYTES, .granule_bytes = ENTRY_BYTES},
		.tier_count = 1,
		.entries_max = entries + 1,
		.is_private = is_private,
	};

	*b = (struct bench){.entries = entries, .has_hints = true, .rng = rng_stream(1)};
	if (cache_new(&setup, &b->cache))
		abort();
	while (b->written < entries)
		place(b);
	run_cycles(b, entries); /* so that neighbours on the list are strangers in memory */
}

static void bench_end(struct bench *b)
{
	const char *why;

	if (cache_check(b->cache, &why)) {
		fprintf(stderr, "cache_bench: %s\n", why);
		exit(EXIT_FAILURE);
	}
	cache_free(b->cache);
}

/* Return: operations per second of one thread, as the engine runs it. */
static double measure_size(uint64_t entries)
{
	struct bench b;

	bench_fill(&b, entries, true);
	double per_s = measure(&b, "hinted");
	b.has_hints = false;
	measure(&b, "not hinted");
	bench_end(&b);
	bench_fill(&b, entries, false);
	measure(&b, "with lock");
	bench_end(&b);
	return per_s;
}

int main(void)
{
	double few = measure_size(10000);
	double many = measure_size(10000000);

	printf("cost at 10 million entries / at 10 thousand: %.2f\n", few / many);
	return EXIT_SUCCESS;
}
