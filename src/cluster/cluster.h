/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cluster/cluster.h - what the machines of a run are, and where they differ.
 *
 * Receives: what the sources of each machine say.  Gives: one JSON object for the metadata.
 * Must not know: how the machines were reached, what is judged by them.
 *
 * A host entry is what one machine tells about itself; it is made where its sources were read:
 *
 *   {hostname, collection_timestamp, memory{total, available, used, free, active, inactive, buffers, cached, shared},
 *    cpu{num_cores, num_logical_cores, model, architecture}, disks[], network[],
 *    system{hostname, kernel_version, os_release{}, uptime_seconds, load_average_1min, _5min, _15min, running_processes,
 *    total_processes}, vmstat{}, mounts[], cgroups[], errors{}?}
 *
 * Memory is in bytes; used = total - free - buffers - cached. What a machine did not tell is absent. Threads: any.
 */
#pragma once

#include <jansson.h>

#include "base/str.h"

/** cluster_host_entry() - from what source_collect() gave for SOURCE_SET_FACTS. Return: new reference. */
json_t *cluster_host_entry(const json_t *facts);

/**
 * cluster_host_json() - the host entry of the machine below @root ("": this one) as compact text
 * @ret: [out] free()
 * Reads small files: some milliseconds. Return: 0 or -ENOMEM; what cannot be read stands in its "errors".
 */
int cluster_host_json(const char *root, char **ret);

/**
 * cluster_sample_json() - one sample of a time series of the machine below @root, one line without '\n'
 * {timestamp, hostname, diskstats, vmstat, loadavg, meminfo, netdev, errors?}; free() @ret. Return: 0 or -ENOMEM.
 */
int cluster_sample_json(const char *root, char **ret);

/** The machines of a run as they were at one time. Zero-initialise; cluster_release() after. */
struct cluster {
	const char *method;       /* "local", "ssh", "mpi" or "local_fallback" (static) */
	struct strlist requested; /* names that were to be asked; may be empty */
	json_t *hosts;            /* host entries in order; NULL: none yet */
	json_t *failed;           /* [{hostname, error}]; NULL: none */
	char *problem;            /* why the method that was wanted did not work; NULL */
};

/** cluster_add_host() - takes @entry (NULL: nothing). That no machine comes twice is the caller's to see to: names may be alike. */
void cluster_add_host(struct cluster *c, json_t *entry);
/** cluster_add_text() - a host entry as text from another program. Return: 0; -EINVAL when it is none. */
int cluster_add_text(struct cluster *c, const char *text, size_t len);
/** cluster_add_failure() - a machine that told nothing, and why. */
void cluster_add_failure(struct cluster *c, const char *hostname, const char *why);
/** cluster_add_local() - the machine below @root. */
void cluster_add_local(struct cluster *c, const char *root);
size_t cluster_host_count(const struct cluster *c);
void cluster_release(struct cluster *c);

/**
 * cluster_dictionary() - everything about them in one object
 * {total_memory_bytes, total_cores, num_hosts, min_memory_bytes, max_memory_bytes, collection_method, collection_timestamp,
 *  hosts[], host_consistency_issues[]?, requested_hosts[]?, failed_hosts[]?, mpi_error?}
 * The time is the first host's. Sums are over hosts[]; a machine that failed is in failed_hosts only, and in no sum.
 * @is_brief: without vmstat, mounts and cgroups of each host, for the metadata
 * Return: new reference; NULL when there is no host.
 */
json_t *cluster_dictionary(const struct cluster *c, bool is_brief);

/**
 * cluster_consistency() - in what the hosts differ that should be alike: memory by more than 10 %, cores, version of the
 * operating system, kernel
 * Return: new reference to a list of texts; empty with fewer than two hosts. O(hosts).
 */
json_t *cluster_consistency(const json_t *hosts);
