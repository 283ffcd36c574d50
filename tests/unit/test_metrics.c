// SPDX-License-Identifier: Apache-2.0
/* Counters, histograms and errors of many workers become one. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "metrics/metrics.h"

static void test_names_known(void **state)
{
	(void)state;
	char buf[64];
	assert_string_equal(metrics_counter_name(COUNT_CACHE_HITS, buf), "cache_hits");
	assert_string_equal(metrics_counter_name(COUNT_TIER_BYTES(TIER_STORAGE, DIR_READ), buf),
			    "storage_read_bytes");
	assert_string_equal(metrics_counter_name(COUNT_TIER_OPS(TIER_CPU, DIR_WRITE), buf),
			    "cpu_write_ops");
	assert_string_equal(metrics_counter_name(COUNT_QOS(QOS_BATCH, QOS_QUEUED_AT_END), buf),
			    "requests_queued_at_end_batch");
	assert_string_equal(metrics_hist_name(HIST_QUEUE_WAIT, buf), "queue_wait");
	assert_string_equal(metrics_hist_name(HIST_TIER(TIER_STORAGE, DIR_READ, PART_DEVICE), buf),
			    "storage_read_device");
	assert_string_equal(metrics_hist_name(HIST_TIER(TIER_GPU, DIR_WRITE, PART_TOTAL), buf),
			    "gpu_write");
	assert_string_equal(metrics_hist_name(HIST_QOS(QOS_INTERACTIVE), buf),
			    "response_interactive");
}

static void assert_all_different(char names[][64], int count)
{
	for (int i = 0; i < count; i++) {
		assert_true(names[i][0] != '\0');
		for (int j = 0; j < i; j++)
			assert_string_not_equal(names[i], names[j]);
	}
}

static void test_names_unique(void **state)
{
	(void)state;
	static char counters[METRIC_COUNTER_COUNT][64], hists[METRIC_HIST_COUNT][64];
	char buf[64];
	for (int i = 0; i < METRIC_COUNTER_COUNT; i++)
		snprintf(counters[i], 64, "%s", metrics_counter_name(i, buf));
	for (int i = 0; i < METRIC_HIST_COUNT; i++)
		snprintf(hists[i], 64, "%s", metrics_hist_name(i, buf));
	assert_all_different(counters, METRIC_COUNTER_COUNT);
	assert_all_different(hists, METRIC_HIST_COUNT);
}

static void test_merge(void **state)
{
	(void)state;
	struct metrics *a = metrics_new(), *b = metrics_new();
	assert_non_null(a);
	assert_non_null(b);
	for (int i = 0; i < METRIC_COUNTER_COUNT; i++) {
		a->count[i] = (uint64_t)i;
		b->count[i] = 1000;
	}
	for (int i = 0; i < METRIC_HIST_COUNT; i++)
		hist_record(&b->hist[i], (uint64_t)i);
	hist_record(&a->hist[0], 5);
	a->oldest_age_ns[QOS_BATCH] = 7;
	b->oldest_age_ns[QOS_BATCH] = 6;
	b->oldest_age_ns[QOS_RESPONSIVE] = 9;
	b->raw_dropped = 3;
	metrics_sample(a, RAW_DECODE, 1);
	metrics_sample(b, RAW_DECODE, 2);
	metrics_sample(b, RAW_DECODE, 3);

	assert_int_equal(metrics_merge(a, b), 0);
	for (int i = 0; i < METRIC_COUNTER_COUNT; i++)
		assert_true(a->count[i] == (uint64_t)i + 1000);
	for (int i = 0; i < METRIC_HIST_COUNT; i++) {
		assert_true(a->hist[i].count == (i ? 1 : 2));
		assert_true(a->hist[i].max_ns == (uint64_t)(i ? i : 5));
	}
	assert_true(a->oldest_age_ns[QOS_BATCH] == 7);
	assert_true(a->oldest_age_ns[QOS_RESPONSIVE] == 9);
	assert_true(a->raw_dropped == 3);
	assert_int_equal(a->raw[RAW_DECODE].count, 3);
	for (uint64_t i = 0; i < 3; i++)
		assert_true(a->raw[RAW_DECODE].ns[i] == i + 1);
	metrics_free(a);
	metrics_free(b);
	metrics_free(NULL);
}

static void test_samples_grow(void **state)
{
	(void)state;
	struct metrics *m = metrics_new(), *sum = metrics_new();
	for (uint64_t i = 0; i < 100000; i++)
		metrics_sample(m, RAW_STORAGE, i * 3);
	assert_int_equal(metrics_merge(sum, m), 0);
	assert_int_equal(metrics_merge(sum, m), 0);
	assert_int_equal(sum->raw[RAW_STORAGE].count, 200000);
	for (uint64_t i = 0; i < 200000; i++)
		assert_true(sum->raw[RAW_STORAGE].ns[i] == i % 100000 * 3);
	assert_true(sum->raw_dropped == 0);
	metrics_free(m);
	metrics_free(sum);
}

/* Resident size of this process, in bytes. */
static size_t resident(void)
{
	size_t total = 0, pages = 0;
	FILE *f = fopen("/proc/self/statm", "r");
	assert_non_null(f);
	assert_int_equal(fscanf(f, "%zu %zu", &total, &pages), 2);
	fclose(f);
	return pages * (size_t)sysconf(_SC_PAGESIZE);
}

static void test_untouched_costs_nothing(void **state)
{
	(void)state;
	enum { COUNT = 64 };
	struct metrics *m[COUNT];
	size_t before = resident();
	for (int i = 0; i < COUNT; i++) {
		m[i] = metrics_new();
		assert_non_null(m[i]);
		m[i]->count[COUNT_READ_OPS] = 1;
		assert_int_equal(metrics_merge(m[0], m[i]), 0);
	}
	/* 64 of them are 270 MiB of address space */
	assert_true(sizeof(struct metrics) * COUNT > 200 << 20);
	assert_true(resident() < before + (32 << 20));
	for (int i = 0; i < COUNT; i++)
		metrics_free(m[i]);
}

static void test_error_classes(void **state)
{
	(void)state;
	static struct error_log log;
	error_log_init(&log);
	error_log_add(&log, "storage read: EIO", "file a offset 0");
	error_log_add(&log, "storage write: EIO", "file b offset 4096");
	error_log_add(&log, "storage read: EIO", "file c offset 8192");
	assert_true(log.total == 3);
	assert_int_equal(log.classes, 2);
	assert_string_equal(log.v[0].name, "storage read: EIO");
	assert_string_equal(log.v[0].first, "file a offset 0");
	assert_true(log.v[0].count == 2);
	assert_true(log.v[1].count == 1);
}

static void test_error_other(void **state)
{
	(void)state;
	static struct error_log log, sum;
	char name[32];
	error_log_init(&log);
	for (int i = 0; i < 100; i++) {
		snprintf(name, sizeof(name), "class %d", i);
		error_log_add(&log, name, name);
	}
	assert_int_equal(log.classes, ERROR_CLASSES_MAX);
	const struct error_class *other = &log.v[ERROR_CLASSES_MAX - 1];
	assert_string_equal(other->name, "other");
	assert_string_equal(other->first, "class 23");
	assert_true(other->count == 100 - 23);

	error_log_init(&sum);
	error_log_add(&sum, "new here", "first");
	error_log_merge(&sum, &log);
	error_log_merge(&sum, &log);
	assert_true(sum.total == 201);
	uint64_t counted = 0;
	for (unsigned i = 0; i < sum.classes; i++)
		counted += sum.v[i].count;
	assert_true(counted == sum.total);
	assert_int_equal(sum.classes, ERROR_CLASSES_MAX);
}

static void test_error_long(void **state)
{
	(void)state;
	static struct error_log log;
	char name[100], first[1000];
	memset(name, 'n', sizeof(name));
	memset(first, 'f', sizeof(first));
	name[99] = first[999] = '\0';
	error_log_init(&log);
	error_log_add(&log, name, first);
	error_log_add(&log, name, first);
	assert_int_equal(log.classes, 1);
	assert_int_equal(strlen(log.v[0].first), ERROR_TEXT_MAX - 1);
}

static void *add_errors(void *arg)
{
	for (int i = 0; i < 10000; i++)
		error_log_add(arg, i % 2 ? "odd" : "even", "x");
	return NULL;
}

static void test_error_threads(void **state)
{
	(void)state;
	static struct error_log log;
	pthread_t threads[4];
	error_log_init(&log);
	for (int i = 0; i < 4; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, add_errors, &log), 0);
	for (int i = 0; i < 4; i++)
		pthread_join(threads[i], NULL);
	assert_true(log.total == 40000);
	assert_true(log.v[0].count == 20000 && log.v[1].count == 20000);
}

/* What @seed records: every kind of member, samples over many octaves, some histograms empty. */
static struct metrics *recorded(uint64_t seed, int samples)
{
	struct metrics *m = metrics_new();
	assert_non_null(m);
	for (int i = 0; i < samples; i++) {
		seed = seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
		hist_record(&m->hist[(seed >> 33) % (METRIC_HIST_COUNT - 3)], seed >> 33 >> (seed >> 59));
		m->count[(seed >> 20) % METRIC_COUNTER_COUNT] += seed >> 50;
		m->oldest_age_ns[(seed >> 40) % QOS_COUNT] = seed >> 12;
	}
	hist_record(&m->hist[METRIC_HIST_COUNT - 1], UINT64_C(1) << 60); /* beyond the last bucket */
	m->raw_dropped = seed >> 60;
	return m;
}

/* Ranks added up as plain numbers are, to the bit, one process that merged the same workers. */
static void test_pack_is_merge(void **state)
{
	(void)state;
	enum { RANKS = 5 };
	struct metrics *rank[RANKS], *merged = metrics_new(), *pooled = metrics_new();
	uint64_t touched[METRIC_BLOCK_WORDS] = {0}, maxima[METRIC_MAXIMA] = {0};
	for (int r = 0; r < RANKS; r++) {
		uint64_t own[METRIC_BLOCK_WORDS];
		rank[r] = recorded((uint64_t)r + 1, r == 3 ? 0 : 2000);
		assert_int_equal(metrics_merge(merged, rank[r]), 0);
		metrics_touched(rank[r], own);
		for (int i = 0; i < METRIC_BLOCK_WORDS; i++)
			touched[i] |= own[i];
	}
	size_t n = metrics_sums_count(touched);
	assert_true(n < sizeof(struct metrics) / sizeof(uint64_t));
	uint64_t *sums = calloc(n, sizeof(*sums)), *own = calloc(n, sizeof(*own));
	for (int r = 0; r < RANKS; r++) {
		uint64_t own_maxima[METRIC_MAXIMA];
		metrics_pack(rank[r], touched, own, own_maxima);
		for (size_t i = 0; i < n; i++)
			sums[i] += own[i];
		for (int i = 0; i < METRIC_MAXIMA; i++)
			maxima[i] = maxima[i] > own_maxima[i] ? maxima[i] : own_maxima[i];
		metrics_free(rank[r]);
	}
	metrics_unpack(pooled, touched, sums, maxima);
	assert_memory_equal(pooled, merged, sizeof(*merged));
	free(sums);
	free(own);
	metrics_free(merged);
	metrics_free(pooled);
}

/* Packing changes nothing, and an empty set of measurements comes back empty. */
static void test_pack_empty(void **state)
{
	(void)state;
	struct metrics *empty = metrics_new(), *back = metrics_new();
	uint64_t touched[METRIC_BLOCK_WORDS], maxima[METRIC_MAXIMA];
	metrics_touched(empty, touched);
	size_t n = metrics_sums_count(touched);
	uint64_t *sums = calloc(n, sizeof(*sums));
	metrics_pack(empty, touched, sums, maxima);
	metrics_unpack(back, touched, sums, maxima);
	assert_memory_equal(back, empty, sizeof(*empty));
	free(sums);
	metrics_free(empty);
	metrics_free(back);
}

/* What was cleared is as new, whatever it counted. */
static void test_clear(void **state)
{
	(void)state;
	struct metrics *m = recorded(1, 2000), *empty = metrics_new();
	metrics_clear(m);
	assert_memory_equal(m, empty, sizeof(*m));
	metrics_sample(m, RAW_DECODE, 1);
	metrics_clear(m);
	assert_int_equal(m->raw[RAW_DECODE].count, 0);
	metrics_free(m);
	metrics_free(empty);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_names_known),
		cmocka_unit_test(test_names_unique),
		cmocka_unit_test(test_merge),
		cmocka_unit_test(test_pack_is_merge),
		cmocka_unit_test(test_pack_empty),
		cmocka_unit_test(test_clear),
		cmocka_unit_test(test_samples_grow),
		cmocka_unit_test(test_untouched_costs_nothing),
		cmocka_unit_test(test_error_classes),
		cmocka_unit_test(test_error_other),
		cmocka_unit_test(test_error_long),
		cmocka_unit_test(test_error_threads),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
