// SPDX-License-Identifier: Apache-2.0
/*
 * Makes request n of a synthetic user from (user key, n) alone. Each request has its own stream of
 * draws, so nothing depends on who asked for what before. The order of draws is part of the
 * workload and fixed:
 *
 *   1 jitter of the gap   2 leave the conversation?   3 context   4 generated tokens
 *   5 use a prefix?       6 which prefix (only when 5 said yes)
 *
 * Draw 2 is made also where it decides nothing, so that gaps and sizes stay the same when
 * multi-turn is switched off; 5 and 6 come last for the same reason.
 */
#include <math.h>

#include "base/mem.h"
#include "base/rng.h"
#include "workload/internal.h"
#include "workload/key.h"

enum { PPM = 1000000 };

void stream_params_init(struct stream_params *p, const struct config *cfg)
{
	const struct config_workload *cw = &cfg->workload;

	*p = (struct stream_params){
		.jitter_min_ppm = (uint32_t)lround(cw->think_jitter_min * PPM),
		.jitter_max_ppm = (uint32_t)lround(cw->think_jitter_max * PPM),
		.end_threshold = rng_threshold(cw->end_conversation_probability),
		.prefix_threshold = rng_threshold(cw->prefix_probability),
		.max_turns = MIN(cw->max_turns_per_conversation, KEY_TURN_MAX),
		.prefill_only_tokens = cw->prefill_only_tokens,
		.prefix_count = cfg->opt.disable_prefix_caching ? 0 : cw->prefix_count,
		.multi_turn = !cfg->opt.disable_multi_turn,
	};
	for (uint32_t i = 0; i < p->prefix_count; i++)
		p->prefix_words[i] = cw->prefix_words[i];
}

static uint64_t draw_gap_ns(const struct stream_params *p, const struct user *user, struct rng *rng)
{
	uint64_t factor = rng_range(rng, p->jitter_min_ppm, p->jitter_max_ppm);

	/* think_ns * factor / PPM, in two parts so that it cannot overflow; never 0, so that time goes on */
	uint64_t gap = user->think_ns / PPM * factor + user->think_ns % PPM * factor / PPM;
	return MAX(gap, 1);
}

/* Turn and conversation of the next request; a conversation ends by the draw or by its length. */
static void advance_conversation(const struct stream_params *p, bool leave,
				 struct workload_cursor *c)
{
	if (leave || c->turn >= p->max_turns)
		c->turn = 0;
	if (c->turn == 0)
		c->conversation++;
	c->turn++;
}

static int32_t draw_prefix(const struct stream_params *p, struct rng *rng)
{
	if (p->prefix_count == 0 || !rng_chance(rng, p->prefix_threshold))
		return -1;
	return (int32_t)rng_below(rng, p->prefix_count);
}

void stream_next(const struct stream_params *p, const struct user *user, uint32_t index,
		 struct workload_cursor *c, struct request *r)
{
	struct rng rng = rng_stream(rng_key(user->key, c->sequence));

	r->gap_ns = draw_gap_ns(p, user, &rng);
	bool leave = rng_chance(&rng, p->end_threshold);
	uint32_t context = (uint32_t)rng_range(&rng, user->context_min, user->context_max);
	r->generated_tokens = (uint32_t)rng_range(&rng, user->generation_min, user->generation_max);
	r->prefix = draw_prefix(p, &rng);

	/* the phase is decided by the user, the prefix is taken off by the server later */
	r->phase = context >= p->prefill_only_tokens ? PHASE_PREFILL : PHASE_BOTH;
	r->context_tokens = context;
	if (r->prefix >= 0)
		r->context_tokens -= MIN(context, p->prefix_words[r->prefix]);

	if (p->multi_turn)
		advance_conversation(p, leave, c);
	r->sequence = c->sequence++;
	r->user = index;
	r->conversation = p->multi_turn ? (c->conversation - 1) & KEY_CONVERSATION_MAX : 0;
	r->turn = c->turn;
	r->qos = (enum config_qos)user->qos;
	r->block_count = 0;
	r->block_tokens = 0;
	r->input_tokens = 0;
	c->gap_sum_ns += r->gap_ns;
}

uint64_t stream_gap_ns(const struct stream_params *p, const struct user *user, uint64_t sequence)
{
	struct rng rng = rng_stream(rng_key(user->key, sequence));
	return draw_gap_ns(p, user, &rng);
}
