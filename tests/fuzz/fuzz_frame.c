// SPDX-License-Identifier: Apache-2.0
/* Fuzz entry: the input as a stream of frames, whole and in two pieces: both must be taken apart alike. */
#include <inttypes.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/frame.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void see_frame(void *arg, enum frame_kind kind, uint32_t rank, const char *data, size_t len)
{
	struct str *story = arg;
	if (data[len])
		abort();
	str_addf(story, "[%s %" PRIu32 " %zu]", frame_kind_name(kind), rank, len);
}

static void see_text(void *arg, const char *bytes, size_t n)
{
	str_add_mem(arg, bytes, n);
}

static void read_in_two(const char *data, size_t size, size_t cut, struct str *story)
{
	const struct frame_handler handler = {see_frame, see_text, story};
	struct frame_reader r;
	frame_reader_init(&r, &handler);
	r.payload_max = 256;
	if (frame_reader_feed(&r, data, cut) || frame_reader_feed(&r, data + cut, size - cut))
		abort();
	frame_reader_end(&r);
	str_addf(story, " %" PRIu64 " damaged", r.damaged);
	frame_reader_release(&r);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	CLEANUP_STR struct str whole = {0}, pieces = {0};
	read_in_two((const char *)data, size, size, &whole);
	read_in_two((const char *)data, size, size ? data[0] % size : 0, &pieces);
	if (whole.len != pieces.len || memcmp(whole.s, pieces.s, whole.len) != 0)
		abort();
	return 0;
}
