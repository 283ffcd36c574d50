// SPDX-License-Identifier: Apache-2.0
/* What launchers tell the processes they start, by their environment. */
#include <stdlib.h>

#include "comm/comm.h"

/* In this order: the launcher that started us sets its own, one further out (Slurm's batch step) may have set the others. */
static const struct {
	const char *size, *rank;
	const char *with; /* only where this is set too: an allocation alone starts nobody */
} variables[] = {
	{"OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK", NULL},
	{"PMI_SIZE", "PMI_RANK", NULL},
	{"MV2_COMM_WORLD_SIZE", "MV2_COMM_WORLD_RANK", NULL},
	{"PALS_SIZE", "PALS_RANKID", NULL},
	{"SLURM_STEP_NUM_TASKS", "SLURM_PROCID", "PMIX_RANK"},
	{"SLURM_STEP_NUM_TASKS", "SLURM_PROCID", "SLURM_SRUN_COMM_HOST"},
};

static bool number(const char *name, int *ret)
{
	const char *text = getenv(name);
	int64_t n;
	if (!text || parse_i64(text, &n) || n < 0 || n > INT32_MAX)
		return false;
	*ret = (int)n;
	return true;
}

bool comm_launcher_read(struct comm_launcher *ret)
{
	for (size_t i = 0; i < ARRAY_LEN(variables); i++) {
		struct comm_launcher l = {.variable = variables[i].size};
		if (variables[i].with && !getenv(variables[i].with))
			continue;
		if (!number(variables[i].size, &l.size) || l.size < 1 || !number(variables[i].rank, &l.rank))
			continue;
		*ret = l;
		return true;
	}
	*ret = (struct comm_launcher){.size = 1};
	return false;
}
