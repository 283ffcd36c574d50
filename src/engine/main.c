// SPDX-License-Identifier: Apache-2.0
/*
 * kv-cache: one rank of the KV-cache storage benchmark. A map of the house:
 *
 *   main()
 *     opt_parse(), config_load()      config/    options, YAML, workload description; model/ sizes
 *     engine_check()                  engine/    what can be refused before anything is created
 *                                     cluster/   memory, file system, device of this machine
 *     engine_open()                   workload/  who asks for what, and when
 *                                     tier/      ram, file, null, model; io/ uring, threads
 *                                     cache/     which entry is where; payload/ what is in it
 *     watch_run() -> runner/          runner/    admission, request programs, the chunk loop, the window
 *                                     metrics/   counters and histograms, one set per worker
 *     report_run()                    result/    JSON and text
 *                                     comm/      ranks; base/ everything everybody uses
 */
#include "engine/engine.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"

static void print_problems(const struct problems *problems)
{
	for (size_t i = 0; i < problems->count; i++) {
		fprintf(stderr, "kv-cache: %s\n", problems->list[i].message);
		if (problems->list[i].hint[0])
			fprintf(stderr, "  %s\n", problems->list[i].hint);
	}
}

static int exit_with_problems(const struct problems *problems)
{
	print_problems(problems);
	/* What is wrong with the command line comes before what is wrong with the machine. */
	int code = err_exit_code(problems->list[0].code);
	for (size_t i = 1; i < problems->count; i++)
		if (err_exit_code(problems->list[i].code) == EXIT_USAGE)
			code = EXIT_USAGE;
	if (code == EXIT_USAGE)
		fputs("Try 'kv-cache --help'.\n", stderr);
	return code;
}

static int help(const struct opt_set *set)
{
	fputs("usage: kv-cache [OPTIONS]\n"
	      "       kv-cache trace-info [--model NAME] FILE\n"
	      "       kv-cache --version\n\n"
	      "Measure how storage serves the KV cache of language models: users ask, entries move between memory\n"
	      "and files, and what moved inside the measured window is reported.\n\n",
	      stdout);
	opt_help(set, stdout);
	fputs("\nExit codes: 0 valid result, 1 ran but the result is not valid, 2 usage, 3 environment,\n"
	      "8 interrupted (a partial result was written).\n",
	      stdout);
	return EXIT_OK;
}

static void announce(const struct engine *e)
{
	char predicted[32], ram[32];
	for (size_t i = 0; i < e->notices.count; i++)
		log_warning("%s", e->notices.v[i]);
	log_info("memory: %s expected at peak, of it %s RAM tier",
		 fmt_bytes(predicted, sizeof(predicted), e->predicted_bytes),
		 fmt_bytes(ram, sizeof(ram), e->ram_bytes));
	log_info("workload fingerprint 0x%016" PRIx64 ", seed %" PRIu64 "%s", workload_fingerprint(e->workload),
		 e->seed, e->seed_was_drawn ? " (drawn)" : "");
	if (e->is_file_backend)
		log_info("storage tier: %s, %s, %s, %.2f GiB", e->storage.path, e->storage.fs.type,
			 e->storage.is_direct ? "direct" : "buffered",
			 (double)e->storage.limit_bytes / ENGINE_GIB);
}

static int run_checked(struct engine *e)
{
	struct error err = {0};
	int rc = engine_open(e, &err);
	if (rc) {
		fprintf(stderr, "kv-cache: %s\n", err.message);
		if (err.hint[0])
			fprintf(stderr, "  %s\n", err.hint);
		engine_release(e, false);
		return err_exit_code(err.code);
	}
	announce(e);
	struct watch watch = {0};
	if (watch_fill(e, &watch))
		watch_run(e, &watch);
	int code = report_run(e, &watch);
	e->is_stuck = runner_is_stuck(e->runner);
	if (e->is_stuck)
		log_error("I/O is still in flight: leaving without waiting for it, and without cleaning up%s%s",
			  e->is_file_backend ? " in " : "", e->is_file_backend ? e->storage.path : "");
	else
		engine_release(e, true);
	return code;
}

static int run(struct config *cfg, const struct opt_group *options)
{
	static const enum log_level levels[] = {LOG_DEBUG, LOG_INFO, LOG_WARNING, LOG_ERROR, LOG_CRITICAL};
	log_init(LOG_FORMAT_ENGINE, cfg->opt.quiet ? LOG_ERROR : levels[cfg->opt.log_level],
		 isatty(STDERR_FILENO) && !getenv("NO_COLOR"));
	watch_setup();
	struct engine e = {.cfg = cfg, .options = options};
	struct problems problems = {0};
	struct error err = {0};
	if (comm_open(&e.comm, &err)) {
		fprintf(stderr, "kv-cache: %s\n", err.message);
		return EXIT_ENVIRONMENT;
	}
	int rc = strlist_copy(&e.notices, &cfg->notices);
	if (!rc)
		rc = engine_check(&e, &problems);
	int code;
	if (rc || problems.count) {
		if (rc)
			problems_add(&problems, ERR_INTERNAL, "cannot check the machine: %s", strerror(-rc));
		code = exit_with_problems(&problems);
		engine_release(&e, false);
	} else {
		code = run_checked(&e);
	}
	problems_release(&problems);
	comm_close(e.comm, code);
	/* Buffers that the kernel may still write into go with the process and not before. */
	if (e.is_stuck) {
		fflush(stdout);
		_exit(code);
	}
	return code;
}

static int measure(int argc, char **argv)
{
	size_t count;
	struct config cfg = {0};
	const struct opt *table = config_option_table(&count);
	CLEANUP_FREE unsigned char *source = calloc(count, 1);
	struct opt_group group = {.title = "Options", .opts = table, .count = count, .target = &cfg.opt,
				  .source = source};
	struct opt_set set = {.groups = &group, .count = 1};
	struct problems problems = {0};
	bool wants_help = false;
	int rc = source ? opt_defaults(&set) : -ENOMEM;
	if (!rc)
		rc = opt_parse(&set, argc - 1, argv + 1, &problems, &wants_help);
	if (!rc && !wants_help)
		rc = config_load(&group, &cfg, &problems);
	int code;
	if (rc) {
		fprintf(stderr, "kv-cache: %s\n", strerror(-rc));
		code = EXIT_ENVIRONMENT;
	} else if (wants_help) {
		code = help(&set);
	} else if (problems.count) {
		code = exit_with_problems(&problems);
	} else {
		code = run(&cfg, &group);
	}
	problems_release(&problems);
	config_release(&cfg);
	opt_release(&set);
	return code;
}

int main(int argc, char **argv)
{
	int code = EXIT_OK;
	if (argc > 1 && !strcmp(argv[1], "trace-info"))
		code = trace_info_main(argc - 2, argv + 2);
	else if (argc > 1 && !strcmp(argv[1], "--version"))
		printf("kv-cache %s\n", ENGINE_VERSION);
	else
		code = measure(argc, argv);
	int rc = file_flush_stdout();
	if (!rc)
		return code;
	fprintf(stderr, "kv-cache: cannot write to standard output: %s\n", strerror(-rc));
	return code ? code : EXIT_ENVIRONMENT;
}
