/* SPDX-License-Identifier: Apache-2.0 */
/*
 * engine/engine.h - the program kv-cache: one rank of the benchmark, from options to result file.
 *
 * Receives: a command line.  Gives: a run, its result, an exit code.
 * Must not know: result directories, launchers, history (that is mlpstorage).
 *
 * main.c     command line           storage.c  the cache directory: checks, lock, direct I/O
 * ranks.c    agreement, progress    ranks_pool.c  one result of many ranks    ranks_host.c  facts and samples of each host
 * setup.c    everything a run needs watch.c    progress, signals, samples at the window's two ends
 * report.c   verdicts and result    intervals.c  the file of --interval, ranks_intervals.c  or the controller's
 * judge.c    was the rate steady
 * trace_info.c  kv-cache trace-info
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "cluster/host.h"
#include "comm/comm.h"
#include "config/config.h"
#include "io/io.h"
#include "metrics/run_result.h"
#include "runner/runner.h"

#define ENGINE_VERSION	   MLPSTORAGE_VERSION
#define ENGINE_GIB	   1073741824.0
#define ENGINE_STORAGE_DIR "kvcache.d" /* below --cache-dir; only here are files made and removed */

/* Capacity of a storage tier that is not on a disk, when none is given: that of a common NVMe drive. */
#define ENGINE_MODEL_CAPACITY_BYTES (UINT64_C(4) << 40)
/* Automatic capacity: this share of the free space (the reference's), or of the free memory on tmpfs. */
#define ENGINE_AUTO_DISK_SHARE	 0.95
#define ENGINE_AUTO_MEMORY_SHARE 0.5
/* Entries that are written before a run: their size, and how many a decode-only run has per user (as the reference). */
enum { ENGINE_FILL_TOKENS = 2048, ENGINE_PREPARED_PER_USER = 10 };
/* A decode-only run reads from no more than this share of the storage tier, so that preparing it evicts nothing. */
#define ENGINE_PREPARED_SHARE 0.8
/* Memory a RAM tier must leave to everybody else. */
#define ENGINE_MEMORY_RESERVE_BYTES (UINT64_C(1) << 30)

/** The cache directory, once it is ours. Zero-initialise with fds at -1; storage_close() after, in any case. */
struct storage {
	char *cache_dir;  /* resolved */
	char *path;	  /* <cache_dir>/kvcache.d */
	int dirfd;	  /* of path, locked for the run */
	bool is_temporary; /* cache_dir was made for this run and goes with it */
	char *existed;	   /* what there was at or above path; what this run made below it is its to remove */
	struct fs_facts fs;
	struct io_direct direct; /* what the probe said */
	bool is_direct;		 /* effective mode */
	unsigned sharers; /* ranks whose directories are on this file system, this one included */
	uint64_t limit_bytes;
};

/**
 * storage_look() - can the directory be used, and what is it on? Nothing is created.
 * @rank: works in rank_<@rank> below --cache-dir; -1: in --cache-dir itself
 * Fills s->cache_dir, s->path, s->existed, s->fs. Problems are added, all of them.
 */
void storage_look(struct storage *s, const struct config *cfg, int rank, struct problems *problems);
/**
 * storage_check_space() - after storage_look() found no problem: s->limit_bytes, or a problem
 * @memory_bytes: for the limit on a file system in memory: what is free beside the RAM tiers of this host's ranks
 */
void storage_check_space(struct storage *s, const struct config *cfg, uint64_t memory_bytes,
			 struct problems *problems);
/** storage_open() - make, lock and clean the directory, decide between direct and buffered. Return: 0 or -errno with @err. */
int storage_open(struct storage *s, const struct config *cfg, struct strlist *notices,
		 struct error *err);
/** storage_close() - unlock; remove what was made when the run failed early, is temporary, or @remove_files is set. */
void storage_close(struct storage *s, bool remove_files);

/** What this rank knows of the others; ranks.c. */
struct ranks {
	bool can_emit;		  /* rank 0, and the controller reads */
	uint64_t ready_ns;	  /* this rank's set-up was done */
	uint64_t start_ns;	  /* all left for the window */
	int64_t clock_offset_ns;  /* of this host's clock over rank 0's */
	uint64_t next_progress_ns, next_snapshot_ns;
	uint64_t next_sample_ns;  /* of this host's counters; UINT64_MAX: another rank of the host takes them */
	struct metrics *live;	  /* counters that can be read while workers work; NULL: nobody is told */
	struct ranks_heard {
		struct runner_progress p;
		bool is_heard;
		uint64_t interval_bytes; /* of its lines, passed on */
	} *heard; /* rank 0: [size] */
	int heard_count;
	int result_rc;		/* rank 0: why a rank's own result could not be written; 0 */
	struct strlist notices; /* rank 0: about the ranks together */
};

/** One run's parts, in the order they are made; engine_release() takes them down in the other. */
struct engine {
	struct config *cfg;
	const struct opt_group *options;
	struct comm *comm;
	struct ranks ranks;
	uint64_t seed; /* rank 0's: rank r uses seed + r */
	bool seed_was_drawn;
	bool is_file_backend;
	char output[4096];
	char interval_path[4200]; /* of --interval; "": none */
	int interval_fd;	  /* -1: none */
	struct str interval_text; /* lines that go to the controller and were not sent so far */
	uint64_t interval_sent;	  /* bytes of lines sent before them */
	uint64_t interval_errors; /* told so far */
	int interval_rc;	  /* first failure */
	struct strlist notices;
	struct host_facts host;
	struct storage storage;
	struct workload *workload;
	struct tier *tier[TIER_CLASSES];
	unsigned tier_count;
	struct cache *cache;
	struct payload *payload;
	struct error_log errors;
	struct runner_setup runner_setup;
	struct runner *runner;
	uint64_t ram_bytes;
	uint64_t predicted_bytes;
	uint64_t setup_begin_ns;
	double setup_s;
	bool is_stuck; /* I/O that was given up is still in flight: nothing is taken down, the process just ends */
};

/**
 * engine_check() - everything that can be judged before anything is created: memory, directories, the trace
 * Return: 0 (look at @problems); -errno: the machine cannot be looked at, or with @err set: other ranks did not take part.
 */
int engine_check(struct engine *e, struct problems *problems, struct error *err);
/** engine_open() - create it all, up to workers that wait for the start. Return: 0 or -errno with @err. */
int engine_open(struct engine *e, struct error *err);
void engine_release(struct engine *e, bool is_finished);

/** What was sampled from outside while the run went on. */
struct watch {
	bool was_interrupted;
	bool has_begin, has_end;
	struct disk_counters disk_begin, disk_end;
	uint64_t sampled_begin_ns, sampled_end_ns; /* when, on the monotonic clock */
	double cpu_user_s, cpu_system_s; /* over the window */
	char started_utc[32], ended_utc[32];
	uint64_t begin_ns; /* clock_mono_ns() when the window opened */
};

/** watch_setup() - while there is nothing to lose: SIGINT and SIGTERM end the process with EXIT_INTERRUPTED. */
void watch_setup(void);
/** watch_signals() - from here on signals close the window instead of ending the process: blocked in this and all later threads. */
void watch_signals(void);
/** watch_fill() - what comes before the run: --precondition, the entries of --decode-only. Return: false: no run: a signal came (ret->was_interrupted), or the storage does not answer. */
bool watch_fill(struct engine *e, struct watch *ret);
/** watch_run() - from runner_start() to the drained end: progress, first signal stops, second exits at once. */
void watch_run(struct engine *e, struct watch *ret);

/*
 * --interval writes a file; but with --frames, unless a file was named, e->interval_text: the caller takes it and clears it.
 */
/** intervals_check() - where --interval writes, once e->output is known, and whether it can. */
void intervals_check(struct engine *e, struct problems *problems);
/** intervals_create() - open the file, if there is one. Return: 0 or -errno with @err. */
int intervals_create(struct engine *e, struct error *err);
/** intervals_write() - write the intervals that are over. A failure is told once; the run goes on, and its exit code says it. */
void intervals_write(struct engine *e);
/** intervals_close() - after the last intervals_write(). */
void intervals_close(struct engine *e);

/** judge_steady() - did the rate hold still over the window? (judge.c) */
void judge_steady(const struct runner_outcome *o, struct verdict *ret);

/** report_run() - merge, judge, print, write. Return: exit code. */
int report_run(struct engine *e, const struct watch *watch);

/** trace_info_main() - kv-cache trace-info [--model M] FILE. Return: exit code. */
int trace_info_main(int argc, char *const *argv);
