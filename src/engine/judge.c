// SPDX-License-Identifier: Apache-2.0
/*
 * The steady-state verdict. The window is cut into ten equal parts, each of a second at least, and the rate of each is taken: bytes
 * of the storage tier, both directions (of all tiers where storage moved nothing). A straight line is laid through the ten by least
 * squares. The rate is steady when that line rises or falls by no more than a tenth of the mean from the window's begin to its end,
 * and no part lies further than a tenth of the mean from the mean. These are the bounds of SNIA's Solid State Storage Performance
 * Test Specification (slope 10 %, range 20 % of the average); fio's steadystate applies the same two tests.
 */
#include "engine/engine.h"

#include <math.h>
#include <stdio.h>

#include "base/clock.h"
#include "base/mem.h"

enum { STEADY_PARTS = 10 };
#define STEADY_SLOPE	 0.10
#define STEADY_DEVIATION 0.10

/* Rates in bytes per ns, which are GB/s. The oldest slots are left out where they do not divide by ten. */
static void part_rates(const struct runner_outcome *o, unsigned each, bool only_storage, double *ret)
{
	unsigned first = o->slots - each * STEADY_PARTS;

	for (unsigned p = 0; p < STEADY_PARTS; p++) {
		uint64_t bytes = 0;
		for (unsigned s = first + p * each; s < first + (p + 1) * each; s++)
			for (unsigned t = only_storage ? TIER_STORAGE : 0; t < TIER_CLASSES; t++)
				bytes += o->slot_bytes[s][t];
		ret[p] = (double)bytes / ((double)each * (double)o->slot_ns);
	}
}

static double mean_of(const double *rate)
{
	double sum = 0;

	for (unsigned p = 0; p < STEADY_PARTS; p++)
		sum += rate[p];
	return sum / STEADY_PARTS;
}

/* Least squares: how much the line rises per part. */
static double slope_of(const double *rate, double mean)
{
	double above = 0, below = 0;

	for (unsigned p = 0; p < STEADY_PARTS; p++) {
		double x = (double)p - (STEADY_PARTS - 1) / 2.0;
		above += x * (rate[p] - mean);
		below += x * x;
	}
	return above / below;
}

void judge_steady(const struct runner_outcome *o, struct verdict *ret)
{
	unsigned each = o->slots / STEADY_PARTS;
	double rate[STEADY_PARTS], mean, deviation = 0;

	if (!each) {
		snprintf(ret->why, sizeof(ret->why), "the window has only %u whole slots of %.0f s, %d are needed",
			 o->slots, (double)o->slot_ns / 1e9, STEADY_PARTS);
		return;
	}
	bool only_storage = true;
	part_rates(o, each, only_storage, rate);
	mean = mean_of(rate);
	if (mean <= 0) {
		only_storage = false;
		part_rates(o, each, only_storage, rate);
		mean = mean_of(rate);
	}
	if (mean <= 0) {
		snprintf(ret->why, sizeof(ret->why), "nothing moved");
		return;
	}
	for (unsigned p = 0; p < STEADY_PARTS; p++)
		deviation = MAX(deviation, fabs(rate[p] - mean) / mean);
	double rise = slope_of(rate, mean) * STEADY_PARTS / mean;
	ret->is_known = true;
	ret->value = fabs(rise) <= STEADY_SLOPE && deviation <= STEADY_DEVIATION;
	snprintf(ret->why, sizeof(ret->why),
		 "%d parts of %.0f s, %s: mean %.3g GB/s, trend %+.1f %% over all (limit %.0f %%), largest deviation "
		 "%.1f %% (limit %.0f %%)",
		 STEADY_PARTS, (double)each * (double)o->slot_ns / 1e9,
		 only_storage ? "storage tier" : "all tiers", mean, 100 * rise, 100 * STEADY_SLOPE, 100 * deviation,
		 100 * STEADY_DEVIATION);
}
