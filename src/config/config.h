/* SPDX-License-Identifier: Apache-2.0 */
/*
 * config/config.h - what one run of the engine is asked to do: options, workload description, model.
 *
 * Receives: the command line, YAML files.  Gives: one struct config, checked.
 * Must not know: the machine (free memory, directories): engine/ checks those.
 * The user-visible names are those of the reference (kv-cache.py).
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/str.h"
#include "config/faults.h"
#include "config/opt.h"
#include "model/model.h"

enum config_generation { GENERATION_NONE, GENERATION_FAST, GENERATION_REALISTIC, GENERATION_COUNT };
enum config_profile { PROFILE_LATENCY, PROFILE_THROUGHPUT };
enum config_backend { BACKEND_FILE, BACKEND_NULL, BACKEND_MODEL };
enum config_io_engine { IO_ENGINE_AUTO, IO_ENGINE_URING, IO_ENGINE_THREADS };
enum config_io_mode { IO_MODE_AUTO, IO_MODE_DIRECT, IO_MODE_BUFFERED };
enum config_sync { SYNC_FSYNC, SYNC_FDATASYNC, SYNC_NONE };
enum config_verify { VERIFY_OFF, VERIFY_STAMP, VERIFY_FULL };
enum config_trace_format { TRACE_AUTO, TRACE_MOONCAKE };
enum config_qos { QOS_INTERACTIVE, QOS_RESPONSIVE, QOS_BATCH, QOS_COUNT };
enum config_arrival { ARRIVAL_OPEN, ARRIVAL_CLOSED };
enum config_progress { PROGRESS_AUTO, PROGRESS_TERMINAL, PROGRESS_PLAIN, PROGRESS_OFF };
enum config_log { CONFIG_LOG_DEBUG, CONFIG_LOG_INFO, CONFIG_LOG_WARNING, CONFIG_LOG_ERROR, CONFIG_LOG_CRITICAL };

#define CONFIG_INTERVAL_MIN_S 0.01 /* of --interval */

/* Tiers from the top of the waterfall to its end. */
enum tier_class { TIER_GPU, TIER_CPU, TIER_STORAGE, TIER_CLASSES };

/** The options of kv-cache as typed (or their defaults). Filled through config_options(). */
struct config_options {
	/* the reference's names */
	char *model;
	int64_t num_users;
	int64_t duration_s;
	double gpu_mem_gib;
	int64_t num_gpus;
	int64_t tensor_parallel;
	double cpu_mem_gib;
	char *cache_dir; /* NULL: a private temporary directory */
	int generation_mode;	 /* enum config_generation */
	int performance_profile; /* enum config_profile */
	bool disable_multi_turn;
	bool disable_prefix_caching;
	int64_t seed; /* meaningful when --seed was given; else engine draws one */
	int64_t max_concurrent_allocs; /* 0: unlimited */
	double storage_capacity_gib;   /* 0: automatic */
	int64_t max_requests;	       /* 0: unlimited */
	char *config_file;
	char *output;
	int log_level; /* enum config_log */
	/* our own */
	int storage_backend; /* enum config_backend */
	struct strlist model_tier;
	bool simulate;
	int64_t workers; /* 0: min(cores, 8) */
	int io_engine;
	int io_mode;
	uint64_t io_size_bytes;
	int64_t io_depth;	  /* chunks in flight per rank */
	int64_t ops_in_flight;	  /* entries being transferred at once per rank; 0: io_depth */
	int64_t request_parallel; /* entries of one request in flight */
	int sync;
	int verify;
	bool cleanup;
	bool raw_samples;
	bool frames;
	double host_series_interval_s;
	bool require_space;
	int64_t rank_timeout_s;
	bool quiet;
	int progress; /* enum config_progress */
	int64_t warmup_s;
	double interval_s; /* 0: no time series */
	char *interval_file;
	char *trace;
	int trace_format;
	double trace_speedup; /* 0: as fast as service allows */
	bool prefill_only, decode_only;
	bool precondition;
	double precondition_size_gib; /* 0: twice the storage tier's limit */
	char *fault_plan;
	int64_t drain_timeout_s; /* I/O in flight this long after the window is given up */
	int64_t precondition_threads; /* entries written at once; 0: one per core */
};

enum { CONFIG_TEMPLATES_MAX = 16, CONFIG_PREFIXES_MAX = 16, CONFIG_NAME_MAX = 32 };

/** Who a simulated user is: uniform, inclusive ranges. */
struct config_template {
	char name[CONFIG_NAME_MAX];
	uint32_t context_min, context_max;	 /* tokens */
	uint32_t generation_min, generation_max; /* tokens */
	double think_min_s, think_max_s;
};

struct config_qos_level {
	double target_p95_ms, target_p99_ms, target_p999_ms, target_p9999_ms; /* 0: none, but for p95 */
	int32_t priority; /* larger is served first */
};

/** The workload as data: the shipped YAML, with the user's file over it. Probabilities are 0..1. */
struct config_workload {
	char name[CONFIG_NAME_MAX]; /* "v3", "v1" or the user's */
	struct config_template templates[CONFIG_TEMPLATES_MAX];
	uint32_t template_count;
	struct config_qos_level qos[QOS_COUNT];
	double interactive_probability; /* u < this: interactive */
	double responsive_threshold;	/* u < this: responsive, else batch */
	double generation_s[GENERATION_COUNT]; /* seconds per generated token */
	double end_conversation_probability;
	uint32_t max_turns_per_conversation;
	double think_jitter_min, think_jitter_max; /* factors on the think time: 0.8 .. 1.2 */
	uint32_t context_min_divisor;	 /* a draw is randint(max(1, C / divisor), C): 4 */
	uint32_t generation_min_divisor; /* 4 */
	uint32_t prefill_only_tokens;	 /* context at or above this is prefill without decode: 10000 */
	uint32_t decode_batch_tokens;	 /* generated tokens per decode read: 32 */
	double prefix_probability;	 /* 0.2 */
	uint32_t prefix_words[CONFIG_PREFIXES_MAX]; /* tokens taken off the context: 5, 9, 6 */
	uint32_t prefix_count;
	double target_usage_ratio;	/* waterfall: share of an upper tier that is filled (0.8) */
	double large_entry_limit_ratio; /* larger entries pass an upper tier over (0.95) */
	/* where the honest thing would change the workload, it is a choice here; false/open: as the reference */
	bool prefix_written;	   /* write a missing prefix entry, so that later lookups can hit */
	bool decode_single_read;   /* read an entry once per decode instead of 1 + ceil(generated / 32) times */
	bool priority_aging;	   /* serve by age over QoS target instead of strict priority */
	bool multi_turn_last_only; /* older generation: only turn n-1 is read */
	enum config_arrival arrival;
};

/** A simulated device, for --storage-backend model and --simulate. GB are 10^9 bytes. */
struct config_model_tier {
	double read_gbps, write_gbps; /* > 0 */
	double latency_us;	      /* >= 0 */
};

/** Everything a run needs, checked and immutable after config_load(). */
struct config {
	struct config_options opt;
	struct config_workload workload;
	struct model model;
	struct config_model_tier model_tier[TIER_CLASSES];
	struct config_fault_plan faults; /* of --fault-plan; without it empty */
	uint64_t bytes_per_token; /* of the whole model; an entry stores this / tensor_parallel per token */
	struct strlist notices;	  /* what the user should know: "section 'rag' of FILE has no effect in this version" */
};

/** config_option_table() - the rows of kv-cache's options; count in @ret_count. Target: struct config_options. */
const struct opt *config_option_table(size_t *ret_count);

/**
 * config_load() - from parsed options to a checked config
 * Reads the shipped workload, then --config over it (strict keys: an unknown key, a wrong type or a value out of range is
 * a problem with FILE:LINE), looks up the model, parses --model-tier, checks what needs more than one option
 * (tensor_parallel <= num_gpus, --workers with --simulate, cache-dir below a system directory, ...).
 * @group:    the parsed option group; @cfg->opt must be its target (opt_parse() ran on it)
 * @cfg:      [in,out] opt is filled; the rest is written here
 * @problems: every violation of one pass
 * Return: 0 (look at @problems->count), -ENOMEM.   config_release() after, in any case.
 */
int config_load(const struct opt_group *group, struct config *cfg, struct problems *problems);
/** config_release() - free what the config owns, the options' texts included (opt_release() may run as well). */
void config_release(struct config *cfg);

/**
 * config_entry_bytes() - payload bytes of an entry of @tokens tokens: bytes_per_token x tokens / tensor_parallel,
 * in whole elements, so that they are those of the array that model_shape() describes. @tokens: at most 2^24.
 */
uint64_t config_entry_bytes(const struct config *cfg, uint64_t tokens);

/** How large the KV cache of simulated users is: means over what the workload draws; bytes of payload of one rank. */
struct config_working_set {
	double tokens;		 /* of an entry */
	double entry_bytes;	 /* mean */
	double entry_max_bytes;	 /* the largest that can be drawn */
	double entries_per_user; /* that a turn may read or write */
	double user_bytes;	 /* entry_bytes x entries_per_user */
	double all_bytes;	 /* of all users */
};

/** config_working_set() - of the workload's distributions, whatever --trace says. Time is linear in the templates' ranges. */
struct config_working_set config_working_set(const struct config *cfg);
/**
 * config_storage_need() - bytes the storage tier of one rank needs so that nothing is evicted before it is read again:
 * the working set less the memory tier, or --storage-capacity-gb where that is less. 0: nothing, or unknown (a trace); a run that
 * only writes reads nothing again, and one that only reads is given what fits.
 */
double config_storage_need(const struct config *cfg);

/** config_shipped() - text of a workload file that is built into the program ("workload-v3.yaml"); NULL when unknown. */
const char *config_shipped(const char *name);

const char *config_qos_name(enum config_qos q);	  /* "interactive" ... */
const char *config_tier_name(enum tier_class t);  /* "gpu", "cpu", "storage" */
