// SPDX-License-Identifier: Apache-2.0
/* What can be found out about the surroundings of a run before it is started. */
#include "cmd/validate.h"

#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "cluster/host.h"

enum { OS_RELEASE_MAX = 1 << 16 };

#define GIB		   1073741824.0
#define MEMORY_RESERVE_GIB 1.0 /* left to everybody else; the engine keeps the same distance */

static void add(struct cmd_validation *v, struct problems *to, const struct error *err)
{
	int rc = problems_add_error(to, err);
	if (rc)
		v->rc = rc;
}

void cmd_validation_warn(struct cmd_validation *v, const struct error *err)
{
	add(v, &v->warnings, err);
}

void cmd_validation_error(struct cmd_validation *v, const struct error *err)
{
	struct error full = *err;
	CLEANUP_STR struct str os = {0};
	CLEANUP_STR struct str hint = {0};
	if (!full.hint[0]) {
		(void)file_read("/etc/os-release", OS_RELEASE_MAX, &os);
		cmd_install_hint(full.code, str_text(&os), &hint);
		error_hint(&full, "%s", str_text(&hint));
	}
	add(v, v->inv->universal.what_if ? &v->warnings : &v->errors, &full);
}

/* ---- checks ---- */

static void check_output(struct cmd_validation *v)
{
	struct error err = {0};
	const char *to = v->inv->config.opt.output;
	if (!to || !file_check_target(to, &err))
		return;
	error_prefix(&err, "--output");
	cmd_validation_error(v, &err);
}

/* A memory tier that does not fit would be found out by the engine too, but after a run directory was made. */
static void check_memory(struct cmd_validation *v)
{
	uint64_t available;
	struct error err = {0};
	double asked = v->inv->config.opt.cpu_mem_gib;
	if (v->inv->config.opt.simulate || host_mem_available("", &available))
		return;
	double fits = (double)available / GIB - MEMORY_RESERVE_GIB;
	if (asked <= 0 || asked <= fits)
		return;
	error_set(&err, 0, ERR_FS_FULL, "--cpu-mem-gb %g: this machine has %.1f GiB of memory free", asked,
		  (double)available / GIB);
	error_hint(&err, "--cpu-mem-gb %d fits", fits >= 1 ? (int)fits : 0);
	cmd_validation_error(v, &err);
}

static bool stores_files(const struct cmd_invocation *inv)
{
	return inv->config.opt.storage_backend == BACKEND_FILE && !inv->config.opt.simulate;
}

/* Where the cache will be: a directory of the user's, or one in the run directory. */
static const char *cache_place(const struct cmd_invocation *inv)
{
	return inv->config.opt.cache_dir ? inv->config.opt.cache_dir : inv->universal.results_dir;
}

static void check_space(struct cmd_validation *v)
{
	const struct cmd_invocation *inv = v->inv;
	struct fs_facts fs;
	struct error err = {0};
	if (!stores_files(inv) || fs_facts_read("", cache_place(inv), &fs))
		return;
	double needed = config_storage_need(&inv->config);
	if (needed <= (double)fs.available_bytes)
		return;
	error_set(&err, 0, ERR_FS_FULL,
		  "too little space in %s: %.1f GiB of %.1f GiB are free, and the working set takes %.1f GiB",
		  cache_place(inv), (double)fs.available_bytes / GIB, (double)fs.total_bytes / GIB, needed / GIB);
	error_hint(&err, "name a larger --cache-dir, ask for fewer --num-users, or say with --storage-capacity-gb %.3f that "
			 "entries may be evicted before they are read again",
		   (double)fs.available_bytes * 0.9 / GIB);
	cmd_validation_error(v, &err);
}

static void check_separation(struct cmd_validation *v)
{
	const struct cmd_invocation *inv = v->inv;
	struct fs_facts cache, results;
	struct error err = {0};
	if (!stores_files(inv) || fs_facts_read("", cache_place(inv), &cache) ||
	    fs_facts_read("", inv->universal.results_dir, &results))
		return;
	if (cache.dev_major != results.dev_major || cache.dev_minor != results.dev_minor)
		return;
	error_set(&err, 0, ERR_FS_STRUCTURE, "results and cache are on the same file system (%s)", cache.mount_point);
	error_hint(&err, "the run's own output takes part in what is measured; name another place with --cache-dir or "
			 "--results-dir");
	cmd_validation_warn(v, &err);
}

void cmd_validation_local(struct cmd_validation *v)
{
	static void (*const checks[])(struct cmd_validation *) = {check_memory, check_space, check_separation};
	check_output(v);
	if (v->inv->universal.skip_validation || v->inv->job.is_distributed) /* each rank looks at its own host */
		return;
	for (size_t i = 0; i < ARRAY_LEN(checks); i++)
		checks[i](v);
}

/* ---- telling ---- */

int cmd_validation_report(const struct cmd_validation *v)
{
	for (size_t i = 0; i < v->warnings.count; i++)
		cmd_log_error(LOG_WARNING, "", &v->warnings.list[i]);
	if (v->rc)
		return cmd_report_memory();
	if (v->errors.count <= 1)
		return cmd_report_all(&v->errors);
	for (size_t i = 0; i < v->errors.count; i++) {
		char number[24];
		snprintf(number, sizeof(number), "%zu. ", i + 1);
		cmd_log_error(LOG_ERROR, number, &v->errors.list[i]);
	}
	log_error("%zu problems; nothing was started", v->errors.count);
	return err_exit_code(v->errors.list[0].code);
}

void cmd_validation_release(struct cmd_validation *v)
{
	problems_release(&v->errors);
	problems_release(&v->warnings);
}
