// SPDX-License-Identifier: Apache-2.0
/*
 * The division a run is meant for, --open or --closed, and whether its parameters belong there.
 *
 * Rules: MLPerf Storage v3.0, section 6. A run of the closed division is one of three, and everything that the table
 * below does not name has its default. What is judged are the parameters of this one run. A submission is more: all
 * three, three times each, and their results.
 */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "cmd/cmd.h"

enum { CLOSED_SECONDS = 300, CLOSED_SEED = 42, VALID_SECONDS_MIN = 30 };

/* The three runs of the closed division. */
static const struct closed_run {
	const char *title;
	const char *model;
	int64_t users;
	double cpu_gib;
	int64_t concurrent_allocs;
} closed_runs[] = {
	{"Max Storage Stress", "llama3.1-8b", 200, 0, 16},
	{"Storage Throughput", "llama3.1-8b", 100, 4, 16},
	{"Large Model", "llama3.1-70b-instruct", 70, 0, 4},
};

/* Options that the table decides, or that change nothing that is measured. */
static const char *const free_options[] = {
	"--model",      "--num-users", "--duration",   "--gpu-mem-gb",
	"--cpu-mem-gb", "--seed",      "--cache-dir",  "--max-concurrent-allocs",
	"--output",     "--log-level", "--raw-samples", "--generation-mode",
	"--cleanup",    "--quiet",     "--performance-profile", "--progress",
	"--rank-timeout",
};

/* Issues, or only their number where @issues is NULL. */
struct findings {
	struct strlist *issues;
	unsigned count;
	int rc;
};

static void ATTR_PRINTF(3, 4)
	expect(struct findings *f, bool is_met, const char *fmt, ...)
{
	CLEANUP_FREE char *text = NULL;
	va_list ap;
	if (is_met)
		return;
	f->count++;
	if (!f->issues || f->rc)
		return;
	va_start(ap, fmt);
	int n = vasprintf(&text, fmt, ap);
	va_end(ap);
	if (n < 0)
		text = NULL;
	f->rc = text ? strlist_add(f->issues, text) : -ENOMEM;
}

static void compare_with(const struct closed_run *run, const struct cmd_invocation *inv, struct findings *f)
{
	const struct config_options *o = &inv->config.opt;
	expect(f, !strcmp(o->model, run->model), "--model %s, expected %s", o->model, run->model);
	expect(f, o->num_users == run->users, "--num-users %lld, expected %lld", (long long)o->num_users,
	       (long long)run->users);
	expect(f, o->cpu_mem_gib == run->cpu_gib, "--cpu-mem-gb %g, expected %g", o->cpu_mem_gib, run->cpu_gib);
	expect(f, o->max_concurrent_allocs == run->concurrent_allocs,
	       "--max-concurrent-allocs %lld, expected %lld", (long long)o->max_concurrent_allocs,
	       (long long)run->concurrent_allocs);
}

static void compare_common(const struct cmd_invocation *inv, struct findings *f)
{
	const struct config_options *o = &inv->config.opt;
	const struct opt_group *g = &inv->engine;
	expect(f, o->duration_s == CLOSED_SECONDS, "--duration %lld, expected %d", (long long)o->duration_s,
	       CLOSED_SECONDS);
	expect(f, o->gpu_mem_gib == 0, "--gpu-mem-gb %g, expected 0", o->gpu_mem_gib);
	expect(f, o->generation_mode == GENERATION_NONE, "--generation-mode: expected none");
	expect(f, o->seed == CLOSED_SEED, "--seed: expected %d", CLOSED_SEED);
	for (size_t i = 0; i < g->count; i++)
		if (!str_is_among(g->opts[i].name, free_options, ARRAY_LEN(free_options)))
			expect(f, g->source[i] == OPT_FROM_DEFAULT, "%s may not be changed", g->opts[i].name);
}

static const struct closed_run *nearest_run(const struct cmd_invocation *inv)
{
	const struct closed_run *best = NULL;
	unsigned least = 0;
	for (size_t i = 0; i < ARRAY_LEN(closed_runs); i++) {
		struct findings f = {0};
		compare_with(&closed_runs[i], inv, &f);
		if (!best || f.count < least) {
			best = &closed_runs[i];
			least = f.count;
		}
	}
	return best;
}

/* What no division allows. */
static void find_invalid(const struct cmd_invocation *inv, struct findings *f)
{
	const struct config_options *o = &inv->config.opt;
	expect(f, o->duration_s >= VALID_SECONDS_MIN, "--duration %lld, expected at least %d",
	       (long long)o->duration_s, VALID_SECONDS_MIN);
	expect(f, model_find(o->model) != NULL, "--model %s is not a model of the benchmark", o->model);
	expect(f, o->storage_backend == BACKEND_FILE && !o->simulate,
	       "--storage-backend, --simulate: nothing is stored");
}

static int refuse(const struct strlist *issues, enum err_code code, const char *what, const char *hint,
		  struct problems *problems)
{
	int rc = 0;
	for (size_t i = 0; !rc && i < issues->count; i++) {
		struct error err = {0};
		error_set(&err, 0, code, "%s: %s", what, issues->v[i]);
		error_hint(&err, "%s", hint);
		rc = problems_add_error(problems, &err);
	}
	return rc;
}

int cmd_division_check(struct cmd_invocation *inv, struct problems *problems)
{
	const struct cmd_universal *u = &inv->universal;
	struct cmd_division *d = &inv->division;
	strlist_release(&d->issues);
	*d = (struct cmd_division){.asked = u->closed ? "closed" : u->open ? "open" : NULL};
	if (u->open && u->closed)
		return problems_add(problems, ERR_CONFIG_INCOMPATIBLE,
				    "--open, --closed: a run is meant for one division");
	if (!d->asked) {
		if (u->allow_invalid)
			log_info("--allow-invalid-params: without --open or --closed nothing is judged");
		return 0;
	}
	struct findings invalid = {.issues = &d->issues};
	find_invalid(inv, &invalid);
	if (invalid.rc)
		return invalid.rc;
	d->verdict = invalid.count ? "INVALID" : "OPEN";
	if (invalid.count && !u->allow_invalid)
		return refuse(&d->issues, ERR_RULES_INVALID, "not a valid run",
			      "--allow-invalid-params runs it all the same", problems);
	for (size_t i = 0; i < d->issues.count; i++)
		log_warning("[E%d] not a valid run: %s", ERR_RULES_INVALID, d->issues.v[i]);
	if (!u->closed || invalid.count)
		return 0;
	const struct closed_run *run = nearest_run(inv);
	struct findings open = {.issues = &d->issues};
	compare_with(run, inv, &open);
	compare_common(inv, &open);
	if (open.rc)
		return open.rc;
	d->verdict = open.count ? "OPEN" : "CLOSED";
	CLEANUP_STR struct str what = {0};
	str_addf(&what, "--closed, nearest run \"%s\"", run->title);
	return open.count ? refuse(&d->issues, ERR_RULES_OPEN, str_text(&what),
				   "--open takes any parameters", problems)
			  : 0;
}
