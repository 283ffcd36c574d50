// SPDX-License-Identifier: Apache-2.0
/* What the commands of kvcache share: checked options, and their keys in the metadata. */
#include <string.h>

#include "base/file.h"
#include "base/log.h"
#include "cmd/cmd.h"

int cmd_kvcache_check(struct cmd_invocation *inv, struct problems *problems)
{
	size_t before = problems->count;
	int rc = config_load(&inv->engine, &inv->config, problems);
	bool is_run = inv->command->groups & CMD_GROUP_ENGINE;
	if (!rc && is_run)
		rc = cmd_job_check(inv, problems);
	return rc || !is_run || problems->count > before ? rc : cmd_division_check(inv, problems);
}

/* An option of the engine as a JSON value; null where this command does not take it. */
static json_t *option_value(const struct cmd_invocation *inv, const char *name)
{
	struct opt_set set = {.groups = &inv->engine, .count = 1};
	const struct opt_group *group;
	size_t index;
	return opt_find(&set, name, &group, &index) ? record_option_value(group, index)
						    : json_null();
}

/* A key of the metadata and the option whose value it holds. */
struct echo {
	const char *key;
	const char *option;
};

/* The options that describe a run, under the reference's keys. */
static const struct echo described[] = {
	{"num_users", "--num-users"},
	{"duration", "--duration"},
	{"gpu_mem_gb", "--gpu-mem-gb"},
	{"cpu_mem_gb", "--cpu-mem-gb"},
	{"generation_mode", "--generation-mode"},
	{"performance_profile", "--performance-profile"},
};

static const struct echo features[] = {
	{"disable_multi_turn", "--disable-multi-turn"},
	{"disable_prefix_caching", "--disable-prefix-caching"},
};

static void add_echoes(json_t *to, const struct cmd_invocation *inv, const struct echo *list,
		       size_t count)
{
	for (size_t i = 0; i < count; i++)
		json_object_set_new(to, list[i].key, option_value(inv, list[i].option));
}

/* What was asked for, in one place for a rule checker. */
static json_t *parameters(const struct cmd_invocation *inv, const char *cache_dir)
{
	json_t *all = json_object();
	json_t *flags = json_object();
	json_object_set_new(all, "model", option_value(inv, "--model"));
	add_echoes(all, inv, described, ARRAY_LEN(described));
	json_object_set_new(all, "cache_dir", record_string(cache_dir));
	json_object_set_new(all, "seed", option_value(inv, "--seed"));
	json_object_set_new(all, "max_concurrent_allocs",
			    option_value(inv, "--max-concurrent-allocs"));
	add_echoes(flags, inv, features, ARRAY_LEN(features));
	json_object_set_new(all, "features", flags);
	return all;
}

static void describe(struct record *r, const struct cmd_invocation *inv, const char *cache_dir)
{
	record_set(r, "parameters", parameters(inv, cache_dir));
	record_set(r, "kvcache_model", option_value(inv, "--model"));
	for (size_t i = 0; i < ARRAY_LEN(described); i++)
		record_set(r, described[i].key, option_value(inv, described[i].option));
	record_set(r, "cache_dir", record_string(cache_dir));
	cmd_job_record(inv, r);
}

/* Ranks start in other directories. Links are theirs to follow: each host may have its own. */
static char *cache_dir(const struct cmd_invocation *inv, const char *asked)
{
	if (!inv->job.is_distributed || asked[0] == '/')
		return strdup(asked);
	CLEANUP_FREE char *here = getcwd(NULL, 0);
	return here ? path_join(here, asked) : NULL;
}

int cmd_kvcache_record(struct cmd_invocation *inv, struct record **ret, char **ret_cache_dir)
{
	struct error err = {0};
	struct record *r = NULL;
	const char *asked = inv->config.opt.cache_dir;
	if (cmd_record_open(inv, "kv_cache", inv->config.opt.model, &r, &err))
		return cmd_report(&err);
	char *dir = asked ? cache_dir(inv, asked) : record_path(r, "kvcache_data");
	if (!dir) {
		record_free(r);
		return cmd_report_memory();
	}
	describe(r, inv, dir);
	*ret = r;
	*ret_cache_dir = dir;
	return EXIT_OK;
}
