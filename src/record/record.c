// SPDX-License-Identifier: Apache-2.0
/* A run directory that is ours alone, and metadata that is never half written. */
#include "record/record.h"

#include <ctype.h>
#include <stdarg.h>
#include <string.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "base/file.h"
#include "record/ledger.h"
#include "record/record_internal.h"

enum { STAMP_TRIES = 3600 }; /* seconds ahead that may be taken by other runs */

struct record {
	char *root; /* results directory */
	char *dir;
	char *metadata_path;
	char stamp[CLOCK_STAMP_SIZE];
	json_t *metadata;
	bool is_short_of_memory;
	bool has_ended; /* the ledger knows how */
};

const char *const record_status_names[] = {
	[RECORD_RUNNING] = "running", [RECORD_COMPLETE] = "complete",
	[RECORD_FAILED] = "failed",   [RECORD_INTERRUPTED] = "interrupted",
	[RECORD_WHAT_IF] = "what-if",
};

json_t *record_string(const char *text)
{
	if (!text)
		return json_null();
	json_t *value = json_string(text);
	if (value)
		return value;
	CLEANUP_FREE char *copy = strdup(text);
	if (!copy)
		return NULL;
	for (char *p = copy; *p; p++)
		if ((unsigned char)*p >= 0x80)
			*p = '?';
	return json_string(copy);
}

void record_set(struct record *r, const char *key, json_t *value)
{
	if (json_object_set_new(r->metadata, key, value))
		r->is_short_of_memory = true;
}

static void set_time(struct record *r, const char *key)
{
	char text[CLOCK_ISO_SIZE];
	clock_iso_utc(text, time(NULL));
	record_set(r, key, json_string(text));
}

/* A model's name may come from a file and hold anything; in a path it is one plain component. */
static void add_component(struct str *path, const char *name)
{
	str_add(path, "/");
	for (const char *p = name; *p; p++) {
		bool is_plain = isalnum((unsigned char)*p) || *p == '_' || *p == '-' ||
				(*p == '.' && p != name);
		str_add_mem(path, is_plain ? p : "_", 1);
	}
	if (!*name)
		str_add(path, "_");
}

static int fail_dir(struct error *err, int rc, const char *path)
{
	error_set(err, rc, err_fs_code(rc), "cannot create the directory %s: %s", path, strerror(-rc));
	error_hint(err, "name a directory that you may write with --results-dir");
	return rc;
}

/* mkdir() is the reservation: of many runs in one second each gets a directory of its own. */
static int reserve(struct record *r, const char *parent, time_t when, struct error *err)
{
	int rc = dir_make(parent);
	if (rc)
		return fail_dir(err, rc, parent);
	for (int i = 0; i < STAMP_TRIES; i++) {
		clock_stamp(r->stamp, when + i);
		CLEANUP_FREE char *dir = path_join(parent, r->stamp);
		if (!dir)
			return -ENOMEM;
		if (!mkdir(dir, 0777)) {
			r->dir = dir;
			dir = NULL;
			return 0;
		}
		if (errno != EEXIST)
			return fail_dir(err, -errno, dir);
	}
	return fail_dir(err, -EEXIST, parent);
}

/* Null where a word cannot be kept exactly: then nobody can run it again by it. */
static json_t *argv_value(char *const *argv)
{
	json_t *list = json_array();
	for (; argv && *argv; argv++) {
		if (json_array_append_new(list, json_string(*argv))) {
			json_decref(list);
			return json_null();
		}
	}
	return list;
}

static void set_base(struct record *r, const struct record_spec *spec)
{
	CLEANUP_FREE char *cwd = getcwd(NULL, 0);
	record_set(r, "benchmark_type", record_string(spec->benchmark));
	record_set(r, "model", record_string(spec->model));
	record_set(r, "command", record_string(spec->command));
	record_set(r, "run_datetime", json_string(r->stamp));
	record_set(r, "history_id", json_null());
	record_set(r, "status", json_string(record_status_names[RECORD_RUNNING]));
	record_set(r, "exit_status", json_null());
	record_set(r, "num_processes", json_null());
	record_set(r, "accelerator", json_null());
	record_set(r, "result_dir", record_string(r->dir));
	record_set(r, "parameters", json_object());
	record_set(r, "override_parameters", json_object());
	record_set(r, "system_info", json_null());
	record_set(r, "runtime", json_real(0));
	record_set(r, "verification", json_null());
	record_set(r, "executed_command", json_null());
	record_set(r, "command_output_files", json_array());
	record_set(r, "command_line", record_string(spec->command_line));
	record_set(r, "argv", argv_value(spec->argv));
	record_set(r, "working_directory", record_string(cwd));
	record_set(r, "process", ledger_process());
	record_set(r, "mlpstorage_version", record_string(spec->version));
	set_time(r, "started_at");
	record_set(r, "ended_at", json_null());
	record_set(r, "args", json_object());
	record_set(r, "args_source", json_object());
}

/* The run directory below the results directory. */
static const char *relative_dir(const struct record *r)
{
	const char *p = r->dir + strlen(r->root);
	return p + strspn(p, "/");
}

static int tell_ledger(struct record *r, struct error *err)
{
	CLEANUP_CLOSE int lock = -1;
	int rc = ledger_lock(r->root, &lock, err);
	return rc ? rc : ledger_put(r->root, relative_dir(r), r->metadata, err);
}

static int open_dir(struct record *r, const struct record_spec *spec, struct error *err)
{
	CLEANUP_STR struct str parent = {0};
	CLEANUP_CLOSE int lock = -1;
	r->root = path_resolve(spec->results_dir);
	r->metadata = json_object();
	if (!r->root || !r->metadata)
		return -ENOMEM;
	str_add(&parent, r->root);
	add_component(&parent, spec->benchmark);
	add_component(&parent, spec->model);
	add_component(&parent, spec->command);
	if (parent.rc)
		return parent.rc;
	/* Nobody who looks for directories that the ledger lacks sees ours in between. */
	int rc = ledger_lock(r->root, &lock, err);
	if (!rc)
		rc = reserve(r, str_text(&parent), spec->when, err);
	if (rc)
		return rc;
	r->metadata_path = record_path(r, "%s_%s_metadata.json", spec->benchmark, r->stamp);
	if (!r->metadata_path)
		return -ENOMEM;
	set_base(r, spec);
	return ledger_put(r->root, relative_dir(r), r->metadata, err);
}

int record_open(const struct record_spec *spec, struct record **ret, struct error *err)
{
	struct record *r = calloc(1, sizeof(*r));
	int rc = r ? open_dir(r, spec, err) : -ENOMEM;
	if (rc == -ENOMEM)
		error_set(err, rc, ERR_INTERNAL, "out of memory");
	if (rc) {
		if (r && r->dir)
			rmdir(r->dir);
		if (r)
			r->has_ended = true; /* it never began */
		record_free(r);
		return rc;
	}
	*ret = r;
	return 0;
}

/* It came to nothing, and the reason has been told. */
static void abandon(struct record *r)
{
	struct error err;
	record_set(r, "status", json_string(record_status_names[RECORD_FAILED]));
	tell_ledger(r, &err);
	rmdir(r->dir);
}

void record_free(struct record *r)
{
	if (!r)
		return;
	if (!r->has_ended)
		abandon(r);
	json_decref(r->metadata);
	free(r->metadata_path);
	free(r->dir);
	free(r->root);
	free(r);
}

const char *record_dir(const struct record *r)
{
	return r->dir;
}

const char *record_stamp(const struct record *r)
{
	return r->stamp;
}

char *record_path(const struct record *r, const char *fmt, ...)
{
	CLEANUP_FREE char *name = NULL;
	va_list ap;
	va_start(ap, fmt);
	int n = vasprintf(&name, fmt, ap);
	va_end(ap);
	if (n < 0) {
		name = NULL;
		return NULL;
	}
	return path_join(r->dir, name);
}

static json_t *words_value(const struct strlist *words)
{
	json_t *list = json_array();
	for (size_t i = 0; i < words->count; i++) {
		if (json_array_append_new(list, record_string(words->v[i]))) {
			json_decref(list);
			return NULL;
		}
	}
	return list;
}

json_t *record_option_value(const struct opt_group *group, size_t index)
{
	const struct opt *opt = &group->opts[index];
	const void *field = (const char *)group->target + opt->offset;
	if (opt->flags & OPT_F_UNSET_NULL && !opt->def && group->source[index] == OPT_FROM_DEFAULT)
		return json_null();
	switch (opt->type) {
	case OPT_FLAG:
		return json_boolean(*(const bool *)field);
	case OPT_INT:
		return json_integer(*(const int64_t *)field);
	case OPT_REAL:
		return json_real(*(const double *)field);
	case OPT_SIZE:
		return json_integer((json_int_t) * (const uint64_t *)field);
	case OPT_TEXT:
		return record_string(*(char *const *)field);
	case OPT_CHOICE:
		return json_string(opt->choices[*(const int *)field]);
	case OPT_LIST:
	case OPT_WORDS:
	case OPT_ARGS:
		return words_value(field);
	}
	return NULL;
}

static void echo_group(struct record *r, const struct opt_group *group, json_t *args,
		       json_t *sources)
{
	for (size_t i = 0; i < group->count; i++) {
		char key[64];
		opt_key(&group->opts[i], key, sizeof(key));
		if (json_object_set_new(args, key, record_option_value(group, i)) ||
		    json_object_set_new(sources, key, json_string(opt_source_name(group->source[i]))))
			r->is_short_of_memory = true;
	}
}

void record_options(struct record *r, const struct opt_set *set)
{
	json_t *args = json_object();
	json_t *sources = json_object();
	for (size_t g = 0; g < set->count; g++)
		echo_group(r, &set->groups[g], args, sources);
	record_set(r, "args", args);
	record_set(r, "args_source", sources);
}

void record_command(struct record *r, const char *command, const char *stdout_path,
		    const char *stderr_path)
{
	record_set(r, "executed_command", record_string(command));
	if (stdout_path)
		record_set(r, "command_output_files",
			   json_pack("[{so, so, so}]", "command", record_string(command), "stdout",
				     record_string(stdout_path), "stderr",
				     record_string(stderr_path)));
}

char *record_text(const struct record *r)
{
	return json_dumps(r->metadata, JSON_INDENT(2));
}

int record_write(struct record *r, enum record_status status, int exit_status, double runtime_s,
		 struct error *err)
{
	record_set(r, "status", json_string(record_status_names[status]));
	record_set(r, "exit_status", exit_status < 0 ? json_null() : json_integer(exit_status));
	record_set(r, "runtime", json_real(runtime_s));
	if (status != RECORD_RUNNING)
		set_time(r, "ended_at");
	CLEANUP_STR struct str text = {0};
	char *dump = record_text(r);
	str_add(&text, dump ? dump : "");
	str_add(&text, "\n");
	if (!dump || text.rc || r->is_short_of_memory) {
		free(dump);
		return error_set(err, -ENOMEM, ERR_INTERNAL, "out of memory");
	}
	free(dump);
	int rc = file_write_atomic(r->metadata_path, str_text(&text), text.len);
	if (rc)
		return error_set(err, rc, err_fs_code(rc), "cannot write %s: %s",
				 r->metadata_path, strerror(-rc));
	if (status == RECORD_RUNNING)
		return 0;
	rc = tell_ledger(r, err);
	r->has_ended = !rc;
	return rc;
}
