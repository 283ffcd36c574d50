// SPDX-License-Identifier: Apache-2.0
/* Can the hosts of a distributed run be reached? The launcher will use ssh, and its own message would come late and be long. */
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"
#include "cluster/remote.h"
#include "cmd/kvcache_cluster.h"
#include "cmd/validate.h"
#include "launch/capture.h"

enum { SSH_CONNECT_S = 5, SSH_LIMIT_MS = 10000, SSH_PARALLEL = 64 };

/* Where one of these is set, the launcher starts its ranks through a batch system or a program of the user's choice. */
static const char *const other_ways[] = {"SLURM_JOB_ID",	  "PBS_JOBID", "LSB_JOBID",
					 "OMPI_MCA_plm_rsh_agent", "OMPI_MCA_plm", "HYDRA_LAUNCHER",
					 "HYDRA_LAUNCHER_EXEC"};
static const char *const other_words[] = {"plm", "plm_rsh_agent", "-launcher", "-launcher-exec", "-rmk"};

/* What shows that the launcher does not use plain ssh; NULL when it does. */
static const char *other_way(const struct strlist *params)
{
	for (size_t i = 0; i < ARRAY_LEN(other_ways); i++) {
		const char *value = getenv(other_ways[i]);
		if (value && *value)
			return other_ways[i];
	}
	for (size_t i = 0; i < ARRAY_LEN(other_words); i++)
		if (strlist_has(params, other_words[i]))
			return other_words[i];
	return NULL;
}

static bool is_on_path(const char *name)
{
	struct strlist dirs = {0};
	const char *path = getenv("PATH");
	bool is_found = false;
	if (strlist_add_split(&dirs, path ? path : "/usr/bin:/bin", ":"))
		return true; /* out of memory: others will say so */
	for (size_t i = 0; !is_found && i < dirs.count; i++) {
		CLEANUP_FREE char *file = path_join(dirs.v[i], name);
		is_found = file && !access(file, X_OK);
	}
	strlist_release(&dirs);
	return is_found;
}

/* Names that are not this machine, each once. Return: 0 or -ENOMEM. */
static int remote_names(const struct launch_hosts *hosts, struct strlist *ret)
{
	int rc = 0;
	for (size_t i = 0; !rc && i < hosts->count; i++) {
		const char *name = hosts->list[i].name;
		if (!strlist_has(ret, name) && !remote_is_local(name))
			rc = strlist_add(ret, name);
	}
	return rc;
}

static void judge(struct cmd_validation *v, const char *host, const struct launch_capture *job)
{
	struct error err = {0};
	CLEANUP_STR struct str why = {0};
	if (!job->rc && !job->exit_status)
		return;
	cmd_ssh_why(job, &why);
	error_set(&err, 0, ERR_MPI_HOST, "%s cannot be reached over ssh: %s", host, str_text(&why));
	error_hint(&err, "'ssh %s true' must work without a question: name, network, key of the host, key of the user", host);
	cmd_validation_error(v, &err);
}

/* Return: 0 or -ENOMEM. */
static int try_all(struct cmd_validation *v, const struct strlist *names)
{
	CLEANUP_FREE struct launch_capture *job = calloc(names->count, sizeof(*job));
	int rc = job ? 0 : -ENOMEM;
	for (size_t i = 0; !rc && i < names->count; i++) {
		job[i].limit_ms = SSH_LIMIT_MS;
		rc = remote_ssh(names->v[i], v->inv->cluster.ssh_username, SSH_CONNECT_S, "true", &job[i].argv);
	}
	if (!rc)
		launch_capture(job, names->count, SSH_PARALLEL);
	for (size_t i = 0; !rc && i < names->count; i++)
		judge(v, names->v[i], &job[i]);
	for (size_t i = 0; job && i < names->count; i++)
		launch_capture_release(&job[i]);
	return rc;
}

void cmd_validation_hosts(struct cmd_validation *v)
{
	const struct cmd_invocation *inv = v->inv;
	struct strlist names = {0};
	struct error err = {0};
	if (!inv->job.is_distributed || inv->universal.what_if || inv->universal.skip_validation)
		return;
	const char *other = other_way(&inv->distributed.mpi_params);
	if (other) {
		log_debug("hosts are not tried over ssh: %s", other);
		return;
	}
	int rc = remote_names(&inv->job.hosts, &names);
	if (!rc && names.count && !is_on_path("ssh")) {
		error_set(&err, 0, ERR_RUN_DEPENDENCY, "ssh is not installed, and %s is another machine", names.v[0]);
		cmd_validation_error(v, &err);
	} else if (!rc && names.count) {
		rc = try_all(v, &names);
	}
	if (rc)
		v->rc = rc;
	strlist_release(&names);
}
