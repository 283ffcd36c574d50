// SPDX-License-Identifier: Apache-2.0
/* Host entries, the cluster dictionary, and what is said about hosts that differ. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/attr.h"
#include "cluster/cluster.h"
#include "cluster/source.h"

/* Text of each source of a small machine. */
static int read_fixture(void *ctx, const struct source *source, struct str *ret)
{
	static const struct {
		const char *key, *text;
	} texts[] = {
		{"hostname", "node1\n"},
		{"meminfo",
		 "MemTotal: 1000 kB\nMemFree: 300 kB\nMemAvailable: 800 kB\nBuffers: 50 kB\nCached: 250 kB\n"
		 "Active: 7 kB\nInactive: 8 kB\nShmem: 9 kB\n"},
		{"cpuinfo",
		 "processor: 0\nphysical id: 0\ncore id: 0\nmodel name: Fast CPU\nflags: fpu lm sse\n\n"
		 "processor: 1\nphysical id: 0\ncore id: 0\n\n"
		 "processor: 2\nphysical id: 1\ncore id: 0\n\n"},
		{"version", "Linux version 6.1.0-18-amd64 (builder) #1 SMP\n"},
		{"loadavg", "1.5 2.5 3.5 4/500 6\n"},
		{"uptime_seconds", "77.5 1\n"},
		{"os_release", "ID=debian\nVERSION_ID=\"12\"\n"},
	};
	(void)ctx;
	for (size_t i = 0; i < ARRAY_LEN(texts); i++)
		if (!strcmp(texts[i].key, source->key))
			str_add(ret, texts[i].text);
	return 0;
}

static json_t *fixture_entry(void)
{
	json_t *facts = source_collect(SOURCE_SET_FACTS, read_fixture, NULL, "fallback");
	json_t *entry = cluster_host_entry(facts);
	json_decref(facts);
	return entry;
}

static json_int_t number(const json_t *object, const char *part, const char *key)
{
	return json_integer_value(json_object_get(json_object_get(object, part), key));
}

static const char *text(const json_t *object, const char *part, const char *key)
{
	return json_string_value(json_object_get(json_object_get(object, part), key));
}

static void test_host_entry(void **state)
{
	(void)state;
	json_t *e = fixture_entry();
	assert_string_equal(json_string_value(json_object_get(e, "hostname")), "node1");
	assert_int_equal(number(e, "memory", "total"), 1000 * 1024);
	assert_int_equal(number(e, "memory", "available"), 800 * 1024);
	assert_int_equal(number(e, "memory", "used"), (1000 - 300 - 50 - 250) * 1024);
	assert_int_equal(number(e, "memory", "shared"), 9 * 1024);
	assert_int_equal(number(e, "cpu", "num_cores"), 2);
	assert_int_equal(number(e, "cpu", "num_logical_cores"), 3);
	assert_string_equal(text(e, "cpu", "model"), "Fast CPU");
	assert_string_equal(text(e, "cpu", "architecture"), "x86_64");
	assert_string_equal(text(e, "system", "hostname"), "node1");
	assert_string_equal(text(e, "system", "kernel_version"), "6.1.0-18-amd64");
	assert_int_equal(number(e, "system", "total_processes"), 500);
	assert_true(json_real_value(json_object_get(json_object_get(e, "system"),
						    "load_average_15min")) == 3.5);
	assert_null(json_object_get(e, "errors"));
	json_decref(e);
}

static void test_physical_cores_fall_back_to_logical(void **state)
{
	(void)state;
	json_t *facts = json_pack("{s[{ss}{ss}]}", "cpuinfo", "processor", "0", "processor", "1");
	json_t *e = cluster_host_entry(facts);
	assert_int_equal(number(e, "cpu", "num_cores"), 2);
	assert_string_equal(text(e, "cpu", "architecture"), "");
	json_decref(e);
	json_decref(facts);
}

static void test_architecture(void **state)
{
	(void)state;
	static const struct {
		const char *key, *value, *want;
	} cases[] = {
		{"flags", "fpu lm sse", "x86_64"},
		{"flags", "fpu tm lma", "i686"},
		{"flags", "htm almost", ""},
		{"CPU architecture", "8", "aarch64"},
		{"model name", "Board aarch64 rev 2", "aarch64"},
	};
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		json_t *facts = json_pack("{s[{ss}]}", "cpuinfo", cases[i].key, cases[i].value);
		json_t *e = cluster_host_entry(facts);
		assert_string_equal(text(e, "cpu", "architecture"), cases[i].want);
		json_decref(e);
		json_decref(facts);
	}
}

/* What a machine did not tell is absent, and never zero. */
static void test_nulls_left_out(void **state)
{
	(void)state;
	json_t *facts = json_pack("{ss}", "hostname", "bare");
	json_t *e = cluster_host_entry(facts);
	static const char *const absent[] = {"memory", "cpu",    "disks",   "network",
					     "vmstat", "mounts", "cgroups", "errors"};
	for (size_t i = 0; i < ARRAY_LEN(absent); i++)
		assert_null(json_object_get(e, absent[i]));
	json_decref(e);
	json_decref(facts);
}

/* A memory that makes no sense does not overflow. */
static void test_hostile_memory(void **state)
{
	(void)state;
	json_t *facts = json_pack("{s{sI, sI}}", "meminfo", "MemTotal", (json_int_t)INT64_MAX,
				  "MemFree", (json_int_t)-5);
	json_t *e = cluster_host_entry(facts);
	assert_int_equal(number(e, "memory", "total"), 0);
	assert_int_equal(number(e, "memory", "used"), 0);
	json_decref(e);
	json_decref(facts);
}

static void add_machine(struct cluster *c, const char *name, json_int_t bytes, int cores,
			const char *os, const char *kernel)
{
	cluster_add_host(c, json_pack("{ss, s{sI}, s{si}, s{s{ss}, ss}, s{}}", "hostname", name,
				      "memory", "total", bytes, "cpu", "num_cores", cores, "system",
				      "os_release", "VERSION_ID", os, "kernel_version", kernel,
				      "vmstat"));
}

static void test_dictionary(void **state)
{
	(void)state;
	struct cluster c = {.method = "ssh"};
	assert_null(cluster_dictionary(&c, false));
	add_machine(&c, "a", 100, 4, "12", "6.1");
	add_machine(&c, "b", 105, 4, "12", "6.1");
	assert_int_equal(strlist_add(&c.requested, "a"), 0);
	json_t *all = cluster_dictionary(&c, false);
	assert_int_equal(json_integer_value(json_object_get(all, "total_memory_bytes")), 205);
	assert_int_equal(json_integer_value(json_object_get(all, "min_memory_bytes")), 100);
	assert_int_equal(json_integer_value(json_object_get(all, "max_memory_bytes")), 105);
	assert_int_equal(json_integer_value(json_object_get(all, "total_cores")), 8);
	assert_int_equal(json_integer_value(json_object_get(all, "num_hosts")), 2);
	assert_string_equal(json_string_value(json_object_get(all, "collection_method")), "ssh");
	assert_null(json_object_get(all, "host_consistency_issues"));
	assert_null(json_object_get(all, "failed_hosts"));
	assert_non_null(
		json_object_get(json_array_get(json_object_get(all, "hosts"), 0), "vmstat"));
	json_decref(all);
	all = cluster_dictionary(&c, true);
	assert_null(json_object_get(json_array_get(json_object_get(all, "hosts"), 0), "vmstat"));
	assert_int_equal(json_array_size(json_object_get(all, "requested_hosts")), 1);
	json_decref(all);
	cluster_release(&c);
}

/* A host that told nothing pulls no minimum to zero. */
static void test_failed_host_is_in_no_sum(void **state)
{
	(void)state;
	struct cluster c = {.method = "ssh"};
	add_machine(&c, "a", 100, 4, "12", "6.1");
	cluster_add_failure(&c, "b", "timed out");
	json_t *all = cluster_dictionary(&c, false);
	assert_int_equal(json_integer_value(json_object_get(all, "min_memory_bytes")), 100);
	assert_int_equal(json_integer_value(json_object_get(all, "num_hosts")), 1);
	const json_t *failed = json_array_get(json_object_get(all, "failed_hosts"), 0);
	assert_string_equal(json_string_value(json_object_get(failed, "hostname")), "b");
	assert_string_equal(json_string_value(json_object_get(failed, "error")), "timed out");
	json_decref(all);
	cluster_release(&c);
}

static void check_issues(struct cluster *c, const char *const *want, size_t count)
{
	json_t *issues = cluster_consistency(c->hosts);
	assert_int_equal(json_array_size(issues), count);
	for (size_t i = 0; i < count; i++)
		assert_string_equal(json_string_value(json_array_get(issues, i)), want[i]);
	json_decref(issues);
	cluster_release(c);
}

static void test_consistency(void **state)
{
	(void)state;
	struct cluster c = {0};
	add_machine(&c, "a", 1 << 30, 4, "12", "6.1");
	check_issues(&c, NULL, 0); /* one host differs from nobody */
	add_machine(&c, "a", 100, 4, "12", "6.1");
	add_machine(&c, "b", 110, 4, "12", "6.1");
	check_issues(&c, NULL, 0); /* ten percent is not more than ten percent */
	add_machine(&c, "a", 1 << 30, 4, "12", "6.1");
	add_machine(&c, "b", 3 << 29, 4, "12", "6.1");
	check_issues(&c, (const char *[]){"memory differs by 50 %: a has 1.00 GiB, b has 1.50 GiB"},
		     1);
	add_machine(&c, "a", 100, 4, "12", "6.1");
	add_machine(&c, "b", 100, 8, "11", "5.10");
	add_machine(&c, "c", 100, 8, "11", "5.10");
	check_issues(
		&c,
		(const char *[]){"number of cores differs: 4 on a, 8 on b and 1 more",
				 "operating system version differs: 12 on a, 11 on b and 1 more",
				 "kernel differs: 6.1 on a, 5.10 on b and 1 more"},
		3);
}

static void test_text_of_another_program(void **state)
{
	(void)state;
	struct cluster c = {0};
	static const char *const bad[] = {
		"", "{", "[]", "{}", "{\"hostname\": 5}", "{\"hostname\": \"\"}", "5"};
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		assert_int_equal(cluster_add_text(&c, bad[i], strlen(bad[i])), -EINVAL);
	assert_int_equal(cluster_host_count(&c), 0);
	/* keys that nobody knows do no harm, nor do values of another kind */
	static const char odd[] =
		"{\"hostname\": \"x\", \"memory\": 5, \"cpu\": [], \"more\": {\"a\": 1}}";
	assert_int_equal(cluster_add_text(&c, odd, strlen(odd)), 0);
	assert_int_equal(cluster_add_text(&c, odd, strlen(odd)), 0);
	static const char huge[] = "{\"hostname\": \"y\", \"memory\": {\"total\": 9223372036854775807}}";
	assert_int_equal(cluster_add_text(&c, huge, strlen(huge)), 0);
	assert_int_equal(cluster_add_text(&c, huge, strlen(huge)), 0);
	c.method = "mpi";
	json_t *all = cluster_dictionary(&c, true);
	assert_int_equal(json_integer_value(json_object_get(all, "num_hosts")), 4);
	assert_true(json_integer_value(json_object_get(all, "total_memory_bytes")) > 0);
	json_decref(all);
	cluster_release(&c);
}

/* What a rank sends is what the controller reads. */
static void test_entry_round_trip(void **state)
{
	(void)state;
	char *line;
	struct cluster sent = {0}, local = {0};
	assert_int_equal(cluster_host_json("", &line), 0);
	assert_null(strchr(line, '\n'));
	assert_int_equal(cluster_add_text(&sent, line, strlen(line)), 0);
	free(line);
	cluster_add_local(&local, "");
	const json_t *a = json_array_get(sent.hosts, 0);
	const json_t *b = json_array_get(local.hosts, 0);
	assert_true(json_equal(json_object_get(a, "cpu"), json_object_get(b, "cpu")));
	assert_true(number(a, "memory", "total") > 0);
	assert_int_equal(number(a, "memory", "total"), number(b, "memory", "total"));
	cluster_release(&sent);
	cluster_release(&local);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_host_entry),
		cmocka_unit_test(test_physical_cores_fall_back_to_logical),
		cmocka_unit_test(test_architecture),
		cmocka_unit_test(test_nulls_left_out),
		cmocka_unit_test(test_hostile_memory),
		cmocka_unit_test(test_dictionary),
		cmocka_unit_test(test_failed_host_is_in_no_sum),
		cmocka_unit_test(test_consistency),
		cmocka_unit_test(test_text_of_another_program),
		cmocka_unit_test(test_entry_round_trip),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
