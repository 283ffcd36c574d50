// SPDX-License-Identifier: Apache-2.0
/* The list of runs: ids, lines that were torn, a list that was lost, runs whose process is gone. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/file.h"
#include "record/ledger.h"
#include "record/record.h"

static char root[64];
static char ledger_file[128];

static int set_up(void **state)
{
	(void)state;
	snprintf(root, sizeof(root), "/tmp/test_ledger.XXXXXX");
	if (!mkdtemp(root))
		return -1;
	snprintf(ledger_file, sizeof(ledger_file), "%s/.mlps/runs.jsonl", root);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	char command[128];
	snprintf(command, sizeof(command), "rm -rf %s", root);
	return system(command);
}

static char *const words[] = {(char *)"mlpstorage",
			      (char *)"kvcache",
			      (char *)"run",
			      (char *)"--cache-dir",
			      (char *)"a dir, with a comma",
			      NULL};

static struct record *begin_with(char *const *argv, const char *command_line, time_t when)
{
	struct record *r = NULL;
	struct error err = {0};
	struct record_spec spec = {
		.results_dir = root,
		.benchmark = "kv_cache",
		.model = "tiny-1b",
		.command = "run",
		.version = "1.2.3",
		.command_line = command_line,
		.argv = argv,
		.when = when,
	};
	assert_int_equal(record_open(&spec, &r, &err), 0);
	return r;
}

static struct record *begin(time_t when)
{
	struct record *r = begin_with(words, "mlpstorage kvcache run --cache-dir 'a dir, with a comma'", when);
	record_set(r, "num_users", json_integer(7));
	record_set(r, "duration", json_integer(60));
	return r;
}

static void end(struct record *r, enum record_status status)
{
	struct error err = {0};
	assert_int_equal(record_write(r, status, status == RECORD_COMPLETE ? 0 : 6, 1.5, &err), 0);
	record_free(r);
}

/* A run from start to end. */
static void whole_run(time_t when)
{
	end(begin(when), RECORD_COMPLETE);
}

static struct ledger open_ledger(void)
{
	struct ledger l = {0};
	struct error err = {0};
	if (ledger_open(root, &l, &err))
		fail_msg("%s", err.message);
	return l;
}

static json_t *run_at(const struct ledger *l, size_t i)
{
	json_t *run = json_array_get(l->runs, i);
	assert_non_null(run);
	return run;
}

static const char *text_of(const json_t *run, const char *key)
{
	const char *text = json_string_value(json_object_get(run, key));
	return text ? text : "(none)";
}

static json_int_t number_of(const json_t *run, const char *key)
{
	return json_integer_value(json_object_get(run, key));
}

static const char *problem(const json_t *run, size_t i)
{
	const char *text = json_string_value(json_array_get(json_object_get(run, "problems"), i));
	return text ? text : "(none)";
}

static void append_text(const char *path, const char *text)
{
	FILE *f = fopen(path, "ae");
	assert_non_null(f);
	assert_true(fputs(text, f) >= 0);
	assert_int_equal(fclose(f), 0);
}

static void expect_ids(const struct ledger *l, size_t count)
{
	assert_int_equal(json_array_size(l->runs), count);
	for (size_t i = 0; i < count; i++)
		assert_int_equal(number_of(run_at(l, i), "id"), i + 1);
}

/* No results directory, or one without runs: an empty list, and nothing is made. */
static void test_empty(void **state)
{
	(void)state;
	struct ledger l = open_ledger();
	assert_int_equal(json_array_size(l.runs), 0);
	ledger_release(&l);
	assert_int_not_equal(access(ledger_file, F_OK), 0);
	assert_int_equal(rmdir(root), 0);
	l = open_ledger();
	assert_int_equal(json_array_size(l.runs), 0);
	ledger_release(&l);
	assert_int_not_equal(access(root, F_OK), 0);
}

static void test_ids_count_up(void **state)
{
	(void)state;
	for (int i = 0; i < 3; i++)
		whole_run(1700000000 + i);
	struct ledger l = open_ledger();
	expect_ids(&l, 3);
	assert_int_equal(l.recovered + l.damaged, 0);
	assert_ptr_equal(ledger_find(&l, 2), run_at(&l, 1));
	assert_null(ledger_find(&l, 4));
	assert_null(ledger_find(&l, 0));
	ledger_release(&l);
}

static void test_what_is_kept(void **state)
{
	(void)state;
	struct record *r = begin(1700000000);
	struct error err = {0};
	record_set(r, "kvcache_metrics", json_pack("{sf}", "storage_read_gb_per_s", 1.25));
	assert_int_equal(record_write(r, RECORD_FAILED, 6, 1.5, &err), 0);
	struct ledger l = open_ledger();
	json_t *run = run_at(&l, 0);
	assert_string_equal(text_of(run, "status"), "failed");
	assert_string_equal(text_of(run, "benchmark"), "kv_cache");
	assert_string_equal(text_of(run, "model"), "tiny-1b");
	assert_string_equal(text_of(run, "command"), "run");
	assert_string_equal(text_of(run, "run_datetime"), record_stamp(r));
	assert_int_equal(number_of(run, "num_users"), 7);
	assert_int_equal(number_of(run, "exit_status"), 6);
	assert_true(json_real_value(json_object_get(run, "read_gb_per_s")) == 1.25);
	assert_int_equal(json_array_size(json_object_get(run, "argv")), 5);
	assert_string_equal(json_string_value(json_array_get(json_object_get(run, "argv"), 4)),
			    "a dir, with a comma");
	assert_int_equal(ledger_inspect(&l, run), 0);
	assert_int_equal(json_array_size(json_object_get(run, "problems")), 0);
	ledger_release(&l);
	record_free(r);
}

/* While it runs, and when it was freed without an end. */
static void test_states(void **state)
{
	(void)state;
	struct error err = {0};
	struct record *r = begin(1700000000);
	assert_int_equal(record_write(r, RECORD_RUNNING, -1, 0, &err), 0);
	struct ledger l = open_ledger();
	json_t *run = run_at(&l, 0);
	assert_string_equal(text_of(run, "status"), "running");
	assert_int_equal(ledger_inspect(&l, run), 0);
	assert_string_equal(text_of(run, "status"), "running");
	assert_int_equal(number_of(run, "num_users"), 7); /* only the metadata has it yet */
	assert_int_equal(json_array_size(json_object_get(run, "problems")), 0);
	ledger_release(&l);
	record_free(r);
	l = open_ledger();
	expect_ids(&l, 1);
	assert_string_equal(text_of(run_at(&l, 0), "status"), "failed");
	ledger_release(&l);
}

static void test_parse(void **state)
{
	(void)state;
	static const char text[] =
		"{\"id\": 1, \"dir\": \"a/b\", \"status\": \"running\"}\n"
		"\n"
		"no json\n"
		"{\"id\": 2, \"dir\": \"a/c\", \"status\": \"complete\"}\n"
		"{\"id\": 0, \"dir\": \"a/d\", \"status\": \"complete\"}\n"
		"{\"id\": 3, \"dir\": \"../out\", \"status\": \"complete\"}\n"
		"{\"id\": 3, \"dir\": \"a/../../out\", \"status\": \"complete\"}\n"
		"{\"id\": 3, \"dir\": \"/etc\", \"status\": \"complete\"}\n"
		"{\"id\": 3, \"dir\": \"a/e\", \"status\": 5}\n"
		"[1]\n"
		"{\"id\": 1, \"dir\": \"a/b\", \"status\": \"failed\"}\n"
		"{\"id\": 4, \"dir\": \"a/f\", \"sta";
	json_t *runs = json_array();
	size_t damaged = 0;
	assert_int_equal(ledger_parse(text, sizeof(text) - 1, runs, &damaged), 0);
	assert_int_equal(damaged, 8);
	assert_int_equal(json_array_size(runs), 2);
	assert_string_equal(text_of(json_array_get(runs, 0), "status"),
			    "failed"); /* the last counts */
	assert_string_equal(text_of(json_array_get(runs, 1), "dir"), "a/c");
	json_decref(runs);
}

/* What a killed writer left does not touch the lines before and behind it. */
static void test_torn_line(void **state)
{
	(void)state;
	static const char half[] = "{\"id\":3,\"dir\":\"kv_cache/ti";
	whole_run(1700000000);
	append_text(ledger_file, half);
	whole_run(1700000001); /* mended by the next writer */
	struct ledger l = open_ledger();
	assert_int_equal(l.damaged, 0);
	expect_ids(&l, 2);
	ledger_release(&l);
	append_text(ledger_file, half);
	l = open_ledger(); /* or the next reader */
	assert_int_equal(l.damaged, 1);
	expect_ids(&l, 2);
	ledger_release(&l);
	l = open_ledger();
	assert_int_equal(l.damaged, 0);
	ledger_release(&l);
}

/* Only the end of the line is missing. */
static void test_line_without_end(void **state)
{
	(void)state;
	struct stat st;
	whole_run(1700000000);
	assert_int_equal(stat(ledger_file, &st), 0);
	assert_int_equal(truncate(ledger_file, st.st_size - 1), 0);
	whole_run(1700000001);
	struct ledger l = open_ledger();
	assert_int_equal(l.damaged + l.recovered, 0);
	expect_ids(&l, 2);
	ledger_release(&l);
}

/* A new run in a tree whose list is gone does not take the number of an old one. */
static void test_lost_before_a_run(void **state)
{
	(void)state;
	whole_run(1700000000);
	whole_run(1700000001);
	assert_int_equal(unlink(ledger_file), 0);
	whole_run(1600000000);
	struct ledger l = open_ledger();
	assert_int_equal(l.damaged + l.recovered, 0);
	expect_ids(&l, 3);
	assert_memory_equal(text_of(run_at(&l, 2), "run_datetime"), "2020", 4);
	ledger_release(&l);
}

static void test_lost(void **state)
{
	(void)state;
	for (int i = 0; i < 3; i++)
		whole_run(1700000002 - i); /* numbers do not follow the names of the directories */
	assert_int_equal(unlink(ledger_file), 0);
	struct ledger l = open_ledger();
	assert_int_equal(l.recovered, 3);
	assert_false(l.is_read_only);
	expect_ids(&l, 3);
	assert_true(strcmp(text_of(run_at(&l, 0), "run_datetime"),
			   text_of(run_at(&l, 2), "run_datetime")) > 0);
	assert_int_equal(json_array_size(json_object_get(run_at(&l, 0), "argv")), 5);
	assert_string_equal(text_of(run_at(&l, 0), "status"), "complete");
	ledger_release(&l);
	l = open_ledger();
	assert_int_equal(l.recovered, 0);
	expect_ids(&l, 3);
	ledger_release(&l);
	whole_run(1700000010);
	l = open_ledger();
	expect_ids(&l, 4);
	ledger_release(&l);
}

/* One line is gone: that run comes back, with its number, and the others stay. */
static void test_one_is_missing(void **state)
{
	(void)state;
	for (int i = 0; i < 3; i++)
		whole_run(1700000000 + i);
	char command[256];
	snprintf(command, sizeof(command), "sed -i '/\"id\":2,/d' %s", ledger_file);
	assert_int_equal(system(command), 0);
	struct ledger l = open_ledger();
	assert_int_equal(l.recovered, 1);
	expect_ids(&l, 3);
	ledger_release(&l);
}

static void make_dir(const char *relative)
{
	CLEANUP_FREE char *path = path_join(root, relative);
	assert_int_equal(dir_make(path), 0);
}

/* Directories of other programs, and what is none. */
static void test_foreign(void **state)
{
	(void)state;
	static const char metadata[] =
		"{\"benchmark_type\": \"kv_cache\", \"model\": \"m\","
		"\"command\": \"run\", \"run_datetime\": \"20260102_030405\","
		"\"num_users\": \"ten\", \"exit_status\": 0}";
	make_dir("kv_cache/m/run/20260102_030405");
	make_dir("kv_cache/m/run/20260102_030406");
	make_dir("kv_cache/m/run/no_stamp");
	make_dir("kv_cache/m/run/20260102-030407");
	make_dir("a/b/c/d/20260102_030408");
	CLEANUP_FREE char *file =
		path_join(root, "kv_cache/m/run/20260102_030405/kv_cache_x_metadata.json");
	CLEANUP_FREE char *loop = path_join(root, "kv_cache/loop");
	assert_int_equal(file_write_atomic(file, metadata, strlen(metadata)), 0);
	assert_int_equal(symlink(root, loop), 0);
	struct ledger l = open_ledger();
	assert_int_equal(l.recovered, 2);
	expect_ids(&l, 2);
	json_t *run = run_at(&l, 0);
	assert_int_equal(ledger_inspect(&l, run), 0);
	assert_string_equal(text_of(run, "status"), "complete");
	assert_string_equal(problem(run, 0), "kv_cache_x_metadata.json has no 'status'");
	bool told = false;
	for (size_t i = 0; i < json_array_size(json_object_get(run, "problems")); i++)
		told = told || strstr(problem(run, i), "'num_users' is not a number");
	assert_true(told);
	run = run_at(&l, 1);
	assert_int_equal(ledger_inspect(&l, run), 0);
	assert_string_equal(text_of(run, "status"), "interrupted");
	assert_string_equal(text_of(run, "model"), "m");
	assert_string_equal(problem(run, 0), "there is no metadata file");
	ledger_release(&l);
}

static void test_unreadable_metadata(void **state)
{
	(void)state;
	struct record *r = begin(1700000000);
	CLEANUP_FREE char *path = record_path(r, "kv_cache_%s_metadata.json", record_stamp(r));
	CLEANUP_FREE char *dir = strdup(record_dir(r));
	end(r, RECORD_COMPLETE);
	assert_int_equal(file_write_atomic(path, "{\n\"a\":", 6), 0);
	struct ledger l = open_ledger();
	assert_int_equal(ledger_inspect(&l, run_at(&l, 0)), 0);
	assert_string_equal(text_of(run_at(&l, 0), "status"), "complete"); /* the ledger knows */
	assert_non_null(strstr(problem(run_at(&l, 0), 0), "is not JSON: line 2"));
	ledger_release(&l);
	assert_int_equal(unlink(path), 0);
	assert_int_equal(rmdir(dir), 0);
	l = open_ledger();
	assert_int_equal(ledger_inspect(&l, run_at(&l, 0)), 0);
	assert_string_equal(problem(run_at(&l, 0), 0), "the run directory is gone");
	ledger_release(&l);
}

/* The end is in the metadata, but did not reach the ledger. */
static void test_end_from_metadata(void **state)
{
	(void)state;
	whole_run(1700000000);
	char command[512];
	snprintf(command, sizeof(command), "sed -i 2d %s", ledger_file);
	assert_int_equal(system(command), 0);
	struct ledger l = open_ledger();
	assert_string_equal(text_of(run_at(&l, 0), "status"), "running");
	assert_int_equal(ledger_inspect(&l, run_at(&l, 0)), 0);
	assert_string_equal(text_of(run_at(&l, 0), "status"), "complete");
	assert_int_equal(json_array_size(json_object_get(run_at(&l, 0), "problems")), 0);
	ledger_release(&l);
}

/* The state of a run in state "running" whose process is as @change says. */
static void expect_life(const char *key, json_t *value, const char *status, const char *why)
{
	json_t *process = ledger_process();
	json_object_set_new(process, key, value);
	json_t *runs = json_pack("[{si, ss, ss, so}]", "id", 1, "dir", "kv_cache/m/run/x", "status",
				 "running", "process", process);
	struct ledger l = {.root = root, .runs = runs};
	assert_int_equal(ledger_inspect(&l, run_at(&l, 0)), 0);
	assert_string_equal(text_of(run_at(&l, 0), "status"), status);
	assert_string_equal(problem(run_at(&l, 0), 0), "the run directory is gone");
	assert_non_null(strstr(problem(run_at(&l, 0), 1), why));
	json_decref(runs);
}

static void test_life(void **state)
{
	(void)state;
	static const char gone[] = "its process is gone";
	json_t *me = ledger_process();
	json_int_t ticks = number_of(me, "start_ticks");
	assert_true(ticks > 0);
	expect_life("pid", json_integer(getpid()), "running", "(none)");
	expect_life("start_ticks", json_integer(ticks + 1), "interrupted",
		    gone); /* number reused */
	expect_life("boot_id", json_string("another"), "interrupted", gone);
	expect_life("host", json_string("elsewhere"), "running", "started on host 'elsewhere'");
	expect_life("pid", json_integer(-1), "interrupted", gone);
	expect_life("pid", json_string("x"), "interrupted", gone);
	json_decref(me);
}

/* A process that is dead and not yet reaped runs no more. */
static void test_zombie(void **state)
{
	(void)state;
	int p[2];
	assert_int_equal(pipe(p), 0);
	pid_t pid = fork();
	assert_true(pid >= 0);
	if (!pid) {
		whole_run(1700000005); /* the process of a run is the one that opened it */
		struct record *r = begin(1700000000);
		struct error err;
		_exit(record_write(r, RECORD_RUNNING, -1, 0, &err) != 0);
	}
	siginfo_t info;
	assert_int_equal(waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT), 0);
	assert_int_equal(info.si_status, 0);
	struct ledger l = open_ledger();
	expect_ids(&l, 2);
	assert_string_equal(text_of(run_at(&l, 1), "status"), "running");
	assert_int_equal(ledger_inspect(&l, run_at(&l, 1)), 0);
	assert_string_equal(text_of(run_at(&l, 1), "status"), "interrupted");
	assert_int_equal(ledger_inspect(&l, run_at(&l, 0)), 0);
	assert_string_equal(text_of(run_at(&l, 0), "status"), "complete");
	ledger_release(&l);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	close(p[0]);
	close(p[1]);
}

/* Many programs at once, all starting in the same second. */
static void test_concurrent(void **state)
{
	(void)state;
	enum { PROGRAMS = 20, RUNS = 3 };
	pid_t pid[PROGRAMS];
	for (int i = 0; i < PROGRAMS; i++) {
		pid[i] = fork();
		assert_true(pid[i] >= 0);
		if (!pid[i]) {
			for (int k = 0; k < RUNS; k++)
				whole_run(1700000000);
			_exit(0);
		}
	}
	for (int i = 0; i < PROGRAMS; i++) {
		int status;
		assert_int_equal(waitpid(pid[i], &status, 0), pid[i]);
		assert_int_equal(status, 0);
	}
	struct ledger l = open_ledger();
	assert_int_equal(l.recovered + l.damaged, 0);
	expect_ids(&l, (size_t)PROGRAMS * RUNS);
	for (size_t i = 0; i < json_array_size(l.runs); i++) {
		assert_int_equal(ledger_inspect(&l, run_at(&l, i)), 0);
		assert_string_equal(text_of(run_at(&l, i), "status"), "complete");
		assert_int_equal(json_array_size(json_object_get(run_at(&l, i), "problems")), 0);
	}
	ledger_release(&l);
}

/* Two trees that were put together. */
static void test_equal_ids(void **state)
{
	(void)state;
	whole_run(1700000000);
	append_text(ledger_file, "{\"id\":1,\"dir\":\"other/run\",\"status\":\"complete\"}\n");
	struct ledger l = open_ledger();
	expect_ids(&l, 2);
	assert_string_equal(text_of(run_at(&l, 1), "dir"), "other/run");
	ledger_release(&l);
	l = open_ledger(); /* the new number stays */
	expect_ids(&l, 2);
	ledger_release(&l);
}

/* Bytes that JSON cannot hold are not guessed at. */
static void test_argv_that_is_no_text(void **state)
{
	(void)state;
	static char *const odd[] = {(char *)"mlpstorage", (char *)"caf\xe9", NULL};
	end(begin_with(odd, "caf\xe9", 1700000000), RECORD_WHAT_IF);
	struct ledger l = open_ledger();
	assert_true(json_is_null(json_object_get(run_at(&l, 0), "argv")));
	assert_string_equal(text_of(run_at(&l, 0), "command_line"), "caf?");
	assert_string_equal(text_of(run_at(&l, 0), "status"), "what-if");
	ledger_release(&l);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_empty),
		TEST(test_ids_count_up),
		TEST(test_what_is_kept),
		TEST(test_states),
		TEST(test_parse),
		TEST(test_torn_line),
		TEST(test_line_without_end),
		TEST(test_lost),
		TEST(test_lost_before_a_run),
		TEST(test_one_is_missing),
		TEST(test_foreign),
		TEST(test_unreadable_metadata),
		TEST(test_end_from_metadata),
		TEST(test_life),
		TEST(test_zombie),
		TEST(test_concurrent),
		TEST(test_equal_ids),
		TEST(test_argv_that_is_no_text),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
