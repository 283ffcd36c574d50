// SPDX-License-Identifier: Apache-2.0
/* The steady-state verdict: each limit from both sides, and what is too little to judge. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/clock.h"
#include "engine/engine.h"

enum { MEAN = 1000000 };

static struct runner_outcome outcome_of(unsigned slots, enum tier_class tier, int (*rate)(unsigned slot))
{
	struct runner_outcome o = {.slot_ns = NS_PER_S, .slots = slots};

	for (unsigned s = 0; s < slots; s++)
		o.slot_bytes[s][tier] = (uint64_t)rate(s);
	return o;
}

static struct verdict judge(unsigned slots, enum tier_class tier, int (*rate)(unsigned slot))
{
	struct runner_outcome o = outcome_of(slots, tier, rate);
	struct verdict v = {0};

	judge_steady(&o, &v);
	assert_true(v.why[0]);
	return v;
}

static int flat(unsigned slot)
{
	(void)slot;
	return MEAN;
}

static int nothing(unsigned slot)
{
	(void)slot;
	return 0;
}

/* From begin to end of ten slots by 9 and by 11 % of the mean: no part is 6 % off. */
static int rises_9(unsigned slot)
{
	return MEAN + (int)slot * MEAN / 1000 * 9;
}

static int rises_12(unsigned slot)
{
	return MEAN + (int)slot * MEAN / 1000 * 12;
}

static int falls_12(unsigned slot)
{
	return 2 * MEAN - (int)slot * 2 * MEAN / 1000 * 12;
}

/* One part off, in the middle, where it hardly tilts the line. */
static int one_9_off(unsigned slot)
{
	return slot == 4 ? MEAN - MEAN / 100 * 9 : MEAN;
}

static int one_12_off(unsigned slot)
{
	return slot == 4 ? MEAN - MEAN / 100 * 12 : MEAN;
}

/* Wild from slot to slot, the same in each pair. */
static int alternates(unsigned slot)
{
	return slot % 2 ? MEAN : MEAN / 2;
}

static int slow_start(unsigned slot)
{
	return slot < 9 ? MEAN / 10 : MEAN;
}

static void test_limits(void **state)
{
	(void)state;
	assert_true(judge(10, TIER_STORAGE, flat).value);
	assert_true(judge(10, TIER_STORAGE, rises_9).value);
	assert_false(judge(10, TIER_STORAGE, rises_12).value);
	assert_false(judge(10, TIER_STORAGE, falls_12).value);
	assert_true(judge(10, TIER_STORAGE, one_9_off).value);
	assert_false(judge(10, TIER_STORAGE, one_12_off).value);
	assert_true(judge(10, TIER_STORAGE, rises_12).is_known);
}

static void test_parts(void **state)
{
	(void)state;
	assert_true(judge(60, TIER_STORAGE, flat).value);
	assert_false(judge(10, TIER_STORAGE, alternates).value);
	assert_true(judge(20, TIER_STORAGE, alternates).value);
	/* What does not divide by ten is left out at the begin. */
	assert_true(judge(19, TIER_STORAGE, slow_start).value);
	assert_false(judge(20, TIER_STORAGE, slow_start).value);
}

static void test_not_known(void **state)
{
	(void)state;
	assert_false(judge(9, TIER_STORAGE, flat).is_known);
	assert_false(judge(0, TIER_STORAGE, flat).is_known);
	assert_false(judge(20, TIER_STORAGE, nothing).is_known);
	assert_false(judge(9, TIER_STORAGE, flat).value);
}

static void test_other_tiers(void **state)
{
	(void)state;
	struct verdict v = judge(10, TIER_CPU, flat);
	assert_true(v.is_known && v.value);
	assert_non_null(strstr(v.why, "all tiers"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_limits),
		cmocka_unit_test(test_parts),
		cmocka_unit_test(test_not_known),
		cmocka_unit_test(test_other_tiers),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
