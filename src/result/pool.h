/* SPDX-License-Identifier: Apache-2.0 */
/*
 * result/pool.h - one result of many ranks.
 *
 * Receives: each rank's struct run_result, as a text that travels.  Gives: what the pooled one says, and the list of ranks.
 * Must not know: how the texts travel; counters and histograms, which are added up elsewhere (metrics/pack.c).
 *
 * How each member of struct run_result is pooled stands in one table in pool.c; what is not in the table is rank 0's own,
 * because it is the same on every rank (configuration, options, versions).
 */
#pragma once

#include "base/str.h"
#include "metrics/run_result.h"

struct result_pool;

/** Where and when a rank ran. */
struct result_rank {
	int rank;
	const char *host;
	const char *device; /* of its cache directory, unique among all hosts; "" none is known */
	int64_t begin_ns;   /* its window's begin, on rank 0's clock */
};

/** result_report() - this rank's part for the pool, as text: what the table names, headline numbers, errors, notices. Return: 0 or -ENOMEM. */
int result_report(const struct run_result *r, const struct result_rank *who, struct str *ret);

/** result_pool_new() - for @ranks reports. NULL: out of memory. result_pool_free() when the pooled result is written. */
struct result_pool *result_pool_new(int ranks);
void result_pool_free(struct result_pool *p);

/** result_pool_add() - take one rank's report, in any order. Return: 0, -ENOMEM, -EBADMSG (not such a text, or given twice). */
int result_pool_add(struct result_pool *p, int rank, const char *text, size_t len);

/**
 * result_pool_finish() - put what all reports say together into @r
 * @r: rank 0's own result, with the merged metrics. Its members of the table are replaced.
 * @errors, @notices: [out] empty; r->errors and r->notices point to them afterwards, with the rank's name where one rank speaks.
 * Return: 0, -ENOMEM; -EBADMSG when a report is missing.
 */
int result_pool_finish(struct result_pool *p, struct run_result *r, struct error_log *errors, struct strlist *notices);
