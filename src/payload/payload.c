// SPDX-License-Identifier: Apache-2.0
/*
 * Blocks that say who they are, made at the speed of a copy, or much faster out of noise that is there already.
 *
 *   block 0   |stamp |                                                      |   512 bytes,
 *   block 1   |      |stamp |                                               |   pool block XOR stamp,
 *   ...                                                                         16 bytes at a time
 *   block 7   |                                                      |stamp |
 *             0      64     128                                             512
 *
 * The stamp is (key, generation | rank | block) sent through a three-round Feistel network, so it
 * looks random, differs in every block ever written and can be turned back. After it, with
 * PAYLOAD_FULL, stands a hash of the rest of the block.
 *
 * A stamp stands in the 64-byte line block mod 8. Checking touches one line per block, and lines that are 512
 * bytes apart fall on an eighth of the cache sets and on few of the memory channels: with stamps at
 * the begin of each block the check waits twice as long for memory.
 *
 * A pool that is only copied would be found by a compressor as soon as two entries take the same
 * part of it within its window (zstd -3 then saves 30 % over entries of 512 KiB); XORing each block
 * with its own stamp leaves nothing to find.
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
#include "base/mem.h"
#include "base/rng.h"

enum {
	POOL_BYTES = 4 << 20,
	POOL_BLOCKS = POOL_BYTES / PAYLOAD_BLOCK,
	BLOCK_BITS = 28,
	RANK_BITS = 14,
	GENERATION_BITS = 22,
	LINE_BYTES = 64,
	BLOCK_LINES = PAYLOAD_BLOCK / LINE_BYTES,
	HASH_BYTES = 8,
	/* Enough to cover a trip to memory; whole turns of the stamps' places. */
	PREFETCH_AHEAD = 4 * BLOCK_LINES * PAYLOAD_BLOCK,
};

#ifdef __SSE2__
# include <emmintrin.h>
#endif

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

/* Where the stamp stands in its block. */
static inline size_t stamp_at(uint64_t block)
{
	return block % BLOCK_LINES * LINE_BYTES;
}

static inline void block_fill(lane *to, const lane *noise, struct stamp s)
{
	lane mask = {s.word[0], s.word[1]};
	for (size_t i = 0; i < BLOCK_LANES; i++)
		to[i] = noise[i] ^ mask;
}

/* Of all but the stamp, which stands at @at, and the hash itself. */
static uint64_t block_hash(const char *block, size_t at)
{
	size_t after = at + PAYLOAD_STAMP + HASH_BYTES;
	return XXH3_64bits_withSeed(block + after, PAYLOAD_BLOCK - after, XXH3_64bits(block, at));
}

size_t payload_stamp_place(uint64_t offset)
{
	return stamp_at(offset / PAYLOAD_BLOCK);
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
		struct stamp stamp = stamp_make(&s, block);
		size_t place = stamp_at(block);
		block_fill((lane *)at, (const lane *)noise, stamp);
		memcpy(at + place, &stamp, sizeof(stamp));
		if (p->check == PAYLOAD_FULL) {
			uint64_t hash = block_hash(at, place);
			memcpy(at + place + sizeof(stamp), &hash, sizeof(hash));
		}
	}
}

/*
 * A stamp and, from it, the rest of its line. A whole line can go to memory past the caches, so nobody waits for what was there:
 * that takes a third of the time of the stamp alone.
 */
static inline void line_restamp(char *line, struct stamp s)
{
	lane v = {s.word[0], s.word[1]}, swapped = {s.word[1], s.word[0]};
	lane odd = {RNG_GOLDEN, RNG_GOLDEN};
	const lane part[] = {v, v + odd, v - odd, swapped ^ odd};
#ifdef __SSE2__
	for (size_t i = 0; i < ARRAY_LEN(part); i++)
		_mm_stream_si128((__m128i *)(void *)line + i, (__m128i)part[i]);
#else
	memcpy(line, part, sizeof(part));
#endif
}

/* What went past the caches is there for whoever reads the buffer next. */
static inline void lines_done(void)
{
#ifdef __SSE2__
	_mm_sfence();
#endif
}

void payload_restamp(const struct payload *p, const struct payload_id *id, uint64_t offset, void *buf,
		     size_t len)
{
	if (p->check == PAYLOAD_FULL) {
		payload_fill(p, id, offset, buf, len);
		return;
	}
	struct stamper s = stamper_of(id);
	uint64_t block = offset / PAYLOAD_BLOCK;
	char *end = (char *)buf + len;

	for (char *at = buf; at < end; at += PAYLOAD_BLOCK, block++)
		line_restamp(at + stamp_at(block), stamp_make(&s, block));
	lines_done();
}

/* A wrong rank under a wrong key: chance, not one of our blocks (a random stamp gets the rank right
 * once in 16,384 times). */
static bool is_foreign(const struct payload_id *expected, const struct payload_id *found)
{
	return found->rank != expected->rank && found->key != expected->key;
}

/*
 * Decode what stands where @id's block should. A block of another number has its stamp in another
 * place; there it tells a number that belongs there, and a rank or key that is known.
 */
static void find_stamp(const char *at, uint64_t block, struct payload_mismatch *m)
{
	for (unsigned i = 0; i < BLOCK_LINES; i++) {
		struct stamp stamp;
		uint64_t number;
		memcpy(&stamp, at + stamp_at(block + i), sizeof(stamp));
		struct payload_id id = stamp_decode(stamp, &number);
		bool is_ours = number % BLOCK_LINES == (block + i) % BLOCK_LINES &&
			       !is_foreign(&m->expected, &id);
		if (i && !is_ours)
			continue;
		m->found = id;
		m->found_block = number;
		m->is_foreign = !is_ours;
		if (is_ours)
			return;
	}
}

static int mismatch(const struct payload_id *id, uint64_t block, const char *at, bool is_hash,
		    struct payload_mismatch *ret)
{
	*ret = (struct payload_mismatch){
		.offset_bytes = block * PAYLOAD_BLOCK,
		.expected = *id,
		.is_hash = is_hash,
	};
	ret->expected.generation = (uint32_t)low_bits(id->generation, GENERATION_BITS);
	find_stamp(at, block, ret);
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

	/*
	 * One cache line per block is too sparse for the hardware to see it coming. Used once: the next to touch it is who fills the
	 * buffer again, maybe another processor, and that one should not have to take it out of our cache. What lies behind the buffer
	 * is another one, which somebody may be filling now: lines fetched there would be taken from him (2 % of a loop device's
	 * speed). No function of its own: GCC holds one that only prefetches for one that does nothing, and drops the calls.
	 */
	for (size_t i = 0; i < MIN(len, PREFETCH_AHEAD); i += PAYLOAD_BLOCK)
		__builtin_prefetch((const char *)buf + i + stamp_at(block + i / PAYLOAD_BLOCK), 0, 0);
	for (const char *at = buf; at < end; at += PAYLOAD_BLOCK, block++) {
		const char *place = at + stamp_at(block);
		if (end - at > PREFETCH_AHEAD)
			__builtin_prefetch(place + PREFETCH_AHEAD, 0, 0);
		struct stamp expected = stamp_make(&s, block);
		if (memcmp(place, &expected, sizeof(expected)) != 0)
			return mismatch(id, block, at, false, ret);
		if (p->check == PAYLOAD_FULL) {
			uint64_t hash = block_hash(at, (size_t)(place - at));
			if (memcmp(place + sizeof(expected), &hash, sizeof(hash)) != 0)
				return mismatch(id, block, at, true, ret);
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
