// SPDX-License-Identifier: Apache-2.0
/* Brings options, workload file and model together, and checks what no single option can check for
 * itself. */
#include "config/config.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "config/internal.h"

static const char default_workload[] = "workload-v3.yaml";

/* Simulated devices: DDR5 memory, a PCIe 4 NVMe disk, and a GPU's link to the host. */
static const struct config_model_tier default_model_tiers[TIER_CLASSES] = {
	[TIER_GPU] = {.read_gbps = 50, .write_gbps = 50, .latency_us = 10},
	[TIER_CPU] = {.read_gbps = 25, .write_gbps = 25, .latency_us = 1},
	[TIER_STORAGE] = {.read_gbps = 7, .write_gbps = 5, .latency_us = 80},
};

/* What config_load() works on. */
struct load {
	const struct opt_group *group;
	struct config *cfg;
	struct problems *problems;
	struct strlist model_keys; /* models of the workload file */
	bool model_known;
	bool file_unread; /* --config could not be read: what it would have defined is not known */
};

const char *config_shipped(const char *name)
{
	for (const struct shipped_file *f = shipped_files; f->name; f++)
		if (!strcmp(f->name, name))
			return f->text;
	return NULL;
}

const char *config_qos_name(enum config_qos q)
{
	static const char *const names[] = {"interactive", "responsive", "batch"};
	return names[q];
}

const char *config_tier_name(enum tier_class t)
{
	static const char *const names[] = {"gpu", "cpu", "storage"};
	return names[t];
}

uint64_t config_entry_bytes(const struct config *cfg, uint64_t tokens)
{
	/* Whole elements, so that the size is that of the array that model_shape() describes. */
	uint32_t element = 1;
	(void)model_element_bytes(cfg->model.dtype, &element); /* checked with the model */
	return cfg->bytes_per_token / element * tokens / (uint64_t)cfg->opt.tensor_parallel *
	       element;
}

static bool given(const struct load *l, const char *name)
{
	const struct opt_set set = {.groups = l->group, .count = 1};
	return opt_given(&set, name);
}

/* --- the workload file --- */

static int read_workload(struct load *l, struct yaml *y)
{
	const struct workload_target target = {
		.workload = &l->cfg->workload,
		.model_key = l->cfg->opt.model,
		.model = &l->cfg->model,
		.model_known = &l->model_known,
		.model_keys = &l->model_keys,
		.notices = &l->cfg->notices,
		.problems = l->problems,
	};
	return config_workload_read(y, &target);
}

/* @name is a path, or where nothing of that name exists, the name of a shipped file. */
static int open_workload(const char *name, struct yaml **ret, struct error *err)
{
	const char *shipped = strchr(name, '/') ? NULL : config_shipped(name);
	if (shipped && access(name, F_OK))
		return yaml_parse(shipped, name, ret, err);
	return yaml_open(name, ret, err);
}

static int load_user_workload(struct load *l)
{
	struct error err = {0};
	struct yaml *y;
	if (!l->cfg->opt.config_file)
		return 0;
	int rc = open_workload(l->cfg->opt.config_file, &y, &err);
	if (rc == -ENOMEM)
		return rc;
	if (rc) {
		l->file_unread = true;
		error_prefix(&err, "--config");
		return problems_add_error(l->problems, &err);
	}
	rc = read_workload(l, y);
	yaml_free(y);
	return rc;
}

static int load_workload(struct load *l)
{
	struct error err = {0};
	struct yaml *y;
	int rc = yaml_parse(config_shipped(default_workload), default_workload, &y, &err);
	if (rc)
		return rc == -ENOMEM ? rc : problems_add_error(l->problems, &err);
	rc = read_workload(l, y);
	yaml_free(y);
	return rc ? rc : load_user_workload(l);
}

/* --- the model --- */

static int compare_names(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static int unknown_model(struct load *l)
{
	struct strlist names = {0};
	CLEANUP_STR struct str text = {0};
	size_t count;
	const struct model *builtin = model_builtin(&count);
	int rc = strlist_copy(&names, &l->model_keys);
	for (size_t i = 0; i < count && !rc; i++)
		if (!strlist_has(&names, builtin[i].key))
			rc = strlist_add(&names, builtin[i].key);
	if (!rc) {
		qsort(names.v, names.count, sizeof(*names.v), compare_names);
		for (size_t i = 0; i < names.count; i++)
			str_addf(&text, "%s%s", i ? ", " : "", names.v[i]);
		rc = problems_add(l->problems, ERR_CONFIG_INVALID,
				  "--model: \"%s\" is not known, expected one of %s",
				  l->cfg->opt.model, str_text(&text));
	}
	strlist_release(&names);
	return rc;
}

static int load_model(struct load *l)
{
	struct config *cfg = l->cfg;
	if (!l->model_known) {
		const struct model *m = model_find(cfg->opt.model);
		if (!m)
			return l->file_unread ? 0 : unknown_model(l);
		cfg->model = *m;
	}
	const char *field;
	if (model_check(&cfg->model, &field))
		return 0; /* the workload file's problem, added where it stands */
	cfg->bytes_per_token = model_bytes_per_token(&cfg->model);
	if (model_dtype_known(cfg->model.dtype))
		return 0;
	return strlist_addf(&cfg->notices,
			    "element type '%s' of model '%s' is not known: 2 bytes per element are "
			    "assumed",
			    cfg->model.dtype, cfg->model.key);
}

/* --- --model-tier --- */

static const struct {
	const char *key;
	size_t offset;
	double min, max;
} tier_keys[] = {
	{"read_gbps", offsetof(struct config_model_tier, read_gbps), 1e-6, 1e6},
	{"write_gbps", offsetof(struct config_model_tier, write_gbps), 1e-6, 1e6},
	{"latency_us", offsetof(struct config_model_tier, latency_us), 0, 1e7},
};

/* "read_gbps=7" */
static int set_tier_key(struct load *l, struct config_model_tier *tier, const char *word)
{
	size_t len = strcspn(word, "=");
	for (size_t i = 0; i < ARRAY_LEN(tier_keys); i++) {
		double v;
		if (strlen(tier_keys[i].key) != len || memcmp(tier_keys[i].key, word, len))
			continue;
		if (!word[len] || parse_double(word + len + 1, &v) || v < tier_keys[i].min ||
		    v > tier_keys[i].max)
			return problems_add(
				l->problems, ERR_CONFIG_INVALID,
				"--model-tier: \"%s\" is out of range, expected %s=%g..%g", word,
				tier_keys[i].key, tier_keys[i].min, tier_keys[i].max);
		*(double *)((char *)tier + tier_keys[i].offset) = v;
		return 0;
	}
	return problems_add(
		l->problems, ERR_CONFIG_INVALID,
		"--model-tier: \"%s\" is not known, expected read_gbps=, write_gbps= or "
		"latency_us=",
		word);
}

static bool tier_by_name(const char *name, size_t len, enum tier_class *ret)
{
	for (enum tier_class t = 0; t < TIER_CLASSES; t++) {
		if (strlen(config_tier_name(t)) == len && !memcmp(config_tier_name(t), name, len)) {
			*ret = t;
			return true;
		}
	}
	return false;
}

static int load_model_tier(struct load *l, const char *text)
{
	size_t len = strcspn(text, ":");
	struct strlist words = {0};
	enum tier_class t;
	if (!tier_by_name(text, len, &t))
		return problems_add(
			l->problems, ERR_CONFIG_INVALID,
			"--model-tier: \"%s\" does not begin with a tier, expected cpu:, "
			"storage: or gpu:",
			text);
	int rc = strlist_add_split(&words, text[len] ? text + len + 1 : "", ",");
	if (!rc && !words.count)
		rc = problems_add(l->problems, ERR_CONFIG_INVALID,
				  "--model-tier: \"%s\" sets nothing, expected %s:read_gbps=N,...",
				  text, config_tier_name(t));
	for (size_t i = 0; i < words.count && !rc; i++)
		rc = set_tier_key(l, &l->cfg->model_tier[t], words.v[i]);
	if (!rc && t == TIER_GPU)
		rc = strlist_addf(&l->cfg->notices, "--model-tier gpu has no effect: there is no GPU tier in this version");
	if (!rc && t == TIER_CPU && !l->cfg->opt.simulate && l->cfg->opt.storage_backend == BACKEND_MODEL)
		rc = strlist_addf(&l->cfg->notices, "--model-tier cpu has no effect without --simulate: the cpu tier is memory");
	strlist_release(&words);
	return rc;
}

static int load_model_tiers(struct load *l)
{
	memcpy(l->cfg->model_tier, default_model_tiers, sizeof(default_model_tiers));
	for (size_t i = 0; i < l->cfg->opt.model_tier.count; i++) {
		int rc = load_model_tier(l, l->cfg->opt.model_tier.v[i]);
		if (rc)
			return rc;
	}
	return 0;
}

/* --- what takes more than one option --- */

static int check_simulate(struct load *l)
{
	struct config_options *opt = &l->cfg->opt;
	int rc = 0;
	if (!opt->simulate)
		return 0;
	if (given(l, "--workers"))
		rc = problems_add(l->problems, ERR_CONFIG_INCOMPATIBLE,
				  "--workers: not with --simulate, which runs on one thread");
	if (!rc && given(l, "--storage-backend") && opt->storage_backend == BACKEND_FILE)
		rc = problems_add(l->problems, ERR_CONFIG_INCOMPATIBLE,
				  "--storage-backend: --simulate takes simulated devices only, "
				  "expected model or null");
	/* A simulation has no other kind of device, so the default of files gives way without a
	 * word. */
	if (!given(l, "--storage-backend"))
		opt->storage_backend = BACKEND_MODEL;
	return rc;
}

static int check_tensor_parallel(struct load *l)
{
	const struct config_options *opt = &l->cfg->opt;
	uint64_t tp = (uint64_t)opt->tensor_parallel;
	if (opt->tensor_parallel > opt->num_gpus)
		return problems_add(l->problems, ERR_CONFIG_INCOMPATIBLE,
				    "--tensor-parallel: %lld is more than --num-gpus %lld",
				    (long long)opt->tensor_parallel, (long long)opt->num_gpus);
	if (l->cfg->bytes_per_token && !config_entry_bytes(l->cfg, 1))
		return problems_add(l->problems, ERR_CONFIG_INCOMPATIBLE,
				    "--tensor-parallel: %lld leaves nothing of a token of model %s",
				    (long long)opt->tensor_parallel, opt->model);
	if (tp & (tp - 1))
		return strlist_addf(&l->cfg->notices,
				    "--tensor-parallel %lld is not a power of two",
				    (long long)opt->tensor_parallel);
	return 0;
}

static int check_interval(struct load *l)
{
	const struct config_options *opt = &l->cfg->opt;
	if (opt->interval_s > 0 && opt->interval_s < CONFIG_INTERVAL_MIN_S)
		return problems_add(l->problems, ERR_CONFIG_INVALID, "--interval: %g is out of range, expected 0 or at least %g",
				    opt->interval_s, CONFIG_INTERVAL_MIN_S);
	if (opt->interval_file && opt->interval_s <= 0)
		return problems_add(l->problems, ERR_CONFIG_INCOMPATIBLE, "--interval-file: only with --interval");
	return 0;
}

static int check_roles(struct load *l)
{
	const struct config_options *opt = &l->cfg->opt;
	if (opt->prefill_only && opt->decode_only)
		return problems_add(l->problems, ERR_CONFIG_INCOMPATIBLE,
				    "--decode-only: not together with --prefill-only");
	if (opt->decode_only && opt->trace)
		return problems_add(l->problems, ERR_CONFIG_INCOMPATIBLE,
				    "--decode-only: not with --trace, whose requests bring their own entries");
	return 0;
}

static int check_io_size(struct load *l)
{
	uint64_t size = l->cfg->opt.io_size_bytes;
	if (!(size & (size - 1)))
		return 0;
	return problems_add(l->problems, ERR_CONFIG_INVALID,
			    "--io-size: %llu is not a power of two, expected 4KiB, 8KiB, ... 64MiB",
			    (unsigned long long)size);
}

/* Speeds in between stretch a trace beyond what 64-bit nanoseconds hold. */
static int check_trace_speedup(struct load *l)
{
	double speedup = l->cfg->opt.trace_speedup;
	if (speedup == 0 || speedup >= 1e-6)
		return 0;
	return problems_add(l->problems, ERR_CONFIG_INVALID,
			    "--trace-speedup: %g is out of range, expected 0 or 0.000001..1000000",
			    speedup);
}

static int check_cache_dir(struct load *l)
{
	static const char *const system_dirs[] = {"/etc",  "/bin", "/sbin", "/usr/bin", "/usr/sbin",
						  "/boot", "/sys", "/proc", "/dev",     "/root"};
	if (!l->cfg->opt.cache_dir)
		return 0;
	char *path CLEANUP_FREE = path_resolve(l->cfg->opt.cache_dir);
	if (!path)
		return -ENOMEM;
	for (size_t i = 0; i < ARRAY_LEN(system_dirs); i++)
		if (path_within(path, system_dirs[i]))
			return problems_add(l->problems, ERR_CONFIG_INVALID,
					    "--cache-dir: %s lies in the system directory %s",
					    l->cfg->opt.cache_dir, system_dirs[i]);
	return 0;
}

/* Options that were typed for something that this run does not do. */
static int notice_unused(struct load *l)
{
	const struct config_options *opt = &l->cfg->opt;
	bool has_files = opt->storage_backend == BACKEND_FILE;
	bool has_data = has_files || (opt->cpu_mem_gib > 0 && !opt->simulate);
	const struct {
		const char *option;
		bool used;
		const char *without;
	} needs[] = {
		{"--trace-format", opt->trace != NULL, "--trace"},
		{"--trace-speedup", opt->trace != NULL, "--trace"},
		{"--disable-multi-turn", !opt->trace, "simulated users"},
		{"--disable-prefix-caching", !opt->trace, "simulated users"},
		{"--model-tier", opt->storage_backend == BACKEND_MODEL, "--storage-backend model"},
		{"--io-engine", has_files, "--storage-backend file"},
		{"--io-mode", has_files, "--storage-backend file"},
		{"--sync", has_files, "--storage-backend file"},
		{"--cleanup", has_files, "--storage-backend file"},
		{"--verify", has_data, "a tier that holds data"},
		{"--precondition-size-gb", opt->precondition, "--precondition"},
		{"--precondition-threads", opt->precondition, "--precondition"},
	};
	for (size_t i = 0; i < ARRAY_LEN(needs); i++) {
		if (needs[i].used || !given(l, needs[i].option))
			continue;
		int rc = strlist_addf(&l->cfg->notices, "%s has no effect without %s",
				      needs[i].option, needs[i].without);
		if (rc)
			return rc;
	}
	return 0;
}

/* A program for measuring does not carry the means to spoil its measurement. */
static int load_fault_plan(struct load *l)
{
	struct config *cfg = l->cfg;
	const char *path = cfg->opt.fault_plan;
	if (!path)
		return 0;
	if (!CONFIG_HAS_FAULTS)
		return problems_add(l->problems, ERR_UNSUPPORTED,
				    "--fault-plan: not in a release build, which measures only; build with "
				    "-Dfault_injection=enabled");
	size_t before = l->problems->count;
	int rc = config_fault_plan_read(path, &cfg->faults, l->problems);
	if (!rc && l->problems->count == before)
		rc = config_fault_plan_check(path, &cfg->faults, &cfg->opt, l->problems);
	return rc ? rc : strlist_addf(&cfg->notices, "faults of '%s' are injected: this run measures no device", path);
}

int config_load(const struct opt_group *group, struct config *cfg, struct problems *problems)
{
	/* In the order in which a person reads the messages; the later steps use what the earlier
	 * ones filled. */
	static int (*const steps[])(struct load *) = {
		load_workload,         load_model,    load_model_tiers,    check_simulate,
		check_tensor_parallel, check_io_size, check_trace_speedup, check_cache_dir,
		check_roles, check_interval, load_fault_plan, notice_unused,
	};
	struct load l = {.group = group, .cfg = cfg, .problems = problems};
	int rc = 0;
	memset(&cfg->workload, 0, sizeof(cfg->workload));
	memset(&cfg->model, 0, sizeof(cfg->model));
	memset(&cfg->faults, 0, sizeof(cfg->faults));
	cfg->bytes_per_token = 0;
	cfg->notices = (struct strlist){0};
	for (size_t i = 0; i < ARRAY_LEN(steps) && !rc; i++)
		rc = steps[i](&l);
	strlist_release(&l.model_keys);
	return rc;
}

void config_release(struct config *cfg)
{
	size_t count;
	const struct opt *table = config_option_table(&count);
	const struct opt_group group = {.opts = table, .count = count, .target = &cfg->opt};
	const struct opt_set set = {.groups = &group, .count = 1};
	opt_release(&set);
	strlist_release(&cfg->notices);
}
