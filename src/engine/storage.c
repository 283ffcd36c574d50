// SPDX-License-Identifier: Apache-2.0
/*
 * The cache directory. Files are only ever made and removed in <cache-dir>/kvcache.d, and there only those of our own name
 * pattern: what else lies around is somebody's. The directory is locked with flock for the run; the lock goes with the
 * process, so a killed run leaves nothing to clean by hand.
 */
#include "engine/engine.h"

#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>

#include "base/file.h"
#include "base/mem.h"
#include "workload/key.h"

/* Space that old files of ours will give back when the run starts. */
static uint64_t reclaimable_bytes(const char *path)
{
	CLEANUP_CLOSEDIR DIR *dir = opendir(path);
	uint64_t bytes = 0;
	if (!dir)
		return 0;
	for (const struct dirent *d; (d = readdir(dir));) {
		struct stat st;
		if (key_is_own_file(d->d_name) && !fstatat(dirfd(dir), d->d_name, &st, AT_SYMLINK_NOFOLLOW))
			bytes += (uint64_t)st.st_blocks * 512;
	}
	return bytes;
}

/* What exists at or above @path, nearest first; not always a directory. */
static char *existing_parent(const char *path)
{
	char *dir = strdup(path);
	struct stat st;
	while (dir && stat(dir, &st) && (errno == ENOENT || errno == ENOTDIR)) {
		char *slash = strrchr(dir, '/');
		if (!slash || slash == dir) {
			strcpy(dir, "/");
			break;
		}
		*slash = '\0';
	}
	return dir;
}

static void check_writable(struct storage *s, struct problems *problems)
{
	struct stat st;
	s->existed = existing_parent(s->path);
	if (!lstat(s->path, &st) && S_ISLNK(st.st_mode))
		problems_add(problems, ERR_FS_STRUCTURE, "--cache-dir: '%s' is a symbolic link; files are made and removed only in a directory of that name",
			     s->path);
	else if (!s->existed || stat(s->existed, &st))
		problems_add(problems, ERR_FS_NOT_FOUND, "--cache-dir: cannot look at '%s': %s",
			     s->cache_dir, strerror(errno));
	else if (!S_ISDIR(st.st_mode))
		problems_add(problems, ERR_FS_STRUCTURE, "--cache-dir: '%s' is not a directory", s->existed);
	else if (access(s->existed, W_OK | X_OK))
		problems_add(problems, ERR_FS_PERMISSION,
			     "--cache-dir: '%s' is not writable for this user", s->existed);
	else if (fs_facts_read("", s->path, &s->fs))
		problems_add(problems, ERR_FS_NOT_FOUND, "--cache-dir: cannot look at the file system of '%s'",
			     s->cache_dir);
}

void storage_look(struct storage *s, const struct config *cfg, int rank, struct problems *problems)
{
	s->dirfd = -1;
	s->sharers = 1;
	if (cfg->opt.cache_dir) {
		CLEANUP_STR struct str dir = {0};
		str_add(&dir, cfg->opt.cache_dir);
		if (rank >= 0)
			str_addf(&dir, "/rank_%d", rank);
		s->cache_dir = dir.rc ? NULL : path_resolve(dir.s);
	} else {
		const char *tmp = getenv("TMPDIR");
		s->cache_dir = path_resolve(tmp && tmp[0] ? tmp : "/tmp");
		s->is_temporary = true; /* storage_open() makes a private directory below it */
	}
	s->path = s->cache_dir ? path_join(s->cache_dir, ENGINE_STORAGE_DIR) : NULL;
	if (s->path)
		check_writable(s, problems);
	else
		problems_add(problems, ERR_INTERNAL, "out of memory");
}

void storage_check_space(struct storage *s, const struct config *cfg, uint64_t memory_bytes,
			 struct problems *problems)
{
	char shared[64] = "";
	uint64_t available = s->fs.available_bytes / s->sharers + reclaimable_bytes(s->path);
	uint64_t automatic = (uint64_t)((double)available * ENGINE_AUTO_DISK_SHARE);
	if (s->fs.is_memory) {
		uint64_t memory = memory_bytes / s->sharers;
		available = MIN(available, memory);
		automatic = MIN(automatic, (uint64_t)((double)memory * ENGINE_AUTO_MEMORY_SHARE));
	}
	s->limit_bytes = cfg->opt.storage_capacity_gib > 0
				 ? (uint64_t)(cfg->opt.storage_capacity_gib * ENGINE_GIB)
				 : automatic;
	if (s->sharers > 1)
		snprintf(shared, sizeof(shared), " for each of the %u ranks that share it", s->sharers);
	if (s->limit_bytes > available)
		problems_add(problems, ERR_FS_FULL,
			     "--storage-capacity-gb: %.3f GiB are asked for, but '%s' has room for %.3f "
			     "GiB%s; %.3f fits",
			     (double)s->limit_bytes / ENGINE_GIB, s->cache_dir,
			     (double)available / ENGINE_GIB, shared, (double)automatic / ENGINE_GIB);
	else if (cfg->opt.require_space && config_storage_need(cfg) > (double)available)
		problems_add(problems, ERR_FS_FULL,
			     "--cache-dir: '%s' has room for %.1f GiB%s, and the working set takes %.1f GiB; "
			     "--storage-capacity-gb %.3f says that entries may be evicted before they are read again",
			     s->cache_dir, (double)available / ENGINE_GIB, shared, config_storage_need(cfg) / ENGINE_GIB,
			     (double)automatic / ENGINE_GIB);
	else if (s->limit_bytes < 2 * TIER_PAYLOAD_ALIGN && cfg->opt.storage_capacity_gib > 0)
		problems_add(problems, ERR_CONFIG_INVALID,
			     "--storage-capacity-gb: %g is less than the smallest file takes", cfg->opt.storage_capacity_gib);
	else if (s->limit_bytes < 2 * TIER_PAYLOAD_ALIGN)
		problems_add(problems, ERR_FS_FULL, "--cache-dir: '%s' has no space left", s->cache_dir);
}

static int storage_make_temporary(struct storage *s, struct error *err)
{
	struct str template = {0};
	str_addf(&template, "%s/kv_cache_XXXXXX", s->cache_dir);
	char *dir = str_take(&template);
	if (!dir || !mkdtemp(dir)) {
		free(dir);
		s->is_temporary = false; /* nothing of ours to remove */
		return error_set(err, -errno, ERR_FS_PERMISSION,
				 "cannot make a temporary directory in '%s': %s", s->cache_dir,
				 strerror(errno));
	}
	free(s->cache_dir);
	free(s->path);
	s->cache_dir = dir;
	s->path = path_join(dir, ENGINE_STORAGE_DIR);
	free(s->existed);
	s->existed = s->path ? existing_parent(s->path) : NULL;
	return s->path ? 0 : -ENOMEM;
}

static int storage_lock(struct storage *s, struct error *err)
{
	int rc = s->existed ? dir_make(s->path) : -ENOMEM;
	if (rc)
		return error_set(err, rc, err_fs_code(rc),
				 "--cache-dir: cannot make '%s': %s", s->path, strerror(-rc));
	/* A link would let somebody else choose where files are made and removed. */
	s->dirfd = open(s->path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (s->dirfd < 0)
		return error_set(err, -errno, ERR_FS_PERMISSION, "--cache-dir: cannot open '%s': %s",
				 s->path, strerror(errno));
	if (flock(s->dirfd, LOCK_EX | LOCK_NB)) {
		rc = -errno;
		/* Directory and files are the other run's: nothing in it is ours to remove. */
		close(s->dirfd);
		s->dirfd = -1;
		free(s->existed);
		s->existed = NULL;
		error_set(err, rc, ERR_FS_STRUCTURE,
			  "--cache-dir: '%s' is in use by another run", s->path);
		error_hint(err, "wait for that run to end, or give this one a directory of its own");
		return rc;
	}
	return 0;
}

static int storage_choose_mode(struct storage *s, const struct config *cfg, struct strlist *notices,
			       struct error *err)
{
	char probe[KEY_NAME_SIZE];
	key_file_name(key_prefix(0), 0, probe); /* of our own pattern, so that a crash leaves nothing foreign */
	if (cfg->opt.io_mode == IO_MODE_BUFFERED) {
		snprintf(s->direct.why, sizeof(s->direct.why), "--io-mode buffered");
		return 0;
	}
	int rc = io_probe_direct(s->dirfd, probe, &s->direct, err);
	if (rc) {
		error_prefix(err, "--cache-dir: '%s'", s->path);
		return rc;
	}
	s->is_direct = s->direct.is_direct && s->direct.align_bytes <= TIER_PAYLOAD_ALIGN;
	if (s->is_direct)
		return 0;
	if (cfg->opt.io_mode == IO_MODE_DIRECT) {
		error_set(err, -EOPNOTSUPP, ERR_FS_STRUCTURE,
			  "--io-mode direct: no direct I/O in '%s' (%s): %s", s->path, s->fs.type,
			  s->direct.why);
		error_hint(err, "use a directory on a disk, or --io-mode auto to measure buffered I/O");
		return -EOPNOTSUPP;
	}
	return strlist_addf(notices, "buffered I/O in '%s' (%s): %s", s->path, s->fs.type, s->direct.why);
}

int storage_open(struct storage *s, const struct config *cfg, struct strlist *notices,
		 struct error *err)
{
	int rc = s->is_temporary ? storage_make_temporary(s, err) : 0;
	if (!rc)
		rc = storage_lock(s, err);
	if (rc)
		return rc;
	rc = tier_file_clean(s->dirfd, NULL);
	if (rc)
		return error_set(err, rc, ERR_FS_PERMISSION,
				 "--cache-dir: cannot remove old cache files in '%s': %s", s->path,
				 strerror(-rc));
	return storage_choose_mode(s, cfg, notices, err);
}

/* Remove the directories that this run made, upwards, as far as they are empty. */
static void remove_made(struct storage *s)
{
	size_t keep = strlen(s->existed);
	while (strlen(s->path) > keep && (!rmdir(s->path) || errno == ENOENT))
		*strrchr(s->path, '/') = '\0';
}

void storage_close(struct storage *s, bool remove_files)
{
	if (s->dirfd >= 0 && (remove_files || s->is_temporary))
		(void)tier_file_clean(s->dirfd, NULL);
	/* While the lock is held: nobody else starts in a directory that is about to go. */
	if (s->existed)
		remove_made(s);
	if (s->is_temporary && s->dirfd >= 0)
		(void)rmdir(s->cache_dir);
	if (s->dirfd >= 0)
		close(s->dirfd);
	free(s->cache_dir);
	free(s->path);
	free(s->existed);
	*s = (struct storage){.dirfd = -1};
}
