/* SPDX-License-Identifier: Apache-2.0 */
/*
 * base/rng.h - counter-based random numbers: draw n of stream k is a pure function of (k, n).
 *
 * Receives: keys.  Gives: integers.  Must not know: what is drawn.
 * Integer arithmetic only, so that a workload is the same on every machine. The mixing function is the
 * finaliser of SplitMix64 (Steele, Lea, Flood 2014), a bijection on 64 bits.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define RNG_GOLDEN UINT64_C(0x9e3779b97f4a7c15) /* 2^64 / golden ratio */

/** rng_mix() - bijective 64-bit mix. */
static inline uint64_t rng_mix(uint64_t x)
{
	x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
	return x ^ (x >> 31);
}

/** rng_key() - derive the key of stream @b below key @a; order matters. */
static inline uint64_t rng_key(uint64_t a, uint64_t b)
{
	return rng_mix(rng_mix(a + RNG_GOLDEN) ^ (b * RNG_GOLDEN + 1));
}

/** One stream of draws. Copy it to fork it. */
struct rng {
	uint64_t state;
};

static inline struct rng rng_stream(uint64_t key)
{
	return (struct rng){.state = key};
}

static inline uint64_t rng_next(struct rng *r)
{
	r->state += RNG_GOLDEN;
	return rng_mix(r->state);
}

/** rng_below() - uniform in 0..@n-1 (n >= 1) without bias (Lemire 2019: multiply and reject). */
static inline uint64_t rng_below(struct rng *r, uint64_t n)
{
	unsigned __int128 m = (unsigned __int128)rng_next(r) * n;
	if ((uint64_t)m < n) {
		uint64_t reject = -n % n;
		while ((uint64_t)m < reject)
			m = (unsigned __int128)rng_next(r) * n;
	}
	return (uint64_t)(m >> 64);
}

/** rng_range() - uniform in @lo..@hi, both included; @lo <= @hi. */
static inline uint64_t rng_range(struct rng *r, uint64_t lo, uint64_t hi)
{
	return lo + rng_below(r, hi - lo + 1);
}

/** rng_threshold() - what rng_chance() compares with for probability @p in 0..1. Set-up only. */
static inline uint64_t rng_threshold(double p)
{
	if (p >= 1.0)
		return UINT64_MAX;
	return p <= 0.0 ? 0 : (uint64_t)(p * 18446744073709551616.0);
}

/** rng_chance() - true with the probability of @threshold; consumes one draw. */
static inline bool rng_chance(struct rng *r, uint64_t threshold)
{
	uint64_t x = rng_next(r);
	return x < threshold || threshold == UINT64_MAX;
}
