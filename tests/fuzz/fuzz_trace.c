// SPDX-License-Identifier: Apache-2.0
/* Trace files are the only input from strangers that the engine reads: any bytes must give rows or
 * a clear refusal. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "workload/workload.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void read_all_rows(struct workload *w)
{
	struct workload_cursor cursor = {0};
	struct request r = {0};
	uint64_t arrival_ns = 0;
	int rc;

	while ((rc = workload_next(w, 0, &cursor, &r)) == 0 || rc == -EINVAL) {
		if (cursor.gap_sum_ns < arrival_ns)
			abort();
		arrival_ns = cursor.gap_sum_ns;
		uint64_t tokens = 0;
		for (uint32_t i = 0; rc == 0 && i < r.block_count; i++)
			tokens += workload_block_tokens(&r, i);
		if (rc == 0 && tokens != r.input_tokens)
			abort();
	}
	request_release(&r);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	CLEANUP_CLOSE int fd = memfd_create("trace", MFD_CLOEXEC);
	char path[64];
	struct config cfg = {.opt.trace = path, .opt.trace_speedup = 3};
	struct trace_info info;
	struct workload *w;
	struct error err;

	if (fd < 0 || write(fd, data, size) != (ssize_t)size)
		abort();
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	int rc = trace_info_read(path, TRACE_MOONCAKE, &info, &err);
	if (rc == 0 && info.blocks_unique > info.block_refs)
		abort();
	if (workload_new(&cfg, 1, 0, &w, &err) == 0) {
		read_all_rows(w);
		workload_free(w);
	}
	return 0;
}
