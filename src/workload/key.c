// SPDX-License-Identifier: Apache-2.0
/* Packs what an entry is into 64 bits and prints it as a file name; both directions are exact. */
#include "workload/key.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/str.h"

enum {
	KIND_SHIFT = 60,
	USER_SHIFT = 40,
	CONVERSATION_SHIFT = 16,
};

static uint64_t bits(uint64_t key, unsigned shift, unsigned count)
{
	return key >> shift & ((UINT64_C(1) << count) - 1);
}

uint64_t key_turn(uint32_t user, uint32_t conversation, uint32_t turn)
{
	assert(user <= KEY_USER_MAX && conversation <= KEY_CONVERSATION_MAX &&
	       turn <= KEY_TURN_MAX);
	return (uint64_t)KEY_TURN << KIND_SHIFT | (uint64_t)user << USER_SHIFT |
	       (uint64_t)conversation << CONVERSATION_SHIFT | turn;
}

uint64_t key_request(uint32_t user, uint64_t sequence)
{
	assert(user <= KEY_USER_MAX && sequence <= KEY_SEQUENCE_MAX);
	return (uint64_t)KEY_REQUEST << KIND_SHIFT | (uint64_t)user << USER_SHIFT | sequence;
}

uint64_t key_prefix(uint32_t number)
{
	return (uint64_t)KEY_PREFIX << KIND_SHIFT | number;
}

uint64_t key_block(uint64_t id)
{
	assert(id <= KEY_BLOCK_MAX);
	return (uint64_t)KEY_BLOCK << KIND_SHIFT | id;
}

uint64_t key_prepared(uint64_t number)
{
	assert(number <= KEY_BLOCK_MAX);
	return (uint64_t)KEY_PREPARED << KIND_SHIFT | number;
}

uint64_t key_filler(uint64_t number)
{
	assert(number <= KEY_BLOCK_MAX);
	return (uint64_t)KEY_FILLER << KIND_SHIFT | number;
}

/* Kinds that are no more than a number, and the letter of their file names. */
static const char number_letter[] = {
	[KEY_PREFIX] = 'p', [KEY_BLOCK] = 'b', [KEY_PREPARED] = 'd', [KEY_FILLER] = 'f'};

void key_file_name(uint64_t key, uint32_t generation, char buf[KEY_NAME_SIZE])
{
	unsigned user = (unsigned)bits(key, USER_SHIFT, 20);

	switch ((enum key_kind)(key >> KIND_SHIFT)) {
	case KEY_TURN:
		snprintf(buf, KEY_NAME_SIZE, "kvc-u%05u-c%06u-t%04u-g%" PRIu32 ".npy", user,
			 (unsigned)bits(key, CONVERSATION_SHIFT, 24), (unsigned)bits(key, 0, 16),
			 generation);
		return;
	case KEY_REQUEST:
		snprintf(buf, KEY_NAME_SIZE, "kvc-u%05u-r%07" PRIu64 "-g%" PRIu32 ".npy", user,
			 bits(key, 0, 40), generation);
		return;
	case KEY_PREFIX:
	case KEY_BLOCK:
	case KEY_PREPARED:
	case KEY_FILLER:
		snprintf(buf, KEY_NAME_SIZE, "kvc-%c%" PRIu64 "-g%" PRIu32 ".npy",
			 number_letter[key >> KIND_SHIFT], bits(key, 0, 60), generation);
		return;
	}
	assert(!"a key made by this room");
}

/* Reads one field "<letter><decimal>" and the '-' or '.' behind it. */
static bool take_field(const char **at, char letter, uint64_t max, uint64_t *ret)
{
	const char *s = *at;
	char digits[24];
	size_t n = 0;

	if (*s++ != letter)
		return false;
	while (*s >= '0' && *s <= '9' && n < sizeof(digits) - 1)
		digits[n++] = *s++;
	digits[n] = '\0';
	uint64_t value;
	if (parse_u64(digits, &value) || value > max || (*s != '-' && *s != '.'))
		return false;
	*ret = value;
	*at = s + 1;
	return true;
}

/* The key and generation a name seems to stand for; whether it is spelled our way is checked by
 * printing it. */
static bool parse_name(const char *name, uint64_t *key, uint64_t *generation)
{
	const char *at = name + strlen("kvc-");
	uint64_t user, a, b;

	if (strncmp(name, "kvc-", strlen("kvc-")) != 0)
		return false;
	if (take_field(&at, 'p', UINT32_MAX, &a)) {
		*key = key_prefix((uint32_t)a);
	} else if (take_field(&at, 'b', KEY_BLOCK_MAX, &a)) {
		*key = key_block(a);
	} else if (take_field(&at, 'd', KEY_BLOCK_MAX, &a)) {
		*key = key_prepared(a);
	} else if (take_field(&at, 'f', KEY_BLOCK_MAX, &a)) {
		*key = key_filler(a);
	} else if (take_field(&at, 'u', KEY_USER_MAX, &user)) {
		if (take_field(&at, 'r', KEY_SEQUENCE_MAX, &a))
			*key = key_request((uint32_t)user, a);
		else if (take_field(&at, 'c', KEY_CONVERSATION_MAX, &a) &&
			 take_field(&at, 't', KEY_TURN_MAX, &b))
			*key = key_turn((uint32_t)user, (uint32_t)a, (uint32_t)b);
		else
			return false;
	} else {
		return false;
	}
	return take_field(&at, 'g', UINT32_MAX, generation);
}

bool key_is_own_file(const char *name)
{
	uint64_t key, generation;
	char again[KEY_NAME_SIZE];

	if (!parse_name(name, &key, &generation))
		return false;
	key_file_name(key, (uint32_t)generation, again);
	return strcmp(name, again) == 0;
}
