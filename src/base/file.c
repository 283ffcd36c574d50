// SPDX-License-Identifier: Apache-2.0
/* Whole small files, written so that a reader never sees half of one. */
#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

int file_read(const char *path, size_t max, struct str *ret)
{
	CLEANUP_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	str_clear(ret);
	char buf[1 << 16];
	for (;;) {
		ssize_t n = read(fd, buf, sizeof(buf));
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			return ret->rc;
		if (ret->len + (size_t)n > max)
			return -EFBIG;
		str_add_mem(ret, buf, (size_t)n);
	}
}

int file_write_all(int fd, const char *data, size_t len)
{
	while (len) {
		ssize_t n = write(fd, data, len);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		data += n;
		len -= (size_t)n;
	}
	return 0;
}

/* The new name survives a loss of power, too. Some file systems cannot, and the file is whole in any case. */
static void sync_parent(char *path)
{
	CLEANUP_CLOSE int fd = open(dirname(path), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd >= 0)
		fsync(fd);
}

int file_write_atomic(const char *path, const char *data, size_t len)
{
	/* A rename would put a file in the place of a device such as /dev/null, or fail on a directory. */
	struct stat st;
	if (!stat(path, &st) && !S_ISREG(st.st_mode))
		return S_ISDIR(st.st_mode) ? -EISDIR : -EINVAL;
	CLEANUP_STR struct str tmp = {0};
	str_addf(&tmp, "%s.tmp.%d", path, (int)getpid());
	if (tmp.rc)
		return tmp.rc;
	int fd = open(str_text(&tmp), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	if (fd < 0)
		return -errno;
	int rc = file_write_all(fd, data, len);
	if (!rc && fsync(fd))
		rc = -errno;
	if (close(fd) && !rc)
		rc = -errno;
	if (!rc && rename(str_text(&tmp), path))
		rc = -errno;
	if (rc)
		unlink(str_text(&tmp));
	else
		sync_parent(tmp.s);
	return rc;
}

int file_write_below(const char *path, const char *subdir, const char *data, size_t len)
{
	const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
	CLEANUP_STR struct str dir = {0};
	str_add_mem(&dir, path, (size_t)(name - path));
	str_add(&dir, subdir);
	CLEANUP_FREE char *target = dir.rc ? NULL : path_join(dir.s, name);
	int rc = target ? dir_make(dir.s) : -ENOMEM;
	return rc ? rc : file_write_atomic(target, data, len);
}

int file_check_target(const char *path, struct error *err)
{
	CLEANUP_FREE char *dir = path_resolve(path);
	struct stat st;
	if (!dir)
		return error_set(err, -ENOMEM, ERR_INTERNAL, "out of memory");
	if (!stat(dir, &st) && !S_ISREG(st.st_mode))
		return error_set(err, S_ISDIR(st.st_mode) ? -EISDIR : -EINVAL, ERR_FS_STRUCTURE, "'%s' is %s",
				 path, S_ISDIR(st.st_mode) ? "a directory" : "not a regular file");
	char *slash = strrchr(dir, '/');
	slash[slash == dir ? 1 : 0] = '\0';
	if (stat(dir, &st))
		return error_set(err, -errno, ERR_FS_NOT_FOUND, "there is no directory '%s'", dir);
	if (!S_ISDIR(st.st_mode))
		return error_set(err, -ENOTDIR, ERR_FS_STRUCTURE, "'%s' is not a directory", dir);
	if (access(dir, W_OK | X_OK))
		return error_set(err, -EACCES, ERR_FS_PERMISSION, "'%s' is not writable for this user", dir);
	return 0;
}

int file_flush_stdout(void)
{
	bool has_failed = ferror(stdout);
	if (fflush(stdout))
		return -errno;
	return has_failed ? -EIO : 0;
}

int dir_make(const char *path)
{
	CLEANUP_FREE char *copy = strdup(path);
	if (!copy)
		return -ENOMEM;
	for (char *p = copy + 1; *p; p++) {
		if (*p != '/')
			continue;
		*p = '\0';
		if (mkdir(copy, 0777) && errno != EEXIST)
			return -errno;
		*p = '/';
	}
	if (mkdir(copy, 0777) && errno != EEXIST)
		return -errno;
	struct stat st;
	if (stat(copy, &st))
		return -errno;
	return S_ISDIR(st.st_mode) ? 0 : -ENOTDIR;
}

char *path_join(const char *dir, const char *name)
{
	struct str s = {0};
	size_t len = strlen(dir);
	str_addf(&s, "%s%s%s", dir, len && dir[len - 1] == '/' ? "" : "/", name);
	return str_take(&s);
}

/* Fold "." and ".." of an absolute path as text; only for the part that does not exist. */
static char *path_fold(const char *path)
{
	struct str out = {0};
	str_add(&out, "");
	for (const char *p = path; *p;) {
		p += strspn(p, "/");
		size_t len = strcspn(p, "/");
		if (len == 2 && p[0] == '.' && p[1] == '.') {
			while (out.len && out.s[out.len - 1] != '/')
				out.len--;
			if (out.len)
				out.len--;
			if (out.s)
				out.s[out.len] = '\0';
		} else if (len && !(len == 1 && p[0] == '.')) {
			str_add(&out, "/");
			str_add_mem(&out, p, len);
		}
		p += len;
	}
	if (!out.len)
		str_add(&out, "/");
	return str_take(&out);
}

char *path_resolve(const char *path)
{
	CLEANUP_STR struct str abs = {0};
	if (path[0] != '/') {
		CLEANUP_FREE char *cwd = getcwd(NULL, 0);
		str_addf(&abs, "%s/", cwd ? cwd : "");
	}
	str_add(&abs, path);
	if (abs.rc)
		return NULL;
	/* Resolve the longest prefix that exists, then add the rest folded as text. */
	CLEANUP_FREE char *head = strdup(str_text(&abs));
	if (!head)
		return NULL;
	for (;;) {
		char *real = realpath(head, NULL);
		if (real) {
			struct str joined = {0};
			str_addf(&joined, "%s/%s", real, str_text(&abs) + strlen(head));
			free(real);
			char *folded = joined.rc ? NULL : path_fold(joined.s);
			str_release(&joined);
			return folded;
		}
		char *slash = strrchr(head, '/');
		if (!slash || slash == head)
			return path_fold(str_text(&abs));
		*slash = '\0';
	}
}

bool path_within(const char *path, const char *dir)
{
	size_t len = strlen(dir);
	while (len > 1 && dir[len - 1] == '/')
		len--;
	if (len == 1 && dir[0] == '/')
		return path[0] == '/';
	return !strncmp(path, dir, len) && (path[len] == '\0' || path[len] == '/');
}
