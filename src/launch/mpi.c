// SPDX-License-Identifier: Apache-2.0
/* Whose launcher is it? Only it can say: mpirun and mpiexec are names that every MPI uses. */
#include "launch/job.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <string.h>
#include <sys/wait.h>

#include "base/clock.h"

extern char **environ;

enum { ANSWER_MAX = 4096 };

#define ANSWER_LIMIT_NS (5 * NS_PER_S)

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

/* Return: 0 or an errno number, as posix_spawn() does. */
static int spawn_asking(const char *launcher, int out, pid_t *ret)
{
	char *const argv[] = {(char *)launcher, (char *)"--version", NULL};
	posix_spawn_file_actions_t files;
	posix_spawnattr_t attr;
	posix_spawn_file_actions_init(&files);
	posix_spawnattr_init(&attr);
	posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETPGROUP);
	posix_spawn_file_actions_addopen(&files, 0, "/dev/null", O_RDONLY, 0);
	posix_spawn_file_actions_adddup2(&files, out, 1);
	posix_spawn_file_actions_adddup2(&files, out, 2);
	int code = posix_spawnp(ret, launcher, &files, &attr, argv, environ);
	posix_spawnattr_destroy(&attr);
	posix_spawn_file_actions_destroy(&files);
	return code;
}

/* What it says until it ends its output. Return: 0, -ETIMEDOUT, -errno. */
static int read_answer(int fd, char answer[ANSWER_MAX])
{
	uint64_t end_ns = clock_mono_ns() + ANSWER_LIMIT_NS;
	size_t len = 0;
	for (;;) {
		uint64_t now_ns = clock_mono_ns();
		struct pollfd p = {.fd = fd, .events = POLLIN};
		if (now_ns >= end_ns)
			return -ETIMEDOUT;
		if (poll(&p, 1, (int)((end_ns - now_ns) / NS_PER_MS) + 1) <= 0)
			continue;
		char rest[512];
		bool is_full = len == ANSWER_MAX - 1;
		ssize_t n = read(fd, is_full ? rest : answer + len,
				 is_full ? sizeof(rest) : ANSWER_MAX - 1 - len);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			break;
		len += is_full ? 0 : (size_t)n;
	}
	answer[len] = '\0';
	return 0;
}

static int ask(const char *launcher, char answer[ANSWER_MAX])
{
	int fd[2];
	pid_t pid;
	if (pipe2(fd, O_CLOEXEC))
		return -errno;
	int rc = -spawn_asking(launcher, fd[1], &pid);
	close(fd[1]);
	if (!rc) {
		rc = read_answer(fd[0], answer);
		kill(-pid, SIGKILL); /* an answer was given, or waited for long enough */
		while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
			;
	}
	close(fd[0]);
	return rc;
}

int launch_mpi_ask(const char *launcher, enum launch_mpi *ret, struct error *err)
{
	char answer[ANSWER_MAX];
	int rc = ask(launcher, answer);
	if (rc == -ETIMEDOUT)
		return error_set(err, rc, ERR_RUN_DEPENDENCY, "%s --version does not answer", launcher);
	if (rc) {
		error_set(err, rc == -ENOMEM ? rc : -ENOENT, ERR_RUN_DEPENDENCY,
			  "the MPI launcher %s cannot be started: %s", launcher, strerror(-rc));
		error_hint(err, "install an MPI, on Debian with 'apt install openmpi-bin' or 'apt install mpich'; "
				"a run on this machine alone needs none: leave --hosts out");
		return rc == -ENOMEM ? rc : -ENOENT;
	}
	rc = launch_mpi_parse(answer, ret);
	if (!rc)
		return 0;
	answer[strcspn(answer, "\n")] = '\0';
	error_set(err, rc, ERR_RUN_DEPENDENCY,
		  "%s is the launcher of an MPI that is not known here; asked for its version it says \"%.100s\"",
		  launcher, answer);
	error_hint(err, "name the launcher of Open MPI or MPICH with --mpi-bin, MPI_RUN_BIN or MPI_EXEC_BIN");
	return rc;
}
