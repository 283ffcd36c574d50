/* SPDX-License-Identifier: Apache-2.0 */
/*
 * metrics/hist.h - latency histograms that merge by addition and are right to 0.1 %.
 *
 * Receives: nanoseconds.  Gives: counts per bucket, percentiles, exact mean, minimum and maximum.
 * Must not know: what was timed.
 *
 * Geometry (fixed; two of them always merge): values 0..1023 ns have a bucket each; above, every octave
 * [2^k, 2^(k+1)) for k = 10..41 is cut into 512 equal buckets of width 2^k / 512. A value is reported as the middle of its
 * bucket, so it is off by at most half a width: (2^k / 1024) / 2^k = 1/1024 < 0.1 % of the value. That makes
 * 1024 + 32 x 512 = 17,408 buckets, up to 2^42 ns (73 minutes); larger values go to the last bucket and are counted apart.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

enum {
	HIST_LINEAR = 1024,   /* buckets of width 1 */
	HIST_PER_OCTAVE = 512,
	HIST_OCTAVES = 32,    /* k = 10..41 */
	HIST_BUCKETS = HIST_LINEAR + HIST_OCTAVES * HIST_PER_OCTAVE,
};

/** One histogram; all-zero is empty. Every field adds up on merge but min_ns (min) and max_ns (max). */
struct hist {
	uint64_t count;
	uint64_t sum_low;  /* sum of (value & 0xffffffff): with sum_high an exact sum that cannot overflow in 2^32 samples */
	uint64_t sum_high; /* sum of (value >> 32) */
	uint64_t min_ns;   /* meaningful when count > 0 */
	uint64_t max_ns;
	uint64_t over;	   /* samples beyond the last bucket's range */
	uint64_t bucket[HIST_BUCKETS];
};

/** hist_index() - bucket of a value. O(1). */
static inline uint32_t hist_index(uint64_t ns)
{
	if (ns < HIST_LINEAR)
		return (uint32_t)ns;
	uint32_t k = 63 - (uint32_t)__builtin_clzll(ns);
	if (k > 9 + HIST_OCTAVES)
		return HIST_BUCKETS - 1;
	return HIST_LINEAR + (k - 10) * HIST_PER_OCTAVE + (uint32_t)((ns >> (k - 9)) & (HIST_PER_OCTAVE - 1));
}

/** hist_record() - add one sample. O(1), no branch but the range checks. Threads: one writer. */
void hist_record(struct hist *h, uint64_t ns);

/** hist_clear() - empty again; touches only buckets that were used. */
void hist_clear(struct hist *h);

/** hist_merge() - add @from to @to. O(buckets between @from's extremes). */
void hist_merge(struct hist *to, const struct hist *from);

/** hist_low_ns(), hist_high_ns() - smallest and largest value of a bucket. */
uint64_t hist_low_ns(uint32_t index);
uint64_t hist_high_ns(uint32_t index);

/**
 * hist_percentile_ns() - NumPy's linear interpolation between order statistics: h = (count - 1) x @percent / 100,
 * each order statistic taken as the middle of its bucket, clamped to min_ns..max_ns (so p0 and p100 are exact).
 * @percent: 0..100   Return: nanoseconds; 0 when empty (ask count first). Within 0.1 % of the exact answer.
 */
double hist_percentile_ns(const struct hist *h, double percent);

/**
 * hist_mean_inverse() - mean of 1 / value over the samples, in 1/ns, each taken as the middle of its bucket: within 0.1 %
 * Samples of 0 are left out. Return: 0 when there is none.
 */
double hist_mean_inverse(const struct hist *h);

/** hist_mean_ns() - exact mean; 0 when empty. */
double hist_mean_ns(const struct hist *h);
/** hist_sum_ns() - exact sum as a double (rounded once). */
double hist_sum_ns(const struct hist *h);
