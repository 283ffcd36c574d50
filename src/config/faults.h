/* SPDX-License-Identifier: Apache-2.0 */
/*
 * config/faults.h - a plan of faults: what is to go wrong with operations of tiers, when and how.
 *
 * Receives: a YAML file.  Gives: one struct config_fault_plan, checked.
 * Must not know: how a fault is made.
 *
 *   seed: 7                    # of the rates; 1 when left out
 *   faults:
 *     - fault: error           # error, again, interrupt, short, delay, hang, bit_flip, stale, swap, torn
 *       tier: storage          # any (the default: what follows holds for each), cpu, storage
 *       operation: [read]      # create, write, sync, commit, abort, open, read, close, delete; left out: all that the fault knows
 *       rate: 0.01             # of these operations, or
 *       nth: 100               # the 100th of them
 *       count: 3               # not more often than this; with nth: this many from the 100th on (1 when left out)
 *       error: ENOSPC          # error: what it fails with (EIO)
 *       attempts: 2            # again, interrupt, short: attempts in a row that come to that (1)
 *       delay_ms: 5            # delay
 *       part: stamp            # bit_flip: any (the default), stamp, payload
 *       is_final: true         # hang: it cannot be cancelled either
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

struct config_options;

enum config_fault_kind {
	FAULT_ERROR,	 /* it fails */
	FAULT_AGAIN,	 /* attempts of its I/O come to EAGAIN */
	FAULT_INTERRUPT, /* ... to EINTR */
	FAULT_SHORT,	 /* ... move half of what was asked */
	FAULT_DELAY,	 /* it begins later */
	FAULT_HANG,	 /* it never completes */
	FAULT_BIT_FLIP,	 /* one bit of its data is another */
	FAULT_STALE,	 /* one block is that of the generation before */
	FAULT_SWAP,	 /* two blocks have changed places */
	FAULT_TORN,	 /* only the first part is written */
	FAULT_KINDS,
};

enum config_fault_part { FAULT_PART_ANY, FAULT_PART_STAMP, FAULT_PART_PAYLOAD };

enum { CONFIG_FAULTS_MAX = 32 };

/** One rule. */
struct config_fault {
	int kind;	    /* enum config_fault_kind */
	int tier;	    /* enum tier_class, or -1: any */
	uint32_t operations; /* bit (1 << n): the n-th of config_fault_operations() */
	double rate;	    /* 0: nth */
	uint32_t nth;	    /* from 1; 0: rate */
	uint32_t count;	    /* 0: no limit */
	int error;	    /* errno */
	uint32_t attempts;
	double delay_ms;
	int part;	    /* enum config_fault_part */
	bool is_final;
	unsigned line;	    /* in the file */
};

/** A file of them. */
struct config_fault_plan {
	uint64_t seed;
	uint32_t count; /* 0: no plan */
	struct config_fault v[CONFIG_FAULTS_MAX];
};

/**
 * config_fault_operations() - names of a tier's operations as rules have them, NULL at the end
 * In the order of enum tier_op_kind, which belongs to a room above this one and is compared by the one who uses both.
 */
const char *const *config_fault_operations(void);
/** config_fault_name() - "bit_flip" ... */
const char *config_fault_name(enum config_fault_kind kind);

/** config_fault_plan_read() - read @path into @plan. Return: 0 (see problems) or -ENOMEM. */
int config_fault_plan_read(const char *path, struct config_fault_plan *plan, struct problems *problems);

/**
 * config_fault_plan_check() - does each rule speak of something that a run with these options has?
 * @path: in messages   Return: 0 (see problems) or -ENOMEM.
 */
int config_fault_plan_check(const char *path, const struct config_fault_plan *plan, const struct config_options *opt,
			    struct problems *problems);
