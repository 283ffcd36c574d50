// SPDX-License-Identifier: Apache-2.0
/* Growing strings and exact conversions between text and numbers. */
#include "base/str.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

static bool str_reserve(struct str *s, size_t more)
{
	if (s->rc)
		return false;
	if (s->cap - s->len > more)
		return true;
	size_t cap = s->cap ? s->cap : 64;
	while (cap - s->len <= more)
		cap *= 2;
	char *p = realloc(s->s, cap);
	if (!p) {
		s->rc = -ENOMEM;
		return false;
	}
	s->s = p;
	s->cap = cap;
	return true;
}

void str_add_mem(struct str *s, const char *mem, size_t len)
{
	if (!str_reserve(s, len))
		return;
	memcpy(s->s + s->len, mem, len);
	s->len += len;
	s->s[s->len] = '\0';
}

void str_add(struct str *s, const char *text)
{
	str_add_mem(s, text, strlen(text));
}

void str_addf(struct str *s, const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	va_list again;
	va_copy(again, ap);
	int n = vsnprintf(NULL, 0, fmt, ap);
	va_end(ap);
	if (n >= 0 && str_reserve(s, (size_t)n)) {
		vsnprintf(s->s + s->len, (size_t)n + 1, fmt, again);
		s->len += (size_t)n;
	}
	va_end(again);
}

void str_add_quoted(struct str *s, const char *word)
{
	static const char plain[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
				    "-_./:=,@%+";
	if (word[0] && strspn(word, plain) == strlen(word)) {
		str_add(s, word);
		return;
	}
	str_add(s, "'");
	for (const char *p = word; *p; p++) {
		if (*p == '\'')
			str_add(s, "'\\''");
		else
			str_add_mem(s, p, 1);
	}
	str_add(s, "'");
}

const char *str_text(const struct str *s)
{
	return s->s ? s->s : "";
}

char *str_take(struct str *s)
{
	if (!s->rc && !s->s)
		str_add(s, "");
	char *text = s->rc ? NULL : s->s;
	if (s->rc)
		free(s->s);
	*s = (struct str){0};
	return text;
}

void str_clear(struct str *s)
{
	s->len = 0;
	s->rc = 0;
	if (s->s)
		s->s[0] = '\0';
}

void str_release(struct str *s)
{
	free(s->s);
	*s = (struct str){0};
}

static int strlist_give(struct strlist *l, char *owned)
{
	char **v = owned ? reallocarray(l->v, l->count + 2, sizeof(*v)) : NULL;
	if (!v) {
		free(owned);
		return -ENOMEM;
	}
	l->v = v;
	l->v[l->count++] = owned;
	l->v[l->count] = NULL;
	return 0;
}

int strlist_add(struct strlist *l, const char *text)
{
	return strlist_give(l, strdup(text));
}

int strlist_addf(struct strlist *l, const char *fmt, ...)
{
	char *text = NULL;
	va_list ap;
	va_start(ap, fmt);
	int n = vasprintf(&text, fmt, ap);
	va_end(ap);
	return strlist_give(l, n < 0 ? NULL : text);
}

int strlist_add_split(struct strlist *l, const char *text, const char *separators)
{
	for (const char *p = text; *p;) {
		p += strspn(p, separators);
		size_t len = strcspn(p, separators);
		if (len) {
			int rc = strlist_give(l, strndup(p, len));
			if (rc)
				return rc;
		}
		p += len;
	}
	return 0;
}

/* One word of a shell's command line from @at on. Return: where it ends, NULL: a quote is not closed. */
static const char *shell_word(const char *at, struct str *word)
{
	char quote = '\0';
	for (; *at && (quote || !strchr(" \t\n", *at)); at++) {
		if (*at == quote)
			quote = '\0';
		else if (!quote && (*at == '\'' || *at == '"'))
			quote = *at;
		else if (*at == '\\' && at[1] && (!quote || (quote == '"' && strchr("\"\\$`", at[1]))))
			str_add_mem(word, ++at, 1);
		else
			str_add_mem(word, at, 1);
	}
	return quote ? NULL : at;
}

int strlist_add_shell(struct strlist *l, const char *text)
{
	for (const char *p = text + strspn(text, " \t\n"); *p; p += strspn(p, " \t\n")) {
		CLEANUP_STR struct str word = {0};
		p = shell_word(p, &word);
		if (!p)
			return -EINVAL;
		int rc = word.rc ? word.rc : strlist_add(l, str_text(&word));
		if (rc)
			return rc;
	}
	return 0;
}

bool strlist_has(const struct strlist *l, const char *text)
{
	for (size_t i = 0; i < l->count; i++)
		if (!strcmp(l->v[i], text))
			return true;
	return false;
}

int strlist_copy(struct strlist *to, const struct strlist *from)
{
	struct strlist copy = {0};
	for (size_t i = 0; i < from->count; i++) {
		int rc = strlist_add(&copy, from->v[i]);
		if (rc) {
			strlist_release(&copy);
			return rc;
		}
	}
	strlist_release(to);
	*to = copy;
	return 0;
}

void strlist_release(struct strlist *l)
{
	for (size_t i = 0; i < l->count; i++)
		free(l->v[i]);
	free(l->v);
	*l = (struct strlist){0};
}

int parse_i64(const char *text, int64_t *ret)
{
	if (!text[0] || isspace((unsigned char)text[0]))
		return -EINVAL;
	char *end;
	errno = 0;
	long long v = strtoll(text, &end, 10);
	if (end == text || *end)
		return -EINVAL;
	if (errno)
		return -errno;
	*ret = v;
	return 0;
}

int parse_u64(const char *text, uint64_t *ret)
{
	if (!isdigit((unsigned char)text[0]))
		return -EINVAL;
	char *end;
	errno = 0;
	unsigned long long v = strtoull(text, &end, 10);
	if (*end)
		return -EINVAL;
	if (errno)
		return -errno;
	*ret = v;
	return 0;
}

int parse_double(const char *text, double *ret)
{
	if (!text[0] || text[strspn(text, "0123456789+-.eE")])
		return -EINVAL;
	char *end;
	errno = 0;
	double v = strtod(text, &end);
	if (end == text || *end)
		return -EINVAL;
	if (!isfinite(v))
		return -ERANGE;
	*ret = v;
	return 0;
}

static const struct {
	const char *suffix[4];
	unsigned shift;
} size_units[] = {
	{{"k", "K", "KiB", "kib"}, 10},
	{{"m", "M", "MiB", "mib"}, 20},
	{{"g", "G", "GiB", "gib"}, 30},
	{{"t", "T", "TiB", "tib"}, 40},
};

int parse_size(const char *text, uint64_t *ret)
{
	char number[32];
	size_t digits = strspn(text, "0123456789");
	if (!digits)
		return -EINVAL;
	if (digits >= sizeof(number))
		return -ERANGE;
	memcpy(number, text, digits);
	number[digits] = '\0';
	uint64_t v;
	int rc = parse_u64(number, &v);
	if (rc)
		return rc;
	const char *unit = text + digits;
	unsigned shift = 0;
	if (*unit && strcmp(unit, "B")) {
		for (size_t i = 0; i < ARRAY_LEN(size_units); i++)
			for (size_t j = 0; j < ARRAY_LEN(size_units[i].suffix); j++)
				if (!strcmp(unit, size_units[i].suffix[j]))
					shift = size_units[i].shift;
		if (!shift)
			return -EINVAL;
	}
	if (shift && v > UINT64_MAX >> shift)
		return -ERANGE;
	*ret = v << shift;
	return 0;
}

int parse_bool(const char *text, bool *ret)
{
	static const char *const yes[] = {"true", "yes", "on", "1"};
	static const char *const no[] = {"false", "no", "off", "0"};
	for (size_t i = 0; i < ARRAY_LEN(yes); i++) {
		if (!strcasecmp(text, yes[i])) {
			*ret = true;
			return 0;
		}
		if (!strcasecmp(text, no[i])) {
			*ret = false;
			return 0;
		}
	}
	return -EINVAL;
}

const char *fmt_bytes(char *buf, size_t size, uint64_t bytes)
{
	static const char *const unit[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB"};
	double v = (double)bytes;
	size_t u = 0;
	while (v >= 1024.0 && u + 1 < ARRAY_LEN(unit)) {
		v /= 1024.0;
		u++;
	}
	if (u == 0)
		snprintf(buf, size, "%" PRIu64 " B", bytes);
	else
		snprintf(buf, size, "%.*f %s", v < 10 ? 2 : 1, v, unit[u]);
	return buf;
}

const char *fmt_size_exact(char *buf, size_t size, uint64_t bytes)
{
	for (size_t i = ARRAY_LEN(size_units); i-- > 0;) {
		unsigned shift = size_units[i].shift;
		if (bytes >> shift && !(bytes & ((UINT64_C(1) << shift) - 1))) {
			snprintf(buf, size, "%" PRIu64 "%s", bytes >> shift, size_units[i].suffix[2]);
			return buf;
		}
	}
	snprintf(buf, size, "%" PRIu64, bytes);
	return buf;
}

const char *fmt_double(char *buf, size_t size, double value)
{
	for (int precision = 1; precision <= 17; precision++) {
		snprintf(buf, size, "%.*g", precision, value);
		if (strtod(buf, NULL) == value)
			break;
	}
	/* %g drops the point of a whole number and turns 100 into 1e+02: show those as people write them. */
	double whole;
	if (modf(value, &whole) == 0.0 && fabs(value) < 1e15)
		snprintf(buf, size, "%.1f", value);
	return buf;
}

bool str_is_among(const char *text, const char *const *list, size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (!strcmp(list[i], text))
			return true;
	return false;
}

unsigned str_distance(const char *a, const char *b)
{
	size_t la = strlen(a);
	size_t lb = strlen(b);
	if (la > 63 || lb > 63)
		return 64;
	unsigned row[64];
	for (size_t j = 0; j <= lb; j++)
		row[j] = (unsigned)j;
	for (size_t i = 1; i <= la; i++) {
		unsigned diagonal = row[0];
		row[0] = (unsigned)i;
		for (size_t j = 1; j <= lb; j++) {
			unsigned best = diagonal + (a[i - 1] != b[j - 1]);
			diagonal = row[j];
			if (row[j] + 1 < best)
				best = row[j] + 1;
			if (row[j - 1] + 1 < best)
				best = row[j - 1] + 1;
			row[j] = best;
		}
	}
	return row[lb];
}
