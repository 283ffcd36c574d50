// SPDX-License-Identifier: Apache-2.0
/*
 * What memory gives: "copy_bench THREADS CHUNK_BYTES REGION_BYTES SECONDS". Each thread copies chunks of its part of the region, in
 * ascending order, into one scratch chunk of its own: what a read of the ram tier is without anything around it.
 *
 * Prints bytes per second of all threads.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"

struct copier {
	pthread_t thread;
	const char *region;
	size_t region_bytes, chunk_bytes;
	uint64_t copied_bytes;
};

static atomic_bool is_over;

static void *copy(void *arg)
{
	struct copier *c = arg;
	char *scratch = mem_reserve(c->chunk_bytes);
	if (!scratch || mem_populate(scratch, c->chunk_bytes))
		abort();
	size_t chunks = c->region_bytes / c->chunk_bytes;
	for (size_t i = 0; !atomic_load_explicit(&is_over, memory_order_relaxed); i++) {
		memcpy(scratch, c->region + i % chunks * c->chunk_bytes, c->chunk_bytes);
		__asm__ volatile("" : : "r"(scratch) : "memory"); /* somebody may look at it */
		c->copied_bytes += c->chunk_bytes;
	}
	mem_unreserve(scratch, c->chunk_bytes);
	return NULL;
}

int main(int argc, char **argv)
{
	if (argc != 5)
		return 2;
	size_t threads = strtoull(argv[1], NULL, 10), chunk_bytes = strtoull(argv[2], NULL, 10);
	size_t region_bytes = strtoull(argv[3], NULL, 10);
	unsigned seconds = (unsigned)strtoul(argv[4], NULL, 10);
	if (!threads || !chunk_bytes || region_bytes / threads < chunk_bytes)
		return 2;
	char *region = mem_reserve(region_bytes);
	struct copier *c = calloc(threads, sizeof(*c));
	if (!region || !c || mem_populate(region, region_bytes))
		return 1;
	uint64_t begin_ns = clock_mono_ns();
	for (size_t i = 0; i < threads; i++) {
		size_t part = region_bytes / threads;
		c[i] = (struct copier){
			.region = region + i * part, .region_bytes = part, .chunk_bytes = chunk_bytes};
		if (pthread_create(&c[i].thread, NULL, copy, &c[i]))
			return 1;
	}
	uint64_t bytes = 0;
	sleep(seconds);
	atomic_store(&is_over, true);
	for (size_t i = 0; i < threads; i++) {
		pthread_join(c[i].thread, NULL);
		bytes += c[i].copied_bytes;
	}
	printf("%.0f\n", (double)bytes * 1e9 / (double)(clock_mono_ns() - begin_ns));
	mem_unreserve(region, region_bytes);
	free(c);
	return 0;
}
