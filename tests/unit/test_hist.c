// SPDX-License-Identifier: Apache-2.0
/* Histograms: every bucket's edges, the error bound against exact order statistics, and adding up.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/attr.h"
#include "base/rng.h"
#include "metrics/hist.h"

enum { SAMPLES = 20000 };

static struct hist *hist_get(void)
{
	struct hist *h = calloc(1, sizeof(*h));
	assert_non_null(h);
	return h;
}

static void test_buckets(void **state)
{
	(void)state;
	assert_int_equal(HIST_BUCKETS, 17408);
	assert_true(hist_low_ns(0) == 0);
	for (uint32_t i = 0; i < HIST_BUCKETS; i++) {
		uint64_t low = hist_low_ns(i), high = hist_high_ns(i);
		assert_int_equal(hist_index(low), i);
		assert_int_equal(hist_index(high), i);
		if (i + 1 < HIST_BUCKETS)
			assert_true(hist_low_ns(i + 1) == high + 1);
		/* the middle is at most 1/1024 off, whatever the value */
		assert_true((high - low) * 512 <= low);
	}
	assert_true(hist_high_ns(HIST_BUCKETS - 1) == (UINT64_C(1) << 42) - 1);
	assert_int_equal(hist_index(UINT64_C(1) << 42), HIST_BUCKETS - 1);
	assert_int_equal(hist_index(UINT64_MAX), HIST_BUCKETS - 1);
}

static uint64_t draw_uniform(struct rng *r, unsigned i)
{
	(void)i;
	return rng_range(r, 1, 1000000);
}

static uint64_t draw_exponential(struct rng *r, unsigned i)
{
	(void)i;
	return (uint64_t)(-1e6 * log((double)rng_range(r, 1, UINT64_C(1) << 40) * 0x1p-40));
}

static uint64_t draw_bimodal(struct rng *r, unsigned i)
{
	return (i & 1 ? 90 : UINT64_C(3600000000000)) + rng_below(r, 7);
}

static uint64_t draw_equal(struct rng *r, unsigned i)
{
	(void)r, (void)i;
	return 123456789;
}

static uint64_t draw_powers(struct rng *r, unsigned i)
{
	(void)i;
	return (UINT64_C(1) << rng_range(r, 1, 41)) + rng_below(r, 3) - 1;
}

static uint64_t draw_sorted(struct rng *r, unsigned i)
{
	(void)r;
	return (uint64_t)i * 104729;
}

static uint64_t draw_every_octave(struct rng *r, unsigned i)
{
	return rng_next(r) >> (22 + i % 42);
}

static uint64_t (*const draws[])(struct rng *, unsigned) = {
	draw_uniform, draw_exponential, draw_bimodal,      draw_equal,
	draw_powers,  draw_sorted,      draw_every_octave,
};

static int compare(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
	return (x > y) - (x < y);
}

/* numpy.percentile(sorted, percent) */
static double exact_percentile(const uint64_t *sorted, size_t count, double percent)
{
	double place = (double)(count - 1) * (percent / 100);
	size_t i = (size_t)place;
	size_t j = i + 1 < count ? i + 1 : i;
	return (double)sorted[i] + (place - (double)i) * ((double)sorted[j] - (double)sorted[i]);
}

static void check_against_exact(const struct hist *h, uint64_t *v, size_t count)
{
	qsort(v, count, sizeof(*v), compare);
	for (int i = 0; i <= 1000; i++) {
		double exact = exact_percentile(v, count, i / 10.0);
		double got = hist_percentile_ns(h, i / 10.0);
		assert_true(got >= (double)v[0] && got <= (double)v[count - 1]);
		/* the slack is for the rounding of doubles, far below a nanosecond */
		assert_true(got >= exact - exact / 1024 - 1e-2 &&
			    got <= exact + exact / 1024 + 1e-2);
	}
	assert_true(hist_percentile_ns(h, 0) == (double)v[0]);
	assert_true(hist_percentile_ns(h, 100) == (double)v[count - 1]);
}

static void test_error_bound(void **state)
{
	(void)state;
	static const size_t counts[] = {1, 2, 3, 10, 1001, SAMPLES};
	CLEANUP_FREE uint64_t *v = calloc(SAMPLES, sizeof(*v));
	for (size_t d = 0; d < ARRAY_LEN(draws); d++) {
		for (size_t c = 0; c < ARRAY_LEN(counts); c++) {
			CLEANUP_FREE struct hist *h = hist_get();
			struct rng r = rng_stream(rng_key(d, c));
			for (unsigned i = 0; i < counts[c]; i++) {
				v[i] = draws[d](&r, i);
				hist_record(h, v[i]);
			}
			assert_true(h->count == counts[c]);
			assert_true(h->over == 0);
			check_against_exact(h, v, counts[c]);
		}
	}
}

/* numpy.percentile([10, 20, 30, 40], [25, 50, 90]) */
static void test_interpolation(void **state)
{
	(void)state;
	CLEANUP_FREE struct hist *h = hist_get();
	for (uint64_t ns = 40; ns; ns -= 10)
		hist_record(h, ns);
	assert_true(hist_percentile_ns(h, 25) == 17.5);
	assert_true(hist_percentile_ns(h, 50) == 25);
	double p90 = hist_percentile_ns(h, 90);
	assert_true(p90 > 36.999999 && p90 < 37.000001);
	assert_true(hist_mean_ns(h) == 25);
}

static void test_empty(void **state)
{
	(void)state;
	CLEANUP_FREE struct hist *h = hist_get();
	assert_true(hist_percentile_ns(h, 50) == 0);
	assert_true(hist_mean_ns(h) == 0);
	assert_true(hist_sum_ns(h) == 0);
	hist_record(h, 0);
	assert_true(h->count == 1 && h->min_ns == 0 && h->max_ns == 0);
}

static void test_merge(void **state)
{
	(void)state;
	for (size_t a = 0; a < ARRAY_LEN(draws); a++) {
		for (size_t b = 0; b < ARRAY_LEN(draws); b++) {
			CLEANUP_FREE struct hist *left = hist_get();
			CLEANUP_FREE struct hist *right = hist_get();
			CLEANUP_FREE struct hist *both = hist_get();
			struct rng r = rng_stream(rng_key(a, b));
			for (unsigned i = 0; i < 2000; i++) {
				uint64_t ns = draws[a](&r, i);
				hist_record(left, ns);
				hist_record(both, ns);
			}
			for (unsigned i = 0; i < 1000; i++) {
				uint64_t ns = draws[b](&r, i) * 5;
				hist_record(right, ns);
				hist_record(both, ns);
			}
			hist_merge(left, right);
			assert_memory_equal(left, both, sizeof(*both));
		}
	}
}

static void test_merge_empty(void **state)
{
	(void)state;
	CLEANUP_FREE struct hist *one = hist_get();
	CLEANUP_FREE struct hist *copy = hist_get();
	CLEANUP_FREE struct hist *empty = hist_get();
	hist_record(one, 777777);
	hist_record(copy, 777777);
	hist_merge(one, empty);
	assert_memory_equal(one, copy, sizeof(*one));
	hist_merge(empty, one);
	assert_memory_equal(empty, copy, sizeof(*one));
}

static void test_over(void **state)
{
	(void)state;
	CLEANUP_FREE struct hist *h = hist_get();
	hist_record(h, (UINT64_C(1) << 42) - 1);
	assert_true(h->over == 0);
	hist_record(h, UINT64_C(1) << 42);
	hist_record(h, UINT64_C(1) << 50);
	assert_true(h->over == 2);
	assert_true(h->bucket[HIST_BUCKETS - 1] == 3);
	assert_true(hist_percentile_ns(h, 100) == (double)(UINT64_C(1) << 50));
}

/* 2^33 + 1 a thousand times and more than 64 bits' worth of the largest value: no bit is lost. */
static void test_sum(void **state)
{
	(void)state;
	CLEANUP_FREE struct hist *h = hist_get();
	for (int i = 0; i < 1000; i++)
		hist_record(h, (UINT64_C(1) << 33) + 1);
	assert_true(hist_sum_ns(h) == 1000 * 8589934593.0);
	assert_true(hist_mean_ns(h) == 8589934593.0);
	memset(h, 0, sizeof(*h));
	for (int i = 0; i < 4; i++)
		hist_record(h, UINT64_MAX);
	assert_true(h->sum_low == 4 * UINT64_C(0xffffffff));
	assert_true(hist_sum_ns(h) == 4 * 18446744073709551615.0);
}

/* The mean of the inverses, not the inverse of the mean; what took no time is left out. */
static void test_mean_inverse(void **state)
{
	(void)state;
	CLEANUP_FREE struct hist *h = hist_get();
	assert_true(hist_mean_inverse(h) == 0);
	hist_record(h, 0);
	assert_true(hist_mean_inverse(h) == 0);
	for (uint64_t ns = 1000000; ns <= 4000000; ns *= 2)
		hist_record(h, ns);
	double exact = (1 + 0.5 + 0.25) / 3 / 1e6;
	assert_true(fabs(hist_mean_inverse(h) - exact) < exact / 1000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_buckets),       cmocka_unit_test(test_error_bound),
		cmocka_unit_test(test_interpolation), cmocka_unit_test(test_empty),
		cmocka_unit_test(test_merge),         cmocka_unit_test(test_merge_empty),
		cmocka_unit_test(test_over),          cmocka_unit_test(test_sum),
		cmocka_unit_test(test_mean_inverse),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
