// SPDX-License-Identifier: Apache-2.0
/* The cache: each rule alone, then against a naive model, then thousands of operations that end in
 * random order, then threads. */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/attr.h"
#include "base/mem.h"
#include "base/rng.h"
#include "cache/cache.h"

enum { ENTRIES_MAX = 20000 };

/* ---- one writer, step by step ---- */

struct op {
	struct cache_plan plan;
	unsigned wakes;
};

static void count_wake(struct cache_plan *plan)
{
	container_of(plan, struct op, plan)->wakes++;
}

static struct cache *cache_of(unsigned tiers, const uint64_t *limits)
{
	struct cache_setup setup = {
		.tier_count = tiers,
		.target_usage_ratio = CACHE_TARGET_USAGE,
		.large_entry_limit_ratio = CACHE_LARGE_ENTRY_LIMIT,
		.entries_max = ENTRIES_MAX,
	};
	struct cache *c;

	for (unsigned t = 0; t < tiers; t++)
		setup.tier[t] = (struct cache_tier){.limit_bytes = limits[t], .granule_bytes = 1};
	assert_int_equal(cache_new(&setup, &c), 0);
	return c;
}
#define CACHE_OF(...) \
 cache_of(sizeof((uint64_t[]){__VA_ARGS__}) / sizeof(uint64_t), (uint64_t[]){__VA_ARGS__})

static void check(struct cache *c)
{
	const char *why = "";

	if (cache_check(c, &why))
		fail_msg("%s", why);
}

static uint64_t used(struct cache *c, unsigned tier)
{
	return cache_usage(c, tier).used_bytes;
}

static enum cache_write begin(struct cache *c, struct op *op, uint64_t key, uint64_t bytes)
{
	*op = (struct op){.plan.wake = count_wake};
	enum cache_write outcome = cache_write_begin(c, key, bytes, &op->plan);
	check(c);
	return outcome;
}

static uint64_t location_of(uint64_t key, unsigned tier)
{
	return key * 10 + tier;
}

static void freed(struct cache *c, const struct cache_ref *ref)
{
	struct cache_ref more;

	assert_int_equal(cache_freed(c, ref, &more), CACHE_NONE);
	check(c);
}

static void run_step(struct cache *c, const struct cache_step *step)
{
	struct cache_ref source = step->source;

	if (step->to >= 0)
		assert_int_equal(cache_step_done(c, step,
						 location_of(source.key, (unsigned)step->to), true,
						 &source),
				 CACHE_DELETE);
	freed(c, &source);
}

/* Run the plan's steps one by one and write. Return: how many there were. */
static unsigned finish(struct cache *c, struct op *op)
{
	struct cache_step step;
	enum cache_progress progress;
	unsigned steps = 0;

	while ((progress = cache_plan_next(c, &op->plan, &step)) == CACHE_STEP) {
		run_step(c, &step);
		steps++;
	}
	assert_int_equal(progress, CACHE_READY);
	const struct cache_ref *target = &op->plan.target;
	cache_write_done(c, &op->plan, location_of(target->key, target->tier), true);
	check(c);
	return steps;
}

/* Write an entry; returns its tier. */
static int put(struct cache *c, uint64_t key, uint64_t bytes)
{
	struct op op;

	assert_int_equal(begin(c, &op, key, bytes), CACHE_WRITE_PLANNED);
	finish(c, &op);
	return (int)op.plan.target.tier;
}

static struct cache_ref pin(struct cache *c, uint64_t key)
{
	struct cache_ref ref;

	assert_int_equal(cache_read_begin(c, key, &ref), CACHE_HIT);
	assert_int_equal(ref.key, key);
	check(c);
	return ref;
}

static void unpin(struct cache *c, const struct cache_ref *ref)
{
	struct cache_ref more;

	assert_int_equal(cache_read_end(c, ref, true, &more), CACHE_NONE);
	check(c);
}

/* Read an entry; returns its tier, -1: not there. Makes it the most recent one. */
static int get(struct cache *c, uint64_t key)
{
	struct cache_ref ref;

	if (cache_read_begin(c, key, &ref) != CACHE_HIT)
		return -1;
	assert_int_equal(ref.location, location_of(key, ref.tier));
	unpin(c, &ref);
	return (int)ref.tier;
}

static struct cache_step next_step(struct cache *c, struct op *op)
{
	struct cache_step step;

	assert_int_equal(cache_plan_next(c, &op->plan, &step), CACHE_STEP);
	check(c);
	return step;
}

static void assert_next(struct cache *c, struct op *op, enum cache_progress expected)
{
	struct cache_step step;

	assert_int_equal(cache_plan_next(c, &op->plan, &step), expected);
	check(c);
}

static void assert_step(const struct cache_step *step, uint64_t key, unsigned from, int to)
{
	assert_int_equal(step->source.key, key);
	assert_int_equal(step->source.tier, from);
	assert_int_equal(step->source.location, location_of(key, from));
	assert_int_equal(step->to, to);
	if (to >= 0)
		assert_int_equal(step->target.tier, to);
}

/* ---- set-up, outcomes ---- */

static void test_new(void **state)
{
	(void)state;
	struct cache_setup setup = {.tier_count = 1, .entries_max = 1};
	struct cache *c = NULL;

	assert_int_equal(cache_new(&setup, &c), -EINVAL); /* granule 0 */
	setup.tier[0].granule_bytes = 3;
	assert_int_equal(cache_new(&setup, &c), -EINVAL);
	setup.tier[0].granule_bytes = 4096;
	setup.tier_count = 0;
	assert_int_equal(cache_new(&setup, &c), -EINVAL);
	setup.tier_count = TIER_CLASSES + 1;
	assert_int_equal(cache_new(&setup, &c), -EINVAL);
	setup.tier_count = 1;
	setup.entries_max = 0;
	assert_int_equal(cache_new(&setup, &c), -EINVAL);
	assert_null(c);
	cache_free(NULL);
}

static void test_footprint(void **state)
{
	(void)state;
	struct cache_setup setup = {
		.tier[0] = {.limit_bytes = 20480, .header_bytes = 4096, .granule_bytes = 4096},
		.tier_count = 1,
		.entries_max = 10,
	};
	struct cache *c;
	struct op op;

	assert_int_equal(cache_new(&setup, &c), 0);
	assert_int_equal(cache_footprint(c, 0, 1), 8192);
	assert_int_equal(cache_footprint(c, 0, 4096), 8192);
	assert_int_equal(cache_footprint(c, 0, 4097), 12288);
	assert_int_equal(begin(c, &op, 1, 16385), CACHE_WRITE_TOO_LARGE);
	assert_int_equal(put(c, 1, 16384), 0);
	assert_int_equal(used(c, 0), 20480);
	assert_true(cache_index_bytes(1000) >= 64000);
	cache_free(c);
}

static void test_outcomes(void **state)
{
	(void)state;
	struct cache *c = CACHE_OF(1000, 100);
	struct op op;
	struct cache_ref ref;

	assert_int_equal(begin(c, &op, 1, 0), CACHE_WRITE_EMPTY);
	assert_int_equal(begin(c, &op, 1, 101),
			 CACHE_WRITE_TOO_LARGE); /* the upper tier would hold it */
	assert_int_equal(begin(c, &op, 1, UINT64_MAX), CACHE_WRITE_TOO_LARGE);
	assert_int_equal(cache_read_begin(c, 1, &ref), CACHE_MISS);
	assert_int_equal(begin(c, &op, 1, 100), CACHE_WRITE_PLANNED);
	assert_int_equal(op.plan.outcome, CACHE_WRITE_PLANNED);
	assert_int_equal(cache_read_begin(c, 1, &ref), CACHE_MISS_IN_FLIGHT);
	assert_int_equal(cache_usage(c, 0).entries, 0);
	assert_int_equal(used(c, 0), 100);
	finish(c, &op);
	assert_int_equal(cache_usage(c, 0).entries, 1);
	assert_int_equal(cache_usage(c, 0).limit_bytes, 1000);
	assert_int_equal(begin(c, &op, 1, 100), CACHE_WRITE_RESIDENT);
	assert_int_equal(get(c, 1), 0);
	cache_free(c);
}

static void test_full(void **state)
{
	(void)state;
	struct cache_setup setup = {
		.tier[0] = {.limit_bytes = 1000, .granule_bytes = 1},
		.tier_count = 1,
		.entries_max = 2,
	};
	struct cache *c;
	struct op op;

	assert_int_equal(cache_new(&setup, &c), 0);
	put(c, 1, 500);
	put(c, 2, 500);
	assert_int_equal(begin(c, &op, 3, 1), CACHE_WRITE_FULL);
	assert_int_equal(get(c, 1), 0);
	cache_free(c);
}

static void test_generation(void **state)
{
	(void)state;
	struct cache *c = CACHE_OF(100);
	struct op op;

	put(c, 1, 100);
	assert_int_equal(pin(c, 1).generation, 1);
	cache_free(c);

	c = CACHE_OF(100);
	put(c, 1, 100);
	put(c, 2, 100); /* evicts 1 */
	assert_int_equal(begin(c, &op, 1, 100), CACHE_WRITE_PLANNED);
	assert_int_equal(op.plan.target.generation, 3);
	finish(c, &op);
	assert_int_equal(pin(c, 1).generation, 3);
	cache_free(c);
}

static void test_failed_write(void **state)
{
	(void)state;
	struct cache *c = CACHE_OF(100);
	struct op op;

	assert_int_equal(begin(c, &op, 1, 60), CACHE_WRITE_PLANNED);
	assert_next(c, &op, CACHE_READY);
	cache_write_done(c, &op.plan, 0, false);
	check(c);
	assert_int_equal(used(c, 0), 0);
	assert_int_equal(get(c, 1), -1);
	assert_int_equal(put(c, 1, 60), 0);
	cache_free(c);
}

/* ---- who is evicted ---- */

static void test_lru_order(void **state)
{
	(void)state;
	struct cache *c = CACHE_OF(30);

	put(c, 1, 10);
	put(c, 2, 10);
	put(c, 3, 10);
	assert_int_equal(get(c, 1), 0); /* order: 2 3 1 */
	put(c, 4, 10);
	put(c, 5, 10);
	assert_int_equal(get(c, 2), -1);
	assert_int_equal(get(c, 3), -1);
	assert_int_equal(get(c, 1), 0);
	assert_int_equal(get(c, 4), 0);
	assert_int_equal(get(c, 5), 0);
	cache_free(c);
}

/* Write an entry of one byte into @tier, without a check of everything. Return: the victim's key, or -1. */
static int64_t put_quickly(struct cache *c, uint64_t key, unsigned tier)
{
	struct cache_plan plan = {.wake = count_wake, .first_tier = tier};
	struct cache_step step;
	struct cache_ref ref;
	int64_t victim = -1;

	assert_int_equal(cache_write_begin(c, key, 1, &plan), CACHE_WRITE_PLANNED);
	while (cache_plan_next(c, &plan, &step) == CACHE_STEP) {
		victim = (int64_t)step.source.key;
		assert_int_equal(cache_freed(c, &step.source, &ref), CACHE_NONE);
	}
	cache_write_done(c, &plan, location_of(key, tier), true);
	return victim;
}

static void get_quickly(struct cache *c, uint64_t key)
{
	struct cache_ref ref;

	assert_int_equal(cache_read_begin(c, key, &ref), CACHE_HIT);
	assert_int_equal(cache_read_end(c, &ref, true, &ref), CACHE_NONE);
}

/*
 * All but every @nth of the entries used last are used again, then all but every @nth of those, and so on: what is left behind are
 * single entries, each of them alone among holes. The list must close the holes, or it would need far more memory than it has, and
 * keep its order.
 */
static void check_sparse_list(uint64_t nth, unsigned tier)
{
	enum { HELD = ENTRIES_MAX - 1 };
	struct cache *c = cache_of(tier + 1, (uint64_t[TIER_CLASSES]){HELD, HELD, HELD});
	uint64_t *order = calloc(HELD, sizeof(*order)), *used = calloc(HELD, sizeof(*used));

	for (uint64_t i = 0; i < HELD; i++) {
		assert_int_equal(put_quickly(c, i, tier), -1);
		order[i] = i;
	}
	for (uint64_t begin = 0; HELD - begin > nth;) {
		uint64_t left = begin, again = 0;
		for (uint64_t i = begin; i < HELD; i++) {
			if ((i - begin) % nth == 0) {
				order[left++] = order[i];
				continue;
			}
			used[again++] = order[i];
			get_quickly(c, order[i]);
		}
		memcpy(order + left, used, again * sizeof(*used));
		begin = left;
		check(c);
	}
	for (uint64_t i = 0; i < HELD; i++)
		assert_int_equal(put_quickly(c, HELD + i, tier), order[i]);
	check(c);
	free(order);
	free(used);
	cache_free(c);
}

static void test_sparse_list(void **state)
{
	(void)state;
	static const uint64_t nth[] = {2, 3, 7, 12, 13, 14, 100};

	for (size_t i = 0; i < ARRAY_LEN(nth); i++)
		check_sparse_list(nth[i], (unsigned)i % TIER_CLASSES);
}

static void test_pinned_is_no_victim(void **state)
{
	(void)state;
	struct cache *c = CACHE_OF(30);

	put(c, 1, 10);
	put(c, 2, 10);
	put(c, 3, 10);
	struct cache_ref first = pin(c, 1), second = pin(c, 1);
	assert_false(first.is_shared);
	assert_true(second.is_shared);
	put(c, 4, 10);
	assert_int_equal(get(c, 2), -1);
	unpin(c, &first);
	put(c, 5, 10); /* still pinned: 3 goes */
	assert_int_equal(get(c, 3), -1);
	unpin(c, &second); /* order: 4 5 1 */
	put(c, 6, 10);
	assert_int_equal(get(c, 4), -1);
	assert_int_equal(get(c, 1), 0);
	cache_free(c);
}

static void test_thresholds(void **state)
{
	(void)state;
	static const struct row {
		uint64_t used, bytes; /* upper tier of 1000: target 800, large 950, near-empty 50 */
		bool is_pinned;
		int tier;
		unsigned steps;
	} rows[] = {
		{0, 800, false, 0, 0},
		{0, 950, false, 0, 0},   /* near-empty takes what is not large */
		{0, 951, false, 1, 0},   /* large */
		{49, 950, false, 0, 0},  /* near-empty, 999 of 1000 */
		{50, 750, false, 0, 0},  /* the target exactly */
		{50, 751, false, 1, 0},  /* bail: 50 < 200 in use, 751 > 400 */
		{199, 601, false, 0, 0}, /* the target exactly */
		{199, 602, false, 1, 0}, /* bail */
		{200, 601, false, 0, 1}, /* enough in use: evict */
		{500, 300, false, 0, 0},
		{500, 301, false, 0, 1},
		{500, 301, true, 1, 0}, /* not enough unpinned bytes */
		{500, 300, true, 0, 0},
		{800, 950, false, 0, 1},
		{800, 1, false, 0, 1},
		{800, 1, true, 1, 0},
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		const struct row *r = &rows[i];
		struct cache *c = CACHE_OF(1000, 10000);
		struct cache_ref ref;
		struct op op;
		if (r->used)
			assert_int_equal(put(c, 1, r->used), 0);
		if (r->is_pinned)
			ref = pin(c, 1);
		assert_int_equal(begin(c, &op, 2, r->bytes), CACHE_WRITE_PLANNED);
		assert_int_equal(op.plan.target.tier, r->tier);
		assert_int_equal(op.plan.passed_over, r->tier);
		assert_int_equal(finish(c, &op), r->steps);
		assert_int_equal(get(c, 2), r->tier);
		if (r->is_pinned)
			unpin(c, &ref);
		if (r->used)
			assert_int_equal(get(c, 1), r->steps ? 1 : 0);
		cache_free(c);
	}
}

static void test_ratios_from_setup(void **state)
{
	(void)state;
	struct cache_setup setup = {
		.tier = {{.limit_bytes = 1000, .granule_bytes = 1},
			 {.limit_bytes = 5000, .granule_bytes = 1}},
		.tier_count = 2,
		.target_usage_ratio = 0.5,
		.large_entry_limit_ratio = 0.6,
		.entries_max = 10,
	};
	struct cache *c;

	assert_int_equal(cache_new(&setup, &c), 0);
	assert_int_equal(put(c, 1, 601), 1);
	assert_int_equal(put(c, 2, 300), 0);
	assert_int_equal(put(c, 3, 201), 0);
	assert_int_equal(get(c, 2), 1);
	cache_free(c);
}

static void test_last_tier_is_filled(void **state)
{
	(void)state;
	struct cache *c = CACHE_OF(100);
	struct op op;

	put(c, 1, 99);
	put(c, 2, 1);
	assert_int_equal(used(c, 0), 100);
	assert_int_equal(begin(c, &op, 3, 1), CACHE_WRITE_PLANNED);
	struct cache_step step = next_step(c, &op);
	assert_step(&step, 1, 0, -1);
	run_step(c, &step);
	assert_int_equal(finish(c, &op), 0);
	assert_int_equal(used(c, 0), 2);
	cache_free(c);
}

static void fill_with_ones(struct cache *c, uint64_t count)
{
	for (uint64_t key = 1; key <= count; key++) {
		struct cache_plan plan = {.wake = count_wake};
		assert_int_equal(cache_write_begin(c, key, 1, &plan), CACHE_WRITE_PLANNED);
		cache_write_done(c, &plan, location_of(key, 0), true);
	}
}

static void test_victims_of_one_plan(void **state)
{
	(void)state;
	struct cache *c = CACHE_OF(6000);
	struct op op;

	fill_with_ones(c, 6000);
	assert_int_equal(begin(c, &op, 7000, 6000), CACHE_WRITE_PLANNED);
	assert_int_equal(op.plan.pending, 6000); /* the last tier has no bound */
	cache_free(c);

	c = CACHE_OF(8000, 20000);
	fill_with_ones(c, 6400);
	assert_int_equal(begin(c, &op, 7000, 5001), CACHE_WRITE_PLANNED);
	assert_int_equal(op.plan.target.tier, 1); /* an upper one has: passed over */
	finish(c, &op);
	assert_int_equal(begin(c, &op, 7001, 5000), CACHE_WRITE_PLANNED);
	assert_int_equal(op.plan.target.tier, 0);
	struct cache_step step = next_step(c, &op); /* and the order was kept */
	assert_step(&step, 1, 0, 1);
	cache_free(c);
}

/* ---- demotion ---- */

/* Tiers of 100: 10..13 in the first, 6..9 in the second, 1..5 in the last; entries of 20. */
static struct cache *three_full_tiers(void)
{
	struct cache *c = CACHE_OF(100, 100, 100);

	for (uint64_t key = 1; key <= 13; key++)
		assert_int_equal(put(c, key, 20), 0);
	assert_int_equal(cache_usage(c, 0).entries, 4);
	assert_int_equal(cache_usage(c, 1).entries, 4);
	assert_int_equal(cache_usage(c, 2).entries, 5);
	return c;
}

static void test_demotion_chain(void **state)
{
	(void)state;
	struct cache *c = three_full_tiers();
	struct op op;

	assert_int_equal(begin(c, &op, 14, 20), CACHE_WRITE_PLANNED);
	assert_int_equal(op.plan.target.tier, 0);
	assert_int_equal(get(c, 1), -1); /* a deleted victim is gone when the plan is made */
	struct cache_step step = next_step(c, &op);
	assert_step(&step, 1, 2, -1);
	assert_next(c, &op, CACHE_STEP_WAIT); /* 6 has no room in the last tier yet */
	assert_int_equal(op.wakes, 0);
	run_step(c, &step);
	assert_int_equal(op.wakes, 1);
	step = next_step(c, &op);
	assert_step(&step, 6, 1, 2);
	struct cache_step upper =
		next_step(c, &op); /* the limit is not the target: there is room for 10 already */
	assert_step(&upper, 10, 0, 1);
	assert_next(c, &op, CACHE_STEP_WAIT);
	run_step(c, &upper);
	assert_int_equal(op.wakes, 1);
	run_step(c, &step);
	assert_int_equal(op.wakes, 2);
	assert_int_equal(finish(c, &op), 0);
	assert_int_equal(get(c, 6), 2);
	assert_int_equal(get(c, 10), 1);
	assert_int_equal(get(c, 14), 0);
	cache_free(c);
}

static void test_demoted_is_recent(void **state)
{
	(void)state;
	struct cache *c = CACHE_OF(100, 100);

	for (uint64_t key = 1; key <= 5; key++)
		put(c, key, 20);             /* 1 was demoted */
	assert_int_equal(put(c, 10, 96), 1); /* large: evicts 1 */
	assert_int_equal(get(c, 1), -1);
	cache_free(c);

	c = CACHE_OF(100, 100);
	for (uint64_t key = 1; key <= 8; key++)
		put(c, key, 20);        /* last tier: 1 2 3 4 */
	assert_int_equal(get(c, 1), 1); /* 2 3 4 1 */
	put(c, 9, 20);                  /* demotes 5: 2 3 4 1 5 */
	put(c, 10, 20);                 /* demotes 6, deletes 2 */
	assert_int_equal(get(c, 2), -1);
	put(c, 11, 20);
	put(c, 12, 20);
	assert_int_equal(get(c, 4), -1);
	put(c, 13, 20);
	assert_int_equal(get(c, 1), -1);
	assert_int_equal(get(c, 5), 1);
	cache_free(c);
}

static void test_large_victim_skips_a_tier(void **state)
{
	(void)state;
	struct cache *c = CACHE_OF(1000, 100, 1000);
	struct op op;

	put(c, 1, 500); /* can never be in the second tier */
	assert_int_equal(begin(c, &op, 2, 400), CACHE_WRITE_PLANNED);
	assert_int_equal(op.plan.target.tier, 0);
	struct cache_step step = next_step(c, &op);
	assert_step(&step, 1, 0, 2);
	run_step(c, &step);
	finish(c, &op);
	assert_int_equal(get(c, 1), 2);
	cache_free(c);
}

static void test_roll_back(void **state)
{
	(void)state;
	struct cache *c = CACHE_OF(100, 200);
	struct op op;

	assert_int_equal(put(c, 100, 160), 1);
	struct cache_ref ref = pin(c, 100);
	for (uint64_t key = 1; key <= 4; key++)
		assert_int_equal(put(c, key, 20), 0);
	/* 60 more need three victims, the last tier has room for two */
	assert_int_equal(begin(c, &op, 5, 60), CACHE_WRITE_WAITING);
	assert_int_equal(op.plan.passed_over, 1);
	assert_int_equal(used(c, 0), 80);
	assert_int_equal(used(c, 1), 160);
	assert_true(cache_cancel(c, &op.plan));
	check(c);
	for (uint64_t key = 1; key <= 2; key++) { /* the order is the old one */
		assert_int_equal(begin(c, &op, 10 + key, 20), CACHE_WRITE_PLANNED);
		struct cache_step step = next_step(c, &op);
		assert_step(&step, key, 0, 1);
		run_step(c, &step);
		finish(c, &op);
	}
	unpin(c, &ref);
	cache_free(c);
}

static void test_roll_back_over_three_tiers(void **state)
{
	(void)state;
	struct cache *c = three_full_tiers();
	struct cache_ref refs[3];
	struct op op;

	for (uint64_t i = 0; i < 3; i++)
		refs[i] = pin(c, 3 + i);
	/* 60 more in the first tier: three demotions twice, three deletions, but only two can be
	 * deleted; second tier: the same */
	assert_int_equal(begin(c, &op, 20, 60), CACHE_WRITE_WAITING);
	assert_int_equal(op.plan.passed_over, 2);
	for (unsigned t = 0; t < 3; t++)
		assert_int_equal(used(c, t), t == 2 ? 100 : 80);
	assert_true(cache_cancel(c, &op.plan));
	for (uint64_t i = 0; i < 3; i++)
		unpin(c, &refs[i]);
	assert_int_equal(begin(c, &op, 21, 20), CACHE_WRITE_PLANNED);
	struct cache_step step = next_step(c, &op);
	assert_step(&step, 1, 2, -1);
	run_step(c, &step);
	step = next_step(c, &op);
	assert_step(&step, 6, 1, 2);
	run_step(c, &step);
	step = next_step(c, &op);
	assert_step(&step, 10, 0, 1);
	run_step(c, &step);
	finish(c, &op);
	cache_free(c);
}

static void test_moving_is_readable(void **state)
{
	(void)state;
	struct cache *c = CACHE_OF(100, 1000);
	struct op op;
	struct cache_ref ret;

	put(c, 1, 60);
	assert_int_equal(begin(c, &op, 2, 60), CACHE_WRITE_PLANNED);
	struct cache_ref queued = pin(c, 1);
	assert_int_equal(queued.tier, 0);
	struct cache_step step = next_step(c, &op);
	struct cache_ref copying = pin(c, 1);
	assert_int_equal(copying.tier, 0);
	assert_true(copying.is_shared);
	unpin(c, &queued);
	assert_int_equal(cache_step_done(c, &step, location_of(1, 1), true, &ret), CACHE_NONE);
	check(c);
	struct cache_ref copied = pin(c, 1);
	assert_int_equal(copied.tier, 1);
	assert_int_equal(copied.location, location_of(1, 1));
	assert_false(copied.is_shared);
	assert_next(c, &op, CACHE_STEP_WAIT);
	assert_int_equal(cache_read_end(c, &copying, true, &ret), CACHE_DELETE);
	assert_int_equal(ret.tier, 0);
	assert_int_equal(ret.location, location_of(1, 0));
	assert_int_equal(used(c, 0), 120); /* the new entry's room is promised, not there */
	assert_int_equal(op.wakes, 0);
	freed(c, &ret);
	assert_int_equal(used(c, 0), 60);
	assert_int_equal(op.wakes, 1);
	finish(c, &op);
	unpin(c, &copied);
	assert_int_equal(get(c, 1), 1);
	cache_free(c);
}

static void test_mover_shares_the_source(void **state)
{
	(void)state;
	struct cache *c = CACHE_OF(100, 1000);
	struct op op;

	put(c, 1, 60);
	begin(c, &op, 2, 60);
	next_step(c, &op);
	assert_true(pin(c, 1).is_shared);
	cache_free(c);
}

static void test_leaving_is_no_victim(void **state)
{
	(void)state;
	struct cache *c = CACHE_OF(100, 100);
	struct op op, other;
	struct cache_ref source;

	put(c, 1, 60);
	begin(c, &op, 2, 60);
	struct cache_step step = next_step(c, &op);
	assert_int_equal(cache_step_done(c, &step, location_of(1, 1), true, &source), CACHE_DELETE);
	assert_int_equal(begin(c, &other, 3, 98),
			 CACHE_WRITE_WAITING); /* 1 cannot leave the last tier yet */
	freed(c, &source);
	assert_int_equal(other.wakes, 1);
	assert_int_equal(other.plan.outcome, CACHE_WRITE_PLANNED);
	assert_int_equal(finish(c, &other), 1);
	finish(c, &op);
	assert_int_equal(get(c, 1), -1);
	cache_free(c);
}

static void test_failed_move(void **state)
{
	(void)state;
	struct cache *c = CACHE_OF(100, 1000);
	struct op op;
	struct cache_ref ret;

	put(c, 1, 60);
	begin(c, &op, 2, 60);
	struct cache_ref reader = pin(c, 1);
	struct cache_step step = next_step(c, &op);
	assert_int_equal(used(c, 1), 60);
	assert_int_equal(cache_step_done(c, &step, 0, false, &ret), CACHE_NONE);
	check(c);
	assert_int_equal(used(c, 1), 0); /* given back at once */
	assert_int_equal(get(c, 1), -1); /* dropped */
	assert_next(c, &op, CACHE_STEP_WAIT);
	assert_int_equal(cache_read_end(c, &reader, true, &ret), CACHE_DELETE);
	freed(c, &ret);
	assert_int_equal(op.wakes, 1);
	finish(c, &op);
	assert_int_equal(get(c, 2), 0);

	begin(c, &op, 3, 60); /* the same without a reader */
	step = next_step(c, &op);
	assert_int_equal(cache_step_done(c, &step, 0, false, &ret), CACHE_DELETE);
	assert_int_equal(ret.tier, 0);
	freed(c, &ret);
	finish(c, &op);
	assert_int_equal(used(c, 0), 60);
	assert_int_equal(used(c, 1), 0);
	cache_free(c);
}

/* ---- promises: room that another plan still has to free ---- */

static void test_promised_room(void **state)
{
	(void)state;
	struct cache *c = CACHE_OF(100);
	struct op first, second, third;

	put(c, 1, 60);
	put(c, 2, 40);
	assert_int_equal(begin(c, &first, 3, 10), CACHE_WRITE_PLANNED);  /* evicts 1 */
	assert_int_equal(begin(c, &second, 4, 31), CACHE_WRITE_PLANNED); /* takes of the rest */
	assert_int_equal(begin(c, &third, 5, 20), CACHE_WRITE_PLANNED);  /* evicts 2 */
	assert_next(c, &second, CACHE_STEP_WAIT);
	struct cache_step step = next_step(c, &third);
	assert_step(&step, 2, 0, -1);
	run_step(c, &step);
	assert_next(c, &third, CACHE_STEP_WAIT); /* the room it made serves those before it first */
	assert_int_equal(second.wakes, 0); /* 40 free: 10 for the first, 1 too few for the second */
	step = next_step(c, &first);
	assert_step(&step, 1, 0, -1);
	assert_next(c, &first, CACHE_STEP_WAIT);
	run_step(c, &step);
	assert_int_equal(first.wakes, 1);
	assert_int_equal(second.wakes, 1);
	assert_int_equal(third.wakes, 1);
	finish(c, &third);
	finish(c, &first);
	finish(c, &second);
	assert_int_equal(used(c, 0), 61);
	cache_free(c);
}

/* ---- the FIFO ---- */

static void test_fifo(void **state)
{
	(void)state;
	struct cache *c = CACHE_OF(100);
	struct op a, b, d;

	put(c, 1, 50);
	put(c, 2, 50);
	struct cache_ref one = pin(c, 1), two = pin(c, 2);
	assert_int_equal(begin(c, &a, 3, 50), CACHE_WRITE_WAITING);
	assert_int_equal(begin(c, &b, 4, 10), CACHE_WRITE_WAITING);
	assert_int_equal(begin(c, &d, 5, 40), CACHE_WRITE_WAITING);
	assert_int_equal(cache_read_begin(c, 3, &one), CACHE_MISS_IN_FLIGHT);
	unpin(c, &one);
	assert_int_equal(a.wakes, 1);
	assert_int_equal(a.plan.outcome, CACHE_WRITE_PLANNED);
	assert_int_equal(b.wakes, 0);
	finish(c, &a); /* 3 may be evicted now: both others fit */
	assert_int_equal(b.wakes, 1);
	assert_int_equal(d.wakes, 1);
	finish(c, &b);
	finish(c, &d);
	unpin(c, &two);
	assert_int_equal(used(c, 0), 100);
	assert_int_equal(a.wakes + b.wakes + d.wakes, 3);
	cache_free(c);
}

static void test_nobody_overtakes(void **state)
{
	(void)state;
	struct cache *c = CACHE_OF(100, 100);
	struct op large, small, upper, demoting;

	for (uint64_t key = 1; key <= 3; key++)
		put(c, key, 20); /* upper tier: 60, target 80 */
	put(c, 10, 97);          /* the last one */
	struct cache_ref ref = pin(c, 10);
	assert_int_equal(begin(c, &large, 20, 96), CACHE_WRITE_WAITING);
	assert_int_equal(begin(c, &upper, 21, 20),
			 CACHE_WRITE_PLANNED); /* needs nothing of the last tier */
	finish(c, &upper);
	assert_int_equal(begin(c, &demoting, 22, 3),
			 CACHE_WRITE_WAITING); /* would fit, after a demotion that would not */
	assert_int_equal(demoting.plan.passed_over, 1);
	assert_int_equal(begin(c, &small, 23, 1), CACHE_WRITE_WAITING);
	unpin(c, &ref);
	assert_int_equal(large.wakes, 1);
	assert_int_equal(demoting.wakes, 1); /* 96 + 3 */
	assert_int_equal(small.wakes, 1);
	assert_int_equal(small.plan.target.tier, 1);
	finish(c, &large);
	finish(c, &demoting);
	finish(c, &small);
	assert_int_equal(used(c, 1), 100);
	cache_free(c);
}

static void test_free_room_is_not_overtaken(void **state)
{
	(void)state;
	struct cache *c = CACHE_OF(100);
	struct op large, small;

	put(c, 1, 50);
	struct cache_ref ref = pin(c, 1);
	assert_int_equal(begin(c, &large, 2, 60), CACHE_WRITE_WAITING);
	assert_int_equal(begin(c, &small, 3, 10), CACHE_WRITE_WAITING);
	assert_true(cache_cancel(c, &large.plan)); /* the next one's turn */
	assert_int_equal(small.wakes, 1);
	assert_int_equal(large.wakes, 0);
	assert_false(cache_cancel(c, &small.plan)); /* too late */
	finish(c, &small);
	unpin(c, &ref);
	assert_int_equal(used(c, 0), 60);
	cache_free(c);
}

/* ---- two writers of one key ---- */

static void test_join(void **state)
{
	(void)state;
	struct cache *c = CACHE_OF(100);
	struct op writer, ok, cancelled;

	assert_int_equal(begin(c, &writer, 1, 50), CACHE_WRITE_PLANNED);
	assert_int_equal(begin(c, &ok, 1, 50), CACHE_WRITE_JOINED);
	assert_int_equal(begin(c, &cancelled, 1, 50), CACHE_WRITE_JOINED);
	assert_true(cache_cancel(c, &cancelled.plan));
	assert_false(cache_cancel(c, &cancelled.plan));
	finish(c, &writer);
	assert_int_equal(ok.wakes, 1);
	assert_int_equal(ok.plan.outcome, CACHE_WRITE_RESIDENT);
	assert_int_equal(cancelled.wakes, 0);
	assert_int_equal(cancelled.plan.outcome, CACHE_WRITE_FAILED);
	assert_false(cache_cancel(c, &ok.plan));

	assert_int_equal(begin(c, &writer, 2, 50), CACHE_WRITE_PLANNED);
	assert_int_equal(begin(c, &ok, 2, 50), CACHE_WRITE_JOINED);
	assert_next(c, &writer, CACHE_READY);
	cache_write_done(c, &writer.plan, 0, false);
	assert_int_equal(ok.wakes, 1);
	assert_int_equal(ok.plan.outcome, CACHE_WRITE_FAILED);
	assert_int_equal(used(c, 0), 50);
	cache_free(c);
}

static void test_join_a_waiting_writer(void **state)
{
	(void)state;
	struct cache *c = CACHE_OF(100);
	struct op writer, joiner;

	put(c, 1, 100);
	struct cache_ref ref = pin(c, 1);
	assert_int_equal(begin(c, &writer, 2, 50), CACHE_WRITE_WAITING);
	assert_int_equal(begin(c, &joiner, 2, 50), CACHE_WRITE_JOINED);
	assert_true(cache_cancel(c, &writer.plan));
	check(c);
	assert_int_equal(joiner.wakes, 1);
	assert_int_equal(joiner.plan.outcome, CACHE_WRITE_FAILED);

	assert_int_equal(begin(c, &writer, 2, 50), CACHE_WRITE_WAITING);
	assert_int_equal(begin(c, &joiner, 2, 50), CACHE_WRITE_JOINED);
	unpin(c, &ref);
	assert_int_equal(writer.wakes, 1);
	assert_int_equal(joiner.wakes, 0);
	finish(c, &writer);
	assert_int_equal(joiner.wakes, 1);
	assert_int_equal(joiner.plan.outcome, CACHE_WRITE_RESIDENT);
	cache_free(c);
}

/* ---- unreadable bytes ---- */

static enum cache_duty unpin_bad(struct cache *c, const struct cache_ref *ref,
				 struct cache_ref *ret)
{
	enum cache_duty duty = cache_read_end(c, ref, false, ret);

	check(c);
	return duty;
}

static void test_drop(void **state)
{
	(void)state;
	struct cache *c = CACHE_OF(100);
	struct cache_ref ret;

	put(c, 1, 40);
	struct cache_ref a = pin(c, 1), b = pin(c, 1), d = pin(c, 1);
	assert_int_equal(unpin_bad(c, &a, &ret), CACHE_NONE);
	assert_int_equal(get(c, 1), -1);
	assert_int_equal(cache_usage(c, 0).entries, 0);
	assert_int_equal(used(c, 0), 40);
	put(c, 1, 40); /* a new one beside the old one's bytes */
	assert_int_equal(used(c, 0), 80);
	unpin(c, &b);
	assert_int_equal(unpin_bad(c, &d, &ret), CACHE_DELETE); /* dropped once */
	assert_int_equal(ret.generation, 1);
	freed(c, &ret);
	assert_int_equal(used(c, 0), 40);
	assert_int_equal(get(c, 1), 0);
	cache_free(c);
}

static void test_drop_helps_who_waits(void **state)
{
	(void)state;
	struct cache *c = CACHE_OF(100);
	struct op op;
	struct cache_ref ret;

	put(c, 1, 100);
	struct cache_ref ref = pin(c, 1);
	assert_int_equal(begin(c, &op, 2, 50), CACHE_WRITE_WAITING);
	assert_int_equal(unpin_bad(c, &ref, &ret), CACHE_DELETE);
	assert_int_equal(op.wakes, 1);
	assert_next(c, &op, CACHE_STEP_WAIT); /* planned, but the bytes are still there */
	freed(c, &ret);
	assert_int_equal(op.wakes, 2);
	finish(c, &op);
	cache_free(c);
}

static void test_drop_before_the_move(void **state)
{
	(void)state;
	struct cache *c = CACHE_OF(100, 1000);
	struct op op;
	struct cache_ref ret;

	put(c, 1, 60);
	begin(c, &op, 2, 60);
	struct cache_ref ref = pin(c, 1);
	assert_int_equal(unpin_bad(c, &ref, &ret), CACHE_NONE);
	struct cache_step step = next_step(c, &op); /* a deletion by now */
	assert_step(&step, 1, 0, -1);
	assert_int_equal(used(c, 1), 0);
	run_step(c, &step);
	finish(c, &op);

	begin(c, &op, 3, 60); /* with a reader left: it deletes */
	struct cache_ref a = pin(c, 2), b = pin(c, 2);
	assert_int_equal(unpin_bad(c, &a, &ret), CACHE_NONE);
	assert_next(c, &op, CACHE_STEP_WAIT);
	assert_int_equal(used(c, 1), 0);
	assert_int_equal(cache_read_end(c, &b, true, &ret), CACHE_DELETE);
	freed(c, &ret);
	assert_int_equal(op.wakes, 1);
	finish(c, &op);
	assert_int_equal(get(c, 3), 0);
	cache_free(c);
}

static void test_void_move_helps_who_waits(void **state)
{
	(void)state;
	struct cache *c = CACHE_OF(100, 100);
	struct op op, waiter;
	struct cache_ref ret;

	put(c, 1, 60);
	assert_int_equal(begin(c, &op, 2, 60), CACHE_WRITE_PLANNED); /* 1 is to be moved */
	assert_int_equal(begin(c, &waiter, 3, 50), CACHE_WRITE_WAITING);
	struct cache_ref ref = pin(c, 1);
	assert_int_equal(unpin_bad(c, &ref, &ret), CACHE_NONE);
	assert_int_equal(waiter.wakes, 0);
	next_step(c, &op); /* deletes 1 instead: its room below is the waiter's */
	assert_int_equal(waiter.wakes, 1);
	finish(c, &waiter);
	assert_int_equal(get(c, 3), 1);
	cache_free(c);
}

static void test_drop_during_the_copy(void **state)
{
	(void)state;
	for (int is_ok = 0; is_ok < 2; is_ok++) {
		struct cache *c = CACHE_OF(100, 1000);
		struct op op;
		struct cache_ref ret, more;

		put(c, 1, 60);
		begin(c, &op, 2, 60);
		struct cache_step step = next_step(c, &op);
		struct cache_ref ref = pin(c, 1);
		assert_int_equal(unpin_bad(c, &ref, &ret), CACHE_NONE);
		assert_int_equal(get(c, 1), -1);
		assert_int_equal(cache_step_done(c, &step, location_of(1, 1), is_ok, &ret),
				 CACHE_DELETE);
		check(c);
		assert_int_equal(ret.tier, 0);
		assert_int_equal(used(c, 1), is_ok ? 60 : 0);
		assert_int_equal(cache_freed(c, &ret, &more), is_ok ? CACHE_DELETE : CACHE_NONE);
		check(c);
		if (is_ok) { /* and the copy too */
			assert_int_equal(more.tier, 1);
			assert_int_equal(more.location, location_of(1, 1));
			freed(c, &more);
		}
		assert_int_equal(used(c, 1), 0);
		finish(c, &op);
		cache_free(c);
	}
}

static void test_drop_after_the_copy(void **state)
{
	(void)state;
	struct cache *c = CACHE_OF(100, 1000);
	struct op op;
	struct cache_ref ret, more;

	put(c, 1, 60);
	begin(c, &op, 2, 60);
	struct cache_ref source = pin(c, 1);
	struct cache_step step = next_step(c, &op);
	assert_int_equal(cache_step_done(c, &step, location_of(1, 1), true, &ret), CACHE_NONE);
	struct cache_ref copy = pin(c, 1);
	assert_int_equal(unpin_bad(c, &source, &ret), CACHE_DELETE);
	assert_int_equal(ret.tier, 0);
	assert_int_equal(get(c, 1), -1);
	freed(c, &ret);
	finish(c, &op); /* the plan only waits for the source */
	assert_int_equal(cache_read_end(c, &copy, true, &ret), CACHE_DELETE);
	assert_int_equal(ret.tier, 1);
	assert_int_equal(used(c, 1), 60);
	freed(c, &ret);
	assert_int_equal(used(c, 1), 0);

	begin(c, &op, 3, 60); /* the copy's reader leaves before the source is gone */
	step = next_step(c, &op);
	assert_int_equal(cache_step_done(c, &step, location_of(2, 1), true, &ret), CACHE_DELETE);
	copy = pin(c, 2);
	assert_int_equal(unpin_bad(c, &copy, &more), CACHE_NONE);
	assert_int_equal(cache_freed(c, &ret, &more), CACHE_DELETE);
	assert_int_equal(more.tier, 1);
	freed(c, &more);
	finish(c, &op);
	assert_int_equal(used(c, 1), 0);
	cache_free(c);
}

static void test_index_grows(void **state)
{
	(void)state;
	struct cache *c = CACHE_OF(UINT64_C(1) << 40);
	struct cache_ref ref;

	for (uint64_t key = 0; key < ENTRIES_MAX; key++) {
		struct cache_plan plan = {.wake = count_wake};
		assert_int_equal(cache_write_begin(c, key * 4096, 1, &plan), CACHE_WRITE_PLANNED);
		cache_write_done(c, &plan, key, true);
	}
	check(c);
	for (uint64_t key = 0; key < ENTRIES_MAX; key++) {
		assert_int_equal(cache_read_begin(c, key * 4096, &ref), CACHE_HIT);
		assert_int_equal(ref.location, key);
		assert_int_equal(cache_read_begin(c, key * 4096 + 1, &ref), CACHE_MISS);
	}
	cache_free(c);
}

/* A hint changes nothing: not what is held, not who leaves next, whatever it names. */
static void test_prefetch(void **state)
{
	(void)state;
	const uint64_t held = ENTRIES_MAX - 2; /* enough for hints to be taken */
	struct cache *c = CACHE_OF(held);
	uint64_t keys[2 * CACHE_PREFETCH_MAX];
	struct cache_step step;

	cache_prefetch(c, keys, 0);
	for (uint64_t key = 0; key < held; key++)
		assert_int_equal(put_quickly(c, key, 0), -1);
	struct cache_ref pinned = pin(c, 1);
	for (unsigned i = 0; i < ARRAY_LEN(keys); i++)
		keys[i] = i % 2 ? UINT64_MAX - i : i / 2; /* held, pinned, absent */
	cache_prefetch(c, keys, ARRAY_LEN(keys));
	check(c);
	for (unsigned i = 0; i < 2; i++) {
		struct op op;
		keys[0] = held + i;
		cache_prefetch(c, keys, 1);
		assert_int_equal(begin(c, &op, keys[0], 1), CACHE_WRITE_PLANNED);
		cache_prefetch(c, keys, 1);
		assert_int_equal(cache_plan_next(c, &op.plan, &step), CACHE_STEP);
		assert_int_equal(step.source.key, 2 * i); /* 1 is pinned */
		run_step(c, &step);
		finish(c, &op);
	}
	unpin(c, &pinned);
	cache_free(c);
}

/* ---- against a naive model, one operation at a time ---- */

enum { NAIVE_KEYS = 150 };

struct naive_entry {
	uint64_t key, bytes;
	unsigned from;
};

struct naive_tier {
	uint64_t limit;
	struct naive_entry list[NAIVE_KEYS]; /* oldest first */
	unsigned count;
	struct naive_entry incoming[NAIVE_KEYS]; /* of the present placement: no victims */
	unsigned incoming_count;
};

struct naive {
	struct naive_tier tier[TIER_CLASSES];
	unsigned tiers;
};

static uint64_t naive_used(const struct naive_tier *t)
{
	uint64_t sum = 0;

	for (unsigned i = 0; i < t->count; i++)
		sum += t->list[i].bytes;
	for (unsigned i = 0; i < t->incoming_count; i++)
		sum += t->incoming[i].bytes;
	return sum;
}

static bool naive_fits(const struct naive *m, unsigned t, uint64_t bytes)
{
	uint64_t limit = m->tier[t].limit, sum = naive_used(&m->tier[t]);

	if (t + 1 == m->tiers)
		return sum + bytes <= limit;
	return (sum + bytes) * 10 <= limit * 8 || (sum * 20 < limit && sum + bytes <= limit);
}

static bool naive_is_large(const struct naive *m, unsigned t, uint64_t bytes)
{
	return t + 1 < m->tiers && bytes * 20 > m->tier[t].limit * 19;
}

/* Put an entry into tier @t, evicting as long as needed; false leaves a mess behind: the caller has
 * a copy. */
static bool naive_place(struct naive *m, unsigned t, struct naive_entry e)
{
	struct naive_tier *tier = &m->tier[t];

	if (naive_is_large(m, t, e.bytes))
		return false;
	if (!naive_fits(m, t, e.bytes) && t + 1 < m->tiers && naive_used(tier) * 5 < tier->limit &&
	    e.bytes * 10 > tier->limit * 4)
		return false;
	while (!naive_fits(m, t, e.bytes)) {
		if (!tier->count)
			return false;
		struct naive_entry victim = tier->list[0];
		victim.from = t;
		unsigned to = t + 1;
		while (to < m->tiers && naive_is_large(m, to, victim.bytes))
			to++;
		if (to < m->tiers && !naive_place(m, to, victim))
			return false;
		tier->count--;
		memmove(tier->list, tier->list + 1, tier->count * sizeof(tier->list[0]));
	}
	tier->incoming[tier->incoming_count++] = e;
	return true;
}

/* The placement is done: what came in is the most recent, what came from deeper tiers first. */
static void naive_settle(struct naive *m)
{
	for (unsigned t = 0; t < m->tiers; t++) {
		struct naive_tier *tier = &m->tier[t];
		for (int from = TIER_CLASSES; from >= -1; from--)
			for (unsigned i = 0; i < tier->incoming_count; i++)
				if ((int)tier->incoming[i].from == from)
					tier->list[tier->count++] = tier->incoming[i];
		tier->incoming_count = 0;
	}
}

static int naive_put(struct naive *m, uint64_t key, uint64_t bytes)
{
	static struct naive attempt;

	for (unsigned t = 0; t < m->tiers; t++) {
		attempt = *m;
		if (!naive_place(&attempt, t, (struct naive_entry){key, bytes, 0}))
			continue;
		*m = attempt;
		naive_settle(m);
		return (int)t;
	}
	return -1;
}

static int naive_get(struct naive *m, uint64_t key)
{
	for (unsigned t = 0; t < m->tiers; t++) {
		struct naive_tier *tier = &m->tier[t];
		for (unsigned i = 0; i < tier->count; i++) {
			struct naive_entry e = tier->list[i];
			if (e.key != key)
				continue;
			memmove(tier->list + i, tier->list + i + 1,
				(tier->count - i - 1) * sizeof(e));
			tier->list[tier->count - 1] = e;
			return (int)t;
		}
	}
	return -1;
}

static void compare_with_naive(unsigned tiers, const uint64_t *limits, uint64_t seed)
{
	static struct naive m;
	struct rng rng = rng_stream(seed);
	struct cache *c = cache_of(tiers, limits);

	m = (struct naive){.tiers = tiers};
	for (unsigned t = 0; t < tiers; t++)
		m.tier[t].limit = limits[t];
	for (unsigned i = 0; i < 5000; i++) {
		uint64_t key = rng_below(&rng, NAIVE_KEYS);
		int tier = naive_get(&m, key);
		assert_int_equal(get(c, key), tier);
		if (tier >= 0)
			continue;
		uint64_t most = rng_below(&rng, 8) ? limits[tiers - 1] / 10 : limits[tiers - 1];
		uint64_t bytes = rng_range(&rng, 1 + most / 20, most);
		struct op op;
		assert_int_equal(begin(c, &op, key, bytes), CACHE_WRITE_PLANNED);
		assert_int_equal(op.plan.target.tier, naive_put(&m, key, bytes));
		assert_int_equal(op.plan.passed_over, op.plan.target.tier);
		finish(c, &op);
		for (unsigned t = 0; t < tiers; t++) {
			assert_int_equal(used(c, t), naive_used(&m.tier[t]));
			assert_int_equal(cache_usage(c, t).entries, m.tier[t].count);
		}
	}
	cache_free(c);
}

static void test_naive_model(void **state)
{
	(void)state;
	static const struct {
		unsigned tiers;
		uint64_t limit[TIER_CLASSES];
	} setups[] = {
		{1, {1000}},
		{2, {1000, 3000}},
		{2, {3000, 1000}},
		{3, {600, 1000, 4000}},
		{3, {2000, 400, 2000}},
		{3, {1000, 1000, 1000}},
		{3, {0, 1000, 2000}},
	};

	for (size_t i = 0; i < ARRAY_LEN(setups); i++)
		compare_with_naive(setups[i].tiers, setups[i].limit, 100 + i);
}

/* ---- many operations in flight, ending in random order ---- */

enum { SIM_KEYS = 300, SIM_OPS = 1000, SIM_TASKS = 8192 };
#ifdef __SANITIZE_THREAD__
enum { SIM_STEPS = 20000 }; /* one thread: that sanitizer has nothing to find there */
#else
enum { SIM_STEPS = 100000 };
#endif

enum sim_state { SIM_IDLE, SIM_WAITING, SIM_JOINED, SIM_GOING, SIM_ASLEEP, SIM_WRITING };

struct sim_op {
	struct cache_plan plan;
	enum sim_state state;
	bool is_woken;
	uint64_t key;
};

/* Bytes in a tier; their number is their location. */
struct sim_object {
	struct cache_ref ref;
	uint32_t readers;
	bool is_condemned, is_gone;
};

enum sim_kind { SIM_READ, SIM_COPY, SIM_DELETE, SIM_WRITE };

struct sim_task {
	enum sim_kind kind;
	struct sim_op *op;
	struct cache_ref ref;
	struct cache_step step;
};

/* How often the paths were taken that the simulation is for. */
struct sim_counts {
	uint64_t moves, deletions, waits, joins, drops, sleeps;
};

struct sim {
	struct cache *cache;
	struct rng rng;
	unsigned tiers;
	uint64_t limit[TIER_CLASSES];
	uint64_t physical[TIER_CLASSES]; /* bytes really there */
	struct sim_op ops[SIM_OPS];
	unsigned op_count; /* so many of them are used */
	struct sim_task tasks[SIM_TASKS];
	unsigned task_count;
	struct sim_object *objects;
	uint64_t object_count, object_max;
	uint32_t readable[SIM_KEYS]; /* generation that a read must find, 0: none */
	uint32_t writers[SIM_KEYS];
	struct sim_counts *counts;
};

static void sim_wake(struct cache_plan *plan)
{
	struct sim_op *op = container_of(plan, struct sim_op, plan);

	assert_false(op->is_woken);
	assert_true(op->state == SIM_WAITING || op->state == SIM_JOINED || op->state == SIM_ASLEEP);
	op->is_woken = true;
}

static void sim_grow(struct sim *s, unsigned tier, uint64_t bytes)
{
	s->physical[tier] += bytes;
	assert_true(s->physical[tier] <= s->limit[tier]);
}

static struct sim_task *sim_task(struct sim *s, enum sim_kind kind)
{
	assert_true(s->task_count < SIM_TASKS);
	struct sim_task *task = &s->tasks[s->task_count++];
	*task = (struct sim_task){.kind = kind};
	return task;
}

static uint64_t sim_object_new(struct sim *s, const struct cache_ref *ref)
{
	if (s->object_count == s->object_max) {
		s->object_max = s->object_max ? s->object_max * 2 : 1024;
		s->objects = realloc(s->objects, s->object_max * sizeof(*s->objects));
		assert_non_null(s->objects);
	}
	uint64_t location = s->object_count++;
	s->objects[location] = (struct sim_object){.ref = *ref};
	s->objects[location].ref.location = location;
	return location;
}

static struct sim_object *sim_object(struct sim *s, const struct cache_ref *ref)
{
	assert_true(ref->location < s->object_count);
	struct sim_object *o = &s->objects[ref->location];
	assert_false(o->is_condemned || o->is_gone);
	assert_int_equal(o->ref.key, ref->key);
	assert_int_equal(o->ref.generation, ref->generation);
	assert_int_equal(o->ref.tier, ref->tier);
	assert_int_equal(o->ref.payload_bytes, ref->payload_bytes);
	return o;
}

static void sim_condemn(struct sim *s, const struct cache_ref *ref)
{
	struct sim_object *o = sim_object(s, ref);

	assert_int_equal(o->readers, 0);
	o->is_condemned = true;
	sim_task(s, SIM_DELETE)->ref = *ref;
	s->counts->deletions++;
}

static void sim_begin_read(struct sim *s)
{
	uint64_t key = rng_below(&s->rng, SIM_KEYS);
	struct cache_ref ref;

	switch (cache_read_begin(s->cache, key, &ref)) {
	case CACHE_HIT:
		assert_int_equal(ref.generation, s->readable[key]);
		sim_object(s, &ref)->readers++;
		sim_task(s, SIM_READ)->ref = ref;
		break;
	case CACHE_MISS:
		assert_int_equal(s->writers[key], 0);
		s->readable[key] = 0; /* evicted or dropped: this generation must not come back */
		break;
	case CACHE_MISS_IN_FLIGHT:
		assert_int_equal(s->writers[key], 1);
		break;
	}
}

static void sim_begin_write(struct sim *s)
{
	struct sim_op *op = &s->ops[rng_below(&s->rng, s->op_count)];
	uint64_t most = s->limit[s->tiers - 1];

	if (op->state != SIM_IDLE)
		return;
	most = rng_below(&s->rng, 200) ? most / 20 : most;
	*op = (struct sim_op){.plan.wake = sim_wake, .key = rng_below(&s->rng, SIM_KEYS)};
	uint64_t bytes = rng_range(&s->rng, 1, most);
	uint32_t writers = s->writers[op->key];
	switch (cache_write_begin(s->cache, op->key, bytes, &op->plan)) {
	case CACHE_WRITE_PLANNED:
		op->state = SIM_GOING;
		break;
	case CACHE_WRITE_WAITING:
		op->state = SIM_WAITING;
		s->counts->waits++;
		break;
	case CACHE_WRITE_JOINED:
		assert_int_equal(writers, 1);
		op->state = SIM_JOINED;
		s->counts->joins++;
		return;
	case CACHE_WRITE_RESIDENT:
		assert_int_not_equal(s->readable[op->key], 0);
		return;
	default:
		fail();
	}
	assert_int_equal(writers, 0);
	s->writers[op->key] = 1;
}

/* Take the next step of a plan, as its owner would. */
static void sim_advance(struct sim *s, struct sim_op *op)
{
	struct cache_step step;
	const struct cache_ref *target = &op->plan.target;

	switch (cache_plan_next(s->cache, &op->plan, &step)) {
	case CACHE_STEP:
		if (step.to < 0) {
			sim_condemn(s, &step.source);
			break;
		}
		sim_grow(s, step.target.tier, step.target.payload_bytes);
		sim_object(s, &step.source)->readers++;
		struct sim_task *task = sim_task(s, SIM_COPY);
		task->step = step;
		s->counts->moves++;
		break;
	case CACHE_STEP_WAIT:
		op->state = SIM_ASLEEP;
		s->counts->sleeps++;
		break;
	case CACHE_READY:
		sim_grow(s, target->tier, target->payload_bytes);
		sim_task(s, SIM_WRITE)->op = op;
		op->state = SIM_WRITING;
		break;
	}
}

static void sim_handle_wake(struct sim_op *op)
{
	op->is_woken = false;
	if (op->state == SIM_JOINED) {
		assert_true(op->plan.outcome == CACHE_WRITE_RESIDENT ||
			    op->plan.outcome == CACHE_WRITE_FAILED);
		op->state = SIM_IDLE;
		return;
	}
	assert_int_equal(op->plan.outcome, CACHE_WRITE_PLANNED);
	op->state = SIM_GOING;
}

static void sim_poke_op(struct sim *s, struct sim_op *op)
{
	if (op->is_woken)
		sim_handle_wake(op);
	else if (op->state == SIM_GOING)
		sim_advance(s, op);
}

static void sim_cancel(struct sim *s)
{
	struct sim_op *op = &s->ops[rng_below(&s->rng, s->op_count)];

	if (op->state != SIM_WAITING && op->state != SIM_JOINED)
		return;
	bool is_withdrawn = cache_cancel(s->cache, &op->plan);
	assert_int_equal(is_withdrawn, !op->is_woken);
	if (!is_withdrawn)
		return;
	if (op->state == SIM_WAITING)
		s->writers[op->key] = 0;
	op->state = SIM_IDLE;
}

static bool sim_is_ok(struct sim *s)
{
	return rng_below(&s->rng, 30) > 0;
}

static void sim_end_read(struct sim *s, const struct sim_task *task)
{
	struct cache_ref ret;
	bool is_ok = sim_is_ok(s);

	sim_object(s, &task->ref)->readers--;
	s->counts->drops += !is_ok;
	if (!is_ok && s->readable[task->ref.key] == task->ref.generation)
		s->readable[task->ref.key] = 0;
	if (cache_read_end(s->cache, &task->ref, is_ok, &ret) == CACHE_DELETE)
		sim_condemn(s, &ret);
}

static void sim_end_copy(struct sim *s, const struct sim_task *task)
{
	const struct cache_ref *target = &task->step.target;
	struct cache_ref ret;
	bool is_ok = sim_is_ok(s);
	uint64_t location = 0;

	sim_object(s, &task->step.source)->readers--;
	if (is_ok)
		location = sim_object_new(s, target);
	else
		s->physical[target->tier] -= target->payload_bytes;
	if (!is_ok && s->readable[target->key] == target->generation)
		s->readable[target->key] = 0;
	if (cache_step_done(s->cache, &task->step, location, is_ok, &ret) == CACHE_DELETE)
		sim_condemn(s, &ret);
}

static void sim_end_delete(struct sim *s, const struct sim_task *task)
{
	struct sim_object *o = &s->objects[task->ref.location];
	struct cache_ref ret;

	assert_true(o->is_condemned && !o->is_gone && !o->readers);
	o->is_gone = true;
	s->physical[o->ref.tier] -= o->ref.payload_bytes;
	if (cache_freed(s->cache, &task->ref, &ret) == CACHE_DELETE)
		sim_condemn(s, &ret);
}

static void sim_end_write(struct sim *s, const struct sim_task *task)
{
	struct sim_op *op = task->op;
	struct cache_ref target = op->plan.target;
	bool is_ok = sim_is_ok(s);
	uint64_t location = 0;

	s->writers[op->key] = 0;
	if (is_ok) {
		location = sim_object_new(s, &target);
		s->readable[op->key] = target.generation;
	} else {
		s->physical[target.tier] -= target.payload_bytes;
		s->readable[op->key] = 0;
	}
	cache_write_done(s->cache, &op->plan, location, is_ok);
	op->state = SIM_IDLE;
}

static void sim_end_task(struct sim *s)
{
	static void (*const end[])(struct sim *, const struct sim_task *) = {
		[SIM_READ] = sim_end_read,
		[SIM_COPY] = sim_end_copy,
		[SIM_DELETE] = sim_end_delete,
		[SIM_WRITE] = sim_end_write,
	};

	if (!s->task_count)
		return;
	unsigned i = (unsigned)rng_below(&s->rng, s->task_count);
	struct sim_task task = s->tasks[i];
	s->tasks[i] = s->tasks[--s->task_count];
	end[task.kind](s, &task);
}

static void sim_check(struct sim *s)
{
	check(s->cache);
	for (unsigned t = 0; t < s->tiers; t++)
		assert_true(s->physical[t] <= used(s->cache, t));
}

/* @load: of 100 steps, how many begin something; above 50 the number in flight grows until no op is idle. */
static void sim_step(struct sim *s, unsigned load)
{
	uint64_t draw = rng_below(&s->rng, 100);

	if (draw < load * 2 / 3)
		sim_begin_read(s);
	else if (draw < load)
		sim_begin_write(s);
	else if (draw < load + 1)
		sim_cancel(s);
	else
		sim_end_task(s);
	for (unsigned i = 0; i < 16; i++)
		sim_poke_op(s, &s->ops[rng_below(&s->rng, s->op_count)]);
}

/* Begin nothing new: everything must come to an end. */
static void sim_drain(struct sim *s)
{
	for (bool is_busy = true; is_busy;) {
		is_busy = s->task_count > 0;
		sim_end_task(s);
		for (unsigned i = 0; i < s->op_count; i++) {
			is_busy |= s->ops[i].is_woken || s->ops[i].state == SIM_GOING;
			sim_poke_op(s, &s->ops[i]);
		}
	}
	for (unsigned i = 0; i < s->op_count; i++)
		assert_int_equal(s->ops[i].state, SIM_IDLE);
	sim_check(s);

	uint64_t bytes[TIER_CLASSES] = {0}, entries[TIER_CLASSES] = {0};
	struct cache_ref ref;
	for (uint64_t i = 0; i < s->object_count; i++) {
		const struct sim_object *o = &s->objects[i];
		if (o->is_gone)
			continue;
		bytes[o->ref.tier] += o->ref.payload_bytes;
		entries[o->ref.tier]++;
		assert_int_equal(cache_read_begin(s->cache, o->ref.key, &ref), CACHE_HIT);
		assert_int_equal(ref.location, i);
		assert_false(ref.is_shared); /* nobody else holds a pin */
		assert_int_equal(cache_read_end(s->cache, &ref, true, &ref), CACHE_NONE);
	}
	for (unsigned t = 0; t < s->tiers; t++) {
		assert_int_equal(used(s->cache, t), bytes[t]);
		assert_int_equal(s->physical[t], bytes[t]);
		assert_int_equal(cache_usage(s->cache, t).entries, entries[t]);
	}
}

struct sim_setup {
	unsigned tiers;
	uint64_t limit[TIER_CLASSES];
	unsigned ops; /* writes at once */
	unsigned load;
};

static void simulate(const struct sim_setup *setup, uint64_t seed, struct sim_counts *counts)
{
	CLEANUP_FREE struct sim *s = calloc(1, sizeof(*s));

	assert_non_null(s);
	s->cache = cache_of(setup->tiers, setup->limit);
	s->rng = rng_stream(seed);
	s->tiers = setup->tiers;
	s->op_count = setup->ops;
	s->counts = counts;
	memcpy(s->limit, setup->limit, sizeof(s->limit));
	for (unsigned i = 0; i < SIM_STEPS; i++) {
		sim_step(s, setup->load);
		sim_check(s);
	}
	sim_drain(s);
	cache_free(s->cache);
	free(s->objects);
}

static void test_simulation(void **state)
{
	(void)state;
	struct sim_counts n = {0};
	static const struct sim_setup setups[] = {
		{1, {4000}, 30, 45},
		{1, {1000}, 1000, 55},
		{2, {500, 1000}, 10, 45},
		{2, {2000, 1000}, 30, 45},
		{3, {400, 800, 1600}, 10, 40},
		{3, {400, 800, 1600}, 30, 50},
		{3, {1000, 300, 1000}, 30, 45},
		{3, {400, 800, 1600}, 1000, 60},
	};

	for (size_t i = 0; i < ARRAY_LEN(setups); i++)
		simulate(&setups[i], 1 + i, &n);
	assert_true(n.moves && n.deletions && n.waits && n.joins && n.drops && n.sleeps);
}

/* ---- threads ---- */

enum { THREADS = 4, THREAD_STEPS = 20000, THREAD_KEYS = 40 };

struct worker {
	struct cache *cache;
	struct rng rng;
	pthread_t thread;
	uint64_t hits, writes, waits;
	const char *error;
};

struct mail {
	struct cache_plan plan;
	sem_t sem;
};

static void post(struct cache_plan *plan)
{
	sem_post(&container_of(plan, struct mail, plan)->sem);
}

static uint64_t worker_location(const struct cache_ref *ref)
{
	return rng_key(ref->key, ref->generation) + ref->tier;
}

static void worker_delete(struct worker *w, struct cache_ref ref)
{
	if (ref.location != worker_location(&ref))
		w->error = "deletes at a wrong location";
	sched_yield();
	while (cache_freed(w->cache, &ref, &ref) == CACHE_DELETE)
		;
}

static void worker_read(struct worker *w)
{
	struct cache_ref ref;

	if (cache_read_begin(w->cache, rng_below(&w->rng, THREAD_KEYS), &ref) != CACHE_HIT)
		return;
	w->hits++;
	if (ref.location != worker_location(&ref))
		w->error = "reads at a wrong location";
	if (!rng_below(&w->rng, 4))
		sched_yield();
	if (cache_read_end(w->cache, &ref, rng_below(&w->rng, 50), &ref) == CACHE_DELETE)
		worker_delete(w, ref);
}

static void worker_run_step(struct worker *w, const struct cache_step *step)
{
	struct cache_ref source = step->source;

	if (step->to < 0)
		worker_delete(w, source);
	else if (cache_step_done(w->cache, step, worker_location(&step->target),
				 rng_below(&w->rng, 50), &source) == CACHE_DELETE)
		worker_delete(w, source);
}

static void worker_run_plan(struct worker *w, struct mail *mail)
{
	struct cache_step step;
	enum cache_progress progress;

	while ((progress = cache_plan_next(w->cache, &mail->plan, &step)) != CACHE_READY) {
		if (progress == CACHE_STEP)
			worker_run_step(w, &step);
		else
			sem_wait(&mail->sem);
	}
	w->writes++;
	cache_write_done(w->cache, &mail->plan, worker_location(&mail->plan.target),
			 rng_below(&w->rng, 50));
}

static void worker_write(struct worker *w)
{
	struct mail mail = {.plan.wake = post};

	sem_init(&mail.sem, 0, 0);
	enum cache_write outcome = cache_write_begin(w->cache, rng_below(&w->rng, THREAD_KEYS),
						     rng_range(&w->rng, 1, 60), &mail.plan);
	if (outcome == CACHE_WRITE_WAITING || outcome == CACHE_WRITE_JOINED) {
		w->waits++;
		if (rng_below(&w->rng, 4) || !cache_cancel(w->cache, &mail.plan))
			sem_wait(&mail.sem);
		outcome = mail.plan.outcome;
	}
	if (outcome == CACHE_WRITE_PLANNED)
		worker_run_plan(w, &mail);
	if (!sem_trywait(&mail.sem))
		w->error = "was woken once too often";
	sem_destroy(&mail.sem);
}

static void *worker_main(void *arg)
{
	struct worker *w = arg;

	for (unsigned i = 0; i < THREAD_STEPS; i++) {
		if (rng_below(&w->rng, 2))
			worker_read(w);
		else
			worker_write(w);
	}
	return NULL;
}

static void test_threads(void **state)
{
	(void)state;
	struct cache *c = CACHE_OF(100, 100, 120);
	struct worker workers[THREADS];
	uint64_t hits = 0, writes = 0, waits = 0;

	for (unsigned i = 0; i < THREADS; i++) {
		workers[i] = (struct worker){.cache = c, .rng = rng_stream(i)};
		assert_int_equal(pthread_create(&workers[i].thread, NULL, worker_main, &workers[i]),
				 0);
	}
	for (unsigned i = 0; i < THREADS; i++) {
		pthread_join(workers[i].thread, NULL);
		if (workers[i].error)
			fail_msg("%s", workers[i].error);
		hits += workers[i].hits;
		writes += workers[i].writes;
		waits += workers[i].waits;
	}
	assert_true(hits && writes && waits);
	check(c);
	for (unsigned t = 0; t < 3; t++) {
		struct cache_usage u = cache_usage(c, t);
		assert_true(u.used_bytes <= u.limit_bytes);
	}
	cache_free(c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_new),
		cmocka_unit_test(test_footprint),
		cmocka_unit_test(test_outcomes),
		cmocka_unit_test(test_full),
		cmocka_unit_test(test_generation),
		cmocka_unit_test(test_failed_write),
		cmocka_unit_test(test_lru_order),
		cmocka_unit_test(test_sparse_list),
		cmocka_unit_test(test_pinned_is_no_victim),
		cmocka_unit_test(test_thresholds),
		cmocka_unit_test(test_ratios_from_setup),
		cmocka_unit_test(test_last_tier_is_filled),
		cmocka_unit_test(test_victims_of_one_plan),
		cmocka_unit_test(test_demotion_chain),
		cmocka_unit_test(test_demoted_is_recent),
		cmocka_unit_test(test_large_victim_skips_a_tier),
		cmocka_unit_test(test_roll_back),
		cmocka_unit_test(test_roll_back_over_three_tiers),
		cmocka_unit_test(test_moving_is_readable),
		cmocka_unit_test(test_mover_shares_the_source),
		cmocka_unit_test(test_leaving_is_no_victim),
		cmocka_unit_test(test_failed_move),
		cmocka_unit_test(test_promised_room),
		cmocka_unit_test(test_fifo),
		cmocka_unit_test(test_nobody_overtakes),
		cmocka_unit_test(test_free_room_is_not_overtaken),
		cmocka_unit_test(test_join),
		cmocka_unit_test(test_join_a_waiting_writer),
		cmocka_unit_test(test_drop),
		cmocka_unit_test(test_drop_helps_who_waits),
		cmocka_unit_test(test_drop_before_the_move),
		cmocka_unit_test(test_void_move_helps_who_waits),
		cmocka_unit_test(test_drop_during_the_copy),
		cmocka_unit_test(test_drop_after_the_copy),
		cmocka_unit_test(test_index_grows),
		cmocka_unit_test(test_prefetch),
		cmocka_unit_test(test_naive_model),
		cmocka_unit_test(test_simulation),
		cmocka_unit_test(test_threads),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
