// SPDX-License-Identifier: Apache-2.0
/* Sums and maxima over ranks, checked against the reference's rules. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "record/aggregate.h"

static int add(struct record_aggregate *a, uint32_t rank, const char *text)
{
	return record_aggregate_add(a, rank, text, strlen(text));
}

#define RESULT(read, write, tokens, p95, entries)                                                         \
	"{\"summary\": {\"total_requests\": 10, \"avg_throughput_tokens_per_sec\": " tokens               \
	", \"storage_throughput_tokens_per_sec\": 1.5, \"storage_io_latency_ms\": {\"p95\": " p95         \
	"}, \"end_to_end_latency_ms\": {\"mean\": " p95                                                   \
	"}, \"cache_stats\": {\"tier_storage_read_bandwidth_gbps\": " read                                \
	", \"tier_storage_write_bandwidth_gbps\": " write ", \"storage_entries\": " entries "}}}"

static double number_of(json_t *all, const char *key)
{
	json_t *value = json_object_get(all, key);
	assert_true(json_is_number(value));
	return json_number_value(value);
}

static void sums_and_maxima(void **state)
{
	(void)state;
	struct record_aggregate *a = record_aggregate_new(3, "r.json");
	assert_int_equal(add(a, 0, RESULT("1.5", "0.5", "100", "7.0", "3")), 0);
	assert_int_equal(add(a, 1, RESULT("2.5", "0.25", "50", "9.0", "0")), 0);
	assert_int_equal(add(a, 2, RESULT("0", "0", "25", "8.0", "2")), 0);
	json_t *all = record_aggregate_json(a);
	assert_true(number_of(all, "aggregated_read_bandwidth_gbps") == 4.0);
	assert_true(number_of(all, "aggregated_write_bandwidth_gbps") == 0.75);
	assert_true(number_of(all, "aggregated_avg_throughput_tokens_per_sec") == 175.0);
	assert_true(number_of(all, "aggregated_storage_throughput_tokens_per_sec") == 4.5);
	assert_true(number_of(all, "aggregated_p95_latency_ms") == 9.0);
	assert_true(json_is_null(json_object_get(all, "aggregated_storage_read_p95_ms")));
	assert_int_equal(number_of(all, "rank_count"), 3);
	assert_true(json_is_false(json_object_get(all, "partial_failure")));
	assert_int_equal(json_array_size(json_object_get(all, "missing_files")), 0);
	json_t *cpu = json_object_get(all, "cpu_tier_ranks");
	assert_int_equal(json_array_size(cpu), 1);
	assert_string_equal(json_string_value(json_array_get(cpu, 0)), "rank_1/r.json");
	json_decref(all);
	record_aggregate_free(a);
}

/* An absent percentile is skipped, a present zero counts; names of the first generation are known. */
static void percentiles_of_the_device(void **state)
{
	(void)state;
	struct record_aggregate *a = record_aggregate_new(3, "r.json");
	assert_int_equal(add(a, 0, "{\"summary\": {\"cache_stats\": {\"storage_read_p95_ms\": 0.0}}}"), 0);
	assert_int_equal(add(a, 1, "{\"summary\": {\"cache_stats\": {\"storage_read_device_p95_ms\": 3.5, "
				   "\"storage_write_device_p95_ms\": 6.5}}}"), 0);
	assert_int_equal(add(a, 2, "{\"summary\": {\"cache_stats\": {\"nvme_read_device_p95_ms\": 4.5}}}"), 0);
	json_t *all = record_aggregate_json(a);
	assert_true(number_of(all, "aggregated_storage_read_p95_ms") == 0.0);
	assert_true(number_of(all, "aggregated_device_read_p95_ms") == 4.5);
	assert_true(number_of(all, "aggregated_device_write_p95_ms") == 6.5);
	assert_true(number_of(all, "aggregated_read_bandwidth_gbps") == 0.0);
	json_decref(all);
	record_aggregate_free(a);
}

static void missing_and_partial_ranks_are_listed(void **state)
{
	(void)state;
	struct record_aggregate *a = record_aggregate_new(4, "r.json");
	assert_int_equal(add(a, 4, "{}"), -ERANGE);
	assert_int_equal(add(a, 1, "{\"summary\":"), -EINVAL);
	assert_int_equal(add(a, 2, "[]"), -EINVAL);
	assert_int_equal(add(a, 3, "{\"partial\": true}"), 0);
	json_t *all = record_aggregate_json(a);
	assert_true(json_is_true(json_object_get(all, "partial_failure")));
	assert_int_equal(json_array_size(json_object_get(all, "missing_files")), 3);
	assert_int_equal(json_array_size(json_object_get(all, "partial_files")), 1);
	json_decref(all);
	/* the whole result takes the place of the partial one */
	assert_int_equal(add(a, 3, RESULT("1", "1", "1", "1", "1")), 0);
	all = record_aggregate_json(a);
	assert_int_equal(json_array_size(json_object_get(all, "partial_files")), 0);
	assert_true(number_of(all, "aggregated_read_bandwidth_gbps") == 1.0);
	json_decref(all);
	record_aggregate_free(a);
}

static void without_any_rank_all_is_null(void **state)
{
	(void)state;
	struct record_aggregate *a = record_aggregate_new(2, "r.json");
	json_t *all = record_aggregate_json(a);
	assert_true(json_is_null(json_object_get(all, "aggregated_read_bandwidth_gbps")));
	assert_true(json_is_null(json_object_get(all, "aggregated_p95_latency_ms")));
	assert_int_equal(json_array_size(json_object_get(all, "missing_files")), 2);
	json_decref(all);
	json_t *summary = record_aggregate_summary(a);
	assert_int_equal(json_object_size(summary), 0);
	json_decref(summary);
	record_aggregate_free(a);
}

static void a_summary_in_place_of_a_pooled_result(void **state)
{
	(void)state;
	struct record_aggregate *a = record_aggregate_new(2, "r.json");
	assert_int_equal(add(a, 0, RESULT("1", "1", "1", "10.0", "1")), 0);
	assert_int_equal(add(a, 1, "{\"summary\": {\"total_requests\": 30, \"end_to_end_latency_ms\": {\"mean\": 2.0}}}"), 0);
	json_t *all = record_aggregate_summary(a);
	json_t *summary = json_object_get(all, "summary");
	assert_int_equal(number_of(summary, "total_requests"), 40);
	assert_true(number_of(json_object_get(summary, "end_to_end_latency_ms"), "mean") == 4.0);
	assert_null(json_object_get(json_object_get(summary, "end_to_end_latency_ms"), "p99"));
	assert_null(json_object_get(summary, "storage_io_latency_ms"));
	json_decref(all);
	record_aggregate_free(a);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(sums_and_maxima),
		cmocka_unit_test(percentiles_of_the_device),
		cmocka_unit_test(missing_and_partial_ranks_are_listed),
		cmocka_unit_test(without_any_rank_all_is_null),
		cmocka_unit_test(a_summary_in_place_of_a_pooled_result),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
