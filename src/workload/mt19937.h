/* SPDX-License-Identifier: Apache-2.0 */
/*
 * workload/mt19937.h - the random numbers of CPython's "random" module, private to this room.
 *
 * Receives: a seed.  Gives: the same draws as random.seed(seed) in Python.
 * Must not know: users. Only the user table uses it; everything later draws from base/rng.h.
 */
#pragma once

#include <stdint.h>

enum { MT19937_WORDS = 624 };

struct mt19937 {
	uint32_t state[MT19937_WORDS];
	uint32_t next; /* index of the next unused word, MT19937_WORDS: none left */
};

/** mt19937_init() - random.seed(@seed). */
void mt19937_init(struct mt19937 *mt, uint64_t seed);
/** mt19937_real() - random.random(): 53 bits in [0, 1). */
double mt19937_real(struct mt19937 *mt);
/** mt19937_below() - what choice() and randint() draw: uniform in 0..@n-1, n >= 1. */
uint32_t mt19937_below(struct mt19937 *mt, uint32_t n);
/** mt19937_uniform() - random.uniform(@lo, @hi). */
double mt19937_uniform(struct mt19937 *mt, double lo, double hi);
