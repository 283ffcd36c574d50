/* SPDX-License-Identifier: Apache-2.0 */
/*
 * base/mem.h - memory for the frozen regime: overflow-checked arrays and reserved address space.
 *
 * Receives: sizes.  Gives: zeroed memory.  Must not know: what it holds.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#define ALIGN_UP(x, a) (((x) + ((uint64_t)(a)-1)) & ~((uint64_t)(a)-1)) /* @a: a power of two */

#define MIN(a, b) ((a) < (b) ? (a) : (b))
#define MAX(a, b) ((a) > (b) ? (a) : (b))

/**
 * mem_reserve() - zeroed address space that costs RAM only where it is touched
 * @bytes: rounded up to pages; may exceed the machine's RAM
 * Return: page-aligned memory for mem_unreserve(), NULL when the address space is refused.
 */
void *mem_reserve(size_t bytes);
void mem_unreserve(void *p, size_t bytes);

/**
 * mem_populate() - touch every page of a reservation now, so that no page fault falls into a measurement
 * Return: 0 or -ENOMEM (the machine has less memory than was asked for).
 */
int mem_populate(void *p, size_t bytes);
