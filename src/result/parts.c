// SPDX-License-Identifier: Apache-2.0
/* The parts of the result file that are lists, objects or judgements instead of one number each. */
#include <stdlib.h>
#include <string.h>

#include "base/str.h"
#include "result/internal.h"

struct fairness result_fairness(const struct run_result *r, enum metric_direction dir)
{
	struct fairness f = {0};

	for (unsigned c = 0; c < METRIC_SIZE_CLASSES; c++) {
		const struct hist *h = &r->m->hist[HIST_PACE(dir, c)];
		if (h->count < FAIRNESS_OPS_MIN || h->count <= f.ops || !h->min_ns)
			continue;
		f = (struct fairness){.ops = h->count, .min_bytes = metric_size_class_min(c)};
		f.max_over_mean = 1.0 / (double)h->min_ns / hist_mean_inverse(h);
	}
	return f;
}

/* ---- numbers ---- */

static const struct {
	const char *name;
	double percent;
} stats[STATS] = {
	[STAT_COUNT] = {"count", 0},     [STAT_MEAN] = {"mean", 0}, [STAT_P50] = {"p50", 50},
	[STAT_P95] = {"p95", 95},        [STAT_P99] = {"p99", 99},  [STAT_P999] = {"p999", 99.9},
	[STAT_P9999] = {"p9999", 99.99}, [STAT_MAX] = {"max", 100},
};

const char *result_stat_name(enum stat stat)
{
	return stats[stat].name;
}

double result_stat_ms(const struct hist *h, enum stat stat)
{
	if (stat == STAT_COUNT)
		return (double)h->count;
	if (h->count == 0)
		return NAN;
	if (stat == STAT_MEAN)
		return hist_mean_ns(h) / 1e6;
	return hist_percentile_ns(h, stats[stat].percent) / 1e6;
}

double result_oldest_age_s(const struct run_result *r)
{
	uint64_t oldest_ns = 0;
	for (unsigned q = 0; q < QOS_COUNT; q++)
		oldest_ns = MAX(oldest_ns, r->m->oldest_age_ns[q]);
	return (double)oldest_ns / 1e9;
}

double result_qos_compliance(const struct run_result *r, enum config_qos level)
{
	double completed = (double)r->m->count[COUNT_QOS(level, QOS_COMPLETED)];
	return 1 - ratio((double)r->m->count[COUNT_QOS(level, QOS_VIOLATIONS)], completed);
}

json_t *result_json_real(double value)
{
	return isfinite(value) ? json_real(value) : json_null();
}

json_t *result_json_whole(uint64_t value)
{
	return value <= INT64_MAX ? json_integer((json_int_t)value) : json_null();
}

json_t *result_json_text(const char *text)
{
	json_t *node = json_string(text);
	if (node)
		return node;
	CLEANUP_FREE char *ascii = strdup(text);
	if (!ascii)
		return NULL;
	for (char *c = ascii; *c; c++) {
		if (*c & 0x80)
			*c = '?';
	}
	return json_string(ascii);
}

/* ---- lists: every addition is checked once, at the end ---- */

/* Appends @node (taken over); after a failure *list is NULL and stays so. */
static void append(json_t **list, json_t *node)
{
	if (!*list) {
		json_decref(node);
	} else if (json_array_append_new(*list, node)) {
		json_decref(*list);
		*list = NULL;
	}
}

/* The same for an object. */
static void set(json_t **object, const char *key, json_t *node)
{
	if (!*object) {
		json_decref(node);
	} else if (json_object_set_new(*object, key, node)) {
		json_decref(*object);
		*object = NULL;
	}
}

static json_t *text_list(const struct strlist *l)
{
	json_t *list = json_array();
	for (size_t i = 0; i < l->count; i++)
		append(&list, result_json_text(l->v[i]));
	return list;
}

/* ---- parameters ---- */

static const char *const source_names[] = {
	[OPT_FROM_DEFAULT] = "default",
	[OPT_FROM_FILE] = "file",
	[OPT_FROM_TYPED] = "given",
};

/* Names of places on this machine: on the virtual clock they change nothing and would only tell two
 * files apart. */
static bool is_place(const struct opt *opt)
{
	static const char *const names[] = {"--output", "--cache-dir"};
	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		if (!strcmp(opt->name, names[i]))
			return true;
	}
	return false;
}

static json_t *option_value(const struct opt_group *group, size_t index)
{
	const struct opt *opt = &group->opts[index];
	const void *at = (const char *)group->target + opt->offset;
	if ((opt->flags & OPT_F_UNSET_NULL) && group->source[index] == OPT_FROM_DEFAULT &&
	    !opt->def)
		return json_null();
	switch (opt->type) {
	case OPT_FLAG:
		return json_boolean(*(const bool *)at);
	case OPT_INT:
		return json_integer(*(const int64_t *)at);
	case OPT_REAL:
		return result_json_real(*(const double *)at);
	case OPT_SIZE:
		return result_json_whole(*(const uint64_t *)at);
	case OPT_TEXT: {
		const char *text = *(char *const *)at;
		return text ? result_json_text(text) : json_null();
	}
	case OPT_CHOICE:
		return json_string(opt->choices[*(const int *)at]);
	case OPT_LIST:
	case OPT_WORDS:
	case OPT_ARGS:
		return text_list(at);
	}
	return NULL;
}

json_t *result_part_parameters(const struct run_result *r, const struct scope *s)
{
	(void)s;
	const struct opt_group *group = r->options;
	json_t *all = json_object();
	for (size_t i = 0; i < group->count; i++) {
		const struct opt *opt = &group->opts[i];
		bool is_hidden = r->is_virtual && is_place(opt);
		char key[64];
		opt_key(opt, key, sizeof(key));
		set(&all, key,
		    json_pack("{s:o, s:s}", "value",
			      is_hidden ? json_null() : option_value(group, i), "source",
			      source_names[group->source[i]]));
	}
	return all;
}

/* ---- the reference's assessment ---- */

static json_t *criterion(const char *name, json_t *target, json_t *actual, const char *unit,
			 bool is_passed)
{
	return json_pack("{s:s, s:o, s:o, s:s, s:b}", "name", name, "target", target, "actual",
			 actual, "unit", unit, "passed", is_passed);
}

static void judge_p95(json_t **list, const char *name, const struct hist *h, double limit_ms)
{
	if (h->count == 0)
		return;
	double p95_ms = result_stat_ms(h, STAT_P95);
	append(list, criterion(name, result_json_real(limit_ms), result_json_real(p95_ms), "ms",
			       p95_ms < limit_ms));
}

static void judge_storage(json_t **list, const struct run_result *r, enum metric_direction dir,
			  const char *device_name, const char *total_name, double limit_ms)
{
	const struct hist *device = tier_hist(r, TIER_STORAGE, dir, PART_DEVICE);
	if (device->count > 0)
		judge_p95(list, device_name, device, limit_ms);
	else
		judge_p95(list, total_name, tier_hist(r, TIER_STORAGE, dir, PART_TOTAL), limit_ms);
}

static int judge_cpu(json_t **list, const struct run_result *r)
{
	CLEANUP_FREE struct hist *both = calloc(1, sizeof(*both));
	if (!both)
		return -ENOMEM;
	hist_merge(both, tier_hist(r, TIER_CPU, DIR_READ, PART_TOTAL));
	hist_merge(both, tier_hist(r, TIER_CPU, DIR_WRITE, PART_TOTAL));
	judge_p95(list, "CPU RAM P95 < 150ms", both, 150);
	return 0;
}

static json_t *judge_latency(const struct run_result *r)
{
	json_t *list = json_array();
	judge_storage(&list, r, DIR_WRITE, "Storage Tier Write Device P95 < 500ms",
		      "Storage Tier Write Total P95 < 500ms", 500);
	judge_storage(&list, r, DIR_READ, "Storage Tier Read Device P95 < 200ms",
		      "Storage Tier Read Total P95 < 200ms", 200);
	if (judge_cpu(&list, r)) {
		json_decref(list);
		return NULL;
	}
	double rate = hit_rate(r);
	if (isfinite(rate))
		append(&list, criterion("Cache Hit Rate > 30%", json_real(0.3), json_real(rate),
					"ratio", rate > 0.3));
	return list;
}

/* A direction without any operation is judged only when the other one has none either. */
static void judge_bandwidth(json_t **list, const struct run_result *r, enum metric_direction dir,
			    const char *name)
{
	double bytes = tier_bytes(r, TIER_STORAGE, dir);
	if (bytes == 0 && tier_bytes(r, TIER_STORAGE, dir == DIR_READ ? DIR_WRITE : DIR_READ) > 0)
		return;
	double gib_per_s = per_s(r, bytes / GIB);
	append(list, criterion(name, json_string(">0"),
			       json_sprintf("%.2f", isfinite(gib_per_s) ? gib_per_s : 0.0), "GiB/s",
			       gib_per_s > 0));
}

static json_t *judge_throughput(const struct run_result *r)
{
	json_t *list = json_array();
	judge_bandwidth(&list, r, DIR_READ, "Storage KV Read Bandwidth");
	judge_bandwidth(&list, r, DIR_WRITE, "Storage KV Write Bandwidth");
	return list;
}

json_t *result_part_storage_health(const struct run_result *r, const struct scope *s)
{
	(void)s;
	json_t *criteria = r->cfg->opt.performance_profile == PROFILE_THROUGHPUT
				   ? judge_throughput(r)
				   : judge_latency(r);
	size_t i, total = json_array_size(criteria), passed = 0;
	json_t *one;
	json_array_foreach(criteria, i, one) passed += json_is_true(json_object_get(one, "passed"));
	return json_pack("{s:s, s:o, s:I, s:I}", "overall_status",
			 passed == total ? "PASS" : "FAIL", "criteria", criteria, "passed_count",
			 (json_int_t)passed, "total_count", (json_int_t)total);
}

/* ---- other parts of the reference's summary ---- */

static json_t *qos_level(const struct run_result *r, enum config_qos level)
{
	const struct hist *h = &r->m->hist[HIST_QOS(level)];
	if (h->count == 0)
		return json_pack("{s:b}", "no_data", true);
	static const enum stat shown[] = {STAT_MEAN, STAT_P50, STAT_P95, STAT_P99, STAT_MAX};
	json_t *latency = json_object();
	for (size_t i = 0; i < ARRAY_LEN(shown); i++)
		set(&latency, result_stat_name(shown[i]),
		    result_json_real(result_stat_ms(h, shown[i])));
	double compliance = result_qos_compliance(r, level);
	return json_pack("{s:o, s:o, s:{s:o, s:o, s:o, s:b}}", "total_requests",
			 result_json_whole(r->m->count[COUNT_QOS(level, QOS_COMPLETED)]),
			 "latency_ms", latency, "sla", "target_p95_ms",
			 result_json_real(r->cfg->workload.qos[level].target_p95_ms),
			 "actual_p95_ms", result_json_real(result_stat_ms(h, STAT_P95)),
			 "compliance", result_json_real(compliance), "met", compliance >= 0.95);
}

json_t *result_part_qos_metrics(const struct run_result *r, const struct scope *s)
{
	(void)s;
	json_t *levels = json_object();
	for (unsigned q = 0; q < QOS_COUNT; q++)
		set(&levels, config_qos_name(q), qos_level(r, q));
	return levels;
}

json_t *result_part_prefix_stats(const struct run_result *r, const struct scope *s)
{
	(void)s;
	if (r->cfg->opt.disable_prefix_caching)
		return json_object();
	const uint64_t *count = r->m->count;
	return json_pack("{s:o, s:o, s:o, s:i, s:o}", "prefix_hits",
			 result_json_whole(count[COUNT_PREFIX_HITS]), "prefix_misses",
			 result_json_whole(count[COUNT_PREFIX_MISSES]), "system_prompt_reuse",
			 result_json_whole(count[COUNT_PREFIX_HITS]), "common_phrase_reuse", 0,
			 "bytes_saved", result_json_whole(count[COUNT_PREFIX_BYTES_SAVED]));
}

json_t *result_part_samples(const struct run_result *r, enum metric_raw which)
{
	const struct metric_samples *samples = &r->m->raw[which];
	json_t *list = json_array();
	for (size_t i = 0; i < samples->count; i++)
		append(&list, json_real((double)samples->ns[i] / 1e9));
	return list;
}

/* ---- our own ---- */

json_t *result_part_kernel_device(const struct run_result *r, const struct scope *s)
{
	(void)s;
	const struct run_io *io = &r->io;
	if (!io->has_device_counters || r->is_virtual)
		return json_pack("{s:n, s:n, s:n, s:n, s:n}", "read_bytes", "write_bytes",
				 "read_bytes_per_s", "write_bytes_per_s", "sampled_s");
	double sampled_s = result_sampled_s(io);
	return json_pack("{s:o, s:o, s:o, s:o, s:o}", "read_bytes", result_json_whole(io->device_read_bytes),
			 "write_bytes", result_json_whole(io->device_written_bytes), "read_bytes_per_s",
			 result_json_real(ratio((double)io->device_read_bytes, sampled_s)), "write_bytes_per_s",
			 result_json_real(ratio((double)io->device_written_bytes, sampled_s)), "sampled_s",
			 result_json_real(sampled_s));
}

json_t *result_part_tier_model(const struct run_result *r, const struct scope *s)
{
	const struct run_tier *t = &r->tier[s->tier];
	if (!t->kind || strcmp(t->kind, "model"))
		return json_null();
	return json_pack("{s:o, s:o, s:o}", "read_gbps", result_json_real(t->read_gbps),
			 "write_gbps", result_json_real(t->write_gbps), "latency_us",
			 result_json_real(t->latency_us));
}

json_t *result_part_errors_by_class(const struct run_result *r, const struct scope *s)
{
	(void)s;
	json_t *classes = json_object();
	for (unsigned i = 0; i < r->errors->classes; i++)
		set(&classes, r->errors->v[i].name, result_json_whole(r->errors->v[i].count));
	return classes;
}

json_t *result_part_errors_first(const struct run_result *r, const struct scope *s)
{
	(void)s;
	json_t *classes = json_object();
	for (unsigned i = 0; i < r->errors->classes; i++)
		set(&classes, r->errors->v[i].name, result_json_text(r->errors->v[i].first));
	return classes;
}

json_t *result_part_notices(const struct run_result *r, const struct scope *s)
{
	(void)s;
	return text_list(r->notices);
}

/* ---- histograms ---- */

static json_t *buckets(const struct hist *h)
{
	json_t *pairs = json_array();
	for (unsigned i = 0; i < HIST_BUCKETS; i++) {
		if (h->bucket[i] > 0)
			append(&pairs,
			       json_pack("[i, o]", (int)i, result_json_whole(h->bucket[i])));
	}
	return pairs;
}

json_t *result_part_histograms(const struct run_result *r, const struct scope *s)
{
	(void)s;
	json_t *series = json_object();
	for (unsigned i = 0; i < METRIC_HIST_COUNT; i++) {
		const struct hist *h = &r->m->hist[i];
		char buf[64];
		if (h->count == 0)
			continue;
		set(&series, metrics_hist_name(i, buf),
		    json_pack("{s:o, s:o, s:o, s:o, s:o, s:o}", "count",
			      result_json_whole(h->count), "sum_ns",
			      result_json_real(hist_sum_ns(h)), "min_ns",
			      result_json_whole(h->min_ns), "max_ns", result_json_whole(h->max_ns),
			      "over", result_json_whole(h->over), "buckets", buckets(h)));
	}
	return json_pack("{s:{s:i, s:i, s:i, s:s}, s:o}", "geometry", "linear", HIST_LINEAR,
			 "per_octave", HIST_PER_OCTAVE, "octaves", HIST_OCTAVES, "unit", "ns",
			 "series", series);
}
