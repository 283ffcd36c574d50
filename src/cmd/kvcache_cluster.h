/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cmd/kvcache_cluster.h - what the machines of a run are, at its start and at its end.
 *
 * Receives: how the machines can be asked.  Gives: system_info and cluster_snapshots in the metadata,
 * kv_cache_cluster_info.json in the run directory, warnings where hosts differ.
 * Must not know: what the run measures.
 *
 * Nothing here fails a run: what could not be found out is a warning, and stands in what is written.
 */
#pragma once

#include "cluster/cluster.h"
#include "cmd/cmd.h"

/** One run's machines. Zero-initialise; kvcache_cluster_release() after. Not thread-safe. */
struct kvcache_cluster {
	const struct cmd_invocation *inv;
	struct record *record;
	struct cluster start, end;
};

/** kvcache_cluster_collect() - the state at the start. Before anything is created: it may be interrupted. */
void kvcache_cluster_collect(struct kvcache_cluster *k, const struct cmd_invocation *inv);
/** kvcache_cluster_record() - system_info into the metadata of @r, which must outlive @k. */
void kvcache_cluster_record(struct kvcache_cluster *k, struct record *r);
/** kvcache_cluster_end() - the state at the end, cluster_snapshots, and the file with everything. */
void kvcache_cluster_end(struct kvcache_cluster *k);
void kvcache_cluster_release(struct kvcache_cluster *k);
