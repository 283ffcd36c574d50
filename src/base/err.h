/* SPDX-License-Identifier: Apache-2.0 */
/*
 * base/err.h - how a failure is said: 0 or -errno for code, a struct error for people.
 *
 * Receives: what went wrong.  Gives: one message with code and suggestion.
 * Must not know: exit codes of a program's main() beyond err_exit_code()'s table.
 */
#pragma once

#include <errno.h>
#include <stddef.h>

#include "base/attr.h"

/** err_from_errno() - turn a libc result (-1 and errno) into >= 0 or -errno. */
static inline long err_from_errno(long rc)
{
	return rc < 0 ? -errno : rc;
}

/** Kinds of failure a person can act on; the numbers are shown as [E101] and so on. */
enum err_code {
	ERR_NONE = 0,
	ERR_CONFIG_MISSING = 101,	/* a required value was not given */
	ERR_CONFIG_INVALID = 102,	/* a value is out of range, of the wrong type or unknown */
	ERR_CONFIG_NOT_FOUND = 103,	/* a configuration or trace file does not exist */
	ERR_CONFIG_PARSE = 104,		/* a configuration or trace file is malformed */
	ERR_CONFIG_INCOMPATIBLE = 105,	/* values that exclude each other */
	ERR_RUN_FAILED = 201,		/* the engine ended with an error */
	ERR_RUN_TIMEOUT = 202,		/* the engine did not end in time */
	ERR_RUN_INTERRUPTED = 203,	/* a signal ended the run */
	ERR_RUN_DEPENDENCY = 204,	/* a program or library is missing */
	ERR_RULES_INVALID = 301,	/* the rules of no division allow it */
	ERR_RULES_OPEN = 302,		/* allowed in the open division only */
	ERR_FS_NOT_FOUND = 401,		/* path does not exist */
	ERR_FS_PERMISSION = 402,	/* path may not be used */
	ERR_FS_FULL = 403,		/* not enough space or memory for what was asked */
	ERR_FS_STRUCTURE = 404,		/* something of another kind is in the way (or in use) */
	ERR_MPI_MISSING = 501,		/* no launcher */
	ERR_MPI_HOST = 502,		/* a host cannot be reached */
	ERR_MPI_CLUSTER = 504,		/* what a host is cannot be found out */
	ERR_INTERNAL = 901,		/* our bug */
	ERR_UNSUPPORTED = 902,		/* known, but not in this version */
};

/** One failure. Zero-initialise; a later error_set() overwrites. Plain data, no ownership. */
struct error {
	enum err_code code;
	char message[1024]; /* what happened, lower case, no full stop */
	char hint[512];	    /* what to do about it; may be empty */
};

/**
 * error_set() - record a failure and hand back its errno form
 * @err:  may be NULL (then only @rc is returned)
 * @rc:   negative errno to return
 * @code: kind of failure
 * Return: @rc, so that `return error_set(err, -EINVAL, ERR_CONFIG_INVALID, "...")` reads well.
 */
int error_set(struct error *err, int rc, enum err_code code, const char *fmt, ...)
	ATTR_PRINTF(4, 5);

/** error_hint() - add the suggestion shown below the message. @err may be NULL. */
void error_hint(struct error *err, const char *fmt, ...) ATTR_PRINTF(2, 3);

/** error_prefix() - put context in front of the message, as in "cannot open tier 'file': ...". */
void error_prefix(struct error *err, const char *fmt, ...) ATTR_PRINTF(2, 3);

/** Several failures found in one pass, shown together. Zero-initialise, problems_release() after. */
struct problems {
	struct error *list;
	size_t count;
};

/** problems_add() - append one failure (copied). Return: 0 or -ENOMEM. */
int problems_add(struct problems *p, enum err_code code, const char *fmt, ...) ATTR_PRINTF(3, 4);
/** problems_add_error() - append a filled struct error (copied). Return: 0 or -ENOMEM. */
int problems_add_error(struct problems *p, const struct error *err);
/** problems_release() - free the list; leaves it empty and reusable. */
void problems_release(struct problems *p);

enum exit_code {
	EXIT_OK = 0,		/* success */
	EXIT_NOT_VALID = 1,	/* engine: ran, but the result is not valid; control: help asked by mistake, or the rules forbid it */
	EXIT_USAGE = 2,		/* the command line or a file it names is wrong */
	EXIT_ENVIRONMENT = 3,	/* the machine cannot do it: path, permission, space */
	EXIT_RUN_FAILED = 6,	/* control plane: the benchmark failed */
	EXIT_INTERRUPTED = 8,	/* a signal; a partial result was written */
};

/** err_fs_code() - kind of failure of a -errno that a call for a file or directory returned: one of ERR_FS_*. */
enum err_code err_fs_code(int rc);

/** err_exit_code() - exit code for a failure kind: 1xx and 902 -> 2, 2xx, 5xx and 901 -> 6, 203 -> 8, 3xx -> 1, 4xx -> 3. */
int err_exit_code(enum err_code code);
