/* SPDX-License-Identifier: Apache-2.0 */
/*
 * workload/internal.h - what the files of this room share: the user table, the synthetic stream,
 * the trace reader.
 *
 * Receives: struct config.  Gives: requests.  Must not know: anything outside this room and those
 * below.
 */
#pragma once

#include "workload/workload.h"

/* A synthetic user: drawn once, then const. */
struct user {
	uint64_t key;      /* of its request streams, for rng_key() */
	uint64_t think_ns; /* before jitter */
	double think_s;
	uint32_t context_min, context_max;
	uint32_t generation_min, generation_max;
	uint8_t qos, template_index;
};

/**
 * users_new() - draw the user table in the reference's order
 * Return: 0, -ENOMEM; @ret is for free().
 */
int users_new(const struct config *cfg, uint64_t seed, uint32_t rank, struct user **ret);

/* The numbers of a synthetic request that all users share, ready for integer draws. */
struct stream_params {
	uint32_t jitter_min_ppm, jitter_max_ppm;
	uint64_t end_threshold, prefix_threshold; /* rng_threshold() */
	uint32_t max_turns;
	uint32_t prefill_only_tokens;
	uint32_t prefix_count; /* 0: no prefixes */
	uint32_t prefix_words[CONFIG_PREFIXES_MAX];
	bool multi_turn;
};

void stream_params_init(struct stream_params *p, const struct config *cfg);
/** stream_next() - request @c->sequence of user @index; see stream.c for the order of draws. */
void stream_next(const struct stream_params *p, const struct user *user, uint32_t index,
		 struct workload_cursor *c, struct request *r);
uint64_t stream_gap_ns(const struct stream_params *p, const struct user *user, uint64_t sequence);

/* An open trace file. */
struct trace;

/**
 * trace_open() - open a trace and make sure of its format
 * Return: 0; -ENOMEM; -ENOENT and others of open(); -EINVAL no trace of a known format.
 * trace_close() after.
 */
int trace_open(const char *path, enum config_trace_format format, struct trace **ret,
	       struct error *err);
void trace_close(struct trace *t);
/** trace_rewind() - back to the first row; trace_message() is forgotten. */
void trace_rewind(struct trace *t);

/**
 * trace_next() - the next row: blocks, block_count, block_tokens, input_tokens, generated_tokens,
 * sequence of @r
 * @timestamp_ns: [out] as the file says, not made relative
 * Return: 0; -ENODATA at the end; -EINVAL a malformed row (it counts as a row); -EIO; -ENOMEM.
 */
int trace_next(struct trace *t, struct request *r, uint64_t *timestamp_ns);

/** trace_message() - "FILE:LINE: reason" of the first -EINVAL or -EIO; NULL when none. */
const char *trace_message(const struct trace *t);
