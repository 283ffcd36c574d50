// SPDX-License-Identifier: Apache-2.0
/*
 * Metrics as plain numbers that ranks can add up without knowing what they mean.
 *
 * Of the 4 MiB of buckets a run touches a tenth: latencies of one kind lie within a few octaves. So the buckets go in blocks, an
 * octave each, and only blocks that some rank has touched.
 */
#include <string.h>

#include "base/mem.h"
#include "metrics/metrics.h"

/* A member that is added here must be packed, too, or say why not (raw samples stay with their rank). */
_Static_assert(sizeof(struct metrics) == sizeof(uint64_t) * (METRIC_COUNTER_COUNT + QOS_COUNT + 1) +
						 sizeof(struct metric_samples) * METRIC_RAW_COUNT +
						 sizeof(struct hist) * METRIC_HIST_COUNT,
	       "every member of struct metrics is packed");

static uint64_t *block(const struct metrics *m, unsigned i)
{
	unsigned each = HIST_BUCKETS / METRIC_BLOCK_BUCKETS;
	return (uint64_t *)&m->hist[i / each].bucket[i % each * METRIC_BLOCK_BUCKETS];
}

static bool is_set(const uint64_t *touched, unsigned i)
{
	return touched[i / 64] >> i % 64 & 1;
}

void metrics_touched(const struct metrics *m, uint64_t ret[METRIC_BLOCK_WORDS])
{
	memset(ret, 0, METRIC_BLOCK_WORDS * sizeof(*ret));
	for (unsigned i = 0; i < METRIC_BLOCKS; i++) {
		const uint64_t *bucket = block(m, i);
		uint64_t any = 0;
		if (!m->hist[i / (HIST_BUCKETS / METRIC_BLOCK_BUCKETS)].count)
			continue; /* never touched memory stays so */
		for (unsigned b = 0; b < METRIC_BLOCK_BUCKETS; b++)
			any |= bucket[b];
		ret[i / 64] |= (uint64_t)(any != 0) << i % 64;
	}
}

size_t metrics_sums_count(const uint64_t touched[METRIC_BLOCK_WORDS])
{
	size_t n = METRIC_COUNTER_COUNT + 1 + 4 * METRIC_HIST_COUNT;
	for (unsigned i = 0; i < METRIC_BLOCKS; i++)
		n += is_set(touched, i) ? METRIC_BLOCK_BUCKETS : 0;
	return n;
}

/* One walk for both directions, so that they cannot differ. */
struct walk {
	uint64_t *at;
	bool is_packing;
};

static void pass(struct walk *w, uint64_t *v, size_t n)
{
	uint64_t *to = w->is_packing ? w->at : v;
	const uint64_t *from = w->is_packing ? v : w->at;
	memcpy(to, from, n * sizeof(*to));
	w->at += n;
}

static void pass_sums(struct walk *w, struct metrics *m, const uint64_t *touched)
{
	pass(w, m->count, METRIC_COUNTER_COUNT);
	pass(w, &m->raw_dropped, 1);
	for (unsigned h = 0; h < METRIC_HIST_COUNT; h++) {
		pass(w, &m->hist[h].count, 1);
		pass(w, &m->hist[h].sum_low, 1);
		pass(w, &m->hist[h].sum_high, 1);
		pass(w, &m->hist[h].over, 1);
	}
	for (unsigned i = 0; i < METRIC_BLOCKS; i++)
		if (is_set(touched, i))
			pass(w, block(m, i), METRIC_BLOCK_BUCKETS);
}

static void pass_maxima(struct walk *w, struct metrics *m)
{
	pass(w, m->oldest_age_ns, QOS_COUNT);
	for (unsigned h = 0; h < METRIC_HIST_COUNT; h++) {
		/* The smallest is the largest of the complements; 0, the least of those, where there is no sample. */
		uint64_t complement = m->hist[h].count ? INT64_MAX - MIN(m->hist[h].min_ns, INT64_MAX) : 0;
		pass(w, &complement, 1);
		if (!w->is_packing && m->hist[h].count)
			m->hist[h].min_ns = INT64_MAX - complement;
		pass(w, &m->hist[h].max_ns, 1);
	}
}

void metrics_pack(const struct metrics *m, const uint64_t touched[METRIC_BLOCK_WORDS], uint64_t *sums,
		  uint64_t maxima[METRIC_MAXIMA])
{
	/* Packing only reads; pass() needs it writable for the other direction. */
	struct walk sum = {sums, true}, maximum = {maxima, true};
	pass_sums(&sum, (struct metrics *)m, touched);
	pass_maxima(&maximum, (struct metrics *)m);
}

void metrics_unpack(struct metrics *m, const uint64_t touched[METRIC_BLOCK_WORDS], const uint64_t *sums,
		    const uint64_t maxima[METRIC_MAXIMA])
{
	struct walk sum = {(uint64_t *)sums, false}, maximum = {(uint64_t *)maxima, false};
	pass_sums(&sum, m, touched);
	pass_maxima(&maximum, m); /* after the counts, which it looks at */
}
