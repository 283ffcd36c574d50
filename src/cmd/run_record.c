// SPDX-License-Identifier: Apache-2.0
/* An invocation and its record: what every benchmark's commands do alike. */
#include <stdio.h>

#include "base/log.h"
#include "cmd/cmd.h"

static void set_division(struct record *r, const struct cmd_invocation *inv)
{
	json_t *issues = json_array();
	for (size_t i = 0; i < inv->division.issues.count; i++)
		json_array_append_new(issues, record_string(inv->division.issues.v[i]));
	record_set(r, "division", record_string(inv->division.asked));
	record_set(r, "verification", record_string(inv->division.verdict));
	record_set(r, "verification_issues", issues);
}

int cmd_record_open(const struct cmd_invocation *inv, const char *benchmark, const char *model,
		    struct record **ret, struct error *err)
{
	struct record *r = NULL;
	struct record_spec spec = {
		.results_dir = inv->universal.results_dir,
		.benchmark = benchmark,
		.model = model,
		.command = inv->command->name,
		.version = MLPSTORAGE_VERSION,
		.command_line = inv->command_line,
		.argv = inv->argv,
		.when = time(NULL),
	};
	int rc = record_open(&spec, &r, err);
	if (rc)
		return rc;
	record_options(r, &inv->set);
	set_division(r, inv);
	*ret = r;
	return 0;
}

static void echo_metadata(const struct record *r)
{
	CLEANUP_FREE char *text = record_text(r);
	if (text)
		puts(text);
	fflush(stdout);
}

int cmd_record_write(const struct cmd_invocation *inv, struct record *r, enum record_status status,
		     int code, double runtime_s)
{
	struct error err = {0};
	int rc = record_write(r, status, code, runtime_s, &err);
	if (rc) {
		int failed = cmd_report(&err);
		return code > 0 ? code : failed;
	}
	if (inv->universal.verbose && status != RECORD_RUNNING)
		echo_metadata(r);
	return code;
}
