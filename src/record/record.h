/* SPDX-License-Identifier: Apache-2.0 */
/*
 * record/record.h - the run directory and the metadata file that says what happened in it.
 *
 * Receives: which benchmark, its options, what its command writes.  Gives: a directory of our own,
 * one JSON file. Must not know: how a benchmark is run; what the values mean that a benchmark adds.
 *
 * Layout:
 * <results-dir>/<benchmark>/<model>/<command>/<YYYYmmdd_HHMMSS>/<benchmark>_<stamp>_metadata.json.
 * The file is written at the start, in state "running", and again at the end; a reader never sees
 * half of one. The ledger (record/ledger.h) hears of the run when its directory is made and when it
 * ends.
 */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <time.h>

#include "base/err.h"
#include "base/str.h"
#include "config/opt.h"

/** What a run directory stands for. Texts are copied. */
struct record_spec {
	const char *results_dir;
	const char *benchmark; /* "kv_cache" */
	const char *model;
	const char *command;      /* "run" */
	const char *version;      /* of this program */
	const char *command_line; /* as typed, shell-quoted */
	char *const *argv;        /* as typed, NULL at its end */
	time_t when;
};

/** The state of a run, key "status". A file left in "running" belongs to a run that was killed. */
enum record_status {
	RECORD_RUNNING,     /* "running" */
	RECORD_COMPLETE,    /* "complete" */
	RECORD_FAILED,      /* "failed" */
	RECORD_INTERRUPTED, /* "interrupted" */
	RECORD_WHAT_IF,     /* "what-if": shown, not started */
};

struct record; /* one run directory and the metadata to be written there. Not thread-safe. */

/**
 * record_open() - make a new run directory, exclusively ours
 * Where the second of @spec->when is taken, the next free one is used (and the stamp says so). The
 * base keys of the metadata are set; the ledger has the run, the metadata file is not written yet. Return: 0; -EACCES, -EROFS, -ENOTDIR,
 * -ENOSPC ... with an ERR_FS_* that names the path; -ETIMEDOUT (the ledger is locked); -ENOMEM. record_free() after: a run whose end was not written is then
 * listed as failed, and an empty directory goes.
 */
int record_open(const struct record_spec *spec, struct record **ret, struct error *err);
void record_free(struct record *r);

const char *record_dir(const struct record *r);   /* absolute */
const char *record_stamp(const struct record *r); /* YYYYmmdd_HHMMSS */
/** record_path() - path of a file in the run directory (free()); NULL when out of memory. */
char *record_path(const struct record *r, const char *fmt, ...) ATTR_PRINTF(2, 3);

/*
 * Parts of the metadata. All of them may be called again and then replace. Running out of memory is
 * remembered and returned by record_write().
 */
/** record_set() - one key; takes @value (NULL: out of memory). */
void record_set(struct record *r, const char *key, json_t *value);
/** record_options() - "args": every option's value; "args_source": as opt_source_name(). */
void record_options(struct record *r, const struct opt_set *set);
/** record_command() - "executed_command" and "command_output_files". Paths may be NULL: not
 * started. */
void record_command(struct record *r, const char *command, const char *stdout_path,
		    const char *stderr_path);

/**
 * record_write() - write the metadata file in @status
 * @exit_status: what this program is about to return; -1 while it runs (written as null)
 * @runtime_s:	 time the benchmark itself took
 * Return: 0; -errno with an ERR_FS_* that names the file; the old file is then still there.
 */
int record_write(struct record *r, enum record_status status, int exit_status, double runtime_s,
		 struct error *err);

/** record_text() - the metadata as JSON text (free()); NULL when out of memory. */
char *record_text(const struct record *r);

/** record_string() - JSON string; bytes that are no UTF-8 (paths may have them) become '?'. NULL
 * text: null. */
json_t *record_string(const char *text);
/** record_option_value() - one option's present value, null when unset. New reference. */
json_t *record_option_value(const struct opt_group *group, size_t index);

/** What a kv-cache result file says. record_outcome_release() after. */
struct record_outcome {
	json_t *metrics; /* "kvcache_metrics" of the metadata; a number that is not in the result is
			    null */
	bool has_verdict; /* written by our engine, whose exit status says whether the run was valid
			   */
	double completed; /* requests; 0 when the engine summed up nothing */
};

/**
 * record_outcome_read() - find the numbers where they are in our, the V1 and the V3 result files
 * @duration_s: the length that was asked for, used where the file does not say how long it measured
 * Return: 0; -ENOENT, -EINVAL (not JSON, or no object), -ENOMEM ..., with ERR_RUN_FAILED and the
 * reason.
 */
int record_outcome_read(const char *path, double duration_s, struct record_outcome *ret,
			struct error *err);
void record_outcome_release(struct record_outcome *o);
