/* SPDX-License-Identifier: Apache-2.0 */
/*
 * rank/rank.h - mlpstorage-rank: runs any engine as one of many ranks.
 *
 * Receives: the engine's command line, the same on every rank.  Gives: a child with a seed, a result file and a cache directory
 * of its own; its result, or why there is none, to rank 0.
 * Must not know: what the engine measures.
 *
 * main.c  the command line, the ranks, the frames   child.c  the child: start, stop, last words
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"
#include "base/str.h"

/** An engine that runs. Zero-initialise. */
struct child {
	pid_t id;	   /* also of its process group */
	int guard_fd;	   /* to whoever cleans up when this process dies; -1: there is nobody */
	bool has_ended;
	int status;	   /* as waitpid() gave it */
	uint64_t asked_ns; /* when it was first asked to stop; 0: not yet */
	int asked;	   /* how urgently: steps of child_stop() */
};

/**
 * child_start() - run @argv with its output going to @log_path
 * It has no standard input, a process group of its own, and is killed with all its group should this process die.
 * @remains: directories that are removed then, up to child_release()
 * Return: 0; -errno with @err: it cannot be started.
 */
int child_start(struct child *c, const struct strlist *argv, const char *log_path, const struct strlist *remains,
		struct error *err);
/** child_release() - after its end, when nothing is left to remove. */
void child_release(struct child *c);
/** child_poll() - has it ended? Never waits. Whatever it left in its group is killed then. */
bool child_poll(struct child *c);
/** child_stop() - ask it to end: SIGINT, after ten seconds SIGTERM, after five more SIGKILL. To be called until child_poll() is true. */
void child_stop(struct child *c);
/** child_why() - how it ended, if not well: "exit code 3", "killed by signal 9 (Killed)", and the end of its log. Return: false: it ended well. */
bool child_why(const struct child *c, const char *log_path, struct str *ret);
