// SPDX-License-Identifier: Apache-2.0
/*
 * mlpstorage-rank: starts an engine that knows no ranks as one of them, and brings its result home.
 *
 *   mlpstorage-rank [--rank-timeout SECONDS] COMMAND [ARGUMENT...]
 *
 * Of the engine's arguments four are the job's, and become the rank's:
 *
 *   --seed N        N + rank; 42 + rank without it
 *   --cache-dir D   D/rank_<rank>, made; without it a temporary one, which goes at the end
 *   --output F      a temporary file; rank 0 writes it to rank_<rank>/ beside F ...
 *   --frames        ... or, for a controller, as a frame on its standard output
 *
 * --cleanup removes D/rank_<rank> at the end, if it was made here. Everything else is passed on. The child finds its rank and
 * their number in MLPSTORAGE_RANK and MLPSTORAGE_RANKS.
 */
#include "rank/rank.h"

#include <ftw.h>
#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/frame.h"
#include "comm/comm.h"

#define POLL_NS		 (50 * NS_PER_MS)
#define RESULT_MAX_BYTES ((size_t)1 << 30)
enum { SEED_DEFAULT = 42, RANK_TIMEOUT_S = 60 };

static const char usage[] = "usage: mlpstorage-rank [--rank-timeout SECONDS] COMMAND [ARGUMENT...]\n"
			    "       mlpstorage-rank --version\n\n"
			    "Run a benchmark engine as one of the ranks that an MPI launcher started: each with its own --seed,\n"
			    "--cache-dir and --output. Their results come to rank 0.\n";

/** What was asked of the whole job, and this rank's part in it. */
struct job {
	struct comm *comm;
	int64_t rank_timeout_s;
	/* of all ranks */
	int64_t seed;
	const char *cache_base, *output; /* NULL: not given */
	bool frames, cleans_up;
	struct strlist command; /* without what is the rank's own */
	/* of this one */
	char *cache_dir, *result, *log;
	struct strlist remains; /* directories of this run only */
	struct child child;
	uint64_t begin_ns;
	json_t *problems; /* rank 0: of all ranks */
};

/* ---- command line ---- */

/* "--name VALUE" or "--name=VALUE" at *i? Then *ret_value is VALUE (NULL: there is none) and *i is moved to its last word. */
static bool takes(const char *name, int argc, char *const *argv, int *i, const char **ret_value)
{
	size_t len = strlen(name);
	if (strncmp(argv[*i], name, len) != 0 || (argv[*i][len] && argv[*i][len] != '='))
		return false;
	if (argv[*i][len] == '=')
		*ret_value = argv[*i] + len + 1;
	else
		*ret_value = *i + 1 < argc ? argv[++*i] : NULL;
	return true;
}

static int bad_value(const char *name, const char *expected, const char *value, struct error *err)
{
	return error_set(err, -EINVAL, ERR_CONFIG_INVALID, "%s: %s instead of '%s'", name, expected, value ? value : "");
}

static int read_arguments(struct job *job, int argc, char *const *argv, struct error *err)
{
	int i = 1;
	const char *value;
	if (i < argc && takes("--rank-timeout", argc, argv, &i, &value)) {
		if (!value || parse_i64(value, &job->rank_timeout_s) || job->rank_timeout_s < 1 || job->rank_timeout_s > 86400)
			return bad_value("--rank-timeout", "seconds, 1..86400,", value, err);
		i++;
	}
	if (i == argc || argv[i][0] == '-')
		return error_set(err, -EINVAL, ERR_CONFIG_MISSING, "no command to run");
	int rc = strlist_add(&job->command, argv[i]);
	for (i++; i < argc && !rc; i++) {
		if (takes("--seed", argc, argv, &i, &value)) {
			if (!value || parse_i64(value, &job->seed) || job->seed < 0)
				return bad_value("--seed", "a whole number of at least 0", value, err);
		} else if (takes("--cache-dir", argc, argv, &i, &job->cache_base)) {
			if (!job->cache_base || !job->cache_base[0])
				return bad_value("--cache-dir", "a directory", job->cache_base, err);
		} else if (takes("--output", argc, argv, &i, &job->output)) {
			if (!job->output || !job->output[0])
				return bad_value("--output", "a file", job->output, err);
		} else if (!strcmp(argv[i], "--frames")) {
			job->frames = true;
		} else if (!strcmp(argv[i], "--cleanup")) {
			job->cleans_up = true;
		} else {
			rc = strlist_add(&job->command, argv[i]);
		}
	}
	return rc ? error_set(err, rc, ERR_INTERNAL, "out of memory") : 0;
}

/* ---- this rank's own ---- */

/* What the rank has for this run only. *ret: to free. */
static int make_temporary(struct job *job, char **ret, struct error *err)
{
	CLEANUP_STR struct str path = {0};
	const char *tmp = getenv("TMPDIR");
	str_addf(&path, "%s/mlpstorage-rank-XXXXXX", tmp && tmp[0] ? tmp : "/tmp");
	if (path.rc)
		return error_set(err, path.rc, ERR_INTERNAL, "out of memory");
	if (!mkdtemp(path.s))
		return error_set(err, -errno, ERR_FS_PERMISSION, "cannot make a temporary directory '%s': %s", path.s,
				 strerror(errno));
	*ret = str_take(&path);
	return strlist_add(&job->remains, *ret) ? error_set(err, -ENOMEM, ERR_INTERNAL, "out of memory") : 0;
}

static int make_places(struct job *job, struct error *err)
{
	CLEANUP_STR struct str dir = {0};
	CLEANUP_FREE char *temporary = NULL;
	int rc = make_temporary(job, &temporary, err);
	if (rc)
		return rc;
	str_addf(&dir, "%s/rank_%d", job->cache_base ? job->cache_base : temporary, comm_rank(job->comm));
	job->cache_dir = str_take(&dir);
	job->result = path_join(temporary, "result.json");
	job->log = path_join(temporary, "output.txt");
	if (!job->cache_dir || !job->result || !job->log)
		return error_set(err, -ENOMEM, ERR_INTERNAL, "out of memory");
	struct stat st;
	bool is_new = stat(job->cache_dir, &st) && errno == ENOENT;
	rc = dir_make(job->cache_dir);
	if (!rc && access(job->cache_dir, W_OK | X_OK))
		rc = -errno;
	if (!rc && is_new && job->cleans_up)
		rc = strlist_add(&job->remains, job->cache_dir);
	return rc ? error_set(err, rc, ERR_FS_PERMISSION, "--cache-dir: cannot make '%s', or not write there: %s",
			      job->cache_dir, strerror(-rc))
		  : 0;
}

static int start_engine(struct job *job, struct error *err)
{
	char number[24];
	int rank = comm_rank(job->comm), rc = make_places(job, err);
	if (rc)
		return rc;
	struct strlist *argv = &job->command;
	rc = strlist_add(argv, "--seed") || strlist_addf(argv, "%lld", (long long)job->seed + rank) ||
	     strlist_add(argv, "--output") || strlist_add(argv, job->result) || strlist_add(argv, "--cache-dir") ||
	     strlist_add(argv, job->cache_dir);
	if (rc)
		return error_set(err, -ENOMEM, ERR_INTERNAL, "out of memory");
	snprintf(number, sizeof(number), "%d", rank);
	setenv("MLPSTORAGE_RANK", number, 1);
	snprintf(number, sizeof(number), "%d", comm_size(job->comm));
	setenv("MLPSTORAGE_RANKS", number, 1);
	return child_start(&job->child, argv, job->log, &job->remains, err);
}

static int remove_one(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
	(void)st, (void)flag, (void)ftw;
	(void)remove(path); /* what cannot be removed stays, and so do the directories above */
	return 0;
}

static void remove_tree(const char *path)
{
	(void)nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS | FTW_MOUNT);
}

static void clean_up(struct job *job)
{
	for (size_t i = 0; i < job->remains.count; i++)
		remove_tree(job->remains.v[i]);
	child_release(&job->child);
	strlist_release(&job->remains);
	free(job->cache_dir);
	free(job->result);
	free(job->log);
	strlist_release(&job->command);
	json_decref(job->problems);
}

/* ---- while it runs ---- */

static void hold_signals(sigset_t *set)
{
	sigemptyset(set);
	sigaddset(set, SIGINT);
	sigaddset(set, SIGTERM);
	sigaddset(set, SIGUSR1);
	sigaddset(set, SIGCHLD); /* so that waiting for a signal also waits for the child */
	sigprocmask(SIG_BLOCK, set, NULL);
	signal(SIGPIPE, SIG_IGN);
}

static void wait_for_engine(struct job *job, const sigset_t *signals)
{
	const struct timespec step = {.tv_nsec = (long)POLL_NS};
	while (!child_poll(&job->child)) {
		int signal = sigtimedwait(signals, NULL, &step);
		if (signal > 0 && signal != SIGCHLD)
			comm_stop(job->comm);
		if (comm_stop_asked(job->comm))
			child_stop(&job->child);
	}
}

/* ---- reports ---- */

static json_t *problem_json(const struct job *job, const struct error *err)
{
	int rank = comm_rank(job->comm);
	json_t *message = json_string(err->message); /* NULL: not UTF-8 */
	return json_pack("{s:i, s:s, s:o, s:s, s:i}", "rank", rank, "host", comm_host(job->comm, rank), "message",
			 message ? message : json_string("the engine failed, with words that are no text"), "hint", err->hint,
			 "code", (int)err->code);
}

static json_t *ready_json(const struct job *job)
{
	int rank = comm_rank(job->comm);
	json_t *dir = json_string(job->cache_dir);
	return json_pack("{s:i, s:i, s:s, s:s, s:s, s:i, s:I, s:o}", "rank", rank, "ranks", comm_size(job->comm), "host",
			 comm_host(job->comm, rank), "version", MLPSTORAGE_VERSION, "mpi_library", comm_library(job->comm),
			 "pid", (int)job->child.id, "seed", (json_int_t)(job->seed + rank), "cache_dir",
			 dir ? dir : json_null());
}

/* What a rank has to say is one letter and a text: Problem, Started, Result. */
static int report(const struct job *job, const struct error *err, bool has_ended, struct str *ret)
{
	if (!err->code && has_ended) {
		CLEANUP_STR struct str text = {0};
		int rc = file_read(job->result, RESULT_MAX_BYTES, &text);
		str_add(ret, "R");
		str_add_mem(ret, str_text(&text), text.len);
		return rc ? rc : ret->rc;
	}
	json_t *json = err->code ? problem_json(job, err) : ready_json(job);
	CLEANUP_FREE char *text = json ? json_dumps(json, JSON_COMPACT) : NULL;
	json_decref(json);
	str_addf(ret, "%s%s", err->code ? "P" : "S", text ? text : "{}");
	return ret->rc;
}

/* How this rank's engine ended, as a problem or none. */
static void judge(const struct job *job, struct error *err)
{
	CLEANUP_STR struct str why = {0};
	if (child_why(&job->child, job->log, &why)) {
		error_set(err, 0, ERR_RUN_FAILED, "'%s' failed: %.900s", job->command.v[0], str_text(&why));
		return;
	}
	json_error_t where;
	json_t *result = json_load_file(job->result, 0, &where);
	if (!result)
		error_set(err, 0, ERR_RUN_FAILED, "'%s' left no readable result file: %s", job->command.v[0], where.text);
	json_decref(result);
}

static int deliver(struct job *job, int rank, const char *text, size_t len)
{
	char subdir[32];
	if (job->frames)
		return frame_write(STDOUT_FILENO, FRAME_RESULT, (uint32_t)rank, text, len);
	snprintf(subdir, sizeof(subdir), "rank_%d", rank);
	return file_write_below(job->output, subdir, text, len);
}

static int take(void *arg, int rank, const char *data, size_t len)
{
	struct job *job = arg;
	if (len && *data == 'R')
		return deliver(job, rank, data + 1, len - 1);
	if (len && *data == 'S')
		return job->frames ? frame_write(STDOUT_FILENO, FRAME_READY, (uint32_t)rank, data + 1, len - 1) : 0;
	json_t *problem = len ? json_loadb(data + 1, len - 1, 0, NULL) : NULL;
	return problem && !json_array_append_new(job->problems, problem) ? 0 : -EBADMSG;
}

/* Rank 0 shows what went wrong anywhere. */
static void show_problems(struct job *job)
{
	size_t i;
	const json_t *one;
	if (job->frames) {
		CLEANUP_FREE char *text = json_dumps(job->problems, JSON_COMPACT);
		if (text)
			(void)frame_write(STDOUT_FILENO, FRAME_PROBLEMS, 0, text, strlen(text));
		return;
	}
	json_array_foreach(job->problems, i, one)
		fprintf(stderr, "mlpstorage-rank: rank %d on %s: %s\n", (int)json_integer_value(json_object_get(one, "rank")),
			json_string_value(json_object_get(one, "host")),
			json_string_value(json_object_get(one, "message")));
}

/* Every rank's report to rank 0, and its verdict to all. @own: this rank's problem, if any. Return: exit code. */
static int meet(struct job *job, const struct error *own, bool has_ended, uint64_t patience_ns)
{
	struct error err = {0};
	CLEANUP_STR struct str text = {0};
	uint64_t deadline_ns = clock_mono_ns() + (uint64_t)job->rank_timeout_s * NS_PER_S + patience_ns;
	int32_t code = EXIT_OK;
	int rc = report(job, own, has_ended, &text);
	if (!rc)
		rc = comm_gather(job->comm, str_text(&text), text.len, take, job, deadline_ns, &err);
	if (!rc && json_array_size(job->problems)) {
		show_problems(job);
		code = EXIT_RUN_FAILED;
	}
	if (!rc && comm_stop_asked(job->comm))
		code = EXIT_INTERRUPTED;
	if (!rc)
		rc = comm_bcast(job->comm, &code, sizeof(code), deadline_ns, &err);
	if (rc && err.code && (!comm_rank(job->comm) || rc != -ECONNABORTED)) {
		json_array_append_new(job->problems, problem_json(job, &err));
		show_problems(job);
	}
	return rc ? EXIT_RUN_FAILED : code;
}

static int run(struct job *job)
{
	sigset_t signals;
	struct error err = {0};
	hold_signals(&signals);
	job->begin_ns = clock_mono_ns();
	(void)start_engine(job, &err);
	int code = meet(job, &err, false, 0);
	if (code) {
		while (!child_poll(&job->child)) {
			child_stop(&job->child);
			nanosleep(&(struct timespec){.tv_nsec = (long)POLL_NS}, NULL);
		}
		return code;
	}
	wait_for_engine(job, &signals);
	judge(job, &err);
	/* Another rank's engine may take ten times as long as this one's. */
	return meet(job, &err, true, 10 * (clock_mono_ns() - job->begin_ns));
}

int main(int argc, char **argv)
{
	char stamp[CLOCK_STAMP_SIZE], output[64];
	struct comm_launcher launcher;
	struct error err = {0};
	struct job job = {.rank_timeout_s = RANK_TIMEOUT_S, .seed = SEED_DEFAULT, .problems = json_array()};
	bool is_spokesman = !comm_launcher_read(&launcher) || !launcher.rank;
	if (argc == 2 && (!strcmp(argv[1], "--version") || !strcmp(argv[1], "--help"))) {
		if (is_spokesman)
			fputs(!strcmp(argv[1], "--help") ? usage : "mlpstorage-rank " MLPSTORAGE_VERSION "\n", stdout);
		json_decref(job.problems);
		return EXIT_OK;
	}
	int rc = read_arguments(&job, argc, argv, &err);
	clock_stamp(stamp, time(NULL));
	snprintf(output, sizeof(output), "kvcache_results_%s.json", stamp);
	if (!job.output)
		job.output = output;
	if (!rc)
		rc = comm_open(&job.comm, &err);
	if (rc) {
		if (is_spokesman)
			fprintf(stderr, "mlpstorage-rank: %s\n%s", err.message, rc == -EINVAL && !job.comm ? usage : "");
		clean_up(&job);
		return err_exit_code(err.code);
	}
	int code = run(&job);
	fflush(stdout);
	clean_up(&job);
	comm_close(job.comm, code);
	return code;
}
