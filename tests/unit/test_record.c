// SPDX-License-Identifier: Apache-2.0
/* Run directories, the metadata in them, and the numbers taken from result files of three
 * generations. */
#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/file.h"
#include "record/record.h"

static char root[64];

static int set_up(void **state)
{
	(void)state;
	snprintf(root, sizeof(root), "/tmp/test_record.XXXXXX");
	return mkdtemp(root) ? 0 : -1;
}

static int tear_down(void **state)
{
	(void)state;
	char command[128];
	snprintf(command, sizeof(command), "rm -rf %s", root);
	return system(command);
}

static struct record_spec spec_at(time_t when)
{
	return (struct record_spec){
		.results_dir = root,
		.benchmark = "kv_cache",
		.model = "tiny-1b",
		.command = "run",
		.version = "1.2.3",
		.command_line = "mlpstorage kvcache run",
		.when = when,
	};
}

static struct record *open_at(time_t when)
{
	struct record *r = NULL;
	struct error err = {0};
	struct record_spec spec = spec_at(when);
	assert_int_equal(record_open(&spec, &r, &err), 0);
	return r;
}

static json_t *load_metadata(const struct record *r)
{
	CLEANUP_FREE char *path = record_path(r, "kv_cache_%s_metadata.json", record_stamp(r));
	json_error_t why;
	json_t *all = json_load_file(path, 0, &why);
	assert_non_null(all);
	return all;
}

static const char *text_of(json_t *all, const char *key)
{
	return json_string_value(json_object_get(all, key));
}

static void test_directory(void **state)
{
	(void)state;
	time_t when = 1700000000;
	char stamp[CLOCK_STAMP_SIZE];
	clock_stamp(stamp, when);
	struct record *r = open_at(when);
	CLEANUP_STR struct str expected = {0};
	str_addf(&expected, "%s/kv_cache/tiny-1b/run/%s", root, stamp);
	assert_string_equal(record_dir(r), str_text(&expected));
	assert_string_equal(record_stamp(r), stamp);
	struct stat st;
	assert_int_equal(stat(record_dir(r), &st), 0);
	assert_true(S_ISDIR(st.st_mode));
	record_free(r);
}

/* Three runs that start in one second have three directories, a second apart by name. */
static void test_collision(void **state)
{
	(void)state;
	time_t when = 1700000000;
	struct record *r[3];
	for (int i = 0; i < 3; i++) {
		char stamp[CLOCK_STAMP_SIZE];
		r[i] = open_at(when);
		clock_stamp(stamp, when + i);
		assert_string_equal(record_stamp(r[i]), stamp);
	}
	for (int i = 0; i < 3; i++)
		record_free(r[i]);
}

static void test_model_is_one_component(void **state)
{
	(void)state;
	struct record *r = NULL;
	struct error err = {0};
	struct record_spec spec = spec_at(1700000000);
	spec.model = "../org/my model";
	assert_int_equal(record_open(&spec, &r, &err), 0);
	CLEANUP_STR struct str lead = {0};
	str_addf(&lead, "%s/kv_cache/_._org_my_model/run/", root);
	assert_memory_equal(record_dir(r), str_text(&lead), lead.len);
	assert_int_equal(record_write(r, RECORD_RUNNING, -1, 0, &err), 0);
	json_t *all = load_metadata(r);
	assert_string_equal(text_of(all, "model"), "../org/my model");
	json_decref(all);
	record_free(r);
}

static void test_directory_in_the_way(void **state)
{
	(void)state;
	struct record *r = NULL;
	struct error err = {0};
	struct record_spec spec = spec_at(1700000000);
	CLEANUP_FREE char *file = path_join(root, "file");
	CLEANUP_FREE char *below = path_join(file, "results");
	assert_int_equal(file_write_atomic(file, "x", 1), 0);
	spec.results_dir = below;
	assert_true(record_open(&spec, &r, &err) < 0);
	assert_int_equal(err.code, ERR_FS_STRUCTURE);
	assert_non_null(strstr(err.message, below));
	assert_null(r);
}

static void test_schema(void **state)
{
	(void)state;
	static const char *const keys[] = {"benchmark_type",
					   "model",
					   "command",
					   "run_datetime",
					   "history_id",
					   "status",
					   "exit_status",
					   "num_processes",
					   "accelerator",
					   "result_dir",
					   "parameters",
					   "override_parameters",
					   "system_info",
					   "runtime",
					   "verification",
					   "executed_command",
					   "command_output_files",
					   "command_line",
					   "argv",
					   "working_directory",
					   "process",
					   "mlpstorage_version",
					   "started_at",
					   "ended_at",
					   "args",
					   "args_source"};
	struct error err = {0};
	struct record *r = open_at(1700000000);
	assert_int_equal(record_write(r, RECORD_RUNNING, -1, 0, &err), 0);
	json_t *all = load_metadata(r);
	for (size_t i = 0; i < ARRAY_LEN(keys); i++)
		if (!json_object_get(all, keys[i]))
			fail_msg("%s is missing", keys[i]);
	assert_int_equal(json_object_size(all), ARRAY_LEN(keys));
	assert_string_equal(text_of(all, "benchmark_type"), "kv_cache");
	assert_string_equal(text_of(all, "run_datetime"), record_stamp(r));
	assert_string_equal(text_of(all, "result_dir"), record_dir(r));
	assert_string_equal(text_of(all, "status"), "running");
	assert_true(json_is_null(json_object_get(all, "exit_status")));
	assert_true(json_is_null(json_object_get(all, "num_processes")));
	assert_true(json_is_null(json_object_get(all, "ended_at")));
	json_decref(all);
	record_free(r);
}

static void test_rewrite(void **state)
{
	(void)state;
	static const struct {
		enum record_status status;
		const char *name;
	} ends[] = {{RECORD_COMPLETE, "complete"},
		    {RECORD_FAILED, "failed"},
		    {RECORD_INTERRUPTED, "interrupted"},
		    {RECORD_WHAT_IF, "what-if"}};
	struct error err = {0};
	struct record *r = open_at(1700000000);
	assert_int_equal(record_write(r, RECORD_RUNNING, -1, 0, &err), 0);
	record_command(r, "kv-cache --model 'a b'", "/out", "/err");
	record_set(r, "num_users", json_integer(5));
	for (size_t i = 0; i < ARRAY_LEN(ends); i++) {
		assert_int_equal(record_write(r, ends[i].status, 6, 1.5, &err), 0);
		json_t *all = load_metadata(r);
		assert_string_equal(text_of(all, "status"), ends[i].name);
		assert_int_equal(json_integer_value(json_object_get(all, "exit_status")), 6);
		assert_true(json_real_value(json_object_get(all, "runtime")) == 1.5);
		assert_int_equal(json_integer_value(json_object_get(all, "num_users")), 5);
		assert_true(json_is_string(json_object_get(all, "ended_at")));
		assert_string_equal(text_of(all, "executed_command"), "kv-cache --model 'a b'");
		json_t *files = json_array_get(json_object_get(all, "command_output_files"), 0);
		assert_string_equal(text_of(files, "stdout"), "/out");
		assert_string_equal(text_of(files, "stderr"), "/err");
		json_decref(all);
	}
	record_free(r);
}

struct fields {
	bool flag;
	int64_t number;
	int64_t unset;
	double real;
	uint64_t size;
	char *text;
	char *no_text;
	int choice;
	struct strlist list;
};

static void test_options(void **state)
{
	(void)state;
	static const char *const choices[] = {"one", "two", NULL};
	static const struct opt table[] = {
		{"--flag", NULL, OPT_FLAG, offsetof(struct fields, flag)},
		{"--a-number", "-an", OPT_INT, offsetof(struct fields, number), .def = "3"},
		{"--unset", NULL, OPT_INT, offsetof(struct fields, unset),
		 .flags = OPT_F_UNSET_NULL},
		{"--real", NULL, OPT_REAL, offsetof(struct fields, real), .def = "16"},
		{"--size", NULL, OPT_SIZE, offsetof(struct fields, size), .def = "1MiB"},
		{"--text", NULL, OPT_TEXT, offsetof(struct fields, text)},
		{"--no-text", NULL, OPT_TEXT, offsetof(struct fields, no_text)},
		{"--choice", NULL, OPT_CHOICE, offsetof(struct fields, choice), .def = "two",
		 .choices = choices},
		{"--list", NULL, OPT_LIST, offsetof(struct fields, list)},
	};
	struct fields fields = {0};
	unsigned char source[ARRAY_LEN(table)] = {0};
	struct opt_group group = {"", table, ARRAY_LEN(table), &fields, source};
	struct opt_set set = {&group, 1};
	struct problems problems = {0};
	assert_int_equal(opt_defaults(&set), 0);
	assert_int_equal(opt_set_text(&group, 1, "7", OPT_FROM_TYPED, "", &problems), 0);
	assert_int_equal(opt_set_text(&group, 5, "caf\xe9", OPT_FROM_FILE, "", &problems), 0);
	assert_int_equal(opt_set_text(&group, 8, "x=1", OPT_FROM_TYPED, "", &problems), 0);
	assert_int_equal(opt_set_text(&group, 8, "y=2", OPT_FROM_TYPED, "", &problems), 0);
	struct record *r = open_at(1700000000);
	struct error err = {0};
	record_options(r, &set);
	assert_int_equal(record_write(r, RECORD_RUNNING, -1, 0, &err), 0);
	json_t *all = load_metadata(r);
	json_t *args = json_object_get(all, "args");
	json_t *sources = json_object_get(all, "args_source");
	json_t *expected = json_pack("{sb, si, sn, sf, si, ss, sn, ss, s[ss]}", "flag", 0,
				     "a_number", 7, "unset", "real", 16.0, "size", 1048576, "text",
				     "caf?", "no_text", "choice", "two", "list", "x=1", "y=2");
	assert_true(json_equal(args, expected));
	assert_int_equal(json_object_size(sources), ARRAY_LEN(table));
	assert_string_equal(text_of(sources, "a_number"), "typed");
	assert_string_equal(text_of(sources, "text"), "file");
	assert_string_equal(text_of(sources, "real"), "default");
	json_decref(expected);
	json_decref(all);
	record_free(r);
	opt_release(&set);
}

/* Read @text as a result file that was asked for ten seconds. */
static int outcome_of(const char *text, struct record_outcome *ret, struct error *err)
{
	CLEANUP_FREE char *path = path_join(root, "result.json");
	assert_int_equal(file_write_atomic(path, text, strlen(text)), 0);
	return record_outcome_read(path, 10, ret, err);
}

static void expect_number(const struct record_outcome *o, const char *key, double expected)
{
	json_t *value = json_object_get(o->metrics, key);
	if (!json_is_number(value) || fabs(json_number_value(value) - expected) > 1e-9 * expected)
		fail_msg("%s is %g, expected %g", key, json_number_value(value), expected);
}

static void test_outcome_v1(void **state)
{
	(void)state;
	struct record_outcome o = {0};
	struct error err = {0};
	assert_int_equal(
		outcome_of("{\"requests_completed\": 40, \"summary\": {\"total_requests\": 40,"
			   "\"requests_per_second\": 4.0,"
			   "\"end_to_end_latency_ms\": {\"mean\": 12.5, \"p50\": 9, \"p99\": 99.5},"
			   "\"cache_stats\": {\"cache_hit_rate\": 0.75,"
			   "\"total_read_bytes\": 30000000, \"total_write_bytes\": 10000000,"
			   "\"storage_health\": {\"overall_status\": \"FAIL\"}}}}",
			   &o, &err),
		0);
	assert_false(o.has_verdict);
	assert_true(o.completed == 40);
	assert_true(json_is_false(json_object_get(o.metrics, "overall_passed")));
	expect_number(&o, "total_requests", 40);
	expect_number(&o, "avg_latency_ms", 12.5);
	expect_number(&o, "p99_latency_ms", 99.5);
	expect_number(&o, "throughput_req_per_sec", 4);
	expect_number(&o, "cache_hit_rate", 0.75);
	expect_number(&o, "storage_throughput_mbps", 4); /* all tiers over the nominal duration */
	assert_true(json_is_null(json_object_get(o.metrics, "storage_read_gb_per_s")));
	record_outcome_release(&o);
}

static void test_outcome_v3(void **state)
{
	(void)state;
	struct record_outcome o = {0};
	struct error err = {0};
	assert_int_equal(outcome_of("{\"summary\": {\"total_requests\": 8, \"elapsed_time\": 20.0,"
				    "\"cache_stats\": {\"total_read_bytes\": 9e12,"
				    "\"tier_storage_kv_bytes_read_gb\": 1.5,"
				    "\"tier_storage_kv_bytes_written_gb\": 0.5,"
				    "\"storage_health\": {\"overall_status\": \"PASS\"}}}}",
				    &o, &err),
			 0);
	assert_true(json_is_true(json_object_get(o.metrics, "overall_passed")));
	expect_number(&o, "storage_throughput_mbps", 2 * 1073.741824 / 20);
	expect_number(&o, "storage_read_gb_per_s", 1.5 * 1.073741824 / 20);
	assert_true(json_is_null(json_object_get(o.metrics, "p99_latency_ms")));
	record_outcome_release(&o);
}

static void test_outcome_ours(void **state)
{
	(void)state;
	struct record_outcome o = {0};
	struct error err = {0};
	assert_int_equal(
		outcome_of("{\"schema_version\": \"1\", \"measured\": {\"window_s\": 4,"
			   "\"storage\": {\"read_bytes\": 6000000, \"write_bytes\": 2000000}},"
			   "\"summary\": {\"total_requests\": 0, \"elapsed_time\": 4,"
			   "\"end_to_end_latency_ms\": {\"mean\": null}}}",
			   &o, &err),
		0);
	assert_true(o.has_verdict);
	expect_number(&o, "storage_throughput_mbps", 2);
	expect_number(&o, "storage_read_gb_per_s", 0.0015);
	expect_number(&o, "total_requests", 0);
	assert_true(json_is_null(json_object_get(o.metrics, "avg_latency_ms")));
	record_outcome_release(&o);
}

/* The reference leaves the summary out when nothing completed, and still ends with status 0. */
static void test_outcome_empty(void **state)
{
	(void)state;
	static const char *const texts[] = {"{}", "{\"requests_completed\": 0, \"summary\": null}"};
	static const char *const keys[] = {"overall_passed",         "total_requests",
					   "avg_latency_ms",         "p99_latency_ms",
					   "throughput_req_per_sec", "storage_throughput_mbps",
					   "storage_read_gb_per_s",  "cache_hit_rate"};
	struct error err = {0};
	for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
		struct record_outcome o = {0};
		assert_int_equal(outcome_of(texts[i], &o, &err), 0);
		assert_false(o.has_verdict);
		assert_true(o.completed == 0);
		for (size_t k = 0; k < ARRAY_LEN(keys); k++)
			assert_true(json_is_null(json_object_get(o.metrics, keys[k])));
		record_outcome_release(&o);
	}
}

static void test_outcome_unreadable(void **state)
{
	(void)state;
	struct record_outcome o = {0};
	struct error err = {0};
	assert_int_equal(outcome_of("{\n\"summary\": {\n", &o, &err), -EINVAL);
	assert_int_equal(err.code, ERR_RUN_FAILED);
	assert_non_null(strstr(err.message, "line 3"));
	assert_int_equal(outcome_of("[1, 2]", &o, &err), -EINVAL);
	assert_int_equal(record_outcome_read("/nonexistent/result.json", 1, &o, &err), -ENOENT);
	assert_null(o.metrics);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_directory),
		TEST(test_collision),
		TEST(test_model_is_one_component),
		TEST(test_directory_in_the_way),
		TEST(test_schema),
		TEST(test_rewrite),
		TEST(test_options),
		TEST(test_outcome_v1),
		TEST(test_outcome_v3),
		TEST(test_outcome_ours),
		TEST(test_outcome_empty),
		TEST(test_outcome_unreadable),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
