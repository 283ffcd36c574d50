// SPDX-License-Identifier: Apache-2.0
/* The result file and the text against a run made up by hand, whose figures are worked out here. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include <math.h>

#include "base/attr.h"
#include "base/clock.h"
#include "result/result.h"

#define GIB 0x1p30
#define MIB (UINT64_C(1) << 20)

/* ---- a run ---- */

struct run {
	struct config cfg;
	struct opt_group group;
	struct opt_set set;
	struct error_log errors;
	struct strlist notices;
	struct run_result r;
	struct metrics *m;
};

static char *text_of(const struct run *run);
static void assert_line(const char *text, const char *first, const char *second);

static void parse(struct run *run, int argc, const char *const *argv)
{
	struct problems problems = {0};
	bool help = false;
	run->group.title = "kv-cache";
	run->group.opts = config_option_table(&run->group.count);
	run->group.target = &run->cfg.opt;
	run->group.source = calloc(run->group.count, 1);
	assert_non_null(run->group.source);
	run->set = (struct opt_set){&run->group, 1};
	assert_int_equal(opt_defaults(&run->set), 0);
	assert_int_equal(opt_parse(&run->set, argc, (char *const *)argv, &problems, &help), 0);
	assert_int_equal(problems.count, 0);
}

/* A run in which nothing happened. */
static struct run *run_new(int argc, const char *const *argv)
{
	struct run *run = calloc(1, sizeof(*run));
	assert_non_null(run);
	parse(run, argc, argv);
	run->cfg.model = *model_find("llama3.1-8b");
	run->cfg.bytes_per_token = 131072;
	snprintf(run->cfg.workload.name, sizeof(run->cfg.workload.name), "v3");
	run->cfg.workload.qos[QOS_INTERACTIVE].target_p95_ms = 50;
	run->cfg.workload.qos[QOS_RESPONSIVE].target_p95_ms = 100;
	run->cfg.workload.qos[QOS_BATCH].target_p95_ms = 1000;
	error_log_init(&run->errors);
	run->m = metrics_new();
	assert_non_null(run->m);
	run->r = (struct run_result){
		.cfg = &run->cfg,
		.options = &run->group,
		.m = run->m,
		.errors = &run->errors,
		.notices = &run->notices,
		.version = "1.2.3",
		.started_utc = "2026-01-24T10:15:30Z",
		.ended_utc = "2026-01-24T10:15:40Z",
		.seed = 42,
		.fingerprint = 0x00ab,
		.workload_source = "synthetic",
		.invalid_why = "no bytes moved in the window",
		.tier[TIER_STORAGE] = {.is_present = true,
				       .kind = "file",
				       .limit_bytes = 4096 * MIB},
		.host = {.hostname = "box", .logical_cpus = 8, .memory_bytes = 64 * 1024 * MIB},
	};
	return run;
}

static void run_free(struct run *run)
{
	opt_release(&run->set);
	free(run->group.source);
	strlist_release(&run->notices);
	metrics_free(run->m);
	free(run);
}

static void record_ms(struct run *run, enum metric_hist h, double first_ms, unsigned samples)
{
	for (unsigned i = 0; i < samples; i++)
		hist_record(&run->m->hist[h], (uint64_t)((first_ms + i) * 1e6));
}

static void fill_tier(struct run *run, enum tier_class tier, enum metric_direction dir,
		      uint64_t bytes, unsigned ops, double first_ms)
{
	run->m->count[COUNT_TIER_BYTES(tier, dir)] = bytes;
	run->m->count[COUNT_TIER_OPS(tier, dir)] = ops;
	record_ms(run, HIST_TIER(tier, dir, PART_TOTAL), first_ms + 2, ops);
	record_ms(run, HIST_TIER(tier, dir, PART_DEVICE), first_ms, ops);
	record_ms(run, HIST_TIER(tier, dir, PART_HOST), 2, ops);
}

static void fill_requests(struct run *run)
{
	uint64_t *count = run->m->count;
	count[COUNT_REQUESTS_COMPLETED] = 100;
	count[COUNT_TOKENS_GENERATED] = 5000;
	for (unsigned q = 0; q < QOS_COUNT; q++) {
		count[COUNT_QOS(q, QOS_OFFERED)] = 100 * (q + 1);
		count[COUNT_QOS(q, QOS_ADMITTED)] = 60;
	}
	count[COUNT_QOS(QOS_INTERACTIVE, QOS_COMPLETED)] = 100;
	count[COUNT_QOS(QOS_INTERACTIVE, QOS_VIOLATIONS)] = 25;
	count[COUNT_QOS(QOS_BATCH, QOS_QUEUED_AT_END)] = 240;
	run->m->oldest_age_ns[QOS_BATCH] = 7500000000;
	record_ms(run, HIST_QOS(QOS_INTERACTIVE), 10, 100);
	record_ms(run, HIST_RESPONSE, 10, 100);
	record_ms(run, HIST_QUEUE_WAIT, 1, 100);
	record_ms(run, HIST_SERVICE, 9, 100);
	record_ms(run, HIST_REQUEST_STORAGE, 5, 100);
	record_ms(run, HIST_PREFILL, 3, 100);
}

/* Ten seconds in which much happened. */
static struct run *run_new_full(int argc, const char *const *argv)
{
	struct run *run = run_new(argc, argv);
	struct run_result *r = &run->r;
	uint64_t *count = run->m->count;
	r->window_ns = 10 * NS_PER_S;
	r->is_valid = true;
	r->invalid_why[0] = '\0';
	r->workers = 8;
	r->io = (struct run_io){.engine = "uring",
				.mode = "direct",
				.io_size_bytes = MIB,
				.io_depth = 32,
				.sync = "fsync",
				.filesystem = "ext4",
				.device = "/dev/sda1",
				.has_device_counters = true,
				.device_sampled_ns = 10000000000,
				.device_read_bytes = 21000000000,
				.device_written_bytes = 11000000000};
	r->cpu_user_s = 3;
	r->cpu_system_s = 2;
	r->rss_peak_bytes = 300 * MIB;
	r->predicted_bytes = 320 * MIB;
	r->setup_s = 0.25;
	r->tier[TIER_STORAGE].entries = 77;
	r->tier[TIER_CPU] = (struct run_tier){.is_present = true,
					      .kind = "ram",
					      .limit_bytes = 4096 * MIB,
					      .used_bytes = 3072 * MIB,
					      .entries = 12};
	r->client_bound = (struct verdict){false, true, "workers used 12 % of 8 cores"};
	r->page_cache_bypassed = (struct verdict){true, true, "direct I/O"};
	r->enough_samples = (struct verdict){false, false, "nobody counted"};
	strlist_add(&run->notices, "the GPU tier is not in this version");
	fill_tier(run, TIER_STORAGE, DIR_READ, 20000000000, 200, 20);
	fill_tier(run, TIER_STORAGE, DIR_WRITE, 10000000000, 50, 450);
	fill_tier(run, TIER_CPU, DIR_READ, 5 * 1024 * MIB, 40, 1);
	record_ms(run, HIST_FSYNC, 7, 50);
	record_ms(run, HIST_DEMOTE, 30, 4);
	fill_requests(run);
	count[COUNT_CACHE_HITS] = 80;
	count[COUNT_CACHE_MISSES] = 20;
	count[COUNT_MISSES_IN_FLIGHT] = 3;
	count[COUNT_HITS_USER] = 60;
	count[COUNT_HITS_MULTI_TURN] = 20;
	count[COUNT_MULTI_TURN_HITS] = 20;
	count[COUNT_MULTI_TURN_MISSES] = 5;
	count[COUNT_READ_OPS] = 240;
	count[COUNT_WRITE_OPS] = 50;
	count[COUNT_READ_BYTES] = 6 * 1024 * MIB;
	count[COUNT_WRITE_BYTES] = 3 * 1024 * MIB;
	count[COUNT_STORAGE_TOKENS] = 123456;
	count[COUNT_OFFLOADS_STORAGE] = 51;
	count[COUNT_EVICTIONS] = 4;
	count[COUNT_DEMOTED_BYTES] = 100;
	count[COUNT_REFUSED_TOO_LARGE] = 2;
	count[COUNT_RETRIES] = 9;
	count[COUNT_WORKER_CPU_NS] = 4000000000;
	return run;
}

/* ---- looking things up ---- */

static const json_t *find(const json_t *root, const char *path)
{
	char key[64];
	while (root && *path) {
		size_t len = strcspn(path, ".");
		assert_true(len < sizeof(key));
		memcpy(key, path, len);
		key[len] = '\0';
		root = json_object_get(root, key);
		path += len + (path[len] == '.');
	}
	return root;
}

static const json_t *get(const json_t *root, const char *path)
{
	const json_t *node = find(root, path);
	if (!node)
		fail_msg("%s is not in the result", path);
	return node;
}

static void assert_json_null(const json_t *root, const char *path)
{
	if (!json_is_null(get(root, path)))
		fail_msg("%s is not null", path);
}

static void assert_whole(const json_t *root, const char *path, long long expected)
{
	const json_t *node = get(root, path);
	if (!json_is_integer(node) || json_integer_value(node) != expected)
		fail_msg("%s is not %lld but %lld", path, expected,
			 (long long)json_integer_value(node));
}

static void assert_near(const json_t *root, const char *path, double expected, double relative)
{
	const json_t *node = get(root, path);
	double value = json_number_value(node);
	if (!json_is_number(node) || fabs(value - expected) > relative * fabs(expected))
		fail_msg("%s is not %.17g but %.17g", path, expected, value);
}

static void assert_real(const json_t *root, const char *path, double expected)
{
	assert_near(root, path, expected, 1e-14);
}

/* Within what a histogram promises. */
static void assert_latency(const json_t *root, const char *path, double expected_ms)
{
	assert_near(root, path, expected_ms, 1e-3);
}

static void assert_text(const json_t *root, const char *path, const char *expected)
{
	assert_true(json_is_string(get(root, path)));
	assert_string_equal(json_string_value(get(root, path)), expected);
}

/* ---- numbers ---- */

static void test_measured(void **state)
{
	(void)state;
	struct run *run = run_new_full(0, NULL);
	json_t *root = result_json(&run->r);
	assert_real(root, "measured.window_s", 10);
	assert_whole(root, "measured.storage.read_bytes", 20000000000);
	assert_real(root, "measured.storage.read_bytes_per_s", 2e9);
	assert_real(root, "measured.storage.write_bytes_per_s", 1e9);
	assert_whole(root, "measured.storage.write_ops", 50);
	assert_whole(root, "measured.cpu.read_ops", 40);
	assert_whole(root, "measured.gpu.read_bytes", 0);
	/* 20, 21 ... 219 ms: NumPy's linear interpolation */
	assert_whole(root, "measured.storage.read_device_latency_ms.count", 200);
	assert_latency(root, "measured.storage.read_device_latency_ms.mean", 119.5);
	assert_latency(root, "measured.storage.read_device_latency_ms.p50", 119.5);
	assert_latency(root, "measured.storage.read_device_latency_ms.p95", 20 + 199 * .95);
	assert_latency(root, "measured.storage.read_device_latency_ms.p99", 20 + 199 * .99);
	assert_latency(root, "measured.storage.read_device_latency_ms.p999", 20 + 199 * .999);
	assert_real(root, "measured.storage.read_device_latency_ms.max", 219);
	assert_latency(root, "measured.storage.read_latency_ms.p50", 121.5);
	assert_latency(root, "measured.storage.write_host_latency_ms.max", 51);
	assert_latency(root, "measured.storage.fsync_latency_ms.p50", 31.5);
	assert_json_null(root, "measured.gpu.write_device_latency_ms.p99");
	assert_whole(root, "measured.kernel_device.read_bytes", 21000000000);
	assert_real(root, "measured.kernel_device.write_bytes_per_s", 1.1e9);
	assert_whole(root, "measured.evict.demoted_bytes", 100);
	assert_latency(root, "measured.evict.demote_latency_ms.mean", 31.5);
	assert_json_null(root, "measured.evict.delete_latency_ms.mean");
	assert_whole(root, "misses_in_flight", 3);
	assert_whole(root, "refused_too_large", 2);
	assert_whole(root, "retries", 9);
	assert_real(root, "cpu.workers_s", 4);
	assert_real(root, "cpu.per_gib", 5 / ((20e9 + 10e9) / GIB + 5));
	json_decref(root);
	run_free(run);
}

static void test_requests(void **state)
{
	(void)state;
	struct run *run = run_new_full(0, NULL);
	json_t *root = result_json(&run->r);
	assert_whole(root, "measured.requests.offered", 600);
	assert_whole(root, "measured.requests.admitted", 180);
	assert_whole(root, "measured.requests.completed", 100);
	assert_whole(root, "measured.requests.queued_at_end", 240);
	assert_real(root, "measured.requests.oldest_age_s", 7.5);
	assert_real(root, "measured.requests.per_s", 10);
	assert_latency(root, "measured.requests.queue_wait_latency_ms.p50", 50.5);
	assert_whole(root, "measured.requests.by_qos.responsive.offered", 200);
	assert_whole(root, "measured.requests.by_qos.batch.queued_at_end", 240);
	assert_real(root, "measured.requests.by_qos.batch.oldest_age_s", 7.5);
	assert_real(root, "measured.requests.by_qos.interactive.oldest_age_s", 0);
	assert_real(root, "measured.requests.by_qos.interactive.per_s", 10);
	assert_latency(root, "measured.requests.by_qos.interactive.response_latency_ms.max", 109);
	json_decref(root);
	run_free(run);
}

static void test_reference_formulas(void **state)
{
	(void)state;
	struct run *run = run_new_full(0, NULL);
	json_t *root = result_json(&run->r);
	double io_s = (5 + 104) / 2. * 100 / 1000;
	assert_whole(root, "requests_completed", 100);
	assert_real(root, "total_storage_io_latency", io_s);
	assert_whole(root, "seed", 42);
	assert_whole(root, "summary.total_tokens", 5000);
	assert_real(root, "summary.elapsed_time", 10);
	assert_real(root, "summary.avg_throughput_tokens_per_sec", 500);
	assert_real(root, "summary.storage_throughput_tokens_per_sec", 5000 / io_s);
	assert_real(root, "summary.requests_per_second", 10);
	assert_latency(root, "summary.end_to_end_latency_ms.p9999", 10 + 99 * .9999);
	assert_json_null(root, "summary.generation_latency_ms.p50");
	assert_real(root, "summary.cache_stats.cache_hit_rate", .8);
	assert_real(root, "summary.cache_stats.cpu_memory_used_gb", 3);
	assert_real(root, "summary.cache_stats.tier_storage_read_bandwidth_gbps", 2e9 / GIB);
	assert_real(root, "summary.cache_stats.tier_cpu_kv_bytes_read_gb", 5);
	assert_real(root, "summary.cache_stats.tier_storage_kv_bytes_written_gb", 1e10 / GIB);
	assert_real(root, "summary.cache_stats.total_write_gb", 3);
	assert_real(root, "summary.cache_stats.read_write_ratio", 2);
	assert_whole(root, "summary.cache_stats.read_iops", 240);
	assert_whole(root, "summary.cache_stats.storage_entries", 77);
	assert_latency(root, "summary.cache_stats.cpu_read_p50_ms", 22.5);
	assert_latency(root, "summary.cache_stats.storage_write_device_p9999_ms", 450 + 49 * .9999);
	assert_latency(root, "summary.cache_stats.storage_read_host_p50_ms", 101.5);
	/* no sample: no key, as in the reference; other tiers have no device times there */
	assert_true(!find(root, "summary.cache_stats.gpu_read_p50_ms"));
	assert_true(!find(root, "summary.cache_stats.cpu_read_device_p50_ms"));
	assert_real(root, "summary.multi_turn_stats.hit_rate", .8);
	assert_whole(root, "summary.qos_metrics.interactive.total_requests", 100);
	assert_real(root, "summary.qos_metrics.interactive.sla.target_p95_ms", 50);
	assert_real(root, "summary.qos_metrics.interactive.sla.compliance", .75);
	assert_true(json_is_false(get(root, "summary.qos_metrics.interactive.sla.met")));
	assert_latency(root, "summary.qos_metrics.interactive.sla.actual_p95_ms", 10 + 99 * .95);
	assert_true(json_is_true(get(root, "summary.qos_metrics.batch.no_data")));
	json_decref(root);
	run_free(run);
}

static void test_v1_names(void **state)
{
	(void)state;
	static const char *const pairs[][2] = {
		{"storage_entries", "nvme_entries"},
		{"offloads_storage", "offloads_nvme"},
		{"storage_tokens_processed", "nvme_tokens_processed"},
		{"storage_read_p50_ms", "nvme_read_p50_ms"},
		{"storage_read_p95_ms", "nvme_read_p95_ms"},
		{"storage_write_p99_ms", "nvme_write_p99_ms"},
		{"storage_read_device_p95_ms", "nvme_read_device_p95_ms"},
		{"storage_write_device_p99_ms", "nvme_write_device_p99_ms"},
		{"storage_write_host_p50_ms", "nvme_write_host_p50_ms"},
	};
	struct run *run = run_new_full(0, NULL);
	json_t *root = result_json(&run->r);
	const json_t *stats = get(root, "summary.cache_stats");
	for (size_t i = 0; i < ARRAY_LEN(pairs); i++)
		assert_true(json_equal(get(stats, pairs[i][0]), get(stats, pairs[i][1])));
	/* names that generation never had */
	assert_true(!find(stats, "nvme_health"));
	assert_true(!find(stats, "nvme_read_p999_ms"));
	assert_true(!find(stats, "tier_nvme_read_bandwidth_gbps"));
	json_decref(root);
	run_free(run);
}

/* ---- judgements ---- */

static const json_t *criterion(const json_t *root, const char *name)
{
	const json_t *list = get(root, "summary.cache_stats.storage_health.criteria");
	for (size_t i = 0; i < json_array_size(list); i++) {
		const json_t *one = json_array_get(list, i);
		if (!strcmp(json_string_value(json_object_get(one, "name")), name))
			return one;
	}
	fail_msg("no criterion %s", name);
	return NULL;
}

static void test_health_latency(void **state)
{
	(void)state;
	struct run *run = run_new_full(0, NULL);
	json_t *root = result_json(&run->r);
	assert_text(root, "summary.cache_stats.storage_health.overall_status", "FAIL");
	assert_whole(root, "summary.cache_stats.storage_health.passed_count", 3);
	assert_whole(root, "summary.cache_stats.storage_health.total_count", 4);
	const json_t *read = criterion(root, "Storage Tier Read Device P95 < 200ms");
	assert_true(json_is_false(get(read, "passed"))); /* 209 ms */
	assert_real(read, "target", 200);
	assert_latency(read, "actual", 20 + 199 * .95);
	assert_text(read, "unit", "ms");
	assert_true(json_is_true(
		get(criterion(root, "Storage Tier Write Device P95 < 500ms"), "passed")));
	assert_latency(criterion(root, "CPU RAM P95 < 150ms"), "actual", 3 + 39 * .95);
	assert_real(criterion(root, "Cache Hit Rate > 30%"), "actual", .8);
	json_decref(root);
	run_free(run);
}

static void test_health_without_device_times(void **state)
{
	(void)state;
	struct run *run = run_new_full(0, NULL);
	memset(&run->m->hist[HIST_TIER(TIER_STORAGE, DIR_READ, PART_DEVICE)], 0,
	       sizeof(struct hist));
	json_t *root = result_json(&run->r);
	assert_latency(criterion(root, "Storage Tier Read Total P95 < 200ms"), "actual",
		       22 + 199 * .95);
	json_decref(root);
	run_free(run);
}

static void test_health_throughput(void **state)
{
	(void)state;
	const char *const argv[] = {"--performance-profile", "throughput"};
	struct run *run = run_new_full(2, argv);
	run->m->count[COUNT_TIER_BYTES(TIER_STORAGE, DIR_WRITE)] = 0;
	json_t *root = result_json(&run->r);
	assert_whole(root, "summary.cache_stats.storage_health.total_count", 1);
	const json_t *read = criterion(root, "Storage KV Read Bandwidth");
	assert_text(read, "target", ">0");
	assert_text(read, "actual", "1.86");
	assert_text(read, "unit", "GiB/s");
	assert_text(root, "summary.cache_stats.storage_health.overall_status", "PASS");
	json_decref(root);
	run_free(run);
}

static void test_verdicts(void **state)
{
	(void)state;
	struct run *run = run_new_full(0, NULL);
	json_t *root = result_json(&run->r);
	assert_true(json_is_false(get(root, "verdicts.client_bound.value")));
	assert_true(json_is_true(get(root, "verdicts.page_cache_bypassed.value")));
	assert_json_null(root, "verdicts.enough_samples.value");
	assert_text(root, "verdicts.enough_samples.why", "nobody counted");
	json_decref(root);
	run_free(run);
}

/* 99 operations at 1 ms per MiB and one at 0.25: bandwidths 1 and 4, mean 1.03. The class with most operations speaks. */
static void test_fairness(void **state)
{
	(void)state;
	struct run *run = run_new_full(0, NULL);
	struct hist *large = &run->m->hist[HIST_PACE(DIR_READ, metric_size_class(UINT64_C(300) << 20))];
	struct hist *small = &run->m->hist[HIST_PACE(DIR_READ, metric_size_class(4096))];
	for (unsigned i = 0; i < 99; i++)
		hist_record(large, 1000000);
	for (unsigned i = 0; i < 98; i++)
		hist_record(small, 1000 * (i + 1));
	json_t *root = result_json(&run->r);
	assert_json_null(root, "measured.storage.read_fairness.max_over_mean");
	json_decref(root);

	hist_record(large, 250000);
	root = result_json(&run->r);
	assert_near(root, "measured.storage.read_fairness.max_over_mean", 4 / 1.03, 0.001);
	assert_real(root, "measured.storage.read_fairness.ops", 100);
	assert_real(root, "measured.storage.read_fairness.entry_bytes_from", 256 << 20);
	assert_json_null(root, "measured.storage.write_fairness.max_over_mean");
	json_decref(root);
	char *text = text_of(run);
	assert_line(text, "fairness of reads", "x the mean, 100 entries of 256");
	free(text);

	for (unsigned i = 0; i < 3; i++)
		hist_record(small, 1000);
	root = result_json(&run->r);
	assert_real(root, "measured.storage.read_fairness.ops", 101);
	assert_real(root, "measured.storage.read_fairness.entry_bytes_from", 0);
	json_decref(root);
	run_free(run);
}

static void test_size_classes(void **state)
{
	(void)state;
	assert_int_equal(metric_size_class((256 << 10) - 1), 0);
	assert_int_equal(metric_size_class(256 << 10), 1);
	assert_int_equal(metric_size_class((1 << 20) - 1), 1);
	assert_int_equal(metric_size_class(1 << 20), 2);
	assert_int_equal(metric_size_class(UINT64_C(8) << 30), METRIC_SIZE_CLASSES - 1);
	for (unsigned c = 0; c < METRIC_SIZE_CLASSES; c++)
		assert_int_equal(metric_size_class(metric_size_class_min(c)), c);
}

static void test_errors(void **state)
{
	(void)state;
	struct run *run = run_new_full(0, NULL);
	error_log_add(&run->errors, "storage read: EIO", "tier 'file' a\xff.npy offset 4096");
	error_log_add(&run->errors, "storage read: EIO", "another one");
	error_log_add(&run->errors, "storage write: ENOSPC", "tier 'file' b.npy");
	json_t *root = result_json(&run->r);
	assert_whole(root, "errors.total", 3);
	assert_whole(get(root, "errors.by_class"), "storage read: EIO", 2);
	/* a path that is not UTF-8 must not cost the result */
	assert_text(get(root, "errors.first"), "storage read: EIO",
		    "tier 'file' a?.npy offset 4096");
	json_decref(root);
	run_free(run);
}

/* ---- what was asked for ---- */

static void test_parameters(void **state)
{
	(void)state;
	const char *const argv[] = {"-nu",
				    "7",
				    "--trace-speedup",
				    "2.5",
				    "--cleanup",
				    "--output",
				    "x.json",
				    "--model-tier",
				    "storage:read_gbps=1"};
	struct run *run = run_new_full(ARRAY_LEN(argv), argv);
	json_t *root = result_json(&run->r);
	const json_t *parameters = get(root, "parameters");
	assert_whole(parameters, "num_users.value", 7);
	assert_text(parameters, "num_users.source", "given");
	assert_whole(parameters, "duration.value", 60);
	assert_text(parameters, "duration.source", "default");
	assert_json_null(parameters, "seed.value");
	assert_json_null(parameters, "cache_dir.value");
	assert_real(parameters, "trace_speedup.value", 2.5);
	assert_true(json_is_true(get(parameters, "cleanup.value")));
	assert_text(parameters, "output.value", "x.json");
	assert_text(parameters, "sync.value", "fsync");
	assert_whole(parameters, "io_size.value", 1 << 20);
	assert_int_equal(json_array_size(get(parameters, "model_tier.value")), 1);
	assert_int_equal(json_object_size(parameters), run->group.count);
	assert_real(root, "tiers.gpu.asked_gib", 16);
	assert_real(root, "tiers.gpu.effective_bytes", 0);
	assert_json_null(root, "tiers.storage.asked_gib");
	json_decref(root);
	run_free(run);
}

static void test_raw_samples(void **state)
{
	(void)state;
	static const char *const lists[] = {"end_to_end_latencies", "storage_latencies",
					    "generation_latencies", "prefill_latencies",
					    "decode_latencies"};
	const char *const argv[] = {"--raw-samples"};
	struct run *run = run_new_full(1, argv);
	metrics_sample(run->m, RAW_RESPONSE, 1500000000);
	metrics_sample(run->m, RAW_RESPONSE, 1);
	json_t *root = result_json(&run->r);
	for (size_t i = 0; i < ARRAY_LEN(lists); i++)
		assert_true(json_is_array(get(root, lists[i])));
	const json_t *responses = get(root, "end_to_end_latencies");
	assert_int_equal(json_array_size(responses), 2);
	assert_true(json_real_value(json_array_get(responses, 0)) == 1.5);
	assert_true(json_real_value(json_array_get(responses, 1)) == 1e-9);
	json_decref(root);
	run->cfg.opt.raw_samples = false;
	root = result_json(&run->r);
	for (size_t i = 0; i < ARRAY_LEN(lists); i++)
		assert_true(!find(root, lists[i]));
	assert_non_null(find(root, "field_notes.end_to_end_latencies"));
	json_decref(root);
	run_free(run);
}

/* ---- runs that lack something ---- */

static void test_empty_run(void **state)
{
	(void)state;
	static const char *const nulls[] = {
		"summary.end_to_end_latency_ms.mean",
		"summary.storage_io_latency_ms.p9999",
		"summary.requests_per_second",
		"summary.cache_stats.cache_hit_rate",
		"summary.cache_stats.tier_storage_read_bandwidth_gbps",
		"measured.storage.read_bytes_per_s",
		"measured.storage.write_device_latency_ms.p95",
		"measured.requests.per_s",
		"measured.kernel_device.read_bytes",
		"cpu.per_gib",
		"io.engine",
	};
	struct run *run = run_new(0, NULL);
	json_t *root = result_json(&run->r);
	assert_true(json_is_false(get(root, "valid")));
	assert_text(root, "invalid_why", "no bytes moved in the window");
	for (size_t i = 0; i < ARRAY_LEN(nulls); i++)
		assert_json_null(root, nulls[i]);
	assert_whole(root, "summary.total_requests", 0);
	assert_real(root, "summary.storage_throughput_tokens_per_sec", 0);
	assert_int_equal(json_object_size(get(root, "histograms.series")), 0);
	json_decref(root);
	run_free(run);
}

static void test_virtual_clock(void **state)
{
	(void)state;
	static const char *const nulls[] = {
		"time.started",
		"time.ended",
		"host.hostname",
		"host.logical_cpus",
		"host.memory_bytes",
		"cpu.user_s",
		"cpu.system_s",
		"cpu.per_gib",
		"cpu.workers_s",
		"run.setup_s",
		"io.filesystem",
		"io.device",
		"memory.rss_peak_bytes",
		"parameters.output.value",
		"parameters.cache_dir.value",
		"measured.kernel_device.read_bytes",
	};
	const char *const argv[] = {"--simulate", "--output", "a.json", "--cache-dir",
				    "/somewhere"};
	struct run *run = run_new_full(ARRAY_LEN(argv), argv);
	run->r.is_virtual = true;
	json_t *root = result_json(&run->r);
	for (size_t i = 0; i < ARRAY_LEN(nulls); i++)
		assert_json_null(root, nulls[i]);
	assert_whole(root, "measured.storage.read_bytes", 20000000000);
	assert_true(json_is_true(get(root, "parameters.simulate.value")));
	json_decref(root);
	run_free(run);
}

static void test_interrupted(void **state)
{
	(void)state;
	struct run *run = run_new_full(0, NULL);
	json_t *root = result_json(&run->r);
	assert_text(root, "state", "complete");
	json_decref(root);
	run->r.is_interrupted = true;
	root = result_json(&run->r);
	assert_text(root, "state", "interrupted");
	json_decref(root);
	run_free(run);
}

/* ---- every name that others rely on ---- */

static const char *const names[] = {
	"schema_version",
	"version",
	"state",
	"valid",
	"invalid_why",
	"time.started",
	"time.ended",
	"host.hostname",
	"workload_fingerprint",
	"parameters.model.value",
	"parameters.model.source",
	"requests_completed",
	"total_tokens_generated",
	"total_storage_io_latency",
	"total_generation_latency",
	"throughput_timeline",
	"multi_turn_cache_hits",
	"multi_turn_cache_misses",
	"seed",
	"summary.total_requests",
	"summary.total_tokens",
	"summary.elapsed_time",
	"summary.avg_throughput_tokens_per_sec",
	"summary.total_storage_io_time",
	"summary.storage_throughput_tokens_per_sec",
	"summary.requests_per_second",
	"summary.end_to_end_latency_ms.mean",
	"summary.end_to_end_latency_ms.p50",
	"summary.end_to_end_latency_ms.p95",
	"summary.end_to_end_latency_ms.p99",
	"summary.end_to_end_latency_ms.p999",
	"summary.end_to_end_latency_ms.p9999",
	"summary.storage_io_latency_ms.p95",
	"summary.generation_latency_ms.p9999",
	"summary.cache_stats.cache_hit_rate",
	"summary.cache_stats.cache_hits",
	"summary.cache_stats.cache_misses",
	"summary.cache_stats.gpu_entries",
	"summary.cache_stats.cpu_entries",
	"summary.cache_stats.storage_entries",
	"summary.cache_stats.gpu_memory_used_gb",
	"summary.cache_stats.cpu_memory_used_gb",
	"summary.cache_stats.offloads_cpu",
	"summary.cache_stats.offloads_storage",
	"summary.cache_stats.storage_health.overall_status",
	"summary.cache_stats.storage_health.criteria",
	"summary.cache_stats.storage_health.passed_count",
	"summary.cache_stats.storage_health.total_count",
	"summary.cache_stats.prefill_writes",
	"summary.cache_stats.decode_reads",
	"summary.cache_stats.system_prompt_hits",
	"summary.cache_stats.common_phrase_hits",
	"summary.cache_stats.user_cache_hits",
	"summary.cache_stats.multi_turn_hits",
	"summary.cache_stats.total_read_bytes",
	"summary.cache_stats.total_write_bytes",
	"summary.cache_stats.total_read_gb",
	"summary.cache_stats.total_write_gb",
	"summary.cache_stats.read_write_ratio",
	"summary.cache_stats.read_iops",
	"summary.cache_stats.write_iops",
	"summary.cache_stats.storage_tokens_processed",
	"summary.cache_stats.tier_gpu_kv_bytes_written_gb",
	"summary.cache_stats.tier_cpu_kv_bytes_read_gb",
	"summary.cache_stats.tier_gpu_read_bandwidth_gbps",
	"summary.cache_stats.tier_storage_write_bandwidth_gbps",
	"summary.cache_stats.storage_read_p50_ms",
	"summary.cache_stats.storage_read_p9999_ms",
	"summary.cache_stats.storage_write_device_p999_ms",
	"summary.cache_stats.storage_read_host_p95_ms",
	"summary.cache_stats.cpu_read_p999_ms",
	"summary.qos_metrics.interactive.latency_ms.mean",
	"summary.qos_metrics.interactive.latency_ms.p50",
	"summary.qos_metrics.interactive.latency_ms.p95",
	"summary.qos_metrics.interactive.latency_ms.p99",
	"summary.qos_metrics.interactive.latency_ms.max",
	"summary.qos_metrics.interactive.sla.target_p95_ms",
	"summary.qos_metrics.responsive",
	"summary.qos_metrics.batch",
	"summary.prefix_cache_stats.prefix_hits",
	"summary.prefix_cache_stats.prefix_misses",
	"summary.prefix_cache_stats.system_prompt_reuse",
	"summary.prefix_cache_stats.common_phrase_reuse",
	"summary.prefix_cache_stats.bytes_saved",
	"summary.autoscaling_stats",
	"summary.autoscaling_summary",
	"summary.multi_turn_stats.cache_hits",
	"summary.multi_turn_stats.cache_misses",
	"summary.multi_turn_stats.hit_rate",
	"measured.window_s",
	"measured.gpu.read_bytes",
	"measured.cpu.write_bytes",
	"measured.storage.read_bytes_per_s",
	"measured.cpu.read_ops",
	"measured.storage.read_latency_ms.mean",
	"measured.storage.read_latency_ms.p50",
	"measured.storage.read_latency_ms.p95",
	"measured.storage.read_latency_ms.p99",
	"measured.storage.read_latency_ms.p999",
	"measured.storage.read_latency_ms.max",
	"measured.storage.write_device_latency_ms.p95",
	"measured.gpu.write_host_latency_ms.mean",
	"measured.storage.fsync_latency_ms.p99",
	"measured.requests.offered",
	"measured.requests.admitted",
	"measured.requests.completed",
	"measured.requests.cancelled",
	"measured.requests.queued_at_end",
	"measured.requests.oldest_age_s",
	"measured.requests.per_s",
	"measured.requests.by_qos.interactive.offered",
	"measured.requests.by_qos.responsive.admitted",
	"measured.requests.by_qos.batch.completed",
	"measured.requests.by_qos.batch.cancelled",
	"measured.requests.by_qos.batch.queued_at_end",
	"measured.requests.by_qos.batch.oldest_age_s",
	"measured.requests.by_qos.batch.per_s",
	"measured.requests.response_latency_ms.p99",
	"measured.requests.queue_wait_latency_ms.p99",
	"measured.requests.service_latency_ms.p99",
	"measured.evict.demoted_bytes",
	"measured.evict.deleted_bytes",
	"measured.evict.demote_latency_ms.p50",
	"measured.evict.delete_latency_ms.p50",
	"misses_in_flight",
	"refused_too_large",
	"errors.total",
	"errors.by_class",
	"errors.first",
	"retries",
	"io.engine",
	"io.mode",
	"io.io_size",
	"io.io_depth",
	"io.sync",
	"io.filesystem",
	"io.device",
	"tiers.gpu.asked_gib",
	"tiers.gpu.effective_bytes",
	"tiers.storage.kind",
	"tiers.storage.limit_bytes",
	"tiers.storage.used_bytes",
	"tiers.storage.entries",
	"tiers.storage.model",
	"verdicts.client_bound.value",
	"verdicts.client_bound.why",
	"verdicts.page_cache_bypassed.value",
	"verdicts.enough_samples.why",
	"verdicts.steady_state.value",
	"verdicts.steady_state.why",
	"run.interval_file",
	"measured.storage.read_fairness.max_over_mean",
	"measured.storage.write_fairness.ops",
	"histograms.geometry.linear",
	"histograms.geometry.per_octave",
	"histograms.geometry.octaves",
	"histograms.geometry.unit",
	"notices",
	"field_notes",
	"memory.predicted_bytes",
	"memory.rss_peak_bytes",
	"cpu.user_s",
	"cpu.system_s",
	"cpu.per_gib",
};

static void test_names(void **state)
{
	(void)state;
	struct run *run = run_new_full(0, NULL);
	json_t *root = result_json(&run->r);
	for (size_t i = 0; i < ARRAY_LEN(names); i++)
		get(root, names[i]);
	assert_text(root, "workload_fingerprint", "0x00000000000000ab");
	assert_text(root, "workload.name", "v3");
	json_decref(root);
	run_free(run);
}

/* A note speaks of a field that exists: "a.b*" of one below a whose key begins with b. */
static bool is_noted_field(const json_t *root, const char *path)
{
	size_t len = strlen(path);
	if (path[len - 1] != '*')
		return find(root, path) != NULL;
	const char *dot = strrchr(path, '.');
	char parent[128];
	snprintf(parent, sizeof(parent), "%.*s", (int)(dot - path), path);
	size_t prefix = strlen(dot + 1) - 1;
	const char *key;
	json_t *child;
	json_object_foreach((json_t *)get(root, parent), key, child)
	{
		if (!strncmp(key, dot + 1, prefix))
			return true;
	}
	return false;
}

static void test_field_notes(void **state)
{
	(void)state;
	const char *const argv[] = {"--raw-samples"};
	struct run *run = run_new_full(1, argv);
	json_t *root = result_json(&run->r), *note;
	const char *path;
	json_object_foreach(json_object_get(root, "field_notes"), path, note)
	{
		if (!is_noted_field(root, path))
			fail_msg("a note on %s, which is not in the result", path);
	}
	json_decref(root);
	run_free(run);
}

static void test_histograms(void **state)
{
	(void)state;
	struct run *run = run_new_full(0, NULL);
	json_t *root = result_json(&run->r), *one;
	const char *name;
	json_object_foreach((json_t *)get(root, "histograms.series"), name, one)
	{
		const json_t *pairs = get(one, "buckets");
		json_int_t sum = 0, last = -1;
		for (size_t i = 0; i < json_array_size(pairs); i++) {
			const json_t *pair = json_array_get(pairs, i);
			json_int_t index = json_integer_value(json_array_get(pair, 0));
			assert_true(index > last && index < HIST_BUCKETS);
			last = index;
			sum += json_integer_value(json_array_get(pair, 1));
		}
		assert_true(sum == json_integer_value(get(one, "count")));
	}
	assert_whole(root, "histograms.series.storage_read_device.count", 200);
	assert_whole(root, "histograms.series.storage_read_device.min_ns", 20000000);
	assert_true(!find(root, "histograms.series.generation"));
	json_decref(root);
	run_free(run);
}

/* ---- the file ---- */

static void test_file(void **state)
{
	(void)state;
	char dir[] = "/tmp/test_result.XXXXXX";
	assert_non_null(mkdtemp(dir));
	char path[64];
	snprintf(path, sizeof(path), "%s/result.json", dir);
	struct run *run = run_new_full(0, NULL);
	run->r.window_ns = 9999999999; /* rates that are no round numbers */
	error_log_add(&run->errors, "storage read: \"EIO\"", "a \"quoted\" one\n\t\\");
	json_t *root = result_json(&run->r);
	assert_int_equal(result_write(&run->r, path), 0);
	json_error_t error;
	json_t *file = json_load_file(path, JSON_REJECT_DUPLICATES, &error);
	if (!file)
		fail_msg("line %d: %s", error.line, error.text);
	assert_true(json_equal(root, file)); /* doubles compare bit by bit */
	assert_int_equal(result_write(&run->r, "/nonexistent/result.json"), -ENOENT);
	json_decref(file);
	json_decref(root);
	run_free(run);
	unlink(path);
	rmdir(dir);
}

/* ---- the text ---- */

static char *text_of(const struct run *run)
{
	char *text = NULL;
	size_t size;
	FILE *out = open_memstream(&text, &size);
	assert_non_null(out);
	assert_int_equal(result_text(&run->r, out), 0);
	fclose(out);
	for (const char *line = text; *line;) {
		size_t len = strcspn(line, "\n");
		if (len > 100)
			fail_msg("%zu columns: %.*s", len, (int)len, line);
		for (size_t i = 0; i < len; i++)
			assert_true(line[i] >= ' ' && line[i] <= '~');
		line += len + (line[len] == '\n');
	}
	return text;
}

static void assert_line(const char *text, const char *first, const char *second)
{
	const char *line = strstr(text, first);
	if (!line)
		fail_msg("\"%s\" is not in the text:\n%s", first, text);
	const char *found = strstr(line + strlen(first), second);
	if (!found || found > line + strcspn(line, "\n"))
		fail_msg("\"%s\" is not in the line of \"%s\":\n%s", second, first, text);
}

static void test_text(void **state)
{
	(void)state;
	struct run *run = run_new_full(0, NULL);
	char *text = text_of(run);
	assert_line(text, "bandwidth", "2.000 GB/s (1.863 GiB/s)");
	assert_line(text, "bandwidth", "1.000 GB/s (0.931 GiB/s)");
	assert_line(text, "by the kernel", "2.100 GB/s");
	assert_line(text, "device read", "119.5      209.1 ");
	assert_line(text, "fsync  ", "31.5");
	assert_line(text, "requests/s", "10.00 (100 completed)");
	assert_line(text, "generated tokens/s", "500.0");
	assert_line(text, "cache hit rate", "80.0 %");
	assert_line(text, "interactive", "104.1     50.00");
	assert_line(text, "  valid", "yes");
	assert_line(text, "page cache bypassed", "yes: direct I/O");
	assert_line(text, "enough samples", "not known: nobody counted");
	assert_line(text, "notice", "the GPU tier is not in this version");
	assert_null(strstr(text, "PASS"));
	assert_null(strstr(text, "nan"));
	free(text);
	run_free(run);
}

static void test_text_empty(void **state)
{
	(void)state;
	struct run *run = run_new(0, NULL);
	run->r.window_ns = NS_PER_S;
	char *text = text_of(run);
	assert_line(text, "bandwidth  ", "- ");
	assert_line(text, "device read  ", "         -          -          -");
	assert_line(text, "requests/s", "-");
	assert_line(text, "cache hit rate", "- (0 of 0 lookups)");
	assert_line(text, "  valid", "NO: no bytes moved in the window");
	assert_null(strstr(text, "nan"));
	free(text);
	run_free(run);
}

static void test_text_odd(void **state)
{
	(void)state;
	struct run *run = run_new_full(0, NULL);
	char path[300];
	memset(path, 'x', sizeof(path) - 1);
	path[sizeof(path) - 1] = '\0';
	memcpy(path, "/tmp/\xc3\xa4\n", 8);
	run->r.workload_source = path;
	strlist_addf(&run->notices, "a long story %s and then some words more to fill the line",
		     path);
	error_log_add(&run->errors, "storage read: EIO", path);
	run->r.is_interrupted = true;
	char *text = text_of(run);
	assert_line(text, "window", "INTERRUPTED");
	assert_line(text, "errors", "1 (");
	assert_line(text, "1 x storage read: EIO", "the first:");
	free(text);
	run_free(run);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_measured),
		cmocka_unit_test(test_requests),
		cmocka_unit_test(test_reference_formulas),
		cmocka_unit_test(test_v1_names),
		cmocka_unit_test(test_health_latency),
		cmocka_unit_test(test_health_without_device_times),
		cmocka_unit_test(test_health_throughput),
		cmocka_unit_test(test_verdicts),
		cmocka_unit_test(test_fairness),
		cmocka_unit_test(test_size_classes),
		cmocka_unit_test(test_errors),
		cmocka_unit_test(test_parameters),
		cmocka_unit_test(test_raw_samples),
		cmocka_unit_test(test_empty_run),
		cmocka_unit_test(test_virtual_clock),
		cmocka_unit_test(test_interrupted),
		cmocka_unit_test(test_names),
		cmocka_unit_test(test_field_notes),
		cmocka_unit_test(test_histograms),
		cmocka_unit_test(test_file),
		cmocka_unit_test(test_text),
		cmocka_unit_test(test_text_empty),
		cmocka_unit_test(test_text_odd),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
