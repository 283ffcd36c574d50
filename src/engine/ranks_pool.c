// SPDX-License-Identifier: Apache-2.0
/*
 * After the run: each rank's result goes to rank 0, and all of them become one. First the whole results, so that those of the
 * living are kept when one does not come; then what pools the members of struct run_result; then counters and histograms, which
 * are added up on the way to rank 0, along a tree, and only where some rank has counted anything.
 */
#include "engine/ranks.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "result/result.h"

/* Rank 0 passes results on this fast, at least: what a rank may have to wait for its turn. */
#define TURN_NS (20 * NS_PER_MS)

/* When the last rank should have ended its window and drained, by this rank's clock. */
static uint64_t patience(const struct engine *e, bool is_stopped)
{
	const struct runner_setup *s = &e->runner_setup;
	uint64_t now = clock_mono_ns(), drain = s->drain_ns;
	if (e->cfg->opt.simulate)
		return 10 * (now - e->ranks.start_ns);
	uint64_t end = e->ranks.start_ns + s->warmup_ns + s->duration_ns;
	return drain + (is_stopped || now > end ? 0 : end - now) + TURN_NS * (uint64_t)comm_size(e->comm);
}

/* ---- the ranks' own results ---- */

static int take_result(void *arg, int rank, const char *data, size_t len)
{
	struct engine *e = arg;
	ranks_emit(e, FRAME_RESULT, rank, data, len);
	if (e->cfg->opt.frames)
		return 0;
	char subdir[32];
	snprintf(subdir, sizeof(subdir), "rank_%d", rank);
	int rc = file_write_below(e->output, subdir, data, len);
	if (rc) {
		log_error("cannot write rank %d's result beside '%s': %s", rank, e->output, strerror(-rc));
		e->ranks.result_rc = rc;
	}
	return 0; /* the pooled result may still be written */
}

static int pass_on(struct engine *e, const struct run_result *r, struct error *err)
{
	CLEANUP_STR struct str text = {0};
	int rc = result_dump(r, comm_size(e->comm) < RANKS_HISTOGRAMS_MAX, &text);
	if (rc)
		return error_set(err, rc, ERR_INTERNAL, "cannot write the result as text: %s", strerror(-rc));
	return comm_gather(e->comm, str_text(&text), text.len, take_result, e,
			   ranks_deadline(e, patience(e, r->is_interrupted)), err);
}

/* ---- what they say together ---- */

static int take_report(void *arg, int rank, const char *data, size_t len)
{
	return result_pool_add(arg, rank, data, len);
}

static int gather_reports(struct engine *e, const struct watch *watch, const struct run_result *r, struct result_pool *pool,
			  struct error *err)
{
	const struct fs_facts *fs = &e->storage.fs;
	int rank = comm_rank(e->comm);
	char device[128] = "";
	if (r->io.has_device_counters)
		snprintf(device, sizeof(device), "%.64s %u:%u", comm_host(e->comm, rank), fs->block_major, fs->block_minor);
	struct result_rank who = {
		.rank = rank,
		.host = comm_host(e->comm, rank),
		.device = device,
		.begin_ns = (int64_t)watch->begin_ns - e->ranks.clock_offset_ns,
	};
	CLEANUP_STR struct str report = {0};
	int rc = result_report(r, &who, &report);
	if (rc)
		return error_set(err, rc, ERR_INTERNAL, "cannot report to rank 0: %s", strerror(-rc));
	return comm_gather(e->comm, str_text(&report), report.len, take_report, pool,
			   ranks_deadline(e, TURN_NS * (uint64_t)comm_size(e->comm)), err);
}

/* @ret: empty; rank 0's is the sum. */
static int reduce(struct engine *e, const struct metrics *own, struct metrics *ret, struct error *err)
{
	uint64_t touched[METRIC_BLOCK_WORDS], maxima[METRIC_MAXIMA], deadline_ns = ranks_deadline(e, 0);
	metrics_touched(own, touched);
	int rc = comm_allreduce(e->comm, COMM_OR, touched, METRIC_BLOCK_WORDS, deadline_ns, err);
	if (rc)
		return rc;
	size_t n = metrics_sums_count(touched);
	CLEANUP_FREE uint64_t *sums = calloc(n, sizeof(*sums));
	if (!sums)
		return error_set(err, -ENOMEM, ERR_INTERNAL, "out of memory");
	metrics_pack(own, touched, sums, maxima);
	rc = comm_reduce(e->comm, COMM_SUM, sums, n, deadline_ns, err);
	if (!rc)
		rc = comm_reduce(e->comm, COMM_MAX, maxima, METRIC_MAXIMA, deadline_ns, err);
	if (!rc && !comm_rank(e->comm))
		metrics_unpack(ret, touched, sums, maxima);
	return rc;
}

static int add_notices(const struct engine *e, struct strlist *notices)
{
	int rc = 0;
	for (size_t i = 0; i < e->ranks.notices.count && !rc; i++)
		rc = strlist_add(notices, e->ranks.notices.v[i]);
	if (!rc && e->cfg->opt.raw_samples)
		rc = strlist_add(notices, "the samples of --raw-samples are in the ranks' own results");
	if (!rc && comm_size(e->comm) >= RANKS_HISTOGRAMS_MAX)
		rc = strlist_addf(notices, "the ranks' own results have no histograms: there are %d ranks or more",
				  RANKS_HISTOGRAMS_MAX);
	return rc;
}

int ranks_pool(struct engine *e, const struct watch *watch, struct run_result *r, struct ranks_pooled *keep)
{
	struct error err = {0};
	int rank = comm_rank(e->comm);
	keep->m = metrics_new();
	keep->pool = rank ? NULL : result_pool_new(comm_size(e->comm));
	int rc = keep->m && (rank || keep->pool) ? 0 : error_set(&err, -ENOMEM, ERR_INTERNAL, "out of memory");
	if (!rc)
		rc = pass_on(e, r, &err);
	if (!rc)
		rc = ranks_last_intervals(e, &err);
	if (!rc)
		rc = ranks_tell_hosts(e, &err);
	if (!rc)
		rc = gather_reports(e, watch, r, keep->pool, &err);
	if (!rc)
		rc = reduce(e, r->m, keep->m, &err);
	if (!rc && !rank) {
		r->m = keep->m;
		rc = result_pool_finish(keep->pool, r, &keep->errors, &keep->notices);
		rc = rc ? rc : add_notices(e, &keep->notices);
		if (rc)
			error_set(&err, rc, ERR_INTERNAL, "cannot pool the ranks' results: %s", strerror(-rc));
	}
	return rc ? ranks_fail(e, rc, &err) : EXIT_OK;
}

void ranks_pooled_release(struct ranks_pooled *p)
{
	result_pool_free(p->pool);
	metrics_free(p->m);
	strlist_release(&p->notices);
}
