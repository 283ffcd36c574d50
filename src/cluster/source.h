/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cluster/source.h - the text files in which a machine describes itself, parsed into JSON.
 *
 * Receives: text, or a directory that looks like a machine's root.  Gives: one JSON object a machine.
 * Must not know: how many machines there are, how the text of another one came here.
 *
 * The sources and what is made of them (a line that does not fit is skipped):
 *
 *   hostname       /proc/sys/kernel/hostname   text
 *   meminfo        /proc/meminfo     {name: kB}
 *   cpuinfo        /proc/cpuinfo     [{key: value}], one a logical processor
 *   diskstats      /proc/diskstats   [{device_name, reads_completed, ...}]
 *   netdev         /proc/net/dev     [{interface_name, rx_bytes, ...}]
 *   version        /proc/version     text
 *   loadavg        /proc/loadavg     {load_1min, load_5min, load_15min, running_processes, total_processes}
 *   uptime_seconds /proc/uptime      number
 *   os_release     /etc/os-release   {KEY: value}
 *   vmstat         /proc/vmstat      {name: count}
 *   mounts         /proc/mounts      [{device, mount_point, fs_type, options, dump_freq, pass_num}]
 *   cgroups        /proc/cgroups     [{subsys_name, hierarchy, num_cgroups, enabled}]
 *
 * Texts come from other machines too, and are not trusted: any bytes give JSON or an error entry.
 * Threads: any.
 */
#pragma once

#include <jansson.h>
#include <stddef.h>

#include "base/str.h"

/** Which sources are meant. */
enum source_set {
	SOURCE_SET_FACTS, /* all of them: what the machine is */
	SOURCE_SET_SAMPLE, /* those of a time series: hostname, meminfo, diskstats, netdev, loadavg, vmstat */
};

enum { SOURCE_TEXT_MAX = 16 << 20 }; /* a larger text is refused */

/** A row of the table of sources. */
struct source {
	const char *key;
	const char *path;
};

/** source_next() - the sources of a set in order; @prev: NULL for the first. Return: NULL after the last. */
const struct source *source_next(enum source_set set, const struct source *prev);

/** source_parse() - parse one source's text. Return: new reference; NULL when it has not the form of its kind. */
json_t *source_parse(const char *key, const char *text, size_t len);

/** Where the texts come from. Fill @ret. Return: 0, or -errno to be recorded for this source. */
typedef int source_read_fn(void *ctx, const struct source *source, struct str *ret);

/**
 * source_collect() - read and parse every source of @set
 * @fallback_name: hostname where the machine does not tell it
 * What cannot be read or parsed is missing and stands in "errors" {key: text}, which is absent when all went well. The time
 * stands in "collection_timestamp" (facts) or "timestamp" (sample), UTC.
 * Return: new reference; NULL when out of memory.
 */
json_t *source_collect(enum source_set set, source_read_fn *read, void *ctx,
		       const char *fallback_name);

/** source_collect_local() - the same for the machine below @root ("": this one). */
json_t *source_collect_local(enum source_set set, const char *root);

/** source_string() - JSON string of any bytes: NULs, and where the text is no UTF-8 all bytes beyond ASCII, become '?'. */
json_t *source_string(const char *s, size_t len);
