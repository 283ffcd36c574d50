/* SPDX-License-Identifier: Apache-2.0 */
/*
 * record/ledger.h - the list of all runs below a results directory.
 *
 * Receives: metadata, when a run starts and when it ends.  Gives: one JSON object a run, the same after the
 * list was lost.  Must not know: what a benchmark measures, how a list is shown.
 *
 * <results-dir>/.mlps/runs.jsonl holds one object a line. A run adds a line at its start and one at its end;
 * of the lines that name one directory the last one counts. Writers hold <results-dir>/.mlps/lock (flock), so
 * that lines are whole and an id is given once. What a killed writer left of a line is closed by the next
 * writer and skipped by readers. The run directories are the truth: whatever the list lacks is taken from
 * their metadata.
 *
 * Keys of a run: schemas/ledger.schema.json. "dir" is relative to the results directory, so that the tree may
 * be moved.
 */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"

/** All runs of a results directory. Zero-initialise; ledger_release() after. Not thread-safe. */
struct ledger {
	char *root;        /* absolute */
	json_t *runs;      /* array of objects, by id */
	size_t recovered;  /* runs that the file lacked and the directories had */
	size_t damaged;    /* lines that were no run */
	bool is_read_only; /* what was recovered could not be written back */
};

/**
 * ledger_open() - read the ledger; runs it lacks are taken from the run directories and written back
 * @root: results directory; where there is none the ledger is empty, and nothing is created
 * Return: 0; -ETIMEDOUT when another program holds the lock for half a minute; -errno with an ERR_FS_* that
 * names the file; -ENOMEM.
 */
int ledger_open(const char *root, struct ledger *ret, struct error *err);
void ledger_release(struct ledger *l);

/** ledger_find() - run by id, borrowed; NULL when there is none. */
json_t *ledger_find(const struct ledger *l, json_int_t id);

/**
 * ledger_inspect() - what is true of a run now: "status" of one whose end nobody wrote, and why something is
 * missing
 * @run: from @l; values it lacks are taken from the metadata; "problems" is added, an array of texts, empty
 *	 when the directory and its metadata are whole
 * Return: 0 or -ENOMEM.
 */
int ledger_inspect(const struct ledger *l, json_t *run);

/**
 * ledger_lock() - let no other program change the ledger, nor make a run directory
 * Makes the directories on the way.
 * @ret: [out] close() it to let go
 * Return: as ledger_open().
 */
int ledger_lock(const char *root, int *ret, struct error *err);

/**
 * ledger_put() - append the present state of a run, synced
 * @metadata: of the run; "history_id" is kept where it is free, and set to the run's id
 * @dir:      run directory below @root
 * The lock must be held. Return: 0; -errno with an ERR_FS_* that names the file, which is then as it was.
 */
int ledger_put(const char *root, const char *dir, json_t *metadata, struct error *err);

/** ledger_process() - the "process" that a later reader tells a dead run by. New reference, NULL when out of
 * memory. */
json_t *ledger_process(void);

/**
 * ledger_parse() - the lines of a ledger file
 * @runs: [in,out] array: the last state of each directory, in order of first appearance
 * @damaged: [in,out] lines that were no run
 * Return: 0 or -ENOMEM.
 */
int ledger_parse(const char *text, size_t len, json_t *runs, size_t *damaged);
