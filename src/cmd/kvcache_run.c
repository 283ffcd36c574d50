// SPDX-License-Identifier: Apache-2.0
/* mlpstorage kvcache run: find the engine, start it, and keep what it says. */
#include <fcntl.h>
#include <ftw.h>
#include <inttypes.h>
#include <math.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"
#include "cmd/cmd.h"
#include "cmd/kvcache_ranks.h"
#include "cmd/validate.h"
#include "launch/launch.h"

enum { RUN_STAGES = 4, RESULT_FILE_MAX = 1 << 30, LOG_FILE_MAX = 64 << 20 };

/* One run from its options to its record. */
struct kvcache_run {
	struct cmd_invocation *inv;
	struct launch_program engine;
	struct record *record;
	struct kvcache_cluster cluster;
	struct kvcache_ranks ranks; /* of a distributed run */
	json_t *aggregate;	    /* of all ranks; NULL in a local run */
	char *cache_dir;
	char *result_path, *stdout_path, *stderr_path;
	struct strlist argv;
	struct str command; /* argv as text */
	struct launch_result ended;
};

static void run_release(struct kvcache_run *run)
{
	launch_program_release(&run->engine);
	kvcache_ranks_release(&run->ranks);
	json_decref(run->aggregate);
	kvcache_cluster_release(&run->cluster);
	record_free(run->record);
	free(run->cache_dir);
	free(run->result_path);
	free(run->stdout_path);
	free(run->stderr_path);
	strlist_release(&run->argv);
	str_release(&run->command);
}

/* Options that lead the engine's command line, in the order that other tools know. */
static const char *const leading[] = {
	"--model",      "--num-users",       "--duration",           "--gpu-mem-gb",
	"--cpu-mem-gb", "--generation-mode", "--performance-profile"};

/* Options that this program decides; a given value has been seen to elsewhere. */
static const char *const decided[] = {"--cache-dir", "--output"};

static int add_leading(const struct opt_group *group, struct strlist *argv)
{
	struct opt_set set = {.groups = group, .count = 1};
	int rc = 0;
	for (size_t i = 0; !rc && i < ARRAY_LEN(leading); i++) {
		const struct opt_group *found;
		size_t index;
		if (opt_find(&set, leading[i], &found, &index))
			rc = opt_to_argv(found, index, argv);
	}
	return rc;
}

static int add_others(const struct opt_group *group, struct strlist *argv)
{
	int rc = 0;
	for (size_t i = 0; !rc && i < group->count; i++) {
		const char *name = group->opts[i].name;
		if (group->source[i] != OPT_FROM_DEFAULT &&
		    !str_is_among(name, leading, ARRAY_LEN(leading)) &&
		    !str_is_among(name, decided, ARRAY_LEN(decided)))
			rc = opt_to_argv(group, i, argv);
	}
	return rc;
}

static int add_pair(struct strlist *argv, const char *name, const char *value)
{
	int rc = strlist_add(argv, name);
	return rc ? rc : strlist_add(argv, value);
}

/* The engine's standard error is a pipe, so that it cannot see that a person looks at it. */
static bool shows_live(const struct kvcache_run *run)
{
	const struct cmd_invocation *inv = run->inv;
	return cmd_is_terminal() && run->engine.is_ours && !inv->universal.quiet && !inv->universal.what_if &&
	       !opt_given(&inv->set, "--progress");
}

/* A directory of ours on hosts where only the ranks can remove it. */
static bool must_clean_up(const struct config_options *o)
{
	return !o->cache_dir && !o->cleanup && !o->simulate && o->storage_backend == BACKEND_FILE;
}

static int build_argv(struct kvcache_run *run)
{
	const struct opt_group *options = &run->inv->engine;
	struct strlist *argv = &run->argv;
	bool is_job = run->inv->job.is_distributed;
	int rc = is_job ? cmd_job_prefix(run->inv, &run->engine, argv) : strlist_copy(argv, &run->engine.argv);
	if (!rc)
		rc = add_leading(options, argv);
	if (!rc)
		rc = add_pair(argv, "--cache-dir", run->cache_dir);
	if (!rc)
		rc = is_job ? strlist_add(argv, "--frames") : add_pair(argv, "--output", run->result_path);
	if (!rc && is_job && must_clean_up(&run->inv->config.opt))
		rc = strlist_add(argv, "--cleanup");
	if (!rc && is_job && run->inv->job.engine.is_ours)
		rc = kvcache_cluster_argv(run->inv, argv);
	/* Space is a matter of each rank's host; a local run is looked at here (validate.c). */
	if (!rc && is_job && run->inv->job.engine.is_ours && !run->inv->universal.skip_validation)
		rc = strlist_add(argv, "--require-space");
	if (!rc)
		rc = add_others(options, argv);
	if (!rc && run->inv->universal.quiet && run->engine.is_ours)
		rc = strlist_add(argv, "--quiet");
	if (!rc && shows_live(run))
		rc = add_pair(argv, "--progress", "terminal");
	launch_command_text(argv, &run->command);
	return rc ? rc : run->command.rc;
}

/* In what-if nothing is started: the line is shown with the engine that was named, or ours. Return: 0 or -ENOMEM. */
static int find_engine(struct kvcache_run *run, struct cmd_validation *v)
{
	const char *given = run->inv->kvcache.bin_path;
	struct error err = {0};
	CLEANUP_FREE char *self_dir = launch_self_dir();
	int rc = launch_find_engine(given, self_dir, getenv("PATH"), &run->engine, &err);
	if (!rc || rc == -ENOMEM)
		return rc;
	cmd_validation_error(v, &err);
	run->engine.origin = "not found";
	run->engine.is_ours = !given;
	return strlist_add(&run->engine.argv, given ? given : "kv-cache");
}

static void record_engine(struct kvcache_run *run, json_t *exit_status, json_t *signal)
{
	const struct launch_program *rank_engine = &run->inv->job.engine; /* ours is another program on many ranks */
	const struct launch_program *engine =
		run->inv->job.is_distributed && rank_engine->is_ours ? rank_engine : &run->engine;
	record_set(run->record, "kvcache_engine",
		   json_pack("{so, ss, so, so}", "path", record_string(engine->path), "found", engine->origin,
			     "exit_status", exit_status, "signal", signal));
}

/* The run directory and everything that depends on its name. */
static int open_run(struct kvcache_run *run)
{
	int code = cmd_kvcache_record(run->inv, &run->record, &run->cache_dir);
	if (code)
		return code;
	const char *stamp = record_stamp(run->record);
	run->result_path = record_path(run->record, "kvcache_results_%s.json", stamp);
	run->stdout_path = record_path(run->record, "kvcache_%s.stdout.log", stamp);
	run->stderr_path = record_path(run->record, "kvcache_%s.stderr.log", stamp);
	if (!run->result_path || !run->stdout_path || !run->stderr_path || build_argv(run))
		return cmd_report_memory();
	kvcache_cluster_record(&run->cluster, run->record);
	record_engine(run, json_null(), json_null());
	log_status("Run directory: %s", record_dir(run->record));
	return EXIT_OK;
}

static int what_if(struct kvcache_run *run)
{
	record_command(run->record, str_text(&run->command), NULL, NULL);
	cmd_stage_end();
	const struct launch_program *engine =
		run->inv->job.is_distributed ? &run->inv->job.engine : &run->engine;
	log_info("The engine would be %s (%s)", engine->argv.v[engine->argv.count - 1], engine->origin);
	puts(str_text(&run->command));
	fflush(stdout);
	return cmd_record_write(run->inv, run->record, RECORD_WHAT_IF, EXIT_OK, 0);
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *where)
{
	(void)st;
	(void)type;
	(void)where;
	return remove(path);
}

/* Only the directory below the run directory is ours to remove; a user's keeps its files. */
static void remove_cache(const struct kvcache_run *run)
{
	if (run->inv->config.opt.cache_dir)
		return;
	if (nftw(run->cache_dir, remove_one, 16, FTW_DEPTH | FTW_PHYS) && errno != ENOENT)
		log_warning("cannot remove %s: %s", run->cache_dir, strerror(errno));
}

/* A --output of the user's gets a copy: the run directory stays complete. */
static int copy_result(const struct kvcache_run *run)
{
	const char *to = run->inv->config.opt.output;
	CLEANUP_STR struct str text = {0};
	struct error err = {0};
	if (!to || access(run->result_path, F_OK))
		return EXIT_OK;
	int rc = file_read(run->result_path, RESULT_FILE_MAX, &text);
	if (!rc)
		rc = file_write_atomic(to, str_text(&text), text.len);
	if (!rc)
		return EXIT_OK;
	error_set(&err, rc, err_fs_code(rc), "--output: cannot copy the result to %s: %s", to,
		  strerror(-rc));
	error_hint(&err, "it is in %s", run->result_path);
	return cmd_report(&err);
}

static int fail(const struct kvcache_run *run, enum err_code code, const char *why)
{
	struct error err = {0};
	error_set(&err, 0, code, "%s", why);
	error_hint(&err, "what it said is in %s", run->stderr_path);
	return cmd_report(&err);
}

/* Nobody is heard of any more, or the launcher failed and the ranks cannot say why. */
static int fail_ranks(const struct kvcache_run *run, enum err_code code, const char *what)
{
	CLEANUP_STR struct str why = {0};
	CLEANUP_STR struct str missing = {0};
	str_add(&why, what);
	if (kvcache_ranks_missing(&run->ranks, &missing))
		str_addf(&why, "; no complete result from %s", str_text(&missing));
	return fail(run, code, str_text(&why));
}

/* The launcher's own words are among the output, on one stream or the other. */
static bool find_death(const struct kvcache_run *run, struct launch_death *ret)
{
	const char *const paths[] = {run->stderr_path, run->stdout_path};
	for (size_t i = 0; i < ARRAY_LEN(paths); i++) {
		CLEANUP_STR struct str text = {0};
		if (!file_read(paths[i], LOG_FILE_MAX, &text) && launch_death_parse(run->inv->job.mpi, str_text(&text), ret))
			return true;
	}
	return false;
}

static void tell_death(const struct kvcache_run *run, const struct launch_death *d, char *buf, size_t size)
{
	CLEANUP_STR struct str who = {0};
	kvcache_ranks_name(&run->ranks, d->rank, d->pid, d->host, &who);
	if (d->signal)
		snprintf(buf, size, "%s was ended by signal %d (%s)%s", str_text(&who), d->signal, strsignal(d->signal),
			 d->is_doubtful ? ", perhaps by the launcher, which kills all ranks when one has died and may name any of them"
					: "");
	else
		snprintf(buf, size, "%s ended early with exit status %d", str_text(&who), d->status);
}

/* How a launcher and its ranks ended. What the ranks themselves say is the best there is. */
static int judge_job(const struct kvcache_run *run)
{
	const struct launch_result *end = &run->ended;
	char why[512];
	CLEANUP_STR struct str missing = {0};
	bool is_pooled = run->ranks.pooled || !run->engine.is_ours; /* others have nothing to pool */
	bool is_complete = is_pooled && !kvcache_ranks_missing(&run->ranks, &missing);
	int code = kvcache_ranks_report(&run->ranks);
	if (end->is_overdue && !code) {
		if (is_complete)
			return fail(run, ERR_RUN_TIMEOUT, "all results came, but the launcher did not end and was stopped: a host may "
							  "be cut off");
		snprintf(why, sizeof(why),
			 run->ranks.has_answered ? "nothing was heard of the ranks for %.0f s, and they were stopped"
						 : "no rank answered within %.0f s, and the launcher was stopped: a host may not be "
						   "reached by ssh, or hang",
			 kvcache_ranks_patience_s(&run->ranks));
		return fail_ranks(run, ERR_RUN_TIMEOUT, why);
	}
	if (end->stop_signal)
		return fail_ranks(run, ERR_RUN_INTERRUPTED,
				  end->is_killed ? "interrupted, and not all ranks ended in time: they were killed"
						 : "interrupted: the result covers a part of the run");
	if (code)
		return code;
	if (end->exit_status == EXIT_OK && is_complete)
		return EXIT_OK;
	if (is_complete && json_is_false(json_object_get(run->ranks.pooled, "valid")))
		return fail(run, ERR_RUN_FAILED, "the ranks ran, but the result is not valid");
	struct launch_death death;
	if (find_death(run, &death)) {
		tell_death(run, &death, why, sizeof(why));
		return fail_ranks(run, ERR_RUN_FAILED, why);
	}
	const char *but = is_complete ? "all results came, but " : "";
	if (end->end_signal)
		snprintf(why, sizeof(why), "%sthe launcher was ended by signal %d (%s)", but, end->end_signal, strsignal(end->end_signal));
	else
		snprintf(why, sizeof(why), "%sthe launcher ended with exit status %d", but, end->exit_status);
	return fail_ranks(run, ERR_RUN_FAILED, why);
}

/* How the engine ended, as this program's exit code. */
static int judge_end(const struct kvcache_run *run)
{
	const struct launch_result *end = &run->ended;
	char why[128];
	if (end->stop_signal || end->exit_status == EXIT_INTERRUPTED)
		return fail(run, ERR_RUN_INTERRUPTED,
			    end->is_killed ? "interrupted twice: the engine was killed"
					   : "interrupted: the result covers a part of the run");
	if (end->end_signal) {
		snprintf(why, sizeof(why), "the engine was ended by signal %d (%s)%s",
			 end->end_signal, strsignal(end->end_signal),
			 end->end_signal == SIGKILL ? ", perhaps for want of memory" : "");
		return fail(run, ERR_RUN_FAILED, why);
	}
	if (end->exit_status == EXIT_OK)
		return EXIT_OK;
	if (end->exit_status == EXIT_NOT_VALID)
		return fail(run, ERR_RUN_FAILED, "the engine ran, but its result is not valid");
	snprintf(why, sizeof(why), "the engine ended with exit status %d", end->exit_status);
	int code = fail(run, ERR_RUN_FAILED, why);
	if (end->exit_status == EXIT_USAGE || end->exit_status == EXIT_ENVIRONMENT)
		return end->exit_status;
	return code;
}

static void show_metrics(const struct record_outcome *outcome)
{
	static const struct {
		const char *key;
		const char *label;
		int decimals;
	} lines[] = {
		{"total_requests", "Requests", 0},
		{"avg_latency_ms", "Mean latency, ms", 2},
		{"p99_latency_ms", "P99 latency, ms", 2},
		{"throughput_req_per_sec", "Requests per second", 2},
		{"storage_throughput_mbps", "Storage throughput, MB/s", 2},
	};
	for (size_t i = 0; i < ARRAY_LEN(lines); i++) {
		json_t *value = json_object_get(outcome->metrics, lines[i].key);
		if (json_is_number(value))
			log_info("%s: %.*f", lines[i].label, lines[i].decimals,
				 json_number_value(value));
	}
}

/* The numbers go into the metadata whatever the end; whether they are missed depends on it. */
static int take_outcome(struct kvcache_run *run, int code)
{
	struct record_outcome outcome = {0};
	struct error err = {0};
	int rc = record_outcome_read(run->result_path, (double)run->inv->config.opt.duration_s,
				     &outcome, &err);
	if (rc) {
		log_debug("%s", err.message);
		return code == EXIT_OK ? cmd_report(&err) : code;
	}
	json_object_update_missing(outcome.metrics, run->aggregate);
	record_set(run->record, "kvcache_metrics", json_incref(outcome.metrics));
	show_metrics(&outcome);
	if (code == EXIT_OK && !outcome.has_verdict && !(outcome.completed > 0))
		code = fail(run, ERR_RUN_FAILED, "the engine completed no request");
	record_outcome_release(&outcome);
	return code;
}

static enum record_status status_of(int code)
{
	if (code == EXIT_OK)
		return RECORD_COMPLETE;
	return code == EXIT_INTERRUPTED ? RECORD_INTERRUPTED : RECORD_FAILED;
}

/*
 * Longest silence of ranks that still may come back. Before the first word the launcher reaches every host and all ranks of a host
 * touch their memory; before the first progress storage may be filled; later rank 0 waits for the others as long as --rank-timeout
 * says, twice, and tells then.
 */
static struct kvcache_patience patience_of(const struct kvcache_run *run)
{
	const double start_s = 10, starts = 5, touch_s_per_gib = 2, turn_s = 0.02, fill_s = 1800, margin_s = 30;
	const struct config_options *o = &run->inv->config.opt;
	const struct launch_layout *layout = &run->inv->job.layout;
	double timeout_s = (double)o->rank_timeout_s, turns_s = turn_s * (double)layout->ranks;
	double host_ranks = ceil((double)layout->ranks / (double)layout->distinct);
	double silence_s = 2 * timeout_s + margin_s + turns_s;
	return (struct kvcache_patience){
		.answer_s = start_s + starts * timeout_s + turns_s + touch_s_per_gib * o->cpu_mem_gib * host_ranks,
		.setup_s = silence_s + fill_s + (double)(o->duration_s + o->warmup_s),
		.silence_s = silence_s,
	};
}

/* Where --interval of one process writes unless it is told: beside its result. */
static json_t *own_intervals(const struct kvcache_run *run)
{
	const char *given = run->inv->config.opt.interval_file;
	CLEANUP_STR struct str path = {0};
	if (given)
		str_add(&path, given);
	else
		str_addf(&path, "%.*s_interval.ndjson", (int)(strlen(run->result_path) - strlen(".json")), run->result_path);
	return access(str_text(&path), F_OK) ? json_array() : json_pack("[o]", record_string(path.s));
}

static void record_intervals(struct kvcache_run *run)
{
	if (run->inv->config.opt.interval_s > 0)
		record_set(run->record, "interval_files",
			   run->inv->job.is_distributed ? kvcache_ranks_intervals(&run->ranks) : own_intervals(run));
}

static int open_ranks(struct kvcache_run *run)
{
	const struct kvcache_patience patience = patience_of(run);
	return kvcache_ranks_open(&run->ranks, (uint32_t)run->inv->job.layout.ranks, &patience,
				  strrchr(run->result_path, '/') + 1, run->record, &run->cluster);
}

/* Run the engine to its end. Return: exit code; everything is said and recorded but the metadata's
 * last writing. */
static int run_engine(struct kvcache_run *run)
{
	struct error err = {0};
	struct launch_request request = {
		.argv = &run->argv,
		.stdout_path = run->stdout_path,
		.stderr_path = run->stderr_path,
		.stdout_fd = STDOUT_FILENO,
		.stderr_fd = STDERR_FILENO,
	};
	log_status("Running for %" PRId64 " s", run->inv->config.opt.duration_s);
	log_status("Model: %s, users: %" PRId64, run->inv->config.opt.model,
		   run->inv->config.opt.num_users);
	const struct launch_job_control job = {
		.on_frame = kvcache_ranks_take,
		.is_overdue = kvcache_ranks_are_overdue,
		.arg = &run->ranks,
		.stop_timeout_s = (double)run->inv->distributed.stop_timeout_s,
	};
	bool is_job = run->inv->job.is_distributed;
	if (is_job && open_ranks(run))
		return cmd_report_memory();
	request.job = is_job ? &job : NULL;
	if (launch_run(&request, &run->ended, &err))
		return cmd_report(&err);
	if (run->ended.frames_damaged) /* when ranks are ended, one may be cut off in the middle of its word */
		log_line(run->ended.exit_status ? LOG_DEBUG : LOG_WARNING, "%" PRIu64 " messages of the ranks were damaged and dropped", run->ended.frames_damaged);
	if (run->ended.is_log_partial)
		log_warning("the output files in %s are not complete", record_dir(run->record));
	record_engine(run,
		      run->ended.exit_status < 0 ? json_null()
						 : json_integer(run->ended.exit_status),
		      run->ended.end_signal ? json_integer(run->ended.end_signal) : json_null());
	cmd_stage(4, RUN_STAGES, "Processing results");
	int written = is_job ? kvcache_ranks_finish(&run->ranks, run->result_path, &run->aggregate) : EXIT_OK;
	record_intervals(run);
	int code = take_outcome(run, is_job ? judge_job(run) : judge_end(run));
	int copied = copy_result(run);
	return code ? code : written ? written : copied;
}

static int first_write(struct kvcache_run *run)
{
	int code = cmd_record_write(run->inv, run->record, RECORD_RUNNING, -1, 0);
	return code < 0 ? EXIT_OK : code;
}

/* Signals wait from before the first metadata to after the last, so that no run is left in state
 * "running". */
static int start_and_record(struct kvcache_run *run)
{
	sigset_t old;
	launch_signals_hold(&old);
	record_command(run->record, str_text(&run->command), run->stdout_path, run->stderr_path);
	int code = first_write(run);
	if (!code) {
		cmd_stage_engine(3, RUN_STAGES, "Running benchmark");
		if (!run->inv->config.opt.cache_dir)
			mkdir(run->cache_dir, 0777); /* a failure is the engine's to report */
		kvcache_cluster_start(&run->cluster);
		code = run_engine(run);
		kvcache_cluster_end(&run->cluster, code == EXIT_INTERRUPTED);
		code = cmd_record_write(run->inv, run->record, status_of(code), code,
					run->ended.runtime_s);
	}
	remove_cache(run);
	launch_signals_release(&old);
	return code;
}

static int validate(struct kvcache_run *run)
{
	struct cmd_validation v = {.inv = run->inv};
	v.rc = find_engine(run, &v);
	if (!v.rc)
		v.rc = cmd_job_find(&v, run->inv, &run->engine);
	cmd_validation_lockfile(&v, &run->engine);
	cmd_validation_local(&v);
	cmd_validation_hosts(&v);
	int code = cmd_validation_report(&v);
	cmd_validation_release(&v);
	return code;
}

static enum kvcache_cluster_way cluster_way(const struct kvcache_run *run)
{
	if (!run->inv->job.is_distributed)
		return KVCACHE_CLUSTER_LOCAL;
	return run->inv->job.engine.is_ours ? KVCACHE_CLUSTER_RANKS : KVCACHE_CLUSTER_SSH;
}

static int run_once(struct kvcache_run *run)
{
	cmd_stage(1, RUN_STAGES, "Validating environment");
	int code = validate(run);
	if (code)
		return code;
	cmd_stage(2, RUN_STAGES, "Collecting cluster info");
	kvcache_cluster_collect(&run->cluster, run->inv, cluster_way(run), &run->inv->job.layout.entries);
	code = open_run(run);
	if (code)
		return code;
	if (run->inv->universal.what_if)
		return what_if(run);
	code = start_and_record(run);
	if (!access(run->result_path, F_OK)) /* a partial one too */
		log_line(LOG_RESULT, "Result: %s", run->result_path);
	return code;
}

int cmd_kvcache_run(struct cmd_invocation *inv)
{
	struct kvcache_run run = {.inv = inv};
	int code = run_once(&run);
	cmd_stage_end();
	run_release(&run);
	return code;
}
