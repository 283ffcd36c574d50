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
 *     ranks_...() between all these   comm/      ranks: they agree, start together, and are pooled
 *                                     base/      everything everybody uses
 */
#include "engine/ranks.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"

/* Of many that were started together, one answers. */
static bool is_spokesman(void)
{
	struct comm_launcher launcher;
	comm_launcher_read(&launcher);
	return !launcher.rank;
}

static void version(void)
{
	char library[128];
	comm_library_name(library, sizeof(library));
	if (is_spokesman())
		printf("kv-cache " ENGINE_VERSION "%s%s\n", *library ? ", " : "", library);
}

static int help(const struct opt_set *set)
{
	if (!is_spokesman())
		return EXIT_OK;
	fputs("usage: kv-cache [OPTIONS]\n"
	      "       kv-cache trace-info [--model NAME] FILE\n"
	      "       kv-cache --version\n\n"
	      "Measure how storage serves the KV cache of language models: users ask, entries move between memory\n"
	      "and files, and what moved inside the measured window is reported.\n\n",
	      stdout);
	opt_help(set, stdout);
	fputs("\nExit codes: 0 valid result, 1 ran but the result is not valid, 2 usage, 3 environment,\n"
	      "6 another rank did not answer, 8 interrupted (a partial result was written).\n",
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

/* What this rank alone cannot do becomes a problem that all ranks hear of. */
static int open_all(struct engine *e)
{
	struct error err = {0};
	struct problems problems = {0};
	uint64_t begin = clock_mono_ns();
	if (engine_open(e, &err))
		(void)problems_add_error(&problems, &err);
	/* Others may have ten times as much to touch and to remove. */
	int code = ranks_agree(e, &problems, 10 * (clock_mono_ns() - begin));
	problems_release(&problems);
	return code ? code : ranks_ready(e);
}

static int run_checked(struct engine *e)
{
	int code = open_all(e);
	if (code) {
		engine_release(e, false);
		return code;
	}
	announce(e);
	struct watch watch = {0};
	bool goes_on = watch_fill(e, &watch);
	code = ranks_start(e, &goes_on);
	if (!code && goes_on)
		watch_run(e, &watch);
	if (!code)
		code = report_run(e, &watch);
	e->is_stuck = runner_is_stuck(e->runner);
	if (e->is_stuck)
		log_error("I/O is still in flight: leaving without waiting for it, and without cleaning up%s%s",
			  e->is_file_backend ? " in " : "", e->is_file_backend ? e->storage.path : "");
	else
		engine_release(e, true);
	return code;
}

static int check_and_run(struct engine *e, struct problems *problems)
{
	struct error err = {0};
	int code = ranks_agree(e, problems, 0); /* about the command line, as yet */
	if (code)
		return code;
	int rc = strlist_copy(&e->notices, &e->cfg->notices);
	if (!rc)
		rc = engine_check(e, problems, &err);
	if (rc && err.code)
		code = ranks_fail(e, rc, &err);
	else if (rc)
		(void)problems_add(problems, ERR_INTERNAL, "cannot check the machine: %s", strerror(-rc));
	if (!code)
		code = ranks_agree(e, problems, 0);
	if (!code)
		return run_checked(e);
	engine_release(e, false);
	return code;
}

static int run(struct config *cfg, const struct opt_group *options, struct problems *problems)
{
	static const enum log_level levels[] = {LOG_DEBUG, LOG_INFO, LOG_WARNING, LOG_ERROR, LOG_CRITICAL};
	struct engine e = {.cfg = cfg, .options = options, .storage = {.dirfd = -1}};
	struct error err = {0};
	watch_setup();
	if (comm_open(&e.comm, &err)) {
		if (is_spokesman())
			fprintf(stderr, "kv-cache: %s\n  %s\n", err.message, err.hint);
		return EXIT_ENVIRONMENT;
	}
	int rank = comm_rank(e.comm);
	log_init(LOG_FORMAT_ENGINE, rank ? LOG_CRITICAL : cfg->opt.quiet ? LOG_ERROR : levels[cfg->opt.log_level],
		 log_wants_color());
	int code = check_and_run(&e, problems);
	fflush(stdout);
	comm_close(e.comm, code);
	/* Buffers that the kernel may still write into go with the process and not before. */
	if (e.is_stuck)
		_exit(code);
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
	} else {
		code = run(&cfg, &group, &problems);
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
		version();
	else
		code = measure(argc, argv);
	int rc = file_flush_stdout();
	if (!rc)
		return code;
	fprintf(stderr, "kv-cache: cannot write to standard output: %s\n", strerror(-rc));
	return code ? code : EXIT_ENVIRONMENT;
}
