// SPDX-License-Identifier: Apache-2.0
/* From a command line and files to a checked struct config: shipped numbers, the reference's own
 * file, every refusal. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "config/config.h"

struct fixture {
	struct config cfg;
	unsigned char source[64];
	struct opt_group group;
	struct opt_set set;
	struct problems problems;
	char path[32]; /* a file for --config */
};

static int set_up(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	size_t count;
	const struct opt *table = config_option_table(&count);
	if (count > sizeof(f->source))
		return -1;
	f->group = (struct opt_group){"Options", table, count, &f->cfg.opt, f->source};
	f->set = (struct opt_set){&f->group, 1};
	strcpy(f->path, "/tmp/test_config_XXXXXX");
	int fd = mkstemp(f->path);
	*state = f;
	return fd < 0 || close(fd) ? -1 : 0;
}

static int tear_down(void **state)
{
	struct fixture *f = *state;
	unlink(f->path);
	config_release(&f->cfg);
	opt_release(&f->set); /* both may be called */
	problems_release(&f->problems);
	free(f);
	return 0;
}

/* Load with the words of @line, split at blanks. */
static void load(struct fixture *f, const char *line)
{
	struct strlist argv = {0};
	bool help = false;
	config_release(&f->cfg);
	problems_release(&f->problems);
	assert_int_equal(strlist_add_split(&argv, line, " "), 0);
	assert_int_equal(opt_defaults(&f->set), 0);
	assert_int_equal(opt_parse(&f->set, (int)argv.count, argv.v, &f->problems, &help), 0);
	assert_int_equal(config_load(&f->group, &f->cfg, &f->problems), 0);
	strlist_release(&argv);
}

/* Load with @yaml as the --config file. */
static void load_yaml(struct fixture *f, const char *options, const char *yaml)
{
	CLEANUP_STR struct str line = {0};
	FILE *out = fopen(f->path, "w");
	assert_non_null(out);
	fputs(yaml, out);
	assert_int_equal(fclose(out), 0);
	str_addf(&line, "--config %s %s", f->path, options);
	load(f, str_text(&line));
}

static void assert_fine(const struct fixture *f)
{
	if (f->problems.count)
		fail_msg("%s", f->problems.list[0].message);
}

static void assert_only_problem(const struct fixture *f, const char *part)
{
	if (f->problems.count != 1 || !strstr(f->problems.list[0].message, part))
		fail_msg("%zu problems, the first: %s", f->problems.count,
			 f->problems.count ? f->problems.list[0].message : "");
}

static void assert_template(const struct config_template *t, const char *name,
			    const uint32_t tokens[4], double think_min, double think_max)
{
	assert_string_equal(t->name, name);
	assert_int_equal(t->context_min, tokens[0]);
	assert_int_equal(t->context_max, tokens[1]);
	assert_int_equal(t->generation_min, tokens[2]);
	assert_int_equal(t->generation_max, tokens[3]);
	assert_true(t->think_min_s == think_min && t->think_max_s == think_max);
}

/* What both generations have in common. */
static void assert_common(const struct config_workload *w)
{
	assert_int_equal(w->template_count, 3);
	assert_true(w->interactive_probability == 0.15 && w->responsive_threshold == 0.5);
	assert_int_equal(w->qos[QOS_INTERACTIVE].priority, 3);
	assert_int_equal(w->qos[QOS_BATCH].priority, 1);
	assert_true(w->qos[QOS_INTERACTIVE].target_p95_ms == 50);
	assert_true(w->qos[QOS_RESPONSIVE].target_p99_ms == 200);
	assert_true(w->qos[QOS_BATCH].target_p99_ms == 5000);
	assert_true(w->generation_s[GENERATION_NONE] == 0);
	assert_true(w->generation_s[GENERATION_FAST] == 0.002);
	assert_true(w->generation_s[GENERATION_REALISTIC] == 0.03);
	assert_true(w->end_conversation_probability == 0.2);
	assert_true(w->think_jitter_min == 0.8 && w->think_jitter_max == 1.2);
	assert_int_equal(w->context_min_divisor, 4);
	assert_int_equal(w->generation_min_divisor, 4);
	assert_int_equal(w->prefill_only_tokens, 10000);
	assert_int_equal(w->decode_batch_tokens, 32);
	assert_true(w->prefix_probability == 0.2);
	assert_int_equal(w->prefix_count, 3);
	assert_int_equal(w->prefix_words[0], 5);
	assert_int_equal(w->prefix_words[1], 9);
	assert_int_equal(w->prefix_words[2], 6);
	assert_true(w->target_usage_ratio == 0.8 && w->large_entry_limit_ratio == 0.95);
	assert_false(w->prefix_written || w->decode_single_read || w->priority_aging);
	assert_int_equal(w->arrival, ARRIVAL_OPEN);
}

static void test_shipped_v3(void **state)
{
	struct fixture *f = *state;
	load(f, "");
	assert_fine(f);
	const struct config_workload *w = &f->cfg.workload;
	assert_string_equal(w->name, "v3");
	assert_common(w);
	assert_template(&w->templates[0], "chatbot", (uint32_t[]){512, 4096, 50, 200}, 0.1, 0.5);
	assert_template(&w->templates[1], "coding", (uint32_t[]){4096, 25000, 100, 500}, 0.2, 1.0);
	assert_template(&w->templates[2], "document", (uint32_t[]){4096, 16384, 200, 800}, 0.3,
			1.5);
	assert_true(w->qos[QOS_INTERACTIVE].target_p999_ms == 150);
	assert_true(w->qos[QOS_RESPONSIVE].target_p9999_ms == 500);
	assert_true(w->qos[QOS_BATCH].target_p999_ms == 7500);
	assert_int_equal(w->max_turns_per_conversation, 50);
	assert_false(w->multi_turn_last_only);
	assert_int_equal(f->cfg.notices.count, 0);
	assert_string_equal(f->cfg.model.key, "llama3.1-8b");
	assert_int_equal(f->cfg.bytes_per_token, 131072);
}

static void test_shipped_v1(void **state)
{
	struct fixture *f = *state;
	load(f, "--config workload-v1.yaml");
	assert_fine(f);
	const struct config_workload *w = &f->cfg.workload;
	assert_string_equal(w->name, "v1");
	assert_common(w);
	assert_template(&w->templates[0], "chatbot", (uint32_t[]){256, 1024, 50, 150}, 0.1, 0.5);
	assert_template(&w->templates[1], "coding", (uint32_t[]){1024, 4096, 100, 500}, 0.2, 1.0);
	assert_template(&w->templates[2], "document", (uint32_t[]){2048, 8192, 200, 800}, 0.3, 1.5);
	assert_true(w->qos[QOS_INTERACTIVE].target_p999_ms == 0);
	assert_true(w->qos[QOS_BATCH].target_p9999_ms == 0);
	assert_true(w->multi_turn_last_only);
	assert_null(config_shipped("workload-v2.yaml"));
}

/* A file as it ships with the reference: every key of its schema. */
static const char reference_yaml[] =
	"user_templates:\n"
	"  chatbot: {context_range: [512, 4096], generation_range: [50, 200], think_time_range: [0.1, 0.5]}\n"
	"  coding: {context_range: [4096, 25000], generation_range: [100, 500], think_time_range: [0.2, 1.0]}\n"
	"  document: {context_range: [4096, 16384], generation_range: [200, 800], think_time_range: [0.3, 1.5]}\n"
	"generation_timing: {none: 0.0, fast: 0.002, realistic: 0.030}\n"
	"qos_profiles:\n"
	"  interactive: {target_latency_p95_ms: 50, target_latency_p99_ms: 100, target_latency_p999_ms: 150,\n"
	"                target_latency_p9999_ms: 200, priority: 3}\n"
	"  responsive: {target_latency_p95_ms: 100, target_latency_p99_ms: 200, target_latency_p999_ms: 350,\n"
	"               target_latency_p9999_ms: 500, priority: 2}\n"
	"  batch: {target_latency_p95_ms: 1000, target_latency_p99_ms: 5000, target_latency_p999_ms: 7500,\n"
	"          target_latency_p9999_ms: 10000, priority: 1}\n"
	"qos_distribution: {interactive_probability: 0.15, responsive_threshold: 0.50}\n"
	"eviction: {max_recursion_depth: 10, target_usage_ratio: 0.7, large_entry_limit_ratio: 0.9,\n"
	"           max_evictions_hard_cap: 5000, max_evictions_min: 1000}\n"
	"gpu_backend: {memory_fraction: 0.9, max_eviction_attempts: 100, free_memory_threshold: 0.1}\n"
	"prefix_cache: {min_prefix_length: 50, max_prefix_entries: 1000, system_prompt_hit_probability: 0.3}\n"
	"rag: {chunk_size_tokens: 512, top_k_chunks: 5, max_chunk_bytes: 268435456, request_probability: 0.1,\n"
	"      retrieval_distribution: zipfian, max_documents: 0, large_model_doc_tokens_min: 1024,\n"
	"      large_model_doc_tokens_max: 4096, small_model_doc_tokens_min: 4000,\n"
	"      small_model_doc_tokens_max: 12000}\n"
	"conversation: {max_conversations: 1000, max_turns_per_conv: 40, end_conversation_probability: 0.25}\n"
	"autoscaler: {min_users: 1, max_users: 10000, scale_up_factor: 1.2, scale_down_factor: 0.8,\n"
	"             consecutive_samples_required: 2}\n"
	"decode: {batch_size: 16}\n"
	"sharegpt: {max_context_tokens: 8192, max_generation_tokens: 2048, chars_per_token_estimate: 4}\n"
	"saturation_detection: {read_latency_p95_threshold_ms: 100, write_latency_p95_threshold_ms: 50,\n"
	"                       queue_depth_threshold: 100, history_window_size: 10}\n"
	"validation_limits: {max_users: 100000, max_duration_seconds: 86400, max_gpu_memory_gb: 1024,\n"
	"                    max_cpu_memory_gb: 16384}\n"
	"model_configs:\n"
	"  llama3.1-8b: {name: L8, num_layers: 32, hidden_dim: 4096, num_heads: 32, kv_heads: 8, dtype: float16,\n"
	"                attention_type: gqa}\n"
	"  deepseek-v3: {num_layers: 61, attention_type: mla, kv_lora_rank: 512, qk_rope_head_dim: 64}\n";

static void test_reference_file(void **state)
{
	struct fixture *f = *state;
	load_yaml(f, "", reference_yaml);
	assert_fine(f);
	const struct config_workload *w = &f->cfg.workload;
	assert_true(w->target_usage_ratio == 0.7 && w->large_entry_limit_ratio == 0.9);
	assert_true(w->prefix_probability == 0.3);
	assert_int_equal(w->max_turns_per_conversation, 40);
	assert_true(w->end_conversation_probability == 0.25);
	assert_int_equal(w->decode_batch_tokens, 16);
	assert_int_equal(w->template_count, 3);
	assert_int_equal(strncmp(w->name, "test_config_", 12), 0);
	assert_string_equal(f->cfg.model.name, "L8");

	/* One notice per section with something that has no effect. */
	static const char *const parts[] = {
		"eviction.max_recursion_depth, eviction.max_evictions_hard_cap, eviction.max_evictions_min",
		"section 'gpu_backend'",
		"prefix_cache.min_prefix_length, prefix_cache.max_prefix_entries in ",
		"section 'rag'",
		"conversation.max_conversations in ",
		"section 'autoscaler'",
		"section 'sharegpt'",
		"section 'saturation_detection'",
		"section 'validation_limits'",
	};
	assert_int_equal(f->cfg.notices.count, ARRAY_LEN(parts));
	for (size_t i = 0; i < ARRAY_LEN(parts); i++)
		assert_non_null(strstr(f->cfg.notices.v[i], parts[i]));
}

static void test_templates_of_a_file(void **state)
{
	struct fixture *f = *state;
	load_yaml(
		f, "",
		"workload: {name: mine, arrival: closed, priority_aging: true}\n"
		"user_templates:\n"
		"  chatbot:\n" /* empty: removed */
		"  coding: {context_range: [1, 2]}\n"
		"  agent: {context_range: [5, 6], generation_range: [7, 8], think_time_range: [0, 0.5]}\n");
	assert_fine(f);
	const struct config_workload *w = &f->cfg.workload;
	assert_string_equal(w->name, "mine");
	assert_int_equal(w->arrival, ARRIVAL_CLOSED);
	assert_true(w->priority_aging);
	assert_int_equal(w->template_count, 3);
	assert_template(&w->templates[0], "coding", (uint32_t[]){1, 2, 100, 500}, 0.2, 1.0);
	assert_string_equal(w->templates[1].name, "document");
	assert_template(&w->templates[2], "agent", (uint32_t[]){5, 6, 7, 8}, 0, 0.5);
}

static void test_refused_files(void **state)
{
	static const struct {
		const char *yaml;
		const char *part; /* what follows the path */
	} cases[] = {
		{"decode:\n  batch_sise: 3\n",
		 ":2: unknown key 'decode.batch_sise' (did you mean 'decode.batch_size'?)"},
		{"\nevicton: {}\n", ":2: unknown key 'evicton' (did you mean 'eviction'?)"},
		{"model_config: {}\n",
		 ":1: unknown key 'model_config' (did you mean 'model_configs'?)"},
		{"whatever: 1\n", ":1: unknown key 'whatever'"},
		{"decode: 3\n", ":1: decode is a single value, expected a mapping"},
		{"decode: {batch_size: many}\n",
		 ":1: decode.batch_size: \"many\" does not fit, expected a whole number in 1..16777216"},
		{"decode: {batch_size: 32.0}\n", ":1: decode.batch_size: \"32.0\" does not fit"},
		{"decode: {batch_size: 0}\n", ":1: decode.batch_size: 0 is out of range"},
		{"decode:\n  batch_size:\n", ":2: decode.batch_size: is empty"},
		{"decode: {batch_size: [1]}\n", ":1: decode.batch_size: is a list"},
		{"qos_distribution: {interactive_probability: 1.5}\n", " 1.5 is out of range"},
		{"qos_distribution: {interactive_probability: 0.9}\n",
		 "is above responsive_threshold"},
		{"generation_timing: {fast: -1}\n", ": -1 is out of range"},
		{"workload: {context_min_divisor: 0}\n", ": 0 is out of range"},
		{"workload: {prefix_words: []}\n", "workload.prefix_words: has the wrong length"},
		{"workload: {prefix_words: [1, x]}\n", "\"x\" does not fit"},
		{"workload: {arrival: poisson}\n", "expected one of open, closed"},
		{"workload: {priority_aging: 7}\n", "\"7\" does not fit, expected true or false"},
		{"user_templates: {chatbot: {think_time_range: [0, 0]}}\n", "think_time_range ends at 0 s"},
		{"workload: {think_jitter: [0, 0]}\n", "is out of range"},
		{"workload: {think_jitter: [2, 1]}\n", "the first number is above the second"},
		{"workload: {name: 01234567890123456789012345678901}\n", "is too long"},
		{"user_templates: {chatbot: {context_range: [1, 16777217]}}\n", "is out of range"},
		{"user_templates: {chatbot: {context_range: 5}}\n",
		 "user_templates.chatbot.context_range: does not fit, expected two whole numbers"},
		{"user_templates: {chatbot: {think_time: [1, 2]}}\n",
		 "unknown key 'user_templates.chatbot.think_time'"},
		{"user_templates:\n  new: {context_range: [1, 2]}\n",
		 ":2: user_templates.new: a new user"},
		{"user_templates: {chatbot: , coding: , document: }\n", "at least one is needed"},
		{"user_templates: []\n", "user_templates is not a mapping"},
		{"rag: {top_k_chunks: lots}\n", "rag.top_k_chunks: \"lots\" does not fit"},
		{"validation_limits: {max_users: x}\n",
		 "validation_limits.max_users: \"x\" does not fit"},
		{"model_configs: {m: {num_layers: 0}}\n",
		 "model_configs.m.num_layers: 0 is out of range"},
		{"model_configs: {m: {attention_type: MHA}}\n", "expected one of mha, gqa, mla"},
		{"model_configs: {m: {layers: 3}}\n", "unknown key 'model_configs.m.layers'"},
		{"model_configs: {m: {attention_type: mla}}\n",
		 "model_configs.m: kv_lora_rank does not"},
		{"model_configs: {m: {dtype: int4}}\n", "model_configs.m: dtype does not"},
		{"- 1\n", ":1: not a mapping of sections"},
		{"a: [\n", "--config: "},
	};
	struct fixture *f = *state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		load_yaml(f, "", cases[i].yaml);
		assert_only_problem(f, cases[i].part);
		assert_non_null(strstr(f->problems.list[0].message, f->path));
	}
	load_yaml(f, "",
		  "decode: {batch_size: 0}\nrag: {x: 1}\nconversation: {max_turns_per_conv: a}\n");
	assert_int_equal(f->problems.count, 3);
	load(f, "--config /no/such.yaml --model only-in-that-file");
	assert_only_problem(f, "--config: cannot read /no/such.yaml");
	assert_int_equal(f->problems.list[0].code, ERR_CONFIG_NOT_FOUND);
}

static void test_models_of_a_file(void **state)
{
	struct fixture *f = *state;
	load_yaml(f, "--model mine", "model_configs:\n  mine: {num_layers: 16, dtype: fp8_e4m3}\n");
	assert_fine(f);
	assert_string_equal(f->cfg.model.key, "mine");
	assert_int_equal(f->cfg.bytes_per_token, 16 * 8 * 128 * 2);

	/* Laid over the shipped model, key by key. */
	load_yaml(f, "--model llama3.1-70b-instruct",
		  "model_configs:\n  llama3.1-70b-instruct: {dtype: int8}\n");
	assert_fine(f);
	assert_int_equal(f->cfg.bytes_per_token, 327680 / 2);

	load_yaml(f, "--model d", "model_configs: {d: {attention_type: mla, kv_lora_rank: 512}}\n");
	assert_fine(f);
	assert_int_equal(f->cfg.bytes_per_token, 32 * 512 * 2);

	load_yaml(f, "--model m", "model_configs: {m: {dtype: posit16}}\n");
	assert_fine(f);
	assert_int_equal(f->cfg.notices.count, 1);

	load_yaml(f, "--model nope", "model_configs: {aaa: {num_layers: 1}}\n");
	assert_only_problem(f, "--model: \"nope\" is not known, expected one of aaa, deepseek-v3, "
			       "gpt-oss-120b, gpt-oss-20b, llama2-7b, llama3.1-70b-instruct, "
			       "llama3.1-8b, mistral-7b, qwen3-32b, tiny-1b");
}

static void test_model_tiers(void **state)
{
	struct fixture *f = *state;
	load(f, "--storage-backend model");
	assert_fine(f);
	assert_true(f->cfg.model_tier[TIER_CPU].read_gbps == 25);
	assert_true(f->cfg.model_tier[TIER_STORAGE].latency_us == 80);
	load(f,
	     "--simulate --model-tier cpu:read_gbps=100,latency_us=0 --model-tier storage:write_gbps=1.5");
	assert_fine(f);
	assert_int_equal(f->cfg.opt.storage_backend, BACKEND_MODEL);
	assert_true(f->cfg.model_tier[TIER_CPU].read_gbps == 100);
	assert_true(f->cfg.model_tier[TIER_CPU].write_gbps == 25);
	assert_true(f->cfg.model_tier[TIER_CPU].latency_us == 0);
	assert_true(f->cfg.model_tier[TIER_STORAGE].write_gbps == 1.5);

	static const struct {
		const char *value;
		const char *part;
	} cases[] = {
		{"disk:read_gbps=1", "does not begin with a tier"},
		{"storage", "sets nothing"},
		{"storage:", "sets nothing"},
		{"storage:speed=1", "\"speed=1\" is not known"},
		{"storage:read_gbps", "\"read_gbps\" is out of range"},
		{"storage:read_gbps=0", "\"read_gbps=0\" is out of range"},
		{"storage:read_gbps=-1", "out of range"},
		{"storage:latency_us=-1", "out of range"},
		{"storage:latency_us=1x", "out of range"},
	};
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		char line[128];
		snprintf(line, sizeof(line), "--simulate --model-tier %s", cases[i].value);
		load(f, line);
		assert_only_problem(f, cases[i].part);
	}
}

static void test_combinations(void **state)
{
	static const struct {
		const char *line;
		const char *part; /* NULL: fine */
	} cases[] = {
		{"--num-gpus 4 --tensor-parallel 4", NULL},
		{"--tensor-parallel 2", "--tensor-parallel: 2 is more than --num-gpus 1"},
		{"--num-gpus 65536 --tensor-parallel 65536", NULL},
		{"--model tiny-1b --num-gpus 65536 --tensor-parallel 65536",
		 "leaves nothing of a token"},
		{"--simulate --workers 2", "--workers: not with --simulate"},
		{"--simulate --storage-backend model", NULL},
		{"--simulate --storage-backend file", "--storage-backend: --simulate takes"},
		{"--io-size 8KiB", NULL},
		{"--io-size 12KiB", "--io-size: 12288 is not a power of two"},
		{"--trace t --trace-speedup 0", NULL},
		{"--trace t --trace-speedup 1e-9", "--trace-speedup: 1e-09 is out of range"},
		{"--cache-dir /etc", "--cache-dir: /etc lies in the system directory /etc"},
		{"--cache-dir /proc/x/../y", "system directory /proc"},
		{"--cache-dir /root/cache", "system directory /root"},
		{"--cache-dir /tmp/../dev/shm", "system directory /dev"},
		{"--cache-dir /devices", NULL},
		{"--cache-dir /rootfs/a", NULL},
		{"--cache-dir /usr/bin", "system directory /usr/bin"},
		{"--cache-dir /usr/share/x", NULL},
	};
	struct fixture *f = *state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		load(f, cases[i].line);
		if (cases[i].part)
			assert_only_problem(f, cases[i].part);
		else
			assert_fine(f);
	}
	load(f, "--io-size 5000 --cache-dir /etc --model x --tensor-parallel 3");
	assert_int_equal(f->problems.count, 4);
}

static void test_roles(void **state)
{
	struct fixture *f = *state;
	load(f, "--prefill-only --decode-only");
	assert_int_equal(f->problems.count, 1);
	assert_string_equal(f->problems.list[0].message, "--decode-only: not together with --prefill-only");
	load(f, "--decode-only --trace x.jsonl");
	assert_int_equal(f->problems.count, 1);
	load(f, "--simulate --io-mode direct --verify full");
	assert_fine(f);
	assert_int_equal(f->cfg.notices.count, 2);
	assert_string_equal(f->cfg.notices.v[0], "--io-mode has no effect without --storage-backend file");
	load(f, "--precondition-threads 4");
	assert_fine(f);
	assert_string_equal(f->cfg.notices.v[0], "--precondition-threads has no effect without --precondition");
}

static void test_notices(void **state)
{
	struct fixture *f = *state;
	load(f, "--num-gpus 3 --tensor-parallel 3 --trace-speedup 2 --model-tier cpu:read_gbps=1");
	assert_fine(f);
	assert_int_equal(f->cfg.notices.count, 3);
	assert_string_equal(f->cfg.notices.v[0], "--tensor-parallel 3 is not a power of two");
	assert_string_equal(f->cfg.notices.v[1], "--trace-speedup has no effect without --trace");
	assert_non_null(strstr(f->cfg.notices.v[2], "--model-tier has no effect"));
	load(f, "--trace x.jsonl --disable-multi-turn --disable-prefix-caching");
	assert_fine(f);
	assert_int_equal(f->cfg.notices.count, 2);
	assert_string_equal(f->cfg.notices.v[0], "--disable-multi-turn has no effect without simulated users");
	assert_non_null(strstr(f->cfg.notices.v[1], "--disable-prefix-caching has no effect"));
	load(f, "--storage-backend model --model-tier cpu:read_gbps=1 --model-tier gpu:read_gbps=1");
	assert_fine(f);
	assert_int_equal(f->cfg.notices.count, 2);
	assert_non_null(strstr(f->cfg.notices.v[0], "--model-tier cpu has no effect"));
	assert_non_null(strstr(f->cfg.notices.v[1], "--model-tier gpu has no effect"));
}

/* The bytes of an entry are those of the array whose shape is written into its file. */
static void test_entry_bytes(void **state)
{
	struct fixture *f = *state;
	uint64_t dims[MODEL_SHAPE_DIMS_MAX];
	load(f, "");
	assert_int_equal(config_entry_bytes(&f->cfg, 1000), 131072000);
	load(f, "--num-gpus 8 --tensor-parallel 8");
	assert_int_equal(config_entry_bytes(&f->cfg, 1000), 131072000 / 8);
	load(f, "--num-gpus 8 --tensor-parallel 5 --model tiny-1b");
	assert_int_equal(model_shape(&f->cfg.model, 1, 5, dims), 1);
	assert_int_equal(config_entry_bytes(&f->cfg, 1), dims[0] * 2);
}

static void test_names(void **state)
{
	(void)state;
	assert_string_equal(config_qos_name(QOS_INTERACTIVE), "interactive");
	assert_string_equal(config_qos_name(QOS_BATCH), "batch");
	assert_string_equal(config_tier_name(TIER_GPU), "gpu");
	assert_string_equal(config_tier_name(TIER_STORAGE), "storage");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_shipped_v3),     TEST(test_shipped_v1),
		TEST(test_reference_file), TEST(test_templates_of_a_file),
		TEST(test_refused_files),  TEST(test_models_of_a_file),
		TEST(test_model_tiers),    TEST(test_combinations),  TEST(test_roles),
		TEST(test_notices),        TEST(test_entry_bytes),
		TEST(test_names),
	};
	return cmocka_run_group_tests_name("config", tests, NULL, NULL);
}
