// SPDX-License-Identifier: Apache-2.0
/*
 * The summary for people: what an engineer wants first, first; then the sections of the reference's
 * report.
 *
 * Every line goes through wrap(), which keeps the promise of plain ASCII and 100 columns whatever a
 * path or a message holds.
 */
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/str.h"
#include "result/internal.h"
#include "result/result.h"

enum { COLUMNS = 100, LABEL = 26 };

/* ---- lines ---- */

/* Length of the longest beginning of @text that fits into @room, cut at a blank where there is one.
 */
static size_t fitting(const char *text, size_t room)
{
	size_t len = strlen(text);
	if (len <= room)
		return len;
	for (size_t cut = room; cut > room / 2; cut--) {
		if (text[cut] == ' ')
			return cut;
	}
	return room;
}

/* Adds a line to @out; what does not fit goes on below, indented by @hang columns. Frees @line. */
static void wrap(struct str *out, unsigned hang, char *line)
{
	for (char *c = line; *c; c++) {
		if (*c < ' ' || *c > '~')
			*c = '?';
	}
	const char *rest = line;
	unsigned indent = 0;
	do {
		size_t len = fitting(rest, COLUMNS - indent);
		str_addf(out, "%*s%.*s\n", (int)indent, "", (int)len, rest);
		rest += len;
		rest += strspn(rest, " ");
		indent = hang;
	} while (*rest);
	free(line);
}

static void ATTR_PRINTF(2, 3) emit(struct str *out, const char *fmt, ...)
{
	char *line;
	va_list ap;
	va_start(ap, fmt);
	int len = vasprintf(&line, fmt, ap);
	va_end(ap);
	if (len < 0)
		out->rc = -ENOMEM;
	else
		wrap(out, 8, line);
}

/* A label and what there is to say about it. */
static void ATTR_PRINTF(3, 4) row(struct str *out, const char *label, const char *fmt, ...)
{
	CLEANUP_STR struct str line = {0};
	char *text;
	va_list ap;
	va_start(ap, fmt);
	int len = vasprintf(&text, fmt, ap);
	va_end(ap);
	if (len < 0) {
		out->rc = -ENOMEM;
		return;
	}
	str_addf(&line, "  %-*s %s", LABEL, label, text);
	free(text);
	if (line.rc)
		out->rc = line.rc;
	else
		wrap(out, LABEL + 3, str_take(&line));
}

static void rule(struct str *out, char c)
{
	char line[COLUMNS + 1];
	memset(line, c, COLUMNS);
	line[COLUMNS] = '\0';
	emit(out, "%s", line);
}

static void heading(struct str *out, const char *title)
{
	emit(out, "%s", "");
	emit(out, "%s", title);
}

/* ---- numbers ---- */

struct num {
	char s[24];
};

/* About four digits; "-" for what is not known. */
static struct num num(double v)
{
	struct num n = {"-"};
	if (isfinite(v)) {
		int decimals = v < 10 ? 3 : v < 100 ? 2 : v < 1000 ? 1 : 0;
		snprintf(n.s, sizeof(n.s), "%.*f", decimals, v);
	}
	return n;
}

/* The same for what is not known to have happened when it is 0. */
static struct num some(double v)
{
	return num(v > 0 ? v : NAN);
}

static struct num percent(double share)
{
	struct num n = {"-"};
	if (isfinite(share))
		snprintf(n.s, sizeof(n.s), "%.1f %%", share * 100);
	return n;
}

static struct num binary(uint64_t bytes)
{
	struct num n;
	fmt_bytes(n.s, sizeof(n.s), bytes);
	return n;
}

struct speed {
	char s[2 * sizeof(struct num) + 16];
};

/* GB/s, and GiB/s beside it. */
static struct speed speed(double bytes_per_s)
{
	struct speed n = {"-"};
	if (bytes_per_s > 0)
		snprintf(n.s, sizeof(n.s), "%s GB/s (%s GiB/s)", num(bytes_per_s / 1e9).s,
			 num(bytes_per_s / GIB).s);
	return n;
}

static struct num ms(const struct hist *h, enum stat stat)
{
	return num(result_stat_ms(h, stat));
}

static uint64_t count(const struct run_result *r, enum metric_counter id)
{
	return r->m->count[id];
}

#define U64(v) ((unsigned long long)(v))

/* ---- what was run ---- */

static const char *or_none(const char *text)
{
	return text && *text ? text : "none";
}

static void tiers_line(struct str *out, const struct run_result *r)
{
	CLEANUP_STR struct str line = {0};
	for (unsigned t = 0; t < TIER_CLASSES; t++) {
		const struct run_tier *tier = &r->tier[t];
		str_addf(&line, "%s%s ", t > 0 ? ", " : "", config_tier_name(t));
		if (!tier->is_present)
			str_add(&line, "none");
		else if (tier->limit_bytes > INT64_MAX)
			str_addf(&line, "%s without limit", or_none(tier->kind));
		else
			str_addf(&line, "%s %s", or_none(tier->kind), binary(tier->limit_bytes).s);
	}
	row(out, "tiers", "%s", str_text(&line));
}

static void io_line(struct str *out, const struct run_result *r)
{
	const struct run_io *io = &r->io;
	char size[32];
	if (!*io->engine) {
		row(out, "I/O path", "none: the storage tier holds no data");
		return;
	}
	row(out, "I/O path", "%s, %s, %u x %s in flight, sync %s, %s on %s", io->engine, io->mode,
	    io->io_depth, fmt_size_exact(size, sizeof(size), io->io_size_bytes), or_none(io->sync),
	    *io->filesystem ? io->filesystem : "unknown file system",
	    *io->device ? io->device : "unknown device");
}

static void header(struct str *out, const struct run_result *r)
{
	rule(out, '=');
	emit(out, "MLPerf Storage KV cache: kv-cache %s%s%s%s", r->version,
	     *r->started_utc ? ", " : "", r->started_utc,
	     r->is_virtual ? ", SIMULATED (virtual clock)" : "");
	rule(out, '=');
	row(out, "model", "%s, %llu bytes per token", r->cfg->model.key,
	    U64(r->cfg->bytes_per_token));
	row(out, "workload", "%s%s%s, seed %llu%s, fingerprint 0x%016llx", or_none(r->workload_source),
	    r->cfg->opt.trace ? "" : " ", r->cfg->opt.trace ? "" : r->cfg->workload.name, U64(r->seed),
	    r->seed_was_drawn ? " (drawn)" : "", U64(r->fingerprint));
	const struct config_options *o = &r->cfg->opt;
	if (o->prefill_only || o->decode_only || o->precondition)
		row(out, "role", "%s%s%s", o->prefill_only ? "prefill only" : o->decode_only ? "decode only" : "prefill and decode",
		    o->precondition ? ", " : "", o->precondition ? "storage tier preconditioned" : "");
	row(out, "load", "%lld users, at most %u requests in service, %u worker%s",
	    (long long)r->cfg->opt.num_users, r->in_service_max, r->workers,
	    r->workers == 1 ? "" : "s");
	row(out, "window", "%s s%s", num(window_s(r)).s,
	    r->is_interrupted ? " - INTERRUPTED, the result is partial" : "");
	if (r->pool) {
		static const struct scope none;
		json_t *list = result_part_ranks(r, &none);
		row(out, "ranks", "%zu on %u host%s, with these users each; windows opened within %s s", json_array_size(list),
		    result_hosts(r), result_hosts(r) == 1 ? "" : "s", num(result_window_skew_s(r)).s);
		json_decref(list);
	}
	tiers_line(out, r);
	io_line(out, r);
}

/* ---- first things first ---- */

static void storage_section(struct str *out, const struct run_result *r)
{
	const struct run_io *io = &r->io;
	uint64_t ops[DIRECTIONS], bytes[DIRECTIONS];
	for (unsigned d = 0; d < DIRECTIONS; d++) {
		ops[d] = count(r, COUNT_TIER_OPS(TIER_STORAGE, d));
		bytes[d] = count(r, COUNT_TIER_BYTES(TIER_STORAGE, d));
	}
	heading(out, "STORAGE TIER");
	row(out, "", "%-30s %s", "read", "write");
	row(out, "bandwidth", "%-30s %s", speed(per_s(r, (double)bytes[DIR_READ])).s,
	    speed(per_s(r, (double)bytes[DIR_WRITE])).s);
	if (io->has_device_counters)
		row(out, "device, by the kernel", "%-30s %s",
		    speed(ratio((double)io->device_read_bytes, result_sampled_s(io))).s,
		    speed(ratio((double)io->device_written_bytes, result_sampled_s(io))).s);
	row(out, "moved", "%-30s %s", binary(bytes[DIR_READ]).s, binary(bytes[DIR_WRITE]).s);
	row(out, "entries/s", "%-30s %s", some(per_s(r, (double)ops[DIR_READ])).s,
	    some(per_s(r, (double)ops[DIR_WRITE])).s);
}

static void latency_row(struct str *out, const char *label, const struct hist *h)
{
	row(out, label, "%10s %10s %10s %10s %12llu", ms(h, STAT_P50).s, ms(h, STAT_P95).s,
	    ms(h, STAT_P99).s, ms(h, STAT_MAX).s, U64(h->count));
}

static void fairness_row(struct str *out, const struct run_result *r, enum metric_direction dir)
{
	struct fairness f = result_fairness(r, dir);
	char from[32], to[32];
	if (!f.ops)
		return;
	row(out, dir == DIR_READ ? "fairness of reads" : "fairness of writes",
	    "fastest %s x the mean, %llu entries of %s to %s", num(f.max_over_mean).s, U64(f.ops),
	    fmt_bytes(from, sizeof(from), f.min_bytes),
	    fmt_bytes(to, sizeof(to), 4 * MAX(f.min_bytes, metric_size_class_min(1) / 4)));
}

static void device_section(struct str *out, const struct run_result *r)
{
	heading(out, "STORAGE LATENCY PER ENTRY, ms");
	row(out, "", "%10s %10s %10s %10s %12s", "P50", "P95", "P99", "max", "samples");
	latency_row(out, "device read", tier_hist(r, TIER_STORAGE, DIR_READ, PART_DEVICE));
	latency_row(out, "device write, durable",
		    tier_hist(r, TIER_STORAGE, DIR_WRITE, PART_DEVICE));
	latency_row(out, "fsync", &r->m->hist[HIST_FSYNC]);
	fairness_row(out, r, DIR_READ);
	fairness_row(out, r, DIR_WRITE);
}

static void qos_row(struct str *out, const struct run_result *r, enum config_qos q)
{
	uint64_t offered = count(r, COUNT_QOS(q, QOS_OFFERED));
	uint64_t served = count(r, COUNT_QOS(q, QOS_COMPLETED));
	const struct hist *h = &r->m->hist[HIST_QOS(q)];
	row(out, config_qos_name(q), "%9llu %9llu %9s %9llu %9s %9s %9s", U64(offered), U64(served),
	    percent(ratio((double)served, (double)offered)).s,
	    U64(count(r, COUNT_QOS(q, QOS_QUEUED_AT_END))),
	    some((double)r->m->oldest_age_ns[q] / 1e9).s, ms(h, STAT_P95).s,
	    num(r->cfg->workload.qos[q].target_p95_ms).s);
}

static void request_section(struct str *out, const struct run_result *r)
{
	uint64_t hits = count(r, COUNT_CACHE_HITS);
	heading(out, "REQUESTS");
	row(out, "requests/s", "%s (%llu completed)",
	    some(per_s(r, (double)count(r, COUNT_REQUESTS_COMPLETED))).s,
	    U64(count(r, COUNT_REQUESTS_COMPLETED)));
	uint64_t failed = metrics_qos_total(r->m, QOS_FAILED);
	if (failed)
		row(out, "requests that failed", "%llu: a read or write of theirs did; they are in no rate or latency",
		    U64(failed));
	row(out, "generated tokens/s", "%s", some(tokens_per_s(r)).s);
	row(out, "cache hit rate", "%s (%llu of %llu lookups)", percent(hit_rate(r)).s, U64(hits),
	    U64(hits + count(r, COUNT_CACHE_MISSES)));
	row(out, "served against offered", "%9s %9s %9s %9s %9s %9s %9s", "offered", "served",
	    "share", "queued", "oldest s", "P95 ms", "target ms");
	for (unsigned q = 0; q < QOS_COUNT; q++)
		qos_row(out, r, q);
}

static void verdict_row(struct str *out, const char *label, const struct verdict *v)
{
	const char *answer = !v->is_known ? "not known" : v->value ? "yes" : "no";
	row(out, label, "%s%s%s", answer, *v->why ? ": " : "", v->why);
}

static void trust_section(struct str *out, const struct run_result *r)
{
	const struct error_log *errors = r->errors;
	heading(out, "CAN IT BE TRUSTED?");
	row(out, "valid", "%s%s", r->is_valid ? "yes" : "NO: ", r->is_valid ? "" : r->invalid_why);
	row(out, "errors", "%llu (retried transfers: %llu)", U64(errors->total),
	    U64(count(r, COUNT_RETRIES)));
	for (unsigned i = 0; i < errors->classes; i++)
		row(out, "", "%llu x %s; the first: %s", U64(errors->v[i].count), errors->v[i].name,
		    errors->v[i].first);
	verdict_row(out, "client was the bottleneck", &r->client_bound);
	verdict_row(out, "page cache bypassed", &r->page_cache_bypassed);
	verdict_row(out, "enough samples", &r->enough_samples);
	verdict_row(out, "steady state", &r->steady_state);
	for (size_t i = 0; i < r->notices->count; i++)
		row(out, "notice", "%s", r->notices->v[i]);
}

/* ---- the reference's sections ---- */

static struct num tokens_size(const struct run_result *r, double tokens)
{
	return binary(config_entry_bytes(r->cfg, (uint64_t)tokens));
}

/* Who asks, and how large what they ask for is. */
static void user_section(struct str *out, const struct run_result *r)
{
	const struct run_users *u = &r->users;
	uint64_t written = count(r, COUNT_WRITE_OPS);
	heading(out, "USERS AND ENTRIES");
	if (u->count > 0) {
		row(out, "", "%14s %14s %14s", "smallest", "mean", "largest");
		row(out, "context, tokens", "%14u %14.0f %14u", u->context_min, u->context_mean, u->context_max);
		row(out, "as one entry", "%14s %14s %14s", tokens_size(r, u->context_min).s,
		    tokens_size(r, u->context_mean).s, tokens_size(r, u->context_max).s);
		row(out, "users", "%u interactive, %u responsive, %u batch", u->by_qos[QOS_INTERACTIVE],
		    u->by_qos[QOS_RESPONSIVE], u->by_qos[QOS_BATCH]);
	}
	row(out, "bytes per token", "%llu", U64(r->cfg->bytes_per_token / (uint64_t)r->cfg->opt.tensor_parallel));
	row(out, "entries written", "%llu, %s each in the mean", U64(written),
	    written > 0 ? binary(count(r, COUNT_WRITE_BYTES) / written).s : "-");
}

static void overall_section(struct str *out, const struct run_result *r)
{
	double io_s = hist_sum_ns(&r->m->hist[HIST_REQUEST_STORAGE]) / 1e9;
	double tokens = (double)count(r, COUNT_TOKENS_GENERATED);
	heading(out, "OVERALL PERFORMANCE");
	row(out, "requests completed", "%llu", U64(count(r, COUNT_REQUESTS_COMPLETED)));
	row(out, "tokens generated", "%llu", U64(count(r, COUNT_TOKENS_GENERATED)));
	row(out, "time in storage I/O", io_s > 0 ? "%s s, summed over requests" : "%s", some(io_s).s);
	row(out, "tokens per s of that time", "%s", some(ratio(tokens, io_s)).s);
}

static void request_latency_row(struct str *out, const char *label, const struct hist *h)
{
	row(out, label, "%10s %10s %10s %10s %10s %10s", ms(h, STAT_MEAN).s, ms(h, STAT_P50).s,
	    ms(h, STAT_P95).s, ms(h, STAT_P99).s, ms(h, STAT_P999).s, ms(h, STAT_P9999).s);
}

static void request_latency_section(struct str *out, const struct run_result *r)
{
	const struct hist *h = r->m->hist;
	heading(out, "LATENCY PER REQUEST, ms");
	row(out, "", "%10s %10s %10s %10s %10s %10s", "mean", "P50", "P95", "P99", "P99.9",
	    "P99.99");
	request_latency_row(out, "end to end", &h[HIST_RESPONSE]);
	request_latency_row(out, "  waiting in the queue", &h[HIST_QUEUE_WAIT]);
	request_latency_row(out, "  in service", &h[HIST_SERVICE]);
	request_latency_row(out, "storage I/O, all tiers", &h[HIST_REQUEST_STORAGE]);
	if (r->cfg->opt.generation_mode != GENERATION_NONE)
		request_latency_row(out, "token generation", &h[HIST_GENERATION]);
}

static void cache_io_section(struct str *out, const struct run_result *r)
{
	double ratio_rw = read_write_ratio(r);
	heading(out, "STORAGE PERFORMANCE, as requests see it: all tiers, no demotions");
	row(out, "read", "%s, %s entries/s", binary(count(r, COUNT_READ_BYTES)).s,
	    some(per_s(r, (double)count(r, COUNT_READ_OPS))).s);
	row(out, "written", "%s, %s entries/s", binary(count(r, COUNT_WRITE_BYTES)).s,
	    some(per_s(r, (double)count(r, COUNT_WRITE_OPS))).s);
	row(out, "read : write", "%s",
	    count(r, COUNT_WRITE_BYTES) > 0 ? some(ratio_rw).s : "- (nothing written)");
	row(out, "evicted", "%llu entries; %s demoted, %s deleted", U64(count(r, COUNT_EVICTIONS)),
	    binary(count(r, COUNT_DEMOTED_BYTES)).s, binary(count(r, COUNT_DELETED_BYTES)).s);
}

static void tier_section(struct str *out, const struct run_result *r)
{
	heading(out, "CACHE TIERS, bytes of demotions included");
	row(out, "", "%8s %11s %11s %11s %12s %12s", "entries", "used", "read", "written",
	    "read P95 ms", "write P95 ms");
	for (unsigned t = 0; t < TIER_CLASSES; t++) {
		const struct run_tier *tier = &r->tier[t];
		if (!tier->is_present)
			continue;
		row(out, config_tier_name(t), "%8llu %11s %11s %11s %12s %12s", U64(tier->entries),
		    binary(tier->used_bytes).s, binary(count(r, COUNT_TIER_BYTES(t, DIR_READ))).s,
		    binary(count(r, COUNT_TIER_BYTES(t, DIR_WRITE))).s,
		    ms(tier_hist(r, t, DIR_READ, PART_TOTAL), STAT_P95).s,
		    ms(tier_hist(r, t, DIR_WRITE, PART_TOTAL), STAT_P95).s);
	}
}

static void breakdown_section(struct str *out, const struct run_result *r)
{
	static const char *const labels[DIRECTIONS] = {"read", "write"};
	heading(out, "STORAGE TIER LATENCY BREAKDOWN, P95, ms");
	row(out, "", "%10s %10s %10s", "device", "host", "total");
	for (unsigned d = 0; d < DIRECTIONS; d++)
		row(out, labels[d], "%10s %10s %10s",
		    ms(tier_hist(r, TIER_STORAGE, d, PART_DEVICE), STAT_P95).s,
		    ms(tier_hist(r, TIER_STORAGE, d, PART_HOST), STAT_P95).s,
		    ms(tier_hist(r, TIER_STORAGE, d, PART_TOTAL), STAT_P95).s);
}

static void hit_section(struct str *out, const struct run_result *r)
{
	uint64_t prefix_hits = count(r, COUNT_PREFIX_HITS),
		 turn_hits = count(r, COUNT_MULTI_TURN_HITS);
	heading(out, "CACHE HITS");
	row(out, "by type", "%llu system prompt, %llu multi-turn, %llu other",
	    U64(count(r, COUNT_HITS_SYSTEM)), U64(count(r, COUNT_HITS_MULTI_TURN)),
	    U64(count(r, COUNT_HITS_USER)));
	if (prefix_hits > 0)
		row(out, "prefix caching", "%llu hits, %llu misses, %s not computed again",
		    U64(prefix_hits), U64(count(r, COUNT_PREFIX_MISSES)),
		    binary(count(r, COUNT_PREFIX_BYTES_SAVED)).s);
	if (turn_hits > 0)
		row(out, "multi-turn conversations", "%llu hits, %llu misses", U64(turn_hits),
		    U64(count(r, COUNT_MULTI_TURN_MISSES)));
}

static void qos_latency_section(struct str *out, const struct run_result *r)
{
	heading(out, "QOS LATENCY, ms, from the intended arrival");
	row(out, "", "%10s %10s %10s %10s %10s %14s", "mean", "P50", "P95", "P99", "max",
	    "within target");
	for (unsigned q = 0; q < QOS_COUNT; q++) {
		const struct hist *h = &r->m->hist[HIST_QOS(q)];
		row(out, config_qos_name(q), "%10s %10s %10s %10s %10s %14s", ms(h, STAT_MEAN).s,
		    ms(h, STAT_P50).s, ms(h, STAT_P95).s, ms(h, STAT_P99).s, ms(h, STAT_MAX).s,
		    percent(result_qos_compliance(r, q)).s);
	}
}

/* A number of a rank's line, in @unit. */
static struct num rank_num(json_t *rank, const char *key, double unit)
{
	json_t *value = json_object_get(rank, key);
	return num(json_is_number(value) ? json_number_value(value) / unit : NAN);
}

static void ranks_section(struct str *out, const struct run_result *r)
{
	enum { RANKS_SHOWN = 16 };
	static const struct scope none;
	if (!r->pool)
		return;
	json_t *list = result_part_ranks(r, &none), *rank;
	size_t n = json_array_size(list), i;
	heading(out, "RANKS");
	row(out, "", "%9s %9s %9s %10s %10s %10s %6s", "window s", "read", "write", "requests", "read P95",
	    "write P95", "valid");
	row(out, "", "%9s %9s %9s %10s %10s %10s", "", "GB/s", "GB/s", "", "device ms", "device ms");
	json_array_foreach(list, i, rank) {
		char label[64];
		if (i == RANKS_SHOWN)
			break;
		snprintf(label, sizeof(label), "%zu %.20s", i, json_string_value(json_object_get(rank, "host")));
		row(out, label, "%9s %9s %9s %10lld %10s %10s %6s", rank_num(rank, "window_s", 1).s,
		    rank_num(rank, "storage_read_bytes_per_s", 1e9).s,
		    rank_num(rank, "storage_write_bytes_per_s", 1e9).s,
		    (long long)json_integer_value(json_object_get(rank, "requests_completed")),
		    rank_num(rank, "storage_read_device_p95_ms", 1).s,
		    rank_num(rank, "storage_write_device_p95_ms", 1).s,
		    json_is_true(json_object_get(rank, "valid")) ? "yes" : "NO");
	}
	if (n > RANKS_SHOWN)
		row(out, "", "and %zu more, in the result file", n - RANKS_SHOWN);
	json_decref(list);
}

static void cost_section(struct str *out, const struct run_result *r)
{
	if (r->is_virtual)
		return;
	heading(out, "COST OF MEASURING");
	row(out, "memory", "%s at most, %s predicted", binary(r->rss_peak_bytes).s,
	    binary(r->predicted_bytes).s);
	row(out, "CPU time in the window", "%s s user, %s s system", num(r->cpu_user_s).s,
	    num(r->cpu_system_s).s);
}

int result_text(const struct run_result *r, FILE *out)
{
	CLEANUP_STR struct str text = {0};
	header(&text, r);
	storage_section(&text, r);
	device_section(&text, r);
	request_section(&text, r);
	trust_section(&text, r);
	ranks_section(&text, r);
	emit(&text, "%s", "");
	rule(&text, '-');
	user_section(&text, r);
	overall_section(&text, r);
	request_latency_section(&text, r);
	cache_io_section(&text, r);
	tier_section(&text, r);
	breakdown_section(&text, r);
	hit_section(&text, r);
	if (r->cfg->opt.performance_profile == PROFILE_LATENCY)
		qos_latency_section(&text, r);
	cost_section(&text, r);
	rule(&text, '=');
	if (text.rc)
		return text.rc;
	return fwrite(text.s, 1, text.len, out) == text.len && fflush(out) == 0 ? 0 : -EIO;
}
