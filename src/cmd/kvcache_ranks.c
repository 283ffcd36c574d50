// SPDX-License-Identifier: Apache-2.0
/* Frames of ranks become files and messages. */
#include "cmd/kvcache_ranks.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "record/aggregate.h"

enum {
	NAMED_MAX = 16,
	LAST_WAIT_S = 15, /* for the end of a launcher whose ranks have said everything */
};

struct kvcache_rank {
	bool has_result, has_intervals;
	char *host;	     /* NULL: it did not come so far */
	int64_t pid;
	struct str snapshot; /* its last one, small */
};

int kvcache_ranks_open(struct kvcache_ranks *k, uint32_t count, const struct kvcache_patience *patience, const char *file,
		       struct record *r, struct kvcache_cluster *cluster)
{
	*k = (struct kvcache_ranks){
		.count = count,
		.patience = *patience,
		.file = file,
		.record = r,
		.cluster = cluster,
		.ranks = calloc(count, sizeof(*k->ranks)),
		.aggregate = record_aggregate_new(count, file),
	};
	k->heard_ns = clock_mono_ns();
	return k->ranks && k->aggregate ? 0 : -ENOMEM;
}

void kvcache_ranks_release(struct kvcache_ranks *k)
{
	for (uint32_t i = 0; k->ranks && i < k->count; i++) {
		free(k->ranks[i].host);
		str_release(&k->ranks[i].snapshot);
	}
	free(k->ranks);
	record_aggregate_free(k->aggregate);
	json_decref(k->pooled);
	json_decref(k->problems);
	*k = (struct kvcache_ranks){0};
}

/* ---- files ---- */

/* The first failure is kept: the next thousand will say the same. */
static void write_rank(struct kvcache_ranks *k, uint32_t rank, const char *text, size_t len)
{
	CLEANUP_FREE char *dir = record_path(k->record, "rank_%" PRIu32, rank);
	CLEANUP_FREE char *path = dir ? path_join(dir, k->file) : NULL;
	int rc = !path ? -ENOMEM : dir_make(dir);
	if (!rc)
		rc = file_write_atomic(path, text, len);
	if (rc && !k->write_error.code)
		error_set(&k->write_error, rc, err_fs_code(rc), "cannot write the result of rank %" PRIu32 " to %s: %s",
			  rank, path ? path : "its file", strerror(-rc));
}

static char *interval_path(const struct kvcache_ranks *k, uint32_t rank)
{
	return record_path(k->record, "rank_%" PRIu32 "/%.*s_interval.ndjson", rank, (int)strcspn(k->file, "."), k->file);
}

/* Appended as it comes, so that a run that breaks off leaves what it told. */
static void take_interval(struct kvcache_ranks *k, uint32_t rank, const char *data, size_t len)
{
	CLEANUP_FREE char *dir = record_path(k->record, "rank_%" PRIu32, rank);
	CLEANUP_FREE char *path = interval_path(k, rank);
	int rc = !dir || !path ? -ENOMEM : dir_make(dir);
	int fd = rc ? -1 : open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
	if (!rc)
		rc = fd < 0 ? -errno : file_write_all(fd, data, len);
	if (fd >= 0 && close(fd) && !rc)
		rc = -errno;
	k->ranks[rank].has_intervals = true;
	if (rc && !k->write_error.code)
		error_set(&k->write_error, rc, err_fs_code(rc), "cannot write the intervals of rank %" PRIu32 " to %s: %s",
			  rank, path ? path : "their file", strerror(-rc));
}

static void keep(struct kvcache_ranks *k, uint32_t rank, const char *text, size_t len)
{
	write_rank(k, rank, text, len);
	if (record_aggregate_add(k->aggregate, rank, text, len))
		log_warning("the result of rank %" PRIu32 " cannot be read", rank);
}

/* ---- frames ---- */

static void take_host(struct kvcache_ranks *k, uint32_t rank, const char *data, size_t len)
{
	kvcache_cluster_host(k->cluster, rank, data, len);
}

static void take_series(struct kvcache_ranks *k, uint32_t rank, const char *data, size_t len)
{
	kvcache_cluster_samples(k->cluster, rank, data, len);
}

static void take_ready(struct kvcache_ranks *k, uint32_t rank, const char *data, size_t len)
{
	json_t *ready = json_loadb(data, len, 0, NULL);
	const char *host = json_string_value(json_object_get(ready, "host"));
	if (host && !k->ranks[rank].host)
		k->ranks[rank].host = strdup(host);
	k->ranks[rank].pid = json_integer_value(json_object_get(ready, "pid"));
	json_decref(ready);
}

static const char *text_at(const json_t *object, const char *key)
{
	const char *text = json_string_value(json_object_get(object, key));
	return text ? text : "";
}

static double number_at(const json_t *object, const char *key)
{
	return json_number_value(json_object_get(object, key));
}

/* The phase when it changes. The numbers are in the engine's own line of progress. */
static void take_progress(struct kvcache_ranks *k, uint32_t rank, const char *data, size_t len)
{
	(void)rank;
	k->is_heard = true;
	json_t *p = json_loadb(data, len, 0, NULL);
	const char *phase = text_at(p, "phase");
	if (strncmp(phase, k->phase, sizeof(k->phase) - 1)) {
		snprintf(k->phase, sizeof(k->phase), "%s", phase);
		log_status("%" PRIu32 " ranks: %s", k->count, phase);
	}
	json_decref(p);
}

static void take_snapshot(struct kvcache_ranks *k, uint32_t rank, const char *data, size_t len)
{
	struct str *to = &k->ranks[rank].snapshot;
	str_clear(to);
	str_add_mem(to, data, len);
}

static void take_result(struct kvcache_ranks *k, uint32_t rank, const char *data, size_t len)
{
	k->ranks[rank].has_result = true;
	str_release(&k->ranks[rank].snapshot);
	keep(k, rank, data, len);
}

static void take_aggregate(struct kvcache_ranks *k, uint32_t rank, const char *data, size_t len)
{
	(void)rank;
	json_error_t why;
	json_decref(k->pooled);
	k->pooled = json_loadb(data, len, 0, &why);
	if (!json_is_object(k->pooled))
		log_warning("the pooled result cannot be read: %s", why.text);
}

static void take_problems(struct kvcache_ranks *k, uint32_t rank, const char *data, size_t len)
{
	(void)rank;
	json_t *list = json_loadb(data, len, 0, NULL);
	if (!k->problems)
		k->problems = json_array();
	json_array_extend(k->problems, list);
	json_decref(list);
}

void kvcache_ranks_take(void *arg, enum frame_kind kind, uint32_t rank, const char *data, size_t len)
{
	static void (*const takers[])(struct kvcache_ranks *, uint32_t, const char *, size_t) = {
		[FRAME_HOST] = take_host,	  [FRAME_READY] = take_ready,
		[FRAME_PROGRESS] = take_progress, [FRAME_SNAPSHOT] = take_snapshot,
		[FRAME_RESULT] = take_result,	  [FRAME_AGGREGATE] = take_aggregate,
		[FRAME_PROBLEMS] = take_problems, [FRAME_SERIES] = take_series,
		[FRAME_INTERVAL] = take_interval,
	};
	struct kvcache_ranks *k = arg;
	k->heard_ns = clock_mono_ns();
	k->has_answered = true;
	if (rank < k->count)
		takers[kind](k, rank, data, len);
	else
		log_warning("a message of rank %" PRIu32 ", of which there is none", rank);
}

/* Problems are told when the job is over: nothing comes behind them either. */
static bool all_came(const struct kvcache_ranks *k)
{
	if (k->problems)
		return true;
	bool is_complete = k->pooled;
	for (uint32_t i = 0; is_complete && i < k->count; i++)
		is_complete = k->ranks[i].has_result;
	return is_complete;
}

double kvcache_ranks_patience_s(const struct kvcache_ranks *k)
{
	return !k->has_answered ? k->patience.answer_s : k->is_heard ? k->patience.silence_s : k->patience.setup_s;
}

bool kvcache_ranks_are_overdue(void *arg)
{
	const struct kvcache_ranks *k = arg;
	double silent_s = (double)(clock_mono_ns() - k->heard_ns) / (double)NS_PER_S;
	return silent_s > (all_came(k) ? LAST_WAIT_S : kvcache_ranks_patience_s(k));
}

/* ---- the end ---- */

json_t *kvcache_ranks_intervals(const struct kvcache_ranks *k)
{
	json_t *paths = json_array();
	for (uint32_t i = 0; i < k->count; i++) {
		CLEANUP_FREE char *path = k->ranks[i].has_intervals ? interval_path(k, i) : NULL;
		if (path)
			json_array_append_new(paths, json_string(path));
	}
	return paths;
}

bool kvcache_ranks_missing(const struct kvcache_ranks *k, struct str *ret)
{
	uint32_t n = 0;
	for (uint32_t i = 0; i < k->count; i++) {
		if (k->ranks[i].has_result || n++ >= NAMED_MAX)
			continue;
		str_addf(ret, "%srank %" PRIu32 "%s%s", n > 1 ? ", " : "", i, k->ranks[i].host ? " on " : "",
			 k->ranks[i].host ? k->ranks[i].host : "");
	}
	if (n > NAMED_MAX)
		str_addf(ret, " and %" PRIu32 " more", n - NAMED_MAX);
	return n > 0;
}

void kvcache_ranks_name(const struct kvcache_ranks *k, int64_t rank, int64_t pid, const char *host, struct str *ret)
{
	/* The launcher may call the host by another name than the host itself: then a process number that only one rank has. */
	int64_t same = -1;
	for (uint32_t i = 0; rank < 0 && i < k->count; i++) {
		if (!k->ranks[i].host || k->ranks[i].pid != pid)
			continue;
		if (!strcasecmp(k->ranks[i].host, host))
			rank = i;
		same = same == -1 ? (int64_t)i : -2;
	}
	if (rank < 0 && same >= 0)
		rank = same;
	if (rank >= 0 && rank < k->count && k->ranks[rank].host)
		host = k->ranks[rank].host; /* its own name, not what the launcher calls it */
	if (rank >= 0)
		str_addf(ret, "rank %" PRId64, rank);
	else
		str_addf(ret, "process %" PRId64, pid);
	if (*host)
		str_addf(ret, " on %s", host);
}

static int write_all(const char *path, json_t *all)
{
	struct error err = {0};
	CLEANUP_FREE char *text = json_dumps(all, JSON_INDENT(2));
	int rc = text ? file_write_atomic(path, text, strlen(text)) : -ENOMEM;
	if (!rc)
		return EXIT_OK;
	error_set(&err, rc, err_fs_code(rc), "cannot write the result file %s: %s", path, strerror(-rc));
	return cmd_report(&err);
}

static bool anybody_spoke(const struct kvcache_ranks *k)
{
	bool is_any = k->pooled;
	for (uint32_t i = 0; !is_any && i < k->count; i++)
		is_any = k->ranks[i].has_result || k->ranks[i].snapshot.len;
	return is_any;
}

int kvcache_ranks_finish(struct kvcache_ranks *k, const char *path, json_t **ret_aggregate)
{
	*ret_aggregate = NULL;
	if (!anybody_spoke(k))
		return EXIT_OK;
	for (uint32_t i = 0; i < k->count; i++)
		if (!k->ranks[i].has_result && k->ranks[i].snapshot.len)
			keep(k, i, str_text(&k->ranks[i].snapshot), k->ranks[i].snapshot.len);
	json_t *all = json_is_object(k->pooled) ? json_incref(k->pooled) : record_aggregate_summary(k->aggregate);
	json_t *aggregate = record_aggregate_json(k->aggregate);
	int rc = json_object_set(all, "aggregate", aggregate);
	if (!rc && json_is_true(json_object_get(aggregate, "partial_failure")))
		rc = json_object_set_new(all, "partial", json_true());
	int code = rc ? cmd_report_memory() : write_all(path, all);
	json_decref(all);
	*ret_aggregate = aggregate;
	if (code == EXIT_OK && k->write_error.code)
		code = cmd_report(&k->write_error);
	return code;
}

static bool is_alike(const json_t *a, const json_t *b)
{
	return !strcmp(text_at(a, "message"), text_at(b, "message")) && !strcmp(text_at(a, "hint"), text_at(b, "hint"));
}

/* "rank 1 on h1, rank 2 on h2: message", once for all ranks that say the same. */
static void add_problem(const struct kvcache_ranks *k, const json_t *problem, struct str *out)
{
	size_t i;
	const json_t *other;
	unsigned n = 0;
	const char *hint = text_at(problem, "hint");
	json_array_foreach(k->problems, i, other) {
		if (is_alike(problem, other) && n++ < NAMED_MAX)
			str_addf(out, "%srank %d on %s", n > 1 ? ", " : "", (int)number_at(other, "rank"), text_at(other, "host"));
	}
	if (n > NAMED_MAX)
		str_addf(out, " and %u more", n - NAMED_MAX);
	str_addf(out, ": %s", text_at(problem, "message"));
	if (*hint)
		str_addf(out, "\n    Suggestion: %s", hint);
}

static bool is_told(const struct kvcache_ranks *k, size_t index)
{
	for (size_t i = 0; i < index; i++)
		if (is_alike(json_array_get(k->problems, i), json_array_get(k->problems, index)))
			return true;
	return false;
}

int kvcache_ranks_report(const struct kvcache_ranks *k)
{
	CLEANUP_STR struct str text = {0};
	size_t i;
	const json_t *problem;
	int code = EXIT_OK;
	json_array_foreach(k->problems, i, problem) {
		int number = (int)number_at(problem, "code");
		if (is_told(k, i))
			continue;
		str_addf(&text, "%s[E%d] ", text.len ? "\n" : "", number ? number : ERR_RUN_FAILED);
		add_problem(k, problem, &text);
		if (!code)
			code = err_exit_code(number ? (enum err_code)number : ERR_RUN_FAILED);
	}
	if (code)
		log_error("%s", str_text(&text));
	return code;
}
