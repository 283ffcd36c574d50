// SPDX-License-Identifier: Apache-2.0
/* Which program is the engine: one that was named, or the first of a short list of places. */
#include "launch/launch.h"

#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"

static const char engine_name[] = "kv-cache";
static const char starter_name[] = "mlpstorage-rank";

/* Places relative to the directory of the running program. */
static const struct {
	const char *dir;
	const char *origin;
} places[] = {
	{".", "beside mlpstorage"},
	{"../engine", "build tree"},
	{"../rank", "build tree"},
	{"src/engine", "build tree"},
	{"src/rank", "build tree"},
};

static bool has_suffix(const char *s, const char *suffix)
{
	size_t len = strlen(s);
	size_t tail = strlen(suffix);
	return len >= tail && !strcmp(s + len - tail, suffix);
}

/* Return: 0, -ENOENT no regular file, -EACCES it may not be run (or, for Python, read). */
static int check_program(const char *path)
{
	struct stat st;
	if (stat(path, &st) || !S_ISREG(st.st_mode))
		return -ENOENT;
	return access(path, has_suffix(path, ".py") ? R_OK : X_OK) ? -EACCES : 0;
}

/* Absolute without following links: a program may look at its own name. */
static char *absolute(const char *path)
{
	if (path[0] == '/')
		return strdup(path);
	CLEANUP_FREE char *cwd = getcwd(NULL, 0);
	return cwd ? path_join(cwd, path) : NULL;
}

/* Takes @path (may be NULL: out of memory). */
static int fill_program(char *path, const char *origin, struct launch_program *ret)
{
	if (!path)
		return -ENOMEM;
	const char *slash = strrchr(path, '/');
	struct launch_program p = {
		.path = path,
		.origin = origin,
		.is_ours = !strcmp(slash ? slash + 1 : path, engine_name),
	};
	int rc = has_suffix(path, ".py") ? strlist_add(&p.argv, "python3") : 0;
	if (!rc)
		rc = strlist_add(&p.argv, path);
	if (rc) {
		launch_program_release(&p);
		return rc;
	}
	*ret = p;
	return 0;
}

static int find_given(const char *given, struct launch_program *ret, struct error *err)
{
	int rc = check_program(given);
	if (!rc)
		return fill_program(absolute(given), "--kvcache-bin-path", ret);
	if (rc == -ENOENT)
		error_set(err, rc, ERR_FS_NOT_FOUND, "--kvcache-bin-path: no such program: %s",
			  given);
	else
		error_set(err, rc, ERR_FS_PERMISSION, "--kvcache-bin-path: may not be run: %s",
			  given);
	error_hint(err, "name an executable file (or a .py file), or leave the option out to use "
			"the kv-cache that comes with mlpstorage");
	return rc;
}

/* Return: 0; -ENOENT not in @dir; -ENOMEM. */
static int find_in(const char *dir, const char *name, const char *origin,
		   struct launch_program *ret)
{
	CLEANUP_FREE char *joined = path_join(dir, name);
	if (!joined)
		return -ENOMEM;
	if (check_program(joined))
		return -ENOENT;
	return fill_program(path_resolve(joined), origin, ret);
}

static int find_beside(const char *self_dir, const char *name, struct launch_program *ret)
{
	int rc = -ENOENT;
	for (size_t i = 0; rc == -ENOENT && i < ARRAY_LEN(places); i++) {
		CLEANUP_FREE char *dir = path_join(self_dir, places[i].dir);
		rc = dir ? find_in(dir, name, places[i].origin, ret) : -ENOMEM;
	}
	return rc;
}

static int find_in_search(const char *search, const char *name, struct launch_program *ret)
{
	struct strlist dirs = {0};
	int rc = strlist_add_split(&dirs, search ? search : "", ":");
	if (!rc)
		rc = -ENOENT;
	for (size_t i = 0; rc == -ENOENT && i < dirs.count; i++)
		rc = find_in(dirs.v[i], name, "PATH", ret);
	strlist_release(&dirs);
	return rc;
}

int launch_find_engine(const char *given, const char *self_dir, const char *search,
		       struct launch_program *ret, struct error *err)
{
	if (given)
		return find_given(given, ret, err);
	int rc = self_dir ? find_beside(self_dir, engine_name, ret) : -ENOENT;
	if (rc == -ENOENT)
		rc = find_in_search(search, engine_name, ret);
	if (rc == -ENOENT) {
		error_set(err, rc, ERR_FS_NOT_FOUND, "the engine kv-cache was not found %s%s%s",
			  self_dir ? "in " : "", self_dir ? self_dir : "",
			  self_dir ? " or on PATH" : "on PATH");
		error_hint(err, "install it beside mlpstorage, or name it with --kvcache-bin-path");
	}
	return rc;
}

/* Our own engine has a second build that knows MPI: the program of the same name with "-mpi". */
static int find_mpi_sibling(const struct launch_program *engine, struct launch_program *ret,
			    struct error *err)
{
	CLEANUP_STR struct str path = {0};
	str_addf(&path, "%s-mpi", engine->path);
	if (path.rc)
		return path.rc;
	int rc = check_program(str_text(&path));
	if (rc) {
		error_set(err, rc, ERR_RUN_DEPENDENCY, "%s, the engine for several ranks, is %s", str_text(&path),
			  rc == -ENOENT ? "not there" : "not executable");
		error_hint(err, "build mlpstorage where an MPI is installed (openmpi or mpich), or leave --hosts out for "
				"a run on this machine alone");
		return rc;
	}
	rc = fill_program(str_take(&path), engine->origin, ret);
	ret->is_ours = !rc;
	return rc;
}

/* Behind the starter's words come the engine's. */
static int find_starter(const struct launch_program *engine, const char *self_dir, const char *search,
			struct launch_program *ret, struct error *err)
{
	struct launch_program starter = {0};
	int rc = self_dir ? find_beside(self_dir, starter_name, &starter) : -ENOENT;
	if (rc == -ENOENT)
		rc = find_in_search(search, starter_name, &starter);
	if (rc == -ENOENT) {
		error_set(err, rc, ERR_RUN_DEPENDENCY,
			  "%s, which starts a rank of an engine that is not ours, was not found", starter_name);
		error_hint(err, "install it beside mlpstorage");
	}
	if (rc)
		return rc;
	launch_program_release(ret);
	*ret = starter;
	ret->origin = engine->origin;
	return 0;
}

int launch_find_rank_engine(const struct launch_program *engine, const char *self_dir,
			    const char *search, struct launch_program *ret, struct error *err)
{
	return engine->is_ours ? find_mpi_sibling(engine, ret, err)
			       : find_starter(engine, self_dir, search, ret, err);
}

void launch_program_release(struct launch_program *p)
{
	strlist_release(&p->argv);
	free(p->path);
	*p = (struct launch_program){0};
}

char *launch_self_dir(void)
{
	char *path = realpath("/proc/self/exe", NULL);
	char *slash = path ? strrchr(path, '/') : NULL;
	if (slash)
		slash[slash == path] = '\0';
	return path;
}

void launch_command_text(const struct strlist *argv, struct str *ret)
{
	for (size_t i = 0; i < argv->count; i++) {
		if (i)
			str_add(ret, " ");
		str_add_quoted(ret, argv->v[i]);
	}
}
