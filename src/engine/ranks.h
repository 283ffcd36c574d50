/* SPDX-License-Identifier: Apache-2.0 */
/*
 * engine/ranks.h - what the ranks of a run do together, and what rank 0 tells the controller.
 *
 * Receives: this rank's problems, facts, progress, result.  Gives: agreement, the pooled result, frames.
 * Must not know: MPI (that is comm/); how anything is measured.
 *
 * Every function marked "meeting" is called by all ranks in the same order. With one rank they return at once. Rank 0 alone
 * prints; the others say nothing unless rank 0 is what failed.
 */
#pragma once

#include "base/frame.h"
#include "engine/engine.h"
#include "result/pool.h"

/* A job's ranks leave their histograms out of their own results from this many ranks on: rank 0 would pass gigabytes on. */
enum { RANKS_HISTOGRAMS_MAX = 256 };

/**
 * ranks_agree() - meeting: does every rank go on? If not, rank 0 shows all problems of all ranks in one message.
 * @problems: this rank's; may be empty
 * @patience_ns: how long another rank may need more than this one, beside --rank-timeout
 * Return: EXIT_OK: all go on; else the exit code.
 */
int ranks_agree(struct engine *e, const struct problems *problems, uint64_t patience_ns);

/** ranks_share_seed() - meeting: rank 0's seed is everybody's base. ranks_share_space() - meeting: how many ranks share this file system. */
int ranks_share_seed(struct engine *e, struct error *err);
int ranks_share_space(struct engine *e, struct error *err);

/** ranks_open() - what ranks_tick() needs. Return: 0 or -ENOMEM. */
int ranks_open(struct engine *e);
/** ranks_ready() - meeting, when all is set up: rank 0 compares the ranks' set-ups and passes them on. Return: exit code. */
int ranks_ready(struct engine *e);
/** ranks_start() - meeting: leave together for the window. @goes_on: this rank's wish; [out] all ranks'. Return: exit code. */
int ranks_start(struct engine *e, bool *goes_on);

enum ranks_phase { RANKS_FILL, RANKS_RUN };

/** ranks_tick() - while work goes on: tell rank 0, hear from the others. @p: zero outside the window. Return: true: another rank wants to stop. */
bool ranks_tick(struct engine *e, enum ranks_phase phase, const struct runner_progress *p);
/** ranks_stop() - a signal came: tell the others. */
void ranks_stop(struct engine *e);
/** ranks_progress() - rank 0: @p over all ranks, as last heard. */
void ranks_progress(const struct engine *e, struct runner_progress *p);

/** What a pooled result points to. Zero-initialise; ranks_pooled_release() when the result is written. */
struct ranks_pooled {
	struct result_pool *pool;
	struct metrics *m;
	struct error_log errors;
	struct strlist notices;
};
void ranks_pooled_release(struct ranks_pooled *p);

/**
 * ranks_pool() - meeting, after the run: pass on each rank's result, then add all up
 * @r: this rank's result; on rank 0 the pooled one afterwards
 * Return: exit code: EXIT_OK when pooled.
 */
int ranks_pool(struct engine *e, const struct watch *watch, struct run_result *r, struct ranks_pooled *keep);

/**
 * ranks_share_code() - meeting: rank 0's exit code is everybody's
 * Launchers differ in whose code they return, and Hydra may miss that of the last to end.
 */
int ranks_share_code(struct engine *e, int code);

/* ranks_host.c */

/** ranks_tell_hosts() - meeting: with --frames one rank of each host tells the controller what the machine is. */
int ranks_tell_hosts(struct engine *e, struct error *err);
/** ranks_sample_host() - while work goes on: a sample of this host's counters to rank 0, where one is due. */
void ranks_sample_host(struct engine *e);

/* ranks_intervals.c: with --frames, unless --interval-file was given */

/** ranks_post_intervals() - while work goes on: e->interval_text to rank 0. ranks_hear_intervals() - rank 0: pass on what came. */
void ranks_post_intervals(struct engine *e);
void ranks_hear_intervals(struct engine *e);
/** ranks_last_intervals() - meeting, after the run: those that are left. */
int ranks_last_intervals(struct engine *e, struct error *err);

/** ranks_fail() - a meeting failed: rank 0 says why. Return: exit code. */
int ranks_fail(struct engine *e, int rc, const struct error *err);
/** ranks_deadline() - now, --rank-timeout and @patience_ns. */
uint64_t ranks_deadline(const struct engine *e, uint64_t patience_ns);
/** ranks_are_told() - is there anybody to tell: other ranks, or a controller? */
bool ranks_are_told(const struct engine *e);

/** ranks_emit() - rank 0: one frame, where --frames was given. */
void ranks_emit(struct engine *e, enum frame_kind kind, int rank, const char *text, size_t len);

void ranks_release(struct ranks *r);
