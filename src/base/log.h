/* SPDX-License-Identifier: Apache-2.0 */
/*
 * base/log.h - lines for the person at the terminal, on standard error, in the program's format.
 *
 * Receives: level and text.  Gives: one line.  Must not know: who asks.
 * Rooms below engine/ and cmd/ do not log; they return errors and notices.
 */
#pragma once

#include <stdbool.h>

#include "base/attr.h"

/* The framework's levels and numbers; kv-cache uses DEBUG, INFO, WARNING, ERROR and CRITICAL of them. */
enum log_level {
	LOG_PLAID = 3,
	LOG_LUDICROUS = 5,
	LOG_RIDICULOUS = 7,
	LOG_DEBUG = 10,
	LOG_VERBOSEST = 17,
	LOG_VERBOSER = 18,
	LOG_VERBOSE = 19,
	LOG_INFO = 20,
	LOG_STATUS = 25,
	LOG_WARNING = 30,
	LOG_RESULT = 35,
	LOG_ERROR = 40,
	LOG_CRITICAL = 50,
};

/** Line formats: "time - kv-cache - LEVEL - text" and "time|LEVEL: text" ("time|LEVEL:file:line: text"). */
enum log_format { LOG_FORMAT_ENGINE, LOG_FORMAT_CONTROL };

/** log_wants_color() - is standard error a terminal that knows colours, and NO_COLOR not set (or empty)? */
bool log_wants_color(void);
/** log_init() - set once by main() before other threads start. @color: use escape codes. */
void log_init(enum log_format format, enum log_level threshold, bool color);
/**
 * log_line() - write one line when @level reaches the threshold. Threads: any; lines never interleave.
 * The control plane's lines name their place in the source when debugging messages are shown.
 */
#define log_line(level, ...) log_line_at(__FILE_NAME__, __LINE__, (level), __VA_ARGS__)
void log_line_at(const char *file, int line, enum log_level level, const char *fmt, ...) ATTR_PRINTF(4, 5);
/**
 * log_live() - the one line at the bottom of a terminal that is drawn over and over: progress
 * Log lines stand above it. NULL: there is none any more. "": another program that we show may have drawn one: clear its line
 * before each of ours. Only for a standard error that is a terminal, or is shown on one. Threads: any.
 */
void log_live(const char *text);
/** log_shows() - does a line of this level reach the person? */
bool log_shows(enum log_level level);
/** log_level_name() - "INFO" and so on. */
const char *log_level_name(enum log_level level);
/** log_level_parse() - level for a name in any case. Return: 0, or -EINVAL for an unknown name. */
int log_level_parse(const char *name, enum log_level *ret);

#define log_debug(...)   log_line(LOG_DEBUG, __VA_ARGS__)
#define log_info(...)    log_line(LOG_INFO, __VA_ARGS__)
#define log_status(...)  log_line(LOG_STATUS, __VA_ARGS__)
#define log_warning(...) log_line(LOG_WARNING, __VA_ARGS__)
#define log_error(...)   log_line(LOG_ERROR, __VA_ARGS__)
