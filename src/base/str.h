/* SPDX-License-Identifier: Apache-2.0 */
/*
 * base/str.h - growing strings, string lists, and exact text <-> number conversion.
 *
 * Receives: text.  Gives: text and numbers, or a clear refusal.
 * Must not know: what the text means.  Set-up and reporting only: these functions allocate.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/attr.h"

/**
 * A growing, always NUL-terminated string. Zero-initialise; str_release() after.
 * Errors are sticky: after a failed allocation rc is -ENOMEM and further additions do nothing,
 * so that a long text can be built and checked once. Not thread-safe.
 */
struct str {
	char *s;    /* "" is stored as NULL until the first addition: use str_text() to read */
	size_t len; /* bytes without the NUL */
	size_t cap;
	int rc; /* 0 or -ENOMEM */
};

void str_add(struct str *s, const char *text);
void str_add_mem(struct str *s, const char *mem, size_t len);
void str_addf(struct str *s, const char *fmt, ...) ATTR_PRINTF(2, 3);
/** str_add_quoted() - append @word so that a POSIX shell reads it back as one word; plain words stay plain. */
void str_add_quoted(struct str *s, const char *word);
/** str_text() - borrow the text; never NULL. */
const char *str_text(const struct str *s);
/** str_take() - hand the text to the caller (free()); NULL when an addition failed. Leaves @s empty. */
char *str_take(struct str *s);
void str_clear(struct str *s);
void str_release(struct str *s);
#define CLEANUP_STR __attribute__((cleanup(str_release)))

/** A list of owned strings; v[count] is always NULL once something was added, so it serves as argv. */
struct strlist {
	char **v;
	size_t count;
};

/** strlist_add() - append a copy of @text. Return: 0 or -ENOMEM. */
int strlist_add(struct strlist *l, const char *text);
int strlist_addf(struct strlist *l, const char *fmt, ...) ATTR_PRINTF(2, 3);
/** strlist_add_split() - append the pieces of @text between any bytes of @separators, empty ones dropped. */
int strlist_add_split(struct strlist *l, const char *text, const char *separators);
/**
 * strlist_add_shell() - append the words that a POSIX shell would make of @text: blanks separate, quotes and
 * backslashes protect, nothing is expanded. Return: 0, -EINVAL (a quote is not closed), -ENOMEM.
 */
int strlist_add_shell(struct strlist *l, const char *text);
bool strlist_has(const struct strlist *l, const char *text);
/** strlist_copy() - replace @to by a copy of @from. */
int strlist_copy(struct strlist *to, const struct strlist *from);
void strlist_release(struct strlist *l);

/*
 * Numbers from text: the whole text must be the number. Return 0, -EINVAL (not a number, or trailing
 * garbage) or -ERANGE (does not fit). Outputs are written only on success.
 */
int parse_i64(const char *text, int64_t *ret);
int parse_u64(const char *text, uint64_t *ret);
/** parse_double() - finite decimal numbers only: "nan", "inf" and hex floats are -EINVAL. */
int parse_double(const char *text, double *ret);
/** parse_size() - bytes with an optional binary unit: 4096, 4k, 4K, 4KiB, 1M, 1MiB, 2G, 2GiB, 1T. */
int parse_size(const char *text, uint64_t *ret);
/** parse_bool() - true/false/yes/no/on/off/1/0, any case. */
int parse_bool(const char *text, bool *ret);

/** fmt_bytes() - "1.5 GiB", "512 B" into @buf; returns @buf. */
const char *fmt_bytes(char *buf, size_t size, uint64_t bytes);
/** fmt_size_exact() - the shortest parse_size() form: "1MiB", "4096", "24KiB"; returns @buf. */
const char *fmt_size_exact(char *buf, size_t size, uint64_t bytes);
/** fmt_double() - shortest text that reads back as the same double, always with '.' or 'e' ("16.0"). */
const char *fmt_double(char *buf, size_t size, double value);

/** str_is_among() - is @text one of @list? */
bool str_is_among(const char *text, const char *const *list, size_t count);

/** str_distance() - Levenshtein distance, for "did you mean"; texts longer than 63 bytes give 64. */
unsigned str_distance(const char *a, const char *b);
