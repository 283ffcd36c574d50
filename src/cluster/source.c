// SPDX-License-Identifier: Apache-2.0
/* One table of sources and one parser a form: pairs, blocks of pairs, rows of numbered columns, single texts. */
#include "cluster/source.h"

#include <ctype.h>
#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/attr.h"
#include "base/clock.h"
#include "base/file.h"

/** A part of a text, without NUL at its end. */
struct span {
	const char *s;
	size_t len;
};

static bool is_blank(char c)
{
	return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

static struct span span_strip(struct span t)
{
	while (t.len && is_blank(*t.s)) {
		t.s++;
		t.len--;
	}
	while (t.len && is_blank(t.s[t.len - 1]))
		t.len--;
	return t;
}

/* Take what stands before the first @c off @rest; all of it where there is none. */
static struct span span_cut(struct span *rest, char c)
{
	const char *at = rest->len ? memchr(rest->s, c, rest->len) : NULL;
	struct span part = {rest->s, at ? (size_t)(at - rest->s) : rest->len};
	size_t used = part.len + (at != NULL);
	rest->s += used;
	rest->len -= used;
	return part;
}

/* The next line, stripped. Return: false at the end. */
static bool next_line(struct span *rest, struct span *line)
{
	if (!rest->len)
		return false;
	*line = span_strip(span_cut(rest, '\n'));
	return true;
}

/* The next word of a line. Return: false at its end. */
static bool next_word(struct span *rest, struct span *word)
{
	*rest = span_strip(*rest);
	size_t len = 0;
	while (len < rest->len && !is_blank(rest->s[len]))
		len++;
	*word = (struct span){rest->s, len};
	rest->s += len;
	rest->len -= len;
	return len > 0;
}

/* A short text as a C string. Return: false when it does not fit. */
static bool span_copy(struct span t, char *buf, size_t size)
{
	if (t.len >= size)
		return false;
	memcpy(buf, t.s, t.len);
	buf[t.len] = '\0';
	return strlen(buf) == t.len;
}

/* The kernel counts in 64 bits without sign: what JSON integers here cannot hold is a real number. */
static json_t *span_integer(struct span t)
{
	char buf[32];
	int64_t whole;
	uint64_t large;
	if (!span_copy(t, buf, sizeof(buf)))
		return NULL;
	if (!parse_i64(buf, &whole))
		return json_integer(whole);
	return isdigit((unsigned char)*buf) && !parse_u64(buf, &large) ? json_real((double)large)
								       : NULL;
}

static json_t *span_real(struct span t)
{
	char buf[64];
	double value;
	return span_copy(t, buf, sizeof(buf)) && !parse_double(buf, &value) ? json_real(value)
									    : NULL;
}

json_t *source_string(const char *s, size_t len)
{
	bool has_nul = len && memchr(s, '\0', len);
	json_t *value = has_nul ? NULL : json_stringn(s, len);
	if (value)
		return value;
	CLEANUP_STR struct str plain = {0};
	str_add_mem(&plain, s, len);
	for (size_t i = 0; !plain.rc && i < len; i++)
		if (plain.s[i] == '\0' || (unsigned char)plain.s[i] >= 0x80)
			plain.s[i] = '?';
	return plain.rc ? NULL : json_stringn(str_text(&plain), plain.len);
}

static json_t *span_string(struct span t)
{
	return source_string(t.s, t.len);
}

/* Set a key that is itself a part of the text. Takes @value; a NULL one sets nothing. */
static void put(json_t *object, struct span key, json_t *value)
{
	json_t *name = span_string(key);
	if (name && value)
		json_object_set(object, json_string_value(name), value);
	json_decref(name);
	json_decref(value);
}

/* --- one parser a form */

static json_t *parse_text(struct span text)
{
	return span_string(span_strip(text));
}

static json_t *parse_name(struct span text)
{
	struct span name = span_strip(span_cut(&text, '\n'));
	return name.len ? span_string(name) : NULL;
}

/* "name value", "name: value kB": names and whole numbers. */
static json_t *parse_counts(struct span text, char after_name)
{
	json_t *all = json_object();
	struct span line, name, value;
	while (next_line(&text, &line)) {
		if (after_name) {
			if (!line.len || !memchr(line.s, after_name, line.len))
				continue;
			name = span_strip(span_cut(&line, after_name));
		} else if (!next_word(&line, &name)) {
			continue;
		}
		if (name.len && next_word(&line, &value))
			put(all, name, span_integer(value));
	}
	return all;
}

static json_t *parse_meminfo(struct span text)
{
	return parse_counts(text, ':');
}

static json_t *parse_vmstat(struct span text)
{
	return parse_counts(text, '\0');
}

/* Blocks of "key : value" with an empty line between them. */
static json_t *parse_cpuinfo(struct span text)
{
	json_t *blocks = json_array();
	json_t *block = NULL; /* borrowed from blocks */
	struct span line;
	while (next_line(&text, &line)) {
		if (!line.len) {
			block = NULL;
			continue;
		}
		if (!memchr(line.s, ':', line.len))
			continue;
		if (!block) {
			block = json_object();
			if (json_array_append_new(blocks, block))
				break;
		}
		struct span key = span_strip(span_cut(&line, ':'));
		put(block, key, span_string(span_strip(line)));
	}
	return blocks;
}

static const char *const disk_columns[] = {
	"reads_completed",
	"reads_merged",
	"sectors_read",
	"time_reading_ms",
	"writes_completed",
	"writes_merged",
	"sectors_written",
	"time_writing_ms",
	"ios_in_progress",
	"time_doing_ios_ms",
	"weighted_time_doing_ios_ms",
	/* since Linux 4.18 */
	"discards_completed",
	"discards_merged",
	"sectors_discarded",
	"time_discarding_ms",
	/* since Linux 5.5 */
	"flush_requests_completed",
	"time_flushing_ms",
};

static const char *const net_columns[] = {
	"rx_bytes",      "rx_packets",    "rx_errors",  "rx_dropped",    "rx_fifo",   "rx_frame",
	"rx_compressed", "rx_multicast",  "tx_bytes",   "tx_packets",    "tx_errors", "tx_dropped",
	"tx_fifo",       "tx_collisions", "tx_carrier", "tx_compressed",
};

/* Numbers of a line under the names of their columns, into @row. Return: how many there were. */
static size_t put_columns(json_t *row, struct span line, const char *const *columns, size_t count)
{
	struct span word;
	size_t n = 0;
	while (n < count && next_word(&line, &word)) {
		json_t *value = span_integer(word);
		if (!value)
			break;
		json_object_set_new(row, columns[n++], value);
	}
	return n;
}

/* A row that is complete joins its list. Takes @row. */
static void add_row(json_t *list, json_t *row, bool is_complete)
{
	if (is_complete)
		json_array_append(list, row);
	json_decref(row);
}

/* Columns come in groups, by kernel version; of a half one nothing counts. */
static void drop_half_group(json_t *row, size_t count)
{
	static const size_t groups[] = {11, 15, 17};
	size_t whole = 0;
	for (size_t i = 0; i < ARRAY_LEN(groups); i++)
		if (groups[i] <= count)
			whole = groups[i];
	for (size_t i = whole; i < count; i++)
		json_object_del(row, disk_columns[i]);
}

static json_t *parse_diskstats(struct span text)
{
	enum { BASIC_COLUMNS = 11 };
	json_t *list = json_array();
	struct span line, major, minor, name;
	while (next_line(&text, &line)) {
		if (!next_word(&line, &major) || !next_word(&line, &minor) ||
		    !next_word(&line, &name))
			continue;
		json_t *row = json_object();
		json_object_set_new(row, "device_name", span_string(name));
		size_t count = put_columns(row, line, disk_columns, ARRAY_LEN(disk_columns));
		drop_half_group(row, count);
		add_row(list, row, count >= BASIC_COLUMNS);
	}
	return list;
}

/* "eth0: 1 2 ...", in old kernels "eth0:1 2 ..."; the name of an alias has a colon of its own. */
static json_t *parse_netdev(struct span text)
{
	json_t *list = json_array();
	struct span line;
	while (next_line(&text, &line)) {
		const char *colon = line.len ? memrchr(line.s, ':', line.len) : NULL;
		if (!colon)
			continue;
		struct span name = {line.s, (size_t)(colon - line.s)};
		struct span numbers = {colon + 1, line.len - name.len - 1};
		json_t *row = json_object();
		json_object_set_new(row, "interface_name", span_string(span_strip(name)));
		add_row(list, row,
			put_columns(row, numbers, net_columns, ARRAY_LEN(net_columns)) ==
				ARRAY_LEN(net_columns));
	}
	return list;
}

/* "0.50 0.40 0.30 2/345 6789" */
static json_t *parse_loadavg(struct span text)
{
	static const char *const keys[] = {"load_1min", "load_5min", "load_15min"};
	json_t *all = json_object();
	struct span word;
	for (size_t i = 0; i < ARRAY_LEN(keys); i++)
		if (next_word(&text, &word))
			json_object_set_new(all, keys[i], span_real(word));
	if (next_word(&text, &word)) {
		struct span running = span_cut(&word, '/');
		json_object_set_new(all, "running_processes", span_integer(running));
		json_object_set_new(all, "total_processes", span_integer(word));
	}
	if (json_object_size(all) == ARRAY_LEN(keys) + 2)
		return all;
	json_decref(all);
	return NULL;
}

static json_t *parse_uptime(struct span text)
{
	struct span word;
	return next_word(&text, &word) ? span_real(word) : NULL;
}

/* A value as a shell reads it: in quotes, with \ before what is special there. */
static json_t *unquote(struct span t)
{
	bool is_quoted = t.len >= 2 && (*t.s == '"' || *t.s == '\'') && t.s[t.len - 1] == *t.s;
	if (!is_quoted)
		return span_string(t);
	char quote = *t.s;
	CLEANUP_STR struct str plain = {0};
	for (size_t i = 1; i + 1 < t.len; i++) {
		bool is_escape = quote == '"' && t.s[i] == '\\' && i + 2 < t.len &&
				 strchr("\"\\$`", t.s[i + 1]);
		i += is_escape;
		str_add_mem(&plain, t.s + i, 1);
	}
	return plain.rc ? NULL : source_string(str_text(&plain), plain.len);
}

static json_t *parse_os_release(struct span text)
{
	json_t *all = json_object();
	struct span line;
	while (next_line(&text, &line)) {
		if (!line.len || *line.s == '#' || !memchr(line.s, '=', line.len))
			continue;
		struct span key = span_strip(span_cut(&line, '='));
		if (key.len)
			put(all, key, unquote(span_strip(line)));
	}
	return all;
}

/* The kernel writes blanks and backslashes of a path as three octal digits. */
static json_t *unescape(struct span t)
{
	CLEANUP_STR struct str plain = {0};
	for (size_t i = 0; i < t.len; i++) {
		unsigned value = 0;
		size_t digits = 0;
		while (t.s[i] == '\\' && digits < 3 && i + 1 + digits < t.len &&
		       t.s[i + 1 + digits] >= '0' && t.s[i + 1 + digits] <= '7')
			value = value * 8 + (unsigned)(t.s[i + 1 + digits++] - '0');
		char c = digits == 3 ? (char)value : t.s[i];
		i += digits == 3 ? 3 : 0;
		str_add_mem(&plain, &c, 1);
	}
	return plain.rc ? NULL : source_string(str_text(&plain), plain.len);
}

static json_t *parse_mounts(struct span text)
{
	static const char *const texts[] = {"device", "mount_point", "fs_type", "options"};
	static const char *const numbers[] = {"dump_freq", "pass_num"};
	json_t *list = json_array();
	struct span line, word;
	while (next_line(&text, &line)) {
		json_t *row = json_object();
		size_t n = 0;
		for (; n < ARRAY_LEN(texts) && next_word(&line, &word); n++)
			json_object_set_new(row, texts[n], unescape(word));
		for (size_t i = 0; i < ARRAY_LEN(numbers); i++) {
			json_t *value = next_word(&line, &word) ? span_integer(word) : NULL;
			json_object_set_new(row, numbers[i], value ? value : json_integer(0));
		}
		add_row(list, row, n == ARRAY_LEN(texts));
	}
	return list;
}

static json_t *parse_cgroups(struct span text)
{
	static const char *const columns[] = {"hierarchy", "num_cgroups", "enabled"};
	json_t *list = json_array();
	struct span line, name;
	while (next_line(&text, &line)) {
		if (!next_word(&line, &name) || *name.s == '#')
			continue;
		json_t *row = json_object();
		json_object_set_new(row, "subsys_name", span_string(name));
		bool is_complete =
			put_columns(row, line, columns, ARRAY_LEN(columns)) == ARRAY_LEN(columns);
		if (is_complete)
			json_object_set_new(row, "enabled",
					    json_boolean(json_integer_value(json_object_get(
								 row, "enabled")) != 0));
		add_row(list, row, is_complete);
	}
	return list;
}

/* --- the table */

static const struct row {
	struct source source;
	json_t *(*parse)(struct span text);
	bool is_sampled;
} table[] = {
	{{"hostname", "/proc/sys/kernel/hostname"}, parse_name, true},
	{{"meminfo", "/proc/meminfo"}, parse_meminfo, true},
	{{"cpuinfo", "/proc/cpuinfo"}, parse_cpuinfo, false},
	{{"diskstats", "/proc/diskstats"}, parse_diskstats, true},
	{{"netdev", "/proc/net/dev"}, parse_netdev, true},
	{{"version", "/proc/version"}, parse_text, false},
	{{"loadavg", "/proc/loadavg"}, parse_loadavg, true},
	{{"uptime_seconds", "/proc/uptime"}, parse_uptime, false},
	{{"os_release", "/etc/os-release"}, parse_os_release, false},
	{{"vmstat", "/proc/vmstat"}, parse_vmstat, true},
	{{"mounts", "/proc/mounts"}, parse_mounts, false},
	{{"cgroups", "/proc/cgroups"}, parse_cgroups, false},
};

const struct source *source_next(enum source_set set, const struct source *prev)
{
	const struct row *row = prev ? container_of(prev, const struct row, source) + 1 : table;
	for (; row < table + ARRAY_LEN(table); row++)
		if (row->is_sampled || set == SOURCE_SET_FACTS)
			return &row->source;
	return NULL;
}

static const struct row *find_row(const char *key)
{
	for (size_t i = 0; i < ARRAY_LEN(table); i++)
		if (!strcmp(table[i].source.key, key))
			return &table[i];
	return NULL;
}

json_t *source_parse(const char *key, const char *text, size_t len)
{
	const struct row *row = find_row(key);
	return row ? row->parse((struct span){text, len}) : NULL;
}

static json_t *collect_one(const struct source *source, source_read_fn *read, void *ctx,
			   json_t *errors)
{
	CLEANUP_STR struct str text = {0};
	int rc = read(ctx, source, &text);
	json_t *value = rc ? NULL : source_parse(source->key, str_text(&text), text.len);
	if (rc)
		json_object_set_new(errors, source->key,
				    json_sprintf("%s: %s", source->path, strerror(-rc)));
	else if (!value)
		json_object_set_new(errors, source->key,
				    json_sprintf("%s: not in the form expected", source->path));
	return value;
}

json_t *source_collect(enum source_set set, source_read_fn *read, void *ctx,
		       const char *fallback_name)
{
	char now[CLOCK_ISO_SIZE];
	clock_iso_utc(now, time(NULL));
	json_t *all = json_object();
	json_t *errors = json_object();
	json_object_set_new(all, set == SOURCE_SET_FACTS ? "collection_timestamp" : "timestamp",
			    json_string(now));
	json_object_set_new(all, "hostname", source_string(fallback_name, strlen(fallback_name)));
	for (const struct source *s = source_next(set, NULL); s; s = source_next(set, s)) {
		json_t *value = collect_one(s, read, ctx, errors);
		if (value)
			json_object_set_new(all, s->key, value);
	}
	if (json_object_size(errors))
		json_object_set(all, "errors", errors);
	json_decref(errors);
	return all;
}

static int read_local(void *ctx, const struct source *source, struct str *ret)
{
	const char *root = ctx;
	CLEANUP_STR struct str path = {0};
	str_addf(&path, "%s%s", root, source->path);
	return path.rc ? path.rc : file_read(str_text(&path), SOURCE_TEXT_MAX, ret);
}

json_t *source_collect_local(enum source_set set, const char *root)
{
	char name[256] = "";
	gethostname(name, sizeof(name) - 1);
	return source_collect(set, read_local, (void *)(uintptr_t)root, name);
}
