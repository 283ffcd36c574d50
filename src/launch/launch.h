/* SPDX-License-Identifier: Apache-2.0 */
/*
 * launch/launch.h - finds the engine, starts it, and carries its output to files and screen.
 *
 * Receives: argument vectors (never a shell).  Gives: how the child ended.
 * Must not know: what the child measures, where results are kept.
 *
 * The child runs in its own process group with stdin from /dev/null, so that a key typed at the
 * terminal reaches it once, through us, and so that all it started can be ended together. A launcher of ranks
 * runs in its own session: what it starts has groups of its own, and its ssh has nobody to ask for a password.
 */
#pragma once

#include <signal.h>
#include <stdbool.h>

#include "base/err.h"
#include "base/frame.h"
#include "base/str.h"

/** A program to start. launch_program_release() after. */
struct launch_program {
	struct strlist argv; /* its first words: the path, or "python3" and the path */
	char *path;          /* absolute */
	const char *origin;  /* how it was found: "--kvcache-bin-path", "beside mlpstorage", ...
				(static) */
	bool is_ours;        /* named kv-cache: it takes options that the reference does not have */
};

/**
 * launch_find_engine() - where kv-cache is
 * @given:    path the user named, NULL to search
 * @self_dir: directory of the running program; searched, then the build tree around it, then
 * @search
 * @search:   directories separated by ':', as in PATH; may be NULL
 * A path that ends in ".py" is run through python3.
 * Return: 0; -ENOENT/-EACCES with ERR_FS_NOT_FOUND/ERR_FS_PERMISSION (a named path is never
 * replaced by another); -ENOMEM.
 */
int launch_find_engine(const char *given, const char *self_dir, const char *search,
		       struct launch_program *ret, struct error *err);
/**
 * launch_find_rank_engine() - what a launcher starts for each rank of @engine
 * For our own engine the sibling that is built with MPI ("kv-cache" -> "kv-cache-mpi"), found beside it; for
 * another one mlpstorage-rank, behind whose words @engine's are to stand.
 * Return: 0; -ENOENT/-EACCES with ERR_RUN_DEPENDENCY; -ENOMEM. @ret must be zeroed.
 */
int launch_find_rank_engine(const struct launch_program *engine, const char *self_dir,
			    const char *search, struct launch_program *ret, struct error *err);
void launch_program_release(struct launch_program *p);

/** launch_self_dir() - directory of the running program's file (free()); NULL when the kernel does
 * not say. */
char *launch_self_dir(void);

/** launch_command_text() - @argv as one line that a shell reads back word for word. */
void launch_command_text(const struct strlist *argv, struct str *ret);

/**
 * launch_signals_hold() - from now on SIGINT, SIGTERM and SIGHUP wait for launch_run() instead of
 * ending us
 * @old: [out] for launch_signals_release(), after which they act as before. A signal that nobody
 * took is delivered then.
 */
void launch_signals_hold(sigset_t *old);
void launch_signals_release(const sigset_t *old);

/** One child and where its output goes. */
struct launch_request {
	const struct strlist *argv;
	const char *stdout_path; /* files: created or emptied */
	const char *stderr_path;
	int stdout_fd; /* screen: written as the bytes come; -1: none */
	int stderr_fd;
	const struct launch_job_control *job; /* NULL: the child is the program itself, not a launcher */
};

/** What is different when the child is a launcher of ranks. */
struct launch_job_control {
	/* Frames on its standard output; the text between them goes where output goes. */
	void (*on_frame)(void *arg, enum frame_kind kind, uint32_t rank, const char *data, size_t len);
	/* About once a second. Return: true: the ranks are not heard of any more, stop. */
	bool (*is_overdue)(void *arg);
	void *arg;
	double stop_timeout_s; /* between asking the ranks to stop and terminating them */
};

struct launch_result {
	int exit_status;     /* 0..255; -1 when a signal ended the child */
	int end_signal;      /* that signal; 0 */
	int stop_signal;     /* the first signal that asked us to stop; 0 */
	bool is_killed;      /* a second one came, or it did not end in time, and the child was killed */
	bool is_overdue;     /* is_overdue() said so */
	uint64_t frames_damaged;
	bool is_log_partial; /* an output file could not be written to its end (disk full) */
	double runtime_s;
};

/**
 * launch_run() - start the child, stream its output until it ended
 * The first SIGINT, SIGTERM or SIGHUP is passed on to the child's process group; a second one kills
 * the group. What the child left behind in its group is killed when it ends. A screen that was
 * closed is no error.
 * A launcher is asked with SIGUSR1, which it hands on to all ranks; SIGINT would end them. It gets SIGTERM after
 * the stop timeout or at a second signal, and SIGKILL, with everything it started here, five seconds later or
 * at a third one. Return: 0 when the child ran, however it ended; -errno with
 * ERR_RUN_DEPENDENCY (it could not be started) or an ERR_FS_* (an output file). Threads: one
 * call at a time in a process. Blocks until the child ended.
 */
int launch_run(const struct launch_request *request, struct launch_result *ret, struct error *err);
