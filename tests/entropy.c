// SPDX-License-Identifier: Apache-2.0
/*
 * Can the cache files of a run be deduplicated or compressed? "entropy FILE...": the number of 512-byte blocks of payload, how many
 * of them repeat another one (by a 64-bit hash: among 8 million blocks two different ones share a hash once in 500,000 runs),
 * and their size after zstd -3 and after lz4, in MiB at a time. For tests; exit 1 when a file cannot be read.
 */
#include <lz4.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/param.h>
#include <xxhash.h>
#include <zstd.h>

enum { BLOCK = 512, HEADER = 4096, PIECE = 1 << 20 };

static uint64_t *hashes;
static size_t count, cap, by_zstd, by_lz4;

static void add_hash(uint64_t hash)
{
	if (count == cap) {
		cap = cap ? 2 * cap : 1 << 16;
		hashes = reallocarray(hashes, cap, sizeof(*hashes));
		if (!hashes)
			abort();
	}
	hashes[count++] = hash;
}

static int add_file(const char *path)
{
	static char piece[PIECE], packed[MAX(ZSTD_COMPRESSBOUND(PIECE), LZ4_COMPRESSBOUND(PIECE))];
	FILE *f = fopen(path, "rbe");
	size_t n;

	if (!f || fseek(f, HEADER, SEEK_SET)) {
		perror(path);
		return EXIT_FAILURE;
	}
	while ((n = fread(piece, 1, sizeof(piece), f))) {
		for (size_t i = 0; i + BLOCK <= n; i += BLOCK)
			add_hash(XXH3_64bits(piece + i, BLOCK));
		by_zstd += ZSTD_compress(packed, sizeof(packed), piece, n, 3);
		by_lz4 += (size_t)LZ4_compress_default(piece, packed, (int)n, sizeof(packed));
	}
	fclose(f);
	return EXIT_SUCCESS;
}

static int compare(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
	return (x > y) - (x < y);
}

int main(int argc, char **argv)
{
	size_t repeated = 0;

	for (int i = 1; i < argc; i++)
		if (add_file(argv[i]))
			return EXIT_FAILURE;
	if (count)
		qsort(hashes, count, sizeof(*hashes), compare);
	for (size_t i = 1; i < count; i++)
		repeated += hashes[i] == hashes[i - 1];
	printf("blocks %zu repeated %zu bytes %zu zstd %zu lz4 %zu\n", count, repeated, count * BLOCK, by_zstd, by_lz4);
	free(hashes);
	return EXIT_SUCCESS;
}
