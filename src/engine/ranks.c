// SPDX-License-Identifier: Apache-2.0
/*
 * Before and while ranks work. A run of several is the same run on each, with four meetings: after the command line, after the
 * checks, after the set-up, and at the start of the window; ranks_pool.c has those at its end.
 */
#include "engine/ranks.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <xxhash.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "result/result.h"

#define PROGRESS_NS NS_PER_S
#define SNAPSHOT_NS (5 * NS_PER_S)
#define FIRST_SNAPSHOT_NS (2 * NS_PER_S) /* after the set-up */

uint64_t ranks_deadline(const struct engine *e, uint64_t patience_ns)
{
	return clock_mono_ns() + (uint64_t)e->cfg->opt.rank_timeout_s * NS_PER_S + patience_ns;
}

void ranks_emit(struct engine *e, enum frame_kind kind, int rank, const char *text, size_t len)
{
	if (!e->cfg->opt.frames || !e->ranks.can_emit)
		return;
	int rc = frame_write(STDOUT_FILENO, kind, (uint32_t)rank, text, len);
	if (!rc)
		return;
	log_error("cannot write to the controller: %s", strerror(-rc));
	e->ranks.can_emit = false;
}

static void emit_json(struct engine *e, enum frame_kind kind, int rank, json_t *json)
{
	CLEANUP_FREE char *text = json ? json_dumps(json, JSON_COMPACT) : NULL;
	if (text)
		ranks_emit(e, kind, rank, text, strlen(text));
	json_decref(json);
}

/* ---- problems of all ranks ---- */

static const char *self_path(char buf[512])
{
	ssize_t n = readlink("/proc/self/exe", buf, 511);
	buf[n > 0 ? n : 0] = '\0';
	return buf;
}

static char *problems_text(const struct problems *problems)
{
	char path[512];
	json_t *list = json_array();
	for (size_t i = 0; i < problems->count; i++) {
		const struct error *p = &problems->list[i];
		json_array_append_new(list, json_pack("{s:o, s:o, s:i}", "message", result_json_text(p->message), "hint",
						      result_json_text(p->hint), "code", (int)p->code));
	}
	json_t *all = json_pack("{s:s, s:o, s:o}", "version", ENGINE_VERSION, "path", result_json_text(self_path(path)),
				"problems", list);
	char *text = all ? json_dumps(all, JSON_COMPACT) : NULL;
	json_decref(all);
	return text;
}

/* What rank 0 collects: [{rank, host, message, hint, code}]. */
struct collected {
	const struct engine *e;
	json_t *list;
};

static int collect_one(struct collected *c, int rank, const json_t *problem)
{
	json_t *one = json_pack("{s:i, s:o}", "rank", rank, "host", result_json_text(comm_host(c->e->comm, rank)));
	if (!one || json_object_update(one, (json_t *)problem))
		return -ENOMEM;
	return json_array_append_new(c->list, one) ? -ENOMEM : 0;
}

static int collect_version(struct collected *c, int rank, const json_t *report)
{
	char path[512];
	struct error err = {0};
	const char *version = json_string_value(json_object_get(report, "version"));
	if (version && !strcmp(version, ENGINE_VERSION))
		return 0;
	error_set(&err, 0, ERR_RUN_DEPENDENCY, "%.300s is version %.32s here, but rank 0 on %.64s runs %s (%.300s)",
		  json_string_value(json_object_get(report, "path")), version ? version : "unknown",
		  comm_host(c->e->comm, 0), ENGINE_VERSION, self_path(path));
	json_t *problem = json_pack("{s:s, s:s, s:i}", "message", err.message, "hint",
				    "install the same version at this path on every host", "code", (int)err.code);
	int rc = problem ? collect_one(c, rank, problem) : -ENOMEM;
	json_decref(problem);
	return rc;
}

static int collect(void *arg, int rank, const char *data, size_t len)
{
	struct collected *c = arg;
	size_t i;
	json_t *report = json_loadb(data, len, 0, NULL), *one;
	int rc = report ? collect_version(c, rank, report) : -EBADMSG;
	json_array_foreach(json_object_get(report, "problems"), i, one)
		rc = rc ? rc : collect_one(c, rank, one);
	json_decref(report);
	return rc;
}

static bool is_alike(const json_t *a, const json_t *b)
{
	return json_equal(json_object_get(a, "message"), json_object_get(b, "message")) &&
	       json_equal(json_object_get(a, "hint"), json_object_get(b, "hint"));
}

/* "rank 1 on h1, rank 2 on h2: " of all that have this problem; nothing where there is one rank only. */
static void name_ranks(const struct collected *c, const json_t *problem, struct str *out)
{
	enum { NAMED_MAX = 8 };
	CLEANUP_STR struct str names = {0};
	int n = 0;
	size_t i;
	const json_t *other;
	if (comm_size(c->e->comm) == 1)
		return;
	json_array_foreach(c->list, i, other) {
		if (is_alike(problem, other) && n++ < NAMED_MAX)
			str_addf(&names, "%srank %d on %s", n > 1 ? ", " : "",
				 (int)json_integer_value(json_object_get(other, "rank")),
				 json_string_value(json_object_get(other, "host")));
	}
	if (n > NAMED_MAX)
		str_addf(&names, " and %d more", n - NAMED_MAX);
	str_addf(out, "%s: ", n == comm_size(c->e->comm) ? "every rank" : str_text(&names));
}

/* Alike ones once, in the order of their first. Return: exit code. */
static int show(const struct collected *c)
{
	CLEANUP_STR struct str text = {0};
	int code = EXIT_OK;
	size_t i, k;
	const json_t *one;
	json_array_foreach(c->list, i, one) {
		/* What is wrong with the command line comes before what is wrong with a machine. */
		int own = err_exit_code((enum err_code)json_integer_value(json_object_get(one, "code")));
		code = code == EXIT_OK || own == EXIT_USAGE ? own : code;
		for (k = 0; k < i && !is_alike(one, json_array_get(c->list, k)); k++)
			;
		if (k < i)
			continue;
		const char *hint = json_string_value(json_object_get(one, "hint"));
		str_add(&text, "kv-cache: ");
		name_ranks(c, one, &text);
		str_addf(&text, "%s\n", json_string_value(json_object_get(one, "message")));
		if (hint && *hint)
			str_addf(&text, "  %s\n", hint);
	}
	if (code == EXIT_USAGE)
		str_add(&text, "Try 'kv-cache --help'.\n");
	if (code && !c->e->cfg->opt.frames)
		fputs(str_text(&text), stderr);
	return code;
}

static int by_rank(const void *a, const void *b)
{
	json_int_t x = json_integer_value(json_object_get(*(json_t *const *)a, "rank"));
	json_int_t y = json_integer_value(json_object_get(*(json_t *const *)b, "rank"));
	return (x > y) - (x < y);
}

/* Reports come as they come; people read them by rank. */
static void sort_by_rank(json_t *list)
{
	size_t n = json_array_size(list);
	CLEANUP_FREE json_t **v = calloc(n + 1, sizeof(*v));
	for (size_t i = 0; v && i < n; i++)
		v[i] = json_incref(json_array_get(list, i));
	if (!v)
		return;
	qsort(v, n, sizeof(*v), by_rank);
	json_array_clear(list);
	for (size_t i = 0; i < n; i++)
		json_array_append_new(list, v[i]);
}

int ranks_fail(struct engine *e, int rc, const struct error *err)
{
	bool is_mine = !comm_rank(e->comm) || rc != -ECONNABORTED; /* else rank 0 says it */
	if (is_mine && !e->cfg->opt.frames)
		fprintf(stderr, "kv-cache: %s%s%s\n", err->message, err->hint[0] ? "\n  " : "", err->hint);
	if (!comm_rank(e->comm))
		emit_json(e, FRAME_PROBLEMS, 0,
			  json_pack("[{s:i, s:o, s:o, s:o, s:i}]", "rank", 0, "host",
				    result_json_text(comm_host(e->comm, 0)), "message", result_json_text(err->message),
				    "hint", result_json_text(err->hint), "code", (int)err->code));
	return err_exit_code(err->code);
}

int ranks_agree(struct engine *e, const struct problems *problems, uint64_t patience_ns)
{
	struct error err = {0};
	struct collected c = {.e = e, .list = json_array()};
	CLEANUP_FREE char *text = problems_text(problems);
	int32_t code = EXIT_OK;
	e->ranks.can_emit = !comm_rank(e->comm);
	int rc = comm_gather(e->comm, text ? text : "", text ? strlen(text) : 0, collect, &c, ranks_deadline(e, patience_ns), &err);
	if (!rc && !comm_rank(e->comm)) {
		sort_by_rank(c.list);
		code = show(&c);
		if (code)
			emit_json(e, FRAME_PROBLEMS, 0, json_incref(c.list));
	}
	json_decref(c.list);
	if (!rc)
		rc = comm_bcast(e->comm, &code, sizeof(code), ranks_deadline(e, patience_ns), &err);
	return rc ? ranks_fail(e, rc, &err) : code;
}

int ranks_share_code(struct engine *e, int code)
{
	struct error err = {0};
	int32_t shared = code;
	int rc = comm_bcast(e->comm, &shared, sizeof(shared), ranks_deadline(e, 0), &err);
	return rc ? ranks_fail(e, rc, &err) : shared;
}

/* ---- what must be the same, or shared out ---- */

int ranks_share_seed(struct engine *e, struct error *err)
{
	return comm_bcast(e->comm, &e->seed, sizeof(e->seed), ranks_deadline(e, 0), err);
}

/* File systems that several hosts see, by the beginning of their type. */
static bool is_network(const char *type)
{
	static const char *const types[] = {"nfs",  "lustre", "gpfs", "beegfs", "ceph", "cifs", "smb",
					    "glusterfs", "fuse.", "9p", "wekafs", "pvfs", "orangefs", "afs", "virtiofs"};
	for (size_t i = 0; i < ARRAY_LEN(types); i++)
		if (!strncmp(type, types[i], strlen(types[i])))
			return true;
	return false;
}

/*
 * Ranks share space when their directories are on one file system: on a host, the same device number; over the network, the
 * same source. What the same server exports under two names is not seen, which the check of the real free space makes up for.
 */
int ranks_share_space(struct engine *e, struct error *err)
{
	const struct fs_facts *fs = &e->storage.fs;
	CLEANUP_STR struct str id = {0};
	if (is_network(fs->type) && fs->source[0])
		str_addf(&id, "%s %s", fs->type, fs->source);
	else
		str_addf(&id, "%s %u:%u", comm_host(e->comm, comm_rank(e->comm)), fs->dev_major, fs->dev_minor);
	if (id.rc)
		return error_set(err, id.rc, ERR_INTERNAL, "out of memory");
	return comm_count_same(e->comm, XXH3_64bits(id.s, id.len), &e->storage.sharers, ranks_deadline(e, 0), err);
}

/* ---- ready ---- */

static json_t *ready_json(const struct engine *e)
{
	const struct storage *s = &e->storage;
	int rank = comm_rank(e->comm);
	char st_dev[32];
	snprintf(st_dev, sizeof(st_dev), "%u:%u", s->fs.dev_major, s->fs.dev_minor);
	const char *mode = !e->is_file_backend ? "" : s->is_direct ? "direct" : "buffered";
	return json_pack("{s:i, s:i, s:o, s:s, s:o, s:i, s:I, s:s, s:I, s:s, s:s, s:o, s:o, s:o, s:o, s:s, s:I, s:I}",
			 "rank", rank, "ranks", comm_size(e->comm), "host", result_json_text(comm_host(e->comm, rank)),
			 "version", ENGINE_VERSION, "mpi_library", result_json_text(comm_library(e->comm)), "pid",
			 (int)getpid(), "seed", (json_int_t)(e->seed + (uint64_t)rank), "seed_source",
			 e->seed_was_drawn ? "drawn" : "given", "workers", (json_int_t)e->runner_setup.workers, "io_engine",
			 runner_io_engine(e->runner), "io_mode", mode, "cache_dir",
			 e->is_file_backend ? result_json_text(s->cache_dir) : json_null(), "fs_type",
			 result_json_text(s->fs.type), "fs_source", result_json_text(s->fs.source), "mount_point",
			 result_json_text(s->fs.mount_point), "st_dev", st_dev, "storage_limit_bytes",
			 (json_int_t)MIN(s->limit_bytes, INT64_MAX), "memory_bytes", (json_int_t)e->predicted_bytes);
}

/* Set-ups that may differ but must not differ unseen. */
static const struct {
	const char *key, *what;
} compared[] = {
	{"io_engine", "I/O engine"},
	{"io_mode", "I/O mode"},
	{"fs_type", "type of file system"},
	{"mpi_library", "MPI library"},
};

struct readiness {
	struct engine *e;
	json_t *seen[ARRAY_LEN(compared)]; /* value: the first rank that has it */
};

static int take_ready(void *arg, int rank, const char *data, size_t len)
{
	struct readiness *all = arg;
	json_t *ready = json_loadb(data, len, 0, NULL);
	if (!ready)
		return -EBADMSG;
	ranks_emit(all->e, FRAME_READY, rank, data, len);
	for (size_t i = 0; i < ARRAY_LEN(compared); i++) {
		const char *value = json_string_value(json_object_get(ready, compared[i].key));
		if (value && !json_object_get(all->seen[i], value))
			json_object_set_new(all->seen[i], value, json_integer(rank));
	}
	json_decref(ready);
	return 0;
}

static int tell_differences(const struct readiness *all)
{
	int rc = 0;
	for (size_t i = 0; i < ARRAY_LEN(compared); i++) {
		CLEANUP_STR struct str text = {0};
		const char *value;
		json_t *rank;
		if (json_object_size(all->seen[i]) < 2)
			continue;
		str_addf(&text, "ranks differ in their %s:", compared[i].what);
		json_object_foreach(all->seen[i], value, rank) {
			int r = (int)json_integer_value(rank);
			str_addf(&text, " %s first on rank %d (%s);", *value ? value : "none", r, comm_host(all->e->comm, r));
		}
		str_add(&text, " their numbers are added up all the same");
		log_warning("%s", str_text(&text));
		rc = rc ? rc : text.rc ? text.rc : strlist_add(&all->e->ranks.notices, text.s);
	}
	return rc;
}

int ranks_ready(struct engine *e)
{
	struct error err = {0};
	struct readiness all = {.e = e};
	json_t *own = ready_json(e);
	CLEANUP_FREE char *text = own ? json_dumps(own, JSON_COMPACT) : NULL;
	json_decref(own);
	for (size_t i = 0; i < ARRAY_LEN(compared); i++)
		all.seen[i] = json_object();
	int rc = comm_gather(e->comm, text ? text : "", text ? strlen(text) : 0, take_ready, &all, ranks_deadline(e, 0), &err);
	if (!rc)
		rc = tell_differences(&all);
	if (!rc)
		rc = ranks_tell_hosts(e, &err);
	for (size_t i = 0; i < ARRAY_LEN(compared); i++)
		json_decref(all.seen[i]);
	return rc ? ranks_fail(e, rc, &err) : EXIT_OK;
}

/* ---- the window ---- */

int ranks_start(struct engine *e, bool *goes_on)
{
	struct error err = {0};
	uint64_t stays = !*goes_on;
	/* Others may fill their storage ten times as slowly as this one. */
	uint64_t patience = 10 * (clock_mono_ns() - e->ranks.ready_ns);
	int rc = comm_allreduce(e->comm, COMM_MAX, &stays, 1, ranks_deadline(e, patience), &err);
	if (!rc)
		rc = comm_clock_offset(e->comm, &e->ranks.clock_offset_ns, ranks_deadline(e, 0), &err);
	/* The first ends a wait of any length and wakes everybody up, the second is sharp. */
	for (int i = 0; i < 2 && !rc; i++)
		rc = comm_barrier(e->comm, ranks_deadline(e, 0), &err);
	*goes_on = !stays;
	e->ranks.start_ns = clock_mono_ns();
	return rc ? ranks_fail(e, rc, &err) : EXIT_OK;
}

/* The result so far, of the counters that can be read while workers work. */
static void post_snapshot(struct engine *e, const struct runner_progress *p)
{
	struct metrics *m = e->ranks.live;
	for (unsigned t = 0; t < TIER_CLASSES; t++)
		for (unsigned d = 0; d < DIRECTIONS; d++)
			m->count[COUNT_TIER_BYTES(t, d)] = p->bytes[t][d];
	m->count[COUNT_REQUESTS_COMPLETED] = p->completed;
	struct error_log errors = {.total = error_log_total(&e->errors)};
	uint64_t end = MIN(p->now_ns, p->window_end_ns);
	struct run_result r = {
		.cfg = e->cfg,
		.options = e->options,
		.m = m,
		.errors = &errors,
		.notices = &e->notices,
		.version = ENGINE_VERSION,
		.seed = e->seed + (uint64_t)comm_rank(e->comm),
		.workload_source = "",
		.is_virtual = e->cfg->opt.simulate,
		.window_ns = end > p->window_begin_ns ? end - p->window_begin_ns : 0,
	};
	snprintf(r.host.hostname, sizeof(r.host.hostname), "%s", comm_host(e->comm, comm_rank(e->comm)));
	json_t *snapshot = result_snapshot(&r);
	CLEANUP_FREE char *text = snapshot ? json_dumps(snapshot, JSON_COMPACT) : NULL;
	json_decref(snapshot);
	if (text)
		(void)comm_post(e->comm, COMM_MAIL_SNAPSHOT, text, strlen(text)); /* the next one says more */
}

void ranks_progress(const struct engine *e, struct runner_progress *p)
{
	struct runner_progress sum = *p;
	if (comm_size(e->comm) == 1)
		return;
	memset(sum.bytes, 0, sizeof(sum.bytes));
	sum.completed = sum.in_service = sum.waiting = 0;
	for (int r = 0; r < comm_size(e->comm); r++) {
		const struct runner_progress *own = &e->ranks.heard[r].p;
		for (unsigned t = 0; t < TIER_CLASSES; t++)
			for (unsigned d = 0; d < DIRECTIONS; d++)
				sum.bytes[t][d] += own->bytes[t][d];
		sum.completed += own->completed;
		sum.in_service += own->in_service;
		sum.waiting += own->waiting;
	}
	*p = sum;
}

static void emit_progress(struct engine *e, enum ranks_phase phase, const struct runner_progress *own)
{
	struct runner_progress p = *own;
	ranks_progress(e, &p);
	const char *name = phase == RANKS_FILL ? "fill" : p.now_ns < p.window_begin_ns ? "warmup"
						      : p.now_ns < p.window_end_ns     ? "measure"
										       : "drain";
	uint64_t begin = MIN(p.window_begin_ns, p.window_end_ns);
	json_t *json = json_pack("{s:s, s:f, s:f, s:I, s:I, s:I, s:i, s:i}", "phase", name, "elapsed_s",
				 (double)p.now_ns / 1e9, "window_s",
				 phase == RANKS_RUN ? (double)(p.window_end_ns - begin) / 1e9 : 0.0, "requests_completed",
				 (json_int_t)p.completed, "in_service", (json_int_t)p.in_service, "waiting",
				 (json_int_t)p.waiting, "ranks", comm_size(e->comm), "ranks_heard", e->ranks.heard_count);
	for (unsigned t = 0; json && t < TIER_CLASSES; t++)
		json_object_set_new(json, config_tier_name(t),
				    json_pack("{s:I, s:I}", "read_bytes", (json_int_t)p.bytes[t][DIR_READ], "write_bytes",
					      (json_int_t)p.bytes[t][DIR_WRITE]));
	emit_json(e, FRAME_PROGRESS, 0, json);
}

/* Rank 0: what has come. */
static void hear(struct engine *e)
{
	CLEANUP_STR struct str text = {0};
	int rank;
	while (comm_fetch(e->comm, COMM_MAIL_PROGRESS, &rank, &text)) {
		struct ranks_heard *heard = &e->ranks.heard[rank];
		if (text.len != sizeof(heard->p))
			continue;
		memcpy(&heard->p, text.s, sizeof(heard->p));
		e->ranks.heard_count += !heard->is_heard;
		heard->is_heard = true;
	}
	while (comm_fetch(e->comm, COMM_MAIL_SNAPSHOT, &rank, &text))
		ranks_emit(e, FRAME_SNAPSHOT, rank, text.s, text.len);
	while (comm_fetch(e->comm, COMM_MAIL_SERIES, &rank, &text))
		ranks_emit(e, FRAME_SERIES, rank, text.s, text.len);
	ranks_hear_intervals(e);
}

static bool is_due(uint64_t *next_ns, uint64_t every_ns)
{
	uint64_t now = clock_mono_ns();
	if (now < *next_ns)
		return false;
	*next_ns = now + every_ns;
	return true;
}

bool ranks_tick(struct engine *e, enum ranks_phase phase, const struct runner_progress *p)
{
	struct ranks *ranks = &e->ranks;
	if (!ranks->live)
		return false;
	bool is_second = is_due(&ranks->next_progress_ns, PROGRESS_NS);
	if (is_second)
		(void)comm_post(e->comm, COMM_MAIL_PROGRESS, p, sizeof(*p));
	if (phase == RANKS_RUN && e->cfg->opt.frames && is_due(&ranks->next_snapshot_ns, SNAPSHOT_NS))
		post_snapshot(e, p);
	ranks_sample_host(e);
	ranks_post_intervals(e);
	if (!comm_rank(e->comm))
		hear(e);
	if (is_second && !comm_rank(e->comm))
		emit_progress(e, phase, p);
	return comm_stop_asked(e->comm);
}

void ranks_stop(struct engine *e)
{
	comm_stop(e->comm);
}

bool ranks_are_told(const struct engine *e)
{
	return comm_is_job(e->comm) || e->cfg->opt.frames;
}

int ranks_open(struct engine *e)
{
	struct ranks *ranks = &e->ranks;
	ranks->ready_ns = clock_mono_ns();
	if (!ranks_are_told(e))
		return 0;
	ranks->next_snapshot_ns = clock_mono_ns() + FIRST_SNAPSHOT_NS;
	ranks->live = metrics_new();
	ranks->heard = calloc((size_t)comm_size(e->comm), sizeof(*ranks->heard));
	return ranks->live && ranks->heard ? 0 : -ENOMEM;
}

void ranks_release(struct ranks *r)
{
	metrics_free(r->live);
	free(r->heard);
	strlist_release(&r->notices);
	*r = (struct ranks){0};
}
