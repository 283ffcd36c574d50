// SPDX-License-Identifier: Apache-2.0
/* Fills a struct from a YAML mapping by a table: one place for types, ranges and messages of every
 * key. */
#include <math.h>
#include <stdio.h>

#include "base/mem.h"
#include "config/internal.h"

static const char *kind_name(const struct yaml_node *n)
{
	static const char *const names[] = {[YAML_NULL] = "empty",
					    [YAML_SCALAR] = "a single value",
					    [YAML_SEQUENCE] = "a list",
					    [YAML_MAPPING] = "a mapping"};
	return names[yaml_kind(n)];
}

static const char *type_name(enum row_type type)
{
	static const char *const names[] = {
		[ROW_U32] = "a whole number",
		[ROW_I32] = "a whole number",
		[ROW_REAL] = "a number",
		[ROW_BOOL] = "true or false",
		[ROW_TEXT] = "a text",
		[ROW_CHOICE] = "one of",
		[ROW_U32_RANGE] = "two whole numbers [min, max]",
		[ROW_REAL_RANGE] = "two numbers [min, max]",
		[ROW_U32_LIST] = "a list of whole numbers",
	};
	return names[type];
}

static void expected_text(const struct row *row, struct str *out)
{
	str_add(out, type_name(row->type));
	if (row->type == ROW_CHOICE)
		for (size_t i = 0; row->choices[i]; i++)
			str_addf(out, "%s %s", i ? "," : "", row->choices[i]);
	else if (row->type == ROW_TEXT && row->size)
		str_addf(out, " of at most %zu characters", row->size - 1);
	else if (row->min != row->max)
		str_addf(out, " in %.10g..%.10g", row->min, row->max);
	if (row->type == ROW_U32_LIST && row->size)
		str_addf(out, ", 1 to %zu of them", row->size);
}

/* @what: what stands there instead, complete. */
static int refuse(const struct row_walk *walk, const struct row *row, const char *path,
		  struct yaml_node *n, const char *what)
{
	CLEANUP_STR struct str expected = {0};
	expected_text(row, &expected);
	return problems_add(walk->problems, ERR_CONFIG_INVALID, "%s:%u: %s%s: %s, expected %s",
			    walk->file, yaml_line(n), walk->above, path, what, str_text(&expected));
}

static bool in_range(const struct row *row, double v)
{
	return row->min == row->max || (v >= row->min && v <= row->max);
}

/* One value of a row, before it is stored. */
union row_value {
	uint32_t u32;
	int32_t i32;
	double real;
	bool flag;
	int choice;
};

static size_t value_size(enum row_type type)
{
	switch (type) {
	case ROW_REAL:
	case ROW_REAL_RANGE:
		return sizeof(double);
	case ROW_BOOL:
		return sizeof(bool);
	default:
		return sizeof(uint32_t); /* int and enums as well */
	}
}

_Static_assert(sizeof(int) == sizeof(uint32_t), "choices are stored by value_size()");

static int parse_whole(const struct row *row, const char *text, union row_value *ret)
{
	int64_t v;
	bool sign = row->type == ROW_I32;
	int rc = parse_i64(text, &v);
	if (rc)
		return rc;
	if (!in_range(row, (double)v) || v < (sign ? INT32_MIN : 0) ||
	    v > (sign ? (int64_t)INT32_MAX : (int64_t)UINT32_MAX))
		return -ERANGE;
	if (sign)
		ret->i32 = (int32_t)v;
	else
		ret->u32 = (uint32_t)v;
	return 0;
}

/* Return: 0; -EINVAL of another type; -ERANGE outside min..max. */
static int parse_value(const struct row *row, const char *text, union row_value *ret)
{
	switch (row->type) {
	case ROW_REAL:
	case ROW_REAL_RANGE: {
		int rc = parse_double(text, &ret->real);
		return rc ? rc : in_range(row, ret->real) ? 0 : -ERANGE;
	}
	case ROW_BOOL:
		return parse_bool(text, &ret->flag);
	case ROW_CHOICE:
		for (int i = 0; row->choices[i]; i++) {
			if (!strcmp(row->choices[i], text)) {
				ret->choice = i;
				return 0;
			}
		}
		return -EINVAL;
	default:
		return parse_whole(row, text, ret);
	}
}

/* Parse @n into @ret. Return: 0; 1 after a problem was added; -ENOMEM. */
static int read_value(const struct row_walk *walk, const struct row *row, const char *path,
		      struct yaml_node *n, union row_value *ret)
{
	const char *text = yaml_text(n);
	char what[128];
	int rc = text ? parse_value(row, text, ret) : -EINVAL;
	if (!rc)
		return 0;
	if (!text)
		snprintf(what, sizeof(what), "is %s", kind_name(n));
	else if (rc == -ERANGE)
		snprintf(what, sizeof(what), "%.60s is out of range", text);
	else
		snprintf(what, sizeof(what), "\"%.60s\" does not fit", text);
	rc = refuse(walk, row, path, n, what);
	return rc ? rc : 1;
}

static void store(const struct row_walk *walk, const struct row *row, size_t index,
		  const union row_value *v)
{
	size_t size = value_size(row->type);
	if (row->offset != ROW_NO_EFFECT)
		memcpy((char *)walk->target + row->offset + index * size, v, size);
}

static int read_single(const struct row_walk *walk, const struct row *row, const char *path,
		       struct yaml_node *n)
{
	union row_value v = {0};
	int rc = read_value(walk, row, path, n, &v);
	if (!rc)
		store(walk, row, 0, &v);
	return rc < 0 ? rc : 0;
}

static int read_text(const struct row_walk *walk, const struct row *row, const char *path,
		     struct yaml_node *n)
{
	const char *text = yaml_text(n);
	if (!text)
		return refuse(walk, row, path, n, kind_name(n));
	if (row->offset == ROW_NO_EFFECT)
		return 0;
	if (!text[0] || strlen(text) >= row->size)
		return refuse(walk, row, path, n, text[0] ? "is too long" : "is empty");
	memcpy((char *)walk->target + row->offset, text, strlen(text) + 1);
	return 0;
}

static int read_range(const struct row_walk *walk, const struct row *row, const char *path,
		      struct yaml_node *n)
{
	union row_value lo = {0}, hi = {0};
	if (yaml_kind(n) != YAML_SEQUENCE || yaml_count(n) != 2)
		return refuse(walk, row, path, n, "does not fit");
	int rc = read_value(walk, row, path, yaml_item(n, 0), &lo);
	if (!rc)
		rc = read_value(walk, row, path, yaml_item(n, 1), &hi);
	if (rc)
		return rc < 0 ? rc : 0;
	if (row->type == ROW_REAL_RANGE ? lo.real > hi.real : lo.u32 > hi.u32)
		return refuse(walk, row, path, n, "the first number is above the second");
	store(walk, row, 0, &lo);
	store(walk, row, 1, &hi);
	return 0;
}

static int read_list(const struct row_walk *walk, const struct row *row, const char *path,
		     struct yaml_node *n)
{
	if (yaml_kind(n) != YAML_SEQUENCE)
		return refuse(walk, row, path, n, kind_name(n));
	if (!yaml_count(n) || yaml_count(n) > row->size)
		return refuse(walk, row, path, n, "has the wrong length");
	uint32_t count = (uint32_t)yaml_count(n);
	for (uint32_t i = 0; i < count; i++) {
		union row_value v = {0};
		int rc = read_value(walk, row, path, yaml_item(n, i), &v);
		if (rc)
			return rc < 0 ? rc : 0;
		store(walk, row, i, &v);
	}
	memcpy((char *)walk->target + row->count_offset, &count, sizeof(count));
	return 0;
}

static int read_row(const struct row_walk *walk, const struct row *row, const char *path,
		    struct yaml_node *n)
{
	if (row->offset == ROW_NO_EFFECT && walk->unused) {
		int rc = strlist_addf(walk->unused, "%s%s", walk->above, path);
		if (rc)
			return rc;
	}
	switch (row->type) {
	case ROW_TEXT:
		return read_text(walk, row, path, n);
	case ROW_U32_RANGE:
	case ROW_REAL_RANGE:
		return read_range(walk, row, path, n);
	case ROW_U32_LIST:
		return read_list(walk, row, path, n);
	default:
		return read_single(walk, row, path, n);
	}
}

/* Does the pattern "a.b" or "a.*" name @path? */
static bool path_matches(const char *pattern, const char *path)
{
	size_t len = strlen(pattern);
	if (len && pattern[len - 1] == '*')
		return !strncmp(pattern, path, len - 1) && !strchr(path + len - 1, '.');
	return !strcmp(pattern, path);
}

static const struct row *row_find(const struct row_walk *walk, const char *path)
{
	for (size_t i = 0; i < walk->row_count; i++)
		if (path_matches(walk->rows[i].path, path))
			return &walk->rows[i];
	return NULL;
}

static bool is_section(const struct row_walk *walk, const char *path)
{
	size_t len = strlen(path);
	for (size_t i = 0; i < walk->row_count; i++)
		if (!strncmp(walk->rows[i].path, path, len) && walk->rows[i].path[len] == '.')
			return true;
	return false;
}

/* Length of the first @parts components of a dotted path. */
static size_t parts_length(const char *path, size_t parts)
{
	size_t len = strcspn(path, ".");
	while (--parts && path[len])
		len += 1 + strcspn(path + len + 1, ".");
	return len;
}

static int unknown_key(const struct row_walk *walk, const char *path, unsigned line)
{
	struct suggest s = {.text = path};
	size_t parts = 1;
	for (const char *p = path; *p; p++)
		parts += *p == '.';
	for (size_t i = 0; i < walk->row_count; i++)
		suggest_offer(&s, walk->rows[i].path, parts_length(walk->rows[i].path, parts));
	for (size_t i = 0; walk->skip && walk->skip[i]; i++)
		suggest_offer(&s, walk->skip[i], strlen(walk->skip[i]));
	const char *near = suggest_result(&s);
	return problems_add(walk->problems, ERR_CONFIG_INVALID, "%s:%u: unknown key '%s%s'%s%s%s%s",
			    walk->file, line, walk->above, path, near ? " (did you mean '" : "",
			    near ? walk->above : "", near ? near : "", near ? "'?)" : "");
}

static int read_mapping(const struct row_walk *walk, struct yaml_node *map, const char *section);

static bool is_skipped(const struct row_walk *walk, const char *path)
{
	for (size_t i = 0; walk->skip && walk->skip[i]; i++)
		if (!strcmp(walk->skip[i], path))
			return true;
	return false;
}

static int read_pair(const struct row_walk *walk, const char *path, struct yaml_node *value,
		     unsigned line)
{
	if (is_skipped(walk, path))
		return 0;
	const struct row *row = row_find(walk, path);
	if (row)
		return read_row(walk, row, path, value);
	if (!is_section(walk, path))
		return unknown_key(walk, path, line);
	return read_mapping(walk, value, path);
}

/* Recursion is bounded by the depth of the table: a deeper key is unknown. */
static int read_mapping(const struct row_walk *walk, struct yaml_node *map, const char *section)
{
	if (yaml_kind(map) == YAML_NULL)
		return 0;
	if (yaml_kind(map) != YAML_MAPPING)
		return problems_add(walk->problems, ERR_CONFIG_INVALID,
				    "%s:%u: %s%s is %s, expected a mapping", walk->file,
				    yaml_line(map), walk->above, section, kind_name(map));
	for (size_t i = 0; i < yaml_count(map); i++) {
		struct yaml_node *value;
		unsigned line;
		const char *key = yaml_pair(map, i, &value, &line);
		CLEANUP_STR struct str path = {0};
		str_addf(&path, "%s%s%s", section, section[0] ? "." : "", key);
		int rc = path.rc ? path.rc : read_pair(walk, str_text(&path), value, line);
		if (rc)
			return rc;
	}
	return 0;
}

int rows_read(const struct row_walk *walk, struct yaml_node *map)
{
	return map ? read_mapping(walk, map, "") : 0;
}
