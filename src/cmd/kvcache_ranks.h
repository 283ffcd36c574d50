/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cmd/kvcache_ranks.h - what the ranks of a distributed run say while it goes on, and the files that become of it.
 *
 * Receives: frames.  Gives: a result file of each rank, one of all, one message of what went wrong.
 * Must not know: how the ranks are started.
 */
#pragma once

#include "base/frame.h"
#include "cmd/kvcache_cluster.h"

/** How long nothing may be heard of any rank, in seconds. */
struct kvcache_patience {
	double answer_s;   /* until the first word: a host may never answer */
	double setup_s;	   /* then until progress is told; engines that tell none are silent until their end */
	double silence_s;  /* from then on */
};

/** Zero-initialise; kvcache_ranks_release() after. */
struct kvcache_ranks {
	uint32_t count;
	struct record *record;
	struct kvcache_cluster *cluster;
	const char *file; /* name of a result file, in the run directory and in those of the ranks */
	struct kvcache_rank *ranks; /* [count] */
	struct record_aggregate *aggregate;
	json_t *pooled;   /* the engine's result of all, NULL until it came */
	json_t *problems; /* [{rank, host, message, hint, code}] */
	struct kvcache_patience patience;
	uint64_t heard_ns;
	bool has_answered; /* a first word came */
	char phase[16]; /* the last that was told: "measure" */
	bool is_heard; /* progress was told, so that silence means something */
	struct error write_error;
};

/**
 * kvcache_ranks_open() - expect @count ranks
 * @patience: silence after which is_overdue() is true; copied
 * @file:     borrowed
 * Return: 0 or -ENOMEM.
 */
int kvcache_ranks_open(struct kvcache_ranks *k, uint32_t count, const struct kvcache_patience *patience, const char *file,
		       struct record *r, struct kvcache_cluster *cluster);
void kvcache_ranks_release(struct kvcache_ranks *k);

/** kvcache_ranks_take() - one frame. @arg: struct kvcache_ranks. A rank's result is written as it comes. */
void kvcache_ranks_take(void *arg, enum frame_kind kind, uint32_t rank, const char *data, size_t len);
/** kvcache_ranks_are_overdue() - has nothing been heard for too long? @arg: struct kvcache_ranks. */
bool kvcache_ranks_are_overdue(void *arg);
/** kvcache_ranks_patience_s() - how long that is now. */
double kvcache_ranks_patience_s(const struct kvcache_ranks *k);

/**
 * kvcache_ranks_finish() - write what is left: the last word of ranks that gave no result, and the file of all
 * @path: of the file of all
 * @ret_aggregate: [out] the reference's aggregates (new reference); NULL when no rank said anything
 * Return: EXIT_OK, or reported and a code.
 */
int kvcache_ranks_finish(struct kvcache_ranks *k, const char *path, json_t **ret_aggregate);

/** kvcache_ranks_intervals() - JSON list (new reference) of the files into which ranks' intervals went. */
json_t *kvcache_ranks_intervals(const struct kvcache_ranks *k);

/** kvcache_ranks_missing() - "rank 1 on h2, rank 3" of all without a complete result; false: there are none. */
bool kvcache_ranks_missing(const struct kvcache_ranks *k, struct str *ret);

/** kvcache_ranks_name() - "rank 3 on h2"; a rank that is not said (-1) is known by process and host, if it told them. */
void kvcache_ranks_name(const struct kvcache_ranks *k, int64_t rank, int64_t pid, const char *host, struct str *ret);

/** kvcache_ranks_report() - the problems that ranks told, in one message. Return: exit code of the first; EXIT_OK: none. */
int kvcache_ranks_report(const struct kvcache_ranks *k);
