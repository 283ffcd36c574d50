// SPDX-License-Identifier: Apache-2.0
/* Asking the machines of a run what they are, and writing down what they say. */
#include "cmd/kvcache_cluster.h"

#include <string.h>

#include "base/file.h"
#include "base/log.h"

static void warn_of_issues(const json_t *dictionary)
{
	size_t i;
	json_t *issue;
	json_array_foreach(json_object_get(dictionary, "host_consistency_issues"), i, issue)
		log_warning("hosts are not alike: %s", json_string_value(issue));
}

static void collect_local(struct cluster *c)
{
	c->method = "local";
	cluster_add_local(c, "");
}

void kvcache_cluster_collect(struct kvcache_cluster *k, const struct cmd_invocation *inv)
{
	k->inv = inv;
	if (!inv->cluster.skip)
		collect_local(&k->start);
}

void kvcache_cluster_record(struct kvcache_cluster *k, struct record *r)
{
	k->record = r;
	json_t *info = cluster_dictionary(&k->start, true);
	warn_of_issues(info);
	if (info)
		record_set(r, "system_info", info);
}

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

void kvcache_cluster_end(struct kvcache_cluster *k)
{
	if (!cluster_host_count(&k->start))
		return;
	collect_local(&k->end);
	record_set(k->record, "cluster_snapshots",
		   json_pack("{so, so, ss}", "start", cluster_dictionary(&k->start, true), "end",
			     cluster_dictionary(&k->end, true), "collection_method",
			     k->start.method));
	write_info(k);
}

void kvcache_cluster_release(struct kvcache_cluster *k)
{
	cluster_release(&k->start);
	cluster_release(&k->end);
}
