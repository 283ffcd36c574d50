// SPDX-License-Identifier: Apache-2.0
/* What the person at the terminal is told, in one form for every command. */
#include "base/log.h"
#include "cmd/cmd.h"

int cmd_report(const struct error *err)
{
	log_error("[E%d] %s%s%s", (int)err->code, err->message,
		  err->hint[0] ? "\n    Suggestion: " : "", err->hint);
	return err_exit_code(err->code);
}

int cmd_report_all(const struct problems *problems)
{
	for (size_t i = 0; i < problems->count; i++)
		cmd_report(&problems->list[i]);
	return problems->count ? err_exit_code(problems->list[0].code) : EXIT_OK;
}

void cmd_stage(unsigned stage, unsigned count, const char *text)
{
	log_status("Stage %u/%u: %s...", stage, count, text);
}
