// SPDX-License-Identifier: Apache-2.0
/* The launcher's part of a command line, one function for each family of launchers. */
#include "launch/job.h"

#include <inttypes.h>
#include <string.h>

/* "--bind-to", "-bind-to" and "--bind-to=core" all say it. @name: without dashes. */
static bool params_have(const struct strlist *params, const char *name)
{
	size_t len = strlen(name);
	for (size_t i = 0; i < params->count; i++) {
		const char *word = params->v[i];
		size_t dashes = strspn(word, "-");
		if (dashes < 1 || dashes > 2 || strncmp(word + dashes, name, len))
			continue;
		if (!word[dashes + len] || word[dashes + len] == '=')
			return true;
	}
	return false;
}

static int add_pair(struct strlist *argv, const char *name, const char *value)
{
	int rc = strlist_add(argv, name);
	return rc ? rc : strlist_add(argv, value);
}

static int add_count(struct strlist *argv, const char *name, int64_t count)
{
	int rc = strlist_add(argv, name);
	return rc ? rc : strlist_addf(argv, "%" PRId64, count);
}

static int add_entries(struct strlist *argv, const char *name, const struct strlist *entries)
{
	CLEANUP_STR struct str text = {0};
	for (size_t i = 0; i < entries->count; i++)
		str_addf(&text, "%s%s", i ? "," : "", entries->v[i]);
	return text.rc ? text.rc : add_pair(argv, name, str_text(&text));
}

static int add_params(struct strlist *argv, const struct strlist *params)
{
	int rc = 0;
	for (size_t i = 0; !rc && i < params->count; i++)
		rc = strlist_add(argv, params->v[i]);
	return rc;
}

static int add_btl(const struct launch_job *job, struct strlist *argv, struct strlist *notices)
{
	static const char *const values[] = {
		[LAUNCH_BTL_VADER] = "vader,self",
		[LAUNCH_BTL_TCP] = "tcp,self",
	};
	if (job->btl == LAUNCH_BTL_AUTO)
		return 0;
	if (job->layout->distinct > 1)
		return strlist_add(notices, "--mpi-btl is for a single host, it is left out");
	int rc = add_pair(argv, "--mca", "btl");
	return rc ? rc : strlist_add(argv, values[job->btl]);
}

/* Processes, hosts, processes of each: what every launcher is told, under names of its own. */
static int add_layout(const struct launch_layout *layout, const char *hosts, const char *npernode, struct strlist *argv)
{
	int rc = add_count(argv, "-n", layout->ranks);
	if (!rc)
		rc = add_entries(argv, hosts, &layout->entries);
	if (!rc && layout->npernode)
		rc = add_count(argv, npernode, layout->npernode);
	return rc;
}

static int open_mpi(const struct launch_job *job, struct strlist *argv, struct strlist *notices)
{
	int rc = add_layout(job->layout, "-host", "--npernode", argv);
	if (!rc && !params_have(job->params, "bind-to"))
		rc = add_pair(argv, "--bind-to", "none");
	if (!rc && !params_have(job->params, "map-by"))
		rc = add_pair(argv, "--map-by", job->layout->distinct > 1 ? "node" : "socket");
	if (!rc)
		rc = add_btl(job, argv, notices);
	if (!rc && job->oversubscribe)
		rc = strlist_add(argv, "--oversubscribe");
	if (!rc && job->allow_run_as_root)
		rc = strlist_add(argv, "--allow-run-as-root");
	if (!rc)
		rc = add_params(argv, job->params);
	return rc;
}

static int hydra(const struct launch_job *job, struct strlist *argv, struct strlist *notices)
{
	int rc = add_layout(job->layout, "-hosts", "-ppn", argv);
	if (!rc && !params_have(job->params, "bind-to"))
		rc = add_pair(argv, "-bind-to", "none");
	if (!rc)
		rc = add_params(argv, job->params);
	/* Hydra never counts processors and never asks who runs it. */
	if (!rc && job->btl != LAUNCH_BTL_AUTO)
		rc = strlist_add(notices, "--mpi-btl is an option of Open MPI, it is left out");
	return rc;
}

int launch_prefix(const struct launch_job *job, struct strlist *argv, struct strlist *notices)
{
	static int (*const forms[])(const struct launch_job *, struct strlist *, struct strlist *) = {
		[LAUNCH_MPI_OPEN] = open_mpi,
		[LAUNCH_MPI_HYDRA] = hydra,
	};
	int rc = strlist_add(argv, job->launcher);
	return rc ? rc : forms[job->mpi](job, argv, notices);
}
