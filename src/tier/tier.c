// SPDX-License-Identifier: Apache-2.0
/* The little that all kinds of tiers have in common. */
#include <inttypes.h>
#include <stdio.h>

#include "tier/internal.h"

void tier_free(struct tier *t)
{
	if (t)
		t->ops->free(t);
}

void tier_describe_memory(const struct tier *t, const struct tier_op *op, char *buf, size_t size)
{
	snprintf(buf, size, "tier '%s' entry %016" PRIx64 " generation %u offset %" PRIu64,
		 t->ops->kind, op->obj->key, op->obj->generation, op->offset);
}
