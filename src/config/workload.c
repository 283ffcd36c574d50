// SPDX-License-Identifier: Apache-2.0
/*
 * The keys of a workload file. They are those of the reference's config.yaml, so that such a file
 * loads as it is, and a section 'workload' of our own. What has no effect here is checked all the
 * same and said.
 */
#include <stdio.h>

#include "base/mem.h"
#include "config/internal.h"

enum { TOKENS_MAX = 1 << 24, TURNS_MAX = 1000000 };
#define THINK_MAX_S_LEAST 0.0001

static const char *const arrivals[] = {"open", "closed", NULL};
static const char *const attentions[] = {"mha", "gqa", "mla", NULL};

#define W(field)   .offset = offsetof(struct config_workload, field)
#define T(field)   .offset = offsetof(struct config_template, field)
#define M(field)   .offset = offsetof(struct model, field)
#define IN(lo, hi) .min = (lo), .max = (hi)
#define NOTHING    .offset = ROW_NO_EFFECT

#define NEIGHBOURS(type, a, b) \
 _Static_assert(offsetof(type, b) == offsetof(type, a) + sizeof(((type *)0)->a), #a)
NEIGHBOURS(struct config_template, context_min, context_max);
NEIGHBOURS(struct config_template, generation_min, generation_max);
NEIGHBOURS(struct config_template, think_min_s, think_max_s);
NEIGHBOURS(struct config_workload, think_jitter_min, think_jitter_max);

/* clang-format off */
/* p95 is compared with; the finer ones are shown, and 0 stands for none. */
#define QOS_ROWS(name, level) \
	{"qos_profiles." name ".target_latency_p95_ms", ROW_REAL, W(qos[level].target_p95_ms), IN(0.001, 3.6e6)}, \
	{"qos_profiles." name ".target_latency_p99_ms", ROW_REAL, W(qos[level].target_p99_ms), IN(0, 3.6e6)}, \
	{"qos_profiles." name ".target_latency_p999_ms", ROW_REAL, W(qos[level].target_p999_ms), IN(0, 3.6e6)}, \
	{"qos_profiles." name ".target_latency_p9999_ms", ROW_REAL, W(qos[level].target_p9999_ms), IN(0, 3.6e6)}, \
	{"qos_profiles." name ".priority", ROW_I32, W(qos[level].priority), IN(-1000, 1000)}

static const struct row workload_rows[] = {
	{"workload.name", ROW_TEXT, W(name), .size = CONFIG_NAME_MAX},
	{"workload.arrival", ROW_CHOICE, W(arrival), .choices = arrivals},
	{"workload.think_jitter", ROW_REAL_RANGE, W(think_jitter_min), IN(0.01, 1000)},
	{"workload.context_min_divisor", ROW_U32, W(context_min_divisor), IN(1, TOKENS_MAX)},
	{"workload.generation_min_divisor", ROW_U32, W(generation_min_divisor), IN(1, TOKENS_MAX)},
	{"workload.prefill_only_tokens", ROW_U32, W(prefill_only_tokens), IN(1, UINT32_MAX)},
	{"workload.prefix_words", ROW_U32_LIST, W(prefix_words), IN(0, TOKENS_MAX),
	 .size = CONFIG_PREFIXES_MAX, .count_offset = offsetof(struct config_workload, prefix_count)},
	{"workload.prefix_written", ROW_BOOL, W(prefix_written)},
	{"workload.decode_single_read", ROW_BOOL, W(decode_single_read)},
	{"workload.priority_aging", ROW_BOOL, W(priority_aging)},
	{"workload.multi_turn_last_only", ROW_BOOL, W(multi_turn_last_only)},

	QOS_ROWS("interactive", QOS_INTERACTIVE),
	QOS_ROWS("responsive", QOS_RESPONSIVE),
	QOS_ROWS("batch", QOS_BATCH),
	{"qos_distribution.interactive_probability", ROW_REAL, W(interactive_probability), IN(0, 1)},
	{"qos_distribution.responsive_threshold", ROW_REAL, W(responsive_threshold), IN(0, 1)},

	{"generation_timing.none", ROW_REAL, W(generation_s[GENERATION_NONE]), IN(0, 3600)},
	{"generation_timing.fast", ROW_REAL, W(generation_s[GENERATION_FAST]), IN(0, 3600)},
	{"generation_timing.realistic", ROW_REAL, W(generation_s[GENERATION_REALISTIC]), IN(0, 3600)},

	{"conversation.max_turns_per_conv", ROW_U32, W(max_turns_per_conversation), IN(1, TURNS_MAX)},
	{"conversation.end_conversation_probability", ROW_REAL, W(end_conversation_probability), IN(0, 1)},
	{"conversation.max_conversations", ROW_U32, NOTHING},

	{"decode.batch_size", ROW_U32, W(decode_batch_tokens), IN(1, TOKENS_MAX)},

	{"prefix_cache.system_prompt_hit_probability", ROW_REAL, W(prefix_probability), IN(0, 1)},
	{"prefix_cache.min_prefix_length", ROW_U32, NOTHING},
	{"prefix_cache.max_prefix_entries", ROW_U32, NOTHING},

	{"eviction.target_usage_ratio", ROW_REAL, W(target_usage_ratio), IN(0.01, 1)},
	{"eviction.large_entry_limit_ratio", ROW_REAL, W(large_entry_limit_ratio), IN(0.01, 1)},
	{"eviction.max_recursion_depth", ROW_U32, NOTHING},
	{"eviction.max_evictions_hard_cap", ROW_U32, NOTHING},
	{"eviction.max_evictions_min", ROW_U32, NOTHING},

	{"gpu_backend.memory_fraction", ROW_REAL, NOTHING},
	{"gpu_backend.max_eviction_attempts", ROW_U32, NOTHING},
	{"gpu_backend.free_memory_threshold", ROW_REAL, NOTHING},

	{"rag.chunk_size_tokens", ROW_U32, NOTHING},
	{"rag.top_k_chunks", ROW_U32, NOTHING},
	{"rag.max_chunk_bytes", ROW_REAL, NOTHING},
	{"rag.request_probability", ROW_REAL, NOTHING},
	{"rag.retrieval_distribution", ROW_TEXT, NOTHING},
	{"rag.max_documents", ROW_U32, NOTHING},
	{"rag.large_model_doc_tokens_min", ROW_U32, NOTHING},
	{"rag.large_model_doc_tokens_max", ROW_U32, NOTHING},
	{"rag.small_model_doc_tokens_min", ROW_U32, NOTHING},
	{"rag.small_model_doc_tokens_max", ROW_U32, NOTHING},

	{"autoscaler.min_users", ROW_U32, NOTHING},
	{"autoscaler.max_users", ROW_U32, NOTHING},
	{"autoscaler.scale_up_factor", ROW_REAL, NOTHING},
	{"autoscaler.scale_down_factor", ROW_REAL, NOTHING},
	{"autoscaler.consecutive_samples_required", ROW_U32, NOTHING},

	{"sharegpt.max_context_tokens", ROW_U32, NOTHING},
	{"sharegpt.max_generation_tokens", ROW_U32, NOTHING},
	{"sharegpt.chars_per_token_estimate", ROW_REAL, NOTHING},

	{"saturation_detection.read_latency_p95_threshold_ms", ROW_REAL, NOTHING},
	{"saturation_detection.write_latency_p95_threshold_ms", ROW_REAL, NOTHING},
	{"saturation_detection.queue_depth_threshold", ROW_U32, NOTHING},
	{"saturation_detection.history_window_size", ROW_U32, NOTHING},

	{"validation_limits.*", ROW_REAL, NOTHING},
};

static const struct row template_rows[] = {
	{"context_range", ROW_U32_RANGE, T(context_min), IN(1, TOKENS_MAX)},
	{"generation_range", ROW_U32_RANGE, T(generation_min), IN(1, TOKENS_MAX)},
	{"think_time_range", ROW_REAL_RANGE, T(think_min_s), IN(0, 86400)},
};

static const struct row model_rows[] = {
	{"name", ROW_TEXT, M(name), .size = MODEL_NAME_MAX},
	{"num_layers", ROW_U32, M(layers), IN(1, 100000)},
	{"hidden_dim", ROW_U32, M(hidden_dim), IN(1, TOKENS_MAX)},
	{"num_heads", ROW_U32, M(heads), IN(1, TOKENS_MAX)},
	{"kv_heads", ROW_U32, M(kv_heads), IN(1, TOKENS_MAX)},
	{"kv_dim_per_head", ROW_U32, M(head_dim_override), IN(0, TOKENS_MAX)},
	{"dtype", ROW_TEXT, M(dtype), .size = MODEL_DTYPE_MAX},
	{"attention_type", ROW_CHOICE, M(attention), .choices = attentions},
	{"kv_lora_rank", ROW_U32, M(kv_lora_rank), IN(0, TOKENS_MAX)},
	{"qk_rope_head_dim", ROW_U32, M(qk_rope_head_dim), IN(0, TOKENS_MAX)},
};
/* clang-format on */

/* Sections whose keys are free names. */
static const char *const free_sections[] = {"user_templates", "model_configs", NULL};

static struct config_template *template_find(struct config_workload *w, const char *name)
{
	for (uint32_t i = 0; i < w->template_count; i++)
		if (!strcmp(w->templates[i].name, name))
			return &w->templates[i];
	return NULL;
}

static void template_remove(struct config_workload *w, struct config_template *t)
{
	struct config_template *end = w->templates + w->template_count--;
	memmove(t, t + 1, (size_t)(end - (t + 1)) * sizeof(*t));
}

static int template_store(const struct workload_target *to, const char *where,
			  const struct config_template *t)
{
	struct config_workload *w = to->workload;
	struct config_template *known = template_find(w, t->name);
	if (!t->context_max || !t->generation_max || t->think_max_s < 0)
		return problems_add(to->problems, ERR_CONFIG_INVALID,
				    "%s: a new user template needs context_range, generation_range "
				    "and think_time_range",
				    where);
	/* Users who never think would ask without end in no time at all. */
	if (t->think_max_s < THINK_MAX_S_LEAST)
		return problems_add(to->problems, ERR_CONFIG_INVALID,
				    "%s: think_time_range ends at %g s, expected at least %g", where,
				    t->think_max_s, THINK_MAX_S_LEAST);
	if (!known && w->template_count == CONFIG_TEMPLATES_MAX)
		return problems_add(to->problems, ERR_CONFIG_INVALID,
				    "%s: more than %d user templates", where, CONFIG_TEMPLATES_MAX);
	if (!known)
		known = &w->templates[w->template_count++];
	*known = *t;
	return 0;
}

/* One template: laid over the one of that name, or a new one; an empty one removes it. */
static int read_template(const struct workload_target *to, const char *file, const char *name,
			 struct yaml_node *n, unsigned line)
{
	struct config_template *known = template_find(to->workload, name);
	struct config_template t = {.think_max_s = -1};
	size_t before = to->problems->count;
	char where[512], above[64];

	snprintf(where, sizeof(where), "%.400s:%u: user_templates.%.40s", file, line, name);
	snprintf(above, sizeof(above), "user_templates.%.40s.", name);
	if (!name[0] || strlen(name) >= sizeof(t.name))
		return problems_add(to->problems, ERR_CONFIG_INVALID,
				    "%s: expected a name of at most %zu characters", where,
				    sizeof(t.name) - 1);
	if (known && yaml_kind(n) == YAML_NULL) {
		template_remove(to->workload, known);
		return 0;
	}
	if (known)
		t = *known;
	memcpy(t.name, name, strlen(name) + 1);
	const struct row_walk walk = {.rows = template_rows,
				      .row_count = ARRAY_LEN(template_rows),
				      .target = &t,
				      .file = file,
				      .above = above,
				      .problems = to->problems};
	int rc = rows_read(&walk, n);
	if (rc || to->problems->count > before)
		return rc;
	return template_store(to, where, &t);
}

static int check_model(const struct workload_target *to, const char *where, const struct model *m)
{
	const char *field;
	if (!model_check(m, &field))
		return 0;
	return problems_add(to->problems, ERR_CONFIG_INVALID,
			    "%s: %s does not make a model that can be computed with", where, field);
}

/* One model: laid over the shipped one of that key, or over the reference's values for an unknown
 * one. */
static int read_model(const struct workload_target *to, const char *file, const char *key,
		      struct yaml_node *n, unsigned line)
{
	const struct model *shipped = model_find(key);
	struct model m = shipped ? *shipped : model_fallback(key);
	size_t before = to->problems->count;
	char where[512], above[96];

	snprintf(where, sizeof(where), "%.400s:%u: model_configs.%.64s", file, line, key);
	snprintf(above, sizeof(above), "model_configs.%.64s.", key);
	if (!key[0] || strlen(key) >= sizeof(m.key))
		return problems_add(to->problems, ERR_CONFIG_INVALID,
				    "%s: expected a name of at most %zu characters", where,
				    sizeof(m.key) - 1);
	const struct row_walk walk = {.rows = model_rows,
				      .row_count = ARRAY_LEN(model_rows),
				      .target = &m,
				      .file = file,
				      .above = above,
				      .problems = to->problems};
	int rc = rows_read(&walk, n);
	if (!rc)
		rc = strlist_add(to->model_keys, key);
	if (!rc && to->problems->count == before)
		rc = check_model(to, where, &m);
	if (!rc && !strcmp(key, to->model_key)) {
		*to->model = m;
		*to->model_known = true;
	}
	return rc;
}

typedef int entry_reader(const struct workload_target *to, const char *file, const char *name,
			 struct yaml_node *n, unsigned line);

/* Every entry of a section whose keys are free names. */
static int read_entries(const struct workload_target *to, struct yaml *y, const char *section,
			entry_reader *read_entry)
{
	struct yaml_node *n = yaml_find(yaml_root(y), section);
	if (!n || yaml_kind(n) == YAML_NULL)
		return 0;
	if (yaml_kind(n) != YAML_MAPPING)
		return problems_add(to->problems, ERR_CONFIG_INVALID,
				    "%s:%u: %s is not a mapping of names", yaml_name(y),
				    yaml_line(n), section);
	for (size_t i = 0; i < yaml_count(n); i++) {
		struct yaml_node *value;
		unsigned line;
		const char *name = yaml_pair(n, i, &value, &line);
		int rc = read_entry(to, yaml_name(y), name, value, line);
		if (rc)
			return rc;
	}
	return 0;
}

static bool section_has_effect(const char *section, size_t len)
{
	for (size_t i = 0; i < ARRAY_LEN(workload_rows); i++) {
		const struct row *row = &workload_rows[i];
		if (row->offset != ROW_NO_EFFECT && !strncmp(row->path, section, len) &&
		    row->path[len] == '.')
			return true;
	}
	return false;
}

/* One notice per section: the section where all of it is without effect, else its keys. */
static int notice_unused(const struct strlist *unused, const char *file, struct strlist *notices)
{
	for (size_t i = 0; i < unused->count;) {
		const char *path = unused->v[i];
		size_t len = strcspn(path, ".");
		CLEANUP_STR struct str keys = {0};
		for (; i < unused->count && !strncmp(unused->v[i], path, len + 1); i++)
			str_addf(&keys, "%s%s", keys.len ? ", " : "", unused->v[i]);
		int rc = keys.rc;
		if (!rc && section_has_effect(path, len))
			rc = strlist_addf(notices, "%s in %s: no effect in this version",
					  str_text(&keys), file);
		else if (!rc)
			rc = strlist_addf(notices,
					  "section '%.*s' of %s has no effect in this version",
					  (int)len, path, file);
		if (rc)
			return rc;
	}
	return 0;
}

static int check_workload(const struct workload_target *to, const char *file)
{
	const struct config_workload *w = to->workload;
	int rc = 0;
	if (!w->template_count)
		rc = problems_add(to->problems, ERR_CONFIG_INVALID,
				  "%s: user_templates: at least one is needed", file);
	if (!rc && w->interactive_probability > w->responsive_threshold)
		rc = problems_add(to->problems, ERR_CONFIG_INVALID,
				  "%s: qos_distribution: interactive_probability %.10g is above "
				  "responsive_threshold %.10g",
				  file, w->interactive_probability, w->responsive_threshold);
	return rc;
}

/* A file that does not say its name is called like the file. */
static void name_after_file(struct config_workload *w, const char *file)
{
	const char *slash = strrchr(file, '/');
	const char *stem = slash ? slash + 1 : file;
	stem += stem[0] == '.';
	snprintf(w->name, sizeof(w->name), "%.*s", (int)strcspn(stem, "."), stem);
}

int config_workload_read(struct yaml *y, const struct workload_target *to)
{
	struct strlist unused = {0};
	const char *file = yaml_name(y);
	const struct row_walk walk = {.rows = workload_rows,
				      .row_count = ARRAY_LEN(workload_rows),
				      .target = to->workload,
				      .skip = free_sections,
				      .file = file,
				      .above = "",
				      .problems = to->problems,
				      .unused = &unused};
	if (!yaml_root(y))
		return 0;
	if (yaml_kind(yaml_root(y)) != YAML_MAPPING && yaml_kind(yaml_root(y)) != YAML_NULL)
		return problems_add(to->problems, ERR_CONFIG_INVALID,
				    "%s:%u: not a mapping of sections", file,
				    yaml_line(yaml_root(y)));
	name_after_file(to->workload, file);
	int rc = rows_read(&walk, yaml_root(y));
	if (!rc)
		rc = read_entries(to, y, "user_templates", read_template);
	if (!rc)
		rc = read_entries(to, y, "model_configs", read_model);
	if (!rc)
		rc = check_workload(to, file);
	if (!rc)
		rc = notice_unused(&unused, file, to->notices);
	strlist_release(&unused);
	return rc;
}
