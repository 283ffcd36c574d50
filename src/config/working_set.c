// SPDX-License-Identifier: Apache-2.0
/*
 * How large the KV cache of a workload is, from its distributions.
 *
 * What a user touches while a conversation lasts is the entries of its turns so far. A request
 * draws its context evenly from max(1, C / divisor)..C, where C is the user's own, drawn evenly
 * from its template's range. A conversation ends after each turn with one probability, so that the
 * turn met at any moment has the geometric distribution, cut at the longest conversation. Without
 * conversations it is the request's own entry.
 */
#include "base/mem.h"
#include "config/config.h"

#define GIB 1073741824.0

/* Mean of randint(max(1, c / divisor), c) over c in min..max. */
static double mean_draw(uint32_t min, uint32_t max, uint32_t divisor)
{
	double sum = 0;
	for (uint64_t c = min; c <= max; c++)
		sum += ((double)MAX(1, c / divisor) + (double)c) / 2;
	return sum / ((double)max - min + 1);
}

static double mean_context(const struct config_workload *w)
{
	double sum = 0;
	for (uint32_t i = 0; i < w->template_count; i++)
		sum += mean_draw(w->templates[i].context_min, w->templates[i].context_max,
				 w->context_min_divisor);
	return sum / w->template_count;
}

static uint32_t max_context(const struct config_workload *w)
{
	uint32_t max = 0;
	for (uint32_t i = 0; i < w->template_count; i++)
		max = MAX(max, w->templates[i].context_max);
	return max;
}

/* Mean number of entries that a turn may read or write: all turns so far, or the last two. */
static double mean_entries(const struct config *cfg)
{
	const struct config_workload *w = &cfg->workload;
	double weight = 1;
	double weights = 0;
	double sum = 0;
	if (cfg->opt.disable_multi_turn)
		return 1;
	for (uint32_t turn = 1; turn <= w->max_turns_per_conversation; turn++) {
		uint32_t live = w->multi_turn_last_only ? MIN(turn, 2) : turn;
		sum += weight * live;
		weights += weight;
		weight *= 1 - w->end_conversation_probability;
	}
	return sum / weights;
}

struct config_working_set config_working_set(const struct config *cfg)
{
	const struct config_workload *w = &cfg->workload;
	struct config_working_set set = {
		.tokens = mean_context(w),
		.entry_max_bytes = (double)config_entry_bytes(cfg, max_context(w)),
		.entries_per_user = mean_entries(cfg),
	};
	set.entry_bytes = (double)cfg->bytes_per_token * set.tokens / (double)cfg->opt.tensor_parallel;
	set.user_bytes = set.entry_bytes * set.entries_per_user;
	set.all_bytes = set.user_bytes * (double)cfg->opt.num_users;
	return set;
}

double config_storage_need(const struct config *cfg)
{
	const struct config_options *o = &cfg->opt;
	double need = config_working_set(cfg).all_bytes - o->cpu_mem_gib * GIB;
	if (o->trace || o->prefill_only || o->decode_only || need < 0)
		return 0;
	return o->storage_capacity_gib > 0 ? MIN(need, o->storage_capacity_gib * GIB) : need;
}
