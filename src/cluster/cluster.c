// SPDX-License-Identifier: Apache-2.0
/* Host entries out of sources, and the cluster out of host entries. */
#include "cluster/cluster.h"

#include <errno.h>
#include <stdint.h>
#include <string.h>

#include "base/attr.h"
#include "base/mem.h"
#include "cluster/source.h"

#define NUMBER_MAX ((json_int_t)1 << 50)

/* A key of what is made, and the one it is taken from. */
struct rename {
	const char *to;
	const char *from;
};

static const char *text_of(const json_t *object, const char *key)
{
	const char *text = json_string_value(json_object_get(object, key));
	return text ? text : "";
}

/* Copy values under other names; absent ones stay absent. */
static void copy_keys(json_t *to, const json_t *from, const struct rename *names, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		json_t *value = json_object_get(from, names[i].from);
		if (value)
			json_object_set(to, names[i].to, value);
	}
}

/* --- one host */

static json_t *memory_of(const json_t *meminfo)
{
	static const struct rename names[] = {
		{"total", "MemTotal"}, {"available", "MemAvailable"}, {"free", "MemFree"},
		{"active", "Active"},  {"inactive", "Inactive"},      {"buffers", "Buffers"},
		{"cached", "Cached"},  {"shared", "Shmem"},
	};
	json_t *memory = json_object();
	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		json_int_t kib = json_integer_value(json_object_get(meminfo, names[i].from));
		if (kib < 0 || kib > INT64_MAX / 1024)
			kib = 0;
		json_object_set_new(memory, names[i].to, json_integer(kib * 1024));
	}
	json_int_t used = json_integer_value(json_object_get(memory, "total"));
	static const char *const unused[] = {"free", "buffers", "cached"};
	for (size_t i = 0; i < ARRAY_LEN(unused); i++)
		used -= MIN(used, json_integer_value(json_object_get(memory, unused[i])));
	json_object_set_new(memory, "used", json_integer(used));
	return memory;
}

static bool has_word(const char *text, const char *word)
{
	size_t len = strlen(word);
	for (const char *s = strstr(text, word); s; s = strstr(s + 1, word))
		if ((s == text || s[-1] == ' ') && (s[len] == ' ' || !s[len]))
			return true;
	return false;
}

/* The kernel's text does not name the architecture; what it does say gives it away. First match wins. */
static const char *architecture_of(const json_t *block)
{
	static const struct {
		const char *key, *word, *architecture;
	} signs[] = {
		{"flags", "lm", "x86_64"},
		{"flags", "tm", "i686"},
		{"CPU architecture", "8", "aarch64"},
		{"CPU architecture", "7", "armv7l"},
		{"model name", "x86_64", "x86_64"},
		{"model name", "aarch64", "aarch64"},
		{"model name", "AArch64", "aarch64"},
	};
	for (size_t i = 0; i < ARRAY_LEN(signs); i++)
		if (has_word(text_of(block, signs[i].key), signs[i].word))
			return signs[i].architecture;
	return "";
}

/* A core is a distinct pair of physical id and core id; where the kernel names none, each processor is one. */
static size_t count_cores(const json_t *blocks)
{
	json_t *seen = json_object();
	size_t i;
	json_t *block;
	json_array_foreach (blocks, i, block) {
		const char *package = text_of(block, "physical id");
		const char *core = text_of(block, "core id");
		CLEANUP_STR struct str pair = {0};
		str_addf(&pair, "%s:%s", package, core);
		if (*package && *core)
			json_object_set_new(seen, str_text(&pair), json_true());
	}
	size_t count = json_object_size(seen);
	json_decref(seen);
	return count ? count : json_array_size(blocks);
}

static json_t *cpu_of(const json_t *blocks)
{
	const json_t *first = json_array_get(blocks, 0);
	const char *model = "";
	size_t i;
	json_t *block;
	json_array_foreach (blocks, i, block)
		if (!*model)
			model = text_of(block, "model name");
	return json_pack("{sI, sI, ss, ss}", "num_cores", (json_int_t)count_cores(blocks),
			 "num_logical_cores", (json_int_t)json_array_size(blocks), "model", model,
			 "architecture", architecture_of(first));
}

/* The third word of "Linux version 6.1.0-18-amd64 (...) ...". */
static json_t *kernel_of(const json_t *facts)
{
	const char *s = text_of(facts, "version");
	for (int i = 0; i < 2; i++) {
		s += strcspn(s, " \t");
		s += strspn(s, " \t");
	}
	return source_string(s, strcspn(s, " \t\n"));
}

static json_t *system_of(const json_t *facts)
{
	static const struct rename own[] = {{"hostname", "hostname"},
					    {"os_release", "os_release"},
					    {"uptime_seconds", "uptime_seconds"}};
	static const struct rename load[] = {
		{"load_average_1min", "load_1min"},     {"load_average_5min", "load_5min"},
		{"load_average_15min", "load_15min"},   {"running_processes", "running_processes"},
		{"total_processes", "total_processes"},
	};
	json_t *system = json_object();
	copy_keys(system, facts, own, ARRAY_LEN(own));
	json_object_set_new(system, "kernel_version", kernel_of(facts));
	copy_keys(system, json_object_get(facts, "loadavg"), load, ARRAY_LEN(load));
	return system;
}

json_t *cluster_host_entry(const json_t *facts)
{
	static const struct rename whole[] = {
		{"hostname", "hostname"}, {"collection_timestamp", "collection_timestamp"},
		{"disks", "diskstats"},   {"network", "netdev"},
		{"vmstat", "vmstat"},     {"mounts", "mounts"},
		{"cgroups", "cgroups"},   {"errors", "errors"},
	};
	json_t *entry = json_object();
	copy_keys(entry, facts, whole, ARRAY_LEN(whole));
	if (json_object_get(facts, "meminfo"))
		json_object_set_new(entry, "memory", memory_of(json_object_get(facts, "meminfo")));
	if (json_object_get(facts, "cpuinfo"))
		json_object_set_new(entry, "cpu", cpu_of(json_object_get(facts, "cpuinfo")));
	json_object_set_new(entry, "system", system_of(facts));
	return entry;
}

static json_t *local_entry(const char *root)
{
	json_t *facts = source_collect_local(SOURCE_SET_FACTS, root);
	json_t *entry = cluster_host_entry(facts);
	json_decref(facts);
	return entry;
}

static int dump(json_t *value, char **ret)
{
	char *text = json_dumps(value, JSON_COMPACT);
	json_decref(value);
	if (!text)
		return -ENOMEM;
	*ret = text;
	return 0;
}

int cluster_host_json(const char *root, char **ret)
{
	return dump(local_entry(root), ret);
}

int cluster_sample_json(const char *root, char **ret)
{
	return dump(source_collect_local(SOURCE_SET_SAMPLE, root), ret);
}

/* --- several */

void cluster_add_host(struct cluster *c, json_t *entry)
{
	if (!c->hosts)
		c->hosts = json_array();
	if (entry)
		json_array_append_new(c->hosts, entry);
}

int cluster_add_text(struct cluster *c, const char *text, size_t len)
{
	json_t *entry = json_loadb(text, len, 0, NULL);
	if (!*text_of(entry, "hostname")) {
		json_decref(entry);
		return -EINVAL;
	}
	cluster_add_host(c, entry);
	return 0;
}

void cluster_add_failure(struct cluster *c, const char *hostname, const char *why)
{
	if (!c->failed)
		c->failed = json_array();
	json_array_append_new(c->failed, json_pack("{so, so}", "hostname",
						   source_string(hostname, strlen(hostname)),
						   "error", source_string(why, strlen(why))));
}

void cluster_add_local(struct cluster *c, const char *root)
{
	cluster_add_host(c, local_entry(root));
}

size_t cluster_host_count(const struct cluster *c)
{
	return json_array_size(c->hosts);
}

void cluster_release(struct cluster *c)
{
	strlist_release(&c->requested);
	json_decref(c->hosts);
	json_decref(c->failed);
	free(c->problem);
	*c = (struct cluster){0};
}

/* Entries come from other machines: a number is bounded, so that sums of many do not overflow. */
static json_int_t number_at(const json_t *host, const char *part, const char *key)
{
	json_int_t value = json_integer_value(json_object_get(json_object_get(host, part), key));
	return MAX(0, MIN(value, NUMBER_MAX));
}

/* Sums over the hosts that told. */
static void add_totals(json_t *all, const json_t *hosts)
{
	json_int_t memory = 0, cores = 0, least = 0, most = 0;
	bool is_first = true;
	size_t i;
	json_t *host;
	json_array_foreach (hosts, i, host) {
		cores += number_at(host, "cpu", "num_cores");
		if (!json_object_get(host, "memory"))
			continue;
		json_int_t bytes = number_at(host, "memory", "total");
		memory += bytes;
		least = is_first ? bytes : MIN(least, bytes);
		most = MAX(most, bytes);
		is_first = false;
	}
	json_object_set_new(all, "total_memory_bytes", json_integer(memory));
	json_object_set_new(all, "total_cores", json_integer(cores));
	json_object_set_new(all, "num_hosts", json_integer((json_int_t)json_array_size(hosts)));
	json_object_set_new(all, "min_memory_bytes", json_integer(least));
	json_object_set_new(all, "max_memory_bytes", json_integer(most));
}

static json_t *brief_hosts(const json_t *hosts)
{
	static const char *const left_out[] = {"vmstat", "mounts", "cgroups"};
	json_t *list = json_array();
	size_t i;
	json_t *host;
	json_array_foreach (hosts, i, host) {
		json_t *brief = json_copy(host);
		for (size_t k = 0; k < ARRAY_LEN(left_out); k++)
			json_object_del(brief, left_out[k]);
		json_array_append_new(list, brief);
	}
	return list;
}

static void add_requested(json_t *all, const struct strlist *names)
{
	json_t *list = json_array();
	for (size_t i = 0; i < names->count; i++)
		json_array_append_new(list, source_string(names->v[i], strlen(names->v[i])));
	json_object_set_new(all, "requested_hosts", list);
}

json_t *cluster_dictionary(const struct cluster *c, bool is_brief)
{
	if (!cluster_host_count(c))
		return NULL;
	json_t *all = json_object();
	add_totals(all, c->hosts);
	json_object_set_new(all, "collection_method", json_string(c->method));
	json_object_set_new(
		all, "collection_timestamp",
		json_string(text_of(json_array_get(c->hosts, 0), "collection_timestamp")));
	if (is_brief)
		json_object_set_new(all, "hosts", brief_hosts(c->hosts));
	else
		json_object_set(all, "hosts", c->hosts);
	json_t *issues = cluster_consistency(c->hosts);
	if (json_array_size(issues))
		json_object_set(all, "host_consistency_issues", issues);
	json_decref(issues);
	if (c->requested.count)
		add_requested(all, &c->requested);
	if (c->failed)
		json_object_set(all, "failed_hosts", c->failed);
	if (c->problem)
		json_object_set_new(all, "mpi_error",
				    source_string(c->problem, strlen(c->problem)));
	return all;
}

/* --- consistency */

static void check_memory(json_t *issues, const json_t *hosts)
{
	const json_t *least = NULL, *most = NULL;
	size_t i;
	json_t *host;
	json_array_foreach (hosts, i, host) {
		json_int_t bytes = number_at(host, "memory", "total");
		if (!bytes)
			continue;
		if (!least || bytes < number_at(least, "memory", "total"))
			least = host;
		if (!most || bytes > number_at(most, "memory", "total"))
			most = host;
	}
	if (!least)
		return;
	double min = (double)number_at(least, "memory", "total");
	double max = (double)number_at(most, "memory", "total");
	if (max - min <= 0.1 * min)
		return;
	char low[32], high[32];
	json_array_append_new(issues,
			      json_sprintf("memory differs by %.0f %%: %s has %s, %s has %s",
					   100 * (max - min) / min, text_of(least, "hostname"),
					   fmt_bytes(low, sizeof(low), (uint64_t)min),
					   text_of(most, "hostname"),
					   fmt_bytes(high, sizeof(high), (uint64_t)max)));
}

/* What should be the same everywhere. */
static const struct property {
	const char *label;
	const char *part, *key; /* where it stands in a host entry */
	const char *inner;      /* in the object there, NULL: it is no object */
} properties[] = {
	{"number of cores", "cpu", "num_cores", NULL},
	{"operating system version", "system", "os_release", "VERSION_ID"},
	{"kernel", "system", "kernel_version", NULL},
};

/* As text; "" where the host did not tell. */
static void property_text(const json_t *host, const struct property *p, struct str *ret)
{
	const json_t *value = json_object_get(json_object_get(host, p->part), p->key);
	if (p->inner)
		value = json_object_get(value, p->inner);
	if (json_is_string(value))
		str_add(ret, json_string_value(value));
	else if (json_is_integer(value))
		str_addf(ret, "%" JSON_INTEGER_FORMAT, json_integer_value(value));
}

/* One line with each value and the first host that has it: with a thousand hosts, the groups are what matters. */
static void check_property(json_t *issues, const json_t *hosts, const struct property *p)
{
	json_t *groups = json_object(); /* value -> [hostname of the first, count] */
	size_t i;
	json_t *host;
	json_array_foreach (hosts, i, host) {
		CLEANUP_STR struct str value = {0};
		property_text(host, p, &value);
		if (!value.len)
			continue;
		json_t *group = json_object_get(groups, str_text(&value));
		json_int_t count = json_integer_value(json_array_get(group, 1));
		if (group)
			json_array_set_new(group, 1, json_integer(count + 1));
		else
			json_object_set_new(groups, str_text(&value),
					    json_pack("[s, i]", text_of(host, "hostname"), 1));
	}
	if (json_object_size(groups) > 1) {
		CLEANUP_STR struct str line = {0};
		str_addf(&line, "%s differs:", p->label);
		const char *value, *separator = " ";
		json_t *group;
		json_object_foreach (groups, value, group) {
			json_int_t others = json_integer_value(json_array_get(group, 1)) - 1;
			str_addf(&line, "%s%s on %s", separator, value,
				 json_string_value(json_array_get(group, 0)));
			if (others)
				str_addf(&line, " and %" JSON_INTEGER_FORMAT " more", others);
			separator = ", ";
		}
		json_array_append_new(issues, json_string(str_text(&line)));
	}
	json_decref(groups);
}

json_t *cluster_consistency(const json_t *hosts)
{
	json_t *issues = json_array();
	if (json_array_size(hosts) < 2)
		return issues;
	check_memory(issues, hosts);
	for (size_t i = 0; i < ARRAY_LEN(properties); i++)
		check_property(issues, hosts, &properties[i]);
	return issues;
}
