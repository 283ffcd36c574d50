// SPDX-License-Identifier: Apache-2.0
/*
 * The reference draws its users with Python's "random"; drawing the same users needs the same
 * generator: the Mersenne Twister of Matsumoto and Nishimura (1998) with Python's way from words to
 * numbers.
 */
#include "workload/mt19937.h"

#include <assert.h>

enum { SHIFT_WORDS = 397 };

static void init_word(struct mt19937 *mt, uint32_t seed)
{
	mt->state[0] = seed;
	for (uint32_t i = 1; i < MT19937_WORDS; i++) {
		uint32_t x = mt->state[i - 1] ^ mt->state[i - 1] >> 30;
		mt->state[i] = UINT32_C(1812433253) * x + i;
	}
	mt->next = MT19937_WORDS;
}

/* One step of the seeding passes: state[i] is mixed with its left neighbour; returns the next i,
 * in 1..623. */
static uint32_t mix_word(struct mt19937 *mt, uint32_t i, uint32_t factor, uint32_t add)
{
	uint32_t *s = mt->state;
	uint32_t x = s[i - 1] ^ s[i - 1] >> 30;

	s[i] = (s[i] ^ x * factor) + add;
	if (i + 1 < MT19937_WORDS)
		return i + 1;
	s[0] = s[MT19937_WORDS - 1];
	return 1;
}

void mt19937_init(struct mt19937 *mt, uint64_t seed)
{
	const uint32_t digits[2] = {(uint32_t)seed, (uint32_t)(seed >> 32)};
	const uint32_t digit_count = digits[1] ? 2 : 1;
	uint32_t i = 1;

	init_word(mt, 19650218);
	for (uint32_t k = 0, j = 0; k < MT19937_WORDS; k++, j = (j + 1) % digit_count)
		i = mix_word(mt, i, 1664525, digits[j] + j);
	for (uint32_t k = 1; k < MT19937_WORDS; k++)
		i = mix_word(mt, i, 1566083941, -i);
	mt->state[0] = UINT32_C(1) << 31;
}

static void refill(struct mt19937 *mt)
{
	uint32_t *s = mt->state;

	for (uint32_t i = 0; i < MT19937_WORDS; i++) {
		uint32_t y = (s[i] & UINT32_C(0x80000000)) |
			     (s[(i + 1) % MT19937_WORDS] & UINT32_C(0x7fffffff));
		uint32_t twist = y & 1 ? UINT32_C(0x9908b0df) : 0;
		s[i] = s[(i + SHIFT_WORDS) % MT19937_WORDS] ^ y >> 1 ^ twist;
	}
	mt->next = 0;
}

static uint32_t next_word(struct mt19937 *mt)
{
	if (mt->next == MT19937_WORDS)
		refill(mt);
	uint32_t y = mt->state[mt->next++];
	y ^= y >> 11;
	y ^= y << 7 & UINT32_C(0x9d2c5680);
	y ^= y << 15 & UINT32_C(0xefc60000);
	return y ^ y >> 18;
}

double mt19937_real(struct mt19937 *mt)
{
	uint64_t high = next_word(mt) >> 5;
	uint64_t low = next_word(mt) >> 6;
	return (double)(high << 26 | low) * 0x1p-53;
}

uint32_t mt19937_below(struct mt19937 *mt, uint32_t n)
{
	assert(n >= 1);
	unsigned unused_bits = (unsigned)__builtin_clz(n);
	uint32_t x = next_word(mt) >> unused_bits;
	while (x >= n)
		x = next_word(mt) >> unused_bits;
	return x;
}

double mt19937_uniform(struct mt19937 *mt, double lo, double hi)
{
	/* volatile: a fused multiply-add would round differently from Python on machines that have
	 * one */
	volatile double scaled = (hi - lo) * mt19937_real(mt);
	return lo + scaled;
}
