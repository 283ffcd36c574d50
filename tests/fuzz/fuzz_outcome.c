// SPDX-License-Identifier: Apache-2.0
/* Fuzz entry: a result file of any engine. What is taken from it must be a number or null. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/file.h"
#include "record/record.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct record_outcome outcome = {0};
	struct error err = {0};
	char path[64];
	int fd = memfd_create("result", MFD_CLOEXEC);
	if (fd < 0 || file_write_all(fd, (const char *)data, size))
		abort();
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	if (!record_outcome_read(path, 10, &outcome, &err)) {
		char *text = json_dumps(outcome.metrics, 0); /* fails on what no JSON file can hold */
		if (!text || !(outcome.completed >= 0 || outcome.completed < 0))
			abort();
		free(text);
		record_outcome_release(&outcome);
	} else if (!err.message[0]) {
		abort(); /* a refusal says why */
	}
	close(fd);
	return 0;
}
