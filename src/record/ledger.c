// SPDX-License-Identifier: Apache-2.0
/* The ledger's file: lines that are whole, ids that are given once, and what to do when it is lost. */
#include "record/ledger.h"

#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "record/record_internal.h"

#define LOCK_WAIT_NS (30 * NS_PER_S) /* a holder needs milliseconds */
#define LOCK_STEP_US 5000

static char *ledger_path(const char *root, const char *name)
{
	struct str path = {0};
	str_addf(&path, "%s/.mlps%s%s", root, *name ? "/" : "", name);
	return str_take(&path);
}

static int fail_file(struct error *err, int rc, const char *path)
{
	if (rc == -ENOMEM)
		return error_set(err, rc, ERR_INTERNAL, "out of memory");
	if (rc == -ETIMEDOUT)
		return error_set(err, rc, ERR_FS_STRUCTURE,
				 "another program has held the lock %s for half a minute", path);
	return error_set(err, rc, err_fs_code(rc), "cannot use the list of runs %s: %s", path,
			 strerror(-rc));
}

/* --- the lock */

/* Some network file systems have no locks. What writers then do to each other's lines and numbers, readers mend. */
static bool has_no_locks(int error)
{
	return error == ENOLCK || error == ENOSYS || error == EOPNOTSUPP;
}

/* Tried again and again, because a holder that was stopped would keep a blocking call for ever. */
static int lock_wait(int fd)
{
	uint64_t end_ns = clock_mono_ns() + LOCK_WAIT_NS;
	while (flock(fd, LOCK_EX | LOCK_NB)) {
		if (has_no_locks(errno))
			return 0;
		if (errno != EWOULDBLOCK && errno != EINTR)
			return -errno;
		if (clock_mono_ns() > end_ns)
			return -ETIMEDOUT;
		usleep(LOCK_STEP_US);
	}
	return 0;
}

int ledger_lock(const char *root, int *ret, struct error *err)
{
	CLEANUP_FREE char *dir = ledger_path(root, "");
	CLEANUP_FREE char *path = ledger_path(root, "lock");
	if (!dir || !path)
		return fail_file(err, -ENOMEM, "");
	int rc = dir_make(dir);
	if (rc) {
		error_set(err, rc, err_fs_code(rc), "cannot create the directory %s: %s", dir,
			  strerror(-rc));
		error_hint(err, "name a directory that you may write with --results-dir");
		return rc;
	}
	int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
	rc = fd < 0 ? -errno : lock_wait(fd);
	if (!rc) {
		*ret = fd;
		return 0;
	}
	if (fd >= 0)
		close(fd);
	return fail_file(err, rc, path);
}

/* --- lines */

/* Only below the results directory: the file may come from anywhere. */
static bool is_run_dir(const char *dir)
{
	if (!dir || !*dir || *dir == '/')
		return false;
	for (const char *p = dir; *p; p += strspn(p, "/")) {
		size_t len = strcspn(p, "/");
		if (len == 2 && p[0] == '.' && p[1] == '.')
			return false;
		p += len;
	}
	return true;
}

static bool is_run(const json_t *run)
{
	return json_integer_value(json_object_get(run, "id")) > 0 &&
	       is_run_dir(json_string_value(json_object_get(run, "dir"))) &&
	       json_is_string(json_object_get(run, "status"));
}

static const char *dir_of(const json_t *run)
{
	return json_string_value(json_object_get(run, "dir"));
}

static json_int_t id_of(const json_t *run)
{
	return json_integer_value(json_object_get(run, "id"));
}

/* @places: from a directory to its place in @runs. */
static int take_line(const char *line, size_t len, json_t *runs, json_t *places, size_t *damaged)
{
	json_t *run = json_loadb(line, len, 0, NULL);
	if (!run || !is_run(run)) {
		*damaged += 1;
		json_decref(run);
		return 0;
	}
	json_t *place = json_object_get(places, dir_of(run));
	int rc;
	if (place) {
		rc = json_array_set_new(runs, (size_t)json_integer_value(place), run);
	} else {
		rc = json_object_set_new(places, dir_of(run),
					 json_integer((json_int_t)json_array_size(runs)));
		rc |= json_array_append_new(runs, run);
	}
	return rc ? -ENOMEM : 0;
}

int ledger_parse(const char *text, size_t len, json_t *runs, size_t *damaged)
{
	json_t *places = json_object();
	int rc = places ? 0 : -ENOMEM;
	const char *end = text + len;
	for (const char *p = text; !rc && p < end;) {
		const char *stop = memchr(p, '\n', (size_t)(end - p));
		if (!stop)
			stop = end;
		if (stop > p)
			rc = take_line(p, (size_t)(stop - p), runs, places, damaged);
		p = stop + 1;
	}
	json_decref(places);
	return rc;
}

/* A file that is not there is an empty one. */
static int ledger_load(const char *path, json_t *runs, size_t *damaged)
{
	CLEANUP_STR struct str text = {0};
	int rc = file_read(path, RECORD_FILE_MAX, &text);
	if (rc)
		return rc == -ENOENT ? 0 : rc;
	return ledger_parse(str_text(&text), text.len, runs, damaged);
}

/* A writer that was killed may have left half a line: it gets its end first, so that ours stands alone. */
static int append_line(const char *path, const char *line)
{
	CLEANUP_CLOSE int fd = open(path, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
	CLEANUP_STR struct str text = {0};
	struct stat st;
	char last = '\n';
	if (fd < 0 || fstat(fd, &st))
		return -errno;
	if (st.st_size && pread(fd, &last, 1, st.st_size - 1) != 1)
		return -EIO;
	str_addf(&text, "%s%s\n", last == '\n' ? "" : "\n", line);
	int rc = text.rc ? text.rc : file_write_all(fd, str_text(&text), text.len);
	if (!rc && fsync(fd))
		rc = -errno;
	if (rc && ftruncate(fd, st.st_size))
		return -errno;
	return rc;
}

/* --- ids */

static json_int_t last_id(const json_t *runs)
{
	json_int_t last = 0;
	size_t i;
	json_t *run;
	json_array_foreach (runs, i, run)
		last = id_of(run) > last ? id_of(run) : last;
	return last;
}

/* The id of a run directory: the one it has, the one it had, or the next. */
static json_int_t choose_id(const json_t *runs, const char *dir, json_int_t wanted)
{
	bool is_free = wanted > 0;
	size_t i;
	json_t *run;
	json_array_foreach (runs, i, run) {
		if (!strcmp(dir_of(run), dir))
			return id_of(run);
		is_free = is_free && id_of(run) != wanted;
	}
	return is_free ? wanted : last_id(runs) + 1;
}

/* --- the whole list */

static int compare_ids(const void *a, const void *b)
{
	json_int_t x = id_of(*(json_t *const *)a);
	json_int_t y = id_of(*(json_t *const *)b);
	return (x > y) - (x < y);
}

static int sort_by_id(json_t **runs)
{
	size_t count = json_array_size(*runs);
	CLEANUP_FREE json_t **list = calloc(count + 1, sizeof(json_t *));
	json_t *sorted = json_array();
	int rc = list && sorted ? 0 : -ENOMEM;
	for (size_t i = 0; !rc && i < count; i++)
		list[i] = json_array_get(*runs, i);
	if (!rc)
		qsort(list, count, sizeof(json_t *), compare_ids);
	for (size_t i = 0; !rc && i < count; i++)
		rc = json_array_append(sorted, list[i]) ? -ENOMEM : 0;
	if (rc) {
		json_decref(sorted);
		return rc;
	}
	json_decref(*runs);
	*runs = sorted;
	return 0;
}

/* A run without a number gets the next one. Of two with the same (two trees were put together) the one listed
 * later does. */
static int give_ids(json_t *runs, bool *is_changed)
{
	json_t *seen = json_object();
	json_int_t last = last_id(runs);
	int rc = seen ? 0 : -ENOMEM;
	size_t i;
	json_t *run;
	json_array_foreach (runs, i, run) {
		char key[24];
		snprintf(key, sizeof(key), "%" JSON_INTEGER_FORMAT, id_of(run));
		if (id_of(run) > 0 && !json_object_get(seen, key)) {
			rc |= json_object_set_new(seen, key, json_true());
			continue;
		}
		*is_changed = true;
		rc |= json_object_set_new(run, "id", json_integer(++last));
	}
	json_decref(seen);
	return rc ? -ENOMEM : 0;
}

static int compare_times(const void *a, const void *b)
{
	const char *x = strrchr(*(char *const *)a, '/');
	const char *y = strrchr(*(char *const *)b, '/');
	int order = strcmp(x ? x : "", y ? y : "");
	return order ? order : strcmp(*(char *const *)a, *(char *const *)b);
}

/* A run directory that the list lacks, under the number it had where its metadata says so. */
static int recover(struct ledger *l, const char *dir)
{
	json_t *problems = json_array();
	json_t *metadata = ledger_metadata(l->root, dir, problems);
	json_int_t had = json_integer_value(json_object_get(metadata, "history_id"));
	json_t *run = ledger_run_new(metadata, dir);
	int rc = json_object_set_new(run, "id", json_integer(had > 0 ? had : 0));
	rc |= json_array_append(l->runs, run);
	l->recovered++;
	json_decref(run);
	json_decref(metadata);
	json_decref(problems);
	return rc ? -ENOMEM : 0;
}

/* @except: a run directory that is being entered just now; NULL: none. */
static int recover_all(struct ledger *l, const char *except)
{
	struct strlist found = {0};
	json_t *known = json_object();
	size_t i;
	json_t *run;
	int rc = ledger_scan(l->root, &found);
	if (found.count)
		qsort(found.v, found.count, sizeof(char *), compare_times);
	json_array_foreach (l->runs, i, run)
		rc |= json_object_set_new(known, dir_of(run), json_true()) ? -ENOMEM : 0;
	for (i = 0; !rc && i < found.count; i++)
		if (!json_object_get(known, found.v[i]) && !(except && !strcmp(except, found.v[i])))
			rc = recover(l, found.v[i]);
	json_decref(known);
	strlist_release(&found);
	return rc;
}

static int store(const char *path, const json_t *runs)
{
	CLEANUP_STR struct str text = {0};
	size_t i;
	json_t *run;
	json_array_foreach (runs, i, run) {
		CLEANUP_FREE char *line = json_dumps(run, JSON_COMPACT);
		if (!line)
			return -ENOMEM;
		str_add(&text, line);
		str_add(&text, "\n");
	}
	return text.rc ? text.rc : file_write_atomic(path, str_text(&text), text.len);
}

static int read_and_repair(struct ledger *l, const char *except, bool may_write, struct error *err)
{
	CLEANUP_FREE char *path = ledger_path(l->root, "runs.jsonl");
	bool is_changed = false;
	if (!path)
		return fail_file(err, -ENOMEM, "");
	int rc = ledger_load(path, l->runs, &l->damaged);
	if (!rc)
		rc = recover_all(l, except);
	if (!rc)
		rc = give_ids(l->runs, &is_changed);
	if (!rc)
		rc = sort_by_id(&l->runs);
	if (rc)
		return fail_file(err, rc, path);
	if (!l->recovered && !l->damaged && !is_changed)
		return 0;
	rc = may_write ? store(path, l->runs) : -EROFS;
	if (rc == -ENOMEM)
		return fail_file(err, rc, path);
	l->is_read_only = rc != 0;
	return 0;
}

/* The runs as they are now. A list that is lost or damaged is mended first: else a number could be given twice. */
static int load_for_put(const char *root, const char *path, const char *dir, json_t **ret)
{
	json_t *runs = json_array();
	size_t damaged = 0;
	int rc = runs ? ledger_load(path, runs, &damaged) : -ENOMEM;
	if (!rc && (damaged || !json_array_size(runs))) {
		json_array_clear(runs);
		struct ledger l = {.root = (char *)root, .runs = runs};
		rc = read_and_repair(&l, dir, true, NULL);
		runs = l.runs;
	}
	if (rc)
		json_decref(runs);
	else
		*ret = runs;
	return rc;
}

int ledger_put(const char *root, const char *dir, json_t *metadata, struct error *err)
{
	CLEANUP_FREE char *path = ledger_path(root, "runs.jsonl");
	json_t *runs = NULL;
	json_t *run = ledger_run_new(metadata, dir);
	int rc = path && run ? load_for_put(root, path, dir, &runs) : -ENOMEM;
	if (!rc) {
		json_int_t wanted = json_integer_value(json_object_get(metadata, "history_id"));
		json_int_t id = choose_id(runs, dir, wanted);
		if (json_object_set_new(run, "id", json_integer(id)) ||
		    json_object_set_new(metadata, "history_id", json_integer(id)))
			rc = -ENOMEM;
	}
	CLEANUP_FREE char *line = rc ? NULL : json_dumps(run, JSON_COMPACT);
	if (!rc)
		rc = line ? append_line(path, line) : -ENOMEM;
	json_decref(run);
	json_decref(runs);
	return rc ? fail_file(err, rc, path ? path : "") : 0;
}

/* A directory without any run stays as it is. */
static bool has_runs(const struct ledger *l)
{
	CLEANUP_FREE char *dir = ledger_path(l->root, "");
	struct strlist found = {0};
	bool has = (dir && !access(dir, F_OK)) || (!ledger_scan(l->root, &found) && found.count);
	strlist_release(&found);
	return has;
}

int ledger_open(const char *root, struct ledger *ret, struct error *err)
{
	struct ledger l = {.root = path_resolve(root), .runs = json_array()};
	CLEANUP_CLOSE int lock = -1;
	int rc = l.root && l.runs ? 0 : fail_file(err, -ENOMEM, "");
	if (!rc && has_runs(&l)) {
		int locked = ledger_lock(l.root, &lock, err);
		bool may_read = locked == -EACCES || locked == -EROFS || locked == -EPERM;
		rc = locked && !may_read ? locked : read_and_repair(&l, NULL, !locked, err);
	}
	if (rc)
		ledger_release(&l);
	else
		*ret = l;
	return rc;
}

void ledger_release(struct ledger *l)
{
	json_decref(l->runs);
	free(l->root);
	*l = (struct ledger){0};
}

json_t *ledger_find(const struct ledger *l, json_int_t id)
{
	size_t i;
	json_t *run;
	json_array_foreach (l->runs, i, run)
		if (id_of(run) == id)
			return run;
	return NULL;
}
