/* SPDX-License-Identifier: Apache-2.0 */
/*
 * metrics/run_result.h - what a run found: the one struct between the engine and its reports.
 *
 * Receives: merged metrics, effective settings, facts of the machine.  Gives: nothing but fields.
 * Must not know: how they are written.  Borrowed pointers live until the report is written.
 */
#pragma once

#include "metrics/metrics.h"

struct result_pool;

enum { VERDICT_WHY_MAX = 256 };

/** Can a number be trusted, and why. */
struct verdict {
	bool value;
	bool is_known; /* false: could not be judged (then value is false and why says so) */
	char why[VERDICT_WHY_MAX];
};

struct run_tier {
	bool is_present;
	const char *kind; /* "ram", "file", "null", "model" */
	uint64_t limit_bytes;
	uint64_t used_bytes; /* at the end of the window, footprints */
	uint64_t entries;
	double read_gbps, write_gbps, latency_us; /* model tiers, else 0 */
};

/** Effective I/O path of the storage tier. Texts are "" when there is none (null and model backends). */
struct run_io {
	char engine[16];     /* "uring", "threads" */
	char mode[16];	     /* "direct", "buffered" */
	uint64_t io_size_bytes;
	uint32_t io_depth;
	uint32_t ops_in_flight;
	char sync[16];
	char filesystem[32]; /* "ext4" */
	char device[64];     /* mount source or block device */
	bool has_registered_buffers; /* granted by the kernel */
	char features[96];	     /* io_features_text() */
	uint64_t device_read_bytes, device_written_bytes;  /* kernel's block counters over the window */
	uint64_t device_sampled_ns; /* between the two samples: the window, and the moments by which they missed its ends */
	bool has_device_counters;
	/* block sizes of direct I/O on this file system; 0: buffered */
	uint32_t direct_align_bytes;
};

/** One interval of --interval. */
struct run_interval {
	uint64_t number;
	uint64_t begin_ns, end_ns; /* since the start of the run, warm-up included */
	bool is_warmup;
	uint32_t in_service, waiting, transfers, tier_ops; /* at its end: see struct runner_load */
	uint64_t errors; /* in it */
	const struct metrics *m;
};

/** The simulated users, by the upper ends of their contexts; count 0 where a trace is replayed. */
struct run_users {
	uint32_t count;
	uint32_t context_min, context_max; /* tokens */
	double context_mean;
	uint32_t by_qos[QOS_COUNT];
};

struct run_host {
	char hostname[256];
	char kernel[256];
	char os[128];
	char cpu_model[128];
	uint32_t logical_cpus;
	uint64_t memory_bytes;
};

struct run_result {
	const struct config *cfg;
	const struct opt_group *options; /* for the echo of parameters with their sources */
	const struct metrics *m;
	const struct error_log *errors;
	const struct strlist *notices;

	const char *version;
	char started_utc[32], ended_utc[32]; /* the time stamps; virtual clock: empty */
	uint64_t seed; /* effective */
	bool seed_was_drawn;
	uint64_t fingerprint;
	const char *workload_source; /* "synthetic" or the trace's path */

	bool is_virtual;     /* virtual clock: host-dependent values are null */
	bool is_interrupted; /* a signal ended the run early */
	uint64_t window_ns;  /* measured length of the window */
	uint64_t warmup_ns;
	const char *interval_file; /* "": no --interval */
	uint32_t workers;
	uint32_t in_service_max;
	double gpu_effective_bytes; /* 0 in this version */

	struct run_tier tier[TIER_CLASSES];
	struct run_io io;
	struct run_users users;
	struct run_host host;

	double cpu_user_s, cpu_system_s; /* of the process over the window */
	uint64_t rss_peak_bytes;
	uint64_t predicted_bytes; /* the memory formula's value */
	double setup_s;

	const struct result_pool *pool; /* several ranks: who they were (result/pool.h); NULL: one process */

	struct verdict client_bound, page_cache_bypassed, enough_samples, steady_state;
	bool is_valid; /* bytes moved in the window and no error occurred */
	char invalid_why[VERDICT_WHY_MAX];
};
