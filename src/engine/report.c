// SPDX-License-Identifier: Apache-2.0
/* After the run: merge, judge, print, write. Nothing is torn down before the result file is there. */
#include "engine/ranks.h"

#include <assert.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "result/result.h"

/*
 * Above this share of the CPU it could have had, the client set the pace and not the storage: the busiest worker of one CPU, or
 * the process, with the kernel threads that copy for it, of all CPUs.
 */
#define CLIENT_BOUND_CPU_SHARE 0.90
/* Likewise when a worker that had work waited for a CPU more than this share of the window. */
#define CLIENT_BOUND_WAIT_SHARE 0.10
/* A percentile is worth showing when this many samples lie beyond it. */
#define TAIL_SAMPLES 10

/* Where no device can have been waited for, the program set the pace, however little CPU it used. "": a device was there. */
static const char *deviceless(const struct run_result *r)
{
	const uint64_t *count = r->m->count;
	if (!strcmp(r->tier[TIER_STORAGE].kind, "null"))
		return "the storage tier takes no time; ";
	if (!count[COUNT_TIER_BYTES(TIER_STORAGE, DIR_READ)] && !count[COUNT_TIER_BYTES(TIER_STORAGE, DIR_WRITE)])
		return "nothing moved to or from storage; ";
	return "";
}

static void judge_client(struct run_result *r, const struct runner_outcome *o, const struct watch *watch)
{
	struct verdict *v = &r->client_bound;
	if (r->is_virtual) {
		snprintf(v->why, sizeof(v->why), "the virtual clock has no client to wait for");
		return;
	}
	double window_s = (double)r->window_ns / 1e9;
	double process = window_s > 0 ? (watch->cpu_user_s + watch->cpu_system_s) /
						(window_s * r->host.logical_cpus)
				      : 0.0;
	const char *why = deviceless(r);
	v->is_known = r->window_ns > 0;
	v->value = *why || o->worker_cpu_share_max >= CLIENT_BOUND_CPU_SHARE ||
		   process >= CLIENT_BOUND_CPU_SHARE ||
		   o->worker_wait_share_max >= CLIENT_BOUND_WAIT_SHARE;
	snprintf(v->why, sizeof(v->why),
		 "%sthe busiest of %u worker%s used %.0f %% of a CPU, the process %.0f %% of all %u (bound "
		 "from %.0f %%); a worker waited for a CPU %.1f %% of the time (from %.0f %%)",
		 why, r->workers, r->workers == 1 ? "" : "s", 100.0 * o->worker_cpu_share_max, 100.0 * process,
		 r->host.logical_cpus, 100.0 * CLIENT_BOUND_CPU_SHARE,
		 100.0 * o->worker_wait_share_max, 100.0 * CLIENT_BOUND_WAIT_SHARE);
}

static void judge_page_cache(struct run_result *r, const struct engine *e)
{
	struct verdict *v = &r->page_cache_bypassed;
	if (!e->is_file_backend) {
		snprintf(v->why, sizeof(v->why), "the storage tier is no file system");
		return;
	}
	v->is_known = true;
	v->value = e->storage.is_direct;
	if (e->storage.is_direct)
		snprintf(v->why, sizeof(v->why), "direct I/O: %.200s", e->storage.direct.why);
	else if (e->storage.fs.is_memory)
		snprintf(v->why, sizeof(v->why), "%.64s lives in memory: this run measures memory",
			 e->storage.fs.type);
	else
		snprintf(v->why, sizeof(v->why),
			 "buffered: pages are dropped before each read; then %" PRIu64 " of %" PRIu64
			 " sampled pages were still resident, and %" PRIu64
			 " reads overlapped another reader of their file",
			 r->m->count[COUNT_PAGES_RESIDENT], r->m->count[COUNT_PAGES_SAMPLED],
			 r->m->count[COUNT_NOT_COLD_READS]);
}

static void judge_samples(struct run_result *r)
{
	static const double shown[] = {95, 99};
	struct verdict *v = &r->enough_samples;
	uint64_t reads = r->m->hist[HIST_TIER(TIER_STORAGE, DIR_READ, PART_DEVICE)].count;
	uint64_t writes = r->m->hist[HIST_TIER(TIER_STORAGE, DIR_WRITE, PART_DEVICE)].count;
	uint64_t fewest = reads && writes ? MIN(reads, writes) : reads + writes;
	v->is_known = true;
	v->value = fewest > 0;
	double worst = 0;
	for (size_t i = 0; i < ARRAY_LEN(shown); i++) {
		if ((double)fewest * (100.0 - shown[i]) / 100.0 < TAIL_SAMPLES) {
			v->value = false;
			worst = worst > 0 ? worst : shown[i];
		}
	}
	int n = snprintf(v->why, sizeof(v->why), "%" PRIu64 " storage reads, %" PRIu64 " writes", reads, writes);
	if (worst > 0)
		snprintf(v->why + n, sizeof(v->why) - (size_t)n,
			 "; P%.0f and beyond rest on fewer than %d samples in the tail", worst, TAIL_SAMPLES);
}

static void judge_validity(struct run_result *r)
{
	uint64_t bytes = metrics_tier_bytes(r->m, DIR_READ) + metrics_tier_bytes(r->m, DIR_WRITE);
	uint64_t unusable = r->m->count[COUNT_TRACE_ROWS_UNUSABLE];
	r->is_valid = bytes && !r->errors->total && !unusable;
	if (r->errors->total)
		snprintf(r->invalid_why, sizeof(r->invalid_why), "%" PRIu64 " I/O or data errors",
			 r->errors->total);
	else if (unusable)
		snprintf(r->invalid_why, sizeof(r->invalid_why), "%" PRIu64 " trace rows could not be used",
			 unusable);
	else if (!bytes && r->m->count[COUNT_REFUSED_TOO_LARGE])
		snprintf(r->invalid_why, sizeof(r->invalid_why),
			 "no bytes moved: all %" PRIu64 " entries were larger than the storage tier",
			 r->m->count[COUNT_REFUSED_TOO_LARGE]);
	else if (!bytes)
		snprintf(r->invalid_why, sizeof(r->invalid_why), "no bytes moved inside the window");
}

static void fill_tiers(struct run_result *r, struct engine *e)
{
	for (unsigned i = 0; i < e->tier_count; i++) {
		const struct tier *t = e->tier[i];
		struct cache_usage usage = cache_usage(e->cache, i);
		struct run_tier *out = &r->tier[t->class];
		*out = (struct run_tier){
			.is_present = true,
			.kind = t->ops->kind,
			.limit_bytes = usage.limit_bytes,
			/* Room that was promised and is not free yet holds nothing. */
			.used_bytes = MIN(usage.used_bytes, usage.limit_bytes),
			.entries = usage.entries,
		};
		if (!strcmp(t->ops->kind, "model")) {
			const struct config_model_tier *m = &e->cfg->model_tier[t->class];
			out->read_gbps = m->read_gbps;
			out->write_gbps = m->write_gbps;
			out->latency_us = m->latency_us;
		}
	}
}

static void fill_io(struct run_result *r, const struct engine *e, const struct runner_outcome *o,
		    const struct watch *watch)
{
	static const char *const syncs[] = {[SYNC_FSYNC] = "fsync", [SYNC_FDATASYNC] = "fdatasync", [SYNC_NONE] = "none"};
	struct run_io *io = &r->io;
	io->io_size_bytes = e->cfg->opt.io_size_bytes;
	io->io_depth = e->runner_setup.io_depth;
	io->ops_in_flight = e->runner_setup.ops_in_flight;
	if (!e->is_file_backend)
		return;
	const struct fs_facts *fs = &e->storage.fs;
	snprintf(io->engine, sizeof(io->engine), "%s", o->io_engine);
	snprintf(io->mode, sizeof(io->mode), "%s", e->storage.is_direct ? "direct" : "buffered");
	snprintf(io->sync, sizeof(io->sync), "%s", syncs[e->cfg->opt.sync]);
	snprintf(io->filesystem, sizeof(io->filesystem), "%.31s", fs->type);
	snprintf(io->device, sizeof(io->device), "%.63s", fs->source);
	io->has_registered_buffers = o->io_features & IO_REGISTERED_BUFFERS;
	static_assert(sizeof(io->features) >= IO_FEATURES_SIZE, "room for all names");
	io_features_text(io->features, o->io_features);
	io->direct_align_bytes = e->storage.is_direct ? e->storage.direct.align_bytes : 0;
	io->has_device_counters = fs->has_block_device && watch->has_end;
	io->device_sampled_ns = watch->sampled_end_ns - watch->sampled_begin_ns;
	io->device_read_bytes = watch->disk_end.read_bytes - watch->disk_begin.read_bytes;
	io->device_written_bytes = watch->disk_end.write_bytes - watch->disk_begin.write_bytes;
}

static void fill_users(struct run_users *users, const struct engine *e)
{
	double sum = 0;
	users->count = e->cfg->opt.trace ? 0 : (uint32_t)e->cfg->opt.num_users;
	for (uint32_t i = 0; i < users->count; i++) {
		struct workload_user user = workload_user(e->workload, i);
		users->context_min = i ? MIN(users->context_min, user.context_tokens) : user.context_tokens;
		users->context_max = MAX(users->context_max, user.context_tokens);
		users->by_qos[user.qos]++;
		sum += user.context_tokens;
	}
	users->context_mean = users->count ? sum / users->count : 0;
}

static void fill_host(struct run_result *r, const struct engine *e, const struct watch *watch)
{
	if (r->is_virtual)
		return;
	snprintf(r->host.hostname, sizeof(r->host.hostname), "%s", e->host.hostname);
	snprintf(r->host.kernel, sizeof(r->host.kernel), "%s", e->host.kernel);
	snprintf(r->host.os, sizeof(r->host.os), "%.127s", e->host.os_name);
	snprintf(r->host.cpu_model, sizeof(r->host.cpu_model), "%.127s", e->host.cpu_model);
	r->host.logical_cpus = e->host.cores_logical;
	r->host.memory_bytes = e->host.mem_total_bytes;
	memcpy(r->started_utc, watch->started_utc, sizeof(r->started_utc));
	memcpy(r->ended_utc, watch->ended_utc, sizeof(r->ended_utc));
	r->cpu_user_s = watch->cpu_user_s;
	r->cpu_system_s = watch->cpu_system_s;
	struct rusage ru;
	getrusage(RUSAGE_SELF, &ru);
	r->rss_peak_bytes = (uint64_t)ru.ru_maxrss * 1024;
	r->setup_s = e->setup_s;
}

static void fill(struct run_result *r, struct engine *e, const struct watch *watch,
		 const struct runner_outcome *o, const struct metrics *m)
{
	*r = (struct run_result){
		.cfg = e->cfg,
		.options = e->options,
		.m = m,
		.errors = &e->errors,
		.notices = &e->notices,
		.version = ENGINE_VERSION,
		.seed = e->seed + (uint64_t)comm_rank(e->comm),
		.seed_was_drawn = e->seed_was_drawn,
		.fingerprint = workload_fingerprint(e->workload),
		.workload_source = e->cfg->opt.trace ? e->cfg->opt.trace : "synthetic",
		.is_virtual = e->cfg->opt.simulate,
		.is_interrupted = watch->was_interrupted,
		.window_ns = o->window_ns,
		.warmup_ns = e->runner_setup.warmup_ns,
		.interval_file = e->interval_path,
		.workers = e->runner_setup.workers,
		.in_service_max = o->in_service_max,
		.predicted_bytes = e->predicted_bytes,
	};
	fill_tiers(r, e);
	fill_users(&r->users, e);
	fill_io(r, e, o, watch);
	fill_host(r, e, watch);
	judge_client(r, o, watch);
	judge_page_cache(r, e);
	judge_samples(r);
	judge_steady(o, &r->steady_state);
	judge_validity(r);
}

static void tell_errors(const struct engine *e, const struct error_log *errors)
{
	for (unsigned i = 0; i < errors->classes; i++)
		log_error("%s, %" PRIu64 " times, first: %s", errors->v[i].name, errors->v[i].count, errors->v[i].first);
	const char *bad = workload_bad_row(e->workload);
	if (bad)
		log_error("unusable trace row: %s", bad);
}

static void tell_faults(const struct engine *e)
{
	const struct config_fault_plan *plan = &e->cfg->faults;
	for (uint32_t i = 0; i < plan->count; i++) {
		uint64_t struck = 0;
		for (unsigned t = 0; t < e->tier_count; t++)
			struck += tier_fault_struck(e->tier[t], i);
		log_info("fault %s (line %u): struck %" PRIu64 " times", config_fault_name(plan->v[i].kind),
			 plan->v[i].line, struck);
	}
}

static int emit_result(struct engine *e, const struct run_result *r)
{
	CLEANUP_STR struct str text = {0};
	int rc = result_dump(r, true, &text);
	if (!rc)
		ranks_emit(e, FRAME_AGGREGATE, 0, str_text(&text), text.len);
	return rc;
}

static void print_summary(const struct engine *e, const struct run_result *r)
{
	int rc = e->cfg->opt.quiet ? 0 : result_text(r, stdout);
	if (rc)
		log_error("cannot print the summary: %s", strerror(-rc));
}

/* The summary is for a person; the result a file, or a frame for the controller, who shows the summary as it comes. Return: 0 or
 * -errno. */
static int deliver(struct engine *e, const struct run_result *r)
{
	int rc = e->cfg->opt.frames ? emit_result(e, r) : 0;
	print_summary(e, r);
	if (e->cfg->opt.frames)
		return rc;
	rc = result_write(r, e->output);
	if (rc)
		log_error("cannot write the result file '%s': %s", e->output, strerror(-rc));
	else
		log_info("result file: %s", e->output);
	return rc;
}

/* Rank 0's last word. Return: exit code. */
static int conclude(struct engine *e, const struct run_result *r)
{
	tell_errors(e, r->errors);
	int rc = deliver(e, r);
	if (!r->is_valid)
		log_error("the result is not valid: %s", r->invalid_why);
	if (rc || e->ranks.result_rc)
		return EXIT_ENVIRONMENT;
	return r->is_interrupted ? EXIT_INTERRUPTED : r->is_valid ? EXIT_OK : EXIT_NOT_VALID;
}

int report_run(struct engine *e, const struct watch *watch)
{
	struct metrics *m = metrics_new();
	struct runner_outcome outcome;
	struct run_result r;
	struct ranks_pooled pooled = {0};
	int code = EXIT_OK, rc = m ? runner_collect(e->runner, m, &outcome) : -ENOMEM;
	if (rc) {
		log_error("cannot merge the measurements: %s", strerror(-rc));
		metrics_free(m);
		return EXIT_ENVIRONMENT;
	}
	fill(&r, e, watch, &outcome, m);
	tell_faults(e);
	if (ranks_are_told(e)) {
		code = ranks_pool(e, watch, &r, &pooled);
		if (!code && !comm_rank(e->comm))
			judge_samples(&r);
	}
	if (!code)
		code = ranks_share_code(e, comm_rank(e->comm) ? EXIT_OK : conclude(e, &r));
	ranks_pooled_release(&pooled);
	metrics_free(m);
	return code ? code : e->interval_rc ? EXIT_ENVIRONMENT : EXIT_OK;
}
