// SPDX-License-Identifier: Apache-2.0
/* Threads, the window's two ends, and the sum at the end. */
#include "runner/internal.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#define DIRTY_MAX_BYTES (UINT64_C(64) << 20) /* buffered writes not yet durable, all workers together */
enum {
	TRANSFERS_PER_WORKER_MAX = 8192,
	TURN_BYTES = 1 << 20,
	UNCHECKED_BYTES = 2 << 20, /* about a processor's own cache */
};

uint64_t run_now(const struct worker *w)
{
	const struct runner *r = w->run;
	return r->setup.is_virtual ? r->virtual_ns : clock_mono_ns() - r->origin_ns;
}

void run_stop_at(struct runner *r, uint64_t ns)
{
	uint64_t old = atomic_load(&r->stop_ns);
	while (ns < old && !atomic_compare_exchange_weak(&r->stop_ns, &old, ns)) {
	}
	for (uint32_t i = 0; i < r->worker_count; i++)
		worker_wake(&r->workers[i]);
}

uint32_t worker_share(uint32_t total, uint32_t workers, unsigned index)
{
	uint32_t each = total / workers + (index < total % workers);
	return each ? each : 1;
}

static uint32_t unchecked_max(const struct config *cfg)
{
	return cfg->opt.verify == VERIFY_OFF ? 0 : (uint32_t)(UNCHECKED_BYTES / (uint64_t)cfg->opt.io_size_bytes);
}

uint32_t runner_spare_chunks(const struct config *cfg)
{
	return (uint32_t)(2 * RUNNER_NOISE_APART_BYTES / (uint64_t)cfg->opt.io_size_bytes) + unchecked_max(cfg);
}

void worker_sizes(const struct runner_setup *s, unsigned index, struct worker *w)
{
	w->task_count = worker_share(s->in_service_max, s->workers, index);
	w->ops_max = worker_share(s->ops_in_flight, s->workers, index);
	w->room_max = w->ops_max + 16;
	uint64_t wanted = (uint64_t)w->task_count * (uint64_t)s->cfg->opt.request_parallel;
	w->transfer_count = (uint32_t)MIN(wanted, TRANSFERS_PER_WORKER_MAX) + w->room_max;
	bool has_data = false;
	for (unsigned i = 0; i < s->tier_count; i++)
		has_data |= !(s->tier[i]->caps & TIER_CAP_WHOLE);
	w->chunks_max = has_data ? worker_share(s->io_depth, s->workers, index) : 0;
	w->chunk_count = has_data ? w->chunks_max + runner_spare_chunks(s->cfg) : 0;
	w->unchecked_max = unchecked_max(s->cfg);
	w->dirty_max_bytes = DIRTY_MAX_BYTES / s->workers;
}

uint64_t runner_memory_bytes(const struct runner_setup *s, uint32_t streams)
{
	uint64_t bytes =
		(uint64_t)streams * (sizeof(struct admission_user) + 2 * sizeof(struct heap_item));
	for (unsigned i = 0; i < s->workers; i++) {
		struct worker w = {0};
		worker_sizes(s, i, &w);
		uint64_t sets = s->interval_ns ? 1 + SERIES_PIECES : 1;
		bytes += (uint64_t)w.chunk_count * s->cfg->opt.io_size_bytes + sets * sizeof(struct metrics) +
			 (uint64_t)w.transfer_count * sizeof(struct transfer) +
			 (uint64_t)w.task_count * sizeof(struct task);
	}
	return bytes;
}

/* What several workers say is said once. */
static int runner_tell_notices(const struct runner *r, struct error *err)
{
	struct strlist *told = r->setup.notices;
	for (uint32_t i = 0; i < r->worker_count; i++) {
		const struct strlist *own = &r->workers[i].notices;
		for (size_t n = 0; n < own->count; n++)
			if (!strlist_has(told, own->v[n]) && strlist_add(told, own->v[n]))
				return error_set(err, -ENOMEM, ERR_FS_FULL, "out of memory");
	}
	return 0;
}

static int runner_start_threads(struct runner *r, struct error *err)
{
	for (uint32_t i = 0; i < r->worker_count; i++) {
		int rc = pthread_create(&r->workers[i].thread, NULL, worker_main, &r->workers[i]);
		if (rc)
			return error_set(err, -rc, ERR_FS_FULL, "cannot start worker %u of %u: %s",
					 i + 1, r->worker_count, strerror(rc));
		r->started++;
	}
	pthread_mutex_lock(&r->lock);
	while (r->ready_workers < r->worker_count)
		pthread_cond_wait(&r->cond, &r->lock);
	pthread_mutex_unlock(&r->lock);
	for (uint32_t i = 0; i < r->worker_count; i++) {
		const struct worker *w = &r->workers[i];
		if (!w->setup_rc)
			continue;
		if (w->setup_err.code)
			*err = w->setup_err;
		else
			error_set(err, 0, ERR_FS_FULL, "cannot set up worker %u: %s", i,
				  strerror(-w->setup_rc));
		return w->setup_rc;
	}
	return runner_tell_notices(r, err);
}

int runner_new(const struct runner_setup *setup, struct runner **ret, struct error *err)
{
	struct runner *r = aligned_alloc(64, ALIGN_UP(sizeof(*r), 64));
	if (!r)
		return error_set(err, -ENOMEM, ERR_FS_FULL, "out of memory");
	memset(r, 0, sizeof(*r));
	r->setup = *setup;
	for (unsigned i = 0; i < setup->tier_count; i++)
		assert(!setup->is_virtual || setup->tier[i]->caps & TIER_CAP_VIRTUAL);
	/* What holds no data has none to hand down. */
	for (unsigned i = 1; i < setup->tier_count; i++)
		assert(!(setup->tier[i - 1]->caps & TIER_CAP_WHOLE) || setup->tier[i]->caps & TIER_CAP_WHOLE);
	r->worker_count = setup->workers;
	r->chunk_bytes = (uint32_t)setup->cfg->opt.io_size_bytes;
	r->batch = MIN(MAX(TURN_BYTES / r->chunk_bytes, 1), WORKER_BATCH);
	r->request_parallel = (uint32_t)setup->cfg->opt.request_parallel;
	r->generation_ns_per_token =
		(uint64_t)(setup->cfg->workload.generation_s[setup->cfg->opt.generation_mode] * 1e9 + 0.5);
	r->window_begin_ns = UINT64_MAX; /* nothing counts before runner_start() */
	atomic_init(&r->stop_ns, UINT64_MAX);
	r->origin_ns = clock_mono_ns();
	pthread_mutex_init(&r->lock, NULL);
	pthread_condattr_t attr;
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&r->cond, &attr);
	pthread_condattr_destroy(&attr);
	permits_init(&r->permits, setup->cfg->opt.max_concurrent_allocs);

	size_t bytes = ALIGN_UP(r->worker_count * sizeof(*r->workers), 64);
	r->workers = aligned_alloc(64, bytes);
	int rc = r->workers ? 0 : -ENOMEM;
	if (!rc) {
		memset(r->workers, 0, bytes);
		rc = admission_init(&r->admission, setup);
	}
	rc = rc ? rc : series_open(r);
	for (uint32_t i = 0; i < r->worker_count && !rc; i++)
		rc = worker_init(&r->workers[i], r, i);
	if (rc)
		error_set(err, rc, ERR_FS_FULL, "cannot allocate the workers: %s", strerror(-rc));
	else
		rc = runner_start_threads(r, err);
	if (rc) {
		runner_free(r);
		return rc;
	}
	*ret = r;
	return 0;
}

static void runner_command(struct runner *r, enum runner_command command)
{
	r->command = command;
	r->commands++;
	r->finished_workers = 0;
	pthread_cond_broadcast(&r->cond);
}

void runner_fill(struct runner *r, const struct runner_fill *fill)
{
	pthread_mutex_lock(&r->lock);
	r->fill = *fill;
	atomic_store(&r->fill_next, 0);
	atomic_store(&r->fill_done, 0);
	runner_command(r, COMMAND_FILL);
	pthread_mutex_unlock(&r->lock);
}

uint64_t runner_filled(struct runner *r)
{
	return atomic_load_explicit(&r->fill_done, memory_order_relaxed);
}

void runner_start(struct runner *r)
{
	const struct runner_setup *s = &r->setup;
	pthread_mutex_lock(&r->lock);
	r->start_ns = s->is_virtual ? r->virtual_ns : clock_mono_ns() - r->origin_ns;
	r->window_begin_ns = r->start_ns + s->warmup_ns;
	admission_start(&r->admission, r->start_ns, r->window_begin_ns);
	atomic_store(&r->stop_ns, r->window_begin_ns + s->duration_ns);
	r->interval_begin_ns = r->start_ns;
	r->has_started = true;
	runner_command(r, COMMAND_RUN);
	pthread_mutex_unlock(&r->lock);
}

bool runner_wait(struct runner *r, uint64_t timeout_ns)
{
	uint64_t until = clock_mono_ns() + timeout_ns;
	struct timespec ts = {(time_t)(until / NS_PER_S), (long)(until % NS_PER_S)};
	pthread_mutex_lock(&r->lock);
	while (r->finished_workers < r->worker_count)
		if (pthread_cond_timedwait(&r->cond, &r->lock, &ts))
			break;
	bool done = r->finished_workers == r->worker_count;
	pthread_mutex_unlock(&r->lock);
	return done;
}

bool runner_has_given_up(struct runner *r)
{
	return atomic_load(&r->has_given_up);
}

bool runner_is_stuck(const struct runner *r)
{
	for (uint32_t i = 0; i < r->worker_count; i++)
		if (r->workers[i].is_stuck)
			return true;
	return false;
}

void runner_stop(struct runner *r)
{
	if (r->setup.is_virtual) {
		atomic_store(&r->is_stop_asked, true);
		return;
	}
	uint64_t now = clock_mono_ns() - r->origin_ns + NS_PER_MS;
	if (now < atomic_load(&r->stop_ns))
		atomic_store(&r->is_interrupted, true);
	run_stop_at(r, now);
}

void runner_progress(struct runner *r, struct runner_progress *ret)
{
	*ret = (struct runner_progress){
		.window_begin_ns = r->window_begin_ns - r->start_ns,
		.window_end_ns = atomic_load(&r->stop_ns) - r->start_ns,
		.waiting = admission_waiting(&r->admission),
	};
	for (uint32_t i = 0; i < r->worker_count; i++) {
		struct worker *w = &r->workers[i];
		for (int t = 0; t < TIER_CLASSES; t++)
			for (int d = 0; d < DIRECTIONS; d++)
				ret->bytes[t][d] += atomic_load_explicit(&w->live_bytes[t][d],
									 memory_order_relaxed);
		ret->completed += atomic_load_explicit(&w->live_completed, memory_order_relaxed);
		ret->in_service += atomic_load_explicit(&w->live_in_service, memory_order_relaxed);
		uint64_t now = atomic_load_explicit(&w->live_now_ns, memory_order_relaxed);
		if (now > r->start_ns)
			ret->now_ns = MAX(ret->now_ns, now - r->start_ns);
	}
}

/*
 * What all workers' queues were granted. Locked memory is counted for all of them together, so one may have to do without what the
 * others got.
 */
static unsigned common_features(const struct runner *r)
{
	unsigned features = r->workers[0].io ? io_features(r->workers[0].io) : 0;
	for (uint32_t i = 1; features && i < r->worker_count; i++)
		features &= io_features(r->workers[i].io);
	return features;
}

/* The engine of one that was granted nothing, as it may have fallen back. */
const char *runner_io_engine(const struct runner *r)
{
	const struct io *io = r->workers[0].io;
	for (uint32_t i = 1; io && io_features(io) && i < r->worker_count; i++)
		if (!io_features(r->workers[i].io))
			io = r->workers[i].io;
	return io ? io_name(io) : "";
}

int runner_collect(struct runner *r, struct metrics *ret, struct runner_outcome *outcome)
{
	uint64_t end = atomic_load(&r->stop_ns);
	uint64_t window = end > r->window_begin_ns ? end - r->window_begin_ns : 0;
	uint64_t busiest = 0, starved = 0;
	for (uint32_t i = 0; i < r->worker_count; i++) {
		busiest = MAX(busiest, r->workers[i].m->count[COUNT_WORKER_CPU_NS]);
		starved = MAX(starved, r->workers[i].m->count[COUNT_READY_DELAY_NS]);
	}
	if (r->has_started)
		admission_count(&r->admission, end, ret);
	bool has_cpu = window && !r->setup.is_virtual;
	*outcome = (struct runner_outcome){
		.window_ns = window,
		.in_service_max = r->setup.in_service_max,
		.is_interrupted = atomic_load(&r->is_interrupted),
		.io_engine = runner_io_engine(r),
		.io_features = common_features(r),
		.worker_cpu_share_max = has_cpu ? (double)busiest / (double)window : 0.0,
		.worker_wait_share_max = has_cpu ? (double)starved / (double)window : 0.0,
	};
	return series_sum(r, ret, outcome);
}

void runner_free(struct runner *r)
{
	if (!r)
		return;
	if (r->started)
		runner_stop(r);
	pthread_mutex_lock(&r->lock);
	atomic_store(&r->is_quit, true);
	pthread_cond_broadcast(&r->cond);
	pthread_mutex_unlock(&r->lock);
	for (uint32_t i = 0; i < r->started; i++)
		pthread_join(r->workers[i].thread, NULL);
	for (uint32_t i = 0; r->workers && i < r->worker_count; i++)
		worker_release(&r->workers[i]);
	free(r->workers);
	series_free(r);
	admission_release(&r->admission);
	pthread_mutex_destroy(&r->permits.lock);
	pthread_cond_destroy(&r->cond);
	pthread_mutex_destroy(&r->lock);
	free(r);
}
