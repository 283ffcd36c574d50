// SPDX-License-Identifier: Apache-2.0
/* Asking the machines of a run what they are and what they do, and writing down what they say. */
#include "cmd/kvcache_cluster.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "base/log.h"
#include "cluster/remote.h"

enum { SAMPLE_SSH_TIMEOUT_S = 30 };

static const char *const method_names[] = {[KVCACHE_CLUSTER_LOCAL] = "local",
					   [KVCACHE_CLUSTER_SSH] = "ssh",
					   [KVCACHE_CLUSTER_RANKS] = "mpi"};

/* --- state at one time */

static void take_facts(void *arg, size_t index, const char *host, const json_t *facts,
		       const char *why)
{
	struct cluster *c = arg;
	(void)index;
	if (facts) {
		cluster_add_host(c, cluster_host_entry(facts));
		return;
	}
	log_warning("[E%d] cluster information: %s: %s", ERR_MPI_CLUSTER, host, why);
	cluster_add_failure(c, host, why);
}

static void collect_ssh(const struct kvcache_cluster *k, struct cluster *c)
{
	const struct cmd_cluster *o = &k->inv->cluster;
	if (cmd_ssh_collect(&k->hosts, SOURCE_SET_FACTS, o->ssh_username, o->timeout_s, take_facts,
			    c) ||
	    strlist_copy(&c->requested, &k->hosts))
		log_warning("cluster information: out of memory");
}

/* What the ranks tell comes by itself. */
static void collect(const struct kvcache_cluster *k, struct cluster *c)
{
	c->method = method_names[k->way];
	if (k->way == KVCACHE_CLUSTER_LOCAL)
		cluster_add_local(c, "");
	else if (k->way == KVCACHE_CLUSTER_SSH)
		collect_ssh(k, c);
}

/* Where nobody told anything, this machine is better than nothing. */
static void fall_back(struct cluster *c, const char *why)
{
	if (cluster_host_count(c))
		return;
	log_warning("[E%d] cluster information is of this machine only: %s", ERR_MPI_CLUSTER, why);
	c->method = "local_fallback";
	c->problem = strdup(why);
	cluster_add_local(c, "");
}

void kvcache_cluster_collect(struct kvcache_cluster *k, const struct cmd_invocation *inv,
			     enum kvcache_cluster_way way, const struct strlist *entries)
{
	k->inv = inv;
	k->way = inv->universal.what_if ? KVCACHE_CLUSTER_LOCAL : way;
	if (k->way != KVCACHE_CLUSTER_LOCAL && remote_unique(entries, &k->hosts))
		log_warning("cluster information: out of memory");
	if (inv->cluster.skip)
		return;
	collect(k, &k->start);
	if (k->way == KVCACHE_CLUSTER_SSH)
		fall_back(&k->start, "no host could be asked");
}

static void set_system_info(const struct kvcache_cluster *k)
{
	json_t *info = cluster_dictionary(&k->start, true);
	size_t i;
	json_t *issue;
	json_array_foreach (json_object_get(info, "host_consistency_issues"), i, issue)
		log_warning("hosts are not alike: %s", json_string_value(issue));
	if (info)
		record_set(k->record, "system_info", info);
}

void kvcache_cluster_record(struct kvcache_cluster *k, struct record *r)
{
	k->record = r;
	if (k->way != KVCACHE_CLUSTER_RANKS)
		set_system_info(k);
}

void kvcache_cluster_host(struct kvcache_cluster *k, uint32_t rank, const char *text, size_t len)
{
	char name[16];
	if (k->way != KVCACHE_CLUSTER_RANKS || k->inv->cluster.skip)
		return;
	snprintf(name, sizeof(name), "%" PRIu32, rank);
	bool is_first = !strlist_has(&k->told, name);
	if (is_first && strlist_add(&k->told, name))
		return;
	if (cluster_add_text(is_first ? &k->start : &k->end, text, len))
		log_warning("[E%d] cluster information: what rank %" PRIu32
			    " told of its host cannot be read",
			    ERR_MPI_CLUSTER, rank);
}

/* --- time series */

static void keep_sample(struct kvcache_cluster *k, uint32_t source, const char *line, size_t len)
{
	int rc = timeseries_add(k->series, source, line, len);
	if (rc && rc != -EOVERFLOW && !k->series_rc)
		k->series_rc = rc;
}

static void sample_local(void *arg)
{
	struct kvcache_cluster *k = arg;
	CLEANUP_FREE char *line = NULL;
	if (!cluster_sample_json("", &line))
		keep_sample(k, 0, line, strlen(line));
}

/* A host that does not answer has no sample: its absence says so. */
static void take_sample(void *arg, size_t index, const char *host, const json_t *facts,
			const char *why)
{
	struct kvcache_cluster *k = arg;
	(void)host;
	(void)why;
	CLEANUP_FREE char *line = facts ? json_dumps(facts, JSON_COMPACT) : NULL;
	if (line)
		keep_sample(k, (uint32_t)index, line, strlen(line));
}

static void sample_ssh(void *arg)
{
	struct kvcache_cluster *k = arg;
	cmd_ssh_collect(&k->hosts, SOURCE_SET_SAMPLE, k->inv->cluster.ssh_username,
			SAMPLE_SSH_TIMEOUT_S, take_sample, k);
}

static int open_series(struct kvcache_cluster *k)
{
	struct error err = {0};
	const struct cmd_cluster *o = &k->inv->cluster;
	CLEANUP_FREE char *path =
		record_path(k->record, "kv_cache_%s_timeseries.json", record_stamp(k->record));
	struct timeseries_spec spec = {
		.path = path, .interval_s = o->interval_s, .max_count = (uint64_t)o->samples_max};
	int rc = path ? timeseries_open(&spec, &k->series, &err) : -ENOMEM;
	if (rc)
		log_warning("no time series: %s", *err.message ? err.message : strerror(-rc));
	return rc;
}

void kvcache_cluster_start(struct kvcache_cluster *k)
{
	static void (*const ticks[])(void *) = {[KVCACHE_CLUSTER_LOCAL] = sample_local,
						[KVCACHE_CLUSTER_SSH] = sample_ssh,
						[KVCACHE_CLUSTER_RANKS] = NULL};
	if (k->inv->cluster.skip_series || open_series(k) || !ticks[k->way])
		return;
	int rc = sampler_new(k->inv->cluster.interval_s, ticks[k->way], k, &k->sampler);
	if (!rc)
		rc = sampler_start(k->sampler);
	if (rc)
		log_warning("no time series: %s", strerror(-rc));
}

int kvcache_cluster_argv(const struct cmd_invocation *inv, struct strlist *argv)
{
	if (inv->cluster.skip_series)
		return 0;
	int rc = strlist_add(argv, "--host-series-interval");
	return rc ? rc : strlist_addf(argv, "%g", inv->cluster.interval_s);
}

void kvcache_cluster_samples(struct kvcache_cluster *k, uint32_t rank, const char *lines,
			     size_t len)
{
	while (k->series && k->way == KVCACHE_CLUSTER_RANKS && len) {
		const char *newline = memchr(lines, '\n', len);
		size_t line = newline ? (size_t)(newline - lines) : len;
		if (line)
			keep_sample(k, rank, lines, line);
		size_t used = line + (newline != NULL);
		lines += used;
		len -= used;
	}
}

static void set_series_data(const struct kvcache_cluster *k)
{
	CLEANUP_STR struct str name = {0};
	str_addf(&name, "kv_cache_%s_timeseries.json", record_stamp(k->record));
	json_t *data = json_pack("{ss, sI, sf, so}", "file", str_text(&name), "num_samples",
				 (json_int_t)timeseries_count(k->series), "interval_seconds",
				 k->inv->cluster.interval_s, "hosts_collected",
				 timeseries_hosts(k->series));
	if (k->sampler)
		json_object_set_new(data, "overhead_percent",
				    json_real(sampler_overhead(k->sampler)));
	record_set(k->record, "timeseries_data", data);
}

static void end_series(struct kvcache_cluster *k)
{
	if (!k->series)
		return;
	if (k->sampler)
		sampler_stop(k->sampler);
	struct timeseries_end end = {
		.method = method_names[k->way],
		.requested = &k->hosts,
		.overhead_percent = k->sampler ? sampler_overhead(k->sampler) : -1,
	};
	int rc = timeseries_finish(k->series, &end);
	if (rc || k->series_rc)
		log_warning("the time series is not complete: %s",
			    strerror(rc ? -rc : -k->series_rc));
	if (timeseries_dropped(k->series))
		log_warning(
			"%" PRIu64
			" samples of the time series were dropped: --max-timeseries-samples %" PRId64,
			timeseries_dropped(k->series), k->inv->cluster.samples_max);
	if (!rc && timeseries_count(k->series))
		set_series_data(k);
}

/* --- the end */

static void write_info(const struct kvcache_cluster *k)
{
	CLEANUP_FREE char *path = record_path(k->record, "kv_cache_cluster_info.json");
	json_t *all = cluster_dictionary(&k->start, false);
	CLEANUP_FREE char *text = json_dumps(all, JSON_INDENT(2));
	json_decref(all);
	int rc = path && text ? file_write_atomic(path, text, strlen(text)) : -ENOMEM;
	if (rc)
		log_warning("cannot write the cluster information: %s", strerror(-rc));
}

static json_t *or_null(json_t *value)
{
	return value ? value : json_null();
}

static void end_state(struct kvcache_cluster *k, bool is_interrupted)
{
	if (k->way == KVCACHE_CLUSTER_RANKS) {
		fall_back(&k->start, "no rank told about its host");
		k->end.method = method_names[k->way];
		if (strlist_copy(&k->start.requested, &k->hosts) ||
		    strlist_copy(&k->end.requested, &k->hosts))
			log_warning("cluster information: out of memory");
		set_system_info(k);
	} else if (k->way == KVCACHE_CLUSTER_LOCAL || !is_interrupted) {
		collect(k, &k->end);
	}
	record_set(k->record, "cluster_snapshots",
		   json_pack("{so, so, ss}", "start", or_null(cluster_dictionary(&k->start, true)),
			     "end", or_null(cluster_dictionary(&k->end, true)), "collection_method",
			     k->start.method));
	write_info(k);
}

void kvcache_cluster_end(struct kvcache_cluster *k, bool is_interrupted)
{
	end_series(k);
	if (!k->inv->cluster.skip)
		end_state(k, is_interrupted);
}

void kvcache_cluster_release(struct kvcache_cluster *k)
{
	sampler_free(k->sampler);
	timeseries_free(k->series);
	strlist_release(&k->told);
	strlist_release(&k->hosts);
	cluster_release(&k->start);
	cluster_release(&k->end);
}
