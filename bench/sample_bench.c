// SPDX-License-Identifier: Apache-2.0
/*
 * What watching the machine costs: processor time of one sample of a time series (its texts read, parsed, written as JSON, kept)
 * and of one collection of all facts, on this machine with its disks, interfaces and mounts. The best of several rounds is taken.
 * A sample every ten seconds must stay below half a percent of one core.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/attr.h"
#include "base/clock.h"
#include "cluster/cluster.h"
#include "cluster/timeseries.h"

enum { ROUNDS = 5, SAMPLES = 100, INTERVAL_S = 10 };

static void take_sample(struct timeseries *t)
{
	CLEANUP_FREE char *line = NULL;
	if (cluster_sample_json("", &line) || timeseries_add(t, 0, line, strlen(line)))
		abort();
}

static void take_facts(struct timeseries *t)
{
	(void)t;
	CLEANUP_FREE char *text = NULL;
	if (cluster_host_json("", &text))
		abort();
}

/* Microseconds of processor time for one. */
static double cost_us(void (*one)(struct timeseries *), struct timeseries *t)
{
	double best = 0;
	for (int round = 0; round < ROUNDS; round++) {
		uint64_t begin = clock_thread_cpu_ns();
		for (int i = 0; i < SAMPLES; i++)
			one(t);
		double us = (double)(clock_thread_cpu_ns() - begin) / 1e3 / SAMPLES;
		best = round && best < us ? best : us;
	}
	return best;
}

int main(void)
{
	char path[] = "/tmp/sample_bench.XXXXXX";
	CLEANUP_CLOSE int fd = mkstemp(path);
	struct timeseries_spec spec = {
		.path = path, .interval_s = INTERVAL_S, .max_count = UINT64_MAX};
	struct timeseries *t;
	struct error err;
	if (fd < 0 || timeseries_open(&spec, &t, &err))
		return 1;
	double sample_us = cost_us(take_sample, t);
	double facts_us = cost_us(take_facts, t);
	printf("%-52s %6.0f us  %.4f %% of a core at %d s\n", "one sample of this machine",
	       sample_us, sample_us / 1e6 / INTERVAL_S * 100, INTERVAL_S);
	printf("%-52s %6.0f us\n", "all facts of this machine", facts_us);
	struct timeseries_end end = {.method = "local", .overhead_percent = -1};
	int rc = timeseries_finish(t, &end);
	timeseries_free(t);
	unlink(path);
	return rc ? 1 : 0;
}
