// SPDX-License-Identifier: Apache-2.0
/* From a checked config to workers that wait for the start: checks first, then creation in one order. */
#include "engine/engine.h"

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

static uint64_t cpu_tier_bytes(const struct engine *e)
{
	return (uint64_t)(e->cfg->opt.cpu_mem_gib * ENGINE_GIB);
}

static void check_memory(struct engine *e, struct problems *problems)
{
	uint64_t wanted = cpu_tier_bytes(e);
	uint64_t available = e->host.mem_available_bytes;
	if (e->cfg->opt.simulate || wanted + ENGINE_MEMORY_RESERVE_BYTES <= available)
		return;
	uint64_t fits = available > ENGINE_MEMORY_RESERVE_BYTES ? available - ENGINE_MEMORY_RESERVE_BYTES : 0;
	struct opt_set set = {.groups = e->options, .count = 1};
	problems_add(problems, ERR_FS_FULL,
		     "--cpu-mem-gb: %.3f GiB are %s, but %.3f GiB of memory are available and 1 GiB "
		     "must stay free; at most %.1f fits",
		     (double)wanted / ENGINE_GIB,
		     opt_given(&set, "--cpu-mem-gb") ? "asked for" : "the default",
		     (double)available / ENGINE_GIB,
		     (double)(fits * 10 / (1 << 30)) / 10.0);
}

static void check_output(struct engine *e, struct problems *problems)
{
	char stamp[CLOCK_STAMP_SIZE];
	clock_stamp(stamp, time(NULL));
	if (e->cfg->opt.output)
		snprintf(e->output, sizeof(e->output), "%s", e->cfg->opt.output);
	else
		snprintf(e->output, sizeof(e->output), "benchmark_results_%s.json", stamp);
	CLEANUP_FREE char *path = path_resolve(e->output);
	if (!path)
		return;
	struct stat st;
	/* The file is replaced by a rename, which must not happen to a device such as /dev/null. */
	if (!stat(path, &st) && !S_ISREG(st.st_mode)) {
		problems_add(problems, ERR_FS_STRUCTURE, "--output: '%s' is %s", e->output,
			     S_ISDIR(st.st_mode) ? "a directory" : "not a regular file");
		return;
	}
	char *slash = strrchr(path, '/');
	slash[slash == path ? 1 : 0] = '\0';
	if (stat(path, &st))
		problems_add(problems, ERR_FS_NOT_FOUND, "--output: there is no directory '%s'", path);
	else if (!S_ISDIR(st.st_mode))
		problems_add(problems, ERR_FS_STRUCTURE, "--output: '%s' is not a directory", path);
	else if (access(path, W_OK | X_OK))
		problems_add(problems, ERR_FS_PERMISSION, "--output: '%s' is not writable for this user",
			     path);
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

int engine_check(struct engine *e, struct problems *problems)
{
	e->setup_begin_ns = clock_mono_ns();
	e->storage.dirfd = -1;
	e->is_file_backend = e->cfg->opt.storage_backend == BACKEND_FILE;
	error_log_init(&e->errors);
	int rc = host_facts_read("", &e->host);
	if (rc)
		return rc;
	engine_seed(e);
	check_memory(e, problems);
	check_output(e, problems);
	if (e->is_file_backend)
		storage_check(&e->storage, e->cfg, e->host.mem_available_bytes, problems);
	struct error err = {0};
	uint32_t rank = (uint32_t)comm_rank(e->comm);
	rc = workload_new(e->cfg, e->seed + rank, rank, &e->workload, &err);
	if (rc && e->cfg->opt.trace)
		error_prefix(&err, "--trace");
	return rc ? problems_add_error(problems, &err) : 0;
}

/* ---- creation ---- */

static int engine_tiers(struct engine *e, struct error *err)
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
	if (rc)
		return rc;
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
	uint32_t workers = asked ? asked : MIN(e->host.cores_logical, 8);
	/* A worker without a chunk in flight or a request to serve would only watch. */
	workers = (uint32_t)MIN(workers, MIN(o->io_depth, MIN(o->num_users, RUNNER_IN_SERVICE_MAX)));
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
	e->predicted_bytes = e->ram_bytes + (e->payload ? UINT64_C(4) << 20 : 0) +
			     cache_index_bytes(live) +
			     runner_memory_bytes(&e->runner_setup, workload_streams(e->workload));
	return runner_new(&e->runner_setup, &e->runner, err);
}

int engine_open(struct engine *e, struct error *err)
{
	static const enum payload_check checks[] = {
		[VERIFY_OFF] = PAYLOAD_OFF, [VERIFY_STAMP] = PAYLOAD_STAMPS, [VERIFY_FULL] = PAYLOAD_FULL};
	int rc = 0;
	if (e->is_file_backend)
		rc = storage_open(&e->storage, e->cfg, &e->notices, err);
	if (!rc)
		rc = engine_tiers(e, err);
	if (!rc && !e->cfg->opt.simulate) {
		e->payload = payload_new(e->seed, checks[e->cfg->opt.verify]);
		rc = e->payload ? 0 : -ENOMEM;
	}
	if (!rc)
		rc = engine_cache(e, err);
	if (!rc)
		rc = engine_runner(e, err);
	if (rc && !err->code)
		error_set(err, rc, ERR_FS_FULL, "cannot set up the run: %s", strerror(-rc));
	e->setup_s = (double)(clock_mono_ns() - e->setup_begin_ns) / 1e9;
	return rc;
}

void engine_release(struct engine *e, bool is_finished)
{
	runner_free(e->runner);
	cache_free(e->cache);
	for (unsigned i = 0; i < e->tier_count; i++)
		tier_free(e->tier[i]);
	payload_free(e->payload);
	workload_free(e->workload);
	/* A user's directory keeps its files after a run, but nothing of a run that never began. */
	if (e->cfg && e->is_file_backend)
		storage_close(&e->storage, e->cfg->opt.cleanup || !is_finished);
	strlist_release(&e->notices);
}
