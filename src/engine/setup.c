// SPDX-License-Identifier: Apache-2.0
/* From a checked config to workers that wait for the start: checks first, then creation in one order. */
#include "engine/ranks.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/mem.h"

/* What was seen of the program, the libraries, the stacks and the result being written. An MPI library comes on top. */
enum { PROGRAM_BYTES = 4 << 20 };

static uint64_t cpu_tier_bytes(const struct engine *e)
{
	return (uint64_t)(e->cfg->opt.cpu_mem_gib * ENGINE_GIB);
}

/* Ranks of one host share its cores. */
static uint32_t own_cores(const struct engine *e)
{
	return MAX(e->host.cores_logical / comm_host_ranks(e->comm), 1);
}

/* As asked for, or as the machine suggests. */
static uint32_t wanted_workers(const struct engine *e)
{
	return e->cfg->opt.workers ? (uint32_t)e->cfg->opt.workers : MIN(own_cores(e), 8);
}

/* Memory that is taken in one piece and touched, by all ranks of this host: the RAM tier, and a buffer for each chunk in flight. */
static void check_memory(struct engine *e, struct problems *problems)
{
	const struct config_options *o = &e->cfg->opt;
	struct opt_set set = {.groups = e->options, .count = 1};
	unsigned ranks = comm_host_ranks(e->comm);
	char of_ranks[48] = "";
	uint64_t ram = ranks * cpu_tier_bytes(e);
	uint64_t chunks = ranks * ((uint64_t)o->io_depth + (uint64_t)wanted_workers(e) * runner_spare_chunks(e->cfg));
	uint64_t buffers = e->is_file_backend || ram ? chunks * (uint64_t)o->io_size_bytes : 0;
	uint64_t available = e->host.mem_available_bytes;
	if (o->simulate || ram + buffers + ENGINE_MEMORY_RESERVE_BYTES <= available)
		return;
	if (ranks > 1)
		snprintf(of_ranks, sizeof(of_ranks), " by the %u ranks of this host", ranks);
	uint64_t taken = buffers + ENGINE_MEMORY_RESERVE_BYTES;
	if (taken > available) {
		problems_add(problems, ERR_FS_FULL,
			     "--io-depth, --io-size: buffers of %.3f GiB are asked for%s, but %.3f GiB of memory "
			     "are available and 1 GiB must stay free",
			     (double)buffers / ENGINE_GIB, of_ranks, (double)available / ENGINE_GIB);
		return;
	}
	problems_add(problems, ERR_FS_FULL,
		     "--cpu-mem-gb: %.3f GiB are asked for%s%s, but %.3f GiB of memory are available and 1 GiB "
		     "must stay free; at most %.1f fits",
		     (double)ram / ENGINE_GIB, of_ranks, opt_given(&set, "--cpu-mem-gb") ? "" : " (the default)",
		     (double)available / ENGINE_GIB, (double)((available - taken) / ranks * 10 / (1 << 30)) / 10.0);
}

static void check_output(struct engine *e, struct problems *problems)
{
	char stamp[CLOCK_STAMP_SIZE];
	if (comm_rank(e->comm) || e->cfg->opt.frames)
		return; /* no file is written here */
	clock_stamp(stamp, time(NULL));
	if (e->cfg->opt.output)
		snprintf(e->output, sizeof(e->output), "%s", e->cfg->opt.output);
	else
		snprintf(e->output, sizeof(e->output), "benchmark_results_%s.json", stamp);
	struct error err = {0};
	if (file_check_target(e->output, &err)) {
		error_prefix(&err, "--output");
		problems_add_error(problems, &err);
	}
}

static void engine_seed(struct engine *e)
{
	struct opt_set set = {.groups = e->options, .count = 1};
	e->seed_was_drawn = !opt_given(&set, "--seed");
	e->seed = (uint64_t)e->cfg->opt.seed;
	if (!e->seed_was_drawn)
		return;
	uint32_t drawn = 0;
	if (getrandom(&drawn, sizeof(drawn), 0) != sizeof(drawn))
		drawn = (uint32_t)clock_mono_ns();
	e->seed = drawn & INT32_MAX;
}

/* In what the ranks' directories must share. All ranks come here, whatever their directories are like. */
static int check_storage(struct engine *e, struct problems *problems, struct error *err)
{
	struct storage *s = &e->storage;
	size_t before = problems->count;
	uint64_t ram = comm_host_ranks(e->comm) * cpu_tier_bytes(e), available = e->host.mem_available_bytes;
	storage_look(s, e->cfg, comm_is_job(e->comm) ? comm_rank(e->comm) : -1, problems);
	int rc = ranks_share_space(e, err);
	if (!rc && problems->count == before)
		storage_check_space(s, e->cfg, available > ram ? available - ram : 0, problems);
	return rc;
}

int engine_check(struct engine *e, struct problems *problems, struct error *err)
{
	e->setup_begin_ns = clock_mono_ns();
	e->interval_fd = -1;
	e->is_file_backend = e->cfg->opt.storage_backend == BACKEND_FILE;
	error_log_init(&e->errors);
	engine_seed(e);
	int host_rc = host_facts_read("", &e->host);
	int rc = ranks_share_seed(e, err);
	if (!rc && e->is_file_backend)
		rc = check_storage(e, problems, err);
	if (rc || host_rc)
		return rc ? rc : host_rc;
	check_memory(e, problems);
	check_output(e, problems);
	intervals_check(e, problems);
	struct error workload_err = {0};
	uint32_t rank = (uint32_t)comm_rank(e->comm);
	rc = workload_new(e->cfg, e->seed + rank, rank, &e->workload, &workload_err);
	if (rc && e->cfg->opt.trace)
		error_prefix(&workload_err, "--trace");
	return rc ? problems_add_error(problems, &workload_err) : 0;
}

/* ---- creation ---- */

static int engine_cpu_tier(struct engine *e, struct error *err)
{
	const struct config *cfg = e->cfg;
	uint64_t ram = cpu_tier_bytes(e);
	int rc = 0;
	if (cfg->opt.gpu_mem_gib > 0)
		rc = strlist_addf(&e->notices,
				  "no GPU tier in this version: --gpu-mem-gb %g is recorded, its effective "
				  "size is 0",
				  cfg->opt.gpu_mem_gib);
	if (!rc && ram) {
		if (cfg->opt.simulate)
			rc = tier_model_new(TIER_CPU, ram, &cfg->model_tier[TIER_CPU], &e->tier[0]);
		else
			rc = tier_ram_new(TIER_CPU, ram, &e->tier[0], err);
		if (!rc)
			e->tier_count++;
	}
	return rc;
}

static int engine_storage_tier(struct engine *e)
{
	const struct config *cfg = e->cfg;
	int rc;
	struct tier **last = &e->tier[e->tier_count];
	uint64_t limit = cfg->opt.storage_capacity_gib > 0
				 ? (uint64_t)(cfg->opt.storage_capacity_gib * ENGINE_GIB)
				 : ENGINE_MODEL_CAPACITY_BYTES;
	switch (cfg->opt.storage_backend) {
	case BACKEND_NULL:
		rc = tier_null_new(TIER_STORAGE, limit, last);
		break;
	case BACKEND_MODEL:
		rc = tier_model_new(TIER_STORAGE, limit, &cfg->model_tier[TIER_STORAGE], last);
		break;
	default:
		rc = tier_file_new(&(struct tier_file_setup){.dirfd = e->storage.dirfd,
							     .path = e->storage.path,
							     .limit_bytes = e->storage.limit_bytes,
							     .cfg = cfg,
							     .is_direct = e->storage.is_direct},
				   last);
	}
	if (!rc)
		e->tier_count++;
	return rc;
}

static uint64_t tier_footprint(const struct tier *t, uint64_t payload)
{
	return t->header_bytes + ALIGN_UP(payload, t->granule_bytes);
}

/* Live entries at most: as many of the smallest as the tiers hold, and what is on its way. */
static uint64_t entries_max(const struct engine *e)
{
	uint64_t smallest = MAX(config_entry_bytes(e->cfg, 1), 1);
	uint64_t entries = (uint64_t)RUNNER_IN_SERVICE_MAX * (uint64_t)e->cfg->opt.request_parallel;
	for (unsigned i = 0; i < e->tier_count; i++)
		entries += e->tier[i]->limit_bytes / tier_footprint(e->tier[i], smallest) + 1;
	return MIN(entries, UINT64_C(1) << 31);
}

static int engine_cache(struct engine *e, struct error *err)
{
	struct cache_setup setup = {
		.tier_count = e->tier_count,
		.target_usage_ratio = e->cfg->workload.target_usage_ratio,
		.large_entry_limit_ratio = e->cfg->workload.large_entry_limit_ratio,
		.entries_max = entries_max(e),
		.is_private = e->cfg->opt.simulate,
	};
	for (unsigned i = 0; i < e->tier_count; i++)
		setup.tier[i] = (struct cache_tier){
			.class = e->tier[i]->class,
			.limit_bytes = e->tier[i]->limit_bytes,
			.header_bytes = e->tier[i]->header_bytes,
			.granule_bytes = e->tier[i]->granule_bytes,
		};
	int rc = cache_new(&setup, &e->cache);
	if (rc)
		return error_set(err, rc, ERR_FS_FULL, "cannot set up the cache index: %s", strerror(-rc));
	return 0;
}

static uint32_t worker_count(struct engine *e)
{
	const struct config_options *o = &e->cfg->opt;
	if (o->simulate)
		return 1;
	uint32_t asked = (uint32_t)o->workers;
	/* A worker without a chunk in flight or a request to serve would only watch. */
	uint32_t workers = (uint32_t)MIN(wanted_workers(e), MIN(o->io_depth, MIN(o->num_users, RUNNER_IN_SERVICE_MAX)));
	if (asked && workers < asked)
		(void)strlist_addf(&e->notices,
				   "%u workers instead of %u: no more than --io-depth and --num-users allow",
				   workers, asked);
	return workers;
}

/* How many entries a decode-only run is given. 0: not one fits. */
static uint64_t prepared_count(struct engine *e)
{
	const struct config_options *o = &e->cfg->opt;
	const struct tier *storage = e->tier[e->tier_count - 1];
	if (!o->decode_only)
		return 0;
	uint64_t wanted = (uint64_t)o->num_users * ENGINE_PREPARED_PER_USER;
	uint64_t each = tier_footprint(storage, config_entry_bytes(e->cfg, ENGINE_FILL_TOKENS));
	uint64_t fit = (uint64_t)((double)storage->limit_bytes * ENGINE_PREPARED_SHARE) / each;
	if (fit < wanted)
		(void)strlist_addf(&e->notices,
				   "--decode-only: %" PRIu64 " entries instead of %" PRIu64
				   ": more would take over %.0f %% of the storage tier",
				   fit, wanted, 100 * ENGINE_PREPARED_SHARE);
	return MIN(wanted, fit);
}

static int engine_runner(struct engine *e, struct error *err)
{
	const struct config_options *o = &e->cfg->opt;
	e->runner_setup = (struct runner_setup){
		.cfg = e->cfg,
		.workload = e->workload,
		.cache = e->cache,
		.tier_count = e->tier_count,
		.payload = e->payload,
		.errors = &e->errors,
		.notices = &e->notices,
		.rank = (uint32_t)comm_rank(e->comm),
		.is_virtual = o->simulate,
		.needs_io = e->is_file_backend,
		.workers = worker_count(e),
		.in_service_max = (uint32_t)MIN(o->num_users, RUNNER_IN_SERVICE_MAX),
		.io_depth = (uint32_t)o->io_depth,
		.ops_in_flight = (uint32_t)(o->ops_in_flight ? o->ops_in_flight : o->io_depth),
		.warmup_ns = (uint64_t)o->warmup_s * NS_PER_S,
		.duration_ns = (uint64_t)o->duration_s * NS_PER_S,
		.drain_ns = (uint64_t)o->drain_timeout_s * NS_PER_S,
		.interval_ns = (uint64_t)(o->interval_s * 1e9 + 0.5),
		.prepared = prepared_count(e),
		.seed = e->seed + (uint32_t)comm_rank(e->comm),
	};
	if (o->decode_only && !e->runner_setup.prepared)
		return error_set(err, -ENOSPC, ERR_FS_FULL,
				 "--decode-only: the storage tier has no room for one entry of %d tokens",
				 ENGINE_FILL_TOKENS);
	memcpy(e->runner_setup.tier, e->tier, sizeof(e->tier));
	uint64_t mean_entry = MAX(config_entry_bytes(e->cfg, 4096), 1);
	uint64_t live = 0;
	for (unsigned i = 0; i < e->tier_count; i++)
		live += e->tier[i]->limit_bytes / tier_footprint(e->tier[i], mean_entry) + 1;
	e->ram_bytes = o->simulate ? 0 : cpu_tier_bytes(e);
	e->predicted_bytes = PROGRAM_BYTES + e->ram_bytes + (e->payload ? UINT64_C(4) << 20 : 0) +
			     cache_index_bytes(live) + workload_memory_bytes(e->workload) +
			     runner_memory_bytes(&e->runner_setup, workload_streams(e->workload));
	return runner_new(&e->runner_setup, &e->runner, err);
}

/* --fault-plan: every tier with its faults around it. */
static int engine_faults(struct engine *e)
{
	const struct tier_fault_setup setup = {
		.plan = &e->cfg->faults,
		.payload = e->payload,
		.rank = (uint32_t)comm_rank(e->comm),
	};
	int rc = 0;
	for (unsigned i = 0; i < e->tier_count && setup.plan->count && !rc; i++) {
		struct tier *inner = e->tier[i];
		e->tier[i] = NULL; /* taken over */
		rc = tier_fault_new(inner, &setup, &e->tier[i]);
	}
	return rc;
}

int engine_open(struct engine *e, struct error *err)
{
	static const enum payload_check checks[] = {
		[VERIFY_OFF] = PAYLOAD_OFF, [VERIFY_STAMP] = PAYLOAD_STAMPS, [VERIFY_FULL] = PAYLOAD_FULL};
	/* The memory tier first: it takes long, a signal may end it at any moment, and nothing is on the disk yet. */
	int rc = engine_cpu_tier(e, err);
	watch_signals();
	if (!rc && e->is_file_backend)
		rc = storage_open(&e->storage, e->cfg, &e->notices, err);
	if (!rc)
		rc = engine_storage_tier(e);
	if (!rc && !e->cfg->opt.simulate) {
		e->payload = payload_new(e->seed, checks[e->cfg->opt.verify]);
		rc = e->payload ? 0 : -ENOMEM;
	}
	if (!rc)
		rc = engine_faults(e);
	if (!rc)
		rc = engine_cache(e, err);
	if (!rc)
		rc = engine_runner(e, err);
	if (!rc)
		rc = ranks_open(e);
	if (!rc && e->cfg->opt.interval_s > 0)
		rc = intervals_create(e, err);
	if (rc && !err->code)
		error_set(err, rc, ERR_FS_FULL, "cannot set up the run: %s", strerror(-rc));
	e->setup_s = (double)(clock_mono_ns() - e->setup_begin_ns) / 1e9;
	return rc;
}

void engine_release(struct engine *e, bool is_finished)
{
	runner_free(e->runner);
	intervals_close(e);
	cache_free(e->cache);
	for (unsigned i = 0; i < e->tier_count; i++)
		tier_free(e->tier[i]);
	payload_free(e->payload);
	workload_free(e->workload);
	/* A user's directory keeps its files after a run, but nothing of a run that never began. */
	if (e->cfg && e->is_file_backend)
		storage_close(&e->storage, e->cfg->opt.cleanup || !is_finished);
	strlist_release(&e->notices);
	ranks_release(&e->ranks);
	str_release(&e->interval_text);
}
