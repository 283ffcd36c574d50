/* SPDX-License-Identifier: Apache-2.0 */
/*
 * comm/comm.h - how ranks find, meet and agree with each other.
 *
 * Receives: nothing but the launcher's environment.  Gives: rank, agreement, sums, messages to rank 0.
 * Must not know: what is measured.
 *
 * Two builds of one program link two implementations: comm_none.c (one rank) and comm_mpi.c. Callers do not know which.
 *
 * Everything that waits for other ranks has a deadline, in time of clock_mono_ns(), so that a dead or hung rank never hangs
 * the others. When it passes, rank 0 calls the roll, and the error names the ranks that did not answer; all that answered get
 * the same error. After that the job is over: the caller cleans up and calls comm_close(), which ends what still hangs.
 * All of these calls must be made by every rank in the same order.   Threads: the main one only.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/str.h"

struct comm;

/** What the environment of a parallel launcher says. */
struct comm_launcher {
	const char *variable; /* that gave the size: "OMPI_COMM_WORLD_SIZE", "PMI_SIZE" ... */
	int rank, size;
};

/** comm_launcher_read() - were we started by a launcher of several processes? Return: false: no, and @ret is rank 0 of 1. */
bool comm_launcher_read(struct comm_launcher *ret);

/**
 * comm_open() - join the other ranks
 * Return: 0; -ENOMEM; -EINVAL with ERR_RUN_DEPENDENCY: what started us and what we are do not fit (one of several processes
 * without MPI, another MPI's launcher). comm_close() after.
 */
int comm_open(struct comm **ret, struct error *err);

/**
 * comm_close() - leave
 * After an error of another call of this header, rank 0 gives the others a moment to clean up and then ends the job with
 * @exit_code; this may not return. Where the library does not let go of its connections within ten seconds after the last rank's
 * goodbye, the process ends with @exit_code, its streams flushed. NULL is fine.
 */
void comm_close(struct comm *c, int exit_code);

int comm_rank(const struct comm *c); /* 0.. */
int comm_size(const struct comm *c);
bool comm_is_job(const struct comm *c);			/* a launcher started us, if only as one rank */
const char *comm_host(const struct comm *c, int rank); /* host name of any rank */
unsigned comm_host_ranks(const struct comm *c);	/* ranks on this host, this one included */
const char *comm_library(const struct comm *c);		/* "Open MPI v4.1.4"; "" without MPI */
/** comm_library_name() - the same before comm_open() */
void comm_library_name(char *ret, size_t size);

/* ---- meetings: every rank takes part. Return: 0; -ETIMEDOUT, -ECONNABORTED, -EIO with @err ---- */

typedef int (*comm_take_fn)(void *arg, int rank, const char *data, size_t len);

/**
 * comm_gather() - a text of each rank, to rank 0, one rank at a time
 * @take: called on rank 0 for each rank as they come, its own first; @data has a NUL after @len bytes and is gone afterwards.
 *        A failure (-errno) is returned on rank 0 when all were taken.
 */
int comm_gather(struct comm *c, const void *data, size_t len, comm_take_fn take, void *arg, uint64_t deadline_ns,
		struct error *err);
/** comm_bcast() - @len bytes of rank 0 to every rank. */
int comm_bcast(struct comm *c, void *data, size_t len, uint64_t deadline_ns, struct error *err);
/** comm_barrier() - all leave when all have come. */
int comm_barrier(struct comm *c, uint64_t deadline_ns, struct error *err);

enum comm_op {
	COMM_SUM,
	COMM_MAX, /* of values below 2^63: MPICH 4.0 compares unsigned numbers as if they had a sign */
	COMM_OR,
	COMM_OPS,
};

/** comm_reduce() - element by element over all ranks, in pieces, along a tree; @v is the outcome on rank 0, elsewhere unchanged. */
int comm_reduce(struct comm *c, enum comm_op op, uint64_t *v, size_t n, uint64_t deadline_ns, struct error *err);
/** comm_allreduce() - the same, and every rank has the outcome. */
int comm_allreduce(struct comm *c, enum comm_op op, uint64_t *v, size_t n, uint64_t deadline_ns, struct error *err);
/** comm_count_same() - how many ranks gave the same @key, this one included. */
int comm_count_same(struct comm *c, uint64_t key, unsigned *ret, uint64_t deadline_ns, struct error *err);
/**
 * comm_clock_offset() - what this rank's clock_mono_ns() shows more than rank 0's
 * Between hosts by eight ping-pongs, of which the fastest counts: right to half of its round trip. Ranks of one host share a clock.
 */
int comm_clock_offset(struct comm *c, int64_t *ret_ns, uint64_t deadline_ns, struct error *err);

/* ---- mail: while each rank works; nothing waits, and nobody need listen ---- */

enum comm_mail { COMM_MAIL_PROGRESS, COMM_MAIL_SNAPSHOT, COMM_MAIL_SERIES, COMM_MAIL_INTERVAL, COMM_MAILS };

/** comm_post() - send @data to rank 0. Return: 0; -EAGAIN: the last of this kind is still on its way, this one is not sent; -ENOMEM. */
int comm_post(struct comm *c, enum comm_mail kind, const void *data, size_t len);
/** comm_fetch() - rank 0: a letter that came, its own too. Return: false: none. @ret is replaced. */
bool comm_fetch(struct comm *c, enum comm_mail kind, int *ret_rank, struct str *ret);
/** comm_stop() - tell every rank to stop; comm_stop_asked() - did any? */
void comm_stop(struct comm *c);
bool comm_stop_asked(struct comm *c);
