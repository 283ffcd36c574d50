// SPDX-License-Identifier: Apache-2.0
/*
 * --interval: the run's intervals, as they end, into a file of one JSON object a line. Each line is written in one piece, so a run
 * that is killed leaves whole lines; one that is interrupted also leaves its last, shorter interval. With a controller
 * (--frames) the lines go there instead, by ranks_intervals.c.
 */
#include "engine/engine.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"
#include "result/result.h"

static bool is_for_controller(const struct engine *e)
{
	return e->cfg->opt.frames && !e->cfg->opt.interval_file;
}

/* Ranks write where they run. */
static void rank_path(struct engine *e, struct problems *problems)
{
	if (e->cfg->opt.interval_file)
		snprintf(e->interval_path, sizeof(e->interval_path), "%s.rank_%d", e->cfg->opt.interval_file,
			 comm_rank(e->comm));
	else
		problems_add(problems, ERR_CONFIG_INVALID,
			     "--interval: ranks write a file each, on their own hosts: --interval-file must say where");
}

void intervals_check(struct engine *e, struct problems *problems)
{
	const struct config_options *o = &e->cfg->opt;
	struct error err = {0};
	size_t stem = strlen(e->output);

	if (o->interval_s <= 0)
		return;
	if (stem > 5 && !strcmp(e->output + stem - 5, ".json"))
		stem -= 5;
	if (is_for_controller(e))
		return;
	if (comm_is_job(e->comm) || o->frames)
		rank_path(e, problems);
	else if (o->interval_file)
		snprintf(e->interval_path, sizeof(e->interval_path), "%s", o->interval_file);
	else
		snprintf(e->interval_path, sizeof(e->interval_path), "%.*s_interval.ndjson", (int)stem, e->output);
	if (!e->interval_path[0] || !file_check_target(e->interval_path, &err))
		return;
	error_prefix(&err, "--interval");
	problems_add_error(problems, &err);
}

int intervals_create(struct engine *e, struct error *err)
{
	if (is_for_controller(e))
		return 0;
	e->interval_fd = open(e->interval_path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
	if (e->interval_fd >= 0)
		return 0;
	return error_set(err, -errno, err_fs_code(-errno), "--interval: cannot write '%s': %s", e->interval_path,
			 strerror(errno));
}

static int intervals_line(struct engine *e, const struct runner_interval *interval)
{
	CLEANUP_STR struct str line = {0};
	bool is_text = is_for_controller(e);
	struct run_interval out = {
		.number = interval->number,
		.begin_ns = interval->begin_ns,
		.end_ns = interval->end_ns,
		.is_warmup = interval->is_warmup,
		.in_service = interval->load.in_service,
		.waiting = interval->load.waiting,
		.transfers = interval->load.transfers,
		.tier_ops = interval->load.tier_ops,
		.errors = interval->load.errors - e->interval_errors,
		.m = interval->m,
	};

	e->interval_errors = interval->load.errors;
	int rc = result_interval(&out, is_text ? &e->interval_text : &line);
	return rc || is_text ? rc : file_write_all(e->interval_fd, line.s, line.len);
}

void intervals_write(struct engine *e)
{
	struct runner_interval interval;
	int rc;

	if (e->cfg->opt.interval_s <= 0)
		return;
	while ((rc = runner_next_interval(e->runner, &interval)) > 0) {
		/* Intervals are taken in any case: the totals are made of them. */
		int failed = e->interval_rc ? 0 : intervals_line(e, &interval);
		if (!failed)
			continue;
		e->interval_rc = failed;
		log_error("cannot write %s: %s", e->interval_path[0] ? e->interval_path : "an interval", strerror(-failed));
	}
	if (rc && !e->interval_rc) {
		e->interval_rc = rc;
		log_error("cannot add up an interval: %s", strerror(-rc));
	}
}

void intervals_close(struct engine *e)
{
	if (e->interval_fd < 0)
		return;
	if (close(e->interval_fd) && !e->interval_rc) {
		e->interval_rc = -errno;
		log_error("cannot write '%s': %s", e->interval_path, strerror(errno));
	}
	e->interval_fd = -1;
	if (!e->interval_rc)
		log_info("intervals: %s", e->interval_path);
}
