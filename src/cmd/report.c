// SPDX-License-Identifier: Apache-2.0
/* What the person at the terminal is told, in one form for every command. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"
#include "cmd/cmd.h"

void cmd_log_error(enum log_level level, const char *lead, const struct error *err)
{
	log_line(level, "%s[E%d] %s%s%s", lead, (int)err->code, err->message,
		 err->hint[0] ? "\n    Suggestion: " : "", err->hint);
}

int cmd_report(const struct error *err)
{
	cmd_log_error(LOG_ERROR, "", err);
	return err_exit_code(err->code);
}

int cmd_report_all(const struct problems *problems)
{
	for (size_t i = 0; i < problems->count; i++)
		cmd_report(&problems->list[i]);
	return problems->count ? err_exit_code(problems->list[0].code) : EXIT_OK;
}

int cmd_report_memory(void)
{
	return cmd_report(&(struct error){.code = ERR_INTERNAL, .message = "out of memory"});
}

int cmd_report_stdout(int code)
{
	struct error err = {0};
	int rc = file_flush_stdout();
	if (!rc)
		return code;
	error_set(&err, rc, ERR_FS_FULL, "cannot write to standard output: %s", strerror(-rc));
	int failed = cmd_report(&err);
	return code ? code : failed;
}

bool cmd_is_terminal(void)
{
	const char *term = getenv("TERM");
	return isatty(STDERR_FILENO) && !(term && !strcmp(term, "dumb"));
}

void cmd_stage(unsigned stage, unsigned count, const char *text)
{
	char line[128];
	if (!cmd_is_terminal()) {
		log_status("Stage %u/%u: %s...", stage, count, text);
		return;
	}
	snprintf(line, sizeof(line), "[%u/%u] %s...", stage, count, text);
	log_live(log_shows(LOG_STATUS) ? line : NULL);
}

void cmd_stage_engine(unsigned stage, unsigned count, const char *text)
{
	cmd_stage(stage, count, text);
	if (cmd_is_terminal())
		log_live("");
}

void cmd_stage_end(void)
{
	log_live(NULL);
}
