// SPDX-License-Identifier: Apache-2.0
/* The parsers of a machine's own texts: as the kernel writes them, and as nobody should. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/attr.h"
#include "cluster/source.h"

static json_t *parse(const char *key, const char *text)
{
	return source_parse(key, text, strlen(text));
}

/* @text of source @key must parse to what @want says in JSON (quotes written as '). */
static void check(const char *key, const char *text, const char *want)
{
	CLEANUP_FREE char *json = strdup(want);
	for (char *p = json; *p; p++)
		if (*p == '\'')
			*p = '"';
	json_t *expected = json_loads(json, JSON_DECODE_ANY, NULL);
	json_t *got = parse(key, text);
	assert_non_null(expected);
	if (!json_equal(expected, got)) {
		CLEANUP_FREE char *shown = json_dumps(got, JSON_ENCODE_ANY);
		fail_msg("%s of \"%s\" is %s, expected %s", key, text, shown ? shown : "nothing",
			 json);
	}
	json_decref(expected);
	json_decref(got);
}

static void test_vmstat_pairs(void **state)
{
	(void)state;
	check("vmstat", "nr_free_pages 1234\nnr_zone_inactive_anon 5\npgfault 99\n",
	      "{'nr_free_pages': 1234, 'nr_zone_inactive_anon': 5, 'pgfault': 99}");
}

static void test_vmstat_empty(void **state)
{
	(void)state;
	check("vmstat", "", "{}");
	check("vmstat", "\n\n", "{}");
}

static void test_vmstat_invalid_lines(void **state)
{
	(void)state;
	check("vmstat", "alone\nnr_good 1\n\n   \nnr_also_good 2 and more\n",
	      "{'nr_good': 1, 'nr_also_good': 2}");
}

static void test_vmstat_non_integers(void **state)
{
	(void)state;
	check("vmstat", "a 1.5\nb x\nc 0x10\nd 7\ne 7x\nf --1\n", "{'d': 7}");
}

static void test_vmstat_whitespace(void **state)
{
	(void)state;
	check("vmstat", "  a \t 1  \r\n\tb\t2", "{'a': 1, 'b': 2}");
}

/* The kernel's counters have no sign; beyond what a JSON integer holds here they keep their size. */
static void test_vmstat_64_bit(void **state)
{
	(void)state;
	check("vmstat", "a 9223372036854775807\nb 4294967296\n",
	      "{'a': 9223372036854775807, 'b': 4294967296}");
	check("vmstat", "a 18446744073709551615\nb 99999999999999999999999\n",
	      "{'a': 18446744073709551615.0}");
}

static void test_vmstat_zeros(void **state)
{
	(void)state;
	check("vmstat", "a 0\nb 00\n", "{'a': 0, 'b': 0}");
}

static void test_mounts_full(void **state)
{
	(void)state;
	check("mounts", "/dev/sda1 / ext4 rw,relatime 1 2\n",
	      "[{'device': '/dev/sda1', 'mount_point': '/', 'fs_type': 'ext4', 'options': 'rw,relatime',"
	      "  'dump_freq': 1, 'pass_num': 2}]");
}

static void test_mounts_minimal_fields(void **state)
{
	(void)state;
	check("mounts", "tmpfs /run tmpfs rw\nhalf /x\n",
	      "[{'device': 'tmpfs', 'mount_point': '/run', 'fs_type': 'tmpfs', 'options': 'rw',"
	      "  'dump_freq': 0, 'pass_num': 0}]");
}

static void test_mounts_empty_and_blank_lines(void **state)
{
	(void)state;
	check("mounts", "", "[]");
	check("mounts", "\n \n\t\n", "[]");
}

static void test_mounts_special_filesystems(void **state)
{
	(void)state;
	check("mounts",
	      "server:/a\\040b /mnt/with\\040blank nfs4 rw,addr=10.0.0.1 0 0\nnone /c\\134d 9p rw\\09 0 0\n",
	      "[{'device': 'server:/a b', 'mount_point': '/mnt/with blank', 'fs_type': 'nfs4',"
	      "  'options': 'rw,addr=10.0.0.1', 'dump_freq': 0, 'pass_num': 0},"
	      " {'device': 'none', 'mount_point': '/c\\\\d', 'fs_type': '9p', 'options': 'rw\\\\09',"
	      "  'dump_freq': 0, 'pass_num': 0}]");
}

static void test_cgroups_header(void **state)
{
	(void)state;
	check("cgroups",
	      "#subsys_name\thierarchy\tnum_cgroups\tenabled\ncpuset\t0\t55\t1\ncpu\t3\t7\t0\n",
	      "[{'subsys_name': 'cpuset', 'hierarchy': 0, 'num_cgroups': 55, 'enabled': true},"
	      " {'subsys_name': 'cpu', 'hierarchy': 3, 'num_cgroups': 7, 'enabled': false}]");
}

static void test_cgroups_empty_and_only_header(void **state)
{
	(void)state;
	check("cgroups", "", "[]");
	check("cgroups", "#subsys_name\thierarchy\tnum_cgroups\tenabled\n", "[]");
	check("cgroups", "cpu 1\ncpu 1 2\ncpu a b c\n", "[]");
}

/* What was written as JSON and read back is the same. */
static void test_mounts_and_cgroups_round_trip(void **state)
{
	(void)state;
	static const struct {
		const char *key, *text;
	} cases[] = {
		{"mounts", "/dev/sda1 / ext4 rw 0 1\nproc /proc proc rw 0 0\n"},
		{"cgroups", "memory 5 100 1\nhugetlb 0 1 0\n"},
		{"vmstat", "a 1\nb 18446744073709551615\n"},
	};
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		json_t *first = parse(cases[i].key, cases[i].text);
		CLEANUP_FREE char *text = json_dumps(first, 0);
		json_t *again = json_loads(text, 0, NULL);
		assert_true(json_equal(first, again));
		json_decref(first);
		json_decref(again);
	}
}

static void test_meminfo(void **state)
{
	(void)state;
	check("meminfo",
	      "MemTotal:       16000 kB\nHugePages_Total:       0\nActive(anon): 5 kB\nOdd: x kB\nNo colon 5\n: 6\n",
	      "{'MemTotal': 16000, 'HugePages_Total': 0, 'Active(anon)': 5}");
}

static void test_cpuinfo_blocks(void **state)
{
	(void)state;
	check("cpuinfo",
	      "processor\t: 0\nmodel name\t: Fast: 3 GHz\n\n\nprocessor\t: 1\nflags\t:\n\nHardware\t: Board",
	      "[{'processor': '0', 'model name': 'Fast: 3 GHz'}, {'processor': '1', 'flags': ''}, {'Hardware': 'Board'}]");
	check("cpuinfo", "", "[]");
}

static void test_diskstats_by_kernel_version(void **state)
{
	(void)state;
	check("diskstats", "8 0 sda 1 2 3 4 5 6 7 8 9 10 11\n",
	      "[{'device_name': 'sda', 'reads_completed': 1, 'reads_merged': 2, 'sectors_read': 3, 'time_reading_ms': 4,"
	      "  'writes_completed': 5, 'writes_merged': 6, 'sectors_written': 7, 'time_writing_ms': 8,"
	      "  'ios_in_progress': 9, 'time_doing_ios_ms': 10, 'weighted_time_doing_ios_ms': 11}]");
	static const struct {
		const char *text;
		size_t fields;
	} cases[] = {
		{"8 0 a 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15", 16},
		{"8 0 a 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17", 18},
		{"8 0 a 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19", 18},
		{"8 0 a 1 2 3 4 5 6 7 8 9 10 11 12 13", 12},
	};
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		json_t *list = parse("diskstats", cases[i].text);
		assert_int_equal(json_object_size(json_array_get(list, 0)), cases[i].fields);
		json_decref(list);
	}
	check("diskstats", "8 0 sda 1 2 3\n8 0\n\n", "[]");
}

static void test_netdev(void **state)
{
	(void)state;
	check("netdev",
	      "Inter-|   Receive                |  Transmit\n face |bytes    packets |bytes    packets\n"
	      "    lo:    1  2  3  4  5  6  7  8  9  10 11 12 13 14 15 16\n"
	      "eth0:7 8\n",
	      "[{'interface_name': 'lo', 'rx_bytes': 1, 'rx_packets': 2, 'rx_errors': 3, 'rx_dropped': 4, 'rx_fifo': 5,"
	      "  'rx_frame': 6, 'rx_compressed': 7, 'rx_multicast': 8, 'tx_bytes': 9, 'tx_packets': 10, 'tx_errors': 11,"
	      "  'tx_dropped': 12, 'tx_fifo': 13, 'tx_collisions': 14, 'tx_carrier': 15, 'tx_compressed': 16}]");
	json_t *list = parse("netdev", "eth0:1:123 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16\n");
	assert_string_equal(
		json_string_value(json_object_get(json_array_get(list, 0), "interface_name")),
		"eth0:1");
	json_decref(list);
}

static void test_single_texts(void **state)
{
	(void)state;
	check("version", "  Linux version 6.1.0 (x) #1\n", "'Linux version 6.1.0 (x) #1'");
	check("loadavg", "0.50 1.25 2.00 3/456 7890\n",
	      "{'load_1min': 0.5, 'load_5min': 1.25, 'load_15min': 2.0, 'running_processes': 3, 'total_processes': 456}");
	check("uptime_seconds", "12345.67 9999.99\n", "12345.67");
	check("hostname", "node7\n", "'node7'");
	static const struct {
		const char *key, *text;
	} bad[] = {{"loadavg", ""},          {"loadavg", "0.5 0.4"}, {"loadavg", "a b c d/e"},
		   {"loadavg", "1 2 3 4 5"}, {"uptime_seconds", ""}, {"uptime_seconds", "nan"},
		   {"hostname", "\n"},       {"no such source", "x"}};
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		assert_null(parse(bad[i].key, bad[i].text));
}

static void test_os_release(void **state)
{
	(void)state;
	check("os_release",
	      "# comment\nNAME=\"Some Linux\"\nID=some\nVERSION_ID='12'\nODD=\"a \\\"b\\\" \\\\ c\"\nHALF=\"x\nEMPTY=\nnothing\n=x\n",
	      "{'NAME': 'Some Linux', 'ID': 'some', 'VERSION_ID': '12', 'ODD': 'a \\\"b\\\" \\\\ c', 'HALF': '\\\"x', 'EMPTY': ''}");
}

/* Bytes that are no text stay out of the JSON. */
static void test_hostile_bytes(void **state)
{
	(void)state;
	static const char nul[] = "a\0b 5\nok 6\n";
	json_t *counts = source_parse("vmstat", nul, sizeof(nul) - 1);
	assert_int_equal(json_integer_value(json_object_get(counts, "a?b")), 5);
	assert_int_equal(json_integer_value(json_object_get(counts, "ok")), 6);
	json_decref(counts);
	check("version", "Linux \xff\xfe", "'Linux ?" "?'");
	check("hostname", "\xc3\xa4", "'\xc3\xa4'");
	check("mounts", "/dev/a /\\377 ext4 rw\n",
	      "[{'device': '/dev/a', 'mount_point': '/?', 'fs_type': 'ext4', 'options': 'rw', 'dump_freq': 0, 'pass_num': 0}]");
}

/* A machine of which some files are missing or no text. */
static int read_fixture(void *ctx, const struct source *source, struct str *ret)
{
	(void)ctx;
	if (!strcmp(source->key, "cgroups"))
		return -ENOENT;
	if (!strcmp(source->key, "vmstat"))
		return -EACCES;
	str_add(ret, !strcmp(source->key, "meminfo") ? "MemTotal: 5 kB\n" : "");
	return 0;
}

static void test_failures_are_recorded(void **state)
{
	(void)state;
	json_t *facts = source_collect(SOURCE_SET_FACTS, read_fixture, NULL, "fallback");
	json_t *errors = json_object_get(facts, "errors");
	assert_string_equal(json_string_value(json_object_get(facts, "hostname")), "fallback");
	assert_int_equal(strlen(json_string_value(json_object_get(facts, "collection_timestamp"))),
			 20);
	assert_int_equal(json_object_size(json_object_get(facts, "meminfo")), 1);
	assert_string_equal(json_string_value(json_object_get(errors, "cgroups")),
			    "/proc/cgroups: No such file or directory");
	assert_string_equal(json_string_value(json_object_get(errors, "vmstat")),
			    "/proc/vmstat: Permission denied");
	assert_string_equal(json_string_value(json_object_get(errors, "loadavg")),
			    "/proc/loadavg: not in the form expected");
	assert_null(json_object_get(errors, "mounts"));
	assert_null(json_object_get(facts, "vmstat"));
	json_decref(facts);
}

static void test_local_info_has_vmstat_mounts_cgroups(void **state)
{
	(void)state;
	json_t *facts = source_collect_local(SOURCE_SET_FACTS, "");
	assert_true(json_object_size(json_object_get(facts, "vmstat")) > 10);
	assert_true(json_array_size(json_object_get(facts, "mounts")) > 0);
	assert_true(json_is_array(json_object_get(facts, "cgroups")));
	json_decref(facts);
}

static void test_sample_has_timestamp_hostname_five_groups(void **state)
{
	(void)state;
	json_t *sample = source_collect_local(SOURCE_SET_SAMPLE, "");
	static const char *const keys[] = {"timestamp", "hostname", "diskstats", "vmstat",
					   "loadavg",   "meminfo",  "netdev"};
	for (size_t i = 0; i < ARRAY_LEN(keys); i++)
		assert_non_null(json_object_get(sample, keys[i]));
	assert_int_equal(json_object_size(sample), ARRAY_LEN(keys)); /* so no "errors" when fine */
	json_decref(sample);
}

static void test_sample_of_a_machine_without_files(void **state)
{
	(void)state;
	json_t *sample = source_collect_local(SOURCE_SET_SAMPLE, "/nonexistent");
	assert_int_equal(json_object_size(json_object_get(sample, "errors")), 6);
	assert_non_null(json_object_get(sample, "timestamp"));
	json_decref(sample);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_vmstat_pairs),
		cmocka_unit_test(test_vmstat_empty),
		cmocka_unit_test(test_vmstat_invalid_lines),
		cmocka_unit_test(test_vmstat_non_integers),
		cmocka_unit_test(test_vmstat_whitespace),
		cmocka_unit_test(test_vmstat_64_bit),
		cmocka_unit_test(test_vmstat_zeros),
		cmocka_unit_test(test_mounts_full),
		cmocka_unit_test(test_mounts_minimal_fields),
		cmocka_unit_test(test_mounts_empty_and_blank_lines),
		cmocka_unit_test(test_mounts_special_filesystems),
		cmocka_unit_test(test_cgroups_header),
		cmocka_unit_test(test_cgroups_empty_and_only_header),
		cmocka_unit_test(test_mounts_and_cgroups_round_trip),
		cmocka_unit_test(test_meminfo),
		cmocka_unit_test(test_cpuinfo_blocks),
		cmocka_unit_test(test_diskstats_by_kernel_version),
		cmocka_unit_test(test_netdev),
		cmocka_unit_test(test_single_texts),
		cmocka_unit_test(test_os_release),
		cmocka_unit_test(test_hostile_bytes),
		cmocka_unit_test(test_failures_are_recorded),
		cmocka_unit_test(test_local_info_has_vmstat_mounts_cgroups),
		cmocka_unit_test(test_sample_has_timestamp_hostname_five_groups),
		cmocka_unit_test(test_sample_of_a_machine_without_files),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
