// SPDX-License-Identifier: Apache-2.0
/*
 * Blocks that say who they are, made at the speed of a copy.
 *
 *   0        16                                          512
 *   +--------+-------------------------------------------+
 *   | stamp  | pool block XOR stamp, 16 bytes at a time  |
 *   +--------+-------------------------------------------+
 *             16..23: PAYLOAD_FULL's hash of 24..511
 *
 * The stamp is (key, generation | rank | block) sent through a three-round Feistel network, so it
 * looks random, differs in every block ever written and can be turned back. A pool that is only
 * copied would be found by a compressor as soon as two entries take the same part of it within its
 * window (zstd -3 then saves 30 % over entries of 512 KiB); XORing each block with its own stamp
 * leaves nothing to find and costs nothing next to the memory traffic.
 */
#include "payload/payload.h"

#include <assert.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "base/err.h"
#include "base/rng.h"

enum {
	POOL_BYTES = 4 << 20,
	POOL_BLOCKS = POOL_BYTES / PAYLOAD_BLOCK,
	BLOCK_BITS = 28,
	RANK_BITS = 14,
	GENERATION_BITS = 22,
	HASH_AT = PAYLOAD_STAMP,
	HASHED_AT = HASH_AT + 8,
	PREFETCH_AHEAD = 8 * PAYLOAD_BLOCK,
};

/* 16 bytes at a time in the compiler's own vector type; buffers need not be aligned to it. */
typedef uint64_t lane __attribute__((vector_size(16), aligned(8), may_alias));

enum { BLOCK_LANES = PAYLOAD_BLOCK / sizeof(lane) };

struct payload {
	enum payload_check check;
	uint64_t pool[POOL_BYTES / sizeof(uint64_t)];
};

struct stamp {
	uint64_t word[2];
};

static_assert(sizeof(struct stamp) == PAYLOAD_STAMP, "a stamp is two words");
static_assert(BLOCK_BITS + RANK_BITS + GENERATION_BITS == 64, "the second word is full");

/* What the stamps of one entry share: everything but the block number. */
struct stamper {
	uint64_t key;
	uint64_t round1; /* depends on the key alone */
	uint64_t who;    /* generation and rank in their places */
};

static uint64_t feistel(uint64_t half, unsigned round)
{
	return rng_mix(half + round * RNG_GOLDEN);
}

static uint64_t low_bits(uint64_t x, unsigned bits)
{
	return x & ((UINT64_C(1) << bits) - 1);
}

static struct stamper stamper_of(const struct payload_id *id)
{
	return (struct stamper){
		.key = id->key,
		.round1 = feistel(id->key, 1),
		.who = (uint64_t)id->generation << (BLOCK_BITS + RANK_BITS) |
		       low_bits(id->rank, RANK_BITS) << BLOCK_BITS,
	};
}

static inline struct stamp stamp_make(const struct stamper *s, uint64_t block)
{
	uint64_t right = (s->who | block) ^ s->round1;
	uint64_t left = s->key ^ feistel(right, 2);
	return (struct stamp){{left, right ^ feistel(left, 3)}};
}

static struct payload_id stamp_decode(struct stamp s, uint64_t *ret_block)
{
	uint64_t right = s.word[1] ^ feistel(s.word[0], 3);
	uint64_t key = s.word[0] ^ feistel(right, 2);
	uint64_t who = right ^ feistel(key, 1);
	*ret_block = low_bits(who, BLOCK_BITS);
	return (struct payload_id){
		.key = key,
		.generation = (uint32_t)(who >> (BLOCK_BITS + RANK_BITS)),
		.rank = (uint32_t)low_bits(who >> BLOCK_BITS, RANK_BITS),
	};
}

struct payload *payload_new(uint64_t seed, enum payload_check check)
{
	struct payload *p = malloc(sizeof(*p));
	if (!p)
		return NULL;
	p->check = check;
	struct rng noise = rng_stream(seed);
	for (size_t i = 0; i < sizeof(p->pool) / sizeof(p->pool[0]); i++)
		p->pool[i] = rng_next(&noise);
	return p;
}

void payload_free(struct payload *p)
{
	free(p);
}

static inline void block_fill(lane *to, const lane *noise, struct stamp s)
{
	lane mask = {s.word[0], s.word[1]};
	to[0] = mask;
	for (size_t i = 1; i < BLOCK_LANES; i++)
		to[i] = noise[i] ^ mask;
}

static uint64_t block_hash(const char *block)
{
	return XXH3_64bits(block + HASHED_AT, PAYLOAD_BLOCK - HASHED_AT);
}

void payload_fill(const struct payload *p, const struct payload_id *id, uint64_t offset, void *buf,
		  size_t len)
{
	struct stamper s = stamper_of(id);
	uint64_t block = offset / PAYLOAD_BLOCK;
	char *end = (char *)buf + len;

	for (char *at = buf; at < end; at += PAYLOAD_BLOCK, block++) {
		/* Each entry starts somewhere else in the pool. */
		uint64_t from = (s.round1 + block) % POOL_BLOCKS;
		const char *noise = (const char *)p->pool + from * PAYLOAD_BLOCK;
		block_fill((lane *)at, (const lane *)noise, stamp_make(&s, block));
		if (p->check == PAYLOAD_FULL) {
			uint64_t hash = block_hash(at);
			memcpy(at + HASH_AT, &hash, sizeof(hash));
		}
	}
}

/* A wrong rank under a wrong key: chance, not one of our blocks (a random stamp gets the rank right
 * once in 16,384 times). */
static bool is_foreign(const struct payload_id *expected, const struct payload_id *found)
{
	return found->rank != expected->rank && found->key != expected->key;
}

static int mismatch(const struct payload_id *id, uint64_t block, struct stamp found, bool is_hash,
		    struct payload_mismatch *ret)
{
	*ret = (struct payload_mismatch){
		.offset_bytes = block * PAYLOAD_BLOCK,
		.expected = *id,
		.is_hash = is_hash,
	};
	ret->expected.generation = (uint32_t)low_bits(id->generation, GENERATION_BITS);
	ret->found = stamp_decode(found, &ret->found_block);
	ret->is_foreign = is_foreign(&ret->expected, &ret->found);
	return -EILSEQ;
}

long payload_verify(const struct payload *p, const struct payload_id *id, uint64_t offset,
		    const void *buf, size_t len, struct payload_mismatch *ret)
{
	if (p->check == PAYLOAD_OFF)
		return 0;
	struct stamper s = stamper_of(id);
	uint64_t block = offset / PAYLOAD_BLOCK;
	const char *end = (const char *)buf + len;

	for (const char *at = buf; at < end; at += PAYLOAD_BLOCK, block++) {
		/* One cache line per block is too sparse for the hardware to see it coming. */
		__builtin_prefetch(at + PREFETCH_AHEAD);
		struct stamp expected = stamp_make(&s, block);
		struct stamp found;
		memcpy(&found, at, sizeof(found));
		if (memcmp(&found, &expected, sizeof(found)) != 0)
			return mismatch(id, block, found, false, ret);
		if (p->check == PAYLOAD_FULL) {
			uint64_t hash = block_hash(at);
			if (memcmp(at + HASH_AT, &hash, sizeof(hash)) != 0)
				return mismatch(id, block, found, true, ret);
		}
	}
	return (long)(len / PAYLOAD_BLOCK);
}

static int id_text(char *buf, size_t size, const struct payload_id *id, uint64_t block)
{
	return snprintf(buf, size, "key %016" PRIx64 " generation %u rank %u block %" PRIu64,
			id->key, id->generation, id->rank, block);
}

void payload_describe(const struct payload_mismatch *m, char *buf, size_t size)
{
	char expected[96], found[96];
	id_text(expected, sizeof(expected), &m->expected, m->offset_bytes / PAYLOAD_BLOCK);
	id_text(found, sizeof(found), &m->found, m->found_block);
	if (m->is_hash)
		snprintf(buf, size,
			 "expected %s, found its stamp but content that does not match its hash",
			 expected);
	else if (m->is_foreign)
		snprintf(buf, size, "expected %s, found a block this program did not write",
			 expected);
	else
		snprintf(buf, size, "expected %s, found %s", expected, found);
}
