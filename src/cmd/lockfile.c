// SPDX-License-Identifier: Apache-2.0
/*
 * --verify-lockfile: are the programs of this run those that a file names, "name==version" a line?
 *
 * That is the form of the reference's list of Python packages. None of those is used here: as the reference passes over
 * packages that are not installed, other names than ours are passed over, and that is said.
 */
#include <ctype.h>
#include <gnu/libc-version.h>
#include <string.h>
#include <sys/utsname.h>

#include "base/file.h"
#include "base/log.h"
#include "cmd/validate.h"
#include "launch/capture.h"

enum { LOCKFILE_MAX = 1 << 20, ANSWER_LIMIT_MS = 5000 };

/* What is asked for a version. Nothing is added where it cannot be found out. */

static void own_version(const struct launch_program *engine, struct str *ret)
{
	(void)engine;
	str_add(ret, MLPSTORAGE_VERSION);
}

/* "kv-cache 1.2.3"; another engine is asked nothing that it may not know. */
static void engine_version(const struct launch_program *engine, struct str *ret)
{
	struct launch_capture ask = {.limit_ms = ANSWER_LIMIT_MS};
	if (!engine || !engine->path || !engine->is_ours)
		return;
	if (!strlist_add(&ask.argv, engine->path) && !strlist_add(&ask.argv, "--version"))
		launch_capture(&ask, 1, 1);
	const char *blank = strchr(str_text(&ask.out), ' ');
	if (blank)
		str_add_mem(ret, blank + 1, strcspn(blank + 1, " \n"));
	launch_capture_release(&ask);
}

static void libc_version(const struct launch_program *engine, struct str *ret)
{
	(void)engine;
	str_add(ret, gnu_get_libc_version());
}

static void kernel_version(const struct launch_program *engine, struct str *ret)
{
	struct utsname uts;
	(void)engine;
	if (!uname(&uts))
		str_add(ret, uts.release);
}

static const struct part {
	const char *name;
	void (*version)(const struct launch_program *engine, struct str *ret);
} parts[] = {
	{"mlpstorage", own_version},
	{"kv-cache", engine_version},
	{"glibc", libc_version},
	{"linux", kernel_version},
};

/* Names of packages are the same in any case, and with any of - _ . in them. */
static bool is_name(const char *text, size_t len, const char *name)
{
	if (strlen(name) != len)
		return false;
	for (size_t i = 0; i < len; i++) {
		char c = (char)tolower((unsigned char)text[i]);
		if ((c == '_' || c == '.' ? '-' : c) != name[i])
			return false;
	}
	return true;
}

static const struct part *find_part(const char *text, size_t len)
{
	for (size_t i = 0; i < ARRAY_LEN(parts); i++)
		if (is_name(text, len, parts[i].name))
			return &parts[i];
	return NULL;
}

/** A file of versions being read. */
struct lockfile {
	struct cmd_validation *v;
	const struct launch_program *engine;
	const char *path;
	unsigned line;
	unsigned entries, compared;
};

static void compare(struct lockfile *f, const struct part *part, const char *wanted, size_t len)
{
	CLEANUP_STR struct str here = {0};
	part->version(f->engine, &here);
	if (!here.len)
		return;
	f->compared++;
	if (here.len == len && !memcmp(here.s, wanted, len))
		return;
	struct error err = {0};
	error_set(&err, 0, ERR_RUN_DEPENDENCY, "--verify-lockfile: %s:%u: %s %.*s is wanted, %s is here", f->path,
		  f->line, part->name, (int)len, wanted, str_text(&here));
	error_hint(&err, "install what the file names, or name what is meant in the file");
	cmd_validation_error(f->v, &err);
}

/* "name==version", then perhaps " \", "; condition" or "# comment". Lines of another form name no version. */
static void take_line(struct lockfile *f, const char *line)
{
	static const char after_name[] = " \t=[;#";
	line += strspn(line, " \t");
	size_t name = strcspn(line, after_name);
	const char *version = strstr(line, "==");
	if (!name || !version || strcspn(line, ";#") < (size_t)(version - line))
		return;
	version += 2 + strspn(version + 2, "= \t");
	size_t len = strcspn(version, " \t\r;#\\");
	const struct part *part = find_part(line, name);
	f->entries++;
	if (part)
		compare(f, part, version, len);
}

static void take_lines(struct lockfile *f, char *text)
{
	for (char *line = text; line;) {
		char *end = strchr(line, '\n');
		if (end)
			*end++ = '\0';
		f->line++;
		take_line(f, line);
		line = end;
	}
}

void cmd_validation_lockfile(struct cmd_validation *v, const struct launch_program *engine)
{
	struct lockfile f = {.v = v, .engine = engine, .path = v->inv->universal.verify_lockfile};
	CLEANUP_STR struct str text = {0};
	struct error err = {0};
	if (!f.path)
		return;
	int rc = file_read(f.path, LOCKFILE_MAX, &text);
	if (rc) {
		error_set(&err, rc, ERR_CONFIG_NOT_FOUND, "--verify-lockfile: cannot read %s: %s", f.path, strerror(-rc));
		cmd_validation_error(v, &err);
		return;
	}
	take_lines(&f, text.s);
	if (!f.entries)
		log_warning("--verify-lockfile: %s names no version, and nothing was compared", f.path);
	else if (f.compared < f.entries)
		log_warning("--verify-lockfile: %u of %u versions in %s were not compared: only those of mlpstorage, kv-cache, "
			    "glibc and linux are", f.entries - f.compared, f.entries, f.path);
	log_line(LOG_VERBOSE, "--verify-lockfile: %u versions compared", f.compared);
}
