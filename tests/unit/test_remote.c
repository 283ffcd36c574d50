// SPDX-License-Identifier: Apache-2.0
/* What is asked of another machine, and answers: whole, cut, and made to mislead. */
#include <errno.h>
#include <netdb.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/attr.h"
#include "cluster/remote.h"

static void test_ssh_line(void **state)
{
	(void)state;
	struct strlist argv = {0};
	static const char *const want[] = {"ssh",
					   "-o",
					   "BatchMode=yes",
					   "-o",
					   "ConnectTimeout=60",
					   "-o",
					   "StrictHostKeyChecking=accept-new",
					   "--",
					   "node1",
					   "a command"};
	assert_int_equal(remote_ssh("node1", NULL, 60, "a command", &argv), 0);
	assert_int_equal(argv.count, ARRAY_LEN(want));
	for (size_t i = 0; i < ARRAY_LEN(want); i++)
		assert_string_equal(argv.v[i], want[i]);
	strlist_release(&argv);
}

static void test_ssh_line_with_user(void **state)
{
	(void)state;
	struct strlist argv = {0};
	assert_int_equal(remote_ssh("-oProxyCommand=x", "root", 5, "c", &argv), 0);
	assert_string_equal(argv.v[4], "ConnectTimeout=5");
	assert_string_equal(argv.v[7], "-l");
	assert_string_equal(argv.v[8], "root");
	assert_string_equal(argv.v[9], "--");
	assert_string_equal(argv.v[10], "-oProxyCommand=x");
	strlist_release(&argv);
}

static void test_local_names(void **state)
{
	(void)state;
	char own[256] = "", upper[300];
	static const char *const local[] = {"localhost", "LocalHost", "127.0.0.1", "::1"};
	for (size_t i = 0; i < ARRAY_LEN(local); i++)
		assert_true(remote_is_local(local[i]));
	assert_int_equal(gethostname(own, sizeof(own) - 1), 0);
	assert_true(remote_is_local(own));
	size_t n = 0;
	for (; own[n]; n++)
		upper[n] = own[n] >= 'a' && own[n] <= 'z' ? (char)(own[n] - 32) : own[n];
	upper[n] = '\0';
	assert_true(remote_is_local(upper));
	static const char *const remote[] = {"node1", "10.0.0.1", "localhost.example.org",
					     "",      "::2",      "127.0.0.11"};
	for (size_t i = 0; i < ARRAY_LEN(remote); i++)
		assert_false(remote_is_local(remote[i]));
	/* whatever the resolver takes for our full name */
	struct addrinfo hints = {.ai_flags = AI_CANONNAME};
	struct addrinfo *found = NULL;
	if (!getaddrinfo(own, NULL, &hints, &found) && found->ai_canonname &&
	    strchr(found->ai_canonname, '.') &&
	    !strncmp(found->ai_canonname, own, strcspn(own, ".")))
		assert_true(remote_is_local(found->ai_canonname));
	if (found)
		freeaddrinfo(found);
	/* begins as ours, but the resolver does not know it as our full name */
	snprintf(upper, sizeof(upper), "%s.no-such-domain.invalid", own);
	assert_false(remote_is_local(upper));
}

static void check_unique(const char *entries, const char *want)
{
	struct strlist in = {0}, out = {0};
	CLEANUP_STR struct str joined = {0};
	assert_int_equal(strlist_add_split(&in, entries, " "), 0);
	assert_int_equal(strlist_add(&in, ""), 0);
	assert_int_equal(remote_unique(&in, &out), 0);
	for (size_t i = 0; i < out.count; i++)
		str_addf(&joined, "%s%s", i ? " " : "", out.v[i]);
	assert_string_equal(str_text(&joined), want);
	strlist_release(&in);
	strlist_release(&out);
}

static void test_unique_hosts(void **state)
{
	(void)state;
	check_unique("b:4 a b:2 a:1 c", "b a c");
	check_unique("::1 fe80::1 x: x:y y:0", "::1 fe80::1 x: x:y y");
	check_unique("", "");
	check_unique(":4", "");
}

/* A shell that runs the command gives an answer that reads as this machine's own files do. */
static void test_round_trip_through_a_shell(void **state)
{
	(void)state;
	char mark[REMOTE_MARK_SIZE];
	remote_mark(mark);
	assert_int_equal(strlen(mark), 32);
	for (int set = SOURCE_SET_FACTS; set <= SOURCE_SET_SAMPLE; set++) {
		CLEANUP_STR struct str command = {0};
		CLEANUP_STR struct str answer = {0};
		remote_command((enum source_set)set, mark, &command);
		assert_null(strchr(str_text(&command), '\n'));
		FILE *f = popen(str_text(&command), "r");
		char buf[4096];
		for (size_t n; (n = fread(buf, 1, sizeof(buf), f)) > 0;)
			str_add_mem(&answer, buf, n);
		assert_int_equal(pclose(f), 0);
		json_t *there =
			remote_parse((enum source_set)set, mark, answer.s, answer.len, "fallback");
		json_t *here = source_collect_local((enum source_set)set, "");
		assert_int_equal(json_object_size(there), json_object_size(here));
		assert_true(json_equal(json_object_get(there, "hostname"),
				       json_object_get(here, "hostname")));
		if (set == SOURCE_SET_FACTS)
			assert_true(json_equal(json_object_get(there, "os_release"),
					       json_object_get(here, "os_release")));
		assert_int_equal(json_array_size(json_object_get(there, "netdev")),
				 json_array_size(json_object_get(here, "netdev")));
		json_decref(there);
		json_decref(here);
	}
}

static json_t *parse(const char *text)
{
	return remote_parse(SOURCE_SET_SAMPLE, "M", text, strlen(text), "fallback");
}

static void test_missing_files_are_errors(void **state)
{
	(void)state;
	json_t *all = parse(
		"Welcome!\nM begin /proc/vmstat\na 1\nM end /proc/vmstat 0\nM begin /proc/meminfo\n"
		"M end /proc/meminfo 1\nM begin /proc/loadavg\nno newlineM end /proc/loadavg 0\nM done\n");
	json_t *errors = json_object_get(all, "errors");
	assert_string_equal(json_string_value(json_object_get(all, "hostname")), "fallback");
	assert_int_equal(json_integer_value(json_object_get(json_object_get(all, "vmstat"), "a")),
			 1);
	assert_null(json_object_get(all, "meminfo"));
	assert_non_null(json_object_get(errors, "meminfo"));
	assert_non_null(json_object_get(errors, "loadavg"));
	assert_non_null(json_object_get(errors, "netdev"));
	json_decref(all);
}

static void test_cut_answers(void **state)
{
	(void)state;
	static const char *const cut[] = {"",
					  "M",
					  "M done",
					  "nothing\n",
					  "M begin /proc/vmstat\na 1\n",
					  "M begin /proc/vmstat\na 1\nM end /proc/vmstat 0\n"};
	for (size_t i = 0; i < ARRAY_LEN(cut); i++)
		assert_null(parse(cut[i]));
	static const char *const odd[] = {"M done\nM begin /proc/vmstat\n",
					  "M done\nM begin /proc/vmstat\nM end /proc/vmstat ",
					  "M end /proc/vmstat 0\nM begin /proc/vmstat\nM done\n"};
	for (size_t i = 0; i < ARRAY_LEN(odd); i++) {
		json_t *all = parse(odd[i]);
		assert_null(json_object_get(all, "vmstat"));
		json_decref(all);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_ssh_line),
		cmocka_unit_test(test_ssh_line_with_user),
		cmocka_unit_test(test_local_names),
		cmocka_unit_test(test_unique_hosts),
		cmocka_unit_test(test_round_trip_through_a_shell),
		cmocka_unit_test(test_missing_files_are_errors),
		cmocka_unit_test(test_cut_answers),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
