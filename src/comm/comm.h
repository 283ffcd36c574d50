/* SPDX-License-Identifier: Apache-2.0 */
/*
 * comm/comm.h - how ranks find, meet and agree with each other.
 *
 * Receives: nothing but the launcher's environment.  Gives: rank, agreement.
 * Must not know: what is measured.  Two builds of one program link two implementations: comm_none.c (one rank).
 */
#pragma once

#include "base/err.h"

struct comm;

/** comm_open() - join the other ranks. Return: 0, -ENOMEM. comm_close() after. */
int comm_open(struct comm **ret, struct error *err);
void comm_close(struct comm *c);

int comm_rank(const struct comm *c); /* 0.. */

/** comm_agree() - the smallest of all ranks' @rc (0 or -errno), so that one rank's failure stops all. Blocks until every rank called it. */
int comm_agree(struct comm *c, int rc);
