/* SPDX-License-Identifier: Apache-2.0 */
/*
 * base/frame.h - messages between the output of ordinary programs, on one pipe.
 *
 * Receives: bytes.  Gives: whole, checked messages, and the text between them.
 * Must not know: what a message says, who reads or writes the pipe.
 *
 * One frame is
 *
 *     0x1e "MLPS1 " <kind> ' ' <rank> ' ' <length> ' ' <XXH64 of the payload, 16 hex digits> '\n'
 *     <payload of length bytes> '\n'
 *
 * 0x1e (record separator) stands in no JSON text, so a reader finds the next frame after a damaged
 * one. What does not begin a frame passes through as text.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/str.h"

/* X(constant, name on the wire) */
#define FRAME_KINDS                                                                             \
	X(FRAME_HOST, "host")		/* JSON: facts of a host */                             \
	X(FRAME_READY, "ready")		/* JSON: a rank's effective set-up */                   \
	X(FRAME_PROGRESS, "progress")	/* JSON: how far the run is */                          \
	X(FRAME_SNAPSHOT, "snapshot")	/* JSON: a rank's result so far */                      \
	X(FRAME_RESULT, "result")	/* JSON: a rank's final result */                       \
	X(FRAME_AGGREGATE, "aggregate")	/* JSON: the pooled result */                           \
	X(FRAME_PROBLEMS, "problems")	/* JSON: list of {rank, host, message, hint, code} */   \
	X(FRAME_SERIES, "series")	/* NDJSON lines: samples of a host */                  \
	X(FRAME_INTERVAL, "interval")	/* NDJSON lines: intervals of a rank */

enum frame_kind {
#define X(constant, name) constant,
	FRAME_KINDS
#undef X
	FRAME_KIND_COUNT,
};

/* Longest payload a reader takes: far above any result, far below what would hurt the reader. */
#define FRAME_PAYLOAD_MAX ((size_t)1 << 30)

/** frame_kind_name() - the name on the wire. */
const char *frame_kind_name(enum frame_kind kind);

/**
 * frame_write() - write one frame to @fd, whole
 * Waits where the pipe is full. Return: 0, -EMSGSIZE (longer than FRAME_PAYLOAD_MAX), or -errno of
 * the write: the reader then sees a damaged frame. Threads: the caller serialises writes to one fd.
 */
int frame_write(int fd, enum frame_kind kind, uint32_t rank, const void *data, size_t len);

/** Who gets what a reader finds. Both are called from frame_reader_feed(), in the order of the bytes. */
struct frame_handler {
	/* @data: @len bytes and a NUL, until return */
	void (*on_frame)(void *arg, enum frame_kind kind, uint32_t rank, const char *data, size_t len);
	void (*on_text)(void *arg, const char *bytes, size_t n);
	void *arg;
};

/** Takes a stream of bytes apart, however they arrive. frame_reader_init(), frame_reader_release(). */
struct frame_reader {
	struct frame_handler handler;
	size_t payload_max; /* FRAME_PAYLOAD_MAX; tests lower it */
	uint64_t frames;    /* given to on_frame */
	uint64_t damaged;   /* torn, wrong checksum, malformed header or too long: dropped */

	/* Owned by frame.c. */
	enum { FRAME_IN_TEXT, FRAME_IN_HEADER, FRAME_IN_PAYLOAD, FRAME_IN_SKIP } state;
	struct str buf; /* header so far, or payload so far */
	enum frame_kind kind;
	uint32_t rank;
	uint64_t len, hash; /* of the payload; in SKIP: bytes left to drop */
};

void frame_reader_init(struct frame_reader *r, const struct frame_handler *handler);

/**
 * frame_reader_feed() - the next @n bytes of the stream
 * Return: 0 or -ENOMEM (a payload did not fit in memory: it counts as damaged, later frames are read).
 */
int frame_reader_feed(struct frame_reader *r, const char *bytes, size_t n);

/** frame_reader_end() - the stream is over: an unfinished frame counts as damaged. */
void frame_reader_end(struct frame_reader *r);

void frame_reader_release(struct frame_reader *r);
