// SPDX-License-Identifier: Apache-2.0
/* What a trace asks for, known before any storage is touched: totals, percentiles, reuse of an
 * infinite cache. */
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/rng.h"
#include "workload/internal.h"

/* Block ids seen, by open addressing; at most half full. */
struct id_set {
	uint64_t *slots; /* ID_NONE: free */
	size_t cap;      /* a power of two */
	size_t count;
};
#define ID_NONE UINT64_MAX /* above KEY_BLOCK_MAX */

struct lengths {
	uint32_t *v;
	size_t count, cap;
	uint64_t sum;
};

struct tally {
	struct request row;
	struct id_set seen;
	struct lengths input, output;
	uint64_t first_ns, last_ns; /* smallest and largest time stamp */
	struct trace_info info;
};

static int set_resize(struct id_set *set, size_t cap)
{
	uint64_t *slots = malloc(cap * sizeof(*slots));

	if (!slots)
		return -ENOMEM;
	memset(slots, 0xff, cap * sizeof(*slots));
	for (size_t i = 0; i < set->cap; i++) {
		if (set->slots[i] == ID_NONE)
			continue;
		size_t at = rng_mix(set->slots[i]) & (cap - 1);
		while (slots[at] != ID_NONE)
			at = (at + 1) & (cap - 1);
		slots[at] = set->slots[i];
	}
	free(set->slots);
	set->slots = slots;
	set->cap = cap;
	return 0;
}

/* Return: 1 when @id is new, 0 when it was there, -ENOMEM. */
static int set_add(struct id_set *set, uint64_t id)
{
	if (set->count * 2 >= set->cap) {
		int rc = set_resize(set, set->cap ? set->cap * 2 : 4096);
		if (rc)
			return rc;
	}
	size_t at = rng_mix(id) & (set->cap - 1);
	for (; set->slots[at] != ID_NONE; at = (at + 1) & (set->cap - 1)) {
		if (set->slots[at] == id)
			return 0;
	}
	set->slots[at] = id;
	set->count++;
	return 1;
}

static int lengths_add(struct lengths *l, uint32_t tokens)
{
	if (l->count == l->cap) {
		size_t cap = l->cap ? l->cap * 2 : 4096;
		uint32_t *v = reallocarray(l->v, cap, sizeof(*v));
		if (!v)
			return -ENOMEM;
		l->v = v;
		l->cap = cap;
	}
	l->v[l->count++] = tokens;
	l->sum += tokens;
	return 0;
}

static int by_value(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
	return (x > y) - (x < y);
}

/* The smallest value that at least @percent of the sorted values do not exceed. */
static uint64_t percentile(const struct lengths *l, unsigned percent)
{
	return l->v[(l->count * percent + 99) / 100 - 1];
}

static int add_blocks(struct tally *y)
{
	for (uint32_t i = 0; i < y->row.block_count; i++) {
		int is_new = set_add(&y->seen, y->row.blocks[i]);
		if (is_new < 0)
			return is_new;
		if (is_new)
			y->info.unique_tokens += workload_block_tokens(&y->row, i);
	}
	y->info.block_refs += y->row.block_count;
	y->info.block_tokens = y->row.block_tokens;
	return 0;
}

static int add_row(struct tally *y, uint64_t timestamp_ns)
{
	if (y->info.requests == 0)
		y->first_ns = y->last_ns = timestamp_ns;
	y->first_ns = MIN(y->first_ns, timestamp_ns);
	y->last_ns = MAX(y->last_ns, timestamp_ns);
	y->info.requests++;
	int rc = lengths_add(&y->input, (uint32_t)y->row.input_tokens);
	if (rc == 0)
		rc = lengths_add(&y->output, y->row.generated_tokens);
	return rc ? rc : add_blocks(y);
}

static int read_rows(struct trace *t, struct tally *y)
{
	for (;;) {
		uint64_t timestamp_ns;
		int rc = trace_next(t, &y->row, &timestamp_ns);
		if (rc == -ENODATA)
			return 0;
		if (rc == -EINVAL) {
			y->info.bad_rows++;
			continue;
		}
		if (rc == 0)
			rc = add_row(y, timestamp_ns);
		if (rc)
			return rc;
	}
}

static void finish(struct tally *y)
{
	struct trace_info *info = &y->info;
	double count = (double)info->requests;

	qsort(y->input.v, y->input.count, sizeof(*y->input.v), by_value);
	qsort(y->output.v, y->output.count, sizeof(*y->output.v), by_value);
	info->input_p50 = percentile(&y->input, 50);
	info->input_p95 = percentile(&y->input, 95);
	info->input_p99 = percentile(&y->input, 99);
	info->input_max = percentile(&y->input, 100);
	info->output_p50 = percentile(&y->output, 50);
	info->output_p95 = percentile(&y->output, 95);
	info->output_p99 = percentile(&y->output, 99);
	info->output_max = percentile(&y->output, 100);
	info->input_mean = (double)y->input.sum / count;
	info->output_mean = (double)y->output.sum / count;
	info->blocks_unique = y->seen.count;
	if (info->block_refs)
		info->reuse_ratio = 1 - (double)info->blocks_unique / (double)info->block_refs;
	info->span_ms = (y->last_ns - y->first_ns) / NS_PER_MS;
}

/* Return: 0 with y->info complete, or why not. */
static int tally_trace(struct trace *t, const char *path, struct tally *y, struct error *err)
{
	int rc = read_rows(t, y);
	const char *message = trace_message(t);

	if (rc == -ENOMEM)
		return error_set(err, rc, ERR_FS_FULL, "out of memory");
	if (rc)
		return error_set(err, rc, ERR_CONFIG_PARSE, "%s", message);
	if (y->info.requests == 0 && message)
		return error_set(err, -EINVAL, ERR_CONFIG_PARSE, "%s", message);
	if (y->info.requests == 0)
		return error_set(err, -EINVAL, ERR_CONFIG_PARSE, "%s: holds no rows", path);
	finish(y);
	if (message)
		snprintf(y->info.first_bad, sizeof(y->info.first_bad), "%s", message);
	return 0;
}

int trace_info_read(const char *path, enum config_trace_format format, struct trace_info *ret,
		    struct error *err)
{
	struct trace *t;
	struct tally y = {0};

	int rc = trace_open(path, format, &t, err);
	if (rc)
		return rc;
	rc = tally_trace(t, path, &y, err);
	if (rc == 0)
		*ret = y.info;
	request_release(&y.row);
	free(y.seen.slots);
	free(y.input.v);
	free(y.output.v);
	trace_close(t);
	return rc;
}
