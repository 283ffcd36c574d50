// SPDX-License-Identifier: Apache-2.0
/* Whose launcher is it? Only it can say: mpirun and mpiexec are names that every MPI uses. */
#include "launch/job.h"

#include <string.h>

#include "base/mem.h"
#include "launch/capture.h"

enum { ANSWER_LIMIT_MS = 5000 };

static const struct {
	const char *name;
	const char *says;
} families[] = {
	[LAUNCH_MPI_OPEN] = {"Open MPI", "(Open"}, /* "mpirun (Open MPI) 4.1.4", "(OpenRTE)" */
	[LAUNCH_MPI_HYDRA] = {"MPICH (Hydra)", "HYDRA"},
};

const char *launch_mpi_name(enum launch_mpi mpi)
{
	return families[mpi].name;
}

int launch_mpi_parse(const char *version_text, enum launch_mpi *ret)
{
	for (size_t i = 0; i < ARRAY_LEN(families); i++) {
		if (strstr(version_text, families[i].says)) {
			*ret = (enum launch_mpi)i;
			return 0;
		}
	}
	return -EINVAL;
}

static int judge(const char *launcher, const struct launch_capture *ask, enum launch_mpi *ret, struct error *err)
{
	if (ask->rc == -ETIMEDOUT)
		return error_set(err, ask->rc, ERR_MPI_MISSING, "%s --version does not answer", launcher);
	if (ask->rc) {
		error_set(err, 0, ERR_MPI_MISSING, "the MPI launcher %s cannot be started: %s", launcher,
			  strerror(-ask->rc));
		return -ENOENT;
	}
	const char *answer = str_text(&ask->out);
	int rc = launch_mpi_parse(answer, ret);
	if (!rc)
		return 0;
	error_set(err, rc, ERR_MPI_MISSING,
		  "%s is the launcher of an MPI that is not known here; asked for its version it says \"%.*s\"",
		  launcher, (int)MIN(strcspn(answer, "\n"), (size_t)100), answer);
	error_hint(err, "name the launcher of Open MPI or MPICH with --mpi-bin, MPI_RUN_BIN or MPI_EXEC_BIN");
	return rc;
}

int launch_mpi_ask(const char *launcher, enum launch_mpi *ret, struct error *err)
{
	struct launch_capture ask = {.limit_ms = ANSWER_LIMIT_MS};
	int rc = strlist_add(&ask.argv, launcher);
	if (!rc)
		rc = strlist_add(&ask.argv, "--version");
	if (!rc)
		launch_capture(&ask, 1, 1);
	str_add(&ask.out, str_text(&ask.err)); /* some say it there */
	rc = rc ? rc : judge(launcher, &ask, ret, err);
	launch_capture_release(&ask);
	return rc;
}
