// SPDX-License-Identifier: Apache-2.0
/* A thread that wakes at an interval and knows what it cost. */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <time.h>

#include "base/clock.h"
#include "cluster/timeseries.h"

struct sampler {
	uint64_t interval_ns;
	void (*tick)(void *arg);
	void *arg;
	pthread_t thread;
	bool is_started, is_over; /* of the owner */
	uint64_t start_ns, span_ns, cpu_ns;

	pthread_mutex_t lock;
	pthread_cond_t wake;
	bool is_stopping; /* guarded by lock */
};

int sampler_new(double interval_s, void (*tick)(void *arg), void *arg, struct sampler **ret)
{
	struct sampler *s = calloc(1, sizeof(*s));
	if (!s)
		return -ENOMEM;
	s->interval_ns = (uint64_t)(interval_s * (double)NS_PER_S);
	s->tick = tick;
	s->arg = arg;
	pthread_condattr_t attr;
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&s->wake, &attr);
	pthread_condattr_destroy(&attr);
	pthread_mutex_init(&s->lock, NULL);
	*ret = s;
	return 0;
}

/* Return: true when it is time for a tick, false when it is over. */
static bool wait_until(struct sampler *s, uint64_t when_ns)
{
	struct timespec when = {(time_t)(when_ns / NS_PER_S), (long)(when_ns % NS_PER_S)};
	int rc = 0;
	pthread_mutex_lock(&s->lock);
	while (!s->is_stopping && rc != ETIMEDOUT)
		rc = pthread_cond_timedwait(&s->wake, &s->lock, &when);
	bool goes_on = !s->is_stopping;
	pthread_mutex_unlock(&s->lock);
	return goes_on;
}

static void *sampler_main(void *arg)
{
	struct sampler *s = arg;
	uint64_t next = s->start_ns;
	do {
		s->tick(s->arg);
		uint64_t now = clock_mono_ns();
		next += s->interval_ns;
		if (next < now)
			next = now + s->interval_ns;
	} while (wait_until(s, next));
	s->cpu_ns = clock_thread_cpu_ns();
	return NULL;
}

int sampler_start(struct sampler *s)
{
	if (s->is_over)
		return -EINVAL;
	if (s->is_started)
		return -EALREADY;
	sigset_t all, old;
	sigfillset(&all);
	s->start_ns = clock_mono_ns();
	pthread_sigmask(SIG_SETMASK, &all, &old);
	int rc = -pthread_create(&s->thread, NULL, sampler_main, s);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	s->is_started = !rc;
	return rc;
}

int sampler_stop(struct sampler *s)
{
	if (!s->is_started || s->is_over)
		return -EINVAL;
	pthread_mutex_lock(&s->lock);
	s->is_stopping = true;
	pthread_cond_signal(&s->wake);
	pthread_mutex_unlock(&s->lock);
	pthread_join(s->thread, NULL);
	s->is_over = true;
	s->span_ns = clock_mono_ns() - s->start_ns;
	return 0;
}

double sampler_overhead(const struct sampler *s)
{
	return s->span_ns ? 100.0 * (double)s->cpu_ns / (double)s->span_ns : 0.0;
}

void sampler_free(struct sampler *s)
{
	if (!s)
		return;
	sampler_stop(s);
	pthread_cond_destroy(&s->wake);
	pthread_mutex_destroy(&s->lock);
	free(s);
}
