/* SPDX-License-Identifier: Apache-2.0 */
/*
 * runner/runner.h - drives requests through the tiers: admission, request programs, the chunk loop, the window.
 *
 * Receives: a workload, a cache, tiers, a payload maker.  Gives: merged metrics over the measurement window.
 * Must not know: options' spelling, result files, result directories.
 *
 * N workers, each a thread with its own queue, buffers, histograms and requests; they share the admission queue, the cache and the
 * tiers. The same code runs on the real clock and on the virtual one (one worker, tiers that compute their times).
 * Life: runner_new() - [runner_fill() - runner_wait() until true] - runner_start() - runner_wait() until true (meanwhile runner_progress(), runner_stop()) - runner_collect()
 * - runner_free().
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "cache/cache.h"
#include "config/config.h"
#include "io/io.h"
#include "metrics/metrics.h"
#include "payload/payload.h"
#include "tier/tier.h"
#include "workload/workload.h"

enum { RUNNER_IN_SERVICE_MAX = 500 }; /* requests in service at most, as the reference's worker threads */

struct runner_setup {
	const struct config *cfg;   /* borrowed, like everything below */
	struct workload *workload;
	struct cache *cache;
	struct tier *tier[TIER_CLASSES]; /* in the cache's order */
	unsigned tier_count;
	const struct payload *payload;
	struct error_log *errors;
	struct strlist *notices; /* written before runner_new() returns only */
	uint32_t rank;
	bool is_virtual;
	bool needs_io; /* some tier uses struct io */
	uint32_t workers;
	uint32_t in_service_max;
	uint32_t io_depth;	/* chunks in flight, all workers together */
	uint32_t ops_in_flight; /* entries in transfer, all workers together */
	uint64_t warmup_ns, duration_ns;
	uint64_t interval_ns; /* --interval, 0: none; then runner_next_interval() must be called until the run is over */
	uint64_t drain_ns; /* I/O still in flight this long after the window is given up: an error; so is a fill in which nothing comes for as long */
	uint64_t prepared; /* --decode-only: entries that key_prepared() names, 0.. */
	uint64_t seed;	   /* which of them a request reads */
};

/** Entries to write before the run, outside any window. */
struct runner_fill {
	uint64_t (*key)(uint64_t number); /* of entry 0..count-1 */
	uint64_t count;
	uint64_t payload_bytes; /* of each */
	unsigned first_tier;	/* tiers above are left alone */
	uint32_t parallel;	/* written at once, all workers together */
};

struct runner;

/**
 * runner_new() - allocate everything and start the workers, each with its queue open and waiting
 * Return: 0; -ENOMEM; what io_new() said, with @err filled.
 */
int runner_new(const struct runner_setup *setup, struct runner **ret, struct error *err);

/** runner_fill() - begin to write entries; runner_wait() tells when all are there (or runner_stop() ended it early). Before runner_start(). */
void runner_fill(struct runner *r, const struct runner_fill *fill);
/** runner_filled() - entries written so far. */
uint64_t runner_filled(struct runner *r);

/** runner_start() - the clock starts: warm-up, then the window. */
void runner_start(struct runner *r);

/** runner_wait() - wait up to @timeout_ns of real time for the end. Return: true when every worker has drained. */
bool runner_wait(struct runner *r, uint64_t timeout_ns);

/** runner_has_given_up() - the fill before the run was left because its I/O did not come back: there is no run to start. */
bool runner_has_given_up(struct runner *r);
/**
 * runner_is_stuck() - after runner_wait() returned true: operations were given up and could not be had back
 * They may still write into buffers and hold files open: collect, write the result and leave by _exit(), without runner_free().
 */
bool runner_is_stuck(const struct runner *r);

/** runner_stop() - end the window now (a signal). Threads: any; not for use in a signal handler. */
void runner_stop(struct runner *r);

/** A look from outside while the run goes on; values are a loop turn old at most. */
struct runner_progress {
	uint64_t now_ns;     /* since runner_start(), of the run's clock; the other times too */
	uint64_t window_begin_ns, window_end_ns;
	uint64_t bytes[TIER_CLASSES][DIRECTIONS]; /* moved inside the window */
	uint64_t completed;
	uint32_t in_service;
	uint32_t waiting; /* users (trace: 0 or 1) with a request due and not in service */
};
void runner_progress(struct runner *r, struct runner_progress *ret);

/** How much was going on at one moment. */
struct runner_load {
	uint32_t in_service; /* requests */
	uint32_t waiting;    /* users with a request due and not in service */
	uint32_t transfers;  /* entries being moved */
	uint32_t tier_ops;   /* operations that tiers have and have not ended: chunks, and the opening and closing around them */
	uint64_t errors;     /* since the start */
};

/** One interval of the run; times since runner_start(). */
struct runner_interval {
	uint64_t number; /* 0.. */
	uint64_t begin_ns, end_ns;
	bool is_warmup;		 /* counts in no total */
	struct runner_load load; /* at its end */
	const struct metrics *m; /* the runner's; valid until the next call */
};

/**
 * runner_next_interval() - the next interval that is over, in order; the last one ends with the window
 * The intervals of the window add up to what runner_collect() gives. Return: 1 with @ret, 0: none yet (or all were read), -ENOMEM.
 */
int runner_next_interval(struct runner *r, struct runner_interval *ret);

enum { RUNNER_SLOTS_MAX = 60 };

/** What the run was, beside its metrics. */
struct runner_outcome {
	uint64_t window_ns;
	uint32_t in_service_max;
	bool is_interrupted;
	const char *io_engine; /* "uring", "threads" or "" */
	unsigned io_features;	 /* enum io_feature: what all workers were granted */
	double worker_cpu_share_max; /* busiest worker: CPU time over the window; virtual clock: 0 */
	double worker_wait_share_max; /* worst worker: time it was ready and had no CPU, over the window */
	/* payload bytes moved, both directions, in equal slots from the window's begin; what is left of the window is in none */
	uint64_t slot_ns;
	unsigned slots;
	uint64_t slot_bytes[RUNNER_SLOTS_MAX][TIER_CLASSES];
};

/**
 * runner_collect() - after runner_wait() returned true: merge the workers' metrics, count what was offered and left over
 * @ret: from metrics_new()   Return: 0 or -ENOMEM.
 */
int runner_collect(struct runner *r, struct metrics *ret, struct runner_outcome *outcome);

/** runner_io_engine() - "uring", "threads", or "" when no tier uses one. After runner_new(). */
const char *runner_io_engine(const struct runner *r);

/** runner_free() - joins the workers (stopping them if needed) and closes their queues. NULL and half-built are fine. */
void runner_free(struct runner *r);

/**
 * runner_spare_chunks() - buffers of --io-size that each worker has beyond its share of --io-depth
 * They let a write find noise that its file has not had within the last RUNNER_NOISE_APART_BYTES, and hold what was read and waits
 * for its check.
 */
uint32_t runner_spare_chunks(const struct config *cfg);
/* The window of zstd -3. */
enum { RUNNER_NOISE_APART_BYTES = 2 << 20 };

/** runner_memory_bytes() - what runner_new() will allocate: chunk buffers, histograms (in full: they cost RAM only where they are touched), operations, users. */
uint64_t runner_memory_bytes(const struct runner_setup *setup, uint32_t streams);
