/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cmd/kvcache_cluster.h - what the machines of a run are, at its start and at its end, and what they did meanwhile.
 *
 * Receives: how the machines can be asked; what ranks tell of themselves.  Gives: system_info, cluster_snapshots and
 * timeseries_data in the metadata; kv_cache_cluster_info.json and kv_cache_<stamp>_timeseries.json in the run
 * directory; warnings where hosts differ.
 * Must not know: what the run measures.
 *
 * Nothing here fails a run: what could not be found out is a warning, and stands in what is written. The calls come in
 * the order in which they stand here; any of them may be the last before kvcache_cluster_release().
 */
#pragma once

#include "cluster/cluster.h"
#include "cluster/source.h"
#include "cluster/timeseries.h"
#include "cmd/cmd.h"

/** How the machines are asked. */
enum kvcache_cluster_way {
	KVCACHE_CLUSTER_LOCAL, /* there is only this one */
	KVCACHE_CLUSTER_SSH,   /* over ssh, those that are not this one */
	KVCACHE_CLUSTER_RANKS, /* the engine's ranks tell, one of each host */
};

/** One run's machines. Zero-initialise; kvcache_cluster_release() after. One thread, but for the sampler's inside. */
struct kvcache_cluster {
	const struct cmd_invocation *inv;
	enum kvcache_cluster_way way;
	struct strlist
		hosts; /* names as typed without slots, each once; empty: only this machine */
	struct record *record;
	struct cluster start, end;
	struct timeseries *series; /* NULL: not wanted, or its file could not be made */
	struct sampler *sampler;   /* NULL: the ranks sample */
	int series_rc;             /* first failure of the sampler */
	struct strlist told;       /* ranks whose hosts have told once, as texts */
};

/**
 * kvcache_cluster_collect() - the state at the start
 * @entries: hosts as typed, with their slots; not looked at where there is only this machine
 * Before anything is created: it may take its time, and be interrupted.
 */
void kvcache_cluster_collect(struct kvcache_cluster *k, const struct cmd_invocation *inv,
			     enum kvcache_cluster_way way, const struct strlist *entries);
/** kvcache_cluster_record() - system_info into the metadata of @r, which must outlive @k. */
void kvcache_cluster_record(struct kvcache_cluster *k, struct record *r);
/** kvcache_cluster_argv() - the words that make our engine's ranks sample their hosts. Return: 0 or -ENOMEM. */
int kvcache_cluster_argv(const struct cmd_invocation *inv, struct strlist *argv);
/** kvcache_cluster_start() - begin the time series; the run directory must be there. */
void kvcache_cluster_start(struct kvcache_cluster *k);
/** kvcache_cluster_host() - a rank told what its host is: the first time at the start, the last time at the end. */
void kvcache_cluster_host(struct kvcache_cluster *k, uint32_t rank, const char *text, size_t len);
/** kvcache_cluster_samples() - a rank sent lines of samples. */
void kvcache_cluster_samples(struct kvcache_cluster *k, uint32_t rank, const char *lines,
			     size_t len);
/**
 * kvcache_cluster_end() - the state at the end, cluster_snapshots, and all files
 * @is_interrupted: the user waits for the end: other machines are not asked again
 */
void kvcache_cluster_end(struct kvcache_cluster *k, bool is_interrupted);
void kvcache_cluster_release(struct kvcache_cluster *k);

/* cluster_ssh.c */

/** What a host answered; @why: NULL, or why there is no answer (then @facts is NULL). @facts is borrowed. */
typedef void cmd_ssh_take_fn(void *arg, size_t index, const char *host, const json_t *facts,
			     const char *why);

/**
 * cmd_ssh_collect() - ask each host for a set of sources: this machine directly, the others over ssh, ten at a time
 * @take is called for each host, in their order, when all have answered or their time is over. Return: 0 or -ENOMEM.
 */
int cmd_ssh_collect(const struct strlist *hosts, enum source_set set, const char *user,
		    int64_t timeout_s, cmd_ssh_take_fn *take, void *arg);

struct launch_capture;

/** cmd_ssh_why() - why ssh gave no answer: the last line that it said, else how it ended. */
void cmd_ssh_why(const struct launch_capture *job, struct str *ret);
