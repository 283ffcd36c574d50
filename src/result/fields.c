// SPDX-License-Identifier: Apache-2.0
/*
 * The map of the result file: one row per field, in the file's order, with its path, its source and
 * its unit.
 *
 * "{tier}", "{dir}", "{done}", "{part}", "{qos}" and "{stat}" in a path stand for every one of
 * their names, so that a row makes as many fields as its placeholders have values. Objects come
 * into being with their first field.
 */
#include <stdlib.h>
#include <string.h>

#include "result/internal.h"
#include "result/result.h"

enum source {
	FROM_COUNTER,    /* id: enum metric_counter */
	FROM_TIER_BYTES, /* of {tier} and {dir} */
	FROM_TIER_OPS,   /* of {tier} and {dir} */
	FROM_QOS,        /* id: enum metric_qos, of {qos} */
	FROM_QOS_TOTAL,  /* id: enum metric_qos, all levels */
	FROM_HIST,       /* id: enum metric_hist, its {stat} */
	FROM_TIER_HIST,  /* of {tier}, {dir} and {part}, its {stat}; without {part}: id is the part
			  */
	FROM_QOS_HIST,   /* of {qos}, its {stat} */
	FROM_U64,        /* offset: in struct run_result; with {tier}: of tier[0] */
	FROM_U32,
	FROM_REAL,
	FROM_BOOL,
	FROM_CHARS, /* char[]; "" is null */
	FROM_TEXT,  /* char *; NULL is null */
	FROM_VERDICT,
	FROM_CALL,    /* number() */
	FROM_PART,    /* part() */
	FROM_SAMPLES, /* id: enum metric_raw */
	FROM_FIXED,   /* fixed, a JSON text */
};

enum {
	F_PER_S = 1 << 0,      /* divided by the length of the window */
	F_HOST = 1 << 1,       /* depends on the machine: null on the virtual clock */
	F_IF_SAMPLES = 1 << 2, /* left out when there is no sample */
	F_RAW = 1 << 3,        /* only with --raw-samples */
	F_POOLED = 1 << 5,     /* only in the result of several ranks */
	F_V1 = 1 << 4, /* the older generation's name ("nvme" for "storage") stands beside it */
};

/* Sets of statistics. */
enum {
	SET_V1 = 1 << STAT_P50 | 1 << STAT_P95 | 1 << STAT_P99,
	SET_KEYS = SET_V1 | 1 << STAT_P999 | 1 << STAT_P9999,
	SET_SUMMARY = 1 << STAT_MEAN | SET_KEYS,
	SET_OURS = 1 << STAT_COUNT | 1 << STAT_MEAN | SET_V1 | 1 << STAT_P999 | 1 << STAT_MAX,
};

struct field {
	const char *path;
	enum source from;
	int id;
	size_t offset;
	double (*number)(const struct run_result *r, const struct scope *s);
	json_t *(*part)(const struct run_result *r, const struct scope *s);
	const char *fixed;
	double unit; /* numbers are divided by this; 0: whole numbers as they are */
	unsigned flags;
	unsigned stats;
};

/* ---- numbers that are no counter ---- */

static double call_window(const struct run_result *r, const struct scope *s)
{
	(void)s;
	return window_s(r);
}

static double call_hit_rate(const struct run_result *r, const struct scope *s)
{
	(void)s;
	return hit_rate(r);
}

static double call_read_write_ratio(const struct run_result *r, const struct scope *s)
{
	(void)s;
	return read_write_ratio(r);
}

static double call_storage_io_s(const struct run_result *r, const struct scope *s)
{
	(void)s;
	return hist_sum_ns(&r->m->hist[HIST_REQUEST_STORAGE]) / 1e9;
}

static double call_generation_s(const struct run_result *r, const struct scope *s)
{
	(void)s;
	return hist_sum_ns(&r->m->hist[HIST_GENERATION]) / 1e9;
}

/* The reference gives 0 when no time was spent. */
static double call_storage_throughput(const struct run_result *r, const struct scope *s)
{
	double io_s = call_storage_io_s(r, s);
	return io_s > 0 ? (double)r->m->count[COUNT_TOKENS_GENERATED] / io_s : 0;
}

static double call_multi_turn_rate(const struct run_result *r, const struct scope *s)
{
	(void)s;
	uint64_t hits = r->m->count[COUNT_MULTI_TURN_HITS];
	return (double)hits / (double)MAX(hits + r->m->count[COUNT_MULTI_TURN_MISSES], 1);
}

static double call_oldest_age(const struct run_result *r, const struct scope *s)
{
	(void)s;
	return result_oldest_age_s(r);
}

static double call_qos_oldest_age(const struct run_result *r, const struct scope *s)
{
	return (double)r->m->oldest_age_ns[s->qos] / 1e9;
}

static double call_asked_gib(const struct run_result *r, const struct scope *s)
{
	const struct config_options *opt = &r->cfg->opt;
	switch ((enum tier_class)s->tier) {
	case TIER_GPU:
		return opt->gpu_mem_gib * (double)opt->num_gpus;
	case TIER_CPU:
		return opt->cpu_mem_gib;
	default:
		return opt->storage_capacity_gib > 0 ? opt->storage_capacity_gib : NAN;
	}
}

static double call_cpu_per_gib(const struct run_result *r, const struct scope *s)
{
	(void)s;
	double bytes = 0;
	for (unsigned t = 0; t < TIER_CLASSES; t++)
		bytes += tier_bytes(r, t, DIR_READ) + tier_bytes(r, t, DIR_WRITE);
	return ratio(r->cpu_user_s + r->cpu_system_s, bytes / GIB);
}

static double call_fairness(const struct run_result *r, const struct scope *s)
{
	struct fairness f = result_fairness(r, s->dir);
	return f.ops ? f.max_over_mean : NAN;
}

static double call_fairness_ops(const struct run_result *r, const struct scope *s)
{
	return (double)result_fairness(r, s->dir).ops;
}

static double call_fairness_bytes(const struct run_result *r, const struct scope *s)
{
	struct fairness f = result_fairness(r, s->dir);
	return f.ops ? (double)f.min_bytes : NAN;
}

static double call_window_skew(const struct run_result *r, const struct scope *s)
{
	(void)s;
	return result_window_skew_s(r);
}

/* ---- parts of one line ---- */

static json_t *part_fingerprint(const struct run_result *r, const struct scope *s)
{
	(void)s;
	return json_sprintf("0x%016llx", (unsigned long long)r->fingerprint);
}

static json_t *part_state(const struct run_result *r, const struct scope *s)
{
	(void)s;
	return json_string(r->is_interrupted ? "interrupted" : "complete");
}

static json_t *part_errors_total(const struct run_result *r, const struct scope *s)
{
	(void)s;
	return result_json_whole(r->errors->total);
}

static json_t *part_raw_dropped(const struct run_result *r, const struct scope *s)
{
	(void)s;
	return result_json_whole(r->m->raw_dropped);
}

static json_t *part_workload_name(const struct run_result *r, const struct scope *s)
{
	(void)s;
	return result_json_text(r->cfg->workload.name);
}

static json_t *part_model(const struct run_result *r, const struct scope *s)
{
	(void)s;
	const struct model *m = &r->cfg->model;
	return json_pack("{s:o, s:o, s:o, s:s, s:o}", "key", result_json_text(m->key), "name",
			 result_json_text(m->name), "dtype", result_json_text(m->dtype),
			 "attention", model_attention_name(m->attention), "bytes_per_token",
			 result_json_whole(r->cfg->bytes_per_token));
}

/* ---- the map ---- */

#define COUNTER(name)            .from = FROM_COUNTER, .id = COUNT_##name
#define TIER_BYTES               .from = FROM_TIER_BYTES
#define TIER_OPS                 .from = FROM_TIER_OPS
#define QOS(what)                .from = FROM_QOS, .id = QOS_##what
#define QOS_ALL(what)            .from = FROM_QOS_TOTAL, .id = QOS_##what
#define LATENCY(name, set)       .from = FROM_HIST, .id = HIST_##name, .stats = (set)
#define TIER_LATENCY(part_, set) .from = FROM_TIER_HIST, .id = (part_), .stats = (set)
#define QOS_LATENCY(set)         .from = FROM_QOS_HIST, .stats = (set)
#define MEMBER(kind, name)       .from = FROM_##kind, .offset = offsetof(struct run_result, name)
#define CALL(fn)                 .from = FROM_CALL, .number = (fn)
#define PART(fn)                 .from = FROM_PART, .part = (fn)
#define SAMPLES(name)            .from = FROM_SAMPLES, .id = RAW_##name, .flags = F_RAW
#define FIXED(text)              .from = FROM_FIXED, .fixed = (text)
#define IN_GIB                   .unit = GIB
#define IN_S                     .unit = 1e9

/* clang-format off */
static const struct field fields[] = {
	/* what this file is about */
	{"schema_version", FIXED("\"" RESULT_SCHEMA_VERSION "\"")},
	{"version", MEMBER(TEXT, version)},
	{"state", PART(part_state)},
	{"valid", MEMBER(BOOL, is_valid)},
	{"invalid_why", MEMBER(CHARS, invalid_why)},
	{"time.started", MEMBER(CHARS, started_utc), .flags = F_HOST},
	{"time.ended", MEMBER(CHARS, ended_utc), .flags = F_HOST},
	{"host.hostname", MEMBER(CHARS, host.hostname), .flags = F_HOST},
	{"host.kernel", MEMBER(CHARS, host.kernel), .flags = F_HOST},
	{"host.os", MEMBER(CHARS, host.os), .flags = F_HOST},
	{"host.cpu_model", MEMBER(CHARS, host.cpu_model), .flags = F_HOST},
	{"host.logical_cpus", MEMBER(U32, host.logical_cpus), .flags = F_HOST},
	{"host.memory_bytes", MEMBER(U64, host.memory_bytes), .flags = F_HOST},
	{"window_s", CALL(call_window), .flags = F_POOLED},
	{"window_skew_s", CALL(call_window_skew), .flags = F_POOLED},
	{"ranks", PART(result_part_ranks), .flags = F_POOLED},
	{"workload_fingerprint", PART(part_fingerprint)},
	{"workload.name", PART(part_workload_name)},
	{"workload.source", MEMBER(TEXT, workload_source)},
	{"workload.trace_rows_unusable", COUNTER(TRACE_ROWS_UNUSABLE)},
	{"model", PART(part_model)},
	{"parameters", PART(result_part_parameters)},

	/* the reference's root */
	{"requests_completed", COUNTER(REQUESTS_COMPLETED)},
	{"requests_failed", QOS_ALL(FAILED)},
	{"total_tokens_generated", COUNTER(TOKENS_GENERATED)},
	{"total_storage_io_latency", CALL(call_storage_io_s)},
	{"total_generation_latency", CALL(call_generation_s)},
	{"end_to_end_latencies", SAMPLES(RESPONSE)},
	{"storage_latencies", SAMPLES(STORAGE)},
	{"generation_latencies", SAMPLES(GENERATION)},
	{"throughput_timeline", FIXED("[]")},
	{"prefill_latencies", SAMPLES(PREFILL)},
	{"decode_latencies", SAMPLES(DECODE)},
	{"raw_samples_dropped", PART(part_raw_dropped), .flags = F_RAW},
	{"multi_turn_cache_hits", COUNTER(MULTI_TURN_HITS)},
	{"multi_turn_cache_misses", COUNTER(MULTI_TURN_MISSES)},
	{"seed", MEMBER(U64, seed)},
	{"seed_was_drawn", MEMBER(BOOL, seed_was_drawn)},

	/* the reference's summary */
	{"summary.total_requests", COUNTER(REQUESTS_COMPLETED)},
	{"summary.total_tokens", COUNTER(TOKENS_GENERATED)},
	{"summary.elapsed_time", CALL(call_window)},
	{"summary.avg_throughput_tokens_per_sec", COUNTER(TOKENS_GENERATED), .flags = F_PER_S},
	{"summary.total_storage_io_time", CALL(call_storage_io_s)},
	{"summary.storage_throughput_tokens_per_sec", CALL(call_storage_throughput)},
	{"summary.requests_per_second", COUNTER(REQUESTS_COMPLETED), .flags = F_PER_S},
	{"summary.end_to_end_latency_ms.{stat}", LATENCY(RESPONSE, SET_SUMMARY)},
	{"summary.storage_io_latency_ms.{stat}", LATENCY(REQUEST_STORAGE, SET_SUMMARY)},
	{"summary.generation_latency_ms.{stat}", LATENCY(GENERATION, SET_SUMMARY)},
	{"summary.cache_stats.cache_hit_rate", CALL(call_hit_rate)},
	{"summary.cache_stats.cache_hits", COUNTER(CACHE_HITS)},
	{"summary.cache_stats.cache_misses", COUNTER(CACHE_MISSES)},
	{"summary.cache_stats.{tier}_entries", MEMBER(U64, tier[0].entries), .flags = F_V1},
	{"summary.cache_stats.gpu_memory_used_gb", MEMBER(U64, tier[TIER_GPU].used_bytes), IN_GIB},
	{"summary.cache_stats.cpu_memory_used_gb", MEMBER(U64, tier[TIER_CPU].used_bytes), IN_GIB},
	{"summary.cache_stats.offloads_cpu", COUNTER(OFFLOADS_CPU)},
	{"summary.cache_stats.offloads_storage", COUNTER(OFFLOADS_STORAGE), .flags = F_V1},
	{"summary.cache_stats.storage_health", PART(result_part_storage_health)},
	{"summary.cache_stats.prefill_writes", COUNTER(PREFILL_WRITES)},
	{"summary.cache_stats.decode_reads", COUNTER(DECODE_READS)},
	{"summary.cache_stats.tier_{tier}_kv_bytes_{done}_gb", TIER_BYTES, IN_GIB},
	{"summary.cache_stats.tier_{tier}_{dir}_bandwidth_gbps", TIER_BYTES, IN_GIB,
	 .flags = F_PER_S},
	{"summary.cache_stats.system_prompt_hits", COUNTER(HITS_SYSTEM)},
	{"summary.cache_stats.common_phrase_hits", FIXED("0")},
	{"summary.cache_stats.user_cache_hits", COUNTER(HITS_USER)},
	{"summary.cache_stats.multi_turn_hits", COUNTER(HITS_MULTI_TURN)},
	{"summary.cache_stats.total_read_bytes", COUNTER(READ_BYTES)},
	{"summary.cache_stats.total_write_bytes", COUNTER(WRITE_BYTES)},
	{"summary.cache_stats.total_read_gb", COUNTER(READ_BYTES), IN_GIB},
	{"summary.cache_stats.total_write_gb", COUNTER(WRITE_BYTES), IN_GIB},
	{"summary.cache_stats.read_write_ratio", CALL(call_read_write_ratio)},
	{"summary.cache_stats.read_iops", COUNTER(READ_OPS)},
	{"summary.cache_stats.write_iops", COUNTER(WRITE_OPS)},
	{"summary.cache_stats.storage_tokens_processed", COUNTER(STORAGE_TOKENS), .flags = F_V1},
	{"summary.cache_stats.{tier}_{dir}_{stat}_ms", TIER_LATENCY(PART_TOTAL, SET_KEYS),
	 .flags = F_IF_SAMPLES | F_V1},
	{"summary.cache_stats.storage_{dir}_device_{stat}_ms", TIER_LATENCY(PART_DEVICE, SET_KEYS),
	 .flags = F_IF_SAMPLES | F_V1},
	{"summary.cache_stats.storage_{dir}_host_{stat}_ms", TIER_LATENCY(PART_HOST, SET_KEYS),
	 .flags = F_IF_SAMPLES | F_V1},
	{"summary.qos_metrics", PART(result_part_qos_metrics)},
	{"summary.prefix_cache_stats", PART(result_part_prefix_stats)},
	{"summary.autoscaling_stats", FIXED("[]")},
	{"summary.autoscaling_summary", FIXED("null")},
	{"summary.multi_turn_stats.cache_hits", COUNTER(MULTI_TURN_HITS)},
	{"summary.multi_turn_stats.cache_misses", COUNTER(MULTI_TURN_MISSES)},
	{"summary.multi_turn_stats.hit_rate", CALL(call_multi_turn_rate)},

	/* our own names: bytes per tier include demotions, operations do not */
	{"measured.window_s", CALL(call_window)},
	{"measured.{tier}.{dir}_bytes", TIER_BYTES},
	{"measured.{tier}.{dir}_bytes_per_s", TIER_BYTES, .flags = F_PER_S},
	{"measured.{tier}.{dir}_ops", TIER_OPS},
	{"measured.{tier}.{dir}{part}_latency_ms.{stat}", TIER_LATENCY(PART_TOTAL, SET_OURS)},
	{"measured.storage.{dir}_fairness.max_over_mean", CALL(call_fairness)},
	{"measured.storage.{dir}_fairness.ops", CALL(call_fairness_ops)},
	{"measured.storage.{dir}_fairness.entry_bytes_from", CALL(call_fairness_bytes)},
	{"measured.storage.fsync_latency_ms.{stat}", LATENCY(FSYNC, SET_OURS)},
	{"measured.storage.not_cold_reads", COUNTER(NOT_COLD_READS)},
	{"measured.storage.not_cold_bytes", COUNTER(NOT_COLD_BYTES)},
	{"measured.storage.pages_sampled", COUNTER(PAGES_SAMPLED)},
	{"measured.storage.pages_resident", COUNTER(PAGES_RESIDENT)},
	{"measured.kernel_device", PART(result_part_kernel_device)},
	{"measured.requests.offered", QOS_ALL(OFFERED)},
	{"measured.requests.admitted", QOS_ALL(ADMITTED)},
	{"measured.requests.completed", COUNTER(REQUESTS_COMPLETED)},
	{"measured.requests.failed", QOS_ALL(FAILED)},
	{"measured.requests.cancelled", QOS_ALL(CANCELLED)},
	{"measured.requests.queued_at_end", QOS_ALL(QUEUED_AT_END)},
	{"measured.requests.oldest_age_s", CALL(call_oldest_age)},
	{"measured.requests.per_s", COUNTER(REQUESTS_COMPLETED), .flags = F_PER_S},
	{"measured.requests.response_latency_ms.{stat}", LATENCY(RESPONSE, SET_OURS)},
	{"measured.requests.queue_wait_latency_ms.{stat}", LATENCY(QUEUE_WAIT, SET_OURS)},
	{"measured.requests.service_latency_ms.{stat}", LATENCY(SERVICE, SET_OURS)},
	{"measured.requests.prefill_latency_ms.{stat}", LATENCY(PREFILL, SET_OURS)},
	{"measured.requests.decode_latency_ms.{stat}", LATENCY(DECODE, SET_OURS)},
	{"measured.requests.by_qos.{qos}.offered", QOS(OFFERED)},
	{"measured.requests.by_qos.{qos}.admitted", QOS(ADMITTED)},
	{"measured.requests.by_qos.{qos}.completed", QOS(COMPLETED)},
	{"measured.requests.by_qos.{qos}.failed", QOS(FAILED)},
	{"measured.requests.by_qos.{qos}.cancelled", QOS(CANCELLED)},
	{"measured.requests.by_qos.{qos}.queued_at_end", QOS(QUEUED_AT_END)},
	{"measured.requests.by_qos.{qos}.oldest_age_s", CALL(call_qos_oldest_age)},
	{"measured.requests.by_qos.{qos}.per_s", QOS(COMPLETED), .flags = F_PER_S},
	{"measured.requests.by_qos.{qos}.response_latency_ms.{stat}", QOS_LATENCY(SET_OURS)},
	{"measured.evict.entries", COUNTER(EVICTIONS)},
	{"measured.evict.demoted_bytes", COUNTER(DEMOTED_BYTES)},
	{"measured.evict.deleted_bytes", COUNTER(DELETED_BYTES)},
	{"measured.evict.demote_latency_ms.{stat}", LATENCY(DEMOTE, SET_OURS)},
	{"measured.evict.delete_latency_ms.{stat}", LATENCY(DELETE, SET_OURS)},
	{"measured.writes.passed_over", COUNTER(PASSED_OVER)},
	{"measured.writes.joined", COUNTER(JOINED_WRITES)},
	{"measured.writes.resident", COUNTER(RESIDENT_WRITES)},
	{"measured.verified_blocks", COUNTER(VERIFIED_BLOCKS)},
	{"misses_in_flight", COUNTER(MISSES_IN_FLIGHT)},
	{"refused_too_large", COUNTER(REFUSED_TOO_LARGE)},
	{"errors.total", PART(part_errors_total)},
	{"errors.by_class", PART(result_part_errors_by_class)},
	{"errors.first", PART(result_part_errors_first)},
	{"retries", COUNTER(RETRIES)},

	/* how it was measured */
	{"io.engine", MEMBER(CHARS, io.engine)},
	{"io.mode", MEMBER(CHARS, io.mode)},
	{"io.io_size", MEMBER(U64, io.io_size_bytes)},
	{"io.io_depth", MEMBER(U32, io.io_depth)},
	{"io.ops_in_flight", MEMBER(U32, io.ops_in_flight)},
	{"io.sync", MEMBER(CHARS, io.sync)},
	{"io.direct_align_bytes", MEMBER(U32, io.direct_align_bytes)},
	{"io.registered_buffers", MEMBER(BOOL, io.has_registered_buffers)},
	{"io.features", MEMBER(CHARS, io.features)},
	{"io.filesystem", MEMBER(CHARS, io.filesystem), .flags = F_HOST},
	{"io.device", MEMBER(CHARS, io.device), .flags = F_HOST},
	{"tiers.{tier}.present", MEMBER(BOOL, tier[0].is_present)},
	{"tiers.{tier}.kind", MEMBER(TEXT, tier[0].kind)},
	{"tiers.{tier}.asked_gib", CALL(call_asked_gib)},
	{"tiers.{tier}.limit_bytes", MEMBER(U64, tier[0].limit_bytes)},
	{"tiers.{tier}.used_bytes", MEMBER(U64, tier[0].used_bytes)},
	{"tiers.{tier}.entries", MEMBER(U64, tier[0].entries)},
	{"tiers.{tier}.model", PART(result_part_tier_model)},
	{"tiers.gpu.effective_bytes", MEMBER(REAL, gpu_effective_bytes)},
	{"run.warmup_s", MEMBER(U64, warmup_ns), IN_S},
	{"run.interval_file", MEMBER(TEXT, interval_file)},
	{"run.workers", MEMBER(U32, workers)},
	{"run.in_service_max", MEMBER(U32, in_service_max)},
	{"run.setup_s", MEMBER(REAL, setup_s), .flags = F_HOST},
	{"memory.predicted_bytes", MEMBER(U64, predicted_bytes)},
	{"memory.rss_peak_bytes", MEMBER(U64, rss_peak_bytes), .flags = F_HOST},
	{"cpu.user_s", MEMBER(REAL, cpu_user_s), .flags = F_HOST},
	{"cpu.system_s", MEMBER(REAL, cpu_system_s), .flags = F_HOST},
	{"cpu.per_gib", CALL(call_cpu_per_gib), .flags = F_HOST},
	{"cpu.workers_s", COUNTER(WORKER_CPU_NS), IN_S, .flags = F_HOST},
	{"cpu.ready_delay_s", COUNTER(READY_DELAY_NS), IN_S, .flags = F_HOST},

	/* can it be trusted */
	{"verdicts.client_bound", MEMBER(VERDICT, client_bound)},
	{"verdicts.page_cache_bypassed", MEMBER(VERDICT, page_cache_bypassed)},
	{"verdicts.enough_samples", MEMBER(VERDICT, enough_samples)},
	{"verdicts.steady_state", MEMBER(VERDICT, steady_state)},
	{"notices", PART(result_part_notices)},
	{"field_notes", PART(result_part_field_notes)},
	{"histograms", PART(result_part_histograms)},
};
/* clang-format on */

/* ---- one field's value ---- */

static const void *member(const struct run_result *r, const struct field *f, const struct scope *s)
{
	size_t offset = f->offset;
	if (strstr(f->path, "{tier}"))
		offset += s->tier * sizeof(struct run_tier);
	return (const char *)r + offset;
}

static json_t *text_or_null(const char *text)
{
	return text && *text ? result_json_text(text) : json_null();
}

static json_t *verdict(const struct verdict *v)
{
	return json_pack("{s:o, s:o}", "value", v->is_known ? json_boolean(v->value) : json_null(),
			 "why", result_json_text(v->why));
}

static const struct hist *histogram(const struct run_result *r, const struct field *f,
				    const struct scope *s)
{
	switch (f->from) {
	case FROM_HIST:
		return &r->m->hist[f->id];
	case FROM_TIER_HIST:
		return tier_hist(r, s->tier, s->dir, s->part);
	case FROM_QOS_HIST:
		return &r->m->hist[HIST_QOS(s->qos)];
	default:
		return NULL;
	}
}

static uint64_t whole(const struct run_result *r, const struct field *f, const struct scope *s)
{
	switch (f->from) {
	case FROM_COUNTER:
		return r->m->count[f->id];
	case FROM_TIER_BYTES:
		return r->m->count[COUNT_TIER_BYTES(s->tier, s->dir)];
	case FROM_TIER_OPS:
		return r->m->count[COUNT_TIER_OPS(s->tier, s->dir)];
	case FROM_QOS:
		return r->m->count[COUNT_QOS(s->qos, f->id)];
	case FROM_QOS_TOTAL:
		return metrics_qos_total(r->m, (enum metric_qos)f->id);
	case FROM_U32:
		return *(const uint32_t *)member(r, f, s);
	default:
		return *(const uint64_t *)member(r, f, s);
	}
}

/* A whole number as it is, or turned into its unit, or into a rate. */
static json_t *quantity(const struct run_result *r, const struct field *f, const struct scope *s)
{
	uint64_t value = whole(r, f, s);
	if (f->unit == 0 && !(f->flags & F_PER_S))
		return result_json_whole(value);
	double real = (double)value / (f->unit > 0 ? f->unit : 1);
	return result_json_real(f->flags & F_PER_S ? per_s(r, real) : real);
}

static json_t *statistic(const struct hist *h, enum stat stat)
{
	return stat == STAT_COUNT ? result_json_whole(h->count)
				  : result_json_real(result_stat_ms(h, stat));
}

static json_t *value(const struct run_result *r, const struct field *f, const struct scope *s)
{
	if ((f->flags & F_HOST) && r->is_virtual)
		return json_null();
	switch (f->from) {
	case FROM_HIST:
	case FROM_TIER_HIST:
	case FROM_QOS_HIST:
		return statistic(histogram(r, f, s), (enum stat)s->stat);
	case FROM_REAL:
		return result_json_real(*(const double *)member(r, f, s));
	case FROM_BOOL:
		return json_boolean(*(const bool *)member(r, f, s));
	case FROM_CHARS:
		return text_or_null(member(r, f, s));
	case FROM_TEXT:
		return text_or_null(*(const char *const *)member(r, f, s));
	case FROM_VERDICT:
		return verdict(member(r, f, s));
	case FROM_CALL:
		return result_json_real(f->number(r, s));
	case FROM_PART:
		return f->part(r, s);
	case FROM_SAMPLES:
		return result_part_samples(r, (enum metric_raw)f->id);
	case FROM_FIXED:
		return json_loads(f->fixed, JSON_DECODE_ANY, NULL);
	default:
		return quantity(r, f, s);
	}
}

/* ---- from rows to the tree ---- */

enum { FIELD_PATH_MAX = 128 };

struct builder {
	const struct run_result *r;
	const struct field *field;
	json_t *root;
	int rc; /* 0 or -ENOMEM, sticky */
};

/* Puts @node (taken over) at a path of object keys. */
static int put(json_t *root, const char *path, json_t *node)
{
	json_t *object = root;
	for (const char *dot; (dot = strchr(path, '.')) != NULL; path = dot + 1) {
		size_t len = (size_t)(dot - path);
		json_t *child = json_object_getn(object, path, len);
		if (!child && json_object_setn_new(object, path, len, child = json_object()))
			goto fail;
		object = child;
	}
	return json_object_set_new(object, path, node) ? -ENOMEM : 0;
fail:
	json_decref(node);
	return -ENOMEM;
}

/* The same field under the older generation's name: "storage" in its key becomes "nvme". */
static int put_v1(struct builder *b, const char *path, const struct scope *s)
{
	const struct field *f = b->field;
	const char *storage = strstr(strrchr(path, '.'), "storage");
	if (!storage || (f->stats && !(SET_V1 & 1u << s->stat)))
		return 0;
	char alias[FIELD_PATH_MAX];
	snprintf(alias, sizeof(alias), "%.*snvme%s", (int)(storage - path), path,
		 storage + strlen("storage"));
	return put(b->root, alias, value(b->r, f, s));
}

static void add(struct builder *b, const char *path, const struct scope *s)
{
	const struct field *f = b->field;
	const struct hist *h = histogram(b->r, f, s);
	if ((f->flags & F_IF_SAMPLES) && h->count == 0)
		return;
	b->rc = put(b->root, path, value(b->r, f, s));
	if (b->rc == 0 && (f->flags & F_V1))
		b->rc = put_v1(b, path, s);
}

/* What may stand in braces in a path, and the coordinate of the scope it runs over. */
static const struct placeholder {
	const char *token;
	size_t offset;
	unsigned count;
	const char *name[STATS];
} placeholders[] = {
	{"{tier}", offsetof(struct scope, tier), TIER_CLASSES, {"gpu", "cpu", "storage"}},
	{"{dir}", offsetof(struct scope, dir), DIRECTIONS, {"read", "write"}},
	{"{done}", offsetof(struct scope, dir), DIRECTIONS, {"read", "written"}},
	{"{part}", offsetof(struct scope, part), PARTS, {"", "_device", "_host"}},
	{"{qos}", offsetof(struct scope, qos), QOS_COUNT, {"interactive", "responsive", "batch"}},
	{"{stat}",
	 offsetof(struct scope, stat),
	 STATS,
	 {"count", "mean", "p50", "p95", "p99", "p999", "p9999", "max"}},
};

static void expand(struct builder *b, const char *path, struct scope *s);

static void expand_one(struct builder *b, const char *path, const struct placeholder *p,
		       struct scope *s)
{
	const char *at = strstr(path, p->token);
	bool is_stat = p->offset == offsetof(struct scope, stat);
	for (unsigned i = 0; i < p->count && b->rc == 0; i++) {
		if (is_stat && !(b->field->stats & 1u << i))
			continue;
		*(unsigned *)((char *)s + p->offset) = i;
		char next[FIELD_PATH_MAX];
		snprintf(next, sizeof(next), "%.*s%s%s", (int)(at - path), path, p->name[i],
			 at + strlen(p->token));
		expand(b, next, s);
	}
}

static void expand(struct builder *b, const char *path, struct scope *s)
{
	for (size_t i = 0; i < ARRAY_LEN(placeholders); i++) {
		if (strstr(path, placeholders[i].token)) {
			expand_one(b, path, &placeholders[i], s);
			return;
		}
	}
	add(b, path, s);
}

json_t *result_json(const struct run_result *r)
{
	struct builder b = {.r = r, .root = json_object()};
	if (!b.root)
		return NULL;
	for (size_t i = 0; i < ARRAY_LEN(fields) && b.rc == 0; i++) {
		b.field = &fields[i];
		if ((b.field->flags & F_RAW) && !r->cfg->opt.raw_samples)
			continue;
		if ((b.field->flags & F_POOLED) && !r->pool)
			continue;
		struct scope s = {.tier = TIER_STORAGE, .part = (unsigned)b.field->id};
		expand(&b, b.field->path, &s);
	}
	if (b.rc) {
		json_decref(b.root);
		return NULL;
	}
	return b.root;
}

json_t *result_at(json_t *root, const char *path)
{
	json_t *at = root;
	for (const char *dot; at && (dot = strchr(path, '.')) != NULL; path = dot + 1)
		at = json_object_getn(at, path, (size_t)(dot - path));
	return at ? json_object_get(at, path) : NULL;
}

/* What is known while the run goes on: no latency, which only the workers see. */
static const char *const known_early[] = {
	"version",
	"time.started",
	"host.hostname",
	"seed",
	"requests_completed",
	"summary.total_requests",
	"summary.elapsed_time",
	"summary.requests_per_second",
	"summary.cache_stats.tier_storage_read_bandwidth_gbps",
	"summary.cache_stats.tier_storage_write_bandwidth_gbps",
	"measured.window_s",
	"measured.cpu.read_bytes",
	"measured.cpu.write_bytes",
	"measured.storage.read_bytes",
	"measured.storage.write_bytes",
	"errors.total",
};

json_t *result_snapshot(const struct run_result *r)
{
	json_t *all = result_json(r), *some = json_pack("{s:s, s:b}", "state", "partial", "partial", true);
	int rc = all && some ? 0 : -ENOMEM;
	for (size_t i = 0; i < ARRAY_LEN(known_early) && !rc; i++)
		rc = put(some, known_early[i], json_incref(result_at(all, known_early[i])));
	json_decref(all);
	if (!rc)
		return some;
	json_decref(some);
	return NULL;
}
