/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tier/internal.h - what the kinds of tiers share.
 *
 * Receives: operations.  Gives: small helpers.  Must not know: any one kind.  Not for other rooms.
 */
#pragma once

#include "tier/tier.h"

/** tier_queue_pop() - oldest operation of a worker's queue (linked by op->node), NULL when empty.
 */
static inline struct tier_op *tier_queue_pop(struct list *queue)
{
	struct list *node = list_pop_front(queue);
	return node ? list_entry(node, struct tier_op, node) : NULL;
}

/** tier_describe_memory() - the describe hook of tiers without files: kind, key, generation and
 * offset. */
void tier_describe_memory(const struct tier *t, const struct tier_op *op, char *buf, size_t size);
