// SPDX-License-Identifier: Apache-2.0
/* The option parser against a table with one row of every type, and against kv-cache's own table.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "config/config.h"
#include "config/opt.h"

struct values {
	bool flag;
	int64_t whole;
	int64_t seed;
	double real;
	uint64_t size;
	char *text;
	char *path;
	int choice;
	struct strlist list;
	struct strlist words;
	struct strlist args;
};

static const char *const colours[] = {"red", "green", "blue", NULL};

#define V(field) .offset = offsetof(struct values, field)
static const struct opt rows[] = {
	{"--flag", "-f", OPT_FLAG, V(flag), .help = "a flag"},
	{"--num-users", "-nu", OPT_INT, V(whole), .min = 1, .max = 100000, .def = "100",
	 .meta = "N", .help = "a number"},
	{"--seed", NULL, OPT_INT, V(seed), .min = 0, .max = INFINITY, .flags = OPT_F_UNSET_NULL},
	{"--real", NULL, OPT_REAL, V(real), .min = -10, .max = 10, .def = "1.5"},
	{"--size", NULL, OPT_SIZE, V(size), .min = 4096, .max = 67108864, .def = "1MiB"},
	{"--text", NULL, OPT_TEXT, V(text), .def = "hello"},
	{"--path", "-p", OPT_TEXT, V(path), .meta = "DIR"},
	{"--choice", NULL, OPT_CHOICE, V(choice), .choices = colours, .def = "green"},
	{"--list", NULL, OPT_LIST, V(list)},
	{"--words", "-w", OPT_WORDS, V(words), .def = "127.0.0.1"},
	{"--args", NULL, OPT_ARGS, V(args)},
	{"--secret", NULL, OPT_FLAG, V(flag), .flags = OPT_F_HIDDEN},
};

enum { ROWS = ARRAY_LEN(rows) };

struct fixture {
	struct values v;
	unsigned char source[ROWS];
	struct opt_group group;
	struct opt_set set;
	struct problems problems;
	bool help;
};

static int set_up(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	f->group = (struct opt_group){"Options", rows, ROWS, &f->v, f->source};
	f->set = (struct opt_set){&f->group, 1};
	*state = f;
	return opt_defaults(&f->set);
}

static int tear_down(void **state)
{
	struct fixture *f = *state;
	opt_release(&f->set);
	problems_release(&f->problems);
	free(f);
	return 0;
}

/* Parse the words of @line, split at '|'. */
static void parse(struct fixture *f, const char *line)
{
	struct strlist argv = {0};
	assert_int_equal(strlist_add_split(&argv, line, "|"), 0);
	assert_int_equal(opt_parse(&f->set, (int)argv.count, argv.v, &f->problems, &f->help), 0);
	strlist_release(&argv);
}

static void assert_problem(const struct fixture *f, size_t index, const char *message)
{
	assert_true(index < f->problems.count);
	assert_string_equal(f->problems.list[index].message, message);
}

static void test_defaults(void **state)
{
	struct fixture *f = *state;
	assert_false(f->v.flag);
	assert_int_equal(f->v.whole, 100);
	assert_true(f->v.real == 1.5);
	assert_int_equal(f->v.size, 1 << 20);
	assert_string_equal(f->v.text, "hello");
	assert_null(f->v.path);
	assert_int_equal(f->v.choice, 1);
	assert_int_equal(f->v.list.count, 0);
	assert_int_equal(f->v.words.count, 1);
	assert_false(opt_given(&f->set, "--num-users"));
	assert_false(opt_given(&f->set, "--no-such-option"));
}

static void test_forms(void **state)
{
	struct fixture *f = *state;
	parse(f, "--flag|-nu|7|--real=-2.5|--size|64KiB|--text=--odd=1|-p|-|--choice|blue|--seed|"
		 "9223372036854775807");
	assert_int_equal(f->problems.count, 0);
	assert_true(f->v.flag);
	assert_int_equal(f->v.whole, 7);
	assert_true(f->v.real == -2.5);
	assert_int_equal(f->v.size, 65536);
	assert_string_equal(f->v.text, "--odd=1");
	assert_string_equal(f->v.path, "-");
	assert_int_equal(f->v.choice, 2);
	assert_true(f->v.seed == INT64_MAX);
	assert_true(opt_given(&f->set, "--num-users"));
	assert_true(opt_given(&f->set, "-nu"));
}

static void test_negative_number_is_a_value(void **state)
{
	struct fixture *f = *state;
	parse(f, "--real|-3|--text|-.5");
	assert_int_equal(f->problems.count, 0);
	assert_true(f->v.real == -3);
	assert_string_equal(f->v.text, "-.5");
}

static void test_last_wins_and_lists_grow(void **state)
{
	struct fixture *f = *state;
	parse(f,
	      "-nu|1|--num-users=2|--text|a|--text|b|--list|x|--list=y|--words|h1|h2:4|--flag|-w|h3");
	assert_int_equal(f->problems.count, 0);
	assert_int_equal(f->v.whole, 2);
	assert_string_equal(f->v.text, "b");
	assert_int_equal(f->v.list.count, 2);
	assert_string_equal(f->v.list.v[1], "y");
	/* the default is replaced, then the list grows */
	assert_int_equal(f->v.words.count, 3);
	assert_string_equal(f->v.words.v[0], "h1");
	assert_string_equal(f->v.words.v[2], "h3");
}

static void test_words_in_one(void **state)
{
	struct fixture *f = *state;
	parse(f, "--words=a,b c, d");
	assert_int_equal(f->problems.count, 0);
	assert_int_equal(f->v.words.count, 4);
	assert_string_equal(f->v.words.v[3], "d");
}

/* Another program's options: dashes included, up to one of ours. */
static void test_args_end_at_an_option_of_ours(void **state)
{
	struct fixture *f = *state;
	parse(f, "--args|--mca|btl|tcp,self|-x|A=b c|-nu|7|--args|-v|--args=--one 'two words'");
	assert_int_equal(f->problems.count, 0);
	assert_int_equal(f->v.whole, 7);
	static const char *const expected[] = {"--mca", "btl", "tcp,self", "-x", "A=b c", "-v", "--one", "two words"};
	assert_int_equal(f->v.args.count, ARRAY_LEN(expected));
	for (size_t i = 0; i < ARRAY_LEN(expected); i++)
		assert_string_equal(f->v.args.v[i], expected[i]);
}

/* A single word is a line in quotes. */
static void test_args_in_one_word(void **state)
{
	struct fixture *f = *state;
	parse(f, "--args|--mca pml \"ob 1\" \\'|--flag");
	assert_int_equal(f->problems.count, 0);
	assert_true(f->v.flag);
	assert_int_equal(f->v.args.count, 4);
	assert_string_equal(f->v.args.v[2], "ob 1");
	assert_string_equal(f->v.args.v[3], "'");
}

static void test_args_violations(void **state)
{
	struct fixture *f = *state;
	parse(f, "--args|-nu|7|--args=|--args|a 'b|--args");
	assert_problem(f, 0, "--args: value missing, expected words with closed quotes"
			     " (\"-nu\" is read as an option; write --args=-nu if it is the value)");
	assert_problem(f, 1, "--args: value is empty, expected words with closed quotes");
	assert_problem(f, 2, "--args: \"a 'b\" leaves a quote open, expected words with closed quotes");
	assert_problem(f, 3, "--args: value missing, expected words with closed quotes");
	assert_int_equal(f->problems.count, 4);
	assert_int_equal(f->v.args.count, 0);
}

static void test_every_violation_at_once(void **state)
{
	struct fixture *f = *state;
	parse(f,
	      "--num-user|5|-nu|0|--num-users|1e3|--real|11|--real|nan|--size|1Q|--size|1KiB|"
	      "--choice|pink|--path|--flag|foo|--|--flag=1|--seed|99999999999999999999|--zzz|--words");
	static const char *const want[] = {
		"--num-user: unknown option, did you mean --num-users?",
		"--num-users: 0 is out of range, expected 1..100000",
		"--num-users: \"1e3\" is not a whole number, expected 1..100000",
		"--real: 11 is out of range, expected -10..10",
		"--real: \"nan\" is not a number, expected -10..10",
		"--size: \"1Q\" is not a size like 4096, 64KiB or 1MiB, expected 4KiB..64MiB",
		"--size: 1KiB is out of range, expected 4KiB..64MiB",
		"--choice: \"pink\" is not known, expected one of red, green, blue",
		"--path: value missing, expected DIR (\"--flag\" is read as an option; write "
		"--path=--flag if it is the value)",
		"unexpected word \"foo\"",
		"unexpected word \"--\"",
		"--flag: takes no value, but \"1\" was given",
		"--seed: 99999999999999999999 is too large, expected at least 0",
		"--zzz: unknown option",
		"--words: value missing, expected a text",
	};
	for (size_t i = 0; i < ARRAY_LEN(want); i++)
		assert_problem(f, i, want[i]);
	assert_int_equal(f->problems.count, ARRAY_LEN(want));
	assert_int_equal(f->problems.list[0].code, ERR_CONFIG_INVALID);
	assert_int_equal(f->v.whole, 100); /* a refused value leaves the old one */
	assert_false(opt_given(&f->set, "--num-users"));
}

static void test_empty_value(void **state)
{
	struct fixture *f = *state;
	parse(f, "--path=|--words= ,|--num-users=");
	assert_problem(f, 0, "--path: value is empty, expected DIR");
	assert_problem(f, 1, "--words: value is empty, expected a text");
	assert_problem(f, 2, "--num-users: value is empty, expected 1..100000");
	assert_null(f->v.path);
}

static void test_long_names_are_not_abbreviated(void **state)
{
	struct fixture *f = *state;
	parse(f, "--num|3");
	assert_int_equal(f->problems.count, 1);
	assert_int_equal(f->v.whole, 100);
}

static void test_help_wins(void **state)
{
	struct fixture *f = *state;
	parse(f, "--nonsense|--num-users|0|-h");
	assert_true(f->help);
	assert_int_equal(f->problems.count, 0);
}

static size_t index_of(const struct fixture *f, const char *name)
{
	const struct opt_group *group;
	size_t index;
	assert_true(opt_find(&f->set, name, &group, &index));
	return index;
}

static void test_values_from_a_file(void **state)
{
	struct fixture *f = *state;
	size_t words = index_of(f, "-w");
	size_t flag = index_of(f, "--flag");
	assert_int_equal(
		opt_set_text(&f->group, words, "a b", OPT_FROM_FILE, "f:1: ", &f->problems), 0);
	assert_int_equal(opt_set_text(&f->group, words, "c", OPT_FROM_FILE, "f:2: ", &f->problems),
			 0);
	assert_int_equal(f->v.words.count, 3);
	assert_int_equal(opt_set_text(&f->group, flag, "yes", OPT_FROM_FILE, "f:3: ", &f->problems),
			 0);
	assert_true(f->v.flag);
	assert_int_equal(f->source[flag], OPT_FROM_FILE);
	parse(f, "--words|d");
	assert_int_equal(f->v.words.count, 1);
	assert_int_equal(
		opt_set_text(&f->group, flag, "maybe", OPT_FROM_FILE, "f:4: ", &f->problems),
		-EINVAL);
	assert_problem(f, 0, "f:4: --flag: \"maybe\" is not true or false, expected true or false");
}

static void assert_text(const struct fixture *f, const char *name, const char *want)
{
	CLEANUP_STR struct str s = {0};
	bool set = opt_text(&f->group, index_of(f, name), &s);
	assert_int_equal(set, want != NULL);
	if (want)
		assert_string_equal(str_text(&s), want);
}

static void test_text(void **state)
{
	struct fixture *f = *state;
	assert_text(f, "--flag", "false");
	assert_text(f, "--num-users", "100");
	assert_text(f, "--seed", NULL);
	assert_text(f, "--real", "1.5");
	assert_text(f, "--size", "1MiB");
	assert_text(f, "--path", NULL);
	assert_text(f, "--choice", "green");
	assert_text(f, "--list", NULL);
	parse(f, "--seed|0|--list|a|--list|b");
	assert_text(f, "--seed", "0");
	assert_text(f, "--list", "a b");
	char key[16];
	opt_key(&rows[1], key, sizeof(key));
	assert_string_equal(key, "num_users");
	opt_key(&rows[1], key, 4);
	assert_string_equal(key, "num");
}

/* What a program prints as its command line must read back to the same values. */
static void test_argv_round_trip(void **state)
{
	struct fixture *f = *state;
	struct strlist argv = {0};
	parse(f,
	      "--flag|-nu|7|--seed|3|--real|-2.5|--size|4096|--text=-x|--choice|red|--list=--a|--list|b|"
	      "--words|h1|h2|--words=-x|--words|h3|--args|-x|A=b 'c|--y");
	assert_int_equal(f->problems.count, 0);
	for (size_t i = 0; i < ROWS; i++)
		assert_int_equal(opt_to_argv(&f->group, i, &argv), 0);

	struct values again = {0};
	unsigned char source[ROWS] = {0};
	struct opt_group group = {"Options", rows, ROWS, &again, source};
	struct opt_set set = {&group, 1};
	assert_int_equal(opt_defaults(&set), 0);
	assert_int_equal(opt_parse(&set, (int)argv.count, argv.v, &f->problems, &f->help), 0);
	assert_int_equal(f->problems.count, 0);
	for (size_t i = 0; i < ROWS; i++) {
		CLEANUP_STR struct str a = {0}, b = {0};
		assert_int_equal(opt_text(&f->group, i, &a), opt_text(&group, i, &b));
		assert_string_equal(str_text(&a), str_text(&b));
	}
	assert_int_equal(again.words.count, 4);
	assert_int_equal(again.args.count, 3);
	assert_null(again.path);
	opt_release(&set);
	strlist_release(&argv);
}

static void test_help_text(void **state)
{
	struct fixture *f = *state;
	char *text = NULL;
	size_t len;
	FILE *out = open_memstream(&text, &len);
	opt_help(&f->set, out);
	fclose(out);
	assert_non_null(strstr(text, "Options:\n"));
	assert_non_null(strstr(text, "  -nu, --num-users N "));
	assert_non_null(strstr(text, "a number (1..100000; default 100)"));
	assert_non_null(strstr(text, "(red, green, blue; default green)"));
	assert_non_null(strstr(text, "--words VALUE..."));
	assert_null(strstr(text, "--secret"));
	free(text);
}

/* The whole table of kv-cache: defaults parse, names are unique, no field is filled twice, lines
 * are short. */
static void test_kv_cache_table(void **state)
{
	(void)state;
	size_t count;
	const struct opt *table = config_option_table(&count);
	struct config_options o = {0};
	unsigned char *source = calloc(count, 1);
	struct opt_group group = {"Options", table, count, &o, source};
	struct opt_set set = {&group, 1};
	assert_int_equal(opt_defaults(&set), 0);
	for (size_t i = 0; i < count; i++) {
		assert_non_null(table[i].help);
		for (size_t j = 0; j < i; j++) {
			assert_string_not_equal(table[i].name, table[j].name);
			assert_int_not_equal(table[i].offset, table[j].offset);
		}
	}
	assert_string_equal(o.model, "llama3.1-8b");
	assert_int_equal(o.num_users, 100);
	assert_int_equal(o.duration_s, 60);
	assert_true(o.gpu_mem_gib == 16 && o.cpu_mem_gib == 32 && o.storage_capacity_gib == 0);
	assert_int_equal(o.generation_mode, GENERATION_REALISTIC);
	assert_int_equal(o.performance_profile, PROFILE_LATENCY);
	assert_int_equal(o.storage_backend, BACKEND_FILE);
	assert_int_equal(o.io_size_bytes, 1 << 20);
	assert_int_equal(o.io_depth, 32);
	assert_int_equal(o.request_parallel, 8);
	assert_int_equal(o.sync, SYNC_FSYNC);
	assert_int_equal(o.verify, VERIFY_STAMP);
	assert_int_equal(o.log_level, CONFIG_LOG_INFO);
	assert_true(o.trace_speedup == 1.0);
	assert_null(o.cache_dir);
	assert_null(o.output);

	char *text = NULL;
	size_t len;
	FILE *out = open_memstream(&text, &len);
	opt_help(&set, out);
	fclose(out);
	for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n"))
		assert_true(strlen(line) <= 100);
	free(text);
	opt_release(&set);
	free(source);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_defaults),
		TEST(test_forms),
		TEST(test_negative_number_is_a_value),
		TEST(test_last_wins_and_lists_grow),
		TEST(test_words_in_one),
		TEST(test_args_end_at_an_option_of_ours),
		TEST(test_args_in_one_word),
		TEST(test_args_violations),
		TEST(test_every_violation_at_once),
		TEST(test_empty_value),
		TEST(test_long_names_are_not_abbreviated),
		TEST(test_help_wins),
		TEST(test_values_from_a_file),
		TEST(test_text),
		TEST(test_argv_round_trip),
		TEST(test_help_text),
		TEST(test_kv_cache_table),
	};
	return cmocka_run_group_tests_name("opt", tests, NULL, NULL);
}
