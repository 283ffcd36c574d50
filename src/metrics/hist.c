// SPDX-License-Identifier: Apache-2.0
/* Log-linear histograms: recording, adding up and reading off; the geometry is derived in hist.h.
 */
#include "metrics/hist.h"

#include <stddef.h>
#include <string.h>

#include "base/mem.h"

void hist_record(struct hist *h, uint64_t ns)
{
	if (ns < h->min_ns || h->count == 0)
		h->min_ns = ns;
	if (ns > h->max_ns)
		h->max_ns = ns;
	h->count++;
	h->sum_low += (uint32_t)ns;
	h->sum_high += ns >> 32;
	h->over += ns >> (10 + HIST_OCTAVES) != 0;
	h->bucket[hist_index(ns)]++;
}

void hist_clear(struct hist *h)
{
	if (h->count == 0)
		return;
	uint32_t first = hist_index(h->min_ns), last = hist_index(h->max_ns);
	memset(&h->bucket[first], 0, (last - first + 1) * sizeof(h->bucket[0]));
	memset(h, 0, offsetof(struct hist, bucket));
}

void hist_merge(struct hist *to, const struct hist *from)
{
	if (from->count == 0)
		return; /* and do not touch memory of two empty ones */
	if (from->min_ns < to->min_ns || to->count == 0)
		to->min_ns = from->min_ns;
	to->max_ns = MAX(to->max_ns, from->max_ns);
	to->count += from->count;
	to->sum_low += from->sum_low;
	to->sum_high += from->sum_high;
	to->over += from->over;
	for (uint32_t i = hist_index(from->min_ns), last = hist_index(from->max_ns); i <= last; i++)
		to->bucket[i] += from->bucket[i];
}

/* Bucket @index above the linear part: octave o, place s in it; (512 + s) x 2^(o + 1), 2^(o + 1)
 * wide. */
uint64_t hist_low_ns(uint32_t index)
{
	if (index < HIST_LINEAR)
		return index;
	uint32_t octave = (index - HIST_LINEAR) / HIST_PER_OCTAVE;
	uint64_t place = (index - HIST_LINEAR) % HIST_PER_OCTAVE;
	return (HIST_PER_OCTAVE + place) << (octave + 1);
}

uint64_t hist_high_ns(uint32_t index)
{
	if (index < HIST_LINEAR)
		return index;
	uint32_t octave = (index - HIST_LINEAR) / HIST_PER_OCTAVE;
	return hist_low_ns(index) + (UINT64_C(2) << octave) - 1;
}

/* The sample with @rank smaller ones before it; the first and the last are known exactly. */
static double hist_order_statistic(const struct hist *h, uint64_t rank)
{
	if (rank == 0)
		return (double)h->min_ns;
	if (rank >= h->count - 1)
		return (double)h->max_ns;
	uint32_t i = 0;
	for (uint64_t seen = h->bucket[0]; seen <= rank; seen += h->bucket[i])
		i++;
	double middle = ((double)hist_low_ns(i) + (double)hist_high_ns(i)) / 2;
	return MIN(MAX(middle, (double)h->min_ns), (double)h->max_ns);
}

double hist_percentile_ns(const struct hist *h, double percent)
{
	if (h->count == 0)
		return 0;
	double place = (double)(h->count - 1) * (percent / 100);
	uint64_t rank = (uint64_t)place;
	double below = hist_order_statistic(h, rank);
	double above = hist_order_statistic(h, rank + 1);
	return below + (place - (double)rank) * (above - below);
}

double hist_sum_ns(const struct hist *h)
{
	return (double)(((unsigned __int128)h->sum_high << 32) + h->sum_low);
}

double hist_mean_inverse(const struct hist *h)
{
	double sum = 0;
	uint64_t samples = h->count - h->bucket[0];

	if (!samples)
		return 0;
	for (uint32_t i = MAX(hist_index(h->min_ns), 1), last = hist_index(h->max_ns); i <= last; i++)
		if (h->bucket[i])
			sum += (double)h->bucket[i] * 2.0 / ((double)hist_low_ns(i) + (double)hist_high_ns(i));
	return sum / (double)samples;
}

double hist_mean_ns(const struct hist *h)
{
	return h->count ? hist_sum_ns(h) / (double)h->count : 0;
}
