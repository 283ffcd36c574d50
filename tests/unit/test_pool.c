// SPDX-License-Identifier: Apache-2.0
/* Reports of ranks become one result: what is summed, what is the longest, who is named. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <jansson.h>

#include "base/clock.h"
#include "base/mem.h"
#include "result/pool.h"
#include "result/result.h"

/* A rank with everything that pooling needs. */
struct fixture {
	struct config cfg;
	struct opt_group options;
	unsigned char *source;
	struct metrics *m;
	struct error_log errors;
	struct strlist notices;
	struct run_result r;
};

static void fixture_open(struct fixture *f)
{
	memset(f, 0, sizeof(*f));
	struct problems problems = {0};
	size_t count;
	const struct opt *table = config_option_table(&count);
	f->source = calloc(count, 1);
	f->options = (struct opt_group){.opts = table, .count = count, .target = &f->cfg.opt, .source = f->source};
	struct opt_set set = {.groups = &f->options, .count = 1};
	assert_int_equal(opt_defaults(&set), 0);
	assert_int_equal(config_load(&f->options, &f->cfg, &problems), 0);
	assert_int_equal(problems.count, 0);
	f->m = metrics_new();
	error_log_init(&f->errors);
	f->r = (struct run_result){
		.cfg = &f->cfg,
		.options = &f->options,
		.m = f->m,
		.errors = &f->errors,
		.notices = &f->notices,
		.version = "0",
		.workload_source = "synthetic",
		.window_ns = 2 * NS_PER_S,
		.workers = 2,
		.is_valid = true,
		.client_bound = {.is_known = true, .why = "calm"},
		.page_cache_bypassed = {.is_known = true, .value = true, .why = "direct"},
		.tier[TIER_STORAGE] = {.is_present = true, .kind = "file", .limit_bytes = 100, .used_bytes = 10, .entries = 1},
		.io = {.engine = "uring", .mode = "direct", .has_device_counters = true, .device_read_bytes = 1000},
		.users = {.count = 5, .context_min = 10, .context_max = 20, .context_mean = 12, .by_qos = {1, 2, 2}},
		.host = {.hostname = "a", .logical_cpus = 4, .memory_bytes = 64},
		.cpu_user_s = 0.5,
		.setup_s = 1,
	};
}

static void fixture_close(struct fixture *f)
{
	metrics_free(f->m);
	strlist_release(&f->notices);
	config_release(&f->cfg);
	free(f->source);
}

static int report_to(struct result_pool *p, const struct fixture *f, int rank, const char *host, const char *device,
		     int64_t begin_ns)
{
	struct str text = {0};
	struct result_rank who = {.rank = rank, .host = host, .device = device, .begin_ns = begin_ns};
	assert_int_equal(result_report(&f->r, &who, &text), 0);
	int rc = result_pool_add(p, rank, text.s, text.len);
	str_release(&text);
	return rc;
}

static void test_members(void **state)
{
	(void)state;
	struct fixture f;
	fixture_open(&f);
	struct result_pool *p = result_pool_new(4);
	struct error_log errors;
	struct strlist notices = {0};
	/* In any order; two ranks on each of two hosts, the first two on one disk. */
	assert_int_equal(report_to(p, &f, 1, "a", "a 8:1", 500), 0);
	f.r.window_ns = 3 * NS_PER_S;
	f.r.fingerprint = UINT64_MAX;
	assert_int_equal(report_to(p, &f, 0, "a", "a 8:1", -200), 0);
	snprintf(f.r.io.engine, sizeof(f.r.io.engine), "threads");
	f.r.is_interrupted = true;
	f.r.cpu_user_s = 1.25;
	f.r.setup_s = 7;
	f.r.users = (struct run_users){.count = 5, .context_min = 7, .context_max = 30, .context_mean = 16, .by_qos = {5}};
	assert_int_equal(report_to(p, &f, 3, "b", "b 8:1", 1000), 0);
	assert_int_equal(result_pool_finish(p, &f.r, &errors, &notices), -EBADMSG); /* rank 2 is missing */
	assert_int_equal(report_to(p, &f, 3, "b", "b 8:1", 1000), -EBADMSG);	      /* rank 3 came twice */
	assert_int_equal(report_to(p, &f, 4, "b", "b 8:1", 1000), -EBADMSG);
	assert_int_equal(result_pool_add(p, 2, "no report", 9), -EBADMSG);
	assert_int_equal(report_to(p, &f, 2, "b", "b 8:2", 0), 0);
	assert_int_equal(result_pool_finish(p, &f.r, &errors, &notices), 0);
	const struct run_result *r = &f.r;
	assert_int_equal(r->window_ns, 3 * NS_PER_S); /* the longest */
	assert_int_equal(r->fingerprint, (uint64_t)-3); /* modulo 2^64 */
	assert_int_equal(r->workers, 8);
	assert_int_equal(r->tier[TIER_STORAGE].limit_bytes, 400);
	assert_int_equal(r->tier[TIER_STORAGE].entries, 4);
	assert_string_equal(r->tier[TIER_STORAGE].kind, "file"); /* rank 0's own */
	assert_string_equal(r->io.engine, "mixed");
	assert_string_equal(r->io.mode, "direct");
	assert_int_equal(r->io.device_read_bytes, 3000); /* once per device */
	assert_int_equal(r->host.logical_cpus, 8);	  /* once per host */
	assert_int_equal(r->host.memory_bytes, 128);
	assert_int_equal(r->users.count, 20);
	assert_int_equal(r->users.context_min, 7);
	assert_int_equal(r->users.context_max, 30);
	assert_true(r->users.context_mean > 13.99 && r->users.context_mean < 14.01);
	assert_int_equal(r->users.by_qos[QOS_INTERACTIVE], 12);
	assert_true(r->is_interrupted);
	assert_true(r->cpu_user_s > 3.49 && r->cpu_user_s < 3.51);
	assert_true(r->setup_s > 6.9 && r->setup_s < 7.1);
	json_t *json = result_json(r);
	json_t *ranks = json_object_get(json, "ranks");
	assert_int_equal(json_array_size(ranks), 4);
	for (size_t i = 0; i < 4; i++)
		assert_int_equal(json_integer_value(json_object_get(json_array_get(ranks, i), "rank")), i);
	assert_string_equal(json_string_value(json_object_get(json_array_get(ranks, 2), "host")), "b");
	double skew = json_number_value(json_object_get(json, "window_skew_s"));
	assert_true(skew > 1.19e-6 && skew < 1.21e-6);
	json_decref(json);
	strlist_release(&notices);
	result_pool_free(p);
	fixture_close(&f);
}

static void test_verdicts_errors_notices(void **state)
{
	(void)state;
	struct fixture f;
	fixture_open(&f);
	struct result_pool *p = result_pool_new(3);
	struct error_log errors;
	struct strlist notices = {0};
	assert_int_equal(strlist_add(&f.notices, "all say so"), 0);
	assert_int_equal(report_to(p, &f, 0, "a", "", 0), 0);
	assert_int_equal(strlist_add(&f.notices, "one says so"), 0);
	error_log_add(&f.errors, "storage read: EIO", "/x at 4096");
	error_log_add(&f.errors, "storage read: EIO", "another");
	f.r.is_valid = false;
	snprintf(f.r.invalid_why, sizeof(f.r.invalid_why), "2 I/O or data errors");
	f.r.client_bound = (struct verdict){.is_known = true, .value = true, .why = "busy"};
	f.r.page_cache_bypassed = (struct verdict){.is_known = true, .value = false, .why = "tmpfs"};
	assert_int_equal(report_to(p, &f, 1, "b", "", 0), 0);
	strlist_release(&f.notices);
	assert_int_equal(strlist_add(&f.notices, "all say so"), 0);
	f.r.client_bound.value = false;
	f.r.page_cache_bypassed.is_known = false;
	assert_int_equal(report_to(p, &f, 2, "c", "", 0), 0);
	assert_int_equal(result_pool_finish(p, &f.r, &errors, &notices), 0);
	assert_false(f.r.is_valid);
	assert_string_equal(f.r.invalid_why, "rank 1 on b: 2 I/O or data errors, and others");
	assert_true(f.r.client_bound.value);
	assert_string_equal(f.r.client_bound.why, "rank 1 on b: busy");
	assert_true(f.r.page_cache_bypassed.is_known);
	assert_false(f.r.page_cache_bypassed.value);
	assert_string_equal(f.r.page_cache_bypassed.why, "rank 1 on b: tmpfs");
	assert_int_equal(f.r.errors->total, 4);
	assert_string_equal(f.r.errors->v[0].first, "rank 1 on b: /x at 4096");
	assert_int_equal(notices.count, 2);
	assert_string_equal(notices.v[0], "all say so");
	assert_string_equal(notices.v[1], "rank 1: one says so");
	strlist_release(&notices);
	result_pool_free(p);
	fixture_close(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_members),
		cmocka_unit_test(test_verdicts_errors_notices),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
