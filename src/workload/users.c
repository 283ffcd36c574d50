// SPDX-License-Identifier: Apache-2.0
/*
 * Draws the simulated users. For a seed they are the reference's users: same generator, same order
 * of draws (template, quality of service, context, generation, think time), so this is the only
 * floating-point draw.
 */
#include <math.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/rng.h"
#include "workload/internal.h"
#include "workload/mt19937.h"

static enum config_qos qos_of(const struct config_workload *cw, double u)
{
	if (u < cw->interactive_probability)
		return QOS_INTERACTIVE;
	return u < cw->responsive_threshold ? QOS_RESPONSIVE : QOS_BATCH;
}

static uint32_t draw_between(struct mt19937 *mt, uint32_t min, uint32_t max)
{
	return min + mt19937_below(mt, max - min + 1);
}

static uint32_t smallest_draw(uint32_t max, uint32_t divisor)
{
	return MIN(MAX(1, max / divisor), max);
}

static void draw_user(struct mt19937 *mt, const struct config_workload *cw, struct user *u)
{
	u->template_index = (uint8_t)mt19937_below(mt, cw->template_count);
	const struct config_template *t = &cw->templates[u->template_index];
	u->qos = (uint8_t)qos_of(cw, mt19937_real(mt));
	u->context_max = draw_between(mt, t->context_min, t->context_max);
	u->generation_max = draw_between(mt, t->generation_min, t->generation_max);
	u->think_s = mt19937_uniform(mt, t->think_min_s, t->think_max_s);

	u->context_min = smallest_draw(u->context_max, cw->context_min_divisor);
	u->generation_min = smallest_draw(u->generation_max, cw->generation_min_divisor);
	u->think_ns = (uint64_t)llround(u->think_s * (double)NS_PER_S);
}

int users_new(const struct config *cfg, uint64_t seed, uint32_t rank, struct user **ret)
{
	uint32_t count = (uint32_t)cfg->opt.num_users;
	struct user *users = calloc(count, sizeof(*users));
	struct mt19937 mt;

	if (!users)
		return -ENOMEM;
	mt19937_init(&mt, seed);
	uint64_t run_key = rng_key(seed, rank);
	for (uint32_t i = 0; i < count; i++) {
		draw_user(&mt, &cfg->workload, &users[i]);
		users[i].key = rng_key(run_key, i);
	}
	*ret = users;
	return 0;
}
