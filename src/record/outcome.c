// SPDX-License-Identifier: Apache-2.0
/* The few numbers of a result file that the metadata repeats; three generations keep them in
 * different places. */
#include <string.h>

#include "record/record_internal.h"

#define GIB 1073741824.0
#define MB  1e6
#define GB  1e9

json_t *record_at(json_t *root, const char *path)
{
	json_t *at = root;
	while (at && *path) {
		size_t len = strcspn(path, ".");
		at = json_object_getn(at, path, len);
		path += len;
		path += *path == '.';
	}
	return at;
}

static bool outcome_number(json_t *root, const char *path, double *ret)
{
	json_t *at = record_at(root, path);
	if (!json_is_number(at))
		return false;
	*ret = json_number_value(at);
	return true;
}

/* Sum of two numbers, either of which may be missing. */
static bool outcome_sum(json_t *root, const char *a, const char *b, double *ret)
{
	double x = 0;
	double y = 0;
	bool has_x = outcome_number(root, a, &x);
	bool has_y = outcome_number(root, b, &y);
	if (!has_x && !has_y)
		return false;
	*ret = x + y;
	return true;
}

/* The storage tier's own bytes where they are told (ours, V3), else those of all tiers together
 * (V1). */
static json_t *outcome_storage_mb_per_s(json_t *root, double duration_s)
{
	double bytes;
	double seconds = duration_s;
	if (outcome_sum(root, "measured.storage.read_bytes", "measured.storage.write_bytes",
			&bytes)) {
		outcome_number(root, "measured.window_s", &seconds);
		return seconds > 0 ? json_real(bytes / seconds / MB) : json_null();
	}
	outcome_number(root, "summary.elapsed_time", &seconds);
	if (!(seconds > 0))
		return json_null();
	if (outcome_sum(root, "summary.cache_stats.tier_storage_kv_bytes_read_gb",
			"summary.cache_stats.tier_storage_kv_bytes_written_gb", &bytes))
		return json_real(bytes * GIB / seconds / MB);
	if (outcome_sum(root, "summary.cache_stats.total_read_bytes",
			"summary.cache_stats.total_write_bytes", &bytes))
		return json_real(bytes / seconds / MB);
	return json_null();
}

/* Read from the storage tier, GB (10^9) per second; V1 does not tell the tiers apart. */
static json_t *outcome_storage_read_gb_per_s(json_t *root, double duration_s)
{
	double bytes;
	double seconds = duration_s;
	if (outcome_number(root, "measured.storage.read_bytes", &bytes)) {
		outcome_number(root, "measured.window_s", &seconds);
	} else if (outcome_number(root, "summary.cache_stats.tier_storage_kv_bytes_read_gb", &bytes)) {
		bytes *= GIB;
		outcome_number(root, "summary.elapsed_time", &seconds);
	} else {
		return json_null();
	}
	return seconds > 0 ? json_real(bytes / seconds / GB) : json_null();
}

static json_t *outcome_passed(json_t *root)
{
	json_t *status = record_at(root, "summary.cache_stats.storage_health.overall_status");
	const char *text = json_string_value(status);
	return text ? json_boolean(!strcmp(text, "PASS")) : json_null();
}

static json_t *outcome_copy(json_t *root, const char *path)
{
	json_t *at = record_at(root, path);
	return json_is_number(at) ? json_incref(at) : json_null();
}

static json_t *outcome_metrics(json_t *root, double duration_s)
{
	return json_pack(
		"{so, so, so, so, so, so, so, so}", "overall_passed", outcome_passed(root),
		"total_requests", outcome_copy(root, "summary.total_requests"), "avg_latency_ms",
		outcome_copy(root, "summary.end_to_end_latency_ms.mean"), "p99_latency_ms",
		outcome_copy(root, "summary.end_to_end_latency_ms.p99"), "throughput_req_per_sec",
		outcome_copy(root, "summary.requests_per_second"), "storage_throughput_mbps",
		outcome_storage_mb_per_s(root, duration_s), "storage_read_gb_per_s",
		outcome_storage_read_gb_per_s(root, duration_s), "cache_hit_rate",
		outcome_copy(root, "summary.cache_stats.cache_hit_rate"));
}

static int outcome_load(const char *path, json_t **ret, struct error *err)
{
	json_error_t why;
	FILE *f = fopen(path, "re");
	if (!f) {
		int rc = -errno;
		return error_set(err, rc, ERR_RUN_FAILED, "cannot read the result file %s: %s",
				 path, strerror(-rc));
	}
	json_t *root = json_loadf(f, 0, &why);
	fclose(f);
	if (!root)
		return error_set(err, -EINVAL, ERR_RUN_FAILED,
				 "the result file %s is not JSON: line %d: %s", path, why.line,
				 why.text);
	if (!json_is_object(root)) {
		json_decref(root);
		return error_set(err, -EINVAL, ERR_RUN_FAILED,
				 "the result file %s holds no JSON object", path);
	}
	*ret = root;
	return 0;
}

int record_outcome_read(const char *path, double duration_s, struct record_outcome *ret,
			struct error *err)
{
	json_t *root = NULL;
	int rc = outcome_load(path, &root, err);
	if (rc)
		return rc;
	struct record_outcome outcome = {
		.metrics = outcome_metrics(root, duration_s),
		.has_verdict = json_object_get(root, "schema_version") != NULL,
	};
	outcome_number(root, "summary.total_requests", &outcome.completed);
	json_decref(root);
	if (!outcome.metrics)
		return error_set(err, -ENOMEM, ERR_INTERNAL, "out of memory");
	*ret = outcome;
	return 0;
}

void record_outcome_release(struct record_outcome *o)
{
	json_decref(o->metrics);
	*o = (struct record_outcome){0};
}
