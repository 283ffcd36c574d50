// SPDX-License-Identifier: Apache-2.0
/*
 * mlpstorage: the front door. It records and starts; the measuring is done by another program,
 * kv-cache.
 *
 *      main ----------- finds the command (commands.c), reads its options (options.c, layers.c,
 *       |               config/opt.h)
 *       |
 *       +- kvcache_run.c ------ config/   are these options a possible run?
 *       |                       launch/   where the engine is; its argument vector, process and output
 *       |                       cluster/  facts of the machines
 *       |                       record/   the run directory, the metadata, the numbers of the result
 *       |
 *       +- kvcache_datasize.c - config/, model/  how large the KV cache of a workload is
 *       |
 *       +- history.c ---------- record/  the list of runs
 *
 * Every message goes through report.c and base/log. Exit codes: base/err.h.
 */
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "cmd/cmd.h"

static bool is_help(const char *word)
{
	return !strcmp(word, "-h") || !strcmp(word, "--help");
}

static void help_top(FILE *out)
{
	fputs("usage: mlpstorage BENCHMARK COMMAND [OPTIONS]\n\nBenchmarks:\n", out);
	for (const struct cmd_program *p = cmd_programs; p->name; p++)
		fprintf(out, "  %-12s %s\n", p->name, p->help);
	fputs("\nOptions:\n  -h, --help   this text; also behind a benchmark and behind a command\n"
	      "  --version    name and version\n",
	      out);
}

static void help_program(FILE *out, const char *program)
{
	fprintf(out, "usage: mlpstorage %s COMMAND [OPTIONS]\n\nCommands:\n", program);
	for (const struct cmd_command *c = cmd_commands; c->name; c++)
		if (!strcmp(c->program, program))
			fprintf(out, "  %-12s %s\n", c->name, c->help);
	fprintf(out, "\n'mlpstorage %s COMMAND --help' lists the options of a command.\n", program);
}

static void help_command(FILE *out, const struct cmd_invocation *inv)
{
	const struct cmd_command *c = inv->command;
	fprintf(out, "usage: mlpstorage %s %s%s%s [OPTIONS]\n\n%s\n\n", c->program, c->name,
		c->word ? " " : "", c->word ? c->word : "", c->help);
	opt_help(&inv->set, out);
}

static const struct cmd_command *find_command(const char *program, const char *name)
{
	for (const struct cmd_command *c = cmd_commands; c->name; c++)
		if (!strcmp(c->program, program) && !strcmp(c->name, name))
			return c;
	return NULL;
}

static bool is_program(const char *name)
{
	for (const struct cmd_program *p = cmd_programs; p->name; p++)
		if (!strcmp(p->name, name))
			return true;
	return false;
}

/* A word where a benchmark or a command should stand. */
static int refuse_word(const char *word, const char *what, const char *program)
{
	struct error err = {0};
	if (cmd_is_refused(word))
		error_set(&err, 0, ERR_UNSUPPORTED, "%s: not in this version", word);
	else
		error_set(&err, 0, ERR_CONFIG_INVALID, "%s: no such %s", word, what);
	error_hint(&err, "'mlpstorage%s%s --help' lists what there is", *program ? " " : "",
		   program);
	return cmd_report(&err);
}

static int run_loops(struct cmd_invocation *inv)
{
	int code = EXIT_OK;
	int64_t loops = inv->command->groups & CMD_GROUP_UNIVERSAL ? inv->universal.loops : 1;
	for (int64_t i = 0; code == EXIT_OK && i < loops; i++) {
		if (loops > 1)
			log_status("Loop %d of %d", (int)i + 1, (int)loops);
		code = inv->command->run(inv);
	}
	return code;
}

static int report_usage(const struct cmd_invocation *inv, const struct problems *problems)
{
	int code = cmd_report_all(problems);
	log_error("see 'mlpstorage %s %s --help'", inv->command->program, inv->command->name);
	return code;
}

/* Everything of one command: options, help, then the work. */
static int invoke(struct cmd_invocation *inv, int argc, char **argv)
{
	struct problems problems = {0};
	bool help = false;
	int code;
	int rc = cmd_options_init(inv);
	if (!rc)
		rc = cmd_options_parse(inv, argc, argv, &problems, &help);
	if (!rc && !help)
		rc = inv->command->check(inv, &problems);
	if (rc) {
		code = cmd_report_memory();
	} else if (help) {
		help_command(stdout, inv);
		code = EXIT_OK;
	} else {
		cmd_log_init(&inv->universal);
		cmd_layers_log(inv);
		code = problems.count ? report_usage(inv, &problems) : run_loops(inv);
	}
	problems_release(&problems);
	cmd_options_release(inv);
	return code;
}

static int run_command(const struct cmd_command *command, int argc, char **argv)
{
	CLEANUP_STR struct str line = {0};
	CLEANUP_FREE struct cmd_invocation *inv = calloc(1, sizeof(*inv));
	for (int i = 0; i < argc; i++) {
		str_add(&line, i ? " " : "");
		str_add_quoted(&line, argv[i]);
	}
	if (!inv || line.rc)
		return cmd_report_memory();
	inv->command = command;
	inv->command_line = str_text(&line);
	inv->argv = argv;
	return invoke(inv, argc - 3, argv + 3);
}

static int dispatch(int argc, char **argv)
{
	if (argc == 1) {
		help_top(stderr);
		return EXIT_NOT_VALID;
	}
	if (is_help(argv[1])) {
		help_top(stdout);
		return EXIT_OK;
	}
	if (!is_program(argv[1]))
		return refuse_word(argv[1], argv[1][0] == '-' ? "option" : "benchmark", "");
	if (argc == 2 || is_help(argv[2])) {
		help_program(argc == 2 ? stderr : stdout, argv[1]);
		return argc == 2 ? EXIT_NOT_VALID : EXIT_OK;
	}
	const struct cmd_command *command = find_command(argv[1], argv[2]);
	if (!command)
		return refuse_word(argv[2], argv[2][0] == '-' ? "option" : "command", argv[1]);
	return run_command(command, argc, argv);
}

static bool wants_version(int argc, char **argv)
{
	for (int i = 1; i < argc; i++)
		if (!strcmp(argv[i], "--version"))
			return true;
	return false;
}

int main(int argc, char **argv)
{
	int code = EXIT_OK;
	cmd_log_init(NULL);
	if (wants_version(argc, argv))
		puts("mlpstorage " MLPSTORAGE_VERSION);
	else
		code = dispatch(argc, argv);
	return cmd_report_stdout(code);
}
