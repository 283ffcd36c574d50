// SPDX-License-Identifier: Apache-2.0
/* mlpstorage kvcache datasize: how large the KV cache of a workload is. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "cluster/host.h"
#include "cmd/validate.h"

#define GIB 1073741824.0
#define MIB 1048576.0

/* Shares of the working set that the reference recommends for each tier. */
#define GPU_SHARE     0.2
#define CPU_SHARE     0.5
#define STORAGE_SHARE 2.0

/* The reference's table, kept for comparison: it is 20 to 64 times too small. */
static const struct old_model {
	const char *model;
	uint32_t bytes_per_token;
	uint32_t tokens;
} old_models[] = {
	{"tiny-1b", 768, 2048},
	{"mistral-7b", 4096, 4096},
	{"llama2-7b", 8192, 4096},
	{"llama3.1-8b", 4096, 8192},
	{"llama3.1-70b-instruct", 16384, 8192},
};
static const struct old_model old_fallback = {"", 4096, 4096};

/* One column of the table; bytes. 0: not told. */
struct estimate {
	double bytes_per_token;
	double tokens;
	double entry_bytes;
	double entry_max_bytes;
	double entries_per_user;
	double user_bytes;
	double all_bytes;
	double gpu_bytes;
	double cpu_bytes;
	double storage_bytes;
};

static void add_tiers(struct estimate *e, const struct config_options *opt)
{
	e->gpu_bytes = MAX(opt->gpu_mem_gib * GIB, e->all_bytes * GPU_SHARE);
	e->cpu_bytes = MAX(opt->cpu_mem_gib * GIB, e->all_bytes * CPU_SHARE);
	e->storage_bytes = e->all_bytes * STORAGE_SHARE;
}

static struct estimate estimate_true(const struct config *cfg)
{
	struct config_working_set w = config_working_set(cfg);
	struct estimate e = {
		.bytes_per_token = (double)cfg->bytes_per_token,
		.tokens = w.tokens,
		.entry_bytes = w.entry_bytes,
		.entry_max_bytes = w.entry_max_bytes,
		.entries_per_user = w.entries_per_user,
		.user_bytes = w.user_bytes,
		.all_bytes = w.all_bytes,
	};
	add_tiers(&e, &cfg->opt);
	return e;
}

static struct estimate estimate_old(const struct config *cfg)
{
	const struct old_model *m = &old_fallback;
	for (size_t i = 0; i < ARRAY_LEN(old_models); i++)
		if (!strcmp(old_models[i].model, cfg->opt.model))
			m = &old_models[i];
	struct estimate e = {
		.bytes_per_token = m->bytes_per_token,
		.tokens = m->tokens,
		.user_bytes = (double)m->bytes_per_token * m->tokens,
	};
	e.all_bytes = e.user_bytes * (double)cfg->opt.num_users;
	add_tiers(&e, &cfg->opt);
	return e;
}

enum unit { UNIT_COUNT, UNIT_MIB, UNIT_GIB };

/* The rows of the table, and the keys under which the metadata repeats them. */
static const struct {
	const char *label;
	const char *key;
	size_t offset;
	enum unit unit;
} rows[] = {
	{"Bytes per token", "bytes_per_token", offsetof(struct estimate, bytes_per_token),
	 UNIT_COUNT},
	{"Tokens of an entry, mean", "tokens", offsetof(struct estimate, tokens), UNIT_COUNT},
	{"Entry, mean", "entry_bytes", offsetof(struct estimate, entry_bytes), UNIT_MIB},
	{"Entry, largest", "entry_max_bytes", offsetof(struct estimate, entry_max_bytes), UNIT_MIB},
	{"Entries of a conversation, mean", "entries_per_user",
	 offsetof(struct estimate, entries_per_user), UNIT_COUNT},
	{"Working set, one user", "user_bytes", offsetof(struct estimate, user_bytes), UNIT_MIB},
	{"Working set, all users", "all_bytes", offsetof(struct estimate, all_bytes), UNIT_GIB},
	{"Recommended GPU memory", "gpu_bytes", offsetof(struct estimate, gpu_bytes), UNIT_GIB},
	{"Recommended CPU memory", "cpu_bytes", offsetof(struct estimate, cpu_bytes), UNIT_GIB},
	{"Recommended storage", "storage_bytes", offsetof(struct estimate, storage_bytes),
	 UNIT_GIB},
};

static double value_of(const struct estimate *e, size_t row)
{
	return *(const double *)(const void *)((const char *)e + rows[row].offset);
}

static void print_value(double value, enum unit unit)
{
	char text[32] = "-";
	if (value > 0 && unit == UNIT_COUNT)
		snprintf(text, sizeof(text), "%.*f", value < 100 ? 1 : 0, value);
	else if (value > 0)
		snprintf(text, sizeof(text), unit == UNIT_MIB ? "%.2f MiB" : "%.1f GiB",
			 value / (unit == UNIT_MIB ? MIB : GIB));
	printf("%18s", text);
}

static void print_table(const struct config *cfg, const struct estimate *now,
			const struct estimate *old)
{
	printf("KV cache of %s, %" PRId64 " users, workload %s\n\n%-33s%18s%18s\n", cfg->opt.model,
	       cfg->opt.num_users, cfg->workload.name, "", "true", "reference (old)");
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		printf("%-33s", rows[i].label);
		print_value(value_of(now, i), rows[i].unit);
		print_value(value_of(old, i), rows[i].unit);
		putchar('\n');
	}
	puts("\nTrue: from the model's layers and the workload's own draws. Reference (old): the figures of the\n"
	     "reference's datasize, which counts one entry per user and too few bytes per token.");
}

/* Free space where the cache would be, against the true working set. */
static void check_space(const struct cmd_invocation *inv, struct record *r, const char *cache_dir,
			const struct estimate *now)
{
	struct fs_facts fs;
	if (inv->universal.skip_validation)
		return;
	int rc = fs_facts_read("", cache_dir, &fs);
	if (rc) {
		log_warning("cannot tell the free space of %s: %s", cache_dir, strerror(-rc));
		return;
	}
	printf("\nFree space for %s: %.1f GiB of %.1f GiB (%s)\n", cache_dir,
	       (double)fs.available_bytes / GIB, (double)fs.total_bytes / GIB, fs.type);
	record_set(r, "cache_dir_available_bytes", json_integer((json_int_t)fs.available_bytes));
	if ((double)fs.available_bytes < now->all_bytes)
		log_warning("the working set of %.1f GiB does not fit there: what is not in memory "
			    "will be evicted before it is read again",
			    now->all_bytes / GIB);
}

static json_t *estimate_json(const struct estimate *e)
{
	json_t *all = json_object();
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		double value = value_of(e, i);
		json_object_set_new(all, rows[i].key, value > 0 ? json_real(value) : json_null());
	}
	return all;
}

static int validate(const struct cmd_invocation *inv)
{
	struct cmd_validation v = {.inv = inv};
	cmd_validation_lockfile(&v, NULL);
	int code = cmd_validation_report(&v);
	cmd_validation_release(&v);
	return code;
}

int cmd_kvcache_datasize(struct cmd_invocation *inv)
{
	struct record *r = NULL;
	CLEANUP_FREE char *cache_dir = NULL;
	const struct config *cfg = &inv->config;
	int code = validate(inv);
	if (!code)
		code = cmd_kvcache_record(inv, &r, &cache_dir);
	if (code)
		return code;
	for (size_t i = 0; i < cfg->notices.count; i++)
		log_info("%s", cfg->notices.v[i]);
	struct estimate now = estimate_true(cfg);
	struct estimate old = estimate_old(cfg);
	print_table(cfg, &now, &old);
	check_space(inv, r, cache_dir, &now);
	fflush(stdout);
	record_set(r, "datasize",
		   json_pack("{so, so}", "true", estimate_json(&now), "reference",
			     estimate_json(&old)));
	code = cmd_record_write(inv, r, inv->universal.what_if ? RECORD_WHAT_IF : RECORD_COMPLETE,
				EXIT_OK, 0);
	record_free(r);
	return code;
}
