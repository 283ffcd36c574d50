/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cluster/timeseries.h - what machines did during a run: samples at an interval, and the file they end up in.
 *
 * Receives: one line of JSON a sample.  Gives: a growing file of lines, at the end one JSON file ordered by machine.
 * Must not know: how a sample is taken or comes here.
 *
 * While the run goes on the lines are appended to "<path>.part", so that memory stays small (16 bytes a sample) and a killed run
 * keeps what it had. timeseries_finish() writes @path and removes the part:
 *
 *   {collection_interval_seconds, start_time, end_time, num_samples, dropped_samples?, overhead_percent?, collection_method,
 *    hosts_requested[], hosts_collected[], samples_by_host{host: [{timestamp, hostname, diskstats, vmstat, loadavg, meminfo,
 *    netdev, errors?}]}}
 */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/str.h"

struct timeseries_spec {
	const char *path;   /* copied */
	double interval_s;  /* recorded only */
	uint64_t max_count; /* samples kept of each machine; later ones are dropped and counted */
};

struct timeseries; /* Threads: any, calls exclude each other. */

/** timeseries_open() - Return: 0; -ENOMEM; -errno with an ERR_FS_* when the part cannot be written. */
int timeseries_open(const struct timeseries_spec *spec, struct timeseries **ret, struct error *err);

/**
 * timeseries_add() - one sample
 * @source: number of the machine; two machines of one name are told apart by it
 * @line: JSON object with "hostname", without '\n' in it
 * Return: 0; -EINVAL: no such object, nothing is kept; -EOVERFLOW: dropped, the machine has its samples; -errno of the file.
 */
int timeseries_add(struct timeseries *t, uint32_t source, const char *line, size_t len);

/** What the file says beside the samples. */
struct timeseries_end {
	const char *method;              /* "local", "ssh", "mpi" */
	const struct strlist *requested; /* machines that were to be sampled */
	double overhead_percent; /* of one core, for taking the samples here; negative: not known */
};

/** timeseries_finish() - write the file. Nothing is written when there are no samples. Return: 0 or -errno; the part stays then. */
int timeseries_finish(struct timeseries *t, const struct timeseries_end *end);

uint64_t timeseries_count(struct timeseries *t);
uint64_t timeseries_dropped(struct timeseries *t);
/** timeseries_hosts() - names of machines with samples, as in the file. New reference. */
json_t *timeseries_hosts(struct timeseries *t);
void timeseries_free(struct timeseries *t);

/* --- a thread that does something at an interval */

struct sampler;

/**
 * sampler_new() - @tick is called at the start, then every @interval_s, on a thread of its own that takes no signals
 * A tick that takes longer than the interval delays the next one; none is made up for.
 * Return: 0 or -ENOMEM.
 */
int sampler_new(double interval_s, void (*tick)(void *arg), void *arg, struct sampler **ret);
/** sampler_start() - Return: 0; -EALREADY: it runs; -EINVAL: it was stopped, a sampler is used once; -errno of the thread. */
int sampler_start(struct sampler *s);
/** sampler_stop() - returns when the last tick is over. Return: 0; -EINVAL: it does not run. */
int sampler_stop(struct sampler *s);
/** sampler_overhead() - CPU time of the thread over the time it ran, in percent of one core; after sampler_stop(). */
double sampler_overhead(const struct sampler *s);
/** sampler_free() - stops it where it runs. NULL is fine. */
void sampler_free(struct sampler *s);
