// SPDX-License-Identifier: Apache-2.0
/* --max-concurrent-allocs: a counting semaphore that hands over in order, by mail instead of by waking threads. */
#include "runner/internal.h"

void permits_init(struct permits *p, int64_t count)
{
	*p = (struct permits){.free = count, .is_limited = count > 0};
	lock_init(&p->lock);
	list_init(&p->waiting);
}

bool permit_take(struct transfer *x)
{
	struct permits *p = &x->worker->run->permits;
	if (!p->is_limited || x->purpose == FOR_FILL)
		return true;
	pthread_mutex_lock(&p->lock);
	bool taken = p->free > 0;
	if (taken)
		p->free--;
	else
		list_push_back(&p->waiting, &x->permit_node);
	pthread_mutex_unlock(&p->lock);
	return taken;
}

void permit_give(struct transfer *x)
{
	struct permits *p = &x->worker->run->permits;
	if (!p->is_limited || x->purpose == FOR_FILL)
		return;
	pthread_mutex_lock(&p->lock);
	struct list *node = list_pop_front(&p->waiting);
	struct transfer *next = node ? list_entry(node, struct transfer, permit_node) : NULL;
	if (!next)
		p->free++;
	pthread_mutex_unlock(&p->lock);
	if (next)
		worker_post(next);
}
