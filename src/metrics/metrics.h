/* SPDX-License-Identifier: Apache-2.0 */
/*
 * metrics/metrics.h - everything a run counts: one array of counters, one array of histograms.
 *
 * Receives: events inside the measurement window, from the one worker that owns the struct.
 * Gives: sums over workers and ranks, by addition.  Must not know: JSON, tiers' inner life.
 */
#pragma once

#include <pthread.h>
#include <stddef.h>
#include <stdint.h>

#include "config/config.h"
#include "metrics/hist.h"

enum metric_direction { DIR_READ, DIR_WRITE, DIRECTIONS };
enum metric_part { PART_TOTAL, PART_DEVICE, PART_HOST, PARTS };

/*
 * Counters. All of them count events inside the window. X(name, meaning).
 * "Logical" is what requests asked of the cache; "tier" is what moved to or from a tier, demotions included.
 */
#define METRIC_COUNTERS(X) \
	X(REQUESTS_COMPLETED, "requests whose last step ended and whose I/O succeeded") \
	X(TOKENS_GENERATED, "generated tokens of completed requests") \
	X(CACHE_HITS, "lookups that found a readable entry") \
	X(CACHE_MISSES, "lookups that did not, in-flight ones included") \
	X(MISSES_IN_FLIGHT, "of these: the entry was still being written") \
	X(HITS_SYSTEM, "hits labelled system prompt") \
	X(HITS_MULTI_TURN, "hits on earlier turns") \
	X(HITS_USER, "all other hits") \
	X(MULTI_TURN_HITS, "earlier turns found") \
	X(MULTI_TURN_MISSES, "earlier turns not found") \
	X(PREFIX_HITS, "system prompt entries found") \
	X(PREFIX_MISSES, "system prompt entries not found") \
	X(PREFIX_BYTES_SAVED, "bytes of system prompt entries found") \
	X(PREFILL_WRITES, "entry writes completed in prefill") \
	X(DECODE_READS, "entry reads completed in decode") \
	X(READ_OPS, "logical entry reads completed") \
	X(WRITE_OPS, "logical entry writes completed") \
	X(READ_BYTES, "logical bytes read, by completed operations") \
	X(WRITE_BYTES, "logical bytes written, by completed operations") \
	X(OFFLOADS_CPU, "entries that landed in the cpu tier, by write or demotion") \
	X(OFFLOADS_STORAGE, "entries that landed in the storage tier") \
	X(STORAGE_TOKENS, "tokens read from, written to or demoted to the storage tier") \
	X(EVICTIONS, "entries demoted or deleted") \
	X(DEMOTED_BYTES, "payload bytes of finished demotions") \
	X(DELETED_BYTES, "payload bytes of deleted entries") \
	X(PASSED_OVER, "writes an upper tier had no room for") \
	X(REFUSED_TOO_LARGE, "writes larger than the last tier") \
	X(JOINED_WRITES, "writes that found the same key being written") \
	X(RESIDENT_WRITES, "writes of a key already held: no I/O") \
	X(NOT_COLD_READS, "buffered reads that overlapped another reader of the file") \
	X(NOT_COLD_BYTES, "bytes of these: the page cache may have had them, and the device not been asked") \
	X(PAGES_SAMPLED, "buffered reads: pages looked for in the page cache before the first byte") \
	X(PAGES_RESIDENT, "of these: found there") \
	X(VERIFIED_BLOCKS, "512-byte blocks whose stamp was checked") \
	X(RETRIES, "transfers continued after EINTR, EAGAIN or a short count") \
	X(TRACE_ROWS_UNUSABLE, "trace rows that could not be replayed") \
	X(WORKER_CPU_NS, "CPU time of the workers in the window") \
	X(READY_DELAY_NS, "time the workers were ready to run and no CPU took them, in the window")

/* What is counted per QoS level. */
enum metric_qos {
	QOS_OFFERED,
	QOS_ADMITTED,
	QOS_COMPLETED,
	QOS_FAILED, /* ended, but a read or write of theirs did not succeed: in no latency */
	QOS_CANCELLED,
	QOS_QUEUED_AT_END,
	QOS_VIOLATIONS,
	METRIC_QOS_COUNT,
};

enum metric_counter {
#define X(name, meaning) COUNT_##name,
	METRIC_COUNTERS(X)
#undef X
	/* per tier class and direction: use COUNT_TIER_BYTES() and COUNT_TIER_OPS() */
	COUNT_TIER_BYTES_0,
	COUNT_TIER_OPS_0 = COUNT_TIER_BYTES_0 + TIER_CLASSES * DIRECTIONS,
	/* per QoS level: use COUNT_QOS() */
	COUNT_QOS_0 = COUNT_TIER_OPS_0 + TIER_CLASSES * DIRECTIONS,
	METRIC_COUNTER_COUNT = COUNT_QOS_0 + QOS_COUNT * METRIC_QOS_COUNT,
};

#define COUNT_TIER_BYTES(tier, dir) ((enum metric_counter)(COUNT_TIER_BYTES_0 + (int)(tier) * DIRECTIONS + (int)(dir)))
#define COUNT_TIER_OPS(tier, dir)   ((enum metric_counter)(COUNT_TIER_OPS_0 + (int)(tier) * DIRECTIONS + (int)(dir)))
#define COUNT_QOS(level, what)	    ((enum metric_counter)(COUNT_QOS_0 + (int)(level) * METRIC_QOS_COUNT + (int)(what)))

/* Histograms, nanoseconds. */
#define METRIC_HISTS(X) \
	X(RESPONSE, "request: completion minus intended arrival") \
	X(QUEUE_WAIT, "request: start minus intended arrival") \
	X(SERVICE, "request: completion minus start") \
	X(REQUEST_STORAGE, "request: sum of its entry operations' total times, all tiers") \
	X(GENERATION, "request: simulated token generation") \
	X(PREFILL, "request: its prefill write") \
	X(DECODE, "request: its decode reads") \
	X(FSYNC, "storage: one fsync or fdatasync") \
	X(DEMOTE, "one demotion") \
	X(DELETE, "one deletion")

/* Entries of similar size: less than 256 KiB, 1 MiB, 4 MiB ... 1 GiB, and all above. */
enum { METRIC_SIZE_CLASSES = 8 };

/** metric_size_class() - of an entry's payload; metric_size_class_min() - the smallest payload of a class. */
static inline unsigned metric_size_class(uint64_t bytes)
{
	unsigned class = 0;
	while (class < METRIC_SIZE_CLASSES - 1 && bytes >> (18 + 2 * class))
		class++;
	return class;
}
static inline uint64_t metric_size_class_min(unsigned class)
{
	return class ? UINT64_C(1) << (16 + 2 * class) : 0;
}

enum metric_hist {
#define X(name, meaning) HIST_##name,
	METRIC_HISTS(X)
#undef X
	HIST_TIER_0, /* use HIST_TIER() */
	HIST_QOS_0 = HIST_TIER_0 + TIER_CLASSES * DIRECTIONS * PARTS, /* response per level: use HIST_QOS() */
	HIST_PACE_0 = HIST_QOS_0 + QOS_COUNT, /* use HIST_PACE() */
	METRIC_HIST_COUNT = HIST_PACE_0 + DIRECTIONS * METRIC_SIZE_CLASSES,
};

#define HIST_TIER(tier, dir, part) \
	((enum metric_hist)(HIST_TIER_0 + ((int)(tier) * DIRECTIONS + (int)(dir)) * PARTS + (int)(part)))
/* Storage entry operations of one size class: device time per MiB, the inverse of their bandwidth. */
#define HIST_PACE(dir, class) ((enum metric_hist)(HIST_PACE_0 + (int)(dir) * METRIC_SIZE_CLASSES + (int)(class)))
#define HIST_QOS(level) ((enum metric_hist)(HIST_QOS_0 + (int)(level)))

/** Lists of single samples, only with --raw-samples: they grow, which the steady state otherwise never does. */
enum metric_raw { RAW_RESPONSE, RAW_STORAGE, RAW_GENERATION, RAW_PREFILL, RAW_DECODE, METRIC_RAW_COUNT };

struct metric_samples {
	uint64_t *ns;
	size_t count, cap;
};

/** One worker's (or the merged) measurements. From metrics_new(): untouched histograms cost no RAM. */
struct metrics {
	uint64_t count[METRIC_COUNTER_COUNT];
	uint64_t oldest_age_ns[QOS_COUNT]; /* at the end of the window: age of the oldest unserved request; merges by max */
	struct metric_samples raw[METRIC_RAW_COUNT];
	uint64_t raw_dropped; /* samples lost because memory ran out */
	struct hist hist[METRIC_HIST_COUNT];
};

struct metrics *metrics_new(void); /* NULL: out of address space */
void metrics_free(struct metrics *m);
/** metrics_merge() - add @from to @to (counters, histograms, samples; ages by maximum). Return: 0 or -ENOMEM. */
int metrics_merge(struct metrics *to, const struct metrics *from);
/** metrics_clear() - empty again, as new; touches only what was used. */
void metrics_clear(struct metrics *m);
/** metrics_sample() - keep one raw sample; counts it as dropped when memory runs out. */
void metrics_sample(struct metrics *m, enum metric_raw which, uint64_t ns);
/** metrics_qos_total() - a counter of requests over all levels; metrics_tier_bytes() - bytes over all tiers. */
uint64_t metrics_qos_total(const struct metrics *m, enum metric_qos what);
uint64_t metrics_tier_bytes(const struct metrics *m, enum metric_direction dir);
/** metrics_counter_name(), metrics_hist_name() - stable lower-case names ("cache_hits", "storage_read_device", "response_batch"). @buf is used when the name is composed. */
const char *metrics_counter_name(enum metric_counter c, char buf[64]);
const char *metrics_hist_name(enum metric_hist h, char buf[64]);

/* ---- as plain numbers, for sums over ranks ---- */

enum {
	METRIC_BLOCK_BUCKETS = HIST_PER_OCTAVE, /* of one histogram */
	METRIC_BLOCKS = METRIC_HIST_COUNT * (HIST_BUCKETS / METRIC_BLOCK_BUCKETS),
	METRIC_BLOCK_WORDS = (METRIC_BLOCKS + 63) / 64,
	METRIC_MAXIMA = QOS_COUNT + 2 * METRIC_HIST_COUNT,
};

/** metrics_touched() - one bit per block of buckets that is not all zero. Merges by OR. */
void metrics_touched(const struct metrics *m, uint64_t ret[METRIC_BLOCK_WORDS]);
/** metrics_sums_count() - how many numbers metrics_pack() puts into its sums. */
size_t metrics_sums_count(const uint64_t touched[METRIC_BLOCK_WORDS]);
/**
 * metrics_pack() - @m as numbers that merge by addition (@sums) and by maximum (@maxima, all below 2^63), raw samples left out
 * @touched: must hold all bits of metrics_touched(); the same for all that are merged
 */
void metrics_pack(const struct metrics *m, const uint64_t touched[METRIC_BLOCK_WORDS], uint64_t *sums,
		  uint64_t maxima[METRIC_MAXIMA]);
/** metrics_unpack() - the other way, into an empty @m. */
void metrics_unpack(struct metrics *m, const uint64_t touched[METRIC_BLOCK_WORDS], const uint64_t *sums,
		    const uint64_t maxima[METRIC_MAXIMA]);

/* ---- errors: rare, so shared under a lock ---- */

enum { ERROR_CLASSES_MAX = 24, ERROR_TEXT_MAX = 384 };

/** All errors of one errno and one place, with the first of them told in full. */
struct error_class {
	char name[48];	/* "storage read: EIO", "storage read: stale data" */
	uint64_t count; /* whole run, also outside the window: an error is never out of scope */
	char first[ERROR_TEXT_MAX]; /* path, offset, expected and found */
};

struct error_log {
	pthread_mutex_t lock;
	uint64_t total;
	unsigned classes;
	struct error_class v[ERROR_CLASSES_MAX]; /* the last one collects what does not fit: "other" */
};

void error_log_init(struct error_log *log);
/** error_log_add() - count one error. @name: its class; @first: used when the class is new. Threads: any. */
void error_log_add(struct error_log *log, const char *name, const char *first);
/** error_log_total() - how many so far. Threads: any. */
uint64_t error_log_total(struct error_log *log);
/** error_log_merge() - add @from, which nobody writes any more, to @to. Threads: any. */
void error_log_merge(struct error_log *to, const struct error_log *from);
