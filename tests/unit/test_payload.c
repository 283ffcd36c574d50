// SPDX-License-Identifier: Apache-2.0
/* The bytes of an entry: nothing repeats, nothing compresses, and every kind of wrong block is
 * told. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <xxhash.h>
#include <zstd.h>

#include "base/attr.h"
#include "payload/payload.h"

enum { MIB = 1 << 20, BUFFER = 64 << 10, BLOCKS = BUFFER / PAYLOAD_BLOCK };

static const struct payload_id who = {.key = 0x1234567890abcdef, .generation = 7, .rank = 3};

static char *buffer_get(size_t bytes)
{
	char *buf = aligned_alloc(4096, bytes);
	assert_non_null(buf);
	return buf;
}

static void test_round_trip(void **state)
{
	(void)state;
	for (enum payload_check check = PAYLOAD_OFF; check <= PAYLOAD_FULL; check++) {
		struct payload *p = payload_new(42, check);
		CLEANUP_FREE char *buf = buffer_get(BUFFER);
		struct payload_mismatch bad;
		uint64_t offset = UINT64_C(100) << 30;
		payload_fill(p, &who, offset, buf, BUFFER);
		assert_int_equal(payload_verify(p, &who, offset, buf, BUFFER, &bad),
				 check == PAYLOAD_OFF ? 0 : BLOCKS);
		payload_free(p);
	}
	payload_free(NULL);
}

/* However an entry is cut into chunks, and wherever the buffer lies, the bytes are the same. */
static void test_chunks(void **state)
{
	(void)state;
	struct payload *p = payload_new(42, PAYLOAD_FULL);
	CLEANUP_FREE char *whole = buffer_get(9 * MIB);
	CLEANUP_FREE char *parts = buffer_get(9 * MIB + 4096);
	payload_fill(p, &who, 0, whole, 9 * MIB);
	for (size_t at = 0, len = PAYLOAD_BLOCK; at < 9 * MIB; at += len, len += PAYLOAD_BLOCK) {
		if (len > 9 * MIB - at)
			len = 9 * MIB - at;
		payload_fill(p, &who, at, parts + 8 + at, len);
	}
	assert_memory_equal(whole, parts + 8, 9 * MIB);
	payload_free(p);
}

/* What payload_verify() says of @buf, read as block 0 on of @who. */
static struct payload_mismatch mismatch_of(const struct payload *p, const char *buf, char text[512])
{
	struct payload_mismatch bad;
	assert_int_equal(payload_verify(p, &who, 0, buf, BUFFER, &bad), -EILSEQ);
	assert_true(bad.expected.key == who.key);
	payload_describe(&bad, text, 512);
	return bad;
}

static void test_wrong_blocks(void **state)
{
	(void)state;
	struct payload *p = payload_new(1, PAYLOAD_STAMPS);
	CLEANUP_FREE char *buf = buffer_get(BUFFER);
	char *sixth = buf + 5 * PAYLOAD_BLOCK;
	char text[512];
	struct payload_mismatch bad;

	payload_fill(p, &who, 0, buf, BUFFER);
	struct payload_id other = who;
	other.key++;
	payload_fill(p, &other, 5 * PAYLOAD_BLOCK, sixth, PAYLOAD_BLOCK);
	bad = mismatch_of(p, buf, text);
	assert_int_equal(bad.offset_bytes, 5 * PAYLOAD_BLOCK);
	assert_true(bad.found.key == other.key && bad.found.generation == 7 && bad.found.rank == 3);
	assert_int_equal(bad.found_block, 5);
	assert_false(bad.is_foreign || bad.is_hash);
	assert_string_equal(text, "expected key 1234567890abcdef generation 7 rank 3 block 5, "
				  "found key 1234567890abcdf0 generation 7 rank 3 block 5");

	other = who;
	other.generation--;
	payload_fill(p, &other, 5 * PAYLOAD_BLOCK, sixth, PAYLOAD_BLOCK);
	bad = mismatch_of(p, buf, text);
	assert_true(bad.found.key == who.key && bad.found.generation == 6);
	assert_non_null(strstr(text, "found key 1234567890abcdef generation 6 "));

	payload_fill(p, &who, (uint64_t)BUFFER, sixth, PAYLOAD_BLOCK);
	bad = mismatch_of(p, buf, text);
	assert_int_equal(bad.offset_bytes, 5 * PAYLOAD_BLOCK);
	assert_int_equal(bad.found_block, BLOCKS);

	other = who;
	other.rank = (1 << 14) - 1;
	payload_fill(p, &other, 5 * PAYLOAD_BLOCK, sixth, PAYLOAD_BLOCK);
	bad = mismatch_of(p, buf, text);
	assert_int_equal(bad.found.rank, other.rank);
	assert_false(bad.is_foreign);
	payload_free(p);
}

static void test_swapped(void **state)
{
	(void)state;
	struct payload *p = payload_new(1, PAYLOAD_STAMPS);
	CLEANUP_FREE char *buf = buffer_get(BUFFER);
	char text[512];
	payload_fill(p, &who, 4096, buf, 4096);
	payload_fill(p, &who, 0, buf + 4096, 4096);
	payload_fill(p, &who, 8192, buf + 8192, BUFFER - 8192);
	struct payload_mismatch bad = mismatch_of(p, buf, text);
	assert_int_equal(bad.offset_bytes, 0);
	assert_int_equal(bad.found_block, 8);
	payload_free(p);
}

static void test_foreign(void **state)
{
	(void)state;
	struct payload *p = payload_new(1, PAYLOAD_STAMPS);
	CLEANUP_FREE char *buf = buffer_get(BUFFER);
	char text[512];
	static const int bytes[] = {0, 0xff, 'a'};
	for (size_t i = 0; i < ARRAY_LEN(bytes); i++) {
		payload_fill(p, &who, 0, buf, BUFFER);
		memset(buf + BUFFER - PAYLOAD_BLOCK, bytes[i], PAYLOAD_BLOCK);
		struct payload_mismatch bad = mismatch_of(p, buf, text);
		assert_int_equal(bad.offset_bytes, BUFFER - PAYLOAD_BLOCK);
		assert_true(bad.is_foreign);
		assert_non_null(strstr(text, "did not write"));
	}
	payload_free(p);
}

/* Every bit of a stamp counts; of the rest every bit counts with PAYLOAD_FULL, and none without. */
static void check_bits(enum payload_check check)
{
	struct payload *p = payload_new(1, check);
	CLEANUP_FREE char *buf = buffer_get(BUFFER);
	payload_fill(p, &who, 0, buf, BUFFER);
	for (int bit = 0; bit < PAYLOAD_BLOCK * 8; bit++) {
		char *byte = buf + 3 * PAYLOAD_BLOCK + bit / 8;
		struct payload_mismatch bad;
		/* block 3 carries its stamp in its line 3 */
		bool is_stamp = bit / 8 / PAYLOAD_STAMP == 3 * 64 / PAYLOAD_STAMP;
		*byte = (char)(*byte ^ 1 << bit % 8);
		long rc = payload_verify(p, &who, 0, buf, BUFFER, &bad);
		if (is_stamp || check == PAYLOAD_FULL) {
			assert_int_equal(rc, -EILSEQ);
			assert_int_equal(bad.offset_bytes, 3 * PAYLOAD_BLOCK);
			assert_int_equal(bad.is_hash, !is_stamp);
		} else {
			assert_int_equal(rc, BLOCKS);
		}
		*byte = (char)(*byte ^ 1 << bit % 8);
	}
	payload_free(p);
}

static void test_flipped_bits(void **state)
{
	(void)state;
	check_bits(PAYLOAD_STAMPS);
	check_bits(PAYLOAD_FULL);
}

static int compare(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
	return (x > y) - (x < y);
}

/* Hashes of all pieces of @piece bytes, sorted: two equal neighbours are a duplicate. */
static size_t duplicates(const char *buf, size_t bytes, size_t piece)
{
	size_t count = bytes / piece, found = 0;
	CLEANUP_FREE uint64_t *hashes = calloc(count, sizeof(*hashes));
	assert_non_null(hashes);
	for (size_t i = 0; i < count; i++)
		hashes[i] = XXH3_64bits(buf + i * piece, piece);
	qsort(hashes, count, sizeof(*hashes), compare);
	for (size_t i = 1; i < count; i++)
		found += hashes[i] == hashes[i - 1];
	return found;
}

/* A block of any number in the place of any other is told, though its stamp stands elsewhere. */
static void test_misplaced(void **state)
{
	(void)state;
	struct payload *p = payload_new(1, PAYLOAD_STAMPS);
	CLEANUP_FREE char *buf = buffer_get(BUFFER);
	char text[512];
	for (uint64_t there = 0; there < 16; there++) {
		for (uint64_t here = 0; here < 8; here++) {
			if (here == there)
				continue;
			payload_fill(p, &who, 0, buf, BUFFER);
			payload_fill(p, &who, there * PAYLOAD_BLOCK, buf + here * PAYLOAD_BLOCK,
				     PAYLOAD_BLOCK);
			struct payload_mismatch bad = mismatch_of(p, buf, text);
			assert_int_equal(bad.offset_bytes, here * PAYLOAD_BLOCK);
			assert_false(bad.is_foreign);
			assert_int_equal(bad.found_block, there);
			assert_true(bad.found.key == who.key && bad.found.generation == 7);
		}
	}
	payload_free(p);
}

/* Noise that was used before becomes another entry's: checkable, of it alone, and no block is there twice. */
static void test_restamp(void **state)
{
	(void)state;
	for (enum payload_check check = PAYLOAD_STAMPS; check <= PAYLOAD_FULL; check++) {
		struct payload *p = payload_new(42, check);
		CLEANUP_FREE char *buf = buffer_get(2 * (size_t)BUFFER);
		char *again = buf + BUFFER;
		struct payload_id other = {.key = 99, .generation = 1};
		struct payload_mismatch bad;
		payload_fill(p, &who, 8 * PAYLOAD_BLOCK, buf, BUFFER);
		memcpy(again, buf, BUFFER);
		payload_restamp(p, &other, UINT64_C(24) * PAYLOAD_BLOCK, again, BUFFER);
		assert_int_equal(payload_verify(p, &other, UINT64_C(24) * PAYLOAD_BLOCK, again,
						BUFFER, &bad),
				 BLOCKS);
		assert_int_equal(payload_verify(p, &who, 8 * PAYLOAD_BLOCK, again, BUFFER, &bad),
				 -EILSEQ);
		assert_true(bad.found.key == 99 && bad.found_block == 24);
		assert_int_equal(duplicates(buf, 2 * (size_t)BUFFER, PAYLOAD_BLOCK), 0);
		/* the noise itself stays, but where every byte is hashed */
		assert_int_equal(!memcmp(buf + 128, again + 128, 128), check == PAYLOAD_STAMPS);
		payload_free(p);
	}
}

static void test_generation_wraps(void **state)
{
	(void)state;
	struct payload *p = payload_new(1, PAYLOAD_STAMPS);
	CLEANUP_FREE char *buf = buffer_get(BUFFER);
	struct payload_id old = who;
	struct payload_mismatch bad;
	old.generation += 1 << 22;
	payload_fill(p, &old, 0, buf, BUFFER);
	assert_int_equal(payload_verify(p, &old, 0, buf, BUFFER, &bad), BLOCKS);
	assert_int_equal(payload_verify(p, &who, 0, buf, BUFFER, &bad), BLOCKS);
	payload_free(p);
}

/* Entries of many sizes behind each other, as a device would see them: keys and generations that
 * hardly differ. */
static char *entries_get(const struct payload *p, size_t bytes)
{
	static const size_t sizes[] = {32 * MIB, 512 << 10, 4096,    9 * MIB,
				       64 << 10, 4 * MIB,   3 << 19, 16384};
	char *buf = buffer_get(bytes);
	struct payload_id id = {.key = 1, .generation = 1};
	for (size_t at = 0, n = 0; at < bytes; n++) {
		size_t len = sizes[n % ARRAY_LEN(sizes)];
		if (len > bytes - at)
			len = bytes - at;
		payload_fill(p, &id, 0, buf + at, len);
		at += len;
		if (n % 2)
			id.key++;
		else
			id.generation++;
	}
	return buf;
}

static void test_no_duplicates(void **state)
{
	(void)state;
	struct payload *p = payload_new(1, PAYLOAD_STAMPS);
	CLEANUP_FREE char *buf = entries_get(p, 128 * MIB);
	/* not even the 64-byte pieces of the noise repeat */
	assert_int_equal(duplicates(buf, 128 * MIB, PAYLOAD_BLOCK), 0);
	assert_int_equal(duplicates(buf, 32 * MIB, 64), 0);
	payload_free(p);
}

static void check_compression(const char *buf, size_t bytes, int level)
{
	size_t room = ZSTD_compressBound(bytes);
	CLEANUP_FREE char *out = malloc(room);
	assert_non_null(out);
	size_t got = ZSTD_compress(out, room, buf, bytes, level);
	assert_false(ZSTD_isError(got));
	assert_true((double)got > 0.999 * (double)bytes);
}

static void test_no_compression(void **state)
{
	(void)state;
	for (enum payload_check check = PAYLOAD_STAMPS; check <= PAYLOAD_FULL; check++) {
		struct payload *p = payload_new(1, check);
		CLEANUP_FREE char *buf = entries_get(p, 64 * MIB);
		check_compression(buf, 64 * MIB, 3);
		check_compression(buf, 64 * MIB, 1);
		/* a window of 8 MiB, more than the pool */
		check_compression(buf, 16 * MIB, 9);
		payload_free(p);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_round_trip),       cmocka_unit_test(test_chunks),
		cmocka_unit_test(test_wrong_blocks),     cmocka_unit_test(test_swapped),
		cmocka_unit_test(test_foreign),          cmocka_unit_test(test_flipped_bits),
		cmocka_unit_test(test_misplaced),        cmocka_unit_test(test_restamp),
		cmocka_unit_test(test_generation_wraps), cmocka_unit_test(test_no_duplicates),
		cmocka_unit_test(test_no_compression),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
