// SPDX-License-Identifier: Apache-2.0
/* Log lines: each is formatted whole and written with one call. */
#include "base/log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/clock.h"

static struct {
	enum log_format format;
	enum log_level threshold;
	bool color;
} log_state = {LOG_FORMAT_ENGINE, LOG_INFO, false};

static const struct {
	enum log_level level;
	const char *name;
	const char *color;
} log_levels[] = {
	{LOG_DEBUG, "DEBUG", ""},
	{LOG_VERBOSEST, "VERBOSEST", ""},
	{LOG_VERBOSER, "VERBOSER", ""},
	{LOG_VERBOSE, "VERBOSE", ""},
	{LOG_INFO, "INFO", ""},
	{LOG_STATUS, "STATUS", "\033[1;34m"},
	{LOG_WARNING, "WARNING", "\033[33m"},
	{LOG_RESULT, "RESULT", "\033[32m"},
	{LOG_ERROR, "ERROR", "\033[1;31m"},
	{LOG_CRITICAL, "CRITICAL", "\033[1;31m"},
};

void log_init(enum log_format format, enum log_level threshold, bool color)
{
	log_state.format = format;
	log_state.threshold = threshold;
	log_state.color = color;
}

const char *log_level_name(enum log_level level)
{
	for (size_t i = 0; i < ARRAY_LEN(log_levels); i++)
		if (log_levels[i].level == level)
			return log_levels[i].name;
	return "?";
}

int log_level_parse(const char *name, enum log_level *ret)
{
	for (size_t i = 0; i < ARRAY_LEN(log_levels); i++) {
		if (!strcasecmp(name, log_levels[i].name)) {
			*ret = log_levels[i].level;
			return 0;
		}
	}
	return -EINVAL;
}

static const char *log_color(enum log_level level)
{
	if (!log_state.color)
		return "";
	for (size_t i = 0; i < ARRAY_LEN(log_levels); i++)
		if (log_levels[i].level == level)
			return log_levels[i].color;
	return "";
}

void log_line(enum log_level level, const char *fmt, ...)
{
	if (level < log_state.threshold)
		return;
	char text[2048];
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	char when[CLOCK_ISO_SIZE];
	clock_log_text(when, time(NULL));
	const char *color = log_color(level);
	const char *reset = color[0] ? "\033[0m" : "";
	if (log_state.format == LOG_FORMAT_ENGINE)
		fprintf(stderr, "%s - kv-cache - %s%s%s - %s\n", when, color, log_level_name(level),
			reset, text);
	else
		fprintf(stderr, "%s%s|%s: %s%s\n", color, when, log_level_name(level), text, reset);
}
