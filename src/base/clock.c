// SPDX-License-Identifier: Apache-2.0
/* Calendar text. */
#include "base/clock.h"

void clock_stamp(char buf[CLOCK_STAMP_SIZE], time_t when)
{
	struct tm tm;
	localtime_r(&when, &tm);
	strftime(buf, CLOCK_STAMP_SIZE, "%Y%m%d_%H%M%S", &tm);
}

void clock_iso_utc(char buf[CLOCK_ISO_SIZE], time_t when)
{
	struct tm tm;
	gmtime_r(&when, &tm);
	strftime(buf, CLOCK_ISO_SIZE, "%Y-%m-%dT%H:%M:%SZ", &tm);
}

void clock_log_text(char buf[CLOCK_ISO_SIZE], time_t when)
{
	struct tm tm;
	localtime_r(&when, &tm);
	strftime(buf, CLOCK_ISO_SIZE, "%Y-%m-%d %H:%M:%S", &tm);
}
