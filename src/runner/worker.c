// SPDX-License-Identifier: Apache-2.0
/*
 * The event loop. A worker owns its queue, buffers, tasks, transfers and metrics; others reach it only through its mailbox.
 *
 * Sleeping and waking: the sleeper sets is_sleeping, then looks at its mailbox once more; the poster fills the mailbox, then looks at
 * is_sleeping. Both with sequentially consistent order, so at least one of them sees the other.
 */
#include "runner/internal.h"

#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>

/* After operations were given up and asked back: how long those may take that can be had. */
#define CANCEL_GRACE_NS NS_PER_S

/* ---- set-up and release ---- */

static int worker_buffers(struct worker *w)
{
	w->buffers_bytes = (size_t)w->chunk_count * w->run->chunk_bytes;
	w->buffers = mem_reserve(w->buffers_bytes);
	w->chunks = calloc(w->chunk_count, sizeof(*w->chunks));
	if (!w->buffers || !w->chunks)
		return -ENOMEM;
	for (uint32_t i = 0; i < w->chunk_count; i++) {
		struct chunk *c = &w->chunks[i];
		c->buf = (char *)w->buffers + (size_t)i * w->run->chunk_bytes;
		c->index = (int32_t)i;
		list_push_back(&w->chunks_free, &c->node);
	}
	return 0;
}

static int worker_pools(struct worker *w)
{
	w->tasks = calloc(w->task_count, sizeof(*w->tasks));
	w->transfers = calloc(w->transfer_count, sizeof(*w->transfers));
	if (!w->tasks || !w->transfers)
		return -ENOMEM;
	for (uint32_t i = 0; i < w->task_count; i++) {
		w->tasks[i].worker = w;
		w->tasks[i].step = STEP_END;
		list_push_back(&w->tasks_free, &w->tasks[i].node);
	}
	for (uint32_t i = 0; i < w->transfer_count; i++) {
		w->transfers[i].worker = w;
		list_push_back(&w->transfers_free, &w->transfers[i].node);
	}
	w->transfers_free_count = w->transfer_count;
	return heap_init(&w->timers, w->task_count);
}

int worker_init(struct worker *w, struct runner *r, unsigned index)
{
	const struct runner_setup *s = &r->setup;
	w->run = r;
	w->index = index;
	w->wake_fd = -1;
	lock_init(&w->mail_lock);
	struct list *lists[] = {&w->tasks_free, &w->hungry, &w->transfers_free, &w->ready,
				&w->active,	&w->planning, &w->chunks_free,	&w->chunks_noise,
				&w->chunks_unchecked, &w->mail};
	for (size_t i = 0; i < ARRAY_LEN(lists); i++)
		list_init(lists[i]);
	worker_sizes(s, index, w);
	w->m = metrics_new();
	if (!w->m)
		return -ENOMEM;
	w->boundary_ns = w->counted_from_ns = UINT64_MAX; /* nothing counts before the start */
	int rc = worker_pools(w);
	if (!rc)
		rc = series_init(w);
	if (!rc)
		rc = worker_buffers(w);
	if (!rc && !s->needs_io) {
		w->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		if (w->wake_fd < 0)
			rc = -errno;
	}
	return rc;
}

void worker_release(struct worker *w)
{
	if (!w->run)
		return;
	for (uint32_t i = 0; w->tasks && i < w->task_count; i++)
		request_release(&w->tasks[i].request);
	free(w->tasks);
	free(w->transfers);
	free(w->chunks);
	mem_unreserve(w->buffers, w->buffers_bytes);
	heap_release(&w->timers);
	metrics_free(w->m);
	series_release(w);
	strlist_release(&w->notices);
	if (w->wake_fd >= 0)
		close(w->wake_fd);
	pthread_mutex_destroy(&w->mail_lock);
}

/* On the worker's own thread: rings belong to the thread that made them. */
static int worker_open(struct worker *w)
{
	const struct runner_setup *s = &w->run->setup;
	if (w->buffers_bytes && mem_populate(w->buffers, w->buffers_bytes))
		return -ENOMEM;
	uint32_t ops = w->chunks_max + w->ops_max + w->room_max + 8;
	if (s->needs_io) {
		struct io_setup io = {
			.engine = (enum config_io_engine)s->cfg->opt.io_engine,
			.depth = ops,
			.buffers = w->buffers,
			.buffer_count = w->chunk_count,
			.buffer_bytes = w->run->chunk_bytes,
		};
		int rc = io_new(&io, &w->io, &w->notices, &w->setup_err);
		if (rc)
			return rc;
	}
	for (unsigned i = 0; i < s->tier_count; i++) {
		int rc = tier_of(w, i)->ops->worker_open(s->tier[i], w->io, ops, &w->tier[i]);
		if (rc)
			return rc;
	}
	return 0;
}

static void worker_close(struct worker *w)
{
	for (unsigned i = 0; i < w->run->setup.tier_count; i++)
		if (w->tier[i])
			tier_of(w, i)->ops->worker_close(w->tier[i]);
	if (w->io)
		io_free(w->io);
	w->io = NULL;
}

/* ---- mail ---- */

void worker_wake(struct worker *w)
{
	if (!atomic_load(&w->is_sleeping))
		return;
	if (w->wake_fd < 0) {
		io_wake(w->io);
		return;
	}
	uint64_t one = 1;
	if (write(w->wake_fd, &one, sizeof(one)) < 0) {
		/* EAGAIN: the counter is full, so the sleeper wakes anyway. */
	}
}

void worker_post(struct transfer *x)
{
	struct worker *w = x->worker;
	pthread_mutex_lock(&w->mail_lock);
	if (!list_linked(&x->mail))
		list_push_back(&w->mail, &x->mail);
	atomic_store(&w->has_mail, true);
	pthread_mutex_unlock(&w->mail_lock);
	worker_wake(w);
}

static bool mail_drain(struct worker *w)
{
	if (!atomic_load_explicit(&w->has_mail, memory_order_relaxed))
		return false;
	for (;;) {
		pthread_mutex_lock(&w->mail_lock);
		struct list *node = list_pop_front(&w->mail);
		atomic_store(&w->has_mail, !list_empty(&w->mail));
		pthread_mutex_unlock(&w->mail_lock);
		if (!node)
			return true;
		transfer_poke(list_entry(node, struct transfer, mail));
	}
}

/* ---- one turn ---- */

static bool timers_fire(struct worker *w)
{
	bool any = false;
	while (heap_min_key(&w->timers) <= w->now_ns) {
		task_generation_over(&w->tasks[heap_pop(&w->timers).value]);
		any = true;
	}
	return any;
}

/* A task off the free list, cleared but for its request. */
static void task_take(struct worker *w, struct task *t)
{
	struct request request = t->request; /* keeps its block buffer */
	list_remove(&t->node);
	*t = (struct task){.worker = w, .request = request};
	w->tasks_busy++;
}

static void task_start(struct worker *w, struct task *t, uint64_t arrival_ns)
{
	task_take(w, t);
	t->arrival_ns = arrival_ns;
	t->start_ns = w->now_ns;
	if (in_window(w, w->now_ns))
		count_add(w, COUNT_QOS(t->request.qos, QOS_ADMITTED), 1);
	task_begin(t);
}

static bool admit(struct worker *w)
{
	bool any = false;
	/* A few per turn, so that workers that wake together share what is due. */
	for (int i = 0; i < 4 && !list_empty(&w->tasks_free); i++) {
		if (w->now_ns >= atomic_load_explicit(&w->run->stop_ns, memory_order_relaxed))
			break; /* this very turn ended the window */
		struct task *t = list_entry(w->tasks_free.next, struct task, node);
		uint64_t arrival_ns;
		if (!admission_take(&w->run->admission, w->now_ns, &t->request, &arrival_ns))
			break;
		task_start(w, t, arrival_ns);
		any = true;
	}
	/* Full: others must watch the arrivals that this worker scheduled. */
	if (any && list_empty(&w->tasks_free))
		for (uint32_t i = 0; i < w->run->worker_count; i++)
			if (i != w->index)
				worker_wake(&w->run->workers[i]);
	return any;
}

static void publish(struct worker *w)
{
	bool is_counting = w->counted_from_ns == w->run->window_begin_ns; /* not a warm-up with intervals */
	for (int t = 0; t < TIER_CLASSES; t++)
		for (int d = 0; d < DIRECTIONS; d++)
			atomic_store_explicit(&w->live_bytes[t][d], is_counting ? series_count(w, COUNT_TIER_BYTES(t, d)) : 0,
					      memory_order_relaxed);
	atomic_store_explicit(&w->live_completed, is_counting ? series_count(w, COUNT_REQUESTS_COMPLETED) : 0,
			      memory_order_relaxed);
	atomic_store_explicit(&w->live_in_service, w->tasks_busy, memory_order_relaxed);
	atomic_store_explicit(&w->live_now_ns, w->now_ns, memory_order_relaxed);
}

/* Time this thread was ready to run and no CPU took it, from the scheduler; 0 where the kernel does not keep it. */
static uint64_t thread_ready_delay_ns(void)
{
	CLEANUP_FCLOSE FILE *f = fopen("/proc/thread-self/schedstat", "re");
	unsigned long long run_ns, delay_ns;
	return f && fscanf(f, "%llu %llu", &run_ns, &delay_ns) == 2 ? delay_ns : 0;
}

static void window_begin(struct worker *w)
{
	w->has_cpu_begin = true;
	w->cpu_begin_ns = clock_thread_cpu_ns();
	w->ready_begin_ns = thread_ready_delay_ns();
}

/* When a tier will have something for us, as far as it knows: 0 for now. */
static uint64_t tiers_deadline(struct worker *w)
{
	uint64_t at = UINT64_MAX;
	for (unsigned i = 0; i < w->run->setup.tier_count; i++) {
		const struct tier_ops *ops = tier_of(w, i)->ops;
		if (w->tier_outstanding[i] && ops->deadline)
			at = MIN(at, ops->deadline(w->tier[i]));
	}
	return at;
}

/* When something will happen without outside help: 0 for now. */
static uint64_t worker_deadline(struct worker *w)
{
	uint64_t at = atomic_load_explicit(&w->run->stop_ns, memory_order_relaxed);
	if (!w->has_cpu_begin)
		at = MIN(at, w->run->window_begin_ns);
	if (w->run->has_started && !list_empty(&w->tasks_free))
		at = MIN(at, admission_deadline(&w->run->admission));
	at = MIN(at, heap_min_key(&w->timers));
	at = MIN(at, chunks_deadline(w));
	/* An interval is told when it is over; on the virtual clock that is soon enough. */
	if (w->run->setup.interval_ns && !w->run->setup.is_virtual)
		at = MIN(at, w->interval_end_ns);
	return MIN(at, tiers_deadline(w));
}

static void sleep_on_eventfd(struct worker *w, uint64_t timeout_ns)
{
	struct pollfd pfd = {.fd = w->wake_fd, .events = POLLIN};
	struct timespec ts = {(time_t)(timeout_ns / NS_PER_S), (long)(timeout_ns % NS_PER_S)};
	uint64_t count;
	if (ppoll(&pfd, 1, &ts, NULL) > 0 && read(w->wake_fd, &count, sizeof(count)) < 0) {
		/* EAGAIN: somebody else's wake was read already. */
	}
}

/* Until something completes, somebody wakes us, or the time is @at_ns. */
static void wait_until(struct worker *w, uint64_t at_ns)
{
	struct runner *r = w->run;
	if (r->setup.is_virtual) {
		r->virtual_ns = MAX(r->virtual_ns, at_ns);
		return;
	}
	uint64_t now = run_now(w);
	if (at_ns <= now)
		return;
	if (w->io)
		io_wait(w->io, at_ns - now);
	else
		sleep_on_eventfd(w, MIN(at_ns - now, NS_PER_S));
}

static void worker_sleep(struct worker *w, uint64_t until_ns)
{
	if (w->run->setup.is_virtual) {
		wait_until(w, MIN(worker_deadline(w), until_ns));
		return;
	}
	atomic_store(&w->is_sleeping, true);
	if (!atomic_load(&w->has_mail))
		wait_until(w, MIN(worker_deadline(w), until_ns));
	atomic_store(&w->is_sleeping, false);
}

/* Virtual clock: an event later than the end it was given from outside may have been counted already, so it ends here and now. */
static void stop_if_asked(struct worker *w)
{
	struct runner *r = w->run;
	if (!atomic_load_explicit(&r->is_stop_asked, memory_order_relaxed) || w->now_ns >= atomic_load(&r->stop_ns))
		return;
	atomic_store(&r->is_interrupted, true);
	run_stop_at(r, w->now_ns);
}

/* Before the run: entries that somebody will read, or that fill the device. An interrupt lets what is being written end. */
static bool fill_start(struct worker *w)
{
	struct runner *r = w->run;
	bool is_stopped = atomic_load_explicit(&r->is_stop_asked, memory_order_relaxed) ||
			  atomic_load_explicit(&r->stop_ns, memory_order_relaxed) != UINT64_MAX;
	uint32_t parallel = worker_share(r->fill.parallel, r->worker_count, w->index);
	bool any = false;
	while (!is_stopped && w->tasks_busy < parallel && !list_empty(&w->tasks_free)) {
		uint64_t number = atomic_fetch_add_explicit(&r->fill_next, 1, memory_order_relaxed);
		if (number >= r->fill.count)
			break;
		struct task *t = list_entry(w->tasks_free.next, struct task, node);
		task_take(w, t);
		task_begin_fill(t, number);
		any = true;
	}
	return any;
}

static void worker_loop(struct worker *w)
{
	struct runner *r = w->run;
	series_start(w);
	for (;;) {
		worker_clock(w);
		stop_if_asked(w);
		if (!w->has_cpu_begin && w->now_ns >= r->window_begin_ns)
			window_begin(w);
		if (w->now_ns >= atomic_load_explicit(&r->stop_ns, memory_order_relaxed))
			return;
		bool busy = mail_drain(w);
		busy |= timers_fire(w);
		busy |= admit(w);
		tasks_feed_hungry(w);
		busy |= transfers_pump(w);
		busy |= transfers_poll(w);
		publish(w);
		if (busy)
			continue;
		if (admission_is_over(&r->admission))
			run_stop_at(r, w->now_ns + (r->setup.is_virtual ? 0 : NS_PER_MS));
		worker_sleep(w, UINT64_MAX);
	}
}

static void worker_close_window(struct worker *w)
{
	if (w->has_cpu_begin) {
		count_add(w, COUNT_WORKER_CPU_NS, clock_thread_cpu_ns() - w->cpu_begin_ns);
		count_add(w, COUNT_READY_DELAY_NS, thread_ready_delay_ns() - w->ready_begin_ns);
	}
	series_close(w);
	for (uint32_t i = 0; i < w->task_count; i++)
		if (w->tasks[i].step != STEP_END)
			count_add(w, COUNT_QOS(w->tasks[i].request.qos, QOS_CANCELLED), 1);
}

static void drain_until(struct worker *w, uint64_t until_ns)
{
	while (!transfers_idle(w) && w->now_ns < until_ns) {
		if (transfers_poll(w))
			continue;
		if (w->io)
			io_flush(w->io);
		wait_until(w, MIN(tiers_deadline(w), until_ns));
		w->now_ns = run_now(w);
	}
}

/* What is in flight has had its time: told as an error each, then asked back, which a device may refuse. */
static void worker_give_up(struct worker *w)
{
	transfers_abandon(w);
	if (!transfers_idle(w))
		for (unsigned i = 0; i < w->run->setup.tier_count; i++)
			if (tier_of(w, i)->ops->cancel)
				tier_of(w, i)->ops->cancel(w->tier[i]);
	transfers_cancel(w);
	w->now_ns = run_now(w);
	drain_until(w, w->now_ns + CANCEL_GRACE_NS);
	w->is_stuck = !transfers_idle(w);
}

/* I/O in flight cannot be called back: wait for it, and leave no half-written entry behind. */
static void worker_drain(struct worker *w)
{
	transfers_cancel(w);
	drain_until(w, run_now(w) + w->run->setup.drain_ns);
	worker_give_up(w);
}

/* ---- before the run ---- */

static bool has_outstanding(const struct worker *w)
{
	uint32_t n = 0;
	for (unsigned i = 0; i < w->run->setup.tier_count; i++)
		n += w->tier_outstanding[i];
	return n > 0;
}

/* A fill has no window that closes. When nothing has come since @moved_ns, and no tier says that something will, this is when it is given up. */
static uint64_t fill_limit(struct worker *w, uint64_t moved_ns)
{
	bool may_hang = has_outstanding(w) && tiers_deadline(w) == UINT64_MAX;
	return may_hang ? moved_ns + w->run->setup.drain_ns : UINT64_MAX;
}

static void fill_give_up(struct worker *w)
{
	atomic_store(&w->run->has_given_up, true);
	run_stop_at(w->run, w->now_ns); /* wakes the others */
	worker_give_up(w);
}

static void worker_fill(struct worker *w)
{
	struct runner *r = w->run;
	uint64_t moved_ns = run_now(w);
	for (;;) {
		w->now_ns = run_now(w);
		bool busy = mail_drain(w);
		busy |= fill_start(w);
		tasks_feed_hungry(w);
		busy |= transfers_pump(w);
		busy |= transfers_poll(w);
		if (busy) {
			moved_ns = w->now_ns;
			continue;
		}
		/* Deletions that made room end after the last write. */
		if (!w->tasks_busy && transfers_idle(w))
			return;
		if (atomic_load(&r->has_given_up)) {
			worker_drain(w);
			return;
		}
		uint64_t limit_ns = fill_limit(w, moved_ns);
		if (w->now_ns >= limit_ns) {
			fill_give_up(w);
			return;
		}
		worker_sleep(w, limit_ns);
	}
}

static void worker_report(struct worker *w, uint32_t *counter)
{
	pthread_mutex_lock(&w->run->lock);
	++*counter;
	pthread_cond_broadcast(&w->run->cond);
	pthread_mutex_unlock(&w->run->lock);
}

/* Wait for the next command. Return: false: leave. Results are taken before rings and buffers go, so that comes with runner_free(). */
static bool worker_next(struct worker *w, enum runner_command *ret)
{
	struct runner *r = w->run;
	pthread_mutex_lock(&r->lock);
	while (r->commands == w->commands_seen && !atomic_load(&r->is_quit))
		pthread_cond_wait(&r->cond, &r->lock);
	w->commands_seen = r->commands;
	*ret = r->command;
	pthread_mutex_unlock(&r->lock);
	return !atomic_load(&r->is_quit);
}

void *worker_main(void *arg)
{
	struct worker *w = arg;
	enum runner_command command;
	w->setup_rc = worker_open(w);
	worker_report(w, &w->run->ready_workers);
	while (worker_next(w, &command)) {
		if (command == COMMAND_FILL) {
			worker_fill(w);
		} else {
			worker_loop(w);
			worker_close_window(w);
			worker_drain(w);
		}
		worker_report(w, &w->run->finished_workers);
	}
	worker_close(w);
	return NULL;
}
