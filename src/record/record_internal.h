/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of record/ share. */
#pragma once

#include "base/str.h"
#include "record/ledger.h"
#include "record/record.h"

enum { RECORD_FILE_MAX = 1 << 28 }; /* bytes of a metadata file or ledger; more is none of ours */

/** The names of enum record_status, as in key "status". */
extern const char *const record_status_names[];

/** record_at() - follow @path ("summary.cache_stats") from @root. Return: borrowed; NULL when a part is not there. (outcome.c) */
json_t *record_at(json_t *root, const char *path);

/* ledger_run.c: from metadata to a run of the ledger */

/**
 * ledger_run_new() - what the ledger keeps of a run; values that the metadata lacks are null
 * @metadata: NULL where there is none that can be read
 * @dir:      below the results directory; <benchmark>/<model>/<command>/<stamp> where @metadata does not say
 * Return: new reference without an id, NULL when out of memory.
 */
json_t *ledger_run_new(const json_t *metadata, const char *dir);

/**
 * ledger_metadata() - the metadata of a run directory
 * @problem: [out] why there is none, or which fields it lacks (appended, as JSON texts)
 * Return: new reference; NULL when it is not there or not readable, or out of memory.
 */
json_t *ledger_metadata(const char *root, const char *dir, json_t *problems);

/* ledger_scan.c: the run directories */

/** ledger_scan() - every run directory below @root, relative to it, added to @ret. Return: 0 or -errno. */
int ledger_scan(const char *root, struct strlist *ret);
/** ledger_is_stamp() - is this the name of a run directory, YYYYmmdd_HHMMSS? */
bool ledger_is_stamp(const char *name);
