// SPDX-License-Identifier: Apache-2.0
/*
 * The size of a workload's KV cache. The expected values are worked out by hand from the rules: a user's context C is drawn evenly
 * from its template's range, a request's evenly from max(1, C / 4)..C, and a conversation goes on after each turn with one
 * probability, up to its longest. Bytes per token: layers x heads of K and V x head size x 2 (K and V) x 2 (float16).
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "config/config.h"

#define GIB 1073741824.0
#define MIB 1048576.0

/* Requests of 2..8 tokens, 5 in the mean; at most three turns, each followed by another one time in two. */
#define SMALL \
	"conversation: {max_turns_per_conv: 3, end_conversation_probability: 0.5}\n" \
	"user_templates:\n" \
	"  chatbot: {context_range: [8, 8]}\n" \
	"  coding: {context_range: [8, 8]}\n" \
	"  document: {context_range: [8, 8]}\n"

static struct config cfg;

/* The config of the words of @line; @yaml: the --config file, NULL: the shipped workload alone. */
static void load(const char *line, const char *yaml)
{
	char path[] = "/tmp/test_working_set_XXXXXX";
	size_t count;
	struct problems problems = {0};
	struct strlist argv = {0};
	unsigned char source[64] = {0};
	bool help = false;
	const struct opt *table = config_option_table(&count);
	const struct opt_group group = {"Options", table, count, &cfg.opt, source};
	const struct opt_set set = {&group, 1};
	assert_true(count <= sizeof(source));
	config_release(&cfg);
	assert_int_equal(strlist_add_split(&argv, line, " "), 0);
	if (yaml) {
		int fd = mkstemp(path);
		assert_true(fd >= 0);
		assert_int_equal(write(fd, yaml, strlen(yaml)), strlen(yaml));
		close(fd);
		assert_int_equal(strlist_addf(&argv, "--config=%s", path), 0);
	}
	assert_int_equal(opt_defaults(&set), 0);
	assert_int_equal(opt_parse(&set, (int)argv.count, argv.v, &problems, &help), 0);
	assert_int_equal(config_load(&group, &cfg, &problems), 0);
	if (problems.count)
		fail_msg("%s", problems.list[0].message);
	if (yaml)
		unlink(path);
	strlist_release(&argv);
}

static int tear_down(void **state)
{
	(void)state;
	config_release(&cfg);
	return 0;
}

static void assert_near(double value, double expected)
{
	if (fabs(value - expected) > 1e-9 * expected)
		fail_msg("%.17g, expected %.17g", value, expected);
}

static void test_small_by_hand(void **state)
{
	(void)state;
	load("--model tiny-1b --num-users 7", SMALL);
	struct config_working_set w = config_working_set(&cfg);
	/* Weights of the turns: 1, 1/2, 1/4. */
	double entries = (1 * 1 + 0.5 * 2 + 0.25 * 3) / 1.75;
	assert_near(w.tokens, 5);
	assert_near(w.entry_bytes, 5 * 24576.0);
	assert_near(w.entry_max_bytes, 8 * 24576.0);
	assert_near(w.entries_per_user, entries);
	assert_near(w.user_bytes, entries * 5 * 24576);
	assert_near(w.all_bytes, entries * 5 * 24576 * 7);
}

/* 1; 1..2; 1..3; 1..4: 1.75 in the mean. 8: 2..8. 20..21: 5..20 and 5..21, 12.75. The templates are equally frequent. */
static void test_ranges_and_templates(void **state)
{
	(void)state;
	load("--model tiny-1b", "user_templates:\n"
				"  chatbot: {context_range: [1, 4]}\n"
				"  coding: {context_range: [8, 8]}\n"
				"  document: {context_range: [20, 21]}\n");
	struct config_working_set w = config_working_set(&cfg);
	assert_near(w.tokens, (1.75 + 5 + 12.75) / 3);
	assert_near(w.entry_max_bytes, 21 * 24576.0);
}

static void test_entries_of_models(void **state)
{
	(void)state;
	static const struct {
		const char *line;
		double bytes_per_token;
	} models[] = {
		{"--model tiny-1b", 12 * 4 * 128 * 4},
		{"--model llama2-7b", 32 * 32 * 128 * 4},
		{"--model llama3.1-8b", 32 * 8 * 128 * 4},
		{"--model llama3.1-70b-instruct", 80 * 8 * 128 * 4},
		{"--model qwen3-32b", 64 * 8 * 128 * 4},	/* its heads are larger than 5120 / 64 */
		{"--model gpt-oss-20b", 24 * 8 * 64 * 4},
		{"--model deepseek-v3", 61 * (512 + 64) * 2},	/* one latent for K and V */
	};
	for (size_t i = 0; i < ARRAY_LEN(models); i++) {
		load(models[i].line, SMALL);
		assert_near(config_working_set(&cfg).entry_bytes, 5 * models[i].bytes_per_token);
		assert_near(config_working_set(&cfg).entry_max_bytes, 8 * models[i].bytes_per_token);
	}
}

/* A rank of the model holds its share, the largest entry in whole elements of 2 bytes. */
static void test_tensor_parallel(void **state)
{
	(void)state;
	load("--model llama3.1-70b-instruct --num-gpus 8 --tensor-parallel 8", SMALL);
	assert_near(config_working_set(&cfg).entry_bytes, 5 * 327680.0 / 8);
	assert_near(config_working_set(&cfg).entry_max_bytes, 8 * 327680.0 / 8);
	load("--model tiny-1b --num-gpus 7 --tensor-parallel 7", SMALL);
	assert_near(config_working_set(&cfg).entry_bytes, 5 * 24576.0 / 7);
	assert_near(config_working_set(&cfg).entry_max_bytes, 8 * 12288 / 7 * 2);
}

static void test_conversations(void **state)
{
	(void)state;
	load("--model tiny-1b", SMALL "workload: {multi_turn_last_only: true}\n");
	assert_near(config_working_set(&cfg).entries_per_user, (1 * 1 + 0.5 * 2 + 0.25 * 2) / 1.75);
	load("--model tiny-1b --disable-multi-turn", SMALL);
	assert_near(config_working_set(&cfg).entries_per_user, 1);
	/* Every conversation is over after its first turn; none ever ends before its tenth. */
	load("--model tiny-1b", "conversation: {end_conversation_probability: 1}\n");
	assert_near(config_working_set(&cfg).entries_per_user, 1);
	load("--model tiny-1b", "conversation: {end_conversation_probability: 0, max_turns_per_conv: 10}\n");
	assert_near(config_working_set(&cfg).entries_per_user, 5.5);
}

/*
 * The sizes that were found by drawing from the reference: 154 and 386 MiB, and, larger, 554 and 1384 MiB. They are means over
 * requests, and users who think less ask more often; here every user counts once. So this only says that both are of one size.
 */
static void test_shipped_workloads(void **state)
{
	(void)state;
	static const struct {
		const char *line;
		double drawn_mib, largest_gib, entries;
	} runs[] = {
		/* four of five conversations go on after a turn: all turns so far; v1: this one and the last */
		{"--config workload-v1.yaml --model llama3.1-8b", 154, 1.0, 1.8},
		{"--config workload-v1.yaml --model llama3.1-70b-instruct", 386, 2.5, 1.8},
		{"--model llama3.1-8b", 554, 3.05, 5},
		{"--model llama3.1-70b-instruct", 1384, 7.6, 5},
	};
	for (size_t i = 0; i < ARRAY_LEN(runs); i++) {
		load(runs[i].line, NULL);
		struct config_working_set w = config_working_set(&cfg);
		double ratio = w.entry_bytes / MIB / runs[i].drawn_mib;
		if (ratio < 1 || ratio > 2)
			fail_msg("%s: %g MiB", runs[i].line, w.entry_bytes / MIB);
		assert_true(fabs(w.entry_max_bytes / GIB / runs[i].largest_gib - 1) < 0.02);
		assert_true(fabs(w.entries_per_user - runs[i].entries) < 0.01);
	}
}

static void test_storage_need(void **state)
{
	(void)state;
	static const char users[] = "--model llama3.1-8b --num-users 1000";
	double all = (1 * 1 + 0.5 * 2 + 0.25 * 3) / 1.75 * 5 * 131072 * 1000; /* 0.96 GiB */
	static const struct {
		const char *more;
		double memory_gib, at_most_gib;
	} runs[] = {
		{"--cpu-mem-gb 0", 0, 1},
		{"--cpu-mem-gb 0.25", 0.25, 1},
		{"--cpu-mem-gb 0 --storage-capacity-gb 0.5", 0, 0.5},
		{"--cpu-mem-gb 0.25 --storage-capacity-gb 0.5", 0.25, 0.5},
		{"--cpu-mem-gb 0.75 --storage-capacity-gb 0.5", 0.75, 0.5},
		{"--cpu-mem-gb 0 --storage-capacity-gb 10", 0, 10},
		/* nothing is left for storage */
		{"--cpu-mem-gb 1", 1, 0},
		/* unknown; nothing is read again; only what fits is written */
		{"--cpu-mem-gb 0 --trace requests.jsonl", 0, 0},
		{"--cpu-mem-gb 0 --prefill-only", 0, 0},
		{"--cpu-mem-gb 0 --decode-only", 0, 0},
	};
	for (size_t i = 0; i < ARRAY_LEN(runs); i++) {
		char line[160];
		snprintf(line, sizeof(line), "%s %s", users, runs[i].more);
		load(line, SMALL);
		double need = fmin(fmax(all - runs[i].memory_gib * GIB, 0), runs[i].at_most_gib * GIB);
		if (fabs(config_storage_need(&cfg) - need) > 1)
			fail_msg("%s: %g, expected %g", runs[i].more, config_storage_need(&cfg), need);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(test_small_by_hand, tear_down),
		cmocka_unit_test_teardown(test_ranges_and_templates, tear_down),
		cmocka_unit_test_teardown(test_entries_of_models, tear_down),
		cmocka_unit_test_teardown(test_tensor_parallel, tear_down),
		cmocka_unit_test_teardown(test_conversations, tear_down),
		cmocka_unit_test_teardown(test_shipped_workloads, tear_down),
		cmocka_unit_test_teardown(test_storage_need, tear_down),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
