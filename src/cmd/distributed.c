// SPDX-License-Identifier: Apache-2.0
/*
 * Options of distribution: from what was typed to a launcher's command line.
 *
 * Only a typed list of hosts with --exec-type mpi brings a launcher. Everything else is one process here.
 */
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "cmd/validate.h"

static const char *const exec_keys[] = {
	[CMD_EXEC_MPI] = "mpi", [CMD_EXEC_LOCAL] = "local", [CMD_EXEC_DOCKER] = "docker"};

/* Launchers by --mpi-bin, and what names another program for each. */
static const struct {
	const char *name;
	const char *variable;
} launchers[] = {
	{"mpirun", "MPI_RUN_BIN"},
	{"mpiexec", "MPI_EXEC_BIN"},
};

static bool is_given(const struct cmd_invocation *inv, const char *name)
{
	return opt_given(&inv->set, name);
}

/* More than one process was asked for where only one is started. In what-if that is worth a warning only. */
static int check_alone(const struct cmd_invocation *inv, struct problems *problems)
{
	const struct cmd_distributed *d = &inv->distributed;
	if (d->num_processes <= 1 && d->npernode <= 1)
		return 0;
	if (d->exec_type != CMD_EXEC_MPI || inv->universal.what_if)
		return 0;
	struct error err = {0};
	error_set(&err, 0, ERR_CONFIG_INCOMPATIBLE, "%s: several processes need --hosts",
		  d->num_processes > 1 ? "--num-processes" : "--npernode");
	error_hint(&err, "--hosts localhost starts them all on this machine");
	return problems_add_error(problems, &err);
}

int cmd_job_check(struct cmd_invocation *inv, struct problems *problems)
{
	const struct cmd_distributed *d = &inv->distributed;
	struct cmd_job *job = &inv->job;
	size_t before = problems->count;
	if (!is_given(inv, "--hosts"))
		return check_alone(inv, problems);
	int rc = launch_hosts_parse(&d->hosts, &job->hosts, problems);
	if (rc || problems->count > before || d->exec_type != CMD_EXEC_MPI)
		return rc;
	rc = launch_layout_make(&job->hosts, d->num_processes, d->npernode, &job->layout, problems);
	job->is_distributed = !rc && problems->count == before;
	return rc;
}

void cmd_job_release(struct cmd_job *job)
{
	launch_hosts_release(&job->hosts);
	launch_layout_release(&job->layout);
	launch_program_release(&job->engine);
	*job = (struct cmd_job){0};
}

/* Options of the launcher's group that were given although none is started. */
static void tell_unused(const struct cmd_invocation *inv)
{
	static const char *const names[] = {"--num-processes",       "--npernode",     "--stop-timeout",
					    "--mpi-bin",             "--mpi-btl",      "--oversubscribe",
					    "--allow-run-as-root", "--mpi-params"};
	CLEANUP_STR struct str list = {0};
	for (size_t i = 0; i < ARRAY_LEN(names); i++)
		if (is_given(inv, names[i]))
			str_addf(&list, "%s%s", list.len ? ", " : "", names[i]);
	if (inv->job.hosts.count)
		log_warning("--exec-type %s: one process is started here; the hosts are recorded, not contacted",
			    exec_keys[inv->distributed.exec_type]);
	if (list.len)
		log_warning("%s: without effect, as no launcher is started%s", str_text(&list),
			    inv->job.hosts.count ? "" : " (no --hosts)");
}

static bool is_one(const char *variable)
{
	const char *value = getenv(variable);
	return value && !strcmp(value, "1");
}

/* Open MPI's launcher would say no, at length, when the run directory is there. */
static void check_root(struct cmd_validation *v)
{
	const struct cmd_invocation *inv = v->inv;
	static const char option[] = "--allow-run-as-root";
	const struct cmd_distributed *d = &inv->distributed;
	struct error err = {0};
	if (geteuid() || inv->job.mpi != LAUNCH_MPI_OPEN || d->allow_run_as_root || strlist_has(&d->mpi_params, option) ||
	    (is_one("OMPI_ALLOW_RUN_AS_ROOT") && is_one("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM")))
		return;
	error_set(&err, 0, ERR_FS_PERMISSION, "%s of Open MPI refuses to run as root", inv->job.launcher);
	error_hint(&err, "run as another user, or add %s", option);
	cmd_validation_error(v, &err);
}

static void find_launcher(struct cmd_validation *v, struct cmd_invocation *inv)
{
	struct error err = {0};
	const char *other = getenv(launchers[inv->distributed.mpi_bin].variable);
	struct cmd_job *job = &inv->job;
	job->launcher = other && *other ? other : launchers[inv->distributed.mpi_bin].name;
	job->mpi = LAUNCH_MPI_OPEN; /* also the form to show when none is installed */
	if (launch_mpi_ask(job->launcher, &job->mpi, &err)) {
		cmd_validation_error(v, &err);
		return;
	}
	log_line(LOG_VERBOSE, "%s is the launcher of %s", job->launcher, launch_mpi_name(job->mpi));
	if (!inv->universal.skip_validation)
		check_root(v);
}

static int find_rank_engine(struct cmd_validation *v, struct cmd_invocation *inv, const struct launch_program *engine)
{
	struct error err = {0};
	struct launch_program *to = &inv->job.engine;
	CLEANUP_FREE char *self_dir = launch_self_dir();
	launch_program_release(to);
	int rc = engine->path ? launch_find_rank_engine(engine, self_dir, getenv("PATH"), to, &err) : -ENOENT;
	if (!rc || rc == -ENOMEM)
		return rc;
	if (engine->path) /* else that is the problem, and told */
		cmd_validation_error(v, &err);
	const char *name = engine->argv.v[engine->argv.count - 1];
	to->origin = "not found";
	to->is_ours = engine->is_ours;
	return engine->is_ours ? strlist_addf(&to->argv, "%s-mpi", name) : strlist_add(&to->argv, "mlpstorage-rank");
}

int cmd_job_find(struct cmd_validation *v, struct cmd_invocation *inv, const struct launch_program *engine)
{
	if (!inv->job.is_distributed) {
		tell_unused(inv);
		return 0;
	}
	find_launcher(v, inv);
	return find_rank_engine(v, inv, engine);
}

static int add_all(struct strlist *argv, const struct strlist *words)
{
	int rc = 0;
	for (size_t i = 0; !rc && i < words->count; i++)
		rc = strlist_add(argv, words->v[i]);
	return rc;
}

int cmd_job_prefix(struct cmd_invocation *inv, const struct launch_program *engine, struct strlist *argv)
{
	const struct cmd_distributed *d = &inv->distributed;
	const struct cmd_job *job = &inv->job;
	struct strlist notices = {0};
	const struct launch_job line = {
		.launcher = job->launcher,
		.mpi = job->mpi,
		.layout = &job->layout,
		.btl = (enum launch_btl)d->mpi_btl,
		.oversubscribe = d->oversubscribe,
		.allow_run_as_root = d->allow_run_as_root,
		.params = &d->mpi_params,
	};
	int rc = launch_prefix(&line, argv, &notices);
	for (size_t i = 0; !rc && i < notices.count; i++)
		log_warning("%s", notices.v[i]);
	strlist_release(&notices);
	if (!rc)
		rc = add_all(argv, &job->engine.argv);
	return rc || engine->is_ours ? rc : add_all(argv, &engine->argv); /* behind its starter */
}

void cmd_job_record(const struct cmd_invocation *inv, struct record *r)
{
	const struct cmd_job *job = &inv->job;
	if (job->is_distributed)
		record_set(r, "num_processes", json_integer(job->layout.ranks));
	if (job->is_distributed || is_given(inv, "--exec-type"))
		record_set(r, "exec_type", json_string(exec_keys[inv->distributed.exec_type]));
	if (!job->hosts.count)
		return;
	json_t *list = json_array();
	for (size_t i = 0; i < job->hosts.count; i++) {
		const struct launch_host *host = &job->hosts.list[i];
		json_array_append_new(list, host->slots ? json_sprintf("%s:%d", host->name, (int)host->slots)
							: json_string(host->name));
	}
	record_set(r, "hosts", list);
}
