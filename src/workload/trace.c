// SPDX-License-Identifier: Apache-2.0
/*
 * Reads a Mooncake trace: one JSON object per line with timestamp (ms), input_length, output_length
 * (tokens) and hash_ids, one id per block of 512 input tokens. A row that does not say exactly that
 * is refused with its line.
 */
#include <inttypes.h>
#include <math.h>
#include <string.h>

#include <jansson.h>

#include "base/clock.h"
#include "base/mem.h"
#include "workload/internal.h"
#include "workload/key.h"
#include "workload/lines.h"

enum { BLOCK_TOKENS = 512 };
#define TIMESTAMP_MAX_MS \
 INT64_C(9000000000000) /* year 2255 as Unix time; fits 64 bits as nanoseconds */

struct trace {
	char *path;
	struct lines *lines;
	uint64_t rows;      /* given or refused so far */
	char message[1024]; /* of the first failure, "" before */
};

/* The fields of one row, checked. */
struct row {
	uint64_t timestamp_ns;
	uint64_t input_tokens;
	uint32_t output_tokens;
	const json_t *ids;
};

static void note(struct trace *t, const char *fmt, ...) ATTR_PRINTF(2, 3);
static void note(struct trace *t, const char *fmt, ...)
{
	char what[256];
	va_list ap;

	if (t->message[0])
		return;
	va_start(ap, fmt);
	vsnprintf(what, sizeof(what), fmt, ap);
	va_end(ap);
	/* jansson quotes the line, which may hold anything */
	for (char *c = what; *c; c++)
		*c = *c >= ' ' && *c <= '~' ? *c : '?';
	snprintf(t->message, sizeof(t->message), "%.700s:%" PRIu64 ": %s", t->path,
		 lines_number(t->lines), what);
}

static int read_timestamp(struct trace *t, const json_t *object, uint64_t *ret)
{
	const json_t *v = json_object_get(object, "timestamp");

	if (json_is_integer(v) && json_integer_value(v) >= 0 &&
	    json_integer_value(v) <= TIMESTAMP_MAX_MS) {
		*ret = (uint64_t)json_integer_value(v) * NS_PER_MS;
		return 0;
	}
	if (json_is_real(v) && json_real_value(v) >= 0 &&
	    json_real_value(v) <= (double)TIMESTAMP_MAX_MS) {
		*ret = (uint64_t)llround(json_real_value(v) * (double)NS_PER_MS);
		return 0;
	}
	note(t, "'timestamp' must be a number of milliseconds, 0 or more");
	return -EINVAL;
}

static int read_tokens(struct trace *t, const json_t *object, const char *name, uint64_t *ret)
{
	const json_t *v = json_object_get(object, name);

	if (!json_is_integer(v) || json_integer_value(v) < 0 ||
	    json_integer_value(v) > UINT32_MAX) {
		note(t, "'%s' must be a whole number of tokens, 0 to %" PRIu32, name, UINT32_MAX);
		return -EINVAL;
	}
	*ret = (uint64_t)json_integer_value(v);
	return 0;
}

static bool is_block_id(const json_t *v)
{
	return json_is_integer(v) && json_integer_value(v) >= 0 &&
	       (uint64_t)json_integer_value(v) <= KEY_BLOCK_MAX;
}

static int read_ids(struct trace *t, const json_t *object, uint64_t input_tokens,
		    const json_t **ret)
{
	const json_t *ids = json_object_get(object, "hash_ids");
	uint64_t due = (input_tokens + BLOCK_TOKENS - 1) / BLOCK_TOKENS;
	size_t count = json_array_size(ids);

	if (!json_is_array(ids)) {
		note(t, "'hash_ids' must be a list of block ids");
		return -EINVAL;
	}
	if (count != due) {
		note(t,
		     "'hash_ids' must hold %" PRIu64 " ids (input_length %" PRIu64
		     " in blocks of %d), not %zu",
		     due, input_tokens, BLOCK_TOKENS, count);
		return -EINVAL;
	}
	for (size_t i = 0; i < count; i++) {
		if (!is_block_id(json_array_get(ids, i))) {
			note(t, "'hash_ids' item %zu must be a whole number, 0 to 2^60 - 1", i + 1);
			return -EINVAL;
		}
	}
	*ret = ids;
	return 0;
}

static int read_row(struct trace *t, const json_t *object, struct row *ret)
{
	uint64_t output_tokens;

	if (!json_is_object(object)) {
		note(t, "a line must be one JSON object");
		return -EINVAL;
	}
	if (read_timestamp(t, object, &ret->timestamp_ns) ||
	    read_tokens(t, object, "input_length", &ret->input_tokens) ||
	    read_tokens(t, object, "output_length", &output_tokens) ||
	    read_ids(t, object, ret->input_tokens, &ret->ids))
		return -EINVAL;
	ret->output_tokens = (uint32_t)output_tokens;
	return 0;
}

static int reserve_blocks(struct request *r, size_t count)
{
	if (count <= r->block_cap)
		return 0;
	count = MAX(count, (size_t)r->block_cap * 2); /* few reallocations in a long trace */
	uint64_t *blocks = reallocarray(r->blocks, count, sizeof(*blocks));
	if (!blocks)
		return -ENOMEM;
	r->blocks = blocks;
	r->block_cap = (uint32_t)count;
	return 0;
}

static int fill_request(struct request *r, const struct row *row, uint64_t sequence)
{
	size_t count = json_array_size(row->ids);
	int rc = reserve_blocks(r, count);

	if (rc)
		return rc;
	for (size_t i = 0; i < count; i++)
		r->blocks[i] = (uint64_t)json_integer_value(json_array_get(row->ids, i));
	r->block_count = (uint32_t)count;
	r->block_tokens = BLOCK_TOKENS;
	r->input_tokens = row->input_tokens;
	r->generated_tokens = row->output_tokens;
	r->sequence = sequence;
	return 0;
}

static bool is_blank(const char *text, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		if (text[i] != ' ' && text[i] != '\t' && text[i] != '\r')
			return false;
	}
	return true;
}

/* The next line that is not blank, counted as a row unless the file cannot be read. */
static int next_line(struct trace *t, const char **text, size_t *len)
{
	int rc;

	do {
		rc = lines_next(t->lines, text, len);
	} while (rc == 0 && is_blank(*text, *len));
	if (rc == -EIO)
		note(t, "%s", lines_reason(t->lines));
	if (rc == -EIO || rc == -ENODATA)
		return rc;
	t->rows++;
	if (rc == -EMSGSIZE) {
		note(t, "a line must not be longer than 1 MiB");
		return -EINVAL;
	}
	return rc;
}

static json_t *parse_line(struct trace *t, const char *text, size_t len)
{
	json_error_t why;

	/* jansson passes over a NUL byte behind a number */
	if (memchr(text, '\0', len)) {
		note(t, "a line must be one JSON object: it holds a NUL byte");
		return NULL;
	}
	json_t *object = json_loadb(text, len, JSON_REJECT_DUPLICATES, &why);

	if (!object)
		note(t, "a line must be one JSON object: %s at column %d", why.text, why.column);
	return object;
}

int trace_next(struct trace *t, struct request *r, uint64_t *timestamp_ns)
{
	const char *text;
	size_t len;
	struct row row;

	int rc = next_line(t, &text, &len);
	if (rc)
		return rc;
	json_t *object = parse_line(t, text, len);
	if (!object)
		return -EINVAL;
	rc = read_row(t, object, &row);
	if (rc == 0)
		rc = fill_request(r, &row, t->rows - 1);
	if (rc == 0)
		*timestamp_ns = row.timestamp_ns;
	json_decref(object);
	return rc;
}

void trace_rewind(struct trace *t)
{
	lines_rewind(t->lines);
	t->rows = 0;
	t->message[0] = '\0';
}

const char *trace_message(const struct trace *t)
{
	return t->message[0] ? t->message : NULL;
}

/* "chat_id" marks a Qwen-Bailian trace, which has the same fields but other units and 16-token
 * blocks. */
static bool looks_like_mooncake(const char *text, size_t len)
{
	static const char *const names[] = {"timestamp", "input_length", "output_length",
					    "hash_ids"};
	json_t *object = json_loadb(text, len, 0, NULL);
	bool result = json_is_object(object) && !json_object_get(object, "chat_id");

	for (size_t i = 0; i < ARRAY_LEN(names); i++)
		result = result && json_object_get(object, names[i]);
	json_decref(object);
	return result;
}

static int detect_format(struct trace *t, struct error *err)
{
	const char *text;
	size_t len;

	int rc = next_line(t, &text, &len);
	if (rc == -EIO)
		return error_set(err, -EIO, ERR_CONFIG_PARSE, "%s", t->message);
	if (rc == -ENODATA)
		return error_set(err, -EINVAL, ERR_CONFIG_PARSE, "%s: holds no rows", t->path);
	if (rc || !looks_like_mooncake(text, len)) {
		rc = error_set(err, -EINVAL, ERR_CONFIG_PARSE,
			       "%s:%" PRIu64 ": not a known trace format", t->path,
			       lines_number(t->lines));
		error_hint(err, "known is mooncake: one JSON object per line with timestamp, "
				"input_length, output_length and hash_ids");
		return rc;
	}
	trace_rewind(t);
	return 0;
}

int trace_open(const char *path, enum config_trace_format format, struct trace **ret,
	       struct error *err)
{
	struct trace *t = calloc(1, sizeof(*t));

	if (!t)
		return error_set(err, -ENOMEM, ERR_FS_FULL, "out of memory");
	t->path = strdup(path);
	int rc = t->path ? lines_open(path, &t->lines, err)
			 : error_set(err, -ENOMEM, ERR_FS_FULL, "out of memory");
	if (rc == 0 && format == TRACE_AUTO)
		rc = detect_format(t, err);
	if (rc) {
		trace_close(t);
		return rc;
	}
	*ret = t;
	return 0;
}

void trace_close(struct trace *t)
{
	if (!t)
		return;
	lines_close(t->lines);
	free(t->path);
	free(t);
}
