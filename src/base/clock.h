/* SPDX-License-Identifier: Apache-2.0 */
/*
 * base/clock.h - what time it is: monotonic nanoseconds for measuring, calendar text for people.
 *
 * Receives: nothing.  Gives: times.  Must not know: the runner's virtual clock, which replaces this one.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <time.h>

#define NS_PER_US UINT64_C(1000)
#define NS_PER_MS UINT64_C(1000000)
#define NS_PER_S  UINT64_C(1000000000)

/** clock_mono_ns() - CLOCK_MONOTONIC in nanoseconds. Threads: any. */
static inline uint64_t clock_mono_ns(void)
{
	struct timespec ts;
	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * NS_PER_S + (uint64_t)ts.tv_nsec;
}

/** clock_thread_cpu_ns() - CPU time of the calling thread. */
static inline uint64_t clock_thread_cpu_ns(void)
{
	struct timespec ts;
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
	return (uint64_t)ts.tv_sec * NS_PER_S + (uint64_t)ts.tv_nsec;
}

enum { CLOCK_STAMP_SIZE = 16, CLOCK_ISO_SIZE = 32 };

/** clock_stamp() - local time as YYYYmmdd_HHMMSS (15 characters), the name of a run directory. */
void clock_stamp(char buf[CLOCK_STAMP_SIZE], time_t when);
/** clock_iso_utc() - YYYY-mm-ddTHH:MM:SSZ. */
void clock_iso_utc(char buf[CLOCK_ISO_SIZE], time_t when);
/** clock_log_text() - local time as YYYY-mm-dd HH:MM:SS. */
void clock_log_text(char buf[CLOCK_ISO_SIZE], time_t when);
