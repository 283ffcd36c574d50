// SPDX-License-Identifier: Apache-2.0
/* Log lines: each is formatted whole and written with one call. Below them a live line may stand. */
#include "base/log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "base/clock.h"

static struct {
	enum log_format format;
	enum log_level threshold;
	bool color;
	bool is_live; /* this and live: under stderr's lock */
	char live[512];
} log_state = {LOG_FORMAT_ENGINE, LOG_INFO, false, false, ""};

#define CLEAR_LINE  "\r\033[K"
#define WRAP_OFF    "\033[?7l" /* the terminal cuts a line that is too long, however wide it is */
#define WRAP_ON	    "\033[?7h"

static const struct {
	enum log_level level;
	const char *name;
	const char *color;
} log_levels[] = {
	{LOG_PLAID, "PLAID", "\033[95m"},
	{LOG_LUDICROUS, "LUDICROUS", ""},
	{LOG_RIDICULOUS, "RIDICULOUS", ""},
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

bool log_wants_color(void)
{
	const char *no_color = getenv("NO_COLOR");
	const char *term = getenv("TERM");
	return isatty(STDERR_FILENO) && !(no_color && *no_color) && !(term && !strcmp(term, "dumb"));
}

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

bool log_shows(enum log_level level)
{
	return level >= log_state.threshold;
}

/* Called with stderr locked. */
static void draw_live(void)
{
	if (log_state.live[0])
		fprintf(stderr, CLEAR_LINE WRAP_OFF "%s" WRAP_ON, log_state.live);
}

void log_live(const char *text)
{
	flockfile(stderr);
	if (log_state.is_live && (!text || !text[0]))
		fputs(CLEAR_LINE, stderr);
	log_state.is_live = text != NULL;
	snprintf(log_state.live, sizeof(log_state.live), "%s", text ? text : "");
	draw_live();
	funlockfile(stderr);
}

void log_line_at(const char *file, int line, enum log_level level, const char *fmt, ...)
{
	if (!log_shows(level))
		return;
	char text[2048];
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	char when[CLOCK_ISO_SIZE];
	clock_log_text(when, time(NULL));
	char place[64] = "";
	if (log_shows(LOG_DEBUG))
		snprintf(place, sizeof(place), ":%.*s:%d", (int)strcspn(file, "."), file, line);
	const char *color = log_color(level);
	const char *reset = color[0] ? "\033[0m" : "";
	flockfile(stderr);
	const char *clear = log_state.is_live ? CLEAR_LINE : "";
	if (log_state.format == LOG_FORMAT_ENGINE)
		fprintf(stderr, "%s%s - kv-cache - %s%s%s - %s\n", clear, when, color, log_level_name(level),
			reset, text);
	else
		fprintf(stderr, "%s%s%s|%s%s: %s%s\n", clear, color, when, log_level_name(level), place, text, reset);
	draw_live();
	funlockfile(stderr);
}
