// SPDX-License-Identifier: Apache-2.0
/* What the controller hears of the machines: one rank of each host tells what it is, at both ends of the run, and what it does. */
#include "engine/ranks.h"

#include <string.h>

#include "base/clock.h"
#include "cluster/cluster.h"

/* The lowest rank of a host speaks for it. */
static bool speaks_for_host(const struct engine *e)
{
	int rank = comm_rank(e->comm);
	const char *own = comm_host(e->comm, rank);
	for (int r = 0; r < rank; r++)
		if (!strcmp(comm_host(e->comm, r), own))
			return false;
	return true;
}

static int take_host(void *arg, int rank, const char *data, size_t len)
{
	if (len)
		ranks_emit(arg, FRAME_HOST, rank, data, len);
	return 0;
}

int ranks_tell_hosts(struct engine *e, struct error *err)
{
	if (!e->cfg->opt.frames)
		return 0;
	CLEANUP_FREE char *text = NULL;
	if (speaks_for_host(e) && cluster_host_json("", &text))
		text = NULL;
	return comm_gather(e->comm, text ? text : "", text ? strlen(text) : 0, take_host, e, ranks_deadline(e, 0), err);
}

void ranks_sample_host(struct engine *e)
{
	struct ranks *ranks = &e->ranks;
	double interval_s = e->cfg->opt.host_series_interval_s;
	uint64_t now = clock_mono_ns();
	if (!e->cfg->opt.frames || interval_s <= 0 || now < ranks->next_sample_ns)
		return;
	if (!ranks->next_sample_ns && !speaks_for_host(e)) {
		ranks->next_sample_ns = UINT64_MAX;
		return;
	}
	ranks->next_sample_ns = now + (uint64_t)(interval_s * (double)NS_PER_S);
	CLEANUP_FREE char *line = NULL;
	if (!cluster_sample_json("", &line)) /* one that finds the last still on its way is left out */
		(void)comm_post(e->comm, COMM_MAIL_SERIES, line, strlen(line));
}
