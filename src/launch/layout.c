// SPDX-License-Identifier: Apache-2.0
/* Which host gets how many ranks. */
#include "launch/job.h"

#include <inttypes.h>

/* Return: the number of ranks; 0: a problem was added (*rc says if that failed). */
static int64_t count_ranks(const struct launch_hosts *hosts, int64_t ranks, int64_t npernode,
			   struct problems *problems, int *rc)
{
	int64_t count = (int64_t)hosts->count;
	if (npernode && ranks && ranks != npernode * count) {
		*rc = problems_add(problems, ERR_CONFIG_INCOMPATIBLE,
				   "--npernode %" PRId64 " on %zu hosts makes %" PRId64
				   " processes, but --num-processes is %" PRId64,
				   npernode, hosts->count, npernode * count, ranks);
		return 0;
	}
	if (!ranks)
		ranks = npernode ? npernode * count : count;
	if (ranks < count) {
		*rc = problems_add(problems, ERR_CONFIG_INCOMPATIBLE,
				   "--num-processes %" PRId64 ": fewer than the %zu hosts, so that some would get none",
				   ranks, hosts->count);
		return 0;
	}
	return ranks;
}

static int check_room(const struct launch_hosts *hosts, int64_t ranks, int64_t npernode,
		      struct problems *problems)
{
	int64_t slots = 0;
	for (size_t i = 0; i < hosts->count; i++) {
		slots += hosts->list[i].slots;
		if (hosts->list[i].slots < npernode) {
			int rc = problems_add(problems, ERR_CONFIG_INCOMPATIBLE,
					      "--hosts: %s has %" PRId64 " slots, but --npernode is %" PRId64,
					      hosts->list[i].name, hosts->list[i].slots, npernode);
			return rc;
		}
	}
	if (slots >= ranks)
		return 0;
	return problems_add(problems, ERR_CONFIG_INCOMPATIBLE,
			    "--hosts: %" PRId64 " slots are not enough for %" PRId64 " processes", slots, ranks);
}

int launch_layout_make(const struct launch_hosts *hosts, int64_t ranks, int64_t npernode,
		       struct launch_layout *ret, struct problems *problems)
{
	size_t before = problems->count;
	int rc = 0;
	struct launch_layout layout = {
		.ranks = count_ranks(hosts, ranks, npernode, problems, &rc),
		.npernode = npernode,
		.distinct = hosts->distinct,
	};
	if (!rc && layout.ranks && hosts->has_slots)
		rc = check_room(hosts, layout.ranks, npernode, problems);
	if (rc || problems->count > before)
		return rc;
	int64_t base = layout.ranks / (int64_t)hosts->count;
	int64_t rest = layout.ranks % (int64_t)hosts->count;
	for (size_t i = 0; !rc && i < hosts->count; i++) {
		const struct launch_host *host = &hosts->list[i];
		int64_t slots = host->slots ? host->slots : base + ((int64_t)i < rest);
		rc = strlist_addf(&layout.entries, "%s:%" PRId64, host->name, slots);
	}
	if (rc) {
		launch_layout_release(&layout);
		return rc;
	}
	*ret = layout;
	return 0;
}

void launch_layout_release(struct launch_layout *layout)
{
	strlist_release(&layout->entries);
	*layout = (struct launch_layout){0};
}
