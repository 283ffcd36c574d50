/* SPDX-License-Identifier: Apache-2.0 */
/*
 * launch/internal.h - what the files of this room share.
 *
 * Receives: process numbers.  Gives: their end.  Must not know: anything outside the room.
 */
#pragma once

#include <sys/types.h>

#include "launch/launch.h"

/**
 * launch_tree_kill() - SIGKILL to every process that descends from @root or is in its session, but not to @root
 * @root must not have been reaped yet: its number still means it.
 * A launcher's ranks have process groups of their own (Open MPI) or sessions (Hydra), and a killed launcher leaves
 * them behind.
 */
void launch_tree_kill(pid_t root);
