// SPDX-License-Identifier: Apache-2.0
/* What 10,000 ranks cost the controller: frames of field-only results, read and put together. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "base/clock.h"
#include "base/frame.h"
#include "record/aggregate.h"

#define RANKS_DEFAULT 10000
#define MIB	      1048576.0

enum { FIELDS = 500 }; /* with these a result is as long as the engine's own without histograms, 18 KiB */

static void make_result(struct str *text)
{
	str_add(text,
		"{\"schema_version\": \"1.0\", \"summary\": {\"total_requests\": 630, \"requests_per_second\": 10.5, "
		 "\"avg_throughput_tokens_per_sec\": 1250.25, \"storage_throughput_tokens_per_sec\": 125.5, \"cache_stats\": {"
		 "\"tier_storage_read_bandwidth_gbps\": 2.5, \"tier_storage_write_bandwidth_gbps\": 0.5, \"storage_entries\": 12, "
		 "\"storage_read_device_p95_ms\": 7.5}}, \"measured\": {\"window_s\": 60.0");
	for (int i = 0; i < FIELDS; i++)
		str_addf(text, ", \"a_field_with_a_name_%d\": %d.123456", i, i);
	str_add(text, "}}");
}

static void take(void *arg, enum frame_kind kind, uint32_t rank, const char *data, size_t len)
{
	if (kind != FRAME_RESULT || record_aggregate_add(arg, rank, data, len))
		abort();
}

static void no_text(void *arg, const char *bytes, size_t n)
{
	(void)arg;
	(void)bytes;
	(void)n;
	abort();
}

/* The bytes of one frame, as a pipe would carry them. */
static void feed(struct frame_reader *r, FILE *pipe, const struct str *text, uint32_t rank)
{
	char buf[65536];
	rewind(pipe);
	if (frame_write(fileno(pipe), FRAME_RESULT, rank, text->s, text->len))
		abort();
	size_t left = (size_t)lseek(fileno(pipe), 0, SEEK_END);
	rewind(pipe);
	while (left) {
		size_t n = fread(buf, 1, left < sizeof(buf) ? left : sizeof(buf), pipe);
		if (!n || frame_reader_feed(r, buf, n))
			abort();
		left -= n;
	}
	if (ftruncate(fileno(pipe), 0))
		abort();
}

int main(int argc, char **argv)
{
	uint64_t ranks = RANKS_DEFAULT;
	if (argc > 1 && (parse_u64(argv[1], &ranks) || !ranks || ranks > 1000000))
		return 2;
	struct record_aggregate *a = record_aggregate_new((uint32_t)ranks, "result.json");
	struct frame_handler handler = {take, no_text, a};
	struct frame_reader reader;
	CLEANUP_STR struct str text = {0};
	CLEANUP_FCLOSE FILE *pipe = tmpfile();
	if (!a || !pipe)
		return 3;
	frame_reader_init(&reader, &handler);
	make_result(&text);
	uint64_t begin = clock_mono_ns();
	for (uint32_t rank = 0; rank < ranks; rank++)
		feed(&reader, pipe, &text, rank);
	json_t *all = record_aggregate_json(a);
	double seconds = (double)(clock_mono_ns() - begin) / (double)NS_PER_S;
	struct rusage usage;
	getrusage(RUSAGE_SELF, &usage);
	printf("%" PRIu64 " results of %.1f KiB: %.2f s, %.0f MiB at peak, read sum %.1f\n", ranks, (double)text.len / 1024, seconds,
	       (double)usage.ru_maxrss * 1024 / MIB, json_number_value(json_object_get(all, "aggregated_read_bandwidth_gbps")));
	json_decref(all);
	frame_reader_release(&reader);
	record_aggregate_free(a);
	return 0;
}
