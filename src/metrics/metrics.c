// SPDX-License-Identifier: Apache-2.0
/* What a run counts: names of the counters and histograms, adding up, and the log of errors. */
#include "metrics/metrics.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

static const char *const counter_names[] = {
#define X(name, meaning) #name,
	METRIC_COUNTERS(X)
#undef X
};

static const char *const hist_names[] = {
#define X(name, meaning) #name,
	METRIC_HISTS(X)
#undef X
};

static const char *const direction_names[DIRECTIONS] = {
	[DIR_READ] = "read",
	[DIR_WRITE] = "write",
};

static const char *const part_suffixes[PARTS] = {
	[PART_TOTAL] = "",
	[PART_DEVICE] = "_device",
	[PART_HOST] = "_host",
};

static const char *const qos_names[METRIC_QOS_COUNT] = {
	[QOS_OFFERED] = "offered",
	[QOS_ADMITTED] = "admitted",
	[QOS_COMPLETED] = "completed",
	[QOS_FAILED] = "failed",
	[QOS_CANCELLED] = "cancelled",
	[QOS_QUEUED_AT_END] = "queued_at_end",
	[QOS_VIOLATIONS] = "violations",
};

enum { NAME_SIZE = 64 };

static const char *lower_case(const char *name, char buf[NAME_SIZE])
{
	size_t i = 0;
	for (; name[i] && i < NAME_SIZE - 1; i++)
		buf[i] = (char)tolower((unsigned char)name[i]);
	buf[i] = '\0';
	return buf;
}

const char *metrics_counter_name(enum metric_counter c, char buf[64])
{
	if (c < COUNT_TIER_BYTES_0)
		return lower_case(counter_names[c], buf);
	if (c < COUNT_QOS_0) {
		bool is_ops = c >= COUNT_TIER_OPS_0;
		unsigned i = c - (is_ops ? COUNT_TIER_OPS_0 : COUNT_TIER_BYTES_0);
		snprintf(buf, NAME_SIZE, "%s_%s_%s", config_tier_name(i / DIRECTIONS),
			 direction_names[i % DIRECTIONS], is_ops ? "ops" : "bytes");
		return buf;
	}
	unsigned i = c - COUNT_QOS_0;
	snprintf(buf, NAME_SIZE, "requests_%s_%s", qos_names[i % METRIC_QOS_COUNT],
		 config_qos_name(i / METRIC_QOS_COUNT));
	return buf;
}

const char *metrics_hist_name(enum metric_hist h, char buf[64])
{
	if (h < HIST_TIER_0)
		return lower_case(hist_names[h], buf);
	if (h < HIST_QOS_0) {
		unsigned i = h - HIST_TIER_0;
		snprintf(buf, NAME_SIZE, "%s_%s%s", config_tier_name(i / (DIRECTIONS * PARTS)),
			 direction_names[i / PARTS % DIRECTIONS], part_suffixes[i % PARTS]);
		return buf;
	}
	if (h >= HIST_PACE_0) {
		unsigned i = h - HIST_PACE_0;
		snprintf(buf, NAME_SIZE, "storage_%s_per_mib_from_%llu_kib", direction_names[i / METRIC_SIZE_CLASSES],
			 (unsigned long long)metric_size_class_min(i % METRIC_SIZE_CLASSES) >> 10);
		return buf;
	}
	snprintf(buf, NAME_SIZE, "response_%s", config_qos_name(h - HIST_QOS_0));
	return buf;
}

struct metrics *metrics_new(void)
{
	return mem_reserve(sizeof(struct metrics));
}

void metrics_free(struct metrics *m)
{
	if (!m)
		return;
	for (int i = 0; i < METRIC_RAW_COUNT; i++)
		free(m->raw[i].ns);
	mem_unreserve(m, sizeof(*m));
}

/* Room for @more samples; grows by half at least, so that adding stays O(1) on average. */
static int samples_reserve(struct metric_samples *s, size_t more)
{
	enum { SAMPLES_MIN = 4096 };

	if (s->cap - s->count >= more)
		return 0;
	size_t cap = MAX(s->count + more, MAX(s->cap + s->cap / 2, (size_t)SAMPLES_MIN));
	uint64_t *ns = reallocarray(s->ns, cap, sizeof(*ns));
	if (!ns)
		return -ENOMEM;
	s->ns = ns;
	s->cap = cap;
	return 0;
}

int metrics_merge(struct metrics *to, const struct metrics *from)
{
	/* First what can fail, so that a failed merge changes no number. */
	for (int i = 0; i < METRIC_RAW_COUNT; i++) {
		int rc = samples_reserve(&to->raw[i], from->raw[i].count);
		if (rc < 0)
			return rc;
	}
	for (int i = 0; i < METRIC_RAW_COUNT; i++) {
		struct metric_samples *s = &to->raw[i];
		if (from->raw[i].count)
			memcpy(s->ns + s->count, from->raw[i].ns,
			       from->raw[i].count * sizeof(*s->ns));
		s->count += from->raw[i].count;
	}
	to->raw_dropped += from->raw_dropped;
	for (int i = 0; i < METRIC_COUNTER_COUNT; i++)
		to->count[i] += from->count[i];
	for (int i = 0; i < QOS_COUNT; i++)
		to->oldest_age_ns[i] = MAX(to->oldest_age_ns[i], from->oldest_age_ns[i]);
	for (int i = 0; i < METRIC_HIST_COUNT; i++)
		hist_merge(&to->hist[i], &from->hist[i]);
	return 0;
}

void metrics_clear(struct metrics *m)
{
	memset(m->count, 0, sizeof(m->count));
	memset(m->oldest_age_ns, 0, sizeof(m->oldest_age_ns));
	m->raw_dropped = 0;
	for (int i = 0; i < METRIC_RAW_COUNT; i++)
		m->raw[i].count = 0;
	for (int i = 0; i < METRIC_HIST_COUNT; i++)
		hist_clear(&m->hist[i]);
}

void metrics_sample(struct metrics *m, enum metric_raw which, uint64_t ns)
{
	struct metric_samples *s = &m->raw[which];
	if (samples_reserve(s, 1) < 0) {
		m->raw_dropped++;
		return;
	}
	s->ns[s->count++] = ns;
}

uint64_t metrics_qos_total(const struct metrics *m, enum metric_qos what)
{
	uint64_t sum = 0;
	for (int q = 0; q < QOS_COUNT; q++)
		sum += m->count[COUNT_QOS(q, what)];
	return sum;
}

uint64_t metrics_tier_bytes(const struct metrics *m, enum metric_direction dir)
{
	uint64_t sum = 0;
	for (int t = 0; t < TIER_CLASSES; t++)
		sum += m->count[COUNT_TIER_BYTES(t, dir)];
	return sum;
}

void error_log_init(struct error_log *log)
{
	memset(log, 0, sizeof(*log));
	pthread_mutex_init(&log->lock, NULL);
}

uint64_t error_log_total(struct error_log *log)
{
	pthread_mutex_lock(&log->lock);
	uint64_t total = log->total;
	pthread_mutex_unlock(&log->lock);
	return total;
}

static struct error_class *class_find(struct error_log *log, const char *name)
{
	for (unsigned i = 0; i < log->classes; i++) {
		if (!strncmp(log->v[i].name, name, sizeof(log->v[i].name) - 1))
			return &log->v[i];
	}
	return NULL;
}

static struct error_class *class_new(struct error_log *log, const char *name, const char *first)
{
	struct error_class *class = &log->v[log->classes++];
	snprintf(class->name, sizeof(class->name), "%s", name);
	snprintf(class->first, sizeof(class->first), "%s", first);
	return class;
}

/* The last place is kept for "other", which may also have come from another rank's log as a name.
 */
static struct error_class *class_get(struct error_log *log, const char *name, const char *first)
{
	struct error_class *class = class_find(log, name);
	if (class)
		return class;
	if (log->classes < ERROR_CLASSES_MAX - 1)
		return class_new(log, name, first);
	class = class_find(log, "other");
	return class ? class : class_new(log, "other", first);
}

static void error_log_count(struct error_log *log, const char *name, const char *first,
			    uint64_t count)
{
	pthread_mutex_lock(&log->lock);
	class_get(log, name, first)->count += count;
	log->total += count;
	pthread_mutex_unlock(&log->lock);
}

void error_log_add(struct error_log *log, const char *name, const char *first)
{
	error_log_count(log, name, first, 1);
}

void error_log_merge(struct error_log *to, const struct error_log *from)
{
	for (unsigned i = 0; i < from->classes; i++)
		error_log_count(to, from->v[i].name, from->v[i].first, from->v[i].count);
}
