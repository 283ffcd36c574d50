// SPDX-License-Identifier: Apache-2.0
/*
 * One child process and its two output streams.
 *
 * Each stream has one text between pipe and screen. While it holds bytes that the screen has not
 * taken, the loop waits for the screen instead of the pipe, so that a stopped terminal slows the
 * child down as it would slow any program, but never keeps us from seeing a signal:
 *
 *      pipe --read--> text --at once--> file
 *                        `---when it can take them---> screen
 */
#include "launch/internal.h"

#include <fcntl.h>
#include <poll.h>
#include <stdint.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/mem.h"
#include "launch/erase.h"

enum {
	READ_BYTES = 65536,
	SCREEN_WRITE_BYTES =
		4096, /* a pipe that poll() calls writable takes this much without blocking */
	DRAIN_WAIT_MS = 100, /* for output that is still on its way when the child has ended */
	TICK_MS = 1000,
};

#define STOP_REPEAT_NS (NS_PER_S / 2)
#define TERM_WAIT_S    5 /* mpirun needs two seconds to end ranks that do not listen */

static const int stop_signals[] = {SIGINT, SIGTERM, SIGHUP};

struct stream {
	int pipe; /* -1 after its end */
	int file; /* -1 after a failed write */
	int screen;
	bool is_drawn;		     /* on a terminal: what is erased there is left out of the file */
	struct erase erase;
	bool *is_log_partial;
	struct frame_reader *frames; /* NULL: everything is text */
	struct str text;	     /* that the screen has not taken yet */
	size_t sent;		     /* bytes of it that it has */
};

/* How far the child has been asked to end; a later stage is a stronger word. */
enum stop_stage { STOP_NONE, STOP_ASKED, STOP_TERMINATED, STOP_KILLED };

struct child {
	pid_t pid;
	bool has_ended;
	int signals; /* signalfd */
	enum stop_stage stop;
	uint64_t stop_ns; /* when the present stage began */
	const struct launch_job_control *job;
	struct frame_reader frames;
	struct stream out, err;
	struct launch_result result;
};

/* One that is ignored (nohup, a background job of a script) stays so; blocked, it would reach us
 * all the same. */
static void fill_stop_set(sigset_t *set)
{
	struct sigaction now;
	sigemptyset(set);
	for (size_t i = 0; i < ARRAY_LEN(stop_signals); i++)
		if (!sigaction(stop_signals[i], NULL, &now) && now.sa_handler != SIG_IGN)
			sigaddset(set, stop_signals[i]);
}

void launch_signals_hold(sigset_t *old)
{
	sigset_t set;
	fill_stop_set(&set);
	sigprocmask(SIG_BLOCK, &set, old);
}

void launch_signals_release(const sigset_t *old)
{
	/* What came for the run that is over has had its effect, or came too late for one. */
	sigset_t set;
	struct timespec now = {0};
	fill_stop_set(&set);
	while (sigtimedwait(&set, NULL, &now) > 0) {
	}
	sigprocmask(SIG_SETMASK, old, NULL);
}

static int open_log(const char *path, int *ret, struct error *err)
{
	*ret = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	if (*ret >= 0)
		return 0;
	int rc = -errno;
	return error_set(err, rc, err_fs_code(rc), "cannot write %s: %s", path, strerror(-rc));
}

/* In the child: only async-signal-safe calls. @report: where a failing exec leaves its errno. */
__attribute__((noreturn)) static void exec_child(char **argv, int out, int err, int report,
						 pid_t parent, bool is_launcher)
{
	struct sigaction dfl = {.sa_handler = SIG_DFL};
	sigset_t none;
	if (is_launcher)
		setsid();
	else
		setpgid(0, 0);
	prctl(PR_SET_PDEATHSIG, SIGTERM); /* not an orphan when we are killed */
	if (getppid() != parent)
		_exit(127);
	sigaction(SIGPIPE, &dfl, NULL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	int null = open("/dev/null", O_RDONLY);
	if (null >= 0 && dup2(null, 0) >= 0 && dup2(out, 1) >= 0 && dup2(err, 2) >= 0)
		execvp(argv[0], argv);
	int code = errno;
	ssize_t n = write(report, &code, sizeof(code));
	_exit(n == sizeof(code) ? 127 : 126);
}

enum { OUT_READ, OUT_WRITE, ERR_READ, ERR_WRITE, REPORT_READ, REPORT_WRITE, PIPE_ENDS };

static void pipes_close(int fd[PIPE_ENDS])
{
	for (int i = 0; i < PIPE_ENDS; i++)
		if (fd[i] >= 0)
			close(fd[i]);
}

static int pipes_open(int fd[PIPE_ENDS])
{
	for (int i = 0; i < PIPE_ENDS; i++)
		fd[i] = -1;
	for (int i = 0; i < PIPE_ENDS; i += 2) {
		if (pipe2(fd + i, O_CLOEXEC)) {
			int rc = -errno;
			pipes_close(fd);
			return rc;
		}
	}
	return 0;
}

static int take_fd(int *fd)
{
	int taken = *fd;
	*fd = -1;
	return taken;
}

/* Start it; on success the read ends of its streams belong to @c. */
static int child_start(struct child *c, char **argv)
{
	int p[PIPE_ENDS];
	int rc = pipes_open(p);
	if (rc)
		return rc;
	pid_t self = getpid();
	c->pid = fork();
	if (c->pid == 0)
		exec_child(argv, p[OUT_WRITE], p[ERR_WRITE], p[REPORT_WRITE], self, c->job);
	if (c->pid < 0) {
		rc = -errno;
		pipes_close(p);
		return rc;
	}
	if (!c->job)
		setpgid(c->pid, c->pid); /* also here: a signal may come before the child got so far */
	close(take_fd(&p[REPORT_WRITE]));
	int code = 0;
	ssize_t n;
	do
		n = read(p[REPORT_READ], &code, sizeof(code));
	while (n < 0 && errno == EINTR);
	if (n == sizeof(code)) {
		waitpid(c->pid, NULL, 0);
		pipes_close(p);
		return -code;
	}
	c->out.pipe = take_fd(&p[OUT_READ]);
	c->err.pipe = take_fd(&p[ERR_READ]);
	pipes_close(p);
	fcntl(c->out.pipe, F_SETFL, O_NONBLOCK);
	fcntl(c->err.pipe, F_SETFL, O_NONBLOCK);
	return 0;
}

static void close_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

static int stream_keep(struct stream *s, const char *bytes, size_t n)
{
	return s->is_drawn ? erase_write(&s->erase, s->file, bytes, n) : file_write_all(s->file, bytes, n);
}

/* Text goes to the file at once, and waits for the screen. */
static void stream_text(void *arg, const char *bytes, size_t n)
{
	struct stream *s = arg;
	if (s->file >= 0 && stream_keep(s, bytes, n)) {
		close_fd(&s->file);
		*s->is_log_partial = true;
	}
	if (s->screen >= 0)
		str_add_mem(&s->text, bytes, n);
}

static void stream_read(struct stream *s)
{
	char buf[READ_BYTES];
	ssize_t n = read(s->pipe, buf, sizeof(buf));
	if (n < 0 && (errno == EINTR || errno == EAGAIN))
		return;
	str_clear(&s->text);
	s->sent = 0;
	if (n > 0 && s->frames) {
		frame_reader_feed(s->frames, buf, (size_t)n); /* out of memory: counted as damage */
	} else if (n > 0) {
		stream_text(s, buf, (size_t)n);
	} else {
		close_fd(&s->pipe);
		if (s->frames)
			frame_reader_end(s->frames);
	}
}

static void stream_show(struct stream *s)
{
	size_t left = s->text.len - s->sent;
	ssize_t n = write(s->screen, s->text.s + s->sent,
			  left < SCREEN_WRITE_BYTES ? left : SCREEN_WRITE_BYTES);
	if (n >= 0)
		s->sent += (size_t)n;
	else if (errno != EINTR && errno != EAGAIN)
		s->screen = -1; /* closed: the files still get everything */
}

static bool stream_has_unshown(const struct stream *s)
{
	return s->screen >= 0 && s->sent < s->text.len;
}

static bool stream_is_done(const struct stream *s)
{
	return s->pipe < 0 && !stream_has_unshown(s);
}

static struct pollfd stream_poll(const struct stream *s)
{
	if (stream_has_unshown(s))
		return (struct pollfd){.fd = s->screen, .events = POLLOUT};
	return (struct pollfd){.fd = s->pipe, .events = POLLIN};
}

static void stream_step(struct stream *s, const struct pollfd *p)
{
	if (!p->revents)
		return;
	if (p->events == POLLOUT)
		stream_show(s);
	else
		stream_read(s);
}

/* The next stage. @signal: what the program itself is asked with; a launcher has its own. */
static void child_stop_next(struct child *c, int signal)
{
	c->stop = c->stop && !c->job ? STOP_KILLED : MIN(c->stop + 1, STOP_KILLED);
	c->stop_ns = clock_mono_ns();
	if (c->stop == STOP_KILLED) {
		c->result.is_killed = true;
		launch_tree_kill(c->pid);
		kill(-c->pid, SIGKILL);
	} else if (c->job) {
		kill(c->pid, c->stop == STOP_ASKED ? SIGUSR1 : SIGTERM);
	} else {
		kill(-c->pid, signal == SIGHUP ? SIGTERM : signal); /* nobody handles a lost terminal */
	}
}

/* Ask once, then insist. After the child's end only its last output is left, which nobody wants any
 * more. */
static void child_stop(struct child *c, int signal)
{
	if (c->has_ended) {
		c->out.screen = -1;
		c->err.screen = -1;
		return;
	}
	/* timeout(1) and some shells signal a process and then its group: that is one wish, not two. */
	if (c->stop && clock_mono_ns() - c->stop_ns < STOP_REPEAT_NS)
		return;
	if (!c->result.stop_signal)
		c->result.stop_signal = signal;
	child_stop_next(c, signal);
}

/* What takes too long is asked once more, and with more force. */
static void child_check_time(struct child *c)
{
	if (!c->job || c->has_ended)
		return;
	double waited_s = (double)(clock_mono_ns() - c->stop_ns) / (double)NS_PER_S;
	bool is_late = (c->stop == STOP_ASKED && waited_s >= c->job->stop_timeout_s) ||
		       (c->stop == STOP_TERMINATED && waited_s >= TERM_WAIT_S);
	if (!c->stop && c->job->is_overdue(c->job->arg)) {
		c->result.is_overdue = true;
		is_late = true;
	}
	if (is_late)
		child_stop_next(c, SIGTERM);
}

/* The child is not reaped yet, so that its group's number cannot belong to anybody else. */
static void child_check_end(struct child *c)
{
	siginfo_t info = {0};
	if (c->has_ended || waitid(P_PID, (id_t)c->pid, &info, WEXITED | WNOHANG | WNOWAIT) ||
	    !info.si_pid)
		return;
	c->has_ended = true;
	if (c->job)
		launch_tree_kill(c->pid);
	kill(-c->pid, SIGKILL);
}

static void child_on_frame(void *arg, enum frame_kind kind, uint32_t rank, const char *data, size_t len)
{
	const struct child *c = arg;
	c->job->on_frame(c->job->arg, kind, rank, data, len);
}

static void child_on_text(void *arg, const char *bytes, size_t n)
{
	struct child *c = arg;
	stream_text(&c->out, bytes, n);
}

static void child_take_signals(struct child *c)
{
	struct signalfd_siginfo info;
	while (read(c->signals, &info, sizeof(info)) == sizeof(info)) {
		if (info.ssi_signo != SIGCHLD)
			child_stop(c, (int)info.ssi_signo);
	}
	child_check_end(c);
}

static void child_stream(struct child *c)
{
	while (!c->has_ended || !stream_is_done(&c->out) || !stream_is_done(&c->err)) {
		struct pollfd p[] = {
			{.fd = c->signals, .events = POLLIN},
			stream_poll(&c->out),
			stream_poll(&c->err),
		};
		bool is_waiting =
			!c->has_ended || stream_has_unshown(&c->out) || stream_has_unshown(&c->err);
		int n = poll(p, ARRAY_LEN(p), !is_waiting ? DRAIN_WAIT_MS : c->job ? TICK_MS : -1);
		if (n == 0 && !is_waiting)
			return; /* somebody outside the group keeps the pipe open, but is silent */
		child_check_time(c);
		if (n <= 0)
			continue;
		stream_step(&c->out, &p[1]);
		stream_step(&c->err, &p[2]);
		if (p[0].revents)
			child_take_signals(c);
	}
}

static void child_reap(struct child *c)
{
	int status = 0;
	while (waitpid(c->pid, &status, 0) < 0 && errno == EINTR)
		;
	c->result.exit_status = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
	c->result.end_signal = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

static int child_run(struct child *c, char **argv, struct error *err)
{
	uint64_t start_ns = clock_mono_ns();
	int rc = child_start(c, argv);
	if (rc) {
		error_set(err, rc, ERR_RUN_DEPENDENCY, "cannot start %s: %s", argv[0],
			  strerror(-rc));
		return rc;
	}
	child_stream(c);
	if (c->job)
		frame_reader_end(&c->frames);
	if (c->err.file >= 0 && erase_end(&c->err.erase, c->err.file))
		c->result.is_log_partial = true;
	child_reap(c);
	c->result.frames_damaged = c->frames.damaged;
	c->result.runtime_s = (double)(clock_mono_ns() - start_ns) / (double)NS_PER_S;
	return 0;
}

int launch_run(const struct launch_request *request, struct launch_result *ret, struct error *err)
{
	CLEANUP_FREE struct child *c = calloc(1, sizeof(*c));
	if (!c)
		return error_set(err, -ENOMEM, ERR_INTERNAL, "out of memory");
	c->out.pipe = c->err.pipe = c->out.file = c->err.file = -1;
	c->out.screen = request->stdout_fd;
	c->err.screen = request->stderr_fd;
	c->err.is_drawn = true;
	c->out.is_log_partial = c->err.is_log_partial = &c->result.is_log_partial;
	c->job = request->job;
	if (c->job) {
		const struct frame_handler handler = {child_on_frame, child_on_text, c};
		frame_reader_init(&c->frames, &handler);
		c->out.frames = &c->frames;
	}
	sigset_t watched, old;
	struct sigaction ignore = {.sa_handler = SIG_IGN}, dfl = {.sa_handler = SIG_DFL};
	struct sigaction old_pipe, old_child;
	fill_stop_set(&watched);
	sigaddset(&watched, SIGCHLD);
	sigprocmask(SIG_BLOCK, &watched, &old);
	sigaction(SIGPIPE, &ignore, &old_pipe); /* a closed screen is seen as EPIPE */
	sigaction(SIGCHLD, &dfl, &old_child);   /* were it ignored, no end would be seen */
	c->signals = signalfd(-1, &watched, SFD_CLOEXEC | SFD_NONBLOCK);
	int rc = c->signals < 0
			 ? error_set(err, -errno, ERR_INTERNAL, "signalfd: %s", strerror(errno))
			 : 0;
	if (!rc)
		rc = open_log(request->stdout_path, &c->out.file, err);
	if (!rc)
		rc = open_log(request->stderr_path, &c->err.file, err);
	if (!rc)
		rc = child_run(c, request->argv->v, err);
	if (!rc)
		*ret = c->result;
	frame_reader_release(&c->frames);
	str_release(&c->out.text);
	str_release(&c->err.text);
	close_fd(&c->signals);
	close_fd(&c->out.pipe);
	close_fd(&c->err.pipe);
	close_fd(&c->out.file);
	close_fd(&c->err.file);
	sigaction(SIGPIPE, &old_pipe, NULL);
	sigaction(SIGCHLD, &old_child, NULL);
	sigprocmask(SIG_SETMASK, &old, NULL);
	return rc;
}
