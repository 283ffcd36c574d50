/* SPDX-License-Identifier: Apache-2.0 */
/*
 * launch/erase.h - from what a program draws on a terminal to what is worth keeping in a file: lines that it erased
 * again ("\r\033[K", a progress line) are left out.
 *
 * Receives: bytes as they come.  Gives: whole lines to a file.
 * Must not know: which program it is.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

enum { ERASE_MAX = 4096 }; /* a longer line is kept whatever comes */

/** One stream. Zero-initialise. */
struct erase {
	char text[ERASE_MAX];
	size_t done; /* bytes of whole lines, to be written */
	size_t len;  /* with the line that has not ended */
	bool is_long; /* that line's beginning is written already */
};

/** erase_write() - take bytes, write the lines that are complete. Return: 0 or -errno of write(). */
int erase_write(struct erase *e, int fd, const char *data, size_t len);
/** erase_end() - write a last line without an end. Return: as erase_write(). */
int erase_end(struct erase *e, int fd);
