// SPDX-License-Identifier: Apache-2.0
/* What the names of fields do not say, or say wrongly: a sentence each, in the result itself. */
#include "result/internal.h"

/* A path that ends in "*" speaks of every field that begins so. */
/* clang-format off */
static const struct note {
	const char *path;
	const char *note;
} notes[] = {
	{"requests_completed",
	 "Requests that completed inside the window; work cut off by its end counts nowhere."},
	{"requests_failed",
	 "Requests that ended inside the window, but a read or write of theirs did not succeed: they are in "
	 "no latency, rate or count of completed ones."},
	{"total_storage_io_latency",
	 "Sum over completed requests of the times of their entry operations, in all tiers; "
	 "they overlap, so it may exceed the window."},
	{"throughput_timeline", "Always empty in this version."},
	{"seed", "The one in effect; without --seed it was drawn."},
	{"summary.elapsed_time", "Length of the measured window, which divides every rate."},
	{"summary.storage_throughput_tokens_per_sec",
	 "Generated tokens over total_storage_io_time: an efficiency, not a rate; rates are "
	 "in measured."},
	{"summary.end_to_end_latency_ms",
	 "From the intended arrival, so it contains the whole wait in the queue."},
	{"summary.cache_stats.cache_hit_rate",
	 "Over all lookups, those of system prompts that nothing writes included; null "
	 "without a lookup."},
	{"summary.cache_stats.offloads_*",
	 "Entries that landed in the tier, written there or demoted to it."},
	{"summary.cache_stats.storage_health",
	 "The reference's own assessment: no part of MLPerf scoring, and it does not decide "
	 "valid."},
	{"summary.cache_stats.read_iops", "A count of entry reads, not a rate."},
	{"summary.cache_stats.write_iops", "A count of entry writes, not a rate."},
	{"summary.cache_stats.total_read_bytes",
	 "By completed operations of requests, all tiers, without demotions."},
	{"summary.cache_stats.total_write_bytes",
	 "By completed operations of requests, all tiers, without demotions."},
	{"summary.cache_stats.total_read_gb", "GiB, as every name in _gb."},
	{"summary.cache_stats.tier_storage_read_bandwidth_gbps",
	 "GiB/s, as every name in _gbps; bytes of demotions included."},
	{"summary.cache_stats.storage_write_device_*",
	 "From the submission of the entry's first I/O until it is durable as io.sync says."},
	{"summary.cache_stats.storage_read_device_*",
	 "From the submission of the entry's first I/O to the completion of its last."},
	{"summary.cache_stats.storage_read_host_*",
	 "What comes before the first I/O: waiting for a turn and a buffer, opening the "
	 "file."},
	{"summary.cache_stats.storage_write_host_*",
	 "What comes before the first I/O: waiting for a turn and a buffer, making the file, "
	 "filling the buffer."},
	{"summary.qos_metrics",
	 "Latency is from the intended arrival; compliance is the share within the P95 "
	 "target."},
	{"measured.storage.read_fairness",
	 "Bandwidth of the fastest entry operation over the mean of all operations' bandwidths (device time), "
	 "among entries of entry_bytes_from to 4 times that: 1 is even. Null below 100 operations."},
	{"measured.storage.read_bytes",
	 "Bytes of chunks that completed inside the window, in every tier's fields with "
	 "demotions."},
	{"measured.storage.write_bytes",
	 "As read_bytes; on the buffered path bytes count when the sync that covers them "
	 "returned."},
	{"measured.storage.read_ops",
	 "Entry operations of requests that completed inside the window, in every tier's "
	 "fields without demotions."},
	{"measured.kernel_device",
	 "The kernel's counters of the block device below the cache directory over the "
	 "window; they see all processes."},
	{"measured.requests.oldest_age_s",
	 "Wait so far of the oldest request not yet started when the window closed."},
	{"tiers.gpu.effective_bytes",
	 "What is used of asked_gib; the memory of a real GPU is not in this version."},
	{"tiers.storage.asked_gib", "Null: automatic."},
	{"tiers.storage.used_bytes",
	 "With headers and rounding, as limits are applied, in every tier's fields."},
	{"cpu.per_gib", "Seconds of CPU time of the process per GiB moved to or from any tier."},
	{"errors.total", "Of the whole run, also outside the window."},
	{"histograms",
	 "Pairs of bucket and count: buckets 1 wide up to linear, then per_octave in every "
	 "power of two."},
};

/* Of the result of several ranks. */
static const struct note pooled_notes[] = {
	{"window_s", "Of several ranks: the longest rank's window; it divides every rate."},
	{"window_skew_s", "Between the first and the last rank's opening of the window, on rank 0's clock."},
	{"ranks",
	 "One line per rank; everything else is added up over them, histograms bucket by bucket, and \"mixed\" is a "
	 "text that differs."},
};
/* clang-format on */

static const char samples_note[] =
	"This list, storage_latencies, generation_latencies, prefill_latencies and decode_latencies"
	" are written with --raw-samples only.";

static int add_notes(json_t *all, const struct note *v, size_t count)
{
	int rc = all ? 0 : -1;
	for (size_t i = 0; i < count && rc == 0; i++)
		rc = json_object_set_new(all, v[i].path, json_string(v[i].note));
	return rc;
}

json_t *result_part_field_notes(const struct run_result *r, const struct scope *s)
{
	(void)s;
	json_t *all = json_object();
	int rc = add_notes(all, notes, ARRAY_LEN(notes));
	if (rc == 0 && r->pool)
		rc = add_notes(all, pooled_notes, ARRAY_LEN(pooled_notes));
	if (rc == 0 && !r->cfg->opt.raw_samples)
		rc = json_object_set_new(all, "end_to_end_latencies", json_string(samples_note));
	if (rc) {
		json_decref(all);
		return NULL;
	}
	return all;
}
