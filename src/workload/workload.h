/* SPDX-License-Identifier: Apache-2.0 */
/*
 * workload/workload.h - who asks for what, and when: pull streams of requests.
 *
 * Receives: struct config, seed, rank.  Gives: struct request, one stream per user (a trace: one
 * stream). Must not know: clocks, tiers, how fast the storage is.
 *
 * A stream is a pure function of (config, seed, rank, user): request n of a user is the same on any
 * machine, with any number of workers, however slow the storage. Nothing is stored per request: the
 * caller owns small cursors.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "config/config.h"

enum request_phase { PHASE_PREFILL, PHASE_BOTH }; /* prefill only; prefill and decode */

/** One request's content. @blocks is owned by the struct; the next workload_next() reuses it. */
struct request {
	uint64_t gap_ns;   /* to the stream's previous request (the first: to the start) */
	uint64_t sequence; /* 0.. in its stream; a trace: its row, malformed ones counted */
	uint32_t user;
	uint32_t conversation;   /* 0.. per user (from 0 again after 2^24); 0 without multi-turn */
	uint32_t turn;           /* 1.. in its conversation; 0: not part of one */
	uint32_t context_tokens; /* after the prefix's words were taken off */
	uint32_t generated_tokens;
	int32_t prefix; /* index of the system prompt looked up first, -1: none */
	enum config_qos qos;
	enum request_phase phase; /* decided before the prefix's words were taken off */
	/*
	 * Traces only: the request's blocks in order. Then user, conversation, turn and
	 * context_tokens are 0, prefix is -1, qos interactive, phase prefill (there are no decode
	 * re-reads); synthetic: block_count is 0.
	 */
	uint64_t *blocks; /* block ids */
	uint32_t block_count;
	uint32_t block_cap;
	uint32_t block_tokens; /* tokens per block; the last one may hold fewer: see
				  workload_block_tokens() */
	uint64_t input_tokens;
};
void request_release(struct request *r);

/** Place in a stream; all-zero is its start. 24 bytes, copied freely. */
struct workload_cursor {
	uint64_t sequence;
	uint32_t conversation; /* conversations begun so far */
	uint32_t turn;         /* turns of the current one, 0: in none */
	uint64_t gap_sum_ns;   /* sum of all gaps given: the intended arrival of the last request,
				  open loop */
};

struct workload;

/**
 * workload_new() - build the user table or open the trace, and compute the fingerprint
 * @cfg:  borrowed during the call only
 * @seed: base seed + rank (the user table equals the reference's for a seed)
 * @rank: keeps ranks apart whose seeds happen to be equal
 * Trace: the first 65,536 rows are read here; a malformed one is an error "FILE:LINE: ..."
 * (-EINVAL, ERR_CONFIG_PARSE). Return: 0, -ENOMEM, -EINVAL, -EIO (damaged compression), what open()
 * says.   workload_free() after.
 */
int workload_new(const struct config *cfg, uint64_t seed, uint32_t rank, struct workload **ret,
		 struct error *err);
void workload_free(struct workload *w);

uint32_t workload_streams(const struct workload *w); /* users, or 1 for a trace */
uint64_t workload_memory_bytes(const struct workload *w); /* of the user table; a trace is read as it is needed */
bool workload_is_trace(const struct workload *w);
enum config_qos workload_qos(const struct workload *w, uint32_t stream);

/**
 * workload_next() - the next request of a stream; no allocation for synthetic streams
 * @r: zeroed before its first use, request_release() after the last
 * Synthetic: any thread, any cursor. Trace: one stream read in order with one cursor, one thread at
 * a time. Arrivals of a trace are (time stamp - first row's) / speedup and never go back; speedup
 * 0: all gaps are 0. Return: 0; -ENODATA end of the trace; -EINVAL a malformed row (skipped: call
 * again; see workload_bad_row()); -EIO the file cannot be read on (every later call fails too);
 * -ENOMEM.
 */
int workload_next(struct workload *w, uint32_t stream, struct workload_cursor *c,
		  struct request *r);

/** workload_gap_ns() - gap of request @sequence alone (synthetic streams): for counting arrivals
 * without making them. */
uint64_t workload_gap_ns(const struct workload *w, uint32_t stream, uint64_t sequence);

/** workload_bad_row() - "FILE:LINE: reason" of the first -EINVAL or -EIO of workload_next(); NULL
 * when none. */
const char *workload_bad_row(const struct workload *w);

/**
 * workload_fingerprint() - equal when the same is asked, whatever answers
 * Covers the fields of struct request, gaps included: each user's first 64 requests (a sum over
 * users, so ranks may be added), or the first 65,536 rows of a trace at its speedup. Not covered:
 * model, tiers, arrival mode, decode settings.
 */
uint64_t workload_fingerprint(const struct workload *w);

/** workload_block_tokens() - tokens of block @index of a trace request: block_tokens, the last one
 * the rest. */
uint32_t workload_block_tokens(const struct request *r, uint32_t index);

/* ---- for reports and tests ---- */

/** The five fixed values of a synthetic user. */
struct workload_user {
	uint32_t template_index;
	enum config_qos qos;
	uint32_t context_tokens, generation_tokens; /* upper ends of its requests' draws */
	double think_s;
};
struct workload_user workload_user(const struct workload *w, uint32_t user);

/** What a trace holds (kv-cache trace-info). */
struct trace_info {
	uint64_t requests, bad_rows;
	uint64_t span_ms;
	double input_mean, output_mean;
	uint64_t input_p50, input_p95, input_p99, input_max;
	uint64_t output_p50, output_p95, output_p99, output_max;
	uint64_t block_refs, blocks_unique;
	double reuse_ratio; /* 1 - unique / refs; 0 without refs */
	uint32_t block_tokens;
	uint64_t unique_tokens; /* tokens in unique blocks (last blocks count their rest) */
	char first_bad[512];    /* "FILE:LINE: reason" or "" */
};

/**
 * trace_info_read() - read a whole trace without any I/O elsewhere
 * Percentiles are values of the trace: the smallest that the given share of rows does not exceed.
 * Memory grows with rows (8 bytes) and unique blocks (at most 32 bytes). Return: 0 (bad rows are
 * counted), -EINVAL not a trace or no good row, -EIO, -ENOMEM, what open() says.
 */
int trace_info_read(const char *path, enum config_trace_format format, struct trace_info *ret,
		    struct error *err);
