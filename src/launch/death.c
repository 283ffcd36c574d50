// SPDX-License-Identifier: Apache-2.0
/* Which rank died? Launchers tell it in prose only. */
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "launch/job.h"

static bool open_mpi_death(const char *text, struct launch_death *d)
{
	const char *at = strstr(text, "noticed that process rank ");
	if (at && sscanf(at, "noticed that process rank %ld with PID %ld on node %255s exited on signal %d", &d->rank, &d->pid,
			 d->host, &d->signal) == 4)
		return true;
	int64_t job;
	at = strstr(text, "Process name: [[");
	if (!at || sscanf(at, "Process name: [[%ld,%*d],%ld]", &job, &d->rank) != 2)
		return false;
	at = strstr(at, "Exit code:");
	return at && sscanf(at, "Exit code: %d", &d->status) == 1;
}

static bool hydra_death(const char *text, struct launch_death *d)
{
	const char *at = strstr(text, "=   PID ");
	if (!at || sscanf(at, "=   PID %ld RUNNING AT %255s", &d->pid, d->host) != 2)
		return false;
	const char *code = strstr(at, "EXIT CODE:");
	if (!code || sscanf(code, "EXIT CODE: %d", &d->status) != 1)
		return false;
	const char *signal = strstr(at, "(signal ");
	if (signal)
		(void)sscanf(signal, "(signal %d)", &d->signal);
	d->is_doubtful = d->signal == SIGKILL;
	return true;
}

bool launch_death_parse(enum launch_mpi mpi, const char *text, struct launch_death *ret)
{
	static bool (*const parsers[])(const char *, struct launch_death *) = {
		[LAUNCH_MPI_OPEN] = open_mpi_death,
		[LAUNCH_MPI_HYDRA] = hydra_death,
	};
	struct launch_death d = {.rank = -1};
	if (!parsers[mpi](text, &d))
		return false;
	*ret = d;
	return true;
}
