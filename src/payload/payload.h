/* SPDX-License-Identifier: Apache-2.0 */
/*
 * payload/payload.h - the bytes of an entry: cheap to make, impossible to compress or deduplicate, checkable.
 *
 * Receives: who the bytes belong to (key, generation) and where in the entry they stand.
 * Gives: filled buffers; for a read buffer, the first block that is not what was written there.
 * Must not know: tiers, files, requests.
 *
 * Every 512-byte block carries a 16-byte stamp: an invertible mix of (key, generation, rank, block number), so that a
 * wrong block can be decoded into what it is instead. It stands in line (block number mod 8) of the block's eight 64-byte lines. The
 * rest is noise from a pool of 4 MiB, taken round-robin and XORed with a stamp. With PAYLOAD_FULL the 8 bytes after the stamp hold
 * a hash of the rest of the block: only that finds a flipped payload bit.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

enum { PAYLOAD_BLOCK = 512, PAYLOAD_STAMP = 16 };
enum payload_check { PAYLOAD_OFF, PAYLOAD_STAMPS, PAYLOAD_FULL };

/** Whose bytes. */
struct payload_id {
	uint64_t key;
	uint32_t generation; /* of the write, 1.. ; wraps at 2^22 in the stamp */
	uint32_t rank;	     /* < 2^14 */
};

/** What was wrong: the first bad block of a buffer. */
struct payload_mismatch {
	uint64_t offset_bytes;		/* in the entry */
	struct payload_id expected;
	struct payload_id found;	/* decoded from the stamp */
	uint64_t found_block;
	int is_foreign;			/* the stamp decodes to nothing we could have written (zeros, noise, other data) */
	int is_hash;			/* PAYLOAD_FULL: stamp right, content wrong */
};

struct payload;

/** payload_new() - build the noise pool. @seed: noise only; any seed gives checkable data. NULL: out of memory. */
struct payload *payload_new(uint64_t seed, enum payload_check check);
void payload_free(struct payload *p);

/**
 * payload_fill() - make the bytes [offset, offset + len) of an entry
 * @offset, @len: multiples of PAYLOAD_BLOCK   @buf: [out] at least 8-byte aligned
 * Threads: any (the pool is read-only).   Cost: one copy.
 */
void payload_fill(const struct payload *p, const struct payload_id *id, uint64_t offset, void *buf,
		  size_t len);

/**
 * payload_restamp() - make the bytes of an entry out of noise that is there already: new stamps, the rest stays
 * @buf: 16-byte aligned; holds what payload_fill() or this function made in it, its block 0 then as now a multiple of 8 blocks
 *       into an entry
 * The noise is then in two entries; the caller sees to it that no compressor meets both in its window. With PAYLOAD_FULL everything
 * is made anew, as by payload_fill().   Threads: any.   Cost: a line per block past the caches, a fifteenth of a copy.
 */
void payload_restamp(const struct payload *p, const struct payload_id *id, uint64_t offset, void *buf,
		     size_t len);

/**
 * payload_verify() - check what was read, to the degree payload_new() was told
 * Return: number of blocks checked (0 with PAYLOAD_OFF); -EILSEQ and @ret filled at the first bad block.
 */
long payload_verify(const struct payload *p, const struct payload_id *id, uint64_t offset,
		    const void *buf, size_t len, struct payload_mismatch *ret);

/** payload_stamp_place() - where in its block stands the stamp of the block at @offset of an entry: bytes from the block's begin. */
size_t payload_stamp_place(uint64_t offset);

/** payload_describe() - the mismatch as text: "expected key .. generation .. block .., found ..." into @buf. */
void payload_describe(const struct payload_mismatch *m, char *buf, size_t size);
