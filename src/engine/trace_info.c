// SPDX-License-Identifier: Apache-2.0
/* kv-cache trace-info: what a trace holds, without any I/O elsewhere. */
#include "engine/engine.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static int usage(FILE *out, int code)
{
	fputs("usage: kv-cache trace-info [--model NAME] FILE\n\n"
	      "Print the requests, tokens, blocks and reuse of a trace (Mooncake JSONL; .gz and .zst too),\n"
	      "and the working set in bytes for a model (default llama3.1-8b).\n",
	      out);
	return code;
}

static int fail(const struct error *err)
{
	fprintf(stderr, "kv-cache: %s\n", err->message);
	if (err->hint[0])
		fprintf(stderr, "  %s\n", err->hint);
	return err_exit_code(err->code);
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
			return usage(stdout, EXIT_OK);
		if (is_model && i + 1 < argc)
			name = argv[++i];
		else if (!strncmp(argv[i], "--model=", 8))
			name = argv[i] + 8;
		else if (argv[i][0] != '-' && !path)
			path = argv[i];
		else
			return usage(stderr, EXIT_USAGE);
	}
	if (!path)
		return usage(stderr, EXIT_USAGE);
	struct error err = {0};
	const struct model *m = model_find(name);
	if (!m) {
		error_set(&err, -EINVAL, ERR_CONFIG_INVALID, "--model: unknown model '%s'", name);
		return fail(&err);
	}
	struct trace_info info;
	if (trace_info_read(path, TRACE_AUTO, &info, &err))
		return fail(&err);
	print(path, &info, m);
	if (!info.bad_rows)
		return EXIT_OK;
	fprintf(stderr, "kv-cache: %" PRIu64 " rows cannot be used, first: %s\n", info.bad_rows,
		info.first_bad);
	return EXIT_NOT_VALID;
}
