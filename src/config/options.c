// SPDX-License-Identifier: Apache-2.0
/* The options of kv-cache: one row per field of struct config_options, the only place that names
 * them. */
#include <math.h>

#include "config/config.h"

/* Each list in the order of the enum it fills (config.h). */
static const char *const generation_modes[] = {"none", "fast", "realistic", NULL};
static const char *const profiles[] = {"latency", "throughput", NULL};
static const char *const backends[] = {"file", "null", "model", NULL};
static const char *const io_engines[] = {"auto", "uring", "threads", NULL};
static const char *const io_modes[] = {"auto", "direct", "buffered", NULL};
static const char *const syncs[] = {"fsync", "fdatasync", "none", NULL};
static const char *const verifies[] = {"off", "stamp", "full", NULL};
static const char *const trace_formats[] = {"auto", "mooncake", NULL};
static const char *const progress_kinds[] = {"auto", "terminal", "plain", "off", NULL};
static const char *const log_levels[] = {"DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL", NULL};

#define FIELD(name)   .offset = offsetof(struct config_options, name)
#define RANGE(lo, hi) .min = (lo), .max = (hi)

/* clang-format off */
static const struct opt table[] = {
	{"--model", "-m", OPT_TEXT, FIELD(model), .def = "llama3.1-8b", .meta = "NAME", .heading = "Workload",
	 .help = "language model whose KV cache is simulated; also one that the --config file defines"},
	{"--num-users", "-nu", OPT_INT, FIELD(num_users), RANGE(1, 100000), .def = "100", .meta = "N",
	 .help = "simulated users"},
	{"--duration", "-d", OPT_INT, FIELD(duration_s), RANGE(1, 86400), .def = "60", .meta = "SECONDS",
	 .help = "length of the measured window"},
	{"--warmup", NULL, OPT_INT, FIELD(warmup_s), RANGE(0, 86400), .def = "0", .meta = "SECONDS",
	 .help = "run this long before the measured window opens"},
	{"--max-requests", NULL, OPT_INT, FIELD(max_requests), RANGE(0, INFINITY), .def = "0", .meta = "N",
	 .help = "end the window after this many completed requests; 0: no limit"},
	{"--generation-mode", NULL, OPT_CHOICE, FIELD(generation_mode), .def = "realistic",
	 .choices = generation_modes, .meta = "MODE",
	 .help = "time to generate one token: 0, 2 or 30 ms"},
	{"--performance-profile", NULL, OPT_CHOICE, FIELD(performance_profile), .def = "latency",
	 .choices = profiles, .meta = "PROFILE", .help = "criteria of the result's own assessment"},
	{"--disable-multi-turn", NULL, OPT_FLAG, FIELD(disable_multi_turn),
	 .help = "every request stands alone: no conversations"},
	{"--disable-prefix-caching", NULL, OPT_FLAG, FIELD(disable_prefix_caching),
	 .help = "no lookups of shared system prompts"},
	{"--seed", NULL, OPT_INT, FIELD(seed), RANGE(0, INFINITY), .meta = "N", .flags = OPT_F_UNSET_NULL,
	 .help = "make the workload repeatable; without it one is drawn and recorded"},
	{"--config", NULL, OPT_TEXT, FIELD(config_file), .meta = "FILE", .flags = OPT_F_FILE,
	 .help = "workload description in YAML, laid over the shipped one; also the name of a shipped file, "
		 "as in workload-v1.yaml"},
	{"--trace", NULL, OPT_TEXT, FIELD(trace), .meta = "FILE", .flags = OPT_F_FILE,
	 .help = "replay this request trace instead of simulated users"},
	{"--trace-format", NULL, OPT_CHOICE, FIELD(trace_format), .def = "auto", .choices = trace_formats,
	 .meta = "FORMAT", .help = "format of the trace"},
	{"--trace-speedup", NULL, OPT_REAL, FIELD(trace_speedup), RANGE(0, 1e6), .def = "1.0",
	 .meta = "FACTOR", .help = "replay the trace this much faster; 0: as fast as requests are served"},
	{"--prefill-only", NULL, OPT_FLAG, FIELD(prefill_only),
	 .help = "requests only write their entry: no lookups, no decode reads"},
	{"--decode-only", NULL, OPT_FLAG, FIELD(decode_only),
	 .help = "requests only read: entries for them are written before the run"},
	{"--precondition", NULL, OPT_FLAG, FIELD(precondition),
	 .help = "fill the storage tier with entries before the run"},
	{"--precondition-size-gb", NULL, OPT_REAL, FIELD(precondition_size_gib), RANGE(0, 1073741824),
	 .def = "0", .meta = "GIB", .help = "what --precondition writes; 0: twice the storage tier's limit"},
	{"--precondition-threads", NULL, OPT_INT, FIELD(precondition_threads), RANGE(0, 4096), .def = "0",
	 .meta = "N", .help = "entries that --precondition writes at once; 0: one per core"},
	{"--gpu-mem-gb", NULL, OPT_REAL, FIELD(gpu_mem_gib), RANGE(0, 65536), .def = "16", .meta = "GIB",
	 .heading = "Tiers",
	 .help = "GPU memory tier per GPU; recorded only, there is no GPU tier in this version"},
	{"--num-gpus", NULL, OPT_INT, FIELD(num_gpus), RANGE(1, 65536), .def = "1", .meta = "N",
	 .help = "GPUs of the simulated node"},
	{"--tensor-parallel", NULL, OPT_INT, FIELD(tensor_parallel), RANGE(1, 65536), .def = "1",
	 .meta = "N", .help = "entries are divided by this; at most --num-gpus"},
	{"--cpu-mem-gb", NULL, OPT_REAL, FIELD(cpu_mem_gib), RANGE(0, 131072), .def = "32", .meta = "GIB",
	 .help = "host memory tier"},
	{"--cache-dir", NULL, OPT_TEXT, FIELD(cache_dir), .meta = "DIR", .flags = OPT_F_DIR,
	 .help = "directory of the storage tier; without it a private temporary one"},
	{"--storage-capacity-gb", NULL, OPT_REAL, FIELD(storage_capacity_gib), RANGE(0, 1073741824),
	 .def = "0", .meta = "GIB", .help = "limit of the storage tier; 0: 95 % of the free space, on tmpfs at most half of the available memory, and "
		 "4 TiB where nothing is stored"},
	{"--storage-backend", NULL, OPT_CHOICE, FIELD(storage_backend), .def = "file", .choices = backends,
	 .meta = "KIND", .help = "what the storage tier is: files, nothing, or a simulated device"},
	{"--model-tier", NULL, OPT_LIST, FIELD(model_tier), .meta = "TIER:KEY=VALUE,...",
	 .help = "simulated device: TIER is cpu, storage or gpu, keys are read_gbps, write_gbps (GB/s) and "
		 "latency_us; may be repeated"},
	{"--simulate", NULL, OPT_FLAG, FIELD(simulate),
	 .help = "run on a virtual clock with simulated devices only: fast and repeatable"},
	{"--max-concurrent-allocs", NULL, OPT_INT, FIELD(max_concurrent_allocs), RANGE(0, INFINITY),
	 .def = "0", .meta = "N", .help = "entries being written at once; 0: no limit"},
	{"--io-engine", NULL, OPT_CHOICE, FIELD(io_engine), .def = "auto", .choices = io_engines,
	 .meta = "ENGINE", .heading = "I/O", .help = "how I/O is submitted"},
	{"--io-mode", NULL, OPT_CHOICE, FIELD(io_mode), .def = "auto", .choices = io_modes,
	 .meta = "MODE", .help = "direct passes the page cache by and never falls back"},
	{"--io-size", NULL, OPT_SIZE, FIELD(io_size_bytes), RANGE(4096, 67108864), .def = "1MiB",
	 .meta = "BYTES", .help = "size of one I/O, a power of two"},
	{"--io-depth", NULL, OPT_INT, FIELD(io_depth), RANGE(1, 4096), .def = "32", .meta = "N",
	 .help = "I/Os in flight, divided among the workers"},
	{"--ops-in-flight", NULL, OPT_INT, FIELD(ops_in_flight), RANGE(0, 4096), .def = "0", .meta = "N",
	 .help = "entries being transferred at once; 0: as many as --io-depth"},
	{"--request-parallel", NULL, OPT_INT, FIELD(request_parallel), RANGE(1, 1024), .def = "8",
	 .meta = "N", .help = "entries of one request being transferred at once"},
	{"--sync", NULL, OPT_CHOICE, FIELD(sync), .def = "fsync", .choices = syncs, .meta = "HOW",
	 .help = "what makes a written entry durable"},
	{"--verify", NULL, OPT_CHOICE, FIELD(verify), .def = "stamp", .choices = verifies, .meta = "WHAT",
	 .help = "check of the data read: the stamp of each block, or every byte"},
	{"--workers", NULL, OPT_INT, FIELD(workers), RANGE(0, 256), .def = "0", .meta = "N",
	 .heading = "Run",
	 .help = "threads that drive requests; 0: one per core, at most 8"},
	{"--drain-timeout", NULL, OPT_INT, FIELD(drain_timeout_s), RANGE(1, 3600), .def = "30",
	 .meta = "SECONDS", .help = "give I/O up, as an error, that is still in flight this long after the window"},
	{"--fault-plan", NULL, OPT_TEXT, FIELD(fault_plan), .meta = "FILE",
	 .flags = CONFIG_HAS_FAULTS ? 0 : OPT_F_HIDDEN,
	 .help = "make operations of the tiers fail as this YAML file says, to see what a run makes of it"},
	{"--cleanup", NULL, OPT_FLAG, FIELD(cleanup), .help = "remove the cache files at the end"},
	{"--output", NULL, OPT_TEXT, FIELD(output), .meta = "FILE", .flags = OPT_F_FILE,
	 .help = "result file; without it benchmark_results_YYYYmmdd_HHMMSS.json"},
	{"--interval", NULL, OPT_REAL, FIELD(interval_s), RANGE(0, 86400), .def = "0", .meta = "SECONDS",
	 .help = "write rates and latencies of every interval of this length, at least 0.01; 0: none"},
	{"--interval-file", NULL, OPT_TEXT, FIELD(interval_file), .meta = "FILE", .flags = OPT_F_FILE,
	 .help = "where --interval writes, one JSON object a line; without it the result file's name with "
		 "_interval.ndjson in place of .json"},
	{"--raw-samples", NULL, OPT_FLAG, FIELD(raw_samples),
	 .help = "write every single latency into the result file"},
	{"--frames", NULL, OPT_FLAG, FIELD(frames),
	 .help = "frames of results on standard output, for a controller, in place of files"},
	{"--host-series-interval", NULL, OPT_REAL, FIELD(host_series_interval_s), RANGE(0, 86400), .def = "0",
	 .meta = "SECONDS", .help = "with --frames: sample the counters of each host this often; 0: never"},
	{"--require-space", NULL, OPT_FLAG, FIELD(require_space),
	 .help = "refuse a run whose working set does not fit into the storage tier's file system, unless "
		 "--storage-capacity-gb limits it"},
	{"--rank-timeout", NULL, OPT_INT, FIELD(rank_timeout_s), RANGE(1, 86400), .def = "60", .meta = "SECONDS",
	 .help = "of several ranks: how much later than expected one may come before it is taken for dead"},
	{"--quiet", NULL, OPT_FLAG, FIELD(quiet), .help = "no progress and no summary on the terminal"},
	{"--progress", NULL, OPT_CHOICE, FIELD(progress), .def = "auto", .choices = progress_kinds, .meta = "HOW",
	 .help = "a live line, or a plain one every 10 s; auto: as standard error is a terminal or not"},
	{"--log-level", NULL, OPT_CHOICE, FIELD(log_level), .def = "INFO", .choices = log_levels,
	 .meta = "LEVEL", .help = "least severe messages to show"},
};
/* clang-format on */

const struct opt *config_option_table(size_t *ret_count)
{
	*ret_count = ARRAY_LEN(table);
	return table;
}
