/* SPDX-License-Identifier: Apache-2.0 */
/*
 * launch/capture.h - runs short programs side by side and keeps what they print.
 *
 * Receives: argument vectors (never a shell), a time limit each.  Gives: output and exit status.
 * Must not know: what the programs are for.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/str.h"

enum { LAUNCH_CAPTURE_MAX = 64 << 20 }; /* bytes kept of each stream; more ends the program */

/** One program. Zero-initialise, fill argv and limit_ms; launch_capture_release() after. */
struct launch_capture {
	struct strlist argv;
	int64_t limit_ms;

	/* filled by launch_capture() */
	int rc; /* 0: it ran to its end; -ETIMEDOUT; -EFBIG; -EINTR: a signal stopped us; else why it did not start */
	int exit_status; /* 0..255, 128 + signal; only where rc is 0 */
	struct str out, err;
};

/**
 * launch_capture() - run @count programs, at most @parallel at once, each in a process group of its own, stdin from /dev/null
 * A program whose time is over is killed with its group. A SIGINT, SIGTERM or SIGHUP ends all of them at once; the signal takes
 * its effect after return. What a program left behind may keep its pipes open: nobody waits for that.
 * Blocks until all ended: at most the sum of the limits over the rounds. Threads: any.
 */
void launch_capture(struct launch_capture *list, size_t count, size_t parallel);
void launch_capture_release(struct launch_capture *c);
