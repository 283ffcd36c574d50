/* SPDX-License-Identifier: Apache-2.0 */
/*
 * result/internal.h - formulas and parts that the files of this room share.
 *
 * Receives: struct run_result.  Gives: numbers (NAN: not known) and JSON parts.
 * Must not know: other rooms' needs.
 */
#pragma once

#include <jansson.h>
#include <math.h>

#include "base/mem.h"
#include "metrics/run_result.h"
#include "result/result.h"

#define GIB 0x1p30

/** Which one of each repeated thing a field is about. */
struct scope {
	unsigned tier, dir, part, qos, stat;
};

/** What a histogram is reduced to; also the keys' order. */
enum stat {
	STAT_COUNT,
	STAT_MEAN,
	STAT_P50,
	STAT_P95,
	STAT_P99,
	STAT_P999,
	STAT_P9999,
	STAT_MAX,
	STATS
};

/** result_stat_ms() - one statistic of a latency, in milliseconds (STAT_COUNT: samples). NAN when
 * empty.
 */
double result_stat_ms(const struct hist *h, enum stat stat);
/** result_stat_name() - "mean", "p50" ... */
const char *result_stat_name(enum stat stat);

static inline double ratio(double part, double whole)
{
	return whole > 0 ? part / whole : NAN;
}

static inline double window_s(const struct run_result *r)
{
	return (double)r->window_ns / 1e9;
}

static inline double per_s(const struct run_result *r, double amount)
{
	return ratio(amount, window_s(r));
}

/** result_sampled_s() - time between the two samples of the kernel's counters. */
static inline double result_sampled_s(const struct run_io *io)
{
	return (double)io->device_sampled_ns / 1e9;
}

static inline double tier_bytes(const struct run_result *r, enum tier_class tier,
				enum metric_direction dir)
{
	return (double)r->m->count[COUNT_TIER_BYTES(tier, dir)];
}

static inline const struct hist *tier_hist(const struct run_result *r, enum tier_class tier,
					   enum metric_direction dir, enum metric_part part)
{
	return &r->m->hist[HIST_TIER(tier, dir, part)];
}

static inline double hit_rate(const struct run_result *r)
{
	double hits = (double)r->m->count[COUNT_CACHE_HITS];
	return ratio(hits, hits + (double)r->m->count[COUNT_CACHE_MISSES]);
}

static inline double tokens_per_s(const struct run_result *r)
{
	return per_s(r, (double)r->m->count[COUNT_TOKENS_GENERATED]);
}

static inline double read_write_ratio(const struct run_result *r)
{
	return (double)r->m->count[COUNT_READ_BYTES] /
	       (double)MAX(r->m->count[COUNT_WRITE_BYTES], 1);
}

/** result_oldest_age_s() - of the oldest request that was still waiting, over all levels. */
double result_oldest_age_s(const struct run_result *r);
/** How evenly the storage tier served entries of similar size: those of the size class with most operations. */
struct fairness {
	uint64_t ops;	   /* 0: fewer than FAIRNESS_OPS_MIN in every class; the rest is not known then */
	uint64_t min_bytes; /* smallest payload of the class; the largest is below 4 times that */
	double max_over_mean; /* bandwidth of the fastest operation over the mean of all operations' bandwidths */
};
enum { FAIRNESS_OPS_MIN = 100 };
struct fairness result_fairness(const struct run_result *r, enum metric_direction dir);
/** result_qos_compliance() - share of a level's completed requests within its P95 target. */
double result_qos_compliance(const struct run_result *r, enum config_qos level);

/*
 * Parts of the result that are not one number each. All give a new reference, NULL when memory ran
 * out.
 */
json_t *result_part_parameters(const struct run_result *r, const struct scope *s);
json_t *result_part_storage_health(const struct run_result *r, const struct scope *s);
json_t *result_part_qos_metrics(const struct run_result *r, const struct scope *s);
json_t *result_part_prefix_stats(const struct run_result *r, const struct scope *s);
json_t *result_part_kernel_device(const struct run_result *r, const struct scope *s);
json_t *result_part_tier_model(const struct run_result *r, const struct scope *s);
json_t *result_part_errors_by_class(const struct run_result *r, const struct scope *s);
json_t *result_part_errors_first(const struct run_result *r, const struct scope *s);
json_t *result_part_histograms(const struct run_result *r, const struct scope *s);
json_t *result_part_notices(const struct run_result *r, const struct scope *s);
json_t *result_part_field_notes(const struct run_result *r, const struct scope *s);
json_t *result_part_ranks(const struct run_result *r, const struct scope *s);
json_t *result_part_samples(const struct run_result *r, enum metric_raw which);

/** result_json_real() - a real, or null where @value is not finite. */
json_t *result_json_real(double value);
/** result_json_whole() - an integer, or null where it does not fit (a limit of UINT64_MAX is none).
 */
json_t *result_json_whole(uint64_t value);

/** result_at() - the value at a path of keys joined by dots; borrowed, NULL where there is none. */
json_t *result_at(json_t *root, const char *path);
/** result_window_skew_s(), result_hosts() - of a pooled result: between the first and the last rank's window; hosts. */
double result_window_skew_s(const struct run_result *r);
unsigned result_hosts(const struct run_result *r);
