// SPDX-License-Identifier: Apache-2.0
/* Fuzz entry: the input as a list of runs, and as the metadata of one. What is taken from it can be written and read again,
 * and never leads out of the results directory. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "record/record_internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char *dir_of(const json_t *run)
{
	return json_string_value(json_object_get(run, "dir"));
}

static void check_run(const json_t *run)
{
	const char *dir = dir_of(run);
	if (json_integer_value(json_object_get(run, "id")) < 1 || !dir || dir[0] == '/' ||
	    !strcmp(dir, "..") || !strncmp(dir, "../", 3) || strstr(dir, "/../") ||
	    !json_is_string(json_object_get(run, "status")))
		abort();
}

/* One run a directory, whatever the lines say. */
static void check_list(const char *text, size_t size)
{
	json_t *runs = json_array();
	size_t damaged = 0;
	if (ledger_parse(text, size, runs, &damaged))
		abort();
	for (size_t i = 0; i < json_array_size(runs); i++) {
		check_run(json_array_get(runs, i));
		for (size_t k = 0; k < i; k++)
			if (!strcmp(dir_of(json_array_get(runs, i)), dir_of(json_array_get(runs, k))))
				abort();
	}
	json_decref(runs);
}

static void check_metadata(const char *text, size_t size)
{
	static const char dir[] = "kv_cache/tiny-1b/run/20260131_123456";
	struct ledger l = {.root = (char *)"/nonexistent"};
	json_t *metadata = json_loadb(text, size, 0, NULL);
	json_t *run = ledger_run_new(json_is_object(metadata) ? metadata : NULL, dir);
	json_t *runs = json_array();
	size_t damaged = 0;
	if (!run || json_object_set_new(run, "id", json_integer(1)))
		abort();
	char *line = json_dumps(run, JSON_COMPACT);
	if (!line || ledger_parse(line, strlen(line), runs, &damaged) || damaged ||
	    !json_equal(json_array_get(runs, 0), run) || ledger_inspect(&l, run))
		abort();
	free(line);
	json_decref(runs);
	json_decref(run);
	json_decref(metadata);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size > 1 << 16)
		return 0;
	check_list((const char *)data, size);
	check_metadata((const char *)data, size);
	return 0;
}
