// SPDX-License-Identifier: Apache-2.0
/* The file of a time series, and the thread that takes samples. */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/attr.h"
#include "base/file.h"
#include "cluster/cluster.h"
#include "cluster/timeseries.h"

static char dir[64];
static char path[128];

static int set_up(void **state)
{
	(void)state;
	snprintf(dir, sizeof(dir), "/tmp/test_timeseries.XXXXXX");
	if (!mkdtemp(dir))
		return -1;
	snprintf(path, sizeof(path), "%s/series.json", dir);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	unlink(path);
	return rmdir(dir); /* fails where a part or a temporary file was left */
}

static struct timeseries *open_series(uint64_t max_count)
{
	struct timeseries *t = NULL;
	struct error err = {0};
	struct timeseries_spec spec = {.path = path, .interval_s = 2.5, .max_count = max_count};
	assert_int_equal(timeseries_open(&spec, &t, &err), 0);
	return t;
}

static int add(struct timeseries *t, uint32_t source, const char *host, int n)
{
	char line[128];
	snprintf(line, sizeof(line), "{\"hostname\":\"%s\",\"n\":%d}", host, n);
	return timeseries_add(t, source, line, strlen(line));
}

static json_t *finish(struct timeseries *t, const char *method, const struct strlist *requested)
{
	struct timeseries_end end = {
		.method = method, .requested = requested, .overhead_percent = 0.25};
	assert_int_equal(timeseries_finish(t, &end), 0);
	timeseries_free(t);
	json_t *all = json_load_file(path, 0, NULL);
	assert_non_null(all);
	return all;
}

static json_int_t number(const json_t *object, const char *key)
{
	return json_integer_value(json_object_get(object, key));
}

static void test_samples_by_host(void **state)
{
	(void)state;
	struct strlist requested = {0};
	assert_int_equal(strlist_add(&requested, "a"), 0);
	assert_int_equal(strlist_add(&requested, "b"), 0);
	assert_int_equal(strlist_add(&requested, "unreachable"), 0);
	struct timeseries *t = open_series(100);
	for (int n = 0; n < 20; n++) {
		assert_int_equal(add(t, 1, "b", n), 0);
		assert_int_equal(add(t, 0, "a", 100 + n), 0);
	}
	assert_int_equal(timeseries_count(t), 40);
	json_t *all = finish(t, "ssh", &requested);
	json_t *hosts = json_object_get(all, "samples_by_host");
	assert_int_equal(number(all, "num_samples"), 40);
	assert_true(json_real_value(json_object_get(all, "collection_interval_seconds")) == 2.5);
	assert_true(json_real_value(json_object_get(all, "overhead_percent")) == 0.25);
	assert_string_equal(json_string_value(json_object_get(all, "collection_method")), "ssh");
	assert_int_equal(strlen(json_string_value(json_object_get(all, "start_time"))), 20);
	assert_int_equal(strlen(json_string_value(json_object_get(all, "end_time"))), 20);
	assert_int_equal(json_array_size(json_object_get(all, "hosts_requested")), 3);
	assert_int_equal(json_array_size(json_object_get(all, "hosts_collected")),
			 2); /* an unreachable one is absent */
	assert_null(json_object_get(all, "dropped_samples"));
	for (size_t i = 0; i < 20; i++) {
		assert_int_equal(number(json_array_get(json_object_get(hosts, "b"), i), "n"), i);
		assert_int_equal(number(json_array_get(json_object_get(hosts, "a"), i), "n"),
				 100 + i);
	}
	json_decref(all);
	strlist_release(&requested);
}

static void test_cap_per_host(void **state)
{
	(void)state;
	struct timeseries *t = open_series(3);
	for (int n = 0; n < 5; n++) {
		assert_int_equal(add(t, 0, "a", n), n < 3 ? 0 : -EOVERFLOW);
		assert_int_equal(add(t, 1, "b", n), n < 3 ? 0 : -EOVERFLOW);
	}
	assert_int_equal(timeseries_dropped(t), 4);
	json_t *all = finish(t, "mpi", NULL);
	assert_int_equal(number(all, "num_samples"), 6);
	assert_int_equal(number(all, "dropped_samples"), 4);
	json_decref(all);
}

static void test_two_machines_of_one_name(void **state)
{
	(void)state;
	struct timeseries *t = open_series(10);
	assert_int_equal(add(t, 0, "node \\\"x\\\"", 1), 0);
	assert_int_equal(add(t, 7, "node \\\"x\\\"", 2), 0);
	json_t *all = finish(t, "mpi", NULL);
	json_t *hosts = json_object_get(all, "samples_by_host");
	assert_int_equal(json_array_size(json_object_get(hosts, "node \"x\"")), 1);
	assert_int_equal(json_array_size(json_object_get(hosts, "node \"x\" (7)")), 1);
	json_decref(all);
}

static void test_bad_samples(void **state)
{
	(void)state;
	struct timeseries *t = open_series(10);
	static const char *const bad[] = {"",
					  "{",
					  "[]",
					  "{}",
					  "{\"hostname\":1}",
					  "{\"hostname\":\n\"a\"}",
					  "{\"hostname\":\"a\"} x"};
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		assert_int_equal(timeseries_add(t, 0, bad[i], strlen(bad[i])), -EINVAL);
	assert_int_equal(timeseries_count(t), 0);
	struct timeseries_end end = {.method = "local"};
	assert_int_equal(timeseries_finish(t, &end), 0);
	timeseries_free(t);
	assert_int_not_equal(access(path, F_OK), 0); /* nothing sampled: no file */
}

/* What a killed run leaves: one line a sample. */
static void test_part_of_a_killed_run(void **state)
{
	(void)state;
	struct timeseries *t = open_series(10);
	assert_int_equal(add(t, 0, "a", 1), 0);
	assert_int_equal(add(t, 0, "a", 2), 0);
	timeseries_free(t);
	char part[160];
	snprintf(part, sizeof(part), "%s.part", path);
	CLEANUP_STR struct str text = {0};
	assert_int_equal(file_read(part, 1 << 20, &text), 0);
	assert_string_equal(str_text(&text),
			    "{\"hostname\":\"a\",\"n\":1}\n{\"hostname\":\"a\",\"n\":2}\n");
	unlink(part);
}

static void test_no_directory(void **state)
{
	(void)state;
	struct timeseries *t = NULL;
	struct error err = {0};
	struct timeseries_spec spec = {
		.path = "/nonexistent/x.json", .interval_s = 1, .max_count = 1};
	assert_int_equal(timeseries_open(&spec, &t, &err), -ENOENT);
	assert_non_null(strstr(err.message, "/nonexistent/x.json.part"));
	assert_null(t);
}

static void test_real_sample(void **state)
{
	(void)state;
	struct timeseries *t = open_series(10);
	char *line = NULL;
	assert_int_equal(cluster_sample_json("", &line), 0);
	assert_int_equal(timeseries_add(t, 0, line, strlen(line)), 0);
	free(line);
	json_t *all = finish(t, "local", NULL);
	const char *name;
	json_t *list;
	json_object_foreach(json_object_get(all, "samples_by_host"), name, list) assert_non_null(
		json_object_get(json_object_get(json_array_get(list, 0), "meminfo"), "MemTotal"));
	json_decref(all);
}

/* --- the thread */

static atomic_int ticks;

static void count_tick(void *arg)
{
	(void)arg;
	atomic_fetch_add(&ticks, 1);
}

static void wait_for_ticks(int count)
{
	for (int i = 0; i < 6000 && atomic_load(&ticks) < count; i++)
		usleep(10000);
	assert_true(atomic_load(&ticks) >= count);
}

static void test_sampler_ticks_at_start_and_at_the_interval(void **state)
{
	(void)state;
	struct sampler *s;
	atomic_store(&ticks, 0);
	assert_int_equal(sampler_new(0.01, count_tick, NULL, &s), 0);
	assert_int_equal(sampler_start(s), 0);
	wait_for_ticks(4);
	assert_int_equal(sampler_stop(s), 0);
	int after = atomic_load(&ticks);
	usleep(50000);
	assert_int_equal(atomic_load(&ticks), after);
	assert_true(sampler_overhead(s) >= 0 && sampler_overhead(s) <= 100);
	sampler_free(s);
}

/* The wait for the next tick, however long, is cut short. */
static void test_sampler_stops_within_its_interval(void **state)
{
	(void)state;
	struct sampler *s;
	atomic_store(&ticks, 0);
	assert_int_equal(sampler_new(86400, count_tick, NULL, &s), 0);
	assert_int_equal(sampler_start(s), 0);
	assert_int_equal(sampler_stop(s), 0);
	assert_int_equal(atomic_load(&ticks), 1);
	sampler_free(s);
}

static void test_sampler_state_errors(void **state)
{
	(void)state;
	struct sampler *s;
	assert_int_equal(sampler_new(10, count_tick, NULL, &s), 0);
	assert_int_equal(sampler_stop(s), -EINVAL); /* before start */
	assert_int_equal(sampler_start(s), 0);
	assert_int_equal(sampler_start(s), -EALREADY); /* twice */
	assert_int_equal(sampler_stop(s), 0);
	assert_int_equal(sampler_stop(s), -EINVAL);
	assert_int_equal(sampler_start(s), -EINVAL); /* not reusable */
	sampler_free(s);
	sampler_free(NULL);
	assert_int_equal(sampler_new(10, count_tick, NULL, &s), 0);
	assert_int_equal(sampler_start(s), 0);
	sampler_free(s); /* stops it */
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_samples_by_host),
		TEST(test_cap_per_host),
		TEST(test_two_machines_of_one_name),
		TEST(test_bad_samples),
		TEST(test_part_of_a_killed_run),
		TEST(test_no_directory),
		TEST(test_real_sample),
		cmocka_unit_test(test_sampler_ticks_at_start_and_at_the_interval),
		cmocka_unit_test(test_sampler_stops_within_its_interval),
		cmocka_unit_test(test_sampler_state_errors),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
