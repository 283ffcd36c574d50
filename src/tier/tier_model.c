// SPDX-License-Identifier: Apache-2.0
/*
 * A simulated device: one server that transfers one entry at a time, first come, first served, then
 * a fixed latency.
 *
 *   submitted            start = max(now, free)         free = start + transfer        done = free + latency
 *       |------ waits ------|------- transfer -------------|---------- latency ------------|
 *                           begin_ns                       end_ns                          poll() returns it
 *
 * The latency of one entry overlaps with the transfer of the next, so it never costs bandwidth. All
 * times are integers: a transfer lasts bytes x 10^9 / (bytes per second), rounded up, so the device
 * is never faster than asked.
 */
#include <assert.h>
#include <math.h>
#include <pthread.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/mem.h"
#include "tier/internal.h"

struct tier_model {
	struct tier tier;
	uint64_t read_bytes_per_s;
	uint64_t write_bytes_per_s;
	uint64_t latency_ns;
	pthread_mutex_t lock;
	uint64_t free_ns; /* when the server has transferred all it was given; guarded by lock */
};

struct tier_worker {
	struct tier_model *model;
	struct list queue; /* in the order of submission, which is the order of completion too */
};

static int tier_model_worker_open(struct tier *t, struct io *io, uint32_t ops_max,
				  struct tier_worker **ret)
{
	(void)io, (void)ops_max;
	struct tier_worker *w = malloc(sizeof(*w));
	if (!w)
		return -ENOMEM;
	w->model = container_of(t, struct tier_model, tier);
	list_init(&w->queue);
	*ret = w;
	return 0;
}

static void tier_model_worker_close(struct tier_worker *w)
{
	free(w);
}

static uint64_t transfer_ns(uint64_t bytes, uint64_t bytes_per_s)
{
	unsigned __int128 scaled = (unsigned __int128)bytes * NS_PER_S;
	return (uint64_t)((scaled + bytes_per_s - 1) / bytes_per_s);
}

static void tier_model_submit(struct tier_worker *w, struct tier_op *op, uint64_t now_ns)
{
	struct tier_model *m = w->model;
	assert(op->kind == TIER_READ || op->kind == TIER_WRITE);
	uint64_t length_ns = transfer_ns(op->len, op->kind == TIER_READ ? m->read_bytes_per_s
									: m->write_bytes_per_s);

	pthread_mutex_lock(&m->lock);
	op->begin_ns = MAX(now_ns, m->free_ns);
	op->end_ns = op->begin_ns + length_ns;
	m->free_ns = op->end_ns;
	pthread_mutex_unlock(&m->lock);
	list_push_back(&w->queue, &op->node);
}

static uint64_t tier_model_deadline(const struct tier_worker *w)
{
	if (list_empty(&w->queue))
		return UINT64_MAX;
	const struct tier_op *op = list_entry(w->queue.next, struct tier_op, node);
	return op->end_ns + w->model->latency_ns;
}

static unsigned tier_model_poll(struct tier_worker *w, uint64_t now_ns, struct tier_op **ret,
				unsigned max)
{
	unsigned count = 0;
	while (count < max && !list_empty(&w->queue) && tier_model_deadline(w) <= now_ns) {
		struct tier_op *op = tier_queue_pop(&w->queue);
		op->result = 0;
		ret[count++] = op;
	}
	return count;
}

static void tier_model_free(struct tier *t)
{
	struct tier_model *m = container_of(t, struct tier_model, tier);
	pthread_mutex_destroy(&m->lock);
	free(m);
}

static const struct tier_ops tier_model_ops = {
	.kind = "model",
	.worker_open = tier_model_worker_open,
	.worker_close = tier_model_worker_close,
	.submit = tier_model_submit,
	.poll = tier_model_poll,
	.deadline = tier_model_deadline,
	.describe = tier_describe_memory,
	.free = tier_model_free,
};

static uint64_t bytes_per_s(double gbps)
{
	return MAX((uint64_t)llround(gbps * 1e9), UINT64_C(1));
}

int tier_model_new(enum tier_class class, uint64_t limit_bytes,
		   const struct config_model_tier *model, struct tier **ret)
{
	struct tier_model *m = malloc(sizeof(*m));
	if (!m)
		return -ENOMEM;
	*m = (struct tier_model){
		.tier =
			{
				.ops = &tier_model_ops,
				.class = class,
				.caps = TIER_CAP_WHOLE | TIER_CAP_VIRTUAL,
				.limit_bytes = limit_bytes,
				.granule_bytes = TIER_PAYLOAD_ALIGN,
			},
		.read_bytes_per_s = bytes_per_s(model->read_gbps),
		.write_bytes_per_s = bytes_per_s(model->write_gbps),
		.latency_ns = (uint64_t)llround(model->latency_us * 1e3),
		.lock = PTHREAD_MUTEX_INITIALIZER,
	};
	*ret = &m->tier;
	return 0;
}
