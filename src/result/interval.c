// SPDX-License-Identifier: Apache-2.0
/* One interval of a run as one line of JSON: every counter, rate and latency under the names that the result file uses. */
#include "base/str.h"
#include "result/internal.h"
#include "result/result.h"

static void add_number(struct str *out, double value)
{
	char buf[40];

	str_add(out, isfinite(value) ? fmt_double(buf, sizeof(buf), value) : "null");
}

static void add_real(struct str *out, const char *key, double value)
{
	str_addf(out, ", \"%s\": ", key);
	add_number(out, value);
}

static void add_rate(struct str *out, const char *key, double amount, double seconds)
{
	add_real(out, key, ratio(amount, seconds));
}

/* What is known only of the whole run: requests left over, and the workers' time. */
static bool is_of_the_run(enum metric_counter c)
{
	if (c >= COUNT_QOS_0) {
		unsigned what = (c - COUNT_QOS_0) % METRIC_QOS_COUNT;
		return what == QOS_OFFERED || what == QOS_ADMITTED || what == QOS_CANCELLED ||
		       what == QOS_QUEUED_AT_END;
	}
	return c == COUNT_WORKER_CPU_NS || c == COUNT_READY_DELAY_NS || c == COUNT_TRACE_ROWS_UNUSABLE;
}

static void add_rates(struct str *out, const struct run_interval *i, double seconds)
{
	const uint64_t *count = i->m->count;
	char name[64], key[80];

	for (unsigned t = 0; t < TIER_CLASSES; t++) {
		for (unsigned d = 0; d < DIRECTIONS; d++) {
			enum metric_counter c = COUNT_TIER_BYTES(t, d);
			snprintf(key, sizeof(key), "%s_per_s", metrics_counter_name(c, name));
			add_rate(out, key, (double)count[c], seconds);
		}
	}
	double hits = (double)count[COUNT_CACHE_HITS];
	add_rate(out, "requests_per_s", (double)count[COUNT_REQUESTS_COMPLETED], seconds);
	add_rate(out, "tokens_per_s", (double)count[COUNT_TOKENS_GENERATED], seconds);
	add_rate(out, "evictions_per_s", (double)count[COUNT_EVICTIONS], seconds);
	add_real(out, "hit_rate", ratio(hits, hits + (double)count[COUNT_CACHE_MISSES]));
}

static void add_counters(struct str *out, const struct metrics *m)
{
	const char *comma = "";
	char name[64];

	str_add(out, ", \"counters\": {");
	for (unsigned c = 0; c < METRIC_COUNTER_COUNT; c++) {
		if (is_of_the_run((enum metric_counter)c))
			continue;
		str_addf(out, "%s\"%s\": %llu", comma, metrics_counter_name((enum metric_counter)c, name),
			 (unsigned long long)m->count[c]);
		comma = ", ";
	}
	str_add(out, "}");
}

static void add_latencies(struct str *out, const struct metrics *m)
{
	static const enum stat shown[] = {STAT_MEAN, STAT_P50, STAT_P95, STAT_P99, STAT_P999, STAT_MAX};
	const char *comma = "";
	char name[64];

	str_add(out, ", \"latency_ms\": {");
	for (unsigned h = 0; h < METRIC_HIST_COUNT; h++) {
		const struct hist *hist = &m->hist[h];
		if (!hist->count)
			continue;
		str_addf(out, "%s\"%s\": {\"count\": %llu", comma, metrics_hist_name((enum metric_hist)h, name),
			 (unsigned long long)hist->count);
		for (size_t s = 0; s < ARRAY_LEN(shown); s++)
			add_real(out, result_stat_name(shown[s]), result_stat_ms(hist, shown[s]));
		str_add(out, "}");
		comma = ", ";
	}
	str_add(out, "}");
}

int result_interval(const struct run_interval *i, struct str *out)
{
	double seconds = (double)(i->end_ns - i->begin_ns) / 1e9;

	str_addf(out, "{\"interval\": %llu, \"phase\": \"%s\"", (unsigned long long)i->number,
		 i->is_warmup ? "warmup" : "window");
	add_real(out, "begin_s", (double)i->begin_ns / 1e9);
	add_real(out, "end_s", (double)i->end_ns / 1e9);
	add_rates(out, i, seconds);
	str_addf(out,
		 ", \"requests_in_service\": %u, \"users_waiting\": %u, \"entries_in_transfer\": %u, "
		 "\"tier_operations\": %u, \"errors\": %llu",
		 i->in_service, i->waiting, i->transfers, i->tier_ops, (unsigned long long)i->errors);
	add_counters(out, i->m);
	add_latencies(out, i->m);
	str_add(out, "}\n");
	return out->rc;
}
