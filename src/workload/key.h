/* SPDX-License-Identifier: Apache-2.0 */
/*
 * workload/key.h - names of cache entries: 64 bits that say exactly what the entry is, and the file
 * name of it.
 *
 * Layout, from the top: kind (4 bits) and the kind's fields; nothing is hashed, so no two entries
 * share a key. turn     user (20) conversation (24) turn (16) request  user (20) sequence (40)
 *   prefix   number
 *   block    trace block id (60)
 *   prepared number: written before a decode-only run, for it to read
 *   filler   number: written to precondition the storage tier
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum key_kind { KEY_TURN = 1, KEY_REQUEST = 2, KEY_PREFIX = 3, KEY_BLOCK = 4, KEY_PREPARED = 5, KEY_FILLER = 6 };

enum { KEY_NAME_SIZE = 64 };
#define KEY_USER_MAX         ((UINT32_C(1) << 20) - 1)
#define KEY_CONVERSATION_MAX ((UINT32_C(1) << 24) - 1)
#define KEY_TURN_MAX         ((UINT32_C(1) << 16) - 1)
#define KEY_SEQUENCE_MAX     ((UINT64_C(1) << 40) - 1)
#define KEY_BLOCK_MAX        ((UINT64_C(1) << 60) - 1)

/* Fields beyond their maximum are the caller's bug (assert). */
uint64_t key_turn(uint32_t user, uint32_t conversation, uint32_t turn);
uint64_t key_request(uint32_t user, uint64_t sequence);
uint64_t key_prefix(uint32_t number);
uint64_t key_block(uint64_t id);
uint64_t key_prepared(uint64_t number);
uint64_t key_filler(uint64_t number);

/**
 * key_file_name() - "kvc-u00042-c000003-t0002-g1.npy", "kvc-u00042-r0000001-g1.npy",
 * "kvc-p1-g1.npy", "kvc-b46-g3.npy" The write generation is part of the name, so that the unlink of
 * an old copy never meets a new one.
 */
void key_file_name(uint64_t key, uint32_t generation, char buf[KEY_NAME_SIZE]);

/** key_is_own_file() - would key_file_name() have made exactly this name? Only such files are ever
 * removed. */
bool key_is_own_file(const char *name);
