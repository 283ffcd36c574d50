// SPDX-License-Identifier: Apache-2.0
/* Options of mlpstorage's commands: which groups a command has, and what is refused. */
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"
#include "cmd/cmd.h"

static const char *const level_names[] = {"PLAID",    "LUDICROUS", "RIDICULOUS", "DEBUG",  "VERBOSEST",
					  "VERBOSER", "VERBOSE",   "INFO",	 "STATUS", "WARNING",
					  "RESULT",   "ERROR",	   "CRITICAL",	 NULL};
static const char *const color_names[] = {"auto", "always", "never", NULL};

const char *const cmd_history_statuses[] = {"any",    "running",     "complete", "failed",
					    "interrupted", "what-if", "unknown",  NULL};

#define FIELD(name) .offset = offsetof(struct cmd_universal, name)

/* clang-format off */
static const struct opt every_table[] = {
	{"--results-dir", "-rd", OPT_TEXT, FIELD(results_dir), .meta = "DIR", .flags = OPT_F_SITE | OPT_F_DIR,
	 .help = "root of the run directories; without it mlperf_storage_results in $TMPDIR or /tmp"},
	{"--config-file", "-c", OPT_TEXT, FIELD(config_file), .meta = "FILE", .flags = OPT_F_FILE,
	 .help = "YAML file with values for options that are not typed, as in \"num_users: 50\""},
	{"--quiet", NULL, OPT_FLAG, FIELD(quiet),
	 .help = "no status lines; of a benchmark no progress from the engine either"},
	{"--verbose", NULL, OPT_FLAG, FIELD(verbose),
	 .help = "more messages; of a benchmark the metadata on standard output"},
	{"--debug", NULL, OPT_FLAG, FIELD(debug), .help = "every message"},
	{"--stream-log-level", NULL, OPT_CHOICE, FIELD(stream_log_level), .def = "INFO",
	 .choices = level_names, .meta = "LEVEL", .flags = OPT_F_SITE,
	 .help = "least severe messages to show"},
	{"--color", NULL, OPT_CHOICE, FIELD(color), .def = "auto", .choices = color_names, .meta = "WHEN",
	 .flags = OPT_F_SITE,
	 .help = "colour of messages; auto: on a terminal, unless NO_COLOR is set"},
};

static const struct opt universal_table[] = {
	{"--loops", NULL, OPT_INT, FIELD(loops), .min = 1, .max = 1e6, .def = "1", .meta = "N",
	 .help = "do it this many times, stopping at the first failure"},
	{"--what-if", NULL, OPT_FLAG, FIELD(what_if),
	 .help = "show what would be started, and start nothing"},
	{"--skip-validation", NULL, OPT_FLAG, FIELD(skip_validation),
	 .help = "do not check first whether this machine has room for it"},
	{"--verify-lockfile", NULL, OPT_TEXT, FIELD(verify_lockfile), .meta = "FILE", .flags = OPT_F_FILE,
	 .help = "do nothing unless mlpstorage, kv-cache, glibc and linux have the versions that FILE names, as in \"kv-cache==1.2.3\""},
	{"--open", NULL, OPT_FLAG, FIELD(open),
	 .help = "the run is meant for the open division: recorded, and judged by its rules"},
	{"--closed", NULL, OPT_FLAG, FIELD(closed),
	 .help = "the run is meant for the closed division: refused unless it is one of that division's three"},
	{"--allow-invalid-params", "-aip", OPT_FLAG, FIELD(allow_invalid),
	 .help = "run although the rules of no division allow it; the metadata says INVALID"},
};

static const struct opt program_table[] = {
	{"--kvcache-bin-path", NULL, OPT_TEXT, .offset = offsetof(struct cmd_kvcache, bin_path), .meta = "FILE",
	 .flags = OPT_F_SITE | OPT_F_FILE,
	 .help = "engine to run instead of the kv-cache that comes with mlpstorage; FILE.py is run by python3"},
};

#undef FIELD
#define FIELD(name) .offset = offsetof(struct cmd_cluster, name)

static const struct opt cluster_table[] = {
	{"--skip-cluster-collection", NULL, OPT_FLAG, FIELD(skip),
	 .help = "do not record what the machines of the run are"},
	{"--cluster-collection-timeout", NULL, OPT_INT, FIELD(timeout_s), .min = 1, .max = 3600, .def = "60",
	 .meta = "S", .flags = OPT_F_SITE, .help = "seconds that a host has to be reached, where hosts are asked over ssh"},
	{"--ssh-username", NULL, OPT_TEXT, FIELD(ssh_username), .meta = "NAME",
	 .flags = OPT_F_SITE,
	 .help = "user on the hosts that are asked over ssh; without it the one ssh is configured for"},
	{"--skip-timeseries", NULL, OPT_FLAG, FIELD(skip_series),
	 .help = "do not sample what the machines do during the run"},
	{"--timeseries-interval", NULL, OPT_REAL, FIELD(interval_s), .min = 0.1, .max = 86400, .def = "10",
	 .meta = "S", .help = "seconds between two samples of a machine"},
	{"--max-timeseries-samples", NULL, OPT_INT, FIELD(samples_max), .min = 1, .max = 1e9, .def = "3600",
	 .meta = "N", .help = "samples kept of each machine; later ones are dropped"},
};

#undef FIELD
#define FIELD(name) .offset = offsetof(struct cmd_distributed, name)

static const char *const exec_names[] = {"mpi", "local", "docker", NULL};
static const char *const launcher_names[] = {"mpirun", "mpiexec", NULL};
static const char *const btl_names[] = {"auto", "vader", "tcp", NULL};

static const struct opt distributed_table[] = {
	{"--hosts", "-s", OPT_WORDS, FIELD(hosts), .def = "127.0.0.1", .meta = "HOST",
	 .flags = OPT_F_SITE,
	 .help = "run on these hosts, each \"host\" or \"host:slots\"; when not given, here and without a launcher"},
	{"--exec-type", "-et", OPT_CHOICE, FIELD(exec_type), .choices = exec_names, .def = "mpi", .meta = "KIND",
	 .flags = OPT_F_SITE,
	 .help = "how ranks are started: by an MPI launcher; local and docker start one process here, the hosts are recorded only"},
	{"--num-processes", "-np", OPT_INT, FIELD(num_processes), .min = 1, .max = LAUNCH_RANKS_MAX, .meta = "N",
	 .flags = OPT_F_UNSET_NULL, .help = "ranks in all; by default one for each host"},
	{"--npernode", "--num-processes-per-client", OPT_INT, FIELD(npernode), .min = 1, .max = LAUNCH_SLOTS_MAX,
	 .meta = "K", .flags = OPT_F_UNSET_NULL, .help = "ranks on each host"},
	{"--stop-timeout", NULL, OPT_INT, FIELD(stop_timeout_s), .min = 1, .max = 3600, .def = "10", .meta = "S",
	 .help = "seconds that ranks have to end in good order when the run is stopped; then they are terminated"},
};

static const struct opt launcher_table[] = {
	{"--mpi-bin", NULL, OPT_CHOICE, FIELD(mpi_bin), .choices = launcher_names, .def = "mpirun", .meta = "NAME",
	 .flags = OPT_F_SITE,
	 .help = "launcher; MPI_RUN_BIN or MPI_EXEC_BIN in the environment name another program for it"},
	{"--mpi-btl", NULL, OPT_CHOICE, FIELD(mpi_btl), .choices = btl_names, .def = "auto", .meta = "NAME",
	 .flags = OPT_F_SITE,
	 .help = "transport of Open MPI on a single host"},
	{"--oversubscribe", NULL, OPT_FLAG, FIELD(oversubscribe), .flags = OPT_F_SITE,
	 .help = "more ranks than processors are fine (Open MPI)"},
	{"--allow-run-as-root", NULL, OPT_FLAG, FIELD(allow_run_as_root), .flags = OPT_F_SITE,
	 .help = "let the launcher run as root (Open MPI)"},
	{"--mpi-params", NULL, OPT_ARGS, FIELD(mpi_params), .meta = "WORD",
	 .flags = OPT_F_SITE,
	 .help = "words for the launcher, up to the next option of this program; one word in quotes is split as a shell would; may be repeated"},
};

#undef FIELD
#define FIELD(name) .offset = offsetof(struct cmd_history, name), .flags = OPT_F_TYPED

#define LIMIT_ROW(text) \
	{"--limit", "-n", OPT_INT, FIELD(limit), .def = "0", .meta = "N", .help = text}

static const struct opt list_table[] = {
	LIMIT_ROW("show the newest N; 0: all"),
	{"--json", NULL, OPT_FLAG, FIELD(json), .help = "an array of objects in place of the table"},
	{"--benchmark", NULL, OPT_TEXT, FIELD(benchmark), .meta = "NAME", .help = "only runs of this benchmark, as in kv_cache"},
	{"--model", "-m", OPT_TEXT, FIELD(model), .meta = "NAME", .help = "only runs of this model"},
	{"--command", NULL, OPT_TEXT, FIELD(command), .meta = "NAME", .help = "only runs of this command, as in run"},
	{"--status", NULL, OPT_CHOICE, FIELD(status), .def = "any", .choices = cmd_history_statuses, .meta = "STATE",
	 .help = "only runs in this state"},
	{"--since", NULL, OPT_TEXT, FIELD(since), .meta = "TIME",
	 .help = "only runs that started then or later: 2026-01-31, 2026-01-31T12:00:00, or an age as 30m, 12h, 7d, 2w"},
};

static const struct opt show_table[] = {
	LIMIT_ROW("the last N command lines; 0: all"),
	{"--id", "-i", OPT_INT, FIELD(id), .min = 1, .max = 1e15, .meta = "ID", .help = "the command line of this run"},
};

static const struct opt rerun_table[] = {
	{"--what-if", NULL, OPT_FLAG, .offset = offsetof(struct cmd_universal, what_if), .flags = OPT_F_TYPED,
	 .help = "show what would be started, and start nothing"},
};
/* clang-format on */

#define ROWS(rows, member) (rows), ARRAY_LEN(rows), offsetof(struct cmd_invocation, member)

/* Our own groups in the order of help, and what they fill. */
static const struct {
	unsigned group; /* enum cmd_group */
	const char *title;
	const struct opt *opts;
	size_t count;
	size_t target; /* into struct cmd_invocation */
} tables[] = {
	{CMD_GROUP_PROGRAM, "Program", ROWS(program_table, kvcache)},
	{CMD_GROUP_CLUSTER, "Cluster information", ROWS(cluster_table, cluster)},
	{CMD_GROUP_DISTRIBUTED, "Distributed execution", ROWS(distributed_table, distributed)},
	{CMD_GROUP_DISTRIBUTED, "MPI launcher", ROWS(launcher_table, distributed)},
	{CMD_GROUP_LIST, "Which runs", ROWS(list_table, history)},
	{CMD_GROUP_SHOW, "Which runs", ROWS(show_table, history)},
	{CMD_GROUP_RERUN, "This time", ROWS(rerun_table, universal)},
	{CMD_GROUP_UNIVERSAL, "Every benchmark", ROWS(universal_table, universal)},
	{CMD_GROUP_EVERY, "Every command", ROWS(every_table, universal)},
};

/* Rows of kv-cache's table that say how large things are. */
static const char *const size_rows[] = {"--model",      "--num-users", "--gpu-mem-gb",
					"--cpu-mem-gb", "--cache-dir", "--config"};

/* Where an option of the engine acts differently when this program starts it, its help says so. */
static const struct {
	const char *name;
	const char *help;
} other_help[] = {
	{"--cache-dir",
	 "directory of the storage tier; by default kvcache_data in the run directory, which a run removes again"},
	{"--output", "copy the result file here too; it always stands in the run directory"},
};

/*
 * Names that exist in other versions of this program. They are never taken for something else and
 * never ignored. The options are those of a run.
 */
static const char *const refused_options[] = {"--enable-rag", "--rag-num-docs", "--enable-autoscaling",
					      "--autoscaler-mode"};

static const char *const refused_commands[] = {"training", "checkpointing", "vectordb",
					       "reports",  "lockfile",
					       "closed",   "open",          "whatif"};

bool cmd_is_refused(const char *name)
{
	return str_is_among(name, refused_commands, ARRAY_LEN(refused_commands));
}

static bool has_refused(const struct cmd_invocation *inv)
{
	return inv->command->groups & CMD_GROUP_PROGRAM;
}

/* The refused option of a word "--name" or "--name=value", NULL when it is none. */
static const char *find_refused(const char *word)
{
	size_t len = strcspn(word, "=");
	for (size_t i = 0; i < ARRAY_LEN(refused_options); i++)
		if (strlen(refused_options[i]) == len && !memcmp(refused_options[i], word, len))
			return refused_options[i];
	return NULL;
}

enum cmd_name cmd_options_lookup(const struct cmd_invocation *inv, const char *name)
{
	const struct opt_set engine = {.groups = &inv->engine_all, .count = 1};
	const struct opt_group *group;
	size_t index;
	if (opt_find(&inv->set, name, &group, &index))
		return group->opts[index].flags & OPT_F_TYPED ? CMD_NAME_ELSEWHERE : CMD_NAME_OURS;
	bool is_refused = find_refused(name);
	if (is_refused && has_refused(inv))
		return CMD_NAME_REFUSED;
	bool is_known = is_refused || opt_find(&engine, name, &group, &index);
	for (size_t i = 0; !is_known && i < ARRAY_LEN(tables); i++)
		for (size_t k = 0; !is_known && k < tables[i].count; k++)
			is_known = !strcmp(tables[i].opts[k].name, name);
	return is_known ? CMD_NAME_ELSEWHERE : CMD_NAME_UNKNOWN;
}

static bool is_size_row(const struct opt *opt)
{
	return str_is_among(opt->name, size_rows, ARRAY_LEN(size_rows));
}

/* By these this program talks to the engine; nobody else types them. */
static bool is_between_us(const struct opt *opt)
{
	static const char *const names[] = {"--frames", "--host-series-interval", "--require-space"};
	return str_is_among(opt->name, names, ARRAY_LEN(names));
}

/* A row of ours takes the place of the engine's of the same name (--quiet). */
static bool is_universal_row(const struct opt *opt)
{
	for (size_t i = 0; i < ARRAY_LEN(every_table); i++)
		if (!strcmp(opt->name, every_table[i].name))
			return true;
	return false;
}

static int group_init(struct opt_group *group, const char *title, const struct opt *opts,
		      size_t count, void *target)
{
	group->source = calloc(count, 1);
	if (!group->source)
		return -ENOMEM;
	group->title = title;
	group->opts = opts;
	group->count = count;
	group->target = target;
	return 0;
}

static struct opt adapt_row(const struct opt *row)
{
	struct opt adapted = *row;
	for (size_t i = 0; i < ARRAY_LEN(other_help); i++)
		if (!strcmp(row->name, other_help[i].name))
			adapted.help = other_help[i].help;
	return adapted;
}

/* The engine's rows that this command takes, copied out of the whole table. */
static int select_engine_rows(struct cmd_invocation *inv)
{
	const struct opt_group *all = &inv->engine_all;
	struct opt *rows = calloc(all->count, sizeof(*rows));
	if (!rows)
		return -ENOMEM;
	size_t count = 0;
	const char *heading = NULL;
	for (size_t i = 0; i < all->count; i++) {
		if (all->opts[i].heading)
			heading = all->opts[i].heading;
		if (is_universal_row(&all->opts[i]) || is_between_us(&all->opts[i]) ||
		    (inv->command->groups & CMD_GROUP_SIZE && !is_size_row(&all->opts[i])))
			continue;
		rows[count] = adapt_row(&all->opts[i]);
		rows[count++].heading = heading;
		heading = NULL;
	}
	inv->engine.opts = rows;
	return group_init(&inv->engine, "KV cache", rows, count, &inv->config.opt);
}

static int groups_init(struct cmd_invocation *inv)
{
	unsigned groups = inv->command->groups;
	struct opt_group *g = inv->groups;
	int rc = 0;
	if (groups & (CMD_GROUP_ENGINE | CMD_GROUP_SIZE)) {
		rc = select_engine_rows(inv);
		*g++ = inv->engine;
	}
	for (size_t i = 0; !rc && i < ARRAY_LEN(tables); i++)
		if (groups & tables[i].group)
			rc = group_init(g++, tables[i].title, tables[i].opts, tables[i].count,
					(char *)inv + tables[i].target);
	inv->set = (struct opt_set){.groups = inv->groups, .count = (size_t)(g - inv->groups)};
	return rc;
}

/* Defaults of a group that is not the engine's: that one's are set through engine_all. */
static int set_defaults(struct cmd_invocation *inv)
{
	struct opt_set all = {.groups = &inv->engine_all, .count = 1};
	int rc = opt_defaults(&all);
	for (size_t i = 0; !rc && i < inv->set.count; i++) {
		struct opt_set one = {.groups = &inv->groups[i], .count = 1};
		if (inv->groups[i].target != &inv->config.opt)
			rc = opt_defaults(&one);
	}
	return rc;
}

int cmd_options_init(struct cmd_invocation *inv)
{
	size_t count;
	const struct opt *table = config_option_table(&count);
	int rc = group_init(&inv->engine_all, "", table, count, &inv->config.opt);
	if (!rc)
		rc = groups_init(inv);
	return rc ? rc : set_defaults(inv);
}

void cmd_options_release(struct cmd_invocation *inv)
{
	config_release(&inv->config);
	strlist_release(&inv->division.issues);
	cmd_job_release(&inv->job);
	for (size_t i = 0; i < inv->set.count; i++) {
		struct opt_set one = {.groups = &inv->groups[i], .count = 1};
		if (inv->groups[i].target != &inv->config.opt)
			opt_release(&one);
		free(inv->groups[i].source);
	}
	free(inv->word);
	free((void *)inv->engine.opts);
	free(inv->engine_all.source);
}

/* Names that are not in this version are reported and taken out with the words that belong to them.
 */
static int take_refused(const struct cmd_invocation *inv, int argc, char *const *argv,
			struct strlist *rest, struct problems *problems)
{
	int rc = 0;
	bool is_taking = false;
	for (int i = 0; !rc && i < argc; i++) {
		const char *name = has_refused(inv) ? find_refused(argv[i]) : NULL;
		is_taking = name || (is_taking && argv[i][0] != '-');
		if (name)
			rc = problems_add(problems, ERR_UNSUPPORTED, "%s: not in this version", name);
		else if (!is_taking)
			rc = strlist_add(rest, argv[i]);
	}
	return rc;
}

/* Does an option stand there whose value is the next word? */
static bool takes_next(const struct opt_set *set, const char *word)
{
	const struct opt_group *group;
	size_t index;
	return word[0] == '-' && !strchr(word, '=') && opt_find(set, word, &group, &index) &&
	       group->opts[index].type != OPT_FLAG;
}

/* The one word that is no option and no value of one is taken out; a second is left, for opt_parse() to refuse. */
static void take_own_word(struct cmd_invocation *inv, struct strlist *words)
{
	size_t kept = 0;
	for (size_t i = 0; inv->command->word && i < words->count; i++) {
		bool is_value = i && takes_next(&inv->set, words->v[i - 1]);
		if (inv->word || is_value || words->v[i][0] == '-') {
			words->v[kept++] = words->v[i];
			continue;
		}
		inv->word = words->v[i];
	}
	if (inv->word) {
		words->count = kept;
		words->v[kept] = NULL;
	}
}

static int fill_results_dir(struct cmd_universal *u)
{
	if (u->results_dir)
		return 0;
	const char *tmp = getenv("TMPDIR");
	u->results_dir = path_join(tmp && *tmp ? tmp : "/tmp", "mlperf_storage_results");
	return u->results_dir ? 0 : -ENOMEM;
}

int cmd_options_parse(struct cmd_invocation *inv, int argc, char *const *argv,
		      struct problems *problems, bool *help)
{
	struct strlist rest = {0};
	*help = false;
	int rc = take_refused(inv, argc, argv, &rest, problems);
	if (!rc)
		take_own_word(inv, &rest);
	if (!rc)
		rc = opt_parse(&inv->set, (int)rest.count, rest.v, problems, help);
	strlist_release(&rest);
	if (rc || *help)
		return rc;
	rc = cmd_layers_apply(inv, problems);
	return rc ? rc : fill_results_dir(&inv->universal);
}

void cmd_log_init(const struct cmd_universal *u)
{
	enum log_level level = LOG_INFO;
	if (u)
		log_level_parse(level_names[u->stream_log_level], &level);
	if (u && u->quiet)
		level = LOG_WARNING;
	if (u && u->verbose)
		level = LOG_VERBOSE;
	if (u && u->debug)
		level = LOG_DEBUG;
	log_init(LOG_FORMAT_CONTROL, level, !u || u->color == CMD_COLOR_AUTO ? log_wants_color() : u->color == CMD_COLOR_ALWAYS);
}
