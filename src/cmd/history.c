// SPDX-License-Identifier: Apache-2.0
/* mlpstorage history: what was run, with which words, and the same again. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "cmd/cmd.h"
#include "record/ledger.h"

static const char *text_of(const json_t *run, const char *key)
{
	const char *text = json_string_value(json_object_get(run, key));
	return text ? text : "";
}

static json_int_t id_of(const json_t *run)
{
	return json_integer_value(json_object_get(run, "id"));
}

/* The ledger of --results-dir. Return: EXIT_OK, or reported and a code. */
static int open_ledger(const struct cmd_invocation *inv, struct ledger *l)
{
	struct error err = {0};
	if (ledger_open(inv->universal.results_dir, l, &err))
		return cmd_report(&err);
	if (l->damaged)
		log_warning("the list of runs in %s had %zu damaged lines", l->root, l->damaged);
	if (l->recovered)
		log_status("%zu runs were missing in the list and were read from their directories",
			   l->recovered);
	if (l->is_read_only)
		log_info(
			"the list of runs in %s cannot be written: what was missing there is not kept",
			l->root);
	return EXIT_OK;
}

/* --- options */

/* Seconds of "12h", "7d" or "2w"; false when it is none of these. */
static bool parse_age(const char *text, int64_t *ret)
{
	static const struct {
		char unit;
		int64_t seconds;
	} units[] = {{'m', 60}, {'h', 3600}, {'d', 86400}, {'w', 7 * 86400}};
	CLEANUP_FREE char *number = strdup(text);
	size_t len = strlen(text);
	int64_t count;
	if (!number || !len)
		return false;
	number[len - 1] = '\0';
	if (parse_i64(number, &count) || count < 0 || count > 1000000)
		return false;
	for (size_t i = 0; i < ARRAY_LEN(units); i++) {
		if (text[len - 1] == units[i].unit) {
			*ret = count * units[i].seconds;
			return true;
		}
	}
	return false;
}

/* A point in time, local where it is a date. */
static bool parse_since(const char *text, time_t *ret)
{
	static const char *const forms[] = {"%Y-%m-%d", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%d %H:%M:%S",
					    "%Y%m%d_%H%M%S"};
	int64_t age;
	if (parse_age(text, &age)) {
		*ret = time(NULL) - age;
		return true;
	}
	for (size_t i = 0; i < ARRAY_LEN(forms); i++) {
		struct tm tm = {.tm_isdst = -1};
		const char *end = strptime(text, forms[i], &tm);
		if (end && !*end) {
			*ret = mktime(&tm);
			return true;
		}
	}
	return false;
}

/* When a run started. The name of its directory may be ahead: of runs that start together each has its own. 0: not known. */
static time_t start_of(const json_t *run)
{
	struct tm utc = {0};
	struct tm local = {.tm_isdst = -1};
	const char *end = strptime(text_of(run, "started_at"), "%Y-%m-%dT%H:%M:%SZ", &utc);
	if (end && !*end)
		return timegm(&utc);
	end = strptime(text_of(run, "run_datetime"), "%Y%m%d_%H%M%S", &local);
	return end && !*end ? mktime(&local) : 0;
}

int cmd_history_check(struct cmd_invocation *inv, struct problems *problems)
{
	const char *since = inv->history.since;
	time_t when;
	int rc = 0;
	if (since && !parse_since(since, &when))
		rc = problems_add(
			problems, ERR_CONFIG_INVALID,
			"--since: \"%s\" is no time; expected 2026-01-31, 2026-01-31T12:00:00, "
			"or an age as 30m, 12h, 7d, 2w",
			since);
	if (!rc && inv->word &&
	    (parse_i64(inv->word, &inv->history.word_id) || inv->history.word_id < 1))
		rc = problems_add(
			problems, ERR_CONFIG_INVALID,
			"ID: \"%s\" is no number of a run; 'mlpstorage history list' shows them",
			inv->word);
	return rc;
}

int cmd_history_rerun_check(struct cmd_invocation *inv, struct problems *problems)
{
	if (!inv->word)
		return problems_add(problems, ERR_CONFIG_MISSING,
				    "ID: which run? 'mlpstorage history list' shows them");
	return cmd_history_check(inv, problems);
}

/* --- list */

static bool matches(const json_t *run, const char *key, const char *wanted)
{
	return !wanted || !strcmp(text_of(run, key), wanted);
}

static bool is_wanted(const struct cmd_history *h, const json_t *run, time_t since)
{
	return matches(run, "benchmark", h->benchmark) && matches(run, "model", h->model) &&
	       matches(run, "command", h->command) &&
	       (!h->status || matches(run, "status", cmd_history_statuses[h->status])) &&
	       start_of(run) >= since;
}

static int add_paths(const struct ledger *l, json_t *run)
{
	CLEANUP_FREE char *dir = path_join(l->root, text_of(run, "dir"));
	if (!dir || json_object_set_new(run, "result_dir", record_string(dir)))
		return -ENOMEM;
	return json_object_del(run, "dir");
}

/* A run in state "running" is looked at before it is chosen: it may have ended long ago. */
static int inspect_open(const struct ledger *l, json_t *run)
{
	return strcmp(text_of(run, "status"), "running") ? 0 : ledger_inspect(l, run);
}

static bool is_later(const json_t *a, const json_t *b)
{
	time_t x = start_of(a);
	time_t y = start_of(b);
	return x != y ? x > y : id_of(a) > id_of(b);
}

static int compare_newest_first(const void *a, const void *b)
{
	const json_t *x = *(json_t *const *)a;
	const json_t *y = *(json_t *const *)b;
	return is_later(y, x) - is_later(x, y);
}

/* The runs to show, newest first, each inspected. @ret: new array. */
static int choose(const struct cmd_history *h, const struct ledger *l, json_t **ret)
{
	size_t count = json_array_size(l->runs);
	CLEANUP_FREE json_t **list = calloc(count + 1, sizeof(json_t *));
	time_t since = 0;
	size_t chosen = 0;
	int rc = list ? 0 : -ENOMEM;
	if (h->since)
		parse_since(h->since, &since);
	for (size_t i = 0; !rc && i < count; i++) {
		json_t *run = json_array_get(l->runs, i);
		rc = inspect_open(l, run);
		if (is_wanted(h, run, since))
			list[chosen++] = run;
	}
	if (rc)
		return rc;
	qsort(list, chosen, sizeof(json_t *), compare_newest_first);
	if (h->limit > 0 && (uint64_t)h->limit < chosen)
		chosen = (size_t)h->limit;
	json_t *runs = json_array();
	for (size_t i = 0; !rc && i < chosen; i++) {
		if (!json_object_get(list[i], "problems"))
			rc = ledger_inspect(l, list[i]);
		if (!rc)
			rc = add_paths(l, list[i]);
		if (!rc && json_array_append(runs, list[i]))
			rc = -ENOMEM;
	}
	if (rc)
		json_decref(runs);
	else
		*ret = runs;
	return rc;
}

/* --- the table */

enum column {
	COL_ID,
	COL_TIME,
	COL_BENCHMARK,
	COL_MODEL,
	COL_COMMAND,
	COL_USERS,
	COL_HOSTS,
	COL_DURATION,
	COL_STATUS,
	COL_READ,
	COL_DIR,
	COLUMNS
};

static const struct {
	const char *title;
	bool is_number;
} columns[COLUMNS] = {
	[COL_ID] = {"ID", true},
	[COL_TIME] = {"TIME", false},
	[COL_BENCHMARK] = {"BENCHMARK", false},
	[COL_MODEL] = {"MODEL", false},
	[COL_COMMAND] = {"COMMAND", false},
	[COL_USERS] = {"USERS", true},
	[COL_HOSTS] = {"HOSTS", true},
	[COL_DURATION] = {"DURATION", true},
	[COL_STATUS] = {"STATUS", false},
	[COL_READ] = {"READ GB/S", true},
	[COL_DIR] = {"RESULT DIRECTORY", false},
};

enum { CELL_SIZE = 64 };

/* Numbers and times, made for the table; texts are shown as they are. */
struct row {
	const char *cell[COLUMNS];
	char made[COLUMNS][CELL_SIZE];
};

/* "2026-01-31 12:34:56", local */
static void format_time(char buf[CELL_SIZE], time_t when)
{
	struct tm tm;
	if (!when || !localtime_r(&when, &tm) ||
	    !strftime(buf, CELL_SIZE, "%Y-%m-%d %H:%M:%S", &tm))
		snprintf(buf, CELL_SIZE, "-");
}

static void format_number(char buf[CELL_SIZE], const json_t *value, int decimals, const char *unit)
{
	if (json_is_number(value))
		snprintf(buf, CELL_SIZE, "%.*f%s", decimals, json_number_value(value), unit);
	else
		snprintf(buf, CELL_SIZE, "-");
}

/* Without a list of hosts it was this one. */
static void format_hosts(char buf[CELL_SIZE], const json_t *hosts)
{
	size_t count = json_array_size(hosts);
	snprintf(buf, CELL_SIZE, "%zu", count ? count : 1);
}

static void row_fill(struct row *r, const json_t *run)
{
	static const struct {
		enum column column;
		const char *key;
	} texts[] = {{COL_BENCHMARK, "benchmark"},
		     {COL_MODEL, "model"},
		     {COL_COMMAND, "command"},
		     {COL_STATUS, "status"},
		     {COL_DIR, "result_dir"}};
	for (int i = 0; i < COLUMNS; i++)
		r->cell[i] = r->made[i];
	snprintf(r->made[COL_ID], CELL_SIZE, "%" JSON_INTEGER_FORMAT, id_of(run));
	format_time(r->made[COL_TIME], start_of(run));
	format_number(r->made[COL_USERS], json_object_get(run, "num_users"), 0, "");
	format_hosts(r->made[COL_HOSTS], json_object_get(run, "hosts"));
	format_number(r->made[COL_DURATION], json_object_get(run, "duration"), 0, " s");
	format_number(r->made[COL_READ], json_object_get(run, "read_gb_per_s"), 2, "");
	for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
		const char *text = text_of(run, texts[i].key);
		r->cell[texts[i].column] = *text ? text : "-";
	}
}

/* Characters on the screen: bytes that continue one do not count. */
static int width_of(const char *text)
{
	int width = 0;
	for (; *text; text++)
		width += ((unsigned char)*text & 0xc0) != 0x80;
	return width;
}

static void print_cell(const char *text, int column, int width)
{
	int blanks = width - width_of(text);
	bool is_last = column == COLUMNS - 1;
	if (columns[column].is_number)
		printf("%*s", blanks, "");
	fputs(text, stdout);
	if (!columns[column].is_number && !is_last)
		printf("%*s", blanks, "");
	fputs(is_last ? "\n" : "  ", stdout);
}

static void print_problems(const json_t *run)
{
	size_t i;
	json_t *problem;
	json_array_foreach (json_object_get(run, "problems"), i, problem)
		printf("    %s\n", json_string_value(problem));
}

static void print_table(const json_t *runs)
{
	int width[COLUMNS];
	struct row row;
	size_t i;
	json_t *run;
	for (int c = 0; c < COLUMNS; c++)
		width[c] = width_of(columns[c].title);
	json_array_foreach (runs, i, run) {
		row_fill(&row, run);
		for (int c = 0; c < COLUMNS; c++)
			if (width_of(row.cell[c]) > width[c])
				width[c] = width_of(row.cell[c]);
	}
	for (int c = 0; c < COLUMNS; c++)
		print_cell(columns[c].title, c, width[c]);
	json_array_foreach (runs, i, run) {
		row_fill(&row, run);
		for (int c = 0; c < COLUMNS; c++)
			print_cell(row.cell[c], c, width[c]);
		print_problems(run);
	}
}

int cmd_history_list(struct cmd_invocation *inv)
{
	struct ledger l = {0};
	json_t *runs = NULL;
	int code = open_ledger(inv, &l);
	if (code)
		return code;
	if (choose(&inv->history, &l, &runs)) {
		code = cmd_report_memory();
	} else if (inv->history.json) {
		json_dumpf(runs, stdout, JSON_INDENT(2));
		putchar('\n');
	} else if (json_array_size(runs)) {
		print_table(runs);
	} else {
		log_status("no %s in %s", json_array_size(l.runs) ? "such runs" : "runs", l.root);
	}
	json_decref(runs);
	ledger_release(&l);
	return cmd_report_stdout(code);
}

/* --- show */

static int unknown_id(int64_t id)
{
	struct error err = {0};
	error_set(&err, -ENOENT, ERR_CONFIG_INVALID, "No command found with ID %" PRId64, id);
	error_hint(&err, "'mlpstorage history list' shows what there is");
	return cmd_report(&err);
}

static void print_value(const char *key, const json_t *value)
{
	CLEANUP_FREE char *text = json_dumps(value, JSON_ENCODE_ANY);
	if (json_is_string(value))
		printf("    %-18s %s\n", key, json_string_value(value));
	else if (!json_is_null(value))
		printf("    %-18s %s\n", key, text ? text : "");
}

/* Everything that is known of one run; its words are in the line above. */
static int print_details(const struct ledger *l, json_t *run)
{
	const char *key;
	json_t *value;
	if (ledger_inspect(l, run) || add_paths(l, run))
		return cmd_report_memory();
	json_object_foreach (run, key, value)
		if (strcmp(key, "id") && strcmp(key, "argv") && strcmp(key, "command_line") &&
		    strcmp(key, "problems"))
			print_value(key, value);
	print_problems(run);
	return EXIT_OK;
}

static int show_one(const struct ledger *l, int64_t id, bool with_details)
{
	json_t *run = ledger_find(l, id);
	if (!run)
		return unknown_id(id);
	printf("%" PRId64 ": %s\n", id, text_of(run, "command_line"));
	return with_details ? print_details(l, run) : EXIT_OK;
}

/* Oldest first, as a shell's history; a limit keeps the newest. */
static int show_all(const struct ledger *l, int64_t limit)
{
	struct error err = {0};
	size_t count = json_array_size(l->runs);
	size_t first = limit > 0 && (uint64_t)limit < count ? count - (size_t)limit : 0;
	if (!count) {
		error_set(&err, -ENOENT, ERR_CONFIG_INVALID, "No history entries found");
		error_hint(&err, "%s has no runs; --results-dir names another", l->root);
		return cmd_report(&err);
	}
	for (size_t i = first; i < count; i++) {
		const json_t *run = json_array_get(l->runs, i);
		printf("%" JSON_INTEGER_FORMAT " : %s : %s\n", id_of(run),
		       text_of(run, "run_datetime"), text_of(run, "command_line"));
	}
	return EXIT_OK;
}

int cmd_history_show(struct cmd_invocation *inv)
{
	struct ledger l = {0};
	const struct cmd_history *h = &inv->history;
	int code = open_ledger(inv, &l);
	if (code)
		return code;
	if (h->id)
		code = show_one(&l, h->id, false);
	else if (inv->word)
		code = show_one(&l, h->word_id, true);
	else
		code = show_all(&l, h->limit);
	ledger_release(&l);
	return cmd_report_stdout(code);
}

/* --- rerun */

/* The recorded words; an error where there are none. */
static int take_words(const json_t *run, struct strlist *argv, struct error *err)
{
	size_t i;
	json_t *word;
	const json_t *words = json_object_get(run, "argv");
	json_array_foreach (words, i, word) {
		if (!json_is_string(word) ||
		    strlen(json_string_value(word)) != json_string_length(word)) {
			argv->count = 0;
			break;
		}
		if (strlist_add(argv, json_string_value(word)))
			return error_set(err, -ENOMEM, ERR_INTERNAL, "out of memory");
	}
	if (argv->count)
		return 0;
	error_set(err, -EINVAL, ERR_CONFIG_INVALID,
		  "the words of run %" JSON_INTEGER_FORMAT " were not recorded", id_of(run));
	error_hint(err, "its command line was: %s", text_of(run, "command_line"));
	return -EINVAL;
}

/* What was typed for --results-dir, NULL when nothing was. */
static const char *typed_results_dir(const struct strlist *argv)
{
	static const char *const names[] = {"--results-dir", "-rd"};
	const char *found = NULL;
	for (size_t i = 0; i < argv->count; i++) {
		for (size_t n = 0; n < ARRAY_LEN(names); n++) {
			size_t len = strlen(names[n]);
			if (strncmp(argv->v[i], names[n], len))
				continue;
			if (argv->v[i][len] == '=')
				found = argv->v[i] + len + 1;
			else if (!argv->v[i][len])
				found = argv->v[i + 1];
		}
	}
	return found;
}

/* The new run belongs where the old one is listed, also when the tree was moved. */
static int keep_results_dir(struct strlist *argv, const char *root)
{
	const char *typed = typed_results_dir(argv);
	CLEANUP_FREE char *resolved = typed ? path_resolve(typed) : NULL;
	if (setenv("MLPSTORAGE_RESULTS_DIR", root, 1))
		return -ENOMEM;
	if (!resolved || !strcmp(resolved, root))
		return 0;
	int rc = strlist_add(argv, "--results-dir");
	return rc ? rc : strlist_add(argv, root);
}

/* Names on the command line are relative to where it was typed. */
static int return_to(const char *dir, struct error *err)
{
	if (!*dir || !chdir(dir))
		return 0;
	int rc = -errno;
	error_set(err, rc, ERR_FS_NOT_FOUND, "it was started in %s: %s", dir, strerror(-rc));
	return rc;
}

static int prepare_again(const struct cmd_invocation *inv, const struct ledger *l,
			 const json_t *run, struct strlist *argv, struct error *err)
{
	int rc = take_words(run, argv, err);
	if (!rc)
		rc = return_to(text_of(run, "working_directory"), err);
	if (rc)
		return rc;
	rc = keep_results_dir(argv, l->root);
	if (!rc && inv->universal.what_if && !strlist_has(argv, "--what-if"))
		rc = strlist_add(argv, "--what-if");
	return rc ? error_set(err, rc, ERR_INTERNAL, "out of memory") : 0;
}

int cmd_history_rerun(struct cmd_invocation *inv)
{
	struct ledger l = {0};
	struct strlist argv = {0};
	struct error err = {0};
	CLEANUP_FREE char *self = realpath("/proc/self/exe", NULL);
	int code = open_ledger(inv, &l);
	if (code)
		return code;
	const json_t *run = ledger_find(&l, inv->history.word_id);
	if (!run) {
		code = unknown_id(inv->history.word_id);
	} else if (prepare_again(inv, &l, run, &argv, &err)) {
		code = cmd_report(&err);
	} else {
		log_status("Again: %s", text_of(run, "command_line"));
		execv(self ? self : "/proc/self/exe", argv.v);
		error_set(&err, -errno, ERR_RUN_DEPENDENCY, "cannot start %s: %s",
			  self ? self : "/proc/self/exe", strerror(errno));
		code = cmd_report(&err);
	}
	strlist_release(&argv);
	ledger_release(&l);
	return code;
}
