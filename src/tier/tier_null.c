// SPDX-License-Identifier: Apache-2.0
/* A tier that holds nothing and takes no time: what remains is the cost of the program itself. */
#include <assert.h>
#include <stdlib.h>

#include "base/mem.h"
#include "tier/internal.h"

struct tier_worker {
	struct list queue; /* submitted, oldest first */
};

static int tier_null_worker_open(struct tier *t, struct io *io, uint32_t ops_max,
				 struct tier_worker **ret)
{
	(void)t, (void)io, (void)ops_max;
	struct tier_worker *w = malloc(sizeof(*w));
	if (!w)
		return -ENOMEM;
	list_init(&w->queue);
	*ret = w;
	return 0;
}

static void tier_null_worker_close(struct tier_worker *w)
{
	free(w);
}

static void tier_null_submit(struct tier_worker *w, struct tier_op *op, uint64_t now_ns)
{
	(void)now_ns;
	assert(op->kind == TIER_READ || op->kind == TIER_WRITE);
	list_push_back(&w->queue, &op->node);
}

static unsigned tier_null_poll(struct tier_worker *w, uint64_t now_ns, struct tier_op **ret,
			       unsigned max)
{
	(void)now_ns;
	unsigned count = 0;
	while (count < max && !list_empty(&w->queue)) {
		struct tier_op *op = tier_queue_pop(&w->queue);
		op->result = 0;
		op->begin_ns = op->end_ns = 0;
		ret[count++] = op;
	}
	return count;
}

static uint64_t tier_null_deadline(const struct tier_worker *w)
{
	return list_empty(&w->queue) ? UINT64_MAX : 0;
}

static void tier_null_free(struct tier *t)
{
	free(t);
}

static const struct tier_ops tier_null_ops = {
	.kind = "null",
	.worker_open = tier_null_worker_open,
	.worker_close = tier_null_worker_close,
	.submit = tier_null_submit,
	.poll = tier_null_poll,
	.deadline = tier_null_deadline,
	.describe = tier_describe_memory,
	.free = tier_null_free,
};

int tier_null_new(enum tier_class class, uint64_t limit_bytes, struct tier **ret)
{
	struct tier *t = malloc(sizeof(*t));
	if (!t)
		return -ENOMEM;
	*t = (struct tier){
		.ops = &tier_null_ops,
		.class = class,
		.caps = TIER_CAP_WHOLE | TIER_CAP_VIRTUAL,
		.limit_bytes = limit_bytes,
		.granule_bytes = TIER_PAYLOAD_ALIGN,
	};
	*ret = t;
	return 0;
}
