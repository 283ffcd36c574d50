/* SPDX-License-Identifier: Apache-2.0 */
/*
 * record/aggregate.h - sums and maxima over the results of many ranks, as the reference makes them.
 *
 * Receives: result files of ranks as text, one at a time.  Gives: one object.
 * Must not know: where the texts come from; what pooled percentiles are (those need the histograms, and the engine has them).
 *
 * Of each rank a few numbers are kept, so that ten thousand ranks cost two megabytes.
 */
#pragma once

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

struct record_aggregate; /* not thread-safe */

/**
 * record_aggregate_new() - room for ranks 0..@ranks-1
 * @file: name of a rank's result file in its directory; borrowed. A rank is listed as "rank_<r>/<file>".
 * Return: NULL when out of memory. record_aggregate_free() after.
 */
struct record_aggregate *record_aggregate_new(uint32_t ranks, const char *file);
void record_aggregate_free(struct record_aggregate *a);

/**
 * record_aggregate_add() - the result of one rank; a later one of the same rank takes its place
 * A result whose "partial" is true is used and listed.
 * Return: 0; -ERANGE no such rank; -EINVAL not a JSON object (the rank then counts as missing).
 */
int record_aggregate_add(struct record_aggregate *a, uint32_t rank, const char *text, size_t len);

/**
 * record_aggregate_json() - the reference's keys
 * Sums: aggregated_{read,write}_bandwidth_gbps, aggregated_{avg,storage}_throughput_tokens_per_sec. Largest of the ranks'
 * percentiles, which is not the percentile of all: aggregated_p95_latency_ms, aggregated_storage_read_p95_ms,
 * aggregated_device_{read,write}_p95_ms. Null where no rank says anything. rank_count, trial_count (1), partial_failure,
 * missing_files, partial_files, cpu_tier_ranks (nothing reached their storage).
 * Return: a new reference, NULL when out of memory.
 */
json_t *record_aggregate_json(const struct record_aggregate *a);

/**
 * record_aggregate_summary() - in place of a pooled result that did not come, or that the engine cannot make
 * The members of a result file that can be added up: requests, rates, bytes; the mean latency by requests.
 * Return: a new reference, NULL when out of memory.
 */
json_t *record_aggregate_summary(const struct record_aggregate *a);
