// SPDX-License-Identifier: Apache-2.0
/* One child and its last words. */
#include "rank/rank.h"

#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"

enum { LAST_WORDS = 2000, DEATH_STEPS = 100 /* a second, for what was killed to be gone */ };
enum { ENGINE_ENDED = 'e', LEAVE = 'l' }; /* words to the guard */

/* Between fork() and exec() only what is safe there. Does not return. */
static void become(const struct strlist *argv, int log_fd, int null_fd, int why_fd, pid_t parent)
{
	sigset_t none;
	sigemptyset(&none);
	setpgid(0, 0);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	sigprocmask(SIG_SETMASK, &none, NULL);
	signal(SIGPIPE, SIG_DFL);
	/* The launcher waits until all that belongs to a rank is closed. */
	close_range(3, ~0U, CLOSE_RANGE_CLOEXEC);
	if (getppid() == parent && dup2(null_fd, 0) >= 0 && dup2(log_fd, 1) >= 0 && dup2(log_fd, 2) >= 0)
		execvp(argv->v[0], argv->v);
	int why = errno;
	(void)!write(why_fd, &why, sizeof(why));
	_exit(127);
}

/*
 * Outlives this process by a moment: should it die before it says LEAVE, what the engine started is ended, and what was made for
 * it is removed. Nobody's child and in a session of its own, so that who ends the job does not end it as well. @rm: a command.
 */
static void guard(pid_t group, int from_parent, char *const *rm)
{
	const struct timespec step = {.tv_nsec = (long)(10 * NS_PER_MS)};
	char word;
	sigset_t all;
	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, NULL);
	/* The launcher waits until all that belongs to a rank is closed. */
	dup2(from_parent, 0);
	close_range(1, ~0U, 0);
	(void)!dup(open("/dev/null", O_WRONLY));
	while (read(0, &word, 1) == 1) {
		if (word == LEAVE)
			_exit(0);
		group = 0;
	}
	if (group)
		kill(-group, SIGKILL);
	for (int i = 0; group && i < DEATH_STEPS && !kill(-group, 0); i++)
		nanosleep(&step, NULL);
	execvp(rm[0], rm);
	_exit(127);
}

static int removal(const struct strlist *remains, struct strlist *ret)
{
	static const char *const words[] = {"rm", "-rf", "--one-file-system", "--"};
	int rc = 0;
	for (size_t i = 0; !rc && i < ARRAY_LEN(words); i++)
		rc = strlist_add(ret, words[i]);
	for (size_t i = 0; !rc && i < remains->count; i++)
		rc = strlist_add(ret, remains->v[i]);
	return rc;
}

/* Forks twice: the guard's parent is gone at once. Return: 0 or -errno. */
static int fork_guard(pid_t group, const int ends[2], char *const *rm)
{
	int status;
	pid_t between = fork();
	if (!between) {
		setsid();
		close(ends[1]);
		pid_t id = fork();
		if (!id)
			guard(group, ends[0], rm);
		_exit(id < 0 ? errno : 0);
	}
	if (between < 0 || waitpid(between, &status, 0) != between)
		return -errno;
	return WIFEXITED(status) ? -WEXITSTATUS(status) : -ECHILD;
}

static int start_guard(struct child *c, const struct strlist *remains, struct error *err)
{
	int ends[2];
	struct strlist rm = {0};
	int rc = removal(remains, &rm);
	if (!rc && pipe2(ends, O_CLOEXEC))
		rc = -errno;
	if (!rc) {
		rc = fork_guard(c->id, ends, rm.v);
		close(ends[0]);
		c->guard_fd = ends[1];
	}
	strlist_release(&rm);
	return rc ? error_set(err, rc, ERR_RUN_DEPENDENCY, "cannot guard the engine: %s", strerror(-rc)) : 0;
}

static void tell_guard(const struct child *c, char word)
{
	if (c->guard_fd >= 0)
		(void)!write(c->guard_fd, &word, 1);
}

int child_start(struct child *c, const struct strlist *argv, const char *log_path, const struct strlist *remains,
		struct error *err)
{
	int why[2], errno_there = 0;
	CLEANUP_CLOSE int log_fd = open(log_path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	CLEANUP_CLOSE int null_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	if (log_fd < 0 || null_fd < 0 || pipe2(why, O_CLOEXEC))
		return error_set(err, -errno, ERR_FS_PERMISSION, "cannot write '%s': %s", log_path, strerror(errno));
	pid_t parent = getpid(), id = fork();
	if (!id)
		become(argv, log_fd, null_fd, why[1], parent);
	int rc = -errno;
	close(why[1]);
	/* The pipe closes with exec(): what can be read is why that failed. */
	if (id > 0 && read(why[0], &errno_there, sizeof(errno_there)) == sizeof(errno_there)) {
		rc = -errno_there;
		waitpid(id, NULL, 0);
		id = -1;
	}
	close(why[0]);
	if (id < 0)
		return error_set(err, rc, ERR_RUN_DEPENDENCY, "cannot start '%s': %s", argv->v[0], strerror(-rc));
	setpgid(id, id);
	*c = (struct child){.id = id, .guard_fd = -1};
	return start_guard(c, remains, err);
}

bool child_poll(struct child *c)
{
	if (c->id <= 0 || c->has_ended)
		return true;
	if (waitpid(c->id, &c->status, WNOHANG) != c->id)
		return false;
	c->has_ended = true;
	kill(-c->id, SIGKILL);
	tell_guard(c, ENGINE_ENDED); /* its number may soon be another's */
	return true;
}

void child_release(struct child *c)
{
	if (c->id <= 0)
		return;
	tell_guard(c, LEAVE);
	if (c->guard_fd >= 0)
		close(c->guard_fd);
	*c = (struct child){0};
}

void child_stop(struct child *c)
{
	static const struct {
		int signal;
		uint64_t after_ns;
	} steps[] = {{SIGINT, 0}, {SIGTERM, 10 * NS_PER_S}, {SIGKILL, 15 * NS_PER_S}};
	uint64_t now = clock_mono_ns();
	if (!c->asked_ns)
		c->asked_ns = now;
	if (c->id <= 0 || c->has_ended || c->asked == (int)ARRAY_LEN(steps) || now - c->asked_ns < steps[c->asked].after_ns)
		return;
	kill(-c->id, steps[c->asked++].signal);
}

static void last_words(const char *log_path, struct str *ret)
{
	char buf[LAST_WORDS];
	CLEANUP_CLOSE int fd = open(log_path, O_RDONLY | O_CLOEXEC);
	off_t size = fd < 0 ? 0 : lseek(fd, 0, SEEK_END);
	ssize_t n = size > 0 ? pread(fd, buf, sizeof(buf), MAX(size - (off_t)sizeof(buf), 0)) : 0;
	while (n > 0 && buf[n - 1] == '\n')
		n--;
	if (n > 0) {
		str_add(ret, "; its last words:\n");
		str_add_mem(ret, buf, (size_t)n);
	}
}

bool child_why(const struct child *c, const char *log_path, struct str *ret)
{
	if (WIFEXITED(c->status) && !WEXITSTATUS(c->status))
		return false;
	if (WIFSIGNALED(c->status))
		str_addf(ret, "killed by signal %d (%s)", WTERMSIG(c->status), strsignal(WTERMSIG(c->status)));
	else
		str_addf(ret, "exit code %d", WEXITSTATUS(c->status));
	last_words(log_path, ret);
	return true;
}
