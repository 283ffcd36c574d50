// SPDX-License-Identifier: Apache-2.0
/* Numbers of many ranks in one: a table of where they stand and of how they are put together. */
#include "record/aggregate.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/attr.h"
#include "base/str.h"
#include "record/record_internal.h"

enum operation { SUM, MAX };

/* Fields that are also used by name. */
enum { FIELD_REQUESTS, FIELD_MEAN_LATENCY, FIELD_ENTRIES };

/* A number of a rank's result. */
static const struct field {
	const char *path;
	const char *path_v1; /* name in the first generation of results, NULL: the same */
	enum operation operation;
	const char *key;     /* in the aggregate; NULL: not there */
	bool is_summed_up;   /* stands in record_aggregate_summary() under its path */
} fields[] = {
	[FIELD_REQUESTS] = {"summary.total_requests", NULL, SUM, NULL, true},
	[FIELD_MEAN_LATENCY] = {"summary.end_to_end_latency_ms.mean", NULL, SUM, NULL, false},
	[FIELD_ENTRIES] = {"summary.cache_stats.storage_entries", "summary.cache_stats.nvme_entries", SUM, NULL, true},
	{"summary.cache_stats.tier_storage_read_bandwidth_gbps", NULL, SUM, "aggregated_read_bandwidth_gbps", true},
	{"summary.cache_stats.tier_storage_write_bandwidth_gbps", NULL, SUM, "aggregated_write_bandwidth_gbps", true},
	{"summary.avg_throughput_tokens_per_sec", NULL, SUM, "aggregated_avg_throughput_tokens_per_sec", true},
	{"summary.storage_throughput_tokens_per_sec", NULL, SUM, "aggregated_storage_throughput_tokens_per_sec", true},
	{"summary.storage_io_latency_ms.p95", NULL, MAX, "aggregated_p95_latency_ms", false},
	{"summary.cache_stats.storage_read_p95_ms", "summary.cache_stats.nvme_read_p95_ms", MAX,
	 "aggregated_storage_read_p95_ms", false},
	{"summary.cache_stats.storage_read_device_p95_ms", "summary.cache_stats.nvme_read_device_p95_ms", MAX,
	 "aggregated_device_read_p95_ms", false},
	{"summary.cache_stats.storage_write_device_p95_ms", "summary.cache_stats.nvme_write_device_p95_ms", MAX,
	 "aggregated_device_write_p95_ms", false},
	{"summary.requests_per_second", NULL, SUM, NULL, true},
	{"summary.elapsed_time", NULL, MAX, NULL, true},
	{"summary.cache_stats.total_read_bytes", NULL, SUM, NULL, true},
	{"summary.cache_stats.total_write_bytes", NULL, SUM, NULL, true},
	{"measured.storage.read_bytes", NULL, SUM, NULL, true},
	{"measured.storage.write_bytes", NULL, SUM, NULL, true},
	{"measured.window_s", NULL, MAX, NULL, true},
};

_Static_assert(ARRAY_LEN(fields) <= 32, "a rank's bits");

struct rank {
	bool is_there, is_partial;
	uint32_t has; /* bit i: value[i] was in the result */
	double value[ARRAY_LEN(fields)];
};

struct record_aggregate {
	uint32_t count;
	const char *file;
	struct rank ranks[];
};

struct record_aggregate *record_aggregate_new(uint32_t ranks, const char *file)
{
	struct record_aggregate *a = calloc(1, sizeof(*a) + ranks * sizeof(a->ranks[0]));
	if (!a)
		return NULL;
	a->count = ranks;
	a->file = file;
	return a;
}

void record_aggregate_free(struct record_aggregate *a)
{
	free(a);
}

static void read_fields(struct rank *rank, json_t *root)
{
	rank->has = 0;
	for (size_t i = 0; i < ARRAY_LEN(fields); i++) {
		json_t *value = record_at(root, fields[i].path);
		if (!value && fields[i].path_v1)
			value = record_at(root, fields[i].path_v1);
		rank->value[i] = json_number_value(value); /* 0 for anything else */
		if (json_is_number(value))
			rank->has |= UINT32_C(1) << i;
	}
}

int record_aggregate_add(struct record_aggregate *a, uint32_t rank, const char *text, size_t len)
{
	if (rank >= a->count)
		return -ERANGE;
	json_t *root = json_loadb(text, len, 0, NULL);
	int rc = json_is_object(root) ? 0 : -EINVAL;
	struct rank *r = &a->ranks[rank];
	r->is_there = !rc;
	r->is_partial = !rc && json_is_true(json_object_get(root, "partial"));
	if (!rc)
		read_fields(r, root);
	json_decref(root);
	return rc;
}

static bool has_field(const struct rank *r, size_t field)
{
	return r->is_there && r->has & UINT32_C(1) << field;
}

/* Return: is there any rank to speak of? A sum over ranks that do not say it is 0, a maximum is not there. */
static bool combine(const struct record_aggregate *a, size_t field, double *ret)
{
	bool is_any = false;
	*ret = 0;
	for (uint32_t i = 0; i < a->count; i++) {
		const struct rank *r = &a->ranks[i];
		bool has = has_field(r, field);
		if (fields[field].operation == SUM) {
			*ret += has ? r->value[field] : 0;
			is_any = is_any || r->is_there;
		} else if (has && (!is_any || r->value[field] > *ret)) {
			*ret = r->value[field];
			is_any = true;
		}
	}
	return is_any;
}

static bool is_missing(const struct rank *r)
{
	return !r->is_there;
}

static bool is_partial(const struct rank *r)
{
	return r->is_partial;
}

static bool is_cpu_tier(const struct rank *r)
{
	return has_field(r, FIELD_ENTRIES) && r->value[FIELD_ENTRIES] == 0;
}

static json_t *list_files(const struct record_aggregate *a, bool (*is_listed)(const struct rank *))
{
	json_t *list = json_array();
	for (uint32_t i = 0; list && i < a->count; i++)
		if (is_listed(&a->ranks[i]) &&
		    json_array_append_new(list, json_sprintf("rank_%" PRIu32 "/%s", i, a->file))) {
			json_decref(list);
			return NULL;
		}
	return list;
}

/* Counts are whole numbers in every result, and stay so. */
static json_t *number(double value)
{
	bool is_whole = value >= 0 && value < 9007199254740992.0 && value == (double)(json_int_t)value;
	return is_whole ? json_integer((json_int_t)value) : json_real(value);
}

json_t *record_aggregate_json(const struct record_aggregate *a)
{
	json_t *missing = list_files(a, is_missing), *partial = list_files(a, is_partial);
	bool is_failure = json_array_size(missing) || json_array_size(partial);
	json_t *all = json_pack("{s:I, s:i, s:b, s:o, s:o, s:o}", "rank_count", (json_int_t)a->count, "trial_count", 1,
				"partial_failure", is_failure, "missing_files", missing, "partial_files", partial,
				"cpu_tier_ranks", list_files(a, is_cpu_tier));
	for (size_t i = 0; all && i < ARRAY_LEN(fields); i++) {
		double value;
		if (fields[i].key && json_object_set_new(all, fields[i].key, combine(a, i, &value) ? json_real(value) : json_null())) {
			json_decref(all);
			return NULL;
		}
	}
	return all;
}

/* Set "a.b.c", making the objects on the way. Takes @value. */
static int set_path(json_t *root, const char *path, json_t *value)
{
	json_t *at = root;
	for (size_t len; (len = strcspn(path, ".")) < strlen(path); path += len + 1) {
		json_t *next = json_object_getn(at, path, len);
		if (!next && !json_object_setn_new(at, path, len, json_object()))
			next = json_object_getn(at, path, len);
		at = next;
	}
	return json_object_set_new(at, path, value);
}

static double mean_latency(const struct record_aggregate *a)
{
	double requests = 0, sum = 0;
	for (uint32_t i = 0; i < a->count; i++) {
		const struct rank *r = &a->ranks[i];
		if (!has_field(r, FIELD_MEAN_LATENCY) || !has_field(r, FIELD_REQUESTS))
			continue;
		requests += r->value[FIELD_REQUESTS];
		sum += r->value[FIELD_REQUESTS] * r->value[FIELD_MEAN_LATENCY];
	}
	return requests > 0 ? sum / requests : -1;
}

static bool any_has(const struct record_aggregate *a, size_t field)
{
	for (uint32_t i = 0; i < a->count; i++)
		if (has_field(&a->ranks[i], field))
			return true;
	return false;
}

json_t *record_aggregate_summary(const struct record_aggregate *a)
{
	json_t *all = json_object();
	double mean = mean_latency(a);
	int rc = all ? 0 : -ENOMEM;
	for (size_t i = 0; !rc && i < ARRAY_LEN(fields); i++) {
		double value;
		if (fields[i].is_summed_up && any_has(a, i) && combine(a, i, &value))
			rc = set_path(all, fields[i].path, number(value));
	}
	if (!rc && mean >= 0)
		rc = set_path(all, fields[FIELD_MEAN_LATENCY].path, json_real(mean));
	if (!rc)
		return all;
	json_decref(all);
	return NULL;
}
