// SPDX-License-Identifier: Apache-2.0
/* Programs side by side: one poll() over the pipes of all, and over descriptors that tell their ends. */
#include "launch/capture.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/pidfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/attr.h"
#include "base/clock.h"
#include "base/mem.h"

extern char **environ;

enum { POLL_STEP_MS = 100, READ_BYTES = 65536 };

/* What is watched of a program, in the order of struct pollfd entries. */
enum { WATCH_OUT, WATCH_ERR, WATCH_END, WATCHED };

struct running {
	struct launch_capture *job; /* NULL: this place is free */
	pid_t pid;
	int fd[WATCHED]; /* -1 after its end */
	uint64_t deadline_ns;
};

static void close_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

/* Signals as a fresh program expects them, standard streams on @out and @err. */
static int spawn(char **argv, int out, int err, pid_t *ret)
{
	posix_spawn_file_actions_t files;
	posix_spawnattr_t attr;
	sigset_t none, all;
	sigemptyset(&none);
	sigfillset(&all);
	posix_spawn_file_actions_init(&files);
	posix_spawn_file_actions_addopen(&files, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
	posix_spawn_file_actions_adddup2(&files, out, STDOUT_FILENO);
	posix_spawn_file_actions_adddup2(&files, err, STDERR_FILENO);
	posix_spawnattr_init(&attr);
	posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK |
						POSIX_SPAWN_SETSIGDEF);
	posix_spawnattr_setsigmask(&attr, &none);
	posix_spawnattr_setsigdefault(&attr, &all);
	int rc = -posix_spawnp(ret, argv[0], &files, &attr, argv, environ);
	posix_spawnattr_destroy(&attr);
	posix_spawn_file_actions_destroy(&files);
	return rc;
}

static int start(struct running *r, struct launch_capture *job)
{
	int out[2] = {-1, -1}, err[2] = {-1, -1};
	int rc = pipe2(out, O_CLOEXEC) || pipe2(err, O_CLOEXEC)
			 ? -errno
			 : spawn(job->argv.v, out[1], err[1], &r->pid);
	close_fd(&out[1]);
	close_fd(&err[1]);
	if (rc) {
		close_fd(&out[0]);
		close_fd(&err[0]);
		return rc;
	}
	fcntl(out[0], F_SETFL, O_NONBLOCK);
	fcntl(err[0], F_SETFL, O_NONBLOCK);
	r->fd[WATCH_OUT] = out[0];
	r->fd[WATCH_ERR] = err[0];
	r->fd[WATCH_END] = pidfd_open(r->pid, 0);
	r->deadline_ns = clock_mono_ns() + (uint64_t)job->limit_ms * NS_PER_MS;
	r->job = job;
	return 0;
}

/* Read what is there. Return: 0, -EFBIG or -ENOMEM; the stream is closed at its end. */
static int drain(int *fd, struct str *to)
{
	char buf[READ_BYTES];
	while (*fd >= 0) {
		ssize_t n = read(*fd, buf, sizeof(buf));
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			return 0;
		if (n <= 0) {
			close_fd(fd);
			return 0;
		}
		if (to->len + (size_t)n > LAUNCH_CAPTURE_MAX)
			return -EFBIG;
		str_add_mem(to, buf, (size_t)n);
		if (to->rc)
			return to->rc;
	}
	return 0;
}

/* Reap the program and give its place back. @rc: why it must end now; 0: it has ended. */
static void finish(struct running *r, int rc)
{
	struct launch_capture *job = r->job;
	int status = 0;
	kill(-r->pid, SIGKILL); /* not reaped yet: the group's number is still its own */
	while (waitpid(r->pid, &status, 0) < 0 && errno == EINTR)
		;
	if (!rc)
		rc = drain(&r->fd[WATCH_OUT], &job->out);
	if (!rc)
		rc = drain(&r->fd[WATCH_ERR], &job->err);
	job->rc = rc;
	job->exit_status = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
	for (int i = 0; i < WATCHED; i++)
		close_fd(&r->fd[i]);
	r->job = NULL;
}

/* Without a descriptor for its end (an old kernel) the program has ended when both streams have. */
static bool has_ended(const struct running *r, const struct pollfd *p)
{
	if (r->fd[WATCH_END] >= 0)
		return p[WATCH_END].revents;
	return r->fd[WATCH_OUT] < 0 && r->fd[WATCH_ERR] < 0;
}

static void step(struct running *r, const struct pollfd *p, uint64_t now_ns)
{
	int rc = drain(&r->fd[WATCH_OUT], &r->job->out);
	if (!rc)
		rc = drain(&r->fd[WATCH_ERR], &r->job->err);
	if (rc || has_ended(r, p))
		finish(r, rc);
	else if (now_ns >= r->deadline_ns)
		finish(r, -ETIMEDOUT);
}

static void fill_stop_set(sigset_t *set)
{
	sigemptyset(set);
	sigaddset(set, SIGINT);
	sigaddset(set, SIGTERM);
	sigaddset(set, SIGHUP);
}

static bool stop_is_pending(void)
{
	sigset_t pending;
	sigpending(&pending);
	return sigismember(&pending, SIGINT) || sigismember(&pending, SIGTERM) ||
	       sigismember(&pending, SIGHUP);
}

/* Fill free places from @list. Return: how many programs run. */
static size_t fill_places(struct running *place, size_t parallel, struct launch_capture *list,
			  size_t count, size_t *next)
{
	size_t busy = 0;
	for (size_t i = 0; i < parallel; i++) {
		while (!place[i].job && *next < count) {
			struct launch_capture *job = &list[(*next)++];
			job->rc = start(&place[i], job);
		}
		busy += place[i].job != NULL;
	}
	return busy;
}

static void wait_step(struct running *place, struct pollfd *p, size_t parallel)
{
	for (size_t i = 0; i < parallel; i++)
		for (int k = 0; k < WATCHED; k++)
			p[i * WATCHED + (size_t)k] = (struct pollfd){
				.fd = place[i].job ? place[i].fd[k] : -1,
				.events = POLLIN,
			};
	int n = poll(p, parallel * WATCHED, POLL_STEP_MS);
	uint64_t now_ns = clock_mono_ns();
	for (size_t i = 0; n >= 0 && i < parallel; i++)
		if (place[i].job)
			step(&place[i], p + i * WATCHED, now_ns);
}

static void end_all(struct running *place, size_t parallel, struct launch_capture *rest,
		    size_t count)
{
	for (size_t i = 0; i < parallel; i++)
		if (place[i].job)
			finish(&place[i], -EINTR);
	for (size_t i = 0; i < count; i++)
		rest[i].rc = -EINTR;
}

void launch_capture(struct launch_capture *list, size_t count, size_t parallel)
{
	parallel = MIN(parallel, count);
	CLEANUP_FREE struct running *place = calloc(parallel, sizeof(*place));
	CLEANUP_FREE struct pollfd *p = calloc(parallel * WATCHED, sizeof(*p));
	size_t next = 0;
	if (!place || !p) {
		for (size_t i = 0; i < count; i++)
			list[i].rc = -ENOMEM;
		return;
	}
	sigset_t stop, old;
	fill_stop_set(&stop);
	pthread_sigmask(SIG_BLOCK, &stop, &old);
	while (fill_places(place, parallel, list, count, &next)) {
		if (stop_is_pending()) {
			end_all(place, parallel, list + next, count - next);
			break;
		}
		wait_step(place, p, parallel);
	}
	pthread_sigmask(SIG_SETMASK, &old, NULL);
}

void launch_capture_release(struct launch_capture *c)
{
	strlist_release(&c->argv);
	str_release(&c->out);
	str_release(&c->err);
	*c = (struct launch_capture){0};
}
