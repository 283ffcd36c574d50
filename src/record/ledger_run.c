// SPDX-License-Identifier: Apache-2.0
/* One run of the ledger: what is taken from its metadata, and whether its process still lives. */
#include <inttypes.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "record/record_internal.h"

enum kind { KIND_TEXT, KIND_NUMBER, KIND_LIST, KIND_OBJECT };

/* Keys of a run and of the metadata. What is required must be there, but may be null. */
static const struct field {
	const char *key;
	const char *from;
	enum kind kind;
	bool is_required;
} fields[] = {
	{"run_datetime", "run_datetime", KIND_TEXT, true},
	{"benchmark", "benchmark_type", KIND_TEXT, true},
	{"model", "model", KIND_TEXT, true},
	{"command", "command", KIND_TEXT, true},
	{"status", "status", KIND_TEXT, true},
	{"started_at", "started_at", KIND_TEXT, true},
	{"ended_at", "ended_at", KIND_TEXT, true},
	{"exit_status", "exit_status", KIND_NUMBER, true},
	{"runtime", "runtime", KIND_NUMBER, true},
	{"num_users", "num_users", KIND_NUMBER, true},
	{"duration", "duration", KIND_NUMBER, true},
	{"num_processes", "num_processes", KIND_NUMBER, true},
	{"hosts", "hosts", KIND_LIST, false}, /* only where some were named */
	{"argv", "argv", KIND_LIST, true},
	{"command_line", "command_line", KIND_TEXT, true},
	{"working_directory", "working_directory", KIND_TEXT, true},
	{"process", "process", KIND_OBJECT, true},
};

static const struct {
	json_type type;
	const char *name;
} kinds[] = {
	[KIND_TEXT] = {JSON_STRING, "a text"},
	[KIND_NUMBER] = {JSON_INTEGER, "a number"},
	[KIND_LIST] = {JSON_ARRAY, "a list"},
	[KIND_OBJECT] = {JSON_OBJECT, "an object"},
};

static bool is_of_kind(const json_t *value, enum kind kind)
{
	return kind == KIND_NUMBER ? json_is_number(value)
				   : value && json_typeof(value) == kinds[kind].type;
}

/* What the names of the directories say. */
static void set_from_path(json_t *run, const char *dir)
{
	static const char *const keys[] = {"benchmark", "model", "command", "run_datetime"};
	struct strlist parts = {0};
	if (!strlist_add_split(&parts, dir, "/") && parts.count == ARRAY_LEN(keys))
		for (size_t i = 0; i < ARRAY_LEN(keys); i++)
			if (json_is_null(json_object_get(run, keys[i])))
				json_object_set_new(run, keys[i], record_string(parts.v[i]));
	strlist_release(&parts);
}

/* Metadata of other programs has no state: their exit status is the next best thing. */
static const char *status_of(const json_t *metadata)
{
	const json_t *exit_status = json_object_get(metadata, "exit_status");
	if (!metadata)
		return record_status_names[RECORD_INTERRUPTED];
	if (!json_is_integer(exit_status))
		return "unknown";
	return record_status_names[json_integer_value(exit_status) ? RECORD_FAILED
								   : RECORD_COMPLETE];
}

json_t *ledger_run_new(const json_t *metadata, const char *dir)
{
	json_t *run = json_object();
	int rc = json_object_set_new(run, "id", json_integer(0));
	rc |= json_object_set_new(run, "dir", record_string(dir));
	for (size_t i = 0; i < ARRAY_LEN(fields); i++) {
		json_t *value = json_object_get(metadata, fields[i].from);
		rc |= json_object_set(run, fields[i].key,
				      is_of_kind(value, fields[i].kind) ? value : json_null());
	}
	json_t *rate = json_object_get(json_object_get(metadata, "kvcache_metrics"),
				       "storage_read_gb_per_s");
	rc |= json_object_set(run, "read_gb_per_s", json_is_number(rate) ? rate : json_null());
	if (json_is_null(json_object_get(run, "status")))
		rc |= json_object_set_new(run, "status", json_string(status_of(metadata)));
	if (rc) {
		json_decref(run);
		return NULL;
	}
	set_from_path(run, dir);
	return run;
}

static int add_problem(json_t *problems, const char *fmt, ...) ATTR_PRINTF(2, 3);
static int add_problem(json_t *problems, const char *fmt, ...)
{
	char text[512];
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	return json_array_append_new(problems, record_string(text)) ? -ENOMEM : 0;
}

/* A reader goes by the end of the name; of several the first by name counts, so that all see the same. */
static char *metadata_name(const char *path)
{
	static const char suffix[] = "_metadata.json";
	char *first = NULL;
	CLEANUP_CLOSEDIR DIR *dir = opendir(path);
	for (struct dirent *e; dir && (e = readdir(dir));) {
		size_t len = strlen(e->d_name);
		if (len < sizeof(suffix) || strcmp(e->d_name + len - sizeof(suffix) + 1, suffix) ||
		    (first && strcmp(first, e->d_name) < 0))
			continue;
		free(first);
		first = strdup(e->d_name);
	}
	return first;
}

static void check_fields(const json_t *metadata, const char *name, json_t *problems)
{
	for (size_t i = 0; i < ARRAY_LEN(fields); i++) {
		const json_t *value = json_object_get(metadata, fields[i].from);
		if (!value && fields[i].is_required)
			add_problem(problems, "%s has no '%s'", name, fields[i].from);
		else if (value && !json_is_null(value) && !is_of_kind(value, fields[i].kind))
			add_problem(problems, "%s: '%s' is not %s", name, fields[i].from,
				    kinds[fields[i].kind].name);
	}
}

json_t *ledger_metadata(const char *root, const char *dir, json_t *problems)
{
	CLEANUP_FREE char *path = path_join(root, dir);
	CLEANUP_FREE char *name = path ? metadata_name(path) : NULL;
	CLEANUP_FREE char *file = name ? path_join(path, name) : NULL;
	CLEANUP_STR struct str text = {0};
	json_error_t why;
	if (!file) {
		add_problem(problems, "%s",
			    path && !access(path, F_OK) ? "there is no metadata file"
							: "the run directory is gone");
		return NULL;
	}
	int rc = file_read(file, RECORD_FILE_MAX, &text);
	if (rc) {
		add_problem(problems, "%s: %s", name, strerror(-rc));
		return NULL;
	}
	json_t *metadata = json_loadb(str_text(&text), text.len, 0, &why);
	if (!metadata) {
		add_problem(problems, "%s is not JSON: line %d: %s", name, why.line, why.text);
		return NULL;
	}
	if (!json_is_object(metadata)) {
		add_problem(problems, "%s holds no JSON object", name);
		json_decref(metadata);
		return NULL;
	}
	check_fields(metadata, name, problems);
	return metadata;
}

/* --- processes */

/* When the process started, in ticks since boot; 0 when it is gone or only waits to be reaped. */
static uint64_t start_ticks(json_int_t pid)
{
	enum { FIELDS_TO_START = 20 }; /* from the state, behind the name, to the start time */
	char path[64];
	CLEANUP_STR struct str text = {0};
	snprintf(path, sizeof(path), "/proc/%" JSON_INTEGER_FORMAT "/stat", pid);
	if (pid <= 0 || file_read(path, RECORD_FILE_MAX, &text))
		return 0;
	char *at = strrchr(str_text(&text), ')'); /* the name may hold anything */
	char state = at && at[1] ? at[2] : 'X';
	if (state == 'Z' || state == 'X')
		return 0;
	for (int i = 0; at && i < FIELDS_TO_START; i++)
		at = strchr(at + 1, ' ');
	return at ? strtoull(at, NULL, 10) : 0;
}

static void boot_id(char *buf, size_t size)
{
	CLEANUP_STR struct str text = {0};
	int rc = file_read("/proc/sys/kernel/random/boot_id", RECORD_FILE_MAX, &text);
	snprintf(buf, size, "%.*s", rc ? 0 : (int)strcspn(str_text(&text), "\n"), str_text(&text));
}

enum { HOST_NAME_SIZE = 256, BOOT_ID_SIZE = 64 };

static void host_name(char buf[HOST_NAME_SIZE])
{
	if (gethostname(buf, HOST_NAME_SIZE))
		buf[0] = '\0';
	buf[HOST_NAME_SIZE - 1] = '\0';
}

json_t *ledger_process(void)
{
	char host[HOST_NAME_SIZE];
	char boot[BOOT_ID_SIZE];
	host_name(host);
	boot_id(boot, sizeof(boot));
	return json_pack("{sI, so, ss, sI}", "pid", (json_int_t)getpid(), "host",
			 record_string(host), "boot_id", boot, "start_ticks",
			 (json_int_t)start_ticks(getpid()));
}

static const char *text_of(const json_t *object, const char *key)
{
	const char *text = json_string_value(json_object_get(object, key));
	return text ? text : "";
}

enum life { LIFE_GOES_ON, LIFE_ENDED, LIFE_ELSEWHERE };

static enum life life_of(const json_t *process)
{
	char host[HOST_NAME_SIZE];
	char boot[BOOT_ID_SIZE];
	host_name(host);
	boot_id(boot, sizeof(boot));
	if (!json_is_object(process))
		return LIFE_ENDED;
	if (strcmp(text_of(process, "host"), host))
		return LIFE_ELSEWHERE;
	uint64_t start = start_ticks(json_integer_value(json_object_get(process, "pid")));
	if (!start || strcmp(text_of(process, "boot_id"), boot))
		return LIFE_ENDED;
	return start == (uint64_t)json_integer_value(json_object_get(process, "start_ticks"))
		       ? LIFE_GOES_ON
		       : LIFE_ENDED;
}

/* --- inspection */

static bool is_running(const json_t *run)
{
	return !strcmp(text_of(run, "status"), record_status_names[RECORD_RUNNING]);
}

/* Values that only the metadata has: of a run whose end did not reach the ledger, or has not come. */
static int take_missing(json_t *run, const json_t *metadata, const char *dir)
{
	json_t *told = ledger_run_new(metadata, dir);
	const char *key;
	json_t *value;
	int rc = told ? 0 : -ENOMEM;
	bool is_open = is_running(run);
	json_object_foreach (told, key, value) {
		bool is_missing =
			json_is_null(json_object_get(run, key)) || (is_open && strcmp(key, "id"));
		if (is_missing && !json_is_null(value) && json_object_set(run, key, value))
			rc = -ENOMEM;
	}
	json_decref(told);
	return rc;
}

static int judge_open_run(json_t *run, json_t *problems)
{
	const json_t *process = json_object_get(run, "process");
	switch (life_of(process)) {
	case LIFE_GOES_ON:
		return 0;
	case LIFE_ELSEWHERE:
		return add_problem(problems,
				   "started on host '%s': from here its process cannot be seen",
				   text_of(process, "host"));
	case LIFE_ENDED:
		break;
	}
	if (json_object_set_new(run, "status",
				json_string(record_status_names[RECORD_INTERRUPTED])))
		return -ENOMEM;
	return add_problem(problems, "its process is gone and wrote no end");
}

int ledger_inspect(const struct ledger *l, json_t *run)
{
	const char *dir = text_of(run, "dir");
	json_t *problems = json_array();
	json_t *metadata = ledger_metadata(l->root, dir, problems);
	int rc = metadata ? take_missing(run, metadata, dir) : 0;
	if (!rc && is_running(run))
		rc = judge_open_run(run, problems);
	json_decref(metadata);
	return json_object_set_new(run, "problems", problems) ? -ENOMEM : rc;
}
