// SPDX-License-Identifier: Apache-2.0
/* kv-cache trace-info: what a trace holds, without any I/O elsewhere. */
#include "engine/engine.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static int help(void)
{
	fputs("usage: kv-cache trace-info [--model NAME] FILE\n\n"
	      "Print the requests, tokens, blocks and reuse of a trace (Mooncake JSONL; .gz and .zst too),\n"
	      "and the working set in bytes for a model (default llama3.1-8b).\n",
	      stdout);
	return EXIT_OK;
}

static int fail(const struct error *err)
{
	int code = err_exit_code(err->code);
	fprintf(stderr, "kv-cache: %s\n", err->message);
	if (err->hint[0])
		fprintf(stderr, "  %s\n", err->hint);
	if (code == EXIT_USAGE)
		fputs("Try 'kv-cache trace-info --help'.\n", stderr);
	return code;
}

static int fail_usage(const char *what, const char *word)
{
	struct error err = {0};
	error_set(&err, -EINVAL, ERR_CONFIG_INVALID, "trace-info: %s%s", what, word);
	return fail(&err);
}

static int fail_model(const char *name)
{
	struct error err = {0};
	CLEANUP_STR struct str names = {0};
	size_t count;
	const struct model *m = model_builtin(&count);
	for (size_t i = 0; i < count; i++)
		str_addf(&names, "%s%s", i ? ", " : "", m[i].key);
	error_set(&err, -EINVAL, ERR_CONFIG_INVALID, "--model: \"%s\" is not known, expected one of %s",
		  name, str_text(&names));
	return fail(&err);
}

static void print(const char *path, const struct trace_info *t, const struct model *m)
{
	char size[32];
	uint64_t bytes = model_bytes_per_token(m);
	printf("trace                %s\n", path);
	printf("requests             %" PRIu64 "\n", t->requests);
	printf("unusable rows        %" PRIu64 "\n", t->bad_rows);
	printf("span                 %" PRIu64 " ms\n", t->span_ms);
	printf("input tokens         mean %.2f  p50 %" PRIu64 "  p95 %" PRIu64 "  p99 %" PRIu64 "  max %" PRIu64 "\n",
	       t->input_mean, t->input_p50, t->input_p95, t->input_p99, t->input_max);
	printf("output tokens        mean %.2f  p50 %" PRIu64 "  p95 %" PRIu64 "  p99 %" PRIu64 "  max %" PRIu64 "\n",
	       t->output_mean, t->output_p50, t->output_p95, t->output_p99, t->output_max);
	printf("block                %u tokens\n", t->block_tokens);
	printf("block references     %" PRIu64 "\n", t->block_refs);
	printf("unique blocks        %" PRIu64 "\n", t->blocks_unique);
	printf("reuse                %.1f %% with an infinite cache\n", 100.0 * t->reuse_ratio);
	printf("working set          %s (%" PRIu64 " bytes) with %s, %" PRIu64 " bytes per token\n",
	       fmt_bytes(size, sizeof(size), t->unique_tokens * bytes), t->unique_tokens * bytes, m->key,
	       bytes);
}

int trace_info_main(int argc, char *const *argv)
{
	const char *path = NULL;
	const char *name = "llama3.1-8b";
	for (int i = 0; i < argc; i++) {
		bool is_model = !strcmp(argv[i], "--model") || !strcmp(argv[i], "-m");
		if (!strcmp(argv[i], "--help") || !strcmp(argv[i], "-h"))
			return help();
		if (is_model && i + 1 == argc)
			return fail_usage("value missing after ", argv[i]);
		if (is_model)
			name = argv[++i];
		else if (!strncmp(argv[i], "--model=", 8))
			name = argv[i] + 8;
		else if (argv[i][0] != '-' && !path)
			path = argv[i];
		else
			return fail_usage("unexpected ", argv[i]);
	}
	if (!path)
		return fail_usage("the trace file is missing", "");
	const struct model *m = model_find(name);
	if (!m)
		return fail_model(name);
	struct error err = {0};
	struct trace_info info;
	if (trace_info_read(path, TRACE_AUTO, &info, &err))
		return fail(&err);
	print(path, &info, m);
	if (!info.bad_rows)
		return EXIT_OK;
	fprintf(stderr, "kv-cache: %" PRIu64 " row%s cannot be used, first: %s\n", info.bad_rows,
		info.bad_rows == 1 ? "" : "s", info.first_bad);
	return EXIT_NOT_VALID;
}
