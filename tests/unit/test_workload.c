// SPDX-License-Identifier: Apache-2.0
/* Synthetic users: the reference's user table, streams that depend on nothing but their key, and
 * the names of entries. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/rng.h"
#include "workload/key.h"
#include "workload/workload.h"

/* The newest generation's numbers, in the order of the reference's template table. */
static const struct config_workload v3 = {
	.templates = {{"chatbot", 512, 4096, 50, 200, 0.1, 0.5},
		      {"coding", 4096, 25000, 100, 500, 0.2, 1.0},
		      {"document", 4096, 16384, 200, 800, 0.3, 1.5}},
	.template_count = 3,
	.interactive_probability = 0.15,
	.responsive_threshold = 0.50,
	.end_conversation_probability = 0.2,
	.max_turns_per_conversation = 50,
	.think_jitter_min = 0.8,
	.think_jitter_max = 1.2,
	.context_min_divisor = 4,
	.generation_min_divisor = 4,
	.prefill_only_tokens = 10000,
	.prefix_probability = 0.2,
	.prefix_words = {5, 9, 6},
	.prefix_count = 3,
};

static struct config make_config(int64_t users)
{
	return (struct config){.opt.num_users = users, .workload = v3};
}

static struct workload *make(const struct config *cfg, uint64_t seed, uint32_t rank)
{
	struct workload *w;
	struct error err = {0};

	assert_int_equal(workload_new(cfg, seed, rank, &w, &err), 0);
	return w;
}

static struct request next(struct workload *w, uint32_t user, struct workload_cursor *c)
{
	struct request r = {0};

	assert_int_equal(workload_next(w, user, c, &r), 0);
	assert_null(r.blocks);
	return r;
}

static void assert_same(const struct request *a, const struct request *b)
{
	assert_int_equal(a->gap_ns, b->gap_ns);
	assert_int_equal(a->sequence, b->sequence);
	assert_int_equal(a->user, b->user);
	assert_int_equal(a->conversation, b->conversation);
	assert_int_equal(a->turn, b->turn);
	assert_int_equal(a->context_tokens, b->context_tokens);
	assert_int_equal(a->generated_tokens, b->generated_tokens);
	assert_int_equal(a->prefix, b->prefix);
	assert_int_equal(a->qos, b->qos);
	assert_int_equal(a->phase, b->phase);
}

/* Computed by CPython 3.11 with the reference's order of draws; seed 42 also stands in its
 * documentation. */
struct golden {
	uint64_t seed;
	uint32_t user;
	struct workload_user want;
};
static const struct golden golden_users[] = {
	{42, 0, {2, QOS_INTERACTIVE, 16245, 481, 0.5938702245641714}},
	{42, 1, {0, QOS_BATCH, 3283, 189, 0.13477553305176648}},
	{42, 2, {1, QOS_INTERACTIVE, 7166, 211, 0.3861287147125917}},
	{42, 3, {2, QOS_INTERACTIVE, 7353, 758, 0.8034237851539905}},
	{42, 4, {1, QOS_BATCH, 4308, 488, 0.8446554014662464}},
	{42, 5, {2, QOS_RESPONSIVE, 8648, 359, 0.5583765145291065}},
	{42, 999, {1, QOS_RESPONSIVE, 10470, 332, 0.9437710726496962}},
	{0, 0, {1, QOS_BATCH, 17877, 120, 0.4071334002343707}},
	{0, 999, {0, QOS_INTERACTIVE, 3484, 85, 0.2093306161035504}},
	{(UINT64_C(1) << 40) + 7, 0, {2, QOS_BATCH, 14573, 784, 1.1467138452165493}},
	{(UINT64_C(1) << 40) + 7, 999, {2, QOS_BATCH, 13835, 562, 0.3023520677676366}},
	{UINT64_MAX, 0, {0, QOS_RESPONSIVE, 3046, 104, 0.282425554439801}},
	{UINT64_MAX, 999, {0, QOS_INTERACTIVE, 2390, 100, 0.10958882113884943}},
};

static void test_user_table_is_the_references(void **state)
{
	struct config cfg = make_config(1000);

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(golden_users); i++) {
		const struct golden *g = &golden_users[i];
		struct workload *w = make(&cfg, g->seed, 3);
		struct workload_user u = workload_user(w, g->user);

		assert_int_equal(u.template_index, g->want.template_index);
		assert_int_equal(u.qos, g->want.qos);
		assert_int_equal(u.context_tokens, g->want.context_tokens);
		assert_int_equal(u.generation_tokens, g->want.generation_tokens);
		assert_true(u.think_s == g->want.think_s);
		assert_int_equal(workload_qos(w, g->user), g->want.qos);
		workload_free(w);
	}
}

static void test_accessors(void **state)
{
	struct config cfg = make_config(7);
	struct workload *w = make(&cfg, 42, 0);

	(void)state;
	assert_int_equal(workload_streams(w), 7);
	assert_int_equal(workload_memory_bytes(w) % 7, 0);
	assert_true(workload_memory_bytes(w) >= UINT64_C(7) * 40);
	assert_false(workload_is_trace(w));
	assert_null(workload_bad_row(w));
	workload_free(w);
	workload_free(NULL);
}

enum { USERS = 20, REQUESTS = 200 };

static void test_interleaving_does_not_matter(void **state)
{
	static struct request alone[USERS][REQUESTS];
	struct config cfg = make_config(USERS);
	struct workload *w = make(&cfg, 42, 0);
	struct workload_cursor cursor[USERS] = {0};
	struct rng rng = rng_stream(1);

	(void)state;
	for (uint32_t u = 0; u < USERS; u++) {
		struct workload_cursor c = {0};
		for (uint32_t n = 0; n < REQUESTS; n++)
			alone[u][n] = next(w, u, &c);
	}
	workload_free(w);

	w = make(&cfg, 42, 0);
	for (unsigned i = 0; i < USERS * REQUESTS; i++) {
		uint32_t u = (uint32_t)rng_below(&rng, USERS);
		if (cursor[u].sequence == REQUESTS)
			continue;
		struct workload_cursor fork = cursor[u];
		struct request a = next(w, u, &cursor[u]), b = next(w, u, &fork);
		assert_same(&a, &alone[u][a.sequence]);
		assert_same(&a, &b);
		assert_memory_equal(&fork, &cursor[u], sizeof(fork));
	}
	workload_free(w);
}

static void test_gap_alone_is_the_gap(void **state)
{
	struct config cfg = make_config(USERS);
	struct workload *w = make(&cfg, 42, 0);

	(void)state;
	for (uint32_t u = 0; u < USERS; u++) {
		struct workload_cursor c = {0};
		uint64_t sum_ns = 0;
		uint64_t think_ns = (uint64_t)(workload_user(w, u).think_s * 1e9);
		for (uint32_t n = 0; n < REQUESTS; n++) {
			struct request r = next(w, u, &c);
			assert_int_equal(r.sequence, n);
			assert_int_equal(r.user, u);
			assert_int_equal(r.gap_ns, workload_gap_ns(w, u, n));
			assert_in_range(r.gap_ns, think_ns / 10 * 8 - 1, think_ns / 10 * 12 + 24);
			sum_ns += r.gap_ns;
			assert_int_equal(c.gap_sum_ns, sum_ns);
		}
	}
	workload_free(w);
}

static void test_long_think_times_do_not_overflow(void **state)
{
	struct config cfg = make_config(1);
	struct workload_cursor c = {0};

	(void)state;
	cfg.workload.templates[0] = (struct config_template){"slow", 1, 1, 1, 1, 86400, 86400};
	cfg.workload.template_count = 1;
	cfg.workload.think_jitter_min = cfg.workload.think_jitter_max = 1000;
	struct workload *w = make(&cfg, 42, 0);
	struct request r = next(w, 0, &c);
	assert_int_equal(r.gap_ns, 86400 * NS_PER_S * 1000);
	assert_int_equal(r.context_tokens + (r.prefix >= 0), 1);
	workload_free(w);
}

static void test_conversations(void **state)
{
	struct config cfg = make_config(USERS);
	struct workload *w = make(&cfg, 42, 0);
	uint64_t conversations = 0, requests = 0;

	(void)state;
	for (uint32_t u = 0; u < USERS; u++) {
		struct workload_cursor c = {0};
		struct request last = {0};
		for (uint32_t n = 0; n < 5000; n++) {
			struct request r = next(w, u, &c);
			bool goes_on = n && r.conversation == last.conversation;
			assert_true(goes_on || r.conversation == (n ? last.conversation + 1 : 0));
			assert_int_equal(r.turn, goes_on ? last.turn + 1 : 1);
			assert_in_range(r.turn, 1, 50);
			last = r;
		}
		conversations += last.conversation + 1;
		requests += 5000;
	}
	double turns = (double)requests / (double)conversations;
	assert_true(turns > 4.9 && turns < 5.1); /* 1 / 0.2 */
	workload_free(w);
}

static void test_conversations_end_at_the_limit(void **state)
{
	struct config cfg = make_config(1);
	struct workload_cursor c = {0};

	(void)state;
	cfg.workload.end_conversation_probability = 0;
	cfg.workload.max_turns_per_conversation = 3;
	struct workload *w = make(&cfg, 42, 0);
	for (uint32_t n = 0; n < 30; n++) {
		struct request r = next(w, 0, &c);
		assert_int_equal(r.conversation, n / 3);
		assert_int_equal(r.turn, n % 3 + 1);
	}
	workload_free(w);

	cfg.workload.max_turns_per_conversation = 1000000;
	w = make(&cfg, 42, 0);
	c = (struct workload_cursor){0};
	for (uint32_t n = 0; n <= KEY_TURN_MAX; n++) {
		struct request r = next(w, 0, &c);
		assert_int_equal(r.conversation, n / KEY_TURN_MAX); /* a turn always fits a key */
	}
	workload_free(w);
}

static void test_switches_change_nothing_else(void **state)
{
	struct config with = make_config(USERS), without = make_config(USERS);
	struct workload_cursor a = {0}, b = {0};

	(void)state;
	without.opt.disable_multi_turn = without.opt.disable_prefix_caching = true;
	struct workload *w1 = make(&with, 42, 0), *w2 = make(&without, 42, 0);
	for (uint32_t n = 0; n < REQUESTS; n++) {
		struct request r1 = next(w1, 4, &a), r2 = next(w2, 4, &b);
		uint32_t words = r1.prefix < 0 ? 0 : v3.prefix_words[r1.prefix];
		assert_int_equal(r2.conversation, 0);
		assert_int_equal(r2.turn, 0);
		assert_int_equal(r2.prefix, -1);
		assert_int_equal(r2.context_tokens, r1.context_tokens + words);
		assert_int_equal(r2.generated_tokens, r1.generated_tokens);
		assert_int_equal(r2.gap_ns, r1.gap_ns);
		assert_int_equal(r2.phase, r1.phase);
	}
	assert_true(workload_fingerprint(w1) != workload_fingerprint(w2));
	workload_free(w1);
	workload_free(w2);
}

static void test_context_phase_and_prefix_rules(void **state)
{
	struct config cfg = make_config(USERS);
	struct workload *w = make(&cfg, 42, 0);
	uint64_t prefixes[3] = {0}, requests = 0, edge = 0;

	(void)state;
	for (uint32_t u = 0; u < USERS; u++) {
		struct workload_user user = workload_user(w, u);
		struct workload_cursor c = {0};
		for (uint32_t n = 0; n < 5000; n++, requests++) {
			struct request r = next(w, u, &c);
			uint32_t drawn = r.context_tokens;
			if (r.prefix >= 0) {
				prefixes[r.prefix]++;
				drawn += v3.prefix_words[r.prefix];
			}
			assert_in_range(drawn, user.context_tokens / 4, user.context_tokens);
			assert_in_range(r.generated_tokens, user.generation_tokens / 4,
					user.generation_tokens);
			assert_int_equal(r.phase, drawn >= 10000 ? PHASE_PREFILL : PHASE_BOTH);
			edge += drawn >= 10000 && r.context_tokens < 10000;
		}
	}
	assert_true(edge >
		    0); /* the rule uses the context before the prefix's words are taken off */
	for (int i = 0; i < 3; i++) {
		double share = (double)prefixes[i] / (double)requests;
		assert_true(share > 0.0633 && share < 0.07); /* 0.2 / 3 */
	}
	workload_free(w);
}

static void test_prefix_never_takes_more_than_there_is(void **state)
{
	struct config cfg = make_config(1);
	struct workload_cursor c = {0};

	(void)state;
	cfg.workload.templates[0] = (struct config_template){"tiny", 4, 4, 1, 1, 0.1, 0.1};
	cfg.workload.template_count = 1;
	cfg.workload.prefix_probability = 1;
	struct workload *w = make(&cfg, 42, 0);
	for (uint32_t n = 0; n < 100; n++)
		assert_int_equal(next(w, 0, &c).context_tokens, 0);
	workload_free(w);
}

/* Against the reference's derived sizes: every user counts as often as it asks in ten seconds. */
static void test_mean_sizes(void **state)
{
	enum { MANY = 40000 };
	struct config cfg = make_config(MANY);
	struct workload *w = make(&cfg, 1, 0);
	double requests = 0, context = 0, generated = 0, prefill_only = 0;

	(void)state;
	for (uint32_t u = 0; u < MANY; u++) {
		struct workload_cursor c = {0};
		for (;;) {
			struct request r = next(w, u, &c);
			if (c.gap_sum_ns > 10 * NS_PER_S)
				break;
			requests++;
			context += r.context_tokens;
			generated += r.generated_tokens;
			prefill_only += r.phase == PHASE_PREFILL;
		}
	}
	assert_true(context / requests > 4429 * 0.98 && context / requests < 4429 * 1.02);
	assert_true(generated / requests > 147 && generated / requests < 153);
	assert_true(prefill_only / requests > 0.12 && prefill_only / requests < 0.14);
	double rate = requests / MANY / 10;
	assert_true(rate > 2.46 * 0.95 && rate < 2.46 * 1.02); /* a part gap is lost per user */
	workload_free(w);
}

static uint64_t fingerprint(int64_t users, uint64_t seed, uint32_t rank)
{
	struct config cfg = make_config(users);
	struct workload *w = make(&cfg, seed, rank);
	uint64_t result = workload_fingerprint(w);

	workload_free(w);
	return result;
}

static void test_fingerprint(void **state)
{
	uint64_t want = fingerprint(100, 42, 0);

	(void)state;
	assert_int_equal(fingerprint(100, 42, 0), want);
	assert_true(fingerprint(100, 43, 0) != want);
	assert_true(fingerprint(100, 42, 1) != want);
	assert_true(fingerprint(101, 42, 0) != want);
	/* a change of this number is a change of everybody's workload */
	assert_int_equal(want, UINT64_C(0xf12dbd3a7e4d51a5));
}

static void test_key_names(void **state)
{
	const struct {
		uint64_t key;
		uint32_t generation;
		const char *name;
	} rows[] = {
		{key_turn(42, 3, 2), 1, "kvc-u00042-c000003-t0002-g1.npy"},
		{key_turn(0, 0, 1), 0, "kvc-u00000-c000000-t0001-g0.npy"},
		{key_turn(KEY_USER_MAX, KEY_CONVERSATION_MAX, KEY_TURN_MAX), UINT32_MAX,
		 "kvc-u1048575-c16777215-t65535-g4294967295.npy"},
		{key_request(42, 1), 1, "kvc-u00042-r0000001-g1.npy"},
		{key_request(KEY_USER_MAX, KEY_SEQUENCE_MAX), 7,
		 "kvc-u1048575-r1099511627775-g7.npy"},
		{key_prefix(1), 1, "kvc-p1-g1.npy"},
		{key_block(46), 3, "kvc-b46-g3.npy"},
		{key_block(KEY_BLOCK_MAX), UINT32_MAX, "kvc-b1152921504606846975-g4294967295.npy"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		char name[KEY_NAME_SIZE];
		key_file_name(rows[i].key, rows[i].generation, name);
		assert_string_equal(name, rows[i].name);
		assert_true(key_is_own_file(name));
		for (size_t j = 0; j < i; j++)
			assert_true(rows[i].key != rows[j].key);
	}
}

static void test_foreign_names(void **state)
{
	static const char *const names[] = {
		"",
		"kvc-",
		"kvc-.npy",
		"model.npy",
		"kvc-notes.npy",
		"kvc-p1-g1.npy.tmp",
		"kvc-p1-g1.np",
		"kvc-p1-g1",
		"kvc-p1-g.npy",
		"kvc-p1.npy",
		"kvc-p01-g1.npy",
		"kvc-p1-g01.npy",
		"kvc-p1.g1.npy",
		"kvc-p+1-g1.npy",
		"kvc-p 1-g1.npy",
		"kvc-p4294967296-g1.npy",
		"kvc-p1-g4294967296.npy",
		"kvc-b1152921504606846976-g1.npy",
		"kvc-b99999999999999999999999999-g1.npy",
		"kvc-u42-r0000001-g1.npy",
		"kvc-u00042-r1-g1.npy",
		"kvc-u00042-r0000001.npy",
		"kvc-u1048576-r0000001-g1.npy",
		"kvc-u00042-c000003-g1.npy",
		"kvc-u00042-c000003-t2-g1.npy",
		"kvc-u00042-c000003-t0002-g1.npy~",
		"kvc-u00042-c000003-t65536-g1.npy",
		"kvc-u00042-t0002-c000003-g1.npy",
		"KVC-p1-g1.npy",
		" kvc-p1-g1.npy",
		"./kvc-p1-g1.npy",
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(names); i++)
		assert_false(key_is_own_file(names[i]));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_user_table_is_the_references),
		cmocka_unit_test(test_accessors),
		cmocka_unit_test(test_interleaving_does_not_matter),
		cmocka_unit_test(test_gap_alone_is_the_gap),
		cmocka_unit_test(test_long_think_times_do_not_overflow),
		cmocka_unit_test(test_conversations),
		cmocka_unit_test(test_conversations_end_at_the_limit),
		cmocka_unit_test(test_switches_change_nothing_else),
		cmocka_unit_test(test_context_phase_and_prefix_rules),
		cmocka_unit_test(test_prefix_never_takes_more_than_there_is),
		cmocka_unit_test(test_mean_sizes),
		cmocka_unit_test(test_fingerprint),
		cmocka_unit_test(test_key_names),
		cmocka_unit_test(test_foreign_names),
	};
	return cmocka_run_group_tests_name("workload", tests, NULL, NULL);
}
